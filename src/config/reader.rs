//! Reads settings from a TOML table and from environment variables, and collects all errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strict_http::secret::Secret;
use toml::{Table, Value};

use super::secret_file::{parse_secret, read_secret};
use super::setting_list::{Setting, find_setting};

/// Prefix of our environment variables.
const PREFIX: &str = "STOCKBRIDGE_";

/// Minimum length of a secret that the seller chooses. A shorter one can be guessed over a network.
const MIN_CHOSEN_SECRET_CHARS: usize = 8;

/// Reader of one table and its environment variables.
///
/// A setting that is read is removed, so what remains at the end is unknown, which is an error too.
pub(super) struct SettingsReader<'a> {
    table: Table,
    environment: BTreeMap<String, String>,
    // Text before a key in messages: empty, or `shops[0].`.
    key_prefix: String,
    // Text before a key in names of environment variables.
    variable_prefix: String,
    base: &'a Path,
    errors: Vec<String>,
    secret_files: Vec<PathBuf>,
    // Settings of this table.
    settings: &'static [Setting],
    tables: Vec<Self>,
}

impl<'a> SettingsReader<'a> {
    pub(super) fn new(
        table: Table,
        environment: BTreeMap<String, String>,
        base: &'a Path,
        settings: &'static [Setting],
    ) -> Self {
        let our_variables = environment
            .into_iter()
            .filter(|(name, _)| is_our_variable(name))
            .collect();
        Self {
            table,
            environment: our_variables,
            key_prefix: String::new(),
            variable_prefix: PREFIX.to_owned(),
            base,
            errors: Vec::new(),
            secret_files: Vec::new(),
            settings,
            tables: Vec::new(),
        }
    }

    /// Returns a reader for each table of an array, with the environment variables of that table.
    pub(super) fn tables(
        &mut self,
        key: &str,
        name_key: &str,
        settings: &'static [Setting],
    ) -> &mut [Self] {
        let tables = match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::Array(tables)) => tables,
            Some(other) => {
                self.errors.push(format!(
                    "{}{key} is {}: it must be an array of tables",
                    self.key_prefix,
                    other.type_str()
                ));
                Vec::new()
            }
        };
        let first = self.tables.len();
        for (index, table) in tables.into_iter().enumerate() {
            let key_prefix = format!("{}{key}[{index}].", self.key_prefix);
            let Value::Table(table) = table else {
                self.errors
                    .push(format!("{}{key}[{index}] must be a table", self.key_prefix));
                continue;
            };
            let name = table
                .get(name_key)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let variable_prefix = format!(
                "{}{}_{}_",
                self.variable_prefix,
                key.to_uppercase(),
                name.to_uppercase().replace('-', "_")
            );
            self.tables.push(Self {
                table,
                environment: BTreeMap::new(),
                key_prefix,
                variable_prefix,
                base: self.base,
                errors: Vec::new(),
                secret_files: Vec::new(),
                settings,
                tables: Vec::new(),
            });
        }
        self.assign_env_vars();
        &mut self.tables[first..]
    }

    /// Moves each environment variable to the table that it names. The others stay.
    ///
    /// The variables of `moscow-2` begin like those of `moscow`, and `MOSCOW_PUSH_TOKEN` begins
    /// like those of `moscow-push`. So a variable belongs to the table that has its setting, and
    /// among several to the one with the longest name.
    fn assign_env_vars(&mut self) {
        for (variable, text) in std::mem::take(&mut self.environment) {
            let rank = |shop: &Self| {
                let key = variable.strip_prefix(&shop.variable_prefix)?.to_lowercase();
                let matches_key =
                    |known: &str| known == key || known.strip_suffix("_file") == Some(&key);
                let is_known = shop.settings.iter().any(|setting| matches_key(setting.key));
                Some((is_known, shop.variable_prefix.len()))
            };
            // `max_by_key` returns the last of equals. If two tables have one name, the first
            // one gets the variable.
            let candidates = self
                .tables
                .iter()
                .map(rank)
                .enumerate()
                .rev()
                .filter(|(_, fit)| fit.is_some());
            let environment = match candidates.max_by_key(|(_, rank)| *rank) {
                Some((index, _)) => &mut self.tables[index].environment,
                None => &mut self.environment,
            };
            environment.insert(variable, text);
        }
    }

    /// Reads one value. Returns `None` and adds an error if it breaks the rule or is missing.
    pub(super) fn take<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let setting = find_setting(key, self.settings);
        let Some(raw) = self.take_raw(key) else {
            let parsed = setting
                .default
                .map(|text| parse(text).expect("defaults keep the rule"));
            if parsed.is_none() {
                self.missing(key);
            }
            return parsed;
        };
        let parsed = raw.single().and_then(&parse);
        if parsed.is_none() {
            self.invalid(key, &raw);
        }
        parsed
    }

    /// Reads a list of values. It may be empty only if it has a default.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let may_be_empty = find_setting(key, self.settings).default.is_some();
        let Some(raw) = self.take_raw(key) else {
            if !may_be_empty {
                self.missing(key);
            }
            return may_be_empty.then(Vec::new);
        };
        let parsed: Option<Vec<T>> = raw.texts.iter().map(|text| parse(text)).collect();
        let parsed = parsed.filter(|list| may_be_empty || !list.is_empty());
        if parsed.is_none() {
            self.invalid(key, &raw);
        }
        parsed
    }

    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.take(key, |text| (!text.is_empty()).then(|| text.to_owned()))?;
        Some(self.base.join(text))
    }

    pub(super) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        let base = self.base;
        self.optional(key, |text| (!text.is_empty()).then(|| base.join(text)))
    }

    /// Reads one optional value. Adds an error if it is set and breaks the rule.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let raw = self.take_raw(key)?;
        let parsed = raw.single().and_then(parse);
        if parsed.is_none() {
            self.invalid(key, &raw);
        }
        parsed
    }

    /// Reads the secrets of these keys, each from a variable or a file. At least one is required if
    /// `is_needed`. Messages never contain their values.
    pub(super) fn secrets<const N: usize>(
        &mut self,
        keys: [&str; N],
        is_needed: bool,
    ) -> Vec<Secret> {
        let errors_before = self.errors.len();
        let secrets: Vec<Secret> = keys.iter().filter_map(|key| self.secret(key)).collect();
        if secrets.is_empty() && is_needed && self.errors.len() == errors_before {
            self.missing_secret(keys[0]);
        }
        secrets
    }

    /// Reads secrets that the seller chooses and others may try to guess. Each has at least
    /// [`MIN_CHOSEN_SECRET_CHARS`] characters.
    pub(super) fn chosen_secrets<const N: usize>(
        &mut self,
        keys: [&str; N],
        is_needed: bool,
    ) -> Vec<Secret> {
        let mut secrets = Vec::new();
        let errors_before = self.errors.len();
        for key in keys {
            let chosen = self.secret(key);
            let length = chosen
                .as_ref()
                .map_or(MIN_CHOSEN_SECRET_CHARS, |secret| secret.expose().len());
            if length < MIN_CHOSEN_SECRET_CHARS {
                self.errors.push(format!(
                    "{}{key} has {length} characters: it must have at least {MIN_CHOSEN_SECRET_CHARS}, or it \
                     can be guessed; make one with: openssl rand -hex 24",
                    self.key_prefix
                ));
            }
            secrets.extend(chosen);
        }
        if secrets.is_empty() && is_needed && self.errors.len() == errors_before {
            self.missing_secret(keys[0]);
        }
        secrets
    }

    fn missing_secret(&mut self, key: &str) {
        self.errors.push(format!(
            "{place}{key}_file is missing: it must be {rule}, or set {prefix}{variable}",
            place = self.key_prefix,
            rule = find_setting(&format!("{key}_file"), self.settings).rule,
            prefix = self.variable_prefix,
            variable = key.to_uppercase(),
        ));
    }

    fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        if self.table.remove(key).is_some() {
            self.errors.push(format!(
                "{}{key} must not be in the configuration file: name a file of its own in \
                 {file_key}, or set {}{}",
                self.key_prefix,
                self.variable_prefix,
                key.to_uppercase()
            ));
        }
        let variable = format!("{}{}", self.variable_prefix, key.to_uppercase());
        let file = self.take_raw(&file_key);
        let secret = if let Some(text) = self.environment.remove(&variable) {
            parse_secret(&text).map_err(|rule| format!("{variable} {rule}"))
        } else {
            let path = self.base.join(file?.single()?);
            let secret = read_secret(&path).map_err(|rule| {
                format!("{}{file_key}, {}, {rule}", self.key_prefix, path.display())
            });
            self.secret_files.push(path);
            secret
        };
        secret.map_err(|error| self.errors.push(error)).ok()
    }

    /// Reads an optional secret, from a variable or a file.
    pub(super) fn optional_secret(&mut self, key: &str) -> Option<Secret> {
        self.secret(key)
    }

    /// Reads a table of the file by its keys. Returns an empty list if the table is missing.
    pub(super) fn string_map<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let rule = find_setting(key, self.settings).rule;
        let table = match self.table.remove(key) {
            None => return Some(Vec::new()),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.errors.push(format!(
                    "{}{key} is {other}: it must be {rule}",
                    self.key_prefix
                ));
                return None;
            }
        };
        let errors_before = self.errors.len();
        let mut pairs = Vec::with_capacity(table.len());
        for (name, value) in table {
            match parse(&value_text(&value)) {
                Some(parsed) => pairs.push((name, parsed)),
                None => self.errors.push(format!(
                    "{}{key}.{name:?} is {value}: it must be {rule}",
                    self.key_prefix
                )),
            }
        }
        (self.errors.len() == errors_before).then_some(pairs)
    }

    /// Returns the files from which secrets were read.
    pub(super) fn secret_files(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.secret_files)
    }

    pub(super) fn add_error(&mut self, text: &str) {
        self.errors.push(format!("{}{text}", self.key_prefix));
    }

    /// Suppresses the errors about keys that were not read.
    pub(super) fn ignore_remaining(&mut self) {
        self.table.clear();
        self.environment.clear();
    }

    /// Returns all errors, including those about unknown keys.
    pub(super) fn finish(mut self) -> Vec<String> {
        for key in self.table.keys() {
            let error = match self.settings.iter().any(|setting| setting.key == key) {
                true => "is not valid here: it belongs to another kind or needs another setting",
                false => "is unknown: no setting has this name",
            };
            self.errors
                .push(format!("{}{key} {error}", self.key_prefix));
        }
        for name in self.environment.keys() {
            self.errors.push(format!(
                "the variable {name} is unknown: no setting has this name"
            ));
        }
        let table_errors = self.tables.into_iter().flat_map(Self::finish);
        self.errors.into_iter().chain(table_errors).collect()
    }

    /// Takes the value of a key from the environment, or else from the file.
    fn take_raw(&mut self, key: &str) -> Option<RawSetting> {
        let in_file = self.table.remove(key);
        let variable = format!("{}{}", self.variable_prefix, key.to_uppercase());
        if let Some(text) = self.environment.remove(&variable) {
            let texts = text.split(',').map(|item| item.trim().to_owned());
            return Some(RawSetting {
                source: variable,
                texts: texts.collect(),
                display: text,
            });
        }
        let value = in_file?;
        let display = value.to_string();
        let texts = match value {
            Value::Array(values) => values.iter().map(value_text).collect(),
            other => vec![value_text(&other)],
        };
        Some(RawSetting {
            source: format!("{}{key}", self.key_prefix),
            texts,
            display,
        })
    }

    fn invalid(&mut self, key: &str, raw: &RawSetting) {
        let rule = find_setting(key, self.settings).rule;
        // A URL may contain a password, or a token in its query.
        let is_address = raw.display.contains("://");
        let display = if is_address && raw.display.contains(['@', '?']) {
            "***"
        } else {
            &raw.display
        };
        self.errors
            .push(format!("{} is {display}: it must be {rule}", raw.source));
    }

    /// Returns true if neither the file nor the environment sets the key.
    pub(super) fn is_unset(&self, key: &str) -> bool {
        let variable = format!("{}{}", self.variable_prefix, key.to_uppercase());
        !self.table.contains_key(key) && !self.environment.contains_key(&variable)
    }

    pub(super) fn missing(&mut self, key: &str) {
        let rule = find_setting(key, self.settings).rule;
        self.errors.push(format!(
            "{}{key} is missing: it must be {rule}",
            self.key_prefix
        ));
    }
}

/// Value of one key before it is parsed.
struct RawSetting {
    source: String,
    texts: Vec<String>,
    display: String,
}

impl RawSetting {
    fn single(&self) -> Option<&str> {
        match self.texts.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }
}

fn value_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Returns true if a variable is one of our settings.
///
/// Kubernetes sets variables named after services in every pod, and a service may be called
/// stockbridge. `STOCKBRIDGE_CONFIG` names the configuration file itself.
fn is_our_variable(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        // None of our settings has PORT as a part of its name.
        let is_of_a_service = rest.contains("SERVICE_HOST") || rest.split('_').any(|w| w == "PORT");
        rest != "CONFIG" && !is_of_a_service
    })
}

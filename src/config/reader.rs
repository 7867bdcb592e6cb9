use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::setting_list::{Setting, find_setting};
use crate::http::secret::Secret;

/// How the names of our variables begin.
const PREFIX: &str = "STOCKBRIDGE_";

/// Shortest secret that the seller chooses: a shorter one can be guessed over a network.
const MIN_CHOSEN_SECRET_CHARS: usize = 8;

/// Takes settings out of a table and an environment, and collects what is wrong.
///
/// What is taken is removed: what remains at the end was not asked for, and is a fault too.
pub(super) struct SettingsReader<'a> {
    table: Table,
    environment: BTreeMap<String, String>,
    // Before a key in a message: empty, or `shops[0].`.
    key_prefix: String,
    // Before a key in the environment.
    variable_prefix: String,
    base: &'a Path,
    errors: Vec<String>,
    secret_files: Vec<PathBuf>,
    // What may be asked for.
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

    /// Readers for the tables of an array, each with the variables that name it.
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
        &mut self.tables
    }

    /// Gives each shop the variables that name it; the rest stays.
    ///
    /// The variables of `moscow-2` begin like those of `moscow`, and `MOSCOW_PUSH_TOKEN` begins
    /// like those of a `moscow-push`: so it goes to whom it is a setting of, and among those to
    /// the longest name.
    fn assign_env_vars(&mut self) {
        for (variable, text) in std::mem::take(&mut self.environment) {
            let rank = |shop: &Self| {
                let key = variable.strip_prefix(&shop.variable_prefix)?.to_lowercase();
                let matches_key =
                    |known: &str| known == key || known.strip_suffix("_file") == Some(&key);
                let is_known = shop.settings.iter().any(|setting| matches_key(setting.key));
                Some((is_known, shop.variable_prefix.len()))
            };
            // Of two equals the last would win: a name given twice is the first one's.
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

    /// One value, parsed; `None` and a fault if it breaks the rule or is missing.
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

    /// A list of values; an empty one only if that is the default.
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

    /// One value that may be left out; a fault if it is there and breaks the rule.
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

    /// The secrets of these names, from a variable or from a file; the first one is needed if
    /// `is_needed`. Their values are never part of a message.
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

    /// The same for secrets that the seller chooses and others may try to guess: each has at least
    /// [`LEAST_CHOSEN`] characters.
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
                "{}{key} stands in the file in clear: name a file of its own in {file_key}, or \
                 set {}{}",
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

    /// One secret of that name, from a variable or from a file, if there is one.
    pub(super) fn optional_secret(&mut self, key: &str) -> Option<Secret> {
        self.secret(key)
    }

    /// What stands in a table of the file, by its keys; empty if there is none.
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

    /// The files that were named for secrets and read.
    pub(super) fn secret_files(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.secret_files)
    }

    pub(super) fn add_error(&mut self, text: &str) {
        self.errors.push(format!("{}{text}", self.key_prefix));
    }

    /// Says nothing about what was not asked for.
    pub(super) fn ignore_remaining(&mut self) {
        self.table.clear();
        self.environment.clear();
    }

    /// Every fault, what nobody asked for included.
    pub(super) fn finish(mut self) -> Vec<String> {
        for key in self.table.keys() {
            let error = match self.settings.iter().any(|setting| setting.key == key) {
                true => "has no use here: another kind or setting needs it",
                false => "is unknown: there is no such setting",
            };
            self.errors
                .push(format!("{}{key} {error}", self.key_prefix));
        }
        for name in self.environment.keys() {
            self.errors.push(format!(
                "the variable {name} is unknown: there is no such setting"
            ));
        }
        let table_errors = self.tables.into_iter().flat_map(Self::finish);
        self.errors.into_iter().chain(table_errors).collect()
    }

    /// What was said about a key: by the environment, or else by the file.
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
        // An address may hold a name and a password, or a token in its query.
        let is_address = raw.display.contains("://");
        let display = if is_address && raw.display.contains(['@', '?']) {
            "***"
        } else {
            &raw.display
        };
        self.errors
            .push(format!("{} is {display}: it must be {rule}", raw.source));
    }

    /// Whether nothing was said about a key.
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

/// Reads a file that holds one token or key.
///
/// # Errors
/// What is wrong with the file, without its name and without its contents.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse_secret(&text)
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "must hold one line of visible ASCII characters without blanks";
        return Err(rule.to_owned());
    }
    Ok(Secret::new(text))
}

/// What was said about one key.
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

/// Whether a variable speaks to us. Kubernetes gives every pod variables named after its
/// services, and a service may be called stockbridge; and one names the file itself.
fn is_our_variable(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        // No setting of ours has a port in its name.
        let is_of_a_service = rest.contains("SERVICE_HOST") || rest.split('_').any(|w| w == "PORT");
        rest != "CONFIG" && !is_of_a_service
    })
}

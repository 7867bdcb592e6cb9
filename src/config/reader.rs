//! Reads tables of settings from the file and from environment variables, and collects all faults.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, UnitDeserializer};
use strict_http::secret::{Secret, TokenDigest};
use toml::{Table, Value};

use super::effective::table_lines;
use super::fault::ConfigFault;
use super::secret_file::{parse_secret, read_secret};
use super::setting_list::{Setting, find_setting, parse_toml};
use super::values::{FilePath, value_text, with_type_of};

/// Prefix of our environment variables.
const PREFIX: &str = "STOCKBRIDGE_";

/// Reader of one table and its environment variables.
///
/// A setting that is not read is an error too: it is unknown, or does not belong to this table.
pub(super) struct SettingsReader<'a> {
    table: Table,
    environment: BTreeMap<String, String>,
    // Keys and variables that were read.
    used: BTreeSet<String>,
    // Text before a key in messages: empty, or `shops[0].`.
    key_prefix: String,
    // Text before a key in names of environment variables.
    variable_prefix: String,
    // Text before a key without indexes: empty, or `shops.sources.`.
    name: String,
    base: &'a Path,
    faults: Vec<ConfigFault>,
    // Keys with a fault. Another fault of the same key would only be a result of it.
    faulty: BTreeSet<String>,
    // Files from which secrets were read.
    secret_files: Vec<PathBuf>,
    // Settings of this table.
    settings: &'static [Setting],
    // Kind of source or channel, as soon as it is known, and settings that do not apply to it.
    kind: Option<&'static str>,
    unused: Vec<&'static str>,
    // The table as it is printed.
    effective: String,
    // Digests of the secrets, by key with indexes.
    secret_digests: Vec<(String, TokenDigest)>,
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
            used: BTreeSet::new(),
            key_prefix: String::new(),
            variable_prefix: PREFIX.to_owned(),
            name: String::new(),
            base,
            faults: Vec::new(),
            faulty: BTreeSet::new(),
            secret_files: Vec::new(),
            settings,
            kind: None,
            unused: Vec::new(),
            effective: String::new(),
            secret_digests: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Returns a reader for each table of an array, with the environment variables of that table.
    pub(super) fn tables(&mut self, key: &str, settings: &'static [Setting]) -> &mut [Self] {
        let tables = match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::Array(tables)) => tables,
            Some(other) => {
                let text = format!(" is {}: it must be an array of tables", other.type_str());
                self.fault(key, &text);
                Vec::new()
            }
        };
        let first = self.tables.len();
        for (index, table) in tables.into_iter().enumerate() {
            let Value::Table(table) = table else {
                self.fault(&format!("{key}[{index}]"), " must be a table");
                continue;
            };
            let name = table.get("name").and_then(Value::as_str);
            let name = name.unwrap_or_default().to_uppercase().replace('-', "_");
            let child = Self {
                key_prefix: format!("{}{key}[{index}].", self.key_prefix),
                variable_prefix: format!("{}{}_{name}_", self.variable_prefix, key.to_uppercase()),
                name: format!("{}{key}.", self.name),
                ..Self::new(table, BTreeMap::new(), self.base, settings)
            };
            self.tables.push(child);
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
            // If two tables have one name, the first one gets the variable.
            let ranks = self.tables.iter().enumerate();
            let ranks = ranks.filter_map(|(index, table)| Some((rank(table)?, Reverse(index))));
            let environment = match ranks.max() {
                Some((_, Reverse(index))) => &mut self.tables[index].environment,
                None => &mut self.environment,
            };
            environment.insert(variable, text);
        }
    }

    /// Reads one setting. A value with a fault is replaced by the example, so that the faults of
    /// the other settings are found too.
    pub(super) fn field<T: DeserializeOwned>(&mut self, key: &'static str) -> T {
        let setting = find_setting(key, self.settings);
        let is_of_kind = self.kind.is_none_or(|kind| setting.kinds.contains(&kind));
        let value = match setting.min_secret_chars {
            _ if !is_of_kind || self.unused.contains(&key) => None,
            Some(min_chars) => self.secret(setting, min_chars),
            None => self.value(setting),
        };
        let example = || parse_toml(setting.example);
        let field = match value {
            Some(value) => T::deserialize(with_type_of(&example(), value)).map_err(|_| {
                self.invalid(key);
            }),
            // Only an optional setting accepts a missing value.
            None => T::deserialize(UnitDeserializer::<ValueError>::new()).map_err(|_| {
                self.missing(key);
            }),
        };
        field.unwrap_or_else(|()| T::deserialize(example()).expect("examples keep the rule"))
    }

    /// Reads the kind of a table. Without it the other settings cannot be checked, so they are
    /// ignored, except for the name.
    pub(super) fn read_kind<N: DeserializeOwned, K: DeserializeOwned>(&mut self) -> Option<K> {
        let kind = self.field("kind");
        let is_known = !self.faulty.contains("kind");
        if !is_known {
            self.field::<N>("name");
            self.table.clear();
            self.environment.clear();
        }
        is_known.then_some(kind)
    }

    /// Limits the table to the settings of its kind that are not `unused`.
    pub(super) fn limit_to(&mut self, kind: &'static str, unused: Vec<&'static str>) {
        self.kind = Some(kind);
        self.unused = unused;
    }

    /// Returns the value of a setting from the environment, or else from the file, or else the
    /// default. A list may be empty only if it has a default.
    fn value(&mut self, setting: &Setting) -> Option<Value> {
        let value = self.set_value(setting);
        let is_empty = matches!(&value, Some(Value::Array(list)) if list.is_empty());
        if is_empty && setting.is_list() && setting.default.is_none() {
            self.invalid(setting.key);
            return Some(parse_toml(setting.example));
        }
        value.or_else(|| Some(parse_toml(&setting.default_in_toml()?)))
    }

    /// Returns the value that the environment or else the file has.
    fn set_value(&mut self, setting: &Setting) -> Option<Value> {
        let variable = self.variable(setting.key);
        self.used.insert(setting.key.to_owned());
        let Some(text) = self.environment.get(&variable) else {
            return self.table.get(setting.key).cloned();
        };
        self.used.insert(variable);
        let text_value = |text: &str| Value::String(text.trim().to_owned());
        Some(match setting.is_list() {
            true => Value::Array(text.split(',').map(text_value).collect()),
            false => text_value(text),
        })
    }

    /// Returns the text of a secret from a variable or from the file that the setting names.
    /// Messages never contain it.
    fn secret(&mut self, setting: &Setting, min_chars: usize) -> Option<Value> {
        let (key, file_key) = (setting.bare_key(), setting.key);
        let variable = self.variable(key);
        if self.table.contains_key(key) {
            self.used.insert(key.to_owned());
            let text = format!(
                " must not be in the configuration file: name a file of its own in {file_key}, or \
                 set {variable}"
            );
            self.report(file_key, ConfigFault::of(&self.path(key), &text));
        }
        let file = self.set_value(setting);
        let secret = if let Some(text) = self.environment.get(&variable) {
            let secret = parse_secret(text);
            self.used.insert(variable.clone());
            secret.map_err(|rule| ConfigFault::without_place(format!("{variable} {rule}")))
        } else if let Some(file) = &file {
            let file = self.base.join(value_text(file));
            self.secret_files.push(file.clone());
            read_secret(&file).map_err(|rule| {
                ConfigFault::of(
                    &self.path(file_key),
                    &format!(", {}, {rule}", file.display()),
                )
            })
        } else {
            let has_fault = self.faulty.contains(file_key);
            return has_fault.then(|| parse_toml(setting.example));
        };
        Some(match secret {
            Ok(secret) => {
                self.check_length(file_key, &secret, min_chars);
                let digest = TokenDigest::of(secret.expose());
                self.secret_digests.push((self.path(key), digest));
                secret.expose().into()
            }
            Err(fault) => {
                self.report(file_key, fault);
                parse_toml(setting.example)
            }
        })
    }

    /// Checks the length of a secret that others may try to guess.
    pub(super) fn check_length(&mut self, file_key: &'static str, secret: &Secret, min: usize) {
        let chars = secret.expose().len();
        if chars < min {
            let key = self.path(find_setting(file_key, self.settings).bare_key());
            let text = format!(
                "{key} has {chars} characters: it must have at least {min}, or it can be guessed; \
                 make one with: openssl rand -hex 24",
            );
            self.report(file_key, ConfigFault::new(&self.path(file_key), text));
        }
    }

    /// Returns true if the file or the environment sets the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        let bare_key = find_setting(key, self.settings).bare_key();
        [key, bare_key].iter().any(|key| {
            self.table.contains_key(*key) || self.environment.contains_key(&self.variable(key))
        })
    }

    /// Path of a key in the file.
    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.key_prefix)
    }

    fn variable(&self, key: &str) -> String {
        format!("{}{}", self.variable_prefix, key.to_uppercase())
    }

    /// Makes a path that is relative to the directory of the file one of this process.
    pub(super) fn resolve(&self, path: &mut FilePath) {
        path.0 = self.base.join(&path.0);
    }

    /// Reads an optional file that lists something else.
    pub(super) fn read_list<T: Default>(
        &mut self,
        key: &'static str,
        path: Option<&mut FilePath>,
        read: impl Fn(&Path) -> Result<T, String>,
    ) -> T {
        let Some(path) = path else {
            return T::default();
        };
        self.resolve(path);
        read(&path.0).unwrap_or_else(|error| {
            self.fault(key, &format!(": {error}"));
            T::default()
        })
    }

    /// Returns a value that this kind of table needs. Adds a fault if it is missing.
    pub(super) fn needed<T>(&mut self, key: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.missing(key);
        }
        value
    }

    pub(super) fn missing(&mut self, key: &'static str) {
        let setting = find_setting(key, self.settings);
        let mut text = format!(" is missing: it must be {}", setting.rule);
        if setting.min_secret_chars.is_some() {
            text += &format!(", or set {}", self.variable(setting.bare_key()));
        }
        self.fault(key, &text);
    }

    /// Adds the fault that a value breaks the rule of its setting.
    pub(super) fn invalid(&mut self, key: &'static str) {
        let rule = find_setting(key, self.settings).rule;
        let shown = |value: String| match value.contains("://") && value.contains(['@', '?']) {
            // A URL may contain a password, or a token in its query.
            true => "***".to_owned(),
            false => value,
        };
        let variable = self.variable(key);
        let fault = if let Some(text) = self.environment.get(&variable) {
            let value = shown(text.clone());
            ConfigFault::without_place(format!("{variable} is {value}: it must be {rule}"))
        } else {
            let value = shown(self.table[key].to_string());
            ConfigFault::of(&self.path(key), &format!(" is {value}: it must be {rule}"))
        };
        self.report(key, fault);
    }

    /// Adds a fault of a key, with the text after the key.
    pub(super) fn fault(&mut self, key: &str, text: &str) {
        self.report(key, ConfigFault::of(&self.path(key), text));
    }

    /// Adds a fault of a key that the other key needs. It has the place of the other one, if the file
    /// does not have the key.
    pub(super) fn fault_of_needed(&mut self, key: &str, needing: &'static str, text: &str) {
        let fault = ConfigFault::of(&self.path(key), text);
        self.report(key, fault.shown_at(needing));
    }

    /// Adds a fault of a setting, unless the setting has one already.
    fn report(&mut self, key: &str, fault: ConfigFault) {
        if self.faulty.insert(key.to_owned()) {
            self.faults.push(fault);
        }
    }

    /// Returns true if no fault was found so far, in this table and in those below it.
    pub(super) fn is_valid(&self) -> bool {
        self.faults.is_empty() && self.tables.iter().all(Self::is_valid)
    }

    /// Adds the table to the effective configuration, with comments after it.
    pub(super) fn show(
        &mut self,
        table: &impl Serialize,
        comments: impl IntoIterator<Item = String>,
    ) {
        self.effective.extend(table_lines(self.settings, table));
        let comments = comments.into_iter();
        self.effective
            .extend(comments.map(|comment| format!("# {comment}\n")));
    }

    /// Returns the digests of the secrets of this table and of those below it, by key.
    pub(super) fn secret_digests(&self) -> Vec<(String, TokenDigest)> {
        let below = self.tables.iter().flat_map(Self::secret_digests);
        self.secret_digests.iter().cloned().chain(below).collect()
    }

    /// Returns the files of the secrets of this table and of those below it.
    pub(super) fn secret_files(&self) -> Vec<PathBuf> {
        let below = self.tables.iter().flat_map(Self::secret_files);
        self.secret_files.iter().cloned().chain(below).collect()
    }

    /// Returns the effective configuration of this table and of those below it.
    pub(super) fn effective(&self) -> String {
        let tables = self
            .tables
            .iter()
            .map(|table| (table.name.trim_end_matches('.'), table.effective()))
            .map(|(name, lines)| format!("\n[[{name}]]\n{lines}"));
        self.effective.clone() + &tables.collect::<String>()
    }

    /// Returns all faults, including those about unknown keys.
    pub(super) fn finish(mut self) -> Vec<ConfigFault> {
        let keys: Vec<String> = self.table.keys().cloned().collect();
        for key in keys.iter().filter(|key| !self.used.contains(*key)) {
            let is_known = self.settings.iter().any(|setting| setting.key == key);
            self.faults.push(if is_known {
                let text =
                    " is not valid here: it belongs to another kind or needs another setting";
                ConfigFault::of(&self.path(key), text)
            } else {
                ConfigFault::of_unknown_key(&self.key_prefix, key)
            });
        }
        let variables = self.environment.keys();
        let unknown = variables.filter(|name| !self.used.contains(*name));
        self.faults.extend(unknown.map(|name| {
            let text = format!("the variable {name} is unknown: no setting has this name");
            ConfigFault::without_place(text)
        }));
        let table_faults = self.tables.into_iter().flat_map(Self::finish);
        self.faults.into_iter().chain(table_faults).collect()
    }
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

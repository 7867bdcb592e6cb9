use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::settings::{Setting, find};
use crate::http::secret::Secret;

/// How the names of our variables begin.
const PREFIX: &str = "STOCKBRIDGE_";

/// Shortest secret that the seller chooses: a shorter one can be guessed over a network.
const LEAST_CHOSEN: usize = 8;

/// Takes settings out of a table and an environment, and collects what is wrong.
///
/// What is taken is removed: what remains at the end was not asked for, and is a fault too.
pub(super) struct Reader<'a> {
    table: Table,
    environment: BTreeMap<String, String>,
    // Before a key in a message: empty, or `shops[0].`.
    place: String,
    // Before a key in the environment.
    prefix: String,
    base: &'a Path,
    faults: Vec<String>,
    secret_files: Vec<PathBuf>,
    // What may be asked for.
    settings: &'static [Setting],
    tables: Vec<Self>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        table: Table,
        environment: BTreeMap<String, String>,
        base: &'a Path,
        settings: &'static [Setting],
    ) -> Self {
        let ours = environment
            .into_iter()
            .filter(|(name, _)| is_ours(name))
            .collect();
        Self {
            table,
            environment: ours,
            place: String::new(),
            prefix: PREFIX.to_owned(),
            base,
            faults: Vec::new(),
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
                self.faults.push(format!(
                    "{}{key} is {}: it must be an array of tables",
                    self.place,
                    other.type_str()
                ));
                Vec::new()
            }
        };
        for (index, table) in tables.into_iter().enumerate() {
            let place = format!("{}{key}[{index}].", self.place);
            let Value::Table(table) = table else {
                self.faults
                    .push(format!("{}{key}[{index}] must be a table", self.place));
                continue;
            };
            let name = table
                .get(name_key)
                .and_then(Value::as_str)
                .unwrap_or_default();
            let prefix = format!(
                "{}{}_{}_",
                self.prefix,
                key.to_uppercase(),
                name.to_uppercase().replace('-', "_")
            );
            self.tables.push(Self {
                table,
                environment: BTreeMap::new(),
                place,
                prefix,
                base: self.base,
                faults: Vec::new(),
                secret_files: Vec::new(),
                settings,
                tables: Vec::new(),
            });
        }
        self.hand_out_variables();
        &mut self.tables
    }

    /// Gives each shop the variables that name it; the rest stays.
    ///
    /// The variables of `moscow-2` begin like those of `moscow`, and `MOSCOW_PUSH_TOKEN` begins
    /// like those of a `moscow-push`: so it goes to whom it is a setting of, and among those to
    /// the longest name.
    fn hand_out_variables(&mut self) {
        for (variable, text) in std::mem::take(&mut self.environment) {
            let fit = |shop: &Self| {
                let key = variable.strip_prefix(&shop.prefix)?.to_lowercase();
                let is_it = |known: &str| known == key || known.strip_suffix("_file") == Some(&key);
                let is_known = shop.settings.iter().any(|setting| is_it(setting.key));
                Some((is_known, shop.prefix.len()))
            };
            // Of two equals the last would win: a name given twice is the first one's.
            let named = self
                .tables
                .iter()
                .map(fit)
                .enumerate()
                .rev()
                .filter(|(_, fit)| fit.is_some());
            let environment = match named.max_by_key(|(_, fit)| *fit) {
                Some((index, _)) => &mut self.tables[index].environment,
                None => &mut self.environment,
            };
            environment.insert(variable, text);
        }
    }

    /// One value, parsed; `None` and a fault if it breaks the rule or is missing.
    pub(super) fn take<T>(&mut self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let setting = find(key, self.settings);
        let Some(given) = self.given(key) else {
            let parsed = setting
                .default
                .map(|text| parse(text).expect("defaults keep the rule"));
            if parsed.is_none() {
                self.missing(key);
            }
            return parsed;
        };
        let parsed = given.one().and_then(&parse);
        if parsed.is_none() {
            self.broken(key, &given);
        }
        parsed
    }

    /// A list of values; an empty one only if that is the default.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let may_be_empty = find(key, self.settings).default.is_some();
        let Some(given) = self.given(key) else {
            if !may_be_empty {
                self.missing(key);
            }
            return may_be_empty.then(Vec::new);
        };
        let parsed: Option<Vec<T>> = given.texts.iter().map(|text| parse(text)).collect();
        let parsed = parsed.filter(|list| may_be_empty || !list.is_empty());
        if parsed.is_none() {
            self.broken(key, &given);
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
        let given = self.given(key)?;
        let parsed = given.one().and_then(parse);
        if parsed.is_none() {
            self.broken(key, &given);
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
        let faults = self.faults.len();
        let secrets: Vec<Secret> = keys.iter().filter_map(|key| self.secret(key)).collect();
        if secrets.is_empty() && is_needed && self.faults.len() == faults {
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
        let faults = self.faults.len();
        for key in keys {
            let found = self.secret(key);
            let length = found
                .as_ref()
                .map_or(LEAST_CHOSEN, |secret| secret.expose().len());
            if length < LEAST_CHOSEN {
                self.faults.push(format!(
                    "{}{key} has {length} characters: it must have at least {LEAST_CHOSEN}, or it \
                     can be guessed; make one with: openssl rand -hex 24",
                    self.place
                ));
            }
            secrets.extend(found);
        }
        if secrets.is_empty() && is_needed && self.faults.len() == faults {
            self.missing_secret(keys[0]);
        }
        secrets
    }

    fn missing_secret(&mut self, key: &str) {
        self.faults.push(format!(
            "{place}{key}_file is missing: it must be {rule}, or set {prefix}{variable}",
            place = self.place,
            rule = find(&format!("{key}_file"), self.settings).rule,
            prefix = self.prefix,
            variable = key.to_uppercase(),
        ));
    }

    fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        if self.table.remove(key).is_some() {
            self.faults.push(format!(
                "{}{key} stands in the file in clear: name a file of its own in {file_key}, or \
                 set {}{}",
                self.place,
                self.prefix,
                key.to_uppercase()
            ));
        }
        let variable = format!("{}{}", self.prefix, key.to_uppercase());
        let file = self.given(&file_key);
        let secret = if let Some(text) = self.environment.remove(&variable) {
            parse_secret(&text).map_err(|rule| format!("{variable} {rule}"))
        } else {
            let path = self.base.join(file?.one()?);
            let secret = read_secret(&path)
                .map_err(|rule| format!("{}{file_key}, {}, {rule}", self.place, path.display()));
            self.secret_files.push(path);
            secret
        };
        secret.map_err(|fault| self.faults.push(fault)).ok()
    }

    /// One secret of that name, from a variable or from a file, if there is one.
    pub(super) fn optional_secret(&mut self, key: &str) -> Option<Secret> {
        self.secret(key)
    }

    /// What stands in a table of the file, by its keys; empty if there is none.
    pub(super) fn pairs<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let rule = find(key, self.settings).rule;
        let table = match self.table.remove(key) {
            None => return Some(Vec::new()),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.faults
                    .push(format!("{}{key} is {other}: it must be {rule}", self.place));
                return None;
            }
        };
        let faults = self.faults.len();
        let mut pairs = Vec::with_capacity(table.len());
        for (word, value) in table {
            match parse(&scalar(&value)) {
                Some(parsed) => pairs.push((word, parsed)),
                None => self.faults.push(format!(
                    "{}{key}.{word:?} is {value}: it must be {rule}",
                    self.place
                )),
            }
        }
        (self.faults.len() == faults).then_some(pairs)
    }

    /// The files that were named for secrets and read.
    pub(super) fn secret_files(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.secret_files)
    }

    pub(super) fn fault(&mut self, text: &str) {
        self.faults.push(format!("{}{text}", self.place));
    }

    /// Says nothing about what was not asked for.
    pub(super) fn leave_rest(&mut self) {
        self.table.clear();
        self.environment.clear();
    }

    /// Every fault, what nobody asked for included.
    pub(super) fn finish(mut self) -> Vec<String> {
        for key in self.table.keys() {
            let fault = match self.settings.iter().any(|setting| setting.key == key) {
                true => "has no use here: another kind or setting needs it",
                false => "is unknown: there is no such setting",
            };
            self.faults.push(format!("{}{key} {fault}", self.place));
        }
        for name in self.environment.keys() {
            self.faults.push(format!(
                "the variable {name} is unknown: there is no such setting"
            ));
        }
        let of_tables = self.tables.into_iter().flat_map(Self::finish);
        self.faults.into_iter().chain(of_tables).collect()
    }

    /// What was said about a key: by the environment, or else by the file.
    fn given(&mut self, key: &str) -> Option<Given> {
        let in_file = self.table.remove(key);
        let variable = format!("{}{}", self.prefix, key.to_uppercase());
        if let Some(text) = self.environment.remove(&variable) {
            let texts = text.split(',').map(|part| part.trim().to_owned());
            return Some(Given {
                source: variable,
                texts: texts.collect(),
                shown: text,
            });
        }
        let value = in_file?;
        let shown = value.to_string();
        let texts = match value {
            Value::Array(values) => values.iter().map(scalar).collect(),
            other => vec![scalar(&other)],
        };
        Some(Given {
            source: format!("{}{key}", self.place),
            texts,
            shown,
        })
    }

    fn broken(&mut self, key: &str, given: &Given) {
        let rule = find(key, self.settings).rule;
        // An address may hold a name and a password, or a token in its query.
        let is_address = given.shown.contains("://");
        let shown = if is_address && given.shown.contains(['@', '?']) {
            "***"
        } else {
            &given.shown
        };
        self.faults
            .push(format!("{} is {shown}: it must be {rule}", given.source));
    }

    /// Whether nothing was said about a key.
    pub(super) fn given_nothing(&self, key: &str) -> bool {
        let variable = format!("{}{}", self.prefix, key.to_uppercase());
        !self.table.contains_key(key) && !self.environment.contains_key(&variable)
    }

    pub(super) fn missing(&mut self, key: &str) {
        let rule = find(key, self.settings).rule;
        self.faults
            .push(format!("{}{key} is missing: it must be {rule}", self.place));
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
struct Given {
    source: String,
    texts: Vec<String>,
    shown: String,
}

impl Given {
    fn one(&self) -> Option<&str> {
        match self.texts.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }
}

fn scalar(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Whether a variable speaks to us. Kubernetes gives every pod variables named after its
/// services, and a service may be called stockbridge; and one names the file itself.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        // No setting of ours has a port in its name.
        let is_of_a_service = rest.contains("SERVICE_HOST") || rest.split('_').any(|w| w == "PORT");
        rest != "CONFIG" && !is_of_a_service
    })
}

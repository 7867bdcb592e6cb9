//! Faults of a configuration, each with its place in the file.
//!
//! The place is that of the key that a fault is about. The excerpt never has more than the message:
//! a value that the message leaves out may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{NOTIFY_SETTINGS, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS};

/// Longest unknown key that is printed completely, in characters. It is longer than the name of any
/// setting.
const MAX_PRINTED_KEY: usize = 32;

/// All faults of a configuration, in the order of the settings.
#[derive(Debug)]
pub struct ConfigError {
    file: String,
    faults: Vec<ConfigFault>,
}

/// One fault: a message with key, value and rule, and its place.
#[derive(Debug)]
pub(super) struct ConfigFault {
    message: String,
    /// Path of the key, such as `shops[0].warehouses`. Empty if the file has no place for it.
    key: String,
    /// Path of another key at which the fault is shown, if the file does not have its own.
    shown_at: Option<&'static str>,
    place: Option<FilePlace>,
}

impl ConfigFault {
    /// Creates a fault of a key.
    pub(super) fn new(key: &str, message: String) -> Self {
        Self {
            message,
            key: key.to_owned(),
            shown_at: None,
            place: None,
        }
    }

    /// Shows the fault at another key, without which it would not exist, if the file lacks its own.
    pub(super) fn shown_at(self, key: &'static str) -> Self {
        Self {
            shown_at: Some(key),
            ..self
        }
    }

    /// Creates a fault of a key. The message is the key and this text.
    pub(super) fn of(key: &str, text: &str) -> Self {
        Self::new(key, format!("{key}{text}"))
    }

    /// Creates a fault of a key that no setting has. A key that may be a secret, pasted in place of
    /// a setting, is not printed completely: the message may go to logs and notifications.
    pub(super) fn of_unknown_key(prefix: &str, key: &str) -> Self {
        let path = format!("{prefix}{key}");
        let is_word = |c: char| c.is_alphabetic() || matches!(c, '_' | '-' | ' ' | '.');
        if key.chars().count() <= MAX_PRINTED_KEY && key.chars().all(is_word) {
            return Self::of(&path, " is unknown: no setting has this name");
        }
        let start: String = key.chars().take(4).collect();
        let message = format!(
            "{prefix}{start}… is unknown: no setting has this name. The rest of it is not printed, \
             because it may be a secret. A secret belongs in a file, and the file's path in the \
             configuration"
        );
        Self::new(&path, message)
    }

    /// Creates a fault that is not in the file, such as one of an environment variable.
    pub(super) fn without_place(message: String) -> Self {
        Self::new("", message)
    }
}

/// Place in the file.
#[derive(Debug, Eq, PartialEq)]
struct FilePlace {
    /// Line, from 1.
    line: usize,
    /// Column in characters, from 1.
    column: usize,
    /// The setting as it is written, or a part of it.
    excerpt: String,
    /// Characters of the excerpt before the marked part.
    indent: usize,
    /// Characters of the marked part.
    width: usize,
}

impl ConfigError {
    /// Creates an error without a place, such as a file that cannot be read.
    pub(super) fn without_place(message: String) -> Self {
        Self {
            file: String::new(),
            faults: vec![ConfigFault::without_place(message)],
        }
    }

    /// Creates the error of a text that is not TOML. The line itself is left out: it may contain a
    /// secret.
    pub(super) fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let mut syntax_error = Self::without_place(error.message().to_owned());
        syntax_error.faults[0].place = error.span().map(|span| FilePlace::new(text, span.start));
        syntax_error
    }

    /// Creates the error of a text that is TOML.
    pub(super) fn new(text: &str, mut faults: Vec<ConfigFault>) -> Self {
        let places = SettingPlaces::parse(text);
        for fault in &mut faults {
            let place = places.find(&fault.key, &fault.message);
            let other = || places.find(fault.shown_at?, &fault.message);
            fault.place = place.or_else(other);
        }
        Self {
            file: String::new(),
            faults,
        }
    }

    /// Names the file in the output.
    #[must_use]
    pub(super) fn in_file(self, path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            ..self
        }
    }

    /// Returns the messages without their places.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let messages = self.faults.iter().map(|fault| fault.message.clone());
        messages.collect()
    }
}

impl ConfigError {
    /// Returns all faults in one line, without excerpts of the file. Of a secret it has only the
    /// key: the seller may have written a secret where the name of its file belongs.
    #[must_use]
    pub fn summary(&self) -> String {
        let faults = self.faults.iter().map(|fault| {
            let line = fault
                .place
                .as_ref()
                .map(|place| format!("line {}: ", place.line));
            let text = if is_secret(&fault.key) {
                format!("{} is invalid, stockbridge check has the reason", fault.key)
            } else {
                fault.message.clone()
            };
            format!("{}{text}", line.unwrap_or_default())
        });
        faults.collect::<Vec<_>>().join("; ")
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.rsplit('.').next().unwrap_or_default();
    let tables = [SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, NOTIFY_SETTINGS];
    let mut settings = tables.into_iter().flatten();
    settings.any(|it| it.min_secret_chars.is_some() && (it.key == key || it.bare_key() == key))
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ConfigFault { message, place, .. }) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Some(place) = place else {
                f.write_str(message)?;
                continue;
            };
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
            }
            write!(f, "{}:{}: {message}", place.line, place.column)?;
            if !place.excerpt.is_empty() {
                let (indent, width) = (place.indent, place.width);
                let marks = "^".repeat(width);
                write!(f, "\n    {}\n    {:indent$}{marks}", place.excerpt, "")?;
            }
        }
        Ok(())
    }
}

impl FilePlace {
    /// Returns the place of a byte, without an excerpt.
    fn new(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            excerpt: String::new(),
            indent: 0,
            width: 0,
        }
    }
}

/// Places of all settings in a text, by key, such as `shops[0].warehouses`.
struct SettingPlaces<'t> {
    text: &'t str,
    /// Bytes of the key and of the value.
    spans: BTreeMap<String, (Range<usize>, Range<usize>)>,
}

impl<'t> SettingPlaces<'t> {
    fn parse(text: &'t str) -> Self {
        let mut places = Self {
            text,
            spans: BTreeMap::new(),
        };
        if let Ok(table) = DeTable::parse(text) {
            places.add_table("", table.get_ref());
        }
        places
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            self.spans.insert(path.clone(), (key.span(), value.span()));
            self.add_value(&path, value);
        }
    }

    fn add_value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(&format!("{path}."), table),
            DeValue::Array(values) => {
                for (index, element) in values.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.spans
                        .insert(path.clone(), (element.span(), element.span()));
                    self.add_value(&path, element);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    /// Returns the place of the setting with this path, or else of its table.
    fn find(&self, path: &str, message: &str) -> Option<FilePlace> {
        if let Some((key, value)) = self.spans.get(path) {
            return Some(self.marked(key, value, message));
        }
        let (table, _) = path.rsplit_once('.')?;
        let (header, _) = self.spans.get(table)?;
        Some(FilePlace::new(self.text, header.start))
    }

    /// Marks the value, if the message has it and both are on one line, or else the key.
    fn marked(&self, key: &Range<usize>, value: &Range<usize>, message: &str) -> FilePlace {
        let slice = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        let (setting, written) = (key.start..value.end.max(key.end), slice(value));
        let has_name = key.end <= value.start;
        let is_shown = !written.is_empty() && message.contains(written);
        let (excerpt, mark) = if is_shown && has_name && !slice(&setting).contains('\n') {
            (setting, value)
        } else if has_name && message.contains(slice(key).trim_matches(['"', '\''])) {
            (key.clone(), key)
        } else {
            (key.start..key.start, key)
        };
        FilePlace {
            excerpt: slice(&excerpt).to_owned(),
            indent: slice(&(excerpt.start..mark.start)).chars().count(),
            width: slice(mark).chars().count(),
            ..FilePlace::new(self.text, mark.start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "listen = \"nowhere\"\n\n[[shops]]\n  name = \"Ёж\" # one\n  warehouses = [\n    \
                        1,\n    0,\n  ]\nlimit = { a = 1, push_token = \"canary\" }\n";

    /// Messages that begin with their key.
    fn shown(messages: &[&str]) -> String {
        let faults = messages.iter().map(|text| {
            let key = text.split(' ').next().unwrap_or_default();
            ConfigFault::new(key, (*text).to_owned())
        });
        let error = ConfigError::new(TEXT, faults.collect());
        error.in_file(Path::new("shop.toml")).to_string()
    }

    #[test]
    fn a_fault_has_line_column_and_a_caret_under_its_value() {
        for (message, expected) in [
            (
                "listen is \"nowhere\": it must be an address",
                "shop.toml:1:10: listen is \"nowhere\": it must be an address\n    \
                 listen = \"nowhere\"\n             ^^^^^^^^^",
            ),
            (
                "shops[0].name is \"Ёж\": it must be a-z",
                "shop.toml:4:10: shops[0].name is \"Ёж\": it must be a-z\n    \
                 name = \"Ёж\"\n           ^^^^",
            ),
            // A value on several lines.
            (
                "shops[0].warehouses is [1, 0]: it must be ids",
                "shop.toml:5:3: shops[0].warehouses is [1, 0]: it must be ids\n    \
                 warehouses\n    ^^^^^^^^^^",
            ),
            // A value that the message leaves out.
            (
                "shops[0].limit.push_token must not be in the file",
                "shop.toml:9:18: shops[0].limit.push_token must not be in the file\n    \
                 push_token\n    ^^^^^^^^^^",
            ),
            // A missing setting has the place of its table.
            (
                "shops[0].campaign is missing: it must be an id",
                "shop.toml:3:1: shops[0].campaign is missing: it must be an id",
            ),
            (
                "the variable STOCKBRIDGE_X is unknown",
                "the variable STOCKBRIDGE_X is unknown",
            ),
        ] {
            assert_eq!(shown(&[message]), expected);
        }
    }

    #[test]
    fn all_faults_are_shown_and_no_secret() {
        let all = shown(&[
            "listen is unknown",
            "shops[0].limit.push_token must not be here",
        ]);
        assert_eq!(all.matches("shop.toml:").count(), 2);
        assert!(!all.contains("canary"), "{all}");
    }

    #[test]
    fn a_secret_in_place_of_a_key_is_not_printed() {
        for (start, rest) in [
            ("ACMA", ":canary1"),
            ("cana", "ry-canary-canary-canary-canary"),
        ] {
            let secret = format!("{start}{rest}");
            let text = format!("[[shops]]\n\"{secret}\" = 1\n");
            let fault = ConfigFault::of_unknown_key("shops[0].", &secret);
            let error = ConfigError::new(&text, vec![fault]);
            for shown in [error.to_string(), error.summary()] {
                assert!(
                    shown.contains(&format!("shops[0].{start}… is unknown")),
                    "{shown}"
                );
                assert!(!shown.contains(rest), "{shown}");
            }
            assert!(error.to_string().starts_with("2:1: "), "{error}");
        }
        let typo = ConfigFault::of_unknown_key("shops[0].", "ware-houses");
        assert_eq!(
            typo.message,
            "shops[0].ware-houses is unknown: no setting has this name"
        );
    }

    #[test]
    fn a_syntax_error_has_its_place_but_not_its_line() {
        for text in [
            "a = 1\nkey = \"canary\" \"\n",
            "a = 1\napi_key = ACMA:canary\n",
        ] {
            let error = text.parse::<toml::Table>().unwrap_err();
            let shown = ConfigError::syntax(text, &error).to_string();
            assert!(shown.starts_with("2:"), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}

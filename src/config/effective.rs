//! The effective configuration in TOML, as `stockbridge check` prints it. Secrets are `***`.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::Config;
use super::setting_list::Setting;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.effective)
    }
}

/// Lines of a table, in the order of its settings. A setting without a value has none.
pub(super) fn table_lines(settings: &[Setting], table: &impl Serialize) -> Vec<String> {
    let values = serde_json::to_value(table).expect("tables have texts, numbers and lists");
    let line = |setting: &Setting| {
        let value = match &values[setting.key] {
            // A number is written as in the example.
            Value::String(text)
                if !setting.example.starts_with('"') && text.parse::<i64>().is_ok() =>
            {
                text.clone()
            }
            value => toml_text(value)?,
        };
        Some(format!("{} = {value}\n", setting.bare_key()))
    };
    settings.iter().filter_map(line).collect()
}

/// A value in TOML syntax; `None` if there is none. TOML reads JSON's escapes, but not those of
/// Rust, for example of a no-break space.
fn toml_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Array(list) => {
            let list: Vec<String> = list.iter().filter_map(toml_text).collect();
            format!("[{}]", list.join(", "))
        }
        Value::Object(map) => {
            let pair = |(key, value)| {
                Some(format!(
                    "{} = {}",
                    Value::String(String::clone(key)),
                    toml_text(value)?
                ))
            };
            let pairs: Vec<String> = map.iter().filter_map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // JSON does not escape U+007F, and TOML requires it.
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            value.to_string().replace('\u{7f}', "\\u007F")
        }
    })
}

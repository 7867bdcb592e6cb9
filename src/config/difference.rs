//! Difference between two configurations, and which of its settings a reload can apply.

use toml::{Table, Value};

use super::{Config, ShopConfig};

/// Settings that a reload applies, outside tables.
const LIVE_SETTINGS: &[&str] = &["ops_password", "log_filter"];

/// Settings of a shop that a reload applies.
const LIVE_SHOP_SETTINGS: &[&str] = &[
    "push_token",
    "push_token_2",
    "feed_key",
    "feed_key_2",
    "api_key",
    "api_key_2",
    "combine",
    "buffer",
    "zero_below",
    "cap",
    "overrides_file",
];

/// Settings of a source that a reload applies: those that do not change how it is read.
const LIVE_SOURCE_SETTINGS: &[&str] = &[
    "absent",
    "places",
    "pack",
    "buffer",
    "zero_below",
    "cap",
    "guard_rows",
    "guard_zeros",
    "guard_bad_rows",
    "guard_repeats",
    "duplicates",
    "mapping_file",
];

/// Keys of the settings that differ between two configurations, such as `shops.moscow.buffer`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigDifference {
    /// Settings that a reload applies.
    pub live: Vec<String>,
    /// Settings that need a restart. A table that is new or gone appears with its name only.
    pub needs_restart: Vec<String>,
}

impl ConfigDifference {
    /// Compares two configurations. Shops, sources and channels are compared by name.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changed = Vec::new();
        compare_tables(&effective(old), &effective(new), "", &mut changed);
        compare_secrets(old, new, &mut changed);
        changed.sort_unstable();
        changed.dedup();
        // Without a password before or after, other rules apply to the whole listener.
        let has_password = |config: &Config| config.ops_password.is_some();
        let is_password_new = has_password(old) != has_password(new);
        let (live, needs_restart) = changed
            .into_iter()
            .partition(|key| is_live(key) && !(is_password_new && key == "ops_password"));
        Self {
            live,
            needs_restart,
        }
    }
}

fn effective(config: &Config) -> Table {
    let text = config.to_string();
    text.parse()
        .expect("the effective configuration is valid TOML")
}

fn compare_tables(old: &Table, new: &Table, prefix: &str, changed: &mut Vec<String>) {
    let keys = old
        .keys()
        .chain(new.keys().filter(|key| !old.contains_key(*key)));
    for key in keys {
        let path = format!("{prefix}{key}");
        let (old, new) = (old.get(key), new.get(key));
        match (old.and_then(named_tables), new.and_then(named_tables)) {
            (None, None) if old == new => {}
            (None, None) => changed.push(path),
            (old, new) => {
                let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
                compare_named(&old, &new, &path, changed);
            }
        }
    }
}

fn compare_named(
    old: &[(&str, &Table)],
    new: &[(&str, &Table)],
    path: &str,
    changed: &mut Vec<String>,
) {
    let find = |tables: &[(&str, &Table)], name: &str| tables.iter().position(|(n, _)| *n == name);
    for (name, table) in old {
        match find(new, name) {
            Some(index) => {
                compare_tables(table, new[index].1, &format!("{path}.{name}."), changed);
            }
            None => changed.push(format!("{path}.{name}")),
        }
    }
    for (name, _) in new {
        if find(old, name).is_none() {
            changed.push(format!("{path}.{name}"));
        }
    }
}

/// Returns the tables of an array, such as `[[shops]]`, with their names.
fn named_tables(value: &Value) -> Option<Vec<(&str, &Table)>> {
    let tables = value.as_array().filter(|tables| !tables.is_empty())?;
    let with_name = tables.iter().map(|value| {
        let table = value.as_table()?;
        Some((table.get("name")?.as_str()?, table))
    });
    with_name.collect()
}

/// Compares what the effective configuration hides: secrets, and lists that are read from files.
fn compare_secrets(old: &Config, new: &Config, changed: &mut Vec<String>) {
    if let (Some(old), Some(new)) = (&old.ops_password, &new.ops_password)
        && old != new
    {
        changed.push("ops_password".to_owned());
    }
    for old in &old.shops {
        if let Some(new) = new.shops.iter().find(|new| new.name == old.name) {
            compare_shop_secrets(old, new, changed);
        }
    }
}

fn compare_shop_secrets(old: &ShopConfig, new: &ShopConfig, changed: &mut Vec<String>) {
    let shop = &old.name;
    for (key, old, new) in [
        ("push_token", &old.push_tokens, &new.push_tokens),
        ("feed_key", &old.feed_keys, &new.feed_keys),
        ("api_key", &old.api_keys, &new.api_keys),
    ] {
        let pairs = old.iter().zip(new).zip(["", "_2"]);
        let different = pairs.filter(|((old, new), _)| old != new);
        changed.extend(different.map(|(_, suffix)| format!("shops.{shop}.{key}{suffix}")));
    }
    if old.rules.overrides != new.rules.overrides {
        changed.push(format!("shops.{shop}.overrides_file"));
    }
    for old in &old.sources {
        let name = &old.policy.name;
        let new = new.sources.iter().find(|new| new.policy.name == *name);
        if new.is_some_and(|new| new.policy.mapping != old.policy.mapping) {
            changed.push(format!("shops.{shop}.sources.{name}.mapping_file"));
        }
    }
}

/// Returns true if a reload applies the setting with this path.
fn is_live(path: &str) -> bool {
    match path.split('.').collect::<Vec<_>>().as_slice() {
        [key] => LIVE_SETTINGS.contains(key),
        ["shops", _, key] => LIVE_SHOP_SETTINGS.contains(key),
        ["shops", _, "sources", _, key] => LIVE_SOURCE_SETTINGS.contains(key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::{SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS};
    use super::*;

    const BASE: &str = "store = \"s\"\n[[shops]]\nname = \"moscow\"\nwarehouses = [1]\n\
        base_path = \"\"\ncampaign = 1\nmigrate = \"off\"\n[[shops.sources]]\nname = \"erp\"\n\
        kind = \"file\"\npath = \"a.csv\"\n";

    fn config(text: &str, secrets: &[(&str, &str)]) -> Config {
        let mut variables =
            BTreeMap::from([("PUSH_TOKEN", "first-token"), ("FEED_KEY", "first-key")]);
        variables.extend(secrets.iter().copied());
        let variables = variables
            .into_iter()
            .map(|(key, value)| {
                let place = if key == "OPS_PASSWORD" {
                    ""
                } else {
                    "SHOPS_MOSCOW_"
                };
                (format!("STOCKBRIDGE_{place}{key}"), value.to_owned())
            })
            .collect();
        Config::parse(text, variables, Path::new("")).unwrap()
    }

    #[test]
    fn live_settings_exist() {
        for (live, settings) in [
            (LIVE_SETTINGS, SETTINGS),
            (LIVE_SHOP_SETTINGS, SHOP_SETTINGS),
            (LIVE_SOURCE_SETTINGS, SOURCE_SETTINGS),
        ] {
            for key in live {
                let is_known = |known: &str| known == *key || known == format!("{key}_file");
                assert!(
                    settings.iter().any(|setting| is_known(setting.key)),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn names_what_changed_and_what_needs_a_restart() {
        let password = ("OPS_PASSWORD", "first-password");
        let old = config(BASE, &[password]);
        for (text, secrets, live, needs_restart) in [
            (BASE.to_owned(), vec![password], vec![], vec![]),
            (
                BASE.replace(
                    "migrate = \"off\"",
                    "migrate = \"off\"\nbuffer = 2\nparallel = 1",
                ),
                vec![password],
                vec!["shops.moscow.buffer"],
                vec!["shops.moscow.parallel"],
            ),
            (
                format!("{BASE}guard_zeros = 0.5\nevery_seconds = 9\n"),
                vec![password],
                vec!["shops.moscow.sources.erp.guard_zeros"],
                vec!["shops.moscow.sources.erp.every_seconds"],
            ),
            (
                BASE.to_owned(),
                vec![
                    ("OPS_PASSWORD", "other-password"),
                    ("PUSH_TOKEN", "other-token"),
                    ("FEED_KEY_2", "second-key"),
                ],
                vec![
                    "ops_password",
                    "shops.moscow.feed_key_2",
                    "shops.moscow.push_token",
                ],
                vec![],
            ),
            (BASE.to_owned(), vec![], vec![], vec!["ops_password"]),
            (
                BASE.replace("\"erp\"", "\"sheet\""),
                vec![password],
                vec![],
                vec!["shops.moscow.sources.erp", "shops.moscow.sources.sheet"],
            ),
        ] {
            let difference = ConfigDifference::between(&old, &config(&text, &secrets));
            assert_eq!(difference.live, live, "{text}");
            assert_eq!(difference.needs_restart, needs_restart, "{text}");
        }
    }
}

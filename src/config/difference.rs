//! Difference between two configurations, and which of its settings a reload can apply.

use std::collections::BTreeMap;

use strict_http::secret::TokenDigest;
use toml::{Table, Value};

use super::{Config, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting, ShopConfig};
use crate::sources::SourceKind;

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
        compare_hidden(old, new, &mut changed);
        changed.sort_unstable();
        changed.dedup();
        // Without a password before or after, other rules apply to the whole listener. A worker
        // that sends cannot be without a key.
        let has_password = |config: &Config| config.ops_password.is_some();
        let is_password_new = has_password(old) != has_password(new);
        let has_no_key = |shop: &ShopConfig| shop.api_keys.is_empty();
        let without_key: Vec<&str> = old
            .shops
            .iter()
            .chain(&new.shops)
            .filter(|shop| has_no_key(shop))
            .map(|shop| shop.name.as_str())
            .collect();
        let applies = |key: &String| {
            let is_key_of = |name: &&str| key.starts_with(&format!("shops.{name}.api_key"));
            is_live(key)
                && !(is_password_new && key == "ops_password")
                && !without_key.iter().any(is_key_of)
        };
        let (live, needs_restart): (Vec<_>, Vec<_>) = changed.into_iter().partition(applies);
        let is_held_back = |key: &String| needs_restart.iter().any(|other| holds_back(other, key));
        let (held_back, live): (Vec<_>, Vec<_>) = live.into_iter().partition(is_held_back);
        let mut needs_restart = needs_restart;
        needs_restart.extend(held_back);
        needs_restart.sort_unstable();
        Self {
            live,
            needs_restart,
        }
    }
}

pub(super) fn effective(config: &Config) -> Table {
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
pub(super) fn named_tables(value: &Value) -> Option<Vec<(&str, &Table)>> {
    let tables = value.as_array().filter(|tables| !tables.is_empty())?;
    let with_name = tables.iter().map(|value| {
        let table = value.as_table()?;
        Some((table.get("name")?.as_str()?, table))
    });
    with_name.collect()
}

/// Compares what the effective configuration hides: secrets, and lists that are read from files.
fn compare_hidden(old: &Config, new: &Config, changed: &mut Vec<String>) {
    let (old_secrets, new_secrets) = (named_secrets(old), named_secrets(new));
    for (key, digest) in &old_secrets {
        if new_secrets.get(key).is_some_and(|new| new != digest) {
            changed.push(key.clone());
        }
    }
    for old in &old.shops {
        if let Some(new) = new.shops.iter().find(|new| new.name == old.name) {
            compare_lists(old, new, changed);
        }
    }
}

/// Returns the digests of all secrets, with names in place of indexes: `shops.moscow.push_token`.
fn named_secrets(config: &Config) -> BTreeMap<String, TokenDigest> {
    let mut names = vec![(String::new(), String::new())];
    for (index, shop) in config.shops.iter().enumerate() {
        let (indexed, named) = (format!("shops[{index}]."), format!("shops.{}.", shop.name));
        for (index, source) in shop.sources.iter().enumerate() {
            let name = &source.policy.name;
            names.push((
                format!("{indexed}sources[{index}]."),
                format!("{named}sources.{name}."),
            ));
        }
        names.push((indexed, named));
    }
    for (index, channel) in config.notify.iter().enumerate() {
        names.push((
            format!("notify[{index}]."),
            format!("notify.{}.", channel.name),
        ));
    }
    let with_name = |(key, digest): &(String, TokenDigest)| {
        let table = key.rfind('.').map_or(0, |dot| dot + 1);
        let (table, key) = key.split_at(table);
        let (_, named) = names.iter().find(|(indexed, _)| indexed == table)?;
        Some((format!("{named}{key}"), digest.clone()))
    };
    config.secret_digests.iter().filter_map(with_name).collect()
}

fn compare_lists(old: &ShopConfig, new: &ShopConfig, changed: &mut Vec<String>) {
    let shop = &old.name;
    if old.rules.overrides != new.rules.overrides {
        changed.push(format!("shops.{shop}.overrides_file"));
    }
    let same_name = |name: &String| new.sources.iter().position(|new| new.policy.name == *name);
    let mut positions = Vec::new();
    for old in &old.sources {
        let name = &old.policy.name;
        let Some(position) = same_name(name) else {
            continue;
        };
        positions.push(position);
        let new = &new.sources[position];
        if new.policy.mapping != old.policy.mapping {
            changed.push(format!("shops.{shop}.sources.{name}.mapping_file"));
        }
        if let (SourceKind::OldHandler { skus: old, .. }, SourceKind::OldHandler { skus: new, .. }) =
            (&old.kind, &new.kind)
            && old != new
        {
            changed.push(format!("shops.{shop}.sources.{name}.skus_file"));
        }
    }
    // The order decides between equal statements, and whose guard applies to the rules.
    if !positions.is_sorted() {
        changed.push(format!("shops.{shop}.sources"));
    }
}

/// Returns true if a setting that waits for a restart holds back another one that could be applied.
///
/// Settings of a source may need each other: a pack size belongs to the column that it divides. A
/// shop that moves to another path or campaign may get the secrets of that place with it.
pub(crate) fn holds_back(waiting: &str, key: &str) -> bool {
    const PLACES: [&str; 5] = ["base_path", "warehouses", "campaign", "method", "business"];
    let waiting: Vec<&str> = waiting.split('.').collect();
    let key: Vec<&str> = key.split('.').collect();
    match (waiting.as_slice(), key.as_slice()) {
        (
            ["shops", shop, "sources", source, rest @ ..],
            ["shops", shop_2, "sources", source_2, _],
        ) => (shop, source) == (shop_2, source_2) && rest != ["every_seconds"],
        (["shops", shop, place], ["shops", shop_2, secret]) => {
            let is_secret = ["push_token", "feed_key", "api_key"]
                .iter()
                .any(|name| secret.starts_with(name));
            shop == shop_2 && PLACES.contains(place) && is_secret
        }
        _ => false,
    }
}

/// Returns true if a reload applies the setting with this path.
pub(super) fn is_live(path: &str) -> bool {
    match path.split('.').collect::<Vec<_>>().as_slice() {
        [key] => has_live(SETTINGS, key),
        ["shops", _, key] => has_live(SHOP_SETTINGS, key),
        ["shops", _, "sources", _, key] => has_live(SOURCE_SETTINGS, key),
        _ => false,
    }
}

fn has_live(settings: &[Setting], key: &str) -> bool {
    let named = |setting: &&Setting| setting.key == key || setting.bare_key() == key;
    settings.iter().find(named).is_some_and(|it| it.is_live)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
    fn the_docs_list_exactly_the_live_settings() {
        let docs = include_str!("../../docs/configuration.md");
        let section = docs.split("\n## Reload\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let list = section
            .split("These settings are used at once:")
            .nth(1)
            .unwrap();
        let list = list.split("- Every other").next().unwrap();
        let mut listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let settings = [SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS].concat();
        let live = settings.iter().filter(|setting| setting.is_live);
        let mut live: Vec<&str> = live
            .map(Setting::bare_key)
            .filter(|key| !key.ends_with("_2"))
            .collect();
        listed.sort_unstable();
        live.sort_unstable();
        assert_eq!(listed, live);
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
            // A pack size belongs to the column that it divides.
            (
                format!("{BASE}quantity = \"Packs\"\npack = 2\n"),
                vec![password],
                vec![],
                vec![
                    "shops.moscow.sources.erp.pack",
                    "shops.moscow.sources.erp.quantity",
                ],
            ),
            // Tokens and keys belong to the place to which the shop moves.
            (
                BASE.replace("campaign = 1", "campaign = 2\nbuffer = 2"),
                vec![password, ("PUSH_TOKEN", "other-token")],
                vec!["shops.moscow.buffer"],
                vec!["shops.moscow.campaign", "shops.moscow.push_token"],
            ),
            // A worker without a key cannot send.
            (
                BASE.to_owned(),
                vec![password, ("API_KEY", "first-api-key")],
                vec![],
                vec!["shops.moscow.api_key"],
            ),
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

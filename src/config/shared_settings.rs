//! Settings that all replicas of a database must have in common, and their digests.
//!
//! Settings that may differ between machines are left out: see `per_machine` in the tables of settings.
//! Secrets are left out too, because a short digest of a short secret could be guessed. Lists in
//! files count by their content, and a path of a source relative to the directory of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

use super::difference::{effective, holds_back, is_live, named_tables};
use super::{Config, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting, ShopConfig};
use crate::sources::{Config as SourceConfig, SourceKind};
use crate::store::SettingsDigest;

/// Bytes of the digest of one part. A difference is missed once in four thousand million times.
const DIGEST_BYTES: usize = 4;

/// Settings that all replicas of a database must have in common: values by paths such as
/// `shops.moscow.buffer`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SharedSettings(BTreeMap<String, String>);

impl SharedSettings {
    /// Collects them from a configuration. Paths of sources in the directory `base` count as relative.
    pub(super) fn of(config: &Config, base: &Path) -> Self {
        let mut settings = Self::default();
        let table = effective(config);
        settings.add_table("", &table, SETTINGS, base);
        let shops = table.get("shops").and_then(named_tables);
        for (name, shop) in shops.unwrap_or_default() {
            let prefix = format!("shops.{name}.");
            settings.add_table(&prefix, shop, SHOP_SETTINGS, base);
            let sources = shop.get("sources").and_then(named_tables);
            let sources = sources.unwrap_or_default();
            // The order decides between equal statements.
            let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
            settings.add(order_path(name), names.join(","));
            for (name, source) in sources {
                let prefix = format!("{prefix}sources.{name}.");
                settings.add_table(&prefix, source, SOURCE_SETTINGS, base);
            }
        }
        for shop in &config.shops {
            settings.add_lists(shop);
        }
        settings
    }

    /// Returns the settings in use after a reload of `new`, if these have been in use before it. What
    /// waits for a restart keeps its value: a setting that a reload can apply has that of an earlier
    /// reload, and any other that of the start.
    #[must_use]
    pub fn after_reload(&self, at_start: &Self, new: &Self, needs_restart: &[String]) -> Self {
        let waits = |path: &str| {
            let is_held = |waiting: &String| {
                covers(waiting, path) || (is_live(path) && holds_back(waiting, path))
            };
            is_order(path) || needs_restart.iter().any(is_held)
        };
        let of_start = at_start.0.iter().filter(|(path, _)| !is_live(path));
        let of_reload = self.0.iter().filter(|(path, _)| is_live(path));
        let kept = of_start.chain(of_reload).filter(|(path, _)| waits(path));
        let replaced = new.0.iter().filter(|(path, _)| !waits(path));
        let in_use = kept.chain(replaced);
        Self(
            in_use
                .map(|(path, value)| (path.clone(), value.clone()))
                .collect(),
        )
    }

    /// Returns the digest of each part.
    #[must_use]
    pub fn digest(&self) -> SettingsDigest {
        let mut parts: BTreeMap<String, Sha256> = BTreeMap::new();
        for (path, value) in &self.0 {
            let hash = parts.entry(part_of(path)).or_default();
            hash.update(format!("{path} = {value}\n"));
        }
        let short = |hash: Sha256| hex(&hash.finalize()[..DIGEST_BYTES]);
        let parts = parts.into_iter();
        SettingsDigest::new(parts.map(|(part, hash)| (part, short(hash))).collect())
    }

    fn add(&mut self, path: String, value: String) {
        self.0.insert(path, value);
    }

    fn add_table(&mut self, prefix: &str, table: &Table, settings: &[Setting], base: &Path) {
        for setting in settings.iter().filter(|setting| setting.is_shared()) {
            let Some(value) = table.get(setting.key) else {
                continue;
            };
            let value = match value {
                Value::String(text) if setting.key == "path" => relative(text, base),
                value => value.to_string(),
            };
            self.add(format!("{prefix}{}", setting.key), value);
        }
    }

    /// Adds what the effective configuration does not show: lists that are read from files, and the
    /// address of a database without its password.
    fn add_lists(&mut self, shop: &ShopConfig) {
        let prefix = format!("shops.{}.", shop.name);
        let overrides: BTreeSet<String> = shop
            .rules
            .overrides
            .iter()
            .map(|(sku, rule)| format!("{:?} {rule:?}", sku.as_str()))
            .collect();
        self.add_list(format!("{prefix}overrides_file"), overrides);
        for SourceConfig { policy, kind, .. } in &shop.sources {
            let prefix = format!("{prefix}sources.{}.", policy.name);
            let mapping = policy.mapping.iter().map(|entry| format!("{entry:?}"));
            self.add_list(format!("{prefix}mapping_file"), mapping);
            match kind {
                SourceKind::OldHandler { skus, .. } => {
                    let skus = skus.iter().map(|sku| format!("{:?}", sku.as_str()));
                    self.add_list(format!("{prefix}skus_file"), skus);
                }
                SourceKind::Sql(sql) => self.add(format!("{prefix}database"), sql.url.to_string()),
                _ => {}
            }
        }
    }

    fn add_list(&mut self, path: String, lines: impl IntoIterator<Item = String>) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        let mut hash = Sha256::new();
        for line in lines {
            hash.update(line);
            hash.update("\n");
        }
        self.add(path, hex(&hash.finalize()));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a path as it is written in a file in the directory `base`.
fn relative(path: &str, base: &Path) -> String {
    let relative = Path::new(path).strip_prefix(base);
    relative.map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// Returns the path under which the order of a shop's sources is kept.
fn order_path(shop: &str) -> String {
    format!("shops.{shop}.sources")
}

/// Returns true for the order of a shop's sources, which a reload never changes.
fn is_order(path: &str) -> bool {
    matches!(
        path.split('.').collect::<Vec<_>>().as_slice(),
        ["shops", _, "sources"]
    )
}

/// Returns true if what waits for a restart is this setting, or a table that contains it.
fn covers(waiting: &str, path: &str) -> bool {
    let rest = path.strip_prefix(waiting);
    rest.is_some_and(|rest| rest.is_empty() || (!is_order(waiting) && rest.starts_with('.')))
}

/// Returns the part of the configuration to which a setting belongs.
fn part_of(path: &str) -> String {
    match path.split('.').collect::<Vec<_>>().as_slice() {
        ["shops", shop, "sources", source, ..] => format!("source:{shop}/{source}"),
        ["shops", shop, ..] => format!("shop:{shop}"),
        _ => "service".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigDifference;

    const TEXT: &str = "store = \"s\"\n[[shops]]\nname = \"moscow\"\nwarehouses = [1]\n\
        campaign = 1\nmigrate = \"off\"\n[[shops.sources]]\nname = \"erp\"\nkind = \"file\"\n\
        path = \"a.csv\"\n[[shops.sources]]\nname = \"sheet\"\nkind = \"file\"\npath = \"b.csv\"\n";

    fn config_in(base: &Path, text: &str, token: &str) -> Config {
        let secrets = [("PUSH_TOKEN", token), ("FEED_KEY", "the-feed-key")];
        let variables = secrets
            .map(|(key, value)| (format!("STOCKBRIDGE_SHOPS_MOSCOW_{key}"), value.to_owned()));
        Config::parse(text, variables.into(), base).unwrap()
    }

    fn digest(text: &str) -> SettingsDigest {
        let config = config_in(Path::new("/srv/a"), text, "token");
        config.shared_settings().digest()
    }

    /// Parts in which the second configuration differs.
    fn differing(first: &SettingsDigest, second: &SettingsDigest) -> Vec<String> {
        first.differing_parts(env!("CARGO_PKG_VERSION"), &second.to_string())
    }

    #[test]
    fn each_part_has_a_short_digest() {
        let text = digest(TEXT).to_string();
        let parts: Vec<(&str, usize)> = text
            .split(' ')
            .map(|part| part.split_once('=').unwrap())
            .map(|(part, digest)| (part, digest.len()))
            .collect();
        let names = [
            "service",
            "shop:moscow",
            "source:moscow/erp",
            "source:moscow/sheet",
        ];
        assert_eq!(parts, names.map(|name| (name, 2 * DIGEST_BYTES)));
    }

    #[test]
    fn settings_change_the_digest_of_their_part() {
        let (erp, sheet) = (
            "name = \"erp\"\nkind = \"file\"\npath = \"a.csv\"\n",
            "name = \"sheet\"\nkind = \"file\"\npath = \"b.csv\"\n",
        );
        let swapped = TEXT.replace(erp, "SHEET").replace(sheet, erp);
        let swapped = swapped.replace("SHEET", sheet);
        for (text, expected) in [
            (TEXT.to_owned(), &[][..]),
            // Those of one machine.
            (
                format!("listen = \"127.0.0.1:1\"\nlog_filter = \"debug\"\n{TEXT}"),
                &[],
            ),
            (TEXT.replace("\"s\"", "\"/var/lib/s\""), &[]),
            // A default that is written out.
            (
                TEXT.replace("campaign = 1", "campaign = 1\nbuffer = 0"),
                &[],
            ),
            (format!("cutoff = \"2026-11-30\"\n{TEXT}"), &["service"]),
            (format!("verify_hours = 5\n{TEXT}"), &["service"]),
            (
                TEXT.replace("campaign = 1", "campaign = 1\nunknown_sku = \"zero\""),
                &["shop:moscow"],
            ),
            (TEXT.replace("[1]", "[1, 2]"), &["shop:moscow"]),
            (TEXT.replace("a.csv", "c.csv"), &["source:moscow/erp"]),
            (
                format!("{TEXT}absent = \"keep\"\nbuffer = 1\n"),
                &["source:moscow/sheet"],
            ),
            (swapped, &["shop:moscow"]),
            (
                TEXT.replace("\"sheet\"", "\"list\""),
                &["shop:moscow", "source:moscow/list", "source:moscow/sheet"],
            ),
        ] {
            assert_eq!(differing(&digest(TEXT), &digest(&text)), expected, "{text}");
        }
    }

    #[test]
    fn secrets_and_directories_are_not_in_it() {
        let first = config_in(Path::new("/srv/a"), TEXT, "first-token");
        let other = config_in(Path::new("/home/b"), TEXT, "other-token");
        assert_eq!(first.shared_settings(), other.shared_settings());
        let printed = format!("{:?}", first.shared_settings());
        for part in ["token", "the-feed-key", "***", "/srv/a"] {
            assert!(!printed.contains(part), "{part}: {printed}");
        }
    }

    #[test]
    fn lists_count_by_their_content() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = TEXT.replace("campaign = 1", "campaign = 1\noverrides_file = \"o.csv\"");
        let text = format!("{text}mapping_file = \"m.csv\"\n");
        let digest_in = |directory: &Path, overrides: &str, mapping: &str| {
            std::fs::write(directory.join("o.csv"), overrides).unwrap();
            std::fs::write(directory.join("m.csv"), mapping).unwrap();
            config_in(directory, &text, "token")
                .shared_settings()
                .digest()
        };
        let (overrides, mapping) = ("sku;count\nA;1\nB;2\n", "source_sku;sku\na;A\nb;B\n");
        let first = digest_in(one.path(), overrides, mapping);
        for (overrides, mapping, expected) in [
            (overrides, mapping, &[][..]),
            ("sku;count\nB;2\nA;1\n", mapping, &[]),
            ("sku;count\nB;3\nA;1\n", mapping, &["shop:moscow"]),
            (overrides, "source_sku;sku\na;A\n", &["source:moscow/sheet"]),
        ] {
            let second = digest_in(two.path(), overrides, mapping);
            assert_eq!(
                differing(&first, &second),
                expected,
                "{overrides} {mapping}"
            );
        }
    }

    #[test]
    fn sql_database_counts_without_its_password() {
        let digest_of = |address: &str| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("url"), address).unwrap();
            let text = TEXT.replace(
                "kind = \"file\"\npath = \"b.csv\"",
                "kind = \"sql\"\ndatabase_file = \"url\"\nquery = \"SELECT sku, quantity FROM s\"",
            );
            config_in(directory.path(), &text, "token")
                .shared_settings()
                .digest()
        };
        let first = digest_of("postgres://u:one@db/stock");
        let rotated = digest_of("postgres://u:two@db/stock");
        assert_eq!(first, rotated);
        let moved = digest_of("postgres://u:one@other/stock");
        assert_eq!(differing(&first, &moved), ["source:moscow/sheet"]);
    }

    #[test]
    fn reload_uses_only_live_settings() {
        let old = config_in(Path::new(""), TEXT, "token");
        let changed = TEXT.replace("campaign = 1", "campaign = 1\nparallel = 1\nbuffer = 3");
        for (text, expected) in [
            (
                changed,
                TEXT.replace("campaign = 1", "campaign = 1\nbuffer = 3"),
            ),
            (
                format!("{TEXT}guard_rows = 0.9\n"),
                format!("{TEXT}guard_rows = 0.9\n"),
            ),
            // A pack size belongs to the column that it divides.
            (
                format!("{TEXT}quantity = \"Packs\"\npack = 2\n"),
                TEXT.to_owned(),
            ),
            (TEXT.replace("\"sheet\"", "\"list\""), TEXT.to_owned()),
            (format!("stale_hours = 9\n{TEXT}"), TEXT.to_owned()),
        ] {
            let new = config_in(Path::new(""), &text, "token");
            let waiting = ConfigDifference::between(&old, &new).needs_restart;
            let (start, new) = (old.shared_settings(), new.shared_settings());
            let in_use = start.after_reload(start, new, &waiting);
            let expected = config_in(Path::new(""), &expected, "token");
            assert_eq!(&in_use, expected.shared_settings(), "{text}");
        }
    }

    #[test]
    fn held_back_settings_keep_the_last_reload() {
        let config = |text: &str| config_in(Path::new(""), text, "token");
        let start = config(TEXT);
        let guarded = format!("{TEXT}guard_rows = 0.9\n");
        let moved = |text: &str| text.replace("b.csv", "c.csv");
        let without = TEXT.replace("\"sheet\"", "\"list\"");
        let mut in_use = start.shared_settings().clone();
        for (case, text, expected) in [
            ("a live setting", guarded.clone(), &guarded),
            ("another path holds it back", moved(&guarded), &guarded),
            (
                "also if the file has its first value again",
                moved(TEXT),
                &guarded,
            ),
            (
                "or a new one",
                moved(&guarded).replace("0.9", "0.8"),
                &guarded,
            ),
            ("the source is gone", without, &guarded),
            ("back to the first file", TEXT.to_owned(), &TEXT.to_owned()),
        ] {
            let new = config(&text);
            let waiting = ConfigDifference::between(&start, &new).needs_restart;
            let (start, new) = (start.shared_settings(), new.shared_settings());
            in_use = in_use.after_reload(start, new, &waiting);
            assert_eq!(&in_use, config(expected).shared_settings(), "{case}");
        }
    }

    #[test]
    fn docs_list_the_settings_of_one_machine() {
        let docs = include_str!("../../docs/replicas.md");
        let section = docs.split("These settings may differ:").nth(1).unwrap();
        let (section, _) = section.split_once('.').unwrap();
        let mut listed: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
        let settings = [SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS].concat();
        let of_files = ["mapping_file", "overrides_file", "skus_file"];
        let per_machine = settings.iter().filter(|setting| setting.is_per_machine);
        let mut per_machine: Vec<&str> = per_machine
            .map(|setting| setting.key)
            .filter(|key| !of_files.contains(key))
            .collect();
        listed.sort_unstable();
        per_machine.sort_unstable();
        assert_eq!(listed, per_machine);
    }
}

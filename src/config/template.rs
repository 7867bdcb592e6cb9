//! A commented configuration with every setting, and the reference of settings for the docs.

use std::fmt::Write as _;

use super::setting_list::{NOTIFY_SETTINGS, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting};

/// Columns of a comment line without its `# `.
const WIDTH: usize = 90;

const HEAD: &str = "\
# Configuration of stockbridge, with every setting.
#
# A line that begins with # and a key is switched off. It shows the default. A setting without a
# default shows an example. Remove the # to use it.
# Relative paths start at the directory of this file. Tokens, keys and passwords are never in
# this file: each is in a file of its own, or in an environment variable.
# An environment variable overrides every setting: STOCKBRIDGE_LISTEN for listen,
# STOCKBRIDGE_SHOPS_MOSCOW_PARALLEL for parallel of the shop moscow.
# Check the file with: stockbridge check --config FILE
";

/// A configuration file with every setting, its effect, rule and default in comments.
///
/// Required settings are switched on. With the secret files that they name, the file passes
/// `stockbridge check` as it is.
#[must_use]
pub fn template() -> String {
    let mut text = HEAD.to_owned();
    for (heading, settings) in [
        ("", SETTINGS),
        (
            "\n# === A shop: one stock list of the seller. Repeat the table for each. ===\n\n\
             [[shops]]\n",
            SHOP_SETTINGS,
        ),
        (
            "\n# === A source of the shop above. Repeat the table for each. ===\n\
             # A source accepts only the settings of its kind.\n\n\
             #[[shops.sources]]\n",
            SOURCE_SETTINGS,
        ),
        (
            "\n# === A channel that sends alarms to people. Repeat the table for each. ===\n\
             # A channel accepts only the settings of its kind.\n\n\
             #[[notify]]\n",
            NOTIFY_SETTINGS,
        ),
    ] {
        text.push_str(heading);
        for setting in settings {
            add_setting(&mut text, setting);
        }
    }
    text
}

fn add_setting(text: &mut String, setting: &Setting) {
    let default = setting.default_in_toml();
    let mut facts = Vec::new();
    if let Some(default) = &default {
        facts.push(format!("Default: {default}."));
    }
    if !setting.kinds.is_empty() {
        facts.push(format!("Kinds: {}.", setting.kinds.join(", ")));
    }
    text.push('\n');
    for paragraph in [
        setting.effect,
        &format!("Must be: {}.", setting.rule),
        &facts.join(" "),
    ] {
        for line in wrap(paragraph, WIDTH)
            .iter()
            .filter(|line| !line.is_empty())
        {
            let _infallible = writeln!(text, "# {line}");
        }
    }
    let value = match default {
        Some(default) if !setting.is_required => default,
        Some(_) | None => setting.example.to_owned(),
    };
    let switch = if setting.is_required { "" } else { "#" };
    let _infallible = writeln!(text, "{switch}{} = {value}", setting.key);
}

/// Lines of at most `width` characters, broken at blanks. A longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The reference of a list of settings in Markdown: a table, then a section for each setting.
///
/// `anchor` begins each section's heading, so that two lists may have the same key.
#[must_use]
pub fn settings_reference(settings: &[Setting], anchor: &str) -> String {
    let mut text = "| setting | default | must be |\n|---|---|---|\n".to_owned();
    for setting in settings {
        let default = setting
            .default_in_toml()
            .map_or("—".to_owned(), |default| format!("`{default}`"));
        let _infallible = writeln!(
            text,
            "| [`{key}`](#{anchor}-{key}) | {default} | {rule} |",
            key = setting.key,
            rule = setting.rule
        );
    }
    for setting in settings {
        let _infallible = write!(text, "\n#### {anchor}: `{}`\n\n", setting.key);
        for line in wrap(setting.effect, 110) {
            let _infallible = writeln!(text, "{line}");
        }
        if !setting.kinds.is_empty() {
            let _infallible = writeln!(text, "Kinds: {}.", setting.kinds.join(", "));
        }
        let _infallible = write!(
            text,
            "\n```toml\n{} = {}\n```\n",
            setting.key, setting.example
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const SHOP: &str = "[[shops]]\nname = \"moscow\"\nwarehouses = [569667]\ncampaign = 12345\n\
                        push_token_file = \"secrets/push_token\"\n\
                        feed_key_file = \"secrets/feed_key\"\n\
                        api_key_file = \"secrets/api_key\"\n";

    /// Directory with every file that an example names.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("secrets")).unwrap();
        for list in [SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, NOTIFY_SETTINGS] {
            for setting in list.iter().filter(|setting| setting.key.ends_with("_file")) {
                let text = match setting.key {
                    "overrides_file" => "sku,count,buffer,zero_below,cap\nA,0,,,\n",
                    "mapping_file" => "source_sku,sku,pack\nTEA,TEA-1,1\n",
                    "skus_file" => "A\n",
                    "token_file" if setting.example.contains("telegram") => "123456:canary",
                    "database_file" | "store_url_file" | "store_listen_url_file" => {
                        "postgres://reader:secret@localhost/shop"
                    }
                    _ => "canary-canary",
                };
                let file = setting.example.trim_matches('"');
                std::fs::write(directory.path().join(file), text).unwrap();
            }
        }
        directory
    }

    fn parse(text: &str, directory: &Path) -> Result<Config, String> {
        Config::parse(text, BTreeMap::new(), directory).map_err(|error| error.to_string())
    }

    /// `lines` with the line of `setting` replaced by its example, or with the example added.
    fn with_example(lines: &str, setting: &Setting) -> String {
        let kept = lines
            .lines()
            .filter(|line| line.split(" = ").next() != Some(setting.key));
        let mut text = kept.collect::<Vec<_>>().join("\n");
        let _infallible = write!(text, "\n{} = {}\n", setting.key, setting.example);
        text
    }

    #[test]
    fn the_template_is_a_valid_configuration() {
        let directory = directory();
        let config = parse(&template(), directory.path()).unwrap();
        assert_eq!(config.shops[0].name, "moscow");
    }

    #[test]
    fn the_template_has_every_setting_once() {
        let template = template();
        let keys: Vec<&str> = template
            .lines()
            .filter(|line| !line.starts_with("# "))
            .filter_map(|line| Some(line.trim_start_matches('#').split_once(" = ")?.0))
            .collect();
        let tables = SHOP_SETTINGS
            .iter()
            .chain(SOURCE_SETTINGS)
            .chain(NOTIFY_SETTINGS);
        let settings = SETTINGS.iter().chain(tables);
        assert_eq!(
            keys,
            settings.map(|setting| setting.key).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_default_of_the_template_keeps_its_rule() {
        let directory = directory();
        // The path of 1C is not that of a file, so sources are tested one by one below.
        let until_sources = template()
            .split_once("# === A source")
            .unwrap()
            .0
            .to_owned();
        let lines = until_sources
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => rest,
                _ => line,
            });
        let text = lines.collect::<Vec<_>>().join("\n");
        // A store in a database needs a name, so the default does not fit to that example.
        let text = text.replace("instance = \"\"", "instance = \"production\"");
        std::fs::write(directory.path().join("company-ca.pem"), "").unwrap();
        parse(&text, directory.path()).unwrap();
    }

    #[test]
    fn every_example_of_service_and_shop_keeps_its_rule() {
        let directory = directory();
        for setting in SETTINGS {
            let needed = match setting.key {
                "store_url_file" => "instance = \"production\"\n",
                "store_listen_url_file" | "replica" => {
                    "instance = \"production\"\nstore_url_file = \"secrets/store_url\"\n"
                }
                "sources_on" => {
                    "instance = \"production\"\nstore_url_file = \"secrets/store_url\"\n\
                     replica = \"dc-1\"\n"
                }
                _ => "",
            };
            let text = format!("{}{SHOP}", with_example(needed, setting));
            let config = parse(&text, directory.path());
            let config = config.unwrap_or_else(|e| panic!("{}: {e}", setting.key));
            if setting.min_secret_chars.is_some() {
                let file = directory.path().join(setting.example.trim_matches('"'));
                assert!(config.secret_files.contains(&file), "{}", setting.key);
            }
        }
        for setting in SHOP_SETTINGS {
            let text = with_example(SHOP, setting);
            parse(&text, directory.path()).unwrap_or_else(|e| panic!("{}: {e}", setting.key));
        }
    }

    #[test]
    fn a_source_accepts_exactly_the_settings_of_its_kind() {
        let directory = directory();
        // A few settings need another one; a kind accepts a setting if one of its tables does.
        let tables = [
            ("file", "path = \"a.csv\"\n"),
            ("file", "path = \"a.csv\"\nscope = \"snapshot\"\n"),
            ("file", "url = \"https://a.example/a.csv\"\n"),
            (
                "file",
                "url = \"https://a.example/a.csv\"\nlogin = \"a\"\npassword_file = \"secrets/password\"\n",
            ),
            (
                "legacy",
                "url = \"https://a.example\"\ntoken_file = \"secrets/token\"\n",
            ),
            (
                "1c",
                "path = \"/exchange\"\nlogin = \"exchange\"\npassword_file = \"secrets/password\"\n",
            ),
            (
                "1c",
                "path = \"/exchange\"\nlogin = \"exchange\"\npassword_file = \"secrets/password\"\n\
                 scope = \"snapshot\"\n",
            ),
            ("moysklad", "token_file = \"secrets/token\"\n"),
            (
                "moysklad",
                "login = \"a\"\npassword_file = \"secrets/password\"\n",
            ),
            (
                "sql",
                "database_file = \"secrets/database_url\"\nquery = \"SELECT sku, quantity FROM a\"\n",
            ),
            (
                "sql",
                "database_file = \"secrets/database_url\"\n\
                 query = \"SELECT sku, quantity, changed_at FROM a WHERE changed_at > :since\"\n",
            ),
        ];
        for setting in SOURCE_SETTINGS
            .iter()
            .filter(|setting| setting.key != "kind")
        {
            let mut kinds: Vec<&str> = Vec::new();
            for (kind, lines) in tables {
                // The path of an exchange is one of a URL, so the table's own path is kept.
                let lines = match (kind, setting.key) {
                    ("1c", "path") => lines.to_owned(),
                    _ => with_example(lines, setting),
                };
                let name = if setting.key == "name" {
                    ""
                } else {
                    "name = \"erp\"\n"
                };
                let text = format!("{SHOP}[[shops.sources]]\n{name}kind = \"{kind}\"\n{lines}");
                if parse(&text, directory.path()).is_ok() && !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            assert_eq!(kinds, setting.kinds, "{}", setting.key);
        }
    }

    #[test]
    fn a_channel_accepts_exactly_the_settings_of_its_kind() {
        let directory = directory();
        let tables = [
            ("webhook", "url = \"https://a.example\"\n"),
            (
                "telegram",
                "token_file = \"secrets/telegram_token\"\nchat = -100\n",
            ),
            (
                "email",
                "server = \"smtp.example\"\nfrom = \"a@a.example\"\nto = [\"b@a.example\"]\n\
                 login = \"a\"\npassword_file = \"secrets/mail_password\"\n",
            ),
        ];
        for setting in NOTIFY_SETTINGS
            .iter()
            .filter(|setting| setting.key != "kind")
        {
            let accepts = |(kind, lines): &(&str, &str)| {
                let lines = with_example(lines, setting);
                let name = if setting.key == "name" {
                    ""
                } else {
                    "name = \"ops\"\n"
                };
                let text = format!("{SHOP}[[notify]]\n{name}kind = \"{kind}\"\n{lines}");
                parse(&text, directory.path()).is_ok()
            };
            let kinds = tables.iter().filter(|table| accepts(table));
            let kinds: Vec<&str> = kinds.map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, setting.kinds, "{}", setting.key);
        }
    }

    #[test]
    fn every_setting_has_an_effect_in_sentences() {
        let tables = SHOP_SETTINGS
            .iter()
            .chain(SOURCE_SETTINGS)
            .chain(NOTIFY_SETTINGS);
        for setting in SETTINGS.iter().chain(tables) {
            assert!(setting.effect.ends_with('.'), "{}", setting.key);
            assert!(!setting.effect.contains(['|', '\n']), "{}", setting.key);
        }
    }

    #[test]
    fn wraps_at_blanks_and_keeps_long_words() {
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefg h", 5), ["abcdefg", "h"]);
    }
}

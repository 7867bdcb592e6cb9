//! The README and the files in `docs/`: their samples, commands, links and settings are true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use serde_json::Value;
use stockbridge::cli::Cli;
use stockbridge::config::{self, NOTIFY_SETTINGS, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS};

/// Secrets that the samples name, and content that each accepts.
const FILES: &[(&str, &str)] = &[
    (
        "store_url",
        "postgres://stockbridge:secret@localhost/stockbridge",
    ),
    (
        "store_listen_url",
        "postgres://stockbridge:secret@localhost/stockbridge",
    ),
    (
        "push_token",
        "41FBAC4A763D480999DAEDAC09B36CBB200000016A894A28",
    ),
    ("feed_key", "any-secret-of-your-own"),
    ("api_key", "ACMA:key"),
    ("ops_password", "a-long-password"),
    ("1c_password", "a-long-password"),
    ("site_password", "a-long-password"),
    ("moysklad_token", "token"),
    ("handler_token", "token"),
    ("webhook_secret", "any-secret-of-your-own"),
    ("telegram_token", "123456:token"),
    ("mail_password", "a-long-password"),
    ("database_url", "postgres://reader:secret@db/shop"),
    ("overrides.csv", "sku,count,buffer,zero_below,cap\nA,0,,,\n"),
    ("mapping.csv", "source_sku,sku,pack\nTEA,TEA-1,1\n"),
    ("skus.txt", "A\n"),
    ("company-ca.pem", ""),
];

/// Settings of a replica, to which a sample of one further setting is added.
const REPLICA: &str =
    "instance = \"production\"\nstore_url_file = \"store_url\"\nreplica = \"dc-2\"\n";

/// Shop to which a sample of single settings is added.
const SHOP: &str = "[[shops]]\nname = \"sample\"\nwarehouses = [569667]\ncampaign = 12345\n\
                    push_token_file = \"push_token\"\nfeed_key_file = \"feed_key\"\n\
                    api_key_file = \"api_key\"\n";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the documentation.
pub(crate) struct Document {
    /// Path from the root of the tree.
    pub(crate) name: String,
    text: String,
}

/// A fenced block of a document.
pub(crate) struct Block {
    pub(crate) place: String,
    pub(crate) info: String,
    pub(crate) text: String,
}

pub(crate) fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = ["README.md", "README.ru.md", "README.zh.md"]
        .iter()
        .map(|name| root().join(name))
        .filter(|path| path.exists())
        .collect();
    for folder in ["docs", "docs/ru"] {
        let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten();
        paths.extend(entries.map(|entry| entry.unwrap().path()));
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "md"));
    paths.sort();
    let document = |path: &PathBuf| Document {
        name: path.strip_prefix(root()).unwrap().display().to_string(),
        text: std::fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(document).collect()
}

impl Document {
    pub(crate) fn is_translation(&self) -> bool {
        let name = &self.name;
        name.starts_with("docs/ru/") || name == "README.ru.md" || name == "README.zh.md"
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_open = false;
        for (index, line) in self.text.lines().enumerate() {
            let indented = line.trim_start();
            if let Some(info) = indented.strip_prefix("```") {
                is_open = !is_open;
                if is_open {
                    blocks.push(Block {
                        place: format!("{}:{}", self.name, index + 1),
                        info: info.to_owned(),
                        text: String::new(),
                    });
                }
            } else if is_open {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
        assert!(!is_open, "{}: a block is not closed", self.name);
        blocks
    }

    /// Lines outside of blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_open = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_open ^= is_fence;
            !is_open && !is_fence
        })
    }

    /// Fragments that links may name, as GitHub makes them of headings.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose().filter(|line| line.starts_with('#'));
        let anchor = |line: &str| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

fn blocks() -> Vec<Block> {
    documents().iter().flat_map(Document::blocks).collect()
}

/// Directory with the files that samples name.
pub(crate) fn sample_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

/// Accepts or rejects a configuration as `check` does, without an environment.
fn check(text: &str, directory: &Path) -> Result<(), String> {
    let text = text
        .replace("/run/secrets/", "")
        .replace("/etc/stockbridge/", "")
        .replace("secrets/", "");
    config::Config::parse(&text, [].into(), directory)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[test]
fn configuration_samples_pass_check() {
    let directory = sample_directory();
    let mut errors = Vec::new();
    let mut checked = 0;
    for block in blocks() {
        let text = &block.text;
        let configuration = match block.info.as_str() {
            "toml config" => text.clone(),
            // A page shows the settings of a replica once.
            "toml top" if text.starts_with("sources_on = ") => format!("{REPLICA}{text}\n{SHOP}"),
            "toml top" => format!("{text}\n{SHOP}"),
            "toml shop" => {
                let keys: Vec<&str> = text
                    .lines()
                    .filter_map(|line| line.split(" = ").next())
                    .collect();
                let kept = SHOP
                    .lines()
                    .filter(|line| !keys.contains(&line.split(" = ").next().unwrap_or_default()));
                format!("{}\n{text}", kept.collect::<Vec<_>>().join("\n"))
            }
            "toml notify" => format!("{SHOP}\n[[notify]]\n{text}"),
            "toml source" => format!("{SHOP}\n[[shops.sources]]\n{text}"),
            _ => continue,
        };
        checked += 1;
        if let Err(error) = check(&configuration, directory.path()) {
            errors.push(format!("{}: {error}", block.place));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(checked >= 15, "only {checked} samples were found");
}

/// Commands of a shell block, without comments and with continued lines joined.
pub(crate) fn shell_lines(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(ToOwned::to_owned)
        .collect()
}

/// Words of the first command of a line, with quotes removed; it ends at `|`, `>`, `&` or `;`.
pub(crate) fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Arguments of the program in a `docker run` or `docker exec` command; `None` for other commands,
/// and if only the image is named. A container or an image may also be called `stockbridge`: the
/// last one of these words comes right before the arguments. A redirection ends them.
fn docker_args(words: &[String]) -> Option<Vec<String>> {
    if !matches!(words.get(1)?.as_str(), "run" | "exec") {
        return None;
    }
    let last = words.iter().rposition(|word| word == "stockbridge")?;
    let args = words[last + 1..].iter().take_while(|word| *word != "<");
    let args: Vec<String> = args.cloned().collect();
    let is_name = words[last - 1] == "--name";
    (!args.is_empty() && !is_name).then_some(args)
}

#[test]
fn arguments_in_docker_commands_are_found() {
    let args = |line: &str| docker_args(&shell_words(line)).map(|args| args.join(" "));
    for (line, expected) in [
        ("docker build -t stockbridge .", None),
        (
            "docker run -d --name stockbridge -v stock:/data stockbridge",
            None,
        ),
        (
            "docker run -d --name stockbridge -v stock:/data other",
            None,
        ),
        ("docker run --rm stockbridge rehearse", Some("rehearse")),
        ("docker exec stockbridge stockbridge ready", Some("ready")),
        (
            "docker exec -i stockbridge stockbridge import /dev/stdin < stock.csv",
            Some("import /dev/stdin"),
        ),
        ("docker inspect stockbridge", None),
    ] {
        assert_eq!(args(line).as_deref(), expected, "{line}");
    }
}

#[test]
fn commands_of_the_docs_are_accepted() {
    let mut errors = Vec::new();
    let mut checked = 0;
    for block in blocks().iter().filter(|block| block.info == "sh") {
        for line in shell_lines(&block.text) {
            let words = shell_words(&line);
            let ours = words
                .iter()
                .position(|word| word == "stockbridge" || word.ends_with("/stockbridge"));
            let args = match (words.first().map(String::as_str), ours) {
                // `cargo run --release -- rehearse`
                (Some("cargo"), _) if words.get(1).is_some_and(|word| word == "run") => {
                    let Some(at) = words.iter().position(|word| word == "--") else {
                        errors.push(format!(
                            "{}: {line}: no `--` before the command",
                            block.place
                        ));
                        continue;
                    };
                    words[at + 1..].to_vec()
                }
                (Some("stockbridge"), _) => words[1..].to_vec(),
                (Some("docker"), _) => match docker_args(&words) {
                    Some(args) => args,
                    None => continue,
                },
                (Some("sudo" | "time"), Some(at)) => words[at + 1..].to_vec(),
                _ => continue,
            };
            checked += 1;
            let parsed = Cli::try_parse_from(std::iter::once("stockbridge".to_owned()).chain(args));
            if let Err(error) = parsed
                && error.use_stderr()
            {
                errors.push(format!("{}: {line}: {error}", block.place));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(checked >= 20, "only {checked} commands were found");
}

#[test]
fn json_samples_are_json() {
    for block in blocks().iter().filter(|block| block.info == "json") {
        let parsed: Result<Value, _> = serde_json::from_str(&block.text);
        assert!(parsed.is_ok(), "{}: {parsed:?}", block.place);
    }
}

/// Targets of Markdown links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_lead_to_files_and_headings() {
    let documents = documents();
    let mut errors = Vec::new();
    for document in &documents {
        let folder = Path::new(&document.name).parent().unwrap();
        for link in document.prose().flat_map(links) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.name.clone()
            } else {
                normalized(&folder.join(file))
            };
            if !root().join(&target).exists() {
                errors.push(format!("{}: {link}: the file is missing", document.name));
            } else if !anchor.is_empty() {
                let other = documents.iter().find(|other| other.name == target);
                let is_there = other.is_some_and(|other| other.anchors().contains(anchor));
                if !is_there {
                    errors.push(format!("{}: {link}: the heading is missing", document.name));
                }
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// A relative path without `..`.
fn normalized(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().unwrap().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Compares a generated file with the one in the tree. The right one is written to the target
/// directory, from where it can be copied.
fn assert_generated(name: &str, expected: &str) {
    let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace('/', "-"));
    std::fs::write(&right, expected).unwrap();
    let found = std::fs::read_to_string(root().join(name)).unwrap_or_default();
    assert!(
        found == expected,
        "{name} is not what the code generates: cp {} {name}",
        right.display()
    );
}

#[test]
fn the_settings_reference_is_generated() {
    let name = "docs/configuration.md";
    let text = std::fs::read_to_string(root().join(name)).unwrap();
    let mut expected = text;
    for (group, settings) in [
        ("service", SETTINGS),
        ("shop", SHOP_SETTINGS),
        ("source", SOURCE_SETTINGS),
        ("notify", NOTIFY_SETTINGS),
    ] {
        let mark = format!("<!-- settings: {group} -->\n");
        let (before, rest) = expected.split_once(&mark).unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let reference = config::settings_reference(settings, group);
        expected = format!("{before}{mark}\n{reference}\n<!-- end -->{after}");
    }
    assert_generated(name, &expected);
}

#[test]
fn the_example_configuration_is_the_template() {
    assert_generated("docs/config.example.toml", &config::template());
}

#[test]
fn settings_fit_into_markdown_tables() {
    let tables = SHOP_SETTINGS
        .iter()
        .chain(SOURCE_SETTINGS)
        .chain(NOTIFY_SETTINGS);
    for setting in SETTINGS.iter().chain(tables) {
        let text = format!("{}{}", setting.rule, setting.default.unwrap_or_default());
        assert!(!text.contains(['|', '`', '\n']), "{}", setting.key);
    }
}

#[test]
fn the_readme_stays_short() {
    for document in documents() {
        if document.name.starts_with("README") {
            let lines = document.text.lines().count();
            assert!(lines <= 250, "{} has {lines} lines", document.name);
        }
    }
}

#[test]
fn every_alarm_is_documented() {
    let operations = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut missing = String::new();
    for alarm in stockbridge::telemetry::AlarmKind::ALL {
        if !operations.contains(&format!("| `{}` |", alarm.name())) {
            let _infallible = writeln!(missing, "{}", alarm.name());
        }
    }
    assert!(missing.is_empty(), "docs/operations.md lacks:\n{missing}");
}

/// Translations, each with its original.
const TRANSLATIONS: &[(&str, &str)] = &[
    ("README.ru.md", "README.md"),
    ("README.zh.md", "README.md"),
    ("docs/ru/sources.md", "docs/sources.md"),
    ("docs/ru/operations.md", "docs/operations.md"),
    ("docs/ru/switch-over.md", "docs/switch-over.md"),
    ("docs/ru/faq.md", "docs/faq.md"),
    ("docs/ru/replicas.md", "docs/replicas.md"),
];

/// Code spans of the prose, sorted.
fn code_spans(document: &Document) -> Vec<String> {
    let text: String = document.prose().flat_map(|line| [line, "\n"]).collect();
    let mut spans: Vec<String> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    spans.sort();
    spans
}

/// Numbers of the prose outside of code spans and link targets, without separators, sorted.
fn numbers(document: &Document) -> Vec<String> {
    let mut numbers = Vec::new();
    for line in document.prose() {
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ` ");
        let mut text = String::new();
        for (index, part) in outside.split("](").enumerate() {
            let kept = match index {
                0 => part,
                _ => part.split_once(')').map_or("", |(_, rest)| rest),
            };
            text.push_str(kept);
            text.push(' ');
        }
        let chars: Vec<char> = text.chars().collect();
        let mut number = String::new();
        for (index, c) in chars.iter().enumerate() {
            let follows = |count: usize| {
                let next = chars.iter().skip(index + 1);
                next.take_while(|c| c.is_ascii_digit()).count() >= count
            };
            match c {
                c if c.is_ascii_digit() => number.push(*c),
                // `10,000`, `10 000` and `0,5` are `10000` and `05`.
                ',' | '.' if !number.is_empty() && follows(1) => {}
                ' ' | '\u{a0}' | '\u{202f}' if !number.is_empty() && follows(3) => {}
                _ => numbers.extend(Some(std::mem::take(&mut number)).filter(|n| !n.is_empty())),
            }
        }
        numbers.extend(Some(number).filter(|n| !n.is_empty()));
    }
    numbers.sort();
    numbers
}

/// Entries that only one of two sorted lists has.
fn difference(one: &[String], other: &[String]) -> String {
    let missing = |from: &[String], to: &[String]| {
        let mut rest = to.to_vec();
        let mut missing = from.to_vec();
        missing.retain(|entry| match rest.iter().position(|other| other == entry) {
            Some(at) => {
                rest.remove(at);
                false
            }
            None => true,
        });
        missing
    };
    format!(
        "missing {:?}, additional {:?}",
        missing(one, other),
        missing(other, one)
    )
}

#[test]
fn translations_have_the_same_code_and_numbers() {
    let documents = documents();
    let find = |name: &str| {
        let found = documents.iter().find(|document| document.name == name);
        found.unwrap_or_else(|| panic!("{name} is missing"))
    };
    let mut errors = Vec::new();
    for (translation, original) in TRANSLATIONS {
        let (translated, original) = (find(translation), find(original));
        let code = |document: &Document| -> Vec<(String, String)> {
            let blocks = document.blocks().into_iter();
            blocks.map(|block| (block.info, block.text)).collect()
        };
        let (ours, theirs) = (code(translated), code(original));
        if ours.len() != theirs.len() {
            errors.push(format!(
                "{translation}: {} blocks, not {}",
                ours.len(),
                theirs.len()
            ));
        }
        for (index, (one, other)) in ours.iter().zip(&theirs).enumerate() {
            if one != other {
                errors.push(format!(
                    "{translation}: block {} differs:\n{}",
                    index + 1,
                    other.1
                ));
            }
        }
        for (what, list) in [
            ("code", code_spans as fn(&Document) -> Vec<String>),
            ("numbers", numbers),
        ] {
            let (ours, theirs) = (list(translated), list(original));
            if ours != theirs {
                errors.push(format!(
                    "{translation}: {what}: {}",
                    difference(&theirs, &ours)
                ));
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn separators_do_not_change_a_number() {
    let document = |text: &str| Document {
        name: String::new(),
        text: text.to_owned(),
    };
    let english = document("10,000 of 0.5 in `12` [a 3](x4.md) at 27 s and 100,000");
    let russian = document("10 000 из 0,5 в `12` [a 3](y5.md), 27 с и 100 000");
    assert_eq!(numbers(&english), ["05", "10000", "100000", "27", "3"]);
    assert_eq!(numbers(&english), numbers(&russian));
    assert_eq!(code_spans(&english), ["12"]);
}

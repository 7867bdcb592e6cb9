//! The measurable rules for names and texts: openings of doc comments, words that are not used,
//! type names, length of files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Words that make a sentence hard to read. They occur in no text and no name.
const UNUSED_WORDS: &[&str] = &[
    "nobody",
    "somebody",
    "whoever",
    "told",
    "said",
    "heard",
    "stands",
    "mend",
    "anew",
    "lately",
    "set aside",
    "is no",
];

/// Words that are names of SQL columns in files on disk, with the folders of those statements.
const SQL_COLUMNS: &[(&str, &str)] = &[
    ("src/sources/statements/", "said"),
    ("src/sources/pipeline/tests.rs", "said"),
];

/// Openings of a doc comment that name neither a thing nor an action.
const RIDDLES: &[&str] = &["What", "How", "Whether", "Which", "Its", "It"];

/// At most this part of all doc comments opens with a riddle, in percent.
const MAX_RIDDLES_PERCENT: usize = 5;

/// Type names that every reader qualifies by their module.
const CONVENTIONAL_TYPES: &[&str] = &[
    "Config", "Error", "Metrics", "Args", "Context", "State", "Row", "Visitor",
];

/// Lines of a file before its in-file tests.
const MAX_PRODUCTION_LINES: usize = 450;

struct Source {
    /// Path from the root of the tree.
    name: String,
    text: String,
}

/// Every file below these folders that ends in one of `ends`, but not this one.
fn files(folders: &[&str], ends: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path
            .extension()
            .is_some_and(|end| ends.iter().any(|wanted| end == *wanted))
        {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let text = std::fs::read_to_string(&path).unwrap();
            found.push(Source { name, text });
        }
    }
    found.retain(|source| source.name != file!());
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn rust_files() -> Vec<Source> {
    files(&["src", "crates", "tests", "benches", "fuzz/src"], &["rs"])
}

/// Code before the module with in-file tests. `mod tests;` declares a file and ends nothing.
pub(crate) fn production_code(code: &str) -> &str {
    let mark = "\n#[cfg(test)]\nmod ";
    let is_in_file = |at: &usize| {
        let rest = code.get(at + mark.len()..).unwrap_or_default();
        rest.lines().next().is_some_and(|line| line.ends_with('{'))
    };
    let end = code.match_indices(mark).map(|(at, _)| at).find(is_in_file);
    end.and_then(|end| code.get(..end)).unwrap_or(code)
}

/// True if `text` contains the words of `phrase` one after the other. `_` separates words, so that
/// the parts of a name count.
fn contains_word(text: &str, phrase: &str) -> bool {
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" ")).contains(&format!(" {phrase} "))
}

#[test]
fn texts_and_names_avoid_unused_words() {
    let documents = files(&["README.md", "docs"], &["md"]);
    let english = documents
        .into_iter()
        .filter(|source| !source.name.starts_with("docs/ru"));
    let mut found = Vec::new();
    for source in rust_files().into_iter().chain(english) {
        for (index, line) in source.text.lines().enumerate() {
            for word in UNUSED_WORDS.iter().filter(|word| contains_word(line, word)) {
                let mut columns = SQL_COLUMNS.iter();
                if !columns.any(|(path, column)| source.name.starts_with(path) && column == word) {
                    found.push(format!("{}:{}: {word}", source.name, index + 1));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} lines:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn doc_comments_open_with_a_thing_or_an_action() {
    let mut total = 0;
    let mut riddles = Vec::new();
    for source in rust_files() {
        let mut is_inside = false;
        for (index, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            let doc = line
                .strip_prefix("///")
                .or_else(|| line.strip_prefix("//!"));
            if let Some(text) = doc
                && !is_inside
            {
                total += 1;
                let first = text
                    .trim_start()
                    .split(|c: char| !c.is_alphanumeric())
                    .next();
                if first.is_some_and(|word| RIDDLES.contains(&word)) {
                    riddles.push(format!("{}:{}: {line}", source.name, index + 1));
                }
            }
            is_inside = doc.is_some();
        }
    }
    assert!(
        riddles.len() * 100 <= total * MAX_RIDDLES_PERCENT,
        "{} of {total}:\n{}",
        riddles.len(),
        riddles.join("\n")
    );
}

/// The type that a line defines.
fn defined_type(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')')?.1,
        Some(rest) => rest,
        None => line,
    };
    let (keyword, rest) = line.trim_start().split_once(' ')?;
    let is_definition = matches!(keyword, "struct" | "enum" | "trait" | "type" | "union");
    let name = rest.split(|c: char| !c.is_alphanumeric()).next()?;
    let is_type = name.starts_with(|c: char| c.is_ascii_uppercase());
    (is_definition && is_type).then_some(name)
}

#[test]
fn each_type_name_is_used_once() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in rust_files() {
        for (index, line) in source.text.lines().enumerate() {
            // The name of an associated type is that of its trait.
            if line.trim_start() != line && line.trim_start().starts_with("type ") {
                continue;
            }
            if let Some(name) = defined_type(line) {
                let place = format!("{}:{}", source.name, index + 1);
                places.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    places.retain(|name, places| places.len() > 1 && !CONVENTIONAL_TYPES.contains(&name.as_str()));
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn no_source_file_is_too_long() {
    let is_test_file = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or(name);
        file == "tests.rs"
            || file.starts_with("tests_")
            || file.ends_with("_tests.rs")
            || name.contains("/tests/")
    };
    let too_long: Vec<String> = files(&["src", "crates", "benches", "fuzz/src"], &["rs"])
        .iter()
        .filter(|source| !is_test_file(&source.name))
        .filter_map(|source| {
            let production = production_code(&source.text);
            let lines = production.lines().count();
            (lines > MAX_PRODUCTION_LINES).then(|| format!("{}: {lines} lines", source.name))
        })
        .collect();
    assert!(too_long.is_empty(), "{}", too_long.join("\n"));
}

#[test]
fn definitions_are_recognised() {
    for (line, name) in [
        ("pub struct Sku(String);", Some("Sku")),
        ("pub(crate) enum Count<T> {", Some("Count")),
        ("    struct Inner {", Some("Inner")),
        ("type Pairs = Vec<(u8, u8)>;", Some("Pairs")),
        ("pub fn structure() {", None),
        ("// struct Comment", None),
        ("union all select 1", None),
    ] {
        assert_eq!(defined_type(line), name, "{line}");
    }
    assert!(contains_word("it is_told here", "told"));
    assert!(contains_word("Nobody knows", "nobody"));
    assert!(!contains_word("a stoldt", "told"));
    let declared = "use a;\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod cases {}";
    assert_eq!(production_code(declared), declared);
    let in_file = "fn b() {}\n#[cfg(test)]\nmod tests {\n}";
    assert_eq!(production_code(in_file), "fn b() {}");
}

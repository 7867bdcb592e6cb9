//! The Debian package: its unit, its scripts and its list of files agree with each other, with the program
//! and with the docs.

use std::collections::BTreeMap;

use clap::Parser as _;
use stockbridge::cli::Cli;
use stockbridge::config;
use toml::{Table, Value};

use crate::docs::root;

const UNIT: &str = "packaging/stockbridge.service";
const RELEASE_SCRIPT: &str = "packaging/release";

/// Directory in which the release script makes files of the package.
const GENERATED: &str = "target/packaging/";

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Assignments of the unit. Of a name that occurs twice, the last one.
fn unit_settings() -> BTreeMap<String, String> {
    let text = read(UNIT);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Cells of the rows of the table of `docs/operations.md` whose head begins with `first`.
fn operations_table(first: &str) -> Vec<Vec<String>> {
    let text = read("docs/operations.md");
    let head = format!("| {first} |");
    let rows = text.lines().skip_while(|line| !line.starts_with(&head));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// Text of a cell that consists of one code span.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

fn deb_metadata() -> Table {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"]
        .as_table()
        .unwrap()
        .clone()
}

/// Source and destination of each file of the package.
fn assets() -> Vec<(String, String)> {
    let deb = deb_metadata();
    let assets = deb["assets"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assets
        .map(|asset| (text(&asset[0]), text(&asset[1])))
        .collect()
}

#[test]
fn the_unit_has_the_documented_settings() {
    let unit = unit_settings();
    let mut compared = Vec::new();
    for row in operations_table("setting") {
        let name = code(&row[0]).unwrap();
        let value = unit
            .get(name)
            .unwrap_or_else(|| panic!("{UNIT} lacks {name}"));
        if let Some(documented) = code(&row[1]) {
            assert_eq!(value, documented, "{name} of {UNIT}");
            compared.push(name.to_owned());
        }
    }
    let expected = [
        "Restart",
        "RestartPreventExitStatus",
        "TimeoutStopSec",
        "LimitNOFILE",
        "ExecReload",
    ];
    assert_eq!(compared, expected);
}

#[test]
fn exit_codes_without_restart_are_in_the_unit() {
    let rows = operations_table("exit code").into_iter();
    let codes: Vec<String> = rows
        .filter(|row| row[2] == "no")
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(codes.join(" "), unit_settings()["RestartPreventExitStatus"]);
}

#[test]
fn the_unit_starts_the_packaged_program() {
    let unit = unit_settings();
    let words: Vec<&str> = unit["ExecStart"].split(' ').collect();
    Cli::try_parse_from(&words).unwrap();
    let installed: Vec<String> = assets()
        .into_iter()
        .map(
            |(source, destination)| match destination.strip_suffix('/') {
                Some(folder) => format!("/{folder}/{}", source.rsplit('/').next().unwrap()),
                None => format!("/{destination}"),
            },
        )
        .collect();
    for file in words.iter().filter(|word| word.starts_with('/')) {
        assert!(installed.iter().any(|known| known == file), "{file}");
    }
}

#[test]
fn files_of_the_package_exist() {
    let script = read(RELEASE_SCRIPT);
    let mut checked = 0;
    for (source, _) in assets() {
        if source.starts_with("target/release/") {
            continue;
        }
        checked += 1;
        if source.starts_with(GENERATED) {
            let makes = script
                .lines()
                .any(|line| line.ends_with(&format!("> {source}")));
            assert!(makes, "{RELEASE_SCRIPT} does not make {source}");
        } else {
            let pattern = root().join(&source);
            let mut found = glob::glob(pattern.to_str().unwrap()).unwrap();
            assert!(found.next().is_some(), "{source} does not exist");
        }
    }
    assert!(checked >= 10, "only {checked} files are listed");
    let deb = deb_metadata();
    let scripts = deb["maintainer-scripts"].as_str().unwrap();
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    read(&format!("{units}/stockbridge.service"));
    for file in ["postinst", "postrm"] {
        // cargo-deb replaces this line with the commands for the unit and the user.
        let text = read(&format!("{scripts}/{file}"));
        assert!(text.contains("\n#DEBHELPER#\n"), "{file}");
    }
}

#[test]
fn the_user_of_the_unit_is_created() {
    let (source, _) = assets()
        .into_iter()
        .find(|(_, destination)| destination.contains("sysusers.d/"))
        .unwrap();
    let user = format!("u {} ", unit_settings()["User"]);
    assert!(read(&source).lines().any(|line| line.starts_with(&user)));
}

#[test]
fn the_packaged_store_is_the_state_directory() {
    let directory = format!("/var/lib/{}", unit_settings()["StateDirectory"]);
    let setting = format!("store = \"{directory}\"");
    let template = config::template();
    let lines = template
        .lines()
        .filter(|line| line.starts_with("#store = "));
    assert_eq!(lines.count(), 1, "the release script replaces this line");
    for file in [RELEASE_SCRIPT, "docs/release.md"] {
        assert!(read(file).contains(&setting), "{file} lacks {setting}");
    }
    let purge = read("packaging/debian/postrm");
    let removal = purge.lines().find(|line| line.contains("rm -rf"));
    assert!(removal.is_some_and(|line| line.contains(&directory)));
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = read("packaging/debian/changelog");
    let expected = concat!("stockbridge (", env!("CARGO_PKG_VERSION"), "-1) ");
    assert!(changelog.starts_with(expected), "{changelog}");
}

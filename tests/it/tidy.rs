//! The doors: which room may name which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may name besides itself. Clock, lifecycle and telemetry are the ground
/// services: any room but `stock` may call them, and they name none.
const DOORS: &[(&str, &[&str])] = &[
    ("stock", &[]),
    ("clock", &[]),
    ("lifecycle", &[]),
    ("telemetry", &["clock"]),
    ("auth_failures", &["clock", "http", "telemetry"]),
    ("history", &["stock"]),
    ("http", &["lifecycle"]),
    ("store", &["stock"]),
    (
        "ingest",
        &["stock", "store", "clock", "lifecycle", "telemetry"],
    ),
    (
        "legacy",
        &[
            "stock",
            "auth_failures",
            "http",
            "clock",
            "lifecycle",
            "telemetry",
        ],
    ),
    (
        "partner",
        &[
            "stock",
            "auth_failures",
            "http",
            "ingest",
            "clock",
            "lifecycle",
            "telemetry",
        ],
    ),
    ("migrator", MIGRATOR),
    ("sources", SOURCES),
    (
        "rehearsal",
        &["stock", "legacy", "partner", "http", "clock", "lifecycle"],
    ),
    ("ops", OPS),
    ("config", CONFIG),
    ("app", EVERYTHING),
    (
        "cli",
        &[
            "app",
            "clock",
            "config",
            "http",
            "lifecycle",
            "migrator",
            "ops",
            "partner",
            "rehearsal",
            "sources",
            "stock",
            "store",
            "telemetry",
        ],
    ),
];

const MIGRATOR: &[&str] = &[
    "stock",
    "store",
    "history",
    "partner",
    "http",
    "clock",
    "lifecycle",
    "telemetry",
];

const SOURCES: &[&str] = &[
    "stock",
    "store",
    "auth_failures",
    "ingest",
    "legacy",
    "http",
    "clock",
    "lifecycle",
    "telemetry",
];

const CONFIG: &[&str] = &[
    "stock",
    "auth_failures",
    "http",
    "ingest",
    "legacy",
    "partner",
    "migrator",
    "sources",
    "telemetry",
];

const OPS: &[&str] = &[
    "stock",
    "store",
    "history",
    "http",
    "ingest",
    "legacy",
    "migrator",
    "sources",
    "clock",
    "lifecycle",
    "telemetry",
];

const EVERYTHING: &[&str] = &[
    "stock",
    "auth_failures",
    "clock",
    "lifecycle",
    "telemetry",
    "history",
    "http",
    "store",
    "ingest",
    "legacy",
    "partner",
    "migrator",
    "sources",
    "ops",
    "config",
];

/// Which part of a room is meant, where not all of it is open to all.
const NARROW_DOORS: &[(&str, &str, &[&str])] = &[
    ("migrator", "partner", &["client", "hidden", "page", "wire"]),
    ("migrator", "http", &["secret"]),
    ("config", "partner", &["wire"]),
    ("cli", "partner", &["cabinet", "client", "wire"]),
    ("cli", "migrator", &["Mode", "reconcile"]),
    ("cli", "ops", &["access"]),
    ("cli", "store", &["Presence", "presence"]),
    ("rehearsal", "partner", &["wire"]),
    ("rehearsal", "legacy", &["wire"]),
    ("sources", "legacy", &["client", "wire"]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with the room it belongs to and its text without comments.
fn files() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(source()).unwrap();
            let first = relative
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            found.push((room, path.clone(), code.collect::<Vec<_>>().join("\n")));
        }
    }
    found.retain(|(room, _, _)| room != "main" && room != "lib");
    found
}

/// The `a::b` of every `crate::a::b` in a text; `b` is empty where only `a` is named.
fn names(code: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.split("crate::")
        .skip(1)
        .map(|rest| {
            let mut parts = rest.split("::");
            let mut part = || {
                parts
                    .next()
                    .unwrap_or_default()
                    .split(|c| !is_name(c))
                    .next()
                    .unwrap_or_default()
            };
            (part().to_owned(), part().to_owned())
        })
        .filter(|(room, _)| !room.is_empty())
        .collect()
}

#[test]
fn rooms_meet_only_where_there_is_a_door() {
    let doors: BTreeMap<_, _> = DOORS.iter().copied().collect();
    let mut broken = Vec::new();
    for (room, path, code) in files() {
        let open = doors
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} has no doors listed"));
        for (other, part) in names(&code) {
            let is_open = other == room || open.contains(&other.as_str());
            let is_wide = NARROW_DOORS.iter().all(|(from, to, parts)| {
                (*from, *to) != (room.as_str(), other.as_str()) || parts.contains(&part.as_str())
            });
            if !is_open || !is_wide {
                broken.push(format!("{} names crate::{other}::{part}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_server_side_of_partner_feeds_the_shop() {
    for (room, path, code) in files() {
        if room == "partner" && !path.starts_with(source().join("partner/server")) {
            assert!(!code.contains("crate::ingest"), "{}", path.display());
        }
    }
}

#[test]
fn the_ground_floor_needs_no_runtime() {
    for (room, path, code) in files() {
        if room == "stock" {
            for runtime in [
                "tokio", "axum", "hyper", "tower", "reqwest", "std::fs", "std::net",
            ] {
                assert!(
                    !code.contains(runtime),
                    "{} names {runtime}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn nobody_but_ingest_and_replay_writes_the_book() {
    let writes = |code: &str| code.contains("book.apply(") || code.contains("book.restore(");
    let writers: Vec<_> = files()
        .into_iter()
        .filter(|(room, _, code)| room != "stock" && writes(code))
        .map(|(room, _, _)| room)
        .collect();
    assert!(
        writers
            .iter()
            .all(|room| room == "ingest" || room == "store"),
        "{writers:?}"
    );
}

#[test]
fn the_front_page_of_the_program_stays_short() {
    let main = std::fs::read_to_string(source().join("main.rs")).unwrap();
    assert!(main.lines().count() < 60);
}

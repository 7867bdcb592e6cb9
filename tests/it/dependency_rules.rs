//! The doors: which room may name which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may name besides itself. Clock, lifecycle and telemetry are the ground
/// services: any room but `stock` may call them, and they name none.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
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
        "push_api",
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
        "partner_api",
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
        "market_sim",
        &[
            "stock",
            "push_api",
            "partner_api",
            "http",
            "clock",
            "lifecycle",
        ],
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
            "partner_api",
            "market_sim",
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
    "partner_api",
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
    "push_api",
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
    "push_api",
    "partner_api",
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
    "push_api",
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
    "push_api",
    "partner_api",
    "migrator",
    "sources",
    "ops",
    "config",
];

/// Which part of a room is meant, where not all of it is open to all.
const ALLOWED_ITEMS: &[(&str, &str, &[&str])] = &[
    (
        "migrator",
        "partner_api",
        &["client", "hidden_offers", "readback_page", "wire"],
    ),
    ("migrator", "http", &["secret"]),
    ("config", "partner_api", &["wire"]),
    ("cli", "partner_api", &["account", "client", "wire"]),
    ("cli", "migrator", &["Mode", "readback"]),
    ("cli", "ops", &["access"]),
    ("cli", "store", &["DirectoryState", "directory_state"]),
    ("market_sim", "partner_api", &["wire"]),
    ("market_sim", "push_api", &["wire"]),
    ("sources", "push_api", &["client", "wire"]),
];

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with the room it belongs to and its text without comments.
fn files() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![source_directory()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(source_directory()).unwrap();
            let first = relative
                .components()
                .next()
                .unwrap()
                .as_os_str()
                .to_str()
                .unwrap();
            let module = first.trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            found.push((module, path.clone(), code.collect::<Vec<_>>().join("\n")));
        }
    }
    found.retain(|(room, _, _)| room != "main" && room != "lib");
    found
}

/// The `a::b` of every `crate::a::b` in a text; `b` is empty where only `a` is named.
fn crate_paths(code: &str) -> Vec<(String, String)> {
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
    let allowed_by_module: BTreeMap<_, _> = ALLOWED_DEPENDENCIES.iter().copied().collect();
    let mut violations = Vec::new();
    for (module, path, code) in files() {
        let allowed = allowed_by_module
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} has no doors listed"));
        for (other, part) in crate_paths(&code) {
            let is_allowed = other == module || allowed.contains(&other.as_str());
            let is_item_allowed = ALLOWED_ITEMS.iter().all(|(from, to, parts)| {
                (*from, *to) != (module.as_str(), other.as_str()) || parts.contains(&part.as_str())
            });
            if !is_allowed || !is_item_allowed {
                violations.push(format!("{} names crate::{other}::{part}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn only_the_server_side_of_partner_feeds_the_shop() {
    for (module, path, code) in files() {
        if module == "partner_api"
            && !path.starts_with(source_directory().join("partner_api/server"))
        {
            assert!(!code.contains("crate::ingest"), "{}", path.display());
        }
    }
}

#[test]
fn the_ground_floor_needs_no_runtime() {
    for (module, path, code) in files() {
        if module == "stock" {
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
        .filter(|(module, _, code)| module != "stock" && writes(code))
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
    let main = std::fs::read_to_string(source_directory().join("main.rs")).unwrap();
    assert!(main.lines().count() < 60);
}

//! Dependencies between the crates, and between the modules of the service.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules that each module may use.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("auth_failures", &["telemetry"]),
    ("history", &[]),
    ("operator_database", &[]),
    ("event_log", &["operator_database", "telemetry"]),
    ("chart_history", &["operator_database"]),
    ("i18n", &["telemetry"]),
    ("store", &[]),
    ("replicas", &["store", "telemetry"]),
    ("ingest", &["replicas", "store", "telemetry"]),
    ("push_api", &["auth_failures", "replicas", "telemetry"]),
    (
        "partner_api",
        &["auth_failures", "ingest", "replicas", "telemetry"],
    ),
    ("migrator", MIGRATOR),
    ("sources", SOURCES),
    ("notify", &["i18n", "store", "telemetry"]),
    ("ops", OPS),
    (
        "web",
        &[
            "ops",
            "chart_history",
            "event_log",
            "i18n",
            "ingest",
            "migrator",
            "sources",
            "telemetry",
        ],
    ),
    ("config", CONFIG),
    ("app", EVERYTHING),
    ("command", &["config", "migrator", "ops", "telemetry"]),
    (
        "setup",
        &[
            "app",
            "command",
            "config",
            "ingest",
            "migrator",
            "ops",
            "sources",
            "store",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "command",
            "config",
            "migrator",
            "notify",
            "ops",
            "setup",
            "sources",
            "store",
            "telemetry",
        ],
    ),
];

const MIGRATOR: &[&str] = &["store", "event_log", "history", "replicas", "telemetry"];

const SOURCES: &[&str] = &[
    "store",
    "event_log",
    "auth_failures",
    "ingest",
    "replicas",
    "telemetry",
];

const CONFIG: &[&str] = &[
    "auth_failures",
    "i18n",
    "ingest",
    "push_api",
    "migrator",
    "notify",
    "sources",
    "store",
    "telemetry",
];

const OPS: &[&str] = &[
    "auth_failures",
    "store",
    "chart_history",
    "event_log",
    "history",
    "ingest",
    "push_api",
    "migrator",
    "replicas",
    "sources",
    "telemetry",
];

const EVERYTHING: &[&str] = &[
    "i18n",
    "auth_failures",
    "telemetry",
    "chart_history",
    "event_log",
    "history",
    "store",
    "replicas",
    "ingest",
    "push_api",
    "partner_api",
    "migrator",
    "notify",
    "sources",
    "ops",
    "web",
    "config",
];

/// Items for a client of the operator API: how to send a request, and the responses.
const RESPONSES: &[&str] = &[
    "access",
    "AcceptedDto",
    "DeliveryDto",
    "HistoryEventDto",
    "MarketRequestDto",
    "ReadinessReport",
    "ReadyzResponse",
    "RowDto",
    "ShopStatusDto",
    "SkuExplanation",
    "SourceStatusDto",
    "StartedReadbacks",
    "StatusAlarm",
    "StatusResponse",
];

/// Items for the command that copies a store.
const STORE_COPY: &[&str] = &[
    "CopyReport",
    "ShopSummary",
    "StorePlace",
    "StoreSummary",
    "StoreUrl",
    "copy_store",
];

/// Items to which a dependency is limited.
const ALLOWED_ITEMS: &[(&str, &str, &[&str])] = &[
    ("cli", "migrator", &["Mode", "readback", "selftest"]),
    ("cli", "ops", RESPONSES),
    ("cli", "store", STORE_COPY),
    ("command", "migrator", &["WorkerState", "readback"]),
    ("command", "ops", RESPONSES),
    ("config", "store", &["SettingsDigest", "StoreUrl"]),
    ("setup", "ingest", &["OriginTime"]),
    ("setup", "migrator", &["Mode", "QuarantinedSku", "readback"]),
    ("setup", "ops", RESPONSES),
    (
        "setup",
        "store",
        &[
            "DatabaseFacts",
            "DatabaseProblem",
            "DirectoryState",
            "LiveReplica",
            "StoreError",
            "check_notifications",
            "database_facts",
            "directory_state",
        ],
    ),
    ("web", "ingest", &["Origin"]),
];

fn source_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file below a directory: its path, and its code without comments and tests.
fn code_below(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(code_below(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let production = text.split("\n#[cfg(test)]\nmod ").next();
        let code = production
            .unwrap_or_default()
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: Vec<&str> = code.collect();
        found.push((path, code.join("\n")));
    }
    found
}

/// Every source file of the service: its module, its path, and its code.
fn files() -> Vec<(String, PathBuf, String)> {
    let root = source_directory();
    let module = |path: &Path| {
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap();
        let name = first.as_os_str().to_str().unwrap();
        name.trim_end_matches(".rs").to_owned()
    };
    let files = code_below(&root).into_iter();
    files
        .map(|(path, code)| (module(&path), path, code))
        .filter(|(module, _, _)| module != "main" && module != "lib")
        .collect()
}

/// `(a, b)` of every `crate::a::b` in a text, and of every entry of `crate::a::{b, c}`. `b` is empty
/// after `crate::a`.
fn crate_paths(code: &str) -> Vec<(String, String)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| -> String { text.chars().take_while(|c| is_name(*c)).collect() };
    let mut paths = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let module = name(rest);
        let items = rest
            .strip_prefix(&module)
            .and_then(|rest| rest.strip_prefix("::"));
        match items.and_then(|items| items.strip_prefix('{')) {
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                let entries = group
                    .split(',')
                    .map(str::trim)
                    .filter(|entry| !entry.is_empty());
                paths.extend(entries.map(|entry| (module.clone(), name(entry))));
            }
            None => paths.push((module, name(items.unwrap_or_default()))),
        }
    }
    paths.retain(|(module, _)| !module.is_empty());
    paths
}

#[test]
fn modules_use_only_allowed_modules() {
    let allowed_by_module: BTreeMap<_, _> = ALLOWED_DEPENDENCIES.iter().copied().collect();
    let mut violations = Vec::new();
    for (module, path, code) in files() {
        let allowed = allowed_by_module
            .get(module.as_str())
            .unwrap_or_else(|| panic!("{module} is missing in the list of allowed dependencies"));
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

/// Crates of this repository that each crate may use, tests included.
const ALLOWED_CRATES: &[(&str, &[&str])] = &[
    ("stock", &[]),
    ("lifecycle", &[]),
    ("strict-http", &["lifecycle"]),
    ("market-api", &["stock", "strict-http", "lifecycle"]),
    ("stock-import", &["stock"]),
    ("connectors", CONNECTORS),
    (
        "market-sim",
        &["stock", "market-api", "strict-http", "lifecycle"],
    ),
];

const CONNECTORS: &[&str] = &[
    "stock",
    "stock-import",
    "market-api",
    "strict-http",
    "lifecycle",
];

/// Modules of the service that may use the connectors.
const USERS_OF_CONNECTORS: &[&str] = &["sources", "config", "setup"];

#[test]
fn crates_use_only_allowed_crates() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut folders: Vec<String> = std::fs::read_dir(&crates)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort_unstable();
    let mut listed: Vec<&str> = ALLOWED_CRATES.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(folders, listed);
    for (name, allowed) in ALLOWED_CRATES {
        let manifest = std::fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let used = ["dependencies", "dev-dependencies", "build-dependencies"]
            .iter()
            .filter_map(|kind| manifest.get(*kind)?.as_table())
            .flat_map(toml::Table::keys);
        let ours = used.filter(|used| *used == "stockbridge" || listed.contains(&used.as_str()));
        for used in ours {
            assert!(allowed.contains(&used.as_str()), "{name} uses {used}");
        }
    }
}

#[test]
fn only_sources_and_their_settings_use_connectors() {
    let users: BTreeSet<_> = files()
        .into_iter()
        .filter(|(_, _, code)| code.contains("connectors::"))
        .map(|(module, _, _)| module)
        .collect();
    let allowed: BTreeSet<_> = USERS_OF_CONNECTORS
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(users, allowed);
}

/// Crates without an async runtime, and further code that they do not use.
const PURE_CRATES: &[(&str, &[&str])] = &[
    ("stock", &["std::fs", "tempfile"]),
    // It unpacks archives into temporary files.
    ("stock-import", &[]),
];

/// Code that needs an async runtime or a socket.
const RUNTIME: &[&str] = &["tokio", "axum", "hyper", "tower", "reqwest", "std::net"];

#[test]
fn pure_crates_need_no_runtime() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for (name, forbidden) in PURE_CRATES {
        let manifest = std::fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        let code = code_below(&crates.join(name).join("src"));
        let texts = code
            .iter()
            .map(|(path, code)| (path.clone(), code.as_str()));
        for (path, text) in texts.chain([(PathBuf::from("Cargo.toml"), manifest.as_str())]) {
            for other in RUNTIME.iter().chain(*forbidden) {
                assert!(!text.contains(other), "{name}, {}: {other}", path.display());
            }
        }
    }
}

#[test]
fn only_ingest_and_replay_write_the_book() {
    let writes = |code: &str| {
        let production = code
            .split("\n#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        [
            "book.apply(",
            "book.apply_all(",
            "book.restore(",
            "book.restore_all(",
        ]
        .iter()
        .any(|call| production.contains(call))
    };
    let writers: Vec<_> = files()
        .into_iter()
        .filter(|(_, _, code)| writes(code))
        .map(|(module, _, _)| module)
        .collect();
    assert!(
        writers
            .iter()
            .all(|module| module == "ingest" || module == "store"),
        "{writers:?}"
    );
}

#[test]
fn main_stays_short() {
    let main = std::fs::read_to_string(source_directory().join("main.rs")).unwrap();
    assert!(main.lines().count() < 60);
}

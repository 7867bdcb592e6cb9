//! Checks of this machine: secret files, store, disk space, instance name and cutoff. No requests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use strict_http::secret::Secret;

use super::finding::Finding;
use crate::config::{Config, ShopConfig};
// Only the state of the directory: the doctor never opens the store.
use crate::store::{DirectoryState, directory_state};

/// Minimum free disk space.
const MIN_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// Days before the end of the push API from which a warning is given.
const CUTOFF_WARNING_DAYS: i64 = 30;

/// Runs all checks of this machine.
pub(super) fn examine(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = check_file_modes(file_modes(&config.secret_files));
    findings.extend(check_secrets(&config.shops));
    findings.extend(check_store(&config.store, &StoreFacts::of(&config.store)));
    findings.push(check_instance(&config.instance));
    findings.push(check_cutoff(config.cutoff, now.date_naive()));
    findings
}

/// Returns the files that exist, with their modes.
fn file_modes(files: &[PathBuf]) -> Vec<(PathBuf, u32)> {
    let mode = |file: &PathBuf| Some(fs::metadata(file).ok()?.permissions().mode());
    let modes = files
        .iter()
        .filter_map(|file| Some((file.clone(), mode(file)?)));
    modes.collect()
}

/// Warns about secret files that other users can read.
fn check_file_modes(mut modes: Vec<(PathBuf, u32)>) -> Vec<Finding> {
    modes.sort();
    modes.dedup();
    if modes.is_empty() {
        return Vec::new();
    }
    let readable: Vec<Finding> = modes
        .iter()
        .filter(|(_, mode)| mode & 0o077 != 0)
        .map(|(file, mode)| {
            let what = format!(
                "{} has mode {:04o}, so other users can read it",
                file.display(),
                mode & 0o7777
            );
            Finding::warn(
                "secret files",
                what,
                format!("chmod 0400 {}", file.display()),
            )
        })
        .collect();
    if readable.is_empty() {
        let what = format!("only the owner can read them, files: {}", modes.len());
        return vec![Finding::ok("secret files", what)];
    }
    readable
}

/// Warns about one secret that is used for two purposes.
fn check_secrets(shops: &[ShopConfig]) -> Vec<Finding> {
    let overlap = |a: &[Secret], b: &[Secret]| a.iter().any(|secret| b.contains(secret));
    shops
        .iter()
        .flat_map(|shop| {
            let about = format!("secrets of {}", shop.name);
            let push_token = ("push_token", &shop.push_tokens);
            let feed_key = ("feed_key", &shop.feed_keys);
            let api_key = ("api_key", &shop.api_keys);
            let pairs = [
                (push_token, feed_key),
                (feed_key, api_key),
                (push_token, api_key),
            ];
            let shared = pairs.into_iter().filter(|(a, b)| overlap(a.1, b.1));
            shared.map(move |((one, _), (other, _))| {
                let what = format!(
                    "{one} and {other} are the same secret, so a leak of one gives access to both"
                );
                Finding::warn(
                    about.clone(),
                    what,
                    "create a new random feed_key for each shop",
                )
            })
        })
        .collect()
}

/// State of the store's directory.
struct StoreFacts {
    presence: Result<DirectoryState, String>,
    /// True if this user may write to the directory, or to its nearest existing parent.
    is_writable: bool,
    /// Free bytes of the file system, if known.
    free_bytes: Option<u64>,
}

impl StoreFacts {
    fn of(store: &Path) -> Self {
        // A relative path without a parent belongs to the current directory.
        let current_dir = Path::new(".");
        let existing = store
            .ancestors()
            .find(|ancestor| ancestor.exists())
            .unwrap_or(current_dir);
        let may_write = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        Self {
            presence: directory_state(store).map_err(|error| error.to_string()),
            is_writable: rustix::fs::access(existing, may_write).is_ok(),
            free_bytes: rustix::fs::statvfs(existing)
                .ok()
                .map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        }
    }
}

fn check_store(store: &Path, facts: &StoreFacts) -> Vec<Finding> {
    let directory = store.display();
    let store_finding = match &facts.presence {
        Err(error) => Finding::fail(
            "store",
            format!("{directory} cannot be used: {error}"),
            "set store to a directory that only the service uses, and run doctor as the service's \
             user",
        ),
        Ok(DirectoryState::Locked(pid)) => {
            let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            Finding::ok(
                "store",
                format!("{directory}: a service is running, pid {pid}"),
            )
        }
        Ok(DirectoryState::Missing | DirectoryState::Free) if !facts.is_writable => Finding::fail(
            "store",
            format!("this user cannot write to {directory}"),
            "make the service's user the owner of the directory, and run doctor as that user",
        ),
        Ok(DirectoryState::Missing) => Finding::ok(
            "store",
            format!("{directory} does not exist yet, serve creates it"),
        ),
        Ok(DirectoryState::Free) => {
            Finding::ok("store", format!("{directory} exists and is not in use"))
        }
    };
    let disk_finding = facts.free_bytes.map(|free_bytes| {
        let what = format!("{} MiB free at {directory}", free_bytes / (1024 * 1024));
        if free_bytes < MIN_FREE_BYTES {
            let todo = "free some space: with a full disk the service rejects updates of the stock";
            Finding::fail("disk", what, todo)
        } else {
            Finding::ok("disk", what)
        }
    });
    std::iter::once(store_finding).chain(disk_finding).collect()
}

fn check_instance(instance: &str) -> Finding {
    if instance.is_empty() {
        return Finding::warn(
            "instance",
            "this installation has no name, so a copy of its store could also send stock",
            "set instance to a name that no other installation has",
        );
    }
    Finding::ok(
        "instance",
        format!("this installation has the name {instance}"),
    )
}

fn check_cutoff(cutoff: NaiveDate, today: NaiveDate) -> Finding {
    let about = "cutoff";
    match (cutoff - today).num_days() {
        days if days < 0 => Finding::warn(
            about,
            format!("the push API ended on {cutoff}"),
            "set migrate = \"on\" for every shop; remove the push tokens when the Market no longer \
             asks",
        ),
        days if days <= CUTOFF_WARNING_DAYS => Finding::warn(
            about,
            format!("the push API ends on {cutoff}, days left: {days}"),
            "set migrate = \"on\" for every shop before that day",
        ),
        days => Finding::ok(
            about,
            format!("the push API ends on {cutoff}, days left: {days}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn levels(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn warns_about_readable_secret_file() {
        let file = |name: &str, mode| (PathBuf::from(name), mode);
        let findings = check_file_modes(vec![file("b", 0o100_400), file("a", 0o100_640)]);
        assert_eq!(findings.len(), 1);
        let line = findings[0].to_string();
        assert_eq!(
            line,
            "WARN  secret files: a has mode 0640, so other users can read it -> chmod 0400 a"
        );
        assert_eq!(
            levels(&check_file_modes(vec![file("b", 0o100_600)])),
            [Severity::Ok]
        );
        assert!(
            check_file_modes(Vec::new()).is_empty(),
            "all secrets are in variables"
        );
    }

    #[test]
    fn secret_files_of_all_tables_are_examined() {
        let directory = tempfile::tempdir().unwrap();
        let readable = ["store_url", "listen_url", "ops", "database", "hook"];
        for (name, mode) in readable.map(|name| (name, 0o644)).into_iter().chain([
            ("push", 0o600),
            ("feed", 0o600),
            ("api", 0o400),
        ]) {
            let text = match name {
                "store_url" | "listen_url" | "database" => "postgres://db.example/shop",
                _ => "canary-canary",
            };
            let file = directory.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let text = "instance = \"a\"\nstore_url_file = \"store_url\"\n\
            store_listen_url_file = \"listen_url\"\nops_password_file = \"ops\"\n\
            [[shops]]\nname = \"a\"\nwarehouses = [1]\ncampaign = 1\npush_token_file = \"push\"\n\
            feed_key_file = \"feed\"\napi_key_file = \"api\"\n\
            [[shops.sources]]\nname = \"erp\"\nkind = \"sql\"\ndatabase_file = \"database\"\n\
            query = \"SELECT sku, count FROM stock\"\n\
            [[notify]]\nname = \"duty\"\nkind = \"webhook\"\nurl = \"https://hook.example\"\n\
            secret_file = \"hook\"\n";
        let config = Config::parse(text, [].into(), directory.path()).unwrap();
        let found: Vec<String> = check_file_modes(file_modes(&config.secret_files))
            .iter()
            .map(|finding| finding.what.clone())
            .collect();
        assert_eq!(found.len(), readable.len(), "{found:?}");
        for name in readable {
            let file = directory.path().join(name);
            let expected = format!("{} has mode 0644", file.display());
            assert!(
                found.iter().any(|what| what.starts_with(&expected)),
                "{name}: {found:?}"
            );
        }
    }

    #[test]
    fn warns_about_shared_secret_without_it() {
        let text = "[[shops]]\nname = \"a\"\nwarehouses = [1]\ncampaign = 1\n";
        let variables = [
            ("PUSH_TOKEN", "canary-1"),
            ("FEED_KEY", "canary-1"),
            ("API_KEY", "x"),
        ]
        .map(|(key, value)| (format!("STOCKBRIDGE_SHOPS_A_{key}"), value.to_owned()));
        let config = Config::parse(text, variables.into(), Path::new("")).unwrap();
        let findings = check_secrets(&config.shops);
        let [only] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert!(
            only.what
                .starts_with("push_token and feed_key are the same"),
            "{only}"
        );
        assert!(!only.to_string().contains("canary"));
    }

    #[test]
    fn store_is_ok_if_writable_or_in_use() {
        let judge = |presence, is_writable, free_bytes| {
            let facts = StoreFacts {
                presence: Ok(presence),
                is_writable,
                free_bytes,
            };
            levels(&check_store(Path::new("s"), &facts))
        };
        let enough = Some(MIN_FREE_BYTES);
        assert_eq!(
            judge(DirectoryState::Free, true, enough),
            [Severity::Ok, Severity::Ok]
        );
        assert_eq!(judge(DirectoryState::Missing, true, None), [Severity::Ok]);
        assert_eq!(
            judge(DirectoryState::Missing, false, None),
            [Severity::Fail]
        );
        assert_eq!(
            judge(DirectoryState::Free, true, Some(MIN_FREE_BYTES - 1)),
            [Severity::Ok, Severity::Fail]
        );
        // A service of another user has locked it, so it need not be writable for this user.
        assert_eq!(
            judge(DirectoryState::Locked(Some(7)), false, None),
            [Severity::Ok]
        );
        let facts = StoreFacts {
            presence: Err("denied".into()),
            is_writable: true,
            free_bytes: None,
        };
        assert_eq!(
            levels(&check_store(Path::new("s"), &facts)),
            [Severity::Fail]
        );
    }

    #[test]
    fn check_does_not_create_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("a/b");
        let facts = StoreFacts::of(&store);
        assert_eq!(facts.presence, Ok(DirectoryState::Missing));
        assert!(
            facts.is_writable && facts.free_bytes.is_some() && !directory.path().join("a").exists()
        );
    }

    #[test]
    fn counts_days_to_the_cutoff() {
        let on = |day: &str| check_cutoff("2026-12-31".parse().unwrap(), day.parse().unwrap());
        assert_eq!(on("2026-11-21").level, Severity::Ok);
        assert!(on("2026-11-21").what.ends_with("days left: 40"));
        assert_eq!(on("2026-12-01").level, Severity::Warn);
        assert!(on("2026-12-31").what.ends_with("days left: 0"));
        assert!(on("2027-01-01").what.contains("ended"));
    }
}

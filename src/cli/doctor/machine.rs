//! This machine's side: files, the disk, the calendar. Nothing is asked of anybody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};

use super::finding::Finding;
use crate::config::{Config, ShopConfig};
use crate::http::secret::Secret;
// Looked at, never opened.
use crate::store::Presence;
use crate::store::presence;

/// The least free space that is no worry: the log is folded at half of it.
const FREE_BYTES: u64 = 64 * 1024 * 1024;

/// How long before the end of the push API it is worth a warning.
const CUTOFF_NEAR_DAYS: i64 = 30;

/// Looks at this machine.
pub(super) fn examine(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let files = config.shops.iter().flat_map(|shop| &shop.secret_files);
    let modes = files.filter_map(|file| {
        let mode = fs::metadata(file).ok()?.permissions().mode();
        Some((file.clone(), mode))
    });
    let mut findings = judge_files(modes.collect());
    findings.extend(judge_secrets(&config.shops));
    findings.extend(judge_store(&config.store, &StoreFacts::of(&config.store)));
    findings.push(judge_instance(&config.instance));
    findings.push(judge_cutoff(config.cutoff, now.date_naive()));
    findings
}

/// Who may read the files of secrets.
fn judge_files(mut modes: Vec<(PathBuf, u32)>) -> Vec<Finding> {
    modes.sort();
    modes.dedup();
    if modes.is_empty() {
        return Vec::new();
    }
    let open: Vec<Finding> = modes
        .iter()
        .filter(|(_, mode)| mode & 0o077 != 0)
        .map(|(file, mode)| {
            let what = format!(
                "{} has mode {:04o}: others can read it",
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
    if open.is_empty() {
        let what = format!("only their owner can read them, files: {}", modes.len());
        return vec![Finding::ok("secret files", what)];
    }
    open
}

/// Secrets that are the same where they should not be.
fn judge_secrets(shops: &[ShopConfig]) -> Vec<Finding> {
    let same = |a: &[Secret], b: &[Secret]| a.iter().any(|secret| b.contains(secret));
    shops
        .iter()
        .flat_map(|shop| {
            let about = format!("secrets of {}", shop.name);
            [
                (
                    "push_token",
                    "feed_key",
                    same(&shop.push_tokens, &shop.feed_keys),
                ),
                ("feed_key", "api_key", same(&shop.feed_keys, &shop.api_keys)),
                (
                    "push_token",
                    "api_key",
                    same(&shop.push_tokens, &shop.api_keys),
                ),
            ]
            .into_iter()
            .filter(|(_, _, is_same)| *is_same)
            .map(move |(one, other, _)| {
                let what = format!("{one} and {other} are the same: who has one has both");
                Finding::warn(
                    about.clone(),
                    what,
                    "make a feed_key of your own for each shop",
                )
            })
        })
        .collect()
}

/// What is found at the store's directory.
struct StoreFacts {
    presence: Result<Presence, String>,
    /// Whether we may write there or, if it is missing, where it would be created.
    is_writable: bool,
    /// Bytes, if they can be told.
    free: Option<u64>,
}

impl StoreFacts {
    fn of(store: &Path) -> Self {
        // A relative path without a parent is here.
        let here = Path::new(".");
        let there = store
            .ancestors()
            .find(|place| place.exists())
            .unwrap_or(here);
        let may_write = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        Self {
            presence: presence(store).map_err(|error| error.to_string()),
            is_writable: rustix::fs::access(there, may_write).is_ok(),
            free: rustix::fs::statvfs(there)
                .ok()
                .map(|space| space.f_bavail.saturating_mul(space.f_frsize)),
        }
    }
}

fn judge_store(store: &Path, facts: &StoreFacts) -> Vec<Finding> {
    let place = store.display();
    let state = match &facts.presence {
        Err(error) => Finding::fail(
            "store",
            format!("{place} cannot be used: {error}"),
            "name a directory of the service's own in store, as the user it runs as",
        ),
        Ok(Presence::Held(pid)) => {
            let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            Finding::ok("store", format!("{place}: a service is running, pid {pid}"))
        }
        Ok(Presence::Missing | Presence::Free) if !facts.is_writable => Finding::fail(
            "store",
            format!("{place} cannot be written by this user"),
            "give the directory to the user the service runs as, and run doctor as that user",
        ),
        Ok(Presence::Missing) => Finding::ok(
            "store",
            format!("{place} is not there yet, serve will create it"),
        ),
        Ok(Presence::Free) => Finding::ok("store", format!("{place} is there, nobody uses it")),
    };
    let space = facts.free.map(|free| {
        let what = format!("{} MiB are free at {place}", free / (1024 * 1024));
        if free < FREE_BYTES {
            let todo = "make room: with a full disk updates are refused, though answers go on";
            Finding::fail("disk", what, todo)
        } else {
            Finding::ok("disk", what)
        }
    });
    std::iter::once(state).chain(space).collect()
}

fn judge_instance(instance: &str) -> Finding {
    if instance.is_empty() {
        return Finding::warn(
            "instance",
            "nothing names this installation: a copy of the store elsewhere could send too",
            "set instance to a name that no other machine has",
        );
    }
    Finding::ok("instance", format!("this installation is {instance}"))
}

fn judge_cutoff(cutoff: NaiveDate, today: NaiveDate) -> Finding {
    let about = "cutoff";
    match (cutoff - today).num_days() {
        days if days < 0 => Finding::warn(
            about,
            format!("the push API ended on {cutoff}"),
            "forward every shop (migrate = \"on\"); the push tokens can go when nobody asks",
        ),
        days if days <= CUTOFF_NEAR_DAYS => Finding::warn(
            about,
            format!("the push API ends on {cutoff}, days left: {days}"),
            "forward every shop (migrate = \"on\") before that day",
        ),
        days => Finding::ok(
            about,
            format!("the push API ends on {cutoff}, days left: {days}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_secret_that_others_can_read_is_told_by_its_file() {
        let file = |name: &str, mode| (PathBuf::from(name), mode);
        let findings = judge_files(vec![file("b", 0o100_400), file("a", 0o100_640)]);
        assert_eq!(findings.len(), 1);
        let line = findings[0].to_string();
        assert_eq!(
            line,
            "WARN  secret files: a has mode 0640: others can read it -> chmod 0400 a"
        );
        assert_eq!(
            levels(&judge_files(vec![file("b", 0o100_600)])),
            [Level::Ok]
        );
        assert!(
            judge_files(Vec::new()).is_empty(),
            "all from the environment"
        );
    }

    #[test]
    fn one_secret_for_two_doors_is_told_and_not_shown() {
        let text = "[[shops]]\nname = \"a\"\nwarehouses = [1]\ncampaign = 1\n";
        let variables = [
            ("PUSH_TOKEN", "canary-1"),
            ("FEED_KEY", "canary-1"),
            ("API_KEY", "x"),
        ]
        .map(|(key, value)| (format!("STOCKBRIDGE_SHOPS_A_{key}"), value.to_owned()));
        let config = Config::parse(text, variables.into(), Path::new("")).unwrap();
        let findings = judge_secrets(&config.shops);
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
    fn a_store_is_well_if_it_can_be_written_or_is_in_use() {
        let judge = |presence, is_writable, free| {
            let facts = StoreFacts {
                presence: Ok(presence),
                is_writable,
                free,
            };
            levels(&judge_store(Path::new("s"), &facts))
        };
        let plenty = Some(FREE_BYTES);
        assert_eq!(judge(Presence::Free, true, plenty), [Level::Ok, Level::Ok]);
        assert_eq!(judge(Presence::Missing, true, None), [Level::Ok]);
        assert_eq!(judge(Presence::Missing, false, None), [Level::Fail]);
        assert_eq!(
            judge(Presence::Free, true, Some(FREE_BYTES - 1)),
            [Level::Ok, Level::Fail]
        );
        // Another user's service has it: that we may not write there says nothing.
        assert_eq!(judge(Presence::Held(Some(7)), false, None), [Level::Ok]);
        let facts = StoreFacts {
            presence: Err("denied".into()),
            is_writable: true,
            free: None,
        };
        assert_eq!(levels(&judge_store(Path::new("s"), &facts)), [Level::Fail]);
    }

    #[test]
    fn looking_at_a_store_that_is_missing_does_not_make_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("a/b");
        let facts = StoreFacts::of(&store);
        assert_eq!(facts.presence, Ok(Presence::Missing));
        assert!(facts.is_writable && facts.free.is_some() && !directory.path().join("a").exists());
    }

    #[test]
    fn the_cutoff_is_counted_in_days() {
        let on = |day: &str| judge_cutoff("2026-12-31".parse().unwrap(), day.parse().unwrap());
        assert_eq!(on("2026-11-21").level, Level::Ok);
        assert!(on("2026-11-21").what.ends_with("days left: 40"));
        assert_eq!(on("2026-12-01").level, Level::Warn);
        assert!(on("2026-12-31").what.ends_with("days left: 0"));
        assert!(on("2027-01-01").what.contains("ended"));
    }
}

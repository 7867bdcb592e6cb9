//! Checks of the database of `store_url_file`: reachable, safe settings, standbys, tables.

use super::finding::Finding;
use crate::config::Config;
use crate::sources::SourceKind;
// The doctor never opens the store, which would register this configuration's shops.
use crate::store::{
    DatabaseFacts, DatabaseProblem, LiveReplica, StoreError, check_notifications, database_facts,
};

const ABOUT: &str = "database";

/// Runs all checks of the database, if the stock is in one.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.store_url else {
        return Vec::new();
    };
    match database_facts(url).await {
        Ok(facts) => {
            let mut findings = evaluate(&facts, &url.to_string());
            findings.extend(examine_replicas(&facts.replicas, config));
            findings.extend(compare_settings(&facts.replicas, config));
            findings.extend(examine_sources(&facts, config));
            if config.replica.is_some() || url.has_listen_url() {
                let arrived = check_notifications(url).await;
                findings.push(evaluate_notifications(arrived, url.has_listen_url()));
            }
            findings
        }
        Err(error) => {
            let (what, todo) = what_and_cure(error, "store_url_file");
            vec![Finding::fail(ABOUT, what, todo)]
        }
    }
}

/// Returns an error of the database at the address in the file of `setting`, and what to do.
fn what_and_cure(error: StoreError, setting: &str) -> (String, String) {
    let (what, cure) = match error {
        StoreError::DatabaseUnusable {
            target,
            what,
            problem,
        } => {
            let what = format!("the database {target} cannot be used: {what}");
            (what, problem.cure(setting))
        }
        other => (other.to_string(), None),
    };
    let cure = cure.or_else(|| DatabaseProblem::Other.cure(setting));
    (what, cure.unwrap_or_default())
}

fn evaluate(facts: &DatabaseFacts, url: &str) -> Vec<Finding> {
    let version = &facts.server_version;
    let mut findings = vec![match facts.tables {
        Some(found) if found > facts.known_tables => Finding::fail(
            ABOUT,
            format!(
                "the tables in {url} have version {found}, this release knows {}",
                facts.known_tables
            ),
            "run the release that wrote them",
        ),
        None if !facts.may_create => Finding::fail(
            ABOUT,
            format!("the user of {url} may not create the schema stockbridge"),
            "make the user the owner of the database",
        ),
        Some(_) => Finding::ok(
            ABOUT,
            format!("{url}, PostgreSQL {version}, has the tables"),
        ),
        None => Finding::ok(
            ABOUT,
            format!("{url}, PostgreSQL {version}: serve creates the tables"),
        ),
    }];
    for (name, value) in [
        ("fsync", &facts.fsync),
        ("full_page_writes", &facts.full_page_writes),
    ] {
        if value != "on" {
            let what = format!("{name} is {value}: a power cut can damage acknowledged stock");
            findings.push(Finding::fail(ABOUT, what, format!("set {name} = on")));
        }
    }
    if facts.synchronous_commit == "off" {
        findings.push(Finding::warn(
            ABOUT,
            "synchronous_commit is off for the user; the service sets it to on for stock",
            "remove the setting, so that other programs get safe commits too",
        ));
    }
    if facts.synchronous_standby_names.is_empty() && facts.standbys.is_some_and(|count| count > 0) {
        findings.push(Finding::warn(
            ABOUT,
            "the standbys are asynchronous: a failover can lose acknowledged stock",
            "set synchronous_standby_names, or feed the complete stock after a failover",
        ));
    }
    let names = &facts.synchronous_standby_names;
    let needed = needed_standbys(names);
    if let Some(connected) = facts.synchronous_standbys
        && connected < needed
    {
        findings.push(Finding::fail(
            ABOUT,
            format!(
                "the server waits for synchronous standbys (synchronous_standby_names = '{names}'), but \
                 only {connected} of {needed} receive changes, so updates get 503"
            ),
            "start the standby, or remove it from synchronous_standby_names until it is back",
        ));
    }
    findings
}

/// Returns the number of standbys for which a server with these `synchronous_standby_names` waits: in
/// `ANY 2 (a, b, c)` the number before the list.
fn needed_standbys(names: &str) -> i64 {
    if names.trim().is_empty() {
        return 0;
    }
    let method = names.split_once('(').map(|(method, _)| method);
    let number = method.and_then(|method| method.split_whitespace().last());
    // A list without a number is as one with 1.
    number.and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Lists the replicas that run on this database, so that one with another database is missed. Warns if
/// the one that must read the sources does not run.
fn examine_replicas(replicas: &[LiveReplica], config: &Config) -> Vec<Finding> {
    if config.replica.is_none() {
        return Vec::new();
    }
    if replicas.is_empty() {
        return vec![Finding::ok(ABOUT, "replicas that run on it: none")];
    }
    let described = replicas.iter().map(|replica| {
        let LiveReplica {
            name,
            release,
            seconds_since_renewal: seconds,
            ..
        } = replica;
        let release = if release.is_empty() {
            "an early release"
        } else {
            release
        };
        format!("{name} ({release}, renewed {seconds} s ago)")
    });
    let list = described.collect::<Vec<_>>().join(", ");
    let mut findings = vec![Finding::ok(
        ABOUT,
        format!("replicas that run on it: {list}"),
    )];
    if let Some(reader) = &config.sources_on
        && !replicas.iter().any(|replica| replica.name == *reader)
    {
        findings.push(Finding::warn(
            ABOUT,
            format!("sources_on is {reader:?}, which does not run on this database"),
            format!(
                "start the replica {reader} with the same store_url_file, or set sources_on to one \
                 that runs, on all replicas"
            ),
        ));
    }
    findings
}

/// Compares the settings of this configuration with those that the live replicas use.
fn compare_settings(replicas: &[LiveReplica], config: &Config) -> Vec<Finding> {
    let Some(own) = &config.replica else {
        return Vec::new();
    };
    let digest = config.shared_settings().digest();
    let differing = replicas.iter().filter_map(|replica| {
        let parts = digest.differing_parts(&replica.release, &replica.settings);
        (!parts.is_empty()).then(|| (replica.name.as_str(), parts.join(", ")))
    });
    let findings: Vec<Finding> = differing
        .map(|(name, parts)| {
            let (what, todo) = if name == own {
                let what = format!(
                    "the running replica {name} does not use the settings of this file: {parts}"
                );
                (what, "reload the configuration, or restart the replica")
            } else {
                let what =
                    format!("replica {name} has other settings than this configuration: {parts}");
                let todo = "use the same settings on all machines, and reload or restart each \
                            replica; compare the output of stockbridge check";
                (what, todo)
            };
            Finding::warn(ABOUT, what, todo)
        })
        .collect();
    let is_compared = |replica: &&LiveReplica| {
        !replica.settings.is_empty() && replica.release == env!("CARGO_PKG_VERSION")
    };
    let compared = replicas.iter().filter(is_compared);
    let compared: Vec<&str> = compared.map(|replica| replica.name.as_str()).collect();
    if findings.is_empty() && !compared.is_empty() {
        let names = compared.join(", ");
        let what = format!("replicas that have the settings of this configuration: {names}");
        return vec![Finding::ok(ABOUT, what)];
    }
    findings
}

/// Says which replica reads the sources of each shop, and which sources only one machine may have.
fn examine_sources(facts: &DatabaseFacts, config: &Config) -> Vec<Finding> {
    if config.replica.is_none() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for shop in &config.shops {
        let name = &shop.name;
        let lease = format!("sources {name}");
        let leader = facts.leases.iter().find(|(name, _)| *name == lease);
        findings.extend(match (leader, facts.leases.is_empty()) {
            (Some((_, replica)), _) => Some(Finding::ok(
                ABOUT,
                format!("replica {replica} reads the sources of {name}"),
            )),
            // No replica runs yet.
            (None, true) => None,
            (None, false) => Some(Finding::warn(
                ABOUT,
                format!("no replica reads the sources of {name}"),
                "look at the alarms of the replicas, and start the one of sources_on",
            )),
        });
        if config.sources_on.is_some() {
            continue;
        }
        for source in &shop.sources {
            if let SourceKind::Files(files) = &source.kind {
                let (source, path) = (&source.policy.name, files.path.display());
                findings.push(Finding::warn(
                    ABOUT,
                    format!("{name}/{source} reads {path}, which every replica must have"),
                    "share the directory between the machines, or set sources_on to the one that \
                     has it",
                ));
            }
        }
    }
    findings
}

fn evaluate_notifications(arrived: Result<bool, StoreError>, has_listen_url: bool) -> Finding {
    match arrived {
        Ok(true) => Finding::ok(ABOUT, "notifications between replicas arrive"),
        Ok(false) if has_listen_url => Finding::fail(
            ABOUT,
            "notifications do not arrive at the address in store_listen_url_file",
            "write the address of the server itself and the same database into the file, without a \
             pooler in transaction mode",
        ),
        Ok(false) => Finding::warn(
            ABOUT,
            "notifications do not arrive, as with a pooler in transaction mode: an update waits up \
             to a second for the other replicas",
            "set store_listen_url_file to an address of the server itself",
        ),
        Err(error) => {
            let setting = if has_listen_url {
                "store_listen_url_file"
            } else {
                "store_url_file"
            };
            let (what, todo) = what_and_cure(error, setting);
            let what = format!("notifications cannot be received: {what}");
            Finding::fail(ABOUT, what, todo)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn facts() -> DatabaseFacts {
        DatabaseFacts {
            server_version: "15.8".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: String::new(),
            standbys: Some(0),
            synchronous_standbys: Some(0),
            tables: Some(1),
            known_tables: 1,
            may_create: true,
            leases: Vec::new(),
            replicas: Vec::new(),
        }
    }

    fn levels(change: impl FnOnce(&mut DatabaseFacts)) -> Vec<Severity> {
        let mut facts = facts();
        change(&mut facts);
        let findings = evaluate(&facts, "postgres://db:5432/stock");
        findings.iter().map(|finding| finding.level).collect()
    }

    /// Configuration with settings of the service and a shop with a file as source.
    fn config(settings: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let url = "postgres://db:5432/stock";
        std::fs::write(directory.path().join("address"), url).unwrap();
        let text = format!(
            "store_url_file = \"address\"\ninstance = \"test\"\n{settings}\n[[shops]]\n\
             name = \"a\"\nwarehouses = [1]\ncampaign = 1\nmigrate = \"off\"\n\
             [[shops.sources]]\nname = \"erp\"\nkind = \"file\"\npath = \"stock.csv\"\n"
        );
        let secrets = ["PUSH_TOKEN", "FEED_KEY"];
        let secrets = secrets.map(|key| {
            (
                format!("STOCKBRIDGE_SHOPS_A_{key}"),
                "secret-of-a".to_owned(),
            )
        });
        Config::parse(&text, secrets.into(), directory.path()).unwrap()
    }

    #[test]
    fn replicas_that_run_are_listed() {
        let live = |name: &str, release: &str| LiveReplica {
            name: name.to_owned(),
            release: release.to_owned(),
            settings: String::new(),
            seconds_since_renewal: 1,
        };
        let examine = |settings: &str, replicas: &[LiveReplica]| {
            let findings = examine_replicas(replicas, &config(settings));
            let lines = findings.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>()
        };
        let both = [live("one", "0.1.0"), live("two", "")];
        assert!(examine("", &both).is_empty(), "it is not a replica");
        let pinned = "replica = \"one\"\nsources_on = \"two\"";
        let lines = examine(pinned, &both);
        let list = "one (0.1.0, renewed 1 s ago), two (an early release, renewed 1 s ago)";
        assert!(lines.len() == 1 && lines[0].ends_with(list), "{lines:?}");
        let lines = examine(pinned, &both[..1]);
        assert!(
            lines.len() == 2 && lines[1].starts_with("WARN"),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("sources_on is \"two\", which does not run"),
            "{lines:?}"
        );
        assert_eq!(examine(pinned, &[]).len(), 1);
    }

    #[test]
    fn settings_of_running_replicas_are_compared() {
        let live = |name: &str, settings: &str| LiveReplica {
            name: name.to_owned(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            settings: settings.to_owned(),
            seconds_since_renewal: 1,
        };
        let compare = |settings: &str, replicas: &[LiveReplica]| {
            let findings = compare_settings(replicas, &config(settings));
            let lines = findings.iter().map(ToString::to_string);
            lines.collect::<Vec<_>>()
        };
        let own = "replica = \"one\"";
        let digest = config(own).shared_settings().digest().to_string();
        let other = config("replica = \"two\"\nstale_hours = 9");
        let other = other.shared_settings().digest().to_string();
        let same = [live("one", &digest), live("two", &digest)];
        assert!(compare("", &same).is_empty(), "it is not a replica");
        let lines = compare(own, &same);
        assert!(
            lines[0].starts_with("OK") && lines[0].ends_with("configuration: one, two"),
            "{lines:?}"
        );
        assert!(
            compare(own, &[live("two", "")]).is_empty(),
            "an earlier release"
        );
        for (replicas, what) in [
            (
                [live("one", &digest), live("two", &other)],
                "replica two has other settings",
            ),
            (
                [live("one", &other), live("two", &digest)],
                "the running replica one does not use",
            ),
        ] {
            let lines = compare(own, &replicas);
            let [line] = &lines[..] else {
                panic!("{lines:?}")
            };
            assert!(line.starts_with("WARN") && line.contains(what), "{line}");
            assert!(line.contains(": service ->"), "{line}");
        }
    }

    #[test]
    fn sources_of_replicas_are_examined() {
        let examine = |settings: &str, leases: &[(&str, &str)]| {
            let config = config(settings);
            let owned = |(name, owner): &(&str, &str)| ((*name).to_owned(), (*owner).to_owned());
            let facts = DatabaseFacts {
                leases: leases.iter().map(owned).collect(),
                ..facts()
            };
            let findings = examine_sources(&facts, &config);
            findings
                .iter()
                .map(|finding| finding.level)
                .collect::<Vec<_>>()
        };
        use Severity::{Ok, Warn};
        let (own, other) = (("sources a", "one"), ("campaign 1", "one"));
        assert!(examine("", &[own]).is_empty(), "there is only one process");
        assert_eq!(examine("replica = \"one\"", &[own, other]), [Ok, Warn]);
        assert_eq!(examine("replica = \"one\"", &[]), [Warn]);
        let pinned = "replica = \"one\"\nsources_on = \"one\"";
        assert_eq!(examine(pinned, &[own]), [Ok]);
        assert_eq!(examine(pinned, &[other]), [Warn]);
    }

    #[test]
    fn missing_notifications_are_found() {
        let level = |arrived, has_url| evaluate_notifications(arrived, has_url).level;
        assert_eq!(level(Ok(true), true), Severity::Ok);
        assert_eq!(level(Ok(false), false), Severity::Warn);
        assert_eq!(level(Ok(false), true), Severity::Fail);
        let refused = || StoreError::DatabaseUnusable {
            target: "postgres://db:5432/stock".to_owned(),
            what: "Connection refused".to_owned(),
            problem: DatabaseProblem::Refused,
        };
        let finding = evaluate_notifications(Err(refused()), true);
        assert_eq!(finding.level, Severity::Fail);
        let todo = finding.todo.unwrap();
        assert!(
            todo.contains("host and port in the file of store_listen_url_file"),
            "{todo}"
        );
    }

    #[test]
    fn unsafe_settings_are_found() {
        use Severity::{Fail, Ok, Warn};
        assert_eq!(levels(|_| {}), [Ok]);
        assert_eq!(levels(|facts| facts.tables = None), [Ok]);
        assert_eq!(levels(|facts| facts.tables = Some(2)), [Fail]);
        let no_rights = levels(|facts| (facts.tables, facts.may_create) = (None, false));
        assert_eq!(no_rights, [Fail]);
        assert_eq!(levels(|facts| facts.fsync = "off".to_owned()), [Ok, Fail]);
        let lazy = levels(|facts| facts.synchronous_commit = "off".to_owned());
        assert_eq!(lazy, [Ok, Warn]);
        assert_eq!(levels(|facts| facts.standbys = Some(1)), [Ok, Warn]);
        assert_eq!(levels(|facts| facts.standbys = None), [Ok]);
    }

    #[test]
    fn missing_synchronous_standby_is_found() {
        use Severity::{Fail, Ok};
        let with = |names: &str, synchronous: Option<i64>| {
            levels(|facts| {
                facts.synchronous_standby_names = names.to_owned();
                // With an asynchronous one, as `pg_basebackup` while it runs.
                facts.standbys = synchronous.map(|count| count + 1);
                facts.synchronous_standbys = synchronous;
            })
        };
        for names in ["*", "a, b", "1 (a, b)", "FIRST 1 (a, b)", "ANY 1(a, b)"] {
            assert_eq!(with(names, Some(0)), [Ok, Fail], "{names}");
            assert_eq!(with(names, Some(1)), [Ok], "{names}");
        }
        for names in ["ANY 2 (a, b)", "2 (a, b, c)"] {
            assert_eq!(with(names, Some(1)), [Ok, Fail], "{names}");
            assert_eq!(with(names, Some(2)), [Ok], "{names}");
        }
        assert_eq!(with("*", None), [Ok]);
    }
}

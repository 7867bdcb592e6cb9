//! Checks of the database of `store_url_file`: reachable, safe settings, standbys, tables.

use super::finding::Finding;
use crate::config::Config;
// The doctor never opens the store, which would register this configuration's shops.
use crate::store::{DatabaseFacts, database_facts};

const ABOUT: &str = "database";

/// Runs all checks of the database, if the stock is in one.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.store_url else {
        return Vec::new();
    };
    match database_facts(url).await {
        Ok(facts) => evaluate(&facts, &url.to_string()),
        Err(error) => vec![Finding::fail(
            ABOUT,
            error.to_string(),
            "check the address in store_url_file, the server, and the rights of its user",
        )],
    }
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
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn levels(change: impl FnOnce(&mut DatabaseFacts)) -> Vec<Severity> {
        let mut facts = DatabaseFacts {
            server_version: "15.8".to_owned(),
            fsync: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: String::new(),
            standbys: Some(0),
            tables: Some(1),
            known_tables: 1,
            may_create: true,
        };
        change(&mut facts);
        let findings = evaluate(&facts, "postgres://db:5432/stock");
        findings.iter().map(|finding| finding.level).collect()
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
}

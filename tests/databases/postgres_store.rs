//! Store in PostgreSQL: the checks that every store must pass, and those of a database that several
//! processes use.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use stockbridge::store::{RenewalNeed, StoreChange, StoreError, StoreUrl, database_facts};

use super::server::DatabaseServer;
use super::store_suite::samples::rows;
use super::store_suite::test_store::{SHOP_A, SHOP_B, Subject, SuiteStore};
use super::store_suite::{self, for_each_store_check};

/// Creates an empty database with this name and returns its URL.
pub(crate) async fn new_database(server: &DatabaseServer, name: &str) -> String {
    execute(server.url(), &format!("CREATE DATABASE {name}")).await;
    server.url().replace("/postgres?", &format!("/{name}?"))
}

/// Runs a statement.
pub(crate) async fn execute(url: &str, sql: &str) {
    let mut conn = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
}

/// Returns the first value of a query.
pub(crate) async fn query_text(url: &str, sql: &str) -> String {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    let text = row.fetch_one(&mut conn).await.unwrap().try_get(0).unwrap();
    conn.close().await.unwrap();
    text
}

macro_rules! run_checks {
    ($($check:ident),+) => {
        async fn run_store_checks(server: &DatabaseServer) {$(
            let subject = database_subject(new_database(server, stringify!($check)).await);
            println!("{}", stringify!($check));
            store_suite::checks::$check(&subject).await;
        )+}
    };
}

for_each_store_check!(run_checks);

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_store_passes_all_checks() {
    let server = DatabaseServer::postgresql();
    run_store_checks(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_tables_are_refused() {
    let server = DatabaseServer::postgresql();
    let subject = database_subject(new_database(&server, "newer").await);
    let test_store = subject.open().await;
    test_store.store.close().await.unwrap();
    subject
        .execute("INSERT INTO schema_version (version) VALUES (99)")
        .await;
    let error = subject.try_open(&[]).await.map(drop).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("version 99") && !text.contains("reader"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reads_the_settings_of_the_server() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "facts").await;
    execute(&url, "ALTER ROLE reader SET synchronous_commit = off").await;
    let store_url = StoreUrl::parse(&url).unwrap();
    let facts = database_facts(&store_url).await.unwrap();
    // The servers of these tests do not sync, to be fast.
    assert_eq!((&*facts.fsync, &*facts.full_page_writes), ("off", "on"));
    assert_eq!(facts.synchronous_commit, "off");
    assert_eq!(
        (facts.tables, facts.may_create, facts.standbys),
        (None, true, Some(0))
    );
    assert_eq!(facts.synchronous_standbys, Some(0));
    let test_store = database_subject(url.clone()).open().await;
    let renewal = test_store
        .store
        .renew_replica("two", RenewalNeed::Always)
        .await;
    assert!(renewal.unwrap().is_some());
    let facts = database_facts(&store_url).await.unwrap();
    assert_eq!(facts.tables, Some(facts.known_tables));
    let [replica] = &facts.replicas[..] else {
        panic!("{:?}", facts.replicas)
    };
    assert_eq!(
        (&*replica.name, &*replica.release),
        ("two", env!("CARGO_PKG_VERSION"))
    );
    // The first version of the tables has no releases.
    execute(&url, "ALTER TABLE stockbridge.replica DROP COLUMN release").await;
    let long = "UPDATE stockbridge.replica SET until = now() + interval '1 h'";
    execute(&url, long).await;
    let facts = database_facts(&store_url).await.unwrap();
    assert_eq!(facts.replicas[0].release, "");
    execute(&url, "UPDATE stockbridge.replica SET until = now()").await;
    let facts = database_facts(&store_url).await.unwrap();
    assert!(facts.replicas.is_empty(), "{:?}", facts.replicas);
    test_store.store.close().await.unwrap();
    server.stop();
    assert!(database_facts(&store_url).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_one_order() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "shared").await;
    // Both create the tables and register the shops at the same time.
    let (one, other) = (database_subject(url.clone()), database_subject(url));
    let (one, other) = tokio::join!(one.open(), other.open());
    one.fill().await;
    assert!(other.store.catch_up().await.unwrap());
    assert!(!other.store.catch_up().await.unwrap());
    assert_eq!(other.contents(), one.contents());
    // An update that was compared with older stock is compared again, and so is one that
    // changes nothing.
    one.append_stock(SHOP_A, &rows(0..9, 50)).await;
    let some = rows(0..3, 40);
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &some,
    };
    let outcome = other.store.append(&[change]).await.map(drop);
    assert!(matches!(outcome, Err(StoreError::Behind)), "{outcome:?}");
    assert_eq!(other.contents(), one.contents());
    one.append_stock(SHOP_A, &rows(0..9, 60)).await;
    let version = other.store.book_version();
    let compared = (&[SHOP_A][..], version);
    let outcome = other.store.append_if_current(&[], compared).await;
    let outcome = outcome.map(drop);
    assert!(matches!(outcome, Err(StoreError::Behind)), "{outcome:?}");
    // The book has changed since the comparison, although it is current now.
    let outcome = other.store.append_if_current(&[change], compared).await;
    let outcome = outcome.map(drop);
    assert!(matches!(outcome, Err(StoreError::Behind)), "{outcome:?}");
    let compared = (&[SHOP_A][..], other.store.book_version());
    let outcome = other.store.append_if_current(&[], compared).await;
    drop(outcome.unwrap());
    // Both write at the same time.
    let write = async |process: &SuiteStore, first: i64| {
        for n in 0..40 {
            let micros = 100 + n * 2 + first;
            process.append_stock(SHOP_A, &rows(n..n + 20, micros)).await;
            process.append_stock(SHOP_B, &rows(0..5, micros)).await;
        }
    };
    tokio::join!(write(&one, 0), write(&other, 1));
    one.store.catch_up().await.unwrap();
    other.store.catch_up().await.unwrap();
    assert_eq!(other.contents(), one.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_is_far_behind_reads_the_snapshot() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "behind").await;
    let (one, other) = open_two(&url).await;
    one.fill().await;
    one.compact().await.unwrap();
    one.append_stock(SHOP_A, &rows(0..9, 50)).await;
    other.store.catch_up().await.unwrap();
    assert_eq!(other.contents(), one.contents());
    // The other process can also compact, and append after its own snapshot.
    other.compact().await.unwrap();
    other.append_stock(SHOP_B, &rows(0..9, 50)).await;
    one.compact().await.unwrap();
    one.store.catch_up().await.unwrap();
    assert_eq!(other.contents(), one.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn store_survives_a_restart_of_the_server() {
    let server = DatabaseServer::postgresql();
    let subject = database_subject(new_database(&server, "restarted").await);
    let test_store = subject.open().await;
    test_store.fill().await;
    server.stop();
    let (some, known) = (rows(0..9, 50), test_store.contents());
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &some,
    };
    let outcome = test_store.store.append(&[change]).await.map(drop);
    let Err(StoreError::DatabaseUnusable { what, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(!what.is_empty() && test_store.store.is_failed(), "{what}");
    server.start();
    // Right after a failed connection the store waits before the next one.
    while test_store.store.test_write().await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(!test_store.store.is_failed());
    assert_eq!(test_store.contents(), known);
    test_store.append_stock(SHOP_A, &some).await;
    assert_eq!(
        subject_copy(&subject).contents().await,
        test_store.contents()
    );
}

/// Returns the same database with a directory of its own, as another process has it.
fn subject_copy(subject: &Subject) -> Subject {
    database_subject(subject.database.clone().unwrap())
}

/// Returns a directory for a process that uses the database with this URL.
pub(crate) fn database_subject(url: String) -> Subject {
    Subject {
        directory: tempfile::tempdir().unwrap(),
        database: Some(url),
    }
}

/// Opens the database with this URL as two processes do.
pub(crate) async fn open_two(url: &str) -> (SuiteStore, SuiteStore) {
    let open = async || database_subject(url.to_owned()).open().await;
    (open().await, open().await)
}

/// Makes the server ask one role for its password.
async fn ask_for_password(url: &str, role: &str) {
    let directory = query_text(url, "SELECT current_setting('data_directory')").await;
    let rules = format!(
        "COPY (VALUES ('host all {role} all scram-sha-256'), ('host all all all trust'), \
         ('local all all trust')) TO '{directory}/pg_hba.conf'"
    );
    execute(url, &rules).await;
    execute(url, "SELECT pg_reload_conf()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn error_of_the_server_has_its_cure() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "cured").await;
    execute(&url, "CREATE ROLE poor LOGIN PASSWORD 'canary'").await;
    execute(&url, "CREATE ROLE full LOGIN CONNECTION LIMIT 0").await;
    let port = server.address().port().to_string();
    let closed_port = super::server::free_port().to_string();
    let text_of = async |url: &str| {
        let outcome = database_subject(url.to_owned()).try_open(&[]).await;
        outcome.map(drop).unwrap_err().to_string()
    };
    for (part, other, what, cure) in [
        ("/cured", "/nosuch", "does not exist", "CREATE DATABASE"),
        (
            "sslmode=disable",
            "sslmode=verify-full",
            "TLS",
            "another sslmode",
        ),
        ("reader@", "nosuch@", "does not exist", "pg_hba.conf"),
        (
            "reader@",
            "full@",
            "too many connections",
            "CONNECTION LIMIT",
        ),
        (
            "reader@",
            "poor@",
            "permission denied",
            "the owner of the database",
        ),
        (&*port, &*closed_port, "refused", "start the server"),
        ("127.0.0.1", "nosuch.invalid", "lookup", "correct the host"),
    ] {
        let text = text_of(&url.replace(part, other)).await;
        assert!(
            text.contains(what) && text.contains(cure),
            "{other}: {text}"
        );
        assert!(text.contains("store_url_file"), "{text}");
    }
    ask_for_password(&url, "poor").await;
    let wrong = url.replace("reader@", "poor:canary-2@");
    super::service_process::wait_until("the password is refused", async || {
        let text = text_of(&wrong).await;
        assert!(!text.contains("canary"), "{text}");
        text.contains("percent-encoding") && text.contains("store_url_file")
    })
    .await;
}

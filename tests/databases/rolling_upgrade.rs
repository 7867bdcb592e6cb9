//! Upgrades without a stop: processes of this release beside a later one that has upgraded the tables,
//! and beside an earlier one whose tables this release upgrades.
//!
//! The later release does what docs/replicas.md allows it. The earlier one is represented by a store
//! that was opened before, and by the statements of its release.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::timeout;

use super::postgres_store::{database_subject, execute, new_database, open_two, query_text};
use super::replicas::HAND_OVER;
use super::server::DatabaseServer;
use super::service_process::{Market, Service, ServiceConfig, wait_until};
use super::store_suite::samples::rows;
use super::store_suite::test_store::{SHOP_A, SHOP_B, SuiteStore};

/// What a later release does to the tables: a further column with a default in each of them, a
/// further table, and the next version.
const LATER_RELEASE: &str = "\
SELECT pg_advisory_xact_lock(1400136306);
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'stockbridge' LOOP
    EXECUTE format('ALTER TABLE stockbridge.%I ADD COLUMN later text NOT NULL DEFAULT ''x''', name);
  END LOOP;
END $$;
CREATE TABLE stockbridge.later (id bigint PRIMARY KEY);
INSERT INTO stockbridge.schema_version (version) SELECT max(version) + 1 FROM stockbridge.schema_version;";

/// Brings the tables back to version 1, as the release before images of statements had them.
const VERSION_1: &str = "\
DROP TABLE stockbridge.statement_page;
DROP TABLE stockbridge.statement_file;
ALTER TABLE stockbridge.replica DROP COLUMN release, DROP COLUMN settings;
ALTER TABLE stockbridge.shop DROP COLUMN directory_statements;
DELETE FROM stockbridge.schema_version WHERE version > 1;";

/// Registers a replica as the release with version 1 does, with what it has applied.
const REPLICA_OF_VERSION_1: &str = "\
INSERT INTO stockbridge.replica (id, name, shops, applied, until) \
SELECT 'old', 'old', array_agg(id), array_agg(ver), clock_timestamp() + interval '6 s' \
FROM stockbridge.shop";

/// Renews the row of that replica, without any change that was applied since.
const RENEWAL_OF_VERSION_1: &str = "\
UPDATE stockbridge.replica SET shops = shops, applied = applied, \
until = clock_timestamp() + interval '6 s' WHERE id = 'old'";

/// What that replica writes after it has applied all changes.
const CHANGES_APPLIED_BY_VERSION_1: &str = "\
UPDATE stockbridge.replica SET applied = (SELECT array_agg(ver) FROM stockbridge.shop) WHERE id = 'old'";

/// Time between two renewals.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(500);

/// Upgrades the tables as a later release. Its lock may collide with transactions of the processes
/// that run, and then it tries again.
async fn upgrade_as_later_release(url: &str) {
    wait_until("the later release has upgraded the tables", async || {
        let mut conn = PgConnection::connect(url).await.unwrap();
        let upgrade = sqlx::raw_sql(LATER_RELEASE).execute(&mut conn).await;
        conn.close().await.unwrap();
        upgrade.is_ok()
    })
    .await;
}

async fn table_version(url: &str) -> u32 {
    let sql = "SELECT max(version)::text FROM stockbridge.schema_version";
    query_text(url, sql).await.parse().unwrap()
}

/// List that the shop's source reads.
struct ListFile(TempDir);

impl ListFile {
    fn settings(&self) -> String {
        let path = self.0.path().join("stock.csv");
        format!(
            "[[shops.sources]]\nname = \"list\"\nkind = \"file\"\npath = {path:?}\n\
             scope = \"snapshot\"\nabsent = \"zero\"\nevery_seconds = 1\nguard_rows = 0\n\
             guard_zeros = 1\n"
        )
    }

    fn write(&self, rows: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("Артикул;Остаток\n{rows}")).unwrap();
        std::fs::rename(new, self.0.path().join("stock.csv")).unwrap();
    }
}

async fn wait_for_counts(service: &Service, skus: &[&str], counts: &[u64]) {
    wait_until("the replica has the stock", async || {
        service.counts(skus).as_deref() == Ok(counts)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_go_on_beside_a_later_release() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "later").await;
    let list = ListFile(tempfile::tempdir().unwrap());
    list.write("L;1\nM;1\n");
    let config = |name: &str| {
        let config = ServiceConfig::new(&market, &url, &format!("replica = {name:?}"));
        config.add(&list.settings());
        config
    };
    let configs = [config("one"), config("two")];
    let [mut one, two] = [configs[0].serve(), configs[1].serve()];
    assert_eq!(one.put(&[("A", 1), ("B", 1)]), 200);
    for service in [&one, &two] {
        wait_for_counts(service, &["A", "B", "L", "M"], &[1, 1, 1, 1]).await;
    }
    let known = table_version(&url).await;
    upgrade_as_later_release(&url).await;
    let later = table_version(&url).await;
    assert_eq!(later, known + 1);
    let market_has = async |counts: [u32; 2]| {
        wait_until("the Market has the stock", async || {
            market.counts(&["A", "B"]) == counts.map(Some)
        })
        .await;
    };
    for n in 2..6 {
        // The upgrade has ended their transactions, at most once.
        wait_until("updates are accepted", async || one.put(&[("A", n)]) == 200).await;
        assert_eq!(two.counts(&["A"]), Ok(vec![n.into()]));
        assert_eq!(two.put(&[("B", n)]), 200);
        assert_eq!(one.counts(&["B"]), Ok(vec![n.into()]));
        market_has([n, n]).await;
    }
    assert_eq!(two.ops("POST", "/pause").0, 200);
    assert_eq!(two.ops("POST", "/resume").0, 200);
    list.write("L;7\n");
    for service in [&one, &two] {
        wait_for_counts(service, &["L", "M"], &[7, 0]).await;
    }
    // This release takes over what a process had that is killed.
    one.kill();
    execute(&url, HAND_OVER).await;
    let sources =
        "UPDATE stockbridge.lease SET owner = '', until = now() WHERE name LIKE 'sources%'";
    execute(&url, sources).await;
    wait_until("updates are accepted", async || {
        two.put(&[("A", 8), ("B", 9)]) == 200
    })
    .await;
    market_has([8, 9]).await;
    list.write("M;8\n");
    wait_for_counts(&two, &["L", "M"], &[0, 8]).await;
    // Started again, it is refused, and the tables stay as they are.
    let output = block_in_place(|| configs[0].command().output().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let text = format!("have version {later}, but this release only knows version {known}");
    assert!(log.contains(&text), "{log}");
    assert!(log.contains("run the release that wrote them"), "{log}");
    assert_eq!(table_version(&url).await, later);
    assert_eq!(two.put(&[("A", 10)]), 200);
    assert_eq!(market.simulator.report().total_violations(), 0);
}

/// Compares all that processes append and read, and snapshots.
async fn check_exchange(one: &SuiteStore, other: &SuiteStore) {
    for (writer, reader, micros) in [(one, other, 100), (other, one, 200)] {
        writer.append_stock(SHOP_A, &rows(0..50, micros)).await;
        writer.compact().await.unwrap();
        writer.append_stock(SHOP_B, &rows(20..70, micros)).await;
        writer.store.test_write().await.unwrap();
        reader.store.catch_up().await.unwrap();
        assert_eq!(reader.contents(), writer.contents());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_go_on_beside_a_later_release() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "beside").await;
    let (one, other) = open_two(&url).await;
    one.append_stock(SHOP_A, &rows(0..9, 1)).await;
    upgrade_as_later_release(&url).await;
    one.fill().await;
    other.store.catch_up().await.unwrap();
    assert_eq!(other.contents(), one.contents());
    check_exchange(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_upgraded_beside_an_earlier_release() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "earlier").await;
    let known = database_subject(url.clone()).open().await;
    known.store.close().await.unwrap();
    let version = table_version(&url).await;
    execute(&url, VERSION_1).await;
    // Opening would upgrade the tables, so they go back to version 1 once more.
    let old = database_subject(url.clone()).open().await;
    execute(&url, VERSION_1).await;
    assert_eq!(table_version(&url).await, 1);
    old.fill().await;
    // It appends without a pause, while another process upgrades the tables.
    let subject = database_subject(url.clone());
    let appends = async {
        for micros in 50..90 {
            old.append_stock(SHOP_A, &rows(0..20, micros)).await;
        }
    };
    let (new, ()) = tokio::join!(subject.open(), appends);
    assert_eq!(table_version(&url).await, version);
    new.store.catch_up().await.unwrap();
    assert_eq!(new.contents(), old.contents());
    check_exchange(&old, &new).await;
    let last = database_subject(url).open().await;
    assert_eq!(last.contents(), old.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_waits_for_one_of_an_earlier_release() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "heartbeat").await;
    let list = ListFile(tempfile::tempdir().unwrap());
    let config = ServiceConfig::new(&market, &url, "replica = \"new\"");
    config.add(&list.settings());
    let mut first = config.serve();
    assert_eq!(first.put(&[("A", 1)]), 200);
    first.signal("-TERM");
    first.wait_for_exit().await;
    execute(&url, VERSION_1).await;
    execute(&url, REPLICA_OF_VERSION_1).await;
    let renewing_url = url.clone();
    let renewals = tokio::spawn(async move {
        let mut interval = tokio::time::interval(RENEWAL_INTERVAL);
        loop {
            interval.tick().await;
            execute(&renewing_url, RENEWAL_OF_VERSION_1).await;
        }
    });
    let new = Arc::new(config.serve());
    // That release reads sources without a lease, so this one does not read them.
    list.write("L;1\n");
    wait_until("it says which replica to upgrade", async || {
        let (_, status) = new.ops("GET", "/status");
        let alarms = status["alarms"].to_string();
        alarms.contains("replica old runs an earlier release")
    })
    .await;
    // The row is live, and has not applied the update.
    let version = async || query_text(&url, "SELECT sum(ver)::text FROM stockbridge.shop").await;
    let known = version().await;
    let writer = Arc::clone(&new);
    let mut writing = spawn_blocking(move || writer.put_blocking(&[("A", 2)]));
    wait_until("the update is stored", async || version().await != known).await;
    let waited = timeout(Duration::from_secs(3), &mut writing).await;
    assert!(waited.is_err(), "{waited:?}");
    execute(&url, CHANGES_APPLIED_BY_VERSION_1).await;
    assert_eq!(writing.await.unwrap(), 200);
    assert_eq!(new.counts(&["A"]), Ok(vec![2]));
    assert!(
        !renewals.is_finished(),
        "a statement of version 1 has failed"
    );
    renewals.abort();
}

//! Tests of the SQL source against a real PostgreSQL and a real MariaDB, and of the store in a real
//! PostgreSQL.
//!
//! Each test starts a private server in its own directory, on a free port of 127.0.0.1, and stops
//! it at its end. The servers must be installed; servers that already run are not touched. Built
//! only with `--test databases`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "the faults have clocks, tasks and variables of their own, and print their course"
)]

mod database_tests;
mod faults;
mod late_permit;
mod leases;
mod lost_changes;
mod lost_standby;
mod network_link;
mod postgres_store;
#[path = "../process/mod.rs"]
#[expect(dead_code, reason = "shared with other tests, which use more of it")]
mod process;
mod replicas;
mod replication;
mod rolling_upgrade;
mod server;
mod service_on_postgres;
mod service_process;
mod shared_settings;
mod slow_writer;
mod sources_takeover;
mod sql_shop;
mod stopped_process;
mod store_copy;
#[path = "../store_suite/mod.rs"]
mod store_suite;

use self::database_tests::Database;
use self::server::DatabaseServer;

#[tokio::test]
async fn postgresql_passes_all_checks() {
    let server = DatabaseServer::postgresql();
    let database = Database::postgresql(server.url()).await;
    database_tests::check_all(&database).await;
    // More digits than a 96-bit decimal has, and `NaN`.
    let sql = "select 'A' as sku, 5.999999999999999999999999999999999999::numeric(60, 40) as stock \
               union all select 'B', 'NaN'::numeric union all select 'C', 1e40::numeric \
               union all select 'D', 1::numeric / 3";
    let rows = database.read_summaries_floored(sql).await;
    assert_eq!(rows, ["A 5.999", "B rejected", "C rejected", "D 0.333"]);
}

#[tokio::test]
async fn mariadb_passes_all_checks() {
    let server = DatabaseServer::mariadb();
    let database = Database::mariadb(server.url()).await;
    database_tests::check_all(&database).await;
    let sql = "select 'A' as sku, cast('5.999999999999999999999999999999' as decimal(65, 30)) as stock \
               union all select 'B', cast(1 as decimal(20, 4)) / 3";
    assert_eq!(
        database.read_summaries_floored(sql).await,
        ["A 5.999", "B 0.333"]
    );
}

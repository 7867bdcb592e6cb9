//! The SQL source against a real PostgreSQL and a real MariaDB.
//!
//! Each test starts a private server in a directory of its own, on a free port of 127.0.0.1, and
//! stops it at its end. The servers must be installed; none that runs already is touched. Built
//! only with `--features database-tests`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod claims;
mod server;
mod shop;

use self::claims::Database;
use self::server::Server;

#[tokio::test]
async fn postgresql_is_read_as_files_are() {
    let server = Server::postgresql();
    let database = Database::postgresql(server.url()).await;
    claims::all(&database).await;
    // More digits than a decimal of 96 bits has, and a number that is none.
    let sql = "select 'A' as sku, 5.999999999999999999999999999999999999::numeric(60, 40) as stock \
               union all select 'B', 'NaN'::numeric union all select 'C', 1e40::numeric \
               union all select 'D', 1::numeric / 3";
    let told = database.told_floored(sql).await;
    assert_eq!(told, ["A 5.999", "B rejected", "C rejected", "D 0.333"]);
}

#[tokio::test]
async fn mariadb_is_read_as_files_are() {
    let server = Server::mariadb();
    let database = Database::mariadb(server.url()).await;
    claims::all(&database).await;
    let sql = "select 'A' as sku, cast('5.999999999999999999999999999999' as decimal(65, 30)) as stock \
               union all select 'B', cast(1 as decimal(20, 4)) / 3";
    assert_eq!(database.told_floored(sql).await, ["A 5.999", "B 0.333"]);
}

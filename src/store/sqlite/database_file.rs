//! Database file: creation, and check of header and tables.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::store_header::StoreHeader;
use crate::store::StoreError;
use crate::store::directory::StoreDirectory;
use crate::store::error::{StoreInternalError, to_store_error};
use crate::store::record::MalformedRecord;

/// "Stbr" in the header of the file: identifies a SQLite file of this program.
const APPLICATION_ID: u32 = 0x5374_6272;

/// Current format, kept in the header as `user_version`.
pub(super) const FORMAT: u32 = 2;

/// Size of a database page in bytes, chosen by measurement: a batch of 2000 rows fills a dozen
/// pages, and a single row writes no more than two or three.
pub(super) const PAGE_BYTES: u32 = 4096;

/// Size in bytes to which SQLite truncates its write-ahead log when it is restarted.
const WAL_KEPT_BYTES: &str = "8388608";

/// Timeout of a commit that waits for the write lock, which an operator's `sqlite3` may hold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

// The bodies of chunks and changes are packed: see `record`.
const SCHEMA: &str = "\
CREATE TABLE change (seq INTEGER PRIMARY KEY, shop INTEGER NOT NULL, rows INTEGER NOT NULL, \
body BLOB NOT NULL) STRICT;
CREATE TABLE snapshot (generation INTEGER NOT NULL, chunk INTEGER NOT NULL, shop INTEGER NOT NULL, \
rows INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (generation, chunk)) STRICT, WITHOUT ROWID;
CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT NOT NULL, target TEXT NOT NULL, \
crc INTEGER NOT NULL) STRICT;
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL, \
chunks INTEGER NOT NULL, rows INTEGER NOT NULL, snapshot_seq INTEGER NOT NULL, \
last_seq INTEGER NOT NULL, shops INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT;
CREATE TABLE spent (shop INTEGER NOT NULL, at INTEGER NOT NULL, skus INTEGER NOT NULL, \
crc INTEGER NOT NULL) STRICT;
CREATE TABLE note (shop INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, \
crc INTEGER NOT NULL, PRIMARY KEY (shop, name)) STRICT, WITHOUT ROWID;";

fn connect_options(path: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        // Done by `StoreConnection::ensure_ready`, because SQLite does not report an error of its
        // own checkpoint.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("cell_size_check", "ON")
        .pragma("trusted_schema", "OFF")
        // A row may have a quarter of a megabyte, so only few rows are read ahead.
        .row_buffer_size(4)
        .disable_statement_logging()
}

/// Creates the database under a temporary name, lets `fill` write into it, and renames it, so that
/// `stock.db` is always complete.
pub(super) async fn create_database(
    directory: &StoreDirectory,
    fill: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), StoreInternalError>,
) -> Result<(), StoreError> {
    if directory.wal().exists() {
        return Err(StoreError::Damaged {
            path: directory.database(),
            what: "the file is missing, but its -wal file exists".to_owned(),
        });
    }
    let draft = directory.create_draft()?;
    let build = async || -> Result<(), StoreInternalError> {
        let mut conn = connect_options(&draft).connect().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut conn).await?;
        sqlx::query("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, ?1)")
            .bind(StoreHeader::default().crc())
            .execute(&mut conn)
            .await?;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "PRAGMA application_id = {APPLICATION_ID}"
        )))
        .execute(&mut conn)
        .await?;
        sqlx::query(sqlx::AssertSqlSafe(format!(
            "PRAGMA user_version = {FORMAT}"
        )))
        .execute(&mut conn)
        .await?;
        fill(&mut conn).await?;
        // Writes back the log, so that a single file is left.
        conn.close().await?;
        Ok(())
    };
    let built = build().await;
    built.map_err(|error| to_store_error(directory, error))?;
    directory.publish(&draft)
}

/// Checks the header before SQLite opens the file, because SQLite might write to a foreign file.
///
/// Source of the offsets: <https://sqlite.org/fileformat.html>
pub(super) fn check_header(directory: &StoreDirectory) -> Result<(), StoreError> {
    let path = directory.database();
    let header = directory.read_prefix(100)?;
    let number = |at: usize| {
        let bytes = header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_be_bytes)
    };
    if header.is_empty() {
        return Err(StoreError::Damaged {
            path,
            what: "the file is empty".to_owned(),
        });
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(StoreError::ForeignFile {
            path,
            what: "it is not a SQLite database",
        });
    }
    match (number(60), number(68)) {
        (Some(FORMAT), Some(APPLICATION_ID)) => Ok(()),
        (Some(found), Some(APPLICATION_ID)) => Err(StoreError::OtherFormat {
            path,
            found,
            known: FORMAT,
        }),
        (_, Some(_)) => Err(StoreError::ForeignFile {
            path,
            what: "it is a SQLite database of another program",
        }),
        (None, _) | (_, None) => Err(StoreError::Damaged {
            path,
            what: "the file is shorter than the header of a SQLite database".to_owned(),
        }),
    }
}

/// Opens the database and checks its pages and tables.
pub(super) async fn open_connection(
    directory: &StoreDirectory,
) -> Result<(SqliteConnection, StoreHeader), StoreInternalError> {
    let mut conn = connect_options(&directory.database()).connect().await?;
    match check_database(&mut conn).await {
        Ok(header) => Ok((conn, header)),
        Err(error) => {
            // Awaited so that its locks are released. The first error is the one to return.
            let _closed = conn.close().await;
            Err(error)
        }
    }
}

async fn check_database(conn: &mut SqliteConnection) -> Result<StoreHeader, StoreInternalError> {
    let check_result: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *conn)
        .await?;
    if check_result != "ok" {
        return Err(StoreInternalError::Damaged(check_result));
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid",
    )
    .fetch_all(&mut *conn)
    .await?;
    if tables.join("\n") != SCHEMA {
        return Err(MalformedRecord("the tables are not those of its format").into());
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *conn)
        .await?;
    if mode != "wal" {
        let error = std::io::Error::other("the file system does not support a write-ahead log");
        return Err(StoreInternalError::Database(sqlx::Error::Io(error)));
    }
    StoreHeader::read(conn).await
}

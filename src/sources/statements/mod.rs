//! Statements of the sources of a shop, stored unchanged: one SQLite file a shop.
//!
//! The Market is never served from here: the rules turn statements into stock, and ingest stores
//! that. So the file may be lost without a loss of stock; the next snapshot fills it again.
//!
//! A delivery is staged in a file of its own, which need not survive a crash, and is committed in
//! one transaction: a reader sees the old statements or the new ones. The same transaction marks
//! the source as unapplied (column `owes`) until the book is updated, also after a restart.

mod attached_delivery;
mod change_list;
mod commit;
mod duplicates;
mod groups;
mod held;
mod rejected;
mod resolve;
mod staging;
#[cfg(test)]
mod tests;
mod variants;
mod working_copy;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use connectors::private_files;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _};

pub(super) use attached_delivery::DeliveryContents;
pub use attached_delivery::PreviewRow;
pub(super) use change_list::{ChangeList, ChangeListWriter};
pub use change_list::{StockChange, StockChangeKind, StockChangeTotals};
pub(super) use commit::CommitOptions;
pub(super) use groups::{GroupFilter, StatementGroups, StatementRow};
pub use held::HeldDelivery;
pub(super) use held::{delivery_mark, short_mark};
pub use staging::StageCounts;
pub(super) use staging::{StagedDelivery, StagingFile};
pub(super) use variants::ResolveOptions;
pub(super) use working_copy::{DIRECTORY_PREFIX, copy_held, copy_statements};

use stock::Timestamp;
use stock_import::RejectedRow;
use stock_import::shape_change::AcceptedShapes;

use super::DuplicatePolicy;

/// Format of the file. A file of another format is rejected.
const FORMAT: u32 = 4;

/// Name of the file in the directory of the shop.
const FILE_NAME: &str = "stated.db";

const SCHEMA: &str = "\
CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stated_at INTEGER, \
snapshot_at INTEGER, rows INTEGER NOT NULL DEFAULT 0, owes INTEGER NOT NULL DEFAULT 0, reader TEXT NOT NULL DEFAULT '', \
held TEXT NOT NULL DEFAULT '[]', shapes TEXT NOT NULL DEFAULT '{}', \
absence TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE stated (said TEXT NOT NULL, source INTEGER NOT NULL, place TEXT NOT NULL, \
variant TEXT NOT NULL DEFAULT '', quantity INTEGER NOT NULL, reserve INTEGER, at INTEGER, \
absent_at INTEGER, PRIMARY KEY (said, source, place, variant)) STRICT, WITHOUT ROWID;
CREATE TABLE variant (source INTEGER NOT NULL, product TEXT NOT NULL, id TEXT NOT NULL, \
is_alone INTEGER NOT NULL, PRIMARY KEY (source, product, id)) STRICT, WITHOUT ROWID;
CREATE TABLE article (source INTEGER NOT NULL, id TEXT NOT NULL, said TEXT NOT NULL, \
PRIMARY KEY (source, id)) STRICT, WITHOUT ROWID;
CREATE TABLE mapping (source INTEGER NOT NULL, said TEXT NOT NULL, sku TEXT NOT NULL, \
pack INTEGER NOT NULL, PRIMARY KEY (source, said, sku)) STRICT, WITHOUT ROWID;
CREATE TABLE rejected (source INTEGER NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL, \
reason TEXT NOT NULL, suspicious INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX rejected_by_source ON rejected (source);
CREATE TABLE rules (id INTEGER PRIMARY KEY CHECK (id = 1), digest TEXT NOT NULL) STRICT;";

/// Error of the statement store.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// SQLite failed.
    #[error("cannot store the statements of sources in {path}")]
    Database {
        /// Database or staging file.
        path: PathBuf,
        /// Error of SQLite.
        #[source]
        source: sqlx::Error,
    },
    /// The directory or a file in it cannot be used.
    #[error("cannot store the statements of sources in {path}")]
    Directory {
        /// Directory or file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Another release of the service has written the file.
    #[error(
        "{path} has format {found}, but this release only reads format {FORMAT}: run the release \
         that wrote it, or move the file away and deliver a snapshot of each source again"
    )]
    Format {
        /// Database.
        path: PathBuf,
        /// Format of the file.
        found: u32,
    },
}

/// Id of a source in the statement store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct SourceId(i64);

/// Stored state of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceRecord {
    /// Date of its latest delivery.
    pub(super) stated_at: Option<Timestamp>,
    /// Rows of its last snapshot.
    pub(super) snapshot_rows: u64,
    /// True if some of its statements are not in the book yet.
    pub(super) has_unapplied: bool,
    /// State of its connector, in a format of the connector.
    pub(super) reader_state: String,
    /// Held deliveries, the oldest first.
    pub(super) held: Vec<HeldDelivery>,
    /// Shapes of its accepted deliveries.
    pub(super) accepted_shapes: AcceptedShapes,
    /// Reason why the last snapshot's absences were not applied; empty if they were.
    pub(super) absence_not_applied: String,
}

/// Store of one shop's statements.
#[derive(Debug)]
pub(super) struct StatementStore {
    directory: PathBuf,
    conn: SqliteConnection,
    // True if any source has a mapping of SKUs.
    has_mapping: bool,
    // True if a delivery is attached; a transaction may be open then.
    is_delivery_attached: bool,
    // Deliveries staged since the start; part of the names of staging files.
    staged_count: AtomicU64,
}

impl StatementStore {
    /// Opens the store in a directory, or creates it if it is missing.
    pub(super) async fn open(directory: &Path) -> Result<Self, StatementError> {
        let directory_error = |source| StatementError::Directory {
            path: directory.to_owned(),
            source,
        };
        let path = directory.join(FILE_NAME);
        private_files::create_directory(directory)
            .and_then(|()| private_files::ensure_file(&path))
            .and_then(|()| private_files::restrict_recursively(directory))
            .map_err(directory_error)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", "-8192")
            .disable_statement_logging();
        let opened = async {
            let mut conn = options.connect().await?;
            let format: u32 = sqlx::query_scalar("PRAGMA user_version")
                .fetch_one(&mut conn)
                .await?;
            Ok((conn, format))
        };
        let database_error = |source| StatementError::Database {
            path: path.clone(),
            source,
        };
        let (mut conn, format) = opened.await.map_err(database_error)?;
        match format {
            FORMAT => {}
            // A new file.
            0 => {
                let create = format!("BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;");
                let created = sqlx::raw_sql(sqlx::AssertSqlSafe(create))
                    .execute(&mut conn)
                    .await;
                created.map_err(database_error)?;
            }
            found => return Err(StatementError::Format { path, found }),
        }
        remove_leftovers(directory).map_err(directory_error)?;
        let has_mapping = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mapping)");
        let has_mapping = has_mapping
            .fetch_one(&mut conn)
            .await
            .map_err(database_error)?;
        Ok(Self {
            directory: directory.to_owned(),
            conn,
            has_mapping,
            is_delivery_attached: false,
            staged_count: AtomicU64::new(0),
        })
    }

    fn database_error(&self, source: sqlx::Error) -> StatementError {
        StatementError::Database {
            path: self.directory.join(FILE_NAME),
            source,
        }
    }

    /// Returns the id of a source; registers it if it is new.
    pub(super) async fn register_source(&mut self, name: &str) -> Result<SourceId, StatementError> {
        let registered = sqlx::query_scalar(
            "INSERT INTO source (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name \
             RETURNING id",
        )
        .bind(name)
        .fetch_one(&mut self.conn)
        .await;
        registered
            .map(SourceId)
            .map_err(|error| self.database_error(error))
    }

    /// Returns the stored state of a source.
    pub(super) async fn source_record(
        &mut self,
        source: SourceId,
    ) -> Result<SourceRecord, StatementError> {
        let row = sqlx::query(
            "SELECT stated_at, rows, owes, reader, held, shapes, absence FROM source WHERE id = ?1",
        )
        .bind(source.0)
        .fetch_one(&mut self.conn)
        .await;
        let row = row.map_err(|error| self.database_error(error))?;
        let held: String = row.get(4);
        Ok(SourceRecord {
            stated_at: row
                .get::<Option<i64>, _>(0)
                .and_then(Timestamp::from_micros),
            snapshot_rows: u64::try_from(row.get::<i64, _>(1)).unwrap_or_default(),
            has_unapplied: row.get::<i64, _>(2) != 0,
            reader_state: row.get(3),
            held: serde_json::from_str(&held).unwrap_or_default(),
            accepted_shapes: serde_json::from_str(row.get(5)).unwrap_or_default(),
            absence_not_applied: row.get(6),
        })
    }

    /// Returns the date of each source's last snapshot, including sources that are no longer
    /// configured.
    pub(super) async fn last_snapshots(
        &mut self,
    ) -> Result<Vec<(SourceId, Option<Timestamp>)>, StatementError> {
        let rows = sqlx::query("SELECT id, snapshot_at FROM source")
            .fetch_all(&mut self.conn)
            .await;
        let rows = rows.map_err(|error| self.database_error(error))?;
        let snapshot_of = |row: &sqlx::sqlite::SqliteRow| {
            let at: Option<i64> = row.get(1);
            (SourceId(row.get(0)), at.and_then(Timestamp::from_micros))
        };
        Ok(rows.iter().map(snapshot_of).collect())
    }

    /// Saves the state of a source's connector.
    pub(super) async fn save_reader_state(
        &mut self,
        source: SourceId,
        state: &str,
    ) -> Result<(), StatementError> {
        let done = sqlx::query("UPDATE source SET reader = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(state)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Creates a staging file for a delivery of a source.
    pub(super) async fn begin_staging(
        &self,
        source: SourceId,
        duplicates: DuplicatePolicy,
    ) -> Result<StagingFile, StatementError> {
        // Two deliveries of one source may run at once, for example a poll and a manual import.
        let number = self.staged_count.fetch_add(1, Ordering::Relaxed);
        let path = self
            .directory
            .join(format!("staged-{}-{number}.db", source.0));
        StagingFile::create(&path, duplicates)
            .await
            .map_err(|source| StatementError::Database { path, source })
    }

    /// Replaces the mapping of a source: (its SKU, our SKU, its units in one piece).
    pub(super) async fn set_mapping(
        &mut self,
        source: SourceId,
        mapping: &[(String, String, u32)],
    ) -> Result<(), StatementError> {
        let mapped = replace_mapping(&mut self.conn, source, mapping).await;
        self.has_mapping = mapped.map_err(|error| self.database_error(error))?;
        Ok(())
    }

    /// Returns the digest of the rules under which all stock was last evaluated; empty if never.
    pub(super) async fn applied_rules_digest(&mut self) -> Result<String, StatementError> {
        let rules = sqlx::query_scalar("SELECT digest FROM rules");
        let rules = rules.fetch_optional(&mut self.conn).await;
        rules
            .map(Option::unwrap_or_default)
            .map_err(|error| self.database_error(error))
    }

    /// Saves the digest of the rules under which all stock was evaluated.
    pub(super) async fn save_rules_digest(&mut self, digest: &str) -> Result<(), StatementError> {
        let done = sqlx::query("INSERT OR REPLACE INTO rules (id, digest) VALUES (1, ?1)")
            .bind(digest)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Returns the statements that match the filter, grouped by SKU in order.
    pub(super) fn sku_groups(&mut self, filter: GroupFilter) -> StatementGroups<'_> {
        StatementGroups::query(&mut self.conn, filter, self.has_mapping)
    }

    /// Marks all statements of a source as applied to the book.
    pub(super) async fn mark_applied(&mut self, source: SourceId) -> Result<(), StatementError> {
        let done = sqlx::query("UPDATE source SET owes = 0 WHERE id = ?1").bind(source.0);
        let done = done.execute(&mut self.conn).await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Returns the first `limit` rejected and suspicious rows of a source's last delivery.
    pub(super) async fn rejected_rows(
        &mut self,
        source: SourceId,
        limit: u32,
    ) -> Result<Vec<RejectedRow>, StatementError> {
        let rows = sqlx::query(
            "SELECT line, text, reason, suspicious FROM rejected WHERE source = ?1 ORDER BY rowid \
             LIMIT ?2",
        )
        .bind(source.0)
        .bind(limit)
        .fetch_all(&mut self.conn)
        .await;
        let rows = rows.map_err(|error| self.database_error(error))?;
        Ok(rows.iter().map(rejected::rejected_row).collect())
    }
}

/// Removes staging files of interrupted deliveries, which were never committed, and working copies.
fn remove_leftovers(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("staged-") {
            std::fs::remove_file(entry.path())?;
        } else if name.to_string_lossy().starts_with(DIRECTORY_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

async fn replace_mapping(
    conn: &mut SqliteConnection,
    source: SourceId,
    mapping: &[(String, String, u32)],
) -> Result<bool, sqlx::Error> {
    let mut transaction = conn.begin().await?;
    sqlx::query("DELETE FROM mapping WHERE source = ?1")
        .bind(source.0)
        .execute(&mut *transaction)
        .await?;
    for (source_sku, sku, pack) in mapping {
        sqlx::query(
            "INSERT OR REPLACE INTO mapping (source, said, sku, pack) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(source.0)
        .bind(source_sku)
        .bind(sku)
        .bind(pack)
        .execute(&mut *transaction)
        .await?;
    }
    let has_mapping = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM mapping)");
    let has_mapping = has_mapping.fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(has_mapping)
}

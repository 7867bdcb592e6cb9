//! What each source of a shop has stated, kept as it was stated.
//!
//! One SQLite file a shop, beside the store. What is served to the Market never comes from
//! here: the rules turn it into stock, and the front door takes that. So the file may be lost
//! without a loss of stock; the next snapshot fills it again.
//!
//! A delivery is staged in a file of its own, which no crash has to survive, and then taken in
//! one transaction: whoever looks sees the old statements or the new ones. What has to follow,
//! the updates of the book, is noted as owed in the same transaction and made good after a
//! restart.

mod groups;
mod migrate;
mod staging;
#[cfg(test)]
mod tests;
mod variants;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _};

pub(super) use groups::{GroupFilter, StatementGroups, StatementRow};
pub use staging::StageCounts;
pub(super) use staging::{CommitOptions, StagedDelivery, StagingFile};
pub(super) use variants::ResolveOptions;

use super::shape_change::{AcceptedShapes, RecordedShape};
use super::{DuplicatePolicy, RejectedRow, private_files};
use crate::stock::Timestamp;

/// The format written and read here. Earlier ones are brought up to it when they are opened.
const FORMAT: u32 = 3;

/// Most rows that are kept of those set aside in a source's last delivery.
const MAX_REJECTED: i64 = 100_000;

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

/// Why statements cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// SQLite says so.
    #[error("the statements of sources cannot be kept in {path}")]
    Database {
        /// Where they are.
        path: PathBuf,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
    /// The directory cannot be used.
    #[error("the statements of sources cannot be kept in {path}")]
    Directory {
        /// Where they should be.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A later version has written them.
    #[error("{path} has format {found}, this version reads {FORMAT}: it is from a later version")]
    Format {
        /// Where they are.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// A source as it is known here.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct SourceId(i64);

/// What is remembered of a source.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceRecord {
    /// When its last delivery was stated.
    pub(super) stated_at: Option<Timestamp>,
    /// Rows of its last snapshot.
    pub(super) snapshot_rows: u64,
    /// What it stated is not all in the book yet.
    pub(super) has_unapplied: bool,
    /// What its reader wants to know next time, in words of its own.
    pub(super) reader_state: String,
    /// What is held of it, the oldest first.
    pub(super) held: Vec<HeldDelivery>,
    /// How its accepted deliveries were read.
    pub(super) accepted_shapes: AcceptedShapes,
    /// Why the last snapshot's absences were not applied; empty if they were.
    pub(super) absence_not_applied: String,
}

/// A delivery that waits for somebody's word.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeldDelivery {
    /// In which file it waits.
    pub file: String,
    /// Since when the first such one waits, in microseconds since 1970.
    pub since: i64,
    /// As of when it was stated, in microseconds since 1970.
    pub at: i64,
    /// Whether it is a snapshot.
    pub is_snapshot: bool,
    /// Whether what it does not name is absent.
    pub tells_absence: bool,
    /// What speaks against it.
    pub doubt: String,
    /// What it says, as one number.
    pub digest: u64,
    /// How often in a row it was said.
    pub times: u32,
    /// How its files were read.
    #[serde(default)]
    pub shapes: Vec<RecordedShape>,
}

/// What is in a delivery.
#[derive(Clone, Debug)]
pub(super) struct DeliveryContents {
    /// Rows to be taken.
    pub(super) rows: u64,
    /// Rows that are not applied.
    pub(super) rejected: u64,
    /// Those of them that can be read in two ways.
    pub(super) suspicious: u64,
    /// Those of them whose SKU variants share.
    pub(super) shared_by_variants: u64,
    /// Those of them whose product only a catalogue could tell that has not come.
    pub(super) without_known_sku: u64,
    /// The first of them.
    pub(super) first_rejected: Vec<RejectedRow>,
}

/// A row of a delivery as it would be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreviewRow {
    /// Where it stands.
    pub line: u64,
    /// The SKU, as the source spells it.
    pub sku: String,
    /// The warehouse, if the source names one.
    pub warehouse: Option<String>,
    /// The quantity; `None` states nothing.
    pub quantity: Option<crate::sources::Quantity>,
    /// The reserve, if the source states one.
    pub reserve: Option<crate::sources::Quantity>,
}

/// One shop's statements.
#[derive(Debug)]
pub(super) struct StatementStore {
    directory: PathBuf,
    conn: SqliteConnection,
    // Whether any source's words stand for other SKUs.
    has_mapping: bool,
    // A delivery is attached, and a transaction may be open.
    is_delivery_attached: bool,
    // Deliveries that were staged since the start.
    staged_count: AtomicU64,
}

impl StatementStore {
    /// Opens them, or begins them.
    pub(super) async fn open(directory: &Path) -> Result<Self, StatementError> {
        let directory_error = |source| StatementError::Directory {
            path: directory.to_owned(),
            source,
        };
        let path = directory.join("stated.db");
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
        let change = match format {
            FORMAT => None,
            0 => Some(SCHEMA),
            1 => Some(migrate::FROM_1),
            2 => Some(migrate::FROM_2),
            found => return Err(StatementError::Format { path, found }),
        };
        if let Some(change) = change {
            let change = format!("BEGIN; {change} PRAGMA user_version = {FORMAT}; COMMIT;");
            let changed = sqlx::raw_sql(sqlx::AssertSqlSafe(change))
                .execute(&mut conn)
                .await;
            changed.map_err(database_error)?;
        }
        // What an interrupted delivery left; it was never taken.
        for entry in std::fs::read_dir(directory).map_err(directory_error)? {
            let entry = entry.map_err(directory_error)?;
            if entry.file_name().to_string_lossy().starts_with("staged-") {
                std::fs::remove_file(entry.path()).map_err(directory_error)?;
            }
        }
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
            path: self.directory.join("stated.db"),
            source,
        }
    }

    /// The source of that name; it becomes known if it is not.
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

    /// What is remembered of a source.
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

    /// When each source's last snapshot was stated, of those too that are not configured any
    /// more.
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

    /// Remembers what a source's reader wants to know next time.
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

    /// A place to stage a delivery of that source.
    pub(super) async fn begin_staging(
        &self,
        source: SourceId,
        duplicates: DuplicatePolicy,
    ) -> Result<StagingFile, StatementError> {
        // Two of one source may be under way: one that was asked for, and one that came.
        let number = self.staged_count.fetch_add(1, Ordering::Relaxed);
        let path = self
            .directory
            .join(format!("staged-{}-{number}.db", source.0));
        StagingFile::create(&path, duplicates)
            .await
            .map_err(|source| StatementError::Database { path, source })
    }

    /// Replaces what the rows of a source stand for: (its word, our SKU, its units a piece).
    pub(super) async fn set_mapping(
        &mut self,
        source: SourceId,
        mapping: &[(String, String, u32)],
    ) -> Result<(), StatementError> {
        let mapped = replace_mapping(&mut self.conn, source, mapping).await;
        self.has_mapping = mapped.map_err(|error| self.database_error(error))?;
        Ok(())
    }

    /// The rules under which the book was last reckoned; empty if never.
    pub(super) async fn applied_rules_digest(&mut self) -> Result<String, StatementError> {
        let rules = sqlx::query_scalar("SELECT digest FROM rules");
        let rules = rules.fetch_optional(&mut self.conn).await;
        rules
            .map(Option::unwrap_or_default)
            .map_err(|error| self.database_error(error))
    }

    /// Notes the rules under which the book was reckoned.
    pub(super) async fn save_rules_digest(&mut self, digest: &str) -> Result<(), StatementError> {
        let done = sqlx::query("INSERT OR REPLACE INTO rules (id, digest) VALUES (1, ?1)")
            .bind(digest)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Opens a delivery and finds out what is in it: the rows to be taken, and those set aside.
    pub(super) async fn resolve_delivery(
        &mut self,
        source: SourceId,
        staged: &StagedDelivery,
        options: ResolveOptions,
    ) -> Result<DeliveryContents, StatementError> {
        let file = staged.path().display().to_string();
        self.is_delivery_attached = true;
        let resolved = async {
            sqlx::query("ATTACH DATABASE ?1 AS delivery")
                .bind(file)
                .execute(&mut self.conn)
                .await?;
            sqlx::raw_sql("PRAGMA delivery.synchronous = OFF")
                .execute(&mut self.conn)
                .await?;
            let without_known_sku = staging::resolve(&mut self.conn, source, options).await?;
            let [rows, rejected, suspicious, shared_by_variants] =
                staging::count_rows(&mut self.conn).await?;
            let first_rejected = staging::first_rejected(&mut self.conn).await?;
            Ok(DeliveryContents {
                rows,
                rejected,
                suspicious,
                without_known_sku,
                shared_by_variants,
                first_rejected,
            })
        };
        match resolved.await {
            Ok(counts) => Ok(counts),
            Err(error) => {
                self.roll_back().await?;
                Err(self.database_error(error))
            }
        }
    }

    /// How many rows of a settled delivery state no quantity.
    pub(super) async fn rows_without_quantity(&mut self) -> Result<u64, StatementError> {
        let sql = "SELECT COUNT(*) FROM delivery.row WHERE quantity IS NULL";
        let count = sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&mut self.conn)
            .await;
        count
            .map(i64::cast_unsigned)
            .map_err(|error| self.database_error(error))
    }

    /// The first rows of a settled delivery that would be applied.
    pub(super) async fn first_rows(
        &mut self,
        limit: u32,
    ) -> Result<Vec<PreviewRow>, StatementError> {
        let rows = sqlx::query(
            "SELECT line, said, place, quantity, reserve FROM delivery.row WHERE quantity IS NOT \
             NULL ORDER BY part, line LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(&mut self.conn)
        .await;
        let rows = rows.map_err(|error| self.database_error(error))?;
        let quantity =
            |number: Option<i64>| number.and_then(crate::sources::Quantity::from_thousandths);
        let preview = |row: &sqlx::sqlite::SqliteRow| PreviewRow {
            line: row.get::<i64, _>(0).cast_unsigned(),
            sku: row.get(1),
            warehouse: Some(row.get::<String, _>(2)).filter(|warehouse| !warehouse.is_empty()),
            quantity: quantity(row.get(3)),
            reserve: quantity(row.get(4)),
        };
        Ok(rows.iter().map(preview).collect())
    }

    /// Puts a settled delivery in the place of what its source stated before, in a transaction
    /// that is left open: look at [`Statements::groups`], then [`Statements::commit`] or
    /// [`Statements::abandon`].
    pub(super) async fn write_delivery(
        &mut self,
        source: SourceId,
        options: CommitOptions,
    ) -> Result<(), StatementError> {
        match staging::write_statements(&mut self.conn, source, options).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.roll_back().await?;
                Err(self.database_error(error))
            }
        }
    }

    /// Notes how the files of the delivery under way were read, in its transaction.
    pub(super) async fn save_shapes(
        &mut self,
        source: SourceId,
        shapes: &AcceptedShapes,
    ) -> Result<(), StatementError> {
        let text = serde_json::to_string(shapes).unwrap_or_default();
        let done = sqlx::query("UPDATE source SET shapes = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(text)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Notes why absences of the delivery under way are not applied, in its transaction.
    pub(super) async fn save_absence_not_applied(
        &mut self,
        source: SourceId,
        reason: &str,
    ) -> Result<(), StatementError> {
        let done = sqlx::query("UPDATE source SET absence = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(reason)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Makes what was taken durable.
    pub(super) async fn commit(&mut self) -> Result<(), StatementError> {
        let done = sqlx::query("COMMIT").execute(&mut self.conn).await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Lets go of a delivery whose statements are in the book.
    pub(super) async fn close_delivery(&mut self) -> Result<(), StatementError> {
        self.detach().await
    }

    /// Leaves everything as it was, and lets go of the delivery.
    pub(super) async fn roll_back(&mut self) -> Result<(), StatementError> {
        // A transaction that failed may have ended by itself.
        let _ended = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        self.detach().await
    }

    async fn detach(&mut self) -> Result<(), StatementError> {
        let done = sqlx::query("DETACH DATABASE delivery")
            .execute(&mut self.conn)
            .await;
        done.map_err(|error| self.database_error(error))?;
        self.is_delivery_attached = false;
        Ok(())
    }

    /// Leaves no trace of a delivery whose caller has gone in the middle.
    pub(super) async fn clean_up(&mut self) {
        if self.is_delivery_attached {
            // Neither a transaction nor the delivery need be there.
            let _ended = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
            let _gone = sqlx::query("DETACH DATABASE delivery")
                .execute(&mut self.conn)
                .await;
            self.is_delivery_attached = false;
        }
    }

    /// SKUs with all that is stated of each, in order.
    pub(super) fn sku_groups(&mut self, filter: GroupFilter) -> StatementGroups<'_> {
        StatementGroups::query(&mut self.conn, filter, self.has_mapping)
    }

    /// Everything a source has stated is in the book now.
    pub(super) async fn mark_applied(&mut self, source: SourceId) -> Result<(), StatementError> {
        let done = sqlx::query("UPDATE source SET owes = 0 WHERE id = ?1").bind(source.0);
        let done = done.execute(&mut self.conn).await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Keeps a delivery for somebody's word, beside what is held already, or instead of it if it
    /// is all there is.
    pub(super) async fn hold_delivery(
        &mut self,
        source: SourceId,
        staged: StagedDelivery,
        held: HeldDelivery,
    ) -> Result<Vec<HeldDelivery>, StatementError> {
        let path = self.directory.join(&held.file);
        let persisted = staged.persist(&path).and_then(|()| {
            // The name must be there before it is told of.
            std::fs::File::open(&self.directory)?.sync_all()
        });
        persisted.map_err(|source| StatementError::Directory { path, source })?;
        let mut all_held = self.source_record(source).await?.held;
        let superseded = if held.is_snapshot {
            std::mem::take(&mut all_held)
        } else {
            Vec::new()
        };
        all_held.push(held);
        self.save_held(source, &all_held).await?;
        self.remove_held_files(&superseded)?;
        Ok(all_held)
    }

    /// What is held, to be taken.
    pub(super) async fn open_held(
        &mut self,
        held: &HeldDelivery,
    ) -> Result<StagedDelivery, StatementError> {
        let path = self.directory.join(&held.file);
        StagedDelivery::open(&path)
            .await
            .map_err(|source| StatementError::Database { path, source })
    }

    /// These are not held any more.
    pub(super) async fn release_held(
        &mut self,
        source: SourceId,
        released: &[HeldDelivery],
    ) -> Result<Vec<HeldDelivery>, StatementError> {
        let mut all_held = self.source_record(source).await?.held;
        all_held.retain(|held| !released.contains(held));
        self.save_held(source, &all_held).await?;
        self.remove_held_files(released)?;
        Ok(all_held)
    }

    async fn save_held(
        &mut self,
        source: SourceId,
        held: &[HeldDelivery],
    ) -> Result<(), StatementError> {
        let text = serde_json::to_string(held).unwrap_or_default();
        let done = sqlx::query("UPDATE source SET held = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(text)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    fn remove_held_files(&self, held: &[HeldDelivery]) -> Result<(), StatementError> {
        for held in held {
            let path = self.directory.join(&held.file);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StatementError::Directory { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Notes which rows of the delivery under way were set aside, instead of those before.
    pub(super) async fn save_rejected(&mut self, source: SourceId) -> Result<(), StatementError> {
        let noted = staging::save_rejected(&mut self.conn, source, MAX_REJECTED).await;
        noted.map_err(|error| self.database_error(error))
    }

    /// The rows that were set aside in a source's last delivery, from one on.
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
        Ok(rows.iter().map(staging::rejected_row).collect())
    }
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

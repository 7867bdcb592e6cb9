//! Staging of a delivery in a SQLite file of its own, before anything is committed.
//!
//! Rejects rows with an invalid SKU or a date in the future. Repeated rows are resolved by
//! [`conflict_clause`] as they are written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use connectors::private_files;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Sqlite};
use stock::{Sku, Timestamp};
use stock_import::{DeliveryEntry, ProductKey, RejectedRow, Row};

use super::duplicates::conflict_clause;
use super::variants;
use crate::sources::DuplicatePolicy;

/// Rows in one `INSERT` statement.
const ROWS_PER_INSERT: usize = 500;

/// Limit for the warehouse names that are remembered for messages.
const MAX_WAREHOUSES: usize = 1_000;

/// Tolerance for dates in the future, because the clock of the source may be ahead.
const MAX_FUTURE: TimeDelta = TimeDelta::minutes(5);

/// Tables of the staging file. [`conflict_clause`] resolves repeated rows of `row`.
const SCHEMA: &str = "\
CREATE TABLE row (said TEXT NOT NULL, place TEXT NOT NULL, part INTEGER NOT NULL, \
line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, at INTEGER, clash INTEGER NOT NULL, \
copies INTEGER NOT NULL DEFAULT 1, mixed INTEGER NOT NULL DEFAULT 0, \
varied INTEGER NOT NULL DEFAULT 0, variant TEXT NOT NULL DEFAULT '', PRIMARY KEY (said, place, variant)) WITHOUT ROWID;
CREATE TABLE by_id (id TEXT NOT NULL, place TEXT NOT NULL, part INTEGER NOT NULL, \
line INTEGER NOT NULL, quantity INTEGER, reserve INTEGER, at INTEGER);
CREATE TABLE article (id TEXT NOT NULL PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE present (said TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE faulty (said TEXT NOT NULL, part INTEGER NOT NULL);
CREATE TABLE rejected (line INTEGER NOT NULL, text TEXT NOT NULL, reason TEXT NOT NULL, \
suspicious INTEGER NOT NULL DEFAULT 0);";

/// Counts of the rows that were staged so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StageCounts {
    /// Rows that were read, including rejected ones.
    pub rows: u64,
    /// Rejected and suspicious rows.
    pub rejected: u64,
    /// Rows among the rejected that do not name a SKU.
    pub without_sku: u64,
    /// Rows among the rejected that can be read in two ways.
    pub suspicious: u64,
}

/// A delivery that is being staged. Dropping it deletes its file.
#[derive(Debug)]
pub(in crate::sources) struct StagingFile {
    path: PathBuf,
    // None after it was closed.
    conn: Option<SqliteConnection>,
    rows: Vec<StagedRow>,
    rejected: Vec<RejectedRow>,
    listed_skus: Vec<String>,
    articles: Vec<(String, String)>,
    rejected_skus: Vec<(String, u32)>,
    first_without_sku: Option<RejectedRow>,
    conflict_clause: String,
    part: u32,
    counts: StageCounts,
    warehouses: BTreeSet<String>,
    // Sum of the rows' digests, so that their order does not matter.
    digest: u64,
    is_kept: bool,
}

/// A row in the form in which it is written.
#[derive(Debug)]
struct StagedRow {
    // SKU as the source spells it, or an id of the source.
    name: String,
    is_id: bool,
    warehouse: String,
    part: u32,
    line: i64,
    quantity: Option<i64>,
    reserve: Option<i64>,
    stated_at: Option<i64>,
}

impl StagingFile {
    pub(super) async fn create(
        path: &Path,
        duplicates: DuplicatePolicy,
    ) -> Result<Self, sqlx::Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(sqlx::Error::Io(error));
            }
            Ok(()) | Err(_) => {}
        }
        private_files::ensure_file(path).map_err(sqlx::Error::Io)?;
        let mut conn = connect_options(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Off)
            .locking_mode(sqlx::sqlite::SqliteLockingMode::Exclusive)
            .connect()
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&mut conn).await?;
        sqlx::raw_sql(variants::STAGING_SCHEMA)
            .execute(&mut conn)
            .await?;
        sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
        Ok(Self {
            path: path.to_owned(),
            conn: Some(conn),
            rows: Vec::new(),
            rejected: Vec::new(),
            listed_skus: Vec::new(),
            articles: Vec::new(),
            rejected_skus: Vec::new(),
            first_without_sku: None,
            conflict_clause: conflict_clause(duplicates),
            part: 0,
            counts: StageCounts::default(),
            warehouses: BTreeSet::new(),
            digest: 0,
            is_kept: false,
        })
    }

    /// Adds entries. `now` is the upper bound for their dates.
    pub(in crate::sources) async fn add_entries(
        &mut self,
        entries: Vec<DeliveryEntry>,
        now: Timestamp,
    ) -> Result<(), sqlx::Error> {
        for entry in entries {
            match entry {
                DeliveryEntry::Row(row) => self.add_row(row, now),
                DeliveryEntry::Article { id, sku } => match Sku::parse(&sku) {
                    Ok(sku) => self.articles.push((id, sku.as_str().to_owned())),
                    Err(error) => {
                        self.add_rejected(RejectedRow::new(
                            0,
                            &format!("{id}: {sku}"),
                            error.to_string(),
                        ));
                    }
                },
                DeliveryEntry::Rejected(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(rejected);
                }
                DeliveryEntry::PartBoundary => {
                    self.flush().await?;
                    self.part += 1;
                }
                DeliveryEntry::Suspicious(rejected) => {
                    self.counts.rows += 1;
                    self.add_rejected(RejectedRow {
                        is_suspicious: true,
                        ..rejected
                    });
                }
            }
        }
        self.flush().await
    }

    fn add_rejected(&mut self, row: RejectedRow) {
        self.counts.rejected += 1;
        self.counts.suspicious += u64::from(row.is_suspicious);
        if let Some(Ok(sku)) = row.sku.as_deref().map(Sku::parse) {
            self.listed_skus.push(sku.as_str().to_owned());
            self.rejected_skus
                .push((sku.as_str().to_owned(), self.part));
        } else {
            if let Some(Ok(sku)) = row.possible_sku.as_deref().map(Sku::parse) {
                self.rejected_skus
                    .push((sku.as_str().to_owned(), self.part));
            }
            self.counts.without_sku += 1;
            self.first_without_sku.get_or_insert_with(|| row.clone());
        }
        self.rejected.push(row);
    }

    fn add_row(&mut self, row: Row, now: Timestamp) {
        self.counts.rows += 1;
        let Row {
            line,
            key,
            warehouse,
            quantity,
            reserve,
            stated_at,
        } = row;
        let warehouse = warehouse
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let (name, is_id) = match key {
            ProductKey::Id(id) => (id, true),
            ProductKey::Sku(text) => match Sku::parse(&text) {
                Ok(sku) => (sku.as_str().to_owned(), false),
                Err(error) => {
                    return self.add_rejected(RejectedRow::new(line, &text, error.to_string()));
                }
            },
        };
        let latest = Timestamp::from(now.to_utc() + MAX_FUTURE);
        if let Some(at) = stated_at.filter(|at| *at > latest) {
            let reason = format!("the date is {at}, it must not be in the future");
            let mut rejected = RejectedRow::new(line, &name, reason);
            rejected.sku = Some(name).filter(|_| !is_id);
            return self.add_rejected(rejected);
        }
        // A date within the tolerance is moved to now: a date in the future would make updates of
        // others look outdated.
        let stated_at = stated_at.map(|at| at.min(now));
        if self.warehouses.len() < MAX_WAREHOUSES && !self.warehouses.contains(&warehouse) {
            self.warehouses.insert(warehouse.clone());
        }
        let staged = StagedRow {
            name,
            is_id,
            warehouse,
            part: self.part,
            line: i64::try_from(line).unwrap_or(i64::MAX),
            quantity: quantity.map(|quantity| quantity.thousandths()),
            reserve: reserve.map(|reserve| reserve.thousandths()),
            stated_at: stated_at.map(Timestamp::as_micros),
        };
        self.digest = self.digest.wrapping_add(staged.digest());
        self.rows.push(staged);
    }

    /// Writes the collected rows, in statements of few different lengths so that SQLite can reuse
    /// the prepared ones.
    async fn flush(&mut self) -> Result<(), sqlx::Error> {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let rows = std::mem::take(&mut self.rows);
        let (by_id, by_sku): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_id);
        for rows in by_sku.chunks(ROWS_PER_INSERT) {
            insert(conn, ROW_COLUMNS, rows, &self.conflict_clause).await?;
        }
        for rows in by_id.chunks(ROWS_PER_INSERT) {
            insert(conn, BY_ID_COLUMNS, rows, "").await?;
        }
        for (id, source_sku) in std::mem::take(&mut self.articles) {
            sqlx::query("INSERT OR REPLACE INTO article (id, said) VALUES (?1, ?2)")
                .bind(id)
                .bind(source_sku)
                .execute(&mut *conn)
                .await?;
        }
        for source_sku in std::mem::take(&mut self.listed_skus) {
            sqlx::query("INSERT OR IGNORE INTO present (said) VALUES (?1)")
                .bind(source_sku)
                .execute(&mut *conn)
                .await?;
        }
        for (source_sku, part) in std::mem::take(&mut self.rejected_skus) {
            sqlx::query("INSERT INTO faulty (said, part) VALUES (?1, ?2)")
                .bind(source_sku)
                .bind(part)
                .execute(&mut *conn)
                .await?;
        }
        for rejected in std::mem::take(&mut self.rejected) {
            insert_rejected(conn, &rejected).await?;
        }
        Ok(())
    }

    /// Returns the counts so far.
    pub(in crate::sources) fn counts(&self) -> StageCounts {
        self.counts
    }

    /// Closes the file of a delivery that was read to its end.
    pub(in crate::sources) async fn finish(mut self) -> Result<StagedDelivery, sqlx::Error> {
        if let Some(mut conn) = self.conn.take() {
            sqlx::raw_sql("COMMIT").execute(&mut conn).await?;
            // The exclusive lock on the file ends only when the connection is closed.
            conn.close().await?;
        }
        self.is_kept = true;
        Ok(StagedDelivery {
            path: self.path.clone(),
            counts: self.counts,
            warehouses: std::mem::take(&mut self.warehouses),
            first_without_sku: self.first_without_sku.take(),
            digest: self.digest,
            is_kept: false,
        })
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // A file that cannot be removed now is removed at the next start.
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}

impl StagedRow {
    fn digest(&self) -> u64 {
        let mut digest = Sha256::new();
        digest.update(&self.name);
        digest.update([0xff, u8::from(self.is_id)]);
        digest.update(&self.warehouse);
        digest.update([0xff]);
        for number in [self.quantity, self.reserve] {
            digest.update(number.unwrap_or(i64::MIN).to_le_bytes());
        }
        let bytes = digest.finalize();
        bytes
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A delivery that was staged to its end. Dropping it deletes its file unless it is held.
#[derive(Debug)]
pub(in crate::sources) struct StagedDelivery {
    path: PathBuf,
    /// Counts of its rows.
    pub(in crate::sources) counts: StageCounts,
    /// Warehouses that it names; `""` for rows without one.
    pub(in crate::sources) warehouses: BTreeSet<String>,
    /// The first row without a SKU: it may belong to a product that seems absent.
    pub(in crate::sources) first_without_sku: Option<RejectedRow>,
    /// Digest of its rows, independent of their order.
    pub(in crate::sources) digest: u64,
    is_kept: bool,
}

impl StagedDelivery {
    /// Opens one that was kept.
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let mut conn = connect_options(path).connect().await?;
        let warehouses = sqlx::query_scalar("SELECT DISTINCT place FROM row LIMIT 1000");
        let warehouses: Vec<String> = warehouses.fetch_all(&mut conn).await?;
        let rejected: i64 = sqlx::query_scalar("SELECT count(*) FROM rejected")
            .fetch_one(&mut conn)
            .await?;
        conn.close().await?;
        let rejected = rejected.cast_unsigned();
        Ok(Self {
            path: path.to_owned(),
            counts: StageCounts {
                rejected,
                ..StageCounts::default()
            },
            warehouses: warehouses.into_iter().collect(),
            first_without_sku: None,
            digest: 0,
            is_kept: true,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file and moves it to where it survives a restart.
    pub(super) fn persist(mut self, to: &Path) -> std::io::Result<()> {
        std::fs::File::open(&self.path)?.sync_all()?;
        if self.path != to {
            std::fs::rename(&self.path, to)?;
        }
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for StagedDelivery {
    fn drop(&mut self) {
        if !self.is_kept {
            let _removed = std::fs::remove_file(&self.path);
        }
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Off)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384")
        .disable_statement_logging()
}

const ROW_COLUMNS: &str = "row (said, place, part, line, quantity, reserve, at, clash) ";
const BY_ID_COLUMNS: &str = "by_id (id, place, part, line, quantity, reserve, at) ";

/// Inserts rows. `table` is the table with its columns; `conflict_clause` is empty for a table
/// without a key.
async fn insert(
    conn: &mut SqliteConnection,
    table: &str,
    rows: &[StagedRow],
    conflict_clause: &str,
) -> Result<(), sqlx::Error> {
    let mut insert: QueryBuilder<Sqlite> = QueryBuilder::new(format!("INSERT INTO {table}"));
    insert.push_values(rows, |mut values, row| {
        values
            .push_bind(&row.name)
            .push_bind(&row.warehouse)
            .push_bind(row.part)
            .push_bind(row.line)
            .push_bind(row.quantity)
            .push_bind(row.reserve)
            .push_bind(row.stated_at);
        if !conflict_clause.is_empty() {
            values.push("0");
        }
    });
    insert.push(conflict_clause);
    insert
        .build()
        .persistent(rows.len() == ROWS_PER_INSERT)
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert_rejected(
    conn: &mut SqliteConnection,
    row: &RejectedRow,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO rejected (line, text, reason, suspicious) VALUES (?1, ?2, ?3, ?4)")
        .bind(i64::try_from(row.line).unwrap_or(i64::MAX))
        .bind(&row.text)
        .bind(&row.reason)
        .bind(row.is_suspicious)
        .execute(conn)
        .await?;
    Ok(())
}

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::Instant;

use super::directory::StoreDirectory;
use super::error::SqliteCause;
use super::record::{MalformedRecord, PackedRecord, RecordKey};
use super::replay::{replay, snapshot_row_counts};
use super::{RecentSend, StoreError, StoreHealth, notes, recent_sends};

/// "Stbr", in the file's header: says whose SQLite file it is.
const APPLICATION_ID: u32 = 0x5374_6272;

/// The format written and read here, kept in the header as `user_version`.
const FORMAT: u32 = 2;

/// Before there were marks and notes. Its records are read, and its file is made one of ours
/// when it is opened.
const FIRST_FORMAT: u32 = 1;

/// Bytes of a database page, chosen by measuring: a batch of 2000 rows fills a dozen, and a
/// single row does not drag more than two or three along.
const PAGE_BYTES: u32 = 4096;

/// How much SQLite's log may hold before it is written back into the database.
///
/// One batch of 2000 rows in a hundred waits for that, for as long as ten others take: with
/// more it would wait longer, with less more of them would wait.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// SQLite's log file is cut down to this when it is started over.
const WAL_KEPT_BYTES: &str = "8388608";

/// How long an operator's `sqlite3` may hold the write lock before a commit gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

// What a snapshot's chunks and the log's changes hold is packed: see `record`.
const FIRST_SCHEMA: &str = "\
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
crc INTEGER NOT NULL) STRICT;";

/// What format 2 has besides.
const SECOND_SCHEMA: &str = "\
CREATE TABLE note (shop INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, \
crc INTEGER NOT NULL, PRIMARY KEY (shop, name)) STRICT, WITHOUT ROWID;";

fn schema() -> String {
    format!("{FIRST_SCHEMA}\n{SECOND_SCHEMA}")
}

/// The one row that says what is valid, so that a missing row elsewhere is noticed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct StoreHeader {
    /// Which snapshot is the whole one.
    pub(super) generation: i64,
    /// Its chunks, numbered from 0.
    pub(super) chunks: i64,
    /// The rows in all of them.
    pub(super) rows: i64,
    /// The last change that went into it.
    pub(super) snapshot_seq: i64,
    /// The last change there is.
    pub(super) last_seq: i64,
    /// The shops there are, numbered from 1.
    pub(super) shops: i64,
}

impl StoreHeader {
    pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Self, StoreInternalError> {
        Self::read_as(conn, FORMAT).await
    }

    async fn read_as(conn: &mut SqliteConnection, format: u32) -> Result<Self, StoreInternalError> {
        let row = sqlx::query(
            "SELECT generation, chunks, rows, snapshot_seq, last_seq, shops, crc FROM state",
        )
        .fetch_one(conn)
        .await?;
        let header = Self {
            generation: row.try_get(0)?,
            chunks: row.try_get(1)?,
            rows: row.try_get(2)?,
            snapshot_seq: row.try_get(3)?,
            last_seq: row.try_get(4)?,
            shops: row.try_get(5)?,
        };
        if row.try_get::<i64, _>(6)? == header.crc(format) {
            Ok(header)
        } else {
            Err(MalformedRecord("a state whose checksum does not match").into())
        }
    }

    async fn write(&self, conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
        let result = sqlx::query(
            "UPDATE state SET generation = ?1, chunks = ?2, rows = ?3, snapshot_seq = ?4, \
             last_seq = ?5, shops = ?6, crc = ?7 WHERE id = 1",
        )
        .bind(self.generation)
        .bind(self.chunks)
        .bind(self.rows)
        .bind(self.snapshot_seq)
        .bind(self.last_seq)
        .bind(self.shops)
        .bind(self.crc(FORMAT))
        .execute(conn)
        .await?;
        if result.rows_affected() == 1 {
            Ok(())
        } else {
            Err(MalformedRecord("no state").into())
        }
    }

    fn crc(&self, format: u32) -> i64 {
        let mut crc = crc32fast::Hasher::new();
        let Self {
            generation,
            chunks,
            rows,
            snapshot_seq,
            last_seq,
            shops,
        } = *self;
        for number in [
            format.into(),
            generation,
            chunks,
            rows,
            snapshot_seq,
            last_seq,
            shops,
        ] {
            crc.update(&number.to_le_bytes());
        }
        crc.finalize().into()
    }
}

/// A shop as it is remembered.
#[derive(Clone, Debug)]
pub(super) struct DiskShop {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) target: String,
}

impl DiskShop {
    fn crc(&self) -> i64 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.id.to_le_bytes());
        // The length keeps a letter from wandering between name and target.
        crc.update(&(self.name.len() as u64).to_le_bytes());
        crc.update(self.name.as_bytes());
        crc.update(self.target.as_bytes());
        crc.finalize().into()
    }
}

/// One statement of a transaction.
#[derive(Debug)]
pub(super) enum StoreWrite {
    Change {
        seq: i64,
        shop: i64,
        packed: PackedRecord,
    },
    Chunk {
        generation: i64,
        chunk: i64,
        shop: i64,
        packed: PackedRecord,
    },
    Shop(DiskShop),
    /// Notes what is about to be sent of a shop, and forgets what was long ago.
    RecentSend {
        shop: i64,
        send: RecentSend,
    },
    /// Notes something, or takes the note away.
    Note {
        shop: i64,
        name: String,
        text: Option<String>,
    },
    /// Deletes the changes up to this one.
    DropCompacted(i64),
    /// Deletes the changes after this one.
    DropUncommitted(i64),
    /// Deletes so many chunks of other generations than this.
    DropStale {
        generation: i64,
        limit: i64,
    },
}

impl StoreWrite {
    fn estimated_bytes(&self) -> u64 {
        match self {
            Self::Change { packed, .. } | Self::Chunk { packed, .. } => packed.body.len() as u64,
            Self::Shop(_)
            | Self::RecentSend { .. }
            | Self::Note { .. }
            | Self::DropCompacted(_)
            | Self::DropUncommitted(_)
            | Self::DropStale { .. } => u64::from(PAGE_BYTES) * 4,
        }
    }

    async fn execute(self, conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
        let query = match self {
            Self::Change { seq, shop, packed } => {
                let rows = packed.rows;
                sqlx::query("INSERT INTO change (seq, shop, rows, body) VALUES (?1, ?2, ?3, ?4)")
                    .bind(seq)
                    .bind(shop)
                    .bind(rows)
                    .bind(packed.seal(RecordKey::Change { seq }, shop))
            }
            Self::Chunk {
                generation,
                chunk,
                shop,
                packed,
            } => {
                let rows = packed.rows;
                sqlx::query(
                    "INSERT INTO snapshot (generation, chunk, shop, rows, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )
                .bind(generation)
                .bind(chunk)
                .bind(shop)
                .bind(rows)
                .bind(packed.seal(RecordKey::Chunk { generation, chunk }, shop))
            }
            Self::Shop(shop) => {
                let crc = shop.crc();
                sqlx::query(
                    "INSERT OR REPLACE INTO shop (id, name, target, crc) VALUES (?1, ?2, ?3, ?4)",
                )
                .bind(shop.id)
                .bind(shop.name)
                .bind(shop.target)
                .bind(crc)
            }
            Self::RecentSend { shop, send } => return recent_sends::write(conn, shop, send).await,
            Self::Note { shop, name, text } => {
                return notes::write(conn, shop, &name, text.as_deref()).await;
            }
            Self::DropCompacted(seq) => sqlx::query("DELETE FROM change WHERE seq <= ?1").bind(seq),
            Self::DropUncommitted(seq) => {
                sqlx::query("DELETE FROM change WHERE seq > ?1").bind(seq)
            }
            Self::DropStale { generation, limit } => sqlx::query(
                "DELETE FROM snapshot WHERE (generation, chunk) IN \
                 (SELECT generation, chunk FROM snapshot WHERE generation <> ?1 LIMIT ?2)",
            )
            .bind(generation)
            .bind(limit),
        };
        query.execute(conn).await?;
        Ok(())
    }
}

/// The one connection to the database, and what is known of what it has written.
///
/// sqlx's own transactions are not used: when SQLite rolls one back by itself, as it does on
/// a full disk, sqlx goes on believing that it is open. Here the rule is: before the first
/// statement of a transaction `unsettled` is set, after its commit it is cleared; whoever finds
/// it set, because a commit failed or its caller's future was dropped, settles first.
#[derive(Debug)]
pub(super) struct StoreConnection {
    directory: Arc<StoreDirectory>,
    conn: Option<SqliteConnection>,
    header: StoreHeader,
    is_uncertain: bool,
    failed: Option<String>,
    is_closed: bool,
    wal_bytes: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
    last_commit: Duration,
    /// After so many more commits, the next is reported failed although it is on disk.
    #[cfg(test)]
    pub(super) fail_after: Option<usize>,
}

impl StoreConnection {
    /// Opens the database, or creates it, and checks all that can be checked without reading
    /// every record.
    pub(super) async fn open(directory: Arc<StoreDirectory>) -> Result<Self, StoreError> {
        if !directory.database().exists() {
            create_database(&directory).await?;
        }
        let mut connection = Self {
            directory,
            conn: None,
            header: StoreHeader::default(),
            is_uncertain: false,
            failed: None,
            is_closed: false,
            wal_bytes: 0,
            log_bytes: 0,
            snapshot_bytes: 0,
            last_commit: Duration::ZERO,
            #[cfg(test)]
            fail_after: None,
        };
        connection.header = connection.connect().await?;
        connection.update_sizes().await?;
        // What was left in the log is written back with the first commit.
        connection.wal_bytes = CHECKPOINT_BYTES;
        Ok(connection)
    }

    /// What is valid, as of the last commit that succeeded.
    pub(super) fn header(&self) -> StoreHeader {
        self.header
    }

    /// What can be told without waiting for the connection.
    pub(super) fn health(&self) -> StoreHealth {
        StoreHealth {
            failed: self.failed.clone(),
            log_bytes: self.log_bytes,
            snapshot_bytes: self.snapshot_bytes,
            last_seq: self.header.last_seq,
            generation: self.header.generation,
            last_commit: self.last_commit,
        }
    }

    /// Makes sure that the next transaction can begin.
    pub(super) async fn ensure_ready(&mut self) -> Result<(), StoreError> {
        self.check_usable()?;
        if self.is_uncertain {
            self.resolve_uncertain().await?;
        }
        if self.wal_bytes >= CHECKPOINT_BYTES {
            match self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await {
                Ok(_) => self.wal_bytes = 0,
                // The log can do without: another try after the next half.
                Err(error) if !error.is_fatal() => self.wal_bytes = CHECKPOINT_BYTES / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does all of `writes` and makes `head` valid in one durable transaction, or nothing.
    ///
    /// Dropping the future leaves either too; [`Session::ready`] then undoes the changes.
    pub(super) async fn commit(
        &mut self,
        writes: Vec<StoreWrite>,
        header: StoreHeader,
    ) -> Result<(), StoreError> {
        self.check_usable()?;
        let started = Instant::now();
        let bytes =
            writes.iter().map(StoreWrite::estimated_bytes).sum::<u64>() + 4 * u64::from(PAGE_BYTES);
        let Some(conn) = self.conn.as_mut() else {
            return Err(StoreError::Closed);
        };
        self.is_uncertain = true;
        if let Err(error) = run_transaction(conn, writes, header).await {
            // Gives the write lock back; whether that worked is seen when settling.
            let _resolved_later = rollback(conn).await;
            return Err(self.record_failure(error));
        }
        #[cfg(test)]
        if self.fails_now() {
            return Err(self.record_failure(StoreInternalError::Sqlite(sqlx::Error::WorkerCrashed)));
        }
        self.is_uncertain = false;
        self.header = header;
        self.wal_bytes += bytes;
        self.last_commit = started.elapsed();
        Ok(())
    }

    /// Counts what was added to the log.
    pub(super) fn add_log_bytes(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// Reads the sizes of log and snapshot from disk.
    pub(super) async fn update_sizes(&mut self) -> Result<(), StoreError> {
        let outcome = self.read_sizes().await;
        let (log, snapshot) = outcome.map_err(|error| self.record_failure(error))?;
        self.log_bytes = log.cast_unsigned();
        self.snapshot_bytes = snapshot.cast_unsigned();
        Ok(())
    }

    /// The connection, for reading.
    pub(super) fn conn(&mut self) -> Result<&mut SqliteConnection, StoreInternalError> {
        self.conn.as_mut().ok_or(StoreInternalError::Closed)
    }

    /// What an error means to callers; if it leaves doubts, the session is failed from now on.
    pub(super) fn record_failure(&mut self, internal: StoreInternalError) -> StoreError {
        let error = to_store_error(&self.directory, internal);
        if error.is_fatal() && self.failed.is_none() {
            self.failed = Some(error.to_string());
        }
        error
    }

    /// The shops that are remembered, by their number.
    pub(super) async fn shops(&mut self) -> Result<Vec<DiskShop>, StoreError> {
        let outcome = self.read_shops().await;
        outcome.map_err(|error| self.record_failure(error))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Closes the connection and opens another, which is believed once every record
    /// in it was verified.
    pub(super) async fn reconnect(&mut self) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if let Some(conn) = self.conn.take() {
            // It may fail again, that is why it has to go.
            let _failed = conn.close().await;
        }
        self.is_uncertain = true;
        let header = self.connect().await?;
        let outcome = self.verify_records(header).await;
        outcome.map_err(|error| self.record_failure(error))?;
        self.resolve_uncertain().await?;
        // All that lies in SQLite's log is written once more: what an fsync has failed on may
        // look well in memory and be lost on disk, and then all that follows it in the log.
        if !self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await? {
            return Err(StoreError::Busy);
        }
        self.wal_bytes = 0;
        self.failed = None;
        Ok(())
    }

    /// Writes SQLite's log back and closes the connection.
    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        let resolved = match self.check_usable() {
            Ok(()) if self.is_uncertain => self.resolve_uncertain().await,
            other => other,
        };
        let written = match resolved {
            Ok(()) => self
                .checkpoint("PRAGMA wal_checkpoint(TRUNCATE)")
                .await
                .map(drop),
            Err(error) => Err(error),
        };
        let closed = match self.conn.take() {
            Some(conn) => conn.close().await,
            None => Ok(()),
        };
        self.is_closed = true;
        self.directory.unlock();
        written?;
        closed.map_err(|error| self.record_failure(error.into()))
    }

    async fn connect(&mut self) -> Result<StoreHeader, StoreError> {
        check_header(&self.directory)?;
        self.directory.restrict_permissions()?;
        let outcome = open_connection(&self.directory).await;
        let (conn, header) = outcome.map_err(|error| to_store_error(&self.directory, error))?;
        self.conn = Some(conn);
        Ok(header)
    }

    /// Ends what a failed or forgotten transaction has left: an open transaction is rolled back,
    /// changes nobody was told of are deleted, so that disk and memory agree.
    async fn resolve_uncertain(&mut self) -> Result<(), StoreError> {
        let outcome = self.roll_back_uncertain().await;
        self.header = outcome.map_err(|error| self.record_failure(error))?;
        self.update_sizes().await?;
        self.is_uncertain = false;
        Ok(())
    }

    async fn checkpoint(&mut self, pragma: &'static str) -> Result<bool, StoreError> {
        let outcome = self.run_checkpoint(pragma).await;
        outcome.map_err(|error| self.record_failure(error))
    }

    async fn run_checkpoint(&mut self, pragma: &'static str) -> Result<bool, StoreInternalError> {
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as(pragma).fetch_one(self.conn()?).await?;
        Ok(busy == 0)
    }

    async fn verify_records(&mut self, header: StoreHeader) -> Result<(), StoreInternalError> {
        let conn = self.conn()?;
        snapshot_row_counts(conn, header).await?;
        replay(conn, header, |_, mut reader| {
            reader.try_for_each(|row| row.map(drop))
        })
        .await?;
        read_shops(conn, header.shops).await?;
        Ok(())
    }

    async fn roll_back_uncertain(&mut self) -> Result<StoreHeader, StoreInternalError> {
        let acknowledged = self.header.last_seq;
        let conn = self.conn()?;
        rollback(conn).await?;
        let found = StoreHeader::read(conn).await?;
        if found.last_seq < acknowledged {
            return Err(MalformedRecord("changes are gone that were written").into());
        }
        let header = StoreHeader {
            last_seq: acknowledged,
            ..found
        };
        if header != found {
            run_transaction(
                conn,
                vec![StoreWrite::DropUncommitted(acknowledged)],
                header,
            )
            .await?;
        }
        Ok(header)
    }

    async fn read_shops(&mut self) -> Result<Vec<DiskShop>, StoreInternalError> {
        let count = self.header.shops;
        read_shops(self.conn()?, count).await
    }

    async fn read_sizes(&mut self) -> Result<(i64, i64), StoreInternalError> {
        let StoreHeader {
            generation,
            snapshot_seq,
            ..
        } = self.header;
        let conn = self.conn()?;
        let log = sqlx::query_scalar(
            "SELECT coalesce(sum(length(body) + 20), 0) FROM change WHERE seq > ?1",
        )
        .bind(snapshot_seq)
        .fetch_one(&mut *conn)
        .await?;
        let snapshot = sqlx::query_scalar(
            "SELECT coalesce(sum(length(body)), 0) FROM snapshot WHERE generation = ?1",
        )
        .bind(generation)
        .fetch_one(conn)
        .await?;
        Ok((log, snapshot))
    }

    fn check_usable(&self) -> Result<(), StoreError> {
        match &self.failed {
            _ if self.is_closed => Err(StoreError::Closed),
            Some(what) => Err(StoreError::Failed { what: what.clone() }),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn fails_now(&mut self) -> bool {
        match &mut self.fail_after {
            Some(0) => {
                self.fail_after = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

/// What went wrong inside, before it is known what it means to callers.
#[derive(Debug)]
pub(super) enum StoreInternalError {
    /// The connection was closed, or a healing that would have opened it was not finished.
    Closed,
    Sqlite(sqlx::Error),
    Damaged(String),
}

impl From<sqlx::Error> for StoreInternalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<MalformedRecord> for StoreInternalError {
    fn from(malformed: MalformedRecord) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

fn to_store_error(directory: &StoreDirectory, internal: StoreInternalError) -> StoreError {
    let path = directory.database();
    let cause = match internal {
        StoreInternalError::Closed => return StoreError::Closed,
        StoreInternalError::Sqlite(error) => SqliteCause::classify(&error),
        StoreInternalError::Damaged(what) => SqliteCause::Damaged(what),
    };
    match cause {
        SqliteCause::DiskFull => StoreError::DiskFull,
        SqliteCause::Busy => StoreError::Busy,
        SqliteCause::MaybeFull(_) if directory.is_disk_full() => StoreError::DiskFull,
        SqliteCause::MaybeFull(what) | SqliteCause::Failed(what) => StoreError::Failed { what },
        SqliteCause::Damaged(what) => StoreError::Damaged { path, what },
        SqliteCause::NotWritable(what) => StoreError::Unwritable {
            path,
            source: std::io::Error::other(what),
        },
    }
}

fn connect_options(path: &std::path::Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        // Done by `ready`, because SQLite would keep an error of its own to itself.
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", WAL_KEPT_BYTES)
        .pragma("cell_size_check", "ON")
        .pragma("trusted_schema", "OFF")
        // A row may be a quarter of a megabyte: the reader must not run far ahead.
        .row_buffer_size(4)
        .disable_statement_logging()
}

/// Makes a database under another name first: under the real one there is never half of one.
async fn create_database(directory: &StoreDirectory) -> Result<(), StoreError> {
    if directory.wal().exists() {
        return Err(StoreError::Damaged {
            path: directory.database(),
            what: "it is missing, but its log is there".to_owned(),
        });
    }
    let draft = directory.create_draft()?;
    let build = async || -> Result<(), sqlx::Error> {
        let mut conn = connect_options(&draft).connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(schema()))
            .execute(&mut conn)
            .await?;
        sqlx::query("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, ?1)")
            .bind(StoreHeader::default().crc(FORMAT))
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
        // Takes the log along: a single file is left.
        conn.close().await
    };
    build()
        .await
        .map_err(|error| to_store_error(directory, error.into()))?;
    directory.publish(&draft)
}

/// Looks at the header before SQLite does, because SQLite would write to a file of anybody.
///
/// Source of the offsets: <https://sqlite.org/fileformat.html>
fn check_header(directory: &StoreDirectory) -> Result<(), StoreError> {
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
            what: "it is empty".to_owned(),
        });
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(StoreError::ForeignFile {
            path,
            what: "it is no SQLite database",
        });
    }
    match (number(60), number(68)) {
        (Some(FIRST_FORMAT..=FORMAT), Some(APPLICATION_ID)) => Ok(()),
        (Some(found), Some(APPLICATION_ID)) if found > FORMAT => Err(StoreError::NewerFormat {
            path,
            found,
            known: FORMAT,
        }),
        (_, Some(APPLICATION_ID)) => Err(StoreError::Damaged {
            path,
            what: "its format number is impossible".to_owned(),
        }),
        (_, Some(_)) => Err(StoreError::ForeignFile {
            path,
            what: "it is another program's SQLite database",
        }),
        (_, None) => Err(StoreError::Damaged {
            path,
            what: "it ends in its header".to_owned(),
        }),
    }
}

async fn open_connection(
    directory: &StoreDirectory,
) -> Result<(SqliteConnection, StoreHeader), StoreInternalError> {
    let mut conn = connect_options(&directory.database()).connect().await?;
    match check_database(&mut conn).await {
        Ok(header) => Ok((conn, header)),
        Err(error) => {
            // Awaited, so that nobody meets its locks; the flaw is what matters.
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
    let format: u32 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *conn)
        .await?;
    let is_first_format = format == FIRST_FORMAT;
    let expected = if is_first_format {
        FIRST_SCHEMA.to_owned()
    } else {
        schema()
    };
    if tables.join("\n") != expected {
        return Err(MalformedRecord("tables that are not those of its format").into());
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *conn)
        .await?;
    if mode != "wal" {
        let error = std::io::Error::other("the file system does not allow a write-ahead log");
        return Err(StoreInternalError::Sqlite(sqlx::Error::Io(error)));
    }
    if is_first_format {
        upgrade_format(conn).await?;
    }
    StoreHeader::read(conn).await
}

/// Makes a file of the first format one of ours, in one transaction: a crash leaves either.
async fn upgrade_format(conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
    let header = StoreHeader::read_as(conn, FIRST_FORMAT).await?;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::raw_sql(SECOND_SCHEMA).execute(&mut *conn).await?;
    header.write(conn).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "PRAGMA user_version = {FORMAT}"
    )))
    .execute(&mut *conn)
    .await?;
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

async fn read_shops(
    conn: &mut SqliteConnection,
    count: i64,
) -> Result<Vec<DiskShop>, StoreInternalError> {
    let rows = sqlx::query("SELECT id, name, target, crc FROM shop ORDER BY id")
        .fetch_all(conn)
        .await?;
    let mut shops = Vec::new();
    for (row, expected) in rows.iter().zip(1..) {
        let shop = DiskShop {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            target: row.try_get(2)?,
        };
        if shop.id != expected || shop.crc() != row.try_get::<i64, _>(3)? {
            return Err(MalformedRecord("a shop whose checksum does not match").into());
        }
        shops.push(shop);
    }
    if shops.len() as u64 == count.cast_unsigned() {
        Ok(shops)
    } else {
        Err(MalformedRecord("not as many shops as there were").into())
    }
}

async fn run_transaction(
    conn: &mut SqliteConnection,
    writes: Vec<StoreWrite>,
    header: StoreHeader,
) -> Result<(), StoreInternalError> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for write in writes {
        write.execute(conn).await?;
    }
    header.write(conn).await?;
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

async fn rollback(conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
    match sqlx::raw_sql("ROLLBACK").execute(conn).await {
        Ok(_) => Ok(()),
        // There was none to roll back.
        Err(error) if SqliteCause::is_no_transaction(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::time::Instant;

use super::directory::Directory;
use super::error::Cause;
use super::record::{Key, Malformed, Packed};
use super::replay::{replay, sizes};
use super::{Spent, StoreError, Vitals, notes, spent};

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
pub(super) struct Head {
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

impl Head {
    pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Self, Flaw> {
        Self::read_as(conn, FORMAT).await
    }

    async fn read_as(conn: &mut SqliteConnection, format: u32) -> Result<Self, Flaw> {
        let row = sqlx::query(
            "SELECT generation, chunks, rows, snapshot_seq, last_seq, shops, crc FROM state",
        )
        .fetch_one(conn)
        .await?;
        let head = Self {
            generation: row.try_get(0)?,
            chunks: row.try_get(1)?,
            rows: row.try_get(2)?,
            snapshot_seq: row.try_get(3)?,
            last_seq: row.try_get(4)?,
            shops: row.try_get(5)?,
        };
        if row.try_get::<i64, _>(6)? == head.crc(format) {
            Ok(head)
        } else {
            Err(Malformed("a state whose checksum does not match").into())
        }
    }

    async fn write(&self, conn: &mut SqliteConnection) -> Result<(), Flaw> {
        let done = sqlx::query(
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
        if done.rows_affected() == 1 {
            Ok(())
        } else {
            Err(Malformed("no state").into())
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
pub(super) enum Write {
    Change {
        seq: i64,
        shop: i64,
        packed: Packed,
    },
    Chunk {
        generation: i64,
        chunk: i64,
        shop: i64,
        packed: Packed,
    },
    Shop(DiskShop),
    /// Notes what is about to be sent of a shop, and forgets what was long ago.
    Spent {
        shop: i64,
        spent: Spent,
    },
    /// Notes something, or takes the note away.
    Note {
        shop: i64,
        name: String,
        text: Option<String>,
    },
    /// Deletes the changes up to this one.
    DropFolded(i64),
    /// Deletes the changes after this one.
    Undo(i64),
    /// Deletes so many chunks of other generations than this.
    DropStale {
        generation: i64,
        limit: i64,
    },
}

impl Write {
    fn bytes(&self) -> u64 {
        match self {
            Self::Change { packed, .. } | Self::Chunk { packed, .. } => packed.body.len() as u64,
            Self::Shop(_)
            | Self::Spent { .. }
            | Self::Note { .. }
            | Self::DropFolded(_)
            | Self::Undo(_)
            | Self::DropStale { .. } => u64::from(PAGE_BYTES) * 4,
        }
    }

    async fn perform(self, conn: &mut SqliteConnection) -> Result<(), Flaw> {
        let query = match self {
            Self::Change { seq, shop, packed } => {
                let rows = packed.rows;
                sqlx::query("INSERT INTO change (seq, shop, rows, body) VALUES (?1, ?2, ?3, ?4)")
                    .bind(seq)
                    .bind(shop)
                    .bind(rows)
                    .bind(packed.seal(Key::Change { seq }, shop))
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
                .bind(packed.seal(Key::Chunk { generation, chunk }, shop))
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
            Self::Spent { shop, spent } => return spent::write(conn, shop, spent).await,
            Self::Note { shop, name, text } => {
                return notes::write(conn, shop, &name, text.as_deref()).await;
            }
            Self::DropFolded(seq) => sqlx::query("DELETE FROM change WHERE seq <= ?1").bind(seq),
            Self::Undo(seq) => sqlx::query("DELETE FROM change WHERE seq > ?1").bind(seq),
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
pub(super) struct Session {
    directory: Arc<Directory>,
    conn: Option<SqliteConnection>,
    head: Head,
    unsettled: bool,
    failed: Option<String>,
    closed: bool,
    wal_bytes: u64,
    log_bytes: u64,
    snapshot_bytes: u64,
    last_commit: Duration,
    /// After so many more commits, the next is reported failed although it is on disk.
    #[cfg(test)]
    pub(super) fail_after: Option<usize>,
}

impl Session {
    /// Opens the database, or creates it, and checks all that can be checked without reading
    /// every record.
    pub(super) async fn open(directory: Arc<Directory>) -> Result<Self, StoreError> {
        if !directory.database().exists() {
            create(&directory).await?;
        }
        let mut session = Self {
            directory,
            conn: None,
            head: Head::default(),
            unsettled: false,
            failed: None,
            closed: false,
            wal_bytes: 0,
            log_bytes: 0,
            snapshot_bytes: 0,
            last_commit: Duration::ZERO,
            #[cfg(test)]
            fail_after: None,
        };
        session.head = session.connect().await?;
        session.measure().await?;
        // What was left in the log is written back with the first commit.
        session.wal_bytes = CHECKPOINT_BYTES;
        Ok(session)
    }

    /// What is valid, as of the last commit that succeeded.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// What can be told without waiting for the connection.
    pub(super) fn vitals(&self) -> Vitals {
        Vitals {
            failed: self.failed.clone(),
            log_bytes: self.log_bytes,
            snapshot_bytes: self.snapshot_bytes,
            last_seq: self.head.last_seq,
            generation: self.head.generation,
            last_commit: self.last_commit,
        }
    }

    /// Makes sure that the next transaction can begin.
    pub(super) async fn ready(&mut self) -> Result<(), StoreError> {
        self.check_usable()?;
        if self.unsettled {
            self.settle().await?;
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
        writes: Vec<Write>,
        head: Head,
    ) -> Result<(), StoreError> {
        self.check_usable()?;
        let begun = Instant::now();
        let bytes = writes.iter().map(Write::bytes).sum::<u64>() + 4 * u64::from(PAGE_BYTES);
        let Some(conn) = self.conn.as_mut() else {
            return Err(StoreError::Closed);
        };
        self.unsettled = true;
        if let Err(flaw) = transact(conn, writes, head).await {
            // Gives the write lock back; whether that worked is seen when settling.
            let _settled_later = rollback(conn).await;
            return Err(self.failure(flaw));
        }
        #[cfg(test)]
        if self.trips() {
            return Err(self.failure(Flaw::Library(sqlx::Error::WorkerCrashed)));
        }
        self.unsettled = false;
        self.head = head;
        self.wal_bytes += bytes;
        self.last_commit = begun.elapsed();
        Ok(())
    }

    /// Counts what was added to the log.
    pub(super) fn logged(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// Reads the sizes of log and snapshot from disk.
    pub(super) async fn measure(&mut self) -> Result<(), StoreError> {
        let outcome = self.read_sizes().await;
        let (log, snapshot) = outcome.map_err(|flaw| self.failure(flaw))?;
        self.log_bytes = log.cast_unsigned();
        self.snapshot_bytes = snapshot.cast_unsigned();
        Ok(())
    }

    /// The connection, for reading.
    pub(super) fn conn(&mut self) -> Result<&mut SqliteConnection, Flaw> {
        self.conn.as_mut().ok_or(Flaw::Closed)
    }

    /// What an error means to callers; if it leaves doubts, the session is failed from now on.
    pub(super) fn failure(&mut self, flaw: Flaw) -> StoreError {
        let error = explain(&self.directory, flaw);
        if error.is_fatal() && self.failed.is_none() {
            self.failed = Some(error.to_string());
        }
        error
    }

    /// The shops that are remembered, by their number.
    pub(super) async fn shops(&mut self) -> Result<Vec<DiskShop>, StoreError> {
        let outcome = self.read_shops().await;
        outcome.map_err(|flaw| self.failure(flaw))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Closes the connection and opens another, which is believed once every record
    /// in it was verified.
    pub(super) async fn reconnect(&mut self) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        if let Some(conn) = self.conn.take() {
            // It may fail again, that is why it has to go.
            let _failed = conn.close().await;
        }
        self.unsettled = true;
        let head = self.connect().await?;
        let outcome = self.verify(head).await;
        outcome.map_err(|flaw| self.failure(flaw))?;
        self.settle().await?;
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
        let settled = match self.check_usable() {
            Ok(()) if self.unsettled => self.settle().await,
            other => other,
        };
        let written = match settled {
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
        self.closed = true;
        self.directory.release();
        written?;
        closed.map_err(|error| self.failure(error.into()))
    }

    async fn connect(&mut self) -> Result<Head, StoreError> {
        check_header(&self.directory)?;
        self.directory.restrict()?;
        let outcome = connect(&self.directory).await;
        let (conn, head) = outcome.map_err(|flaw| explain(&self.directory, flaw))?;
        self.conn = Some(conn);
        Ok(head)
    }

    /// Ends what a failed or forgotten transaction has left: an open transaction is rolled back,
    /// changes nobody was told of are deleted, so that disk and memory agree.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let outcome = self.undo().await;
        self.head = outcome.map_err(|flaw| self.failure(flaw))?;
        self.measure().await?;
        self.unsettled = false;
        Ok(())
    }

    async fn checkpoint(&mut self, pragma: &'static str) -> Result<bool, StoreError> {
        let outcome = self.write_back(pragma).await;
        outcome.map_err(|flaw| self.failure(flaw))
    }

    async fn write_back(&mut self, pragma: &'static str) -> Result<bool, Flaw> {
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as(pragma).fetch_one(self.conn()?).await?;
        Ok(busy == 0)
    }

    async fn verify(&mut self, head: Head) -> Result<(), Flaw> {
        let conn = self.conn()?;
        sizes(conn, head).await?;
        replay(conn, head, |_, mut facts| {
            facts.try_for_each(|fact| fact.map(drop))
        })
        .await?;
        read_shops(conn, head.shops).await?;
        Ok(())
    }

    async fn undo(&mut self) -> Result<Head, Flaw> {
        let acknowledged = self.head.last_seq;
        let conn = self.conn()?;
        rollback(conn).await?;
        let found = Head::read(conn).await?;
        if found.last_seq < acknowledged {
            return Err(Malformed("changes are gone that were written").into());
        }
        let head = Head {
            last_seq: acknowledged,
            ..found
        };
        if head != found {
            transact(conn, vec![Write::Undo(acknowledged)], head).await?;
        }
        Ok(head)
    }

    async fn read_shops(&mut self) -> Result<Vec<DiskShop>, Flaw> {
        let count = self.head.shops;
        read_shops(self.conn()?, count).await
    }

    async fn read_sizes(&mut self) -> Result<(i64, i64), Flaw> {
        let Head {
            generation,
            snapshot_seq,
            ..
        } = self.head;
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
            _ if self.closed => Err(StoreError::Closed),
            Some(what) => Err(StoreError::Failed { what: what.clone() }),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn trips(&mut self) -> bool {
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
pub(super) enum Flaw {
    /// The connection was closed, or a healing that would have opened it was not finished.
    Closed,
    Library(sqlx::Error),
    Content(String),
}

impl From<sqlx::Error> for Flaw {
    fn from(error: sqlx::Error) -> Self {
        Self::Library(error)
    }
}

impl From<Malformed> for Flaw {
    fn from(malformed: Malformed) -> Self {
        Self::Content(malformed.to_string())
    }
}

fn explain(directory: &Directory, flaw: Flaw) -> StoreError {
    let path = directory.database();
    let cause = match flaw {
        Flaw::Closed => return StoreError::Closed,
        Flaw::Library(error) => Cause::of(&error),
        Flaw::Content(what) => Cause::Damaged(what),
    };
    match cause {
        Cause::Full => StoreError::Full,
        Cause::Busy => StoreError::Busy,
        Cause::MaybeFull(_) if directory.is_full() => StoreError::Full,
        Cause::MaybeFull(what) | Cause::Failed(what) => StoreError::Failed { what },
        Cause::Damaged(what) => StoreError::Damaged { path, what },
        Cause::Refused(what) => StoreError::Unwritable {
            path,
            source: std::io::Error::other(what),
        },
    }
}

fn options(path: &std::path::Path) -> SqliteConnectOptions {
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
async fn create(directory: &Directory) -> Result<(), StoreError> {
    if directory.wal().exists() {
        return Err(StoreError::Damaged {
            path: directory.database(),
            what: "it is missing, but its log is there".to_owned(),
        });
    }
    let draft = directory.draft()?;
    let build = async || -> Result<(), sqlx::Error> {
        let mut conn = options(&draft).connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(schema()))
            .execute(&mut conn)
            .await?;
        sqlx::query("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0, ?1)")
            .bind(Head::default().crc(FORMAT))
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
        .map_err(|error| explain(directory, error.into()))?;
    directory.publish(&draft)
}

/// Looks at the header before SQLite does, because SQLite would write to a file of anybody.
///
/// Source of the offsets: <https://sqlite.org/fileformat.html>
fn check_header(directory: &Directory) -> Result<(), StoreError> {
    let path = directory.database();
    let header = directory.beginning(100)?;
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
        return Err(StoreError::NotOurs {
            path,
            what: "it is no SQLite database",
        });
    }
    match (number(60), number(68)) {
        (Some(FIRST_FORMAT..=FORMAT), Some(APPLICATION_ID)) => Ok(()),
        (Some(found), Some(APPLICATION_ID)) if found > FORMAT => Err(StoreError::Newer {
            path,
            found,
            known: FORMAT,
        }),
        (_, Some(APPLICATION_ID)) => Err(StoreError::Damaged {
            path,
            what: "its format number is impossible".to_owned(),
        }),
        (_, Some(_)) => Err(StoreError::NotOurs {
            path,
            what: "it is another program's SQLite database",
        }),
        (_, None) => Err(StoreError::Damaged {
            path,
            what: "it ends in its header".to_owned(),
        }),
    }
}

async fn connect(directory: &Directory) -> Result<(SqliteConnection, Head), Flaw> {
    let mut conn = options(&directory.database()).connect().await?;
    match check(&mut conn).await {
        Ok(head) => Ok((conn, head)),
        Err(flaw) => {
            // Awaited, so that nobody meets its locks; the flaw is what matters.
            let _closed = conn.close().await;
            Err(flaw)
        }
    }
}

async fn check(conn: &mut SqliteConnection) -> Result<Head, Flaw> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *conn)
        .await?;
    if verdict != "ok" {
        return Err(Flaw::Content(verdict));
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid",
    )
    .fetch_all(&mut *conn)
    .await?;
    let format: u32 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *conn)
        .await?;
    let is_first = format == FIRST_FORMAT;
    let expected = if is_first {
        FIRST_SCHEMA.to_owned()
    } else {
        schema()
    };
    if tables.join("\n") != expected {
        return Err(Malformed("tables that are not those of its format").into());
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *conn)
        .await?;
    if mode != "wal" {
        let error = std::io::Error::other("the file system does not allow a write-ahead log");
        return Err(Flaw::Library(sqlx::Error::Io(error)));
    }
    if is_first {
        upgrade(conn).await?;
    }
    Head::read(conn).await
}

/// Makes a file of the first format one of ours, in one transaction: a crash leaves either.
async fn upgrade(conn: &mut SqliteConnection) -> Result<(), Flaw> {
    let head = Head::read_as(conn, FIRST_FORMAT).await?;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::raw_sql(SECOND_SCHEMA).execute(&mut *conn).await?;
    head.write(conn).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "PRAGMA user_version = {FORMAT}"
    )))
    .execute(&mut *conn)
    .await?;
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

async fn read_shops(conn: &mut SqliteConnection, count: i64) -> Result<Vec<DiskShop>, Flaw> {
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
            return Err(Malformed("a shop whose checksum does not match").into());
        }
        shops.push(shop);
    }
    if shops.len() as u64 == count.cast_unsigned() {
        Ok(shops)
    } else {
        Err(Malformed("not as many shops as there were").into())
    }
}

async fn transact(conn: &mut SqliteConnection, writes: Vec<Write>, head: Head) -> Result<(), Flaw> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for write in writes {
        write.perform(conn).await?;
    }
    head.write(conn).await?;
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

async fn rollback(conn: &mut SqliteConnection) -> Result<(), Flaw> {
    match sqlx::raw_sql("ROLLBACK").execute(conn).await {
        Ok(_) => Ok(()),
        // There was none to roll back.
        Err(error) if Cause::is_misplaced(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

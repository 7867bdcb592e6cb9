//! Connection to the database: transactions, write-back of SQLite's log, and recovery.
//!
//! Decides after which errors the connection counts as failed, and what happens to a transaction
//! whose outcome is unknown.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::time::Instant;

use super::database_file::{PAGE_BYTES, check_header, create_database, open_connection};
use super::replay::{replay, snapshot_row_counts};
use super::side_tables;
use super::store_header::StoreHeader;
use super::store_write::{StoreWrite, read_shops, rollback, run_transaction};
use crate::store::copy::check_marks;
use crate::store::directory::StoreDirectory;
use crate::store::error::{StoreInternalError, to_store_error};
use crate::store::loaded_store::DiskShop;
use crate::store::record::MalformedRecord;
use crate::store::{StoreError, StoreHealth};

/// Size of SQLite's write-ahead log at which it is written back into the database.
///
/// One batch of 2000 rows in a hundred then waits for the write-back, as long as ten other batches
/// take. A larger size would make that wait longer, a smaller one more frequent.
const CHECKPOINT_BYTES: u64 = 4 * 1024 * 1024;

/// Only connection to the database, with the header of the last commit.
///
/// sqlx's transactions are not used: when SQLite rolls one back without a request, as it does on a
/// full disk, sqlx still treats it as open. Instead, `is_uncertain` is set before the first
/// statement of a transaction and cleared after its commit. It stays set if the commit failed or
/// the caller's future was dropped; then the next call first rolls back.
#[derive(Debug)]
pub(in crate::store) struct StoreConnection {
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
    /// Number of commits after which the next one is reported as failed although it is on disk.
    #[cfg(test)]
    pub(in crate::store) fail_after: Option<usize>,
}

impl StoreConnection {
    /// Opens or creates the database, and checks everything except the records.
    pub(super) async fn open(directory: Arc<StoreDirectory>) -> Result<Self, StoreError> {
        if !directory.database().exists() {
            create_database(&directory, async |_| Ok(())).await?;
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
        // The write-ahead log of the last run is written back before the first commit.
        connection.wal_bytes = CHECKPOINT_BYTES;
        Ok(connection)
    }

    /// Returns the header of the last successful commit.
    pub(super) fn header(&self) -> StoreHeader {
        self.header
    }

    /// Returns the part of the status that is published for readers without the lock.
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

    /// Prepares the next transaction: resolves a failed one and writes back a large write-ahead log.
    pub(super) async fn ensure_ready(&mut self) -> Result<(), StoreError> {
        self.check_usable()?;
        if self.is_uncertain {
            self.resolve_uncertain().await?;
        }
        if self.wal_bytes >= CHECKPOINT_BYTES {
            match self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await {
                Ok(_) => self.wal_bytes = 0,
                // Not urgent: the next attempt comes after half of the size was added.
                Err(error) if !error.is_fatal() => self.wal_bytes = CHECKPOINT_BYTES / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Executes `writes` and stores `header` in one durable transaction, or does nothing.
    ///
    /// If the future is dropped, either may be the case; [`StoreConnection::ensure_ready`] then
    /// deletes the changes.
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
            // Releases the write lock. An error of the rollback shows in `resolve_uncertain`.
            let _resolved_later = rollback(conn).await;
            return Err(self.record_failure(error));
        }
        #[cfg(test)]
        if self.fails_now() {
            return Err(
                self.record_failure(StoreInternalError::Database(sqlx::Error::WorkerCrashed))
            );
        }
        self.is_uncertain = false;
        self.header = header;
        self.wal_bytes += bytes;
        self.last_commit = started.elapsed();
        Ok(())
    }

    /// Adds to the known size of the log.
    pub(in crate::store) fn add_log_bytes(&mut self, bytes: u64) {
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

    /// Returns the connection for queries.
    pub(in crate::store) fn conn(&mut self) -> Result<&mut SqliteConnection, StoreInternalError> {
        self.conn.as_mut().ok_or(StoreInternalError::Closed)
    }

    /// Converts an error for callers; a fatal one makes the connection failed from now on.
    pub(super) fn record_failure(&mut self, internal: StoreInternalError) -> StoreError {
        let error = to_store_error(&self.directory, internal);
        if error.is_fatal() && self.failed.is_none() {
            self.failed = Some(error.to_string());
        }
        error
    }

    /// Returns the shops on disk, ordered by number.
    pub(super) async fn shops(&mut self) -> Result<Vec<DiskShop>, StoreError> {
        let outcome = self.read_shops().await;
        outcome.map_err(|error| self.record_failure(error))
    }

    /// Refuses a store that a service must not use because of a copy.
    pub(super) async fn check_marks(&mut self) -> Result<(), StoreError> {
        let outcome = match self.conn() {
            Ok(conn) => side_tables::read_notes(conn).await,
            Err(error) => Err(error),
        };
        let notes = outcome.map_err(|error| self.record_failure(error))?;
        check_marks(&notes, &self.directory.path().display().to_string())
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Closes the connection, opens a new one and verifies every record.
    pub(super) async fn reconnect(&mut self) -> Result<(), StoreError> {
        if self.is_closed {
            return Err(StoreError::Closed);
        }
        if let Some(conn) = self.conn.take() {
            // The connection has failed before, so an error on closing is expected.
            let _failed = conn.close().await;
        }
        self.is_uncertain = true;
        let header = self.connect().await?;
        let outcome = self.verify_records(header).await;
        outcome.map_err(|error| self.record_failure(error))?;
        self.resolve_uncertain().await?;
        // The content of the write-ahead log is written once more. After a failed fsync it may be
        // correct in memory but lost on disk, with everything after it in the log.
        if !self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await? {
            return Err(StoreError::Busy);
        }
        self.wal_bytes = 0;
        self.failed = None;
        Ok(())
    }

    /// Writes back SQLite's write-ahead log, closes the connection and unlocks the directory.
    pub(super) async fn close(&mut self) -> Result<(), StoreError> {
        let closed = self.detach().await;
        self.directory.unlock();
        closed
    }

    /// Writes back SQLite's write-ahead log and closes the connection.
    pub(super) async fn detach(&mut self) -> Result<(), StoreError> {
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

    /// Cleans up after a failed or dropped transaction, so that disk and memory agree.
    ///
    /// An open transaction is rolled back, and changes that were not acknowledged are deleted.
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
            return Err(MalformedRecord("acknowledged changes are missing").into());
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

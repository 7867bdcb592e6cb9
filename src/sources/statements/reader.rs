//! Read-only connection to the statements of a shop: one consistent state, and no waiting for a
//! delivery that is written meanwhile.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use stock::Timestamp;
use stock_import::RejectedRow;

use super::blocks::StatementCursor;
use super::source_record::{self, SourceRecord};
use super::{FILE_NAME, SourceId, StatementError, StorageError, rejected};

/// Reader of the state that the statements had when they were first read.
#[derive(Debug)]
pub(in crate::sources) struct StatementReader {
    directory: PathBuf,
    path: PathBuf,
    conn: Connection,
}

impl StatementReader {
    /// Opens the statements in a directory.
    pub(in crate::sources) fn open(directory: &Path) -> Result<Self, StatementError> {
        let path = directory.join(FILE_NAME);
        let opened = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(&path, flags)?;
            conn.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -2048; BEGIN")?;
            Ok(conn)
        };
        let conn = opened().map_err(|source| StatementError::database(&path, source))?;
        Ok(Self {
            directory: directory.to_owned(),
            path,
            conn,
        })
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    pub(in crate::sources) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the stored state of a source.
    pub(in crate::sources) fn source_record(
        &self,
        source: SourceId,
    ) -> Result<SourceRecord, StatementError> {
        source_record::read(&self.conn, source).map_err(|error| self.database_error(error))
    }

    /// Returns the date of each source's last snapshot, including sources that are no longer
    /// configured.
    pub(in crate::sources) fn last_snapshots(
        &self,
    ) -> Result<Vec<(SourceId, Option<Timestamp>)>, StatementError> {
        let read = || {
            let mut query = self.conn.prepare("SELECT id, snapshot_at FROM source")?;
            let rows = query.query_map([], |row| {
                let at: Option<i64> = row.get(1)?;
                Ok((SourceId(row.get(0)?), at.and_then(Timestamp::from_micros)))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        read().map_err(|error| self.database_error(error))
    }

    /// Returns the first `limit` rejected and suspicious rows of a source's last delivery.
    pub(in crate::sources) fn rejected_rows(
        &self,
        source: SourceId,
        limit: u32,
    ) -> Result<Vec<RejectedRow>, StatementError> {
        let read = || {
            let mut query = self.conn.prepare(
                "SELECT line, text, reason, suspicious FROM rejected WHERE source = ?1 \
                 ORDER BY rowid LIMIT ?2",
            )?;
            let rows = query.query_map(params![source.0, limit], rejected::rejected_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        read().map_err(|error| self.database_error(error))
    }

    /// Returns the sources that have statements, in order.
    pub(super) fn sources_with_statements(&self) -> Result<Vec<SourceId>, StorageError> {
        let mut query = self.conn.prepare_cached(
            "SELECT id FROM source WHERE EXISTS (SELECT 1 FROM block WHERE source = source.id) \
             ORDER BY id",
        )?;
        let ids = query.query_map([], |row| Ok(SourceId(row.get(0)?)))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Returns true if numbers of variants that share a SKU are stored.
    pub(super) fn has_variants(&self, source: SourceId, sku: &str) -> Result<bool, StorageError> {
        let mut cursor = StatementCursor::new(&self.conn, source);
        let is_found = cursor.seek(sku)?;
        Ok(is_found && cursor.rows().iter().any(|row| !row.variant.is_empty()))
    }

    fn database_error(&self, source: StorageError) -> StatementError {
        StatementError::database(&self.path, source)
    }
}

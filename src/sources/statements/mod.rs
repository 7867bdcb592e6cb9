//! Statements of the sources of a shop, stored unchanged: one SQLite file a shop.
//!
//! The Market is never served from here: the rules turn statements into stock, and ingest stores
//! that. So the file may be lost without a loss of stock; the next snapshot fills it again. With
//! the file, the state of the connectors is lost too, so every source is read again.
//!
//! A delivery goes through these steps:
//!
//! 1. [`staging`]: its rows are sorted by SKU, in temporary files that need not survive a crash.
//! 2. [`resolve`]: the rows of each SKU are merged, and unclear ones are rejected.
//! 3. [`delivery_pass`]: one ordered pass beside the stored statements. What has changed goes to a
//!    spool, and the pipeline evaluates each SKU. Nothing is written yet.
//! 4. [`commit`]: the changes are written in one transaction, so a reader sees the old statements
//!    or the new ones. The same transaction marks the source as unapplied (column `owes`) until the
//!    book is updated, also after a restart.
//!
//! All functions block, so they run on threads for that. Memory is bounded: buffers have a fixed
//! size, and lists of any length are in temporary files.

mod blocks;
mod change_list;
mod commit;
mod delivery_pass;
mod duplicates;
mod encoding;
mod groups;
mod held;
mod page_copy;
mod preview_rows;
mod reader;
mod records;
mod rejected;
mod replacement;
mod resolve;
mod resolve_ids;
mod row_digest;
mod sorted_runs;
mod source_record;
mod staged_record;
mod staging;
mod step_hook;
#[cfg(test)]
mod tests;
mod variants;
mod wal_frames;
mod working_copy;

use std::path::{Path, PathBuf};

use connectors::private_files;
use rusqlite::{Connection, OpenFlags, params};

pub(super) use change_list::{ChangeList, ChangeListWriter, ListedLevel};
pub use change_list::{StockChange, StockChangeKind, StockChangeTotals};
pub(super) use commit::DeliveryFacts;
pub(super) use delivery_pass::{ComparedDelivery, DeliveryPass};
pub(super) use groups::{GroupFilter, SkuGroup, StatementRow};
pub use held::HeldDelivery;
pub(super) use held::{delivery_mark, short_mark};
pub(super) use page_copy::{ChangedPages, PageDigests, digests_of_file, page_digest, read_up_to};
pub(super) use preview_rows::DeliveryPreview;
pub use preview_rows::PreviewRow;
pub(super) use reader::StatementReader;
pub(super) use records::{SpoolReader, SpoolWriter};
pub(super) use replacement::CommitOptions;
pub(super) use resolve::DeliveryContents;
pub(super) use source_record::{SourceId, SourceRecord};
pub use staging::StageCounts;
pub(super) use staging::{StagedDelivery, StagingFile};
pub(super) use step_hook::StepHook;
pub(super) use variants::ResolveOptions;
pub(super) use working_copy::{DIRECTORY_PREFIX, copy_held, copy_statements};

/// Format of the file. A file of another format is rejected.
const FORMAT: u32 = 5;

/// Name of the file in the directory of the shop.
pub(super) const FILE_NAME: &str = "stated.db";

/// Beginning of the names of staging files.
const STAGING_PREFIX: &str = "staged-";

/// Bytes of the buffer in which rows are sorted.
pub(super) const SORT_BUFFER: usize = sorted_runs::SORT_BUFFER;

const SCHEMA: &str = "\
CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, stated_at INTEGER, \
snapshot_at INTEGER, rows INTEGER NOT NULL DEFAULT 0, owes INTEGER NOT NULL DEFAULT 0, reader TEXT NOT NULL DEFAULT '', \
held TEXT NOT NULL DEFAULT '[]', shapes TEXT NOT NULL DEFAULT '{}', \
absence TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE block (source INTEGER NOT NULL, first TEXT NOT NULL, rows BLOB NOT NULL, \
PRIMARY KEY (source, first)) STRICT, WITHOUT ROWID;
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

/// Error of SQLite, of a temporary file, or of damaged content.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A temporary file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A record cannot be decoded.
    #[error(
        "a record of it is damaged: restore a backup, or move the file away and deliver a snapshot \
         of each source again"
    )]
    Damaged,
}

/// Error of the statement store.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// The database cannot be used.
    #[error("cannot store the statements of sources in {path}")]
    Database {
        /// Database or staging file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: StorageError,
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

impl StatementError {
    fn database(path: &Path, source: StorageError) -> Self {
        Self::Database {
            path: path.to_owned(),
            source,
        }
    }
}

/// Store of one shop's statements: the only writer of the file.
#[derive(Debug)]
pub(super) struct StatementStore {
    directory: PathBuf,
    conn: Connection,
    // The file of `conn`, if its pages are tracked. It must not be closed before `conn`: the system
    // takes a process's locks on a file away when the process closes any handle of it.
    file: Option<std::fs::File>,
    steps: StepHook,
}

impl StatementStore {
    /// Opens the store in a directory, or creates it if it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, StatementError> {
        let directory_error = |source| StatementError::Directory {
            path: directory.to_owned(),
            source,
        };
        let path = directory.join(FILE_NAME);
        private_files::create_directory(directory)
            .and_then(|()| private_files::ensure_file(&path))
            .and_then(|()| private_files::restrict_recursively(directory))
            .map_err(directory_error)?;
        let (conn, format) =
            connect(&path).map_err(|source| StatementError::database(&path, source))?;
        if format != FORMAT {
            return Err(StatementError::Format {
                path,
                found: format,
            });
        }
        remove_leftovers(directory).map_err(directory_error)?;
        Ok(Self {
            directory: directory.to_owned(),
            conn,
            file: None,
            steps: StepHook::default(),
        })
    }

    /// Sets the hook for the steps of a commit.
    pub(super) fn set_steps(&mut self, steps: StepHook) {
        self.steps = steps;
    }

    fn database_error(&self, source: impl Into<StorageError>) -> StatementError {
        StatementError::database(&self.directory.join(FILE_NAME), source.into())
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StatementError> {
        let done = self.conn.execute(sql, values);
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Returns the id of a source; registers it if it is new.
    pub(super) fn register_source(&mut self, name: &str) -> Result<SourceId, StatementError> {
        let sql = "INSERT INTO source (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET \
                   name = name RETURNING id";
        let registered = self.conn.query_row(sql, params![name], |row| row.get(0));
        registered
            .map(SourceId)
            .map_err(|error| self.database_error(error))
    }

    /// Returns the stored state of a source.
    pub(super) fn source_record(&self, source: SourceId) -> Result<SourceRecord, StatementError> {
        source_record::read(&self.conn, source).map_err(|error| self.database_error(error))
    }

    /// Saves the state of a source's connector.
    pub(super) fn save_reader_state(
        &mut self,
        source: SourceId,
        state: &str,
    ) -> Result<(), StatementError> {
        let sql = "UPDATE source SET reader = ?2 WHERE id = ?1";
        self.execute(sql, params![source.0, state])
    }

    /// Creates a staging file for a delivery of a source.
    pub(super) fn begin_staging(&self, sort_buffer: usize) -> Result<StagingFile, StatementError> {
        begin_staging(&self.directory, sort_buffer)
    }

    /// Replaces the mappings of these sources, all or none. An entry of a mapping is: SKU of the
    /// source, our SKU, units of the source in one piece.
    pub(super) fn set_mappings<'m>(
        &mut self,
        mappings: impl IntoIterator<Item = (SourceId, &'m [(String, String, u32)])>,
    ) -> Result<(), StatementError> {
        let mapped = replace_mappings(&mut self.conn, mappings);
        mapped.map_err(|error| self.database_error(error))
    }

    /// Returns the digest of the rules under which all stock was last evaluated; empty if never.
    pub(super) fn applied_rules_digest(&self) -> Result<String, StatementError> {
        let sql = "SELECT COALESCE((SELECT digest FROM rules), '')";
        let digest = self.conn.query_row(sql, [], |row| row.get(0));
        digest.map_err(|error| self.database_error(error))
    }

    /// Saves the digest of the rules under which all stock was evaluated.
    pub(super) fn save_rules_digest(&mut self, digest: &str) -> Result<(), StatementError> {
        let sql = "INSERT OR REPLACE INTO rules (id, digest) VALUES (1, ?1)";
        self.execute(sql, params![digest])
    }

    /// Marks all statements of a source as applied to the book.
    pub(super) fn mark_applied(&mut self, source: SourceId) -> Result<(), StatementError> {
        self.execute(
            "UPDATE source SET owes = 0 WHERE id = ?1",
            params![source.0],
        )
    }
}

/// Creates a staging file for a delivery in the directory of a shop.
pub(super) fn begin_staging(
    directory: &Path,
    sort_buffer: usize,
) -> Result<StagingFile, StatementError> {
    let staging = StagingFile::create(directory, sort_buffer);
    staging.map_err(|source| StatementError::database(directory, source))
}

/// Connects to the file, creates its tables if it is new, and returns its format.
fn connect(path: &Path) -> Result<(Connection, u32), StorageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    let format: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format != 0 && format != FORMAT {
        return Ok((conn, format));
    }
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -8192;",
    )?;
    if format == 0 {
        let create = format!("BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;");
        conn.execute_batch(&create)?;
    }
    Ok((conn, FORMAT))
}

/// Removes staging files of interrupted deliveries, which were never committed, and working copies.
fn remove_leftovers(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(STAGING_PREFIX) {
            std::fs::remove_file(entry.path())?;
        } else if name.to_string_lossy().starts_with(DIRECTORY_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn replace_mappings<'m>(
    conn: &mut Connection,
    mappings: impl IntoIterator<Item = (SourceId, &'m [(String, String, u32)])>,
) -> Result<(), StorageError> {
    let transaction = conn.transaction()?;
    let mut insert = transaction.prepare(
        "INSERT OR REPLACE INTO mapping (source, said, sku, pack) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (source, mapping) in mappings {
        transaction.execute("DELETE FROM mapping WHERE source = ?1", params![source.0])?;
        for (source_sku, sku, pack) in mapping {
            insert.execute(params![source.0, source_sku, sku, pack])?;
        }
    }
    drop(insert);
    Ok(transaction.commit()?)
}

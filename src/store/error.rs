use std::io;
use std::path::PathBuf;

/// Why the store did not do what it was asked, as far as callers can tell it apart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on this directory.
    #[error("{} is in use by {}, only one may work on it", path.display(), holder(*pid))]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// Who holds it, if it has said so.
        pid: Option<u32>,
    },
    /// Written by a release that knows more than this one.
    #[error("{} has format {found}, this release knows {known}: run the newer one", path.display())]
    NewerFormat {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A file of somebody else lies where ours should.
    #[error("{} is not a stock file: {what}; give the store another directory", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// What is on disk is not what was written.
    #[error(
        "{} is damaged: {what}; restore the backup, or move it aside together with its -wal file \
         to start empty",
        path.display()
    )]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The directory or a file in it cannot be created or written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No space left. Nothing was changed; the next attempt may succeed.
    #[error("the disk is full")]
    DiskFull,
    /// Another program holds the database's write lock. Nothing was changed.
    #[error("another program is writing to the stock file")]
    Busy,
    /// The disk failed, and whether the last change is on it is unknown.
    ///
    /// From then on everything but [`super::Store::heal`] is refused with the same words.
    #[error("the store has failed: {what}")]
    Failed {
        /// What happened first.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether nothing can be believed until [`super::Store::heal`] has looked.
    pub(super) fn is_fatal(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::Damaged { .. } | Self::Unwritable { .. } => true,
            Self::Locked { .. }
            | Self::NewerFormat { .. }
            | Self::ForeignFile { .. }
            | Self::DiskFull
            | Self::Busy
            | Self::Closed => false,
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

// SQLite's result codes. Source: https://sqlite.org/rescode.html
const SQLITE_ERROR: i32 = 1;
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_NOTADB: i32 = 26;
const SQLITE_IOERR_FSYNC: i32 = 10 | 4 << 8;
const SQLITE_IOERR_DIR_FSYNC: i32 = 10 | 5 << 8;
const SQLITE_READONLY_DBMOVED: i32 = 8 | 4 << 8;

/// What a library error amounts to.
pub(super) enum SqliteCause {
    DiskFull,
    Busy,
    /// A write failed for want of space or for another reason: SQLite says which only for
    /// `ENOSPC`, not for `EDQUOT`.
    MaybeFull(String),
    NotWritable(String),
    Damaged(String),
    Failed(String),
}

impl SqliteCause {
    /// Reads the extended result code.
    pub(super) fn classify(error: &sqlx::Error) -> Self {
        let what = error.to_string();
        let code = match error {
            sqlx::Error::Database(database) => database.code().and_then(|code| code.parse().ok()),
            // Values of a type the schema does not allow.
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::ColumnNotFound(_) => return Self::Damaged(what),
            _ => None,
        };
        let Some(code): Option<i32> = code else {
            return Self::Failed(what);
        };
        match (code & 0xff, code) {
            (SQLITE_FULL, _) => Self::DiskFull,
            (SQLITE_BUSY | SQLITE_LOCKED, _) => Self::Busy,
            // A plain error: a statement of ours is only wrong in a database that is not.
            (SQLITE_CORRUPT | SQLITE_NOTADB | SQLITE_ERROR, _) => Self::Damaged(what),
            // An fsync that failed may have lost what was written before: only healing helps.
            (_, SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC | SQLITE_READONLY_DBMOVED) => {
                Self::Failed(what)
            }
            (SQLITE_IOERR, _) => Self::MaybeFull(what),
            (SQLITE_READONLY | SQLITE_CANTOPEN, _) => Self::NotWritable(what),
            (_, _) => Self::Failed(what),
        }
    }

    /// Whether a statement was out of place, such as a rollback where nothing is open.
    pub(super) fn is_no_transaction(error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code == "1"))
    }
}

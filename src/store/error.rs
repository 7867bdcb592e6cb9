//! Errors of the store, and the classification of SQLite's errors into them.
//!
//! PostgreSQL's errors are classified in `postgres`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::directory::StoreDirectory;
use super::record::MalformedRecord;
use super::{DatabaseProblem, Fence};

/// Error of the store, as far as callers treat it differently.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the directory.
    #[error(
        "{} is in use by {}; stop that process, because a store has one process at a time",
        path.display(),
        holder(*pid)
    )]
    Locked {
        /// Directory of the store.
        path: PathBuf,
        /// Id of the other process, if its lock file has it.
        pid: Option<u32>,
    },
    /// The file was written by another release.
    #[error(
        "{} has format {found}, but this release only reads format {known}: run the release that \
         wrote it, or move the file and its -wal file away to start with an empty store",
        path.display()
    )]
    OtherFormat {
        /// Database file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// Format that this release reads.
        known: u32,
    },
    /// The file was not written by this program.
    #[error("{} is not a stock file: {what}; set 'store' to another directory", path.display())]
    ForeignFile {
        /// Database file.
        path: PathBuf,
        /// Description of the file's content.
        what: &'static str,
    },
    /// The content of the file is not what was written.
    #[error(
        "{} is damaged: {what}; restore the backup, or move the file and its -wal file away to \
         start with an empty store",
        path.display()
    )]
    Damaged {
        /// Database file.
        path: PathBuf,
        /// Description of the damage.
        what: String,
    },
    /// The directory or a file in it cannot be created or written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// Directory or file.
        path: PathBuf,
        /// Error of the system.
        #[source]
        source: io::Error,
    },
    /// No space is left. Nothing was changed; the next attempt may succeed.
    #[error("the disk is full")]
    DiskFull,
    /// Another program holds the database's write lock. Nothing was changed.
    #[error("another program is writing to the stock file")]
    Busy,
    /// The disk failed. It is unknown if the last change is on it.
    ///
    /// From then on every call but [`super::Store::reopen_and_verify`] returns this error.
    #[error("the store has failed: {what}")]
    Failed {
        /// Description of the first failure.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The database cannot be reached, or does not accept a statement. A change may be in it or
    /// not; if it is, memory gets it later as a change of another process. The next attempt may
    /// succeed.
    #[error("the database {target} cannot be used: {what}{}", cure_of(*problem))]
    DatabaseUnusable {
        /// Address of the database, without the password.
        target: String,
        /// Error of the database or the network.
        what: String,
        /// Kind of the error, which has the cure.
        problem: DatabaseProblem,
    },
    /// The tables in the database belong to a later release.
    #[error(
        "the tables in {target} have version {found}, but this release only knows version {known}: \
         run the release that wrote them"
    )]
    NewerSchema {
        /// Address of the database, without the password.
        target: String,
        /// Version of the tables.
        found: i64,
        /// Version that this release knows.
        known: i64,
    },
    /// The content of the database is not what was written.
    #[error("the stock in {target} is damaged: {what}; restore the database from its backup")]
    DamagedDatabase {
        /// Address of the database, without the password.
        target: String,
        /// Description of the damage.
        what: String,
    },
    /// The database lacks acknowledged changes, as after a failover to a standby that had not
    /// received them, or after an older backup was restored.
    #[error(
        "{target} lacks acknowledged changes of shop {shop}: its last change has number {found}, that in \
         memory {known}, and they have no change of the last hour in common, as with an older backup. \
         Restart all processes to \
         use what the database has, and feed the complete stock, or restore a newer database"
    )]
    LostChanges {
        /// Address of the database, without the password.
        target: String,
        /// Name of the shop.
        shop: String,
        /// Last change in the database.
        found: i64,
        /// Last acknowledged change.
        known: i64,
    },
    /// The store is a copy that was not compared with its source, or the comparison failed.
    #[error(
        "{place} has an unfinished copy of {source_place}: repeat 'stockbridge store copy', or go \
         on with the other store"
    )]
    UnfinishedCopy {
        /// Directory or address of the database, without the password.
        place: String,
        /// Place of the source, and the time of the copy.
        source_place: String,
    },
    /// The store was copied to another place.
    #[error(
        "the stock of {place} was copied to {copy}, so what is here may be old: use the copy. If \
         no service uses the copy, add --adopt once"
    )]
    CopiedAway {
        /// Directory or address of the database, without the password.
        place: String,
        /// Place of the copy, and the time.
        copy: String,
    },
    /// This process does not have the lease under which the change was to be made. Nothing was
    /// written.
    #[error("{}", describe_other_leader(lease.as_deref()))]
    NotLeader {
        /// Name of the lease; `None` if this process has not taken any.
        lease: Option<String>,
    },
    /// Another process has given the shop another target, so what concerns the target of this
    /// process is void. Nothing was written.
    #[error(
        "shop {shop} has the target '{recorded}' in the database, but '{configured}' in this process, \
         because a process with another campaign, business or market_url was started: stop all \
         processes that use the database, and start them with the same values"
    )]
    OtherTarget {
        /// Name of the shop.
        shop: String,
        /// Target in the database.
        recorded: String,
        /// Target in the configuration of this process.
        configured: String,
    },
    /// The configuration has another target than the database, which other processes use with that
    /// one. Nothing was written.
    #[error(
        "shop {shop} has the target '{recorded}' in the database, which these processes use: \
         {processes}. This configuration has '{configured}': correct its campaign, business or \
         market_url, or stop all processes before a change of it"
    )]
    TargetInUse {
        /// Name of the shop.
        shop: String,
        /// Target in the database.
        recorded: String,
        /// Target in the configuration.
        configured: String,
        /// Names of the live processes.
        processes: String,
    },
    /// Another process has stated stock of the shop meanwhile. Nothing was written, memory has the
    /// other stock now, and the update must be compared with it again.
    #[error("another process has changed the stock meanwhile")]
    Behind,
}

impl StoreError {
    /// Returns the error of a change under a lease that this process does not have.
    pub(super) fn not_leader(fence: Option<&Fence>) -> Self {
        Self::NotLeader {
            lease: fence.map(|fence| fence.lease.clone()),
        }
    }

    /// Returns true if the file must be verified with [`super::Store::reopen_and_verify`] before
    /// the next change.
    pub(super) fn is_fatal(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::Damaged { .. } | Self::Unwritable { .. } => true,
            Self::Locked { .. }
            | Self::OtherFormat { .. }
            | Self::ForeignFile { .. }
            | Self::DiskFull
            | Self::Busy
            | Self::Closed
            | Self::DatabaseUnusable { .. }
            | Self::NewerSchema { .. }
            | Self::DamagedDatabase { .. }
            | Self::LostChanges { .. }
            | Self::UnfinishedCopy { .. }
            | Self::CopiedAway { .. }
            | Self::NotLeader { .. }
            | Self::OtherTarget { .. }
            | Self::TargetInUse { .. }
            | Self::Behind => false,
        }
    }

    /// Returns true if the change that failed may be stored all the same, because its fate is not known.
    #[must_use]
    pub fn may_be_stored(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::DatabaseUnusable { problem, .. } => match problem {
                DatabaseProblem::NoResponse
                | DatabaseProblem::Unconfirmed
                | DatabaseProblem::Disconnected
                // A server that stops ends its wait for a standby. The change is then on its own disk.
                | DatabaseProblem::NotReady
                | DatabaseProblem::Other => true,
                DatabaseProblem::MissingDatabase
                | DatabaseProblem::WrongPassword
                | DatabaseProblem::NotAdmitted
                | DatabaseProblem::MissingRight
                | DatabaseProblem::TooManyConnections
                | DatabaseProblem::Refused
                | DatabaseProblem::UnknownHost
                | DatabaseProblem::WithoutTls
                | DatabaseProblem::InvalidCertificate
                | DatabaseProblem::Described => false,
            },
            _ => false,
        }
    }
}

fn cure_of(problem: DatabaseProblem) -> String {
    let cure = problem.cure("store_url_file");
    cure.map(|cure| format!("; {cure}")).unwrap_or_default()
}

fn describe_other_leader(lease: Option<&str>) -> String {
    lease.map_or_else(
        || "this replica has no lease for this change".to_owned(),
        |lease| format!("another replica has the lease {lease}"),
    )
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

/// Cause of an error of the SQLite library.
pub(super) enum SqliteCause {
    DiskFull,
    Busy,
    /// A write failed, perhaps because of an exceeded quota: SQLite reports a full disk only for
    /// `ENOSPC`, not for `EDQUOT`.
    MaybeFull(String),
    NotWritable(String),
    Damaged(String),
    Failed(String),
}

impl SqliteCause {
    /// Classifies an error by SQLite's extended result code.
    pub(super) fn classify(error: &sqlx::Error) -> Self {
        let what = error.to_string();
        let code = match error {
            sqlx::Error::Database(database) => database.code().and_then(|code| code.parse().ok()),
            // Values of a type that the schema does not allow.
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
            // A plain error means that our SQL does not fit the tables, so the tables were changed.
            (SQLITE_CORRUPT | SQLITE_NOTADB | SQLITE_ERROR, _) => Self::Damaged(what),
            // A failed fsync may have lost earlier writes: only reopening and verifying helps.
            (_, SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC | SQLITE_READONLY_DBMOVED) => {
                Self::Failed(what)
            }
            (SQLITE_IOERR, _) => Self::MaybeFull(what),
            (SQLITE_READONLY | SQLITE_CANTOPEN, _) => Self::NotWritable(what),
            (_, _) => Self::Failed(what),
        }
    }

    /// Returns true for the error of a rollback without an open transaction.
    pub(super) fn lacks_transaction(error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::Database(e) if e.code().is_some_and(|code| code == "1"))
    }
}

/// Error inside the store, before it is converted for callers.
#[derive(Debug)]
pub(super) enum StoreInternalError {
    /// The connection was closed, or an attempt to reopen it was not finished.
    Closed,
    Database(sqlx::Error),
    Damaged(String),
    /// Another process has changed the stock before this one could apply the change.
    ChangedDuringStart,
    /// The server did not confirm a commit within this time. It may confirm it later.
    Unconfirmed(Duration),
}

impl From<sqlx::Error> for StoreInternalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<MalformedRecord> for StoreInternalError {
    fn from(malformed: MalformedRecord) -> Self {
        Self::Damaged(malformed.to_string())
    }
}

/// Converts an internal error of the SQLite store in `directory`.
pub(super) fn to_store_error(
    directory: &StoreDirectory,
    internal: StoreInternalError,
) -> StoreError {
    let path = directory.database();
    let cause = match internal {
        StoreInternalError::Closed => return StoreError::Closed,
        StoreInternalError::Database(error) => SqliteCause::classify(&error),
        StoreInternalError::Damaged(what) => SqliteCause::Damaged(what),
        // One process owns a directory, and SQLite does not wait for a standby.
        StoreInternalError::ChangedDuringStart | StoreInternalError::Unconfirmed(_) => {
            return StoreError::Busy;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_change_names_the_lease() {
        let fence = Fence {
            lease: "sources moscow".to_owned(),
            owner: "a/1".to_owned(),
            epoch: 4,
        };
        let text = StoreError::not_leader(Some(&fence)).to_string();
        assert_eq!(text, "another replica has the lease sources moscow");
        let text = StoreError::not_leader(None).to_string();
        assert_eq!(text, "this replica has no lease for this change");
    }
}

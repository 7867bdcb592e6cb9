//! Persistence: every shop's stock, what the Market has acknowledged of it, and what it rejects.
//!
//! [`Store::open`] returns the persisted state. [`Store::append`] makes changes durable: when it
//! returns, they are on disk, not in a cache. [`Store::compact`] replaces the log of changes by a
//! snapshot, so that neither the file nor the time of a start grows without bound. The store does
//! not decide which level is right (the book does), reads no clock, and never deletes data that it
//! cannot read.
//!
//! # On disk
//! The store is a directory with owner-only permissions. One process uses it at a time: it locks
//! the file `lock` and writes its process id into it. The data is in `stock.db`, a SQLite database,
//! with `stock.db-wal` and `-shm` beside it while it is open.
//!
//! SQLite is the container. It does the locking, drops a torn tail after a power cut, reports a
//! full disk, and lets an operator read and back up the file while the service runs. Rows are
//! looked up in memory, not in SQLite. So they are not stored one by one, which would be 20 times
//! slower, but packed into records. Each record has a checksum over its content and its location:
//!
//! - `change` is the log: one record per appended change, numbered without gaps. A record belongs
//!   to one shop and has one kind of rows: levels, acknowledgements, activity, SKUs that entered or
//!   left quarantine, or "the shop's target has changed".
//! - `snapshot` is the complete state in records of a quarter of a megabyte, numbered within a
//!   generation.
//! - `shop` gives each shop name a permanent number, and keeps the target of its
//!   acknowledgements.
//! - `spent` keeps the sends of the last minutes, so that the Market's rate limit holds across a
//!   restart.
//! - `note` keeps short named texts, such as the installation that the store belongs to.
//! - `state` is one row that defines what is valid: the generation with its number of chunks and
//!   rows, the last change in it, and the last change of all. Other records
//!   are ignored and deleted. If a record that it covers is missing, the store is damaged.
//!
//! The persisted state is the valid generation, followed by the later changes in their order. A
//! newer level replaces an older one; an acknowledgement replaces the one before it.
//!
//! A file of another format is rejected.
//!
//! # After a crash
//! - During creation: `stock.db.new` is left, which the next start deletes. The file gets its real
//!   name only when it is complete, so an empty `stock.db`, or a missing one beside a log, is
//!   damage.
//! - During an append: all of it is there or nothing, through SQLite's recovery. A caller without
//!   a result cannot know which.
//! - During a snapshot: chunks of a generation that `state` does not cover are left. The next start
//!   or the next compaction deletes them.
//! - Between the switch to the new generation, which is one small transaction, and the end of the
//!   cleaning: old chunks, and changes that are in the snapshot. They are deleted likewise.
//! - While a changed target is recorded: either the old target with its acknowledgements, and the
//!   next start records the change again, or the new target without them.
//!
//! The snapshot does not show one moment, because the book changes during the scan. That is
//! correct: every change after the noted one stays in the log and is applied again on top. The
//! changes before it must have been in the book when the scan began; an [`AppendGuard`] ensures
//! that.

mod append_guard;
mod copy;
mod directory;
mod error;
mod failure_log;
mod followed;
mod handle;
mod handle_replicas;
mod loaded_store;
mod notes;
mod packing;
mod postgres;
mod quarantine_table;
mod recent_sends;
mod record;
mod settings_digest;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use append_guard::{AppendGuard, AppendedChanges};
pub use copy::{
    CopyError, CopyReport, INSTANCE_NOTE, ShopSummary, StorePlace, StoreSummary, copy_store,
    reclaim_copied_store,
};
pub use directory::{DirectoryState, directory_state};
pub use error::StoreError;
pub use failure_log::FailureLog;
pub use followed::{FollowedEffect, apply_followed};
pub use handle::Store;
pub use notes::Notes;
pub use postgres::{
    ChangeListener, ChangeNotice, DatabaseFacts, DatabaseProblem, Fence, ImageFile, ImageState,
    ImageWrite, ImageWriter, Lease, LeaseOutcome, LeaseTable, LiveReplica, PageBatch,
    REPLICA_LIFETIME, REPLICA_MARGIN, Renewal, RenewalNeed, ReplicaStatus, StatementImage,
    StatementImages, StoreAddressError, StoreUrl, WHOLE_DATABASE, check_notifications,
    database_facts, may_answer_until,
};
pub use recent_sends::RecentSend;
pub use record::RecordRow;
pub use settings_digest::SettingsDigest;

use stock::{Activity, Count, Level, PerSku, ShopId, Sku, SkuActivity, StockBook, Timestamp};

/// Minimum size of the log before it is compacted, in bytes: two million rows, which take a second
/// to replay.
///
/// Above that, the log is compacted once it is larger than the snapshot. So rewriting the snapshot
/// never costs more than what was appended, and the file stays below three times the live data
/// plus 64 MiB.
pub const COMPACTION_BYTES: u64 = 32 * 1024 * 1024;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the store. It is created if it is missing, and belongs to one process.
    pub path: PathBuf,
    /// Database that keeps the stock instead of the directory.
    pub url: Option<StoreUrl>,
}

/// State of the book: it changes whenever a change of another process reaches memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BookVersion(u64);

/// Callback for the rows of one record that another process has appended. The rows of a shop come
/// in the order of its log. It runs while appends wait, so it must be quick.
pub type OnFollowed = Box<dyn Fn(ShopId, &[RecordRow]) + Send + Sync>;

/// Callback that returns all levels of a shop in memory. It runs while appends wait, and only if the
/// log in the database does not show if it has lost changes.
pub type ReadLevels = Box<dyn Fn(ShopId) -> Vec<(Sku, Level)> + Send + Sync>;

/// Identity of a configured shop; its index in the list is its [`ShopId`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShopIdentity {
    /// Unique name in the configuration; the store finds the stock of the shop by it.
    pub name: String,
    /// Target of the shop's stock, such as `https://api.… campaign 123`. If the target changes,
    /// the acknowledgements of the old one are dropped.
    pub target: String,
    /// Ids of the Market's warehouses that share the stock; activity of others is not loaded.
    pub warehouses: Vec<u64>,
}

/// Level of one SKU that the Market has acknowledged, in 16 bytes. The default is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Acked {
    updated_at: Timestamp,
    count: Count,
    // Seconds since 1970; 0 means no acknowledgement. The highest bit, unused by times before
    // 2038, is RESEND_FLAG.
    packed_second: u32,
}

/// Bit of a level to send again. It is not on disk: a read-back after a restart sets it again.
const RESEND_FLAG: u32 = 1 << 31;

impl Acked {
    /// Creates an acknowledgement of a level whose request began at `at`, cut to seconds.
    #[must_use]
    pub fn new(level: Level, at: DateTime<Utc>) -> Self {
        let second = at.timestamp().clamp(1, (RESEND_FLAG - 1).into());
        Self::from_second(level, u32::try_from(second).unwrap_or(RESEND_FLAG - 1))
    }

    /// Returns the acknowledged level, if any.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        let Self {
            updated_at, count, ..
        } = *self;
        (self.second() > 0).then_some(Level { count, updated_at })
    }

    /// Returns the start of the acknowledged request, cut to seconds.
    #[must_use]
    pub fn acked_at(&self) -> Option<DateTime<Utc>> {
        let second = self.second();
        (second > 0)
            .then(|| DateTime::from_timestamp(second.into(), 0))
            .flatten()
    }

    /// Returns a copy that is sent again although the level has not changed.
    #[must_use]
    pub fn marked_for_resend(self) -> Self {
        Self {
            packed_second: self.packed_second | RESEND_FLAG,
            ..self
        }
    }

    /// Returns true if the level is sent again although it has not changed.
    #[must_use]
    pub fn needs_resend(&self) -> bool {
        self.packed_second & RESEND_FLAG != 0
    }

    fn from_second(level: Level, second: u32) -> Self {
        Self {
            updated_at: level.updated_at,
            count: level.count,
            packed_second: second,
        }
    }

    fn second(self) -> u32 {
        self.packed_second & !RESEND_FLAG
    }
}

impl Default for Acked {
    fn default() -> Self {
        let updated_at = Timestamp::from_micros(0).expect("1970 is within the calendar");
        Self {
            updated_at,
            count: Count::ZERO,
            packed_second: 0,
        }
    }
}

/// SKU that the Market rejects, with the time of the next retry.
///
/// Times are kept to the microsecond.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuarantineEntry {
    /// Rejected SKU.
    pub sku: Sku,
    /// Rejected level.
    pub level: Level,
    /// Reason, in the Market's words or in ours.
    pub reason: String,
    /// Time of the first rejection.
    pub since: DateTime<Utc>,
    /// Number of rejections.
    pub attempts: u32,
    /// Time of the next retry.
    pub retry_at: DateTime<Utc>,
}

/// Change to make durable.
#[derive(Clone, Copy, Debug)]
pub enum StoreChange<'a> {
    /// Stated levels; of several levels of one SKU the newest wins.
    Stock {
        /// Shop of the SKUs.
        shop: ShopId,
        /// Stated level per SKU.
        rows: &'a [(Sku, Level)],
    },
    /// Acknowledgements of the Market; of several for one SKU the last one wins.
    /// Acknowledgements of SKUs without stock are not kept.
    Acked {
        /// Shop of the SKUs.
        shop: ShopId,
        /// Acknowledgement per SKU.
        rows: &'a [(Sku, Acked)],
    },
    /// Activity of SKUs, whether the book has them or not.
    Activity {
        /// Shop of the SKUs.
        shop: ShopId,
        /// Complete activity per SKU.
        rows: &'a [(Sku, SkuActivity)],
    },
    /// A SKU enters quarantine; the entry replaces an earlier one of the same SKU.
    Quarantined {
        /// Shop of the SKU.
        shop: ShopId,
        /// Quarantine entry.
        row: &'a QuarantineEntry,
    },
    /// A SKU leaves quarantine.
    Released {
        /// Shop of the SKU.
        shop: ShopId,
        /// Released SKU.
        sku: &'a Sku,
    },
}

/// Updates that are compared with the book.
pub trait CompareUpdates: Send {
    /// Compares the updates with the book as it is now.
    fn compare(&mut self) -> impl Future<Output = ()> + Send;

    /// Returns what the updates change.
    fn changes(&self) -> Vec<StoreChange<'_>>;
}

/// Open store and its content.
#[derive(Debug)]
pub struct OpenedStore {
    /// Open store.
    pub store: Store,
    /// Stock of every configured shop.
    pub book: StockBook,
    /// Acknowledgements of the Market, per shop.
    pub acked: Vec<PerSku<Acked>>,
    /// Rejected SKUs, per shop, ordered by SKU.
    pub quarantine: Vec<Vec<QuarantineEntry>>,
    /// Sends in the last minutes before the restart, per shop.
    pub recent_sends: Vec<Vec<RecentSend>>,
    /// Activity of the SKUs of all configured shops.
    pub activity: Activity,
    /// Notes of the store and of the configured shops.
    pub notes: Notes,
    /// Shops that are in the store but not in the configuration.
    pub absent_shops: Vec<AbsentShop>,
}

/// Shop that is in the store but not in the configuration. Its stock is kept without being loaded.
#[derive(Clone, Debug)]
pub struct AbsentShop {
    /// Name of the shop. A shop that is configured under this name again gets its stock back.
    pub name: String,
    /// Notes of the shop: name and text.
    pub notes: Vec<(String, String)>,
}

/// State of one shop that the process needs that begins to send for it, besides book and ledger.
#[derive(Clone, Debug)]
pub struct LeaderState {
    /// Rejected SKUs, ordered by SKU.
    pub quarantined: Vec<QuarantineEntry>,
    /// Sends of all processes in the last minutes, by this process's clock, for all shops that the
    /// Market counts together.
    pub recent_sends: Vec<RecentSend>,
    /// Notes of the store and of all configured shops.
    pub notes: Notes,
}

/// Changes of one shop that a database had lost and that this process has appended again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecoveredChanges {
    /// Name of the shop.
    pub shop: String,
    /// Stated levels.
    pub skus: u64,
    /// Acknowledgements of the Market. Their SKUs are sent again.
    pub acknowledgements: u64,
}

/// Outcome of a request for permission to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendPermission {
    /// The send is recorded and may be made.
    Granted,
    /// The shop has the note that pauses sending. Nothing was recorded.
    Paused,
}

/// Status of the store for the operator.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub struct StoreStatus {
    /// Size of the database and of SQLite's write-ahead log on disk.
    pub disk_bytes: u64,
    /// Size of the changes after the snapshot.
    pub log_bytes: u64,
    /// Size of the snapshot.
    pub snapshot_bytes: u64,
    /// Number of the last change.
    pub last_seq: i64,
    /// Number of the valid snapshot, counted from the creation of the store.
    pub generation: i64,
    /// Duration of the last commit in microseconds, fsync included.
    pub last_commit_us: u64,
    /// Error because of which changes are rejected, if any.
    pub failed: Option<String>,
}

/// Part of the status that can be read without the lock of the connection.
#[derive(Clone, Debug, Default)]
struct StoreHealth {
    failed: Option<String>,
    log_bytes: u64,
    snapshot_bytes: u64,
    last_seq: i64,
    generation: i64,
    last_commit: Duration,
}

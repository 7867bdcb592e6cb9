//! What survives: every shop's stock, what the Market has acknowledged of it, and what it
//! refuses.
//!
//! The room answers three questions. [`Store::open`] says what was known when the process last
//! lived. [`Store::append`] makes a change durable: when it returns, the change is on the disk,
//! not in a cache. [`Store::compact`] folds the log of changes into a snapshot, so that neither
//! the file nor the next start grows without end. It never decides what is true (that is the
//! book's rule), reads no clock, and never throws away what it cannot read.
//!
//! # On disk
//! A directory, owner-only, that one process holds at a time by a lock on its file `lock`, in
//! which it writes its process id. In it `stock.db`, a SQLite database, with `stock.db-wal` and
//! `-shm` beside it while it is open. SQLite is the container: it does the locking, drops a
//! torn tail after a power cut, says when the disk is full, and lets an operator look and back
//! up while we run. Looking up rows is not its work, that is done in memory; so rows are not
//! stored one by one (20 times slower) but packed, each record with a checksum over its
//! contents and its place:
//!
//! - `change` is the log: a record for each change appended, numbered without a gap. A record
//!   is of one shop and one kind: levels, acknowledgements, marks, SKUs put under quarantine or
//!   released, or "the shop's target is another one now".
//! - `snapshot` is the whole of one moment in records of a quarter of a megabyte, numbered
//!   within a generation.
//! - `shop` gives each shop's name a number, for ever, and remembers the target of which its
//!   acknowledgements speak.
//! - `spent` notes what was sent to the Market in the last minutes, so that its limit holds
//!   across a restart.
//! - `note` holds short texts under names, such as the installation the store belongs to.
//! - `state` is one row that says what is valid: the generation with its number of chunks and
//!   rows, the last change that is in it, the last change of all. What it does not name is
//!   waste; what it names and is missing is damage.
//!
//! What is known is the valid generation's chunks, then the changes after it, in their order.
//! A level replaces an older one, an acknowledgement the one before it.
//!
//! A file of format 1, which had neither marks nor notes, is made one of format 2 when it is
//! opened; a newer one is refused.
//!
//! # What a crash leaves
//! - While the file is created: `stock.db.new`, which the next start deletes. Under its real
//!   name there is never half a file, so an empty or missing one beside a log is damage.
//! - While a change is appended: all of it or nothing; SQLite's recovery sees to it. A caller
//!   that had no answer cannot know which.
//! - While a snapshot is written: chunks of a generation that `state` does not name. The next
//!   start, or the next compaction, deletes them.
//! - Between the switch to the new generation, which is one small transaction, and the end of
//!   the cleaning: old chunks and changes that are in the snapshot. The same.
//! - While a changed target is noted: either the old target with its acknowledgements, and the
//!   next start does it again, or the new one without them.
//!
//! The snapshot is not of one instant: the book changes while it is scanned. That does no harm,
//! because every change after the noted one stays in the log and is applied again on top.
//! For the changes before it, the book must have had them when the scan began: that is what a
//! [`Receipt`] is for.

mod compact;
mod directory;
mod error;
mod notes;
mod quarantine_table;
mod recent_sends;
mod record;
mod replay;
mod sqlite;
mod store_connection;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use directory::{DirectoryState, directory_state};
pub use error::StoreError;
pub use notes::Notes;
pub use recent_sends::RecentSend;
pub use sqlite::{AppendGuard, Store};

use crate::stock::{
    Activity, Count, Level, PerSku, ShopId, Sku, SkuActivity, StockBook, Timestamp,
};

/// The log is folded no sooner than at this size, two million rows: replaying it takes a second.
///
/// Above that, it is folded when it has become larger than the snapshot, so that rewriting the
/// snapshot never costs more than what was appended, and the file stays under three times the
/// live data and 64 MiB.
pub const COMPACTION_BYTES: u64 = 32 * 1024 * 1024;

/// Where the store lives.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory, created if it is missing; it belongs to one process.
    pub path: PathBuf,
}

/// A shop as the store knows it; its place in the list is its [`ShopId`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShopIdentity {
    /// Its name in the configuration, by which its stock is found again. Unique.
    pub name: String,
    /// Where its stock is forwarded to, such as `https://api.… campaign 123`. If that changes,
    /// what was acknowledged there says nothing any more and is forgotten.
    pub target: String,
    /// The Market's warehouses that share it: marks of others are not read.
    pub warehouses: Vec<u64>,
}

/// What the Market has acknowledged of one SKU, in 16 bytes. Nothing, by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Acked {
    updated_at: Timestamp,
    count: Count,
    // Seconds since 1970; 0 is nothing. The highest bit, free until 2038, is doubt.
    packed_second: u32,
}

/// Whether the Market should hear this again. Not kept on disk: who doubts finds it out again.
const RESEND_FLAG: u32 = 1 << 31;

impl Acked {
    /// The Market has taken this level, sent at this time, which is cut to seconds.
    #[must_use]
    pub fn new(level: Level, at: DateTime<Utc>) -> Self {
        let second = at.timestamp().clamp(1, (RESEND_FLAG - 1).into());
        Self::from_second(level, u32::try_from(second).unwrap_or(RESEND_FLAG - 1))
    }

    /// The level it has, if any.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        let Self {
            updated_at, count, ..
        } = *self;
        (self.second() > 0).then_some(Level { count, updated_at })
    }

    /// When the request began that it took.
    #[must_use]
    pub fn acked_at(&self) -> Option<DateTime<Utc>> {
        let second = self.second();
        (second > 0)
            .then(|| DateTime::from_timestamp(second.into(), 0))
            .flatten()
    }

    /// The same, to be sent once more although nothing has changed.
    #[must_use]
    pub fn marked_for_resend(self) -> Self {
        Self {
            packed_second: self.packed_second | RESEND_FLAG,
            ..self
        }
    }

    /// Whether it is to be sent once more.
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
        let updated_at = Timestamp::from_micros(0).expect("1970 has a name in the calendar");
        Self {
            updated_at,
            count: Count::ZERO,
            packed_second: 0,
        }
    }
}

/// A SKU the Market does not take, and when to try again.
///
/// Times are kept to the microsecond.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuarantineEntry {
    /// Which SKU.
    pub sku: Sku,
    /// The level that was refused.
    pub level: Level,
    /// Why, in the Market's words or ours.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it was refused.
    pub attempts: u32,
    /// When it is tried again.
    pub retry_at: DateTime<Utc>,
}

/// One change to make durable.
#[derive(Clone, Copy, Debug)]
pub enum StoreChange<'a> {
    /// Levels as they were stated; of several for a SKU the newest wins.
    Stock {
        /// Of which shop.
        shop: ShopId,
        /// What was stated.
        rows: &'a [(Sku, Level)],
    },
    /// What the Market has acknowledged; of several for a SKU the last one holds. Those of SKUs
    /// without stock are not kept.
    Acked {
        /// Of which shop.
        shop: ShopId,
        /// What it acknowledged.
        rows: &'a [(Sku, Acked)],
    },
    /// When SKUs were last asserted and asked for, known to the book or not.
    Activity {
        /// Of which shop.
        shop: ShopId,
        /// All that is remembered of each.
        rows: &'a [(Sku, SkuActivity)],
    },
    /// A SKU is under quarantine, in place of what was known of it there.
    Quarantined {
        /// Of which shop.
        shop: ShopId,
        /// The case.
        row: &'a QuarantineEntry,
    },
    /// A SKU is no longer under quarantine.
    Released {
        /// Of which shop.
        shop: ShopId,
        /// Which one.
        sku: &'a Sku,
    },
}

/// An open store and what was in it.
#[derive(Debug)]
pub struct OpenedStore {
    /// The store.
    pub store: Store,
    /// Every configured shop's stock.
    pub book: StockBook,
    /// What the Market has acknowledged, by shop.
    pub acked: Vec<PerSku<Acked>>,
    /// What it refuses, by shop, ordered by SKU.
    pub quarantine: Vec<Vec<QuarantineEntry>>,
    /// What was sent in the last minutes of the process's last life, by shop.
    pub recent_sends: Vec<Vec<RecentSend>>,
    /// When SKUs were last asserted and asked for.
    pub activity: Activity,
    /// What else was noted.
    pub notes: Notes,
    /// Shops that the store has and the configuration does not.
    pub absent_shops: Vec<AbsentShop>,
}

/// A shop that is in the store and not in the configuration: its stock is kept, unread.
#[derive(Clone, Debug)]
pub struct AbsentShop {
    /// Its name, by which it comes back if the configuration names it again.
    pub name: String,
    /// What was noted of it: names and texts.
    pub notes: Vec<(String, String)>,
}

/// How the store is, for those who watch.
#[derive(Clone, Debug, serde::Serialize)]
pub struct StoreStatus {
    /// What the database and SQLite's log take on disk.
    pub disk_bytes: u64,
    /// Changes not yet folded into the snapshot.
    pub log_bytes: u64,
    /// The snapshot.
    pub snapshot_bytes: u64,
    /// The number of the last change.
    pub last_seq: i64,
    /// How many snapshots there have been.
    pub generation: i64,
    /// How long the last commit took, fsync included.
    pub last_commit_us: u64,
    /// Why nothing is taken any more, if so.
    pub failed: Option<String>,
}

/// The part of the status that the connection's owner leaves for others to read.
#[derive(Clone, Debug, Default)]
struct StoreHealth {
    failed: Option<String>,
    log_bytes: u64,
    snapshot_bytes: u64,
    last_seq: i64,
    generation: i64,
    last_commit: Duration,
}

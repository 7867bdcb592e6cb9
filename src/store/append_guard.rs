//! Appended changes that are on disk but not yet in memory.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::postgres::LogEnd;

/// Positions in a log: number of the log, and number of the change in it. SQLite has one log with
/// number 0, PostgreSQL has one for each shop.
pub(super) type LogPosition = (i64, i64);

/// First change of every append whose [`AppendGuard`] still lives.
#[derive(Debug, Default)]
pub(super) struct PendingAppends {
    positions: Mutex<BTreeSet<LogPosition>>,
    released: Notify,
}

impl PendingAppends {
    /// Registers the appended changes that begin at these positions, one for each log.
    pub(super) fn guard(&self, positions: Vec<LogPosition>) -> AppendGuard<'_> {
        self.guard_until(positions, AppendedChanges::default())
    }

    /// Registers appended changes, for which other replicas must be waited for.
    pub(super) fn guard_until(
        &self,
        positions: Vec<LogPosition>,
        appended: AppendedChanges,
    ) -> AppendGuard<'_> {
        self.positions.lock().extend(&positions);
        AppendGuard {
            pending: self,
            positions,
            appended,
        }
    }

    /// Returns the first change of a log that may be missing in memory.
    pub(super) fn first(&self, log: i64) -> Option<i64> {
        let positions = self.positions.lock();
        let mut of_log = positions.range((log, i64::MIN)..=(log, i64::MAX));
        of_log.next().map(|(_, change)| *change)
    }

    /// Waits until every appended change of a log is in memory.
    pub(super) async fn none_in(&self, log: i64) {
        loop {
            let released = self.released.notified();
            if self.first(log).is_none() {
                return;
            }
            released.await;
        }
    }
}

/// Guard that keeps appended changes in the log; hold it until memory has them.
///
/// A compaction writes the state in memory and then deletes the log up to a change. A change that
/// is on disk but not yet in memory would be lost, so no compaction deletes it while its guard
/// lives. Changes of other replicas are applied only after those of earlier guards, so that memory
/// has all changes in the order of the log.
#[derive(Debug)]
#[must_use = "hold it until book or ledger have the change: a compaction may drop it from the log"]
pub struct AppendGuard<'a> {
    pending: &'a PendingAppends,
    // Empty if there was no change to write.
    positions: Vec<LogPosition>,
    appended: AppendedChanges,
}

impl AppendGuard<'_> {
    /// Returns what the other replicas must have applied before the changes are acknowledged. It is
    /// empty for a store that one process uses.
    #[must_use]
    pub fn appended(&self) -> AppendedChanges {
        self.appended.clone()
    }
}

/// End of each log that an append wrote or compared with.
#[derive(Clone, Debug, Default)]
pub struct AppendedChanges(Vec<(i64, LogEnd)>);

impl AppendedChanges {
    pub(super) fn new(ends: Vec<(i64, LogEnd)>) -> Self {
        Self(ends)
    }

    /// Returns true if no other replica needs to be waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ends(&self) -> &[(i64, LogEnd)] {
        &self.0
    }
}

impl Drop for AppendGuard<'_> {
    fn drop(&mut self) {
        let mut pending = self.pending.positions.lock();
        for position in &self.positions {
            pending.remove(position);
        }
        drop(pending);
        self.pending.released.notify_waiters();
    }
}

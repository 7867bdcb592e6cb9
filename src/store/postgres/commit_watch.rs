//! Commits that the server does not confirm in time, above all because it waits for a standby.
//!
//! A server with `synchronous_standby_names` waits for its standby without a limit, and closing the
//! connection does not end the wait. Until the standby has the change, no other transaction sees it, and
//! its rows stay locked. So a process gives such a commit up after a while, because the other tasks wait
//! for the connection, and above all the one that keeps the permit to answer the Market.
//!
//! After that, a change is not tried before a probe has been committed: a small write on a connection of
//! its own, for which no other task waits. All probes lock the same row, so at most one of them waits
//! for the standby, however many processes there are. Its wait ends when the standby is back; all earlier
//! commits are then confirmed too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout};

use super::connection::{Purpose, is_conflict, query, to_store_error};
use super::{PostgresState, PostgresStore, ShopLog, check_open};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Longest wait for a commit on the connection of the store. It ends before the whole transaction is
/// given up.
const COMMIT_LIMIT: Duration = Duration::from_secs(8);

/// Longest wait for a commit in a replica, whose permit to answer the Market lasts 4 s and is renewed on
/// the same connection once a second.
const REPLICA_COMMIT_LIMIT: Duration = Duration::from_secs(2);

/// Longest wait for a probe, with the connection for it.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Limit of the commits of one store, and whether the last one was given up. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct CommitWatch(Arc<CommitOutcomes>);

#[derive(Debug)]
struct CommitOutcomes {
    limit_ms: AtomicU64,
    is_stalled: AtomicBool,
}

impl CommitWatch {
    pub(super) fn new() -> Self {
        let watch = Self(Arc::new(CommitOutcomes {
            limit_ms: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
        }));
        watch.set_limit(COMMIT_LIMIT);
        watch
    }

    /// Shortens the limit for a process whose permit to answer must be renewed.
    pub(super) fn set_replica(&self) {
        self.set_limit(REPLICA_COMMIT_LIMIT);
    }

    fn set_limit(&self, limit: Duration) {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.limit_ms.store(ms, Ordering::Release);
    }

    /// Returns the longest wait for the commit of a transaction, if it has a limit.
    pub(super) fn limit_of(&self, purpose: Purpose) -> Option<Duration> {
        match purpose {
            Purpose::Write | Purpose::SharedWrite => Some(self.limit()),
            // What was written in bulk is on its way to the standby already. The row of the shop stays
            // locked until the standby has it, and a stop of the process waits for a compaction.
            Purpose::WriteAll => Some(COMMIT_LIMIT),
            // They do not wait for the standby.
            Purpose::ReadAll | Purpose::Renewal => None,
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.0.limit_ms.load(Ordering::Acquire))
    }

    /// Notes that a commit was given up.
    pub(super) fn note_stalled(&self) {
        self.0.is_stalled.store(true, Ordering::Release);
    }

    fn note_confirmed(&self) {
        self.0.is_stalled.store(false, Ordering::Release);
    }

    /// Returns true if a commit was given up, and none was confirmed since.
    pub(super) fn is_stalled(&self) -> bool {
        self.0.is_stalled.load(Ordering::Acquire)
    }
}

impl ShopLog {
    /// Returns true if this process has committed since it got the last change.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed == Some(self.end)
    }
}

impl PostgresStore {
    /// Locks the state for a change. If the last commit was given up, waits until the server confirms a
    /// probe.
    pub(super) async fn lock_to_write(&self) -> Result<MutexGuard<'_, PostgresState>, StoreError> {
        let started = Instant::now();
        loop {
            let state = self.state.lock().await;
            check_open(&state)?;
            if !self.commits.is_stalled() {
                return Ok(state);
            }
            drop(state);
            let probed = if started.elapsed() < PROBE_LIMIT {
                self.probe_commits(ProbeNeed::IfStalled).await
            } else {
                let error = StoreInternalError::Unconfirmed(self.commits.limit());
                Err(to_store_error(&self.url, error))
            };
            if let Err(error) = probed {
                self.publish(&*self.state.lock().await, Some(&error));
                return Err(error);
            }
        }
    }

    /// Checks that the server confirms a commit.
    pub(super) async fn probe_commits(&self, need: ProbeNeed) -> Result<(), StoreError> {
        let probing = async {
            let mut connection = self.probe.lock().await;
            // Another task may have probed meanwhile.
            if need == ProbeNeed::IfStalled && !self.commits.is_stalled() {
                return Ok(connection);
            }
            let mut work = connection.begin(Purpose::Write).await?;
            // It changes nothing, but needs a server that can write.
            query("UPDATE stockbridge.schema_version SET version = version")
                .execute(work.conn())
                .await?;
            work.commit().await?;
            self.commits.note_confirmed();
            Ok(connection)
        };
        let outcome = match timeout(PROBE_LIMIT, probing).await {
            Ok(Ok(mut connection)) => {
                connection.close().await;
                return Ok(());
            }
            Ok(Err(error)) if !is_conflict(&error) => error,
            // The server does not confirm it, or another probe waits.
            Ok(Err(_)) | Err(_) => {
                self.commits.note_stalled();
                StoreInternalError::Unconfirmed(PROBE_LIMIT)
            }
        };
        Err(to_store_error(&self.url, outcome))
    }
}

/// Reason for a probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeNeed {
    Always,
    /// A commit was given up, unless another task has probed since.
    IfStalled,
}

//! What several processes on one database need of each other: what each of them has applied.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout};

use super::change_listener::ChangeListener;
use super::replica_table::{REPLICA_LIFETIME, ReplicaStatus};
use super::{PostgresStore, check_open};
use crate::store::StoreError;
use crate::store::append_guard::{AppendedChanges, LogPosition};

/// Longest time between two looks at what the other replicas have applied. Notifications make it
/// shorter.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

impl PostgresStore {
    /// Renews the row of this replica. Returns false if it had ended or did not exist.
    pub(in crate::store) async fn renew_replica(&self, name: &str) -> Result<bool, StoreError> {
        let applied = self.applied().await?;
        self.replicas.renew((&self.id, name), &applied).await
    }

    /// Returns the time of the database's clock.
    pub(in crate::store) async fn time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.replicas.time().await
    }

    /// Deletes the row of this replica.
    pub(in crate::store) async fn leave_replicas(&self) -> Result<(), StoreError> {
        self.replicas.remove(&self.id).await
    }

    /// Returns all replicas of the last day.
    pub(in crate::store) async fn list_replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        self.replicas.list().await
    }

    pub(in crate::store) fn change_listener(&self) -> ChangeListener {
        ChangeListener::new(self.url.clone(), self.id.clone())
    }

    pub(in crate::store) fn wake_acknowledgements(&self) {
        self.others_applied.notify_waiters();
    }

    /// Waits until every live replica has applied these changes.
    ///
    /// After the lifetime of a replica's row no wait is needed: a replica that still answers then has
    /// read all changes since.
    pub(in crate::store) async fn replicated(&self, changes: &AppendedChanges) {
        let started = Instant::now();
        while started.elapsed() < REPLICA_LIFETIME {
            // Before the look, so that a notification in between is not missed.
            let notified = self.others_applied.notified();
            let looked = self
                .replicas
                .have_applied(&self.id, changes.positions())
                .await;
            if matches!(looked, Ok(true)) {
                return;
            }
            let _woken = timeout(POLL_INTERVAL, notified).await;
        }
    }

    /// Returns the last change of each shop that memory surely has.
    async fn applied(&self) -> Result<Vec<LogPosition>, StoreError> {
        let state = self.state.lock().await;
        check_open(&state)?;
        let applied = state.logs.iter().map(|log| {
            let pending = self.pending_appends.first(log.id);
            (log.id, pending.map_or(log.end.ver, |first| first - 1))
        });
        Ok(applied.collect())
    }
}

//! What several processes on one database need of each other: what each of them has applied.

use std::future::pending;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout};

use super::change_listener::ChangeListener;
use super::replica_table::{REPLICA_LIFETIME, ReplicaStatus};
use super::{AppliedChanges, PostgresStore, check_open};
use crate::store::StoreError;
use crate::store::append_guard::AppendedChanges;

/// Longest time between two looks at what the other replicas have applied. Notifications make it
/// shorter.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

impl PostgresStore {
    /// Renews the row of this replica. Returns false if it had ended or did not exist.
    pub(in crate::store) async fn renew_replica(&self, name: &str) -> Result<bool, StoreError> {
        let applied = self.applied().await?;
        let id = (&*self.id, name);
        let was_alive = self.replicas.renew(id, &applied.positions).await?;
        *self.renewed.lock() = applied;
        Ok(was_alive)
    }

    /// Returns true if memory has more changes than the row of this replica says.
    pub(in crate::store) async fn needs_renewal(&self) -> Result<bool, StoreError> {
        let applied = self.applied().await?;
        Ok(applied.positions != self.renewed.lock().positions)
    }

    /// Waits until memory has the appends that kept the last renewal back. Without any, it waits for
    /// ever.
    pub(in crate::store) async fn kept_back_renewal(&self) {
        if !self.renewed.lock().is_kept_back {
            return pending().await;
        }
        loop {
            // Before the look, so that a release in between is not missed.
            let released = self.pending_appends.released();
            if self.needs_renewal().await.unwrap_or(true) {
                // Once: if the renewal fails, the next one is by time.
                self.renewed.lock().is_kept_back = false;
                return;
            }
            released.await;
        }
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

    async fn applied(&self) -> Result<AppliedChanges, StoreError> {
        let state = self.state.lock().await;
        check_open(&state)?;
        let mut applied = AppliedChanges::default();
        for log in &state.logs {
            let pending = self.pending_appends.first(log.id);
            let position = pending.map_or(log.end.ver, |first| first - 1);
            applied.positions.push((log.id, position));
            applied.is_kept_back |= pending.is_some();
        }
        Ok(applied)
    }
}

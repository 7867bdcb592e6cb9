//! Calls for several processes on one database. In a directory there is only one process.

use chrono::{DateTime, Utc};
use stock::ShopId;

use super::append_guard::AppendedChanges;
use super::handle::{Backend, Store};
use super::postgres::{AppendCondition, ChangeListener, ReplicaStatus};
use super::{
    AppendGuard, Fence, LeaderState, Notes, RecentSend, RecoveredChanges, Renewal, RenewalNeed,
    SendPermission, SettingsDigest, StatementImages, StoreChange, StoreError,
};

impl Store {
    /// Returns true if several processes may use the store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self.backend() {
            Backend::Sqlite(_) => false,
            Backend::Postgres(_) => true,
        }
    }

    /// Refuses a database that was copied to another place since [`Store::open`]. Call it when no
    /// copy can run any more, because this process has its lease.
    ///
    /// # Errors
    /// A service must not use the database, or it cannot be read.
    pub async fn check_copy_marks(&self) -> Result<(), StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(store) => store.check_copy_marks().await,
        }
    }

    /// Refuses a database in which a shop has got another target since [`Store::open`]. Call it when this
    /// process has its lease: from then on no start records another target.
    ///
    /// # Errors
    /// A shop has another target, or the database cannot be read.
    pub async fn check_targets(&self) -> Result<(), StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(store) => store.check_targets().await,
        }
    }

    /// Waits until the database has these changes, and every live replica has applied them or no longer
    /// counts.
    ///
    /// # Errors
    /// That is not known after 9 s. The changes may be stored.
    pub async fn replicated(&self, changes: &AppendedChanges) -> Result<(), StoreError> {
        match self.backend() {
            Backend::Postgres(store) if !changes.is_empty() => store.replicated(changes).await,
            Backend::Postgres(_) | Backend::Sqlite(_) => Ok(()),
        }
    }

    /// Passes the changes of other processes to the callback like [`Store::catch_up`], and renews the row
    /// of this replica with what memory has. Returns `None` if the row need not be renewed, and in a
    /// directory.
    ///
    /// # Errors
    /// The same as those of [`Store::catch_up`].
    pub async fn renew_replica(
        &self,
        name: &str,
        need: RenewalNeed,
    ) -> Result<Option<Renewal>, StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(store) => store.renew_replica(name, need).await,
        }
    }

    /// Sets the digests of this replica's settings, which its row then has for the others.
    pub fn set_settings(&self, settings: &SettingsDigest) {
        match self.backend() {
            Backend::Sqlite(_) => {}
            Backend::Postgres(store) => store.set_settings(settings.to_string()),
        }
    }

    /// Returns the time of the database's clock, which all replicas share; `None` in a directory.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn database_time(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(store) => store.time().await.map(Some),
        }
    }

    /// Tells the others that this replica no longer answers.
    ///
    /// # Errors
    /// The database cannot be used. The others then wait until the row ends.
    pub async fn leave_replicas(&self) -> Result<(), StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(()),
            Backend::Postgres(store) => store.leave_replicas().await,
        }
    }

    /// Returns the replicas of the last day.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn list_replicas(&self) -> Result<Vec<ReplicaStatus>, StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(Vec::new()),
            Backend::Postgres(store) => store.list_replicas().await,
        }
    }

    /// Returns the receiver of the other processes' notifications; `None` for a directory.
    #[must_use]
    pub fn change_listener(&self) -> Option<ChangeListener> {
        match self.backend() {
            Backend::Sqlite(_) => None,
            Backend::Postgres(store) => Some(store.change_listener()),
        }
    }

    /// Persists changes like [`Store::append`], unless another process has the lease of the fence.
    ///
    /// # Errors
    /// The same as those of [`Store::append`], and `NotLeader`.
    pub async fn append_fenced(
        &self,
        changes: &[StoreChange<'_>],
        fence: Option<&Fence>,
    ) -> Result<AppendGuard<'_>, StoreError> {
        match (self.backend(), fence) {
            (Backend::Sqlite(store), _) => store.append(changes).await,
            (Backend::Postgres(_), None) => Err(StoreError::not_leader(None)),
            (Backend::Postgres(store), fence) => {
                let condition = AppendCondition {
                    fence,
                    ..AppendCondition::default()
                };
                store.append(changes, condition).await
            }
        }
    }

    /// Persists that a batch of a shop is about to be sent, unless another process has the lease of
    /// the fence, or the shop has the note `pause_note`.
    ///
    /// # Errors
    /// The same as those of [`Store::append`], and `NotLeader`. The batch may not be sent.
    pub async fn permit_send(
        &self,
        shop: ShopId,
        send: RecentSend,
        (fence, pause_note): (Option<&Fence>, &str),
    ) -> Result<SendPermission, StoreError> {
        match (self.backend(), fence) {
            (Backend::Postgres(store), Some(fence)) => {
                store
                    .permit_send(shop, send.skus, (fence, pause_note))
                    .await
            }
            (Backend::Postgres(_), None) => Err(StoreError::not_leader(None)),
            (Backend::Sqlite(store), _) => {
                store.record_send(shop, send).await?;
                Ok(SendPermission::Granted)
            }
        }
    }

    /// Reads what a new leader of a shop must know, with the recent sends of all shops that the Market
    /// counts together with it; `None` for a directory, whose only process has read it at its start.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn leader_state(
        &self,
        shop: ShopId,
        counted: &[ShopId],
        now: DateTime<Utc>,
    ) -> Result<Option<LeaderState>, StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(store) => store.leader_state(shop, counted, now).await.map(Some),
        }
    }

    /// Reads all notes, which other processes may have changed; `None` for a directory.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn read_notes(&self) -> Result<Option<Notes>, StoreError> {
        match self.backend() {
            Backend::Sqlite(_) => Ok(None),
            Backend::Postgres(store) => store.read_notes().await.map(Some),
        }
    }

    /// Returns the images of the statements of sources in the database; `None` for a directory.
    pub async fn statement_images(&self) -> Option<StatementImages> {
        match self.backend() {
            Backend::Sqlite(_) => None,
            Backend::Postgres(store) => Some(store.statement_images().await),
        }
    }

    /// Returns the changes that the database had lost and that were appended again since the last call.
    #[must_use]
    pub fn take_recovered(&self) -> Vec<RecoveredChanges> {
        match self.backend() {
            Backend::Sqlite(_) => Vec::new(),
            Backend::Postgres(store) => store.take_recovered(),
        }
    }

    /// Lets waiting acknowledgements look again at what the other replicas have applied.
    pub fn wake_acknowledgements(&self) {
        if let Backend::Postgres(store) = self.backend() {
            store.wake_acknowledgements();
        }
    }
}

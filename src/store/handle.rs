//! Handle of an open store, whichever database it uses.

use std::fmt;
use std::sync::Arc;

use stock::{Activity, ShopId, SkuId, StockBook};

use super::append_guard::AppendGuard;
use super::directory::StoreDirectory;
use super::failure_log::FailureLog;
use super::postgres::{AppendCondition, LeaseTable, PostgresStore};
use super::sqlite::SqliteStore;
use super::{
    Acked, BookVersion, CompareUpdates, Config, OnFollowed, OpenedStore, ReadLevels, RecentSend,
    ShopIdentity, StoreChange, StoreError, StoreStatus,
};

/// Open store; see the [module](super) for the guarantees.
///
/// [`Store::is_failed`], [`Store::wants_compaction`] and [`Store::status`] wait neither for a disk
/// nor for a database.
pub struct Store {
    backend: Backend,
    failures: FailureLog,
}

pub(super) enum Backend {
    Sqlite(Box<SqliteStore>),
    Postgres(Box<PostgresStore>),
}

impl Store {
    /// Opens the store, or creates an empty one, and loads its content.
    ///
    /// # Errors
    /// Every [`StoreError`] except `Closed` and `Behind`. A store that cannot be read and verified
    /// completely is not opened, and it is never emptied.
    pub async fn open(config: &Config, shops: &[ShopIdentity]) -> Result<OpenedStore, StoreError> {
        // With a database too: other files in the directory belong to one process.
        let directory = Arc::new(StoreDirectory::acquire(&config.path)?);
        if let Some(url) = &config.url {
            let (store, loaded, shop_table) =
                PostgresStore::open(url.clone(), directory, shops).await?;
            let quarantine = store.copy_quarantine().await;
            let backend = Backend::Postgres(Box::new(store));
            return Ok(loaded.into_opened(Self::new(backend), &shop_table, &quarantine));
        }
        let (store, loaded, shop_table) = SqliteStore::open(directory, shops).await?;
        let quarantine = store.copy_quarantine().await;
        let backend = Backend::Sqlite(Box::new(store));
        Ok(loaded.into_opened(Self::new(backend), &shop_table, &quarantine))
    }

    fn new(backend: Backend) -> Self {
        Self {
            backend,
            failures: FailureLog::default(),
        }
    }

    /// Returns the log of failures that the periodic users of the store share.
    #[must_use]
    pub fn failures(&self) -> &FailureLog {
        &self.failures
    }

    /// Sets the callback that gets changes of other processes, and the one that returns the levels in
    /// memory. Before that, changes that another process has made since [`Store::open`] make appends
    /// fail.
    pub fn follow_with(&self, on_followed: OnFollowed, levels: ReadLevels) {
        match &self.backend {
            // One process owns a directory.
            Backend::Sqlite(_) => drop((on_followed, levels)),
            Backend::Postgres(store) => store.follow_with(on_followed, levels),
        }
    }

    /// Passes the changes of other processes to the callback. Returns true if there were any.
    ///
    /// # Errors
    /// The database cannot be read, or it lacks acknowledged changes.
    pub async fn catch_up(&self) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(_) => Ok(false),
            Backend::Postgres(store) => store.catch_up().await,
        }
    }

    /// Returns the leases in the database; `None` for a directory, which belongs to one process.
    #[must_use]
    pub fn leases(&self) -> Option<LeaseTable> {
        match &self.backend {
            Backend::Sqlite(_) => None,
            Backend::Postgres(store) => Some(store.leases(self.failures.clone())),
        }
    }

    /// Persists changes in one commit with one fsync.
    ///
    /// `Ok` means that they are durable. If the future is dropped before, either all or none of
    /// them are; in a directory the next call deletes them, because they were not acknowledged, and
    /// from a database memory gets them as changes of another process.
    ///
    /// # Errors
    /// `DiskFull` and `Busy` change nothing, and a later call may succeed. After `Failed`, only
    /// [`Store::reopen_and_verify`] helps. `Behind` changes nothing: levels must be compared with
    /// the book again.
    pub async fn append(&self, changes: &[StoreChange<'_>]) -> Result<AppendGuard<'_>, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.append(changes).await,
            Backend::Postgres(store) => store.append(changes, AppendCondition::default()).await,
        }
    }

    /// Returns the state of the book. Read it before updates are compared with the book.
    #[must_use]
    pub fn book_version(&self) -> BookVersion {
        match &self.backend {
            Backend::Sqlite(_) => BookVersion::default(),
            Backend::Postgres(store) => store.book_version(),
        }
    }

    /// Persists changes like [`Store::append`], if the book was current at `version` for the shops
    /// of the changes and for `shops`.
    ///
    /// For updates that were compared with the book, also those that change nothing: that the book
    /// has their level already is only sure if no other process has changed it meanwhile.
    ///
    /// # Errors
    /// The same as those of [`Store::append`].
    pub async fn append_if_current(
        &self,
        changes: &[StoreChange<'_>],
        (shops, version): (&[ShopId], BookVersion),
    ) -> Result<AppendGuard<'_>, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.append(changes).await,
            Backend::Postgres(store) => {
                let condition = AppendCondition {
                    shops,
                    version: Some(version),
                    fence: None,
                };
                store.append(changes, condition).await
            }
        }
    }

    /// Compares updates with the book while no other process can change the stock of the shops, and
    /// persists what they change. The other processes wait meanwhile, so use it only after
    /// [`Store::append_if_current`] has failed with `Behind` several times.
    ///
    /// # Errors
    /// The same as those of [`Store::append`], without `Behind`.
    pub async fn append_compared(
        &self,
        shops: &[ShopId],
        updates: &mut impl CompareUpdates,
    ) -> Result<AppendGuard<'_>, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => {
                updates.compare().await;
                store.append(&updates.changes()).await
            }
            Backend::Postgres(store) => store.append_compared(shops, updates).await,
        }
    }

    /// Persists that a batch of a shop is about to be sent.
    ///
    /// # Errors
    /// The same as those of [`Store::append`].
    pub async fn record_send(&self, shop: ShopId, send: RecentSend) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.record_send(shop, send).await,
            Backend::Postgres(store) => store.record_send(shop, send).await,
        }
    }

    /// Persists a named note of a shop or, with `None`, of the whole store.
    ///
    /// `None` as text deletes the note.
    ///
    /// # Errors
    /// The same as those of [`Store::append`].
    pub async fn put_note(
        &self,
        shop: Option<ShopId>,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.put_note(shop, name, text).await,
            Backend::Postgres(store) => store.put_note(shop, name, text).await,
        }
    }

    /// Commits without a change, to test if a commit is possible.
    ///
    /// # Errors
    /// The same as those of [`Store::append`].
    pub async fn test_write(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.test_write().await,
            Backend::Postgres(store) => store.test_write().await,
        }
    }

    /// Returns true if the log is large enough for a compaction.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        match &self.backend {
            Backend::Sqlite(store) => store.wants_compaction(),
            Backend::Postgres(store) => store.wants_compaction(),
        }
    }

    /// Writes `book`, `acked` and `activity` as the new snapshot, and deletes the log before it.
    ///
    /// Appends may run meanwhile; each waits for at most one small step. On a runtime with several
    /// threads, packing a shop does not block other tasks. In a database only the shops whose log
    /// has grown enough are written, unless none has.
    ///
    /// # Errors
    /// The content of the store is unchanged. After `DiskFull` and `Busy` a later call may succeed.
    pub async fn compact(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.compact(book, acked, activity).await,
            Backend::Postgres(store) => store.compact(book, acked, activity).await,
        }
    }

    /// Reopens the database file after a failure and verifies every record.
    ///
    /// Changes that were not acknowledged are deleted, and the rest is written and synced once more.
    /// Returns false, without doing anything, if the store had not failed, and for PostgreSQL, to
    /// which every call connects by itself.
    ///
    /// # Errors
    /// The store cannot be recovered, or not yet; the call may be repeated.
    pub async fn reopen_and_verify(&self) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.reopen_and_verify().await,
            Backend::Postgres(_) => Ok(false),
        }
    }

    /// Returns true if the last append failed, so that the next ones are likely to fail.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        match &self.backend {
            Backend::Sqlite(store) => store.is_failed(),
            Backend::Postgres(store) => store.is_failed(),
        }
    }

    /// Returns the status for the operator.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        match &self.backend {
            Backend::Sqlite(store) => store.status(),
            Backend::Postgres(store) => store.status(),
        }
    }

    /// Writes everything into the database, closes it and unlocks the directory.
    ///
    /// # Errors
    /// No acknowledged change is lost, but some may still be in SQLite's write-ahead log.
    pub async fn close(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(store) => store.close().await,
            Backend::Postgres(store) => store.close().await,
        }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns the store in a directory, for tests of its files.
    #[cfg(test)]
    pub(super) fn sqlite(&self) -> &SqliteStore {
        match &self.backend {
            Backend::Sqlite(store) => store,
            Backend::Postgres(_) => panic!("the store is not in a directory"),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

//! Store in a SQLite database: one connection, shared by appends and compaction steps.

mod compact;
mod database_file;
mod directory_end;
mod load;
mod replay;
mod side_tables;
mod store_connection;
mod store_header;
mod store_write;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use stock::{Activity, ShopId, SkuId, StockBook};

use self::compact::SnapshotWriter;
pub(super) use self::directory_end::DirectoryEnd;
use self::load::{load, register_shops};
use self::store_connection::StoreConnection;
use self::store_header::StoreHeader;
use self::store_write::StoreWrite;
use super::append_guard::{AppendGuard, PendingAppends};
use super::directory::StoreDirectory;
use super::loaded_store::{LoadedStore, ShopTable};
use super::packing::RECORD_OVERHEAD;
use super::quarantine_table::QuarantineTable;
use super::{
    Acked, COMPACTION_BYTES, RecentSend, ShopIdentity, StoreChange, StoreError, StoreHealth,
    StoreStatus, notes,
};

/// Number of the only log in [`PendingAppends`].
const LOG: i64 = 0;

/// Open store in a SQLite database; see the [module](super) for format and guarantees.
///
/// There is one connection with a fair lock, so that appends and the small steps of a compaction
/// alternate. The methods that only read the health do not wait for it.
pub(super) struct SqliteStore {
    state: tokio::sync::Mutex<StoreState>,
    compaction_lock: tokio::sync::Mutex<()>,
    /// Numbers on disk of the configured shops.
    configured_ids: Vec<i64>,
    /// Numbers on disk of the shops that are not configured.
    absent_ids: Vec<i64>,
    pending_appends: PendingAppends,
    health: Mutex<StoreHealth>,
    directory: Arc<StoreDirectory>,
}

impl SqliteStore {
    /// Opens the database in the directory, or creates an empty one, and loads its content.
    pub(super) async fn open(
        directory: Arc<StoreDirectory>,
        shops: &[ShopIdentity],
    ) -> Result<(Self, LoadedStore, ShopTable), StoreError> {
        let mut connection = StoreConnection::open(Arc::clone(&directory)).await?;
        connection.check_marks().await?;
        let known = connection.shops().await?;
        let shop_table = register_shops(&mut connection, known, shops).await?;
        let outcome = load(&mut connection, &shop_table.configured, shops).await;
        let mut loaded = outcome.map_err(|error| connection.record_failure(error))?;
        let store = Self {
            health: Mutex::new(connection.health()),
            state: tokio::sync::Mutex::new(StoreState {
                connection,
                quarantine: std::mem::take(&mut loaded.quarantine),
            }),
            compaction_lock: tokio::sync::Mutex::new(()),
            configured_ids: shop_table.configured.clone(),
            absent_ids: shop_table.absent.iter().map(|shop| shop.id).collect(),
            pending_appends: PendingAppends::default(),
            directory,
        };
        match compact::collect_garbage(&store).await {
            // Garbage can wait for the next compaction: a full disk must not prevent the start.
            Err(error) if error.is_fatal() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok((store, loaded, shop_table))
    }

    /// Returns the quarantine of every shop, by their numbers on disk.
    pub(super) async fn copy_quarantine(&self) -> QuarantineTable {
        self.state.lock().await.quarantine.clone()
    }

    /// Persists changes in one commit with one fsync.
    ///
    /// `Ok` means that they are on disk. If the future is dropped before, either all or none of
    /// them are on disk, and the next call deletes them, because they were not acknowledged.
    ///
    /// # Errors
    /// `DiskFull` and `Busy` change nothing, and a later call may succeed. After `Failed`, only
    /// [`SqliteStore::reopen_and_verify`] helps.
    pub(super) async fn append(
        &self,
        changes: &[StoreChange<'_>],
    ) -> Result<AppendGuard<'_>, StoreError> {
        let with_shop = |change: &StoreChange<'_>| {
            let shop = self.disk_id(change.shop());
            change.pack().into_iter().map(move |packed| (shop, packed))
        };
        let records: Vec<_> = changes.iter().flat_map(with_shop).collect();
        if records.is_empty() {
            return Ok(self.pending_appends.guard(Vec::new()));
        }
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        let bytes = records
            .iter()
            .map(|(_, packed)| packed.body.len() as u64 + RECORD_OVERHEAD)
            .sum();
        let to_write = |((shop, packed), seq)| StoreWrite::Change { seq, shop, packed };
        let writes: Vec<_> = records
            .into_iter()
            .zip(header.last_seq + 1..)
            .map(to_write)
            .collect();
        let last_seq = header.last_seq + i64::try_from(writes.len()).unwrap_or(i64::MAX);
        guard
            .connection
            .commit(writes, StoreHeader { last_seq, ..header })
            .await?;
        guard.connection.add_log_bytes(bytes);
        for change in changes {
            change.update_quarantine(&mut guard.quarantine, self.disk_id(change.shop()));
        }
        Ok(self.pending_appends.guard(vec![(LOG, header.last_seq + 1)]))
    }

    /// Persists that a batch of a shop is about to be sent.
    ///
    /// # Errors
    /// The same as those of [`SqliteStore::append`].
    pub(super) async fn record_send(
        &self,
        shop: ShopId,
        send: RecentSend,
    ) -> Result<(), StoreError> {
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        let write = StoreWrite::RecentSend {
            shop: self.disk_id(shop),
            send,
        };
        guard.connection.commit(vec![write], header).await
    }

    /// Persists a named note of a shop or, with `None`, of the whole store.
    ///
    /// `None` as text deletes the note.
    ///
    /// # Errors
    /// The same as those of [`SqliteStore::append`].
    pub(super) async fn put_note(
        &self,
        shop: Option<ShopId>,
        name: &str,
        text: Option<&str>,
    ) -> Result<(), StoreError> {
        let shop = shop.map_or(notes::STORE_WIDE, |shop| self.disk_id(shop));
        let write = StoreWrite::Note {
            shop,
            name: name.to_owned(),
            text: text.map(ToOwned::to_owned),
        };
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        guard.connection.commit(vec![write], header).await
    }

    /// Commits without a change, to test if a commit is possible.
    ///
    /// # Errors
    /// The same as those of [`SqliteStore::append`].
    pub(super) async fn test_write(&self) -> Result<(), StoreError> {
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        guard.connection.commit(Vec::new(), header).await
    }

    /// Returns true if the log is large enough for a compaction.
    pub(super) fn wants_compaction(&self) -> bool {
        let health = self.health.lock();
        health.log_bytes > health.snapshot_bytes.max(COMPACTION_BYTES)
    }

    /// Writes `book`, `acked` and `activity` as the new snapshot, and deletes the log before it.
    ///
    /// Appends may run meanwhile; each waits for at most one small step. On a runtime with several
    /// threads, packing a shop does not block other tasks.
    ///
    /// # Errors
    /// The content of the store is unchanged. After `DiskFull` and `Busy` a later call may succeed.
    pub(super) async fn compact(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let _compaction_guard = self.compaction_lock.lock().await;
        let outcome = self.write_snapshot(book, acked, activity).await;
        if outcome.is_err() && !self.is_failed() {
            // Frees the space for appends. The first error is the one to return.
            let _retried_later = compact::collect_garbage(self).await;
        }
        outcome
    }

    /// Reopens the database after a failure and verifies every record.
    ///
    /// Changes that were not acknowledged are deleted, and the rest is written and synced once more.
    /// Returns false, without doing anything, if the store had not failed.
    ///
    /// # Errors
    /// The store cannot be recovered, or not yet; the call may be repeated.
    pub(super) async fn reopen_and_verify(&self) -> Result<bool, StoreError> {
        let mut guard = self.lock().await;
        if !guard.connection.has_failed() {
            return Ok(false);
        }
        guard.connection.reconnect().await?;
        Ok(true)
    }

    /// Returns true if appends are rejected until [`SqliteStore::reopen_and_verify`] has succeeded.
    pub(super) fn is_failed(&self) -> bool {
        self.health.lock().failed.is_some()
    }

    /// Returns the status for the operator.
    pub(super) fn status(&self) -> StoreStatus {
        let health = self.health.lock().clone();
        StoreStatus {
            disk_bytes: self.directory.disk_bytes(),
            log_bytes: health.log_bytes,
            snapshot_bytes: health.snapshot_bytes,
            last_seq: health.last_seq,
            generation: health.generation,
            last_commit_us: u64::try_from(health.last_commit.as_micros()).unwrap_or(u64::MAX),
            failed: health.failed,
        }
    }

    /// Writes everything into the database file, closes it and unlocks the directory.
    ///
    /// # Errors
    /// No acknowledged change is lost, but some may still be in SQLite's write-ahead log.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.lock().await.connection.close().await
    }

    pub(super) async fn lock(&self) -> StoreGuard<'_> {
        StoreGuard {
            state: self.state.lock().await,
            health: &self.health,
        }
    }

    pub(super) fn disk_id(&self, shop: ShopId) -> i64 {
        self.configured_ids[shop.index()]
    }

    /// Returns the last change that is surely in memory too.
    pub(super) fn applied_seq(&self, guard: &StoreGuard<'_>) -> i64 {
        let last_seq = guard.connection.header().last_seq;
        self.pending_appends
            .first(LOG)
            .map_or(last_seq, |first| first - 1)
    }

    async fn write_snapshot(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let mut snapshot = SnapshotWriter::begin(self).await?;
        for shop in book.shops() {
            snapshot
                .write_shop(book, shop, |id| acked(shop, id), activity)
                .await?;
        }
        for shop in &self.absent_ids {
            snapshot.copy_absent_shop(*shop).await?;
        }
        snapshot.finish().await
    }
}

/// State behind the lock of the connection.
#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) connection: StoreConnection,
    quarantine: QuarantineTable,
}

/// Lock of the connection. It publishes the [`StoreHealth`] when it is dropped.
pub(super) struct StoreGuard<'a> {
    state: tokio::sync::MutexGuard<'a, StoreState>,
    health: &'a Mutex<StoreHealth>,
}

impl Deref for StoreGuard<'_> {
    type Target = StoreState;

    fn deref(&self) -> &StoreState {
        &self.state
    }
}

impl DerefMut for StoreGuard<'_> {
    fn deref_mut(&mut self) -> &mut StoreState {
        &mut self.state
    }
}

impl Drop for StoreGuard<'_> {
    fn drop(&mut self) {
        *self.health.lock() = self.state.connection.health();
    }
}

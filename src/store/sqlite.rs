//! SQLite implementation of the store: one connection, shared by appends and compaction steps.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use stock::{Activity, ShopId, SkuId, StockBook};

use super::compact::{self, SnapshotWriter};
use super::directory::StoreDirectory;
use super::loaded_store::{LoadedStore, load, register_shops};
use super::quarantine_table::QuarantineTable;
use super::record::{PackedRecord, RecordKind, RecordPacker};
use super::store_connection::StoreConnection;
use super::store_header::StoreHeader;
use super::store_write::{DiskShop, StoreWrite};
use super::{
    AbsentShop, Acked, COMPACTION_BYTES, Config, OpenedStore, RecentSend, ShopIdentity,
    StoreChange, StoreError, StoreHealth, StoreStatus, notes,
};

/// Open store in a SQLite database; see the [module](super) for format and guarantees.
///
/// There is one connection with a fair lock, so that appends and the small steps of a compaction
/// alternate. [`Store::is_failed`], [`Store::wants_compaction`] and [`Store::status`] do not wait
/// for it.
pub struct Store {
    state: tokio::sync::Mutex<StoreState>,
    compaction_lock: tokio::sync::Mutex<()>,
    /// Numbers on disk of the configured shops.
    configured_ids: Vec<i64>,
    /// Numbers on disk of the shops that are not configured.
    absent_ids: Vec<i64>,
    /// First change of every append whose [`AppendGuard`] still lives.
    pending_appends: Mutex<BTreeSet<i64>>,
    health: Mutex<StoreHealth>,
    directory: Arc<StoreDirectory>,
}

impl Store {
    /// Opens the store, or creates an empty one, and loads its content.
    ///
    /// # Errors
    /// Every [`StoreError`] except `Closed`. A store that cannot be read and verified completely is
    /// not opened, and it is never emptied.
    pub async fn open(config: &Config, shops: &[ShopIdentity]) -> Result<OpenedStore, StoreError> {
        let directory = Arc::new(StoreDirectory::acquire(&config.path)?);
        let mut connection = StoreConnection::open(Arc::clone(&directory)).await?;
        let known = connection.shops().await?;
        let shop_table = register_shops(&mut connection, known, shops).await?;
        let outcome = load(&mut connection, &shop_table.configured, shops).await;
        let loaded = outcome.map_err(|error| connection.record_failure(error))?;
        let LoadedStore {
            book,
            acked,
            quarantine,
            recent_sends,
            activity,
            mut notes,
            ..
        } = loaded;
        let to_absent = |shop: &DiskShop| AbsentShop {
            name: shop.name.clone(),
            notes: notes.take_orphans(shop.id),
        };
        let absent_shops = shop_table.absent.iter().map(to_absent).collect();
        let entries_of = |id| quarantine.entries(id).cloned().collect();
        let quarantined = shop_table
            .configured
            .iter()
            .map(|id| entries_of(*id))
            .collect();
        let store = Self {
            health: Mutex::new(connection.health()),
            state: tokio::sync::Mutex::new(StoreState {
                connection,
                quarantine,
            }),
            compaction_lock: tokio::sync::Mutex::new(()),
            configured_ids: shop_table.configured,
            absent_ids: shop_table.absent.into_iter().map(|shop| shop.id).collect(),
            pending_appends: Mutex::default(),
            directory,
        };
        match compact::collect_garbage(&store).await {
            // Garbage can wait for the next compaction: a full disk must not prevent the start.
            Err(error) if error.is_fatal() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        Ok(OpenedStore {
            store,
            book,
            acked,
            quarantine: quarantined,
            recent_sends,
            activity,
            notes,
            absent_shops,
        })
    }

    /// Persists changes in one commit with one fsync.
    ///
    /// `Ok` means that they are on disk. If the future is dropped before, either all or none of
    /// them are on disk, and the next call deletes them, because they were not acknowledged.
    ///
    /// # Errors
    /// `DiskFull` and `Busy` change nothing, and a later call may succeed. After `Failed`, only
    /// [`Store::reopen_and_verify`] helps.
    pub async fn append(&self, changes: &[StoreChange<'_>]) -> Result<AppendGuard<'_>, StoreError> {
        let records: Vec<_> = changes
            .iter()
            .flat_map(|change| self.pack(change))
            .collect();
        if records.is_empty() {
            return Ok(AppendGuard {
                store: self,
                seq: None,
            });
        }
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        // The overhead per record is counted too: a log may consist of records with a single row.
        let bytes = records
            .iter()
            .map(|(_, packed)| packed.body.len() as u64 + 20)
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
            self.update_quarantine(&mut guard.quarantine, change);
        }
        let seq = header.last_seq + 1;
        self.pending_appends.lock().insert(seq);
        Ok(AppendGuard {
            store: self,
            seq: Some(seq),
        })
    }

    /// Persists that a batch of a shop is about to be sent.
    ///
    /// # Errors
    /// The same as those of [`Store::append`].
    pub async fn record_send(&self, shop: ShopId, send: RecentSend) -> Result<(), StoreError> {
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
    /// The same as those of [`Store::append`].
    pub async fn put_note(
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
    /// The same as those of [`Store::append`].
    pub async fn test_write(&self) -> Result<(), StoreError> {
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        guard.connection.commit(Vec::new(), header).await
    }

    /// Returns true if the log is large enough for a compaction.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
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
    pub async fn compact(
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
    pub async fn reopen_and_verify(&self) -> Result<bool, StoreError> {
        let mut guard = self.lock().await;
        if !guard.connection.has_failed() {
            return Ok(false);
        }
        guard.connection.reconnect().await?;
        Ok(true)
    }

    /// Returns true if appends are rejected until [`Store::reopen_and_verify`] has succeeded.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.health.lock().failed.is_some()
    }

    /// Returns the status for the operator.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
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
    pub async fn close(&self) -> Result<(), StoreError> {
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
            .lock()
            .first()
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

    fn pack(&self, change: &StoreChange<'_>) -> Vec<(i64, PackedRecord)> {
        let (shop, packer) = match *change {
            StoreChange::Stock { shop, rows } => {
                let mut packer = RecordPacker::new(RecordKind::Stock);
                rows.iter()
                    .for_each(|(sku, level)| packer.push_stock(sku, *level));
                (shop, packer)
            }
            StoreChange::Acked { shop, rows } => {
                let mut packer = RecordPacker::new(RecordKind::Acked);
                rows.iter()
                    .for_each(|(sku, acked)| packer.push_acked(sku, *acked));
                (shop, packer)
            }
            StoreChange::Activity { shop, rows } => {
                let mut packer = RecordPacker::new(RecordKind::Activity);
                rows.iter()
                    .for_each(|(sku, activity)| packer.push_activity(sku, activity));
                (shop, packer)
            }
            StoreChange::Quarantined { shop, row } => {
                let mut packer = RecordPacker::new(RecordKind::Quarantined);
                packer.push_quarantined(row);
                (shop, packer)
            }
            StoreChange::Released { shop, sku } => {
                let mut packer = RecordPacker::new(RecordKind::Released);
                packer.push_released(sku);
                (shop, packer)
            }
        };
        let id = self.disk_id(shop);
        packer
            .finish()
            .into_iter()
            .map(|packed| (id, packed))
            .collect()
    }

    fn update_quarantine(&self, quarantine: &mut QuarantineTable, change: &StoreChange<'_>) {
        match *change {
            StoreChange::Stock { .. }
            | StoreChange::Acked { .. }
            | StoreChange::Activity { .. } => {}
            StoreChange::Quarantined { shop, row } => {
                quarantine.insert(self.disk_id(shop), row.clone());
            }
            StoreChange::Released { shop, sku } => quarantine.remove(self.disk_id(shop), sku),
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

/// Guard that keeps appended changes in the log; hold it until memory has them.
///
/// A compaction writes the state in memory and then deletes the log up to a change. A change that
/// is on disk but not yet in memory would be lost, so no compaction deletes it while its guard
/// lives.
#[derive(Debug)]
#[must_use = "hold it until book or ledger have the change: a compaction may drop it from the log"]
pub struct AppendGuard<'a> {
    store: &'a Store,
    // None if there was no change to write.
    seq: Option<i64>,
}

impl Drop for AppendGuard<'_> {
    fn drop(&mut self) {
        if let Some(seq) = self.seq {
            self.store.pending_appends.lock().remove(&seq);
        }
    }
}

/// State behind the lock of the connection.
#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) connection: StoreConnection,
    pub(super) quarantine: QuarantineTable,
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

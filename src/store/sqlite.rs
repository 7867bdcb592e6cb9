use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::compact::{self, SnapshotWriter};
use super::directory::StoreDirectory;
use super::quarantine_table::QuarantineTable;
use super::record::{
    MalformedRecord, PackedRecord, RecordKind, RecordPacker, RecordReader, RecordRow,
};
use super::replay::{replay, snapshot_row_counts};
use super::store_connection::{
    DiskShop, StoreConnection, StoreHeader, StoreInternalError, StoreWrite,
};
use super::{
    AbsentShop, Acked, COMPACTION_BYTES, Config, Notes, OpenedStore, RecentSend, ShopIdentity,
    StoreChange, StoreError, StoreHealth, StoreStatus, notes, recent_sends,
};
use crate::stock::{Activity, PerSku, ShopId, SkuActivity, SkuId, StockBook};

/// The store, in a SQLite database: see [`super`].
///
/// There is one connection, and it is waited for in turn: appends and the small steps of a
/// compaction alternate. What a writer needs to know before it appends, [`Store::is_failed`],
/// [`Store::wants_compaction`] and [`Store::status`], never waits.
pub struct Store {
    state: tokio::sync::Mutex<StoreState>,
    compaction_lock: tokio::sync::Mutex<()>,
    /// The configured shops' numbers on disk, and those of all others.
    configured_ids: Vec<i64>,
    absent_ids: Vec<i64>,
    /// First change of every append whose receipt is still held.
    pending_appends: Mutex<BTreeSet<i64>>,
    health: Mutex<StoreHealth>,
    directory: Arc<StoreDirectory>,
}

impl Store {
    /// Opens the store, or creates an empty one, and reads all that is in it.
    ///
    /// # Errors
    /// Everything [`StoreError`] knows except `Closed`. Nothing that cannot be read in full and
    /// verified is served, and nothing is ever emptied to get going.
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
            // Waste can wait for the next compaction: a full disk must not keep us from serving.
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

    /// Makes changes durable, all together: one commit, one fsync.
    ///
    /// `Ok` means that they are on the disk. If the future is dropped before that, they are
    /// there whole or not at all, and the next call takes them back, since nobody was told.
    ///
    /// # Errors
    /// `Full` and `Busy` change nothing and pass by themselves; after `Failed` only
    /// [`Store::heal`] helps.
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
        // What a record costs beside its body is counted too: a log may be all of single rows.
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
        lock_mutex(&self.pending_appends).insert(seq);
        Ok(AppendGuard {
            store: self,
            seq: Some(seq),
        })
    }

    /// Notes durably that so many SKUs of a shop are about to be sent.
    ///
    /// # Errors
    /// As those of [`Store::append`].
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

    /// Notes a text under a name, of a shop or of the whole; `None` takes the note away.
    ///
    /// # Errors
    /// As those of [`Store::append`].
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

    /// Makes a durable commit that changes nothing, to learn whether one is possible.
    ///
    /// # Errors
    /// As those of [`Store::append`].
    pub async fn test_write(&self) -> Result<(), StoreError> {
        let mut guard = self.lock().await;
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        guard.connection.commit(Vec::new(), header).await
    }

    /// Whether the log has grown enough to be folded.
    #[must_use]
    pub fn wants_compaction(&self) -> bool {
        let health = lock_mutex(&self.health);
        health.log_bytes > health.snapshot_bytes.max(COMPACTION_BYTES)
    }

    /// Writes what `book`, `acked` and `marks` hold as the new snapshot, and drops the log before
    /// it.
    ///
    /// Appends go on meanwhile; none waits for more than one small step. On a runtime with
    /// several threads, packing a shop keeps nobody waiting.
    ///
    /// # Errors
    /// What the store held before is untouched. After `Full` and `Busy` another attempt may
    /// succeed.
    pub async fn compact(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let _compaction_guard = self.compaction_lock.lock().await;
        let outcome = self.write_snapshot(book, acked, activity).await;
        if outcome.is_err() && !self.is_failed() {
            // Gives the space back to the appends; the first error is the one that counts.
            let _retried_later = compact::collect_garbage(self).await;
        }
        outcome
    }

    /// After a failure, closes the database, opens it again and verifies every record.
    ///
    /// Changes that were not acknowledged are taken back, and all that is left is written and
    /// synced once more. Returns whether there was anything to heal.
    ///
    /// # Errors
    /// The store has failed for good, or still does; it may be tried again.
    pub async fn reopen_and_verify(&self) -> Result<bool, StoreError> {
        let mut guard = self.lock().await;
        if !guard.connection.has_failed() {
            return Ok(false);
        }
        guard.connection.reconnect().await?;
        Ok(true)
    }

    /// Whether appends are refused until [`Store::heal`] has succeeded.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        lock_mutex(&self.health).failed.is_some()
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        let health = lock_mutex(&self.health).clone();
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

    /// Writes everything into the one file, closes it and lets go of the directory.
    ///
    /// # Errors
    /// Nothing acknowledged is lost, but it may still lie in SQLite's log.
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

    /// The last change of which it is certain that memory has it too.
    pub(super) fn applied_seq(&self, guard: &StoreGuard<'_>) -> i64 {
        let last_seq = guard.connection.header().last_seq;
        lock_mutex(&self.pending_appends)
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
                quarantine.insert(self.disk_id(shop), row.clone())
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

/// Proof that changes are on the disk; to be held until memory has them too.
///
/// A compaction writes what memory has and drops from the log what it takes for written: a
/// change that is durable but not yet in the book would be lost with it. As long as a receipt
/// is held, its changes stay in the log.
#[derive(Debug)]
#[must_use = "hold it until book or ledger have the change: a compaction may drop it from the log"]
pub struct AppendGuard<'a> {
    store: &'a Store,
    // None if nothing had to be written.
    seq: Option<i64>,
}

impl Drop for AppendGuard<'_> {
    fn drop(&mut self) {
        if let Some(seq) = self.seq {
            lock_mutex(&self.store.pending_appends).remove(&seq);
        }
    }
}

/// What the one who holds the connection owns.
#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) connection: StoreConnection,
    pub(super) quarantine: QuarantineTable,
}

/// The connection's turn; says how things are when it ends, however it ends.
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
        *lock_mutex(self.health) = self.state.connection.health();
    }
}

/// The shops' numbers on disk.
struct ShopTable {
    configured: Vec<i64>,
    absent: Vec<DiskShop>,
}

/// Numbers the shops that are new and notes the targets that have changed, in one transaction.
async fn register_shops(
    connection: &mut StoreConnection,
    known: Vec<DiskShop>,
    shops: &[ShopIdentity],
) -> Result<ShopTable, StoreError> {
    let mut header = connection.header();
    let mut writes = Vec::new();
    let mut configured = Vec::new();
    for ShopIdentity { name, target, .. } in shops {
        let found = known.iter().find(|shop| shop.name == *name);
        let id = found.map_or(header.shops + 1, |shop| shop.id);
        configured.push(id);
        if found.is_some_and(|shop| shop.target == *target) {
            continue;
        }
        writes.push(StoreWrite::Shop(DiskShop {
            id,
            name: name.clone(),
            target: target.clone(),
        }));
        if found.is_some() {
            header.last_seq += 1;
            let packed = RecordPacker::target_changed();
            writes.push(StoreWrite::Change {
                seq: header.last_seq,
                shop: id,
                packed,
            });
        } else {
            header.shops = id;
        }
    }
    if !writes.is_empty() {
        connection.ensure_ready().await?;
        connection.commit(writes, header).await?;
    }
    let absent = known
        .into_iter()
        .filter(|shop| !configured.contains(&shop.id))
        .collect();
    Ok(ShopTable { configured, absent })
}

/// The memory of the configured shops, while it is read.
struct LoadedStore {
    /// By number on disk, from 1.
    shop_by_disk_id: Vec<Option<ShopId>>,
    book: StockBook,
    acked: Vec<PerSku<Acked>>,
    quarantine: QuarantineTable,
    recent_sends: Vec<Vec<RecentSend>>,
    activity: Activity,
    notes: Notes,
}

async fn load(
    connection: &mut StoreConnection,
    configured: &[i64],
    shops: &[ShopIdentity],
) -> Result<LoadedStore, StoreInternalError> {
    let header = connection.header();
    let conn = connection.conn()?;
    let sizes = snapshot_row_counts(conn, header).await?;
    let size_of_shop = |id: &i64| {
        sizes
            .iter()
            .find(|(shop, _)| shop == id)
            .map_or(0, |(_, rows)| *rows)
    };
    let shop_of_disk_id = |id: i64| {
        let position = configured.iter().position(|known| *known == id)?;
        u16::try_from(position).ok().map(ShopId)
    };
    let mut loaded = LoadedStore {
        shop_by_disk_id: (1..=header.shops).map(shop_of_disk_id).collect(),
        book: StockBook::new(configured.iter().map(size_of_shop)),
        acked: configured.iter().map(|_| PerSku::default()).collect(),
        quarantine: QuarantineTable::default(),
        recent_sends: Vec::new(),
        activity: Activity::new(shops.iter().map(|shop| shop.warehouses.clone()).collect()),
        notes: notes::read(conn, shop_of_disk_id).await?,
    };
    replay(&mut *conn, header, |shop, reader| {
        loaded.apply_record(shop, reader)
    })
    .await?;
    for shop in configured {
        loaded
            .recent_sends
            .push(recent_sends::read(conn, *shop).await?);
    }
    Ok(loaded)
}

impl LoadedStore {
    fn apply_record(&mut self, id: i64, reader: RecordReader<'_>) -> Result<(), MalformedRecord> {
        let position = usize::try_from(id - 1).ok();
        let Some(shop) =
            position.and_then(|position| self.shop_by_disk_id.get(position).copied().flatten())
        else {
            // The shop is not configured today: its checksums were right, that is all.
            return Ok(());
        };
        for row in reader {
            match row? {
                RecordRow::Stock(sku, level) => {
                    self.book.restore(shop, sku, level);
                }
                RecordRow::Acked(sku, acked) => self.set_acked(shop, sku.as_str(), acked),
                RecordRow::Full(sku, level, acked, activity) => {
                    let has_activity = activity != SkuActivity::default();
                    // Restoring takes the SKU away: its marks are for the few that have some.
                    let sku_copy = has_activity.then(|| sku.clone());
                    let id = self.book.restore(shop, sku, level);
                    if acked != Acked::default() {
                        self.acked[shop.index()].set(id, acked);
                    }
                    if let Some(sku) = sku_copy {
                        self.activity.restore(shop, &sku, Some(id), &activity);
                    }
                }
                RecordRow::Activity(sku, activity) => {
                    let id = self.book.get(shop, sku.as_str()).map(|entry| entry.id());
                    self.activity.restore(shop, &sku, id, &activity);
                }
                RecordRow::Quarantined(row) => self.quarantine.insert(id, row),
                RecordRow::Released(sku) => self.quarantine.remove(id, &sku),
                RecordRow::TargetChanged => {
                    self.acked[shop.index()].clear();
                    self.quarantine.remove_shop(id);
                }
            }
        }
        Ok(())
    }

    fn set_acked(&mut self, shop: ShopId, sku: &str, acked: Acked) {
        if let Some(entry) = self.book.get(shop, sku) {
            self.acked[shop.index()].set(entry.id(), acked);
        }
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic is done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

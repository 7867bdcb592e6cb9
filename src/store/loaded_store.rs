//! State of the configured shops in memory while a store is loaded, the same for every kind of store.

use stock::{Activity, Level, PerSku, ShopId, Sku, SkuActivity, StockBook};

use super::quarantine_table::QuarantineTable;
use super::record::{MalformedRecord, RecordReader, RecordRow};
use super::{AbsentShop, Acked, Notes, OpenedStore, RecentSend, ShopIdentity, Store};

/// Row of the table `shop`.
#[derive(Clone, Debug)]
pub(super) struct DiskShop {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) target: String,
}

impl DiskShop {
    pub(super) fn crc(&self) -> i64 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.id.to_le_bytes());
        // With the length, characters that move between name and target change the checksum.
        crc.update(&(self.name.len() as u64).to_le_bytes());
        crc.update(self.name.as_bytes());
        crc.update(self.target.as_bytes());
        crc.finalize().into()
    }
}

/// Numbers of the shops on disk.
pub(super) struct ShopTable {
    pub(super) configured: Vec<i64>,
    pub(super) absent: Vec<DiskShop>,
}

/// State of the configured shops in memory, while it is loaded.
pub(super) struct LoadedStore {
    /// Configured shop per number on disk, from 1.
    shop_by_disk_id: Vec<Option<ShopId>>,
    pub(super) book: StockBook,
    pub(super) acked: Vec<PerSku<Acked>>,
    pub(super) quarantine: QuarantineTable,
    pub(super) recent_sends: Vec<Vec<RecentSend>>,
    pub(super) activity: Activity,
    pub(super) notes: Notes,
}

/// Rows of a snapshot that are applied together. More would leave larger gaps in the heap.
const FULL_ROWS_AT_ONCE: usize = 256;

/// Rows of a snapshot that are not applied yet.
#[derive(Default)]
struct FullRows {
    levels: Vec<(Sku, Level)>,
    others: Vec<(Acked, SkuActivity)>,
}

impl LoadedStore {
    /// Creates empty shops with these numbers on disk and expected numbers of SKUs.
    pub(super) fn new(configured: &[(i64, usize)], shops: &[ShopIdentity], notes: Notes) -> Self {
        let largest = configured.iter().map(|(id, _)| *id).max().unwrap_or(0);
        let shop_of = |id| shop_of_disk_id(configured.iter().map(|(id, _)| *id), id);
        let book = StockBook::new(configured.iter().map(|(_, skus)| *skus));
        let warehouses = shops.iter().map(|shop| shop.warehouses.clone());
        Self {
            shop_by_disk_id: (1..=largest).map(shop_of).collect(),
            acked: configured.iter().map(|_| PerSku::default()).collect(),
            quarantine: QuarantineTable::default(),
            recent_sends: Vec::new(),
            activity: Activity::new(&book, warehouses.collect()),
            book,
            notes,
        }
    }

    /// Returns what the callers of the store get.
    pub(super) fn into_opened(
        self,
        store: Store,
        shop_table: &ShopTable,
        quarantine: &QuarantineTable,
    ) -> OpenedStore {
        let mut notes = self.notes;
        let to_absent = |shop: &DiskShop| AbsentShop {
            name: shop.name.clone(),
            notes: notes.take_orphans(shop.id),
        };
        let absent_shops = shop_table.absent.iter().map(to_absent).collect();
        let entries_of = |id: &i64| quarantine.entries(*id).cloned().collect();
        OpenedStore {
            store,
            book: self.book,
            acked: self.acked,
            quarantine: shop_table.configured.iter().map(entries_of).collect(),
            recent_sends: self.recent_sends,
            activity: self.activity,
            notes,
            absent_shops,
        }
    }

    /// Applies a record of the shop with the number `id`.
    pub(super) fn apply_record(
        &mut self,
        id: i64,
        reader: RecordReader<'_>,
    ) -> Result<(), MalformedRecord> {
        let position = usize::try_from(id - 1).ok();
        let Some(shop) =
            position.and_then(|position| self.shop_by_disk_id.get(position).copied().flatten())
        else {
            // The shop is not configured: its records are verified but not loaded.
            return Ok(());
        };
        let mut full = FullRows::default();
        for row in reader {
            match row? {
                RecordRow::Stock(sku, level) => {
                    self.book.restore(shop, &sku, level);
                }
                RecordRow::Acked(sku, acked) => self.set_acked(shop, sku.as_str(), acked),
                RecordRow::Full(sku, level, acked, activity) => {
                    full.levels.push((sku, level));
                    full.others.push((acked, activity));
                    if full.levels.len() == FULL_ROWS_AT_ONCE {
                        self.apply_full(shop, &mut full);
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
        self.apply_full(shop, &mut full);
        Ok(())
    }

    /// Applies rows together, which takes less time, and removes them from `full`.
    fn apply_full(&mut self, shop: ShopId, full: &mut FullRows) {
        let ids = self.book.restore_all(shop, &full.levels);
        let others = full.others.drain(..);
        for (((sku, _), id), (acked, activity)) in full.levels.iter().zip(ids).zip(others) {
            if acked != Acked::default() {
                self.acked[shop.index()].set(id, acked);
            }
            if activity != SkuActivity::default() {
                self.activity.restore(shop, sku, Some(id), &activity);
            }
        }
        full.levels.clear();
    }

    fn set_acked(&mut self, shop: ShopId, sku: &str, acked: Acked) {
        if let Some(entry) = self.book.get(shop, sku) {
            self.acked[shop.index()].set(entry.id(), acked);
        }
    }
}

/// Returns the configured shop with this number on disk; `configured` are the numbers of all.
pub(super) fn shop_of_disk_id(
    mut configured: impl Iterator<Item = i64>,
    id: i64,
) -> Option<ShopId> {
    let position = configured.position(|known| known == id)?;
    u16::try_from(position).ok().map(ShopId)
}

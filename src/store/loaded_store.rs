//! Start of the store: registration of the configured shops, and loading of their state.

use stock::{Activity, Level, PerSku, ShopId, Sku, SkuActivity, StockBook};

use super::error::StoreInternalError;
use super::quarantine_table::QuarantineTable;
use super::record::{MalformedRecord, RecordPacker, RecordReader, RecordRow};
use super::replay::{replay, snapshot_row_counts};
use super::store_connection::StoreConnection;
use super::store_write::{DiskShop, StoreWrite};
use super::{Acked, Notes, RecentSend, ShopIdentity, StoreError, notes, recent_sends};

/// Numbers of the shops on disk.
pub(super) struct ShopTable {
    pub(super) configured: Vec<i64>,
    pub(super) absent: Vec<DiskShop>,
}

/// Assigns numbers to new shops and records changed targets, in one transaction.
pub(super) async fn register_shops(
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

/// Reads the state of the configured shops from the database.
pub(super) async fn load(
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
    let book = StockBook::new(configured.iter().map(size_of_shop));
    let warehouses = shops.iter().map(|shop| shop.warehouses.clone());
    let mut loaded = LoadedStore {
        shop_by_disk_id: (1..=header.shops).map(shop_of_disk_id).collect(),
        activity: Activity::new(&book, warehouses.collect()),
        book,
        acked: configured.iter().map(|_| PerSku::default()).collect(),
        quarantine: QuarantineTable::default(),
        recent_sends: Vec::new(),
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

/// Rows of a snapshot that are applied together. More would leave larger gaps in the heap.
const FULL_ROWS_AT_ONCE: usize = 256;

/// Rows of a snapshot that are not applied yet.
#[derive(Default)]
struct FullRows {
    levels: Vec<(Sku, Level)>,
    others: Vec<(Acked, SkuActivity)>,
}

impl LoadedStore {
    fn apply_record(&mut self, id: i64, reader: RecordReader<'_>) -> Result<(), MalformedRecord> {
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

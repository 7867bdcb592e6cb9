//! Packing of changes and of whole shops into records, the same for every kind of store.

use stock::{Activity, ShopId, SkuId, StockBook};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::quarantine_table::QuarantineTable;
use super::record::{PackedRecord, RecordKind, RecordPacker};
use super::{Acked, StoreChange};

/// Size of a record in the log besides its body, in bytes. It is counted too, because a log may
/// consist of records with a single row.
pub(super) const RECORD_OVERHEAD: u64 = 20;

impl StoreChange<'_> {
    /// Returns the shop of the change.
    pub(super) fn shop(&self) -> ShopId {
        match self {
            Self::Stock { shop, .. }
            | Self::Acked { shop, .. }
            | Self::Activity { shop, .. }
            | Self::Quarantined { shop, .. }
            | Self::Released { shop, .. } => *shop,
        }
    }

    /// Packs the rows of the change; without rows, into none.
    pub(super) fn pack(&self) -> Vec<PackedRecord> {
        let packer = match *self {
            Self::Stock { rows, .. } => {
                let mut packer = RecordPacker::new(RecordKind::Stock);
                rows.iter()
                    .for_each(|(sku, level)| packer.push_stock(sku, *level));
                packer
            }
            Self::Acked { rows, .. } => {
                let mut packer = RecordPacker::new(RecordKind::Acked);
                rows.iter()
                    .for_each(|(sku, acked)| packer.push_acked(sku, *acked));
                packer
            }
            Self::Activity { rows, .. } => {
                let mut packer = RecordPacker::new(RecordKind::Activity);
                rows.iter()
                    .for_each(|(sku, activity)| packer.push_activity(sku, activity));
                packer
            }
            Self::Quarantined { row, .. } => {
                let mut packer = RecordPacker::new(RecordKind::Quarantined);
                packer.push_quarantined(row);
                packer
            }
            Self::Released { sku, .. } => {
                let mut packer = RecordPacker::new(RecordKind::Released);
                packer.push_released(sku);
                packer
            }
        };
        packer.finish()
    }

    /// Applies the change to the quarantine, where the shop has the number `disk_id`.
    pub(super) fn update_quarantine(&self, quarantine: &mut QuarantineTable, disk_id: i64) {
        match *self {
            Self::Stock { .. } | Self::Acked { .. } | Self::Activity { .. } => {}
            Self::Quarantined { row, .. } => quarantine.insert(disk_id, row.clone()),
            Self::Released { sku, .. } => quarantine.remove(disk_id, sku),
        }
    }
}

/// Packs the stock, acknowledgements and activity of a shop for a snapshot.
///
/// On a runtime with several threads it does not block other tasks.
pub(super) fn pack_shop(
    book: &StockBook,
    shop: ShopId,
    acked: impl Fn(SkuId) -> Acked,
    activity: &Activity,
) -> Vec<PackedRecord> {
    run_blocking_in_place(|| {
        // The unknown SKUs come first. If one of them is in the book by now, the call moves its
        // history to its entry in the book, and the entries are packed afterwards.
        let mut unknown = RecordPacker::new(RecordKind::Activity);
        activity.for_each_unknown(shop, |sku, sku_activity| {
            unknown.push_activity(sku, sku_activity);
        });
        let mut packer = RecordPacker::new(RecordKind::Full);
        book.for_each(shop, |sku, entry| {
            let id = entry.id();
            packer.push_full(sku, entry.level(), acked(id), &activity.get(shop, id));
        });
        let mut packed = packer.finish();
        packed.extend(unknown.finish());
        packed
    })
}

/// Packs the quarantine of the shop with this number on disk for a snapshot.
pub(super) fn pack_quarantine(quarantine: &QuarantineTable, disk_id: i64) -> Vec<PackedRecord> {
    let mut packer = RecordPacker::new(RecordKind::Quarantined);
    for row in quarantine.entries(disk_id) {
        packer.push_quarantined(row);
    }
    packer.finish()
}

/// Runs a computation of tens of milliseconds without delaying the runtime's other tasks, if the
/// runtime has several threads.
fn run_blocking_in_place<T>(computation: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(computation),
        Ok(_) | Err(_) => computation(),
    }
}

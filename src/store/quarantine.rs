use std::collections::BTreeMap;

use super::Quarantined;
use crate::stock::Sku;

/// Who is under quarantine, by the shops' numbers on disk.
///
/// Kept in memory too, few as they are, because nobody else can tell a compaction.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    shops: BTreeMap<i64, BTreeMap<Sku, Quarantined>>,
}

impl Quarantine {
    pub(super) fn put(&mut self, shop: i64, row: Quarantined) {
        self.shops
            .entry(shop)
            .or_default()
            .insert(row.sku.clone(), row);
    }

    pub(super) fn release(&mut self, shop: i64, sku: &Sku) {
        if let Some(rows) = self.shops.get_mut(&shop) {
            rows.remove(sku);
        }
    }

    pub(super) fn forget(&mut self, shop: i64) {
        self.shops.remove(&shop);
    }

    /// A shop's, ordered by SKU.
    pub(super) fn of(&self, shop: i64) -> impl Iterator<Item = &Quarantined> {
        self.shops.get(&shop).into_iter().flat_map(BTreeMap::values)
    }
}

use std::collections::BTreeMap;

use stock::Sku;

use super::QuarantineEntry;

/// Quarantined SKUs, by the shops' numbers on disk.
///
/// The store keeps this copy in memory, because a compaction has no other source for the entries.
#[derive(Clone, Debug, Default)]
pub(super) struct QuarantineTable {
    shops: BTreeMap<i64, BTreeMap<Sku, QuarantineEntry>>,
}

impl QuarantineTable {
    pub(super) fn insert(&mut self, shop: i64, row: QuarantineEntry) {
        self.shops
            .entry(shop)
            .or_default()
            .insert(row.sku.clone(), row);
    }

    pub(super) fn remove(&mut self, shop: i64, sku: &Sku) {
        if let Some(rows) = self.shops.get_mut(&shop) {
            rows.remove(sku);
        }
    }

    pub(super) fn remove_shop(&mut self, shop: i64) {
        self.shops.remove(&shop);
    }

    /// Returns the entries of a shop, ordered by SKU.
    pub(super) fn entries(&self, shop: i64) -> impl Iterator<Item = &QuarantineEntry> {
        self.shops.get(&shop).into_iter().flat_map(BTreeMap::values)
    }
}

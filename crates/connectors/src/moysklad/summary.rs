//! Counts and notices of one reading.

use stock_import::DeliveryEntry;

/// Counts and notices of one reading.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct MoySkladSummary {
    /// Products with a SKU.
    pub(super) products: usize,
    /// Products without a SKU, and archived products whose SKU a product in use has.
    pub(super) without_sku: usize,
    /// Stock rows with a quantity.
    pub(super) rows: usize,
    /// Ignored rows: of products without a SKU, or without a store.
    pub(super) ignored_rows: usize,
    /// Products and rows that are rejected or suspicious.
    pub(super) rejected: usize,
    /// Products in use that the report has no quantity for. They keep their stock.
    pub(super) unreported: usize,
    /// Notices for the operator.
    pub(super) notices: Vec<String>,
}

impl MoySkladSummary {
    pub(super) fn count(&mut self, entry: &DeliveryEntry) {
        match entry {
            DeliveryEntry::Row(row) if row.quantity.is_none() => self.unreported += 1,
            DeliveryEntry::Row(_) => self.rows += 1,
            DeliveryEntry::Article { .. } => self.products += 1,
            DeliveryEntry::Rejected(_) | DeliveryEntry::Suspicious(_) => self.rejected += 1,
            DeliveryEntry::PartBoundary => {}
        }
    }
}

pub(super) fn kits_notice(kits: usize) -> Option<String> {
    (kits > 0).then(|| {
        format!(
            "{kits} kits have a SKU, but the report of moysklad contains no stock of kits: they keep \
             their stock"
        )
    })
}

pub(super) fn missing_notice(missing: usize) -> Option<String> {
    (missing > 0).then(|| {
        format!(
            "{missing} products of the assortment are missing from the report of moysklad, which \
             leaves out products that are being recalculated or were never in an operation: they \
             keep their stock"
        )
    })
}

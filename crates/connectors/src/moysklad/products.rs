//! Products of the assortment that a report leaves out, and stock of products without a SKU.
//!
//! Pure. A product that is missing from the report is not sold out: the report leaves out products
//! that are being recalculated or were never in an operation. A product whose variants hold stock
//! without a SKU is suspicious.

use std::collections::{HashMap, HashSet};

use stock_import::Quantity;
use stock_import::{DeliveryEntry, ProductKey, RejectedRow, Row};

use super::SkuField;

/// Kind of a row of the assortment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProductKind {
    /// A product, or an unknown kind.
    Product,
    /// A variant of a product.
    Variant,
    /// A kit of products. The report contains no stock of kits.
    Kit,
    /// A batch of a product or variant.
    Batch,
    /// A service, which has no stock.
    Service,
}

impl ProductKind {
    /// Returns the kind with this wire name.
    pub(super) fn from_wire(name: Option<&str>) -> Self {
        match name {
            Some("variant") => Self::Variant,
            Some("bundle") => Self::Kit,
            Some("consignment") => Self::Batch,
            Some("service") => Self::Service,
            Some(_) | None => Self::Product,
        }
    }

    fn has_stock(self) -> bool {
        match self {
            Self::Product | Self::Variant | Self::Batch => true,
            Self::Kit | Self::Service => false,
        }
    }
}

/// Product with a SKU.
#[derive(Clone, Debug)]
struct SkuProduct {
    sku: String,
    /// Number in the assortment, from 1.
    line: u64,
    /// `None` if it is archived.
    kind: Option<ProductKind>,
    /// Stores with a quantity in the report, as bits.
    reported_stores: u128,
}

/// Products with a SKU, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct SkuProducts {
    by_id: HashMap<String, SkuProduct>,
    /// All stores with a quantity in the report.
    reported_stores: u128,
}

/// Products that a report leaves out.
#[derive(Debug, Default)]
pub(super) struct MissingProducts {
    /// Ids of products in use that may have stock.
    pub(super) ids: Vec<String>,
    /// Number of kits with a SKU.
    pub(super) kits: usize,
}

impl SkuProducts {
    /// Adds a product; `kind` is `None` for an archived one.
    pub(super) fn add(&mut self, id: &str, sku: &str, line: u64, kind: Option<ProductKind>) {
        let product = SkuProduct {
            sku: sku.to_owned(),
            line,
            kind,
            reported_stores: 0,
        };
        self.by_id.insert(id.to_owned(), product);
    }

    /// Returns the SKU of an id.
    pub(super) fn sku(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|product| product.sku.as_str())
    }

    /// Records that the report has a quantity of a product at a store.
    pub(super) fn mark_reported(&mut self, id: &str, store: u128) {
        self.reported_stores |= store;
        if let Some(product) = self.by_id.get_mut(id) {
            product.reported_stores |= store;
        }
    }

    /// Marks these products as not reported, because the response about them was incomplete.
    pub(super) fn unmark(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(product) = self.by_id.get_mut(id) {
                product.reported_stores = 0;
            }
        }
    }

    /// True if the report has a quantity of any product.
    pub(super) fn has_reported_stock(&self) -> bool {
        self.reported_stores != 0
    }

    /// Returns the products in use that the report leaves out.
    pub(super) fn missing(&self) -> MissingProducts {
        let mut missing = MissingProducts::default();
        for (id, product) in &self.by_id {
            match product.kind {
                Some(ProductKind::Kit) => missing.kits += 1,
                Some(kind) if kind.has_stock() && product.reported_stores == 0 => {
                    missing.ids.push(id.clone());
                }
                Some(_) | None => {}
            }
        }
        missing.ids.sort();
        missing
    }

    /// Returns the products with these ids, marked as not reported.
    pub(super) fn select(mut self, ids: &[String]) -> Self {
        let by_id = ids
            .iter()
            .filter_map(|id| self.by_id.remove_entry(id))
            .collect();
        Self {
            by_id,
            reported_stores: 0,
        }
    }

    /// Returns the products that were not reported.
    pub(super) fn into_missing(mut self) -> Self {
        self.by_id.retain(|_, product| product.reported_stores == 0);
        Self {
            reported_stores: 0,
            ..self
        }
    }

    /// Returns the ids, sorted.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.by_id.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Returns a row without a quantity for each product in use that the report does not list at
    /// every store. Without this row, a snapshot would treat the product as absent. `stores` are
    /// the named stores.
    pub(super) fn unreported_entries<'a>(
        &'a self,
        stores: &'a [String],
    ) -> impl Iterator<Item = DeliveryEntry> + 'a {
        self.by_id
            .iter()
            .filter(|(_, product)| product.kind.is_some())
            .filter_map(|(id, product)| {
                let unreported = if product.reported_stores == 0 {
                    !0
                } else {
                    self.reported_stores & !product.reported_stores
                };
                if unreported == 0 {
                    return None;
                }
                let missing_store = stores
                    .iter()
                    .zip(0..)
                    .find(|(_, index)| unreported & super::parse::store_bit(*index) != 0);
                let (key, warehouse) = (
                    ProductKey::Id(id.clone()),
                    missing_store.map(|(store, _)| store.clone()),
                );
                let line = product.line;
                Some(DeliveryEntry::Row(Row {
                    line,
                    key,
                    warehouse,
                    quantity: None,
                    reserve: None,
                    stated_at: None,
                }))
            })
    }
}

/// Row of the assortment in use without a SKU.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ProductWithoutSku {
    /// Id and SKU of the product that it is a part of, if that has a SKU.
    pub(super) parent: Option<(String, String)>,
    pub(super) kind: ProductKind,
}

/// Rows of the assortment without a SKU.
#[derive(Debug, Default)]
pub(super) struct ProductsWithoutSku {
    /// Ids whose stock is ignored.
    pub(super) ids: HashSet<String>,
    /// Rows in use, by id.
    pub(super) in_use: HashMap<String, ProductWithoutSku>,
}

impl ProductsWithoutSku {
    /// True if a product with a SKU has parts without one.
    pub(super) fn has_parents(&self) -> bool {
        self.in_use.values().any(|product| product.parent.is_some())
    }
}

/// Number of parts of each kind, and their total stock.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct ProductTotals {
    variants: usize,
    kits: usize,
    batches: usize,
    products: usize,
    thousandths: i64,
}

impl ProductTotals {
    /// Adds stock. A `kind` also counts one more part.
    fn add(&mut self, kind: Option<ProductKind>, quantity: Quantity) {
        match kind {
            Some(ProductKind::Variant) => self.variants += 1,
            Some(ProductKind::Kit) => self.kits += 1,
            Some(ProductKind::Batch) => self.batches += 1,
            Some(ProductKind::Product | ProductKind::Service) => self.products += 1,
            None => {}
        }
        self.thousandths = self.thousandths.saturating_add(quantity.thousandths());
    }

    fn describe(&self) -> String {
        let named = [
            (self.variants, "variant", "variants"),
            (self.kits, "kit", "kits"),
            (self.batches, "batch", "batches"),
            (self.products, "product", "products"),
        ];
        let words =
            named
                .iter()
                .filter(|(count, _, _)| *count > 0)
                .map(|(count, singular, plural)| {
                    format!("{count} {}", if *count == 1 { singular } else { plural })
                });
        words.collect::<Vec<_>>().join(" and ")
    }

    fn is_single(&self) -> bool {
        self.variants + self.kits + self.batches + self.products == 1
    }

    fn total_pieces(&self) -> String {
        Quantity::from_thousandths(self.thousandths).map_or_else(
            || (self.thousandths / 1_000).to_string(),
            |quantity| quantity.to_string(),
        )
    }
}

/// Product with a SKU whose parts without a SKU hold stock.
#[derive(Clone, Debug)]
pub(super) struct ParentProduct {
    sku: String,
    field: SkuField,
    totals: ProductTotals,
}

impl ParentProduct {
    /// True if the stock of the parts makes the product's own row suspicious.
    ///
    /// Variants have separate stock, so the product's quantity is not that of the SKU. A batch is
    /// part of the product's stock, so only a zero is suspicious.
    pub(super) fn makes_suspicious(&self, entry: &DeliveryEntry) -> bool {
        match entry {
            DeliveryEntry::Row(row) => {
                let is_positive = row
                    .quantity
                    .is_some_and(|quantity| quantity > Quantity::ZERO);
                self.totals.variants > 0 || !is_positive
            }
            DeliveryEntry::Article { .. }
            | DeliveryEntry::PartBoundary
            | DeliveryEntry::Rejected(_)
            | DeliveryEntry::Suspicious(_) => false,
        }
    }

    /// Returns the suspicious entry that replaces the product's own row.
    pub(super) fn suspicious_entry(&self, line: u64) -> DeliveryEntry {
        let (field, products) = (self.field.name(), self.totals.describe());
        let (sku, pieces) = (&self.sku, self.totals.total_pieces());
        let (have, their, hold) = if self.totals.is_single() {
            ("has", "its", "holds")
        } else {
            ("have", "their", "hold")
        };
        let reason = format!(
            "{products} of sku '{sku}' {have} no {field} of {their} own but {hold} {pieces} pieces: \
             give each its own {field}, or set sku to the field that contains the SKU of the \
             Market, such as code"
        );
        let rejected_row = RejectedRow::new(line, &self.sku, reason);
        DeliveryEntry::Suspicious(RejectedRow {
            sku: Some(self.sku.clone()),
            ..rejected_row
        })
    }
}

/// Stock of products, variants, kits and batches without a SKU.
#[derive(Clone, Debug, Default)]
pub(super) struct StockWithoutSku {
    field: SkuField,
    counted_ids: HashSet<String>,
    by_parent: HashMap<String, ParentProduct>,
    totals: ProductTotals,
}

impl StockWithoutSku {
    pub(super) fn new(field: SkuField) -> Self {
        Self {
            field,
            ..Self::default()
        }
    }

    /// Adds the stock of a part at a store.
    pub(super) fn add(&mut self, id: &str, product: &ProductWithoutSku, quantity: Quantity) {
        let kind = self
            .counted_ids
            .insert(id.to_owned())
            .then_some(product.kind);
        self.totals.add(kind, quantity);
        if let Some((id, sku)) = &product.parent {
            let field = self.field;
            let parent = self
                .by_parent
                .entry(id.clone())
                .or_insert_with(|| ParentProduct {
                    sku: sku.clone(),
                    field,
                    totals: ProductTotals::default(),
                });
            parent.totals.add(kind, quantity);
        }
    }

    /// Adds the parent products that only a later report revealed.
    pub(super) fn merge(&mut self, other: Self) {
        for (id, parent) in other.by_parent {
            self.by_parent.entry(id).or_insert(parent);
        }
    }

    /// Returns the product with this id if its parts without a SKU hold stock.
    pub(super) fn parent(&self, id: &str) -> Option<&ParentProduct> {
        self.by_parent.get(id)
    }

    /// Returns the suspicious entries of products without a row in the report.
    pub(super) fn entries_without_row<'a>(
        &'a self,
        products: &'a SkuProducts,
    ) -> impl Iterator<Item = DeliveryEntry> + 'a {
        self.by_parent.iter().filter_map(|(id, parent)| {
            let product = products
                .by_id
                .get(id)
                .filter(|product| product.reported_stores == 0)?;
            Some(parent.suspicious_entry(product.line))
        })
    }

    /// Returns a notice for the operator if there is such stock.
    pub(super) fn notice(&self) -> Option<String> {
        (self.totals != ProductTotals::default()).then(|| {
            format!(
                "{} without {} {} {} pieces, which are not offered: fill in the field, or set sku to \
                 another field",
                self.totals.describe(),
                self.field.name(),
                if self.totals.is_single() { "holds" } else { "hold" },
                self.totals.total_pieces()
            )
        })
    }
}

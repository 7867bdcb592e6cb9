//! Which products a report has not spoken of, and what hides behind them.
//!
//! Pure. A product that is in the assortment and not in the report is not sold out: the report
//! leaves out what is being recalculated, and what was never in an operation.

use std::collections::{HashMap, HashSet};

use super::SkuField;
use crate::sources::Quantity;
use crate::sources::row::{DeliveryEntry, ProductKey, RejectedRow, Row};

/// What a row of the assortment is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProductKind {
    /// A product, or what is not known here.
    Product,
    /// A variant of a product.
    Variant,
    /// A kit of products. The report states no stock of it.
    Kit,
    /// A batch of a product or variant.
    Batch,
    /// A service, of which there is no stock.
    Service,
}

impl ProductKind {
    /// The one of that name on the wire.
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

/// A product whose stock is put under a SKU.
#[derive(Clone, Debug)]
struct SkuProduct {
    sku: String,
    /// Its number in the assortment.
    line: u64,
    /// `None` if it is archived.
    kind: Option<ProductKind>,
    /// The stores of which the report states a number, as bits.
    reported_stores: u128,
}

/// The products of the assortment that have a SKU, by their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct SkuProducts {
    by_id: HashMap<String, SkuProduct>,
    /// All stores of which the report states a number.
    reported_stores: u128,
}

/// What a report has not stated.
#[derive(Debug, Default)]
pub(super) struct MissingProducts {
    /// Ids of products in use of which it states nothing, although they may have stock.
    pub(super) ids: Vec<String>,
    /// Kits with a SKU.
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

    /// The SKU of an id.
    pub(super) fn sku(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|product| product.sku.as_str())
    }

    /// Notes that a product has a number at a store.
    pub(super) fn mark_reported(&mut self, id: &str, store: u128) {
        self.reported_stores |= store;
        if let Some(product) = self.by_id.get_mut(id) {
            product.reported_stores |= store;
        }
    }

    /// Takes back what was noted of these products: the response about them was not read to its end.
    pub(super) fn unmark(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(product) = self.by_id.get_mut(id) {
                product.reported_stores = 0;
            }
        }
    }

    /// Whether the report states a number of any product.
    pub(super) fn has_reported_stock(&self) -> bool {
        self.reported_stores != 0
    }

    /// Products in use that the report states nothing of.
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

    /// The products of these ids.
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

    /// The products without those of which a number was noted.
    pub(super) fn into_missing(mut self) -> Self {
        self.by_id.retain(|_, product| product.reported_stores == 0);
        Self {
            reported_stores: 0,
            ..self
        }
    }

    /// Their ids.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.by_id.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Rows without a number: each product in use that has none at some store of the report. In a
    /// snapshot they are there, and not absent. `stores` are the named ones.
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

/// A thing without a SKU.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ProductWithoutSku {
    /// The id and SKU of the product that it is a part of, if that has one.
    pub(super) parent: Option<(String, String)>,
    pub(super) kind: ProductKind,
}

/// What has no SKU.
#[derive(Debug, Default)]
pub(super) struct ProductsWithoutSku {
    /// Ids whose stock belongs to no SKU.
    pub(super) ids: HashSet<String>,
    /// Those of them that are in use, and what they are.
    pub(super) in_use: HashMap<String, ProductWithoutSku>,
}

impl ProductsWithoutSku {
    /// Whether some product with a SKU has parts without one.
    pub(super) fn has_parents(&self) -> bool {
        self.in_use.values().any(|product| product.parent.is_some())
    }
}

/// How many things hold how much.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct ProductTotals {
    variants: usize,
    kits: usize,
    batches: usize,
    products: usize,
    thousandths: i64,
}

impl ProductTotals {
    /// Adds stock, of one thing more if a kind is given.
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

/// A product whose parts without a SKU hold stock.
#[derive(Clone, Debug)]
pub(super) struct ParentProduct {
    sku: String,
    field: SkuField,
    totals: ProductTotals,
}

impl ParentProduct {
    /// Whether what is hidden makes the product's own row suspicious.
    ///
    /// Variants have stock of their own, so the product's number is not that of the SKU. A batch is
    /// a part of what its product has, so only a zero is not to be believed.
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

    /// The row that is listed instead of the product's own.
    pub(super) fn suspicious_entry(&self, line: u64) -> DeliveryEntry {
        let (field, products) = (self.field.name(), self.totals.describe());
        let reason = format!(
            "{products} of sku '{}' {} no {field} of {} own and {} {} pieces: give each its {field}, \
             or set sku to the field by which the Market knows them, such as code",
            self.sku,
            if self.totals.is_single() {
                "has"
            } else {
                "have"
            },
            if self.totals.is_single() {
                "its"
            } else {
                "their"
            },
            if self.totals.is_single() {
                "holds"
            } else {
                "hold"
            },
            self.totals.total_pieces()
        );
        let rejected_row = RejectedRow::new(line, &self.sku, reason);
        DeliveryEntry::Suspicious(RejectedRow {
            sku: Some(self.sku.clone()),
            ..rejected_row
        })
    }
}

/// Stock of things without a SKU.
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

    /// Adds what a part holds at a store.
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

    /// Adds the products of which only a later report tells that something hides behind them.
    pub(super) fn merge(&mut self, other: Self) {
        for (id, parent) in other.by_parent {
            self.by_parent.entry(id).or_insert(parent);
        }
    }

    /// What hides behind a product.
    pub(super) fn parent(&self, id: &str) -> Option<&ParentProduct> {
        self.by_parent.get(id)
    }

    /// The suspicious products of which the report has no row of their own.
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

    /// What the operator should know of it.
    pub(super) fn notice(&self) -> Option<String> {
        (self.totals != ProductTotals::default()).then(|| {
            format!(
                "{} without {} {} {} pieces, which are not offered: fill the field in, or set sku to \
                 another one",
                self.totals.describe(),
                self.field.name(),
                if self.totals.is_single() { "holds" } else { "hold" },
                self.totals.total_pieces()
            )
        })
    }
}

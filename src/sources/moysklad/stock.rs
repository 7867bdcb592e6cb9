//! Which products a report has not spoken of, and what hides behind them.
//!
//! Pure. A product that is in the assortment and not in the report is not sold out: the report
//! leaves out what is being recalculated, and what was never in an operation.

use std::collections::{HashMap, HashSet};

use super::SkuField;
use crate::sources::Quantity;
use crate::sources::row::{Entry, Fault, Key, Row};

/// What a row of the assortment is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PartKind {
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

impl PartKind {
    /// The one of that name on the wire.
    pub(super) fn of(name: Option<&str>) -> Self {
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
struct Article {
    sku: String,
    /// Its number in the assortment.
    line: u64,
    /// `None` if it is archived.
    kind: Option<PartKind>,
    /// The stores of which the report states a number, as bits.
    stated: u128,
}

/// The products of the assortment that have a SKU, by their ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Articles {
    by_id: HashMap<String, Article>,
    /// All stores of which the report states a number.
    stated: u128,
}

/// What a report has not stated.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Ids of products in use of which it states nothing, although they may have stock.
    pub(super) ids: Vec<String>,
    /// Kits with a SKU.
    pub(super) kits: usize,
}

impl Articles {
    /// Adds a product; `kind` is `None` for an archived one.
    pub(super) fn add(&mut self, id: &str, sku: &str, line: u64, kind: Option<PartKind>) {
        let article = Article {
            sku: sku.to_owned(),
            line,
            kind,
            stated: 0,
        };
        self.by_id.insert(id.to_owned(), article);
    }

    /// The SKU of an id.
    pub(super) fn sku(&self, id: &str) -> Option<&str> {
        self.by_id.get(id).map(|article| article.sku.as_str())
    }

    /// Notes that a product has a number at a store.
    pub(super) fn note(&mut self, id: &str, store: u128) {
        self.stated |= store;
        if let Some(article) = self.by_id.get_mut(id) {
            article.stated |= store;
        }
    }

    /// Takes back what was noted of these products: the response about them was not read to its end.
    pub(super) fn forget(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(article) = self.by_id.get_mut(id) {
                article.stated = 0;
            }
        }
    }

    /// Whether the report states a number of any product.
    pub(super) fn has_numbers(&self) -> bool {
        self.stated != 0
    }

    /// Products in use that the report states nothing of.
    pub(super) fn missing(&self) -> Missing {
        let mut missing = Missing::default();
        for (id, article) in &self.by_id {
            match article.kind {
                Some(PartKind::Kit) => missing.kits += 1,
                Some(kind) if kind.has_stock() && article.stated == 0 => {
                    missing.ids.push(id.clone());
                }
                Some(_) | None => {}
            }
        }
        missing.ids.sort();
        missing
    }

    /// The products of these ids.
    pub(super) fn only(mut self, ids: &[String]) -> Self {
        let by_id = ids
            .iter()
            .filter_map(|id| self.by_id.remove_entry(id))
            .collect();
        Self { by_id, stated: 0 }
    }

    /// The products without those of which a number was noted.
    pub(super) fn still_missing(mut self) -> Self {
        self.by_id.retain(|_, article| article.stated == 0);
        Self { stated: 0, ..self }
    }

    /// Their ids.
    pub(super) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.by_id.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Rows without a number: each product in use that has none at some store of the report. In a
    /// snapshot they are there, and not absent. `stores` are the named ones.
    pub(super) fn unstated<'a>(&'a self, stores: &'a [String]) -> impl Iterator<Item = Entry> + 'a {
        self.by_id
            .iter()
            .filter(|(_, article)| article.kind.is_some())
            .filter_map(|(id, article)| {
                let lacking = if article.stated == 0 {
                    !0
                } else {
                    self.stated & !article.stated
                };
                if lacking == 0 {
                    return None;
                }
                let place = stores
                    .iter()
                    .zip(0..)
                    .find(|(_, at)| lacking & super::read::store_bit(*at) != 0);
                let (key, place) = (Key::Id(id.clone()), place.map(|(store, _)| store.clone()));
                let line = article.line;
                Some(Entry::Row(Row {
                    line,
                    key,
                    place,
                    quantity: None,
                    reserve: None,
                    at: None,
                }))
            })
    }
}

/// A thing without a SKU.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Part {
    /// The id and SKU of the product that it is a part of, if that has one.
    pub(super) whole: Option<(String, String)>,
    pub(super) kind: PartKind,
}

/// What has no SKU.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Ids whose stock belongs to no SKU.
    pub(super) nameless: HashSet<String>,
    /// Those of them that are in use, and what they are.
    pub(super) parts: HashMap<String, Part>,
}

impl Parts {
    /// Whether some product with a SKU has parts without one.
    pub(super) fn has_wholes(&self) -> bool {
        self.parts.values().any(|part| part.whole.is_some())
    }
}

/// How many things hold how much.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Count {
    variants: usize,
    kits: usize,
    batches: usize,
    products: usize,
    thousandths: i64,
}

impl Count {
    /// Adds stock, of one thing more if a kind is given.
    fn add(&mut self, kind: Option<PartKind>, quantity: Quantity) {
        match kind {
            Some(PartKind::Variant) => self.variants += 1,
            Some(PartKind::Kit) => self.kits += 1,
            Some(PartKind::Batch) => self.batches += 1,
            Some(PartKind::Product | PartKind::Service) => self.products += 1,
            None => {}
        }
        self.thousandths = self.thousandths.saturating_add(quantity.thousandths());
    }

    fn things(&self) -> String {
        let named = [
            (self.variants, "variant", "variants"),
            (self.kits, "kit", "kits"),
            (self.batches, "batch", "batches"),
            (self.products, "product", "products"),
        ];
        let words = named
            .iter()
            .filter(|(count, _, _)| *count > 0)
            .map(|(count, one, several)| {
                format!("{count} {}", if *count == 1 { one } else { several })
            });
        words.collect::<Vec<_>>().join(" and ")
    }

    fn is_one(&self) -> bool {
        self.variants + self.kits + self.batches + self.products == 1
    }

    fn pieces(&self) -> String {
        Quantity::from_thousandths(self.thousandths).map_or_else(
            || (self.thousandths / 1_000).to_string(),
            |quantity| quantity.to_string(),
        )
    }
}

/// A product whose parts without a SKU hold stock.
#[derive(Clone, Debug)]
pub(super) struct Hidden {
    sku: String,
    field: SkuField,
    count: Count,
}

impl Hidden {
    /// Whether what is hidden makes the product's own row suspicious.
    ///
    /// Variants have stock of their own, so the product's number is not that of the SKU. A batch is
    /// a part of what its product has, so only a zero is not to be believed.
    pub(super) fn spoils(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Row(row) => {
                let has_some = row
                    .quantity
                    .is_some_and(|quantity| quantity > Quantity::ZERO);
                self.count.variants > 0 || !has_some
            }
            Entry::Article { .. } | Entry::NextPart | Entry::Rejected(_) | Entry::Suspicious(_) => {
                false
            }
        }
    }

    /// The row that is listed instead of the product's own.
    pub(super) fn entry(&self, line: u64) -> Entry {
        let (field, things) = (self.field.name(), self.count.things());
        let reason = format!(
            "{things} of sku '{}' {} no {field} of {} own and {} {} pieces: give each its {field}, \
             or set sku to the field by which the Market knows them, such as code",
            self.sku,
            if self.count.is_one() { "has" } else { "have" },
            if self.count.is_one() { "its" } else { "their" },
            if self.count.is_one() { "holds" } else { "hold" },
            self.count.pieces()
        );
        let fault = Fault::new(line, &self.sku, reason);
        Entry::Suspicious(Fault {
            sku: Some(self.sku.clone()),
            ..fault
        })
    }
}

/// Stock of things without a SKU.
#[derive(Clone, Debug, Default)]
pub(super) struct HiddenStock {
    field: SkuField,
    ids: HashSet<String>,
    by_product: HashMap<String, Hidden>,
    all: Count,
}

impl HiddenStock {
    pub(super) fn of_field(field: SkuField) -> Self {
        Self {
            field,
            ..Self::default()
        }
    }

    /// Adds what a part holds at a store.
    pub(super) fn add(&mut self, id: &str, part: &Part, quantity: Quantity) {
        let kind = self.ids.insert(id.to_owned()).then_some(part.kind);
        self.all.add(kind, quantity);
        if let Some((id, sku)) = &part.whole {
            let field = self.field;
            let hidden = self.by_product.entry(id.clone()).or_insert_with(|| Hidden {
                sku: sku.clone(),
                field,
                count: Count::default(),
            });
            hidden.count.add(kind, quantity);
        }
    }

    /// Adds the products of which only a later report tells that something hides behind them.
    pub(super) fn merge(&mut self, later: Self) {
        for (id, hidden) in later.by_product {
            self.by_product.entry(id).or_insert(hidden);
        }
    }

    /// What hides behind a product.
    pub(super) fn get(&self, id: &str) -> Option<&Hidden> {
        self.by_product.get(id)
    }

    /// The suspicious products of which the report has no row of their own.
    pub(super) fn without_row<'a>(
        &'a self,
        articles: &'a Articles,
    ) -> impl Iterator<Item = Entry> + 'a {
        self.by_product.iter().filter_map(|(id, hidden)| {
            let article = articles
                .by_id
                .get(id)
                .filter(|article| article.stated == 0)?;
            Some(hidden.entry(article.line))
        })
    }

    /// What the operator should know of it.
    pub(super) fn notice(&self) -> Option<String> {
        (self.all != Count::default()).then(|| {
            format!(
                "{} without {} {} {} pieces, which are not offered: fill the field in, or set sku to \
                 another one",
                self.all.things(),
                self.field.name(),
                if self.all.is_one() { "holds" } else { "hold" },
                self.all.pieces()
            )
        })
    }
}

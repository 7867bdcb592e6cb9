//! What the service answers, read: pages of the assortment, and reports about stock.
//!
//! Pure: bytes in, entries out. A bad row is set aside and spoils no other.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::products::{
    ProductKind, ProductWithoutSku, ProductsWithoutSku, SkuProducts, StockWithoutSku,
};
use super::{MoySkladError, PAGE_SIZE, SkuField, StockType, StoreSelection};
use crate::http::json::{JsonText, StrictObject, expand_exponent};
use crate::sources::quantity::DecimalMark;
use crate::sources::row::{
    DeliveryCancelled, DeliveryEntry, ProductKey, ReadSettings, RejectedRow, Row, RowProblem,
};

#[derive(Deserialize)]
struct WireAssortmentPage {
    meta: StrictObject<WireListMeta>,
    rows: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireListMeta {
    #[serde(default)]
    size: Option<usize>,
}

#[derive(Deserialize)]
struct WireProduct<'a> {
    #[serde(borrow, default)]
    meta: Option<WireMeta<'a>>,
    #[serde(borrow, default)]
    id: Option<JsonText<'a>>,
    #[serde(default)]
    archived: bool,
    /// The product of a variant.
    #[serde(borrow, default)]
    product: Option<WireLink<'a>>,
    /// The product or variant of a batch.
    #[serde(borrow, default)]
    assortment: Option<WireLink<'a>>,
    #[serde(borrow, default)]
    article: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "externalCode")]
    external_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireLink<'a> {
    #[serde(borrow, default)]
    meta: Option<WireMeta<'a>>,
}

#[derive(Deserialize)]
struct WireMeta<'a> {
    #[serde(borrow, default)]
    href: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<JsonText<'a>>,
}

impl WireMeta<'_> {
    /// The last segments of the address: the kind of thing and its id.
    fn segments(&self) -> (Option<&str>, Option<&str>) {
        let href = self
            .href
            .as_ref()
            .map_or("", |JsonText(href)| href.as_ref());
        let path = href.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
        let id = segments.next();
        (segments.next(), id)
    }
}

/// One product of the assortment.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct MoySkladProduct {
    id: String,
    /// `None` if the field is empty.
    sku: Option<String>,
    /// Why the SKU cannot be taken.
    problem: Option<RowProblem>,
    is_archived: bool,
    kind: ProductKind,
    /// The product of a variant, or what a batch is of.
    parent: Option<String>,
}

/// A page of the assortment.
#[derive(Debug)]
pub(super) struct AssortmentPage {
    /// How many products the service says there are on all pages.
    size: Option<usize>,
    /// A product, or the row that is none and why.
    products: Vec<Result<MoySkladProduct, (String, String)>>,
}

/// Reads a page of the assortment.
pub(super) fn parse_page(
    body: impl io::Read,
    field: SkuField,
    settings: &ReadSettings,
) -> Result<AssortmentPage, MoySkladError> {
    let StrictObject(page) = serde_json::from_reader::<_, StrictObject<WireAssortmentPage>>(body)
        .map_err(|e| json_error(&e))?;
    let parse_row = |row: Box<RawValue>| {
        parse_product(row.get(), field, settings).map_err(|reason| (row.get().to_owned(), reason))
    };
    Ok(AssortmentPage {
        size: page.meta.0.size,
        products: page.rows.into_iter().map(parse_row).collect(),
    })
}

fn parse_product(
    json: &str,
    field: SkuField,
    settings: &ReadSettings,
) -> Result<MoySkladProduct, String> {
    let StrictObject(wire) = serde_json::from_str::<StrictObject<WireProduct<'_>>>(json)
        .map_err(|e| format!("the product is unreadable: {e}"))?;
    let (segment, last) = wire.meta.as_ref().map_or((None, None), WireMeta::segments);
    let id = match &wire.id {
        Some(id) => Some(id.0.as_ref()),
        None => last,
    };
    let id = id
        .filter(|id| !id.is_empty())
        .ok_or("the product has neither id nor href")?;
    let named_kind = wire.meta.as_ref().and_then(|meta| meta.kind.as_ref());
    let kind = ProductKind::from_wire(named_kind.map(|JsonText(kind)| kind.as_ref()).or(segment));
    let raw = match field {
        SkuField::Article => wire.article,
        SkuField::Code => wire.code,
        SkuField::ExternalCode => wire.external_code,
        SkuField::Name => wire.name,
    };
    let (mut sku, mut problem) = (None, None);
    if let Some(json) = raw.map(RawValue::get) {
        let not_text = |_| format!("{} is {json}, it must be a text", field.name());
        let JsonText(text) = serde_json::from_str::<JsonText<'_>>(json).map_err(not_text)?;
        if !text.trim().is_empty() {
            match settings.parse_sku(&text) {
                Ok(parsed) => sku = Some(parsed),
                Err(row_problem) => problem = Some(row_problem),
            }
        }
    }
    let link = |link: &WireLink<'_>| {
        link.meta
            .as_ref()
            .and_then(|meta| meta.segments().1.map(str::to_owned))
    };
    let parent = wire
        .product
        .as_ref()
        .and_then(link)
        .or(wire.assortment.as_ref().and_then(link));
    Ok(MoySkladProduct {
        id: id.to_owned(),
        sku,
        problem,
        is_archived: wire.archived,
        kind,
        parent,
    })
}

/// What the pages so far have told.
#[derive(Debug, Default)]
pub(super) struct AssortmentBuilder {
    /// Where the next page begins.
    pub(super) offset: usize,
    ids: HashSet<String>,
    /// SKUs of products in use.
    skus: HashSet<String>,
    /// Products whose stock is put under a SKU.
    products: SkuProducts,
    without_sku: HashSet<String>,
    /// What nameless things in use are parts of, and what they are.
    parents: HashMap<String, (Option<String>, ProductKind)>,
    /// Archived products with a SKU, with their number, until it is known whose it is.
    archived: Vec<(u64, String, String)>,
    entries: Vec<DeliveryEntry>,
}

impl AssortmentBuilder {
    /// Takes a page; tells whether it is the last one.
    pub(super) fn add_page(&mut self, page: AssortmentPage) -> Result<bool, MoySkladError> {
        let length = page.products.len();
        let (before, mut has_new) = (self.ids.len(), length == 0);
        for (product, number) in page.products.into_iter().zip(self.offset + 1..) {
            let line = u64::try_from(number).unwrap_or(u64::MAX);
            match product {
                Ok(product) => self.add_product(line, product),
                Err((text, reason)) => {
                    has_new = true;
                    self.entries.push(DeliveryEntry::Rejected(RejectedRow::new(
                        line, &text, reason,
                    )));
                }
            }
        }
        // A page that tells nothing new: the service does not turn pages, and never will.
        if !has_new && self.ids.len() == before {
            return Err(MoySkladError::EndlessAssortment);
        }
        self.offset += length;
        // By what the service says there is, not by the page's length, which it may cut.
        Ok(length == 0
            || page
                .size
                .map_or(length < PAGE_SIZE, |size| self.offset >= size))
    }

    fn add_product(&mut self, line: u64, product: MoySkladProduct) {
        let MoySkladProduct {
            id,
            sku,
            problem,
            is_archived,
            kind,
            parent,
        } = product;
        // Told twice if the assortment changed between two pages.
        if !self.ids.insert(id.clone()) {
            return;
        }
        if let Some(problem) = problem {
            // Its stock is left out: under which SKU it belongs is not certain.
            self.entries.push(problem.into_entry(line, &id, None));
            self.without_sku.insert(id);
            return;
        }
        match sku {
            None => {
                if !is_archived {
                    self.parents.insert(id.clone(), (parent, kind));
                }
                self.without_sku.insert(id);
            }
            Some(sku) if is_archived => self.archived.push((line, id, sku)),
            Some(sku) => {
                if !self.skus.insert(sku.clone()) {
                    let reason = format!("sku '{sku}' is that of two products in use");
                    let fault = RejectedRow {
                        sku: Some(sku.clone()),
                        ..RejectedRow::new(line, &id, reason)
                    };
                    self.entries.push(DeliveryEntry::Suspicious(fault));
                }
                self.products.add(&id, &sku, line, Some(kind));
                self.entries.push(DeliveryEntry::Article { id, sku });
            }
        }
    }

    pub(super) fn take_entries(&mut self) -> Vec<DeliveryEntry> {
        std::mem::take(&mut self.entries)
    }

    /// The archived products, after the last page: where a product in use has taken over the
    /// SKU, the archived one stands for none.
    pub(super) fn archived_entries(&mut self) -> Vec<DeliveryEntry> {
        let mut entries = Vec::new();
        let mut archived = HashSet::new();
        for (line, id, sku) in std::mem::take(&mut self.archived) {
            if self.skus.contains(&sku) {
                self.without_sku.insert(id);
                continue;
            }
            if !archived.insert(sku.clone()) {
                let reason = format!("sku '{sku}' is that of two archived products");
                let fault = RejectedRow {
                    sku: Some(sku.clone()),
                    ..RejectedRow::new(line, &id, reason)
                };
                entries.push(DeliveryEntry::Suspicious(fault));
            }
            self.products.add(&id, &sku, line, None);
            entries.push(DeliveryEntry::Article { id, sku });
        }
        entries
    }

    /// The products with a SKU, and those without one, after [`Catalogue::archived`].
    pub(super) fn finish(self) -> (SkuProducts, ProductsWithoutSku) {
        /// A batch of a variant of a product is the longest chain there is.
        const MAX_PARENT_LINKS: usize = 4;
        let mut in_use = HashMap::new();
        for (id, (parent, kind)) in &self.parents {
            let mut sku_parent = parent.as_deref();
            for _ in 0..MAX_PARENT_LINKS {
                match sku_parent {
                    Some(id) if self.products.sku(id).is_none() => {
                        sku_parent = self
                            .parents
                            .get(id)
                            .and_then(|(parent, _)| parent.as_deref());
                    }
                    Some(_) | None => break,
                }
            }
            let sku_parent = sku_parent.and_then(|id| Some((id, self.products.sku(id)?)));
            let sku_parent = sku_parent.map(|(id, sku)| (id.to_owned(), sku.to_owned()));
            in_use.insert(
                id.clone(),
                ProductWithoutSku {
                    parent: sku_parent,
                    kind: *kind,
                },
            );
        }
        (
            self.products,
            ProductsWithoutSku {
                ids: self.without_sku,
                in_use,
            },
        )
    }
}

#[derive(Deserialize)]
struct WireReportRow<'a> {
    #[serde(borrow, default, rename = "assortmentId")]
    assortment_id: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "storeId")]
    store_id: Option<JsonText<'a>>,
    #[serde(borrow, default, rename = "isValid")]
    is_valid: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "freeStock", deserialize_with = "stated")]
    free_stock: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "stated")]
    quantity: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "stated")]
    stock: Option<&'a RawValue>,
}

/// A member that is there, if only as null.
fn stated<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// How a report about current stock is read.
#[derive(Clone)]
pub(super) struct ReportReader {
    pub(super) stock_type: StockType,
    pub(super) stores: StoreSelection,
    pub(super) without_sku: Arc<ProductsWithoutSku>,
    /// Products whose parts without a SKU hold stock.
    pub(super) stock_without_sku: Arc<StockWithoutSku>,
    /// Only rows of these are read, if a report about some was asked for.
    pub(super) only_ids: Option<HashSet<String>>,
    pub(super) settings: ReadSettings,
}

/// Where the rows of a report go.
type EmitEntry<'a> = &'a mut dyn FnMut(DeliveryEntry) -> Result<(), DeliveryCancelled>;

/// What a row of a report is.
enum ReportRow {
    /// None of ours.
    Ignored,
    /// Of a product, by its id: how much there is, or why that cannot be taken.
    Stock {
        id: String,
        store: Option<String>,
        entry: DeliveryEntry,
    },
    /// Of a product whose stock is being recalculated.
    Recalculating,
    /// A row that names no product.
    Invalid(DeliveryEntry),
}

impl ReportReader {
    pub(super) fn new(
        (stock_type, stores): (StockType, StoreSelection),
        without_sku: Arc<ProductsWithoutSku>,
        settings: &ReadSettings,
    ) -> Self {
        // Numbers are literals: their mark is the point, whatever a setting says of texts. One that
        // is empty is being recalculated, and no zero.
        let settings = ReadSettings {
            decimal: Some(DecimalMark::Point),
            zeroes_empty_quantities: false,
            ..settings.clone()
        };
        Self {
            stock_type,
            stores,
            without_sku,
            stock_without_sku: Arc::default(),
            only_ids: None,
            settings,
        }
    }

    /// Reads a report row by row; tells how many were left out. What it states of a product is
    /// noted with its article.
    pub(super) fn read(
        &self,
        body: impl io::Read,
        products: &mut SkuProducts,
        emit: EmitEntry<'_>,
    ) -> Result<usize, MoySkladError> {
        let mut left_out = 0;
        let mut reported_parents = HashSet::new();
        for_each_row(body, &mut |line, json| {
            match self.parse_row(line, json, products) {
                ReportRow::Ignored => {
                    left_out += 1;
                    Ok(())
                }
                // Its number comes later: till then it stays as it was.
                ReportRow::Recalculating => Ok(()),
                ReportRow::Invalid(entry) => emit(entry),
                ReportRow::Stock { id, store, entry } => {
                    products.mark_reported(&id, self.bit_of_store(store.as_deref()));
                    let parent = self
                        .stock_without_sku
                        .parent(&id)
                        .filter(|hidden| hidden.makes_suspicious(&entry));
                    match parent {
                        None => emit(entry),
                        // Once for a product, whatever the number of its stores.
                        Some(parent) if reported_parents.insert(id) => {
                            emit(parent.suspicious_entry(line))
                        }
                        Some(_) => Ok(()),
                    }
                }
            }
        })?;
        Ok(left_out)
    }

    /// Reads a report for the stock of things without a SKU only.
    pub(super) fn collect_stock_without_sku(
        &self,
        body: impl io::Read,
        stock_without_sku: &mut StockWithoutSku,
    ) -> Result<(), MoySkladError> {
        let lenient = ReadSettings {
            floors_fractions: true,
            zeroes_negatives: true,
            ..self.settings.clone()
        };
        for_each_row(body, &mut |_, json| {
            let Ok(StrictObject(row)) =
                serde_json::from_str::<StrictObject<WireReportRow<'_>>>(json)
            else {
                return Ok(());
            };
            if let Some(JsonText(id)) = &row.assortment_id
                && let Some(product) = self.without_sku.in_use.get(id.as_ref())
                && self.is_selected_store(row.store_id.as_ref().map(|JsonText(id)| id.as_ref()))
                && let Some(stock) = self.stock(&row)
                && let Ok(Some(quantity)) = lenient.parse_quantity(&plain_number(stock))
                && quantity.pieces() > 0
            {
                stock_without_sku.add(id, product, quantity);
            }
            Ok(())
        })
    }

    /// The member that holds the stock; `None` if there is none, or it is not calculated.
    fn stock<'a>(&self, row: &WireReportRow<'a>) -> Option<&'a str> {
        let stock = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let is_valid = row.is_valid.map(RawValue::get) != Some("false");
        stock
            .map(RawValue::get)
            .filter(|json| is_valid && *json != "null")
    }

    fn is_selected_store(&self, store: Option<&str>) -> bool {
        match (&self.stores, store) {
            (StoreSelection::Named(stores), Some(store)) => {
                stores.iter().any(|known| known == store)
            }
            // A reserve of no store.
            (StoreSelection::Named(_), None) => false,
            (StoreSelection::Total, _) => true,
        }
    }

    /// Which of the stores that is, as a bit.
    fn bit_of_store(&self, store: Option<&str>) -> u128 {
        match (&self.stores, store) {
            (StoreSelection::Named(stores), Some(store)) => {
                let at = stores
                    .iter()
                    .position(|known| known == store)
                    .unwrap_or_default();
                store_bit(at)
            }
            (StoreSelection::Named(_), None) | (StoreSelection::Total, _) => store_bit(0),
        }
    }

    /// What a row says.
    fn parse_row(&self, line: u64, json: &str, products: &SkuProducts) -> ReportRow {
        let row = match serde_json::from_str::<StrictObject<WireReportRow<'_>>>(json) {
            Ok(StrictObject(row)) => row,
            Err(e) => {
                let reason = format!("the row is unreadable: {e}");
                return ReportRow::Invalid(DeliveryEntry::Rejected(RejectedRow::new(
                    line, json, reason,
                )));
            }
        };
        let Some(JsonText(id)) = &row.assortment_id else {
            let reason = "the row has no assortmentId";
            return ReportRow::Invalid(DeliveryEntry::Rejected(RejectedRow::new(
                line, json, reason,
            )));
        };
        let is_requested = self
            .only_ids
            .as_ref()
            .is_none_or(|ids| ids.contains(id.as_ref()));
        let store = row.store_id.as_ref().map(|JsonText(store)| store.as_ref());
        if !is_requested
            || self.without_sku.ids.contains(id.as_ref())
            || !self.is_selected_store(store)
        {
            return ReportRow::Ignored;
        }
        let member = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let problem = match (member, self.stock(&row)) {
            (None, _) => RowProblem::Rejected(format!("the row has no {}", self.stock_type.name())),
            (Some(_), None) => return ReportRow::Recalculating,
            (Some(_), Some(stock)) => match self.settings.parse_quantity(&plain_number(stock)) {
                Ok(quantity) => {
                    let (key, place) = (ProductKey::Id(id.to_string()), store.map(str::to_owned));
                    let row = Row {
                        line,
                        key,
                        warehouse: place,
                        quantity,
                        reserve: None,
                        stated_at: None,
                    };
                    let store = row.warehouse.clone();
                    return ReportRow::Stock {
                        id: id.to_string(),
                        store,
                        entry: DeliveryEntry::Row(row),
                    };
                }
                Err(rule) => rule.into(),
            },
        };
        let entry = problem.into_entry(line, json, products.sku(id).map(str::to_owned));
        ReportRow::Stock {
            id: id.to_string(),
            store: store.map(str::to_owned),
            entry,
        }
    }
}

/// A number literal without its exponent.
fn plain_number(literal: &str) -> std::borrow::Cow<'_, str> {
    expand_exponent(literal).unwrap_or(literal.into())
}

/// The bit of the store at that place among those named; those beyond the last bit share it.
pub(super) fn store_bit(at: usize) -> u128 {
    1 << at.min(127)
}

/// Reads a list row by row.
fn for_each_row(
    body: impl io::Read,
    callback: &mut dyn FnMut(u64, &str) -> Result<(), DeliveryCancelled>,
) -> Result<(), MoySkladError> {
    let mut visitor = ReportRowVisitor {
        callback,
        is_cancelled: false,
    };
    let mut json = serde_json::Deserializer::from_reader(body);
    let result = json.deserialize_seq(&mut visitor).and_then(|()| json.end());
    if visitor.is_cancelled {
        return Err(DeliveryCancelled.into());
    }
    result.map_err(|e| json_error(&e))
}

/// Takes the rows of a report as they are read.
struct ReportRowVisitor<'a> {
    callback: &'a mut dyn FnMut(u64, &str) -> Result<(), DeliveryCancelled>,
    is_cancelled: bool,
}

impl<'de> Visitor<'de> for &mut ReportRowVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut line = 0;
        while let Some(row) = seq.next_element::<Box<RawValue>>()? {
            line += 1;
            if let Err(cancelled) = (self.callback)(line, row.get()) {
                self.is_cancelled = true;
                return Err(A::Error::custom(cancelled));
            }
        }
        Ok(())
    }
}

fn json_error(error: &serde_json::Error) -> MoySkladError {
    match error.io_error_kind() {
        Some(io::ErrorKind::FileTooLarge) => MoySkladError::TooLarge,
        Some(_) | None => MoySkladError::InvalidResponse(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: &str = include_str!("../../../fixtures/sources/moysklad-stock-all.json");
    const BY_STORE: &str = include_str!("../../../fixtures/sources/moysklad-stock-by-store.json");
    const ASSORTMENT: &str = include_str!("../../../fixtures/sources/moysklad-assortment.json");
    const FIRST_STORE: &str = "12345678-b123-aaee-0a80-012b0001bb10";

    fn report_reader(stock_type: StockType, stores: &[&str], nameless: &[&str]) -> ReportReader {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        let stores = match stores {
            [] => StoreSelection::Total,
            some => StoreSelection::Named(owned(some)),
        };
        let nameless = owned(nameless).into_iter().collect();
        let parts = Arc::new(ProductsWithoutSku {
            ids: nameless,
            ..ProductsWithoutSku::default()
        });
        ReportReader::new((stock_type, stores), parts, &ReadSettings::default())
    }

    fn describe(entry: &DeliveryEntry) -> String {
        match entry {
            DeliveryEntry::Row(Row {
                line,
                key: ProductKey::Id(id),
                warehouse: place,
                quantity,
                ..
            }) => {
                let end = id.rsplit('-').next().unwrap();
                let place = place
                    .as_deref()
                    .map_or("", |p| p.rsplit('-').next().unwrap());
                format!("{line} {end} {place} {}", quantity.unwrap())
            }
            DeliveryEntry::Rejected(fault) => format!("{} {}", fault.line, fault.reason),
            DeliveryEntry::Suspicious(fault) => format!("{} doubtful {}", fault.line, fault.reason),
            DeliveryEntry::Article { id, sku } => format!("{id} is {sku}"),
            DeliveryEntry::PartBoundary => "next part".to_owned(),
            DeliveryEntry::Row(other) => panic!("{other:?}"),
        }
    }

    fn read_report(
        report: &ReportReader,
        body: &str,
    ) -> (Result<usize, MoySkladError>, Vec<String>) {
        let mut entries = Vec::new();
        let mut products = SkuProducts::default();
        let left_out = report.read(body.as_bytes(), &mut products, &mut |entry| {
            entries.push(describe(&entry));
            Ok(())
        });
        (left_out, entries)
    }

    #[test]
    fn the_documented_report_about_all_stores_is_read() {
        let report = report_reader(
            StockType::Available,
            &[],
            &["12345678-279c-aaeb-0a80-00d6001f3215"],
        );
        let (left_out, entries) = read_report(&report, ALL);
        assert_eq!(
            entries,
            [
                "1 003a003ef439  11",
                "2 00d6001f1981  0",
                "3 quantity is '46.5', it must be whole, or set fraction = \"floor\"",
            ]
        );
        assert_eq!(left_out.unwrap(), 1);
    }

    #[test]
    fn of_the_documented_report_by_store_only_the_named_stores_are_taken() {
        let (left_out, entries) = read_report(
            &report_reader(StockType::Free, &[FIRST_STORE], &[]),
            BY_STORE,
        );
        let expected = [
            "1 003a003ef439 012b0001bb10 4",
            "4 00d6001f847c 012b0001bb10 46",
        ];
        assert_eq!(entries, expected);
        // The other store's, and the reserve of no store.
        assert_eq!(left_out.unwrap(), 2);
    }

    #[test]
    fn a_bad_row_is_set_aside_and_spoils_no_other() {
        let body = r#"[{"assortmentId":"a","stock":1.0E2},{"stock":1},{"assortmentId":"b"},7,
            {"assortmentId":"c","stock":-5},{"assortmentId":"d","stock":"3"},
            {"assortmentId":"e","stock":null},{"assortmentId":"f","stock":4,"new":{"x":[1]}}]"#;
        let (left_out, entries) = read_report(&report_reader(StockType::Physical, &[], &[]), body);
        assert_eq!(left_out.unwrap(), 0);
        for (entry, prefix) in entries.iter().zip([
            "1 a  100",
            "2 the row has no assortmentId",
            "3 the row has no stock",
            "4 the row is unreadable",
            "5 quantity is '-5', it must not be negative",
            "6 quantity is '\"3\"', it must be a number",
            "8 f  4",
        ]) {
            assert!(entry.starts_with(prefix), "{entry}, not {prefix}");
        }
        // The one without a number is being recalculated, and as it was.
        assert_eq!(entries.len(), 7);
    }

    #[test]
    fn a_report_that_ends_early_or_is_none_is_broken() {
        let report = report_reader(StockType::Free, &[], &[]);
        for (body, reason) in [
            (r#"[{"assortmentId":"a","freeStock":1}"#, "EOF"),
            (r#"[{"assortmentId":"a","freeStock":1}]x"#, "trailing"),
            (r#"{"errors":[]}"#, "expected a list of rows"),
            ("<html>", "expected value"),
            ("", "EOF"),
        ] {
            let error = read_report(&report, body).0.unwrap_err().to_string();
            assert!(error.contains(reason), "{body}: {error}");
        }
        let mut cancel = |_| Err(DeliveryCancelled);
        let result = report.read(&b"[{}]"[..], &mut SkuProducts::default(), &mut cancel);
        assert!(matches!(
            result,
            Err(MoySkladError::Cancelled(DeliveryCancelled))
        ));
    }

    fn assortment_entries(field: SkuField) -> (Vec<String>, Vec<String>) {
        let mut builder = AssortmentBuilder::default();
        assert!(
            builder
                .add_page(
                    parse_page(ASSORTMENT.as_bytes(), field, &ReadSettings::default()).unwrap()
                )
                .unwrap()
        );
        let mut entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
        entries.extend(builder.archived_entries().iter().map(describe));
        let mut nameless: Vec<_> = builder.finish().1.ids.into_iter().collect();
        nameless.sort();
        (entries, nameless)
    }

    #[test]
    fn a_product_is_its_article_unless_it_has_none_or_another_took_it_over() {
        let (entries, nameless) = assortment_entries(SkuField::Article);
        assert_eq!(
            entries,
            [
                "12345678-5838-aaeb-0a80-003a003ef439 is 0557722",
                "12345678-279c-aaeb-0a80-00d6001f847c is ART-9",
                "7 the product has neither id nor href",
                "8 article is 557722, it must be a text",
                "archived-and-alone is MUG-1",
            ]
        );
        // The variant, the old card of the kettle, and the service.
        assert_eq!(
            nameless,
            [
                "12345678-279c-aaeb-0a80-00d6001f1981",
                "12345678-279c-aaeb-0a80-00d6001f3215",
                "a-service",
            ]
        );
    }

    #[test]
    fn any_of_four_fields_may_hold_the_sku() {
        for (field, sku) in [
            (SkuField::Code, "00003"),
            (SkuField::ExternalCode, "rwD3g3rLl"),
            (SkuField::Name, "Чайник (красный)"),
        ] {
            let variant = format!("12345678-279c-aaeb-0a80-00d6001f1981 is {sku}");
            let (entries, _) = assortment_entries(field);
            assert!(entries.contains(&variant), "{entries:?}");
        }
    }

    fn assortment_page(ids: &[(&str, &str)], size: Option<usize>) -> AssortmentPage {
        let product = |&(id, sku): &(&str, &str)| {
            let (id, sku) = (id.to_owned(), Some(sku.to_owned()));
            let (kind, problem, parent) = (ProductKind::Product, None, None);
            Ok(MoySkladProduct {
                id,
                sku,
                problem,
                is_archived: false,
                kind,
                parent,
            })
        };
        AssortmentPage {
            size,
            products: ids.iter().map(product).collect(),
        }
    }

    #[test]
    fn the_last_page_is_told_by_the_size_and_not_by_its_length() {
        let mut builder = AssortmentBuilder::default();
        assert!(
            !builder
                .add_page(assortment_page(&[("a", "A"), ("b", "B")], Some(3)))
                .unwrap()
        );
        assert_eq!(builder.offset, 2);
        // One of them again, because the list moved meanwhile.
        assert!(
            builder
                .add_page(assortment_page(&[("b", "B"), ("c", "C")], Some(3)))
                .unwrap()
        );
        assert_eq!(builder.take_entries().len(), 3);
        let mut without_size = AssortmentBuilder::default();
        assert!(
            without_size
                .add_page(assortment_page(&[("a", "A")], None))
                .unwrap()
        );
        let mut empty = AssortmentBuilder::default();
        assert!(empty.add_page(assortment_page(&[], Some(3))).unwrap());
    }

    #[test]
    fn a_page_that_tells_nothing_new_is_the_end_of_patience() {
        let mut builder = AssortmentBuilder::default();
        let same_page = || assortment_page(&[("a", "A"), ("b", "B")], Some(9));
        assert!(!builder.add_page(same_page()).unwrap());
        assert!(matches!(
            builder.add_page(same_page()),
            Err(MoySkladError::EndlessAssortment)
        ));
    }

    #[test]
    fn one_sku_of_two_products_is_told() {
        let mut builder = AssortmentBuilder::default();
        builder
            .add_page(assortment_page(&[("a", "A"), ("b", "A")], None))
            .unwrap();
        let entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
        let suspicious = "2 doubtful sku 'A' is that of two products in use";
        assert_eq!(entries, ["a is A", suspicious, "b is A"]);
    }

    /// A product and parts of it without an article: two variants, and a batch of one of them.
    const PRODUCT_WITH_PARTS: &str = r#"{"meta":{"size":6},"rows":[
        {"id":"s","article":"SHOE","meta":{"type":"product"}},
        {"id":"s1","code":"1","meta":{"type":"variant"},
            "product":{"meta":{"href":"https://x/entity/product/s?expand=supplier"}}},
        {"id":"s2","code":"2","meta":{"href":"https://x/entity/variant/s2"},
            "product":{"meta":{"href":"https://x/entity/product/s"}}},
        {"id":"b","meta":{"type":"consignment"},
            "assortment":{"meta":{"href":"https://x/entity/variant/s2"}}},
        {"id":"k","meta":{"type":"bundle"}},
        {"id":"old","archived":true,"meta":{"type":"variant"},
            "product":{"meta":{"href":"https://x/entity/product/s"}}}]}"#;

    fn build_products(page: &str) -> (SkuProducts, ProductsWithoutSku) {
        let mut builder = AssortmentBuilder::default();
        let page =
            parse_page(page.as_bytes(), SkuField::Article, &ReadSettings::default()).unwrap();
        assert!(builder.add_page(page).unwrap());
        builder.archived_entries();
        builder.finish()
    }

    fn read_with_parts(page: &str, body: &str) -> (Vec<String>, Vec<String>) {
        let (mut products, without_sku) = build_products(page);
        let stores = (StockType::Physical, StoreSelection::Total);
        let mut report = ReportReader::new(stores, Arc::new(without_sku), &ReadSettings::default());
        let mut stock_without_sku = StockWithoutSku::new(SkuField::Article);
        report
            .collect_stock_without_sku(body.as_bytes(), &mut stock_without_sku)
            .unwrap();
        let notices = stock_without_sku.notice().into_iter().collect();
        report.stock_without_sku = Arc::new(stock_without_sku);
        let mut entries = Vec::new();
        let emit = &mut |entry| {
            entries.push(describe(&entry));
            Ok(())
        };
        report.read(body.as_bytes(), &mut products, emit).unwrap();
        (entries, notices)
    }

    #[test]
    fn parts_are_found_up_to_the_product_with_a_sku() {
        let (_, without_sku) = build_products(PRODUCT_WITH_PARTS);
        for (id, sku, kind) in [
            ("s1", Some("SHOE"), ProductKind::Variant),
            ("s2", Some("SHOE"), ProductKind::Variant),
            ("b", Some("SHOE"), ProductKind::Batch),
            ("k", None, ProductKind::Kit),
        ] {
            let product = &without_sku.in_use[id];
            let parent_sku = product.parent.as_ref().map(|(_, sku)| sku.as_str());
            assert_eq!((parent_sku, product.kind), (sku, kind), "{id}");
        }
        assert!(!without_sku.in_use.contains_key("old") && without_sku.ids.contains("old"));
    }

    #[test]
    fn stock_of_variants_without_a_sku_makes_their_product_suspicious() {
        let row = |id: &str, stock: u32| format!(r#"{{"assortmentId":"{id}","stock":{stock}}}"#);
        let report = |rows: &[(&str, u32)]| {
            let rows: Vec<_> = rows.iter().map(|(id, stock)| row(id, *stock)).collect();
            read_with_parts(PRODUCT_WITH_PARTS, &format!("[{}]", rows.join(",")))
        };
        for (rows, entry, notice) in [
            // Its own zero, and 12 pieces of two variants.
            (
                &[("s", 0), ("s1", 5), ("s2", 7)][..],
                "1 doubtful 2 variants of sku 'SHOE' have no article of their own and hold 12 pieces",
                "2 variants without article hold 12 pieces",
            ),
            // The same, told after the product's variants, and with a number of its own.
            (
                &[("s2", 7), ("s", 3)],
                "2 doubtful 1 variant",
                "1 variant without",
            ),
            // None of them has any.
            (&[("s", 0), ("s1", 0)], "1 s  0", ""),
            // A batch of what the product has itself.
            (&[("s", 4), ("b", 4)], "1 s  4", "1 batch"),
            (&[("s", 0), ("b", 4)], "1 doubtful 1 batch", "1 batch"),
            (
                &[("s", 2), ("k", 3)],
                "1 s  2",
                "1 kit without article holds 3 pieces",
            ),
        ] {
            let (entries, notices) = report(rows);
            assert_eq!(entries.len(), 1, "{rows:?}: {entries:?}");
            assert!(entries[0].starts_with(entry), "{rows:?}: {entries:?}");
            let notice_there = notices.first().map_or("", String::as_str);
            assert!(notice_there.starts_with(notice), "{rows:?}: {notices:?}");
            assert_eq!(
                notice_there.is_empty(),
                notice.is_empty(),
                "{rows:?}: {notices:?}"
            );
        }
    }

    #[test]
    fn a_row_that_is_not_valid_states_nothing() {
        let body = r#"[{"assortmentId":"a","stock":0,"isValid":false},
            {"assortmentId":"b","stock":null},{"assortmentId":"c","stock":3,"isValid":true}]"#;
        let (left_out, entries) = read_report(&report_reader(StockType::Physical, &[], &[]), body);
        assert_eq!((left_out.unwrap(), entries), (0, vec!["3 c  3".to_owned()]));
    }

    #[test]
    fn a_rejected_row_names_the_sku_of_its_id() {
        let (mut products, without_sku) = build_products(PRODUCT_WITH_PARTS);
        let stores = (StockType::Physical, StoreSelection::Total);
        let report = ReportReader::new(stores, Arc::new(without_sku), &ReadSettings::default());
        let mut skus = Vec::new();
        let emit = &mut |entry| {
            let DeliveryEntry::Rejected(fault) = entry else {
                panic!("{entry:?}")
            };
            skus.push(fault.sku);
            Ok(())
        };
        let body = r#"[{"assortmentId":"s","stock":-3},{"assortmentId":"s","stock":1.5},
            {"assortmentId":"s"},{"assortmentId":"new","stock":-1}]"#;
        report.read(body.as_bytes(), &mut products, emit).unwrap();
        let shoe = || Some("SHOE".to_owned());
        assert_eq!(skus, [shoe(), shoe(), shoe(), None]);
    }

    #[test]
    fn a_spoilt_article_is_undone_or_suspicious() {
        let read_article = |article: &str| {
            let rows = format!(r#"{{"id":"a","article":{article}}}"#);
            let page = format!(r#"{{"meta":{{"size":1}},"rows":[{rows}]}}"#);
            let mut builder = AssortmentBuilder::default();
            let parsed = parse_page(page.as_bytes(), SkuField::Article, &ReadSettings::default());
            assert!(builder.add_page(parsed.unwrap()).unwrap());
            let entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
            (entries.join(""), builder.finish().1.ids.contains("a"))
        };
        for (article, entry, is_nameless) in [
            (r#""'TEA-1""#, "a is TEA-1", false),
            (r#""=\"0557722\"""#, "a is 0557722", false),
            (r##""#Н/Д""##, "1 doubtful sku is '#Н/Д'", true),
            (r#""5.577E+05""#, "1 doubtful sku is '5.577E+05'", true),
            (r#""  ""#, "", true),
        ] {
            let (entries, nameless) = read_article(article);
            assert!(entries.starts_with(entry), "{article}: {entries}");
            assert_eq!(nameless, is_nameless, "{article}");
        }
    }

    #[test]
    fn fractions_of_any_length_are_cut_where_that_is_set() {
        let body = r#"[{"assortmentId":"a","stock":7.12345678901},{"assortmentId":"b","stock":1.25E1},
            {"assortmentId":"c","stock":3.0E-13},{"assortmentId":"d","stock":2.000},
            {"assortmentId":"e","stock":2.9999999999999996}]"#;
        let described = |reading: &ReadSettings| {
            let stores = (StockType::Physical, StoreSelection::Total);
            read_report(&ReportReader::new(stores, Arc::default(), reading), body).1
        };
        let floors = ReadSettings {
            floors_fractions: true,
            ..ReadSettings::default()
        };
        assert_eq!(
            described(&floors),
            ["1 a  7.123", "2 b  12.5", "3 c  0", "4 d  2", "5 e  3"]
        );
        // What a setting says of texts is not about literals.
        let comma = ReadSettings {
            decimal: Some(DecimalMark::Comma),
            ..floors
        };
        assert_eq!(described(&comma)[3], "4 d  2");
        assert!(described(&ReadSettings::default())[0].contains("it must be whole"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let emit = &mut |_| Ok(());
            let products = &mut SkuProducts::default();
            let _any = report_reader(StockType::Free, &[], &[]).read(&body[..], products, emit);
            let _any = parse_page(&body[..], SkuField::Article, &ReadSettings::default());
        }

        #[test]
        fn no_mutation_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mutated = |text: &str| {
                let mut body = text.as_bytes().to_vec();
                for (position, byte) in &changes {
                    let index = position.index(body.len());
                    body[index] = *byte;
                }
                body
            };
            let emit = &mut |_| Ok(());
            let report = report_reader(StockType::Free, &[FIRST_STORE], &[]);
            let _any = report.read(&mutated(BY_STORE)[..], &mut SkuProducts::default(), emit);
            let settings = ReadSettings::default();
            if let Ok(page) = parse_page(&mutated(ASSORTMENT)[..], SkuField::Article, &settings) {
                let mut builder = AssortmentBuilder::default();
                let _any = builder.add_page(page);
                builder.archived_entries();
                builder.finish();
            }
        }
    }
}

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

use super::stock::{Articles, HiddenStock, Part, PartKind, Parts};
use super::{MoySkladError, PAGE, SkuField, StockType, Stores};
use crate::http::json::{Object, Text, without_exponent};
use crate::sources::quantity::DecimalMark;
use crate::sources::row::{Entry, Fault, GivenUp, Key, Reading, Row, RowProblem};

#[derive(Deserialize)]
struct WirePage {
    meta: Object<WireListMeta>,
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
    id: Option<Text<'a>>,
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
    href: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
}

impl WireMeta<'_> {
    /// The last segments of the address: the kind of thing and its id.
    fn segments(&self) -> (Option<&str>, Option<&str>) {
        let href = self.href.as_ref().map_or("", |Text(href)| href.as_ref());
        let path = href.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
        let id = segments.next();
        (segments.next(), id)
    }
}

/// One product of the assortment.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Product {
    id: String,
    /// `None` if the field is empty.
    sku: Option<String>,
    /// Why the SKU cannot be taken.
    problem: Option<RowProblem>,
    is_archived: bool,
    kind: PartKind,
    /// The product of a variant, or what a batch is of.
    parent: Option<String>,
}

/// A page of the assortment.
#[derive(Debug)]
pub(super) struct Page {
    /// How many products the service says there are on all pages.
    size: Option<usize>,
    /// A product, or the row that is none and why.
    products: Vec<Result<Product, (String, String)>>,
}

/// Reads a page of the assortment.
pub(super) fn read_page(
    body: impl io::Read,
    field: SkuField,
    reading: &Reading,
) -> Result<Page, MoySkladError> {
    let Object(page) =
        serde_json::from_reader::<_, Object<WirePage>>(body).map_err(|e| broken(&e))?;
    let read = |row: Box<RawValue>| {
        read_product(row.get(), field, reading).map_err(|reason| (row.get().to_owned(), reason))
    };
    Ok(Page {
        size: page.meta.0.size,
        products: page.rows.into_iter().map(read).collect(),
    })
}

fn read_product(json: &str, field: SkuField, reading: &Reading) -> Result<Product, String> {
    let Object(wire) = serde_json::from_str::<Object<WireProduct<'_>>>(json)
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
    let kind = PartKind::of(named_kind.map(|Text(kind)| kind.as_ref()).or(segment));
    let raw = match field {
        SkuField::Article => wire.article,
        SkuField::Code => wire.code,
        SkuField::ExternalCode => wire.external_code,
        SkuField::Name => wire.name,
    };
    let (mut sku, mut problem) = (None, None);
    if let Some(json) = raw.map(RawValue::get) {
        let no_text = |_| format!("{} is {json}, it must be a text", field.name());
        let Text(text) = serde_json::from_str::<Text<'_>>(json).map_err(no_text)?;
        if !text.trim().is_empty() {
            match reading.sku(&text) {
                Ok(read) => sku = Some(read),
                Err(why) => problem = Some(why),
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
    Ok(Product {
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
pub(super) struct Catalogue {
    /// Where the next page begins.
    pub(super) offset: usize,
    ids: HashSet<String>,
    /// SKUs of products in use.
    skus: HashSet<String>,
    /// Products whose stock is put under a SKU.
    articles: Articles,
    nameless: HashSet<String>,
    /// What nameless things in use are parts of, and what they are.
    parents: HashMap<String, (Option<String>, PartKind)>,
    /// Archived products with a SKU, with their number, until it is known whose it is.
    archived: Vec<(u64, String, String)>,
    entries: Vec<Entry>,
}

impl Catalogue {
    /// Takes a page; tells whether it is the last one.
    pub(super) fn add(&mut self, page: Page) -> Result<bool, MoySkladError> {
        let length = page.products.len();
        let (before, mut is_news) = (self.ids.len(), length == 0);
        for (product, number) in page.products.into_iter().zip(self.offset + 1..) {
            let line = u64::try_from(number).unwrap_or(u64::MAX);
            match product {
                Ok(product) => self.add_product(line, product),
                Err((text, reason)) => {
                    is_news = true;
                    self.entries
                        .push(Entry::Rejected(Fault::new(line, &text, reason)));
                }
            }
        }
        // A page that tells nothing new: the service does not turn pages, and never will.
        if !is_news && self.ids.len() == before {
            return Err(MoySkladError::Endless);
        }
        self.offset += length;
        // By what the service says there is, not by the page's length, which it may cut.
        Ok(length == 0 || page.size.map_or(length < PAGE, |size| self.offset >= size))
    }

    fn add_product(&mut self, line: u64, product: Product) {
        let Product {
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
            self.nameless.insert(id);
            return;
        }
        match sku {
            None => {
                if !is_archived {
                    self.parents.insert(id.clone(), (parent, kind));
                }
                self.nameless.insert(id);
            }
            Some(sku) if is_archived => self.archived.push((line, id, sku)),
            Some(sku) => {
                if !self.skus.insert(sku.clone()) {
                    let reason = format!("sku '{sku}' is that of two products in use");
                    let fault = Fault {
                        sku: Some(sku.clone()),
                        ..Fault::new(line, &id, reason)
                    };
                    self.entries.push(Entry::Suspicious(fault));
                }
                self.articles.add(&id, &sku, line, Some(kind));
                self.entries.push(Entry::Article { id, sku });
            }
        }
    }

    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The archived products, after the last page: where a product in use has taken over the
    /// SKU, the archived one stands for none.
    pub(super) fn archived(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut archived = HashSet::new();
        for (line, id, sku) in std::mem::take(&mut self.archived) {
            if self.skus.contains(&sku) {
                self.nameless.insert(id);
                continue;
            }
            if !archived.insert(sku.clone()) {
                let reason = format!("sku '{sku}' is that of two archived products");
                let fault = Fault {
                    sku: Some(sku.clone()),
                    ..Fault::new(line, &id, reason)
                };
                entries.push(Entry::Suspicious(fault));
            }
            self.articles.add(&id, &sku, line, None);
            entries.push(Entry::Article { id, sku });
        }
        entries
    }

    /// The products with a SKU, and those without one, after [`Catalogue::archived`].
    pub(super) fn finish(self) -> (Articles, Parts) {
        /// A batch of a variant of a product is the longest chain there is.
        const MAX_LINKS: usize = 4;
        let mut parts = HashMap::new();
        for (id, (parent, kind)) in &self.parents {
            let mut whole = parent.as_deref();
            for _ in 0..MAX_LINKS {
                match whole {
                    Some(id) if self.articles.sku(id).is_none() => {
                        whole = self
                            .parents
                            .get(id)
                            .and_then(|(parent, _)| parent.as_deref());
                    }
                    Some(_) | None => break,
                }
            }
            let whole = whole.and_then(|id| Some((id, self.articles.sku(id)?)));
            let whole = whole.map(|(id, sku)| (id.to_owned(), sku.to_owned()));
            parts.insert(id.clone(), Part { whole, kind: *kind });
        }
        (
            self.articles,
            Parts {
                nameless: self.nameless,
                parts,
            },
        )
    }
}

#[derive(Deserialize)]
struct WireRow<'a> {
    #[serde(borrow, default, rename = "assortmentId")]
    assortment_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "storeId")]
    store_id: Option<Text<'a>>,
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
pub(super) struct Report {
    pub(super) stock_type: StockType,
    pub(super) stores: Stores,
    pub(super) parts: Arc<Parts>,
    /// Products whose parts without a SKU hold stock.
    pub(super) hidden: Arc<HiddenStock>,
    /// Only rows of these are read, if a report about some was asked for.
    pub(super) only: Option<HashSet<String>>,
    pub(super) reading: Reading,
}

/// Where the rows of a report go.
type Put<'a> = &'a mut dyn FnMut(Entry) -> Result<(), GivenUp>;

/// What a row of a report is.
enum Found {
    /// None of ours.
    LeftOut,
    /// Of a product, by its id: how much there is, or why that cannot be taken.
    Stock {
        id: String,
        store: Option<String>,
        entry: Entry,
    },
    /// Of a product whose stock is being recalculated.
    Recalculating,
    /// A row that names no product.
    Broken(Entry),
}

impl Report {
    pub(super) fn new(
        (stock_type, stores): (StockType, Stores),
        parts: Arc<Parts>,
        reading: &Reading,
    ) -> Self {
        // Numbers are literals: their mark is the point, whatever a setting says of texts. One that
        // is empty is being recalculated, and no zero.
        let reading = Reading {
            decimal: Some(DecimalMark::Point),
            zeroes_empties: false,
            ..reading.clone()
        };
        Self {
            stock_type,
            stores,
            parts,
            hidden: Arc::default(),
            only: None,
            reading,
        }
    }

    /// Reads a report row by row; tells how many were left out. What it states of a product is
    /// noted with its article.
    pub(super) fn read(
        &self,
        body: impl io::Read,
        articles: &mut Articles,
        put: Put<'_>,
    ) -> Result<usize, MoySkladError> {
        let mut left_out = 0;
        let mut flagged = HashSet::new();
        each_row(body, &mut |line, json| {
            match self.row(line, json, articles) {
                Found::LeftOut => {
                    left_out += 1;
                    Ok(())
                }
                // Its number comes later: till then it stays as it was.
                Found::Recalculating => Ok(()),
                Found::Broken(entry) => put(entry),
                Found::Stock { id, store, entry } => {
                    articles.note(&id, self.bit(store.as_deref()));
                    let hidden = self.hidden.get(&id).filter(|hidden| hidden.spoils(&entry));
                    match hidden {
                        None => put(entry),
                        // Once for a product, whatever the number of its stores.
                        Some(hidden) if flagged.insert(id) => put(hidden.entry(line)),
                        Some(_) => Ok(()),
                    }
                }
            }
        })?;
        Ok(left_out)
    }

    /// Reads a report for the stock of things without a SKU only.
    pub(super) fn hidden(
        &self,
        body: impl io::Read,
        found: &mut HiddenStock,
    ) -> Result<(), MoySkladError> {
        let lenient = Reading {
            floors_fractions: true,
            zeroes_negatives: true,
            ..self.reading.clone()
        };
        each_row(body, &mut |_, json| {
            let Ok(Object(row)) = serde_json::from_str::<Object<WireRow<'_>>>(json) else {
                return Ok(());
            };
            if let Some(Text(id)) = &row.assortment_id
                && let Some(part) = self.parts.parts.get(id.as_ref())
                && self.is_of_named_store(row.store_id.as_ref().map(|Text(id)| id.as_ref()))
                && let Some(stock) = self.stock(&row)
                && let Ok(Some(quantity)) = lenient.quantity(&plain(stock))
                && quantity.pieces() > 0
            {
                found.add(id, part, quantity);
            }
            Ok(())
        })
    }

    /// The member that holds the stock; `None` if there is none, or it is not calculated.
    fn stock<'a>(&self, row: &WireRow<'a>) -> Option<&'a str> {
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

    fn is_of_named_store(&self, store: Option<&str>) -> bool {
        match (&self.stores, store) {
            (Stores::Named(stores), Some(store)) => stores.iter().any(|known| known == store),
            // A reserve of no store.
            (Stores::Named(_), None) => false,
            (Stores::Total, _) => true,
        }
    }

    /// Which of the stores that is, as a bit.
    fn bit(&self, store: Option<&str>) -> u128 {
        match (&self.stores, store) {
            (Stores::Named(stores), Some(store)) => {
                let at = stores
                    .iter()
                    .position(|known| known == store)
                    .unwrap_or_default();
                store_bit(at)
            }
            (Stores::Named(_), None) | (Stores::Total, _) => store_bit(0),
        }
    }

    /// What a row says.
    fn row(&self, line: u64, json: &str, articles: &Articles) -> Found {
        let row = match serde_json::from_str::<Object<WireRow<'_>>>(json) {
            Ok(Object(row)) => row,
            Err(e) => {
                let reason = format!("the row is unreadable: {e}");
                return Found::Broken(Entry::Rejected(Fault::new(line, json, reason)));
            }
        };
        let Some(Text(id)) = &row.assortment_id else {
            let reason = "the row has no assortmentId";
            return Found::Broken(Entry::Rejected(Fault::new(line, json, reason)));
        };
        let is_asked = self
            .only
            .as_ref()
            .is_none_or(|only| only.contains(id.as_ref()));
        let store = row.store_id.as_ref().map(|Text(store)| store.as_ref());
        if !is_asked || self.parts.nameless.contains(id.as_ref()) || !self.is_of_named_store(store)
        {
            return Found::LeftOut;
        }
        let named = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let problem = match (named, self.stock(&row)) {
            (None, _) => RowProblem::Rejected(format!("the row has no {}", self.stock_type.name())),
            (Some(_), None) => return Found::Recalculating,
            (Some(_), Some(stock)) => match self.reading.quantity(&plain(stock)) {
                Ok(quantity) => {
                    let (key, place) = (Key::Id(id.to_string()), store.map(str::to_owned));
                    let row = Row {
                        line,
                        key,
                        place,
                        quantity,
                        reserve: None,
                        at: None,
                    };
                    let store = row.place.clone();
                    return Found::Stock {
                        id: id.to_string(),
                        store,
                        entry: Entry::Row(row),
                    };
                }
                Err(rule) => rule.into(),
            },
        };
        let entry = problem.into_entry(line, json, articles.sku(id).map(str::to_owned));
        Found::Stock {
            id: id.to_string(),
            store: store.map(str::to_owned),
            entry,
        }
    }
}

/// A number literal without its exponent.
fn plain(literal: &str) -> std::borrow::Cow<'_, str> {
    without_exponent(literal).unwrap_or(literal.into())
}

/// The bit of the store at that place among those named; those beyond the last bit share it.
pub(super) fn store_bit(at: usize) -> u128 {
    1 << at.min(127)
}

/// Reads a list row by row.
fn each_row(
    body: impl io::Read,
    row: &mut dyn FnMut(u64, &str) -> Result<(), GivenUp>,
) -> Result<(), MoySkladError> {
    let mut list = List {
        row,
        is_given_up: false,
    };
    let mut json = serde_json::Deserializer::from_reader(body);
    let read = json.deserialize_seq(&mut list).and_then(|()| json.end());
    if list.is_given_up {
        return Err(GivenUp.into());
    }
    read.map_err(|e| broken(&e))
}

/// Takes the rows of a report as they are read.
struct List<'a> {
    row: &'a mut dyn FnMut(u64, &str) -> Result<(), GivenUp>,
    is_given_up: bool,
}

impl<'de> Visitor<'de> for &mut List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut line = 0;
        while let Some(row) = seq.next_element::<Box<RawValue>>()? {
            line += 1;
            if let Err(given_up) = (self.row)(line, row.get()) {
                self.is_given_up = true;
                return Err(A::Error::custom(given_up));
            }
        }
        Ok(())
    }
}

fn broken(error: &serde_json::Error) -> MoySkladError {
    match error.io_error_kind() {
        Some(io::ErrorKind::FileTooLarge) => MoySkladError::TooLarge,
        Some(_) | None => MoySkladError::Broken(error.to_string()),
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

    fn report(stock_type: StockType, stores: &[&str], nameless: &[&str]) -> Report {
        let owned = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        let stores = match stores {
            [] => Stores::Total,
            some => Stores::Named(owned(some)),
        };
        let nameless = owned(nameless).into_iter().collect();
        let parts = Arc::new(Parts {
            nameless,
            ..Parts::default()
        });
        Report::new((stock_type, stores), parts, &Reading::default())
    }

    fn shown(entry: &Entry) -> String {
        match entry {
            Entry::Row(Row {
                line,
                key: Key::Id(id),
                place,
                quantity,
                ..
            }) => {
                let end = id.rsplit('-').next().unwrap();
                let place = place
                    .as_deref()
                    .map_or("", |p| p.rsplit('-').next().unwrap());
                format!("{line} {end} {place} {}", quantity.unwrap())
            }
            Entry::Rejected(fault) => format!("{} {}", fault.line, fault.reason),
            Entry::Suspicious(fault) => format!("{} doubtful {}", fault.line, fault.reason),
            Entry::Article { id, sku } => format!("{id} is {sku}"),
            Entry::NextPart => "next part".to_owned(),
            Entry::Row(other) => panic!("{other:?}"),
        }
    }

    fn read(report: &Report, body: &str) -> (Result<usize, MoySkladError>, Vec<String>) {
        let mut entries = Vec::new();
        let mut articles = Articles::default();
        let left_out = report.read(body.as_bytes(), &mut articles, &mut |entry| {
            entries.push(shown(&entry));
            Ok(())
        });
        (left_out, entries)
    }

    #[test]
    fn the_documented_report_about_all_stores_is_read() {
        let report = report(
            StockType::Available,
            &[],
            &["12345678-279c-aaeb-0a80-00d6001f3215"],
        );
        let (left_out, entries) = read(&report, ALL);
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
        let (left_out, entries) = read(&report(StockType::Free, &[FIRST_STORE], &[]), BY_STORE);
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
        let (left_out, entries) = read(&report(StockType::Physical, &[], &[]), body);
        assert_eq!(left_out.unwrap(), 0);
        for (entry, begins) in entries.iter().zip([
            "1 a  100",
            "2 the row has no assortmentId",
            "3 the row has no stock",
            "4 the row is unreadable",
            "5 quantity is '-5', it must not be negative",
            "6 quantity is '\"3\"', it must be a number",
            "8 f  4",
        ]) {
            assert!(entry.starts_with(begins), "{entry}, not {begins}");
        }
        // The one without a number is being recalculated, and as it was.
        assert_eq!(entries.len(), 7);
    }

    #[test]
    fn a_report_that_ends_early_or_is_none_is_broken() {
        let report = report(StockType::Free, &[], &[]);
        for (body, reason) in [
            (r#"[{"assortmentId":"a","freeStock":1}"#, "EOF"),
            (r#"[{"assortmentId":"a","freeStock":1}]x"#, "trailing"),
            (r#"{"errors":[]}"#, "expected a list of rows"),
            ("<html>", "expected value"),
            ("", "EOF"),
        ] {
            let error = read(&report, body).0.unwrap_err().to_string();
            assert!(error.contains(reason), "{body}: {error}");
        }
        let mut nobody = |_| Err(GivenUp);
        let given_up = report.read(&b"[{}]"[..], &mut Articles::default(), &mut nobody);
        assert!(matches!(given_up, Err(MoySkladError::GivenUp(GivenUp))));
    }

    fn page(field: SkuField) -> (Vec<String>, Vec<String>) {
        let mut catalogue = Catalogue::default();
        assert!(
            catalogue
                .add(read_page(ASSORTMENT.as_bytes(), field, &Reading::default()).unwrap())
                .unwrap()
        );
        let mut entries: Vec<_> = catalogue.take_entries().iter().map(shown).collect();
        entries.extend(catalogue.archived().iter().map(shown));
        let mut nameless: Vec<_> = catalogue.finish().1.nameless.into_iter().collect();
        nameless.sort();
        (entries, nameless)
    }

    #[test]
    fn a_product_is_its_article_unless_it_has_none_or_another_took_it_over() {
        let (entries, nameless) = page(SkuField::Article);
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
            let (entries, _) = page(field);
            assert!(entries.contains(&variant), "{entries:?}");
        }
    }

    fn products(ids: &[(&str, &str)], size: Option<usize>) -> Page {
        let product = |&(id, sku): &(&str, &str)| {
            let (id, sku) = (id.to_owned(), Some(sku.to_owned()));
            let (kind, problem, parent) = (PartKind::Product, None, None);
            Ok(Product {
                id,
                sku,
                problem,
                is_archived: false,
                kind,
                parent,
            })
        };
        Page {
            size,
            products: ids.iter().map(product).collect(),
        }
    }

    #[test]
    fn the_last_page_is_told_by_the_size_and_not_by_its_length() {
        let mut catalogue = Catalogue::default();
        assert!(
            !catalogue
                .add(products(&[("a", "A"), ("b", "B")], Some(3)))
                .unwrap()
        );
        assert_eq!(catalogue.offset, 2);
        // One of them again, because the list moved meanwhile.
        assert!(
            catalogue
                .add(products(&[("b", "B"), ("c", "C")], Some(3)))
                .unwrap()
        );
        assert_eq!(catalogue.take_entries().len(), 3);
        let mut unsized_one = Catalogue::default();
        assert!(unsized_one.add(products(&[("a", "A")], None)).unwrap());
        let mut empty = Catalogue::default();
        assert!(empty.add(products(&[], Some(3))).unwrap());
    }

    #[test]
    fn a_page_that_tells_nothing_new_is_the_end_of_patience() {
        let mut catalogue = Catalogue::default();
        let page = || products(&[("a", "A"), ("b", "B")], Some(9));
        assert!(!catalogue.add(page()).unwrap());
        assert!(matches!(catalogue.add(page()), Err(MoySkladError::Endless)));
    }

    #[test]
    fn one_sku_of_two_products_is_told() {
        let mut catalogue = Catalogue::default();
        catalogue
            .add(products(&[("a", "A"), ("b", "A")], None))
            .unwrap();
        let entries: Vec<_> = catalogue.take_entries().iter().map(shown).collect();
        let doubt = "2 doubtful sku 'A' is that of two products in use";
        assert_eq!(entries, ["a is A", doubt, "b is A"]);
    }

    /// A product and parts of it without an article: two variants, and a batch of one of them.
    const PARTS: &str = r#"{"meta":{"size":6},"rows":[
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

    fn catalogue(page: &str) -> (Articles, Parts) {
        let mut catalogue = Catalogue::default();
        let page = read_page(page.as_bytes(), SkuField::Article, &Reading::default()).unwrap();
        assert!(catalogue.add(page).unwrap());
        catalogue.archived();
        catalogue.finish()
    }

    fn with_hidden(page: &str, body: &str) -> (Vec<String>, Vec<String>) {
        let (mut articles, parts) = catalogue(page);
        let stores = (StockType::Physical, Stores::Total);
        let mut report = Report::new(stores, Arc::new(parts), &Reading::default());
        let mut hidden = HiddenStock::of_field(SkuField::Article);
        report.hidden(body.as_bytes(), &mut hidden).unwrap();
        let notices = hidden.notice().into_iter().collect();
        report.hidden = Arc::new(hidden);
        let mut entries = Vec::new();
        let put = &mut |entry| {
            entries.push(shown(&entry));
            Ok(())
        };
        report.read(body.as_bytes(), &mut articles, put).unwrap();
        (entries, notices)
    }

    #[test]
    fn parts_are_found_up_to_the_product_with_a_sku() {
        let (_, parts) = catalogue(PARTS);
        for (id, sku, kind) in [
            ("s1", Some("SHOE"), PartKind::Variant),
            ("s2", Some("SHOE"), PartKind::Variant),
            ("b", Some("SHOE"), PartKind::Batch),
            ("k", None, PartKind::Kit),
        ] {
            let part = &parts.parts[id];
            let whole = part.whole.as_ref().map(|(_, sku)| sku.as_str());
            assert_eq!((whole, part.kind), (sku, kind), "{id}");
        }
        assert!(!parts.parts.contains_key("old") && parts.nameless.contains("old"));
    }

    #[test]
    fn stock_of_variants_without_a_sku_makes_their_product_suspicious() {
        let row = |id: &str, stock: u32| format!(r#"{{"assortmentId":"{id}","stock":{stock}}}"#);
        let report = |rows: &[(&str, u32)]| {
            let rows: Vec<_> = rows.iter().map(|(id, stock)| row(id, *stock)).collect();
            with_hidden(PARTS, &format!("[{}]", rows.join(",")))
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
        let (left_out, entries) = read(&report(StockType::Physical, &[], &[]), body);
        assert_eq!((left_out.unwrap(), entries), (0, vec!["3 c  3".to_owned()]));
    }

    #[test]
    fn a_rejected_row_names_the_sku_of_its_id() {
        let (mut articles, parts) = catalogue(PARTS);
        let stores = (StockType::Physical, Stores::Total);
        let report = Report::new(stores, Arc::new(parts), &Reading::default());
        let mut skus = Vec::new();
        let put = &mut |entry| {
            let Entry::Rejected(fault) = entry else {
                panic!("{entry:?}")
            };
            skus.push(fault.sku);
            Ok(())
        };
        let body = r#"[{"assortmentId":"s","stock":-3},{"assortmentId":"s","stock":1.5},
            {"assortmentId":"s"},{"assortmentId":"new","stock":-1}]"#;
        report.read(body.as_bytes(), &mut articles, put).unwrap();
        let shoe = || Some("SHOE".to_owned());
        assert_eq!(skus, [shoe(), shoe(), shoe(), None]);
    }

    #[test]
    fn a_spoilt_article_is_undone_or_suspicious() {
        let page = |article: &str| {
            let rows = format!(r#"{{"id":"a","article":{article}}}"#);
            let page = format!(r#"{{"meta":{{"size":1}},"rows":[{rows}]}}"#);
            let mut catalogue = Catalogue::default();
            let read = read_page(page.as_bytes(), SkuField::Article, &Reading::default());
            assert!(catalogue.add(read.unwrap()).unwrap());
            let entries: Vec<_> = catalogue.take_entries().iter().map(shown).collect();
            (
                entries.join(""),
                catalogue.finish().1.nameless.contains("a"),
            )
        };
        for (article, entry, is_nameless) in [
            (r#""'TEA-1""#, "a is TEA-1", false),
            (r#""=\"0557722\"""#, "a is 0557722", false),
            (r##""#Н/Д""##, "1 doubtful sku is '#Н/Д'", true),
            (r#""5.577E+05""#, "1 doubtful sku is '5.577E+05'", true),
            (r#""  ""#, "", true),
        ] {
            let (entries, nameless) = page(article);
            assert!(entries.starts_with(entry), "{article}: {entries}");
            assert_eq!(nameless, is_nameless, "{article}");
        }
    }

    #[test]
    fn fractions_of_any_length_are_cut_where_that_is_set() {
        let body = r#"[{"assortmentId":"a","stock":7.12345678901},{"assortmentId":"b","stock":1.25E1},
            {"assortmentId":"c","stock":3.0E-13},{"assortmentId":"d","stock":2.000},
            {"assortmentId":"e","stock":2.9999999999999996}]"#;
        let shown = |reading: &Reading| {
            let stores = (StockType::Physical, Stores::Total);
            read(&Report::new(stores, Arc::default(), reading), body).1
        };
        let floors = Reading {
            floors_fractions: true,
            ..Reading::default()
        };
        assert_eq!(
            shown(&floors),
            ["1 a  7.123", "2 b  12.5", "3 c  0", "4 d  2", "5 e  3"]
        );
        // What a setting says of texts is not about literals.
        let comma = Reading {
            decimal: Some(DecimalMark::Comma),
            ..floors
        };
        assert_eq!(shown(&comma)[3], "4 d  2");
        assert!(shown(&Reading::default())[0].contains("it must be whole"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let put = &mut |_| Ok(());
            let articles = &mut Articles::default();
            let _any = report(StockType::Free, &[], &[]).read(&body[..], articles, put);
            let _any = read_page(&body[..], SkuField::Article, &Reading::default());
        }

        #[test]
        fn no_mutation_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mutated = |text: &str| {
                let mut body = text.as_bytes().to_vec();
                for (place, byte) in &changes {
                    let place = place.index(body.len());
                    body[place] = *byte;
                }
                body
            };
            let put = &mut |_| Ok(());
            let report = report(StockType::Free, &[FIRST_STORE], &[]);
            let _any = report.read(&mutated(BY_STORE)[..], &mut Articles::default(), put);
            let reading = Reading::default();
            if let Ok(page) = read_page(&mutated(ASSORTMENT)[..], SkuField::Article, &reading) {
                let mut catalogue = Catalogue::default();
                let _any = catalogue.add(page);
                catalogue.archived();
                catalogue.finish();
            }
        }
    }
}

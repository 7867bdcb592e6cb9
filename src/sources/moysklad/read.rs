//! What the service answers, read: pages of the assortment, and reports about stock.
//!
//! Pure: bytes in, entries out. A bad row is set aside and spoils no other.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{MoySkladError, PAGE, SkuField, StockType, Stores};
use crate::http::json::{Object, Text, without_exponent};
use crate::sources::row::{Entry, Fault, GivenUp, Key, Reading, Row};

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
struct WireMeta<'a> {
    #[serde(borrow, default)]
    href: Option<Text<'a>>,
}

/// One product of the assortment.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Product {
    id: String,
    /// `None` if the field is empty.
    sku: Option<String>,
    is_archived: bool,
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
pub(super) fn read_page(body: impl Read, field: SkuField) -> Result<Page, MoySkladError> {
    let Object(page) =
        serde_json::from_reader::<_, Object<WirePage>>(body).map_err(|e| broken(&e))?;
    let read = |row: Box<RawValue>| {
        read_product(row.get(), field).map_err(|reason| (row.get().to_owned(), reason))
    };
    Ok(Page { size: page.meta.0.size, products: page.rows.into_iter().map(read).collect() })
}

fn read_product(json: &str, field: SkuField) -> Result<Product, String> {
    let Object(wire) = serde_json::from_str::<Object<WireProduct<'_>>>(json)
        .map_err(|e| format!("the product is unreadable: {e}"))?;
    let last_segment = |href: Text<'_>| {
        let path = href.0.split(['?', '#']).next().unwrap_or_default().to_owned();
        path.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let id = match wire.id {
        Some(id) => Some(id.0.into_owned()),
        None => wire.meta.and_then(|meta| meta.href).map(last_segment),
    };
    let id = id.filter(|id| !id.is_empty()).ok_or("the product has neither id nor href")?;
    let raw = match field {
        SkuField::Article => wire.article,
        SkuField::Code => wire.code,
        SkuField::ExternalCode => wire.external_code,
        SkuField::Name => wire.name,
    };
    let sku = match raw.map(RawValue::get) {
        None => None,
        Some(json) => {
            let no_text = |_| format!("{} is {json}, it must be a text", field.name());
            let Text(text) = serde_json::from_str::<Text<'_>>(json).map_err(no_text)?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        }
    };
    Ok(Product { id, sku, is_archived: wire.archived })
}

/// What the pages so far have told.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// Where the next page begins.
    pub(super) offset: usize,
    ids: HashSet<String>,
    /// SKUs of products in use.
    skus: HashSet<String>,
    pub(super) nameless: HashSet<String>,
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
                    self.entries.push(Entry::Rejected(Fault::new(line, &text, reason)));
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
        let Product { id, sku, is_archived } = product;
        // Told twice if the assortment changed between two pages.
        if !self.ids.insert(id.clone()) {
            return;
        }
        match sku {
            None => {
                self.nameless.insert(id);
            }
            Some(sku) if is_archived => self.archived.push((line, id, sku)),
            Some(sku) => {
                if !self.skus.insert(sku.clone()) {
                    let reason = format!("sku '{sku}' is that of two products in use");
                    self.entries.push(Entry::Suspicious(Fault::new(line, &id, reason)));
                }
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
                entries.push(Entry::Suspicious(Fault::new(line, &id, reason)));
            }
            entries.push(Entry::Article { id, sku });
        }
        entries
    }
}

#[derive(Deserialize)]
struct WireRow<'a> {
    #[serde(borrow, default, rename = "assortmentId")]
    assortment_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "storeId")]
    store_id: Option<Text<'a>>,
    #[serde(borrow, default, rename = "freeStock")]
    free_stock: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stock: Option<&'a RawValue>,
}

/// How a report about current stock is read.
pub(super) struct Report {
    pub(super) stock_type: StockType,
    pub(super) stores: Stores,
    pub(super) nameless: Arc<HashSet<String>>,
    pub(super) reading: Reading,
}

/// Where the rows of a report go.
type Put<'a> = &'a mut dyn FnMut(Entry) -> Result<(), GivenUp>;

impl Report {
    /// Reads a report row by row; tells how many were left out.
    pub(super) fn read(&self, body: impl Read, put: Put<'_>) -> Result<usize, MoySkladError> {
        let mut list = List { report: self, put, left_out: 0, is_given_up: false };
        let mut json = serde_json::Deserializer::from_reader(body);
        let read = json.deserialize_seq(&mut list).and_then(|()| json.end());
        if list.is_given_up {
            return Err(GivenUp.into());
        }
        read.map_err(|e| broken(&e))?;
        Ok(list.left_out)
    }

    /// What a row says; `None` if it is none of ours.
    fn entry(&self, line: u64, json: &str) -> Option<Entry> {
        let rejected = |reason: String| Some(Entry::Rejected(Fault::new(line, json, reason)));
        let row = match serde_json::from_str::<Object<WireRow<'_>>>(json) {
            Ok(Object(row)) => row,
            Err(e) => return rejected(format!("the row is unreadable: {e}")),
        };
        let Some(Text(id)) = row.assortment_id else {
            return rejected("the row has no assortmentId".to_owned());
        };
        if self.nameless.contains(id.as_ref()) {
            return None;
        }
        let place = row.store_id.map(|Text(store)| store.into_owned());
        match (&self.stores, &place) {
            (Stores::Named(stores), Some(store)) if stores.contains(store) => {}
            // A reserve of no store, or a store that was not asked for.
            (Stores::Named(_), _) => return None,
            (Stores::Total, _) => {}
        }
        let stock = match self.stock_type {
            StockType::Free => row.free_stock,
            StockType::Available => row.quantity,
            StockType::Physical => row.stock,
        };
        let Some(stock) = stock.map(RawValue::get) else {
            return rejected(format!("the row has no {}", self.stock_type.name()));
        };
        match self.reading.quantity(&without_exponent(stock).unwrap_or(stock.into())) {
            Ok(quantity) => Some(Entry::Row(Row {
                line,
                key: Key::Id(id.into_owned()),
                place,
                quantity,
                reserve: None,
                at: None,
            })),
            Err(rule) => rejected(rule.to_string()),
        }
    }
}

/// Takes the rows of a report as they are read.
struct List<'a> {
    report: &'a Report,
    put: Put<'a>,
    left_out: usize,
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
            let Some(entry) = self.report.entry(line, row.get()) else {
                self.left_out += 1;
                continue;
            };
            if let Err(given_up) = (self.put)(entry) {
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
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let stores = match stores {
            [] => Stores::Total,
            some => Stores::Named(owned(some)),
        };
        let nameless = Arc::new(owned(nameless).into_iter().collect());
        Report { stock_type, stores, nameless, reading: Reading::default() }
    }

    fn shown(entry: &Entry) -> String {
        match entry {
            Entry::Row(Row { line, key: Key::Id(id), place, quantity, .. }) => {
                let end = id.rsplit('-').next().unwrap();
                let place = place.as_deref().map_or("", |p| p.rsplit('-').next().unwrap());
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
        let left_out = report.read(body.as_bytes(), &mut |entry| {
            entries.push(shown(&entry));
            Ok(())
        });
        (left_out, entries)
    }

    #[test]
    fn the_documented_report_about_all_stores_is_read() {
        let report = report(StockType::Available, &[], &["12345678-279c-aaeb-0a80-00d6001f3215"]);
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
        let expected = ["1 003a003ef439 012b0001bb10 4", "4 00d6001f847c 012b0001bb10 46"];
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
            "7 the row has no stock",
            "8 f  4",
        ]) {
            assert!(entry.starts_with(begins), "{entry}, not {begins}");
        }
        assert_eq!(entries.len(), 8);
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
        let given_up = report.read(&b"[{}]"[..], &mut nobody);
        assert!(matches!(given_up, Err(MoySkladError::GivenUp(GivenUp))));
    }

    fn page(field: SkuField) -> (Vec<String>, Vec<String>) {
        let mut catalogue = Catalogue::default();
        assert!(catalogue.add(read_page(ASSORTMENT.as_bytes(), field).unwrap()).unwrap());
        let mut entries: Vec<_> = catalogue.take_entries().iter().map(shown).collect();
        entries.extend(catalogue.archived().iter().map(shown));
        let mut nameless: Vec<_> = catalogue.nameless.into_iter().collect();
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
            Ok(Product { id, sku, is_archived: false })
        };
        Page { size, products: ids.iter().map(product).collect() }
    }

    #[test]
    fn the_last_page_is_told_by_the_size_and_not_by_its_length() {
        let mut catalogue = Catalogue::default();
        assert!(!catalogue.add(products(&[("a", "A"), ("b", "B")], Some(3))).unwrap());
        assert_eq!(catalogue.offset, 2);
        // One of them again, because the list moved meanwhile.
        assert!(catalogue.add(products(&[("b", "B"), ("c", "C")], Some(3))).unwrap());
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
        catalogue.add(products(&[("a", "A"), ("b", "A")], None)).unwrap();
        let entries: Vec<_> = catalogue.take_entries().iter().map(shown).collect();
        let doubt = "2 doubtful sku 'A' is that of two products in use";
        assert_eq!(entries, ["a is A", doubt, "b is A"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let put = &mut |_| Ok(());
            let _any = report(StockType::Free, &[], &[]).read(&body[..], put);
            let _any = read_page(&body[..], SkuField::Article);
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
            let _any = report(StockType::Free, &[FIRST_STORE], &[]).read(&mutated(BY_STORE)[..], put);
            if let Ok(page) = read_page(&mutated(ASSORTMENT)[..], SkuField::Article) {
                let mut catalogue = Catalogue::default();
                let _any = catalogue.add(page);
                catalogue.archived();
            }
        }
    }
}

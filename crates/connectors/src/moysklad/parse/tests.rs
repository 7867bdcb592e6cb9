//! Tests of the parsers with the documented responses, broken ones and random bytes.

use std::sync::Arc;

use proptest::prelude::*;
use stock_import::DecimalMark;
use stock_import::{DeliveryCancelled, DeliveryEntry, ProductKey, ReadSettings, Row};

use super::assortment::{AssortmentPage, MoySkladProduct};
use super::*;
use crate::moysklad::products::{ProductKind, ProductsWithoutSku, SkuProducts, StockWithoutSku};
use crate::moysklad::{SkuField, StockType, StoreSelection};

const ALL: &str = include_str!("../../../../../fixtures/sources/moysklad-stock-all.json");
const BY_STORE: &str = include_str!("../../../../../fixtures/sources/moysklad-stock-by-store.json");
const ASSORTMENT: &str = include_str!("../../../../../fixtures/sources/moysklad-assortment.json");
const FIRST_STORE: &str = "12345678-b123-aaee-0a80-012b0001bb10";

fn report_reader(stock_type: StockType, stores: &[&str], without_sku: &[&str]) -> ReportReader {
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
    let without_sku = Arc::new(ProductsWithoutSku {
        ids: owned(without_sku).into_iter().collect(),
        ..ProductsWithoutSku::default()
    });
    ReportReader::new((stock_type, stores), without_sku, &ReadSettings::default())
}

fn describe(entry: &DeliveryEntry) -> String {
    match entry {
        DeliveryEntry::Row(Row {
            line,
            key: ProductKey::Id(id),
            warehouse,
            quantity,
            ..
        }) => {
            let end = id.rsplit('-').next().unwrap();
            let warehouse = warehouse
                .as_deref()
                .map_or("", |id| id.rsplit('-').next().unwrap());
            format!("{line} {end} {warehouse} {}", quantity.unwrap())
        }
        DeliveryEntry::Rejected(row) => format!("{} {}", row.line, row.reason),
        DeliveryEntry::Suspicious(row) => format!("{} suspicious {}", row.line, row.reason),
        DeliveryEntry::Article { id, sku } => format!("{id} is {sku}"),
        DeliveryEntry::PartBoundary => "part boundary".to_owned(),
        DeliveryEntry::Row(other) => panic!("{other:?}"),
    }
}

fn read_report(report: &ReportReader, body: &str) -> (Result<usize, MoySkladError>, Vec<String>) {
    let mut entries = Vec::new();
    let mut products = SkuProducts::default();
    let ignored_rows = report.read(body.as_bytes(), &mut products, &mut |entry| {
        entries.push(describe(&entry));
        Ok(())
    });
    (ignored_rows, entries)
}

#[test]
fn reads_the_documented_report_of_all_stores() {
    let report = report_reader(
        StockType::Available,
        &[],
        &["12345678-279c-aaeb-0a80-00d6001f3215"],
    );
    let (ignored_rows, entries) = read_report(&report, ALL);
    assert_eq!(
        entries,
        [
            "1 003a003ef439  11",
            "2 00d6001f1981  0",
            "3 quantity is '46.5', it must be whole, or set fraction = \"floor\"",
        ]
    );
    assert_eq!(ignored_rows.unwrap(), 1);
}

#[test]
fn reads_only_named_stores_of_the_documented_report() {
    let (ignored_rows, entries) = read_report(
        &report_reader(StockType::Free, &[FIRST_STORE], &[]),
        BY_STORE,
    );
    let expected = [
        "1 003a003ef439 012b0001bb10 4",
        "4 00d6001f847c 012b0001bb10 46",
    ];
    assert_eq!(entries, expected);
    // A row of the other store, and a reserve without a store.
    assert_eq!(ignored_rows.unwrap(), 2);
}

#[test]
fn bad_rows_do_not_affect_other_rows() {
    let body = r#"[{"assortmentId":"a","stock":1.0E2},{"stock":1},{"assortmentId":"b"},7,
        {"assortmentId":"c","stock":-5},{"assortmentId":"d","stock":"3"},
        {"assortmentId":"e","stock":null},{"assortmentId":"f","stock":4,"new":{"x":[1]}}]"#;
    let (ignored_rows, entries) = read_report(&report_reader(StockType::Physical, &[], &[]), body);
    assert_eq!(ignored_rows.unwrap(), 0);
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
    // The row with null is being recalculated and has no entry.
    assert_eq!(entries.len(), 7);
}

#[test]
fn rejects_truncated_and_foreign_reports() {
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
            .add_page(parse_page(ASSORTMENT.as_bytes(), field, &ReadSettings::default()).unwrap())
            .unwrap()
    );
    let mut entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
    entries.extend(builder.archived_entries().iter().map(describe));
    let mut without_sku: Vec<_> = builder.finish().1.ids.into_iter().collect();
    without_sku.sort();
    (entries, without_sku)
}

#[test]
fn the_article_is_the_sku_of_a_product() {
    let (entries, without_sku) = assortment_entries(SkuField::Article);
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
        without_sku,
        [
            "12345678-279c-aaeb-0a80-00d6001f1981",
            "12345678-279c-aaeb-0a80-00d6001f3215",
            "a-service",
        ]
    );
}

#[test]
fn other_fields_can_be_the_sku() {
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
fn the_total_size_decides_the_last_page() {
    let mut builder = AssortmentBuilder::default();
    assert!(
        !builder
            .add_page(assortment_page(&[("a", "A"), ("b", "B")], Some(3)))
            .unwrap()
    );
    assert_eq!(builder.offset, 2);
    // A product appears again, because the list shifted in the meantime.
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
fn fails_on_a_repeated_page() {
    let mut builder = AssortmentBuilder::default();
    let same_page = || assortment_page(&[("a", "A"), ("b", "B")], Some(9));
    assert!(!builder.add_page(same_page()).unwrap());
    assert!(matches!(
        builder.add_page(same_page()),
        Err(MoySkladError::EndlessAssortment)
    ));
}

#[test]
fn duplicate_skus_are_suspicious() {
    let mut builder = AssortmentBuilder::default();
    builder
        .add_page(assortment_page(&[("a", "A"), ("b", "A")], None))
        .unwrap();
    let entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
    let suspicious = "2 suspicious sku 'A' belongs to two products in use";
    assert_eq!(entries, ["a is A", suspicious, "b is A"]);
}

/// Product with parts without an article: two variants, and a batch of one of them.
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
    let page = parse_page(page.as_bytes(), SkuField::Article, &ReadSettings::default()).unwrap();
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
fn finds_the_parent_product_with_a_sku() {
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
fn variants_without_sku_make_their_product_suspicious() {
    let row = |id: &str, stock: u32| format!(r#"{{"assortmentId":"{id}","stock":{stock}}}"#);
    let report = |rows: &[(&str, u32)]| {
        let rows: Vec<_> = rows.iter().map(|(id, stock)| row(id, *stock)).collect();
        read_with_parts(PRODUCT_WITH_PARTS, &format!("[{}]", rows.join(",")))
    };
    for (rows, entry, notice) in [
        // The product has 0, two variants have 12 pieces.
        (
            &[("s", 0), ("s1", 5), ("s2", 7)][..],
            "1 suspicious 2 variants of sku 'SHOE' have no article of their own but hold 12 pieces",
            "2 variants without article hold 12 pieces",
        ),
        // The product has its own quantity, and its row follows the variant.
        (
            &[("s2", 7), ("s", 3)],
            "2 suspicious 1 variant",
            "1 variant without",
        ),
        // Neither has stock.
        (&[("s", 0), ("s1", 0)], "1 s  0", ""),
        // A batch is part of the product's own stock.
        (&[("s", 4), ("b", 4)], "1 s  4", "1 batch"),
        (&[("s", 0), ("b", 4)], "1 suspicious 1 batch", "1 batch"),
        (
            &[("s", 2), ("k", 3)],
            "1 s  2",
            "1 kit without article holds 3 pieces",
        ),
    ] {
        let (entries, notices) = report(rows);
        assert_eq!(entries.len(), 1, "{rows:?}: {entries:?}");
        assert!(entries[0].starts_with(entry), "{rows:?}: {entries:?}");
        let first_notice = notices.first().map_or("", String::as_str);
        assert!(first_notice.starts_with(notice), "{rows:?}: {notices:?}");
        assert_eq!(
            first_notice.is_empty(),
            notice.is_empty(),
            "{rows:?}: {notices:?}"
        );
    }
}

#[test]
fn invalid_rows_have_no_quantity() {
    let body = r#"[{"assortmentId":"a","stock":0,"isValid":false},
        {"assortmentId":"b","stock":null},{"assortmentId":"c","stock":3,"isValid":true}]"#;
    let (ignored_rows, entries) = read_report(&report_reader(StockType::Physical, &[], &[]), body);
    assert_eq!(
        (ignored_rows.unwrap(), entries),
        (0, vec!["3 c  3".to_owned()])
    );
}

#[test]
fn rejected_rows_name_the_sku_of_their_id() {
    let (mut products, without_sku) = build_products(PRODUCT_WITH_PARTS);
    let stores = (StockType::Physical, StoreSelection::Total);
    let report = ReportReader::new(stores, Arc::new(without_sku), &ReadSettings::default());
    let mut skus = Vec::new();
    let emit = &mut |entry| {
        let DeliveryEntry::Rejected(row) = entry else {
            panic!("{entry:?}")
        };
        skus.push(row.sku);
        Ok(())
    };
    let body = r#"[{"assortmentId":"s","stock":-3},{"assortmentId":"s","stock":1.5},
        {"assortmentId":"s"},{"assortmentId":"new","stock":-1}]"#;
    report.read(body.as_bytes(), &mut products, emit).unwrap();
    let shoe = || Some("SHOE".to_owned());
    assert_eq!(skus, [shoe(), shoe(), shoe(), None]);
}

#[test]
fn damaged_articles_are_repaired_or_suspicious() {
    let read_article = |article: &str| {
        let rows = format!(r#"{{"id":"a","article":{article}}}"#);
        let page = format!(r#"{{"meta":{{"size":1}},"rows":[{rows}]}}"#);
        let mut builder = AssortmentBuilder::default();
        let parsed = parse_page(page.as_bytes(), SkuField::Article, &ReadSettings::default());
        assert!(builder.add_page(parsed.unwrap()).unwrap());
        let entries: Vec<_> = builder.take_entries().iter().map(describe).collect();
        (entries.join(""), builder.finish().1.ids.contains("a"))
    };
    for (article, entry, is_without_sku) in [
        (r#""'TEA-1""#, "a is TEA-1", false),
        (r#""=\"0557722\"""#, "a is 0557722", false),
        (r##""#Н/Д""##, "1 suspicious sku is '#Н/Д'", true),
        (r#""5.577E+05""#, "1 suspicious sku is '5.577E+05'", true),
        (r#""  ""#, "", true),
    ] {
        let (entries, without_sku) = read_article(article);
        assert!(entries.starts_with(entry), "{article}: {entries}");
        assert_eq!(without_sku, is_without_sku, "{article}");
    }
}

#[test]
fn floors_fractions_of_any_length_if_configured() {
    let body = r#"[{"assortmentId":"a","stock":7.12345678901},{"assortmentId":"b","stock":1.25E1},
        {"assortmentId":"c","stock":3.0E-13},{"assortmentId":"d","stock":2.000},
        {"assortmentId":"e","stock":2.9999999999999996}]"#;
    let described = |settings: &ReadSettings| {
        let stores = (StockType::Physical, StoreSelection::Total);
        read_report(&ReportReader::new(stores, Arc::default(), settings), body).1
    };
    let floors = ReadSettings {
        floors_fractions: true,
        ..ReadSettings::default()
    };
    assert_eq!(
        described(&floors),
        ["1 a  7.123", "2 b  12.5", "3 c  0", "4 d  2", "5 e  3"]
    );
    // The setting applies to texts only, not to JSON numbers.
    let comma = ReadSettings {
        decimal: Some(DecimalMark::Comma),
        ..floors
    };
    assert_eq!(described(&comma)[3], "4 d  2");
    assert!(described(&ReadSettings::default())[0].contains("it must be whole"));
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let emit = &mut |_| Ok(());
        let products = &mut SkuProducts::default();
        let _any = report_reader(StockType::Free, &[], &[]).read(&body[..], products, emit);
        let _any = parse_page(&body[..], SkuField::Article, &ReadSettings::default());
    }

    #[test]
    fn mutated_fixtures_do_not_panic(
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

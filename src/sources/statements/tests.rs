//! Tests of CommerceML variants, from a file to the book.

use std::io::Cursor;

use connectors::{Completeness, EntrySender};
use stock_import::delivery_guard::GuardLimits;
use stock_import::formats::{self, Format};
use stock_import::stock_rules::ShopRules;
use stock_import::{DeliveryEntry, DeliveryScope, ReadSettings, VariantPolicy};

use super::{FORMAT, StatementStore};
use crate::sources::pipeline::tests::{PipelineHarness, now, row, stock, test_policy};
use crate::sources::{
    AbsentPolicy, DeliveryOutcome, DeliveryReport, SourcePolicy, SourceWarehouses,
};

const CATALOGUE: &str = "<КоммерческаяИнформация ВерсияСхемы=\"2.10\"><Каталог><Товары>\
    <Товар><Ид>p1</Ид><Артикул>SHOE-1</Артикул></Товар>\
    <Товар><Ид>p2</Ид><Артикул>BAG-2</Артикул></Товар>\
    </Товары></Каталог></КоммерческаяИнформация>";

/// Offers by id, with an article if one follows after a blank.
fn offers(offers: &[(&str, &str)]) -> String {
    let offer = |(name, quantity): &(&str, &str)| {
        let (id, article) = name.split_once(' ').unwrap_or((name, ""));
        format!(
            "<Предложение><Ид>{id}</Ид><Артикул>{article}</Артикул>\
             <Количество>{quantity}</Количество></Предложение>"
        )
    };
    let offers: String = offers.iter().map(offer).collect();
    format!(
        "<КоммерческаяИнформация><ПакетПредложений><Предложения>{offers}</Предложения>\
         </ПакетПредложений></КоммерческаяИнформация>"
    )
}

fn variant_policy(variants: VariantPolicy) -> SourcePolicy {
    let limits = GuardLimits {
        max_zeroed_ratio: 1.0,
        min_rows_ratio: 0.0,
        ..GuardLimits::default()
    };
    SourcePolicy {
        scope: None,
        warehouses: SourceWarehouses::All,
        variants,
        limits,
        ..test_policy("1c")
    }
}

async fn new_harness(variants: VariantPolicy) -> PipelineHarness {
    PipelineHarness::new(vec![variant_policy(variants)], ShopRules::default()).await
}

const DELTA: Completeness = Completeness::Certain(DeliveryScope::Delta);
const SNAPSHOT: Completeness = Completeness::Certain(DeliveryScope::Snapshot);

fn exchange_file(declared: DeliveryScope, is_numbered: bool) -> Completeness {
    Completeness::ExchangeFile {
        declared: Some(declared),
        is_numbered,
    }
}

/// Delivers some files as one delivery.
async fn deliver(
    harness: &PipelineHarness,
    files: &[&str],
    completeness: Completeness,
) -> DeliveryReport {
    let mut entries = Vec::new();
    for file in files {
        let mut input = Cursor::new(file.as_bytes());
        formats::read(
            Format::CommerceMl,
            &mut input,
            &ReadSettings::default(),
            &mut |entry| {
                entries.push(entry);
                Ok(())
            },
        )
        .unwrap();
    }
    deliver_entries(harness, entries, completeness).await
}

async fn deliver_entries(
    harness: &PipelineHarness,
    entries: Vec<DeliveryEntry>,
    completeness: Completeness,
) -> DeliveryReport {
    let read = async |rows: &mut EntrySender| {
        for entry in entries {
            rows.send(entry).await.unwrap();
        }
        Ok(completeness)
    };
    let report = harness
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap();
    assert_eq!(report.outcome, DeliveryOutcome::Applied, "{report:?}");
    report
}

/// Returns the reason of the only suspicious row.
fn reason(report: &DeliveryReport) -> &str {
    let [row] = &report.first_rejected[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (report.suspicious, row.text.as_str()),
        (1, "SHOE-1"),
        "{report:?}"
    );
    &row.reason
}

#[tokio::test]
async fn single_variant_in_delta_is_suspicious() {
    for (variant, quantity) in [
        ("p1#size-42", "0"),
        ("p1#size-42", "3"),
        ("p1#size-42 SHOE-1", "0"),
    ] {
        let stock_levels = offers(&[(variant, quantity), ("p2", "4")]);
        for deliveries in [
            &[&[CATALOGUE][..], &[&stock_levels]][..],
            &[&[CATALOGUE, &stock_levels]],
        ] {
            let harness = new_harness(VariantPolicy::Reject).await;
            let mut report = deliver_entries(&harness, vec![row("SHOE-1", 9)], DELTA).await;
            for files in deliveries {
                report = deliver(&harness, files, DELTA).await;
            }
            assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
            let reason = reason(&report);
            let parts = [
                "variant p1#size-42",
                "sku = \"Ид\"",
                "mapping_file",
                "\"sum\"",
            ];
            assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
        }
    }
}

/// Delivers two variants and another product. Returns the report and the stock.
async fn two_variants(
    variants: VariantPolicy,
    (repeats, one, other): (&str, &str, &str),
    completeness: Completeness,
) -> (DeliveryReport, std::collections::BTreeMap<String, u32>) {
    let (first, second) = (format!("p1#41{repeats}"), format!("p1#42{repeats}"));
    let package = offers(&[(&first, one), (&second, other), ("p2", "4")]);
    let harness = new_harness(variants).await;
    let report = deliver(&harness, &[CATALOGUE, &package], completeness).await;
    (report, harness.stock())
}

#[tokio::test]
async fn variants_of_one_article_follow_the_setting() {
    for (one, other, sum) in [("7", "7", 14), ("7", "0", 7), ("5", "8", 13)] {
        for repeats in ["", " SHOE-1"] {
            for completeness in [
                SNAPSHOT,
                DELTA,
                exchange_file(DeliveryScope::Snapshot, true),
            ] {
                let numbers = (repeats, one, other);
                let (report, left) =
                    two_variants(VariantPolicy::Reject, numbers, completeness).await;
                assert_eq!(left, stock([("BAG-2", 4)]));
                assert!(reason(&report).contains("2 variants of the product p1, p1#41, p1#42"));
                let (_, summed) = two_variants(VariantPolicy::Sum, numbers, completeness).await;
                assert_eq!(summed, stock([("BAG-2", 4), ("SHOE-1", sum)]));
            }
        }
    }
    let (_, none) = two_variants(VariantPolicy::Sum, ("", "0", "0"), SNAPSHOT).await;
    assert_eq!(none, stock([("BAG-2", 4), ("SHOE-1", 0)]));
    let (report, left) = two_variants(VariantPolicy::Sum, ("", "0", "0"), DELTA).await;
    assert!(
        reason(&report).contains("others may have some"),
        "{report:?}"
    );
    assert_eq!(left, stock([("BAG-2", 4)]));
}

#[tokio::test]
async fn repeated_article_without_catalogue_is_suspicious() {
    let harness = new_harness(VariantPolicy::Reject).await;
    deliver_entries(&harness, vec![row("SHOE-1", 9)], DELTA).await;
    let report = deliver(&harness, &[&offers(&[("p1#42 SHOE-1", "0")])], DELTA).await;
    assert!(
        reason(&report).contains("may have other variants"),
        "{report:?}"
    );
    let both = offers(&[("p1#41 SHOE-1", "0"), ("p1#42 SHOE-1", "0")]);
    let report = deliver(&harness, &[&both], SNAPSHOT).await;
    assert!(reason(&report).contains("2 variants"), "{report:?}");
    assert_eq!(harness.stock(), stock([("SHOE-1", 9)]));
}

#[tokio::test]
async fn variants_with_own_articles_are_own_skus() {
    let own = offers(&[("p1#41 SHOE-41", "3"), ("p1#42 SHOE-42", "0"), ("p2", "4")]);
    for files in [vec![own.as_str()], vec![CATALOGUE, &own]] {
        for completeness in [DELTA, SNAPSHOT] {
            let harness = new_harness(VariantPolicy::Reject).await;
            let report = deliver(&harness, &files, completeness).await;
            assert_eq!(report.suspicious, 0, "{report:?}");
            assert_eq!(harness.stock()["SHOE-41"], 3);
            assert_eq!(harness.stock()["SHOE-42"], 0);
            // From then on the ids are enough.
            let report = deliver(&harness, &[&offers(&[("p1#41", "2")])], DELTA).await;
            assert_eq!((report.suspicious, harness.stock()["SHOE-41"]), (0, 2));
        }
    }
    let in_catalogue = CATALOGUE.replace(
        "</Товары>",
        "<Товар><Ид>p1#41</Ид><Артикул>SHOE-41</Артикул></Товар></Товары>",
    );
    let harness = new_harness(VariantPolicy::Reject).await;
    deliver(&harness, &[&in_catalogue], DELTA).await;
    deliver(&harness, &[&offers(&[("p1#41", "2")])], DELTA).await;
    assert_eq!(harness.stock(), stock([("SHOE-41", 2)]));
}

#[tokio::test]
async fn delta_of_a_variant_replaces_only_its_number() {
    let mut harness = new_harness(VariantPolicy::Sum).await;
    for (variant, quantity, sum) in [
        ("p1#41", "7", 7),
        ("p1#42", "7", 14),
        ("p1#42", "0", 7),
        ("p1#43", "2", 9),
        ("p1#41", "0", 2),
    ] {
        let part = offers(&[(variant, quantity)]);
        deliver(
            &harness,
            &[CATALOGUE, &part],
            exchange_file(DeliveryScope::Delta, true),
        )
        .await;
        assert_eq!(harness.stock(), stock([("SHOE-1", sum)]), "{variant}");
        harness = harness
            .restart(
                vec![variant_policy(VariantPolicy::Sum)],
                ShopRules::default(),
            )
            .await;
        assert_eq!(harness.stock(), stock([("SHOE-1", sum)]), "{variant}");
    }
    deliver(&harness, &[&offers(&[("p1#43", "0")])], DELTA).await;
    assert_eq!(harness.stock(), stock([("SHOE-1", 0)]));
}

#[tokio::test]
async fn second_variant_in_a_delta_is_suspicious() {
    let mut harness = new_harness(VariantPolicy::Reject).await;
    deliver(&harness, &[CATALOGUE, &offers(&[("p1#41", "7")])], SNAPSHOT).await;
    // The complete list has only this variant, so its deltas are applied to the article.
    assert_eq!(harness.stock(), stock([("SHOE-1", 7)]));
    harness = harness
        .restart(
            vec![variant_policy(VariantPolicy::Reject)],
            ShopRules::default(),
        )
        .await;
    deliver(&harness, &[&offers(&[("p1#41", "5")])], DELTA).await;
    assert_eq!(harness.stock(), stock([("SHOE-1", 5)]));
    let report = deliver(&harness, &[&offers(&[("p1#42", "0")])], DELTA).await;
    assert!(reason(&report).contains("2 variants of the product p1, p1#41, p1#42"));
    let report = deliver(&harness, &[&offers(&[("p1#41", "0")])], DELTA).await;
    assert!(reason(&report).contains("2 variants"));
    assert_eq!(harness.stock(), stock([("SHOE-1", 5)]));
}

#[tokio::test]
async fn exchange_parts_do_not_prove_a_single_variant() {
    let harness = new_harness(VariantPolicy::Reject).await;
    deliver(
        &harness,
        &[CATALOGUE],
        exchange_file(DeliveryScope::Snapshot, true),
    )
    .await;
    for variant in ["p1#41", "p1#42"] {
        let part = offers(&[(variant, "7")]);
        let report = deliver(
            &harness,
            &[&part],
            exchange_file(DeliveryScope::Snapshot, true),
        )
        .await;
        reason(&report);
    }
    assert_eq!(harness.stock(), stock([]));
}

#[tokio::test]
async fn suspicious_sku_is_not_absent() {
    let zeroing_policy = |variants| SourcePolicy {
        absent: AbsentPolicy::Zero,
        ..variant_policy(variants)
    };
    let both = offers(&[("p1#41", "7"), ("p1#42", "7"), ("p2", "4")]);
    let bag = offers(&[("p2", "4")]);
    let one = offers(&[("p1#42", "7"), ("p2", "4")]);
    let unstated = offers(&[("p1#41", ""), ("p1#42", "6"), ("p2", "4")]);
    let harness = PipelineHarness::new(
        vec![zeroing_policy(VariantPolicy::Reject)],
        ShopRules::default(),
    )
    .await;
    deliver_entries(&harness, vec![row("SHOE-1", 9), row("BAG-2", 1)], SNAPSHOT).await;
    for files in [
        [CATALOGUE, &both],
        [CATALOGUE, &one],
        [CATALOGUE, &unstated],
    ] {
        deliver(&harness, &files, SNAPSHOT).await;
        assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    }
    let none = offers(&[("p1#41", ""), ("p1#42", ""), ("p2", "4")]);
    deliver(&harness, &[&none], SNAPSHOT).await;
    assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    deliver(&harness, &[&bag], SNAPSHOT).await;
    assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 0)]));

    let harness = PipelineHarness::new(
        vec![zeroing_policy(VariantPolicy::Sum)],
        ShopRules::default(),
    )
    .await;
    for (package, sum) in [
        (&both, 14),
        (&unstated, 13),
        (&none, 13),
        (&one, 7),
        (&bag, 0),
    ] {
        deliver(&harness, &[CATALOGUE, package], SNAPSHOT).await;
        assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", sum)]));
    }
}

#[tokio::test]
async fn product_and_variant_numbers_are_never_added() {
    // The only variant: the later number replaces the earlier one.
    for variants in [VariantPolicy::Reject, VariantPolicy::Sum] {
        let harness = new_harness(variants).await;
        deliver(&harness, &[CATALOGUE, &offers(&[("p1#41", "7")])], SNAPSHOT).await;
        deliver(&harness, &[&offers(&[("p1", "9")])], DELTA).await;
        assert_eq!(harness.stock(), stock([("SHOE-1", 9)]));
        deliver(&harness, &[&offers(&[("p1#41", "6")])], DELTA).await;
        assert_eq!(harness.stock(), stock([("SHOE-1", 6)]));
        // Both at once, or one of several: it is unknown whether one includes the other.
        let report = deliver(&harness, &[&offers(&[("p1", "9"), ("p1#41", "5")])], DELTA).await;
        assert!(reason(&report).contains("the product itself"), "{report:?}");
        deliver(&harness, &[&offers(&[("p1#42", "")])], DELTA).await;
        let report = deliver(&harness, &[&offers(&[("p1", "0")])], DELTA).await;
        assert!(reason(&report).contains("the product itself"), "{report:?}");
        assert_eq!(harness.stock(), stock([("SHOE-1", 6)]));
    }
    // A zero of the product itself adds nothing to its variants.
    let harness = new_harness(VariantPolicy::Sum).await;
    let package = offers(&[("p1", "0"), ("p1#41", "5"), ("p1#42", "6")]);
    deliver(&harness, &[CATALOGUE, &package], SNAPSHOT).await;
    assert_eq!(harness.stock(), stock([("SHOE-1", 11)]));
}

#[tokio::test]
async fn first_zero_of_some_variants_is_suspicious() {
    let harness = new_harness(VariantPolicy::Sum).await;
    deliver_entries(&harness, vec![row("SHOE-1", 9)], DELTA).await;
    let stock_levels = offers(&[("p1#size-42", "0"), ("p2", "4")]);
    let report = deliver(&harness, &[CATALOGUE, &stock_levels], DELTA).await;
    assert!(
        reason(&report).contains("others may have some"),
        "{report:?}"
    );
    assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 9)]));
    deliver(
        &harness,
        &[&stock_levels],
        exchange_file(DeliveryScope::Snapshot, true),
    )
    .await;
    assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 0)]));
}

#[tokio::test]
async fn article_of_two_products_is_suspicious() {
    for variants in [VariantPolicy::Reject, VariantPolicy::Sum] {
        let harness = new_harness(variants).await;
        let package = offers(&[("p7#a SHOE-1", "5"), ("p8#b SHOE-1", "6")]);
        let catalogue = CATALOGUE
            .replace("p1", "p7")
            .replace("p2", "p8")
            .replace("BAG-2", "SHOE-1");
        let report = deliver(&harness, &[&catalogue, &package], SNAPSHOT).await;
        assert!(
            reason(&report).contains("2 variants of 2 products, p7#a, p8#b"),
            "{report:?}"
        );
        assert_eq!(harness.stock(), stock([]));
    }
}

#[tokio::test]
async fn empty_variant_id_means_the_product() {
    let harness = new_harness(VariantPolicy::Reject).await;
    let package = offers(&[
        ("p1#00000000-0000-0000-0000-000000000000", "5"),
        ("p2#", "4"),
    ]);
    deliver(&harness, &[CATALOGUE, &package], DELTA).await;
    assert_eq!(harness.stock(), stock([("BAG-2", 4), ("SHOE-1", 5)]));
}

#[tokio::test]
async fn sums_variants_per_warehouse() {
    let at = |id: &str, one: u8, other: u8| {
        format!(
            "<Предложение><Ид>{id}</Ид><Склад ИдСклада=\"w\" КоличествоНаСкладе=\"{one}\"/>\
             <Склад ИдСклада=\"v\" КоличествоНаСкладе=\"{other}\"/></Предложение>"
        )
    };
    let package = |offers: &str| {
        format!(
            "<КоммерческаяИнформация><ПакетПредложений><Предложения>{offers}</Предложения>\
             </ПакетПредложений></КоммерческаяИнформация>"
        )
    };
    let one_warehouse = SourcePolicy {
        warehouses: SourceWarehouses::Named(vec!["w".to_owned()]),
        ..variant_policy(VariantPolicy::Sum)
    };
    let harness = PipelineHarness::new(vec![one_warehouse], ShopRules::default()).await;
    let both = package(&(at("p1#41", 3, 20) + &at("p1#42", 4, 30)));
    deliver(&harness, &[CATALOGUE, &both], SNAPSHOT).await;
    assert_eq!(harness.stock(), stock([("SHOE-1", 7)]));
    deliver(&harness, &[&package(&at("p1#41", 1, 0))], DELTA).await;
    assert_eq!(harness.stock(), stock([("SHOE-1", 5)]));
}

#[test]
fn rejects_statements_of_another_format() {
    let directory = tempfile::tempdir().unwrap();
    let statements = StatementStore::open(directory.path()).unwrap();
    for format in [FORMAT - 1, FORMAT + 1] {
        let set = format!("PRAGMA user_version = {format}");
        statements.conn.execute_batch(&set).unwrap();
        let error = StatementStore::open(directory.path()).unwrap_err();
        let expected = format!(
            "stated.db has format {format}, but this release only reads format {FORMAT}: run the \
             release that wrote it, or move the file away"
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

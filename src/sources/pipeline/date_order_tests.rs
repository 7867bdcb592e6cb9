//! Tests of the date under which a result is applied, beside the updates of programs.

use stock::{Count, Sku, Update};
use stock_import::stock_rules::Combine;
use stock_import::{DeliveryEntry, Row};

use super::tests::{PipelineHarness, row, stock, test_policy};
use super::*;
use crate::ingest::Origin;

fn before(seconds: i64) -> Timestamp {
    // Whole seconds, as of a program that has no others.
    let now = Clock::wall().now().timestamp();
    Timestamp::from_micros((now - seconds) * 1_000_000).unwrap()
}

fn dated_row(sku: &str, count: i64, at: Timestamp) -> DeliveryEntry {
    let DeliveryEntry::Row(row) = row(sku, count) else {
        unreachable!()
    };
    DeliveryEntry::Row(Row {
        stated_at: Some(at),
        ..row
    })
}

async fn put_dated(harness: &PipelineHarness, sku: &str, count: i64, at: Timestamp) {
    let update = Update {
        sku: Sku::parse(sku).unwrap(),
        count: Count::try_from(count).unwrap(),
        updated_at: Some(at),
    };
    let accepting = harness.accept(Origin::CampaignPut, vec![update]);
    accepting.await.unwrap();
}

fn mapped_policy() -> SourcePolicy {
    SourcePolicy {
        mapping: vec![("other".to_owned(), "Z".to_owned(), 1)],
        ..test_policy("erp")
    }
}

#[tokio::test]
async fn unchanged_row_does_not_beat_an_equal_date() {
    for policy in [test_policy("erp"), mapped_policy()] {
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        let at = before(3_600);
        let rows = |count| vec![dated_row("A", count, at), row("B", 1)];
        harness.deliver_at(0, before(3_000), rows(5)).await;
        put_dated(&harness, "A", 0, at).await;
        let report = harness.deliver_at(0, before(2_000), rows(5)).await;
        assert_eq!(report.changes.outdated, 1);
        assert_eq!(harness.stock(), stock([("A", 0), ("B", 1)]));
        // A changed row came after the program's update.
        harness.deliver_at(0, before(1_000), rows(4)).await;
        assert_eq!(harness.stock(), stock([("A", 4), ("B", 1)]));
    }
}

#[tokio::test]
async fn complete_list_beats_an_equal_date() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness
        .deliver_at(0, before(3_000), vec![row("A", 5)])
        .await;
    put_dated(&harness, "A", 3, before(2_000)).await;
    harness
        .deliver_at(0, before(2_000), vec![row("A", 5)])
        .await;
    assert_eq!(harness.stock(), stock([("A", 5)]));
}

#[tokio::test]
async fn source_that_does_not_count_gives_no_date() {
    let first = || ShopRules {
        combine: Combine::First,
        ..ShopRules::default()
    };
    let policies = || vec![test_policy("erp"), test_policy("sheet")];
    let harness = PipelineHarness::new(policies(), first()).await;
    harness
        .deliver_at(0, before(3_600), vec![row("A", 5)])
        .await;
    put_dated(&harness, "A", 3, before(3_000)).await;
    // The second source states another number later. It does not count.
    for count in [7, 8, 8] {
        harness
            .deliver_at(1, before(2_000 - count), vec![row("A", count)])
            .await;
        assert_eq!(harness.stock(), stock([("A", 3)]));
    }
    harness
        .deliver_at(0, before(1_000), vec![row("A", 5)])
        .await;
    assert_eq!(harness.stock(), stock([("A", 5)]));
    // A new statement of the first source counts, even if it is older than that of the second.
    let rows = vec![row("B", 7)];
    harness.deliver_at(1, before(500), rows).await;
    let rows = vec![row("A", 5), dated_row("B", 2, before(3_600))];
    harness.deliver_at(0, before(400), rows).await;
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 2)]));
}

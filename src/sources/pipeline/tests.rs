//! Tests of the pipeline: deliveries, the guard, rules, duplicates and restarts.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use connectors::{Completeness, EntrySender, ReadReport};
use lifecycle::{CrashSignal, Tasks};
use proptest::prelude::*;
use stock::{Count, Sku, Update};
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::{Adjustments, Combine, SkuOverride, SourceRules};
use stock_import::{DeliveryEntry, DeliveryScope, ProductKey, Quantity, Row, VariantPolicy};
use tempfile::TempDir;

use super::*;
use crate::ingest::{self, Origin, StatedSkus};
use crate::store::{self, ShopIdentity, Store};

pub(in crate::sources) const SHOP: ShopId = ShopId(0);

/// A shop with its store and its pipeline, which can be restarted.
pub(in crate::sources) struct PipelineHarness {
    pub(in crate::sources) directory: TempDir,
    pub(in crate::sources) book: Arc<StockBook>,
    store: Arc<Store>,
    ingest: Ingest,
    pub(in crate::sources) pipeline: DeliveryPipeline,
    tasks: Tasks,
    asserted_count: Arc<Mutex<u64>>,
}

pub(in crate::sources) fn test_policy(name: &str) -> SourcePolicy {
    SourcePolicy {
        name: name.to_owned(),
        origin: Origin::File,
        scope: Some(DeliveryScope::Snapshot),
        absent: AbsentPolicy::Keep,
        warehouses: SourceWarehouses::Unset,
        limits: GuardLimits::default(),
        rules: SourceRules::default(),
        mapping: Vec::new(),
        duplicates: DuplicatePolicy::Same,
        read_settings_text: String::new(),
        variants: VariantPolicy::Reject,
    }
}

impl PipelineHarness {
    pub(in crate::sources) async fn new(policies: Vec<SourcePolicy>, rules: ShopRules) -> Self {
        Self::at(tempfile::tempdir().unwrap(), policies, rules).await
    }

    pub(super) async fn at(
        directory: TempDir,
        policies: Vec<SourcePolicy>,
        rules: ShopRules,
    ) -> Self {
        let key = ShopIdentity {
            name: "moscow".into(),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let store_config = store::Config {
            path: directory.path().join("store"),
            url: None,
        };
        let opened = Store::open(&store_config, &[key]).await.unwrap();
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let asserted_count = Arc::new(Mutex::new(0));
        let recorder = Arc::clone(&asserted_count);
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = ingest::create(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            alarms.clone(),
            ingest::Metrics::default(),
            Box::new(move |event: &StatedSkus<'_>| {
                *recorder.lock() += (event.changed.len() + event.repeated.len()) as u64;
            }),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        let context = Context {
            book: Arc::clone(&book),
            ingest: ingest.clone(),
            clock: Clock::wall(),
            alarms,
            events: crate::event_log::EventLog::default(),
        };
        let sources = directory.path().join("sources");
        let pipeline = DeliveryPipeline::open(&sources, (SHOP, "moscow"), policies, rules, context)
            .await
            .unwrap();
        pipeline.reapply_rules().await.unwrap();
        Self {
            directory,
            book,
            store,
            ingest,
            pipeline,
            tasks,
            asserted_count,
        }
    }

    /// Stops the shop and starts it again with these settings.
    pub(in crate::sources) async fn restart(
        self,
        policies: Vec<SourcePolicy>,
        rules: ShopRules,
    ) -> Self {
        self.unlocked().await;
        drop((self.pipeline, self.ingest));
        self.tasks.stop();
        self.tasks.ended().await;
        // One test has closed the store already.
        let _closed = self.store.close().await;
        Self::at(self.directory, policies, rules).await
    }

    /// Sets the bytes of the buffers for sorting. Small ones make several runs of a few rows.
    pub(super) fn set_sort_buffer(&self, bytes: usize) {
        self.pipeline.0.sort_buffer.store(bytes, Ordering::Relaxed);
    }

    /// Waits until a delivery whose caller has gone has left the statements.
    pub(super) async fn unlocked(&self) {
        drop(self.pipeline.statements().await);
    }

    pub(in crate::sources) async fn deliver(
        &self,
        source: usize,
        entries: Vec<DeliveryEntry>,
    ) -> DeliveryReport {
        self.deliver_at(source, now(), entries).await
    }

    pub(super) async fn deliver_at(
        &self,
        source: usize,
        at: Timestamp,
        entries: Vec<DeliveryEntry>,
    ) -> DeliveryReport {
        let read = async |rows: &mut EntrySender| {
            for entry in entries {
                rows.send(entry).await.unwrap();
            }
            Ok(None::<DeliveryScope>)
        };
        self.pipeline
            .ingest_delivery(source, at, true, read)
            .await
            .unwrap()
    }

    pub(in crate::sources) fn stock(&self) -> BTreeMap<String, u32> {
        let mut stock = BTreeMap::new();
        self.book.for_each(SHOP, |sku, entry| {
            stock.insert(sku.to_string(), entry.level().count.get());
        });
        stock
    }

    pub(in crate::sources) fn alarms(&self) -> Vec<&'static str> {
        let active = self.pipeline.0.context.alarms.active();
        active.into_iter().map(|alarm| alarm.alarm).collect()
    }

    /// Passes updates of a program to ingest.
    pub(super) async fn accept(
        &self,
        origin: Origin,
        updates: Vec<Update>,
    ) -> Result<ingest::Accepted, ingest::IngestError> {
        self.ingest.accept(origin, SHOP, updates).await
    }

    /// Puts stock through the partner API, now.
    pub(in crate::sources) async fn put_stock(&self, sku: &str, count: i64) {
        let update = Update {
            sku: Sku::parse(sku).unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some(now()),
        };
        self.ingest
            .accept(Origin::CampaignPut, SHOP, vec![update])
            .await
            .unwrap();
    }
}

pub(in crate::sources) fn now() -> Timestamp {
    Clock::wall().now().into()
}

pub(in crate::sources) fn row(sku: &str, count: i64) -> DeliveryEntry {
    row_at_warehouse(sku, None, count)
}

pub(super) fn row_at_warehouse(sku: &str, warehouse: Option<&str>, count: i64) -> DeliveryEntry {
    DeliveryEntry::Row(Row {
        line: 1,
        key: ProductKey::Sku(sku.to_owned()),
        warehouse: warehouse.map(str::to_owned),
        quantity: Quantity::from_pieces(count),
        reserve: None,
        stated_at: None,
    })
}

fn row_by_id(id: &str, count: i64) -> DeliveryEntry {
    let DeliveryEntry::Row(row) = row("", count) else {
        unreachable!()
    };
    DeliveryEntry::Row(Row {
        key: ProductKey::Id(id.to_owned()),
        ..row
    })
}

fn article(id: &str, sku: &str) -> DeliveryEntry {
    DeliveryEntry::Article {
        id: id.to_owned(),
        sku: sku.to_owned(),
    }
}

pub(in crate::sources) fn stock<const N: usize>(rows: [(&str, u32); N]) -> BTreeMap<String, u32> {
    rows.into_iter()
        .map(|(sku, count)| (sku.to_owned(), count))
        .collect()
}

pub(in crate::sources) fn zero_absent_policy() -> SourcePolicy {
    SourcePolicy {
        absent: AbsentPolicy::Zero,
        ..test_policy("erp")
    }
}

pub(in crate::sources) fn numbered_rows(
    range: std::ops::Range<i64>,
    count: i64,
) -> Vec<DeliveryEntry> {
    range.map(|n| row(&format!("S-{n}"), count)).collect()
}

#[tokio::test]
async fn absent_products_follow_the_absent_setting() {
    for (policy, expected_absent) in [(test_policy("erp"), 7), (zero_absent_policy(), 0)] {
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        harness
            .deliver(0, vec![row("A", 5), row("B", 7), row("C", 1), row("D", 1)])
            .await;
        let report = harness
            .deliver(0, vec![row("A", 4), row("C", 1), row("D", 1)])
            .await;
        assert_eq!(report.outcome, DeliveryOutcome::Applied);
        assert_eq!(
            harness.stock(),
            stock([("A", 4), ("B", expected_absent), ("C", 1), ("D", 1)])
        );
        // A product that is present again has stock again.
        harness
            .deliver(0, vec![row("A", 4), row("B", 2), row("C", 1), row("D", 1)])
            .await;
        assert_eq!(
            harness.stock(),
            stock([("A", 4), ("B", 2), ("C", 1), ("D", 1)])
        );
    }
}

#[tokio::test]
async fn absence_concerns_only_own_statements() {
    let harness = PipelineHarness::new(
        vec![zero_absent_policy(), test_policy("other")],
        ShopRules::default(),
    )
    .await;
    harness.put_stock("P", 9).await;
    harness.deliver(1, vec![row("X", 3)]).await;
    harness
        .deliver(0, vec![row("A", 5), row("B", 5), row("C", 5), row("D", 5)])
        .await;
    harness
        .deliver(0, vec![row("A", 5), row("B", 5), row("C", 5)])
        .await;
    let expected = [("A", 5), ("B", 5), ("C", 5), ("D", 0), ("P", 9), ("X", 3)];
    assert_eq!(harness.stock(), stock(expected));
}

#[tokio::test]
async fn unchanged_rows_are_asserted_and_not_written() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..3_000, 5)).await;
    let dates = |harness: &PipelineHarness| {
        let mut dates = Vec::new();
        harness
            .book
            .for_each(SHOP, |_, entry| dates.push(entry.level().updated_at));
        dates.sort();
        dates
    };
    let (before, written) = (dates(&harness), harness.store.status().last_seq);
    *harness.asserted_count.lock() = 0;
    let report = harness.deliver(0, numbered_rows(0..3_000, 5)).await;
    assert_eq!(report.changes.unchanged, 3_000);
    assert_eq!(*harness.asserted_count.lock(), 3_000);
    assert_eq!(dates(&harness), before);
    assert_eq!(harness.store.status().last_seq, written);
}

#[tokio::test]
async fn failed_read_changes_nothing() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..20, 5)).await;
    let before = harness.stock();
    for cut in 0..20 {
        let read = async |rows: &mut EntrySender| {
            for entry in numbered_rows(0..cut, 1) {
                rows.send(entry).await.unwrap();
            }
            Err::<Completeness, _>("it was cut off".to_owned())
        };
        let error = harness
            .pipeline
            .ingest_delivery(0, now(), true, read)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "it was cut off");
        assert_eq!(harness.stock(), before);
    }
    assert_eq!(harness.alarms(), ["source_failed"]);
    harness.deliver(0, numbered_rows(0..20, 1)).await;
    assert_eq!(harness.alarms(), [""; 0]);
}

#[tokio::test]
async fn wipe_stays_held_after_restart() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..100, 5)).await;
    let before = harness.stock();
    for wipe in [
        Vec::new(),
        numbered_rows(0..49, 5),
        numbered_rows(0..100, 0),
        numbered_rows(0..60, 5),
    ] {
        let report = harness.deliver(0, wipe).await;
        assert!(
            matches!(report.outcome, DeliveryOutcome::Held(_)),
            "{report:?}"
        );
        assert_eq!(harness.stock(), before);
        assert_eq!(harness.alarms(), ["source_held"]);
    }
    let harness = harness
        .restart(vec![zero_absent_policy()], ShopRules::default())
        .await;
    assert_eq!(
        (harness.stock(), harness.alarms()),
        (before, vec!["source_held"])
    );
    let report = harness.pipeline.accept("erp", None).await.unwrap();
    assert_eq!(
        (report.outcome, report.changes.zeroed),
        (DeliveryOutcome::Applied, 40)
    );
    let left = harness
        .stock()
        .values()
        .filter(|count| **count == 5)
        .count();
    assert_eq!((left, harness.alarms()), (60, Vec::new()));
    harness.pipeline.accept("erp", None).await.unwrap_err();
}

#[tokio::test]
async fn good_snapshot_supersedes_held_delivery() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    harness.deliver(0, Vec::new()).await;
    assert_eq!(harness.alarms(), ["source_held"]);
    harness.deliver(0, numbered_rows(0..10, 6)).await;
    assert_eq!(harness.alarms(), [""; 0]);
    assert!(harness.pipeline.status(0).held.is_empty());
    harness.pipeline.accept("erp", None).await.unwrap_err();
}

#[tokio::test]
async fn accepts_wipe_after_configured_repeats() {
    let limits = GuardLimits {
        accept_after_repeats: Some(2),
        ..GuardLimits::default()
    };
    let harness = PipelineHarness::new(
        vec![SourcePolicy {
            limits,
            ..zero_absent_policy()
        }],
        ShopRules::default(),
    )
    .await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    let is_held = |report: DeliveryReport| report.outcome != DeliveryOutcome::Applied;
    assert!(is_held(harness.deliver(0, numbered_rows(0..10, 0)).await));
    // A different delivery restarts the count.
    assert!(is_held(harness.deliver(0, numbered_rows(0..4, 0)).await));
    assert!(is_held(harness.deliver(0, numbered_rows(0..10, 0)).await));
    assert!(is_held(harness.deliver(0, numbered_rows(0..10, 0)).await));
    let mut reversed = numbered_rows(0..10, 0);
    reversed.reverse();
    assert!(!is_held(harness.deliver(0, reversed).await));
    assert!(harness.stock().values().all(|count| *count == 0));
}

#[tokio::test]
async fn held_deltas_keep_later_deltas() {
    let delta_policy = SourcePolicy {
        scope: Some(DeliveryScope::Delta),
        ..zero_absent_policy()
    };
    let harness = PipelineHarness::new(vec![delta_policy.clone()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    // Two of ten that sell out are within the limit; four are not.
    assert_eq!(
        harness
            .deliver(0, vec![row("S-0", 0), row("S-1", 0)])
            .await
            .outcome,
        DeliveryOutcome::Applied
    );
    let wipe = numbered_rows(2..6, 0);
    assert!(matches!(
        harness.deliver(0, wipe).await.outcome,
        DeliveryOutcome::Held(_)
    ));
    harness.deliver(0, vec![row("S-2", 7)]).await;
    assert!(matches!(
        harness.deliver(0, numbered_rows(6..10, 0)).await.outcome,
        DeliveryOutcome::Held(_)
    ));
    assert_eq!(harness.alarms(), ["source_held"]);
    let harness = harness
        .restart(vec![delta_policy], ShopRules::default())
        .await;
    assert_eq!(harness.pipeline.status(0).held.len(), 2);
    harness.pipeline.accept("erp", None).await.unwrap();
    // The delta that came after the hold is newer.
    let left: Vec<_> = harness
        .stock()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(left, [("S-2".to_owned(), 7)]);
    assert_eq!(harness.alarms(), [""; 0]);
}

#[tokio::test]
async fn next_delivery_applies_unapplied_statements() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..100, 5)).await;
    let entries = numbered_rows(0..100, 6);
    let read = async |rows: &mut EntrySender| {
        for entry in entries {
            rows.send(entry).await.unwrap();
        }
        Ok(None::<DeliveryScope>)
    };
    // Polled 40 times at most, and then dropped.
    let mut delivering = Box::pin(harness.pipeline.ingest_delivery(0, now(), true, read));
    for _ in 0..40 {
        if futures_util::poll!(delivering.as_mut()).is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(delivering);
    let read = async |rows: &mut EntrySender| {
        rows.send(row("N", 1)).await.unwrap();
        Ok(Completeness::Certain(DeliveryScope::Delta))
    };
    harness
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap();
    let counts: Vec<u32> = (0..100)
        .map(|n| harness.stock()[&format!("S-{n}")])
        .collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[tokio::test]
async fn delta_does_not_refresh_other_products() {
    let policy = SourcePolicy {
        scope: None,
        ..test_policy("erp")
    };
    let harness = PipelineHarness::new(vec![policy.clone()], ShopRules::default()).await;
    let deliver = async |entries: Vec<DeliveryEntry>, scope| {
        let read = async |rows: &mut EntrySender| {
            for entry in entries {
                rows.send(entry).await.unwrap();
            }
            Ok(Completeness::Certain(scope))
        };
        harness
            .pipeline
            .ingest_delivery(0, now(), true, read)
            .await
            .unwrap();
    };
    deliver(vec![row("A", 5), row("B", 5)], DeliveryScope::Snapshot).await;
    harness.put_stock("A", 0).await;
    deliver(vec![row("B", 6)], DeliveryScope::Delta).await;
    // Changed rules, so all stock is evaluated again.
    let limits = GuardLimits {
        max_zeroed_ratio: 1.0,
        ..GuardLimits::default()
    };
    let adjustments = Adjustments {
        cap: Some(100),
        ..Adjustments::default()
    };
    let rules = ShopRules {
        adjustments,
        ..ShopRules::default()
    };
    let harness = harness
        .restart(vec![SourcePolicy { limits, ..policy }], rules)
        .await;
    assert_eq!(harness.stock(), stock([("A", 0), ("B", 6)]));
}

#[tokio::test]
async fn absent_warehouse_of_present_product_is_ignored() {
    for policy in [test_policy("erp"), zero_absent_policy()] {
        let policy = SourcePolicy {
            warehouses: SourceWarehouses::All,
            ..policy
        };
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        harness
            .deliver(
                0,
                vec![
                    row_at_warehouse("A", Some("Msk"), 5),
                    row_at_warehouse("B", Some("Msk"), 1),
                ],
            )
            .await;
        harness
            .deliver(
                0,
                vec![
                    row_at_warehouse("A", Some("Spb"), 5),
                    row_at_warehouse("B", Some("Msk"), 1),
                ],
            )
            .await;
        assert_eq!(harness.stock(), stock([("A", 5), ("B", 1)]));
    }
}

#[tokio::test]
async fn absence_is_applied_only_once() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    harness.deliver(0, numbered_rows(0..9, 5)).await;
    assert_eq!(harness.stock()["S-9"], 0);
    harness.put_stock("S-9", 4).await;
    harness.deliver(0, numbered_rows(0..9, 5)).await;
    assert_eq!(harness.stock()["S-9"], 4);
}

#[tokio::test]
async fn dry_run_stores_no_articles() {
    let harness = PipelineHarness::new(vec![test_policy("1c")], ShopRules::default()).await;
    harness
        .deliver(0, vec![article("p1", "A-1"), row_by_id("p1", 3)])
        .await;
    let read = async |rows: &mut EntrySender| {
        rows.send(article("p1", "WRONG")).await.unwrap();
        Ok(Completeness::Certain(DeliveryScope::Delta))
    };
    harness
        .pipeline
        .ingest_delivery(0, now(), false, read)
        .await
        .unwrap();
    harness.deliver(0, vec![row_by_id("p1", 4)]).await;
    assert_eq!(harness.stock(), stock([("A-1", 4)]));
}

#[tokio::test]
async fn single_zero_is_applied_at_once() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, vec![row("A", 5)]).await;
    assert_eq!(
        harness.deliver(0, vec![row("A", 0)]).await.outcome,
        DeliveryOutcome::Applied
    );
    assert_eq!(harness.stock(), stock([("A", 0)]));
}

#[tokio::test]
async fn repeated_sku_with_two_numbers_is_suspicious() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    let mut rows = numbered_rows(0..300, 5);
    rows.extend([row("A", 1), row("B", 2), row(" A ", 1)]);
    harness.deliver(0, rows).await;
    let mut rows = numbered_rows(0..300, 5);
    rows.extend([row("A", 4), row("B", 2), row("A", 5), row("B", 2)]);
    let report = harness.deliver(0, rows).await;
    assert_eq!(
        (report.outcome, report.rejected, report.suspicious),
        (DeliveryOutcome::Applied, 0, 1)
    );
    assert_eq!((harness.stock()["A"], harness.stock()["B"]), (1, 2));
    let rejected = harness.pipeline.rejected_rows(0, 10).await.unwrap();
    let reason = &rejected[0].reason;
    assert!(reason.starts_with("the SKU is also in row 1 with different numbers"));
    assert!(
        reason.contains("duplicates = \"sum\"") && rejected[0].is_suspicious,
        "{reason}"
    );
}

#[tokio::test]
async fn duplicates_follow_the_setting() {
    use DuplicatePolicy::{Reject, Same, Sum};
    let rejected_row = || {
        DeliveryEntry::Rejected(RejectedRow {
            sku: Some("A".into()),
            ..RejectedRow::new(1, "A;-3", "less")
        })
    };
    let possible_row = || {
        DeliveryEntry::Rejected(RejectedRow {
            possible_sku: Some("A".into()),
            ..RejectedRow::new(2, ";M;7", "sku is empty")
        })
    };
    let article = || article("p1", "A");
    for (duplicates, rows, expected) in [
        (Reject, vec![row("A", 5), possible_row()], None),
        (Sum, vec![possible_row(), row("A", 5)], None),
        (
            Sum,
            vec![possible_row(), DeliveryEntry::PartBoundary, row("A", 5)],
            Some(5),
        ),
        (Reject, vec![row("A", 5), row("A", 5)], None),
        (Reject, vec![row("A", 5), row("A", 7)], None),
        (Same, vec![row("A", 5), row("A", 5)], Some(5)),
        (Same, vec![row("A", 5), row("A", 7)], None),
        (Sum, vec![row("A", 5), row("A", 5)], Some(10)),
        (Sum, vec![row("A", 5), row("A", 7), row("A", 1)], Some(13)),
        (Sum, vec![row("A", 5), rejected_row()], None),
        (Reject, vec![rejected_row(), row("A", 5)], None),
        (
            Sum,
            vec![
                row_at_warehouse("A", Some("x"), 5),
                row_at_warehouse("A", Some("y"), 7),
            ],
            Some(12),
        ),
        (
            Reject,
            vec![
                row_at_warehouse("A", Some("x"), 5),
                row_at_warehouse("A", Some("y"), 7),
            ],
            Some(12),
        ),
        (
            Reject,
            vec![article(), row_by_id("p1", 5), row_by_id("p1", 5)],
            None,
        ),
        (
            Sum,
            vec![article(), row_by_id("p1", 5), row_by_id("p1", 5)],
            Some(10),
        ),
        (
            Sum,
            vec![article(), row_by_id("p1", 5), row("A", 1)],
            Some(6),
        ),
        (
            Reject,
            vec![row("A", 5), DeliveryEntry::PartBoundary, row("A", 7)],
            Some(7),
        ),
        (
            Sum,
            vec![rejected_row(), DeliveryEntry::PartBoundary, row("A", 7)],
            Some(7),
        ),
        (
            Sum,
            vec![row("A", 1_500_000_000), row("A", 1_500_000_000)],
            None,
        ),
    ] {
        let policy = SourcePolicy {
            duplicates,
            warehouses: SourceWarehouses::All,
            ..test_policy("erp")
        };
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        let shown = format!("{duplicates:?}: {rows:?}");
        harness
            .deliver(0, [numbered_rows(0..300, 5), rows].concat())
            .await;
        assert_eq!(harness.stock().get("A").copied(), expected, "{shown}");
    }
}

#[tokio::test]
async fn order_of_duplicates_does_not_matter() {
    use DuplicatePolicy::{Reject, Same, Sum};
    for (duplicates, rows, expected) in [
        (Reject, [(Some(1), 5), (Some(2), 9), (Some(3), 7)], Some(7)),
        (Reject, [(Some(1), 5), (None, 7), (Some(2), 9)], None),
        (Same, [(Some(1), 5), (None, 9), (Some(2), 9)], None),
        (Same, [(Some(1), 9), (None, 9), (Some(2), 9)], Some(9)),
        (Sum, [(Some(1), 5), (Some(2), 9), (Some(2), 1)], Some(10)),
        (Sum, [(Some(1), 5), (None, 7), (Some(2), 9)], None),
    ] {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let harness = PipelineHarness::new(
                vec![SourcePolicy {
                    duplicates,
                    ..test_policy("erp")
                }],
                ShopRules::default(),
            )
            .await;
            harness
                .deliver(0, order.map(|index| row_of_minute(rows[index])).to_vec())
                .await;
            assert_eq!(
                harness.stock().get("A").copied(),
                expected,
                "{duplicates:?}: {rows:?}"
            );
            let rejected = harness.pipeline.rejected_rows(0, 10).await.unwrap();
            let counts = rejected
                .iter()
                .all(|row| row.reason.contains("(3 rows in all)"));
            assert!(
                counts && rejected.len() == usize::from(expected.is_none()),
                "{rejected:?}"
            );
        }
    }
}

fn row_of_minute((minute, pieces): (Option<i64>, i64)) -> DeliveryEntry {
    let dated = |minute| Timestamp::from(DateTime::UNIX_EPOCH + TimeDelta::minutes(minute));
    match row("A", pieces) {
        DeliveryEntry::Row(row) => DeliveryEntry::Row(Row {
            stated_at: minute.map(dated),
            ..row
        }),
        other => other,
    }
}

fn file_summaries(sku: &str) -> Vec<stock_import::formats::FileSummary> {
    let mut summary = stock_import::formats::FileSummary::default();
    summary.shape.set("format", "csv");
    summary.shape.set("sku", sku);
    vec![summary]
}

async fn deliver_shaped(harness: &PipelineHarness, sku: &str, count: i64) -> DeliveryOutcome {
    let read = async |rows: &mut EntrySender| {
        rows.send(row("A", count)).await.unwrap();
        Ok(ReadReport::from_files(
            Completeness::Certain(DeliveryScope::Delta),
            file_summaries(sku),
        ))
    };
    harness
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap()
        .outcome
}

#[tokio::test]
async fn changed_shape_is_held_until_accepted() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    assert_eq!(
        deliver_shaped(&harness, "Артикул", 5).await,
        DeliveryOutcome::Applied
    );
    assert_eq!(
        deliver_shaped(&harness, "Артикул", 6).await,
        DeliveryOutcome::Applied
    );
    let DeliveryOutcome::Held(why) = deliver_shaped(&harness, "Код", 7).await else {
        panic!("not held")
    };
    assert!(
        why.contains("the SKU column was \"Артикул\" and is \"Код\""),
        "{why}"
    );
    assert_eq!(harness.stock()["A"], 6);
    harness.pipeline.accept("erp", None).await.unwrap();
    assert_eq!(harness.stock()["A"], 7);
    assert_eq!(
        deliver_shaped(&harness, "Код", 8).await,
        DeliveryOutcome::Applied
    );
    assert!(matches!(
        deliver_shaped(&harness, "Артикул", 9).await,
        DeliveryOutcome::Held(_)
    ));
}

#[tokio::test]
async fn shape_changed_by_settings_is_not_held() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    assert_eq!(
        deliver_shaped(&harness, "Артикул", 5).await,
        DeliveryOutcome::Applied
    );
    let configured = SourcePolicy {
        read_settings_text: "sku = \"Код\"".to_owned(),
        ..test_policy("erp")
    };
    let harness = harness
        .restart(vec![configured], ShopRules::default())
        .await;
    assert_eq!(
        deliver_shaped(&harness, "Код", 7).await,
        DeliveryOutcome::Applied
    );
}

#[tokio::test]
async fn unapplied_absence_raises_an_alarm() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..300, 5)).await;
    let unnamed = DeliveryEntry::Suspicious(RejectedRow::new(7, "5E+05;3", "sku is '5E+05'"));
    let report = harness
        .deliver(0, [numbered_rows(0..299, 5), vec![unnamed]].concat())
        .await;
    let why = report.absence_not_applied.unwrap();
    assert!(why.contains("line 7") && why.contains("5E+05;3"), "{why}");
    assert_eq!(harness.stock()["S-299"], 5);
    assert!(harness.alarms().contains(&"absence_not_applied"));
    let harness = harness
        .restart(vec![zero_absent_policy()], ShopRules::default())
        .await;
    assert!(
        harness.alarms().contains(&"absence_not_applied"),
        "the alarm is raised again after a restart"
    );
    harness.deliver(0, numbered_rows(0..299, 5)).await;
    assert_eq!(harness.stock()["S-299"], 0);
    assert!(!harness.alarms().contains(&"absence_not_applied"));
}

#[tokio::test]
async fn later_of_two_dated_rows_wins_in_any_order() {
    let dated = |count, minutes: i64| {
        let DeliveryEntry::Row(row) = row("A", count) else {
            unreachable!()
        };
        let at = now().to_utc() - chrono::TimeDelta::minutes(minutes);
        DeliveryEntry::Row(Row {
            stated_at: Some(at.into()),
            ..row
        })
    };
    for rows in [
        vec![dated(4, 10), dated(9, 1)],
        vec![dated(9, 1), dated(4, 10)],
    ] {
        let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
        assert_eq!(harness.deliver(0, rows).await.rejected, 0);
        assert_eq!(harness.stock(), stock([("A", 9)]));
    }
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, vec![dated(4, -60), row("B", 1)]).await;
    assert_eq!(harness.stock(), stock([("B", 1)]));
}

#[tokio::test]
async fn rejected_row_does_not_make_products_absent() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..200, 5)).await;
    let mut rows = numbered_rows(0..199, 5);
    let rejected = RejectedRow::new(200, "S-199;много", "no number");
    rows.push(DeliveryEntry::Rejected(RejectedRow {
        sku: Some("S-199".into()),
        ..rejected.clone()
    }));
    assert_eq!(
        harness.deliver(0, rows.clone()).await.outcome,
        DeliveryOutcome::Applied
    );
    assert_eq!(harness.stock()["S-199"], 5);
    rows.pop();
    rows.push(DeliveryEntry::Rejected(rejected));
    let report = harness.deliver(0, rows.clone()).await;
    assert!(report.absence_not_applied.is_some());
    assert_eq!(harness.stock()["S-199"], 5);
    rows.pop();
    harness.deliver(0, rows).await;
    assert_eq!(harness.stock()["S-199"], 0);
}

#[tokio::test]
async fn finds_skus_of_ids_in_earlier_deliveries() {
    let harness = PipelineHarness::new(vec![test_policy("1c")], ShopRules::default()).await;
    let catalogue = vec![
        article("p1", "A-1"),
        article("p2", "A-2"),
        article("p2#v", "A-2V"),
    ];
    harness
        .deliver(0, [catalogue, vec![row_by_id("p1", 3)]].concat())
        .await;
    assert_eq!(harness.stock(), stock([("A-1", 3)]));
    let rows = vec![
        row_by_id("p1", 4),
        row_by_id("p2#v", 5),
        row_by_id("p2#other", 6),
        row_by_id("p9", 7),
    ];
    let report = harness.deliver(0, rows).await;
    assert_eq!(
        harness.stock(),
        stock([("A-1", 4), ("A-2", 6), ("A-2V", 5)])
    );
    assert_eq!((report.rejected, report.absence_not_applied), (1, None));
    // Two variants of one product without articles of their own are ambiguous.
    harness
        .deliver(
            0,
            vec![
                row_by_id("p2#x", 8),
                row_by_id("p2#y", 9),
                row_by_id("p1", 4),
            ],
        )
        .await;
    assert_eq!(harness.stock()["A-2"], 6);
}

#[tokio::test]
async fn missing_catalogue_holds_and_lone_ids_do_not() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    let rows_without_sku = || {
        (0..50)
            .map(|n| row_by_id(&format!("x{n}"), 1))
            .collect::<Vec<_>>()
    };
    let catalogue = vec![
        article("p1", "A-1"),
        article("p2", "A-2"),
        article("p3", "A-3"),
    ];
    let with_catalogue = [
        catalogue,
        vec![row_by_id("p1", 3), row_by_id("p2", 3), row_by_id("p3", 3)],
    ]
    .concat();
    let report = harness.deliver(0, rows_without_sku()).await;
    assert!(
        matches!(report.outcome, DeliveryOutcome::Held(_)),
        "{report:?}"
    );
    let report = harness
        .deliver(0, [with_catalogue, rows_without_sku()].concat())
        .await;
    assert_eq!(
        (report.outcome, report.rejected),
        (DeliveryOutcome::Applied, 50)
    );
    // Products without a SKU were never stated, so they are not the absent ones.
    let fewer = vec![row_by_id("p1", 3), row_by_id("p2", 3)];
    harness
        .deliver(0, [fewer, rows_without_sku()].concat())
        .await;
    assert_eq!(harness.stock(), stock([("A-1", 3), ("A-2", 3), ("A-3", 0)]));
}

#[tokio::test]
async fn later_part_replaces_earlier_part() {
    let harness = PipelineHarness::new(vec![test_policy("1c")], ShopRules::default()).await;
    let report = harness
        .deliver(
            0,
            vec![
                row("A", 1),
                row("B", 1),
                DeliveryEntry::PartBoundary,
                row("A", 7),
            ],
        )
        .await;
    assert_eq!(
        (report.rejected, harness.stock()),
        (0, stock([("A", 7), ("B", 1)]))
    );
}

#[tokio::test]
async fn several_warehouses_need_a_setting() {
    let rows = || {
        vec![
            row_at_warehouse("A", Some("Msk"), 5),
            row_at_warehouse("A", Some("Spb"), 3),
            row_at_warehouse("B", Some("Spb"), 1),
        ]
    };
    let unset = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    let read = async |rows_out: &mut EntrySender| {
        for row in rows() {
            rows_out.send(row).await.unwrap();
        }
        Ok(None::<DeliveryScope>)
    };
    let error = unset
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("it names 2 warehouses, 'Msk', 'Spb': list those"),
        "{error}"
    );
    assert!(unset.stock().is_empty());
    let named = |names: &[&str]| {
        SourceWarehouses::Named(names.iter().map(|name| (*name).to_owned()).collect())
    };
    for (warehouses, expected) in [
        (SourceWarehouses::All, stock([("A", 8), ("B", 1)])),
        (named(&["MSK"]), stock([("A", 5)])),
        (named(&["Spb", "Omsk"]), stock([("A", 3), ("B", 1)])),
    ] {
        let policy = SourcePolicy {
            warehouses,
            ..test_policy("erp")
        };
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        harness.deliver(0, rows()).await;
        assert_eq!(harness.stock(), expected);
    }
    let policy = SourcePolicy {
        warehouses: named(&["Omsk"]),
        ..test_policy("erp")
    };
    let wrong = PipelineHarness::new(vec![policy], ShopRules::default()).await;
    wrong
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn latest_of_source_and_api_wins() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    let before = now();
    harness.put_stock("A", 9).await;
    let report = harness
        .deliver_at(0, before, vec![row("A", 5), row("B", 5)])
        .await;
    assert_eq!((report.changes.outdated, report.changes.new), (1, 1));
    assert_eq!(harness.stock(), stock([("A", 9), ("B", 5)]));
    // The same file, restored from a backup with its old date, is a new delivery nevertheless.
    harness
        .deliver_at(0, before, vec![row("A", 5), row("B", 5)])
        .await;
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 5)]));
}

#[tokio::test]
async fn changed_rules_apply_to_stored_statements() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness
        .deliver(0, vec![row("A", 5), row("B", 9), row("C", 30)])
        .await;
    let adjustments = Adjustments {
        buffer: 2,
        zero_below: 4,
        cap: Some(20),
    };
    let rules = ShopRules {
        adjustments,
        ..ShopRules::default()
    };
    let limits = GuardLimits {
        max_zeroed_ratio: 0.5,
        ..GuardLimits::default()
    };
    let policy = SourcePolicy {
        limits,
        ..test_policy("erp")
    };
    let harness = harness.restart(vec![policy.clone()], rules.clone()).await;
    assert_eq!(harness.stock(), stock([("A", 0), ("B", 7), ("C", 20)]));
    harness.put_stock("B", 100).await;
    let mut with_overrides = rules.clone();
    let fixed = SkuOverride {
        buffer: Some(0),
        ..SkuOverride::default()
    };
    with_overrides
        .overrides
        .insert(Sku::parse("A").unwrap(), fixed);
    with_overrides
        .overrides
        .insert(Sku::parse("B").unwrap(), fixed);
    let harness = harness.restart(vec![policy], with_overrides).await;
    // The later update through the partner API is newer than the file.
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 100), ("C", 20)]));
    let steps = harness
        .pipeline
        .explain(&Sku::parse("C").unwrap())
        .await
        .unwrap();
    assert_eq!(steps.len(), 5, "{steps:?}");
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps[1..4],
        ["stated: 30: 30", "safety buffer 2: 28", "cap 20: 20"]
    );
}

#[tokio::test]
async fn changed_rules_keep_later_counts_of_programs() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    let before = |seconds| Timestamp::from(Clock::wall().now() - TimeDelta::seconds(seconds));
    let rows = vec![row("A", 0), row("B", 5), row("C", 5)];
    harness.deliver_at(0, before(3_600), rows).await;
    for (sku, count) in [("A", 7), ("B", 0)] {
        let update = Update {
            sku: Sku::parse(sku).unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some(before(3_000)),
        };
        let accepting = harness
            .ingest
            .accept(Origin::CampaignPut, SHOP, vec![update]);
        accepting.await.unwrap();
    }
    // The next export lacks the product. Its old statement stays, with its old date.
    let rows = vec![row("B", 5), row("C", 5)];
    let report = harness.deliver_at(0, before(3_300), rows).await;
    assert_eq!(report.outcome, DeliveryOutcome::Applied);
    let rows = vec![row("C", 5)];
    let report = harness.deliver_at(0, before(2_000), rows).await;
    assert_eq!(report.outcome, DeliveryOutcome::Applied);
    let expected = stock([("A", 7), ("B", 0), ("C", 5)]);
    assert_eq!(harness.stock(), expected);
    let rules = ShopRules {
        adjustments: Adjustments {
            cap: Some(1_000),
            ..Adjustments::default()
        },
        ..ShopRules::default()
    };
    let harness = harness.restart(vec![test_policy("erp")], rules).await;
    assert_eq!(harness.stock(), expected);
}

#[tokio::test]
async fn removed_source_is_ignored() {
    let both_policies = || vec![test_policy("erp"), test_policy("sheet")];
    let sum_rules = || ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let harness = PipelineHarness::new(both_policies(), sum_rules()).await;
    harness.deliver(0, vec![row("A", 5), row("B", 1)]).await;
    harness.deliver(1, vec![row("A", 3)]).await;
    assert_eq!(harness.stock(), stock([("A", 8), ("B", 1)]));
    let harness = harness.restart(vec![test_policy("erp")], sum_rules()).await;
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 1)]));
}

#[tokio::test]
async fn other_warehouses_do_not_affect_ours() {
    let warehouses = SourceWarehouses::Named(vec!["Msk".to_owned()]);
    let policy = SourcePolicy {
        warehouses,
        ..zero_absent_policy()
    };
    let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
    let msk = |sku, count| row_at_warehouse(sku, Some("Msk"), count);
    let rows = vec![
        msk("A", 5),
        msk("B", 5),
        msk("C", 5),
        row_at_warehouse("N", Some("Spb"), 9),
    ];
    harness.deliver(0, rows).await;
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 5), ("C", 5)]));
    // A product that is only in other warehouses now is absent from ours.
    harness
        .deliver(
            0,
            vec![
                msk("A", 5),
                msk("B", 5),
                row_at_warehouse("C", Some("Spb"), 5),
            ],
        )
        .await;
    assert_eq!(harness.stock(), stock([("A", 5), ("B", 5), ("C", 0)]));
}

#[tokio::test]
async fn rules_that_empty_the_shop_are_held() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    let rules = ShopRules {
        adjustments: Adjustments {
            buffer: 50,
            ..Adjustments::default()
        },
        ..ShopRules::default()
    };
    let harness = harness.restart(vec![test_policy("erp")], rules).await;
    assert!(harness.stock().values().all(|count| *count == 5));
    assert_eq!(harness.alarms(), ["source_held"]);
    harness.pipeline.accept_rules(None).await.unwrap();
    assert!(harness.stock().values().all(|count| *count == 0));
    assert_eq!(harness.alarms(), [""; 0]);
}

#[tokio::test]
async fn deliveries_wait_while_new_rules_are_held() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    let rules = ShopRules {
        adjustments: Adjustments {
            buffer: 50,
            ..Adjustments::default()
        },
        ..ShopRules::default()
    };
    let replace = |rules| {
        let policies = vec![test_policy("erp")];
        harness.pipeline.replace_settings(policies, rules)
    };
    // Under the new rules it zeros nothing, so the guard of deliveries has no objection.
    let delivery = harness.deliver(0, numbered_rows(0..10, 56));
    let (replaced, _) = tokio::join!(replace(rules), delivery);
    replaced.unwrap();
    assert!(harness.stock().values().all(|count| *count == 5));
    assert_eq!(harness.alarms(), ["source_held"]);
    // The old rules come back, with the statements that have come meanwhile.
    replace(ShopRules::default()).await.unwrap();
    assert!(harness.stock().values().all(|count| *count == 56));
    assert_eq!(harness.alarms(), [""; 0]);
}

#[tokio::test]
async fn corrected_rules_release_held_deliveries() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    let with_buffer = |buffer| ShopRules {
        adjustments: Adjustments {
            buffer,
            ..Adjustments::default()
        },
        ..ShopRules::default()
    };
    let replace = |rules| {
        let policies = vec![test_policy("erp")];
        harness.pipeline.replace_settings(policies, rules)
    };
    replace(with_buffer(50)).await.unwrap();
    let sold_out = [vec![row("S-0", 0)], numbered_rows(1..10, 5)].concat();
    harness.deliver(0, sold_out).await;
    assert_eq!(harness.alarms(), ["source_held", "source_held"]);
    replace(with_buffer(0)).await.unwrap();
    assert_eq!(harness.alarms(), [""; 0]);
    assert_eq!((harness.stock()["S-0"], harness.stock()["S-9"]), (0, 5));
}

#[tokio::test]
async fn corrected_limits_release_held_deliveries() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    // A product without a SKU does not hold a delivery, also when it is decided again.
    let without_sku = vec![row_by_id("unknown", 1)];
    let with_zeros = [numbered_rows(0..4, 0), numbered_rows(4..10, 5), without_sku].concat();
    harness.deliver(0, with_zeros).await;
    assert_eq!(harness.alarms(), ["source_held"]);
    let policy = |max_zeroed_ratio| SourcePolicy {
        limits: GuardLimits {
            max_zeroed_ratio,
            ..GuardLimits::default()
        },
        ..test_policy("erp")
    };
    let replace = |share| {
        let policies = vec![policy(share)];
        harness
            .pipeline
            .replace_settings(policies, ShopRules::default())
    };
    replace(0.35).await.unwrap();
    assert_eq!(harness.alarms(), ["source_held"]);
    assert!(harness.stock().values().all(|count| *count == 5));
    replace(0.45).await.unwrap();
    assert_eq!(harness.alarms(), [""; 0]);
    assert_eq!((harness.stock()["S-0"], harness.stock()["S-9"]), (0, 5));
}

#[tokio::test]
async fn an_unreadable_held_delivery_does_not_stop_new_settings() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..10, 5)).await;
    harness.deliver(0, numbered_rows(0..10, 0)).await;
    let files = std::fs::read_dir(harness.directory.path().join("sources")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let held = |path: &std::path::PathBuf| path.to_string_lossy().contains("held-");
    let held: Vec<_> = paths.filter(held).collect();
    assert!(!held.is_empty());
    held.iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
    let rules = ShopRules {
        adjustments: Adjustments {
            buffer: 2,
            ..Adjustments::default()
        },
        ..ShopRules::default()
    };
    let replaced = harness
        .pipeline
        .replace_settings(vec![test_policy("erp")], rules);
    replaced.await.unwrap();
    assert!(harness.stock().values().all(|count| *count == 3));
    assert_eq!(harness.alarms(), ["source_held"]);
}

#[tokio::test]
async fn a_replaced_mapping_applies_to_stored_statements() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, vec![row("box", 40)]).await;
    assert_eq!(harness.stock(), stock([("box", 40)]));
    let policy = SourcePolicy {
        mapping: vec![("box".to_owned(), "A-10".to_owned(), 10)],
        ..test_policy("erp")
    };
    let replaced = harness
        .pipeline
        .replace_settings(vec![policy], ShopRules::default());
    replaced.await.unwrap();
    assert_eq!(harness.stock()["A-10"], 4);
}

#[tokio::test]
async fn restart_applies_unapplied_statements() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..5_000, 5)).await;
    harness.store.close().await.unwrap();
    let read = async |rows: &mut EntrySender| {
        for entry in numbered_rows(0..5_000, 6) {
            rows.send(entry).await.unwrap();
        }
        Ok(None::<DeliveryScope>)
    };
    let error = harness
        .pipeline
        .ingest_delivery(0, now(), true, read)
        .await
        .unwrap_err();
    assert!(matches!(error, PipelineError::Ingest(_)), "{error}");
    assert!(harness.stock().values().all(|count| *count == 5));
    let harness = harness
        .restart(vec![test_policy("erp")], ShopRules::default())
        .await;
    assert!(harness.stock().values().all(|count| *count == 6));
}

#[tokio::test]
async fn combines_sources_and_mapped_skus() {
    let mapping = |rows: &[(&str, &str, u32)]| {
        rows.iter()
            .map(|(source_sku, sku, pack)| ((*source_sku).into(), (*sku).into(), *pack))
            .collect()
    };
    let first = SourcePolicy {
        mapping: mapping(&[("bolt", "BOLT-1", 1), ("bolt", "BOLT-10", 10)]),
        ..test_policy("erp")
    };
    let second = SourcePolicy {
        mapping: mapping(&[("болт", "BOLT-1", 1)]),
        ..test_policy("sheet")
    };
    let rules = ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let harness = PipelineHarness::new(vec![first, second], rules).await;
    harness
        .deliver(0, vec![row("bolt", 57), row("NUT", 3)])
        .await;
    harness
        .deliver(1, vec![row("болт", 4), row("NUT", 1)])
        .await;
    assert_eq!(
        harness.stock(),
        stock([("BOLT-1", 61), ("BOLT-10", 5), ("NUT", 4)])
    );
    let scope = Some(DeliveryScope::Delta);
    let delta = vec![
        SourcePolicy {
            mapping: mapping(&[("bolt", "BOLT-10", 10)]),
            scope,
            ..test_policy("erp")
        },
        test_policy("sheet"),
    ];
    let rules = ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let harness = harness.restart(delta, rules).await;
    harness.deliver(0, vec![row("bolt", 99)]).await;
    assert_eq!(harness.stock()["BOLT-10"], 9);
}

#[tokio::test]
async fn dry_run_reports_and_changes_nothing() {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..4, 5)).await;
    let before = harness.stock();
    let dry_run = async |entries: Vec<DeliveryEntry>| {
        let read = async |rows: &mut EntrySender| {
            for entry in entries {
                rows.send(entry).await.unwrap();
            }
            Ok(None::<DeliveryScope>)
        };
        harness
            .pipeline
            .ingest_delivery(0, now(), false, read)
            .await
            .unwrap()
    };
    let report = dry_run(vec![
        row("S-0", 0),
        row("S-1", 7),
        row("S-2", 5),
        row("N", 1),
    ])
    .await;
    let ChangeCounts {
        new,
        changed,
        unchanged,
        zeroed,
        ..
    } = report.changes;
    assert_eq!((new, changed, unchanged, zeroed), (1, 3, 1, 2));
    assert!(
        matches!(report.outcome, DeliveryOutcome::Held(_)),
        "two zeros of four SKUs exceed the limit"
    );
    assert_eq!(
        dry_run(numbered_rows(0..4, 4)).await.outcome,
        DeliveryOutcome::Previewed
    );
    assert_eq!((harness.stock(), harness.alarms()), (before, Vec::new()));
}

/// Action of the property test below.
#[derive(Clone, Debug)]
enum PipelineAction {
    Snapshot(Vec<(u8, u8)>),
    Put(u8, u8),
    Restart,
}

fn pipeline_actions() -> impl Strategy<Value = Vec<PipelineAction>> {
    let rows = proptest::collection::vec((0_u8..12, 0_u8..5), 0..12);
    let action = prop_oneof![
        4 => rows.prop_map(PipelineAction::Snapshot),
        2 => (0_u8..12, 0_u8..5).prop_map(|(sku, count)| PipelineAction::Put(sku, count)),
        1 => Just(PipelineAction::Restart),
    ];
    proptest::collection::vec(action, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn book_has_the_latest_statement_of_each_sku(actions in pipeline_actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run_actions(actions));
    }
}

async fn run_actions(actions: Vec<PipelineAction>) {
    // Nothing is held, because the property is about what is applied.
    let limits = GuardLimits {
        min_rows_ratio: 0.0,
        max_zeroed_ratio: 1.0,
        max_rejected_ratio: 1.0,
        accept_after_repeats: None,
    };
    let policy = SourcePolicy {
        limits,
        ..zero_absent_policy()
    };
    let mut harness = PipelineHarness::new(vec![policy.clone()], ShopRules::default()).await;
    let mut model: BTreeMap<String, u32> = BTreeMap::new();
    let mut last_snapshot: Vec<String> = Vec::new();
    for action in actions {
        match action {
            PipelineAction::Snapshot(rows) => {
                let rows: BTreeMap<String, u32> = rows
                    .into_iter()
                    .map(|(sku, count)| (format!("S{sku}"), count.into()))
                    .collect();
                let entries = rows
                    .iter()
                    .map(|(sku, count)| row(sku, i64::from(*count)))
                    .collect();
                harness.deliver(0, entries).await;
                // Absence concerns only the products of the last snapshot.
                for sku in last_snapshot {
                    model.insert(sku, 0);
                }
                last_snapshot = rows.keys().cloned().collect();
                model.extend(rows);
            }
            PipelineAction::Put(sku, count) => {
                let sku = format!("S{sku}");
                harness.put_stock(&sku, count.into()).await;
                model.insert(sku, count.into());
            }
            PipelineAction::Restart => {
                harness = harness
                    .restart(vec![policy.clone()], ShopRules::default())
                    .await;
            }
        }
        assert_eq!(harness.stock(), model);
    }
}

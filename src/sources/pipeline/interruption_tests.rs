//! Tests of interrupted deliveries: by a kill, by a cancelled caller, by a file that is cut. The
//! result is the old stock or the new one, and never a mixture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};
use std::pin::pin;
use std::task::Poll;

use connectors::{Completeness, EntrySender, files};
use lifecycle::run_blocking;
use stock::Sku;
use stock_import::formats::{self, Format, FormatError};
use stock_import::stock_rules::ShopRules;
use stock_import::{DeliveryEntry, DeliveryScope, ProductKey, ReadSettings, Row};
use strict_http::causes;

use super::tests::{PipelineHarness, now, numbered_rows, row, test_policy, zero_absent_policy};
use super::*;

/// More polls than any delivery in these tests takes.
const MANY_STEPS: u32 = 5_000;

type StockBySku = BTreeMap<String, u32>;

/// Polls a future at most `steps` times and drops it then. Returns the output if it ended before.
async fn drop_after<F: Future>(steps: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut steps_taken = 0;
    std::future::poll_fn(|cx| {
        if steps_taken == steps {
            return Poll::Ready(None);
        }
        steps_taken += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// The n-th snapshot of eleven products. Even snapshots lack one product, odd ones another.
fn snapshot(n: u32) -> Vec<DeliveryEntry> {
    let first = i64::from(n % 2);
    numbered_rows(first..first + 10, i64::from(n) + 1)
}

/// Stock after the n-th snapshot.
fn stock_of(n: u32) -> StockBySku {
    let absent = if n.is_multiple_of(2) { 10 } else { 0 };
    (0..11)
        .map(|sku| (format!("S-{sku}"), if sku == absent { 0 } else { n + 1 }))
        .collect()
}

fn sold_out_rows() -> Vec<DeliveryEntry> {
    numbered_rows(0..11, 0)
}

fn sold_out() -> StockBySku {
    (0..11).map(|sku| (format!("S-{sku}"), 0)).collect()
}

async fn new_harness() -> PipelineHarness {
    let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..11, 1)).await;
    harness
}

impl PipelineHarness {
    /// Delivers the n-th snapshot and asserts that it is applied.
    async fn deliver_snapshot(&self, n: u32) {
        assert_eq!(
            self.deliver(0, snapshot(n)).await.outcome,
            DeliveryOutcome::Applied
        );
        assert_eq!(self.stock(), stock_of(n));
    }

    /// Begins a delivery and drops it after so many steps. Returns the outcome if it ended before.
    async fn deliver_interrupted(
        &self,
        steps: u32,
        entries: Vec<DeliveryEntry>,
    ) -> Option<DeliveryOutcome> {
        let read = async |rows: &mut EntrySender| {
            for entry in entries {
                rows.send(entry).await.map_err(|error| error.to_string())?;
            }
            Ok(None)
        };
        let delivered =
            drop_after(steps, self.pipeline.ingest_delivery(0, now(), true, read)).await;
        assert_eq!(
            self.pipeline.status(0).reading_since,
            None,
            "the source is still being read after {steps} steps"
        );
        delivered.map(|delivered| delivered.unwrap().outcome)
    }

    /// Applies what the next poll of the source would apply first.
    async fn reapply_pending(&self) {
        self.unlocked().await;
        if self.pipeline.needs_reapply(0) {
            self.pipeline.reapply_rules().await.unwrap();
        }
    }

    async fn restarted(self) -> Self {
        self.restart(vec![zero_absent_policy()], ShopRules::default())
            .await
    }
}

/// Asserts that old and new stock were both seen, so that the steps fall before and after the
/// commit. An operation that has begun on another thread ends although its caller has gone.
fn assert_both_seen(seen: [u32; 2]) {
    assert!(
        seen[0] > 1 && seen[1] > 0,
        "the steps do not fall around the commit: {seen:?}"
    );
}

#[tokio::test]
async fn killed_delivery_leaves_old_or_new_stock() {
    let mut harness = new_harness().await;
    let mut seen = [0, 0];
    for steps in 0..MANY_STEPS {
        let n = 2 * (steps + 1);
        harness.deliver_snapshot(n).await;
        let ended = harness.deliver_interrupted(steps, snapshot(n + 1)).await;
        harness = harness.restarted().await;
        let is_new = harness.stock() == stock_of(n + 1);
        assert!(
            is_new || harness.stock() == stock_of(n),
            "{steps} steps: {:?}",
            harness.stock()
        );
        seen[usize::from(is_new)] += 1;
        if ended.is_some() {
            assert!(is_new);
            return assert_both_seen(seen);
        }
    }
    unreachable!("a delivery ends");
}

#[tokio::test]
async fn cancelled_delivery_leaves_old_or_new_stock() {
    let harness = new_harness().await;
    let mut seen = [0, 0];
    for steps in 0..MANY_STEPS {
        let n = 2 * (steps + 1);
        harness.deliver_snapshot(n).await;
        let ended = harness.deliver_interrupted(steps, snapshot(n + 1)).await;
        harness.reapply_pending().await;
        let is_new = harness.stock() == stock_of(n + 1);
        assert!(
            is_new || harness.stock() == stock_of(n),
            "{steps} steps: {:?}",
            harness.stock()
        );
        seen[usize::from(is_new)] += 1;
        if ended.is_some() {
            return assert_both_seen(seen);
        }
    }
    unreachable!("a delivery ends");
}

#[tokio::test]
async fn delta_after_cancelled_snapshot_leaves_no_half() {
    let policy = SourcePolicy {
        scope: None,
        ..zero_absent_policy()
    };
    let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
    let deliver = async |steps, scope, entries: Vec<DeliveryEntry>| {
        let read = async |rows: &mut EntrySender| {
            for entry in entries {
                rows.send(entry).await.map_err(|error| error.to_string())?;
            }
            Ok(Some(scope))
        };
        drop_after(
            steps,
            harness.pipeline.ingest_delivery(0, now(), true, read),
        )
        .await
        .map(Result::unwrap)
    };
    deliver(MANY_STEPS, DeliveryScope::Snapshot, numbered_rows(0..11, 1))
        .await
        .unwrap();
    for steps in 0..MANY_STEPS {
        let n = 2 * (steps + 1);
        deliver(MANY_STEPS, DeliveryScope::Snapshot, snapshot(n))
            .await
            .unwrap();
        assert_eq!(harness.stock(), stock_of(n));
        let ended = deliver(steps, DeliveryScope::Snapshot, snapshot(n + 1)).await;
        deliver(MANY_STEPS, DeliveryScope::Delta, vec![row("S-5", 77_777)])
            .await
            .unwrap();
        harness.reapply_pending().await;
        let with_delta = |mut stock: StockBySku| {
            stock.insert("S-5".to_owned(), 77_777);
            stock
        };
        let found = harness.stock();
        let (old, new) = (with_delta(stock_of(n)), with_delta(stock_of(n + 1)));
        assert!(found == old || found == new, "{steps} steps: {found:?}");
        // The explanation agrees with the stock, so no statement is lost.
        let explanation = harness
            .pipeline
            .explain(&Sku::parse("S-3").unwrap())
            .await
            .unwrap();
        let result = format!("result: {} as of", found["S-3"]);
        let last = explanation.last().unwrap().to_string();
        assert!(
            last.starts_with(&result),
            "{steps} steps: {} and {last}",
            found["S-3"]
        );
        if ended.is_some() {
            return;
        }
    }
    unreachable!("a delivery ends");
}

#[tokio::test]
async fn restart_completes_delivery_of_several_batches() {
    let policies = || vec![zero_absent_policy()];
    let mut harness = PipelineHarness::new(policies(), ShopRules::default()).await;
    let mut count = 1;
    harness.deliver(0, numbered_rows(0..2_100, count)).await;
    for steps in 0..MANY_STEPS {
        let ended = harness
            .deliver_interrupted(steps, numbered_rows(0..2_100, count + 1))
            .await;
        harness = harness.restart(policies(), ShopRules::default()).await;
        let counts: std::collections::BTreeSet<u32> = harness.stock().into_values().collect();
        assert_eq!(
            (counts.len(), harness.stock().len()),
            (1, 2_100),
            "{steps} steps: {counts:?}"
        );
        count = counts.into_iter().next().unwrap().into();
        if ended.is_some() {
            return;
        }
    }
}

#[tokio::test]
async fn killed_wipe_is_held_or_leaves_no_trace() {
    let mut harness = new_harness().await;
    let mut seen = [0, 0];
    for steps in 0..MANY_STEPS {
        let n = 2 * (steps + 1);
        harness.deliver_snapshot(n).await;
        let ended = harness.deliver_interrupted(steps, sold_out_rows()).await;
        harness = harness.restarted().await;
        assert_eq!(harness.stock(), stock_of(n), "{steps} steps");
        let is_held = match harness.pipeline.accept("erp", None).await {
            Ok(_) => true,
            Err(PipelineError::NothingToAccept(_)) => false,
            Err(error) => panic!("{steps} steps: {error}"),
        };
        assert_eq!(
            harness.stock(),
            if is_held { sold_out() } else { stock_of(n) }
        );
        seen[usize::from(is_held)] += 1;
        if ended.is_some() {
            assert!(is_held);
            return assert_both_seen(seen);
        }
    }
    unreachable!("a delivery ends");
}

#[tokio::test]
async fn interrupted_approval_applies_all_or_nothing() {
    for is_restarted in [false, true] {
        let mut harness = new_harness().await;
        let mut seen = [0, 0];
        for steps in 0..MANY_STEPS {
            let n = 2 * (steps + 1);
            harness.deliver_snapshot(n).await;
            let outcome = harness.deliver(0, sold_out_rows()).await.outcome;
            assert!(matches!(outcome, DeliveryOutcome::Held(_)), "{outcome:?}");
            let ended = drop_after(steps, harness.pipeline.accept("erp", None)).await;
            if is_restarted {
                harness = harness.restarted().await;
            } else {
                harness.reapply_pending().await;
            }
            let is_applied = harness.stock() == sold_out();
            assert!(
                is_applied || harness.stock() == stock_of(n),
                "{steps}: {:?}",
                harness.stock()
            );
            seen[usize::from(is_applied)] += 1;
            if let Some(ended) = ended {
                assert_eq!(ended.unwrap().outcome, DeliveryOutcome::Applied);
                assert_both_seen(seen);
                break;
            }
        }
    }
}

// === Files that are cut ===

const PRODUCTS: u32 = 200;

/// Count of a product in the new file. No beginning of it is the count of another product.
fn new_count(product: u32) -> u32 {
    1_000 + product
}

fn csv(products: u32) -> Vec<u8> {
    let mut text = "Артикул;Остаток\n".to_owned();
    for product in 0..products {
        let _infallible = writeln!(text, "S-{product};{}", new_count(product));
    }
    text.into_bytes()
}

fn commerceml() -> Vec<u8> {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<КоммерческаяИнформация \
                    ВерсияСхемы=\"2.07\"><ПакетПредложений СодержитТолькоИзменения=\"false\">\
                    <Предложения>"
        .to_owned();
    for product in 0..PRODUCTS {
        let count = new_count(product);
        let _infallible = writeln!(
            text,
            "<Предложение><Ид>{product}</Ид><Артикул>S-{product}</Артикул>\
             <Количество>{count}</Количество></Предложение>"
        );
    }
    text.push_str("</Предложения></ПакетПредложений></КоммерческаяИнформация>");
    text.into_bytes()
}

/// Reads a file and asserts that each row is a row of the complete file.
fn read_prefix(format: Format, bytes: &[u8]) -> Result<u32, FormatError> {
    let mut rows = 0;
    let ended = formats::read(
        format,
        &mut Cursor::new(bytes),
        &ReadSettings::default(),
        &mut |entry| {
            if let DeliveryEntry::Row(Row {
                key: ProductKey::Sku(sku),
                quantity,
                ..
            }) = entry
            {
                assert_eq!(sku, format!("S-{rows}"), "cut at {}", bytes.len());
                let count = quantity.map(|quantity| quantity.pieces());
                assert_eq!(
                    count,
                    Some(i64::from(new_count(rows))),
                    "cut at {}",
                    bytes.len()
                );
                rows += 1;
            }
            Ok(())
        },
    );
    ended.map(|_| rows)
}

#[test]
fn cut_file_has_only_complete_rows() {
    const LINES: u32 = 60;
    let lines = csv(LINES);
    for length in 0..lines.len() {
        // A cut file may be rejected or not, but each row of it is correct.
        let _any = read_prefix(Format::Csv, &lines[..length]);
    }
    assert_eq!(read_prefix(Format::Csv, &lines).unwrap(), LINES);
    let document = commerceml();
    for length in (0..document.len())
        .step_by(307)
        .chain(document.len() - 40..document.len())
    {
        let ended = read_prefix(Format::CommerceMl, &document[..length]);
        assert!(ended.is_err(), "cut at {length} of {}", document.len());
    }
    assert_eq!(
        read_prefix(Format::CommerceMl, &document).unwrap(),
        PRODUCTS
    );
}

impl PipelineHarness {
    /// Delivers a file as the connector for files does.
    async fn deliver_file(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<DeliveryReport, PipelineError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (name, spool) = (name.to_owned(), self.pipeline.directory().to_owned());
        let read = async |rows: &mut EntrySender| {
            let mut rows = rows.new_sender();
            run_blocking(move || {
                let reading = ReadSettings::default();
                let read = files::read_file(&name, &mut file, None, &reading, &spool, &mut rows);
                let scopes = read.map_err(|error| causes(&error))?;
                rows.flush_blocking().map_err(|error| error.to_string())?;
                Ok(files::combined_scope(&scopes))
            })
            .await
        };
        self.pipeline.ingest_delivery(0, now(), true, read).await
    }
}

#[tokio::test]
async fn cut_file_changes_no_count_past_the_guard() {
    for (name, bytes, step) in [
        ("stock.csv", csv(PRODUCTS), 89),
        ("offers.xml", commerceml(), 3_001),
    ] {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        let old: StockBySku = (0..PRODUCTS).map(|n| (format!("S-{n}"), 5)).collect();
        let new: StockBySku = (0..PRODUCTS)
            .map(|n| (format!("S-{n}"), new_count(n)))
            .collect();
        for length in (0..bytes.len()).step_by(step) {
            harness
                .deliver(0, numbered_rows(0..PRODUCTS.into(), 5))
                .await;
            let report = harness.deliver_file(name, &bytes[..length]).await;
            let found = harness.stock();
            if !matches!(
                &report,
                Ok(DeliveryReport {
                    outcome: DeliveryOutcome::Applied,
                    ..
                })
            ) {
                assert_eq!(found, old, "{name} cut at {length}: {report:?}");
                continue;
            }
            assert_eq!(name, "stock.csv", "a document cut at {length} was applied");
            let zeros = found.values().filter(|count| **count == 0).count();
            assert!(zeros <= 60, "{name} cut at {length}: {zeros} zeros");
            for (sku, count) in &found {
                assert!(
                    [0, 5, new[sku]].contains(count),
                    "cut at {length}: {sku} is {count}"
                );
            }
        }
        assert_eq!(
            harness.deliver_file(name, &bytes).await.unwrap().outcome,
            DeliveryOutcome::Applied
        );
        assert_eq!(harness.stock(), new);
    }
}

#[tokio::test]
async fn failed_reader_leaves_no_trace() {
    let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..20, 5)).await;
    let before = harness.stock();
    for rows_read in 0..20 {
        let read = async |rows: &mut EntrySender| {
            for entry in numbered_rows(0..rows_read, 9) {
                rows.send(entry).await.unwrap();
            }
            Err::<Completeness, _>("the line broke".to_owned())
        };
        let error = harness
            .pipeline
            .ingest_delivery(0, now(), true, read)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "the line broke");
        assert_eq!(harness.stock(), before);
    }
    assert_eq!(harness.alarms(), ["source_failed"]);
    harness.deliver(0, numbered_rows(0..20, 9)).await;
    assert_eq!(harness.alarms(), [""; 0]);
}

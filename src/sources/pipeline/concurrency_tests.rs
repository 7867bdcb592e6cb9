//! Tests of deliveries that run at once, and of readers and reloads meanwhile. A hook stops a
//! delivery at a step, so nothing depends on time.

use std::path::Path;
use std::sync::mpsc;

use stock::Sku;
use stock_import::DeliveryScope;
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::{Adjustments, Combine, ShopRules};
use tokio::sync::mpsc::UnboundedReceiver;

use super::tests::{PipelineHarness, numbered_rows, row, test_policy, zero_absent_policy};
use super::*;

/// Rows of a delivery that is compared without a lock, and applied in several groups.
const MANY: i64 = 1_600;

/// Delivery that is stopped the first time that it reaches a step.
struct StoppedDelivery {
    reached: UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
}

impl StoppedDelivery {
    fn at(harness: &PipelineHarness, step: &'static str) -> Self {
        let (reached_sender, reached) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = mpsc::channel();
        let first = Mutex::new(Some((reached_sender, released)));
        harness.pipeline.0.steps.set(move |name| {
            if name != step {
                return;
            }
            let first = first.lock().take();
            if let Some((reached, released)) = first {
                reached.send(()).unwrap();
                released.recv().unwrap();
            }
        });
        Self { reached, release }
    }

    /// Waits for the step, runs something, and lets the delivery go on.
    async fn meanwhile<T>(mut self, run: impl Future<Output = T>) -> T {
        self.reached.recv().await.unwrap();
        let result = run.await;
        self.release.send(()).unwrap();
        result
    }
}

fn delta_policy(name: &str) -> SourcePolicy {
    SourcePolicy {
        scope: Some(DeliveryScope::Delta),
        limits: GuardLimits {
            max_zeroed_ratio: 1.0,
            ..GuardLimits::default()
        },
        ..test_policy(name)
    }
}

async fn summing_harness() -> PipelineHarness {
    let rules = ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let policies = vec![test_policy("erp"), delta_policy("sheet")];
    PipelineHarness::new(policies, rules).await
}

#[tokio::test]
async fn readers_wait_for_no_delivery() {
    for (rows, steps) in [
        (
            MANY,
            &[
                "staged",
                "compared",
                "blocks written",
                "committed",
                "group read",
            ][..],
        ),
        (
            20,
            &[
                "staged",
                "compared",
                "blocks written",
                "committed",
                "group read",
            ],
        ),
    ] {
        let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..rows, 5)).await;
        for (count, step) in (6..).zip(steps) {
            let stopped = StoppedDelivery::at(&harness, step);
            let read = stopped.meanwhile(async {
                let pipeline = &harness.pipeline;
                assert_eq!(pipeline.rejected_rows(0, 10).await.unwrap().len(), 0);
                assert_eq!(pipeline.reader_state(0).await.unwrap(), "");
                pipeline.explain(&Sku::parse("S-1").unwrap()).await.unwrap()
            });
            let delivery = harness.deliver(0, numbered_rows(0..rows, count));
            let (steps, report) = tokio::join!(read, delivery);
            assert_eq!(report.outcome, DeliveryOutcome::Applied);
            // The explanation is of the statements before the delivery, or of those after it.
            let text = steps.last().unwrap().to_string();
            let is_committed = ["committed", "group read"].contains(step);
            let explained = if is_committed { count } else { count - 1 };
            assert!(
                text.starts_with(&format!("result: {explained} ")),
                "{step}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn small_deliveries_do_not_wait_for_a_large_one() {
    for step in ["staged", "compared", "group read"] {
        let harness = summing_harness().await;
        harness.deliver(0, numbered_rows(0..MANY, 5)).await;
        harness
            .deliver(1, vec![row("S-1", 10), row("OWN", 1)])
            .await;
        assert_eq!(harness.stock()["S-1"], 15);
        let stopped = StoppedDelivery::at(&harness, step);
        let small = stopped.meanwhile(async {
            let report = harness
                .deliver(1, vec![row("S-1", 20), row("S-1599", 7)])
                .await;
            (report.outcome, harness.stock()["S-1"])
        });
        let large = harness.deliver(0, numbered_rows(0..MANY, 6));
        let ((outcome, seen), report) = tokio::join!(small, large);
        assert_eq!(outcome, DeliveryOutcome::Applied);
        assert_eq!(report.outcome, DeliveryOutcome::Applied);
        // Before its commit the large delivery counts for nothing, then for the concerned SKUs too.
        assert_eq!(seen, if step == "group read" { 26 } else { 25 }, "{step}");
        let stock = harness.stock();
        let expected = [("S-1", 26), ("S-2", 6), ("S-1599", 13), ("OWN", 1)];
        for (sku, count) in expected {
            assert_eq!(stock[sku], count, "{step}: {sku}");
        }
        assert!(!harness.pipeline.status(0).has_unapplied);
        let before = harness.stock();
        harness.pipeline.reapply_rules().await.unwrap();
        assert_eq!(harness.stock(), before);
    }
}

#[tokio::test]
async fn deliveries_of_one_source_take_turns() {
    let harness = PipelineHarness::new(vec![delta_policy("erp")], ShopRules::default()).await;
    let stopped = StoppedDelivery::at(&harness, "compared");
    // The second delivery is staged meanwhile, and compared with what the first one leaves.
    let first = harness.deliver(0, numbered_rows(0..MANY, 6));
    let second = harness.deliver(0, numbered_rows(0..3, 9));
    let (first, second, ()) = tokio::join!(first, second, stopped.meanwhile(async {}));
    let stock = harness.stock();
    let latest = if first.stated_at < second.stated_at {
        9
    } else {
        6
    };
    assert_eq!(
        (stock["S-0"], stock["S-2"], stock["S-3"]),
        (latest, latest, 6)
    );
}

#[tokio::test]
async fn reload_does_not_wait_for_a_comparison() {
    for step in ["staged", "compared"] {
        let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..MANY, 5)).await;
        let rules = ShopRules {
            adjustments: Adjustments {
                buffer: 1,
                ..Adjustments::default()
            },
            ..ShopRules::default()
        };
        let stopped = StoppedDelivery::at(&harness, step);
        let reload = stopped.meanwhile(async {
            let replaced = harness
                .pipeline
                .replace_settings(vec![test_policy("erp")], rules);
            replaced.await.unwrap();
            harness.stock()
        });
        let delivery = harness.deliver(0, numbered_rows(0..MANY, 7));
        let (reloaded, report) = tokio::join!(reload, delivery);
        assert!(reloaded.values().all(|count| *count == 4), "{step}");
        assert_eq!(report.outcome, DeliveryOutcome::Applied);
        // The delivery is decided and applied under the new rules alone.
        assert_eq!(report.changes.changed, MANY.unsigned_abs());
        assert!(harness.stock().values().all(|count| *count == 6), "{step}");
    }
}

/// Copies the files of a directory as a crash would leave them.
fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

type CrashImages = Arc<Mutex<Vec<(&'static str, tempfile::TempDir)>>>;

/// Copies the files of a shop at each step of the deliveries that follow.
fn copy_at_each_step(harness: &PipelineHarness) -> CrashImages {
    let images = CrashImages::default();
    let (list, from) = (Arc::clone(&images), harness.directory.path().to_owned());
    harness.pipeline.0.steps.set(move |step| {
        let image = tempfile::tempdir().unwrap();
        copy_directory(&from, image.path());
        list.lock().push((step, image));
    });
    images
}

#[tokio::test]
async fn crash_at_any_step_leaves_old_or_new_stock() {
    for rows in [20, MANY] {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..rows, 5)).await;
        let before = harness.stock();
        let images = copy_at_each_step(&harness);
        let mut changed = numbered_rows(1..rows, 6);
        changed.push(row("NEW", 1));
        let report = harness.deliver(0, changed).await;
        assert_eq!(report.outcome, DeliveryOutcome::Applied);
        let after = harness.stock();
        assert_eq!((after["S-0"], after["S-1"], after["NEW"]), (0, 6, 1));
        let images = std::mem::take(&mut *images.lock());
        let steps: Vec<_> = images.iter().map(|(step, _)| *step).collect();
        let expected = [
            "staged",
            "compared",
            "blocks written",
            "source written",
            "committed",
        ];
        assert_eq!(steps[..5], expected);
        assert_eq!(steps.last(), Some(&"all groups applied"));
        assert!(rows < MANY || steps.len() > 8, "{steps:?}");
        for (number, (step, image)) in images.into_iter().enumerate() {
            let policies = vec![zero_absent_policy()];
            let restarted = PipelineHarness::at(image, policies, ShopRules::default()).await;
            let stock = if number < 4 { &before } else { &after };
            assert!(restarted.stock() == *stock, "{step}, number {number}");
            assert!(!restarted.pipeline.status(0).has_unapplied);
        }
    }
}

#[tokio::test]
async fn crash_while_a_delivery_is_held_loses_no_stock() {
    let policies = || vec![zero_absent_policy()];
    let harness = PipelineHarness::new(policies(), ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..20, 5)).await;
    let before = harness.stock();
    let images = copy_at_each_step(&harness);
    let report = harness.deliver(0, numbered_rows(0..20, 0)).await;
    assert!(matches!(report.outcome, DeliveryOutcome::Held(_)));
    let images = std::mem::take(&mut *images.lock());
    let steps: Vec<_> = images.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["staged", "compared", "held file kept", "held"]);
    for (step, image) in images {
        let restarted = PipelineHarness::at(image, policies(), ShopRules::default()).await;
        assert_eq!(restarted.stock(), before, "{step}");
        let accepted = restarted.pipeline.accept("erp", None).await;
        assert_eq!(accepted.is_ok(), step == "held", "{step}");
        let sold_out = restarted.stock().values().all(|count| *count == 0);
        assert_eq!(sold_out, step == "held", "{step}");
    }
}

#[tokio::test]
async fn crash_during_an_approval_applies_all_or_nothing() {
    let policies = || vec![zero_absent_policy()];
    let harness = PipelineHarness::new(policies(), ShopRules::default()).await;
    harness.deliver(0, numbered_rows(0..MANY, 5)).await;
    let before = harness.stock();
    harness.deliver(0, numbered_rows(0..MANY, 0)).await;
    let images = copy_at_each_step(&harness);
    harness.pipeline.accept("erp", None).await.unwrap();
    let images = std::mem::take(&mut *images.lock());
    let steps: Vec<_> = images.iter().map(|(step, _)| *step).collect();
    let expected = ["compared", "blocks written", "source written", "committed"];
    assert_eq!(steps[..4], expected);
    assert!(steps.len() > 7, "{steps:?}");
    for (number, (step, image)) in images.into_iter().enumerate() {
        let restarted = PipelineHarness::at(image, policies(), ShopRules::default()).await;
        if number < 3 {
            assert_eq!(restarted.stock(), before, "{step}");
            restarted.pipeline.accept("erp", None).await.unwrap();
        }
        assert!(
            restarted.stock().values().all(|count| *count == 0),
            "{step}"
        );
    }
}

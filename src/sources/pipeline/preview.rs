//! Preview of what is held for approval: the stock that an approval would change.
//!
//! The held deliveries are applied to a working copy of the statements, by the code that an approval
//! uses, and the changes are written to a list on disk. So memory stays constant, and no
//! delivery of the shop waits. A preview is kept for a while, so that its pages are read from one
//! list.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::{Tasks, run_blocking};
use sha2::{Digest as _, Sha256};
use stock_import::delivery_guard::HoldReason;
use tempfile::TempDir;
use tokio::sync::{Mutex, oneshot};

use super::compare::{Approval, Comparison, ListedEffect};
use super::delivery::Delivery;
use super::{DeliveryPipeline, PipelineError, PipelineSettings, RULES_NAME};
use crate::sources::statements::{
    ChangeList, ChangeListWriter, DIRECTORY_PREFIX, DeliveryFacts, GroupFilter, HeldDelivery,
    StatementError, StatementStore, StockChange, StockChangeKind, StockChangeTotals, copy_held,
    copy_statements, delivery_mark, short_mark,
};

/// Age at which a preview is made again. The stock and the statements change meanwhile.
const MAX_AGE: TimeDelta = TimeDelta::minutes(2);

/// Attempts to copy held deliveries while others replace them.
const MAX_COPY_ATTEMPTS: u32 = 3;

/// Rules that are held for approval.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldRules {
    /// Time since which they are held.
    pub since: DateTime<Utc>,
    /// Reason for the hold.
    pub reason: HoldReason,
    /// Mark of the rules and the reason, by which an approval names them.
    pub mark: String,
}

/// Preview of an approval.
#[derive(Debug)]
pub struct HeldPreview {
    /// Mark of what is held. An approval with this mark applies nothing else.
    pub mark: String,
    /// Held deliveries, the oldest first; empty for held rules.
    pub held: Vec<HeldDelivery>,
    /// Numbers of changes.
    pub totals: StockChangeTotals,
    /// SKUs that the deliveries concern and whose stock stays the same.
    pub unchanged: u64,
    /// SKUs whose known stock is newer than the deliveries.
    pub outdated: u64,
    /// Time at which it was compared.
    pub compared_at: DateTime<Utc>,
    /// Time that the comparison took, in milliseconds.
    pub duration_ms: i64,
    list: Arc<ChangeList>,
    // Deletes the list when the preview is dropped.
    _directory: TempDir,
}

impl HeldPreview {
    /// Returns the changes of one kind, or of all kinds, after the first `offset`.
    ///
    /// # Errors
    /// The list cannot be read.
    pub async fn changes(
        &self,
        kind: Option<StockChangeKind>,
        offset: u64,
        limit: u32,
    ) -> Result<Vec<StockChange>, PipelineError> {
        let list = Arc::clone(&self.list);
        Ok(run_blocking(move || list.page(kind, (offset, limit))).await?)
    }
}

/// Result of a request for a preview that does not wait for its end.
#[derive(Debug)]
pub enum PreviewProgress {
    /// The comparison has ended.
    Compared(Arc<HeldPreview>),
    /// A comparison runs in the background.
    Comparing {
        /// SKUs that it has compared so far.
        skus: u64,
    },
}

/// Last comparison of each source and of the rules, by name.
#[derive(Debug, Default)]
pub(super) struct PreviewCache {
    // One comparison at a time: two of a million SKUs would take the disk twice.
    by_name: Arc<Mutex<Vec<(String, CachedPreview)>>>,
    /// SKUs that the running comparison has compared. One counts again for each held delivery that
    /// names it.
    pub(super) compared_skus: AtomicU64,
}

/// Preview, or the failure of a comparison whose caller has gone. The next caller gets the error,
/// and the one after it compares again.
type CachedPreview = Result<Arc<HeldPreview>, FailedComparison>;

#[derive(Debug)]
struct FailedComparison {
    error: PipelineError,
    /// Mark of what was held.
    mark: Option<String>,
    ended_at: DateTime<Utc>,
}

/// Changes of a working copy.
struct ComparedChanges {
    held: Vec<HeldDelivery>,
    list: ChangeList,
    unchanged: u64,
    outdated: u64,
}

impl DeliveryPipeline {
    /// Returns the rules that are held for approval.
    #[must_use]
    pub fn held_rules(&self) -> Option<HeldRules> {
        self.0.held_rules.lock().clone()
    }

    /// Returns the mark of what is held under a name: of a source, or [`RULES_NAME`].
    #[must_use]
    pub fn held_mark(&self, name: &str) -> Option<String> {
        if name == RULES_NAME {
            return self.held_rules().map(|held| held.mark);
        }
        let held = self.status(self.source_index(name)?).held;
        (!held.is_empty()).then(|| delivery_mark(&held, &self.settings().digest))
    }

    /// Compares what is held under a name, a source or [`RULES_NAME`], with the stock. The
    /// comparison is one of `tasks`.
    ///
    /// # Errors
    /// Nothing is held, or it cannot be compared.
    pub async fn preview_held(
        &self,
        name: &str,
        tasks: &Tasks,
    ) -> Result<Arc<HeldPreview>, PipelineError> {
        if self.held_mark(name).is_none() {
            return Err(PipelineError::NothingToAccept(name.to_owned()));
        }
        let mut previews = Arc::clone(&self.0.previews.by_name).lock_owned().await;
        let now = self.0.context.clock.now();
        // Previews that are too old are deleted here too.
        previews.retain(|(known, cached)| {
            let (ended_at, mark) = match cached {
                Ok(preview) => {
                    let duration = TimeDelta::milliseconds(preview.duration_ms);
                    (preview.compared_at + duration, Some(&preview.mark))
                }
                Err(failed) => (failed.ended_at, failed.mark.as_ref()),
            };
            now - ended_at < MAX_AGE && self.held_mark(known).as_ref() == mark
        });
        let known = previews.iter().position(|(known, _)| known == name);
        match known.map(|index| previews.swap_remove(index)) {
            Some((name, Ok(preview))) => {
                previews.push((name, Ok(Arc::clone(&preview))));
                return Ok(preview);
            }
            Some((_, Err(failed))) => return Err(failed.error),
            None => {}
        }
        self.0.previews.compared_skus.store(0, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let (pipeline, name, stop) = (self.clone(), name.to_owned(), tasks.clone());
        tasks.spawn_short_lived(async move {
            let comparing = {
                let (pipeline, name, stop) = (pipeline.clone(), name.clone(), stop.clone());
                run_blocking(move || pipeline.compare_held_blocking(&name, &|| stop.is_stopping()))
            };
            let compared = tokio::select! {
                () = stop.stopping() => return,
                compared = comparing => compared.map(Arc::new),
            };
            if let Ok(preview) = &compared {
                previews.push((name.clone(), Ok(Arc::clone(preview))));
            }
            if let Err(Err(error)) = sender.send(compared) {
                let (mark, ended_at) = (pipeline.held_mark(&name), pipeline.0.context.clock.now());
                let failed = FailedComparison {
                    error,
                    mark,
                    ended_at,
                };
                previews.push((name, Err(failed)));
            }
        });
        // The task has ended without a result if the service is stopping.
        let compared = receiver.await;
        compared.unwrap_or(Err(PipelineError::ComparisonInterrupted))
    }

    /// Compares like [`DeliveryPipeline::preview_held`], but returns the progress after `timeout`.
    /// The comparison continues in the background, even if the caller is cancelled, and a later
    /// call returns its result.
    ///
    /// # Errors
    /// Nothing is held, or it cannot be compared.
    pub async fn preview_within(
        &self,
        name: &str,
        timeout: Duration,
        tasks: &Tasks,
    ) -> Result<PreviewProgress, PipelineError> {
        match tokio::time::timeout(timeout, self.preview_held(name, tasks)).await {
            Ok(preview) => preview.map(PreviewProgress::Compared),
            Err(_) => Ok(PreviewProgress::Comparing {
                skus: self.0.previews.compared_skus.load(Ordering::Relaxed),
            }),
        }
    }

    /// Compares on a thread that may block. `is_stopping` ends it early.
    fn compare_held_blocking(
        &self,
        name: &str,
        is_stopping: &dyn Fn() -> bool,
    ) -> Result<HeldPreview, PipelineError> {
        let nothing_held = || PipelineError::NothingToAccept(name.to_owned());
        let started_at = self.0.context.clock.now();
        let directory = self.preview_directory()?;
        let settings = self.settings();
        let (mark, compared) = if name == RULES_NAME {
            let rules = self.held_rules().ok_or_else(nothing_held)?;
            (rules.mark, self.compare_rules(&settings, &directory)?)
        } else {
            let source = self.source_index(name).ok_or_else(nothing_held)?;
            let compared = self.compare_held(&settings, source, (&directory, is_stopping))?;
            (delivery_mark(&compared.held, &settings.digest), compared)
        };
        Ok(HeldPreview {
            mark,
            held: compared.held,
            totals: compared.list.totals,
            unchanged: compared.unchanged,
            outdated: compared.outdated,
            compared_at: started_at,
            duration_ms: (self.0.context.clock.now() - started_at).num_milliseconds(),
            list: Arc::new(compared.list),
            _directory: directory,
        })
    }

    /// Deletes the preview of what was approved.
    pub(super) fn forget_preview(&self, name: &str) {
        // While another comparison runs, the list stays until the next look.
        if let Ok(mut previews) = self.0.previews.by_name.try_lock() {
            previews.retain(|(known, _)| known != name);
        }
    }

    fn preview_directory(&self) -> Result<TempDir, PipelineError> {
        // A temporary directory is private.
        let created = tempfile::Builder::new()
            .prefix(DIRECTORY_PREFIX)
            .tempdir_in(&self.0.directory);
        created.map_err(|source| {
            PipelineError::Persist(StatementError::Directory {
                path: self.0.directory.clone(),
                source,
            })
        })
    }

    /// Copies the statements and the held deliveries of a source.
    fn copy_with_held(
        &self,
        source: usize,
        directory: &TempDir,
    ) -> Result<(TempDir, StatementStore, Vec<HeldDelivery>), PipelineError> {
        let id = self.source_id(source);
        for _ in 0..MAX_COPY_ATTEMPTS {
            let copy_directory = temporary_directory(directory)?;
            let path = copy_directory.path();
            let copy = copy_statements(&self.0.directory, path)?;
            let held = copy.source_record(id)?.held;
            let mut is_complete = true;
            for delivery in &held {
                is_complete &= copy_held(&self.0.directory, path, delivery)?;
            }
            if is_complete && !held.is_empty() {
                return Ok((copy_directory, copy, held));
            }
            if held.is_empty() {
                break;
            }
        }
        let name = self.source_name(source).to_owned();
        Err(PipelineError::NothingToAccept(name))
    }

    /// Applies the held deliveries of a source to a working copy, as
    /// [`accept`](DeliveryPipeline::accept) applies them to the statements.
    fn compare_held(
        &self,
        settings: &PipelineSettings,
        source: usize,
        (directory, is_stopping): (&TempDir, &dyn Fn() -> bool),
    ) -> Result<ComparedChanges, PipelineError> {
        let (copy_directory, mut copy, held) = self.copy_with_held(source, directory)?;
        let mut list = ChangeListWriter::create(&directory.path().join("changes.db"))?;
        let id = settings.sources[source].id;
        let (mut unchanged, mut outdated) = (0, 0);
        for held in &held {
            if is_stopping() {
                return Err(PipelineError::ComparisonInterrupted);
            }
            let mut delivery = Delivery::of_held(copy.open_held(held)?, held);
            let approval = Approval::Approved(held.clone());
            let listed = ListedEffect {
                list: Some(&mut list),
                collects_skus: false,
            };
            let Comparison {
                options,
                mut compared,
                evaluated,
                ..
            } = self.compare_blocking(
                (settings, copy_directory.path()),
                source,
                (&mut delivery, &approval),
                listed,
            )?;
            (unchanged, outdated) = (evaluated.changes.unchanged, evaluated.changes.outdated);
            let facts = DeliveryFacts::default();
            copy.commit_delivery((id, options), &delivery.staged, &mut compared, &facts)?;
            copy.mark_applied(id)?;
            list.end_delivery();
        }
        Ok(ComparedChanges {
            held,
            list: list.finish()?,
            unchanged,
            outdated,
        })
    }

    /// Evaluates the held rules over a working copy.
    fn compare_rules(
        &self,
        settings: &PipelineSettings,
        directory: &TempDir,
    ) -> Result<ComparedChanges, PipelineError> {
        let mut list = ChangeListWriter::create(&directory.path().join("changes.db"))?;
        // One consistent state is read, so no copy is needed.
        let evaluated = self.evaluate_stored(
            settings,
            GroupFilter::All,
            &self.0.directory,
            Some(&mut list),
        )?;
        Ok(ComparedChanges {
            held: Vec::new(),
            list: list.finish()?,
            unchanged: evaluated.changes.unchanged,
            outdated: evaluated.changes.outdated,
        })
    }
}

fn temporary_directory(inside: &TempDir) -> Result<TempDir, PipelineError> {
    tempfile::tempdir_in(inside.path()).map_err(|source| {
        PipelineError::Persist(StatementError::Directory {
            path: inside.path().to_owned(),
            source,
        })
    })
}

/// Returns the mark of held rules.
pub(super) fn rules_mark(digest: &str, reason: &str) -> String {
    short_mark(
        Sha256::new()
            .chain_update(digest)
            .chain_update([0xff])
            .chain_update(reason),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lifecycle::CrashSignal;
    use stock_import::DeliveryScope;
    use stock_import::stock_rules::{Adjustments, ShopRules};

    use super::*;
    use crate::sources::pipeline::tests::{
        PipelineHarness, numbered_rows, row, test_policy, zero_absent_policy,
    };
    use crate::sources::{DeliveryOutcome, SourcePolicy};

    fn tasks() -> Tasks {
        Tasks::new(CrashSignal::default())
    }

    /// Checks that a preview lists exactly the changes that the approval makes.
    async fn assert_preview_is_exact(harness: &PipelineHarness, name: &str) {
        let before = harness.stock();
        let preview = harness.pipeline.preview_held(name, &tasks()).await.unwrap();
        assert_eq!(harness.stock(), before, "a preview changes nothing");
        let changes = preview.changes(None, 0, 10_000).await.unwrap();
        let mut expected: BTreeMap<String, u32> = before.clone();
        for change in &changes {
            assert_eq!(before.get(&change.sku).copied(), change.old);
            assert_ne!(change.old, Some(change.new), "{}", change.sku);
            expected.insert(change.sku.clone(), change.new);
        }
        assert_eq!(changes.len() as u64, preview.totals.all());
        let wrong = harness.pipeline.accept(name, Some("0123")).await;
        if name == RULES_NAME {
            harness
                .pipeline
                .accept_rules(Some("0123"))
                .await
                .unwrap_err();
            let accepted = harness.pipeline.accept_rules(Some(&preview.mark)).await;
            accepted.unwrap();
        } else {
            assert!(matches!(wrong, Err(PipelineError::DeliveryChanged(_))));
            let report = harness.pipeline.accept(name, Some(&preview.mark)).await;
            assert_eq!(report.unwrap().outcome, DeliveryOutcome::Applied);
        }
        assert_eq!(harness.stock(), expected);
        harness
            .pipeline
            .preview_held(name, &tasks())
            .await
            .unwrap_err();
    }

    #[tokio::test]
    async fn a_held_snapshot_changes_what_it_shows() {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..100, 5)).await;
        let mut half = numbered_rows(0..40, 5);
        half.extend([
            row("S-40", 2),
            row("S-41", 9),
            row("S-43", 0),
            row("NEW", 1),
        ]);
        let report = harness.deliver(0, half).await;
        assert!(matches!(report.outcome, DeliveryOutcome::Held(_)));
        // Stock of others that is newer than the held delivery stays.
        harness.put_stock("S-90", 7).await;
        harness.put_stock("S-0", 8).await;
        let preview = harness
            .pipeline
            .preview_held("erp", &tasks())
            .await
            .unwrap();
        assert_eq!(preview.outdated, 2);
        let zeros = preview.totals.of(StockChangeKind::BecomesZero);
        assert_eq!((preview.totals.absent_zeros(), zeros), (56, 57));
        assert_preview_is_exact(&harness, "erp").await;
    }

    #[tokio::test]
    async fn held_deltas_are_shown_together() {
        let policy = SourcePolicy {
            scope: Some(DeliveryScope::Delta),
            ..test_policy("erp")
        };
        let harness = PipelineHarness::new(vec![policy], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..10, 5)).await;
        for zeros in [0..6, 4..8] {
            let report = harness.deliver(0, numbered_rows(zeros, 0)).await;
            assert!(matches!(report.outcome, DeliveryOutcome::Held(_)));
        }
        let mut third = numbered_rows(0..4, 0);
        third.extend([row("S-5", 5), row("S-7", 3), row("NEW", 2)]);
        let report = harness.deliver(0, third).await;
        assert!(matches!(report.outcome, DeliveryOutcome::Held(_)));
        let preview = harness.pipeline.preview_held("erp", &tasks()).await;
        assert_eq!(preview.unwrap().totals.absent_zeros(), 0);
        assert_preview_is_exact(&harness, "erp").await;
        assert_eq!(harness.stock().values().filter(|n| **n == 0).count(), 6);
    }

    #[tokio::test]
    async fn held_rules_change_what_they_show() {
        let harness = PipelineHarness::new(vec![test_policy("erp")], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..20, 5)).await;
        harness.deliver(0, numbered_rows(0..20, 6)).await;
        harness.put_stock("P", 3).await;
        let rules = ShopRules {
            adjustments: Adjustments {
                buffer: 6,
                ..Adjustments::default()
            },
            ..ShopRules::default()
        };
        let harness = harness.restart(vec![test_policy("erp")], rules).await;
        assert!(harness.pipeline.held_rules().is_some());
        assert_preview_is_exact(&harness, RULES_NAME).await;
        assert_eq!(harness.stock().values().sum::<u32>(), 3);
    }

    #[tokio::test]
    async fn a_replaced_delivery_is_not_accepted() {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..100, 5)).await;
        let before = harness.stock();
        harness.deliver(0, numbered_rows(0..40, 5)).await;
        let seen = harness
            .pipeline
            .preview_held("erp", &tasks())
            .await
            .unwrap();
        // A repetition of the same delivery is what was looked at.
        harness.deliver(0, numbered_rows(0..40, 5)).await;
        assert_eq!(harness.pipeline.held_mark("erp"), Some(seen.mark.clone()));
        harness.deliver(0, numbered_rows(0..30, 5)).await;
        let error = harness.pipeline.accept("erp", Some(&seen.mark)).await;
        assert!(matches!(error, Err(PipelineError::DeliveryChanged(_))));
        assert_eq!(harness.stock(), before);
        assert_eq!(harness.alarms(), ["source_held"]);
        let new = harness
            .pipeline
            .preview_held("erp", &tasks())
            .await
            .unwrap();
        assert_eq!((seen.totals.all(), new.totals.all()), (60, 70));
        assert_preview_is_exact(&harness, "erp").await;
    }

    #[tokio::test]
    async fn a_comparison_outlives_its_caller() {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..100, 5)).await;
        harness.deliver(0, numbered_rows(0..40, 5)).await;
        let pipeline = &harness.pipeline;
        let timed_out = pipeline
            .preview_within("erp", Duration::ZERO, &tasks())
            .await;
        assert!(matches!(timed_out, Ok(PreviewProgress::Comparing { .. })));
        let first = pipeline.preview_held("erp", &tasks()).await.unwrap();
        // The result of the comparison is used again, so no page starts a second one.
        let second = pipeline
            .preview_within("erp", Duration::MAX, &tasks())
            .await
            .unwrap();
        assert!(
            matches!(second, PreviewProgress::Compared(second) if Arc::ptr_eq(&first, &second))
        );
        let compared = pipeline.0.previews.compared_skus.load(Ordering::Relaxed);
        assert_eq!(compared, 100);
    }

    #[tokio::test]
    async fn the_error_of_a_comparison_is_reported_once() {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..100, 5)).await;
        harness.deliver(0, numbered_rows(0..40, 5)).await;
        let pipeline = &harness.pipeline;
        let held = pipeline.directory().join(&pipeline.status(0).held[0].file);
        let elsewhere = held.with_extension("away");
        std::fs::rename(&held, &elsewhere).unwrap();
        let timed_out = pipeline
            .preview_within("erp", Duration::ZERO, &tasks())
            .await;
        assert!(matches!(timed_out, Ok(PreviewProgress::Comparing { .. })));
        // The lock is free when the comparison in the background has failed.
        drop(pipeline.0.previews.by_name.lock().await);
        std::fs::rename(&elsewhere, &held).unwrap();
        pipeline.preview_held("erp", &tasks()).await.unwrap_err();
        pipeline.preview_held("erp", &tasks()).await.unwrap();
    }

    #[tokio::test]
    async fn previews_leave_no_files() {
        let harness = PipelineHarness::new(vec![zero_absent_policy()], ShopRules::default()).await;
        harness.deliver(0, numbered_rows(0..100, 5)).await;
        harness.deliver(0, numbered_rows(0..40, 5)).await;
        let previews = || {
            let entries = std::fs::read_dir(harness.pipeline.directory()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            let names = names.filter(|name| name.to_string_lossy().starts_with("preview-"));
            names.count()
        };
        let preview = harness
            .pipeline
            .preview_held("erp", &tasks())
            .await
            .unwrap();
        assert_eq!(previews(), 1);
        harness.pipeline.accept("erp", None).await.unwrap();
        drop(preview);
        harness
            .pipeline
            .preview_held("erp", &tasks())
            .await
            .unwrap_err();
        assert_eq!(previews(), 0);
    }
}

//! Decision about a staged delivery: apply it, hold it for approval, or only report its effect.
//!
//! The delivery is compared with the statements and the book in one pass that writes nothing. What
//! the guard approves is committed in one transaction, and then passed to ingest.
//!
//! A small delivery has the statements to itself for the short time that it takes. A large one is
//! compared without a lock, and applied in groups, so others need not wait for it. See
//! [`super::large_delivery`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use stock_import::delivery_guard::{DeliveryImpact, HoldReason, check_delivery};
use stock_import::{DeliveryScope, RejectedRow};

use super::compare::{Approval, Comparison, resolve_options};
use super::delivery::Delivery;
use super::locked_statements::LockedStatements;
use super::{
    AbsentPolicy, ChangeCounts, DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError,
    PipelineSettings, PipelineSource,
};
use crate::ingest::Origin;
use crate::sources::statements::{
    CommitOptions, ComparedDelivery, DeliveryContents, DeliveryFacts, HeldDelivery, SourceId,
    SourceRecord, SpoolReader, StatementError, StatementReader,
};

/// Decision of the guard.
enum Decision {
    Reported,
    Held(HeldDelivery),
    Applied,
}

impl DeliveryPipeline {
    /// Compares a delivery, and applies it, holds it or only reports its effect.
    pub(super) async fn decide(
        &self,
        source: usize,
        delivery: Delivery,
        approval: Approval,
    ) -> Result<DeliveryReport, PipelineError> {
        // Each delivery replaces statements of the one before.
        let _turn = self.0.source_turns[source].lock().await;
        let rows = (!delivery.staged.is_held()).then_some(delivery.staged.counts.rows);
        if self.is_large(source, rows, delivery.scope).await? {
            return self.decide_large(source, delivery, approval).await;
        }
        let mut statements = self.statements().await?;
        let settings = self.settings();
        let collects_skus = self.0.concerned.lock().is_some();
        let compared = self
            .compare(&settings, source, delivery, &approval, collects_skus)
            .await?;
        let (delivery, mut comparison) = compared;
        self.note_concerned(std::mem::take(&mut comparison.concerned_skus));
        let mut settled = self
            .settle(
                &mut statements,
                &settings,
                (source, delivery),
                (comparison, approval),
            )
            .await?;
        if let Some(updates) = settled.updates.take() {
            self.apply(&settings, updates).await?;
            self.mark_applied(&mut statements, source).await?;
        }
        let Settled {
            report, released, ..
        } = settled;
        self.release(&mut statements, source, &report, released)
            .await?;
        self.mirror_later_change(&mut statements).await;
        Ok(report)
    }

    /// Lets the guard decide, and writes the delivery to the statements or holds it.
    pub(super) async fn settle(
        &self,
        statements: &mut LockedStatements,
        settings: &Arc<PipelineSettings>,
        (source, delivery): (usize, Delivery),
        (comparison, approval): (Comparison, Approval),
    ) -> Result<Settled, PipelineError> {
        let target = &settings.sources[source];
        let Comparison {
            record,
            options,
            compared,
            evaluated,
            ..
        } = comparison;
        let contents = &compared.contents;
        let changes = evaluated.changes;
        let mut report = build_report(&delivery, options, contents, changes, target.policy.absent);
        let impact = delivery_impact(&record, contents, changes);
        let reasons = self.hold_reasons(target, &record, &delivery, impact);
        let held = (!reasons.is_empty())
            .then(|| self.held_delivery(&record.held, (&delivery, options), reasons));
        let decision = match (&approval, held) {
            (Approval::DryRun | Approval::Reconsidered(_), Some(held)) => {
                report.outcome = DeliveryOutcome::Held(held.reason);
                Decision::Reported
            }
            (Approval::DryRun, None) => {
                report.outcome = DeliveryOutcome::Previewed;
                Decision::Reported
            }
            (Approval::NotGiven, Some(held)) if !is_repeated(target, &held) => Decision::Held(held),
            (Approval::NotGiven | Approval::Approved(_), _) | (Approval::Reconsidered(_), None) => {
                Decision::Applied
            }
        };
        let mut settled = Settled {
            report,
            updates: None,
            released: Vec::new(),
        };
        match decision {
            Decision::Reported => {}
            Decision::Held(held) => {
                settled.report.outcome = DeliveryOutcome::Held(held.reason.clone());
                let is_other =
                    |last: &&HeldDelivery| held.is_snapshot && last.digest != held.digest;
                let replaced = record.held.iter().filter(is_other).count();
                self.hold(statements, (source, target), (delivery, compared), held)
                    .await?;
                self.record_replaced(source, replaced);
            }
            Decision::Applied => {
                let facts = delivery_facts(target, &delivery, &record, &settled.report);
                self.commit(
                    statements,
                    (source, target.id),
                    (delivery, compared),
                    (options, facts),
                )
                .await?;
                // `reapply_rules` first decides whether the new rules may be used.
                let has_new_rules = self.0.has_new_rules.load(Ordering::Relaxed);
                settled.updates = (!has_new_rules).then_some(evaluated.updates);
                // An accepted snapshot supersedes all held deliveries. An approved delivery is
                // itself no longer held. A delta supersedes none.
                settled.released = match approval {
                    Approval::Approved(held) | Approval::Reconsidered(held) => vec![held],
                    Approval::NotGiven | Approval::DryRun
                        if options.scope == DeliveryScope::Snapshot =>
                    {
                        self.record_replaced(source, record.held.len());
                        record.held
                    }
                    Approval::NotGiven | Approval::DryRun => Vec::new(),
                };
            }
        }
        Ok(settled)
    }

    async fn hold(
        &self,
        statements: &mut LockedStatements,
        (source, target): (usize, &PipelineSource),
        (delivery, compared): (Delivery, ComparedDelivery),
        held: HeldDelivery,
    ) -> Result<(), PipelineError> {
        let id = target.id;
        let resolve = resolve_options(&target.policy, &delivery);
        let (directory, mut staged) = (self.0.directory.clone(), delivery.staged);
        let hold = statements.run(move |statements| {
            statements.save_rejected(id, &staged, compared.contents.rejected > 0)?;
            let reader = StatementReader::open(&directory)?;
            staged.write_resolved(&reader, id, resolve)?;
            Ok::<_, PipelineError>(statements.hold_delivery(id, staged, held)?)
        });
        self.0.statuses.lock()[source].held = hold.await?;
        self.mirror(statements).await
    }

    async fn commit(
        &self,
        statements: &mut LockedStatements,
        (source, id): (usize, SourceId),
        (delivery, mut compared): (Delivery, ComparedDelivery),
        (options, facts): (CommitOptions, DeliveryFacts),
    ) -> Result<(), PipelineError> {
        // After the commit, the statements hold. A crash then leaves the mark "unapplied" on disk,
        // and the book follows at the next start. With other replicas they hold when the mirror has
        // them: a crash before it is as if the delivery had not been read.
        self.0.statuses.lock()[source].has_unapplied = true;
        let (steps, staged) = (self.0.steps.clone(), delivery.staged);
        let commit = statements.run(move |statements| {
            statements.save_rejected(id, &staged, compared.contents.rejected > 0)?;
            statements.commit_delivery((id, options), &staged, &mut compared, &facts)?;
            steps.reach("committed");
            Ok::<_, StatementError>(())
        });
        commit.await?;
        self.mirror(statements).await
    }

    /// Notes that the book has the statements of a source.
    pub(super) async fn mark_applied(
        &self,
        statements: &mut LockedStatements,
        source: usize,
    ) -> Result<(), PipelineError> {
        let id = self.source_id(source);
        let steps = self.0.steps.clone();
        let mark = statements.run(move |statements| {
            steps.reach("all groups applied");
            statements.mark_applied(id)
        });
        mark.await?;
        self.0.statuses.lock()[source].has_unapplied = false;
        Ok(())
    }

    /// Removes held deliveries that were applied or superseded.
    pub(super) async fn release(
        &self,
        statements: &mut LockedStatements,
        source: usize,
        report: &DeliveryReport,
        released: Vec<HeldDelivery>,
    ) -> Result<(), PipelineError> {
        if report.outcome != DeliveryOutcome::Applied {
            return Ok(());
        }
        let id = self.source_id(source);
        let release = statements.run(move |it| it.release_held(id, &released));
        let all_held = release.await?;
        let status = &mut self.0.statuses.lock()[source];
        status.had_snapshot |= report.scope == DeliveryScope::Snapshot;
        status.held = all_held;
        Ok(())
    }

    /// Returns the reasons to hold a delivery.
    fn hold_reasons(
        &self,
        source: &PipelineSource,
        record: &SourceRecord,
        delivery: &Delivery,
        impact: DeliveryImpact,
    ) -> Vec<HoldReason> {
        // A file that is imported by hand may have any shape.
        let is_import = source.policy.origin == Origin::Import;
        let difference = record
            .accepted_shapes
            .difference(&delivery.shapes, &source.policy.read_settings_text);
        let shape_change = difference
            .filter(|_| !is_import)
            .map(HoldReason::ShapeChanged);
        let impact_reason = check_delivery(delivery.scope, impact, &source.policy.limits);
        shape_change.into_iter().chain(impact_reason).collect()
    }

    fn held_delivery(
        &self,
        previous: &[HeldDelivery],
        (delivery, options): (&Delivery, CommitOptions),
        reasons: Vec<HoldReason>,
    ) -> HeldDelivery {
        let digest = delivery.staged.digest;
        let repeated = previous.last().filter(|held| held.digest == digest);
        let now = self.now().as_micros();
        HeldDelivery {
            file: format!("held-{now}-{digest:016x}.db"),
            since: previous.first().map_or(now, |held| held.since),
            at: options.stated_at.as_micros(),
            is_snapshot: delivery.scope == DeliveryScope::Snapshot,
            implies_absence: delivery.implies_absence,
            reason: joined_reasons(&reasons),
            reasons,
            digest,
            shapes: delivery.shapes.clone(),
            times: repeated.map_or(1, |held| held.times.saturating_add(1)),
        }
    }
}

/// Delivery about which the guard has decided.
pub(super) struct Settled {
    pub(super) report: DeliveryReport,
    /// Updates to pass to ingest, if the delivery was committed.
    pub(super) updates: Option<SpoolReader>,
    /// Held deliveries that it supersedes.
    pub(super) released: Vec<HeldDelivery>,
}

fn is_repeated(source: &PipelineSource, held: &HeldDelivery) -> bool {
    let repeats = source.policy.limits.accept_after_repeats;
    repeats.is_some_and(|repeats| held.times > repeats)
}

/// Returns what later deliveries are compared with: the accepted shapes, and the reason why absence
/// was not applied.
fn delivery_facts(
    source: &PipelineSource,
    delivery: &Delivery,
    record: &SourceRecord,
    report: &DeliveryReport,
) -> DeliveryFacts {
    let shapes = &delivery.shapes;
    let accepted = &record.accepted_shapes;
    let sets_absence =
        report.absence_not_applied.is_some() || delivery.scope == DeliveryScope::Snapshot;
    DeliveryFacts {
        shapes: (!shapes.is_empty())
            .then(|| accepted.accept(shapes, &source.policy.read_settings_text)),
        absence_not_applied: sets_absence
            .then(|| report.absence_not_applied.clone().unwrap_or_default()),
    }
}

fn joined_reasons(reasons: &[HoldReason]) -> String {
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn build_report(
    delivery: &Delivery,
    options: CommitOptions,
    contents: &DeliveryContents,
    changes: ChangeCounts,
    absent: AbsentPolicy,
) -> DeliveryReport {
    let cannot_tell_absence = options.scope == DeliveryScope::Snapshot && !options.implies_absence;
    DeliveryReport {
        outcome: DeliveryOutcome::Applied,
        stated_at: options.stated_at,
        scope: options.scope,
        rows: contents.rows,
        rejected: contents.rejected - contents.suspicious,
        suspicious: contents.suspicious,
        first_rejected: contents.first_rejected.clone(),
        changes,
        absence_not_applied: (cannot_tell_absence && absent == AbsentPolicy::Zero)
            .then(|| absence_not_applied(delivery.staged.first_without_sku.as_ref())),
        notices: delivery.notices.clone(),
        duration_ms: 0,
    }
}

/// Returns the reason why SKUs that a snapshot lacks keep their stock.
fn absence_not_applied(row: Option<&RejectedRow>) -> String {
    let row = row.map_or_else(
        || "a row that is not applied does not name its SKU".to_owned(),
        |RejectedRow {
             line, text, reason, ..
         }| {
            format!(
                "the row at line {line} is not applied and does not name its SKU ({reason}): {text}"
            )
        },
    );
    format!(
        "absent = \"zero\" is not applied and missing SKUs keep their stock, because {row}. Correct \
         the row, and the next snapshot applies the absence"
    )
}

fn delivery_impact(
    record: &SourceRecord,
    contents: &DeliveryContents,
    changes: ChangeCounts,
) -> DeliveryImpact {
    DeliveryImpact {
        rows: contents.rows,
        rows_before: record.snapshot_rows,
        // Many catalogues have products without a SKU. They count as rejected only if there are
        // no other rows: then the catalogue itself is missing.
        // Many shops share articles between variants, so these are not a sign of a broken file.
        rejected: contents.rejected
            - contents.shared_by_variants
            - if contents.rows == 0 {
                0
            } else {
                contents.without_known_sku
            },
        in_stock: changes.in_stock,
        zeroed: changes.zeroed,
    }
}

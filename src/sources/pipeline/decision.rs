//! Decision about a staged delivery: apply it, hold it for approval, or only report its effect.
//!
//! Compares the delivery with the statements and the book within an open transaction, which is
//! rolled back unless the delivery is applied.

use stock_import::delivery_guard::{DeliveryImpact, HoldReason, check_delivery};
use stock_import::{DeliveryScope, RejectedRow};

use super::delivery::Delivery;
use super::{
    AbsentPolicy, ChangeCounts, DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError,
    PipelineSource, SourcePolicy,
};
use crate::ingest::Origin;
use crate::sources::statements::{
    CommitOptions, DeliveryContents, GroupFilter, HeldDelivery, ResolveOptions, SourceRecord,
    StatementStore,
};

/// Approval of a delivery that the guard would hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Approval {
    /// Not approved.
    NotGiven,
    /// Approved: this held delivery.
    Approved(HeldDelivery),
    /// Dry run: nothing is applied or held.
    DryRun,
}

/// Delivery that is written in an open transaction.
pub(super) struct WrittenDelivery {
    /// Record of its source before.
    record: SourceRecord,
    options: CommitOptions,
    contents: DeliveryContents,
    /// SKUs that it concerns.
    pub(super) filter: GroupFilter,
}

impl DeliveryPipeline {
    pub(super) async fn decide(
        &self,
        source: usize,
        delivery: Delivery,
        approval: Approval,
    ) -> Result<DeliveryReport, PipelineError> {
        let mut statements = self.statements().await;
        let settings = self.settings();
        let target = &settings.sources[source];
        let written = self
            .write_delivery(&mut statements, source, &delivery, &approval)
            .await?;
        let WrittenDelivery {
            record,
            options,
            contents,
            filter,
        } = written;
        let scope = &delivery.scope;
        let counted = self
            .count_changes(&mut statements, filter.clone(), *scope)
            .await;
        let changes = match counted {
            Ok(changes) => changes,
            Err(error) => {
                statements.roll_back().await?;
                return Err(error);
            }
        };
        let mut report = build_report(&delivery, options, &contents, changes, target.policy.absent);
        let reasons = self.hold_reasons(
            target,
            &record,
            &delivery,
            delivery_impact(&record, &contents, changes),
        );
        let held = (!reasons.is_empty())
            .then(|| self.held_delivery(&record.held, (&delivery, options), reasons));
        if approval == Approval::DryRun {
            statements.roll_back().await?;
            report.outcome = held.map_or(DeliveryOutcome::Previewed, |held| {
                DeliveryOutcome::Held(held.reason)
            });
            return Ok(report);
        }
        let is_repeated = |held: &HeldDelivery| {
            target
                .policy
                .limits
                .accept_after_repeats
                .is_some_and(|repeats| held.times > repeats)
        };
        if let Some(held) = held.filter(|held| approval == Approval::NotGiven && !is_repeated(held))
        {
            statements.roll_back().await?;
            report.outcome = DeliveryOutcome::Held(held.reason.clone());
            let is_other = |last: &&HeldDelivery| held.is_snapshot && last.digest != held.digest;
            let replaced = record.held.iter().filter(is_other).count();
            let all_held = statements
                .hold_delivery(target.id, delivery.staged, held)
                .await?;
            self.0.statuses.lock()[source].held = all_held;
            self.record_replaced(source, replaced);
            return Ok(report);
        }
        self.save_facts(&mut statements, source, &delivery, &record, &report)
            .await?;
        self.commit_and_apply(&mut statements, source, filter)
            .await?;
        // An accepted snapshot supersedes all held deliveries. An approved delivery is itself no
        // longer held. A delta supersedes none.
        let released = match approval {
            Approval::Approved(held) => vec![held],
            Approval::NotGiven | Approval::DryRun if *scope == DeliveryScope::Snapshot => {
                self.record_replaced(source, record.held.len());
                record.held
            }
            Approval::NotGiven | Approval::DryRun => Vec::new(),
        };
        let all_held = statements.release_held(target.id, &released).await?;
        let status = &mut self.0.statuses.lock()[source];
        status.had_snapshot |= *scope == DeliveryScope::Snapshot;
        status.held = all_held;
        Ok(report)
    }

    /// Writes a delivery into the statements, in a transaction that stays open.
    pub(super) async fn write_delivery(
        &self,
        statements: &mut StatementStore,
        source: usize,
        delivery: &Delivery,
        approval: &Approval,
    ) -> Result<WrittenDelivery, PipelineError> {
        let settings = self.settings();
        let target = &settings.sources[source];
        let Delivery { scope, staged, .. } = delivery;
        let SourcePolicy {
            duplicates,
            variants,
            warehouses,
            ..
        } = &target.policy;
        if let Some(reason) = warehouses.refusal_reason(&staged.warehouses, *scope) {
            return Err(PipelineError::Settings(reason));
        }
        let record = statements.source_record(target.id).await?;
        if let Approval::Approved(held) = approval
            && !record.held.contains(held)
        {
            return Err(PipelineError::DeliveryChanged(target.policy.name.clone()));
        }
        let options = self.commit_options(delivery, &record, approval);
        let resolve_options = ResolveOptions {
            duplicates: *duplicates,
            variants: *variants,
            listing: delivery.listing,
        };
        let contents = statements
            .resolve_delivery(target.id, staged, resolve_options)
            .await?;
        if *approval != Approval::DryRun {
            statements.save_rejected(target.id).await?;
        }
        statements.write_delivery(target.id, options).await?;
        // Also apply an earlier delivery that was not fully applied.
        let filter = if record.has_unapplied {
            GroupFilter::Source(target.id)
        } else {
            GroupFilter::Delivery(target.id, *scope)
        };
        Ok(WrittenDelivery {
            record,
            options,
            contents,
            filter,
        })
    }

    /// Saves what later deliveries are compared with: the accepted shapes, and the reason why
    /// absence was not applied.
    async fn save_facts(
        &self,
        statements: &mut StatementStore,
        source: usize,
        delivery: &Delivery,
        record: &SourceRecord,
        report: &DeliveryReport,
    ) -> Result<(), PipelineError> {
        let settings = self.settings();
        let target = &settings.sources[source];
        if !delivery.shapes.is_empty() {
            let accepted = record
                .accepted_shapes
                .accept(&delivery.shapes, &target.policy.read_settings_text);
            statements.save_shapes(target.id, &accepted).await?;
        }
        if report.absence_not_applied.is_some() || delivery.scope == DeliveryScope::Snapshot {
            let absence_reason = report.absence_not_applied.as_deref().unwrap_or_default();
            statements
                .save_absence_not_applied(target.id, absence_reason)
                .await?;
        }
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

    /// Returns the date and the completeness under which a delivery is stored.
    fn commit_options(
        &self,
        delivery: &Delivery,
        record: &SourceRecord,
        approval: &Approval,
    ) -> CommitOptions {
        let now = self.now();
        let at = delivery.stated_at.unwrap_or(now).min(now);
        let is_later = record.stated_at.is_none_or(|stated| at > stated);
        let was_held = matches!(approval, Approval::Approved(_));
        CommitOptions {
            scope: delivery.scope,
            // A delivery that is not dated after the previous one of its source is dated now. An
            // approved one keeps its own date, because others may have come while it was held.
            stated_at: if is_later || was_held { at } else { now },
            implies_absence: delivery.implies_absence,
            is_out_of_order: was_held && !is_later,
        }
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
        // Articles shared by variants are a habit of the shop, and not a sign of a broken file.
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

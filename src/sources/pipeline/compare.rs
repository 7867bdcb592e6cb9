//! Comparison of a staged delivery with the statements and the book. It writes nothing.

use std::path::Path;
use std::sync::Arc;

use lifecycle::run_blocking;
use stock_import::DeliveryScope;

use super::delivery::Delivery;
use super::rule_context::RuleContext;
use super::stock_effect::{EvaluatedUpdates, StockEffect};
use super::{DeliveryPipeline, PipelineError, PipelineSettings, SourcePolicy};
use crate::sources::statements::{
    ChangeListWriter, CommitOptions, ComparedDelivery, DeliveryPass, HeldDelivery, ResolveOptions,
    SourceRecord, StatementReader,
};

/// Approval of a delivery that the guard would hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Approval {
    /// Not approved.
    NotGiven,
    /// Approved by the operator: this held delivery.
    Approved(HeldDelivery),
    /// Decided again under other settings: this held delivery. What the guard would hold stays held.
    Reconsidered(HeldDelivery),
    /// Dry run: nothing is applied or held.
    DryRun,
}

impl Approval {
    /// Returns the held delivery that is decided about.
    pub(super) fn held(&self) -> Option<&HeldDelivery> {
        match self {
            Self::Approved(held) | Self::Reconsidered(held) => Some(held),
            Self::NotGiven | Self::DryRun => None,
        }
    }
}

/// Delivery that was compared with the statements and the book. Nothing is written yet.
pub(super) struct Comparison {
    /// Record of its source before.
    pub(super) record: SourceRecord,
    pub(super) options: CommitOptions,
    pub(super) compared: ComparedDelivery,
    pub(super) evaluated: EvaluatedUpdates,
    /// SKUs that it concerns, if another delivery must know them.
    pub(super) concerned_skus: Vec<String>,
}

/// Lists of the effect of a comparison.
pub(super) struct ListedEffect<'l> {
    /// List to which the changes of stock are added.
    pub(super) list: Option<&'l mut ChangeListWriter>,
    /// True if the concerned SKUs are collected in memory.
    pub(super) collects_skus: bool,
}

impl DeliveryPipeline {
    /// Compares a delivery on a thread that may block.
    pub(super) async fn compare(
        &self,
        settings: &Arc<PipelineSettings>,
        source: usize,
        mut delivery: Delivery,
        approval: &Approval,
        collects_skus: bool,
    ) -> Result<(Delivery, Comparison), PipelineError> {
        let (pipeline, settings, approval) = (self.clone(), Arc::clone(settings), approval.clone());
        run_blocking(move || {
            let directory = &pipeline.0.directory;
            let comparison = pipeline.compare_blocking(
                (&settings, directory),
                source,
                (&mut delivery, &approval),
                ListedEffect {
                    list: None,
                    collects_skus,
                },
            )?;
            pipeline.0.steps.reach("compared");
            Ok((delivery, comparison))
        })
        .await
    }

    /// Compares a delivery with the statements in a directory, which may be a working copy.
    pub(super) fn compare_blocking(
        &self,
        (settings, directory): (&PipelineSettings, &Path),
        source: usize,
        (delivery, approval): (&mut Delivery, &Approval),
        listed: ListedEffect<'_>,
    ) -> Result<Comparison, PipelineError> {
        let target = &settings.sources[source];
        let scope = delivery.scope;
        let warehouses = &target.policy.warehouses;
        if let Some(reason) = warehouses.refusal_reason(&delivery.staged.warehouses, scope) {
            return Err(PipelineError::Settings(reason));
        }
        let reader = StatementReader::open(directory)?;
        let record = reader.source_record(target.id)?;
        if let Some(held) = approval.held()
            && !record.held.contains(held)
        {
            return Err(PipelineError::DeliveryChanged(target.policy.name.clone()));
        }
        let options = self.commit_options(delivery, &record, approval);
        let mut last_snapshots = reader.last_snapshots()?;
        if scope == DeliveryScope::Snapshot && !options.is_out_of_order {
            let own = last_snapshots.iter_mut().find(|(id, _)| *id == target.id);
            own.into_iter()
                .for_each(|(_, at)| *at = Some(options.stated_at));
        }
        let mut context = RuleContext::new(settings, last_snapshots);
        context.delivered = Some(target.id).filter(|_| !record.has_unapplied);
        let is_new_date = record.stated_at != Some(options.stated_at);
        context.new_date = Some(options.stated_at).filter(|_| is_new_date);
        let marks_absence = listed.list.is_some() && options.implies_absence;
        context.marked_absence = marks_absence.then_some((target.id, options.stated_at));
        let mut effect = StockEffect::new(&self.0, context, directory, listed.list);
        effect.collects_skus = listed.collects_skus;
        let pass = DeliveryPass {
            source: target.id,
            resolve: resolve_options(&target.policy, delivery),
            commit: options,
            // Also apply an earlier delivery that was not fully applied.
            concerns_all: scope == DeliveryScope::Snapshot || record.has_unapplied,
            sort_buffer: self.sort_buffer(),
        };
        let compared = pass.run(&reader, &mut delivery.staged, &mut |group| {
            effect.add(group)
        })?;
        let concerned_skus = std::mem::take(&mut effect.skus);
        Ok(Comparison {
            record,
            options,
            compared,
            evaluated: effect.finish(scope)?,
            concerned_skus,
        })
    }

    /// Returns the date and the completeness under which a delivery is stored.
    fn commit_options(
        &self,
        delivery: &Delivery,
        record: &SourceRecord,
        approval: &Approval,
    ) -> CommitOptions {
        let now = self.now();
        let date = delivery.date;
        let at = date.stated_at.unwrap_or(now).min(now);
        let is_later = record.stated_at.is_none_or(|stated| at > stated);
        let was_held = approval.held().is_some();
        // A delivery that is not dated after the previous one of its source is dated now. An
        // approved one keeps its own date, because others may have come while it was held. The same
        // data under other settings are not newer than they were.
        let stated_at = match record.stated_at {
            Some(last) if date.repeats_last => last,
            _ if is_later || was_held => at,
            _ => now,
        };
        CommitOptions {
            scope: delivery.scope,
            stated_at,
            implies_absence: delivery.implies_absence,
            is_out_of_order: was_held && !is_later,
        }
    }
}

/// Returns the options for the resolution of a delivery.
pub(super) fn resolve_options(policy: &SourcePolicy, delivery: &Delivery) -> ResolveOptions {
    ResolveOptions {
        duplicates: policy.duplicates,
        variants: policy.variants,
        listing: delivery.listing,
    }
}

//! Application of stored statements to the book, by the rules of the shop.
//!
//! Decides whether changed rules may be used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lifecycle::run_blocking;
use stock::Sku;
use stock_import::DeliveryScope;
use stock_import::delivery_guard::{DeliveryImpact, check_delivery};
use stock_import::stock_rules::{RuleTrace, evaluate};

use super::locked_statements::LockedStatements;
use super::outcome::raise_held_alarm;
use super::preview::{HeldRules, rules_mark};
use super::rule_context::RuleContext;
use super::stock_effect::EvaluatedUpdates;
use super::stock_step::StockStep;
use super::{ChangeCounts, DeliveryPipeline, PipelineError, PipelineSettings, RULES_NAME};
use crate::sources::statements::{GroupFilter, SpoolReader};
use crate::telemetry::AlarmKind;

impl DeliveryPipeline {
    /// Applies statements that an interrupted delivery left unapplied; if the rules have changed,
    /// all statements. New rules that would zero too much stock are held instead.
    ///
    /// # Errors
    /// The statements cannot be read or applied.
    pub async fn reapply_rules(&self) -> Result<(), PipelineError> {
        let _turn = self.0.settings_turn.lock().await;
        let mut statements = self.statements().await?;
        self.reapply_locked(&mut statements).await?;
        self.mirror_later_change(&mut statements).await;
        Ok(())
    }

    /// Does the same with the statements that are already locked.
    pub(super) async fn reapply_locked(
        &self,
        statements: &mut LockedStatements,
    ) -> Result<(), PipelineError> {
        // Statements of an interrupted delivery may not be stored for the other replicas yet.
        self.mirror(statements).await?;
        let settings = self.settings();
        let digest = &settings.digest;
        let applied_digest = statements.run(|it| it.applied_rules_digest()).await?;
        let is_unchanged = applied_digest == *digest;
        self.0.has_new_rules.store(!is_unchanged, Ordering::Relaxed);
        for source in &settings.sources {
            let id = source.id;
            let record = statements.run(move |it| it.source_record(id)).await?;
            if is_unchanged && record.has_unapplied {
                let evaluated = self.evaluate(&settings, GroupFilter::Source(id)).await?;
                self.apply(&settings, evaluated.updates).await?;
                statements.run(move |it| it.mark_applied(id)).await?;
            }
        }
        if is_unchanged {
            self.end_of_pending();
            return Ok(());
        }
        // Rules that were held before are gone. If this fails, the next poll tries it again.
        *self.0.held_rules.lock() = None;
        let evaluated = self.evaluate(&settings, GroupFilter::All).await?;
        let limits = settings
            .sources
            .first()
            .map(|source| source.policy.limits)
            .unwrap_or_default();
        let ChangeCounts {
            in_stock, zeroed, ..
        } = evaluated.changes;
        let impact = DeliveryImpact {
            in_stock,
            zeroed,
            ..DeliveryImpact::default()
        };
        if let Some(reason) = check_delivery(DeliveryScope::Delta, impact, &limits) {
            // Rules may contain a typo, so they pass the guard too.
            let text = reason.to_string();
            raise_held_alarm(&self.0.context.alarms, &self.0.name, RULES_NAME, &text);
            self.record_held_rules(&text);
            *self.0.held_rules.lock() = Some(HeldRules {
                since: self.0.context.clock.now(),
                mark: rules_mark(digest, &text),
                reason,
            });
            return Ok(());
        }
        self.apply_rules(statements, &settings, evaluated.updates)
            .await
    }

    /// Applies the held rules, without the guard. `expected` is the mark of the rules that were
    /// looked at.
    ///
    /// # Errors
    /// The rules have not changed, others are held, or the statements cannot be read or applied.
    pub async fn accept_rules(&self, expected: Option<&str>) -> Result<(), PipelineError> {
        let _turn = self.0.settings_turn.lock().await;
        let mut statements = self.statements().await?;
        let settings = self.settings();
        let applied_digest = statements.run(|it| it.applied_rules_digest()).await?;
        if applied_digest == settings.digest {
            return Err(PipelineError::NothingToAccept(RULES_NAME.to_owned()));
        }
        let mark = self.held_rules().map(|held| held.mark);
        if expected.is_some_and(|expected| mark.as_deref() != Some(expected)) {
            return Err(PipelineError::DeliveryChanged(RULES_NAME.to_owned()));
        }
        let evaluated = self.evaluate(&settings, GroupFilter::All).await?;
        self.apply_rules(&mut statements, &settings, evaluated.updates)
            .await?;
        self.record_approved_rules();
        self.mirror_later_change(&mut statements).await;
        Ok(())
    }

    async fn apply_rules(
        &self,
        statements: &mut LockedStatements,
        settings: &Arc<PipelineSettings>,
        updates: SpoolReader,
    ) -> Result<(), PipelineError> {
        // Until all stock is evaluated, no rules are the applied ones: not even those from before,
        // if they come back.
        statements.run(|it| it.save_rules_digest("")).await?;
        self.mirror(statements).await?;
        self.apply(settings, updates).await?;
        let digest = settings.digest.clone();
        statements
            .run(move |it| it.save_rules_digest(&digest))
            .await?;
        self.0.has_new_rules.store(false, Ordering::Relaxed);
        for source in &settings.sources {
            let id = source.id;
            statements.run(move |it| it.mark_applied(id)).await?;
        }
        self.end_of_pending();
        Ok(())
    }

    /// Evaluates stored statements on a thread that may block.
    async fn evaluate(
        &self,
        settings: &Arc<PipelineSettings>,
        filter: GroupFilter,
    ) -> Result<EvaluatedUpdates, PipelineError> {
        let (pipeline, settings) = (self.clone(), Arc::clone(settings));
        run_blocking(move || {
            pipeline.evaluate_stored(&settings, filter, &pipeline.0.directory, None)
        })
        .await
    }

    /// Notes that the book has all statements, evaluated under the current rules.
    fn end_of_pending(&self) {
        *self.0.held_rules.lock() = None;
        self.0
            .statuses
            .lock()
            .iter_mut()
            .for_each(|status| status.has_unapplied = false);
        let about = format!("{}/{RULES_NAME}", self.0.name);
        self.0.context.alarms.clear(AlarmKind::SourceHeld, &about);
    }

    /// Explains the stock of a SKU step by step; empty if no source has stated any. It waits for no
    /// delivery: it explains the statements that were committed last.
    ///
    /// # Errors
    /// The statements cannot be read.
    pub async fn explain(&self, sku: &Sku) -> Result<Vec<StockStep>, PipelineError> {
        let (settings, sku) = (self.settings(), sku.clone());
        self.read(move |reader| {
            let group = reader.group_of(sku.as_str())?;
            if group.rows.is_empty() {
                return Ok(Vec::new());
            }
            let context = RuleContext::new(&settings, reader.last_snapshots()?);
            let rows = group.rows.iter();
            let mut steps: Vec<StockStep> = rows.map(|row| context.describe(&sku, row)).collect();
            let mut trace = Vec::new();
            let result = evaluate(
                &sku,
                &context.quantities(&group.rows),
                &context.rules,
                context.shop_rules,
                &mut RuleTrace::recording_to(&mut trace),
            );
            steps.extend(trace.into_iter().map(StockStep::Rule));
            steps.extend(result.map(|result| StockStep::Result {
                count: result.count,
                stated_at: result.stated_at,
            }));
            Ok(steps)
        })
        .await
    }
}

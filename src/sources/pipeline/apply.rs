//! Application of stored statements to the book, by the rules of the shop.
//!
//! Decides whether changed rules may be used, and counts the changes that a delivery would make.

use std::sync::atomic::Ordering;

use stock::{Level, Sku, Update};
use stock_import::DeliveryScope;
use stock_import::delivery_guard::{DeliveryImpact, check_delivery};
use stock_import::stock_rules::{RuleTrace, evaluate};

use super::outcome::raise_held_alarm;
use super::preview::{HeldRules, rules_mark};
use super::rule_context::{RuleContext, next_evaluated};
use super::stock_step::StockStep;
use super::{ChangeCounts, DeliveryPipeline, PipelineError, PipelineSettings, RULES_NAME};
use crate::ingest::Origin;
use crate::sources::statements::{ChangeListWriter, GroupFilter, StatementStore};
use crate::telemetry::AlarmKind;

/// Updates in one call of [`Ingest::accept_keeping_dates`](crate::ingest::Ingest::accept_keeping_dates).
const INGEST_BATCH: usize = 2_000;

impl DeliveryPipeline {
    /// Commits the written statements, and applies them to the book.
    pub(super) async fn commit_and_apply(
        &self,
        statements: &mut StatementStore,
        source: usize,
        filter: GroupFilter,
    ) -> Result<(), PipelineError> {
        let id = self.source_id(source);
        // After the commit, the statements hold. A crash here leaves the mark "unapplied" on disk,
        // and the book follows at the next start.
        self.0.statuses.lock()[source].has_unapplied = true;
        statements.commit().await?;
        if self.0.has_new_rules.load(Ordering::Relaxed) {
            // `reapply_rules` first decides whether the new rules may be used.
            return Ok(statements.close_delivery().await?);
        }
        let applied = self.apply(statements, filter).await;
        statements.close_delivery().await?;
        applied?;
        statements.mark_applied(id).await?;
        self.0.statuses.lock()[source].has_unapplied = false;
        Ok(())
    }

    /// Applies statements that an interrupted delivery left unapplied; if the rules have changed,
    /// all statements. New rules that would zero too much stock are held instead.
    ///
    /// # Errors
    /// The statements cannot be read or applied.
    pub async fn reapply_rules(&self) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        self.reapply_locked(&mut statements).await
    }

    /// Does the same with the statements that are already locked.
    pub(super) async fn reapply_locked(
        &self,
        statements: &mut StatementStore,
    ) -> Result<(), PipelineError> {
        let settings = self.settings();
        let digest = &settings.digest;
        let is_unchanged = statements.applied_rules_digest().await? == *digest;
        self.0.has_new_rules.store(!is_unchanged, Ordering::Relaxed);
        for source in &settings.sources {
            if is_unchanged && statements.source_record(source.id).await?.has_unapplied {
                self.apply(statements, GroupFilter::Source(source.id))
                    .await?;
                statements.mark_applied(source.id).await?;
            }
        }
        if is_unchanged {
            self.end_of_pending();
            return Ok(());
        }
        // Rules that were held before are gone. If this fails, the next poll tries it again.
        *self.0.held_rules.lock() = None;
        let changes = self
            .count_changes(statements, GroupFilter::All, DeliveryScope::Delta)
            .await?;
        let limits = settings
            .sources
            .first()
            .map(|source| source.policy.limits)
            .unwrap_or_default();
        let ChangeCounts {
            in_stock, zeroed, ..
        } = changes;
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
        self.apply_rules(statements, digest).await
    }

    /// Applies the held rules, without the guard. `expected` is the mark of the rules that were
    /// looked at.
    ///
    /// # Errors
    /// The rules have not changed, others are held, or the statements cannot be read or applied.
    pub async fn accept_rules(&self, expected: Option<&str>) -> Result<(), PipelineError> {
        let mut statements = self.statements().await;
        let settings = self.settings();
        let digest = &settings.digest;
        if statements.applied_rules_digest().await? == *digest {
            return Err(PipelineError::NothingToAccept(RULES_NAME.to_owned()));
        }
        let mark = self.held_rules().map(|held| held.mark);
        if expected.is_some_and(|expected| mark.as_deref() != Some(expected)) {
            return Err(PipelineError::DeliveryChanged(RULES_NAME.to_owned()));
        }
        self.apply_rules(&mut statements, digest).await?;
        self.record_approved_rules();
        Ok(())
    }

    async fn apply_rules(
        &self,
        statements: &mut StatementStore,
        digest: &str,
    ) -> Result<(), PipelineError> {
        // Until all stock is evaluated, no rules are the applied ones: not even those from before,
        // if they come back.
        statements.save_rules_digest("").await?;
        self.apply(statements, GroupFilter::All).await?;
        statements.save_rules_digest(digest).await?;
        self.0.has_new_rules.store(false, Ordering::Relaxed);
        for source in &self.settings().sources {
            statements.mark_applied(source.id).await?;
        }
        self.end_of_pending();
        Ok(())
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

    async fn rule_context<'a>(
        &self,
        settings: &'a PipelineSettings,
        statements: &mut StatementStore,
    ) -> Result<RuleContext<'a>, PipelineError> {
        let snapshots = statements.last_snapshots().await?.into_iter().collect();
        let rules = settings
            .sources
            .iter()
            .map(|source| source.policy.rules)
            .collect();
        Ok(RuleContext {
            sources: &settings.sources,
            last_snapshots: snapshots,
            rules,
            shop_rules: &settings.rules,
            is_full_recalculation: false,
        })
    }

    /// Counts the changes that applying the statements would make to the book.
    pub(super) async fn count_changes(
        &self,
        statements: &mut StatementStore,
        filter: GroupFilter,
        scope: DeliveryScope,
    ) -> Result<ChangeCounts, PipelineError> {
        self.evaluate_changes(statements, filter, scope, None).await
    }

    /// Counts the changes that applying the statements would make to the book, and adds them to a
    /// list.
    pub(super) async fn evaluate_changes(
        &self,
        statements: &mut StatementStore,
        filter: GroupFilter,
        scope: DeliveryScope,
        mut list: Option<&mut ChangeListWriter>,
    ) -> Result<ChangeCounts, PipelineError> {
        let settings = self.settings();
        let mut context = self.rule_context(&settings, statements).await?;
        context.is_full_recalculation = matches!(filter, GroupFilter::All);
        let mut changes = ChangeCounts::default();
        let mut groups = statements.sku_groups(filter);
        while let Some((sku, result)) = next_evaluated(&mut groups, &context).await? {
            if list.is_some() {
                let compared_skus = &self.0.previews.compared_skus;
                compared_skus.fetch_add(1, Ordering::Relaxed);
            }
            let in_book = self.0.context.book.get(self.0.shop, sku.as_str());
            let in_book = in_book.map(|entry| entry.level());
            let known = match list.as_mut() {
                Some(list) => list.level(sku.as_str()).await?.or(in_book),
                None => in_book,
            };
            let is_in_stock = known.is_some_and(|level| level.count.get() > 0);
            changes.in_stock += u64::from(is_in_stock);
            match known {
                None => changes.new += 1,
                Some(known) if known.updated_at > result.stated_at => {
                    changes.outdated += 1;
                    continue;
                }
                Some(known) if known.count == result.count => {
                    changes.unchanged += 1;
                    continue;
                }
                Some(_) => {
                    changes.changed += 1;
                    changes.zeroed += u64::from(is_in_stock && result.count.get() == 0);
                }
            }
            if let Some(list) = list.as_mut() {
                let level = Level {
                    count: result.count,
                    updated_at: result.stated_at,
                };
                let old = in_book.map(|level| level.count.get());
                list.add(sku.as_str(), old, level).await?;
            }
        }
        drop(groups);
        if scope == DeliveryScope::Delta {
            // A delta names only some SKUs, so its zeros are compared with the whole shop.
            changes.in_stock = 0;
            self.0.context.book.for_each(self.0.shop, |_, entry| {
                changes.in_stock += u64::from(entry.level().count.get() > 0);
            });
        }
        Ok(changes)
    }

    /// Evaluates the rules and passes the results to ingest.
    async fn apply(
        &self,
        statements: &mut StatementStore,
        filter: GroupFilter,
    ) -> Result<(), PipelineError> {
        let settings = self.settings();
        let mut context = self.rule_context(&settings, statements).await?;
        context.is_full_recalculation = matches!(filter, GroupFilter::All);
        let mut batches: Vec<(Origin, Vec<Update>)> = Vec::new();
        let mut groups = statements.sku_groups(filter);
        while let Some((sku, result)) = next_evaluated(&mut groups, &context).await? {
            let origin = settings.sources[result.source].policy.origin;
            let update = Update {
                sku,
                count: result.count,
                updated_at: Some(result.stated_at),
            };
            let known = batches.iter().position(|(known, _)| *known == origin);
            let index = known.unwrap_or(batches.len());
            if known.is_none() {
                batches.push((origin, Vec::with_capacity(INGEST_BATCH)));
            }
            batches[index].1.push(update);
            if batches[index].1.len() == INGEST_BATCH {
                let updates =
                    std::mem::replace(&mut batches[index].1, Vec::with_capacity(INGEST_BATCH));
                self.0
                    .context
                    .ingest
                    .accept_keeping_dates(origin, self.0.shop, updates)
                    .await?;
            }
        }
        drop(groups);
        for (origin, updates) in batches
            .into_iter()
            .filter(|(_, updates)| !updates.is_empty())
        {
            self.0
                .context
                .ingest
                .accept_keeping_dates(origin, self.0.shop, updates)
                .await?;
        }
        Ok(())
    }

    /// Explains the stock of a SKU step by step; empty if no source has stated any.
    ///
    /// # Errors
    /// The statements cannot be read.
    pub async fn explain(&self, sku: &Sku) -> Result<Vec<StockStep>, PipelineError> {
        let mut statements = self.statements().await;
        let settings = self.settings();
        let context = self.rule_context(&settings, &mut statements).await?;
        let mut groups = statements.sku_groups(GroupFilter::Sku(sku.as_str().to_owned()));
        let mut steps = Vec::new();
        while let Some(group) = groups.next().await? {
            if group[0].sku != sku.as_str() {
                continue;
            }
            steps.extend(group.iter().map(|row| context.describe(row)));
            let mut trace = Vec::new();
            let result = evaluate(
                sku,
                &context.quantities(&group),
                &context.rules,
                context.shop_rules,
                &mut RuleTrace::recording_to(&mut trace),
            );
            steps.extend(trace.into_iter().map(StockStep::Rule));
            steps.extend(result.map(|result| StockStep::Result {
                count: result.count,
                stated_at: result.stated_at,
            }));
        }
        Ok(steps)
    }
}

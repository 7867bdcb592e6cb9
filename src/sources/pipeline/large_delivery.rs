//! Large deliveries. Other deliveries of the shop do not wait for them.
//!
//! A large delivery is compared without a lock, while small ones of other sources may change the
//! statements. Each of these notes its SKUs. The statements of the large delivery are committed under
//! the lock. Then its updates are applied in groups, each under the lock, without the noted SKUs.
//! Those are evaluated again at the end, from the statements of all sources.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use lifecycle::run_blocking;
use stock::Update;
use stock_import::DeliveryScope;
use tokio::sync::mpsc;

use super::compare::Approval;
use super::decision::Settled;
use super::delivery::Delivery;
use super::rule_context::RuleContext;
use super::stock_effect::{StockEffect, read_groups};
use super::{DeliveryPipeline, DeliveryReport, PipelineError, PipelineSettings};
use crate::ingest::SourceUpdates;
use crate::sources::statements::{SpoolReader, StatementReader};

/// Rows of the largest small delivery, and SKUs of its source.
const MAX_SMALL_ROWS: u64 = if cfg!(test) { 1_000 } else { 5_000 };

/// Groups of updates that are applied under one lock. They share a commit.
const GROUPS_PER_LOCK: usize = 3;

/// Comparisons without a lock before one is made while no settings may change.
const FREE_COMPARISONS: u32 = 2;

/// SKUs that small deliveries have concerned since the comparison of the large one began.
pub(super) type ConcernedSkus = HashSet<String>;

impl DeliveryPipeline {
    /// Returns true if a delivery would keep others waiting. `rows` is the number of its rows, if it
    /// is known.
    pub(super) async fn is_large(
        &self,
        source: usize,
        rows: Option<u64>,
        scope: DeliveryScope,
    ) -> Result<bool, PipelineError> {
        let settings = self.settings();
        // With a mapping, every delivery is compared with all statements.
        let sources = &settings.sources;
        let has_mapping = sources.iter().any(|it| !it.policy.mapping.is_empty());
        if has_mapping || rows.is_none_or(|rows| rows > MAX_SMALL_ROWS) {
            return Ok(true);
        }
        let id = sources[source].id;
        let record = self
            .read(move |reader| Ok(reader.source_record(id)?))
            .await?;
        let has_many = scope == DeliveryScope::Snapshot && record.snapshot_rows > MAX_SMALL_ROWS;
        Ok(record.has_unapplied || has_many)
    }

    /// Decides about a delivery like [`DeliveryPipeline::decide`], whose turn of the source is held.
    pub(super) async fn decide_large(
        &self,
        source: usize,
        delivery: Delivery,
        approval: Approval,
    ) -> Result<DeliveryReport, PipelineError> {
        // One at a time: two would concern each other's SKUs.
        let _turn = self.0.large_turn.lock().await;
        let _collecting = CollectingGuard(self);
        let mut delivery = delivery;
        let mut comparisons = 0;
        let (settings, comparison, _settings_turn, mut statements) = loop {
            let settings_turn = if comparisons < FREE_COMPARISONS {
                None
            } else {
                Some(self.0.settings_turn.lock().await)
            };
            let settings = {
                let _statements = self.statements().await?;
                *self.0.concerned.lock() = Some(ConcernedSkus::new());
                self.settings()
            };
            let compared = self
                .compare(&settings, source, delivery, &approval, false)
                .await?;
            comparisons += 1;
            // From here on, no settings change until the delivery is applied.
            let settings_turn = match settings_turn {
                Some(turn) => turn,
                None => self.0.settings_turn.lock().await,
            };
            let statements = self.statements().await?;
            delivery = compared.0;
            if Arc::ptr_eq(&settings, &self.settings()) {
                break (settings, compared.1, settings_turn, statements);
            }
        };
        let settled = self
            .settle(
                &mut statements,
                &settings,
                (source, delivery),
                (comparison, approval),
            )
            .await?;
        let Settled {
            report,
            updates,
            released,
        } = settled;
        if let Some(updates) = updates {
            drop(statements);
            self.apply_in_groups(&settings, updates).await?;
            statements = self.statements().await?;
            self.apply_concerned(&settings).await?;
            self.mark_applied(&mut statements, source).await?;
        }
        self.release(&mut statements, source, &report, released)
            .await?;
        self.mirror_later_change(&mut statements).await;
        Ok(report)
    }

    /// Notes the SKUs of a small delivery before it is committed.
    pub(super) fn note_concerned(&self, skus: Vec<String>) {
        if let Some(concerned) = &mut *self.0.concerned.lock() {
            concerned.extend(skus);
        }
    }

    /// Passes updates to ingest, a few groups under each lock, without those of concerned SKUs.
    async fn apply_in_groups(
        &self,
        settings: &Arc<PipelineSettings>,
        updates: SpoolReader,
    ) -> Result<(), PipelineError> {
        let (sender, mut groups) = mpsc::channel(GROUPS_PER_LOCK);
        let (settings, steps) = (Arc::clone(settings), self.0.steps.clone());
        let reading = run_blocking(move || {
            read_groups(updates, &settings, |group| {
                steps.reach("group read");
                sender.blocking_send(group).is_ok()
            })
        });
        let applying = async move {
            let mut ready: Vec<SourceUpdates> = Vec::new();
            // An error drops the receiver, which ends the reading.
            while groups.recv_many(&mut ready, GROUPS_PER_LOCK).await > 0 {
                let _statements = self.statements().await?;
                for group in &mut ready {
                    self.remove_concerned(&mut group.updates);
                }
                self.check_leading()?;
                let ingest = &self.0.context.ingest;
                let calls = ready
                    .drain(..)
                    .map(|group| ingest.accept_of_source(self.0.shop, group));
                try_join_all(calls).await?;
            }
            Ok::<_, PipelineError>(())
        };
        let (read, applied) = tokio::join!(reading, applying);
        applied?;
        Ok(read?)
    }

    /// Removes the updates of SKUs that others have concerned meanwhile.
    fn remove_concerned(&self, updates: &mut Vec<Update>) {
        let concerned = self.0.concerned.lock();
        if let Some(concerned) = concerned.as_ref().filter(|concerned| !concerned.is_empty()) {
            updates.retain(|update| !concerned.contains(update.sku.as_str()));
        }
    }

    /// Evaluates the SKUs again that others have concerned meanwhile. The statements are locked.
    async fn apply_concerned(&self, settings: &Arc<PipelineSettings>) -> Result<(), PipelineError> {
        let concerned = self.0.concerned.lock().take().unwrap_or_default();
        if concerned.is_empty() {
            return Ok(());
        }
        let (pipeline, own_settings) = (self.clone(), Arc::clone(settings));
        let evaluated = run_blocking(move || {
            let directory = &pipeline.0.directory;
            let reader = StatementReader::open(directory)?;
            let context = RuleContext::new(&own_settings, reader.last_snapshots()?);
            let mut effect = StockEffect::new(&pipeline.0, context, directory, None);
            for sku in concerned {
                effect.add(&reader.group_of(&sku)?)?;
            }
            effect.finish(DeliveryScope::Snapshot)
        });
        self.apply(settings, evaluated.await?.updates).await
    }
}

/// Ends the collecting of concerned SKUs when the large delivery ends.
struct CollectingGuard<'a>(&'a DeliveryPipeline);

impl Drop for CollectingGuard<'_> {
    fn drop(&mut self) {
        *self.0.0.concerned.lock() = None;
    }
}

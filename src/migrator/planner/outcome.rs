//! Consequences of the response to a batch: backoff, splitting, quarantine and history.

use std::collections::HashSet;

use market_api::partner::wire::ApiError;
use stock::{Sku, SkuId};
use tokio::time::Instant;
use tracing::{info, warn};

use super::isolation::IsolationEffects;
use super::{CompletedBatch, DurableChange, Now, Planner, PlannerDeps, UpdateBatch};
use crate::history;
use crate::history::EventKind;
use crate::migrator::classify_response::{ResponseVerdict, error_text, mention_dates, named_skus};
use crate::migrator::clock_skew::SkewRange;
use crate::telemetry::AlarmKind;

impl Planner {
    /// Applies the outcome of a request. Returns the changes to persist.
    ///
    /// If the Market accepted the batch, the caller must have recorded it in the ledger before.
    pub fn on_response(&mut self, completed: CompletedBatch, now: Now) -> Vec<DurableChange> {
        let CompletedBatch {
            batch,
            verdict,
            response,
            completed_at,
        } = completed;
        let is_answered = response.is_some();
        if let Some(range) = response.as_ref().and_then(SkewRange::of) {
            self.clock_skew.record(range, completed_at.wall);
        }
        let rate = response.as_ref().map(|it| it.rate).unwrap_or_default();
        let trace_id = response.and_then(|it| it.trace_id);
        // The Market has or may have accepted these dates.
        if let ResponseVerdict::Accepted | ResponseVerdict::Retry { .. } = verdict {
            let dates = batch.items.iter().map(|item| (item.sku.id, item.date));
            self.deps.data.ledger.record_dates(self.target.shop, dates);
        }
        self.record_history(&batch, &verdict, trace_id.clone(), completed_at);
        let PlannerDeps {
            limiter,
            metrics,
            rejected_keys,
            ..
        } = &self.deps;
        let (name, skus) = (&self.target.name, batch.items.len());
        let ended_at = completed_at.monotonic;
        self.in_flight.end_batch(skus, is_answered);
        let mut limiter = limiter.lock();
        limiter.end_request(skus, ended_at);
        limiter.apply_server_limit(&rate, ended_at);
        drop(limiter);
        if is_answered && !matches!(verdict, ResponseVerdict::AuthRejected { .. }) {
            rejected_keys.on_accepted(&self.target.keys[batch.key_index]);
        }
        metrics.record(name, &verdict, skus, ended_at - batch.sent_at, is_answered);
        self.status.requests += 1;
        if verdict != ResponseVerdict::Accepted {
            // Without a response the Market may not have been called, as when the database is down.
            let what = if is_answered {
                "the Market did not accept a batch"
            } else {
                "a batch got no response of the Market"
            };
            warn!(
                shop = name,
                address = %self.target.address,
                batch.skus = skus,
                trace = trace_id.as_deref(),
                "{what}: {verdict}"
            );
        }
        match verdict {
            ResponseVerdict::Accepted => self.on_accepted(batch, now),
            ResponseVerdict::Rejected { errors } => self.on_rejected(batch, &errors, ended_at, now),
            ResponseVerdict::SplitBatch if skus > 1 => {
                self.policy.on_response();
                self.isolation.on_too_large(batch, ended_at);
            }
            verdict => {
                self.on_not_evaluated(&verdict, batch.key_index, ended_at, now);
                self.return_batch(batch, now);
            }
        }
        self.take_changes()
    }

    /// Pauses after a response that says nothing about the SKUs.
    fn on_not_evaluated(
        &mut self,
        verdict: &ResponseVerdict,
        key_index: usize,
        ended_at: Instant,
        now: Now,
    ) {
        match verdict {
            // The request has one SKU and cannot be smaller, so its size is not the cause.
            ResponseVerdict::SplitBatch => {
                let reason = "a request with one SKU is too large";
                self.policy.on_failure(ended_at, reason);
            }
            ResponseVerdict::ReduceParallelism => self.policy.reduce_parallelism(ended_at),
            ResponseVerdict::RateLimited { wait } => {
                self.policy.on_rate_limited(ended_at, *wait);
                let until = self.policy.paused_until();
                let until = until.map(|at| now.wall + at.saturating_duration_since(now.monotonic));
                self.changes.extend(until.map(DurableChange::LimitedUntil));
            }
            ResponseVerdict::AuthRejected {
                reason,
                is_unknown_key,
            } => {
                if *is_unknown_key {
                    let key = &self.target.keys[key_index];
                    self.deps.rejected_keys.on_rejected(key, ended_at);
                }
                if !self.policy.on_auth_rejected(ended_at, key_index, reason) {
                    self.raise_paused_alarm(reason);
                }
            }
            ResponseVerdict::CampaignUnavailable { reason } => {
                self.policy.on_campaign_unavailable(ended_at, reason);
                self.raise_paused_alarm(reason);
            }
            ResponseVerdict::Retry { reason } => self.policy.on_failure(ended_at, reason),
            ResponseVerdict::Accepted | ResponseVerdict::Rejected { .. } => {}
        }
    }

    fn record_history(
        &self,
        batch: &UpdateBatch,
        verdict: &ResponseVerdict,
        trace_id: Option<String>,
        completed_at: Now,
    ) {
        let sent_batch = history::SentBatch {
            number: 0,
            at: completed_at.wall,
            duration: completed_at.monotonic - batch.sent_at,
            sku_count: batch.items.len(),
            outcome: verdict.name(),
            text: verdict.to_string(),
            market_request_id: trace_id,
        };
        let items = batch.items.iter().map(|item| (item.sku.id, item.level));
        self.deps
            .data
            .history
            .record_request(self.target.shop, sent_batch, items);
    }

    fn on_accepted(&mut self, batch: UpdateBatch, now: Now) {
        self.status.acknowledged += batch.items.len() as u64;
        self.status.last_acknowledged = Some(now.wall);
        if self.policy.on_accepted() {
            info!(shop = self.target.name, "the Market accepts stock again");
        }
        self.clear_alarm(AlarmKind::BatchRefused);
        self.clear_alarm(AlarmKind::CampaignPaused);
        self.clear_alarm(AlarmKind::NothingAcknowledged);
        let effects = self.isolation.on_accepted(batch, now.wall);
        self.apply(effects, now.monotonic, now);
        for sku in self.isolation.retry_unconfirmed(&self.queue, now.wall) {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
    }

    /// Handles a rejected batch: corrects its dates if they are the reason, and isolates the rejected
    /// SKUs if not.
    fn on_rejected(
        &mut self,
        batch: UpdateBatch,
        errors: &[ApiError],
        ended_at: Instant,
        now: Now,
    ) {
        self.policy.on_response();
        if mention_dates(errors) && self.resolve_date_rejection(&batch, now) {
            return self.return_batch(batch, now);
        }
        let skus = batch.items.iter().map(|item| &item.sku);
        let named: HashSet<SkuId> = named_skus(errors, skus).map(|sku| sku.id).collect();
        let reason = error_text(errors);
        let effects = self.isolation.on_rejected(batch, &named, &reason, now.wall);
        self.apply(effects, ended_at, now);
    }

    /// Corrects the clock skew and forgets raised dates. Returns true if the batch would now be
    /// sent with other dates.
    fn resolve_date_rejection(&mut self, batch: &UpdateBatch, now: Now) -> bool {
        let raised_items = || batch.items.iter().filter(|item| item.is_date_raised);
        let is_raised = raised_items().next().is_some();
        self.deps
            .data
            .ledger
            .clear_dates(self.target.shop, raised_items().map(|item| item.sku.id));
        self.clock_skew.confirm(now.wall) || is_raised
    }

    /// Decides the pending rejections when no other SKU is left to send. Returns true if there is a
    /// SKU to send now.
    pub(super) fn resolve_pending_rejections(&mut self, now: Now) -> bool {
        if self.in_flight.batches > 0 || self.isolation.has_groups() || !self.queue.is_empty() {
            return false;
        }
        let effects = self.isolation.resolve_pending(now.wall);
        self.apply(effects, now.monotonic, now);
        self.isolation.has_groups()
    }

    /// Applies a decision of the isolation: persists, logs and reports it, and queues the SKUs that
    /// are not isolated any more.
    fn apply(&mut self, effects: IsolationEffects, ended_at: Instant, now: Now) {
        let IsolationEffects {
            quarantined,
            released,
            returned,
            systemic_reason,
        } = effects;
        for entry in quarantined {
            warn!(
                shop = self.target.name,
                sku = entry.sku.as_str(),
                "SKU quarantined, because the Market rejects it: {}",
                entry.reason
            );
            self.record_event(&entry.sku, EventKind::Quarantined, now);
            self.changes.push(DurableChange::Quarantined(entry));
        }
        let released_skus: Vec<Sku> = released.iter().map(|entry| entry.sku.clone()).collect();
        for entry in released {
            self.on_released(entry, now);
        }
        self.give_back(returned, now);
        for sku in released_skus {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
        self.publish_quarantine();
        if let Some(reason) = systemic_reason {
            self.policy.on_batches_rejected(ended_at, &reason);
            let text = format!(
                "the Market rejects every batch of {}, not single SKUs: {reason}",
                self.target.name
            );
            self.raise_alarm(AlarmKind::BatchRefused, text);
        }
    }

    /// Takes the changes to persist that did not arise from a response.
    pub fn take_changes(&mut self) -> Vec<DurableChange> {
        std::mem::take(&mut self.changes)
    }

    fn return_batch(&mut self, batch: UpdateBatch, now: Now) {
        let origin = batch.origin;
        let returned = self.isolation.take_back(batch.into_skus(), origin);
        self.give_back(returned, now);
    }
}

//! Consequences of the response to a batch: backoff, splitting, quarantine and history.

use std::collections::HashSet;

use market_api::partner::wire::ApiError;
use stock::Sku;
use tokio::time::Instant;
use tracing::{info, warn};

use super::rejection_search::{REJECTIONS_UNTIL_SYSTEMIC, RejectedSku};
use super::{CompletedBatch, DurableChange, Now, Planner, UpdateBatch};
use crate::history;
use crate::history::EventKind;
use crate::migrator::classify_response::{ResponseVerdict, error_text, mention_dates, named_skus};
use crate::migrator::quarantine::Confirmation;
use crate::telemetry::AlarmKind;

impl Planner {
    /// Applies the outcome of a request. Returns the changes to persist.
    ///
    /// If the Market accepted the batch, the caller must have recorded it in the ledger before.
    pub fn on_response(&mut self, completed: CompletedBatch, now: Now) -> Vec<DurableChange> {
        let CompletedBatch {
            batch,
            verdict,
            rate,
            skew_range,
            trace_id,
            is_answered,
            completed_at,
        } = completed;
        self.has_unanswered |= !is_answered;
        skew_range
            .into_iter()
            .for_each(|range| self.clock_skew.record(range, completed_at.wall));
        self.record_dates(&batch, &verdict);
        self.record_history(&batch, &verdict, trace_id.as_deref(), completed_at);
        let ended_at = completed_at.monotonic;
        self.in_flight.end_batch(batch.items.len());
        self.deps
            .limiter
            .end_request(batch.items.len(), &rate, ended_at);
        if is_answered && !matches!(verdict, ResponseVerdict::AuthRejected { .. }) {
            self.deps
                .rejected_keys
                .on_accepted(&self.target.keys[batch.key_index]);
        }
        let duration = ended_at - batch.sent_at;
        self.deps
            .metrics
            .record(&self.target.name, &verdict, batch.items.len(), duration);
        if is_answered {
            self.deps
                .metrics
                .record_response_time(&self.target.name, duration);
        }
        self.status.requests += 1;
        if verdict != ResponseVerdict::Accepted {
            self.log_failure(&batch, &verdict, trace_id.as_deref());
        }
        match verdict {
            ResponseVerdict::SplitBatch if batch.items.len() == 1 => {
                // It cannot be smaller, so the size of the batch is not the cause.
                self.policy.on_failure(
                    ended_at,
                    "a request with one SKU is too large",
                    &mut self.rng,
                );
                self.return_batch(batch, now);
            }
            ResponseVerdict::Accepted => self.on_accepted(batch, now),
            ResponseVerdict::Rejected { errors } => self.on_rejected(batch, &errors, ended_at, now),
            ResponseVerdict::SplitBatch => {
                self.policy.on_response();
                self.batch_size.on_too_large(batch.items.len(), ended_at);
                let is_zeros = batch.has_only_zeros();
                self.rejection_search
                    .split_large(batch.into_skus(), is_zeros);
            }
            ResponseVerdict::ReduceParallelism => {
                self.policy.reduce_parallelism(ended_at, &mut self.rng);
                self.return_batch(batch, now);
            }
            ResponseVerdict::RateLimited { wait } => {
                self.policy.on_rate_limited(ended_at, wait);
                let paused_until = self.policy.paused_until();
                let until = paused_until
                    .map(|until| now.wall + (until.saturating_duration_since(now.monotonic)));
                self.changes.extend(until.map(DurableChange::LimitedUntil));
                self.return_batch(batch, now);
            }
            ResponseVerdict::Retry { reason } => {
                self.policy.on_failure(ended_at, &reason, &mut self.rng);
                self.return_batch(batch, now);
            }
            ResponseVerdict::AuthRejected {
                reason,
                is_unknown_key,
            } => {
                if is_unknown_key {
                    self.deps
                        .rejected_keys
                        .on_rejected(&self.target.keys[batch.key_index], ended_at);
                }
                if !self
                    .policy
                    .on_auth_rejected(ended_at, batch.key_index, &reason)
                {
                    self.raise_paused_alarm(&reason);
                }
                self.return_batch(batch, now);
            }
            ResponseVerdict::CampaignUnavailable { reason } => {
                self.policy.on_campaign_unavailable(ended_at, &reason);
                self.raise_paused_alarm(&reason);
                self.return_batch(batch, now);
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// Records the dates that the Market has or may have accepted.
    fn record_dates(&self, batch: &UpdateBatch, verdict: &ResponseVerdict) {
        match verdict {
            ResponseVerdict::Accepted | ResponseVerdict::Retry { .. } => {
                let dates = batch.items.iter().map(|item| (item.id, item.date));
                self.deps.ledger.record_dates(self.target.shop, dates);
            }
            ResponseVerdict::CampaignUnavailable { .. }
            | ResponseVerdict::AuthRejected { .. }
            | ResponseVerdict::RateLimited { .. }
            | ResponseVerdict::Rejected { .. }
            | ResponseVerdict::SplitBatch
            | ResponseVerdict::ReduceParallelism => {}
        }
    }

    fn record_history(
        &self,
        batch: &UpdateBatch,
        verdict: &ResponseVerdict,
        trace_id: Option<&str>,
        completed_at: Now,
    ) {
        let sent_batch = history::SentBatch {
            number: 0,
            at: completed_at.wall,
            duration: completed_at.monotonic - batch.sent_at,
            sku_count: batch.items.len(),
            outcome: verdict.name(),
            text: verdict.to_string(),
            market_request_id: trace_id.map(ToOwned::to_owned),
        };
        let items = batch.items.iter().map(|item| (item.id, item.level));
        self.deps
            .history
            .record_request(self.target.shop, sent_batch, items);
    }

    fn on_accepted(&mut self, batch: UpdateBatch, now: Now) {
        self.status.acknowledged += batch.items.len() as u64;
        self.status.last_acknowledged = Some(now.wall);
        if self.policy.on_accepted() {
            info!(shop = self.target.name, "the Market accepts stock again");
        }
        for alarm in [
            AlarmKind::BatchRefused,
            AlarmKind::CampaignPaused,
            AlarmKind::NothingAcknowledged,
        ] {
            self.deps.alarms.clear(alarm, &self.target.name);
        }
        let skus: Vec<Sku> = batch.items.iter().map(|item| item.sku.clone()).collect();
        let confirmed = self
            .rejection_search
            .on_accepted(batch.number, batch.origin, &skus);
        self.quarantine_rejected(confirmed, Confirmation::Confirmed, now);
        if batch.origin.is_none() {
            self.batch_size.on_queue_accepted(skus.len());
        }
        for item in batch.items {
            self.release(&item.sku, now);
            // It may have changed while it was in flight.
            self.requeue(&item.sku, now.micros(), now);
        }
        // Now that the Market accepts requests, a retry shows whether these SKUs are at fault.
        for sku in self.quarantine.make_unconfirmed_due(now.wall) {
            if !self.busy.contains(&sku) {
                let count = self.quarantine.get(&sku).map(|entry| entry.level.count);
                count
                    .into_iter()
                    .for_each(|count| self.rejection_search.record_confirmed(&sku, count));
                self.enqueue_if_due(&sku, now.micros(), now);
            }
        }
    }

    /// Handles a rejected batch: isolates the SKUs that the Market names, or splits the batch in
    /// halves if it names none.
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
        self.rejection_search.on_rejected(batch.origin);
        let named: HashSet<Sku> = named_skus(errors, batch.items.iter().map(|item| &item.sku))
            .into_iter()
            .collect();
        if let [item] = batch.items.as_slice() {
            let (sku, level) = (item.sku.clone(), item.level);
            let is_confirmed = self.quarantine.is_confirmed(&sku, level)
                || self.rejection_search.is_confirmed(&sku, level.count);
            let is_named = named.contains(&sku);
            let is_quarantined = self.quarantine.has_with_count(&sku, level);
            let (reason, next_request) = (error_text(errors), self.requests_sent + 1);
            let rejected = RejectedSku {
                sku,
                level,
                reason,
                next_request,
                is_named,
                is_quarantined,
            };
            if is_confirmed {
                return self.quarantine_rejected(vec![rejected], Confirmation::Confirmed, now);
            }
            return self.on_single_rejected(rejected, ended_at, now);
        }
        if self.rejection_search.is_systemic() {
            let reason = error_text(errors);
            self.return_batch(batch, now);
            return self.treat_as_systemic(&reason, ended_at, now);
        }
        if named.is_empty() {
            if batch.origin.is_none() {
                // Fewer queued SKUs per request, until requests of that size are accepted.
                self.batch_size.on_queue_rejected(batch.items.len());
            }
            return self.split(batch);
        }
        let is_zeros = batch.has_only_zeros();
        for item in batch.items.iter().filter(|item| named.contains(&item.sku)) {
            self.rejection_search.record_evidence(
                &item.sku,
                item.level.count,
                self.requests_sent + 1,
            );
        }
        let (named_items, others) = batch
            .into_skus()
            .into_iter()
            .partition(|(sku, _)| named.contains(sku));
        self.rejection_search
            .separate_named(named_items, others, is_zeros);
    }

    /// Corrects the clock skew and forgets raised dates. Returns true if the batch would now be
    /// sent with other dates.
    fn resolve_date_rejection(&mut self, batch: &UpdateBatch, now: Now) -> bool {
        // Dates sent before our clock was found wrong prove nothing about the Market's dates.
        self.trusts_earlier_dates = false;
        let raised_items = || batch.items.iter().filter(|item| item.is_date_raised);
        let is_raised = raised_items().next().is_some();
        self.deps
            .ledger
            .clear_dates(self.target.shop, raised_items().map(|item| item.id));
        self.clock_skew.confirm(now.wall) || is_raised
    }

    fn split(&mut self, batch: UpdateBatch) {
        let is_zeros = batch.has_only_zeros();
        self.rejection_search.split(batch.into_skus(), is_zeros);
    }

    /// Records a SKU that was rejected alone, and decides whether the rejection is systemic.
    fn on_single_rejected(&mut self, rejected: RejectedSku, ended_at: Instant, now: Now) {
        let is_quarantined = rejected.is_quarantined;
        let reason = rejected.reason.clone();
        let pending = self.rejection_search.add_pending_rejection(rejected)
            + self.quarantine.unconfirmed_count();
        self.turns.on_single_rejected();
        let is_systemic =
            self.rejection_search.is_systemic() || pending >= REJECTIONS_UNTIL_SYSTEMIC;
        if is_systemic && !is_quarantined {
            self.treat_as_systemic(&reason, ended_at, now);
        }
    }

    /// Handles a systemic rejection: no SKU enters the quarantine, and sending pauses.
    fn treat_as_systemic(&mut self, reason: &str, ended_at: Instant, now: Now) {
        self.batch_size.on_systemic_rejection();
        let unconfirmed = self.quarantine.take_unconfirmed();
        for sku in &unconfirmed {
            self.release(sku, now);
        }
        for sku in self
            .rejection_search
            .abandon_groups()
            .into_iter()
            .chain(unconfirmed)
        {
            self.requeue(&sku, now.micros(), now);
        }
        self.policy.on_batches_rejected(ended_at, reason);
        let text = format!(
            "the Market rejects every batch of {}, not single SKUs: {reason}",
            self.target.name
        );
        self.deps
            .alarms
            .raise(AlarmKind::BatchRefused, &self.target.name, text);
    }

    /// Decides the pending rejections when no other SKU is left to send, so that none can show
    /// whether the rejection is systemic. Returns true if there is a SKU to send now.
    pub(super) fn resolve_pending_rejections(&mut self, now: Now) -> bool {
        if self.in_flight.batches() > 0
            || !self.rejection_search.is_empty()
            || !self.queue.is_empty()
        {
            return false;
        }
        if self.rejection_search.is_systemic() {
            self.rejection_search.probe_oldest_rejection();
            return !self.rejection_search.is_empty();
        }
        let (named, others) = self
            .rejection_search
            .take_pending_rejections()
            .into_iter()
            .partition(|rejected| rejected.is_named);
        self.quarantine_rejected(named, Confirmation::Confirmed, now);
        self.quarantine_rejected(others, Confirmation::Unconfirmed, now);
        false
    }

    fn quarantine_rejected(
        &mut self,
        rejected: Vec<RejectedSku>,
        confirmation: Confirmation,
        now: Now,
    ) {
        if rejected.is_empty() {
            return;
        }
        for RejectedSku {
            sku, level, reason, ..
        } in rejected
        {
            self.rejection_search.remove_evidence(&sku);
            let entry = self
                .quarantine
                .add(&sku, level, reason, (now.wall, confirmation))
                .clone();
            warn!(
                shop = self.target.name,
                sku = sku.as_str(),
                "SKU quarantined, because the Market rejects it: {}",
                entry.reason
            );
            self.record_event(&sku, EventKind::Quarantined, now);
            self.changes.push(DurableChange::Quarantined(entry));
            // Its count may have changed meanwhile.
            self.requeue(&sku, now.micros(), now);
        }
        self.update_quarantine_alarm();
    }

    /// Takes the changes to persist that did not arise from a response.
    pub fn take_changes(&mut self) -> Vec<DurableChange> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn return_batch(&mut self, batch: UpdateBatch, now: Now) {
        let origin = batch.origin;
        self.return_to_queue(batch.into_skus(), origin, now);
    }
}

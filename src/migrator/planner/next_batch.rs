//! Choice of the next batch: source, key, size, dates and body.

use market_api::partner::wire::UpdateBody;
use stock::Level;
use tokio::time::Instant;

use super::retry_groups::BatchOrigin;
use super::turns::BatchSource;
use super::update_batch::{BatchItem, UpdateBatch};
use super::{Now, Planner, PlannerDeps};
use crate::migrator::ledger::is_due;
use crate::migrator::queue::{QueuedSku, Urgency, clamp_to_window};

/// Largest request body, in bytes. Below the Market's limit of 512 KB for either meaning of KB.
const MAX_BODY_BYTES: usize = 500_000;

/// SKUs for the next batch, and the group from which they were taken.
struct Candidates {
    skus: Vec<QueuedSku>,
    origin: Option<BatchOrigin>,
    // Number of SKUs for which the rate limiter has reserved capacity.
    reserved: usize,
}

impl Planner {
    /// Returns the next batch and its body, if a request may be sent now.
    ///
    /// The caller must pass its outcome to [`Planner::on_response`] in every case.
    pub fn next_batch(&mut self, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        if self.status.paused_since.is_some() {
            return None;
        }
        self.isolation.restore_batch_size(now.monotonic);
        if self.in_flight.requests() >= self.policy.allowed_parallel(now.monotonic) {
            return None;
        }
        if self.next_source().1 > 0 && !self.has_usable_key(now) {
            return None;
        }
        loop {
            if let Some(candidates) = self.take_candidates(now) {
                if let Some(batch) = self.build_batch(candidates, now) {
                    return Some(batch);
                }
            } else if !self.resolve_pending_rejections(now) {
                return None;
            }
        }
    }

    /// Selects a key that is not blocked. Returns false, and pauses, if all keys are blocked
    /// because a worker found them rejected.
    fn has_usable_key(&mut self, now: Now) -> bool {
        let keys = &self.target.keys;
        let current = self.policy.key_index();
        let mut blocked_until: Option<Instant> = None;
        for key_index in (current..keys.len()).chain(0..current) {
            let rejected_keys = &self.deps.rejected_keys;
            let Some(until) = rejected_keys.blocked_until(&keys[key_index], now.monotonic) else {
                self.policy.use_key(key_index);
                return true;
            };
            blocked_until = Some(blocked_until.map_or(until, |earliest| earliest.min(until)));
        }
        if let Some(until) = blocked_until {
            let reason = "the Market rejects the Api-Key";
            self.policy.wait_for_key(until, reason);
            self.raise_paused_alarm(reason);
        }
        blocked_until.is_none()
    }

    fn take_candidates(&mut self, now: Now) -> Option<Candidates> {
        let (source, reserved) = self.next_source();
        // Reserved at once, because another worker with the same limiter may do the same.
        if reserved == 0 || !self.deps.limiter.try_begin_request(reserved, now.monotonic) {
            return None;
        }
        if let Some((skus, origin)) = self.isolation.take(source, reserved) {
            return Some(Candidates {
                skus,
                origin: Some(origin),
                reserved,
            });
        }
        let skus = if self.isolation.is_systemic() {
            self.queue.take_newest(reserved)
        } else if source == BatchSource::Zeros {
            self.queue.take(&[Urgency::Zero], reserved)
        } else if self.isolation.sends_zeros_apart() {
            let others = [Urgency::Decrease, Urgency::Rest];
            self.queue.take(&others, reserved)
        } else {
            self.queue.take(&Urgency::ALL, reserved)
        };
        Some(Candidates {
            skus,
            origin: None,
            reserved,
        })
    }

    /// Returns the source of the next batch, and its number of SKUs.
    pub(super) fn next_source(&self) -> (BatchSource, usize) {
        let zeros = self.queue.count(Urgency::Zero);
        let others = self.queue.len() - zeros;
        let max_skus = self.deps.limiter.max_skus();
        self.isolation.next_source(zeros, others, max_skus)
    }

    /// Builds a batch and its body from the current levels of the candidates that are still due.
    fn build_batch(&mut self, candidates: Candidates, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        let Candidates {
            skus,
            mut origin,
            reserved,
        } = candidates;
        let PlannerDeps { book, ledger, .. } = &self.deps;
        let shop = self.target.shop;
        let mut body = UpdateBody::new(MAX_BODY_BYTES, &self.target.address);
        let mut items = Vec::with_capacity(skus.len());
        let mut candidates = skus.into_iter();
        let mut remaining = Vec::new();
        for sku in candidates.by_ref() {
            let entry = book.get(shop, sku.sku.as_str());
            let due_entry =
                entry.filter(|entry| is_due(entry.level(), ledger.get(shop, entry.id())));
            let Some(entry) = due_entry else {
                self.queue.give_back(sku.id);
                continue;
            };
            let level = entry.level();
            let clamped = clamp_to_window(level.updated_at, now.wall - self.clock_skew.estimate());
            // The Market may ignore an update with an older date than it has.
            let last_sent = ledger.sent_date(shop, sku.id).or_else(|| {
                ledger
                    .sent_date_before_restart(shop, sku.id)
                    .filter(|_| self.clock_skew.trusts_earlier_dates())
            });
            let date = last_sent.map_or(clamped, |last_sent| clamped.max(last_sent));
            let sent = Level {
                updated_at: date,
                ..level
            };
            if !body.push(&sku.sku, sent) {
                remaining.push(sku);
                break;
            }
            items.push(BatchItem {
                sku,
                level,
                date,
                is_date_raised: date > clamped,
            });
        }
        remaining.extend(candidates);
        let bytes = body.finish();
        if let Some(origin) = origin.as_mut().filter(|_| !remaining.is_empty()) {
            // Only part of the half is sent, so its acceptance would not prove that the other half
            // is at fault.
            origin.pair = None;
        }
        let returned = self.isolation.take_back(remaining, origin);
        self.give_back(returned, now);
        self.deps.limiter.refund(reserved, items.len());
        if items.is_empty() {
            return None;
        }
        self.in_flight.begin_batch(items.len());
        let key_index = self.policy.key_index();
        self.deps
            .rejected_keys
            .on_request(&self.target.keys[key_index], now.monotonic);
        let batch = UpdateBatch {
            items,
            origin,
            number: self.isolation.begin_request(),
            key_index,
            sent_at: now.monotonic,
        };
        Some((batch, bytes))
    }
}

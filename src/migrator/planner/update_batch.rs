//! Update batches: the choice of the next one, its SKUs and body, and the completed request with its
//! verdict.

use chrono::{DateTime, Utc};
use market_api::partner::client::{CallOutcome, MarketResponse};
use market_api::partner::wire::{MAX_SKUS_PER_UPDATE, MarketAddress, UpdateBody};
use stock::{Count, Level, Sku, SkuId, Timestamp};
use tokio::time::Instant;

use super::retry_groups::BatchOrigin;
use super::turns::BatchSource;
use super::{Now, Planner};
use crate::migrator::classify_response::{ResponseVerdict, classify_response};
use crate::migrator::leading::SendObstacle;
use crate::migrator::ledger::is_due;
use crate::migrator::queue::{QueuedSku, clamp_to_window};
use crate::migrator::{OPERATOR_PAUSE_REASON, ShopData};
use crate::store::Acked;

/// Largest request body, in bytes. Below the Market's limit of 512 KB for either meaning of KB.
const MAX_BODY_BYTES: usize = 500_000;

/// One SKU of a batch.
#[derive(Clone, Debug)]
pub(super) struct BatchItem {
    pub(super) sku: QueuedSku,
    pub(super) level: Level,
    // Date in the request.
    pub(super) date: Timestamp,
    // True if `date` is that of an earlier request, because the level's own date is older.
    pub(super) is_date_raised: bool,
}

/// SKUs of one update request.
#[derive(Debug)]
pub struct UpdateBatch {
    pub(super) items: Vec<BatchItem>,
    // Group from which it was taken; `None` for queued SKUs.
    pub(super) origin: Option<BatchOrigin>,
    // Consecutive number: a later request has a higher one.
    pub(super) number: u64,
    pub(super) key_index: usize,
    pub(super) sent_at: Instant,
}

impl UpdateBatch {
    /// Returns the number of SKUs.
    #[must_use]
    pub fn sku_count(&self) -> usize {
        self.items.len()
    }

    /// Returns the index of the target's key to send the batch with.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    pub(super) fn has_only_zeros(&self) -> bool {
        self.items
            .iter()
            .all(|item| item.level.count == Count::ZERO)
    }

    pub(super) fn into_skus(self) -> Vec<QueuedSku> {
        self.items.into_iter().map(|item| item.sku).collect()
    }

    /// Returns the acknowledgements to record if the Market accepts the batch, sent at `sent_at`.
    #[must_use]
    pub fn to_acked(&self, sent_at: DateTime<Utc>) -> (Vec<SkuId>, Vec<(Sku, Acked)>) {
        let rows = self
            .items
            .iter()
            .map(|item| (item.sku.sku.clone(), Acked::new(item.level, sent_at)));
        (
            self.items.iter().map(|item| item.sku.id).collect(),
            rows.collect(),
        )
    }
}

impl Planner {
    /// Returns the next batch and its body, if a request may be sent now.
    ///
    /// The caller must pass its outcome to [`Planner::on_response`] in every case.
    pub fn next_batch(&mut self, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        if self.status.paused_since.is_some() {
            return None;
        }
        if self.in_flight.requests() >= self.policy.allowed_parallel(now.monotonic) {
            return None;
        }
        if self.next_source(now).1 > 0 && !self.has_usable_key(now) {
            return None;
        }
        loop {
            let (source, reserved) = self.next_source(now);
            // Reserved at once, because another worker with the same limiter may do the same.
            if reserved > 0
                && self
                    .deps
                    .limiter
                    .lock()
                    .try_begin_request(reserved, now.monotonic)
            {
                let (skus, origin) = self.isolation.take(&mut self.queue, source, reserved);
                if let Some(batch) = self.build_batch(skus, origin, reserved, now) {
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
        let (keys, rejected_keys) = (&self.target.keys, &self.deps.rejected_keys);
        let blocked_until = |index| rejected_keys.blocked_until(&keys[index], now.monotonic);
        let current = self.policy.key_index();
        let mut order = (current..keys.len()).chain(0..current);
        let earliest = order.clone().filter_map(blocked_until).min();
        if let Some(key_index) = order.find(|index| blocked_until(*index).is_none()) {
            self.policy.use_key(key_index);
            return true;
        }
        if let Some(until) = earliest {
            let reason = "the Market rejects the Api-Key";
            self.policy.wait_for_key(until, reason);
            self.raise_paused_alarm(reason);
        }
        earliest.is_none()
    }

    /// Returns the source of the next batch, and its number of SKUs.
    pub(super) fn next_source(&self, now: Now) -> (BatchSource, usize) {
        let max_skus = self.deps.limiter.lock().max_skus();
        self.isolation
            .next_source(&self.queue, max_skus, now.monotonic)
    }

    /// Builds a batch and its body from the current levels of the SKUs that are still due. The rate
    /// limiter has reserved capacity for `reserved` of them.
    fn build_batch(
        &mut self,
        skus: Vec<QueuedSku>,
        mut origin: Option<BatchOrigin>,
        reserved: usize,
        now: Now,
    ) -> Option<(UpdateBatch, Vec<u8>)> {
        let ShopData { book, ledger, .. } = &self.deps.data;
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
        self.deps.limiter.lock().refund(reserved, items.len());
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

/// Completed update request with its verdict.
#[derive(Debug)]
pub struct CompletedBatch {
    pub(super) batch: UpdateBatch,
    pub(super) verdict: ResponseVerdict,
    pub(super) response: Option<MarketResponse>,
    pub(super) completed_at: Now,
}

impl CompletedBatch {
    /// Classifies the outcome of a batch that ended at `completed_at`.
    #[must_use]
    pub fn new(batch: UpdateBatch, outcome: CallOutcome, completed_at: Now) -> Self {
        Self {
            batch,
            verdict: classify_response(&outcome),
            response: outcome.into_response(),
            completed_at,
        }
    }

    /// Returns a batch that was not sent.
    pub(in crate::migrator) fn not_sent(
        batch: UpdateBatch,
        obstacle: SendObstacle,
        completed_at: Now,
    ) -> Self {
        let verdict = match obstacle {
            SendObstacle::Paused => ResponseVerdict::Retry {
                reason: OPERATOR_PAUSE_REASON.to_owned(),
            },
            SendObstacle::Temporary(reason) => ResponseVerdict::Retry { reason },
            // Raises the alarm at once, and pauses until the cause is fixed.
            SendObstacle::OtherTarget(reason) => ResponseVerdict::CampaignUnavailable { reason },
        };
        Self {
            batch,
            verdict,
            response: None,
            completed_at,
        }
    }

    /// Returns the batch if the Market has accepted it.
    #[must_use]
    pub fn accepted(&self) -> Option<&UpdateBatch> {
        (self.verdict == ResponseVerdict::Accepted).then_some(&self.batch)
    }
}

/// Returns the largest number of SKUs in one request. By business, each SKU takes one item per
/// warehouse.
pub(in crate::migrator) fn max_skus_per_request(address: &MarketAddress) -> usize {
    match address {
        MarketAddress::Campaign { .. } => MAX_SKUS_PER_UPDATE,
        MarketAddress::Business { warehouses, .. } => {
            (MAX_SKUS_PER_UPDATE / warehouses.len().max(1)).max(1)
        }
    }
}

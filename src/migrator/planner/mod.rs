//! Planner of one shop: decides the next batch and the consequences of a response.
//!
//! It sends nothing, stores nothing and reads no clock; `worker` does.
//!
//! It keeps no queue of payloads. The work to send is the difference between book and ledger. The
//! send queue holds a part of it, filled by change notifications and rescans, and a batch is built
//! from the book when it is sent. So a retry never carries an older value, and a crash or a lost
//! notification costs time, never data.

mod batch_size;
mod in_flight;
mod isolation;
mod outcome;
mod planner_status;
mod retry_groups;
#[cfg(test)]
mod tests;
mod turns;
mod update_batch;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use tokio::time::Instant;

pub(super) use self::update_batch::max_skus_per_request;
pub use self::update_batch::{CompletedBatch, UpdateBatch};

use market_api::partner::wire::MarketAddress;
use stock::Sku;
use strict_http::secret::Secret;

use self::in_flight::RequestsInFlight;
use self::isolation::Isolation;
use self::retry_groups::GroupOrder;
use super::backoff::{SendPolicy, SendState};
use super::clock_skew::ClockSkew;
use super::ledger::is_due;
use super::operator_pause::OperatorPause;
use super::quarantine::Quarantine;
use super::queue::{QueuedSku, SendQueue, Urgency, WaitingSince};
use super::rate_limit::SharedRateLimiter;
use super::rejected_keys::RejectedKeys;
use super::rescan::{Rescan, RescanResult};
use super::status::WorkerStatus;
use super::{MarketTarget, Metrics, RestoredState, ShopData, readback};
use crate::history::EventKind;
use crate::store::QuarantineEntry;
use crate::telemetry::Alarms;

/// Interval between rescans, which find changes whose notification was lost.
const RESCAN_EVERY: Duration = Duration::from_mins(5);

/// Monotonic and wall-clock time of the same moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time, for pauses and rate limits.
    pub monotonic: Instant,
    /// Wall-clock time, for dates and for values that survive a restart.
    pub wall: DateTime<Utc>,
}

impl Now {
    fn micros(self) -> i64 {
        self.wall.timestamp_micros()
    }
}

/// Dependencies of a planner.
#[derive(Clone, Debug)]
pub struct PlannerDeps {
    /// Stock, and what is known about each SKU.
    pub data: ShopData,
    /// Alarms for pauses, quarantine, drift and missing acknowledgements.
    pub alarms: Alarms,
    /// Counters of requests and SKUs.
    pub metrics: Metrics,
    /// Rate limiter of the campaign or business.
    pub limiter: SharedRateLimiter,
    /// Rejected Api-Keys, shared by all workers.
    pub rejected_keys: RejectedKeys,
    /// Longest duration of a request: the timeout of the client.
    pub request_timeout: Duration,
}

/// Decides the batches of one shop and evaluates their responses.
pub struct Planner {
    target: MarketTarget,
    deps: PlannerDeps,
    queue: SendQueue,
    isolation: Isolation,
    policy: SendPolicy,
    clock_skew: ClockSkew,
    in_flight: RequestsInFlight,
    next_rescan_at: Instant,
    // Since when SKUs wait, for the alarm.
    waiting_since: Option<DateTime<Utc>>,
    status: WorkerStatus,
    changes: Vec<DurableChange>,
}

/// Change that must be written to the store.
#[derive(Clone, Debug)]
pub enum DurableChange {
    /// A SKU has entered the quarantine, or its entry has changed.
    Quarantined(QuarantineEntry),
    /// A SKU has left the quarantine.
    Released(Sku),
    /// The Market accepts no updates until then, because the rate limit is used up.
    LimitedUntil(DateTime<Utc>),
}

impl Planner {
    /// Creates a planner without requests in flight, with the restored quarantine and rate limit.
    #[must_use]
    pub fn new(
        target: MarketTarget,
        deps: PlannerDeps,
        restored: RestoredState,
        now: Now,
        rng: StdRng,
    ) -> Self {
        let mut policy = SendPolicy::new(target.parallel, target.keys.len(), rng);
        let limited_until = restored.limited_until;
        if let Some(Ok(remaining)) = limited_until.map(|until| (until - now.wall).to_std()) {
            policy.resume_rate_limit(now.monotonic, remaining);
        }
        deps.limiter
            .add_earlier(&restored.recent_sends, deps.request_timeout, now);
        // Stock is stored before its rejection, so the book knows every entry.
        let quarantined = restored.quarantined.into_iter().filter_map(|entry| {
            let known = deps.data.book.get(target.shop, entry.sku.as_str())?;
            Some((known.id(), entry))
        });
        let mut status = WorkerStatus::default();
        status.show_pause(restored.operator_pause);
        let mut planner = Self {
            policy,
            queue: SendQueue::default(),
            isolation: Isolation::new(
                match target.address {
                    MarketAddress::Campaign { .. } => GroupOrder::DepthFirst,
                    MarketAddress::Business { .. } => GroupOrder::LargestFirst,
                },
                max_skus_per_request(&target.address),
                Quarantine::new(quarantined),
            ),
            clock_skew: ClockSkew::default(),
            in_flight: RequestsInFlight::default(),
            next_rescan_at: now.monotonic,
            waiting_since: None,
            status,
            changes: Vec::new(),
            target,
            deps,
        };
        planner.publish_quarantine();
        planner
    }

    /// Sets or ends the operator's pause, during which no batch is returned.
    pub fn set_operator_pause(&mut self, pause: Option<OperatorPause>) {
        self.status.show_pause(pause);
    }

    // === Finding what to send ===

    /// Queues changed SKUs, and quarantined SKUs whose pause is over.
    pub fn on_changed(&mut self, skus: &[Sku], now: Now) {
        for sku in skus {
            self.enqueue_if_due(sku, now.micros(), now);
        }
        self.enqueue_quarantined(now, |entry| entry.retry_at <= now.wall);
    }

    /// Queues the quarantined SKUs that match and are due.
    fn enqueue_quarantined(&mut self, now: Now, matches: impl Fn(&QuarantineEntry) -> bool) {
        let entries = self.isolation.quarantine.entries();
        let matching = entries.filter(|entry| matches(entry));
        for sku in matching.map(|entry| entry.sku.clone()).collect::<Vec<_>>() {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
        self.publish_quarantine();
    }

    /// Returns true if a rescan is due: after the start, every five minutes, or when the queue is
    /// empty after an overflow.
    #[must_use]
    pub fn wants_rescan(&self, now: Now) -> bool {
        self.next_rescan_at <= now.monotonic
            || (self.queue.is_empty() && self.queue.has_overflowed())
    }

    /// Returns the rescan to run. The queue is empty until [`Planner::end_rescan`].
    #[must_use]
    pub fn begin_rescan(&mut self, now: Now) -> Rescan {
        let mut queue = std::mem::take(&mut self.queue);
        queue.begin_rescan();
        Rescan {
            queue,
            quarantined: self.quarantined_skus(),
            shop: self.target.shop,
            data: self.deps.data.clone(),
            now: now.wall,
        }
    }

    /// Applies the result of a rescan.
    pub fn end_rescan(&mut self, result: RescanResult, now: Now) {
        self.queue = result.queue;
        self.next_rescan_at = now.monotonic + RESCAN_EVERY;
        self.deps.data.ledger.mark_for_resend(
            self.target.shop,
            result.due_for_refresh.iter().map(|(id, _)| *id),
        );
        for (_, sku) in result.due_for_refresh {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
        self.enqueue_quarantined(now, |_| true);
    }

    /// Queues a SKU if it is due, and removes it from queue and quarantine if it is not.
    fn enqueue_if_due(&mut self, sku: &Sku, since: WaitingSince, now: Now) {
        let ShopData { book, ledger, .. } = &self.deps.data;
        let Some(entry) = book.get(self.target.shop, sku.as_str()) else {
            return;
        };
        let (id, level) = (entry.id(), entry.level());
        if self.queue.is_taken(id) {
            return; // Looked at again when it is given back.
        }
        let acked = ledger.get(self.target.shop, id);
        let quarantine = &mut self.isolation.quarantine;
        if !is_due(level, acked) {
            self.queue.discard(id);
            // Accepted, but the process crashed before the release was stored.
            if let Some(released) = quarantine.release(id) {
                self.on_released(released, now);
            }
        } else if quarantine.get(id).is_none() {
            let urgency = Urgency::of(level, acked.level());
            self.queue.insert(id, sku, urgency, since);
        } else if quarantine.is_due(id, level.count, now.wall) {
            self.queue.reserve(id);
            let sku = sku.clone();
            let queued = QueuedSku { id, sku, since };
            self.isolation.retry(queued, level.count);
        }
    }

    /// Ends the isolation of SKUs, and queues those that are due.
    fn give_back(&mut self, skus: Vec<QueuedSku>, now: Now) {
        for QueuedSku { id, sku, since } in skus {
            self.queue.give_back(id);
            self.enqueue_if_due(&sku, since, now);
        }
    }

    fn on_released(&mut self, entry: QuarantineEntry, now: Now) {
        self.record_event(&entry.sku, EventKind::Released, now);
        self.changes.push(DurableChange::Released(entry.sku));
    }

    /// Records a quarantine event in the history of a SKU.
    fn record_event(&self, sku: &Sku, kind: EventKind, now: Now) {
        let ShopData { book, history, .. } = &self.deps.data;
        let entry = book.get(self.target.shop, sku.as_str());
        let skus = entry.iter().map(|entry| (entry.id(), entry.level().count));
        history.record(self.target.shop, now.wall, kind, skus);
    }

    // === Read-backs ===

    /// Reserves a request for a read-back, at least `gap` after the last one of the same campaign
    /// or business. Returns false if none may be sent now. The caller must call
    /// [`Planner::end_readback`] when it ends.
    ///
    /// If only one request may be sent, waiting batches and read-backs take turns. In the state
    /// [`SendState::Paused`] one read-back at a time is still allowed.
    pub fn begin_readback(&mut self, gap: Duration, now: Now) -> bool {
        let (_, waiting) = self.next_source(now);
        let max_parallel = match self.policy.state().0 {
            SendState::Paused => 1,
            SendState::Open | SendState::Waiting => self.policy.allowed_parallel(now.monotonic),
        };
        let free = max_parallel.saturating_sub(self.in_flight.requests());
        let mut limiter = self.deps.limiter.lock();
        let is_batch_turn = self.in_flight.last_was_readback
            && self.status.paused_since.is_none()
            && waiting > 0
            && free == 1
            && limiter
                .next_available_at(waiting, now.monotonic)
                .is_some_and(|at| at <= now.monotonic);
        let is_free = free > 0 && !is_batch_turn && limiter.begin_readback(gap, now.monotonic);
        if is_free {
            self.in_flight.begin_readback();
        }
        is_free
    }

    /// Records the end of a read-back and its clock skew. Returns by how much dates may differ
    /// because of the clocks.
    pub fn end_readback(&mut self, completed: &readback::CompletedReadback, now: Now) -> TimeDelta {
        self.in_flight.end_readback();
        self.deps.limiter.lock().end_readback();
        if let Some(range) = completed.skew_range {
            self.clock_skew.record(range, now.wall);
        }
        if completed.page.is_ok() {
            self.policy.on_readback_response(now.monotonic);
        }
        self.clock_skew.tolerance()
    }

    /// Returns true if a request ended without a response since the last call.
    pub fn take_unanswered(&mut self) -> bool {
        self.in_flight.take_unanswered()
    }

    /// Returns the index of the target's key to use for a read-back.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.policy.key_index()
    }

    /// Replaces the Api-Keys. No request may be in flight. A pause until the cause is fixed ends,
    /// because the key may have been the cause.
    pub fn replace_keys(&mut self, keys: Vec<Secret>) {
        self.policy.replace_keys(keys.len());
        self.target.keys = keys;
    }
}

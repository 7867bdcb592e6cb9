//! What one campaign's lane knows and decides: what goes next, and what an answer changes.
//!
//! It sends nothing, stores nothing and reads no clock; [`super::run`] does, and tells it.
//!
//! It keeps no queue of payloads. What is to be sent is what book and ledger disagree on; the
//! backlog is a window onto that, filled by nudges and by scans, and a batch is built from the
//! book at the moment it goes out. So a retry can never carry an older value, and a crash or a
//! lost nudge costs time, never data.

mod isolation;
mod outcome;
mod planner_status;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use tokio::time::Instant;

use self::isolation::{BatchOrigin, GroupOrder, Isolation};
use super::backoff::{SendPolicy, SendState};
use super::classify_response::{ResponseVerdict, classify_response};
use super::clock_skew::{ClockSkew, SkewRange};
use super::ledger::{Ledger, is_due};
use super::quarantine::Quarantine;
use super::queue::{SendQueue, Urgency, WaitingSince, clamp_to_window};
use super::rate_limit::SharedRateLimiter;
use super::rejected_keys::RejectedKeys;
use super::rescan::{Rescan, RescanResult};
use super::status::WorkerStatus;
use super::{MarketTarget, Metrics, RestoredState, readback};
use crate::history::{EventKind, History};
use crate::partner_api::client::{CallOutcome, RateHeaders};
use crate::partner_api::wire::{MAX_SKUS_PER_UPDATE, MarketAddress, UpdateBody};
use crate::stock::{Activity, Count, Level, Sku, SkuId, StockBook, Timestamp};
use crate::store::{Acked, QuarantineEntry, RecentSend};
use crate::telemetry::Alarms;

/// Largest body we send: a little under the Market's 512 KB, whichever kilobyte it means.
const MAX_BODY_BYTES: usize = 500_000;

/// A scan in spite of nudges, in case one was lost.
const RESCAN_EVERY: Duration = Duration::from_mins(5);

/// SKUs are waiting and nothing was acknowledged for so long: somebody should look.
const MAX_SILENCE: TimeDelta = TimeDelta::minutes(15);

/// How long batches stay small after one was too large.
const REDUCED_SIZE_PERIOD: Duration = Duration::from_hours(24);

/// The client gives a request up after this long at the latest.
const CLIENT_TIMEOUT: TimeDelta = TimeDelta::seconds(60);

/// How soon to look again when other lanes of the same limit have taken all there is.
const SHARED_LIMIT_RECHECK: Duration = Duration::from_millis(250);

/// One moment, by both clocks: pauses go by the one that is never set, dates by the other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For pauses and windows.
    pub monotonic: Instant,
    /// For dates and what outlives the process.
    pub wall: DateTime<Utc>,
}

impl Now {
    fn micros(self) -> i64 {
        self.wall.timestamp_micros()
    }
}

/// What the plan looks at, and whom it tells.
#[derive(Clone, Debug)]
pub struct PlannerDeps {
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has.
    pub ledger: Arc<Ledger>,
    /// Pauses, quarantine, silence.
    pub alarms: Alarms,
    /// Counts for the operator.
    pub metrics: Metrics,
    /// What may be spent of the Market's limit.
    pub limiter: SharedRateLimiter,
    /// The keys that are refused.
    pub rejected_keys: RejectedKeys,
    /// When the seller last asserted what.
    pub activity: Arc<Activity>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
}

/// See the module.
pub struct Planner {
    target: MarketTarget,
    deps: PlannerDeps,
    queue: SendQueue,
    // SKUs out of the backlog's reach: in a request under way, in a group, or suspected. So a
    // SKU is never in two requests at a time.
    busy: HashSet<Sku>,
    isolation: Isolation,
    // Whether a group is next, where both groups and backlog wait.
    is_groups_turn: bool,
    // The last batch was one of zeros alone.
    last_was_zeros: bool,
    // A batch of others was sent since the last suspect, to learn whether all are refused.
    control_batch_sent: bool,
    // Most SKUs of the backlog in one request: fewer while such requests are rejected.
    max_fresh_skus: usize,
    // Requests so far, to tell which of two was sent first.
    requests_sent: u64,
    quarantine: Quarantine,
    // The report has the quarantine as it is.
    is_quarantine_published: bool,
    policy: SendPolicy,
    rng: StdRng,
    next_rescan_at: Instant,
    max_skus: usize,
    restore_size_at: Option<Instant>,
    clock_skew: ClockSkew,
    // The Market has taken the dates that the ledger's times of an earlier life suggest.
    trusts_earlier_dates: bool,
    waiting_since: Option<DateTime<Utc>>,
    in_flight: usize,
    in_flight_skus: usize,
    // Read-backs under way: to the Market requests like any other.
    readbacks_in_flight: usize,
    // The last request was one.
    readback_was_last: bool,
    // A request was given up without a response: the Market may apply it later.
    has_unanswered: bool,
    status: WorkerStatus,
    changes: Vec<DurableChange>,
}

/// SKUs that may go out next, and the group they are of, if they are of one.
struct Candidates {
    skus: Vec<(Sku, WaitingSince)>,
    origin: Option<BatchOrigin>,
    // What was taken from the purse for them.
    reserved: usize,
}

/// What goes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BatchSource {
    /// SKUs of the backlog that fell to zero, and no others.
    Zeros,
    /// SKUs of the backlog, without zeros where these go in batches of their own.
    Queue,
    /// The group at this place.
    Group(usize),
}

/// One SKU of a batch: what went out, and where it came from.
#[derive(Clone, Debug)]
struct BatchItem {
    sku: Sku,
    id: SkuId,
    level: Level,
    since: WaitingSince,
    // The date it goes out with.
    date: Timestamp,
    // That of an earlier request, as its own would be before it.
    is_date_raised: bool,
}

/// SKUs that go out in one request.
#[derive(Debug)]
pub struct UpdateBatch {
    items: Vec<BatchItem>,
    // The group it was taken from, if it was.
    origin: Option<BatchOrigin>,
    // A later request has a higher number.
    number: u64,
    key_index: usize,
    sent_at: Instant,
}

impl UpdateBatch {
    /// How many SKUs it has.
    #[must_use]
    pub fn sku_count(&self) -> usize {
        self.items.len()
    }

    /// Which of the target's keys to send it with.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    fn has_only_zeros(&self) -> bool {
        self.items
            .iter()
            .all(|item| item.level.count == Count::ZERO)
    }

    fn into_skus(self) -> Vec<(Sku, WaitingSince)> {
        self.items
            .into_iter()
            .map(|item| (item.sku, item.since))
            .collect()
    }

    /// What the Market has once it has accepted this, sent at this moment.
    #[must_use]
    pub fn to_acked(&self, sent_at: DateTime<Utc>) -> (Vec<SkuId>, Vec<(Sku, Acked)>) {
        let rows = self
            .items
            .iter()
            .map(|item| (item.sku.clone(), Acked::new(item.level, sent_at)));
        (
            self.items.iter().map(|item| item.id).collect(),
            rows.collect(),
        )
    }
}

/// A request that ended, and how.
#[derive(Debug)]
pub struct CompletedBatch {
    batch: UpdateBatch,
    verdict: ResponseVerdict,
    rate: RateHeaders,
    skew_range: Option<SkewRange>,
    trace_id: Option<String>,
    is_answered: bool,
    completed_at: Now,
}

impl CompletedBatch {
    /// Judges the reply that came at this moment.
    #[must_use]
    pub fn new(batch: UpdateBatch, outcome: CallOutcome, completed_at: Now) -> Self {
        let verdict = classify_response(&outcome);
        let is_answered = matches!(outcome, CallOutcome::Response(_));
        let (rate, skew_range, trace_id) = match outcome {
            CallOutcome::Response(response) => {
                (response.rate, SkewRange::of(&response), response.trace_id)
            }
            CallOutcome::NoResponse(_) => (RateHeaders::default(), None, None),
        };
        Self {
            batch,
            verdict,
            rate,
            skew_range,
            trace_id,
            is_answered,
            completed_at,
        }
    }

    /// The batch, if the Market has accepted it.
    #[must_use]
    pub fn accepted(&self) -> Option<&UpdateBatch> {
        (self.verdict == ResponseVerdict::Accepted).then_some(&self.batch)
    }
}

/// A change to be made durable.
#[derive(Clone, Debug)]
pub enum DurableChange {
    /// Set aside.
    Quarantined(QuarantineEntry),
    /// Taken after all.
    Released(Sku),
    /// The Market wants no stock until then.
    LimitedUntil(DateTime<Utc>),
}

impl Planner {
    /// Nothing under way; the quarantine, and the minute's volume, as they were remembered.
    #[must_use]
    pub fn new(
        target: MarketTarget,
        deps: PlannerDeps,
        restored: RestoredState,
        now: Now,
        rng: StdRng,
    ) -> Self {
        let RestoredState {
            quarantined,
            recent_sends,
            limited_until,
            ..
        } = restored;
        let mut policy = SendPolicy::new(target.parallel, target.keys.len());
        if let Some(Ok(remaining)) = limited_until.map(|until| (until - now.wall).to_std()) {
            policy.resume_rate_limit(now.monotonic, remaining);
        }
        restore_limiter(&deps.limiter, &recent_sends, now);
        let mut planner = Self {
            policy,
            queue: SendQueue::default(),
            busy: HashSet::new(),
            isolation: Isolation::new(match target.address {
                MarketAddress::Campaign { .. } => GroupOrder::DepthFirst,
                MarketAddress::Business { .. } => GroupOrder::LargestFirst,
            }),
            is_groups_turn: true,
            last_was_zeros: false,
            control_batch_sent: false,
            max_fresh_skus: max_skus_per_request(&target.address),
            requests_sent: 0,
            quarantine: Quarantine::new(quarantined),
            is_quarantine_published: false,
            rng,
            next_rescan_at: now.monotonic,
            max_skus: max_skus_per_request(&target.address),
            restore_size_at: None,
            clock_skew: ClockSkew::default(),
            trusts_earlier_dates: true,
            waiting_since: None,
            in_flight: 0,
            in_flight_skus: 0,
            readbacks_in_flight: 0,
            readback_was_last: false,
            has_unanswered: false,
            status: WorkerStatus::default(),
            changes: Vec::new(),
            target,
            deps,
        };
        planner.update_quarantine_alarm();
        planner
    }

    // === Finding what to send ===

    /// These SKUs have changed.
    pub fn on_changed(&mut self, skus: &[Sku], now: Now) {
        for sku in skus {
            self.enqueue_if_due(sku, now.micros(), now);
        }
        for sku in self.quarantine.due_skus(now.wall) {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
    }

    /// Whether the whole shop should be compared: for the first time, after some minutes in
    /// case a hint was lost, or when the backlog has run out and something did not fit.
    #[must_use]
    pub fn wants_rescan(&self, now: Now) -> bool {
        self.next_rescan_at <= now.monotonic
            || (self.queue.is_empty() && self.queue.has_overflowed())
    }

    /// Hands out the comparison; until [`Plan::end_scan`] the backlog is empty.
    #[must_use]
    pub fn begin_rescan(&mut self, now: Now) -> Rescan {
        let mut queue = std::mem::take(&mut self.queue);
        queue.begin_rescan();
        let mut skip = self.busy.clone();
        skip.extend(self.quarantine.skus().cloned());
        let (shop, deps) = (self.target.shop, self.deps.clone());
        Rescan {
            queue,
            skip,
            shop,
            deps,
            now: now.wall,
        }
    }

    /// Takes in what the comparison found.
    pub fn end_rescan(&mut self, result: RescanResult, now: Now) {
        self.queue = result.queue;
        self.next_rescan_at = now.monotonic + RESCAN_EVERY;
        self.deps.ledger.mark_for_resend(
            self.target.shop,
            result.due_for_refresh.iter().map(|(_, id)| *id),
        );
        for (sku, _) in result.due_for_refresh {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
        for sku in self.quarantine.skus().cloned().collect::<Vec<_>>() {
            self.enqueue_if_due(&sku, now.micros(), now);
        }
    }

    /// Puts a SKU where it belongs, if the Market lacks it.
    fn enqueue_if_due(&mut self, sku: &Sku, since: WaitingSince, now: Now) {
        if self.busy.contains(sku) {
            return; // Looked at again when it is back.
        }
        let PlannerDeps { book, ledger, .. } = &self.deps;
        let Some(entry) = book.get(self.target.shop, sku.as_str()) else {
            return;
        };
        let acked = ledger.get(self.target.shop, entry.id());
        if !is_due(entry.level(), acked) {
            self.queue.discard(sku);
            if self.quarantine.contains(sku) {
                // Accepted, but a crash came before that was noted here.
                self.release(sku, now);
            }
        } else if !self.quarantine.contains(sku) {
            self.queue
                .insert(sku, Urgency::of(entry.level(), acked.level()), since);
        } else if self.quarantine.is_due(sku, entry.level(), now.wall) {
            // What was refused by itself goes out by itself.
            self.busy.insert(sku.clone());
            self.isolation
                .push_single(sku.clone(), since, entry.level().count);
        }
    }

    /// What happened to one SKU that is set aside, or no longer.
    fn record_event(&self, sku: &Sku, kind: EventKind, now: Now) {
        let PlannerDeps { book, history, .. } = &self.deps;
        let entry = book.get(self.target.shop, sku.as_str());
        let skus = entry.iter().map(|entry| (entry.id(), entry.level().count));
        history.record(self.target.shop, now.wall, kind, skus);
    }

    fn release(&mut self, sku: &Sku, now: Now) {
        if self.quarantine.release(sku) {
            self.record_event(sku, EventKind::Released, now);
            self.changes.push(DurableChange::Released(sku.clone()));
            self.update_quarantine_alarm();
        }
    }

    fn requeue(&mut self, sku: &Sku, since: WaitingSince, now: Now) {
        self.busy.remove(sku);
        self.enqueue_if_due(sku, since, now);
    }

    // === Sending ===

    /// The next request, if one may go out now: who is in it, and its body.
    ///
    /// It must be landed by [`Plan::land`], whatever becomes of it.
    pub fn next_batch(&mut self, now: Now) -> Option<(UpdateBatch, Vec<u8>)> {
        if self.restore_size_at.is_some_and(|at| at <= now.monotonic) {
            (self.max_skus, self.restore_size_at) =
                (max_skus_per_request(&self.target.address), None);
        }
        if self.in_flight + self.readbacks_in_flight >= self.policy.allowed_parallel(now.monotonic)
        {
            return None;
        }
        if self.next_source().1 > 0 && !self.has_usable_key(now) {
            return None;
        }
        loop {
            let Some(candidates) = self.take_candidates(now) else {
                if self.resolve_pending_rejections(now) {
                    continue;
                }
                return None;
            };
            if let Some(batch) = self.build_batch(candidates, now) {
                return Some(batch);
            }
        }
    }

    /// Whether there is a key to send with; if another lane found all refused, this one waits.
    fn has_usable_key(&mut self, now: Now) -> bool {
        let target_keys = &self.target.keys;
        let current = self.policy.key_index();
        let order = (current..target_keys.len()).chain(0..current);
        let waits: Vec<_> = order
            .map(|key_index| {
                (
                    key_index,
                    self.deps
                        .rejected_keys
                        .blocked_until(&target_keys[key_index], now.monotonic),
                )
            })
            .collect();
        if let Some((key_index, _)) = waits.iter().find(|(_, wait)| wait.is_none()) {
            self.policy.use_key(*key_index);
            return true;
        }
        if let Some(until) = waits.iter().filter_map(|(_, wait)| *wait).min() {
            let reason = "the Market refuses the key";
            self.policy.wait_for_key(until, reason);
            self.raise_paused_alarm(reason);
        }
        waits.is_empty()
    }

    fn take_candidates(&mut self, now: Now) -> Option<Candidates> {
        let (source, wanted) = self.next_source();
        // Taken at once: another lane of the same limit may be as quick.
        if wanted == 0 || !self.deps.limiter.try_begin_request(wanted, now.monotonic) {
            return None;
        }
        self.last_was_zeros = source == BatchSource::Zeros;
        let skus = match source {
            BatchSource::Group(index) => {
                self.is_groups_turn = false;
                let (skus, origin) = self.isolation.take_group(index, wanted)?;
                return Some(Candidates {
                    skus,
                    origin: Some(origin),
                    reserved: wanted,
                });
            }
            _ if self.isolation.is_systemic() => self.queue.take_newest(wanted),
            BatchSource::Zeros => self.queue.take_zeros(wanted),
            BatchSource::Queue if self.sends_zeros_apart() => self.queue.take_others(wanted),
            BatchSource::Queue => self.queue.take(wanted),
        };
        self.is_groups_turn = true;
        self.control_batch_sent = true;
        self.busy.extend(skus.iter().map(|(sku, _)| sku.clone()));
        Some(Candidates {
            skus,
            origin: None,
            reserved: wanted,
        })
    }

    /// Whether zeros go in batches of their own: where requests are limited, a rejected SKU of
    /// another count would delay them by many.
    fn sends_zeros_apart(&self) -> bool {
        matches!(self.target.address, MarketAddress::Business { .. })
    }

    /// What goes next, and how many SKUs.
    ///
    /// Groups and backlog take turns: a thousand refused SKUs that go out one by one must not
    /// keep a new zero waiting. Zeros of their own go before either, but never twice in a row if
    /// others wait.
    fn next_source(&self) -> (BatchSource, usize) {
        let max_skus = self.max_skus.min(self.deps.limiter.max_skus());
        let max_skus = if self.isolation.wants_probe() {
            1
        } else {
            max_skus
        };
        let zeros = if self.sends_zeros_apart() {
            self.queue.zero_count()
        } else {
            0
        };
        let others = self.queue.len() - zeros;
        let group = self.isolation.next_group();
        let has_others = others > 0 || group.is_some();
        if zeros > 0 && !(self.last_was_zeros && has_others) {
            return (
                BatchSource::Zeros,
                zeros.min(max_skus).min(self.max_fresh_skus),
            );
        }
        let wants_evidence = self.isolation.has_pending_rejections() && !self.control_batch_sent;
        let is_queue_turn = wants_evidence || self.isolation.is_systemic() || !self.is_groups_turn;
        match group {
            Some((index, skus)) if others == 0 || !is_queue_turn => {
                (BatchSource::Group(index), skus.min(max_skus))
            }
            Some(_) | None => (
                BatchSource::Queue,
                others.min(max_skus).min(self.max_fresh_skus),
            ),
        }
    }

    /// Makes a body of those candidates the Market still lacks, from what the book says now.
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
        for (sku, since) in candidates.by_ref() {
            let entry = book.get(shop, sku.as_str());
            let due_entry =
                entry.filter(|entry| is_due(entry.level(), ledger.get(shop, entry.id())));
            let Some(entry) = due_entry else {
                self.busy.remove(&sku);
                continue;
            };
            let level = entry.level();
            let clamped = clamp_to_window(level.updated_at, now.wall - self.clock_skew.estimate());
            // The Market may ignore what is dated before what it has.
            let last_sent = ledger.sent_date(shop, entry.id()).or_else(|| {
                ledger
                    .sent_date_before_restart(shop, entry.id())
                    .filter(|_| self.trusts_earlier_dates)
            });
            let updated_at = last_sent.map_or(clamped, |last_sent| clamped.max(last_sent));
            if !body.push(
                &sku,
                Level {
                    updated_at,
                    ..level
                },
            ) {
                remaining.push((sku, since));
                break;
            }
            let (date, is_date_raised) = (updated_at, updated_at > clamped);
            items.push(BatchItem {
                sku,
                id: entry.id(),
                level,
                since,
                date,
                is_date_raised,
            });
        }
        remaining.extend(candidates);
        let bytes = body.finish();
        if let Some(origin) = origin.as_mut().filter(|_| !remaining.is_empty()) {
            // Half of a half tells nothing of the other one.
            origin.pair = None;
        }
        self.return_to_queue(remaining, origin, now);
        self.deps.limiter.refund(reserved, items.len());
        if items.is_empty() {
            return None;
        }
        self.readback_was_last = false;
        self.in_flight += 1;
        self.in_flight_skus += items.len();
        let key_index = self.policy.key_index();
        self.requests_sent += 1;
        self.deps
            .rejected_keys
            .on_request(&self.target.keys[key_index], now.monotonic);
        Some((
            UpdateBatch {
                items,
                origin,
                number: self.requests_sent,
                key_index,
                sent_at: now.monotonic,
            },
            bytes,
        ))
    }

    fn return_to_queue(
        &mut self,
        skus: Vec<(Sku, WaitingSince)>,
        origin: Option<BatchOrigin>,
        now: Now,
    ) {
        match origin {
            _ if skus.is_empty() => {}
            Some(origin) => self.isolation.return_group(skus, origin),
            None => skus
                .iter()
                .for_each(|(sku, since)| self.requeue(sku, *since, now)),
        }
    }

    /// Whether a read-back may go out now, beside what is under way and so long after the last
    /// one of the same cabinet; it must be ended by [`Plan::end_look`].
    ///
    /// Where there is but one place, batches that wait and read-backs take turns. A pause of the
    /// sending alone is none of the looking.
    pub fn begin_readback(&mut self, gap: Duration, now: Now) -> bool {
        let (_, waiting) = self.next_source();
        let max_parallel = match self.policy.state() {
            (SendState::Paused, _) => 1,
            (SendState::Open | SendState::Waiting, _) => {
                self.policy.allowed_parallel(now.monotonic)
            }
        };
        let free = max_parallel.saturating_sub(self.in_flight + self.readbacks_in_flight);
        let limiter = &self.deps.limiter;
        let is_batch_turn = self.readback_was_last
            && waiting > 0
            && free == 1
            && limiter
                .next_available_at(waiting, now.monotonic)
                .is_some_and(|at| at <= now.monotonic);
        let is_free = free > 0 && !is_batch_turn && limiter.begin_readback(gap, now.monotonic);
        self.readbacks_in_flight += usize::from(is_free);
        self.readback_was_last |= is_free;
        is_free
    }

    /// A read-back ended, and this is what it says of the Market's clock. Returns by how much
    /// dates may differ because of the clocks.
    pub fn end_readback(&mut self, completed: &readback::CompletedReadback, now: Now) -> TimeDelta {
        self.readbacks_in_flight -= 1;
        self.deps.limiter.end_readback();
        completed
            .skew_range()
            .into_iter()
            .for_each(|range| self.clock_skew.record(range, now.wall));
        if completed.is_page() {
            self.policy.on_readback_response(now.monotonic);
        }
        self.clock_skew.tolerance()
    }

    /// Whether a request was given up without a response since this was asked last.
    pub fn take_unanswered(&mut self) -> bool {
        std::mem::take(&mut self.has_unanswered)
    }

    /// Which of the target's keys to ask with.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.policy.key_index()
    }
}

/// Most SKUs in one request: each takes an item for every warehouse that is told.
pub(super) fn max_skus_per_request(address: &MarketAddress) -> usize {
    match address {
        MarketAddress::Campaign { .. } => MAX_SKUS_PER_UPDATE,
        MarketAddress::Business { warehouses, .. } => {
            (MAX_SKUS_PER_UPDATE / warehouses.len().max(1)).max(1)
        }
    }
}

fn restore_limiter(limiter: &SharedRateLimiter, recent_sends: &[RecentSend], now: Now) {
    for RecentSend { at, skus } in recent_sends {
        // It was answered, or given up, at some time between then and now, and not after the
        // client's own time-out: the latest counts.
        let ended_at: DateTime<Utc> = (*at + CLIENT_TIMEOUT).min(now.wall);
        let elapsed = (now.wall - ended_at).to_std().unwrap_or_default();
        if let Some(ended_at) = now.monotonic.checked_sub(elapsed) {
            limiter.restore(*skus, ended_at);
        }
    }
}

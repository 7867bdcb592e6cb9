//! What one campaign's lane knows and decides: what goes next, and what an answer changes.
//!
//! It sends nothing, stores nothing and reads no clock; [`super::run`] does, and tells it.
//!
//! It keeps no queue of payloads. What is to be sent is what book and ledger disagree on; the
//! backlog is a window onto that, filled by nudges and by scans, and a batch is built from the
//! book at the moment it goes out. So a retry can never carry an older value, and a crash or a
//! lost nudge costs time, never data.

mod isolate;
mod landing;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use tokio::time::Instant;

use self::isolate::{Isolation, Order, Part};
use super::batch::{Age, Backlog, Urgency, held_in_window};
use super::desk::Report;
use super::keys::Keys;
use super::ledger::{Ledger, is_due};
use super::pace::Purse;
use super::quarantine::Quarantine;
use super::scan::{Found, Scan};
use super::skew::{Range, Skew};
use super::standing::{Standing, State};
use super::verdict::{Verdict, judge};
use super::{Memory, Metrics, Target, reconcile};
use crate::history::{History, What};
use crate::partner::client::{RateHeaders, Reply};
use crate::partner::wire::{Address, MAX_SKUS_PER_UPDATE, UpdateBody};
use crate::stock::{Count, Instant as Stamp, Level, Marks, Sku, SkuId, StockBook};
use crate::store::{Acked, Quarantined, Spent};
use crate::telemetry::Alarms;

/// Largest body we send: a little under the Market's 512 KB, whichever kilobyte it means.
const MAX_BODY_BYTES: usize = 500_000;

/// A scan in spite of nudges, in case one was lost.
const SCAN_EVERY: Duration = Duration::from_mins(5);

/// SKUs are waiting and nothing was acknowledged for so long: somebody should look.
const SILENCE: TimeDelta = TimeDelta::minutes(15);

/// How long batches stay small after one was too large.
const SHRUNK_FOR: Duration = Duration::from_hours(24);

/// The client gives a request up after this long at the latest.
const CLIENT_TIMEOUT: TimeDelta = TimeDelta::seconds(60);

/// How soon to look again when other lanes of the same limit have taken all there is.
const WHEN_OTHERS_SEND: Duration = Duration::from_millis(250);

/// One moment, by both clocks: pauses go by the one that is never set, dates by the other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For pauses and windows.
    pub mono: Instant,
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
pub struct Surroundings {
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has.
    pub ledger: Arc<Ledger>,
    /// Pauses, quarantine, silence.
    pub alarms: Alarms,
    /// Counts for the operator.
    pub metrics: Metrics,
    /// What may be spent of the Market's limit.
    pub purse: Purse,
    /// The keys that are refused.
    pub keys: Keys,
    /// When the seller last asserted what.
    pub marks: Arc<Marks>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
}

/// See the module.
pub struct Plan {
    target: Target,
    around: Surroundings,
    backlog: Backlog,
    // SKUs out of the backlog's reach: in a request under way, in a group, or suspected. So a
    // SKU is never in two requests at a time.
    away: HashSet<Sku>,
    isolation: Isolation,
    // Whether a group is next, where both groups and backlog wait.
    is_groups_turn: bool,
    // The last batch was one of zeros alone.
    is_after_zeros: bool,
    // A batch of others was sent since the last suspect, to learn whether all are refused.
    evidence_sought: bool,
    // Most SKUs of the backlog in one request: fewer while such requests are rejected.
    fresh_skus: usize,
    // Requests so far, to tell which of two was sent first.
    sent: u64,
    quarantine: Quarantine,
    // The report has the quarantine as it is.
    is_listed: bool,
    standing: Standing,
    dice: StdRng,
    scan_at: Instant,
    max_skus: usize,
    grow_at: Option<Instant>,
    skew: Skew,
    // The Market has taken the dates that the ledger's times of an earlier life suggest.
    trusts_earlier_dates: bool,
    waiting_since: Option<DateTime<Utc>>,
    in_flight: usize,
    in_flight_skus: usize,
    // Read-backs under way: to the Market requests like any other.
    looks: usize,
    // The last request was one.
    looked_last: bool,
    // A request was given up without a response: the Market may apply it later.
    is_unanswered: bool,
    report: Report,
    keep: Vec<Keep>,
}

/// SKUs that may go out next, and the group they are of, if they are of one.
struct Candidates {
    skus: Vec<(Sku, Age)>,
    part: Option<Part>,
    // What was taken from the purse for them.
    reserved: usize,
}

/// What goes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// SKUs of the backlog that fell to zero, and no others.
    Zeros,
    /// SKUs of the backlog, without zeros where these go in batches of their own.
    Backlog,
    /// The group at this place.
    Group(usize),
}

/// One SKU of a batch: what went out, and where it came from.
#[derive(Clone, Debug)]
struct Item {
    sku: Sku,
    id: SkuId,
    level: Level,
    age: Age,
    // The date it goes out with.
    date: Stamp,
    // That of an earlier request, as its own would be before it.
    is_raised: bool,
}

/// SKUs that go out in one request.
#[derive(Debug)]
pub struct Batch {
    items: Vec<Item>,
    // The group it was taken from, if it was.
    part: Option<Part>,
    // A later request has a higher number.
    number: u64,
    key: usize,
    began: Instant,
}

impl Batch {
    /// How many SKUs it has.
    #[must_use]
    pub fn skus(&self) -> usize {
        self.items.len()
    }

    /// Which of the target's keys to send it with.
    #[must_use]
    pub fn key(&self) -> usize {
        self.key
    }

    fn is_zeros(&self) -> bool {
        self.items
            .iter()
            .all(|item| item.level.count == Count::ZERO)
    }

    fn into_skus(self) -> Vec<(Sku, Age)> {
        self.items
            .into_iter()
            .map(|item| (item.sku, item.age))
            .collect()
    }

    /// What the Market has once it has accepted this, sent at this moment.
    #[must_use]
    pub fn acknowledged(&self, at: DateTime<Utc>) -> (Vec<SkuId>, Vec<(Sku, Acked)>) {
        let rows = self
            .items
            .iter()
            .map(|item| (item.sku.clone(), Acked::new(item.level, at)));
        (
            self.items.iter().map(|item| item.id).collect(),
            rows.collect(),
        )
    }
}

/// A request that ended, and how.
#[derive(Debug)]
pub struct Landed {
    batch: Batch,
    verdict: Verdict,
    rate: RateHeaders,
    skew: Option<Range>,
    trace: Option<String>,
    is_answered: bool,
    at: Now,
}

impl Landed {
    /// Judges the reply that came at this moment.
    #[must_use]
    pub fn new(batch: Batch, reply: Reply, at: Now) -> Self {
        let verdict = judge(&reply);
        let is_answered = matches!(reply, Reply::Answer(_));
        let (rate, skew, trace) = match reply {
            Reply::Answer(answer) => (answer.rate, Range::of(&answer), answer.trace),
            Reply::Failure(_) => (RateHeaders::default(), None, None),
        };
        Self {
            batch,
            verdict,
            rate,
            skew,
            trace,
            is_answered,
            at,
        }
    }

    /// The batch, if the Market has accepted it.
    #[must_use]
    pub fn accepted(&self) -> Option<&Batch> {
        (self.verdict == Verdict::Accept).then_some(&self.batch)
    }
}

/// A change to be made durable.
#[derive(Clone, Debug)]
pub enum Keep {
    /// Set aside.
    Quarantined(Quarantined),
    /// Taken after all.
    Released(Sku),
    /// The Market wants no stock until then.
    LimitedUntil(DateTime<Utc>),
}

impl Plan {
    /// Nothing under way; the quarantine, and the minute's volume, as they were remembered.
    #[must_use]
    pub fn new(
        target: Target,
        around: Surroundings,
        memory: Memory,
        now: Now,
        dice: StdRng,
    ) -> Self {
        let Memory {
            quarantined,
            spent,
            limited_until,
            ..
        } = memory;
        let mut standing = Standing::new(target.parallel, target.keys.len());
        if let Some(Ok(left)) = limited_until.map(|until| (until - now.wall).to_std()) {
            standing.resume_limited(now.mono, left);
        }
        recall(&around.purse, &spent, now);
        let mut plan = Self {
            standing,
            backlog: Backlog::default(),
            away: HashSet::new(),
            isolation: Isolation::new(match target.address {
                Address::Campaign { .. } => Order::DepthFirst,
                Address::Business { .. } => Order::LargestFirst,
            }),
            is_groups_turn: true,
            is_after_zeros: false,
            evidence_sought: false,
            fresh_skus: most_skus(&target.address),
            sent: 0,
            quarantine: Quarantine::new(quarantined),
            is_listed: false,
            dice,
            scan_at: now.mono,
            max_skus: most_skus(&target.address),
            grow_at: None,
            skew: Skew::default(),
            trusts_earlier_dates: true,
            waiting_since: None,
            in_flight: 0,
            in_flight_skus: 0,
            looks: 0,
            looked_last: false,
            is_unanswered: false,
            report: Report::default(),
            keep: Vec::new(),
            target,
            around,
        };
        plan.note_quarantine();
        plan
    }

    // === Finding what to send ===

    /// These SKUs have changed.
    pub fn hint(&mut self, skus: &[Sku], now: Now) {
        for sku in skus {
            self.enlist(sku, now.micros(), now);
        }
        for sku in self.quarantine.due(now.wall) {
            self.enlist(&sku, now.micros(), now);
        }
    }

    /// Whether the whole shop should be compared: for the first time, after some minutes in
    /// case a hint was lost, or when the backlog has run out and something did not fit.
    #[must_use]
    pub fn wants_scan(&self, now: Now) -> bool {
        self.scan_at <= now.mono || (self.backlog.is_empty() && self.backlog.has_more())
    }

    /// Hands out the comparison; until [`Plan::end_scan`] the backlog is empty.
    #[must_use]
    pub fn begin_scan(&mut self, now: Now) -> Scan {
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.begin_scan();
        let mut skip = self.away.clone();
        skip.extend(self.quarantine.skus().cloned());
        let (shop, around) = (self.target.shop, self.around.clone());
        Scan {
            backlog,
            skip,
            shop,
            around,
            now: now.wall,
        }
    }

    /// Takes in what the comparison found.
    pub fn end_scan(&mut self, found: Found, now: Now) {
        self.backlog = found.backlog;
        self.scan_at = now.mono + SCAN_EVERY;
        self.around
            .ledger
            .doubt(self.target.shop, found.refresh.iter().map(|(_, id)| *id));
        for (sku, _) in found.refresh {
            self.enlist(&sku, now.micros(), now);
        }
        for sku in self.quarantine.skus().cloned().collect::<Vec<_>>() {
            self.enlist(&sku, now.micros(), now);
        }
    }

    /// Puts a SKU where it belongs, if the Market lacks it.
    fn enlist(&mut self, sku: &Sku, age: Age, now: Now) {
        if self.away.contains(sku) {
            return; // Looked at again when it is back.
        }
        let Surroundings { book, ledger, .. } = &self.around;
        let Some(entry) = book.get(self.target.shop, sku.as_str()) else {
            return;
        };
        let acked = ledger.get(self.target.shop, entry.id());
        if !is_due(entry.level(), acked) {
            self.backlog.discard(sku);
            if self.quarantine.has(sku) {
                // Accepted, but a crash came before that was noted here.
                self.release(sku, now);
            }
        } else if !self.quarantine.has(sku) {
            self.backlog
                .insert(sku, Urgency::of(entry.level(), acked.level()), age);
        } else if self.quarantine.is_due(sku, entry.level(), now.wall) {
            // What was refused by itself goes out by itself.
            self.away.insert(sku.clone());
            self.isolation
                .push_single(sku.clone(), age, entry.level().count);
        }
    }

    /// What happened to one SKU that is set aside, or no longer.
    fn note_event(&self, sku: &Sku, what: What, now: Now) {
        let Surroundings { book, history, .. } = &self.around;
        let entry = book.get(self.target.shop, sku.as_str());
        let skus = entry.iter().map(|entry| (entry.id(), entry.level().count));
        history.note(self.target.shop, now.wall, what, skus);
    }

    fn release(&mut self, sku: &Sku, now: Now) {
        if self.quarantine.release(sku) {
            self.note_event(sku, What::Released, now);
            self.keep.push(Keep::Released(sku.clone()));
            self.note_quarantine();
        }
    }

    fn come_back(&mut self, sku: &Sku, age: Age, now: Now) {
        self.away.remove(sku);
        self.enlist(sku, age, now);
    }

    // === Sending ===

    /// The next request, if one may go out now: who is in it, and its body.
    ///
    /// It must be landed by [`Plan::land`], whatever becomes of it.
    pub fn next(&mut self, now: Now) -> Option<(Batch, Vec<u8>)> {
        if self.grow_at.is_some_and(|at| at <= now.mono) {
            (self.max_skus, self.grow_at) = (most_skus(&self.target.address), None);
        }
        if self.in_flight + self.looks >= self.standing.parallel(now.mono) {
            return None;
        }
        if self.queued().1 > 0 && !self.has_key(now) {
            return None;
        }
        loop {
            let Some(candidates) = self.candidates(now) else {
                if self.settle_suspects(now) {
                    continue;
                }
                return None;
            };
            if let Some(ready) = self.build(candidates, now) {
                return Some(ready);
            }
        }
    }

    /// Whether there is a key to send with; if another lane found all refused, this one waits.
    fn has_key(&mut self, now: Now) -> bool {
        let keys = &self.target.keys;
        let current = self.standing.key();
        let order = (current..keys.len()).chain(0..current);
        let waits: Vec<_> = order
            .map(|key| (key, self.around.keys.wait(&keys[key], now.mono)))
            .collect();
        if let Some((key, _)) = waits.iter().find(|(_, wait)| wait.is_none()) {
            self.standing.use_key(*key);
            return true;
        }
        if let Some(until) = waits.iter().filter_map(|(_, wait)| *wait).min() {
            let reason = "the Market refuses the key";
            self.standing.wait_for_key(until, reason);
            self.alarm_pause(reason);
        }
        waits.is_empty()
    }

    fn candidates(&mut self, now: Now) -> Option<Candidates> {
        let (source, wanted) = self.queued();
        // Taken at once: another lane of the same limit may be as quick.
        if wanted == 0 || !self.around.purse.start(wanted, now.mono) {
            return None;
        }
        self.is_after_zeros = source == Source::Zeros;
        let skus = match source {
            Source::Group(place) => {
                self.is_groups_turn = false;
                let (skus, part) = self.isolation.take(place, wanted)?;
                return Some(Candidates {
                    skus,
                    part: Some(part),
                    reserved: wanted,
                });
            }
            _ if self.isolation.is_systemic() => self.backlog.take_newest(wanted),
            Source::Zeros => self.backlog.take_zeros(wanted),
            Source::Backlog if self.has_own_zeros() => self.backlog.take_others(wanted),
            Source::Backlog => self.backlog.take(wanted),
        };
        self.is_groups_turn = true;
        self.evidence_sought = true;
        self.away.extend(skus.iter().map(|(sku, _)| sku.clone()));
        Some(Candidates {
            skus,
            part: None,
            reserved: wanted,
        })
    }

    /// Whether zeros go in batches of their own: where requests are limited, a rejected SKU of
    /// another count would delay them by many.
    fn has_own_zeros(&self) -> bool {
        matches!(self.target.address, Address::Business { .. })
    }

    /// What goes next, and how many SKUs.
    ///
    /// Groups and backlog take turns: a thousand refused SKUs that go out one by one must not
    /// keep a new zero waiting. Zeros of their own go before either, but never twice in a row if
    /// others wait.
    fn queued(&self) -> (Source, usize) {
        let most = self.max_skus.min(self.around.purse.most());
        let most = if self.isolation.wants_probe() {
            1
        } else {
            most
        };
        let zeros = if self.has_own_zeros() {
            self.backlog.zeros()
        } else {
            0
        };
        let others = self.backlog.len() - zeros;
        let group = self.isolation.next();
        let has_others = others > 0 || group.is_some();
        if zeros > 0 && !(self.is_after_zeros && has_others) {
            return (Source::Zeros, zeros.min(most).min(self.fresh_skus));
        }
        let wants_evidence = self.isolation.has_suspects() && !self.evidence_sought;
        let is_backlogs_turn =
            wants_evidence || self.isolation.is_systemic() || !self.is_groups_turn;
        match group {
            Some((place, skus)) if others == 0 || !is_backlogs_turn => {
                (Source::Group(place), skus.min(most))
            }
            Some(_) | None => (Source::Backlog, others.min(most).min(self.fresh_skus)),
        }
    }

    /// Makes a body of those candidates the Market still lacks, from what the book says now.
    fn build(&mut self, candidates: Candidates, now: Now) -> Option<(Batch, Vec<u8>)> {
        let Candidates {
            skus,
            mut part,
            reserved,
        } = candidates;
        let Surroundings { book, ledger, .. } = &self.around;
        let shop = self.target.shop;
        let mut body = UpdateBody::new(MAX_BODY_BYTES, &self.target.address);
        let mut items = Vec::with_capacity(skus.len());
        let mut candidates = skus.into_iter();
        let mut left_over = Vec::new();
        for (sku, age) in candidates.by_ref() {
            let entry = book.get(shop, sku.as_str());
            let due = entry.filter(|entry| is_due(entry.level(), ledger.get(shop, entry.id())));
            let Some(entry) = due else {
                self.away.remove(&sku);
                continue;
            };
            let level = entry.level();
            let held = held_in_window(level.updated_at, now.wall - self.skew.behind());
            // The Market may ignore what is dated before what it has.
            let last = ledger.dated(shop, entry.id()).or_else(|| {
                ledger
                    .dated_before(shop, entry.id())
                    .filter(|_| self.trusts_earlier_dates)
            });
            let updated_at = last.map_or(held, |last| held.max(last));
            if !body.push(
                &sku,
                Level {
                    updated_at,
                    ..level
                },
            ) {
                left_over.push((sku, age));
                break;
            }
            let (date, is_raised) = (updated_at, updated_at > held);
            items.push(Item {
                sku,
                id: entry.id(),
                level,
                age,
                date,
                is_raised,
            });
        }
        left_over.extend(candidates);
        let bytes = body.finish();
        if let Some(part) = part.as_mut().filter(|_| !left_over.is_empty()) {
            // Half of a half tells nothing of the other one.
            part.pair = None;
        }
        self.put_back(left_over, part, now);
        self.around.purse.give_back(reserved, items.len());
        if items.is_empty() {
            return None;
        }
        self.looked_last = false;
        self.in_flight += 1;
        self.in_flight_skus += items.len();
        let key = self.standing.key();
        self.sent += 1;
        self.around.keys.begin(&self.target.keys[key], now.mono);
        Some((
            Batch {
                items,
                part,
                number: self.sent,
                key,
                began: now.mono,
            },
            bytes,
        ))
    }

    fn put_back(&mut self, skus: Vec<(Sku, Age)>, part: Option<Part>, now: Now) {
        match part {
            _ if skus.is_empty() => {}
            Some(part) => self.isolation.put_back(skus, part),
            None => skus
                .iter()
                .for_each(|(sku, age)| self.come_back(sku, *age, now)),
        }
    }

    /// Whether a read-back may go out now, beside what is under way and so long after the last
    /// one of the same cabinet; it must be ended by [`Plan::end_look`].
    ///
    /// Where there is but one place, batches that wait and read-backs take turns. A pause of the
    /// sending alone is none of the looking.
    pub fn begin_look(&mut self, gap: Duration, now: Now) -> bool {
        let (_, waiting) = self.queued();
        let places = match self.standing.state() {
            (State::Paused, _) => 1,
            (State::Open | State::Waiting, _) => self.standing.parallel(now.mono),
        };
        let free = places.saturating_sub(self.in_flight + self.looks);
        let purse = &self.around.purse;
        let is_batchs_turn = self.looked_last
            && waiting > 0
            && free == 1
            && purse
                .next_room(waiting, now.mono)
                .is_some_and(|at| at <= now.mono);
        let is_free = free > 0 && !is_batchs_turn && purse.begin_look(gap, now.mono);
        self.looks += usize::from(is_free);
        self.looked_last |= is_free;
        is_free
    }

    /// A read-back ended, and this is what it says of the Market's clock. Returns by how much
    /// dates may differ because of the clocks.
    pub fn end_look(&mut self, landed: &reconcile::Landed, now: Now) -> TimeDelta {
        self.looks -= 1;
        self.around.purse.end_look();
        landed
            .skew()
            .into_iter()
            .for_each(|range| self.skew.note(range, now.wall));
        if landed.is_page() {
            self.standing.answered(now.mono);
        }
        self.skew.tolerance()
    }

    /// Whether a request was given up without a response since this was asked last.
    pub fn take_unanswered(&mut self) -> bool {
        std::mem::take(&mut self.is_unanswered)
    }

    /// Which of the target's keys to ask with.
    #[must_use]
    pub fn key(&self) -> usize {
        self.standing.key()
    }
}

/// Most SKUs in one request: each takes an item for every warehouse that is told.
pub(super) fn most_skus(address: &Address) -> usize {
    match address {
        Address::Campaign { .. } => MAX_SKUS_PER_UPDATE,
        Address::Business { warehouses, .. } => {
            (MAX_SKUS_PER_UPDATE / warehouses.len().max(1)).max(1)
        }
    }
}

fn recall(purse: &Purse, spent: &[Spent], now: Now) {
    for Spent { at, skus } in spent {
        // It was answered, or given up, at some time between then and now, and not after the
        // client's own time-out: the latest counts.
        let ended: DateTime<Utc> = (*at + CLIENT_TIMEOUT).min(now.wall);
        let ago = (now.wall - ended).to_std().unwrap_or_default();
        if let Some(ended) = now.mono.checked_sub(ago) {
            purse.recall(*skus, ended);
        }
    }
}

//! The loop of one campaign: compare, send, judge, remember.
//!
//! It keeps no queue of payloads. What is to be sent is what book and ledger disagree on; the
//! backlog is a window onto that, filled by nudges and by scans, and a batch is built from the
//! book at the moment it goes out. So a retry can never carry an older value, and a crash or a
//! lost nudge costs time, never data.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::batch::{Age, Backlog, Urgency, held_in_window};
use super::desk::{Aside, Desk, Report};
use super::ledger::is_dirty;
use super::pace::{Pace, scale};
use super::quarantine::Quarantine;
use super::standing::{Standing, State};
use super::verdict::{Verdict, judge, named};
use super::{Context, Memory, Target};
use crate::lifecycle::{Tasks, run_blocking};
use crate::partner::client::{RateHeaders, Reply};
use crate::partner::wire::{ApiError, MAX_SKUS_PER_UPDATE, SKUS_PER_MINUTE, UpdateBody};
use crate::stock::{Column, Level, Sku, SkuId};
use crate::store::{Acked, Change, Spent};
use crate::telemetry::AlarmKind;

/// Largest body we send: a little under the Market's 512 KB, whichever kilobyte it means.
const MAX_BODY_BYTES: usize = 500_000;

/// A scan in spite of nudges, in case one was lost.
const SCAN_EVERY: Duration = Duration::from_mins(5);

/// SKUs are waiting and nothing was acknowledged for so long: somebody should look.
const SILENCE: TimeDelta = TimeDelta::minutes(15);

/// So many SKUs refused one by one, and no batch taken in between: the batches are wrong, not
/// the SKUs.
const SUSPECTS_UNTIL_SYSTEMIC: usize = 8;

/// How long batches stay small after one was too large.
const SHRUNK_FOR: Duration = Duration::from_hours(24);

/// One campaign's sender.
pub(super) struct Lane {
    target: Target,
    context: Context,
    desk: Arc<Desk>,
    backlog: Backlog,
    // SKUs in a request under way: never in two at a time.
    flying: HashSet<Sku>,
    groups: VecDeque<Group>,
    suspects: Vec<Suspect>,
    // A batch of others was sent since the last suspect, to learn whether all are refused.
    evidence_sought: bool,
    quarantine: Quarantine,
    pace: Pace,
    standing: Standing,
    dice: StdRng,
    scan_at: Instant,
    max_skus: usize,
    grow_at: Option<Instant>,
    // How far the Market's clock is behind ours.
    behind: TimeDelta,
    accepted_at: Option<Instant>,
    waiting_since: Option<DateTime<Utc>>,
    report: Report,
}

/// SKUs that go out together and alone: part of a batch that was refused.
struct Group {
    skus: Vec<(Sku, Age)>,
    // When the batch they were in was first refused.
    refused_at: Instant,
}

/// A SKU refused by itself, of which it is not yet known whether it is to blame.
struct Suspect {
    sku: Sku,
    level: Level,
    reason: String,
}

/// One SKU of a batch: what went out, and where it came from.
#[derive(Clone)]
struct Item {
    sku: Sku,
    id: SkuId,
    level: Level,
    age: Age,
}

struct Batch {
    items: Vec<Item>,
    // When the batch these were in was first refused, if they are such a part.
    refused_at: Option<Instant>,
    key: usize,
}

struct Landed {
    batch: Batch,
    verdict: Verdict,
    rate: RateHeaders,
    date: Option<DateTime<Utc>>,
    trace: Option<String>,
    at: Instant,
}

/// The client gives a request up after this long at the latest.
const CLIENT_TIMEOUT: TimeDelta = TimeDelta::seconds(60);

type Flight = BoxFuture<'static, Landed>;

impl Lane {
    pub(super) fn new(
        target: Target,
        context: Context,
        desk: Arc<Desk>,
        memory: Memory,
        dice: StdRng,
    ) -> Self {
        let Memory { quarantined, spent } = memory;
        let mut pace = Pace::new(scale(SKUS_PER_MINUTE, target.limit_share));
        recall(&mut pace, &spent, context.clock.now());
        Self {
            standing: Standing::new(target.parallel, target.keys.len()),
            backlog: Backlog::default(),
            flying: HashSet::new(),
            groups: VecDeque::new(),
            suspects: Vec::new(),
            evidence_sought: false,
            quarantine: Quarantine::new(quarantined),
            pace,
            dice,
            scan_at: Instant::now(),
            max_skus: MAX_SKUS_PER_UPDATE,
            grow_at: None,
            behind: TimeDelta::zero(),
            accepted_at: None,
            waiting_since: None,
            report: Report::default(),
            target,
            context,
            desk,
        }
    }

    /// Sends until told to stop, then waits for what is under way.
    pub(super) async fn run(mut self, tasks: Tasks) {
        self.note_quarantine();
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        loop {
            let is_stopping = tasks.is_stopping();
            if is_stopping && flights.is_empty() {
                return;
            }
            if !is_stopping {
                self.find_work().await;
                self.launch(&mut flights).await;
            }
            self.publish(flights.len());
            let wake = self.wake_at(flights.len());
            tokio::select! {
                Some(landed) = flights.next() => self.land(landed).await,
                () = tasks.stopping(), if !is_stopping => {}
                () = self.desk.nudged(), if !is_stopping => {}
                () = sleep_until(wake), if !is_stopping => {}
            }
        }
    }

    // === Finding what to send ===

    async fn find_work(&mut self) {
        let hints = self.desk.take_hints();
        let now = self.context.clock.now();
        for sku in &hints.skus {
            self.enlist(sku, now.timestamp_micros());
        }
        let is_due = self.scan_at <= Instant::now();
        let has_run_out = self.backlog.is_empty() && self.backlog.has_more();
        if hints.is_incomplete || is_due || has_run_out {
            self.scan().await;
        }
        for row in self.quarantine.list() {
            self.enlist(&row.sku, now.timestamp_micros());
        }
    }

    /// Puts a SKU where it belongs, if the Market lacks it.
    fn enlist(&mut self, sku: &Sku, age: Age) {
        if self.flying.contains(sku) {
            return; // Looked at again when it lands.
        }
        let Some(entry) = self.context.book.get(self.target.shop, sku.as_str()) else { return };
        let acked = self.context.ledger.get(self.target.shop, entry.id());
        if !is_dirty(entry.level(), acked) {
            self.backlog.discard(sku);
            return;
        }
        if self.quarantine.has(sku) {
            self.retry_quarantined(sku, entry.level(), age);
        } else if !self.is_grouped(sku) {
            let urgency = Urgency::of(entry.level(), acked.level());
            self.backlog.insert(sku, urgency, age);
        }
    }

    /// A SKU that was refused by itself goes out by itself.
    fn retry_quarantined(&mut self, sku: &Sku, level: Level, age: Age) {
        let is_due = self.quarantine.is_due(sku, level, self.context.clock.now());
        if is_due && !self.is_grouped(sku) {
            self.groups
                .push_back(Group { skus: vec![(sku.clone(), age)], refused_at: Instant::now() });
        }
    }

    fn is_grouped(&self, sku: &Sku) -> bool {
        let in_group = |group: &Group| group.skus.iter().any(|(member, _)| member == sku);
        self.groups.iter().any(in_group) || self.suspects.iter().any(|s| s.sku == *sku)
    }

    /// Compares the whole shop. On a thread of its own: a million SKUs take some 50 ms.
    async fn scan(&mut self) {
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.begin_scan();
        let (book, ledger) = (Arc::clone(&self.context.book), Arc::clone(&self.context.ledger));
        let shop = self.target.shop;
        let mut skip = self.flying.clone();
        skip.extend(
            self.groups.iter().flat_map(|group| group.skus.iter().map(|(sku, _)| sku.clone())),
        );
        skip.extend(self.suspects.iter().map(|suspect| suspect.sku.clone()));
        skip.extend(self.quarantine.list().into_iter().map(|row| row.sku));
        let compare = move |column: &Column<Acked>| {
            book.for_each(shop, |sku, entry| {
                let acked = column.get(entry.id());
                if is_dirty(entry.level(), acked) && !skip.contains(sku) {
                    let urgency = Urgency::of(entry.level(), acked.level());
                    let age = acked.acked_at().map_or(0, |at| at.timestamp_micros());
                    backlog.offer(sku, urgency, age);
                }
            });
            backlog
        };
        self.backlog = run_blocking(move || ledger.read(shop, compare)).await;
        self.scan_at = Instant::now() + SCAN_EVERY;
    }

    // === Sending ===

    async fn launch(&mut self, flights: &mut FuturesUnordered<Flight>) {
        let now = Instant::now();
        if self.grow_at.is_some_and(|at| at <= now) {
            (self.max_skus, self.grow_at) = (MAX_SKUS_PER_UPDATE, None);
        }
        while flights.len() < self.standing.parallel(now) {
            let Some((batch, body)) = self.next_batch(now) else { break };
            flights.push(self.fly(batch, body));
        }
        if flights.is_empty() && self.groups.is_empty() && self.backlog.is_empty() {
            // Nobody is left to ask whether it is them or the batches: it is them.
            self.condemn_suspects().await;
        }
    }

    fn next_batch(&mut self, now: Instant) -> Option<(Batch, Vec<u8>)> {
        loop {
            let wants_evidence =
                !self.suspects.is_empty() && !self.evidence_sought && !self.backlog.is_empty();
            let (candidates, refused_at) = if self.groups.is_empty() || wants_evidence {
                let wanted = self.backlog.len().min(self.max_skus);
                if wanted == 0 || !self.has_room(wanted, now) {
                    return None;
                }
                self.evidence_sought = true;
                (self.backlog.take(wanted), None)
            } else {
                let size = self.groups.front().map_or(0, |group| group.skus.len());
                if !self.has_room(size, now) {
                    return None;
                }
                let group = self.groups.pop_front()?;
                (group.skus, Some(group.refused_at))
            };
            if let Some(ready) = self.build(candidates, refused_at) {
                return Some(ready);
            }
        }
    }

    fn has_room(&mut self, skus: usize, now: Instant) -> bool {
        self.pace.room(now) >= as_u32(skus).min(self.pace.limit())
    }

    /// Makes a body of those candidates the Market still lacks, from what the book says now.
    fn build(
        &mut self,
        candidates: Vec<(Sku, Age)>,
        refused_at: Option<Instant>,
    ) -> Option<(Batch, Vec<u8>)> {
        let Context { book, ledger, clock, .. } = &self.context;
        let shop = self.target.shop;
        let latest = clock.now() - self.behind;
        let mut body = UpdateBody::new(MAX_BODY_BYTES);
        let mut items = Vec::with_capacity(candidates.len());
        let mut candidates = candidates.into_iter();
        let mut left_over = Vec::new();
        for (sku, age) in candidates.by_ref() {
            let Some(entry) = book.get(shop, sku.as_str()) else { continue };
            let level = entry.level();
            if !is_dirty(level, ledger.get(shop, entry.id())) {
                continue;
            }
            let sent = Level { updated_at: held_in_window(level.updated_at, latest), ..level };
            if !body.push(&sku, sent) {
                left_over.push((sku, age));
                break;
            }
            items.push(Item { sku, id: entry.id(), level, age });
        }
        left_over.extend(candidates);
        if !left_over.is_empty() {
            self.put_back(left_over, refused_at);
        }
        if items.is_empty() {
            return None;
        }
        self.flying.extend(items.iter().map(|item| item.sku.clone()));
        self.pace.start(as_u32(items.len()));
        Some((Batch { items, refused_at, key: self.standing.key() }, body.finish()))
    }

    fn put_back(&mut self, skus: Vec<(Sku, Age)>, refused_at: Option<Instant>) {
        if let Some(refused_at) = refused_at {
            self.groups.push_front(Group { skus, refused_at });
        } else {
            for (sku, age) in skus {
                self.enlist(&sku, age);
            }
        }
    }

    fn fly(&self, batch: Batch, body: Vec<u8>) -> Flight {
        let Context { market, store, clock, ledger, .. } = self.context.clone();
        let (shop, campaign) = (self.target.shop, self.target.campaign);
        let key = self.target.keys[batch.key].clone();
        Box::pin(async move {
            // Noted before it goes out: after a crash the minute's limit must still hold, and
            // what was under way is on nobody else's record.
            let spent = Spent { at: clock.now(), skus: as_u32(batch.items.len()) };
            if let Err(error) = store.note_spent(shop, spent).await {
                debug!(error = %error, "could not note what is being sent");
            }
            let reply = market.update_stocks(campaign, &key, body, clock.now()).await;
            let at = Instant::now();
            let verdict = judge(&reply);
            if verdict == Verdict::Accept {
                let now = clock.now();
                let rows: Vec<(Sku, Acked)> = batch
                    .items
                    .iter()
                    .map(|item| (item.sku.clone(), Acked::new(item.level, now)))
                    .collect();
                // A crash before this line re-sends one batch; a store that cannot write costs
                // a re-send after the next start.
                let stored = store.append(&[Change::Acked { shop, rows: &rows }]).await;
                if let Err(error) = &stored {
                    warn!(error = %error, "the Market's acknowledgement is not on disk");
                }
                let ids = batch.items.iter().map(|item| item.id);
                ledger.record(shop, ids.zip(rows.iter().map(|(_, acked)| *acked)));
            }
            let (rate, date, trace) = match reply {
                Reply::Answer(answer) => (answer.rate, answer.date, answer.trace),
                Reply::Failure(_) => (RateHeaders::default(), None, None),
            };
            Landed { batch, verdict, rate, date, trace, at }
        })
    }

    // === Judging ===

    async fn land(&mut self, landed: Landed) {
        let Landed { batch, verdict, rate, date, trace, at } = landed;
        for item in &batch.items {
            self.flying.remove(&item.sku);
        }
        self.pace.end(as_u32(batch.items.len()), at);
        self.pace.heed(&rate, self.target.limit_share, at);
        self.note_clock(date);
        self.context.metrics.note(&self.target.name, &verdict, batch.items.len());
        self.report.requests += 1;
        if verdict != Verdict::Accept {
            self.log_trouble(&batch, &verdict, trace.as_deref());
        }
        match verdict {
            Verdict::Accept => self.accepted(batch, at).await,
            Verdict::Refuse { errors } => self.refused(batch, &errors, at).await,
            Verdict::Shrink => {
                self.standing.heard();
                self.max_skus = (batch.items.len() / 2).max(1);
                self.grow_at = Some(at + SHRUNK_FOR);
                self.halve(batch, at);
            }
            Verdict::Thin => {
                self.standing.thinned(at, &mut self.dice);
                self.return_batch(batch);
            }
            Verdict::Limit { wait } => {
                self.standing.limited(at, wait);
                self.return_batch(batch);
            }
            Verdict::Retry { reason } => {
                self.standing.failed(at, &reason, &mut self.dice);
                self.return_batch(batch);
            }
            Verdict::Deny { reason } => {
                if !self.standing.denied(at, batch.key, &reason) {
                    self.alarm_pause(&reason);
                }
                self.return_batch(batch);
            }
            Verdict::Close { reason } => {
                self.standing.closed(at, &reason);
                self.alarm_pause(&reason);
                self.return_batch(batch);
            }
        }
    }

    async fn accepted(&mut self, batch: Batch, at: Instant) {
        let (shop, now) = (self.target.shop, self.context.clock.now());
        self.accepted_at = Some(at);
        self.report.acknowledged += batch.items.len() as u64;
        self.report.last_acknowledged = Some(now);
        if self.standing.accepted() {
            info!(shop = self.target.name, "the Market takes stock again");
        }
        for alarm in
            [AlarmKind::BatchRefused, AlarmKind::CampaignPaused, AlarmKind::NothingAcknowledged]
        {
            self.context.alarms.clear(alarm, &self.target.name);
        }
        // A batch went through: those refused by themselves are to blame themselves.
        self.condemn_suspects().await;
        for item in batch.items {
            if self.quarantine.release(&item.sku) {
                self.persist(&[Change::Released { shop, sku: &item.sku }]).await;
                self.note_quarantine();
            }
            // Changed while it was under way? Then it goes again.
            self.enlist(&item.sku, now.timestamp_micros());
        }
    }

    /// Something in the batch is wrong. What the Market names is set apart; if it names
    /// nothing, halves will tell.
    async fn refused(&mut self, batch: Batch, errors: &[ApiError], at: Instant) {
        self.standing.heard();
        let refused_at = batch.refused_at.unwrap_or(at);
        if let [item] = batch.items.as_slice() {
            let words: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            let reason = words.join("; ").chars().take(500).collect();
            let suspect = Suspect { sku: item.sku.clone(), level: item.level, reason };
            self.suspect(suspect, refused_at, at).await;
            return;
        }
        let named: HashSet<Sku> =
            named(errors, batch.items.iter().map(|item| &item.sku)).into_iter().collect();
        if named.is_empty() {
            self.halve(batch, at);
            return;
        }
        let (apart, others): (Vec<_>, Vec<_>) = batch
            .items
            .into_iter()
            .map(|item| (item.sku, item.age))
            .partition(|(sku, _)| named.contains(sku));
        for skus in apart.into_iter().map(|one| vec![one]).rev() {
            self.groups.push_front(Group { skus, refused_at });
        }
        if !others.is_empty() {
            self.groups.push_front(Group { skus: others, refused_at });
        }
    }

    fn halve(&mut self, batch: Batch, at: Instant) {
        let refused_at = batch.refused_at.unwrap_or(at);
        let mut first: Vec<_> = batch.items.into_iter().map(|item| (item.sku, item.age)).collect();
        let second = first.split_off(first.len() / 2);
        for skus in [second, first] {
            if !skus.is_empty() {
                self.groups.push_front(Group { skus, refused_at });
            }
        }
    }

    /// One SKU was refused by itself. Is it the SKU, or is everything refused?
    async fn suspect(&mut self, suspect: Suspect, refused_at: Instant, at: Instant) {
        self.suspects.push(suspect);
        self.evidence_sought = false;
        if self.accepted_at.is_some_and(|accepted| accepted >= refused_at) {
            self.condemn_suspects().await;
        } else if self.suspects.len() >= SUSPECTS_UNTIL_SYSTEMIC {
            self.acquit_suspects(at);
        }
    }

    /// Batch after batch is refused: nothing is set aside, everything waits, others go first.
    fn acquit_suspects(&mut self, at: Instant) {
        let reason = self.suspects.last().map(|s| s.reason.clone()).unwrap_or_default();
        let now = self.context.clock.now().timestamp_micros();
        let suspects = std::mem::take(&mut self.suspects).into_iter().map(|s| s.sku);
        let groups = std::mem::take(&mut self.groups);
        let grouped = groups.into_iter().flat_map(|group| group.skus).map(|(sku, _)| sku);
        for sku in suspects.chain(grouped).collect::<Vec<_>>() {
            self.enlist(&sku, now);
        }
        self.standing.batches_refused(at, &reason);
        let text = format!(
            "the Market refuses every batch of {}, not single SKUs: {reason}",
            self.target.name
        );
        self.context.alarms.raise(AlarmKind::BatchRefused, &self.target.name, text);
    }

    async fn condemn_suspects(&mut self) {
        if self.suspects.is_empty() {
            return;
        }
        let (shop, now) = (self.target.shop, self.context.clock.now());
        for Suspect { sku, level, reason } in std::mem::take(&mut self.suspects) {
            warn!(
                shop = self.target.name,
                sku = sku.as_str(),
                "the Market refuses this SKU, it is set aside: {reason}"
            );
            let row = self.quarantine.add(&sku, level, reason, now).clone();
            self.persist(&[Change::Quarantined { shop, row: &row }]).await;
            // Perhaps the shop has changed its count meanwhile.
            self.enlist(&sku, now.timestamp_micros());
        }
        self.note_quarantine();
    }

    async fn persist(&self, changes: &[Change<'_>]) {
        if let Err(error) = self.context.store.append(changes).await {
            warn!(error = %error, "a change of the quarantine is not on disk");
        }
    }

    fn return_batch(&mut self, batch: Batch) {
        let skus = batch.items.into_iter().map(|item| (item.sku, item.age)).collect();
        self.put_back(skus, batch.refused_at);
    }

    // === What others get to see ===

    /// When to look again if nothing happens before.
    fn wake_at(&self, flights: usize) -> Instant {
        let now = Instant::now();
        let tick = (now + Duration::from_mins(1)).min(self.scan_at.max(now));
        let queued = self.groups.front().map_or(self.backlog.len(), |group| group.skus.len());
        if queued == 0 || flights >= self.target.parallel {
            return tick;
        }
        let wanted = as_u32(queued.min(self.max_skus));
        match (self.standing.held_until(), self.pace.next_room(wanted, now)) {
            (Some(held), Some(room)) => held.max(room).min(tick),
            (Some(held), None) => held.min(tick),
            // Room now, and yet nothing was launched: something in flight has to end first.
            (None, Some(room)) if room > now => room.min(tick),
            (None, Some(_) | None) => tick,
        }
    }

    fn publish(&mut self, flights: usize) {
        let now = self.context.clock.now();
        let grouped: usize = self.groups.iter().map(|group| group.skus.len()).sum();
        let waiting = self.backlog.len() + grouped + self.flying.len();
        self.watch_silence(waiting, now);
        let (state, reason) = self.standing.state();
        self.report.state = match (state, waiting, flights) {
            (State::Paused, _, _) => "paused",
            (State::Waiting, _, _) => "waiting",
            (State::Open, 0, 0) => "idle",
            (State::Open, _, _) => "sending",
        };
        self.report.reason = (!reason.is_empty()).then(|| reason.to_owned());
        self.report.in_flight_requests = flights;
        self.report.in_flight_skus = self.flying.len();
        self.report.waiting_skus = waiting - self.flying.len();
        self.desk.publish(&self.report);
    }

    fn watch_silence(&mut self, waiting: usize, now: DateTime<Utc>) {
        if waiting == 0 {
            self.waiting_since = None;
            self.context.alarms.clear(AlarmKind::NothingAcknowledged, &self.target.name);
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let since = self.report.last_acknowledged.map_or(since, |at| at.max(since));
        if now - since >= SILENCE {
            let text = format!(
                "{waiting} SKUs of {} wait, and the Market has acknowledged nothing since {since}",
                self.target.name
            );
            self.context.alarms.raise(AlarmKind::NothingAcknowledged, &self.target.name, text);
        }
    }

    fn note_quarantine(&mut self) {
        let rows = self.quarantine.list();
        self.report.quarantined = rows.iter().map(Aside::from).collect();
        let name = &self.target.name;
        let Some(first) = self.report.quarantined.first() else {
            self.context.alarms.clear(AlarmKind::Quarantine, name);
            return;
        };
        let text = format!(
            "{} SKUs of {name} are refused by the Market and set aside, the first is '{}': {}",
            self.report.quarantined.len(),
            first.sku,
            first.reason
        );
        self.context.alarms.raise(AlarmKind::Quarantine, name, text);
    }

    fn alarm_pause(&self, reason: &str) {
        let text = format!(
            "nothing is sent to campaign {} of {} until this is mended: {reason}",
            self.target.campaign, self.target.name
        );
        self.context.alarms.raise(AlarmKind::CampaignPaused, &self.target.name, text);
    }

    fn log_trouble(&self, batch: &Batch, verdict: &Verdict, trace: Option<&str>) {
        warn!(
            shop = self.target.name,
            campaign.id = self.target.campaign,
            batch.skus = batch.items.len(),
            trace,
            "the Market did not take a batch: {verdict}"
        );
    }

    /// Keeps how far apart the two clocks are, if by more than an answer's way explains.
    fn note_clock(&mut self, date: Option<DateTime<Utc>>) {
        let Some(date) = date else { return };
        let apart = self.context.clock.now() - date;
        // The header has whole seconds, and the answer was on its way for a while.
        let is_far = apart.abs() > TimeDelta::seconds(2);
        let behind = if is_far { apart } else { TimeDelta::zero() };
        let hour = TimeDelta::hours(1);
        self.behind = behind.clamp(-hour, hour);
    }
}

fn recall(pace: &mut Pace, spent: &[Spent], now: DateTime<Utc>) {
    for Spent { at, skus } in spent {
        // It was answered, or given up, at some time between then and now, and not after the
        // client's own time-out: the latest counts.
        let ended: DateTime<Utc> = (*at + CLIENT_TIMEOUT).min(now);
        let ago = (now - ended).to_std().unwrap_or_default();
        if let Some(ended) = Instant::now().checked_sub(ago) {
            pace.recall(*skus, ended);
        }
    }
}

fn as_u32(skus: usize) -> u32 {
    u32::try_from(skus).unwrap_or(u32::MAX)
}

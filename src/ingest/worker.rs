//! Single writer task: compares updates with the book, persists changes, and updates the book.
//!
//! Decides which level an update without a date or against a wrong date gets, and when a failed
//! store is tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use lifecycle::Tasks;
use stock::{ApplyOutcome, BookEntry, ShopId, Sku, StockBook, Timestamp, Update};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{self, MissedTickBehavior, interval};
use tracing::warn;

use super::clock_watch::{ClockWatch, describe_jump, describe_wrong_date};
use super::resolved_updates::{
    ComparedRequests, PendingLevels, ResolvedUpdates, changes_of, level_of, refuse_interrupted,
    shops_of,
};
use super::{
    Accepted, Ingest, IngestError, IngestRequest, Metrics, OnStated, Origin, RepeatPolicy,
    StatedSkus,
};
use crate::store::{AppendGuard, AppendedChanges, Store, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// Capacity of the worker's queue, in calls; a further caller waits for a free place. A call has
/// at most the SKUs of one request, so a full queue takes about 10 MB.
const QUEUE_CAPACITY: usize = 64;

/// Maximum calls that share one commit.
const MAX_REQUESTS_PER_COMMIT: usize = 32;

/// Attempts after which the calls are compared under the lock of their shops, because other processes
/// were faster each time.
const MAX_BEHIND: usize = 3;

/// Updates that are compared or applied before other tasks of the thread may run: about 0.1 ms, so
/// that a response to the Market does not wait for a large update.
const SLICE_LENGTH: usize = 500;

/// Time between two checks of the store, and so between two attempts to recover a failed one.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time after which the alarm about a wrong clock clears unless it is raised again.
const CLOCK_ALARM_DURATION: TimeDelta = TimeDelta::hours(24);

/// Maximum SKUs whose true date is kept because the stored date comes from a wrong clock.
const MAX_TRUE_DATES: usize = 200_000;

/// Single writer task.
pub struct IngestWorker {
    requests: mpsc::Receiver<IngestRequest>,
    book: Arc<StockBook>,
    store: Arc<Store>,
    clock: Clock,
    alarms: Alarms,
    metrics: Metrics,
    on_stated: OnStated,
    is_store_down: bool,
    clock_watch: ClockWatch,
    // True dates of updates that replaced stock with a date from a wrong clock. The stored date of
    // such an update is later than its true one, because stored dates must rise.
    true_dates: HashMap<(ShopId, Sku), Timestamp>,
}

/// Creates the handle and its worker; the caller runs the worker.
#[must_use]
pub fn create(
    book: Arc<StockBook>,
    store: Arc<Store>,
    clock: Clock,
    alarms: Alarms,
    metrics: Metrics,
    on_stated: OnStated,
) -> (Ingest, IngestWorker) {
    let (queue, requests) = mpsc::channel(QUEUE_CAPACITY);
    let worker = IngestWorker {
        requests,
        book,
        store,
        clock,
        alarms,
        metrics,
        on_stated,
        is_store_down: false,
        clock_watch: ClockWatch::default(),
        true_dates: HashMap::new(),
    };
    (Ingest { queue, clock }, worker)
}

impl IngestWorker {
    /// Runs until the stop is requested, then applies the calls that are queued.
    pub async fn run(mut self, tasks: Tasks) {
        self.alarm_stored_wrong_dates();
        let mut batch = Vec::with_capacity(MAX_REQUESTS_PER_COMMIT);
        let mut checks = interval(STORE_CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The check comes first: a constant flow of calls must not delay the recovery of
                // the store.
                biased;
                _ = checks.tick() => {
                    self.check_clock();
                    self.try_recover_store().await;
                }
                count = self.requests.recv_many(&mut batch, MAX_REQUESTS_PER_COMMIT) => {
                    if count == 0 {
                        // All handles were dropped, or the queue was closed below.
                        return tasks.stopping().await;
                    }
                    self.process(std::mem::take(&mut batch), &tasks).await;
                }
                () = tasks.stopping(), if !self.requests.is_closed() => self.requests.close(),
            }
        }
    }

    async fn process(&mut self, mut requests: Vec<IngestRequest>, tasks: &Tasks) {
        // The guard is held until the book has the changes. Otherwise a compaction could write a
        // snapshot of the book without them and drop them from the log.
        let store = Arc::clone(&self.store);
        let mut behind = 0;
        let stored = loop {
            let now = self.clock.now();
            let stored = if behind < MAX_BEHIND {
                self.persist(&store, &mut requests, now).await
            } else {
                self.persist_locked(&store, &mut requests, now).await
            };
            match stored {
                // Another process was faster: the updates are compared with its stock.
                Err(StoreError::Behind) => behind += 1,
                stored => break stored.map(|(resolved, guard)| (now, resolved, guard)),
            }
        };
        let mut responses = Vec::with_capacity(requests.len());
        let mut appended = AppendedChanges::default();
        match stored {
            Ok((now, resolved, guard)) => {
                for (request, resolved) in requests.into_iter().zip(resolved) {
                    let accepted = self.apply(resolved, request.origin, now).await;
                    responses.push((request.response, Ok(accepted)));
                }
                appended = guard.appended();
            }
            Err(error) => {
                let error = IngestError::from(&error);
                let failed = |request: IngestRequest| (request.response, Err(error.clone()));
                responses.extend(requests.into_iter().map(failed));
            }
        }
        let respond = |replicated: Result<(), StoreError>| {
            let failure = replicated.err().map(|error| {
                warn!("failed to acknowledge an update: {error}");
                IngestError::Unconfirmed(error.to_string())
            });
            for (response, outcome) in responses {
                // The caller may have stopped waiting.
                let _caller_gone = response.send(failure.clone().map_or(outcome, Err));
            }
        };
        if appended.is_empty() {
            return respond(Ok(()));
        }
        // Not here, so that the next calls do not wait for the other replicas.
        let store = Arc::clone(&self.store);
        tasks.spawn_short_lived(async move {
            respond(store.replicated(&appended).await);
        });
    }

    /// Persists what the calls change, if the book has the stock with which they are compared.
    async fn persist<'a>(
        &mut self,
        store: &'a Store,
        requests: &mut Vec<IngestRequest>,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Vec<ResolvedUpdates>>, AppendGuard<'a>), StoreError> {
        let version = store.book_version();
        // After the version: newer updates that reach the book from here on are noticed by it.
        refuse_interrupted(requests);
        let resolved = self.resolve(requests, now).await;
        let changes = changes_of(&resolved);
        // Calls without a change need no commit: their levels are on disk already.
        let compared = (&*shops_of(requests), version);
        let stored = store.append_if_current(&changes, compared).await;
        self.note_stored(stored.as_ref().err(), !changes.is_empty());
        Ok((resolved, stored?))
    }

    /// Persists what the calls change, while no other process can change the stock of the shops.
    async fn persist_locked<'a>(
        &mut self,
        store: &'a Store,
        requests: &mut Vec<IngestRequest>,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Vec<ResolvedUpdates>>, AppendGuard<'a>), StoreError> {
        let shops = shops_of(requests);
        let mut compared = ComparedRequests {
            worker: self,
            requests,
            now,
            resolved: Vec::new(),
        };
        let stored = store.append_compared(&shops, &mut compared).await;
        let resolved = compared.resolved;
        self.note_stored(stored.as_ref().err(), !changes_of(&resolved).is_empty());
        Ok((resolved, stored?))
    }

    /// Updates the alarm. Without a commit, success does not show that the store works again.
    fn note_stored(&mut self, error: Option<&StoreError>, is_committed: bool) {
        match error {
            Some(StoreError::Behind) => {}
            None if !is_committed => {}
            error => self.update_store_alarm(error),
        }
    }

    /// Converts the statements of each call to the levels to write, per shop, in order of arrival.
    pub(super) async fn resolve(
        &mut self,
        requests: &[IngestRequest],
        now: DateTime<Utc>,
    ) -> Vec<Vec<ResolvedUpdates>> {
        let mut pending = PendingLevels::default();
        let mut resolved_requests = Vec::with_capacity(requests.len());
        let mut until_pause = SLICE_LENGTH;
        for request in requests {
            let mut resolved_shops = Vec::with_capacity(request.statements.len());
            for (shop, updates) in &request.statements {
                let mut resolved = ResolvedUpdates {
                    shop: *shop,
                    rows: Vec::with_capacity(updates.len()),
                    repeated: Vec::new(),
                    accepted: Accepted::default(),
                };
                for slice in updates.chunks(SLICE_LENGTH) {
                    pause_after(slice.len(), &mut until_pause).await;
                    self.resolve_slice(&mut resolved, slice, (request, now), &mut pending);
                }
                resolved_shops.push(resolved);
            }
            resolved_requests.push(resolved_shops);
        }
        resolved_requests
    }

    fn resolve_slice<'a>(
        &mut self,
        resolved: &mut ResolvedUpdates,
        updates: &'a [Update],
        (request, now): (&IngestRequest, DateTime<Utc>),
        pending: &mut PendingLevels<'a>,
    ) {
        let (shop, repeat_policy) = (resolved.shop, request.repeat_policy);
        let times = (request.arrived.into(), now.into());
        let skus = updates.iter().map(|update| update.sku.as_str());
        let entries = self.book.get_many(shop, skus);
        for (update, entry) in updates.iter().zip(entries) {
            let earlier = pending.get(&(shop, &update.sku)).copied();
            let known = earlier.or_else(|| entry.map(BookEntry::level));
            let mut level = level_of(update, known, times);
            if let (Some(known), Some(date)) = (known, update.updated_at)
                && self.clock_watch.is_wrong_date(known.updated_at, now)
                && self.replaces_wrong_date((shop, &update.sku), date, now)
            {
                self.raise_wrong_dates(&update.sku, known.updated_at, now);
                // Later than the stored date, because the newest date wins in the store too.
                level.updated_at = known.updated_at.successor();
            }
            let keeps_date = repeat_policy != RepeatPolicy::UpdateTimestamp;
            if let Some(known) = known.filter(|known| {
                keeps_date && known.count == level.count && known.updated_at <= level.updated_at
            }) {
                level = known;
            }
            let mut applied = ApplyOutcome::classify(known, level);
            if repeat_policy == RepeatPolicy::KeepLevel
                && applied == ApplyOutcome::Replaced
                && known.is_some_and(|known| known.updated_at == level.updated_at)
            {
                applied = ApplyOutcome::Outdated;
            }
            resolved.accepted.count(applied);
            match applied {
                ApplyOutcome::Added | ApplyOutcome::Replaced => {
                    resolved.rows.push((update.sku.clone(), level));
                    pending.insert((shop, &update.sku), level);
                }
                ApplyOutcome::Repeated => resolved.repeated.push(update.sku.clone()),
                ApplyOutcome::Outdated => {}
            }
        }
    }

    /// Returns true if an update replaces stock whose stored date comes from a wrong clock.
    fn replaces_wrong_date(
        &mut self,
        (shop, sku): (ShopId, &Sku),
        date: Timestamp,
        now: DateTime<Utc>,
    ) -> bool {
        let key = (shop, sku.clone());
        let replaces = match self.true_dates.get(&key) {
            Some(known) => date >= *known,
            None => ClockWatch::replaces_wrong_date(date, now),
        };
        if replaces
            && (self.true_dates.len() < MAX_TRUE_DATES || self.true_dates.contains_key(&key))
        {
            self.true_dates.insert(key, date);
        }
        replaces
    }

    fn check_clock(&mut self) {
        let now = self.clock.now();
        let Some(jump) = self.clock_watch.observe(time::Instant::now(), now) else {
            return;
        };
        let text = describe_jump(jump, now);
        self.alarms
            .raise_for(AlarmKind::ClockJumped, "", text, CLOCK_ALARM_DURATION);
    }

    /// Raises the alarm if the store has dates from a clock that ran ahead.
    fn alarm_stored_wrong_dates(&self) {
        let now = self.clock.now();
        let mut latest: Option<(Sku, Timestamp)> = None;
        for shop in self.book.shops() {
            self.book.for_each(shop, |sku, entry| {
                let at = entry.level().updated_at;
                let is_latest = latest.as_ref().is_none_or(|(_, latest)| at > *latest);
                if is_latest && self.clock_watch.is_wrong_date(at, now) {
                    latest = Some((sku.clone(), at));
                }
            });
        }
        if let Some((sku, at)) = latest {
            self.raise_wrong_dates(&sku, at, now);
        }
    }

    fn raise_wrong_dates(&self, sku: &Sku, at: Timestamp, now: DateTime<Utc>) {
        let text = describe_wrong_date(sku, at, now);
        self.alarms
            .raise_for(AlarmKind::ClockJumped, "", text, CLOCK_ALARM_DURATION);
    }

    /// Writes the levels of one call to the book and runs the callback.
    async fn apply(
        &self,
        resolved: Vec<ResolvedUpdates>,
        origin: Origin,
        at: DateTime<Utc>,
    ) -> Accepted {
        let mut accepted = Accepted::default();
        let mut until_pause = SLICE_LENGTH;
        for ResolvedUpdates {
            shop,
            rows,
            repeated,
            accepted: shop_accepted,
        } in resolved
        {
            for slice in rows.chunks(SLICE_LENGTH) {
                pause_after(slice.len(), &mut until_pause).await;
                self.book.apply_all(shop, slice);
            }
            accepted.add(shop_accepted);
            let changed: Vec<Sku> = rows.into_iter().map(|(sku, _)| sku).collect();
            let slices = changed.len().max(repeated.len()).div_ceil(SLICE_LENGTH);
            // A call without effect is reported too.
            let slices = slices.max(1);
            for slice in 0..slices {
                let all_changed: &[Sku] = if slice + 1 == slices { &changed } else { &[] };
                let (changed, repeated) = (slice_of(&changed, slice), slice_of(&repeated, slice));
                pause_after(changed.len() + repeated.len(), &mut until_pause).await;
                (self.on_stated)(&StatedSkus {
                    shop,
                    origin,
                    at,
                    changed,
                    repeated,
                    all_changed,
                });
            }
        }
        self.metrics.count(accepted);
        accepted
    }

    /// Recovers a failed store, and checks by a test write if a full disk has free space again.
    ///
    /// The failure may have occurred in another caller of the store.
    async fn try_recover_store(&mut self) {
        if !self.is_store_down && !self.store.is_failed() {
            return;
        }
        let recovered = match self.store.reopen_and_verify().await {
            Ok(_) => self.store.test_write().await,
            Err(error) => Err(error),
        };
        self.update_store_alarm(recovered.as_ref().err());
    }

    fn update_store_alarm(&mut self, error: Option<&StoreError>) {
        self.is_store_down = error.is_some();
        match error {
            None => self.alarms.clear(AlarmKind::StoreFailed, ""),
            Some(error) => self.alarms.raise(
                AlarmKind::StoreFailed,
                "",
                format!("updates are rejected because the store cannot write: {error}"),
            ),
        }
    }
}

/// Lets other tasks of the thread run, if the next `updates` would make the slice too long.
async fn pause_after(updates: usize, until_pause: &mut usize) {
    if let Some(rest) = until_pause.checked_sub(updates) {
        *until_pause = rest;
    } else {
        yield_now().await;
        *until_pause = SLICE_LENGTH.saturating_sub(updates);
    }
}

/// Returns the slice with this number, empty after the last one.
fn slice_of(skus: &[Sku], number: usize) -> &[Sku] {
    skus.chunks(SLICE_LENGTH).nth(number).unwrap_or_default()
}

//! Worker of one shop: sends the batches of the planner and the queries of the read-back driver,
//! and passes the responses back to them.
//!
//! All effects are here: requests, store writes, the wall clock and the wake-up timer. Decisions
//! are in [`Planner`] and [`ReadbackDriver`].

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lifecycle::{Clock, Tasks, run_blocking};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::leading::{self, LeadStep, Leading, SendObstacle};
use super::planner::{CompletedBatch, DurableChange, Now, Planner, UpdateBatch};
use super::rate_limit::SharedRateLimiter;
use super::readback::{self, ReadbackDriver, ReadbackStep};
use super::rejected_keys::RejectedKeys;
use super::restored_state::{LAST_EQUAL_NOTE, LIMITED_UNTIL_NOTE, RestoredState};
use super::selftest::SelftestRunner;
use super::sending_events::{SendingEvents, readback_finished};
use super::status::WorkerHandle;
use super::{Context, MarketTarget, Mode};
use crate::event_log::ServiceEvent;
use crate::replicas::LeadRight;
use crate::store::{RecentSend, StoreChange, StoreError};
use crate::telemetry::AlarmKind;

/// Delay before a read-back is tried again when the planner has no capacity for it.
const READBACK_RETRY_DELAY: Duration = Duration::from_millis(250);

/// Time between two checks if another replica still leads; a change of the lease is noticed at once.
pub(super) const LEAD_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest sleep while no read-back is scheduled.
const IDLE_WAIT: Duration = Duration::from_mins(1);

/// Task that sends and reads back the stock of one shop.
pub(super) struct SyncWorker {
    target: MarketTarget,
    context: Context,
    handle: Arc<WorkerHandle>,
    planner: Planner,
    readback: ReadbackDriver,
    events: SendingEvents,
    leading: Leading,
}

/// Completed request.
enum Completion {
    Batch(CompletedBatch),
    Readback(readback::CompletedReadback),
}

/// Receiver of the completion of a request, which runs in a task of its own.
///
/// The worker does not poll the request itself. While it awaits the store it would not poll the
/// request, which may hold the resource that the worker waits for.
type InFlight = oneshot::Receiver<Completion>;

impl SyncWorker {
    pub(super) fn new(
        target: MarketTarget,
        context: Context,
        (handle, selftests): (Arc<WorkerHandle>, SelftestRunner),
        restored: RestoredState,
        limiter: SharedRateLimiter,
        rejected_keys: RejectedKeys,
        rng: StdRng,
    ) -> Self {
        let leading = Leading::new(&target, &context, selftests, (limiter, rejected_keys));
        let (planner, readback) = leading.begin(&target, &context, restored, rng);
        Self {
            target,
            context,
            handle,
            planner,
            readback,
            events: SendingEvents::default(),
            leading,
        }
    }

    /// Runs until the tasks are stopping, then waits for the requests in flight.
    pub(super) async fn run(mut self, tasks: Tasks) {
        let mut in_flight: FuturesUnordered<InFlight> = FuturesUnordered::new();
        loop {
            let is_stopping = tasks.is_stopping();
            if is_stopping && in_flight.is_empty() {
                return;
            }
            let may_call = !is_stopping && self.take_lead(in_flight.is_empty()).await;
            let mut now = self.now();
            if may_call {
                if self.target.mode == Mode::On {
                    self.refill_queue().await;
                }
                now = self.now();
                // A batch in flight knows its key by its position among the old ones, so new keys
                // wait until none is.
                if in_flight.is_empty()
                    && let Some(keys) = self.handle.take_new_keys()
                {
                    self.target.keys.clone_from(&keys);
                    self.planner.replace_keys(keys);
                }
                if !self.handle.has_new_keys() {
                    self.start_requests(now, &in_flight, &tasks);
                }
                let changes = self.planner.take_changes();
                self.persist_changes(changes).await;
            }
            // Computed from the same `now` as the sending above, so that a pause that ends in
            // between is not missed.
            let readback_at = if self.readback.is_due(now) {
                // The planner has no capacity for it now.
                now.monotonic + READBACK_RETRY_DELAY
            } else {
                self.readback.wake_at().unwrap_or(now.monotonic + IDLE_WAIT)
            };
            let wake = if !may_call {
                now.monotonic + LEAD_CHECK_INTERVAL
            } else if self.handle.has_new_keys() {
                // The end of a request in flight wakes it.
                now.monotonic + IDLE_WAIT
            } else {
                self.planner.wake_at(now).min(readback_at)
            };
            let send_check_at = self.leading.send_check_at(now.monotonic);
            let wake = send_check_at.map_or(wake, |at| wake.min(at));
            if may_call || is_stopping {
                self.publish(now);
            } else {
                self.publish_other_leader();
            }
            tokio::select! {
                Some(completion) = in_flight.next() => {
                    self.on_completion(completion.expect("a request in flight does not panic")).await;
                }
                () = tasks.stopping(), if !is_stopping => {}
                () = self.handle.wake.notified(), if !is_stopping => {}
                () = self.leading.changed(), if !is_stopping => {}
                () = sleep_until(wake), if !is_stopping => {}
            }
        }
    }

    /// Returns true if this process may call the Market now. When it begins to lead, it first reads
    /// what the last leader has left; `is_idle` is true if no request is in flight.
    async fn take_lead(&mut self, is_idle: bool) -> bool {
        match self.leading.next_step(is_idle) {
            LeadStep::Lead => true,
            LeadStep::Wait => {
                self.leading.forget_failures();
                false
            }
            LeadStep::Begin(right) => {
                let lead = (&self.target, &right);
                let restored = match self.leading.restore(lead, &self.context).await {
                    Ok(restored) => restored,
                    Err(error) => {
                        if self.leading.begin_failed(error.to_string()) {
                            warn!("failed to begin to send for {}: {error}", self.target.name);
                        }
                        return false;
                    }
                };
                if self.leading.forget_failures() {
                    let paused = AlarmKind::CampaignPaused;
                    self.context.alarms.clear(paused, &self.target.name);
                }
                self.handle
                    .set_operator_pause(restored.operator_pause.clone());
                self.leading.resume_selftests(&restored);
                let rng = StdRng::seed_from_u64(rand::random());
                let begun = self
                    .leading
                    .begin(&self.target, &self.context, restored, rng);
                (self.planner, self.readback) = begun;
                self.leading.begun(right);
                true
            }
        }
    }

    /// Publishes that another replica sends, or that none may send. Its alarms are those of the leader.
    fn publish_other_leader(&self) {
        let pause = self.handle.operator_pause();
        let status = leading::waiting_status(self.leading.obstacle(), pause, self.target.mode);
        *self.handle.status.lock() = status;
        let (alarms, shop) = (&self.context.alarms, &self.target.name);
        for kind in Leading::ALARMS {
            match self.leading.begin_alarm() {
                Some(text) if *kind == AlarmKind::CampaignPaused => alarms.raise(*kind, shop, text),
                Some(_) | None => alarms.clear(*kind, shop),
            }
        }
    }

    /// Publishes the status and records its changes.
    fn publish(&mut self, now: Now) {
        let mut status = self.planner.update_status(now).clone();
        self.leading.show_wait(&mut status, now);
        let report = self.readback.report();
        let events = self.events.on_status(&status);
        *self.handle.status.lock() = status;
        self.handle.readback.lock().clone_from(report);
        for event in events.into_iter().chain(self.events.on_readback(report)) {
            self.record(event);
        }
    }

    fn record(&self, event: ServiceEvent) {
        let events = &self.context.events;
        events.record_for_shop(&self.target.name, "", event);
    }

    fn now(&self) -> Now {
        read_clocks(self.context.clock)
    }

    async fn refill_queue(&mut self) {
        let changed = std::mem::take(&mut *self.handle.changed.lock());
        self.planner.on_changed(&changed.skus, self.now());
        if changed.is_incomplete || self.planner.wants_rescan(self.now()) {
            let rescan = self.planner.begin_rescan(self.now());
            // On a blocking thread, so that the async threads stay free for requests.
            let result = run_blocking(move || rescan.run()).await;
            self.planner.end_rescan(result, self.now());
        }
    }

    /// Starts the read-back and the batches that may be sent now.
    fn start_requests(&mut self, now: Now, in_flight: &FuturesUnordered<InFlight>, tasks: &Tasks) {
        self.planner
            .set_operator_pause(self.handle.operator_pause());
        if self.handle.take_readback_request() {
            self.readback.request_pass(now);
        }
        // Read-backs first: they are rare, and batches would use all parallel requests.
        if self.readback.is_due(now) && self.planner.begin_readback(self.readback.gap(), now) {
            in_flight.push(self.send_readback(now, tasks));
        }
        if self.target.mode == Mode::On
            && let Some(right) = self.leading.right_to_send(now.monotonic)
        {
            while let Some((batch, body)) = self.planner.next_batch(now) {
                in_flight.push(self.send_batch(batch, body, right.clone(), tasks));
            }
        }
    }

    fn send_readback(&mut self, now: Now, tasks: &Tasks) -> InFlight {
        let query = self.readback.next_query(now);
        let (target, first_key) = (self.target.clone(), self.planner.key_index());
        let Context { market, clock, .. } = self.context.clone();
        spawn_request(tasks, async move {
            let (market, address, query) = (&market, &target.address, &query);
            // Only updates switch the policy's key, and perhaps none is sent, so other keys are
            // tried here.
            let call =
                |key| async move { market.readback(address, &key, query, clock.now()).await };
            let outcome = target.call_with_any_key(first_key, call).await;
            Completion::Readback(readback::CompletedReadback::new(query, &outcome))
        })
    }

    fn send_batch(
        &self,
        batch: UpdateBatch,
        body: Vec<u8>,
        right: LeadRight,
        tasks: &Tasks,
    ) -> InFlight {
        let Context {
            market,
            store,
            clock,
            data,
            ..
        } = self.context.clone();
        let (shop, address) = (self.target.shop, self.target.address.clone());
        let key = self.target.keys[batch.key_index()].clone();
        let handle = Arc::clone(&self.handle);
        spawn_request(tasks, async move {
            // Recorded before sending, so that the rate limit still holds after a crash with
            // requests in flight, and for the next leader.
            let skus = u32::try_from(batch.sku_count()).unwrap_or(u32::MAX);
            let at = clock.now();
            let send = RecentSend { at, skus };
            let permission = leading::permit_send(&store, shop, send, &right).await;
            if let Err(obstacle) = permission {
                if matches!(obstacle, SendObstacle::Paused) {
                    handle.pause_provisionally(clock.now());
                }
                let completed = CompletedBatch::not_sent(batch, obstacle, read_clocks(clock));
                return Completion::Batch(completed);
            }
            let sent_at = clock.now();
            let request = market.update_stocks(&address, &key, body, clock.now());
            let outcome = request.await;
            // Taken before the store write, which must not count as the Market's time.
            let completed = CompletedBatch::new(batch, outcome, read_clocks(clock));
            if let Some(batch) = completed.accepted() {
                let (ids, rows) = batch.to_acked(sent_at);
                // A crash before this line, or a failing store, only costs sending the batch
                // again after the next start. `stored` lives until the ledger has the rows: it
                // keeps a compaction from dropping them from the log.
                let change = StoreChange::Acked { shop, rows: &rows };
                let stored = store.append_fenced(&[change], right.fence()).await;
                if let Err(error) = &stored {
                    warn!(error = %error, "failed to persist an acknowledgement");
                }
                // The next leader sends these SKUs again, or they concern an old target, so they stay
                // dirty here too.
                let is_void = matches!(
                    stored,
                    Err(StoreError::NotLeader { .. } | StoreError::OtherTarget { .. })
                );
                if !is_void {
                    let acked = rows.iter().map(|(_, acked)| *acked);
                    data.ledger.record(shop, ids.into_iter().zip(acked));
                }
            }
            Completion::Batch(completed)
        })
    }

    async fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Batch(completed) => {
                let changes = self.planner.on_response(completed, self.now());
                if self.planner.take_unanswered() {
                    self.readback.bring_forward(self.now());
                }
                self.persist_changes(changes).await;
            }
            Completion::Readback(completed) => {
                let now = self.now();
                let max_clock_skew = self.planner.end_readback(&completed, now);
                let step = self.readback.on_response(completed, max_clock_skew, now);
                let lost = self.readback.take_lost();
                self.planner.on_changed(&lost, now);
                self.run_steps(step).await;
            }
        }
    }

    /// Runs the steps that read every SKU, on a blocking thread.
    async fn run_steps(&mut self, mut step: Option<ReadbackStep>) {
        while let Some(next) = step {
            step = match next {
                ReadbackStep::FindMissing(find_missing) => {
                    let missing_skus = run_blocking(move || find_missing.run()).await;
                    self.readback.query_missing(&missing_skus)
                }
                ReadbackStep::FinishPass(finish_pass) => {
                    let now = self.context.clock.now();
                    let quarantined = self.planner.quarantined_skus();
                    let result = run_blocking(move || finish_pass.run(&quarantined, now)).await;
                    self.finish_pass(result).await;
                    None
                }
            };
        }
        self.planner.update_readback_alarms(self.readback.report());
    }

    /// Applies and logs the result of a read-back pass.
    async fn finish_pass(&mut self, result: readback::PassResult) {
        let now = self.now();
        self.planner.on_changed(result.lost(), now);
        let is_equal = self.readback.end_pass(result, now);
        let report = self.readback.report();
        info!(
            shop = self.target.name,
            classes = ?report.classes,
            "read-back finished: {} unexplained, {} resent",
            report.unexplained_skus(),
            report.resent
        );
        self.record(readback_finished(report, is_equal));
        if is_equal && let Err(error) = self.persist_timestamp(LAST_EQUAL_NOTE, now.wall).await {
            warn!(error = %error, "failed to persist last_equal");
        }
    }

    /// Persists a time that is valid for the current target only.
    async fn persist_timestamp(&self, name: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        let MarketTarget { address, shop, .. } = &self.target;
        let Context { market, store, .. } = &self.context;
        let text = format!("{} {} {address}", at.to_rfc3339(), market.base());
        store.put_note(Some(*shop), name, Some(&text)).await
    }

    async fn persist_changes(&self, changes: Vec<DurableChange>) {
        let shop = self.target.shop;
        let mut store_changes: Vec<StoreChange<'_>> = Vec::new();
        for change in &changes {
            match change {
                DurableChange::Quarantined(entry) => {
                    store_changes.push(StoreChange::Quarantined { shop, row: entry });
                }
                DurableChange::Released(sku) => {
                    store_changes.push(StoreChange::Released { shop, sku });
                }
                DurableChange::LimitedUntil(at) => {
                    if let Err(error) = self.persist_timestamp(LIMITED_UNTIL_NOTE, *at).await {
                        warn!(error = %error, "failed to persist the rate-limit pause");
                    }
                }
            }
        }
        if store_changes.is_empty() {
            return;
        }
        let fence = self.leading.fence();
        let appending = self.context.store.append_fenced(&store_changes, fence);
        if let Err(error) = appending.await {
            warn!(error = %error, "failed to persist a change of the quarantine");
        }
    }
}

fn spawn_request(
    tasks: &Tasks,
    request: impl Future<Output = Completion> + Send + 'static,
) -> InFlight {
    let (sender, in_flight) = oneshot::channel();
    tasks.spawn_short_lived(async move {
        // Fails only if the worker has crashed: a stopping worker still waits for it.
        let _send_result = sender.send(request.await);
    });
    in_flight
}

pub(super) fn read_clocks(clock: Clock) -> Now {
    Now {
        monotonic: Instant::now(),
        wall: clock.now(),
    }
}

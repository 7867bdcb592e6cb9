//! The loop of one shop: it sends what the plan says and asks what the surveyor wants to know,
//! and tells them what came of it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::classify_response::{ResponseVerdict, classify_response};
use super::planner::{CompletedBatch, DurableChange, Now, Planner, PlannerDeps, UpdateBatch};
use super::rate_limit::SharedRateLimiter;
use super::readback::{self, ReadbackContext, ReadbackDriver, ReadbackStep};
use super::rejected_keys::RejectedKeys;
use super::status::WorkerHandle;
use super::{Context, LAST_EQUAL_NOTE, LIMITED_UNTIL_NOTE, MarketTarget, Mode, RestoredState};
use crate::lifecycle::{Tasks, run_blocking};
use crate::store::{RecentSend, StoreChange, StoreError};

/// How soon to try again when there is no place for a read-back.
const READBACK_RETRY_DELAY: Duration = Duration::from_millis(250);

/// For as long as nothing is to be read back.
const IDLE_WAIT: Duration = Duration::from_mins(1);

/// One shop's sender.
pub(super) struct SyncWorker {
    target: MarketTarget,
    context: Context,
    handle: Arc<WorkerHandle>,
    planner: Planner,
    readback: ReadbackDriver,
}

/// A request that ended.
enum Completion {
    Batch(CompletedBatch),
    Readback(readback::CompletedReadback),
}

/// A request under way, in a task of its own; this is where it will be heard of.
///
/// Not a future that the lane drives itself: while the lane awaits the store, nobody would
/// drive it, and it may hold what the lane waits for.
type InFlight = oneshot::Receiver<Completion>;

impl SyncWorker {
    pub(super) fn new(
        target: MarketTarget,
        context: Context,
        handle: Arc<WorkerHandle>,
        restored: RestoredState,
        (rng, limiter, rejected_keys): (StdRng, SharedRateLimiter, RejectedKeys),
    ) -> Self {
        let deps = PlannerDeps {
            book: Arc::clone(&context.book),
            ledger: Arc::clone(&context.ledger),
            alarms: context.alarms.clone(),
            metrics: context.metrics.clone(),
            limiter,
            rejected_keys,
            activity: Arc::clone(&context.activity),
            history: Arc::clone(&context.history),
        };
        let readback_context = ReadbackContext {
            shop: target.shop,
            address: target.address.clone(),
            warehouses: target.warehouses.clone(),
            mode: target.mode,
            pass_interval: context.readback_every,
            grace: context.grace,
            book: Arc::clone(&context.book),
            ledger: Arc::clone(&context.ledger),
            activity: Arc::clone(&context.activity),
            observations: Arc::clone(&context.observations),
            history: Arc::clone(&context.history),
        };
        let now = Now {
            monotonic: Instant::now(),
            wall: context.clock.now(),
        };
        let readback = ReadbackDriver::new(readback_context, restored.last_equal, now);
        let planner = Planner::new(target.clone(), deps, restored, now, rng);
        Self {
            target,
            context,
            handle,
            planner,
            readback,
        }
    }

    /// Sends until told to stop, then waits for what is under way.
    pub(super) async fn run(mut self, tasks: Tasks) {
        let mut in_flight: FuturesUnordered<InFlight> = FuturesUnordered::new();
        loop {
            let is_stopping = tasks.is_stopping();
            if is_stopping && in_flight.is_empty() {
                return;
            }
            let mut now = self.now();
            if !is_stopping {
                if self.target.mode == Mode::On {
                    self.refill_queue().await;
                }
                now = self.now();
                self.start_requests(now, &in_flight, &tasks);
                let changes = self.planner.take_changes();
                self.persist_changes(changes).await;
            }
            // By the time at which nothing more could be sent, or a pause that ended since
            // would be overlooked.
            let wake = self.planner.wake_at(now).min(self.next_readback_at(now));
            self.handle.publish_status(self.planner.update_status(now));
            self.handle.publish_readback(self.readback.report());
            tokio::select! {
                Some(completion) = in_flight.next() => {
                    self.on_completion(completion.expect("a request under way does not panic")).await;
                }
                () = tasks.stopping(), if !is_stopping => {}
                () = self.handle.woken(), if !is_stopping => {}
                () = sleep_until(wake), if !is_stopping => {}
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Instant::now(),
            wall: self.context.clock.now(),
        }
    }

    /// When the surveyor wants to be woken.
    fn next_readback_at(&self, now: Now) -> Instant {
        let soon = now.monotonic + READBACK_RETRY_DELAY;
        // Due, and yet not under way: the plan has no place for it now.
        if self.readback.is_due(now) {
            soon
        } else {
            self.readback.wake_at().unwrap_or(now.monotonic + IDLE_WAIT)
        }
    }

    async fn refill_queue(&mut self) {
        let changed = self.handle.take_changed();
        self.planner.on_changed(&changed.skus, self.now());
        if changed.is_incomplete || self.planner.wants_rescan(self.now()) {
            let rescan = self.planner.begin_rescan(self.now());
            // A thread of its own: the ones that answer the Market stay free.
            let result = run_blocking(move || rescan.run()).await;
            self.planner.end_rescan(result, self.now());
        }
    }

    /// Sends what may be sent now.
    fn start_requests(&mut self, now: Now, in_flight: &FuturesUnordered<InFlight>, tasks: &Tasks) {
        if self.handle.take_readback_request() {
            self.readback.request_pass(now);
        }
        // The look first: it is rare, and batches would leave it no place.
        if self.readback.is_due(now) && self.planner.begin_readback(self.readback.gap(), now) {
            in_flight.push(self.send_readback(now, tasks));
        }
        if self.target.mode == Mode::On {
            while let Some((batch, body)) = self.planner.next_batch(now) {
                in_flight.push(self.send_batch(batch, body, tasks));
            }
        }
    }

    fn send_readback(&mut self, now: Now, tasks: &Tasks) -> InFlight {
        let (sender, in_flight) = oneshot::channel();
        let query = self.readback.next_query(now);
        let (keys, first_key) = (self.target.keys.clone(), self.planner.key_index());
        let address = self.target.address.clone();
        let Context { market, clock, .. } = self.context.clone();
        tasks.spawn_short_lived(async move {
            let mut outcome = market
                .read_back(&address, &keys[first_key], &query, clock.now())
                .await;
            // Which key is good, only what is sent finds out, and perhaps nothing is.
            for key in keys
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != first_key)
                .map(|(_, key)| key)
            {
                if matches!(
                    classify_response(&outcome),
                    ResponseVerdict::AuthRejected { .. }
                ) {
                    outcome = market.read_back(&address, key, &query, clock.now()).await;
                }
            }
            let completed = readback::CompletedReadback::new(&query, &outcome);
            // The lane waits for it even when it stops; if it crashed, nobody does.
            let _send_result = sender.send(Completion::Readback(completed));
        });
        in_flight
    }

    fn send_batch(&self, batch: UpdateBatch, body: Vec<u8>, tasks: &Tasks) -> InFlight {
        let (sender, in_flight) = oneshot::channel();
        let Context {
            market,
            store,
            clock,
            ledger,
            ..
        } = self.context.clone();
        let (shop, address) = (self.target.shop, self.target.address.clone());
        let key = self.target.keys[batch.key_index()].clone();
        tasks.spawn_short_lived(async move {
            // Noted before it goes out: after a crash the minute's limit must still hold, and
            // what was under way is on nobody else's record.
            let skus = u32::try_from(batch.sku_count()).unwrap_or(u32::MAX);
            if let Err(error) = store
                .record_send(
                    shop,
                    RecentSend {
                        at: clock.now(),
                        skus,
                    },
                )
                .await
            {
                warn!(error = %error, "what is being sent is not noted on disk");
            }
            let sent_at = clock.now();
            let outcome = market
                .update_stocks(&address, &key, body, clock.now())
                .await;
            // Before the commit: how long our disk takes is not the Market's clock.
            let at = Now {
                monotonic: Instant::now(),
                wall: clock.now(),
            };
            let completed = CompletedBatch::new(batch, outcome, at);
            if let Some(batch) = completed.accepted() {
                let (ids, rows) = batch.to_acked(sent_at);
                // A crash before this line re-sends one batch; a store that cannot write costs
                // a re-send after the next start. The receipt is held until the ledger has it.
                let stored = store
                    .append(&[StoreChange::Acked { shop, rows: &rows }])
                    .await;
                if let Err(error) = &stored {
                    warn!(error = %error, "the Market's acknowledgement is not on disk");
                }
                ledger.record(
                    shop,
                    ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked)),
                );
            }
            // The lane waits for its batches even when it stops; if it crashed, nobody does.
            let _send_result = sender.send(Completion::Batch(completed));
        });
        in_flight
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
                let quarantined = self.planner.quarantined_skus();
                let step = self
                    .readback
                    .on_response(completed, quarantined, max_clock_skew, now);
                let lost = self.readback.take_lost();
                self.planner.on_changed(&lost, now);
                self.run_steps(step).await;
            }
        }
    }

    /// Does what a look at every SKU needs, on a thread of its own.
    async fn run_steps(&mut self, step: Option<ReadbackStep>) {
        let mut step = step;
        while let Some(next) = step {
            step = match next {
                ReadbackStep::FindMissing(find_missing) => {
                    let missing_skus = run_blocking(move || find_missing.run()).await;
                    self.readback
                        .query_missing(&missing_skus, self.planner.quarantined_skus())
                }
                ReadbackStep::FinishPass(finish_pass) => {
                    let now = self.context.clock.now();
                    let result = run_blocking(move || finish_pass.run(now)).await;
                    self.finish_pass(result).await;
                    None
                }
            };
        }
        self.planner.update_readback_alarms(self.readback.report());
    }

    /// A pass through the Market's copy has ended.
    async fn finish_pass(&mut self, result: readback::PassResult) {
        let now = self.now();
        self.planner.on_changed(result.lost(), now);
        let is_equal = self.readback.end_pass(result, now);
        let report = self.readback.report();
        info!(
            shop = self.target.name,
            classes = ?report.classes,
            "read the Market's copy back: {} SKUs leave a question, {} are sent again",
            report.unexplained_skus(),
            report.resent
        );
        if is_equal && let Err(error) = self.persist_timestamp(LAST_EQUAL_NOTE, now.wall).await {
            warn!(error = %error, "that the Market's copy is equal is not on disk");
        }
    }

    /// Notes a moment that is about this target alone.
    async fn persist_timestamp(&self, name: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        let MarketTarget { address, shop, .. } = &self.target;
        let text = format!(
            "{} {} {address}",
            at.to_rfc3339(),
            self.context.market.base()
        );
        self.context
            .store
            .put_note(Some(*shop), name, Some(&text))
            .await
    }

    async fn persist_changes(&self, changes: Vec<DurableChange>) {
        let shop = self.target.shop;
        let mut store_changes: Vec<StoreChange<'_>> = Vec::new();
        for change in &changes {
            match change {
                DurableChange::Quarantined(entry) => {
                    store_changes.push(StoreChange::Quarantined { shop, row: entry })
                }
                DurableChange::Released(sku) => {
                    store_changes.push(StoreChange::Released { shop, sku })
                }
                DurableChange::LimitedUntil(at) => {
                    if let Err(error) = self.persist_timestamp(LIMITED_UNTIL_NOTE, *at).await {
                        warn!(error = %error, "failed to persist the pause the Market asked for");
                    }
                }
            }
        }
        if store_changes.is_empty() {
            return;
        }
        if let Err(error) = self.context.store.append(&store_changes).await {
            warn!(error = %error, "a change of the quarantine is not on disk");
        }
    }
}

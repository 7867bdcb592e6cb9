//! The loop of one campaign: it sends what the plan says, and tells the plan what came of it.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::desk::Desk;
use super::plan::{Batch, Keep, Landed, Now, Plan, Surroundings};
use super::{Context, Memory, Target};
use crate::lifecycle::{Tasks, run_blocking};
use crate::store::{Change, Spent};

/// One campaign's sender.
pub(super) struct Lane {
    target: Target,
    context: Context,
    desk: Arc<Desk>,
    plan: Plan,
}

/// A batch under way, in a task of its own; this is where it will be heard of.
///
/// Not a future that the lane drives itself: while the lane awaits the store, nobody would
/// drive it, and it may hold what the lane waits for.
type Flight = oneshot::Receiver<Landed>;

impl Lane {
    pub(super) fn new(
        target: Target,
        context: Context,
        desk: Arc<Desk>,
        memory: Memory,
        dice: StdRng,
    ) -> Self {
        let around = Surroundings {
            book: Arc::clone(&context.book),
            ledger: Arc::clone(&context.ledger),
            alarms: context.alarms.clone(),
            metrics: context.metrics.clone(),
        };
        let now = Now { mono: Instant::now(), wall: context.clock.now() };
        let plan = Plan::new(target.clone(), around, memory, now, dice);
        Self { target, context, desk, plan }
    }

    /// Sends until told to stop, then waits for what is under way.
    pub(super) async fn run(mut self, tasks: Tasks) {
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        loop {
            let is_stopping = tasks.is_stopping();
            if is_stopping && flights.is_empty() {
                return;
            }
            let mut now = self.now();
            if !is_stopping {
                self.find_work().await;
                now = self.now();
                while let Some((batch, body)) = self.plan.next(now) {
                    flights.push(self.fly(batch, body, &tasks));
                }
                let keep = self.plan.take_keep();
                self.persist(keep).await;
            }
            // By the time at which nothing more could be sent, or a pause that ended since
            // would be overlooked.
            let wake = self.plan.wake_at(now);
            self.desk.publish(self.plan.report(now));
            tokio::select! {
                Some(landed) = flights.next() => {
                    let landed = landed.expect("a batch under way does not panic");
                    let keep = self.plan.land(landed, self.now());
                    self.persist(keep).await;
                }
                () = tasks.stopping(), if !is_stopping => {}
                () = self.desk.nudged(), if !is_stopping => {}
                () = sleep_until(wake), if !is_stopping => {}
            }
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant::now(), wall: self.context.clock.now() }
    }

    async fn find_work(&mut self) {
        let hints = self.desk.take_hints();
        self.plan.hint(&hints.skus, self.now());
        if hints.is_incomplete || self.plan.wants_scan(self.now()) {
            let scan = self.plan.begin_scan();
            // A thread of its own: the ones that answer the Market stay free.
            let found = run_blocking(move || scan.run()).await;
            self.plan.end_scan(found, self.now());
        }
    }

    fn fly(&self, batch: Batch, body: Vec<u8>, tasks: &Tasks) -> Flight {
        let (land, flight) = oneshot::channel();
        let Context { market, store, clock, ledger, .. } = self.context.clone();
        let (shop, campaign) = (self.target.shop, self.target.campaign);
        let key = self.target.keys[batch.key()].clone();
        tasks.spawn_brief(async move {
            // Noted before it goes out: after a crash the minute's limit must still hold, and
            // what was under way is on nobody else's record.
            let skus = u32::try_from(batch.skus()).unwrap_or(u32::MAX);
            if let Err(error) = store.note_spent(shop, Spent { at: clock.now(), skus }).await {
                warn!(error = %error, "what is being sent is not noted on disk");
            }
            let reply = market.update_stocks(campaign, &key, body, clock.now()).await;
            // Before the commit: how long our disk takes is not the Market's clock.
            let at = Now { mono: Instant::now(), wall: clock.now() };
            let landed = Landed::new(batch, reply, at);
            if let Some(batch) = landed.accepted() {
                let (ids, rows) = batch.acknowledged(clock.now());
                // A crash before this line re-sends one batch; a store that cannot write costs
                // a re-send after the next start. The receipt is held until the ledger has it.
                let stored = store.append(&[Change::Acked { shop, rows: &rows }]).await;
                if let Err(error) = &stored {
                    warn!(error = %error, "the Market's acknowledgement is not on disk");
                }
                ledger.record(shop, ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked)));
            }
            // The lane waits for its batches even when it stops; if it crashed, nobody does.
            let _unheard = land.send(landed);
        });
        flight
    }

    async fn persist(&self, keep: Vec<Keep>) {
        let shop = self.target.shop;
        let changes: Vec<Change<'_>> = keep
            .iter()
            .map(|keep| match keep {
                Keep::Quarantined(row) => Change::Quarantined { shop, row },
                Keep::Released(sku) => Change::Released { shop, sku },
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.context.store.append(&changes).await {
            warn!(error = %error, "a change of the quarantine is not on disk");
        }
    }
}

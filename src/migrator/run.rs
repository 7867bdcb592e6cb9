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

use super::desk::Desk;
use super::keys::Keys;
use super::pace::Purse;
use super::plan::{Batch, Keep, Landed, Now, Plan, Surroundings};
use super::reconcile::{self, Field, Step, Surveyor};
use super::verdict::{Verdict, judge};
use super::{Context, LAST_EQUAL, LIMITED_UNTIL, Memory, Mode, Target};
use crate::lifecycle::{Tasks, run_blocking};
use crate::store::{Change, Spent, StoreError};

/// How soon to try again when there is no place for a read-back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// For as long as nothing is to be read back.
const LONG: Duration = Duration::from_mins(1);

/// One shop's sender.
pub(super) struct Lane {
    target: Target,
    context: Context,
    desk: Arc<Desk>,
    plan: Plan,
    surveyor: Surveyor,
}

/// A request that ended.
enum Landing {
    Batch(Landed),
    Look(reconcile::Landed),
}

/// A request under way, in a task of its own; this is where it will be heard of.
///
/// Not a future that the lane drives itself: while the lane awaits the store, nobody would
/// drive it, and it may hold what the lane waits for.
type Flight = oneshot::Receiver<Landing>;

impl Lane {
    pub(super) fn new(
        target: Target,
        context: Context,
        desk: Arc<Desk>,
        memory: Memory,
        (dice, purse, keys): (StdRng, Purse, Keys),
    ) -> Self {
        let around = Surroundings {
            book: Arc::clone(&context.book),
            ledger: Arc::clone(&context.ledger),
            alarms: context.alarms.clone(),
            metrics: context.metrics.clone(),
            purse,
            keys,
            marks: Arc::clone(&context.marks),
            history: Arc::clone(&context.history),
        };
        let field = Field {
            shop: target.shop,
            address: target.address.clone(),
            warehouses: target.warehouses.clone(),
            mode: target.mode,
            every: context.verify_every,
            grace: context.grace,
            book: Arc::clone(&context.book),
            ledger: Arc::clone(&context.ledger),
            marks: Arc::clone(&context.marks),
            sightings: Arc::clone(&context.sightings),
            history: Arc::clone(&context.history),
        };
        let now = Now {
            mono: Instant::now(),
            wall: context.clock.now(),
        };
        let surveyor = Surveyor::new(field, memory.last_equal, now);
        let plan = Plan::new(target.clone(), around, memory, now, dice);
        Self {
            target,
            context,
            desk,
            plan,
            surveyor,
        }
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
                if self.target.mode == Mode::On {
                    self.find_work().await;
                }
                now = self.now();
                self.take_off(now, &flights, &tasks);
                let keep = self.plan.take_keep();
                self.persist(keep).await;
            }
            // By the time at which nothing more could be sent, or a pause that ended since
            // would be overlooked.
            let wake = self.plan.wake_at(now).min(self.next_look(now));
            self.desk.publish(self.plan.report(now));
            self.desk.publish_survey(self.surveyor.survey());
            tokio::select! {
                Some(landing) = flights.next() => {
                    self.land(landing.expect("a request under way does not panic")).await;
                }
                () = tasks.stopping(), if !is_stopping => {}
                () = self.desk.nudged(), if !is_stopping => {}
                () = sleep_until(wake), if !is_stopping => {}
            }
        }
    }

    fn now(&self) -> Now {
        Now {
            mono: Instant::now(),
            wall: self.context.clock.now(),
        }
    }

    /// When the surveyor wants to be woken.
    fn next_look(&self, now: Now) -> Instant {
        let soon = now.mono + LOOK_AGAIN;
        // Due, and yet not under way: the plan has no place for it now.
        if self.surveyor.is_due(now) {
            soon
        } else {
            self.surveyor.wake_at().unwrap_or(now.mono + LONG)
        }
    }

    async fn find_work(&mut self) {
        let hints = self.desk.take_hints();
        self.plan.hint(&hints.skus, self.now());
        if hints.is_incomplete || self.plan.wants_scan(self.now()) {
            let scan = self.plan.begin_scan(self.now());
            // A thread of its own: the ones that answer the Market stay free.
            let found = run_blocking(move || scan.run()).await;
            self.plan.end_scan(found, self.now());
        }
    }

    /// Sends what may be sent now.
    fn take_off(&mut self, now: Now, flights: &FuturesUnordered<Flight>, tasks: &Tasks) {
        if self.desk.take_hurry() {
            self.surveyor.hurry(now);
        }
        // The look first: it is rare, and batches would leave it no place.
        if self.surveyor.is_due(now) && self.plan.begin_look(self.surveyor.gap(), now) {
            flights.push(self.look(now, tasks));
        }
        if self.target.mode == Mode::On {
            while let Some((batch, body)) = self.plan.next(now) {
                flights.push(self.fly(batch, body, tasks));
            }
        }
    }

    fn look(&mut self, now: Now, tasks: &Tasks) -> Flight {
        let (land, flight) = oneshot::channel();
        let look = self.surveyor.look(now);
        let (keys, first) = (self.target.keys.clone(), self.plan.key());
        let address = self.target.address.clone();
        let Context { market, clock, .. } = self.context.clone();
        tasks.spawn_brief(async move {
            let mut reply = market
                .read_back(&address, &keys[first], &look, clock.now())
                .await;
            // Which key is good, only what is sent finds out, and perhaps nothing is.
            for key in keys
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != first)
                .map(|(_, key)| key)
            {
                if matches!(judge(&reply), Verdict::Deny { .. }) {
                    reply = market.read_back(&address, key, &look, clock.now()).await;
                }
            }
            let landed = reconcile::Landed::new(&look, &reply);
            // The lane waits for it even when it stops; if it crashed, nobody does.
            let _unheard = land.send(Landing::Look(landed));
        });
        flight
    }

    fn fly(&self, batch: Batch, body: Vec<u8>, tasks: &Tasks) -> Flight {
        let (land, flight) = oneshot::channel();
        let Context {
            market,
            store,
            clock,
            ledger,
            ..
        } = self.context.clone();
        let (shop, address) = (self.target.shop, self.target.address.clone());
        let key = self.target.keys[batch.key()].clone();
        tasks.spawn_brief(async move {
            // Noted before it goes out: after a crash the minute's limit must still hold, and
            // what was under way is on nobody else's record.
            let skus = u32::try_from(batch.skus()).unwrap_or(u32::MAX);
            if let Err(error) = store
                .note_spent(
                    shop,
                    Spent {
                        at: clock.now(),
                        skus,
                    },
                )
                .await
            {
                warn!(error = %error, "what is being sent is not noted on disk");
            }
            let sent_at = clock.now();
            let reply = market
                .update_stocks(&address, &key, body, clock.now())
                .await;
            // Before the commit: how long our disk takes is not the Market's clock.
            let at = Now {
                mono: Instant::now(),
                wall: clock.now(),
            };
            let landed = Landed::new(batch, reply, at);
            if let Some(batch) = landed.accepted() {
                let (ids, rows) = batch.acknowledged(sent_at);
                // A crash before this line re-sends one batch; a store that cannot write costs
                // a re-send after the next start. The receipt is held until the ledger has it.
                let stored = store.append(&[Change::Acked { shop, rows: &rows }]).await;
                if let Err(error) = &stored {
                    warn!(error = %error, "the Market's acknowledgement is not on disk");
                }
                ledger.record(
                    shop,
                    ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked)),
                );
            }
            // The lane waits for its batches even when it stops; if it crashed, nobody does.
            let _unheard = land.send(Landing::Batch(landed));
        });
        flight
    }

    async fn land(&mut self, landing: Landing) {
        match landing {
            Landing::Batch(landed) => {
                let keep = self.plan.land(landed, self.now());
                if self.plan.take_unanswered() {
                    self.surveyor.hasten(self.now());
                }
                self.persist(keep).await;
            }
            Landing::Look(landed) => {
                let now = self.now();
                let apart = self.plan.end_look(&landed, now);
                let aside = self.plan.set_aside();
                let step = self.surveyor.land(landed, aside, apart, now);
                let lost = self.surveyor.take_lost();
                self.plan.hint(&lost, now);
                self.take(step).await;
            }
        }
    }

    /// Does what a look at every SKU needs, on a thread of its own.
    async fn take(&mut self, step: Option<Step>) {
        let mut step = step;
        while let Some(next) = step {
            step = match next {
                Step::Gather(gathering) => {
                    let missing = run_blocking(move || gathering.run()).await;
                    self.surveyor.ask_for(&missing, self.plan.set_aside())
                }
                Step::Round(roundup) => {
                    let now = self.context.clock.now();
                    let outcome = run_blocking(move || roundup.run(now)).await;
                    self.conclude(outcome).await;
                    None
                }
            };
        }
        self.plan.note_survey(self.surveyor.survey());
    }

    /// A pass through the Market's copy has ended.
    async fn conclude(&mut self, outcome: reconcile::Outcome) {
        let now = self.now();
        self.plan.hint(outcome.lost(), now);
        let is_equal = self.surveyor.end(outcome, now);
        let survey = self.surveyor.survey();
        info!(
            shop = self.target.name,
            classes = ?survey.classes,
            "read the Market's copy back: {} SKUs leave a question, {} are sent again",
            survey.open_questions(),
            survey.resent
        );
        if is_equal && let Err(error) = self.note(LAST_EQUAL, now.wall).await {
            warn!(error = %error, "that the Market's copy is equal is not on disk");
        }
    }

    /// Notes a moment that is about this target alone.
    async fn note(&self, name: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        let Target { address, shop, .. } = &self.target;
        let text = format!(
            "{} {} {address}",
            at.to_rfc3339(),
            self.context.market.base()
        );
        self.context
            .store
            .note(Some(*shop), name, Some(&text))
            .await
    }

    async fn persist(&self, keep: Vec<Keep>) {
        let shop = self.target.shop;
        let mut changes: Vec<Change<'_>> = Vec::new();
        for keep in &keep {
            match keep {
                Keep::Quarantined(row) => changes.push(Change::Quarantined { shop, row }),
                Keep::Released(sku) => changes.push(Change::Released { shop, sku }),
                Keep::LimitedUntil(at) => {
                    if let Err(error) = self.note(LIMITED_UNTIL, *at).await {
                        warn!(error = %error, "failed to persist the pause the Market asked for");
                    }
                }
            }
        }
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.context.store.append(&changes).await {
            warn!(error = %error, "a change of the quarantine is not on disk");
        }
    }
}

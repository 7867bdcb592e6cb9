//! The one front door for stock: check, store, book, nudge.
//!
//! Whoever brings stock, the drop-in or a source, calls [`Ingest::accept`], and a positive
//! answer means that the updates are on disk and in the book. Nothing else writes the book.
//!
//! All updates pass through one worker, one group at a time. So the order on disk is the order
//! in memory, and callers that come while a commit is under way share the next one: a disk
//! that needs 5 ms a commit takes thousands of small updates a second all the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::lifecycle::Tasks;
use crate::stock::{Applied, Instant, Level, ShopId, Sku, StockBook, Update};
use crate::store::{Change, Store, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// Callers that may wait for the worker before the next one waits to be let in. Each brings at
/// most one request's SKUs, so this is some 10 MB.
const QUEUE: usize = 64;

/// Most callers whose updates share one commit.
const GROUP: usize = 32;

/// How often it is looked whether the store is well, and how long it is left alone after a
/// failure before it is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What became of one caller's updates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    /// SKUs heard of for the first time.
    pub added: usize,
    /// SKUs whose stock is now another one.
    pub replaced: usize,
    /// Statements that repeated what is known.
    pub repeated: usize,
    /// Statements older than what is known, ignored.
    pub outdated: usize,
}

impl Accepted {
    fn count(&mut self, applied: Applied) {
        match applied {
            Applied::Added => self.added += 1,
            Applied::Replaced => self.replaced += 1,
            Applied::Repeated => self.repeated += 1,
            Applied::Outdated => self.outdated += 1,
        }
    }
}

/// Why nothing of the updates was taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// The disk is full. The same call will do once there is room.
    #[error("the store's disk is full")]
    Full,
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    Failed(String),
    /// The process is stopping.
    #[error("stockbridge is stopping")]
    Stopping,
}

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    queue: mpsc::Sender<Call>,
}

#[derive(Debug)]
struct Call {
    shop: ShopId,
    updates: Vec<Update>,
    answer: oneshot::Sender<Result<Accepted, IngestError>>,
}

impl Ingest {
    /// Takes updates of one shop, all or none, durably.
    ///
    /// If the caller stops waiting, the updates may be taken nevertheless, whole.
    ///
    /// # Errors
    /// The store cannot write or the process is stopping; nothing was applied.
    pub async fn accept(
        &self,
        shop: ShopId,
        updates: Vec<Update>,
    ) -> Result<Accepted, IngestError> {
        let (answer, answered) = oneshot::channel();
        let call = Call { shop, updates, answer };
        self.queue.send(call).await.map_err(|_| IngestError::Stopping)?;
        answered.await.unwrap_or(Err(IngestError::Stopping))
    }
}

/// Told of every SKU whose stock changed, after the change is in the book.
pub type Nudge = Box<dyn Fn(ShopId, &[Sku]) + Send + Sync>;

/// The one who works behind the door.
pub struct Worker {
    calls: mpsc::Receiver<Call>,
    book: Arc<StockBook>,
    store: Arc<Store>,
    clock: Clock,
    alarms: Alarms,
    metrics: Metrics,
    nudge: Nudge,
    unwell: bool,
}

/// Makes the door and the worker behind it.
#[must_use]
pub fn open(
    book: Arc<StockBook>,
    store: Arc<Store>,
    clock: Clock,
    alarms: Alarms,
    metrics: Metrics,
    nudge: Nudge,
) -> (Ingest, Worker) {
    let (queue, calls) = mpsc::channel(QUEUE);
    let worker = Worker { calls, book, store, clock, alarms, metrics, nudge, unwell: false };
    (Ingest { queue }, worker)
}

impl Worker {
    /// Works until told to stop, then finishes what is in the queue.
    pub async fn run(mut self, tasks: Tasks) {
        let mut group = Vec::with_capacity(GROUP);
        let mut rounds = interval(LOOK_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The store first: callers that keep coming must not keep it from healing.
                biased;
                _ = rounds.tick() => self.look_after_store().await,
                count = self.calls.recv_many(&mut group, GROUP) => {
                    if count == 0 {
                        // Nobody holds the door any more, or it was closed below.
                        return tasks.stopping().await;
                    }
                    self.serve(std::mem::take(&mut group)).await;
                }
                () = tasks.stopping(), if !self.calls.is_closed() => self.calls.close(),
            }
        }
    }

    async fn serve(&mut self, calls: Vec<Call>) {
        let resolved = self.resolve(&calls);
        let changes: Vec<Change<'_>> = resolved
            .iter()
            .filter(|resolved| !resolved.rows.is_empty())
            .map(|resolved| Change::Stock { shop: resolved.shop, rows: &resolved.rows })
            .collect();
        // What says nothing new costs no commit: it is on disk already.
        // The receipt is held until the book has it too: a compaction in between would fold a
        // book without it, and drop it from the log.
        let store = Arc::clone(&self.store);
        let stored =
            if changes.is_empty() { Ok(None) } else { store.append(&changes).await.map(Some) };
        if !changes.is_empty() {
            self.note_health(stored.as_ref().err());
        }
        let error = stored.as_ref().err().map(IngestError::from);
        for (call, resolved) in calls.into_iter().zip(resolved) {
            let outcome = match &error {
                Some(error) => Err(error.clone()),
                None => Ok(self.apply(resolved)),
            };
            // A caller that has gone has nothing to be told.
            let _gone = call.answer.send(outcome);
        }
    }

    /// Turns each call's statements into the levels to be written, in order of arrival.
    fn resolve(&self, calls: &[Call]) -> Vec<Resolved> {
        let now = Instant::from(self.clock.now());
        // What the calls before in this group will have written.
        let mut ahead: HashMap<(ShopId, &Sku), Level> = HashMap::new();
        let mut resolved = Vec::with_capacity(calls.len());
        for call in calls {
            let mut accepted = Accepted::default();
            let mut rows = Vec::with_capacity(call.updates.len());
            for update in &call.updates {
                let known = ahead.get(&(call.shop, &update.sku)).copied().or_else(|| {
                    self.book.get(call.shop, update.sku.as_str()).map(|entry| entry.level())
                });
                let level = level_of(update, known, now);
                let applied = Applied::of(known, level);
                accepted.count(applied);
                if applied.is_change() {
                    rows.push((update.sku.clone(), level));
                    ahead.insert((call.shop, &update.sku), level);
                }
            }
            resolved.push(Resolved { shop: call.shop, rows, accepted });
        }
        resolved
    }

    fn apply(&self, resolved: Resolved) -> Accepted {
        for (sku, level) in &resolved.rows {
            self.book.apply(resolved.shop, sku, *level);
        }
        self.metrics.count(resolved.accepted);
        if !resolved.rows.is_empty() {
            let skus: Vec<Sku> = resolved.rows.into_iter().map(|(sku, _)| sku).collect();
            (self.nudge)(resolved.shop, &skus);
        }
        resolved.accepted
    }

    /// Heals a store that has failed, whoever met the failure, and finds out whether a full
    /// disk has room again: by writing, as nothing else would tell.
    async fn look_after_store(&mut self) {
        if !self.unwell && !self.store.is_failed() {
            return;
        }
        let healed = match self.store.heal().await {
            Ok(_) => self.store.probe().await,
            Err(error) => Err(error),
        };
        self.note_health(healed.as_ref().err());
    }

    fn note_health(&mut self, error: Option<&StoreError>) {
        self.unwell = error.is_some();
        match error {
            None => self.alarms.clear(AlarmKind::StoreFailed, ""),
            Some(error) => self.alarms.raise(
                AlarmKind::StoreFailed,
                "",
                format!("updates are refused because the store cannot write: {error}"),
            ),
        }
    }
}

struct Resolved {
    shop: ShopId,
    rows: Vec<(Sku, Level)>,
    accepted: Accepted,
}

/// A statement without a date is as of now, and newer than all that is known: if somebody
/// else's clock runs ahead, a later statement must not be lost behind it.
fn level_of(update: &Update, known: Option<Level>, now: Instant) -> Level {
    let as_of_now = || known.map_or(now, |known| now.max(known.updated_at.next()));
    Level { count: update.count, updated_at: update.updated_at.unwrap_or_else(as_of_now) }
}

impl From<&StoreError> for IngestError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            other => Self::Failed(other.to_string()),
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    updates: Family<OutcomeLabel, Counter>,
}

impl Metrics {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "updates",
            "Statements about single SKUs taken from the seller, by what became of them",
            self.updates.clone(),
        );
    }

    fn count(&self, accepted: Accepted) {
        for (outcome, n) in [
            ("added", accepted.added),
            ("replaced", accepted.replaced),
            ("repeated", accepted.repeated),
            ("outdated", accepted.outdated),
        ] {
            self.updates.get_or_create(&OutcomeLabel { outcome }).inc_by(n as u64);
        }
    }
}

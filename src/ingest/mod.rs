//! The one front door for stock: check, store, book, tell.
//!
//! Whoever brings stock, the drop-in or a source, calls [`Ingest::accept`] or, for several
//! shops at once, [`Ingest::accept_all`], and a positive answer means that the updates are on
//! disk and in the book. Nothing else writes the book.
//!
//! All updates pass through one worker, one group at a time. So the order on disk is the order
//! in memory, and callers that come while a commit is under way share the next one: a disk
//! that needs 5 ms a commit takes thousands of small updates a second all the same.

mod clock_watch;
mod origin_times;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, MissedTickBehavior, interval};

pub use origin_times::{OriginTime, OriginTimes};

use self::clock_watch::ClockWatch;
use crate::clock::Clock;
use crate::lifecycle::Tasks;
use crate::stock::{ApplyOutcome, Level, ShopId, Sku, StockBook, Timestamp, Update};
use crate::store::{Store, StoreChange, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// Callers that may wait for the worker before the next one waits to be let in. Each brings at
/// most one request's SKUs, so this is some 10 MB.
const QUEUE_CAPACITY: usize = 64;

/// Most callers whose updates share one commit.
const MAX_REQUESTS_PER_COMMIT: usize = 32;

/// How often it is looked whether the store is well, and how long it is left alone after a
/// failure before it is tried again.
const STORE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long the alarm about a wrong clock lasts if it is not raised again.
const CLOCK_ALARM_DURATION: TimeDelta = TimeDelta::hours(24);

/// Most SKUs of which the true date is kept because the stored one is of a wrong clock.
const MAX_TRUE_DATES: usize = 200_000;

/// How the names begin under which [`Sources`] are noted in the store; the origin's follows.
pub const STATED_NOTE_PREFIX: &str = "asserted:";

/// Where a statement came from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// The seller's program, through the drop-in of a campaign.
    CampaignPut,
    /// The seller's program, through the drop-in of a business.
    BusinessPost,
    /// A file.
    File,
    /// The shop's own old handler.
    OldHandler,
    /// 1C, through its exchange with a site.
    Exchange,
    /// `MoySklad`.
    MoySklad,
    /// A database.
    Sql,
    /// A file that somebody handed over by hand.
    Import,
}

impl Origin {
    /// All of them, each in the place of its number.
    pub const ALL: [Self; 8] = [
        Self::CampaignPut,
        Self::BusinessPost,
        Self::File,
        Self::OldHandler,
        Self::Exchange,
        Self::MoySklad,
        Self::Sql,
        Self::Import,
    ];

    /// Its number in marks and in the history; never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The origin of that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The origin of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.name() == name)
    }

    /// Its name in logs and in the status; never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CampaignPut => "put /v2/campaigns",
            Self::BusinessPost => "post /v3/businesses",
            Self::File => "file",
            Self::OldHandler => "old handler",
            Self::Exchange => "1c exchange",
            Self::MoySklad => "moysklad",
            Self::Sql => "sql",
            Self::Import => "import",
        }
    }
}

/// What it means to say again, with a later date, how many there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RepeatPolicy {
    /// The date is news too: a call of the Market's own would have set it.
    UpdateTimestamp,
    /// It confirms what is known, and costs neither a write nor a call of the Market: of a
    /// complete export most is as it was.
    KeepTimestamp,
}

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
    fn count(&mut self, applied: ApplyOutcome) {
        match applied {
            ApplyOutcome::Added => self.added += 1,
            ApplyOutcome::Replaced => self.replaced += 1,
            ApplyOutcome::Repeated => self.repeated += 1,
            ApplyOutcome::Outdated => self.outdated += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.added += other.added;
        self.replaced += other.replaced;
        self.repeated += other.repeated;
        self.outdated += other.outdated;
    }
}

/// Why nothing of the updates was taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// The disk is full. The same call will do once there is room.
    #[error("the store's disk is full")]
    DiskFull,
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
    queue: mpsc::Sender<IngestRequest>,
}

#[derive(Debug)]
struct IngestRequest {
    origin: Origin,
    repeat_policy: RepeatPolicy,
    statements: Vec<(ShopId, Vec<Update>)>,
    response: oneshot::Sender<Result<Accepted, IngestError>>,
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
        origin: Origin,
        shop: ShopId,
        updates: Vec<Update>,
    ) -> Result<Accepted, IngestError> {
        self.accept_all(origin, vec![(shop, updates)]).await
    }

    /// Takes updates of one shop that a source states again and again, all or none, durably.
    ///
    /// # Errors
    /// The store cannot write or the process is stopping; nothing was applied.
    pub async fn accept_unchanged(
        &self,
        origin: Origin,
        shop: ShopId,
        updates: Vec<Update>,
    ) -> Result<Accepted, IngestError> {
        self.submit(origin, RepeatPolicy::KeepTimestamp, vec![(shop, updates)])
            .await
    }

    /// Takes updates of several shops, all or none, durably, in one commit.
    ///
    /// If the caller stops waiting, the updates may be taken nevertheless, whole.
    ///
    /// # Errors
    /// The store cannot write or the process is stopping; nothing was applied, to no shop.
    pub async fn accept_all(
        &self,
        origin: Origin,
        statements: Vec<(ShopId, Vec<Update>)>,
    ) -> Result<Accepted, IngestError> {
        self.submit(origin, RepeatPolicy::UpdateTimestamp, statements)
            .await
    }

    async fn submit(
        &self,
        origin: Origin,
        repeat_policy: RepeatPolicy,
        statements: Vec<(ShopId, Vec<Update>)>,
    ) -> Result<Accepted, IngestError> {
        let (response, receiver) = oneshot::channel();
        let request = IngestRequest {
            origin,
            repeat_policy,
            statements,
            response,
        };
        self.queue
            .send(request)
            .await
            .map_err(|_| IngestError::Stopping)?;
        receiver.await.unwrap_or(Err(IngestError::Stopping))
    }
}

/// What one call asserted about one shop, after it is in the book.
///
/// A statement older than what is known asserts nothing and is in neither list; so both are
/// empty if all of a call were such.
#[derive(Clone, Copy, Debug)]
pub struct StatedSkus<'a> {
    /// About which shop.
    pub shop: ShopId,
    /// By whom.
    pub origin: Origin,
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// The SKUs that were added or replaced.
    pub changed: &'a [Sku],
    /// The SKUs of which was said what was known already.
    pub repeated: &'a [Sku],
}

/// Told of everything the seller asserts, by the worker itself: it must be quick.
pub type OnStated = Box<dyn Fn(&StatedSkus<'_>) + Send + Sync>;

/// The one who works behind the door.
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
    // True dates of updates that replaced stock dated by a wrong clock: the stored date must
    // rise all the same.
    true_dates: HashMap<(ShopId, Sku), Timestamp>,
}

/// Makes the door and the worker behind it.
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
    (Ingest { queue }, worker)
}

impl IngestWorker {
    /// Works until told to stop, then finishes what is in the queue.
    pub async fn run(mut self, tasks: Tasks) {
        self.alarm_stored_wrong_dates();
        let mut batch = Vec::with_capacity(MAX_REQUESTS_PER_COMMIT);
        let mut checks = interval(STORE_CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The store first: callers that keep coming must not keep it from healing.
                biased;
                _ = checks.tick() => {
                    self.check_clock();
                    self.try_recover_store().await;
                }
                count = self.requests.recv_many(&mut batch, MAX_REQUESTS_PER_COMMIT) => {
                    if count == 0 {
                        // Nobody holds the door any more, or it was closed below.
                        return tasks.stopping().await;
                    }
                    self.process(std::mem::take(&mut batch)).await;
                }
                () = tasks.stopping(), if !self.requests.is_closed() => self.requests.close(),
            }
        }
    }

    async fn process(&mut self, requests: Vec<IngestRequest>) {
        let now = self.clock.now();
        let resolved = self.resolve(&requests, now);
        let changes: Vec<StoreChange<'_>> = resolved
            .iter()
            .flatten()
            .filter(|resolved| !resolved.rows.is_empty())
            .map(|resolved| StoreChange::Stock {
                shop: resolved.shop,
                rows: &resolved.rows,
            })
            .collect();
        // What says nothing new costs no commit: it is on disk already.
        // The receipt is held until the book has it too: a compaction in between would fold a
        // book without it, and drop it from the log.
        let store = Arc::clone(&self.store);
        let stored = if changes.is_empty() {
            Ok(None)
        } else {
            store.append(&changes).await.map(Some)
        };
        if !changes.is_empty() {
            self.update_store_alarm(stored.as_ref().err());
        }
        let error = stored.as_ref().err().map(IngestError::from);
        for (request, resolved) in requests.into_iter().zip(resolved) {
            let outcome = match &error {
                Some(error) => Err(error.clone()),
                None => Ok(self.apply(resolved, request.origin, now)),
            };
            // A caller that has gone has nothing to be told.
            let _gone = request.response.send(outcome);
        }
    }

    /// Turns each call's statements into the levels to be written, shop by shop, in order of
    /// arrival.
    fn resolve(
        &mut self,
        requests: &[IngestRequest],
        now: DateTime<Utc>,
    ) -> Vec<Vec<ResolvedUpdates>> {
        let mut pending = PendingLevels::new();
        requests
            .iter()
            .map(|request| {
                let statements = request.statements.iter();
                statements
                    .map(|(shop, updates)| {
                        self.resolve_shop(
                            *shop,
                            updates,
                            (request.repeat_policy, now),
                            &mut pending,
                        )
                    })
                    .collect()
            })
            .collect()
    }

    fn resolve_shop<'a>(
        &mut self,
        shop: ShopId,
        updates: &'a [Update],
        (repeat_policy, now): (RepeatPolicy, DateTime<Utc>),
        pending: &mut PendingLevels<'a>,
    ) -> ResolvedUpdates {
        let mut resolved = ResolvedUpdates {
            shop,
            rows: Vec::with_capacity(updates.len()),
            repeated: Vec::new(),
            accepted: Accepted::default(),
        };
        for update in updates {
            let known = pending.get(&(shop, &update.sku)).copied().or_else(|| {
                self.book
                    .get(shop, update.sku.as_str())
                    .map(|entry| entry.level())
            });
            let mut level = level_of(update, known, now.into());
            if let (Some(known), Some(date)) = (known, update.updated_at)
                && self.clock_watch.is_wrong_date(known.updated_at, now)
                && self.replaces_wrong_date((shop, &update.sku), date, now)
            {
                self.raise_wrong_dates(&update.sku, known.updated_at, now);
                // Later than the stored date, or the store would take that one for the newer.
                level.updated_at = known.updated_at.successor();
            }
            if let Some(known) = known.filter(|known| {
                repeat_policy == RepeatPolicy::KeepTimestamp
                    && known.count == level.count
                    && known.updated_at <= level.updated_at
            }) {
                level = known;
            }
            let applied = ApplyOutcome::classify(known, level);
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
        resolved
    }

    /// Whether an update replaces stock of which the stored date is of a wrong clock.
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
        let seconds = jump.num_seconds();
        let text = format!(
            "the clock of this machine was set by {seconds:+} s, to {now}: stock that was dated \
             by a wrong clock is replaced by updates up to 5 minutes old; check the time service"
        );
        self.alarms
            .raise_for(AlarmKind::ClockJumped, "", text, CLOCK_ALARM_DURATION);
    }

    /// Raises the alarm if the store has dates of a clock that ran ahead.
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
        let text = format!(
            "SKU '{sku}' is dated {at} and the clock of this machine shows {now}: the clock ran \
             ahead when it was stored, or is behind now. Updates up to 5 minutes old replace such \
             stock; check the time service"
        );
        self.alarms
            .raise_for(AlarmKind::ClockJumped, "", text, CLOCK_ALARM_DURATION);
    }

    /// Puts what one call said into the book, and tells of it.
    fn apply(&self, resolved: Vec<ResolvedUpdates>, origin: Origin, at: DateTime<Utc>) -> Accepted {
        let mut accepted = Accepted::default();
        for ResolvedUpdates {
            shop,
            rows,
            repeated,
            accepted: shop_accepted,
        } in resolved
        {
            for (sku, level) in &rows {
                self.book.apply(shop, sku, *level);
            }
            accepted.add(shop_accepted);
            let changed: Vec<Sku> = rows.into_iter().map(|(sku, _)| sku).collect();
            (self.on_stated)(&StatedSkus {
                shop,
                origin,
                at,
                changed: &changed,
                repeated: &repeated,
            });
        }
        self.metrics.count(accepted);
        accepted
    }

    /// Heals a store that has failed, whoever met the failure, and finds out whether a full
    /// disk has room again: by writing, as nothing else would tell.
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
                format!("updates are refused because the store cannot write: {error}"),
            ),
        }
    }
}

/// What the statements before, in the same group, will have written.
type PendingLevels<'a> = HashMap<(ShopId, &'a Sku), Level>;

/// What one call's statements about one shop come to.
struct ResolvedUpdates {
    shop: ShopId,
    rows: Vec<(Sku, Level)>,
    repeated: Vec<Sku>,
    accepted: Accepted,
}

/// A statement without a date is as of now, and newer than all that is known: if somebody
/// else's clock runs ahead, a later statement must not be lost behind it.
fn level_of(update: &Update, known: Option<Level>, now: Timestamp) -> Level {
    let as_of_now = || known.map_or(now, |known| now.max(known.updated_at.successor()));
    Level {
        count: update.count,
        updated_at: update.updated_at.unwrap_or_else(as_of_now),
    }
}

impl From<&StoreError> for IngestError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::DiskFull,
            other => Self::Failed(other.to_string()),
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UpdateOutcomeLabel {
    outcome: &'static str,
}

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    updates: Family<UpdateOutcomeLabel, Counter>,
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
            self.updates
                .get_or_create(&UpdateOutcomeLabel { outcome })
                .inc_by(n as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::lifecycle::CrashSignal;
    use crate::stock::Count;
    use crate::store::{self, ShopIdentity};

    /// Shop, origin, changed and repeated, as they were told.
    type RecordedStated = Arc<Mutex<Vec<(ShopId, Origin, Vec<String>, Vec<String>)>>>;

    struct TestIngest {
        ingest: Ingest,
        book: Arc<StockBook>,
        store: Arc<Store>,
        alarms: Alarms,
        recorded: RecordedStated,
        directory: tempfile::TempDir,
    }

    const MOSCOW: ShopId = ShopId(0);
    const OMSK: ShopId = ShopId(1);

    fn identities() -> Vec<ShopIdentity> {
        let identity = |name: &str| ShopIdentity {
            name: name.to_owned(),
            target: String::new(),
            warehouses: Vec::new(),
        };
        vec![identity("moscow"), identity("omsk")]
    }

    async fn test_ingest() -> TestIngest {
        let directory = tempfile::tempdir().unwrap();
        let config = store::Config {
            path: directory.path().join("store"),
        };
        let opened = Store::open(&config, &identities()).await.unwrap();
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let recorded = RecordedStated::default();
        let recorder = Arc::clone(&recorded);
        let names = |skus: &[Sku]| skus.iter().map(ToString::to_string).collect();
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = create(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            alarms.clone(),
            Metrics::default(),
            Box::new(move |stated| {
                let StatedSkus {
                    shop,
                    origin,
                    changed,
                    repeated,
                    at: _,
                } = *stated;
                let mut recorded = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                recorded.push((shop, origin, names(changed), names(repeated)));
            }),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        TestIngest {
            ingest,
            book,
            store,
            alarms,
            recorded,
            directory,
        }
    }

    fn stated_update(sku: &str, count: i64, at: &str) -> Update {
        let at: DateTime<Utc> = format!("2026-11-20T{at}Z").parse().unwrap();
        Update {
            sku: Sku::parse(sku).unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some(at.into()),
        }
    }

    #[tokio::test]
    async fn what_changed_and_what_was_repeated_is_told_and_what_is_outdated_is_not() {
        let test_ingest = test_ingest().await;
        let accept = |updates| {
            test_ingest
                .ingest
                .accept(Origin::CampaignPut, MOSCOW, updates)
        };
        let ten = "10:00:00";
        accept(vec![
            stated_update("A", 1, ten),
            stated_update("B", 2, ten),
            stated_update("C", 3, ten),
        ])
        .await
        .unwrap();
        let accepted = accept(vec![
            stated_update("A", 1, ten),
            stated_update("B", 5, "10:00:01"),
            stated_update("C", 9, "09:00:00"),
            stated_update("D", 4, ten),
        ]);
        let expected = Accepted {
            added: 1,
            replaced: 1,
            repeated: 1,
            outdated: 1,
        };
        assert_eq!(accepted.await.unwrap(), expected);
        assert_eq!(
            accept(vec![stated_update("C", 9, "09:00:00")])
                .await
                .unwrap()
                .outdated,
            1
        );
        let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let put = Origin::CampaignPut;
        assert_eq!(
            *test_ingest.recorded.lock().unwrap(),
            [
                (MOSCOW, put, names("ABC"), names("")),
                (MOSCOW, put, names("BD"), names("A")),
                (MOSCOW, put, names(""), names("")),
            ]
        );
    }

    #[tokio::test]
    async fn what_a_source_confirms_keeps_its_date_and_is_an_assertion_all_the_same() {
        let test_ingest = test_ingest().await;
        let ten = "10:00:00";
        let first = vec![
            stated_update("A", 1, ten),
            stated_update("B", 2, ten),
            stated_update("C", 3, "12:00:00"),
        ];
        test_ingest
            .ingest
            .accept_unchanged(Origin::File, MOSCOW, first)
            .await
            .unwrap();
        let again = vec![
            stated_update("A", 1, "11:00:00"),
            stated_update("B", 5, "11:00:00"),
            stated_update("C", 3, "11:00:00"),
        ];
        let accepted = test_ingest
            .ingest
            .accept_unchanged(Origin::File, MOSCOW, again)
            .await
            .unwrap();
        let expected = Accepted {
            replaced: 1,
            repeated: 1,
            outdated: 1,
            ..Accepted::default()
        };
        assert_eq!(accepted, expected);
        let known = test_ingest.book.get(MOSCOW, "A").unwrap().level();
        assert_eq!(
            Some(known.updated_at),
            stated_update("A", 1, ten).updated_at
        );
        let recorded = test_ingest.recorded.lock().unwrap().last().cloned();
        let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(
            recorded,
            Some((MOSCOW, Origin::File, names("B"), names("A")))
        );
    }

    #[tokio::test]
    async fn a_date_that_a_clock_left_in_the_future_does_not_win() {
        let test_ingest = test_ingest().await;
        let now = Clock::wall().now();
        let dated = |count: i64, seconds: i64| Update {
            sku: Sku::parse("A").unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some((now + TimeDelta::seconds(seconds)).into()),
        };
        let count = || {
            test_ingest
                .book
                .get(MOSCOW, "A")
                .unwrap()
                .level()
                .count
                .get()
        };
        let accept = |update| {
            test_ingest
                .ingest
                .accept(Origin::CampaignPut, MOSCOW, vec![update])
        };
        accept(dated(1, 7_200)).await.unwrap();
        for (update, replaces) in [
            // Older than an update may be that is still on its way.
            (dated(2, -3_600), false),
            (dated(3, -10), true),
            // From then on the true dates count.
            (dated(4, -20), false),
            (dated(5, -5), true),
        ] {
            let (before, stated_count) = (count(), update.count.get());
            let accepted = accept(update).await.unwrap();
            assert_eq!(
                (accepted.replaced, accepted.outdated),
                (replaces.into(), (!replaces).into())
            );
            assert_eq!(count(), if replaces { stated_count } else { before });
        }
        assert!(test_ingest.alarms.is_active(AlarmKind::ClockJumped));
        // A complete export of the same is no change.
        let again = test_ingest
            .ingest
            .accept_unchanged(Origin::File, MOSCOW, vec![dated(5, -1)])
            .await
            .unwrap();
        assert_eq!(again.repeated, 1);
        test_ingest.store.close().await.unwrap();
        let config = store::Config {
            path: test_ingest.directory.path().join("store"),
        };
        let disk = Store::open(&config, &identities()).await.unwrap();
        assert_eq!(disk.book.get(MOSCOW, "A").unwrap().level().count.get(), 5);
        disk.store.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_date_a_few_minutes_ahead_is_a_sellers_and_wins() {
        let test_ingest = test_ingest().await;
        let now = Clock::wall().now();
        let dated = |count: i64, seconds: i64| Update {
            sku: Sku::parse("A").unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some((now + TimeDelta::seconds(seconds)).into()),
        };
        let accept = |update| {
            test_ingest
                .ingest
                .accept(Origin::CampaignPut, MOSCOW, vec![update])
        };
        accept(dated(1, 240)).await.unwrap();
        assert_eq!(accept(dated(2, 0)).await.unwrap().outdated, 1);
        assert!(!test_ingest.alarms.is_active(AlarmKind::ClockJumped));
    }

    #[tokio::test]
    async fn several_shops_are_taken_in_one_call_and_told_of_one_by_one() {
        let test_ingest = test_ingest().await;
        let ten = "10:00:00";
        let both = vec![
            (MOSCOW, vec![stated_update("A", 1, ten)]),
            (
                OMSK,
                vec![stated_update("A", 2, ten), stated_update("B", 3, ten)],
            ),
        ];
        let accepted = test_ingest
            .ingest
            .accept_all(Origin::BusinessPost, both)
            .await
            .unwrap();
        assert_eq!(
            accepted,
            Accepted {
                added: 3,
                ..Accepted::default()
            }
        );
        let recorded = test_ingest.recorded.lock().unwrap().clone();
        assert_eq!(
            recorded.iter().map(|(shop, ..)| *shop).collect::<Vec<_>>(),
            [MOSCOW, OMSK]
        );
        assert!(
            recorded
                .iter()
                .all(|(_, origin, ..)| *origin == Origin::BusinessPost)
        );
        test_ingest.store.close().await.unwrap();
        let config = store::Config {
            path: test_ingest.directory.path().join("store"),
        };
        let disk = Store::open(&config, &identities()).await.unwrap();
        for (shop, sku, count) in [(MOSCOW, "A", 1), (OMSK, "A", 2), (OMSK, "B", 3)] {
            let level = test_ingest.book.get(shop, sku).unwrap().level();
            assert_eq!(level.count.get(), count, "{sku}");
            assert_eq!(disk.book.get(shop, sku).unwrap().level(), level, "{sku}");
        }
        disk.store.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_taken_by_no_shop_and_told_to_nobody() {
        let test_ingest = test_ingest().await;
        test_ingest.store.close().await.unwrap();
        let ten = "10:00:00";
        let both = vec![
            (MOSCOW, vec![stated_update("A", 1, ten)]),
            (OMSK, vec![stated_update("B", 2, ten)]),
        ];
        test_ingest
            .ingest
            .accept_all(Origin::BusinessPost, both)
            .await
            .unwrap_err();
        assert!(
            test_ingest.book.get(MOSCOW, "A").is_none()
                && test_ingest.book.get(OMSK, "B").is_none()
        );
        assert!(test_ingest.recorded.lock().unwrap().is_empty());
    }
}

//! Brings the Market's copy into line with ours.
//!
//! One lane a shop: a task that compares book and ledger, sends what differs, and judges the
//! answers, by itself, so that one shop's trouble never delays another's. The deciding is apart
//! from the doing: [`plan`] decides, out of [`batch`] what goes next, [`scan`] what there is to
//! send, [`pace`] how much, [`verdict`] what an answer means, [`standing`] when to try again,
//! [`quarantine`] what to leave out. [`reconcile`] reads back what the Market has made of it all,
//! and [`selftest`] makes the Market's own check.

pub mod backoff;
pub mod classify_response;
pub mod clock_skew;
mod ledger;
pub mod planner;
pub mod quarantine;
pub mod queue;
pub mod rate_limit;
pub mod readback;
pub mod rejected_keys;
pub mod rescan;
pub mod selftest;
mod status;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use ledger::Ledger;
pub use status::{QuarantinedSku, WorkerStatus};

use self::classify_response::ResponseVerdict;
use self::rate_limit::SharedRateLimiter;
use self::readback::{Observations, ReadbackReport};
use self::rejected_keys::RejectedKeys;
use self::selftest::{Selftest, SelftestRunner, SelftestStartError};
use self::status::WorkerHandle;
use self::worker::SyncWorker;
use crate::clock::Clock;
use crate::history::History;
use crate::http::secret::Secret;
use crate::lifecycle::Tasks;
use crate::partner_api::client::MarketClient;
use crate::partner_api::wire::MarketAddress;
use crate::stock::{Activity, ShopId, Sku, StockBook};
use crate::store::{QuarantineEntry, RecentSend, Store};
use crate::telemetry::Alarms;

/// Most requests at a time that the Market allows; it allowed two in 2025, and two, our
/// default, are enough to spend the minute's volume. Source: the limits page, 2026.
pub const MAX_PARALLEL_REQUESTS: usize = 4;

/// What is done with what the Market lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Nothing, and the Market is not called.
    Off,
    /// It is read back and compared, and nothing is sent.
    DryRun,
    /// It is sent.
    On,
}

impl Mode {
    /// Reads its name in the configuration.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::DryRun, Self::On]
            .into_iter()
            .find(|mode| mode.name() == text)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::DryRun => "dry-run",
            Self::On => "on",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where one shop's stock goes.
#[derive(Clone, Debug)]
pub struct MarketTarget {
    /// Its place in the book.
    pub shop: ShopId,
    /// Its name, in logs and metrics.
    pub name: String,
    /// By which method the Market is told.
    pub address: MarketAddress,
    /// Its campaign, by which products are hidden and shown.
    pub campaign: u64,
    /// Its warehouses, as a read-back by that method numbers them.
    pub warehouses: Vec<u64>,
    /// Whether anything is sent, or only compared.
    pub mode: Mode,
    /// One key or two: the second is tried when the first is refused.
    pub keys: Vec<Secret>,
    /// Requests at a time, `1..=4`.
    pub parallel: usize,
    /// The part of the Market's limit that is ours, `0.0..=1.0`, where other programs send too.
    pub limit_share: f64,
}

/// What this room needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has.
    pub ledger: Arc<Ledger>,
    /// When the seller last asserted what.
    pub activity: Arc<Activity>,
    /// What the Market showed of each SKU.
    pub observations: Arc<Observations>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
    /// How often the Market's copy is read back; `None` for only when asked.
    pub readback_every: Option<Duration>,
    /// How long the Market may take to show what it took.
    pub grace: TimeDelta,
    /// Where acknowledgements and the quarantine survive.
    pub store: Arc<Store>,
    /// The Market.
    pub market: MarketClient,
    /// For dates and pauses that outlive the process.
    pub clock: Clock,
    /// Pauses, quarantine, silence.
    pub alarms: Alarms,
    /// Counts for the operator.
    pub metrics: Metrics,
}

/// What the store remembers for one lane.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    /// SKUs set aside.
    pub quarantined: Vec<QuarantineEntry>,
    /// What was sent in the last minutes.
    pub recent_sends: Vec<RecentSend>,
    /// When the Market's copy was last explained whole.
    pub last_equal: Option<DateTime<Utc>>,
    /// Until when the Market wants no stock, as it said with a refusal for volume.
    pub limited_until: Option<DateTime<Utc>>,
    /// Products that are hidden, at the target's own place, for a check that was cut off.
    pub hidden_skus: Vec<Sku>,
}

/// Under which name a shop's [`Memory::last_equal`] is noted in the store; a blank and the target
/// follow the time, as another target's copy says nothing of ours.
pub const LAST_EQUAL_NOTE: &str = "last_equal";

/// The same for [`Memory::limited_until`].
pub const LIMITED_UNTIL_NOTE: &str = "limited_until";

/// How the names begin under which [`Memory::hidden`] are noted; the SKU follows. The text is the
/// [`selftest::place`].
pub const HIDDEN_NOTE_PREFIX: &str = "hidden:";

/// All lanes, from outside.
#[derive(Clone, Default)]
pub struct Migrator {
    handles: Arc<HashMap<ShopId, Arc<WorkerHandle>>>,
    selftests: Arc<HashMap<ShopId, SelftestRunner>>,
}

impl fmt::Debug for Migrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handles.keys()).finish()
    }
}

impl Migrator {
    /// Starts a lane for each target, with what the store remembers for it.
    ///
    /// `seed` feeds the jitter of the pauses.
    #[must_use]
    pub fn start(
        context: &Context,
        targets: Vec<(MarketTarget, RestoredState)>,
        seed: u64,
        tasks: &Tasks,
    ) -> Self {
        let limiters = rate_limiters(&targets);
        let rejected_keys = RejectedKeys::default();
        let mut handles = HashMap::new();
        let mut selftests = HashMap::new();
        let mut workers = Vec::new();
        for (target, restored) in targets {
            let handle = Arc::new(WorkerHandle::default());
            handles.insert(target.shop, Arc::clone(&handle));
            let rng = StdRng::seed_from_u64(seed.wrapping_add(u64::from(target.shop.0)));
            let limiter = limiters[&target.shop].clone();
            let runner = SelftestRunner {
                target: Arc::new(target.clone()),
                context: context.clone(),
                worker: Arc::clone(&handle),
                latest_selftest: Arc::default(),
                tasks: tasks.clone(),
            };
            runner.resume_interrupted(restored.hidden_skus.clone());
            selftests.insert(target.shop, runner);
            workers.push(SyncWorker::new(
                target,
                context.clone(),
                handle,
                restored,
                (rng, limiter, rejected_keys.clone()),
            ));
        }
        // Not before all of them exist: each has noted in the limit it may share what it sent in an
        // earlier life.
        for worker in workers {
            tasks.spawn("migrator", worker.run(tasks.clone()));
        }
        Self {
            handles: Arc::new(handles),
            selftests: Arc::new(selftests),
        }
    }

    /// These SKUs of this shop have changed.
    pub fn notify_changed(&self, shop: ShopId, skus: &[Sku]) {
        if let Some(handle) = self.handles.get(&shop) {
            handle.notify_changed(skus);
        }
    }

    /// Somebody wants this shop's copy on the Market read back now; whether it has a lane.
    #[must_use]
    pub fn request_readback(&self, shop: ShopId) -> bool {
        let handle = self.handles.get(&shop);
        handle.inspect(|handle| handle.request_readback()).is_some()
    }

    /// Begins the Market's own check of the integration with one product.
    ///
    /// # Errors
    /// Says why it did not begin; nothing was touched.
    pub fn start_selftest(&self, shop: ShopId, sku: &Sku) -> Result<(), SelftestStartError> {
        self.selftests
            .get(&shop)
            .ok_or(SelftestStartError::NotForwarded)?
            .start(sku)
    }

    /// The check of a shop that runs, or ran last.
    #[must_use]
    pub fn latest_selftest(&self, shop: ShopId) -> Option<Selftest> {
        self.selftests.get(&shop)?.latest_selftest.get()
    }

    /// What reading back has come to; `None` if the Market is not called for this shop.
    #[must_use]
    pub fn readback_report(&self, shop: ShopId) -> Option<ReadbackReport> {
        self.handles
            .get(&shop)
            .map(|handle| handle.readback_report())
    }

    /// What the lane of this shop says of itself; `None` if nothing is forwarded.
    #[must_use]
    pub fn status(&self, shop: ShopId) -> Option<WorkerStatus> {
        self.handles.get(&shop).map(|handle| handle.status())
    }
}

/// A purse for each campaign, and one for each cabinet, of which the smallest share counts.
fn rate_limiters(targets: &[(MarketTarget, RestoredState)]) -> HashMap<ShopId, SharedRateLimiter> {
    let mut by_business: HashMap<u64, SharedRateLimiter> = HashMap::new();
    let mut limiters = HashMap::new();
    for (target, _) in targets {
        let limiter = match target.address.business_id() {
            None => SharedRateLimiter::new(&target.address, target.limit_share),
            Some(id) => {
                let same_business = targets
                    .iter()
                    .filter(|(t, _)| t.address.business_id() == Some(id));
                let share = same_business
                    .map(|(target, _)| target.limit_share)
                    .fold(1.0, f64::min);
                by_business
                    .entry(id)
                    .or_insert_with(|| SharedRateLimiter::new(&target.address, share))
                    .clone()
            }
        };
        limiters.insert(target.shop, limiter);
    }
    limiters
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResponseLabels {
    shop: String,
    verdict: &'static str,
}

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<ResponseLabels, Counter>,
    skus: Family<ResponseLabels, Counter>,
}

impl Metrics {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "market_requests",
            "Batches sent to the Market, by what its answer meant",
            self.requests.clone(),
        );
        registry.register(
            "market_skus",
            "SKUs in batches sent to the Market, by what its answer meant",
            self.skus.clone(),
        );
    }

    fn record(&self, shop: &str, verdict: &ResponseVerdict, skus: usize) {
        let labels = ResponseLabels {
            shop: shop.to_owned(),
            verdict: verdict.name(),
        };
        self.requests.get_or_create(&labels).inc();
        self.skus.get_or_create(&labels).inc_by(skus as u64);
    }
}

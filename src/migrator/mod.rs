//! Brings the Market's copy into line with ours.
//!
//! One lane a shop: a task that compares book and ledger, sends what differs, and judges the
//! answers, by itself, so that one shop's trouble never delays another's. The deciding is apart
//! from the doing: [`plan`] decides, out of [`batch`] what goes next, [`scan`] what there is to
//! send, [`pace`] how much, [`verdict`] what an answer means, [`standing`] when to try again,
//! [`quarantine`] what to leave out. [`reconcile`] reads back what the Market has made of it all,
//! and [`selftest`] makes the Market's own check.

pub mod batch;
mod desk;
pub mod keys;
mod ledger;
pub mod pace;
pub mod plan;
pub mod quarantine;
pub mod reconcile;
mod run;
pub mod scan;
pub mod selftest;
pub mod skew;
pub mod standing;
pub mod verdict;

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

pub use desk::{Aside, Report};
pub use ledger::Ledger;

use self::desk::Desk;
use self::keys::Keys;
use self::pace::Purse;
use self::reconcile::{Sightings, Survey};
use self::run::Lane;
use self::selftest::{Bench, NotBegun, Selftest};
use self::verdict::Verdict;
use crate::clock::Clock;
use crate::history::History;
use crate::http::secret::Secret;
use crate::lifecycle::Tasks;
use crate::partner::client::MarketClient;
use crate::partner::wire::Address;
use crate::stock::{Marks, ShopId, Sku, StockBook};
use crate::store::{Quarantined, Spent, Store};
use crate::telemetry::Alarms;

/// Most requests at a time that the Market allows; it allowed two in 2025, and two, our
/// default, are enough to spend the minute's volume. Source: the limits page, 2026.
pub const MAX_PARALLEL: usize = 4;

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
pub struct Target {
    /// Its place in the book.
    pub shop: ShopId,
    /// Its name, in logs and metrics.
    pub name: String,
    /// By which method the Market is told.
    pub address: Address,
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
    pub marks: Arc<Marks>,
    /// What the Market showed of each SKU.
    pub sightings: Arc<Sightings>,
    /// What happened to each SKU lately.
    pub history: Arc<History>,
    /// How often the Market's copy is read back; `None` for only when asked.
    pub verify_every: Option<Duration>,
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
pub struct Memory {
    /// SKUs set aside.
    pub quarantined: Vec<Quarantined>,
    /// What was sent in the last minutes.
    pub spent: Vec<Spent>,
    /// When the Market's copy was last explained whole.
    pub last_equal: Option<DateTime<Utc>>,
    /// Until when the Market wants no stock, as it said with a refusal for volume.
    pub limited_until: Option<DateTime<Utc>>,
    /// Products that are hidden, at the target's own place, for a check that was cut off.
    pub hidden: Vec<Sku>,
}

/// Under which name a shop's [`Memory::last_equal`] is noted in the store; a blank and the target
/// follow the time, as another target's copy says nothing of ours.
pub const LAST_EQUAL: &str = "last_equal";

/// The same for [`Memory::limited_until`].
pub const LIMITED_UNTIL: &str = "limited_until";

/// How the names begin under which [`Memory::hidden`] are noted; the SKU follows. The text is the
/// [`selftest::place`].
pub const HIDDEN: &str = "hidden:";

/// All lanes, from outside.
#[derive(Clone, Default)]
pub struct Migrator {
    desks: Arc<HashMap<ShopId, Arc<Desk>>>,
    benches: Arc<HashMap<ShopId, Bench>>,
}

impl fmt::Debug for Migrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.desks.keys()).finish()
    }
}

impl Migrator {
    /// Starts a lane for each target, with what the store remembers for it.
    ///
    /// `seed` feeds the jitter of the pauses.
    #[must_use]
    pub fn start(
        context: &Context,
        targets: Vec<(Target, Memory)>,
        seed: u64,
        tasks: &Tasks,
    ) -> Self {
        let purses = purses(&targets);
        let keys = Keys::default();
        let mut desks = HashMap::new();
        let mut benches = HashMap::new();
        let mut lanes = Vec::new();
        for (target, memory) in targets {
            let desk = Arc::new(Desk::default());
            desks.insert(target.shop, Arc::clone(&desk));
            let dice = StdRng::seed_from_u64(seed.wrapping_add(u64::from(target.shop.0)));
            let purse = purses[&target.shop].clone();
            let bench = Bench {
                target: Arc::new(target.clone()),
                context: context.clone(),
                desk: Arc::clone(&desk),
                stand: Arc::default(),
                tasks: tasks.clone(),
            };
            bench.resume(memory.hidden.clone());
            benches.insert(target.shop, bench);
            lanes.push(Lane::new(
                target,
                context.clone(),
                desk,
                memory,
                (dice, purse, keys.clone()),
            ));
        }
        // Not before all of them exist: each has noted in the limit it may share what it sent in an
        // earlier life.
        for lane in lanes {
            tasks.spawn("migrator", lane.run(tasks.clone()));
        }
        Self {
            desks: Arc::new(desks),
            benches: Arc::new(benches),
        }
    }

    /// These SKUs of this shop have changed.
    pub fn nudge(&self, shop: ShopId, skus: &[Sku]) {
        if let Some(desk) = self.desks.get(&shop) {
            desk.hint(skus);
        }
    }

    /// Somebody wants this shop's copy on the Market read back now; whether it has a lane.
    #[must_use]
    pub fn verify(&self, shop: ShopId) -> bool {
        let desk = self.desks.get(&shop);
        desk.inspect(|desk| desk.hurry()).is_some()
    }

    /// Begins the Market's own check of the integration with one product.
    ///
    /// # Errors
    /// Says why it did not begin; nothing was touched.
    pub fn selftest(&self, shop: ShopId, sku: &Sku) -> Result<(), NotBegun> {
        self.benches
            .get(&shop)
            .ok_or(NotBegun::NotForwarded)?
            .start(sku)
    }

    /// The check of a shop that runs, or ran last.
    #[must_use]
    pub fn latest_selftest(&self, shop: ShopId) -> Option<Selftest> {
        self.benches.get(&shop)?.stand.latest()
    }

    /// What reading back has come to; `None` if the Market is not called for this shop.
    #[must_use]
    pub fn survey(&self, shop: ShopId) -> Option<Survey> {
        self.desks.get(&shop).map(|desk| desk.survey())
    }

    /// What the lane of this shop says of itself; `None` if nothing is forwarded.
    #[must_use]
    pub fn report(&self, shop: ShopId) -> Option<Report> {
        self.desks.get(&shop).map(|desk| desk.report())
    }
}

/// A purse for each campaign, and one for each cabinet, of which the smallest share counts.
fn purses(targets: &[(Target, Memory)]) -> HashMap<ShopId, Purse> {
    let mut shared: HashMap<u64, Purse> = HashMap::new();
    let mut purses = HashMap::new();
    for (target, _) in targets {
        let purse = match target.address.business() {
            None => Purse::new(&target.address, target.limit_share),
            Some(id) => {
                let of_it = targets
                    .iter()
                    .filter(|(t, _)| t.address.business() == Some(id));
                let share = of_it
                    .map(|(target, _)| target.limit_share)
                    .fold(1.0, f64::min);
                shared
                    .entry(id)
                    .or_insert_with(|| Purse::new(&target.address, share))
                    .clone()
            }
        };
        purses.insert(target.shop, purse);
    }
    purses
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct VerdictLabels {
    shop: String,
    verdict: &'static str,
}

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<VerdictLabels, Counter>,
    skus: Family<VerdictLabels, Counter>,
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

    fn note(&self, shop: &str, verdict: &Verdict, skus: usize) {
        let labels = VerdictLabels {
            shop: shop.to_owned(),
            verdict: verdict.name(),
        };
        self.requests.get_or_create(&labels).inc();
        self.skus.get_or_create(&labels).inc_by(skus as u64);
    }
}

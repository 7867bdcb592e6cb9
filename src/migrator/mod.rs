//! Keeps the Market's stock equal to the seller's.
//!
//! Each shop has a task of its own, so that a failure of one shop never delays another. The task
//! compares book and ledger, sends the differences and evaluates the responses. Decisions are
//! separate from effects: `worker` sends and stores, [`planner`] decides. It uses [`rescan`] to
//! find differences, [`queue`] for their order, [`rate_limit`] for the volume,
//! [`mod@classify_response`] for the meaning of a response, [`backoff`] for pauses and
//! [`quarantine`] for rejected SKUs. [`readback`] compares the Market's copy with the ledger, and
//! [`selftest`] runs the Market's own check of an integration.

pub mod backoff;
pub mod classify_response;
pub mod clock_skew;
mod leading;
mod ledger;
mod market_response_times;
mod metrics;
mod operator_pause;
pub mod planner;
pub mod quarantine;
pub mod queue;
pub mod rate_limit;
pub mod readback;
pub mod rejected_keys;
pub mod rescan;
mod restored_state;
pub mod selftest;
mod sending_events;
mod shop_data;
mod status;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tracing::warn;

pub use ledger::Ledger;
pub use market_response_times::UpdateResponseTimes;
pub use metrics::Metrics;
pub use operator_pause::{OPERATOR_PAUSE_REASON, OperatorPause, OperatorPauseError};
pub use rate_limit::LimitUnit;
pub use restored_state::RestoredState;
pub use shop_data::ShopData;
pub use status::{QuarantinedSku, RateLimitStatus, WorkerState, WorkerStatus};

use lifecycle::Clock;
use lifecycle::Tasks;
use market_api::partner::client::{CallOutcome, MarketClient};
use market_api::partner::wire::MarketAddress;
use stock::{ShopId, Sku};
use strict_http::secret::Secret;

use self::classify_response::{ResponseVerdict, classify_response};
use self::rate_limit::SharedRateLimiter;
use self::readback::ReadbackReport;
use self::rejected_keys::RejectedKeys;
use self::selftest::{Selftest, SelftestRunner, SelftestStartError};
use self::status::WorkerHandle;
use self::worker::SyncWorker;
use crate::event_log::EventLog;
use crate::replicas::{LeaderLease, SendingReplica};
use crate::store::{Notes, Store};
use crate::telemetry::Alarms;

/// Largest number of parallel requests that the Market allows. It allowed two in 2025. Two, our
/// default, are enough to use the whole rate limit. Source: the limits page, 2026.
pub const MAX_PARALLEL_REQUESTS: usize = 4;

/// Forwarding mode of a shop.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    PartialEq,
    Serialize,
    strum::Display,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Mode {
    /// The Market is not called.
    #[default]
    Off,
    /// The Market's stock is read back and compared. Nothing is sent.
    DryRun,
    /// Differences are sent, and the Market's stock is read back.
    On,
}

impl Mode {
    /// Returns the value of the setting `migrate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Destination of one shop's stock.
#[derive(Clone, Debug)]
pub struct MarketTarget {
    /// Index of the shop in the book.
    pub shop: ShopId,
    /// Shop name in logs and metrics.
    pub name: String,
    /// API method, and the campaign or business it is called for.
    pub address: MarketAddress,
    /// Campaign id. The self-test hides and shows products by campaign.
    pub campaign: u64,
    /// Warehouse ids as they appear in read-back pages of that method.
    pub warehouses: Vec<u64>,
    /// Forwarding mode.
    pub mode: Mode,
    /// One or two Api-Keys. The second is used when the first is rejected.
    pub keys: Vec<Secret>,
    /// Largest number of parallel requests, `1..=4`.
    pub parallel: usize,
    /// Part of the Market's rate limit that this program may use, `0.0..=1.0`. Other programs may
    /// use the rest.
    pub limit_share: f64,
}

impl MarketTarget {
    /// Calls the Market with one key after the other, from this one on, until one is not rejected.
    async fn call_with_any_key<F: Future<Output = CallOutcome>>(
        &self,
        first_key: usize,
        call: impl Fn(Secret) -> F,
    ) -> CallOutcome {
        let mut keys = self.keys.clone();
        keys.rotate_left(first_key);
        let mut outcome = CallOutcome::NoResponse("no Api-Key is configured".to_owned());
        for key in keys {
            outcome = call(key).await;
            let verdict = classify_response(&outcome);
            if !matches!(verdict, ResponseVerdict::AuthRejected { .. }) {
                break;
            }
        }
        outcome
    }
}

/// Dependencies of all workers.
#[derive(Clone, Debug)]
pub struct Context {
    /// Stock of all shops, and what is known about each SKU.
    pub data: ShopData,
    /// Interval between scheduled read-back passes; `None` if passes run only on request.
    pub readback_every: Option<Duration>,
    /// Time that the Market may take to show an accepted update.
    pub grace: TimeDelta,
    /// Persistence of acknowledgements and the quarantine.
    pub store: Arc<Store>,
    /// Rights to call the Market, by shop.
    pub leases: ShopLeases,
    /// Client of the Market's API.
    pub market: MarketClient,
    /// Longest duration of a request of that client.
    pub request_timeout: Duration,
    /// Wall clock, for dates and for pauses that survive a restart.
    pub clock: Clock,
    /// Alarms for pauses, quarantine, drift and missing acknowledgements.
    pub alarms: Alarms,
    /// Log of pauses, read-backs, quarantined SKUs and self-tests.
    pub events: EventLog,
    /// Counters of requests and SKUs.
    pub metrics: Metrics,
}

/// Rights to call the Market, and how a worker that gets one learns its state.
#[derive(Clone)]
pub struct ShopLeases {
    by_shop: Arc<HashMap<ShopId, LeaderLease>>,
    restore: RestoreFn,
}

/// Reads the state of a shop's worker from notes that another process may have changed.
pub type RestoreFn = Arc<dyn Fn(ShopId, &Notes) -> RestoredState + Send + Sync>;

impl ShopLeases {
    /// Creates the rights; a shop without a lease may always call the Market.
    #[must_use]
    pub fn new(by_shop: HashMap<ShopId, LeaderLease>, restore: RestoreFn) -> Self {
        Self {
            by_shop: Arc::new(by_shop),
            restore,
        }
    }

    /// Returns the rights of the only process that uses a store.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(HashMap::new(), Arc::new(|_, _| RestoredState::default()))
    }

    /// Returns the lease for a shop.
    #[must_use]
    pub fn of_shop(&self, shop: ShopId) -> LeaderLease {
        let lease = self.by_shop.get(&shop).cloned();
        lease.unwrap_or_else(LeaderLease::unlimited)
    }

    /// Returns this shop and the others whose requests the Market counts together with its own: they
    /// have one lease.
    fn counted_with(&self, shop: ShopId) -> Vec<ShopId> {
        let lease = self.of_shop(shop);
        let is_counted =
            |(id, other): &(&ShopId, &LeaderLease)| **id == shop || lease.is_same(other);
        let shops = self.by_shop.iter().filter(is_counted);
        let mut shops: Vec<ShopId> = shops.map(|(id, _)| *id).collect();
        shops.sort_unstable();
        shops
    }
}

impl fmt::Debug for ShopLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_shop.keys()).finish()
    }
}

/// Handle to the workers and self-tests of all shops. Clones share them.
#[derive(Clone, Default)]
pub struct Migrator {
    shops: Arc<HashMap<ShopId, ShopHandle>>,
}

/// Handle to the worker and the self-tests of one shop.
struct ShopHandle {
    worker: Arc<WorkerHandle>,
    selftests: SelftestRunner,
    // Orders the changes of the operator's pause, so that disk and memory end with the same one.
    pause_order: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Migrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.shops.keys()).finish()
    }
}

impl Migrator {
    /// Starts a worker for each target, with its restored state.
    ///
    /// `seed` determines the jitter of the pauses.
    #[must_use]
    pub fn start(
        context: &Context,
        targets: Vec<(MarketTarget, RestoredState)>,
        seed: u64,
        tasks: &Tasks,
    ) -> Self {
        let limiters = rate_limiters(&targets);
        let rejected_keys = RejectedKeys::default();
        let mut shops = HashMap::new();
        let mut workers = Vec::new();
        for (target, restored) in targets {
            let (shop, name) = (target.shop, &target.name);
            if target.mode == Mode::DryRun {
                warn!(
                    shop = name,
                    "DRY RUN: stock of {name} is compared with the Market, but not sent"
                );
            }
            let worker = Arc::new(WorkerHandle::new(target.keys.clone()));
            worker.set_operator_pause(restored.operator_pause.clone());
            let selftests = SelftestRunner {
                target: Arc::new(target.clone()),
                context: context.clone(),
                worker: Arc::clone(&worker),
                latest_selftest: Arc::default(),
                tasks: tasks.clone(),
            };
            // With other replicas, the worker does this when it begins to lead.
            if !context.store.is_shared() {
                selftests.resume_interrupted(restored.hidden_skus.clone());
            }
            workers.push(SyncWorker::new(
                target,
                context.clone(),
                (Arc::clone(&worker), selftests.clone()),
                restored,
                limiters[&shop].clone(),
                rejected_keys.clone(),
                StdRng::seed_from_u64(seed.wrapping_add(u64::from(shop.0))),
            ));
            let handle = ShopHandle {
                worker,
                selftests,
                pause_order: tokio::sync::Mutex::default(),
            };
            shops.insert(shop, handle);
        }
        // No worker starts before all are created: the shops of one business share a rate limiter,
        // and the creation of a worker adds to it the requests that its shop sent before the restart.
        for worker in workers {
            tasks.spawn("migrator", worker.run(tasks.clone()));
        }
        Self {
            shops: Arc::new(shops),
        }
    }

    fn worker(&self, shop: ShopId) -> Option<&WorkerHandle> {
        self.shops.get(&shop).map(|handle| &*handle.worker)
    }

    /// Notifies the shop's worker of changed SKUs; does nothing if the shop has no worker.
    pub fn notify_changed(&self, shop: ShopId, skus: &[Sku]) {
        if let Some(worker) = self.worker(shop) {
            worker.notify_changed(skus);
        }
    }

    /// Lets the shop's worker compare all SKUs; does nothing if the shop has no worker.
    pub fn request_rescan(&self, shop: ShopId) {
        if let Some(worker) = self.worker(shop) {
            worker.request_rescan();
        }
    }

    /// Requests a read-back pass now. Returns false if the shop has no worker, or another replica
    /// calls the Market for it.
    #[must_use]
    pub fn request_readback(&self, shop: ShopId) -> bool {
        let handle = self.shops.get(&shop);
        let handle = handle.filter(|handle| handle.selftests.lead_obstacle().is_none());
        handle
            .inspect(|handle| handle.worker.request_readback())
            .is_some()
    }

    /// Returns why this process does not call the Market for the shop, if another replica does.
    #[must_use]
    pub fn lead_obstacle(&self, shop: ShopId) -> Option<String> {
        let handle = self.shops.get(&shop)?;
        handle.selftests.lead_obstacle()
    }

    /// Returns the replica that calls the Market for the shop. `None` if this process alone uses its
    /// store, or the Market is not called for the shop.
    #[must_use]
    pub fn sender(&self, shop: ShopId) -> Option<SendingReplica> {
        self.shops.get(&shop)?.selftests.sender()
    }

    /// Takes over the pauses that operators have set or ended on other replicas.
    pub fn take_over_pauses(&self, notes: &Notes) {
        for (shop, handle) in &*self.shops {
            let note = notes.get(Some(*shop), operator_pause::OPERATOR_PAUSE_NOTE);
            handle.take_over_pause(note);
        }
    }

    /// Replaces the shop's Api-Keys. The worker uses them when its requests in flight have ended.
    pub fn replace_keys(&self, shop: ShopId, keys: &[Secret]) {
        if let Some(worker) = self.worker(shop) {
            worker.replace_keys(keys);
        }
    }

    /// Starts the Market's own check of an integration with one product.
    ///
    /// # Errors
    /// The reason why the check did not start. Nothing was changed.
    pub fn start_selftest(&self, shop: ShopId, sku: &Sku) -> Result<(), SelftestStartError> {
        let handle = self.shops.get(&shop);
        let handle = handle.ok_or(SelftestStartError::NotForwarded)?;
        handle.selftests.start(sku)
    }

    /// Returns the running or the latest self-test of a shop.
    #[must_use]
    pub fn latest_selftest(&self, shop: ShopId) -> Option<Selftest> {
        self.shops.get(&shop)?.selftests.latest_selftest.get()
    }

    /// Returns the report of the latest read-back pass; `None` if the Market is not called for
    /// this shop.
    #[must_use]
    pub fn readback_report(&self, shop: ShopId) -> Option<ReadbackReport> {
        self.worker(shop)
            .map(|worker| worker.readback.lock().clone())
    }

    /// Returns the status of the shop's worker; `None` if the Market is not called for this shop.
    #[must_use]
    pub fn status(&self, shop: ShopId) -> Option<WorkerStatus> {
        self.worker(shop).map(|worker| worker.status.lock().clone())
    }
}

/// Creates one rate limiter per campaign, and one per business for all its shops. A shared limiter
/// uses the smallest `limit_share` of these shops.
fn rate_limiters(targets: &[(MarketTarget, RestoredState)]) -> HashMap<ShopId, SharedRateLimiter> {
    let mut limiters: HashMap<ShopId, SharedRateLimiter> = HashMap::new();
    for (target, _) in targets {
        let business = target.address.business_id();
        let is_shared_with = |other: &&MarketTarget| {
            let has_same_business = business.is_some() && other.address.business_id() == business;
            has_same_business || other.shop == target.shop
        };
        let mut sharing = targets
            .iter()
            .map(|(other, _)| other)
            .filter(is_shared_with);
        let share = sharing.clone().map(|it| it.limit_share).fold(1.0, f64::min);
        let known = sharing.find_map(|other| limiters.get(&other.shop)).cloned();
        let limiter = known.unwrap_or_else(|| SharedRateLimiter::new(&target.address, share));
        limiters.insert(target.shop, limiter);
    }
    limiters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shops_with_one_lease_are_counted_together() {
        let lease = |name: &str| LeaderLease::named(name.to_owned(), Duration::ZERO);
        let (business, campaign) = (lease("business 9"), lease("campaign 1"));
        let by_shop = [
            (ShopId(0), business.clone()),
            (ShopId(1), campaign),
            (ShopId(2), business),
        ];
        let restore: RestoreFn = Arc::new(|_, _| RestoredState::default());
        let leases = ShopLeases::new(by_shop.into(), restore);
        for (shop, expected) in [(0, &[0, 2][..]), (1, &[1]), (2, &[0, 2])] {
            let counted = leases.counted_with(ShopId(shop));
            let counted: Vec<u16> = counted.into_iter().map(|shop| shop.0).collect();
            assert_eq!(counted, expected, "shop {shop}");
        }
    }
}

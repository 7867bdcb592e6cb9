//! The simulated API: state of the simulator, its controls for tests, and its counters.
//!
//! `routes` dispatches a request to a method. The methods check it (`request_checks`),
//! and read or change the state.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::faults::{DrawnFault, FaultPlan};
use super::quota::QuotaOwner;
use super::registry::{AccountRegistry, SimCampaign};
use super::request_validation::SimUpdateLine;
use super::simulator_report::{LoggedRequest, MarketViolation, RequestLog, SimulatorReport};
use super::warehouse_stock::{SkuStocks, StockRecord};

mod account_methods;
mod hidden_offer_methods;
mod page_request;
mod readback_methods;
mod request_checks;
mod routes;
mod sim_request;
mod simulator_config;
mod update_methods;

pub use simulator_config::{
    Availability, CampaignConfig, DEFAULT_BUSINESS_ID, Placement, SimKeyScope, SimWarehouseGroup,
    SimulatorConfig,
};

/// Handle to a simulated Market. Clones share its state.
#[derive(Clone, Debug)]
pub struct MarketSimulator {
    state: Arc<SimulatorState>,
}

#[derive(Debug)]
struct SimulatorState {
    config: SimulatorConfig,
    registry: AccountRegistry,
    revoked_keys: Mutex<HashSet<String>>,
    active_plan: Mutex<ActivePlan>,
    request_log: Mutex<RequestLog>,
}

/// Active fault plan and the number of the next request.
#[derive(Debug, Default)]
struct ActivePlan {
    plan: Arc<FaultPlan>,
    next_number: u64,
}

/// Plan, number and fault of one request.
struct PlannedOutcome {
    plan: Arc<FaultPlan>,
    number: u64,
    fault: Option<DrawnFault>,
}

impl MarketSimulator {
    /// Creates a simulator without any stock.
    #[must_use]
    pub fn new(config: SimulatorConfig) -> Self {
        let registry = AccountRegistry::new(&config);
        Self {
            state: Arc::new(SimulatorState {
                config,
                registry,
                revoked_keys: Mutex::default(),
                active_plan: Mutex::default(),
                request_log: Mutex::default(),
            }),
        }
    }

    /// Activates a fault plan. Request numbers start at 0 again.
    pub fn set_faults(&self, plan: FaultPlan) {
        *self.state.active_plan.lock() = ActivePlan {
            plan: Arc::new(plan),
            next_number: 0,
        };
    }

    /// Removes the fault plan. Revoked keys stay revoked.
    pub fn clear_faults(&self) {
        self.set_faults(FaultPlan::none());
    }

    /// Removes the fault plan, except for its rejected SKUs.
    pub fn clear_faults_keep_rejected(&self) {
        let plan = self.state.active_plan.lock().plan.rejected_skus_only();
        self.set_faults(plan);
    }

    /// Answers this key with 401 from now on.
    pub fn revoke_key(&self, key: &str) {
        self.state.revoked_keys.lock().insert(key.to_owned());
    }

    /// Accepts a revoked key again.
    pub fn restore_key(&self, key: &str) {
        self.state.revoked_keys.lock().remove(key);
    }

    /// Stores a count as if the Market had received, acknowledged and published it already.
    pub fn seed_stock(&self, campaign: u64, sku: &str, count: u32, updated_at: DateTime<Utc>) {
        let line = SimUpdateLine {
            sku: sku.into(),
            count,
            updated_at: updated_at.into(),
        };
        if let Some(campaign) = self.campaign(campaign) {
            campaign.stock.seed(&line, self.now());
        }
    }

    /// Orders up to `pieces` available pieces for buyers, and returns the ordered number.
    ///
    /// `AVAILABLE` decreases and `FREEZE` increases by this number, so `FIT` stays the same. The
    /// change is visible at once. The seller's count ([`MarketSimulator::get`] and
    /// [`MarketSimulator::snapshot`]) does not change.
    #[expect(
        clippy::must_use_candidate,
        reason = "most callers need only the effect"
    )]
    pub fn order(&self, campaign: u64, sku: &str, pieces: u32) -> u32 {
        if !self.state.config.sells(sku) {
            return 0;
        }
        let Some(campaign) = self.campaign(campaign) else {
            return 0;
        };
        let sold = campaign.stock.order(sku, pieces, self.now());
        self.state.request_log.lock().report.pieces_ordered += u64::from(sold);
        sold
    }

    /// Ships up to `pieces` ordered pieces, and returns the shipped number.
    ///
    /// `FREEZE` and `FIT` decrease by this number.
    #[expect(
        clippy::must_use_candidate,
        reason = "most callers need only the effect"
    )]
    pub fn ship(&self, campaign: u64, sku: &str, pieces: u32) -> u32 {
        self.campaign(campaign)
            .map_or(0, |found| found.stock.ship(sku, pieces, self.now()))
    }

    /// Archives a SKU in the campaign's whole warehouse or group. Read-backs then show it only with
    /// the filter `archived` or by its id.
    pub fn archive(&self, campaign: u64, sku: &str) {
        if let Some(campaign) = self.campaign(campaign) {
            campaign.stock.archive(sku);
        }
    }

    /// Returns the counts that the seller sent last for a campaign's warehouse; empty for an unknown
    /// campaign.
    #[must_use]
    pub fn snapshot(&self, campaign: u64) -> SkuStocks {
        let campaign = self.campaign(campaign);
        campaign.map_or_else(SkuStocks::default, |found| found.stock.snapshot())
    }

    /// Returns the record of the seller's updates of one SKU.
    #[must_use]
    pub fn get(&self, campaign: u64, sku: &str) -> Option<StockRecord> {
        self.campaign(campaign)?.stock.get(sku)
    }

    /// Returns the pieces that can be ordered now, even if read-backs do not show them yet.
    #[must_use]
    pub fn available(&self, campaign: u64, sku: &str) -> Option<u32> {
        let is_sold = self.state.config.sells(sku);
        self.campaign(campaign)
            .filter(|_| is_sold)?
            .stock
            .available(sku)
    }

    /// Returns true if the seller has hidden this offer.
    #[must_use]
    pub fn is_hidden(&self, campaign: u64, sku: &str) -> bool {
        self.campaign(campaign)
            .is_some_and(|campaign| campaign.hidden_offers.lock().contains(sku))
    }

    /// Returns the number of SKUs received for a campaign's warehouse.
    #[must_use]
    pub fn len(&self, campaign: u64) -> usize {
        self.campaign(campaign)
            .map_or(0, |campaign| campaign.stock.len())
    }

    /// Returns true if no SKU was received for a campaign's warehouse.
    #[must_use]
    pub fn is_empty(&self, campaign: u64) -> bool {
        self.len(campaign) == 0
    }

    /// Returns the SKUs for which a zero was ever received, in ascending order.
    ///
    /// A wrong zero costs sales even if it is corrected later, so tests compare this list with the
    /// seller's own zeros.
    #[must_use]
    pub fn skus_ever_zero(&self, campaign: u64) -> Vec<String> {
        let campaign = self.campaign(campaign);
        campaign.map_or(Vec::new(), |found| found.stock.skus_ever_zero())
    }

    /// Returns the report of all requests so far.
    #[must_use]
    pub fn report(&self) -> SimulatorReport {
        let mut report = self.state.request_log.lock().report.clone();
        for quota in self.state.registry.quotas() {
            let (updates, parallel) = quota.peaks();
            let peak = match quota.owner {
                QuotaOwner::Campaign(_) => &mut report.peak_skus_per_minute,
                QuotaOwner::Business(_) => &mut report.peak_updates_per_minute,
            };
            *peak = (*peak).max(as_u64(updates));
            report.peak_parallel = report.peak_parallel.max(parallel);
        }
        report
    }

    /// Returns the last ten thousand requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.state.request_log.lock().entries()
    }

    fn now(&self) -> DateTime<Utc> {
        self.state.config.clock.now()
    }

    fn campaign(&self, id: u64) -> Option<&Arc<SimCampaign>> {
        self.state.registry.campaigns.get(&id)
    }

    fn record_violation(
        &self,
        violation: MarketViolation,
        count: u64,
        describe: impl FnOnce() -> String,
    ) {
        let mut log = self.state.request_log.lock();
        log.record_violation(violation, count, describe);
    }

    fn next_outcome(&self, is_readback: bool) -> PlannedOutcome {
        let mut active = self.state.active_plan.lock();
        let number = active.next_number;
        active.next_number += 1;
        let fault = active.plan.draw(number, is_readback);
        PlannedOutcome {
            plan: Arc::clone(&active.plan),
            number,
            fault,
        }
    }

    fn current_plan(&self) -> Arc<FaultPlan> {
        Arc::clone(&self.state.active_plan.lock().plan)
    }
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{any, get, post, put};
use chrono::{DateTime, Utc};

use super::faults::{DrawnFault, FaultPlan};
use super::quota::QuotaOwner;
use super::registry::{AccountRegistry, SimCampaign};
use super::request_validation::SimUpdateLine;
use super::responses::{self, SimErrorResponse};
use super::simulator_report::{
    LoggedRequest, MarketViolation, RequestLog, SimCall, SimulatorReport,
};
use super::warehouse_stock::{SkuStocks, StockRecord};

mod account_methods;
mod hidden_offer_methods;
mod page_request;
mod read_back_methods;
mod request_checks;
mod request_trace;
mod simulator_config;
mod update_methods;

pub use simulator_config::{
    Availability, CampaignConfig, DEFAULT_BUSINESS_ID, Placement, SimKeyScope, SimWarehouseGroup,
    SimulatorConfig,
};

use hidden_offer_methods::VisibilityChange;
use request_trace::RequestTrace;

/// A Market in miniature. A clone is another handle on the same one.
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

/// The plan in force, and how many requests it has seen.
#[derive(Debug, Default)]
struct ActivePlan {
    plan: Arc<FaultPlan>,
    next_number: u64,
}

/// What the plan has in store for one request.
struct PlannedOutcome {
    plan: Arc<FaultPlan>,
    number: u64,
    fault: Option<DrawnFault>,
}

impl MarketSimulator {
    /// A Market that knows nothing of any stock yet.
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

    /// The stock methods of campaigns and businesses, and the methods beside them: the key's
    /// scopes, campaigns, warehouses and hidden offers. These meet no fault but 401 and 423.
    ///
    /// Behind an accept loop other than [`Market::start`]'s, a fault that hangs up without an
    /// answer may show the head of one.
    pub fn router(&self) -> Router {
        let handler_for = |method: SimMethod| {
            move |market: State<Self>, id: Option<Path<String>>, request: Request| {
                dispatch(method, market, id, request)
            }
        };
        let (campaign, business) = ("/v2/campaigns/{campaign}", "/v3/businesses/{business}");
        let (stocks, hidden) = (
            put(handler_for(SimMethod::Update)),
            get(handler_for(SimMethod::ListHiddenOffers)),
        );
        let routes = [
            (
                format!("{campaign}/offers/stocks"),
                stocks.post(handler_for(SimMethod::ReadBack)),
            ),
            (
                format!("{business}/offers/stocks/update"),
                post(handler_for(SimMethod::UpdateBusiness)),
            ),
            (
                format!("{business}/offers/stocks"),
                post(handler_for(SimMethod::ReadBackBusiness)),
            ),
            (
                "/v2/auth/token".to_owned(),
                post(handler_for(SimMethod::ShowKey)),
            ),
            (
                "/v2/campaigns".to_owned(),
                get(handler_for(SimMethod::ListCampaigns)),
            ),
            (
                campaign.to_owned(),
                get(handler_for(SimMethod::ShowCampaign)),
            ),
            (
                "/v2/businesses/{business}/warehouses".to_owned(),
                post(handler_for(SimMethod::ListWarehouses)),
            ),
            (
                format!("{business}/warehouses"),
                post(handler_for(SimMethod::ListPartnerWarehouses)),
            ),
            (
                format!("{campaign}/hidden-offers"),
                hidden.post(handler_for(SimMethod::HideOffers)),
            ),
            (
                format!("{campaign}/hidden-offers/delete"),
                post(handler_for(SimMethod::ShowOffers)),
            ),
        ];
        routes
            .into_iter()
            .fold(Router::new(), |router, (path, methods)| {
                router.route(&path, methods.fallback(method_not_allowed))
            })
            .route("/elsewhere/{*path}", any(redirect_target))
            .fallback(not_found)
            .with_state(self.clone())
    }

    /// From now on this goes wrong. Requests are numbered anew.
    pub fn set_faults(&self, plan: FaultPlan) {
        *lock(&self.state.active_plan) = ActivePlan {
            plan: Arc::new(plan),
            next_number: 0,
        };
    }

    /// From now on nothing goes wrong. Revoked keys stay revoked.
    pub fn clear_faults(&self) {
        self.set_faults(FaultPlan::none());
    }

    /// From now on nothing goes wrong, but for the SKUs that are refused whatever happens.
    pub fn clear_faults_keep_rejected(&self) {
        let plan = lock(&self.state.active_plan).plan.rejected_skus_only();
        self.set_faults(plan);
    }

    /// From now on this key is answered 401.
    pub fn revoke_key(&self, key: &str) {
        lock(&self.state.revoked_keys).insert(key.to_owned());
    }

    /// From now on this key is good again.
    pub fn restore_key(&self, key: &str) {
        lock(&self.state.revoked_keys).remove(key);
    }

    /// Puts a SKU on the Market's shelf as if it had been told, had acknowledged it and showed
    /// it already.
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

    // === What the Market does by itself ===

    /// Buyers order so many pieces, or as many as there are; how many they got.
    ///
    /// `AVAILABLE` falls by that and `FREEZE` rises, so that `FIT` stays, as of now and at once
    /// to be seen. What the seller told, [`Market::get`] and [`Market::snapshot`], stays too.
    #[expect(
        clippy::must_use_candidate,
        reason = "most who call it only want the pieces gone"
    )]
    pub fn order(&self, campaign: u64, sku: &str, pieces: u32) -> u32 {
        let Some(campaign) = self
            .campaign(campaign)
            .filter(|_| self.state.config.sells(sku))
        else {
            return 0;
        };
        let sold = campaign.stock.order(sku, pieces, self.now());
        lock(&self.state.request_log).report.pieces_ordered += u64::from(sold);
        sold
    }

    /// So many ordered pieces leave the warehouse, or as many as are ordered; how many did.
    ///
    /// `FREEZE` and `FIT` fall by that.
    #[expect(
        clippy::must_use_candidate,
        reason = "most who call it only want the pieces gone"
    )]
    pub fn ship(&self, campaign: u64, sku: &str, pieces: u32) -> u32 {
        self.campaign(campaign)
            .map_or(0, |found| found.stock.ship(sku, pieces, self.now()))
    }

    /// Puts a SKU in the archive: read-backs show it to those who ask for the archive, or for
    /// the SKU by name. The whole warehouse, or group, is concerned.
    pub fn archive(&self, campaign: u64, sku: &str) {
        if let Some(campaign) = self.campaign(campaign) {
            campaign.stock.archive(sku);
        }
    }

    // === What it has seen ===

    /// How many of each SKU a campaign's warehouse has, by what the seller told last; nothing
    /// for an unknown campaign.
    #[must_use]
    pub fn snapshot(&self, campaign: u64) -> SkuStocks {
        self.campaign(campaign)
            .map(|campaign| campaign.stock.snapshot())
            .unwrap_or_default()
    }

    /// What the Market was told of one SKU.
    #[must_use]
    pub fn get(&self, campaign: u64, sku: &str) -> Option<StockRecord> {
        self.campaign(campaign)?.stock.get(sku)
    }

    /// How many of a SKU can be ordered now, shown by read-backs already or not yet.
    #[must_use]
    pub fn available(&self, campaign: u64, sku: &str) -> Option<u32> {
        let campaign = self
            .campaign(campaign)
            .filter(|_| self.state.config.sells(sku))?;
        campaign.stock.available(sku)
    }

    /// The seller hid this offer.
    #[must_use]
    pub fn is_hidden(&self, campaign: u64, sku: &str) -> bool {
        self.campaign(campaign)
            .is_some_and(|campaign| campaign.hidden_offers().contains(sku))
    }

    /// How many SKUs of a campaign the Market was told of.
    #[must_use]
    pub fn len(&self, campaign: u64) -> usize {
        self.campaign(campaign)
            .map_or(0, |campaign| campaign.stock.len())
    }

    /// The Market was told of no SKU of this campaign.
    #[must_use]
    pub fn is_empty(&self, campaign: u64) -> bool {
        self.len(campaign) == 0
    }

    /// SKUs that the seller told to be sold out at any time, in order, to be held against what
    /// the seller said: a zero that was mended since has cost sales all the same.
    #[must_use]
    pub fn skus_ever_zero(&self, campaign: u64) -> Vec<String> {
        self.campaign(campaign)
            .map(|campaign| campaign.stock.skus_ever_zero())
            .unwrap_or_default()
    }

    /// What the Market has seen so far.
    #[must_use]
    pub fn report(&self) -> SimulatorReport {
        let mut report = lock(&self.state.request_log).report.clone();
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

    /// The last ten thousand requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        lock(&self.state.request_log).entries()
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
        lock(&self.state.request_log).record_violation(violation, count, describe);
    }

    fn next_outcome(&self, is_read_back: bool) -> PlannedOutcome {
        let mut active = lock(&self.state.active_plan);
        let number = active.next_number;
        active.next_number += 1;
        let fault = active.plan.draw(number, is_read_back);
        PlannedOutcome {
            plan: Arc::clone(&active.plan),
            number,
            fault,
        }
    }

    fn current_plan(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.state.active_plan).plan)
    }
}

// === The doors ===

/// What can be asked of this Market.
#[derive(Clone, Copy, Debug)]
enum SimMethod {
    Update,
    UpdateBusiness,
    ReadBack,
    ReadBackBusiness,
    ShowKey,
    ListCampaigns,
    ShowCampaign,
    ListWarehouses,
    ListPartnerWarehouses,
    HideOffers,
    ShowOffers,
    ListHiddenOffers,
}

impl SimMethod {
    fn call_kind(self) -> SimCall {
        match self {
            Self::Update | Self::UpdateBusiness => SimCall::Update,
            Self::ReadBack | Self::ReadBackBusiness => SimCall::ReadBack,
            Self::ShowKey
            | Self::ListCampaigns
            | Self::ShowCampaign
            | Self::ListWarehouses
            | Self::ListPartnerWarehouses
            | Self::HideOffers
            | Self::ShowOffers
            | Self::ListHiddenOffers => SimCall::Other,
        }
    }

    /// Whom a path with this number is about.
    fn quota_owner(self, id: u64) -> QuotaOwner {
        match self {
            Self::UpdateBusiness
            | Self::ReadBackBusiness
            | Self::ListWarehouses
            | Self::ListPartnerWarehouses => QuotaOwner::Business(id),
            Self::Update
            | Self::ReadBack
            | Self::ShowKey
            | Self::ListCampaigns
            | Self::ShowCampaign
            | Self::HideOffers
            | Self::ShowOffers
            | Self::ListHiddenOffers => QuotaOwner::Campaign(id),
        }
    }
}

async fn dispatch(
    method: SimMethod,
    State(market): State<MarketSimulator>,
    id: Option<Path<String>>,
    request: Request,
) -> Response {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let owner = id.parse().ok().map(|id| method.quota_owner(id));
    let mut trace = RequestTrace::start(&market, owner, method.call_kind());
    let result = match method {
        SimMethod::Update => market.update(&id, request, &mut trace).await,
        SimMethod::UpdateBusiness => market.update_business(&id, request, &mut trace).await,
        SimMethod::ReadBack => market.read_back(&id, request, &mut trace).await,
        SimMethod::ReadBackBusiness => market.read_back_business(&id, request, &mut trace).await,
        SimMethod::ShowKey => market.show_key(&request),
        SimMethod::ListCampaigns => market.list_campaigns(&request),
        SimMethod::ShowCampaign => market.show_campaign(&id, &request),
        SimMethod::ListWarehouses => market.list_warehouses(&id, request, &mut trace).await,
        SimMethod::ListPartnerWarehouses => {
            market
                .list_partner_warehouses(&id, request, &mut trace)
                .await
        }
        SimMethod::HideOffers => {
            market
                .change_visibility(&id, request, &mut trace, VisibilityChange::Hide)
                .await
        }
        SimMethod::ShowOffers => {
            market
                .change_visibility(&id, request, &mut trace, VisibilityChange::Show)
                .await
        }
        SimMethod::ListHiddenOffers => market.list_hidden_offers(&id, &request, &mut trace),
    };
    trace.finish(result)
}

async fn method_not_allowed(State(market): State<MarketSimulator>, request: Request) -> Response {
    let message = format!("Request method '{}' not supported", request.method());
    responses::with_date(
        SimErrorResponse::new(405, message).into_response(),
        market.now(),
    )
}

async fn not_found(State(market): State<MarketSimulator>) -> Response {
    responses::with_date(
        SimErrorResponse::new(404, "Resource not found").into_response(),
        market.now(),
    )
}

async fn redirect_target(State(market): State<MarketSimulator>, headers: HeaderMap) -> Response {
    market.record_violation(MarketViolation::RedirectFollowed, 1, || {
        let with = if request_checks::api_key(&headers).is_ok() {
            "with"
        } else {
            "without"
        };
        format!("a redirect was followed, {with} the key")
    });
    responses::with_date(responses::ok(), market.now())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

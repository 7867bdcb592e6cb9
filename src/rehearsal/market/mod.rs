use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{any, get, post, put};
use chrono::{DateTime, Utc};

use super::answers::{self, Refusal};
use super::cabinet::{Campaign, Registry};
use super::faults::{Drawn, FaultPlan};
use super::meter::Whose;
use super::report::{Broken, Call, Journal, Logged, Report};
use super::rules::Line;
use super::shelf::{Held, Stocks};

mod config;
mod gate;
mod hidden;
mod lists;
mod page;
mod read_back;
mod update;
mod visit;

pub use config::{
    Availability, CampaignConfig, Group, HOME_BUSINESS, MarketConfig, Placement, Scope,
};

use hidden::Curtain;
use visit::Visit;

/// A Market in miniature. A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Market {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MarketConfig,
    registry: Registry,
    revoked: Mutex<HashSet<String>>,
    plan: Mutex<Playing>,
    journal: Mutex<Journal>,
}

/// The plan in force, and how many requests it has seen.
#[derive(Debug, Default)]
struct Playing {
    plan: Arc<FaultPlan>,
    next: u64,
}

/// What the plan has in store for one request.
struct Fate {
    plan: Arc<FaultPlan>,
    number: u64,
    drawn: Option<Drawn>,
}

impl Market {
    /// A Market that knows nothing of any stock yet.
    #[must_use]
    pub fn new(config: MarketConfig) -> Self {
        let registry = Registry::open(&config);
        Self {
            inner: Arc::new(Inner {
                config,
                registry,
                revoked: Mutex::default(),
                plan: Mutex::default(),
                journal: Mutex::default(),
            }),
        }
    }

    /// The stock methods of campaigns and businesses, and the methods beside them: the key's
    /// scopes, campaigns, warehouses and hidden offers. These meet no fault but 401 and 423.
    ///
    /// Behind an accept loop other than [`Market::start`]'s, a fault that hangs up without an
    /// answer may show the head of one.
    pub fn router(&self) -> Router {
        let to = |method: Method| {
            move |market: State<Self>, id: Option<Path<String>>, request: Request| {
                attend(method, market, id, request)
            }
        };
        let (campaign, business) = ("/v2/campaigns/{campaign}", "/v3/businesses/{business}");
        let (stocks, hidden) = (put(to(Method::Update)), get(to(Method::ListHidden)));
        let routes = [
            (
                format!("{campaign}/offers/stocks"),
                stocks.post(to(Method::ReadBack)),
            ),
            (
                format!("{business}/offers/stocks/update"),
                post(to(Method::UpdateBusiness)),
            ),
            (
                format!("{business}/offers/stocks"),
                post(to(Method::ReadBackBusiness)),
            ),
            ("/v2/auth/token".to_owned(), post(to(Method::ShowKey))),
            ("/v2/campaigns".to_owned(), get(to(Method::ListCampaigns))),
            (campaign.to_owned(), get(to(Method::ShowCampaign))),
            (
                "/v2/businesses/{business}/warehouses".to_owned(),
                post(to(Method::ListWarehouses)),
            ),
            (
                format!("{business}/warehouses"),
                post(to(Method::ListPartnerWarehouses)),
            ),
            (
                format!("{campaign}/hidden-offers"),
                hidden.post(to(Method::Hide)),
            ),
            (
                format!("{campaign}/hidden-offers/delete"),
                post(to(Method::Show)),
            ),
        ];
        routes
            .into_iter()
            .fold(Router::new(), |router, (path, methods)| {
                router.route(&path, methods.fallback(wrong_method))
            })
            .route("/elsewhere/{*path}", any(followed))
            .fallback(nowhere)
            .with_state(self.clone())
    }

    /// From now on this goes wrong. Requests are numbered anew.
    pub fn set_faults(&self, plan: FaultPlan) {
        *lock(&self.inner.plan) = Playing {
            plan: Arc::new(plan),
            next: 0,
        };
    }

    /// From now on nothing goes wrong. Revoked keys stay revoked.
    pub fn heal(&self) {
        self.set_faults(FaultPlan::none());
    }

    /// From now on nothing goes wrong, but for the SKUs that are refused whatever happens.
    pub fn heal_but_poison(&self) {
        let plan = lock(&self.inner.plan).plan.poison_alone();
        self.set_faults(plan);
    }

    /// From now on this key is answered 401.
    pub fn revoke_key(&self, key: &str) {
        lock(&self.inner.revoked).insert(key.to_owned());
    }

    /// From now on this key is good again.
    pub fn restore_key(&self, key: &str) {
        lock(&self.inner.revoked).remove(key);
    }

    /// Puts a SKU on the Market's shelf as if it had been told, had acknowledged it and showed
    /// it already.
    pub fn plant(&self, campaign: u64, sku: &str, count: u32, updated_at: DateTime<Utc>) {
        let line = Line {
            sku: sku.into(),
            count,
            updated_at: updated_at.into(),
        };
        if let Some(campaign) = self.campaign(campaign) {
            campaign.shelf.plant(&line, self.now());
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
            .filter(|_| self.inner.config.sells(sku))
        else {
            return 0;
        };
        let sold = campaign.shelf.order(sku, pieces, self.now());
        lock(&self.inner.journal).report.pieces_ordered += u64::from(sold);
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
            .map_or(0, |own| own.shelf.ship(sku, pieces, self.now()))
    }

    /// Puts a SKU in the archive: read-backs show it to those who ask for the archive, or for
    /// the SKU by name. The whole warehouse, or group, is concerned.
    pub fn archive(&self, campaign: u64, sku: &str) {
        if let Some(campaign) = self.campaign(campaign) {
            campaign.shelf.archive(sku);
        }
    }

    // === What it has seen ===

    /// How many of each SKU a campaign's warehouse has, by what the seller told last; nothing
    /// for an unknown campaign.
    #[must_use]
    pub fn snapshot(&self, campaign: u64) -> Stocks {
        self.campaign(campaign)
            .map(|campaign| campaign.shelf.snapshot())
            .unwrap_or_default()
    }

    /// What the Market was told of one SKU.
    #[must_use]
    pub fn get(&self, campaign: u64, sku: &str) -> Option<Held> {
        self.campaign(campaign)?.shelf.get(sku)
    }

    /// How many of a SKU can be ordered now, shown by read-backs already or not yet.
    #[must_use]
    pub fn available(&self, campaign: u64, sku: &str) -> Option<u32> {
        let campaign = self
            .campaign(campaign)
            .filter(|_| self.inner.config.sells(sku))?;
        campaign.shelf.available(sku)
    }

    /// The seller hid this offer.
    #[must_use]
    pub fn is_hidden(&self, campaign: u64, sku: &str) -> bool {
        self.campaign(campaign)
            .is_some_and(|campaign| campaign.hidden().contains(sku))
    }

    /// How many SKUs of a campaign the Market was told of.
    #[must_use]
    pub fn len(&self, campaign: u64) -> usize {
        self.campaign(campaign)
            .map_or(0, |campaign| campaign.shelf.len())
    }

    /// The Market was told of no SKU of this campaign.
    #[must_use]
    pub fn is_empty(&self, campaign: u64) -> bool {
        self.len(campaign) == 0
    }

    /// SKUs that the seller told to be sold out at any time, in order, to be held against what
    /// the seller said: a zero that was mended since has cost sales all the same.
    #[must_use]
    pub fn ever_zero(&self, campaign: u64) -> Vec<String> {
        self.campaign(campaign)
            .map(|campaign| campaign.shelf.ever_zero())
            .unwrap_or_default()
    }

    /// What the Market has seen so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = lock(&self.inner.journal).report.clone();
        for meter in self.inner.registry.meters() {
            let (updates, parallel) = meter.peaks();
            let peak = match meter.whose {
                Whose::Campaign(_) => &mut report.peak_skus_a_minute,
                Whose::Business(_) => &mut report.peak_updates_a_minute,
            };
            *peak = (*peak).max(as_u64(updates));
            report.peak_parallel = report.peak_parallel.max(parallel);
        }
        report
    }

    /// The last ten thousand requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        lock(&self.inner.journal).requests()
    }

    fn now(&self) -> DateTime<Utc> {
        self.inner.config.clock.now()
    }

    fn campaign(&self, id: u64) -> Option<&Arc<Campaign>> {
        self.inner.registry.campaigns.get(&id)
    }

    fn broken(&self, rule: Broken, times: u64, words: impl FnOnce() -> String) {
        lock(&self.inner.journal).broken(rule, times, words);
    }

    fn draw(&self, is_read_back: bool) -> Fate {
        let mut playing = lock(&self.inner.plan);
        let number = playing.next;
        playing.next += 1;
        let drawn = playing.plan.draw(number, is_read_back);
        Fate {
            plan: Arc::clone(&playing.plan),
            number,
            drawn,
        }
    }

    fn plan(&self) -> Arc<FaultPlan> {
        Arc::clone(&lock(&self.inner.plan).plan)
    }
}

// === The doors ===

/// What can be asked of this Market.
#[derive(Clone, Copy, Debug)]
enum Method {
    Update,
    UpdateBusiness,
    ReadBack,
    ReadBackBusiness,
    ShowKey,
    ListCampaigns,
    ShowCampaign,
    ListWarehouses,
    ListPartnerWarehouses,
    Hide,
    Show,
    ListHidden,
}

impl Method {
    fn call(self) -> Call {
        match self {
            Self::Update | Self::UpdateBusiness => Call::Update,
            Self::ReadBack | Self::ReadBackBusiness => Call::ReadBack,
            Self::ShowKey
            | Self::ListCampaigns
            | Self::ShowCampaign
            | Self::ListWarehouses
            | Self::ListPartnerWarehouses
            | Self::Hide
            | Self::Show
            | Self::ListHidden => Call::Aside,
        }
    }

    /// Whom a path with this number is about.
    fn whose(self, id: u64) -> Whose {
        match self {
            Self::UpdateBusiness
            | Self::ReadBackBusiness
            | Self::ListWarehouses
            | Self::ListPartnerWarehouses => Whose::Business(id),
            Self::Update
            | Self::ReadBack
            | Self::ShowKey
            | Self::ListCampaigns
            | Self::ShowCampaign
            | Self::Hide
            | Self::Show
            | Self::ListHidden => Whose::Campaign(id),
        }
    }
}

async fn attend(
    method: Method,
    State(market): State<Market>,
    id: Option<Path<String>>,
    request: Request,
) -> Response {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let whose = id.parse().ok().map(|id| method.whose(id));
    let mut visit = Visit::begin(&market, whose, method.call());
    let outcome = match method {
        Method::Update => market.update(&id, request, &mut visit).await,
        Method::UpdateBusiness => market.update_business(&id, request, &mut visit).await,
        Method::ReadBack => market.read_back(&id, request, &mut visit).await,
        Method::ReadBackBusiness => market.read_back_business(&id, request, &mut visit).await,
        Method::ShowKey => market.show_key(&request),
        Method::ListCampaigns => market.list_campaigns(&request),
        Method::ShowCampaign => market.show_campaign(&id, &request),
        Method::ListWarehouses => market.list_warehouses(&id, request, &mut visit).await,
        Method::ListPartnerWarehouses => {
            market
                .list_partner_warehouses(&id, request, &mut visit)
                .await
        }
        Method::Hide => {
            market
                .draw_curtain(&id, request, &mut visit, Curtain::Hide)
                .await
        }
        Method::Show => {
            market
                .draw_curtain(&id, request, &mut visit, Curtain::Show)
                .await
        }
        Method::ListHidden => market.list_hidden(&id, &request, &mut visit),
    };
    visit.end(outcome)
}

async fn wrong_method(State(market): State<Market>, request: Request) -> Response {
    let message = format!("Request method '{}' not supported", request.method());
    answers::dated(Refusal::new(405, message).into_response(), market.now())
}

async fn nowhere(State(market): State<Market>) -> Response {
    answers::dated(
        Refusal::new(404, "Resource not found").into_response(),
        market.now(),
    )
}

async fn followed(State(market): State<Market>, headers: HeaderMap) -> Response {
    market.broken(Broken::RedirectFollowed, 1, || {
        let with = if gate::key(&headers).is_ok() {
            "with"
        } else {
            "without"
        };
        format!("a redirect was followed, {with} the key")
    });
    answers::dated(answers::ok(), market.now())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

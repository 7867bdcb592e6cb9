//! Routes of the simulated API, and dispatch of a request to its method.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{MethodFilter, any, on};
use strum::VariantArray as _;

use super::hidden_offer_methods::VisibilityChange;
use super::sim_request::SimRequest;
use super::{MarketSimulator, request_checks};
use crate::quota::QuotaOwner;
use crate::responses::{self, SimError};
use crate::simulator_report::{MarketViolation, SimCall};

impl MarketSimulator {
    /// Returns a router for the stock methods of campaigns and businesses, and for the methods of
    /// keys, campaigns, warehouses and hidden offers. The only faults of the latter are revoked keys
    /// (401) and the lock of a fault plan (423).
    ///
    /// [`MarketSimulator::start`] serves it. Behind another accept loop, a fault that closes the
    /// connection without a response may send the head of a response.
    pub fn router(&self) -> Router {
        let add_route = |router: Router<Self>, method: &SimMethod| {
            let (method, (verb, path)) = (*method, method.route());
            let handler = move |market: State<Self>, id: Option<Path<String>>, request: Request| {
                dispatch(method, market, id, request)
            };
            router.route(path, on(verb, handler))
        };
        let methods = SimMethod::VARIANTS.iter();
        methods
            .fold(Router::new(), add_route)
            .method_not_allowed_fallback(method_not_allowed)
            .route("/elsewhere/{*path}", any(redirect_target))
            .fallback(not_found)
            .with_state(self.clone())
    }
}

/// Method of the simulated API.
#[derive(Clone, Copy, Debug, strum::VariantArray)]
enum SimMethod {
    Update,
    UpdateBusiness,
    Readback,
    ReadbackBusiness,
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
    /// Returns the HTTP method and the path.
    fn route(self) -> (MethodFilter, &'static str) {
        let (get, put, post) = (MethodFilter::GET, MethodFilter::PUT, MethodFilter::POST);
        match self {
            Self::Update => (put, "/v2/campaigns/{id}/offers/stocks"),
            Self::UpdateBusiness => (post, "/v3/businesses/{id}/offers/stocks/update"),
            Self::Readback => (post, "/v2/campaigns/{id}/offers/stocks"),
            Self::ReadbackBusiness => (post, "/v3/businesses/{id}/offers/stocks"),
            Self::ShowKey => (post, "/v2/auth/token"),
            Self::ListCampaigns => (get, "/v2/campaigns"),
            Self::ShowCampaign => (get, "/v2/campaigns/{id}"),
            Self::ListWarehouses => (post, "/v2/businesses/{id}/warehouses"),
            Self::ListPartnerWarehouses => (post, "/v3/businesses/{id}/warehouses"),
            Self::HideOffers => (post, "/v2/campaigns/{id}/hidden-offers"),
            Self::ShowOffers => (post, "/v2/campaigns/{id}/hidden-offers/delete"),
            Self::ListHiddenOffers => (get, "/v2/campaigns/{id}/hidden-offers"),
        }
    }

    fn call_kind(self) -> SimCall {
        if matches!(self, Self::Update | Self::UpdateBusiness) {
            SimCall::Update
        } else if matches!(self, Self::Readback | Self::ReadbackBusiness) {
            SimCall::Readback
        } else {
            SimCall::Other
        }
    }

    /// Returns the campaign or business that a path with this id names.
    fn quota_owner(self, id: u64) -> QuotaOwner {
        if self.route().1.contains("/businesses/") {
            QuotaOwner::Business(id)
        } else {
            QuotaOwner::Campaign(id)
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
    let mut request = SimRequest::start(market.clone(), id, owner, method.call_kind(), request);
    let (hide, show) = (VisibilityChange::Hide, VisibilityChange::Show);
    let result = match method {
        SimMethod::Update => market.update(&mut request).await,
        SimMethod::UpdateBusiness => market.update_business(&mut request).await,
        SimMethod::Readback => market.readback(&mut request).await,
        SimMethod::ReadbackBusiness => market.readback_business(&mut request).await,
        SimMethod::ShowKey => market.show_key(&request),
        SimMethod::ListCampaigns => market.list_campaigns(&request),
        SimMethod::ShowCampaign => market.show_campaign(&request),
        SimMethod::ListWarehouses => market.list_warehouses(&mut request).await,
        SimMethod::ListPartnerWarehouses => market.list_partner_warehouses(&mut request).await,
        SimMethod::HideOffers => market.change_visibility(&mut request, hide).await,
        SimMethod::ShowOffers => market.change_visibility(&mut request, show).await,
        SimMethod::ListHiddenOffers => market.list_hidden_offers(&mut request),
    };
    request.finish(result)
}

async fn method_not_allowed(State(market): State<MarketSimulator>, request: Request) -> Response {
    let message = format!("Request method '{}' not supported", request.method());
    responses::with_date(SimError::new(405, message).into_response(), market.now())
}

async fn not_found(State(market): State<MarketSimulator>) -> Response {
    let error = SimError::new(404, "Resource not found");
    responses::with_date(error.into_response(), market.now())
}

async fn redirect_target(State(market): State<MarketSimulator>, headers: HeaderMap) -> Response {
    market.record_violation(MarketViolation::RedirectFollowed, 1, || {
        let has_key = request_checks::api_key(&headers).is_ok();
        let with = if has_key { "with" } else { "without" };
        format!("a redirect was followed, {with} the key")
    });
    responses::with_date(responses::ok(), market.now())
}

//! Routes of the simulated API, and dispatch of a request to its method.

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{any, get, post, put};

use super::hidden_offer_methods::VisibilityChange;
use super::request_trace::RequestTrace;
use super::{MarketSimulator, request_checks};
use crate::quota::QuotaOwner;
use crate::responses::{self, SimErrorResponse};
use crate::simulator_report::{MarketViolation, SimCall};

impl MarketSimulator {
    /// Returns a router for the stock methods of campaigns and businesses, and for the methods of
    /// keys, campaigns, warehouses and hidden offers. The only faults of the latter are revoked keys
    /// (401) and the lock of a fault plan (423).
    ///
    /// [`MarketSimulator::start`] serves it. Behind another accept loop, a fault that closes the
    /// connection without a response may send the head of a response.
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
                stocks.post(handler_for(SimMethod::Readback)),
            ),
            (
                format!("{business}/offers/stocks/update"),
                post(handler_for(SimMethod::UpdateBusiness)),
            ),
            (
                format!("{business}/offers/stocks"),
                post(handler_for(SimMethod::ReadbackBusiness)),
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
}

/// Method of the simulated API.
#[derive(Clone, Copy, Debug)]
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
    fn call_kind(self) -> SimCall {
        match self {
            Self::Update | Self::UpdateBusiness => SimCall::Update,
            Self::Readback | Self::ReadbackBusiness => SimCall::Readback,
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

    /// Returns the campaign or business that a path with this id names.
    fn quota_owner(self, id: u64) -> QuotaOwner {
        match self {
            Self::UpdateBusiness
            | Self::ReadbackBusiness
            | Self::ListWarehouses
            | Self::ListPartnerWarehouses => QuotaOwner::Business(id),
            Self::Update
            | Self::Readback
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
        SimMethod::Readback => market.readback(&id, request, &mut trace).await,
        SimMethod::ReadbackBusiness => market.readback_business(&id, request, &mut trace).await,
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

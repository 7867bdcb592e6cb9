//! Server side of the partner API, which the seller calls instead of the Market.
//!
//! A client of the partner API sends its stock to stockbridge by changing its base URL, and returns
//! to the Market by changing it back. Requests, limits, errors and their wording are therefore
//! those of the Market. Only the guarantee is stronger: 200 means that the stock is on disk.

mod auth;
mod campaigns;
mod error;
mod metrics;
mod readback;
mod update;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post, put};
use axum::{Router, middleware};
use parking_lot::Mutex;

use self::error::{PartnerApiError, api_error};
pub use self::metrics::Metrics;
use lifecycle::Clock;
use stock::{ShopId, StockBook};
use strict_http::secret::TokenSet;

use self::readback::SkuListing;
use crate::auth_failures::AuthFailures;
use crate::ingest::Ingest;
use crate::replicas::ServingPermit;

/// Settings of one shop for the partner API.
#[derive(Clone, Debug)]
pub struct PartnerShop {
    /// Index of the shop in the book.
    pub id: ShopId,
    /// Name in the configuration, shown as the domain of the campaign.
    pub name: String,
    /// Campaign ids that the seller may use: all that share this stock.
    pub campaigns: Vec<u64>,
    /// Keys with which the seller may update this shop.
    pub feed_keys: TokenSet,
    /// Warehouse that a read-back shows by default, then the others that share the stock.
    pub warehouses: Vec<u64>,
    /// Business id that the seller may use instead of a campaign.
    pub business: Option<u64>,
    /// Warehouse ids of the v3 methods.
    pub partner_warehouses: Vec<u64>,
}

/// Dependencies of the partner API server.
#[derive(Clone, Debug)]
pub struct Context {
    /// Writer of updates.
    pub ingest: Ingest,
    /// Stock for read-backs.
    pub book: Arc<StockBook>,
    /// Permit to answer read-backs with the stock in memory.
    pub permit: ServingPermit,
    /// Clock for the check of future dates.
    pub clock: Clock,
    /// Metrics of the partner API server.
    pub metrics: Metrics,
    /// Delays and alarms after wrong keys.
    pub auth_failures: AuthFailures,
}

/// Builds the router of the partner API.
///
/// The methods of `…/campaigns` and `…/campaigns/{campaignId}/offers/stocks` are served under every
/// spelling of the path that known clients use, and those of `/v3/businesses/{businessId}/…` under
/// one. Requests for hidden offers are rejected with a reason.
pub fn router(context: Context, shops: Vec<PartnerShop>) -> Router {
    let endpoints = shops
        .into_iter()
        .map(|shop| PartnerShopEndpoint {
            shop,
            sku_listing: Mutex::default(),
        })
        .collect();
    let state = Arc::new(PartnerApiState { context, endpoints });
    let methods: MethodRouter<Arc<PartnerApiState>> = put(update::by_campaign)
        .post(readback::by_campaign)
        .fallback(method_not_allowed);
    let list = get(campaigns::list).fallback(method_not_allowed);
    let show = get(campaigns::show).fallback(method_not_allowed);
    let hidden: MethodRouter<Arc<PartnerApiState>> = any(campaigns::reject_hidden_offers);
    let mut router = Router::new();
    for version in ["", "/v2"] {
        for suffix in ["", ".json"] {
            let campaigns = format!("{version}/campaigns");
            let campaign = format!("{campaigns}/{{campaign}}");
            router = router
                .route(
                    &format!("{campaign}/offers/stocks{suffix}"),
                    methods.clone(),
                )
                .route(&format!("{campaigns}{suffix}"), list.clone())
                .route(&format!("{campaign}/hidden-offers{suffix}"), hidden.clone())
                .route(
                    &format!("{campaign}/hidden-offers/delete{suffix}"),
                    hidden.clone(),
                );
        }
    }
    // A path parameter is a whole segment, so the suffix `.json` is removed when the id is parsed.
    for version in ["", "/v2"] {
        router = router.route(&format!("{version}/campaigns/{{campaign}}"), show.clone());
    }
    let update = post(update::by_business).fallback(method_not_allowed);
    let readback = post(readback::by_business).fallback(method_not_allowed);
    router = router
        .route("/v3/businesses/{business}/offers/stocks/update", update)
        .route("/v3/businesses/{business}/offers/stocks", readback);
    router
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            count_calls,
        ))
        .with_state(state)
}

/// Id in a path. A path that cannot be decoded is an unknown id.
type PathNumber = Result<Path<String>, PathRejection>;

struct PartnerApiState {
    context: Context,
    endpoints: Vec<PartnerShopEndpoint>,
}

struct PartnerShopEndpoint {
    shop: PartnerShop,
    sku_listing: Mutex<Option<SkuListing>>,
}

async fn count_calls(
    State(state): State<Arc<PartnerApiState>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let method = method_name(&request);
    let response = next.run(request).await;
    state.context.metrics.record(method, response.status());
    response
}

fn method_name(request: &Request) -> &'static str {
    let path = request.uri().path();
    if path.contains("/hidden-offers") {
        return "hidden_offers";
    }
    if !path.contains("/offers/stocks") {
        return "campaigns";
    }
    match (path.starts_with("/v3/"), path.ends_with("/update")) {
        (true, true) => "business_update",
        (true, false) => "business_read_back",
        (false, _) if request.method() == "PUT" => "update",
        (false, _) => "read_back",
    }
}

/// Returns true if a path belongs to the partner API, served or not.
#[must_use]
pub fn is_partner_path(path: &str) -> bool {
    ["/v2/", "/v3/", "/campaigns/", "/businesses/"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// Returns the response to a method of the partner API that is not served.
#[must_use]
pub fn not_found() -> Response {
    let message = "Resource not found: stockbridge serves /v2/campaigns, /v2/campaigns/{campaignId}, \
                   /v2/campaigns/{campaignId}/offers/stocks, \
                   /v3/businesses/{businessId}/offers/stocks and \
                   /v3/businesses/{businessId}/offers/stocks/update";
    api_error(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
}

async fn method_not_allowed() -> PartnerApiError {
    api_error(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "Method not allowed",
    )
}

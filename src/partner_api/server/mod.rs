//! The seller calls us, as if we were the Market.
//!
//! A client of the partner API feeds stockbridge by changing its base address, and goes back
//! by changing it back. So requests, limits, errors and their wording are the Market's; only
//! the promise is stronger: 200 means the stock is on disk.

mod auth;
mod campaigns;
mod update;

mod read_back;

mod error;

mod metrics;

use std::sync::{Arc, Mutex};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post, put};
use axum::{Router, middleware};

use self::error::{PartnerApiError, api_error};
pub use self::metrics::Metrics;
use self::read_back::SkuListing;
use crate::auth_failures::AuthFailures;
use crate::clock::Clock;
use crate::http::secret::{Secret, TokenSet};
use crate::ingest::Ingest;
use crate::stock::{ShopId, StockBook};

/// How one shop is fed.
#[derive(Clone, Debug)]
pub struct PartnerShop {
    /// Its place in the book.
    pub id: ShopId,
    /// Its name in the configuration, shown as the campaign's domain.
    pub name: String,
    /// The campaigns under which the seller may call: all those that share this stock.
    pub campaigns: Vec<u64>,
    /// The keys with which the seller may feed this shop.
    pub feed_keys: Vec<Secret>,
    /// The warehouse a read-back shows, and the others that share the stock.
    pub warehouses: Vec<u64>,
    /// The business under which the seller may call as well.
    pub business: Option<u64>,
    /// The numbers of its warehouses there.
    pub partner_warehouses: Vec<u64>,
}

/// What this room needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where updates go.
    pub ingest: Ingest,
    /// Where the read-back comes from.
    pub book: Arc<StockBook>,
    /// To tell dates that lie ahead.
    pub clock: Clock,
    /// Counts for the operator.
    pub metrics: Metrics,
    /// Wrong keys.
    pub auth_failures: AuthFailures,
}

/// Routes of the drop-in.
///
/// The methods of `…/campaigns` and `…/campaigns/{campaignId}/offers/stocks` are served under every
/// spelling of the path that clients in the field use, and those of `/v3/businesses/{businessId}/…`
/// under one. Hidden offers are refused with a reason.
pub fn router(context: Context, shops: Vec<PartnerShop>) -> Router {
    let endpoints = shops
        .into_iter()
        .map(|shop| PartnerShopEndpoint {
            key_set: TokenSet::new(&shop.feed_keys),
            shop,
            sku_listing: Mutex::default(),
        })
        .collect();
    let state = Arc::new(PartnerApiState { context, endpoints });
    let methods: MethodRouter<Arc<PartnerApiState>> = put(update::by_campaign)
        .post(read_back::by_campaign)
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
    // A parameter is a whole segment: `.json` after the number is taken off where it is read.
    for version in ["", "/v2"] {
        router = router.route(&format!("{version}/campaigns/{{campaign}}"), show.clone());
    }
    let update = post(update::by_business).fallback(method_not_allowed);
    let read_back = post(read_back::by_business).fallback(method_not_allowed);
    router = router
        .route("/v3/businesses/{business}/offers/stocks/update", update)
        .route("/v3/businesses/{business}/offers/stocks", read_back);
    router
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            count_calls,
        ))
        .with_state(state)
}

/// The number in a path; a text that could not be read is no number of ours either.
type PathNumber = Result<Path<String>, PathRejection>;

struct PartnerApiState {
    context: Context,
    endpoints: Vec<PartnerShopEndpoint>,
}

struct PartnerShopEndpoint {
    shop: PartnerShop,
    key_set: TokenSet,
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

/// Whether a path belongs to the partner API, of which we serve a few methods.
#[must_use]
pub fn is_partner_path(path: &str) -> bool {
    ["/v2/", "/v3/", "/campaigns/", "/businesses/"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// What is said to a client of the partner API that asks for something else.
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

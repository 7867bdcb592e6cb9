//! The seller calls us, as if we were the Market.
//!
//! A client of the partner API feeds stockbridge by changing its base address, and goes back
//! by changing it back. So requests, limits, errors and their wording are the Market's; only
//! the promise is stronger: 200 means the stock is on disk.

mod admission;
mod update;

mod read_back;

mod refused;

mod metrics;

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, put};
use axum::{Router, middleware};

pub use self::metrics::Metrics;
use self::read_back::{Listing, read_back};
use self::refused::{Refused, refused};
use self::update::update;
use crate::clock::Clock;
use crate::http::secret::{Locks, Secret};
use crate::ingest::Ingest;
use crate::stock::{ShopId, StockBook};

/// How one shop is fed.
#[derive(Clone, Debug)]
pub struct Shop {
    /// Its place in the book.
    pub id: ShopId,
    /// The campaigns under which the seller may call: all those that share this stock.
    pub campaigns: Vec<u64>,
    /// The keys with which the seller may feed this shop.
    pub feed_keys: Vec<Secret>,
    /// The warehouse a read-back shows, and the others that share the stock.
    pub warehouses: Vec<u64>,
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
}

/// The two methods of `…/campaigns/{campaignId}/offers/stocks`, under every spelling of the
/// path that clients in the field use.
pub fn router(context: Context, shops: Vec<Shop>) -> Router {
    let desks = shops
        .into_iter()
        .map(|shop| Desk { locks: Locks::new(&shop.feed_keys), shop, listing: Mutex::default() })
        .collect();
    let house = Arc::new(House { context, desks });
    let methods: MethodRouter<Arc<House>> =
        put(update).post(read_back).fallback(method_not_allowed);
    let mut router = Router::new();
    for version in ["", "/v2"] {
        for suffix in ["", ".json"] {
            let path = format!("{version}/campaigns/{{campaign}}/offers/stocks{suffix}");
            router = router.route(&path, methods.clone());
        }
    }
    router.layer(middleware::from_fn_with_state(Arc::clone(&house), count)).with_state(house)
}

struct House {
    context: Context,
    desks: Vec<Desk>,
}

struct Desk {
    shop: Shop,
    locks: Locks,
    listing: Mutex<Option<Listing>>,
}

async fn count(
    State(house): State<Arc<House>>,
    request: Request,
    next: middleware::Next,
) -> Response {
    let method = if request.method() == "PUT" { "update" } else { "read_back" };
    let response = next.run(request).await;
    house.context.metrics.note(method, response.status());
    response
}

/// Whether a path belongs to the partner API, of which we serve one method.
#[must_use]
pub fn is_partner_path(path: &str) -> bool {
    ["/v2/", "/v3/", "/campaigns/", "/businesses/"].iter().any(|start| path.starts_with(start))
}

/// What is said to a client of the partner API that asks for something else.
#[must_use]
pub fn nothing_here() -> Response {
    let message = "Resource not found: stockbridge serves …/campaigns/{campaignId}/offers/stocks";
    refused(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
}

async fn method_not_allowed() -> Refused {
    refused(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "Method not allowed")
}

//! Server side of the push API: answers the Market's stock requests from memory.
//!
//! The only method is `POST /stocks` below the base path of a shop; its handler is `handle_stocks`.
//!
//! A request waits for no disk, no writer's lock and no other server. One exception: until the old
//! handler has delivered a full snapshot, unknown SKUs are requested from it. No zero is invented:
//! unknown SKUs are skipped or the request is rejected, unless the operator chose `zero`.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tracing::{debug, warn};

use super::auth::check_head;
pub use super::last_requests::LastRequests;
pub use super::metrics::{Metrics, PushCounts};
use super::response_buffers::ResponseBuffers;
use lifecycle::Clock;
use market_api::push::wire::{
    MAX_REQUEST_BYTES, OUR_REQUEST_HEADER, StocksRequest, StocksResponseBuilder,
};
use stock::{Activity, Count, Hour, Level, ShopId, Sku, StockBook};
use strict_http::secret::TokenSet;
use strict_http::{ErrorResponse, read_body};

use crate::auth_failures::AuthFailures;
use crate::replicas::ServingPermit;
use crate::telemetry::{AlarmKind, Alarms};

/// Response for a SKU whose stock is unknown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownSku {
    /// The SKU is skipped, which means "not updated" to the Market.
    #[default]
    Omit,
    /// The count is 0: the operator declares that the seller's stock is complete.
    Zero,
    /// The whole request is rejected.
    Fail,
}

/// Settings of one shop for the push API.
#[derive(Clone, Debug)]
pub struct PushShop {
    /// Index of the shop in the book.
    pub id: ShopId,
    /// Name in logs and metrics.
    pub name: String,
    /// Path before `/stocks`: empty, or for example `/market/api/Moscow`. Shops may share one.
    pub base_path: String,
    /// Tokens that the Market may use for this shop; never empty.
    pub tokens: TokenSet,
    /// Market's ids of the warehouses that share this stock.
    pub warehouses: Vec<u64>,
    /// Response for unknown SKUs.
    pub unknown_sku: UnknownSku,
    /// Status returned while the shop has no stock: 503 or 500.
    pub unavailable_status: StatusCode,
}

/// Fetches unknown SKUs from the old handler during a request.
///
/// Returns `None` if the shop has no old handler to query. The fetched stock is in the book when
/// the future ends.
#[derive(Clone)]
pub struct ReadThrough(pub ReadThroughFn);

/// Function type of [`ReadThrough`].
pub type ReadThroughFn =
    Arc<dyn Fn(ShopId, Vec<Sku>) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

impl fmt::Debug for ReadThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadThrough")
    }
}

/// Dependencies of the push API.
#[derive(Clone, Debug)]
pub struct Context {
    /// Stock of all shops.
    pub book: Arc<StockBook>,
    /// Records the requested SKUs.
    pub activity: Arc<Activity>,
    /// Records the time of each request.
    pub last_requests: Arc<LastRequests>,
    /// Permit to answer with the stock in memory.
    pub permit: ServingPermit,
    /// Clock for `updatedAt` and for the records.
    pub clock: Clock,
    /// Alarms about shops without stock and unmapped warehouses.
    pub alarms: Alarms,
    /// Metrics of the push API.
    pub metrics: Metrics,
    /// Delays and alarms after wrong tokens.
    pub auth_failures: AuthFailures,
    /// Access to old handlers; `None` if no shop has one.
    pub read_through: Option<ReadThrough>,
}

/// Builds the router of `POST {base}/stocks` for every base path.
pub fn router(context: &Context, shops: Vec<PushShop>) -> Router {
    let mut routes: Vec<PushRoute> = Vec::new();
    let buffers = ResponseBuffers::default();
    for shop in shops {
        let endpoint = PushShopEndpoint {
            known_skus: context.metrics.sku_counter(&shop.name, "known"),
            unknown_skus: context.metrics.sku_counter(&shop.name, "unknown"),
            requests: context.metrics.request_counter(&shop.name),
            shop,
        };
        match routes
            .iter_mut()
            .find(|route| route.base_path == endpoint.shop.base_path)
        {
            Some(route) => route.endpoints.push(endpoint),
            None => routes.push(PushRoute {
                base_path: endpoint.shop.base_path.clone(),
                endpoints: vec![endpoint],
                buffers: buffers.clone(),
                context: context.clone(),
            }),
        }
    }
    routes.into_iter().fold(Router::new(), |router, route| {
        let path = format!("{}/stocks", route.base_path);
        router.route(&path, any(handle_stocks).with_state(Arc::new(route)))
    })
}

/// Returns the path of `paths` that differs from `requested` only by duplicate or trailing slashes.
///
/// Paths are matched exactly, so such a request is not served, and the error can name the right
/// path.
#[must_use]
pub fn intended_path<'a>(requested: &str, paths: &'a [String]) -> Option<&'a str> {
    let is_same_path = |path: &str| segments(path).eq(segments(requested));
    let intended = paths
        .iter()
        .map(String::as_str)
        .find(|path| is_same_path(path));
    intended.filter(|path| *path != requested)
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// One base path and its shops.
pub(super) struct PushRoute {
    pub(super) base_path: String,
    pub(super) endpoints: Vec<PushShopEndpoint>,
    pub(super) context: Context,
    buffers: ResponseBuffers,
}

/// One shop with its tokens and counters.
pub(super) struct PushShopEndpoint {
    pub(super) shop: PushShop,
    known_skus: Counter,
    unknown_skus: Counter,
    requests: Counter,
}

async fn handle_stocks(State(route): State<Arc<PushRoute>>, request: Request) -> Response {
    let started = tokio::time::Instant::now();
    let metrics = route.context.metrics.clone();
    let response = match route.serve(request).await {
        Ok(body) => json(body),
        Err(error) => {
            let (code, message) = (error.code, &error.message);
            debug!(code, "rejected a request of the Market: {message}");
            if error.status == StatusCode::METHOD_NOT_ALLOWED {
                ([(ALLOW, "POST")], error).into_response()
            } else {
                error.into_response()
            }
        }
    };
    metrics.record(response.status(), started.elapsed());
    response
}

fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl PushRoute {
    async fn serve(&self, request: Request) -> Result<Bytes, ErrorResponse> {
        let (head, body) = request.into_parts();
        // Authentication comes first, so that a wrong token is always 403: the Market probes with
        // wrong tokens on purpose.
        let authorized = self.authenticate(&head).await?;
        check_head(&head)?;
        if head.headers.contains_key(OUR_REQUEST_HEADER) {
            let message = "this is stockbridge itself: the old handler must be asked at its own \
                           address, past the proxy";
            return Err(ErrorResponse::new(
                StatusCode::LOOP_DETECTED,
                "LOOP",
                message,
            ));
        }
        let body = read_body(body, MAX_REQUEST_BYTES).await?;
        let stocks_request = StocksRequest::parse(&body).map_err(|rule| {
            ErrorResponse::new(
                StatusCode::BAD_REQUEST,
                "BAD_REQUEST",
                format!("the body: {rule}"),
            )
        })?;
        let endpoint = self.find_endpoint(&authorized, &stocks_request)?;
        if let Some(fetch) = self.read_through(endpoint, &stocks_request) {
            fetch.await;
        }
        let response = self.build_response(endpoint, &stocks_request)?;
        // After the stock was read, so that a pause of the process before this line does no harm.
        if self.context.permit.is_valid() {
            Ok(response)
        } else {
            Err(self.behind_error(endpoint))
        }
    }

    /// Returns the error of a replica whose stock may be outdated.
    fn behind_error(&self, endpoint: &PushShopEndpoint) -> ErrorResponse {
        let message = "this replica cannot reach the database, so its stock may be outdated";
        ErrorResponse::new(endpoint.shop.unavailable_status, "REPLICA_BEHIND", message)
            .with_retry_after(RETRY_AFTER_SECS)
    }

    /// Fetches unknown SKUs from the old handler, only until it has delivered a full snapshot.
    fn read_through(
        &self,
        endpoint: &PushShopEndpoint,
        request: &StocksRequest<'_>,
    ) -> Option<BoxFuture<'static, ()>> {
        let ReadThrough(fetch) = self.context.read_through.as_ref()?;
        let shop = endpoint.shop.id;
        // Checking for a handler is cheaper than finding the unknown SKUs.
        let _has_handler = fetch(shop, Vec::new())?;
        let skus = request.skus.iter().map(|sku| Sku::trim(&sku.0));
        let entries = self.context.book.get_many(shop, skus);
        let unknown = request
            .skus
            .iter()
            .zip(entries)
            .filter(|(_, entry)| entry.is_none());
        let unknown: Vec<Sku> = unknown
            .filter_map(|(sku, _)| Sku::parse(&sku.0).ok())
            .collect();
        if unknown.is_empty() {
            None
        } else {
            fetch(shop, unknown)
        }
    }

    fn find_endpoint<'a>(
        &self,
        endpoints: &[&'a PushShopEndpoint],
        request: &StocksRequest<'_>,
    ) -> Result<&'a PushShopEndpoint, ErrorResponse> {
        let warehouse_id = request.warehouse_number();
        let lists_warehouse = |endpoint: &&&PushShopEndpoint| {
            warehouse_id.is_some_and(|id| endpoint.shop.warehouses.contains(&id))
        };
        if let Some(endpoint) = endpoints.iter().find(lists_warehouse) {
            return Ok(endpoint);
        }
        // The configuration lacks this warehouse. A 200 would state wrong stock.
        let text = format!(
            "the Market requests warehouse {} at {}/stocks, but no shop with this token lists it; add it to \
            warehouses of its shop",
            request.warehouse_id, self.base_path
        );
        let alarms = &self.context.alarms;
        let path = format!("{}/stocks", self.base_path);
        alarms.raise_for(
            AlarmKind::UnmappedWarehouse,
            &path,
            text,
            UNMAPPED_ALARM_DURATION,
        );
        let status = endpoints
            .first()
            .map_or(StatusCode::SERVICE_UNAVAILABLE, |endpoint| {
                endpoint.shop.unavailable_status
            });
        Err(ErrorResponse::new(
            status,
            "UNKNOWN_WAREHOUSE",
            format!(
                "warehouseId {} is not one of this shop's",
                request.warehouse_id
            ),
        )
        .with_retry_after(RETRY_AFTER_SECS))
    }

    fn build_response(
        &self,
        endpoint: &PushShopEndpoint,
        request: &StocksRequest<'_>,
    ) -> Result<Bytes, ErrorResponse> {
        let Context {
            book,
            activity,
            last_requests,
            clock,
            alarms,
            ..
        } = &self.context;
        let shop = &endpoint.shop;
        let now = clock.now();
        let hour = Hour::containing(now.into());
        let warehouse_id = request.warehouse_number();
        let warehouse_index = shop
            .warehouses
            .iter()
            .position(|id| Some(*id) == warehouse_id)
            .unwrap_or(0);
        if book.is_empty(shop.id) {
            for sku in &request.skus {
                activity.record_unknown(shop.id, warehouse_index, &sku.0, hour);
            }
            let text = format!(
                "the Market requests stock of shop {}, which has none yet: it gets status {} until a \
                source or the partner API delivers stock",
                shop.name,
                shop.unavailable_status.as_u16()
            );
            alarms.raise(AlarmKind::ColdShopAsked, &shop.name, text);
            let message = "this shop has no stock yet";
            return Err(
                ErrorResponse::new(shop.unavailable_status, "NO_STOCK_YET", message)
                    .with_retry_after(RETRY_AFTER_SECS),
            );
        }
        // Two loops instead of one: the first does only memory look-ups, so their cache misses
        // overlap.
        let skus = request.trimmed_skus();
        let entries = activity.get_requested(shop.id, warehouse_index, skus, hour);
        let buffer = self.buffers.take();
        let mut response = StocksResponseBuilder::in_buffer(request, buffer);
        let mut unknown = 0;
        // The date may come from a clock that ran ahead, and the Market accepts no future date.
        let latest = now.into();
        for (sku, entry) in request.skus.iter().zip(entries) {
            if let Some(entry) = entry {
                let level = entry.level();
                let updated_at = level.updated_at.min(latest);
                response.push_verbatim(
                    sku,
                    Level {
                        updated_at,
                        ..level
                    },
                );
            } else {
                unknown += 1;
                activity.record_unknown(shop.id, warehouse_index, &sku.0, hour);
                self.append_unknown(shop, &sku.0, &mut response, clock)?;
            }
        }
        // A request without SKUs is a probe by another client, not a request of the Market.
        if !request.skus.is_empty() {
            last_requests.record(shop.id, now);
        }
        alarms.clear(AlarmKind::ColdShopAsked, &shop.name);
        endpoint.requests.inc();
        // Most requests have no unknown SKU, and an atomic addition of 0 costs as much as another.
        if unknown > 0 {
            endpoint.unknown_skus.inc_by(unknown);
        }
        endpoint
            .known_skus
            .inc_by(request.skus.len() as u64 - unknown);
        Ok(self.buffers.lend(response.finish_in_buffer()))
    }

    fn append_unknown(
        &self,
        shop: &PushShop,
        sku: &str,
        response: &mut StocksResponseBuilder<'_>,
        clock: &Clock,
    ) -> Result<(), ErrorResponse> {
        match shop.unknown_sku {
            UnknownSku::Omit => Ok(()),
            // A text that is not a valid SKU has no stock; the other SKUs are answered.
            UnknownSku::Zero | UnknownSku::Fail if Sku::parse(sku).is_err() => Ok(()),
            UnknownSku::Zero => {
                response.push(
                    sku,
                    Level {
                        count: Count::ZERO,
                        updated_at: clock.now().into(),
                    },
                );
                Ok(())
            }
            UnknownSku::Fail => {
                warn!(
                    shop = shop.name,
                    "rejected a request of the Market because one of its SKUs is unknown"
                );
                let message = format!("sku '{sku}' is unknown");
                Err(
                    ErrorResponse::new(shop.unavailable_status, "UNKNOWN_SKU", message)
                        .with_retry_after(RETRY_AFTER_SECS),
                )
            }
        }
    }
}

/// Time after which the alarm clears without another request. The Market requests each warehouse
/// about hourly, so after this time it no longer requests the unmapped one.
const UNMAPPED_ALARM_DURATION: TimeDelta = TimeDelta::hours(3);

/// Value of `Retry-After`, in seconds. The Market retries on its own schedule; this is for others.
const RETRY_AFTER_SECS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_path_without_extra_slashes() {
        let paths = ["/stocks".to_owned(), "/market/api/stocks".to_owned()];
        for (requested, intended) in [
            ("//stocks", Some("/stocks")),
            ("/stocks/", Some("/stocks")),
            ("/market//api/stocks//", Some("/market/api/stocks")),
            ("/stocks", None),
            ("/market/stocks", None),
            ("/Stocks/", None),
            ("/", None),
        ] {
            assert_eq!(intended_path(requested, &paths), intended, "{requested}");
        }
    }
}

//! The Market asks us.
//!
//! Everything on this path comes from memory: no disk, no writer's lock, no other server; but
//! that, until a shop's old handler has told everything it knows, it may be asked for what we
//! do not know yet. And nothing is made up: what is not known is left out or refused, never answered with a zero.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing::{debug, warn};

use super::wire::{MAX_REQUEST_BYTES, OUR_REQUEST_HEADER, StocksRequest, StocksResponseBuilder};
use crate::auth_failures::{AuthFailures, Credential};
use crate::clock::Clock;
use crate::http::secret::{Secret, TokenSet};
use crate::http::{ErrorResponse, is_json, read_body};
use crate::stock::{Activity, Count, Hour, Level, ShopId, Sku, StockBook};
use crate::telemetry::{AlarmKind, Alarms};

/// What is answered about a SKU the shop has never spoken of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownSku {
    /// It is left out: to the Market that means "not updated".
    #[default]
    Omit,
    /// The operator vouches that the seller's stock is complete, so it is sold out.
    Zero,
    /// The whole question is refused.
    Fail,
}

/// How one shop is answered for.
#[derive(Clone, Debug)]
pub struct PushShop {
    /// Its place in the book.
    pub id: ShopId,
    /// Its name, in logs and metrics.
    pub name: String,
    /// What stands before `/stocks`: empty, or `/market/api/Moscow`. Shops may share one.
    pub base_path: String,
    /// The tokens under which the Market may ask for this shop; never empty.
    pub tokens: Vec<Secret>,
    /// The Market's numbers of the warehouses that share this stock.
    pub warehouses: Vec<u64>,
    /// About SKUs never heard of.
    pub unknown_sku: UnknownSku,
    /// What is said while there is nothing to say: 503 or 500.
    pub unavailable_status: StatusCode,
}

/// When the Market last asked for each shop.
#[derive(Debug)]
pub struct LastRequests(Vec<AtomicI64>);

impl LastRequests {
    /// Nobody asked yet.
    #[must_use]
    pub fn new(shops: usize) -> Arc<Self> {
        Arc::new(Self((0..shops).map(|_| AtomicI64::new(i64::MIN)).collect()))
    }

    /// A question of an earlier life of the process is remembered, to the hour.
    pub fn restore(&self, shop: ShopId, at: DateTime<Utc>) {
        self.record(shop, at);
    }

    /// The last question that was answered with stock.
    #[must_use]
    pub fn last(&self, shop: ShopId) -> Option<DateTime<Utc>> {
        let micros = self.0.get(shop.index())?.load(Ordering::Relaxed);
        DateTime::from_timestamp_micros(micros)
    }

    fn record(&self, shop: ShopId, now: DateTime<Utc>) {
        if let Some(last) = self.0.get(shop.index()) {
            last.store(now.timestamp_micros(), Ordering::Relaxed);
        }
    }
}

/// Has somebody else asked for SKUs we do not know, while the Market waits; `None` if there is
/// nobody to ask. What comes of it is in the book then.
#[derive(Clone)]
pub struct ReadThrough(pub ReadThroughFn);

/// See [`ReadThrough`].
pub type ReadThroughFn =
    Arc<dyn Fn(ShopId, Vec<Sku>) -> Option<BoxFuture<'static, ()>> + Send + Sync>;

impl fmt::Debug for ReadThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadThrough")
    }
}

/// What this room needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the answers come from.
    pub book: Arc<StockBook>,
    /// Noted at each answer, SKU by SKU.
    pub activity: Arc<Activity>,
    /// Noted at each answer.
    pub last_requests: Arc<LastRequests>,
    /// For the zeros an operator vouches for.
    pub clock: Clock,
    /// Cold and unmapped warehouses.
    pub alarms: Alarms,
    /// Counts for the operator.
    pub metrics: Metrics,
    /// Wrong tokens.
    pub auth_failures: AuthFailures,
    /// Whom to ask until there is stock.
    pub read_through: Option<ReadThrough>,
}

/// `POST {base}/stocks` for every base path.
pub fn router(context: &Context, shops: Vec<PushShop>) -> Router {
    let mut routes: Vec<PushRoute> = Vec::new();
    for shop in shops {
        let endpoint = PushShopEndpoint {
            token_set: TokenSet::new(&shop.tokens),
            known_skus: context.metrics.sku_counter(&shop.name, "known"),
            unknown_skus: context.metrics.sku_counter(&shop.name, "unknown"),
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
                context: context.clone(),
            }),
        }
    }
    routes.into_iter().fold(Router::new(), |router, route| {
        let path = format!("{}/stocks", route.base_path);
        router.route(&path, any(handle_stocks).with_state(Arc::new(route)))
    })
}

/// The path that a request for stock probably meant: one of `paths`, but for doubled slashes or
/// slashes at its end. Paths are matched to the letter, so such a request is not served.
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

/// One base path: the shops that are asked for behind it.
struct PushRoute {
    base_path: String,
    endpoints: Vec<PushShopEndpoint>,
    context: Context,
}

/// One shop, ready to be asked for.
struct PushShopEndpoint {
    shop: PushShop,
    token_set: TokenSet,
    known_skus: Counter,
    unknown_skus: Counter,
}

async fn handle_stocks(State(route): State<Arc<PushRoute>>, request: Request) -> Response {
    let started = tokio::time::Instant::now();
    let metrics = route.context.metrics.clone();
    let response = match route.serve(request).await {
        Ok(body) => json(body),
        Err(error) => {
            let (code, message) = (error.code, &error.message);
            debug!(code, "refused a question of the Market: {message}");
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

fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl PushRoute {
    async fn serve(&self, request: Request) -> Result<Vec<u8>, ErrorResponse> {
        let (head, body) = request.into_parts();
        // Before anything else, so that a wrong token is 403 whatever else is wrong: the
        // Market probes with wrong ones on purpose.
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
        self.build_response(endpoint, &stocks_request)
    }

    /// Has what we do not know asked for elsewhere: at the first start only, and never once
    /// everything was told.
    fn read_through(
        &self,
        endpoint: &PushShopEndpoint,
        request: &StocksRequest<'_>,
    ) -> Option<BoxFuture<'static, ()>> {
        let ReadThrough(fetch) = self.context.read_through.as_ref()?;
        let shop = endpoint.shop.id;
        // Whether there is anybody to ask is cheaper to find out than what to ask for.
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

    /// The shops this request's token may ask for. The response to a wrong token may be delayed,
    /// a right one never is.
    async fn authenticate(&self, head: &Parts) -> Result<Vec<&PushShopEndpoint>, ErrorResponse> {
        let token = extract_token(head).ok_or_else(forbidden)?;
        let authorized: Vec<_> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.token_set.contains(&token))
            .collect();
        if !authorized.is_empty() {
            return Ok(authorized);
        }
        let name = format!("{}/stocks", self.base_path);
        self.context
            .auth_failures
            .penalize(Credential::PushToken, &name, &token, head)
            .await;
        Err(forbidden())
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
        // A gap in our configuration. Any 200 would be a lie about somebody's stock.
        let text = format!(
            "the Market asks for warehouse {} at {}/stocks, which no shop with that token lists",
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
    ) -> Result<Vec<u8>, ErrorResponse> {
        let Context {
            book,
            activity: marks,
            last_requests: pushes,
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
                marks.record_unknown(shop.id, warehouse_index, &sku.0, hour);
            }
            let text = format!(
                "the Market asks for shop {}, which has no stock yet",
                shop.name
            );
            alarms.raise(AlarmKind::ColdShopAsked, &shop.name, text);
            let message = "this shop has no stock yet";
            return Err(
                ErrorResponse::new(shop.unavailable_status, "NO_STOCK_YET", message)
                    .with_retry_after(RETRY_AFTER_SECS),
            );
        }
        // Two loops, not one: the first is nothing but memory look-ups, whose cache misses
        // then overlap. It halves the time of a question.
        let entries = book.get_many(shop.id, request.skus.iter().map(|sku| Sku::trim(&sku.0)));
        let mut response = StocksResponseBuilder::for_request(request);
        let mut unknown = 0;
        let known = entries
            .iter()
            .filter_map(|entry| entry.map(|entry| entry.id()));
        marks.record_requested(shop.id, warehouse_index, known, hour);
        for (sku, entry) in request.skus.iter().zip(entries) {
            if let Some(entry) = entry {
                let level = entry.level();
                // A clock that ran ahead may have dated it: the Market takes no date to come.
                let updated_at = level.updated_at.min(now.into());
                response.push_verbatim(
                    sku,
                    Level {
                        updated_at,
                        ..level
                    },
                );
            } else {
                unknown += 1;
                marks.record_unknown(shop.id, warehouse_index, &sku.0, hour);
                self.append_unknown(shop, &sku.0, &mut response, clock)?;
            }
        }
        // A question about nothing is somebody's probe, not the Market's.
        if !request.skus.is_empty() {
            pushes.record(shop.id, now);
        }
        alarms.clear(AlarmKind::ColdShopAsked, &shop.name);
        endpoint.unknown_skus.inc_by(unknown);
        endpoint
            .known_skus
            .inc_by(request.skus.len() as u64 - unknown);
        Ok(response.finish())
    }

    fn append_unknown(
        &self,
        shop: &PushShop,
        sku: &str,
        response: &mut StocksResponseBuilder,
        clock: &Clock,
    ) -> Result<(), ErrorResponse> {
        match shop.unknown_sku {
            UnknownSku::Omit => Ok(()),
            // Nothing can be said of a text that is no SKU, and the others are answered.
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
                    "refused a question because a SKU in it is unknown"
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

/// The Market asks for a warehouse about hourly: if it has not for this long, the gap is mended.
const UNMAPPED_ALARM_DURATION: TimeDelta = TimeDelta::hours(3);

/// The Market asks again by itself; this tells other callers when it makes sense.
const RETRY_AFTER_SECS: u32 = 30;

fn forbidden() -> ErrorResponse {
    // The same words whatever was wrong with the token.
    ErrorResponse::new(
        StatusCode::FORBIDDEN,
        "FORBIDDEN",
        "the token is missing or wrong",
    )
}

/// The token of a request, from whichever place it is in. `None` if there is none, if one
/// place holds two, or if the two places disagree.
fn extract_token(head: &Parts) -> Option<String> {
    let mut fields = head.headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => None,
        (Some(field), None) => Some(field.to_str().ok()?.trim().to_owned()),
        (Some(_), Some(_)) => return None,
    };
    let query = head.uri.query().unwrap_or_default();
    let mut parameters = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("auth-token="));
    let parameter = match (parameters.next(), parameters.next()) {
        (None, _) => None,
        // Percent-decoding only: a form's plus would mean a blank, a token's plus is a plus.
        (Some(text), None) => Some(percent_decode_str(text).decode_utf8().ok()?.into_owned()),
        (Some(_), Some(_)) => return None,
    };
    match (
        field.filter(|t| !t.is_empty()),
        parameter.filter(|t| !t.is_empty()),
    ) {
        (Some(field), Some(parameter)) => (field == parameter).then_some(field),
        (field, parameter) => field.or(parameter),
    }
}

fn check_head(head: &Parts) -> Result<(), ErrorResponse> {
    if head.method != Method::POST {
        let message = format!("the method is {}, this path takes POST", head.method);
        return Err(ErrorResponse::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            message,
        ));
    }
    let unsupported = |message: String| {
        ErrorResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            message,
        )
    };
    match head.headers.get(CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            return Err(unsupported(format!(
                "the content encoding is {coding:?}, only identity is taken"
            )));
        }
        Some(_) | None => {}
    }
    // A missing type is taken: the Market may vary, and the body will tell.
    match head.headers.get(CONTENT_TYPE) {
        Some(content_type) if !is_json(content_type) => Err(unsupported(format!(
            "the content type is {content_type:?}, it must be application/json in UTF-8"
        ))),
        Some(_) | None => Ok(()),
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SkuLabels {
    shop: String,
    known: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StatusLabel {
    status: u16,
}

/// Counts for the operator.
#[derive(Clone, Debug)]
pub struct Metrics {
    skus: Family<SkuLabels, Counter>,
    responses: Family<StatusLabel, Counter>,
    duration: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // From what an answer takes to the 27 seconds the Market waits.
        let buckets = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 27.0,
        ];
        Self {
            skus: Family::default(),
            responses: Family::default(),
            duration: Histogram::new(buckets),
        }
    }
}

impl Metrics {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "push_skus",
            "SKUs the Market asked for, by whether their stock is known",
            self.skus.clone(),
        );
        registry.register(
            "push_answers",
            "Questions of the Market, by the status they were answered with",
            self.responses.clone(),
        );
        registry.register_with_unit(
            "push_answer_duration",
            "Time from the head of a question to its answer, body included",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    fn sku_counter(&self, shop: &str, known: &'static str) -> Counter {
        self.skus
            .get_or_create(&SkuLabels {
                shop: shop.to_owned(),
                known,
            })
            .clone()
    }

    fn record(&self, status: StatusCode, duration: Duration) {
        self.responses
            .get_or_create(&StatusLabel {
                status: status.as_u16(),
            })
            .inc();
        self.duration.observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needless_slashes_lead_to_the_right_path() {
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

    fn token_of(uri: &str, fields: &[&str]) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for field in fields {
            request = request.header(AUTHORIZATION, *field);
        }
        extract_token(&request.body(Body::empty()).unwrap().into_parts().0)
    }

    #[test]
    fn a_token_is_taken_from_either_place() {
        assert_eq!(token_of("/stocks", &["41FB"]).as_deref(), Some("41FB"));
        assert_eq!(
            token_of("/stocks?auth-token=41FB", &[]).as_deref(),
            Some("41FB")
        );
        assert_eq!(
            token_of("/stocks?x=1&auth-token=a%2Bb+c", &[]).as_deref(),
            Some("a+b+c")
        );
        assert_eq!(
            token_of("/stocks?auth-token=41FB", &[""]).as_deref(),
            Some("41FB")
        );
    }

    #[test]
    fn two_places_must_agree_and_one_place_must_not_hold_two() {
        assert_eq!(
            token_of("/stocks?auth-token=a", &["a"]).as_deref(),
            Some("a")
        );
        assert_eq!(token_of("/stocks?auth-token=a", &["b"]), None);
        assert_eq!(token_of("/stocks?auth-token=a&auth-token=a", &[]), None);
        assert_eq!(token_of("/stocks", &["a", "a"]), None);
        assert_eq!(token_of("/stocks?auth-token=", &[]), None);
        assert_eq!(token_of("/stocks", &[]), None);
    }
}

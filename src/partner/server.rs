//! The seller calls us, as if we were the Market.
//!
//! A client of the partner API feeds stockbridge by changing its base address, and goes back
//! by changing it back. So requests, limits, errors and their wording are the Market's; only
//! the promise is stronger: 200 means the stock is on disk.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, put};
use axum::{Router, middleware};
use percent_encoding::percent_decode_str;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::wire::{
    ApiError, ApiResponse, DEFAULT_PAGE, MAX_OFFER_IDS, MAX_PAGE, MAX_UPDATE_BYTES, Paging,
    ReadBackRequest, ReadBackResponse, ReadBackResult, WarehouseOffer, WarehouseOffers,
    WarehouseStock, parse_update,
};
use crate::clock::Clock;
use crate::http::json::{Object, read_json};
use crate::http::secret::{Locks, Secret};
use crate::http::{BodyRefused, is_json, read_body};
use crate::ingest::{Ingest, IngestError, Origin};
use crate::lifecycle::run_blocking;
use crate::stock::{Count, Level, ShopId, Sku, StockBook};

/// How long a commit may take before the seller is told that nobody knows.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// How long a sorted list of a shop's SKUs is kept for the next page.
const LISTING_KEPT: Duration = Duration::from_secs(60);

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

/// A shop's SKUs in order, so that pages neither skip nor repeat.
struct Listing {
    skus: Arc<Vec<Sku>>,
    made: Instant,
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

async fn update(
    State(house): State<Arc<House>>,
    campaign: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let desk = house.admit(campaign.ok().as_ref(), &head.headers)?;
    check_content(&head)?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let warehouse = desk.shop.warehouses.first().copied().unwrap_or_default();
    let updates = parse_update(&body, warehouse, house.context.clock.now())
        .map_err(|errors| Refused { status: StatusCode::BAD_REQUEST, errors })?;
    let accepting = house.context.ingest.accept(Origin::CampaignPut, desk.shop.id, updates);
    let accepted = timeout(COMMIT_DEADLINE, accepting).await.map_err(|_| {
        unavailable("the commit takes too long; whether it happened is unknown, repeat the call")
    })??;
    debug!(?accepted, "took an update of the seller");
    Ok(answer(StatusCode::OK, &ApiResponse::ok()))
}

async fn read_back(
    State(house): State<Arc<House>>,
    campaign: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let desk = house.admit(campaign.ok().as_ref(), &head.headers)?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let filter = if body.is_empty() {
        ReadBackRequest::default()
    } else {
        check_content(&head)?;
        let Object(filter) =
            read_json(&body).map_err(|e| bad_request(format!("Illegal input: {e}")))?;
        filter
    };
    let page = match &filter.offer_ids {
        Some(ids) => desk.named(ids, &house.context.book)?,
        None => desk.page(&PageQuery::parse(head.uri.query())?, &house.context.book).await,
    };
    let result = desk.present(page, &filter);
    let response = ReadBackResponse { status: "OK".to_owned(), result: Some(result) };
    Ok(answer(StatusCode::OK, &response))
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

impl House {
    /// The shop of this campaign, if the key is one of its own.
    fn admit(
        &self,
        campaign: Option<&Path<String>>,
        headers: &HeaderMap,
    ) -> Result<&Desk, Refused> {
        let unauthorized = |message| refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        let key = key(headers).ok_or_else(|| unauthorized("Api-Key token is not specified"))?;
        // Every lock is tried, so that the time taken does not tell which shop a key is for.
        let opened: Vec<bool> = self.desks.iter().map(|desk| desk.locks.open_to(key)).collect();
        if !opened.contains(&true) {
            return Err(unauthorized("Api-Key token is invalid"));
        }
        // What is no number is no campaign of ours, and neither is 0.
        let campaign = campaign.and_then(|path| path.parse().ok()).unwrap_or(0);
        let (desk, is_open) = self
            .desks
            .iter()
            .zip(opened)
            .find(|(desk, _)| desk.shop.campaigns.contains(&campaign))
            .ok_or_else(|| refused(StatusCode::NOT_FOUND, "NOT_FOUND", "Campaign not found"))?;
        if is_open {
            Ok(desk)
        } else {
            Err(refused(StatusCode::FORBIDDEN, "FORBIDDEN", "Access denied"))
        }
    }
}

/// The key of a request: `Api-Key`, or the older `Authorization: Bearer`.
fn key(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get("api-key").and_then(|value| value.to_str().ok());
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    };
    named.or_else(bearer).map(str::trim).filter(|key| !key.is_empty())
}

fn check_content(head: &Parts) -> Result<(), Refused> {
    let is_plain = head.headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    let is_json = head.headers.get(CONTENT_TYPE).is_none_or(is_json);
    if is_plain && is_json {
        return Ok(());
    }
    Err(refused(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        "Content-Type must be application/json in UTF-8, without Content-Encoding",
    ))
}

// === The read-back ===

struct PageQuery {
    limit: usize,
    after: Option<String>,
}

impl PageQuery {
    /// Reads `limit` and `page_token`, also spelled `pageToken`; an empty one is none.
    fn parse(query: Option<&str>) -> Result<Self, Refused> {
        let mut page = Self { limit: DEFAULT_PAGE, after: None };
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "limit" if !value.is_empty() => page.limit = parse_limit(value)?,
                "page_token" | "pageToken" if !value.is_empty() => {
                    page.after = Some(parse_token(value)?);
                }
                _ => {}
            }
        }
        Ok(page)
    }
}

fn parse_limit(value: &str) -> Result<usize, Refused> {
    match value.parse::<u64>() {
        Ok(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(MAX_PAGE).min(MAX_PAGE)),
        Ok(0) | Err(_) => Err(bad_request(format!(
            "'limit' must be a whole number greater than or equal to 1, it is '{value}'"
        ))),
    }
}

/// A page token is the last SKU of the page before, in hexadecimal: it stays good whatever is
/// added, and however long the client waits.
fn page_token(last: &Sku) -> String {
    last.as_str().bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_token(value: &str) -> Result<String, Refused> {
    let unknown = || bad_request(format!("'page_token' is unknown: '{value}'"));
    let text = percent_decode_str(value).decode_utf8().map_err(|_| unknown())?;
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(unknown)?;
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unknown)
}

struct Page {
    offers: Vec<(Sku, Level)>,
    next: Option<String>,
}

impl Desk {
    /// Exactly the SKUs asked for, as far as they are known.
    fn named(&self, ids: &[String], book: &StockBook) -> Result<Page, Refused> {
        if ids.is_empty() || ids.len() > MAX_OFFER_IDS {
            return Err(bad_request(format!(
                "'offerIds' size must be between 1 and {MAX_OFFER_IDS}, it is {}",
                ids.len()
            )));
        }
        let skus = ids
            .iter()
            .map(|id| Sku::parse(id).map_err(|e| bad_request(format!("'offerIds': {e}"))))
            .collect::<Result<BTreeSet<_>, _>>()?
            .into_iter()
            .collect();
        Ok(Page { offers: self.levels(skus, book), next: None })
    }

    async fn page(&self, query: &PageQuery, book: &Arc<StockBook>) -> Page {
        let skus = self.listing(book).await;
        let after = query.after.as_deref();
        let first = after.map_or(0, |after| skus.partition_point(|sku| sku.as_str() <= after));
        let end = skus.len().min(first + query.limit);
        let next = skus[first..end].last().filter(|_| end < skus.len()).map(page_token);
        Page { offers: self.levels(skus[first..end].to_vec(), book), next }
    }

    fn levels(&self, skus: Vec<Sku>, book: &StockBook) -> Vec<(Sku, Level)> {
        skus.into_iter()
            .filter_map(|sku| {
                let entry = book.get(self.shop.id, sku.as_str())?;
                Some((sku, entry.level()))
            })
            .collect()
    }

    async fn listing(&self, book: &Arc<StockBook>) -> Arc<Vec<Sku>> {
        let kept = self.listing.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(
            |listing| {
                let is_fresh = listing.made.elapsed() < LISTING_KEPT
                    && listing.skus.len() == book.len(self.shop.id);
                is_fresh.then(|| Arc::clone(&listing.skus))
            },
        );
        if let Some(skus) = kept {
            return skus;
        }
        let (book, shop) = (Arc::clone(book), self.shop.id);
        // A million SKUs take half a second to sort: off the threads that answer the Market.
        let skus = run_blocking(move || {
            let mut skus = Vec::with_capacity(book.len(shop));
            book.for_each(shop, |sku, _| skus.push(sku.clone()));
            skus.sort_unstable();
            Arc::new(skus)
        })
        .await;
        *self.listing.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Listing { skus: Arc::clone(&skus), made: Instant::now() });
        skus
    }

    fn present(&self, page: Page, filter: &ReadBackRequest) -> ReadBackResult {
        let own = self.shop.warehouses.first().copied().unwrap_or_default();
        let warehouse = filter.stocks_warehouse_id.unwrap_or(own);
        let is_ours = self.shop.warehouses.contains(&warehouse);
        // Nothing is archived here: what is asked for by name is shown all the same.
        let is_shown = filter.offer_ids.is_some() || filter.archived != Some(true);
        let offers = page
            .offers
            .into_iter()
            .filter(|_| is_ours && is_shown)
            .filter(|(_, level)| {
                filter.has_stocks.is_none_or(|wanted| wanted == (level.count > Count::ZERO))
            })
            .map(|(sku, level)| present_offer(&sku, level))
            .collect();
        ReadBackResult {
            // Of somebody else's warehouse there is nothing on any page.
            paging: Paging { next_page_token: page.next.filter(|_| is_ours) },
            warehouses: vec![WarehouseOffers { warehouse_id: warehouse, offers }],
        }
    }
}

fn present_offer(sku: &Sku, level: Level) -> WarehouseOffer {
    let count = i64::from(level.count.get());
    let stock = |kind: &str| WarehouseStock { kind: kind.to_owned(), count };
    WarehouseOffer {
        offer_id: sku.to_string(),
        stocks: vec![stock("FIT"), stock("AVAILABLE")],
        updated_at: Some(level.updated_at.to_utc()),
    }
}

// === Refusals, in the Market's shape ===

struct Refused {
    status: StatusCode,
    errors: Vec<ApiError>,
}

fn refused(status: StatusCode, code: &str, message: impl Into<String>) -> Refused {
    let error = ApiError { code: code.to_owned(), message: message.into() };
    Refused { status, errors: vec![error] }
}

fn bad_request(message: impl Into<String>) -> Refused {
    refused(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

fn unavailable(message: impl Into<String>) -> Refused {
    refused(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", message)
}

impl From<BodyRefused> for Refused {
    fn from(why: BodyRefused) -> Self {
        match why {
            BodyRefused::TooLarge { .. } => refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "PAYLOAD_TOO_LARGE",
                format!("The request is too big: {why}"),
            ),
            BodyRefused::TimedOut => {
                refused(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", why.to_string())
            }
            BodyRefused::Cut => bad_request(why.to_string()),
        }
    }
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Full => unavailable("the disk is full, nothing was applied"),
            // The cause is in the log and in the alarm, not for callers.
            IngestError::Failed(_) => unavailable("the store cannot write, nothing was applied"),
            IngestError::Stopping => unavailable("stockbridge is stopping, repeat the call"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = answer(self.status, &ApiResponse::error(self.errors));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("our own shapes always make JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    method: &'static str,
    status: u16,
}

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
}

impl Metrics {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "feed_requests",
            "Calls of the seller to the drop-in, by method and the status they got",
            self.calls.clone(),
        );
    }

    fn note(&self, method: &'static str, status: StatusCode) {
        self.calls.get_or_create(&CallLabels { method, status: status.as_u16() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_leads_back_to_its_sku() {
        for text in ["A", "кв\"ад\\рат 😀"] {
            let sku = Sku::parse(text).unwrap();
            assert_eq!(parse_token(&page_token(&sku)).ok().as_deref(), Some(text));
        }
        for strange in ["zz", "abc", "ff"] {
            assert!(parse_token(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn an_empty_token_is_none_and_a_large_limit_is_cut() {
        let page = |query| PageQuery::parse(Some(query)).ok().map(|page| (page.limit, page.after));
        assert_eq!(page("limit=100&page_token="), Some((100, None)));
        assert_eq!(page("limit=200"), Some((100, None)));
        assert_eq!(page("pageToken=41"), Some((50, Some("A".to_owned()))));
        assert_eq!(page("limit=0"), None);
        assert_eq!(page("limit=many"), None);
    }

    #[test]
    fn a_key_is_found_in_either_header() {
        let key_of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            key(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(key_of("api-key", " ACMA:1 ").as_deref(), Some("ACMA:1"));
        assert_eq!(key_of("authorization", "Bearer y0_1").as_deref(), Some("y0_1"));
        assert_eq!(key_of("authorization", "y0_1"), None);
        assert_eq!(key_of("api-key", " "), None);
    }
}

//! The Market's side of the push API: requests stock from a shop and validates the responses.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use chrono::{DateTime, Utc};
use compact_str::CompactString;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::comparison::CountedExamples;
use super::warehouse_stock::SkuStocks;

/// Most SKUs in one request of the Market. Source: the push API's `getStocks`.
pub const MAX_SKUS_PER_REQUEST: usize = 1_000;

/// Timeout of the Market, which then retries. Source: the push API's pages.
pub const PUSH_TIMEOUT: Duration = Duration::from_secs(27);

/// Largest valid count. Source: the push API's `getStocks`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Location of the token in a request, as set in the seller's account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushTokenLocation {
    /// Header `Authorization`, without a scheme.
    Header,
    /// Query parameter `auth-token`.
    Query,
}

/// Client for the Market's hourly poll of a whole warehouse. It sends all requests in parallel.
#[derive(Clone, Copy, Debug)]
pub struct PushClient<'a> {
    /// HTTP client. It must not follow redirects, because the Market does not.
    pub http_client: &'a reqwest::Client,
    /// Base URL before `/stocks`, with or without a trailing slash.
    pub base_url: &'a str,
    /// Token of the shop.
    pub token: &'a str,
    /// Location of the token.
    pub token_location: PushTokenLocation,
    /// Warehouse id in every request.
    pub warehouse_id: u64,
    /// All SKUs to request.
    pub skus: &'a [String],
    /// SKUs per request, at most [`MAX_SKUS_PER_REQUEST`].
    pub skus_per_request: usize,
    /// Timeout of each request, usually [`PUSH_TIMEOUT`].
    pub timeout: Duration,
}

/// Progress of a poll, which other tasks can read while it runs.
#[derive(Debug, Default)]
pub struct PushProgress {
    total: AtomicUsize,
    completed: AtomicUsize,
    checked: AtomicUsize,
}

impl PushProgress {
    /// Number of requests.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Requests with a complete response, or failed.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.completed.load(Ordering::Relaxed)
    }

    /// Requests whose result has been checked.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }
}

/// Result of a poll: validity, latency, and the stock that the Market received.
#[derive(Debug, Default)]
pub struct PushReport {
    /// Number of requests.
    pub requests: usize,
    /// Requests with a valid response.
    pub valid_responses: usize,
    /// Reasons of failed requests: no response, another status, or an invalid response.
    pub failures: CountedExamples<String>,
    /// Times from sending a request to the last byte of its response, valid or not, in ascending
    /// order.
    pub latencies: Vec<Duration>,
    /// Time from the first request to the last response.
    pub duration: Duration,
    /// SKUs that the responses omit. The Market keeps its stock of them.
    pub missing: CountedExamples<String>,
    /// Count and timestamp of each SKU in the responses.
    pub stocks: SkuStocks,
}

impl PushReport {
    /// Returns the longest latency, or zero without responses.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.latencies.last().copied().unwrap_or_default()
    }
}

/// Unchecked response.
struct RawPushResponse {
    status: u16,
    content_type: Option<String>,
    chunks: Vec<Bytes>,
    latency: Duration,
}

impl PushClient<'_> {
    /// Sends all requests in parallel and returns a report.
    ///
    /// Responses are checked after the last one has arrived, so that the checks do not affect the
    /// latencies.
    pub async fn request_all(&self, progress: &PushProgress) -> PushReport {
        let batches: Vec<&[String]> = self.skus.chunks(self.skus_per_request.max(1)).collect();
        progress.total.store(batches.len(), Ordering::Relaxed);
        let bodies: Vec<Bytes> = batches.iter().map(|skus| self.request_body(skus)).collect();
        let url = self.url();
        let started = Instant::now();
        let (client, url) = (*self, url.as_str());
        let requests = bodies.into_iter().enumerate();
        let mut in_flight: FuturesUnordered<_> = requests
            .map(|(index, body)| async move { (index, client.send_request(url, body).await) })
            .collect();
        let mut responses: Vec<Option<Result<RawPushResponse, String>>> = Vec::new();
        responses.resize_with(batches.len(), || None);
        while let Some((index, response)) = in_flight.next().await {
            responses[index] = Some(response);
            progress.completed.fetch_add(1, Ordering::Relaxed);
        }
        let mut report = PushReport {
            requests: batches.len(),
            duration: started.elapsed(),
            ..PushReport::default()
        };
        report.stocks.reserve(self.skus.len());
        for (skus, response) in batches.into_iter().zip(responses.into_iter().flatten()) {
            self.record_response(skus, response, &mut report);
            progress.checked.fetch_add(1, Ordering::Relaxed);
            // Checking a thousand responses takes about a second, so let other tasks run.
            tokio::task::yield_now().await;
        }
        report.latencies.sort_unstable();
        report
    }

    fn url(&self) -> String {
        let base = self.base_url.trim_end_matches('/');
        match self.token_location {
            PushTokenLocation::Header => format!("{base}/stocks"),
            PushTokenLocation::Query => {
                let token = utf8_percent_encode(self.token, NON_ALPHANUMERIC);
                format!("{base}/stocks?auth-token={token}")
            }
        }
    }

    fn request_body(&self, skus: &[String]) -> Bytes {
        let list = serde_json::to_string(skus).unwrap_or_default();
        format!(r#"{{"warehouseId":{},"skus":{list}}}"#, self.warehouse_id).into()
    }

    async fn send_request(&self, url: &str, body: Bytes) -> Result<RawPushResponse, String> {
        let started = Instant::now();
        let result = tokio::time::timeout(self.timeout, self.post(url, body, started)).await;
        match result {
            Ok(Ok(response)) => Ok(response),
            // The URL may contain the token.
            Ok(Err(e)) => Err(strict_http::causes(&e.without_url())),
            Err(_) => Err(format!("no response within {:?}", self.timeout)),
        }
    }

    async fn post(
        &self,
        url: &str,
        body: Bytes,
        started: Instant,
    ) -> Result<RawPushResponse, reqwest::Error> {
        let request = self.http_client.post(url).body(body);
        let request = request.header(CONTENT_TYPE, "application/json;charset=utf-8");
        let request = match self.token_location {
            PushTokenLocation::Header => request.header(AUTHORIZATION, self.token),
            PushTokenLocation::Query => request,
        };
        let mut response = request.send().await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            chunks.push(chunk);
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Ok(RawPushResponse {
            status: response.status().as_u16(),
            content_type: content_type.map(str::to_owned),
            chunks,
            latency: started.elapsed(),
        })
    }

    fn record_response(
        &self,
        skus: &[String],
        response: Result<RawPushResponse, String>,
        report: &mut PushReport,
    ) {
        let result = response.and_then(|response| {
            report.latencies.push(response.latency);
            self.check_response(skus, &response, report)
        });
        match result {
            Ok(()) => report.valid_responses += 1,
            Err(reason) => report.failures.record(|| reason),
        }
    }

    fn check_response(
        &self,
        skus: &[String],
        response: &RawPushResponse,
        report: &mut PushReport,
    ) -> Result<(), String> {
        if response.status != 200 {
            return Err(format!("status {}", response.status));
        }
        let content_type = response.content_type.as_deref().unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/json") {
            return Err(format!("content type {:?}", response.content_type));
        }
        let body = response.chunks.concat();
        let stocks: SimPushResponse<'_> = serde_json::from_slice(&body)
            .map_err(|e| format!("the body is not a valid response: {e}"))?;
        let warehouse = self.warehouse_id.to_string();
        let mut remaining = skus.iter();
        for item in &stocks.skus {
            let sku = item.sku.as_ref();
            // A response keeps the order of the request, so SKUs before the found one are missing.
            let candidates = remaining.as_slice();
            let position = candidates.iter().position(|candidate| candidate == sku);
            let position =
                position.ok_or_else(|| format!("{sku:?} was not requested, or is out of order"))?;
            for missing in candidates.iter().take(position) {
                report.missing.record(|| missing.clone());
            }
            remaining.nth(position);
            let stock = item.parse(&warehouse);
            let stock = stock.map_err(|rule| format!("{sku:?}: {rule}"))?;
            report.stocks.insert(CompactString::new(sku), stock);
        }
        for missing in remaining {
            report.missing.record(|| missing.clone());
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct SimPushResponse<'a> {
    #[serde(borrow)]
    skus: Vec<SimPushSku<'a>>,
}

#[derive(Deserialize)]
struct SimPushSku<'a> {
    #[serde(borrow)]
    sku: Cow<'a, str>,
    #[serde(borrow, rename = "warehouseId")]
    warehouse_id: &'a RawValue,
    #[serde(borrow)]
    items: Vec<SimPushStock<'a>>,
}

#[derive(Deserialize)]
struct SimPushStock<'a> {
    count: u32,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, rename = "updatedAt")]
    updated_at: Cow<'a, str>,
}

impl SimPushSku<'_> {
    fn parse(&self, warehouse: &str) -> Result<(u32, DateTime<Utc>), String> {
        if self.warehouse_id.get() != warehouse {
            let id = self.warehouse_id;
            return Err(format!("warehouseId is {id}, expected {warehouse}"));
        }
        let [level] = self.items.as_slice() else {
            let count = self.items.len();
            return Err(format!("items has {count} elements, expected one"));
        };
        let SimPushStock { count, kind, .. } = level;
        if kind != "FIT" {
            return Err(format!("type is {kind}, expected FIT"));
        }
        if *count > MAX_COUNT {
            return Err(format!("count is {count}, the limit is {MAX_COUNT}"));
        }
        let at = DateTime::parse_from_rfc3339(&level.updated_at)
            .map_err(|e| format!("updatedAt is {:?}: {e}", level.updated_at))?;
        Ok((level.count, at.with_timezone(&Utc)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use lifecycle::{CrashSignal, Tasks};
    use market_api::push::wire::{StocksRequest, StocksResponseBuilder};
    use stock::{Count, Level, Timestamp};
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::*;

    fn level(count: i64) -> Level {
        let updated_at = Timestamp::from_micros(1_000_000).unwrap();
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at,
        }
    }

    /// Starts a shop whose responses come from `respond`.
    async fn start_shop(
        tasks: &Tasks,
        respond: fn(&StocksRequest<'_>, StocksResponseBuilder) -> Response,
    ) -> String {
        let router = Router::new().fallback(async move |request: Request| {
            let uri = request.uri().to_string();
            let authorization = request.headers().get(AUTHORIZATION).cloned();
            let body = axum::body::to_bytes(request.into_body(), usize::MAX)
                .await
                .unwrap();
            let stocks_request = StocksRequest::parse(&body).unwrap();
            let is_authorized = authorization.is_some_and(|token| token == "to+ken")
                || uri.ends_with("?auth-token=to%2Bken");
            assert!(is_authorized && uri.starts_with("/shop/stocks"), "{uri}");
            respond(
                &stocks_request,
                StocksResponseBuilder::for_request(&stocks_request),
            )
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let owned_tasks = tasks.clone();
        tasks.spawn_short_lived(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let router = router.clone();
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                owned_tasks.spawn_short_lived(async move { drop(connection.await) });
            }
        });
        format!("http://{address}/shop/")
    }

    async fn run_push(
        token_location: PushTokenLocation,
        respond: fn(&StocksRequest<'_>, StocksResponseBuilder) -> Response,
    ) -> PushReport {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let base_url = start_shop(&Tasks::new(CrashSignal::default()), respond).await;
        let skus: Vec<String> = (0..25).map(|n| format!("0{n}")).collect();
        let progress = PushProgress::default();
        let client = PushClient {
            http_client: &reqwest::Client::new(),
            base_url: &base_url,
            token: "to+ken",
            token_location,
            warehouse_id: 7,
            skus: &skus,
            skus_per_request: 10,
            timeout: PUSH_TIMEOUT,
        };
        let report = client.request_all(&progress).await;
        assert_eq!(
            (progress.total(), progress.completed(), progress.checked()),
            (3, 3, 3)
        );
        assert_eq!(report.requests, 3);
        report
    }

    fn json(body: impl IntoResponse) -> Response {
        ([(CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
    }

    fn respond_to_all(
        request: &StocksRequest<'_>,
        mut response: StocksResponseBuilder,
    ) -> Response {
        for sku in &request.skus {
            response.push(&sku.0, level(5));
        }
        json(response.finish())
    }

    #[tokio::test]
    async fn accepts_token_in_header_and_query() {
        for token_location in [PushTokenLocation::Header, PushTokenLocation::Query] {
            let report = run_push(token_location, respond_to_all).await;
            assert_eq!(
                (report.valid_responses, report.stocks.len()),
                (3, 25),
                "{:?}",
                report.failures
            );
            assert_eq!(report.stocks["024"].0, 5);
            assert_eq!(report.latencies.len(), 3);
            assert_eq!(report.latencies.iter().max(), Some(&report.slowest()));
        }
    }

    #[tokio::test]
    async fn omitted_skus_are_reported_as_missing() {
        let report = run_push(PushTokenLocation::Header, |request, mut response| {
            for sku in request.skus.iter().skip(1) {
                response.push(&sku.0, level(5));
            }
            json(response.finish())
        })
        .await;
        assert_eq!((report.valid_responses, report.stocks.len()), (3, 22));
        assert_eq!(report.missing.count, 3);
        assert!(report.missing.examples.contains(&"00".to_owned()));
    }

    #[tokio::test]
    async fn rejects_invalid_responses() {
        for (reason, respond) in [
            (
                "status 201",
                (|_, response| (StatusCode::CREATED, json(response.finish())).into_response())
                    as fn(&StocksRequest<'_>, StocksResponseBuilder) -> Response,
            ),
            ("content type", |_, response| {
                response.finish().into_response()
            }),
            ("not a valid response", |_, _| json("[]")),
            ("out of order", |request, mut response| {
                for sku in request.skus.iter().rev() {
                    response.push(&sku.0, level(5));
                }
                json(response.finish())
            }),
            ("was not requested", |_, mut response| {
                response.push("other", level(5));
                json(response.finish())
            }),
            ("warehouseId is 70", |request, response| {
                respond_with_replacement(request, response, ":7,", ":70,")
            }),
            ("type is X", |request, response| {
                respond_with_replacement(request, response, "FIT", "X")
            }),
            ("count is 2000000001", |request, response| {
                respond_with_replacement(request, response, ":5,", ":2000000001,")
            }),
            ("updatedAt is", |request, response| {
                respond_with_replacement(request, response, "Z\"", "\"")
            }),
            ("items has 0 elements", |request, response| {
                respond_with_replacement(
                    request,
                    response,
                    r#"{"count":5,"type":"FIT","updatedAt":"1970-01-01T00:00:01Z"}"#,
                    "",
                )
            }),
        ] {
            let report = run_push(PushTokenLocation::Header, respond).await;
            assert_eq!(
                (report.valid_responses, report.failures.count),
                (0, 3),
                "{reason}"
            );
            assert!(
                report.failures.examples[0].contains(reason),
                "{:?}",
                report.failures
            );
        }
    }

    fn respond_with_replacement(
        request: &StocksRequest<'_>,
        mut response: StocksResponseBuilder,
        from: &str,
        to: &str,
    ) -> Response {
        for sku in &request.skus {
            response.push(&sku.0, level(5));
        }
        json(
            String::from_utf8(response.finish())
                .unwrap()
                .replace(from, to),
        )
    }

    #[tokio::test]
    async fn unreachable_shop_fails_every_request() {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = PushClient {
            http_client: &reqwest::Client::new(),
            base_url: &base_url,
            token: "secret",
            token_location: PushTokenLocation::Query,
            warehouse_id: 7,
            skus: &["A".to_owned()],
            skus_per_request: MAX_SKUS_PER_REQUEST,
            timeout: PUSH_TIMEOUT,
        };
        let report = client.request_all(&PushProgress::default()).await;
        assert_eq!(
            (
                report.valid_responses,
                report.failures.count,
                report.latencies.len()
            ),
            (0, 1, 0)
        );
        assert!(
            !report.failures.examples[0].contains("secret"),
            "{:?}",
            report.failures
        );
    }
}

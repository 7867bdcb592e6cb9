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

/// Most SKUs the Market puts in one question. Source: the push API's `getStocks`.
pub const MAX_SKUS_PER_REQUEST: usize = 1_000;

/// The Market asks again if it was not answered by then. Source: the push API's pages.
pub const PUSH_TIMEOUT: Duration = Duration::from_secs(27);

/// Largest count. Source: the push API's `getStocks`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Where the Market puts the token, as set in the seller's cabinet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PushTokenLocation {
    /// Bare in `Authorization`.
    Header,
    /// In the query, as `auth-token`.
    Query,
}

/// The Market's hourly question about a whole warehouse: every request at the same time.
#[derive(Clone, Copy, Debug)]
pub struct PushClient<'a> {
    /// Asks; should not follow redirects, as the Market does not.
    pub http_client: &'a reqwest::Client,
    /// What stands before `/stocks`.
    pub base_url: &'a str,
    /// The shop's token.
    pub token: &'a str,
    /// Where it goes.
    pub token_location: PushTokenLocation,
    /// Which warehouse.
    pub warehouse_id: u64,
    /// What is asked about.
    pub skus: &'a [String],
    /// [`SKUS_PER_QUESTION`], or fewer.
    pub skus_per_request: usize,
    /// [`DEADLINE`], or another.
    pub timeout: Duration,
}

/// How far a push has come, to be read while it runs.
#[derive(Debug, Default)]
pub struct PushProgress {
    total: AtomicUsize,
    completed: AtomicUsize,
    checked: AtomicUsize,
}

impl PushProgress {
    /// Questions there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Questions answered to the last byte, or given up.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.completed.load(Ordering::Relaxed)
    }

    /// Answers checked.
    #[must_use]
    pub fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }
}

/// What the Market learned, and how long it had to wait.
#[derive(Debug, Default)]
pub struct PushReport {
    /// Questions asked.
    pub requests: usize,
    /// Questions answered as the Market wants it.
    pub valid_responses: usize,
    /// Questions that were not, and why: no answer, another status, a broken rule.
    pub failures: CountedExamples<String>,
    /// Answers that came, good or not, each with the time from asking to the last byte, the
    /// quickest first.
    pub latencies: Vec<Duration>,
    /// From the first question to the last answer.
    pub duration: Duration,
    /// SKUs left out of answers that are otherwise good: the Market keeps what it had.
    pub missing: CountedExamples<String>,
    /// What was said of each SKU.
    pub stocks: SkuStocks,
}

impl PushReport {
    /// The slowest answer.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.latencies.last().copied().unwrap_or_default()
    }

    /// The time within which this share of the answers came, `0.0..=1.0`.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Duration {
        let last = u32::try_from(self.latencies.len())
            .unwrap_or(u32::MAX)
            .saturating_sub(1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u32, and a cast saturates"
        )]
        let rank = (f64::from(last) * fraction).ceil() as usize;
        self.latencies.get(rank).copied().unwrap_or_default()
    }
}

/// One answer as it came, not looked into.
struct RawPushResponse {
    status: u16,
    content_type: Option<String>,
    chunks: Vec<Bytes>,
    latency: Duration,
}

impl PushClient<'_> {
    /// Asks everything at once, and only when the last answer is in looks at what they say,
    /// so that looking does not slow them down.
    pub async fn request_all(&self, progress: &PushProgress) -> PushReport {
        let batches: Vec<&[String]> = self.skus.chunks(self.skus_per_request.max(1)).collect();
        progress.total.store(batches.len(), Ordering::Relaxed);
        let bodies: Vec<Bytes> = batches.iter().map(|skus| self.request_body(skus)).collect();
        let url = self.url();
        let started = Instant::now();
        let mut in_flight: FuturesUnordered<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(index, body)| {
                let url = url.as_str();
                async move { (index, self.send_request(url, body).await) }
            })
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
            // A thousand answers take a second to check: others want to run too.
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
            // The address may hold the token.
            Ok(Err(e)) => Err(error_chain(&e.without_url())),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
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
        Ok(RawPushResponse {
            status: response.status().as_u16(),
            content_type: content_type
                .and_then(|v| v.to_str().ok())
                .map(str::to_owned),
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
        let media_type = response
            .content_type
            .as_deref()
            .and_then(|value| value.split(';').next());
        if !media_type
            .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
        {
            return Err(format!("content type {:?}", response.content_type));
        }
        let body = response.chunks.concat();
        let stocks: SimPushResponse<'_> =
            serde_json::from_slice(&body).map_err(|e| format!("the body is no answer: {e}"))?;
        let warehouse = self.warehouse_id.to_string();
        let mut remaining = skus.iter();
        for item in &stocks.skus {
            let sku = item.sku.as_ref();
            // Those in between were left out; one that is never found was not asked, or not now.
            let candidates = remaining.as_slice();
            let position = candidates
                .iter()
                .position(|candidate| candidate == sku)
                .ok_or_else(|| format!("{sku:?} was not asked, or is out of order"))?;
            for missing in candidates.iter().take(position) {
                report.missing.record(|| missing.clone());
            }
            remaining.nth(position);
            let stock = item
                .parse(&warehouse)
                .map_err(|rule| format!("{sku:?}: {rule}"))?;
            report.stocks.insert(CompactString::new(sku), stock);
        }
        for missing in remaining {
            report.missing.record(|| missing.clone());
        }
        Ok(())
    }
}

/// An error with its causes: what it says alone is "error sending request".
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
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
            return Err(format!(
                "warehouseId is {}, not {warehouse}",
                self.warehouse_id
            ));
        }
        let [level] = self.items.as_slice() else {
            return Err(format!("{} items, not one", self.items.len()));
        };
        if level.kind != "FIT" {
            return Err(format!("type is {}, not FIT", level.kind));
        }
        if level.count > MAX_COUNT {
            return Err(format!("count is {}", level.count));
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
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::*;
    use crate::lifecycle::{CrashSignal, Tasks};
    use crate::push_api::wire::{StocksRequest, StocksResponseBuilder};
    use crate::stock::{Count, Level, Timestamp};

    fn level(count: i64) -> Level {
        let updated_at = Timestamp::from_micros(1_000_000).unwrap();
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at,
        }
    }

    /// A shop that answers with whatever `say` makes of a question and its own good answer.
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

    fn answer_all(request: &StocksRequest<'_>, mut response: StocksResponseBuilder) -> Response {
        for sku in &request.skus {
            response.push(&sku.0, level(5));
        }
        json(response.finish())
    }

    #[tokio::test]
    async fn good_answers_are_all_taken_with_the_token_in_either_place() {
        for token_location in [PushTokenLocation::Header, PushTokenLocation::Query] {
            let report = run_push(token_location, answer_all).await;
            assert_eq!(
                (report.valid_responses, report.stocks.len()),
                (3, 25),
                "{:?}",
                report.failures
            );
            assert_eq!(report.stocks["024"].0, 5);
            assert_eq!(report.latencies.len(), 3);
            assert_eq!(report.quantile(1.0), report.slowest());
        }
    }

    #[tokio::test]
    async fn skus_left_out_are_missing_and_the_others_still_count() {
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
    async fn answers_the_market_would_not_take_are_failures() {
        for (reason, respond) in [
            (
                "status 201",
                (|_, response| (StatusCode::CREATED, json(response.finish())).into_response())
                    as fn(&StocksRequest<'_>, StocksResponseBuilder) -> Response,
            ),
            ("content type", |_, response| {
                response.finish().into_response()
            }),
            ("is no answer", |_, _| json("[]")),
            ("out of order", |request, mut response| {
                for sku in request.skus.iter().rev() {
                    response.push(&sku.0, level(5));
                }
                json(response.finish())
            }),
            ("was not asked", |_, mut response| {
                response.push("stranger", level(5));
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
            ("0 items", |request, response| {
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
    async fn a_shop_that_is_not_there_fails_every_question() {
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

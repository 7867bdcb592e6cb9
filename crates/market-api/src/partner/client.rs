//! Client for the stock methods of the partner API: updates and read-back, with rate-limit headers.
//!
//! It only sends and reads; the migrator decides what a response means. The key is masked in
//! response texts, because they are logged.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap};
use strict_http::secret::Secret;
use strict_http::{causes, read_response};
use tokio::time::Instant;

use super::readback_page::ReadbackQuery;
use super::wire::{ApiResponse, MarketAddress};

/// Most bytes read of a response. A response to an update is one line, and the largest page of a
/// read-back has 100 offers.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Outcome of a request.
#[derive(Clone, Debug)]
pub enum CallOutcome {
    /// A complete response of the Market or of a proxy.
    Response(MarketResponse),
    /// No response, or an incomplete one. The effect on the Market is unknown.
    NoResponse(String),
}

impl CallOutcome {
    /// Returns the response, if there is one.
    #[must_use]
    pub fn into_response(self) -> Option<MarketResponse> {
        match self {
            Self::Response(response) => Some(response),
            Self::NoResponse(_) => None,
        }
    }
}

/// Response of the Market.
#[derive(Clone, Debug)]
pub struct MarketResponse {
    /// HTTP status.
    pub status: u16,
    /// Whole body.
    pub body: Bytes,
    /// Rate-limit headers.
    pub rate: RateHeaders,
    /// Header `Date`: the Market's clock.
    pub date: Option<DateTime<Utc>>,
    /// Times of request and response by the local clock.
    pub times: RequestTimes,
    /// Market's id of this request, for its support.
    pub trace_id: Option<String>,
}

/// Times of a request and of its response head, by the local clock.
///
/// The head counts, not the end of the body: the Market dates the head, and a body may be slow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestTimes {
    /// Time at which the request was sent.
    pub sent_at: DateTime<Utc>,
    /// Time at which the response head arrived.
    pub head_at: DateTime<Utc>,
}

/// Headers `X-RateLimit-Resource-…`. Source: limits page of the documentation, 2026.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RateHeaders {
    /// SKUs per period.
    pub limit: Option<u32>,
    /// SKUs left in the current period.
    pub remaining: Option<u32>,
    /// Time from the response to the next period: `-Until` minus the response's own `Date`, so
    /// that a wrong clock on either side does not matter.
    pub resets_in: Option<Duration>,
}

impl MarketResponse {
    /// Builds a response. The arrival of the head replaces a missing `Date`.
    #[must_use]
    pub fn read(status: u16, headers: &HeaderMap, body: Bytes, times: RequestTimes) -> Self {
        let trace_id = ["traceparent", "x-request-id", "x-market-req-id"]
            .iter()
            .find_map(|name| header(headers, name));
        let date = header(headers, DATE.as_str()).and_then(parse_http_date);
        Self {
            status,
            body,
            rate: RateHeaders::read(headers, date.unwrap_or(times.head_at)),
            date,
            times,
            trace_id: trace_id.map(ToOwned::to_owned),
        }
    }
}

impl RateHeaders {
    fn read(headers: &HeaderMap, date: DateTime<Utc>) -> Self {
        let number = |name: &str| header(headers, name)?.trim().parse().ok();
        let until = header(headers, "x-ratelimit-resource-until").and_then(parse_http_date);
        Self {
            limit: number("x-ratelimit-resource-limit"),
            remaining: number("x-ratelimit-resource-remaining"),
            resets_in: until.map(|until| (until - date).to_std().unwrap_or(Duration::ZERO)),
        }
    }
}

/// Parses an HTTP date without its weekday, which is wrong in the documentation's own example.
fn parse_http_date(text: &str) -> Option<DateTime<Utc>> {
    let date = text.split_once(',').map_or(text, |(_weekday, date)| date);
    let parsed = DateTime::parse_from_rfc2822(date.trim()).ok()?;
    Some(parsed.to_utc())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Client for the Market at one base URL.
#[derive(Clone, Debug)]
pub struct MarketClient {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
}

impl MarketClient {
    /// Creates a client for `base`, such as `https://api.partner.market.yandex.ru`. `http` must
    /// not follow redirects.
    #[must_use]
    pub fn new(http: reqwest::Client, base: &str) -> Self {
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// Returns the base URL without a trailing slash.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends one batch of stock with the method of this address.
    ///
    /// `now` is the time of sending. It replaces a missing `Date` of the response.
    pub async fn update_stocks(
        &self,
        address: &MarketAddress,
        key: &Secret,
        body: Vec<u8>,
        now: DateTime<Utc>,
    ) -> CallOutcome {
        let url = format!("{}/{}/offers/stocks", self.base, address.path());
        let request = match address {
            MarketAddress::Campaign { .. } => self.http.put(url),
            MarketAddress::Business { .. } => self.http.post(format!("{url}/update")),
        };
        self.send(request, key, body, now).await
    }

    /// Requests a part of the Market's copy with the method of this address.
    pub async fn readback(
        &self,
        address: &MarketAddress,
        key: &Secret,
        query: &ReadbackQuery,
        now: DateTime<Utc>,
    ) -> CallOutcome {
        let (query_string, body) = query.query_and_body(address);
        let path = address.path();
        let url = format!("{}/{path}/offers/stocks{query_string}", self.base);
        let request = self.http.post(url);
        self.send(request, key, body.into_bytes(), now).await
    }

    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
        key: &Secret,
        body: Vec<u8>,
        now: DateTime<Utc>,
    ) -> CallOutcome {
        let request = request
            .header("Api-Key", key.expose())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        match call(request, now).await {
            Ok(response) => CallOutcome::Response(response),
            Err(reason) => CallOutcome::NoResponse(reason),
        }
    }
}

/// Sends a request at `now` and reads its response.
pub(super) async fn call(
    request: reqwest::RequestBuilder,
    now: DateTime<Utc>,
) -> Result<MarketResponse, String> {
    // The URL is removed because logs and the status show the reason.
    let describe_failure = |error: reqwest::Error| causes(&error.without_url());
    let started = Instant::now();
    let (client, request) = request.build_split();
    let request = request.map_err(describe_failure)?;
    let key = request.headers().get("Api-Key").cloned();
    let response = client.execute(request).await.map_err(describe_failure)?;
    // By the monotonic clock: a change of the wall clock in between must not count as skew.
    let times = RequestTimes {
        sent_at: now,
        head_at: now + started.elapsed(),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = read_response(response, MAX_RESPONSE_BYTES)
        .await
        .map_err(|error| causes(&error))?;
    let key = key
        .as_ref()
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default();
    Ok(MarketResponse::read(
        status,
        &headers,
        mask(body, key),
        times,
    ))
}

/// Masks the key in a response that is not a success, because logs show its text.
fn mask(body: Bytes, key: &str) -> Bytes {
    let Ok(text) = str::from_utf8(&body) else {
        return body;
    };
    let encoded = utf8_percent_encode(key, NON_ALPHANUMERIC).to_string();
    let escaped = key.replace('/', "\\/");
    let forms = [key, encoded.as_str(), escaped.as_str()];
    if key.is_empty() || !forms.iter().any(|form| text.contains(form)) {
        return body;
    }
    if serde_json::from_slice::<ApiResponse>(&body).is_ok_and(|r| r.status == "OK") {
        return body;
    }
    let masked = forms.iter().fold(Cow::Borrowed(text), |text, form| {
        text.replace(form, "***").into()
    });
    masked.into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn computes_reset_from_the_response_date() {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        let response = MarketResponse::read(
            200,
            &headers(&[
                ("X-RateLimit-Resource-Limit", "100000"),
                ("X-RateLimit-Resource-Remaining", "0"),
                // The weekday is wrong, as in the documentation.
                (
                    "X-RateLimit-Resource-Until",
                    "Thu, 10 Jul 2018 00:42:42 GMT",
                ),
                ("Date", "Tue, 10 Jul 2018 00:42:12 GMT"),
            ]),
            Bytes::new(),
            RequestTimes {
                sent_at: now,
                head_at: now,
            },
        );
        let rate = response.rate;
        assert_eq!(rate.resets_in, Some(Duration::from_secs(30)));
        assert_eq!((rate.limit, rate.remaining), (Some(100_000), Some(0)));
    }

    #[test]
    fn masks_the_key_in_failed_responses() {
        let masked = |body: &str| {
            let masked = mask(body.to_owned().into(), "ACMA:a/b+c=");
            String::from_utf8(masked.to_vec()).unwrap()
        };
        for body in [
            r#"{"status":"ERROR","errors":[{"code":"X","message":"Api-Key ACMA:a/b+c= is invalid"}]}"#,
            r#"{"status":"ERROR","errors":[{"code":"X","message":"ACMA:a\/b+c="}]}"#,
            "<html>ACMA%3Aa%2Fb%2Bc%3D</html>",
            "ACMA:a/b+c=",
        ] {
            assert!(
                masked(body).contains("***") && !masked(body).contains("ACMA"),
                "{body}"
            );
        }
        let good = r#"{"status":"OK","result":{"offers":[{"offerId":"ACMA:a/b+c="}]}}"#;
        assert_eq!(masked(good), good);
        assert_eq!(masked("without a key"), "without a key");
    }

    #[test]
    fn missing_date_is_now_and_past_until_is_zero() {
        let now = "2018-07-10T00:42:40Z".parse().unwrap();
        let until =
            |text| RateHeaders::read(&headers(&[("X-RateLimit-Resource-Until", text)]), now);
        assert_eq!(
            until("Tue, 10 Jul 2018 00:42:42 GMT").resets_in,
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            until("Tue, 10 Jul 2018 00:00:00 GMT").resets_in,
            Some(Duration::ZERO)
        );
        assert_eq!(until("soon").resets_in, None);
        assert_eq!(
            RateHeaders::read(&headers(&[]), now),
            RateHeaders::default()
        );
    }
}

//! Responses of the simulator: the Market's JSON shapes, rate-limit headers, and broken responses.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike, TimeDelta, Timelike as _, Utc};
use futures_util::stream;
use serde_json::{Value, json};

use super::quota::{QuotaOwner, RemainingQuota};

const LIMIT_HEADER: HeaderName = HeaderName::from_static("x-ratelimit-resource-limit");
const REMAINING_HEADER: HeaderName = HeaderName::from_static("x-ratelimit-resource-remaining");
const UNTIL_HEADER: HeaderName = HeaderName::from_static("x-ratelimit-resource-until");

/// Error response in the documented shape.
#[derive(Debug)]
pub(crate) struct SimError {
    pub(crate) status: u16,
    code: &'static str,
    messages: Vec<String>,
    rate_limit: Option<RateLimitHeaders>,
}

/// Rate-limit headers of a 420 response.
#[derive(Debug)]
pub(crate) struct RateLimitHeaders {
    pub(crate) limit: usize,
    pub(crate) until: DateTime<Utc>,
    /// Sends a wrong weekday in the date, as the documentation's example does.
    pub(crate) wrong_weekday: bool,
}

/// Response of a method.
pub(crate) type SimResult<T = Response> = Result<T, SimError>;

/// A 400 with one message.
impl From<String> for SimError {
    fn from(message: String) -> Self {
        Self::new(400, message)
    }
}

impl SimError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        let code = match status {
            400 => "BAD_REQUEST",
            401 => "UNAUTHORIZED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            405 => "METHOD_NOT_ALLOWED",
            415 => "UNSUPPORTED_MEDIA_TYPE",
            420 => "TOO_MANY_REQUESTS",
            423 => "LOCKED",
            503 => "SERVICE_UNAVAILABLE",
            _ => "INTERNAL_SERVER_ERROR",
        };
        Self {
            status,
            code,
            messages: vec![message.into()],
            rate_limit: None,
        }
    }

    pub(crate) fn bad_request(messages: Vec<String>) -> Self {
        Self {
            messages,
            ..Self::new(400, "")
        }
    }

    /// Creates a 420 for too many parallel requests.
    pub(crate) fn parallel_limit(limit: usize, owner: QuotaOwner) -> Self {
        let message = format!("Hit rate limit of {limit} parallel requests for {owner}");
        Self::new(420, message)
    }

    /// Creates a 420 for too many SKUs or requests per minute.
    pub(crate) fn volume_limit(
        limit: usize,
        owner: QuotaOwner,
        rate_limit: Option<RateLimitHeaders>,
    ) -> Self {
        let message = format!("Hit rate limit of {limit} requests per '60 SECONDS' for {owner}");
        Self {
            rate_limit,
            ..Self::new(420, message)
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let error = |message| json!({ "code": self.code, "message": message });
        let errors: Vec<Value> = self.messages.into_iter().map(error).collect();
        let mut response = json(self.status, &json!({ "status": "ERROR", "errors": errors }));
        if let Some(headers) = self.rate_limit {
            let until = rfc_822(headers.until, headers.wrong_weekday);
            set_limit_headers(&mut response, headers.limit, 0, until);
        }
        response
    }
}

/// Creates the response `{"status":"OK"}`.
pub(crate) fn ok() -> Response {
    json(200, &json!({ "status": "OK" }))
}

/// Creates the response of a method with a `result`.
pub(crate) fn result(result: &Value) -> Response {
    json(200, &json!({ "status": "OK", "result": result }))
}

pub(crate) fn json(status: u16, body: &Value) -> Response {
    let content_type = [(CONTENT_TYPE, "application/json")];
    (status_code(status), content_type, body.to_string()).into_response()
}

/// Creates an HTML page, as a proxy in front of the Market sends it.
pub(crate) fn html(status: u16) -> Response {
    let page = format!("<html><head><title>{status}</title></head><body>nginx</body></html>");
    (status_code(status), [(CONTENT_TYPE, "text/html")], page).into_response()
}

pub(crate) fn empty(status: u16) -> Response {
    status_code(status).into_response()
}

pub(crate) fn redirect(location: &str) -> Response {
    (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response()
}

/// Replaces the body so that the connection breaks in the middle of it.
pub(crate) fn truncated(response: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    let (length, json) = (HeaderValue::from_static("15"), "application/json");
    parts.headers.insert(CONTENT_LENGTH, length);
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(json));
    // The pause between the frames lets the server flush. Without it the head would be lost too.
    let frames = stream::unfold(0, |frame| async move {
        match frame {
            0 => Some((Ok(Bytes::from_static(br#"{"statu"#)), 1)),
            1 => {
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), 2))
            }
            _ => None,
        }
    });
    Response::from_parts(parts, Body::from_stream(frames))
}

/// Marker for [`super::server`]: close the connection without a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseConnection;

pub(crate) fn close_without_response() -> Response {
    let mut response = truncated(empty(200));
    response.extensions_mut().insert(CloseConnection);
    response
}

/// Sets `Date` from the simulator's clock.
pub(crate) fn with_date(mut response: Response, now: DateTime<Utc>) -> Response {
    response.headers_mut().insert(DATE, rfc_822(now, false));
    response
}

/// Sets `traceparent`, the request id that the Market's support asks for.
/// Source: the best practices page, "log `traceparent`".
pub(crate) fn with_traceparent(mut response: Response, trace_id: u128) -> Response {
    let traceparent = format!("00-{trace_id:032x}-{:016x}-01", trace_id >> 64);
    if let Ok(value) = HeaderValue::try_from(traceparent) {
        response.headers_mut().insert("traceparent", value);
    }
    response
}

/// Adds the remaining quota and its refill time, unless the response has these headers already.
pub(crate) fn with_quota_headers(
    mut response: Response,
    limit: usize,
    quota: RemainingQuota,
    now: DateTime<Utc>,
) -> Response {
    if !response.headers().contains_key(LIMIT_HEADER) {
        let until = rfc_822(round_up_to_seconds(now + quota.refills_in), false);
        set_limit_headers(&mut response, limit, quota.remaining, until);
    }
    response
}

/// Adds a second to a time with a fraction, because an HTTP date drops fractions and a client must
/// not retry too early.
pub(crate) fn round_up_to_seconds(at: DateTime<Utc>) -> DateTime<Utc> {
    at + TimeDelta::seconds(i64::from(at.nanosecond() > 0))
}

fn set_limit_headers(response: &mut Response, limit: usize, remaining: usize, until: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(LIMIT_HEADER, limit.into());
    headers.insert(REMAINING_HEADER, remaining.into());
    headers.insert(UNTIL_HEADER, until);
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("all statuses in this module have three digits")
}

fn rfc_822(at: DateTime<Utc>, wrong_weekday: bool) -> HeaderValue {
    let weekday = (at + TimeDelta::days(if wrong_weekday { 2 } else { 0 })).weekday();
    let text = format!("{weekday}, {} GMT", at.format("%d %b %Y %H:%M:%S"));
    HeaderValue::try_from(text).expect("a date is plain ASCII")
}

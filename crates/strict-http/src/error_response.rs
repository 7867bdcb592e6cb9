//! Error responses: one JSON shape for every error of the push API and the operator listener.

use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Longest message, in characters. A message may repeat what the client sent.
const MAX_MESSAGE_CHARS: usize = 4_000;

/// Error response with the body `{"error":{"code":"…","message":"…"}}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable error code for programs.
    pub code: &'static str,
    /// Sentence for people that names the value and the rule. It never contains the cause of an
    /// internal error.
    pub message: String,
    /// Seconds after which a retry makes sense, for the header `Retry-After`.
    pub retry_after: Option<u32>,
}

impl ErrorResponse {
    /// Creates a response without `Retry-After`. Cuts a message of more than 4,000 characters.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self {
            status,
            code,
            message,
            retry_after: None,
        }
    }

    /// Sets `Retry-After` to `seconds`.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// Creates the response to an internal error. The caller logs the cause.
    #[must_use]
    pub fn internal() -> Self {
        let message = "internal error: see the log of the service";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// Returns the response body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (code, message) = (self.code, self.message.as_str());
        let error = ErrorBody { code, message };
        serde_json::to_vec(&ErrorEnvelope { error }).expect("two strings always make JSON")
    }

    /// Returns the whole response in HTTP/1.1 format, for requests that hyper does not see. The
    /// response to a HEAD request has only the length of the body.
    pub(super) fn to_http_bytes(&self, is_head_request: bool) -> Vec<u8> {
        let body = self.to_json();
        let retry = self.retry_after.map(|s| format!("retry-after: {s}\r\n"));
        let retry = retry.unwrap_or_default();
        // RFC 9110 requires `Allow` with 405. These are the methods of all routes together.
        let allow = match self.status {
            StatusCode::METHOD_NOT_ALLOWED => "allow: GET, HEAD, POST, PUT\r\n",
            _ => "",
        };
        let mut response = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
             connection: close\r\n{allow}{retry}content-length: {length}\r\n\r\n",
            status = self.status,
            length = body.len(),
        )
        .into_bytes();
        if !is_head_request {
            response.extend_from_slice(&body);
        }
        response
    }

    /// Returns true if the rest of the request makes the connection unusable.
    fn closes_connection(&self) -> bool {
        matches!(
            self.status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        )
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[derive(Serialize)]
struct ErrorEnvelope<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_json_and_not_cached() {
        let error = ErrorResponse::new(StatusCode::SERVICE_UNAVAILABLE, "BUSY", "say \"later\"");
        let response = error.clone().with_retry_after(5).into_response();
        assert_eq!(
            error.to_json(),
            br#"{"error":{"code":"BUSY","message":"say \"later\""}}"#
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert!(!response.headers().contains_key(CONNECTION));
    }

    #[test]
    fn content_length_counts_bytes() {
        let bytes =
            ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", "слово").to_http_bytes(false);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }

    #[test]
    fn response_to_head_has_no_body() {
        let error = ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", "word");
        let [full, head] = [false, true].map(|is_to_head| error.to_http_bytes(is_to_head));
        let end = full
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        assert_eq!(head, &full[..end]);
    }

    #[test]
    fn cuts_long_messages() {
        let error = ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", "я".repeat(1_000_000));
        assert!(error.message.len() < 10_000 && error.message.ends_with("яя…"));
        let short = "я".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(
            ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", short.as_str()).message,
            short
        );
    }
}

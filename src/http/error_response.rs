//! How we say no: one JSON shape for every error this program answers.

use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Longest message, in characters: it may repeat what the client sent.
const MAX_MESSAGE_CHARS: usize = 4_000;

/// A request that was not served, and why, as `{"error":{"code":"…","message":"…"}}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable name that programs can tell refusals apart by.
    pub code: &'static str,
    /// A sentence for people: the value and the rule. Never the cause of an inner fault.
    pub message: String,
    /// When it makes sense to try again, in seconds.
    pub retry_after: Option<u32>,
}

impl ErrorResponse {
    /// A refusal that says nothing about trying again.
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

    /// The same, to be tried again after `seconds`.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// The answer to a fault of ours; the cause belongs in the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "the request failed inside",
        )
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let error = ErrorBody {
            code: self.code,
            message: &self.message,
        };
        serde_json::to_vec(&ErrorEnvelope { error }).expect("two strings always make JSON")
    }

    /// The whole answer as it goes over the wire, for where no HTTP library has the word. The
    /// answer to a HEAD request has no body, only its length.
    pub(super) fn to_http_bytes(&self, is_head_request: bool) -> Vec<u8> {
        let body = self.to_json();
        let retry = self
            .retry_after
            .map(|s| format!("retry-after: {s}\r\n"))
            .unwrap_or_default();
        // RFC 9110 wants it with 405; the methods are those that any route of ours takes.
        let allow = if self.status == StatusCode::METHOD_NOT_ALLOWED {
            "allow: GET, HEAD, POST, PUT\r\n"
        } else {
            ""
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

    /// Whether what is left of the request makes the connection useless.
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
    fn a_refusal_has_the_one_shape_and_is_not_cached() {
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
    fn the_wire_form_counts_bytes_not_characters() {
        let bytes =
            ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", "слово").to_http_bytes(false);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }

    #[test]
    fn the_wire_form_for_head_has_no_body() {
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
    fn a_message_of_any_length_is_cut() {
        let error = ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", "я".repeat(1_000_000));
        assert!(error.message.len() < 10_000 && error.message.ends_with("яя…"));
        let short = "я".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(
            ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD", short.as_str()).message,
            short
        );
    }
}

//! Error responses of the partner API, in the Market's format.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use market_api::partner::wire::{ApiError, ApiResponse};
use serde::Serialize;
use strict_http::BodyError;

use crate::ingest::IngestError;

pub(super) struct PartnerApiError {
    status: StatusCode,
    pub(super) errors: Vec<ApiError>,
}

pub(super) fn api_error(
    status: StatusCode,
    code: &str,
    message: impl Into<String>,
) -> PartnerApiError {
    let error = ApiError {
        code: code.to_owned(),
        message: message.into(),
    };
    PartnerApiError {
        status,
        errors: vec![error],
    }
}

pub(super) fn bad_request(message: impl Into<String>) -> PartnerApiError {
    api_error(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

pub(super) fn unavailable(message: impl Into<String>) -> PartnerApiError {
    api_error(
        StatusCode::SERVICE_UNAVAILABLE,
        "SERVICE_UNAVAILABLE",
        message,
    )
}

/// Errors of a request body.
impl From<Vec<ApiError>> for PartnerApiError {
    fn from(errors: Vec<ApiError>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            errors,
        }
    }
}

impl From<BodyError> for PartnerApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => api_error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "PAYLOAD_TOO_LARGE",
                format!("The request is too big: {error}"),
            ),
            BodyError::TimedOut => api_error(
                StatusCode::REQUEST_TIMEOUT,
                "REQUEST_TIMEOUT",
                error.to_string(),
            ),
            BodyError::Incomplete => bad_request(error.to_string()),
        }
    }
}

impl From<IngestError> for PartnerApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::DiskFull => {
                unavailable("the disk is full: nothing was applied, repeat the request later")
            }
            // The log and the alarm have the cause; callers do not get it.
            IngestError::Failed(_) => {
                unavailable("the store cannot write: nothing was applied, repeat the request later")
            }
            IngestError::Interrupted => unavailable(
                "this replica was stopped or cut off from the database after it had received the \
                 request: nothing was applied, repeat the request",
            ),
            IngestError::Unconfirmed(_) => unavailable(
                "the update may be stored, but the database and all replicas are not known to have it: \
                 repeat the request",
            ),
            IngestError::Stopping => unavailable("stockbridge is stopping: repeat the request"),
        }
    }
}

impl IntoResponse for PartnerApiError {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &ApiResponse::error(self.errors));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("our own shapes always make JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

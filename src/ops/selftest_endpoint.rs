//! Endpoint `/selftest`: starts the Market's own check of the integration and shows its state.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use stock::Sku;
use strict_http::ErrorResponse;

use super::{Ops, ShopFilter, starting_error};
use crate::event_log::OperatorAction;
use crate::migrator::selftest::SelftestStartError;

/// Shop and SKU of the check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelftestRequest {
    shop: String,
    sku: String,
}

pub(super) async fn start(
    State(ops): State<Ops>,
    request: Result<Json<SelftestRequest>, JsonRejection>,
) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let Json(request) = match request {
        Ok(request) => request,
        Err(error) => return bad_request("BAD_REQUEST", error.body_text()).into_response(),
    };
    let sku = match Sku::parse(&request.sku) {
        Ok(sku) => sku,
        Err(error) => {
            return bad_request("NO_SKU", format!("'{}': {error}", request.sku)).into_response();
        }
    };
    let shops = match ops_state.select_shops(Some(&request.shop)) {
        Ok(shops) => shops,
        Err(error) => return error.into_response(),
    };
    for (id, shop) in shops {
        let (name, action) = (&shop.name, OperatorAction::Selftest);
        ops_state.record_action(name, "", action, sku.as_str());
        if let Err(error) = ops_state.migrator.start_selftest(id, &sku) {
            let code = match error {
                SelftestStartError::NotForwarded => "NOT_FORWARDED",
                SelftestStartError::UnknownSku(_) => "UNKNOWN_SKU",
                SelftestStartError::Running => "RUNNING",
                SelftestStartError::NotSendable(_) => "NOT_SENDABLE",
                SelftestStartError::Stopping => "STOPPING",
            };
            return ErrorResponse::new(StatusCode::CONFLICT, code, error.to_string())
                .into_response();
        }
    }
    StatusCode::ACCEPTED.into_response()
}

pub(super) async fn latest(State(ops): State<Ops>, Query(filter): Query<ShopFilter>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    match ops_state.select_shops(filter.shop.as_deref()) {
        Ok(shops) => {
            let tests = shops
                .iter()
                .map(|(id, _)| ops_state.migrator.latest_selftest(*id));
            Json(tests.collect::<Vec<_>>()).into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn bad_request(code: &'static str, message: String) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, code, message)
}

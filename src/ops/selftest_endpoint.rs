//! Endpoint `/selftest`: starts the Market's own check of the integration and shows its state.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use strict_http::ErrorResponse;

use super::{ShopFilter, Started, bad_request, parse_sku};
use crate::event_log::OperatorAction;
use crate::migrator::selftest::{Selftest, SelftestStartError};

/// Shop and SKU of the check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelftestRequest {
    shop: String,
    sku: String,
}

pub(super) async fn start(
    Started(state): Started,
    request: Result<Json<SelftestRequest>, JsonRejection>,
) -> Result<StatusCode, ErrorResponse> {
    let Json(request) = request.map_err(|error| bad_request(error.body_text()))?;
    let sku = parse_sku(&request.sku)?;
    for (id, shop) in state.select_shops(Some(&request.shop))? {
        state.record_action(&shop.name, "", OperatorAction::Selftest, sku.as_str());
        state.migrator.start_selftest(id, &sku).map_err(|error| {
            let code = match error {
                SelftestStartError::NotForwarded => "NOT_FORWARDED",
                SelftestStartError::UnknownSku(_) => "UNKNOWN_SKU",
                SelftestStartError::Running => "RUNNING",
                SelftestStartError::NotSendable(_) => "NOT_SENDABLE",
                SelftestStartError::Stopping => "STOPPING",
            };
            ErrorResponse::new(StatusCode::CONFLICT, code, error.to_string())
        })?;
    }
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn latest(
    Query(filter): Query<ShopFilter>,
    Started(state): Started,
) -> Result<Json<Vec<Option<Selftest>>>, ErrorResponse> {
    let shops = state.select_shops(filter.shop.as_deref())?.into_iter();
    let tests = shops.map(|(id, _)| state.migrator.latest_selftest(id));
    Ok(Json(tests.collect()))
}

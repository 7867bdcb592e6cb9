//! The Market's own check of the integration, begun and watched.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::{Ops, Which, starting};
use crate::http::Refusal;
use crate::migrator::selftest::NotBegun;
use crate::stock::Sku;

/// In a body of JSON, which a page in somebody's browser cannot send here unasked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    shop: String,
    sku: String,
}

pub(super) async fn begin(
    State(ops): State<Ops>,
    order: Result<Json<Order>, JsonRejection>,
) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    let Json(order) = match order {
        Ok(order) => order,
        Err(error) => return refuse("BAD_REQUEST", error.body_text()).into_response(),
    };
    let sku = match Sku::parse(&order.sku) {
        Ok(sku) => sku,
        Err(error) => return refuse("NO_SKU", format!("'{}': {error}", order.sku)).into_response(),
    };
    let chosen = match house.choose(Some(&order.shop)) {
        Ok(chosen) => chosen,
        Err(refusal) => return refusal.into_response(),
    };
    for (id, _) in chosen {
        if let Err(error) = house.migrator.selftest(id, &sku) {
            let code = match error {
                NotBegun::NotForwarded => "NOT_FORWARDED",
                NotBegun::UnknownSku(_) => "UNKNOWN_SKU",
                NotBegun::Running => "RUNNING",
                NotBegun::NotSendable(_) => "NOT_SENDABLE",
                NotBegun::Stopping => "STOPPING",
            };
            return Refusal::new(StatusCode::CONFLICT, code, error.to_string()).into_response();
        }
    }
    StatusCode::ACCEPTED.into_response()
}

pub(super) async fn latest(State(ops): State<Ops>, Query(which): Query<Which>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    match house.choose(which.shop.as_deref()) {
        Ok(chosen) => {
            let tests = chosen
                .iter()
                .map(|(id, _)| house.migrator.latest_selftest(*id));
            Json(tests.collect::<Vec<_>>()).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn refuse(code: &'static str, message: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

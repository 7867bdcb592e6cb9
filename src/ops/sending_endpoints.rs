//! Endpoints `/verify`, `/pause` and `/resume`: the operator's control of the sending.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use stock::ShopId;
use strict_http::{ErrorResponse, causes};
use tracing::warn;

use super::{Ops, OpsShop, OpsState, ShopFilter, starting_error};
use crate::event_log::OperatorAction;
use crate::migrator::OperatorPauseError;

/// Builds the routes.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/verify", post(verify))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
}

/// Shop whose sending was paused or resumed.
#[derive(Serialize)]
struct SendingStateDto<'a> {
    shop: &'a str,
    /// Time since which sending is paused; `null` if it is not.
    paused_since: Option<DateTime<Utc>>,
    /// SKUs that wait to be sent.
    waiting_skus: usize,
}

/// Starts a read-back of the Market's copy. The status contains its result.
async fn verify(State(ops): State<Ops>, Query(filter): Query<ShopFilter>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let shops = match ops_state.select_shops(filter.shop.as_deref()) {
        Ok(shops) => shops,
        Err(error) => return error.into_response(),
    };
    let started_shops: Vec<&str> = shops
        .into_iter()
        .filter(|(id, shop)| ops_state.request_readback(*id, shop))
        .map(|(_, shop)| shop.name.as_str())
        .collect();
    if started_shops.is_empty() {
        let message = "none of these shops is forwarded to the Market: migrate is off, or the store \
                      belongs to another installation";
        return ErrorResponse::new(StatusCode::CONFLICT, "NOT_FORWARDED", message).into_response();
    }
    (
        StatusCode::ACCEPTED,
        Json(json!({ "shops": started_shops })),
    )
        .into_response()
}

/// Pauses sending. Requests in flight end, and read-backs continue.
async fn pause(State(ops): State<Ops>, Query(filter): Query<ShopFilter>) -> Response {
    set_paused(&ops, &filter, true).await
}

/// Ends the operator's pause.
async fn resume(State(ops): State<Ops>, Query(filter): Query<ShopFilter>) -> Response {
    set_paused(&ops, &filter, false).await
}

async fn set_paused(ops: &Ops, filter: &ShopFilter, is_paused: bool) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let shops = match ops_state.select_shops(filter.shop.as_deref()) {
        Ok(shops) => shops,
        Err(error) => return error.into_response(),
    };
    let mut done = Vec::new();
    let mut refusal = None;
    for (id, shop) in shops {
        match ops_state.set_sending_paused(id, shop, is_paused).await {
            Ok(paused_since) => done.push(SendingStateDto {
                shop: &shop.name,
                paused_since,
                waiting_skus: ops_state
                    .migrator
                    .status(id)
                    .map_or(0, |status| status.waiting_skus),
            }),
            Err(error @ OperatorPauseError::Persist(_)) => {
                return pause_error(&error).into_response();
            }
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) if done.is_empty() => pause_error(&error).into_response(),
        Some(_) | None => Json(done).into_response(),
    }
}

fn pause_error(error: &OperatorPauseError) -> ErrorResponse {
    let (status, code) = match error {
        OperatorPauseError::NotForwarded => (StatusCode::CONFLICT, "NOT_FORWARDED"),
        OperatorPauseError::DryRun => (StatusCode::CONFLICT, "DRY_RUN"),
        OperatorPauseError::Persist(_) => (StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP"),
    };
    ErrorResponse::new(status, code, causes(error))
}

impl OpsState {
    /// Requests a read-back for the operator. Returns false if the Market is not called for the
    /// shop.
    pub(crate) fn request_readback(&self, id: ShopId, shop: &OpsShop) -> bool {
        let is_started = self.migrator.request_readback(id);
        if is_started {
            self.record_action(&shop.name, "", OperatorAction::Verify, "");
        }
        is_started
    }

    /// Pauses or resumes sending for the operator. Returns the time since which it is paused.
    ///
    /// # Errors
    /// Nothing is sent for the shop anyway, or the store cannot persist the change.
    pub(crate) async fn set_sending_paused(
        &self,
        id: ShopId,
        shop: &OpsShop,
        is_paused: bool,
    ) -> Result<Option<DateTime<Utc>>, OperatorPauseError> {
        let name = &shop.name;
        let result = if is_paused {
            self.migrator.pause(id).await.map(Some)
        } else {
            self.migrator.resume(id).await.map(|()| None)
        };
        match &result {
            Ok(_) => {
                let action = if is_paused {
                    OperatorAction::Pause
                } else {
                    OperatorAction::Resume
                };
                self.record_action(name, "", action, "");
                let verb = if is_paused { "paused" } else { "resumed" };
                warn!(shop = name, "the operator has {verb} sending for {name}");
            }
            Err(error) => {
                let error = causes(error);
                warn!(
                    shop = name,
                    error, "sending for {name} was not paused or resumed: {error}"
                );
            }
        }
        result
    }

    /// Requests an immediate poll of a source for the operator.
    pub(crate) fn request_poll(&self, id: ShopId, shop: &str, (index, source): (usize, &str)) {
        self.source_manager.request_poll(id, index);
        self.record_action(shop, source, OperatorAction::Poll, "");
    }
}

//! Endpoints `/verify`, `/pause` and `/resume`: the operator's control of the sending.

use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stock::ShopId;
use strict_http::{ErrorResponse, causes};
use tracing::warn;

use super::{Ops, OpsShop, OpsState, ShopFilter, Started};
use crate::event_log::OperatorAction;
use crate::migrator::OperatorPauseError;

/// Builds the routes.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/verify", post(verify))
        .route("/pause", post(set_paused::<true>))
        .route("/resume", post(set_paused::<false>))
}

/// Response of `/verify`.
#[derive(Deserialize, Serialize)]
pub(crate) struct StartedReadbacks {
    /// Names of the shops whose read-back starts.
    pub(crate) shops: Vec<String>,
}

/// Shop whose sending was paused or resumed.
#[derive(Serialize)]
struct SendingStateDto {
    shop: String,
    /// Time since which sending is paused; `null` if it is not.
    paused_since: Option<DateTime<Utc>>,
    /// SKUs that wait to be sent.
    waiting_skus: usize,
}

/// Starts a read-back of the Market's copy. The status contains its result.
async fn verify(
    Query(filter): Query<ShopFilter>,
    Started(state): Started,
) -> Result<(StatusCode, Json<StartedReadbacks>), ErrorResponse> {
    let mut shops = state.select_shops(filter.shop.as_deref())?;
    let obstacle = shops
        .iter()
        .find_map(|(id, shop)| Some((shop, state.migrator.lead_obstacle(*id)?)));
    let obstacle = obstacle.map(|(shop, reason)| {
        let message = format!("{reason} for {}: start the read-back there", shop.name);
        ErrorResponse::new(StatusCode::CONFLICT, "OTHER_REPLICA", message)
    });
    shops.retain(|(id, shop)| state.request_readback(*id, shop));
    if shops.is_empty() {
        if let Some(error) = obstacle {
            return Err(error);
        }
        let message = "none of these shops is forwarded to the Market: migrate is off, or the store \
                      belongs to another installation";
        let status = StatusCode::CONFLICT;
        return Err(ErrorResponse::new(status, "NOT_FORWARDED", message));
    }
    let shops = shops.into_iter().map(|(_, shop)| shop.name.clone());
    let started = StartedReadbacks {
        shops: shops.collect(),
    };
    Ok((StatusCode::ACCEPTED, Json(started)))
}

/// Pauses or resumes sending. Requests in flight end, and read-backs continue.
async fn set_paused<const IS_PAUSED: bool>(
    Query(filter): Query<ShopFilter>,
    Started(state): Started,
) -> Result<Json<Vec<SendingStateDto>>, ErrorResponse> {
    let mut done = Vec::new();
    let mut refusal = None;
    for (id, shop) in state.select_shops(filter.shop.as_deref())? {
        match state.set_sending_paused(id, shop, IS_PAUSED).await {
            Ok(paused_since) => done.push(SendingStateDto {
                shop: shop.name.clone(),
                paused_since,
                waiting_skus: state
                    .migrator
                    .status(id)
                    .map_or(0, |status| status.waiting_skus),
            }),
            Err(error @ (OperatorPauseError::Persist(_) | OperatorPauseError::Unconfirmed(_))) => {
                return Err(error.into());
            }
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) if done.is_empty() => Err(error.into()),
        Some(_) | None => Ok(Json(done)),
    }
}

impl From<OperatorPauseError> for ErrorResponse {
    fn from(error: OperatorPauseError) -> Self {
        let (status, code) = match error {
            OperatorPauseError::NotForwarded => (StatusCode::CONFLICT, "NOT_FORWARDED"),
            OperatorPauseError::DryRun => (StatusCode::CONFLICT, "DRY_RUN"),
            OperatorPauseError::Persist(_) => (StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP"),
            OperatorPauseError::Unconfirmed(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNCONFIRMED"),
        };
        Self::new(status, code, causes(&error))
    }
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
    /// Nothing is sent for the shop anyway, or the store cannot persist the change or has not confirmed
    /// it.
    pub(crate) async fn set_sending_paused(
        &self,
        id: ShopId,
        shop: &OpsShop,
        is_paused: bool,
    ) -> Result<Option<DateTime<Utc>>, OperatorPauseError> {
        let name = &shop.name;
        let (result, action, verb) = if is_paused {
            let through = self.replica.as_deref();
            let paused = self.migrator.pause(id, through).await.map(Some);
            (paused, OperatorAction::Pause, "paused")
        } else {
            let resumed = self.migrator.resume(id).await.map(|()| None);
            (resumed, OperatorAction::Resume, "resumed")
        };
        match &result {
            Ok(_) => {
                self.record_action(name, "", action, "");
                warn!(shop = name, "the operator has {verb} sending for {name}");
            }
            Err(error) => {
                let error = causes(error);
                warn!(
                    shop = name,
                    error, "failed to pause or resume sending for {name}: {error}"
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

//! What the seller tells us.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::timeout;
use tracing::debug;

use super::House;
use super::admission::check_content;
use super::refused::{Refused, answer, unavailable};
use crate::http::read_body;
use crate::ingest::Origin;
use crate::partner::wire::{ApiResponse, MAX_UPDATE_BYTES, parse_update};

/// How long a commit may take before the seller is told that nobody knows.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn update(
    State(house): State<Arc<House>>,
    campaign: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let desk = house.admit(campaign.ok().as_ref(), &head.headers)?;
    check_content(&head)?;
    let body = read_body(body, MAX_UPDATE_BYTES).await?;
    let warehouse = desk.shop.warehouses.first().copied().unwrap_or_default();
    let updates = parse_update(&body, warehouse, house.context.clock.now())
        .map_err(|errors| Refused { status: StatusCode::BAD_REQUEST, errors })?;
    let accepting = house.context.ingest.accept(Origin::CampaignPut, desk.shop.id, updates);
    let accepted = timeout(COMMIT_DEADLINE, accepting).await.map_err(|_| {
        unavailable("the commit takes too long; whether it happened is unknown, repeat the call")
    })??;
    debug!(?accepted, "took an update of the seller");
    Ok(answer(StatusCode::OK, &ApiResponse::ok()))
}

//! Endpoint `/reload`: reads the configuration again and applies what needs no restart.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;
use strict_http::ErrorResponse;
use tokio::sync::{mpsc, oneshot};

use super::{Ops, Started};

/// Most reloads that wait for the one that runs.
const QUEUE_CAPACITY: usize = 16;

/// Settings that a reload has found changed, by key, such as `shops.moscow.buffer`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReloadReport {
    /// Settings that are used from now on.
    pub applied: Vec<String>,
    /// Settings that keep their old value until the next start.
    pub needs_restart: Vec<String>,
}

/// Reason why a reload failed or was incomplete.
#[derive(Clone, Debug)]
pub struct ReloadRefused(pub String);

/// Request for a reload, with the sender of its result.
pub type ReloadRequest = oneshot::Sender<Result<ReloadReport, ReloadRefused>>;

/// Handle that requests reloads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReloadHandle(mpsc::Sender<ReloadRequest>);

impl ReloadHandle {
    /// Creates a handle, and the queue of its requests.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, requests) = mpsc::channel(QUEUE_CAPACITY);
        (Self(sender), requests)
    }

    /// Reads the configuration again, and applies it if it is valid.
    ///
    /// # Errors
    /// The new configuration is invalid, so the old one stays; its rules cannot be applied now; or
    /// the service stops.
    pub async fn reload(&self) -> Result<ReloadReport, ReloadRefused> {
        let stopping = |_| ReloadRefused("the service is stopping".to_owned());
        let (sender, result) = oneshot::channel();
        self.0.send(sender).await.map_err(|_| stopping(()))?;
        result.await.map_err(|_| stopping(()))?
    }
}

/// Builds the route.
pub(super) fn routes() -> Router<Ops> {
    Router::new().route("/reload", post(reload))
}

async fn reload(
    State(ops): State<Ops>,
    Started(_): Started,
) -> Result<Json<ReloadReport>, ErrorResponse> {
    let reloaded = ops.reload.reload().await;
    reloaded.map(Json).map_err(|ReloadRefused(reason)| {
        ErrorResponse::new(StatusCode::CONFLICT, "NOT_RELOADED", reason)
    })
}

//! Endpoints `/readyz` and `/status`: the state of the service and of each shop.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, NaiveDate, Utc};
use lifecycle::run_blocking;
use serde::{Deserialize, Serialize};
use stock::ShopId;

use super::{Ops, OpsShop, OpsState, Started};
use crate::ingest::OriginTime;
use crate::migrator::readback::ReadbackReport;
use crate::migrator::{Mode, WorkerStatus};
use crate::replicas::SendingReplica;
use crate::store::{ReplicaStatus, StoreStatus};

/// Response of `/readyz`.
#[derive(Deserialize, Serialize)]
pub(crate) struct ReadyzResponse {
    ready: bool,
    /// `starting`, `ready`, `stopping`, or `behind` while a replica cannot follow the others.
    pub(crate) state: Cow<'static, str>,
    /// Shops without stock. They do not make the service unready: the seller must be able to send
    /// stock.
    cold_shops: Vec<String>,
}

/// Response of `/status`. Another version of the service may omit members.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct StatusResponse {
    version: Cow<'static, str>,
    now: DateTime<Utc>,
    started: DateTime<Utc>,
    cutoff: NaiveDate,
    days_to_cutoff: i64,
    pub(crate) alarms: Vec<StatusAlarm>,
    store: StoreStatus,
    /// Name of this replica. Absent if there is only this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    /// All replicas that use the same database. Absent if there is only this process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<ReplicaStatus>,
    /// Reason why nothing may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    pub(crate) shops: Vec<ShopStatusDto>,
}

/// Active alarm.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct StatusAlarm {
    /// Name of the [`AlarmKind`](crate::telemetry::AlarmKind).
    pub(crate) alarm: Cow<'static, str>,
    pub(crate) about: String,
    since: DateTime<Utc>,
    pub(crate) text: String,
}

/// Status of one shop.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ShopStatusDto {
    pub(crate) name: String,
    campaign: u64,
    /// Forwarding target.
    address: String,
    pub(crate) migrate: Mode,
    pub(crate) cold: bool,
    pub(crate) skus: usize,
    /// SKUs whose stock the Market has not acknowledged, including those in flight and in
    /// quarantine. Absent if nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dirty: Option<usize>,
    pub(crate) last_push: Option<DateTime<Utc>>,
    /// Name of the replica that calls the Market for the shop. Absent if it is not known, or there
    /// is only this process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_by: Option<String>,
    /// Origins of the shop's stock, with the time of the last statement.
    pub(crate) sources: Vec<OriginTime>,
    /// Replica that reads the shop's sources. Absent without replicas, and if none reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sources_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) migrator: Option<WorkerStatus>,
    /// Result of the last read-back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) survey: Option<ReadbackReport>,
}

/// Responds to a probe of readiness.
pub(super) async fn ready(State(ops): State<Ops>) -> (StatusCode, Json<ReadyzResponse>) {
    let (state, status) = match ops.state() {
        None => ("starting", StatusCode::SERVICE_UNAVAILABLE),
        Some(_) if ops.public_tasks.is_stopping() => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
        Some(state) if !state.permit.is_valid() => ("behind", StatusCode::SERVICE_UNAVAILABLE),
        Some(_) => ("ready", StatusCode::OK),
    };
    let response = ReadyzResponse {
        ready: status == StatusCode::OK,
        state: state.into(),
        cold_shops: ops
            .state()
            .map_or(Vec::new(), OpsState::shops_without_stock),
    };
    (status, Json(response))
}

/// Responds with the status of the service.
pub(super) async fn status(Started(state): Started) -> Json<StatusResponse> {
    // Counting dirty SKUs visits every SKU, so it runs outside the threads that serve the Market.
    run_blocking(move || Json(state.status())).await
}

impl OpsState {
    fn shops_without_stock(&self) -> Vec<String> {
        self.shops_with_ids()
            .filter(|(id, _)| self.data.book.is_empty(*id))
            .map(|(_, shop)| shop.name.clone())
            .collect()
    }

    fn status(&self) -> StatusResponse {
        let now = self.clock.now();
        let alarms = self.alarms.active().into_iter();
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            now,
            started: self.started,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            alarms: alarms
                .map(|alarm| StatusAlarm {
                    alarm: alarm.alarm.into(),
                    about: alarm.about,
                    since: alarm.since,
                    text: alarm.text,
                })
                .collect(),
            store: self.store.status(),
            replica: self.replica.clone(),
            replicas: self.replicas.present(self.serving_name()),
            held: self.not_sending_reason.clone(),
            shops: self
                .shops_with_ids()
                .map(|(id, shop)| self.shop_status(id, shop))
                .collect(),
        }
    }

    /// Returns the name of this replica if it may answer the Market.
    fn serving_name(&self) -> Option<&str> {
        self.replica.as_deref().filter(|_| self.permit.is_valid())
    }

    pub(super) fn shop_status(&self, id: ShopId, shop: &OpsShop) -> ShopStatusDto {
        let migrator = self.migrator.status(id);
        ShopStatusDto {
            name: shop.name.clone(),
            campaign: shop.campaign,
            address: shop.address.clone(),
            migrate: shop.mode,
            cold: self.data.book.is_empty(id),
            skus: self.data.book.len(id),
            dirty: self.count_dirty(id),
            last_push: self.last_requests.last(id),
            sent_by: self.sender_name(id),
            sources: self.origin_times.by_name(id),
            sources_on: self.sources_on(id),
            migrator,
            survey: self.migrator.readback_report(id),
        }
    }

    /// Returns the name of the replica that calls the Market for a shop, if it is known.
    fn sender_name(&self, id: ShopId) -> Option<String> {
        match self.sender(id)? {
            SendingReplica::This { .. } => self.replica.clone(),
            SendingReplica::Other(name) => Some(name),
            SendingReplica::Unknown => None,
        }
    }

    /// Returns the number of SKUs whose stock the Market has not acknowledged; `None` if nothing is
    /// forwarded.
    pub(super) fn count_dirty(&self, id: ShopId) -> Option<usize> {
        let is_forwarded = self.migrator.status(id).is_some();
        is_forwarded.then(|| self.data.ledger.count_dirty(id, &self.data.book))
    }
}

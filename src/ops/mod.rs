//! What the operator sees: health, status, metrics. On a listener of its own, loopback unless
//! set otherwise, without tokens: [`access`] says which requests are served.
//!
//! Asks the rooms how they are and renders what they say; no room knows this one.

pub mod access;
mod explain;
mod metrics;
mod readiness;
mod selftest_endpoint;
mod source_endpoints;

use std::sync::{Arc, OnceLock};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::error;

use self::access::AllowedHosts;
pub use self::source_endpoints::DeliveryDto;
use crate::clock::Clock;
use crate::history::History;
use crate::http::ErrorResponse;
use crate::ingest::{OriginTime, OriginTimes};
use crate::lifecycle::{Tasks, run_blocking};
use crate::migrator::readback::{Observations, ReadbackReport};
use crate::migrator::{Ledger, Migrator, Mode, WorkerStatus};
use crate::push_api::server::LastRequests;
use crate::sources::SourceManager;
use crate::stock::{Activity, ShopId, StockBook};
use crate::store::{self, Store};
use crate::telemetry::{ActiveAlarm, Alarms};

/// The rooms, once they are all there.
#[derive(Debug)]
pub struct OpsState {
    /// Every shop, in the configuration's order.
    pub shops: Vec<OpsShop>,
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has acknowledged.
    pub ledger: Arc<Ledger>,
    /// When SKUs were asserted and asked for.
    pub activity: Arc<Activity>,
    /// What the Market showed when it was read back.
    pub observations: Arc<Observations>,
    /// What happened lately.
    pub history: Arc<History>,
    /// Who feeds us.
    pub sources: Arc<OriginTimes>,
    /// What feeds us besides the drop-in.
    pub source_manager: SourceManager,
    /// What is being done about the difference.
    pub migrator: Migrator,
    /// When the Market asked.
    pub last_requests: Arc<LastRequests>,
    /// How the disk is.
    pub store: Arc<Store>,
    /// What is wrong.
    pub alarms: Alarms,
    /// Why nothing may be sent, if so.
    pub not_sending_reason: Option<String>,
    /// For how long a source may be silent.
    pub stale_after: TimeDelta,
    /// When the push API ends.
    pub cutoff: NaiveDate,
    /// What time it is.
    pub clock: Clock,
    /// When all this began.
    pub started: DateTime<Utc>,
}

/// One shop, as the configuration has it.
#[derive(Clone, Debug)]
pub struct OpsShop {
    /// Its name.
    pub name: String,
    /// Its campaign.
    pub campaign: u64,
    /// Where its stock is forwarded to, in words.
    pub address: String,
    /// Whether it is.
    pub mode: Mode,
}

/// The operator's listener, which is up before the rooms are: until then it says so.
#[derive(Clone, Debug)]
pub struct Ops {
    state: Arc<OnceLock<OpsState>>,
    registry: Arc<OnceLock<Registry>>,
    // Stopping from the moment no new requests are taken.
    public_tasks: Tasks,
}

impl Ops {
    /// Nothing is ready yet. `public` are the tasks that serve requests.
    #[must_use]
    pub fn new(public_tasks: Tasks) -> Self {
        Self {
            state: Arc::default(),
            registry: Arc::default(),
            public_tasks,
        }
    }

    /// Everything is there: the store is replayed and we can be fed and asked.
    pub fn set_ready(&self, state: OpsState, mut registry: Registry) {
        registry.register_collector(Box::new(metrics::OpsStateCollector(Arc::clone(
            &self.state,
        ))));
        let _first = self.state.set(state);
        let _first = self.registry.set(registry);
    }

    /// Health, status, metrics, and the answers to an operator's questions, for requests that
    /// name one of `hosts`.
    pub fn router(self, hosts: AllowedHosts) -> Router {
        Router::new()
            .route(
                "/healthz",
                get(|| async { Json(HealthResponse { status: "ok" }) }),
            )
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics_text))
            .route("/explain", get(explain::explain))
            .route("/ready-report", get(readiness::report))
            .route("/verify", post(verify))
            .route(
                "/selftest",
                get(selftest_endpoint::latest).post(selftest_endpoint::start),
            )
            .merge(source_endpoints::routes())
            .route_layer(middleware::from_fn(access::require_header))
            .fallback(async || {
                let message = "there are /healthz, /readyz, /status, /metrics, /explain, \
                               /ready-report, /verify, /selftest, /sources, \
                               /sources/rejected.csv, /sources/read, /accept and /import";
                ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
            })
            .with_state(self)
            .layer(middleware::from_fn_with_state(
                Arc::new(hosts),
                access::require_host,
            ))
    }
}

/// Which shop an operator means; all of them if he does not say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShopFilter {
    shop: Option<String>,
}

/// Has the Market's copy read back now. What comes of it is in the status.
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
        .filter(|(id, _)| ops_state.migrator.request_readback(*id))
        .map(|(_, shop)| shop.name.as_str())
        .collect();
    if started_shops.is_empty() {
        let message = "the Market is called for none of these shops: migrate is off, or the store \
                       is another installation's";
        return ErrorResponse::new(StatusCode::CONFLICT, "NOT_FORWARDED", message).into_response();
    }
    (
        StatusCode::ACCEPTED,
        Json(json!({ "shops": started_shops })),
    )
        .into_response()
}

#[derive(Serialize)]
struct HealthResponse {
    status: &'static str,
}

#[derive(Serialize)]
struct ReadyzResponse<'a> {
    ready: bool,
    state: &'static str,
    // They answer the Market 503 by themselves; the seller must be able to feed them.
    cold_shops: Vec<&'a str>,
}

async fn ready(State(ops): State<Ops>) -> Response {
    let ops_state = ops.state.get();
    let state = match ops_state {
        None => "starting",
        Some(_) if ops.public_tasks.is_stopping() => "stopping",
        Some(_) => "ready",
    };
    let ready = state == "ready";
    let cold_shops = ops_state
        .map(OpsState::shops_without_stock)
        .unwrap_or_default();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(ReadyzResponse {
            ready,
            state,
            cold_shops,
        }),
    )
        .into_response()
}

async fn status(State(ops): State<Ops>) -> Response {
    // Counting what differs looks at every SKU: off the threads that answer the Market.
    run_blocking(move || match ops.state.get() {
        Some(ops_state) => Json(ops_state.status()).into_response(),
        None => starting_error().into_response(),
    })
    .await
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    run_blocking(move || {
        let Some(registry) = ops.registry.get() else {
            return starting_error().into_response();
        };
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry) {
            error!(error = %error, "cannot write the metrics");
            return ErrorResponse::internal().into_response();
        }
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, kind)], text).into_response()
    })
    .await
}

fn starting_error() -> ErrorResponse {
    ErrorResponse::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "STARTING",
        "the store is being read",
    )
    .with_retry_after(1)
}

#[derive(Serialize)]
struct StatusResponse<'a> {
    version: &'static str,
    now: DateTime<Utc>,
    started: DateTime<Utc>,
    cutoff: NaiveDate,
    days_to_cutoff: i64,
    alarms: Vec<ActiveAlarm>,
    store: store::StoreStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<&'a str>,
    shops: Vec<ShopStatusDto<'a>>,
}

#[derive(Serialize)]
struct ShopStatusDto<'a> {
    name: &'a str,
    campaign: u64,
    /// Where the stock goes.
    address: &'a str,
    /// `on`, `dry-run` or `off`.
    migrate: &'static str,
    cold: bool,
    skus: usize,
    /// SKUs the Market does not have as the book has them, those under way and those set aside
    /// included. Absent if nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty: Option<usize>,
    last_push: Option<DateTime<Utc>>,
    /// Who feeds the shop, and when he last did.
    sources: Vec<OriginTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrator: Option<WorkerStatus>,
    /// What reading the Market's copy back has come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<ReadbackReport>,
}

impl OpsState {
    fn shops_with_ids(&self) -> impl Iterator<Item = (ShopId, &OpsShop)> {
        self.book.shops().zip(&self.shops)
    }

    fn shops_without_stock(&self) -> Vec<&str> {
        let has_no_stock = |(id, _): &(ShopId, _)| self.book.is_empty(*id);
        self.shops_with_ids()
            .filter(has_no_stock)
            .map(|(_, shop)| shop.name.as_str())
            .collect()
    }

    /// The shop of this name, or all of them.
    fn select_shops(&self, name: Option<&str>) -> Result<Vec<(ShopId, &OpsShop)>, ErrorResponse> {
        let matches_name =
            |(_, shop): &(ShopId, &OpsShop)| name.is_none_or(|name| shop.name == name);
        let selected: Vec<_> = self.shops_with_ids().filter(matches_name).collect();
        if selected.is_empty() {
            let names: Vec<&str> = self.shops.iter().map(|shop| shop.name.as_str()).collect();
            let name = name.unwrap_or_default();
            let message = format!("shop '{name}' is unknown, there are {}", names.join(", "));
            return Err(ErrorResponse::new(
                StatusCode::NOT_FOUND,
                "UNKNOWN_SHOP",
                message,
            ));
        }
        Ok(selected)
    }

    fn status(&self) -> StatusResponse<'_> {
        let now = self.clock.now();
        StatusResponse {
            version: env!("CARGO_PKG_VERSION"),
            now,
            started: self.started,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            alarms: self.alarms.active(),
            store: self.store.status(),
            held: self.not_sending_reason.as_deref(),
            shops: self
                .shops_with_ids()
                .map(|(id, shop)| self.shop_status(id, shop))
                .collect(),
        }
    }

    fn shop_status<'a>(&'a self, id: ShopId, shop: &'a OpsShop) -> ShopStatusDto<'a> {
        let report = self.migrator.status(id);
        ShopStatusDto {
            name: &shop.name,
            campaign: shop.campaign,
            address: &shop.address,
            migrate: shop.mode.name(),
            cold: self.book.is_empty(id),
            skus: self.book.len(id),
            dirty: report
                .is_some()
                .then(|| self.ledger.count_dirty(id, &self.book)),
            last_push: self.last_requests.last(id),
            sources: self.sources.by_name(id),
            migrator: report,
            survey: self.migrator.readback_report(id),
        }
    }
}

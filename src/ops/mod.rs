//! Operator API: health, status, metrics, explanations, sources and imports.
//!
//! It has its own listener, on loopback by default. [`access`] decides which requests are served,
//! [`Login`] asks for the password if one is set. It reads the status of the other modules; none of them depends on it.

pub mod access;
mod explain;
mod history_endpoints;
mod import_endpoint;
mod login;
mod metrics;
mod readiness;
mod selftest_endpoint;
mod sending_endpoints;
mod sku_summary;
mod source_dto;
mod source_endpoints;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tower::ServiceExt as _;
use tracing::error;

use self::access::AllowedHosts;
pub(crate) use self::explain::{HistoryEventDto, SkuEventKind, SkuExplanation, StockSteps};
pub use self::login::{LOGIN_PATH, Login, SESSION_COOKIE};
pub(crate) use self::login::{cookies, wants_html};
use self::readiness::ReadinessCache;
pub use self::readiness::{
    CachedReadiness, CheckResult, ReadinessCheck, ReadinessReason, ReadinessReport, ShopReadiness,
};
pub(crate) use self::sku_summary::{SendingMode, SentState, ShownState, SkuSummary};
pub use self::source_dto::DeliveryDto;
pub use self::source_endpoints::list_sources;
pub(crate) use self::source_endpoints::pipeline_error;
use lifecycle::Clock;
use lifecycle::{Tasks, run_blocking};
use stock::ShopId;
use strict_http::{ErrorResponse, reachable_address};

use crate::chart_history::ChartHistory;
use crate::event_log::{EventLog, OperatorAction, ServiceEvent};
use crate::ingest::{OriginTime, OriginTimes};
use crate::migrator::readback::ReadbackReport;
use crate::migrator::{Migrator, Mode, ShopData, WorkerStatus};
use crate::push_api::stocks_handler::LastRequests;
use crate::sources::SourceManager;
use crate::store::{self, Store};
use crate::telemetry::{ActiveAlarm, Alarms};

/// State of the whole service, available when the start is complete.
#[derive(Debug)]
pub struct OpsState {
    /// All shops, in the order of the configuration.
    pub shops: Vec<OpsShop>,
    /// Stock of all shops, and what is known about each SKU.
    pub data: ShopData,
    /// Durable log of what happened.
    pub events: EventLog,
    /// Durable history of numbers, for charts.
    pub charts: ChartHistory,
    /// Time of the last statement by origin.
    pub origin_times: Arc<OriginTimes>,
    /// Sources other than the partner API.
    pub source_manager: SourceManager,
    /// Migrator, which sends changes to the Market.
    pub migrator: Migrator,
    /// Times of the Market's last requests.
    pub last_requests: Arc<LastRequests>,
    /// Store on disk.
    pub store: Arc<Store>,
    /// Active alarms.
    pub alarms: Alarms,
    /// Reason why nothing may be sent, if any.
    pub not_sending_reason: Option<String>,
    /// Time after which a shop without statements raises an alarm.
    pub stale_after: TimeDelta,
    /// Date on which the push API ends.
    pub cutoff: NaiveDate,
    /// Wall clock.
    pub clock: Clock,
    /// Start time of the process.
    pub started: DateTime<Utc>,
    /// Addresses of the two listeners, as programs on this machine reach them.
    pub listeners: ListenerAddresses,
}

/// Addresses of the listeners.
#[derive(Clone, Copy, Debug)]
pub struct ListenerAddresses {
    /// Address for the Market and for programs of the seller.
    pub public: SocketAddr,
    /// Address for the operator.
    pub ops: SocketAddr,
}

impl ListenerAddresses {
    /// Creates the addresses from those that the listeners are bound to.
    #[must_use]
    pub fn new(public: SocketAddr, ops: SocketAddr) -> Self {
        Self {
            public: reachable_address(public),
            ops: reachable_address(ops),
        }
    }
}

/// Shop settings that the operator sees.
#[derive(Clone, Debug)]
pub struct OpsShop {
    /// Name of the shop.
    pub name: String,
    /// Campaign id.
    pub campaign: u64,
    /// Forwarding target as a text.
    pub address: String,
    /// Forwarding mode.
    pub mode: Mode,
}

/// Operator API. It serves before the start is complete, and then reports "starting".
#[derive(Clone, Debug)]
pub struct Ops {
    state: Arc<OnceLock<OpsState>>,
    registry: Arc<OnceLock<Registry>>,
    readiness: Arc<ReadinessCache>,
    // Is stopping as soon as no new requests are accepted.
    public_tasks: Tasks,
    login: Login,
}

impl Ops {
    /// Creates the API in the state "starting". `public_tasks` are the tasks that serve the Market and
    /// the seller.
    #[must_use]
    pub fn new(public_tasks: Tasks, login: Login) -> Self {
        Self {
            state: Arc::default(),
            registry: Arc::default(),
            readiness: Arc::default(),
            public_tasks,
            login,
        }
    }

    /// Ends the state "starting": the store is read, and all endpoints serve.
    pub fn set_ready(&self, state: OpsState, mut registry: Registry) {
        registry.register_collector(Box::new(metrics::OpsStateCollector(Arc::clone(
            &self.state,
        ))));
        let _first = self.state.set(state);
        let _first = self.registry.set(registry);
    }

    /// Returns the state of the service; `None` while it is starting.
    #[must_use]
    pub fn state(&self) -> Option<&OpsState> {
        self.state.get()
    }

    /// Returns the login.
    #[must_use]
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Returns the tasks that end when the service stops.
    pub(crate) fn public_tasks(&self) -> &Tasks {
        &self.public_tasks
    }

    /// Waits until the service stops.
    pub async fn stopping(&self) {
        self.public_tasks.stopping().await;
    }

    /// Builds the router for requests whose `Host` is one of `hosts`. `pages` are further routes;
    /// `unknown_page` responds to a browser that asks for any other path.
    pub fn router(
        self,
        hosts: AllowedHosts,
        pages: Router<Self>,
        unknown_page: Router<Self>,
    ) -> Router {
        let login = self.login.clone();
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
            .route(
                "/selftest",
                get(selftest_endpoint::latest).post(selftest_endpoint::start),
            )
            .merge(sending_endpoints::routes())
            .merge(source_endpoints::routes())
            .merge(history_endpoints::routes())
            .route_layer(middleware::from_fn(access::require_header))
            .merge(pages)
            .fallback(async |State(ops): State<Self>, request: Request| {
                if wants_html(request.headers()) {
                    return match unknown_page.with_state(ops).oneshot(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                }
                let message = "unknown path: the paths are /healthz, /readyz, /status, /metrics, /explain, \
                               /ready-report, /verify, /pause, /resume, /selftest, /sources, \
                               /sources/rejected.csv, /sources/read, /accept, /import, /api/events and \
                               /api/charts";
                ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
            })
            .with_state(self)
            .layer(middleware::from_fn_with_state(login, login::require_login))
            .layer(middleware::from_fn_with_state(
                Arc::new(hosts),
                access::require_host,
            ))
    }
}

/// Selection of a shop; all shops if `shop` is absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShopFilter {
    shop: Option<String>,
}

#[derive(Serialize)]
struct HealthResponse {
    status: &'static str,
}

#[derive(Serialize)]
struct ReadyzResponse<'a> {
    ready: bool,
    state: &'static str,
    // Shops without stock do not make the service unready: the seller must be able to send stock.
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
    // Counting dirty SKUs visits every SKU, so it runs outside the threads that serve the Market.
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
            error!(error = %error, "failed to encode the metrics");
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
        "the service is starting and reads its store: retry in a second",
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
    /// Forwarding target.
    address: &'a str,
    /// `on`, `dry-run` or `off`.
    migrate: &'static str,
    cold: bool,
    skus: usize,
    /// SKUs whose stock the Market has not acknowledged, including those in flight and in
    /// quarantine. Absent if nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty: Option<usize>,
    last_push: Option<DateTime<Utc>>,
    /// Origins of the shop's stock, with the time of the last statement.
    sources: Vec<OriginTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrator: Option<WorkerStatus>,
    /// Result of the last read-back.
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<ReadbackReport>,
}

impl OpsState {
    /// Returns the shops with their indexes in the book.
    pub fn shops_with_ids(&self) -> impl Iterator<Item = (ShopId, &OpsShop)> {
        self.data.book.shops().zip(&self.shops)
    }

    /// Records an action of the operator about a shop. `subject` is a source or empty; `object` is the
    /// file or the SKU of the action, or empty.
    fn record_action(&self, shop: &str, subject: &str, action: OperatorAction, object: &str) {
        let object = object.into();
        let event = ServiceEvent::OperatorAction { action, object };
        self.events.record_for_shop(shop, subject, event);
    }

    fn shops_without_stock(&self) -> Vec<&str> {
        let has_no_stock = |(id, _): &(ShopId, _)| self.data.book.is_empty(*id);
        self.shops_with_ids()
            .filter(has_no_stock)
            .map(|(_, shop)| shop.name.as_str())
            .collect()
    }

    /// Returns the shop with this name, or all shops.
    fn select_shops(&self, name: Option<&str>) -> Result<Vec<(ShopId, &OpsShop)>, ErrorResponse> {
        let matches_name =
            |(_, shop): &(ShopId, &OpsShop)| name.is_none_or(|name| shop.name == name);
        let selected: Vec<_> = self.shops_with_ids().filter(matches_name).collect();
        if selected.is_empty() {
            let names: Vec<&str> = self.shops.iter().map(|shop| shop.name.as_str()).collect();
            let name = name.unwrap_or_default();
            let message = format!(
                "shop '{name}' is unknown, the shops are {}",
                names.join(", ")
            );
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
            cold: self.data.book.is_empty(id),
            skus: self.data.book.len(id),
            dirty: report
                .is_some()
                .then(|| self.data.ledger.count_dirty(id, &self.data.book)),
            last_push: self.last_requests.last(id),
            sources: self.origin_times.by_name(id),
            migrator: report,
            survey: self.migrator.readback_report(id),
        }
    }
}

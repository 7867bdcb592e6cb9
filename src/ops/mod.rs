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
mod reload_endpoint;
mod selftest_endpoint;
mod sending_endpoints;
mod sku_summary;
mod source_dto;
mod source_endpoints;
mod status;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router, middleware};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;
use tower::ServiceExt as _;

use self::access::AllowedHosts;
pub(crate) use self::explain::{
    HistoryEventDto, MarketRequestDto, SkuEventKind, SkuExplanation, StockSteps,
};
pub use self::login::{LOGIN_PATH, Login, SESSION_COOKIE};
pub(crate) use self::login::{cookies, wants_html};
use self::readiness::ReadinessCache;
pub use self::readiness::{
    CachedReadiness, CheckResult, ReadinessCheck, ReadinessReason, ReadinessReport, ShopReadiness,
};
pub use self::reload_endpoint::{ReloadHandle, ReloadRefused, ReloadReport, ReloadRequest};
pub(crate) use self::sending_endpoints::StartedReadbacks;
pub(crate) use self::sku_summary::{SendingMode, SentState, ShownState, SkuSummary};
pub use self::source_dto::DeliveryDto;
pub(crate) use self::source_dto::{RowDto, SourceStatusDto};
pub(crate) use self::source_endpoints::AcceptedDto;
pub use self::source_endpoints::list_sources;
pub(crate) use self::status::{ReadyzResponse, ShopStatusDto, StatusAlarm, StatusResponse};
use lifecycle::Clock;
use lifecycle::Tasks;
use stock::{ShopId, Sku};
use strict_http::ErrorResponse;

use crate::chart_history::ChartHistory;
use crate::event_log::{EventLog, OperatorAction, ServiceEvent};
use crate::ingest::OriginTimes;
use crate::migrator::{Migrator, Mode, ShopData};
use crate::push_api::stocks_handler::LastRequests;
pub(crate) use crate::replicas::SendingReplica;
use crate::replicas::{ReplicaBoard, ServingPermit};
use crate::sources::{SourceLeader, SourceManager};
pub(crate) use crate::store::ReplicaStatus;
use crate::store::Store;
use crate::telemetry::Alarms;

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
    /// Permit to answer the Market.
    pub permit: ServingPermit,
    /// All replicas of the service.
    pub replicas: ReplicaBoard,
    /// Store on disk.
    pub store: Arc<Store>,
    /// Active alarms.
    pub alarms: Alarms,
    /// Name of this replica, if there may be others.
    pub replica: Option<String>,
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
    /// Address for the Market and for programs of the seller, as programs on this machine reach it.
    pub public_address: SocketAddr,
    /// Address for the operator, likewise.
    pub ops_address: SocketAddr,
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

#[derive(Debug)]
struct StartedService {
    state: Arc<OpsState>,
    registry: Registry,
}

/// Operator API. It serves before the start is complete, and then reports "starting".
#[derive(Clone, Debug)]
pub struct Ops {
    started: Arc<OnceLock<StartedService>>,
    readiness: Arc<ReadinessCache>,
    // Is stopping as soon as no new requests are accepted.
    public_tasks: Tasks,
    login: Login,
    reload: ReloadHandle,
}

impl Ops {
    /// Creates the API in the state "starting". `public_tasks` are the tasks that serve the Market and
    /// the seller.
    #[must_use]
    pub fn new(public_tasks: Tasks, login: Login, reload: ReloadHandle) -> Self {
        Self {
            started: Arc::default(),
            readiness: Arc::default(),
            public_tasks,
            login,
            reload,
        }
    }

    /// Ends the state "starting": the store is read, and all endpoints serve.
    pub fn set_ready(&self, state: OpsState, mut registry: Registry) {
        let state = Arc::new(state);
        let collector = metrics::OpsStateCollector(Arc::clone(&state));
        registry.register_collector(Box::new(collector));
        let _first = self.started.set(StartedService { state, registry });
    }

    /// Returns the state of the service; `None` while it is starting.
    #[must_use]
    pub fn state(&self) -> Option<&OpsState> {
        self.started.get().map(|started| &*started.state)
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
                get(async || Json(json!({ "status": "ok" }))),
            )
            .route("/readyz", get(status::ready))
            .route("/status", get(status::status))
            .route("/metrics", get(metrics::text))
            .route("/explain", get(explain::explain))
            .route("/ready-report", get(readiness::report))
            .route(
                "/selftest",
                get(selftest_endpoint::latest).post(selftest_endpoint::start),
            )
            .merge(sending_endpoints::routes())
            .merge(reload_endpoint::routes())
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
                               /ready-report, /verify, /pause, /resume, /reload, /selftest, /sources, \
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

/// State of the service, for a handler. While the service starts, the request is refused.
struct Started(Arc<OpsState>);

impl FromRequestParts<Ops> for Started {
    type Rejection = ErrorResponse;

    async fn from_request_parts(_parts: &mut Parts, ops: &Ops) -> Result<Self, ErrorResponse> {
        let started = ops.started.get().ok_or_else(starting_error)?;
        Ok(Self(Arc::clone(&started.state)))
    }
}

fn starting_error() -> ErrorResponse {
    ErrorResponse::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "STARTING",
        "the service is starting and reads its store: retry in a second",
    )
    .with_retry_after(1)
}

fn bad_request(message: String) -> ErrorResponse {
    ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

/// Parses the SKU in a request.
fn parse_sku(text: &str) -> Result<Sku, ErrorResponse> {
    let no_sku = |error| {
        let message = format!("'{text}': {error}");
        ErrorResponse::new(StatusCode::BAD_REQUEST, "NO_SKU", message)
    };
    Sku::parse(text).map_err(no_sku)
}

impl OpsState {
    /// Refuses an action about sources of a shop, or of any shop, that this replica does not read.
    pub(crate) fn require_sources(&self, shop: Option<&str>) -> Result<(), ErrorResponse> {
        let shops = self.shops_with_ids();
        let mut selected = shops.filter(|(_, known)| shop.is_none_or(|shop| shop == known.name));
        let elsewhere = selected.find_map(|(id, known)| {
            let leader = self.source_manager.leader(id)?;
            (leader != SourceLeader::This).then_some((known, leader))
        });
        let Some((shop, leader)) = elsewhere else {
            return Ok(());
        };
        let name = &shop.name;
        let message = match leader {
            SourceLeader::Replica(replica) => format!(
                "the sources of {name} are read on replica {replica}: send this request there"
            ),
            SourceLeader::This | SourceLeader::Vacant => format!(
                "no replica reads the sources of {name} at the moment: retry in a minute, and look at \
                 the alarms"
            ),
        };
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Err(ErrorResponse::new(status, "SOURCES_ELSEWHERE", message))
    }

    /// Returns the name of the replica that reads the sources of a shop; `None` if none does, or if
    /// there is only this process.
    fn sources_on(&self, shop: ShopId) -> Option<String> {
        let own = self.replica.clone()?;
        match self.source_manager.leader(shop)? {
            SourceLeader::This => Some(own),
            SourceLeader::Replica(replica) => Some(replica),
            SourceLeader::Vacant => None,
        }
    }

    /// Returns the process that reads the sources of a shop. `None` if this process alone uses its
    /// store.
    pub(crate) fn source_reader(&self, shop: ShopId) -> Option<SourceLeader> {
        self.replica.as_ref()?;
        self.source_manager.leader(shop)
    }

    /// Returns the replica that calls the Market for a shop. `None` if this process alone uses its
    /// store, or the Market is not called for the shop.
    pub(crate) fn sender(&self, shop: ShopId) -> Option<SendingReplica> {
        self.replica.as_ref()?;
        self.migrator.sender(shop)
    }

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

    /// Returns the shop with this name, or all shops.
    fn select_shops(&self, name: Option<&str>) -> Result<Vec<(ShopId, &OpsShop)>, ErrorResponse> {
        let matches_name =
            |(_, shop): &(ShopId, &OpsShop)| name.is_none_or(|name| shop.name == name);
        let selected: Vec<_> = self.shops_with_ids().filter(matches_name).collect();
        if selected.is_empty() {
            let message = self.unknown_shop_text(name.unwrap_or_default());
            let status = StatusCode::NOT_FOUND;
            return Err(ErrorResponse::new(status, "UNKNOWN_SHOP", message));
        }
        Ok(selected)
    }

    fn unknown_shop_text(&self, name: &str) -> String {
        let known: Vec<&str> = self.shops.iter().map(|shop| shop.name.as_str()).collect();
        let known = known.join(", ");
        format!("shop '{name}' is unknown, the shops are {known}")
    }
}

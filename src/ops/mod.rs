//! What the operator sees: health, status, metrics. On a listener of its own, loopback unless
//! set otherwise, without tokens: [`access`] says which requests are served.
//!
//! Asks the rooms how they are and renders what they say; no room knows this one.

pub mod access;
mod explain;
mod metrics;
mod ready;
mod selftest;
mod sources;

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
pub use self::sources::Told;
use crate::clock::Clock;
use crate::history::History;
use crate::http::Refusal;
use crate::ingest::{Source, Sources};
use crate::legacy::server::Pushes;
use crate::lifecycle::{Tasks, run_blocking};
use crate::migrator::reconcile::{Sightings, Survey};
use crate::migrator::{Ledger, Migrator, Mode, Report};
use crate::sources::Feeds;
use crate::stock::{Marks, ShopId, StockBook};
use crate::store::{self, Store};
use crate::telemetry::{Alarm, Alarms};

/// The rooms, once they are all there.
#[derive(Debug)]
pub struct House {
    /// Every shop, in the configuration's order.
    pub shops: Vec<Shop>,
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has acknowledged.
    pub ledger: Arc<Ledger>,
    /// When SKUs were asserted and asked for.
    pub marks: Arc<Marks>,
    /// What the Market showed when it was read back.
    pub sightings: Arc<Sightings>,
    /// What happened lately.
    pub history: Arc<History>,
    /// Who feeds us.
    pub sources: Arc<Sources>,
    /// What feeds us besides the drop-in.
    pub feeds: Feeds,
    /// What is being done about the difference.
    pub migrator: Migrator,
    /// When the Market asked.
    pub pushes: Arc<Pushes>,
    /// How the disk is.
    pub store: Arc<Store>,
    /// What is wrong.
    pub alarms: Alarms,
    /// Why nothing may be sent, if so.
    pub held: Option<String>,
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
pub struct Shop {
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
    house: Arc<OnceLock<House>>,
    registry: Arc<OnceLock<Registry>>,
    // Stopping from the moment no new requests are taken.
    public: Tasks,
}

impl Ops {
    /// Nothing is ready yet. `public` are the tasks that serve requests.
    #[must_use]
    pub fn new(public: Tasks) -> Self {
        Self {
            house: Arc::default(),
            registry: Arc::default(),
            public,
        }
    }

    /// Everything is there: the store is replayed and we can be fed and asked.
    pub fn open(&self, house: House, mut registry: Registry) {
        registry.register_collector(Box::new(metrics::Live(Arc::clone(&self.house))));
        let _first = self.house.set(house);
        let _first = self.registry.set(registry);
    }

    /// Health, status, metrics, and the answers to an operator's questions, for requests that
    /// name one of `hosts`.
    pub fn router(self, hosts: AllowedHosts) -> Router {
        Router::new()
            .route("/healthz", get(|| async { Json(Health { status: "ok" }) }))
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics_text))
            .route("/explain", get(explain::explain))
            .route("/ready-report", get(ready::report))
            .route("/verify", post(verify))
            .route("/selftest", get(selftest::latest).post(selftest::begin))
            .merge(sources::routes())
            .route_layer(middleware::from_fn(access::require_header))
            .fallback(async || {
                let message = "there are /healthz, /readyz, /status, /metrics, /explain, \
                               /ready-report, /verify, /selftest, /sources, \
                               /sources/rejected.csv, /sources/read, /accept and /import";
                Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
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
struct Which {
    shop: Option<String>,
}

/// Has the Market's copy read back now. What comes of it is in the status.
async fn verify(State(ops): State<Ops>, Query(which): Query<Which>) -> Response {
    let Some(house) = ops.house.get() else {
        return starting().into_response();
    };
    let chosen = match house.choose(which.shop.as_deref()) {
        Ok(chosen) => chosen,
        Err(refusal) => return refusal.into_response(),
    };
    let begun: Vec<&str> = chosen
        .into_iter()
        .filter(|(id, _)| house.migrator.verify(*id))
        .map(|(_, shop)| shop.name.as_str())
        .collect();
    if begun.is_empty() {
        let message = "the Market is called for none of these shops: migrate is off, or the store \
                       is another installation's";
        return Refusal::new(StatusCode::CONFLICT, "NOT_FORWARDED", message).into_response();
    }
    (StatusCode::ACCEPTED, Json(json!({ "shops": begun }))).into_response()
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

#[derive(Serialize)]
struct Readiness<'a> {
    ready: bool,
    state: &'static str,
    // They answer the Market 503 by themselves; the seller must be able to feed them.
    cold_shops: Vec<&'a str>,
}

async fn ready(State(ops): State<Ops>) -> Response {
    let house = ops.house.get();
    let state = match house {
        None => "starting",
        Some(_) if ops.public.is_stopping() => "stopping",
        Some(_) => "ready",
    };
    let ready = state == "ready";
    let cold_shops = house.map(House::cold_shops).unwrap_or_default();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Readiness {
            ready,
            state,
            cold_shops,
        }),
    )
        .into_response()
}

async fn status(State(ops): State<Ops>) -> Response {
    // Counting what differs looks at every SKU: off the threads that answer the Market.
    run_blocking(move || match ops.house.get() {
        Some(house) => Json(house.status()).into_response(),
        None => starting().into_response(),
    })
    .await
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    run_blocking(move || {
        let Some(registry) = ops.registry.get() else {
            return starting().into_response();
        };
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry) {
            error!(error = %error, "cannot write the metrics");
            return Refusal::internal().into_response();
        }
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, kind)], text).into_response()
    })
    .await
}

fn starting() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "STARTING",
        "the store is being read",
    )
    .retry_after(1)
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    now: DateTime<Utc>,
    started: DateTime<Utc>,
    cutoff: NaiveDate,
    days_to_cutoff: i64,
    alarms: Vec<Alarm>,
    store: store::Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<&'a str>,
    shops: Vec<ShopStatus<'a>>,
}

#[derive(Serialize)]
struct ShopStatus<'a> {
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
    sources: Vec<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrator: Option<Report>,
    /// What reading the Market's copy back has come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<Survey>,
}

impl House {
    fn ids(&self) -> impl Iterator<Item = (ShopId, &Shop)> {
        self.book.shops().zip(&self.shops)
    }

    fn cold_shops(&self) -> Vec<&str> {
        let is_cold = |(id, _): &(ShopId, _)| self.book.is_cold(*id);
        self.ids()
            .filter(is_cold)
            .map(|(_, shop)| shop.name.as_str())
            .collect()
    }

    /// The shop of this name, or all of them.
    fn choose(&self, name: Option<&str>) -> Result<Vec<(ShopId, &Shop)>, Refusal> {
        let is_meant = |(_, shop): &(ShopId, &Shop)| name.is_none_or(|name| shop.name == name);
        let chosen: Vec<_> = self.ids().filter(is_meant).collect();
        if chosen.is_empty() {
            let names: Vec<&str> = self.shops.iter().map(|shop| shop.name.as_str()).collect();
            let name = name.unwrap_or_default();
            let message = format!("shop '{name}' is unknown, there are {}", names.join(", "));
            return Err(Refusal::new(StatusCode::NOT_FOUND, "UNKNOWN_SHOP", message));
        }
        Ok(chosen)
    }

    fn status(&self) -> Status<'_> {
        let now = self.clock.now();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            now,
            started: self.started,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            alarms: self.alarms.active(),
            store: self.store.status(),
            held: self.held.as_deref(),
            shops: self
                .ids()
                .map(|(id, shop)| self.shop_status(id, shop))
                .collect(),
        }
    }

    fn shop_status<'a>(&'a self, id: ShopId, shop: &'a Shop) -> ShopStatus<'a> {
        let report = self.migrator.report(id);
        ShopStatus {
            name: &shop.name,
            campaign: shop.campaign,
            address: &shop.address,
            migrate: shop.mode.name(),
            cold: self.book.is_cold(id),
            skus: self.book.len(id),
            dirty: report
                .is_some()
                .then(|| self.ledger.count_dirty(id, &self.book)),
            last_push: self.pushes.last(id),
            sources: self.sources.named(id),
            migrator: report,
            survey: self.migrator.survey(id),
        }
    }
}

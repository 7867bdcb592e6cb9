//! What the operator sees: health, status, metrics. On a listener of its own, loopback unless
//! set otherwise, without tokens.
//!
//! Asks the rooms how they are and renders what they say; no room knows this one.

mod metrics;

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, NaiveDate, Utc};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tracing::error;

use crate::clock::Clock;
use crate::http::Refusal;
use crate::legacy::server::Pushes;
use crate::lifecycle::{Tasks, run_blocking};
use crate::migrator::{Ledger, Migrator, Report};
use crate::stock::{ShopId, StockBook};
use crate::store::{self, Store};
use crate::telemetry::{Alarm, Alarms};

/// The rooms, once they are all there.
#[derive(Debug)]
pub struct House {
    /// Name and campaign of each shop, in the configuration's order.
    pub shops: Vec<(String, u64)>,
    /// What the seller has.
    pub book: Arc<StockBook>,
    /// What the Market has.
    pub ledger: Arc<Ledger>,
    /// What is being done about the difference.
    pub migrator: Migrator,
    /// When the Market asked.
    pub pushes: Arc<Pushes>,
    /// How the disk is.
    pub store: Arc<Store>,
    /// What is wrong.
    pub alarms: Alarms,
    /// When the push API ends.
    pub cutoff: NaiveDate,
    /// What time it is.
    pub clock: Clock,
    /// When all this began.
    pub started: DateTime<Utc>,
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
        Self { house: Arc::default(), registry: Arc::default(), public }
    }

    /// Everything is there: the store is replayed and we can be fed and asked.
    pub fn open(&self, house: House, mut registry: Registry) {
        registry.register_collector(Box::new(metrics::Live(Arc::clone(&self.house))));
        let _first = self.house.set(house);
        let _first = self.registry.set(registry);
    }

    /// `/healthz`, `/readyz`, `/status` and `/metrics`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { Json(Health { status: "ok" }) }))
            .route("/readyz", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics_text))
            .fallback(async || {
                let message = "there are /healthz, /readyz, /status and /metrics";
                Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
            })
            .with_state(self)
    }
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
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, state, cold_shops })).into_response()
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
        let Some(registry) = ops.registry.get() else { return starting().into_response() };
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
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "STARTING", "the store is being read")
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
    shops: Vec<ShopStatus<'a>>,
}

#[derive(Serialize)]
struct ShopStatus<'a> {
    name: &'a str,
    campaign: u64,
    cold: bool,
    skus: usize,
    /// SKUs the Market does not have as the book has them, those under way and those set aside
    /// included. Absent if nothing is forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty: Option<usize>,
    last_push: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    migrator: Option<Report>,
}

impl House {
    fn ids(&self) -> impl Iterator<Item = (ShopId, &(String, u64))> {
        self.book.shops().zip(&self.shops)
    }

    fn cold_shops(&self) -> Vec<&str> {
        let is_cold = |(id, _): &(ShopId, _)| self.book.is_cold(*id);
        self.ids().filter(is_cold).map(|(_, (name, _))| name.as_str()).collect()
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
            shops: self.ids().map(|(id, shop)| self.shop_status(id, shop)).collect(),
        }
    }

    fn shop_status<'a>(&'a self, id: ShopId, shop: &'a (String, u64)) -> ShopStatus<'a> {
        let report = self.migrator.report(id);
        ShopStatus {
            name: &shop.0,
            campaign: shop.1,
            cold: self.book.is_cold(id),
            skus: self.book.len(id),
            dirty: report.is_some().then(|| self.ledger.count_dirty(id, &self.book)),
            last_push: self.pushes.last(id),
            migrator: report,
        }
    }
}

//! Endpoint `/metrics`, with gauges that are computed when they are read.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use lifecycle::run_blocking;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text as openmetrics};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use strict_http::ErrorResponse;
use tracing::error;

use super::status::ShopStatusDto;
use super::{Ops, OpsState, starting_error};
use crate::migrator::readback::MatchClass;
use crate::migrator::{Mode, WorkerStatus};
use crate::telemetry::AlarmKind;

/// Responds with all metrics.
pub(super) async fn text(State(ops): State<Ops>) -> Result<Response, ErrorResponse> {
    run_blocking(move || {
        let started = ops.started.get().ok_or_else(starting_error)?;
        let mut text = String::new();
        openmetrics::encode(&mut text, &started.registry).map_err(|error| {
            error!(error = %error, "failed to encode the metrics");
            ErrorResponse::internal()
        })?;
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(([(CONTENT_TYPE, kind)], text).into_response())
    })
    .await
}

/// Collector of gauges that are computed for each response of `/metrics`.
#[derive(Debug)]
pub(super) struct OpsStateCollector(pub(super) Arc<OpsState>);

type Labels = Vec<(&'static str, String)>;

type GaugeRows = Vec<(Labels, f64)>;

impl Collector for OpsStateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = &*self.0;
        let shops: Vec<ShopStatusDto> = state
            .shops_with_ids()
            .map(|(id, shop)| state.shop_status(id, shop))
            .collect();
        encode_service(&mut encoder, state)?;
        encode_shops(&mut encoder, state, &shops)?;
        encode_readbacks(&mut encoder, &shops)?;
        encode_sources(&mut encoder, state)
    }
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (Labels, f64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        let gauge = ConstGauge::new(value);
        gauge.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_service(encoder: &mut DescriptorEncoder<'_>, state: &OpsState) -> fmt::Result {
    let store = state.store.status();
    let is_failed = store.failed.is_some() || state.alarms.is_active(AlarmKind::StoreFailed);
    let plain = |value: f64| vec![(Vec::new(), value)];
    let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let help = "Release of this service; the value is always 1";
    encode_gauge(encoder, "build_info", help, vec![(build, 1.0)])?;
    let help = "1 while the alarm is active; about names the shop, source or path";
    encode_gauge(encoder, "alarm", help, alarms(state))?;
    let help = "Size of the store on disk, including its write-ahead log";
    let disk_bytes = plain(as_f64(store.disk_bytes));
    encode_gauge(encoder, "store_disk_bytes", help, disk_bytes)?;
    let help = "Size of the changes that are not yet part of the store's snapshot";
    let log_bytes = plain(as_f64(store.log_bytes));
    encode_gauge(encoder, "store_log_bytes", help, log_bytes)?;
    let help = "1 while the store cannot write to disk; updates then get status 503";
    encode_gauge(encoder, "store_failed", help, plain(flag(is_failed)))?;
    let help = "Processes that serve from the same store, this one included";
    let replicas = u32::try_from(state.replicas.count_alive()).unwrap_or(u32::MAX);
    encode_gauge(encoder, "replicas", help, plain(replicas.into()))?;
    let help = "1 while this process answers the Market; 0 while it cannot follow other replicas";
    let is_serving = flag(state.permit.is_valid());
    encode_gauge(encoder, "replica_serving", help, plain(is_serving))
}

fn alarms(state: &OpsState) -> GaugeRows {
    let active = state.alarms.active();
    let on = active
        .iter()
        .map(|alarm| (alarm.alarm, alarm.about.clone(), 1.0));
    // An inactive kind has one series with 0, so that an alert rule works before the first alarm.
    let off = AlarmKind::ALL
        .iter()
        .filter(|kind| active.iter().all(|alarm| alarm.alarm != kind.name()))
        .map(|kind| (kind.name(), String::new(), 0.0));
    on.chain(off)
        .map(|(name, about, value)| (vec![("alarm", name.to_owned()), ("about", about)], value))
        .collect()
}

/// Returns one row for each shop that has the value.
fn rows(shops: &[ShopStatusDto], value: impl Fn(&ShopStatusDto) -> Option<f64>) -> GaugeRows {
    let row = |shop: &ShopStatusDto| Some((shop_label(shop), value(shop)?));
    shops.iter().filter_map(row).collect()
}

fn shop_label(shop: &ShopStatusDto) -> Labels {
    vec![("shop", shop.name.clone())]
}

fn encode_shops(
    encoder: &mut DescriptorEncoder<'_>,
    state: &OpsState,
    shops: &[ShopStatusDto],
) -> fmt::Result {
    let of_worker =
        |value: fn(&WorkerStatus) -> f64| rows(shops, |shop| shop.migrator.as_ref().map(value));
    let help = "SKUs of the shop whose stock is known";
    encode_gauge(
        encoder,
        "skus",
        help,
        rows(shops, |shop| Some(count(shop.skus))),
    )?;
    let help = "1 if changes are sent to the Market; 0 with migrate dry-run or off, or if another installation owns the store";
    let is_owner = state.not_sending_reason.is_none();
    let sending = rows(shops, |shop| {
        Some(flag(is_owner && shop.migrate == Mode::On))
    });
    encode_gauge(encoder, "sending", help, sending)?;
    let help = "1 while the operator has paused sending, on every replica";
    let paused = of_worker(|worker| flag(worker.paused_since.is_some()));
    encode_gauge(encoder, "sending_paused", help, paused)?;
    let help = "Unix time of the last stock statement by this origin, changed or not";
    let stated = shops.iter().flat_map(|shop| {
        shop.sources.iter().map(|source| {
            let mut labels = shop_label(shop);
            labels.push(("origin", source.origin.to_string()));
            (labels, seconds(Some(source.last_asserted)))
        })
    });
    encode_gauge(encoder, "last_asserted_timestamp_seconds", help, stated)?;
    let help =
        "SKUs whose current stock the Market has not acknowledged, quarantined ones included";
    encode_gauge(
        encoder,
        "dirty_skus",
        help,
        rows(shops, |shop| shop.dirty.map(count)),
    )?;
    let help = "SKUs in requests that wait for the Market's response";
    let in_flight = of_worker(|worker| count(worker.in_flight_skus));
    encode_gauge(encoder, "in_flight_skus", help, in_flight)?;
    let help = "SKUs in quarantine because the Market rejects them";
    let quarantined = of_worker(|worker| count(worker.quarantined.len()));
    encode_gauge(encoder, "quarantined_skus", help, quarantined)?;
    let help = "Unix time of the last batch that the Market accepted; 0 if none since the start";
    let acknowledged = of_worker(|worker| seconds(worker.last_acknowledged));
    encode_gauge(
        encoder,
        "last_acknowledged_timestamp_seconds",
        help,
        acknowledged,
    )?;
    let help =
        "Unix time of the Market's last request that was answered with stock; 0 if none is known";
    let pushed = rows(shops, |shop| Some(seconds(shop.last_push)));
    encode_gauge(encoder, "last_push_timestamp_seconds", help, pushed)
}

fn encode_readbacks(encoder: &mut DescriptorEncoder<'_>, shops: &[ShopStatusDto]) -> fmt::Result {
    let help = "SKUs of the last read-back, by class of the comparison with the sent stock";
    let reports = shops
        .iter()
        .filter_map(|shop| Some((shop, shop.survey.as_ref()?)));
    let classes = reports.flat_map(|(shop, report)| {
        MatchClass::ALL.iter().map(move |&class| {
            let mut labels = shop_label(shop);
            labels.push(("class", class.name().to_owned()));
            (labels, as_f64(report.count(class)))
        })
    });
    encode_gauge(encoder, "read_back_skus", help, classes)?;
    let help = "Unix time of the last read-back in which every SKU was explained; 0 if never";
    let equal = rows(shops, |shop| {
        Some(seconds(shop.survey.as_ref()?.last_equal))
    });
    encode_gauge(encoder, "last_equal_timestamp_seconds", help, equal)
}

fn encode_sources(encoder: &mut DescriptorEncoder<'_>, state: &OpsState) -> fmt::Result {
    let (mut delivered_at, mut rows, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for (_, pipeline) in state.source_manager.pipelines() {
        for (index, name) in pipeline.source_names().enumerate() {
            let status = pipeline.status(index);
            let shop = ("shop", pipeline.shop_name().to_owned());
            let label = vec![shop, ("source", name.to_owned())];
            let row = |outcome: &str, count: u64| {
                let outcome = ("outcome", outcome.to_owned());
                let labels = label.iter().cloned().chain([outcome]);
                (labels.collect(), as_f64(count))
            };
            rows.push(row("taken", status.rows_total));
            rows.push(row("rejected", status.rejected_total));
            rows.push(row("suspicious", status.suspicious_total));
            deliveries.push(row("taken", status.applied_total));
            deliveries.push(row("held", status.held_total));
            deliveries.push(row("failed", status.failed_total));
            delivered_at.push((label, seconds(status.last_report_at)));
        }
    }
    let leading = state.shops_with_ids().map(|(id, shop)| {
        let reads = state.source_manager.pipeline(id).is_some();
        (vec![("shop", shop.name.clone())], flag(reads))
    });
    let help = "1 if this process reads the sources of the shop";
    encode_gauge(encoder, "sources_leading", help, leading)?;
    let help =
        "Unix time at which the last delivery of this source ended; 0 if none since the start";
    encode_gauge(
        encoder,
        "source_last_delivery_timestamp_seconds",
        help,
        delivered_at,
    )?;
    let help = "Rows of this source since the start: taken, rejected or suspicious";
    encode_gauge(encoder, "source_rows", help, rows)?;
    let help = "Deliveries of this source since the start: taken, held for approval or failed";
    encode_gauge(encoder, "source_deliveries", help, deliveries)
}

fn seconds(at: Option<DateTime<Utc>>) -> f64 {
    at.map_or(0.0, |at| {
        as_f64(u64::try_from(at.timestamp()).unwrap_or_default())
    })
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn count(n: usize) -> f64 {
    as_f64(n as u64)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes stay far below 2^53, up to which a double is exact"
)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

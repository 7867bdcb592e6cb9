//! Gauges of the operator's metrics that are computed when they are read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::OpsState;
use crate::migrator::Mode;
use crate::migrator::readback::MatchClass;
use crate::telemetry::AlarmKind;

/// Collector of gauges that are computed for each response of `/metrics`.
#[derive(Debug)]
pub(super) struct OpsStateCollector(pub(super) Arc<OnceLock<OpsState>>);

type GaugeRows = Vec<(Vec<(&'static str, String)>, f64)>;

impl Collector for OpsStateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(state) = self.0.get() else {
            return Ok(());
        };
        for (name, help, rows) in gauges(state) {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in rows {
                let gauge = ConstGauge::new(value);
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauges(state: &OpsState) -> Vec<(&'static str, &'static str, GaugeRows)> {
    let store = state.store.status();
    let build = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
    let is_failed = store.failed.is_some() || state.alarms.is_active(AlarmKind::StoreFailed);
    let plain = |value: f64| vec![(Vec::new(), value)];
    let mut gauges = vec![
        (
            "build_info",
            "Release of this service; the value is always 1",
            build,
        ),
        (
            "alarm",
            "1 while the alarm is active; about names the shop, source or path",
            alarms(state),
        ),
        (
            "store_disk_bytes",
            "Size of the store on disk, including its write-ahead log",
            plain(as_f64(store.disk_bytes)),
        ),
        (
            "store_log_bytes",
            "Size of the changes that are not yet part of the store's snapshot",
            plain(as_f64(store.log_bytes)),
        ),
        (
            "store_failed",
            "1 while the store cannot write to disk; updates then get status 503",
            plain(f64::from(u8::from(is_failed))),
        ),
    ];
    gauges.extend(per_shop(state));
    gauges
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

fn per_shop(state: &OpsState) -> Vec<(&'static str, &'static str, GaugeRows)> {
    let mut skus = GaugeRows::new();
    let mut dirty = GaugeRows::new();
    let mut in_flight = GaugeRows::new();
    let mut quarantined = GaugeRows::new();
    let mut acknowledged = GaugeRows::new();
    let mut pushed = GaugeRows::new();
    let mut sending = GaugeRows::new();
    let mut asserted = GaugeRows::new();
    for (id, shop) in state.shops_with_ids() {
        let status = state.shop_status(id, shop);
        let label = vec![("shop", status.name.to_owned())];
        let add = |rows: &mut GaugeRows, value: f64| rows.push((label.clone(), value));
        add(&mut skus, count(status.skus));
        add(&mut pushed, seconds(status.last_push));
        let is_sending = shop.mode == Mode::On && state.not_sending_reason.is_none();
        add(&mut sending, f64::from(u8::from(is_sending)));
        for source in &status.sources {
            let labels = label
                .iter()
                .cloned()
                .chain([("origin", source.origin.to_owned())]);
            asserted.push((labels.collect(), seconds(Some(source.last_asserted))));
        }
        if let (Some(n), Some(report)) = (status.dirty, status.migrator) {
            add(&mut dirty, count(n));
            add(&mut in_flight, count(report.in_flight_skus));
            add(&mut quarantined, count(report.quarantined.len()));
            add(&mut acknowledged, seconds(report.last_acknowledged));
        }
    }
    let mut gauges = vec![
        ("skus", "SKUs of the shop whose stock is known", skus),
        (
            "sending",
            "1 if changes are sent to the Market; 0 with migrate dry-run or off, or if another installation owns the store",
            sending,
        ),
        (
            "last_asserted_timestamp_seconds",
            "Unix time of the last stock statement by this origin, changed or not",
            asserted,
        ),
        (
            "dirty_skus",
            "SKUs whose current stock the Market has not acknowledged, quarantined ones included",
            dirty,
        ),
        (
            "in_flight_skus",
            "SKUs in requests that wait for the Market's response",
            in_flight,
        ),
        (
            "quarantined_skus",
            "SKUs in quarantine because the Market rejects them",
            quarantined,
        ),
        (
            "last_acknowledged_timestamp_seconds",
            "Unix time of the last batch that the Market accepted; 0 if none since the start",
            acknowledged,
        ),
        (
            "last_push_timestamp_seconds",
            "Unix time of the Market's last request that was answered with stock; 0 if none is known",
            pushed,
        ),
    ];
    gauges.extend(per_readback(state));
    gauges.extend(per_source(state));
    gauges
}

fn per_source(state: &OpsState) -> Vec<(&'static str, &'static str, GaugeRows)> {
    let mut taken_at = GaugeRows::new();
    let mut rows = GaugeRows::new();
    let mut deliveries = GaugeRows::new();
    for (_, pipeline) in state.source_manager.pipelines() {
        for (index, name) in pipeline.source_names().enumerate() {
            let status = pipeline.status(index);
            let label = [
                ("shop", pipeline.shop_name().to_owned()),
                ("source", name.to_owned()),
            ];
            let with = |key: &'static str, value: &str| {
                label
                    .iter()
                    .cloned()
                    .chain([(key, value.to_owned())])
                    .collect()
            };
            taken_at.push((label.to_vec(), seconds(status.last_report_at)));
            rows.push((with("outcome", "taken"), as_f64(status.rows_total)));
            rows.push((with("outcome", "rejected"), as_f64(status.rejected_total)));
            rows.push((
                with("outcome", "suspicious"),
                as_f64(status.suspicious_total),
            ));
            for (outcome, count) in [
                ("taken", status.applied_total),
                ("held", status.held_total),
                ("failed", status.failed_total),
            ] {
                deliveries.push((with("outcome", outcome), as_f64(count)));
            }
        }
    }
    vec![
        (
            "source_last_delivery_timestamp_seconds",
            "Unix time at which the last delivery of this source ended; 0 if none since the start",
            taken_at,
        ),
        (
            "source_rows",
            "Rows of this source since the start: taken, rejected or suspicious",
            rows,
        ),
        (
            "source_deliveries",
            "Deliveries of this source since the start: taken, held for approval or failed",
            deliveries,
        ),
    ]
}

fn per_readback(state: &OpsState) -> Vec<(&'static str, &'static str, GaugeRows)> {
    let mut classes = GaugeRows::new();
    let mut equal = GaugeRows::new();
    for (id, shop) in state.shops_with_ids() {
        let Some(readback) = state.migrator.readback_report(id) else {
            continue;
        };
        let label = ("shop", shop.name.clone());
        equal.push((vec![label.clone()], seconds(readback.last_equal)));
        for &class in MatchClass::ALL {
            let labels = vec![label.clone(), ("class", class.name().to_owned())];
            classes.push((labels, as_f64(readback.count(class))));
        }
    }
    vec![
        (
            "read_back_skus",
            "SKUs of the last read-back, by class of the comparison with the sent stock",
            classes,
        ),
        (
            "last_equal_timestamp_seconds",
            "Unix time of the last read-back in which every SKU was explained; 0 if never",
            equal,
        ),
    ]
}

fn seconds(at: Option<DateTime<Utc>>) -> f64 {
    at.map_or(0.0, |at| {
        as_f64(u64::try_from(at.timestamp()).unwrap_or_default())
    })
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

use std::fmt;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::House;
use crate::migrator::Mode;
use crate::migrator::reconcile::Class;
use crate::telemetry::AlarmKind;

/// Gauges that are asked for when somebody looks, not kept up to date in between.
#[derive(Debug)]
pub(super) struct Live(pub(super) Arc<OnceLock<House>>);

type Rows = Vec<(Vec<(&'static str, String)>, f64)>;

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(house) = self.0.get() else {
            return Ok(());
        };
        for (name, help, rows) in gauges(house) {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in rows {
                let gauge = ConstGauge::new(value);
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauges(house: &House) -> Vec<(&'static str, &'static str, Rows)> {
    let store = house.store.status();
    let build = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
    let is_failed = store.failed.is_some() || house.alarms.is_on(AlarmKind::StoreFailed);
    let plain = |value: f64| vec![(Vec::new(), value)];
    let mut gauges = vec![
        ("build_info", "Which release this is", build),
        ("alarm", "1 while this alarm is on", alarms(house)),
        (
            "store_disk_bytes",
            "What the store takes on disk",
            plain(as_f64(store.disk_bytes)),
        ),
        (
            "store_log_bytes",
            "Changes not yet folded into the snapshot",
            plain(as_f64(store.log_bytes)),
        ),
        (
            "store_failed",
            "1 while the store cannot write",
            plain(f64::from(u8::from(is_failed))),
        ),
    ];
    gauges.extend(per_shop(house));
    gauges
}

fn alarms(house: &House) -> Rows {
    let active = house.alarms.active();
    let on = active
        .iter()
        .map(|alarm| (alarm.alarm, alarm.about.clone(), 1.0));
    // A kind that is not on shows 0, so that an alert can be written before the first time.
    let off = AlarmKind::ALL
        .iter()
        .filter(|kind| active.iter().all(|alarm| alarm.alarm != kind.name()))
        .map(|kind| (kind.name(), String::new(), 0.0));
    on.chain(off)
        .map(|(name, about, value)| (vec![("alarm", name.to_owned()), ("about", about)], value))
        .collect()
}

fn per_shop(house: &House) -> Vec<(&'static str, &'static str, Rows)> {
    let mut skus = Rows::new();
    let mut dirty = Rows::new();
    let mut in_flight = Rows::new();
    let mut quarantined = Rows::new();
    let mut acknowledged = Rows::new();
    let mut pushed = Rows::new();
    let mut sending = Rows::new();
    let mut asserted = Rows::new();
    for (id, shop) in house.ids() {
        let status = house.shop_status(id, shop);
        let label = vec![("shop", status.name.to_owned())];
        let note = |rows: &mut Rows, value: f64| rows.push((label.clone(), value));
        note(&mut skus, count(status.skus));
        note(&mut pushed, seconds(status.last_push));
        let is_sending = shop.mode == Mode::On && house.held.is_none();
        note(&mut sending, f64::from(u8::from(is_sending)));
        for source in &status.sources {
            let labels = label
                .iter()
                .cloned()
                .chain([("origin", source.origin.to_owned())]);
            asserted.push((labels.collect(), seconds(Some(source.last_asserted))));
        }
        if let (Some(n), Some(report)) = (status.dirty, status.migrator) {
            note(&mut dirty, count(n));
            note(&mut in_flight, count(report.in_flight_skus));
            note(&mut quarantined, count(report.quarantined.len()));
            note(&mut acknowledged, seconds(report.last_acknowledged));
        }
    }
    let mut gauges = vec![
        ("skus", "SKUs whose stock is known", skus),
        (
            "sending",
            "1 if what changes is sent to the Market, 0 in a dry run, off or held",
            sending,
        ),
        (
            "last_asserted_timestamp_seconds",
            "When this origin last said anything of a shop's stock",
            asserted,
        ),
        (
            "dirty_skus",
            "SKUs the Market does not have as the book has them",
            dirty,
        ),
        (
            "in_flight_skus",
            "SKUs in requests under way to the Market",
            in_flight,
        ),
        (
            "quarantined_skus",
            "SKUs set aside because the Market refuses them",
            quarantined,
        ),
        (
            "last_acknowledged_timestamp_seconds",
            "When the Market last took a batch, 0 if not since the start",
            acknowledged,
        ),
        (
            "last_push_timestamp_seconds",
            "When the Market last asked and was answered, 0 if not since the start",
            pushed,
        ),
    ];
    gauges.extend(per_survey(house));
    gauges.extend(per_source(house));
    gauges
}

fn per_source(house: &House) -> Vec<(&'static str, &'static str, Rows)> {
    let mut taken_at = Rows::new();
    let mut rows = Rows::new();
    let mut deliveries = Rows::new();
    for (_, intake) in house.feeds.intakes() {
        for (index, name) in intake.sources().enumerate() {
            let standing = intake.standing(index);
            let label = [
                ("shop", intake.shop().to_owned()),
                ("source", name.to_owned()),
            ];
            let with = |key: &'static str, value: &str| {
                label
                    .iter()
                    .cloned()
                    .chain([(key, value.to_owned())])
                    .collect()
            };
            taken_at.push((label.to_vec(), seconds(standing.last_at)));
            rows.push((with("outcome", "taken"), as_f64(standing.rows)));
            rows.push((with("outcome", "rejected"), as_f64(standing.rejected)));
            rows.push((with("outcome", "suspicious"), as_f64(standing.suspicious)));
            for (outcome, count) in [
                ("taken", standing.taken),
                ("held", standing.held_total),
                ("failed", standing.failed),
            ] {
                deliveries.push((with("outcome", outcome), as_f64(count)));
            }
        }
    }
    vec![
        (
            "source_last_delivery_timestamp_seconds",
            "When a delivery of this source last came to its end, 0 if not since the start",
            taken_at,
        ),
        (
            "source_rows",
            "Rows of this source since the start, by what became of them",
            rows,
        ),
        (
            "source_deliveries",
            "Deliveries of this source since the start, by what became of them",
            deliveries,
        ),
    ]
}

fn per_survey(house: &House) -> Vec<(&'static str, &'static str, Rows)> {
    let mut classes = Rows::new();
    let mut equal = Rows::new();
    for (id, shop) in house.ids() {
        let Some(survey) = house.migrator.survey(id) else {
            continue;
        };
        let label = ("shop", shop.name.clone());
        equal.push((vec![label.clone()], seconds(survey.last_equal)));
        for class in Class::ALL {
            let count = survey
                .classes
                .get(class.name())
                .copied()
                .unwrap_or_default();
            let labels = vec![label.clone(), ("class", class.name().to_owned())];
            classes.push((labels, as_f64(count)));
        }
    }
    vec![
        (
            "read_back_skus",
            "SKUs by how the Market's copy stands to what was sent",
            classes,
        ),
        (
            "last_equal_timestamp_seconds",
            "When the Market's copy was last explained to the last SKU, 0 if never",
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

/// Counts and bytes stay far below 2^53, up to which a double is exact.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

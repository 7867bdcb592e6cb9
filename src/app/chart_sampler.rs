//! Sampler of the history for the charts: reads the numbers of every shop once a minute.
//!
//! A replica that does not send has gaps where it cannot know the number, because a 0 would claim that
//! nothing waits or was sent.
//!
//! It only reads statuses and counters that exist anyway. The dirty SKUs are those that the worker
//! knows: an exact count visits every SKU, which takes a fifth of a second per million SKUs and
//! holds the ledger meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Tasks;
use stock::ShopId;
use tokio::time::sleep;

use super::services::Services;
use crate::chart_history::{ChartFile, ChartSample, Series};
use crate::event_log::ServiceEvent;
use crate::migrator::{self, Migrator};
use crate::push_api::stocks_handler as push_api;
use crate::telemetry::ActiveAlarm;

/// Shortest time until the next sample. A timer that fires a little early does not sample the same
/// minute twice.
const MIN_WAIT: TimeDelta = TimeDelta::seconds(5);

/// Reads the numbers of every shop.
pub(super) struct ChartSampler {
    pub(super) services: Services,
    pub(super) migrator: Migrator,
    pub(super) migrator_metrics: migrator::Metrics,
    pub(super) push_metrics: push_api::Metrics,
    // Counters at the last sample.
    pub(super) last_counts: HashMap<(ShopId, &'static str), u64>,
}

impl ChartSampler {
    /// Starts the task that samples.
    pub(super) fn start(self, file: ChartFile, tasks: &Tasks) {
        tasks.spawn("chart_sampler", self.run(file, tasks.clone()));
    }

    /// Samples at the end of each minute until the tasks are stopping, and then once more.
    async fn run(mut self, mut file: ChartFile, tasks: Tasks) {
        loop {
            let is_last = tokio::select! {
                () = tasks.stopping() => true,
                () = sleep(until_next_minute(self.services.clock.now())) => false,
            };
            let now = self.services.clock.now();
            // The minute that has just ended, also if the timer is a little early or late.
            let at = if is_last {
                now
            } else {
                now - TimeDelta::seconds(30)
            };
            let samples = self.samples();
            let charts = &self.services.charts;
            charts.record(at, samples);
            file.save(charts).await;
            if let Some((name, reason)) = file.take_damage() {
                self.services.events.record(ServiceEvent::FileReplaced {
                    file: name.to_owned(),
                    reason: reason.into(),
                });
            }
            if is_last {
                return file.close().await;
            }
        }
    }

    fn samples(&mut self) -> Vec<ChartSample> {
        let alarms = self.services.alarms.active();
        let names = Arc::clone(&self.services.names);
        let shops = self.services.data.book.shops().zip(&*names);
        let shops: Vec<(ShopId, &String)> = shops.collect();
        shops
            .into_iter()
            .map(|(shop, name)| self.sample(shop, name, &alarms))
            .collect()
    }

    fn sample(&mut self, shop: ShopId, name: &str, alarms: &[ActiveAlarm]) -> ChartSample {
        let mut sample = ChartSample::default();
        let push = self.push_metrics.counts(name);
        let answered = [
            (Series::MarketRequests, push.requests),
            (Series::RequestedSkus, push.skus),
            (Series::UnknownSkus, push.unknown_skus),
        ];
        for (series, total) in answered {
            let count = self.count_since_last(shop, series, total);
            sample.set(series, as_f64(count));
        }
        if let Some(status) = self.migrator.status(shop) {
            let times = self.migrator_metrics.take_response_times(name);
            let sender = self.migrator.sender(shop);
            let is_sender = sender.is_none_or(|sender| sender.is_this());
            if is_sender {
                sample.set(Series::DirtySkus, as_f64(status.dirty_skus() as u64));
                sample.set(Series::WaitingSkus, as_f64(status.waiting_skus as u64));
                sample.set(Series::RateLimit, status.rate_limit.per_minute.into());
            }
            if let (Some(mean), Some(max)) = (times.mean(), times.max()) {
                sample.set(Series::ResponseMean, mean.as_secs_f64());
                sample.set(Series::ResponseMax, max.as_secs_f64());
            }
            let sent = [
                (Series::AcknowledgedSkus, status.acknowledged),
                (Series::UpdateRequests, status.requests),
            ];
            for (series, total) in sent {
                let count = self.count_since_last(shop, series, total);
                // Not 0 in the minute in which another replica has taken over.
                if is_sender || count > 0 {
                    sample.set(series, as_f64(count));
                }
            }
        }
        let about_shop = alarms.iter().filter(|alarm| is_about(alarm, name));
        sample.set(Series::ActiveAlarms, as_f64(about_shop.count() as u64));
        sample
    }

    /// Returns by how much a counter has grown since the last sample.
    fn count_since_last(&mut self, shop: ShopId, series: Series, total: u64) -> u64 {
        let last = self.last_counts.insert((shop, series.name()), total);
        total.saturating_sub(last.unwrap_or(0))
    }
}

/// Returns true if an alarm is about the shop or a part of it, such as a source.
fn is_about(alarm: &ActiveAlarm, shop: &str) -> bool {
    let rest = alarm.about.strip_prefix(shop);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the time until the next minute begins.
fn until_next_minute(now: DateTime<Utc>) -> Duration {
    let millis = 60_000 - now.timestamp_millis().rem_euclid(60_000);
    let wait = TimeDelta::milliseconds(millis);
    let wait = if wait < MIN_WAIT {
        wait + TimeDelta::minutes(1)
    } else {
        wait
    };
    wait.to_std().unwrap_or(Duration::from_mins(1))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a chart needs fewer digits than a float has"
)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_next_minute() {
        for (now, seconds) in [
            ("2026-11-20T10:00:00Z", 60),
            ("2026-11-20T10:00:20Z", 40),
            ("2026-11-20T10:00:55Z", 5),
            ("2026-11-20T10:00:56Z", 64),
            ("1969-12-31T23:59:30Z", 30),
        ] {
            let wait = until_next_minute(now.parse().unwrap());
            assert_eq!(wait, Duration::from_secs(seconds), "{now}");
        }
    }
}

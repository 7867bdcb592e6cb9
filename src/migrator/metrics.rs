//! Metrics of the requests to the Market.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::classify_response::ResponseVerdict;
use super::market_response_times::{ResponseTimesByShop, UpdateResponseTimes};
use super::status::RateLimitStatus;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResponseLabels {
    shop: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DurationLabel {
    shop: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct LimitLabels {
    shop: String,
    unit: &'static str,
}

/// Requests, SKUs and response times by shop, and the rate limit.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<ResponseLabels, Counter>,
    skus: Family<ResponseLabels, Counter>,
    durations: Family<DurationLabel, Histogram, fn() -> Histogram>,
    limits: Family<LimitLabels, Gauge>,
    response_times: ResponseTimesByShop,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            skus: Family::default(),
            durations: Family::new_with_constructor(new_histogram),
            limits: Family::default(),
            response_times: ResponseTimesByShop::default(),
        }
    }
}

/// Creates a histogram from a fast response up to the timeout of the client, 60 seconds.
fn new_histogram() -> Histogram {
    Histogram::new([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0])
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "market_requests",
            "Batches sent to the Market, by verdict of the response",
            self.requests.clone(),
        );
        registry.register(
            "market_skus",
            "SKUs in batches sent to the Market, by verdict of the response",
            self.skus.clone(),
        );
        registry.register_with_unit(
            "market_request_duration",
            "Time from the sending of a batch to the Market's response, in seconds",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "market_limit_per_minute",
            "SKUs or requests that may be sent to the Market in 60 seconds",
            self.limits.clone(),
        );
    }

    /// Records a request with its verdict, and its time as a response time if the Market answered.
    pub(super) fn record(
        &self,
        shop: &str,
        verdict: &ResponseVerdict,
        skus: usize,
        duration: Duration,
        is_answered: bool,
    ) {
        let labels = ResponseLabels {
            shop: shop.to_owned(),
            verdict: verdict.name(),
        };
        self.requests.get_or_create(&labels).inc();
        self.skus.get_or_create(&labels).inc_by(skus as u64);
        if is_answered {
            self.response_times.record(shop, duration);
        }
        let ResponseLabels { shop, .. } = labels;
        self.durations
            .get_or_create(&DurationLabel { shop })
            .observe(duration.as_secs_f64());
    }

    pub(super) fn record_limit(&self, shop: &str, limit: RateLimitStatus) {
        let labels = LimitLabels {
            shop: shop.to_owned(),
            unit: limit.unit.into(),
        };
        let per_minute = i64::from(limit.per_minute);
        self.limits.get_or_create(&labels).set(per_minute);
    }

    /// Takes the times in which the Market answered the updates of a shop since the last call. For
    /// one caller, the history for the charts.
    #[must_use]
    pub fn take_response_times(&self, shop: &str) -> UpdateResponseTimes {
        self.response_times.take(shop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrator::LimitUnit;

    #[test]
    fn records_responses_and_the_limit() {
        let (metrics, mut registry) = (Metrics::default(), Registry::with_prefix("sb"));
        metrics.register(&mut registry);
        let verdict = ResponseVerdict::Accepted;
        metrics.record("moscow", &verdict, 40, Duration::from_millis(300), true);
        let unit = LimitUnit::Requests;
        for per_minute in [50, 25] {
            metrics.record_limit("moscow", RateLimitStatus { per_minute, unit });
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "sb_market_requests_total{shop=\"moscow\",verdict=\"accept\"} 1",
            "sb_market_skus_total{shop=\"moscow\",verdict=\"accept\"} 40",
            "sb_market_request_duration_seconds_bucket{le=\"0.25\",shop=\"moscow\"} 0",
            "sb_market_request_duration_seconds_bucket{le=\"0.5\",shop=\"moscow\"} 1",
            "sb_market_limit_per_minute{shop=\"moscow\",unit=\"requests\"} 25",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}

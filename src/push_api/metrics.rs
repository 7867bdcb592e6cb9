//! Metrics of the push API.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SkuLabels {
    shop: String,
    known: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ShopLabel {
    shop: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StatusLabel {
    status: u16,
}

/// Metrics of the push API.
#[derive(Clone, Debug)]
pub struct Metrics {
    skus: Family<SkuLabels, Counter>,
    requests: Family<ShopLabel, Counter>,
    responses: Family<StatusLabel, Counter>,
    duration: Histogram,
}

/// Counts of the Market's requests of one shop that were answered with stock.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PushCounts {
    /// Requests.
    pub requests: u64,
    /// SKUs in these requests.
    pub skus: u64,
    /// SKUs whose stock is unknown.
    pub unknown_skus: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        // From the usual duration of a response to the 27 seconds that the Market waits.
        let buckets = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 27.0,
        ];
        Self {
            skus: Family::default(),
            requests: Family::default(),
            responses: Family::default(),
            duration: Histogram::new(buckets),
        }
    }
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "push_skus",
            "SKUs requested by the Market; known is \"known\" if their stock is known",
            self.skus.clone(),
        );
        registry.register(
            "push_requests",
            "Stock requests of the Market that were answered with stock",
            self.requests.clone(),
        );
        registry.register(
            "push_answers",
            "Stock requests of the Market, by response status",
            self.responses.clone(),
        );
        registry.register_with_unit(
            "push_answer_duration",
            "Time from the head of a stock request to its response, in seconds",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    pub(super) fn sku_counter(&self, shop: &str, known: &'static str) -> Counter {
        self.skus
            .get_or_create(&SkuLabels {
                shop: shop.to_owned(),
                known,
            })
            .clone()
    }

    pub(super) fn request_counter(&self, shop: &str) -> Counter {
        let label = ShopLabel {
            shop: shop.to_owned(),
        };
        self.requests.get_or_create(&label).clone()
    }

    /// Returns the counts of a shop since the start of the process.
    #[must_use]
    pub fn counts(&self, shop: &str) -> PushCounts {
        let unknown_skus = self.sku_counter(shop, "unknown").get();
        PushCounts {
            requests: self.request_counter(shop).get(),
            skus: unknown_skus + self.sku_counter(shop, "known").get(),
            unknown_skus,
        }
    }

    pub(super) fn record(&self, status: StatusCode, duration: Duration) {
        self.responses
            .get_or_create(&StatusLabel {
                status: status.as_u16(),
            })
            .inc();
        self.duration.observe(duration.as_secs_f64());
    }
}

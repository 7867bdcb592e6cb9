//! Metrics of the partner API server.

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    method: &'static str,
    status: u16,
}

/// Metrics of the partner API server.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "feed_requests",
            "Requests of the seller to the partner API, by method and response status",
            self.calls.clone(),
        );
    }

    pub(super) fn record(&self, method: &'static str, status: StatusCode) {
        self.calls
            .get_or_create(&CallLabels {
                method,
                status: status.as_u16(),
            })
            .inc();
    }
}

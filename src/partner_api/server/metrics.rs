//! How often the seller calls, and what he gets.

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

/// Counts for the operator.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
}

impl Metrics {
    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "feed_requests",
            "Calls of the seller to the drop-in, by method and the status they got",
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

//! Metrics of stock updates.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Accepted;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UpdateOutcomeLabel {
    outcome: &'static str,
}

/// Metrics of updates, by outcome.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    updates: Family<UpdateOutcomeLabel, Counter>,
}

impl Metrics {
    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "updates",
            "Stock updates of single SKUs received from the seller, by outcome",
            self.updates.clone(),
        );
    }

    pub(super) fn count(&self, accepted: Accepted) {
        for (outcome, n) in [
            ("added", accepted.added),
            ("replaced", accepted.replaced),
            ("repeated", accepted.repeated),
            ("outdated", accepted.outdated),
        ] {
            self.updates
                .get_or_create(&UpdateOutcomeLabel { outcome })
                .inc_by(n as u64);
        }
    }
}

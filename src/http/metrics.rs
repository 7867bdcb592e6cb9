//! What the listener counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The listener's counters. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections accepted since the start.
    pub accepted: Counter,
    /// Times the system could not give us a connection, such as for want of file descriptors.
    pub accept_failures: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Names the counters in `registry`, which brings the prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_connections",
            "Connections open now",
            self.connections.clone(),
        );
        registry.register(
            "http_accepted",
            "Connections accepted",
            self.accepted.clone(),
        );
        registry.register(
            "http_accept_failures",
            "Times the system could not give us a connection",
            self.accept_failures.clone(),
        );
        registry.register("http_panics", "Handlers that panicked", self.panics.clone());
        registry.register(
            "http_refused",
            "Requests and connections the listener itself refused or cut",
            self.refused.clone(),
        );
    }

    /// How many were refused or cut for `reason`.
    #[must_use]
    pub fn refused(&self, reason: &'static str) -> u64 {
        self.refused
            .get(&[("reason", reason)])
            .map_or(0, |counter| counter.get())
    }

    pub(super) fn count_refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_prefix_and_the_reason() {
        let (metrics, mut registry) = (Metrics::default(), Registry::with_prefix("sb"));
        metrics.register(&mut registry);
        metrics.count_refused("malformed");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("sb_http_connections 0\n"), "{text}");
        assert!(
            text.contains("sb_http_refused_total{reason=\"malformed\"} 1\n"),
            "{text}"
        );
    }
}

//! Metrics of one listener.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of one listener. Clones share the same counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Number of connections accepted since the start.
    pub accepted: Counter,
    /// Number of failed accepts, for example because no file descriptor was free.
    pub accept_failures: Counter,
    /// Number of handlers that panicked.
    pub panics: Counter,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Registers the metrics in `registry`, which adds its own prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "http_connections",
            "Connections open now",
            self.connections.clone(),
        );
        registry.register(
            "http_accepted",
            "Connections accepted since the start",
            self.accepted.clone(),
        );
        registry.register(
            "http_accept_failures",
            "Failed accepts, for example because no file descriptor was free",
            self.accept_failures.clone(),
        );
        registry.register(
            "http_panics",
            "Request handlers that panicked; report each one as a defect",
            self.panics.clone(),
        );
        registry.register(
            "http_refused",
            "Requests and connections that the listener rejected or closed, by reason",
            self.refused.clone(),
        );
    }

    /// Returns the number of requests and connections rejected or closed for `reason`.
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
    fn registers_names_with_prefix_and_reason() {
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

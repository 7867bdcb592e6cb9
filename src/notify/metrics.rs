//! Metrics of notifications: messages and failed attempts of each channel.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use super::ChannelConfig;

/// Metrics of all channels. A channel without a message counts 0, so that a rate can be computed.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Vec<(ChannelLabels, ChannelCounter)>>);

#[derive(Debug)]
struct ChannelLabels {
    channel: String,
    kind: &'static str,
}

/// Counter of one channel. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelCounter(Arc<[AtomicU64; 2]>);

impl ChannelCounter {
    pub(super) fn on_delivered(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_failed(&self) {
        self.0[1].fetch_add(1, Ordering::Relaxed);
    }

    fn outcomes(&self) -> [(&'static str, u64); 2] {
        let [delivered, failed] = &*self.0;
        [("delivered", delivered), ("failed", failed)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }
}

impl Metrics {
    /// Creates the metrics of these channels.
    #[must_use]
    pub fn new(channels: &[ChannelConfig]) -> Self {
        let labels = channels.iter().map(|channel| ChannelLabels {
            channel: channel.name.clone(),
            kind: channel.kind.name(),
        });
        Self(Arc::new(
            labels
                .map(|labels| (labels, ChannelCounter::default()))
                .collect(),
        ))
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Returns the counter of a channel; one that is not registered for an unknown name.
    pub(super) fn of(&self, channel: &str) -> ChannelCounter {
        let mut counters = self.0.iter();
        let found = counters.find(|(labels, _)| labels.channel == channel);
        found.map_or_else(ChannelCounter::default, |(_, counter)| counter.clone())
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Notifications by channel: delivered messages, and attempts that failed";
        let mut family =
            encoder.encode_descriptor("notifications", help, None, MetricType::Counter)?;
        for (labels, counter) in &*self.0 {
            for (outcome, count) in counter.outcomes() {
                let labels = [
                    ("channel", labels.channel.as_str()),
                    ("kind", labels.kind),
                    ("outcome", outcome),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

//! Read-through to a shop's old handler, while a request of the Market waits.

use std::time::Duration;

use connectors::{Completeness, EntrySender, old_handler};
use stock::{ShopId, Sku, Timestamp};
use stock_import::DeliveryScope;
use strict_http::causes;

use super::SourceManager;
use crate::sources::DeliveryPipeline;

/// Timeout for the old handler while a request of the Market waits.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeout for a request of the Market that is read through, until the handler's response is in
/// the book. It is shorter than the listener's timeout, so that known SKUs are still answered.
pub const READ_THROUGH_TIMEOUT: Duration = Duration::from_secs(12);

impl SourceManager {
    /// Reads SKUs of a request of the Market through from the shop's old handler, until the first
    /// snapshot of the handler was applied. `None` if there is nothing to read through.
    #[must_use]
    pub fn read_through(
        &self,
        shop: ShopId,
        skus: Vec<Sku>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let managed = self.shop(shop)?;
        let index = managed
            .sources
            .iter()
            .position(|source| source.old_handler.is_some())?;
        let pipeline = managed.pipeline.read().clone()?;
        if pipeline.had_snapshot(index) {
            return None;
        }
        let manager = self.clone();
        Some(async move { manager.request_now((shop, pipeline), index, &skus).await })
    }

    async fn request_now(
        &self,
        (shop, pipeline): (ShopId, DeliveryPipeline),
        index: usize,
        skus: &[Sku],
    ) {
        let Some(shop) = self.shop(shop) else { return };
        let source = &shop.sources[index];
        let Some(client) = &source.old_handler else {
            return;
        };
        let now = self.0.context.clock.now();
        let read_settings = &source.config.read_settings;
        let response =
            old_handler::pull_once(client, skus, read_settings, now, HANDLER_TIMEOUT).await;
        if let Some(error) = &response.first_error {
            pipeline.record_failure(index, &causes(error));
        }
        if response.entries.is_empty() {
            return;
        }
        let now = Timestamp::from(self.0.context.clock.now());
        let delivered =
            pipeline.ingest_delivery(index, now, true, async |rows: &mut EntrySender| {
                for entry in response.entries {
                    rows.send(entry).await.map_err(|error| error.to_string())?;
                }
                Ok(Completeness::Certain(DeliveryScope::Delta))
            });
        // The pipeline records errors in the status of the source.
        let _report = delivered.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_through_ends_before_listener_timeout() {
        assert!(HANDLER_TIMEOUT < READ_THROUGH_TIMEOUT);
        assert!(READ_THROUGH_TIMEOUT < strict_http::ServerLimits::default().handler_timeout);
    }
}

//! Poll of a shop's old handler: a snapshot of all known SKUs.

use std::sync::Arc;

use lifecycle::run_blocking;
use market_api::push::client::OldHandlerClient;
use stock::{Sku, Timestamp};
use stock_import::{DeliveryScope, ReadSettings};
use strict_http::causes;
use tracing::{info, warn};

use super::pull;
use crate::source::{DeliveryEnd, DueDelivery, PollContext, ReadFailure, Source};
use crate::{Completeness, EntrySender, ReadReport};

/// Old handler as a source.
#[derive(Debug)]
pub struct OldHandlerSource {
    client: OldHandlerClient,
    /// SKUs to request in addition to the known ones.
    extra_skus: Vec<Sku>,
    settings: ReadSettings,
}

impl OldHandlerSource {
    /// Creates a source that was not polled yet.
    #[must_use]
    pub fn new(client: OldHandlerClient, extra_skus: Vec<Sku>, settings: ReadSettings) -> Self {
        Self {
            client,
            extra_skus,
            settings,
        }
    }
}

impl Source for OldHandlerSource {
    /// SKUs to request.
    type Target = Vec<Sku>;

    const DUE_CONTACTS_SOURCE: bool = false;

    fn restore(&mut self, _state: &str) {}

    /// Does nothing: each poll requests all SKUs.
    fn read_again(&mut self) {}

    async fn due(&mut self, poll: &PollContext<'_>) -> Result<Vec<DueDelivery<Vec<Sku>>>, String> {
        let (known_skus, extra_skus) = (Arc::clone(&poll.known_skus), self.extra_skus.clone());
        // A million SKUs take a moment to gather.
        let skus = run_blocking(move || {
            let mut skus = known_skus();
            skus.extend(extra_skus);
            skus.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
            skus.dedup();
            skus
        })
        .await;
        if skus.is_empty() {
            let shop = poll.shop;
            info!(shop, "old handler not polled: no SKU is known");
            return Ok(Vec::new());
        }
        Ok(vec![DueDelivery {
            stated_at: Some(Timestamp::from(poll.now)),
            repeats_last: false,
            target: skus,
        }])
    }

    async fn read(
        &mut self,
        skus: &mut Vec<Sku>,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<ReadReport, ReadFailure> {
        let pulled = pull(&self.client, skus, &self.settings, poll.now, rows).await;
        let pulled = pulled.map_err(|error| ReadFailure::temporary(causes(&error)))?;
        if pulled.future_dated > 0 {
            warn!(
                shop = poll.shop,
                skus = pulled.future_dated,
                "the old handler dates {} SKUs in the future: they are applied as of now, check its \
                 clock and time zone",
                pulled.future_dated
            );
        }
        Ok(ReadReport::from(Completeness::Certain(
            DeliveryScope::Snapshot,
        )))
    }

    fn ended(&mut self, _skus: Vec<Sku>, _end: DeliveryEnd) -> Option<String> {
        None
    }

    /// Requests the SKUs of the settings.
    async fn read_all(
        &mut self,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> Result<(), String> {
        let pulled = pull(
            &self.client,
            &self.extra_skus,
            &self.settings,
            poll.now,
            rows,
        )
        .await;
        pulled.map(drop).map_err(|error| causes(&error))
    }
}

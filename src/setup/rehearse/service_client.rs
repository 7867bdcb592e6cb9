//! HTTP client of the rehearsed service, for its three callers: the seller, the Market, the
//! operator.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lifecycle::Clock;
use market_api::partner::client::{CallOutcome, MarketClient};
use market_api::partner::readback_page::{
    OfferList, ReadbackPage, ReadbackQuery, ReadbackSelection,
};
use market_api::partner::wire::MarketAddress;
use market_sim::catalogue::CatalogueProduct;
use market_sim::push_client::{MAX_SKUS_PER_REQUEST, PUSH_TIMEOUT};
use market_sim::{PushClient, PushProgress, PushReport, PushTokenLocation};
use serde_json::{Value, json};
use strict_http::secret::Secret;
use strict_http::{ClientConfig, Trust, client};

use super::{CAMPAIGN, FEED_KEY, PUSH_TOKEN, WAREHOUSE};
use crate::ops::StatusResponse;

/// Client of the rehearsed service.
pub(super) struct ServiceClient {
    pub(super) listen: SocketAddr,
    pub(super) ops: SocketAddr,
    client: reqwest::Client,
}

impl ServiceClient {
    pub(super) fn new(listen: SocketAddr, ops: SocketAddr) -> anyhow::Result<Self> {
        // After a restart of the service, its old connections are useless.
        let config = ClientConfig {
            pool_idle_timeout: Duration::from_secs(5),
            trust: Trust::PlainHttpOnly,
            ..ClientConfig::default()
        };
        Ok(Self {
            listen,
            ops,
            client: client(&config)?,
        })
    }

    /// Sends an update, as the seller's program does.
    pub(super) async fn put_stock(&self, products: &[CatalogueProduct]) -> anyhow::Result<()> {
        let now = Clock::wall().now().to_rfc3339();
        let skus: Vec<Value> = products
            .iter()
            .map(|product| {
                let item = json!({ "count": product.count, "updatedAt": now });
                json!({ "sku": product.sku, "items": [item] })
            })
            .collect();
        let response = self
            .client
            .put(format!(
                "http://{}/v2/campaigns/{CAMPAIGN}/offers/stocks",
                self.listen
            ))
            .header("Api-Key", FEED_KEY)
            .header("Content-Type", "application/json")
            .body(json!({ "skus": skus }).to_string())
            .send()
            .await
            .context("send an update to the service")?;
        let status = response.status();
        if !status.is_success() {
            bail!(
                "the service rejected an update with {status}: {}",
                response.text().await?
            );
        }
        Ok(())
    }

    /// Returns the whole stock, as a client of the Market's API reads it.
    pub(super) async fn stock(&self) -> anyhow::Result<Vec<CatalogueProduct>> {
        let client = MarketClient::new(self.client.clone(), &format!("http://{}", self.listen));
        let address = MarketAddress::Campaign { id: CAMPAIGN };
        let key = Secret::new(FEED_KEY.to_owned());
        let (mut stock, mut token) = (Vec::new(), None);
        loop {
            let query = ReadbackQuery {
                warehouses: vec![WAREHOUSE],
                selection: ReadbackSelection::List {
                    list: OfferList::Active,
                    token,
                },
            };
            let now = Clock::wall().now();
            let page = match client.readback(&address, &key, &query, now).await {
                CallOutcome::Response(response) => ReadbackPage::read(&response.body, &query),
                CallOutcome::NoResponse(reason) => Err(reason),
            };
            let page = page.map_err(|reason| anyhow!("read the stock of the service: {reason}"))?;
            for offer in page.offers {
                stock.push(CatalogueProduct {
                    sku: offer.sku,
                    count: offer.available.try_into().context("read a count")?,
                });
            }
            if page.next.is_none() {
                return Ok(stock);
            }
            token = page.next;
        }
    }

    /// Requests the stock of all `skus`, as the Market does: a thousand SKUs a request, all in
    /// parallel.
    pub(super) async fn ask_stock(&self, skus: &[String]) -> PushReport {
        let push = PushClient {
            http_client: &self.client,
            base_url: &format!("http://{}/market/api", self.listen),
            token: PUSH_TOKEN,
            token_location: PushTokenLocation::Header,
            warehouse_id: WAREHOUSE,
            skus,
            skus_per_request: MAX_SKUS_PER_REQUEST,
            timeout: PUSH_TIMEOUT,
        };
        push.request_all(&PushProgress::default()).await
    }

    /// Returns `/status` of the service.
    pub(super) async fn status(&self) -> anyhow::Result<StatusResponse> {
        let response = self
            .client
            .get(format!("http://{}/status", self.ops))
            .send()
            .await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }

    /// Returns true if the service is ready for requests.
    pub(super) async fn is_ready(&self) -> bool {
        let response = self
            .client
            .get(format!("http://{}/readyz", self.ops))
            .send()
            .await;
        response.is_ok_and(|response| response.status().is_success())
    }
}

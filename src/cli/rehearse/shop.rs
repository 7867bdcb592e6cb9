use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{CAMPAIGN, FEED_KEY, PUSH_TOKEN, WAREHOUSE};
use crate::clock::Clock;
use crate::http::{ClientConfig, Trust, client};
use crate::rehearsal::catalogue::Product;
use crate::rehearsal::push::{DEADLINE, SKUS_PER_QUESTION};
use crate::rehearsal::{Push, PushProgress, PushReport, TokenPlace};

/// The rehearsed service, as its seller, the Market and its operator see it.
pub(super) struct Shop {
    pub(super) listen: SocketAddr,
    pub(super) ops: SocketAddr,
    client: reqwest::Client,
}

impl Shop {
    pub(super) fn new(listen: SocketAddr, ops: SocketAddr) -> anyhow::Result<Self> {
        // A connection kept from one life of the service is of no use in the next.
        let config = ClientConfig {
            pool_idle: Duration::from_secs(5),
            trust: Trust::Nobody,
            ..ClientConfig::default()
        };
        Ok(Self {
            listen,
            ops,
            client: client(&config)?,
        })
    }

    /// The seller's program tells what there is now.
    pub(super) async fn put(&self, products: &[Product]) -> anyhow::Result<()> {
        let now = Clock::wall().now().to_rfc3339();
        let skus: Vec<Value> = products
            .iter()
            .map(|product| {
                let item = json!({ "count": product.count, "updatedAt": now });
                json!({ "sku": product.sku, "items": [item] })
            })
            .collect();
        let answer = self
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
            .context("feed the shop")?;
        let status = answer.status();
        if !status.is_success() {
            bail!(
                "the shop answered {status} to its seller: {}",
                answer.text().await?
            );
        }
        Ok(())
    }

    /// The Market asks for all of these, a thousand a question, all at once.
    pub(super) async fn ask(&self, skus: &[String]) -> PushReport {
        let push = Push {
            client: &self.client,
            base_url: &format!("http://{}/market/api", self.listen),
            token: PUSH_TOKEN,
            place: TokenPlace::Header,
            warehouse_id: WAREHOUSE,
            skus,
            per_request: SKUS_PER_QUESTION,
            deadline: DEADLINE,
        };
        push.ask_everything(&PushProgress::default()).await
    }

    /// What the service says of itself.
    pub(super) async fn status(&self) -> anyhow::Result<Value> {
        let answer = self
            .client
            .get(format!("http://{}/status", self.ops))
            .send()
            .await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Whether it can be fed and asked.
    pub(super) async fn is_ready(&self) -> bool {
        let answer = self
            .client
            .get(format!("http://{}/readyz", self.ops))
            .send()
            .await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

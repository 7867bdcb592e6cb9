//! Calls of the self-test to the Market's API, with retries and both keys.

use std::time::Duration;

use market_api::partner::client::{CallOutcome, MarketResponse};
use market_api::partner::readback_page::ReadbackQuery;
use stock::Sku;
use strict_http::secret::Secret;
use tokio::time::sleep;

use super::runner::{FailureText, SelftestRunner};
use crate::migrator::classify_response::{ResponseVerdict, classify_response};
use crate::migrator::{Context, MarketTarget};

/// Largest number of attempts of one call.
const MAX_ATTEMPTS: u32 = 4;

/// Delay between two attempts of a call.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Call of the Market's API.
#[derive(strum::Display)]
pub(super) enum MarketCall {
    #[strum(serialize = "check whether the product is hidden")]
    GetHidden,
    #[strum(serialize = "hide the product")]
    Hide,
    #[strum(serialize = "read the stock back")]
    Readback(ReadbackQuery),
    #[strum(serialize = "send the stock")]
    Send(Vec<u8>),
    #[strum(serialize = "show the product")]
    Show,
}

impl SelftestRunner {
    /// Calls the Market, with up to [`MAX_ATTEMPTS`] attempts.
    pub(super) async fn call_with_retries(
        &self,
        call: &MarketCall,
        sku: &Sku,
    ) -> Result<MarketResponse, FailureText> {
        let mut attempts = 1;
        loop {
            let request = |key| async move { self.send_request(call, sku, &key).await };
            let mut target = (*self.target).clone();
            target.keys = self.worker.keys();
            let outcome = target.call_with_any_key(0, request).await;
            let verdict = match (classify_response(&outcome), outcome) {
                (ResponseVerdict::Accepted, CallOutcome::Response(response)) => {
                    return Ok(response);
                }
                (verdict, _) => verdict,
            };
            // In a stopping process, only showing the product is worth a retry.
            let is_over = self.tasks.is_stopping() && !matches!(call, MarketCall::Show);
            if is_over || attempts == MAX_ATTEMPTS || is_permanent(&verdict) {
                return Err(format!("{call}: {verdict}"));
            }
            attempts += 1;
            sleep(RETRY_DELAY).await;
        }
    }

    async fn send_request(&self, call: &MarketCall, sku: &Sku, key: &Secret) -> CallOutcome {
        let MarketTarget {
            address, campaign, ..
        } = &*self.target;
        let Context { market, clock, .. } = &self.context;
        let now = clock.now();
        match call {
            MarketCall::GetHidden => market.get_hidden_offers(*campaign, key, sku, now).await,
            MarketCall::Hide => {
                market
                    .set_offer_hidden(*campaign, key, sku, true, now)
                    .await
            }
            MarketCall::Readback(query) => market.readback(address, key, query, now).await,
            MarketCall::Send(body) => market.update_stocks(address, key, body.clone(), now).await,
            MarketCall::Show => {
                market
                    .set_offer_hidden(*campaign, key, sku, false, now)
                    .await
            }
        }
    }
}

/// Returns true if a retry of the same call would end the same way.
fn is_permanent(verdict: &ResponseVerdict) -> bool {
    match verdict {
        ResponseVerdict::Accepted
        | ResponseVerdict::RateLimited { .. }
        | ResponseVerdict::Retry { .. }
        | ResponseVerdict::ReduceParallelism => false,
        ResponseVerdict::CampaignUnavailable { .. }
        | ResponseVerdict::AuthRejected { .. }
        | ResponseVerdict::Rejected { .. }
        | ResponseVerdict::SplitBatch => true,
    }
}

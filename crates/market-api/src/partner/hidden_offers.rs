//! Client for hidden offers: hides a product on the Market and shows it again, as the Market's own
//! check of an integration requires.
//!
//! Sources: `addHiddenOffers`, `deleteHiddenOffers` and `getHiddenOffers`, partner API OpenAPI,
//! 2026-07-17; "Transfer of balances via API", "How to check the functionality".

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;
use stock::Sku;
use strict_http::secret::Secret;

use super::client::{CallOutcome, MarketClient};
use super::wire::ResultEnvelope;

impl MarketClient {
    /// Hides a product, or shows it again. The Market may need some minutes.
    pub async fn set_offer_hidden(
        &self,
        campaign: u64,
        key: &Secret,
        sku: &Sku,
        is_hidden: bool,
        now: DateTime<Utc>,
    ) -> CallOutcome {
        let end = if is_hidden { "" } else { "/delete" };
        let url = format!("{}/v2/campaigns/{campaign}/hidden-offers{end}", self.base);
        let body = json!({ "hiddenOffers": [{ "offerId": sku.as_str() }] }).to_string();
        self.send(self.http.post(url), key, body.into_bytes(), now)
            .await
    }

    /// Requests the hidden state of a product; [`is_offer_hidden`] reads the response body.
    pub async fn get_hidden_offers(
        &self,
        campaign: u64,
        key: &Secret,
        sku: &Sku,
        now: DateTime<Utc>,
    ) -> CallOutcome {
        let offer_id = utf8_percent_encode(sku.as_str(), NON_ALPHANUMERIC);
        let url = format!(
            "{}/v2/campaigns/{campaign}/hidden-offers?offer_id={offer_id}",
            self.base
        );
        self.send(self.http.get(url), key, Vec::new(), now).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HiddenOffersResult {
    hidden_offers: Vec<HiddenOffer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HiddenOffer {
    offer_id: String,
}

/// Returns true if a list of hidden products contains this one.
///
/// # Errors
/// The body is not such a list.
pub fn is_offer_hidden(body: &[u8], sku: &Sku) -> Result<bool, String> {
    let response = serde_json::from_slice::<ResultEnvelope<HiddenOffersResult>>(body);
    let hidden = response
        .map_err(|error| error.to_string())?
        .result
        .hidden_offers;
    Ok(hidden.iter().any(|it| it.offer_id.trim() == sku.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_hidden_products_in_the_list() {
        let sku = Sku::parse("A").unwrap();
        let list = |ids: &str| format!(r#"{{"status":"OK","result":{{"hiddenOffers":[{ids}]}}}}"#);
        let read = |ids: &str| is_offer_hidden(list(ids).as_bytes(), &sku);
        assert_eq!(read(r#"{"offerId":"B"},{"offerId":"A"}"#), Ok(true));
        assert_eq!(read(r#"{"offerId":"AA"}"#), Ok(false));
        assert_eq!(read(""), Ok(false));
        assert!(is_offer_hidden(b"{}", &sku).is_err());
    }
}

//! Hiding a product on the Market and showing it again, for the Market's own check of an
//! integration.
//!
//! Sources: `addHiddenOffers`, `deleteHiddenOffers` and `getHiddenOffers`, partner API OpenAPI,
//! 2026-07-17; "Transfer of balances via API", "How to check the functionality".

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::client::{MarketClient, Reply};
use crate::http::secret::Secret;
use crate::stock::Sku;

impl MarketClient {
    /// Asks the Market to hide a product; some minutes may pass until it is.
    pub async fn hide(&self, campaign: u64, key: &Secret, sku: &Sku, now: DateTime<Utc>) -> Reply {
        self.change_hidden(&format!("{campaign}/hidden-offers"), key, sku, now)
            .await
    }

    /// Asks the Market to show a product again.
    pub async fn show(&self, campaign: u64, key: &Secret, sku: &Sku, now: DateTime<Utc>) -> Reply {
        self.change_hidden(&format!("{campaign}/hidden-offers/delete"), key, sku, now)
            .await
    }

    /// Asks whether a product is hidden; [`read_hidden`] reads the answer.
    pub async fn ask_hidden(
        &self,
        campaign: u64,
        key: &Secret,
        sku: &Sku,
        now: DateTime<Utc>,
    ) -> Reply {
        let name = utf8_percent_encode(sku.as_str(), NON_ALPHANUMERIC);
        let url = format!(
            "{}/v2/campaigns/{campaign}/hidden-offers?offer_id={name}",
            self.base
        );
        self.send(self.http.get(url), key, Vec::new(), now).await
    }

    async fn change_hidden(
        &self,
        place: &str,
        key: &Secret,
        sku: &Sku,
        now: DateTime<Utc>,
    ) -> Reply {
        let body = json!({ "hiddenOffers": [{ "offerId": sku.as_str() }] }).to_string();
        let request = self
            .http
            .post(format!("{}/v2/campaigns/{place}", self.base));
        self.send(request, key, body.into_bytes(), now).await
    }
}

#[derive(Deserialize)]
struct Envelope {
    result: Listing,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    hidden_offers: Vec<Hidden>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hidden {
    offer_id: String,
}

/// Whether a list of hidden products names this one.
///
/// # Errors
/// It is no such list.
pub fn read_hidden(body: &[u8], sku: &Sku) -> Result<bool, String> {
    let Envelope { result } = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    Ok(result
        .hidden_offers
        .iter()
        .any(|hidden| hidden.offer_id.trim() == sku.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_hidden_if_the_list_names_it() {
        let sku = Sku::parse("A").unwrap();
        let list = |ids: &str| format!(r#"{{"status":"OK","result":{{"hiddenOffers":[{ids}]}}}}"#);
        let read = |ids: &str| read_hidden(list(ids).as_bytes(), &sku);
        assert_eq!(read(r#"{"offerId":"B"},{"offerId":"A"}"#), Ok(true));
        assert_eq!(read(r#"{"offerId":"AA"}"#), Ok(false));
        assert_eq!(read(""), Ok(false));
        assert!(read_hidden(b"{}", &sku).is_err());
    }
}

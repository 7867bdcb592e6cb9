//! Queries about a seller's account on the Market: scopes of a key, campaigns and warehouses.
//!
//! Only the setup commands use them, not the running service. Responses are parsed leniently:
//! unknown members are ignored and most members are optional. Source: the Market's OpenAPI
//! description, state of 2026-07-17.

mod api_key;
mod campaign;
#[cfg(test)]
mod tests;
mod warehouse;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use self::api_key::ApiKeyInfo;
pub use self::campaign::{MarketBusiness, MarketCampaign};
pub use self::warehouse::{
    MarketPartnerWarehouse, MarketWarehouse, MarketWarehouseStatus, WarehouseGroup,
};
use strict_http::json::read_json;
use strict_http::secret::Secret;

use super::client::{MarketClient, MarketResponse, call};
use super::wire::{ApiResponse, ResponsePaging, ResultEnvelope};

/// Most campaigns on one page. Source: `getCampaigns`, `limit`.
const MAX_CAMPAIGNS_PER_PAGE: usize = 100;

/// Most warehouses on one page. Source: `getPagedWarehouses` and `getPartnerWarehouses`, `limit`.
const MAX_WAREHOUSES_PER_PAGE: usize = 30;

/// Most pages read of one list. The Market allows 100 calls an hour for warehouses, and an endless
/// list must not use them up.
const MAX_PAGES: usize = 40;

/// Most characters of a response that an error message repeats.
const MAX_EXCERPT_CHARS: usize = 200;

/// Error of a query about an account.
#[derive(Clone, Debug, Error)]
pub enum AccountError {
    /// The connection failed, or the response was incomplete.
    #[error("no response from the Market: {0}")]
    Unreachable(String),
    /// The Market or a proxy rejected the request.
    #[error("the Market rejected the request with status {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Errors in the response, or the beginning of its text.
        message: String,
    },
    /// The response does not match the request.
    #[error("the Market's response cannot be parsed: {0}")]
    Unreadable(String),
}

impl AccountError {
    /// Returns true if the Market rejected the key, not only this request.
    #[must_use]
    pub fn is_key_rejected(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if matches!(status, 401 | 403))
    }
}

impl MarketClient {
    /// Returns name and scopes of a key, and the header `Date` of the response: `POST /v2/auth/token`.
    ///
    /// # Errors
    /// The Market cannot be reached, rejects the request, or returns another response.
    pub async fn token_scopes(
        &self,
        key: &Secret,
    ) -> Result<(ApiKeyInfo, Option<DateTime<Utc>>), AccountError> {
        // Explicit, because some proxies reject a POST without a length.
        let request = self
            .account_request(Method::POST, "/v2/auth/token", key)
            .header(CONTENT_LENGTH, 0);
        let response = send_checked(request).await?;
        let ResultEnvelope::<TokenResult> { result } = parse(&response)?;
        let TokenApiKey { name, auth_scopes } = result.api_key;
        let scopes = auth_scopes.iter().map(|scope| normalize_scope(scope));
        let info = ApiKeyInfo {
            name: name.unwrap_or_default(),
            scopes: scopes.collect(),
        };
        Ok((info, response.date))
    }

    /// Returns all campaigns that the key may see: `GET /v2/campaigns`.
    ///
    /// # Errors
    /// The Market cannot be reached, rejects the request, or returns another response.
    pub async fn campaigns(&self, key: &Secret) -> Result<Vec<MarketCampaign>, AccountError> {
        let path = format!("/v2/campaigns?limit={MAX_CAMPAIGNS_PER_PAGE}");
        let request =
            |query: &str| self.account_request(Method::GET, &format!("{path}{query}"), key);
        fetch_all_pages(request, |page: MarketCampaignsResponse| {
            (page.campaigns, page.paging)
        })
        .await
    }

    /// Returns all warehouses of an account: `POST /v2/businesses/{businessId}/warehouses`.
    ///
    /// # Errors
    /// The Market cannot be reached, rejects the request, or returns another response.
    pub async fn warehouses(
        &self,
        key: &Secret,
        business: u64,
    ) -> Result<Vec<MarketWarehouse>, AccountError> {
        let path = format!("/v2/businesses/{business}/warehouses");
        self.fetch_warehouses(key, &path, r#"{"components":["STATUS"]}"#)
            .await
    }

    /// Returns the same warehouses with the ids of the v3 methods:
    /// `POST /v3/businesses/{businessId}/warehouses`.
    ///
    /// # Errors
    /// The Market cannot be reached, rejects the request, or returns another response.
    pub async fn partner_warehouses(
        &self,
        key: &Secret,
        business: u64,
    ) -> Result<Vec<MarketPartnerWarehouse>, AccountError> {
        let path = format!("/v3/businesses/{business}/warehouses");
        self.fetch_warehouses(key, &path, "{}").await
    }

    async fn fetch_warehouses<T: DeserializeOwned>(
        &self,
        key: &Secret,
        path: &str,
        body: &'static str,
    ) -> Result<Vec<T>, AccountError> {
        let request = |query: &str| {
            let target = format!("{path}?limit={MAX_WAREHOUSES_PER_PAGE}{query}");
            self.account_request(Method::POST, &target, key)
                .header(CONTENT_TYPE, "application/json")
                .body(body)
        };
        fetch_all_pages(request, |page: ResultEnvelope<WarehousePage<T>>| {
            (page.result.warehouses, page.result.paging)
        })
        .await
    }

    fn account_request(&self, method: Method, target: &str, key: &Secret) -> RequestBuilder {
        self.http
            .request(method, format!("{}{target}", self.base))
            .header("Api-Key", key.expose())
    }
}

/// Reads all pages of a list. A list that does not end is an error, because a part of it must not
/// be taken for the whole list.
async fn fetch_all_pages<A: DeserializeOwned, T>(
    request: impl Fn(&str) -> RequestBuilder,
    into_page: impl Fn(A) -> (Vec<T>, Option<ResponsePaging>),
) -> Result<Vec<T>, AccountError> {
    let mut all = Vec::new();
    let mut query = String::new();
    let mut seen_tokens = HashSet::new();
    for _ in 0..MAX_PAGES {
        let response = send_checked(request(&query)).await?;
        let (page, paging) = into_page(parse(&response)?);
        all.extend(page);
        let next = paging.and_then(|paging| paging.next_page_token);
        let Some(token) = next.filter(|token| !token.is_empty()) else {
            return Ok(all);
        };
        let encoded = utf8_percent_encode(&token, NON_ALPHANUMERIC);
        query = format!("&pageToken={encoded}");
        if !seen_tokens.insert(token) {
            let reason = "the page tokens repeat".to_owned();
            return Err(AccountError::Unreadable(reason));
        }
    }
    let reason = format!("the list has more than {MAX_PAGES} pages");
    Err(AccountError::Unreadable(reason))
}

/// Sends one request. A response that is not a success is an error.
async fn send_checked(request: RequestBuilder) -> Result<MarketResponse, AccountError> {
    // The time is used only for rate-limit headers without a `Date`, which are not read here.
    let response = call(request, DateTime::UNIX_EPOCH)
        .await
        .map_err(AccountError::Unreachable)?;
    match response_error(&response) {
        Some(error) => Err(error),
        None => Ok(response),
    }
}

fn response_error(response: &MarketResponse) -> Option<AccountError> {
    let wrapper = read_json::<ApiResponse>(&response.body);
    let errors = wrapper.ok().filter(|wrapper| wrapper.status == "ERROR");
    if response.status == 200 && errors.is_none() {
        return None;
    }
    let messages = errors
        .and_then(|wrapper| wrapper.errors)
        .unwrap_or_default();
    let texts = messages.iter().map(|error| match error.message.as_str() {
        "" => error.code.as_str(),
        message => message,
    });
    let text = if messages.is_empty() {
        String::from_utf8_lossy(&response.body)
    } else {
        texts.collect::<Vec<_>>().join("; ").into()
    };
    let message = match shorten(&text) {
        empty if empty.is_empty() => "no details".to_owned(),
        message => message,
    };
    Some(AccountError::Refused {
        status: response.status,
        message,
    })
}

fn parse<T: DeserializeOwned>(response: &MarketResponse) -> Result<T, AccountError> {
    read_json(&response.body).map_err(AccountError::Unreadable)
}

/// Returns the beginning of a text on one line, because an error page of a proxy is long.
fn shorten(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_EXCERPT_CHARS).collect()
}

/// Returns a scope in the spelling of the schema. The documentation also has
/// `all-methods:read-only`.
fn normalize_scope(scope: &str) -> String {
    scope.to_ascii_uppercase().replace(['-', ':'], "_")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenResult {
    api_key: TokenApiKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenApiKey {
    name: Option<String>,
    auth_scopes: Vec<String>,
}

#[derive(Deserialize)]
struct MarketCampaignsResponse {
    campaigns: Vec<MarketCampaign>,
    paging: Option<ResponsePaging>,
}

#[derive(Deserialize)]
struct WarehousePage<T> {
    warehouses: Vec<T>,
    paging: Option<ResponsePaging>,
}

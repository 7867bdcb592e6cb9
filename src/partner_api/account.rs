//! We ask the Market about a cabinet: what a key may do, which campaigns there are, and which
//! warehouses.
//!
//! Questions of a person who sets things up, not of the service: nothing here is called while
//! stock is carried. Read leniently, since an answer with something new in it still says what
//! we asked for. Source: the Market's OpenAPI description, state of 2026-07-17.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::client::{MarketClient, MarketResponse, call};
use super::wire::{ApiResponse, ResponsePaging};
use crate::http::json::read_json;
use crate::http::secret::Secret;

/// Largest page of campaigns. Source: `getCampaigns`, `limit`.
const MAX_CAMPAIGNS_PER_PAGE: usize = 100;

/// Largest page of warehouses. Source: `getPagedWarehouses` and `getPartnerWarehouses`, `limit`.
const MAX_WAREHOUSES_PER_PAGE: usize = 30;

/// Most pages read of one list. The Market allows 100 calls an hour for warehouses: a list
/// without an end must not use them up.
const MAX_PAGES: usize = 40;

/// Most characters shown of an answer that is not the Market's.
const MAX_EXCERPT_CHARS: usize = 200;

/// What the Market said, and when by its own clock.
#[derive(Clone, Debug)]
pub struct DatedResponse<T> {
    /// The answer.
    pub value: T,
    /// The `Date` of its last page, in whole seconds.
    pub date: Option<DateTime<Utc>>,
}

/// Why a question about a cabinet was not answered.
#[derive(Clone, Debug, Error)]
pub enum AccountError {
    /// Nobody answered, or not to the end.
    #[error("no answer from the Market: {0}")]
    Unreachable(String),
    /// The Market, or something between, said no.
    #[error("the Market refuses with status {status}: {words}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The errors of the answer, or the beginning of its text.
        words: String,
    },
    /// The answer is none to this question.
    #[error("the Market's answer cannot be read: {0}")]
    Unreadable(String),
}

impl AccountError {
    /// Whether it is the key that is refused, not this one question.
    #[must_use]
    pub fn is_key_rejected(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 401 | 403,
                ..
            }
        )
    }
}

/// What an Api-Key is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ApiKeyInfo {
    /// Its name in the cabinet, which is no secret.
    pub name: String,
    /// What it may do, such as `ALL_METHODS`.
    pub scopes: Vec<String>,
}

impl ApiKeyInfo {
    /// Whether stock may be sent with it. Source: `updateStocks`, `x-auth-scopes`.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.has_any(&["ALL_METHODS", "OFFERS_AND_CARDS_MANAGEMENT"])
    }

    /// Whether stock may be read back with it. Source: `getStocks`, `x-auth-scopes`.
    #[must_use]
    pub fn may_read_back(&self) -> bool {
        self.may_send()
            || self.has_any(&[
                "ALL_METHODS_READ_ONLY",
                "OFFERS_AND_CARDS_MANAGEMENT_READ_ONLY",
            ])
    }

    /// Whether warehouses may be listed with it. Source: `getPagedWarehouses`, `x-auth-scopes`.
    #[must_use]
    pub fn may_list_warehouses(&self) -> bool {
        self.has_any(&[
            "ALL_METHODS",
            "ALL_METHODS_READ_ONLY",
            "INVENTORY_AND_ORDER_PROCESSING",
            "INVENTORY_AND_ORDER_PROCESSING_READ_ONLY",
        ])
    }

    fn has_any(&self, scopes: &[&str]) -> bool {
        self.scopes
            .iter()
            .any(|scope| scopes.contains(&scope.as_str()))
    }
}

/// One campaign: a shop as the API knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MarketCampaign {
    /// The number in the paths of the API. Not the shop id that the cabinet shows.
    pub id: u64,
    /// The shop's name.
    #[serde(default)]
    pub domain: Option<String>,
    /// The cabinet it belongs to.
    #[serde(default)]
    pub business: Option<MarketBusiness>,
    /// How it sells: `FBS`, `DBS`, `FBY` or `LAAS`.
    #[serde(default)]
    pub placement_type: Option<String>,
    /// `AVAILABLE`, or why the API is closed for it.
    #[serde(default)]
    pub api_availability: Option<String>,
}

impl MarketCampaign {
    /// The shop's name, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.domain.as_deref().unwrap_or_default()
    }

    /// The cabinet's number, if it was told.
    #[must_use]
    pub fn business_id(&self) -> Option<u64> {
        self.business.as_ref().and_then(|business| business.id)
    }

    /// Why stock cannot be sent to it, or `None` if nothing speaks against it.
    #[must_use]
    pub fn sending_obstacle(&self) -> Option<String> {
        if let Some(kind @ ("FBY" | "LAAS")) = self.placement_type.as_deref() {
            return Some(format!(
                "it sells by {kind}: its goods lie in the Market's own warehouses, which the \
                 Market counts itself"
            ));
        }
        let reason = match self.api_availability.as_deref() {
            None | Some("AVAILABLE") => return None,
            Some("DISABLED_BY_INACTIVITY") => "it has shown no goods for more than 90 days",
            Some("DISABLED_BY_NO_ACTIVE_CONTRACT") => "it has no contract in force",
            Some("MANUALLY_DISABLED") => "its integration was switched off by hand",
            Some("DISABLED_BY_NO_PLACEMENT_TYPE") => "it is in no programme of placement",
            Some(other) => return Some(format!("the API is closed for it ({other})")),
        };
        Some(format!(
            "the API is closed for it ({}): {reason}",
            self.api_availability.as_deref().unwrap_or_default()
        ))
    }
}

/// A cabinet, of which a campaign is a part.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketBusiness {
    /// The number in the paths of the API.
    #[serde(default)]
    pub id: Option<u64>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
}

/// One warehouse of a cabinet, as `POST /v2/businesses/{businessId}/warehouses` lists it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MarketWarehouse {
    /// The number the Market asks with.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The campaign that sells from it.
    #[serde(default)]
    pub campaign_id: Option<u64>,
    /// Whether express delivery is possible.
    #[serde(default)]
    pub express: Option<bool>,
    /// The group it is a member of; absent for a warehouse by itself.
    #[serde(default)]
    pub group_info: Option<WarehouseGroup>,
    /// Present because we ask for it.
    #[serde(default)]
    pub status: Option<MarketWarehouseStatus>,
}

impl MarketWarehouse {
    /// Its name, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The number of the group it is a member of.
    #[must_use]
    pub fn group(&self) -> Option<u64> {
        self.group_info.as_ref().map(|group| group.id)
    }

    /// Whether the seller has switched it off.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.status
            .as_ref()
            .is_some_and(|status| status.status == "DISABLED_MANUALLY")
    }
}

/// A group of warehouses that share one stock.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct WarehouseGroup {
    /// Its number, which no setting of ours takes.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
}

/// What is known of a warehouse's state: `DISABLED_MANUALLY` or `OTHER`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketWarehouseStatus {
    /// The word.
    #[serde(default)]
    pub status: String,
}

/// One warehouse, as the methods by business number it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct MarketPartnerWarehouse {
    /// The number that updates by business name.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// The ways goods are sold from it.
    #[serde(default)]
    pub models: Option<Vec<PartnerSalesModel>>,
}

/// One way goods are sold from a warehouse.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PartnerSalesModel {
    /// Such as `FBS`, `DBS` or `EXPRESS`.
    #[serde(default)]
    pub placement_type: Option<String>,
    /// `AVAILABLE`, or why the API is closed for it.
    #[serde(default)]
    pub api_availability: Option<String>,
}

// === The questions ===

impl MarketClient {
    /// What a key may do: `POST /v2/auth/token`.
    ///
    /// # Errors
    /// The Market cannot be reached, refuses, or answers something else.
    pub async fn token_scopes(
        &self,
        key: &Secret,
    ) -> Result<DatedResponse<ApiKeyInfo>, AccountError> {
        // Said in so many words: a POST without a length is refused by some that stand between.
        let request = self
            .account_request(Method::POST, "/v2/auth/token", key)
            .header(CONTENT_LENGTH, 0);
        let response = send_checked(request).await?;
        let parsed: TokenResponse = parse(&response)?;
        let info = parsed.result.api_key;
        let scopes = info
            .auth_scopes
            .iter()
            .map(|scope| normalize_scope(scope))
            .collect();
        let value = ApiKeyInfo {
            name: info.name.unwrap_or_default(),
            scopes,
        };
        Ok(DatedResponse {
            value,
            date: response.date,
        })
    }

    /// Every campaign the key may see: `GET /v2/campaigns`.
    ///
    /// # Errors
    /// The Market cannot be reached, refuses, or answers something else.
    pub async fn campaigns(
        &self,
        key: &Secret,
    ) -> Result<DatedResponse<Vec<MarketCampaign>>, AccountError> {
        let request = |query: &str| {
            self.account_request(
                Method::GET,
                &format!("/v2/campaigns?limit={MAX_CAMPAIGNS_PER_PAGE}{query}"),
                key,
            )
        };
        fetch_all_pages(request, |page: MarketCampaignsResponse| {
            (page.campaigns, page.paging)
        })
        .await
    }

    /// Every warehouse of a cabinet: `POST /v2/businesses/{businessId}/warehouses`.
    ///
    /// # Errors
    /// The Market cannot be reached, refuses, or answers something else.
    pub async fn warehouses(
        &self,
        key: &Secret,
        business: u64,
    ) -> Result<DatedResponse<Vec<MarketWarehouse>>, AccountError> {
        let path = format!("/v2/businesses/{business}/warehouses?limit={MAX_WAREHOUSES_PER_PAGE}");
        let request = |query: &str| {
            self.account_request(Method::POST, &format!("{path}{query}"), key)
                .header(CONTENT_TYPE, "application/json")
                .body(r#"{"components":["STATUS"]}"#)
        };
        fetch_all_pages(request, MarketWarehousesResponse::into_page).await
    }

    /// The same warehouses as the methods by business number them:
    /// `POST /v3/businesses/{businessId}/warehouses`.
    ///
    /// # Errors
    /// The Market cannot be reached, refuses, or answers something else.
    pub async fn partner_warehouses(
        &self,
        key: &Secret,
        business: u64,
    ) -> Result<DatedResponse<Vec<MarketPartnerWarehouse>>, AccountError> {
        let path = format!("/v3/businesses/{business}/warehouses?limit={MAX_WAREHOUSES_PER_PAGE}");
        let request = |query: &str| {
            self.account_request(Method::POST, &format!("{path}{query}"), key)
                .header(CONTENT_TYPE, "application/json")
                .body("{}")
        };
        fetch_all_pages(request, MarketWarehousesResponse::into_page).await
    }

    fn account_request(&self, method: Method, target: &str, key: &Secret) -> RequestBuilder {
        self.http
            .request(method, format!("{}{target}", self.base))
            .header("Api-Key", key.expose())
    }
}

/// Asks page after page until the Market names no next one.
///
/// Half a list would pass for a whole one, so a list that does not end is an error.
async fn fetch_all_pages<A: DeserializeOwned, T>(
    request: impl Fn(&str) -> RequestBuilder,
    into_page: impl Fn(A) -> (Vec<T>, Option<ResponsePaging>),
) -> Result<DatedResponse<Vec<T>>, AccountError> {
    let mut all = Vec::new();
    let mut query = String::new();
    let mut seen_tokens = HashSet::new();
    for _ in 0..MAX_PAGES {
        let response = send_checked(request(&query)).await?;
        let (page, paging) = into_page(parse(&response)?);
        all.extend(page);
        let next = paging.and_then(|paging| paging.next_page_token);
        let Some(token) = next.filter(|token| !token.is_empty()) else {
            return Ok(DatedResponse {
                value: all,
                date: response.date,
            });
        };
        query = format!(
            "&pageToken={}",
            utf8_percent_encode(&token, NON_ALPHANUMERIC)
        );
        if !seen_tokens.insert(token) {
            return Err(AccountError::Unreadable(
                "its pages go round in a circle".to_owned(),
            ));
        }
    }
    Err(AccountError::Unreadable(format!(
        "it has more than {MAX_PAGES} pages"
    )))
}

/// One call; an answer that is none of success is an error.
async fn send_checked(request: RequestBuilder) -> Result<MarketResponse, AccountError> {
    // The moment would only stand in for a `Date` beside the headers of a limit on SKUs.
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
        .filter(|list| !list.is_empty());
    let message = match messages {
        Some(list) => {
            let each = list.iter().map(|error| match error.message.as_str() {
                "" => error.code.clone(),
                message => message.to_owned(),
            });
            shorten(&each.collect::<Vec<_>>().join("; "))
        }
        None => shorten(&String::from_utf8_lossy(&response.body)),
    };
    let message = if message.is_empty() {
        "no words".to_owned()
    } else {
        message
    };
    Some(AccountError::Refused {
        status: response.status,
        words: message,
    })
}

fn parse<T: DeserializeOwned>(response: &MarketResponse) -> Result<T, AccountError> {
    read_json(&response.body).map_err(AccountError::Unreadable)
}

/// The beginning, on one line: an error page of a proxy is a screen of markup.
fn shorten(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_EXCERPT_CHARS).collect()
}

/// A scope as the schema spells it; the documentation's headings have `all-methods:read-only`.
fn normalize_scope(scope: &str) -> String {
    scope.to_ascii_uppercase().replace(['-', ':'], "_")
}

// === Shapes around the answers ===

#[derive(Deserialize)]
struct TokenResponse {
    result: TokenResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenResult {
    api_key: TokenApiKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenApiKey {
    #[serde(default)]
    name: Option<String>,
    auth_scopes: Vec<String>,
}

#[derive(Deserialize)]
struct MarketCampaignsResponse {
    campaigns: Vec<MarketCampaign>,
    #[serde(default)]
    paging: Option<ResponsePaging>,
}

#[derive(Deserialize)]
struct MarketWarehousesResponse<T> {
    result: MarketWarehousesResult<T>,
}

#[derive(Deserialize)]
struct MarketWarehousesResult<T> {
    warehouses: Vec<T>,
    #[serde(default)]
    paging: Option<ResponsePaging>,
}

impl<T> MarketWarehousesResponse<T> {
    fn into_page(self) -> (Vec<T>, Option<ResponsePaging>) {
        (self.result.warehouses, self.result.paging)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::extract::Request;
    use axum::http::StatusCode;

    use super::super::client::RequestTimes;
    use super::*;
    use crate::http::{ClientConfig, HttpServer, ServerLimits, Trust, client};
    use crate::lifecycle::{CrashSignal, Tasks};

    const TOKEN: &str = include_str!("../../fixtures/partner/auth-token.json");
    const CAMPAIGNS: &str = include_str!("../../fixtures/partner/campaigns.json");
    const WAREHOUSES: &str = include_str!("../../fixtures/partner/warehouses.json");
    const PARTNER: &str = include_str!("../../fixtures/partner/partner-warehouses.json");

    fn response(status: u16, body: &str) -> MarketResponse {
        let headers = reqwest::header::HeaderMap::new();
        let times = RequestTimes {
            sent_at: DateTime::UNIX_EPOCH,
            head_at: DateTime::UNIX_EPOCH,
        };
        MarketResponse::read(status, &headers, body.to_owned().into(), times)
    }

    #[test]
    fn the_samples_of_the_description_are_read() {
        let token: TokenResponse = parse(&response(200, TOKEN)).unwrap();
        assert_eq!(token.result.api_key.auth_scopes.len(), 2);
        let campaigns: MarketCampaignsResponse = parse(&response(200, CAMPAIGNS)).unwrap();
        let [first, .., last] = &campaigns.campaigns[..] else {
            panic!("there are several")
        };
        assert_eq!((first.id, first.business_id()), (21_234_567, Some(781_000)));
        assert_eq!(first.sending_obstacle(), None);
        assert!(last.sending_obstacle().unwrap().contains("FBY"));
        let (warehouses, _) =
            parse::<MarketWarehousesResponse<MarketWarehouse>>(&response(200, WAREHOUSES))
                .unwrap()
                .into_page();
        assert_eq!(warehouses[0].group(), Some(4_100));
        assert_eq!(
            (warehouses[2].group(), warehouses[2].is_disabled()),
            (None, true)
        );
        let (partner, _) =
            parse::<MarketWarehousesResponse<MarketPartnerWarehouse>>(&response(200, PARTNER))
                .unwrap()
                .into_page();
        assert_eq!(partner[0].id, 90_001);
    }

    #[test]
    fn what_is_missing_or_new_does_not_matter() {
        let warehouse: MarketWarehouse =
            serde_json::from_str(r#"{"id":1,"groupInfo":null,"express":null,"new":[1]}"#).unwrap();
        assert_eq!((warehouse.group(), warehouse.name()), (None, ""));
        let campaign: MarketCampaign = serde_json::from_str(r#"{"id":2}"#).unwrap();
        assert_eq!(
            (campaign.business_id(), campaign.sending_obstacle()),
            (None, None)
        );
    }

    #[test]
    fn scopes_decide_what_a_key_may_do() {
        let key_with = |scope: &str| ApiKeyInfo {
            name: String::new(),
            scopes: vec![normalize_scope(scope)],
        };
        assert!(
            key_with("all-methods").may_send() && key_with("ALL_METHODS").may_list_warehouses()
        );
        let sends_only = key_with("OFFERS_AND_CARDS_MANAGEMENT");
        assert!(sends_only.may_send() && !sends_only.may_list_warehouses());
        let reads_only = key_with("all-methods:read-only");
        assert!(!reads_only.may_send() && reads_only.may_read_back());
        assert!(reads_only.may_list_warehouses());
        assert!(!key_with("PRICING").may_read_back());
    }

    #[test]
    fn a_refusal_is_told_in_the_markets_words() {
        let no = r#"{"status":"ERROR","errors":[{"code":"FORBIDDEN","message":"Access denied"}]}"#;
        let refused = response_error(&response(403, no)).unwrap();
        assert!(refused.is_key_rejected());
        assert_eq!(
            refused.to_string(),
            "the Market refuses with status 403: Access denied"
        );
        assert!(
            response_error(&response(200, no)).is_some(),
            "an error is one under any status"
        );
        let page = response_error(&response(502, "<html>\n  <b>Bad</b>\n"))
            .unwrap()
            .to_string();
        assert_eq!(
            page,
            "the Market refuses with status 502: <html> <b>Bad</b>"
        );
        assert!(
            response_error(&response(302, ""))
                .unwrap()
                .to_string()
                .ends_with("302: no words")
        );
        assert!(response_error(&response(200, CAMPAIGNS)).is_none());
    }

    /// A Market that answers by a script, and a client for it.
    fn scripted_market(
        tasks: &Tasks,
        script: fn(&str, Option<&str>) -> (StatusCode, String),
    ) -> MarketClient {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::bind(any_port, ServerLimits::default()).unwrap();
        let address = server.local_addr().unwrap();
        let router = Router::new().fallback(async move |request: Request| {
            let key = request
                .headers()
                .get("Api-Key")
                .and_then(|key| key.to_str().ok());
            let (status, body) = script(&request.uri().to_string(), key);
            (status, [("date", "Sat, 21 Nov 2026 10:00:00 GMT")], body)
        });
        tasks.spawn("market", server.run(router, tasks.clone()));
        let config = ClientConfig {
            trust: Trust::PlainHttpOnly,
            ..ClientConfig::default()
        };
        MarketClient::new(client(&config).unwrap(), &format!("http://{address}"))
    }

    fn list_of_one(id: u32, next: &str) -> (StatusCode, String) {
        let paging = format!(r#"{{"nextPageToken":"{next}"}}"#);
        let list = format!(r#""warehouses":[{{"id":{id}}}],"paging":{paging}"#);
        (
            StatusCode::OK,
            format!(r#"{{"status":"OK","result":{{{list}}}}}"#),
        )
    }

    #[tokio::test]
    async fn pages_are_read_to_the_last_one_with_the_clock_of_the_market() {
        let tasks = Tasks::new(CrashSignal::default());
        let market = scripted_market(&tasks, |target, key| {
            assert_eq!(key, Some("key"));
            match target {
                "/v2/businesses/5/warehouses?limit=30" => list_of_one(1, "a+b"),
                "/v2/businesses/5/warehouses?limit=30&pageToken=a%2Bb" => list_of_one(2, ""),
                other => panic!("{other}"),
            }
        });
        let response = market.warehouses(&Secret::new("key"), 5).await.unwrap();
        assert_eq!(
            response.value.iter().map(|w| w.id).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(response.date, Some("2026-11-21T10:00:00Z".parse().unwrap()));
        tasks.stop();
    }

    #[tokio::test]
    async fn a_list_that_does_not_end_is_not_taken_for_a_whole_one() {
        let tasks = Tasks::new(CrashSignal::default());
        let market = scripted_market(&tasks, |_, _| list_of_one(1, "again"));
        let error = market
            .partner_warehouses(&Secret::new("key"), 5)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
        tasks.stop();
    }

    #[tokio::test]
    async fn every_way_to_fail_is_told_apart_and_none_tells_the_key() {
        let tasks = Tasks::new(CrashSignal::default());
        let key = Secret::new("canary-key");
        let market = scripted_market(&tasks, |target, _| match target {
            "/v2/auth/token" => (StatusCode::UNAUTHORIZED, String::new()),
            _ => (StatusCode::OK, "[]".to_owned()),
        });
        let refused = market.token_scopes(&key).await.unwrap_err();
        assert!(refused.is_key_rejected(), "{refused}");
        let unreadable = market.campaigns(&key).await.unwrap_err();
        assert!(
            matches!(unreadable, AccountError::Unreadable(_)),
            "{unreadable}"
        );
        tasks.stop();
        tasks.ended().await;
        let unreachable = market.campaigns(&key).await.unwrap_err();
        assert!(
            matches!(unreachable, AccountError::Unreachable(_)),
            "{unreachable}"
        );
        for error in [refused, unreadable, unreachable] {
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }
}

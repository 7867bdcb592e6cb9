//! Client for a shop's old handler, which sends the same requests as the Market.
//!
//! It follows no redirects, waits no longer than the Market does, and never repeats the token in
//! an error or a log line.

mod error;
#[cfg(test)]
mod tests;

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    LOCATION,
};
use reqwest::{Response, Url};
use serde::Serialize;
use tokio::time::timeout;

pub use self::error::{OldHandlerConfigError, OldHandlerError, OldHandlerFault};
use stock::Sku;
use strict_http::secret::Secret;
use strict_http::{ClientConfig, ReadResponseError, Trust, causes, read_response};

use super::parse_lenient::{self, OldHandlerBodyError, OldHandlerResponse};
use super::wire::{OUR_REQUEST_HEADER, SKUS_PER_REQUEST};

/// Time that the Market waits for a response. Source: push API pages of the documentation.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(27);

/// Default number of SKUs in one request. One known handler queries its database with a limit of
/// 500 and answers 0 for all other SKUs.
pub const DEFAULT_SKUS_PER_REQUEST: usize = 500;

/// Default number of parallel requests.
pub const DEFAULT_PARALLEL_REQUESTS: usize = 2;

/// Most bytes read of a response. The largest legal one, with 1,000 SKUs, has about 2 MB; some
/// handlers always send their whole stock and need more.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Most characters of a response that an error message repeats.
const MAX_EXCERPT_CHARS: usize = 120;

/// Place of the token in a request, as set in the seller's account on the Market.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenLocation {
    /// Without a scheme in the header `Authorization`.
    #[default]
    Header,
    /// As the query parameter `auth-token`.
    Query,
}

/// Address, token and limits of a shop's old handler.
#[derive(Clone, Debug)]
pub struct OldHandlerConfig {
    /// Base URL without `/stocks`.
    pub url: String,
    /// Token that the handler expects from the Market.
    pub token: Secret,
    /// Place of the token in the request.
    pub token_location: TokenLocation,
    /// Market's id of the requested warehouse.
    pub warehouse_id: u64,
    /// Shop's own id of the warehouse, for handlers that need `partnerWarehouseId`.
    pub partner_warehouse_id: Option<String>,
    /// SKUs in one request, `1..=1000`; see [`DEFAULT_SKUS_PER_REQUEST`].
    pub max_skus: usize,
    /// Most parallel requests, at least 1; see [`DEFAULT_PARALLEL_REQUESTS`].
    pub parallel_requests: usize,
    /// Timeout for each response; see [`RESPONSE_TIMEOUT`].
    pub response_timeout: Duration,
}

impl OldHandlerConfig {
    /// Creates a configuration with the defaults.
    #[must_use]
    pub fn new(url: impl Into<String>, token: Secret, warehouse_id: u64) -> Self {
        Self {
            url: url.into(),
            token,
            token_location: TokenLocation::default(),
            warehouse_id,
            partner_warehouse_id: None,
            max_skus: DEFAULT_SKUS_PER_REQUEST,
            parallel_requests: DEFAULT_PARALLEL_REQUESTS,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }

    /// Returns the HTTP client configuration that fits `response_timeout` and the URL scheme.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let defaults = ClientConfig::default();
        ClientConfig {
            read_timeout: self.response_timeout,
            total_timeout: self.response_timeout + defaults.connect_timeout,
            trust: Trust::needed_for(&self.url),
            ..defaults
        }
    }

    /// Returns `max_skus`, limited to `1..=1000`.
    #[must_use]
    pub fn skus_per_request(&self) -> usize {
        self.max_skus.clamp(1, SKUS_PER_REQUEST)
    }
}

/// Client for one old handler. Clones share one connection pool.
#[derive(Clone, Debug)]
pub struct OldHandlerClient {
    http: reqwest::Client,
    handler: OldHandlerConfig,
    /// Includes the token if its place is the query.
    url: Secret,
    authorization: Option<HeaderValue>,
    host: String,
}

impl OldHandlerClient {
    /// Creates a client for `handler`. `http` must not follow redirects; see
    /// [`OldHandlerConfig::client_config`].
    ///
    /// # Errors
    /// The URL or the token is invalid.
    pub fn new(
        http: reqwest::Client,
        handler: OldHandlerConfig,
    ) -> Result<Self, OldHandlerConfigError> {
        let mut url = Url::parse(&handler.url).map_err(|_| OldHandlerConfigError::InvalidUrl)?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare || !matches!(url.scheme(), "http" | "https") {
            return Err(OldHandlerConfigError::InvalidUrl);
        }
        let token = handler.token.expose();
        let mut header =
            HeaderValue::from_str(token).map_err(|_| OldHandlerConfigError::InvalidToken)?;
        if token.trim().is_empty() {
            return Err(OldHandlerConfigError::InvalidToken);
        }
        header.set_sensitive(true);
        let path = format!("{}/stocks", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let authorization = match handler.token_location {
            TokenLocation::Header => Some(header),
            TokenLocation::Query => {
                let token = utf8_percent_encode(token, NON_ALPHANUMERIC);
                url.set_query(Some(&format!("auth-token={token}")));
                None
            }
        };
        let host = host_of(&url);
        Ok(Self {
            http,
            handler,
            url: Secret::new(url),
            authorization,
            host,
        })
    }

    /// Returns the configuration of the handler.
    #[must_use]
    pub fn handler(&self) -> &OldHandlerConfig {
        &self.handler
    }

    /// Requests the stock of these SKUs once, without a retry. `skus` has at most
    /// [`OldHandlerConfig::skus_per_request`] elements, and `response_timeout` limits the whole call.
    ///
    /// # Errors
    /// The handler did not return a valid response.
    pub async fn request_stocks(
        &self,
        skus: &[Sku],
        response_timeout: Duration,
    ) -> Result<OldHandlerResponse, OldHandlerError> {
        let response = async {
            let request = self.send_request(skus);
            let timed_out = |_| OldHandlerFault::TimedOut(response_timeout);
            let body = timeout(response_timeout, request)
                .await
                .map_err(timed_out)??;
            let parsed = parse_lenient::parse(&body.bytes, self.handler.warehouse_id);
            parsed.map_err(|reason| self.invalid_body(&body, reason))
        };
        match response.await {
            Ok(items) => Ok(OldHandlerResponse::for_request(skus, items)),
            Err(fault) => Err(OldHandlerError {
                host: self.host.clone(),
                fault,
            }),
        }
    }

    fn invalid_body(&self, body: &OldHandlerBody, reason: OldHandlerBodyError) -> OldHandlerFault {
        let excerpt = self.excerpt(&body.bytes);
        // The content type matters only if the body is not valid: many scripts return JSON as
        // `text/html`.
        if body.is_html || body.bytes.trim_ascii_start().starts_with(b"<") {
            OldHandlerFault::HtmlPage(excerpt)
        } else {
            OldHandlerFault::InvalidBody { reason, excerpt }
        }
    }

    async fn send_request(&self, skus: &[Sku]) -> Result<OldHandlerBody, OldHandlerFault> {
        let mut request = self
            .http
            .post(self.url.expose())
            .header(CONTENT_TYPE, "application/json;charset=utf-8")
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .header(OUR_REQUEST_HEADER, "1")
            .body(request_body(&self.handler, skus));
        if let Some(token) = &self.authorization {
            request = request.header(AUTHORIZATION, token);
        }
        let response = request.send().await;
        let response =
            response.map_err(|error| OldHandlerFault::Unreachable(causes(&error.without_url())))?;
        self.read_body(response).await
    }

    async fn read_body(&self, response: Response) -> Result<OldHandlerBody, OldHandlerFault> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let target = self.redirect_host(&headers);
            return Err(OldHandlerFault::Redirect {
                status: status.as_u16(),
                target: target.unwrap_or_else(|| "nowhere".to_owned()),
            });
        }
        if let Some(encoding) = unexpected_encoding(&headers)
            && status.is_success()
        {
            return Err(OldHandlerFault::UnexpectedEncoding(encoding));
        }
        let received = read_response(response, MAX_RESPONSE_BYTES).await;
        if !status.is_success() {
            let excerpt = received.map(|bytes| self.excerpt(&bytes));
            let excerpt = excerpt.ok().filter(|excerpt| !excerpt.is_empty());
            let reason = || status.canonical_reason().unwrap_or("no details").to_owned();
            return Err(OldHandlerFault::Status {
                status: status.as_u16(),
                excerpt: excerpt.unwrap_or_else(reason),
            });
        }
        let is_html = headers
            .get(CONTENT_TYPE)
            .and_then(|content_type| content_type.to_str().ok())
            .is_some_and(|content_type| content_type.to_ascii_lowercase().contains("html"));
        match received {
            Ok(bytes) => Ok(OldHandlerBody {
                bytes: bytes.into(),
                is_html,
            }),
            Err(ReadResponseError::TooLarge { limit }) => Err(OldHandlerFault::TooLarge(limit)),
            Err(error @ ReadResponseError::Transport(_)) => {
                Err(OldHandlerFault::Unreachable(causes(&error)))
            }
        }
    }

    /// Returns the host of a redirect target. The rest of the URL may repeat the token.
    fn redirect_host(&self, headers: &HeaderMap) -> Option<String> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let target = Url::parse(self.url.expose()).ok()?.join(location).ok()?;
        Some(host_of(&target))
    }

    /// Returns the beginning of a body on one line, with the token masked.
    fn excerpt(&self, body: &[u8]) -> String {
        let token = self.handler.token.expose();
        let encoded = utf8_percent_encode(token, NON_ALPHANUMERIC).to_string();
        let text = String::from_utf8_lossy(body)
            .replace(token, "***")
            .replace(&encoded, "***");
        let parts = text.split(|c: char| c.is_whitespace() || c.is_control());
        let parts: Vec<&str> = parts
            .filter(|part| !part.is_empty())
            .take(MAX_EXCERPT_CHARS)
            .collect();
        parts.join(" ").chars().take(MAX_EXCERPT_CHARS).collect()
    }
}

/// Body of a response with a success status.
struct OldHandlerBody {
    bytes: Vec<u8>,
    is_html: bool,
}

fn unexpected_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = String::from_utf8_lossy(headers.get(CONTENT_ENCODING)?.as_bytes()).into_owned();
    let is_plain = encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity");
    (!is_plain).then_some(encoding)
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("an unknown host");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[derive(Serialize)]
struct StocksRequestBody<'a> {
    #[serde(rename = "warehouseId")]
    warehouse_id: u64,
    #[serde(rename = "partnerWarehouseId", skip_serializing_if = "Option::is_none")]
    partner_warehouse_id: Option<&'a str>,
    skus: Vec<&'a str>,
}

/// Builds the body as the Market sends it.
fn request_body(handler: &OldHandlerConfig, skus: &[Sku]) -> Vec<u8> {
    let request = StocksRequestBody {
        warehouse_id: handler.warehouse_id,
        partner_warehouse_id: handler.partner_warehouse_id.as_deref(),
        skus: skus.iter().map(Sku::as_str).collect(),
    };
    serde_json::to_vec(&request).expect("texts and numbers always make JSON")
}

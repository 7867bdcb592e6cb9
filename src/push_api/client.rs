//! We ask a shop's own handler, as the Market did.
//!
//! It goes nowhere but where it was told to, waits no longer than the Market waited, and never
//! repeats the token: not in an error, not in a log.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue,
    LOCATION,
};
use reqwest::{Response, StatusCode, Url};
use serde::Serialize;
use tokio::time::timeout;

use super::parse_lenient::{self, OldHandlerBodyError, OldHandlerResponse};
use super::wire::{OUR_REQUEST_HEADER, SKUS_PER_REQUEST};
use crate::http::secret::Secret;
use crate::http::{ClientConfig, ReadResponseError, Trust, causes, read_response};
use crate::stock::Sku;

/// How long the Market waits for an answer. Source: the push API's pages.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(27);

/// How many SKUs are asked for at a time, if not said: one handler in the field asks its
/// database with a limit of 500, and answers 0 for all beyond.
pub const DEFAULT_SKUS_PER_REQUEST: usize = 500;

/// How many questions are under way at a time, if not said.
pub const DEFAULT_PARALLEL_REQUESTS: usize = 2;

/// Most bytes read of an answer. The largest legal one, of a thousand SKUs, takes about 2 MB;
/// handlers that always tell their whole stock take more.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;

/// Most characters of an answer shown in an error.
const MAX_EXCERPT_CHARS: usize = 120;

/// Where a handler wants the token, as it was set in the Market's cabinet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TokenLocation {
    /// Bare in the header `Authorization`.
    #[default]
    Header,
    /// In the query, as `auth-token`.
    Query,
}

/// A shop's own handler.
#[derive(Clone, Debug)]
pub struct OldHandlerConfig {
    /// What stands before `/stocks`.
    pub url: String,
    /// The token it lets the Market in by.
    pub token: Secret,
    /// Where it wants that.
    pub token_location: TokenLocation,
    /// The Market's number of the warehouse to ask about.
    pub warehouse_id: u64,
    /// The shop's own id of it, for handlers that look at `partnerWarehouseId`.
    pub partner_warehouse_id: Option<String>,
    /// How many SKUs to ask for at a time, `1..=1000`; see [`SKUS_AT_A_TIME`].
    pub max_skus: usize,
    /// How many questions may be under way at a time, at least 1; see [`PARALLEL`].
    pub parallel_requests: usize,
    /// How long to wait for each answer; see [`DEADLINE`].
    pub response_timeout: Duration,
}

impl OldHandlerConfig {
    /// A handler asked as the Market asks, half a thousand SKUs at a time.
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

    /// How a client must be made that is to wait as long as the deadline says.
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

    /// What the bounds make of `max_skus`.
    #[must_use]
    pub fn skus_per_request(&self) -> usize {
        self.max_skus.clamp(1, SKUS_PER_REQUEST)
    }
}

/// Why a handler cannot be asked at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerConfigError {
    /// It is no address, or one with a user, a query or a fragment.
    #[error("the address must be http:// or https://, without user, query or fragment")]
    InvalidUrl,
    /// It is empty, or has characters no header can carry.
    #[error("the token must be visible characters, and some")]
    InvalidToken,
}

/// Why a question was not answered. Names the host at most, never the token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerError {
    /// No connection, or it broke.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// Whom we asked.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The answer was not there in time.
    #[error("{host} did not answer within {} s", deadline.as_secs_f32())]
    TimedOut {
        /// Whom we asked.
        host: String,
        /// How long we waited.
        deadline: Duration,
    },
    /// It sends us elsewhere, where we do not go: the token would go along.
    #[error("{host} answered {status}, a redirect to {to}, which is not followed")]
    Redirect {
        /// Whom we asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The host it points to, or that there is none.
        to: String,
    },
    /// It answered with an error.
    #[error("{host} answered {status}: {excerpt}")]
    Status {
        /// Whom we asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        excerpt: String,
    },
    /// It answered with a page for people.
    #[error("{host} answered a page and no stock, perhaps of a login: {excerpt}")]
    HtmlPage {
        /// Whom we asked.
        host: String,
        /// The beginning of the page.
        excerpt: String,
    },
    /// The body is no answer.
    #[error("{host}: {reason}: {excerpt}")]
    InvalidBody {
        /// Whom we asked.
        host: String,
        /// What is wrong.
        reason: OldHandlerBodyError,
        /// The beginning of the body.
        excerpt: String,
    },
    /// The body is compressed, which was not asked for.
    #[error("{host} answered in {coding}, which was not asked for")]
    UnexpectedEncoding {
        /// Whom we asked.
        host: String,
        /// The content encoding.
        coding: String,
    },
    /// The body is longer than any answer.
    #[error("{host}: the answer is longer than {limit} bytes")]
    TooLarge {
        /// Whom we asked.
        host: String,
        /// The most we read, in bytes.
        limit: usize,
    },
}

impl OldHandlerError {
    /// Whether the same question may well be answered a little later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::HtmlPage { .. }
            | Self::InvalidBody { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Redirect { .. } | Self::UnexpectedEncoding { .. } | Self::TooLarge { .. } => {
                false
            }
        }
    }
}

/// A handler, ready to be asked. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct OldHandlerClient {
    http: reqwest::Client,
    handler: OldHandlerConfig,
    /// With the token, where the query is its place.
    url: Secret,
    authorization: Option<HeaderValue>,
    host: String,
}

impl OldHandlerClient {
    /// Questions go to `handler` through a client that follows no redirects; see
    /// [`Handler::client_config`].
    ///
    /// # Errors
    /// The address or the token cannot be used.
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

    /// The handler.
    #[must_use]
    pub fn handler(&self) -> &OldHandlerConfig {
        &self.handler
    }

    /// Asks once for these SKUs, at most [`Handler::skus_at_a_time`], and waits for the answer
    /// to its last byte no longer than this.
    ///
    /// # Errors
    /// There is no answer that could be read.
    pub async fn request_stocks(
        &self,
        skus: &[Sku],
        response_timeout: Duration,
    ) -> Result<OldHandlerResponse, OldHandlerError> {
        let host = || self.host.clone();
        let body = timeout(response_timeout, self.send_request(skus))
            .await
            .map_err(|_| OldHandlerError::TimedOut {
                host: host(),
                deadline: response_timeout,
            })??;
        match parse_lenient::parse(&body.bytes, self.handler.warehouse_id) {
            Ok(items) => Ok(OldHandlerResponse::for_request(skus, items)),
            Err(reason) => {
                let excerpt = self.excerpt(&body.bytes);
                // What it calls itself matters only where it cannot be read: scripts answer
                // JSON under `text/html` because that is what scripts do.
                let is_page = body.is_html || body.bytes.trim_ascii_start().starts_with(b"<");
                Err(if is_page {
                    OldHandlerError::HtmlPage {
                        host: host(),
                        excerpt,
                    }
                } else {
                    OldHandlerError::InvalidBody {
                        host: host(),
                        reason,
                        excerpt,
                    }
                })
            }
        }
    }

    async fn send_request(&self, skus: &[Sku]) -> Result<OldHandlerBody, OldHandlerError> {
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
        let response = request
            .send()
            .await
            .map_err(|error| OldHandlerError::Unreachable {
                host: self.host.clone(),
                reason: causes(&error.without_url()),
            })?;
        self.read_body(response).await
    }

    async fn read_body(&self, response: Response) -> Result<OldHandlerBody, OldHandlerError> {
        let host = self.host.clone();
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let target = self
                .redirect_host(&headers)
                .unwrap_or_else(|| "nowhere".to_owned());
            return Err(OldHandlerError::Redirect {
                host,
                status: status.as_u16(),
                to: target,
            });
        }
        if let Some(encoding) = unexpected_encoding(&headers)
            && status.is_success()
        {
            return Err(OldHandlerError::UnexpectedEncoding {
                host,
                coding: encoding,
            });
        }
        let received = read_response(response, MAX_RESPONSE_BYTES).await;
        if !status.is_success() {
            let excerpt = received
                .map(|bytes| self.excerpt(&bytes))
                .unwrap_or_default();
            let excerpt = if excerpt.is_empty() {
                status_text(status)
            } else {
                excerpt
            };
            return Err(OldHandlerError::Status {
                host,
                status: status.as_u16(),
                excerpt,
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
            Err(ReadResponseError::TooLarge { limit }) => {
                Err(OldHandlerError::TooLarge { host, limit })
            }
            Err(error @ ReadResponseError::Transport(_)) => Err(OldHandlerError::Unreachable {
                host,
                reason: causes(&error),
            }),
        }
    }

    /// The host a redirect points to: the rest of it may repeat the token.
    fn redirect_host(&self, headers: &HeaderMap) -> Option<String> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let target = Url::parse(self.url.expose()).ok()?.join(location).ok()?;
        Some(host_of(&target))
    }

    /// The beginning of a body in one line, without the token, should it be repeated there.
    fn excerpt(&self, body: &[u8]) -> String {
        let token = self.handler.token.expose();
        let encoded = utf8_percent_encode(token, NON_ALPHANUMERIC).to_string();
        let text = String::from_utf8_lossy(body)
            .replace(token, "***")
            .replace(&encoded, "***");
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let words: Vec<&str> = words
            .filter(|word| !word.is_empty())
            .take(MAX_EXCERPT_CHARS)
            .collect();
        words.join(" ").chars().take(MAX_EXCERPT_CHARS).collect()
    }
}

/// What came back with a status of success.
struct OldHandlerBody {
    bytes: Vec<u8>,
    is_html: bool,
}

fn status_text(status: StatusCode) -> String {
    status
        .canonical_reason()
        .unwrap_or("no more is said")
        .to_owned()
}

fn unexpected_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = String::from_utf8_lossy(headers.get(CONTENT_ENCODING)?.as_bytes()).into_owned();
    let is_plain = encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity");
    (!is_plain).then_some(encoding)
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("nobody");
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

/// The body the Market sends.
fn request_body(handler: &OldHandlerConfig, skus: &[Sku]) -> Vec<u8> {
    let request = StocksRequestBody {
        warehouse_id: handler.warehouse_id,
        partner_warehouse_id: handler.partner_warehouse_id.as_deref(),
        skus: skus.iter().map(Sku::as_str).collect(),
    };
    serde_json::to_vec(&request).expect("texts and numbers always make JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request;
    use axum::response::IntoResponse;

    use super::*;
    use crate::http::test_server::{plain_client, serve};
    use crate::push_api::parse_lenient::StatedCount;

    const GOOD: &str = r#"{"skus":[{"sku":"A","warehouseId":7,"items":[{"count":5}]}]}"#;

    fn skus() -> Vec<Sku> {
        ["A", "Б"]
            .iter()
            .map(|sku| Sku::parse(sku).unwrap())
            .collect()
    }

    fn client(url: &str, token_in: TokenLocation) -> OldHandlerClient {
        let handler = OldHandlerConfig {
            token_location: token_in,
            ..OldHandlerConfig::new(url, Secret::new("to+ken&"), 7)
        };
        OldHandlerClient::new(plain_client(), handler).unwrap()
    }

    /// What we make of this one answer.
    async fn describe_response(
        response: impl IntoResponse + Clone + Send + Sync + 'static,
    ) -> String {
        let server = serve(Router::new().fallback(async move || response.clone())).await;
        let client = client(&server.url, TokenLocation::Query);
        match client.request_stocks(&skus(), RESPONSE_TIMEOUT).await {
            Ok(reply) => format!("{} of 2", reply.items.len()),
            Err(error) => {
                let host = server.url.trim_start_matches("http://");
                let permanence = if error.is_temporary() {
                    ""
                } else {
                    " for good"
                };
                format!("{error}{permanence}").replace(host, "it")
            }
        }
    }

    #[tokio::test]
    async fn it_is_asked_as_the_market_asks() {
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::clone(&requests);
        let router = Router::new().fallback(async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let field = |name: &str| {
                head.headers
                    .get(name)
                    .map_or("none", |value| value.to_str().unwrap())
                    .to_owned()
            };
            recorded.lock().unwrap().push(format!(
                "{} {} {:?} token {}, {}, {}: {}",
                head.method,
                head.uri,
                head.version,
                field("authorization"),
                field("content-type"),
                field("accept-encoding"),
                String::from_utf8_lossy(&body)
            ));
            GOOD
        });
        let server = serve(router).await;
        let url = format!("{}/market/api/", server.url);
        let reply = client(&url, TokenLocation::Header)
            .request_stocks(&skus(), RESPONSE_TIMEOUT)
            .await
            .unwrap();
        assert_eq!((reply.items.len(), reply.missing_count), (1, 1));
        assert_eq!(reply.items[0].1.count, StatedCount::Number("5".to_owned()));
        let mut by_query = client(&url, TokenLocation::Query);
        by_query.handler.partner_warehouse_id = Some("b72e".to_owned());
        by_query
            .request_stocks(&skus(), RESPONSE_TIMEOUT)
            .await
            .unwrap();
        let expected_tail = "application/json;charset=utf-8, identity:";
        assert_eq!(
            *requests.lock().unwrap(),
            [
                format!(
                    r#"POST /market/api/stocks HTTP/1.1 token to+ken&, {expected_tail} {{"warehouseId":7,"skus":["A","Б"]}}"#
                ),
                format!(
                    r#"POST /market/api/stocks?auth-token=to%2Bken%26 HTTP/1.1 token none, {expected_tail} {{"warehouseId":7,"partnerWarehouseId":"b72e","skus":["A","Б"]}}"#
                ),
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_is_taken_whatever_success_it_is_and_whatever_it_calls_itself() {
        let kind = |kind: &'static str| [(CONTENT_TYPE, kind)];
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED] {
            assert_eq!(
                describe_response((status, kind("application/json"), GOOD)).await,
                "1 of 2"
            );
        }
        for name in ["application/json; charset=utf-8", "text/plain", "text/html"] {
            assert_eq!(
                describe_response((kind(name), GOOD)).await,
                "1 of 2",
                "{name}"
            );
        }
        assert_eq!(
            describe_response((kind("application/json"), "[]")).await,
            "0 of 2"
        );
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_in_words_and_without_the_token() {
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let page = "<!DOCTYPE html>\n\n<title>Вход</title> /stocks?auth-token=to%2Bken%26 to+ken&";
        let expected = "it answered a page and no stock, perhaps of a login: \
                    <!DOCTYPE html> <title>Вход</title> /stocks?auth-token=*** ***";
        assert_eq!(describe_response((html.clone(), page)).await, expected);
        assert_eq!(
            describe_response((html, "Please log in")).await,
            page_error("Please log in")
        );
        assert_eq!(describe_response("").await, "it: the body is empty: ");
        assert_eq!(
            describe_response(StatusCode::NO_CONTENT).await,
            "it: the body is empty: "
        );
        let error = describe_response(r#"{"error":"wrong token to+ken&"}"#).await;
        assert!(
            error.starts_with("it: the body is no answer: missing field `skus`"),
            "{error}"
        );
        assert!(
            error.ends_with(r#": {"error":"wrong token ***"}"#),
            "{error}"
        );
        let long = describe_response((StatusCode::FORBIDDEN, "я".repeat(5_000))).await;
        assert_eq!(
            long,
            format!("it answered 403: {} for good", "я".repeat(120))
        );
        let bad_gateway =
            describe_response((StatusCode::BAD_GATEWAY, "\u{0}<html>\tbad gateway ")).await;
        assert_eq!(bad_gateway, "it answered 502: <html> bad gateway");
        let empty_response = describe_response(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(empty_response, "it answered 503: Service Unavailable");
        assert_eq!(
            describe_response(StatusCode::NOT_FOUND).await,
            "it answered 404: Not Found for good"
        );
        let compressed = ([(CONTENT_ENCODING, "gzip")], GOOD);
        assert_eq!(
            describe_response(compressed).await,
            "it answered in gzip, which was not asked for for good"
        );
    }

    fn page_error(text: &str) -> String {
        format!("it answered a page and no stock, perhaps of a login: {text}")
    }

    #[tokio::test]
    async fn a_redirect_is_told_by_its_host_alone_and_never_followed() {
        let redirected_calls: Arc<Mutex<u32>> = Arc::default();
        let counted_calls = Arc::clone(&redirected_calls);
        let elsewhere = serve(Router::new().fallback(async move || {
            *counted_calls.lock().unwrap() += 1;
            GOOD
        }))
        .await;
        let host = elsewhere.url.trim_start_matches("http://").to_owned();
        for (location, shown_host) in [
            (
                format!("{}/stocks?auth-token=to%2Bken%26", elsewhere.url),
                host.as_str(),
            ),
            (format!("//{host}/stocks"), host.as_str()),
            ("/login?next=auth-token=to%2Bken%26".to_owned(), "it"),
        ] {
            let error =
                describe_response((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)])).await;
            let redirect =
                format!("it answered 307, a redirect to {shown_host}, which is not followed");
            assert_eq!(error, format!("{redirect} for good"));
        }
        let error = describe_response(StatusCode::MOVED_PERMANENTLY).await;
        assert!(error.contains("301, a redirect to nowhere"), "{error}");
        assert_eq!(*redirected_calls.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let error = describe_response(vec![b' '; MAX_RESPONSE_BYTES + 1]).await;
        assert_eq!(
            error,
            "it: the answer is longer than 8388608 bytes for good"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_deadline() {
        let silent = serve(Router::new().fallback(async || {
            std::future::pending::<()>().await;
            GOOD
        }))
        .await;
        let client = client(&silent.url, TokenLocation::Header);
        let before = tokio::time::Instant::now();
        let error = client
            .request_stocks(&skus(), Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(error.is_temporary() && error.to_string().ends_with("did not answer within 5 s"));
        assert_eq!(before.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn whoever_is_not_there_is_named_without_the_query() {
        let gone = serve(Router::new()).await;
        let url = gone.url.clone();
        drop(gone);
        // Whether the port is closed yet or the connection is, the words must be safe.
        let error = client(&url, TokenLocation::Query)
            .request_stocks(&skus(), RESPONSE_TIMEOUT)
            .await
            .unwrap_err();
        let words = format!("{error} {error:?}");
        assert!(
            !words.contains("auth-token") && !words.contains("ken"),
            "{words}"
        );
        assert!(
            error.is_temporary() || matches!(error, OldHandlerError::Status { .. }),
            "{words}"
        );
    }

    #[test]
    fn an_address_or_token_that_cannot_be_used_is_refused_at_once() {
        let client = |url: &str, token: &str| {
            OldHandlerClient::new(
                plain_client(),
                OldHandlerConfig::new(url, Secret::new(token), 7),
            )
            .map(|_| ())
        };
        for url in [
            "shop.example",
            "ftp://shop.example",
            "https://user:pass@shop.example",
            "https://shop.example/?a=1",
            "https://shop.example/#a",
            "https://",
        ] {
            assert_eq!(
                client(url, "token"),
                Err(OldHandlerConfigError::InvalidUrl),
                "{url}"
            );
        }
        for token in ["", " ", "a\nb"] {
            assert_eq!(
                client("https://shop.example/a", token),
                Err(OldHandlerConfigError::InvalidToken)
            );
        }
        assert_eq!(client("https://shop.example/a", "token"), Ok(()));
    }

    #[test]
    fn neither_the_client_nor_its_address_prints_the_token() {
        let client = client("https://shop.example", TokenLocation::Query);
        let printed = format!("{client:?}");
        assert!(
            !printed.contains("ken&") && !printed.contains("to%2Bken"),
            "{printed}"
        );
    }

    #[test]
    fn the_size_of_a_question_stays_within_the_markets() {
        let of = |max_skus| {
            let handler = OldHandlerConfig::new("https://shop.example", Secret::new("t"), 7);
            OldHandlerConfig {
                max_skus,
                ..handler
            }
            .skus_per_request()
        };
        assert_eq!(
            [of(0), of(500), of(1_000), of(5_000)],
            [1, 500, 1_000, 1_000]
        );
    }
}

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

use super::lenient::{self, NoAnswer, Reply};
use super::wire::{OUR_QUESTION, SKUS_PER_QUESTION};
use crate::http::secret::Secret;
use crate::http::{AnswerCut, ClientConfig, Trust, causes, read_answer};
use crate::stock::Sku;

/// How long the Market waits for an answer. Source: the push API's pages.
pub const DEADLINE: Duration = Duration::from_secs(27);

/// How many SKUs are asked for at a time, if not said: one handler in the field asks its
/// database with a limit of 500, and answers 0 for all beyond.
pub const SKUS_AT_A_TIME: usize = 500;

/// How many questions are under way at a time, if not said.
pub const PARALLEL: usize = 2;

/// Most bytes read of an answer. The largest legal one, of a thousand SKUs, takes about 2 MB;
/// handlers that always tell their whole stock take more.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Most characters of an answer shown in an error.
const SHOWN: usize = 120;

/// Where a handler wants the token, as it was set in the Market's cabinet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TokenIn {
    /// Bare in the header `Authorization`.
    #[default]
    Header,
    /// In the query, as `auth-token`.
    Query,
}

/// A shop's own handler.
#[derive(Clone, Debug)]
pub struct Handler {
    /// What stands before `/stocks`.
    pub url: String,
    /// The token it lets the Market in by.
    pub token: Secret,
    /// Where it wants that.
    pub token_in: TokenIn,
    /// The Market's number of the warehouse to ask about.
    pub warehouse: u64,
    /// The shop's own id of it, for handlers that look at `partnerWarehouseId`.
    pub partner_warehouse: Option<String>,
    /// How many SKUs to ask for at a time, `1..=1000`; see [`SKUS_AT_A_TIME`].
    pub max_skus: usize,
    /// How many questions may be under way at a time, at least 1; see [`PARALLEL`].
    pub parallel: usize,
    /// How long to wait for each answer; see [`DEADLINE`].
    pub deadline: Duration,
}

impl Handler {
    /// A handler asked as the Market asks, half a thousand SKUs at a time.
    #[must_use]
    pub fn new(url: impl Into<String>, token: Secret, warehouse: u64) -> Self {
        Self {
            url: url.into(),
            token,
            token_in: TokenIn::default(),
            warehouse,
            partner_warehouse: None,
            max_skus: SKUS_AT_A_TIME,
            parallel: PARALLEL,
            deadline: DEADLINE,
        }
    }

    /// How a client must be made that is to wait as long as the deadline says.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let usual = ClientConfig::default();
        ClientConfig {
            read_timeout: self.deadline,
            total_timeout: self.deadline + usual.connect_timeout,
            trust: Trust::needed_for(&self.url),
            ..usual
        }
    }

    /// What the bounds make of `max_skus`.
    #[must_use]
    pub fn skus_at_a_time(&self) -> usize {
        self.max_skus.clamp(1, SKUS_PER_QUESTION)
    }
}

/// Why a handler cannot be asked at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandlerError {
    /// It is no address, or one with a user, a query or a fragment.
    #[error("the address must be http:// or https://, without user, query or fragment")]
    Url,
    /// It is empty, or has characters no header can carry.
    #[error("the token must be visible characters, and some")]
    Token,
}

/// Why a question was not answered. Names the host at most, never the token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
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
    Late {
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
    Page {
        /// Whom we asked.
        host: String,
        /// The beginning of the page.
        excerpt: String,
    },
    /// The body is no answer.
    #[error("{host}: {reason}: {excerpt}")]
    NoAnswer {
        /// Whom we asked.
        host: String,
        /// What is wrong.
        reason: NoAnswer,
        /// The beginning of the body.
        excerpt: String,
    },
    /// The body is compressed, which was not asked for.
    #[error("{host} answered in {coding}, which was not asked for")]
    Encoded {
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

impl AskError {
    /// Whether the same question may well be answered a little later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Page { .. }
            | Self::NoAnswer { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Redirect { .. } | Self::Encoded { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// A handler, ready to be asked. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    handler: Handler,
    /// With the token, where the query is its place.
    url: Secret,
    authorization: Option<HeaderValue>,
    host: String,
}

impl Client {
    /// Questions go to `handler` through a client that follows no redirects; see
    /// [`Handler::client_config`].
    ///
    /// # Errors
    /// The address or the token cannot be used.
    pub fn new(http: reqwest::Client, handler: Handler) -> Result<Self, HandlerError> {
        let mut url = Url::parse(&handler.url).map_err(|_| HandlerError::Url)?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare || !matches!(url.scheme(), "http" | "https") {
            return Err(HandlerError::Url);
        }
        let token = handler.token.expose();
        let mut header = HeaderValue::from_str(token).map_err(|_| HandlerError::Token)?;
        if token.trim().is_empty() {
            return Err(HandlerError::Token);
        }
        header.set_sensitive(true);
        let path = format!("{}/stocks", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let authorization = match handler.token_in {
            TokenIn::Header => Some(header),
            TokenIn::Query => {
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
    pub fn handler(&self) -> &Handler {
        &self.handler
    }

    /// Asks once for these SKUs, at most [`Handler::skus_at_a_time`], and waits for the answer
    /// to its last byte no longer than this.
    ///
    /// # Errors
    /// There is no answer that could be read.
    pub async fn ask(&self, skus: &[Sku], deadline: Duration) -> Result<Reply, AskError> {
        let host = || self.host.clone();
        let body = timeout(deadline, self.exchange(skus))
            .await
            .map_err(|_| AskError::Late {
                host: host(),
                deadline,
            })??;
        match lenient::parse(&body.bytes, self.handler.warehouse) {
            Ok(answer) => Ok(Reply::to(skus, answer)),
            Err(reason) => {
                let excerpt = self.excerpt(&body.bytes);
                // What it calls itself matters only where it cannot be read: scripts answer
                // JSON under `text/html` because that is what scripts do.
                let is_page = body.is_html || body.bytes.trim_ascii_start().starts_with(b"<");
                Err(if is_page {
                    AskError::Page {
                        host: host(),
                        excerpt,
                    }
                } else {
                    AskError::NoAnswer {
                        host: host(),
                        reason,
                        excerpt,
                    }
                })
            }
        }
    }

    async fn exchange(&self, skus: &[Sku]) -> Result<Body, AskError> {
        let mut request = self
            .http
            .post(self.url.expose())
            .header(CONTENT_TYPE, "application/json;charset=utf-8")
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .header(OUR_QUESTION, "1")
            .body(question(&self.handler, skus));
        if let Some(token) = &self.authorization {
            request = request.header(AUTHORIZATION, token);
        }
        let response = request
            .send()
            .await
            .map_err(|error| AskError::Unreachable {
                host: self.host.clone(),
                reason: causes(&error.without_url()),
            })?;
        self.read(response).await
    }

    async fn read(&self, response: Response) -> Result<Body, AskError> {
        let host = self.host.clone();
        let (status, fields) = (response.status(), response.headers().clone());
        if status.is_redirection() {
            let to = self
                .destination(&fields)
                .unwrap_or_else(|| "nowhere".to_owned());
            return Err(AskError::Redirect {
                host,
                status: status.as_u16(),
                to,
            });
        }
        if let Some(coding) = coding(&fields)
            && status.is_success()
        {
            return Err(AskError::Encoded { host, coding });
        }
        let body = read_answer(response, MAX_ANSWER_BYTES).await;
        if !status.is_success() {
            let excerpt = body.map(|bytes| self.excerpt(&bytes)).unwrap_or_default();
            let excerpt = if excerpt.is_empty() {
                reason(status)
            } else {
                excerpt
            };
            return Err(AskError::Status {
                host,
                status: status.as_u16(),
                excerpt,
            });
        }
        let is_html = fields
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
        match body {
            Ok(bytes) => Ok(Body {
                bytes: bytes.into(),
                is_html,
            }),
            Err(AnswerCut::TooLarge { limit }) => Err(AskError::TooLarge { host, limit }),
            Err(cut @ AnswerCut::Transport(_)) => Err(AskError::Unreachable {
                host,
                reason: causes(&cut),
            }),
        }
    }

    /// The host a redirect points to: the rest of it may repeat the token.
    fn destination(&self, fields: &HeaderMap) -> Option<String> {
        let location = fields.get(LOCATION)?.to_str().ok()?;
        let to = Url::parse(self.url.expose()).ok()?.join(location).ok()?;
        Some(host_of(&to))
    }

    /// The beginning of a body in one line, without the token, should it be repeated there.
    fn excerpt(&self, body: &[u8]) -> String {
        let token = self.handler.token.expose();
        let encoded = utf8_percent_encode(token, NON_ALPHANUMERIC).to_string();
        let text = String::from_utf8_lossy(body)
            .replace(token, "***")
            .replace(&encoded, "***");
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).take(SHOWN).collect();
        words.join(" ").chars().take(SHOWN).collect()
    }
}

/// What came back with a status of success.
struct Body {
    bytes: Vec<u8>,
    is_html: bool,
}

fn reason(status: StatusCode) -> String {
    status
        .canonical_reason()
        .unwrap_or("no more is said")
        .to_owned()
}

fn coding(fields: &HeaderMap) -> Option<String> {
    let coding = String::from_utf8_lossy(fields.get(CONTENT_ENCODING)?.as_bytes()).into_owned();
    let is_plain = coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity");
    (!is_plain).then_some(coding)
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("nobody");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[derive(Serialize)]
struct WireQuestion<'a> {
    #[serde(rename = "warehouseId")]
    warehouse_id: u64,
    #[serde(rename = "partnerWarehouseId", skip_serializing_if = "Option::is_none")]
    partner_warehouse_id: Option<&'a str>,
    skus: Vec<&'a str>,
}

/// The body the Market sends.
fn question(handler: &Handler, skus: &[Sku]) -> Vec<u8> {
    let question = WireQuestion {
        warehouse_id: handler.warehouse,
        partner_warehouse_id: handler.partner_warehouse.as_deref(),
        skus: skus.iter().map(Sku::as_str).collect(),
    };
    serde_json::to_vec(&question).expect("texts and numbers always make JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::to_bytes;
    use axum::extract::Request;
    use axum::response::IntoResponse;

    use super::*;
    use crate::http::scripted::{plain_client, serve};
    use crate::legacy::lenient::Said;

    const GOOD: &str = r#"{"skus":[{"sku":"A","warehouseId":7,"items":[{"count":5}]}]}"#;

    fn skus() -> Vec<Sku> {
        ["A", "Б"]
            .iter()
            .map(|sku| Sku::parse(sku).unwrap())
            .collect()
    }

    fn client(url: &str, token_in: TokenIn) -> Client {
        let handler = Handler {
            token_in,
            ..Handler::new(url, Secret::new("to+ken&"), 7)
        };
        Client::new(plain_client(), handler).unwrap()
    }

    /// What we make of this one answer.
    async fn told(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
        let server = serve(Router::new().fallback(async move || answer.clone())).await;
        let client = client(&server.url, TokenIn::Query);
        match client.ask(&skus(), DEADLINE).await {
            Ok(reply) => format!("{} of 2", reply.items.len()),
            Err(error) => {
                let host = server.url.trim_start_matches("http://");
                let may_pass = if error.may_pass() { "" } else { " for good" };
                format!("{error}{may_pass}").replace(host, "it")
            }
        }
    }

    #[tokio::test]
    async fn it_is_asked_as_the_market_asks() {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let router = Router::new().fallback(async move |request: Request| {
            let (head, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let field = |name: &str| {
                head.headers
                    .get(name)
                    .map_or("none", |value| value.to_str().unwrap())
                    .to_owned()
            };
            noted.lock().unwrap().push(format!(
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
        let reply = client(&url, TokenIn::Header)
            .ask(&skus(), DEADLINE)
            .await
            .unwrap();
        assert_eq!((reply.items.len(), reply.left_out), (1, 1));
        assert_eq!(reply.items[0].1.said, Said::Number("5".to_owned()));
        let mut by_query = client(&url, TokenIn::Query);
        by_query.handler.partner_warehouse = Some("b72e".to_owned());
        by_query.ask(&skus(), DEADLINE).await.unwrap();
        let rest = "application/json;charset=utf-8, identity:";
        assert_eq!(
            *seen.lock().unwrap(),
            [
                format!(
                    r#"POST /market/api/stocks HTTP/1.1 token to+ken&, {rest} {{"warehouseId":7,"skus":["A","Б"]}}"#
                ),
                format!(
                    r#"POST /market/api/stocks?auth-token=to%2Bken%26 HTTP/1.1 token none, {rest} {{"warehouseId":7,"partnerWarehouseId":"b72e","skus":["A","Б"]}}"#
                ),
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_is_taken_whatever_success_it_is_and_whatever_it_calls_itself() {
        let kind = |kind: &'static str| [(CONTENT_TYPE, kind)];
        for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED] {
            assert_eq!(
                told((status, kind("application/json"), GOOD)).await,
                "1 of 2"
            );
        }
        for name in ["application/json; charset=utf-8", "text/plain", "text/html"] {
            assert_eq!(told((kind(name), GOOD)).await, "1 of 2", "{name}");
        }
        assert_eq!(told((kind("application/json"), "[]")).await, "0 of 2");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_in_words_and_without_the_token() {
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let page = "<!DOCTYPE html>\n\n<title>Вход</title> /stocks?auth-token=to%2Bken%26 to+ken&";
        let said = "it answered a page and no stock, perhaps of a login: \
                    <!DOCTYPE html> <title>Вход</title> /stocks?auth-token=*** ***";
        assert_eq!(told((html.clone(), page)).await, said);
        assert_eq!(
            told((html, "Please log in")).await,
            said_page("Please log in")
        );
        assert_eq!(told("").await, "it: the body is empty: ");
        assert_eq!(
            told(StatusCode::NO_CONTENT).await,
            "it: the body is empty: "
        );
        let error = told(r#"{"error":"wrong token to+ken&"}"#).await;
        assert!(
            error.starts_with("it: the body is no answer: missing field `skus`"),
            "{error}"
        );
        assert!(
            error.ends_with(r#": {"error":"wrong token ***"}"#),
            "{error}"
        );
        let long = told((StatusCode::FORBIDDEN, "я".repeat(5_000))).await;
        assert_eq!(
            long,
            format!("it answered 403: {} for good", "я".repeat(120))
        );
        let down = told((StatusCode::BAD_GATEWAY, "\u{0}<html>\tbad gateway ")).await;
        assert_eq!(down, "it answered 502: <html> bad gateway");
        let empty = told(StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(empty, "it answered 503: Service Unavailable");
        assert_eq!(
            told(StatusCode::NOT_FOUND).await,
            "it answered 404: Not Found for good"
        );
        let packed = ([(CONTENT_ENCODING, "gzip")], GOOD);
        assert_eq!(
            told(packed).await,
            "it answered in gzip, which was not asked for for good"
        );
    }

    fn said_page(text: &str) -> String {
        format!("it answered a page and no stock, perhaps of a login: {text}")
    }

    #[tokio::test]
    async fn a_redirect_is_told_by_its_host_alone_and_never_followed() {
        let canary: Arc<Mutex<u32>> = Arc::default();
        let seen = Arc::clone(&canary);
        let elsewhere = serve(Router::new().fallback(async move || {
            *seen.lock().unwrap() += 1;
            GOOD
        }))
        .await;
        let host = elsewhere.url.trim_start_matches("http://").to_owned();
        for (to, shown) in [
            (
                format!("{}/stocks?auth-token=to%2Bken%26", elsewhere.url),
                host.as_str(),
            ),
            (format!("//{host}/stocks"), host.as_str()),
            ("/login?next=auth-token=to%2Bken%26".to_owned(), "it"),
        ] {
            let error = told((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)])).await;
            let redirect = format!("it answered 307, a redirect to {shown}, which is not followed");
            assert_eq!(error, format!("{redirect} for good"));
        }
        let error = told(StatusCode::MOVED_PERMANENTLY).await;
        assert!(error.contains("301, a redirect to nowhere"), "{error}");
        assert_eq!(*canary.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let error = told(vec![b' '; MAX_ANSWER_BYTES + 1]).await;
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
        let client = client(&silent.url, TokenIn::Header);
        let before = tokio::time::Instant::now();
        let error = client
            .ask(&skus(), Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(error.may_pass() && error.to_string().ends_with("did not answer within 5 s"));
        assert_eq!(before.elapsed().as_secs(), 5);
    }

    #[tokio::test]
    async fn whoever_is_not_there_is_named_without_the_query() {
        let gone = serve(Router::new()).await;
        let url = gone.url.clone();
        drop(gone);
        // Whether the port is closed yet or the connection is, the words must be safe.
        let error = client(&url, TokenIn::Query)
            .ask(&skus(), DEADLINE)
            .await
            .unwrap_err();
        let words = format!("{error} {error:?}");
        assert!(
            !words.contains("auth-token") && !words.contains("ken"),
            "{words}"
        );
        assert!(
            error.may_pass() || matches!(error, AskError::Status { .. }),
            "{words}"
        );
    }

    #[test]
    fn an_address_or_token_that_cannot_be_used_is_refused_at_once() {
        let client = |url: &str, token: &str| {
            Client::new(plain_client(), Handler::new(url, Secret::new(token), 7)).map(|_| ())
        };
        for url in [
            "shop.example",
            "ftp://shop.example",
            "https://user:pass@shop.example",
            "https://shop.example/?a=1",
            "https://shop.example/#a",
            "https://",
        ] {
            assert_eq!(client(url, "token"), Err(HandlerError::Url), "{url}");
        }
        for token in ["", " ", "a\nb"] {
            assert_eq!(
                client("https://shop.example/a", token),
                Err(HandlerError::Token)
            );
        }
        assert_eq!(client("https://shop.example/a", "token"), Ok(()));
    }

    #[test]
    fn neither_the_client_nor_its_address_prints_the_token() {
        let client = client("https://shop.example", TokenIn::Query);
        let printed = format!("{client:?}");
        assert!(
            !printed.contains("ken&") && !printed.contains("to%2Bken"),
            "{printed}"
        );
    }

    #[test]
    fn the_size_of_a_question_stays_within_the_markets() {
        let of = |max_skus| {
            let handler = Handler::new("https://shop.example", Secret::new("t"), 7);
            Handler {
                max_skus,
                ..handler
            }
            .skus_at_a_time()
        };
        assert_eq!(
            [of(0), of(500), of(1_000), of(5_000)],
            [1, 500, 1_000, 1_000]
        );
    }
}

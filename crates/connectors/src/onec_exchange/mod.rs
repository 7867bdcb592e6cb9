//! Server side of 1C's "exchange with a site": 1C uploads the files of its catalogue as if this
//! service were the shop's site.
//!
//! `mode=checkauth` logs in, `mode=init` begins a transfer, `mode=file` uploads a part of a file,
//! and `mode=import` delivers a whole file to the source. Pictures are accepted and discarded, and
//! the list of orders is always empty; so 1C's standard exchange needs only a URL, a name and a
//! password. This module does not parse the files.

mod file_name;
mod sessions;
mod spool;
#[cfg(test)]
mod tests;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures_util::future::BoxFuture;
use lifecycle::Clock;
use lifecycle::Tasks;
use percent_encoding::percent_decode_str;
use strict_http::secret::Secret;
use tracing::{debug, warn};

use self::file_name::FileName;
use self::sessions::ExchangeSessions;
use self::transfer::{ImportProgress, Transfers};

/// Part size announced to 1C, in bytes. A part must arrive within the listener's deadline for
/// bodies, over a shop's own line.
const FILE_LIMIT: u64 = 512 * 1024;

/// Largest accepted part, in bytes, for clients that ignore [`FILE_LIMIT`].
const MAX_PART_BYTES: u64 = 16 * FILE_LIMIT;

/// Settings of a source to which 1C uploads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Full path of the URL, such as `/shop/1c_exchange.php`.
    pub path: String,
    /// User name that 1C logs in with.
    pub login: String,
    /// Password that 1C logs in with.
    pub password: Secret,
    /// Limit of one transfer, in bytes; unpacked it may be ten times as large.
    pub max_bytes: u64,
}

/// One URL that 1C uploads to.
#[derive(Clone, Debug)]
pub struct ExchangeEndpoint {
    /// Position of its source in the configuration.
    pub source_index: usize,
    /// Name of the source, for logs.
    pub name: String,
    /// Settings of the source.
    pub config: Config,
    /// Directory for this endpoint alone; its content may be deleted at any time.
    pub spool: PathBuf,
}

/// A completely uploaded file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upload {
    /// Position of its source: [`ExchangeEndpoint::source_index`].
    pub source_index: usize,
    /// Location of the file until it is imported.
    pub path: PathBuf,
    /// Name given by 1C, such as `offers0_1.xml`.
    pub name: String,
}

/// Result of a successful import.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportedFile {
    /// One sentence for 1C's log.
    pub message: String,
}

/// Function that imports a file completely or not at all. The error is a sentence that 1C may show
/// to its user.
///
/// The future is dropped when the program stops; 1C then sends the file again.
pub type DeliverUpload =
    Arc<dyn Fn(Upload) -> BoxFuture<'static, Result<ImportedFile, String>> + Send + Sync>;

/// Request with a wrong login, or with the cookie of no active session. It has no `Debug`, because it
/// contains secrets.
pub struct RefusedLogin {
    /// Path of the endpoint.
    pub path: String,
    /// Wrong credentials as they were sent.
    pub offered: String,
    /// Head of the request.
    pub head: Parts,
}

/// Function that records a wrong login. The response waits for its future, so that it can slow down
/// an attacker.
pub type RecordRefusedLogin = Arc<dyn Fn(RefusedLogin) -> BoxFuture<'static, ()> + Send + Sync>;

/// Dependencies of the endpoints.
#[derive(Clone)]
pub struct Context {
    /// Imports uploaded files.
    pub deliver: DeliverUpload,
    /// Owner of the imports, which may take longer than a request.
    pub tasks: Tasks,
    /// Clock for the date of the empty list of orders.
    pub clock: Clock,
    /// Records wrong logins.
    pub record_refused_login: RecordRefusedLogin,
}

/// Returns a router with one route for each endpoint.
pub fn router(context: &Context, endpoints: Vec<ExchangeEndpoint>) -> Router {
    endpoints
        .into_iter()
        .fold(Router::new(), |router, endpoint| {
            let Config {
                path,
                login,
                password,
                ..
            } = &endpoint.config;
            let path = path.clone();
            let handler = ExchangeHandler {
                sessions: ExchangeSessions::new(login, password),
                transfers: Transfers::new(&endpoint, context),
                clock: context.clock,
                record_refused_login: Arc::clone(&context.record_refused_login),
                endpoint,
            };
            router.route(&path, any(handle).with_state(Arc::new(handler)))
        })
}

/// Returns the response of a process that does not receive 1C now: 503, in the form that 1C shows.
/// `replica` is the name of the process that does, if any does.
#[must_use]
pub fn elsewhere_response(replica: Option<&str>) -> Response {
    let text = match replica {
        Some(replica) => format!(
            "failure\nreplica {replica} receives 1C: let the reverse proxy try the next replica after \
             a 503\n"
        ),
        None => "failure\nno replica receives 1C at the moment: repeat the exchange in a minute\n"
            .to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// State of one endpoint.
struct ExchangeHandler {
    endpoint: ExchangeEndpoint,
    sessions: ExchangeSessions,
    transfers: Transfers,
    clock: Clock,
    record_refused_login: RecordRefusedLogin,
}

/// Successful response to 1C.
#[derive(Clone, Debug, Eq, PartialEq)]
enum ExchangeReply {
    /// `success`, followed by these lines.
    Success(Vec<String>),
    /// `success` and the session cookie, both in lines, as 1C expects it, and as a header.
    LoggedIn { name: &'static str, value: String },
    /// `progress`: 1C repeats the same request.
    InProgress,
    /// Lines without a leading `success`.
    Lines(Vec<String>),
    /// An XML document.
    Xml(String),
}

impl ExchangeReply {
    fn success() -> Self {
        Self::Success(Vec::new())
    }
}

/// Failure of a request, with a text for 1C's user.
#[derive(Clone, Debug, Eq, PartialEq)]
enum ExchangeError {
    /// The request has no name and password.
    NoCredentials,
    /// Name and password are wrong.
    WrongLogin,
    /// The cookie belongs to no active session.
    SessionEnded,
    /// Anything else. 1C shows the text only if the status is 200.
    Message(String),
}

impl ExchangeError {
    fn new(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }
}

async fn handle(State(handler): State<Arc<ExchangeHandler>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let query = ExchangeQuery::parse(&head);
    let reply = handler.serve(&head, &query, body).await;
    let mode = query.mode.as_str();
    if let Err(error) = &reply {
        let source = handler.endpoint.name.as_str();
        match error {
            ExchangeError::NoCredentials => {
                debug!(source, "1C exchange {source}: request without a login");
            }
            ExchangeError::WrongLogin | ExchangeError::SessionEnded => {
                let refused = RefusedLogin {
                    path: handler.endpoint.config.path.clone(),
                    offered: sessions::offered_credentials(&head),
                    head,
                };
                (handler.record_refused_login)(refused).await;
            }
            ExchangeError::Message(text) => {
                warn!(source, mode, "1C exchange request {mode} failed: {text}");
            }
        }
    } else {
        debug!(
            source = handler.endpoint.name,
            mode, "answered a 1C exchange request"
        );
    }
    reply.into_response()
}

impl ExchangeHandler {
    async fn serve(
        &self,
        head: &Parts,
        query: &ExchangeQuery,
        body: Body,
    ) -> Result<ExchangeReply, ExchangeError> {
        if query.mode == "checkauth" {
            let (name, value) = self.sessions.log_in(head)?;
            return Ok(ExchangeReply::LoggedIn { name, value });
        }
        let client = self.sessions.authenticate(head)?;
        match (query.kind.as_str(), query.mode.as_str()) {
            ("catalog", "init") => {
                self.transfers.begin(client).await?;
                Ok(self.init_reply(query))
            }
            ("catalog", "file") => {
                let name = self.file_name(head, query)?;
                if name.is_needed() {
                    self.transfers.receive(client, &name, body).await?;
                } else {
                    spool::discard_body(body, MAX_PART_BYTES).await?;
                }
                Ok(ExchangeReply::success())
            }
            ("catalog", "import") => {
                let name = FileName::parse(&query.filename)?;
                if !name.is_xml() {
                    return Ok(ExchangeReply::success());
                }
                match self.transfers.import(client, &name).await? {
                    ImportProgress::Done(imported) => {
                        Ok(ExchangeReply::Success(vec![imported.message]))
                    }
                    ImportProgress::Running => Ok(ExchangeReply::InProgress),
                }
            }
            (
                "catalog" | "sale" | "reference",
                "success" | "deactivate" | "complete" | "import",
            )
            | ("catalog", "query") => Ok(ExchangeReply::success()),
            ("sale" | "reference", "init") => Ok(self.init_reply(query)),
            ("sale" | "reference", "file") => {
                spool::discard_body(body, MAX_PART_BYTES).await?;
                Ok(ExchangeReply::success())
            }
            ("sale" | "reference", "query") => Ok(ExchangeReply::Xml(self.empty_order_list())),
            ("sale", "info") => Ok(ExchangeReply::Xml(EMPTY_REFERENCE.to_owned())),
            (kind, mode) => Err(ExchangeError::new(format!(
                "type={kind}&mode={mode} is not supported: use type=catalog, the exchange of a catalogue"
            ))),
        }
    }

    /// Returns the upload parameters. A client that sends its protocol version gets ours in return,
    /// and then uses no mode that our version lacks.
    fn init_reply(&self, query: &ExchangeQuery) -> ExchangeReply {
        let mut lines = vec!["zip=yes".to_owned(), format!("file_limit={FILE_LIMIT}")];
        if query.has_version {
            lines.push(format!("sessid={}", query.session_id));
            lines.push("version=2.08".to_owned());
        }
        ExchangeReply::Lines(lines)
    }

    fn file_name(&self, head: &Parts, query: &ExchangeQuery) -> Result<FileName, ExchangeError> {
        if !matches!(head.method, Method::POST | Method::PUT) {
            return Err(ExchangeError::new(
                "a file must be sent with the method POST",
            ));
        }
        FileName::parse(&query.filename)
    }

    fn empty_order_list(&self) -> String {
        let now = self.clock.now().format("%Y-%m-%dT%H:%M:%S");
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <КоммерческаяИнформация ВерсияСхемы=\"2.08\" ДатаФормирования=\"{now}\"/>\n"
        )
    }
}

const EMPTY_REFERENCE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
     <Справочник><Статусы/><ПлатежныеСистемы/><СлужбыДоставки/></Справочник>\n";

/// Query parameters of a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct ExchangeQuery {
    kind: String,
    mode: String,
    filename: String,
    session_id: String,
    has_version: bool,
}

impl ExchangeQuery {
    fn parse(head: &Parts) -> Self {
        let mut query = Self::default();
        for pair in head.uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bytes: Vec<u8> = percent_decode_str(value).collect();
            let value = sessions::decode_text(bytes);
            match name {
                "type" => query.kind = value,
                "mode" => query.mode = value,
                "filename" => query.filename = value,
                "sessid" => query.session_id = value,
                "version" => query.has_version = true,
                _ => {}
            }
        }
        query
    }
}

impl IntoResponse for ExchangeReply {
    fn into_response(self) -> Response {
        match self {
            Self::Success(mut lines) => {
                lines.insert(0, "success".to_owned());
                text_response(StatusCode::OK, &lines.join("\n"))
            }
            Self::LoggedIn { name, value } => {
                let mut response =
                    text_response(StatusCode::OK, &format!("success\n{name}\n{value}"));
                let cookie = format!("{name}={value}; Path=/; HttpOnly");
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Self::InProgress => {
                text_response(StatusCode::OK, "progress\nthe file is still being imported")
            }
            Self::Lines(lines) => text_response(StatusCode::OK, &lines.join("\n")),
            Self::Xml(document) => {
                let mut response = text_response(StatusCode::OK, &document);
                let kind = HeaderValue::from_static("text/xml; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
        }
    }
}

impl IntoResponse for ExchangeError {
    fn into_response(self) -> Response {
        match self {
            Self::NoCredentials | Self::WrongLogin => {
                let text = "failure\nlogin or password is wrong";
                let mut response = text_response(StatusCode::UNAUTHORIZED, text);
                let challenge = HeaderValue::from_static("Basic realm=\"1C\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
            Self::SessionEnded => {
                let text = "failure\nthe session has ended, log in again: mode=checkauth";
                text_response(StatusCode::OK, text)
            }
            Self::Message(text) => {
                let mut response = text_response(StatusCode::OK, &format!("failure\n{text}"));
                // The rest of a part may still be on its way.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

fn text_response(status: StatusCode, text: &str) -> Response {
    let mut response = (status, text.to_owned()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

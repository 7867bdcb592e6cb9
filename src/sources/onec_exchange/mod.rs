//! 1C's own "exchange with a site": 1C calls, as if we were the shop's site, and hands over the
//! files of its catalogue.
//!
//! `mode=checkauth` lets it in, `mode=init` begins a transfer, `mode=file` brings a file in
//! parts, and `mode=import` has the whole of it taken. Pictures are accepted and thrown away,
//! orders are always none; so 1C's standard exchange works with a URL, a name and a password.
//! What a file says is not this room's business: it is handed to whoever takes deliveries.

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
use percent_encoding::percent_decode_str;
use tracing::{debug, warn};

use self::file_name::FileName;
use self::sessions::ExchangeSessions;
use self::transfer::{ImportProgress, Transfers};
use crate::auth_failures::{AuthFailures, Credential};
use crate::clock::Clock;
use crate::http::secret::Secret;
use crate::lifecycle::Tasks;

/// What 1C may send in one part, in bytes. A part has to arrive within the listener's deadline
/// for bodies, over a shop's own line.
pub const FILE_LIMIT: u64 = 512 * 1024;

/// What is accepted in one part from a client that cuts its parts as it likes, in bytes.
const MAX_PART_BYTES: u64 = 16 * FILE_LIMIT;

/// One URL that 1C is given.
#[derive(Clone, Debug)]
pub struct ExchangeEndpoint {
    /// The place of its source in the configuration.
    pub source_index: usize,
    /// The name of the source, in logs.
    pub name: String,
    /// The whole path, such as `/shop/1c_exchange.php`.
    pub path: String,
    /// Under which name 1C comes.
    pub login: String,
    /// And with which password.
    pub password: Secret,
    /// A directory of its own; what is in it may go at any time.
    pub spool: PathBuf,
    /// The most that one transfer may bring, in bytes; unpacked it may be ten times that.
    pub max_bytes: u64,
    /// Whether 1C may pack its files.
    pub accepts_zip: bool,
}

/// A file that has arrived whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upload {
    /// From which door: [`Door::source`].
    pub source_index: usize,
    /// Where it lies until it was taken.
    pub path: PathBuf,
    /// What 1C calls it, such as `offers0_1.xml`.
    pub name: String,
}

/// A file that was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportedFile {
    /// One sentence for 1C's own log.
    pub message: String,
}

/// Takes a file, whole or not at all; the error is a sentence that 1C may show to its user.
///
/// The future is dropped when the program stops, and 1C then comes again.
pub type DeliverUpload =
    Arc<dyn Fn(Upload) -> BoxFuture<'static, Result<ImportedFile, String>> + Send + Sync>;

/// What this room needs.
#[derive(Clone)]
pub struct Context {
    /// Who takes the files.
    pub deliver: DeliverUpload,
    /// Own the imports that take longer than a request may.
    pub tasks: Tasks,
    /// For the date on an empty list of orders.
    pub clock: Clock,
    /// Wrong logins.
    pub auth_failures: AuthFailures,
}

/// One route for each door.
pub fn router(context: &Context, endpoints: Vec<ExchangeEndpoint>) -> Router {
    endpoints
        .into_iter()
        .fold(Router::new(), |router, endpoint| {
            let path = endpoint.path.clone();
            let handler = ExchangeHandler {
                sessions: ExchangeSessions::new(&endpoint.login, &endpoint.password),
                transfers: Transfers::new(&endpoint, context),
                clock: context.clock,
                auth_failures: context.auth_failures.clone(),
                endpoint,
            };
            router.route(&path, any(handle).with_state(Arc::new(handler)))
        })
}

/// One door, open.
struct ExchangeHandler {
    endpoint: ExchangeEndpoint,
    sessions: ExchangeSessions,
    transfers: Transfers,
    clock: Clock,
    auth_failures: AuthFailures,
}

/// What 1C is told.
#[derive(Clone, Debug, Eq, PartialEq)]
enum ExchangeReply {
    /// `success`, and what follows it line by line.
    Success(Vec<String>),
    /// `success`, and the cookie to come with: in lines, as 1C wants it, and as a cookie.
    LoggedIn { name: &'static str, value: String },
    /// Come again for the same.
    InProgress,
    /// Lines that begin with no verdict.
    Lines(Vec<String>),
    /// A document.
    Xml(String),
}

impl ExchangeReply {
    fn success() -> Self {
        Self::Success(Vec::new())
    }
}

/// Why a request came to nothing, in words for 1C's user.
#[derive(Clone, Debug, Eq, PartialEq)]
enum ExchangeError {
    /// Name and password are needed, and there were none.
    NoCredentials,
    /// Name and password are wrong.
    WrongLogin,
    /// The cookie is none of a session.
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
                debug!(source, "1C exchange {source}: a request without a login")
            }
            ExchangeError::WrongLogin | ExchangeError::SessionEnded => {
                let name = format!("1C exchange {}", handler.endpoint.path);
                let credentials = sessions::offered_credentials(&head);
                let auth_failures = &handler.auth_failures;
                auth_failures
                    .penalize(Credential::ExchangeLogin, &name, &credentials, &head)
                    .await;
            }
            ExchangeError::Message(text) => {
                warn!(source, mode, "told 1C in answer to {mode}: {text}")
            }
        }
    } else {
        debug!(source = handler.endpoint.name, mode, "answered 1C");
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
                "type={kind}&mode={mode} is unknown here, the exchange of a catalogue is served"
            ))),
        }
    }

    /// How files are to be sent. A client that tells its own version is told one of ours, and
    /// then asks for nothing that this version does not have.
    fn init_reply(&self, query: &ExchangeQuery) -> ExchangeReply {
        let zip = if self.endpoint.accepts_zip {
            "yes"
        } else {
            "no"
        };
        let mut lines = vec![format!("zip={zip}"), format!("file_limit={FILE_LIMIT}")];
        if query.has_version {
            lines.push(format!("sessid={}", query.session_id));
            lines.push("version=2.08".to_owned());
        }
        ExchangeReply::Lines(lines)
    }

    fn file_name(&self, head: &Parts, query: &ExchangeQuery) -> Result<FileName, ExchangeError> {
        if !matches!(head.method, Method::POST | Method::PUT) {
            return Err(ExchangeError::new("a file has to be sent by POST"));
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

/// What stands behind the path.
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
                text_response(StatusCode::OK, "progress\nthe file is still being taken")
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
                // What is left of a part may still be on its way.
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

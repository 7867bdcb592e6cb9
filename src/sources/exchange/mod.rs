//! 1C's own "exchange with a site": 1C calls, as if we were the shop's site, and hands over the
//! files of its catalogue.
//!
//! `mode=checkauth` lets it in, `mode=init` begins a transfer, `mode=file` brings a file in
//! parts, and `mode=import` has the whole of it taken. Pictures are accepted and thrown away,
//! orders are always none; so 1C's standard exchange works with a URL, a name and a password.
//! What a file says is not this room's business: it is handed to whoever takes deliveries.

mod file_name;
mod login;
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
use self::login::Reception;
use self::transfer::{Progress, Transfers};
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
pub struct Door {
    /// The place of its source in the configuration.
    pub source: usize,
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
    pub takes_zip: bool,
}

/// A file that has arrived whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upload {
    /// From which door: [`Door::source`].
    pub source: usize,
    /// Where it lies until it was taken.
    pub path: PathBuf,
    /// What 1C calls it, such as `offers0_1.xml`.
    pub name: String,
}

/// A file that was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imported {
    /// One sentence for 1C's own log.
    pub message: String,
}

/// Takes a file, whole or not at all; the error is a sentence that 1C may show to its user.
///
/// The future is dropped when the program stops, and 1C then comes again.
pub type Deliver =
    Arc<dyn Fn(Upload) -> BoxFuture<'static, Result<Imported, String>> + Send + Sync>;

/// What this room needs.
#[derive(Clone)]
pub struct Context {
    /// Who takes the files.
    pub deliver: Deliver,
    /// Own the imports that take longer than a request may.
    pub tasks: Tasks,
    /// For the date on an empty list of orders.
    pub clock: Clock,
    /// Wrong logins.
    pub auth_failures: AuthFailures,
}

/// One route for each door.
pub fn router(context: &Context, doors: Vec<Door>) -> Router {
    doors.into_iter().fold(Router::new(), |router, door| {
        let path = door.path.clone();
        let desk = Desk {
            reception: Reception::new(&door.login, &door.password),
            transfers: Transfers::new(&door, context),
            clock: context.clock,
            auth_failures: context.auth_failures.clone(),
            door,
        };
        router.route(&path, any(answer).with_state(Arc::new(desk)))
    })
}

/// One door, open.
struct Desk {
    door: Door,
    reception: Reception,
    transfers: Transfers,
    clock: Clock,
    auth_failures: AuthFailures,
}

/// What 1C is told.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Said {
    /// `success`, and what follows it line by line.
    Success(Vec<String>),
    /// `success`, and the cookie to come with: in lines, as 1C wants it, and as a cookie.
    Welcome { name: &'static str, value: String },
    /// Come again for the same.
    Progress,
    /// Lines that begin with no verdict.
    Lines(Vec<String>),
    /// A document.
    Xml(String),
}

impl Said {
    fn success() -> Self {
        Self::Success(Vec::new())
    }
}

/// Why a request came to nothing, in words for 1C's user.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Failure {
    /// Name and password are needed, and there were none.
    Anonymous,
    /// Name and password are wrong.
    WrongLogin,
    /// The cookie is none of a session.
    NoSession,
    /// Anything else. 1C shows the text only if the status is 200.
    Said(String),
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}

async fn answer(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let query = Query::read(&head);
    let said = desk.serve(&head, &query, body).await;
    let mode = query.mode.as_str();
    if let Err(failure) = &said {
        let source = desk.door.name.as_str();
        match failure {
            Failure::Anonymous => debug!(source, "1C exchange {source}: a request without a login"),
            Failure::WrongLogin | Failure::NoSession => {
                let name = format!("1C exchange {}", desk.door.path);
                let offered = login::offered(&head);
                let failures = &desk.auth_failures;
                failures
                    .penalize(Credential::ExchangeLogin, &name, &offered, &head)
                    .await;
            }
            Failure::Said(text) => warn!(source, mode, "told 1C in answer to {mode}: {text}"),
        }
    } else {
        debug!(source = desk.door.name, mode, "answered 1C");
    }
    said.into_response()
}

impl Desk {
    async fn serve(&self, head: &Parts, query: &Query, body: Body) -> Result<Said, Failure> {
        if query.mode == "checkauth" {
            let (name, value) = self.reception.open(head)?;
            return Ok(Said::Welcome { name, value });
        }
        let guest = self.reception.admit(head)?;
        match (query.kind.as_str(), query.mode.as_str()) {
            ("catalog", "init") => {
                self.transfers.begin(guest).await?;
                Ok(self.terms(query))
            }
            ("catalog", "file") => {
                let name = self.file_name(head, query)?;
                if name.is_kept() {
                    self.transfers.receive(guest, &name, body).await?;
                } else {
                    spool::discard(body, MAX_PART_BYTES).await?;
                }
                Ok(Said::success())
            }
            ("catalog", "import") => {
                let name = FileName::parse(&query.filename)?;
                if !name.is_xml() {
                    return Ok(Said::success());
                }
                match self.transfers.import(guest, &name).await? {
                    Progress::Done(imported) => Ok(Said::Success(vec![imported.message])),
                    Progress::Running => Ok(Said::Progress),
                }
            }
            (
                "catalog" | "sale" | "reference",
                "success" | "deactivate" | "complete" | "import",
            )
            | ("catalog", "query") => Ok(Said::success()),
            ("sale" | "reference", "init") => Ok(self.terms(query)),
            ("sale" | "reference", "file") => {
                spool::discard(body, MAX_PART_BYTES).await?;
                Ok(Said::success())
            }
            ("sale" | "reference", "query") => Ok(Said::Xml(self.no_orders())),
            ("sale", "info") => Ok(Said::Xml(NOTHING_TO_CHOOSE_FROM.to_owned())),
            (kind, mode) => Err(Failure::new(format!(
                "type={kind}&mode={mode} is unknown here, the exchange of a catalogue is served"
            ))),
        }
    }

    /// How files are to be sent. A client that tells its own version is told one of ours, and
    /// then asks for nothing that this version does not have.
    fn terms(&self, query: &Query) -> Said {
        let zip = if self.door.takes_zip { "yes" } else { "no" };
        let mut lines = vec![format!("zip={zip}"), format!("file_limit={FILE_LIMIT}")];
        if query.has_version {
            lines.push(format!("sessid={}", query.session));
            lines.push("version=2.08".to_owned());
        }
        Said::Lines(lines)
    }

    fn file_name(&self, head: &Parts, query: &Query) -> Result<FileName, Failure> {
        if !matches!(head.method, Method::POST | Method::PUT) {
            return Err(Failure::new("a file has to be sent by POST"));
        }
        FileName::parse(&query.filename)
    }

    fn no_orders(&self) -> String {
        let now = self.clock.now().format("%Y-%m-%dT%H:%M:%S");
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <КоммерческаяИнформация ВерсияСхемы=\"2.08\" ДатаФормирования=\"{now}\"/>\n"
        )
    }
}

const NOTHING_TO_CHOOSE_FROM: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
     <Справочник><Статусы/><ПлатежныеСистемы/><СлужбыДоставки/></Справочник>\n";

/// What stands behind the path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Query {
    kind: String,
    mode: String,
    filename: String,
    session: String,
    has_version: bool,
}

impl Query {
    fn read(head: &Parts) -> Self {
        let mut query = Self::default();
        for pair in head.uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bytes: Vec<u8> = percent_decode_str(value).collect();
            let value = login::text(bytes);
            match name {
                "type" => query.kind = value,
                "mode" => query.mode = value,
                "filename" => query.filename = value,
                "sessid" => query.session = value,
                "version" => query.has_version = true,
                _ => {}
            }
        }
        query
    }
}

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        match self {
            Self::Success(mut lines) => {
                lines.insert(0, "success".to_owned());
                plain(StatusCode::OK, &lines.join("\n"))
            }
            Self::Welcome { name, value } => {
                let mut response = plain(StatusCode::OK, &format!("success\n{name}\n{value}"));
                let cookie = format!("{name}={value}; Path=/; HttpOnly");
                if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Self::Progress => plain(StatusCode::OK, "progress\nthe file is still being taken"),
            Self::Lines(lines) => plain(StatusCode::OK, &lines.join("\n")),
            Self::Xml(document) => {
                let mut response = plain(StatusCode::OK, &document);
                let kind = HeaderValue::from_static("text/xml; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Anonymous | Self::WrongLogin => {
                let text = "failure\nlogin or password is wrong";
                let mut response = plain(StatusCode::UNAUTHORIZED, text);
                let challenge = HeaderValue::from_static("Basic realm=\"1C\"");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                response
            }
            Self::NoSession => {
                let text = "failure\nthe session has ended, log in again: mode=checkauth";
                plain(StatusCode::OK, text)
            }
            Self::Said(text) => {
                let mut response = plain(StatusCode::OK, &format!("failure\n{text}"));
                // What is left of a part may still be on its way.
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = (status, text.to_owned()).into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

//! Access rules of the operator's listener.
//!
//! The listener has no tokens, so it must not accept requests from a web page that is open in a
//! browser on the same machine or network. Two rules reject such pages:
//!
//! 1. `Host` must name this listener. A page whose host name resolves to this address (DNS
//!    rebinding) sends its own name.
//! 2. A request that changes state (any method but GET and HEAD) must carry [`CSRF_HEADER`], which
//!    a page cannot send to another origin without permission. Its `Origin` and `Sec-Fetch-Site`
//!    must not name another origin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use strict_http::{ErrorResponse, LocalAddr};
use tracing::debug;

/// Header of every request that changes state, with the value [`CSRF_HEADER_VALUE`].
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-stockbridge");

/// Required value of [`CSRF_HEADER`].
pub const CSRF_HEADER_VALUE: &str = "1";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Most characters of a header that an error message repeats.
const MAX_EXCERPT_CHARS: usize = 80;

/// Host names and addresses under which the operator's listener is served.
#[derive(Clone, Debug)]
pub struct AllowedHosts {
    bound: SocketAddr,
    names: Vec<String>,
}

impl AllowedHosts {
    /// Allows the bound address, `localhost`, loopback addresses, and `names`, which are host names
    /// or IP addresses without a port.
    #[must_use]
    pub fn new(bound: SocketAddr, names: &[String]) -> Self {
        Self {
            bound,
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
        }
    }

    /// Returns true if `host` names this listener. The port is ignored, because port forwarding
    /// changes it.
    fn allows(&self, host: &str, local: Option<IpAddr>) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        if let Some(ip) = parse_ip(name) {
            let is_listed = self.names.iter().any(|listed| parse_ip(listed) == Some(ip));
            // A listener on all addresses has the local address of the connection.
            let is_ours = ip == self.bound.ip() || local == Some(ip);
            return ip.is_loopback() || is_ours || is_listed;
        }
        name.eq_ignore_ascii_case("localhost")
            || self
                .names
                .iter()
                .any(|listed| name.eq_ignore_ascii_case(listed))
    }

    /// Checks that a request names this listener.
    fn check_host(&self, headers: &HeaderMap, local: Option<IpAddr>) -> Result<(), ErrorResponse> {
        let host = single_value(headers, &HOST).unwrap_or_default();
        if self.allows(host, local) {
            return Ok(());
        }
        let message = format!(
            "Host is '{}': this listener accepts {}, localhost and the names in ops_hosts; if the \
            name is yours, add it to ops_hosts",
            excerpt(host),
            self.bound
        );
        // Not 403, because `doctor` recognises the public listener by a 403.
        let status = StatusCode::MISDIRECTED_REQUEST;
        Err(ErrorResponse::new(status, "FOREIGN_HOST", message))
    }
}

/// Checks that a request that changes state does not come from a web page.
fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), ErrorResponse> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    if single_value(headers, &CSRF_HEADER) != Some(CSRF_HEADER_VALUE) {
        let message = format!(
            "the header X-Stockbridge is missing or not '{CSRF_HEADER_VALUE}': a {method} request must \
             carry it, so that web pages cannot send one; with curl, add -H 'X-Stockbridge: \
             {CSRF_HEADER_VALUE}'",
        );
        return forbidden("HEADER_MISSING", message);
    }
    let foreign_origin = |name: &str, value: &str, rule: &str| {
        let message = format!(
            "{name} is '{}': a {method} request must {rule}; use the stockbridge command or curl \
             instead of a web page",
            excerpt(value)
        );
        forbidden("FOREIGN_ORIGIN", message)
    };
    let host = single_value(headers, &HOST).unwrap_or_default();
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        if !is_origin_of(origin, host) {
            return foreign_origin("Origin", origin, "have no Origin or the one of its Host");
        }
    }
    for site in headers.get_all(SEC_FETCH_SITE) {
        let site = site.to_str().unwrap_or_default();
        if !matches!(site, "none" | "same-origin") {
            return foreign_origin(
                "Sec-Fetch-Site",
                site,
                "have none, or 'none' or 'same-origin'",
            );
        }
    }
    Ok(())
}

/// Middleware that serves only requests whose `Host` names this listener, for all paths.
pub(super) async fn require_host(
    State(hosts): State<Arc<AllowedHosts>>,
    request: Request,
    next: Next,
) -> Response {
    let local = request
        .extensions()
        .get::<LocalAddr>()
        .map(|local| local.0.ip().to_canonical());
    let checked = hosts.check_host(request.headers(), local);
    serve_if(checked, request, next).await
}

/// Middleware that serves requests that change state only if no web page of another origin can
/// have sent them.
pub(super) async fn require_header(request: Request, next: Next) -> Response {
    let checked = check_origin(request.method(), request.headers());
    serve_if(checked, request, next).await
}

/// Middleware for the forms of the pages: serves requests that change state only if a page of this
/// listener has sent them.
pub async fn require_same_origin(request: Request, next: Next) -> Response {
    let checked = check_same_origin(request.method(), request.headers());
    serve_if(checked, request, next).await
}

/// Checks that a form that changes state is on a page of this listener.
///
/// `Sec-Fetch-Site` decides where a browser sends it, because no page can set it; `Origin` decides
/// for the others. A request without both is refused: every browser sends one of them with a form.
fn check_same_origin(method: &Method, headers: &HeaderMap) -> Result<(), ErrorResponse> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let host = single_value(headers, &HOST).unwrap_or_default();
    let is_same_origin = if headers.contains_key(SEC_FETCH_SITE) {
        single_value(headers, &SEC_FETCH_SITE) == Some("same-origin")
    } else {
        single_value(headers, &ORIGIN).is_some_and(|origin| is_origin_of(origin, host))
    };
    if is_same_origin {
        return Ok(());
    }
    let message = format!(
        "neither Sec-Fetch-Site is 'same-origin' nor Origin is that of the Host '{}': a {method} \
         request to a page must come from a page of this listener; for programs there are /accept \
         and /sources/read",
        excerpt(host)
    );
    forbidden("FOREIGN_ORIGIN", message)
}

fn forbidden(code: &'static str, message: String) -> Result<(), ErrorResponse> {
    Err(ErrorResponse::new(StatusCode::FORBIDDEN, code, message))
}

/// Serves a request that passed its check.
async fn serve_if(checked: Result<(), ErrorResponse>, request: Request, next: Next) -> Response {
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => {
            debug!(
                code = error.code,
                "rejected a request to the operator API: {}", error.message
            );
            error.into_response()
        }
    }
}

/// Returns the value of a field that occurs exactly once.
fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (_, _) => None,
    }
}

/// Returns the host of `host`, `host:port`, `[ip]` or `[ip]:port`, and `None` for any other text.
fn without_port(host: &str) -> Option<&str> {
    let is_port = |rest: &str| {
        rest.strip_prefix(':').map_or(rest.is_empty(), |port| {
            port.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let end = match host.strip_prefix('[') {
        Some(inner) => inner.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, rest) = host.split_at_checked(end)?;
    (!name.is_empty() && is_port(rest)).then_some(name)
}

/// Parses an IP address, with or without the brackets of a URL.
fn parse_ip(name: &str) -> Option<IpAddr> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Returns true if `origin` is that of pages served under `host`.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let [plain, secure] = ["http://", "https://"].map(|scheme| origin.strip_prefix(scheme));
    plain
        .or(secure)
        .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn excerpt(text: &str) -> String {
    text.chars().take(MAX_EXCERPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(method: &str, fields: &[(&str, &str)]) -> &'static str {
        let hosts = AllowedHosts::new(
            "192.168.1.5:9090".parse().unwrap(),
            &["Stockbridge".to_owned(), "10.0.0.7".to_owned()],
        );
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let local = Some("172.17.0.2".parse().unwrap());
        let method = method.parse().unwrap();
        match hosts
            .check_host(&headers, local)
            .and_then(|()| check_origin(&method, &headers))
        {
            Ok(()) => "served",
            Err(error) => error.code,
        }
    }

    #[test]
    fn serves_only_allowed_hosts() {
        for host in [
            "192.168.1.5:9090",
            "192.168.1.5",
            "localhost",
            "LOCALHOST:9999",
            "127.0.0.1:9090",
            "127.0.0.2",
            "[::1]",
            "[::1]:9090",
            "stockbridge:9090",
            "STOCKBRIDGE",
            "10.0.0.7:1",
            "172.17.0.2:9090",
        ] {
            assert_eq!(check_request("GET", &[("host", host)]), "served", "{host}");
        }
        for host in [
            "",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:9090.evil.example",
            "localhost.",
            "192.168.1.6:9090",
            "0.0.0.0:9090",
            "[::1].evil.example",
            "[::1",
            "stockbridge.example",
        ] {
            assert_eq!(
                check_request("GET", &[("host", host)]),
                "FOREIGN_HOST",
                "{host}"
            );
        }
        assert_eq!(check_request("GET", &[]), "FOREIGN_HOST");
        assert_eq!(
            check_request("GET", &[("host", "localhost"), ("host", "localhost")]),
            "FOREIGN_HOST"
        );
    }

    #[test]
    fn changes_need_the_header_and_the_same_origin() {
        const HOST: (&str, &str) = ("host", "localhost:9090");
        const OURS: (&str, &str) = ("x-stockbridge", "1");
        for (fields, expected) in [
            (vec![], "HEADER_MISSING"),
            (vec![("x-stockbridge", "2")], "HEADER_MISSING"),
            (vec![("x-stockbridge", "")], "HEADER_MISSING"),
            (vec![OURS, OURS], "HEADER_MISSING"),
            (vec![("origin", "http://localhost:9090")], "HEADER_MISSING"),
            (vec![OURS], "served"),
            (vec![OURS, ("origin", "http://localhost:9090")], "served"),
            (vec![OURS, ("origin", "https://LOCALHOST:9090")], "served"),
            (
                vec![OURS, ("origin", "http://localhost:3000")],
                "FOREIGN_ORIGIN",
            ),
            (vec![OURS, ("origin", "http://localhost")], "FOREIGN_ORIGIN"),
            (
                vec![OURS, ("origin", "http://127.0.0.1:9090")],
                "FOREIGN_ORIGIN",
            ),
            (
                vec![OURS, ("origin", "https://evil.example")],
                "FOREIGN_ORIGIN",
            ),
            (vec![OURS, ("origin", "null")], "FOREIGN_ORIGIN"),
            (vec![OURS, ("origin", "")], "FOREIGN_ORIGIN"),
            (vec![OURS, ("sec-fetch-site", "same-origin")], "served"),
            (vec![OURS, ("sec-fetch-site", "none")], "served"),
            (
                vec![OURS, ("sec-fetch-site", "same-site")],
                "FOREIGN_ORIGIN",
            ),
            (
                vec![OURS, ("sec-fetch-site", "cross-site")],
                "FOREIGN_ORIGIN",
            ),
            (
                vec![
                    OURS,
                    ("sec-fetch-site", "none"),
                    ("sec-fetch-site", "cross-site"),
                ],
                "FOREIGN_ORIGIN",
            ),
        ] {
            let fields = [vec![HOST], fields].concat();
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"] {
                assert_eq!(
                    check_request(method, &fields),
                    expected,
                    "{method} {fields:?}"
                );
            }
            for method in ["GET", "HEAD"] {
                assert_eq!(
                    check_request(method, &fields),
                    "served",
                    "{method} {fields:?}"
                );
            }
        }
    }

    #[test]
    fn forms_need_a_page_of_this_listener() {
        let check = |fields: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, "localhost:9090".parse().unwrap());
            for (name, value) in fields {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            assert!(check_same_origin(&Method::GET, &headers).is_ok());
            check_same_origin(&Method::POST, &headers).is_ok()
        };
        let same = ("sec-fetch-site", "same-origin");
        for served in [
            vec![same],
            vec![same, ("origin", "http://localhost:9090")],
            vec![("origin", "http://localhost:9090")],
            vec![("origin", "https://LOCALHOST:9090")],
        ] {
            assert!(check(&served), "{served:?}");
        }
        for refused in [
            vec![],
            vec![("x-stockbridge", "1")],
            vec![("sec-fetch-site", "none")],
            vec![("sec-fetch-site", "same-site")],
            vec![("sec-fetch-site", "cross-site")],
            vec![same, ("sec-fetch-site", "cross-site")],
            vec![
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://localhost:9090"),
            ],
            vec![("origin", "http://localhost:3000")],
            vec![("origin", "null")],
            vec![
                ("origin", "http://localhost:9090"),
                ("origin", "http://evil.example"),
            ],
        ] {
            assert!(!check(&refused), "{refused:?}");
        }
    }

    #[test]
    fn errors_name_the_value_and_stay_short() {
        let hosts = AllowedHosts::new("127.0.0.1:9090".parse().unwrap(), &[]);
        let host = format!("{}.example", "e".repeat(2_000));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        let error = hosts.check_host(&headers, None).unwrap_err();
        assert!(error.message.contains("ops_hosts") && error.message.len() < 300);
        headers.insert(HOST, "localhost".parse().unwrap());
        let error = check_origin(&Method::POST, &headers).unwrap_err();
        assert!(
            error.message.contains("-H 'X-Stockbridge: 1'"),
            "{}",
            error.message
        );
    }
}

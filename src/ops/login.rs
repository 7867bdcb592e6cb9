//! Login of the operator: one password, sessions in a cookie, and the rule for each path.
//!
//! Programs send the password with each request, as `Authorization: Bearer PASSWORD`. A browser
//! logs in once and gets a session. Sessions are kept in memory, so a restart ends them. Wrong
//! passwords are delayed, counted and reported by [`AuthFailures`].

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use strict_http::ErrorResponse;
use strict_http::secret::{Secret, TokenSet};

use crate::auth_failures::{AuthFailures, Credential};

/// Name of the cookie with the session.
pub const SESSION_COOKIE: &str = "stockbridge_session";

/// Path of the page that asks for the password.
pub const LOGIN_PATH: &str = "/login";

/// Time without a request after which a session ends.
const IDLE_TIMEOUT: TimeDelta = TimeDelta::hours(12);

/// Most sessions. One more ends the one that was idle for longest.
const MAX_SESSIONS: usize = 1000;

/// Login of the operator's listener. Cheap to clone: all clones share the sessions.
#[derive(Clone, Debug)]
pub struct Login(Option<Arc<LoginInner>>);

#[derive(Debug)]
struct LoginInner {
    password: TokenSet,
    protects_metrics: bool,
    auth_failures: AuthFailures,
    clock: Clock,
    sessions: Mutex<Sessions>,
}

impl Login {
    /// Creates a login. Without a password, for a listener on loopback, it lets everybody in.
    /// `protects_metrics` extends it to `/metrics`, `/healthz` and `/readyz`.
    #[must_use]
    pub fn new(
        password: Option<&Secret>,
        protects_metrics: bool,
        clock: Clock,
        auth_failures: AuthFailures,
    ) -> Self {
        let inner = password.map(|password| LoginInner {
            password: TokenSet::new([password]),
            protects_metrics,
            auth_failures,
            clock,
            sessions: Mutex::default(),
        });
        Self(inner.map(Arc::new))
    }

    /// Replaces the password and ends all sessions. Does nothing if none is needed.
    pub fn replace_password(&self, password: &Secret) {
        if let Some(inner) = &self.0 {
            inner.password.replace([password]);
            inner.sessions.lock().0.clear();
        }
    }

    /// Returns true if a password is set.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a session and returns its token; `None` after a wrong password, whose response is
    /// delayed.
    pub async fn begin(&self, password: &str, head: &Parts) -> Option<String> {
        let inner = self.0.as_ref()?;
        if !inner.password.contains(password) {
            inner.penalize(password, head).await;
            return None;
        }
        let [high, low]: [u128; 2] = rand::random();
        let token = format!("{high:032x}{low:032x}");
        let now = inner.clock.now();
        inner.sessions.lock().begin(&token, now);
        Some(token)
    }

    /// Ends the session of a request, if it has one.
    pub fn end(&self, headers: &HeaderMap) {
        if let (Some(inner), Some(token)) = (&self.0, session_token(headers)) {
            inner.sessions.lock().end(token);
        }
    }
}

impl LoginInner {
    async fn penalize(&self, offered: &str, head: &Parts) {
        self.auth_failures
            .penalize(Credential::OperatorPassword, "ops_listen", offered, head)
            .await;
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        session_token(headers)
            .is_some_and(|token| self.sessions.lock().is_valid(token, self.clock.now()))
    }
}

/// Middleware that serves only requests with a session or the password.
pub(super) async fn require_login(
    State(login): State<Login>,
    request: Request,
    next: Next,
) -> Response {
    let Some(inner) = &login.0 else {
        return next.run(request).await;
    };
    if is_open(request.uri().path(), inner.protects_metrics) || inner.has_session(request.headers())
    {
        return next.run(request).await;
    }
    if let Some(password) = bearer_password(request.headers()).map(ToOwned::to_owned) {
        if inner.password.contains(&password) {
            return next.run(request).await;
        }
        let (head, _body) = request.into_parts();
        inner.penalize(&password, &head).await;
        return unauthorized("the password in the header Authorization is wrong").into_response();
    }
    // A form is not repeated after the login: the page of its path shows that nothing was done.
    if wants_html(request.headers()) {
        return Redirect::to(&login_address(request.uri())).into_response();
    }
    unauthorized(
        "the operator's password is needed: send it as 'Authorization: Bearer PASSWORD', give a \
         command --ops-password-file FILE, or log in at /login",
    )
    .into_response()
}

fn unauthorized(message: &str) -> ErrorResponse {
    ErrorResponse::new(StatusCode::UNAUTHORIZED, "LOGIN_NEEDED", message)
}

/// Returns true for paths without a login.
fn is_open(path: &str, protects_metrics: bool) -> bool {
    let is_probe = matches!(path, "/metrics" | "/healthz" | "/readyz");
    path == LOGIN_PATH || path.starts_with("/assets/") || (is_probe && !protects_metrics)
}

/// Returns true if the client is a browser, which lists `text/html`.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").and_then(|q| q.parse().ok());
            weight.is_some_and(|weight: f32| weight <= 0.0)
        });
        is_html && !is_refused
    })
}

/// Address of the login page that leads back to `uri`.
fn login_address(uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!(
        "{LOGIN_PATH}?next={}",
        utf8_percent_encode(target, NON_ALPHANUMERIC)
    )
}

fn bearer_password(headers: &HeaderMap) -> Option<&str> {
    let (scheme, password) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(password.trim())
}

fn session_token(headers: &HeaderMap) -> Option<&str> {
    cookies(headers, SESSION_COOKIE).next()
}

/// Returns the values of the cookies with this name.
pub(crate) fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(COOKIE).iter();
    fields
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(move |(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// Sessions by the digest of their token, so that a copy of the memory opens none.
#[derive(Debug, Default)]
struct Sessions(HashMap<[u8; 32], DateTime<Utc>>);

impl Sessions {
    fn begin(&mut self, token: &str, now: DateTime<Utc>) {
        self.0.retain(|_, used_at| now - *used_at < IDLE_TIMEOUT);
        if self.0.len() >= MAX_SESSIONS
            && let Some(oldest) = self.0.iter().min_by_key(|(_, used_at)| **used_at)
        {
            let oldest = *oldest.0;
            self.0.remove(&oldest);
        }
        self.0.insert(digest(token), now);
    }

    fn is_valid(&mut self, token: &str, now: DateTime<Utc>) -> bool {
        match self.0.get_mut(&digest(token)) {
            Some(used_at) if now - *used_at < IDLE_TIMEOUT => {
                *used_at = now;
                true
            }
            Some(_) | None => false,
        }
    }

    fn end(&mut self, token: &str) {
        self.0.remove(&digest(token));
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    #[test]
    fn sessions_end_when_idle_or_ended() {
        let mut sessions = Sessions::default();
        sessions.begin("a", at(0));
        assert!(!sessions.is_valid("b", at(0)));
        assert!(sessions.is_valid("a", at(11)));
        assert!(sessions.is_valid("a", at(22)), "each use extends it");
        assert!(!sessions.is_valid("a", at(34)));
        sessions.begin("c", at(40));
        sessions.end("c");
        assert!(!sessions.is_valid("c", at(40)));
    }

    #[test]
    fn sessions_are_bounded() {
        let mut sessions = Sessions::default();
        let times = (0..).map(|second| at(0) + TimeDelta::seconds(second));
        for (n, time) in (0..=MAX_SESSIONS).zip(times) {
            sessions.begin(&n.to_string(), time);
        }
        assert_eq!(sessions.0.len(), MAX_SESSIONS);
        assert!(!sessions.is_valid("0", at(1)));
        assert!(sessions.is_valid("1", at(1)));
    }

    #[test]
    fn only_probes_and_the_login_are_open() {
        for (path, protects_metrics, expected) in [
            ("/metrics", false, true),
            ("/metrics", true, false),
            ("/healthz", false, true),
            ("/readyz", true, false),
            ("/login", true, true),
            ("/login/x", true, false),
            ("/assets/app-1.js", true, true),
            ("/", false, false),
            ("/status", false, false),
            ("/metricsx", false, false),
        ] {
            assert_eq!(is_open(path, protects_metrics), expected, "{path}");
        }
    }

    #[test]
    fn credentials_are_read_from_their_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "bearer  secret ".parse().unwrap());
        headers.append(COOKIE, "lang=ru".parse().unwrap());
        headers.append(COOKIE, "a=b; stockbridge_session=t".parse().unwrap());
        assert_eq!(bearer_password(&headers), Some("secret"));
        assert_eq!(session_token(&headers), Some("t"));
        headers.insert(AUTHORIZATION, "Basic c2VjcmV0".parse().unwrap());
        assert_eq!(bearer_password(&headers), None);
        assert_eq!(session_token(&HeaderMap::new()), None);
    }

    #[test]
    fn only_browsers_are_sent_to_the_login() {
        let mut headers = HeaderMap::new();
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/*", false),
            ("text/html;q=0", false),
            ("", false),
            ("application/json", false),
            ("text/event-stream", false),
        ] {
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_html(&headers), expected, "{accept}");
        }
        assert_eq!(
            login_address(&"/events?shop=a".parse().unwrap()),
            "/login?next=%2Fevents%3Fshop%3Da"
        );
    }
}

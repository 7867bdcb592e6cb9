//! Login page: asks for the password and begins a session.

use askama::Template;
use axum::Extension;
use axum::extract::{FromRequest as _, Query, Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, RequestExt as _};
use serde::Deserialize;

use super::assets;
use super::language_choice::LanguageChoice;
use super::layout::render;
use super::links::encode;
use super::texts::Text;
use crate::i18n::Language;
use crate::ops::{LOGIN_PATH, Ops, SESSION_COOKIE};

/// Query of the page.
#[derive(Deserialize)]
pub(super) struct LoginQuery {
    /// Address to which a successful login leads.
    next: Option<String>,
}

/// Fields of the form.
#[derive(Deserialize)]
struct LoginForm {
    password: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    language: Language,
    /// Address to which the form is sent.
    action: String,
    is_wrong: bool,
    style: &'static str,
    icon: &'static str,
}

/// Serves the form.
pub(super) async fn page(
    Extension(choice): Extension<LanguageChoice>,
    Query(query): Query<LoginQuery>,
) -> Response {
    form(choice.language, query.next.as_deref(), false)
}

/// Begins a session if the password is right.
pub(super) async fn begin(
    State(ops): State<Ops>,
    Extension(choice): Extension<LanguageChoice>,
    mut request: Request,
) -> Response {
    let query = request.extract_parts::<Query<LoginQuery>>().await;
    let next = query.ok().and_then(|Query(query)| query.next);
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head.clone(), body);
    let Ok(Form(fields)) = Form::<LoginForm>::from_request(request, &()).await else {
        return form(choice.language, next.as_deref(), true);
    };
    let Some(token) = ops.login().begin(&fields.password, &head).await else {
        return form(choice.language, next.as_deref(), true);
    };
    let scheme = head.headers.get("x-forwarded-proto");
    let is_secure = scheme.is_some_and(|scheme| scheme == "https");
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    let redirect = Redirect::to(local_address(next.as_deref()));
    ([(SET_COOKIE, cookie)], redirect).into_response()
}

/// Ends the session.
pub(super) async fn end(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    ops.login().end(&headers);
    let cookie = format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    ([(SET_COOKIE, cookie)], Redirect::to(LOGIN_PATH)).into_response()
}

fn form(language: Language, next: Option<&str>, is_wrong: bool) -> Response {
    let next = local_address(next);
    let query = encode(next);
    let page = render(&LoginPage {
        language,
        action: format!("{LOGIN_PATH}?next={query}"),
        is_wrong,
        style: &assets::STYLESHEET.path,
        icon: &assets::ICON.path,
    });
    let status = if is_wrong {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::OK
    };
    (status, page).into_response()
}

/// Returns an address on this listener. Another one would send the operator elsewhere.
fn local_address(next: Option<&str>) -> &str {
    next.filter(|next| next.starts_with('/') && is_plain_path(next))
        .filter(|next| !next.contains(|c: char| c == '\\' || c.is_control() || !c.is_ascii()))
        .unwrap_or("/")
}

/// Returns true for a path without empty segments and without those that lead upwards.
fn is_plain_path(address: &str) -> bool {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let mut segments = path.to_ascii_lowercase().replace("%2e", ".");
    segments.remove(0);
    segments.is_empty() || !segments.split('/').any(|it| matches!(it, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_only_to_this_listener() {
        for (next, expected) in [
            (None, "/"),
            (Some("/events?shop=a"), "/events?shop=a"),
            (Some("/"), "/"),
            (Some("/?lang=ru"), "/?lang=ru"),
            (Some("//evil.example/"), "/"),
            (Some("/..//evil.example/"), "/"),
            (Some("/%2E%2e/x"), "/"),
            (Some("/shops//x"), "/"),
            (Some("/\\evil.example/"), "/"),
            (Some("https://evil.example/"), "/"),
            (Some("/a\r\nset-cookie: x"), "/"),
            (Some(""), "/"),
        ] {
            assert_eq!(local_address(next), expected, "{next:?}");
        }
    }
}

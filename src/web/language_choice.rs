//! Language of a request: the link of the switch, then the cookie, then `Accept-Language`.

use axum::extract::Request;
use axum::http::header::{ACCEPT_LANGUAGE, SET_COOKIE};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use crate::i18n::Language;
use crate::ops::cookies;

/// Name of the cookie and of the query parameter.
const NAME: &str = "lang";

/// Language of the response, and the address of the page.
#[derive(Clone, Debug)]
pub(super) struct LanguageChoice {
    pub(super) language: Language,
    /// Path and query without the language, for the links of the switch.
    pub(super) address: String,
}

/// Middleware that finds the language. A request with `?lang=` gets the cookie and is redirected
/// to the same page, so that addresses that are copied have no language.
pub(super) async fn choose(mut request: Request, next: Next) -> Response {
    let (chosen, address) = split_query(request.uri());
    if let Some(language) = chosen {
        let cookie = format!(
            "{NAME}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict",
            language.code()
        );
        return ([(SET_COOKIE, cookie)], Redirect::to(&address)).into_response();
    }
    let language = language_of(request.headers());
    request
        .extensions_mut()
        .insert(LanguageChoice { language, address });
    next.run(request).await
}

/// Returns the language that the query names, and the address without it.
fn split_query(uri: &Uri) -> (Option<Language>, String) {
    let mut chosen = None;
    let mut kept = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some((NAME, code)) => chosen = Language::from_code(code).or(chosen),
            _ if pair.is_empty() => {}
            _ => kept.push(pair),
        }
    }
    // A path that begins with two slashes would name another host in a redirect.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    let address = if kept.is_empty() {
        path
    } else {
        format!("{path}?{}", kept.join("&"))
    };
    (chosen, address)
}

fn language_of(headers: &HeaderMap) -> Language {
    let from_cookie = cookies(headers, NAME).find_map(Language::from_code);
    from_cookie.unwrap_or_else(|| {
        let accepted = headers
            .get(ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        Language::from_accept_language(accepted.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use axum::http::header::COOKIE;

    use super::*;

    #[test]
    fn the_switch_keeps_the_rest_of_the_address() {
        for (uri, language, address) in [
            ("/", None, "/"),
            ("/?lang=ru", Some(Language::Russian), "/"),
            (
                "/events?shop=a&lang=zh&kind=b",
                Some(Language::Chinese),
                "/events?shop=a&kind=b",
            ),
            ("/?lang=xx", None, "/"),
            (
                "//evil.example/?lang=ru",
                Some(Language::Russian),
                "/evil.example/",
            ),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(split_query(&uri), (language, address.to_owned()), "{uri}");
        }
    }

    #[test]
    fn the_cookie_wins_over_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, "zh".parse().unwrap());
        assert_eq!(language_of(&headers), Language::Chinese);
        headers.insert(COOKIE, "a=b; lang=ru".parse().unwrap());
        assert_eq!(language_of(&headers), Language::Russian);
        headers.insert(COOKIE, "lang=xx".parse().unwrap());
        assert_eq!(language_of(&headers), Language::Chinese);
    }
}

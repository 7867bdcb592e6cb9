//! Authentication of push API requests, and the checks of their heads.
//!
//! A wrong or missing token is always 403. The token may be in the header or in the query.
//! `strict_http::secret` holds credentials and compares them in constant time.

use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use strict_http::{ErrorResponse, is_json};

use super::stocks_handler::{PushRoute, PushShopEndpoint};
use crate::auth_failures::Credential;

impl PushRoute {
    /// Returns the shops that the token of this request gives access to. The response to a wrong
    /// token may be delayed; the response to a right one never is.
    pub(super) async fn authenticate(
        &self,
        head: &Parts,
    ) -> Result<Vec<&PushShopEndpoint>, ErrorResponse> {
        let token = extract_token(head).ok_or_else(forbidden)?;
        let authorized: Vec<_> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.shop.tokens.contains(&token))
            .collect();
        if !authorized.is_empty() {
            return Ok(authorized);
        }
        let name = format!("{}/stocks", self.base_path);
        self.context
            .auth_failures
            .penalize(Credential::PushToken, &name, &token, head)
            .await;
        Err(forbidden())
    }
}

fn forbidden() -> ErrorResponse {
    // The message is the same for every error, so that it reveals nothing about the token.
    ErrorResponse::new(
        StatusCode::FORBIDDEN,
        "FORBIDDEN",
        "the token is missing or wrong",
    )
}

/// Returns the token of a request from the header or the query. Returns `None` without a token, if
/// one place contains two, or if the two places differ.
fn extract_token(head: &Parts) -> Option<String> {
    let mut fields = head.headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => None,
        (Some(field), None) => Some(field.to_str().ok()?.trim().to_owned()),
        (Some(_), Some(_)) => return None,
    };
    let query = head.uri.query().unwrap_or_default();
    let mut parameters = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("auth-token="));
    let parameter = match (parameters.next(), parameters.next()) {
        (None, _) => None,
        // Percent-decoding only: in a form a plus means a space, but here it is part of the token.
        (Some(text), None) => Some(percent_decode_str(text).decode_utf8().ok()?.into_owned()),
        (Some(_), Some(_)) => return None,
    };
    match (
        field.filter(|t| !t.is_empty()),
        parameter.filter(|t| !t.is_empty()),
    ) {
        (Some(field), Some(parameter)) => (field == parameter).then_some(field),
        (field, parameter) => field.or(parameter),
    }
}

/// Checks method, content encoding and content type.
pub(super) fn check_head(head: &Parts) -> Result<(), ErrorResponse> {
    if head.method != Method::POST {
        let message = format!("the method is {}, this path takes POST", head.method);
        return Err(ErrorResponse::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            message,
        ));
    }
    let unsupported = |message: String| {
        ErrorResponse::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            message,
        )
    };
    match head.headers.get(CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            return Err(unsupported(format!(
                "the content encoding is {coding:?}, only identity is taken"
            )));
        }
        Some(_) | None => {}
    }
    // A missing type is accepted: the Market may omit it, and the body is validated anyway.
    match head.headers.get(CONTENT_TYPE) {
        Some(content_type) if !is_json(content_type) => Err(unsupported(format!(
            "the content type is {content_type:?}, it must be application/json in UTF-8"
        ))),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;

    use super::*;

    fn token_of(uri: &str, fields: &[&str]) -> Option<String> {
        let mut request = Request::builder().uri(uri);
        for field in fields {
            request = request.header(AUTHORIZATION, *field);
        }
        extract_token(&request.body(Body::empty()).unwrap().into_parts().0)
    }

    #[test]
    fn reads_tokens_from_header_or_query() {
        assert_eq!(token_of("/stocks", &["41FB"]).as_deref(), Some("41FB"));
        assert_eq!(
            token_of("/stocks?auth-token=41FB", &[]).as_deref(),
            Some("41FB")
        );
        assert_eq!(
            token_of("/stocks?x=1&auth-token=a%2Bb+c", &[]).as_deref(),
            Some("a+b+c")
        );
        assert_eq!(
            token_of("/stocks?auth-token=41FB", &[""]).as_deref(),
            Some("41FB")
        );
    }

    #[test]
    fn rejects_duplicate_and_conflicting_tokens() {
        assert_eq!(
            token_of("/stocks?auth-token=a", &["a"]).as_deref(),
            Some("a")
        );
        assert_eq!(token_of("/stocks?auth-token=a", &["b"]), None);
        assert_eq!(token_of("/stocks?auth-token=a&auth-token=a", &[]), None);
        assert_eq!(token_of("/stocks", &["a", "a"]), None);
        assert_eq!(token_of("/stocks?auth-token=", &[]), None);
        assert_eq!(token_of("/stocks", &[]), None);
    }
}

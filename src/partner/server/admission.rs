//! Who may come in: the key, the campaign, and the kind of body.

use axum::extract::Path;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

use super::refused::{Refused, refused};
use super::{Desk, House};
use crate::http::is_json;

impl House {
    /// The shop of this campaign, if the key is one of its own.
    pub(super) fn admit(
        &self,
        campaign: Option<&Path<String>>,
        headers: &HeaderMap,
    ) -> Result<&Desk, Refused> {
        let unauthorized = |message| refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        let key = key(headers).ok_or_else(|| unauthorized("Api-Key token is not specified"))?;
        // Every lock is tried, so that the time taken does not tell which shop a key is for.
        let opened: Vec<bool> = self.desks.iter().map(|desk| desk.locks.open_to(key)).collect();
        if !opened.contains(&true) {
            return Err(unauthorized("Api-Key token is invalid"));
        }
        // What is no number is no campaign of ours, and neither is 0.
        let campaign = campaign.and_then(|path| path.parse().ok()).unwrap_or(0);
        let (desk, is_open) = self
            .desks
            .iter()
            .zip(opened)
            .find(|(desk, _)| desk.shop.campaigns.contains(&campaign))
            .ok_or_else(|| refused(StatusCode::NOT_FOUND, "NOT_FOUND", "Campaign not found"))?;
        if is_open {
            Ok(desk)
        } else {
            Err(refused(StatusCode::FORBIDDEN, "FORBIDDEN", "Access denied"))
        }
    }
}

/// The key of a request: `Api-Key`, or the older `Authorization: Bearer`.
fn key(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get("api-key").and_then(|value| value.to_str().ok());
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    };
    named.or_else(bearer).map(str::trim).filter(|key| !key.is_empty())
}

pub(super) fn check_content(head: &Parts) -> Result<(), Refused> {
    let is_plain = head.headers.get(CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    let is_json = head.headers.get(CONTENT_TYPE).is_none_or(is_json);
    if is_plain && is_json {
        return Ok(());
    }
    Err(refused(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        "Content-Type must be application/json in UTF-8, without Content-Encoding",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_either_header() {
        let key_of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            key(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(key_of("api-key", " ACMA:1 ").as_deref(), Some("ACMA:1"));
        assert_eq!(key_of("authorization", "Bearer y0_1").as_deref(), Some("y0_1"));
        assert_eq!(key_of("authorization", "y0_1"), None);
        assert_eq!(key_of("api-key", " "), None);
    }
}

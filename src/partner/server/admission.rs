//! Who may come in: the key, the campaign or business, and the kind of body.

use axum::extract::Path;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};

use super::refused::{Refused, bad_request, refused};
use super::{Desk, House, PathNumber};
use crate::auth_failures::Credential;
use crate::http::is_json;

impl House {
    /// The shop of this campaign, if the key is one of its own.
    pub(super) async fn admit_to_campaign(
        &self,
        campaign: PathNumber,
        head: &Parts,
    ) -> Result<&Desk, Refused> {
        self.admit_to_numbered_campaign(campaign, head)
            .await
            .map(|(_, desk)| desk)
    }

    /// Campaign id of the path and its shop, if the key is one of the shop's own.
    pub(super) async fn admit_to_numbered_campaign(
        &self,
        campaign: PathNumber,
        head: &Parts,
    ) -> Result<(u64, &Desk), Refused> {
        let campaign = number(campaign);
        let is_known = self
            .desks
            .iter()
            .any(|desk| desk.shop.campaigns.contains(&campaign));
        let desks = self.try_key(head, ("campaign", campaign, is_known)).await?;
        let (desk, is_open) = desks
            .into_iter()
            .find(|(desk, _)| desk.shop.campaigns.contains(&campaign))
            .ok_or_else(|| refused(StatusCode::NOT_FOUND, "NOT_FOUND", "Campaign not found"))?;
        if is_open {
            Ok((campaign, desk))
        } else {
            Err(denied())
        }
    }

    /// The shops of this business, if the key is one of any of them.
    pub(super) async fn admit_to_business(
        &self,
        business: PathNumber,
        head: &Parts,
    ) -> Result<Cabinet<'_>, Refused> {
        let business = number(business);
        let is_known = self
            .desks
            .iter()
            .any(|desk| desk.shop.business == Some(business));
        let mut desks = self.try_key(head, ("business", business, is_known)).await?;
        desks.retain(|(desk, _)| desk.shop.business == Some(business));
        if desks.is_empty() {
            return Err(refused(
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
                "Business not found",
            ));
        }
        if desks.iter().all(|(_, is_open)| !is_open) {
            return Err(denied());
        }
        Ok(Cabinet(desks))
    }

    /// Every shop, with whether the key opens it; it must open one. The response to a wrong key
    /// may be delayed, a right one never is.
    pub(super) async fn try_key(
        &self,
        head: &Parts,
        (kind, number, is_known): (&str, u64, bool),
    ) -> Result<Vec<(&Desk, bool)>, Refused> {
        let unauthorized = |message| refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        let key =
            key(&head.headers).ok_or_else(|| unauthorized("Api-Key token is not specified"))?;
        // Every lock is tried, so that the time taken does not tell which shop a key is for.
        let desks: Vec<_> = self
            .desks
            .iter()
            .map(|desk| (desk, desk.locks.open_to(key)))
            .collect();
        if desks.iter().all(|(_, is_open)| !is_open) {
            // Only configured numbers are names: a caller can make up any other.
            let name = if is_known {
                format!("{kind} {number}")
            } else {
                format!("an unknown {kind}")
            };
            self.context
                .auth_failures
                .penalize(Credential::FeedKey, &name, key, head)
                .await;
            return Err(unauthorized("Api-Key token is invalid"));
        }
        Ok(desks)
    }
}

/// The shops of one business, each with whether the caller's key opens it.
pub(super) struct Cabinet<'a>(Vec<(&'a Desk, bool)>);

impl<'a> Cabinet<'a> {
    /// The shop of this warehouse.
    pub(super) fn desk(&self, partner_warehouse: u64) -> Result<&'a Desk, NoDesk> {
        let mut desks = self.0.iter();
        match desks.find(|(desk, _)| desk.shop.partner_warehouses.contains(&partner_warehouse)) {
            Some((desk, true)) => Ok(desk),
            Some((_, false)) => Err(NoDesk::Denied),
            None => Err(NoDesk::Unknown(partner_warehouse)),
        }
    }
}

/// Why a warehouse cannot be served.
pub(super) enum NoDesk {
    /// No shop of the business has it.
    Unknown(u64),
    /// The key is not for its shop.
    Denied,
}

impl From<NoDesk> for Refused {
    fn from(why: NoDesk) -> Self {
        match why {
            NoDesk::Unknown(warehouse) => bad_request(format!(
                "'partnerWarehouseId' is unknown: no shop of this business lists '{warehouse}'"
            )),
            NoDesk::Denied => denied(),
        }
    }
}

fn denied() -> Refused {
    refused(StatusCode::FORBIDDEN, "FORBIDDEN", "Access denied")
}

/// What is no number is no campaign or business of ours, and neither is 0.
fn number(path: PathNumber) -> u64 {
    let parse = |Path(text): Path<String>| text.strip_suffix(".json").unwrap_or(&text).parse().ok();
    path.ok().and_then(parse).unwrap_or(0)
}

/// The key of a request: `Api-Key`, or the older `Authorization: Bearer` and
/// `Authorization: OAuth oauth_token="…", oauth_client_id="…"`.
fn key(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get("api-key").and_then(|value| value.to_str().ok());
    let authorized = || {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(key);
        }
        scheme
            .eq_ignore_ascii_case("oauth")
            .then(|| oauth_token(key))
            .flatten()
    };
    named
        .or_else(authorized)
        .map(str::trim)
        .filter(|key| !key.is_empty())
}

/// The token among the parameters of the scheme `OAuth`, quoted or not.
fn oauth_token(parameters: &str) -> Option<&str> {
    let token = parameters.split(',').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim_end()
            .eq_ignore_ascii_case("oauth_token")
            .then_some(value.trim())
    })?;
    Some(
        token
            .strip_prefix('"')
            .and_then(|token| token.strip_suffix('"'))
            .unwrap_or(token),
    )
}

pub(super) fn check_content(head: &Parts) -> Result<(), Refused> {
    let is_plain = head
        .headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding == "identity");
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
        assert_eq!(
            key_of("authorization", "Bearer y0_1").as_deref(),
            Some("y0_1")
        );
        assert_eq!(key_of("authorization", "y0_1"), None);
        for (value, key) in [
            ("OAuth oauth_token=y0_1", Some("y0_1")),
            (
                "oauth oauth_client_id=\"c,d\", oauth_token=\"y0_1\"",
                Some("y0_1"),
            ),
            (
                "OAuth oauth_token=\"y0_1\", oauth_client_id=\"c\"",
                Some("y0_1"),
            ),
            ("OAuth y0_1", None),
            ("OAuth oauth_token=", None),
            ("OAuth oauth_token=\"\"", None),
        ] {
            assert_eq!(key_of("authorization", value).as_deref(), key, "{value}");
        }
        assert_eq!(key_of("api-key", " "), None);
    }
}

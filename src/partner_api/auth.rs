//! Authentication and authorisation of the partner API: key, campaign or business, and media type.
//!
//! An unknown key is 401, an unknown campaign or business is 404, and a key of another shop is 403.
//! `strict_http::secret` holds credentials and compares them in constant time.

use axum::extract::Path;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use strict_http::is_json;

use super::error::{PartnerApiError, api_error, bad_request};
use super::{PartnerApiState, PartnerShopEndpoint, PathNumber};
use crate::auth_failures::Credential;

impl PartnerApiState {
    /// Returns the shop of this campaign if the key belongs to it.
    pub(super) async fn authorize_campaign(
        &self,
        campaign: PathNumber,
        head: &Parts,
    ) -> Result<&PartnerShopEndpoint, PartnerApiError> {
        self.authorize_campaign_with_id(campaign, head)
            .await
            .map(|(_, endpoint)| endpoint)
    }

    /// Returns the campaign id of the path and its shop if the key belongs to the shop.
    pub(super) async fn authorize_campaign_with_id(
        &self,
        campaign: PathNumber,
        head: &Parts,
    ) -> Result<(u64, &PartnerShopEndpoint), PartnerApiError> {
        let campaign = path_number(campaign);
        let is_known = self
            .endpoints
            .iter()
            .any(|endpoint| endpoint.shop.campaigns.contains(&campaign));
        let endpoints = self
            .authenticate(head, ("campaign", campaign, is_known))
            .await?;
        let (endpoint, is_authorized) = endpoints
            .into_iter()
            .find(|(endpoint, _)| endpoint.shop.campaigns.contains(&campaign))
            .ok_or_else(|| api_error(StatusCode::NOT_FOUND, "NOT_FOUND", "Campaign not found"))?;
        if is_authorized {
            Ok((campaign, endpoint))
        } else {
            Err(access_denied())
        }
    }

    /// Returns the shops of this business if the key belongs to at least one of them.
    pub(super) async fn authorize_business(
        &self,
        business: PathNumber,
        head: &Parts,
    ) -> Result<BusinessAccess<'_>, PartnerApiError> {
        let business = path_number(business);
        let is_known = self
            .endpoints
            .iter()
            .any(|endpoint| endpoint.shop.business == Some(business));
        let mut endpoints = self
            .authenticate(head, ("business", business, is_known))
            .await?;
        endpoints.retain(|(endpoint, _)| endpoint.shop.business == Some(business));
        if endpoints.is_empty() {
            return Err(api_error(
                StatusCode::NOT_FOUND,
                "NOT_FOUND",
                "Business not found",
            ));
        }
        if endpoints.iter().all(|(_, is_authorized)| !is_authorized) {
            return Err(access_denied());
        }
        Ok(BusinessAccess(endpoints))
    }

    /// Returns every shop, with true if the key belongs to it. At least one is true. The response
    /// to a wrong key may be delayed; the response to a right one never is.
    pub(super) async fn authenticate(
        &self,
        head: &Parts,
        (kind, number, is_known): (&str, u64, bool),
    ) -> Result<Vec<(&PartnerShopEndpoint, bool)>, PartnerApiError> {
        let unauthorized = |message| api_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message);
        let key = extract_key(&head.headers)
            .ok_or_else(|| unauthorized("Api-Key token is not specified"))?;
        // Every key set is tried, so that the duration does not reveal the shop of a key.
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| (endpoint, endpoint.shop.feed_keys.contains(key)))
            .collect();
        if endpoints.iter().all(|(_, is_authorized)| !is_authorized) {
            // Only configured ids appear in the name, because a caller can make up any other.
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
        Ok(endpoints)
    }
}

/// Shops of one business, each with true if the caller's key belongs to it.
pub(super) struct BusinessAccess<'a>(Vec<(&'a PartnerShopEndpoint, bool)>);

impl<'a> BusinessAccess<'a> {
    /// Returns the shop of this warehouse.
    pub(super) fn endpoint(
        &self,
        partner_warehouse: u64,
    ) -> Result<&'a PartnerShopEndpoint, WarehouseError> {
        let mut endpoints = self.0.iter();
        match endpoints.find(|(endpoint, _)| {
            endpoint
                .shop
                .partner_warehouses
                .contains(&partner_warehouse)
        }) {
            Some((endpoint, true)) => Ok(endpoint),
            Some((_, false)) => Err(WarehouseError::Denied),
            None => Err(WarehouseError::Unknown(partner_warehouse)),
        }
    }
}

/// Error for a warehouse that cannot be served.
pub(super) enum WarehouseError {
    /// No shop of the business has this warehouse.
    Unknown(u64),
    /// The key does not belong to the shop of the warehouse.
    Denied,
}

impl From<WarehouseError> for PartnerApiError {
    fn from(error: WarehouseError) -> Self {
        match error {
            WarehouseError::Unknown(warehouse) => bad_request(format!(
                "'partnerWarehouseId' is unknown: no shop of this business lists '{warehouse}'"
            )),
            WarehouseError::Denied => access_denied(),
        }
    }
}

fn access_denied() -> PartnerApiError {
    api_error(StatusCode::FORBIDDEN, "FORBIDDEN", "Access denied")
}

/// Parses a path id. Returns 0, which is never configured, for any other text.
fn path_number(path: PathNumber) -> u64 {
    let parse = |Path(text): Path<String>| text.strip_suffix(".json").unwrap_or(&text).parse().ok();
    path.ok().and_then(parse).unwrap_or(0)
}

/// Returns the key of a request: `Api-Key`, or the older `Authorization: Bearer` and
/// `Authorization: OAuth oauth_token="…", oauth_client_id="…"`.
fn extract_key(headers: &HeaderMap) -> Option<&str> {
    let api_key = headers.get("api-key").and_then(|value| value.to_str().ok());
    let authorization = || {
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
    api_key
        .or_else(authorization)
        .map(str::trim)
        .filter(|key| !key.is_empty())
}

/// Returns the token in the parameters of the scheme `OAuth`, quoted or not.
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

pub(super) fn check_content(head: &Parts) -> Result<(), PartnerApiError> {
    let is_plain = head
        .headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding == "identity");
    let is_json = head.headers.get(CONTENT_TYPE).is_none_or(is_json);
    if is_plain && is_json {
        return Ok(());
    }
    Err(api_error(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        "Content-Type must be application/json in UTF-8, without Content-Encoding",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_from_either_header() {
        let key_of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            extract_key(&headers).map(ToOwned::to_owned)
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

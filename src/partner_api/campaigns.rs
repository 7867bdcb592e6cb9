//! Campaign and hidden-offer methods of the partner API, which clients call before they send stock.
//!
//! Campaigns are listed from the configuration. Hidden offers are rejected with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use market_api::partner::wire::ResponsePaging;
use serde::Serialize;

use super::error::{PartnerApiError, api_error, bad_request, json_response};
use super::{PartnerApiState, PartnerShopEndpoint, PathNumber};

/// Largest `limit` of the list of campaigns. Source: `PageLimit100WithoutDefault`.
const MAX_CAMPAIGNS_PER_PAGE: usize = 100;

/// Largest `page`. Source: `PageNum`.
const MAX_PAGE_NUMBER: usize = 10_000;

/// Campaign of a configured shop, as `CampaignDTO`.
///
/// The placement type is left out: the configuration does not state it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CampaignDto {
    domain: String,
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    business: Option<BusinessDto>,
    api_availability: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct BusinessDto {
    id: u64,
}

/// `GetCampaignsResponse`.
#[derive(Serialize)]
struct CampaignListResponse {
    campaigns: Vec<CampaignDto>,
    pager: CampaignPager,
    paging: ResponsePaging,
}

/// `GetCampaignResponse`.
#[derive(Serialize)]
struct CampaignResponse {
    campaign: CampaignDto,
}

/// `FlippingPagerDTO`.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CampaignPager {
    total: usize,
    from: usize,
    to: usize,
    current_page: usize,
    pages_count: usize,
    page_size: usize,
}

/// `GET …/campaigns`: the campaigns that the key may feed, in order of their ids.
pub(super) async fn list(
    State(state): State<Arc<PartnerApiState>>,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (head, _) = request.into_parts();
    let endpoints = state.authenticate(&head, ("campaign", 0, false)).await?;
    let query = CampaignsQuery::parse(head.uri.query().unwrap_or_default())?;
    let authorized = endpoints
        .into_iter()
        .filter(|(_, is_authorized)| *is_authorized);
    let all: BTreeMap<u64, CampaignDto> = authorized
        .flat_map(|(endpoint, _)| campaigns(endpoint))
        .collect();
    Ok(json_response(StatusCode::OK, &query.page_of(&all)))
}

/// `GET …/campaigns/{campaignId}`.
pub(super) async fn show(
    State(state): State<Arc<PartnerApiState>>,
    campaign: PathNumber,
    request: Request,
) -> Result<Response, PartnerApiError> {
    let (id, endpoint) = state
        .authorize_campaign_with_id(campaign, &request.into_parts().0)
        .await?;
    let campaign = CampaignDto::new(endpoint, id);
    Ok(json_response(
        StatusCode::OK,
        &CampaignResponse { campaign },
    ))
}

/// `…/campaigns/{campaignId}/hidden-offers` and `…/hidden-offers/delete`, which are not served.
///
/// An `OK` without hiding would leave a product on sale that the seller believes to be hidden.
pub(super) async fn reject_hidden_offers(
    State(state): State<Arc<PartnerApiState>>,
    campaign: PathNumber,
    request: Request,
) -> PartnerApiError {
    match state
        .authorize_campaign(campaign, &request.into_parts().0)
        .await
    {
        Ok(_) => api_error(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "Resource not found: hidden offers are not served here, because stockbridge forwards \
             stock only; call hidden-offers on the Market's own address",
        ),
        Err(error) => error,
    }
}

fn campaigns(endpoint: &PartnerShopEndpoint) -> impl Iterator<Item = (u64, CampaignDto)> + '_ {
    endpoint
        .shop
        .campaigns
        .iter()
        .map(|id| (*id, CampaignDto::new(endpoint, *id)))
}

impl CampaignDto {
    fn new(endpoint: &PartnerShopEndpoint, id: u64) -> Self {
        Self {
            domain: endpoint.shop.name.clone(),
            id,
            business: endpoint.shop.business.map(|id| BusinessDto { id }),
            api_availability: "AVAILABLE",
        }
    }
}

/// Requested part of the list: after a token, or by page number, as older clients do.
#[derive(Debug, Default)]
struct CampaignsQuery {
    limit: Option<usize>,
    after: Option<u64>,
    page: Option<usize>,
    page_size: Option<usize>,
}

impl CampaignsQuery {
    fn parse(query: &str) -> Result<Self, PartnerApiError> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                _ if value.is_empty() => {}
                "limit" => parsed.limit = Some(parse_number(name, value, MAX_CAMPAIGNS_PER_PAGE)?),
                "page_token" | "pageToken" => {
                    let unknown = |_| bad_request(format!("'page_token' is unknown: '{value}'"));
                    parsed.after = Some(value.parse().map_err(unknown)?);
                }
                "page" => parsed.page = Some(parse_number(name, value, MAX_PAGE_NUMBER)?),
                "pageSize" | "page_size" => {
                    parsed.page_size = Some(parse_number(name, value, usize::MAX)?);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn page_of(&self, all: &BTreeMap<u64, CampaignDto>) -> CampaignListResponse {
        let size = self
            .limit
            .or(self.page_size)
            .unwrap_or_else(|| all.len().max(1));
        let skipped = match (self.after, self.page) {
            (Some(after), _) => all.range(..=after).count(),
            (None, Some(page)) => (page - 1).saturating_mul(size).min(all.len()),
            (None, None) => 0,
        };
        let page: Vec<CampaignDto> = all.values().skip(skipped).take(size).cloned().collect();
        let to = skipped + page.len();
        let next = page
            .last()
            .filter(|_| to < all.len())
            .map(|last| last.id.to_string());
        let pager = CampaignPager {
            total: all.len(),
            from: if page.is_empty() {
                skipped
            } else {
                skipped + 1
            },
            to,
            current_page: skipped / size + 1,
            pages_count: all.len().div_ceil(size),
            page_size: size,
        };
        CampaignListResponse {
            campaigns: page,
            pager,
            paging: ResponsePaging {
                next_page_token: next,
            },
        }
    }
}

fn parse_number(name: &str, value: &str, max: usize) -> Result<usize, PartnerApiError> {
    let parsed = value.parse().ok().filter(|n| (1..=max).contains(n));
    parsed.ok_or_else(|| {
        let max_text = if max == usize::MAX {
            "a large number".to_owned()
        } else {
            max.to_string()
        };
        bad_request(format!(
            "'{name}' must be a whole number between 1 and {max_text}, it is '{value}'"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> BTreeMap<u64, CampaignDto> {
        let campaign = |id| CampaignDto {
            domain: "shop".to_owned(),
            id,
            business: None,
            api_availability: "AVAILABLE",
        };
        [2, 5, 7].map(|id| (id, campaign(id))).into()
    }

    #[test]
    fn pages_by_token_and_by_number() {
        for (query, ids, next, from_to) in [
            ("", &[2_u64, 5, 7][..], None, (1, 3)),
            ("limit=2", &[2, 5], Some("5"), (1, 2)),
            ("limit=2&page_token=5", &[7], None, (3, 3)),
            ("limit=2&pageToken=2", &[5, 7], None, (2, 3)),
            ("page=2&pageSize=1", &[5], Some("5"), (2, 2)),
            ("page=9&pageSize=2", &[], None, (3, 3)),
            ("limit=&page_token=", &[2, 5, 7], None, (1, 3)),
        ] {
            let list = CampaignsQuery::parse(query).ok().unwrap().page_of(&all());
            let found: Vec<u64> = list.campaigns.iter().map(|campaign| campaign.id).collect();
            assert_eq!((found.as_slice(), list.pager.total), (ids, 3), "{query}");
            assert_eq!((list.pager.from, list.pager.to), from_to, "{query}");
            assert_eq!(list.paging.next_page_token.as_deref(), next, "{query}");
        }
    }

    #[test]
    fn rejects_invalid_page_parameters() {
        for query in [
            "limit=0",
            "limit=101",
            "limit=x",
            "page=0",
            "pageSize=0",
            "page_token=x",
        ] {
            assert!(CampaignsQuery::parse(query).is_err(), "{query}");
        }
    }
}

//! Campaigns and hidden offers: the methods that clients call before they send stock.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::refused::{Refused, answer, bad_request, refused};
use super::{Desk, House, PathNumber};
use crate::partner::wire::Paging;

/// Largest `limit` of the list of campaigns. Source: `PageLimit100WithoutDefault`.
const MAX_CAMPAIGNS_PER_PAGE: usize = 100;

/// Largest `page`. Source: `PageNum`.
const MAX_PAGE_NUMBER: usize = 10_000;

/// Campaign of a configured shop, as `CampaignDTO`.
///
/// The placement type is left out: the configuration does not state it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Campaign {
    domain: String,
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    business: Option<Business>,
    api_availability: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Business {
    id: u64,
}

/// `GetCampaignsResponse`.
#[derive(Serialize)]
struct CampaignList {
    campaigns: Vec<Campaign>,
    pager: Pager,
    paging: Paging,
}

/// `GetCampaignResponse`.
#[derive(Serialize)]
struct OneCampaign {
    campaign: Campaign,
}

/// `FlippingPagerDTO`.
#[derive(Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Pager {
    total: usize,
    from: usize,
    to: usize,
    current_page: usize,
    pages_count: usize,
    page_size: usize,
}

/// `GET …/campaigns`: the campaigns that the key may feed, in order of their ids.
pub(super) async fn list(
    State(house): State<Arc<House>>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let desks = house.try_key(&head, ("campaign", 0, false)).await?;
    let query = CampaignsQuery::parse(head.uri.query().unwrap_or_default())?;
    let open = desks.into_iter().filter(|(_, is_open)| *is_open);
    let all: BTreeMap<u64, Campaign> = open.flat_map(|(desk, _)| campaigns(desk)).collect();
    Ok(answer(StatusCode::OK, &query.cut(&all)))
}

/// `GET …/campaigns/{campaignId}`.
pub(super) async fn show(
    State(house): State<Arc<House>>,
    campaign: PathNumber,
    request: Request,
) -> Result<Response, Refused> {
    let (id, desk) = house
        .admit_to_numbered_campaign(campaign, &request.into_parts().0)
        .await?;
    let campaign = Campaign::new(desk, id);
    Ok(answer(StatusCode::OK, &OneCampaign { campaign }))
}

/// `…/campaigns/{campaignId}/hidden-offers` and `…/hidden-offers/delete`, which are not served.
///
/// An `OK` without hiding would leave a product on sale that the seller believes to be hidden.
pub(super) async fn refuse_hidden_offers(
    State(house): State<Arc<House>>,
    campaign: PathNumber,
    request: Request,
) -> Refused {
    match house
        .admit_to_campaign(campaign, &request.into_parts().0)
        .await
    {
        Ok(_) => refused(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "Resource not found: hidden offers are not served here, because stockbridge forwards \
             stock only; call hidden-offers on the Market's own address",
        ),
        Err(refusal) => refusal,
    }
}

fn campaigns(desk: &Desk) -> impl Iterator<Item = (u64, Campaign)> + '_ {
    desk.shop
        .campaigns
        .iter()
        .map(|id| (*id, Campaign::new(desk, *id)))
}

impl Campaign {
    fn new(desk: &Desk, id: u64) -> Self {
        Self {
            domain: desk.shop.name.clone(),
            id,
            business: desk.shop.business.map(|id| Business { id }),
            api_availability: "AVAILABLE",
        }
    }
}

/// Part of the list that is requested: after a token, or by page number, as older clients do.
#[derive(Debug, Default)]
struct CampaignsQuery {
    limit: Option<usize>,
    after: Option<u64>,
    page: Option<usize>,
    page_size: Option<usize>,
}

impl CampaignsQuery {
    fn parse(query: &str) -> Result<Self, Refused> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                _ if value.is_empty() => {}
                "limit" => parsed.limit = Some(number(name, value, MAX_CAMPAIGNS_PER_PAGE)?),
                "page_token" | "pageToken" => {
                    let unknown = |_| bad_request(format!("'page_token' is unknown: '{value}'"));
                    parsed.after = Some(value.parse().map_err(unknown)?);
                }
                "page" => parsed.page = Some(number(name, value, MAX_PAGE_NUMBER)?),
                "pageSize" | "page_size" => {
                    parsed.page_size = Some(number(name, value, usize::MAX)?);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }

    fn cut(&self, all: &BTreeMap<u64, Campaign>) -> CampaignList {
        let size = self
            .limit
            .or(self.page_size)
            .unwrap_or_else(|| all.len().max(1));
        let skipped = match (self.after, self.page) {
            (Some(after), _) => all.range(..=after).count(),
            (None, Some(page)) => (page - 1).saturating_mul(size).min(all.len()),
            (None, None) => 0,
        };
        let page: Vec<Campaign> = all.values().skip(skipped).take(size).cloned().collect();
        let to = skipped + page.len();
        let next = page
            .last()
            .filter(|_| to < all.len())
            .map(|last| last.id.to_string());
        let pager = Pager {
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
        CampaignList {
            campaigns: page,
            pager,
            paging: Paging {
                next_page_token: next,
            },
        }
    }
}

fn number(name: &str, value: &str, most: usize) -> Result<usize, Refused> {
    let parsed = value.parse().ok().filter(|n| (1..=most).contains(n));
    parsed.ok_or_else(|| {
        let most = if most == usize::MAX {
            "a large number".to_owned()
        } else {
            most.to_string()
        };
        bad_request(format!(
            "'{name}' must be a whole number between 1 and {most}, it is '{value}'"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> BTreeMap<u64, Campaign> {
        let campaign = |id| Campaign {
            domain: "shop".to_owned(),
            id,
            business: None,
            api_availability: "AVAILABLE",
        };
        [2, 5, 7].map(|id| (id, campaign(id))).into()
    }

    #[test]
    fn campaigns_are_cut_by_token_and_by_page_number() {
        for (query, ids, next, from_to) in [
            ("", &[2_u64, 5, 7][..], None, (1, 3)),
            ("limit=2", &[2, 5], Some("5"), (1, 2)),
            ("limit=2&page_token=5", &[7], None, (3, 3)),
            ("limit=2&pageToken=2", &[5, 7], None, (2, 3)),
            ("page=2&pageSize=1", &[5], Some("5"), (2, 2)),
            ("page=9&pageSize=2", &[], None, (3, 3)),
            ("limit=&page_token=", &[2, 5, 7], None, (1, 3)),
        ] {
            let list = CampaignsQuery::parse(query).ok().unwrap().cut(&all());
            let found: Vec<u64> = list.campaigns.iter().map(|campaign| campaign.id).collect();
            assert_eq!((found.as_slice(), list.pager.total), (ids, 3), "{query}");
            assert_eq!((list.pager.from, list.pager.to), from_to, "{query}");
            assert_eq!(list.paging.next_page_token.as_deref(), next, "{query}");
        }
    }

    #[test]
    fn wrong_page_parameters_are_refused() {
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

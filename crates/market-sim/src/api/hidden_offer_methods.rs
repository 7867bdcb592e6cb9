//! Methods that hide offers from buyers, show them again, and list the hidden ones.

use std::collections::HashSet;

use compact_str::CompactString;
use serde_json::json;

use super::page_request::{OversizePolicy, PageSizes, SimPageRequest, query_values};
use super::request_checks::require_json;
use super::sim_request::SimRequest;
use super::simulator_config::SimKeyScope;
use super::{MarketSimulator, as_u64};
use crate::request_validation;
use crate::responses::{self, SimResult};

/// Page sizes of the hidden offers. Source: `PageLimit500`.
const HIDDEN_OFFER_PAGES: PageSizes = PageSizes {
    default_size: 250,
    max_size: 500,
    oversize: OversizePolicy::Reject,
};

/// Direction of a visibility change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum VisibilityChange {
    Hide,
    Show,
}

impl MarketSimulator {
    /// Handles `POST /v2/campaigns/{campaignId}/hidden-offers` and `…/hidden-offers/delete`.
    pub(super) async fn change_visibility(
        &self,
        request: &mut SimRequest,
        change: VisibilityChange,
    ) -> SimResult {
        let campaign = self.authorize_campaign(request, SimKeyScope::WRITE)?;
        require_json(&request.head.headers)?;
        let body = self
            .read_limited_body(campaign.quota.owner, request)
            .await?;
        let is_unique = change == VisibilityChange::Hide;
        let offers = request_validation::parse_hidden_offers(&body, is_unique)?;
        request.entry.skus = offers.len();
        let mut hidden = campaign.hidden_offers.lock();
        let mut changed = 0;
        for offer in offers {
            changed += usize::from(match change {
                VisibilityChange::Hide => hidden.insert(offer),
                VisibilityChange::Show => hidden.remove(&offer),
            });
        }
        let mut log = self.state.request_log.lock();
        match change {
            VisibilityChange::Hide => log.report.offers_hidden += as_u64(changed),
            VisibilityChange::Show => log.report.offers_shown += as_u64(changed),
        }
        Ok(responses::ok())
    }

    /// Handles `GET /v2/campaigns/{campaignId}/hidden-offers`.
    pub(super) fn list_hidden_offers(&self, request: &mut SimRequest) -> SimResult {
        let campaign = self.authorize_campaign(request, SimKeyScope::READ)?;
        let page = SimPageRequest::parse(&request.head.uri, HIDDEN_OFFER_PAGES)?;
        let requested: HashSet<CompactString> = query_values(&request.head.uri, &["offer_id"])
            .map(|offer| CompactString::new(offer.trim()))
            .collect();
        let hidden = campaign.hidden_offers.lock();
        let matching = hidden
            .iter()
            .filter(|sku| requested.is_empty() || requested.contains(*sku));
        let offers = matching.map(|sku| (sku.clone(), json!({ "offerId": sku.as_str() })));
        let after = page.after.as_deref().map(CompactString::new);
        let (offers, paging) = page.take_page(offers, after.as_ref(), ToString::to_string);
        request.entry.skus = offers.len();
        let result = json!({ "hiddenOffers": offers, "paging": paging });
        Ok(responses::result(&result))
    }
}

use std::collections::HashSet;

use axum::extract::Request;
use axum::response::Response;
use compact_str::CompactString;
use serde_json::json;

use super::config::Scope;
use super::gate::require_json;
use super::page::{Beyond, Page, Pages, values};
use super::visit::Visit;
use super::{Market, as_u64, lock};
use crate::rehearsal::answers::{self, Refusal};
use crate::rehearsal::rules;

/// Pages of the hidden offers. Source: `PageLimit500`.
const PAGES: Pages = Pages {
    usual: 250,
    most: 500,
    beyond: Beyond::Refused,
};

/// Whether offers are to be hidden or shown again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Curtain {
    Hide,
    Show,
}

/// The methods that hide offers from buyers.
impl Market {
    /// `POST /v2/campaigns/{campaignId}/hidden-offers`, and `…/hidden-offers/delete`
    pub(super) async fn draw_curtain(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
        curtain: Curtain,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let campaign = self.admit(id, &head.headers, Scope::WRITE)?;
        require_json(&head.headers)?;
        let body = self.read(campaign.meter.whose, body, visit).await?;
        let offers = rules::read_hidden(&body, curtain == Curtain::Hide)
            .map_err(|message| Refusal::new(400, message))?;
        visit.logged.skus = offers.len();
        let mut hidden = campaign.hidden();
        let mut changed = 0;
        for offer in offers {
            changed += usize::from(match curtain {
                Curtain::Hide => hidden.insert(offer),
                Curtain::Show => hidden.remove(&offer),
            });
        }
        let mut journal = lock(&self.inner.journal);
        match curtain {
            Curtain::Hide => journal.report.offers_hidden += as_u64(changed),
            Curtain::Show => journal.report.offers_shown += as_u64(changed),
        }
        Ok(answers::ok())
    }

    /// `GET /v2/campaigns/{campaignId}/hidden-offers`
    pub(super) fn list_hidden(
        &self,
        id: &str,
        request: &Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let campaign = self.admit(id, request.headers(), Scope::READ)?;
        let page = Page::read(request.uri(), PAGES)?;
        let asked: HashSet<CompactString> = values(request.uri(), &["offer_id"])
            .map(|offer| CompactString::new(offer.trim()))
            .collect();
        let hidden = campaign.hidden();
        let matching = hidden
            .iter()
            .filter(|sku| asked.is_empty() || asked.contains(*sku));
        let offers = matching.map(|sku| (sku.clone(), json!({ "offerId": sku.as_str() })));
        let after = page.after.as_deref().map(CompactString::new);
        let (offers, paging) = page.cut(offers, after.as_ref(), ToString::to_string);
        visit.logged.skus = offers.len();
        let result = json!({ "hiddenOffers": offers, "paging": paging });
        Ok(answers::json(
            200,
            &json!({ "status": "OK", "result": result }),
        ))
    }
}

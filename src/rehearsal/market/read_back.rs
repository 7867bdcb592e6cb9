use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use chrono::SecondsFormat;
use compact_str::CompactString;
use serde_json::{Value, json};

use super::config::Scope;
use super::gate::{require_json, require_json_if_any};
use super::page::{Beyond, Page, Pages, paging, to_token};
use super::visit::Visit;
use super::{Market, as_u64};
use crate::rehearsal::answers::{self, Refusal};
use crate::rehearsal::cabinet::Campaign;
use crate::rehearsal::dice;
use crate::rehearsal::meter::Meter;
use crate::rehearsal::report::Verdict;
use crate::rehearsal::rules::{self, Filter};
use crate::rehearsal::shelf::{Shelf, Shown};

/// Pages of a read-back, by campaign and by business. Source: `PageLimit100Truncate`, change log of
/// 2026-08-04.
const PAGES: Pages = Pages {
    usual: 50,
    most: 100,
    beyond: Beyond::Cut,
};

/// What a read-back shows: SKUs in order.
type Offers = Vec<(CompactString, Shown)>;

/// The methods that show stock.
impl Market {
    /// `POST /v2/campaigns/{campaignId}/offers/stocks`
    pub(super) async fn read_back(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let campaign = self.admit(id, &head.headers, Scope::READ)?;
        let body = self.receive(&campaign.meter, body, visit).await?;
        require_json_if_any(&head.headers, &body)?;
        let filter = rules::read_filter(&body).map_err(|message| Refusal::new(400, message))?;
        if filter.offer_ids.is_some() {
            Page::refuse_beside_offers(&head.uri)?;
        }
        let page = Page::read(&head.uri, PAGES)?;
        let (offers, next) = self.page(&campaign.shelf, &filter, &page);
        visit.logged.skus = offers.len();
        let limit = self.inner.config.skus_per_minute;
        let good = answers::json(200, &self.listing(&campaign, &filter, &offers, next));
        self.answer_read_back(&campaign.meter, (offers.len(), limit), good, visit)
            .await
    }

    /// `POST /v3/businesses/{businessId}/offers/stocks`
    pub(super) async fn read_back_business(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let (business, key) = self.admit_to_business(id, &head.headers, Scope::READ)?;
        let body = self.receive(&business.meter, body, visit).await?;
        require_json(&head.headers)?;
        let (warehouse, filter) =
            rules::read_business_filter(&body).map_err(|message| Refusal::new(400, message))?;
        if filter.offer_ids.is_some() {
            Page::refuse_beside_offers(&head.uri)?;
        }
        let page = Page::read(&head.uri, PAGES)?;
        let campaign = Self::admit_to_warehouse(business, warehouse, key).unwrap_or_else(|| {
            let message = "'partnerWarehouseId' must be a warehouse of the business";
            Err(Refusal::new(400, message))
        })?;
        let (offers, next) = self.page(&campaign.shelf, &filter, &page);
        visit.logged.skus = offers.len();
        let limit = self.inner.config.business_read_backs_per_minute;
        let good = answers::json(
            200,
            &json!({ "status": "OK", "result": {
                "partnerWarehouseId": warehouse,
                "offers": self.spell(&offers),
                "paging": paging(next),
            } }),
        );
        self.answer_read_back(&Arc::clone(&business.meter), (1, limit), good, visit)
            .await
    }

    /// Charges so much to this limit, and answers if the plan lets it.
    async fn answer_read_back(
        &self,
        meter: &Meter,
        (amount, limit): (usize, usize),
        good: Response,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        meter
            .charge_read_back(visit.arrived, amount, limit)
            .map_err(|wait| self.over_the_limit(meter, amount, limit, wait))?;
        let fate = self.draw(true);
        match fate.drawn {
            None => Ok(good),
            Some((fault, dice)) => {
                visit.logged.verdict = Verdict::Faulted(fault);
                Ok(self.misbehave(meter, &fate, fault, dice, good).await)
            }
        }
    }

    fn page(&self, shelf: &Shelf, filter: &Filter, page: &Page) -> (Offers, Option<String>) {
        let now = self.now();
        let passes = |sku: &str, shown: &Shown| {
            filter
                .has_stocks
                .is_none_or(|has| has == (shown.available > 0))
                && self.inner.config.sells(sku)
        };
        if let Some(ids) = &filter.offer_ids {
            let shown = |sku: &String| Some((CompactString::new(sku), shelf.shown(sku, now)?));
            let offers = ids
                .iter()
                .filter_map(shown)
                .filter(|(sku, shown)| passes(sku, shown));
            return (offers.collect(), None);
        }
        let mut limit = page.limit;
        if self.inner.config.thin_pages {
            let length = page.after.as_ref().map_or(0, |after| as_u64(after.len()));
            let share = dice::share(dice::throw(length, as_u64(limit)));
            limit = if share < 0.5 {
                limit
            } else {
                limit.div_ceil(3)
            };
        }
        let after = page.after.as_deref();
        let (offers, is_more) = shelf.page(after, limit, filter.archived, now, passes);
        let next = offers
            .last()
            .filter(|_| is_more)
            .map(|(sku, _)| to_token(sku));
        (offers, next)
    }

    fn listing(
        &self,
        campaign: &Campaign,
        filter: &Filter,
        offers: &[(CompactString, Shown)],
        next: Option<String>,
    ) -> Value {
        let returned = |(sku, _): &(CompactString, Shown)| {
            let stocks =
                json!([{ "type": "FIT", "count": 1 }, { "type": "AVAILABLE", "count": 1 }]);
            json!({ "offerId": sku.as_str(), "stocks": stocks })
        };
        let own = campaign.config.warehouse;
        let is_asked_for = |id: u64| filter.warehouse.is_none_or(|asked| asked == id);
        let mut warehouses = Vec::new();
        if let Some(id) = self
            .inner
            .config
            .return_warehouse
            .filter(|id| is_asked_for(*id))
        {
            let offers: Vec<Value> = offers.iter().map(returned).collect();
            warehouses.push(json!({ "warehouseId": id, "offers": offers }));
        }
        if is_asked_for(own) {
            warehouses.push(json!({ "warehouseId": own, "offers": self.spell(offers) }));
        }
        let result = json!({ "paging": paging(next), "warehouses": warehouses });
        json!({ "status": "OK", "result": result })
    }

    /// The offers as both methods spell them.
    fn spell(&self, offers: &[(CompactString, Shown)]) -> Vec<Value> {
        let reserved = u64::from(self.inner.config.reserved);
        let spell = |(sku, shown): &(CompactString, Shown)| {
            let fit = u64::from(shown.available) + u64::from(shown.frozen) + reserved;
            let mut stocks = vec![json!({ "type": "FIT", "count": fit })];
            if shown.frozen > 0 {
                stocks.push(json!({ "type": "FREEZE", "count": shown.frozen }));
            }
            stocks.push(json!({ "type": "AVAILABLE", "count": shown.available }));
            let at = shown
                .updated_at
                .to_utc()
                .to_rfc3339_opts(SecondsFormat::AutoSi, true);
            json!({ "offerId": sku.as_str(), "stocks": stocks, "updatedAt": at })
        };
        offers.iter().map(spell).collect()
    }
}

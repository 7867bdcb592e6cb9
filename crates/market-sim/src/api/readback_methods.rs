//! Read-back methods: the Market's copy of the stock, page by page, for campaigns and businesses.

use axum::http::Uri;
use chrono::SecondsFormat;
use compact_str::CompactString;
use serde_json::{Value, json};

use super::page_request::{
    OversizePolicy, PageSizes, SimPageRequest, encode_page_token, paging_json,
};
use super::request_checks::{require_json, require_json_unless_empty};
use super::sim_request::SimRequest;
use super::simulator_config::SimKeyScope;
use super::{MarketSimulator, as_u64};
use crate::quota::QuotaTracker;
use crate::registry::SimCampaign;
use crate::request_validation::{self, SimReadbackFilter};
use crate::responses::{self, SimError, SimResult};
use crate::seeded_random;
use crate::simulator_report::RequestOutcome;
use crate::warehouse_stock::{SimWarehouseStock, VisibleStock};

/// Page sizes of a read-back, by campaign and by business. Source: `PageLimit100Truncate`, change
/// log of 2026-08-04.
const READBACK_PAGES: PageSizes = PageSizes {
    default_size: 50,
    max_size: 100,
    oversize: OversizePolicy::Truncate,
};

/// Visible stock of a page, sorted by SKU unless the request has `offerIds`.
type VisibleOffers = Vec<(CompactString, VisibleStock)>;

impl MarketSimulator {
    /// Handles `POST /v2/campaigns/{campaignId}/offers/stocks`.
    pub(super) async fn readback(&self, request: &mut SimRequest) -> SimResult {
        let campaign = self.authorize_campaign(request, SimKeyScope::READ)?;
        let body = self.acquire_slot_and_read(&campaign.quota, request).await?;
        require_json_unless_empty(&request.head.headers, &body)?;
        let filter = request_validation::parse_readback_filter(&body)?;
        let page = parse_page(&request.head.uri, &filter)?;
        let (offers, next) = self.select_page(&campaign.stock, &filter, &page);
        request.entry.skus = offers.len();
        let limit = self.state.config.skus_per_minute;
        let result = self.campaign_readback_json(&campaign, &filter, &offers, next);
        self.charge_and_respond(&campaign.quota, (offers.len(), limit), &result, request)
            .await
    }

    /// Handles `POST /v3/businesses/{businessId}/offers/stocks`.
    pub(super) async fn readback_business(&self, request: &mut SimRequest) -> SimResult {
        let (business, key) = self.authorize_business(request, SimKeyScope::READ)?;
        let body = self.acquire_slot_and_read(&business.quota, request).await?;
        require_json(&request.head.headers)?;
        let (warehouse, filter) = request_validation::parse_business_readback_filter(&body)?;
        let page = parse_page(&request.head.uri, &filter)?;
        let campaign = Self::authorize_warehouse(business, warehouse, &key);
        let message = "'partnerWarehouseId' must be a warehouse of the business";
        let campaign = campaign.ok_or_else(|| SimError::new(400, message))??;
        let (offers, next) = self.select_page(&campaign.stock, &filter, &page);
        request.entry.skus = offers.len();
        let limit = self.state.config.business_readbacks_per_minute;
        let result = json!({
            "partnerWarehouseId": warehouse,
            "offers": self.offers_json(&offers),
            "paging": paging_json(next),
        });
        self.charge_and_respond(&business.quota, (1, limit), &result, request)
            .await
    }

    /// Charges `amount` to the quota, and returns the response or the fault of the plan.
    async fn charge_and_respond(
        &self,
        quota: &QuotaTracker,
        (amount, limit): (usize, usize),
        result: &Value,
        request: &mut SimRequest,
    ) -> SimResult {
        quota
            .charge_readback(request.arrived, amount, limit)
            .map_err(|wait| self.reject_over_limit(quota, amount, limit, wait))?;
        let planned = self.next_outcome(true);
        let response = responses::result(result);
        let Some((fault, random)) = planned.fault else {
            return Ok(response);
        };
        request.entry.outcome = RequestOutcome::Faulted(fault);
        Ok(self
            .respond_with_fault(quota, &planned, fault, random, response)
            .await)
    }

    fn select_page(
        &self,
        stock: &SimWarehouseStock,
        filter: &SimReadbackFilter,
        page: &SimPageRequest,
    ) -> (VisibleOffers, Option<String>) {
        let now = self.now();
        let matches_filter = |sku: &str, visible: &VisibleStock| {
            let has_stock = visible.available > 0;
            filter.has_stocks.is_none_or(|wanted| wanted == has_stock)
                && self.state.config.sells(sku)
        };
        if let Some(ids) = &filter.offer_ids {
            let find_visible =
                |sku: &String| Some((CompactString::new(sku), stock.visible_stock(sku, now)?));
            let offers = ids.iter().filter_map(find_visible);
            let offers = offers.filter(|(sku, visible)| matches_filter(sku, visible));
            return (offers.collect(), None);
        }
        let mut limit = page.limit;
        if self.state.config.short_pages {
            let length = page.after.as_ref().map_or(0, |after| as_u64(after.len()));
            let fraction = seeded_random::fraction(seeded_random::number(length, as_u64(limit)));
            if fraction >= 0.5 {
                limit = limit.div_ceil(3);
            }
        }
        let after = page.after.as_deref();
        let (offers, has_more) = stock.page(after, limit, filter.archived, now, matches_filter);
        let last = offers.last().filter(|_| has_more);
        let next = last.map(|(sku, _)| encode_page_token(sku));
        (offers, next)
    }

    fn campaign_readback_json(
        &self,
        campaign: &SimCampaign,
        filter: &SimReadbackFilter,
        offers: &[(CompactString, VisibleStock)],
        next: Option<String>,
    ) -> Value {
        let returned_offer_json = |(sku, _): &(CompactString, VisibleStock)| {
            let stocks =
                json!([{ "type": "FIT", "count": 1 }, { "type": "AVAILABLE", "count": 1 }]);
            json!({ "offerId": sku.as_str(), "stocks": stocks })
        };
        let own_warehouse = campaign.config.warehouse;
        let is_requested = |id: u64| filter.warehouse.is_none_or(|requested| requested == id);
        let mut warehouses = Vec::new();
        let return_warehouse = self.state.config.return_warehouse;
        if let Some(id) = return_warehouse.filter(|id| is_requested(*id)) {
            let offers: Vec<Value> = offers.iter().map(returned_offer_json).collect();
            warehouses.push(json!({ "warehouseId": id, "offers": offers }));
        }
        if is_requested(own_warehouse) {
            let offers = self.offers_json(offers);
            warehouses.push(json!({ "warehouseId": own_warehouse, "offers": offers }));
        }
        json!({ "paging": paging_json(next), "warehouses": warehouses })
    }

    /// Returns the offers in the JSON shape of both methods.
    fn offers_json(&self, offers: &[(CompactString, VisibleStock)]) -> Vec<Value> {
        let reserved = u64::from(self.state.config.reserved);
        let offer_json = |(sku, visible): &(CompactString, VisibleStock)| {
            let fit = u64::from(visible.available) + u64::from(visible.frozen) + reserved;
            let mut stocks = vec![json!({ "type": "FIT", "count": fit })];
            if visible.frozen > 0 {
                stocks.push(json!({ "type": "FREEZE", "count": visible.frozen }));
            }
            stocks.push(json!({ "type": "AVAILABLE", "count": visible.available }));
            let at = visible.updated_at.to_utc();
            let at = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            json!({ "offerId": sku.as_str(), "stocks": stocks, "updatedAt": at })
        };
        offers.iter().map(offer_json).collect()
    }
}

/// Parses the pagination of a read-back. With `offerIds`, the response is one page.
fn parse_page(uri: &Uri, filter: &SimReadbackFilter) -> SimResult<SimPageRequest> {
    if filter.offer_ids.is_some() {
        SimPageRequest::reject_with_offer_ids(uri)?;
    }
    SimPageRequest::parse(uri, READBACK_PAGES)
}

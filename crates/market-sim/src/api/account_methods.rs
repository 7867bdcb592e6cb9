//! Methods about a seller's account: scopes of the key, campaigns and warehouses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::MarketSimulator;
use super::page_request::{OversizePolicy, PageSizes, SimPageRequest};
use super::request_checks::require_json_unless_empty;
use super::sim_request::SimRequest;
use super::simulator_config::SimKeyScope;
use crate::registry::{SimBusiness, SimCampaign};
use crate::request_validation::{self, WarehouseFilter};
use crate::responses::{self, SimResult};

/// Page sizes of the campaign list. Without `limit`, one page has all campaigns.
/// Source: `PageLimit100WithoutDefault`.
const CAMPAIGN_PAGES: PageSizes = PageSizes {
    default_size: usize::MAX,
    max_size: 100,
    oversize: OversizePolicy::Reject,
};

/// Page sizes of the warehouse lists. Source: `PageLimit30`.
const WAREHOUSE_PAGES: PageSizes = PageSizes {
    default_size: 15,
    max_size: 30,
    oversize: OversizePolicy::Reject,
};

/// Most campaign ids in the filter of a warehouse list.
/// Source: `GetPagedWarehousesRequest.campaignIds.maxItems`.
const MAX_CAMPAIGN_IDS: usize = 25;

impl MarketSimulator {
    /// Handles `POST /v2/auth/token` for any valid key.
    pub(super) fn show_key(&self, request: &SimRequest) -> SimResult {
        let key = self.authenticate(request)?;
        let scopes = self.state.config.scopes_of(&key);
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        // The response omits the key, because it may end up in a log.
        let api_key = json!({ "name": "rehearsal", "authScopes": scopes });
        Ok(responses::result(&json!({ "apiKey": api_key })))
    }

    /// Handles `GET /v2/campaigns`: the campaigns of the key, including disabled ones.
    pub(super) fn list_campaigns(&self, request: &SimRequest) -> SimResult {
        let key = self.authenticate(request)?;
        let page = SimPageRequest::parse(&request.head.uri, CAMPAIGN_PAGES)?;
        let all = self.state.registry.campaigns.values();
        let allowed = all.filter(|campaign| campaign.accepts_key(&key));
        let allowed = allowed.map(|campaign| (campaign.id(), campaign_json(campaign)));
        let (campaigns, paging) =
            page.take_page(allowed, page.after_id()?.as_ref(), u64::to_string);
        let body = json!({ "campaigns": campaigns, "paging": paging });
        Ok(responses::json(200, &body))
    }

    /// Handles `GET /v2/campaigns/{campaignId}`, also for a disabled campaign.
    pub(super) fn show_campaign(&self, request: &SimRequest) -> SimResult {
        let key = self.authenticate(request)?;
        let campaign = campaign_json(&*self.find_campaign(&request.id, &key)?);
        Ok(responses::json(200, &json!({ "campaign": campaign })))
    }

    /// Handles `POST /v2/businesses/{businessId}/warehouses`: one entry per campaign.
    pub(super) async fn list_warehouses(&self, request: &mut SimRequest) -> SimResult {
        let parse_filter = |body: &[u8]| {
            let (ids, components) = ("campaignIds", ["ADDRESS", "STATUS"]);
            request_validation::parse_warehouse_filter(body, ids, MAX_CAMPAIGN_IDS, &components)
        };
        let list = |business: &SimBusiness, filter: &WarehouseFilter| {
            let campaigns = business.campaigns.iter();
            campaigns
                .filter(|campaign| filter.selects(campaign.id()))
                .map(|campaign| (campaign.id(), warehouse_json(campaign, filter.with_status)))
                .collect()
        };
        self.list_for_business(request, parse_filter, list).await
    }

    /// Handles `POST /v3/businesses/{businessId}/warehouses`: one entry per warehouse.
    pub(super) async fn list_partner_warehouses(&self, request: &mut SimRequest) -> SimResult {
        let parse_filter = |body: &[u8]| {
            let (ids, components) = ("warehouseIds", ["ADDRESS"]);
            request_validation::parse_warehouse_filter(body, ids, usize::MAX, &components)
        };
        let list = |business: &SimBusiness, filter: &WarehouseFilter| {
            let mut warehouses: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
            let campaigns = business.campaigns.iter();
            for campaign in campaigns.filter(|c| c.config.placement.has_partner_warehouse()) {
                let models = warehouses.entry(campaign.config.warehouse).or_default();
                models.push(json!({
                    "placementType": campaign.config.placement.to_string(),
                    "apiAvailability": campaign.config.availability.to_string(),
                }));
            }
            let warehouse_json = |(id, models): (u64, Vec<Value>)| {
                let json = json!({ "id": id, "name": warehouse_name(id), "models": models });
                (id, json)
            };
            let warehouses = warehouses.into_iter().filter(|(id, _)| filter.selects(*id));
            warehouses.map(warehouse_json).collect()
        };
        self.list_for_business(request, parse_filter, list).await
    }

    async fn list_for_business(
        &self,
        request: &mut SimRequest,
        parse_filter: impl Fn(&[u8]) -> Result<WarehouseFilter, String>,
        list: impl Fn(&SimBusiness, &WarehouseFilter) -> Vec<(u64, Value)>,
    ) -> SimResult {
        let (business, _) = self.authorize_business(request, SimKeyScope::WAREHOUSES)?;
        let body = self
            .read_limited_body(business.quota.owner, request)
            .await?;
        require_json_unless_empty(&request.head.headers, &body)?;
        let filter = parse_filter(&body)?;
        let page = SimPageRequest::parse(&request.head.uri, WAREHOUSE_PAGES)?;
        let all = list(business, &filter).into_iter();
        let (warehouses, paging) = page.take_page(all, page.after_id()?.as_ref(), u64::to_string);
        let result = json!({ "warehouses": warehouses, "paging": paging });
        Ok(responses::result(&result))
    }
}

fn campaign_json(campaign: &SimCampaign) -> Value {
    let config = &campaign.config;
    let business = campaign.business_id();
    json!({
        "domain": config.domain,
        "id": config.id,
        "business": { "id": business, "name": format!("Business {business}") },
        "placementType": config.placement.to_string(),
        "apiAvailability": config.availability.to_string(),
    })
}

/// Returns a `WarehouseDetailsDTO`. The optional address is always omitted.
fn warehouse_json(campaign: &SimCampaign, with_status: bool) -> Value {
    let config = &campaign.config;
    let mut warehouse = json!({
        "id": config.warehouse,
        "name": warehouse_name(config.warehouse),
        "campaignId": config.id,
        "express": false,
    });
    if let Some(group) = &config.group {
        warehouse["groupInfo"] = json!({ "id": group.id, "name": group.name });
    }
    if with_status {
        warehouse["status"] = json!({ "status": "OTHER" });
    }
    warehouse
}

fn warehouse_name(warehouse: u64) -> String {
    format!("Warehouse {warehouse}")
}

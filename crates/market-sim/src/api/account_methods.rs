//! Methods about a seller's account: scopes of the key, campaigns and warehouses.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::MarketSimulator;
use super::page_request::{OversizePolicy, PageSizes, SimPageRequest};
use super::request_checks::require_json_unless_empty;
use super::request_trace::RequestTrace;
use super::simulator_config::SimKeyScope;
use crate::registry::{SimBusiness, SimCampaign};
use crate::request_validation::{self, WarehouseFilter};
use crate::responses::{self, SimErrorResponse};

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
    pub(super) fn show_key(&self, request: &Request) -> Result<Response, SimErrorResponse> {
        let key = self.authenticate(request.headers())?;
        let scopes = self.state.config.scopes_of(key);
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        // The response omits the key, because it may end up in a log.
        let api_key = json!({ "name": "rehearsal", "authScopes": scopes });
        let body = json!({ "status": "OK", "result": { "apiKey": api_key } });
        Ok(responses::json(200, &body))
    }

    /// Handles `GET /v2/campaigns`: the campaigns of the key, including disabled ones.
    pub(super) fn list_campaigns(&self, request: &Request) -> Result<Response, SimErrorResponse> {
        let key = self.authenticate(request.headers())?;
        let page = SimPageRequest::parse(request.uri(), CAMPAIGN_PAGES)?;
        let all = self.state.registry.campaigns.values();
        let allowed = all.filter(|campaign| campaign.accepts_key(key));
        let allowed = allowed.map(|campaign| (campaign.id(), campaign_json(campaign)));
        let (campaigns, paging) =
            page.take_page(allowed, page.after_id()?.as_ref(), u64::to_string);
        Ok(responses::json(
            200,
            &json!({ "campaigns": campaigns, "paging": paging }),
        ))
    }

    /// Handles `GET /v2/campaigns/{campaignId}`, also for a disabled campaign.
    pub(super) fn show_campaign(
        &self,
        id: &str,
        request: &Request,
    ) -> Result<Response, SimErrorResponse> {
        let key = self.authenticate(request.headers())?;
        let campaign = campaign_json(&*self.find_campaign(id, key)?);
        Ok(responses::json(200, &json!({ "campaign": campaign })))
    }

    /// Handles `POST /v2/businesses/{businessId}/warehouses`: one entry per campaign.
    pub(super) async fn list_warehouses(
        &self,
        id: &str,
        request: Request,
        trace: &mut RequestTrace,
    ) -> Result<Response, SimErrorResponse> {
        let parse_filter = |body: &[u8]| {
            let components = ["ADDRESS", "STATUS"];
            request_validation::parse_warehouse_filter(
                body,
                "campaignIds",
                MAX_CAMPAIGN_IDS,
                &components,
            )
        };
        let list = |business: &SimBusiness, filter: &WarehouseFilter| {
            let campaigns = business.campaigns.iter();
            let is_requested = |id: u64| filter.ids.as_ref().is_none_or(|ids| ids.contains(&id));
            campaigns
                .filter(|campaign| is_requested(campaign.id()))
                .map(|campaign| (campaign.id(), warehouse_json(campaign, filter.with_status)))
                .collect()
        };
        self.list_for_business(id, request, trace, parse_filter, list)
            .await
    }

    /// Handles `POST /v3/businesses/{businessId}/warehouses`: one entry per warehouse.
    pub(super) async fn list_partner_warehouses(
        &self,
        id: &str,
        request: Request,
        trace: &mut RequestTrace,
    ) -> Result<Response, SimErrorResponse> {
        let parse_filter = |body: &[u8]| {
            request_validation::parse_warehouse_filter(
                body,
                "warehouseIds",
                usize::MAX,
                &["ADDRESS"],
            )
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
            warehouses
                .into_iter()
                .filter(|(id, _)| filter.ids.as_ref().is_none_or(|ids| ids.contains(id)))
                .map(|(id, models)| {
                    (
                        id,
                        json!({ "id": id, "name": warehouse_name(id), "models": models }),
                    )
                })
                .collect()
        };
        self.list_for_business(id, request, trace, parse_filter, list)
            .await
    }

    async fn list_for_business(
        &self,
        id: &str,
        request: Request,
        trace: &mut RequestTrace,
        parse_filter: impl Fn(&[u8]) -> Result<WarehouseFilter, String>,
        list: impl Fn(&SimBusiness, &WarehouseFilter) -> Vec<(u64, Value)>,
    ) -> Result<Response, SimErrorResponse> {
        let (head, body) = request.into_parts();
        let (business, _) = self.authorize_business(id, &head.headers, SimKeyScope::WAREHOUSES)?;
        let body = self
            .read_limited_body(business.quota.owner, body, trace)
            .await?;
        require_json_unless_empty(&head.headers, &body)?;
        let filter = parse_filter(&body).map_err(|message| SimErrorResponse::new(400, message))?;
        let page = SimPageRequest::parse(&head.uri, WAREHOUSE_PAGES)?;
        let all = list(business, &filter).into_iter();
        let (warehouses, paging) = page.take_page(all, page.after_id()?.as_ref(), u64::to_string);
        let result = json!({ "warehouses": warehouses, "paging": paging });
        Ok(responses::json(
            200,
            &json!({ "status": "OK", "result": result }),
        ))
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

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::response::Response;
use serde_json::{Value, json};

use super::Market;
use super::config::Scope;
use super::gate::require_json_if_any;
use super::page::{Beyond, Page, Pages};
use super::visit::Visit;
use crate::rehearsal::answers::{self, Refusal};
use crate::rehearsal::cabinet::{Business, Campaign};
use crate::rehearsal::rules::{self, WarehouseFilter};

/// Pages of the campaigns: all there are, unless fewer are asked for.
/// Source: `PageLimit100WithoutDefault`.
const CAMPAIGN_PAGES: Pages = Pages {
    usual: usize::MAX,
    most: 100,
    beyond: Beyond::Refused,
};

/// Pages of the warehouses. Source: `PageLimit30`.
const WAREHOUSE_PAGES: Pages = Pages {
    usual: 15,
    most: 30,
    beyond: Beyond::Refused,
};

/// Most campaigns that a list of warehouses is asked for.
/// Source: `GetPagedWarehousesRequest.campaignIds.maxItems`.
const MAX_CAMPAIGN_IDS: usize = 25;

/// The methods that show a cabinet: keys, campaigns and warehouses.
impl Market {
    /// `POST /v2/auth/token`, for any key that is good.
    pub(super) fn show_key(&self, request: &Request) -> Result<Response, Refusal> {
        let key = self.caller(request.headers())?;
        let scopes = self.inner.config.scopes_of(key);
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        // Not the key itself: what is answered may end up in a log.
        let api_key = json!({ "name": "rehearsal", "authScopes": scopes });
        let body = json!({ "status": "OK", "result": { "apiKey": api_key } });
        Ok(answers::json(200, &body))
    }

    /// `GET /v2/campaigns`, for any key: those it may speak for, also if they are disabled.
    pub(super) fn list_campaigns(&self, request: &Request) -> Result<Response, Refusal> {
        let key = self.caller(request.headers())?;
        let page = Page::read(request.uri(), CAMPAIGN_PAGES)?;
        let all = self.inner.registry.campaigns.values();
        let own = all.filter(|campaign| campaign.opens_to(key));
        let own = own.map(|campaign| (campaign.id(), spell_campaign(campaign)));
        let (campaigns, paging) = page.cut(own, page.after_number()?.as_ref(), u64::to_string);
        Ok(answers::json(
            200,
            &json!({ "campaigns": campaigns, "paging": paging }),
        ))
    }

    /// `GET /v2/campaigns/{campaignId}`, also of one that is disabled.
    pub(super) fn show_campaign(&self, id: &str, request: &Request) -> Result<Response, Refusal> {
        let key = self.caller(request.headers())?;
        let campaign = spell_campaign(&*self.find_campaign(id, key)?);
        Ok(answers::json(200, &json!({ "campaign": campaign })))
    }

    /// `POST /v2/businesses/{businessId}/warehouses`: an entry for each campaign.
    pub(super) async fn list_warehouses(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let read = |body: &[u8]| {
            let components = ["ADDRESS", "STATUS"];
            rules::read_warehouse_filter(body, "campaignIds", MAX_CAMPAIGN_IDS, &components)
        };
        let list = |business: &Business, filter: &WarehouseFilter| {
            let campaigns = business.campaigns.iter();
            let is_asked_for = |id: u64| filter.ids.as_ref().is_none_or(|ids| ids.contains(&id));
            campaigns
                .filter(|campaign| is_asked_for(campaign.id()))
                .map(|campaign| (campaign.id(), spell_warehouse(campaign, filter.with_status)))
                .collect()
        };
        self.list_of_business(id, request, visit, read, list).await
    }

    /// `POST /v3/businesses/{businessId}/warehouses`: an entry for each warehouse.
    pub(super) async fn list_partner_warehouses(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
    ) -> Result<Response, Refusal> {
        let read = |body: &[u8]| {
            rules::read_warehouse_filter(body, "warehouseIds", usize::MAX, &["ADDRESS"])
        };
        let list = |business: &Business, filter: &WarehouseFilter| {
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
                .map(|(id, models)| (id, json!({ "id": id, "name": name(id), "models": models })))
                .collect()
        };
        self.list_of_business(id, request, visit, read, list).await
    }

    async fn list_of_business(
        &self,
        id: &str,
        request: Request,
        visit: &mut Visit,
        read: impl Fn(&[u8]) -> Result<WarehouseFilter, String>,
        list: impl Fn(&Business, &WarehouseFilter) -> Vec<(u64, Value)>,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let (business, _) = self.admit_to_business(id, &head.headers, Scope::WAREHOUSES)?;
        let body = self.read(business.meter.whose, body, visit).await?;
        require_json_if_any(&head.headers, &body)?;
        let filter = read(&body).map_err(|message| Refusal::new(400, message))?;
        let page = Page::read(&head.uri, WAREHOUSE_PAGES)?;
        let all = list(business, &filter).into_iter();
        let (warehouses, paging) = page.cut(all, page.after_number()?.as_ref(), u64::to_string);
        let result = json!({ "warehouses": warehouses, "paging": paging });
        Ok(answers::json(
            200,
            &json!({ "status": "OK", "result": result }),
        ))
    }
}

fn spell_campaign(campaign: &Campaign) -> Value {
    let config = &campaign.config;
    let business = campaign.business();
    json!({
        "domain": config.domain,
        "id": config.id,
        "business": { "id": business, "name": format!("Business {business}") },
        "placementType": config.placement.to_string(),
        "apiAvailability": config.availability.to_string(),
    })
}

/// As `WarehouseDetailsDTO`; an address is optional there, and never given here.
fn spell_warehouse(campaign: &Campaign, with_status: bool) -> Value {
    let config = &campaign.config;
    let mut warehouse = json!({
        "id": config.warehouse,
        "name": name(config.warehouse),
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

fn name(warehouse: u64) -> String {
    format!("Warehouse {warehouse}")
}

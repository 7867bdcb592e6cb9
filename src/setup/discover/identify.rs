//! Meaning of an id in a cabinet. Campaign, business, warehouse and group ids look alike, and the
//! cabinet also shows a shop id that the API never accepts.

use std::collections::BTreeMap;

use market_api::partner::account::{MarketCampaign, MarketWarehouse};

use crate::setup::account_probe::{AccountProbe, id_with_name, join_ids, join_named};

/// Describes `number` in one sentence for each thing that has this id.
pub(super) fn identify(
    number: u64,
    campaigns: &[MarketCampaign],
    accounts: &BTreeMap<u64, AccountProbe>,
) -> Vec<String> {
    let as_campaign = campaigns
        .iter()
        .filter(|campaign| campaign.id == number)
        .map(|campaign| {
            let name = id_with_name(number, campaign.name());
            format!("{name} is a campaign id. Use it for campaign or feed_campaigns.")
        });
    let as_business = campaigns
        .iter()
        .find(|campaign| campaign.business_id() == Some(number));
    let as_business = as_business.map(|_| {
        let own = campaigns
            .iter()
            .filter(|c| c.business_id() == Some(number))
            .map(|c| c.id);
        format!(
            "{number} is the business id of the cabinet. Use it for business, not for campaign. \
             Its campaigns are {}.",
            join_ids(own)
        )
    });
    let warehouses = || accounts.values().flat_map(AccountProbe::warehouses);
    let as_warehouse = warehouses()
        .filter(|w| w.id == number)
        .map(describe_warehouse);
    let group: Vec<&MarketWarehouse> = warehouses().filter(|w| w.group() == Some(number)).collect();
    let as_group = (!group.is_empty()).then(|| {
        format!(
            "{number} is the id of a warehouse group. No setting takes it. Its warehouses are {}.",
            join_ids(group.iter().map(|w| w.id))
        )
    });
    let as_partner = accounts
        .values()
        .flat_map(AccountProbe::partner)
        .filter(|p| p.id == number);
    let as_partner = as_partner.map(|partner| {
        let name = id_with_name(number, partner.name.as_deref().unwrap_or_default());
        format!(
            "{name} is a warehouse id of the methods by business. Use it for partner_warehouses."
        )
    });
    let found: Vec<String> = as_campaign
        .chain(as_business)
        .chain(as_warehouse)
        .chain(as_group)
        .chain(as_partner)
        .collect();
    if found.is_empty() {
        vec![describe_unknown(number, campaigns)]
    } else {
        found
    }
}

fn describe_warehouse(warehouse: &MarketWarehouse) -> String {
    let name = id_with_name(warehouse.id, warehouse.name());
    let campaign = match warehouse.campaign_id {
        Some(id) => format!("Its campaign is {id}."),
        None => "It belongs to no campaign.".to_owned(),
    };
    format!("{name} is a warehouse id. Use it for warehouses. {campaign}")
}

fn describe_unknown(number: u64, campaigns: &[MarketCampaign]) -> String {
    let instead = if campaigns.is_empty() {
        "This key sees no campaign.".to_owned()
    } else {
        let names = join_named(campaigns.iter().map(|c| (c.id, c.name())));
        format!("The campaigns of this key are {names}.")
    };
    format!(
        "{number} is unknown to this key. It may be the shop id that the cabinet shows beside the \
         shop's name. The API does not accept that id. {instead}"
    )
}

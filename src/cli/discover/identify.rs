//! What a number is in a cabinet: three kinds of them look alike, and a fourth is in sight.

use std::collections::BTreeMap;

use crate::cli::account_probe::{AccountProbe, id_with_name, join_ids};
use crate::partner_api::account::{MarketCampaign, MarketWarehouse};

/// Says what `number` is, in a sentence for each thing that has it.
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
            format!("{name} is a campaign id: for campaign, or for feed_campaigns.")
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
            "{number} is a business id, of the whole cabinet: for business, never for campaign. \
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
            "{number} is the id of a group of warehouses, which no setting takes. In it are the \
             warehouses {}.",
            join_ids(group.iter().map(|w| w.id))
        )
    });
    let as_partner = accounts
        .values()
        .flat_map(AccountProbe::partner)
        .filter(|p| p.id == number);
    let as_partner = as_partner.map(|partner| {
        let name = id_with_name(number, partner.name.as_deref().unwrap_or_default());
        format!("{name} is a warehouse id of the methods by business: for partner_warehouses.")
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
        Some(id) => format!("its campaign is {id}"),
        None => "it is of no campaign".to_owned(),
    };
    format!("{name} is a warehouse id: for warehouses; {campaign}.")
}

fn describe_unknown(number: u64, campaigns: &[MarketCampaign]) -> String {
    let names: Vec<String> = campaigns
        .iter()
        .map(|c| id_with_name(c.id, c.name()))
        .collect();
    let instead = if names.is_empty() {
        "this key sees no campaign".to_owned()
    } else {
        format!("the campaigns this key sees are {}", names.join(", "))
    };
    format!(
        "{number} is nothing this key sees: perhaps the shop id shown beside the shop's name in \
         the cabinet, which the API never takes; {instead}."
    )
}

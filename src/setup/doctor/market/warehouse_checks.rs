//! Checks of each shop's method and warehouses against the Market's lists.

use std::collections::{BTreeMap, BTreeSet};

use market_api::partner::account::MarketWarehouse;
use market_api::partner::wire::MarketAddress;

use super::error_text;
use super::market_facts::MarketFacts;
use crate::config::ShopConfig;
use crate::setup::account_probe::{
    AccountProbe, GRANT_LIST_HINT, join_ids, join_named, partner_name,
};
use crate::setup::doctor::finding::Finding;

pub(super) fn check_method(shop: &ShopConfig, business: u64, account: &AccountProbe) -> Finding {
    let about = format!("method of {}", shop.name);
    match (&shop.address, account.has_groups()) {
        (MarketAddress::Campaign { .. }, true) => Finding::ok(
            about,
            format!("campaign, and the cabinet {business} has groups"),
        ),
        (MarketAddress::Business { .. }, false) => Finding::ok(
            about,
            format!("business, and the cabinet {business} has no groups"),
        ),
        (MarketAddress::Business { .. }, true) => Finding::fail(
            about,
            format!(
                "business, but the cabinet {business} has warehouse groups, which need the method \
                 campaign"
            ),
            "set method = \"campaign\"",
        ),
        (MarketAddress::Campaign { .. }, false) => Finding::warn(
            about,
            format!(
                "campaign, but the cabinet {business} has no warehouse groups; the Market's \
                 documentation of 2026-07-29 has this method only for cabinets with groups"
            ),
            "set method = \"business\" with the settings that stockbridge discover prints",
        ),
    }
}

pub(super) fn check_warehouses(shop: &ShopConfig, all: &[MarketWarehouse]) -> Finding {
    let about = format!("warehouses of {}", shop.name);
    let configured: BTreeSet<u64> = shop.warehouses.iter().copied().collect();
    let expected = warehouses_sharing_stock(shop, all);
    let is_listed = |id: &u64| all.iter().any(|warehouse| warehouse.id == *id);
    let unknown: Vec<u64> = configured
        .iter()
        .copied()
        .filter(|id| !is_listed(id))
        .collect();
    if !unknown.is_empty() {
        let what = format!(
            "the cabinet has no warehouse {}; the warehouses of this stock are {}",
            join_ids(unknown),
            if expected.is_empty() {
                "none".to_owned()
            } else {
                join_ids(expected)
            }
        );
        return Finding::fail(
            about,
            what,
            "set warehouses to the ids that stockbridge discover prints",
        );
    }
    let foreign: Vec<u64> = configured.difference(&expected).copied().collect();
    if !foreign.is_empty() {
        let campaigns = all.iter().filter(|w| foreign.contains(&w.id));
        let campaigns: BTreeSet<u64> = campaigns.filter_map(|w| w.campaign_id).collect();
        let what = format!(
            "{} belong to other campaigns ({}) outside this group, so the Market would get the \
             wrong stock for them",
            join_ids(foreign),
            join_ids(campaigns)
        );
        let todo = "move them to a [[shops]] table of their own";
        return match shop.address {
            MarketAddress::Campaign { .. } => Finding::fail(about, what, todo),
            MarketAddress::Business { .. } => Finding::warn(
                about,
                what,
                "if they have the same stock, list their campaigns in feed_campaigns",
            ),
        };
    }
    let missing: Vec<u64> = expected.difference(&configured).copied().collect();
    if !missing.is_empty() {
        let what = format!(
            "{} have the same stock but are not listed; the Market gets 503 if it asks for them",
            join_ids(missing)
        );
        return Finding::warn(
            about,
            what,
            format!("set warehouses = [{}]", join_ids(expected)),
        );
    }
    Finding::ok(
        about,
        format!("equal to the Market's list: {}", join_ids(expected)),
    )
}

/// Returns the warehouses of the shop's campaigns, and those in a group with one of them.
fn warehouses_sharing_stock(shop: &ShopConfig, all: &[MarketWarehouse]) -> BTreeSet<u64> {
    let is_ours = |warehouse: &&MarketWarehouse| {
        let is_configured = |id: u64| id == shop.campaign || shop.feed_campaigns.contains(&id);
        warehouse.campaign_id.is_some_and(is_configured)
    };
    let own: Vec<&MarketWarehouse> = all.iter().filter(is_ours).collect();
    let groups: BTreeSet<u64> = own
        .iter()
        .filter_map(|warehouse| warehouse.group())
        .collect();
    let grouped = all
        .iter()
        .filter(|w| w.group().is_some_and(|group| groups.contains(&group)));
    own.iter()
        .copied()
        .chain(grouped)
        .map(|warehouse| warehouse.id)
        .collect()
}

pub(super) fn check_partner_warehouses(
    shop: &ShopConfig,
    account: &AccountProbe,
) -> Option<Finding> {
    let MarketAddress::Business { warehouses, .. } = &shop.address else {
        return None;
    };
    let about = format!("partner_warehouses of {}", shop.name);
    let known = match account.partner.as_ref()? {
        Ok(list) => list,
        Err(error) => {
            let what = format!(
                "not checked, because the ids cannot be listed: {}",
                error_text(error)
            );
            return Some(Finding::warn(about, what, GRANT_LIST_HINT));
        }
    };
    let is_known = |id: &u64| known.iter().any(|partner| partner.id == *id);
    let unknown: Vec<u64> = warehouses
        .iter()
        .copied()
        .filter(|id| !is_known(id))
        .collect();
    Some(if unknown.is_empty() {
        Finding::ok(
            about,
            format!("the Market has {}", join_ids(warehouses.iter().copied())),
        )
    } else {
        let known = join_named(known.iter().map(partner_name));
        let what = format!(
            "the methods by business have no warehouse {}; they have {known}",
            join_ids(unknown)
        );
        Finding::fail(
            about,
            what,
            "set partner_warehouses to the ids of this stock",
        )
    })
}

/// Fails for shops in one warehouse group. A group has one stock, so they overwrite each other.
pub(super) fn check_groups(shops: &[&ShopConfig], facts: &MarketFacts) -> Vec<Finding> {
    let mut by_group: BTreeMap<(u64, u64), BTreeSet<&str>> = BTreeMap::new();
    for shop in shops {
        let Some((business, account)) = facts.account(shop) else {
            continue;
        };
        let own = account
            .warehouses()
            .iter()
            .filter(|w| w.campaign_id == Some(shop.campaign));
        for group in own.filter_map(MarketWarehouse::group) {
            by_group
                .entry((business, group))
                .or_default()
                .insert(&shop.name);
        }
    }
    let shared = by_group.into_iter().filter(|(_, shops)| shops.len() > 1);
    shared
        .map(|((_, group), shops)| {
            let shops = shops.into_iter().collect::<Vec<_>>().join(", ");
            Finding::fail(
                format!("group {group}"),
                format!(
                    "used by the shops {shops}: a group has one stock, so they overwrite each other"
                ),
                "make one shop of them and list the other campaigns in feed_campaigns",
            )
        })
        .collect()
}

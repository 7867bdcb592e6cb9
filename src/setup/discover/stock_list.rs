//! Stock lists of a cabinet: the warehouses that share one stock, and the method that sends it.

use std::collections::BTreeMap;

use market_api::partner::account::{MarketPartnerWarehouse, MarketWarehouse};

use super::shop_plan::PlannedMethod;
use crate::setup::account_probe::{AccountProbe, id_with_name, join_named, one_line, partner_name};

/// Warehouses that share one stock.
pub(super) struct StockList<'a> {
    pub(super) comments: Vec<String>,
    pub(super) name: &'a str,
    pub(super) warehouses: Vec<&'a MarketWarehouse>,
    pub(super) method: PlannedMethod,
}

/// Returns the lists of a cabinet with groups: one for each group, and one for each warehouse
/// without a group.
pub(super) fn by_group(warehouses: &[MarketWarehouse]) -> Vec<StockList<'_>> {
    let mut groups: BTreeMap<u64, Vec<&MarketWarehouse>> = BTreeMap::new();
    for warehouse in warehouses {
        if let Some(group) = warehouse.group() {
            groups.entry(group).or_default().push(warehouse);
        }
    }
    let group_lists = groups.into_iter().map(|(id, members)| {
        let name = members
            .iter()
            .find_map(|w| w.group_info.as_ref()?.name.as_deref())
            .unwrap_or_default();
        let text = format!(
            "Warehouse group {}: it has one stock, so it is one shop. The stock is sent through \
             one campaign of the group, and the Market copies it to the others.",
            id_with_name(id, name)
        );
        StockList {
            comments: vec![text],
            name,
            warehouses: members,
            method: PlannedMethod::Campaign,
        }
    });
    let ungrouped = warehouses
        .iter()
        .filter(|warehouse| warehouse.group_info.is_none())
        .map(ungrouped_list);
    group_lists.chain(ungrouped).collect()
}

fn ungrouped_list(warehouse: &MarketWarehouse) -> StockList<'_> {
    let text = format!(
        "Warehouse {} is in no group, but the cabinet has groups. Such cabinets use the method \
         campaign.",
        id_with_name(warehouse.id, warehouse.name())
    );
    StockList {
        comments: vec![text],
        name: warehouse.name(),
        warehouses: vec![warehouse],
        method: PlannedMethod::Campaign,
    }
}

/// Returns the lists of a cabinet without groups: one for each warehouse id of the methods by
/// business.
pub(super) fn by_partner_warehouse<'a>(
    business: u64,
    account: &'a AccountProbe,
    warehouses: &'a [MarketWarehouse],
) -> Vec<StockList<'a>> {
    let mut matched: BTreeMap<u64, Vec<&MarketWarehouse>> = BTreeMap::new();
    let mut unmatched = Vec::new();
    for warehouse in warehouses {
        match partner_id(warehouse, warehouses, account.partner()) {
            Some(partner) => matched.entry(partner).or_default().push(warehouse),
            None => unmatched.push(warehouse),
        }
    }
    let matched_lists = matched.into_iter().map(|(partner, members)| {
        let names = join_named(members.iter().map(|w| (w.id, w.name())));
        let text = format!(
            "Warehouse {names}: the cabinet has no warehouse groups, so it uses the method \
             business. There the warehouse has the id {partner}."
        );
        StockList {
            comments: vec![text],
            name: members.first().map_or("", |w| w.name()),
            warehouses: members,
            method: PlannedMethod::Business {
                business,
                partner_warehouses: vec![partner],
            },
        }
    });
    let unmatched_lists = unmatched.into_iter().map(|warehouse| StockList {
        comments: unmatched_comments(warehouse, account),
        name: warehouse.name(),
        warehouses: vec![warehouse],
        method: PlannedMethod::Business {
            business,
            partner_warehouses: Vec::new(),
        },
    });
    matched_lists.chain(unmatched_lists).collect()
}

/// Returns the warehouse's id in the methods by business: the same id, or the id of the only
/// warehouse with the same name.
///
/// The Market does not document how the two numberings relate, so any weaker match counts as
/// unknown.
fn partner_id(
    warehouse: &MarketWarehouse,
    all: &[MarketWarehouse],
    partner: &[MarketPartnerWarehouse],
) -> Option<u64> {
    if partner.iter().any(|other| other.id == warehouse.id) {
        return Some(warehouse.id);
    }
    if let ([_], [only]) = (all, partner) {
        return Some(only.id);
    }
    let name = one_line(warehouse.name()).to_lowercase();
    let is_namesake = |other: &&MarketPartnerWarehouse| {
        one_line(other.name.as_deref().unwrap_or_default()).to_lowercase() == name
    };
    let mut namesakes = partner.iter().filter(is_namesake);
    let first = namesakes.next().filter(|_| !name.is_empty())?;
    namesakes.next().is_none().then_some(first.id)
}

fn unmatched_comments(warehouse: &MarketWarehouse, account: &AccountProbe) -> Vec<String> {
    let known = match &account.partner {
        Some(Err(error)) => format!("the list of ids failed: {error}"),
        Some(Ok(partner)) => {
            let named = partner.iter().map(partner_name);
            format!("the known ids are: {}", join_named(named))
        }
        None => "the ids were not requested".to_owned(),
    };
    let name = id_with_name(warehouse.id, warehouse.name());
    vec![
        format!(
            "Warehouse {name}: the cabinet has no warehouse groups, so it uses the method business."
        ),
        one_line(&format!(
            "Its id there is unknown; {known}. Set partner_warehouses to the id and then remove \
             migrate = \"off\"."
        )),
    ]
}

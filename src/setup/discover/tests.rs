//! Tests of the plan for a cabinet and of the explanation of ids.

use std::path::Path;

use market_api::partner::account::AccountError;
use serde_json::{Value, json};

use super::shop_plan::{PlannedMethod, ShopConfigTable, ShopPlan};
use super::*;
use crate::config::Config;

fn campaign(id: u64, name: &str, kind: &str, availability: &str) -> Value {
    json!({"id": id, "domain": name, "placementType": kind, "apiAvailability": availability,
           "business": {"id": 5, "name": "Tea"}})
}

fn open_campaign(id: u64) -> Value {
    campaign(id, &format!("shop {id}"), "FBS", "AVAILABLE")
}

fn warehouse(id: u64, campaign: u64, group: Option<u64>) -> Value {
    let group = group.map(|id| json!({"id": id, "name": "Единый склад"}));
    json!({"id": id, "name": format!("Склад {id}"), "campaignId": campaign, "groupInfo": group})
}

fn accounts(warehouses: Value, partner: Option<Value>) -> BTreeMap<u64, AccountProbe> {
    let account = AccountProbe {
        warehouses: Ok(serde_json::from_value(warehouses).unwrap()),
        partner: partner.map(|list| Ok(serde_json::from_value(list).unwrap())),
    };
    BTreeMap::from([(5, account)])
}

fn plan_of(campaigns: Value, accounts: &BTreeMap<u64, AccountProbe>) -> ShopPlan {
    let campaigns: Vec<MarketCampaign> = serde_json::from_value(campaigns).unwrap();
    plan_shops(&campaigns, accounts, "/keys/api")
}

fn only_table(plan: &ShopPlan) -> &ShopConfigTable {
    let shops: Vec<&ShopConfigTable> = plan.shops().collect();
    let [only] = shops[..] else {
        panic!("not one shop:\n{plan}")
    };
    only
}

/// Parses the configuration as `check` does, with a secret for each file.
fn parse_config(plan: &ShopPlan) -> Config {
    let text = plan.to_string();
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let secrets = names.flat_map(|name| {
        let prefix = format!(
            "STOCKBRIDGE_SHOPS_{}_",
            name.to_uppercase().replace('-', "_")
        );
        ["PUSH_TOKEN", "FEED_KEY", "API_KEY"].map(|key| (format!("{prefix}{key}"), key.to_owned()))
    });
    Config::parse(&text, secrets.collect(), Path::new(""))
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn group_is_one_shop_of_one_open_campaign() {
    let campaigns = json!([
        campaign(1, "closed", "FBS", "MANUALLY_DISABLED"),
        open_campaign(2),
        campaign(3, "other", "DBS", "AVAILABLE"),
        campaign(4, "of the Market", "FBY", "AVAILABLE"),
    ]);
    let groups = |id| warehouse(id * 10, id, Some(9));
    let plan = plan_of(
        campaigns,
        &accounts(json!([groups(3), groups(1), groups(2)]), None),
    );
    let table = only_table(&plan);
    assert_eq!((table.campaign, &table.feed_campaigns[..]), (2, &[3][..]));
    assert_eq!(
        (&table.warehouses[..], &table.method),
        (&[10, 20, 30][..], &PlannedMethod::Campaign)
    );
    let text = plan.to_string();
    for expected in [
        "Warehouse group 9 «Единый склад»",
        "Campaign 1 «closed» is skipped: the API is disabled for it (MANUALLY_DISABLED)",
        "Campaign 2 «shop 2» (FBS) is used",
        "3 «other» (DBS).",
        "Campaign 4 «of the Market» is skipped: it sells by FBY",
        "name = \"edinyy-sklad\"",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert_eq!(parse_config(&plan).shops[0].feed_campaigns, [3]);
}

#[test]
fn warehouse_beside_groups_uses_campaign() {
    let list = json!([warehouse(10, 1, Some(9)), warehouse(20, 2, None)]);
    let plan = plan_of(
        json!([open_campaign(1), open_campaign(2)]),
        &accounts(list, None),
    );
    let lone = plan.shops().nth(1).unwrap();
    assert_eq!((lone.campaign, &lone.method), (2, &PlannedMethod::Campaign));
    assert_eq!(parse_config(&plan).shops.len(), 2);
}

#[test]
fn cabinet_without_groups_uses_business() {
    let list = json!([
        warehouse(10, 1, None),
        warehouse(20, 2, None),
        warehouse(30, 3, None)
    ]);
    // Matched by id, matched by name, and not matched.
    let partner = json!([{"id": 10, "name": "x"}, {"id": 77, "name": " склад  20"}]);
    let plan = plan_of(
        json!([open_campaign(1), open_campaign(2), open_campaign(3)]),
        &accounts(list, Some(partner)),
    );
    let config = parse_config(&plan);
    let targets: Vec<_> = config
        .shops
        .iter()
        .map(|s| (s.campaign, s.partner_warehouses.clone()))
        .collect();
    assert_eq!(targets, [(1, vec![10]), (2, vec![77]), (3, vec![30])]);
    assert!(
        config
            .shops
            .iter()
            .all(|s| s.address.business_id() == Some(5) && s.business == Some(5))
    );
    // Nothing is sent to a warehouse id that is not confirmed.
    let modes: Vec<_> = config.shops.iter().map(|s| s.migrate.name()).collect();
    assert_eq!(modes, ["on", "on", "off"]);
    assert!(
        plan.to_string()
            .contains("the known ids are: 10 «x», 77 «склад 20»"),
        "{plan}"
    );
}

#[test]
fn warehouses_with_one_business_id_are_one_shop() {
    let mut express = warehouse(20, 2, None);
    (express["name"], express["express"]) = ("Склад 10".into(), true.into());
    let list = json!([express, warehouse(10, 1, None)]);
    let partner = json!([{"id": 77, "name": "Склад 10"}, {"id": 78}]);
    let plan = plan_of(
        json!([open_campaign(1), open_campaign(2)]),
        &accounts(list, Some(partner)),
    );
    let table = only_table(&plan);
    assert_eq!((&table.warehouses[..], table.campaign), (&[10, 20][..], 1));
    assert!(
        plan.to_string()
            .contains("Warehouses with express delivery: 20."),
        "{plan}"
    );
    parse_config(&plan);
}

#[test]
fn campaign_is_in_one_table_only() {
    let list = json!([warehouse(10, 1, Some(9)), warehouse(20, 1, None)]);
    let plan = plan_of(json!([open_campaign(1)]), &accounts(list, None));
    assert_eq!(only_table(&plan).warehouses, [10]);
    assert!(
        plan.to_string()
            .contains("it is already in the table edinyy-sklad"),
        "{plan}"
    );
}

#[test]
fn failed_list_is_a_comment_without_shop() {
    let refused = || AccountError::Refused {
        status: 403,
        message: "no\nscope".to_owned(),
    };
    let account = AccountProbe {
        warehouses: Err(refused()),
        partner: None,
    };
    let plan = plan_of(json!([open_campaign(1)]), &BTreeMap::from([(5, account)]));
    assert!(plan.shops().next().is_none());
    assert!(
        plan.to_string()
            .contains("the warehouses cannot be listed: the Market rejected"),
        "{plan}"
    );
}

#[test]
fn identifies_ids_of_each_kind() {
    let campaigns: Vec<MarketCampaign> =
        serde_json::from_value(json!([open_campaign(1), open_campaign(2)])).unwrap();
    let accounts = accounts(
        json!([warehouse(10, 1, Some(9))]),
        Some(json!([{"id": 77, "name": "x"}])),
    );
    let about = |number| identify(number, &campaigns, &accounts).join(" ");
    for (number, expected) in [
        (2, "2 «shop 2» is a campaign id"),
        (
            5,
            "is the business id of the cabinet. Use it for business, not for campaign. Its \
             campaigns are 1, 2",
        ),
        (
            10,
            "10 «Склад 10» is a warehouse id. Use it for warehouses. Its campaign is 1.",
        ),
        (
            9,
            "the id of a warehouse group. No setting takes it. Its warehouses are 10",
        ),
        (77, "Use it for partner_warehouses"),
        (
            404,
            "It may be the shop id that the cabinet shows beside the shop's name.",
        ),
    ] {
        assert!(
            about(number).contains(expected),
            "{number}: {}",
            about(number)
        );
    }
}

#[test]
fn missing_scope_has_a_remedy() {
    let key_info = |scopes: &[&str]| ApiKeyInfo {
        name: String::new(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    assert!(missing_scopes(&key_info(&["ALL_METHODS"])).is_empty());
    let lines = missing_scopes(&key_info(&["OFFERS_AND_CARDS_MANAGEMENT"]));
    assert!(lines[0].contains("may not list warehouses") && lines[0].contains("Настройки"));
    assert_eq!(missing_scopes(&key_info(&["PRICING"])).len(), 2);
}

//! Tests of the evaluation, with facts as the Market would report them.

use std::collections::BTreeMap;
use std::path::Path;

use market_api::partner::account::{ApiKeyInfo, MarketWarehouse};
use serde_json::{Value, json};
use strict_http::secret::Secret;

use super::market_facts::{KeyFacts, distinct_keys};
use super::*;
use crate::setup::account_probe::{AccountProbe, KeyProbe};
use crate::setup::doctor::finding::Severity;

fn shop(name: &str, campaign: u64, warehouses: &[u64], extra: &str) -> ShopConfig {
    let text = format!(
        "[[shops]]\nname = \"{name}\"\nwarehouses = {warehouses:?}\ncampaign = {campaign}\n{extra}"
    );
    let prefix = format!("STOCKBRIDGE_SHOPS_{}_", name.to_uppercase());
    let secrets = ["PUSH_TOKEN", "FEED_KEY", "API_KEY"]
        .map(|key| (format!("{prefix}{key}"), format!("canary-{key}")));
    let config = Config::parse(&text, secrets.into(), Path::new(""));
    config
        .unwrap_or_else(|errors| panic!("{errors}"))
        .shops
        .remove(0)
}

fn key_probe(campaigns: Value) -> KeyProbe {
    let scopes = vec!["ALL_METHODS".to_owned()];
    KeyProbe {
        key: Ok(ApiKeyInfo {
            name: "t".to_owned(),
            scopes,
        }),
        campaigns: Ok(serde_json::from_value(campaigns).unwrap()),
        skew: None,
    }
}

/// Facts with one key that all shops share, and the cabinet 5.
fn market_facts(
    shops: &[&ShopConfig],
    campaigns: Value,
    warehouses: Value,
    partner: Value,
) -> MarketFacts {
    let [(key, users, sends)] = &distinct_keys(shops)[..] else {
        panic!("one key is shared")
    };
    let (key, users, sends) = (key.clone(), users.clone(), *sends);
    let account = AccountProbe {
        warehouses: Ok(serde_json::from_value(warehouses).unwrap()),
        partner: (!partner.is_null()).then(|| Ok(serde_json::from_value(partner).unwrap())),
    };
    MarketFacts {
        keys: vec![KeyFacts {
            key,
            users,
            sends,
            probe: key_probe(campaigns),
        }],
        accounts: BTreeMap::from([(5, account)]),
    }
}

fn campaign(id: u64) -> Value {
    json!({"id": id, "apiAvailability": "AVAILABLE", "business": {"id": 5}})
}

fn warehouse(id: u64, campaign: u64, group: Option<u64>) -> Value {
    json!({"id": id, "campaignId": campaign, "groupInfo": group.map(|id| json!({"id": id}))})
}

fn problems(findings: &[Finding]) -> Vec<String> {
    let bad = findings
        .iter()
        .filter(|finding| finding.level != Severity::Ok);
    bad.map(ToString::to_string).collect()
}

#[track_caller]
fn assert_finding(findings: &[Finding], level: Severity, text: &str) {
    let is_match = |f: &&Finding| f.level == level && f.to_string().contains(text);
    assert!(
        findings.iter().any(|f| is_match(&f)),
        "{level} {text} is not in {findings:#?}"
    );
}

#[test]
fn correct_cabinet_has_no_problems() {
    let shop = shop("a", 1, &[10, 20], "feed_campaigns = [2]\nbusiness = 5\n");
    let group = json!([warehouse(10, 1, Some(9)), warehouse(20, 2, Some(9))]);
    let facts = market_facts(
        &[&shop],
        json!([campaign(1), campaign(2)]),
        group,
        Value::Null,
    );
    assert_eq!(problems(&evaluate(&[&shop], &facts)), [""; 0]);
    let by_business = super::tests::shop(
        "a",
        1,
        &[10],
        "method = \"business\"\nbusiness = 5\npartner_warehouses = [77]\n",
    );
    let lone = json!([warehouse(10, 1, None)]);
    let facts = super::tests::market_facts(
        &[&by_business],
        json!([campaign(1)]),
        lone,
        json!([{"id": 77}]),
    );
    assert_eq!(problems(&evaluate(&[&by_business], &facts)), [""; 0]);
}

#[test]
fn recognizes_ids_of_another_kind() {
    for (number, expected) in [
        (5, "the business id of the cabinet"),
        (10, "the id of a warehouse"),
        (404, "the shop id shown in the cabinet"),
    ] {
        let shop = shop("a", number, &[10], "business = 5\n");
        let list = json!([warehouse(10, 1, None)]);
        let facts = market_facts(&[&shop], json!([campaign(1)]), list, Value::Null);
        let finding = check_campaign(&shop, &facts);
        assert!(
            finding.level == Severity::Fail && finding.what.contains(expected),
            "{finding}"
        );
        assert!(finding.what.ends_with("It sees 1"), "{finding}");
    }
}

#[test]
fn rejects_closed_or_foreign_campaign() {
    let shop = shop("a", 1, &[10], "business = 6\n");
    let check = |campaign: Value| {
        check_campaign(
            &shop,
            &market_facts(&[&shop], json!([campaign]), json!([]), Value::Null),
        )
    };
    assert!(
        check(campaign(1))
            .what
            .contains("belongs to the cabinet 5, but business is 6")
    );
    let mut closed = campaign(1);
    closed["apiAvailability"] = "DISABLED_BY_INACTIVITY".into();
    assert!(check(closed).what.contains("90 days"));
    let mut fby = campaign(1);
    fby["placementType"] = "FBY".into();
    assert_eq!(check(fby).level, Severity::Fail);
}

#[test]
fn method_depends_on_groups() {
    let by_business = shop("a", 1, &[10], "method = \"business\"\nbusiness = 5\n");
    let by_campaign = shop("a", 1, &[10], "");
    let check = |shop: &ShopConfig, group| {
        let list = json!([warehouse(10, 1, group)]);
        let facts = market_facts(&[shop], json!([campaign(1)]), list, Value::Null);
        check_method(shop, 5, &facts.accounts[&5]).level
    };
    assert_eq!(check(&by_business, None), Severity::Ok);
    assert_eq!(check(&by_business, Some(9)), Severity::Fail);
    assert_eq!(check(&by_campaign, Some(9)), Severity::Ok);
    assert_eq!(check(&by_campaign, None), Severity::Warn);
}

#[test]
fn rejects_two_shops_in_one_group() {
    let (a, b) = (shop("a", 1, &[10], ""), shop("b", 2, &[20], ""));
    let group = json!([warehouse(10, 1, Some(9)), warehouse(20, 2, Some(9))]);
    let facts = market_facts(
        &[&a, &b],
        json!([campaign(1), campaign(2)]),
        group,
        Value::Null,
    );
    assert_finding(
        &evaluate(&[&a, &b], &facts),
        Severity::Fail,
        "group 9: used by the shops a, b",
    );
    assert!(check_groups(&[&a], &facts).is_empty());
}

#[test]
fn compares_warehouses_with_the_market() {
    let all: Vec<MarketWarehouse> = serde_json::from_value(json!([
        warehouse(10, 1, Some(9)),
        warehouse(20, 2, Some(9)),
        warehouse(30, 3, None),
    ]))
    .unwrap();
    let check = |ids: &[u64]| check_warehouses(&shop("a", 1, ids, ""), &all);
    assert_eq!(check(&[20, 10]).level, Severity::Ok);
    let missing = check(&[10]);
    assert_eq!(missing.level, Severity::Warn);
    assert_eq!(missing.todo.as_deref(), Some("set warehouses = [10, 20]"));
    let foreign = check(&[10, 20, 30]);
    assert!(
        foreign.level == Severity::Fail
            && foreign.what.contains("30 belong to other campaigns (3)")
    );
    let unknown = check(&[10, 99]);
    assert!(
        unknown.level == Severity::Fail
            && unknown
                .what
                .contains("no warehouse 99; the warehouses of this stock are 10, 20")
    );
}

#[test]
fn lists_known_partner_warehouses() {
    let shop = shop("a", 1, &[10], "method = \"business\"\nbusiness = 5\n");
    let list = json!([warehouse(10, 1, None)]);
    let partner = json!([{"id": 77, "name": "Tula"}]);
    let facts = market_facts(&[&shop], json!([campaign(1)]), list, partner);
    assert_finding(
        &evaluate(&[&shop], &facts),
        Severity::Fail,
        "have no warehouse 10; they have 77 «Tula»",
    );
}

#[test]
fn permissions_depend_on_the_use_of_the_key() {
    let check = |scope: &str, sends| {
        let mut probe = key_probe(json!([]));
        probe.key = Ok(ApiKeyInfo {
            name: "t".to_owned(),
            scopes: vec![scope.to_owned()],
        });
        let users = vec!["api_key of a".to_owned()];
        let key = Secret::new("canary");
        let findings = check_key(&KeyFacts {
            key,
            users,
            sends,
            probe,
        });
        findings
            .iter()
            .map(|finding| finding.level)
            .collect::<Vec<_>>()
    };
    assert_eq!(check("ALL_METHODS", true), [Severity::Ok]);
    assert_eq!(check("ALL_METHODS_READ_ONLY", true), [Severity::Fail]);
    assert_eq!(check("ALL_METHODS_READ_ONLY", false), [Severity::Warn]);
    assert_eq!(check("OFFERS_AND_CARDS_MANAGEMENT", true), [Severity::Warn]);
    assert_eq!(check("PRICING", false), [Severity::Fail, Severity::Warn]);
}

#[test]
fn rejected_key_does_not_stop_other_checks() {
    let shop = shop("a", 1, &[10], "");
    let refused = || AccountError::Refused {
        status: 401,
        message: "Api-Key token is invalid".into(),
    };
    let mut facts = market_facts(&[&shop], json!([]), json!([]), Value::Null);
    facts.keys[0].probe = KeyProbe {
        key: Err(refused()),
        campaigns: Err(refused()),
        skew: None,
    };
    let findings = evaluate(&[&shop], &facts);
    assert_finding(
        &findings,
        Severity::Fail,
        "api_key of a: the Market rejected the request with status 401",
    );
    assert_finding(&findings, Severity::Warn, "campaign of a: not checked");
    assert!(!format!("{findings:?}").contains("canary"));
}

#[test]
fn tolerates_small_clock_skew() {
    let level = |ms| check_skew(TimeDelta::milliseconds(ms)).level;
    assert_eq!(
        [level(2_000), level(-2_001), level(60_001)],
        [Severity::Ok, Severity::Warn, Severity::Fail]
    );
    assert!(
        check_skew(TimeDelta::seconds(-5))
            .what
            .contains("5 s behind")
    );
}

//! Tests of the business methods, warehouse groups, keys, campaigns and warehouse lists.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use futures_util::FutureExt as _;
use lifecycle::Clock;
use serde_json::{Value, json};

use super::simulator_report::{MarketViolation, RequestOutcome, SimCall};
use super::tests::{
    NOW, STOCKS_PATH, SimTestResponse, batch_request, now, request, send, update_request,
    violation_count,
};
use super::{
    Availability, CampaignConfig, DEFAULT_BUSINESS_ID, FaultPlan, MarketFault, MarketSimulator,
    Placement, SimKeyScope, SimulatorConfig,
};

/// Campaigns 7 and 8 of business 700 with the key "key", and 9 of another business with "other".
fn config() -> SimulatorConfig {
    let campaign = |id, warehouse, key: &str| CampaignConfig::new(id, warehouse, vec![key.into()]);
    SimulatorConfig {
        campaigns: vec![
            campaign(7, 70, "key").in_business(700),
            campaign(8, 80, "key").in_business(700),
            campaign(9, 90, "other").in_business(800),
        ],
        ..SimulatorConfig::new(Clock::starting_at(NOW.parse().unwrap()))
    }
}

/// Campaigns 7 and 8 in a group, and 9 without one, all of business 700.
fn grouped_market() -> MarketSimulator {
    let campaign = |id, warehouse| CampaignConfig::new(id, warehouse, vec!["key".into()]);
    MarketSimulator::new(SimulatorConfig {
        campaigns: vec![
            campaign(7, 70).in_business(700).in_group(5, "North"),
            campaign(8, 80).in_business(700).in_group(5, "North"),
            campaign(9, 90).in_business(700),
        ],
        ..config()
    })
}

const BUSINESS_UPDATE_PATH: &str = "/v3/businesses/700/offers/stocks/update";
const BUSINESS_READBACK_PATH: &str = "/v3/businesses/700/offers/stocks";

fn post(path: &str, body: &Value) -> Request<Body> {
    request("POST", path, body.to_string())
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, String::new())
}

fn update_item(sku: &str, warehouse: u64, count: u32) -> Value {
    json!({ "sku": sku, "partnerWarehouseId": warehouse, "count": count, "updatedAt": now() })
}

fn business_update_request(items: &[Value]) -> Request<Body> {
    post(BUSINESS_UPDATE_PATH, &json!({ "skuItems": items }))
}

async fn readback_business(market: &MarketSimulator, query: &str, body: Value) -> SimTestResponse {
    send(
        market,
        post(&format!("{BUSINESS_READBACK_PATH}{query}"), &body),
    )
    .await
}

fn offer_ids(response: &SimTestResponse) -> Vec<String> {
    let json_body = response.json();
    let offers = json_body["result"]["offers"].as_array().unwrap().clone();
    offers
        .iter()
        .map(|offer| offer["offerId"].as_str().unwrap().to_owned())
        .collect()
}

fn stock_count(market: &MarketSimulator, campaign: u64, sku: &str) -> Option<u32> {
    market.get(campaign, sku).map(|record| record.count)
}

// === Updates by business ===

#[tokio::test(start_paused = true)]
async fn business_updates_several_warehouses() {
    let market = MarketSimulator::new(config());
    let items = [
        update_item("A", 70, 5),
        update_item(" A ", 80, 6),
        update_item("B", 80, 0),
    ];
    let response = send(&market, business_update_request(&items)).await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "status": "OK" }))
    );
    assert_eq!(
        (stock_count(&market, 7, "A"), stock_count(&market, 8, "A")),
        (Some(5), Some(6))
    );
    assert_eq!(
        (stock_count(&market, 7, "B"), stock_count(&market, 8, "B")),
        (None, Some(0))
    );
    let entry = market.requests()[0];
    assert_eq!(
        (entry.call, entry.business, entry.campaign),
        (SimCall::Update, 700, 0)
    );
    let report = market.report();
    assert_eq!(
        (report.updates, report.skus_received, report.skus_applied),
        (1, 3, 3)
    );
    assert_eq!(report.total_violations(), 0);
}

#[tokio::test(start_paused = true)]
async fn business_update_rejects_invalid_lines() {
    let market = MarketSimulator::new(config());
    let future = now() + TimeDelta::milliseconds(1);
    let old = now() - TimeDelta::hours(25);
    let stamped = |at| json!({ "sku": "A", "partnerWarehouseId": 70, "count": 1, "updatedAt": at });
    let field = "'skuItems[0].partnerWarehouseId'";
    for (items, message) in [
        (
            json!([update_item("A", 70, 1), update_item("A ", 70, 2)]),
            "Duplicate shop-sku 'A' for warehouse '70'",
        ),
        (
            json!([stamped(future)]),
            "Stock for 'A' should not be in the future",
        ),
        (
            json!([stamped(old)]),
            "Stock for 'A' should not be older than a day",
        ),
        (
            json!([update_item("A", 90, 1)]),
            &format!("{field} must be a warehouse of the business"),
        ),
        (
            json!([update_item("A", 0, 1)]),
            &format!("{field} must be a whole number of at least 1"),
        ),
        (json!([]), "'skuItems' size must be between 1 and 2000"),
        (Value::Null, "'skuItems' must not be null"),
        (
            json!([{ "sku": "A", "partnerWarehouseId": 70, "count": -1 }]),
            "'skuItems[0].count' must be a whole number between 0 and 2000000000",
        ),
        (
            json!([{ "sku": "a\nb", "partnerWarehouseId": 70, "count": 1 }]),
            "'skuItems[0].sku' must match the pattern of a SKU",
        ),
    ] {
        let response = send(
            &market,
            post(BUSINESS_UPDATE_PATH, &json!({ "skuItems": items })),
        )
        .await;
        assert_eq!(
            (response.status, response.error_message().as_str()),
            (400, message)
        );
    }
    assert_eq!(violation_count(&market, MarketViolation::Content), 9);
    assert!(market.is_empty(7));
}

#[tokio::test(start_paused = true)]
async fn business_may_send_50_updates_a_minute() {
    let market = MarketSimulator::new(config());
    for number in 0..50 {
        tokio::time::advance(Duration::from_millis(100)).await;
        let response = send(
            &market,
            business_update_request(&[update_item(&number.to_string(), 70, 1)]),
        )
        .await;
        assert_eq!(response.status, 200);
    }
    let limited = send(&market, business_update_request(&[update_item("A", 70, 1)])).await;
    assert_eq!(limited.status, 420);
    let message = "Hit rate limit of 50 requests per '60 SECONDS' for businessId 700";
    assert_eq!(limited.error_message(), message);
    assert_eq!(limited.header("x-ratelimit-resource-limit"), Some("50"));
    assert_eq!(limited.header("x-ratelimit-resource-remaining"), Some("0"));
    // The first update arrived at 10:00:00.1.
    let until = limited.header("x-ratelimit-resource-until");
    assert_eq!(until, Some("Fri, 20 Nov 2026 10:01:01 GMT"));
    assert_eq!(violation_count(&market, MarketViolation::Volume), 1);
    assert_eq!(market.report().peak_updates_per_minute, 51);
    // The campaign's quota is separate.
    assert_eq!(send(&market, batch_request(0, 1)).await.status, 200);
    tokio::time::advance(Duration::from_millis(55_100)).await;
    assert_eq!(
        send(&market, business_update_request(&[update_item("A", 70, 1)]))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn business_has_its_own_parallel_limit() {
    let market = MarketSimulator::new(config());
    market.set_faults(FaultPlan::script([Some(MarketFault::Hang); 4]));
    let single_update = |n: usize| business_update_request(&[update_item(&n.to_string(), 70, 1)]);
    let mut hanging: Vec<_> = (0..4)
        .map(|n| Box::pin(send(&market, single_update(n))))
        .collect();
    for request in &mut hanging {
        assert!(request.as_mut().now_or_never().is_none());
    }
    let limited = send(&market, single_update(4)).await;
    assert_eq!(
        limited.error_message(),
        "Hit rate limit of 4 parallel requests for businessId 700"
    );
    assert_eq!(violation_count(&market, MarketViolation::Parallel), 1);
    assert_eq!(send(&market, batch_request(0, 1)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn reports_sku_in_flight_through_both_methods() {
    let market = MarketSimulator::new(config());
    market.set_faults(FaultPlan::script([Some(MarketFault::Hang)]));
    let mut hanging = Box::pin(send(&market, update_request(&[("A", 1)], now())));
    assert!(hanging.as_mut().now_or_never().is_none());
    send(&market, business_update_request(&[update_item("A", 80, 1)])).await;
    assert_eq!(
        violation_count(&market, MarketViolation::SkuTwiceInFlight),
        0
    );
    send(&market, business_update_request(&[update_item("A", 70, 1)])).await;
    assert_eq!(
        violation_count(&market, MarketViolation::SkuTwiceInFlight),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn faults_apply_to_business_updates() {
    let market = MarketSimulator::new(config());
    let single_update = || business_update_request(&[update_item("A", 70, 1)]);
    market.set_faults(FaultPlan::script([
        Some(MarketFault::ErrorInOk),
        Some(MarketFault::ApplyThenError),
    ]));
    assert_eq!(
        send(&market, single_update()).await.json()["status"],
        "ERROR"
    );
    assert_eq!(stock_count(&market, 7, "A"), None);
    assert!(send(&market, single_update()).await.status >= 500);
    assert_eq!(stock_count(&market, 7, "A"), Some(1));
    assert_eq!(
        market.requests()[1].outcome,
        RequestOutcome::Faulted(MarketFault::ApplyThenError)
    );
    market.set_faults(FaultPlan::none().with_rejected_skus(["A".to_owned()], true));
    assert_eq!(
        send(&market, single_update()).await.error_message(),
        "Stock for 'A' could not be accepted"
    );
    market.set_faults(FaultPlan::none().with_max_skus(1));
    let two = business_update_request(&[update_item("A", 70, 1), update_item("A", 80, 1)]);
    assert_eq!(send(&market, two).await.status, 413);
    market.set_faults(FaultPlan::none().locked_until(now() + TimeDelta::minutes(1)));
    assert_eq!(
        send(&market, single_update()).await.error_message(),
        "Business 700 is in migration"
    );
    let big = post(
        BUSINESS_UPDATE_PATH,
        &json!({ "skuItems": " ".repeat(512 * 1024) }),
    );
    market.clear_faults();
    assert!(
        send(&market, big)
            .await
            .error_message()
            .starts_with("The request is too big")
    );
    market.set_faults(FaultPlan::seeded(1).with_drop_rate(1.0));
    let items: Vec<Value> = (0..3)
        .map(|n| update_item(&format!("B{n}"), 80, 1))
        .collect();
    assert_eq!(
        send(&market, business_update_request(&items)).await.status,
        200
    );
    assert!(market.is_empty(8));
    assert_eq!(market.report().skus_dropped, 3);
}

#[tokio::test(start_paused = true)]
async fn drops_lines_of_each_warehouse_independently() {
    let market = MarketSimulator::new(config());
    market.set_faults(FaultPlan::seeded(1).with_drop_rate(0.5));
    let skus = || (0..100).map(|n| n.to_string());
    let items = |warehouse| skus().map(move |sku| update_item(&sku, warehouse, 1));
    let items: Vec<Value> = items(70).chain(items(80)).collect();
    assert_eq!(
        send(&market, business_update_request(&items)).await.status,
        200
    );
    let equal_counts = skus()
        .filter(|sku| stock_count(&market, 7, sku) == stock_count(&market, 8, sku))
        .count();
    assert!((25..75).contains(&equal_counts), "{equal_counts}");
}

#[tokio::test(start_paused = true)]
async fn business_update_with_500_costs_no_quota() {
    let market = MarketSimulator::new(SimulatorConfig {
        business_updates_per_minute: 1,
        ..config()
    });
    market.set_faults(FaultPlan::script([Some(MarketFault::ServerError)]));
    let two_item_update =
        || business_update_request(&[update_item("A", 70, 1), update_item("B", 70, 1)]);
    assert!(send(&market, two_item_update()).await.status >= 500);
    assert_eq!(send(&market, two_item_update()).await.status, 200);
    assert_eq!(send(&market, two_item_update()).await.status, 420);
}

#[tokio::test(start_paused = true)]
async fn business_limit_headers_count_requests() {
    let market = MarketSimulator::new(config());
    market.set_faults(FaultPlan::none().with_limit_headers(2));
    let two_item_update =
        || business_update_request(&[update_item("A", 70, 1), update_item("A", 80, 1)]);
    for remaining in ["1", "0"] {
        let response = send(&market, two_item_update()).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("x-ratelimit-resource-limit"), Some("2"));
        assert_eq!(
            response.header("x-ratelimit-resource-remaining"),
            Some(remaining)
        );
    }
    assert_eq!(send(&market, two_item_update()).await.status, 420);
}

// === Read-backs by business ===

#[tokio::test(start_paused = true)]
async fn a_business_reads_back_one_warehouse() {
    let market = MarketSimulator::new(config());
    send(
        &market,
        business_update_request(&[update_item("A", 70, 5), update_item("B", 80, 6)]),
    )
    .await;
    let response = readback_business(&market, "", json!({ "partnerWarehouseId": 80 })).await;
    assert_eq!(
        response.json(),
        json!({ "status": "OK", "result": {
            "partnerWarehouseId": 80,
            "offers": [{
                "offerId": "B",
                "stocks": [{ "type": "FIT", "count": 6 }, { "type": "AVAILABLE", "count": 6 }],
                "updatedAt": NOW,
            }],
            "paging": {},
        } })
    );
    let by_id = json!({ "partnerWarehouseId": 70, "offerIds": ["A", "B"] });
    assert_eq!(
        offer_ids(&readback_business(&market, "", by_id).await),
        ["A"]
    );
    assert_eq!(market.report().readbacks, 2);
}

#[tokio::test(start_paused = true)]
async fn business_pages_default_to_50_and_stop_at_100() {
    let market = MarketSimulator::new(SimulatorConfig {
        short_pages: true,
        ..config()
    });
    let items: Vec<Value> = (0..1_000)
        .map(|n| update_item(&n.to_string(), 70, 1))
        .collect();
    send(&market, business_update_request(&items)).await;
    let whole_warehouse = json!({ "partnerWarehouseId": 70 });
    let (mut token, mut seen, mut short_pages) = (String::new(), Vec::new(), 0);
    loop {
        let response = readback_business(
            &market,
            &format!("?limit=201&page_token={token}"),
            whole_warehouse.clone(),
        )
        .await;
        let page = offer_ids(&response);
        assert!(page.len() <= 100);
        let next = response.json()["result"]["paging"]["nextPageToken"]
            .as_str()
            .map(str::to_owned);
        short_pages += usize::from(page.len() < 100 && next.is_some());
        seen.extend(page);
        match next {
            Some(next) => token = next,
            None => break,
        }
    }
    assert!(short_pages > 0);
    assert_eq!(seen.len(), 1_000);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1_000);
    let market = MarketSimulator::new(config());
    send(&market, business_update_request(&items)).await;
    assert_eq!(
        offer_ids(&readback_business(&market, "", whole_warehouse.clone()).await).len(),
        50
    );
    assert_eq!(
        offer_ids(&readback_business(&market, "?limit=201", whole_warehouse).await).len(),
        100
    );
}

#[tokio::test(start_paused = true)]
async fn rejects_invalid_business_readbacks() {
    let market = MarketSimulator::new(config());
    for (query, body) in [
        ("", json!({})),
        ("", json!({ "partnerWarehouseId": 90 })),
        ("?limit=0", json!({ "partnerWarehouseId": 70 })),
        (
            "?limit=1",
            json!({ "partnerWarehouseId": 70, "offerIds": ["A"] }),
        ),
        (
            "?pageToken=41",
            json!({ "partnerWarehouseId": 70, "offerIds": ["A"] }),
        ),
        (
            "",
            json!({ "partnerWarehouseId": 70, "offerIds": ["A"], "archived": true }),
        ),
        ("", json!({ "partnerWarehouseId": 70, "offerIds": [] })),
    ] {
        assert_eq!(
            readback_business(&market, query, body.clone()).await.status,
            400,
            "{query} {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn business_may_readback_500_times_a_minute() {
    let market = MarketSimulator::new(config());
    let whole_warehouse = json!({ "partnerWarehouseId": 70 });
    for _ in 0..500 {
        assert_eq!(
            readback_business(&market, "", whole_warehouse.clone())
                .await
                .status,
            200
        );
    }
    let limited = readback_business(&market, "", whole_warehouse).await;
    assert_eq!(limited.header("x-ratelimit-resource-limit"), Some("500"));
    assert_eq!(violation_count(&market, MarketViolation::Volume), 1);
}

// === Groups ===

#[tokio::test(start_paused = true)]
async fn group_campaigns_share_one_stock() {
    let market = grouped_market();
    send(&market, update_request(&[("A", 5)], now())).await;
    assert_eq!(
        (stock_count(&market, 8, "A"), stock_count(&market, 9, "A")),
        (Some(5), None)
    );
    let response = send(&market, post("/v2/campaigns/8/offers/stocks", &json!({}))).await;
    let json_body = response.json();
    assert_eq!(json_body["result"]["warehouses"][0]["warehouseId"], 80);
    assert_eq!(
        json_body["result"]["warehouses"][0]["offers"][0]["stocks"][1]["count"],
        5
    );
    let body = json!({ "partnerWarehouseId": 80 });
    assert_eq!(
        offer_ids(&readback_business(&market, "", body).await),
        ["A"]
    );
    assert_eq!(market.report().total_violations(), 0);
}

#[tokio::test(start_paused = true)]
async fn reports_sku_sent_through_second_group_campaign() {
    let market = grouped_market();
    let update_through = |campaign: u64, skus: &[&str]| {
        let line = |sku: &&str| json!({ "sku": sku, "items": [{ "count": 1 }] });
        let skus: Vec<Value> = skus.iter().map(line).collect();
        let path = format!("/v2/campaigns/{campaign}/offers/stocks");
        request("PUT", &path, json!({ "skus": skus }).to_string())
    };
    send(&market, update_through(7, &["A", "B"])).await;
    send(&market, update_through(7, &["A"])).await;
    send(&market, update_through(9, &["A"])).await;
    assert_eq!(violation_count(&market, MarketViolation::SecondOfGroup), 0);
    send(&market, update_through(8, &["B", "C"])).await;
    assert_eq!(violation_count(&market, MarketViolation::SecondOfGroup), 1);
    assert!(
        market.report().violation_examples[0].contains(" B "),
        "{:?}",
        market.report().violation_examples
    );
    // The first campaign may still send it.
    send(&market, update_through(7, &["B"])).await;
    assert_eq!(violation_count(&market, MarketViolation::SecondOfGroup), 1);
}

#[tokio::test(start_paused = true)]
async fn update_method_depends_on_warehouse_groups() {
    let market = grouped_market();
    let rejected = send(&market, business_update_request(&[update_item("A", 90, 1)])).await;
    assert_eq!(rejected.status, 400);
    assert_eq!(
        rejected.error_message(),
        "Method is not allowed for businesses with warehouse groups"
    );
    assert_eq!(
        send(&market, update_request(&[("A", 1)], now()))
            .await
            .status,
        200
    );
    // Without groups the campaign method still works, unless the configuration forbids it.
    assert_eq!(
        send(
            &MarketSimulator::new(config()),
            update_request(&[("A", 1)], now())
        )
        .await
        .status,
        200
    );
    let strict = MarketSimulator::new(SimulatorConfig {
        campaign_method_needs_groups: true,
        ..config()
    });
    let rejected = send(&strict, update_request(&[("A", 1)], now())).await;
    assert_eq!(rejected.status, 403);
    let message = rejected.error_message();
    assert!(message.starts_with("The method is deprecated and is occasionally forbidden "));
    assert!(strict.is_empty(7));
}

// === Keys, campaigns, warehouses ===

#[tokio::test(start_paused = true)]
async fn key_scopes_limit_methods() {
    let none: &[(&str, u16)] = &[("update", 403), ("read", 403), ("warehouses", 403)];
    let reads: &[(&str, u16)] = &[("update", 403), ("read", 200), ("warehouses", 403)];
    let stocks: &[(&str, u16)] = &[("update", 200), ("read", 200), ("warehouses", 403)];
    let lists: &[(&str, u16)] = &[("update", 403), ("read", 403), ("warehouses", 200)];
    let all_reads: &[(&str, u16)] = &[("update", 403), ("read", 200), ("warehouses", 200)];
    for (scope, expected) in [
        (SimKeyScope::Pricing, none),
        (SimKeyScope::OffersAndCardsManagement, stocks),
        (SimKeyScope::OffersAndCardsManagementReadOnly, reads),
        (SimKeyScope::InventoryAndOrderProcessing, lists),
        (SimKeyScope::InventoryAndOrderProcessingReadOnly, lists),
        (SimKeyScope::AllMethodsReadOnly, all_reads),
    ] {
        let market = MarketSimulator::new(config().with_key_scopes("key", &[scope]));
        let business = json!({ "partnerWarehouseId": 70 });
        for request in [
            ("update", update_request(&[("A", 1)], now())),
            (
                "update",
                business_update_request(&[update_item("A", 70, 1)]),
            ),
            ("read", post(STOCKS_PATH, &json!({}))),
            ("read", post(BUSINESS_READBACK_PATH, &business)),
            (
                "warehouses",
                post("/v2/businesses/700/warehouses", &json!({})),
            ),
            (
                "warehouses",
                post("/v3/businesses/700/warehouses", &json!({})),
            ),
        ] {
            let (kind, request) = request;
            let status = expected.iter().find(|(name, _)| *name == kind).unwrap().1;
            let response = send(&market, request).await;
            assert_eq!(response.status, status, "{scope} {kind}");
            if status == 403 {
                let message_start = "Token does not have any of the scopes ";
                assert!(
                    response.error_message().starts_with(message_start),
                    "{}",
                    response.error_message()
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn key_info_lists_scopes() {
    let market = MarketSimulator::new(
        config().with_key_scopes("other", &[SimKeyScope::Pricing, SimKeyScope::Promotion]),
    );
    let mut request = post("/v2/auth/token", &json!({}));
    let all = send(&market, post("/v2/auth/token", &json!({})))
        .await
        .json();
    assert_eq!(
        all["result"]["apiKey"]["authScopes"],
        json!(["ALL_METHODS"])
    );
    request
        .headers_mut()
        .insert("Api-Key", "other".parse().unwrap());
    let some = send(&market, request).await.json();
    assert_eq!(
        some["result"]["apiKey"]["authScopes"],
        json!(["PRICING", "PROMOTION"])
    );
    market.revoke_key("key");
    assert_eq!(
        send(&market, post("/v2/auth/token", &json!({})))
            .await
            .status,
        401
    );
    let entry = market.requests()[0];
    assert_eq!(
        (entry.call, market.report().other_calls),
        (SimCall::Other, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn campaign_list_has_pages_and_only_own_campaigns() {
    let market = MarketSimulator::new(config());
    let all = send(&market, get("/v2/campaigns")).await.json();
    assert_eq!(
        all,
        json!({ "campaigns": [
            {
                "domain": "shop-7.example",
                "id": 7,
                "business": { "id": 700, "name": "Business 700" },
                "placementType": "FBS",
                "apiAvailability": "AVAILABLE",
            },
            {
                "domain": "shop-8.example",
                "id": 8,
                "business": { "id": 700, "name": "Business 700" },
                "placementType": "FBS",
                "apiAvailability": "AVAILABLE",
            },
        ], "paging": {} })
    );
    let first = send(&market, get("/v2/campaigns?limit=1")).await.json();
    assert_eq!(first["campaigns"][0]["id"], 7);
    let token = first["paging"]["nextPageToken"].as_str().unwrap();
    let path = format!("/v2/campaigns?limit=1&page_token={token}");
    let last = send(&market, get(&path)).await.json();
    assert_eq!(
        (&last["campaigns"][0]["id"], &last["paging"]),
        (&json!(8), &json!({}))
    );
    assert_eq!(
        send(&market, get("/v2/campaigns?limit=101")).await.status,
        400
    );
    let one = send(&market, get("/v2/campaigns/8")).await.json();
    assert_eq!(one["campaign"], all["campaigns"][1]);
    assert_eq!(
        send(&market, get("/v2/campaigns/9")).await.error_message(),
        "Access denied"
    );
    assert_eq!(
        send(&market, get("/v2/campaigns/5")).await.error_message(),
        "Campaign not found"
    );
}

#[tokio::test(start_paused = true)]
async fn disabled_campaign_rejects_stock_methods() {
    let mut config = config();
    config.campaigns[0].availability = Availability::DisabledByInactivity;
    let market = MarketSimulator::new(config);
    let campaign = send(&market, get("/v2/campaigns/7")).await.json();
    assert_eq!(
        campaign["campaign"]["apiAvailability"],
        "DISABLED_BY_INACTIVITY"
    );
    for request in [
        update_request(&[("A", 1)], now()),
        post(STOCKS_PATH, &json!({})),
        business_update_request(&[update_item("A", 70, 1), update_item("A", 80, 1)]),
        post(BUSINESS_READBACK_PATH, &json!({ "partnerWarehouseId": 70 })),
    ] {
        let response = send(&market, request).await;
        assert_eq!(response.status, 403);
        let message = response.error_message();
        assert!(
            message.starts_with("API for campaign 7 is disabled"),
            "{message}"
        );
    }
    assert!(market.is_empty(7) && market.is_empty(8));
    assert_eq!(
        send(&market, business_update_request(&[update_item("A", 80, 1)]))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn rejects_other_businesses() {
    let market = MarketSimulator::new(config());
    let whole_warehouse = json!({ "partnerWarehouseId": 70 });
    for (business, status, message) in [
        ("7", 404, "Business not found"),
        ("800", 403, "Access denied"),
        ("x", 400, "Illegal input at 'businessId'"),
    ] {
        for path in ["offers/stocks/update", "offers/stocks", "warehouses"] {
            let path = format!("/v3/businesses/{business}/{path}");
            let response = send(&market, post(&path, &whole_warehouse)).await;
            assert_eq!(
                (response.status, response.error_message().as_str()),
                (status, message)
            );
        }
    }
    let response = send(&market, request("PUT", BUSINESS_UPDATE_PATH, String::new())).await;
    assert_eq!(response.status, 405);
    let home = SimulatorConfig::new(Clock::starting_at(now())).with_campaign(7, 70, "key");
    let path = format!("/v3/businesses/{DEFAULT_BUSINESS_ID}/offers/stocks");
    assert_eq!(
        send(&MarketSimulator::new(home), post(&path, &whole_warehouse))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn warehouse_list_shows_groups_and_status() {
    let market = grouped_market();
    let path = "/v2/businesses/700/warehouses";
    let all = send(&market, request("POST", path, String::new()))
        .await
        .json();
    let group = json!({ "id": 5, "name": "North" });
    assert_eq!(
        all["result"]["warehouses"],
        json!([
            { "id": 70, "name": "Warehouse 70", "campaignId": 7, "express": false, "groupInfo": group },
            { "id": 80, "name": "Warehouse 80", "campaignId": 8, "express": false, "groupInfo": group },
            { "id": 90, "name": "Warehouse 90", "campaignId": 9, "express": false },
        ])
    );
    let body = json!({ "campaignIds": [9], "components": ["STATUS", "ADDRESS"] });
    let one = send(&market, post(path, &body)).await.json();
    assert_eq!(one["result"]["warehouses"].as_array().unwrap().len(), 1);
    assert_eq!(
        one["result"]["warehouses"][0]["status"],
        json!({ "status": "OTHER" })
    );
    for (query, body) in [
        ("?limit=31", json!({})),
        ("?page_token=78", json!({})),
        ("", json!({ "components": ["STOCK"] })),
        ("", json!({ "campaignIds": [] })),
        ("", json!({ "campaignIds": ["7"] })),
    ] {
        let response = send(&market, post(&format!("{path}{query}"), &body)).await;
        assert_eq!(response.status, 400, "{query} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn warehouse_pages_hold_15() {
    let campaign = |id| CampaignConfig::new(id, id * 10, vec!["key".into()]).in_business(700);
    let campaigns = (1..=32).map(campaign).collect();
    let market = MarketSimulator::new(SimulatorConfig {
        campaigns,
        ..config()
    });
    for version in ["v2", "v3"] {
        let path = format!("/{version}/businesses/700/warehouses");
        let (mut query, mut sizes) = (String::new(), Vec::new());
        loop {
            let page = send(&market, post(&format!("{path}{query}"), &json!({})))
                .await
                .json();
            sizes.push(page["result"]["warehouses"].as_array().unwrap().len());
            match page["result"]["paging"]["nextPageToken"].as_str() {
                Some(next) => query = format!("?page_token={next}"),
                None => break,
            }
        }
        assert_eq!(sizes, [15, 15, 2], "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn v3_list_omits_market_warehouses() {
    let mut config = config();
    config.campaigns[1].placement = Placement::Fby;
    let market = MarketSimulator::new(config);
    let list = send(&market, post("/v3/businesses/700/warehouses", &json!({})))
        .await
        .json();
    let ids: Vec<_> = list["result"]["warehouses"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!((ids.len(), &ids[0]["id"]), (1, &json!(70)));
}

#[tokio::test(start_paused = true)]
async fn campaigns_of_one_warehouse_share_its_stock() {
    let mut config = config();
    config.campaigns[1].warehouse = 70;
    config.campaigns[1].placement = Placement::Dbs;
    config.campaigns[1].availability = Availability::ManuallyDisabled;
    let market = MarketSimulator::new(config);
    let body = json!({ "warehouseIds": [70] });
    let list = send(&market, post("/v3/businesses/700/warehouses", &body))
        .await
        .json();
    assert_eq!(
        list["result"]["warehouses"],
        json!([{ "id": 70, "name": "Warehouse 70", "models": [
            { "placementType": "FBS", "apiAvailability": "AVAILABLE" },
            { "placementType": "DBS", "apiAvailability": "MANUALLY_DISABLED" },
        ] }])
    );
    assert_eq!(
        send(&market, business_update_request(&[update_item("A", 70, 3)]))
            .await
            .status,
        200
    );
    assert_eq!(
        (stock_count(&market, 7, "A"), stock_count(&market, 8, "A")),
        (Some(3), Some(3))
    );
}

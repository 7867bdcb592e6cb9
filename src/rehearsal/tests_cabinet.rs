use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::report::{Broken, Call, Verdict};
use super::tests::{Answer, NOW, PATH, batch, broken, now, request, send, update};
use super::{
    Availability, CampaignConfig, Fault, FaultPlan, HOME_BUSINESS, Market, MarketConfig, Placement,
    Scope,
};
use crate::clock::Clock;

/// Campaigns 7 and 8 of business 700 for "key", 9 of another one for "other".
fn config() -> MarketConfig {
    let campaign = |id, warehouse, key: &str| CampaignConfig::new(id, warehouse, vec![key.into()]);
    MarketConfig {
        campaigns: vec![
            campaign(7, 70, "key").of_business(700),
            campaign(8, 80, "key").of_business(700),
            campaign(9, 90, "other").of_business(800),
        ],
        ..MarketConfig::new(Clock::starting_at(NOW.parse().unwrap()))
    }
}

/// Campaigns 7 and 8 in a group, 9 beside them, all of business 700.
fn grouped() -> Market {
    let campaign = |id, warehouse| CampaignConfig::new(id, warehouse, vec!["key".into()]);
    Market::new(MarketConfig {
        campaigns: vec![
            campaign(7, 70).of_business(700).in_group(5, "North"),
            campaign(8, 80).of_business(700).in_group(5, "North"),
            campaign(9, 90).of_business(700),
        ],
        ..config()
    })
}

const UPDATE: &str = "/v3/businesses/700/offers/stocks/update";
const READ_BACK: &str = "/v3/businesses/700/offers/stocks";

fn post(path: &str, body: &Value) -> Request<Body> {
    request("POST", path, body.to_string())
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, String::new())
}

fn item(sku: &str, warehouse: u64, count: u32) -> Value {
    json!({ "sku": sku, "partnerWarehouseId": warehouse, "count": count, "updatedAt": now() })
}

fn business_update(items: &[Value]) -> Request<Body> {
    post(UPDATE, &json!({ "skuItems": items }))
}

async fn read(market: &Market, query: &str, body: Value) -> Answer {
    send(market, post(&format!("{READ_BACK}{query}"), &body)).await
}

fn skus(answer: &Answer) -> Vec<String> {
    let answer = answer.json();
    let offers = answer["result"]["offers"].as_array().unwrap().clone();
    offers
        .iter()
        .map(|offer| offer["offerId"].as_str().unwrap().to_owned())
        .collect()
}

fn told(market: &Market, campaign: u64, sku: &str) -> Option<u32> {
    market.get(campaign, sku).map(|held| held.count)
}

// === The business's update ===

#[tokio::test(start_paused = true)]
async fn a_business_tells_several_warehouses_at_once() {
    let market = Market::new(config());
    let items = [item("A", 70, 5), item(" A ", 80, 6), item("B", 80, 0)];
    let answer = send(&market, business_update(&items)).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "status": "OK" }))
    );
    assert_eq!(
        (told(&market, 7, "A"), told(&market, 8, "A")),
        (Some(5), Some(6))
    );
    assert_eq!(
        (told(&market, 7, "B"), told(&market, 8, "B")),
        (None, Some(0))
    );
    let logged = market.requests()[0];
    assert_eq!(
        (logged.call, logged.business, logged.campaign),
        (Call::Update, 700, 0)
    );
    let report = market.report();
    assert_eq!(
        (report.requests, report.skus_received, report.skus_applied),
        (1, 3, 3)
    );
    assert_eq!(report.broken_in_all(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_business_s_update_is_read_as_strictly_as_a_campaign_s() {
    let market = Market::new(config());
    let ahead = now() + TimeDelta::milliseconds(1);
    let old = now() - TimeDelta::hours(25);
    let stamped = |at| json!({ "sku": "A", "partnerWarehouseId": 70, "count": 1, "updatedAt": at });
    let place = "'skuItems[0].partnerWarehouseId'";
    for (items, message) in [
        (
            json!([item("A", 70, 1), item("A ", 70, 2)]),
            "Duplicate shop-sku 'A' for warehouse '70'",
        ),
        (
            json!([stamped(ahead)]),
            "Stock for 'A' should not be in the future",
        ),
        (
            json!([stamped(old)]),
            "Stock for 'A' should not be older than a day",
        ),
        (
            json!([item("A", 90, 1)]),
            &format!("{place} must be a warehouse of the business"),
        ),
        (
            json!([item("A", 0, 1)]),
            &format!("{place} must be a whole number of at least 1"),
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
        let answer = send(&market, post(UPDATE, &json!({ "skuItems": items }))).await;
        assert_eq!((answer.status, answer.message().as_str()), (400, message));
    }
    assert_eq!(broken(&market, Broken::Content), 9);
    assert!(market.is_empty(7));
}

#[tokio::test(start_paused = true)]
async fn the_fifty_first_update_of_a_business_within_any_minute_is_limited() {
    let market = Market::new(config());
    for number in 0..50 {
        tokio::time::advance(Duration::from_millis(100)).await;
        let answer = send(
            &market,
            business_update(&[item(&number.to_string(), 70, 1)]),
        )
        .await;
        assert_eq!(answer.status, 200);
    }
    let limited = send(&market, business_update(&[item("A", 70, 1)])).await;
    assert_eq!(limited.status, 420);
    let message = "Hit rate limit of 50 requests per '60 SECONDS' for businessId 700";
    assert_eq!(limited.message(), message);
    assert_eq!(limited.header("x-ratelimit-resource-limit"), Some("50"));
    assert_eq!(limited.header("x-ratelimit-resource-remaining"), Some("0"));
    // The first came at 10:00:00.1.
    let until = limited.header("x-ratelimit-resource-until");
    assert_eq!(until, Some("Fri, 20 Nov 2026 10:01:01 GMT"));
    assert_eq!(broken(&market, Broken::Volume), 1);
    assert_eq!(market.report().peak_updates_a_minute, 51);
    // A campaign's own minute is another one.
    assert_eq!(send(&market, batch(0, 1)).await.status, 200);
    tokio::time::advance(Duration::from_millis(55_100)).await;
    assert_eq!(
        send(&market, business_update(&[item("A", 70, 1)]))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn a_business_has_four_requests_in_flight_beside_its_campaigns() {
    let market = Market::new(config());
    market.set_faults(FaultPlan::script([Some(Fault::Hang); 4]));
    let one = |n: usize| business_update(&[item(&n.to_string(), 70, 1)]);
    let mut hanging: Vec<_> = (0..4).map(|n| Box::pin(send(&market, one(n)))).collect();
    for request in &mut hanging {
        assert!(request.as_mut().now_or_never().is_none());
    }
    let limited = send(&market, one(4)).await;
    assert_eq!(
        limited.message(),
        "Hit rate limit of 4 parallel requests for businessId 700"
    );
    assert_eq!(broken(&market, Broken::Parallel), 1);
    assert_eq!(send(&market, batch(0, 1)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_sku_in_flight_by_one_method_is_noticed_by_the_other() {
    let market = Market::new(config());
    market.set_faults(FaultPlan::script([Some(Fault::Hang)]));
    let mut hanging = Box::pin(send(&market, update(&[("A", 1)], now())));
    assert!(hanging.as_mut().now_or_never().is_none());
    send(&market, business_update(&[item("A", 80, 1)])).await;
    assert_eq!(broken(&market, Broken::SkuTwiceInFlight), 0);
    send(&market, business_update(&[item("A", 70, 1)])).await;
    assert_eq!(broken(&market, Broken::SkuTwiceInFlight), 1);
}

#[tokio::test(start_paused = true)]
async fn a_business_s_update_meets_every_fault_as_a_campaign_s_does() {
    let market = Market::new(config());
    let one = || business_update(&[item("A", 70, 1)]);
    market.set_faults(FaultPlan::script([
        Some(Fault::ErrorInOk),
        Some(Fault::ApplyThenError),
    ]));
    assert_eq!(send(&market, one()).await.json()["status"], "ERROR");
    assert_eq!(told(&market, 7, "A"), None);
    assert!(send(&market, one()).await.status >= 500);
    assert_eq!(told(&market, 7, "A"), Some(1));
    assert_eq!(
        market.requests()[1].verdict,
        Verdict::Faulted(Fault::ApplyThenError)
    );
    market.set_faults(FaultPlan::none().poisoned(["A".to_owned()], true));
    assert_eq!(
        send(&market, one()).await.message(),
        "Stock for 'A' could not be accepted"
    );
    market.set_faults(FaultPlan::none().taking_at_most(1));
    let two = business_update(&[item("A", 70, 1), item("A", 80, 1)]);
    assert_eq!(send(&market, two).await.status, 413);
    market.set_faults(FaultPlan::none().locked_until(now() + TimeDelta::minutes(1)));
    assert_eq!(
        send(&market, one()).await.message(),
        "Business 700 is in migration"
    );
    let big = post(UPDATE, &json!({ "skuItems": " ".repeat(512 * 1024) }));
    market.heal();
    assert!(
        send(&market, big)
            .await
            .message()
            .starts_with("The request is too big")
    );
    market.set_faults(FaultPlan::seeded(1).dropping(1.0));
    let items: Vec<Value> = (0..3).map(|n| item(&format!("B{n}"), 80, 1)).collect();
    assert_eq!(send(&market, business_update(&items)).await.status, 200);
    assert!(market.is_empty(8));
    assert_eq!(market.report().skus_dropped, 3);
}

#[tokio::test(start_paused = true)]
async fn each_warehouse_of_an_update_loses_skus_of_its_own() {
    let market = Market::new(config());
    market.set_faults(FaultPlan::seeded(1).dropping(0.5));
    let skus = || (0..100).map(|n| n.to_string());
    let items = |warehouse| skus().map(move |sku| item(&sku, warehouse, 1));
    let items: Vec<Value> = items(70).chain(items(80)).collect();
    assert_eq!(send(&market, business_update(&items)).await.status, 200);
    let alike = skus()
        .filter(|sku| told(&market, 7, sku) == told(&market, 8, sku))
        .count();
    assert!((25..75).contains(&alike), "{alike}");
}

#[tokio::test(start_paused = true)]
async fn updates_of_a_business_that_met_a_500_cost_nothing() {
    let market = Market::new(MarketConfig {
        business_updates_per_minute: 1,
        ..config()
    });
    market.set_faults(FaultPlan::script([Some(Fault::ServerError)]));
    let two = || business_update(&[item("A", 70, 1), item("B", 70, 1)]);
    assert!(send(&market, two()).await.status >= 500);
    assert_eq!(send(&market, two()).await.status, 200);
    assert_eq!(send(&market, two()).await.status, 420);
}

#[tokio::test(start_paused = true)]
async fn a_limit_told_to_a_business_counts_its_requests() {
    let market = Market::new(config());
    market.set_faults(FaultPlan::none().limit_headers(2));
    let two = || business_update(&[item("A", 70, 1), item("A", 80, 1)]);
    for remaining in ["1", "0"] {
        let answer = send(&market, two()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-resource-limit"), Some("2"));
        assert_eq!(
            answer.header("x-ratelimit-resource-remaining"),
            Some(remaining)
        );
    }
    assert_eq!(send(&market, two()).await.status, 420);
}

// === The business's read-back ===

#[tokio::test(start_paused = true)]
async fn a_business_reads_back_one_warehouse() {
    let market = Market::new(config());
    send(
        &market,
        business_update(&[item("A", 70, 5), item("B", 80, 6)]),
    )
    .await;
    let answer = read(&market, "", json!({ "partnerWarehouseId": 80 })).await;
    assert_eq!(
        answer.json(),
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
    let by_name = json!({ "partnerWarehouseId": 70, "offerIds": ["A", "B"] });
    assert_eq!(skus(&read(&market, "", by_name).await), ["A"]);
    assert_eq!(market.report().read_backs, 2);
}

#[tokio::test(start_paused = true)]
async fn pages_by_business_have_fifty_offers_and_are_cut_at_a_hundred() {
    let market = Market::new(MarketConfig {
        thin_pages: true,
        ..config()
    });
    let items: Vec<Value> = (0..1_000).map(|n| item(&n.to_string(), 70, 1)).collect();
    send(&market, business_update(&items)).await;
    let whole = json!({ "partnerWarehouseId": 70 });
    let (mut token, mut seen, mut thin) = (String::new(), Vec::new(), 0);
    loop {
        let answer = read(
            &market,
            &format!("?limit=201&page_token={token}"),
            whole.clone(),
        )
        .await;
        let page = skus(&answer);
        assert!(page.len() <= 100);
        let next = answer.json()["result"]["paging"]["nextPageToken"]
            .as_str()
            .map(str::to_owned);
        thin += usize::from(page.len() < 100 && next.is_some());
        seen.extend(page);
        match next {
            Some(next) => token = next,
            None => break,
        }
    }
    assert!(thin > 0);
    assert_eq!(seen.len(), 1_000);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1_000);
    let market = Market::new(config());
    send(&market, business_update(&items)).await;
    assert_eq!(skus(&read(&market, "", whole.clone()).await).len(), 50);
    assert_eq!(skus(&read(&market, "?limit=201", whole).await).len(), 100);
}

#[tokio::test(start_paused = true)]
async fn strange_questions_about_a_business_are_refused() {
    let market = Market::new(config());
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
            read(&market, query, body.clone()).await.status,
            400,
            "{query} {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_read_back_after_the_five_hundredth_within_a_minute_is_limited() {
    let market = Market::new(config());
    let whole = json!({ "partnerWarehouseId": 70 });
    for _ in 0..500 {
        assert_eq!(read(&market, "", whole.clone()).await.status, 200);
    }
    let limited = read(&market, "", whole).await;
    assert_eq!(limited.header("x-ratelimit-resource-limit"), Some("500"));
    assert_eq!(broken(&market, Broken::Volume), 1);
}

// === Groups ===

#[tokio::test(start_paused = true)]
async fn what_one_campaign_of_a_group_tells_shows_in_all() {
    let market = grouped();
    send(&market, update(&[("A", 5)], now())).await;
    assert_eq!(
        (told(&market, 8, "A"), told(&market, 9, "A")),
        (Some(5), None)
    );
    let answer = send(&market, post("/v2/campaigns/8/offers/stocks", &json!({}))).await;
    let answer = answer.json();
    assert_eq!(answer["result"]["warehouses"][0]["warehouseId"], 80);
    assert_eq!(
        answer["result"]["warehouses"][0]["offers"][0]["stocks"][1]["count"],
        5
    );
    let body = json!({ "partnerWarehouseId": 80 });
    assert_eq!(skus(&read(&market, "", body).await), ["A"]);
    assert_eq!(market.report().broken_in_all(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sku_told_through_a_second_campaign_of_the_group_is_noticed() {
    let market = grouped();
    let through = |campaign: u64, skus: &[&str]| {
        let line = |sku: &&str| json!({ "sku": sku, "items": [{ "count": 1 }] });
        let skus: Vec<Value> = skus.iter().map(line).collect();
        let path = format!("/v2/campaigns/{campaign}/offers/stocks");
        request("PUT", &path, json!({ "skus": skus }).to_string())
    };
    send(&market, through(7, &["A", "B"])).await;
    send(&market, through(7, &["A"])).await;
    send(&market, through(9, &["A"])).await;
    assert_eq!(broken(&market, Broken::SecondOfGroup), 0);
    send(&market, through(8, &["B", "C"])).await;
    assert_eq!(broken(&market, Broken::SecondOfGroup), 1);
    assert!(
        market.report().examples[0].contains(" B "),
        "{:?}",
        market.report().examples
    );
    // The first one keeps it.
    send(&market, through(7, &["B"])).await;
    assert_eq!(broken(&market, Broken::SecondOfGroup), 1);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_business_has_its_method() {
    let market = grouped();
    let refused = send(&market, business_update(&[item("A", 90, 1)])).await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.message(),
        "Method is not allowed for businesses with warehouse groups"
    );
    assert_eq!(send(&market, update(&[("A", 1)], now())).await.status, 200);
    // Without groups the campaigns' own still works, unless the Market is past that.
    assert_eq!(
        send(&Market::new(config()), update(&[("A", 1)], now()))
            .await
            .status,
        200
    );
    let strict = Market::new(MarketConfig {
        campaign_method_needs_groups: true,
        ..config()
    });
    let refused = send(&strict, update(&[("A", 1)], now())).await;
    assert_eq!(refused.status, 403);
    let message = refused.message();
    assert!(message.starts_with("The method is deprecated and is occasionally forbidden "));
    assert!(strict.is_empty(7));
}

// === Keys, campaigns, warehouses ===

#[tokio::test(start_paused = true)]
async fn a_key_may_do_what_its_scopes_say() {
    let none: &[(&str, u16)] = &[("update", 403), ("read", 403), ("warehouses", 403)];
    let reads: &[(&str, u16)] = &[("update", 403), ("read", 200), ("warehouses", 403)];
    let stocks: &[(&str, u16)] = &[("update", 200), ("read", 200), ("warehouses", 403)];
    let lists: &[(&str, u16)] = &[("update", 403), ("read", 403), ("warehouses", 200)];
    let all_reads: &[(&str, u16)] = &[("update", 403), ("read", 200), ("warehouses", 200)];
    for (scope, expected) in [
        (Scope::Pricing, none),
        (Scope::OffersAndCardsManagement, stocks),
        (Scope::OffersAndCardsManagementReadOnly, reads),
        (Scope::InventoryAndOrderProcessing, lists),
        (Scope::InventoryAndOrderProcessingReadOnly, lists),
        (Scope::AllMethodsReadOnly, all_reads),
    ] {
        let market = Market::new(config().scoped("key", &[scope]));
        let business = json!({ "partnerWarehouseId": 70 });
        for request in [
            ("update", update(&[("A", 1)], now())),
            ("update", business_update(&[item("A", 70, 1)])),
            ("read", post(PATH, &json!({}))),
            ("read", post(READ_BACK, &business)),
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
            let answer = send(&market, request).await;
            assert_eq!(answer.status, status, "{scope} {kind}");
            if status == 403 {
                let words = "Token does not have any of the scopes ";
                assert!(answer.message().starts_with(words), "{}", answer.message());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_told_its_scopes() {
    let market = Market::new(config().scoped("other", &[Scope::Pricing, Scope::Promotion]));
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
    let logged = market.requests()[0];
    assert_eq!((logged.call, market.report().asides), (Call::Aside, 3));
}

#[tokio::test(start_paused = true)]
async fn a_key_sees_its_own_campaigns_page_by_page() {
    let market = Market::new(config());
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
        send(&market, get("/v2/campaigns/9")).await.message(),
        "Access denied"
    );
    assert_eq!(
        send(&market, get("/v2/campaigns/5")).await.message(),
        "Campaign not found"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disabled_campaign_says_so_and_takes_no_stock() {
    let mut config = config();
    config.campaigns[0].availability = Availability::DisabledByInactivity;
    let market = Market::new(config);
    let shown = send(&market, get("/v2/campaigns/7")).await.json();
    assert_eq!(
        shown["campaign"]["apiAvailability"],
        "DISABLED_BY_INACTIVITY"
    );
    for request in [
        update(&[("A", 1)], now()),
        post(PATH, &json!({})),
        business_update(&[item("A", 70, 1), item("A", 80, 1)]),
        post(READ_BACK, &json!({ "partnerWarehouseId": 70 })),
    ] {
        let answer = send(&market, request).await;
        assert_eq!(answer.status, 403);
        let message = answer.message();
        assert!(
            message.starts_with("API for campaign 7 is disabled"),
            "{message}"
        );
    }
    assert!(market.is_empty(7) && market.is_empty(8));
    assert_eq!(
        send(&market, business_update(&[item("A", 80, 1)]))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn a_business_that_is_not_the_caller_s_is_refused() {
    let market = Market::new(config());
    let whole = json!({ "partnerWarehouseId": 70 });
    for (business, status, message) in [
        ("7", 404, "Business not found"),
        ("800", 403, "Access denied"),
        ("x", 400, "Illegal input at 'businessId'"),
    ] {
        for path in ["offers/stocks/update", "offers/stocks", "warehouses"] {
            let path = format!("/v3/businesses/{business}/{path}");
            let answer = send(&market, post(&path, &whole)).await;
            assert_eq!(
                (answer.status, answer.message().as_str()),
                (status, message)
            );
        }
    }
    let answer = send(&market, request("PUT", UPDATE, String::new())).await;
    assert_eq!(answer.status, 405);
    let home = MarketConfig::new(Clock::starting_at(now())).campaign(7, 70, "key");
    let path = format!("/v3/businesses/{HOME_BUSINESS}/offers/stocks");
    assert_eq!(
        send(&Market::new(home), post(&path, &whole)).await.status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn warehouses_show_their_groups_and_their_status_if_asked() {
    let market = grouped();
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
        let answer = send(&market, post(&format!("{path}{query}"), &body)).await;
        assert_eq!(answer.status, 400, "{query} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn warehouses_come_fifteen_to_a_page() {
    let campaign = |id| CampaignConfig::new(id, id * 10, vec!["key".into()]).of_business(700);
    let campaigns = (1..=32).map(campaign).collect();
    let market = Market::new(MarketConfig {
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
async fn warehouses_of_the_market_itself_are_not_listed_by_business() {
    let mut config = config();
    config.campaigns[1].placement = Placement::Fby;
    let market = Market::new(config);
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
async fn campaigns_that_sell_from_one_warehouse_are_its_models_and_share_its_stock() {
    let mut config = config();
    config.campaigns[1].warehouse = 70;
    config.campaigns[1].placement = Placement::Dbs;
    config.campaigns[1].availability = Availability::ManuallyDisabled;
    let market = Market::new(config);
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
        send(&market, business_update(&[item("A", 70, 3)]))
            .await
            .status,
        200
    );
    assert_eq!(
        (told(&market, 7, "A"), told(&market, 8, "A")),
        (Some(3), Some(3))
    );
}

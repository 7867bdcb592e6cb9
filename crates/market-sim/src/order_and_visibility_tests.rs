//! Tests of simulated orders, visibility delays, the archive, announced limits and hidden offers.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use chrono::TimeDelta;
use lifecycle::Clock;
use serde_json::{Value, json};

use super::simulator_report::MarketViolation;
use super::tests::{
    NOW, SimTestResponse, batch_request, now, offers, readback_campaign, request, send,
    update_request, violation_count,
};
use super::{CampaignConfig, FaultPlan, MarketFault, MarketSimulator, SimulatorConfig};

fn config() -> SimulatorConfig {
    SimulatorConfig::new(Clock::starting_at(NOW.parse().unwrap())).with_campaign(7, 70, "key")
}

fn market() -> MarketSimulator {
    MarketSimulator::new(config())
}

/// Returns the id, the types with counts, and `updatedAt` of each visible offer.
async fn visible_offers(market: &MarketSimulator) -> Vec<(String, String, String)> {
    let response = readback_campaign(market, "", json!({})).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stock = |stock: &Value| format!("{} {}", text(&stock["type"]), stock["count"]);
    let offer = |offer: &Value| {
        let stocks: Vec<String> = offer["stocks"]
            .as_array()
            .unwrap()
            .iter()
            .map(stock)
            .collect();
        (
            text(&offer["offerId"]),
            stocks.join(", "),
            text(&offer["updatedAt"]),
        )
    };
    offers(&response, 70).iter().map(offer).collect()
}

fn offer(sku: &str, stocks: &str, at: &str) -> (String, String, String) {
    (sku.to_owned(), stocks.to_owned(), at.to_owned())
}

// === Buyers ===

#[tokio::test(start_paused = true)]
async fn order_freezes_pieces_and_keeps_seller_count() {
    let market = market();
    send(
        &market,
        update_request(&[("A", 5)], now() - TimeDelta::hours(1)),
    )
    .await;
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(market.order(7, "A", 2), 2);
    let at = "2026-11-20T10:00:10Z";
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 5, FREEZE 2, AVAILABLE 3", at)]
    );
    assert_eq!(market.available(7, "A"), Some(3));
    assert_eq!(market.snapshot(7)["A"], (5, now() - TimeDelta::hours(1)));
    assert_eq!(market.get(7, "A").unwrap().count, 5);
    // Buyers get at most the available pieces.
    assert_eq!(market.order(7, "A", 9), 3);
    assert_eq!(market.order(7, "A", 1), 0);
    assert_eq!(market.order(7, "unknown", 1), 0);
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 5, FREEZE 5, AVAILABLE 0", at)]
    );
    assert!(market.skus_ever_zero(7).is_empty());
    assert_eq!(market.report().pieces_ordered, 5);
}

#[tokio::test(start_paused = true)]
async fn update_after_shipping_keeps_frozen_pieces() {
    let market = market();
    send(&market, update_request(&[("A", 5)], now())).await;
    market.order(7, "A", 3);
    assert_eq!(market.ship(7, "A", 1), 1);
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 4, FREEZE 2, AVAILABLE 2", NOW)]
    );
    tokio::time::advance(Duration::from_secs(10)).await;
    send(
        &market,
        update_request(&[("A", 7)], now() + TimeDelta::seconds(5)),
    )
    .await;
    let at = "2026-11-20T10:00:05Z";
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 9, FREEZE 2, AVAILABLE 7", at)]
    );
    assert_eq!(market.ship(7, "A", 9), 2);
    assert_eq!(market.ship(7, "A", 1), 0);
    let at = "2026-11-20T10:00:10Z";
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 7, AVAILABLE 7", at)]
    );
}

#[tokio::test(start_paused = true)]
async fn order_reduces_stock_of_whole_group() {
    let campaign = |id| CampaignConfig::new(id, id * 10, vec!["key".into()]).in_group(1, "g");
    let campaigns = vec![campaign(7), campaign(8)];
    let market = MarketSimulator::new(SimulatorConfig {
        campaigns,
        ..config()
    });
    send(&market, update_request(&[("A", 5)], now())).await;
    market.order(8, "A", 2);
    assert_eq!(market.available(7, "A"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn order_rate_is_reproducible() {
    let ordered_skus = || async {
        let market = market();
        market.set_faults(FaultPlan::seeded(1).with_order_rate(0.1));
        assert_eq!(send(&market, batch_request(0, 2_000)).await.status, 200);
        let is_sold_out = |sku: &&String| market.available(7, sku) == Some(0);
        let skus: Vec<String> = (0..2_000).map(|n| format!("0-{n}")).collect();
        let sold_out: Vec<String> = skus.iter().filter(is_sold_out).cloned().collect();
        assert_eq!(
            u64::try_from(sold_out.len()).unwrap(),
            market.report().pieces_ordered
        );
        assert!(market.snapshot(7).values().all(|(count, _)| *count == 1));
        sold_out
    };
    let first = ordered_skus().await;
    assert!((150..250).contains(&first.len()), "{}", first.len());
    assert_eq!(ordered_skus().await, first);
}

// === Visibility delay, archive, catalogue ===

#[tokio::test(start_paused = true)]
async fn updates_show_delayed_and_orders_at_once() {
    let market = MarketSimulator::new(SimulatorConfig {
        visibility_delay: Duration::from_secs(60),
        ..config()
    });
    market.seed_stock(7, "A", 9, now());
    send(&market, update_request(&[("A", 5), ("B", 1)], now())).await;
    assert_eq!(market.available(7, "A"), Some(5));
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 9, AVAILABLE 9", NOW)]
    );
    tokio::time::advance(Duration::from_secs(30)).await;
    send(
        &market,
        update_request(&[("A", 4)], now() + TimeDelta::seconds(30)),
    )
    .await;
    market.order(7, "A", 1);
    let ordered = "2026-11-20T10:00:30Z";
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 9, FREEZE 1, AVAILABLE 8", ordered)]
    );
    tokio::time::advance(Duration::from_millis(29_999)).await;
    assert_eq!(visible_offers(&market).await.len(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    let first = offer("A", "FIT 5, FREEZE 1, AVAILABLE 4", ordered);
    assert_eq!(
        visible_offers(&market).await,
        [first, offer("B", "FIT 1, AVAILABLE 1", NOW)]
    );
    tokio::time::advance(Duration::from_secs(30)).await;
    let second = offer("A", "FIT 4, FREEZE 1, AVAILABLE 3", ordered);
    assert_eq!(visible_offers(&market).await[0], second);
    // The visible stock stays until the next update becomes visible.
    let before = market.available(7, "A");
    send(&market, update_request(&[("A", 0)], now())).await;
    assert_eq!((before, market.available(7, "A")), (Some(3), Some(0)));
    assert_eq!(visible_offers(&market).await[0], second);
}

#[tokio::test(start_paused = true)]
async fn archived_offer_shows_in_archive_and_by_id() {
    let market = market();
    send(&market, update_request(&[("A", 5), ("B", 1)], now())).await;
    market.archive(7, "A");
    let offer_ids = |response: SimTestResponse| -> Vec<String> {
        let ids = offers(&response, 70);
        ids.iter()
            .map(|offer| offer["offerId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        offer_ids(readback_campaign(&market, "", json!({})).await),
        ["B"]
    );
    assert_eq!(
        offer_ids(readback_campaign(&market, "", json!({ "archived": false })).await),
        ["B"]
    );
    assert_eq!(
        offer_ids(readback_campaign(&market, "", json!({ "archived": true })).await),
        ["A"]
    );
    assert_eq!(
        offer_ids(readback_campaign(&market, "", json!({ "offerIds": ["A"] })).await),
        ["A"]
    );
    assert_eq!(market.get(7, "A").unwrap().count, 5);
}

#[tokio::test(start_paused = true)]
async fn unsold_sku_is_acknowledged_but_not_shown() {
    let catalogue = Some(HashSet::from(["A".to_owned()]));
    let market = MarketSimulator::new(SimulatorConfig {
        catalogue,
        ..config()
    });
    market.set_faults(FaultPlan::seeded(1).with_order_rate(1.0));
    assert_eq!(
        send(&market, update_request(&[("A", 5), ("B", 1)], now()))
            .await
            .status,
        200
    );
    assert_eq!(
        visible_offers(&market).await,
        [offer("A", "FIT 5, FREEZE 1, AVAILABLE 4", NOW)]
    );
    let by_id = readback_campaign(&market, "", json!({ "offerIds": ["B"] })).await;
    assert!(offers(&by_id, 70).is_empty());
    assert_eq!(
        (market.available(7, "B"), market.order(7, "B", 1)),
        (None, 0)
    );
    assert_eq!(market.report().pieces_ordered, 1);
}

// === Announced limits ===

#[tokio::test(start_paused = true)]
async fn announced_limit_is_enforced() {
    let market = market();
    market.set_faults(FaultPlan::none().with_limit_headers(10));
    let header = |response: &SimTestResponse, name: &str| {
        response
            .header(&format!("x-ratelimit-resource-{name}"))
            .map(ToOwned::to_owned)
    };
    tokio::time::advance(Duration::from_secs(5)).await;
    let first = send(&market, batch_request(0, 4)).await;
    assert_eq!(header(&first, "limit").as_deref(), Some("10"));
    assert_eq!(header(&first, "remaining").as_deref(), Some("6"));
    assert_eq!(
        header(&first, "until").as_deref(),
        Some("Fri, 20 Nov 2026 10:01:05 GMT")
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    let rejected = send(
        &market,
        update_request(&[("A", 1)], now() + TimeDelta::hours(1)),
    )
    .await;
    assert_eq!(
        (rejected.status, header(&rejected, "remaining").as_deref()),
        (400, Some("5"))
    );
    let limited = send(&market, batch_request(1, 6)).await;
    assert_eq!(
        (limited.status, header(&limited, "remaining").as_deref()),
        (420, Some("0"))
    );
    assert!(
        limited.error_message().contains("limit of 10 requests"),
        "{}",
        limited.error_message()
    );
    assert_eq!(violation_count(&market, MarketViolation::Volume), 1);
    assert_eq!(send(&market, batch_request(2, 5)).await.status, 200);
    assert_eq!(
        header(&readback_campaign(&market, "", json!({})).await, "limit"),
        None
    );
    market.clear_faults();
    let without_plan = send(&market, batch_request(3, 100)).await;
    assert_eq!(
        (without_plan.status, header(&without_plan, "limit")),
        (200, None)
    );
}

#[tokio::test(start_paused = true)]
async fn announced_limit_never_exceeds_own_limit() {
    let market = MarketSimulator::new(SimulatorConfig {
        skus_per_minute: 10,
        ..config()
    });
    let plan = FaultPlan::seeded(1)
        .with_fault(MarketFault::VolumeLimit, 1.0)
        .with_limit_headers(100);
    market.set_faults(plan);
    for number in 0..30 {
        let response = send(&market, batch_request(number, 1)).await;
        assert_eq!(response.header("x-ratelimit-resource-limit"), Some("10"));
        assert_eq!(response.header("x-ratelimit-resource-remaining"), Some("0"));
    }
}

// === Hidden offers ===

const HIDDEN_OFFERS_PATH: &str = "/v2/campaigns/7/hidden-offers";

fn visibility_request(path: &str, offers: &[&str]) -> Request<Body> {
    let offers: Vec<Value> = offers.iter().map(|id| json!({ "offerId": id })).collect();
    request("POST", path, json!({ "hiddenOffers": offers }).to_string())
}

async fn hidden_offers(market: &MarketSimulator, query: &str) -> (Vec<String>, Option<String>) {
    let path = format!("{HIDDEN_OFFERS_PATH}{query}");
    let json_body = send(market, request("GET", &path, String::new()))
        .await
        .json();
    let offers = json_body["result"]["hiddenOffers"]
        .as_array()
        .unwrap()
        .clone();
    let id = |offer: &Value| offer["offerId"].as_str().unwrap().to_owned();
    let next = json_body["result"]["paging"]["nextPageToken"]
        .as_str()
        .map(ToOwned::to_owned);
    (offers.iter().map(id).collect(), next)
}

#[tokio::test(start_paused = true)]
async fn offer_stays_hidden_until_shown_again() {
    let market = market();
    let response = send(
        &market,
        visibility_request(HIDDEN_OFFERS_PATH, &["A", " Б 1 ", "C"]),
    )
    .await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "status": "OK" }))
    );
    assert!(market.is_hidden(7, "A") && market.is_hidden(7, "Б 1") && !market.is_hidden(8, "A"));
    assert_eq!(
        hidden_offers(&market, "").await,
        (vec!["A".into(), "C".into(), "Б 1".into()], None)
    );
    let query = "?offer_id=A&offer_id=%D0%91+1&offer_id=D";
    assert_eq!(hidden_offers(&market, query).await.0, ["A", "Б 1"]);
    // Updates do not change the visibility.
    send(&market, update_request(&[("A", 5)], now())).await;
    assert!(market.is_hidden(7, "A"));
    let delete = format!("{HIDDEN_OFFERS_PATH}/delete");
    assert_eq!(
        send(&market, visibility_request(&delete, &["A", "A", "D"]))
            .await
            .status,
        200
    );
    assert!(!market.is_hidden(7, "A") && market.is_hidden(7, "C"));
    assert_eq!(hidden_offers(&market, "?offer_id=A").await.0, [""; 0]);
    let report = market.report();
    assert_eq!(
        (
            report.offers_hidden,
            report.offers_shown,
            report.other_calls
        ),
        (3, 1, 5)
    );
}

#[tokio::test(start_paused = true)]
async fn hidden_offers_are_paged() {
    let market = market();
    let skus: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
    send(&market, visibility_request(HIDDEN_OFFERS_PATH, &skus)).await;
    let (first, next) = hidden_offers(&market, "").await;
    assert_eq!(first, skus[..250]);
    let (last, none) = hidden_offers(&market, &format!("?page_token={}", next.unwrap())).await;
    assert_eq!((last.len(), none), (50, None));
    assert_eq!(hidden_offers(&market, "?limit=500").await.0.len(), 300);
    let rejected = request(
        "GET",
        &format!("{HIDDEN_OFFERS_PATH}?limit=501"),
        String::new(),
    );
    assert_eq!(send(&market, rejected).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn rejects_invalid_hidden_offers() {
    let market = market();
    let many: Vec<String> = (0..501).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for request in [
        visibility_request(HIDDEN_OFFERS_PATH, &[]),
        visibility_request(HIDDEN_OFFERS_PATH, &many),
        visibility_request(HIDDEN_OFFERS_PATH, &["A", "A "]),
        visibility_request(HIDDEN_OFFERS_PATH, &[""]),
        request("POST", HIDDEN_OFFERS_PATH, "{}".to_owned()),
        request(
            "POST",
            HIDDEN_OFFERS_PATH,
            r#"{"hiddenOffers":["A"]}"#.to_owned(),
        ),
    ] {
        assert_eq!(send(&market, request).await.status, 400);
    }
    assert_eq!(market.report().offers_hidden, 0);
}

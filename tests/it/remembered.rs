//! What is remembered beside the stock: who said and asked what, and when.

use chrono::TimeDelta;
use serde_json::Value;
use stockbridge::clock::Clock;

use crate::harness::{House, Shop, dated, market};

#[tokio::test(flavor = "multi_thread")]
async fn who_asked_and_who_said_it_survives_a_restart_and_costs_no_log() {
    let shops = [Shop::moscow().set("migrate = \"off\"")];
    // In the middle of an hour and of the stretch in which a mark is written once.
    let clock = Clock::starting_at("2026-11-20T16:30:00Z".parse().unwrap());
    let mut house = House::set_up(market(&shops), &shops, "", clock).await;
    let shop = house.shop().clone();
    house.doors().feed(&shop, &[("A", 1)]).await;
    let last_seq = async |house: &House| {
        house.doors().status().await["store"]["last_seq"]
            .as_i64()
            .unwrap()
    };
    let fed = last_seq(&house).await;
    for _ in 0..50 {
        house.doors().counts(&shop, &["A", "stranger"]).await;
    }
    // Marks are written now and then, the first time soon after the start.
    let asked = last_seq(&house).await;
    assert!(asked <= fed + 1, "{} changes for 50 questions", asked - fed);
    house.restart().await;
    let marked = last_seq(&house).await;
    assert!(marked > fed, "the marks are on disk");
    let told = async |house: &House, sku: &str| {
        house
            .doors()
            .operator("GET", &format!("/explain?sku={sku}"), "")
            .await
            .1[0]
            .take()
    };
    let marks = serde_json::json!([{ "warehouse": 569_667, "hour": "2026-11-20T16:00:00Z" }]);
    let known = told(&house, "A").await;
    assert_eq!(known["asked"], marks);
    assert_eq!(known["book"]["last_asserted_hour"], "2026-11-20T16:00:00Z");
    assert_eq!(known["book"]["origin"], "put /v2/campaigns");
    let stranger = told(&house, "stranger").await;
    assert_eq!(
        (&stranger["book"], &stranger["asked"]),
        (&Value::Null, &marks)
    );
    let sources = &house.doors().status().await["shops"][0]["sources"];
    assert_eq!(sources[0]["origin"], "put /v2/campaigns");
    // Asked for again in the same stretch, nothing is written, not even at the end.
    house.doors().counts(&shop, &["A", "stranger"]).await;
    house.restart().await;
    assert_eq!(last_seq(&house).await, marked);
    // A stranger that is introduced brings along that it was asked for.
    house.doors().feed(&shop, &[("stranger", 2)]).await;
    assert_eq!(told(&house, "stranger").await["asked"], marks);
    house.restart().await;
    assert_eq!(told(&house, "stranger").await["asked"], marks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_falls_silent_is_noticed_until_it_says_anything() {
    let shops = [Shop::moscow(), Shop::new("omsk", 2, 22)];
    let two_hours_ago = Clock::wall().now() - TimeDelta::hours(2);
    let clock = Clock::starting_at(two_hours_ago);
    let mut house = House::set_up(market(&shops), &shops, "stale_hours = 1\n", clock).await;
    let same = dated("A", 5, &two_hours_ago.to_rfc3339());
    assert_eq!(
        house.doors().put(&shops[0], same.as_bytes()).await.status,
        200
    );
    house.settle().await;
    assert_eq!(house.doors().alarms().await, []);
    house.restart_by(Clock::wall()).await;
    let is_told = |status: &Value| {
        let told = &status["alarms"][0];
        let text = told["text"].as_str().unwrap_or_default();
        told["alarm"] == "source_silent"
            && told["about"] == "moscow"
            && text.contains("for 2 h; the last was put /v2/campaigns")
    };
    house.doors().until("somebody notices", is_told).await;
    // The other was never fed, so it cannot have fallen silent.
    assert_eq!(house.doors().alarms().await.len(), 1);
    let (_, report) = house.doors().operator("GET", "/ready-report", "").await;
    let reasons = report["shops"][0]["reasons"].to_string();
    assert!(
        reasons.contains("no source has said anything for 2 h"),
        "{reasons}"
    );
    // It says nothing new, but it is alive.
    assert_eq!(
        house.doors().put(&shops[0], same.as_bytes()).await.status,
        200
    );
    assert_eq!(house.doors().alarms().await, []);
    assert_eq!(house.market.report().requests, 1);
}

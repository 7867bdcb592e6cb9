//! Activity of SKUs: when each was last stated and requested, and by which origin.

use chrono::TimeDelta;
use lifecycle::Clock;
use serde_json::Value;

use crate::harness::{TestService, TestShop, dated_update, market_for};

#[tokio::test(flavor = "multi_thread")]
async fn activity_survives_a_restart_without_log_records() {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    // In the middle of an hour and of the stretch in which a mark is written once.
    let clock = Clock::starting_at("2026-11-20T16:30:00Z".parse().unwrap());
    let mut service = TestService::start_with(market_for(&shops), &shops, "", clock).await;
    let shop = service.shop().clone();
    service.endpoints().feed(&shop, &[("A", 1)]).await;
    let last_seq = async |service: &TestService| {
        service.endpoints().status().await["store"]["last_seq"]
            .as_i64()
            .unwrap()
    };
    let seq_after_feed = last_seq(&service).await;
    for _ in 0..50 {
        service.endpoints().counts(&shop, &["A", "stranger"]).await;
    }
    // Marks are written now and then, the first time soon after the start.
    let seq_after_requests = last_seq(&service).await;
    assert!(
        seq_after_requests <= seq_after_feed + 1,
        "{} changes for 50 questions",
        seq_after_requests - seq_after_feed
    );
    service.restart().await;
    let seq_after_restart = last_seq(&service).await;
    assert!(seq_after_restart > seq_after_feed, "the marks are on disk");
    let explain = async |service: &TestService, sku: &str| {
        service
            .endpoints()
            .ops_request("GET", &format!("/explain?sku={sku}"), "")
            .await
            .1[0]
            .take()
    };
    let expected_asked =
        serde_json::json!([{ "warehouse": 569_667, "hour": "2026-11-20T16:00:00Z" }]);
    let explanation = explain(&service, "A").await;
    assert_eq!(explanation["asked"], expected_asked);
    assert_eq!(
        explanation["book"]["last_asserted_hour"],
        "2026-11-20T16:00:00Z"
    );
    assert_eq!(explanation["book"]["origin"], "put /v2/campaigns");
    let unknown = explain(&service, "stranger").await;
    assert_eq!(
        (&unknown["book"], &unknown["asked"]),
        (&Value::Null, &expected_asked)
    );
    let sources = &service.endpoints().status().await["shops"][0]["sources"];
    assert_eq!(sources[0]["origin"], "put /v2/campaigns");
    // Asked for again in the same stretch, nothing is written, not even at the end.
    service.endpoints().counts(&shop, &["A", "stranger"]).await;
    service.restart().await;
    assert_eq!(last_seq(&service).await, seq_after_restart);
    // A stranger that is introduced brings along that it was asked for.
    service.endpoints().feed(&shop, &[("stranger", 2)]).await;
    assert_eq!(explain(&service, "stranger").await["asked"], expected_asked);
    service.restart().await;
    assert_eq!(explain(&service, "stranger").await["asked"], expected_asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_source_raises_an_alarm() {
    let shops = [TestShop::moscow(), TestShop::new("omsk", 2, 22)];
    let two_hours_ago = Clock::wall().now() - TimeDelta::hours(2);
    let clock = Clock::starting_at(two_hours_ago);
    let mut service =
        TestService::start_with(market_for(&shops), &shops, "stale_hours = 1\n", clock).await;
    let same = dated_update("A", 5, &two_hours_ago.to_rfc3339());
    assert_eq!(
        service
            .endpoints()
            .put(&shops[0], same.as_bytes())
            .await
            .status,
        200
    );
    service.wait_settled().await;
    assert_eq!(service.endpoints().alarms().await, []);
    service.restart_with_clock(Clock::wall()).await;
    let is_alarm_raised = |status: &Value| {
        let alarm = &status["alarms"][0];
        let text = alarm["text"].as_str().unwrap_or_default();
        alarm["alarm"] == "source_silent"
            && alarm["about"] == "moscow"
            && text.contains("for 2 h: the last statement came by put /v2/campaigns")
    };
    service
        .endpoints()
        .wait_for_status("the alarm is raised", is_alarm_raised)
        .await;
    // The other was never fed, so it cannot have fallen silent.
    assert_eq!(service.endpoints().alarms().await.len(), 1);
    let (_, report) = service
        .endpoints()
        .ops_request("GET", "/ready-report", "")
        .await;
    let reasons = report["shops"][0]["reasons"].to_string();
    assert!(
        reasons.contains("no source has stated any stock for 2 h"),
        "{reasons}"
    );
    // It says nothing new, but it is alive.
    assert_eq!(
        service
            .endpoints()
            .put(&shops[0], same.as_bytes())
            .await
            .status,
        200
    );
    assert_eq!(service.endpoints().alarms().await, []);
    assert_eq!(service.market.report().updates, 1);
}

//! The self-test: after any failure the product is shown again.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use market_sim::{FaultPlan, MarketSimulator, SimCall, SimulatorConfig};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::harness::{
    Endpoints, TestService, TestShop, configuration, is_settled, market_config, shop_status,
};
use crate::program::{ProcessFixture, ServiceProcess, program, run_with_ops};
use crate::wire::send;

const CAMPAIGN: u64 = 12_345;

/// Waits until the simulator has seen something. It has no events, so it is polled.
async fn wait_until(what: &str, is_reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_reached() {
        assert!(Instant::now() < deadline, "never came about: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn start_selftest(endpoints: Endpoints, sku: &str) -> (u16, Value) {
    let request = json!({ "shop": "moscow", "sku": sku }).to_string();
    endpoints.ops_request("POST", "/selftest", &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hides_sends_reads_back_and_shows_in_this_order() {
    let shops = [
        TestShop::moscow(),
        TestShop::new("omsk", 2, 22).set("migrate = \"dry-run\""),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for (shop, campaign) in [(&shops[0], CAMPAIGN), (&shops[1], 2)] {
        endpoints.feed(shop, &[("Плед 1", 5)]).await;
        service.wait_settled().await;
        let before = service.market.requests().len();
        let words = ["selftest", "--shop", &shop.name, "--sku", "Плед 1", "--yes"];
        let (code, stdout, stderr) = run_with_ops(endpoints, &words);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        for expected_text in [
            "sent 5",
            "the Market shows it",
            "shows the product again",
            "works",
        ] {
            assert!(
                stdout.contains(expected_text),
                "{expected_text} is not in\n{stdout}"
            );
        }
        assert!(!service.market.is_hidden(campaign, "Плед 1"));
        // Is it hidden? Hide it. Is it hidden? Send, read back. Show it. Is it hidden?
        let mut calls = [SimCall::Other; 7];
        (calls[3], calls[4]) = (SimCall::Update, SimCall::Readback);
        let all_requests = service.market.requests();
        let own_campaign = all_requests[before..]
            .iter()
            .filter(|logged| logged.campaign == campaign);
        // A dry run reads the Market's copy back by itself.
        let selftest_requests =
            own_campaign.filter(|logged| logged.call != SimCall::Readback || logged.bytes > 20);
        let selftest_calls: Vec<SimCall> = selftest_requests.map(|logged| logged.call).collect();
        assert_eq!(selftest_calls, calls, "{}", shop.name);
    }
    let report = service.market.report();
    assert_eq!((report.offers_hidden, report.offers_shown), (2, 2));
    assert_eq!(endpoints.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_hidden_by_the_seller_stays_hidden() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 5)]).await;
    service.wait_settled().await;
    let market = service
        .market_url
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let body = br#"{"hiddenOffers":[{"offerId":"A"}]}"#;
    let headers = [
        ("Api-Key", "api-moscow"),
        ("Content-Type", "application/json"),
    ];
    let target = "/v2/campaigns/12345/hidden-offers";
    assert_eq!(
        send(market, "POST", target, &headers, body).await.status,
        200
    );
    let requests = service.market.report().updates;
    let (code, stdout, _) = run_with_ops(
        endpoints,
        &["selftest", "--shop", "moscow", "--sku", "A", "--yes"],
    );
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("the product is hidden already"), "{stdout}");
    assert!(service.market.is_hidden(CAMPAIGN, "A"));
    let report = service.market.report();
    assert_eq!((report.updates, report.offers_shown), (requests, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_nothing_without_consent_or_preconditions() {
    let shops = [
        TestShop::moscow(),
        TestShop::new("omsk", 2, 22).set("migrate = \"off\""),
        TestShop::new("paused", 3, 33),
    ];
    let mut service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    service
        .market
        .set_faults(FaultPlan::none().with_rejected_skus(["bad".to_owned()], true));
    service.market.revoke_key("api-paused");
    service.allow_unsent(&shops[2], "its key is revoked");
    endpoints.feed(&shops[0], &[("A", 5), ("bad", 1)]).await;
    endpoints.feed(&shops[1], &[("A", 5)]).await;
    endpoints.feed(&shops[2], &[("A", 5)]).await;
    service.wait_settled().await;
    let is_paused =
        |status: &Value| shop_status(status, &shops[2])["migrator"]["state"] == "paused";
    endpoints
        .wait_for_status("the last is paused", is_paused)
        .await;
    for (shop, sku, expected_text) in [
        (
            "moscow",
            "unknown-sku",
            "the stock of 'unknown-sku' is unknown",
        ),
        (
            "moscow",
            "bad",
            "the stock of this SKU cannot be sent now: the Market rejects it",
        ),
        ("moscow", "", "''"),
        ("nowhere", "A", "shop 'nowhere' is unknown"),
        ("omsk", "A", "migrate is off"),
        ("paused", "A", "the campaign is paused"),
    ] {
        let (code, stdout, stderr) = run_with_ops(
            endpoints,
            &["selftest", "--shop", shop, "--sku", sku, "--yes"],
        );
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(
            stderr.contains(expected_text),
            "{expected_text} is not in\n{stderr}"
        );
    }
    for answer in ["n\n", "", "nein\n"] {
        let mut command = program();
        command.args(["selftest", "--shop", "moscow", "--sku", "A", "--ops"]);
        let mut child = command
            .arg(endpoints.ops.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(answer.as_bytes())
            .unwrap();
        let output = block_in_place(|| child.wait_with_output().unwrap());
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stdout}");
        assert!(stdout.contains("Nothing was changed."), "{stdout}");
    }
    // A page in a browser cannot send JSON here unasked, nor the header.
    let request = br#"{"shop":"moscow","sku":"A"}"#;
    let text = ("Content-Type", "text/plain");
    for (fields, status) in [(vec![text], 403), (vec![text, ("X-Stockbridge", "1")], 400)] {
        let response = send(endpoints.ops, "POST", "/selftest", &fields, request);
        assert_eq!(response.await.status, status);
    }
    assert_eq!(service.market.report().other_calls, 0);
}

/// A service whose check waits in the read-back: the Market shows nothing for an hour.
async fn interrupted_selftest(shop: &TestShop) -> (ProcessFixture, ServiceProcess) {
    let shops = [shop.clone(), TestShop::new("other", 2, 22)];
    let visible_after = Duration::from_hours(1);
    let market = MarketSimulator::new(SimulatorConfig {
        visibility_delay: visible_after,
        ..market_config(&shops)
    });
    let fixture = ProcessFixture::with_market(market, &shops[..1], "").await;
    let process = fixture.serve();
    process.endpoints.feed(shop, &[("A", 5)]).await;
    let settled = |status: &Value| is_settled(status, shop);
    process
        .endpoints
        .wait_for_status("it is sent", settled)
        .await;
    assert_eq!(
        start_selftest(process.endpoints, "A").await,
        (202, Value::Null)
    );
    wait_until("it is read back", || fixture.market.report().readbacks > 0).await;
    assert!(fixture.market.is_hidden(CAMPAIGN, "A"));
    assert_eq!(
        fixture.market.get(CAMPAIGN, "A").unwrap().updates_received,
        2
    );
    (fixture, process)
}

fn hidden_alarm() -> Vec<(String, String)> {
    vec![("selftest_hidden".to_owned(), "moscow".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_next_start_shows_the_product() {
    let shop = TestShop::moscow();
    let (fixture, mut process) = interrupted_selftest(&shop).await;
    process.kill();
    fixture.market.revoke_key("api-moscow");
    let mut process = fixture.serve();
    assert_eq!(process.endpoints.alarms().await, hidden_alarm());
    let (status, error_body) = start_selftest(process.endpoints, "A").await;
    assert_eq!(
        (status, &error_body["error"]["code"]),
        (409, &"RUNNING".into())
    );
    let (_, tests) = process
        .endpoints
        .ops_request("GET", "/selftest?shop=moscow", "")
        .await;
    assert_eq!(
        (&tests[0]["state"], &tests[0]["is_shown"]),
        (&"running".into(), &false.into())
    );
    // Killed once more, it is still not forgotten.
    process.kill();
    let mut process = fixture.serve();
    assert!(
        process
            .endpoints
            .alarms()
            .await
            .contains(&hidden_alarm()[0])
    );
    assert!(fixture.market.is_hidden(CAMPAIGN, "A"));
    fixture.market.restore_key("api-moscow");
    let no_alarm = |status: &Value| status["alarms"].as_array().unwrap().is_empty();
    process
        .endpoints
        .wait_for_status("it is shown again", no_alarm)
        .await;
    assert!(!fixture.market.is_hidden(CAMPAIGN, "A"));
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    // From now on it is the seller's own business.
    let process = fixture.serve();
    assert_eq!(process.endpoints.alarms().await, []);
    assert_eq!(fixture.market.report().offers_shown, 1);
    fixture.market_tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_shows_the_product_with_a_valid_key() {
    let shop = TestShop::moscow().secret("API_KEY_2", "second-api-moscow");
    let (fixture, mut process) = interrupted_selftest(&shop).await;
    let (status, error_body) = start_selftest(process.endpoints, "A").await;
    assert_eq!(
        (status, &error_body["error"]["code"]),
        (409, &"RUNNING".into())
    );
    fixture.market.revoke_key("api-moscow");
    process.signal("-TERM");
    assert_eq!(
        process.wait_for_exit().await.code(),
        Some(0),
        "{}",
        process.full_log()
    );
    assert!(!fixture.market.is_hidden(CAMPAIGN, "A"));
    let process = fixture.serve();
    assert_eq!(process.endpoints.alarms().await, []);
    let (_, tests) = process.endpoints.ops_request("GET", "/selftest", "").await;
    assert_eq!(tests, json!([null]));
    assert_eq!(fixture.market.report().offers_shown, 1);
    fixture.market_tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_product_that_stays_hidden() {
    let shop = TestShop::moscow();
    let (fixture, mut process) = interrupted_selftest(&shop).await;
    process.kill();
    let serve_as = |shop: TestShop| {
        let (text, _) = configuration(&fixture.market_url, &[shop]);
        std::fs::write(fixture.file(), text).unwrap();
        fixture.serve()
    };
    let mut process = serve_as(shop.clone().set("migrate = \"off\""));
    assert_eq!(process.endpoints.alarms().await, hidden_alarm());
    let status = process.endpoints.status().await;
    let text = status["alarms"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("'A'") && text.contains("campaign 12345"),
        "{text}"
    );
    process.kill();
    let mut elsewhere = shop.clone();
    elsewhere.campaign = 2;
    let mut process = serve_as(elsewhere);
    let alarms = process.endpoints.alarms().await;
    assert!(
        alarms
            .iter()
            .any(|(alarm, about)| alarm == "selftest_hidden" && about.contains("12345"))
    );
    process.kill();
    assert!(fixture.market.is_hidden(CAMPAIGN, "A"));
    assert_eq!(
        fixture.market.report().offers_shown,
        0,
        "nothing of another place is shown"
    );
    let process = serve_as(shop.clone());
    let no_alarm = |status: &Value| status["alarms"].as_array().unwrap().is_empty();
    process
        .endpoints
        .wait_for_status("it is shown again", no_alarm)
        .await;
    assert!(!fixture.market.is_hidden(CAMPAIGN, "A"));
    fixture.market_tasks.stop();
}

//! The operator asks: what differs, why, and whether it is time to switch over.

use std::collections::HashSet;

use chrono::TimeDelta;
use lifecycle::Clock;
use market_sim::{DEFAULT_BUSINESS_ID, FaultPlan, MarketSimulator, SimulatorConfig};
use serde_json::Value;

use crate::harness::{
    Endpoints, TestService, TestShop, dated_update, is_settled, market_config, market_for,
    shop_status,
};
use crate::partner_api::feed_business;
use crate::program::{program, run, run_with_ops};

const CAMPAIGN: u64 = 12_345;

/// A clock that is so many hours behind.
fn clock_hours_ago(hours: i64) -> Clock {
    Clock::starting_at(Clock::wall().now() - TimeDelta::hours(hours))
}

fn parse_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

// === Verify ===

#[tokio::test(flavor = "multi_thread")]
async fn verify_passes_if_equal_and_fails_on_drift() {
    let shops = [TestShop::moscow()];
    // The Market may show later what it has just acknowledged.
    let mut service =
        TestService::start_with(market_for(&shops), &shops, "", clock_hours_ago(1)).await;
    service
        .endpoints()
        .feed(&shops[0], &[("A", 5), ("Плед", 3)])
        .await;
    service.wait_settled().await;
    service.restart_with_clock(Clock::wall()).await;
    let endpoints = service.endpoints();
    let (code, stdout, stderr) = run_with_ops(endpoints, &["verify"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("ok    equal              2"), "{stdout}");
    assert!(
        stdout.contains("moscow: the Market's copy is correct"),
        "{stdout}"
    );
    let requests = service.market.report().updates;

    service
        .market
        .seed_stock(CAMPAIGN, "Плед", 9, Clock::wall().now());
    let (code, stdout, _) = run_with_ops(endpoints, &["verify", "--shop", "moscow"]);
    assert_eq!(code, Some(1), "{stdout}");
    let drifted = "drifted 'Плед', in the service 3, on the Market 9";
    for expected_text in ["OPEN  drifted            1", drifted, "is NOT explained"] {
        assert!(
            stdout.contains(expected_text),
            "{expected_text} is not in\n{stdout}"
        );
    }
    let (code, stdout, _) = run_with_ops(endpoints, &["verify", "--json"]);
    assert_eq!(code, Some(1), "{stdout}");
    let readback = parse_json(&stdout)[0]["survey"].take();
    assert_eq!(
        (
            &readback["classes"]["drifted"],
            &readback["classes"]["equal"]
        ),
        (&1.into(), &1.into())
    );
    assert_eq!(readback["examples"][0]["sku"], "Плед");
    assert!(
        endpoints
            .alarms()
            .await
            .contains(&("drift".to_owned(), "moscow".to_owned()))
    );
    // Without a new statement an old count would overwrite the Market's own changes.
    assert_eq!(service.market.report().updates, requests);
    service.allow_unsent(&shops[0], "another program has changed the Market's stock");
}

#[tokio::test(flavor = "multi_thread")]
async fn resends_and_names_skus_the_market_lacks() {
    let shops = [TestShop::moscow()];
    let catalogue = Some(HashSet::from(["A".to_owned()]));
    let config = SimulatorConfig {
        catalogue,
        ..market_config(&shops)
    };
    let mut service =
        TestService::start_with(MarketSimulator::new(config), &shops, "", clock_hours_ago(1)).await;
    service
        .endpoints()
        .feed(&shops[0], &[("A", 5), ("nowhere", 3)])
        .await;
    service.wait_settled().await;
    service.restart_with_clock(Clock::wall()).await;
    let (code, stdout, _) = run_with_ops(service.endpoints(), &["verify"]);
    assert_eq!(code, Some(1), "{stdout}");
    for expected_text in ["unknown 'nowhere', in the service 3", "SKUs sent again: 1."] {
        assert!(
            stdout.contains(expected_text),
            "{expected_text} is not in\n{stdout}"
        );
    }
    service.wait_settled().await;
    assert_eq!(
        service
            .market
            .get(CAMPAIGN, "nowhere")
            .unwrap()
            .updates_received,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_a_verify_that_is_not_possible() {
    let shops = [
        TestShop::moscow(),
        TestShop::new("omsk", 2, 22).set("migrate = \"off\""),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for (shop, expected_text) in [
        (
            "nowhere",
            "shop 'nowhere' is unknown, the shops are moscow, omsk",
        ),
        ("omsk", "migrate is off"),
    ] {
        let (code, stdout, stderr) = run_with_ops(endpoints, &["verify", "--shop", shop]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(expected_text), "{stderr}");
    }
    // Of all shops, those that can be.
    let (status, started) = endpoints.ops_request("POST", "/verify", "").await;
    assert_eq!(
        (status, started),
        (202, serde_json::json!({ "shops": ["moscow"] }))
    );
    let unused_address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, _, stderr) = run(program().args(["verify", "--ops", &unused_address.to_string()]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is it running"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readback_tries_both_keys_and_reports_the_failure() {
    let service =
        TestService::start(&[TestShop::moscow().secret("API_KEY_2", "second-api-moscow")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 1)]).await;
    service.wait_settled().await;
    // Nothing is to be sent that would find it out.
    service.market.revoke_key("api-moscow");
    let (code, stdout, stderr) = run_with_ops(endpoints, &["verify"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    service.market.revoke_key("second-api-moscow");
    let (code, _, stderr) = run_with_ops(endpoints, &["verify", "--json"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot be read: status 401"), "{stderr}");
}

// === A dry run ===
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sends_nothing_and_says_what_it_would() {
    let forwarding_shop = TestShop::moscow();
    let dry_run_shops = [forwarding_shop.clone().set("migrate = \"dry-run\"")];
    let mut service = TestService::start(&dry_run_shops).await;
    // The first pass starts by itself. A request during it gets the result of this pass.
    let has_readback =
        |status: &Value| shop_status(status, &dry_run_shops[0])["survey"]["state"] == "done";
    service
        .endpoints()
        .wait_for_status("it has looked", has_readback)
        .await;
    let earlier = Clock::wall().now() - TimeDelta::hours(1);
    for (sku, count) in [("same", 5), ("sold", 4), ("fewer", 7), ("more", 1)] {
        service.market.seed_stock(CAMPAIGN, sku, count, earlier);
    }
    let stock = [
        ("same", 5),
        ("sold", 0),
        ("fewer", 6),
        ("more", 2),
        ("new", 8),
    ];
    service.endpoints().feed(&dry_run_shops[0], &stock).await;
    let (code, stdout, stderr) = run_with_ops(service.endpoints(), &["verify"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("DRY RUN: nothing was sent."), "{stdout}");
    let status = service.endpoints().status().await;
    let shop = shop_status(&status, &dry_run_shops[0]);
    assert_eq!(
        (&shop["migrate"], &shop["migrator"]["state"]),
        (&"dry-run".into(), &"dry-run".into())
    );
    let would = serde_json::json!({
        "skus": 5, "same": 1, "to_zero": 1, "lower": 1, "higher": 1, "unknown": 1, "requests": 1,
        "minutes": 1,
    });
    assert_eq!(shop["survey"]["would_send"], would);
    let (code, stdout, _) = run_with_ops(service.endpoints(), &["ready"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("migrate is \"dry-run\": nothing is sent"),
        "{stdout}"
    );
    assert_eq!(service.market.report().updates, 0);

    service
        .restart_with_config(std::slice::from_ref(&forwarding_shop), "")
        .await;
    service.wait_settled().await;
    for (sku, count) in stock {
        assert_eq!(
            service.market.get(CAMPAIGN, sku).unwrap().count,
            count,
            "{sku}"
        );
    }
    let status = service.endpoints().status().await;
    assert_eq!(shop_status(&status, &forwarding_shop)["migrate"], "on");
    assert!(shop_status(&status, &forwarding_shop)["survey"]["would_send"].is_null());
}

// === Explain ===

fn explain_lines(endpoints: Endpoints, sku: &str) -> String {
    run_with_ops(endpoints, &["explain", sku]).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_is_explained_from_the_seller_to_the_shelf() {
    let service = TestService::start(&[TestShop::moscow().set("business = 7")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    service
        .market
        .set_faults(FaultPlan::none().with_rejected_skus(["bad".to_owned()], true));
    endpoints.feed(shop, &[("A", 5), ("bad", 1)]).await;
    let response = feed_business(endpoints, shop.feed_key(), &[("B", 569_667, 3)]).await;
    assert_eq!(response.status, 200, "{}", response.text());
    service.wait_settled().await;
    endpoints.counts(shop, &["A"]).await;
    assert_eq!(
        run_with_ops(endpoints, &["verify"]).0,
        Some(1),
        "one is refused"
    );

    let (code, stdout, stderr) = run_with_ops(endpoints, &["explain", "A", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let explanation = parse_json(&stdout)[0].take();
    assert_eq!(
        (&explanation["shop"], &explanation["sku"]),
        (&"moscow".into(), &"A".into())
    );
    assert_eq!(explanation["book"]["count"], 5);
    assert_eq!(explanation["book"]["origin"], "put /v2/campaigns");
    assert_eq!(explanation["asked"][0]["warehouse"], 569_667);
    assert_eq!(
        (
            &explanation["ledger"]["count"],
            &explanation["ledger"]["due_again"]
        ),
        (&5.into(), &false.into())
    );
    assert_eq!(
        (
            &explanation["market"]["available"],
            &explanation["market"]["class"]
        ),
        (&5.into(), &"equal".into())
    );
    assert!(explanation["quarantine"].is_null());
    let events = explanation["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["what"], "stated");
    let sent: Vec<&Value> = events
        .iter()
        .filter(|event| event["what"] == "sent")
        .collect();
    // The first time with the bad one, which was refused whole.
    assert_eq!(sent[0]["request"]["verdict"], "accept", "{sent:#?}");
    let trace = sent[0]["request"]["trace"].as_str().unwrap();
    assert!(
        trace.starts_with("00-") && explain_lines(endpoints, "A").contains(trace),
        "{trace}"
    );
    let lines = explain_lines(endpoints, "A");
    for expected_text in [
        "the Market has acknowledged it, and showed 5 (equal); migrate is on",
        "  asked    ",
    ] {
        assert!(
            lines.contains(expected_text),
            "{expected_text} is not in\n{lines}"
        );
    }

    let by_business = parse_json(&run_with_ops(endpoints, &["explain", "B", "--json"]).1);
    assert_eq!(by_business[0]["book"]["origin"], "post /v3/businesses");
    let bad = parse_json(&run_with_ops(endpoints, &["explain", "bad", "--json"]).1)[0].take();
    assert!(
        bad["ledger"].is_null() && bad["quarantine"]["attempts"] == 1,
        "{bad:#}"
    );
    assert!(
        bad["summary"]
            .as_str()
            .unwrap()
            .contains("the Market rejects it"),
        "{bad:#}"
    );
    assert!(
        bad["quarantine"]["reason"]
            .as_str()
            .unwrap()
            .contains("'bad'"),
        "{bad:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_has_so_many_events_and_no_more() {
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let at = Clock::wall().now().to_rfc3339();
    for _ in 0..30 {
        assert_eq!(
            endpoints
                .put(shop, dated_update("A", 5, &at).as_bytes())
                .await
                .status,
            200
        );
    }
    let (_, explanations) = endpoints.ops_request("GET", "/explain?sku=A", "").await;
    let events = explanations[0]["events"].as_array().unwrap();
    assert_eq!(events.len(), 20);
    assert!(
        events.iter().all(|event| event["what"] == "repeated"),
        "{explanations:#}"
    );
    assert!(explanations[0]["ledger"].is_null() && explanations[0]["market"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_sku_is_called_it_is_found_in_each_shop() {
    const STRANGE: &str = "Плед «зимний» 'x' \"50%\" %41+&=?#/\\ ё";
    let shops = [TestShop::moscow(), TestShop::new("omsk", 2, 22)];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    endpoints.feed(&shops[0], &[(STRANGE, 1)]).await;
    endpoints.feed(&shops[1], &[(STRANGE, 2)]).await;
    service.wait_settled().await;
    let counts = |words: &[&str]| {
        let (code, stdout, stderr) = run_with_ops(endpoints, words);
        assert_eq!(code, Some(0), "{stderr}");
        let explanations = parse_json(&stdout);
        let entries = explanations.as_array().unwrap().iter();
        entries
            .map(|shop| (shop["sku"].clone(), shop["book"]["count"].as_u64().unwrap()))
            .collect::<Vec<_>>()
    };
    let sku = || Value::from(STRANGE);
    assert_eq!(
        counts(&["explain", STRANGE, "--json"]),
        [(sku(), 1), (sku(), 2)]
    );
    assert_eq!(
        counts(&["explain", STRANGE, "--json", "--shop", "omsk"]),
        [(sku(), 2)]
    );
    // Blanks outside are none of it.
    assert_eq!(
        counts(&["explain", &format!(" {STRANGE} "), "--json"]).len(),
        2
    );
    for (words, expected_text) in [
        (
            ["explain", "A", "--shop", "nowhere"],
            "shop 'nowhere' is unknown",
        ),
        (["explain", " ", "--shop", "omsk"], "' '"),
    ] {
        let (code, stdout, stderr) = run_with_ops(endpoints, &words);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(expected_text), "{stderr}");
    }
    let (status, error_body) = endpoints.ops_request("GET", "/explain?shop=omsk", "").await;
    assert_eq!(
        (status, &error_body["error"]["code"]),
        (400, &"BAD_REQUEST".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prints_control_characters_of_skus_escaped() {
    const MISLEADING: &str = "A\tB\u{85}\u{9b}31m\u{202e}\u{2066}\u{200b}C";
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    service
        .endpoints()
        .feed(service.shop(), &[(MISLEADING, 1)])
        .await;
    let (code, stdout, stderr) = run_with_ops(service.endpoints(), &["explain", MISLEADING]);
    assert_eq!(code, Some(0), "{stderr}");
    let escaped = "'A\\tB\\u0085\\u009b31m\\u202e\\u2066\\u200bC'";
    assert!(stdout.contains(escaped), "{stdout}");
    let is_bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(c);
    assert!(!stdout.contains(is_bad), "{stdout:?}");
    // JSON is the same JSON.
    let (_, stdout, _) = run_with_ops(service.endpoints(), &["explain", MISLEADING, "--json"]);
    assert!(!stdout.contains(is_bad), "{stdout:?}");
    assert_eq!(parse_json(&stdout)[0]["sku"], MISLEADING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_that_only_the_market_knows_is_explained_too() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 1)]).await;
    assert_eq!(endpoints.counts(shop, &["A", "stranger"]).await.len(), 1);
    let (code, stdout, _) = run_with_ops(endpoints, &["explain", "stranger"]);
    assert_eq!(code, Some(1), "no shop has it");
    assert!(
        stdout.contains("the seller never stated its stock, and the Market last requested it"),
        "{stdout}"
    );
    assert!(
        stdout.contains("  asked    by the Market for warehouse 569667"),
        "{stdout}"
    );
    let (code, stdout, _) = run_with_ops(endpoints, &["explain", "unknown-sku"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("neither the seller nor the Market has named this SKU"),
        "{stdout}"
    );
}

// === Ready ===

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one sequence of steps")]
async fn ready_says_go_also_after_a_restart() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let shop = service.shop().clone();
    let ready = |service: &TestService| {
        let (code, stdout, stderr) = run_with_ops(service.endpoints(), &["ready", "--json"]);
        let report = parse_json(&stdout);
        assert_eq!(code == Some(0), report["verdict"] == "GO", "{stderr}");
        report["shops"][0].clone()
    };
    let assert_reasons = |shop_report: &Value, reasons: &[&str]| {
        let all = shop_report["reasons"].as_array().unwrap();
        assert_eq!(all.len(), reasons.len(), "{shop_report:#}");
        for (reason, expected) in all.iter().zip(reasons) {
            assert!(
                reason.as_str().unwrap().contains(expected),
                "{expected} is not in {shop_report:#}"
            );
        }
        assert_eq!(
            shop_report["verdict"],
            if reasons.is_empty() { "GO" } else { "NOT YET" }
        );
    };
    let unread = "never read back";
    assert_reasons(
        &ready(&service),
        &["no stock is known", "requested nothing yet", unread],
    );
    service.endpoints().feed(&shop, &[("A", 1), ("B", 2)]).await;
    service.wait_settled().await;
    assert_reasons(&ready(&service), &["requested nothing yet", unread]);
    service
        .endpoints()
        .counts(&shop, &["A", "B", "C", "D"])
        .await;
    let shop_report = ready(&service);
    assert_reasons(
        &shop_report,
        &[
            "2 of 4 SKUs that the Market requested recently have no known stock",
            unread,
        ],
    );
    assert_eq!(
        (
            &shop_report["coverage"]["asked"],
            &shop_report["coverage"]["in_book"]
        ),
        (&4.into(), &2.into())
    );
    let mut missing: Vec<_> = shop_report["coverage"]["missing"]
        .as_array()
        .unwrap()
        .clone();
    missing.sort_by_key(ToString::to_string);
    assert_eq!(missing, ["C", "D"]);
    // Those are asked for from now on, too, but the Market does not take them yet.
    service.market.revoke_key("api-moscow");
    service.endpoints().feed(&shop, &[("C", 3), ("D", 4)]).await;
    let is_paused = |status: &Value| shop_status(status, &shop)["migrator"]["state"] == "paused";
    service
        .endpoints()
        .wait_for_status("it is paused", is_paused)
        .await;
    let unsent = "2 of the requested SKUs have stock that the Market has not acknowledged";
    let shop_report = ready(&service);
    assert_reasons(
        &shop_report,
        &[
            unsent,
            "2 SKUs wait to be sent",
            "nothing is sent: ",
            unread,
        ],
    );
    service.allow_unsent(&shop, "its key was revoked");
    service.market.restore_key("api-moscow");
    service.restart().await;
    let is_sent = |status: &Value| is_settled(status, &shop);
    service
        .endpoints()
        .wait_for_status("all is sent", is_sent)
        .await;
    assert_reasons(&ready(&service), &[unread]);
    assert_eq!(run_with_ops(service.endpoints(), &["verify"]).0, Some(0));
    let before = ready(&service);
    assert_reasons(&before, &[]);
    service.restart().await;
    let after = ready(&service);
    assert_reasons(&after, &[]);
    assert_eq!(after["coverage"], before["coverage"]);
    assert_eq!(after["last_equal"], before["last_equal"]);
    let (code, stdout, _) = run_with_ops(service.endpoints(), &["ready"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("moscow, campaign 12345, migrate on: GO"),
        "{stdout}"
    );
    // Of another campaign's copy nothing is known.
    let elsewhere = TestShop::moscow().by_business(DEFAULT_BUSINESS_ID);
    service
        .restart_with_config(std::slice::from_ref(&elsewhere), "")
        .await;
    service
        .endpoints()
        .wait_for_status("all is sent again", |status| is_settled(status, &elsewhere))
        .await;
    assert_reasons(&ready(&service), &[unread]);
}

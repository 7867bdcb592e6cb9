//! The Market's own check of the integration: whatever happens, the product is shown again.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use stockbridge::rehearsal::{Call, FaultPlan, Market, MarketConfig};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::harness::{Doors, House, Shop, configuration, is_settled, market_config, of};
use crate::program::{Place, Served, ask, program};
use crate::wire::send;

const CAMPAIGN: u64 = 12_345;

/// The Market is in this process, and what it sees is no event: it is looked at.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never came about: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn begin(doors: Doors, sku: &str) -> (u16, Value) {
    let order = json!({ "shop": "moscow", "sku": sku }).to_string();
    doors.operator("POST", "/selftest", &order).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_hides_sends_reads_back_and_shows_in_this_order() {
    let shops = [
        Shop::moscow(),
        Shop::new("omsk", 2, 22).set("migrate = \"dry-run\""),
    ];
    let house = House::with(&shops).await;
    let doors = house.doors();
    for (shop, campaign) in [(&shops[0], CAMPAIGN), (&shops[1], 2)] {
        doors.feed(shop, &[("Плед 1", 5)]).await;
        house.settle().await;
        let before = house.market.requests().len();
        let words = ["selftest", "--shop", &shop.name, "--sku", "Плед 1", "--yes"];
        let (code, stdout, stderr) = ask(doors, &words);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        for said in [
            "sent 5",
            "the Market shows it",
            "shows the product again",
            "works",
        ] {
            assert!(stdout.contains(said), "{said} is not in\n{stdout}");
        }
        assert!(!house.market.is_hidden(campaign, "Плед 1"));
        // Is it hidden? Hide it. Is it hidden? Send, read back. Show it. Is it hidden?
        let mut calls = [Call::Aside; 7];
        (calls[3], calls[4]) = (Call::Update, Call::ReadBack);
        let made = house.market.requests();
        let made = made[before..]
            .iter()
            .filter(|logged| logged.campaign == campaign);
        // A dry run reads the Market's copy back by itself.
        let own = made.filter(|logged| logged.call != Call::ReadBack || logged.bytes > 20);
        let own: Vec<Call> = own.map(|logged| logged.call).collect();
        assert_eq!(own, calls, "{}", shop.name);
    }
    let report = house.market.report();
    assert_eq!((report.offers_hidden, report.offers_shown), (2, 2));
    assert_eq!(doors.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_seller_has_hidden_himself_stays_hidden() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 5)]).await;
    house.settle().await;
    let market = house
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
    let requests = house.market.report().requests;
    let (code, stdout, _) = ask(
        doors,
        &["selftest", "--shop", "moscow", "--sku", "A", "--yes"],
    );
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("the product is hidden already"), "{stdout}");
    assert!(house.market.is_hidden(CAMPAIGN, "A"));
    let report = house.market.report();
    assert_eq!((report.requests, report.offers_shown), (requests, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_touched_without_a_yes_or_without_a_reason_to_hope() {
    let shops = [
        Shop::moscow(),
        Shop::new("omsk", 2, 22).set("migrate = \"off\""),
        Shop::new("paused", 3, 33),
    ];
    let mut house = House::with(&shops).await;
    let doors = house.doors();
    house
        .market
        .set_faults(FaultPlan::none().poisoned(["bad".to_owned()], true));
    house.market.revoke_key("api-paused");
    house.excuse(&shops[2], "its key is revoked");
    doors.feed(&shops[0], &[("A", 5), ("bad", 1)]).await;
    doors.feed(&shops[1], &[("A", 5)]).await;
    doors.feed(&shops[2], &[("A", 5)]).await;
    house.settle().await;
    let is_paused = |status: &Value| of(status, &shops[2])["migrator"]["state"] == "paused";
    doors.until("the last is paused", is_paused).await;
    for (shop, sku, told) in [
        (
            "moscow",
            "nobody's",
            "has not said how many there are of 'nobody's'",
        ),
        (
            "moscow",
            "bad",
            "nothing of it can be sent now: the Market refuses it",
        ),
        ("moscow", "", "''"),
        ("nowhere", "A", "shop 'nowhere' is unknown"),
        ("omsk", "A", "migrate is off"),
        ("paused", "A", "the campaign is paused"),
    ] {
        let (code, stdout, stderr) =
            ask(doors, &["selftest", "--shop", shop, "--sku", sku, "--yes"]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(told), "{told} is not in\n{stderr}");
    }
    for answer in ["n\n", "", "nein\n"] {
        let mut command = program();
        command.args(["selftest", "--shop", "moscow", "--sku", "A", "--ops"]);
        let mut child = command
            .arg(doors.ops.to_string())
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
        assert!(stdout.contains("Nothing was touched."), "{stdout}");
    }
    // A page in a browser cannot send JSON here unasked, nor the header.
    let order = br#"{"shop":"moscow","sku":"A"}"#;
    let text = ("Content-Type", "text/plain");
    for (fields, status) in [(vec![text], 403), (vec![text, ("X-Stockbridge", "1")], 400)] {
        let answer = send(doors.ops, "POST", "/selftest", &fields, order);
        assert_eq!(answer.await.status, status);
    }
    assert_eq!(house.market.report().asides, 0);
}

/// A service whose check waits in the read-back: the Market shows nothing for an hour.
async fn cut_in_the_middle(shop: &Shop) -> (Place, Served) {
    let shops = [shop.clone(), Shop::new("other", 2, 22)];
    let visible_after = Duration::from_hours(1);
    let market = Market::new(MarketConfig {
        visible_after,
        ..market_config(&shops)
    });
    let place = Place::beside(market, &shops[..1], "").await;
    let served = place.serve();
    served.doors.feed(shop, &[("A", 5)]).await;
    let settled = |status: &Value| is_settled(status, shop);
    served.doors.until("it is sent", settled).await;
    assert_eq!(begin(served.doors, "A").await, (202, Value::Null));
    until("it is read back", || place.market.report().read_backs > 0).await;
    assert!(place.market.is_hidden(CAMPAIGN, "A"));
    assert_eq!(place.market.get(CAMPAIGN, "A").unwrap().received, 2);
    (place, served)
}

fn hidden() -> Vec<(String, String)> {
    vec![("selftest_hidden".to_owned(), "moscow".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_next_start_shows_the_product_and_sounds_the_alarm_until_it_has() {
    let shop = Shop::moscow();
    let (place, mut served) = cut_in_the_middle(&shop).await;
    served.kill();
    place.market.revoke_key("api-moscow");
    let mut served = place.serve();
    assert_eq!(served.doors.alarms().await, hidden());
    let (status, refused) = begin(served.doors, "A").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &"RUNNING".into())
    );
    let (_, tests) = served
        .doors
        .operator("GET", "/selftest?shop=moscow", "")
        .await;
    assert_eq!(
        (&tests[0]["state"], &tests[0]["is_shown"]),
        (&"running".into(), &false.into())
    );
    // Killed once more, it is still not forgotten.
    served.kill();
    let mut served = place.serve();
    assert!(served.doors.alarms().await.contains(&hidden()[0]));
    assert!(place.market.is_hidden(CAMPAIGN, "A"));
    place.market.restore_key("api-moscow");
    let no_alarm = |status: &Value| status["alarms"].as_array().unwrap().is_empty();
    served.doors.until("it is shown again", no_alarm).await;
    assert!(!place.market.is_hidden(CAMPAIGN, "A"));
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));
    // From now on it is the seller's own business.
    let served = place.serve();
    assert_eq!(served.doors.alarms().await, []);
    assert_eq!(place.market.report().offers_shown, 1);
    place.across_the_street.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_shows_the_product_first_with_whichever_key_is_good() {
    let shop = Shop::moscow().secret("API_KEY_2", "second-api-moscow");
    let (place, mut served) = cut_in_the_middle(&shop).await;
    let (status, refused) = begin(served.doors, "A").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &"RUNNING".into())
    );
    place.market.revoke_key("api-moscow");
    served.tell("-TERM");
    assert_eq!(
        served.ended().await.code(),
        Some(0),
        "{}",
        served.whole_log()
    );
    assert!(!place.market.is_hidden(CAMPAIGN, "A"));
    let served = place.serve();
    assert_eq!(served.doors.alarms().await, []);
    let (_, tests) = served.doors.operator("GET", "/selftest", "").await;
    assert_eq!(tests, json!([null]));
    assert_eq!(place.market.report().offers_shown, 1);
    place.across_the_street.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_left_hidden_is_told_of_where_nobody_shows_it() {
    let shop = Shop::moscow();
    let (place, mut served) = cut_in_the_middle(&shop).await;
    served.kill();
    let serve_as = |shop: Shop| {
        let (text, _) = configuration(&place.market_url, &[shop]);
        std::fs::write(place.file(), text).unwrap();
        place.serve()
    };
    let mut served = serve_as(shop.clone().set("migrate = \"off\""));
    assert_eq!(served.doors.alarms().await, hidden());
    let status = served.doors.status().await;
    let text = status["alarms"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("'A'") && text.contains("campaign 12345"),
        "{text}"
    );
    served.kill();
    let mut elsewhere = shop.clone();
    elsewhere.campaign = 2;
    let mut served = serve_as(elsewhere);
    let alarms = served.doors.alarms().await;
    assert!(
        alarms
            .iter()
            .any(|(alarm, about)| alarm == "selftest_hidden" && about.contains("12345"))
    );
    served.kill();
    assert!(place.market.is_hidden(CAMPAIGN, "A"));
    assert_eq!(
        place.market.report().offers_shown,
        0,
        "nothing of another place is shown"
    );
    let served = serve_as(shop.clone());
    let no_alarm = |status: &Value| status["alarms"].as_array().unwrap().is_empty();
    served.doors.until("it is shown again", no_alarm).await;
    assert!(!place.market.is_hidden(CAMPAIGN, "A"));
    place.across_the_street.stop();
}

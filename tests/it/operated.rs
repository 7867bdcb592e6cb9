//! The operator asks: what differs, why, and whether it is time to switch over.

use std::collections::HashSet;

use chrono::TimeDelta;
use serde_json::Value;
use stockbridge::clock::Clock;
use stockbridge::rehearsal::{FaultPlan, HOME_BUSINESS, Market, MarketConfig};

use crate::fed::feed_business;
use crate::harness::{Doors, House, Shop, dated, is_settled, market, market_config, of};
use crate::program::{ask, program, run};

const CAMPAIGN: u64 = 12_345;

/// A clock that is so many hours behind.
fn hours_ago(hours: i64) -> Clock {
    Clock::starting_at(Clock::wall().now() - TimeDelta::hours(hours))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

// === Verify ===

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_equal_verifies_and_one_that_drifted_does_not() {
    let shops = [Shop::moscow()];
    // What was acknowledged a moment ago may still be on its way to the shelf.
    let mut house = House::set_up(market(&shops), &shops, "", hours_ago(1)).await;
    house
        .doors()
        .feed(&shops[0], &[("A", 5), ("Плед", 3)])
        .await;
    house.settle().await;
    house.restart_by(Clock::wall()).await;
    let doors = house.doors();
    let (code, stdout, stderr) = ask(doors, &["verify"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("ok    equal              2"), "{stdout}");
    assert!(
        stdout.contains("moscow: the Market's copy is explained."),
        "{stdout}"
    );
    let requests = house.market.report().requests;

    house.market.plant(CAMPAIGN, "Плед", 9, Clock::wall().now());
    let (code, stdout, _) = ask(doors, &["verify", "--shop", "moscow"]);
    assert_eq!(code, Some(1), "{stdout}");
    let drifted = "drifted 'Плед', ours 3, the Market's 9";
    for said in ["OPEN  drifted            1", drifted, "is NOT explained"] {
        assert!(stdout.contains(said), "{said} is not in\n{stdout}");
    }
    let (code, stdout, _) = ask(doors, &["verify", "--json"]);
    assert_eq!(code, Some(1), "{stdout}");
    let found = json(&stdout)[0]["survey"].take();
    assert_eq!(
        (&found["classes"]["drifted"], &found["classes"]["equal"]),
        (&1.into(), &1.into())
    );
    assert_eq!(found["examples"][0]["sku"], "Плед");
    assert!(
        doors
            .alarms()
            .await
            .contains(&("drift".to_owned(), "moscow".to_owned()))
    );
    // The seller said nothing new: an old number said again would undo the Market's own.
    assert_eq!(house.market.report().requests, requests);
    house.excuse(
        &shops[0],
        "the Market was told another number behind our back",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_market_shows_nowhere_is_said_once_more_and_named() {
    let shops = [Shop::moscow()];
    let catalogue = Some(HashSet::from(["A".to_owned()]));
    let config = MarketConfig {
        catalogue,
        ..market_config(&shops)
    };
    let mut house = House::set_up(Market::new(config), &shops, "", hours_ago(1)).await;
    house
        .doors()
        .feed(&shops[0], &[("A", 5), ("nowhere", 3)])
        .await;
    house.settle().await;
    house.restart_by(Clock::wall()).await;
    let (code, stdout, _) = ask(house.doors(), &["verify"]);
    assert_eq!(code, Some(1), "{stdout}");
    for said in ["unknown 'nowhere', ours 3", "1 SKUs are sent again"] {
        assert!(stdout.contains(said), "{said} is not in\n{stdout}");
    }
    house.settle().await;
    assert_eq!(house.market.get(CAMPAIGN, "nowhere").unwrap().received, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_refused_clearly() {
    let shops = [
        Shop::moscow(),
        Shop::new("omsk", 2, 22).set("migrate = \"off\""),
    ];
    let house = House::with(&shops).await;
    let doors = house.doors();
    for (shop, told) in [
        (
            "nowhere",
            "shop 'nowhere' is unknown, there are moscow, omsk",
        ),
        ("omsk", "migrate is off"),
    ] {
        let (code, stdout, stderr) = ask(doors, &["verify", "--shop", shop]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
    // Of all shops, those that can be.
    let (status, begun) = doors.operator("POST", "/verify", "").await;
    assert_eq!(
        (status, begun),
        (202, serde_json::json!({ "shops": ["moscow"] }))
    );
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (code, _, stderr) = run(program().args(["verify", "--ops", &nobody.to_string()]));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("is it running"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_back_takes_the_second_key_and_says_at_once_that_no_key_is_good() {
    let house = House::with(&[Shop::moscow().secret("API_KEY_2", "second-api-moscow")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 1)]).await;
    house.settle().await;
    // Nothing is to be sent that would find it out.
    house.market.revoke_key("api-moscow");
    let (code, stdout, stderr) = ask(doors, &["verify"]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    house.market.revoke_key("second-api-moscow");
    let (code, _, stderr) = ask(doors, &["verify", "--json"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot be read: status 401"), "{stderr}");
}

// === A dry run ===
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sends_nothing_and_says_what_it_would() {
    let on = Shop::moscow();
    let dry = [on.clone().set("migrate = \"dry-run\"")];
    let mut house = House::with(&dry).await;
    // It looks once by itself; whoever asks meanwhile is told what that comes to.
    let has_looked = |status: &Value| of(status, &dry[0])["survey"]["state"] == "done";
    house.doors().until("it has looked", has_looked).await;
    let earlier = Clock::wall().now() - TimeDelta::hours(1);
    for (sku, count) in [("same", 5), ("sold", 4), ("fewer", 7), ("more", 1)] {
        house.market.plant(CAMPAIGN, sku, count, earlier);
    }
    let stock = [
        ("same", 5),
        ("sold", 0),
        ("fewer", 6),
        ("more", 2),
        ("new", 8),
    ];
    house.doors().feed(&dry[0], &stock).await;
    let (code, stdout, stderr) = ask(house.doors(), &["verify"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("DRY RUN: nothing was sent."), "{stdout}");
    let status = house.doors().status().await;
    let shop = of(&status, &dry[0]);
    assert_eq!(
        (&shop["migrate"], &shop["migrator"]["state"]),
        (&"dry-run".into(), &"dry-run".into())
    );
    let would = serde_json::json!({
        "skus": 5, "same": 1, "to_zero": 1, "lower": 1, "higher": 1, "unknown": 1, "requests": 1,
        "minutes": 1,
    });
    assert_eq!(shop["survey"]["would_send"], would);
    let (code, stdout, _) = ask(house.doors(), &["ready"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("migrate is \"dry-run\": nothing is sent"),
        "{stdout}"
    );
    assert_eq!(house.market.report().requests, 0);

    house.restart_as(std::slice::from_ref(&on), "").await;
    house.settle().await;
    for (sku, count) in stock {
        assert_eq!(
            house.market.get(CAMPAIGN, sku).unwrap().count,
            count,
            "{sku}"
        );
    }
    let status = house.doors().status().await;
    assert_eq!(of(&status, &on)["migrate"], "on");
    assert!(of(&status, &on)["survey"]["would_send"].is_null());
}

// === Explain ===

fn lines_of(doors: Doors, sku: &str) -> String {
    ask(doors, &["explain", sku]).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_is_explained_from_the_seller_to_the_shelf() {
    let house = House::with(&[Shop::moscow().set("business = 7")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    house
        .market
        .set_faults(FaultPlan::none().poisoned(["bad".to_owned()], true));
    doors.feed(shop, &[("A", 5), ("bad", 1)]).await;
    let fed = feed_business(doors, shop.feed_key(), &[("B", 569_667, 3)]).await;
    assert_eq!(fed.status, 200, "{}", fed.text());
    house.settle().await;
    doors.counts(shop, &["A"]).await;
    assert_eq!(ask(doors, &["verify"]).0, Some(1), "one is refused");

    let (code, stdout, stderr) = ask(doors, &["explain", "A", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let told = json(&stdout)[0].take();
    assert_eq!(
        (&told["shop"], &told["sku"]),
        (&"moscow".into(), &"A".into())
    );
    assert_eq!(told["book"]["count"], 5);
    assert_eq!(told["book"]["origin"], "put /v2/campaigns");
    assert_eq!(told["asked"][0]["warehouse"], 569_667);
    assert_eq!(
        (&told["ledger"]["count"], &told["ledger"]["due_again"]),
        (&5.into(), &false.into())
    );
    assert_eq!(
        (&told["market"]["available"], &told["market"]["class"]),
        (&5.into(), &"equal".into())
    );
    assert!(told["quarantine"].is_null());
    let events = told["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["what"], "stated");
    let sent: Vec<&Value> = events
        .iter()
        .filter(|event| event["what"] == "sent")
        .collect();
    // The first time with the bad one, which was refused whole.
    assert_eq!(sent[0]["request"]["verdict"], "accept", "{sent:#?}");
    let trace = sent[0]["request"]["trace"].as_str().unwrap();
    assert!(
        trace.starts_with("00-") && lines_of(doors, "A").contains(trace),
        "{trace}"
    );
    let lines = lines_of(doors, "A");
    for said in [
        "the Market has acknowledged it, and showed 5 (equal); migrate is on",
        "  asked    ",
    ] {
        assert!(lines.contains(said), "{said} is not in\n{lines}");
    }

    let by_business = json(&ask(doors, &["explain", "B", "--json"]).1);
    assert_eq!(by_business[0]["book"]["origin"], "post /v3/businesses");
    let bad = json(&ask(doors, &["explain", "bad", "--json"]).1)[0].take();
    assert!(
        bad["ledger"].is_null() && bad["quarantine"]["attempts"] == 1,
        "{bad:#}"
    );
    assert!(
        bad["summary"]
            .as_str()
            .unwrap()
            .contains("the Market refuses it"),
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
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let at = Clock::wall().now().to_rfc3339();
    for _ in 0..30 {
        assert_eq!(
            doors.put(shop, dated("A", 5, &at).as_bytes()).await.status,
            200
        );
    }
    let (_, told) = doors.operator("GET", "/explain?sku=A", "").await;
    let events = told[0]["events"].as_array().unwrap();
    assert_eq!(events.len(), 20);
    assert!(
        events.iter().all(|event| event["what"] == "repeated"),
        "{told:#}"
    );
    assert!(told[0]["ledger"].is_null() && told[0]["market"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_sku_is_called_it_is_found_in_each_shop() {
    const STRANGE: &str = "Плед «зимний» 'x' \"50%\" %41+&=?#/\\ ё";
    let shops = [Shop::moscow(), Shop::new("omsk", 2, 22)];
    let house = House::with(&shops).await;
    let doors = house.doors();
    doors.feed(&shops[0], &[(STRANGE, 1)]).await;
    doors.feed(&shops[1], &[(STRANGE, 2)]).await;
    house.settle().await;
    let counts = |words: &[&str]| {
        let (code, stdout, stderr) = ask(doors, words);
        assert_eq!(code, Some(0), "{stderr}");
        let told = json(&stdout);
        let told = told.as_array().unwrap().iter();
        told.map(|of| (of["sku"].clone(), of["book"]["count"].as_u64().unwrap()))
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
    for (words, told) in [
        (
            ["explain", "A", "--shop", "nowhere"],
            "shop 'nowhere' is unknown",
        ),
        (["explain", " ", "--shop", "omsk"], "' '"),
    ] {
        let (code, stdout, stderr) = ask(doors, &words);
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(told), "{stderr}");
    }
    let (status, refused) = doors.operator("GET", "/explain?shop=omsk", "").await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (400, &"BAD_REQUEST".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_that_could_mislead_a_terminal_is_printed_with_escapes() {
    const MISLEADING: &str = "A\tB\u{85}\u{9b}31m\u{202e}\u{2066}\u{200b}C";
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    house.doors().feed(house.shop(), &[(MISLEADING, 1)]).await;
    let (code, stdout, stderr) = ask(house.doors(), &["explain", MISLEADING]);
    assert_eq!(code, Some(0), "{stderr}");
    let shown = "'A\\tB\\u0085\\u009b31m\\u202e\\u2066\\u200bC'";
    assert!(stdout.contains(shown), "{stdout}");
    let is_bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200b}".contains(c);
    assert!(!stdout.contains(is_bad), "{stdout:?}");
    // JSON is the same JSON.
    let (_, stdout, _) = ask(house.doors(), &["explain", MISLEADING, "--json"]);
    assert!(!stdout.contains(is_bad), "{stdout:?}");
    assert_eq!(json(&stdout)[0]["sku"], MISLEADING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_that_only_the_market_knows_is_explained_too() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 1)]).await;
    assert_eq!(doors.counts(shop, &["A", "stranger"]).await.len(), 1);
    let (code, stdout, _) = ask(doors, &["explain", "stranger"]);
    assert_eq!(code, Some(1), "no shop has it");
    assert!(
        stdout.contains("the seller never spoke of it, and the Market asked for it"),
        "{stdout}"
    );
    assert!(
        stdout.contains("  asked    for warehouse 569667"),
        "{stdout}"
    );
    let (code, stdout, _) = ask(doors, &["explain", "nobody's"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("nobody ever spoke of it"), "{stdout}");
}

// === Ready ===

#[tokio::test(flavor = "multi_thread")]
async fn it_is_time_when_nothing_is_in_the_way_and_a_restart_changes_nothing() {
    let mut house = House::with(&[Shop::moscow()]).await;
    let shop = house.shop().clone();
    let ready = |house: &House| {
        let (code, stdout, stderr) = ask(house.doors(), &["ready", "--json"]);
        let report = json(&stdout);
        assert_eq!(code == Some(0), report["verdict"] == "GO", "{stderr}");
        report["shops"][0].clone()
    };
    let lacks = |told: &Value, reasons: &[&str]| {
        let all = told["reasons"].as_array().unwrap();
        assert_eq!(all.len(), reasons.len(), "{told:#}");
        for (reason, expected) in all.iter().zip(reasons) {
            assert!(
                reason.as_str().unwrap().contains(expected),
                "{expected} is not in {told:#}"
            );
        }
        assert_eq!(
            told["verdict"],
            if reasons.is_empty() { "GO" } else { "NOT YET" }
        );
    };
    let unread = "never read back";
    lacks(
        &ready(&house),
        &["no stock is known", "asked for nothing yet", unread],
    );
    house.doors().feed(&shop, &[("A", 1), ("B", 2)]).await;
    house.settle().await;
    lacks(&ready(&house), &["asked for nothing yet", unread]);
    house.doors().counts(&shop, &["A", "B", "C", "D"]).await;
    let told = ready(&house);
    lacks(
        &told,
        &[
            "2 of 4 SKUs the Market asked for lately are not in the book",
            unread,
        ],
    );
    assert_eq!(
        (&told["coverage"]["asked"], &told["coverage"]["in_book"]),
        (&4.into(), &2.into())
    );
    let mut missing: Vec<_> = told["coverage"]["missing"].as_array().unwrap().clone();
    missing.sort_by_key(ToString::to_string);
    assert_eq!(missing, ["C", "D"]);
    // Those are asked for from now on, too, but the Market does not take them yet.
    house.market.revoke_key("api-moscow");
    house.doors().feed(&shop, &[("C", 3), ("D", 4)]).await;
    let is_paused = |status: &Value| of(status, &shop)["migrator"]["state"] == "paused";
    house.doors().until("it is paused", is_paused).await;
    let unsent = "2 SKUs it asked for are not acknowledged";
    let told = ready(&house);
    lacks(
        &told,
        &[
            unsent,
            "2 SKUs wait to be sent",
            "nothing is sent: ",
            unread,
        ],
    );
    house.excuse(&shop, "its key was revoked");
    house.market.restore_key("api-moscow");
    house.restart().await;
    let is_sent = |status: &Value| is_settled(status, &shop);
    house.doors().until("all is sent", is_sent).await;
    lacks(&ready(&house), &[unread]);
    assert_eq!(ask(house.doors(), &["verify"]).0, Some(0));
    let before = ready(&house);
    lacks(&before, &[]);
    house.restart().await;
    let after = ready(&house);
    lacks(&after, &[]);
    assert_eq!(after["coverage"], before["coverage"]);
    assert_eq!(after["last_equal"], before["last_equal"]);
    let (code, stdout, _) = ask(house.doors(), &["ready"]);
    assert_eq!(code, Some(0));
    assert!(
        stdout.contains("moscow, campaign 12345, migrate on: GO"),
        "{stdout}"
    );
    // Of another campaign's copy nothing is known.
    let elsewhere = Shop::moscow().by_business(HOME_BUSINESS);
    house.restart_as(std::slice::from_ref(&elsewhere), "").await;
    house
        .doors()
        .until("all is sent anew", |status| is_settled(status, &elsewhere))
        .await;
    lacks(&ready(&house), &[unread]);
}

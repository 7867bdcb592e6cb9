//! We tell the Market.

use std::time::Duration;

use chrono::TimeDelta;
use stockbridge::clock::Clock;
use stockbridge::rehearsal::{Fault, FaultPlan, Market, MarketConfig};
use tokio::time::{Instant, sleep};

use crate::fed::feed_business;
use crate::harness::{House, Shop, dated, is_settled, market_config, of};
use crate::program::ask;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_seller_says_reaches_the_market() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 5), ("Плед", 0)]).await;
    house.settle().await;
    assert_eq!(house.market.get(12_345, "A").unwrap().count, 5);
    assert_eq!(house.market.get(12_345, "Плед").unwrap().count, 0);
    doors.feed(shop, &[("A", 4)]).await;
    house.settle().await;
    assert_eq!(house.market.get(12_345, "A").unwrap().count, 4);
    // The Market heard of the other one once: nothing is repeated without need.
    assert_eq!(house.market.get(12_345, "Плед").unwrap().received, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_date_is_held_within_the_markets_day() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let old = "2020-01-01T00:00:00Z";
    assert_eq!(
        doors.put(shop, dated("A", 5, old).as_bytes()).await.status,
        200
    );
    house.settle().await;
    let held = house.market.get(12_345, "A").unwrap();
    let day = TimeDelta::hours(24);
    assert_eq!(held.count, 5);
    assert!(held.updated_at.to_utc() > held.received_at.to_utc() - day);
    // To the old side it is still the seller's own date.
    assert_eq!(doors.everything(shop, 100).await["A"], (5, old.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_hangs_does_not_delay_another() {
    let shops = [Shop::new("hangs", 1, 11), Shop::new("omsk", 2, 22)];
    let house = House::with(&shops).await;
    let doors = house.doors();
    let hang = FaultPlan::script([Some(Fault::Hang)]).hang_for(Duration::from_secs(6));
    house.market.set_faults(hang);
    doors.feed(&shops[0], &[("A", 1)]).await;
    // The first request is the one that hangs: nobody else may come before it. There is no
    // event for it, so the Market is looked at.
    let deadline = Instant::now() + Duration::from_secs(30);
    while house.market.report().skus_received == 0 {
        assert!(Instant::now() < deadline, "nothing reached the Market");
        sleep(Duration::from_millis(5)).await;
    }
    doors.feed(&shops[1], &[("A", 2)]).await;
    let status = doors
        .until("omsk is sent", |status| is_settled(status, &shops[1]))
        .await;
    assert_eq!(
        of(&status, &shops[0])["migrator"]["in_flight_skus"],
        1,
        "{status:#}"
    );
    assert_eq!(house.market.get(2, "A").unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_in_migration_is_paused_alone() {
    let shops = [Shop::new("moves", 1, 11), Shop::new("omsk", 2, 22)];
    let mut house = House::with(&shops).await;
    let doors = house.doors();
    house
        .market
        .set_faults(FaultPlan::none().locked_until(Clock::wall().now() + TimeDelta::hours(1)));
    doors.feed(&shops[0], &[("A", 1)]).await;
    let is_paused =
        |status: &serde_json::Value| of(status, &shops[0])["migrator"]["state"] == "paused";
    let status = doors.until("the campaign is paused", is_paused).await;
    let reason = of(&status, &shops[0])["migrator"]["reason"]
        .as_str()
        .unwrap();
    assert!(reason.contains("423"), "{reason}");
    let alarms = doors.alarms().await;
    assert!(
        alarms.contains(&("campaign_paused".to_owned(), "moves".to_owned())),
        "{alarms:?}"
    );
    house.market.heal();
    doors.feed(&shops[1], &[("A", 2)]).await;
    house.excuse(&shops[0], "it is tried again in an hour");
    let status = house.settle().await;
    assert!(is_paused(&status), "{status:#}");
    // Asked by the Market, both have their answer.
    assert_eq!(doors.counts(&shops[0], &["A"]).await, [("A".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_key_takes_over_from_a_revoked_one() {
    let house = House::with(&[Shop::moscow().secret("API_KEY_2", "second-api-moscow")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 1)]).await;
    house.settle().await;
    house.market.revoke_key("api-moscow");
    doors.feed(shop, &[("A", 2)]).await;
    house.settle().await;
    assert_eq!(house.market.get(12_345, "A").unwrap().count, 2);
    assert_eq!(house.market.report().refused[&401], 1);
    assert_eq!(doors.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sku_the_market_refuses_is_set_aside_with_its_reason_and_stays_so() {
    for named in [true, false] {
        let mut house = House::with(&[Shop::moscow()]).await;
        let shop = house.shop().clone();
        house
            .market
            .set_faults(FaultPlan::none().poisoned(["bad".to_owned()], named));
        let stock = [("A", 1), ("bad", 2), ("B", 3), ("C", 4)];
        house.doors().feed(&shop, &stock).await;
        let is_aside = |status: &serde_json::Value| {
            let aside = &of(status, &shop)["migrator"]["quarantined"];
            aside[0]["sku"] == "bad" && aside[1].is_null()
        };
        house
            .doors()
            .until("the bad one is set aside", is_aside)
            .await;
        let status = house.settle().await;
        let reason = of(&status, &shop)["migrator"]["quarantined"][0]["reason"].as_str();
        let words = if named {
            "'bad' could not be accepted"
        } else {
            "could not be processed"
        };
        assert!(reason.unwrap().contains(words), "{reason:?}");
        assert_eq!(of(&status, &shop)["dirty"], 1);
        assert_eq!(house.market.get(12_345, "C").unwrap().count, 4);

        house.restart().await;
        let before = house.market.report().requests;
        let status = house.doors().until("it is known again", is_aside).await;
        assert_eq!(of(&status, &shop)["migrator"]["quarantined"][0]["count"], 2);
        let alarms = house.doors().alarms().await;
        assert_eq!(alarms, [("quarantine".to_owned(), "moscow".to_owned())]);
        // Asked by the Market, we answer for it all the same.
        assert_eq!(
            house.doors().counts(&shop, &["bad"]).await,
            [("bad".to_owned(), 2)]
        );
        // A new value is tried at once, and nothing but it.
        house.market.heal();
        house.doors().feed(&shop, &[("bad", 5)]).await;
        house
            .doors()
            .until("it is sent", |status| of(status, &shop)["dirty"] == 0)
            .await;
        assert_eq!(house.market.get(12_345, "bad").unwrap().count, 5);
        assert_eq!(house.market.report().requests, before + 1);
        assert_eq!(house.doors().alarms().await, []);
    }
}

/// The lane writes down whom it sets aside while batches of its own write down what was taken.
/// Once, each waited for the other for ever, and the seller with them.
#[tokio::test(flavor = "multi_thread")]
async fn setting_aside_and_acknowledging_do_not_wait_for_each_other() {
    let house = House::with(&[Shop::moscow().set("parallel = 4")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let skus: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let bad: Vec<String> = skus
        .iter()
        .filter(|sku| sku.ends_with("50"))
        .cloned()
        .collect();
    house
        .market
        .set_faults(FaultPlan::none().poisoned(bad.clone(), true));
    for part in skus.chunks(50) {
        let stock: Vec<(&str, u32)> = part.iter().map(|sku| (sku.as_str(), 1)).collect();
        doors.feed(shop, &stock).await;
    }
    let status = house.settle().await;
    let aside = of(&status, shop)["migrator"]["quarantined"]
        .as_array()
        .unwrap();
    assert_eq!(aside.len(), bad.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_nothing_that_was_acknowledged() {
    let mut house = House::with(&[Shop::moscow()]).await;
    let shop = house.shop().clone();
    let skus: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    let stock: Vec<(&str, u32)> = skus.iter().map(String::as_str).zip(0..).collect();
    for part in stock.chunks(2_000) {
        house.doors().feed(&shop, part).await;
    }
    house.settle().await;
    let before = house.market.report().requests;
    house.restart().await;
    house.settle().await;
    // What follows is sent after anything a restart would have repeated.
    house.doors().feed(&shop, &[("new", 1)]).await;
    house.settle().await;
    assert_eq!(house.market.report().requests, before + 1);
    assert_eq!(house.market.get(12_345, "7").unwrap().received, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_stop_cut_in() {
    let mut house = House::with(&[Shop::moscow()]).await;
    let shop = house.shop().clone();
    house.market.revoke_key("api-moscow");
    house.doors().feed(&shop, &[("A", 1), ("B", 2)]).await;
    house
        .doors()
        .until("it is paused", |status| {
            of(status, &shop)["migrator"]["state"] == "paused"
        })
        .await;
    house.excuse(&shop, "its key is revoked");
    house.restart().await;
    assert_eq!(house.doors().counts(&shop, &["A", "B"]).await.len(), 2);
    house.market.restore_key("api-moscow");
    house.restart().await;
    house
        .doors()
        .until("all is sent", |status| is_settled(status, &shop))
        .await;
    assert_eq!(house.market.get(12_345, "B").unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_forwards_nothing_calls_nobody() {
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 1)]).await;
    assert_eq!(doors.counts(shop, &["A"]).await, [("A".to_owned(), 1)]);
    assert!(of(&doors.status().await, shop)["migrator"].is_null());
    assert_eq!(house.market.report().requests, 0);
}

// === By business ===

fn of_business() -> [Shop; 2] {
    [
        Shop::new("moscow", 1, 11).by_business(7),
        Shop::new("omsk", 2, 22).by_business(7),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn by_business_it_arrives_however_it_was_fed_and_a_restart_repeats_nothing() {
    let shops = of_business();
    // Told by campaign, this Market would refuse it.
    let strict = MarketConfig {
        campaign_method_needs_groups: true,
        ..market_config(&shops)
    };
    let mut house = House::beside(Market::new(strict), &shops).await;
    house
        .doors()
        .feed(&shops[0], &[("A", 1), ("Плед", 2)])
        .await;
    let fed = feed_business(house.doors(), shops[1].feed_key(), &[("A", 22, 3)]).await;
    assert_eq!(fed.status, 200, "{}", fed.text());
    let status = house.settle().await;
    assert_eq!(
        of(&status, &shops[0])["address"],
        "business 7 warehouses [11]"
    );
    let market = house.market.clone();
    let told = |campaign, sku: &str| {
        market
            .get(campaign, sku)
            .map(|held| (held.count, held.received))
    };
    assert_eq!(
        (told(1, "A"), told(1, "Плед")),
        (Some((1, 1)), Some((2, 1)))
    );
    assert_eq!(told(2, "A"), Some((3, 1)));
    let before = market.report().requests;
    house.restart().await;
    house.settle().await;
    // What follows is sent after anything a restart would have repeated.
    house.doors().feed(&shops[1], &[("B", 4)]).await;
    house.settle().await;
    assert_eq!((told(2, "B"), told(2, "A")), (Some((4, 1)), Some((3, 1))));
    assert_eq!(market.report().requests, before + 1);
    assert!(market.requests().iter().all(|logged| logged.business == 7));
    // Each is read back by its own warehouse.
    let (code, stdout, _) = ask(house.doors(), &["verify"]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("ok    equal              2"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_of_one_business_share_its_limit_and_a_restart_gives_none_back() {
    // A tenth of 50 requests a minute, for both together.
    let shops = of_business().map(|shop| shop.set("limit_share = 0.1"));
    let mut house = House::with(&shops).await;
    for n in 0..5_usize {
        house
            .doors()
            .feed(&shops[n % 2], &[("A", 1 + u32::try_from(n).unwrap())])
            .await;
        house.settle().await;
    }
    let report = house.market.report();
    assert_eq!(report.requests, 5, "{report:?}");
    for shop in &shops {
        house.excuse(shop, "the minute is spent");
    }
    // Each waits, or the minute was over before it was looked: that is for the machine to say.
    let both_know = |status: &serde_json::Value| {
        shops.iter().all(|shop| {
            let lane = &of(status, shop)["migrator"];
            lane["waiting_skus"] == 1 || of(status, shop)["dirty"] == 0
        })
    };
    for shop in &shops {
        house.doors().feed(shop, &[("A", 100)]).await;
    }
    house
        .doors()
        .until("both know what there is to send", both_know)
        .await;
    house.restart().await;
    house.doors().until("both know it still", both_know).await;
    assert_eq!(house.market.report().peak_updates_a_minute, 5);
}

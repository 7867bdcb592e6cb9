//! We tell the Market.

use std::time::Duration;

use chrono::TimeDelta;
use lifecycle::Clock;
use market_sim::{FaultPlan, MarketFault, MarketSimulator, SimulatorConfig};
use tokio::time::{Instant, sleep};

use crate::harness::{TestService, TestShop, dated_update, is_settled, market_config, shop_status};
use crate::partner_api::feed_business;
use crate::program::run_with_ops;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_reaches_the_market() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 5), ("Плед", 0)]).await;
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "A").unwrap().count, 5);
    assert_eq!(service.market.get(12_345, "Плед").unwrap().count, 0);
    endpoints.feed(shop, &[("A", 4)]).await;
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "A").unwrap().count, 4);
    // The other one was sent once: nothing is repeated without need.
    assert_eq!(
        service.market.get(12_345, "Плед").unwrap().updates_received,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_date_is_held_within_the_markets_day() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let old = "2020-01-01T00:00:00Z";
    assert_eq!(
        endpoints
            .put(shop, dated_update("A", 5, old).as_bytes())
            .await
            .status,
        200
    );
    service.wait_settled().await;
    let record = service.market.get(12_345, "A").unwrap();
    let day = TimeDelta::hours(24);
    assert_eq!(record.count, 5);
    assert!(record.updated_at.to_utc() > record.received_at.to_utc() - day);
    // To the old side it is still the seller's own date.
    assert_eq!(
        endpoints.all_stock(shop, 100).await["A"],
        (5, old.to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_hangs_does_not_delay_another() {
    let shops = [TestShop::new("hangs", 1, 11), TestShop::new("omsk", 2, 22)];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let hang =
        FaultPlan::script([Some(MarketFault::Hang)]).with_hang_duration(Duration::from_secs(6));
    service.market.set_faults(hang);
    endpoints.feed(&shops[0], &[("A", 1)]).await;
    // The first request hangs, so no other request may come before it. The simulator has no event for
    // it and is polled.
    let deadline = Instant::now() + Duration::from_secs(30);
    while service.market.report().skus_received == 0 {
        assert!(Instant::now() < deadline, "nothing reached the Market");
        sleep(Duration::from_millis(5)).await;
    }
    endpoints.feed(&shops[1], &[("A", 2)]).await;
    let status = endpoints
        .wait_for_status("omsk is sent", |status| is_settled(status, &shops[1]))
        .await;
    assert_eq!(
        shop_status(&status, &shops[0])["migrator"]["in_flight_skus"],
        1,
        "{status:#}"
    );
    assert_eq!(service.market.get(2, "A").unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_in_migration_is_paused_alone() {
    let shops = [TestShop::new("moves", 1, 11), TestShop::new("omsk", 2, 22)];
    let mut service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    service
        .market
        .set_faults(FaultPlan::none().locked_until(Clock::wall().now() + TimeDelta::hours(1)));
    endpoints.feed(&shops[0], &[("A", 1)]).await;
    let is_paused = |status: &serde_json::Value| {
        shop_status(status, &shops[0])["migrator"]["state"] == "paused"
    };
    let status = endpoints
        .wait_for_status("the campaign is paused", is_paused)
        .await;
    let reason = shop_status(&status, &shops[0])["migrator"]["reason"]
        .as_str()
        .unwrap();
    assert!(reason.contains("423"), "{reason}");
    let alarms = endpoints.alarms().await;
    assert!(
        alarms.contains(&("campaign_paused".to_owned(), "moves".to_owned())),
        "{alarms:?}"
    );
    service.market.clear_faults();
    endpoints.feed(&shops[1], &[("A", 2)]).await;
    service.allow_unsent(&shops[0], "it is tried again in an hour");
    let status = service.wait_settled().await;
    assert!(is_paused(&status), "{status:#}");
    // Asked by the Market, both have their answer.
    assert_eq!(
        endpoints.counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 1)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_key_takes_over_from_a_revoked_one() {
    let service =
        TestService::start(&[TestShop::moscow().secret("API_KEY_2", "second-api-moscow")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 1)]).await;
    service.wait_settled().await;
    service.market.revoke_key("api-moscow");
    endpoints.feed(shop, &[("A", 2)]).await;
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "A").unwrap().count, 2);
    assert_eq!(service.market.report().rejected[&401], 1);
    assert_eq!(endpoints.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantines_a_rejected_sku_with_its_reason() {
    for named in [true, false] {
        let mut service = TestService::start(&[TestShop::moscow()]).await;
        let shop = service.shop().clone();
        service
            .market
            .set_faults(FaultPlan::none().with_rejected_skus(["bad".to_owned()], named));
        let stock = [("A", 1), ("bad", 2), ("B", 3), ("C", 4)];
        service.endpoints().feed(&shop, &stock).await;
        let is_quarantined = |status: &serde_json::Value| {
            let quarantined = &shop_status(status, &shop)["migrator"]["quarantined"];
            quarantined[0]["sku"] == "bad" && quarantined[1].is_null()
        };
        service
            .endpoints()
            .wait_for_status("the rejected SKU is quarantined", is_quarantined)
            .await;
        let status = service.wait_settled().await;
        let reason = shop_status(&status, &shop)["migrator"]["quarantined"][0]["reason"].as_str();
        let words = if named {
            "'bad' could not be accepted"
        } else {
            "could not be processed"
        };
        assert!(reason.unwrap().contains(words), "{reason:?}");
        assert_eq!(shop_status(&status, &shop)["dirty"], 1);
        assert_eq!(service.market.get(12_345, "C").unwrap().count, 4);

        service.restart().await;
        let before = service.market.report().updates;
        let status = service
            .endpoints()
            .wait_for_status("it is known again", is_quarantined)
            .await;
        assert_eq!(
            shop_status(&status, &shop)["migrator"]["quarantined"][0]["count"],
            2
        );
        let alarms = service.endpoints().alarms().await;
        assert_eq!(alarms, [("quarantine".to_owned(), "moscow".to_owned())]);
        // Asked by the Market, we answer for it all the same.
        assert_eq!(
            service.endpoints().counts(&shop, &["bad"]).await,
            [("bad".to_owned(), 2)]
        );
        // A new value is tried at once, and nothing but it.
        service.market.clear_faults();
        service.endpoints().feed(&shop, &[("bad", 5)]).await;
        service
            .endpoints()
            .wait_for_status("it is sent", |status| {
                shop_status(status, &shop)["dirty"] == 0
            })
            .await;
        assert_eq!(service.market.get(12_345, "bad").unwrap().count, 5);
        assert_eq!(service.market.report().updates, before + 1);
        assert_eq!(service.endpoints().alarms().await, []);
    }
}

/// The worker stores quarantined SKUs while its own batches store acknowledgements. Once, each
/// waited for the other without end, and so did the seller's updates.
#[tokio::test(flavor = "multi_thread")]
async fn quarantine_and_acknowledgement_do_not_deadlock() {
    let service = TestService::start(&[TestShop::moscow().set("parallel = 4")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let skus: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let bad: Vec<String> = skus
        .iter()
        .filter(|sku| sku.ends_with("50"))
        .cloned()
        .collect();
    service
        .market
        .set_faults(FaultPlan::none().with_rejected_skus(bad.clone(), true));
    for part in skus.chunks(50) {
        let stock: Vec<(&str, u32)> = part.iter().map(|sku| (sku.as_str(), 1)).collect();
        endpoints.feed(shop, &stock).await;
    }
    let status = service.wait_settled().await;
    let quarantined = shop_status(&status, shop)["migrator"]["quarantined"]
        .as_array()
        .unwrap();
    assert_eq!(quarantined.len(), bad.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_repeats_nothing_that_was_acknowledged() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let shop = service.shop().clone();
    let skus: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    let stock: Vec<(&str, u32)> = skus.iter().map(String::as_str).zip(0..).collect();
    for part in stock.chunks(2_000) {
        service.endpoints().feed(&shop, part).await;
    }
    service.wait_settled().await;
    let before = service.market.report().updates;
    service.restart().await;
    service.wait_settled().await;
    // What follows is sent after anything a restart would have repeated.
    service.endpoints().feed(&shop, &[("new", 1)]).await;
    service.wait_settled().await;
    assert_eq!(service.market.report().updates, before + 1);
    assert_eq!(service.market.get(12_345, "7").unwrap().updates_received, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_stop_cut_in() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let shop = service.shop().clone();
    service.market.revoke_key("api-moscow");
    service.endpoints().feed(&shop, &[("A", 1), ("B", 2)]).await;
    service
        .endpoints()
        .wait_for_status("it is paused", |status| {
            shop_status(status, &shop)["migrator"]["state"] == "paused"
        })
        .await;
    service.allow_unsent(&shop, "its key is revoked");
    service.restart().await;
    assert_eq!(
        service.endpoints().counts(&shop, &["A", "B"]).await.len(),
        2
    );
    service.market.restore_key("api-moscow");
    service.restart().await;
    service
        .endpoints()
        .wait_for_status("all is sent", |status| is_settled(status, &shop))
        .await;
    assert_eq!(service.market.get(12_345, "B").unwrap().count, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_sends_nothing_makes_no_request() {
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 1)]).await;
    assert_eq!(endpoints.counts(shop, &["A"]).await, [("A".to_owned(), 1)]);
    assert!(shop_status(&endpoints.status().await, shop)["migrator"].is_null());
    assert_eq!(service.market.report().updates, 0);
}

// === By business ===

fn business_shops() -> [TestShop; 2] {
    [
        TestShop::new("moscow", 1, 11).by_business(7),
        TestShop::new("omsk", 2, 22).by_business(7),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_by_business_and_repeats_nothing() {
    let shops = business_shops();
    // The simulator would reject an update by campaign.
    let strict = SimulatorConfig {
        campaign_method_needs_groups: true,
        ..market_config(&shops)
    };
    let mut service = TestService::start_with_market(MarketSimulator::new(strict), &shops).await;
    service
        .endpoints()
        .feed(&shops[0], &[("A", 1), ("Плед", 2)])
        .await;
    let response = feed_business(service.endpoints(), shops[1].feed_key(), &[("A", 22, 3)]).await;
    assert_eq!(response.status, 200, "{}", response.text());
    let status = service.wait_settled().await;
    assert_eq!(
        shop_status(&status, &shops[0])["address"],
        "business 7 warehouses [11]"
    );
    let market = service.market.clone();
    let market_stock = |campaign, sku: &str| {
        market
            .get(campaign, sku)
            .map(|record| (record.count, record.updates_received))
    };
    assert_eq!(
        (market_stock(1, "A"), market_stock(1, "Плед")),
        (Some((1, 1)), Some((2, 1)))
    );
    assert_eq!(market_stock(2, "A"), Some((3, 1)));
    let before = market.report().updates;
    service.restart().await;
    service.wait_settled().await;
    // What follows is sent after anything a restart would have repeated.
    service.endpoints().feed(&shops[1], &[("B", 4)]).await;
    service.wait_settled().await;
    assert_eq!(
        (market_stock(2, "B"), market_stock(2, "A")),
        (Some((4, 1)), Some((3, 1)))
    );
    assert_eq!(market.report().updates, before + 1);
    assert!(market.requests().iter().all(|logged| logged.business == 7));
    // Each is read back by its own warehouse.
    let (code, stdout, _) = run_with_ops(service.endpoints(), &["verify"]);
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.contains("ok    equal              2"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_of_a_business_share_its_rate_limit() {
    // A tenth of 50 requests a minute, for both together.
    let shops = business_shops().map(|shop| shop.set("limit_share = 0.1"));
    let mut service = TestService::start(&shops).await;
    for n in 0..5_usize {
        service
            .endpoints()
            .feed(&shops[n % 2], &[("A", 1 + u32::try_from(n).unwrap())])
            .await;
        service.wait_settled().await;
    }
    let report = service.market.report();
    assert_eq!(report.updates, 5, "{report:?}");
    for shop in &shops {
        service.allow_unsent(shop, "the minute is spent");
    }
    // Each waits, or the minute was over before it was looked: that is for the machine to say.
    let both_have_work = |status: &serde_json::Value| {
        shops.iter().all(|shop| {
            let lane = &shop_status(status, shop)["migrator"];
            lane["waiting_skus"] == 1 || shop_status(status, shop)["dirty"] == 0
        })
    };
    for shop in &shops {
        service.endpoints().feed(shop, &[("A", 100)]).await;
    }
    service
        .endpoints()
        .wait_for_status("both know what there is to send", both_have_work)
        .await;
    service.restart().await;
    service
        .endpoints()
        .wait_for_status("both know it still", both_have_work)
        .await;
    assert_eq!(service.market.report().peak_updates_per_minute, 5);
}

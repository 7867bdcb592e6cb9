//! Several shops of one cabinet, which share a limit, and limits that the Market changes.

use std::time::Duration;

use chrono::TimeDelta;
use stockbridge::migrator::reconcile::Class;
use stockbridge::rehearsal::{Call, Fault, FaultPlan};
use stockbridge::stock::Sku;
use tokio::time::Instant;

use super::stage::{KEYS, METHODS, Method, Setup, Stage, on_a_jumping_clock, stock};

fn cabinet() -> Setup {
    Setup::new(Method::Business).lanes(&[&[7, 8], &[9]])
}

fn say_all(stage: &mut Stage, skus: usize, more: i64) {
    for lane in 0..stage.lanes.len() {
        for (sku, count) in stock(skus) {
            stage.say_in(lane, &sku, count + more, TimeDelta::zero());
        }
    }
}

#[test]
fn two_shops_of_a_cabinet_use_up_its_fifty_requests_a_minute_and_no_more_across_restarts() {
    on_a_jumping_clock(async {
        let mut stage = Setup {
            parallel: 4,
            ..cabinet()
        }
        .stage();
        // 40 requests of the one, 20 of the other.
        say_all(&mut stage, 40_000, 0);
        let begun = Instant::now();
        stage.live(Duration::from_millis(1)).await;
        assert_eq!(stage.market.report().requests, 50);
        stage.restart();
        stage.live(Duration::from_secs(59)).await;
        assert_eq!(stage.market.report().requests, 50);
        while stage.market.report().requests < 60 {
            stage.live(Duration::from_secs(1)).await;
            // What was under way at the end may have arrived as late as the client gives up.
            assert!(
                begun.elapsed() < Duration::from_secs(125),
                "{:?}",
                stage.market.report()
            );
        }
        stage.live(Duration::from_secs(1)).await;
        assert_eq!(stage.market.report().peak_updates_a_minute, 50);
        stage.check().unwrap();
    });
}

#[test]
fn updates_and_read_backs_of_a_cabinet_are_four_at_a_time() {
    on_a_jumping_clock(async {
        let mut stage = Setup {
            parallel: 4,
            ..cabinet()
        }
        .verified_every(Duration::from_mins(1))
        .stage();
        let slow = FaultPlan::none().with(Fault::Slow, 1.0);
        stage
            .market
            .set_faults(slow.slow_by(Duration::from_secs(9)));
        for round in 0..4 {
            say_all(&mut stage, 1_200, round);
            stage.live(Duration::from_secs(40)).await;
        }
        assert_eq!(stage.market.report().peak_parallel, 4);
        stage.check_rules().unwrap();
        stage.market.heal();
        stage.live(Duration::from_mins(3)).await;
        stage.check().unwrap();
    });
}

#[test]
fn all_shops_of_a_cabinet_together_read_back_within_a_tenth_of_its_limit() {
    on_a_jumping_clock(async {
        let lanes: [&[u64]; 4] = [&[7], &[8], &[9], &[10]];
        let setup = Setup::new(Method::Business).lanes(&lanes);
        let mut stage = setup.verified_every(Duration::from_mins(20)).stage();
        say_all(&mut stage, 6_000, 0);
        stage.live(Duration::from_mins(22)).await;
        let looks: Vec<_> = stage
            .market
            .requests()
            .into_iter()
            .map(|r| (r.call, r.at))
            .collect();
        let looks: Vec<_> = looks
            .into_iter()
            .filter(|(call, _)| *call == Call::ReadBack)
            .map(|(_, at)| at)
            .collect();
        let minute = TimeDelta::minutes(1);
        let within = |from| {
            looks
                .iter()
                .filter(|at| **at >= from && **at < from + minute)
                .count()
        };
        let most = looks.iter().map(|from| within(*from)).max();
        assert!(
            most.is_some_and(|most| (40..=50).contains(&most)),
            "{most:?} looks in a minute"
        );
        // And each gets its turn.
        while stage.lanes.iter().any(|lane| lane.passes.is_empty()) {
            stage.live(Duration::from_mins(1)).await;
        }
        for lane in &stage.lanes {
            assert_eq!(lane.passes[0].get(Class::Equal.name()), Some(&6_000));
        }
        stage.check().unwrap();
    });
}

#[test]
fn a_zero_of_one_shop_does_not_wait_for_the_backlog_of_the_other() {
    on_a_jumping_clock(async {
        let mut stage = cabinet().stage();
        stage.say_in(1, "sku-1", 5, TimeDelta::zero());
        stage.live(Duration::from_secs(1)).await;
        for (sku, count) in stock(60_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_secs(30)).await;
        stage.say_in(1, "sku-1", 0, TimeDelta::zero());
        stage.live(Duration::from_secs(40)).await;
        let held = stage.market.get(super::stage::campaign_of(9), "sku-1");
        assert_eq!(held.map(|held| held.count), Some(0));
    });
}

#[test]
fn a_limit_that_the_market_lowers_is_obeyed() {
    for (method, limit, skus) in [
        (Method::Campaign, 5_000, 20_000),
        (Method::Business, 5, 20_000),
    ] {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).stage();
            stage
                .market
                .set_faults(FaultPlan::none().limit_headers(limit));
            for (sku, count) in stock(skus) {
                stage.say(&sku, count);
            }
            let begun = Instant::now();
            while stage.lanes[0].disk.acked.len() < skus {
                stage.live(Duration::from_secs(1)).await;
                assert!(
                    begun.elapsed() < Duration::from_mins(9),
                    "{:?}",
                    stage.market.report()
                );
            }
            assert!(
                begun.elapsed() >= Duration::from_mins(1),
                "{:?}",
                begun.elapsed()
            );
            stage.check().unwrap();
            // And raised again, once the Market says so.
            stage
                .market
                .set_faults(FaultPlan::none().limit_headers(1_000_000));
            stage.live(Duration::from_mins(2)).await;
            stage.say("one", 1);
            stage.live(Duration::from_secs(1)).await;
            for (sku, count) in stock(skus) {
                stage.say(&sku, count + 1);
            }
            stage.live(Duration::from_secs(2)).await;
            stage.check().unwrap();
        });
    }
}

#[test]
fn answers_that_are_long_on_their_way_are_not_a_clock_that_goes_wrong() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).stage();
            for n in 0..20 {
                stage.set_way_back(Duration::from_secs([0, 30, 5][n % 3]));
                stage.say("A", i64::try_from(n).unwrap());
                stage.live(Duration::from_secs(1)).await;
                // Changed while it is under way, and once the answer is there sent at once.
                stage.say("A", i64::try_from(n).unwrap() + 1);
                stage.live(Duration::from_secs(61)).await;
            }
            stage.check().unwrap();
        });
    }
}

#[test]
fn a_sku_refused_by_one_shop_of_a_cabinet_is_no_trouble_to_the_other() {
    on_a_jumping_clock(async {
        let mut stage = cabinet().stage();
        stage
            .market
            .set_faults(FaultPlan::none().poisoned(["sku-7".to_owned()], true));
        say_all(&mut stage, 5_000, 0);
        stage.live(Duration::from_mins(5)).await;
        stage.check().unwrap();
        for lane in &stage.lanes {
            let aside: Vec<_> = lane.disk.quarantined.keys().map(Sku::as_str).collect();
            assert_eq!(aside, ["sku-7"]);
        }
        stage.live(Duration::from_mins(15)).await;
        assert_eq!(stage.verify().await.get(Class::Refused.name()), Some(&1));
    });
}

#[test]
fn a_fault_of_three_minutes_is_made_up_for_in_two_while_stock_keeps_changing() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(Method::Business).stage();
        let skus = 20_000;
        for (sku, count) in stock(skus) {
            stage.say(&sku, count);
        }
        let all = stock(skus).into_iter().map(|(sku, _)| sku);
        stage
            .market
            .set_faults(FaultPlan::none().poisoned(all, false));
        for second in 0..300 {
            if second == 180 {
                stage.market.heal();
            }
            for n in 0..60 {
                let sku = format!("sku-{}", (second * 60 + n) * 7 % skus);
                stage.say(&sku, 10 + i64::try_from(second % 5).unwrap());
            }
            stage.live(Duration::from_secs(1)).await;
        }
        let waiting = stage.ledger.count_dirty(super::stage::SHOP, &stage.book);
        assert!(waiting <= 60 * 15, "{waiting} SKUs are not sent");
        assert!(stage.lanes[0].disk.quarantined.is_empty());
        stage.check_rules().unwrap();
    });
}

#[test]
fn a_few_skus_refused_by_business_delay_the_others_by_minutes_and_zeros_not_at_all() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(Method::Business).stage();
        for n in 0..300 {
            stage.say(&format!("falls-{n}"), 3);
        }
        stage.live(Duration::from_secs(1)).await;
        let bad = (0..42).map(|n| format!("sku-{}", n * n * 11 % 20_000));
        stage
            .market
            .set_faults(FaultPlan::none().poisoned(bad, false));
        for (sku, count) in stock(20_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_millis(10)).await;
        for n in 0..300 {
            stage.say(&format!("falls-{n}"), 0);
        }
        stage.live(Duration::from_secs(61)).await;
        let waiting = |stage: &Stage| stage.ledger.count_dirty(super::stage::SHOP, &stage.book);
        let count = |sku: &str| stage.held(sku).map(|held| held.count);
        assert!((0..300).all(|n| count(&format!("falls-{n}")) == Some(0)));
        stage.live(Duration::from_mins(6)).await;
        assert!(
            waiting(&stage) <= 2_000,
            "{} SKUs are not sent",
            waiting(&stage)
        );
        stage.live(Duration::from_mins(10)).await;
        assert_eq!(stage.lanes[0].disk.quarantined.len(), 42);
        stage.check().unwrap();
    });
}

#[test]
fn a_refused_key_is_probed_by_one_shop_of_a_cabinet_and_the_mended_one_is_found_at_once() {
    on_a_jumping_clock(async {
        let mut stage = cabinet().stage();
        KEYS.iter().for_each(|key| stage.market.revoke_key(key));
        say_all(&mut stage, 10, 0);
        let begun = stage.clock.now();
        stage.live(Duration::from_secs(400)).await;
        let requests = stage.market.requests();
        for minutes in [1, 3] {
            let probe = begun + TimeDelta::minutes(minutes);
            let second = TimeDelta::seconds(10);
            let probes = requests
                .iter()
                .filter(|r| (r.at - probe).abs() < second)
                .count();
            assert_eq!(
                probes,
                KEYS.len(),
                "one for each key after {minutes} minutes"
            );
        }
        // Of two keys it may be the second that is mended.
        stage.market.restore_key(KEYS[1]);
        stage.live(Duration::from_secs(35)).await;
        stage.check().unwrap();
    });
}

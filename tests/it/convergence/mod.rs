//! The sentence that is the product: for any order of updates, faults and restarts, once the
//! faults stop the Market's stock equals the book, no limit was ever broken, and no zero
//! appeared that nobody said.
//!
//! The real plan against the real rehearsal Market, without sockets and on a clock that jumps:
//! hours pass in milliseconds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use stockbridge::rehearsal::{Fault, FaultPlan};
use stockbridge::stock::Sku;
use tokio::time::Instant;

mod cabinet;
mod clock;
mod read_back;
mod refresh;
mod stage;

use stage::{CAMPAIGN, KEYS, Method, Setup, Stage, on_a_jumping_clock, stock};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// SKUs with counts, and by how many minutes their dates are ahead of the clock.
    Say(Vec<(usize, i64, i64)>),
    Pass(u64),
    Restart,
    Storm(u64),
    Heal,
    Revoke,
}

/// Mostly now; at times from the day before yesterday, or from a clock that runs ahead.
fn minutes_ahead() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0i64), 1 => Just(-2 * 24 * 60), 1 => Just(4)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec((0usize..60, 0i64..5, minutes_ahead()), 1..40).prop_map(Event::Say),
        4 => (0u64..40).prop_map(Event::Pass),
        1 => Just(Event::Restart),
        2 => any::<u64>().prop_map(Event::Storm),
        1 => Just(Event::Heal),
        1 => Just(Event::Revoke),
    ]
}

/// By either method, with one warehouse or several, with one shop or two of a cabinet.
fn setup() -> impl Strategy<Value = (Method, Vec<Vec<u64>>)> {
    prop_oneof![
        2 => Just((Method::Campaign, vec![vec![7]])),
        1 => Just((Method::Business, vec![vec![7]])),
        1 => Just((Method::Business, vec![vec![7, 8]])),
        2 => Just((Method::Business, vec![vec![7, 8], vec![9]])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn once_the_faults_stop_the_market_equals_the_book(
        events in prop::collection::vec(event(), 1..30),
        named in any::<bool>(),
        poison in prop::collection::hash_set(0usize..60, 0..4),
        (method, lanes) in setup(),
        parallel in 1usize..=4,
    ) {
        on_a_jumping_clock(async {
            let poison: Vec<String> = poison.into_iter().map(|n| format!("sku-{n}")).collect();
            let poisoned = |plan: FaultPlan| plan.poisoned(poison.clone(), named);
            let mut stage = Setup { lanes, parallel, ..Setup::new(method) }
                .verified_every(Duration::from_mins(3))
                .stage();
            stage.market.set_faults(poisoned(FaultPlan::none()));
            for event in events {
                match event {
                    Event::Say(rows) => {
                        for (n, count, ahead) in rows {
                            let ahead = TimeDelta::minutes(ahead);
                            let lane = n % stage.lanes.len();
                            stage.say_in(lane, &format!("sku-{n}"), count, ahead);
                        }
                        stage.live(Duration::from_millis(1)).await;
                    }
                    Event::Pass(seconds) => stage.live(Duration::from_secs(seconds)).await,
                    Event::Restart => stage.restart(),
                    Event::Storm(seed) => {
                        stage.market.set_faults(poisoned(FaultPlan::storm(seed, 0.5)));
                    }
                    Event::Heal => stage.market.set_faults(poisoned(FaultPlan::none())),
                    Event::Revoke => stage.market.revoke_key(KEYS[0]),
                }
            }
            stage.market.set_faults(poisoned(FaultPlan::none()));
            stage.live(Duration::from_secs(3600)).await;
            stage.check()?;
            for lane in &stage.lanes {
                for sku in lane.disk.quarantined.keys() {
                    let is_poison = poison.iter().any(|poison| poison == sku.as_str());
                    prop_assert!(is_poison, "{} is good", sku);
                }
                let last = lane.passes.last().cloned().unwrap_or_default();
                let open = ["unsent", "unknown", "drifted"].map(|class| last.get(class));
                prop_assert_eq!(open, [None; 3], "{:?}", last);
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_limit_that_is_met_is_used_up_and_never_broken_across_restarts() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        for (sku, count) in stock(25_000) {
            stage.say(&sku, count);
        }
        let begun = Instant::now();
        for _ in 0..5 {
            stage.live(Duration::from_secs(7)).await;
            stage.restart();
        }
        while stage.market.len(CAMPAIGN) < 25_000 {
            stage.live(Duration::from_secs(1)).await;
            assert!(
                begun.elapsed() < Duration::from_mins(6),
                "{}",
                stage.market.len(CAMPAIGN)
            );
        }
        stage.live(Duration::from_secs(1)).await;
        stage.check().unwrap();
        assert!(
            stage.market.report().requests <= 13 + 10,
            "{:?}",
            stage.market.report()
        );
    });
}

#[test]
fn a_backlog_goes_in_the_time_the_limit_allows() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        for (sku, count) in stock(30_000) {
            stage.say(&sku, count);
        }
        let begun = Instant::now();
        while stage.market.len(CAMPAIGN) < 30_000 {
            stage.live(Duration::from_secs(1)).await;
        }
        // Three minutes' worth: the first at once, the last two minutes later.
        assert!(
            begun.elapsed() <= Duration::from_secs(122),
            "{:?}",
            begun.elapsed()
        );
        let report = stage.market.report();
        assert_eq!((report.requests, report.refused.len()), (15, 0));
        stage.check().unwrap();
    });
}

#[test]
fn a_poison_sku_costs_a_few_requests_and_the_others_go_in_the_same_cycle() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let poison = "sku-1234".to_owned();
        stage
            .market
            .set_faults(FaultPlan::none().poisoned([poison.clone()], false));
        for (sku, count) in stock(2_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_secs(5)).await;
        assert_eq!(
            stage.lanes[0]
                .disk
                .quarantined
                .keys()
                .map(Sku::as_str)
                .collect::<Vec<_>>(),
            [poison]
        );
        let requests = stage.market.report().requests;
        assert!(
            requests <= 24,
            "{requests} requests for one poison SKU in 2000"
        );
        stage.check().unwrap();
    });
}

#[test]
fn when_every_batch_is_refused_nothing_is_set_aside() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let all = stock(500).into_iter().map(|(sku, _)| sku);
        stage
            .market
            .set_faults(FaultPlan::none().poisoned(all, false));
        for (sku, count) in stock(500) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_mins(5)).await;
        assert!(stage.lanes[0].disk.quarantined.is_empty());
        let now = stage.now();
        assert_eq!(stage.lanes[0].plan.report(now).state, "paused");
        stage.market.heal();
        stage.live(Duration::from_hours(2)).await;
        stage.check().unwrap();
    });
}

#[test]
fn zeros_and_decreases_overtake_a_long_backlog() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        stage.say("falls-to-zero", 5);
        stage.say("decreases", 5);
        stage.live(Duration::from_secs(1)).await;
        for (sku, count) in stock(22_000) {
            stage.say(&sku, count);
        }
        // The first minute's volume goes at once; then the seller sells.
        stage.live(Duration::from_secs(30)).await;
        stage.say("decreases", 4);
        stage.say("falls-to-zero", 0);
        stage.live(Duration::from_secs(32)).await;
        let count = |sku| stage.market.get(CAMPAIGN, sku).map(|held| held.count);
        assert_eq!(
            (count("falls-to-zero"), count("decreases")),
            (Some(0), Some(4))
        );
        assert!(
            stage.market.len(CAMPAIGN) < 22_000,
            "the backlog is still waiting"
        );
    });
}

#[test]
fn a_closed_campaign_is_looked_at_hourly_and_then_goes_on() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let until: DateTime<Utc> = stage.clock.now() + TimeDelta::minutes(90);
        stage
            .market
            .set_faults(FaultPlan::none().locked_until(until));
        stage.say("sku-1", 5);
        stage.live(Duration::from_mins(89)).await;
        assert_eq!(stage.market.report().requests, 2);
        stage.live(Duration::from_mins(32)).await;
        assert_eq!(stage.market.report().requests, 3);
        stage.check().unwrap();
    });
}

#[test]
fn what_does_not_fit_the_backlog_is_found_again() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_the_real_limit();
        for (sku, count) in stock(60_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_secs(5)).await;
        stage.check().unwrap();
    });
}

#[test]
fn a_change_during_the_request_goes_right_after_it() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_the_real_limit();
        let slow = FaultPlan::none()
            .with(Fault::Slow, 1.0)
            .slow_by(Duration::from_secs(2));
        stage.market.set_faults(slow);
        stage.say("sku-1", 5);
        stage.live(Duration::from_secs(1)).await;
        stage.say("sku-1", 4);
        stage.live(Duration::from_secs(5)).await;
        assert_eq!(
            stage.market.get(CAMPAIGN, "sku-1").map(|held| held.count),
            Some(4)
        );
        assert_eq!(stage.market.report().requests, 2);
    });
}

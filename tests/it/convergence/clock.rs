//! Clocks that differ, are set, and responses that are slow: dates never go backwards.

use std::time::Duration;

use chrono::TimeDelta;
use stockbridge::clock::Clock;
use stockbridge::migrator::reconcile::Class;

use super::stage::{METHODS, Method, SHOP, Setup, on_a_jumping_clock, stock};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_body_that_takes_its_time_does_not_date_other_skus_back() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).stage();
            for (n, body) in [20, 3, 0, 40, 9].into_iter().enumerate() {
                let count = i64::try_from(n).unwrap();
                stage.set_slow_body(Duration::from_secs(body));
                stage.say("slow", count);
                stage.live(SECOND).await;
                stage.set_slow_body(Duration::ZERO);
                // Up to the end of the body, at it, and after it.
                for step in 0..50 {
                    stage.say("quick", 100 * count + step);
                    stage.live(SECOND).await;
                }
            }
            stage.live(Duration::from_mins(2)).await;
            stage.check().unwrap();
        });
    }
}

#[test]
fn a_clock_that_is_set_back_dates_nothing_before_what_was_sent() {
    for method in METHODS {
        for back in [TimeDelta::seconds(30), TimeDelta::hours(2)] {
            for is_restarted in [false, true] {
                on_a_jumping_clock(through_a_clock_set_back(method, back, is_restarted));
            }
        }
    }
}

async fn through_a_clock_set_back(method: Method, back: TimeDelta, is_restarted: bool) {
    let mut stage = Setup::new(method).stage();
    for (sku, count) in stock(100) {
        stage.say(&sku, count);
    }
    stage.live(Duration::from_secs(5)).await;
    stage.set_clock(-back);
    if is_restarted {
        stage.restart();
    }
    for round in 1..4 {
        for (sku, count) in stock(100) {
            // As of now is newer than what is known, whatever the clock says.
            stage.say_as_of(&sku, count + round, back + TimeDelta::seconds(10));
        }
        stage.live(Duration::from_secs(3)).await;
    }
    stage.live(Duration::from_mins(1)).await;
    stage.check().unwrap();
    assert!(stage.lanes[0].disk.quarantined.is_empty());
}

#[test]
fn a_clock_that_runs_ahead_costs_one_request_and_sets_no_sku_aside() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut setup = Setup::new(method);
            setup.clock = Clock::starting_at(setup.clock.now() + TimeDelta::minutes(20));
            let mut stage = setup.stage();
            for (sku, count) in stock(500) {
                stage.say(&sku, count);
            }
            stage.live(Duration::from_secs(10)).await;
            assert_eq!(stage.lanes[0].disk.acked.len(), 500);
            assert_eq!(
                stage.market.report().requests,
                2,
                "{:?}",
                stage.market.report()
            );
            assert!(stage.lanes[0].disk.quarantined.is_empty());
            // Known from then on, and after a restart found out again.
            stage.restart();
            for (sku, count) in stock(500) {
                stage.say(&sku, count + 1);
            }
            stage.live(Duration::from_secs(10)).await;
            assert_eq!(
                stage.market.report().requests,
                4,
                "{:?}",
                stage.market.report()
            );
            assert!(stage.lanes[0].disk.quarantined.is_empty());
            for (sku, count) in stock(500) {
                let held = stage.market.get(super::stage::CAMPAIGN, &sku).unwrap();
                assert_eq!(i64::from(held.count), count + 1, "{sku}");
            }
        });
    }
}

#[test]
fn one_slow_response_does_not_hide_an_update_that_was_lost() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(Method::Campaign).stage();
        stage.say("A", 5);
        stage.live(Duration::from_secs(20)).await;
        stage
            .market
            .set_faults(stockbridge::rehearsal::FaultPlan::none().dropping(1.0));
        stage.say("A", 3);
        stage.live(SECOND).await;
        stage.market.heal();
        stage.set_way_back(Duration::from_secs(40));
        stage.say("B", 1);
        stage.live(Duration::from_mins(16)).await;
        stage.set_way_back(Duration::ZERO);
        stage.verify().await;
        stage.live(SECOND).await;
        assert_eq!(stage.held("A").map(|held| held.count), Some(3));
        assert!(stage.ledger.get(SHOP, stage.id(0, "A")).level().is_some());
        stage.live(Duration::from_mins(16)).await;
        let classes = stage.verify().await;
        assert_eq!(classes, [(Class::Equal.name(), 2)].into());
    });
}

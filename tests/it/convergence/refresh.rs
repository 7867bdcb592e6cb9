//! What is said again although nothing has changed: the Market wants to hear of each SKU daily.

use std::time::Duration;

use chrono::TimeDelta;
use stockbridge::migrator::reconcile::Class;
use stockbridge::rehearsal::{Call, FaultPlan, Verdict};

use super::stage::{CAMPAIGN, METHODS, Setup, Stage, on_a_jumping_clock, stock};

const HOUR: Duration = Duration::from_hours(1);

fn received(stage: &Stage) -> u64 {
    stage.market.report().skus_received
}

#[test]
fn what_is_asserted_anew_is_sent_again_within_a_day_and_not_all_at_once() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).stage();
            // Of all ages: an hour, some, days.
            for (n, (sku, count)) in (0..).zip(stock(3_000)) {
                stage.say_as_of(&sku, count, -TimeDelta::hours(n % 60));
            }
            stage.live(HOUR * 2).await;
            assert_eq!(received(&stage), 3_000);
            for n in 0..2_000 {
                stage.assert(0, &format!("sku-{n}"));
            }
            stage.live(HOUR * 9).await;
            assert_eq!(received(&stage), 3_000, "sooner than asked for");
            let mut before = received(&stage);
            for hour in 11..24 {
                stage.live(HOUR).await;
                let again = received(&stage) - before;
                assert!(again <= 2_000 / 9, "{again} in hour {hour}");
                before = received(&stage);
            }
            assert_eq!(received(&stage), 5_000);
            for n in 0..3_000 {
                let again = u32::from(n < 2_000);
                assert_eq!(stage.received(&format!("sku-{n}")), 1 + again, "sku-{n}");
            }
            // Nobody has said them again since.
            stage.live(HOUR * 24).await;
            assert_eq!(received(&stage), 5_000);
            stage.check().unwrap();
        });
    }
}

#[test]
fn what_is_asserted_every_hour_is_sent_about_daily() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(METHODS[0]).stage();
        for (sku, count) in stock(100) {
            stage.say(&sku, count);
        }
        for _ in 0..72 {
            stage.live(HOUR).await;
            (0..100).for_each(|n| stage.assert(0, &format!("sku-{n}")));
        }
        for n in 0..100 {
            let received = stage.received(&format!("sku-{n}"));
            assert!(
                (4..=6).contains(&received),
                "sku-{n} in three days {received} times"
            );
        }
        stage.check().unwrap();
    });
}

#[test]
fn a_change_overtakes_what_is_due_again() {
    on_a_jumping_clock(async {
        let mut setup = Setup::new(METHODS[0]);
        // So low that what is due again waits for minutes.
        setup.limit_share = 0.0001;
        setup.market.skus_per_minute = 10;
        let mut stage = setup.stage();
        for (sku, count) in stock(200) {
            stage.say(&sku, count);
        }
        stage.live(HOUR * 2).await;
        (0..200).for_each(|n| stage.assert(0, &format!("sku-{n}")));
        // Nothing can be sent until all are due.
        stage
            .market
            .set_faults(FaultPlan::none().locked_until(stage.clock.now() + TimeDelta::hours(24)));
        stage.live(HOUR * 23).await;
        stage.say("sku-150", 0);
        stage.say("sku-151", 9);
        let known = received(&stage);
        while received(&stage) == known {
            stage.live(Duration::from_secs(1)).await;
        }
        assert_eq!(stage.held("sku-150").map(|held| held.count), Some(0));
        stage.live(HOUR).await;
        stage.check().unwrap();
        assert_eq!(
            (stage.received("sku-150"), stage.received("sku-151")),
            (2, 2)
        );
    });
}

#[test]
fn a_refresh_ends_what_buyers_have_taken_only_where_the_seller_has_counted_since() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).verified_every(HOUR).stage();
            for (sku, count) in stock(20) {
                stage.say(&sku, count + 5);
            }
            stage.live(HOUR).await;
            for n in 0..20 {
                stage.market.order(CAMPAIGN, &format!("sku-{n}"), 1);
            }
            stage.live(HOUR).await;
            (0..10).for_each(|n| stage.assert(0, &format!("sku-{n}")));
            stage.live(HOUR * 30).await;
            let available = |n: usize| stage.market.available(CAMPAIGN, &format!("sku-{n}"));
            for (n, (_, count)) in stock(20).into_iter().enumerate() {
                let count = u32::try_from(count + 5).unwrap();
                let taken = u32::from(n >= 10);
                assert_eq!(available(n), Some(count - taken), "sku-{n}");
            }
            assert_eq!(stage.class("sku-15"), Some(Class::Explained));
            stage.check().unwrap();
        });
    }
}

#[test]
fn a_refresh_through_a_storm_and_restarts_goes_never_backwards() {
    for (method, seed) in METHODS.into_iter().zip(7..) {
        on_a_jumping_clock(async {
            let mut stage = Setup::new(method).verified_every(HOUR * 3).stage();
            for (n, (sku, count)) in (0..).zip(stock(500)) {
                stage.say_as_of(&sku, count, TimeDelta::minutes(4 - 10 * n));
            }
            stage.market.set_faults(FaultPlan::storm(seed, 0.5));
            for hour in 0..60 {
                stage.live(HOUR).await;
                (0..500)
                    .step_by(3)
                    .for_each(|n| stage.assert(0, &format!("sku-{n}")));
                if hour % 7 == 0 {
                    stage.restart();
                }
            }
            stage.market.heal();
            stage.live(HOUR).await;
            stage.check().unwrap();
            let updates = stage.market.requests().into_iter();
            let taken =
                updates.filter(|r| r.call == Call::Update && r.verdict == Verdict::Accepted);
            assert!(
                taken.map(|r| r.skus).sum::<usize>() > 900,
                "it was sent again"
            );
        });
    }
}

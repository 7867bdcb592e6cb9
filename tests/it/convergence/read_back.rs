//! What the Market shows of its copy, what is found out by it, and what is sent again.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;
use proptest::prelude::*;
use stockbridge::migrator::Mode;
use stockbridge::migrator::reconcile::{Class, Progress};
use stockbridge::rehearsal::{Call, Fault, FaultPlan};
use tokio::time::Instant;

use super::stage::{
    CAMPAIGN, KEYS, METHODS, Method, SHOP, Setup, Stage, campaign_of, on_a_jumping_clock, stock,
};

const MINUTE: Duration = Duration::from_mins(1);

/// The Market shows what it took a quarter of an hour ago; a little more.
const SHOWN: Duration = Duration::from_mins(16);

fn all(class: Class, count: u64) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([(class.name(), count)])
}

/// A stage whose Market has taken these SKUs a good while ago.
async fn settled(setup: Setup, skus: usize) -> Stage {
    let mut stage = setup.stage();
    for (sku, count) in stock(skus) {
        stage.say(&sku, count);
    }
    stage.live(SHOWN).await;
    stage
}

/// The seller says this, and the Market acknowledges it and throws it away.
async fn say_in_vain(stage: &mut Stage, sku: &str, count: i64) {
    stage.market.set_faults(FaultPlan::none().dropping(1.0));
    stage.say(sku, count);
    stage.live(Duration::from_secs(1)).await;
    stage.market.heal();
}

#[test]
fn updates_the_market_drops_are_found_out_and_sent_until_the_copies_are_equal() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let setup = Setup::new(method).verified_every(Duration::from_hours(1));
            let mut stage = setup.stage();
            stage.market.set_faults(FaultPlan::seeded(1).dropping(0.01));
            for (n, (sku, count)) in (0..).zip(stock(4_000)) {
                stage.say_as_of(&sku, count, -TimeDelta::minutes(n % 1_380));
            }
            stage.live(Duration::from_mins(30)).await;
            for (sku, count) in stock(2_000) {
                stage.say(&sku, count + 1);
            }
            stage.live(Duration::from_hours(4)).await;
            assert!(
                stage.market.report().skus_dropped > 40,
                "{:?}",
                stage.market.report()
            );
            stage.check().unwrap();
            assert_eq!(
                stage.lanes[0].passes.last(),
                Some(&all(Class::Equal, 4_000))
            );
        });
    }
}

#[test]
fn a_dropped_number_is_sent_again_although_orders_would_explain_the_difference() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(Method::Campaign).stage();
        stage.say("A", 5);
        stage.live(MINUTE).await;
        stage.market.order(CAMPAIGN, "A", 2);
        stage.live(MINUTE * 2).await;
        say_in_vain(&mut stage, "A", 5).await;
        stage.live(SHOWN).await;
        stage.verify().await;
        stage.live(MINUTE).await;
        assert_eq!(stage.market.available(CAMPAIGN, "A"), Some(5));
    });
}

#[test]
fn a_dropped_number_with_an_old_date_is_sent_again() {
    on_a_jumping_clock(async {
        let mut stage = Setup::new(Method::Campaign).stage();
        stage.say_as_of("A", 3, -TimeDelta::days(9));
        stage.live(Duration::from_mins(5)).await;
        stage.market.set_faults(FaultPlan::none().dropping(1.0));
        stage.say_as_of("A", 5, -TimeDelta::days(8));
        stage.live(Duration::from_secs(1)).await;
        stage.market.heal();
        stage.live(SHOWN).await;
        stage.verify().await;
        stage.live(MINUTE).await;
        assert_eq!(stage.market.available(CAMPAIGN, "A"), Some(5));
    });
}

#[test]
fn a_dropped_zero_is_sent_again_before_the_pass_ends() {
    on_a_jumping_clock(async {
        let mut stage = settled(Setup::new(Method::Campaign), 9_000).await;
        say_in_vain(&mut stage, "sku-0", 0).await;
        stage.live(SHOWN).await;
        let now = stage.now();
        stage.lanes[0].surveyor.hurry(now);
        stage.live(Duration::from_secs(3)).await;
        assert_eq!(stage.survey().state, Progress::Running);
        assert_eq!(stage.held("sku-0").map(|held| held.count), Some(0));
    });
}

#[test]
fn orders_and_shipments_explain_what_is_missing_and_nothing_is_sent_again() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let setup = Setup::new(method).verified_every(Duration::from_hours(1));
            let mut stage = setup.stage();
            stage.market.set_faults(FaultPlan::seeded(5).ordering(0.2));
            for (sku, count) in stock(300) {
                stage.say(&sku, count + 1);
            }
            stage.live(SHOWN).await;
            for n in 0..100 {
                let sku = format!("sku-{n}");
                stage.market.order(CAMPAIGN, &sku, 1);
                if n % 2 == 0 {
                    stage.market.ship(CAMPAIGN, &sku, 9);
                }
            }
            stage.live(Duration::from_hours(3)).await;
            assert_eq!(stage.market.report().skus_received, 300);
            assert_eq!(stage.class("sku-0"), Some(Class::Explained));
            assert_eq!(stage.class("sku-1"), Some(Class::Explained));
            assert_eq!(stage.survey().open_questions(), 0, "{:?}", stage.survey());
            assert!(stage.survey().last_equal.is_some());
        });
    }
}

#[test]
fn what_the_market_shows_late_is_pending_and_not_sent_again() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut setup = Setup::new(method);
            setup.market.visible_after = Duration::from_mins(15);
            let mut stage = settled(setup, 90).await;
            for (sku, count) in stock(90) {
                stage.say(&sku, count + 1);
            }
            stage.say("new", 1);
            stage.live(Duration::from_secs(1)).await;
            assert_eq!(stage.verify().await, all(Class::Pending, 91));
            let said = Instant::now();
            // Asked before the time is over, answered after it.
            stage.live(Duration::from_secs(15 * 60 - 4)).await;
            stage
                .market
                .set_faults(FaultPlan::none().with(Fault::Slow, 1.0));
            assert_eq!(stage.verify().await, all(Class::Pending, 91));
            assert!(said.elapsed() > Duration::from_mins(15));
            stage.market.heal();
            stage.live(MINUTE).await;
            assert_eq!(stage.verify().await, all(Class::Equal, 91));
            assert_eq!(stage.market.report().skus_received, 181);
        });
    }
}

#[test]
fn thin_pages_a_return_warehouse_and_reserved_pieces_are_no_drift() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut setup = Setup::new(method);
            setup.market.thin_pages = true;
            setup.market.return_warehouse = Some(1);
            setup.market.reserved = 3;
            let mut stage = settled(setup, 1_000).await;
            assert_eq!(stage.verify().await, all(Class::Equal, 1_000));
            stage.check().unwrap();
        });
    }
}

#[test]
fn a_read_back_that_is_answered_with_nonsense_is_asked_again_and_then_goes_on() {
    for method in METHODS {
        for fault in [
            Fault::ErrorInOk,
            Fault::HtmlInOk,
            Fault::EmptyOk,
            Fault::CutAnswer,
        ] {
            on_a_jumping_clock(async {
                let mut stage = settled(Setup::new(method), 500).await;
                let script = [None, Some(fault), Some(fault), None, Some(fault)];
                stage.market.set_faults(FaultPlan::script(script));
                assert_eq!(stage.verify().await, all(Class::Equal, 500), "{fault:?}");
                assert_eq!(stage.market.report().skus_received, 500);
            });
        }
    }
}

#[test]
fn an_update_that_is_answered_with_nonsense_is_not_acknowledged() {
    for method in METHODS {
        for fault in [Fault::ErrorInOk, Fault::HtmlInOk, Fault::EmptyOk] {
            on_a_jumping_clock(async {
                let mut stage = Setup::new(method).stage();
                stage
                    .market
                    .set_faults(FaultPlan::none().with(fault, 1.0).sparing_read_backs());
                stage.say("A", 5);
                stage.live(SHOWN).await;
                assert_eq!(stage.ledger.get(SHOP, stage.id(0, "A")).level(), None);
                assert_eq!(stage.verify().await, all(Class::Unsent, 1), "{fault:?}");
                stage.market.heal();
                stage.live(SHOWN).await;
                assert_eq!(stage.verify().await, all(Class::Equal, 1), "{fault:?}");
                stage.check().unwrap();
            });
        }
    }
}

#[test]
fn a_pass_through_a_storm_ends_in_truth_once_it_is_over() {
    for (method, seed) in METHODS.into_iter().zip(40..) {
        on_a_jumping_clock(async {
            let setup = Setup::new(method).verified_every(Duration::from_hours(1));
            let mut stage = settled(setup, 1_500).await;
            stage.market.set_faults(FaultPlan::storm(seed, 0.6));
            stage.live(Duration::from_hours(2)).await;
            stage
                .market
                .set_faults(FaultPlan::storm(seed, 0.6).dropping(0.05));
            for (sku, count) in stock(1_500) {
                stage.say(&sku, count + 1);
            }
            stage.live(Duration::from_hours(2)).await;
            stage.market.heal();
            stage.live(Duration::from_hours(3)).await;
            assert_eq!(
                stage.lanes[0].passes.last(),
                Some(&all(Class::Equal, 1_500))
            );
            stage.check().unwrap();
        });
    }
}

#[test]
fn what_is_not_in_the_catalogue_is_sent_once_more_and_not_at_each_pass() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut setup = Setup::new(method);
            let sold: HashSet<String> = stock(50).into_iter().map(|(sku, _)| sku).collect();
            setup.market.catalogue = Some(sold);
            let mut stage = settled(setup, 60).await;
            // As often as somebody likes to ask, within the Market's delay and after it.
            for wait in [0, 1, 1, 16, 1, 16, 16, 60] {
                stage.live(MINUTE * wait).await;
                stage.verify().await;
            }
            assert_eq!(
                stage.survey().classes.get("unknown"),
                Some(&10),
                "{:?}",
                stage.survey()
            );
            assert_eq!(stage.market.report().skus_received, 60 + 10);
            assert!(!stage.has_drift_alarm());
        });
    }
}

#[test]
fn an_update_that_is_dropped_twice_is_sent_a_third_time_after_a_day() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut setup = Setup::new(method).verified_every(Duration::from_hours(2));
            setup.market.catalogue = None;
            let mut stage = settled(setup, 10).await;
            stage.market.set_faults(FaultPlan::none().dropping(1.0));
            stage.say("new", 7);
            stage.live(Duration::from_hours(5)).await;
            assert_eq!(stage.market.report().skus_received, 10 + 2);
            stage.market.heal();
            stage.live(Duration::from_hours(27)).await;
            assert_eq!(stage.held("new").map(|held| held.count), Some(7));
            assert_eq!(stage.market.report().skus_received, 10 + 3);
        });
    }
}

#[test]
fn a_request_without_a_response_brings_the_next_read_back_forward() {
    on_a_jumping_clock(async {
        let setup = Setup::new(Method::Campaign).verified_every(Duration::from_hours(6));
        let mut stage = settled(setup, 10).await;
        stage.live(Duration::from_mins(20)).await;
        let passes = stage.lanes[0].passes.len();
        stage
            .market
            .set_faults(FaultPlan::script([Some(Fault::Hang)]));
        stage.say("sku-1", 0);
        stage.live(Duration::from_mins(20)).await;
        assert_eq!(stage.lanes[0].passes.len(), passes + 1);
        // Not at each of them.
        stage
            .market
            .set_faults(FaultPlan::script([Some(Fault::Hang)]));
        stage.say("sku-1", 3);
        stage.live(Duration::from_mins(20)).await;
        assert_eq!(stage.lanes[0].passes.len(), passes + 1);
    });
}

#[test]
fn a_campaign_that_answers_read_backs_again_is_sent_to_before_the_hour_is_over() {
    on_a_jumping_clock(async {
        let mut setup = Setup::new(Method::Campaign);
        setup.verify_every = Some(Duration::from_mins(5));
        let mut stage = settled(setup, 10).await;
        let until = stage.clock.now() + TimeDelta::seconds(50);
        stage
            .market
            .set_faults(FaultPlan::none().locked_until(until));
        stage.say("sku-1", 0);
        stage.live(Duration::from_mins(20)).await;
        assert_eq!(stage.held("sku-1").map(|held| held.count), Some(0));
    });
}

#[test]
fn the_archive_and_offers_of_others_have_classes_of_their_own() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = settled(Setup::new(method), 10).await;
            stage.market.archive(CAMPAIGN, "sku-3");
            stage.market.plant(CAMPAIGN, "theirs", 4, stage.clock.now());
            let classes = stage.verify().await;
            let expected = [(Class::Equal, 9), (Class::Archived, 1), (Class::NotOurs, 1)];
            assert_eq!(classes, expected.map(|(class, n)| (class.name(), n)).into());
            stage.live(MINUTE).await;
            assert_eq!(stage.market.report().skus_received, 10);
        });
    }
}

#[test]
fn drift_is_reported_and_sent_again_only_once_the_seller_has_said_the_same_anew() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = settled(Setup::new(method), 10).await;
            stage.market.plant(CAMPAIGN, "sku-3", 90, stage.clock.now());
            for _ in 0..3 {
                stage.live(Duration::from_mins(30)).await;
                assert_eq!(stage.verify().await.get("drifted"), Some(&1));
                assert!(stage.has_drift_alarm());
            }
            assert_eq!(stage.held("sku-3").map(|held| held.count), Some(90));
            stage.assert(0, "sku-3");
            assert_eq!(stage.verify().await.get("drifted"), Some(&1));
            assert_eq!(stage.survey().resent, 1);
            stage.live(SHOWN).await;
            assert_eq!(stage.verify().await, all(Class::Equal, 10));
            assert!(!stage.has_drift_alarm());
            assert_eq!(stage.market.report().skus_received, 11);
            // Whoever planted it had a later date; ours is still the seller's.
            assert_eq!(stage.held("sku-3").map(|held| held.count), Some(4));
        });
    }
}

#[test]
fn of_several_warehouses_the_worst_counts() {
    on_a_jumping_clock(async {
        let mut stage = settled(Setup::new(Method::Business).lanes(&[&[7, 8]]), 10).await;
        stage.market.order(campaign_of(7), "sku-3", 1);
        stage
            .market
            .plant(campaign_of(8), "sku-5", 90, stage.clock.now());
        stage.live(MINUTE).await;
        let classes = stage.verify().await;
        let expected = [
            (Class::Equal, 8),
            (Class::Explained, 1),
            (Class::Drifted, 1),
        ];
        assert_eq!(classes, expected.map(|(class, n)| (class.name(), n)).into());
        assert_eq!(stage.market.report().skus_received, 20, "two items each");
        stage.live(Duration::from_hours(1)).await;
        stage.assert(0, "sku-5");
        stage.verify().await;
        assert_eq!(stage.survey().resent, 1);
    });
}

#[test]
fn a_pass_by_the_clock_takes_a_tenth_of_the_limit_and_a_hurried_one_half() {
    for (method, skus, pages) in [
        (Method::Campaign, 14_000, 100),
        (Method::Business, 14_000, 50),
    ] {
        on_a_jumping_clock(async {
            let setup = Setup::new(method).verified_every(Duration::from_mins(20));
            let mut stage = settled(setup, skus).await;
            stage.live(Duration::from_secs(74)).await;
            let calm = most_looks_a_minute(&stage);
            assert!(
                calm <= pages && calm >= pages - 1,
                "{calm} looks in a minute"
            );
            while stage.lanes[0].passes.is_empty() {
                stage.live(MINUTE).await;
            }
            stage.live(MINUTE).await;
            stage.verify().await;
            let hurried = most_looks_a_minute(&stage);
            assert!(
                hurried <= pages * 5 && hurried > pages,
                "{hurried} looks in a minute"
            );
            stage.check().unwrap();
        });
    }
}

fn most_looks_a_minute(stage: &Stage) -> usize {
    let requests = stage.market.requests();
    let looks: Vec<_> = requests
        .iter()
        .filter(|r| r.call == Call::ReadBack)
        .map(|r| r.at)
        .collect();
    let minute = TimeDelta::minutes(1);
    let in_minute = |from| {
        looks
            .iter()
            .filter(|at| **at >= from && **at < from + minute)
            .count()
    };
    looks.iter().map(|from| in_minute(*from)).max().unwrap_or(0)
}

#[test]
fn a_read_back_is_one_of_the_requests_at_a_time() {
    for method in METHODS {
        for parallel in [1, 4] {
            on_a_jumping_clock(async {
                let mut stage = settled(
                    Setup {
                        parallel,
                        ..Setup::new(method)
                    },
                    3_000,
                )
                .await;
                let slow = FaultPlan::none().with(Fault::Slow, 1.0);
                stage
                    .market
                    .set_faults(slow.slow_by(Duration::from_millis(700)));
                let now = stage.now();
                stage.lanes[0].surveyor.hurry(now);
                for round in 0..5 {
                    stock(6_000)
                        .into_iter()
                        .for_each(|(sku, n)| stage.say(&sku, n + round));
                    stage.live(Duration::from_secs(1)).await;
                }
                stage.live(Duration::from_mins(30)).await;
                assert!(stage.market.report().read_backs >= 30);
                assert!(stage.market.report().peak_parallel <= parallel);
                stage.check().unwrap();
            });
        }
    }
}

#[test]
fn a_zero_does_not_wait_for_the_end_of_a_pass_where_one_request_goes_at_a_time() {
    for method in METHODS {
        on_a_jumping_clock(async {
            let mut stage = settled(
                Setup {
                    parallel: 1,
                    ..Setup::new(method)
                },
                10_000,
            )
            .await;
            let slow = FaultPlan::none().with(Fault::Slow, 1.0);
            stage
                .market
                .set_faults(slow.slow_by(Duration::from_secs(2)));
            let now = stage.now();
            stage.lanes[0].surveyor.hurry(now);
            stage.live(Duration::from_secs(9)).await;
            stage.say("sku-1", 0);
            stage.live(Duration::from_secs(5)).await;
            assert_eq!(stage.held("sku-1").map(|held| held.count), Some(0));
            let pages = stage.survey().pages;
            for n in 0..60 {
                stage.say("sku-2", n);
                stage.live(Duration::from_secs(1)).await;
            }
            assert!(
                stage.survey().pages > pages + 10,
                "the pass goes on beside the updates"
            );
        });
    }
}

#[test]
fn a_key_that_is_refused_keeps_nobody_from_reading_back_with_the_other() {
    for mode in [Mode::On, Mode::DryRun] {
        on_a_jumping_clock(async {
            let mut stage = settled(
                Setup {
                    mode,
                    ..Setup::new(Method::Campaign)
                },
                10,
            )
            .await;
            stage.market.revoke_key(KEYS[0]);
            let begun = Instant::now();
            stage.verify().await;
            assert!(begun.elapsed() < MINUTE, "{:?}", begun.elapsed());
        });
    }
}

#[test]
fn a_number_said_during_the_pass_is_not_taken_for_one_the_market_lost() {
    on_a_jumping_clock(async {
        let every = Some(Duration::from_mins(20));
        let mut stage = settled(
            Setup {
                verify_every: every,
                ..Setup::new(Method::Campaign)
            },
            40_000,
        )
        .await;
        while stage.survey().pages < 10 {
            stage.live(Duration::from_secs(1)).await;
        }
        // On a page that has been passed already.
        stage.say("a-new-one", 5);
        stage.live(Duration::from_secs(1)).await;
        stage.market.set_faults(
            FaultPlan::none()
                .with(Fault::Slow, 1.0)
                .slow_by(MINUTE / 12),
        );
        while stage.lanes[0].passes.is_empty() {
            stage.live(MINUTE).await;
        }
        assert_eq!(
            (stage.class("a-new-one"), stage.received("a-new-one")),
            (Some(Class::Pending), 1)
        );
        assert_eq!(stage.market.report().skus_received, 40_001);
    });
}

#[test]
fn an_acknowledgement_younger_than_the_doubt_is_kept() {
    on_a_jumping_clock(async {
        let mut stage = settled(Setup::new(Method::Campaign), 9_000).await;
        say_in_vain(&mut stage, "sku-0", 9).await;
        stage.live(SHOWN).await;
        let now = stage.now();
        stage.lanes[0].surveyor.hurry(now);
        while stage.survey().pages < 2 {
            stage.live(Duration::from_millis(50)).await;
        }
        // Judged already, and the pass goes on: the seller counts anew, and buyers take some.
        stage.say("sku-0", 8);
        stage.live(Duration::from_secs(1)).await;
        stage.market.order(CAMPAIGN, "sku-0", 3);
        let received = stage.received("sku-0");
        stage.live(MINUTE).await;
        assert_eq!(stage.survey().state, Progress::Done);
        assert_eq!(stage.received("sku-0"), received);
        assert_eq!(stage.market.available(CAMPAIGN, "sku-0"), Some(5));
    });
}

#[test]
fn what_was_seen_sixteen_passes_ago_is_not_taken_for_seen_now() {
    on_a_jumping_clock(async {
        let mut stage = settled(Setup::new(Method::Campaign), 10).await;
        stage.verify().await;
        // A key that may not read: every pass is given up.
        KEYS.iter().for_each(|key| stage.market.revoke_key(key));
        for _ in 0..15 {
            let now = stage.now();
            stage.lanes[0].surveyor.hurry(now);
            stage.live(Duration::from_hours(1)).await;
            assert_eq!(stage.survey().state, Progress::Failed);
        }
        KEYS.iter().for_each(|key| stage.market.restore_key(key));
        say_in_vain(&mut stage, "sku-new", 9).await;
        stage.live(SHOWN).await;
        stage.market.archive(CAMPAIGN, "sku-1");
        let expected = [(Class::Equal, 9), (Class::Archived, 1), (Class::Unknown, 1)];
        let classes = stage.verify().await;
        assert_eq!(classes, expected.map(|(class, n)| (class.name(), n)).into());
    });
}

#[test]
fn a_dry_run_sends_nothing_and_says_what_it_would_send() {
    for (method, warehouses, requests, minutes) in [
        (Method::Campaign, [7].as_slice(), 2, 1),
        (Method::Business, &[7], 2, 1),
        (Method::Business, &[7, 8], 3, 1),
    ] {
        on_a_jumping_clock(async {
            let mut stage = Setup {
                mode: Mode::DryRun,
                ..Setup::new(method)
            }
            .lanes(&[warehouses])
            .stage();
            for (sku, count) in stock(2_000) {
                stage.say(&sku, count);
            }
            stage.say("none-left", 0);
            let now = stage.clock.now();
            for campaign in warehouses.iter().copied().map(campaign_of) {
                stage.market.plant(campaign, "none-left", 4, now);
                for n in 0..30 {
                    let count = [1 + n % 7, 99, 0][usize::try_from(n).unwrap() / 10];
                    stage
                        .market
                        .plant(campaign, &format!("sku-{n}"), count, now);
                }
            }
            stage.live(SHOWN).await;
            stage.verify().await;
            assert_eq!(stage.market.report().requests, 0);
            let would = stage.survey().would_send.unwrap();
            assert_eq!((would.skus, would.unknown), (2_001, 2_001 - 31));
            let compared = (would.same, would.to_zero, would.lower, would.higher);
            assert_eq!(compared, (10, 1, 10, 10));
            assert_eq!((would.requests, would.minutes), (requests, minutes));
            assert!(!stage.has_drift_alarm());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// What the seller says, what buyers take and what the Market loses, in any order.
    #[test]
    fn what_the_market_loses_comes_back_and_what_buyers_take_stays_taken(
        events in prop::collection::vec((0usize..20, 0i64..5, 0u8..8, 0u64..1_500), 1..40),
        is_business in any::<bool>(),
    ) {
        on_a_jumping_clock(async {
            let method = METHODS[usize::from(is_business)];
            let mut stage = Setup::new(method).verified_every(Duration::from_mins(5)).stage();
            for (n, count, what, wait) in events {
                // A loss that buyers hide at once cannot be told from what they took: the ones
                // lose, of the others buyers take.
                let (sku, other) = (format!("sku-{}", n / 2), format!("sku-{}", 10 + n / 2));
                match what {
                    0 | 1 => stage.say(&other, count),
                    2 | 3 => stage.say(&sku, count),
                    4 => {
                        // What is dated a minute apart the Market can be told to have missed.
                        stage.live(Duration::from_secs(70)).await;
                        say_in_vain(&mut stage, &sku, count).await;
                    }
                    5 => {
                        stage.market.order(CAMPAIGN, &other, 1);
                    }
                    6 => {
                        stage.market.ship(CAMPAIGN, &other, 1);
                    }
                    _ => stage.restart(),
                }
                stage.live(Duration::from_secs(wait)).await;
            }
            stage.live(Duration::from_hours(1)).await;
            stage.check()?;
            let available = |n: usize| stage.market.available(CAMPAIGN, &format!("sku-{n}"));
            let before: Vec<_> = (0..20).map(available).collect();
            for n in 0..20 {
                stage.market.order(CAMPAIGN, &format!("sku-{n}"), 1);
            }
            let received = stage.market.report().skus_received;
            stage.live(Duration::from_hours(1)).await;
            prop_assert_eq!(stage.market.report().skus_received, received);
            let taken = before.iter().map(|count| count.map(|count| count.saturating_sub(1)));
            let available = |n: usize| stage.market.available(CAMPAIGN, &format!("sku-{n}"));
            prop_assert_eq!(taken.collect::<Vec<_>>(), (0..20).map(available).collect::<Vec<_>>());
            Ok(())
        })?;
    }
}

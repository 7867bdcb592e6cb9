//! Read-backs: classes of differences and the updates that are sent again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::TimeDelta;
use market_sim::{FaultPlan, MarketFault, SimCall};
use proptest::prelude::*;
use stockbridge::migrator::Mode;
use stockbridge::migrator::readback::{MatchClass, ReadbackProgress};
use tokio::time::Instant;

use super::simulation::{
    API_METHODS, ApiMethod, CAMPAIGN, KEYS, MigratorSimulation, SHOP, SimulationSetup, campaign_of,
    sample_stock, with_paused_clock,
};

const MINUTE: Duration = Duration::from_mins(1);

/// The Market shows what it took a quarter of an hour ago; a little more.
const VISIBILITY_DELAY: Duration = Duration::from_mins(16);

fn all_in_class(class: MatchClass, count: u64) -> BTreeMap<Cow<'static, str>, u64> {
    BTreeMap::from([(class.name().into(), count)])
}

/// A stage whose Market has taken these SKUs a good while ago.
async fn settled_simulation(setup: SimulationSetup, skus: usize) -> MigratorSimulation {
    let mut simulation = setup.build();
    for (sku, count) in sample_stock(skus) {
        simulation.set_stock(&sku, count);
    }
    simulation.advance(VISIBILITY_DELAY).await;
    simulation
}

/// The seller says this, and the Market acknowledges it and throws it away.
async fn set_stock_dropped(simulation: &mut MigratorSimulation, sku: &str, count: i64) {
    simulation
        .market
        .set_faults(FaultPlan::none().with_drop_rate(1.0));
    simulation.set_stock(sku, count);
    simulation.advance(Duration::from_secs(1)).await;
    simulation.market.clear_faults();
}

#[test]
fn resends_dropped_updates_until_equal() {
    for method in API_METHODS {
        with_paused_clock(async {
            let setup = SimulationSetup::new(method).with_readback_every(Duration::from_hours(1));
            let mut simulation = setup.build();
            simulation
                .market
                .set_faults(FaultPlan::seeded(1).with_drop_rate(0.01));
            for (n, (sku, count)) in (0..).zip(sample_stock(4_000)) {
                simulation.set_stock_dated(&sku, count, -TimeDelta::minutes(n % 1_380));
            }
            simulation.advance(Duration::from_mins(30)).await;
            for (sku, count) in sample_stock(2_000) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.advance(Duration::from_hours(4)).await;
            assert!(
                simulation.market.report().skus_dropped > 40,
                "{:?}",
                simulation.market.report()
            );
            simulation.check_converged().unwrap();
            assert_eq!(
                simulation.lanes[0].passes.last(),
                Some(&all_in_class(MatchClass::Equal, 4_000))
            );
        });
    }
}

#[test]
fn resends_a_dropped_count_despite_orders() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(ApiMethod::Campaign).build();
        simulation.set_stock("A", 5);
        simulation.advance(MINUTE).await;
        simulation.market.order(CAMPAIGN, "A", 2);
        simulation.advance(MINUTE * 2).await;
        set_stock_dropped(&mut simulation, "A", 5).await;
        simulation.advance(VISIBILITY_DELAY).await;
        simulation.readback().await;
        simulation.advance(MINUTE).await;
        assert_eq!(simulation.market.available(CAMPAIGN, "A"), Some(5));
    });
}

#[test]
fn a_dropped_number_with_an_old_date_is_sent_again() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(ApiMethod::Campaign).build();
        simulation.set_stock_dated("A", 3, -TimeDelta::days(9));
        simulation.advance(Duration::from_mins(5)).await;
        simulation
            .market
            .set_faults(FaultPlan::none().with_drop_rate(1.0));
        simulation.set_stock_dated("A", 5, -TimeDelta::days(8));
        simulation.advance(Duration::from_secs(1)).await;
        simulation.market.clear_faults();
        simulation.advance(VISIBILITY_DELAY).await;
        simulation.readback().await;
        simulation.advance(MINUTE).await;
        assert_eq!(simulation.market.available(CAMPAIGN, "A"), Some(5));
    });
}

#[test]
fn a_dropped_zero_is_sent_again_before_the_pass_ends() {
    with_paused_clock(async {
        let mut simulation =
            settled_simulation(SimulationSetup::new(ApiMethod::Campaign), 9_000).await;
        set_stock_dropped(&mut simulation, "sku-0", 0).await;
        simulation.advance(VISIBILITY_DELAY).await;
        let now = simulation.now();
        simulation.lanes[0].readback.request_pass(now);
        simulation.advance(Duration::from_secs(3)).await;
        assert_eq!(
            simulation.readback_report().state,
            ReadbackProgress::Running
        );
        assert_eq!(
            simulation.market_record("sku-0").map(|held| held.count),
            Some(0)
        );
    });
}

#[test]
fn orders_and_shipments_cause_no_resend() {
    for method in API_METHODS {
        with_paused_clock(async {
            let setup = SimulationSetup::new(method).with_readback_every(Duration::from_hours(1));
            let mut simulation = setup.build();
            simulation
                .market
                .set_faults(FaultPlan::seeded(5).with_order_rate(0.2));
            for (sku, count) in sample_stock(300) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.advance(VISIBILITY_DELAY).await;
            for n in 0..100 {
                let sku = format!("sku-{n}");
                simulation.market.order(CAMPAIGN, &sku, 1);
                if n % 2 == 0 {
                    simulation.market.ship(CAMPAIGN, &sku, 9);
                }
            }
            simulation.advance(Duration::from_hours(3)).await;
            assert_eq!(simulation.market.report().skus_received, 300);
            assert_eq!(simulation.class("sku-0"), Some(MatchClass::Explained));
            assert_eq!(simulation.class("sku-1"), Some(MatchClass::Explained));
            assert_eq!(
                simulation.readback_report().unexplained_skus(),
                0,
                "{:?}",
                simulation.readback_report()
            );
            assert!(simulation.readback_report().last_equal.is_some());
        });
    }
}

#[test]
fn stock_shown_late_is_pending() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut setup = SimulationSetup::new(method);
            setup.market.visibility_delay = Duration::from_mins(15);
            let mut simulation = settled_simulation(setup, 90).await;
            for (sku, count) in sample_stock(90) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.set_stock("new", 1);
            simulation.advance(Duration::from_secs(1)).await;
            assert_eq!(
                simulation.readback().await,
                all_in_class(MatchClass::Pending, 91)
            );
            let stated_at = Instant::now();
            // Asked before the time is over, answered after it.
            simulation.advance(Duration::from_secs(15 * 60 - 4)).await;
            simulation
                .market
                .set_faults(FaultPlan::none().with_fault(MarketFault::Slow, 1.0));
            assert_eq!(
                simulation.readback().await,
                all_in_class(MatchClass::Pending, 91)
            );
            assert!(stated_at.elapsed() > Duration::from_mins(15));
            simulation.market.clear_faults();
            simulation.advance(MINUTE).await;
            assert_eq!(
                simulation.readback().await,
                all_in_class(MatchClass::Equal, 91)
            );
            assert_eq!(simulation.market.report().skus_received, 181);
        });
    }
}

#[test]
fn short_pages_returns_and_reserves_are_not_drift() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut setup = SimulationSetup::new(method);
            setup.market.short_pages = true;
            setup.market.return_warehouse = Some(1);
            setup.market.reserved = 3;
            let mut simulation = settled_simulation(setup, 1_000).await;
            assert_eq!(
                simulation.readback().await,
                all_in_class(MatchClass::Equal, 1_000)
            );
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn retries_a_readback_after_an_invalid_response() {
    for method in API_METHODS {
        for fault in [
            MarketFault::ErrorInOk,
            MarketFault::HtmlInOk,
            MarketFault::EmptyOk,
            MarketFault::TruncatedResponse,
        ] {
            with_paused_clock(async {
                let mut simulation = settled_simulation(SimulationSetup::new(method), 500).await;
                let script = [None, Some(fault), Some(fault), None, Some(fault)];
                simulation.market.set_faults(FaultPlan::script(script));
                assert_eq!(
                    simulation.readback().await,
                    all_in_class(MatchClass::Equal, 500),
                    "{fault:?}"
                );
                assert_eq!(simulation.market.report().skus_received, 500);
            });
        }
    }
}

#[test]
fn an_invalid_response_acknowledges_nothing() {
    for method in API_METHODS {
        for fault in [
            MarketFault::ErrorInOk,
            MarketFault::HtmlInOk,
            MarketFault::EmptyOk,
        ] {
            with_paused_clock(async {
                let mut simulation = SimulationSetup::new(method).build();
                simulation.market.set_faults(
                    FaultPlan::none()
                        .with_fault(fault, 1.0)
                        .without_readback_faults(),
                );
                simulation.set_stock("A", 5);
                simulation.advance(VISIBILITY_DELAY).await;
                assert_eq!(
                    simulation
                        .data
                        .ledger
                        .get(SHOP, simulation.id(0, "A"))
                        .level(),
                    None
                );
                assert_eq!(
                    simulation.readback().await,
                    all_in_class(MatchClass::Unsent, 1),
                    "{fault:?}"
                );
                simulation.market.clear_faults();
                simulation.advance(VISIBILITY_DELAY).await;
                assert_eq!(
                    simulation.readback().await,
                    all_in_class(MatchClass::Equal, 1),
                    "{fault:?}"
                );
                simulation.check_converged().unwrap();
            });
        }
    }
}

#[test]
fn a_pass_during_faults_ends_with_the_right_result() {
    for (method, seed) in API_METHODS.into_iter().zip(40..) {
        with_paused_clock(async {
            let setup = SimulationSetup::new(method).with_readback_every(Duration::from_hours(1));
            let mut simulation = settled_simulation(setup, 1_500).await;
            simulation
                .market
                .set_faults(FaultPlan::all_faults(seed, 0.6));
            simulation.advance(Duration::from_hours(2)).await;
            simulation
                .market
                .set_faults(FaultPlan::all_faults(seed, 0.6).with_drop_rate(0.05));
            for (sku, count) in sample_stock(1_500) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.advance(Duration::from_hours(2)).await;
            simulation.market.clear_faults();
            simulation.advance(Duration::from_hours(3)).await;
            assert_eq!(
                simulation.lanes[0].passes.last(),
                Some(&all_in_class(MatchClass::Equal, 1_500))
            );
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn resends_skus_missing_in_the_catalogue_once() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut setup = SimulationSetup::new(method);
            let catalogue: HashSet<String> =
                sample_stock(50).into_iter().map(|(sku, _)| sku).collect();
            setup.market.catalogue = Some(catalogue);
            let mut simulation = settled_simulation(setup, 60).await;
            // Several passes, within the Market's delay and after it.
            for wait in [0, 1, 1, 16, 1, 16, 16, 60] {
                simulation.advance(MINUTE * wait).await;
                simulation.readback().await;
            }
            assert_eq!(
                simulation.readback_report().classes.get("unknown"),
                Some(&10),
                "{:?}",
                simulation.readback_report()
            );
            assert_eq!(simulation.market.report().skus_received, 60 + 10);
            assert!(!simulation.has_drift_alarm());
        });
    }
}

#[test]
fn resends_a_twice_dropped_update_after_a_day() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut setup =
                SimulationSetup::new(method).with_readback_every(Duration::from_hours(2));
            setup.market.catalogue = None;
            let mut simulation = settled_simulation(setup, 10).await;
            simulation
                .market
                .set_faults(FaultPlan::none().with_drop_rate(1.0));
            simulation.set_stock("new", 7);
            simulation.advance(Duration::from_hours(5)).await;
            assert_eq!(simulation.market.report().skus_received, 10 + 2);
            simulation.market.clear_faults();
            simulation.advance(Duration::from_hours(27)).await;
            assert_eq!(
                simulation.market_record("new").map(|held| held.count),
                Some(7)
            );
            assert_eq!(simulation.market.report().skus_received, 10 + 3);
        });
    }
}

#[test]
fn a_lost_response_advances_the_next_readback() {
    with_paused_clock(async {
        let setup =
            SimulationSetup::new(ApiMethod::Campaign).with_readback_every(Duration::from_hours(6));
        let mut simulation = settled_simulation(setup, 10).await;
        simulation.advance(Duration::from_mins(20)).await;
        let passes = simulation.lanes[0].passes.len();
        simulation
            .market
            .set_faults(FaultPlan::script([Some(MarketFault::Hang)]));
        simulation.set_stock("sku-1", 0);
        simulation.advance(Duration::from_mins(20)).await;
        assert_eq!(simulation.lanes[0].passes.len(), passes + 1);
        // Not at each of them.
        simulation
            .market
            .set_faults(FaultPlan::script([Some(MarketFault::Hang)]));
        simulation.set_stock("sku-1", 3);
        simulation.advance(Duration::from_mins(20)).await;
        assert_eq!(simulation.lanes[0].passes.len(), passes + 1);
    });
}

#[test]
fn a_working_readback_ends_a_campaign_pause() {
    with_paused_clock(async {
        let mut setup = SimulationSetup::new(ApiMethod::Campaign);
        setup.verify_every = Some(Duration::from_mins(5));
        let mut simulation = settled_simulation(setup, 10).await;
        let until = simulation.clock.now() + TimeDelta::seconds(50);
        simulation
            .market
            .set_faults(FaultPlan::none().locked_until(until));
        simulation.set_stock("sku-1", 0);
        simulation.advance(Duration::from_mins(20)).await;
        assert_eq!(
            simulation.market_record("sku-1").map(|held| held.count),
            Some(0)
        );
    });
}

#[test]
fn archived_and_foreign_offers_have_own_classes() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = settled_simulation(SimulationSetup::new(method), 10).await;
            simulation.market.archive(CAMPAIGN, "sku-3");
            simulation
                .market
                .seed_stock(CAMPAIGN, "theirs", 4, simulation.clock.now());
            let classes = simulation.readback().await;
            let expected = [
                (MatchClass::Equal, 9),
                (MatchClass::Archived, 1),
                (MatchClass::NotOurs, 1),
            ];
            assert_eq!(
                classes,
                expected.map(|(class, n)| (class.name().into(), n)).into()
            );
            simulation.advance(MINUTE).await;
            assert_eq!(simulation.market.report().skus_received, 10);
        });
    }
}

#[test]
fn resends_drift_after_a_new_statement_only() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = settled_simulation(SimulationSetup::new(method), 10).await;
            simulation
                .market
                .seed_stock(CAMPAIGN, "sku-3", 90, simulation.clock.now());
            for _ in 0..3 {
                simulation.advance(Duration::from_mins(30)).await;
                assert_eq!(simulation.readback().await.get("drifted"), Some(&1));
                assert!(simulation.has_drift_alarm());
            }
            assert_eq!(
                simulation.market_record("sku-3").map(|held| held.count),
                Some(90)
            );
            simulation.restate(0, "sku-3");
            assert_eq!(simulation.readback().await.get("drifted"), Some(&1));
            assert_eq!(simulation.readback_report().resent, 1);
            simulation.advance(VISIBILITY_DELAY).await;
            assert_eq!(
                simulation.readback().await,
                all_in_class(MatchClass::Equal, 10)
            );
            assert!(!simulation.has_drift_alarm());
            assert_eq!(simulation.market.report().skus_received, 11);
            // The planted stock has a later date. Ours is still what the seller stated.
            assert_eq!(
                simulation.market_record("sku-3").map(|held| held.count),
                Some(4)
            );
        });
    }
}

#[test]
fn of_several_warehouses_the_worst_counts() {
    with_paused_clock(async {
        let mut simulation = settled_simulation(
            SimulationSetup::new(ApiMethod::Business).lanes(&[&[7, 8]]),
            10,
        )
        .await;
        simulation.market.order(campaign_of(7), "sku-3", 1);
        simulation
            .market
            .seed_stock(campaign_of(8), "sku-5", 90, simulation.clock.now());
        simulation.advance(MINUTE).await;
        let classes = simulation.readback().await;
        let expected = [
            (MatchClass::Equal, 8),
            (MatchClass::Explained, 1),
            (MatchClass::Drifted, 1),
        ];
        assert_eq!(
            classes,
            expected.map(|(class, n)| (class.name().into(), n)).into()
        );
        assert_eq!(
            simulation.market.report().skus_received,
            20,
            "two items each"
        );
        simulation.advance(Duration::from_hours(1)).await;
        simulation.restate(0, "sku-5");
        simulation.readback().await;
        assert_eq!(simulation.readback_report().resent, 1);
    });
}

#[test]
fn a_requested_pass_uses_half_of_the_limit() {
    for (method, skus, pages) in [
        (ApiMethod::Campaign, 14_000, 100),
        (ApiMethod::Business, 14_000, 50),
    ] {
        with_paused_clock(async {
            let setup = SimulationSetup::new(method).with_readback_every(Duration::from_mins(20));
            let mut simulation = settled_simulation(setup, skus).await;
            simulation.advance(Duration::from_secs(74)).await;
            let scheduled = max_readbacks_per_minute(&simulation);
            assert!(
                scheduled <= pages && scheduled >= pages - 1,
                "{scheduled} looks in a minute"
            );
            while simulation.lanes[0].passes.is_empty() {
                simulation.advance(MINUTE).await;
            }
            simulation.advance(MINUTE).await;
            simulation.readback().await;
            let requested = max_readbacks_per_minute(&simulation);
            assert!(
                requested <= pages * 5 && requested > pages,
                "{requested} looks in a minute"
            );
            simulation.check_converged().unwrap();
        });
    }
}

fn max_readbacks_per_minute(simulation: &MigratorSimulation) -> usize {
    let requests = simulation.market.requests();
    let readbacks: Vec<_> = requests
        .iter()
        .filter(|r| r.call == SimCall::Readback)
        .map(|r| r.arrived_at)
        .collect();
    let minute = TimeDelta::minutes(1);
    let in_minute = |from| {
        readbacks
            .iter()
            .filter(|at| **at >= from && **at < from + minute)
            .count()
    };
    readbacks
        .iter()
        .map(|from| in_minute(*from))
        .max()
        .unwrap_or(0)
}

#[test]
fn a_readback_is_one_of_the_requests_at_a_time() {
    for method in API_METHODS {
        for parallel in [1, 4] {
            with_paused_clock(async {
                let mut simulation = settled_simulation(
                    SimulationSetup {
                        parallel,
                        ..SimulationSetup::new(method)
                    },
                    3_000,
                )
                .await;
                let slow = FaultPlan::none().with_fault(MarketFault::Slow, 1.0);
                simulation
                    .market
                    .set_faults(slow.with_slow_delay(Duration::from_millis(700)));
                let now = simulation.now();
                simulation.lanes[0].readback.request_pass(now);
                for round in 0..5 {
                    sample_stock(6_000)
                        .into_iter()
                        .for_each(|(sku, n)| simulation.set_stock(&sku, n + round));
                    simulation.advance(Duration::from_secs(1)).await;
                }
                simulation.advance(Duration::from_mins(30)).await;
                assert!(simulation.market.report().readbacks >= 30);
                assert!(simulation.market.report().peak_parallel <= parallel);
                simulation.check_converged().unwrap();
            });
        }
    }
}

#[test]
fn a_zero_interrupts_a_pass_with_one_request() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = settled_simulation(
                SimulationSetup {
                    parallel: 1,
                    ..SimulationSetup::new(method)
                },
                10_000,
            )
            .await;
            let slow = FaultPlan::none().with_fault(MarketFault::Slow, 1.0);
            simulation
                .market
                .set_faults(slow.with_slow_delay(Duration::from_secs(2)));
            let now = simulation.now();
            simulation.lanes[0].readback.request_pass(now);
            simulation.advance(Duration::from_secs(9)).await;
            simulation.set_stock("sku-1", 0);
            simulation.advance(Duration::from_secs(5)).await;
            assert_eq!(
                simulation.market_record("sku-1").map(|held| held.count),
                Some(0)
            );
            let pages = simulation.readback_report().pages;
            for n in 0..60 {
                simulation.set_stock("sku-2", n);
                simulation.advance(Duration::from_secs(1)).await;
            }
            assert!(
                simulation.readback_report().pages > pages + 10,
                "the pass goes on beside the updates"
            );
        });
    }
}

#[test]
fn reads_back_with_the_second_key() {
    for mode in [Mode::On, Mode::DryRun] {
        with_paused_clock(async {
            let mut simulation = settled_simulation(
                SimulationSetup {
                    mode,
                    ..SimulationSetup::new(ApiMethod::Campaign)
                },
                10,
            )
            .await;
            simulation.market.revoke_key(KEYS[0]);
            let started = Instant::now();
            simulation.readback().await;
            assert!(started.elapsed() < MINUTE, "{:?}", started.elapsed());
        });
    }
}

#[test]
fn an_update_during_a_pass_is_not_a_lost_one() {
    with_paused_clock(async {
        let every = Some(Duration::from_mins(20));
        let mut simulation = settled_simulation(
            SimulationSetup {
                verify_every: every,
                ..SimulationSetup::new(ApiMethod::Campaign)
            },
            40_000,
        )
        .await;
        while simulation.readback_report().pages < 10 {
            simulation.advance(Duration::from_secs(1)).await;
        }
        // On a page that has been passed already.
        simulation.set_stock("a-new-one", 5);
        simulation.advance(Duration::from_secs(1)).await;
        simulation.market.set_faults(
            FaultPlan::none()
                .with_fault(MarketFault::Slow, 1.0)
                .with_slow_delay(MINUTE / 12),
        );
        while simulation.lanes[0].passes.is_empty() {
            simulation.advance(MINUTE).await;
        }
        assert_eq!(
            (
                simulation.class("a-new-one"),
                simulation.received("a-new-one")
            ),
            (Some(MatchClass::Pending), 1)
        );
        assert_eq!(simulation.market.report().skus_received, 40_001);
    });
}

#[test]
fn an_acknowledgement_younger_than_the_doubt_is_kept() {
    with_paused_clock(async {
        let mut simulation =
            settled_simulation(SimulationSetup::new(ApiMethod::Campaign), 9_000).await;
        set_stock_dropped(&mut simulation, "sku-0", 9).await;
        simulation.advance(VISIBILITY_DELAY).await;
        let now = simulation.now();
        simulation.lanes[0].readback.request_pass(now);
        while simulation.readback_report().pages < 2 {
            simulation.advance(Duration::from_millis(50)).await;
        }
        // The SKU is already classified while the pass continues: the seller states it again, and buyers
        // order some.
        simulation.set_stock("sku-0", 8);
        simulation.advance(Duration::from_secs(1)).await;
        simulation.market.order(CAMPAIGN, "sku-0", 3);
        let received = simulation.received("sku-0");
        simulation.advance(MINUTE).await;
        assert_eq!(simulation.readback_report().state, ReadbackProgress::Done);
        assert_eq!(simulation.received("sku-0"), received);
        assert_eq!(simulation.market.available(CAMPAIGN, "sku-0"), Some(5));
    });
}

#[test]
fn an_observation_expires_after_sixteen_passes() {
    with_paused_clock(async {
        let mut simulation =
            settled_simulation(SimulationSetup::new(ApiMethod::Campaign), 10).await;
        simulation.readback().await;
        // A key that may not read: every pass is given up.
        KEYS.iter()
            .for_each(|key| simulation.market.revoke_key(key));
        for _ in 0..15 {
            let now = simulation.now();
            simulation.lanes[0].readback.request_pass(now);
            simulation.advance(Duration::from_hours(1)).await;
            assert_eq!(simulation.readback_report().state, ReadbackProgress::Failed);
        }
        KEYS.iter()
            .for_each(|key| simulation.market.restore_key(key));
        set_stock_dropped(&mut simulation, "sku-new", 9).await;
        simulation.advance(VISIBILITY_DELAY).await;
        simulation.market.archive(CAMPAIGN, "sku-1");
        let expected = [
            (MatchClass::Equal, 9),
            (MatchClass::Archived, 1),
            (MatchClass::Unknown, 1),
        ];
        let classes = simulation.readback().await;
        assert_eq!(
            classes,
            expected.map(|(class, n)| (class.name().into(), n)).into()
        );
    });
}

#[test]
fn a_dry_run_reports_what_it_would_send() {
    for (method, warehouses, requests, minutes) in [
        (ApiMethod::Campaign, [7].as_slice(), 2, 1),
        (ApiMethod::Business, &[7], 2, 1),
        (ApiMethod::Business, &[7, 8], 3, 1),
    ] {
        with_paused_clock(async {
            let mut simulation = SimulationSetup {
                mode: Mode::DryRun,
                ..SimulationSetup::new(method)
            }
            .lanes(&[warehouses])
            .build();
            for (sku, count) in sample_stock(2_000) {
                simulation.set_stock(&sku, count);
            }
            simulation.set_stock("none-left", 0);
            let now = simulation.clock.now();
            for campaign in warehouses.iter().copied().map(campaign_of) {
                simulation.market.seed_stock(campaign, "none-left", 4, now);
                for n in 0..30 {
                    let count = [1 + n % 7, 99, 0][usize::try_from(n).unwrap() / 10];
                    simulation
                        .market
                        .seed_stock(campaign, &format!("sku-{n}"), count, now);
                }
            }
            simulation.advance(VISIBILITY_DELAY).await;
            simulation.readback().await;
            assert_eq!(simulation.market.report().updates, 0);
            let would_send = simulation.readback_report().would_send.unwrap();
            assert_eq!((would_send.skus, would_send.unknown), (2_001, 2_001 - 31));
            let compared = (
                would_send.same,
                would_send.to_zero,
                would_send.lower,
                would_send.higher,
            );
            assert_eq!(compared, (10, 1, 10, 10));
            assert_eq!(
                (would_send.requests, would_send.minutes),
                (requests, minutes)
            );
            assert!(!simulation.has_drift_alarm());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Updates, orders and lost updates in any order.
    #[test]
    fn restores_losses_and_keeps_sales(
        events in prop::collection::vec((0usize..20, 0i64..5, 0u8..8, 0u64..1_500), 1..40),
        is_business in any::<bool>(),
    ) {
        with_paused_clock(async {
            let method = API_METHODS[usize::from(is_business)];
            let mut simulation = SimulationSetup::new(method).with_readback_every(Duration::from_mins(5)).build();
            for (n, count, what, wait) in events {
                // A loss that orders hide at once looks like an order. So some SKUs get losses, the others orders.
                let (sku, other) = (format!("sku-{}", n / 2), format!("sku-{}", 10 + n / 2));
                match what {
                    0 | 1 => simulation.set_stock(&other, count),
                    2 | 3 => simulation.set_stock(&sku, count),
                    4 => {
                        // Updates with dates a minute apart are recognised as missed by the Market.
                        simulation.advance(Duration::from_secs(70)).await;
                        set_stock_dropped(&mut simulation, &sku, count).await;
                    }
                    5 => {
                        simulation.market.order(CAMPAIGN, &other, 1);
                    }
                    6 => {
                        simulation.market.ship(CAMPAIGN, &other, 1);
                    }
                    _ => simulation.restart(),
                }
                simulation.advance(Duration::from_secs(wait)).await;
            }
            simulation.advance(Duration::from_hours(1)).await;
            simulation.check_converged()?;
            let available = |n: usize| simulation.market.available(CAMPAIGN, &format!("sku-{n}"));
            let before: Vec<_> = (0..20).map(available).collect();
            for n in 0..20 {
                simulation.market.order(CAMPAIGN, &format!("sku-{n}"), 1);
            }
            let received = simulation.market.report().skus_received;
            simulation.advance(Duration::from_hours(1)).await;
            prop_assert_eq!(simulation.market.report().skus_received, received);
            let taken = before.iter().map(|count| count.map(|count| count.saturating_sub(1)));
            let available = |n: usize| simulation.market.available(CAMPAIGN, &format!("sku-{n}"));
            prop_assert_eq!(taken.collect::<Vec<_>>(), (0..20).map(available).collect::<Vec<_>>());
            Ok(())
        })?;
    }
}

//! The daily refresh: stock that the seller goes on stating is sent again although it is unchanged.

use std::time::Duration;

use chrono::TimeDelta;
use market_sim::{FaultPlan, RequestOutcome, SimCall};
use stockbridge::migrator::readback::MatchClass;

use super::simulation::{
    API_METHODS, CAMPAIGN, MigratorSimulation, SimulationSetup, sample_stock, with_paused_clock,
};

const HOUR: Duration = Duration::from_hours(1);

fn skus_received(simulation: &MigratorSimulation) -> u64 {
    simulation.market.report().skus_received
}

#[test]
fn a_new_statement_is_refreshed_within_a_day() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method).build();
            // Of all ages: an hour, some, days.
            for (n, (sku, count)) in (0..).zip(sample_stock(3_000)) {
                simulation.set_stock_dated(&sku, count, -TimeDelta::hours(n % 60));
            }
            simulation.advance(HOUR * 2).await;
            assert_eq!(skus_received(&simulation), 3_000);
            for n in 0..2_000 {
                simulation.restate(0, &format!("sku-{n}"));
            }
            simulation.advance(HOUR * 9).await;
            assert_eq!(skus_received(&simulation), 3_000, "sooner than asked for");
            let mut before = skus_received(&simulation);
            for hour in 11..24 {
                simulation.advance(HOUR).await;
                let again = skus_received(&simulation) - before;
                assert!(again <= 2_000 / 9, "{again} in hour {hour}");
                before = skus_received(&simulation);
            }
            assert_eq!(skus_received(&simulation), 5_000);
            for n in 0..3_000 {
                let again = u32::from(n < 2_000);
                assert_eq!(
                    simulation.received(&format!("sku-{n}")),
                    1 + again,
                    "sku-{n}"
                );
            }
            // They were not stated again since.
            simulation.advance(HOUR * 24).await;
            assert_eq!(skus_received(&simulation), 5_000);
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn hourly_statements_are_refreshed_daily() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(API_METHODS[0]).build();
        for (sku, count) in sample_stock(100) {
            simulation.set_stock(&sku, count);
        }
        for _ in 0..72 {
            simulation.advance(HOUR).await;
            (0..100).for_each(|n| simulation.restate(0, &format!("sku-{n}")));
        }
        for n in 0..100 {
            let received = simulation.received(&format!("sku-{n}"));
            assert!(
                (4..=6).contains(&received),
                "sku-{n} in three days {received} times"
            );
        }
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_change_overtakes_what_is_due_again() {
    with_paused_clock(async {
        let mut setup = SimulationSetup::new(API_METHODS[0]);
        // So low that what is due again waits for minutes.
        setup.limit_share = 0.0001;
        setup.market.skus_per_minute = 10;
        let mut simulation = setup.build();
        for (sku, count) in sample_stock(200) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(HOUR * 2).await;
        (0..200).for_each(|n| simulation.restate(0, &format!("sku-{n}")));
        // Nothing can be sent until all are due.
        simulation.market.set_faults(
            FaultPlan::none().locked_until(simulation.clock.now() + TimeDelta::hours(24)),
        );
        simulation.advance(HOUR * 23).await;
        simulation.set_stock("sku-150", 0);
        simulation.set_stock("sku-151", 9);
        let known = skus_received(&simulation);
        while skus_received(&simulation) == known {
            simulation.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(
            simulation.market_record("sku-150").map(|held| held.count),
            Some(0)
        );
        simulation.advance(HOUR).await;
        simulation.check_converged().unwrap();
        assert_eq!(
            (
                simulation.received("sku-150"),
                simulation.received("sku-151")
            ),
            (2, 2)
        );
    });
}

#[test]
fn a_refresh_needs_a_statement_after_the_sale() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method)
                .with_readback_every(HOUR)
                .build();
            for (sku, count) in sample_stock(20) {
                simulation.set_stock(&sku, count + 5);
            }
            simulation.advance(HOUR).await;
            for n in 0..20 {
                simulation.market.order(CAMPAIGN, &format!("sku-{n}"), 1);
            }
            simulation.advance(HOUR).await;
            (0..10).for_each(|n| simulation.restate(0, &format!("sku-{n}")));
            simulation.advance(HOUR * 30).await;
            let available = |n: usize| simulation.market.available(CAMPAIGN, &format!("sku-{n}"));
            for (n, (_, count)) in sample_stock(20).into_iter().enumerate() {
                let count = u32::try_from(count + 5).unwrap();
                let taken = u32::from(n >= 10);
                assert_eq!(available(n), Some(count - taken), "sku-{n}");
            }
            assert_eq!(simulation.class("sku-15"), Some(MatchClass::Explained));
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn a_refresh_never_sends_older_stock() {
    for (method, seed) in API_METHODS.into_iter().zip(7..) {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method)
                .with_readback_every(HOUR * 3)
                .build();
            for (n, (sku, count)) in (0..).zip(sample_stock(500)) {
                simulation.set_stock_dated(&sku, count, TimeDelta::minutes(4 - 10 * n));
            }
            simulation
                .market
                .set_faults(FaultPlan::all_faults(seed, 0.5));
            for hour in 0..60 {
                simulation.advance(HOUR).await;
                (0..500)
                    .step_by(3)
                    .for_each(|n| simulation.restate(0, &format!("sku-{n}")));
                if hour % 7 == 0 {
                    simulation.restart();
                }
            }
            simulation.market.clear_faults();
            simulation.advance(HOUR).await;
            simulation.check_converged().unwrap();
            let updates = simulation.market.requests().into_iter();
            let taken = updates
                .filter(|r| r.call == SimCall::Update && r.outcome == RequestOutcome::Accepted);
            assert!(
                taken.map(|r| r.skus).sum::<usize>() > 900,
                "it was sent again"
            );
        });
    }
}

//! Clocks that differ, are set, and responses that are slow: dates never go backwards.

use std::time::Duration;

use chrono::TimeDelta;
use lifecycle::Clock;
use stockbridge::migrator::readback::MatchClass;

use super::simulation::{
    API_METHODS, ApiMethod, SHOP, SimulationSetup, sample_stock, with_paused_clock,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_slow_body_does_not_change_dates_of_other_skus() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method).build();
            for (n, body) in [20, 3, 0, 40, 9].into_iter().enumerate() {
                let count = i64::try_from(n).unwrap();
                simulation.set_body_delay(Duration::from_secs(body));
                simulation.set_stock("slow", count);
                simulation.advance(SECOND).await;
                simulation.set_body_delay(Duration::ZERO);
                // Up to the end of the body, at it, and after it.
                for step in 0..50 {
                    simulation.set_stock("quick", 100 * count + step);
                    simulation.advance(SECOND).await;
                }
            }
            simulation.advance(Duration::from_mins(2)).await;
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn a_clock_set_back_sends_no_earlier_dates() {
    for method in API_METHODS {
        for back in [TimeDelta::seconds(30), TimeDelta::hours(2)] {
            for is_restarted in [false, true] {
                with_paused_clock(check_clock_set_back(method, back, is_restarted));
            }
        }
    }
}

async fn check_clock_set_back(method: ApiMethod, back: TimeDelta, is_restarted: bool) {
    let mut simulation = SimulationSetup::new(method).build();
    for (sku, count) in sample_stock(100) {
        simulation.set_stock(&sku, count);
    }
    simulation.advance(Duration::from_secs(5)).await;
    simulation.set_clock(-back);
    if is_restarted {
        simulation.restart();
    }
    for round in 1..4 {
        for (sku, count) in sample_stock(100) {
            // An update without a date is newer than all known ones, also if our clock is wrong.
            simulation.set_stock_dated(&sku, count + round, back + TimeDelta::seconds(10));
        }
        simulation.advance(Duration::from_secs(3)).await;
    }
    simulation.advance(Duration::from_mins(1)).await;
    simulation.check_converged().unwrap();
    assert!(simulation.lanes[0].store.quarantined.is_empty());
}

#[test]
fn a_fast_clock_costs_one_request_and_no_quarantine() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut setup = SimulationSetup::new(method);
            setup.clock = Clock::starting_at(setup.clock.now() + TimeDelta::minutes(20));
            let mut simulation = setup.build();
            for (sku, count) in sample_stock(500) {
                simulation.set_stock(&sku, count);
            }
            simulation.advance(Duration::from_secs(10)).await;
            assert_eq!(simulation.lanes[0].store.acked.len(), 500);
            assert_eq!(
                simulation.market.report().updates,
                2,
                "{:?}",
                simulation.market.report()
            );
            assert!(simulation.lanes[0].store.quarantined.is_empty());
            // Known from then on, and after a restart found out again.
            simulation.restart();
            for (sku, count) in sample_stock(500) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.advance(Duration::from_secs(10)).await;
            assert_eq!(
                simulation.market.report().updates,
                4,
                "{:?}",
                simulation.market.report()
            );
            assert!(simulation.lanes[0].store.quarantined.is_empty());
            for (sku, count) in sample_stock(500) {
                let record = simulation
                    .market
                    .get(super::simulation::CAMPAIGN, &sku)
                    .unwrap();
                assert_eq!(i64::from(record.count), count + 1, "{sku}");
            }
        });
    }
}

#[test]
fn a_slow_response_does_not_hide_a_lost_update() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(ApiMethod::Campaign).build();
        simulation.set_stock("A", 5);
        simulation.advance(Duration::from_secs(20)).await;
        simulation
            .market
            .set_faults(market_sim::FaultPlan::none().with_drop_rate(1.0));
        simulation.set_stock("A", 3);
        simulation.advance(SECOND).await;
        simulation.market.clear_faults();
        simulation.set_response_delay(Duration::from_secs(40));
        simulation.set_stock("B", 1);
        simulation.advance(Duration::from_mins(16)).await;
        simulation.set_response_delay(Duration::ZERO);
        simulation.readback().await;
        simulation.advance(SECOND).await;
        assert_eq!(
            simulation.market_record("A").map(|held| held.count),
            Some(3)
        );
        assert!(
            simulation
                .data
                .ledger
                .get(SHOP, simulation.id(0, "A"))
                .level()
                .is_some()
        );
        simulation.advance(Duration::from_mins(16)).await;
        let classes = simulation.readback().await;
        assert_eq!(classes, [(MatchClass::Equal.name().into(), 2)].into());
    });
}

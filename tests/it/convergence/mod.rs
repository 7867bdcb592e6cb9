//! The promise of the product: after any order of updates, faults and restarts, once the faults
//! stop, the Market's stock equals the book, no rate limit was exceeded, and no zero was invented.
//!
//! The planner runs against the Market simulator without sockets and on a paused clock, so hours
//! pass in milliseconds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use market_sim::{FaultPlan, MarketFault};
use proptest::prelude::*;
use stock::Sku;
use stockbridge::migrator::WorkerState;
use tokio::time::Instant;

mod account;
mod clock;
mod readback;
mod refresh;
mod simulation;

use simulation::{
    ApiMethod, CAMPAIGN, KEYS, MigratorSimulation, SimulationSetup, sample_stock, with_paused_clock,
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum SimulationEvent {
    /// SKUs with counts, and by how many minutes their dates are ahead of the clock.
    SetStock(Vec<(usize, i64, i64)>),
    Advance(u64),
    Restart,
    StartFaults(u64),
    StopFaults,
    RevokeKey,
}

/// Mostly now; at times from the day before yesterday, or from a clock that runs ahead.
fn minutes_ahead() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0i64), 1 => Just(-2 * 24 * 60), 1 => Just(4)]
}

fn event() -> impl Strategy<Value = SimulationEvent> {
    prop_oneof![
        6 => prop::collection::vec((0usize..60, 0i64..5, minutes_ahead()), 1..40).prop_map(SimulationEvent::SetStock),
        4 => (0u64..40).prop_map(SimulationEvent::Advance),
        1 => Just(SimulationEvent::Restart),
        2 => any::<u64>().prop_map(SimulationEvent::StartFaults),
        1 => Just(SimulationEvent::StopFaults),
        1 => Just(SimulationEvent::RevokeKey),
    ]
}

/// By either method, with one warehouse or several, with one shop or two of a cabinet.
fn setup() -> impl Strategy<Value = (ApiMethod, Vec<Vec<u64>>)> {
    prop_oneof![
        2 => Just((ApiMethod::Campaign, vec![vec![7]])),
        1 => Just((ApiMethod::Business, vec![vec![7]])),
        1 => Just((ApiMethod::Business, vec![vec![7, 8]])),
        2 => Just((ApiMethod::Business, vec![vec![7, 8], vec![9]])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn once_the_faults_stop_the_market_equals_the_book(
        events in prop::collection::vec(event(), 1..30),
        named in any::<bool>(),
        rejected in prop::collection::hash_set(0usize..60, 0..4),
        (method, lanes) in setup(),
        parallel in 1usize..=4,
    ) {
        with_paused_clock(async {
            let rejected_skus: Vec<String> = rejected.into_iter().map(|n| format!("sku-{n}")).collect();
            let with_rejected = |plan: FaultPlan| plan.with_rejected_skus(rejected_skus.clone(), named);
            let mut simulation = SimulationSetup { lanes, parallel, ..SimulationSetup::new(method) }
                .with_readback_every(Duration::from_mins(3))
                .build();
            simulation.market.set_faults(with_rejected(FaultPlan::none()));
            for event in events {
                match event {
                    SimulationEvent::SetStock(rows) => {
                        for (n, count, ahead) in rows {
                            let ahead = TimeDelta::minutes(ahead);
                            let lane = n % simulation.lanes.len();
                            simulation.set_stock_in(lane, &format!("sku-{n}"), count, ahead);
                        }
                        simulation.advance(Duration::from_millis(1)).await;
                    }
                    SimulationEvent::Advance(seconds) => simulation.advance(Duration::from_secs(seconds)).await,
                    SimulationEvent::Restart => simulation.restart(),
                    SimulationEvent::StartFaults(seed) => {
                        simulation.market.set_faults(with_rejected(FaultPlan::all_faults(seed, 0.5)));
                    }
                    SimulationEvent::StopFaults => simulation.market.set_faults(with_rejected(FaultPlan::none())),
                    SimulationEvent::RevokeKey => simulation.market.revoke_key(KEYS[0]),
                }
            }
            simulation.market.set_faults(with_rejected(FaultPlan::none()));
            simulation.advance(Duration::from_secs(3600)).await;
            simulation.check_converged()?;
            for lane in &simulation.lanes {
                for sku in lane.store.quarantined.keys() {
                    let is_poison = rejected_skus.iter().any(|poison| poison == sku.as_str());
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
fn uses_the_whole_rate_limit_across_restarts() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        for (sku, count) in sample_stock(25_000) {
            simulation.set_stock(&sku, count);
        }
        let started = Instant::now();
        for _ in 0..5 {
            simulation.advance(Duration::from_secs(7)).await;
            simulation.restart();
        }
        while simulation.market.len(CAMPAIGN) < 25_000 {
            simulation.advance(Duration::from_secs(1)).await;
            assert!(
                started.elapsed() < Duration::from_mins(6),
                "{}",
                simulation.market.len(CAMPAIGN)
            );
        }
        simulation.advance(Duration::from_secs(1)).await;
        simulation.check_converged().unwrap();
        assert!(
            simulation.market.report().updates <= 13 + 10,
            "{:?}",
            simulation.market.report()
        );
    });
}

#[test]
fn a_backlog_goes_in_the_time_the_limit_allows() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        for (sku, count) in sample_stock(30_000) {
            simulation.set_stock(&sku, count);
        }
        let started = Instant::now();
        while simulation.market.len(CAMPAIGN) < 30_000 {
            simulation.advance(Duration::from_secs(1)).await;
        }
        // Three minutes' worth: the first at once, the last two minutes later.
        assert!(
            started.elapsed() <= Duration::from_secs(122),
            "{:?}",
            started.elapsed()
        );
        let report = simulation.market.report();
        assert_eq!((report.updates, report.rejected.len()), (15, 0));
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_rejected_sku_does_not_stop_the_others() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        let rejected_sku = "sku-1234".to_owned();
        simulation
            .market
            .set_faults(FaultPlan::none().with_rejected_skus([rejected_sku.clone()], false));
        for (sku, count) in sample_stock(2_000) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(Duration::from_secs(5)).await;
        assert_eq!(
            simulation.lanes[0]
                .store
                .quarantined
                .keys()
                .map(Sku::as_str)
                .collect::<Vec<_>>(),
            [rejected_sku]
        );
        let requests = simulation.market.report().updates;
        assert!(
            requests <= 24,
            "{requests} requests for one poison SKU in 2000"
        );
        simulation.check_converged().unwrap();
    });
}

#[test]
fn quarantines_nothing_if_every_batch_is_rejected() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        let all = sample_stock(500).into_iter().map(|(sku, _)| sku);
        simulation
            .market
            .set_faults(FaultPlan::none().with_rejected_skus(all, false));
        for (sku, count) in sample_stock(500) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(Duration::from_mins(5)).await;
        assert!(simulation.lanes[0].store.quarantined.is_empty());
        let now = simulation.now();
        assert_eq!(
            simulation.lanes[0].planner.update_status(now).state,
            WorkerState::Paused
        );
        simulation.market.clear_faults();
        simulation.advance(Duration::from_hours(2)).await;
        simulation.check_converged().unwrap();
    });
}

#[test]
fn zeros_and_decreases_overtake_a_long_backlog() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        simulation.set_stock("falls-to-zero", 5);
        simulation.set_stock("decreases", 5);
        simulation.advance(Duration::from_secs(1)).await;
        for (sku, count) in sample_stock(22_000) {
            simulation.set_stock(&sku, count);
        }
        // The first minute's volume goes at once; then the seller sells.
        simulation.advance(Duration::from_secs(30)).await;
        simulation.set_stock("decreases", 4);
        simulation.set_stock("falls-to-zero", 0);
        simulation.advance(Duration::from_secs(32)).await;
        let count = |sku| {
            simulation
                .market
                .get(CAMPAIGN, sku)
                .map(|record| record.count)
        };
        assert_eq!(
            (count("falls-to-zero"), count("decreases")),
            (Some(0), Some(4))
        );
        assert!(
            simulation.market.len(CAMPAIGN) < 22_000,
            "the backlog is still waiting"
        );
    });
}

#[test]
fn retries_a_closed_campaign_hourly() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_tenth_of_limit();
        let until: DateTime<Utc> = simulation.clock.now() + TimeDelta::minutes(90);
        simulation
            .market
            .set_faults(FaultPlan::none().locked_until(until));
        simulation.set_stock("sku-1", 5);
        simulation.advance(Duration::from_mins(89)).await;
        assert_eq!(simulation.market.report().updates, 2);
        simulation.advance(Duration::from_mins(32)).await;
        assert_eq!(simulation.market.report().updates, 3);
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_rescan_finds_what_the_queue_could_not_hold() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_real_limit();
        for (sku, count) in sample_stock(60_000) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(Duration::from_secs(5)).await;
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_change_during_the_request_goes_right_after_it() {
    with_paused_clock(async {
        let mut simulation = MigratorSimulation::with_real_limit();
        let slow = FaultPlan::none()
            .with_fault(MarketFault::Slow, 1.0)
            .with_slow_delay(Duration::from_secs(2));
        simulation.market.set_faults(slow);
        simulation.set_stock("sku-1", 5);
        simulation.advance(Duration::from_secs(1)).await;
        simulation.set_stock("sku-1", 4);
        simulation.advance(Duration::from_secs(5)).await;
        assert_eq!(
            simulation
                .market
                .get(CAMPAIGN, "sku-1")
                .map(|record| record.count),
            Some(4)
        );
        assert_eq!(simulation.market.report().updates, 2);
    });
}

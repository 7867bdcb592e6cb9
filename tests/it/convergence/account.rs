//! Several shops of one cabinet, which share a limit, and limits that the Market changes.

use std::time::Duration;

use chrono::TimeDelta;
use market_sim::{FaultPlan, MarketFault, SimCall};
use stock::Sku;
use stockbridge::migrator::readback::MatchClass;
use tokio::time::Instant;

use super::simulation::{
    API_METHODS, ApiMethod, KEYS, MigratorSimulation, SimulationSetup, sample_stock,
    with_paused_clock,
};

fn account_setup() -> SimulationSetup {
    SimulationSetup::new(ApiMethod::Business).lanes(&[&[7, 8], &[9]])
}

fn set_all_stock(simulation: &mut MigratorSimulation, skus: usize, more: i64) {
    for lane in 0..simulation.lanes.len() {
        for (sku, count) in sample_stock(skus) {
            simulation.set_stock_in(lane, &sku, count + more, TimeDelta::zero());
        }
    }
}

#[test]
fn two_shops_share_the_rate_limit_of_a_cabinet() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup {
            parallel: 4,
            ..account_setup()
        }
        .build();
        // 40 requests of the one, 20 of the other.
        set_all_stock(&mut simulation, 40_000, 0);
        let started = Instant::now();
        simulation.advance(Duration::from_millis(1)).await;
        assert_eq!(simulation.market.report().updates, 50);
        simulation.restart();
        simulation.advance(Duration::from_secs(59)).await;
        assert_eq!(simulation.market.report().updates, 50);
        while simulation.market.report().updates < 60 {
            simulation.advance(Duration::from_secs(1)).await;
            // What was under way at the end may have arrived as late as the client gives up.
            assert!(
                started.elapsed() < Duration::from_secs(125),
                "{:?}",
                simulation.market.report()
            );
        }
        simulation.advance(Duration::from_secs(1)).await;
        assert_eq!(simulation.market.report().peak_updates_per_minute, 50);
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_cabinet_has_four_parallel_requests() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup {
            parallel: 4,
            ..account_setup()
        }
        .with_readback_every(Duration::from_mins(1))
        .build();
        let slow = FaultPlan::none().with_fault(MarketFault::Slow, 1.0);
        simulation
            .market
            .set_faults(slow.with_slow_delay(Duration::from_secs(9)));
        for round in 0..4 {
            set_all_stock(&mut simulation, 1_200, round);
            simulation.advance(Duration::from_secs(40)).await;
        }
        assert_eq!(simulation.market.report().peak_parallel, 4);
        simulation.check_limits().unwrap();
        simulation.market.clear_faults();
        simulation.advance(Duration::from_mins(3)).await;
        simulation.check_converged().unwrap();
    });
}

#[test]
fn readbacks_of_a_cabinet_use_a_tenth_of_its_limit() {
    with_paused_clock(async {
        let lanes: [&[u64]; 4] = [&[7], &[8], &[9], &[10]];
        let setup = SimulationSetup::new(ApiMethod::Business).lanes(&lanes);
        let mut simulation = setup.with_readback_every(Duration::from_mins(20)).build();
        set_all_stock(&mut simulation, 6_000, 0);
        simulation.advance(Duration::from_mins(22)).await;
        let readbacks: Vec<_> = simulation
            .market
            .requests()
            .into_iter()
            .map(|r| (r.call, r.arrived_at))
            .collect();
        let readback_times: Vec<_> = readbacks
            .into_iter()
            .filter(|(call, _)| *call == SimCall::Readback)
            .map(|(_, at)| at)
            .collect();
        let minute = TimeDelta::minutes(1);
        let within = |from| {
            readback_times
                .iter()
                .filter(|at| **at >= from && **at < from + minute)
                .count()
        };
        let most = readback_times.iter().map(|from| within(*from)).max();
        assert!(
            most.is_some_and(|most| (40..=50).contains(&most)),
            "{most:?} looks in a minute"
        );
        // And each gets its turn.
        while simulation.lanes.iter().any(|lane| lane.passes.is_empty()) {
            simulation.advance(Duration::from_mins(1)).await;
        }
        for lane in &simulation.lanes {
            assert_eq!(lane.passes[0].get(MatchClass::Equal.name()), Some(&6_000));
        }
        simulation.check_converged().unwrap();
    });
}

#[test]
fn a_zero_does_not_wait_for_another_shops_queue() {
    with_paused_clock(async {
        let mut simulation = account_setup().build();
        simulation.set_stock_in(1, "sku-1", 5, TimeDelta::zero());
        simulation.advance(Duration::from_secs(1)).await;
        for (sku, count) in sample_stock(60_000) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(Duration::from_secs(30)).await;
        simulation.set_stock_in(1, "sku-1", 0, TimeDelta::zero());
        simulation.advance(Duration::from_secs(40)).await;
        let record = simulation
            .market
            .get(super::simulation::campaign_of(9), "sku-1");
        assert_eq!(record.map(|record| record.count), Some(0));
    });
}

#[test]
fn a_limit_that_the_market_lowers_is_obeyed() {
    for (method, limit, skus) in [
        (ApiMethod::Campaign, 5_000, 20_000),
        (ApiMethod::Business, 5, 20_000),
    ] {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method).build();
            simulation
                .market
                .set_faults(FaultPlan::none().with_limit_headers(limit));
            for (sku, count) in sample_stock(skus) {
                simulation.set_stock(&sku, count);
            }
            let started = Instant::now();
            while simulation.lanes[0].store.acked.len() < skus {
                simulation.advance(Duration::from_secs(1)).await;
                assert!(
                    started.elapsed() < Duration::from_mins(9),
                    "{:?}",
                    simulation.market.report()
                );
            }
            assert!(
                started.elapsed() >= Duration::from_mins(1),
                "{:?}",
                started.elapsed()
            );
            simulation.check_converged().unwrap();
            // And raised again, once the Market says so.
            simulation
                .market
                .set_faults(FaultPlan::none().with_limit_headers(1_000_000));
            simulation.advance(Duration::from_mins(2)).await;
            simulation.set_stock("one", 1);
            simulation.advance(Duration::from_secs(1)).await;
            for (sku, count) in sample_stock(skus) {
                simulation.set_stock(&sku, count + 1);
            }
            simulation.advance(Duration::from_secs(2)).await;
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn slow_responses_are_not_clock_skew() {
    for method in API_METHODS {
        with_paused_clock(async {
            let mut simulation = SimulationSetup::new(method).build();
            for n in 0..20 {
                simulation.set_response_delay(Duration::from_secs([0, 30, 5][n % 3]));
                simulation.set_stock("A", i64::try_from(n).unwrap());
                simulation.advance(Duration::from_secs(1)).await;
                // Changed while it is under way, and once the answer is there sent at once.
                simulation.set_stock("A", i64::try_from(n).unwrap() + 1);
                simulation.advance(Duration::from_secs(61)).await;
            }
            simulation.check_converged().unwrap();
        });
    }
}

#[test]
fn a_rejected_sku_of_one_shop_spares_the_other() {
    with_paused_clock(async {
        let mut simulation = account_setup().build();
        simulation
            .market
            .set_faults(FaultPlan::none().with_rejected_skus(["sku-7".to_owned()], true));
        set_all_stock(&mut simulation, 5_000, 0);
        simulation.advance(Duration::from_mins(5)).await;
        simulation.check_converged().unwrap();
        for lane in &simulation.lanes {
            let quarantined: Vec<_> = lane.store.quarantined.keys().map(Sku::as_str).collect();
            assert_eq!(quarantined, ["sku-7"]);
        }
        simulation.advance(Duration::from_mins(15)).await;
        assert_eq!(
            simulation.readback().await.get(MatchClass::Rejected.name()),
            Some(&1)
        );
    });
}

#[test]
fn catches_up_two_minutes_after_an_outage() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(ApiMethod::Business).build();
        let skus = 20_000;
        for (sku, count) in sample_stock(skus) {
            simulation.set_stock(&sku, count);
        }
        let all_skus = sample_stock(skus).into_iter().map(|(sku, _)| sku);
        simulation
            .market
            .set_faults(FaultPlan::none().with_rejected_skus(all_skus, false));
        for second in 0..300 {
            if second == 180 {
                simulation.market.clear_faults();
            }
            for n in 0..60 {
                let sku = format!("sku-{}", (second * 60 + n) * 7 % skus);
                simulation.set_stock(&sku, 10 + i64::try_from(second % 5).unwrap());
            }
            simulation.advance(Duration::from_secs(1)).await;
        }
        let waiting = simulation
            .data
            .ledger
            .count_dirty(super::simulation::SHOP, &simulation.data.book);
        assert!(waiting <= 60 * 15, "{waiting} SKUs are not sent");
        assert!(simulation.lanes[0].store.quarantined.is_empty());
        simulation.check_limits().unwrap();
    });
}

#[test]
fn skus_rejected_by_business_delay_no_zeros() {
    with_paused_clock(async {
        let mut simulation = SimulationSetup::new(ApiMethod::Business).build();
        for n in 0..300 {
            simulation.set_stock(&format!("falls-{n}"), 3);
        }
        simulation.advance(Duration::from_secs(1)).await;
        let bad = (0..42).map(|n| format!("sku-{}", n * n * 11 % 20_000));
        simulation
            .market
            .set_faults(FaultPlan::none().with_rejected_skus(bad, false));
        for (sku, count) in sample_stock(20_000) {
            simulation.set_stock(&sku, count);
        }
        simulation.advance(Duration::from_millis(10)).await;
        for n in 0..300 {
            simulation.set_stock(&format!("falls-{n}"), 0);
        }
        simulation.advance(Duration::from_secs(61)).await;
        let waiting = |simulation: &MigratorSimulation| {
            simulation
                .data
                .ledger
                .count_dirty(super::simulation::SHOP, &simulation.data.book)
        };
        let count = |sku: &str| simulation.market_record(sku).map(|held| held.count);
        assert!((0..300).all(|n| count(&format!("falls-{n}")) == Some(0)));
        simulation.advance(Duration::from_mins(6)).await;
        assert!(
            waiting(&simulation) <= 2_000,
            "{} SKUs are not sent",
            waiting(&simulation)
        );
        simulation.advance(Duration::from_mins(10)).await;
        assert_eq!(simulation.lanes[0].store.quarantined.len(), 42);
        simulation.check_converged().unwrap();
    });
}

#[test]
fn one_shop_probes_a_rejected_key_for_all() {
    with_paused_clock(async {
        let mut simulation = account_setup().build();
        KEYS.iter()
            .for_each(|key| simulation.market.revoke_key(key));
        set_all_stock(&mut simulation, 10, 0);
        let started = simulation.clock.now();
        simulation.advance(Duration::from_secs(400)).await;
        let requests = simulation.market.requests();
        for minutes in [1, 3] {
            let probe = started + TimeDelta::minutes(minutes);
            let second = TimeDelta::seconds(10);
            let probes = requests
                .iter()
                .filter(|r| (r.arrived_at - probe).abs() < second)
                .count();
            assert_eq!(
                probes,
                KEYS.len(),
                "one for each key after {minutes} minutes"
            );
        }
        // The repaired key may be the second of two.
        simulation.market.restore_key(KEYS[1]);
        simulation.advance(Duration::from_secs(35)).await;
        simulation.check_converged().unwrap();
    });
}

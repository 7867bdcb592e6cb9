//! Random faults of three replicas behind the documented haproxy, while stock is updated and
//! requested without a pause.
//!
//! Writers and readers use haproxy and each replica. A model of all updates checks every response
//! and the stock of the Market: nothing acknowledged is lost, nothing older is answered, no zero is
//! invented, and no limit of the Market is broken. At the end all copies must agree.
//!
//! The shop has a source too: a complete list that is rewritten from time to time, of which some SKUs
//! leave and to which they return. Any replica may read it, so its statements move between the
//! replicas. This is in the short run too.
//!
//! Further clients request stock from haproxy as the Market does. For each kind of fault there is a
//! limit of the time in which haproxy may have no stock for any of them.
//!
//! `REPLICA_FAULT_ROUNDS` makes the test long: outages last 40 s, and half of the leases of killed
//! processes end by themselves. `REPLICA_FAULT_SEED` chooses the faults, and
//! `REPLICA_FAULT_MINUTES` ends the rounds earlier.

mod availability;
mod cluster;
mod complete_list;
mod database_failover;
mod documented_compose;
mod fault;
mod load_balancer;
mod replica;
mod request_in_parts;
mod stock_model;
mod tcp_proxy;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::Instant;

use self::availability::{AvailabilityProbe, MeasuredAvailability};
use self::cluster::{Cluster, FaultLengths};
use self::fault::ReplicaFault;
use self::replica::Replica;
use self::workload::SellerLoad;
use crate::postgres_store::new_database;
use crate::server::DatabaseServer;
use crate::service_process::{CAMPAIGN, Market, exchange, wait_until};

/// Seed of the short run, which has each kind of fault once.
const SEED: u64 = 1;

/// Length of an outage in the long run.
const OUTAGE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_replicas_survive_faults() {
    let number = |name: &str| Some(std::env::var(name).ok()?.parse::<u64>().unwrap());
    let seed = number("REPLICA_FAULT_SEED").unwrap_or(SEED);
    let rounds = number("REPLICA_FAULT_ROUNDS");
    let minutes = number("REPLICA_FAULT_MINUTES");
    let mut rng = StdRng::seed_from_u64(seed);
    println!("REPLICA_FAULT_SEED={seed}");
    let faults = match rounds {
        None => ReplicaFault::each_kind(seed),
        Some(rounds) => (0..rounds).map(|_| ReplicaFault::draw(&mut rng)).collect(),
    };
    let lengths = FaultLengths {
        outage: rounds.map(|_| OUTAGE),
        handed_over: if rounds.is_none() { 1.0 } else { 0.5 },
    };
    let start = Instant::now();
    let mut cluster = Cluster::start("three", lengths, StdRng::seed_from_u64(seed)).await;
    let mut workload = SellerLoad::start(cluster.entries(), cluster.list_path(), seed);
    let probe = AvailabilityProbe::start(cluster.balancer());
    // Nothing is measured before the first stock.
    cluster.wait_for_recovery(&workload).await;
    let mut by_kind: BTreeMap<String, MeasuredAvailability> = BTreeMap::new();
    // A fault that comes before the service has recovered may prolong an outage.
    let mut allowed_outage = Duration::ZERO;
    for (round, fault) in (1..).zip(faults) {
        if minutes.is_some_and(|minutes| start.elapsed() >= Duration::from_mins(minutes)) {
            break;
        }
        let (acknowledged, reads) = workload.model().lock().progress();
        println!(
            "{:.1} s: round {round}: {fault:?}; {acknowledged} acknowledged, {reads} reads",
            start.elapsed().as_secs_f64()
        );
        cluster.suffer(fault, &workload).await;
        // Sometimes the next fault comes before the service has recovered. After a kill that saves
        // the short run the time in which the others wait for the killed replica.
        let waits = match rounds {
            None => !matches!(fault, ReplicaFault::Kill(_)),
            Some(_) => rng.random_bool(0.7),
        };
        allowed_outage += fault.longest_outage();
        if waits {
            cluster.wait_for_recovery(&workload).await;
        }
        let measured = probe.take();
        by_kind.entry(fault.kind()).or_default().merge(measured);
        assert!(
            measured.longest_outage <= allowed_outage,
            "{fault:?}: {measured:?}, more than {allowed_outage:?}"
        );
        if waits {
            allowed_outage = Duration::ZERO;
        }
        let violations = workload.model().lock().violations().to_vec();
        assert!(violations.is_empty(), "{violations:#?}");
    }
    drop(probe);
    for (kind, measured) in by_kind {
        println!("{kind}: {measured:?}");
    }
    cluster.check_convergence(&mut workload).await;
    let leaders = cluster.source_leaders().await;
    assert!(leaders > 1, "the statements never moved");
    let model = workload.model().lock();
    assert!(model.violations().is_empty(), "{:#?}", model.violations());
    let (acknowledged, reads) = model.progress();
    println!(
        "{acknowledged} acknowledged, {reads} reads; {} lists, {leaders} times another replica began to \
         read them; {} requests to haproxy failed; {}",
        model.list(),
        workload.failed_at_first_entry(),
        cluster.summary()
    );
}

/// All replicas use the clock of the database.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_clock_changes_no_date() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    new_database(&server, "clock").await;
    let market_url = format!("http://{}", market.address());
    let replica = Replica::new("one", (&server, "clock"), &market_url, ("", "")).await;
    let mut replica = replica.with_clock();
    let target = format!("/v2/campaigns/{CAMPAIGN}/offers/stocks");
    for (count, hours) in [(1, -24), (2, 24)] {
        replica.set_clock(hours);
        if replica.service.is_none() {
            replica.start();
        }
        let now = Utc::now();
        let dated = json!({ "sku": "DATED", "items": [{ "count": count, "updatedAt": now }] });
        let undated = json!({ "sku": "UNDATED", "items": [{ "count": count }] });
        let body = json!({ "skus": [dated, undated] }).to_string();
        let request = ("PUT", target.as_str(), "Api-Key: feed-key", body.as_str());
        let address = replica.address();
        let (status, text) = block_in_place(|| exchange(address, OUTAGE, request));
        assert_eq!(status, 200, "with a clock wrong by {hours} h: {text}");
        let skus = ["DATED", "UNDATED"];
        wait_until("the Market has the stock", async || {
            market.counts(&skus) == [Some(count), Some(count)]
        })
        .await;
        for sku in skus {
            let shown = market.simulator.get(CAMPAIGN, sku).unwrap().updated_at;
            let error = (shown.to_utc() - now).abs();
            assert!(error < TimeDelta::minutes(1), "{sku}: {shown}, not {now}");
        }
    }
    assert_eq!(market.simulator.report().total_violations(), 0);
}

//! Leases in a real database: what is given back at an ordered stop, and what a new leader reads.

use std::time::Duration;

use lifecycle::{Clock, CrashSignal, Tasks};
use stockbridge::replicas::{LeaderLease, LeaseKeeper};
use stockbridge::store::{Fence, LeaseOutcome, RecentSend, SendPermission, Store, StoreError};

use super::postgres_store::{database_subject, execute, new_database, query_text};
use super::server::DatabaseServer;
use super::service_process::wait_until;
use super::store_suite::test_store::{SHOP_A, SHOP_B};

const LEASE: &str = "campaign 1";
const LEASE_DURATION: Duration = Duration::from_secs(30);
const TAKEOVER_WAIT: Duration = Duration::from_secs(65);

/// Takes the lease, and stops in order at once.
async fn lead_and_stop(store: &Store, owner: &str) {
    let lease = LeaderLease::named(LEASE.to_owned(), TAKEOVER_WAIT);
    let table = store.leases().unwrap();
    let keeper = LeaseKeeper::new(table, owner.to_owned(), vec![lease.clone()]);
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("leases", keeper.run(tasks.clone()));
    wait_until("the lease is taken", async || lease.epoch().is_some()).await;
    tasks.stop();
    tasks.ended().await;
}

/// Requests of an owner that has crashed may be on their way, although a waiting one stops in order.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_leader_gives_nothing_back() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "stops").await;
    let process = database_subject(url.clone()).open().await;
    let owner = async || query_text(&url, "SELECT owner FROM stockbridge.lease").await;
    // The first owner, and those to whom the lease is handed over, do not wait.
    for name in ["one/1", "two/1"] {
        lead_and_stop(&process.store, name).await;
        assert_eq!(owner().await, "");
    }
    let crash = "UPDATE stockbridge.lease SET owner = 'old/1', until = now()";
    execute(&url, crash).await;
    lead_and_stop(&process.store, "one/2").await;
    assert_eq!(owner().await, "one/2");
    let table = process.store.leases().unwrap();
    let outcome = table.acquire(LEASE, "two/2", LEASE_DURATION).await.unwrap();
    assert!(matches!(outcome, LeaseOutcome::Taken { .. }), "{outcome:?}");
    execute(&url, "UPDATE stockbridge.lease SET until = now()").await;
    let outcome = table.acquire(LEASE, "two/2", LEASE_DURATION).await.unwrap();
    let LeaseOutcome::Held(lease) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(!lease.is_handed_over, "so the next one waits, too");
}

/// The shops of a business share a limit, so a leader must know what was sent for all of them before
/// it sends for the first.
#[tokio::test(flavor = "multi_thread")]
async fn new_leader_reads_the_sends_of_all_shops() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "sends").await;
    let [one, other] = [url.clone(), url].map(database_subject);
    let (one, other) = (one.open().await, other.open().await);
    let table = one.store.leases().unwrap();
    let outcome = table.acquire(LEASE, "one/1", LEASE_DURATION).await.unwrap();
    let LeaseOutcome::Held(lease) = outcome else {
        panic!("{outcome:?}")
    };
    let fence = Fence {
        lease: LEASE.to_owned(),
        owner: "one/1".to_owned(),
        epoch: lease.epoch,
    };
    let now = Clock::wall().now();
    let permit = async |shop, skus, fence: &Fence| {
        let send = RecentSend { at: now, skus };
        one.store
            .permit_send(shop, send, (Some(fence), "paused"))
            .await
    };
    for (shop, skus) in [(SHOP_A, 1), (SHOP_B, 2), (SHOP_A, 3)] {
        let permission = permit(shop, skus, &fence).await.unwrap();
        assert_eq!(permission, SendPermission::Granted);
    }
    for (shop, counted, expected) in [
        (SHOP_A, &[SHOP_A, SHOP_B][..], &[1, 2, 3][..]),
        (SHOP_B, &[SHOP_A, SHOP_B], &[1, 2, 3]),
        (SHOP_B, &[SHOP_B], &[2]),
    ] {
        let state = other.store.leader_state(shop, counted, now).await.unwrap();
        let sends = state.unwrap().recent_sends;
        let skus: Vec<u32> = sends.iter().map(|send| send.skus).collect();
        assert_eq!(skus, expected);
    }
    // The lease of an earlier epoch permits nothing.
    let old = Fence { epoch: 0, ..fence };
    let error = permit(SHOP_A, 1, &old).await.unwrap_err();
    assert!(matches!(error, StoreError::NotLeader { .. }));
    assert_eq!(
        error.to_string(),
        "another replica has the lease campaign 1"
    );
}

//! A server that waits for a synchronous standby which is absent: nothing is confirmed, the Market gets
//! its answers, and all goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use stockbridge::store::{RenewalNeed, StoreChange, StoreError, StoreUrl, database_facts};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, timeout};

use super::postgres_store::{database_subject, execute, new_database, open_two, query_text};
use super::server::DatabaseServer;
use super::service_process::{Market, Service, ServiceConfig, wait_until};
use super::store_suite::samples::rows;
use super::store_suite::test_store::{SHOP_A, SHOP_B, SuiteStore};

/// Time for which a replica may answer the Market after it has read all changes.
const PERMIT: Duration = Duration::from_secs(4);

/// Time in which a commit that need not wait has ended.
const SOON: Duration = Duration::from_millis(500);

/// Longest time until a change is refused that needs a row of a commit which waits for the standby.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);

/// Longest time until an update gets its response.
const RESPONDS_WITHIN: Duration = Duration::from_secs(11);

/// Longest time for which a stop may wait for the database.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// Longest time in which a replica may refuse to answer the Market.
const MAX_GAP: Duration = Duration::from_secs(3);

/// Number of commits that wait for the standby.
const WAITING: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// Number of commits of processes with the store that wait for the standby.
const WAITING_STORES: &str = "SELECT count(*)::text FROM pg_stat_activity \
                              WHERE wait_event = 'SyncRep' AND application_name = 'stockbridge'";

/// Sets the standbys for which the server waits.
async fn set_standbys(url: &str, names: &str) {
    let setting = format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'");
    execute(url, &setting).await;
    execute(url, "SELECT pg_reload_conf()").await;
}

/// Makes the server wait for a standby that it does not have. Returns when it does.
async fn lose_standby(url: &str) {
    set_standbys(url, "absent").await;
    wait_until("a commit waits for the standby", async || {
        let message = "SELECT pg_logical_emit_message(true, 'test', '')";
        begin_waiting_commit(url, message).await && query_text(url, WAITING).await != "0"
    })
    .await;
}

/// Begins a commit of another program. Returns true if it waits.
async fn begin_waiting_commit(url: &str, sql: &'static str) -> bool {
    let mut conn = PgConnection::connect(url).await.unwrap();
    // A closed connection does not end the wait.
    timeout(SOON, conn.execute(sqlx::raw_sql(sql)))
        .await
        .is_err()
}

async fn try_append(process: &SuiteStore, micros: i64) -> Result<(), StoreError> {
    let rows = rows(0..3, micros);
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &rows,
    };
    process.append(change).await
}

/// Confirms an update that changes nothing.
async fn try_confirm(process: &SuiteStore) -> Result<(), StoreError> {
    let version = process.store.book_version();
    let confirmed = process
        .store
        .append_if_current(&[], (&[SHOP_A], version))
        .await;
    confirmed.map(drop)
}

fn assert_unconfirmed(outcome: &Result<(), StoreError>) {
    let text = outcome.as_ref().unwrap_err().to_string();
    assert!(text.contains("synchronous_standby_names"), "{text}");
}

/// Runs a future, and requires that the replicas can extend their permits meanwhile.
async fn while_renewed<T>(replicas: [&SuiteStore; 2], work: impl Future<Output = T>) -> T {
    let renew_both = async {
        loop {
            for (process, name) in replicas.iter().zip(["one", "two"]) {
                let renewing = process.store.renew_replica(name, RenewalNeed::Always);
                let renewal = timeout(PERMIT, renewing).await.expect("it gets its turn");
                assert!(renewal.unwrap().unwrap().was_alive, "{name}");
            }
        }
    };
    tokio::select! {
        outcome = work => outcome,
        () = renew_both => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_confirmed_without_the_standby() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "absent").await;
    let (one, two) = open_two(&url).await;
    for (process, name) in [(&one, "one"), (&two, "two")] {
        let renewing = process.store.renew_replica(name, RenewalNeed::Always);
        let _new_row = renewing.await.unwrap();
    }
    try_append(&one, 10).await.unwrap();
    two.store.catch_up().await.unwrap();
    try_confirm(&two).await.unwrap();
    lose_standby(&url).await;
    // Another program of the server wakes its own processes.
    assert!(begin_waiting_commit(&url, "CREATE TABLE other (a int); NOTIFY other").await);
    let replicas = [&one, &two];
    assert_unconfirmed(&while_renewed(replicas, try_append(&one, 20)).await);
    assert!(one.store.is_failed());
    // What was not confirmed is not seen, and its repetition is not confirmed.
    assert!(!two.store.catch_up().await.unwrap());
    for process in replicas {
        let started = Instant::now();
        assert_unconfirmed(&while_renewed(replicas, try_append(process, 20)).await);
        assert!(
            started.elapsed() < REFUSED_WITHIN,
            "{:?}",
            started.elapsed()
        );
        for (replica, name) in replicas.iter().zip(["one", "two"]) {
            let renewing = replica.store.renew_replica(name, RenewalNeed::Always);
            assert!(renewing.await.unwrap().unwrap().was_alive, "{name}");
        }
        assert!(process.store.is_failed(), "reads do not show that it works");
    }
    let waiting: u32 = query_text(&url, WAITING_STORES).await.parse().unwrap();
    // The first append, and one probe of all processes.
    assert!((1..=2).contains(&waiting), "{waiting} waiting transactions");
    // A person ends the waits, so the change is seen, although the standby does not have it.
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_until("the change is seen", async || {
        execute(&url, cancel).await;
        two.store.catch_up().await.unwrap()
    })
    .await;
    one.store.catch_up().await.unwrap();
    assert_eq!(two.contents(), one.contents());
    assert_unconfirmed(&try_confirm(&one).await);
    assert_unconfirmed(&try_confirm(&two).await);
    // Everything goes on without the standby.
    set_standbys(&url, "").await;
    wait_until("the server does not wait", async || {
        query_text(&url, WAITING).await == "0"
    })
    .await;
    try_confirm(&two).await.unwrap();
    try_append(&one, 30).await.unwrap();
    try_append(&two, 40).await.unwrap();
    one.store.catch_up().await.unwrap();
    assert!(!one.store.is_failed() && !two.store.is_failed());
    assert_eq!(two.contents(), one.contents());
    let fresh = database_subject(url).open().await;
    assert_eq!(fresh.contents(), one.contents());
}

/// A compaction that waited without a limit would keep a stop of the process waiting.
#[tokio::test(flavor = "multi_thread")]
async fn compaction_ends_without_the_standby() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "compacts").await;
    let one = database_subject(url.clone()).open().await;
    try_append(&one, 10).await.unwrap();
    lose_standby(&url).await;
    let closing = async {
        let compacted = one.compact().await;
        one.store.close().await.unwrap();
        compacted
    };
    let compacted = timeout(STOPS_WITHIN, closing).await;
    assert_unconfirmed(&compacted.expect("the process stops"));
    set_standbys(&url, "").await;
    wait_until("the server does not wait", async || {
        query_text(&url, WAITING).await == "0"
    })
    .await;
    let two = database_subject(url).open().await;
    assert_eq!(two.contents(), one.contents());
    two.compact().await.unwrap();
    try_append(&two, 20).await.unwrap();
}

/// Starts an append whose commit waits for the standby.
async fn begin_waiting_append(
    url: &str,
    process: &Arc<SuiteStore>,
) -> JoinHandle<Result<(), StoreError>> {
    let appending = Arc::clone(process);
    let append = tokio::spawn(async move { try_append(&appending, 20).await });
    wait_until("the commit waits", async || {
        query_text(url, WAITING_STORES).await != "0"
    })
    .await;
    append
}

/// A server that was stopped, and started again, shows what the standby may not have.
#[tokio::test(flavor = "multi_thread")]
async fn change_that_a_restart_shows_is_not_confirmed() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "restarts").await;
    let one = Arc::new(database_subject(url.clone()).open().await);
    try_append(&one, 10).await.unwrap();
    lose_standby(&url).await;
    let append = begin_waiting_append(&url, &one).await;
    server.stop();
    assert!(append.await.unwrap().is_err());
    server.start();
    wait_until("the change is seen", async || {
        matches!(one.store.catch_up().await, Ok(true))
    })
    .await;
    assert_unconfirmed(&try_confirm(&one).await);
    // A process that is started meanwhile is not sure either.
    let two = database_subject(url.clone()).open().await;
    assert_unconfirmed(&try_confirm(&two).await);
    set_standbys(&url, "").await;
    try_confirm(&one).await.unwrap();
    try_confirm(&two).await.unwrap();
}

/// The server reports a cancelled wait as a commit, with a warning.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_wait_does_not_confirm() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "cancels").await;
    let one = Arc::new(database_subject(url.clone()).open().await);
    lose_standby(&url).await;
    let append = begin_waiting_append(&url, &one).await;
    let seen = Instant::now();
    wait_until("it has waited for a while", async || {
        seen.elapsed() > SOON * 2
    })
    .await;
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                  WHERE wait_event = 'SyncRep' AND application_name = 'stockbridge'";
    execute(&url, cancel).await;
    assert_unconfirmed(&append.await.unwrap());
    set_standbys(&url, "").await;
    try_append(&one, 30).await.unwrap();
    let change = StoreChange::Stock {
        shop: SHOP_B,
        rows: &rows(0..3, 1),
    };
    one.append(change).await.unwrap();
    let fresh = database_subject(url).open().await;
    assert_eq!(fresh.contents(), one.contents());
}

/// Asks replicas for stock without a pause, as the Market does.
struct MarketRequests {
    is_stopped: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl MarketRequests {
    /// Starts to ask one replica. Its answers must be one of `possible`.
    fn start(replica: Service, possible: &'static [u64]) -> (Arc<Service>, Self) {
        let replica = Arc::new(replica);
        let (asked, is_stopped) = (Arc::clone(&replica), Arc::<AtomicBool>::default());
        let stop = Arc::clone(&is_stopped);
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut answered = Instant::now();
            while !stop.load(Ordering::Acquire) {
                match asked.counts_blocking(&["A"]) {
                    Ok(counts) => {
                        assert!(possible.contains(&counts[0]), "{counts:?}");
                        longest = longest.max(answered.elapsed());
                        answered = Instant::now();
                    }
                    Err(status) => assert_eq!(status, 503),
                }
            }
            longest.max(answered.elapsed())
        });
        (replica, Self { is_stopped, thread })
    }

    /// Returns the longest time without an answer.
    fn stop(self) -> Duration {
        self.is_stopped.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_answer_without_the_standby() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let standby = server.standby();
    let url = new_database(&server, "answering").await;
    set_standbys(&url, "*").await;
    wait_until("the standby is synchronous", async || {
        query_text(
            &url,
            "SELECT coalesce(min(sync_state), '') FROM pg_stat_replication",
        )
        .await
            == "sync"
    })
    .await;
    let facts = database_facts(&StoreUrl::parse(&url).unwrap()).await;
    assert_eq!(facts.unwrap().synchronous_standbys, Some(1));
    let config = |name: &str| {
        let settings = format!("replica = {name:?}\nsources_on = \"one\"");
        ServiceConfig::new(&market, &url, &settings)
    };
    let configs = [config("one"), config("two")];
    let (one, two) = (configs[0].serve(), configs[1].serve());
    assert_eq!(one.put(&[("A", 1)]), 200);
    let (one, ask_one) = MarketRequests::start(one, &[1, 2]);
    let (two, ask_two) = MarketRequests::start(two, &[1, 2]);
    standby.stop();
    let started = Instant::now();
    // For longer than the leases last.
    while started.elapsed() < Duration::from_secs(40) {
        for replica in [&one, &two] {
            let asked = Instant::now();
            assert_eq!(replica.put(&[("A", 2)]), 503);
            assert!(asked.elapsed() < RESPONDS_WITHIN, "{:?}", asked.elapsed());
        }
    }
    for replica in [&one, &two] {
        assert_eq!(replica.ops("GET", "/readyz").0, 200);
        assert!(replica.has_alarm("store_failed") && !replica.has_alarm("replica_behind"));
    }
    let third = config("three");
    let output = block_in_place(|| third.command().output().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    let is_explained = log.contains("take the lease") && log.contains("synchronous_standby_names");
    assert!(!output.status.success() && is_explained, "{log}");
    let waiting = query_text(&url, WAITING).await;
    standby.start();
    let started = Instant::now();
    wait_until("updates are accepted", async || one.put(&[("A", 2)]) == 200).await;
    let back = started.elapsed();
    assert_eq!(two.put(&[("A", 2)]), 200);
    let gaps = [ask_one.stop(), ask_two.stop()];
    println!(
        "{gaps:?} without an answer, {waiting} waiting transactions, {back:?} after the start"
    );
    assert!(gaps.iter().all(|gap| *gap < MAX_GAP), "{gaps:?}");
    for replica in [&one, &two] {
        assert_eq!(replica.counts(&["A"]), Ok(vec![2]));
    }
    wait_until("the Market has the stock", async || {
        market.counts(&["A"]) == [Some(2)]
    })
    .await;
    // The standby has what was acknowledged.
    let count = "SELECT max(ver)::text FROM stockbridge.shop";
    let known: u64 = query_text(&url, count).await.parse().unwrap();
    server.stop();
    standby.promote();
    let promoted = url.replace(
        &server.address().to_string(),
        &standby.address().to_string(),
    );
    let stored: u64 = query_text(&promoted, count).await.parse().unwrap();
    assert!(stored >= known && known >= 2, "{stored} {known}");
}

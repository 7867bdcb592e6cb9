//! A process that was stopped or cut off does not stop the others, and learns that it is cut off.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use stockbridge::store::{ChangeNotice, RenewalNeed};
use tokio::time::{Instant, timeout};

use super::network_link::NetworkLink;
use super::postgres_store::{database_subject, execute, new_database, query_text};
use super::server::DatabaseServer;
use super::service_process::wait_until;
use super::store_suite::samples::rows;
use super::store_suite::test_store::{SHOP_A, SuiteStore};

/// Time for which a replica may answer the Market after it has read all changes.
const PERMIT: Duration = Duration::from_secs(4);

/// Time after which a process gives up a server that is silent, and some for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(25);

async fn wait_for_blocked(url: &str) {
    wait_until("a transaction waits for a lock", async || {
        query_text(url, "SELECT count(*)::text FROM pg_locks WHERE NOT granted").await != "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_append_does_not_stop_following() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "locked").await;
    let one = database_subject(url.clone()).open().await;
    one.fill().await;
    let other = Arc::new(database_subject(url.clone()).open().await);
    // Another process is stopped in the middle of an append.
    let mut stopped = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; SELECT 1 FROM stockbridge.shop WHERE name = 'a' FOR UPDATE";
    stopped.execute(sqlx::raw_sql(lock)).await.unwrap();
    let waiting = Arc::clone(&other);
    let append = tokio::spawn(async move { waiting.append_stock(SHOP_A, &rows(0..9, 50)).await });
    for _ in 0..2 {
        wait_for_blocked(&url).await;
        let followed = timeout(PERMIT, other.store.catch_up()).await;
        assert!(matches!(followed, Ok(Ok(false))), "{followed:?}");
        let renewed = timeout(
            PERMIT,
            other.store.renew_replica("two", RenewalNeed::Always),
        )
        .await;
        assert!(matches!(renewed, Ok(Ok(_))), "{renewed:?}");
    }
    assert!(!append.is_finished());
    stopped.close().await.unwrap();
    append.await.unwrap();
    one.store.catch_up().await.unwrap();
    assert_eq!(one.contents(), other.contents());
}

/// A locked shop for which no lock is released makes an update fail, and not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn append_gives_up_a_locked_shop() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "held").await;
    let one = database_subject(url.clone()).open().await;
    let mut stopped = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; SELECT 1 FROM stockbridge.shop FOR UPDATE";
    stopped.execute(sqlx::raw_sql(lock)).await.unwrap();
    let rows = rows(0..9, 1);
    let change = stockbridge::store::StoreChange::Stock {
        shop: SHOP_A,
        rows: &rows,
    };
    let changes = [change];
    let outcome = timeout(GIVEN_UP, one.store.append(&changes)).await.unwrap();
    let error = outcome.map(drop).unwrap_err().to_string();
    assert!(error.contains("continue or kill it"), "{error}");
    assert!(one.store.is_failed());
    stopped.close().await.unwrap();
    one.append_stock(SHOP_A, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_ends_a_silent_transaction() {
    let server = DatabaseServer::postgresql();
    let target = server.address();
    // In the middle of an append, and of a compaction: the row of the shop is locked.
    for (name, last_request, limit) in [
        ("appends", "WITH moved", Duration::from_secs(9)),
        ("compacts", "ON CONFLICT (id) DO UPDATE SET name", GIVEN_UP),
    ] {
        let url = new_database(&server, name).await;
        let one = database_subject(url.clone()).open().await;
        one.fill().await;
        let link = NetworkLink::start(target, Duration::ZERO).await;
        let stopped = database_subject(link.url(target, &url)).open().await;
        link.silence_after(last_request);
        let stopping = tokio::spawn(async move {
            if name == "appends" {
                stopped.append_stock(SHOP_A, &rows(0..9, 40)).await;
            } else {
                stopped.compact().await.unwrap();
            }
        });
        wait_until("the process is silent", async || {
            link.is_last_request_sent()
        })
        .await;
        let started = Instant::now();
        one.append_stock(SHOP_A, &rows(0..9, 50)).await;
        assert!(started.elapsed() < limit, "{:?}", started.elapsed());
        stopping.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connection_is_given_up() {
    let server = DatabaseServer::postgresql();
    let target = server.address();
    let url = new_database(&server, "silent").await;
    let one = database_subject(url.clone()).open().await;
    // Before a look at the database, and in the middle of it.
    for last_request in [None, Some("SELECT ver, rows, body")] {
        let link = NetworkLink::start(target, Duration::ZERO).await;
        let other = database_subject(link.url(target, &url)).open().await;
        one.append_stock(SHOP_A, &rows(0..9, 50)).await;
        match last_request {
            None => link.silence(),
            Some(text) => link.silence_after(text),
        }
        let followed = timeout(GIVEN_UP, other.store.catch_up()).await;
        assert!(matches!(followed, Ok(Err(_))), "{followed:?}");
        assert!(other.store.catch_up().await.unwrap());
        assert_eq!(other.contents(), one.contents());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_listener_connects_again() {
    let server = DatabaseServer::postgresql();
    let target = server.address();
    let url = new_database(&server, "deaf").await;
    let link = NetworkLink::start(target, Duration::ZERO).await;
    let one: SuiteStore = database_subject(link.url(target, &url)).open().await;
    let mut listener = one.store.change_listener().unwrap();
    assert_eq!(listener.next().await, Some(ChangeNotice::Unknown));
    // A connection that only has nothing to report stays.
    assert!(timeout(GIVEN_UP / 2, listener.next()).await.is_err());
    let notify = "SELECT pg_notify('stockbridge', 'appended x')";
    execute(&url, notify).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
    link.silence();
    execute(&url, notify).await;
    for text in ["lost", "connected again"] {
        let notice = timeout(GIVEN_UP, listener.next()).await;
        assert_eq!(notice, Ok(Some(ChangeNotice::Unknown)), "{text}");
    }
    execute(&url, notify).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
}

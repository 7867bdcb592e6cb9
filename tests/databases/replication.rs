//! Several processes on one database: what each has applied, and who waits for whom.

use std::time::Duration;

use stockbridge::store::{ChangeNotice, StoreChange};
use tokio::time::timeout;

use super::postgres_store::{database_subject, execute, new_database};
use super::server::DatabaseServer;
use super::store_suite::samples::rows;
use super::store_suite::test_store::{SHOP_A, SuiteStore};

/// Time in which a future that must wait is seen to wait.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgement_waits_for_every_live_replica() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "waits").await;
    let (one, other) = (database_subject(url.clone()), database_subject(url.clone()));
    let (one, other) = (one.open().await, other.open().await);
    // Without another replica there is nothing to wait for.
    let appended = append(&one, 1).await;
    one.store.replicated(&appended).await;
    assert!(
        !other.store.renew_replica("two").await.unwrap(),
        "it is new"
    );
    other.store.catch_up().await.unwrap();
    assert!(other.store.renew_replica("two").await.unwrap());
    one.store.replicated(&appended).await;
    // The other replica lives, but has not applied the next change.
    let appended = append(&one, 2).await;
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    other.store.catch_up().await.unwrap();
    other.store.renew_replica("two").await.unwrap();
    waiting.await;
    // An update that changes nothing also waits for what it confirms.
    let appended = append(&one, 3).await;
    let compared = (&[SHOP_A][..], one.store.book_version());
    let guard = one.store.append_if_current(&[], compared).await.unwrap();
    let confirmed = guard.appended();
    drop(guard);
    let mut waiting = Box::pin(one.store.replicated(&confirmed));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    // A replica whose row has ended no longer counts, and learns it at the next renewal.
    execute(&url, "UPDATE stockbridge.replica SET until = now()").await;
    waiting.await;
    one.store.replicated(&appended).await;
    assert!(!other.store.renew_replica("two").await.unwrap());
    let replicas = one.store.list_replicas().await.unwrap();
    assert_eq!(replicas.len(), 1);
    assert!(replicas[0].is_alive && replicas[0].lag == 1, "{replicas:?}");
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    other.store.leave_replicas().await.unwrap();
    waiting.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_wake_the_other_processes() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "wakes").await;
    let (one, other) = (database_subject(url.clone()), database_subject(url.clone()));
    let (one, other) = (one.open().await, other.open().await);
    let mut listener = other.store.change_listener().unwrap();
    assert_eq!(listener.next().await, Some(ChangeNotice::Unknown));
    let _own = append(&other, 1).await;
    one.store.catch_up().await.unwrap();
    let _appended = append(&one, 2).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
    one.store.renew_replica("one").await.unwrap();
    assert_eq!(listener.next().await, Some(ChangeNotice::Applied));
    // After a lost connection anything may have been missed.
    let others =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
    execute(&url, others).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Unknown));
    assert_eq!(
        listener.next().await,
        Some(ChangeNotice::Unknown),
        "connected again"
    );
    let _appended = append(&one, 3).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
}

async fn append(process: &SuiteStore, micros: i64) -> stockbridge::store::AppendedChanges {
    let rows = rows(0..3, micros);
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &rows,
    };
    let guard = process.store.append(&[change]).await.unwrap();
    for (sku, level) in &rows {
        process.memory.book.apply(SHOP_A, sku, *level);
    }
    guard.appended()
}

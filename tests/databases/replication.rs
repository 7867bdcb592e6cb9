//! Several processes on one database: what each has applied, and who waits for whom.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use stockbridge::store::{
    ChangeNotice, REPLICA_LIFETIME, RenewalNeed, StoreChange, StoreUrl, check_notifications,
};
use tokio::time::timeout;

use super::lost_changes::{go_back, keep_copy};
use super::postgres_store::{database_subject, execute, new_database, open_two, query_text};
use super::server::DatabaseServer;
use super::store_suite::samples::{rows, shops};
use super::store_suite::test_store::{SHOP_A, SuiteStore};

/// Time in which a future that must wait is seen to wait.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgement_waits_for_every_live_replica() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "waits").await;
    let (one, other) = open_two(&url).await;
    // Without another replica there is nothing to wait for.
    let appended = append(&one, 1).await;
    one.store.replicated(&appended).await.unwrap();
    assert!(!renew(&other, "two").await, "it is new");
    assert!(renew(&other, "two").await);
    one.store.replicated(&appended).await.unwrap();
    // The other replica lives, but has not applied the next change.
    let appended = append(&one, 2).await;
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    renew(&other, "two").await;
    waiting.await.unwrap();
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
    waiting.await.unwrap();
    one.store.replicated(&appended).await.unwrap();
    assert!(!renew(&other, "two").await);
    let appended = append(&one, 4).await;
    let replicas = one.store.list_replicas().await.unwrap();
    assert_eq!(replicas.len(), 1);
    assert!(replicas[0].is_alive && replicas[0].lag == 1, "{replicas:?}");
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    other.store.leave_replicas().await.unwrap();
    waiting.await.unwrap();
}

/// Without the database nothing proves that the others have applied a change, and a standby that takes
/// its place may lack it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_without_the_database() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "proof").await;
    let one = database_subject(url).open().await;
    let appended = append(&one, 1).await;
    server.stop();
    let error = one.store.replicated(&appended).await.unwrap_err();
    assert!(error.to_string().contains("repeat the update"), "{error}");
}

/// The row may have been renewed on a server in whose place there is a standby now.
#[tokio::test(flavor = "multi_thread")]
async fn ended_row_counts_on_a_new_connection() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "ended").await;
    let (one, other) = open_two(&url).await;
    renew(&other, "two").await;
    let appended = append(&one, 1).await;
    execute(&url, "UPDATE stockbridge.replica SET until = now()").await;
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_change_is_acknowledged_when_it_is_back() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "back").await;
    let one = database_subject(url.clone()).open().await;
    keep_copy(&url).await;
    let appended = append(&one, 50).await;
    let known = one.contents();
    go_back(&url).await;
    one.store.replicated(&appended).await.unwrap();
    let fresh = database_subject(url).open().await;
    assert_eq!(fresh.contents(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_change_of_the_same_number_does_not_count() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "number").await;
    let (one, other) = open_two(&url).await;
    renew(&other, "two").await;
    keep_copy(&url).await;
    let appended = append(&one, 50).await;
    go_back(&url).await;
    let fresh = database_subject(url.clone()).open().await;
    fresh.append_stock(SHOP_A, &rows(500..505, 60)).await;
    assert!(renew(&other, "two").await);
    let mut waiting = Box::pin(one.store.replicated(&appended));
    assert!(timeout(SOON, &mut waiting).await.is_err());
    assert_ne!(other.contents(), one.contents());
    assert!(renew(&other, "two").await);
    waiting.await.unwrap();
    assert_eq!(other.contents(), one.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_follows_what_memory_has() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "renews").await;
    let (one, other) = open_two(&url).await;
    let if_changed = async || {
        let renewed = other.store.renew_replica("two", RenewalNeed::IfChanged);
        renewed.await.unwrap().is_some()
    };
    renew(&other, "two").await;
    assert!(!if_changed().await);
    // Changes of others may be read by an append, so the follower does not find them new.
    append(&one, 1).await;
    other.store.catch_up().await.unwrap();
    assert!(if_changed().await && !if_changed().await);
    // While an own append is not in memory, the row cannot name the change.
    let rows = rows(3..4, 2);
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &rows,
    };
    let guard = other.store.append(&[change]).await.unwrap();
    {
        let mut renewing = Box::pin(if_changed());
        assert!(timeout(SOON, &mut renewing).await.is_err());
        drop(guard);
        assert!(renewing.await);
    }
    assert!(!if_changed().await);
}

/// Between a look at the database and a renewal the server may be replaced by one without the changes.
#[tokio::test(flavor = "multi_thread")]
async fn renewal_names_changes_of_the_same_server() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "renewed").await;
    let (one, other) = open_two(&url).await;
    renew(&other, "two").await;
    keep_copy(&url).await;
    append(&one, 50).await;
    other.store.catch_up().await.unwrap();
    go_back(&url).await;
    let fresh = database_subject(url.clone()).open().await;
    fresh.append_stock(SHOP_A, &rows(500..505, 60)).await;
    let sku = rows(500..501, 60).remove(0).0;
    let has_sku = || other.memory.book.get(SHOP_A, sku.as_str()).is_some();
    assert!(!has_sku());
    let fresh_end = fresh
        .store
        .append_if_current(&[], (&[SHOP_A], fresh.store.book_version()));
    let appended = fresh_end.await.unwrap().appended();
    renew(&other, "two").await;
    fresh.store.replicated(&appended).await.unwrap();
    assert!(has_sku(), "the row says that it has the change");
}

/// The others must wait for a replica as long as it may answer, also after a crash of the server.
#[tokio::test(flavor = "multi_thread")]
async fn crash_of_the_server_keeps_the_row() {
    // What is not committed to the disk is lost.
    let server = DatabaseServer::postgresql_with("-c fsync=off -c wal_writer_delay=10s");
    let url = new_database(&server, "crashes").await;
    let process = database_subject(url.clone()).open().await;
    assert!(!renew(&process, "one").await);
    let mut renewals = Vec::new();
    for _ in 0..3 {
        let renewal = process.store.renew_replica("one", RenewalNeed::Always);
        renewals.extend(renewal.await.unwrap());
    }
    server.stop();
    server.start();
    let left = "SELECT ceil(extract(epoch FROM until - clock_timestamp()) * 1000000)::text \
                FROM stockbridge.replica";
    let left: i64 = query_text(&url, left).await.parse().unwrap();
    let counts_from = renewals.last().unwrap().counts_from;
    let used = i64::try_from(counts_from.elapsed().as_micros()).unwrap();
    let lifetime = i64::try_from(REPLICA_LIFETIME.as_micros()).unwrap();
    assert!(used + left >= lifetime, "{used} {left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_wake_the_other_processes() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "wakes").await;
    let (one, other) = open_two(&url).await;
    let mut listener = other.store.change_listener().unwrap();
    assert_eq!(listener.next().await, Some(ChangeNotice::Unknown));
    let _own = append(&other, 1).await;
    one.store.catch_up().await.unwrap();
    let _appended = append(&one, 2).await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
    renew(&one, "one").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn notifications_have_an_address_of_their_own() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "listens").await;
    execute(&url, "CREATE ROLE listener LOGIN").await;
    let address = |url: &str| StoreUrl::parse(url).unwrap();
    let listen_url = url.replace("reader@", "listener@");
    let both = address(&url).with_listen_url(address(&listen_url));
    assert!(check_notifications(&both).await.unwrap());
    assert!(check_notifications(&address(&url)).await.unwrap());
    // Another database of the server has other notifications.
    let other = new_database(&server, "deaf").await;
    let other = address(&url).with_listen_url(address(&other));
    assert!(!check_notifications(&other).await.unwrap());
    let nowhere = listen_url.replace("listener@", "unknown@");
    let nowhere = address(&url).with_listen_url(address(&nowhere));
    assert!(check_notifications(&nowhere).await.is_err());
    // The store uses it for notifications only.
    let subject = database_subject(url.clone());
    let config = stockbridge::store::Config {
        url: Some(both),
        ..subject.config()
    };
    let shops = shops(["a", "b"]);
    let opened = stockbridge::store::Store::open(&config, &shops)
        .await
        .unwrap();
    let process = SuiteStore::new(opened);
    let mut listener = process.store.change_listener().unwrap();
    assert_eq!(listener.next().await, Some(ChangeNotice::Unknown));
    execute(&url, "SELECT pg_notify('stockbridge', 'appended x')").await;
    assert_eq!(listener.next().await, Some(ChangeNotice::Appended));
    execute(
        &url,
        "DO $$ BEGIN ASSERT (SELECT array_agg(DISTINCT usename::text ORDER BY usename::text) \
         FROM pg_stat_activity WHERE application_name = 'stockbridge') = \
         ARRAY['listener', 'reader']; END $$",
    )
    .await;
}

/// A start with another target changes the row of a shop that another process has locked.
#[tokio::test(flavor = "multi_thread")]
async fn changed_target_waits_for_an_append() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "target").await;
    let subject = database_subject(url.clone());
    let first = subject.open().await;
    first.store.close().await.unwrap();
    let mut changed = shops(["a", "b"]);
    changed[0].target = "another market".to_owned();
    // The statements of an append, in the middle of which another process starts.
    let mut appending = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; SELECT 1 FROM stockbridge.shop ORDER BY id FOR UPDATE";
    appending.execute(sqlx::raw_sql(lock)).await.unwrap();
    let mut opening = Box::pin(subject.try_open(&changed));
    let waiting = "SELECT count(*)::text FROM pg_locks WHERE NOT granted";
    while query_text(&url, waiting).await == "0" {
        assert!(timeout(SOON, &mut opening).await.is_err(), "it waits");
    }
    let update = "UPDATE stockbridge.shop SET ver = ver; COMMIT";
    let updating = appending.execute(sqlx::raw_sql(update));
    let (updated, opened) = tokio::join!(updating, opening);
    updated.unwrap();
    opened.unwrap().store.close().await.unwrap();
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

/// Renews the row of a process. Returns true if it had not ended.
async fn renew(process: &SuiteStore, name: &str) -> bool {
    let renewal = process.store.renew_replica(name, RenewalNeed::Always);
    renewal.await.unwrap().unwrap().was_alive
}

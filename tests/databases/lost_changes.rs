//! A database that lacks acknowledged changes, as after a failover to a standby that was behind.

use stockbridge::store::{Acked, StoreChange, StoreError};

use super::postgres_store::{database_subject, execute, new_database, query_text};
use super::server::DatabaseServer;
use super::service_process::{Market, Service, ServiceConfig, wait_until};
use super::store_suite::samples::{rows, shops};
use super::store_suite::test_store::{SHOP_A, StoredState, Subject, SuiteStore};

const TABLES: [&str; 6] = ["shop", "change", "snapshot", "spent", "note", "lease"];

/// Keeps a copy of all tables in the database.
pub(crate) async fn keep_copy(url: &str) {
    let copy =
        |table: &str| format!("CREATE TABLE older.{table} AS SELECT * FROM stockbridge.{table};");
    let copies = TABLES.map(copy).concat();
    execute(url, &format!("CREATE SCHEMA older; {copies}")).await;
}

/// Brings the database back to the copy.
pub(crate) async fn go_back(url: &str) {
    let restore = |table: &str| {
        format!(
            "DELETE FROM stockbridge.{table}; \
             INSERT INTO stockbridge.{table} SELECT * FROM older.{table};"
        )
    };
    execute(url, &TABLES.map(restore).concat()).await;
}

/// Returns a process that has the stock, and another one on the same database.
async fn two_processes(server: &DatabaseServer, name: &str) -> (String, [SuiteStore; 2]) {
    let url = new_database(server, name).await;
    let one = database_subject(url.clone()).open().await;
    one.fill().await;
    let other = database_subject(url.clone()).open().await;
    (url, [one, other])
}

/// Content of all processes after the loss: all stock, and the acknowledgements of the database.
fn expected(known: &StoredState, skus_with_lost_ack: std::ops::Range<i64>) -> StoredState {
    let mut expected = known.clone();
    for (sku, _) in rows(skus_with_lost_ack, 0) {
        let row = expected.stock.get_mut(&(0, sku.to_string())).unwrap();
        row.1 = Acked::default();
    }
    expected
}

/// Appends stock and acknowledgements that get lost.
async fn append_what_gets_lost(process: &SuiteStore) {
    process.append_stock(SHOP_A, &rows(0..40, 50)).await;
    let acked: Vec<_> = rows(20..30, 50)
        .into_iter()
        .map(|(sku, level)| (sku, Acked::new(level, level.updated_at.to_utc())))
        .collect();
    let change = StoreChange::Acked {
        shop: SHOP_A,
        rows: &acked,
    };
    process.append(change).await.unwrap();
    process.append_stock(SHOP_A, &rows(400..410, 50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_changes_are_appended_again() {
    let server = DatabaseServer::postgresql();
    let (url, [one, other]) = two_processes(&server, "lost").await;
    keep_copy(&url).await;
    append_what_gets_lost(&one).await;
    other.store.catch_up().await.unwrap();
    let known = one.contents();
    assert_eq!(other.contents(), known);
    go_back(&url).await;
    // A snapshot of what memory has would make the log unreadable.
    one.compact().await.unwrap();
    // Both notice it at once.
    let (first, second) = tokio::join!(one.store.catch_up(), other.store.catch_up());
    assert!(first.unwrap() && second.unwrap());
    one.store.catch_up().await.unwrap();
    other.store.catch_up().await.unwrap();
    let reports = [&one, &other].map(|process| process.store.take_recovered());
    let reports = reports.concat();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert_eq!((reports[0].skus, reports[0].acknowledgements), (50, 10));
    let expected = expected(&known, 20..30);
    for process in [&one, &other, &database_subject(url.clone()).open().await] {
        assert_eq!(process.contents(), expected);
    }
    // The order goes on, and compactions too.
    one.append_stock(SHOP_A, &rows(0..9, 90)).await;
    other.compact().await.unwrap();
    other.append_stock(SHOP_A, &rows(3..12, 95)).await;
    one.store.catch_up().await.unwrap();
    assert_eq!(one.contents(), other.contents());
    let last = database_subject(url).open().await;
    assert_eq!(last.contents(), one.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_changes_after_the_loss_stay() {
    let server = DatabaseServer::postgresql();
    let (url, [one, other]) = two_processes(&server, "branch").await;
    keep_copy(&url).await;
    append_what_gets_lost(&one).await;
    other.store.catch_up().await.unwrap();
    go_back(&url).await;
    // A process without memory of the lost changes appends newer and older ones.
    let fresh = database_subject(url.clone()).open().await;
    fresh.append_stock(SHOP_A, &rows(0..10, 70)).await;
    fresh.append_stock(SHOP_A, &rows(10..20, 30)).await;
    fresh.append_stock(SHOP_A, &rows(500..505, 30)).await;
    // An update of a process that has not noticed it is compared with the merged stock.
    let some = rows(5..15, 60);
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &some,
    };
    let outcome = other.store.append(&[change]).await.map(drop);
    assert!(matches!(outcome, Err(StoreError::Behind)), "{outcome:?}");
    for process in [&one, &fresh] {
        process.store.catch_up().await.unwrap();
        assert_eq!(process.contents(), other.contents());
    }
    let contents = other.contents();
    for (skus, micros) in [(0..10, 70), (10..40, 50), (400..410, 50), (500..505, 30)] {
        for (sku, level) in rows(skus, micros) {
            assert_eq!(contents.stock[&(0, sku.to_string())].0, level, "{sku}");
        }
    }
    assert_eq!(database_subject(url).open().await.contents(), contents);
}

/// A compaction replaces the place in the log where memory and database differ.
#[tokio::test(flavor = "multi_thread")]
async fn loss_before_a_snapshot_is_found() {
    let server = DatabaseServer::postgresql();
    // The database goes on until its log is longer than that in memory, or as long.
    for (name, micros) in [("longer", 60..70), ("equal", 60..61)] {
        let (url, [one, _]) = two_processes(&server, name).await;
        keep_copy(&url).await;
        append_what_gets_lost(&one).await;
        // It has read the lost changes at its start, so it does not know their place in the log.
        let late = database_subject(url.clone()).open().await;
        go_back(&url).await;
        let fresh = database_subject(url.clone()).open().await;
        for micros in micros {
            fresh.append_stock(SHOP_A, &rows(0..10, micros)).await;
            fresh.append_stock(SHOP_A, &rows(10..20, 30)).await;
            fresh.append_stock(SHOP_A, &rows(500..505, 30)).await;
        }
        fresh.compact().await.unwrap();
        for process in [&one, &late, &fresh, &one, &late] {
            process.store.catch_up().await.unwrap();
        }
        let contents = one.contents();
        for (skus, micros) in [(10..40, 50), (400..410, 50), (500..505, 30)] {
            for (sku, level) in rows(skus, micros) {
                assert_eq!(contents.stock[&(0, sku.to_string())].0, level, "{sku}");
            }
        }
        for process in [&late, &fresh, &database_subject(url).open().await] {
            assert_eq!(process.contents(), contents, "{name}");
        }
        let reports = [&one, &late].map(|process| process.store.take_recovered());
        let skus: Vec<_> = reports.concat().iter().map(|report| report.skus).collect();
        assert_eq!(skus, [40], "only the first one appends");
    }
}

/// A process that was stopped for long has nothing to append.
#[tokio::test(flavor = "multi_thread")]
async fn snapshot_without_a_loss_is_only_read() {
    let server = DatabaseServer::postgresql();
    let (url, [one, other]) = two_processes(&server, "behind").await;
    append_what_gets_lost(&one).await;
    other.store.catch_up().await.unwrap();
    one.append_stock(SHOP_A, &rows(0..300, 60)).await;
    one.compact().await.unwrap();
    one.append_stock(SHOP_A, &rows(0..10, 70)).await;
    let sql = "SELECT sum(ver)::text FROM stockbridge.shop";
    let end = query_text(&url, sql).await;
    other.store.catch_up().await.unwrap();
    assert_eq!(other.contents(), one.contents());
    assert_eq!(
        (other.store.take_recovered(), query_text(&url, sql).await),
        (vec![], end)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn database_with_another_history_is_refused() {
    let server = DatabaseServer::postgresql();
    let (url, [one, _]) = two_processes(&server, "older").await;
    keep_copy(&url).await;
    append_what_gets_lost(&one).await;
    // It has read the changes, but did not see them come.
    let late = database_subject(url.clone()).open().await;
    late.append_stock(SHOP_A, &rows(0..3, 60)).await;
    go_back(&url).await;
    let is_lost = |outcome: Result<bool, StoreError>| matches!(&outcome, Err(StoreError::LostChanges { shop, .. }) if shop == "a");
    assert!(is_lost(late.store.catch_up().await));
    assert!(is_lost(late.store.test_write().await.map(|()| true)));
    let fresh = database_subject(url.clone()).open().await;
    for micros in 70..90 {
        fresh.append_stock(SHOP_A, &rows(0..9, micros)).await;
        assert!(is_lost(late.store.catch_up().await));
    }
    // A shop that the database does not know at all.
    execute(&url, "DELETE FROM stockbridge.shop").await;
    assert!(is_lost(one.store.catch_up().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_recover_from_an_older_data_directory() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "failover").await;
    let config = |name: &str| {
        let settings = format!("replica = {name:?}\nsources_on = \"one\"");
        ServiceConfig::new(&market, &url, &settings)
    };
    let configs = [config("one"), config("two")];
    let [one, two] = [configs[0].serve(), configs[1].serve()];
    assert_eq!(one.put(&[("A", 1), ("B", 1)]), 200);
    // What a standby has that is some seconds behind.
    server.stop();
    server.keep_data();
    server.start();
    for (service, other) in [(&one, &two), (&two, &one)] {
        wait_until("updates are accepted", async || {
            service.put(&[("A", 2)]) == 200
        })
        .await;
        assert_eq!(other.put(&[("B", 3), ("C", 4)]), 200);
    }
    wait_until("the Market has the stock", async || {
        market.counts(&["A", "B", "C"]) == [Some(2), Some(3), Some(4)]
    })
    .await;
    let applied = market.simulator.report().skus_applied;
    server.stop();
    server.go_back_to_kept_data();
    server.start();
    let is_right = |service: &Service| match service.counts(&["A", "B", "C"]) {
        Ok(counts) => counts == [2, 3, 4],
        Err(status) => {
            assert_eq!(status, 503);
            false
        }
    };
    wait_until("both replicas answer", async || {
        is_right(&one) && is_right(&two)
    })
    .await;
    wait_until("the alarm is raised", async || {
        [&one, &two]
            .iter()
            .any(|it| it.has_alarm("database_lost_changes"))
    })
    .await;
    // The acknowledgements of the lost time are void. A running sender does not wait for its next
    // rescan, which is minutes away.
    wait_until("all stock is sent once more", async || {
        market.simulator.report().skus_applied >= applied + 3
    })
    .await;
    // A restarted replica has no memory of it, so the database has everything.
    let mut one = one;
    one.kill();
    execute(
        &url,
        "DELETE FROM stockbridge.lease WHERE name = 'replica one'",
    )
    .await;
    let one = configs[0].serve();
    assert_eq!(one.counts(&["A", "B", "C"]), Ok(vec![2, 3, 4]));
    wait_until("updates are accepted", async || one.put(&[("A", 5)]) == 200).await;
    assert_eq!(two.counts(&["A"]), Ok(vec![5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn single_process_recovers_too() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "alone").await;
    let config = ServiceConfig::new(&market, &url, "");
    let mut service = config.serve();
    assert_eq!(service.put(&[("A", 1)]), 200);
    server.stop();
    server.keep_data();
    server.start();
    wait_until("updates are accepted", async || {
        service.put(&[("A", 2)]) == 200
    })
    .await;
    server.stop();
    server.go_back_to_kept_data();
    server.start();
    wait_until("the alarm is raised", async || {
        service.has_alarm("database_lost_changes")
    })
    .await;
    assert_eq!(service.counts(&["A"]), Ok(vec![2]));
    service.kill();
    execute(&url, "DELETE FROM stockbridge.lease").await;
    let service = config.serve();
    assert_eq!(service.counts(&["A"]), Ok(vec![2]));
}

/// An acknowledgement of the old target would hide that the new one has no stock yet.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_of_an_old_target_are_refused() {
    let server = DatabaseServer::postgresql();
    let url = new_database(&server, "target").await;
    let subject = || -> Subject { database_subject(url.clone()) };
    let old = subject().open().await;
    old.fill().await;
    let mut identities = shops(["a", "b"]);
    identities[0].target = "campaign 2".to_owned();
    let new = subject().open_with(&identities).await;
    let known = new.contents();
    let acked: Vec<_> = rows(0..10, 1)
        .into_iter()
        .map(|(sku, level)| (sku, Acked::new(level, level.updated_at.to_utc())))
        .collect();
    let acknowledge = |shop| StoreChange::Acked { shop, rows: &acked };
    let outcome = old.store.append(&[acknowledge(SHOP_A)]).await.map(drop);
    assert!(
        matches!(&outcome, Err(StoreError::OtherTarget { shop, .. }) if shop == "a"),
        "{outcome:?}"
    );
    // Stock does not depend on the target, and the other shop has kept its own.
    old.append_stock(SHOP_A, &rows(0..3, 60)).await;
    old.append(acknowledge(super::store_suite::test_store::SHOP_B))
        .await
        .unwrap();
    new.append(acknowledge(SHOP_A)).await.unwrap();
    new.store.catch_up().await.unwrap();
    assert_ne!(new.contents(), known);
    let contents = new.contents();
    let is_acked = |number: usize| {
        let mut acked = contents
            .stock
            .iter()
            .filter(|((shop, _), (_, acked, _))| *shop == number && *acked != Acked::default());
        acked.next().is_some()
    };
    assert!(is_acked(0) && is_acked(1));
    assert_eq!(subject().open_with(&identities).await.contents(), contents);
}

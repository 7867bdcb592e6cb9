//! The service with its stock in a PostgreSQL database.

use super::postgres_store::{execute, new_database};
use super::server::DatabaseServer;
use super::service_process::{Market, ServiceConfig, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn service_survives_kills_and_restarts_of_the_database() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "service").await;
    let config = ServiceConfig::new(&market, &url, "");
    let mut service = config.serve();
    assert_eq!(service.put(&[("A", 5), ("B", 7)]), 200);
    service.kill();
    // The next process would wait some seconds for the end of the lease of a killed one.
    execute(&url, "DELETE FROM stockbridge.lease").await;
    let mut service = config.serve();
    assert_eq!(service.counts(&["A", "B"]), Ok(vec![5, 7]));
    // Without the database the Market gets its responses, and updates are refused.
    server.stop();
    assert_eq!(service.put(&[("A", 6)]), 503);
    // Nor is an update confirmed that would change nothing: another process may have changed it.
    assert_eq!(service.put(&[("B", 7)]), 503);
    assert_eq!(service.counts(&["A", "B"]), Ok(vec![5, 7]));
    assert!(service.has_alarm("store_failed"));
    server.start();
    wait_until("updates are accepted", async || {
        service.put(&[("A", 6)]) == 200
    })
    .await;
    wait_until("the alarm has ended", async || {
        !service.has_alarm("store_failed")
    })
    .await;
    assert_eq!(service.counts(&["A", "B"]), Ok(vec![6, 7]));
    wait_until("the Market has the stock", async || {
        market.counts(&["A", "B"]) == [Some(6), Some(7)]
    })
    .await;
    service.signal("-TERM");
    service.wait_for_exit().await;
    // An ordered stop gives the lease back.
    let service = config.serve();
    assert_eq!(service.counts(&["A", "B"]), Ok(vec![6, 7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn second_process_is_refused() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "twice").await;
    let first = ServiceConfig::new(&market, &url, "");
    let second = ServiceConfig::new(&market, &url, "");
    let service = first.serve();
    let output = tokio::task::block_in_place(|| second.command().output().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("the database is in use by service/"), "{log}");
    assert_eq!(service.put(&[("A", 5)]), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_error_names_the_setting() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = server.url().replace("/postgres?", "/nosuch?");
    let config = ServiceConfig::new(&market, &url, "");
    let output = tokio::task::block_in_place(|| config.command().output().unwrap());
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let cure = "does not exist; create it with CREATE DATABASE, or correct its name in the file of \
                store_url_file";
    assert!(log.contains(cure), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_name_is_the_reason_of_the_end() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "named").await;
    let config = ServiceConfig::new(&market, &url, "replica = \"one\"");
    let mut service = config.serve();
    // As after a stop of the process that was longer than its lease.
    let taken = "UPDATE stockbridge.lease SET owner = 'one/0000000f', \
                 until = now() + interval '1 h' WHERE name = 'replica one'";
    execute(&url, taken).await;
    let log = service.wait_for_exit().await;
    let last = log.lines().rfind(|line| line.contains("ERROR")).unwrap();
    assert!(
        last.contains("another process (one/0000000f) has taken the replica name one"),
        "{log}"
    );
    assert!(last.contains("set another name as replica"), "{log}");
    assert!(!log.contains("exited unexpectedly"), "{log}");
}

//! Files, and what the rules make of them.

use std::fs::File;
use std::time::{Duration, SystemTime};

use chrono::TimeDelta;
use lifecycle::Clock;
use tempfile::TempDir;

use super::{counts, with_source};
use crate::harness::{TestService, TestShop, dated_update};
use crate::program::run_with_ops;
use crate::wire::send;

/// A directory with a file of stock, and the shop that it feeds.
struct StockDirectory(TempDir);

impl StockDirectory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The stock, as it would lie there since so long.
    fn write_stock(&self, rows: &str, minutes: u64) {
        let path = self.write("stock.csv", &format!("Артикул;Остаток\n{rows}"));
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(minutes * 60))
            .unwrap();
    }

    fn shop(&self, shop: TestShop, more: &[&str]) -> TestShop {
        let path = format!("path = {:?}", self.0.path().join("stock.csv"));
        with_source(shop, "erp", "file", &[&[path.as_str()], more].concat())
    }
}

fn minutes_ago(minutes: i64) -> String {
    (Clock::wall().now() - TimeDelta::minutes(minutes)).to_rfc3339()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_ingested_once_across_restarts() {
    let directory = StockDirectory::new();
    directory.write_stock("A;5\nB;7\n", 1);
    let mut service = TestService::start(&[directory.shop(TestShop::moscow(), &[])]).await;
    let endpoints = service.endpoints();
    let source = endpoints
        .poll_source_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    assert_eq!(
        (&source["kind"], &source["last"]["rows"]),
        (&"file".into(), &2.into()),
        "{source}"
    );
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "B").unwrap().count, 7);
    endpoints.feed(service.shop(), &[("A", 1)]).await;
    service.restart().await;
    let endpoints = service.endpoints();
    for _ in 0..3 {
        endpoints.request_poll("erp").await;
        assert_eq!(endpoints.source("erp").await.unwrap()["state"], "waiting");
    }
    assert_eq!(
        endpoints.counts(service.shop(), &["A", "B"]).await,
        counts(&[("A", 1), ("B", 7)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_source_of_unapplied_absence() {
    let rows = |count: u32| {
        (0..count)
            .map(|at| format!("S-{at};5\n"))
            .collect::<String>()
    };
    let directory = StockDirectory::new();
    directory.write_stock(&rows(300), 20);
    let settings = ["scope = \"snapshot\"", "absent = \"zero\""];
    let service = TestService::start(&[directory.shop(TestShop::moscow(), &settings)]).await;
    let endpoints = service.endpoints();
    endpoints
        .poll_source_until("erp", "it is taken", |it| it["last"]["rows"] == 300)
        .await;
    // Which SKU the last row names is not known: it may be the absent one.
    directory.write_stock(&format!("{}01.фев;3\n", rows(299)), 10);
    endpoints
        .poll_source_until("erp", "it is taken", |it| it["last"]["rows"] == 299)
        .await;
    service.wait_settled().await;
    let (code, stdout, _) = run_with_ops(endpoints, &["verify"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout.contains("OPEN  absence not applied, source moscow/erp: "),
        "{stdout}"
    );
    assert!(
        stdout.contains("01.фев"),
        "the row that prevents it: {stdout}"
    );
    directory.write_stock(&rows(299), 0);
    endpoints
        .poll_source_until("erp", "it is taken", |it| it["last"]["zeroed"] == 1)
        .await;
    service.wait_settled().await;
    let (code, stdout, _) = run_with_ops(endpoints, &["verify"]);
    assert_eq!(
        (code, stdout.contains("absence")),
        (Some(0), false),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_held_delivery_states_unapplied_absence() {
    let directory = StockDirectory::new();
    let rows = |count: u32, pieces: u32| -> String {
        let rows = (0..count).map(|n| format!("S-{n};{pieces}\n"));
        rows.collect()
    };
    directory.write_stock(&rows(300, 5), 20);
    let settings = ["scope = \"snapshot\"", "absent = \"zero\""];
    let service = TestService::start(&[directory.shop(TestShop::moscow(), &settings)]).await;
    let endpoints = service.endpoints();
    endpoints
        .poll_source_until("erp", "it is applied", |it| it["last"]["rows"] == 300)
        .await;
    directory.write_stock(&format!("{}01.фев;3\n", rows(299, 0)), 10);
    endpoints
        .poll_source_until("erp", "it is held", |it| it["state"] == "held")
        .await;
    let headers = [("Accept", "text/html"), ("Accept-Language", "ru")];
    let held = "/sources/moscow/erp/held";
    let page = send(endpoints.ops, "GET", held, &headers, b"").await.text();
    assert!(
        page.contains("отсутствующие SKU не будут обнулены"),
        "{page}"
    );
    assert!(page.contains("01.фев"), "the row that prevents it: {page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_file_and_program_wins() {
    let directory = StockDirectory::new();
    let service = TestService::start(&[directory.shop(TestShop::moscow(), &[])]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    for (sku, minutes) in [("NEWER", 1), ("OLDER", 20)] {
        let response = endpoints
            .put(shop, dated_update(sku, 1, &minutes_ago(minutes)).as_bytes())
            .await;
        assert_eq!(response.status, 200);
    }
    directory.write_stock("NEWER;9\nOLDER;9\n", 10);
    let source = endpoints
        .poll_source_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    assert_eq!(
        (&source["last"]["outdated"], &source["last"]["changed"]),
        (&1.into(), &1.into())
    );
    let skus = ["NEWER", "OLDER"];
    assert_eq!(
        endpoints.counts(shop, &skus).await,
        counts(&[("NEWER", 1), ("OLDER", 9)])
    );
    // What the program says now is later than the file, and what the next file says is later
    // than that.
    endpoints.feed(shop, &[("OLDER", 2)]).await;
    assert_eq!(
        endpoints.counts(shop, &skus).await,
        counts(&[("NEWER", 1), ("OLDER", 2)])
    );
    directory.write_stock("NEWER;8\nOLDER;8\n", 0);
    endpoints
        .poll_source_until("erp", "it is taken", |it| it["last"]["changed"] == 2)
        .await;
    assert_eq!(
        endpoints.counts(shop, &skus).await,
        counts(&[("NEWER", 8), ("OLDER", 8)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_apply_without_reading_files_again() {
    let directory = StockDirectory::new();
    directory.write_stock("A;50\nB;9\nbolt;35\n", 1);
    let mapping = directory.write("mapping.csv", "source_sku;sku;pack\nbolt;BOLT-10;10\n");
    let overrides = directory.write(
        "overrides.csv",
        "sku;count;buffer;zero_below;cap\nB;;0;;\nC;4;;;\n",
    );
    let mapping = format!("mapping_file = {mapping:?}");
    let mut service = TestService::start(&[directory.shop(TestShop::moscow(), &[&mapping])]).await;
    let skus = ["A", "B", "BOLT-10", "bolt"];
    let endpoints = service.endpoints();
    endpoints
        .poll_source_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    let plain_stock = counts(&[("A", 50), ("B", 9), ("BOLT-10", 3)]);
    assert_eq!(endpoints.counts(service.shop(), &skus).await, plain_stock);
    let ruled = TestShop::moscow()
        .set("buffer = 2")
        .set("cap = 20")
        .set(&format!("overrides_file = {overrides:?}"));
    let shops = [directory.shop(ruled, &[&mapping])];
    service.restart_with_config(&shops, "").await;
    assert_eq!(
        service.endpoints().source("erp").await.unwrap()["state"],
        "waiting"
    );
    let ruled_stock = counts(&[("A", 20), ("B", 9), ("BOLT-10", 1)]);
    assert_eq!(
        service.endpoints().counts(service.shop(), &skus).await,
        ruled_stock
    );
    service
        .restart_with_config(&[directory.shop(TestShop::moscow(), &[&mapping])], "")
        .await;
    assert_eq!(
        service.endpoints().counts(service.shop(), &skus).await,
        plain_stock
    );
    // A slip of the pen that would empty the shop waits for a word.
    let wrong_rules = [directory.shop(TestShop::moscow().set("buffer = 1000"), &[&mapping])];
    service.restart_with_config(&wrong_rules, "").await;
    let endpoints = service.endpoints();
    assert!(endpoints.has_alarm("source_held", "moscow/rules").await);
    assert_eq!(endpoints.counts(service.shop(), &skus).await, plain_stock);
    let (status, body) = endpoints
        .ops_request("POST", "/accept?source=rules", "")
        .await;
    assert_eq!((status, body), (200, serde_json::json!(["moscow"])));
    let zero_stock = counts(&[("A", 0), ("B", 0), ("BOLT-10", 0)]);
    assert_eq!(endpoints.counts(service.shop(), &skus).await, zero_stock);
    assert!(!endpoints.has_alarm("source_held", "moscow/rules").await);
}

//! Tests of polls with the pipeline: files that are imported, rejected, held or joined, and pages
//! in place of a download.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use connectors::files::{self, FileWatcher};
use connectors::http_file::{self, HttpFile};
use lifecycle::Clock;
use stock_import::ReadSettings;
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::ShopRules;
use strict_http::test_server::serve;
use strict_http::{ClientConfig, Trust};
use tempfile::TempDir;

use super::poll_loop::SourcePoller;
use crate::sources::pipeline::tests::{PipelineHarness, stock, test_policy, zero_absent_policy};
use crate::sources::{
    DeliveryOutcome, DeliveryReport, DuplicatePolicy, SourcePolicy, SourceWarehouses,
};

const HEADER: &str = "Артикул;Остаток\n";

/// Digests of the settings of reading before and after a change.
const OLD_DIGEST: &str = "5e771465";
const NEW_DIGEST: &str = "c4a26ed0";

/// Shop with a source of files, and the directory of these files.
struct FileShop {
    harness: PipelineHarness,
    directory: TempDir,
    watcher: SourcePoller<FileWatcher>,
    config: files::Config,
}

impl FileShop {
    async fn new(pattern: &str) -> Self {
        Self::with_policy(pattern, unset_scope_policy(), false).await
    }

    async fn with_policy(pattern: &str, policy: SourcePolicy, is_one_delivery: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = files::Config {
            path: directory.path().join(pattern),
            format: None,
            is_one_delivery,
        };
        Self {
            harness: PipelineHarness::new(vec![policy], ShopRules::default()).await,
            directory,
            watcher: poller(&config, OLD_DIGEST),
            config,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Writes a file that was last changed that many minutes ago.
    fn write_old(&self, name: &str, bytes: impl AsRef<[u8]>, minutes: u64) {
        self.write(name, bytes);
        let file = File::options().write(true).open(self.path(name)).unwrap();
        let changed = SystemTime::now() - Duration::from_secs(minutes * 60);
        file.set_modified(changed).unwrap();
    }

    /// Restarts the shop with other settings.
    async fn restart(mut self, policy: SourcePolicy, read_digest: &str) -> Self {
        self.harness = self
            .harness
            .restart(vec![policy], ShopRules::default())
            .await;
        self.watcher = poller(&self.config, read_digest);
        self
    }

    async fn poll(&mut self) -> Vec<DeliveryReport> {
        self.try_poll().await.unwrap()
    }

    async fn try_poll(&mut self) -> Result<Vec<DeliveryReport>, String> {
        let (now, no_skus) = (Clock::wall().now(), Arc::new(Vec::new));
        self.watcher
            .poll(&self.harness.pipeline, 0, now, no_skus)
            .await
    }

    /// Polls twice, which imports the files that do not change in between.
    async fn poll_twice(&mut self) -> Vec<DeliveryReport> {
        let mut reports = self.poll().await;
        reports.extend(self.poll().await);
        reports
    }

    fn last_failure(&self) -> Option<String> {
        let status = self.harness.pipeline.status(0);
        status.last_failure.map(|(_, text)| text)
    }
}

fn poller(config: &files::Config, read_digest: &str) -> SourcePoller<FileWatcher> {
    let watcher = FileWatcher::new(config.clone(), ReadSettings::default());
    SourcePoller::new(watcher, read_digest)
}

fn unset_scope_policy() -> SourcePolicy {
    SourcePolicy {
        scope: None,
        ..test_policy("erp")
    }
}

fn csv(rows: &[(&str, u32)]) -> String {
    rows.iter().fold(HEADER.to_owned(), |text, (sku, count)| {
        format!("{text}{sku};{count}\n")
    })
}

#[tokio::test]
async fn an_older_file_that_arrives_later_is_the_newest() {
    let mut shop = FileShop::new("").await;
    shop.write_old("a.csv", csv(&[("A", 3)]), 1);
    shop.write_old("b.csv", csv(&[("A", 2), ("B", 2)]), 2);
    assert_eq!(shop.poll_twice().await.len(), 2);
    shop.write_old("c.csv", csv(&[("B", 9)]), 4);
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("A", 3), ("B", 9)]));
}

#[tokio::test]
async fn imports_nothing_twice_over_a_restart() {
    let mut shop = FileShop::new("").await;
    shop.write("a.csv", csv(&[("A", 5)]));
    shop.write("b.csv", "<html><title>Login</title></html>");
    assert_eq!(shop.poll_twice().await.len(), 1);
    shop = shop.restart(unset_scope_policy(), OLD_DIGEST).await;
    shop.harness.put_stock("A", 1).await;
    shop.poll_twice().await;
    assert_eq!(shop.harness.stock(), stock([("A", 1)]));
    assert_eq!(shop.harness.pipeline.status(0).failed_total, 0);
}

/// Policy that applies a file although many of its rows are rejected.
fn duplicates_policy(duplicates: DuplicatePolicy) -> SourcePolicy {
    SourcePolicy {
        duplicates,
        limits: GuardLimits {
            max_rejected_ratio: 1.0,
            ..GuardLimits::default()
        },
        ..unset_scope_policy()
    }
}

#[tokio::test]
async fn changed_settings_read_an_unchanged_file_again() {
    let policy = duplicates_policy(DuplicatePolicy::Reject);
    let mut shop = FileShop::with_policy("stock.csv", policy, false).await;
    shop.write("stock.csv", csv(&[("A", 5), ("A", 2), ("B", 1)]));
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("B", 1)]));
    // What a program has stated since the file was read is newer than the file.
    shop.harness.put_stock("B", 9).await;
    let policy = duplicates_policy(DuplicatePolicy::Sum);
    shop = shop.restart(policy.clone(), NEW_DIGEST).await;
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("A", 7), ("B", 9)]));
    shop = shop.restart(policy, NEW_DIGEST).await;
    assert_eq!(shop.poll_twice().await.len(), 0);
}

#[tokio::test]
async fn retries_unreadable_files_only_when_they_change() {
    let mut shop = FileShop::new("stock.csv").await;
    shop.write(
        "stock.csv",
        "<!DOCTYPE html><html><body>Войдите</body></html>",
    );
    assert!(shop.poll_twice().await.is_empty());
    let failure = shop.last_failure().unwrap();
    assert!(failure.contains("stock.csv"), "{failure}");
    assert!(shop.poll_twice().await.is_empty());
    assert_eq!(shop.harness.pipeline.status(0).failed_total, 1);
    assert_eq!(shop.harness.alarms(), ["source_failed"]);
    shop.write("stock.csv", csv(&[("A", 5)]));
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(
        (shop.last_failure(), shop.harness.alarms()),
        (None, Vec::new())
    );
}

#[tokio::test]
async fn held_files_are_held_once_and_can_be_accepted() {
    let mut shop = FileShop::with_policy("stock.csv", zero_absent_policy(), false).await;
    let full = csv(&[("A", 5), ("B", 5), ("C", 5), ("D", 5)]);
    shop.write("stock.csv", full);
    shop.poll_twice().await;
    let half_sold_out = csv(&[("A", 0), ("B", 0), ("C", 5), ("D", 5)]);
    shop.write("stock.csv", half_sold_out);
    let reports = shop.poll_twice().await;
    assert!(
        matches!(reports[0].outcome, DeliveryOutcome::Held(_)),
        "{reports:?}"
    );
    assert!(shop.poll_twice().await.is_empty());
    assert_eq!(shop.harness.stock()["A"], 5);
    shop.harness.pipeline.accept("erp", None).await.unwrap();
    let expected = [("A", 0), ("B", 0), ("C", 5), ("D", 5)];
    assert_eq!(shop.harness.stock(), stock(expected));
}

#[tokio::test]
async fn joins_the_files_of_a_1c_export() {
    let policy = SourcePolicy {
        scope: None,
        warehouses: SourceWarehouses::All,
        limits: GuardLimits {
            max_rejected_ratio: 1.0,
            ..GuardLimits::default()
        },
        ..test_policy("1c")
    };
    let mut shop = FileShop::with_policy("", policy, true).await;
    let fixture = |name: &str| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sources");
        std::fs::read_to_string(directory.join(name)).unwrap()
    };
    // By time the offers would come first; the role puts the catalogue, which has the SKUs, first.
    shop.write_old("import0_1.xml", fixture("import.xml"), 1);
    shop.write_old("offers0_1.xml", fixture("offers.xml"), 3);
    shop.poll().await;
    shop.write_old("rests0_1.xml", fixture("rests.xml"), 2);
    assert_eq!(shop.poll().await.len(), 0, "one of the files is new");
    let reports = shop.poll().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(shop.harness.stock()["ART-9"], 210);
    assert!(shop.poll_twice().await.is_empty());
    // One new file is a new export of all files.
    let changed = fixture("rests.xml").replace(">201<", ">1<");
    shop.write("rests0_1.xml", changed);
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock()["ART-9"], 10);
}

#[tokio::test]
async fn login_pages_are_rejected_and_polled_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let router = Router::new().fallback(async move |request: Request| {
        assert!(
            !request.headers().contains_key(IF_NONE_MATCH),
            "the validators of a rejected page were saved"
        );
        counted.fetch_add(1, Ordering::Relaxed);
        let page = "<!DOCTYPE html><html><title>Вход</title><body><form></form></body></html>";
        ([(CONTENT_TYPE, "text/html"), (ETAG, "\"login\"")], page)
    });
    let server = serve(router).await;
    let harness = PipelineHarness::new(vec![unset_scope_policy()], ShopRules::default()).await;
    let config = http_file::Config {
        url: format!("{}/stock.csv", server.url).parse().unwrap(),
        login: None,
        format: None,
    };
    let build_client = |wanted| {
        strict_http::client(&ClientConfig {
            trust: Trust::PlainHttpOnly,
            ..wanted
        })
    };
    let clients = config.clients(build_client).unwrap();
    let mut poller = SourcePoller::new(
        HttpFile::new(config, ReadSettings::default(), clients),
        OLD_DIGEST,
    );
    for _ in 0..2 {
        let (now, no_skus) = (Clock::wall().now(), Arc::new(Vec::new));
        let reports = poller.poll(&harness.pipeline, 0, now, no_skus).await;
        assert_eq!(reports.unwrap().len(), 0);
        let (_, failure) = harness.pipeline.status(0).last_failure.unwrap();
        assert!(failure.contains("page"), "{failure}");
    }
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    assert!(harness.stock().is_empty());
    assert_eq!(harness.alarms(), ["source_failed"]);
}

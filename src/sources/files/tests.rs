//! Tests of the file watcher: growing and replaced files, links, restarts, and exports of several
//! files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use lifecycle::Clock;
use stock_import::DeliveryScope;
use stock_import::delivery_guard::GuardLimits;
use stock_import::formats::FileSummary;
use stock_import::stock_rules::ShopRules;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::found_file::open_file;
use super::*;
use crate::sources::manager::poll_loop::SourcePoller;
use crate::sources::pipeline::tests::{PipelineHarness, stock, test_policy, zero_absent_policy};
use crate::sources::{DeliveryOutcome, DeliveryReport, SourcePolicy, SourceWarehouses};

const HEADER: &str = "Артикул;Остаток\n";

/// Shop with a source of files, and the directory of these files.
struct FileShop {
    harness: PipelineHarness,
    directory: TempDir,
    watcher: SourcePoller<FileWatcher>,
    config: Config,
}

impl FileShop {
    async fn new(pattern: &str) -> Self {
        Self::with_policy(pattern, unset_scope_policy(), false).await
    }

    async fn with_policy(pattern: &str, policy: SourcePolicy, is_one_delivery: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            path: directory.path().join(pattern),
            format: None,
            is_one_delivery,
        };
        Self {
            harness: PipelineHarness::new(vec![policy], ShopRules::default()).await,
            directory,
            watcher: poller(&config),
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

fn poller(config: &Config) -> SourcePoller<FileWatcher> {
    SourcePoller::new(FileWatcher::new(config.clone(), ReadSettings::default()))
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
async fn imports_a_growing_file_once_when_it_is_complete() {
    let mut shop = FileShop::new("stock.csv").await;
    let growing = [
        csv(&[("A", 5)]),
        csv(&[("A", 5), ("B", 6)]),
        csv(&[("A", 5), ("B", 7)]),
    ];
    for (age, text) in (0..3).rev().zip(&growing) {
        // The last two have the same length, so only the time shows the change.
        shop.write_old("stock.csv", text, age);
        assert_eq!(shop.poll().await.len(), 0);
        assert!(shop.harness.stock().is_empty());
    }
    assert_eq!(shop.poll().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("A", 5), ("B", 7)]));
    shop.harness.put_stock("A", 1).await;
    assert_eq!(shop.poll_twice().await.len(), 0);
    assert_eq!(shop.harness.stock()["A"], 1);
}

#[tokio::test]
async fn imports_replaced_files() {
    let mut shop = FileShop::new("stock.csv").await;
    let missing = shop.try_poll().await;
    assert!(missing.is_err(), "a file named in the settings must exist");
    shop.write("stock.csv", csv(&[("A", 5)]));
    assert_eq!(shop.poll_twice().await.len(), 1);
    shop.write("stock.csv.new", csv(&[("A", 6)]));
    std::fs::rename(shop.path("stock.csv.new"), shop.path("stock.csv")).unwrap();
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("A", 6)]));
    // Some programs empty a file for a moment; one poll of the empty file does not import it.
    shop.write("stock.csv", "");
    assert!(shop.poll().await.is_empty());
    shop.write("stock.csv", csv(&[("A", 7)]));
    assert_eq!(shop.poll_twice().await.len(), 1);
    assert_eq!(shop.harness.stock(), stock([("A", 7)]));
}

#[test]
fn rejects_files_that_change_during_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stock.csv");
    // More rows than the channel holds, so the reader blocks in the middle of the file.
    let many: Vec<String> = (0..20_000).map(|n| format!("S-{n};1\n")).collect();
    std::fs::write(&path, format!("{HEADER}{}", many.concat())).unwrap();
    let found = find_files(&path).unwrap();
    let settings = ReadSettings::default();
    let read = |mut rows: EntrySender| {
        let result = read_delivery(&found, None, &settings, directory.path(), &mut rows);
        result.map(drop).map_err(|error| {
            assert!(error.is_temporary);
            error.message
        })
    };
    let (rows, mut receiver) = EntrySender::channel();
    let result = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(rows));
        assert!(receiver.blocking_recv().is_some());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"S-0;2\n").unwrap();
        while receiver.blocking_recv().is_some() {}
        reader.join().unwrap()
    });
    let error = result.unwrap_err();
    assert!(
        error.ends_with("stock.csv changed while it was read"),
        "{error}"
    );
    let (rows, _receiver) = EntrySender::channel();
    let error = read(rows).unwrap_err();
    assert!(
        error.ends_with("stock.csv was replaced just now"),
        "{error}"
    );
}

#[tokio::test]
async fn follows_only_links_named_in_the_settings() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.csv");
    std::fs::write(&target, csv(&[("A", 5)])).unwrap();
    for (pattern, imported) in [("", 0), ("*.csv", 0), ("stock.csv", 1)] {
        let mut shop = FileShop::new(pattern).await;
        symlink(&target, shop.path("stock.csv")).unwrap();
        assert_eq!(shop.poll_twice().await.len(), imported, "{pattern}");
    }
    // A link that replaces the file after the listing.
    let link = elsewhere.path().join("link.csv");
    symlink(&target, &link).unwrap();
    assert!(open_file(&link, false).is_err());
    assert!(open_file(&link, true).is_ok());
}

#[tokio::test]
async fn imports_a_directory_oldest_file_first() {
    for pattern in ["", "*.csv*"] {
        let mut shop = FileShop::new(pattern).await;
        shop.write_old("a.csv", csv(&[("A", 3), ("C", 3)]), 1);
        shop.write_old("b.csv", csv(&[("A", 2), ("B", 2), ("C", 2)]), 2);
        shop.write_old("c.csv", csv(&[("A", 1), ("D", 1)]), 3);
        for name in [
            ".csv",
            "~$d.csv",
            "d.csv.tmp",
            "d.csv.part",
            "d.csv.filepart",
        ] {
            shop.write(name, csv(&[("UNFINISHED", 1)]));
        }
        std::fs::create_dir(shop.path("old.csv")).unwrap();
        assert_eq!(shop.poll_twice().await.len(), 3, "{pattern}");
        let expected = [("A", 3), ("B", 2), ("C", 3), ("D", 1)];
        assert_eq!(shop.harness.stock(), stock(expected));
        // An older file that arrives later is the newest delivery.
        shop.write_old("e.csv", csv(&[("B", 9)]), 4);
        assert_eq!(shop.poll_twice().await.len(), 1);
        assert_eq!(shop.harness.stock()["B"], 9);
    }
}

#[tokio::test]
async fn imports_nothing_twice_over_a_restart() {
    let mut shop = FileShop::new("").await;
    shop.write("a.csv", csv(&[("A", 5)]));
    shop.write("b.csv", "<html><title>Login</title></html>");
    assert_eq!(shop.poll_twice().await.len(), 1);
    let policies = vec![unset_scope_policy()];
    shop.harness = shop.harness.restart(policies, ShopRules::default()).await;
    shop.watcher = poller(&shop.config);
    shop.harness.put_stock("A", 1).await;
    shop.poll_twice().await;
    assert_eq!(shop.harness.stock(), stock([("A", 1)]));
    assert_eq!(shop.harness.pipeline.status(0).failed_total, 0);
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
async fn imports_packed_files() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(csv(&[("A", 5)]).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("stock.csv", SimpleFileOptions::default())
        .unwrap();
    zip.write_all(csv(&[("A", 5)]).as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    for (name, bytes) in [("stock.csv.gz", gzip), ("stock.zip", zip)] {
        let mut shop = FileShop::new(name).await;
        shop.write(name, &bytes[..bytes.len() - 3]);
        assert!(
            shop.poll_twice().await.is_empty(),
            "{name} is truncated and was imported"
        );
        assert!(shop.last_failure().is_some());
        shop.write(name, &bytes);
        assert_eq!(shop.poll_twice().await.len(), 1, "{name}");
        assert_eq!(shop.harness.stock(), stock([("A", 5)]));
    }
}

#[test]
fn one_delta_makes_the_delivery_a_delta() {
    let (snapshot, delta) = (Some(DeliveryScope::Snapshot), Some(DeliveryScope::Delta));
    for (scopes, combined) in [
        (&[][..], None),
        (&[None, snapshot], snapshot),
        (&[snapshot, delta, snapshot], delta),
    ] {
        let summaries: Vec<_> = scopes
            .iter()
            .copied()
            .map(FileSummary::with_scope)
            .collect();
        assert_eq!(combined_scope(&summaries), combined);
    }
}

//! Tests of the file watcher: growing and replaced files, links, directories and packed files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use stock_import::DeliveryScope;
use stock_import::formats::FileSummary;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::found_file::open_file;
use super::*;
use crate::row_collector::{self, CollectedDelivery};

const HEADER: &str = "Артикул;Остаток\n";

/// Directory with files, and a watcher of it.
struct WatchedDirectory {
    directory: TempDir,
    watcher: FileWatcher,
}

impl WatchedDirectory {
    fn new(pattern: &str) -> Self {
        Self::with_parts(pattern, false)
    }

    fn with_parts(pattern: &str, is_one_delivery: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            path: directory.path().join(pattern),
            format: None,
            is_one_delivery,
        };
        Self {
            directory,
            watcher: FileWatcher::new(config, ReadSettings::default()),
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

    async fn try_poll(&mut self) -> Result<Vec<CollectedDelivery>, String> {
        row_collector::poll(&mut self.watcher).await
    }

    /// Polls once, and returns SKU and quantity of the rows of each delivery.
    async fn poll(&mut self) -> Vec<Vec<(String, String)>> {
        let deliveries = self.try_poll().await.unwrap();
        let complete = deliveries.iter().filter(|delivery| delivery.report.is_ok());
        complete.map(CollectedDelivery::quantities).collect()
    }

    /// Polls twice, which reads the files that do not change in between.
    async fn poll_twice(&mut self) -> Vec<Vec<(String, String)>> {
        let mut deliveries = self.poll().await;
        deliveries.extend(self.poll().await);
        deliveries
    }
}

fn csv(rows: &[(&str, u32)]) -> String {
    rows.iter().fold(HEADER.to_owned(), |text, (sku, count)| {
        format!("{text}{sku};{count}\n")
    })
}

fn quantities(rows: &[(&str, u32)]) -> Vec<(String, String)> {
    let rows = rows.iter();
    rows.map(|(sku, count)| ((*sku).to_owned(), count.to_string()))
        .collect()
}

#[tokio::test]
async fn imports_a_growing_file_once_when_it_is_complete() {
    let mut files = WatchedDirectory::new("stock.csv");
    let growing = [
        csv(&[("A", 5)]),
        csv(&[("A", 5), ("B", 6)]),
        csv(&[("A", 5), ("B", 7)]),
    ];
    for (age, text) in (0..3).rev().zip(&growing) {
        // The last two have the same length, so only the time shows the change.
        files.write_old("stock.csv", text, age);
        assert_eq!(files.poll().await.len(), 0);
    }
    assert_eq!(files.poll().await, [quantities(&[("A", 5), ("B", 7)])]);
    assert_eq!(files.poll_twice().await.len(), 0);
}

#[tokio::test]
async fn imports_replaced_files() {
    let mut files = WatchedDirectory::new("stock.csv");
    let missing = files.try_poll().await;
    assert!(missing.is_err(), "a file named in the settings must exist");
    files.write("stock.csv", csv(&[("A", 5)]));
    assert_eq!(files.poll_twice().await, [quantities(&[("A", 5)])]);
    files.write("stock.csv.new", csv(&[("A", 6)]));
    std::fs::rename(files.path("stock.csv.new"), files.path("stock.csv")).unwrap();
    assert_eq!(files.poll_twice().await, [quantities(&[("A", 6)])]);
    // Some programs empty a file for a moment; one poll of the empty file does not import it.
    files.write("stock.csv", "");
    assert!(files.poll().await.is_empty());
    files.write("stock.csv", csv(&[("A", 7)]));
    assert_eq!(files.poll_twice().await, [quantities(&[("A", 7)])]);
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
        let mut files = WatchedDirectory::new(pattern);
        symlink(&target, files.path("stock.csv")).unwrap();
        assert_eq!(files.poll_twice().await.len(), imported, "{pattern}");
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
        let mut files = WatchedDirectory::new(pattern);
        files.write_old("a.csv", csv(&[("A", 3), ("C", 3)]), 1);
        files.write_old("b.csv", csv(&[("A", 2), ("B", 2), ("C", 2)]), 2);
        files.write_old("c.csv", csv(&[("A", 1), ("D", 1)]), 3);
        for name in [
            ".csv",
            "~$d.csv",
            "d.csv.tmp",
            "d.csv.part",
            "d.csv.filepart",
        ] {
            files.write(name, csv(&[("UNFINISHED", 1)]));
        }
        std::fs::create_dir(files.path("old.csv")).unwrap();
        let expected = [
            quantities(&[("A", 1), ("D", 1)]),
            quantities(&[("A", 2), ("B", 2), ("C", 2)]),
            quantities(&[("A", 3), ("C", 3)]),
        ];
        assert_eq!(files.poll_twice().await, expected, "{pattern}");
        // An older file that arrives later is a delivery too.
        files.write_old("e.csv", csv(&[("B", 9)]), 4);
        assert_eq!(files.poll_twice().await, [quantities(&[("B", 9)])]);
    }
}

#[tokio::test]
async fn files_in_force_are_read_again() {
    for (is_one_delivery, expected) in [
        (false, quantities(&[("B", 2)])),
        (true, quantities(&[("A", 1), ("B", 2)])),
    ] {
        let mut files = WatchedDirectory::with_parts("", is_one_delivery);
        files.write_old("a.csv", csv(&[("A", 1)]), 2);
        files.write_old("b.csv", csv(&[("B", 2)]), 1);
        files.poll_twice().await;
        assert_eq!(files.poll_twice().await.len(), 0);
        files.watcher.read_again();
        assert_eq!(files.poll_twice().await, [expected]);
        assert_eq!(files.poll_twice().await.len(), 0);
    }
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
        let mut files = WatchedDirectory::new(name);
        files.write(name, &bytes[..bytes.len() - 3]);
        assert_eq!(files.poll().await.len(), 0);
        let truncated = files.try_poll().await.unwrap();
        let failure = truncated[0].report.as_ref().unwrap_err();
        assert!(!failure.is_temporary, "{failure:?}");
        files.write(name, &bytes);
        assert_eq!(
            files.poll_twice().await,
            [quantities(&[("A", 5)])],
            "{name}"
        );
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

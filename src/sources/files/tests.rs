use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::sources::guard::Limits;
use crate::sources::intake::tests::{House, stock, taking, zeroing};
use crate::sources::rules::ShopRules;
use crate::sources::{Outcome, Taking, Warehouses};

const HEAD: &str = "Артикул;Остаток\n";

/// A shop with a source of files, and the directory they are put into.
struct Shop {
    house: House,
    place: TempDir,
    files: Files,
}

impl Shop {
    async fn new(pattern: &str) -> Self {
        Self::with(pattern, Taking { scope: None, ..taking("erp") }, false).await
    }

    async fn with(pattern: &str, taking: Taking, is_one: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(pattern);
        let config = Config { path, format: None, is_one };
        let house = House::new(vec![taking], ShopRules::default()).await;
        Self { house, place, files: Files::new(config, Reading::default()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The same, as it would lie there since so long.
    fn put_old(&self, name: &str, bytes: impl AsRef<[u8]>, minutes: u64) {
        self.put(name, bytes);
        let file = File::options().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(minutes * 60)).unwrap();
    }

    async fn look(&mut self) -> Vec<Receipt> {
        self.files.look(&self.house.intake, 0).await.unwrap()
    }

    /// Looks twice: what stands still is taken.
    async fn take(&mut self) -> Vec<Receipt> {
        let mut receipts = self.look().await;
        receipts.extend(self.look().await);
        receipts
    }

    fn failure(&self) -> Option<String> {
        self.house.intake.standing(0).failure.map(|(_, text)| text)
    }
}

fn rows(rows: &[(&str, u32)]) -> String {
    rows.iter().fold(HEAD.to_owned(), |text, (sku, count)| format!("{text}{sku};{count}\n"))
}

#[tokio::test]
async fn a_growing_file_is_taken_when_it_stands_still_and_then_never_again() {
    let mut shop = Shop::new("stock.csv").await;
    let growing = [rows(&[("A", 5)]), rows(&[("A", 5), ("B", 6)]), rows(&[("A", 5), ("B", 7)])];
    for (age, text) in (0..3).rev().zip(&growing) {
        // Of the same length the last time: the date tells.
        shop.put_old("stock.csv", text, age);
        assert_eq!(shop.look().await.len(), 0);
        assert!(shop.house.stock().is_empty());
    }
    assert_eq!(shop.look().await.len(), 1);
    assert_eq!(shop.house.stock(), stock([("A", 5), ("B", 7)]));
    shop.house.put("A", 1).await;
    assert_eq!(shop.take().await.len(), 0);
    assert_eq!(shop.house.stock()["A"], 1);
}

#[tokio::test]
async fn a_file_that_replaces_another_by_its_name_is_taken_and_so_is_one_that_comes_back() {
    let mut shop = Shop::new("stock.csv").await;
    assert!(shop.files.look(&shop.house.intake, 0).await.is_err(), "a file that is named is due");
    shop.put("stock.csv", rows(&[("A", 5)]));
    assert_eq!(shop.take().await.len(), 1);
    shop.put("stock.csv.new", rows(&[("A", 6)]));
    std::fs::rename(shop.path("stock.csv.new"), shop.path("stock.csv")).unwrap();
    assert_eq!(shop.take().await.len(), 1);
    assert_eq!(shop.house.stock(), stock([("A", 6)]));
    // An empty one for a moment, as some programs leave it: two looks at it hold it, no more.
    shop.put("stock.csv", "");
    assert!(shop.look().await.is_empty());
    shop.put("stock.csv", rows(&[("A", 7)]));
    assert_eq!(shop.take().await.len(), 1);
    assert_eq!(shop.house.stock(), stock([("A", 7)]));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_taken() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("stock.csv");
    // More rows than may wait for whoever takes them: the reader stands still in the middle.
    let many: Vec<String> = (0..20_000).map(|n| format!("S-{n};1\n")).collect();
    std::fs::write(&path, format!("{HEAD}{}", many.concat())).unwrap();
    let found = find(&path).unwrap();
    let (mut rows, mut stage) = Rows::channel();
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let read = read_all(&found, None, &Reading::default(), place.path(), &mut rows);
            drop(rows);
            read
        });
        assert!(stage.blocking_recv().is_some());
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"S-0;2\n").unwrap();
        while stage.blocking_recv().is_some() {}
        reader.join().unwrap()
    });
    let told = read.unwrap_err();
    assert!(told.ends_with("stock.csv changed while it was read"), "{told}");
    let (mut rows, _stage) = Rows::channel();
    let told = read_all(&found, None, &Reading::default(), place.path(), &mut rows).unwrap_err();
    assert!(told.ends_with("stock.csv was replaced just now"), "{told}");
}

#[tokio::test]
async fn a_link_in_a_directory_leads_nowhere_and_one_that_is_named_is_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("real.csv");
    std::fs::write(&target, rows(&[("A", 5)])).unwrap();
    for (pattern, taken) in [("", 0), ("*.csv", 0), ("stock.csv", 1)] {
        let mut shop = Shop::new(pattern).await;
        symlink(&target, shop.path("stock.csv")).unwrap();
        assert_eq!(shop.take().await.len(), taken, "{pattern}");
    }
    let link = elsewhere.path().join("link.csv");
    symlink(&target, &link).unwrap();
    // Put there after it was looked for.
    assert!(open(&link, false).is_err() && open(&link, true).is_ok());
}

#[tokio::test]
async fn files_of_a_directory_are_taken_oldest_first_and_unfinished_ones_left_alone() {
    for pattern in ["", "*.csv*"] {
        let mut shop = Shop::new(pattern).await;
        shop.put_old("a.csv", rows(&[("A", 3), ("C", 3)]), 1);
        shop.put_old("b.csv", rows(&[("A", 2), ("B", 2), ("C", 2)]), 2);
        shop.put_old("c.csv", rows(&[("A", 1), ("D", 1)]), 3);
        for name in [".csv", "~$d.csv", "d.csv.tmp", "d.csv.part", "d.csv.filepart"] {
            shop.put(name, rows(&[("UNFINISHED", 1)]));
        }
        std::fs::create_dir(shop.path("old.csv")).unwrap();
        assert_eq!(shop.take().await.len(), 3, "{pattern}");
        assert_eq!(shop.house.stock(), stock([("A", 3), ("B", 2), ("C", 3), ("D", 1)]));
        // One that arrives late and is older is what the shop said last, as of now.
        shop.put_old("e.csv", rows(&[("B", 9)]), 4);
        assert_eq!(shop.take().await.len(), 1);
        assert_eq!(shop.house.stock()["B"], 9);
    }
}

#[tokio::test]
async fn nothing_is_taken_twice_over_a_restart() {
    let mut shop = Shop::new("").await;
    shop.put("a.csv", rows(&[("A", 5)]));
    shop.put("b.csv", "<html><title>Login</title></html>");
    assert_eq!(shop.take().await.len(), 1);
    let taking = Taking { scope: None, ..taking("erp") };
    shop.house = shop.house.again(vec![taking], ShopRules::default()).await;
    shop.files = Files::new(shop.files.config.clone(), Reading::default());
    shop.house.put("A", 1).await;
    shop.take().await;
    assert_eq!(shop.house.stock(), stock([("A", 1)]));
}

#[tokio::test]
async fn what_cannot_be_read_is_told_once_and_tried_again_when_it_changes() {
    let mut shop = Shop::new("stock.csv").await;
    shop.put("stock.csv", "<!DOCTYPE html><html><body>Войдите</body></html>");
    assert!(shop.take().await.is_empty());
    assert!(shop.failure().unwrap().contains("stock.csv"), "{:?}", shop.failure());
    assert!(shop.take().await.is_empty());
    assert_eq!(shop.house.intake.standing(0).failed, 1);
    assert_eq!(shop.house.alarms(), ["source_failed"]);
    shop.put("stock.csv", rows(&[("A", 5)]));
    assert_eq!(shop.take().await.len(), 1);
    assert_eq!((shop.failure(), shop.house.alarms()), (None, Vec::new()));
}

#[test]
fn only_what_lies_with_the_file_is_not_tried_again() {
    let disk = || sqlx::Error::Io(std::io::ErrorKind::StorageFull.into());
    assert!(lies_with_file(&Err(IntakeError::Unread("it is broken".to_owned()))));
    assert!(lies_with_file(&Err(IntakeError::Unfit("two warehouses".to_owned()))));
    assert!(!lies_with_file(&Err(IntakeError::Staging(disk()))));
    let stated = crate::sources::StatedError::Database { path: PathBuf::new(), source: disk() };
    assert!(!lies_with_file(&Err(IntakeError::Stated(stated))));
}

#[tokio::test]
async fn a_file_that_would_wipe_the_shop_is_held_once_and_let_through_by_a_word() {
    let mut shop = Shop::with("stock.csv", zeroing(), false).await;
    shop.put("stock.csv", rows(&[("A", 5), ("B", 5), ("C", 5), ("D", 5)]));
    shop.take().await;
    shop.put("stock.csv", rows(&[("A", 0), ("B", 0), ("C", 5), ("D", 5)]));
    let receipts = shop.take().await;
    assert!(matches!(receipts[0].outcome, Outcome::Held(_)), "{receipts:?}");
    assert!(shop.take().await.is_empty());
    assert_eq!(shop.house.stock()["A"], 5);
    shop.house.intake.accept("erp").await.unwrap();
    assert_eq!(shop.house.stock(), stock([("A", 0), ("B", 0), ("C", 5), ("D", 5)]));
}

#[tokio::test]
async fn the_files_of_one_export_of_1c_are_joined_and_the_rests_are_the_last_word() {
    let limits = Limits { most_rejected: 1.0, ..Limits::default() };
    let settings = Taking { scope: None, warehouses: Warehouses::All, limits, ..taking("1c") };
    let mut shop = Shop::with("", settings, true).await;
    let fixture = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sources").join(name);
        std::fs::read(path).unwrap()
    };
    // By their dates the stock would come first, and without the catalogue nobody knows it.
    shop.put_old("import0_1.xml", fixture("import.xml"), 1);
    shop.put_old("offers0_1.xml", fixture("offers.xml"), 3);
    shop.look().await;
    shop.put_old("rests0_1.xml", fixture("rests.xml"), 2);
    assert_eq!(shop.look().await.len(), 0, "one of them is new");
    let receipts = shop.look().await;
    assert_eq!(receipts.len(), 1);
    assert_eq!(shop.house.stock()["ART-9"], 210);
    assert!(shop.take().await.is_empty());
    // One new file is a new export, of all of them.
    shop.put("rests0_1.xml", String::from_utf8(fixture("rests.xml")).unwrap().replace("201", "1"));
    assert_eq!(shop.take().await.len(), 1);
    assert_eq!(shop.house.stock()["ART-9"], 10);
}

#[tokio::test]
async fn packed_files_are_taken_as_what_is_in_them() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(rows(&[("A", 5)]).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("stock.csv", SimpleFileOptions::default()).unwrap();
    zip.write_all(rows(&[("A", 5)]).as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    for (name, bytes) in [("stock.csv.gz", gzip), ("stock.zip", zip)] {
        let mut shop = Shop::new(name).await;
        shop.put(name, &bytes[..bytes.len() - 3]);
        assert!(shop.take().await.is_empty(), "{name} was cut and taken");
        assert!(shop.failure().is_some());
        shop.put(name, &bytes);
        assert_eq!(shop.take().await.len(), 1, "{name}");
        assert_eq!(shop.house.stock(), stock([("A", 5)]));
    }
}

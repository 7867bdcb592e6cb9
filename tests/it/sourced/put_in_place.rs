//! Files, and what the rules make of them.

use std::fs::File;
use std::time::{Duration, SystemTime};

use chrono::TimeDelta;
use stockbridge::clock::Clock;
use tempfile::TempDir;

use super::{counts, with_source};
use crate::harness::{House, Shop, dated};
use crate::program::ask;

/// A directory with a file of stock, and the shop that it feeds.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// The stock, as it would lie there since so long.
    fn stock(&self, rows: &str, minutes: u64) {
        let path = self.put("stock.csv", &format!("Артикул;Остаток\n{rows}"));
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(minutes * 60))
            .unwrap();
    }

    fn shop(&self, shop: Shop, more: &[&str]) -> Shop {
        let path = format!("path = {:?}", self.0.path().join("stock.csv"));
        with_source(shop, "erp", "file", &[&[path.as_str()], more].concat())
    }
}

fn minutes_ago(minutes: i64) -> String {
    (Clock::wall().now() - TimeDelta::minutes(minutes)).to_rfc3339()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_put_into_place_reaches_the_market_and_a_restart_takes_it_once() {
    let place = Place::new();
    place.stock("A;5\nB;7\n", 1);
    let mut house = House::with(&[place.shop(Shop::moscow(), &[])]).await;
    let doors = house.doors();
    let shown = doors
        .look_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    assert_eq!(
        (&shown["kind"], &shown["last"]["rows"]),
        (&"file".into(), &2.into()),
        "{shown}"
    );
    house.settle().await;
    assert_eq!(house.market.get(12_345, "B").unwrap().count, 7);
    doors.feed(house.shop(), &[("A", 1)]).await;
    house.restart().await;
    let doors = house.doors();
    for _ in 0..3 {
        doors.nudge("erp").await;
        assert_eq!(doors.source("erp").await.unwrap()["state"], "waiting");
    }
    assert_eq!(
        doors.counts(house.shop(), &["A", "B"]).await,
        counts(&[("A", 1), ("B", 7)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_the_source_whose_absent_skus_keep_their_stock() {
    let rows = |count: u32| {
        (0..count)
            .map(|at| format!("S-{at};5\n"))
            .collect::<String>()
    };
    let place = Place::new();
    place.stock(&rows(300), 20);
    let settings = ["scope = \"snapshot\"", "absent = \"zero\""];
    let house = House::with(&[place.shop(Shop::moscow(), &settings)]).await;
    let doors = house.doors();
    doors
        .look_until("erp", "it is taken", |it| it["last"]["rows"] == 300)
        .await;
    // Which SKU the last row names is not known: it may be the absent one.
    place.stock(&format!("{}01.фев;3\n", rows(299)), 10);
    doors
        .look_until("erp", "it is taken", |it| it["last"]["rows"] == 299)
        .await;
    house.settle().await;
    let (code, stdout, _) = ask(doors, &["verify"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("OPEN  absence of moscow/erp: "), "{stdout}");
    assert!(
        stdout.contains("01.фев"),
        "the row that prevents it: {stdout}"
    );
    place.stock(&rows(299), 0);
    doors
        .look_until("erp", "it is taken", |it| it["last"]["zeroed"] == 1)
        .await;
    house.settle().await;
    let (code, stdout, _) = ask(doors, &["verify"]);
    assert_eq!(
        (code, stdout.contains("absence")),
        (Some(0), false),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_and_the_sellers_program_the_later_word_holds() {
    let place = Place::new();
    let house = House::with(&[place.shop(Shop::moscow(), &[])]).await;
    let (doors, shop) = (house.doors(), house.shop());
    for (sku, minutes) in [("NEWER", 1), ("OLDER", 20)] {
        let answer = doors
            .put(shop, dated(sku, 1, &minutes_ago(minutes)).as_bytes())
            .await;
        assert_eq!(answer.status, 200);
    }
    place.stock("NEWER;9\nOLDER;9\n", 10);
    let shown = doors
        .look_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    assert_eq!(
        (&shown["last"]["outdated"], &shown["last"]["changed"]),
        (&1.into(), &1.into())
    );
    let skus = ["NEWER", "OLDER"];
    assert_eq!(
        doors.counts(shop, &skus).await,
        counts(&[("NEWER", 1), ("OLDER", 9)])
    );
    // What the program says now is later than the file, and what the next file says is later
    // than that.
    doors.feed(shop, &[("OLDER", 2)]).await;
    assert_eq!(
        doors.counts(shop, &skus).await,
        counts(&[("NEWER", 1), ("OLDER", 2)])
    );
    place.stock("NEWER;8\nOLDER;8\n", 0);
    doors
        .look_until("erp", "it is taken", |it| it["last"]["changed"] == 2)
        .await;
    assert_eq!(
        doors.counts(shop, &skus).await,
        counts(&[("NEWER", 8), ("OLDER", 8)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_make_other_stock_at_the_next_start_and_no_file_is_read_again() {
    let place = Place::new();
    place.stock("A;50\nB;9\nbolt;35\n", 1);
    let mapping = place.put("mapping.csv", "said;sku;pack\nbolt;BOLT-10;10\n");
    let overrides = place.put(
        "overrides.csv",
        "sku;count;buffer;zero_below;cap\nB;;0;;\nC;4;;;\n",
    );
    let mapping = format!("mapping_file = {mapping:?}");
    let mut house = House::with(&[place.shop(Shop::moscow(), &[&mapping])]).await;
    let skus = ["A", "B", "BOLT-10", "bolt"];
    let doors = house.doors();
    doors
        .look_until("erp", "it is taken", |it| it["state"] == "ok")
        .await;
    let plain = counts(&[("A", 50), ("B", 9), ("BOLT-10", 3)]);
    assert_eq!(doors.counts(house.shop(), &skus).await, plain);
    let ruled = Shop::moscow()
        .set("buffer = 2")
        .set("cap = 20")
        .set(&format!("overrides_file = {overrides:?}"));
    let shops = [place.shop(ruled, &[&mapping])];
    house.restart_as(&shops, "").await;
    assert_eq!(
        house.doors().source("erp").await.unwrap()["state"],
        "waiting"
    );
    let other = counts(&[("A", 20), ("B", 9), ("BOLT-10", 1)]);
    assert_eq!(house.doors().counts(house.shop(), &skus).await, other);
    house
        .restart_as(&[place.shop(Shop::moscow(), &[&mapping])], "")
        .await;
    assert_eq!(house.doors().counts(house.shop(), &skus).await, plain);
    // A slip of the pen that would empty the shop waits for a word.
    let slip = [place.shop(Shop::moscow().set("buffer = 1000"), &[&mapping])];
    house.restart_as(&slip, "").await;
    let doors = house.doors();
    assert!(doors.has_alarm("source_held", "moscow/rules").await);
    assert_eq!(doors.counts(house.shop(), &skus).await, plain);
    let (status, accepted) = doors.operator("POST", "/accept?source=rules", "").await;
    assert_eq!((status, accepted), (200, serde_json::json!(["moscow"])));
    let none = counts(&[("A", 0), ("B", 0), ("BOLT-10", 0)]);
    assert_eq!(doors.counts(house.shop(), &skus).await, none);
    assert!(!doors.has_alarm("source_held", "moscow/rules").await);
}

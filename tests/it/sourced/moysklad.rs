//! Stock that the seller keeps in MoySklad.

use serde_json::json;

use super::{Asked, Server, counts, reply, with_source};
use crate::harness::{House, Shop};

const ASSORTMENT: &str = include_str!("../../../fixtures/sources/moysklad-assortment.json");
const STOCK: &str = include_str!("../../../fixtures/sources/moysklad-stock-all.json");

/// The article 0557722 in the fixture.
const KETTLE: &str = "12345678-5838-aaeb-0a80-003a003ef439";
/// The article ART-9.
const ROPE: &str = "12345678-279c-aaeb-0a80-00d6001f847c";

fn shop(server: &Server, more: &str) -> Shop {
    let url = format!("url = \"{}/api/remap/1.2\"", server.url);
    let shop = Shop::moscow().secret("SOURCES_MS_TOKEN", "canary");
    with_source(
        shop,
        "ms",
        "moysklad",
        &[&url, "stock = \"quantity\"", "guard_bad_rows = 0.6", more],
    )
}

fn says(stock: &str) -> impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static {
    let stock = stock.to_owned();
    move |asked| {
        let is_catalogue = asked.target.contains("/entity/assortment");
        reply(
            "application/json",
            if is_catalogue { ASSORTMENT } else { &stock },
        )
    }
}

fn row(id: &str, quantity: f64) -> serde_json::Value {
    json!({ "assortmentId": id, "quantity": quantity })
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_once_and_changes_from_then_on() {
    let server = Server::new(says(STOCK)).await;
    let mut house = House::with(&[shop(&server, "fraction = \"floor\"")]).await;
    let doors = house.doors();
    doors
        .wait_until("ms", "it is read", |it| it["state"] == "ok")
        .await;
    let full = counts(&[("0557722", 11), ("ART-9", 46)]);
    assert_eq!(
        doors.counts(house.shop(), &["0557722", "ART-9"]).await,
        full
    );
    let asked = server.asked();
    assert!(
        asked[1]
            .target
            .contains("/report/stock/all/current?stockType=quantity"),
        "{asked:?}"
    );
    assert!(
        asked[1].head.contains("authorization: bearer canary"),
        "{asked:?}"
    );
    house.settle().await;
    server.says(says(&json!([row(KETTLE, 3.0)]).to_string()));
    // Over a restart too: when it was last asked is remembered.
    house.restart().await;
    let doors = house.doors();
    doors
        .wait_until("ms", "changes come", |it| it["last"]["scope"] == "delta")
        .await;
    let changed = counts(&[("0557722", 3), ("ART-9", 46)]);
    assert_eq!(
        doors.counts(house.shop(), &["0557722", "ART-9"]).await,
        changed
    );
    let last = server.asked().pop().unwrap();
    assert!(last.target.contains("changedSince="), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_that_is_held_is_asked_for_again() {
    let fractions = json!([row(KETTLE, 0.5), row(ROPE, 46.5)]).to_string();
    let server = Server::new(says(&fractions)).await;
    let house = House::with(&[shop(&server, "")]).await;
    let doors = house.doors();
    let held = doors
        .wait_until("ms", "it is held", |it| it["state"] == "held")
        .await;
    // Of the catalogue two products are strange in any case.
    assert_eq!(held["held"], "4 of 4 rows are rejected or suspicious");
    assert!(doors.has_alarm("source_held", "moscow/ms").await);
    server.says(says(&json!([row(KETTLE, 4.0), row(ROPE, 2.0)]).to_string()));
    doors
        .look_until("ms", "it is well", |it| it["state"] == "ok")
        .await;
    let stock = counts(&[("0557722", 4), ("ART-9", 2)]);
    assert_eq!(
        doors.counts(house.shop(), &["0557722", "ART-9"]).await,
        stock
    );
    assert!(!doors.has_alarm("source_held", "moscow/ms").await);
    let asked = server.asked();
    let whole = asked
        .iter()
        .filter(|asked| asked.target.contains("include=zeroLines"))
        .count();
    assert!(whole >= 2, "{asked:?}");
}

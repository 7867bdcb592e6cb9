//! The shop's old handler goes on being asked.

use serde_json::{Value, json};

use super::{Asked, Server, counts, reply, with_source};
use crate::harness::{House, Shop};

const PAGE: &str = "<!DOCTYPE html><html><title>Вход</title></html>";

/// A shop whose old handler is there.
fn shop(server: &Server) -> Shop {
    let url = format!("url = \"{}/api/stocks\"", server.url);
    let shop = Shop::moscow().secret("SOURCES_SITE_TOKEN", "canary-old");
    with_source(shop, "site", "legacy", &[&url, "part_skus = 3"])
}

fn asked_for(asked: &Asked) -> Vec<String> {
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    serde_json::from_value(question["skus"].clone()).unwrap()
}

/// Answers as such handlers do: numbers in quotes, what is unknown left out.
fn stock_of(asked: &Asked, count: impl Fn(&str) -> Option<u32>) -> Vec<u8> {
    let skus = asked_for(asked);
    let known = skus.iter().filter_map(|sku| Some((sku, count(sku)?)));
    let items: Vec<Value> = known
        .map(|(sku, count)| {
            let stock = json!({ "type": "FIT", "count": count.to_string() });
            json!({ "sku": sku, "warehouseId": "569667", "items": [stock] })
        })
        .collect();
    reply("application/json", &json!({ "skus": items }).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_shop_is_answered_for_by_its_old_handler_until_everything_was_told() {
    let server = Server::new(|asked| {
        stock_of(asked, |sku| match sku {
            "A" => Some(7),
            "UNKNOWN" | "LATER" => None,
            _ => Some(3),
        })
    })
    .await;
    let mut house = House::with(&[shop(&server)]).await;
    let shop = house.shop().clone();
    let doors = house.doors();
    let told = doors.counts(&shop, &["A", "B", "UNKNOWN"]).await;
    assert_eq!(told, counts(&[("A", 7), ("B", 3)]));
    let asked = server.asked();
    assert_eq!(
        (asked.len(), asked_for(&asked[0])),
        (1, vec!["A".into(), "B".into(), "UNKNOWN".into()])
    );
    assert!(
        asked[0].target.starts_with("POST /api/stocks HTTP"),
        "{asked:?}"
    );
    assert!(
        asked[0].head.contains("authorization: canary-old"),
        "{asked:?}"
    );
    assert!(asked[0].body.contains("569667"), "{asked:?}");
    // What is known is not asked for again, what is not is.
    doors.counts(&shop, &["A", "B"]).await;
    assert_eq!(server.asked().len(), 1);
    assert_eq!(
        doors.counts(&shop, &["A", "LATER"]).await,
        counts(&[("A", 7)])
    );
    assert_eq!(asked_for(&server.asked()[1]), ["LATER"]);
    // All that the Market has asked for so far is asked for, in parts.
    let shown = doors.look_until("site", "it is read whole", |it| {
        it["last"]["scope"] == "snapshot"
    });
    assert_eq!(shown.await["last"]["rows"], 2);
    let mut asked: Vec<String> = server.asked()[2..4].iter().flat_map(asked_for).collect();
    asked.sort();
    assert_eq!(asked, ["A", "B", "LATER", "UNKNOWN"]);
    // From now on nobody waits for it, after a restart neither: a silent handler is not noticed.
    house.restart().await;
    server.says(|_| panic!("the Market's question went to the old handler"));
    let told = house.doors().counts(&shop, &["A", "NEW"]).await;
    assert_eq!(told, counts(&[("A", 7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_by_zeros_is_held_until_somebody_lets_it_through() {
    let server = Server::new(|asked| stock_of(asked, |_| Some(5))).await;
    let house = House::with(&[shop(&server)]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let skus = ["A", "B", "C", "D"];
    let full = counts(&skus.map(|sku| (sku, 5)));
    assert_eq!(doors.counts(shop, &skus).await, full);
    doors
        .look_until("site", "it is read whole", |it| {
            it["last"]["scope"] == "snapshot"
        })
        .await;
    // The handler with a limit: beyond it everything is 0.
    server.says(|asked| stock_of(asked, |sku| Some(if sku < "C" { 5 } else { 0 })));
    let held = doors
        .look_until("site", "it is held", |it| it["state"] == "held")
        .await;
    assert_eq!(held["held"], "it would turn 2 of 4 SKUs in stock to zero");
    assert_eq!(doors.counts(shop, &skus).await, full);
    assert!(doors.has_alarm("source_held", "moscow/site").await);
    let line = "stockbridge_alarm{alarm=\"source_held\",about=\"moscow/site\"} 1";
    assert!(doors.metrics().await.contains(line), "{line}");
    let (status, told) = doors
        .operator("POST", "/accept?shop=moscow&source=site", "")
        .await;
    assert_eq!(
        (status, &told["outcome"], &told["zeroed"]),
        (200, &json!("taken"), &json!(2))
    );
    let wiped = counts(&[("A", 5), ("B", 5), ("C", 0), ("D", 0)]);
    assert_eq!(doors.counts(shop, &skus).await, wiped);
    assert!(!doors.has_alarm("source_held", "moscow/site").await);
    let (status, told) = doors.operator("POST", "/accept?source=site", "").await;
    assert_eq!(
        (status, &told["error"]["code"]),
        (404, &json!("NOTHING_HELD")),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_with_status_200_is_a_failure_and_the_stock_stays() {
    let server = Server::new(|asked| stock_of(asked, |_| Some(5))).await;
    let house = House::with(&[shop(&server)]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let stock = doors.counts(shop, &["A", "B"]).await;
    server.says(|_| reply("text/html", PAGE));
    doors.nudge("site").await;
    let failed = doors
        .wait_until("site", "it fails", |it| it["state"] == "failed")
        .await;
    let told = failed["failure"].as_str().unwrap();
    assert!(told.contains("page") && !told.contains("canary"), "{told}");
    assert!(doors.has_alarm("source_failed", "moscow/site").await);
    assert_eq!(doors.counts(shop, &["A", "B"]).await, stock);
    server.says(|asked| stock_of(asked, |_| Some(6)));
    doors
        .look_until("site", "it recovers", |it| it["state"] == "ok")
        .await;
    assert!(!doors.has_alarm("source_failed", "moscow/site").await);
    assert_eq!(
        doors.counts(shop, &["A", "B"]).await,
        counts(&[("A", 6), ("B", 6)])
    );
}

//! The seller feeds us.

use chrono::{DateTime, TimeDelta, Utc};
use stockbridge::clock::Clock;

use crate::harness::{House, Shop, dated, update};

fn in_minutes(minutes: i64) -> String {
    (Clock::wall().now() + TimeDelta::minutes(minutes)).to_rfc3339()
}

fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_legal_update_is_taken_and_forwarded() {
    let house = House::with(&[Shop::moscow()]).await;
    let skus: Vec<String> = (0..2_000)
        .map(|n| format!("{n:04}").chars().chain("ё".repeat(251).chars()).collect())
        .collect();
    let items: Vec<String> = skus
        .iter()
        .map(|sku| format!(r#"{{"sku":"{}","items":[{{"count":2000000000}}]}}"#, escaped(sku)))
        .collect();
    let body = format!(r#"{{"skus":[{}]}}"#, items.join(","));
    assert!((3_100_000..4_194_304).contains(&body.len()), "{}", body.len());
    let answer = house.doors().put(house.shop(), body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    house.settle().await;
    assert_eq!(house.market.len(12_345), 2_000);
    assert_eq!(house.market.get(12_345, &skus[1_999]).unwrap().count, 2_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_more_than_four_megabytes_is_not_read() {
    let house = House::with(&[Shop::moscow()]).await;
    let mut body = update(&[("A", 1)]).into_bytes();
    body.resize(4 * 1024 * 1024, b' ');
    assert_eq!(house.doors().put(house.shop(), &body).await.status, 200);
    let other = update(&[("B", 1)]);
    let mut body = other.into_bytes();
    body.resize(4 * 1024 * 1024 + 1, b' ');
    let answer = house.doors().put(house.shop(), &body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["status"], "ERROR");
    assert_eq!(house.doors().counts(house.shop(), &["A", "B"]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refused_update_nothing_is_taken() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let ahead = dated("C", 3, &in_minutes(6));
    let last = ahead.trim_start_matches(r#"{"skus":["#);
    for bad in [
        r#"{"sku":"C","items":[{"count":-1}]}]}"#,
        r#"{"sku":"C","items":[{"count":1.5}]}]}"#,
        r#"{"sku":"A","items":[{"count":1}]}]}"#,
        r#"{"sku":"C"}]}"#,
        r#"{"sku":"C","items":[{"count":1}]}"#,
        last,
    ] {
        let body = format!(
            r#"{{"skus":[{{"sku":"A","items":[{{"count":1}}]}},{{"sku":"B","items":[{{"count":2}}]}},{bad}"#
        );
        let answer = doors.put(shop, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
        assert_eq!(doors.everything(shop, 100).await.len(), 0, "{bad}");
    }
    assert_eq!(doors.status().await["shops"][0]["cold"], true);
    assert_eq!(house.market.report().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_statement_is_accepted_ignored_and_counted() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    for (count, minutes) in [(5, -10), (9, -11)] {
        let answer = doors.put(shop, dated("A", count, &in_minutes(minutes)).as_bytes()).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(doors.counts(shop, &["A"]).await, [("A".to_owned(), 5)]);
    let metrics = doors.metrics().await;
    for line in ["stockbridge_updates_total{outcome=\"outdated\"} 1", "{outcome=\"added\"} 1"] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_a_date_wins_over_a_clock_that_runs_ahead() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let ahead = in_minutes(4);
    assert_eq!(doors.put(shop, dated("A", 5, &ahead).as_bytes()).await.status, 200);
    doors.feed(shop, &[("A", 3)]).await;
    assert_eq!(doors.counts(shop, &["A"]).await, [("A".to_owned(), 3)]);
    house.settle().await;
    let held = house.market.get(12_345, "A").unwrap();
    assert_eq!(held.count, 3);
    // The Market would refuse a moment that has not come.
    assert!(held.updated_at.to_utc() <= Clock::wall().now());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let skus: Vec<String> = (0..501).map(|n| format!("SKU {n} ё/?&=%+#")).collect();
    let stock: Vec<(&str, u32)> = skus.iter().map(String::as_str).zip(0..).collect();
    doors.feed(shop, &stock).await;
    let by_hundred = doors.everything(shop, 100).await;
    assert_eq!(by_hundred.len(), 501);
    assert!(stock.iter().all(|(sku, count)| by_hundred[*sku].0 == *count));
    for limit in [1, 7, 200] {
        assert_eq!(doors.everything(shop, limit).await, by_hundred, "limit {limit}");
    }
    assert_eq!(
        doors.page(shop, "", "").await["warehouses"][0]["offers"][49]["offerId"],
        skus_sorted(&skus)[49]
    );
    assert!(doors.page(shop, "", "").await["warehouses"][0]["offers"][50].is_null());
}

fn skus_sorted(skus: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = skus.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_is_fed_by_its_own_keys_and_under_all_its_campaigns() {
    let shops = [
        Shop::new("moscow", 1, 11).secret("FEED_KEY_2", "newer").set("feed_campaigns = [101]"),
        Shop::new("omsk", 2, 22),
    ];
    let house = House::with(&shops).await;
    let doors = house.doors();
    let as_omsk = shops[0].clone().secret("FEED_KEY", "feed-omsk");
    let as_newer = shops[0].clone().secret("FEED_KEY", "newer");
    let mut elsewhere = shops[0].clone();
    elsewhere.campaign = 101;
    assert_eq!(doors.put(&as_omsk, update(&[("A", 1)]).as_bytes()).await.status, 403);
    assert!(doors.everything(&shops[0], 100).await.is_empty());
    assert_eq!(doors.put(&as_newer, update(&[("A", 2)]).as_bytes()).await.status, 200);
    assert_eq!(doors.put(&elsewhere, update(&[("B", 3)]).as_bytes()).await.status, 200);
    let all = doors.everything(&shops[0], 100).await;
    assert_eq!((all["A"].0, all["B"].0), (2, 3));
    assert!(doors.everything(&shops[1], 100).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fraction_of_a_second_is_kept() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let at: DateTime<Utc> = Clock::wall().now() - TimeDelta::minutes(1);
    let text = at.format("%Y-%m-%dT%H:%M:%S.123456Z").to_string();
    assert_eq!(doors.put(shop, dated("A", 5, &text).as_bytes()).await.status, 200);
    assert_eq!(doors.everything(shop, 100).await["A"], (5, text));
}

//! The seller feeds us.

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use serde_json::{Value, json};

use crate::harness::{Endpoints, ListedStock, TestService, TestShop, dated_update, update};
use crate::wire::{RawResponse, send};

fn in_minutes(minutes: i64) -> String {
    (Clock::wall().now() + TimeDelta::minutes(minutes)).to_rfc3339()
}

fn json_escaped(text: &str) -> String {
    text.encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_legal_update_is_taken_and_forwarded() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let skus: Vec<String> = (0..2_000)
        .map(|n| {
            format!("{n:04}")
                .chars()
                .chain("ё".repeat(251).chars())
                .collect()
        })
        .collect();
    let items: Vec<String> = skus
        .iter()
        .map(|sku| {
            format!(
                r#"{{"sku":"{}","items":[{{"count":2000000000}}]}}"#,
                json_escaped(sku)
            )
        })
        .collect();
    let body = format!(r#"{{"skus":[{}]}}"#, items.join(","));
    assert!(
        (3_100_000..4_194_304).contains(&body.len()),
        "{}",
        body.len()
    );
    let response = service
        .endpoints()
        .put(service.shop(), body.as_bytes())
        .await;
    assert_eq!(response.status, 200, "{}", response.text());
    service.wait_settled().await;
    assert_eq!(service.market.len(12_345), 2_000);
    assert_eq!(
        service.market.get(12_345, &skus[1_999]).unwrap().count,
        2_000_000_000
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_more_than_four_megabytes_is_not_read() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let mut body = update(&[("A", 1)]).into_bytes();
    body.resize(4 * 1024 * 1024, b' ');
    assert_eq!(
        service.endpoints().put(service.shop(), &body).await.status,
        200
    );
    let other = update(&[("B", 1)]);
    let mut body = other.into_bytes();
    body.resize(4 * 1024 * 1024 + 1, b' ');
    let response = service.endpoints().put(service.shop(), &body).await;
    assert_eq!(response.status, 413);
    assert_eq!(response.json()["status"], "ERROR");
    assert_eq!(
        service
            .endpoints()
            .counts(service.shop(), &["A", "B"])
            .await
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_refused_update_nothing_is_taken() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let ahead = dated_update("C", 3, &in_minutes(6));
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
        let response = endpoints.put(shop, body.as_bytes()).await;
        assert_eq!(response.status, 400, "{bad}: {}", response.text());
        assert_eq!(endpoints.all_stock(shop, 100).await.len(), 0, "{bad}");
    }
    assert_eq!(endpoints.status().await["shops"][0]["cold"], true);
    assert_eq!(service.market.report().updates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_statement_is_accepted_ignored_and_counted() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    for (count, minutes) in [(5, -10), (9, -11)] {
        let response = endpoints
            .put(
                shop,
                dated_update("A", count, &in_minutes(minutes)).as_bytes(),
            )
            .await;
        assert_eq!(response.status, 200);
    }
    assert_eq!(endpoints.counts(shop, &["A"]).await, [("A".to_owned(), 5)]);
    let metrics = endpoints.metrics().await;
    for line in [
        "stockbridge_updates_total{outcome=\"outdated\"} 1",
        "{outcome=\"added\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_without_a_date_beats_a_future_one() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let ahead = in_minutes(4);
    assert_eq!(
        endpoints
            .put(shop, dated_update("A", 5, &ahead).as_bytes())
            .await
            .status,
        200
    );
    endpoints.feed(shop, &[("A", 3)]).await;
    assert_eq!(endpoints.counts(shop, &["A"]).await, [("A".to_owned(), 3)]);
    service.wait_settled().await;
    let record = service.market.get(12_345, "A").unwrap();
    assert_eq!(record.count, 3);
    // The Market would refuse a moment that has not come.
    assert!(record.updated_at.to_utc() <= Clock::wall().now());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let skus: Vec<String> = (0..501).map(|n| format!("SKU {n} ё/?&=%+#")).collect();
    let stock: Vec<(&str, u32)> = skus.iter().map(String::as_str).zip(0..).collect();
    endpoints.feed(shop, &stock).await;
    let by_hundred = endpoints.all_stock(shop, 100).await;
    assert_eq!(by_hundred.len(), 501);
    assert!(
        stock
            .iter()
            .all(|(sku, count)| by_hundred[*sku].0 == *count)
    );
    for limit in [1, 7, 200] {
        assert_eq!(
            endpoints.all_stock(shop, limit).await,
            by_hundred,
            "limit {limit}"
        );
    }
    assert_eq!(
        endpoints.page(shop, "", "").await["warehouses"][0]["offers"][49]["offerId"],
        skus_sorted(&skus)[49]
    );
    assert!(endpoints.page(shop, "", "").await["warehouses"][0]["offers"][50].is_null());
}

fn skus_sorted(skus: &[String]) -> Vec<&str> {
    let mut sorted: Vec<&str> = skus.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_accepts_its_keys_and_campaigns() {
    let shops = [
        TestShop::new("moscow", 1, 11)
            .secret("FEED_KEY_2", "newer-key")
            .set("feed_campaigns = [101]"),
        TestShop::new("omsk", 2, 22),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let with_omsk_key = shops[0].clone().secret("FEED_KEY", "feed-omsk");
    let with_newer_key = shops[0].clone().secret("FEED_KEY", "newer-key");
    let mut elsewhere = shops[0].clone();
    elsewhere.campaign = 101;
    assert_eq!(
        endpoints
            .put(&with_omsk_key, update(&[("A", 1)]).as_bytes())
            .await
            .status,
        403
    );
    assert!(endpoints.all_stock(&shops[0], 100).await.is_empty());
    assert_eq!(
        endpoints
            .put(&with_newer_key, update(&[("A", 2)]).as_bytes())
            .await
            .status,
        200
    );
    assert_eq!(
        endpoints
            .put(&elsewhere, update(&[("B", 3)]).as_bytes())
            .await
            .status,
        200
    );
    let all = endpoints.all_stock(&shops[0], 100).await;
    assert_eq!((all["A"].0, all["B"].0), (2, 3));
    assert!(endpoints.all_stock(&shops[1], 100).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fraction_of_a_second_is_kept() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let at: DateTime<Utc> = Clock::wall().now() - TimeDelta::minutes(1);
    let text = at.format("%Y-%m-%dT%H:%M:%S.123456Z").to_string();
    assert_eq!(
        endpoints
            .put(shop, dated_update("A", 5, &text).as_bytes())
            .await
            .status,
        200
    );
    assert_eq!(endpoints.all_stock(shop, 100).await["A"], (5, text));
}

// === By business ===

/// A key of both shops of [`business`].
const SHARED_KEY: &str = "feed-both";

/// Two shops of one business: the first has two warehouses that share its stock.
fn business_shops() -> [TestShop; 2] {
    let in_business_seven =
        |shop: TestShop| shop.secret("FEED_KEY_2", SHARED_KEY).set("business = 7");
    [
        in_business_seven(TestShop::new("moscow", 1, 11)).set("partner_warehouses = [111, 112]"),
        in_business_seven(TestShop::new("omsk", 2, 22)),
    ]
}

async fn post(endpoints: Endpoints, key: &str, target: &str, body: &Value) -> RawResponse {
    let headers = [("Api-Key", key), ("Content-Type", "application/json")];
    send(
        endpoints.public,
        "POST",
        target,
        &headers,
        body.to_string().as_bytes(),
    )
    .await
}

/// Feeds business 7 with SKUs, warehouses and counts.
pub(crate) async fn feed_business(
    endpoints: Endpoints,
    key: &str,
    items: &[(&str, u64, i64)],
) -> RawResponse {
    let items: Vec<Value> = items
        .iter()
        .map(|(sku, warehouse, count)| {
            json!({ "sku": sku, "partnerWarehouseId": warehouse, "count": count })
        })
        .collect();
    let body = json!({ "skuItems": items });
    post(
        endpoints,
        key,
        "/v3/businesses/7/offers/stocks/update",
        &body,
    )
    .await
}

/// The counts of both shops.
async fn counts_of_both(endpoints: Endpoints, shops: &[TestShop]) -> [Vec<(String, u32)>; 2] {
    let counts = |all: ListedStock| {
        all.into_iter()
            .map(|(sku, (count, _))| (sku, count))
            .collect()
    };
    [
        counts(endpoints.all_stock(&shops[0], 100).await),
        counts(endpoints.all_stock(&shops[1], 100).await),
    ]
}

fn counts(stock: &[(&str, u32)]) -> Vec<(String, u32)> {
    stock
        .iter()
        .map(|(sku, count)| ((*sku).to_owned(), *count))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_updates_two_shops_of_a_business() {
    let shops = business_shops();
    let mut service = TestService::start(&shops).await;
    let items = [("A", 111, 1), ("A", 112, 1), ("B", 112, 2), ("A", 22, 3)];
    let response = feed_business(service.endpoints(), SHARED_KEY, &items).await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, r#"{"status":"OK"}"#)
    );
    let expected = [counts(&[("A", 1), ("B", 2)]), counts(&[("A", 3)])];
    assert_eq!(counts_of_both(service.endpoints(), &shops).await, expected);
    let counted = "stockbridge_feed_requests_total{method=\"business_update\",status=\"200\"} 1";
    let metrics = service.endpoints().metrics().await;
    assert!(metrics.contains(counted), "{metrics}");
    service.restart().await;
    assert_eq!(counts_of_both(service.endpoints(), &shops).await, expected);
    assert_eq!(service.market.get(1, "B").unwrap().count, 2);
    assert_eq!(service.market.get(2, "A").unwrap().count, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_business_request_changes_no_shop() {
    let shops = business_shops();
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for (bad, expected_text) in [
        (("B", 22, -1), "it is -1"),
        (("A", 22, 1), "Duplicate shop-sku 'A' for warehouse '22'"),
        (("A", 112, 5), "share one stock"),
        (("B", 404, 1), "no shop of this business lists '404'"),
    ] {
        let items = [("A", 111, 1), ("A", 22, 2), bad];
        let response = feed_business(endpoints, SHARED_KEY, &items).await;
        assert_eq!(response.status, 400, "{bad:?}: {}", response.text());
        assert!(
            response.text().contains(expected_text),
            "{bad:?}: {}",
            response.text()
        );
        assert_eq!(
            counts_of_both(endpoints, &shops).await,
            [vec![], vec![]],
            "{bad:?}"
        );
    }
    assert_eq!(service.market.report().updates, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_must_be_valid_for_every_shop_in_a_request() {
    let shops = business_shops();
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let moscow_key = shops[0].feed_key();
    let mixed = [("A", 111, 1), ("A", 22, 2)];
    let response = feed_business(endpoints, moscow_key, &mixed).await;
    assert_eq!(response.status, 403, "{}", response.text());
    assert_eq!(response.json()["errors"][0]["message"], "Access denied");
    // What is not its own is denied whether or not the rest is known.
    let unknown_and_foreign = [("A", 404, 1), ("A", 22, 2)];
    assert_eq!(
        feed_business(endpoints, moscow_key, &unknown_and_foreign)
            .await
            .status,
        403
    );
    assert_eq!(
        feed_business(endpoints, "feed-unknown", &mixed)
            .await
            .status,
        401
    );
    assert_eq!(counts_of_both(endpoints, &shops).await, [vec![], vec![]]);
    assert_eq!(
        feed_business(endpoints, moscow_key, &mixed[..1])
            .await
            .status,
        200
    );
    assert_eq!(
        counts_of_both(endpoints, &shops).await,
        [counts(&[("A", 1)]), vec![]]
    );
    let readback = "/v3/businesses/7/offers/stocks";
    let omsk_warehouse = json!({ "partnerWarehouseId": 22 });
    assert_eq!(
        post(endpoints, moscow_key, readback, &omsk_warehouse)
            .await
            .status,
        403
    );
    assert_eq!(
        post(endpoints, SHARED_KEY, readback, &omsk_warehouse)
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_without_a_business_is_not_fed_by_one() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let response = feed_business(
        service.endpoints(),
        service.shop().feed_key(),
        &[("A", 569_667, 1)],
    )
    .await;
    assert_eq!(
        (response.status, &response.json()["errors"][0]["code"]),
        (404, &json!("NOT_FOUND"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_business_neither_skip_nor_repeat() {
    let shops = business_shops();
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let skus: Vec<String> = (0..501).map(|n| format!("SKU {n} ё/?&=%+#")).collect();
    let stock: Vec<(&str, u32)> = skus.iter().map(String::as_str).zip(0..).collect();
    endpoints.feed(&shops[0], &stock).await;
    let by_campaign = endpoints.all_stock(&shops[0], 100).await;
    // Asked for, and what comes of it: the default, what is cut, what is not.
    for (query, first) in [
        ("", 50),
        ("limit=7", 7),
        ("limit=100", 100),
        ("limit=201", 100),
    ] {
        let (all, sizes) = all_stock_by_business(endpoints, 112, query).await;
        assert_eq!(all, by_campaign, "{query}");
        assert_eq!(sizes[0], first, "{query}");
    }
    assert!(all_stock_by_business(endpoints, 22, "").await.0.is_empty());
}

/// All that is known of a warehouse, page by page, and how long the pages were.
async fn all_stock_by_business(
    endpoints: Endpoints,
    warehouse: u64,
    query: &str,
) -> (ListedStock, Vec<usize>) {
    let (mut all, mut sizes, mut token) = (ListedStock::new(), Vec::new(), String::new());
    loop {
        let target = format!("/v3/businesses/7/offers/stocks?{query}&pageToken={token}");
        let body = json!({ "partnerWarehouseId": warehouse });
        let response = post(endpoints, SHARED_KEY, &target, &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let page = response.json()["result"].take();
        assert_eq!(page["partnerWarehouseId"], warehouse);
        let offers = page["offers"].as_array().unwrap();
        sizes.push(offers.len());
        for offer in offers {
            let sku = offer["offerId"].as_str().unwrap().to_owned();
            let count = u32::try_from(offer["stocks"][1]["count"].as_u64().unwrap()).unwrap();
            let at = offer["updatedAt"].as_str().unwrap().to_owned();
            assert_eq!(all.insert(sku, (count, at)), None, "a SKU on two pages");
        }
        match page["paging"]["nextPageToken"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => return (all, sizes),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_the_campaigns_it_may_feed() {
    let mut shops = business_shops().to_vec();
    shops[0] = shops[0].clone().set("feed_campaigns = [12]");
    shops.push(TestShop::new("other", 99, 990));
    let service = TestService::start(&shops).await;
    let get = async |key: &str, target: &str| {
        let response = send(
            service.endpoints().public,
            "GET",
            target,
            &[("Api-Key", key)],
            b"",
        )
        .await;
        (response.status, response.json())
    };
    let key = shops[0].feed_key().to_owned();
    let (status, list) = get(&key, "/v2/campaigns").await;
    assert_eq!(status, 200, "{list}");
    let own = json!({
        "domain": shops[0].name, "id": shops[0].campaign, "business": { "id": 7 },
        "apiAvailability": "AVAILABLE",
    });
    let mut shared = own.clone();
    shared["id"] = json!(12);
    let mut expected = [own, shared];
    expected.sort_by_key(|campaign| campaign["id"].as_u64());
    assert_eq!(list["campaigns"], json!(expected));
    assert_eq!(list["pager"]["total"], 2);
    // The other page parameters have a table test of their own.
    let (_, first) = get(&key, "/campaigns.json?limit=1&page_token=").await;
    assert_eq!(first["campaigns"], json!([expected[0]]));
    let token = first["paging"]["nextPageToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, last) = get(&key, &format!("/v2/campaigns?limit=1&pageToken={token}")).await;
    assert_eq!(
        (&last["campaigns"][0], &last["paging"]),
        (&expected[1], &json!({}))
    );
    for target in ["/v2/campaigns/12", "/campaigns/12.json"] {
        let (status, one) = get(&key, target).await;
        assert_eq!(
            (status, one["campaign"]["id"].as_u64()),
            (200, Some(12)),
            "{target}"
        );
    }
    for (key, target, status) in [
        (key.as_str(), "/v2/campaigns/99", 403),
        (key.as_str(), "/v2/campaigns/5555", 404),
        (key.as_str(), "/v2/campaigns?limit=101", 400),
        ("wrong", "/v2/campaigns", 401),
    ] {
        let (found_status, body) = get(key, target).await;
        assert_eq!(
            (found_status, &body["status"]),
            (status, &json!("ERROR")),
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_offers_are_refused_with_a_reason() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (public, feed_key) = (service.endpoints().public, service.shop().feed_key());
    let body = br#"{"hiddenOffers":[{"offerId":"A"}]}"#;
    for (method, path) in [("GET", ""), ("POST", ""), ("POST", "/delete")] {
        let target = format!("/v2/campaigns/12345/hidden-offers{path}");
        let headers = [("Api-Key", feed_key), ("Content-Type", "application/json")];
        let response = send(public, method, &target, &headers, body).await;
        assert_eq!(
            (response.status, &response.json()["status"]),
            (404, &json!("ERROR")),
            "{target}"
        );
        let message = response.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            message.contains("hidden offers are not served here"),
            "{message}"
        );
        let response = send(public, method, &target, &[("Api-Key", "wrong")], body).await;
        assert_eq!(response.status, 401, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_the_oauth_header_of_older_clients() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let oauth = format!(
        "OAuth oauth_token=\"{}\", oauth_client_id=\"c\"",
        shop.feed_key()
    );
    let headers = [
        ("Authorization", oauth.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = update(&[("A", 5)]);
    let response = send(
        endpoints.public,
        "PUT",
        &shop.path(),
        &headers,
        body.as_bytes(),
    )
    .await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(endpoints.counts(shop, &["A"]).await, [("A".to_owned(), 5)]);
    service.wait_settled().await;
}

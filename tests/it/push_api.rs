//! The Market asks.

use serde_json::Value;

use crate::harness::{TestService, TestShop};
use crate::wire::{RawConnection, request, send};

const JSON_TYPE: (&str, &str) = ("Content-Type", "application/json");

fn has_alarm(alarms: &[(String, String)], name: &str, about: &str) -> bool {
    alarms
        .iter()
        .any(|(alarm, shop)| alarm == name && shop == about)
}

/// The value of a line of the metrics.
fn metric(text: &str, series: &str) -> Option<f64> {
    let found = text.lines().find_map(|line| line.strip_prefix(series))?;
    found.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_our_own_is_not_answered() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let body = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let headers = [
        ("Authorization", "push-moscow"),
        JSON_TYPE,
        ("x-stockbridge-question", "1"),
    ];
    let public = service.endpoints().public;
    let response = send(public, "POST", "/moscow/stocks", &headers, body).await;
    // If the old handler's address leads to us, our own stock would be confirmed again and again.
    assert_eq!(response.status, 508);
    let wrong = [
        ("Authorization", "wrong"),
        JSON_TYPE,
        ("x-stockbridge-question", "1"),
    ];
    assert_eq!(
        send(public, "POST", "/moscow/stocks", &wrong, body)
            .await
            .status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_403_whatever_else_is_wrong() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let good = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let elsewhere = br#"{"warehouseId":1,"skus":["A"]}"#.as_slice();
    let public = service.endpoints().public;
    for state in ["cold", "fed"] {
        for wrong in [
            "wrong",
            "",
            "push-mosco",
            "push-moscow2",
            "Push-Moscow",
            "feed-moscow",
        ] {
            let auth = ("Authorization", wrong);
            let gzip = ("Content-Encoding", "gzip");
            for (what, method, headers, body) in [
                ("good", "POST", vec![auth, JSON_TYPE], good),
                ("unmapped", "POST", vec![auth, JSON_TYPE], elsewhere),
                ("broken", "POST", vec![auth, JSON_TYPE], b"{".as_slice()),
                ("wrong method", "GET", vec![auth], b"".as_slice()),
                ("wrong method", "PUT", vec![auth, JSON_TYPE], good),
                ("wrong method", "DELETE", vec![auth], b"".as_slice()),
                (
                    "wrong type",
                    "POST",
                    vec![auth, ("Content-Type", "text/plain")],
                    good,
                ),
                ("compressed", "POST", vec![auth, JSON_TYPE, gzip], good),
            ] {
                let response = send(public, method, "/moscow/stocks", &headers, body).await;
                assert_eq!(
                    response.status,
                    403,
                    "{state}, {what}, {wrong:?}: {}",
                    response.text()
                );
            }
            // A body that will be ignored is not read.
            let mut connection = RawConnection::connect(public).await;
            let head = format!(
                "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: {wrong}\r\n\
                 Content-Length: 900000000\r\n\r\n"
            );
            connection.write(head.as_bytes()).await;
            assert_eq!(
                connection.read_response().await.unwrap().status,
                403,
                "{state}, oversized, {wrong:?}"
            );
        }
        service.endpoints().feed(service.shop(), &[("A", 1)]).await;
    }
    // A probe raises no alarm.
    assert_eq!(service.endpoints().alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_403_while_we_stop() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let bytes = request(
        "POST",
        "/moscow/stocks",
        &[("Authorization", "wrong"), JSON_TYPE],
        b"{}",
    );
    let (first, rest) = bytes.split_at(20);
    let mut connection = RawConnection::connect(endpoints.public).await;
    // A request whose head has arrived counts as in progress.
    connection.write(first).await;
    service.start_stopping();
    endpoints.wait_for_stopping().await;
    connection.write(rest).await;
    assert_eq!(connection.read_response().await.unwrap().status, 403);
    service.wait_stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_taken_to_the_letter() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let headers = [("Authorization", "push-moscow"), JSON_TYPE];
    for path in [
        "/Moscow/stocks",
        "/moscow/Stocks",
        "/moscow/stocks/",
        "//moscow/stocks",
        "/stocks",
    ] {
        let response = send(service.endpoints().public, "POST", path, &headers, b"{}").await;
        assert_eq!(response.status, 404, "{path}: {}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn needless_slashes_are_404_with_the_right_path() {
    let service = TestService::start(&[
        TestShop::moscow(),
        TestShop::new("root", 2, 22).with_base_path(""),
    ])
    .await;
    let headers = [("Authorization", "push-moscow"), JSON_TYPE];
    for (path, right) in [
        ("//stocks", "'/stocks'"),
        ("/stocks/", "'/stocks'"),
        ("/moscow//stocks", "'/moscow/stocks'"),
        ("/moscow/stocks//", "'/moscow/stocks'"),
    ] {
        let response = send(service.endpoints().public, "POST", path, &headers, b"{}").await;
        let message = response.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            response.status == 404 && message.contains(right),
            "{path}: {}",
            response.text()
        );
    }
    let response = send(
        service.endpoints().public,
        "POST",
        "/other/",
        &headers,
        b"{}",
    )
    .await;
    assert_eq!(
        response.json()["error"]["message"],
        "there is nothing at this path"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_without_stock_gets_503_and_an_alarm() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let line = "stockbridge_alarm{alarm=\"cold_shop_asked\",about=\"moscow\"}";
    assert_eq!(metric(&endpoints.metrics().await, line), None);
    let response = endpoints.query_stock(shop, 569_667, &["A"]).await;
    assert_eq!(
        (response.status, response.header("retry-after")),
        (503, Some("30"))
    );
    assert!(has_alarm(
        &endpoints.alarms().await,
        "cold_shop_asked",
        "moscow"
    ));
    assert_eq!(metric(&endpoints.metrics().await, line), Some(1.0));
    endpoints.feed(shop, &[("A", 5)]).await;
    assert_eq!(
        endpoints.counts(shop, &["A", "B"]).await,
        [("A".to_owned(), 5)]
    );
    assert!(!has_alarm(
        &endpoints.alarms().await,
        "cold_shop_asked",
        "moscow"
    ));
    let text = endpoints.metrics().await;
    assert_eq!(metric(&text, line), None);
    assert_eq!(
        metric(
            &text,
            "stockbridge_alarm{alarm=\"cold_shop_asked\",about=\"\"}"
        ),
        Some(0.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cold_shop_leaves_its_neighbour_warm() {
    let shops = [
        TestShop::moscow(),
        TestShop::new("omsk", 2, 22).set("unavailable_status = 500"),
    ];
    let service = TestService::start(&shops).await;
    service.endpoints().feed(&shops[0], &[("A", 5)]).await;
    assert_eq!(
        service.endpoints().counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 5)]
    );
    let response = service.endpoints().query_stock(&shops[1], 22, &["A"]).await;
    assert_eq!(
        (response.status, response.header("retry-after")),
        (500, Some("30"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn warehouse_and_token_select_the_shop_of_a_path() {
    let shops = [
        TestShop::new("moscow", 1, 11).with_base_path("/api"),
        TestShop::new("omsk", 2, 22).with_base_path("/api"),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    endpoints.feed(&shops[0], &[("A", 1)]).await;
    endpoints.feed(&shops[1], &[("A", 2)]).await;
    assert_eq!(
        endpoints.counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 1)]
    );
    assert_eq!(
        endpoints.counts(&shops[1], &["A"]).await,
        [("A".to_owned(), 2)]
    );
    // A token of another warehouse is as wrong as an unknown one.
    let response = endpoints
        .query_stock_with_token(&shops[0], "push-moscow", 22, &["A"])
        .await;
    assert_eq!(response.status, 503);
    assert_eq!(response.json()["error"]["code"], "UNKNOWN_WAREHOUSE");
    assert!(has_alarm(
        &endpoints.alarms().await,
        "unmapped_warehouse",
        "/api/stocks"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_for_two_shops_opens_both() {
    let shops = [
        TestShop::new("moscow", 1, 11).with_base_path("/api"),
        TestShop::new("omsk", 2, 22)
            .with_base_path("/api")
            .secret("PUSH_TOKEN", "push-moscow"),
    ];
    let service = TestService::start(&shops).await;
    service.endpoints().feed(&shops[0], &[("A", 1)]).await;
    service.endpoints().feed(&shops[1], &[("A", 2)]).await;
    assert_eq!(
        service.endpoints().counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 1)]
    );
    assert_eq!(
        service.endpoints().counts(&shops[1], &["A"]).await,
        [("A".to_owned(), 2)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_token_is_as_good_as_the_first() {
    let service = TestService::start(&[TestShop::moscow().secret("PUSH_TOKEN_2", "newer")]).await;
    let shop = service.shop();
    service.endpoints().feed(shop, &[("A", 1)]).await;
    for token in ["push-moscow", "newer"] {
        let response = service
            .endpoints()
            .query_stock_with_token(shop, token, 569_667, &["A"])
            .await;
        assert_eq!(response.status, 200, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn warehouses_of_a_group_have_one_stock() {
    let service = TestService::start(&[TestShop::moscow().with_warehouses(&[11, 12])]).await;
    let shop = service.shop();
    service.endpoints().feed(shop, &[("A", 7)]).await;
    for warehouse in [11_u64, 12] {
        let response = service
            .endpoints()
            .query_stock(shop, warehouse, &["A"])
            .await
            .json();
        assert_eq!(response["skus"][0]["warehouseId"], warehouse);
        assert_eq!(response["skus"][0]["items"][0]["count"], 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_skus_follow_the_setting() {
    let shops = [
        TestShop::new("omits", 1, 11),
        TestShop::new("vouches", 2, 22).set("unknown_sku = \"zero\""),
        TestShop::new("fails", 3, 33).set("unknown_sku = \"fail\""),
        TestShop::new("fails-500", 4, 44)
            .set("unknown_sku = \"fail\"")
            .set("unavailable_status = 500"),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for shop in &shops {
        endpoints.feed(shop, &[("A", 5)]).await;
    }
    let skus = ["B", "A", " "];
    assert_eq!(
        endpoints.counts(&shops[0], &skus).await,
        [("A".to_owned(), 5)]
    );
    // Also with `zero`, a text that breaks the rules of SKUs gets no number.
    let vouched_counts = endpoints.counts(&shops[1], &skus).await;
    assert_eq!(vouched_counts, [("B".to_owned(), 0), ("A".to_owned(), 5)]);
    for (shop, status) in [(&shops[2], 503), (&shops[3], 500)] {
        let response = endpoints.query_stock(shop, shop.warehouses[0], &skus).await;
        assert_eq!(
            (response.status, response.header("retry-after")),
            (status, Some("30"))
        );
        assert_eq!(response.json()["error"]["code"], "UNKNOWN_SKU");
        assert_eq!(endpoints.counts(shop, &["A"]).await, [("A".to_owned(), 5)]);
    }
    // It is in the response to the Market, but never stored.
    assert_eq!(endpoints.status().await["shops"][1]["skus"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_skus_are_answered_and_too_many_are_not() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 5)]).await;
    assert_eq!(
        endpoints.counts(shop, &vec!["A"; 10_000]).await.len(),
        10_000
    );
    let response = endpoints
        .query_stock(shop, 569_667, &vec!["A"; 10_001])
        .await;
    assert_eq!(response.status, 400, "{}", response.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_on_a_kept_connection_follows_another() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    service.endpoints().feed(service.shop(), &[("A", 5)]).await;
    let body = br#"{"warehouseId":569667,"skus":["A"]}"#;
    let mut connection = RawConnection::connect(service.endpoints().public).await;
    for token in ["push-moscow", "wrong", "push-moscow"] {
        connection
            .write(&request(
                "POST",
                "/moscow/stocks",
                &[("Authorization", token), JSON_TYPE],
                body,
            ))
            .await;
        let response = connection.read_response().await.unwrap();
        assert_eq!(response.status, if token == "wrong" { 403 } else { 200 });
    }
    let status: Value = service.endpoints().status().await;
    assert!(status["shops"][0]["last_push"].is_string(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_a_long_warehouse_id_without_storing_it() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let shop = service.shop();
    let auth = [("Authorization", shop.push_token()), JSON_TYPE];
    let ask = async |warehouse: &str| {
        let body = format!("{{\"warehouseId\":{warehouse},\"skus\":[\"A\"]}}");
        send(
            service.endpoints().public,
            "POST",
            "/moscow/stocks",
            &auth,
            body.as_bytes(),
        )
        .await
    };
    for warehouse in [
        "7".repeat(41),
        "7".repeat(1_900_000),
        format!("\"{}\"", "7".repeat(100_000)),
    ] {
        let response = ask(&warehouse).await;
        assert_eq!(response.status, 400, "{} bytes", warehouse.len());
        assert!(response.body.len() < 1_000, "{} bytes", response.body.len());
        assert!(
            response.text().contains("at most 40 characters"),
            "{}",
            response.text()
        );
    }
    assert_eq!(service.endpoints().alarms().await, []);
    // A number of 40 digits is one, but of no warehouse of ours.
    let longest = "7".repeat(40);
    let response = ask(&longest).await;
    assert_eq!(response.status, 503);
    assert!(response.text().contains(&longest), "{}", response.text());
    // A value of the wrong type is not repeated whole either.
    let body = format!(
        "{{\"warehouseId\":1,\"skus\":\"{}\"}}",
        "A".repeat(1_000_000)
    );
    let response = send(
        service.endpoints().public,
        "POST",
        "/moscow/stocks",
        &auth,
        body.as_bytes(),
    )
    .await;
    assert_eq!(
        (response.status, response.body.len() < 2_000),
        (400, true),
        "{} bytes",
        response.body.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_before_the_body_closes_the_connection() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let mut connection = RawConnection::connect(service.endpoints().public).await;
    connection
        .write(
            b"POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: wrong\r\n\
          Content-Length: 1000000\r\n\r\n",
        )
        .await;
    let response = connection.read_response().await.unwrap();
    assert_eq!(
        (response.status, response.header("connection")),
        (403, Some("close"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_date_to_come_is_shown_to_the_market() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let now = lifecycle::Clock::wall().now();
    let ahead = (now + chrono::TimeDelta::minutes(4)).to_rfc3339();
    let body = crate::harness::dated_update("A", 5, &ahead);
    assert_eq!(
        service
            .endpoints()
            .put(service.shop(), body.as_bytes())
            .await
            .status,
        200
    );
    let response = service
        .endpoints()
        .query_stock(service.shop(), service.shop().warehouses[0], &["A"])
        .await
        .json();
    let shown_at = response["skus"][0]["items"][0]["updatedAt"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown_at: chrono::DateTime<chrono::Utc> = shown_at.parse().unwrap();
    assert!(
        shown_at >= now && shown_at <= lifecycle::Clock::wall().now(),
        "{shown_at}"
    );
    service.wait_settled().await;
}

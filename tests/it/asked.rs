//! The Market asks.

use serde_json::Value;

use crate::harness::{House, Shop};
use crate::wire::{Line, request, send};

const TYPE: (&str, &str) = ("Content-Type", "application/json");

fn has_alarm(alarms: &[(String, String)], name: &str, about: &str) -> bool {
    alarms
        .iter()
        .any(|(alarm, shop)| alarm == name && shop == about)
}

/// The value of a line of the metrics.
fn metric(text: &str, line: &str) -> Option<f64> {
    let found = text.lines().find_map(|given| given.strip_prefix(line))?;
    found.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_our_own_is_not_answered() {
    let house = House::with(&[Shop::moscow()]).await;
    let question = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let headers = [
        ("Authorization", "push-moscow"),
        TYPE,
        ("x-stockbridge-question", "1"),
    ];
    let public = house.doors().public;
    let answer = send(public, "POST", "/moscow/stocks", &headers, question).await;
    // An old handler's address that leads to us would confirm our own stock for ever.
    assert_eq!(answer.status, 508);
    let wrong = [
        ("Authorization", "wrong"),
        TYPE,
        ("x-stockbridge-question", "1"),
    ];
    assert_eq!(
        send(public, "POST", "/moscow/stocks", &wrong, question)
            .await
            .status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_403_whatever_else_is_wrong() {
    let house = House::with(&[Shop::moscow()]).await;
    let good = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let elsewhere = br#"{"warehouseId":1,"skus":["A"]}"#.as_slice();
    let public = house.doors().public;
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
                ("good", "POST", vec![auth, TYPE], good),
                ("unmapped", "POST", vec![auth, TYPE], elsewhere),
                ("broken", "POST", vec![auth, TYPE], b"{".as_slice()),
                ("wrong method", "GET", vec![auth], b"".as_slice()),
                ("wrong method", "PUT", vec![auth, TYPE], good),
                ("wrong method", "DELETE", vec![auth], b"".as_slice()),
                (
                    "wrong type",
                    "POST",
                    vec![auth, ("Content-Type", "text/plain")],
                    good,
                ),
                ("compressed", "POST", vec![auth, TYPE, gzip], good),
            ] {
                let answer = send(public, method, "/moscow/stocks", &headers, body).await;
                assert_eq!(
                    answer.status,
                    403,
                    "{state}, {what}, {wrong:?}: {}",
                    answer.text()
                );
            }
            // Nobody waits for a body that will not be looked at.
            let mut line = Line::to(public).await;
            let head = format!(
                "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: {wrong}\r\n\
                 Content-Length: 900000000\r\n\r\n"
            );
            line.say(head.as_bytes()).await;
            assert_eq!(
                line.hear().await.unwrap().status,
                403,
                "{state}, oversized, {wrong:?}"
            );
        }
        house.doors().feed(house.shop(), &[("A", 1)]).await;
    }
    // A probe leaves no trace that would wake somebody.
    assert_eq!(house.doors().alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_403_while_we_stop() {
    let house = House::with(&[Shop::moscow()]).await;
    let doors = house.doors();
    let bytes = request(
        "POST",
        "/moscow/stocks",
        &[("Authorization", "wrong"), TYPE],
        b"{}",
    );
    let (first, rest) = bytes.split_at(20);
    let mut line = Line::to(doors.public).await;
    // A request that has begun is one in hand.
    line.say(first).await;
    house.begin_to_stop();
    doors.until_stopping().await;
    line.say(rest).await;
    assert_eq!(line.hear().await.unwrap().status, 403);
    house.until_stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_taken_to_the_letter() {
    let house = House::with(&[Shop::moscow()]).await;
    let headers = [("Authorization", "push-moscow"), TYPE];
    for path in [
        "/Moscow/stocks",
        "/moscow/Stocks",
        "/moscow/stocks/",
        "//moscow/stocks",
        "/stocks",
    ] {
        let answer = send(house.doors().public, "POST", path, &headers, b"{}").await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn needless_slashes_are_404_with_the_right_path() {
    let house = House::with(&[Shop::moscow(), Shop::new("root", 2, 22).at("")]).await;
    let headers = [("Authorization", "push-moscow"), TYPE];
    for (path, right) in [
        ("//stocks", "'/stocks'"),
        ("/stocks/", "'/stocks'"),
        ("/moscow//stocks", "'/moscow/stocks'"),
        ("/moscow/stocks//", "'/moscow/stocks'"),
    ] {
        let answer = send(house.doors().public, "POST", path, &headers, b"{}").await;
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            answer.status == 404 && message.contains(right),
            "{path}: {}",
            answer.text()
        );
    }
    let answer = send(house.doors().public, "POST", "/other/", &headers, b"{}").await;
    assert_eq!(
        answer.json()["error"]["message"],
        "there is nothing at this path"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_shop_says_so_and_raises_an_alarm_until_it_has_answered() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let line = "stockbridge_alarm{alarm=\"cold_shop_asked\",about=\"moscow\"}";
    assert_eq!(metric(&doors.metrics().await, line), None);
    let answer = doors.ask(shop, 569_667, &["A"]).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("30"))
    );
    assert!(has_alarm(
        &doors.alarms().await,
        "cold_shop_asked",
        "moscow"
    ));
    assert_eq!(metric(&doors.metrics().await, line), Some(1.0));
    doors.feed(shop, &[("A", 5)]).await;
    assert_eq!(doors.counts(shop, &["A", "B"]).await, [("A".to_owned(), 5)]);
    assert!(!has_alarm(
        &doors.alarms().await,
        "cold_shop_asked",
        "moscow"
    ));
    let text = doors.metrics().await;
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
        Shop::moscow(),
        Shop::new("omsk", 2, 22).set("unavailable_status = 500"),
    ];
    let house = House::with(&shops).await;
    house.doors().feed(&shops[0], &[("A", 5)]).await;
    assert_eq!(
        house.doors().counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 5)]
    );
    let answer = house.doors().ask(&shops[1], 22, &["A"]).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (500, Some("30"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_share_a_path_and_are_told_apart_by_warehouse_and_token() {
    let shops = [
        Shop::new("moscow", 1, 11).at("/api"),
        Shop::new("omsk", 2, 22).at("/api"),
    ];
    let house = House::with(&shops).await;
    let doors = house.doors();
    doors.feed(&shops[0], &[("A", 1)]).await;
    doors.feed(&shops[1], &[("A", 2)]).await;
    assert_eq!(doors.counts(&shops[0], &["A"]).await, [("A".to_owned(), 1)]);
    assert_eq!(doors.counts(&shops[1], &["A"]).await, [("A".to_owned(), 2)]);
    // A good token, but not for that warehouse: as if nobody had it.
    let answer = doors.ask_with(&shops[0], "push-moscow", 22, &["A"]).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "UNKNOWN_WAREHOUSE");
    assert!(has_alarm(
        &doors.alarms().await,
        "unmapped_warehouse",
        "/api/stocks"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_for_two_shops_opens_both() {
    let shops = [
        Shop::new("moscow", 1, 11).at("/api"),
        Shop::new("omsk", 2, 22)
            .at("/api")
            .secret("PUSH_TOKEN", "push-moscow"),
    ];
    let house = House::with(&shops).await;
    house.doors().feed(&shops[0], &[("A", 1)]).await;
    house.doors().feed(&shops[1], &[("A", 2)]).await;
    assert_eq!(
        house.doors().counts(&shops[0], &["A"]).await,
        [("A".to_owned(), 1)]
    );
    assert_eq!(
        house.doors().counts(&shops[1], &["A"]).await,
        [("A".to_owned(), 2)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_token_is_as_good_as_the_first() {
    let house = House::with(&[Shop::moscow().secret("PUSH_TOKEN_2", "newer")]).await;
    let shop = house.shop();
    house.doors().feed(shop, &[("A", 1)]).await;
    for token in ["push-moscow", "newer"] {
        let answer = house.doors().ask_with(shop, token, 569_667, &["A"]).await;
        assert_eq!(answer.status, 200, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn warehouses_of_a_group_have_one_stock() {
    let house = House::with(&[Shop::moscow().with_warehouses(&[11, 12])]).await;
    let shop = house.shop();
    house.doors().feed(shop, &[("A", 7)]).await;
    for warehouse in [11_u64, 12] {
        let answer = house.doors().ask(shop, warehouse, &["A"]).await.json();
        assert_eq!(answer["skus"][0]["warehouseId"], warehouse);
        assert_eq!(answer["skus"][0]["items"][0]["count"], 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_unknown_skus_is_said_what_the_operator_chose() {
    let shops = [
        Shop::new("omits", 1, 11),
        Shop::new("vouches", 2, 22).set("unknown_sku = \"zero\""),
        Shop::new("fails", 3, 33).set("unknown_sku = \"fail\""),
        Shop::new("fails-500", 4, 44)
            .set("unknown_sku = \"fail\"")
            .set("unavailable_status = 500"),
    ];
    let house = House::with(&shops).await;
    let doors = house.doors();
    for shop in &shops {
        doors.feed(shop, &[("A", 5)]).await;
    }
    let asked = ["B", "A", " "];
    assert_eq!(doors.counts(&shops[0], &asked).await, [("A".to_owned(), 5)]);
    // Not even the one who vouches says zero of what is no SKU.
    let vouched = doors.counts(&shops[1], &asked).await;
    assert_eq!(vouched, [("B".to_owned(), 0), ("A".to_owned(), 5)]);
    for (shop, status) in [(&shops[2], 503), (&shops[3], 500)] {
        let answer = doors.ask(shop, shop.warehouses[0], &asked).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (status, Some("30"))
        );
        assert_eq!(answer.json()["error"]["code"], "UNKNOWN_SKU");
        assert_eq!(doors.counts(shop, &["A"]).await, [("A".to_owned(), 5)]);
    }
    // Said to the Market, but never written down.
    assert_eq!(doors.status().await["shops"][1]["skus"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_skus_are_answered_and_too_many_are_not() {
    let house = House::with(&[Shop::moscow()]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 5)]).await;
    assert_eq!(doors.counts(shop, &vec!["A"; 10_000]).await.len(), 10_000);
    let answer = doors.ask(shop, 569_667, &vec!["A"; 10_001]).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_on_a_kept_connection_follows_another() {
    let house = House::with(&[Shop::moscow()]).await;
    house.doors().feed(house.shop(), &[("A", 5)]).await;
    let body = br#"{"warehouseId":569667,"skus":["A"]}"#;
    let mut line = Line::to(house.doors().public).await;
    for token in ["push-moscow", "wrong", "push-moscow"] {
        line.say(&request(
            "POST",
            "/moscow/stocks",
            &[("Authorization", token), TYPE],
            body,
        ))
        .await;
        let answer = line.hear().await.unwrap();
        assert_eq!(answer.status, if token == "wrong" { 403 } else { 200 });
    }
    let status: Value = house.doors().status().await;
    assert!(status["shops"][0]["last_push"].is_string(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warehouse_id_of_any_length_is_refused_and_kept_nowhere() {
    let house = House::with(&[Shop::moscow()]).await;
    let shop = house.shop();
    let auth = [("Authorization", shop.push_token()), TYPE];
    let ask = async |warehouse: &str| {
        let body = format!("{{\"warehouseId\":{warehouse},\"skus\":[\"A\"]}}");
        send(
            house.doors().public,
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
        let answer = ask(&warehouse).await;
        assert_eq!(answer.status, 400, "{} bytes", warehouse.len());
        assert!(answer.body.len() < 1_000, "{} bytes", answer.body.len());
        assert!(
            answer.text().contains("at most 40 characters"),
            "{}",
            answer.text()
        );
    }
    assert_eq!(house.doors().alarms().await, []);
    // A number of 40 digits is one, but of no warehouse of ours.
    let longest = "7".repeat(40);
    let answer = ask(&longest).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains(&longest), "{}", answer.text());
    // A value of the wrong type is not repeated whole either.
    let body = format!(
        "{{\"warehouseId\":1,\"skus\":\"{}\"}}",
        "A".repeat(1_000_000)
    );
    let answer = send(
        house.doors().public,
        "POST",
        "/moscow/stocks",
        &auth,
        body.as_bytes(),
    )
    .await;
    assert_eq!(
        (answer.status, answer.body.len() < 2_000),
        (400, true),
        "{} bytes",
        answer.body.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_a_body_that_is_not_there_closes_the_connection() {
    let house = House::with(&[Shop::moscow()]).await;
    let mut line = Line::to(house.doors().public).await;
    line.say(
        b"POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: wrong\r\n\
          Content-Length: 1000000\r\n\r\n",
    )
    .await;
    let answer = line.hear().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (403, Some("close"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_date_to_come_is_shown_to_the_market() {
    let house = House::with(&[Shop::moscow()]).await;
    let now = stockbridge::clock::Clock::wall().now();
    let ahead = (now + chrono::TimeDelta::minutes(4)).to_rfc3339();
    let body = crate::harness::dated("A", 5, &ahead);
    assert_eq!(
        house
            .doors()
            .put(house.shop(), body.as_bytes())
            .await
            .status,
        200
    );
    let answer = house
        .doors()
        .ask(house.shop(), house.shop().warehouses[0], &["A"])
        .await
        .json();
    let shown = answer["skus"][0]["items"][0]["updatedAt"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown: chrono::DateTime<chrono::Utc> = shown.parse().unwrap();
    assert!(
        shown >= now && shown <= stockbridge::clock::Clock::wall().now(),
        "{shown}"
    );
    house.settle().await;
}

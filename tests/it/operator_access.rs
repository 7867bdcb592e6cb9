//! The operator's listener and web pages: which requests it serves.

use serde_json::Value;
use stockbridge::clock::Clock;

use crate::harness::{House, Shop, market};
use crate::wire::send;

const GETS: &[&str] = &[
    "/healthz",
    "/readyz",
    "/status",
    "/metrics",
    "/explain?sku=A",
    "/ready-report",
    "/selftest",
    "/sources",
    "/sources/rejected.csv?source=import",
    "/nothing-here",
];

const POSTS: &[&str] = &[
    "/import?shop=moscow",
    "/accept?source=import",
    "/verify",
    "/sources/read?source=import",
    "/selftest",
];

const WIPE: &[u8] = b"sku;quantity\nA;0\n";

/// A shop that forwards nothing and has 5 of A.
async fn house(more: &str) -> House {
    let shops = [Shop::moscow().set("migrate = \"off\"")];
    let house = House::set_up(market(&shops), &shops, more, Clock::wall()).await;
    house.doors().feed(&shops[0], &[("A", 5)]).await;
    house
}

async fn refused(house: &House, method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let body = if method == "GET" { &[] } else { WIPE };
    let answer = send(house.doors().ops, method, target, fields, body).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let refusal: Value = answer.json();
    assert!(refusal["error"]["message"].is_string(), "{refusal}");
    let code = refusal["error"]["code"].as_str().unwrap().to_owned();
    let status = if code == "FOREIGN_HOST" { 421 } else { 403 };
    assert_eq!(
        answer.status, status,
        "{method} {target} {fields:?}: {refusal}"
    );
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_refuses_a_foreign_host() {
    let house = house("").await;
    for host in ["evil.example:9090", "stockbridge:9090"] {
        for target in GETS {
            let code = refused(&house, "GET", target, &[("Host", host)]).await;
            assert_eq!(code, "FOREIGN_HOST", "{target}");
        }
        for target in [POSTS, &["/nothing-here"]].concat() {
            let fields = [("Host", host), ("X-Stockbridge", "1")];
            assert_eq!(
                refused(&house, "POST", target, &fields).await,
                "FOREIGN_HOST",
                "{target}"
            );
        }
    }
    assert_eq!(house.doors().counts(house.shop(), &["A"]).await[0].1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_host_is_served() {
    let house = house("ops_hosts = [\"stockbridge\", \"ops.example\"]\n").await;
    for host in ["stockbridge:9090", "ops.example", "localhost", "127.0.0.1"] {
        for target in ["/metrics", "/healthz"] {
            let answer = send(house.doors().ops, "GET", target, &[("Host", host)], b"").await;
            assert_eq!(answer.status, 200, "{host}");
        }
    }
    assert_eq!(
        refused(&house, "GET", "/metrics", &[("Host", "a.example")]).await,
        "FOREIGN_HOST"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_web_page_changes_nothing() {
    let house = house("").await;
    let form = [
        ("Content-Type", "text/plain"),
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    for target in POSTS {
        assert_eq!(
            refused(&house, "POST", target, &form).await,
            "HEADER_MISSING",
            "{target}"
        );
        // Old browsers send neither field.
        let plain = [("Content-Type", "text/plain")];
        assert_eq!(
            refused(&house, "POST", target, &plain).await,
            "HEADER_MISSING",
            "{target}"
        );
    }
    let answer = send(
        house.doors().ops,
        "POST",
        "/import?shop=moscow",
        &form,
        WIPE,
    )
    .await;
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    for said in ["X-Stockbridge", "POST", "-H 'X-Stockbridge: 1'"] {
        assert!(message.contains(said), "{said} is not in {message}");
    }
    assert_eq!(house.doors().counts(house.shop(), &["A"]).await[0].1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_does_not_open_the_door_to_another_origin() {
    let house = house("").await;
    for field in [
        ("Origin", "https://evil.example"),
        ("Origin", "http://localhost:3000"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        for target in POSTS {
            let fields = [("X-Stockbridge", "1"), field];
            let code = refused(&house, "POST", target, &fields).await;
            assert_eq!(code, "FOREIGN_ORIGIN", "{target} {field:?}");
        }
    }
    // What a browser asks before it sends the header to another origin.
    let preflight = [
        ("Origin", "https://evil.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-stockbridge"),
    ];
    assert_eq!(
        refused(&house, "OPTIONS", "/import", &preflight).await,
        "HEADER_MISSING"
    );
    assert_eq!(house.doors().counts(house.shop(), &["A"]).await[0].1, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_the_header_is_served() {
    let house = house("").await;
    let ours = [("X-Stockbridge", "1"), ("Sec-Fetch-Site", "same-origin")];
    let import = "/import?shop=moscow&dry_run=true";
    let answer = send(
        house.doors().ops,
        "POST",
        import,
        &ours,
        b"sku;quantity\nA;4\n",
    )
    .await;
    assert_eq!((answer.status, &answer.json()["changed"]), (200, &1.into()));
}

//! The operator's listener and web pages: which requests it serves.

use lifecycle::Clock;
use serde_json::Value;

use crate::harness::{TestService, TestShop, market_for};
use crate::wire::send;

const GET_TARGETS: &[&str] = &[
    "/healthz",
    "/readyz",
    "/status",
    "/metrics",
    "/explain?sku=A",
    "/ready-report",
    "/selftest",
    "/sources",
    "/sources/rejected.csv?source=import",
    "/api/events",
    "/api/charts?shop=moscow",
    "/nothing-here",
];

const POST_TARGETS: &[&str] = &[
    "/import?shop=moscow",
    "/accept?source=import",
    "/verify",
    "/pause",
    "/resume",
    "/sources/read?source=import",
    "/selftest",
];

const ZEROING_FILE: &[u8] = b"sku;quantity\nA;0\n";

/// A shop that forwards nothing and has 5 of A.
async fn start_service(extra_settings: &str) -> TestService {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let service =
        TestService::start_with(market_for(&shops), &shops, extra_settings, Clock::wall()).await;
    service.endpoints().feed(&shops[0], &[("A", 5)]).await;
    service
}

async fn refusal_code(
    service: &TestService,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> String {
    let body = if method == "GET" { &[] } else { ZEROING_FILE };
    let response = send(service.endpoints().ops, method, target, fields, body).await;
    assert_eq!(response.header("access-control-allow-origin"), None);
    let error: Value = response.json();
    assert!(error["error"]["message"].is_string(), "{error}");
    let code = error["error"]["code"].as_str().unwrap().to_owned();
    let status = if code == "FOREIGN_HOST" { 421 } else { 403 };
    assert_eq!(
        response.status, status,
        "{method} {target} {fields:?}: {error}"
    );
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_refuses_a_foreign_host() {
    let service = start_service("").await;
    for host in ["evil.example:9090", "stockbridge:9090"] {
        for target in GET_TARGETS {
            let code = refusal_code(&service, "GET", target, &[("Host", host)]).await;
            assert_eq!(code, "FOREIGN_HOST", "{target}");
        }
        for target in [POST_TARGETS, &["/nothing-here"]].concat() {
            let fields = [("Host", host), ("X-Stockbridge", "1")];
            assert_eq!(
                refusal_code(&service, "POST", target, &fields).await,
                "FOREIGN_HOST",
                "{target}"
            );
        }
    }
    assert_eq!(
        service.endpoints().counts(service.shop(), &["A"]).await[0].1,
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_host_is_served() {
    let service = start_service("ops_hosts = [\"stockbridge\", \"ops.example\"]\n").await;
    for host in ["stockbridge:9090", "ops.example", "localhost", "127.0.0.1"] {
        for target in ["/metrics", "/healthz"] {
            let response = send(
                service.endpoints().ops,
                "GET",
                target,
                &[("Host", host)],
                b"",
            )
            .await;
            assert_eq!(response.status, 200, "{host}");
        }
    }
    assert_eq!(
        refusal_code(&service, "GET", "/metrics", &[("Host", "a.example")]).await,
        "FOREIGN_HOST"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_a_web_page_changes_nothing() {
    let service = start_service("").await;
    let form = [
        ("Content-Type", "text/plain"),
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
    ];
    for target in POST_TARGETS {
        assert_eq!(
            refusal_code(&service, "POST", target, &form).await,
            "HEADER_MISSING",
            "{target}"
        );
        // Old browsers send neither field.
        let plain = [("Content-Type", "text/plain")];
        assert_eq!(
            refusal_code(&service, "POST", target, &plain).await,
            "HEADER_MISSING",
            "{target}"
        );
    }
    let response = send(
        service.endpoints().ops,
        "POST",
        "/import?shop=moscow",
        &form,
        ZEROING_FILE,
    )
    .await;
    let message = response.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    for expected_text in ["X-Stockbridge", "POST", "-H 'X-Stockbridge: 1'"] {
        assert!(
            message.contains(expected_text),
            "{expected_text} is not in {message}"
        );
    }
    assert_eq!(
        service.endpoints().counts(service.shop(), &["A"]).await[0].1,
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_does_not_allow_another_origin() {
    let service = start_service("").await;
    for field in [
        ("Origin", "https://evil.example"),
        ("Origin", "http://localhost:3000"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        for target in POST_TARGETS {
            let fields = [("X-Stockbridge", "1"), field];
            let code = refusal_code(&service, "POST", target, &fields).await;
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
        refusal_code(&service, "OPTIONS", "/import", &preflight).await,
        "HEADER_MISSING"
    );
    assert_eq!(
        service.endpoints().counts(service.shop(), &["A"]).await[0].1,
        5
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_the_header_is_served() {
    let service = start_service("").await;
    let ours = [("X-Stockbridge", "1"), ("Sec-Fetch-Site", "same-origin")];
    let import = "/import?shop=moscow&dry_run=true";
    let response = send(
        service.endpoints().ops,
        "POST",
        import,
        &ours,
        b"sku;quantity\nA;4\n",
    )
    .await;
    assert_eq!(
        (response.status, &response.json()["changed"]),
        (200, &1.into())
    );
}

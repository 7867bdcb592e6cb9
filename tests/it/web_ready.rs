//! The switch-over as a check list, and its verdict on the overview.

use std::time::Duration;

use lifecycle::Clock;
use tokio::time::{Instant, sleep};

use crate::harness::{Endpoints, TestService, TestShop, market_for};
use crate::wire::send;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn page_text(endpoints: Endpoints, target: &str, language: &str) -> String {
    let headers = [("Accept", "text/html"), ("Accept-Language", language)];
    let response = send(endpoints.ops, "GET", target, &headers, b"").await;
    assert_eq!(response.status, 200, "{target}");
    response.text()
}

/// Severity of each check, in the order of the page.
fn check_severities(page: &str) -> Vec<String> {
    let checks = page
        .split("-tick\" class=\"state\" data-severity=\"")
        .skip(1);
    let severity = |check: &str| check.split('"').next().unwrap().to_owned();
    checks.map(severity).collect()
}

/// Time of the report, as the page says it.
fn as_of(page: &str) -> String {
    let (_, rest) = page.split_once("id=\"as-of\">").unwrap();
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shop_that_is_ready_passes_every_check() {
    let shops = [TestShop::moscow()];
    let earlier = Clock::starting_at(Clock::wall().now() - chrono::TimeDelta::hours(1));
    let mut service = TestService::start_with(market_for(&shops), &shops, "", earlier).await;
    service.endpoints().feed(&shops[0], &[("A", 5)]).await;
    service.wait_settled().await;
    service.restart_with_clock(Clock::wall()).await;
    let endpoints = service.endpoints();
    endpoints.counts(&shops[0], &["A"]).await;
    service.wait_settled().await;
    let (status, _) = endpoints.ops_request("POST", "/verify", "").await;
    assert_eq!(status, 202);
    let is_go = async || {
        let (_, report) = endpoints.ops_request("GET", "/ready-report", "").await;
        report["verdict"] == "GO"
    };
    let deadline = Instant::now() + TIMEOUT;
    while !is_go().await {
        assert!(Instant::now() < deadline, "it never becomes ready");
        sleep(Duration::from_millis(20)).await;
    }
    let page = page_text(endpoints, "/ready", "en").await;
    assert!(
        page.contains("READY: the push API can be switched off."),
        "{page}"
    );
    assert_eq!(check_severities(&page), ["good"; 12], "{page}");
    let page = page_text(endpoints, "/ready", "ru").await;
    assert!(page.contains("ГОТОВО"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_checks_link_to_their_causes() {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    endpoints.feed(&shops[0], &[("A", 5)]).await;
    let hostile = "<b>новый\u{202e}/1";
    endpoints
        .query_stock(&shops[0], 569_667, &["A", hostile])
        .await;
    let page = page_text(endpoints, "/ready", "en").await;
    assert!(
        page.contains("NOT YET: Nothing is sent: migrate is"),
        "{page}"
    );
    assert!(page.contains("1 of 2 requested SKUs have no known stock."));
    assert!(
        !page.contains("<b>") && !page.contains('\u{202e}'),
        "{page}"
    );
    assert!(page.contains("⟨U+202E⟩/1"), "{page}");
    let link = "/shops/moscow/skus/%3Cb%3E%D0%BD%D0%BE%D0%B2%D1%8B%D0%B9%E2%80%AE%2F1";
    assert!(page.contains(&format!("href=\"{link}\"")), "{page}");
    assert!(page.contains("href=\"/shops/moscow\""));
    let severities = check_severities(&page);
    assert_eq!(severities.len(), 12);
    assert_eq!(severities[..4], ["trouble", "good", "good", "trouble"]);
    // Nothing is sent, so these say nothing yet.
    assert_eq!(severities[5..11], ["waiting"; 6]);
    for (language, verdict) in [("ru", "ЕЩЁ РАНО"), ("zh", "尚未就绪")] {
        assert!(
            page_text(endpoints, "/ready", language)
                .await
                .contains(verdict)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_the_page_is_cached() {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let first = page_text(endpoints, "/ready", "en").await;
    assert!(first.contains("No stock is known yet."), "{first}");
    endpoints.feed(&shops[0], &[("A", 5)]).await;
    // JSON is exact, and the page says when its report was made.
    let (_, report) = endpoints.ops_request("GET", "/ready-report", "").await;
    let reasons = report["shops"][0]["reasons"].to_string();
    assert!(!reasons.contains("no stock is known"), "{reasons}");
    let page = page_text(endpoints, "/ready", "en").await;
    assert_eq!(as_of(&page), as_of(&first));
    assert!(page.contains("No stock is known yet."), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_keeps_its_texts_and_order() {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let service = TestService::start(&shops).await;
    let headers = [("Accept", "*/*")];
    let ops = service.endpoints().ops;
    let response = send(ops, "GET", "/ready-report", &headers, b"").await;
    let text = response.text();
    let expected = "\"shops\":[{\"name\":\"moscow\",\"address\":\"campaign 12345\",\"migrate\":\
                    \"off\",\"verdict\":\"NOT YET\",\"reasons\":[\"migrate is \\\"off\\\": nothing \
                    is sent\",\"no stock is known yet: send stock or add a source\",\"the Market \
                    has requested nothing yet, so it is unknown which SKUs it needs\"],\"remarks\":\
                    [],\"coverage\":{\"asked\":0,\"in_book\":0,\"acknowledged\":0,\"missing\":[],\
                    \"incomplete\":false},\"last_push\":null,\"last_equal\":null,\
                    \"hours_since_equal\":null,\"dirty\":null,\"quarantined\":0,\"drifted\":0,\
                    \"unknown_to_the_market\":0,\"sources\":[]}]}";
    assert!(text.ends_with(expected), "{text}");
    assert!(text.starts_with("{\"now\":\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_the_verdict_when_it_is_known() {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let page = page_text(endpoints, "/", "en").await;
        let (_, rest) = page.split_once("id=\"readiness\"").unwrap();
        let verdict = rest.split("</span>").next().unwrap();
        if verdict.contains("NOT YET: Nothing is sent") {
            assert!(verdict.contains("data-severity=\"attention\""), "{verdict}");
            assert!(verdict.ends_with("And 2 other reasons."), "{verdict}");
            let (_, marked) = page.split_once("href=\"/ready\"").unwrap();
            assert!(
                marked.contains("class=\"mark\" data-severity=\"attention\""),
                "{page}"
            );
            return;
        }
        assert!(verdict.contains("being computed"), "{verdict}");
        assert!(Instant::now() < deadline, "{page}");
        sleep(Duration::from_millis(20)).await;
    }
}

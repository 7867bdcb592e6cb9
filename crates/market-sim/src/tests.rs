//! Tests of the campaign methods: updates, limits, faults, read-backs and real connections.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::simulator_report::{MarketViolation, RequestOutcome, SimCall};
use super::{FaultPlan, MarketFault, MarketSimulator, SimulatorConfig};

pub(crate) const NOW: &str = "2026-11-20T10:00:00Z";

fn config() -> SimulatorConfig {
    let clock = Clock::starting_at(NOW.parse().unwrap());
    SimulatorConfig::new(clock)
        .with_campaign(7, 70, "key")
        .with_campaign(8, 80, "other")
}

fn market() -> MarketSimulator {
    MarketSimulator::new(config())
}

pub(crate) fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

/// Response with its complete body, or the error while reading it.
pub(crate) struct SimTestResponse {
    pub(crate) status: u16,
    headers: axum::http::HeaderMap,
    body: Result<Vec<u8>, axum::Error>,
}

impl SimTestResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    pub(crate) fn error_message(&self) -> String {
        self.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) async fn send(market: &MarketSimulator, request: Request<Body>) -> SimTestResponse {
    let response = market.router().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes().to_vec());
    SimTestResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    }
}

pub(crate) fn request(method: &str, path: &str, body: String) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Api-Key", "key")
        .header("Content-Type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

pub(crate) const STOCKS_PATH: &str = "/v2/campaigns/7/offers/stocks";

pub(crate) fn update_request(skus: &[(&str, u32)], at: DateTime<Utc>) -> Request<Body> {
    let line = |&(sku, count): &(&str, u32)| json!({ "sku": sku, "items": [{ "count": count, "updatedAt": at }] });
    let lines: Vec<Value> = skus.iter().map(line).collect();
    request("PUT", STOCKS_PATH, json!({ "skus": lines }).to_string())
}

/// Creates an update of `skus` SKUs, which differ from those of other batch numbers.
pub(crate) fn batch_request(number: usize, skus: usize) -> Request<Body> {
    let skus: Vec<String> = (0..skus).map(|n| format!("{number}-{n}")).collect();
    let lines: Vec<(&str, u32)> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    update_request(&lines, now())
}

fn count(market: &MarketSimulator, sku: &str) -> Option<u32> {
    market.get(7, sku).map(|record| record.count)
}

pub(crate) fn violation_count(market: &MarketSimulator, violation: MarketViolation) -> u64 {
    market
        .report()
        .violations
        .get(&violation)
        .copied()
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn valid_update_is_stored_without_violations() {
    let market = market();
    let response = send(&market, update_request(&[("A", 5), (" Б ", 0)], now())).await;
    assert_eq!(
        (response.status, response.json()),
        (200, json!({ "status": "OK" }))
    );
    assert_eq!(
        response.header("date"),
        Some("Fri, 20 Nov 2026 10:00:00 GMT")
    );
    assert_eq!(market.snapshot(7)["A"], (5, now()));
    assert_eq!(count(&market, "Б"), Some(0));
    assert_eq!(market.skus_ever_zero(7), ["Б"]);
    assert!(market.is_empty(8));
    let report = market.report();
    assert_eq!(
        (report.updates, report.skus_received, report.skus_applied),
        (1, 2, 2)
    );
    assert_eq!(report.total_violations(), 0);
    assert_eq!(market.requests()[0].outcome, RequestOutcome::Accepted);
}

#[tokio::test(start_paused = true)]
async fn rejected_update_applies_nothing_and_is_reported() {
    let market = market();
    let future = now() + TimeDelta::milliseconds(1);
    let body = json!({ "skus": [
        { "sku": "A", "items": [{ "count": 1 }] },
        { "sku": "B", "items": [{ "count": 1, "updatedAt": future }] },
    ] });
    let response = send(&market, request("PUT", STOCKS_PATH, body.to_string())).await;
    assert_eq!(response.status, 400);
    assert_eq!(
        response.error_message(),
        "Stock for 'B' should not be in the future"
    );
    assert!(market.is_empty(7));
    assert_eq!(violation_count(&market, MarketViolation::Content), 1);
}

#[tokio::test(start_paused = true)]
async fn request_errors_have_documented_texts() {
    let market = market();
    market.revoke_key("other");
    let build_request = |method: &str, path: &str, name: &str, value: &str, content_type: &str| {
        Request::builder()
            .method(method)
            .uri(path)
            .header(name, value)
            .header("Content-Type", content_type)
            .body(Body::from("{}"))
            .unwrap()
    };
    let json = "application/json";
    for (request, status, message) in [
        (
            build_request("PUT", STOCKS_PATH, "X", "x", json),
            401,
            "Api-Key token is not specified",
        ),
        (
            build_request("PUT", STOCKS_PATH, "Api-Key", "x", json),
            401,
            "Api-Key token is invalid",
        ),
        (
            build_request("PUT", STOCKS_PATH, "Api-Key", "other", json),
            401,
            "Api-Key token is revoked",
        ),
        (
            build_request(
                "PUT",
                "/v2/campaigns/8/offers/stocks",
                "Api-Key",
                "key",
                json,
            ),
            403,
            "Access denied",
        ),
        (
            build_request(
                "PUT",
                "/v2/campaigns/9/offers/stocks",
                "Api-Key",
                "key",
                json,
            ),
            404,
            "Campaign not found",
        ),
        (
            build_request("PUT", "/campaigns/7/offers/stocks", "Api-Key", "key", json),
            404,
            "Resource not found",
        ),
        (
            build_request("GET", STOCKS_PATH, "Api-Key", "key", json),
            405,
            "Request method 'GET' not supported",
        ),
        (
            build_request("PUT", STOCKS_PATH, "Api-Key", "key", "text/plain"),
            415,
            "Content type 'text/plain' not supported",
        ),
        (
            build_request("PUT", STOCKS_PATH, "Authorization", "Bearer key", json),
            400,
            "'skus' must not be null",
        ),
    ] {
        let response = send(&market, request).await;
        assert_eq!(
            (response.status, response.error_message().as_str()),
            (status, message)
        );
        assert_eq!(response.json()["status"], "ERROR");
    }
    market.restore_key("other");
    let request = build_request(
        "PUT",
        "/v2/campaigns/8/offers/stocks",
        "Api-Key",
        "other",
        json,
    );
    assert_eq!(send(&market, request).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn campaign_may_send_100_000_skus_a_minute() {
    let market = market();
    tokio::time::advance(Duration::from_millis(200)).await;
    for number in 0..50 {
        if number == 25 {
            tokio::time::advance(Duration::from_millis(40_500)).await;
        }
        assert_eq!(
            send(&market, batch_request(number, 2_000)).await.status,
            200
        );
    }
    tokio::time::advance(Duration::from_secs(19)).await;
    let limited = send(&market, batch_request(50, 1)).await;
    assert_eq!(limited.status, 420);
    assert!(
        limited
            .error_message()
            .starts_with("Hit rate limit of 100000 requests per '60 SECONDS'")
    );
    assert_eq!(limited.header("x-ratelimit-resource-limit"), Some("100000"));
    assert_eq!(limited.header("x-ratelimit-resource-remaining"), Some("0"));
    assert_eq!(
        limited.header("date"),
        Some("Fri, 20 Nov 2026 10:00:59 GMT")
    );
    // The wait is 500 ms, and a date has whole seconds only.
    let until = limited.header("x-ratelimit-resource-until");
    assert_eq!(until, Some("Fri, 20 Nov 2026 10:01:01 GMT"));
    assert_eq!(violation_count(&market, MarketViolation::Volume), 1);
    assert_eq!(market.report().peak_skus_per_minute, 100_001);
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(send(&market, batch_request(51, 2_000)).await.status, 200);
    assert_eq!(market.get(7, "50-0"), None);
}

#[tokio::test(start_paused = true)]
async fn rejected_skus_cost_quota_but_500s_do_not() {
    let market = MarketSimulator::new(SimulatorConfig {
        skus_per_minute: 10,
        ..config()
    });
    market.set_faults(FaultPlan::script([
        Some(MarketFault::ServerError),
        Some(MarketFault::ApplyThenError),
    ]));
    assert!(send(&market, batch_request(0, 10)).await.status >= 500);
    assert!(send(&market, batch_request(1, 10)).await.status >= 500);
    let future = now() + TimeDelta::seconds(1);
    assert_eq!(
        send(&market, update_request(&[("A", 1), ("B", 1)], future))
            .await
            .status,
        400
    );
    assert_eq!(send(&market, batch_request(2, 9)).await.status, 420);
    assert_eq!(send(&market, batch_request(3, 8)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn reports_early_retries() {
    let market = MarketSimulator::new(SimulatorConfig {
        skus_per_minute: 10,
        ..config()
    });
    assert_eq!(send(&market, batch_request(0, 10)).await.status, 200);
    assert_eq!(send(&market, batch_request(1, 1)).await.status, 420);
    // This request may have been sent before the 420 arrived.
    assert_eq!(send(&market, batch_request(2, 1)).await.status, 420);
    assert_eq!(market.report().early_retries, 0);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(send(&market, batch_request(3, 1)).await.status, 420);
    assert_eq!(market.report().early_retries, 1);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(send(&market, batch_request(4, 1)).await.status, 200);
    assert_eq!(market.report().early_retries, 1);
}

#[tokio::test(start_paused = true)]
async fn fifth_parallel_request_is_limited() {
    let market = market();
    market.set_faults(FaultPlan::script([Some(MarketFault::Hang); 4]));
    let mut hanging: Vec<_> = (0..4)
        .map(|n| Box::pin(send(&market, batch_request(n, 1))))
        .collect();
    for request in &mut hanging {
        assert!(request.as_mut().now_or_never().is_none());
    }
    let limited = send(&market, batch_request(4, 1)).await;
    assert_eq!(limited.status, 420);
    assert_eq!(
        limited.error_message(),
        "Hit rate limit of 4 parallel requests for campaignId 7"
    );
    assert_eq!(violation_count(&market, MarketViolation::Parallel), 1);
    assert_eq!(market.report().peak_parallel, 5);
    hanging.pop();
    assert_eq!(send(&market, batch_request(5, 1)).await.status, 200);
    assert!(
        market
            .requests()
            .iter()
            .any(|r| r.outcome == RequestOutcome::Faulted(MarketFault::Hang))
    );
}

#[tokio::test(start_paused = true)]
async fn reports_sku_in_two_parallel_requests() {
    let market = market();
    market.set_faults(FaultPlan::script([Some(MarketFault::Hang)]));
    let mut hanging = Box::pin(send(&market, update_request(&[("A", 1), ("B", 1)], now())));
    assert!(hanging.as_mut().now_or_never().is_none());
    send(&market, update_request(&[("B", 2), ("C", 1)], now())).await;
    assert_eq!(
        violation_count(&market, MarketViolation::SkuTwiceInFlight),
        1
    );
    assert!(
        market.report().violation_examples[0].contains(" B "),
        "{:?}",
        market.report().violation_examples
    );
    drop(hanging);
    send(&market, update_request(&[("A", 2), ("B", 3)], now())).await;
    assert_eq!(
        violation_count(&market, MarketViolation::SkuTwiceInFlight),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn rejects_and_reports_oversized_body() {
    let market = market();
    let response = send(
        &market,
        request("PUT", STOCKS_PATH, " ".repeat(512 * 1024 + 1)),
    )
    .await;
    assert_eq!(response.status, 400);
    assert!(
        response
            .error_message()
            .starts_with("The request is too big: 524289")
    );
    assert_eq!(violation_count(&market, MarketViolation::BodySize), 1);
    assert_eq!(violation_count(&market, MarketViolation::Content), 0);
}

#[tokio::test(start_paused = true)]
async fn reports_value_older_than_acknowledged() {
    let market = market();
    let at = |secs| now() - TimeDelta::seconds(secs);
    send(&market, update_request(&[("A", 5)], at(10))).await;
    send(&market, update_request(&[("A", 6)], at(10))).await;
    assert_eq!(violation_count(&market, MarketViolation::WentBackwards), 0);
    send(&market, update_request(&[("A", 4)], at(11))).await;
    assert_eq!(violation_count(&market, MarketViolation::WentBackwards), 1);
    // An update that was not acknowledged does not count.
    market.set_faults(FaultPlan::script([Some(MarketFault::ApplyThenError)]));
    send(&market, update_request(&[("B", 5)], at(10))).await;
    send(&market, update_request(&[("B", 4)], at(11))).await;
    assert_eq!(violation_count(&market, MarketViolation::WentBackwards), 1);
    assert_eq!(market.get(7, "B").unwrap().updates_received, 2);
}

#[tokio::test(start_paused = true)]
async fn each_fault_responds_and_applies_as_documented() {
    for (fault, status, applies) in [
        (MarketFault::ParallelLimit, 420, false),
        (MarketFault::VolumeLimit, 420, false),
        (MarketFault::ErrorInOk, 200, false),
        (MarketFault::HtmlInOk, 200, false),
        (MarketFault::Redirect, 307, false),
        (MarketFault::Slow, 200, true),
    ] {
        let market = market();
        market.set_faults(FaultPlan::script([Some(fault)]));
        let response = send(&market, update_request(&[("A", 5)], now())).await;
        assert_eq!(response.status, status, "{fault:?}");
        assert_eq!(count(&market, "A").is_some(), applies, "{fault:?}");
        let is_acknowledged = serde_json::from_slice(response.body.as_ref().unwrap())
            .is_ok_and(|body: Value| body["status"] == "OK");
        assert_eq!(is_acknowledged, fault == MarketFault::Slow, "{fault:?}");
        assert_eq!(market.report().faults[&fault], 1);
        assert_eq!(market.report().total_violations(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn server_errors_and_limits_have_all_varieties() {
    let market = market();
    market.set_faults(FaultPlan::seeded(1).with_fault(MarketFault::ServerError, 1.0));
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..100 {
        let response = send(&market, batch_request(number, 1)).await;
        let content_type = response.header("content-type").unwrap_or("none").to_owned();
        assert_eq!(content_type == "none", response.body.unwrap().is_empty());
        seen.insert((response.status, content_type));
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
    market.set_faults(FaultPlan::seeded(1).with_fault(MarketFault::VolumeLimit, 1.0));
    let mut untils = std::collections::BTreeSet::new();
    for number in 0..50 {
        let response = send(&market, batch_request(number, 1)).await;
        untils.insert(
            response
                .header("x-ratelimit-resource-until")
                .map(str::to_owned),
        );
    }
    let until = |text: &str| Some(text.to_owned());
    let expected = [
        None,
        until("Fri, 20 Nov 2026 10:00:03 GMT"),
        until("Sun, 20 Nov 2026 10:00:03 GMT"),
    ];
    assert_eq!(untils, expected.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn empty_ok_is_applied_half_the_time() {
    let market = market();
    market.set_faults(FaultPlan::seeded(1).with_fault(MarketFault::EmptyOk, 1.0));
    for number in 0..100 {
        let response = send(&market, batch_request(number, 1)).await;
        assert_eq!((response.status, response.body.unwrap().len()), (200, 0));
    }
    assert!((30..70).contains(&market.len(7)), "{}", market.len(7));
}

#[tokio::test(start_paused = true)]
async fn hang_ends_without_response() {
    let market = market();
    let hour = Duration::from_secs(3_600);
    market
        .set_faults(FaultPlan::script([Some(MarketFault::ApplyThenHang)]).with_hang_duration(hour));
    let response = send(&market, update_request(&[("A", 5)], now())).await;
    assert!(response.body.is_err());
    assert_eq!(count(&market, "A"), Some(5));
    assert_eq!(market.requests()[0].duration, hour);
}

#[tokio::test(start_paused = true)]
async fn rejected_sku_fails_the_whole_batch() {
    let market = market();
    market.set_faults(FaultPlan::none().with_rejected_skus(["P".to_owned()], true));
    let response = send(&market, update_request(&[("A", 5), ("P", 1)], now())).await;
    assert_eq!((response.status, count(&market, "A")), (400, None));
    assert!(
        response.error_message().contains("'P'"),
        "{}",
        response.error_message()
    );
    market.set_faults(FaultPlan::none().with_rejected_skus(["P".to_owned()], false));
    let response = send(&market, update_request(&[("P", 5)], now())).await;
    assert_eq!(response.error_message(), "Request could not be processed");
    assert_eq!(
        send(&market, update_request(&[("A", 5)], now()))
            .await
            .status,
        200
    );
    assert_eq!(market.report().total_violations(), 0);
    market.clear_faults();
    assert_eq!(
        send(&market, update_request(&[("P", 5)], now()))
            .await
            .status,
        200
    );
}

#[tokio::test(start_paused = true)]
async fn locked_market_responds_423() {
    let market = market();
    market.set_faults(FaultPlan::none().locked_until(now() + TimeDelta::minutes(1)));
    assert_eq!(send(&market, batch_request(0, 1)).await.status, 423);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(send(&market, batch_request(1, 1)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn max_skus_plan_responds_413() {
    let market = market();
    market.set_faults(FaultPlan::none().with_max_skus(500));
    assert_eq!(send(&market, batch_request(0, 501)).await.status, 413);
    assert_eq!(send(&market, batch_request(1, 500)).await.status, 200);
    assert_eq!(market.len(7), 500);
}

#[tokio::test(start_paused = true)]
async fn dropped_skus_are_acknowledged() {
    let market = market();
    market.set_faults(FaultPlan::seeded(1).with_drop_rate(0.1));
    assert_eq!(send(&market, batch_request(0, 2_000)).await.status, 200);
    let dropped = market.report().skus_dropped;
    assert!((150..250).contains(&dropped), "{dropped}");
    assert_eq!(u64::try_from(market.len(7)).unwrap() + dropped, 2_000);
}

// === Read-backs ===

pub(crate) async fn readback_campaign(
    market: &MarketSimulator,
    query: &str,
    body: Value,
) -> SimTestResponse {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    send(
        market,
        request("POST", &format!("{STOCKS_PATH}{query}"), body),
    )
    .await
}

pub(crate) fn offers(response: &SimTestResponse, warehouse: u64) -> Vec<Value> {
    let json_body = response.json();
    let warehouses = json_body["result"]["warehouses"].as_array().unwrap();
    let warehouse_json = warehouses.iter().find(|w| w["warehouseId"] == warehouse);
    warehouse_json
        .map(|found| found["offers"].as_array().unwrap().clone())
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn pagination_ends_when_token_is_absent() {
    let market = MarketSimulator::new(SimulatorConfig {
        short_pages: true,
        ..config()
    });
    send(&market, batch_request(0, 1_000)).await;
    let (mut token, mut seen, mut short_pages) = (String::new(), Vec::new(), 0);
    loop {
        let response = readback_campaign(
            &market,
            &format!("?limit=200&page_token={token}"),
            json!({}),
        )
        .await;
        let page = offers(&response, 70);
        assert!(page.len() <= 100);
        seen.extend(
            page.iter()
                .map(|offer| offer["offerId"].as_str().unwrap().to_owned()),
        );
        match response.json()["result"]["paging"]["nextPageToken"].as_str() {
            None => break,
            Some(next) => {
                short_pages += usize::from(page.len() < 100);
                token = next.to_owned();
            }
        }
    }
    assert!(short_pages > 0);
    assert_eq!(seen.len(), 1_000);
    seen.dedup();
    assert_eq!(seen.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn full_last_page_has_no_token() {
    let market = market();
    send(&market, batch_request(0, 100)).await;
    let first = readback_campaign(&market, "?pageToken=", Value::Null).await;
    assert_eq!(offers(&first, 70).len(), 50);
    let token = first.json()["result"]["paging"]["nextPageToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let last = readback_campaign(&market, &format!("?pageToken={token}"), Value::Null).await;
    assert_eq!(offers(&last, 70).len(), 50);
    assert_eq!(last.json()["result"]["paging"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn offer_shows_fit_available_and_return_warehouse() {
    let market = MarketSimulator::new(SimulatorConfig {
        reserved: 2,
        return_warehouse: Some(99),
        ..config()
    });
    send(&market, update_request(&[("A", 5)], now())).await;
    let response = readback_campaign(&market, "", json!({ "offerIds": ["A", "unknown"] })).await;
    assert_eq!(
        offers(&response, 70),
        [json!({
            "offerId": "A",
            "stocks": [{ "type": "FIT", "count": 7 }, { "type": "AVAILABLE", "count": 5 }],
            "updatedAt": NOW,
        })]
    );
    assert_eq!(offers(&response, 99).len(), 1);
    let response = readback_campaign(&market, "", json!({ "stocksWarehouseId": 70 })).await;
    assert_eq!(
        (offers(&response, 70).len(), offers(&response, 99).len()),
        (1, 0)
    );
    assert_eq!(market.requests()[1].call, SimCall::Readback);
}

#[tokio::test(start_paused = true)]
async fn applies_filters_and_rejects_invalid_ones() {
    let market = market();
    send(&market, update_request(&[("A", 5), ("B", 0)], now())).await;
    let in_stock = readback_campaign(&market, "", json!({ "hasStocks": true })).await;
    assert_eq!(offers(&in_stock, 70)[0]["offerId"], "A");
    assert!(
        offers(
            &readback_campaign(&market, "", json!({ "archived": true })).await,
            70
        )
        .is_empty()
    );
    for (query, body) in [
        ("?limit=0", json!({})),
        ("?limit=many", json!({})),
        ("?page_token=xyz", json!({})),
        ("?limit=10", json!({ "offerIds": ["A"] })),
        ("", json!([])),
    ] {
        assert_eq!(
            readback_campaign(&market, query, body).await.status,
            400,
            "{query}"
        );
    }
}

// === Faults on a TCP connection ===

async fn update_over_tcp(
    fault: MarketFault,
) -> (MarketSimulator, Result<(u16, String), reqwest::Error>) {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let market = market();
    market.set_faults(FaultPlan::script([Some(fault)]));
    let tasks = Tasks::new(CrashSignal::default());
    let address = market
        .start(([127, 0, 0, 1], 0).into(), &tasks)
        .await
        .unwrap();
    let client = reqwest::Client::new();
    let body = json!({ "skus": [{ "sku": "A", "items": [{ "count": 5, "updatedAt": now() }] }] });
    let send_update = async {
        let request = client
            .put(format!("http://{address}{STOCKS_PATH}"))
            .header("Api-Key", "key");
        let request = request
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    };
    let result = send_update.await;
    tasks.stop();
    tasks.ended().await;
    (market, result)
}

#[tokio::test]
async fn close_fault_applies_nothing() {
    let (market, result) = update_over_tcp(MarketFault::CloseWithoutResponse).await;
    assert!(result.unwrap_err().is_request());
    assert_eq!(count(&market, "A"), None);
}

#[tokio::test]
async fn truncated_response_breaks_in_the_body() {
    let (market, result) = update_over_tcp(MarketFault::TruncatedResponse).await;
    let error = result.unwrap_err();
    // The head arrived; the error is in the body.
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert_eq!(count(&market, "A"), Some(5));
}

#[tokio::test]
async fn reports_followed_redirect() {
    let (market, result) = update_over_tcp(MarketFault::Redirect).await;
    assert_eq!(result.unwrap().0, 200);
    assert_eq!(
        violation_count(&market, MarketViolation::RedirectFollowed),
        1
    );
    assert!(market.report().violation_examples[0].ends_with("with the key"));
}

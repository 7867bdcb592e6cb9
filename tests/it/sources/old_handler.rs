//! The shop's old handler goes on being asked.

use serde_json::{Value, json};

use super::{SellerRequest, SellerServer, counts, http_response, with_source};
use crate::harness::{TestService, TestShop};

const PAGE: &str = "<!DOCTYPE html><html><title>Вход</title></html>";

/// A shop whose old handler is there.
fn shop(server: &SellerServer) -> TestShop {
    let url = format!("url = \"{}/api/stocks\"", server.url);
    let shop = TestShop::moscow().secret("SOURCES_SITE_TOKEN", "canary-old");
    with_source(shop, "site", "legacy", &[&url, "part_skus = 3"])
}

fn requested_skus(request: &SellerRequest) -> Vec<String> {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    serde_json::from_value(body["skus"].clone()).unwrap()
}

/// Answers as such handlers do: numbers in quotes, what is unknown left out.
fn stock_response(request: &SellerRequest, count: impl Fn(&str) -> Option<u32>) -> Vec<u8> {
    let skus = requested_skus(request);
    let known = skus.iter().filter_map(|sku| Some((sku, count(sku)?)));
    let items: Vec<Value> = known
        .map(|(sku, count)| {
            let stock = json!({ "type": "FIT", "count": count.to_string() });
            json!({ "sku": sku, "warehouseId": "569667", "items": [stock] })
        })
        .collect();
    http_response("application/json", &json!({ "skus": items }).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn asks_the_old_handler_until_its_first_snapshot() {
    let server = SellerServer::new(|request| {
        stock_response(request, |sku| match sku {
            "A" => Some(7),
            "UNKNOWN" | "LATER" => None,
            _ => Some(3),
        })
    })
    .await;
    let mut service = TestService::start(&[shop(&server)]).await;
    let shop = service.shop().clone();
    let endpoints = service.endpoints();
    let stock = endpoints.counts(&shop, &["A", "B", "UNKNOWN"]).await;
    assert_eq!(stock, counts(&[("A", 7), ("B", 3)]));
    let requests = server.requests();
    assert_eq!(
        (requests.len(), requested_skus(&requests[0])),
        (1, vec!["A".into(), "B".into(), "UNKNOWN".into()])
    );
    assert!(
        requests[0].target.starts_with("POST /api/stocks HTTP"),
        "{requests:?}"
    );
    assert!(
        requests[0].head.contains("authorization: canary-old"),
        "{requests:?}"
    );
    assert!(requests[0].body.contains("569667"), "{requests:?}");
    // What is known is not asked for again, what is not is.
    endpoints.counts(&shop, &["A", "B"]).await;
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        endpoints.counts(&shop, &["A", "LATER"]).await,
        counts(&[("A", 7)])
    );
    assert_eq!(requested_skus(&server.requests()[1]), ["LATER"]);
    // All that the Market has asked for so far is asked for, in parts.
    let source = endpoints.poll_source_until("site", "it is read whole", |it| {
        it["last"]["scope"] == "snapshot"
    });
    assert_eq!(source.await["last"]["rows"], 2);
    let mut requested: Vec<String> = server.requests()[2..4]
        .iter()
        .flat_map(requested_skus)
        .collect();
    requested.sort();
    assert_eq!(requested, ["A", "B", "LATER", "UNKNOWN"]);
    // From now on requests do not wait for it, also after a restart, so its failure has no effect.
    service.restart().await;
    server.set_response(|_| panic!("the Market's question went to the old handler"));
    let stock = service.endpoints().counts(&shop, &["A", "NEW"]).await;
    assert_eq!(stock, counts(&[("A", 7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_a_delivery_of_zeros_for_approval() {
    let server = SellerServer::new(|request| stock_response(request, |_| Some(5))).await;
    let service = TestService::start(&[shop(&server)]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let skus = ["A", "B", "C", "D"];
    let full_stock = counts(&skus.map(|sku| (sku, 5)));
    assert_eq!(endpoints.counts(shop, &skus).await, full_stock);
    endpoints
        .poll_source_until("site", "it is read whole", |it| {
            it["last"]["scope"] == "snapshot"
        })
        .await;
    // The handler with a limit: beyond it everything is 0.
    server
        .set_response(|request| stock_response(request, |sku| Some(if sku < "C" { 5 } else { 0 })));
    let source = endpoints
        .poll_source_until("site", "it is held", |it| it["state"] == "held")
        .await;
    assert_eq!(source["held"], "it would turn 2 of 4 SKUs in stock to zero");
    assert_eq!(endpoints.counts(shop, &skus).await, full_stock);
    assert!(endpoints.has_alarm("source_held", "moscow/site").await);
    let line = "stockbridge_alarm{alarm=\"source_held\",about=\"moscow/site\"} 1";
    assert!(endpoints.metrics().await.contains(line), "{line}");
    let (status, body) = endpoints
        .ops_request("POST", "/accept?shop=moscow&source=site", "")
        .await;
    assert_eq!(
        (status, &body["outcome"], &body["zeroed"]),
        (200, &json!("taken"), &json!(2))
    );
    let wiped_stock = counts(&[("A", 5), ("B", 5), ("C", 0), ("D", 0)]);
    assert_eq!(endpoints.counts(shop, &skus).await, wiped_stock);
    assert!(!endpoints.has_alarm("source_held", "moscow/site").await);
    let (status, body) = endpoints
        .ops_request("POST", "/accept?source=site", "")
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("NOTHING_HELD")),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_with_status_200_is_a_failure() {
    let server = SellerServer::new(|request| stock_response(request, |_| Some(5))).await;
    let service = TestService::start(&[shop(&server)]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let stock = endpoints.counts(shop, &["A", "B"]).await;
    server.set_response(|_| http_response("text/html", PAGE));
    endpoints.request_poll("site").await;
    let source = endpoints
        .wait_for_source("site", "it fails", |it| it["state"] == "failed")
        .await;
    let failure = source["failure"].as_str().unwrap();
    assert!(
        failure.contains("page") && !failure.contains("canary"),
        "{failure}"
    );
    assert!(endpoints.has_alarm("source_failed", "moscow/site").await);
    assert_eq!(endpoints.counts(shop, &["A", "B"]).await, stock);
    server.set_response(|request| stock_response(request, |_| Some(6)));
    endpoints
        .poll_source_until("site", "it recovers", |it| it["state"] == "ok")
        .await;
    assert!(!endpoints.has_alarm("source_failed", "moscow/site").await);
    assert_eq!(
        endpoints.counts(shop, &["A", "B"]).await,
        counts(&[("A", 6), ("B", 6)])
    );
}

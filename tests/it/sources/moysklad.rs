//! Stock that the seller keeps in MoySklad.

use serde_json::json;

use super::{SellerRequest, SellerServer, counts, http_response, with_source};
use crate::harness::{TestService, TestShop};

const ASSORTMENT: &str = include_str!("../../../fixtures/sources/moysklad-assortment.json");
const STOCK: &str = include_str!("../../../fixtures/sources/moysklad-stock-all.json");

/// The article 0557722 in the fixture.
const KETTLE: &str = "12345678-5838-aaeb-0a80-003a003ef439";
/// The article ART-9.
const ROPE: &str = "12345678-279c-aaeb-0a80-00d6001f847c";

fn shop(server: &SellerServer, more: &str) -> TestShop {
    let url = format!("url = \"{}/api/remap/1.2\"", server.url);
    let shop = TestShop::moscow().secret("SOURCES_MS_TOKEN", "canary");
    with_source(
        shop,
        "ms",
        "moysklad",
        &[&url, "stock = \"quantity\"", "guard_bad_rows = 0.6", more],
    )
}

fn moysklad_responses(stock: &str) -> impl Fn(&SellerRequest) -> Vec<u8> + Send + Sync + 'static {
    let stock = stock.to_owned();
    move |request| {
        let is_catalogue = request.target.contains("/entity/assortment");
        http_response(
            "application/json",
            if is_catalogue { ASSORTMENT } else { &stock },
        )
    }
}

fn row(id: &str, quantity: f64) -> serde_json::Value {
    json!({ "assortmentId": id, "quantity": quantity })
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_once_and_changes_from_then_on() {
    let server = SellerServer::new(moysklad_responses(STOCK)).await;
    let mut service = TestService::start(&[shop(&server, "fraction = \"floor\"")]).await;
    let endpoints = service.endpoints();
    endpoints
        .wait_for_source("ms", "it is read", |it| it["state"] == "ok")
        .await;
    let full_stock = counts(&[("0557722", 11), ("ART-9", 46)]);
    assert_eq!(
        endpoints
            .counts(service.shop(), &["0557722", "ART-9"])
            .await,
        full_stock
    );
    let requests = server.requests();
    assert!(
        requests[1]
            .target
            .contains("/report/stock/all/current?stockType=quantity"),
        "{requests:?}"
    );
    assert!(
        requests[1].head.contains("authorization: bearer canary"),
        "{requests:?}"
    );
    service.wait_settled().await;
    server.set_response(moysklad_responses(&json!([row(KETTLE, 3.0)]).to_string()));
    // Over a restart too: when it was last asked is remembered.
    service.restart().await;
    let endpoints = service.endpoints();
    endpoints
        .wait_for_source("ms", "changes come", |it| it["last"]["scope"] == "delta")
        .await;
    let changed_stock = counts(&[("0557722", 3), ("ART-9", 46)]);
    assert_eq!(
        endpoints
            .counts(service.shop(), &["0557722", "ART-9"])
            .await,
        changed_stock
    );
    let last = server.requests().pop().unwrap();
    assert!(last.target.contains("changedSince="), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_that_is_held_is_asked_for_again() {
    let fractions = json!([row(KETTLE, 0.5), row(ROPE, 46.5)]).to_string();
    let server = SellerServer::new(moysklad_responses(&fractions)).await;
    let service = TestService::start(&[shop(&server, "")]).await;
    let endpoints = service.endpoints();
    let source = endpoints
        .wait_for_source("ms", "it is held", |it| it["state"] == "held")
        .await;
    // Of the catalogue two products are strange in any case.
    assert_eq!(source["held"], "4 of 4 rows are rejected or suspicious");
    assert!(endpoints.has_alarm("source_held", "moscow/ms").await);
    server.set_response(moysklad_responses(
        &json!([row(KETTLE, 4.0), row(ROPE, 2.0)]).to_string(),
    ));
    endpoints
        .poll_source_until("ms", "it is well", |it| it["state"] == "ok")
        .await;
    let stock = counts(&[("0557722", 4), ("ART-9", 2)]);
    assert_eq!(
        endpoints
            .counts(service.shop(), &["0557722", "ART-9"])
            .await,
        stock
    );
    assert!(!endpoints.has_alarm("source_held", "moscow/ms").await);
    let requests = server.requests();
    let full_reports = requests
        .iter()
        .filter(|request| request.target.contains("include=zeroLines"))
        .count();
    assert!(full_reports >= 2, "{requests:?}");
}

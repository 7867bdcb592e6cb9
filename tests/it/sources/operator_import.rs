//! The operator's import, dry run, list of rejected rows, and approval.

use serde_json::{Value, json};

use super::{counts, with_source};
use crate::harness::{TestService, TestShop};
use crate::wire::send;

const FILE: &str = "Артикул;Остаток\nA;5\nB;6\nC;7\n";

fn error_code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_an_import_does() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let (_, sources) = endpoints.ops_request("GET", "/sources", "").await;
    assert_eq!(sources, json!([]), "no import has happened yet");
    let target = "/import?shop=moscow&name=stock.csv";
    let (status, body) = endpoints
        .ops_request("POST", &format!("{target}&dry_run=true"), FILE)
        .await;
    assert_eq!(
        (status, &body["outcome"], &body["new"]),
        (200, &json!("looked"), &json!(3))
    );
    assert!(endpoints.all_stock(shop, 100).await.is_empty());
    let (status, body) = endpoints.ops_request("POST", target, FILE).await;
    assert_eq!(
        (status, &body["outcome"], &body["rows"]),
        (200, &json!("taken"), &json!(3))
    );
    assert_eq!(
        (&body["scope"], &body["rejected"]),
        (&json!("delta"), &json!(0))
    );
    assert_eq!(
        endpoints.counts(shop, &["A", "B", "C"]).await,
        counts(&[("A", 5), ("B", 6), ("C", 7)])
    );
    service.wait_settled().await;
    assert_eq!(service.market.get(12_345, "C").unwrap().count, 7);
    let source = endpoints.source("import").await.unwrap();
    assert_eq!(
        (&source["shop"], &source["state"]),
        (&json!("moscow"), &json!("ok"))
    );
    assert_eq!(source["last"]["new"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_parameter_changes_nothing() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let headers = [("X-Stockbridge", "1")];
    for target in [
        "/import?shop=moscow&dryrun=true",
        "/accept?sorce=import",
        "/verify?shops=moscow",
    ] {
        let response = send(endpoints.ops, "POST", target, &headers, FILE.as_bytes()).await;
        assert_eq!(response.status, 400, "{target}");
    }
    assert!(endpoints.all_stock(service.shop(), 100).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_empties_the_shop_is_held() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints
        .ops_request("POST", "/import?shop=moscow", FILE)
        .await;
    let empty = FILE.replace(";6", ";0").replace(";7", ";0");
    let doubt = json!("it would turn 2 of 3 SKUs in stock to zero");
    for (target, is_held) in [
        ("/import?shop=moscow&dry_run=true", false),
        ("/import?shop=moscow", true),
    ] {
        let (status, body) = endpoints.ops_request("POST", target, &empty).await;
        assert_eq!(
            (status, &body["outcome"], &body["doubt"]),
            (200, &json!("held"), &doubt)
        );
        assert_eq!(
            endpoints.has_alarm("source_held", "moscow/import").await,
            is_held
        );
    }
    assert_eq!(endpoints.counts(shop, &["B"]).await, counts(&[("B", 6)]));
    assert_eq!(
        endpoints
            .ops_request("POST", "/accept?source=import", "")
            .await
            .0,
        200
    );
    assert_eq!(endpoints.counts(shop, &["B"]).await, counts(&[("B", 0)]));
    let (status, body) = endpoints
        .ops_request("POST", "/accept?source=rules", "")
        .await;
    assert_eq!((status, error_code(&body)), (404, "NOTHING_HELD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_rejected_rows_with_line_and_reason() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let mut file = FILE.to_owned();
    file.push_str("D;много\n");
    let (status, body) = endpoints
        .ops_request("POST", "/import?shop=moscow", &file)
        .await;
    assert_eq!(
        (status, &body["rejected"], &body["rows"]),
        (200, &json!(1), &json!(3))
    );
    let source = endpoints.source("import").await.unwrap();
    let row = &source["rejected"][0];
    assert_eq!(
        (
            &row["line"],
            row["text"].as_str().unwrap().contains("много")
        ),
        (&json!(5), true)
    );
    let (status, csv) = endpoints.rejected("shop=moscow&source=import").await;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        (status, lines.len(), lines[0]),
        (200, 2, "line;kind;row;reason")
    );
    assert!(
        lines[1].starts_with("5;rejected;") && lines[1].contains("много"),
        "{csv}"
    );
    // The next delivery that is well has none.
    endpoints
        .ops_request("POST", "/import?shop=moscow", FILE)
        .await;
    assert_eq!(
        endpoints.rejected("source=import").await.1.lines().count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_missing_files_and_files_without_stock() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("path = {:?}", directory.path().join("stock.csv"));
    let shops = [TestShop::moscow(), TestShop::new("omsk", 2, 22)]
        .map(|shop| with_source(shop, "erp", "file", &[&path]));
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for (target, status, wanted, expected_text) in [
        (
            "/import?shop=perm",
            404,
            "NOT_FOUND",
            "shop 'perm' is unknown, the shops are moscow, omsk",
        ),
        (
            "/import?shop=moscow&source=x",
            404,
            "NOT_FOUND",
            "the sources are moscow/erp, moscow/import",
        ),
        (
            "/import?shop=moscow&format=doc",
            400,
            "BAD_REQUEST",
            "format is 'doc', it must be csv",
        ),
        (
            "/import?shop=moscow&scope=all",
            400,
            "BAD_REQUEST",
            "scope is 'all', it must be snapshot",
        ),
        (
            "/accept?source=erp",
            404,
            "NOT_FOUND",
            "several shops have a source 'erp'",
        ),
        (
            "/accept?shop=omsk&source=erp",
            404,
            "NOTHING_HELD",
            "no delivery of erp is held for approval",
        ),
        (
            "/sources/read?source=x",
            404,
            "NOT_FOUND",
            "source 'x' is unknown",
        ),
    ] {
        let (found_status, response) = endpoints.ops_request("POST", target, FILE).await;
        assert_eq!(
            (found_status, error_code(&response)),
            (status, wanted),
            "{target}: {response}"
        );
        let message = response["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected_text), "{target}: {message}");
    }
    assert_eq!(endpoints.rejected("source=x").await.0, 404);
    assert_eq!(
        endpoints
            .ops_request("POST", "/sources/read?shop=omsk&source=erp", "")
            .await
            .0,
        202
    );
    for page in ["<!DOCTYPE html><html></html>", "", "a;b\n1;2\n"] {
        let (status, body) = endpoints
            .ops_request("POST", "/import?shop=moscow", page)
            .await;
        assert_eq!(
            (status, error_code(&body)),
            (422, "CANNOT_TAKE"),
            "{page:?}: {body}"
        );
    }
    assert!(endpoints.all_stock(&shops[0], 100).await.is_empty());
    // A file that is named and is not there.
    let failed = endpoints
        .wait_for_source("erp", "it fails", |it| it["state"] == "failed")
        .await;
    assert!(
        failed["failure"].as_str().unwrap().contains("stock.csv"),
        "{failed}"
    );
    assert!(endpoints.has_alarm("source_failed", "moscow/erp").await);
}

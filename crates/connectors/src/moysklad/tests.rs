//! Tests of the connector against a scripted service.

use std::io::Write as _;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::json;
use stock_import::{DeliveryCancelled, ProductKey, Row};
use strict_http::secret::Secret;
use strict_http::test_server::{TestServer, plain_client, serve};

use super::*;

const ASSORTMENT: &str = include_str!("../../../../fixtures/sources/moysklad-assortment.json");

type ServiceResponder = Arc<dyn Fn(usize, &str) -> Response + Send + Sync>;
type RequestedUris = Arc<Mutex<Vec<String>>>;

/// Service whose responses depend on the number of earlier requests and on the URI.
async fn scripted_service(respond: ServiceResponder) -> (TestServer, RequestedUris) {
    let requested = RequestedUris::default();
    let recorded = Arc::clone(&requested);
    let router = Router::new().fallback(async move |request: Request| {
        assert_eq!(request.headers()["accept-encoding"], "gzip");
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert!(
            ["Bearer canary", "Basic YWRtaW46Y2FuYXJ5"].contains(&authorization),
            "{authorization}"
        );
        let uri = request.uri().to_string();
        let uri = percent_decode_str(&uri).decode_utf8().unwrap().into_owned();
        let earlier = {
            let mut requested = recorded.lock();
            requested.push(uri.clone());
            requested.len() - 1
        };
        respond(earlier, &uri)
    });
    (serve(router).await, requested)
}

fn gzip(body: &str) -> Response {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    ([("content-encoding", "gzip")], encoder.finish().unwrap()).into_response()
}

fn moysklad(server: &TestServer, stores: StoreSelection) -> MoySklad {
    let credentials = MoySkladCredentials::Token(Secret::new("canary"));
    let base_url = format!("{}/api/", server.url);
    let config = Config {
        base_url,
        stores,
        ..Config::new(credentials)
    };
    MoySklad::new(plain_client(), config)
}

async fn read_snapshot_entries(
    moysklad: &mut MoySklad,
) -> (Result<MoySkladSummary, MoySkladError>, Vec<DeliveryEntry>) {
    let (mut rows, mut receiver) = EntrySender::channel();
    let settings = ReadSettings::default();
    let reader = async move { moysklad.read_snapshot(&settings, &mut rows).await };
    let collecting = async move {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.extend(batch);
        }
        all
    };
    future::join(reader, collecting).await
}

fn respond_with_two_pages(uri: &str) -> Response {
    let page = |id: &str, sku: &str| {
        let rows = json!([{ "id": id, "article": sku }]);
        gzip(&json!({ "meta": { "size": 2 }, "rows": rows }).to_string())
    };
    if uri.contains("/entity/assortment?limit=1000&offset=0&") {
        page("a", "SKU-A")
    } else if uri.contains("/entity/assortment?limit=1000&offset=1&") {
        page("b", "SKU-B")
    } else {
        gzip(r#"[{"assortmentId":"a","freeStock":4},{"assortmentId":"b","freeStock":0.0}]"#)
    }
}

#[tokio::test(start_paused = true)]
async fn snapshot_reads_the_assortment_and_then_the_stock() {
    let (server, requested) =
        scripted_service(Arc::new(|_, uri| respond_with_two_pages(uri))).await;
    let before = Instant::now();
    let (summary, entries) =
        read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
    assert_eq!(
        summary.unwrap(),
        MoySkladSummary {
            products: 2,
            rows: 2,
            ..MoySkladSummary::default()
        }
    );
    let article = |id: &str, sku: &str| DeliveryEntry::Article {
        id: id.into(),
        sku: sku.into(),
    };
    assert_eq!(entries[..2], [article("a", "SKU-A"), article("b", "SKU-B")]);
    let DeliveryEntry::Row(Row {
        line: 1,
        key,
        warehouse: None,
        quantity: Some(four),
        ..
    }) = &entries[2]
    else {
        panic!("{entries:?}")
    };
    assert_eq!((key, four.pieces()), (&ProductKey::Id("a".to_owned()), 4));
    let archived = "filter=archived=false;archived=true";
    assert_eq!(
        *requested.lock(),
        [
            format!("/api/entity/assortment?limit=1000&offset=0&{archived}"),
            format!("/api/entity/assortment?limit=1000&offset=1&{archived}"),
            "/api/report/stock/all/current?stockType=freeStock&include=zeroLines".to_owned(),
        ]
    );
    // Two pauses between three requests keep the rate below 11 in 3 seconds.
    assert!(before.elapsed() >= 2 * Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn requests_named_stores_and_ignores_rows_without_sku() {
    let (server, requested) = scripted_service(Arc::new(|_, uri| {
        if uri.contains("/entity/assortment") {
            return gzip(ASSORTMENT);
        }
        let row = |id: &str, store: Option<&str>| {
            json!({ "assortmentId": id, "storeId": store, "stock": 3 })
        };
        gzip(
            &json!([
                row("archived-and-alone", Some("s1")),
                row("archived-and-alone", None),
                row("a-service", Some("s2")),
                row("unknown", Some("s2")),
            ])
            .to_string(),
        )
    }))
    .await;
    let mut moysklad = moysklad(
        &server,
        StoreSelection::Named(vec!["s1".to_owned(), "s2".to_owned()]),
    );
    moysklad.config.stock_type = StockType::Physical;
    moysklad.config.credentials = MoySkladCredentials::Password {
        login: "admin".to_owned(),
        password: Secret::new("canary"),
    };
    let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
    let summary = summary.unwrap();
    let counts = (
        summary.products,
        summary.without_sku,
        summary.rows,
        summary.ignored_rows,
    );
    assert_eq!((counts, summary.rejected), ((3, 3, 2, 2), 2));
    // The kettle and the rope are in use and missing from the report.
    assert_eq!(summary.unreported, 2);
    let rows: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            DeliveryEntry::Row(row) if row.quantity.is_some() => {
                Some((row.key.clone(), row.warehouse.clone().unwrap()))
            }
            DeliveryEntry::Row(_)
            | DeliveryEntry::Article { .. }
            | DeliveryEntry::PartBoundary
            | DeliveryEntry::Rejected(_)
            | DeliveryEntry::Suspicious(_) => None,
        })
        .collect();
    let id = |id: &str| ProductKey::Id(id.to_owned());
    // The SKU of an id that no page contained may be known from an earlier delivery.
    let expected = [
        (id("archived-and-alone"), "s1".into()),
        (id("unknown"), "s2".into()),
    ];
    assert_eq!(rows, expected);
    let filter = "&include=zeroLines&withRecalculate=true&filter=storeId=s1;storeId=s2";
    let report = format!("/api/report/stock/bystore/current?stockType=stock{filter}");
    let ids = [
        "12345678-279c-aaeb-0a80-00d6001f847c",
        "12345678-5838-aaeb-0a80-003a003ef439",
    ];
    let rerequest = format!("{report};assortmentId={};assortmentId={}", ids[0], ids[1]);
    assert_eq!(requested.lock()[1..], [report, rerequest]);
}

#[tokio::test(start_paused = true)]
async fn continues_after_rate_limiting() {
    let (server, requested) = scripted_service(Arc::new(|before, uri| match before {
        0 | 2 => {
            let fields = [("x-lognex-retry-after", "5000")];
            (StatusCode::TOO_MANY_REQUESTS, fields).into_response()
        }
        _ => respond_with_two_pages(uri),
    }))
    .await;
    let before = Instant::now();
    let (summary, _) = read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
    assert_eq!(summary.unwrap().rows, 2);
    assert_eq!(requested.lock().len(), 5);
    assert_eq!(before.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn errors_are_reported_without_the_credentials() {
    let denied = include_str!("../../../../fixtures/sources/moysklad-denied.json");
    let cases: [(ServiceResponder, &str, usize); 5] = [
        (
            Arc::new(move |_, _| (StatusCode::UNAUTHORIZED, gzip(denied)).into_response()),
            "moysklad answered 401: the token or the user lacks the permission: Ошибка",
            1,
        ),
        (
            Arc::new(|_, _| StatusCode::TOO_MANY_REQUESTS.into_response()),
            "moysklad answered 429 Too Many Requests 5 times",
            5,
        ),
        (
            Arc::new(|_, _| {
                let elsewhere = [("location", "https://elsewhere.example/")];
                (StatusCode::PERMANENT_REDIRECT, elsewhere).into_response()
            }),
            "moysklad answered 308: no message",
            1,
        ),
        (
            Arc::new(|_, _| gzip(r#"{"meta":{"size":9},"rows":[{"id":"a","article":"A"}]}"#)),
            "the assortment of moysklad repeats a page",
            2,
        ),
        (
            Arc::new(|before, uri| match before {
                2 => gzip(r#"[{"assortmentId":"a","freeStock":4}"#),
                _ => respond_with_two_pages(uri),
            }),
            "a response of moysklad is invalid: EOF",
            3,
        ),
    ];
    for (respond, reason, times) in cases {
        let (server, requested) = scripted_service(respond).await;
        let (summary, _) =
            read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
        let error = summary.unwrap_err();
        assert!(
            error.to_string().starts_with(reason),
            "{error}, not {reason}"
        );
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert_eq!(requested.lock().len(), times, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_changes_with_overlap_in_moscow_time() {
    let (server, requested) =
        scripted_service(Arc::new(|_, uri| respond_with_two_pages(uri))).await;
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    read_snapshot_entries(&mut moysklad).await.0.unwrap();
    let (summary, entries) = read_changes_entries(&mut moysklad).await;
    assert_eq!((summary.unwrap().rows, entries.len()), (2, 2));
    let query = "stockType=freeStock&changedSince=2026-11-22 23:54:30";
    let requested = requested.lock();
    assert_eq!(
        requested[3..],
        [format!("/api/report/stock/all/current?{query}")]
    );
}

async fn read_changes_entries(
    moysklad: &mut MoySklad,
) -> (Result<MoySkladSummary, MoySkladError>, Vec<DeliveryEntry>) {
    let (mut rows, mut receiver) = EntrySender::channel();
    let reader = async move {
        let since = "2026-11-22T20:59:30Z".parse().unwrap();
        let now = "2026-11-22T21:30:00Z".parse().unwrap();
        moysklad
            .read_changes(since, now, &ReadSettings::default(), &mut rows)
            .await
    };
    let collecting = async move {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.extend(
                batch
                    .into_iter()
                    .filter(|entry| *entry != DeliveryEntry::PartBoundary),
            );
        }
        all
    };
    future::join(reader, collecting).await
}

/// Service with these products; each request for a report returns the next of these reports.
fn scripted_reports(products: &serde_json::Value, reports: &[&str]) -> ServiceResponder {
    let page = json!({ "meta": { "size": products.as_array().unwrap().len() }, "rows": products });
    let (page, reports) = (
        page.to_string(),
        Mutex::new(
            reports
                .iter()
                .rev()
                .map(|it| (*it).to_owned())
                .collect::<Vec<_>>(),
        ),
    );
    Arc::new(move |_, uri| {
        if uri.contains("/entity/assortment") {
            return gzip(&page);
        }
        gzip(&reports.lock().pop().expect("no more reports were expected"))
    })
}

/// Returns id and quantity of each stock row, sorted.
fn stock_rows(entries: &[DeliveryEntry]) -> Vec<(String, Option<String>)> {
    let row = |entry: &DeliveryEntry| match entry {
        DeliveryEntry::Row(Row {
            key: ProductKey::Id(id),
            quantity,
            ..
        }) => Some((id.clone(), quantity.map(|quantity| quantity.to_string()))),
        _other => None,
    };
    let mut rows: Vec<_> = entries.iter().filter_map(row).collect();
    rows.sort();
    rows
}

fn stock_row(id: &str, quantity: Option<&str>) -> (String, Option<String>) {
    (id.to_owned(), quantity.map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn unreported_products_are_sent_without_quantity() {
    let products = json!([
        { "id": "a", "article": "A" },
        { "id": "b", "article": "B" },
        { "id": "c", "article": "C" },
        { "id": "old", "article": "OLD", "archived": true },
        { "id": "s", "article": "S", "meta": { "type": "service" } },
    ]);
    let reports = [
        r#"[{"assortmentId":"a","freeStock":4}]"#,
        // The request by id finds one of them recalculated.
        r#"[{"assortmentId":"b","freeStock":7}]"#,
    ];
    let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
    let summary = summary.unwrap();
    let expected = [
        stock_row("a", Some("4")),
        stock_row("b", Some("7")),
        stock_row("c", None),
        stock_row("s", None),
    ];
    assert_eq!(stock_rows(&entries), expected);
    assert_eq!(summary.unreported, 2);
    assert!(
        summary.notices[0].starts_with("1 products of the assortment are missing"),
        "{summary:?}"
    );
    let last = requested.lock().pop().unwrap();
    let filter = "include=zeroLines&filter=assortmentId=b;assortmentId=c";
    assert!(last.ends_with(filter), "{last}");
}

#[tokio::test(start_paused = true)]
async fn truncated_reports_by_id_are_ignored() {
    let products = json!([
        { "id": "a", "article": "A" },
        { "id": "b", "article": "B" },
        { "id": "c", "article": "C" },
    ]);
    let cut = r#"[{"assortmentId":"b","freeStock":5},{"asso"#;
    let reports = [r#"[{"assortmentId":"a","freeStock":4}]"#, cut];
    let (server, _) = scripted_service(scripted_reports(&products, &reports)).await;
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
    // Both products have a row without a quantity, so neither is absent.
    let expected = [
        stock_row("a", Some("4")),
        stock_row("b", None),
        stock_row("c", None),
    ];
    assert_eq!(stock_rows(&entries), expected);
    let notices = summary.unwrap().notices;
    let prefix = "failed to request 2 products that the report of moysklad leaves out";
    assert!(
        notices.iter().any(|notice| notice.starts_with(prefix)),
        "{notices:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_missing_products_until_accepted() {
    let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
    let number = r#"[{"assortmentId":"b","freeStock":7}]"#;
    let reports = [
        r#"[{"assortmentId":"a","freeStock":4}]"#,
        "[]",
        number,
        "[]",
        number,
        "[]",
    ];
    let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    read_snapshot_entries(&mut moysklad).await.0.unwrap();
    moysklad.mark_accepted();
    for _held in 0..2 {
        let (_, entries) = read_changes_entries(&mut moysklad).await;
        assert_eq!(stock_rows(&entries), [stock_row("b", Some("7"))]);
    }
    assert_eq!(requested.lock().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn requests_missing_products_with_the_changes() {
    let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
    let reports = [
        r#"[{"assortmentId":"a","freeStock":4}]"#,
        "[]",
        // With the changes.
        r#"[{"assortmentId":"b","freeStock":-2}]"#,
        r#"[{"assortmentId":"a","freeStock":3}]"#,
        // From here on the missing product is not requested again.
        "[]",
    ];
    let (server, requested) = scripted_service(scripted_reports(&products, &reports)).await;
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    read_snapshot_entries(&mut moysklad).await.0.unwrap();
    moysklad.mark_accepted();
    let (_, entries) = read_changes_entries(&mut moysklad).await;
    let [DeliveryEntry::Rejected(rejected), DeliveryEntry::Row(_)] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    assert_eq!(rejected.sku.as_deref(), Some("B"));
    moysklad.mark_accepted();
    read_changes_entries(&mut moysklad).await.0.unwrap();
    assert_eq!(requested.lock().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn stores_keep_stock_while_recalculated() {
    let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
    let row = |id: &str, store: &str, stock: serde_json::Value| json!({ "assortmentId": id, "storeId": store, "freeStock": stock });
    let report = json!([
        row("a", "s1", json!(4)),
        row("a", "s2", json!(null)),
        row("b", "s1", json!(0)),
        row("b", "s2", json!(6)),
    ]);
    let (server, _) = scripted_service(scripted_reports(&products, &[&report.to_string()])).await;
    let stores = StoreSelection::Named(["s1", "s2"].map(str::to_owned).to_vec());
    let (_, entries) = read_snapshot_entries(&mut moysklad(&server, stores)).await;
    let rows = entries.iter().filter_map(|entry| match entry {
        DeliveryEntry::Row(row) => Some((
            row.warehouse.clone().unwrap(),
            row.quantity.map(|it| it.pieces()),
        )),
        _other => None,
    });
    let rows: Vec<_> = rows.collect();
    let at = |store: &str, quantity| (store.to_owned(), quantity);
    let expected = [
        at("s1", Some(4)),
        at("s1", Some(0)),
        at("s2", Some(6)),
        at("s2", None),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test(start_paused = true)]
async fn rejects_reports_without_any_quantity() {
    let products = json!([{ "id": "a", "article": "A" }, { "id": "b", "article": "B" }]);
    for report in ["[]", r#"[{"assortmentId":"a","freeStock":null}]"#] {
        let (server, _) = scripted_service(scripted_reports(&products, &[report])).await;
        let (result, _) =
            read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total)).await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("no stock for any of the 2 products with article"),
            "{error}"
        );
    }
    // If no product has a SKU, an empty report is valid.
    let without_sku = json!([{ "id": "a" }]);
    let (server, _) = scripted_service(scripted_reports(&without_sku, &["[]"])).await;
    assert!(
        read_snapshot_entries(&mut moysklad(&server, StoreSelection::Total))
            .await
            .0
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn changes_consider_stock_without_sku() {
    let of_shoe = json!({ "meta": { "href": "https://x/entity/product/s" } });
    let products = json!([
        { "id": "s", "article": "SHOE" },
        { "id": "v", "meta": { "type": "variant" }, "product": of_shoe },
    ]);
    let snapshot = r#"[{"assortmentId":"s","freeStock":0},{"assortmentId":"v","freeStock":12}]"#;
    let delta = r#"[{"assortmentId":"s","freeStock":0}]"#;
    for (is_fresh, reports) in [(false, [snapshot, delta]), (true, [snapshot, delta])] {
        let (server, _) = scripted_service(scripted_reports(&products, &reports)).await;
        let mut moysklad = moysklad(&server, StoreSelection::Total);
        if !is_fresh {
            let (summary, entries) = read_snapshot_entries(&mut moysklad).await;
            assert!(stock_rows(&entries).is_empty(), "{entries:?}");
            let notice = "1 variant without article holds 12 pieces";
            assert!(summary.unwrap().notices[0].starts_with(notice));
        }
        let (_, entries) = read_changes_entries(&mut moysklad).await;
        assert!(stock_rows(&entries).is_empty(), "{entries:?}");
        let suspicious_skus = entries.iter().filter_map(|entry| match entry {
            DeliveryEntry::Suspicious(row) => row.sku.as_deref(),
            _other => None,
        });
        assert_eq!(suspicious_skus.collect::<Vec<_>>(), ["SHOE"], "{is_fresh}");
    }
}

#[test]
fn changes_reach_back_one_day_and_not_into_the_future() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let now = at("2026-11-22T12:00:00Z");
    let query = |since: &str| changed_since_query(at(since), now);
    assert_eq!(
        query("2026-11-21T12:06:00Z").unwrap(),
        "changedSince=2026%2D11%2D21%2015%3A01%3A00"
    );
    assert!(matches!(
        query("2026-11-21T12:05:59Z"),
        Err(MoySkladError::ChangesTooOld(_))
    ));
    assert_eq!(
        query("2027-01-01T00:00:00Z").unwrap(),
        "changedSince=2026%2D11%2D22%2014%3A55%3A00"
    );
}

#[tokio::test]
async fn reading_ends_when_the_receiver_is_gone() {
    let (server, _) = scripted_service(Arc::new(|_, uri| {
        if uri.contains("assortment") {
            return respond_with_two_pages(uri);
        }
        let row = |n: u32| json!({ "assortmentId": n.to_string(), "freeStock": n });
        gzip(&json!((0..20_000).map(row).collect::<Vec<_>>()).to_string())
    }))
    .await;
    let (mut rows, mut receiver) = EntrySender::channel();
    let mut moysklad = moysklad(&server, StoreSelection::Total);
    let settings = ReadSettings::default();
    let reader = moysklad.read_snapshot(&settings, &mut rows);
    let first_batch = async move { receiver.recv().await.unwrap().len() };
    let (result, first) = future::join(reader, first_batch).await;
    assert!(
        matches!(result, Err(MoySkladError::Cancelled(DeliveryCancelled))),
        "{result:?}"
    );
    assert_eq!(first, 1_000);
}

#[test]
fn debug_output_hides_the_token() {
    let config = Config::new(MoySkladCredentials::Token(Secret::new("canary")));
    assert!(!format!("{:?}", MoySklad::new(plain_client(), config)).contains("canary"));
}

//! Tests of pulls from scripted old handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use market_api::push::client::{OldHandlerConfig, OldHandlerFault};
use parking_lot::Mutex;
use serde_json::{Value, json};
use strict_http::secret::Secret;
use strict_http::test_server::{TestServer, plain_client, serve};
use tokio::sync::mpsc;

use super::*;

fn skus(n: usize) -> Vec<Sku> {
    (1..=n)
        .map(|n| Sku::parse(&format!("S-{n}")).unwrap())
        .collect()
}

type HandlerResponder = Arc<dyn Fn(usize, Vec<String>) -> Response + Send + Sync>;

/// Old handler whose responses depend on the number of earlier requests and on the SKUs.
async fn scripted_handler(respond: HandlerResponder) -> (TestServer, Arc<Mutex<Vec<usize>>>) {
    let batch_sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let recorded = Arc::clone(&batch_sizes);
    let router = Router::new().fallback(async move |body: String| {
        let request: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(request["warehouseId"], 7);
        let skus: Vec<String> = serde_json::from_value(request["skus"].clone()).unwrap();
        let earlier = {
            let mut sizes = recorded.lock();
            sizes.push(skus.len());
            sizes.len() - 1
        };
        respond(earlier, skus)
    });
    (serve(router).await, batch_sizes)
}

fn now() -> DateTime<Utc> {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn client(server: &TestServer, max_skus: usize) -> OldHandlerClient {
    let handler = OldHandlerConfig::new(&server.url, Secret::new("token"), 7);
    OldHandlerClient::new(
        plain_client(),
        OldHandlerConfig {
            max_skus,
            ..handler
        },
    )
    .unwrap()
}

fn items_response(counts: impl Iterator<Item = (String, Value)>) -> Response {
    let items: Vec<_> = counts
        .map(|(sku, count)| {
            let stock = json!({ "count": count, "type": "FIT" });
            json!({ "sku": sku, "warehouseId": 7, "items": [stock] })
        })
        .collect();
    axum::Json(json!({ "skus": items })).into_response()
}

/// Old handler whose database query has a limit: it responds with 0 beyond it.
fn handler_with_limit(limit: usize) -> HandlerResponder {
    Arc::new(move |_, skus| {
        let count = |position| if position < limit { json!(5) } else { json!(0) };
        items_response(
            skus.into_iter()
                .enumerate()
                .map(|(position, sku)| (sku, count(position))),
        )
    })
}

async fn collect(mut receiver: mpsc::Receiver<Vec<DeliveryEntry>>) -> Vec<DeliveryEntry> {
    let mut all = Vec::new();
    while let Some(batch) = receiver.recv().await {
        all.extend(batch);
    }
    all
}

async fn pull_with_entries(
    client: &OldHandlerClient,
    skus: &[Sku],
    settings: &ReadSettings,
) -> (Result<HandlerSummary, PullError>, Vec<DeliveryEntry>) {
    let (mut rows, receiver) = EntrySender::channel();
    let pulling = async move { pull(client, skus, settings, now(), &mut rows).await };
    futures_util::future::join(pulling, collect(receiver)).await
}

fn describe(entry: &DeliveryEntry) -> (u64, String, String) {
    match entry {
        DeliveryEntry::Row(Row {
            line,
            key: ProductKey::Sku(sku),
            quantity,
            ..
        }) => {
            let quantity = quantity.map_or("-".to_owned(), |quantity| quantity.to_string());
            (*line, sku.clone(), quantity)
        }
        DeliveryEntry::Rejected(rejected) | DeliveryEntry::Suspicious(rejected) => (
            rejected.line,
            rejected.text.clone(),
            rejected.reason.clone(),
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn small_batches_stay_below_the_handlers_limit() {
    let (server, batch_sizes) = scripted_handler(handler_with_limit(500)).await;
    let skus = skus(1_201);
    let (summary, entries) =
        pull_with_entries(&client(&server, 500), &skus, &ReadSettings::default()).await;
    assert_eq!(
        summary.unwrap(),
        HandlerSummary {
            requested: 1_201,
            answered: 1_201,
            with_count: 1_201,
            ..HandlerSummary::default()
        }
    );
    let mut rows: Vec<_> = entries.iter().map(describe).collect();
    rows.sort();
    assert_eq!(rows.len(), 1_201);
    assert!(rows.iter().zip(1..).all(|((line, sku, quantity), n)| {
        (*line, sku, quantity.as_str()) == (n, &format!("S-{n}"), "5")
    }));
    let mut sizes = batch_sizes.lock().clone();
    sizes.sort_unstable();
    assert_eq!(sizes, [201, 500, 500]);
}

#[tokio::test]
async fn bad_items_do_not_affect_other_items() {
    let (server, _) = scripted_handler(Arc::new(|_, skus| {
        let counts = [
            json!("7,00"),
            json!("много"),
            json!(-2),
            json!(1.5),
            json!(null),
        ];
        items_response(
            skus.into_iter()
                .zip(counts)
                .chain([("X".to_owned(), json!(1))]),
        )
    }))
    .await;
    let (summary, entries) =
        pull_with_entries(&client(&server, 500), &skus(6), &ReadSettings::default()).await;
    assert_eq!(
        summary.unwrap(),
        HandlerSummary {
            requested: 6,
            answered: 2,
            missing: 1,
            rejected: 3,
            unrequested: 1,
            with_count: 1,
            future_dated: 0
        }
    );
    let described: Vec<_> = entries.iter().map(describe).collect();
    let described: Vec<_> = described
        .iter()
        .map(|(line, text, result)| (*line, text.as_str(), result.as_str()))
        .collect();
    let reason = "sku 'S-2': quantity is 'много', it must be a number, or a word listed in \
                 the setting words";
    assert_eq!(
        described,
        [
            (1, "S-1", "7"),
            (2, "S-2", reason),
            (
                3,
                "S-3",
                "sku 'S-3': quantity is '-2', it must not be negative, or set negative = \"zero\""
            ),
            (
                4,
                "S-4",
                "sku 'S-4': quantity is '1.5', it must be whole, or set fraction = \"floor\""
            ),
            (5, "S-5", "-"),
        ]
    );
    let lenient = ReadSettings {
        floors_fractions: true,
        zeroes_negatives: true,
        words: vec![(
            "много".to_owned(),
            stock_import::Quantity::from_pieces(10).unwrap(),
        )],
        ..ReadSettings::default()
    };
    let (summary, entries) = pull_with_entries(&client(&server, 500), &skus(6), &lenient).await;
    assert_eq!(
        (summary.unwrap().rejected, describe(&entries[1]).2.as_str()),
        (0, "10")
    );
}

#[tokio::test(start_paused = true)]
async fn retries_a_failed_batch_once_after_a_pause() {
    let (server, batch_sizes) = scripted_handler(Arc::new(|before, skus| match before {
        0 => (StatusCode::BAD_GATEWAY, "later").into_response(),
        _ => items_response(skus.into_iter().map(|sku| (sku, json!(3)))),
    }))
    .await;
    let before = Instant::now();
    let (summary, entries) =
        pull_with_entries(&client(&server, 2), &skus(3), &ReadSettings::default()).await;
    assert_eq!((summary.unwrap().answered, entries.len()), (3, 3));
    assert_eq!(batch_sizes.lock().len(), 3);
    assert_eq!(before.elapsed().as_secs(), RETRY_DELAY.as_secs());
}

#[tokio::test(start_paused = true)]
async fn permanent_or_second_error_fails_the_pull() {
    for (status, times) in [(StatusCode::BAD_GATEWAY, 3), (StatusCode::FORBIDDEN, 2)] {
        let respond: HandlerResponder = Arc::new(move |_, skus| match skus.len() {
            1 => status.into_response(),
            _ => items_response(skus.into_iter().map(|sku| (sku, json!(3)))),
        });
        let (server, batch_sizes) = scripted_handler(respond).await;
        let (summary, _) =
            pull_with_entries(&client(&server, 2), &skus(3), &ReadSettings::default()).await;
        let error = summary.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the handler did not answer the request for skus 3 to 3"
        );
        let PullError::Batch {
            source:
                OldHandlerError {
                    fault: OldHandlerFault::Status { status: actual, .. },
                    ..
                },
            ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!((actual, batch_sizes.lock().len()), (status.as_u16(), times));
    }
}

#[tokio::test]
async fn pull_ends_when_the_receiver_is_gone() {
    let (server, _) = scripted_handler(handler_with_limit(500)).await;
    let (mut rows, receiver) = EntrySender::channel();
    drop(receiver);
    let result = pull(
        &client(&server, 500),
        &skus(2),
        &ReadSettings::default(),
        now(),
        &mut rows,
    )
    .await;
    assert!(
        matches!(result, Err(PullError::Cancelled(DeliveryCancelled))),
        "{result:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn pull_once_has_one_deadline_and_no_retry() {
    let (server, batch_sizes) = scripted_handler(Arc::new(|_, skus| {
        if skus[0] == "S-3" {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        items_response(skus.into_iter().map(|sku| (sku, json!(3))))
    }))
    .await;
    let second = Duration::from_secs(1);
    let client = client(&server, 2);
    let result = pull_once(&client, &skus(5), &ReadSettings::default(), now(), second).await;
    assert_eq!((result.summary.requested, result.entries.len()), (3, 3));
    assert!(matches!(
        result.first_error.unwrap().fault,
        OldHandlerFault::Status { status: 502, .. }
    ));
    assert_eq!(batch_sizes.lock().len(), 3);

    let silent = serve(Router::new().fallback(async || std::future::pending::<()>().await));
    let silent = silent.await;
    let handler = OldHandlerConfig::new(&silent.url, Secret::new("token"), 7);
    let handler = OldHandlerConfig {
        max_skus: 2,
        parallel_requests: 1,
        ..handler
    };
    let client = OldHandlerClient::new(plain_client(), handler).unwrap();
    let before = Instant::now();
    let result = pull_once(&client, &skus(5), &ReadSettings::default(), now(), second).await;
    // All batches share the one deadline, although one waits for the other.
    assert_eq!(before.elapsed().as_secs(), 1);
    assert!(
        result.entries.is_empty()
            && matches!(
                result.first_error.unwrap().fault,
                OldHandlerFault::TimedOut(_)
            )
    );
}

/// Quantities read from a handler that responds with these counts, one for each SKU.
async fn described_counts(counts: &[Value], settings: &ReadSettings) -> Vec<String> {
    let (requested, counts) = (skus(counts.len()), counts.to_vec());
    let respond: HandlerResponder =
        Arc::new(move |_, skus| items_response(skus.into_iter().zip(counts.clone())));
    let (server, _) = scripted_handler(respond).await;
    let (_, entries) = pull_with_entries(&client(&server, 500), &requested, settings).await;
    entries
        .iter()
        .map(|entry| match entry {
            DeliveryEntry::Suspicious(row) => {
                format!("suspicious {}", row.sku.as_deref().unwrap_or("unknown sku"))
            }
            DeliveryEntry::Rejected(row) => {
                format!("rejected {}", row.sku.as_deref().unwrap_or("unknown sku"))
            }
            entry => describe(entry).2,
        })
        .collect()
}

#[tokio::test]
async fn ambiguous_strings_are_suspicious_numbers_are_not() {
    let (ambiguous, literal) = (json!("2,000"), json!(2.000));
    let alone = described_counts(
        &[ambiguous.clone(), literal.clone()],
        &ReadSettings::default(),
    )
    .await;
    assert_eq!(alone, ["suspicious S-1", "2"]);
    // A neighbour proves the decimal mark of the strings; the setting applies to strings only.
    let proven = described_counts(
        &[ambiguous.clone(), json!("0,500")],
        &ReadSettings::default(),
    )
    .await;
    assert_eq!(proven, ["2", "rejected S-2"]);
    let by_comma = ReadSettings {
        decimal: Some(DecimalMark::Comma),
        ..ReadSettings::default()
    };
    assert_eq!(
        described_counts(&[ambiguous, literal], &by_comma).await,
        ["2", "2"]
    );
}

#[tokio::test]
async fn floors_fractions_of_any_length_if_configured() {
    let floors = ReadSettings {
        floors_fractions: true,
        ..ReadSettings::default()
    };
    let counts = [
        json!(7.123_456_789_01),
        json!("7.1234567890"),
        json!(0.3e-12),
        json!(1.5E1),
    ];
    let cut = described_counts(&counts, &floors).await;
    assert_eq!(cut, ["7.123", "7.123", "0", "15"]);
    let kept = described_counts(&counts, &ReadSettings::default()).await;
    assert_eq!(kept[..2], ["rejected S-1", "rejected S-2"]);
}

#[tokio::test]
async fn rejects_responses_without_any_count() {
    let nulls =
        |_: usize, skus: Vec<String>| items_response(skus.into_iter().map(|it| (it, json!(null))));
    let (server, _) = scripted_handler(Arc::new(nulls)).await;
    let (summary, _) =
        pull_with_entries(&client(&server, 500), &skus(2), &ReadSettings::default()).await;
    let error = summary.unwrap_err().to_string();
    assert!(
        error.contains("2 skus") && error.contains("count"),
        "{error}"
    );
    let zeroes = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    let (summary, entries) = pull_with_entries(&client(&server, 500), &skus(2), &zeroes).await;
    assert_eq!(
        (
            summary.unwrap().with_count,
            describe(&entries[0]).2.as_str()
        ),
        (2, "0")
    );
}

#[tokio::test]
async fn ignores_dates_ahead_of_our_clock() {
    let (server, _) = scripted_handler(Arc::new(|_, skus| {
        let dates = [
            "2026-11-22T13:00:00Z",
            "2026-11-22T10:04:59Z",
            "2026-11-22T09:00:00Z",
        ];
        let items = skus.iter().zip(dates).map(|(sku, at)| {
            json!({ "sku": sku, "items": [{ "count": 3, "type": "FIT", "updatedAt": at }] })
        });
        axum::Json(json!({ "skus": items.collect::<Vec<_>>() })).into_response()
    }))
    .await;
    let (summary, entries) =
        pull_with_entries(&client(&server, 500), &skus(3), &ReadSettings::default()).await;
    let summary = summary.unwrap();
    assert_eq!(
        (summary.with_count, summary.future_dated, summary.rejected),
        (3, 1, 0)
    );
    let dates: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            DeliveryEntry::Row(row) => row.stated_at.map(|at| at.to_string()),
            other => panic!("{other:?}"),
        })
        .collect();
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(
        dates,
        [None, at("2026-11-22T10:04:59Z"), at("2026-11-22T09:00:00Z")]
    );
}

#[tokio::test]
async fn repairs_damaged_skus_if_the_original_is_certain() {
    let (server, _) = scripted_handler(Arc::new(|_, _| {
        let skus = ["=\"S-1\"", "5.57722E+05", "X-9"];
        items_response(skus.map(|sku| (sku.to_owned(), json!(3))).into_iter())
    }))
    .await;
    let requested = [Sku::parse("557722").unwrap(), Sku::parse("S-1").unwrap()];
    let client = client(&server, 500);
    let (summary, entries) = pull_with_entries(&client, &requested, &ReadSettings::default()).await;
    let summary = summary.unwrap();
    assert_eq!(
        (summary.missing, summary.unrequested, summary.rejected),
        (1, 2, 1)
    );
    assert_eq!(describe(&entries[0]), (2, "S-1".to_owned(), "3".to_owned()));
    // The other item may be any of the missing SKUs, so none of them is certainly absent.
    let DeliveryEntry::Suspicious(row) = &entries[1] else {
        panic!("{entries:?}")
    };
    assert!(
        row.sku.is_none() && row.reason.contains("5.57722E+05"),
        "{row:?}"
    );
    // If no SKU is missing, unrequested items do not matter.
    let (summary, _) = pull_with_entries(&client, &requested[1..], &ReadSettings::default()).await;
    assert_eq!(summary.unwrap().rejected, 0);
}

#[tokio::test]
async fn sends_no_request_without_skus() {
    let (server, batch_sizes) = scripted_handler(handler_with_limit(500)).await;
    let (summary, entries) =
        pull_with_entries(&client(&server, 500), &[], &ReadSettings::default()).await;
    assert_eq!(
        (summary.unwrap(), entries.len()),
        (HandlerSummary::default(), 0)
    );
    assert!(batch_sizes.lock().is_empty());
}

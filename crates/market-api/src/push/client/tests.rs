//! Tests of the old handler client against a local server.

use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::IntoResponse;
use parking_lot::Mutex;
use reqwest::StatusCode;
use strict_http::test_server::{plain_client, serve};

use super::*;
use crate::push::parse_lenient::StatedCount;

const GOOD: &str = r#"{"skus":[{"sku":"A","warehouseId":7,"items":[{"count":5}]}]}"#;

fn skus() -> Vec<Sku> {
    ["A", "Б"]
        .iter()
        .map(|sku| Sku::parse(sku).unwrap())
        .collect()
}

fn client(url: &str, token_in: TokenLocation) -> OldHandlerClient {
    let handler = OldHandlerConfig {
        token_location: token_in,
        ..OldHandlerConfig::new(url, Secret::new("to+ken&"), 7)
    };
    OldHandlerClient::new(plain_client(), handler).unwrap()
}

/// Returns the outcome of a request whose response is `response`, as a text.
async fn describe_response(response: impl IntoResponse + Clone + Send + Sync + 'static) -> String {
    let server = serve(Router::new().fallback(async move || response.clone())).await;
    let client = client(&server.url, TokenLocation::Query);
    match client.request_stocks(&skus(), RESPONSE_TIMEOUT).await {
        Ok(reply) => format!("{} of 2", reply.items.len()),
        Err(error) => {
            let host = server.url.trim_start_matches("http://");
            let permanence = if error.is_temporary() {
                ""
            } else {
                " for good"
            };
            format!("{error}{permanence}").replace(host, "it")
        }
    }
}

#[tokio::test]
async fn sends_requests_like_the_market() {
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorded = Arc::clone(&requests);
    let router = Router::new().fallback(async move |request: Request| {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let field = |name: &str| {
            head.headers
                .get(name)
                .map_or("none", |value| value.to_str().unwrap())
                .to_owned()
        };
        recorded.lock().push(format!(
            "{} {} {:?} token {}, {}, {}: {}",
            head.method,
            head.uri,
            head.version,
            field("authorization"),
            field("content-type"),
            field("accept-encoding"),
            String::from_utf8_lossy(&body)
        ));
        GOOD
    });
    let server = serve(router).await;
    let url = format!("{}/market/api/", server.url);
    let reply = client(&url, TokenLocation::Header)
        .request_stocks(&skus(), RESPONSE_TIMEOUT)
        .await
        .unwrap();
    assert_eq!((reply.items.len(), reply.missing_count), (1, 1));
    assert_eq!(reply.items[0].1.count, StatedCount::Number("5".to_owned()));
    let mut by_query = client(&url, TokenLocation::Query);
    by_query.handler.partner_warehouse_id = Some("b72e".to_owned());
    by_query
        .request_stocks(&skus(), RESPONSE_TIMEOUT)
        .await
        .unwrap();
    let expected_tail = "application/json;charset=utf-8, identity:";
    assert_eq!(
        *requests.lock(),
        [
            format!(
                r#"POST /market/api/stocks HTTP/1.1 token to+ken&, {expected_tail} {{"warehouseId":7,"skus":["A","Б"]}}"#
            ),
            format!(
                r#"POST /market/api/stocks?auth-token=to%2Bken%26 HTTP/1.1 token none, {expected_tail} {{"warehouseId":7,"partnerWarehouseId":"b72e","skus":["A","Б"]}}"#
            ),
        ]
    );
}

#[tokio::test]
async fn accepts_any_success_status_and_content_type() {
    let kind = |kind: &'static str| [(CONTENT_TYPE, kind)];
    for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED] {
        assert_eq!(
            describe_response((status, kind("application/json"), GOOD)).await,
            "1 of 2"
        );
    }
    for name in ["application/json; charset=utf-8", "text/plain", "text/html"] {
        assert_eq!(
            describe_response((kind(name), GOOD)).await,
            "1 of 2",
            "{name}"
        );
    }
    assert_eq!(
        describe_response((kind("application/json"), "[]")).await,
        "0 of 2"
    );
}

#[tokio::test]
async fn errors_name_the_reason_without_the_token() {
    let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    let page = "<!DOCTYPE html>\n\n<title>Вход</title> /stocks?auth-token=to%2Bken%26 to+ken&";
    let expected = "it returned a web page instead of stock, perhaps a login page: \
                <!DOCTYPE html> <title>Вход</title> /stocks?auth-token=*** ***";
    assert_eq!(describe_response((html.clone(), page)).await, expected);
    assert_eq!(
        describe_response((html, "Please log in")).await,
        page_error("Please log in")
    );
    assert_eq!(describe_response("").await, "it: the body is empty: ");
    assert_eq!(
        describe_response(StatusCode::NO_CONTENT).await,
        "it: the body is empty: "
    );
    let error = describe_response(r#"{"error":"wrong token to+ken&"}"#).await;
    assert!(
        error.starts_with("it: the body is not a valid response: missing field `skus`"),
        "{error}"
    );
    assert!(
        error.ends_with(r#": {"error":"wrong token ***"}"#),
        "{error}"
    );
    let long = describe_response((StatusCode::FORBIDDEN, "я".repeat(5_000))).await;
    assert_eq!(
        long,
        format!("it returned status 403: {} for good", "я".repeat(120))
    );
    let bad_gateway =
        describe_response((StatusCode::BAD_GATEWAY, "\u{0}<html>\tbad gateway ")).await;
    assert_eq!(bad_gateway, "it returned status 502: <html> bad gateway");
    let empty_response = describe_response(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(
        empty_response,
        "it returned status 503: Service Unavailable"
    );
    assert_eq!(
        describe_response(StatusCode::NOT_FOUND).await,
        "it returned status 404: Not Found for good"
    );
    let compressed = ([(CONTENT_ENCODING, "gzip")], GOOD);
    assert_eq!(
        describe_response(compressed).await,
        "it returned the content encoding gzip, which was not requested for good"
    );
}

fn page_error(text: &str) -> String {
    format!("it returned a web page instead of stock, perhaps a login page: {text}")
}

#[tokio::test]
async fn names_redirect_hosts_and_does_not_follow() {
    let redirected_calls: Arc<Mutex<u32>> = Arc::default();
    let counted_calls = Arc::clone(&redirected_calls);
    let elsewhere = serve(Router::new().fallback(async move || {
        *counted_calls.lock() += 1;
        GOOD
    }))
    .await;
    let host = elsewhere.url.trim_start_matches("http://").to_owned();
    for (location, shown_host) in [
        (
            format!("{}/stocks?auth-token=to%2Bken%26", elsewhere.url),
            host.as_str(),
        ),
        (format!("//{host}/stocks"), host.as_str()),
        ("/login?next=auth-token=to%2Bken%26".to_owned(), "it"),
    ] {
        let error =
            describe_response((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)])).await;
        let redirect =
            format!("it returned status 307, a redirect to {shown_host}, which is not followed");
        assert_eq!(error, format!("{redirect} for good"));
    }
    let error = describe_response(StatusCode::MOVED_PERMANENTLY).await;
    assert!(error.contains("301, a redirect to nowhere"), "{error}");
    assert_eq!(*redirected_calls.lock(), 0);
}

#[tokio::test]
async fn rejects_responses_that_are_too_long() {
    let error = describe_response(vec![b' '; MAX_RESPONSE_BYTES + 1]).await;
    assert_eq!(
        error,
        "it: the response is longer than 8388608 bytes for good"
    );
}

#[tokio::test(start_paused = true)]
async fn request_times_out() {
    let silent = serve(Router::new().fallback(async || {
        std::future::pending::<()>().await;
        GOOD
    }))
    .await;
    let client = client(&silent.url, TokenLocation::Header);
    let before = tokio::time::Instant::now();
    let error = client
        .request_stocks(&skus(), Duration::from_secs(5))
        .await
        .unwrap_err();
    assert!(error.is_temporary() && error.to_string().ends_with("did not respond within 5 s"));
    assert_eq!(before.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn connection_errors_do_not_show_the_query() {
    let gone = serve(Router::new()).await;
    let url = gone.url.clone();
    drop(gone);
    // The port may be closed, or only the connection. The message must be safe in both cases.
    let error = client(&url, TokenLocation::Query)
        .request_stocks(&skus(), RESPONSE_TIMEOUT)
        .await
        .unwrap_err();
    let printed = format!("{error} {error:?}");
    assert!(
        !printed.contains("auth-token") && !printed.contains("ken"),
        "{printed}"
    );
    assert!(
        error.is_temporary() || matches!(error.fault, OldHandlerFault::Status { .. }),
        "{printed}"
    );
}

#[test]
fn rejects_unusable_urls_and_tokens() {
    let client = |url: &str, token: &str| {
        OldHandlerClient::new(
            plain_client(),
            OldHandlerConfig::new(url, Secret::new(token), 7),
        )
        .map(|_| ())
    };
    for url in [
        "shop.example",
        "ftp://shop.example",
        "https://user:pass@shop.example",
        "https://shop.example/?a=1",
        "https://shop.example/#a",
        "https://",
    ] {
        assert_eq!(
            client(url, "token"),
            Err(OldHandlerConfigError::InvalidUrl),
            "{url}"
        );
    }
    for token in ["", " ", "a\nb"] {
        assert_eq!(
            client("https://shop.example/a", token),
            Err(OldHandlerConfigError::InvalidToken)
        );
    }
    assert_eq!(client("https://shop.example/a", "token"), Ok(()));
}

#[test]
fn debug_output_hides_the_token() {
    let client = client("https://shop.example", TokenLocation::Query);
    let printed = format!("{client:?}");
    assert!(
        !printed.contains("ken&") && !printed.contains("to%2Bken"),
        "{printed}"
    );
}

#[test]
fn limits_skus_per_request() {
    let clamped = |max_skus| {
        let handler = OldHandlerConfig::new("https://shop.example", Secret::new("t"), 7);
        OldHandlerConfig {
            max_skus,
            ..handler
        }
        .skus_per_request()
    };
    assert_eq!(
        [clamped(0), clamped(500), clamped(1_000), clamped(5_000)],
        [1, 500, 1_000, 1_000]
    );
}

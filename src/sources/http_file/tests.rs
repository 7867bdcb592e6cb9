//! Tests of downloads: validators, redirects, credentials and interrupted responses.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response as Reply};
use lifecycle::{Clock, CrashSignal, Tasks};
use parking_lot::Mutex;
use stock_import::stock_rules::ShopRules;
use strict_http::client;
use strict_http::test_server::{TestServer, serve_at};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::sources::SourcePolicy;
use crate::sources::manager::poll_loop::SourcePoller;
use crate::sources::pipeline::tests::{PipelineHarness, stock, test_policy};

const STOCK: &str = "sku;stock\nA;5\nB;7\n";
const DATE: &str = "Sun, 01 Nov 2026 10:00:00 GMT";

type RecordedRequests = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Starts a server that responds with `respond`; returns it with the requests it received.
async fn recording_server(
    respond: impl Fn(&str, &HeaderMap) -> Reply + Clone + Send + Sync + 'static,
) -> (TestServer, RecordedRequests) {
    recording_server_at(Ipv4Addr::LOCALHOST, respond).await
}

async fn recording_server_at(
    address: Ipv4Addr,
    respond: impl Fn(&str, &HeaderMap) -> Reply + Clone + Send + Sync + 'static,
) -> (TestServer, RecordedRequests) {
    let requests = RecordedRequests::default();
    let recorded = Arc::clone(&requests);
    let router = Router::new().fallback(async move |request: Request| {
        let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
        let response = respond(&path, &headers);
        recorded.lock().push((path, headers));
        response
    });
    (serve_at(address, router).await, requests)
}

async fn pipeline_fixture() -> PipelineHarness {
    PipelineHarness::new(
        vec![SourcePolicy {
            scope: None,
            ..test_policy("feed")
        }],
        ShopRules::default(),
    )
    .await
}

fn http_file(url: &str) -> SourcePoller<HttpFile> {
    SourcePoller::new(remote_file(url))
}

fn remote_file(url: &str) -> HttpFile {
    let login = Some(("anna".to_owned(), Secret::new("canary")));
    let config = Config {
        url: url.parse().unwrap(),
        login,
        format: None,
    };
    let make = |base_config| {
        client(&ClientConfig {
            trust: Trust::PlainHttpOnly,
            ..base_config
        })
    };
    let clients = config.clients(make).unwrap();
    HttpFile::new(config, ReadSettings::default(), clients)
}

/// Address that counts as public; every other address is private.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Creates a file on a host that counts as public, so that its redirects are limited.
fn public_http_file(url: &str) -> SourcePoller<HttpFile> {
    let mut file = remote_file(url);
    let is_public: AddressRule = |address| address == PUBLIC;
    let rule = ClientConfig {
        trust: Trust::PlainHttpOnly,
        address_rule: Some(is_public),
        ..ClientConfig::default()
    };
    file.clients.public = client(&rule).unwrap();
    file.is_public = is_public;
    SourcePoller::new(file)
}

/// Starts a server on the public host that redirects every path to `to`.
async fn redirecting_server(to: String) -> (TestServer, RecordedRequests) {
    let respond =
        move |_: &str, _: &HeaderMap| (StatusCode::FOUND, [(LOCATION, &to)]).into_response();
    recording_server_at(PUBLIC, respond).await
}

async fn poll(file: &mut SourcePoller<HttpFile>, fixture: &PipelineHarness) -> Result<(), String> {
    let (now, no_skus) = (Clock::wall().now(), Arc::new(Vec::new));
    let reports = file.poll(&fixture.pipeline, 0, now, no_skus).await;
    reports.map(drop)
}

fn last_failure(fixture: &PipelineHarness) -> String {
    fixture
        .pipeline
        .status(0)
        .last_failure
        .map(|(_, text)| text)
        .unwrap_or_default()
}

#[tokio::test]
async fn downloads_unchanged_files_only_once() {
    let (server, requests) = recording_server(|_, headers| {
        let is_known = headers
            .get(IF_NONE_MATCH)
            .is_some_and(|etag| etag == "\"one\"")
            && headers
                .get(IF_MODIFIED_SINCE)
                .is_some_and(|date| date == DATE);
        if is_known {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        ([(ETAG, "\"one\""), (LAST_MODIFIED, DATE)], STOCK).into_response()
    })
    .await;
    let fixture = pipeline_fixture().await;
    let url = format!("{}/stock.csv", server.url);
    let mut first = http_file(&url);
    for mut file in [None, None, Some(http_file(&url))] {
        poll(file.as_mut().unwrap_or(&mut first), &fixture)
            .await
            .unwrap();
        assert_eq!(fixture.pipeline.status(0).applied_total, 1);
    }
    assert_eq!(requests.lock().len(), 3);
    assert_eq!(fixture.stock(), stock([("A", 5), ("B", 7)]));
    let at = fixture.pipeline.status(0).last_report.unwrap().stated_at;
    assert_eq!(at.to_utc().to_rfc2822(), "Sun, 1 Nov 2026 10:00:00 +0000");
}

#[tokio::test]
async fn redirects_do_not_leak_the_password() {
    let (elsewhere, elsewhere_requests) = recording_server(|_, _| STOCK.into_response()).await;
    let far = format!("{}/far.csv", elsewhere.url);
    let (server, requests) = recording_server(move |path, _| {
        let to = match path {
            "/near" => "/next",
            "/next" => &far,
            _ => return StatusCode::NOT_FOUND.into_response(),
        };
        (StatusCode::FOUND, [(LOCATION, to)]).into_response()
    })
    .await;
    let fixture = pipeline_fixture().await;
    let mut file = http_file(&format!("{}/near", server.url));
    poll(&mut file, &fixture).await.unwrap();
    assert_eq!(fixture.stock(), stock([("A", 5), ("B", 7)]));
    assert!(
        requests
            .lock()
            .iter()
            .all(|(_, headers)| headers.contains_key(AUTHORIZATION))
    );
    assert_eq!(requests.lock().len(), 2);
    let elsewhere_requests = elsewhere_requests.lock();
    assert!(
        !elsewhere_requests[0].1.contains_key(AUTHORIZATION),
        "{elsewhere_requests:?}"
    );
}

#[tokio::test]
async fn public_hosts_cannot_redirect_to_private_addresses() {
    let (private, requests) = recording_server(|_, _| STOCK.into_response()).await;
    let port = private.url.rsplit(':').next().unwrap().to_owned();
    let fixture = pipeline_fixture().await;
    for (host, reason) in [
        // An address in the URL, in spellings of it, and a name that resolves to it.
        (
            "127.0.0.1",
            "redirects to 127.0.0.1, which is not a public address",
        ),
        (
            "2130706433",
            "redirects to 127.0.0.1, which is not a public address",
        ),
        (
            "0x7f.1",
            "redirects to 127.0.0.1, which is not a public address",
        ),
        ("[::1]", "redirects to [::1], which is not a public address"),
        ("[::ffff:127.0.0.1]", "which is not a public address"),
        ("localhost", "localhost has no public address"),
    ] {
        let (public, _) = redirecting_server(format!("http://{host}:{port}/stock.csv")).await;
        let mut file = public_http_file(&format!("{}/stock.csv", public.url));
        let error = poll(&mut file, &fixture).await.unwrap_err();
        assert!(error.contains(reason), "{host}: {error}");
    }
    // Not even through another public host.
    let (second, _) = redirecting_server(format!("{}/stock.csv", private.url)).await;
    let (first, _) = redirecting_server(format!("{}/next", second.url)).await;
    let mut file = public_http_file(&format!("{}/stock.csv", first.url));
    poll(&mut file, &fixture).await.unwrap_err();
    assert_eq!(requests.lock().len(), 0);
}

#[tokio::test]
async fn public_hosts_may_redirect_to_public_hosts() {
    let (last, requests) = recording_server_at(PUBLIC, |_, _| STOCK.into_response()).await;
    let (first, _) = redirecting_server(format!("{}/stock.csv", last.url)).await;
    let fixture = pipeline_fixture().await;
    let mut file = public_http_file(&format!("{}/stock.csv", first.url));
    poll(&mut file, &fixture).await.unwrap();
    assert_eq!(fixture.stock(), stock([("A", 5), ("B", 7)]));
    // Another port is another server: it does not get the password.
    assert!(!requests.lock()[0].1.contains_key(AUTHORIZATION));
}

#[tokio::test]
async fn error_messages_do_not_contain_the_url() {
    let (server, requests) = recording_server(|path, _| match path {
        "/round" => (StatusCode::FOUND, [(LOCATION, "/round")]).into_response(),
        "/nowhere" => StatusCode::FOUND.into_response(),
        _ => StatusCode::FORBIDDEN.into_response(),
    })
    .await;
    let fixture = pipeline_fixture().await;
    let poll_error = async |path: &str| {
        let mut file = http_file(&format!("{}{path}?token=canary", server.url));
        poll(&mut file, &fixture).await.unwrap_err()
    };
    assert_eq!(poll_error("/round").await, "more than 5 redirects");
    assert_eq!(requests.lock().len(), 6);
    for (path, reason) in [
        ("/nowhere", "without a valid Location header"),
        ("/x", "answered 403 Forbidden"),
    ] {
        let error = poll_error(path).await;
        assert!(
            error.contains(reason) && !error.contains("canary"),
            "{error}"
        );
    }
    let mut unreachable = http_file("http://127.0.0.1:1/stock.csv?token=canary");
    let error = poll(&mut unreachable, &fixture).await.unwrap_err();
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn rejects_redirects_from_https_to_http() {
    let redirect = |from: &str, to: &str| {
        let response = axum::http::Response::builder()
            .header(LOCATION, to)
            .body("")
            .unwrap();
        redirect_location(&from.parse().unwrap(), &Response::from(response))
    };
    let error = redirect("https://shop.example/a", "http://shop.example/b").unwrap_err();
    assert_eq!(
        error,
        "shop.example redirects from https to http, which is not allowed"
    );
    redirect("https://shop.example/a", "//cdn.example/b").unwrap();
    redirect("http://shop.example/a", "https://shop.example/b").unwrap();
    redirect("http://shop.example/a", "file:///etc/passwd").unwrap_err();
    redirect("http://shop.example/a", "http://[").unwrap_err();
}

#[tokio::test]
async fn login_pages_are_rejected_and_polled_again() {
    let (server, requests) = recording_server(|_, headers| {
        let page = "<!DOCTYPE html><html><title>Вход</title><body><form></form></body></html>";
        assert!(
            !headers.contains_key(IF_NONE_MATCH),
            "the validators of a rejected page were saved"
        );
        ([(CONTENT_TYPE, "text/html"), (ETAG, "\"login\"")], page).into_response()
    })
    .await;
    let fixture = pipeline_fixture().await;
    let mut file = http_file(&format!("{}/stock.csv", server.url));
    for _ in 0..2 {
        poll(&mut file, &fixture).await.unwrap();
        assert!(
            last_failure(&fixture).contains("page"),
            "{}",
            last_failure(&fixture)
        );
    }
    assert_eq!(requests.lock().len(), 2);
    assert!(fixture.stock().is_empty());
    assert_eq!(fixture.alarms(), ["source_failed"]);
}

/// Starts a server that responds once with these bytes and closes the connection.
async fn hang_up_after(bytes: String) -> (String, Tasks) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/stock.csv", listener.local_addr().unwrap());
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn_short_lived(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _some = stream.read(&mut request).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
    });
    (url, tasks)
}

#[tokio::test]
async fn interrupted_downloads_do_not_change_stock() {
    let fixture = pipeline_fixture().await;
    fixture.put_stock("A", 9).await;
    let before = fixture.stock();
    let body = "sku;stock\nA;5\nB;7\n";
    let lengths = [
        format!("Content-Length: {}\r\n\r\n{body}", body.len() + 1),
        // A chunk that is shorter than its length, and a body without its last chunk.
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}",
            body.len() + 9
        ),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        ),
    ];
    for rest in lengths {
        let (url, _server) =
            hang_up_after(format!("HTTP/1.1 200 OK\r\nETag: \"new\"\r\n{rest}")).await;
        let mut file = http_file(&url);
        poll(&mut file, &fixture).await.unwrap();
        assert!(
            last_failure(&fixture).starts_with("the download was interrupted"),
            "{rest:?}: {}",
            last_failure(&fixture)
        );
        assert_eq!(fixture.stock(), before);
        assert_eq!(
            fixture.pipeline.reader_state(0).await.unwrap(),
            "",
            "validators of an interrupted download were saved"
        );
    }
}

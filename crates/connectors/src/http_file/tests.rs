//! Tests of downloads: validators, redirects, credentials and interrupted responses.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse as _, Response as Reply};
use lifecycle::{CrashSignal, Tasks};
use parking_lot::Mutex;
use strict_http::client;
use strict_http::test_server::{TestServer, serve_at};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::row_collector::{self, CollectedDelivery};

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

fn http_file(url: &str) -> HttpFile {
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
fn public_http_file(url: &str) -> HttpFile {
    let mut file = http_file(url);
    let is_public: AddressRule = |address| address == PUBLIC;
    let rule = ClientConfig {
        trust: Trust::PlainHttpOnly,
        address_rule: Some(is_public),
        ..ClientConfig::default()
    };
    file.clients.public = client(&rule).unwrap();
    file.is_public = is_public;
    file
}

/// Starts a server on the public host that redirects every path to `to`.
async fn redirecting_server(to: String) -> (TestServer, RecordedRequests) {
    let respond =
        move |_: &str, _: &HeaderMap| (StatusCode::FOUND, [(LOCATION, &to)]).into_response();
    recording_server_at(PUBLIC, respond).await
}

/// Polls a file that has changed.
async fn read(file: &mut HttpFile) -> CollectedDelivery {
    let mut deliveries = row_collector::poll(file).await.unwrap();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    deliveries.remove(0)
}

async fn read_quantities(file: &mut HttpFile) -> Vec<(String, String)> {
    let delivery = read(file).await;
    assert!(delivery.report.is_ok(), "{delivery:?}");
    delivery.quantities()
}

/// Returns the error of a poll that does not get the file.
async fn poll_error(file: &mut HttpFile) -> String {
    row_collector::poll(file).await.unwrap_err()
}

fn stock_rows() -> [(String, String); 2] {
    [("A", "5"), ("B", "7")].map(|(sku, count)| (sku.to_owned(), count.to_owned()))
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
    let url = format!("{}/stock.csv", server.url);
    let mut file = http_file(&url);
    let first = read(&mut file).await;
    assert_eq!(first.quantities(), stock_rows());
    let stated_at = first.stated_at.unwrap().to_utc();
    assert_eq!(stated_at.to_rfc2822(), "Sun, 1 Nov 2026 10:00:00 +0000");
    let mut restarted = http_file(&url);
    restarted.restore(&first.state.unwrap());
    for file in [&mut file, &mut restarted] {
        assert_eq!(row_collector::poll(file).await.unwrap().len(), 0);
    }
    assert_eq!(requests.lock().len(), 3);
    assert!(!first.repeats_last);
    restarted.read_again();
    let again = read(&mut restarted).await;
    assert_eq!(again.quantities(), stock_rows());
    assert!(again.repeats_last);
}

#[tokio::test]
async fn another_etag_is_new_data_when_read_again() {
    let responses = Arc::new(AtomicUsize::new(0));
    let (server, _requests) = recording_server(move |_, _| {
        let etag = format!("\"{}\"", responses.fetch_add(1, Ordering::Relaxed));
        ([(ETAG, etag)], STOCK).into_response()
    })
    .await;
    let mut file = http_file(&format!("{}/stock.csv", server.url));
    read(&mut file).await;
    file.read_again();
    assert!(!read(&mut file).await.repeats_last);
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
    let mut file = http_file(&format!("{}/near", server.url));
    assert_eq!(read_quantities(&mut file).await, stock_rows());
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
        let error = poll_error(&mut file).await;
        assert!(error.contains(reason), "{host}: {error}");
    }
    // Not even through another public host.
    let (second, _) = redirecting_server(format!("{}/stock.csv", private.url)).await;
    let (first, _) = redirecting_server(format!("{}/next", second.url)).await;
    let mut file = public_http_file(&format!("{}/stock.csv", first.url));
    poll_error(&mut file).await;
    assert_eq!(requests.lock().len(), 0);
}

#[tokio::test]
async fn public_hosts_may_redirect_to_public_hosts() {
    let (last, requests) = recording_server_at(PUBLIC, |_, _| STOCK.into_response()).await;
    let (first, _) = redirecting_server(format!("{}/stock.csv", last.url)).await;
    let mut file = public_http_file(&format!("{}/stock.csv", first.url));
    assert_eq!(read_quantities(&mut file).await, stock_rows());
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
    let error_at = async |path: &str| {
        let mut file = http_file(&format!("{}{path}?token=canary", server.url));
        poll_error(&mut file).await
    };
    assert_eq!(error_at("/round").await, "more than 5 redirects");
    assert_eq!(requests.lock().len(), 6);
    for (path, reason) in [
        ("/nowhere", "without a valid Location header"),
        ("/x", "answered 403 Forbidden"),
    ] {
        let error = error_at(path).await;
        assert!(
            error.contains(reason) && !error.contains("canary"),
            "{error}"
        );
    }
    let mut unreachable = http_file("http://127.0.0.1:1/stock.csv?token=canary");
    let error = poll_error(&mut unreachable).await;
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
async fn interrupted_downloads_are_not_complete() {
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
        let delivery = read(&mut file).await;
        let failure = delivery.report.unwrap_err();
        assert!(
            failure.message.starts_with("the download was interrupted"),
            "{rest:?}: {failure:?}"
        );
        assert!(failure.is_temporary);
        assert_eq!(delivery.entries.len(), 0);
        assert_eq!(
            delivery.state, None,
            "validators of an interrupted download were saved"
        );
    }
}

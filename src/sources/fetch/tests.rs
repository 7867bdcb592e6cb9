use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response as Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::http::client;
use crate::http::scripted::{Scripted, serve_at};
use crate::lifecycle::{Fuse, Tasks};
use crate::sources::Taking;
use crate::sources::intake::tests::{House, stock, taking};
use crate::sources::rules::ShopRules;

const STOCK: &str = "sku;stock\nA;5\nB;7\n";
const DATE: &str = "Sun, 01 Nov 2026 10:00:00 GMT";

type Heard = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// A server that answers as it is told, and what it heard.
async fn server(
    answer: impl Fn(&str, &HeaderMap) -> Reply + Clone + Send + Sync + 'static,
) -> (Scripted, Heard) {
    server_at(Ipv4Addr::LOCALHOST, answer).await
}

async fn server_at(
    address: Ipv4Addr,
    answer: impl Fn(&str, &HeaderMap) -> Reply + Clone + Send + Sync + 'static,
) -> (Scripted, Heard) {
    let heard = Heard::default();
    let noted = Arc::clone(&heard);
    let router = Router::new().fallback(async move |request: Request| {
        let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
        let reply = answer(&path, &headers);
        noted.lock().unwrap().push((path, headers));
        reply
    });
    (serve_at(address, router).await, heard)
}

async fn house() -> House {
    House::new(
        vec![Taking {
            scope: None,
            ..taking("feed")
        }],
        ShopRules::default(),
    )
    .await
}

fn remote(url: &str) -> Remote {
    let login = Some(("anna".to_owned(), Secret::new("canary")));
    let config = Config {
        url: url.parse().unwrap(),
        login,
        format: None,
    };
    let make = |wanted| {
        client(&ClientConfig {
            trust: Trust::Nobody,
            ..wanted
        })
    };
    let clients = config.clients(make).unwrap();
    Remote::new(config, Reading::default(), clients)
}

/// Stands for the public host; every other address is private.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A file on a host that counts as public, so that its redirects are limited.
fn remote_of_public(url: &str) -> Remote {
    let mut remote = remote(url);
    let is_public: AddressRule = |address| address == PUBLIC;
    let rule = ClientConfig {
        trust: Trust::Nobody,
        address_rule: Some(is_public),
        ..ClientConfig::default()
    };
    remote.clients.public = client(&rule).unwrap();
    remote.is_public = is_public;
    remote
}

/// A server on the public host that redirects every path to `to`.
async fn redirecting(to: String) -> (Scripted, Heard) {
    let respond =
        move |_: &str, _: &HeaderMap| (StatusCode::FOUND, [(LOCATION, &to)]).into_response();
    server_at(PUBLIC, respond).await
}

fn failure(house: &House) -> String {
    house
        .intake
        .standing(0)
        .failure
        .map(|(_, text)| text)
        .unwrap_or_default()
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again_nor_after_a_restart() {
    let (server, heard) = server(|_, headers| {
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
    let house = house().await;
    let url = format!("{}/stock.csv", server.url);
    let mut first = remote(&url);
    for mut remote in [None, None, Some(remote(&url))] {
        remote
            .as_mut()
            .unwrap_or(&mut first)
            .look(&house.intake, 0)
            .await
            .unwrap();
        assert_eq!(house.intake.standing(0).taken, 1);
    }
    assert_eq!(heard.lock().unwrap().len(), 3);
    assert_eq!(house.stock(), stock([("A", 5), ("B", 7)]));
    let at = house.intake.standing(0).last.unwrap().at;
    assert_eq!(at.to_utc().to_rfc2822(), "Sun, 1 Nov 2026 10:00:00 +0000");
}

#[tokio::test]
async fn a_redirect_is_followed_and_nobody_else_is_told_the_password() {
    let (elsewhere, of_elsewhere) = server(|_, _| STOCK.into_response()).await;
    let far = format!("{}/far.csv", elsewhere.url);
    let (server, heard) = server(move |path, _| {
        let to = match path {
            "/near" => "/next",
            "/next" => &far,
            _ => return StatusCode::NOT_FOUND.into_response(),
        };
        (StatusCode::FOUND, [(LOCATION, to)]).into_response()
    })
    .await;
    let house = house().await;
    remote(&format!("{}/near", server.url))
        .look(&house.intake, 0)
        .await
        .unwrap();
    assert_eq!(house.stock(), stock([("A", 5), ("B", 7)]));
    assert!(
        heard
            .lock()
            .unwrap()
            .iter()
            .all(|(_, headers)| headers.contains_key(AUTHORIZATION))
    );
    assert_eq!(heard.lock().unwrap().len(), 2);
    let of_elsewhere = of_elsewhere.lock().unwrap();
    assert!(
        !of_elsewhere[0].1.contains_key(AUTHORIZATION),
        "{of_elsewhere:?}"
    );
}

#[tokio::test]
async fn a_public_host_cannot_redirect_to_a_private_address() {
    let (private, requests) = server(|_, _| STOCK.into_response()).await;
    let port = private.url.rsplit(':').next().unwrap().to_owned();
    let house = house().await;
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
        let (public, _) = redirecting(format!("http://{host}:{port}/stock.csv")).await;
        let mut remote = remote_of_public(&format!("{}/stock.csv", public.url));
        let error = remote.look(&house.intake, 0).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{host}: {error}");
    }
    // Not even through another public host.
    let (second, _) = redirecting(format!("{}/stock.csv", private.url)).await;
    let (first, _) = redirecting(format!("{}/next", second.url)).await;
    let mut remote = remote_of_public(&format!("{}/stock.csv", first.url));
    remote.look(&house.intake, 0).await.unwrap_err();
    assert_eq!(requests.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_public_host_may_redirect_to_itself_and_to_public_hosts() {
    let (last, requests) = server_at(PUBLIC, |_, _| STOCK.into_response()).await;
    let (first, _) = redirecting(format!("{}/stock.csv", last.url)).await;
    let house = house().await;
    let mut remote = remote_of_public(&format!("{}/stock.csv", first.url));
    remote.look(&house.intake, 0).await.unwrap();
    assert_eq!(house.stock(), stock([("A", 5), ("B", 7)]));
    // Another port is another server: it does not get the password.
    assert!(!requests.lock().unwrap()[0].1.contains_key(AUTHORIZATION));
}

#[tokio::test]
async fn redirects_without_end_and_other_answers_are_told_without_the_address() {
    let (server, heard) = server(|path, _| match path {
        "/round" => (StatusCode::FOUND, [(LOCATION, "/round")]).into_response(),
        "/nowhere" => StatusCode::FOUND.into_response(),
        _ => StatusCode::FORBIDDEN.into_response(),
    })
    .await;
    let house = house().await;
    let look = async |path: &str| {
        let mut remote = remote(&format!("{}{path}?token=canary", server.url));
        remote.look(&house.intake, 0).await.unwrap_err().to_string()
    };
    assert_eq!(look("/round").await, "more than 5 redirections");
    assert_eq!(heard.lock().unwrap().len(), 6);
    for (path, told) in [
        ("/nowhere", "without saying where"),
        ("/x", "answers 403 Forbidden"),
    ] {
        let error = look(path).await;
        assert!(error.contains(told) && !error.contains("canary"), "{error}");
    }
    let mut gone = remote("http://127.0.0.1:1/stock.csv?token=canary");
    let error = gone.look(&house.intake, 0).await.unwrap_err().to_string();
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn nobody_leads_us_from_https_to_http() {
    let lead = |from: &str, to: &str| {
        let answer = axum::http::Response::builder()
            .header(LOCATION, to)
            .body("")
            .unwrap();
        elsewhere(&from.parse().unwrap(), &Response::from(answer))
    };
    let told = lead("https://shop.example/a", "http://shop.example/b").unwrap_err();
    assert_eq!(told, "shop.example sends us from https to http");
    lead("https://shop.example/a", "//cdn.example/b").unwrap();
    lead("http://shop.example/a", "https://shop.example/b").unwrap();
    lead("http://shop.example/a", "file:///etc/passwd").unwrap_err();
    lead("http://shop.example/a", "http://[").unwrap_err();
}

#[tokio::test]
async fn a_login_page_is_refused_with_words_and_asked_for_again() {
    let (server, heard) = server(|_, headers| {
        let page = "<!DOCTYPE html><html><title>Вход</title><body><form></form></body></html>";
        assert!(
            !headers.contains_key(IF_NONE_MATCH),
            "a page that was refused is remembered"
        );
        ([(CONTENT_TYPE, "text/html"), (ETAG, "\"login\"")], page).into_response()
    })
    .await;
    let house = house().await;
    let mut remote = remote(&format!("{}/stock.csv", server.url));
    for _ in 0..2 {
        remote.look(&house.intake, 0).await.unwrap();
        assert!(failure(&house).contains("page"), "{}", failure(&house));
    }
    assert_eq!(heard.lock().unwrap().len(), 2);
    assert!(house.stock().is_empty());
    assert_eq!(house.alarms(), ["source_failed"]);
}

/// Answers once with these bytes, and hangs up.
async fn hang_up_after(bytes: String) -> (String, Tasks) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/stock.csv", listener.local_addr().unwrap());
    let tasks = Tasks::new(Fuse::default());
    tasks.spawn_brief(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4_096];
        let _some = stream.read(&mut request).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
    });
    (url, tasks)
}

#[tokio::test]
async fn a_file_that_is_cut_on_its_way_leaves_the_stock_as_it_was() {
    let house = house().await;
    house.put("A", 9).await;
    let before = house.stock();
    let whole = "sku;stock\nA;5\nB;7\n";
    let lengths = [
        format!("Content-Length: {}\r\n\r\n{whole}", whole.len() + 1),
        // A chunk that says more than comes, and one without the end of all chunks.
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}",
            whole.len() + 9
        ),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{whole}\r\n",
            whole.len()
        ),
    ];
    for rest in lengths {
        let (url, _server) =
            hang_up_after(format!("HTTP/1.1 200 OK\r\nETag: \"new\"\r\n{rest}")).await;
        let mut remote = remote(&url);
        remote.look(&house.intake, 0).await.unwrap();
        assert!(
            failure(&house).starts_with("the line broke"),
            "{rest:?}: {}",
            failure(&house)
        );
        assert_eq!(house.stock(), before);
        assert_eq!(
            remote.known,
            Some(Known::default()),
            "what never came is not known"
        );
    }
}

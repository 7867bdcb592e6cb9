//! The recorded and documented exchanges in `fixtures/`, replayed to the byte.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::TestService;
use crate::wire::{RawConnection, send};

/// The secrets of `fixtures/service.toml`. The first is the documentation's own example.
const SECRETS: [(&str, &str); 6] = [
    (
        "DOCUMENTATION_PUSH_TOKEN",
        "41FBAC4A763D480999DAEDAC09B36CBB200000016A894A28",
    ),
    ("DOCUMENTATION_FEED_KEY", "feed-of-documentation"),
    ("MOSCOW_PUSH_TOKEN", "y+B/t0ken="),
    ("MOSCOW_FEED_KEY", "feed-of-moscow"),
    ("COLD_PUSH_TOKEN", "token-of-cold"),
    ("COLD_FEED_KEY", "feed-of-cold"),
];

/// A request and the answer it must get.
struct ReplayedExchange {
    request: Vec<u8>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_market_is_answered_to_the_byte() {
    replay("legacy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_seller_is_answered_to_the_byte() {
    replay("partner").await;
}

async fn replay(side: &str) {
    let mut differences = String::new();
    for file in files(side) {
        // Each file begins with the same stock.
        let service = start_service().await;
        for (number, exchange) in read(&file).iter().enumerate() {
            if let Err(difference) = replay_exchange(&service, exchange).await {
                let name = file.file_name().unwrap().display();
                writeln!(
                    differences,
                    "{side}/{name}, exchange {number}: {difference}"
                )
                .unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

async fn replay_exchange(service: &TestService, exchange: &ReplayedExchange) -> Result<(), String> {
    let mut connection = RawConnection::connect(service.endpoints().public).await;
    connection.write(&exchange.request).await;
    let response = connection.read_response().await?;
    let text = response.text();
    if response.status != exchange.status {
        return Err(format!(
            "status {} instead of {}: {text}",
            response.status, exchange.status
        ));
    }
    for (name, value) in &exchange.headers {
        if response.header(name) != Some(value) {
            return Err(format!(
                "{name} is {:?}, not {value:?}",
                response.header(name)
            ));
        }
    }
    if response.body != exchange.body {
        let expected = String::from_utf8_lossy(&exchange.body);
        return Err(format!("the body is\n{text}\ninstead of\n{expected}"));
    }
    Ok(())
}

async fn start_service() -> TestService {
    let read = |name: &str| std::fs::read_to_string(fixtures().join(name)).unwrap();
    let variables =
        SECRETS.map(|(name, text)| (format!("STOCKBRIDGE_SHOPS_{name}"), text.to_owned()));
    let service = TestService::from_config(&read("service.toml"), variables.to_vec()).await;
    let stock: Value = serde_json::from_str(&read("stock.json")).unwrap();
    for (campaign, shop) in [(12_345, "documentation"), (21_234_567, "moscow")] {
        let key = format!("feed-of-{shop}");
        let target = format!("/v2/campaigns/{campaign}/offers/stocks");
        let body = serde_json::json!({ "skus": stock[shop] }).to_string();
        let headers = [("Api-Key", key.as_str())];
        let response = send(
            service.endpoints().public,
            "PUT",
            &target,
            &headers,
            body.as_bytes(),
        )
        .await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    service
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn files(side: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures().join(side)).unwrap();
    let is_exchange = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "http");
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(is_exchange)
        .collect();
    files.sort();
    assert!(files.len() > 10, "where are the fixtures?");
    files
}

/// Reads a file in the format of `fixtures/README.md`.
fn read(file: &Path) -> Vec<ReplayedExchange> {
    let bytes = std::fs::read(file).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (origin, exchanges) = text.split_once(">>>\n").unwrap();
    let is_comment = |line: &str| line.starts_with("# ");
    assert!(
        !origin.is_empty() && origin.lines().all(is_comment),
        "{}",
        file.display()
    );
    exchanges
        .split("\n>>>\n")
        .map(|exchange| parse(exchange, file))
        .collect()
}

fn parse(exchange: &str, file: &Path) -> ReplayedExchange {
    let both_parts = |split: Option<(&str, &str)>| {
        let (a, b) = split.unwrap_or_else(|| panic!("cut short: {}", file.display()));
        (a.to_owned(), b.to_owned())
    };
    let (request, response) = both_parts(exchange.split_once("\n<<<\n"));
    let (head, request_body) = both_parts(request.split_once("\n\n"));
    let (expected, body) = both_parts(response.split_once("\n\n"));
    let mut lines = expected.lines();
    let status = lines.next().unwrap().parse().unwrap();
    let headers = lines
        .map(|line| both_parts(line.split_once(": ")))
        .collect();
    let declared_length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let declared_length = declared_length.map_or(0, |length| length.parse().unwrap());
    // Only a body that is too large to be taken may be left out.
    let is_whole =
        declared_length == request_body.len() || (status == 413 && request_body.is_empty());
    assert!(
        is_whole,
        "{}: the body has {} bytes, not {declared_length}",
        file.display(),
        request_body.len()
    );
    ReplayedExchange {
        request: format!("{}\r\n\r\n{request_body}", head.replace('\n', "\r\n")).into_bytes(),
        status,
        headers,
        body: body.strip_suffix('\n').unwrap_or(&body).as_bytes().to_vec(),
    }
}

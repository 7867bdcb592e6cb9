//! The page about sources, and the preview of what is held for approval.

use serde_json::{Value, json};

use crate::harness::{Endpoints, TestService, TestShop};
use crate::wire::{RawResponse, send};

/// Header of a browser.
const BROWSER: (&str, &str) = (
    "Accept",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
);

/// Header of a form on a page of this listener.
const SAME_ORIGIN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

const FILE: &str = "sku;quantity\nA;5\nB;6\nC;7\nD;8\n";

/// A file that turns three of four SKUs to zero, and so is held.
const WIPE: &str = "sku;quantity\nA;0\nB;0\nC;0\nD;9\nE;1\n";

const HELD: &str = "/sources/moscow/import/held";

async fn open_page(endpoints: Endpoints, target: &str) -> RawResponse {
    let headers = [BROWSER, ("Accept-Language", "en")];
    send(endpoints.ops, "GET", target, &headers, b"").await
}

/// The text of a page that must be there.
async fn page_text(endpoints: Endpoints, target: &str) -> String {
    let response = open_page(endpoints, target).await;
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    let kind = response.header("content-type").unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let policy = response.header("content-security-policy").unwrap();
    assert!(policy.contains("require-trusted-types-for 'script'"));
    response.text()
}

async fn submit(endpoints: Endpoints, target: &str, fields: &[(&str, &str)]) -> RawResponse {
    let fields = [&[BROWSER], fields].concat();
    send(endpoints.ops, "POST", target, &fields, b"").await
}

async fn import(endpoints: Endpoints, file: &str) -> Value {
    let (status, body) = endpoints
        .ops_request("POST", "/import?shop=moscow", file)
        .await;
    assert_eq!(status, 200, "{body}");
    body
}

/// A shop with four SKUs and a held delivery.
async fn start_with_held() -> TestService {
    let service = TestService::start(&[TestShop::moscow()]).await;
    import(service.endpoints(), FILE).await;
    assert_eq!(import(service.endpoints(), WIPE).await["outcome"], "held");
    service
}

async fn counts(service: &TestService) -> Vec<(String, u64)> {
    let skus = ["A", "B", "C", "D", "E"];
    service.endpoints().counts(service.shop(), &skus).await
}

/// The address of the only form that approves.
fn accept_address(page: &str) -> String {
    let (_, rest) = page
        .split_once(&format!("action=\"{HELD}?delivery="))
        .unwrap();
    let (mark, _) = rest.split_once('"').unwrap();
    format!("{HELD}?delivery={mark}")
}

/// SKU, count and new count of each row of a page.
fn listed_changes(page: &str) -> Vec<(String, String, String)> {
    let rows = page.split("<th scope=\"row\" class=\"sku\">").skip(1);
    let inner = |text: &str| -> String {
        let mut is_text = true;
        let mut inner = String::new();
        for c in text.chars() {
            match c {
                '<' => is_text = false,
                '>' => is_text = true,
                _ if is_text => inner.push(c),
                _ => {}
            }
        }
        inner
    };
    rows.map(|row| {
        let mut cells = row.split("</t").map(|cell| {
            // The rest of the closing tag of the cell before.
            let cell = cell.trim_start_matches("h>").trim_start_matches("d>");
            inner(cell).trim().to_owned()
        });
        let mut cell = || cells.next().unwrap();
        (cell(), cell(), cell())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_json_and_browsers_a_page() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    import(endpoints, FILE).await;
    let mut bodies = Vec::new();
    for headers in [
        vec![],
        vec![("Accept", "*/*")],
        vec![("Accept", "application/json")],
        vec![("Accept", "text/html;q=0, */*")],
    ] {
        let response = send(endpoints.ops, "GET", "/sources", &headers, b"").await;
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("vary"), Some("Accept"));
        assert_eq!(response.header("content-security-policy"), None);
        assert_eq!(response.json()[0]["source"], "import");
        bodies.push(response.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "the same JSON for every program");
    let page = open_page(endpoints, "/sources").await;
    assert_eq!(page.header("vary"), Some("Accept"));
    let text = page_text(endpoints, "/sources").await;
    assert!(text.contains("id=\"moscow-import\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_all_counts_of_the_last_delivery() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    import(endpoints, FILE).await;
    import(endpoints, "sku;quantity\nA;0\nB;9\nC;7\nX;1\n").await;
    let text = page_text(endpoints, "/sources").await;
    for (heading, number) in [
        ("Rows", "4"),
        ("New", "1"),
        ("Changed", "2"),
        ("To zero", "1"),
        ("Unchanged", "1"),
        ("Older than known", "0"),
        ("Rejected", "0"),
        ("Suspicious", "0"),
    ] {
        let start = format!("<dt>{heading}</dt><dd data-severity=");
        let (_, rest) = text
            .split_once(&start)
            .unwrap_or_else(|| panic!("{heading}: {text}"));
        let (cell, _) = rest.split_once("</dd>").unwrap();
        assert!(cell.ends_with(&format!(">{number}")), "{heading}: {cell}");
    }
    for (language, word) in [("ru", "Строки"), ("zh", "行数")] {
        let headers = [BROWSER, ("Accept-Language", language)];
        let page = send(endpoints.ops, "GET", "/sources", &headers, b"").await;
        assert!(page.text().contains(word), "{language}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shops_without_sources_show_how_to_add_one() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let text = page_text(service.endpoints(), "/sources").await;
    assert!(text.contains("[[shops.sources]]"), "{text}");
    assert!(text.contains("nothing is needed here"));
    assert!(!text.contains("moscow-import"), "it was never used");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_rows_are_escaped_and_visible() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let file = "sku;quantity\nA;5\nB;6\n<script>alert(1)</script>\u{202e}x;много<img src=x>\n";
    import(endpoints, file).await;
    let text = page_text(endpoints, "/sources").await;
    assert!(!text.contains("<script>alert"), "{text}");
    assert!(!text.contains("<img"), "{text}");
    assert!(!text.contains('\u{202e}'), "{text}");
    assert!(text.contains("⟨U+202E⟩x"), "{text}");
    assert!(text.contains("rejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_reads_a_source_now() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stock.csv");
    std::fs::write(&path, FILE).unwrap();
    let source = format!(
        "[[shops.sources]]\nname = \"erp\"\nkind = \"file\"\nevery_seconds = 86400\npath = {path:?}"
    );
    let service = TestService::start(&[TestShop::moscow().set(&source)]).await;
    let endpoints = service.endpoints();
    let target = "/sources/moscow/erp/read";
    for fields in [vec![], vec![("Origin", "https://evil.example")]] {
        let refused = submit(endpoints, target, &fields).await;
        assert_eq!(refused.status, 403, "{fields:?}");
    }
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let response = submit(endpoints, target, &[SAME_ORIGIN]).await;
        assert_eq!(response.status, 303);
        let address = response.header("location").unwrap();
        assert_eq!(address, "/sources?done=read#moscow-erp");
        let text = page_text(endpoints, "/sources?done=read").await;
        assert!(text.contains("The source is read now."));
        let (_, sources) = endpoints.ops_request("GET", "/sources", "").await;
        if sources[0]["state"] == "ok" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let stock = endpoints.counts(service.shop(), &["A"]).await;
    assert_eq!(stock, [("A".to_owned(), 5)]);
    assert_eq!(
        submit(endpoints, "/sources/moscow/no/read", &[SAME_ORIGIN])
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preview_is_what_accept_does() {
    let service = start_with_held().await;
    let endpoints = service.endpoints();
    let before = counts(&service).await;
    let sources = page_text(endpoints, "/sources").await;
    assert!(sources.contains(&format!("href=\"{HELD}\"")), "{sources}");
    assert!(sources.contains("It would turn 3 of 4 SKUs in stock to zero."));
    let page = page_text(endpoints, HELD).await;
    assert_eq!(counts(&service).await, before, "looking changes nothing");
    let listed = listed_changes(&page);
    let expected = [
        ("A", "5", "becomes 0"),
        ("B", "6", "becomes 0"),
        ("C", "7", "becomes 0"),
        ("D", "8", "9"),
        ("E", "–", "1"),
    ];
    let expected = expected.map(|(sku, old, new)| (sku.into(), old.into(), new.into()));
    assert_eq!(listed, expected);
    let zeros = page_text(endpoints, &format!("{HELD}?kind=zero")).await;
    assert_eq!(listed_changes(&zeros).len(), 3);
    let absence = "leaves the stock of SKUs that it lacks unchanged";
    assert!(page.contains(absence), "an import is a delta: {page}");
    let accepted = submit(endpoints, &accept_address(&page), &[SAME_ORIGIN]).await;
    assert_eq!(accepted.status, 303, "{}", accepted.text());
    let address = accepted.header("location").unwrap();
    let result = page_text(endpoints, address).await;
    assert!(
        result.contains("Accepted. The delivery is applied."),
        "{result}"
    );
    let after = [("A", 0), ("B", 0), ("C", 0), ("D", 9), ("E", 1)];
    assert_eq!(
        counts(&service).await,
        after.map(|(sku, n)| (sku.to_owned(), n))
    );
    let later = page_text(endpoints, HELD).await;
    assert!(later.contains("Nothing is held for approval."), "{later}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_delivery_is_shown_and_not_applied() {
    let service = start_with_held().await;
    let endpoints = service.endpoints();
    let before = counts(&service).await;
    let seen = accept_address(&page_text(endpoints, HELD).await);
    let other = "sku;quantity\nB;0\nC;0\nD;0\n";
    let (_, body) = endpoints
        .ops_request("POST", "/import?shop=moscow&scope=snapshot", other)
        .await;
    assert_eq!(body["outcome"], "held", "{body}");
    let response = submit(endpoints, &seen, &[SAME_ORIGIN]).await;
    assert_eq!(response.status, 409);
    let page = response.text();
    assert!(page.contains("Another delivery is held by now"), "{page}");
    assert_eq!(counts(&service).await, before);
    let skus: Vec<String> = listed_changes(&page).into_iter().map(|row| row.0).collect();
    assert_eq!(skus, ["B", "C", "D"]);
    let accepted = submit(endpoints, &accept_address(&page), &[SAME_ORIGIN]).await;
    assert_eq!(accepted.status, 303);
    assert_eq!(counts(&service).await[1], ("B".to_owned(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_pages_approve_nothing() {
    let service = start_with_held().await;
    let endpoints = service.endpoints();
    let before = counts(&service).await;
    let address = accept_address(&page_text(endpoints, HELD).await);
    for fields in [
        vec![],
        vec![("Sec-Fetch-Site", "cross-site")],
        vec![("Sec-Fetch-Site", "none")],
        vec![("Origin", "https://evil.example")],
        vec![("Origin", "null")],
    ] {
        let response = submit(endpoints, &address, &fields).await;
        assert_eq!(response.status, 403, "{fields:?}");
    }
    assert_eq!(counts(&service).await, before);
    let origin = [("Origin", "http://localhost")];
    assert_eq!(submit(endpoints, &address, &origin).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_approve_what_they_have_seen() {
    let service = start_with_held().await;
    let endpoints = service.endpoints();
    let (status, seen) = endpoints.ops_request("GET", HELD, "").await;
    assert_eq!(status, 200, "{seen}");
    assert_eq!(
        seen["totals"],
        json!({ "zero": 3, "lower": 0, "higher": 1, "new": 1 })
    );
    let first = json!({ "sku": "A", "old": 5, "new": 0, "kind": "zero", "absent": false });
    assert_eq!(seen["absent_zeros"], 0);
    assert_eq!(seen["changes"][0], first);
    let mark = seen["delivery"].as_str().unwrap();
    let accept = |mark: &str| format!("/accept?source=import&shop=moscow&delivery={mark}");
    let (status, body) = endpoints
        .ops_request("POST", &accept("0123456789abcdef"), "")
        .await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (409, &json!("DELIVERY_CHANGED"))
    );
    let (status, body) = endpoints.ops_request("POST", &accept(mark), "").await;
    assert_eq!((status, &body["outcome"]), (200, &json!("taken")), "{body}");
    let (status, body) = endpoints.ops_request("GET", HELD, "").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("NOTHING_HELD"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_preview_has_pages() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let file = |count: u32| {
        let rows = (0..250).map(|n| format!("S-{n:03};{count}\n"));
        format!("sku;quantity\n{}", rows.collect::<String>())
    };
    import(endpoints, &file(5)).await;
    import(endpoints, &file(0)).await;
    let mut skus = Vec::new();
    for page in 1..=3 {
        let text = page_text(endpoints, &format!("{HELD}?page={page}")).await;
        assert!(text.contains(&format!("Page {page} of 3")), "{text}");
        skus.extend(listed_changes(&text).into_iter().map(|row| row.0));
    }
    let expected: Vec<String> = (0..250).map(|n| format!("S-{n:03}")).collect();
    assert_eq!(skus, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_rules_are_previewed_and_approved() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    import(service.endpoints(), FILE).await;
    let shops = [TestShop::moscow().set("buffer = 1000")];
    service.restart_with_config(&shops, "").await;
    let endpoints = service.endpoints();
    let target = "/sources/moscow/rules/held";
    let sources = page_text(endpoints, "/sources").await;
    assert!(sources.contains(&format!("href=\"{target}\"")), "{sources}");
    let page = page_text(endpoints, target).await;
    assert_eq!(listed_changes(&page).len(), 4, "{page}");
    let (_, rest) = page.split_once("?delivery=").unwrap();
    let (mark, _) = rest.split_once('"').unwrap();
    let wrong = submit(
        endpoints,
        &format!("{target}?delivery=0123"),
        &[SAME_ORIGIN],
    )
    .await;
    assert_eq!(wrong.status, 409);
    let right = submit(
        endpoints,
        &format!("{target}?delivery={mark}"),
        &[SAME_ORIGIN],
    )
    .await;
    assert_eq!(right.status, 303);
    let result = page_text(endpoints, right.header("location").unwrap()).await;
    assert!(
        result.contains("The changed rules are applied."),
        "{result}"
    );
    let stock = endpoints.counts(service.shop(), &["A", "D"]).await;
    assert_eq!(stock, [("A".to_owned(), 0), ("D".to_owned(), 0)]);
}

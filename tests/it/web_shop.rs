//! Pages of a shop and of a SKU, the search, and the operator's pause.

use std::time::Duration;

use lifecycle::Clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Endpoints, TestService, TestShop, market_for, shop_status};
use crate::wire::{RawResponse, request, send};

const CAMPAIGN: u64 = 12_345;

/// SKU that would be markup and would turn the text around.
const HOSTILE: &str = "<script>alert(1)</script>\u{202e}\"'&";

/// The address of its page.
const HOSTILE_PATH: &str =
    "/shops/moscow/skus/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%E2%80%AE%22%27%26";

const LANGUAGES: [(&str, &str); 3] = [("en", "en"), ("ru", "ru"), ("zh", "zh-Hans")];

impl Endpoints {
    async fn get_page(self, target: &str, language: &str) -> RawResponse {
        send(
            self.ops,
            "GET",
            target,
            &[("Accept", "text/html"), ("Accept-Language", language)],
            b"",
        )
        .await
    }

    /// Sends a form as a browser does from a page of the service.
    async fn post_form(self, target: &str) -> RawResponse {
        let fields = [
            ("Sec-Fetch-Site", "same-origin"),
            ("Origin", "null"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        send(self.ops, "POST", target, &fields, b"").await
    }
}

fn sending_state(status: &Value, shop: &TestShop) -> String {
    let state = &shop_status(status, shop)["migrator"]["state"];
    state.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_answer_in_three_languages() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 5)]).await;
    service.wait_settled().await;
    for (target, words) in [
        ("/", ["Overview", "Обзор", "概览"]),
        (
            "/shops/moscow",
            ["Pause sending", "Приостановить отправку", "暂停发送"],
        ),
        ("/shops/moscow?period=week", ["7 days", "7 дней", "7 天"]),
        (
            "/shops/moscow/skus/A",
            ["The seller has 5", "У продавца 5", "卖家有 5 件"],
        ),
        (
            "/search?sku=zzz",
            ["begin with “zzz”", "с «zzz»", "以“zzz”开头"],
        ),
    ] {
        for ((language, tag), words) in LANGUAGES.into_iter().zip(words) {
            let response = endpoints.get_page(target, language).await;
            let text = response.text();
            assert_eq!(response.status, 200, "{target} {language}");
            assert!(
                text.contains(&format!("<html lang=\"{tag}\">")),
                "{target} {language}"
            );
            assert!(text.contains(words), "{words} is not in {target}:\n{text}");
            let policy = response.header("content-security-policy").unwrap();
            assert!(
                policy.contains("require-trusted-types-for 'script'"),
                "{policy}"
            );
            assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(response.header("cache-control"), Some("no-store"));
            for forbidden in [" style=", "<style", " onclick=", "javascript:"] {
                assert!(!text.contains(forbidden), "{forbidden} is in {target}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_skus_are_escaped_and_visible() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[(HOSTILE, 5)]).await;
    service.wait_settled().await;
    let search = "/search?sku=%3Cscript%3Ealert%281%29%3C%2Fscript%3E%E2%80%AE%22%27%26";
    let found = endpoints.get_page(search, "en").await;
    assert_eq!(
        (found.status, found.header("location")),
        (303, Some(HOSTILE_PATH))
    );
    for target in [
        HOSTILE_PATH,
        "/search?sku=%3Cscr",
        "/search?sku=%3Cscr&shop=%3Cscript%3E",
        "/shops/moscow/skus/%3Cscript%3Ealert%282%29%3C%2Fscript%3E",
        "/shops/%3Cscript%3Ealert%283%29%3C%2Fscript%3E",
    ] {
        let text = endpoints.get_page(target, "en").await.text();
        assert!(!text.contains("<script>"), "{target}\n{text}");
        assert!(text.contains("&#60;script&#62;"), "{target}\n{text}");
        assert_eq!(text.matches("<script ").count(), 1, "{target}\n{text}");
    }
    let text = endpoints.get_page(HOSTILE_PATH, "en").await.text();
    assert!(text.contains("⟨U+202E⟩&#34;&#39;&#38;"), "{text}");
    assert!(!text.contains('\u{202e}'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_pages_change_nothing() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let host = endpoints.ops.to_string();
    let ours = format!("http://{host}");
    for target in [
        "/shops/moscow/pause",
        "/shops/moscow/resume",
        "/shops/moscow/verify",
        "/shops/moscow/sources/erp/read",
    ] {
        for fields in [
            vec![],
            vec![("X-Stockbridge", "1")],
            vec![("Origin", "https://evil.example")],
            vec![("Origin", "null")],
            vec![("Origin", ours.as_str()), ("Sec-Fetch-Site", "cross-site")],
            vec![("Sec-Fetch-Site", "same-site")],
        ] {
            let fields = [vec![("Host", host.as_str())], fields].concat();
            let response = send(endpoints.ops, "POST", target, &fields, b"").await;
            assert_eq!(response.status, 403, "{target} {fields:?}");
        }
    }
    let status = endpoints.status().await;
    assert_eq!(sending_state(&status, service.shop()), "idle");
    let fields = [("Host", host.as_str()), ("Origin", ours.as_str())];
    let response = send(endpoints.ops, "POST", "/shops/moscow/verify", &fields, b"").await;
    assert_eq!(response.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_survives_a_restart_until_it_is_ended() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let shop = TestShop::moscow();
    service.endpoints().feed(&shop, &[("A", 5)]).await;
    service.wait_settled().await;
    let response = service.endpoints().post_form("/shops/moscow/pause").await;
    assert_eq!(response.status, 303);
    let location = response.header("location").unwrap().to_owned();
    assert!(
        location.starts_with("/shops/moscow?done=paused&at="),
        "{location}"
    );
    let text = service.endpoints().get_page(&location, "en").await.text();
    assert!(
        text.contains("Sending is paused. It stays paused until you resume it."),
        "{text}"
    );

    service.allow_unsent(&shop, "the operator has paused sending");
    service.endpoints().feed(&shop, &[("A", 7), ("B", 1)]).await;
    for round in ["before the restart", "after it"] {
        let endpoints = service.endpoints();
        let status = endpoints
            .wait_for_status("the changes wait", |status| {
                shop_status(status, &shop)["migrator"]["waiting_skus"] == 2
            })
            .await;
        let worker = &shop_status(&status, &shop)["migrator"];
        assert_eq!(worker["state"], "paused", "{round}");
        assert_eq!(worker["reason"], "paused by the operator", "{round}");
        assert!(worker["paused_since"].is_string(), "{round}: {worker}");
        assert_eq!(
            service.market.get(CAMPAIGN, "A").unwrap().count,
            5,
            "{round}"
        );
        let (_, report) = endpoints.ops_request("GET", "/ready-report", "").await;
        let reasons = report["shops"][0]["reasons"].to_string();
        assert!(
            reasons.contains("nothing is sent: paused by the operator"),
            "{reasons}"
        );
        assert_eq!(report["verdict"], "NOT YET");
        let overview = endpoints.get_page("/", "en").await.text();
        assert!(
            overview.contains("sending is paused by the operator"),
            "{overview}"
        );
        let page = endpoints.get_page("/shops/moscow", "en").await.text();
        assert!(page.contains("2 SKUs wait."), "{page}");
        if round == "before the restart" {
            service.restart().await;
        }
    }
    let response = service.endpoints().post_form("/shops/moscow/resume").await;
    let location = response.header("location").unwrap();
    assert!(
        location.starts_with("/shops/moscow?done=resumed&at="),
        "{location}"
    );
    let is_sent = |status: &Value| {
        let shop = shop_status(status, &shop);
        shop["dirty"] == 0 && shop["migrator"]["state"] == "idle"
    };
    service
        .endpoints()
        .wait_for_status("all is sent", is_sent)
        .await;
    assert_eq!(service.market.get(CAMPAIGN, "A").unwrap().count, 7);
    service.restart().await;
    let status = service.endpoints().status().await;
    assert_eq!(sending_state(&status, &shop), "idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_backs_continue_while_sending_is_paused() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 5)]).await;
    service.wait_settled().await;
    let (code, body) = endpoints
        .ops_request("POST", "/pause?shop=moscow", "")
        .await;
    assert_eq!((code, &body[0]["shop"]), (200, &"moscow".into()));
    assert!(body[0]["paused_since"].is_string(), "{body}");
    assert_eq!(
        endpoints.post_form("/shops/moscow/verify").await.status,
        303
    );
    let is_done = |status: &Value| shop_status(status, service.shop())["survey"]["state"] == "done";
    endpoints
        .wait_for_status("the read-back is done", is_done)
        .await;
    let page = endpoints.get_page("/shops/moscow", "en").await.text();
    assert!(
        page.contains("The Market shows the count that was sent."),
        "{page}"
    );
    let (code, body) = endpoints.ops_request("POST", "/resume", "").await;
    assert_eq!((code, &body[0]["paused_since"]), (200, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_shops_that_send_can_be_paused() {
    let shops = [
        TestShop::new("omsk", 2, 22).set("migrate = \"off\""),
        TestShop::new("perm", 3, 33).set("migrate = \"dry-run\""),
    ];
    let service = TestService::start(&shops).await;
    let endpoints = service.endpoints();
    for (target, code, error) in [
        ("/pause?shop=omsk", 409, "NOT_FORWARDED"),
        ("/resume?shop=omsk", 409, "NOT_FORWARDED"),
        ("/pause?shop=perm", 409, "DRY_RUN"),
        ("/pause?shop=nowhere", 404, "UNKNOWN_SHOP"),
    ] {
        let (status, body) = endpoints.ops_request("POST", target, "").await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (code, &error.into()),
            "{target}"
        );
    }
    let response = endpoints.post_form("/shops/omsk/pause").await;
    let location = response.header("location").unwrap();
    assert!(location.contains("done=not-forwarded"), "{location}");
    for name in ["omsk", "perm"] {
        let page = endpoints
            .get_page(&format!("/shops/{name}"), "en")
            .await
            .text();
        assert!(!page.contains("Pause sending"), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_page_polls_a_source() {
    let shop = TestShop::moscow().set(
        "[[shops.sources]]\nname = \"erp\"\nkind = \"file\"\nevery_seconds = 86400\n\
         path = \"erp.csv\"\nscope = \"snapshot\"",
    );
    let mut service = TestService::start(std::slice::from_ref(&shop)).await;
    let endpoints = service.endpoints();
    service.allow_unsent(&shop, "the file comes during the test");
    let page = endpoints.get_page("/shops/moscow", "en").await.text();
    assert!(page.contains("href=\"/sources#moscow-erp\""), "{page}");
    std::fs::write(
        service.directory.path().join("erp.csv"),
        "sku;quantity\nA;4\n",
    )
    .unwrap();
    // A file must be unchanged for two polls, so the poll is requested until it was read.
    let mut polls = 0;
    while endpoints.status().await["shops"][0]["skus"] != 1 {
        let response = endpoints.post_form("/shops/moscow/sources/erp/read").await;
        assert!(response.header("location").unwrap().contains("done=read"));
        polls += 1;
        assert!(polls < 2_000, "the file is not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let page = endpoints
        .get_page("/shops/moscow/skus/A", "en")
        .await
        .text();
    assert!(
        page.contains("(file)") && page.contains("Result: 4"),
        "{page}"
    );
    let response = endpoints
        .post_form("/shops/moscow/sources/nothing/read")
        .await;
    assert!(
        response
            .header("location")
            .unwrap()
            .contains("done=unknown-source")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_a_page_with_advice() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("557722", 5)]).await;
    for (target, words) in [
        (
            "/shops/kazan",
            ["“kazan” does not exist", "«kazan» нет", "“kazan”"],
        ),
        (
            "/shops/kazan/skus/A",
            ["“kazan” does not exist", "«kazan» нет", "“kazan”"],
        ),
        (
            "/live/shops/kazan",
            ["“kazan” does not exist", "«kazan» нет", "“kazan”"],
        ),
        (
            "/shops/moscow/skus/0557722",
            ["What to do", "Что делать", "处理办法"],
        ),
        (
            "/shops",
            ["This address has no page", "страницы нет", "此地址没有页面"],
        ),
        (
            "/sources/moscow/nothing/held",
            ["This address has no page", "страницы нет", "此地址没有页面"],
        ),
    ] {
        for ((language, _), words) in LANGUAGES.into_iter().zip(words) {
            let response = endpoints.get_page(target, language).await;
            let text = response.text();
            assert_eq!(response.status, 404, "{target}");
            assert!(text.contains(words), "{words} is not in {target}:\n{text}");
            assert!(text.contains("<header class=\"top\">"), "{text}");
        }
    }
    let page = endpoints
        .get_page("/shops/moscow/skus/0557722", "en")
        .await
        .text();
    assert!(page.contains("Did you mean"), "{page}");
    assert!(
        page.contains("href=\"/shops/moscow/skus/557722\""),
        "{page}"
    );
    for form in ["/shops/kazan/pause", "/sources/moscow/nothing/read"] {
        let response = endpoints.post_form(form).await;
        assert_eq!(response.status, 404, "{form}");
        assert!(response.text().contains("<header class=\"top\">"), "{form}");
    }
    // An address that a person has changed is a page without these values.
    for target in ["/events?before=x", "/ready?again=%FF", "/sources?done=%FF"] {
        let response = endpoints.get_page(target, "en").await;
        assert_eq!(response.status, 200, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_path_leads_to_its_page() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    for (form, page) in [
        ("/shops/moscow/pause", "/shops/moscow"),
        ("/shops/moscow/resume", "/shops/moscow"),
        ("/shops/moscow/verify", "/shops/moscow"),
        ("/shops/moscow/sources/erp/read", "/shops/moscow"),
        ("/sources/moscow/erp/read", "/sources"),
        ("/logout", "/"),
    ] {
        let response = service.endpoints().get_page(form, "en").await;
        let location = response.header("location");
        assert_eq!((response.status, location), (303, Some(page)), "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_name_the_addresses_of_the_service() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    for target in ["/", "/shops/moscow"] {
        let page = endpoints.get_page(target, "en").await.text();
        let update = format!(
            "http://{}/v2/campaigns/{}/offers/stocks",
            endpoints.public,
            service.shop().campaign
        );
        assert!(page.contains(&update), "{update} is not in {page}");
        let import = format!("--shop moscow --ops {}</code>", endpoints.ops);
        assert!(page.contains(&import), "{import} is not in {page}");
    }
    endpoints.feed(service.shop(), &[("A", 1)]).await;
    let page = endpoints.get_page("/", "en").await.text();
    assert!(!page.contains("stockbridge import"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_exact_skus_then_prefixes() {
    let shops = [TestShop::moscow(), TestShop::new("omsk", 2, 22)];
    let service = TestService::start_with(market_for(&shops), &shops, "", Clock::wall()).await;
    let endpoints = service.endpoints();
    let names: Vec<String> = (0..60).map(|n| format!("TEA-{n}")).collect();
    let teas: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    endpoints.feed(&shops[0], &teas).await;
    endpoints
        .feed(&shops[1], &[("TEA-7", 1), ("a/../b", 2), ("..", 3)])
        .await;
    service.wait_settled().await;
    for (target, location) in [
        ("/search?sku=TEA-7", "/shops/moscow/skus/TEA-7"),
        ("/search?sku=+TEA-7%09&shop=omsk", "/shops/omsk/skus/TEA-7"),
        ("/search?sku=TEA-8&shop=omsk", "/shops/moscow/skus/TEA-8"),
        ("/search?sku=a%2F..%2Fb", "/shops/omsk/skus/a%2F..%2Fb"),
        ("/search?sku=..", "/shops/omsk/skus?sku=.."),
    ] {
        let response = endpoints.get_page(target, "en").await;
        assert_eq!(
            (response.status, response.header("location")),
            (303, Some(location))
        );
        let page = endpoints.get_page(location, "en").await;
        assert_eq!(page.status, 200, "{location}");
        assert!(page.text().contains("The seller has"), "{location}");
    }
    let many = endpoints.get_page("/search?sku=tea", "en").await.text();
    assert!(
        many.contains("More than 50 SKUs begin with this text; 50 of them are shown."),
        "{many}"
    );
    assert_eq!(many.matches("class=\"sku\"").count(), 50, "{many}");
    let some = endpoints.get_page("/search?sku=tea-5", "en").await.text();
    assert!(some.contains("Did you mean"), "{some}");
    assert_eq!(some.matches("class=\"sku\"").count(), 12, "{some}");
    let none = endpoints.get_page("/search?sku=coffee", "en").await.text();
    assert!(none.contains("No SKU has this spelling"), "{none}");
    for target in ["/search", "/search?sku=", "/search?sku=%00"] {
        let response = endpoints.get_page(target, "en").await;
        assert_eq!(response.status, 400, "{target}");
        assert!(
            response.text().contains("<header class=\"top\">"),
            "{target}"
        );
        assert!(!response.text().contains('\0'), "{target}");
    }
    // The other shop is one link away.
    let page = endpoints
        .get_page("/shops/omsk/skus/TEA-7", "en")
        .await
        .text();
    assert!(page.contains("href=\"/shops/moscow/skus/TEA-7\""), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_market_requests_are_part_of_the_story() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 5)]).await;
    service.wait_settled().await;
    endpoints
        .query_stock(service.shop(), 569_667, &["A", "unknown-here"])
        .await;
    let page = endpoints
        .get_page("/shops/moscow/skus/A", "en")
        .await
        .text();
    for words in [
        "Stated: 5 (partner API)",
        "Sent: 5. The Market acknowledged it (1 SKU in the request",
        "warehouse 569667",
    ] {
        assert!(page.contains(words), "{words} is not in\n{page}");
    }
    let found = endpoints.get_page("/search?sku=unknown-here", "en").await;
    let location = "/shops/moscow/skus/unknown-here";
    assert_eq!(
        (found.status, found.header("location")),
        (303, Some(location))
    );
    let page = endpoints.get_page(location, "en").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("the seller never stated its stock"),
        "{}",
        page.text()
    );
}

/// Reads a stream until it has a text.
async fn stream_until(endpoints: Endpoints, target: &str, wanted: &str) -> String {
    let mut stream = TcpStream::connect(endpoints.ops).await.unwrap();
    let bytes = request("GET", target, &[("Accept-Language", "en")], b"");
    stream.write_all(&bytes).await.unwrap();
    let mut text = Vec::new();
    let read = async {
        loop {
            let shown = String::from_utf8_lossy(&text).into_owned();
            if shown.contains(wanted) {
                return shown;
            }
            let count = stream.read_buf(&mut text).await.unwrap();
            assert_ne!(count, 0, "{wanted} is not in\n{shown}");
        }
    };
    timeout(Duration::from_secs(30), read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_the_values_of_their_pages() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 5)]).await;
    service.wait_settled().await;
    let values = stream_until(endpoints, "/live/shops/moscow", "\"structure\"").await;
    let page = endpoints.get_page("/shops/moscow", "en").await.text();
    for id in [
        "moscow-state",
        "moscow-skus",
        "sending-state",
        "effect",
        "class-equal",
        "quarantined",
    ] {
        assert!(
            values.contains(&format!("\"{id}\":")),
            "{id} is not in\n{values}"
        );
        assert!(
            page.contains(&format!("id=\"{id}\"")),
            "{id} is not in\n{page}"
        );
    }
    let mark = page
        .split("data-structure=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        values.contains(&format!("\"structure\":\"{mark}\"")),
        "{mark}\n{values}"
    );
    stream_until(endpoints, "/live/shops/moscow/sku?sku=A", "\"clock\"").await;
}

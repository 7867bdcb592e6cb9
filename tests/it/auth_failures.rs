//! Delays and alarms after wrong tokens, keys and passwords.

use crate::harness::{TestService, TestShop};
use crate::program::ProcessFixture;
use crate::wire::{RawConnection, request, send};

const JSON_TYPE: (&str, &str) = ("Content-Type", "application/json");

/// Wrong ones that go without a delay.
const FREE_ATTEMPTS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_push_tokens_are_delayed_right_ones_are_not() {
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    endpoints.feed(shop, &[("A", 5)]).await;
    for n in 0..FREE_ATTEMPTS + 2 {
        let wrong = format!("wrong-{n}");
        assert_eq!(
            endpoints
                .query_stock_with_token(shop, &wrong, 569_667, &["A"])
                .await
                .status,
            403
        );
    }
    // The next wrong one waits; meanwhile the right one is answered, from the same address.
    let wrong = endpoints.query_stock_with_token(shop, "wrong", 569_667, &["A"]);
    tokio::pin!(wrong);
    let right = async {
        for _ in 0..20 {
            assert_eq!(
                endpoints.query_stock(shop, 569_667, &["A"]).await.status,
                200
            );
        }
    };
    tokio::select! {
        biased;
        answer = &mut wrong => panic!("not delayed: {}", answer.status),
        () = right => {}
    }
    let response = wrong.await;
    assert_eq!(response.status, 403);
    assert_eq!(response.json()["error"]["code"], "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_feed_keys_wait_and_the_right_one_passes_them() {
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    let (endpoints, shop) = (service.endpoints(), service.shop());
    let guesser = |n: usize| shop.clone().secret("FEED_KEY", &format!("wrong-{n}"));
    for n in 0..FREE_ATTEMPTS + 2 {
        assert_eq!(endpoints.put(&guesser(n), b"{}").await.status, 401);
    }
    let guesser = guesser(FREE_ATTEMPTS + 2);
    let wrong = endpoints.put(&guesser, b"{}");
    tokio::pin!(wrong);
    tokio::select! {
        biased;
        answer = &mut wrong => panic!("not delayed: {}", answer.status),
        () = endpoints.feed(shop, &[("A", 5)]) => {}
    }
    assert_eq!(wrong.await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_token_are_no_guesses() {
    let service = TestService::start(&[TestShop::moscow().set("migrate = \"off\"")]).await;
    for _ in 0..FREE_ATTEMPTS * 3 {
        let response = send(
            service.endpoints().public,
            "POST",
            "/moscow/stocks",
            &[JSON_TYPE],
            b"{}",
        )
        .await;
        assert_eq!(response.status, 403);
    }
    assert!(
        service
            .endpoints()
            .metrics()
            .await
            .contains("auth_failures_total{credential=\"push_token\"} 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_are_one_log_line_and_an_alarm() {
    const GUESSES: usize = 120;
    let shop = TestShop::moscow()
        .set("migrate = \"off\"")
        .secret("SOURCES_ERP_PASSWORD", "right-password")
        .set("[[shops.sources]]\nname = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"");
    let fixture = ProcessFixture::for_shops(std::slice::from_ref(&shop), "").await;
    let process = fixture.serve();
    let mut lines = Vec::new();
    for n in 0..GUESSES {
        // A session that never was is a guess too. No guesser waits for the answer.
        let cookie = format!("stockbridge_1c={n}");
        let guess = request(
            "GET",
            "/1c?type=catalog&mode=init",
            &[("Cookie", &cookie)],
            b"",
        );
        let mut connection = RawConnection::connect(process.endpoints.public).await;
        connection.write(&guess).await;
        lines.push(connection);
    }
    let is_alarm = |status: &serde_json::Value| {
        let alarms = status["alarms"].as_array().unwrap();
        alarms
            .iter()
            .any(|alarm| alarm["alarm"] == "auth_failures" && alarm["about"] == "1C exchange /1c")
    };
    process
        .endpoints
        .wait_for_status("the alarm is raised", is_alarm)
        .await;
    // The password itself is never delayed.
    // `1c:right-password`.
    let login = [("Authorization", "Basic MWM6cmlnaHQtcGFzc3dvcmQ=")];
    let target = "/1c?type=catalog&mode=checkauth";
    assert_eq!(
        send(process.endpoints.public, "GET", target, &login, b"")
            .await
            .status,
        200
    );
    drop(lines);
    let mut process = process;
    process.kill();
    let log = process.full_log();
    let log_lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("wrong 1C login"))
        .collect();
    let logged = log_lines
        .iter()
        .filter(|line| line.contains("\"WARN\""))
        .count();
    assert_eq!(logged, 1, "{log_lines:#?}");
}

//! Wrong tokens, keys and passwords from somebody who guesses.

use crate::harness::{House, Shop};
use crate::program::Place;
use crate::wire::{Line, request, send};

const TYPE: (&str, &str) = ("Content-Type", "application/json");

/// Wrong ones that go without a delay.
const FREE: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_push_tokens_wait_and_the_right_one_passes_them() {
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    doors.feed(shop, &[("A", 5)]).await;
    for n in 0..FREE + 2 {
        let wrong = format!("wrong-{n}");
        assert_eq!(
            doors.ask_with(shop, &wrong, 569_667, &["A"]).await.status,
            403
        );
    }
    // The next wrong one waits; meanwhile the right one is answered, from the same address.
    let wrong = doors.ask_with(shop, "wrong", 569_667, &["A"]);
    tokio::pin!(wrong);
    let right = async {
        for _ in 0..20 {
            assert_eq!(doors.ask(shop, 569_667, &["A"]).await.status, 200);
        }
    };
    tokio::select! {
        biased;
        answer = &mut wrong => panic!("not delayed: {}", answer.status),
        () = right => {}
    }
    let answer = wrong.await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["error"]["code"], "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_feed_keys_wait_and_the_right_one_passes_them() {
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    let (doors, shop) = (house.doors(), house.shop());
    let guesser = |n: usize| shop.clone().secret("FEED_KEY", &format!("wrong-{n}"));
    for n in 0..FREE + 2 {
        assert_eq!(doors.put(&guesser(n), b"{}").await.status, 401);
    }
    let guesser = guesser(FREE + 2);
    let wrong = doors.put(&guesser, b"{}");
    tokio::pin!(wrong);
    tokio::select! {
        biased;
        answer = &mut wrong => panic!("not delayed: {}", answer.status),
        () = doors.feed(shop, &[("A", 5)]) => {}
    }
    assert_eq!(wrong.await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_token_are_no_guesses() {
    let house = House::with(&[Shop::moscow().set("migrate = \"off\"")]).await;
    for _ in 0..FREE * 3 {
        let answer = send(
            house.doors().public,
            "POST",
            "/moscow/stocks",
            &[TYPE],
            b"{}",
        )
        .await;
        assert_eq!(answer.status, 403);
    }
    assert!(
        house
            .doors()
            .metrics()
            .await
            .contains("auth_failures_total{credential=\"push_token\"} 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_are_one_log_line_and_an_alarm() {
    const GUESSES: usize = 120;
    let shop = Shop::moscow()
        .set("migrate = \"off\"")
        .secret("SOURCES_ERP_PASSWORD", "right-password")
        .set("[[shops.sources]]\nname = \"erp\"\nkind = \"1c\"\npath = \"/1c\"\nlogin = \"1c\"");
    let place = Place::for_shops(std::slice::from_ref(&shop), "").await;
    let served = place.serve();
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
        let mut line = Line::to(served.doors.public).await;
        line.say(&guess).await;
        lines.push(line);
    }
    let is_alarm = |status: &serde_json::Value| {
        let alarms = status["alarms"].as_array().unwrap();
        alarms
            .iter()
            .any(|alarm| alarm["alarm"] == "auth_failures" && alarm["about"] == "1C exchange /1c")
    };
    served.doors.until("the alarm is raised", is_alarm).await;
    // The password itself is never delayed.
    // `1c:right-password`.
    let login = [("Authorization", "Basic MWM6cmlnaHQtcGFzc3dvcmQ=")];
    let target = "/1c?type=catalog&mode=checkauth";
    assert_eq!(
        send(served.doors.public, "GET", target, &login, b"")
            .await
            .status,
        200
    );
    drop(lines);
    let mut served = served;
    served.kill();
    let log = served.whole_log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("wrong 1C login"))
        .collect();
    let logged = told.iter().filter(|line| line.contains("\"WARN\"")).count();
    assert_eq!(logged, 1, "{told:#?}");
}

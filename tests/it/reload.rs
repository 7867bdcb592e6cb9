//! Reload of the configuration while the program runs, by the endpoint and by SIGHUP.

use serde_json::{Value, json};

use crate::harness::TestShop;
use crate::program::{ProcessFixture, ServiceProcess};
use crate::wire::send;

/// A running program whose secrets, list and source are files beside its configuration.
struct ReloadFixture {
    process: ProcessFixture,
    service: ServiceProcess,
    shop: TestShop,
}

impl ReloadFixture {
    async fn start() -> Self {
        let shop = TestShop::moscow().set(
            "push_token_file = \"push\"\nfeed_key_file = \"feed\"\napi_key_file = \"api\"\noverrides_file = \"rules.csv\"\n\
             [[shops.sources]]\nname = \"erp\"\nkind = \"file\"\npath = \"erp.csv\"\nevery_seconds = 1",
        );
        let mut process = ProcessFixture::for_shops(std::slice::from_ref(&shop), "").await;
        process
            .variables
            .retain(|(name, _)| !name.ends_with("_TOKEN") && !name.ends_with("_KEY"));
        let write = |name: &str, text: &str| {
            std::fs::write(process.directory.path().join(name), text).unwrap();
        };
        write("push", shop.push_token());
        write("feed", shop.feed_key());
        write("api", "api-moscow");
        write("rules.csv", "sku;buffer\nB;1\n");
        write("erp.csv", "sku;quantity\nA;7\nB;7\n");
        let service = process.serve();
        let fixture = Self {
            process,
            service,
            shop,
        };
        fixture.wait_for_counts(&[("A", 7), ("B", 6)]).await;
        fixture
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.process.directory.path().join(name), text).unwrap();
    }

    fn edit_config(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(self.process.file()).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(self.process.file(), text.replace(old, new)).unwrap();
    }

    async fn reload(&self) -> (u16, Value) {
        let endpoints = self.service.endpoints;
        endpoints.ops_request("POST", "/reload", "").await
    }

    async fn wait_for_counts(&self, expected: &[(&str, u64)]) {
        let skus: Vec<&str> = expected.iter().map(|(sku, _)| *sku).collect();
        let endpoints = self.service.endpoints;
        endpoints
            .wait_for_status("the sources are read", |status| {
                status["shops"][0]["skus"] == skus.len()
            })
            .await;
        let counts = endpoints.counts(&self.shop, &skus).await;
        let counts: Vec<_> = counts.iter().map(|(sku, n)| (sku.as_str(), *n)).collect();
        assert_eq!(counts, expected);
    }

    async fn status_with_token(&self, token: &str) -> u16 {
        let endpoints = self.service.endpoints;
        let response = endpoints.query_stock_with_token(&self.shop, token, 569_667, &["A"]);
        response.await.status
    }

    async fn status_with_feed_key(&self, key: &str) -> u16 {
        let address = self.service.endpoints.public;
        let headers = [("Api-Key", key)];
        send(address, "GET", "/campaigns", &headers, b"")
            .await
            .status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_secrets_and_lists_are_used_without_a_restart() {
    let fixture = ReloadFixture::start().await;
    fixture.write("push", "a-new-push-token");
    fixture.write("feed", "a-new-feed-key");
    fixture.write("rules.csv", "sku;buffer\nA;3\n");
    let (status, report) = fixture.reload().await;
    assert_eq!(status, 200, "{report}");
    let applied = json!([
        "shops.moscow.feed_key",
        "shops.moscow.overrides_file",
        "shops.moscow.push_token"
    ]);
    assert_eq!(report, json!({ "applied": applied, "needs_restart": [] }));
    let endpoints = fixture.service.endpoints;
    let event = endpoints.wait_for_event("config_reloaded", 0).await;
    assert_eq!(
        event["applied"],
        "shops.moscow.feed_key, shops.moscow.overrides_file, shops.moscow.push_token"
    );
    assert_eq!(event["needs_restart"], "");
    assert_eq!(fixture.status_with_token("a-new-push-token").await, 200);
    assert_eq!(
        fixture.status_with_token(fixture.shop.push_token()).await,
        403
    );
    assert_eq!(fixture.status_with_feed_key("a-new-feed-key").await, 200);
    assert_eq!(
        fixture.status_with_feed_key(fixture.shop.feed_key()).await,
        401
    );
    fixture.write("push", fixture.shop.push_token());
    assert_eq!(fixture.reload().await.0, 200);
    fixture.wait_for_counts(&[("A", 4), ("B", 7)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_api_key_ends_the_pause_of_a_rejected_one() {
    let fixture = ReloadFixture::start().await;
    let endpoints = fixture.service.endpoints;
    let sends = |state: &'static str, waiting: usize| {
        move |status: &Value| {
            let migrator = &status["shops"][0]["migrator"];
            migrator["state"] == state && migrator["waiting_skus"] == waiting
        }
    };
    let settled = endpoints.wait_for_status("all is sent", sends("idle", 0));
    settled.await;
    fixture.write("api", "not-a-key-of-the-market");
    assert_eq!(fixture.reload().await.0, 200);
    fixture.write("rules.csv", "sku;buffer\nB;2\n");
    assert_eq!(fixture.reload().await.0, 200);
    let paused = endpoints.wait_for_status("the Market rejects the key", sends("paused", 1));
    paused.await;
    fixture.write("api", "second-api-moscow");
    let (_, report) = fixture.reload().await;
    assert_eq!(report["applied"], json!(["shops.moscow.api_key"]));
    let settled = endpoints.wait_for_status("the rest is sent", sends("idle", 0));
    settled.await;
    assert_eq!(endpoints.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_configuration_raises_an_alarm() {
    let fixture = ReloadFixture::start().await;
    let endpoints = fixture.service.endpoints;
    fixture.write("push", "a-new-push-token");
    fixture.edit_config("every_seconds = 1", "every_seconds = 0");
    let (status, error) = fixture.reload().await;
    assert_eq!(status, 409, "{error}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("every_seconds is 0: it must be"),
        "{message}"
    );
    let rejected = [("config_rejected".to_owned(), String::new())];
    assert_eq!(endpoints.alarms().await, rejected);
    assert_eq!(
        fixture.status_with_token(fixture.shop.push_token()).await,
        200
    );
    // Corrected, and with one setting that needs a restart.
    fixture.edit_config("every_seconds = 0", "every_seconds = 2\nguard_zeros = 0.1");
    let (status, report) = fixture.reload().await;
    assert_eq!(status, 200, "{report}");
    assert_eq!(
        report,
        json!({
            "applied": ["shops.moscow.push_token", "shops.moscow.sources.erp.guard_zeros"],
            "needs_restart": ["shops.moscow.sources.erp.every_seconds"],
        })
    );
    assert_eq!(endpoints.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_back_settings_are_not_applied() {
    let fixture = ReloadFixture::start().await;
    let buffer = json!(["shops.moscow.sources.erp.buffer"]);
    fixture.edit_config("every_seconds = 1", "every_seconds = 1\nbuffer = 2");
    let (_, report) = fixture.reload().await;
    assert_eq!(report, json!({ "applied": buffer, "needs_restart": [] }));
    fixture.wait_for_counts(&[("A", 5), ("B", 4)]).await;
    // The buffer of the start, but another file, which needs a restart and holds the buffer back.
    let path = json!(["shops.moscow.sources.erp.path"]);
    fixture.edit_config("\"erp.csv\"", "\"other.csv\"");
    for (old, new, waiting) in [
        ("buffer = 2\n", "", &path),
        (
            "every_seconds = 1",
            "every_seconds = 1\nbuffer = 3",
            &json!([buffer[0], path[0]]),
        ),
        ("buffer = 3\n", "", &path),
    ] {
        fixture.edit_config(old, new);
        let (_, report) = fixture.reload().await;
        assert_eq!(report, json!({ "applied": [], "needs_restart": waiting }));
        fixture.wait_for_counts(&[("A", 5), ("B", 4)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_empty_the_shop_are_held() {
    let fixture = ReloadFixture::start().await;
    let endpoints = fixture.service.endpoints;
    fixture.write("rules.csv", "sku;buffer\nA;9\nB;9\n");
    assert_eq!(fixture.reload().await.0, 200);
    let held = [("source_held".to_owned(), "moscow/rules".to_owned())];
    assert_eq!(endpoints.alarms().await, held);
    fixture.wait_for_counts(&[("A", 7), ("B", 6)]).await;
    fixture.write("rules.csv", "sku;buffer\nB;1\n");
    assert_eq!(fixture.reload().await.0, 200);
    assert_eq!(endpoints.alarms().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_place_of_its_file_is_not_shown() {
    let fixture = ReloadFixture::start().await;
    fixture.edit_config("\"push\"", "\"y0_canary-of-a-secret\"");
    let (status, error) = fixture.reload().await;
    assert_eq!(status, 409, "{error}");
    let alarms = fixture.service.endpoints.status().await["alarms"].to_string();
    for text in [error.to_string(), alarms] {
        assert!(text.contains("push_token"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reloads() {
    let fixture = ReloadFixture::start().await;
    fixture.write("rules.csv", "sku;buffer\nA;3\n");
    fixture.edit_config("every_seconds = 1", "every_seconds = 0");
    fixture.service.signal("-HUP");
    let endpoints = fixture.service.endpoints;
    endpoints
        .wait_for_status("the fault is an alarm", |status| {
            status["alarms"][0]["alarm"] == "config_rejected"
        })
        .await;
    fixture.edit_config("every_seconds = 0", "every_seconds = 1");
    fixture.service.signal("-HUP");
    endpoints
        .wait_for_status("the alarm ends", |status| {
            status["alarms"].as_array().unwrap().is_empty()
        })
        .await;
    fixture.wait_for_counts(&[("A", 4), ("B", 7)]).await;
}

//! What two replicas show of each other: settings that differ, and a pause.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::postgres_store::new_database;
use super::server::DatabaseServer;
use super::service_process::{Market, Service, ServiceConfig, wait_until};

/// Changes the first `old` in the configuration.
fn replace(config: &ServiceConfig, old: &str, new: &str) {
    let path = config.directory().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{text}");
    std::fs::write(path, text.replacen(old, new, 1)).unwrap();
}

/// Returns the parts in which a replica has other settings, as another one shows them.
fn differing(service: &Service, other: &str) -> Value {
    let (_, status) = service.ops("GET", "/status");
    let mut replicas = status["replicas"].as_array().unwrap().iter();
    let other = replicas.find(|replica| replica["name"] == other);
    other.map_or(Value::Null, |it| {
        assert_eq!(it["release"], env!("CARGO_PKG_VERSION"));
        assert_eq!(it.get("settings"), None, "digests are not shown");
        it.get("differing_settings").cloned().unwrap_or(json!([]))
    })
}

async fn wait_for_difference(service: &Service, other: &str, parts: &[&str]) {
    wait_until("the replica shows which settings differ", async || {
        differing(service, other) == json!(parts)
    })
    .await;
}

fn doctor(config: &ServiceConfig) -> String {
    let output = block_in_place(|| config.command_of("doctor").output().unwrap());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_name_settings_that_differ() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "settings").await;
    let config = |name: &str| ServiceConfig::new(&market, &url, &format!("replica = {name:?}"));
    let (first, second) = (config("one"), config("two"));
    let shop = "name = \"moscow\"\n";
    replace(
        &second,
        shop,
        "name = \"moscow\"\nbuffer = 3\nunknown_sku = \"zero\"\n",
    );
    second.add("empty = \"zero\"\n");
    let (one, mut two) = (first.serve(), second.serve());
    let parts = ["shop:moscow", "source:moscow/erp"];
    wait_for_difference(&one, "two", &parts).await;
    wait_for_difference(&two, "one", &parts).await;
    assert_eq!(differing(&one, "one"), json!([]));
    assert!(
        !one.has_alarm("replicas_differ"),
        "it may be a rolling restart"
    );
    let page = one.ops_text("/");
    let note = "Replica two has other settings than this one (shop:moscow, source:moscow/erp)";
    assert!(page.contains(note), "{page}");
    let report = doctor(&first);
    let finding = "replica two has other settings than this configuration: shop:moscow, \
                   source:moscow/erp";
    assert!(report.contains(finding), "{report}");

    // A reload applies only a part, so what is in use still differs.
    replace(&second, "buffer = 3\nunknown_sku = \"zero\"\n", "");
    replace(&second, "empty = \"zero\"\n", "");
    let (code, reload) = two.ops("POST", "/reload");
    assert_eq!(
        (code, &reload["applied"]),
        (200, &json!(["shops.moscow.buffer"]))
    );
    let report = doctor(&second);
    let finding = "the running replica two does not use the settings of this file: shop:moscow, \
                   source:moscow/erp";
    wait_until("doctor compares what is in use", async || {
        doctor(&second).contains(finding)
    })
    .await;
    assert!(
        !report.contains("replica one has other settings"),
        "{report}"
    );
    wait_for_difference(&one, "two", &parts).await;
    two.signal("-TERM");
    two.wait_for_exit().await;
    let two = second.serve();
    wait_for_difference(&one, "two", &[]).await;
    wait_for_difference(&two, "one", &[]).await;
    let finding = "replicas that have the settings of this configuration: one, two";
    let report = doctor(&first);
    assert!(report.contains(finding), "{report}");

    // A reload of a live setting is seen by the other one, and is undone by the next.
    replace(&first, shop, "name = \"moscow\"\nbuffer = 3\n");
    assert_eq!(one.ops("POST", "/reload").0, 200);
    wait_for_difference(&two, "one", &["shop:moscow"]).await;
    wait_for_difference(&one, "two", &["shop:moscow"]).await;
    replace(&first, "buffer = 3\n", "");
    assert_eq!(one.ops("POST", "/reload").0, 200);
    wait_for_difference(&two, "one", &[]).await;
}

/// Requires that a replica shows on its page, in its metrics and in its status whether the shop is
/// paused, and by whom.
async fn wait_for_pause(service: &Service, through: Option<&str>) {
    let is_paused = through.is_some();
    wait_until("the replica shows the pause", async || {
        let (_, status) = service.ops("GET", "/status");
        let worker = &status["shops"][0]["migrator"];
        let state = (
            worker["state"] == "paused",
            worker["paused_since"].is_string(),
        );
        let shown = worker["paused_through"].as_str();
        state == (is_paused, is_paused) && shown == through
    })
    .await;
    let metric = format!(
        "stockbridge_sending_paused{{shop=\"moscow\"}} {}.0",
        u8::from(is_paused)
    );
    let metrics = service.ops_text("/metrics");
    assert!(metrics.contains(&metric), "{metrics}");
    let page = service.ops_text("/shops/moscow");
    let text = format!("through replica {}", through.unwrap_or_default());
    assert_eq!(page.contains(&text), is_paused, "{page}");
    let overview = service.ops_text("/");
    assert_eq!(
        overview.contains("sending is paused by the operator"),
        is_paused
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_shows_a_pause() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "pause").await;
    let config = |name: &str| ServiceConfig::new(&market, &url, &format!("replica = {name:?}"));
    let (first, second) = (config("one"), config("two"));
    let one = first.serve();
    assert_eq!(one.put(&[("A", 1)]), 200);
    wait_until("the Market has the stock", async || {
        market.counts(&["A"]) == [Some(1)]
    })
    .await;
    let mut two = second.serve();
    assert!(one.sends() && !two.sends());
    // The other one is neither the one that sends nor the one that was asked.
    assert_eq!(one.ops("POST", "/pause?shop=moscow").0, 200);
    for service in [&one, &two] {
        wait_for_pause(service, Some("one")).await;
    }
    // So does one that is started later.
    two.signal("-TERM");
    two.wait_for_exit().await;
    let two = second.serve();
    wait_for_pause(&two, Some("one")).await;
    // A repeated pause changes nothing.
    assert_eq!(two.ops("POST", "/pause?shop=moscow").0, 200);
    assert_eq!(two.ops("POST", "/resume?shop=moscow").0, 200);
    for service in [&one, &two] {
        wait_for_pause(service, None).await;
    }
    assert_eq!(two.ops("POST", "/pause?shop=moscow").0, 200);
    for service in [&one, &two] {
        wait_for_pause(service, Some("two")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_knows_what_another_replica_did() {
    let (server, market) = (DatabaseServer::postgresql(), Market::start().await);
    let url = new_database(&server, "pauses").await;
    let config = |name: &str| ServiceConfig::new(&market, &url, &format!("replica = {name:?}"));
    let (first, second) = (config("one"), config("two"));
    let (one, two) = (first.serve(), second.serve());
    assert_eq!(one.put(&[("A", 1)]), 200);
    wait_until("the Market has the stock", async || {
        market.counts(&["A"]) == [Some(1)]
    })
    .await;
    let pause = |service: &Service| {
        let (code, shops) = service.ops("POST", "/pause?shop=moscow");
        assert_eq!(code, 200, "{shops}");
        let since = shops[0]["paused_since"].as_str().unwrap();
        since.parse::<DateTime<Utc>>().unwrap()
    };
    let began = pause(&one);
    for service in [&one, &two] {
        wait_for_pause(service, Some("one")).await;
    }
    // The other one has not read the notes between these two requests, and still shows the pause.
    assert_eq!(one.ops("POST", "/resume?shop=moscow").0, 200);
    let again = pause(&two);
    assert!(again > began, "{again} {began}");
    for service in [&one, &two] {
        wait_for_pause(service, Some("two")).await;
    }
    // It does not know yet of a pause either, which a repeated one keeps.
    assert_eq!(one.ops("POST", "/resume?shop=moscow").0, 200);
    let began = pause(&one);
    assert_eq!(pause(&two), began);
    for service in [&one, &two] {
        wait_for_pause(service, Some("one")).await;
    }
}

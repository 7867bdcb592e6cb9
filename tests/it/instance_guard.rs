//! A store is one installation's: its copy elsewhere must not send.

use std::path::Path;

use crate::harness::{Endpoints, TestService, TestShop, configuration, is_settled, shop_status};
use crate::program::{ProcessFixture, ServiceProcess, program, run_with_ops};

const CAMPAIGN: u64 = 12_345;

fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Another configuration beside the first: its own name, the other store.
fn write_config(fixture: &ProcessFixture, shop: &TestShop, instance: &str) -> std::path::PathBuf {
    let (text, _) = configuration(&fixture.market_url, std::slice::from_ref(shop));
    let text = text.replace("store = \"store\"", "store = \"copy\"");
    let file = fixture.directory.path().join(format!("{instance}.toml"));
    std::fs::write(&file, format!("instance = \"{instance}\"\n{text}")).unwrap();
    file
}

fn serve_config(fixture: &ProcessFixture, file: &Path, extra_args: &[&str]) -> ServiceProcess {
    let mut command = program();
    command
        .arg("serve")
        .arg("--config")
        .arg(file)
        .args(extra_args)
        .envs(fixture.variables.iter().cloned());
    ServiceProcess::start(&mut command)
}

async fn assert_held(endpoints: Endpoints, owner: &str) {
    let status = endpoints.status().await;
    let reason = status["held"]
        .as_str()
        .unwrap_or_else(|| panic!("{status:#}"));
    assert!(reason.contains(owner), "{reason}");
    assert_eq!(
        endpoints.alarms().await,
        [("clone_guard".to_owned(), String::new())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_store_sends_nothing_until_adopted() {
    let shop = TestShop::moscow();
    let fixture =
        ProcessFixture::for_shops(std::slice::from_ref(&shop), "instance = \"one\"\n").await;
    let settled = |status: &serde_json::Value| is_settled(status, &shop);
    let mut process = fixture.serve();
    process.endpoints.feed(&shop, &[("A", 1)]).await;
    process
        .endpoints
        .wait_for_status("it is sent", settled)
        .await;
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let at = |name: &str| fixture.directory.path().join(name);
    copy_directory(&at("store"), &at("copy"));

    let (requests, hidden_offer_calls) = (
        fixture.market.report().updates,
        fixture.market.report().other_calls,
    );
    let (one, two) = (
        write_config(&fixture, &shop, "one"),
        write_config(&fixture, &shop, "two"),
    );
    let mut process = serve_config(&fixture, &two, &[]);
    let endpoints = process.endpoints;
    assert_held(
        endpoints,
        "belongs to installation 'one', but this is installation 'two'",
    )
    .await;
    assert_eq!(endpoints.counts(&shop, &["A"]).await, [("A".to_owned(), 1)]);
    endpoints.feed(&shop, &[("A", 2), ("B", 3)]).await;
    assert_eq!(endpoints.counts(&shop, &["A"]).await, [("A".to_owned(), 2)]);
    let (code, stdout, _) = run_with_ops(endpoints, &["ready"]);
    assert_eq!(code, Some(1));
    assert!(
        stdout.contains("NOT YET  the store belongs to installation 'one'"),
        "{stdout}"
    );
    for words in [
        vec!["verify"],
        vec!["selftest", "--shop", "moscow", "--sku", "A", "--yes"],
    ] {
        let (code, _, stderr) = run_with_ops(endpoints, &words);
        assert_eq!(code, Some(1));
        assert!(
            stderr.contains("migrate is off, or the store belongs to another installation"),
            "{stderr}"
        );
    }
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let report = fixture.market.report();
    assert_eq!(
        (report.updates, report.other_calls, report.readbacks),
        (requests, hidden_offer_calls, 0)
    );

    let mut process = serve_config(&fixture, &two, &["--adopt"]);
    let status = process
        .endpoints
        .wait_for_status("the rest is sent", settled)
        .await;
    assert!(status["held"].is_null(), "{status:#}");
    assert_eq!(process.endpoints.alarms().await, []);
    assert_eq!(fixture.market.get(CAMPAIGN, "A").unwrap().count, 2);
    assert_eq!(fixture.market.get(CAMPAIGN, "B").unwrap().count, 3);
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));

    // It is the other's for good: the first one is held on it, the second free again.
    let requests = fixture.market.report().updates;
    let mut process = serve_config(&fixture, &one, &[]);
    assert_held(
        process.endpoints,
        "belongs to installation 'two', but this is installation 'one'",
    )
    .await;
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let process = serve_config(&fixture, &two, &[]);
    process.endpoints.feed(&shop, &[("A", 4)]).await;
    process.endpoints.wait_for_status("it sends", settled).await;
    assert_eq!(fixture.market.report().updates, requests + 1);
    fixture.market_tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_installation_owns_the_store() {
    let shops = [TestShop::moscow()];
    let mut service = TestService::start(&shops).await;
    service.endpoints().feed(&shops[0], &[("A", 1)]).await;
    for instance in ["one", "one"] {
        service
            .restart_with_config(&shops, &format!("instance = \"{instance}\"\n"))
            .await;
        assert!(service.endpoints().status().await["held"].is_null());
        assert_eq!(service.endpoints().alarms().await, []);
    }
    service.endpoints().feed(&shops[0], &[("A", 2)]).await;
    service
        .restart_with_config(&shops, "instance = \"two\"\n")
        .await;
    assert_held(service.endpoints(), "'one'").await;
    assert!(shop_status(&service.endpoints().status().await, &shops[0])["migrator"].is_null());
    // The original has lost none of the updates in between.
    service.endpoints().feed(&shops[0], &[("A", 3)]).await;
    service.allow_unsent(&shops[0], "it is held");
    service
        .restart_with_config(&shops, "instance = \"one\"\n")
        .await;
    let settled = |status: &serde_json::Value| is_settled(status, &shops[0]);
    service
        .endpoints()
        .wait_for_status("it is sent", settled)
        .await;
    assert_eq!(service.market.get(CAMPAIGN, "A").unwrap().count, 3);
}

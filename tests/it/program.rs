//! The program as a process: exit codes, signals, `kill -9`, and secrets in its output.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::{CrashSignal, Tasks};
use market_sim::{MarketSimulator, compare};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::harness::{
    Endpoints, ListedStock, TestService, TestShop, configuration, is_settled, market_for,
    shop_status, update,
};
use crate::process::ProgramProcess;
pub(crate) use crate::process::program;
use crate::wire::{RawConnection, request, send};

/// Maximum time for a test's condition.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs an operator's command against a running service.
pub(crate) fn run_with_ops(endpoints: Endpoints, args: &[&str]) -> (Option<i32>, String, String) {
    run(program()
        .args(args)
        .arg("--ops")
        .arg(endpoints.ops.to_string()))
}

pub(crate) fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = block_in_place(|| command.output().unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A configuration in a directory, and a Market for it in this process.
pub(crate) struct ProcessFixture {
    pub(crate) directory: TempDir,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) market: MarketSimulator,
    pub(crate) market_url: String,
    pub(crate) market_tasks: Tasks,
}

impl ProcessFixture {
    pub(crate) async fn for_shops(shops: &[TestShop], extra_settings: &str) -> Self {
        Self::with_market(market_for(shops), shops, extra_settings).await
    }

    /// The same with this Market.
    pub(crate) async fn with_market(
        market: MarketSimulator,
        shops: &[TestShop],
        extra_settings: &str,
    ) -> Self {
        let market_tasks = Tasks::new(CrashSignal::default());
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let address = market.start(any, &market_tasks).await.unwrap();
        let market_url = format!("http://{address}");
        let (text, variables) = configuration(&market_url, shops);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("stockbridge.toml"),
            format!("{extra_settings}{text}"),
        )
        .unwrap();
        Self {
            directory,
            variables,
            market,
            market_url,
            market_tasks,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("stockbridge.toml")
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program();
        command
            .arg(name)
            .arg("--config")
            .arg(self.file())
            .envs(self.variables.iter().cloned());
        command
    }

    pub(crate) fn serve(&self) -> ServiceProcess {
        ServiceProcess::start(&mut self.command("serve"))
    }
}

/// A running `serve`, killed at the latest when it is dropped.
pub(crate) struct ServiceProcess {
    process: ProgramProcess,
    pub(crate) endpoints: Endpoints,
}

impl ServiceProcess {
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = ProgramProcess::start(command);
        let endpoints = Endpoints {
            public: process.public,
            ops: process.ops,
        };
        Self { process, endpoints }
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// `kill -9`, which leaves no time for anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) async fn wait_for_exit(&mut self) -> ExitStatus {
        self.process.wait_for_exit().await
    }

    /// Everything it has logged, after its end.
    pub(crate) fn full_log(&self) -> String {
        self.process.full_log()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_names_the_first_one() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let (text, variables) = configuration("http://127.0.0.1:9", &service.shops);
    let file = service.directory.path().join("second.toml");
    std::fs::write(&file, text).unwrap();
    let mut second = program();
    second
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .envs(variables);
    let (code, _, stderr) = run(&mut second);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&std::process::id().to_string()), "{stderr}");
    // The first process still works.
    service.endpoints().feed(service.shop(), &[("A", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_what_is_in_force_and_no_secret() {
    let shop = TestShop::moscow()
        .secret("API_KEY_2", "second-api-moscow")
        .set("parallel = 3");
    let fixture = ProcessFixture::for_shops(&[shop], "").await;
    let (code, stdout, stderr) = run(&mut fixture.command("check"));
    assert_eq!(code, Some(0), "{stderr}");
    for line in [
        "parallel = 3\n",
        "unknown_sku = \"omit\"\n",
        "push_token = \"***\"\n",
    ] {
        assert!(stdout.contains(line), "{line}{stdout}");
    }
    assert!(stdout.contains("api_key_2 = \"***\"\n"), "{stdout}");
    for (_, secret) in &fixture.variables {
        assert!(!stdout.contains(secret.as_str()) && !stderr.contains(secret.as_str()));
    }
    assert!(
        !fixture.directory.path().join("store").exists(),
        "it does nothing else"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_exits_78_with_every_fault() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    let bad = "listen = \"nowhere\"\nlisten_on = 1\n[[shops]]\nname = \"moscow\"\n\
               warehouses = []\ncampaign = 0\napi_key = \"canary\"\n";
    std::fs::write(&file, bad).unwrap();
    let nowhere = directory.path().join("nowhere.toml");
    for name in ["check", "serve"] {
        let (code, stdout, stderr) = run(program().arg(name).arg("--config").arg(&file));
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        for fault in [
            "listen is \"nowhere\"",
            "listen_on is unknown",
            "shops[0].warehouses is []",
            "shops[0].campaign is 0",
            "shops[0].push_token_file is missing",
            "STOCKBRIDGE_SHOPS_MOSCOW_PUSH_TOKEN",
            "shops[0].feed_key_file is missing",
            "shops[0].api_key must not be in the configuration file",
        ] {
            assert!(stderr.contains(fault), "{fault} is not in\n{stderr}");
        }
        assert!(!stderr.contains("canary"), "{stderr}");
        let (code, _, stderr) = run(program().arg(name).arg("--config").arg(&nowhere));
        assert_eq!(code, Some(78), "{stderr}");
        assert!(stderr.contains("nowhere.toml"), "{stderr}");
    }
    std::fs::write(&file, "listen = \n").unwrap();
    let (code, _, stderr) = run(program().arg("check").arg("--config").arg(&file));
    assert_eq!(code, Some(78), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_reports_readiness_by_exit_code() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let check = |address: String| {
        let (code, stdout, _) = run(program().args(["healthcheck", "--ops", &address]));
        (code, stdout)
    };
    let (code, stdout) = check(service.endpoints().ops.to_string());
    assert_eq!(code, Some(0));
    // A shop without stock needs no restart of the service.
    assert!(
        stdout.contains("\"ready\":true") && stdout.contains("moscow"),
        "{stdout}"
    );
    // Something answers there, but not that it is ready.
    assert_eq!(check(service.endpoints().public.to_string()).0, Some(1));
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(check(free.to_string()).0, Some(1));
    assert_eq!(check("nonsense".to_owned()).0, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_request_and_exits_0() {
    let shop = TestShop::moscow();
    let fixture = ProcessFixture::for_shops(std::slice::from_ref(&shop), "").await;
    let mut process = fixture.serve();
    let headers = [("Api-Key", shop.feed_key())];
    let bytes = request(
        "PUT",
        &shop.path(),
        &headers,
        update(&[("A", 7)]).as_bytes(),
    );
    let (first, rest) = bytes.split_at(bytes.len() - 10);
    let mut connection = RawConnection::connect(process.endpoints.public).await;
    connection.write(first).await;
    process.signal("-TERM");
    process.endpoints.wait_for_stopping().await;
    connection.write(rest).await;
    let response = connection.read_response().await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(
        process.wait_for_exit().await.code(),
        Some(0),
        "{}",
        process.full_log()
    );
    let process = fixture.serve();
    assert_eq!(
        process.endpoints.counts(&shop, &["A"]).await,
        [("A".to_owned(), 7)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let shop = TestShop::moscow();
    let fixture = ProcessFixture::for_shops(std::slice::from_ref(&shop), "").await;
    let mut process = fixture.serve();
    // A request that will never be whole.
    let mut connection = RawConnection::connect(process.endpoints.public).await;
    connection
        .write(b"PUT /v2/campaigns/12345/offers/stocks HTTP/1.1\r\nHost: a\r\n")
        .await;
    process.signal("-TERM");
    process.endpoints.wait_for_stopping().await;
    process.signal("-INT");
    assert_eq!(process.wait_for_exit().await.code(), Some(1));
    assert!(process.full_log().contains("second signal"));
}

/// Updates of the test below: the counts that were sent and those that were acknowledged.
#[derive(Default)]
struct SentUpdates {
    acknowledged: BTreeMap<String, u32>,
    attempted: BTreeMap<String, u32>,
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_updates_survive_kill_9() {
    const LIVES: u32 = 4;
    let shop = TestShop::moscow();
    let fixture = ProcessFixture::for_shops(std::slice::from_ref(&shop), "").await;
    let updates = Arc::new(Mutex::new(SentUpdates::default()));
    for life in 1..=LIVES {
        let mut process = fixture.serve();
        assert_kept(
            &process.endpoints.all_stock(&shop, 100).await,
            &updates.lock().unwrap(),
            life,
        );
        let sellers = Tasks::new(CrashSignal::default());
        for seller in 0..3 {
            sellers.spawn_short_lived(feed_until_closed(
                process.endpoints,
                shop.clone(),
                seller,
                life,
                Arc::clone(&updates),
            ));
        }
        // The kill comes after this many acknowledgements, at an arbitrary moment.
        let deadline = Instant::now() + TIMEOUT;
        let enough = usize::try_from(life).unwrap() * 120;
        while updates.lock().unwrap().acknowledged.len() < enough {
            assert!(Instant::now() < deadline, "the service does not respond");
            sleep(Duration::from_millis(1)).await;
        }
        process.kill();
        sellers.stop();
        sellers.ended().await;
    }
    let process = fixture.serve();
    let all = process.endpoints.all_stock(&shop, 100).await;
    assert_kept(&all, &updates.lock().unwrap(), LIVES + 1);
    process
        .endpoints
        .wait_for_status("the market has it all", |status| is_settled(status, &shop))
        .await;
    let expected = all.iter().map(|(sku, (count, _))| (sku.as_str(), *count));
    let comparison = compare(expected, &fixture.market.snapshot(shop.campaign));
    assert!(comparison.is_equal(), "{comparison:?}");
    let report = fixture.market.report();
    assert_eq!(
        report.total_violations(),
        0,
        "{:?}",
        report.violation_examples
    );
    fixture.market_tasks.stop();
}

/// Updates its own SKUs, new and known ones, with growing counts, until the service is gone.
async fn feed_until_closed(
    endpoints: Endpoints,
    shop: TestShop,
    seller: u32,
    life: u32,
    updates: Arc<Mutex<SentUpdates>>,
) {
    for round in 0_u32.. {
        let count = life * 100_000 + round;
        let fresh = (0..10).map(|n| format!("{seller}-{life}-{round}-{n}"));
        let skus: Vec<String> = fresh.chain([format!("{seller}-often")]).collect();
        let stock: Vec<(&str, u32)> = skus.iter().map(|sku| (sku.as_str(), count)).collect();
        for (sku, count) in &stock {
            updates
                .lock()
                .unwrap()
                .attempted
                .insert((*sku).to_owned(), *count);
        }
        if !is_accepted(endpoints, &shop, update(&stock).as_bytes()).await {
            return;
        }
        for (sku, count) in &stock {
            updates
                .lock()
                .unwrap()
                .acknowledged
                .insert((*sku).to_owned(), *count);
        }
    }
}

/// Returns true if an update got 200. The service may die in between.
async fn is_accepted(endpoints: Endpoints, shop: &TestShop, body: &[u8]) -> bool {
    let bytes = request("PUT", &shop.path(), &[("Api-Key", shop.feed_key())], body);
    let Some(mut connection) = RawConnection::try_connect(endpoints.public).await else {
        return false;
    };
    connection.try_write(&bytes).await
        && connection
            .read_response()
            .await
            .is_ok_and(|response| response.status == 200)
}

fn assert_kept(all: &ListedStock, updates: &SentUpdates, life: u32) {
    for (sku, count) in &updates.acknowledged {
        let known = all.get(sku).map(|(count, _)| *count);
        let last_attempted = updates.attempted[sku];
        let is_kept = known.is_some_and(|known| (*count..=last_attempted).contains(&known));
        assert!(
            is_kept,
            "life {life}: {sku} is {known:?}, {count} was acknowledged"
        );
    }
    for sku in all.keys() {
        assert!(updates.attempted.contains_key(sku), "{sku} was never sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let shops = [
        TestShop::moscow()
            .secret("PUSH_TOKEN", "canary-push+1")
            .secret("PUSH_TOKEN_2", "canary-push-2")
            .secret("FEED_KEY", "canary-feed-1")
            .secret("FEED_KEY_2", "canary-feed-2")
            .secret("API_KEY", "api-moscow")
            .secret("API_KEY_2", "second-api-moscow"),
        TestShop::new("omsk", 2, 22).secret("API_KEY", "canary-api-unknown"),
    ];
    let fixture = ProcessFixture::for_shops(&shops, "log_filter = \"trace\"\n").await;
    fixture.market.revoke_key("api-moscow");
    let mut process = fixture.serve();
    let mut output = send_all_requests(process.endpoints, &shops).await;
    let is_sent = |status: &Value| is_settled(status, &shops[0]);
    process
        .endpoints
        .wait_for_status("moscow is sent by the second key", is_sent)
        .await;
    let is_paused =
        |status: &Value| shop_status(status, &shops[1])["migrator"]["state"] == "paused";
    let status = process
        .endpoints
        .wait_for_status("omsk's key is refused", is_paused)
        .await;
    output.push_str(&status.to_string());
    output.push_str(&process.endpoints.metrics().await);
    output.push_str(&run_all_commands(&fixture, process.endpoints).await);
    process.signal("-TERM");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let log = process.full_log();
    assert!(
        log.lines().count() > 50,
        "the log is not at trace level:\n{log}"
    );
    assert!(log.contains("/moscow/stocks"), "requests are logged");
    for secret in ["canary", "api-moscow"] {
        let matching: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(
            matching.is_empty(),
            "the log tells {secret}:\n{}",
            matching.join("\n")
        );
        assert!(
            !output.contains(secret),
            "an answer tells {secret}:\n{output}"
        );
    }
}

/// Runs every command, and returns all that was printed.
async fn run_all_commands(fixture: &ProcessFixture, endpoints: Endpoints) -> String {
    let mut output = String::new();
    let mut record = |name: &str, expected: i32, command: &mut Command| {
        let (code, stdout, stderr) = run(command);
        assert_eq!(code, Some(expected), "{name}: {stdout}{stderr}");
        output.push_str(&stdout);
        output.push_str(&stderr);
    };
    for (expected, words) in [
        // One shop's key is refused, so nothing is well as a whole.
        (0, "verify --shop moscow"),
        (1, "verify --shop omsk --json"),
        (0, "explain A"),
        (0, "explain A --json"),
        (1, "ready"),
        (1, "ready --json"),
        (0, "selftest --shop moscow --sku A --yes"),
        (1, "selftest --shop omsk --sku A --yes"),
        (0, "healthcheck"),
    ] {
        let mut command = program();
        let command = command
            .args(words.split(' '))
            .arg("--ops")
            .arg(endpoints.ops.to_string());
        record(words, expected, command);
    }
    record("check", 0, &mut fixture.command("check"));
    record("doctor", 1, &mut fixture.command("doctor"));
    record("doctor", 1, fixture.command("doctor").arg("--json"));
    for (key, expected) in [("second-api-moscow", 0), ("canary-api-unknown", 1)] {
        let file = fixture.directory.path().join("key");
        std::fs::write(&file, key).unwrap();
        let mut command = program();
        command.args([
            "discover",
            "--market-url",
            &fixture.market_url,
            "--api-key-file",
        ]);
        record("discover", expected, command.arg(file));
    }
    for path in ["/selftest", "/ready-report", "/status"] {
        output.push_str(&endpoints.ops_request("GET", path, "").await.1.to_string());
    }
    output
}

/// Calls everything with secrets in every slot, good ones and wrong ones, and returns all that
/// was answered.
#[expect(clippy::too_many_lines, reason = "one list of requests")]
async fn send_all_requests(endpoints: Endpoints, shops: &[TestShop]) -> String {
    let mut output = String::new();
    let stocks_request = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let feed = update(&[("A", 1)]);
    let feed = feed.as_bytes();
    for (method, target, headers, body) in [
        (
            "POST",
            "/moscow/stocks?auth-token=canary-push+1",
            vec![],
            stocks_request,
        ),
        (
            "POST",
            "/moscow/stocks?auth-token=canary-push%2B1",
            vec![],
            stocks_request,
        ),
        (
            "POST",
            "/moscow/stocks?auth-token=canary-push-2",
            vec![],
            b"{".as_slice(),
        ),
        (
            "POST",
            "/moscow/stocks?auth-token=canary-wrong",
            vec![],
            stocks_request,
        ),
        (
            "GET",
            "/moscow/stocks?auth-token=canary-push-2",
            vec![],
            b"",
        ),
        (
            "POST",
            "/nowhere?auth-token=canary-push-2",
            vec![],
            stocks_request,
        ),
        (
            "POST",
            "/moscow/stocks",
            vec![("Authorization", "canary-push+1")],
            stocks_request,
        ),
        (
            "POST",
            "/moscow/stocks",
            vec![("authorization", "canary-wrong")],
            stocks_request,
        ),
        (
            "PUT",
            "/v2/campaigns/12345/offers/stocks",
            vec![("Api-Key", "canary-feed-1")],
            feed,
        ),
        (
            "PUT",
            "/v2/campaigns/12345/offers/stocks",
            vec![("api-key", "canary-wrong")],
            feed,
        ),
        (
            "PUT",
            "/v2/campaigns/2/offers/stocks",
            vec![("API-KEY", "canary-feed-1")],
            feed,
        ),
        (
            "PUT",
            "/v2/campaigns/12345/offers/stocks",
            vec![("Authorization", "Bearer canary-feed-2")],
            b"[]",
        ),
        (
            "POST",
            "/v2/campaigns/12345/offers/stocks",
            vec![("Api-Key", "canary-feed-2")],
            b"{}",
        ),
        (
            "PATCH",
            "/campaigns/12345/offers/stocks",
            vec![("Api-Key", "canary-feed-2")],
            b"",
        ),
    ] {
        let response = send(endpoints.public, method, target, &headers, body).await;
        output.push_str(&format!("{response:?}{}\n", response.text()));
    }
    // Heads the listener itself refuses.
    for head in [
        "POST /moscow/stocks?auth-token=canary-push-2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: canary\x01\r\n\r\n",
        "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization canary-push-2\r\n\r\n",
    ] {
        let mut connection = RawConnection::connect(endpoints.public).await;
        connection.write(head.as_bytes()).await;
        output.push_str(&connection.read_response().await.unwrap().text());
    }
    endpoints.feed(&shops[1], &[("A", 1)]).await;
    output
}

#[test]
fn wrong_usage_exits_2() {
    let Output { status, stderr, .. } = program().output().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(String::from_utf8(stderr).unwrap().contains("serve"));
}

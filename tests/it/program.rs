//! The program as a process: exit codes, signals, sudden death, and what it never tells.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use stockbridge::lifecycle::{Fuse, Tasks};
use stockbridge::rehearsal::{Market, compare};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::harness::{
    Doors, Everything, House, Shop, configuration, is_settled, market, of, update,
};
use crate::wire::{Line, request, send};

/// How long a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockbridge"));
    // A developer's own settings are none of the test's.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STOCKBRIDGE_")) {
        command.env_remove(name);
    }
    command
}

/// A question of the operator's to a running service.
pub(crate) fn ask(doors: Doors, words: &[&str]) -> (Option<i32>, String, String) {
    run(program()
        .args(words)
        .arg("--ops")
        .arg(doors.ops.to_string()))
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
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) market: Market,
    pub(crate) market_url: String,
    pub(crate) across_the_street: Tasks,
}

impl Place {
    pub(crate) async fn for_shops(shops: &[Shop], more: &str) -> Self {
        Self::beside(market(shops), shops, more).await
    }

    /// The same with this Market.
    pub(crate) async fn beside(market: Market, shops: &[Shop], more: &str) -> Self {
        let across_the_street = Tasks::new(Fuse::default());
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let address = market.start(any, &across_the_street).await.unwrap();
        let market_url = format!("http://{address}");
        let (text, variables) = configuration(&market_url, shops);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("stockbridge.toml"),
            format!("{more}{text}"),
        )
        .unwrap();
        Self {
            directory,
            variables,
            market,
            market_url,
            across_the_street,
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

    pub(crate) fn serve(&self) -> Served {
        Served::start(&mut self.command("serve"))
    }
}

/// A running `serve`, killed at the latest when it is dropped.
pub(crate) struct Served {
    process: Child,
    pub(crate) doors: Doors,
    log: Arc<Mutex<String>>,
    // Disconnected when the process has closed its standard error.
    told: Receiver<Doors>,
}

impl Served {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(doors) = doors_in(&line) {
                    // The test may have had enough.
                    let _heard = tell.send(doors);
                }
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let doors = block_in_place(|| told.recv_timeout(PATIENCE));
        let doors = doors.unwrap_or_else(|e| panic!("{e}: {}", log.lock().unwrap()));
        Self {
            process,
            doors,
            log,
            told,
        }
    }

    pub(crate) fn tell(&self, signal: &str) {
        let told = Command::new("kill")
            .arg(signal)
            .arg(self.process.id().to_string())
            .status();
        assert!(told.unwrap().success());
    }

    /// `kill -9`, which leaves no time for anything.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        block_in_place(|| self.process.wait()).unwrap();
    }

    /// Waits for the end; polled, because std has no wait with a deadline.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.log.lock().unwrap()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything it has logged, after its end.
    pub(crate) fn whole_log(&self) -> String {
        // Until the other end is gone.
        block_in_place(|| while self.told.recv().is_ok() {});
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// The addresses in the line that says that it serves.
fn doors_in(line: &str) -> Option<Doors> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| line[key].as_str()?.parse().ok();
    Some(Doors {
        public: address("listen")?,
        ops: address("ops")?,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused_and_told_by_whom() {
    let house = House::with(&[Shop::moscow()]).await;
    let (text, variables) = configuration("http://127.0.0.1:9", &house.shops);
    let file = house.directory.path().join("second.toml");
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
    // And the first one is none the worse for it.
    house.doors().feed(house.shop(), &[("A", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_what_is_in_force_and_no_secret() {
    let shop = Shop::moscow()
        .secret("API_KEY_2", "second-api-moscow")
        .set("parallel = 3");
    let place = Place::for_shops(&[shop], "").await;
    let (code, stdout, stderr) = run(&mut place.command("check"));
    assert_eq!(code, Some(0), "{stderr}");
    for line in [
        "parallel = 3\n",
        "unknown_sku = \"omit\"\n",
        "push_token = \"***\"\n",
    ] {
        assert!(stdout.contains(line), "{line}{stdout}");
    }
    assert!(stdout.contains("api_key_2 = \"***\"\n"), "{stdout}");
    for (_, secret) in &place.variables {
        assert!(!stdout.contains(secret.as_str()) && !stderr.contains(secret.as_str()));
    }
    assert!(
        !place.directory.path().join("store").exists(),
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
            "shops[0].api_key stands in the file in clear",
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
async fn healthcheck_says_by_its_exit_code_whether_we_are_ready() {
    let house = House::with(&[Shop::moscow()]).await;
    let check = |address: String| {
        let (code, stdout, _) = run(program().args(["healthcheck", "--ops", &address]));
        (code, stdout)
    };
    let (code, stdout) = check(house.doors().ops.to_string());
    assert_eq!(code, Some(0));
    // A shop without stock is no reason to be restarted.
    assert!(
        stdout.contains("\"ready\":true") && stdout.contains("moscow"),
        "{stdout}"
    );
    // Something answers there, but not that it is ready.
    assert_eq!(check(house.doors().public.to_string()).0, Some(1));
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(check(free.to_string()).0, Some(1));
    assert_eq!(check("nonsense".to_owned()).0, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_the_middle_of_a_request_finishes_it_and_exits_0() {
    let shop = Shop::moscow();
    let place = Place::for_shops(std::slice::from_ref(&shop), "").await;
    let mut served = place.serve();
    let headers = [("Api-Key", shop.feed_key())];
    let bytes = request(
        "PUT",
        &shop.path(),
        &headers,
        update(&[("A", 7)]).as_bytes(),
    );
    let (first, rest) = bytes.split_at(bytes.len() - 10);
    let mut line = Line::to(served.doors.public).await;
    line.say(first).await;
    served.tell("-TERM");
    served.doors.until_stopping().await;
    line.say(rest).await;
    let answer = line.hear().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        served.ended().await.code(),
        Some(0),
        "{}",
        served.whole_log()
    );
    let served = place.serve();
    assert_eq!(
        served.doors.counts(&shop, &["A"]).await,
        [("A".to_owned(), 7)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let shop = Shop::moscow();
    let place = Place::for_shops(std::slice::from_ref(&shop), "").await;
    let mut served = place.serve();
    // A request that will never be whole.
    let mut line = Line::to(served.doors.public).await;
    line.say(b"PUT /v2/campaigns/12345/offers/stocks HTTP/1.1\r\nHost: a\r\n")
        .await;
    served.tell("-TERM");
    served.doors.until_stopping().await;
    served.tell("-INT");
    assert_eq!(served.ended().await.code(), Some(1));
    assert!(served.whole_log().contains("second signal"));
}

/// What the seller said in the test below, and what of it was acknowledged.
#[derive(Default)]
struct Said {
    acknowledged: BTreeMap<String, u32>,
    attempted: BTreeMap<String, u32>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_survives_kill_9_and_reaches_the_market() {
    const LIVES: u32 = 4;
    let shop = Shop::moscow();
    let place = Place::for_shops(std::slice::from_ref(&shop), "").await;
    let said = Arc::new(Mutex::new(Said::default()));
    for life in 1..=LIVES {
        let mut served = place.serve();
        check(
            &served.doors.everything(&shop, 100).await,
            &said.lock().unwrap(),
            life,
        );
        let sellers = Tasks::new(Fuse::default());
        for seller in 0..3 {
            sellers.spawn_brief(sell(
                served.doors,
                shop.clone(),
                seller,
                life,
                Arc::clone(&said),
            ));
        }
        // So many acknowledgements, and then at whatever moment that is.
        let deadline = Instant::now() + PATIENCE;
        let enough = usize::try_from(life).unwrap() * 120;
        while said.lock().unwrap().acknowledged.len() < enough {
            assert!(Instant::now() < deadline, "nobody is served");
            sleep(Duration::from_millis(1)).await;
        }
        served.kill();
        sellers.stop();
        sellers.ended().await;
    }
    let served = place.serve();
    let all = served.doors.everything(&shop, 100).await;
    check(&all, &said.lock().unwrap(), LIVES + 1);
    served
        .doors
        .until("the market has it all", |status| is_settled(status, &shop))
        .await;
    let expected = all.iter().map(|(sku, (count, _))| (sku.as_str(), *count));
    let comparison = compare(expected, &place.market.snapshot(shop.campaign));
    assert!(comparison.is_equal(), "{comparison:?}");
    let report = place.market.report();
    assert_eq!(report.broken_in_all(), 0, "{:?}", report.examples);
    place.across_the_street.stop();
}

/// Feeds SKUs of its own, new and old ones, with counts that only grow, until nobody answers.
async fn sell(doors: Doors, shop: Shop, seller: u32, life: u32, said: Arc<Mutex<Said>>) {
    for round in 0_u32.. {
        let count = life * 100_000 + round;
        let fresh = (0..10).map(|n| format!("{seller}-{life}-{round}-{n}"));
        let skus: Vec<String> = fresh.chain([format!("{seller}-often")]).collect();
        let stock: Vec<(&str, u32)> = skus.iter().map(|sku| (sku.as_str(), count)).collect();
        for (sku, count) in &stock {
            said.lock()
                .unwrap()
                .attempted
                .insert((*sku).to_owned(), *count);
        }
        if !is_taken(doors, &shop, update(&stock).as_bytes()).await {
            return;
        }
        for (sku, count) in &stock {
            said.lock()
                .unwrap()
                .acknowledged
                .insert((*sku).to_owned(), *count);
        }
    }
}

/// Whether an update was answered 200. That the service dies meanwhile is expected.
async fn is_taken(doors: Doors, shop: &Shop, body: &[u8]) -> bool {
    let bytes = request("PUT", &shop.path(), &[("Api-Key", shop.feed_key())], body);
    let Some(mut line) = Line::try_to(doors.public).await else {
        return false;
    };
    line.try_say(&bytes).await && line.hear().await.is_ok_and(|answer| answer.status == 200)
}

fn check(all: &Everything, said: &Said, life: u32) {
    for (sku, count) in &said.acknowledged {
        let known = all.get(sku).map(|(count, _)| *count);
        let most = said.attempted[sku];
        let is_kept = known.is_some_and(|known| (*count..=most).contains(&known));
        assert!(
            is_kept,
            "life {life}: {sku} is {known:?}, {count} was acknowledged"
        );
    }
    for sku in all.keys() {
        assert!(
            said.attempted.contains_key(sku),
            "nobody ever spoke of {sku}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_told() {
    let shops = [
        Shop::moscow()
            .secret("PUSH_TOKEN", "canary-push+1")
            .secret("PUSH_TOKEN_2", "canary-push-2")
            .secret("FEED_KEY", "canary-feed-1")
            .secret("FEED_KEY_2", "canary-feed-2")
            .secret("API_KEY", "api-moscow")
            .secret("API_KEY_2", "second-api-moscow"),
        Shop::new("omsk", 2, 22).secret("API_KEY", "canary-api-unknown"),
    ];
    let place = Place::for_shops(&shops, "log_filter = \"trace\"\n").await;
    place.market.revoke_key("api-moscow");
    let mut served = place.serve();
    let mut told = exercise(served.doors, &shops).await;
    let settled = |status: &Value| is_settled(status, &shops[0]);
    served
        .doors
        .until("moscow is sent by the second key", settled)
        .await;
    let paused = |status: &Value| of(status, &shops[1])["migrator"]["state"] == "paused";
    let status = served.doors.until("omsk's key is refused", paused).await;
    told.push_str(&status.to_string());
    told.push_str(&served.doors.metrics().await);
    told.push_str(&operate(&place, served.doors).await);
    served.tell("-TERM");
    assert_eq!(served.ended().await.code(), Some(0));
    let log = served.whole_log();
    assert!(
        log.lines().count() > 50,
        "this is no log at trace level:\n{log}"
    );
    assert!(log.contains("/moscow/stocks"), "requests are logged");
    for secret in ["canary", "api-moscow"] {
        let of_log: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(
            of_log.is_empty(),
            "the log tells {secret}:\n{}",
            of_log.join("\n")
        );
        assert!(!told.contains(secret), "an answer tells {secret}:\n{told}");
    }
}

/// Runs every command, and returns all that was printed.
async fn operate(place: &Place, doors: Doors) -> String {
    let mut told = String::new();
    let mut hear = |name: &str, expected: i32, command: &mut Command| {
        let (code, stdout, stderr) = run(command);
        assert_eq!(code, Some(expected), "{name}: {stdout}{stderr}");
        told.push_str(&stdout);
        told.push_str(&stderr);
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
            .arg(doors.ops.to_string());
        hear(words, expected, command);
    }
    hear("check", 0, &mut place.command("check"));
    hear("doctor", 1, &mut place.command("doctor"));
    hear("doctor", 1, place.command("doctor").arg("--json"));
    for (key, expected) in [("second-api-moscow", 0), ("canary-api-unknown", 1)] {
        let file = place.directory.path().join("key");
        std::fs::write(&file, key).unwrap();
        let mut command = program();
        command.args([
            "discover",
            "--market-url",
            &place.market_url,
            "--api-key-file",
        ]);
        hear("discover", expected, command.arg(file));
    }
    for path in ["/selftest", "/ready-report", "/status"] {
        told.push_str(&doors.operator("GET", path, "").await.1.to_string());
    }
    told
}

/// Calls everything with secrets in every slot, good ones and wrong ones, and returns all that
/// was answered.
async fn exercise(doors: Doors, shops: &[Shop]) -> String {
    let mut told = String::new();
    let question = br#"{"warehouseId":569667,"skus":["A"]}"#.as_slice();
    let feed = update(&[("A", 1)]);
    let feed = feed.as_bytes();
    for (method, target, headers, body) in [
        (
            "POST",
            "/moscow/stocks?auth-token=canary-push+1",
            vec![],
            question,
        ),
        (
            "POST",
            "/moscow/stocks?auth-token=canary-push%2B1",
            vec![],
            question,
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
            question,
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
            question,
        ),
        (
            "POST",
            "/moscow/stocks",
            vec![("Authorization", "canary-push+1")],
            question,
        ),
        (
            "POST",
            "/moscow/stocks",
            vec![("authorization", "canary-wrong")],
            question,
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
        let answer = send(doors.public, method, target, &headers, body).await;
        told.push_str(&format!("{answer:?}{}\n", answer.text()));
    }
    // Heads the listener itself refuses.
    for head in [
        "POST /moscow/stocks?auth-token=canary-push-2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization: canary\x01\r\n\r\n",
        "POST /moscow/stocks HTTP/1.1\r\nHost: a\r\nAuthorization canary-push-2\r\n\r\n",
    ] {
        let mut line = Line::to(doors.public).await;
        line.say(head.as_bytes()).await;
        told.push_str(&line.hear().await.unwrap().text());
    }
    doors.feed(&shops[1], &[("A", 1)]).await;
    told
}

#[test]
fn usage_is_told_and_exits_2() {
    let Output { status, stderr, .. } = program().output().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(String::from_utf8(stderr).unwrap().contains("serve"));
}

//! The commands that set a shop up, as processes, against a Market that answers by a script.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use serde_json::{Value, json};
use stockbridge::http::{Limits, Server};
use stockbridge::lifecycle::{Fuse, Tasks};

use crate::harness::{House, Shop, configuration};
use crate::program::{program, run};

const KEY: &str = "canary-api";

/// What the Market answers to a path; anything else is 404, another key 401.
type Script = fn(&str) -> Option<String>;

fn start_market(script: Script, tasks: &Tasks) -> String {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(any, Limits::default()).unwrap();
    let address = server.local_addr().unwrap();
    let router = Router::new().fallback(async move |request: Request| {
        let no = |code: &str| json!({"status": "ERROR", "errors": [{"code": code}]}).to_string();
        let key = request.headers().get("Api-Key").map(|key| key.as_bytes());
        if key != Some(KEY.as_bytes()) {
            return (StatusCode::UNAUTHORIZED, no("UNAUTHORIZED"));
        }
        match script(request.uri().path()) {
            Some(body) => (StatusCode::OK, body),
            None => (StatusCode::NOT_FOUND, no("NOT_FOUND")),
        }
    });
    tasks.spawn("market", server.run(router, tasks.clone()));
    format!("http://{address}")
}

/// The cabinet in the fixtures.
fn sample(path: &str) -> Option<String> {
    let name = match path {
        "/v2/auth/token" => "auth-token",
        "/v2/campaigns" => "campaigns",
        "/v2/businesses/781000/warehouses" => "warehouses",
        "/v3/businesses/781000/warehouses" => "partner-warehouses",
        _ => return None,
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/partner");
    std::fs::read_to_string(folder.join(name).with_extension("json")).ok()
}

/// A cabinet with the harness's one shop, in a group.
fn moscow(path: &str) -> Option<String> {
    let answer = match path {
        "/v2/auth/token" => {
            json!({"result": {"apiKey": {"name": "t", "authScopes": ["ALL_METHODS"]}}})
        }
        "/v2/campaigns" => json!({"campaigns": [
            {"id": 12_345, "business": {"id": 5}, "placementType": "FBS",
             "apiAvailability": "AVAILABLE"}]}),
        "/v2/businesses/5/warehouses" => json!({"result": {"warehouses": [
            {"id": 569_667, "campaignId": 12_345, "groupInfo": {"id": 9, "name": "g"}}]}}),
        _ => return None,
    };
    Some(answer.to_string())
}

fn discover(directory: &Path, key: &str, url: &str) -> Command {
    std::fs::write(directory.join("api_key"), key).unwrap();
    let mut command = program();
    command.current_dir(directory).args(["discover", "--api-key-file", "api_key"]);
    command.args(["--market-url", url]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_discover_prints_is_taken_by_check() {
    let tasks = Tasks::new(Fuse::default());
    let url = start_market(sample, &tasks);
    let directory = tempfile::tempdir().unwrap();
    let mut command = discover(directory.path(), KEY, &url);
    let (code, stdout, stderr) = run(command.args(["21234571", "48123456"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for said in ["# 21234571 «Чайная лавка FBY» is a campaign id", "# 48123456 is nothing this key"]
    {
        assert!(stdout.contains(said), "{said} is not in\n{stdout}");
    }
    assert!(!stdout.contains(KEY), "{stdout}");
    let names = stdout.lines().filter_map(|line| line.strip_prefix("name = \""));
    for name in names.map(|name| name.trim_end_matches('"')) {
        for kind in ["push_token", "feed_key"] {
            std::fs::write(directory.path().join(format!("{name}.{kind}")), "secret").unwrap();
        }
    }
    let file = directory.path().join("stockbridge.toml");
    std::fs::write(&file, stdout).unwrap();
    let (code, printed, stderr) = run(program().arg("check").arg("--config").arg(&file));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(printed.contains(&format!("market_url = \"{url}\"")), "{printed}");
    assert!(printed.contains("campaign = 21234567\nfeed_campaigns = [21234568]\n"), "{printed}");
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_without_a_shop_fails_and_says_why() {
    let tasks = Tasks::new(Fuse::default());
    let url = start_market(sample, &tasks);
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&mut discover(directory.path(), "canary-wrong", &url));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("status 401") && !stderr.contains("canary"), "{stderr}");
    tasks.stop();
}

/// The configuration of a running house, with a few more settings at its top.
fn doctor(house: &House, market: &str, more: &str) -> Command {
    let shops: Vec<Shop> =
        house.shops.iter().map(|shop| shop.clone().secret("API_KEY", KEY)).collect();
    let (text, variables) = configuration(market, &shops);
    let ops = format!("ops_listen = \"{}\"", house.doors().ops);
    let text = text.replace("ops_listen = \"127.0.0.1:0\"", &ops);
    let file = house.directory.path().join("doctor.toml");
    std::fs::write(&file, format!("instance = \"it\"\n{more}{text}")).unwrap();
    let mut command = program();
    command.arg("doctor").arg("--config").arg(file).envs(variables);
    command
}

fn checks(report: &str, level: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap();
    let all = report["checks"].as_array().unwrap().iter();
    let those = all.filter(|check| check["level"] == level);
    those.map(|check| format!("{}: {}", check["about"], check["what"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_a_house_in_order_and_keeps_its_secrets() {
    let tasks = Tasks::new(Fuse::default());
    let url = start_market(moscow, &tasks);
    let house = House::with(&[Shop::moscow()]).await;
    house.doors().feed(house.shop(), &[("A", 1)]).await;
    house.doors().counts(house.shop(), &["A"]).await;
    let public = format!("public_url = \"http://{}\"\n", house.doors().public);
    let mut command = doctor(&house, &url, &public);
    let (code, lines, stderr) = run(&mut command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines}");
    let (_, report, _) = run(command.arg("--json"));
    assert!(!lines.contains("FAIL") && checks(&report, "FAIL").is_empty(), "{lines}{report}");
    let well = checks(&report, "OK").join("\n");
    for said in [
        "a service is running, pid",
        "12345 of the cabinet 5 is open",
        "as the Market lists them: 569667",
        "a wrong token is refused with 403",
        "the right token is answered",
        "it serves, and answers on",
    ] {
        assert!(well.contains(said), "{said} is not in\n{well}");
    }
    for secret in [KEY, "push-moscow", "feed-moscow"] {
        assert!(!lines.contains(secret) && !report.contains(secret), "{secret} is told");
    }
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_but_looks_at_everything() {
    let tasks = Tasks::new(Fuse::default());
    // Of another cabinet: nothing of the configuration is there.
    let url = start_market(sample, &tasks);
    let house = House::with(&[Shop::moscow()]).await;
    let elsewhere = format!("public_url = \"http://{}\"\n", house.doors().ops);
    let (code, report, stderr) = run(doctor(&house, &url, &elsewhere).arg("--json"));
    assert_eq!(code, Some(1), "{stderr}");
    let bad = checks(&report, "FAIL").join("\n");
    for said in ["does not see 12345", "a wrong token must be 403, and 404 came"] {
        assert!(bad.contains(said), "{said} is not in\n{bad}");
    }
    assert!(checks(&report, "WARN").iter().any(|line| line.contains("has no stock of it yet")));
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_on_a_bad_configuration_exits_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, "listen = 1\n").unwrap();
    let (code, stdout, _) = run(program().arg("doctor").arg("--config").arg(&file));
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
}

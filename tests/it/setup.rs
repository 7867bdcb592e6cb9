//! The commands that set a shop up, as processes, against a Market that answers by a script.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use market_sim::{Availability, CampaignConfig, MarketSimulator, SimKeyScope, SimulatorConfig};
use serde_json::{Value, json};
use strict_http::{HttpServer, ServerLimits};

use crate::harness::{TestService, TestShop, configuration, update};
use crate::program::{ServiceProcess, program, run};
use crate::wire::send;

const KEY: &str = "canary-api";

/// Responses of the Market by path. Other paths get 404, another key 401.
type ScriptedMarket = fn(&str) -> Option<String>;

fn start_market(responses: ScriptedMarket, tasks: &Tasks) -> String {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(any, ServerLimits::default()).unwrap();
    let address = server.local_addr().unwrap();
    let router = Router::new().fallback(async move |request: Request| {
        let error_body =
            |code: &str| json!({"status": "ERROR", "errors": [{"code": code}]}).to_string();
        let key = request.headers().get("Api-Key").map(|key| key.as_bytes());
        if key != Some(KEY.as_bytes()) {
            return (StatusCode::UNAUTHORIZED, error_body("UNAUTHORIZED"));
        }
        match responses(request.uri().path()) {
            Some(body) => (StatusCode::OK, body),
            None => (StatusCode::NOT_FOUND, error_body("NOT_FOUND")),
        }
    });
    tasks.spawn("market", server.run(router, tasks.clone()));
    format!("http://{address}")
}

/// The cabinet in the fixtures.
fn sample_account(path: &str) -> Option<String> {
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
fn moscow_account(path: &str) -> Option<String> {
    let response = match path {
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
    Some(response.to_string())
}

fn discover(directory: &Path, key: &str, url: &str) -> Command {
    std::fs::write(directory.join("api_key"), key).unwrap();
    let mut command = program();
    command
        .current_dir(directory)
        .args(["discover", "--api-key-file", "api_key"]);
    command.args(["--market-url", url]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn check_accepts_the_output_of_discover() {
    let tasks = Tasks::new(CrashSignal::default());
    let url = start_market(sample_account, &tasks);
    let directory = tempfile::tempdir().unwrap();
    let mut command = discover(directory.path(), KEY, &url);
    let (code, stdout, stderr) = run(command.args(["21234571", "48123456"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for expected_text in [
        "# 21234571 «Чайная лавка FBY» is a campaign id",
        "# 48123456 is unknown to this key",
    ] {
        assert!(
            stdout.contains(expected_text),
            "{expected_text} is not in\n{stdout}"
        );
    }
    assert!(!stdout.contains(KEY), "{stdout}");
    let names = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("name = \""));
    for name in names.map(|name| name.trim_end_matches('"')) {
        for kind in ["push_token", "feed_key"] {
            std::fs::write(directory.path().join(format!("{name}.{kind}")), "a-secret").unwrap();
        }
    }
    let file = directory.path().join("stockbridge.toml");
    std::fs::write(&file, stdout).unwrap();
    let (code, printed, stderr) = run(program().arg("check").arg("--config").arg(&file));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        printed.contains(&format!("market_url = \"{url}\"")),
        "{printed}"
    );
    assert!(
        printed.contains("campaign = 21234567\nfeed_campaigns = [21234568]\n"),
        "{printed}"
    );
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_without_a_shop_fails_and_says_why() {
    let tasks = Tasks::new(CrashSignal::default());
    let url = start_market(sample_account, &tasks);
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&mut discover(directory.path(), "canary-wrong", &url));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.contains("status 401") && !stderr.contains("canary"),
        "{stderr}"
    );
    tasks.stop();
}

/// The configuration of a running house, with a few more settings at its top.
fn doctor(service: &TestService, market: &str, extra_settings: &str) -> Command {
    let shops: Vec<TestShop> = service
        .shops
        .iter()
        .map(|shop| shop.clone().secret("API_KEY", KEY))
        .collect();
    let (text, variables) = configuration(market, &shops);
    let ops = format!("ops_listen = \"{}\"", service.endpoints().ops);
    let text = text.replace("ops_listen = \"127.0.0.1:0\"", &ops);
    let file = service.directory.path().join("doctor.toml");
    std::fs::write(&file, format!("instance = \"it\"\n{extra_settings}{text}")).unwrap();
    let mut command = program();
    command
        .arg("doctor")
        .arg("--config")
        .arg(file)
        .envs(variables);
    command
}

fn checks(report: &str, level: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap();
    let all = report["checks"].as_array().unwrap().iter();
    let matching = all.filter(|check| check["level"] == level);
    matching
        .map(|check| format!("{}: {}", check["about"], check["what"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_passes_and_prints_no_secrets() {
    let tasks = Tasks::new(CrashSignal::default());
    let url = start_market(moscow_account, &tasks);
    let service = TestService::start(&[TestShop::moscow()]).await;
    service.endpoints().feed(service.shop(), &[("A", 1)]).await;
    service.endpoints().counts(service.shop(), &["A"]).await;
    let public = format!("public_url = \"http://{}\"\n", service.endpoints().public);
    let mut command = doctor(&service, &url, &public);
    let (code, lines, stderr) = run(&mut command);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{lines}");
    let (_, report, _) = run(command.arg("--json"));
    assert!(
        !lines.contains("FAIL") && checks(&report, "FAIL").is_empty(),
        "{lines}{report}"
    );
    let well = checks(&report, "OK").join("\n");
    for expected_text in [
        "a service is running, pid",
        "12345 of the cabinet 5 is open",
        "equal to the Market's list: 569667",
        "a wrong token is rejected with 403",
        "the right token gets a valid response",
        "ready, on ops_listen",
    ] {
        assert!(
            well.contains(expected_text),
            "{expected_text} is not in\n{well}"
        );
    }
    for secret in [KEY, "push-moscow", "feed-moscow"] {
        assert!(
            !lines.contains(secret) && !report.contains(secret),
            "{secret} is printed"
        );
    }
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_fails_but_looks_at_everything() {
    let tasks = Tasks::new(CrashSignal::default());
    // Of another cabinet: nothing of the configuration is there.
    let url = start_market(sample_account, &tasks);
    let service = TestService::start(&[TestShop::moscow()]).await;
    let elsewhere = format!("public_url = \"http://{}\"\n", service.endpoints().ops);
    let (code, report, stderr) = run(doctor(&service, &url, &elsewhere).arg("--json"));
    assert_eq!(code, Some(1), "{stderr}");
    let bad = checks(&report, "FAIL").join("\n");
    for expected_text in [
        "does not see 12345",
        "expected 403 for a wrong token, got 404",
    ] {
        assert!(
            bad.contains(expected_text),
            "{expected_text} is not in\n{bad}"
        );
    }
    assert!(
        checks(&report, "WARN")
            .iter()
            .any(|line| line.contains("has no stock of this shop yet"))
    );
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

// === Against the Market of the rehearsals ===

async fn start_simulator(
    campaigns: Vec<CampaignConfig>,
    tasks: &Tasks,
) -> (MarketSimulator, String) {
    let weak_scopes = [SimKeyScope::OffersAndCardsManagementReadOnly];
    let config = SimulatorConfig {
        campaigns,
        ..SimulatorConfig::new(Clock::wall())
    };
    let market = MarketSimulator::new(config.with_key_scopes("weak", &weak_scopes));
    let address = market
        .start(SocketAddr::from(([127, 0, 0, 1], 0)), tasks)
        .await
        .unwrap();
    (market, format!("http://{address}"))
}

/// A cabinet with a group of warehouses, and one without groups.
fn two_accounts() -> Vec<CampaignConfig> {
    let campaign = |id, warehouse, business| {
        let keys = vec![KEY.to_owned(), "weak".to_owned()];
        CampaignConfig::new(id, warehouse, keys).in_business(business)
    };
    let closed = Availability::ManuallyDisabled;
    vec![
        campaign(101, 11, 5).in_group(9, "Склады"),
        campaign(102, 12, 5).in_group(9, "Склады"),
        campaign(201, 21, 6),
        campaign(202, 22, 6),
        CampaignConfig {
            availability: closed,
            ..campaign(203, 23, 6)
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_discover_is_served_unchanged() {
    let tasks = Tasks::new(CrashSignal::default());
    let (market, url) = start_simulator(two_accounts(), &tasks).await;
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&mut discover(directory.path(), KEY, &url));
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    for expected_text in [
        "# Campaign 203 «shop-203.example» is skipped: the API is disabled for it",
        "campaign = 101\nfeed_campaigns = [102]\nmethod = \"campaign\"\n",
        "campaign = 201\nmethod = \"business\"\nbusiness = 6\npartner_warehouses = [21]\n",
        "campaign = 202\nmethod = \"business\"\nbusiness = 6\npartner_warehouses = [22]\n",
    ] {
        assert!(
            stdout.contains(expected_text),
            "{expected_text} is not in\n{stdout}"
        );
    }
    let names = stdout
        .lines()
        .filter_map(|line| line.strip_prefix("name = \""));
    for name in names.map(|name| name.trim_end_matches('"')) {
        for kind in ["push_token", "feed_key"] {
            std::fs::write(directory.path().join(format!("{name}.{kind}")), "a-secret").unwrap();
        }
    }
    let file = directory.path().join("stockbridge.toml");
    std::fs::write(&file, &stdout).unwrap();
    let with_config = |name: &str| {
        let mut command = program();
        command.arg(name).arg("--config").arg(&file);
        command.env("STOCKBRIDGE_LISTEN", "127.0.0.1:0");
        command.env("STOCKBRIDGE_OPS_LISTEN", "127.0.0.1:0");
        command
    };
    let (code, _, stderr) = run(&mut with_config("check"));
    assert_eq!(code, Some(0), "{stderr}");
    let (_, report, _) = run(with_config("doctor").arg("--json"));
    let is_about_market = |line: &String| {
        ["method of", "campaign of", "warehouses of", "api_key of"]
            .iter()
            .any(|about| line.contains(about))
    };
    let bad: Vec<String> = ["FAIL", "WARN"]
        .iter()
        .flat_map(|level| checks(&report, level))
        .filter(is_about_market)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let good = checks(&report, "OK").join("\n");
    for expected_text in [
        "the cabinet 5 has groups",
        "the cabinet 6 has no groups",
        "equal to the Market's list: 11, 12",
    ] {
        assert!(
            good.contains(expected_text),
            "{expected_text} is not in\n{good}"
        );
    }

    let process = ServiceProcess::start(&mut with_config("serve"));
    let headers = [
        ("Api-Key", "a-secret"),
        ("Content-Type", "application/json"),
    ];
    for (campaign, count) in [(102, 1), (201, 2), (202, 3)] {
        let target = format!("/v2/campaigns/{campaign}/offers/stocks");
        let body = update(&[("A", count)]);
        let response = send(
            process.endpoints.public,
            "PUT",
            &target,
            &headers,
            body.as_bytes(),
        )
        .await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let all_sent = |status: &Value| {
        let shops = status["shops"].as_array().unwrap();
        shops.len() == 3 && shops.iter().all(|shop| shop["dirty"] == 0)
    };
    process
        .endpoints
        .wait_for_status("all is sent", all_sent)
        .await;
    // Through one campaign of the group, and each warehouse its own.
    let counts = [101, 201, 202].map(|campaign| market.get(campaign, "A").unwrap().count);
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(
        market.report().total_violations(),
        0,
        "{:?}",
        market.report().violation_examples
    );
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_says_what_a_weak_key_may_not() {
    let tasks = Tasks::new(CrashSignal::default());
    let (_, url) = start_simulator(two_accounts(), &tasks).await;
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(&mut discover(directory.path(), "weak", &url));
    assert_eq!(code, Some(1), "{stdout}");
    for expected_text in [
        "this key may not send stock. It has OFFERS_AND_CARDS_MANAGEMENT_READ_ONLY",
        "this key may not list warehouses",
        "no shop can be configured",
    ] {
        assert!(
            stderr.contains(expected_text),
            "{expected_text} is not in\n{stderr}"
        );
    }
    assert!(!stdout.contains("[[shops]]"), "{stdout}");
    tasks.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_the_faults_of_each_shop() {
    let tasks = Tasks::new(CrashSignal::default());
    let (_, url) = start_simulator(two_accounts(), &tasks).await;
    let with_key = |shop: TestShop| shop.secret("API_KEY", KEY);
    let shops = [
        with_key(TestShop::new("grouped", 101, 11))
            .with_warehouses(&[11, 12])
            .by_business(5),
        with_key(TestShop::new("wrong", 201, 21)).set("business = 5"),
        with_key(TestShop::new("closed", 203, 23)),
        with_key(TestShop::new("warehouse", 22, 99)),
        TestShop::new("weak", 202, 22).secret("API_KEY", "weak"),
    ];
    let (text, variables) = configuration(&url, &shops);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stockbridge.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = program();
    command
        .args(["doctor", "--json", "--config"])
        .arg(&file)
        .envs(variables);
    let (code, report, stderr) = run(&mut command);
    assert_eq!(code, Some(1), "{stderr}");
    let bad = checks(&report, "FAIL").join("\n");
    for expected_text in [
        "method of grouped\": \"business, but the cabinet 5 has warehouse groups",
        "campaign of wrong\": \"201 «shop-201.example» belongs to the cabinet 6, but business is 5",
        "campaign of closed\": \"203 «shop-203.example»: the API is disabled for it (MANUALLY_DISABLED)",
        "does not see 22, which is the id of a warehouse",
        "api_key of weak\": \"the token «rehearsal» may not send stock",
    ] {
        assert!(
            bad.contains(expected_text),
            "{expected_text} is not in\n{bad}"
        );
    }
    assert!(!report.contains(KEY) && !stderr.contains(KEY));
    tasks.stop();
}

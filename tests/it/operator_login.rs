//! The password of the operator's listener: who is served, and how a session begins and ends.

use crate::harness::TestShop;
use crate::program::{ProcessFixture, ServiceProcess, run_with_ops};
use crate::wire::{RawResponse, send};

const PASSWORD: &str = "a-long-password";
const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml");
const OUR_PAGE: (&str, &str) = ("Sec-Fetch-Site", "same-origin");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A service with a password, and the directory of its configuration, which has the file of the
/// password.
struct ProtectedService {
    process: ServiceProcess,
    fixture: ProcessFixture,
}

async fn start_service(extra_settings: &str) -> ProtectedService {
    let shops = [TestShop::moscow().set("migrate = \"off\"")];
    let settings = format!("ops_password_file = \"ops_password\"\n{extra_settings}");
    let fixture = ProcessFixture::for_shops(&shops, &settings).await;
    std::fs::write(fixture.directory.path().join("ops_password"), PASSWORD).unwrap();
    let process = fixture.serve();
    ProtectedService { process, fixture }
}

async fn request(
    service: &ProtectedService,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> RawResponse {
    let address = service.process.endpoints.ops;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let response = send(address, method, target, fields, body.as_bytes()).await;
        // The store is read first.
        if response.status != 503 || tokio::time::Instant::now() > deadline {
            return response;
        }
        tokio::task::yield_now().await;
    }
}

async fn log_in(service: &ProtectedService, body: &str, fields: &[(&str, &str)]) -> RawResponse {
    let fields = [&[FORM], fields].concat();
    request(service, "POST", "/login?next=%2Fevents", &fields, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_probes_is_served_without_login() {
    let service = start_service("").await;
    for target in ["/metrics", "/healthz", "/readyz", "/login"] {
        let response = request(&service, "GET", target, &[], "").await;
        assert_eq!(response.status, 200, "{target}");
    }
    for target in [
        "/status",
        "/",
        "/live/overview",
        "/sources",
        "/nothing-here",
    ] {
        let response = request(&service, "GET", target, &[], "").await;
        assert_eq!(response.status, 401, "{target}");
        let page = request(&service, "GET", target, &[BROWSER], "").await;
        assert_eq!(page.status, 303, "{target}");
        let location = page.header("location").unwrap();
        assert!(location.starts_with("/login?next=%2F"), "{location}");
    }
    let header = [("X-Stockbridge", "1")];
    let response = request(&service, "POST", "/verify", &header, "").await;
    assert_eq!(response.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_can_need_the_password_too() {
    let service = start_service("ops_protect_metrics = true\n").await;
    for target in ["/metrics", "/healthz"] {
        assert_eq!(request(&service, "GET", target, &[], "").await.status, 401);
        let bearer = format!("Bearer {PASSWORD}");
        let fields = [("Authorization", bearer.as_str())];
        assert_eq!(
            request(&service, "GET", target, &fields, "").await.status,
            200
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_serves_until_its_end() {
    let service = start_service("").await;
    let right = format!("password={PASSWORD}");
    assert_eq!(log_in(&service, &right, &[]).await.status, 403, "no origin");
    let foreign = [("Origin", "https://evil.example")];
    assert_eq!(log_in(&service, &right, &foreign).await.status, 403);
    let wrong = log_in(&service, "password=wrong", &[OUR_PAGE]).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, None));
    assert!(
        !wrong.text().contains("wrong\""),
        "the password is not repeated"
    );

    let response = log_in(&service, &right, &[OUR_PAGE]).await;
    assert_eq!(
        (response.status, response.header("location")),
        (303, Some("/events"))
    );
    let cookie = response.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    assert!(!cookie.contains("Secure"));
    let (session, _) = cookie.split_once(';').unwrap();
    let with_session = [BROWSER, ("Cookie", session)];
    let page = request(&service, "GET", "/", &with_session, "").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("action=\"/logout\""));

    let end = [OUR_PAGE, ("Cookie", session)];
    assert_eq!(
        request(&service, "POST", "/logout", &end, "").await.status,
        303
    );
    assert_eq!(
        request(&service, "GET", "/", &with_session, "")
            .await
            .status,
        303
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_secure_behind_tls() {
    let service = start_service("").await;
    let tls = [OUR_PAGE, ("X-Forwarded-Proto", "https")];
    let response = log_in(&service, &format!("password={PASSWORD}"), &tls).await;
    assert!(response.header("set-cookie").unwrap().contains("; Secure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_send_the_password() {
    let service = start_service("").await;
    let (code, _, stderr) = run_with_ops(service.process.endpoints, &["ready"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--ops-password-file"), "{stderr}");
    let path = service.fixture.directory.path().join("ops_password");
    let file = path.display().to_string();
    let args = ["ready", "--ops-password-file", &file];
    let (_, stdout, stderr) = run_with_ops(service.process.endpoints, &args);
    assert!(stdout.contains("NOT YET"), "{stdout}{stderr}");
    std::fs::write(&path, "another-password").unwrap();
    let (_, _, stderr) = run_with_ops(service.process.endpoints, &args);
    assert!(
        stderr.contains("wrong") && !stderr.contains("another-password"),
        "{stderr}"
    );
}

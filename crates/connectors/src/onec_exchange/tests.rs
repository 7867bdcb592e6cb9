//! Tests of the 1C exchange through its router: login, transfer, import, limits and restarts.

use std::io::{Cursor, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body_util::BodyExt;
use lifecycle::CrashSignal;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;
use tower::ServiceExt;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// `1c:secret`, and the same name with another password.
const VALID_LOGIN: (&str, &str) = ("authorization", "Basic MWM6c2VjcmV0");
const WRONG_LOGIN: (&str, &str) = ("authorization", "Basic MWM6U2VjcmV0");

/// Endpoint as 1C sees it, with the files it delivered and the credentials it refused.
struct TestSite {
    router: Router,
    tasks: Tasks,
    delivered: Arc<Mutex<Vec<(String, String)>>>,
    refused: Arc<Mutex<Vec<(String, String)>>>,
    spool: TempDir,
}

impl TestSite {
    fn new() -> Self {
        Self::with_delivery(10_000, |_| async { Ok(()) }.boxed())
    }

    /// Creates a site whose imports end as `check_text` returns.
    fn with_delivery(
        max_bytes: u64,
        check_text: impl Fn(&str) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&delivered);
        let deliver: DeliverUpload = Arc::new(move |upload: Upload| {
            let text = std::fs::read_to_string(&upload.path).unwrap();
            let result = check_text(&text);
            let recorded = Arc::clone(&recorded);
            async move {
                result.await?;
                recorded.lock().push((upload.name, text));
                Ok(ImportedFile {
                    message: format!("imported from {}", upload.source_index),
                })
            }
            .boxed()
        });
        let tasks = Tasks::new(CrashSignal::default());
        let clock = Clock::starting_at("2026-11-22T10:00:00Z".parse().unwrap());
        let refused = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&refused);
        let record_refused_login: RecordRefusedLogin = Arc::new(move |login: RefusedLogin| {
            recorded.lock().push((login.path, login.offered));
            async {}.boxed()
        });
        let context = Context {
            deliver,
            tasks: tasks.clone(),
            clock,
            record_refused_login,
        };
        let endpoint = ExchangeEndpoint {
            source_index: 7,
            name: "stock".to_owned(),
            config: Config {
                path: "/shop/1c_exchange.php".to_owned(),
                login: "1c".to_owned(),
                password: Secret::new("secret"),
                max_bytes,
            },
            spool: spool.path().to_owned(),
        };
        Self {
            router: router(&context, vec![endpoint]),
            tasks,
            delivered,
            refused,
            spool,
        }
    }

    async fn send_request(
        &self,
        method: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> (u16, String) {
        let uri = format!("/shop/1c_exchange.php?{query}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Logs in and returns the cookie that 1C then sends with each request.
    async fn log_in(&self) -> String {
        let (status, text) = self
            .send_request(
                "GET",
                "type=catalog&mode=checkauth",
                &[VALID_LOGIN],
                Body::empty(),
            )
            .await;
        let lines: Vec<_> = text.split('\n').collect();
        let ["success", name, value] = lines.as_slice() else {
            panic!("{status} {text}")
        };
        format!("{name}={value}")
    }

    /// Logs in and begins a transfer.
    async fn begin(&self) -> String {
        let cookie = self.log_in().await;
        assert_eq!(
            self.get(&cookie, "init").await,
            "zip=yes\nfile_limit=524288"
        );
        cookie
    }

    async fn get(&self, cookie: &str, mode: &str) -> String {
        let query = format!("type=catalog&mode={mode}");
        let (status, text) = self
            .send_request("GET", &query, &[("cookie", cookie)], Body::empty())
            .await;
        assert_eq!(status, 200, "{text}");
        text
    }

    async fn send(&self, cookie: &str, name: &str, body: impl Into<Body>) -> String {
        let query = format!("type=catalog&mode=file&filename={name}");
        let (status, text) = self
            .send_request("POST", &query, &[("cookie", cookie)], body.into())
            .await;
        assert_eq!(status, 200, "{text}");
        text
    }

    async fn import(&self, cookie: &str, name: &str) -> String {
        self.get(cookie, &format!("import&filename={name}")).await
    }

    fn delivered(&self) -> Vec<(String, String)> {
        self.delivered.lock().clone()
    }
}

fn named_text(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

fn zip_archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn imports_a_catalogue_sent_in_parts() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    assert_eq!(
        site.send(&cookie, "import.xml", "<goods/>").await,
        "success"
    );
    assert_eq!(
        site.send(&cookie, "offers.xml", "<offers>").await,
        "success"
    );
    assert_eq!(
        site.send(&cookie, "import_files/a/1.jpg", "\u{1}picture")
            .await,
        "success"
    );
    assert_eq!(
        site.send(&cookie, "offers.xml", "</offers>").await,
        "success"
    );
    assert_eq!(
        site.import(&cookie, "import.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    for mode in ["deactivate&timestamp=1", "complete", "query"] {
        assert_eq!(site.get(&cookie, mode).await, "success");
    }
    let delivered = [
        named_text("import.xml", "<goods/>"),
        named_text("offers.xml", "<offers></offers>"),
    ];
    assert_eq!(site.delivered(), delivered);
    assert!(!site.spool.path().join("transfer/import_files").exists());
}

#[tokio::test]
async fn imports_a_packed_catalogue() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    let archive = zip_archive(&[
        ("import0_1.xml", "<goods/>"),
        ("import_files/1.jpg", "picture"),
        ("rests\\0_1.xml", "<rests/>"),
    ]);
    for part in archive.chunks(100) {
        assert_eq!(
            site.send(&cookie, "v8_1A.zip", part.to_vec()).await,
            "success"
        );
    }
    for _ in 0..2 {
        assert_eq!(
            site.import(&cookie, "import0_1.xml").await,
            "success\nimported from 7"
        );
        assert_eq!(
            site.import(&cookie, "rests/0_1.xml").await,
            "success\nimported from 7"
        );
    }
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "failure\nthe file offers.xml was not sent"
    );
    let other = zip_archive(&[("import0_1.xml", "<more/>")]);
    assert_eq!(site.send(&cookie, "v8_1A.zip", other).await, "success");
    assert_eq!(
        site.import(&cookie, "import0_1.xml").await,
        "success\nimported from 7"
    );
    let delivered = site.delivered();
    assert_eq!(
        delivered.first(),
        Some(&named_text("import0_1.xml", "<goods/>"))
    );
    assert_eq!(
        delivered.get(1..),
        Some(
            [
                named_text("rests/0_1.xml", "<rests/>"),
                named_text("import0_1.xml", "<more/>")
            ]
            .as_slice()
        )
    );
}

#[tokio::test]
async fn rejects_wrong_credentials() {
    let site = TestSite::new();
    let checkauth = "type=catalog&mode=checkauth";
    let init = "type=catalog&mode=init";
    let wrong = (401, "failure\nlogin or password is wrong".to_owned());
    for headers in [
        &[][..],
        &[WRONG_LOGIN],
        &[("authorization", "Basic ?")],
        &[("authorization", "MWM6c2VjcmV0")],
    ] {
        assert_eq!(
            site.send_request("GET", checkauth, headers, Body::empty())
                .await,
            wrong
        );
        assert_eq!(
            site.send_request("GET", init, headers, Body::empty()).await,
            wrong
        );
    }
    let stale = (
        "cookie",
        "a=b; stockbridge_1c=00000000000000000000000000000000",
    );
    let ended = "failure\nthe session has ended, log in again: mode=checkauth".to_owned();
    assert_eq!(
        site.send_request("GET", init, &[stale], Body::empty())
            .await,
        (200, ended)
    );
    // A request without a login is not a guess.
    let refused = std::mem::take(&mut *site.refused.lock());
    let offered = [
        "1c:Secret\n",
        "1c:Secret\n",
        "\n00000000000000000000000000000000",
    ];
    let path = "/shop/1c_exchange.php".to_owned();
    assert_eq!(
        refused,
        offered.map(|offered| (path.clone(), offered.to_owned()))
    );
    assert_eq!(
        site.send_request("GET", init, &[stale, VALID_LOGIN], Body::empty())
            .await
            .0,
        200
    );
    let cookie = site.begin().await;
    let both = format!("other=1; {cookie}");
    assert!(site.get(&both, "init").await.starts_with("zip=yes"));
    assert_eq!(*site.refused.lock(), []);
}

#[tokio::test(start_paused = true)]
async fn sessions_end_after_a_day_without_use() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    tokio::time::advance(Duration::from_hours(23)).await;
    assert_eq!(site.get(&cookie, "success").await, "success");
    tokio::time::advance(Duration::from_hours(24)).await;
    assert!(
        site.get(&cookie, "success")
            .await
            .starts_with("failure\nthe session has ended")
    );
    let first = site.begin().await;
    for _ in 0..40 {
        tokio::time::advance(Duration::from_secs(1)).await;
        site.log_in().await;
    }
    assert!(
        site.get(&first, "success")
            .await
            .starts_with("failure\nthe session has ended")
    );
}

#[tokio::test]
async fn names_do_not_lead_out_of_the_spool() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    for name in [
        "../x.xml",
        "%2e%2e/x.xml",
        "..%5c..%5cx.xml",
        "a/../../x.xml",
        "",
        "x%00.xml",
    ] {
        let response = site.send(&cookie, name, "<x/>").await;
        assert!(
            response.starts_with("failure\nfilename is '"),
            "{name}: {response}"
        );
        assert!(
            site.import(&cookie, name)
                .await
                .starts_with("failure\nfilename is '")
        );
    }
    assert_eq!(site.send(&cookie, "/tmp/x.xml", "<x/>").await, "success");
    assert!(site.spool.path().join("transfer/x.xml").exists());
    let archive = zip_archive(&[("../../x.xml", "<x/>")]);
    assert_eq!(site.send(&cookie, "a.zip", archive).await, "success");
    assert!(
        site.import(&cookie, "x.xml")
            .await
            .starts_with("failure\nfilename is '../../x.xml'")
    );
    let query = "type=catalog&mode=file&filename=x.xml";
    let (_, response) = site
        .send_request("GET", query, &[("cookie", &cookie)], Body::empty())
        .await;
    assert_eq!(
        response,
        "failure\na file must be sent with the method POST"
    );
}

#[tokio::test]
async fn parts_count_once_and_only_if_complete() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<a>").await, "success");
    let chunks = [
        Ok(Bytes::from("<b")),
        Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
    ];
    let response = site
        .send(
            &cookie,
            "offers.xml",
            Body::from_stream(stream::iter(chunks)),
        )
        .await;
    assert!(
        response.starts_with("failure\nthe part did not arrive completely"),
        "{response}"
    );
    for _ in 0..2 {
        assert_eq!(site.send(&cookie, "offers.xml", "<b>").await, "success");
    }
    assert_eq!(site.send(&cookie, "prices.xml", "<b>").await, "success");
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(site.delivered(), [named_text("offers.xml", "<a><b>")]);
}

#[tokio::test]
async fn transfers_start_over_after_a_restart() {
    let before = TestSite::new();
    let cookie = before.begin().await;
    assert_eq!(before.send(&cookie, "offers.xml", "<half").await, "success");
    let after = TestSite::new();
    std::fs::create_dir_all(after.spool.path().join("transfer")).unwrap();
    std::fs::write(after.spool.path().join("transfer/offers.xml"), "<half").unwrap();
    assert!(
        after
            .send(&cookie, "offers.xml", ">")
            .await
            .contains("log in again")
    );
    let query = "type=catalog&mode=file&filename=offers.xml";
    let (_, response) = after
        .send_request(
            "POST",
            query,
            &[("cookie", &cookie), VALID_LOGIN],
            Body::from(">"),
        )
        .await;
    assert_eq!(
        response,
        "failure\nno transfer has begun, start with mode=init"
    );
    let cookie = after.begin().await;
    assert_eq!(
        after.send(&cookie, "offers.xml", "<whole/>").await,
        "success"
    );
    assert_eq!(
        after.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(after.delivered(), [named_text("offers.xml", "<whole/>")]);
}

#[tokio::test]
async fn a_new_exchange_replaces_the_earlier_one() {
    let site = TestSite::new();
    let first = site.begin().await;
    assert_eq!(site.send(&first, "offers.xml", "<first").await, "success");
    let second = site.begin().await;
    let response = site.send(&first, "offers.xml", "/>").await;
    assert_eq!(
        response,
        "failure\nanother exchange has begun in the meantime, start again with mode=init"
    );
    assert_eq!(
        site.send(&second, "offers.xml", "<second/>").await,
        "success"
    );
    assert_eq!(
        site.import(&second, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(site.delivered(), [named_text("offers.xml", "<second/>")]);
}

#[tokio::test]
async fn rejected_files_can_be_sent_again() {
    let site = TestSite::with_delivery(10_000, |text| {
        let result = if text == "<good/>" {
            Ok(())
        } else {
            Err("line 1 is bad".to_owned())
        };
        async { result }.boxed()
    });
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<bad").await, "success");
    for _ in 0..2 {
        assert_eq!(
            site.import(&cookie, "offers.xml").await,
            "failure\nline 1 is bad"
        );
    }
    assert_eq!(site.send(&cookie, "offers.xml", "<good/>").await, "success");
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(site.send(&cookie, "a.zip", "no archive").await, "success");
    let response = site.import(&cookie, "rests.xml").await;
    assert!(
        response.starts_with("failure\nthe archive a.zip cannot be unpacked"),
        "{response}"
    );
    assert_eq!(
        site.send(&cookie, "a.zip", zip_archive(&[("rests.xml", "<good/>")]))
            .await,
        "success"
    );
    assert_eq!(
        site.import(&cookie, "rests.xml").await,
        "success\nimported from 7"
    );
}

#[tokio::test]
async fn enforces_the_size_limits() {
    let site = TestSite::with_delivery(1_000, |_| async { Ok(()) }.boxed());
    let cookie = site.begin().await;
    assert_eq!(
        site.send(&cookie, "offers.xml", "x".repeat(900)).await,
        "success"
    );
    let response = site.send(&cookie, "offers.xml", "y".repeat(101)).await;
    assert_eq!(
        response,
        "failure\nthe part is too large, at most 100 bytes are accepted"
    );
    assert_eq!(
        site.send(&cookie, "offers.xml", "y".repeat(100)).await,
        "success"
    );
    let response = site.send(&cookie, "offers.xml", "z").await;
    assert_eq!(response, "failure\nthe transfer is larger than 1000 bytes");
    let cookie = site.begin().await;
    let bomb = zip_archive(&[("a.xml", &"0".repeat(6_000)), ("b.xml", &"0".repeat(6_000))]);
    assert_eq!(site.send(&cookie, "a.zip", bomb).await, "success");
    let response = site.import(&cookie, "a.xml").await;
    assert!(
        response.contains("unpack to more than 10000 bytes"),
        "{response}"
    );
}

#[tokio::test(start_paused = true)]
async fn slow_imports_report_progress_and_continue() {
    let done = Arc::new(Notify::new());
    let release = Arc::clone(&done);
    let site = TestSite::with_delivery(10_000, move |_| {
        let release = Arc::clone(&release);
        async move {
            release.notified().await;
            Ok(())
        }
        .boxed()
    });
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    for _ in 0..2 {
        assert_eq!(
            site.import(&cookie, "offers.xml").await,
            "progress\nthe file is still being imported"
        );
    }
    let response = site.send(&cookie, "prices.xml", "<x/>").await;
    assert!(
        response.starts_with("failure\nthe previous request is still"),
        "{response}"
    );
    done.notify_one();
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
    assert_eq!(site.delivered().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_wait_for_imports() {
    let site = TestSite::with_delivery(10_000, |_| std::future::pending().boxed());
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    assert!(
        site.import(&cookie, "offers.xml")
            .await
            .starts_with("progress")
    );
    site.tasks.stop();
    site.tasks.ended().await;
    let response = site.import(&cookie, "offers.xml").await;
    assert_eq!(
        response,
        "failure\nthe import was interrupted, send the file again"
    );
    assert!(site.delivered().is_empty());
}

#[tokio::test]
async fn order_exchange_returns_no_orders() {
    let site = TestSite::new();
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    let request = async |method: &str, query: &str| {
        site.send_request(
            method,
            query,
            &[("cookie", &cookie)],
            Body::from("<orders/>"),
        )
        .await
        .1
    };
    let init_response = "zip=yes\nfile_limit=524288\nsessid=abc\nversion=2.08";
    assert_eq!(
        request("GET", "type=sale&mode=init&version=3.1&sessid=abc").await,
        init_response
    );
    let orders = request("GET", "type=sale&mode=query").await;
    assert!(
        orders.contains("ДатаФормирования=\"2026-11-22T10:00:00\"/>"),
        "{orders}"
    );
    assert!(
        request("GET", "type=sale&mode=info")
            .await
            .contains("<Справочник>")
    );
    assert_eq!(request("GET", "type=sale&mode=success").await, "success");
    assert_eq!(
        request("POST", "type=sale&mode=file&filename=orders.xml").await,
        "success"
    );
    assert!(
        request("GET", "type=catalog&mode=what")
            .await
            .starts_with("failure\ntype=catalog")
    );
    // The transfer of the catalogue continues.
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\nimported from 7"
    );
}

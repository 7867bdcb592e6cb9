use std::io::{Cursor, Write};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::sync::Notify;
use tower::ServiceExt;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::lifecycle::Fuse;
use crate::telemetry::Alarms;

/// `1c:secret`, and with another password.
const BASIC: (&str, &str) = ("authorization", "Basic MWM6c2VjcmV0");
const WRONG: (&str, &str) = ("authorization", "Basic MWM6U2VjcmV0");

/// A shop's site as 1C sees it, and what was handed over.
struct Site {
    router: Router,
    tasks: Tasks,
    taken: Arc<Mutex<Vec<(String, String)>>>,
    spool: TempDir,
}

impl Site {
    fn new() -> Self {
        Self::with(10_000, |_| async { Ok(()) }.boxed())
    }

    /// One whose deliveries end as `judge` says.
    fn with(
        max_bytes: u64,
        judge: impl Fn(&str) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        let spool = tempfile::tempdir().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&taken);
        let deliver: Deliver = Arc::new(move |upload: Upload| {
            let text = std::fs::read_to_string(&upload.path).unwrap();
            let judged = judge(&text);
            let seen = Arc::clone(&seen);
            async move {
                judged.await?;
                seen.lock().unwrap().push((upload.name, text));
                Ok(Imported {
                    message: format!("taken from {}", upload.source),
                })
            }
            .boxed()
        });
        let tasks = Tasks::new(Fuse::default());
        let clock = Clock::starting_at("2026-11-22T10:00:00Z".parse().unwrap());
        let auth_failures = AuthFailures::new(clock, Alarms::new(clock), Vec::new(), 10_000);
        let context = Context {
            deliver,
            tasks: tasks.clone(),
            clock,
            auth_failures,
        };
        let door = Door {
            source: 7,
            name: "stock".to_owned(),
            path: "/shop/1c_exchange.php".to_owned(),
            login: "1c".to_owned(),
            password: Secret::new("secret"),
            spool: spool.path().to_owned(),
            max_bytes,
            takes_zip: true,
        };
        Self {
            router: router(&context, vec![door]),
            tasks,
            taken,
            spool,
        }
    }

    async fn ask(
        &self,
        method: &str,
        query: &str,
        fields: &[(&str, &str)],
        body: Body,
    ) -> (u16, String) {
        let uri = format!("/shop/1c_exchange.php?{query}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Logs in and returns the field 1C then sends with each request.
    async fn log_in(&self) -> String {
        let (status, text) = self
            .ask(
                "GET",
                "type=catalog&mode=checkauth",
                &[BASIC],
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
            .ask("GET", &query, &[("cookie", cookie)], Body::empty())
            .await;
        assert_eq!(status, 200, "{text}");
        text
    }

    async fn send(&self, cookie: &str, name: &str, body: impl Into<Body>) -> String {
        let query = format!("type=catalog&mode=file&filename={name}");
        let (status, text) = self
            .ask("POST", &query, &[("cookie", cookie)], body.into())
            .await;
        assert_eq!(status, 200, "{text}");
        text
    }

    async fn import(&self, cookie: &str, name: &str) -> String {
        self.get(cookie, &format!("import&filename={name}")).await
    }

    fn taken(&self) -> Vec<(String, String)> {
        self.taken.lock().unwrap().clone()
    }
}

fn pair(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), text.to_owned())
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test]
async fn a_catalogue_comes_in_parts_and_is_taken_whole() {
    let site = Site::new();
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
        "success\ntaken from 7"
    );
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
    for mode in ["deactivate&timestamp=1", "complete", "query"] {
        assert_eq!(site.get(&cookie, mode).await, "success");
    }
    let taken = [
        pair("import.xml", "<goods/>"),
        pair("offers.xml", "<offers></offers>"),
    ];
    assert_eq!(site.taken(), taken);
    assert!(!site.spool.path().join("transfer/import_files").exists());
}

#[tokio::test]
async fn a_catalogue_may_come_packed() {
    let site = Site::new();
    let cookie = site.begin().await;
    let packed = archive(&[
        ("import0_1.xml", "<goods/>"),
        ("import_files/1.jpg", "picture"),
        ("rests\\0_1.xml", "<rests/>"),
    ]);
    for part in packed.chunks(100) {
        assert_eq!(
            site.send(&cookie, "v8_1A.zip", part.to_vec()).await,
            "success"
        );
    }
    for _ in 0..2 {
        assert_eq!(
            site.import(&cookie, "import0_1.xml").await,
            "success\ntaken from 7"
        );
        assert_eq!(
            site.import(&cookie, "rests/0_1.xml").await,
            "success\ntaken from 7"
        );
    }
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "failure\nthe file offers.xml was not sent"
    );
    let other = archive(&[("import0_1.xml", "<more/>")]);
    assert_eq!(site.send(&cookie, "v8_1A.zip", other).await, "success");
    assert_eq!(
        site.import(&cookie, "import0_1.xml").await,
        "success\ntaken from 7"
    );
    let taken = site.taken();
    assert_eq!(taken.first(), Some(&pair("import0_1.xml", "<goods/>")));
    assert_eq!(
        taken.get(1..),
        Some(
            [
                pair("rests/0_1.xml", "<rests/>"),
                pair("import0_1.xml", "<more/>")
            ]
            .as_slice()
        )
    );
}

#[tokio::test]
async fn only_1c_is_let_in() {
    let site = Site::new();
    let checkauth = "type=catalog&mode=checkauth";
    let init = "type=catalog&mode=init";
    let wrong = (401, "failure\nlogin or password is wrong".to_owned());
    for fields in [
        &[][..],
        &[WRONG],
        &[("authorization", "Basic ?")],
        &[("authorization", "MWM6c2VjcmV0")],
    ] {
        assert_eq!(
            site.ask("GET", checkauth, fields, Body::empty()).await,
            wrong
        );
        assert_eq!(site.ask("GET", init, fields, Body::empty()).await, wrong);
    }
    let stale = (
        "cookie",
        "a=b; stockbridge_1c=00000000000000000000000000000000",
    );
    let ended = "failure\nthe session has ended, log in again: mode=checkauth".to_owned();
    assert_eq!(
        site.ask("GET", init, &[stale], Body::empty()).await,
        (200, ended)
    );
    assert_eq!(
        site.ask("GET", init, &[stale, BASIC], Body::empty())
            .await
            .0,
        200
    );
    let cookie = site.begin().await;
    let both = format!("other=1; {cookie}");
    assert!(site.get(&both, "init").await.starts_with("zip=yes"));
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_when_it_is_not_used_for_a_day() {
    let site = Site::new();
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
async fn a_name_does_not_lead_out_of_the_spool() {
    let site = Site::new();
    let cookie = site.begin().await;
    for name in [
        "../x.xml",
        "%2e%2e/x.xml",
        "..%5c..%5cx.xml",
        "a/../../x.xml",
        "",
        "x%00.xml",
    ] {
        let said = site.send(&cookie, name, "<x/>").await;
        assert!(said.starts_with("failure\nfilename is '"), "{name}: {said}");
        assert!(
            site.import(&cookie, name)
                .await
                .starts_with("failure\nfilename is '")
        );
    }
    assert_eq!(site.send(&cookie, "/tmp/x.xml", "<x/>").await, "success");
    assert!(site.spool.path().join("transfer/x.xml").exists());
    let packed = archive(&[("../../x.xml", "<x/>")]);
    assert_eq!(site.send(&cookie, "a.zip", packed).await, "success");
    assert!(
        site.import(&cookie, "x.xml")
            .await
            .starts_with("failure\nfilename is '../../x.xml'")
    );
    let query = "type=catalog&mode=file&filename=x.xml";
    let (_, said) = site
        .ask("GET", query, &[("cookie", &cookie)], Body::empty())
        .await;
    assert_eq!(said, "failure\na file has to be sent by POST");
}

#[tokio::test]
async fn a_part_counts_once_and_only_when_it_is_whole() {
    let site = Site::new();
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<a>").await, "success");
    let pieces = [
        Ok(Bytes::from("<b")),
        Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
    ];
    let said = site
        .send(
            &cookie,
            "offers.xml",
            Body::from_stream(stream::iter(pieces)),
        )
        .await;
    assert!(
        said.starts_with("failure\nthe part did not arrive whole"),
        "{said}"
    );
    for _ in 0..2 {
        assert_eq!(site.send(&cookie, "offers.xml", "<b>").await, "success");
    }
    assert_eq!(site.send(&cookie, "prices.xml", "<b>").await, "success");
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
    assert_eq!(site.taken(), [pair("offers.xml", "<a><b>")]);
}

#[tokio::test]
async fn what_a_stop_interrupted_begins_anew() {
    let before = Site::new();
    let cookie = before.begin().await;
    assert_eq!(before.send(&cookie, "offers.xml", "<half").await, "success");
    let after = Site::new();
    std::fs::create_dir_all(after.spool.path().join("transfer")).unwrap();
    std::fs::write(after.spool.path().join("transfer/offers.xml"), "<half").unwrap();
    assert!(
        after
            .send(&cookie, "offers.xml", ">")
            .await
            .contains("log in again")
    );
    let query = "type=catalog&mode=file&filename=offers.xml";
    let (_, said) = after
        .ask(
            "POST",
            query,
            &[("cookie", &cookie), BASIC],
            Body::from(">"),
        )
        .await;
    assert_eq!(
        said,
        "failure\nno transfer has begun, begin anew: mode=init"
    );
    let cookie = after.begin().await;
    assert_eq!(
        after.send(&cookie, "offers.xml", "<whole/>").await,
        "success"
    );
    assert_eq!(
        after.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
    assert_eq!(after.taken(), [pair("offers.xml", "<whole/>")]);
}

#[tokio::test]
async fn the_exchange_that_began_last_has_the_spool() {
    let site = Site::new();
    let first = site.begin().await;
    assert_eq!(site.send(&first, "offers.xml", "<first").await, "success");
    let second = site.begin().await;
    let said = site.send(&first, "offers.xml", "/>").await;
    assert_eq!(
        said,
        "failure\nanother exchange has begun since, begin anew: mode=init"
    );
    assert_eq!(
        site.send(&second, "offers.xml", "<second/>").await,
        "success"
    );
    assert_eq!(
        site.import(&second, "offers.xml").await,
        "success\ntaken from 7"
    );
    assert_eq!(site.taken(), [pair("offers.xml", "<second/>")]);
}

#[tokio::test]
async fn a_file_that_is_refused_can_be_sent_again() {
    let site = Site::with(10_000, |text| {
        let judged = if text == "<good/>" {
            Ok(())
        } else {
            Err("line 1 is bad".to_owned())
        };
        async { judged }.boxed()
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
        "success\ntaken from 7"
    );
    assert_eq!(site.send(&cookie, "a.zip", "no archive").await, "success");
    let said = site.import(&cookie, "rests.xml").await;
    assert!(
        said.starts_with("failure\nthe archive a.zip cannot be unpacked"),
        "{said}"
    );
    assert_eq!(
        site.send(&cookie, "a.zip", archive(&[("rests.xml", "<good/>")]))
            .await,
        "success"
    );
    assert_eq!(
        site.import(&cookie, "rests.xml").await,
        "success\ntaken from 7"
    );
}

#[tokio::test]
async fn more_than_agreed_is_not_taken() {
    let site = Site::with(1_000, |_| async { Ok(()) }.boxed());
    let cookie = site.begin().await;
    assert_eq!(
        site.send(&cookie, "offers.xml", "x".repeat(900)).await,
        "success"
    );
    let said = site.send(&cookie, "offers.xml", "y".repeat(101)).await;
    assert_eq!(
        said,
        "failure\nthe part is too large, at most 100 bytes are taken"
    );
    assert_eq!(
        site.send(&cookie, "offers.xml", "y".repeat(100)).await,
        "success"
    );
    let said = site.send(&cookie, "offers.xml", "z").await;
    assert_eq!(said, "failure\nthe transfer is larger than 1000 bytes");
    let cookie = site.begin().await;
    let bomb = archive(&[("a.xml", &"0".repeat(6_000)), ("b.xml", &"0".repeat(6_000))]);
    assert_eq!(site.send(&cookie, "a.zip", bomb).await, "success");
    let said = site.import(&cookie, "a.xml").await;
    assert!(said.contains("unpack to more than 10000 bytes"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_import_that_takes_long_is_told_of_and_goes_on() {
    let done = Arc::new(Notify::new());
    let gate = Arc::clone(&done);
    let site = Site::with(10_000, move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(())
        }
        .boxed()
    });
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    for _ in 0..2 {
        assert_eq!(
            site.import(&cookie, "offers.xml").await,
            "progress\nthe file is still being taken"
        );
    }
    let said = site.send(&cookie, "prices.xml", "<x/>").await;
    assert!(
        said.starts_with("failure\nthe request before this one is still"),
        "{said}"
    );
    done.notify_one();
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
    assert_eq!(site.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_an_import() {
    let site = Site::with(10_000, |_| std::future::pending().boxed());
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    assert!(
        site.import(&cookie, "offers.xml")
            .await
            .starts_with("progress")
    );
    site.tasks.stop();
    site.tasks.ended().await;
    let said = site.import(&cookie, "offers.xml").await;
    assert_eq!(
        said,
        "failure\nthe file was not taken to its end, send it again"
    );
    assert!(site.taken().is_empty());
}

#[tokio::test]
async fn an_exchange_of_orders_finds_none() {
    let site = Site::new();
    let cookie = site.begin().await;
    assert_eq!(site.send(&cookie, "offers.xml", "<x/>").await, "success");
    let ask = async |method: &str, query: &str| {
        site.ask(
            method,
            query,
            &[("cookie", &cookie)],
            Body::from("<orders/>"),
        )
        .await
        .1
    };
    let terms = "zip=yes\nfile_limit=524288\nsessid=abc\nversion=2.08";
    assert_eq!(
        ask("GET", "type=sale&mode=init&version=3.1&sessid=abc").await,
        terms
    );
    let orders = ask("GET", "type=sale&mode=query").await;
    assert!(
        orders.contains("ДатаФормирования=\"2026-11-22T10:00:00\"/>"),
        "{orders}"
    );
    assert!(
        ask("GET", "type=sale&mode=info")
            .await
            .contains("<Справочник>")
    );
    assert_eq!(ask("GET", "type=sale&mode=success").await, "success");
    assert_eq!(
        ask("POST", "type=sale&mode=file&filename=orders.xml").await,
        "success"
    );
    assert!(
        ask("GET", "type=catalog&mode=what")
            .await
            .starts_with("failure\ntype=catalog")
    );
    // And the catalogue's own transfer goes on.
    assert_eq!(
        site.import(&cookie, "offers.xml").await,
        "success\ntaken from 7"
    );
}

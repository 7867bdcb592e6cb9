//! Notifications of the whole service and of the command `notify`, with a receiver in the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use lifecycle::{CrashSignal, Tasks};
use serde_json::Value;
use strict_http::{HttpServer, ServerLimits};
use tokio::time::{Instant, sleep};

use crate::harness::{TestService, TestShop};
use crate::program::{ProcessFixture, run};

/// Maximum time until a message arrives.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Webhook receiver that keeps the messages.
struct WebhookReceiver {
    url: String,
    messages: Arc<Mutex<Vec<Value>>>,
    tasks: Tasks,
}

impl WebhookReceiver {
    fn start() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::bind(any, ServerLimits::default()).unwrap();
        let url = format!("http://{}/hook", server.local_addr().unwrap());
        let messages = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&messages);
        let router = Router::new().fallback(move |body: String| {
            let message = serde_json::from_str(&body).unwrap();
            received.lock().unwrap().push(message);
            async {}
        });
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("receiver", server.run(router, tasks.clone()));
        Self {
            url,
            messages,
            tasks,
        }
    }

    /// Table of a channel that sends here at once.
    fn table(&self, name: &str) -> String {
        format!(
            "[[notify]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\nlanguage = \"en\"\n\
             alarms = [\"cold_shop_asked\"]\ndelay_seconds = 0\n",
            self.url
        )
    }

    fn messages(&self) -> Vec<Value> {
        self.messages.lock().unwrap().clone()
    }

    /// Waits for this number of messages and returns the event and subject of the last one.
    async fn wait_for(&self, count: usize) -> (String, String) {
        let deadline = Instant::now() + TIMEOUT;
        while self.messages().len() < count {
            assert!(Instant::now() < deadline, "{:?}", self.messages());
            sleep(Duration::from_millis(20)).await;
        }
        let messages = self.messages();
        assert_eq!(messages.len(), count, "{messages:?}");
        let alarm = &messages[count - 1]["alarms"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&alarm["event"]), text(&alarm["subjects"][0]["about"]))
    }
}

impl Drop for WebhookReceiver {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_repeat_an_alarm() {
    let receiver = WebhookReceiver::start();
    let omsk = TestShop::new("omsk", 2, 22);
    let moscow = TestShop::moscow().set(&receiver.table("hook"));
    let mut service = TestService::start(&[omsk.clone(), moscow.clone()]).await;
    let endpoints = service.endpoints();
    endpoints.query_stock(&moscow, 569_667, &["A"]).await;
    let raised = |about: &str| ("raised".to_owned(), about.to_owned());
    assert_eq!(receiver.wait_for(1).await, raised("moscow"));
    service.restart().await;
    let endpoints = service.endpoints();
    endpoints.query_stock(&moscow, 569_667, &["A"]).await;
    // The channel that has seen this alarm has also seen the one before.
    endpoints.query_stock(&omsk, 22, &["A"]).await;
    assert_eq!(receiver.wait_for(2).await, raised("omsk"));
    let second = &receiver.messages()[1]["alarms"];
    assert_eq!(second.as_array().unwrap().len(), 1);
    assert_eq!(second[0]["subjects"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tests_each_channel() {
    let receiver = WebhookReceiver::start();
    let closed = WebhookReceiver::start();
    closed.tasks.stop();
    closed.tasks.ended().await;
    let shop = TestShop::moscow()
        .set(&receiver.table("works"))
        .set(&closed.table("closed"));
    let fixture = ProcessFixture::for_shops(&[shop], "").await;
    let (code, output, _) = run(fixture.command("notify").arg("--test"));
    assert_eq!(code, Some(1), "{output}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "works (webhook): ok");
    assert!(lines[1].starts_with("closed (webhook): FAIL: the webhook cannot be reached"));
    assert_eq!(
        receiver.messages()[0]["subject"],
        "Test message of stockbridge"
    );
    let chosen = ["--test", "--name", "works"];
    assert_eq!(run(fixture.command("notify").args(chosen)).0, Some(0));
    let unknown = ["--test", "--name", "pager"];
    let (code, _, error) = run(fixture.command("notify").args(unknown));
    assert_eq!(code, Some(1));
    assert!(error.contains("the names are works, closed"), "{error}");
    fixture.market_tasks.stop();
}

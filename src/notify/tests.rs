//! Tests of channels against servers in the same process: webhook and Telegram.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::{DateTime, FixedOffset, TimeDelta};
use lifecycle::CrashSignal;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use ring::hmac;
use serde_json::Value;
use strict_http::Trust;
use strict_http::secret::Secret;
use strict_http::test_server::{TestServer, serve};
use tokio::time::sleep;

use super::*;

const TOKEN: &str = "123456:canary-token";

/// Request that a test server has received.
#[derive(Clone)]
struct ReceivedRequest {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl ReceivedRequest {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Server that records requests and responds by their number.
struct Recorder {
    server: TestServer,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Recorder {
    async fn start(respond: fn(usize) -> (StatusCode, &'static str)) -> Self {
        let requests = Arc::new(Mutex::new(Vec::<ReceivedRequest>::new()));
        let recorded = Arc::clone(&requests);
        let router = Router::new().fallback(move |request: Request<Body>| {
            let recorded = Arc::clone(&recorded);
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
                let mut recorded = recorded.lock();
                recorded.push(ReceivedRequest {
                    path: parts.uri.path().to_owned(),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                });
                respond(recorded.len())
            }
        });
        Self {
            server: serve(router).await,
            requests,
        }
    }

    fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().clone()
    }
}

fn accepted(_number: usize) -> (StatusCode, &'static str) {
    (StatusCode::OK, r#"{"ok":true,"result":{}}"#)
}

/// Workers of some channels, with alarms that a test raises.
struct RunningChannels {
    alarms: Alarms,
    states: BTreeMap<String, watch::Receiver<String>>,
    tasks: Tasks,
    metrics: Metrics,
}

impl RunningChannels {
    fn start(alarms: &Alarms, clock: Clock, channels: &[ChannelConfig]) -> Self {
        Self::start_with(alarms, clock, channels, &BTreeMap::new())
    }

    fn start_with(
        alarms: &Alarms,
        clock: Clock,
        channels: &[ChannelConfig],
        saved: &BTreeMap<String, String>,
    ) -> Self {
        let tasks = Tasks::new(CrashSignal::default());
        let context = Context {
            metrics: Metrics::new(channels),
            ..context(alarms, clock)
        };
        let mut states = BTreeMap::new();
        for channel in channels {
            let saved = saved.get(&channel.name).map_or("", String::as_str);
            let (worker, state) = channel_worker(channel, &context, saved).unwrap();
            tasks.spawn("notify", worker.run(tasks.clone()));
            states.insert(channel.name.clone(), state);
        }
        Self {
            alarms: alarms.clone(),
            metrics: context.metrics,
            states,
            tasks,
        }
    }

    /// Lines of the metrics about messages.
    fn counts(&self) -> Vec<String> {
        let mut registry = Registry::with_prefix("stockbridge");
        self.metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(ToOwned::to_owned).collect()
    }

    /// Stops the workers and returns their states, as the store would have them.
    async fn stop(mut self) -> BTreeMap<String, String> {
        self.tasks.stop();
        self.tasks.ended().await;
        let states = std::mem::take(&mut self.states).into_iter();
        states
            .map(|(name, state)| (name, state.borrow().clone()))
            .collect()
    }
}

impl Drop for RunningChannels {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

pub(super) fn context(alarms: &Alarms, clock: Clock) -> Context {
    Context {
        alarms: alarms.clone(),
        clock,
        outbound: ClientConfig {
            trust: Trust::PlainHttpOnly,
            ..ClientConfig::default()
        },
        page_url: None,
        shops: vec!["moscow".to_owned(), "kazan".to_owned()],
        metrics: Metrics::default(),
    }
}

pub(super) fn start_clock() -> (Clock, Alarms) {
    let clock = Clock::starting_at(DateTime::UNIX_EPOCH);
    (clock, Alarms::new(clock))
}

pub(super) fn channel(name: &str, kind: ChannelKind) -> ChannelConfig {
    ChannelConfig {
        name: name.to_owned(),
        language: Language::English,
        policy: ChannelPolicy {
            alarms: Vec::new(),
            shops: Vec::new(),
            quiet_hours: None,
            time_zone: FixedOffset::east_opt(0).unwrap(),
            urgent: Vec::new(),
            repeat: Some(TimeDelta::hours(24)),
            reports_end: true,
            delay: TimeDelta::seconds(60),
        },
        kind,
    }
}

fn webhook(name: &str, recorder: &Recorder) -> ChannelConfig {
    let url = format!("{}/hook?key=canary-query", recorder.server.url);
    let webhook = WebhookConfig {
        url: url.parse().unwrap(),
        secret: Some(Secret::new("canary-key")),
    };
    channel(name, ChannelKind::Webhook(webhook))
}

fn telegram(name: &str, recorder: &Recorder) -> ChannelConfig {
    let telegram = TelegramConfig {
        api_url: recorder.server.url.clone(),
        token: Secret::new(TOKEN),
        chat: "-100".to_owned(),
    };
    channel(name, ChannelKind::Telegram(telegram))
}

/// Lets the paused clock run.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// Events of a webhook's request: `raised drift moscow`.
fn events(request: &ReceivedRequest) -> Vec<String> {
    let json = request.json();
    let alarms = json["alarms"].as_array().unwrap();
    let events = alarms.iter().flat_map(|alarm| {
        let subjects = alarm["subjects"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        subjects.iter().map(move |subject| {
            let event = text(&alarm["event"]);
            format!(
                "{event} {} {}",
                text(&alarm["alarm"]),
                text(&subject["about"])
            )
        })
    });
    events.collect()
}

#[tokio::test(start_paused = true)]
async fn a_webhook_gets_a_signed_message_per_change() {
    let recorder = Recorder::start(accepted).await;
    let (clock, alarms) = start_clock();
    let running = RunningChannels::start(&alarms, clock, &[webhook("hook", &recorder)]);
    for shop in ["moscow", "kazan"] {
        running
            .alarms
            .raise(AlarmKind::Drift, shop, "2 SKUs differ");
    }
    pass(300).await;
    running.alarms.clear(AlarmKind::Drift, "kazan");
    pass(300).await;
    let requests = recorder.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        events(&requests[0]),
        ["raised drift kazan", "raised drift moscow"]
    );
    assert_eq!(events(&requests[1]), ["cleared drift kazan"]);
    let header = requests[0].headers["x-stockbridge-signature"]
        .to_str()
        .unwrap();
    let (time, signature) = header
        .strip_prefix("t=")
        .unwrap()
        .split_once(",v1=")
        .unwrap();
    assert_eq!(time, "70", "the clock of the test started at 0");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"canary-key");
    let signed = format!("{time}.{}", requests[0].body);
    let expected = hmac::sign(&key, signed.as_bytes());
    assert_eq!(signature, planner::hex(expected.as_ref()));
    let id = requests[0].headers["x-stockbridge-id"].to_str().unwrap();
    assert_eq!(requests[0].json()["id"], id);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_attempt_has_the_same_ids() {
    let recorder = Recorder::start(|number| match number {
        1 | 2 => (StatusCode::BAD_GATEWAY, "try later"),
        _ => accepted(number),
    })
    .await;
    let (clock, alarms) = start_clock();
    let running = RunningChannels::start(&alarms, clock, &[webhook("hook", &recorder)]);
    running.alarms.raise(AlarmKind::Drift, "moscow", "text");
    pass(600).await;
    let requests = recorder.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|request| request.body == requests[0].body)
    );
    assert!(!running.alarms.is_active(AlarmKind::NotifyFailed));
    let count = |outcome: &str, count: u32| {
        format!(
            "stockbridge_notifications_total{{channel=\"hook\",kind=\"webhook\",outcome=\"{outcome}\"}} \
             {count}"
        )
    };
    assert_eq!(
        running.counts(),
        [count("delivered", 1), count("failed", 2)]
    );
}

#[tokio::test(start_paused = true)]
async fn telegram_gets_plain_text_and_its_wait() {
    let recorder = Recorder::start(|number| match number {
        1 => (
            StatusCode::TOO_MANY_REQUESTS,
            r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 120","parameters":{"retry_after":120}}"#,
        ),
        _ => accepted(number),
    })
    .await;
    let (clock, alarms) = start_clock();
    let running = RunningChannels::start(&alarms, clock, &[telegram("ops", &recorder)]);
    let hostile = format!("SKU '<b>*_[a](b)\u{202e}\n'{}", "я".repeat(10_000));
    running
        .alarms
        .raise(AlarmKind::Quarantine, "moscow", hostile);
    pass(70 + 119).await;
    assert_eq!(recorder.requests().len(), 1, "retry_after is obeyed");
    pass(10).await;
    let requests = recorder.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].path, format!("/bot{TOKEN}/sendMessage"));
    let json = requests[1].json();
    assert_eq!(json["chat_id"], "-100");
    assert!(json.get("parse_mode").is_none());
    let text = json["text"].as_str().unwrap();
    assert!(text.contains("SKU '<b>*_[a](b)\\u202e\\n'яя"), "{text}");
    assert!(text.encode_utf16().count() <= 4_096);
}

#[tokio::test(start_paused = true)]
async fn a_failing_channel_is_reported_by_the_others() {
    let broken = Recorder::start(|_| {
        (
            StatusCode::UNAUTHORIZED,
            r#"{"ok":false,"error_code":401,"description":"Unauthorized: 123456:canary-token"}"#,
        )
    })
    .await;
    let working = Recorder::start(accepted).await;
    let (clock, alarms) = start_clock();
    let channels = [telegram("chat", &broken), webhook("hook", &working)];
    let running = RunningChannels::start(&alarms, clock, &channels);
    running.alarms.raise(AlarmKind::Drift, "moscow", "text");
    pass(600).await;
    let requests = working.requests();
    let sent: Vec<String> = requests.iter().flat_map(events).collect();
    assert_eq!(sent, ["raised drift moscow", "raised notify_failed chat"]);
    let alarm = running.alarms.active().into_iter();
    let alarm = alarm
        .map(|alarm| alarm.text)
        .find(|text| text.contains("@BotFather"));
    assert!(!alarm.unwrap().contains("canary"));
    assert!(broken.requests().len() > 3, "it is tried again");
    assert!(
        broken
            .requests()
            .iter()
            .all(|request| !request.body.contains("notify_failed")),
        "the failing channel does not report itself"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_nothing_and_reports_ends() {
    let recorder = Recorder::start(accepted).await;
    let channels = [webhook("hook", &recorder)];
    let (clock, alarms) = start_clock();
    let first = RunningChannels::start(&alarms, clock, &channels);
    for shop in ["moscow", "kazan"] {
        first.alarms.raise(AlarmKind::Drift, shop, "text");
    }
    pass(300).await;
    let saved = first.stop().await;
    assert_eq!(recorder.requests().len(), 1);
    // While the service is down, kazan's alarm ends. The next run raises moscow's again.
    pass(3_600).await;
    let alarms = Alarms::new(clock);
    let second = RunningChannels::start_with(&alarms, clock, &channels, &saved);
    second.alarms.raise(AlarmKind::Drift, "moscow", "text");
    pass(3_600).await;
    let sent: Vec<String> = recorder.requests()[1..].iter().flat_map(events).collect();
    assert_eq!(sent, ["cleared drift kazan"]);
    assert_eq!(second.stop().await["hook"].matches("moscow").count(), 1);
}

/// Log lines of this thread.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock();
        log.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_in_no_log_and_no_error() {
    let log = CapturedLog::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber, `tracing` lets the first thread that reaches a log line decide whether
    // the line is enabled, and the thread of another test has no subscriber.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _guard = tracing::subscriber::set_default(subscriber);
    let broken = Recorder::start(|_| (StatusCode::INTERNAL_SERVER_ERROR, TOKEN)).await;
    let unreachable = {
        let closed = Recorder::start(accepted).await;
        closed.server.url.clone()
    };
    let mut gone = telegram("gone", &broken);
    if let ChannelKind::Telegram(config) = &mut gone.kind {
        config.api_url.clone_from(&unreachable);
    }
    let mut hook = webhook("hook", &broken);
    if let ChannelKind::Webhook(config) = &mut hook.kind {
        config.url = format!("{unreachable}/?key=canary-query").parse().unwrap();
    }
    let (clock, alarms) = start_clock();
    let channels = [telegram("chat", &broken), gone, hook];
    let running = RunningChannels::start(&alarms, clock, &channels);
    running.alarms.raise(AlarmKind::Drift, "moscow", "text");
    let failures = || {
        let log = String::from_utf8(log.0.lock().clone()).unwrap();
        log.matches("failed to deliver").count()
    };
    // The clock may be faster than the connections, so the number of attempts decides.
    for _ in 0..1000 {
        if failures() < 10 {
            pass(60).await;
        }
    }
    assert!(failures() >= 10);
    let texts = running.alarms.active().into_iter().map(|alarm| alarm.text);
    let texts = texts.collect::<Vec<_>>().join("\n");
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    for text in [texts, log] {
        assert!(!text.contains("canary"), "{text}");
    }
}

//! The event log and the history for the charts of a running service.

use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::harness::{Endpoints, TestService, TestShop};

/// Maximum time until the writer has committed an event.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Endpoints {
    /// Events with these parameters, the latest first.
    async fn events(self, query: &str) -> Vec<Value> {
        let target = format!("/api/events?{query}");
        let (status, body) = self.ops_request("GET", &target, "").await;
        assert_eq!(status, 200, "{body}");
        body["events"].as_array().unwrap().clone()
    }

    /// Waits for an event of a kind after another event. Events are written in the background.
    pub(crate) async fn wait_for_event(self, kind: &str, after: i64) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let events = self.events(&format!("kind={kind}")).await;
            let mut later = events.into_iter().filter(|it| id(it) > after);
            if let Some(event) = later.next() {
                return event;
            }
            assert!(Instant::now() < deadline, "no event {kind}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn id(event: &Value) -> i64 {
    event["id"].as_i64().unwrap()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["kind"].as_str());
    kinds.map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_outlive_a_restart() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    let stock = [("A", 1), ("B", 2), ("C", 3)];
    endpoints.feed(service.shop(), &stock).await;
    let target = "/import?shop=moscow&scope=snapshot&name=zero.csv";
    let zeros = "sku;quantity\nA;0\nB;0\nC;0\n";
    let (status, body) = endpoints.ops_request("POST", target, zeros).await;
    assert_eq!((status, &body["outcome"]), (200, &"held".into()), "{body}");
    let alarm = endpoints.wait_for_event("alarm_raised", 0).await;
    assert_eq!(alarm["alarm"], "source_held", "{alarm}");
    assert_eq!(
        (&alarm["shop"], &alarm["subject"]),
        (&"moscow".into(), &"import".into())
    );
    let held = endpoints.wait_for_event("delivery_held", 0).await;
    assert_eq!(held["counts"]["zeroed"], 3, "{held}");
    service.restart().await;
    let endpoints = service.endpoints();
    let started = endpoints.wait_for_event("service_started", id(&held)).await;
    assert_eq!(started["previous"], "stopped", "{started}");
    let before = format!("before={}", started["id"]);
    let events = endpoints.events(&before).await;
    let shown = kinds(&events);
    assert_eq!(shown.first(), Some(&"service_stopped"), "{shown:?}");
    assert_eq!(shown.last(), Some(&"service_started"), "{shown:?}");
    for kind in ["operator_action", "delivery_held", "alarm_raised"] {
        assert!(shown.contains(&kind), "{kind} of {shown:?}");
    }
    assert!(events.contains(&held) && events.contains(&alarm));
    let of_shop = endpoints.events("shop=moscow").await;
    assert!(of_shop.iter().all(|event| event["shop"] == "moscow"));
    // It is still held, so the approval is the next event of the source.
    let (status, _) = endpoints
        .ops_request("POST", "/accept?source=import", "")
        .await;
    assert_eq!(status, 200);
    let approved = endpoints.wait_for_event("delivery_approved", 0).await;
    assert_eq!(
        (&approved["changed"], &approved["zeroed"]),
        (&3.into(), &3.into())
    );
    let cleared = endpoints.wait_for_event("alarm_cleared", 0).await;
    assert_eq!(cleared["alarm"], "source_held");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_events_follow_each_other() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    for _ in 0..5 {
        let (status, _) = endpoints.ops_request("POST", "/verify", "").await;
        assert_eq!(status, 202);
    }
    let query = "/api/events?kind=operator_action&limit=2";
    let deadline = Instant::now() + TIMEOUT;
    let pages = loop {
        let (mut target, mut pages) = (query.to_owned(), Vec::new());
        loop {
            let (status, body) = endpoints.ops_request("GET", &target, "").await;
            assert_eq!(status, 200, "{body}");
            pages.push(body["events"].as_array().unwrap().len());
            let Some(next) = body["next"].as_i64() else {
                break;
            };
            target = format!("{query}&before={next}");
        }
        if pages.iter().sum::<usize>() == 5 {
            break pages;
        }
        assert!(Instant::now() < deadline, "{pages:?}");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(pages, [2, 2, 1]);
    for (target, code) in [
        ("/api/events?kind=moon", "BAD_REQUEST"),
        ("/api/charts?shop=moscow&resolution=day", "BAD_REQUEST"),
        ("/api/charts?shop=omsk", "UNKNOWN_SHOP"),
    ] {
        let (_, body) = endpoints.ops_request("GET", target, "").await;
        assert_eq!(body["error"]["code"], code, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_outlive_a_restart() {
    let mut service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 1), ("B", 2)]).await;
    service.wait_settled().await;
    let asked = endpoints.query_stock(service.shop(), 569_667, &["A", "Z"]);
    assert_eq!(asked.await.status, 200);
    // The last sample is saved at the stop.
    service.restart().await;
    let endpoints = service.endpoints();
    for (resolution, periods) in [("minute", 1_440), ("hour", 2_160)] {
        let target = format!("/api/charts?shop=moscow&resolution={resolution}");
        let (status, body) = endpoints.ops_request("GET", &target, "").await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["rate_limit_unit"], "skus");
        let values = |series: &str| -> Vec<f64> {
            let values = body["series"][series].as_array().unwrap();
            assert_eq!(values.len(), periods);
            values.iter().filter_map(Value::as_f64).collect()
        };
        // The test may run across the end of a minute.
        let sum = |series: &str| values(series).iter().sum::<f64>();
        let acknowledged = sum("acknowledged_skus");
        assert!(acknowledged >= 2.0, "{acknowledged}");
        assert_eq!((sum("market_requests"), sum("requested_skus")), (1.0, 2.0));
        assert_eq!((sum("unknown_skus"), sum("dirty_skus")), (1.0, 0.0));
        assert!(sum("update_requests") >= 1.0 && sum("rate_limit") > 0.0);
        assert!(sum("response_max_seconds") > 0.0);
        let gaps = periods - values("dirty_skus").len();
        assert!(gaps >= periods - 3, "{gaps}");
    }
}

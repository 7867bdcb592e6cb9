//! The Grafana dashboard and the alert rules use metrics and alarms that the service has.
//!
//! `promtool` checks their syntax in `.ci/run`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stockbridge::telemetry::AlarmKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::docs::root;
use crate::harness::{TestService, TestShop};

const PREFIX: &str = "stockbridge_";

/// Labels that Prometheus adds, and that of the buckets of a histogram.
const ADDED_LABELS: &[&str] = &["job", "instance", "le"];

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// Row of the table of metrics in `docs/operations.md`.
#[derive(Debug)]
struct DocumentedMetric {
    kind: String,
    labels: Vec<String>,
}

fn documented_metrics() -> BTreeMap<String, DocumentedMetric> {
    let text = read("docs/operations.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (name, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter(|label| !label.is_empty());
        let metric = DocumentedMetric {
            kind: kind.to_owned(),
            labels: labels.map(ToOwned::to_owned).collect(),
        };
        matches!(kind, "gauge" | "counter" | "histogram").then(|| (name.to_owned(), metric))
    });
    rows.collect()
}

/// Metric of an expression, with the labels of its selector.
#[derive(Debug)]
struct UsedMetric {
    name: String,
    labels: Vec<String>,
}

fn used_metrics(text: &str) -> Vec<UsedMetric> {
    let used = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = selector.map_or("", |(matchers, _)| matchers).split(',');
        let label = |matcher: &str| Some(matcher.split_once(['=', '!'])?.0.to_owned());
        UsedMetric {
            name: name.to_owned(),
            labels: matchers.filter_map(label).collect(),
        }
    };
    text.split(PREFIX).skip(1).map(used).collect()
}

/// Expressions of the dashboard, with the titles of their panels.
fn dashboard_expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("docs/grafana-dashboard.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        expressions.push((text(&variable["name"]), text(&variable["query"]["query"])));
    }
    expressions
}

#[test]
fn expressions_use_documented_metrics() {
    let documented = documented_metrics();
    let mut errors = Vec::new();
    let mut checked = 0;
    let rules = ["docs/alert-rules.yml", "docs/alert-rules-test.yml"];
    let rules = rules.map(|name| (name.to_owned(), read(name)));
    for (place, text) in dashboard_expressions().into_iter().chain(rules) {
        for used in used_metrics(&text) {
            checked += 1;
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| used.name.strip_suffix(part))
                .and_then(|name| Some((name, documented.get(name)?)))
                .filter(|(_, metric)| metric.kind == "histogram")
                .map(|(name, _)| name);
            let name = base.unwrap_or(&used.name);
            match documented.get(name) {
                None => errors.push(format!("{place}: the service has no metric {name}")),
                Some(metric) => errors.extend(
                    used.labels
                        .iter()
                        .filter(|label| {
                            !metric.labels.contains(label)
                                && !ADDED_LABELS.contains(&label.as_str())
                        })
                        .map(|label| format!("{place}: {name} has no label {label}")),
                ),
            }
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    assert!(checked >= 100, "only {checked} metrics were found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_has_the_documented_metrics() {
    let service = TestService::start(&[TestShop::moscow()]).await;
    let endpoints = service.endpoints();
    endpoints.feed(service.shop(), &[("A", 5)]).await;
    service.wait_settled().await;
    endpoints.counts(service.shop(), &["A", "B"]).await;
    // Metrics with a label appear with their first event.
    let mut connection = TcpStream::connect(endpoints.public).await.unwrap();
    connection.write_all(b"\0\r\n\r\n").await.unwrap();
    connection.read_to_end(&mut Vec::new()).await.unwrap();

    let text = endpoints.metrics().await;
    let types = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let found: BTreeSet<String> = types
        .map(|(name, kind)| {
            let name = name.strip_prefix(PREFIX).unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            format!("{name}{suffix} {kind}")
        })
        .collect();
    let documented = documented_metrics();
    let documented = documented
        .iter()
        .map(|(name, metric)| format!("{name} {}", metric.kind));
    assert_eq!(found, documented.collect());
}

#[test]
fn every_alarm_has_a_rule() {
    let rules = read("docs/alert-rules.yml");
    let rule_of = |name: &str| format!("expr: {PREFIX}alarm{{alarm=\"{name}\"}} == 1");
    let found: Vec<&str> = rules
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(&format!("expr: {PREFIX}alarm")))
        .collect();
    for kind in AlarmKind::ALL {
        let rule = rule_of(kind.name());
        let count = found.iter().filter(|line| **line == rule).count();
        assert_eq!(count, 1, "docs/alert-rules.yml: {rule}");
    }
    assert_eq!(found.len(), AlarmKind::ALL.len(), "{found:#?}");
}

#[test]
fn every_alert_has_a_case() {
    let rules = read("docs/alert-rules.yml");
    let cases = read("docs/alert-rules-test.yml");
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut checked = 0;
    for alert in alerts {
        checked += 1;
        let is_tested = cases.contains(&format!("alertname=\"{alert}\""));
        assert!(is_tested, "docs/alert-rules-test.yml: no case for {alert}");
    }
    assert!(checked > AlarmKind::ALL.len(), "only {checked} alerts");
}

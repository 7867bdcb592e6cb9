//! Checks of the running service, from `/readyz` and `/status` of its operator API.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use strict_http::{ClientConfig, Trust, client, read_response};

use super::finding::Finding;
use crate::command::ops_client::ops_url;
use crate::config::{Config, ShopConfig};
use crate::ingest::OriginTime;
use crate::migrator::{Mode, QuarantinedSku};
use crate::ops::{ReadyzResponse, ShopStatusDto, StatusAlarm, StatusResponse, access};
use crate::setup::account_probe::one_line;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a response. It may list thousands of quarantined SKUs, each with a reason.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Maximum number of quarantined SKUs that are listed.
const MAX_LISTED_SKUS: usize = 5;

/// Time without a push request that is worth a warning. The Market asks about hourly.
const PUSH_OVERDUE: TimeDelta = TimeDelta::hours(2);

/// State of the service on `ops_listen`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in each run")]
pub(super) enum ServiceProbe {
    /// No response, or a response of another program.
    Unreachable(String),
    /// The service starts or stops.
    NotReady(String),
    /// The service is ready.
    Running(StatusResponse),
}

impl ServiceProbe {
    /// Returns true if the service reports that the shop has no stock.
    pub(super) fn has_no_stock(&self, name: &str) -> bool {
        match self {
            Self::Running(status) => status
                .shops
                .iter()
                .any(|shop| shop.name == name && shop.cold),
            Self::Unreachable(_) | Self::NotReady(_) => false,
        }
    }
}

/// Requests `/readyz` and `/status`.
pub(super) async fn probe(config: &Config) -> ServiceProbe {
    let outbound = ClientConfig {
        total_timeout: TIMEOUT,
        trust: Trust::PlainHttpOnly,
        ..ClientConfig::default()
    };
    let base = ops_url(config.ops_listen);
    let probing = async {
        let http = client(&outbound)?;
        let readiness: ReadyzResponse = get(&http, &format!("{base}/readyz")).await?;
        if readiness.state != "ready" {
            return Ok(ServiceProbe::NotReady(readiness.state.into()));
        }
        anyhow::Ok(ServiceProbe::Running(
            get(&http, &format!("{base}/status")).await?,
        ))
    };
    probing
        .await
        .unwrap_or_else(|error| ServiceProbe::Unreachable(format!("{error:#}")))
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &str) -> anyhow::Result<T> {
    let request = http
        .get(url)
        .header(access::CSRF_HEADER, access::CSRF_HEADER_VALUE);
    let response = request.send().await.map_err(reqwest::Error::without_url)?;
    let body = read_response(response, MAX_BYTES).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// Evaluates the status of the service and of each shop.
pub(super) fn evaluate(
    config: &Config,
    service: &ServiceProbe,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let about = "service";
    let address = config.ops_listen;
    let status = match service {
        ServiceProbe::Unreachable(reason) => {
            let what = format!("no response on ops_listen {address}: {}", one_line(reason));
            let todo = "start the service, or set ops_listen to the value it was started with";
            return vec![Finding::warn(about, what, todo)];
        }
        ServiceProbe::NotReady(state) => {
            let what = format!("the service on {address} is {}", one_line(state));
            return vec![Finding::warn(about, what, "run doctor again in a minute")];
        }
        ServiceProbe::Running(status) => status,
    };
    let mut findings = vec![Finding::ok(
        about,
        format!("ready, on ops_listen {address}"),
    )];
    findings.extend(status.alarms.iter().map(check_alarm));
    for shop in &config.shops {
        match status.shops.iter().find(|known| known.name == shop.name) {
            Some(known) => findings.extend(check_shop(config, shop, known, now)),
            None => findings.push(Finding::warn(
                format!("shop {}", shop.name),
                "the running service does not have this shop: the configuration was changed after \
                 its start",
                "restart the service",
            )),
        }
    }
    findings
}

fn check_alarm(alarm: &StatusAlarm) -> Finding {
    let about = match alarm.about.as_str() {
        "" => format!("alarm {}", alarm.alarm),
        subject => format!("alarm {} of {}", alarm.alarm, one_line(subject)),
    };
    let advice = "see the table of alarms in docs/operations.md";
    // During these alarms, no stock is sent, or a product is hidden.
    let is_severe = [
        "batch_refused",
        "campaign_paused",
        "clone_guard",
        "selftest_hidden",
    ]
    .contains(&&*alarm.alarm);
    if is_severe {
        Finding::fail(about, one_line(&alarm.text), advice)
    } else {
        Finding::warn(about, one_line(&alarm.text), advice)
    }
}

fn check_shop(
    config: &Config,
    shop: &ShopConfig,
    known: &ShopStatusDto,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let name = &shop.name;
    let mut findings = Vec::new();
    if known.cold {
        let what = "the service has no stock of this shop yet, so the Market gets 503";
        findings.push(Finding::warn(
            format!("stock of {name}"),
            what,
            "feed the shop",
        ));
    }
    findings.extend(
        known
            .migrator
            .as_ref()
            .and_then(|migrator| check_quarantine(name, &migrator.quarantined)),
    );
    let is_over = config.cutoff < now.date_naive();
    if !is_over && !known.cold {
        findings.push(check_push(name, known.last_push, now));
    } else if is_over && shop.migrate == Mode::Off {
        let what = "the push API has ended, and no stock is sent to the Market";
        findings.push(Finding::warn(
            format!("migrate of {name}"),
            what,
            "set migrate = \"on\"",
        ));
    }
    findings.extend(
        known
            .sources
            .iter()
            .map(|source| check_source(config, name, source, now)),
    );
    findings
}

fn check_quarantine(name: &str, quarantined: &[QuarantinedSku]) -> Option<Finding> {
    if quarantined.is_empty() {
        return None;
    }
    let named = quarantined.iter().take(MAX_LISTED_SKUS);
    let named: Vec<String> = named
        .map(|row| one_line(&format!("{} ({})", row.sku, row.reason)))
        .collect();
    let more = quarantined.len().saturating_sub(MAX_LISTED_SKUS);
    let more = if more > 0 {
        format!("; and {more} more, see /status")
    } else {
        String::new()
    };
    Some(Finding::fail(
        format!("rejected SKUs of {name}"),
        format!("{}{more}", named.join("; ")),
        "correct them in the seller's program or in the Market's catalogue; the service retries \
         them",
    ))
}

fn check_push(name: &str, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Finding {
    let about = format!("push requests for {name}");
    let todo = "check in the cabinet that the stock transfer is enabled, and its address";
    match last {
        None => {
            let what = "no push request of the Market was answered since the start of the service";
            Finding::warn(about, what, todo)
        }
        Some(last) if now - last > PUSH_OVERDUE => {
            let what = format!(
                "the last push request was {} h ago",
                (now - last).num_hours()
            );
            Finding::warn(about, what, todo)
        }
        Some(last) => {
            let minutes = (now - last).num_minutes().max(0);
            Finding::ok(
                about,
                format!("the last one was answered {minutes} min ago"),
            )
        }
    }
}

fn check_source(config: &Config, name: &str, source: &OriginTime, now: DateTime<Utc>) -> Finding {
    let about = format!("source {} of {name}", one_line(&source.origin));
    let limit = config.stale_after.num_hours();
    let age = now - source.last_asserted;
    if age <= config.stale_after {
        let minutes = age.num_minutes().max(0);
        return Finding::ok(about, format!("the last statement was {minutes} min ago"));
    }
    let hours = age.num_hours();
    let what = format!("no statement for {hours} h, the limit stale_hours is {limit}");
    Finding::warn(about, what, "check that the program of this source runs")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::finding::Severity;
    use super::*;

    fn config() -> Config {
        let text = "cutoff = \"2026-12-31\"\n[[shops]]\nname = \"a\"\nwarehouses = [1]\n\
                    campaign = 1\nmigrate = \"off\"\n";
        let secrets = ["PUSH_TOKEN", "FEED_KEY"]
            .map(|key| (format!("STOCKBRIDGE_SHOPS_A_{key}"), key.to_owned()));
        Config::parse(text, secrets.into(), Path::new("")).unwrap()
    }

    fn findings_of(status: Value, now: &str) -> Vec<(Severity, String)> {
        let service = ServiceProbe::Running(serde_json::from_value(status).unwrap());
        let findings = evaluate(&config(), &service, now.parse().unwrap());
        // The first finding is that the service is ready.
        findings[1..]
            .iter()
            .map(|finding| (finding.level, finding.to_string()))
            .collect()
    }

    const NOW: &str = "2026-11-21T10:00:00Z";

    #[test]
    fn healthy_service_is_ok() {
        let shop = json!({"name": "a", "cold": false, "last_push": "2026-11-21T09:30:00Z",
            "sources": [{"origin": "api", "last_asserted": "2026-11-21T09:59:00Z"}],
            "migrator": {"quarantined": []}, "new": 1});
        let findings = findings_of(json!({"alarms": [], "shops": [shop]}), NOW);
        assert!(
            findings.iter().all(|(level, _)| *level == Severity::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn reports_alarms_quarantine_and_stale_source() {
        let row = |n: u32| json!({"sku": format!("S{n}"), "reason": "no\nsuch"});
        let rows: Vec<Value> = (1..=7).map(row).collect();
        let shop = json!({"name": "a", "cold": true, "last_push": "2026-11-21T07:00:00Z",
            "sources": [{"origin": "file", "last_asserted": "2026-11-20T09:00:00Z"}],
            "migrator": {"quarantined": rows}});
        let alarm = json!({"alarm": "quarantine", "about": "a", "text": "seven SKUs"});
        let findings = findings_of(json!({"alarms": [alarm], "shops": [shop]}), NOW);
        let expected = [
            (Severity::Warn, "alarm quarantine of a: seven SKUs"),
            (Severity::Warn, "stock of a: the service has no stock"),
            (
                Severity::Fail,
                "S1 (no such); S2 (no such); S3 (no such); S4 (no such); S5 (no such); and 2 more",
            ),
            (
                Severity::Warn,
                "source file of a: no statement for 25 h, the limit stale_hours is 24",
            ),
        ];
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for ((level, line), (expected, text)) in findings.iter().zip(expected) {
            assert!(
                *level == expected && line.contains(text),
                "{text} is not in {line}"
            );
        }
    }

    #[test]
    fn warns_if_the_market_stopped_asking() {
        let shop = json!({"name": "a", "last_push": "2026-11-21T07:00:00Z"});
        let findings = findings_of(json!({"shops": [shop]}), NOW);
        assert!(
            findings[0].1.contains("the last push request was 3 h ago"),
            "{findings:?}"
        );
    }

    #[test]
    fn after_the_cutoff_no_push_is_expected() {
        let status = json!({"shops": [{"name": "a", "last_push": null}]});
        let findings = findings_of(status.clone(), "2027-01-01T00:00:00Z");
        assert!(
            findings[0].1.contains("has ended, and no stock is sent"),
            "{findings:?}"
        );
        assert_eq!(findings.len(), 1);
        let before = findings_of(status, NOW);
        assert!(before[0].1.contains("no push request"), "{before:?}");
    }

    #[test]
    fn warns_about_another_configuration() {
        let findings = findings_of(json!({"shops": [{"name": "b"}]}), NOW);
        assert!(
            findings[0].1.contains("restart the service"),
            "{findings:?}"
        );
    }

    #[tokio::test]
    async fn missing_service_is_a_warning() {
        let mut config = config();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.ops_listen = listener.local_addr().unwrap();
        drop(listener);
        let findings = evaluate(&config, &probe(&config).await, NOW.parse().unwrap());
        assert_eq!((findings.len(), findings[0].level), (1, Severity::Warn));
    }
}

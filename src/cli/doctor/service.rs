//! What a running service says of itself.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::finding::Finding;
use crate::cli::healthcheck::ops_url;
use crate::cli::survey::one_line;
use crate::config::{Config, ShopConfig};
use crate::http::{ClientConfig, Trust, client, read_answer};
use crate::migrator::Mode;
use crate::ops::access;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes read of an answer: thousands of SKUs set aside, each with its reason.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// SKUs set aside that are named.
const SKUS_NAMED: usize = 5;

/// The Market asks about hourly: after this long it has missed its turn.
const PUSH_LATE: TimeDelta = TimeDelta::hours(2);

/// What was answered on the operator's listener.
#[derive(Debug)]
pub(super) enum Service {
    /// Nobody is there, or somebody else.
    Silent(String),
    /// It starts or stops.
    NotReady(String),
    /// It serves.
    Up(Status),
}

/// The part of `/status` that is judged. A service of another version may leave things out.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    alarms: Vec<Alarm>,
    #[serde(default)]
    shops: Vec<Shop>,
}

#[derive(Debug, Deserialize)]
struct Alarm {
    alarm: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Default, Deserialize)]
struct Shop {
    name: String,
    #[serde(default)]
    cold: bool,
    #[serde(default)]
    last_push: Option<DateTime<Utc>>,
    #[serde(default)]
    migrator: Option<Lane>,
    #[serde(default)]
    sources: Vec<Source>,
}

#[derive(Debug, Deserialize)]
struct Lane {
    #[serde(default)]
    quarantined: Vec<Aside>,
}

#[derive(Debug, Deserialize)]
struct Aside {
    sku: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Source {
    origin: String,
    #[serde(default)]
    last_asserted: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct Readiness {
    state: String,
}

impl Service {
    /// Whether this shop is known to have no stock.
    pub(super) fn is_cold(&self, name: &str) -> bool {
        match self {
            Self::Up(status) => status
                .shops
                .iter()
                .any(|shop| shop.name == name && shop.cold),
            Self::Silent(_) | Self::NotReady(_) => false,
        }
    }
}

/// Asks `/readyz` and `/status`.
pub(super) async fn ask(config: &Config) -> Service {
    let outbound = ClientConfig {
        total_timeout: PATIENCE,
        trust: Trust::Nobody,
        ..ClientConfig::default()
    };
    let base = ops_url(config.ops_listen);
    let answered = async {
        let http = client(&outbound)?;
        let readiness: Readiness = get(&http, &format!("{base}/readyz")).await?;
        if readiness.state != "ready" {
            return Ok(Service::NotReady(readiness.state));
        }
        anyhow::Ok(Service::Up(get(&http, &format!("{base}/status")).await?))
    };
    answered
        .await
        .unwrap_or_else(|error| Service::Silent(format!("{error:#}")))
}

async fn get<T: DeserializeOwned>(http: &reqwest::Client, url: &str) -> anyhow::Result<T> {
    let request = http.get(url).header(access::HEADER, access::HEADER_VALUE);
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let body = read_answer(answer, MAX_BYTES).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// What it means.
pub(super) fn judge(config: &Config, service: &Service, now: DateTime<Utc>) -> Vec<Finding> {
    let about = "service";
    let place = config.ops_listen;
    let status = match service {
        Service::Silent(reason) => {
            let what = format!("no service answers on {place}: {}", one_line(reason));
            let todo = "start it, or set ops_listen as it was started with";
            return vec![Finding::warn(about, what, todo)];
        }
        Service::NotReady(state) => {
            let what = format!("the service on {place} is {}", one_line(state));
            return vec![Finding::warn(about, what, "run doctor again in a minute")];
        }
        Service::Up(status) => status,
    };
    let mut findings = vec![Finding::ok(
        about,
        format!("it serves, and answers on {place}"),
    )];
    findings.extend(status.alarms.iter().map(judge_alarm));
    for shop in &config.shops {
        match status.shops.iter().find(|known| known.name == shop.name) {
            Some(known) => findings.extend(judge_shop(config, shop, known, now)),
            None => findings.push(Finding::warn(
                format!("shop {}", shop.name),
                "the running service does not have it: the configuration has changed since",
                "restart the service",
            )),
        }
    }
    findings
}

fn judge_alarm(alarm: &Alarm) -> Finding {
    let about = match alarm.about.as_str() {
        "" => format!("alarm {}", alarm.alarm),
        whose => format!("alarm {} of {}", alarm.alarm, one_line(whose)),
    };
    let advice = "see the table of alarms in the README";
    // While these are on, nothing goes out, or a product is not for sale.
    let is_grave = [
        "batch_refused",
        "campaign_paused",
        "clone_guard",
        "selftest_hidden",
    ]
    .contains(&alarm.alarm.as_str());
    if is_grave {
        Finding::fail(about, one_line(&alarm.text), advice)
    } else {
        Finding::warn(about, one_line(&alarm.text), advice)
    }
}

fn judge_shop(
    config: &Config,
    shop: &ShopConfig,
    known: &Shop,
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let name = &shop.name;
    let mut findings = Vec::new();
    if known.cold {
        let what = "the service has no stock of it yet: the Market is answered 503";
        findings.push(Finding::warn(format!("stock of {name}"), what, "feed it"));
    }
    findings.extend(
        known
            .migrator
            .as_ref()
            .and_then(|lane| judge_aside(name, &lane.quarantined)),
    );
    let is_over = config.cutoff < now.date_naive();
    if !is_over && !known.cold {
        findings.push(judge_push(name, known.last_push, now));
    } else if is_over && shop.migrate == Mode::Off {
        let what = "the push API has ended and nothing is forwarded";
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
            .map(|source| judge_source(config, name, source, now)),
    );
    findings
}

fn judge_aside(name: &str, aside: &[Aside]) -> Option<Finding> {
    if aside.is_empty() {
        return None;
    }
    let named = aside.iter().take(SKUS_NAMED);
    let named: Vec<String> = named
        .map(|row| one_line(&format!("{} ({})", row.sku, row.reason)))
        .collect();
    let more = aside.len().saturating_sub(SKUS_NAMED);
    let more = if more > 0 {
        format!(" and {more} more, see /status")
    } else {
        String::new()
    };
    Some(Finding::fail(
        format!("SKUs the Market refuses, of {name}"),
        format!("{}{more}", named.join("; ")),
        "mend them in the seller's program or in the Market's catalogue; they are tried again by \
         themselves",
    ))
}

fn judge_push(name: &str, last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Finding {
    let about = format!("questions about {name}");
    let todo = "see in the cabinet whether the transfer of stock is on, and its address";
    match last {
        None => {
            let what = "the Market has not asked, or not been answered, since the service started";
            Finding::warn(about, what, todo)
        }
        Some(last) if now - last > PUSH_LATE => {
            let what = format!("the Market last asked {} h ago", (now - last).num_hours());
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

fn judge_source(config: &Config, name: &str, source: &Source, now: DateTime<Utc>) -> Finding {
    let about = format!("source {} of {name}", one_line(&source.origin));
    let limit = config.stale_after.num_hours();
    match source.last_asserted {
        Some(last) if now - last <= config.stale_after => Finding::ok(
            about,
            format!("it spoke {} min ago", (now - last).num_minutes().max(0)),
        ),
        Some(last) => {
            let hours = (now - last).num_hours();
            let what = format!("it has been silent for {hours} h, stale_hours is {limit}");
            Finding::warn(
                about,
                what,
                "see whether the program that feeds the stock still runs",
            )
        }
        None => Finding::warn(
            about,
            "it has never spoken",
            "start the program that feeds it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::finding::Level;
    use super::*;

    fn config() -> Config {
        let text = "cutoff = \"2026-12-31\"\n[[shops]]\nname = \"a\"\nwarehouses = [1]\n\
                    campaign = 1\nmigrate = \"off\"\n";
        let secrets = ["PUSH_TOKEN", "FEED_KEY"]
            .map(|key| (format!("STOCKBRIDGE_SHOPS_A_{key}"), key.to_owned()));
        Config::parse(text, secrets.into(), Path::new("")).unwrap()
    }

    fn judged(status: Value, now: &str) -> Vec<(Level, String)> {
        let service = Service::Up(serde_json::from_value(status).unwrap());
        let findings = judge(&config(), &service, now.parse().unwrap());
        // The first says that it serves.
        findings[1..]
            .iter()
            .map(|finding| (finding.level, finding.to_string()))
            .collect()
    }

    const NOW: &str = "2026-11-21T10:00:00Z";

    #[test]
    fn a_service_that_is_well_gives_no_cause_to_look() {
        let shop = json!({"name": "a", "cold": false, "last_push": "2026-11-21T09:30:00Z",
            "sources": [{"origin": "api", "last_asserted": "2026-11-21T09:59:00Z"}],
            "migrator": {"quarantined": []}, "new": 1});
        let findings = judged(json!({"alarms": [], "shops": [shop]}), NOW);
        assert!(
            findings.iter().all(|(level, _)| *level == Level::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn what_it_complains_of_is_passed_on() {
        let aside = |n: u32| json!({"sku": format!("S{n}"), "reason": "no\nsuch"});
        let aside: Vec<Value> = (1..=7).map(aside).collect();
        let shop = json!({"name": "a", "cold": true, "last_push": "2026-11-21T07:00:00Z",
            "sources": [{"origin": "file", "last_asserted": "2026-11-20T09:00:00Z"}],
            "migrator": {"quarantined": aside}});
        let alarm = json!({"alarm": "quarantine", "about": "a", "text": "seven SKUs"});
        let findings = judged(json!({"alarms": [alarm], "shops": [shop]}), NOW);
        let expected = [
            (Level::Warn, "alarm quarantine of a: seven SKUs"),
            (Level::Warn, "stock of a: the service has no stock"),
            (
                Level::Fail,
                "S1 (no such); S2 (no such); S3 (no such); S4 (no such); S5 (no such) and 2 more",
            ),
            (
                Level::Warn,
                "source file of a: it has been silent for 25 h, stale_hours is 24",
            ),
        ];
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for ((level, line), (expected, said)) in findings.iter().zip(expected) {
            assert!(
                *level == expected && line.contains(said),
                "{said} is not in {line}"
            );
        }
    }

    #[test]
    fn a_market_that_has_stopped_asking_is_noticed() {
        let shop = json!({"name": "a", "last_push": "2026-11-21T07:00:00Z"});
        let findings = judged(json!({"shops": [shop]}), NOW);
        assert!(
            findings[0].1.contains("the Market last asked 3 h ago"),
            "{findings:?}"
        );
    }

    #[test]
    fn after_the_cutoff_nobody_waits_for_questions() {
        let status = json!({"shops": [{"name": "a", "last_push": null}]});
        let findings = judged(status.clone(), "2027-01-01T00:00:00Z");
        assert!(
            findings[0].1.contains("has ended and nothing is forwarded"),
            "{findings:?}"
        );
        assert_eq!(findings.len(), 1);
        let before = judged(status, NOW);
        assert!(before[0].1.contains("has not asked"), "{before:?}");
    }

    #[test]
    fn a_service_of_another_configuration_is_noticed() {
        let findings = judged(json!({"shops": [{"name": "b"}]}), NOW);
        assert!(
            findings[0].1.contains("restart the service"),
            "{findings:?}"
        );
    }

    #[tokio::test]
    async fn nobody_at_home_is_worth_a_warning() {
        let mut config = config();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        config.ops_listen = listener.local_addr().unwrap();
        drop(listener);
        let findings = judge(&config, &ask(&config).await, NOW.parse().unwrap());
        assert_eq!((findings.len(), findings[0].level), (1, Level::Warn));
    }
}

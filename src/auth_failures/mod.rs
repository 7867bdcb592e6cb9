//! Throttling of brute force: delay, log and alarm for requests with wrong tokens, keys and
//! passwords.
//!
//! A correct credential is never delayed or rejected here: callers compare it first and call this
//! module only for wrong ones. So an attacker cannot lock out the Market or the seller, even from
//! behind the same proxy. A wrong credential gets its usual response, only later. Memory is
//! bounded: a fixed number of addresses, and the configured names.
//!
//! A repetition of one of the last wrong credentials is counted but not delayed. It comes from a
//! program with an old key or from a probe of the Market, and an attacker learns nothing from it.
//!
//! Non-goal: rejecting connections. The length of the secrets is what makes guessing hopeless; the
//! delay and the alarm give the operator time to react.

mod client_address;
mod failure_counts;

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::request::Parts;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::warn;

pub use client_address::Network;

use lifecycle::Clock;
use strict_http::PeerAddr;

use self::client_address::client_address;
use self::failure_counts::{ALARM_WINDOW, AuthFailure, FailureCounts, FailureReport};
use crate::telemetry::{AlarmKind, Alarms};

/// Maximum responses delayed at a time. A quarter of all connections is a second limit, because
/// each delayed response occupies a connection.
const MAX_DELAYED: usize = 1_000;

/// Kind of a credential.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Credential {
    /// Token of the Market's push API.
    PushToken,
    /// Key of the seller's program.
    FeedKey,
    /// Login and password, or session, of 1C's exchange.
    ExchangeLogin,
    /// Password of the operator's pages.
    OperatorPassword,
}

impl Credential {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the label in metrics.
    fn label(self) -> &'static str {
        self.into()
    }

    fn metric_labels(self) -> [(&'static str, &'static str); 1] {
        [("credential", self.label())]
    }

    /// Returns the name in logs and alarms.
    fn description(self) -> &'static str {
        match self {
            Self::PushToken => "push token",
            Self::FeedKey => "feed key",
            Self::ExchangeLogin => "1C login",
            Self::OperatorPassword => "operator password",
        }
    }
}

/// Counts and delays of wrong credentials. Cheap to clone: all clones share one state.
#[derive(Clone, Debug)]
pub struct AuthFailures(Arc<AuthFailuresInner>);

#[derive(Debug)]
struct AuthFailuresInner {
    clock: Clock,
    alarms: Alarms,
    trusted_proxies: Vec<Network>,
    delayed: Semaphore,
    hasher: RandomState,
    counts: Family<[(&'static str, &'static str); 1], Counter>,
    state: Mutex<FailureCounts>,
}

impl AuthFailures {
    /// Creates an empty state for a listener of at most `max_connections`.
    ///
    /// The header `X-Forwarded-For` counts only in requests from `trusted_proxies`.
    #[must_use]
    pub fn new(
        clock: Clock,
        alarms: Alarms,
        trusted_proxies: Vec<Network>,
        max_connections: usize,
    ) -> Self {
        let counts = Family::default();
        for &credential in Credential::ALL {
            // Created now, so that the metric shows 0 before the first failure.
            drop(counts.get_or_create(&credential.metric_labels()));
        }
        Self(Arc::new(AuthFailuresInner {
            clock,
            alarms,
            trusted_proxies,
            delayed: Semaphore::new(MAX_DELAYED.min(max_connections / 4)),
            hasher: RandomState::new(),
            counts,
            state: Mutex::default(),
        }))
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "auth_failures",
            "Requests with a wrong credential, by its kind",
            self.0.counts.clone(),
        );
    }

    /// Records a request with a wrong credential and waits for the delay of its response.
    ///
    /// `name` is the configured path, campaign or exchange that the credential would open, never a
    /// text from the request, because memory per name is not limited otherwise. `offered` is the
    /// wrong credential itself; only a hash of it is kept.
    pub async fn penalize(&self, credential: Credential, name: &str, offered: &str, head: &Parts) {
        let inner = &*self.0;
        let peer = head.extensions.get::<PeerAddr>().map(|peer| peer.0.ip());
        let client = peer.map(|peer| client_address(peer, &head.headers, &inner.trusted_proxies));
        let labels = credential.metric_labels();
        inner.counts.get_or_create(&labels).inc();
        let now = inner.clock.now();
        let guess = inner.hasher.hash_one((credential, offered));
        let failure = AuthFailure {
            credential,
            name,
            client,
            guess,
        };
        let (delay, report) = inner.state.lock().record(failure, now);
        inner.report(credential, name, client, report);
        if delay.is_zero() {
            return;
        }
        // Without a permit the response is sent at once: delayed responses occupy connections,
        // which the Market needs too.
        if let Ok(_permit) = inner.delayed.try_acquire() {
            sleep(delay).await;
        }
    }
}

impl AuthFailuresInner {
    fn report(
        &self,
        credential: Credential,
        name: &str,
        client: Option<IpAddr>,
        report: FailureReport,
    ) {
        let description = credential.description();
        let client = client.map_or("an unknown address".to_owned(), |client| client.to_string());
        if let Some(count) = report.log {
            warn!(
                credential = credential.label(),
                count,
                "{count} requests with a wrong {description} since the last line like this; the \
                 latest was for {name} from {client}"
            );
        }
        if let Some((count, since)) = report.alarm {
            let text = format!(
                "{count} requests with a wrong {description} for {name} since {since}; the latest \
                 came from {client}. Requests with a correct {description} are still accepted. \
                 Update the program that sends an old {description}, or block the address in front \
                 of this service"
            );
            self.alarms
                .raise_for(AlarmKind::AuthFailures, name, text, ALARM_WINDOW);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::Request;
    use chrono::{DateTime, Utc};
    use tokio::time::Instant;

    use super::failure_counts::MAX_DELAY;
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn head(peer: &str) -> Parts {
        let mut head = Request::new(()).into_parts().0;
        head.extensions
            .insert(PeerAddr(format!("{peer}:1").parse().unwrap()));
        head
    }

    #[tokio::test(start_paused = true)]
    async fn delays_responses_and_raises_an_alarm() {
        let clock = Clock::starting_at(at(0));
        let alarms = Alarms::new(clock);
        let failures = AuthFailures::new(clock, alarms.clone(), Vec::new(), 10_000);
        let head = head("192.0.2.1");
        let start = Instant::now();
        let guess = async |n: u32| {
            failures
                .penalize(Credential::FeedKey, "campaign 1", &n.to_string(), &head)
                .await;
        };
        for n in 0..10 {
            guess(n).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for n in 10..110 {
            guess(n).await;
        }
        // One connection gets fewer than 20 guesses per minute.
        assert!(
            start.elapsed() > Duration::from_mins(5),
            "{:?}",
            start.elapsed()
        );
        let active = alarms.active();
        assert_eq!((active.len(), active[0].alarm), (1, "auth_failures"));
        assert!(
            active[0].text.contains("from 192.0.2.1"),
            "{}",
            active[0].text
        );
        tokio::time::advance(Duration::from_hours(2)).await;
        assert!(alarms.active().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn limits_the_number_of_delayed_responses() {
        let clock = Clock::starting_at(at(0));
        let failures = AuthFailures::new(clock, Alarms::new(clock), Vec::new(), 10_000);
        let head = head("192.0.2.1");
        let start = Instant::now();
        let (failures, head) = (&failures, &head);
        let all = (0..MAX_DELAYED + 500).map(|n| async move {
            failures
                .penalize(Credential::FeedKey, "campaign 1", &n.to_string(), head)
                .await;
            start.elapsed()
        });
        let waited = futures_util::future::join_all(all).await;
        let delayed = waited.iter().filter(|waited| !waited.is_zero()).count();
        assert_eq!(delayed, MAX_DELAYED);
        assert!(waited.iter().all(|waited| *waited <= MAX_DELAY));
    }
}

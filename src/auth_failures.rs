//! Wrong tokens, keys and passwords: counted, delayed, logged and reported by an alarm.
//!
//! Guarantees: a correct credential is never delayed or refused here, because callers compare it
//! first and come only with wrong ones. So nobody can lock the Market or the seller out, also not
//! from behind the same proxy. Memory is bounded: a fixed number of addresses, and the configured
//! names. A wrong credential gets the response it always gets, only later. Repeating one of the
//! last wrong credentials is counted, but not delayed: it is a program with an old key, or the
//! Market's probe, and teaches a guesser nothing.
//!
//! Non-goal: refusing connections. Guessing in earnest is stopped by the length of the secrets;
//! the delay and the alarm give the operator time to react.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::warn;

use crate::clock::Clock;
use crate::http::PeerAddr;
use crate::telemetry::{AlarmKind, Alarms};

/// Most responses delayed at a time, and at most a quarter of all connections: each of them holds
/// one.
const MAX_DELAYED: usize = 1_000;

/// Most addresses remembered; all others share one count.
const MAX_ADDRESSES: usize = 4_096;

/// The longest delay. The Market probes with wrong tokens and waits 27 s for the response.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The first delay; each further failure doubles it.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// Different wrong credentials of one address without a delay: 10, and 10 more each minute.
const ADDRESS_ALLOWANCE: FailureAllowance = FailureAllowance {
    burst: 10.0,
    per_second: 10.0 / 60.0,
};

/// The same at one name: 60, and 60 more each minute.
const NAME_ALLOWANCE: FailureAllowance = FailureAllowance {
    burst: 60.0,
    per_second: 1.0,
};

/// Wrong credentials of each address that are known again.
const MAX_RECENT_GUESSES: usize = 8;

/// Failures beyond the free ones that are remembered: they decide how long it takes to be
/// forgiven.
const MAX_EXCESS: f64 = 60.0;

/// Failures at one name within [`ALARM_WINDOW`] that raise the alarm. The Market's own probes
/// stay far below.
const ALARM_THRESHOLD: u64 = 100;

const ALARM_WINDOW: TimeDelta = TimeDelta::hours(1);

/// Between two log lines about one kind of credential, and between two wordings of an alarm.
const REPORT_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// Between two searches for addresses that can be forgotten.
const SWEEP_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// What was wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Credential {
    /// The token of the Market's push API.
    PushToken,
    /// The key of the seller's program.
    FeedKey,
    /// Login and password, or the session, of 1C's exchange.
    ExchangeLogin,
}

impl Credential {
    const ALL: [Self; 3] = [Self::PushToken, Self::FeedKey, Self::ExchangeLogin];

    /// The label in metrics.
    fn label(self) -> &'static str {
        match self {
            Self::PushToken => "push_token",
            Self::FeedKey => "feed_key",
            Self::ExchangeLogin => "exchange_login",
        }
    }

    /// The words in logs and alarms.
    fn description(self) -> &'static str {
        match self {
            Self::PushToken => "push token",
            Self::FeedKey => "feed key",
            Self::ExchangeLogin => "1C login",
        }
    }
}

/// A network, or a single address, as the configuration names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `10.0.0.0/8`, `2001:db8::/32` or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits)?,
            None => bits,
        };
        Some(Self { address, prefix })
    }

    fn contains(self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let difference = network.to_bits() ^ ip.to_bits();
                difference
                    .checked_shr(32 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let difference = network.to_bits() ^ ip.to_bits();
                difference
                    .checked_shr(128 - u32::from(self.prefix))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// See the module. Cheap to clone: all clones share one state.
#[derive(Clone, Debug)]
pub struct AuthFailures(Arc<AuthFailuresInner>);

#[derive(Debug)]
struct AuthFailuresInner {
    clock: Clock,
    alarms: Alarms,
    trusted_proxies: Vec<Network>,
    delayed: Semaphore,
    hasher: RandomState,
    counts: Family<AuthFailureLabels, Counter>,
    state: Mutex<State>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AuthFailureLabels {
    credential: &'static str,
}

impl AuthFailures {
    /// Creates an empty state for a listener of at most `max_connections`. Of `trusted_proxies`
    /// the header `X-Forwarded-For` is believed.
    #[must_use]
    pub fn new(
        clock: Clock,
        alarms: Alarms,
        trusted_proxies: Vec<Network>,
        max_connections: usize,
    ) -> Self {
        let counts = Family::default();
        for credential in Credential::ALL {
            // Shown as 0 before the first failure.
            drop(counts.get_or_create(&AuthFailureLabels {
                credential: credential.label(),
            }));
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

    /// Makes the counts visible.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "auth_failures",
            "Requests with a wrong credential, by its kind",
            self.0.counts.clone(),
        );
    }

    /// Records a request with a wrong credential and waits as long as its response is to be
    /// delayed. `name` is what the credential would open: a configured name, never one from the
    /// request. `offered` is the wrong credential itself; of it only a hash is kept.
    pub async fn penalize(&self, credential: Credential, name: &str, offered: &str, head: &Parts) {
        let inner = &*self.0;
        let peer = head.extensions.get::<PeerAddr>().map(|peer| peer.0.ip());
        let client = peer.map(|peer| client_address(peer, &head.headers, &inner.trusted_proxies));
        inner
            .counts
            .get_or_create(&AuthFailureLabels {
                credential: credential.label(),
            })
            .inc();
        let now = inner.clock.now();
        let guess = inner.hasher.hash_one((credential, offered));
        let failure = AuthFailure {
            credential,
            name,
            client,
            guess,
        };
        let (delay, report) = inner.state().record(failure, now);
        inner.report(credential, name, client, report);
        if delay.is_zero() {
            return;
        }
        // Beyond that many the response goes out at once: delayed ones hold connections, which
        // are the Market's too.
        if let Ok(_permit) = inner.delayed.try_acquire() {
            sleep(delay).await;
        }
    }
}

impl AuthFailuresInner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(
        &self,
        credential: Credential,
        name: &str,
        client: Option<IpAddr>,
        report: FailureReport,
    ) {
        let words = credential.description();
        let client = client.map_or("an unknown address".to_owned(), |client| client.to_string());
        if let Some(count) = report.log {
            warn!(
                credential = credential.label(),
                count,
                "{count} requests with a wrong {words} since the last such line, the last for \
                 {name} from {client}"
            );
        }
        if let Some((count, since)) = report.alarm {
            let text = format!(
                "{count} requests with a wrong {words} for {name} since {since}, the last from \
                 {client}. Correct ones are accepted as before. Correct the program that sends an \
                 old {words}, or block the address in front of this service"
            );
            self.alarms
                .raise_for(AlarmKind::AuthFailures, name, text, ALARM_WINDOW);
        }
    }
}

/// What to tell the operator of one failure.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct FailureReport {
    /// Failures since the last log line, if it is time for one.
    log: Option<u64>,
    /// Failures at the name and since when, if they are many and it is time to say so.
    alarm: Option<(u64, DateTime<Utc>)>,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, AddressFailures>,
    // Of the addresses there was no room for, and of requests without any.
    other_addresses: AddressFailures,
    last_sweep: Option<DateTime<Utc>>,
    names: HashMap<(&'static str, String), NameFailures>,
    logs: HashMap<&'static str, LogThrottle>,
}

/// One request with a wrong credential.
#[derive(Clone, Copy, Debug)]
struct AuthFailure<'a> {
    credential: Credential,
    name: &'a str,
    client: Option<IpAddr>,
    // A hash of what was offered.
    guess: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AddressFailures {
    bucket: FailureBucket,
    recent_guesses: [Option<u64>; MAX_RECENT_GUESSES],
    // Where the next one goes.
    next_slot: usize,
}

/// Failures that are not forgiven yet.
#[derive(Clone, Copy, Debug, Default)]
struct FailureBucket {
    level: f64,
    updated_at: Option<DateTime<Utc>>,
}

/// How many failures go without a delay.
#[derive(Clone, Copy, Debug)]
struct FailureAllowance {
    burst: f64,
    per_second: f64,
}

#[derive(Debug, Default)]
struct NameFailures {
    bucket: FailureBucket,
    // The failures of the current window.
    window_start: Option<DateTime<Utc>>,
    count: u64,
    last_reported: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
struct LogThrottle {
    count: u64,
    last_written: Option<DateTime<Utc>>,
}

impl State {
    fn record(
        &mut self,
        failure: AuthFailure<'_>,
        now: DateTime<Utc>,
    ) -> (Duration, FailureReport) {
        let AuthFailure {
            credential,
            name,
            client,
            guess,
        } = failure;
        let address = self.address_failures(client, now);
        let is_new = address.record_guess(guess);
        let address_excess = if is_new {
            address.bucket.add(now, ADDRESS_ALLOWANCE)
        } else {
            0.0
        };
        let key = (credential.label(), name.to_owned());
        let entry = self.names.entry(key).or_default();
        let name_excess = if is_new {
            entry.bucket.add(now, NAME_ALLOWANCE)
        } else {
            0.0
        };
        let alarm = entry.record(now);
        let log = self.logs.entry(credential.label()).or_default().record(now);
        (
            delay_for(address_excess.max(name_excess)),
            FailureReport { log, alarm },
        )
    }

    fn address_failures(
        &mut self,
        client: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> &mut AddressFailures {
        let Some(client) = client.map(address_group) else {
            return &mut self.other_addresses;
        };
        if !self.addresses.contains_key(&client) && self.addresses.len() >= MAX_ADDRESSES {
            if self
                .last_sweep
                .is_none_or(|swept| has_elapsed(swept, SWEEP_INTERVAL, now))
            {
                self.last_sweep = Some(now);
                self.addresses
                    .retain(|_, address| address.bucket.level_at(now, ADDRESS_ALLOWANCE) > 0.0);
            }
            if self.addresses.len() >= MAX_ADDRESSES {
                return &mut self.other_addresses;
            }
        }
        self.addresses.entry(client).or_default()
    }
}

impl AddressFailures {
    /// Whether this wrong credential is none of the last ones; it is one of them from now on.
    fn record_guess(&mut self, guess: u64) -> bool {
        if self.recent_guesses.contains(&Some(guess)) {
            return false;
        }
        self.recent_guesses[self.next_slot] = Some(guess);
        self.next_slot = (self.next_slot + 1) % MAX_RECENT_GUESSES;
        true
    }
}

impl FailureBucket {
    fn level_at(&self, now: DateTime<Utc>, allowance: FailureAllowance) -> f64 {
        // A clock that was set back forgives nothing.
        let passed = self
            .updated_at
            .map_or(0.0, |at| (now - at).as_seconds_f64().max(0.0));
        (self.level - passed * allowance.per_second).max(0.0)
    }

    /// Adds a failure; returns how many there are beyond the free ones.
    fn add(&mut self, now: DateTime<Utc>, allowance: FailureAllowance) -> f64 {
        let level = self.level_at(now, allowance) + 1.0;
        self.level = level.min(allowance.burst + MAX_EXCESS);
        self.updated_at = Some(now);
        self.level - allowance.burst
    }
}

impl NameFailures {
    fn record(&mut self, now: DateTime<Utc>) -> Option<(u64, DateTime<Utc>)> {
        let since = self
            .window_start
            .filter(|since| !has_elapsed(*since, ALARM_WINDOW, now));
        let since = since.unwrap_or_else(|| {
            (self.window_start, self.count, self.last_reported) = (Some(now), 0, None);
            now
        });
        self.count += 1;
        let is_due = self
            .last_reported
            .is_none_or(|at| has_elapsed(at, REPORT_INTERVAL, now));
        (self.count >= ALARM_THRESHOLD && is_due).then(|| {
            self.last_reported = Some(now);
            (self.count, since)
        })
    }
}

impl LogThrottle {
    fn record(&mut self, now: DateTime<Utc>) -> Option<u64> {
        self.count += 1;
        let is_due = self
            .last_written
            .is_none_or(|at| has_elapsed(at, REPORT_INTERVAL, now));
        is_due.then(|| {
            self.last_written = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

/// Whether `span` has passed since `at`; also if the clock was set back behind it.
fn has_elapsed(at: DateTime<Utc>, span: TimeDelta, now: DateTime<Utc>) -> bool {
    now - at >= span || now < at
}

/// The delay of a failure that is the `excess`-th beyond the free ones.
fn delay_for(excess: f64) -> Duration {
    if excess <= 0.0 {
        return Duration::ZERO;
    }
    MIN_DELAY
        .mul_f64((excess - 1.0).clamp(0.0, 10.0).exp2())
        .min(MAX_DELAY)
}

/// The addresses that count as one: an IPv6 customer has at least a /64.
fn address_group(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Who sent a request: the peer, or, if it is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not one. What stands before that may be the client's invention.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[Network]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted_proxies.iter().any(|network| network.contains(ip));
    let mut client = peer.to_canonical();
    if !is_trusted(client) {
        return client;
    }
    let fields: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|field| field.to_str().unwrap_or("-"))
        .flat_map(|field| field.split(','))
        .collect();
    for field in fields.iter().rev() {
        let Some(ip) = parse_forwarded(field.trim()) else {
            return client;
        };
        client = ip;
        if !is_trusted(ip) {
            break;
        }
    }
    client
}

/// An address of `X-Forwarded-For`, with or without brackets and port.
fn parse_forwarded(field: &str) -> Option<IpAddr> {
    let plain = || field.parse::<IpAddr>().ok();
    let with_port = || {
        field
            .parse::<std::net::SocketAddr>()
            .ok()
            .map(|addr| addr.ip())
    };
    let bracketed = || {
        field
            .strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<IpAddr>()
            .ok()
    };
    plain()
        .or_else(with_port)
        .or_else(bracketed)
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use tokio::time::Instant;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn head(peer: &str, forwarded: &[&str]) -> Parts {
        let mut request = Request::builder();
        for field in forwarded {
            request = request.header("X-Forwarded-For", *field);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        head.extensions
            .insert(PeerAddr(format!("{peer}:1").parse().unwrap()));
        head
    }

    fn failure<'a>(name: &'a str, client: &str, guess: u64) -> AuthFailure<'a> {
        AuthFailure {
            credential: Credential::FeedKey,
            name,
            client: Some(ip(client)),
            guess,
        }
    }

    /// The delay of a new guess.
    fn delay_millis(state: &mut State, client: &str, now: i64) -> u128 {
        let guess = rand::random();
        state
            .record(failure("campaign 1", client, guess), at(now))
            .0
            .as_millis()
    }

    #[test]
    fn delays_double_after_the_free_failures_and_are_forgiven_with_time() {
        let mut state = State::default();
        for _ in 0..10 {
            assert_eq!(delay_millis(&mut state, "192.0.2.1", 0), 0);
        }
        for expected in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            assert_eq!(delay_millis(&mut state, "192.0.2.1", 0), expected);
        }
        assert_eq!(
            delay_millis(&mut state, "192.0.2.2", 0),
            0,
            "another address"
        );
        for _ in 0..1_000 {
            delay_millis(&mut state, "192.0.2.1", 1);
        }
        // The most remembered is 60 beyond the free 10, at 10 a minute.
        assert_eq!(delay_millis(&mut state, "192.0.2.1", 300), 5000);
        assert_eq!(delay_millis(&mut state, "192.0.2.1", 800), 0);
        // A clock set back neither forgives nor panics.
        assert_eq!(delay_millis(&mut state, "192.0.2.1", -9_000), 0);
    }

    #[test]
    fn repeating_a_wrong_credential_is_never_delayed() {
        let mut state = State::default();
        for n in 0..1_000 {
            let repeated = state.record(failure("campaign 1", "192.0.2.1", n % 8), at(0));
            assert_eq!(repeated.0, Duration::ZERO);
        }
        assert_eq!(
            delay_millis(&mut state, "192.0.2.1", 0),
            0,
            "the ninth guess"
        );
        assert_eq!(delay_millis(&mut state, "192.0.2.1", 0), 0, "the tenth");
        assert_eq!(
            delay_millis(&mut state, "192.0.2.1", 0),
            100,
            "the eleventh"
        );
    }

    #[test]
    fn many_addresses_at_one_name_are_delayed_together() {
        let mut state = State::default();
        let delays: Vec<u128> = (0..70)
            .map(|n| delay_millis(&mut state, &format!("192.0.2.{n}"), 0))
            .collect();
        assert!(delays[..60].iter().all(|delay| *delay == 0));
        assert_eq!(delays[60..63], [100, 200, 400]);
        let other = state.record(failure("campaign 2", "192.0.2.99", 1), at(0));
        assert_eq!(other.0, Duration::ZERO, "another name");
    }

    #[test]
    fn addresses_take_bounded_memory_and_the_rest_share_one_count() {
        let mut state = State::default();
        let client = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n));
        let names: Vec<String> = (0..200).map(|n| format!("campaign {n}")).collect();
        let mut record = |n: u32, now| {
            let name = &names[n as usize % names.len()];
            let client = Some(client(n));
            let guess = rand::random();
            let credential = Credential::FeedKey;
            state
                .record(
                    AuthFailure {
                        credential,
                        name,
                        client,
                        guess,
                    },
                    at(now),
                )
                .0
        };
        for n in 0..5_000 {
            record(n, i64::from(n / 1000));
        }
        assert_eq!(record(6_000, 5), MAX_DELAY, "the shared count");
        assert_eq!(record(10, 5), Duration::ZERO, "an address of its own");
        // A minute later the first are forgiven, and there is room again.
        assert_eq!(record(7_000, 600), Duration::ZERO);
        assert!(state.addresses.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn ipv6_addresses_of_one_customer_are_one_source() {
        assert_eq!(
            address_group(ip("2001:db8:1:2:3:4:5:6")),
            ip("2001:db8:1:2::")
        );
        assert_eq!(address_group(ip("192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn forwarded_addresses_are_believed_of_trusted_proxies_only() {
        let proxies = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].map(|n| Network::parse(n).unwrap());
        for (peer, forwarded, expected) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                vec!["203.0.113.9, 198.51.100.7"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                vec!["203.0.113.9", "198.51.100.7, 10.2.2.2"],
                "198.51.100.7",
            ),
            ("127.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("127.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("127.0.0.1", vec!["203.0.113.9, nonsense"], "127.0.0.1"),
            ("127.0.0.1", vec!["nonsense, 10.2.2.2"], "10.2.2.2"),
        ] {
            let peer = ip(peer);
            let headers = head("192.0.2.1", &forwarded).headers;
            assert_eq!(
                client_address(peer, &headers, &proxies),
                ip(expected),
                "{peer} {forwarded:?}"
            );
        }
    }

    #[test]
    fn networks_are_parsed_strictly() {
        for (text, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.255", "10.2.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "192.0.2.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let network = Network::parse(text).unwrap();
            assert!(network.contains(ip(inside)), "{text}");
            assert!(!network.contains(ip(outside)), "{text}");
        }
        for wrong in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn log_lines_come_once_a_minute_with_a_count_and_the_alarm_after_many() {
        let mut state = State::default();
        // The same wrong token each time: no guess, but the operator should know.
        let mut record = |now| state.record(failure("/stocks", "192.0.2.1", 7), at(now)).1;
        assert_eq!(record(0).log, Some(1));
        let reports: Vec<FailureReport> = (0..150).map(|n| record(n / 3)).collect();
        assert!(reports.iter().all(|report| report.log.is_none()));
        let alarms: Vec<_> = reports.iter().filter_map(|report| report.alarm).collect();
        assert_eq!(alarms, [(100, at(0))]);
        assert_eq!(record(60).log, Some(151));
        assert_eq!(
            record(120),
            FailureReport {
                log: Some(1),
                alarm: Some((153, at(0)))
            }
        );
        // Counted anew after an hour.
        assert_eq!(
            record(4_000),
            FailureReport {
                log: Some(1),
                alarm: None
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn responses_are_delayed_and_the_alarm_is_raised_and_ends() {
        let clock = Clock::starting_at(at(0));
        let alarms = Alarms::new(clock);
        let failures = AuthFailures::new(clock, alarms.clone(), Vec::new(), 10_000);
        let head = head("192.0.2.1", &[]);
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
        // One connection gets less than 20 guesses a minute.
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
    async fn only_so_many_responses_are_delayed_at_a_time() {
        let clock = Clock::starting_at(at(0));
        let failures = AuthFailures::new(clock, Alarms::new(clock), Vec::new(), 10_000);
        let head = head("192.0.2.1", &[]);
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

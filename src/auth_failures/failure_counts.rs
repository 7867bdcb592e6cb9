//! Counts of wrong credentials per address and per name. Pure: the time is an argument.
//!
//! Decides how long a response is delayed, and when a log line or an alarm is due.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Credential;
use super::client_address::address_group;

/// Maximum addresses with a count of their own; all others share one.
const MAX_ADDRESSES: usize = 4_096;

/// Longest delay. The Market probes with wrong tokens and waits 27 s for the response.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(5);

/// First delay; each further failure doubles it.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// Different wrong credentials per address without a delay: 10, and 10 more each minute.
const ADDRESS_ALLOWANCE: FailureAllowance = FailureAllowance {
    burst: 10.0,
    per_second: 10.0 / 60.0,
};

/// Different wrong credentials per name without a delay: 60, and 60 more each minute.
const NAME_ALLOWANCE: FailureAllowance = FailureAllowance {
    burst: 60.0,
    per_second: 1.0,
};

/// Last wrong credentials kept per address, to recognise a repetition.
const MAX_RECENT_GUESSES: usize = 8;

/// Maximum failures kept above an allowance. At the rate of [`ADDRESS_ALLOWANCE`], they expire
/// within 6 minutes.
const MAX_EXCESS: f64 = 60.0;

/// Failures per name within [`ALARM_WINDOW`] that raise the alarm. The Market's own probes stay
/// far below.
const ALARM_THRESHOLD: u64 = 100;

/// Window in which failures per name are counted for the alarm, and duration of the alarm.
pub(super) const ALARM_WINDOW: TimeDelta = TimeDelta::hours(1);

/// Minimum time between two log lines about one kind of credential, and between two updates of an
/// alarm's text.
const REPORT_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// Minimum time between two searches for addresses without failures.
const SWEEP_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// Log line and alarm that one failure leads to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FailureReport {
    /// Failures since the last log line, if a line is due.
    pub(super) log: Option<u64>,
    /// Failures per name and the start of their window, if an alarm is due.
    pub(super) alarm: Option<(u64, DateTime<Utc>)>,
}

/// Counts of all addresses and names.
#[derive(Debug, Default)]
pub(super) struct FailureCounts {
    addresses: HashMap<IpAddr, AddressFailures>,
    // Shared by addresses above MAX_ADDRESSES and by requests without an address.
    other_addresses: AddressFailures,
    last_sweep: Option<DateTime<Utc>>,
    names: HashMap<(&'static str, String), NameFailures>,
    logs: HashMap<&'static str, LogThrottle>,
}

/// Request with a wrong credential.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthFailure<'a> {
    pub(super) credential: Credential,
    pub(super) name: &'a str,
    pub(super) client: Option<IpAddr>,
    // Hash of the wrong credential.
    pub(super) guess: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct AddressFailures {
    bucket: FailureBucket,
    recent_guesses: [Option<u64>; MAX_RECENT_GUESSES],
    // Index of `recent_guesses` that is overwritten next.
    next_slot: usize,
}

/// Leaky bucket of failures.
#[derive(Clone, Copy, Debug, Default)]
struct FailureBucket {
    level: f64,
    updated_at: Option<DateTime<Utc>>,
}

/// Number of failures without a delay, and the rate at which it is restored.
#[derive(Clone, Copy, Debug)]
struct FailureAllowance {
    burst: f64,
    per_second: f64,
}

#[derive(Debug, Default)]
struct NameFailures {
    bucket: FailureBucket,
    // Failures of the current alarm window.
    window_start: Option<DateTime<Utc>>,
    count: u64,
    last_reported: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
struct LogThrottle {
    count: u64,
    last_written: Option<DateTime<Utc>>,
}

impl FailureCounts {
    /// Counts a failure; returns the delay of its response and what is due to be reported.
    pub(super) fn record(
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
            if is_due(self.last_sweep, SWEEP_INTERVAL, now) {
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
    /// Records a wrong credential; returns false if it is one of the last ones.
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
        // A clock that was set back does not lower the level.
        let passed = self
            .updated_at
            .map_or(0.0, |at| (now - at).as_seconds_f64().max(0.0));
        (self.level - passed * allowance.per_second).max(0.0)
    }

    /// Adds a failure; returns the failures above the allowance.
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
        let is_due = is_due(self.last_reported, REPORT_INTERVAL, now);
        (self.count >= ALARM_THRESHOLD && is_due).then(|| {
            self.last_reported = Some(now);
            (self.count, since)
        })
    }
}

impl LogThrottle {
    fn record(&mut self, now: DateTime<Utc>) -> Option<u64> {
        self.count += 1;
        is_due(self.last_written, REPORT_INTERVAL, now).then(|| {
            self.last_written = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

/// Returns true if there was no `last` time, or if `span` [has elapsed](has_elapsed) since.
fn is_due(last: Option<DateTime<Utc>>, span: TimeDelta, now: DateTime<Utc>) -> bool {
    last.is_none_or(|at| has_elapsed(at, span, now))
}

/// Returns true if `span` has passed since `at`, or if the clock was set back to before `at`.
fn has_elapsed(at: DateTime<Utc>, span: TimeDelta, now: DateTime<Utc>) -> bool {
    now - at >= span || now < at
}

/// Returns the delay of a failure that is the `excess`-th above the allowance.
fn delay_for(excess: f64) -> Duration {
    if excess <= 0.0 {
        return Duration::ZERO;
    }
    MIN_DELAY
        .mul_f64((excess - 1.0).clamp(0.0, 10.0).exp2())
        .min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + seconds, 0).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failure<'a>(name: &'a str, client: &str, guess: u64) -> AuthFailure<'a> {
        AuthFailure {
            credential: Credential::FeedKey,
            name,
            client: Some(ip(client)),
            guess,
        }
    }

    /// Returns the delay of a new guess, in milliseconds.
    fn delay_millis(state: &mut FailureCounts, client: &str, now: i64) -> u128 {
        let guess = rand::random();
        state
            .record(failure("campaign 1", client, guess), at(now))
            .0
            .as_millis()
    }

    #[test]
    fn delays_double_above_the_allowance_and_expire() {
        let mut state = FailureCounts::default();
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
        // At most 60 failures above the allowance of 10 are kept; 10 expire per minute.
        assert_eq!(delay_millis(&mut state, "192.0.2.1", 300), 5000);
        assert_eq!(delay_millis(&mut state, "192.0.2.1", 800), 0);
        // A clock that was set back neither lowers the level nor panics.
        assert_eq!(delay_millis(&mut state, "192.0.2.1", -9_000), 0);
    }

    #[test]
    fn repeated_credential_is_not_delayed() {
        let mut state = FailureCounts::default();
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
    fn delays_many_addresses_at_one_name() {
        let mut state = FailureCounts::default();
        let delays: Vec<u128> = (0..70)
            .map(|n| delay_millis(&mut state, &format!("192.0.2.{n}"), 0))
            .collect();
        assert!(delays[..60].iter().all(|delay| *delay == 0));
        assert_eq!(delays[60..63], [100, 200, 400]);
        let other = state.record(failure("campaign 2", "192.0.2.99", 1), at(0));
        assert_eq!(other.0, Duration::ZERO, "another name");
    }

    #[test]
    fn addresses_above_the_limit_share_one_count() {
        let mut state = FailureCounts::default();
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
        // Ten minutes later the first failures have expired, and new addresses fit again.
        assert_eq!(record(7_000, 600), Duration::ZERO);
        assert!(state.addresses.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn logs_once_a_minute_and_alarms_after_100() {
        let mut state = FailureCounts::default();
        // The same wrong token each time: no guess, so no delay, but it is reported.
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
        // A new window begins after an hour.
        assert_eq!(
            record(4_000),
            FailureReport {
                log: Some(1),
                alarm: None
            }
        );
    }
}

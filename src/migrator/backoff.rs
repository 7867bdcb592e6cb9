//! Backoff, parallelism and choice of the Api-Key for one campaign. Pure: time and randomness are
//! arguments.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// Upper bound of the first pause after a failed request. The bound doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Upper bound of the longest pause after failed requests. The Market's best practices ask for
/// growing pauses with jitter; the numbers are ours.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// Shortest pause after the Market reports too many parallel requests. With jitter, it is up to
/// twice as long.
const PARALLELISM_PAUSE: Duration = Duration::from_secs(1);
/// Time at reduced parallelism before one more parallel request is tried.
const REDUCED_PARALLELISM_PERIOD: Duration = Duration::from_mins(1);

/// First pause after the rate limit is used up and the response gives no usable wait; doubles.
const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(1);
/// Shortest usable wait from a response. A shorter one is replaced by this wait; if the rate limit
/// is still used up after it, the pause grows as without a wait.
const MIN_SERVER_WAIT: Duration = Duration::from_secs(1);
/// Longest pause after the rate limit is used up.
const MAX_RATE_LIMIT_PAUSE: Duration = Duration::from_mins(10);

/// First pause after all keys are rejected; doubles. A new or changed key takes effect within ten
/// minutes. Source: the Market's page on keys.
const AUTH_REJECTED_PAUSE: Duration = Duration::from_mins(1);
/// Longest pause after all keys are rejected.
const MAX_AUTH_REJECTED_PAUSE: Duration = Duration::from_mins(10);

/// Pause between requests to a campaign that is unavailable.
const UNAVAILABLE_PAUSE: Duration = Duration::from_hours(1);

/// Delay from the error of an unavailable campaign to its first probe, once a read-back of it
/// succeeds. The delay doubles with each failed probe.
const FIRST_PROBE_DELAY: Duration = Duration::from_mins(1);

/// Reason of a pause after the rate limit is used up.
const LIMIT_EXHAUSTED: &str = "the Market's rate limit is used up";

/// First pause after a systemic rejection; doubles. Then one SKU is sent as a probe.
const BATCHES_REJECTED_PAUSE: Duration = Duration::from_mins(1);
/// Longest pause after a systemic rejection.
const MAX_BATCHES_REJECTED_PAUSE: Duration = Duration::from_mins(2);

/// State of sending, for the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendState {
    /// Batches may be sent.
    Open,
    /// A pause after a used-up rate limit or a failed request. It needs no action.
    Waiting,
    /// Only occasional probes are sent until the cause is fixed.
    Paused,
}

/// Cause of a growing pause. A failure of another kind starts again with the first pause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FailureKind {
    BatchesRejected,
    AuthRejected,
    RequestFailed,
    RateLimited,
}

impl FailureKind {
    /// Returns the pause after this number of earlier failures.
    fn pause(self, failures: u32) -> Duration {
        let (first, last) = match self {
            Self::BatchesRejected => (BATCHES_REJECTED_PAUSE, MAX_BATCHES_REJECTED_PAUSE),
            Self::AuthRejected => (AUTH_REJECTED_PAUSE, MAX_AUTH_REJECTED_PAUSE),
            Self::RequestFailed => (FIRST_PAUSE, MAX_PAUSE),
            Self::RateLimited => (RATE_LIMIT_PAUSE, MAX_RATE_LIMIT_PAUSE),
        };
        exponential_backoff(first, failures, last)
    }
}

/// Decides when requests of one campaign may be sent, how many in parallel and with which key.
#[derive(Debug)]
pub struct SendPolicy {
    max_parallel: usize,
    current_parallel: usize,
    increase_parallel_at: Option<Instant>,
    paused_until: Option<Instant>,
    state: SendState,
    reason: String,
    // One request at a time until the Market accepts or rejects a batch.
    probing: bool,
    failure_kind: Option<FailureKind>,
    // Consecutive pauses of this kind.
    consecutive_failures: u32,
    key_count: usize,
    key_index: usize,
    consecutive_auth_rejections: usize,
    // Last time at which the campaign was unavailable, and number of probes since.
    unavailable: Option<(Instant, u32)>,
    rng: StdRng,
}

impl SendPolicy {
    /// Creates a policy without a pause: up to `max_parallel` requests, the first of `key_count`
    /// keys. `rng` gives the jitter of the pauses.
    #[must_use]
    pub fn new(max_parallel: usize, key_count: usize, rng: StdRng) -> Self {
        Self {
            max_parallel,
            current_parallel: max_parallel,
            increase_parallel_at: None,
            paused_until: None,
            state: SendState::Open,
            reason: String::new(),
            probing: false,
            failure_kind: None,
            consecutive_failures: 0,
            key_count,
            key_index: 0,
            consecutive_auth_rejections: 0,
            unavailable: None,
            rng,
        }
    }

    /// Returns the number of requests that may be in flight now: 0 during a pause.
    pub fn allowed_parallel(&mut self, now: Instant) -> usize {
        if self.is_paused(now) {
            return 0;
        }
        self.paused_until = None;
        if self.increase_parallel_at.is_some_and(|at| at <= now) {
            self.current_parallel = self.max_parallel.min(self.current_parallel + 1);
            self.increase_parallel_at = (self.current_parallel < self.max_parallel)
                .then_some(now + REDUCED_PARALLELISM_PERIOD);
        }
        if self.probing {
            1
        } else {
            self.current_parallel
        }
    }

    /// Returns the end of the current pause.
    #[must_use]
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Returns the index of the key to use.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    /// Returns the state and its reason, for the operator.
    #[must_use]
    pub fn state(&self) -> (SendState, &str) {
        (self.state, &self.reason)
    }

    /// Records an accepted batch and ends all restrictions but reduced parallelism. Returns true
    /// if sending was waiting or paused before.
    pub fn on_accepted(&mut self) -> bool {
        let previous = self.state;
        self.on_response();
        self.consecutive_failures = 0;
        self.unavailable = None;
        self.state = SendState::Open;
        self.reason.clear();
        previous != SendState::Open
    }

    /// Records that the Market has evaluated a batch, so it is reachable and the key is valid.
    pub fn on_response(&mut self) {
        self.probing = false;
        self.consecutive_auth_rejections = 0;
    }

    /// Reduces the parallelism by one and pauses, after too many parallel requests.
    pub fn reduce_parallelism(&mut self, now: Instant) {
        self.current_parallel = self.current_parallel.saturating_sub(1).max(1);
        self.increase_parallel_at = Some(now + REDUCED_PARALLELISM_PERIOD);
        let pause = PARALLELISM_PAUSE + PARALLELISM_PAUSE.mul_f64(self.rng.random());
        let reason = "too many parallel requests";
        self.pause_until(now + pause, SendState::Waiting, reason);
    }

    /// Pauses after the rate limit is used up, for the Market's `wait` if there is one.
    pub fn on_rate_limited(&mut self, now: Instant, wait: Option<Duration>) {
        let failures = self.consecutive_failures(FailureKind::RateLimited);
        let pause = match wait.map(|wait| wait.min(super::rate_limit::MAX_SERVER_WAIT)) {
            // A tenth of a second is added because the headers have whole seconds.
            Some(wait) if wait >= MIN_SERVER_WAIT => wait + Duration::from_millis(100),
            // The wait is over already but the limit is not: once may be chance.
            Some(_) if failures == 0 => MIN_SERVER_WAIT,
            Some(_) | None => FailureKind::RateLimited.pause(failures),
        };
        self.consecutive_failures += u32::from(!self.is_paused(now));
        self.probe_at(now + pause, SendState::Waiting, LIMIT_EXHAUSTED);
    }

    /// Pauses after a request whose effect is unknown.
    pub fn on_failure(&mut self, now: Instant, reason: &str) {
        if !self.is_paused(now) {
            let max_pause = self.next_pause(FailureKind::RequestFailed);
            let pause = max_pause.mul_f64(self.rng.random());
            self.probe_at(now + pause, SendState::Waiting, reason);
        }
    }

    /// Records that the key with this index was rejected. Returns true if another key may be tried
    /// at once.
    pub fn on_auth_rejected(&mut self, now: Instant, key_index: usize, reason: &str) -> bool {
        if key_index != self.key_index || self.is_paused(now) {
            // Was in flight with the first request that was rejected: the other key is in use
            // already, or the pause has begun.
            return !self.is_paused(now);
        }
        self.consecutive_auth_rejections += 1;
        self.key_index = (self.key_index + 1) % self.key_count.max(1);
        self.probing = true;
        if self.consecutive_auth_rejections < self.key_count {
            return true;
        }
        self.consecutive_auth_rejections = 0;
        let pause = self.next_pause(FailureKind::AuthRejected);
        self.probe_at(now + pause, SendState::Paused, reason);
        false
    }

    /// Pauses until `until` because another worker has found every key rejected.
    pub fn wait_for_key(&mut self, until: Instant, reason: &str) {
        self.probe_at(until, SendState::Paused, reason);
    }

    /// Begins again with the first of `key_count` new keys. Ends a pause until the cause is fixed:
    /// the next request shows if the key was the cause.
    pub fn replace_keys(&mut self, key_count: usize) {
        (self.key_count, self.key_index) = (key_count, 0);
        self.consecutive_auth_rejections = 0;
        if self.state == SendState::Paused {
            self.paused_until = None;
        }
    }

    /// Selects the key with this index.
    pub fn use_key(&mut self, key_index: usize) {
        self.key_index = key_index;
    }

    /// Resumes a rate-limit pause that began before a restart.
    pub fn resume_rate_limit(&mut self, now: Instant, remaining: Duration) {
        let remaining = remaining.min(super::rate_limit::MAX_SERVER_WAIT);
        self.probe_at(now + remaining, SendState::Waiting, LIMIT_EXHAUSTED);
    }

    /// Shortens the pause of an unavailable campaign after a read-back of it succeeded.
    ///
    /// The first probe is sent a minute after the campaign became unavailable. The delay doubles
    /// with each probe that fails.
    pub fn on_readback_response(&mut self, now: Instant) {
        if let Some((since, probes)) = self.unavailable {
            let probe = since + exponential_backoff(FIRST_PROBE_DELAY, probes, UNAVAILABLE_PAUSE);
            self.paused_until = self.paused_until.map(|until| until.min(probe.max(now)));
        }
    }

    /// Pauses because the campaign does not accept requests from anyone.
    pub fn on_campaign_unavailable(&mut self, now: Instant, reason: &str) {
        let is_paused = self.is_paused(now);
        let probes = self
            .unavailable
            .map_or(0, |(_, probes)| probes + u32::from(!is_paused));
        self.unavailable = Some((now, probes));
        self.probe_at(now + UNAVAILABLE_PAUSE, SendState::Paused, reason);
    }

    /// Pauses because the Market rejects every batch.
    pub fn on_batches_rejected(&mut self, now: Instant, reason: &str) {
        if !self.is_paused(now) {
            let pause = self.next_pause(FailureKind::BatchesRejected);
            self.probe_at(now + pause, SendState::Paused, reason);
        }
    }

    /// Counts a failure and returns its pause. Callers do so only without a pause: a request that was
    /// in flight with the one that started the pause does not count.
    fn next_pause(&mut self, kind: FailureKind) -> Duration {
        let pause = kind.pause(self.consecutive_failures(kind));
        self.consecutive_failures += 1;
        pause
    }

    /// Returns the number of consecutive failures of this kind so far.
    fn consecutive_failures(&mut self, kind: FailureKind) -> u32 {
        if self.failure_kind.replace(kind) != Some(kind) {
            self.consecutive_failures = 0;
        }
        self.consecutive_failures
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Pauses, and then sends one request at a time.
    fn probe_at(&mut self, until: Instant, state: SendState, reason: &str) {
        self.probing = true;
        self.pause_until(until, state, reason);
    }

    fn pause_until(&mut self, until: Instant, state: SendState, reason: &str) {
        // Two requests in flight may fail together: the longer pause counts.
        self.paused_until = self.paused_until.max(Some(until));
        self.state = state;
        reason.clone_into(&mut self.reason);
    }
}

/// Returns `first`, doubled for each of `times`, at most `last`.
pub(super) fn exponential_backoff(first: Duration, times: u32, last: Duration) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(times.min(20)))
        .min(last)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn new_policy(max_parallel: usize, key_count: usize) -> SendPolicy {
        SendPolicy::new(max_parallel, key_count, StdRng::seed_from_u64(7))
    }

    fn remaining_pause(policy: &SendPolicy, now: Instant) -> Duration {
        policy
            .paused_until()
            .map_or(Duration::ZERO, |until| until - now)
    }

    #[test]
    fn failure_pauses_grow_with_jitter() {
        let now = Instant::now();
        for (times, max_secs) in (0..12).zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]) {
            let pauses = (0..200).map(|seed| {
                let mut policy = SendPolicy::new(2, 1, StdRng::seed_from_u64(seed));
                (policy.consecutive_failures, policy.failure_kind) =
                    (times, Some(FailureKind::RequestFailed));
                policy.on_failure(now, "");
                remaining_pause(&policy, now)
            });
            let (shortest, longest) = pauses.fold((Duration::MAX, Duration::ZERO), |(a, b), p| {
                (a.min(p), b.max(p))
            });
            let max_pause = Duration::from_secs(max_secs);
            assert!(
                longest <= max_pause && longest > max_pause * 9 / 10,
                "{longest:?} of {max_pause:?}"
            );
            assert!(shortest < max_pause / 10, "{shortest:?} of {max_pause:?}");
        }
    }

    #[test]
    fn probes_singly_after_a_failure() {
        let now = Instant::now();
        let mut policy = new_policy(4, 1);
        policy.on_failure(now, "connection reset");
        assert_eq!(policy.allowed_parallel(now), 0);
        assert_eq!(policy.allowed_parallel(now + FIRST_PAUSE), 1);
        assert!(policy.on_accepted());
        assert_eq!(policy.allowed_parallel(now + FIRST_PAUSE), 4);
    }

    #[test]
    fn parallelism_recovers_after_a_reduction() {
        let now = Instant::now();
        let mut policy = new_policy(4, 1);
        policy.reduce_parallelism(now);
        assert!(
            remaining_pause(&policy, now) >= PARALLELISM_PAUSE
                && remaining_pause(&policy, now) <= PARALLELISM_PAUSE * 2
        );
        policy.reduce_parallelism(now);
        policy.on_accepted();
        assert_eq!(policy.allowed_parallel(now + PARALLELISM_PAUSE * 2), 2);
        assert_eq!(policy.allowed_parallel(now + REDUCED_PARALLELISM_PERIOD), 3);
        assert_eq!(
            policy.allowed_parallel(now + REDUCED_PARALLELISM_PERIOD * 2),
            4
        );
    }

    #[test]
    fn new_keys_end_the_pause_of_a_rejected_one_only() {
        let now = Instant::now();
        let mut policy = new_policy(2, 1);
        policy.on_auth_rejected(now, 0, "revoked");
        assert!(remaining_pause(&policy, now) > Duration::ZERO);
        policy.replace_keys(2);
        assert_eq!(remaining_pause(&policy, now), Duration::ZERO);
        // One request at a time, and both keys are tried.
        assert_eq!(policy.allowed_parallel(now), 1);
        assert!(policy.on_auth_rejected(now, policy.key_index(), "revoked"));
        assert!(!policy.on_auth_rejected(now, policy.key_index(), "revoked"));
        let mut policy = new_policy(2, 1);
        policy.on_rate_limited(now, None);
        let pause = remaining_pause(&policy, now);
        policy.replace_keys(1);
        assert_eq!(remaining_pause(&policy, now), pause);
    }

    #[test]
    fn tries_the_second_key_before_pausing() {
        let now = Instant::now();
        let mut policy = new_policy(2, 2);
        assert!(policy.on_auth_rejected(now, policy.key_index(), "revoked"));
        assert_eq!(
            (policy.key_index(), remaining_pause(&policy, now)),
            (1, Duration::ZERO)
        );
        assert!(!policy.on_auth_rejected(now, policy.key_index(), "revoked"));
        assert_eq!(
            (policy.key_index(), policy.state().0),
            (0, SendState::Paused)
        );
        let mut minutes = vec![remaining_pause(&policy, now).as_secs() / 60];
        // Both keys are tried each time, because either may have been replaced.
        for _ in 0..5 {
            policy.paused_until = None;
            assert!(policy.on_auth_rejected(now, policy.key_index(), "revoked"));
            assert!(!policy.on_auth_rejected(now, policy.key_index(), "revoked"));
            minutes.push(remaining_pause(&policy, now).as_secs() / 60);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 10, 10]);
        assert!(policy.on_accepted());
        assert_eq!(policy.state().0, SendState::Open);
    }

    #[test]
    fn rate_limit_waits_as_the_market_asks() {
        let now = Instant::now();
        let mut policy = new_policy(2, 1);
        policy.on_rate_limited(now, Some(Duration::from_secs(7)));
        assert_eq!(remaining_pause(&policy, now), Duration::from_millis(7100));
        policy.on_accepted();
        let mut minutes = Vec::new();
        for _ in 0..6 {
            policy.paused_until = None;
            policy.on_rate_limited(now, None);
            minutes.push(remaining_pause(&policy, now).as_secs() / 60);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn trusts_an_elapsed_wait_only_once() {
        let now = Instant::now();
        let mut policy = new_policy(2, 1);
        let mut seconds = Vec::new();
        for _ in 0..3 {
            policy.paused_until = None;
            policy.on_rate_limited(now, Some(Duration::ZERO));
            seconds.push(remaining_pause(&policy, now).as_secs());
        }
        assert_eq!(seconds, [1, 120, 240]);
    }

    #[test]
    fn pauses_grow_separately_by_failure_kind() {
        let now = Instant::now();
        let mut policy = new_policy(2, 1);
        for _ in 0..9 {
            policy.paused_until = None;
            policy.on_failure(now, "connection reset");
        }
        policy.paused_until = None;
        policy.on_rate_limited(now, None);
        assert_eq!(remaining_pause(&policy, now), RATE_LIMIT_PAUSE);
    }

    #[test]
    fn probes_a_closed_campaign_after_a_readback() {
        let now = Instant::now();
        let minute = Duration::from_mins(1);
        let mut policy = new_policy(2, 1);
        policy.on_campaign_unavailable(now, "in migration");
        assert_eq!(remaining_pause(&policy, now), UNAVAILABLE_PAUSE);
        policy.on_readback_response(now + minute / 2);
        assert_eq!(policy.paused_until(), Some(now + minute));
        // Updates are still rejected: probes come later and later, and at last hourly.
        let mut at = now;
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            at = policy.paused_until().unwrap();
            assert_eq!(policy.allowed_parallel(at), 1);
            policy.on_campaign_unavailable(at, "in migration");
            policy.on_readback_response(at);
            assert_eq!(policy.paused_until(), Some(at + minute * minutes));
        }
        policy.allowed_parallel(at + UNAVAILABLE_PAUSE);
        policy.on_accepted();
        policy.on_readback_response(at);
        assert_eq!(policy.paused_until(), None);
    }

    #[test]
    fn the_longer_of_two_pauses_counts() {
        let now = Instant::now();
        let mut policy = new_policy(2, 1);
        policy.on_failure(now, "connection reset");
        policy.on_rate_limited(now, Some(Duration::from_secs(30)));
        policy.on_failure(now, "connection reset");
        assert!(remaining_pause(&policy, now) >= Duration::from_secs(30));
    }

    #[test]
    fn concurrent_failures_count_once() {
        let now = Instant::now();
        let mut policy = new_policy(4, 2);
        assert!(policy.on_auth_rejected(now, 0, "revoked"));
        assert!(
            policy.on_auth_rejected(now, 0, "revoked"),
            "the same key, rejected by two parallel requests"
        );
        assert_eq!(policy.key_index(), 1);
        assert!(!policy.on_auth_rejected(now, 1, "revoked"));
        assert!(!policy.on_auth_rejected(now, 1, "revoked"));
        assert_eq!(remaining_pause(&policy, now), AUTH_REJECTED_PAUSE);
    }
}

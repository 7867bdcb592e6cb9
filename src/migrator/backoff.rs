//! How one campaign stands with the Market: whether to send, how much at a time, with which
//! key, and after which pause. Pure: told the time and given the dice.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// Growing pause after answers that say nothing: the first is up to a second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And the longest up to five minutes. Source: the Market's best practices ask for growing
/// pauses with jitter; the numbers are ours.
const MAX_PAUSE: Duration = Duration::from_mins(5);

/// After "too many at a time": a second, and up to another by chance.
const PARALLELISM_PAUSE: Duration = Duration::from_secs(1);
/// How long fewer requests at a time are made before one more is tried.
const REDUCED_PARALLELISM_PERIOD: Duration = Duration::from_mins(1);

/// After "the volume is spent" without a word on how long; doubles.
const RATE_LIMIT_PAUSE: Duration = Duration::from_mins(1);
/// A shorter wait than this is not believed twice.
const MIN_SERVER_WAIT: Duration = Duration::from_secs(1);
/// The longest such pause.
const MAX_RATE_LIMIT_PAUSE: Duration = Duration::from_mins(10);

/// After a key was refused: a new or mended key acts within ten minutes. Source: the Market's
/// page on keys.
const AUTH_REJECTED_PAUSE: Duration = Duration::from_mins(1);
/// The longest such pause.
const MAX_AUTH_REJECTED_PAUSE: Duration = Duration::from_mins(10);

/// Between looks at a campaign that is closed.
const UNAVAILABLE_PAUSE: Duration = Duration::from_hours(1);

/// Before a campaign that was closed is tried because a read-back of it succeeded; doubles.
const FIRST_PROBE_DELAY: Duration = Duration::from_mins(1);

/// Why nothing is sent after a refusal for volume.
const LIMIT_EXHAUSTED: &str = "the Market's limit is spent";

/// After whole batches were refused: then one SKU is sent to learn whether they still are.
const BATCHES_REJECTED_PAUSE: Duration = Duration::from_mins(1);
/// The longest such pause.
const MAX_BATCHES_REJECTED_PAUSE: Duration = Duration::from_mins(2);

/// What the lane is doing, as the operator sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendState {
    /// Nothing stands in the way.
    Open,
    /// A pause that ends by itself: a limit, or a Market that stumbles.
    Waiting,
    /// Nothing goes out, but for a probe now and then, until the cause is mended.
    Paused,
}

/// What a growing pause is for: each kind grows by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FailureKind {
    BatchesRejected,
    AuthRejected,
    RequestFailed,
    RateLimited,
}

/// See the module.
#[derive(Debug)]
pub struct SendPolicy {
    max_parallel: usize,
    current_parallel: usize,
    increase_parallel_at: Option<Instant>,
    paused_until: Option<Instant>,
    state: SendState,
    reason: String,
    // One request at a time until the Market has shown that it is back.
    probing: bool,
    failure_kind: Option<FailureKind>,
    // Pauses in a row for this trouble.
    consecutive_failures: u32,
    key_count: usize,
    key_index: usize,
    consecutive_auth_rejections: usize,
    // When the campaign was found closed last, and how often in a row before.
    unavailable: Option<(Instant, u32)>,
}

impl SendPolicy {
    /// In good standing: up to `most` requests at a time, the first of `keys` keys.
    #[must_use]
    pub fn new(max_parallel: usize, key_count: usize) -> Self {
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
        }
    }

    /// How many requests may be under way now: 0 during a pause.
    pub fn allowed_parallel(&mut self, now: Instant) -> usize {
        if self.paused_until.is_some_and(|until| now < until) {
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

    /// When the present pause ends.
    #[must_use]
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Which key to use, by its place in the list.
    #[must_use]
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    /// For the operator.
    #[must_use]
    pub fn state(&self) -> (SendState, &str) {
        (self.state, &self.reason)
    }

    /// The Market took a batch: all is well. Says whether it was not before.
    pub fn on_accepted(&mut self) -> bool {
        let previous = self.state;
        self.on_response();
        self.consecutive_failures = 0;
        self.unavailable = None;
        self.state = SendState::Open;
        self.reason.clear();
        previous != SendState::Open
    }

    /// The Market looked at a batch and refused it: it is there, and the key is good.
    pub fn on_response(&mut self) {
        self.probing = false;
        self.consecutive_auth_rejections = 0;
    }

    /// Too many requests at a time.
    pub fn reduce_parallelism(&mut self, now: Instant, rng: &mut impl Rng) {
        self.current_parallel = self.current_parallel.saturating_sub(1).max(1);
        self.increase_parallel_at = Some(now + REDUCED_PARALLELISM_PERIOD);
        let pause = PARALLELISM_PAUSE + PARALLELISM_PAUSE.mul_f64(rng.random());
        self.pause(
            now,
            pause,
            SendState::Waiting,
            "too many requests at a time",
        );
    }

    /// The volume is spent; the Market may have said for how long.
    pub fn on_rate_limited(&mut self, now: Instant, wait: Option<Duration>) {
        let failures = self.consecutive_failures(FailureKind::RateLimited);
        let pause = match wait.map(|wait| wait.min(super::rate_limit::MAX_SERVER_WAIT)) {
            // A tenth of a second on top: the headers speak in whole seconds.
            Some(wait) if wait >= MIN_SERVER_WAIT => wait + Duration::from_millis(100),
            // A time that is past already, and the limit is still spent: once may be chance.
            Some(_) if failures == 0 => MIN_SERVER_WAIT,
            Some(_) | None => exponential(RATE_LIMIT_PAUSE, failures, MAX_RATE_LIMIT_PAUSE),
        };
        self.consecutive_failures += u32::from(!self.is_paused(now));
        self.probing = true;
        self.pause(now, pause, SendState::Waiting, LIMIT_EXHAUSTED);
    }

    /// Nobody knows what happened to a request.
    pub fn on_failure(&mut self, now: Instant, reason: &str, rng: &mut impl Rng) {
        if self.is_paused(now) {
            return; // It was under way beside the one that began the pause: no second strike.
        }
        let max_pause = exponential(
            FIRST_PAUSE,
            self.consecutive_failures(FailureKind::RequestFailed),
            MAX_PAUSE,
        );
        self.consecutive_failures += 1;
        self.probing = true;
        self.pause(
            now,
            max_pause.mul_f64(rng.random()),
            SendState::Waiting,
            reason,
        );
    }

    /// The key of this place in the list was refused. Says whether another is to be tried at
    /// once.
    pub fn on_auth_rejected(&mut self, now: Instant, key_index: usize, reason: &str) -> bool {
        if key_index != self.key_index || self.is_paused(now) {
            // It was under way beside the one that was refused first: the other key is being
            // tried already, or the pause has begun.
            return !self.is_paused(now);
        }
        self.consecutive_auth_rejections += 1;
        self.key_index = (self.key_index + 1) % self.key_count.max(1);
        self.probing = true;
        if self.consecutive_auth_rejections < self.key_count {
            return true;
        }
        self.consecutive_auth_rejections = 0;
        let pause = exponential(
            AUTH_REJECTED_PAUSE,
            self.consecutive_failures(FailureKind::AuthRejected),
            MAX_AUTH_REJECTED_PAUSE,
        );
        self.consecutive_failures += 1;
        self.pause(now, pause, SendState::Paused, reason);
        false
    }

    /// Another lane has found every key refused: nothing is sent until then.
    pub fn wait_for_key(&mut self, until: Instant, reason: &str) {
        self.probing = true;
        self.paused_until = Some(
            self.paused_until
                .map_or(until, |current| current.max(until)),
        );
        self.state = SendState::Paused;
        reason.clone_into(&mut self.reason);
    }

    /// Requests go out with the key of this place in the list.
    pub fn use_key(&mut self, key_index: usize) {
        self.key_index = key_index;
    }

    /// An earlier life of this program was told to wait, and so long is left of it.
    pub fn resume_rate_limit(&mut self, now: Instant, remaining: Duration) {
        let remaining = remaining.min(super::rate_limit::MAX_SERVER_WAIT);
        self.probing = true;
        self.pause(now, remaining, SendState::Waiting, LIMIT_EXHAUSTED);
    }

    /// The Market answered a read-back of the campaign: one that was closed may be open again.
    ///
    /// The first probe after that comes a minute after the campaign was found closed; if it is
    /// still closed, the next one later.
    pub fn on_readback_response(&mut self, now: Instant) {
        if let Some((since, probes)) = self.unavailable {
            let probe = since + exponential(FIRST_PROBE_DELAY, probes, UNAVAILABLE_PAUSE);
            let paused_until = self.paused_until.map(|current| current.min(probe.max(now)));
            self.paused_until = paused_until;
        }
    }

    /// The campaign is closed to everybody.
    pub fn on_campaign_unavailable(&mut self, now: Instant, reason: &str) {
        let is_paused = self.is_paused(now);
        let probes = self
            .unavailable
            .map_or(0, |(_, probes)| probes + u32::from(!is_paused));
        self.unavailable = Some((now, probes));
        self.probing = true;
        self.pause(now, UNAVAILABLE_PAUSE, SendState::Paused, reason);
    }

    /// Batch after batch is refused, whatever is in it.
    pub fn on_batches_rejected(&mut self, now: Instant, reason: &str) {
        if self.is_paused(now) {
            return; // It was under way beside the one that began the pause.
        }
        let failures = self.consecutive_failures(FailureKind::BatchesRejected);
        let pause = exponential(BATCHES_REJECTED_PAUSE, failures, MAX_BATCHES_REJECTED_PAUSE);
        self.consecutive_failures += 1;
        self.probing = true;
        self.pause(now, pause, SendState::Paused, reason);
    }

    /// How often in a row there was this trouble before.
    fn consecutive_failures(&mut self, kind: FailureKind) -> u32 {
        if self.failure_kind.replace(kind) != Some(kind) {
            self.consecutive_failures = 0;
        }
        self.consecutive_failures
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    fn pause(&mut self, now: Instant, pause: Duration, state: SendState, reason: &str) {
        let until = now + pause;
        // Two requests under way may fail together: the longer pause counts.
        self.paused_until = Some(
            self.paused_until
                .map_or(until, |current| current.max(until)),
        );
        self.state = state;
        reason.clone_into(&mut self.reason);
    }
}

fn exponential(first: Duration, times: u32, last: Duration) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(times.min(20)))
        .min(last)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn rng() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    fn remaining_pause(policy: &SendPolicy, now: Instant) -> Duration {
        policy
            .paused_until()
            .map_or(Duration::ZERO, |until| until - now)
    }

    #[test]
    fn pauses_grow_with_jitter_from_a_second_to_five_minutes() {
        let now = Instant::now();
        for (times, most) in (0..12).zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]) {
            let pauses = (0..200).map(|seed| {
                let mut policy = SendPolicy::new(2, 1);
                (policy.consecutive_failures, policy.failure_kind) =
                    (times, Some(FailureKind::RequestFailed));
                policy.on_failure(now, "", &mut StdRng::seed_from_u64(seed));
                remaining_pause(&policy, now)
            });
            let (shortest, longest) = pauses.fold((Duration::MAX, Duration::ZERO), |(a, b), p| {
                (a.min(p), b.max(p))
            });
            let most = Duration::from_secs(most);
            assert!(
                longest <= most && longest > most * 9 / 10,
                "{longest:?} of {most:?}"
            );
            assert!(shortest < most / 10, "{shortest:?} of {most:?}");
        }
    }

    #[test]
    fn after_a_failure_one_request_goes_at_a_time_until_one_succeeds() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(4, 1);
        policy.on_failure(now, "cut", &mut rng());
        assert_eq!(policy.allowed_parallel(now), 0);
        assert_eq!(policy.allowed_parallel(now + FIRST_PAUSE), 1);
        assert!(policy.on_accepted());
        assert_eq!(policy.allowed_parallel(now + FIRST_PAUSE), 4);
    }

    #[test]
    fn too_many_at_a_time_means_fewer_and_later_one_more_again() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(4, 1);
        policy.reduce_parallelism(now, &mut rng());
        assert!(
            remaining_pause(&policy, now) >= PARALLELISM_PAUSE
                && remaining_pause(&policy, now) <= PARALLELISM_PAUSE * 2
        );
        policy.reduce_parallelism(now, &mut rng());
        policy.on_accepted();
        assert_eq!(policy.allowed_parallel(now + PARALLELISM_PAUSE * 2), 2);
        assert_eq!(policy.allowed_parallel(now + REDUCED_PARALLELISM_PERIOD), 3);
        assert_eq!(
            policy.allowed_parallel(now + REDUCED_PARALLELISM_PERIOD * 2),
            4
        );
    }

    #[test]
    fn the_second_key_is_tried_at_once_and_then_there_is_a_growing_pause() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(2, 2);
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
        // Each time both keys are tried: the mended one may be either.
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
    fn a_spent_limit_waits_as_told_or_a_growing_minute() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(2, 1);
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
    fn a_wait_that_is_over_already_is_believed_once() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(2, 1);
        let mut seconds = Vec::new();
        for _ in 0..3 {
            policy.paused_until = None;
            policy.on_rate_limited(now, Some(Duration::ZERO));
            seconds.push(remaining_pause(&policy, now).as_secs());
        }
        assert_eq!(seconds, [1, 120, 240]);
    }

    #[test]
    fn each_kind_of_trouble_grows_by_itself() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(2, 1);
        for _ in 0..9 {
            policy.paused_until = None;
            policy.on_failure(now, "cut", &mut rng());
        }
        policy.paused_until = None;
        policy.on_rate_limited(now, None);
        assert_eq!(remaining_pause(&policy, now), RATE_LIMIT_PAUSE);
    }

    #[test]
    fn a_closed_campaign_that_answers_a_read_back_is_tried_within_minutes() {
        let now = Instant::now();
        let minute = Duration::from_mins(1);
        let mut policy = SendPolicy::new(2, 1);
        policy.on_campaign_unavailable(now, "in migration");
        assert_eq!(remaining_pause(&policy, now), UNAVAILABLE_PAUSE);
        policy.on_readback_response(now + minute / 2);
        assert_eq!(policy.paused_until(), Some(now + minute));
        // It is still closed to updates: the next probe comes later, and then hourly.
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
    fn of_two_pauses_the_longer_counts() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(2, 1);
        policy.on_failure(now, "cut", &mut rng());
        policy.on_rate_limited(now, Some(Duration::from_secs(30)));
        policy.on_failure(now, "cut", &mut rng());
        assert!(remaining_pause(&policy, now) >= Duration::from_secs(30));
    }

    #[test]
    fn requests_that_fail_together_count_as_one_strike() {
        let now = Instant::now();
        let mut policy = SendPolicy::new(4, 2);
        assert!(policy.on_auth_rejected(now, 0, "revoked"));
        assert!(
            policy.on_auth_rejected(now, 0, "revoked"),
            "the same key, refused twice at a time"
        );
        assert_eq!(policy.key_index(), 1);
        assert!(!policy.on_auth_rejected(now, 1, "revoked"));
        assert!(!policy.on_auth_rejected(now, 1, "revoked"));
        assert_eq!(remaining_pause(&policy, now), AUTH_REJECTED_PAUSE);
    }
}

//! How one campaign stands with the Market: whether to send, how much at a time, with which
//! key, and after which pause. Pure: told the time and given the dice.

use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::time::Instant;

/// Growing pause after answers that say nothing: the first is up to a second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And the longest up to five minutes. Source: the Market's best practices ask for growing
/// pauses with jitter; the numbers are ours.
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// After "too many at a time": a second, and up to another by chance.
const THIN_PAUSE: Duration = Duration::from_secs(1);
/// How long fewer requests at a time are made before one more is tried.
const THIN_FOR: Duration = Duration::from_mins(1);

/// After "the volume is spent" without a word on how long; doubles.
const LIMIT_PAUSE: Duration = Duration::from_mins(1);
/// A shorter wait than this is not believed twice.
const MIN_TOLD_WAIT: Duration = Duration::from_secs(1);
/// The longest such pause.
const LAST_LIMIT_PAUSE: Duration = Duration::from_mins(10);

/// After a key was refused: a new or mended key acts within ten minutes. Source: the Market's
/// page on keys.
const DENIED_PAUSE: Duration = Duration::from_mins(1);
/// The longest such pause.
const LAST_DENIED_PAUSE: Duration = Duration::from_mins(10);

/// Between looks at a campaign that is closed.
const CLOSED_PAUSE: Duration = Duration::from_hours(1);

/// Before a campaign that was closed is tried because a read-back of it succeeded; doubles.
const REOPENED_PAUSE: Duration = Duration::from_mins(1);

/// Why nothing is sent after a refusal for volume.
const LIMIT_SPENT: &str = "the Market's limit is spent";

/// After whole batches were refused: then one SKU is sent to learn whether they still are.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// The longest such pause.
const LAST_REFUSED_PAUSE: Duration = Duration::from_mins(2);

/// What the lane is doing, as the operator sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Nothing stands in the way.
    Open,
    /// A pause that ends by itself: a limit, or a Market that stumbles.
    Waiting,
    /// Nothing goes out, but for a probe now and then, until the cause is mended.
    Paused,
}

/// What a growing pause is for: each kind grows by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    BatchesRefused,
    Denied,
    Failed,
    Limited,
}

/// See the module.
#[derive(Debug)]
pub struct Standing {
    most: usize,
    parallel: usize,
    regain_at: Option<Instant>,
    held_until: Option<Instant>,
    state: State,
    reason: String,
    // One request at a time until the Market has shown that it is back.
    careful: bool,
    trouble: Option<Trouble>,
    // Pauses in a row for this trouble.
    pauses: u32,
    keys: usize,
    key: usize,
    denied_in_a_row: usize,
    // When the campaign was found closed last, and how often in a row before.
    closed: Option<(Instant, u32)>,
}

impl Standing {
    /// In good standing: up to `most` requests at a time, the first of `keys` keys.
    #[must_use]
    pub fn new(most: usize, keys: usize) -> Self {
        Self {
            most,
            parallel: most,
            regain_at: None,
            held_until: None,
            state: State::Open,
            reason: String::new(),
            careful: false,
            trouble: None,
            pauses: 0,
            keys,
            key: 0,
            denied_in_a_row: 0,
            closed: None,
        }
    }

    /// How many requests may be under way now: 0 during a pause.
    pub fn parallel(&mut self, now: Instant) -> usize {
        if self.held_until.is_some_and(|until| now < until) {
            return 0;
        }
        self.held_until = None;
        if self.regain_at.is_some_and(|at| at <= now) {
            self.parallel = self.most.min(self.parallel + 1);
            self.regain_at = (self.parallel < self.most).then_some(now + THIN_FOR);
        }
        if self.careful { 1 } else { self.parallel }
    }

    /// When the present pause ends.
    #[must_use]
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Which key to use, by its place in the list.
    #[must_use]
    pub fn key(&self) -> usize {
        self.key
    }

    /// For the operator.
    #[must_use]
    pub fn state(&self) -> (State, &str) {
        (self.state, &self.reason)
    }

    /// The Market took a batch: all is well. Says whether it was not before.
    pub fn accepted(&mut self) -> bool {
        let was = self.state;
        self.heard();
        self.pauses = 0;
        self.closed = None;
        self.state = State::Open;
        self.reason.clear();
        was != State::Open
    }

    /// The Market looked at a batch and refused it: it is there, and the key is good.
    pub fn heard(&mut self) {
        self.careful = false;
        self.denied_in_a_row = 0;
    }

    /// Too many requests at a time.
    pub fn thinned(&mut self, now: Instant, dice: &mut impl Rng) {
        self.parallel = self.parallel.saturating_sub(1).max(1);
        self.regain_at = Some(now + THIN_FOR);
        let pause = THIN_PAUSE + THIN_PAUSE.mul_f64(dice.random());
        self.hold(now, pause, State::Waiting, "too many requests at a time");
    }

    /// The volume is spent; the Market may have said for how long.
    pub fn limited(&mut self, now: Instant, wait: Option<Duration>) {
        let strikes = self.strikes(Trouble::Limited);
        let pause = match wait.map(|wait| wait.min(super::pace::MAX_TOLD_WAIT)) {
            // A tenth of a second on top: the headers speak in whole seconds.
            Some(wait) if wait >= MIN_TOLD_WAIT => wait + Duration::from_millis(100),
            // A time that is past already, and the limit is still spent: once may be chance.
            Some(_) if strikes == 0 => MIN_TOLD_WAIT,
            Some(_) | None => doubled(LIMIT_PAUSE, strikes, LAST_LIMIT_PAUSE),
        };
        self.pauses += u32::from(!self.is_held(now));
        self.careful = true;
        self.hold(now, pause, State::Waiting, LIMIT_SPENT);
    }

    /// Nobody knows what happened to a request.
    pub fn failed(&mut self, now: Instant, reason: &str, dice: &mut impl Rng) {
        if self.is_held(now) {
            return; // It was under way beside the one that began the pause: no second strike.
        }
        let most = doubled(FIRST_PAUSE, self.strikes(Trouble::Failed), LAST_PAUSE);
        self.pauses += 1;
        self.careful = true;
        self.hold(now, most.mul_f64(dice.random()), State::Waiting, reason);
    }

    /// The key of this place in the list was refused. Says whether another is to be tried at
    /// once.
    pub fn denied(&mut self, now: Instant, key: usize, reason: &str) -> bool {
        if key != self.key || self.is_held(now) {
            // It was under way beside the one that was refused first: the other key is being
            // tried already, or the pause has begun.
            return !self.is_held(now);
        }
        self.denied_in_a_row += 1;
        self.key = (self.key + 1) % self.keys.max(1);
        self.careful = true;
        if self.denied_in_a_row < self.keys {
            return true;
        }
        self.denied_in_a_row = 0;
        let pause = doubled(
            DENIED_PAUSE,
            self.strikes(Trouble::Denied),
            LAST_DENIED_PAUSE,
        );
        self.pauses += 1;
        self.hold(now, pause, State::Paused, reason);
        false
    }

    /// Another lane has found every key refused: nothing is sent until then.
    pub fn wait_for_key(&mut self, until: Instant, reason: &str) {
        self.careful = true;
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        self.state = State::Paused;
        reason.clone_into(&mut self.reason);
    }

    /// Requests go out with the key of this place in the list.
    pub fn use_key(&mut self, key: usize) {
        self.key = key;
    }

    /// An earlier life of this program was told to wait, and so long is left of it.
    pub fn resume_limited(&mut self, now: Instant, left: Duration) {
        let left = left.min(super::pace::MAX_TOLD_WAIT);
        self.careful = true;
        self.hold(now, left, State::Waiting, LIMIT_SPENT);
    }

    /// The Market answered a read-back of the campaign: one that was closed may be open again.
    ///
    /// The first probe after that comes a minute after the campaign was found closed; if it is
    /// still closed, the next one later.
    pub fn answered(&mut self, now: Instant) {
        if let Some((since, probes)) = self.closed {
            let probe = since + doubled(REOPENED_PAUSE, probes, CLOSED_PAUSE);
            let held = self.held_until.map(|held| held.min(probe.max(now)));
            self.held_until = held;
        }
    }

    /// The campaign is closed to everybody.
    pub fn closed(&mut self, now: Instant, reason: &str) {
        let is_beside = self.is_held(now);
        let probes = self
            .closed
            .map_or(0, |(_, probes)| probes + u32::from(!is_beside));
        self.closed = Some((now, probes));
        self.careful = true;
        self.hold(now, CLOSED_PAUSE, State::Paused, reason);
    }

    /// Batch after batch is refused, whatever is in it.
    pub fn batches_refused(&mut self, now: Instant, reason: &str) {
        if self.is_held(now) {
            return; // It was under way beside the one that began the pause.
        }
        let strikes = self.strikes(Trouble::BatchesRefused);
        let pause = doubled(REFUSED_PAUSE, strikes, LAST_REFUSED_PAUSE);
        self.pauses += 1;
        self.careful = true;
        self.hold(now, pause, State::Paused, reason);
    }

    /// How often in a row there was this trouble before.
    fn strikes(&mut self, trouble: Trouble) -> u32 {
        if self.trouble.replace(trouble) != Some(trouble) {
            self.pauses = 0;
        }
        self.pauses
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    fn hold(&mut self, now: Instant, pause: Duration, state: State, reason: &str) {
        let until = now + pause;
        // Two requests under way may fail together: the longer pause counts.
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
        self.state = state;
        reason.clone_into(&mut self.reason);
    }
}

fn doubled(first: Duration, times: u32, last: Duration) -> Duration {
    first
        .saturating_mul(2u32.saturating_pow(times.min(20)))
        .min(last)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn dice() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    fn pause(standing: &Standing, now: Instant) -> Duration {
        standing
            .held_until()
            .map_or(Duration::ZERO, |until| until - now)
    }

    #[test]
    fn pauses_grow_with_jitter_from_a_second_to_five_minutes() {
        let now = Instant::now();
        for (times, most) in (0..12).zip([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]) {
            let pauses = (0..200).map(|seed| {
                let mut standing = Standing::new(2, 1);
                (standing.pauses, standing.trouble) = (times, Some(Trouble::Failed));
                standing.failed(now, "", &mut StdRng::seed_from_u64(seed));
                pause(&standing, now)
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
        let mut standing = Standing::new(4, 1);
        standing.failed(now, "cut", &mut dice());
        assert_eq!(standing.parallel(now), 0);
        assert_eq!(standing.parallel(now + FIRST_PAUSE), 1);
        assert!(standing.accepted());
        assert_eq!(standing.parallel(now + FIRST_PAUSE), 4);
    }

    #[test]
    fn too_many_at_a_time_means_fewer_and_later_one_more_again() {
        let now = Instant::now();
        let mut standing = Standing::new(4, 1);
        standing.thinned(now, &mut dice());
        assert!(pause(&standing, now) >= THIN_PAUSE && pause(&standing, now) <= THIN_PAUSE * 2);
        standing.thinned(now, &mut dice());
        standing.accepted();
        assert_eq!(standing.parallel(now + THIN_PAUSE * 2), 2);
        assert_eq!(standing.parallel(now + THIN_FOR), 3);
        assert_eq!(standing.parallel(now + THIN_FOR * 2), 4);
    }

    #[test]
    fn the_second_key_is_tried_at_once_and_then_there_is_a_growing_pause() {
        let now = Instant::now();
        let mut standing = Standing::new(2, 2);
        assert!(standing.denied(now, standing.key(), "revoked"));
        assert_eq!((standing.key(), pause(&standing, now)), (1, Duration::ZERO));
        assert!(!standing.denied(now, standing.key(), "revoked"));
        assert_eq!((standing.key(), standing.state().0), (0, State::Paused));
        let mut minutes = vec![pause(&standing, now).as_secs() / 60];
        // Each time both keys are tried: the mended one may be either.
        for _ in 0..5 {
            standing.held_until = None;
            assert!(standing.denied(now, standing.key(), "revoked"));
            assert!(!standing.denied(now, standing.key(), "revoked"));
            minutes.push(pause(&standing, now).as_secs() / 60);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 10, 10]);
        assert!(standing.accepted());
        assert_eq!(standing.state().0, State::Open);
    }

    #[test]
    fn a_spent_limit_waits_as_told_or_a_growing_minute() {
        let now = Instant::now();
        let mut standing = Standing::new(2, 1);
        standing.limited(now, Some(Duration::from_secs(7)));
        assert_eq!(pause(&standing, now), Duration::from_millis(7100));
        standing.accepted();
        let mut minutes = Vec::new();
        for _ in 0..6 {
            standing.held_until = None;
            standing.limited(now, None);
            minutes.push(pause(&standing, now).as_secs() / 60);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_wait_that_is_over_already_is_believed_once() {
        let now = Instant::now();
        let mut standing = Standing::new(2, 1);
        let mut seconds = Vec::new();
        for _ in 0..3 {
            standing.held_until = None;
            standing.limited(now, Some(Duration::ZERO));
            seconds.push(pause(&standing, now).as_secs());
        }
        assert_eq!(seconds, [1, 120, 240]);
    }

    #[test]
    fn each_kind_of_trouble_grows_by_itself() {
        let now = Instant::now();
        let mut standing = Standing::new(2, 1);
        for _ in 0..9 {
            standing.held_until = None;
            standing.failed(now, "cut", &mut dice());
        }
        standing.held_until = None;
        standing.limited(now, None);
        assert_eq!(pause(&standing, now), LIMIT_PAUSE);
    }

    #[test]
    fn a_closed_campaign_that_answers_a_read_back_is_tried_within_minutes() {
        let now = Instant::now();
        let minute = Duration::from_mins(1);
        let mut standing = Standing::new(2, 1);
        standing.closed(now, "in migration");
        assert_eq!(pause(&standing, now), CLOSED_PAUSE);
        standing.answered(now + minute / 2);
        assert_eq!(standing.held_until(), Some(now + minute));
        // It is still closed to updates: the next probe comes later, and then hourly.
        let mut at = now;
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            at = standing.held_until().unwrap();
            assert_eq!(standing.parallel(at), 1);
            standing.closed(at, "in migration");
            standing.answered(at);
            assert_eq!(standing.held_until(), Some(at + minute * minutes));
        }
        standing.parallel(at + CLOSED_PAUSE);
        standing.accepted();
        standing.answered(at);
        assert_eq!(standing.held_until(), None);
    }

    #[test]
    fn of_two_pauses_the_longer_counts() {
        let now = Instant::now();
        let mut standing = Standing::new(2, 1);
        standing.failed(now, "cut", &mut dice());
        standing.limited(now, Some(Duration::from_secs(30)));
        standing.failed(now, "cut", &mut dice());
        assert!(pause(&standing, now) >= Duration::from_secs(30));
    }

    #[test]
    fn requests_that_fail_together_count_as_one_strike() {
        let now = Instant::now();
        let mut standing = Standing::new(4, 2);
        assert!(standing.denied(now, 0, "revoked"));
        assert!(
            standing.denied(now, 0, "revoked"),
            "the same key, refused twice at a time"
        );
        assert_eq!(standing.key(), 1);
        assert!(!standing.denied(now, 1, "revoked"));
        assert!(!standing.denied(now, 1, "revoked"));
        assert_eq!(pause(&standing, now), DENIED_PAUSE);
    }
}

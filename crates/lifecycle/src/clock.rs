//! Wall clock of the process.
//!
//! No other module reads the system time: each gets a [`Clock`] or a time as an argument, so that
//! a test controls time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Difference from the reference up to which a following clock is left as it is, because the answer
/// of the reference took time too.
const TOLERANCE: TimeDelta = TimeDelta::milliseconds(200);

/// Source of the current date and time.
#[derive(Clone, Copy, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Copy, Debug)]
enum ClockSource {
    Wall,
    Runtime {
        start: DateTime<Utc>,
        started_at: Instant,
    },
    Following(&'static FollowingClock),
}

/// Clock that continues the time of a reference by the monotonic clock.
#[derive(Debug)]
struct FollowingClock {
    started_at: Instant,
    /// Time of the reference at `started_at`, in microseconds since the epoch.
    start_micros: AtomicI64,
}

impl Clock {
    /// Returns the clock of the machine.
    #[must_use]
    pub fn wall() -> Self {
        Self(ClockSource::Wall)
    }

    /// Returns a clock that shows `start` now and advances with the runtime's timers.
    ///
    /// It stops and jumps with them where a test has paused them.
    #[must_use]
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self(ClockSource::Runtime {
            start,
            started_at: Instant::now(),
        })
    }

    /// Returns a clock that shows `now` and follows a reference, which [`Self::follow`] reads. It
    /// does not depend on the clock of the machine.
    ///
    /// The state of the clock is never freed: a process needs one.
    #[must_use]
    pub fn following(now: DateTime<Utc>) -> Self {
        let clock = FollowingClock {
            started_at: Instant::now(),
            start_micros: AtomicI64::new(now.timestamp_micros()),
        };
        Self(ClockSource::Following(Box::leak(Box::new(clock))))
    }

    /// Returns true if [`Self::follow`] changes the clock.
    #[must_use]
    pub fn is_following(&self) -> bool {
        matches!(self.0, ClockSource::Following(_))
    }

    /// Sets the clock to the time that the reference has shown during a request of this length. A
    /// clock that follows no reference is not changed.
    pub fn follow(&self, reference: DateTime<Utc>, request: Duration) {
        let ClockSource::Following(clock) = &self.0 else {
            return;
        };
        let difference = reference + request / 2 - self.now();
        if difference.abs() > TOLERANCE + TimeDelta::from_std(request).unwrap_or(TimeDelta::MAX) {
            let micros = difference.num_microseconds().unwrap_or_default();
            clock.start_micros.fetch_add(micros, Ordering::AcqRel);
        }
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock at the edge")]
            ClockSource::Wall => Utc::now(),
            ClockSource::Runtime {
                start,
                started_at: started,
            } => start + started.elapsed(),
            ClockSource::Following(clock) => {
                let micros = clock.start_micros.load(Ordering::Acquire);
                let start = DateTime::from_timestamp_micros(micros).unwrap_or_default();
                start + clock.started_at.elapsed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn following_clock_shows_the_reference() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let clock = Clock::following(at("2026-11-20T10:00:00Z"));
        advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), at("2026-11-20T10:00:05Z"));
        // The reference was set. The request took 0.2 s.
        clock.follow(at("2026-11-20T09:00:05Z"), Duration::from_millis(200));
        assert_eq!(clock.now(), at("2026-11-20T09:00:05.1Z"));
        let copy = clock;
        advance(Duration::from_secs(1)).await;
        assert_eq!(copy.now(), at("2026-11-20T09:00:06.1Z"));
        // The difference may come from the request.
        clock.follow(at("2026-11-20T09:00:07Z"), Duration::from_secs(2));
        assert_eq!(clock.now(), at("2026-11-20T09:00:06.1Z"));
        assert!(clock.is_following() && !Clock::wall().is_following());
    }
}

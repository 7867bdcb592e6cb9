//! Wall clock of the process.
//!
//! No other module reads the system time: each gets a [`Clock`] or a time as an argument, so that
//! a test controls time.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

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
        }
    }
}

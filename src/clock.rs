//! The one place that reads the wall clock.
//!
//! Everything else is told what time it is, so that a test can own time.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Tells the time of day.
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
    /// The machine's clock.
    #[must_use]
    pub fn wall() -> Self {
        Self(ClockSource::Wall)
    }

    /// A clock that says `start` now and goes on with the runtime's timers, so that it stands
    /// still, and jumps, where a test has paused them.
    #[must_use]
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self(ClockSource::Runtime {
            start,
            started_at: Instant::now(),
        })
    }

    /// What time it is.
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

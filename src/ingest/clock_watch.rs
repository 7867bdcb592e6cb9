//! Dates that a wrong clock has left in the store. Pure.
//!
//! The newest date wins. A clock that runs ahead gives dates that nothing beats until that time
//! is reached, so once the clock is right again, such dates do not win.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time;

use crate::stock::Timestamp;

/// Largest distance of a date from the future. Source: ours; the drop-in refuses later dates.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// How old an update may be that replaces stock dated by a wrong clock.
const MAX_TRANSIT: TimeDelta = TimeDelta::minutes(5);

/// A difference between both clocks that shows that the clock was set.
const MIN_JUMP: Duration = Duration::from_secs(30);

/// Compares the clock, which may be set, with the time that passes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockWatch {
    last_observed: Option<(time::Instant, DateTime<Utc>)>,
    // It was set back: until then, stored dates may be of the clock before.
    suspect_until: Option<DateTime<Utc>>,
}

impl ClockWatch {
    /// Returns by how much the clock was set since the last call.
    pub(super) fn observe(
        &mut self,
        monotonic: time::Instant,
        now: DateTime<Utc>,
    ) -> Option<TimeDelta> {
        let (before, then) = self.last_observed.replace((monotonic, now))?;
        let expected = then + (monotonic - before);
        let jump = now - expected;
        if jump.abs().to_std().unwrap_or_default() < MIN_JUMP {
            return None;
        }
        if now < expected {
            let until = self
                .suspect_until
                .map_or(expected, |until| until.max(expected));
            self.suspect_until = Some(until);
        }
        Some(jump)
    }

    /// Whether a stored date comes from a clock that ran ahead.
    pub(super) fn is_wrong_date(&self, stored: Timestamp, now: DateTime<Utc>) -> bool {
        let is_suspect = self.suspect_until.is_some_and(|until| now < until);
        stored > Timestamp::from(now + MAX_AHEAD) || (is_suspect && stored > Timestamp::from(now))
    }

    /// Whether an update of this date replaces stock with a wrong date.
    ///
    /// The true date of that stock is not known, but it is not later than now; an update needs
    /// a while to arrive.
    pub(super) fn replaces_wrong_date(date: Timestamp, now: DateTime<Utc>) -> bool {
        date >= Timestamp::from(now - MAX_TRANSIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_runs_is_not() {
        let start = time::Instant::now();
        let second = Duration::from_secs(1);
        for (passed, shown, jump) in [
            (5, 5, None),
            (5, 25, None),
            (600, 600, None),
            (5, 65, Some(60)),
            (5, -7_195, Some(-7_200)),
        ] {
            let mut watch = ClockWatch::default();
            assert_eq!(watch.observe(start, now()), None);
            let noted = watch.observe(start + second * passed, now() + TimeDelta::seconds(shown));
            assert_eq!(noted, jump.map(TimeDelta::seconds), "{passed} s, {shown} s");
        }
    }

    #[test]
    fn dates_ahead_are_wrong_beyond_five_minutes_or_after_the_clock_was_set_back() {
        let ahead = |seconds| Timestamp::from(now() + TimeDelta::seconds(seconds));
        let mut watch = ClockWatch::default();
        assert!(!watch.is_wrong_date(ahead(-1), now()) && !watch.is_wrong_date(ahead(300), now()));
        assert!(watch.is_wrong_date(ahead(301), now()));
        let start = time::Instant::now();
        watch.observe(start, now() + TimeDelta::seconds(120));
        watch.observe(start, now());
        assert!(watch.is_wrong_date(ahead(1), now()) && !watch.is_wrong_date(ahead(0), now()));
        let later = now() + TimeDelta::seconds(120);
        assert!(
            !watch.is_wrong_date(ahead(200), later),
            "the time of the clock before is reached"
        );
    }

    #[test]
    fn an_update_replaces_a_wrong_date_if_it_is_recent() {
        let dated = |seconds| Timestamp::from(now() + TimeDelta::seconds(seconds));
        assert!(ClockWatch::replaces_wrong_date(dated(-300), now()));
        assert!(!ClockWatch::replaces_wrong_date(dated(-301), now()));
    }
}

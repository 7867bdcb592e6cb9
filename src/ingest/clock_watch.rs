//! Detection of stored dates that come from a wrong clock. Pure.
//!
//! The newest date wins, so a date from a clock that ran ahead would win until that time is
//! reached. Once the clock is right again, a recent update replaces stock with such a date.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Sku, Timestamp};
use tokio::time;

/// Maximum time that a date may lie ahead of the clock. The partner API rejects later dates.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// Maximum age of an update that replaces stock with a wrong date.
const MAX_TRANSIT: TimeDelta = TimeDelta::minutes(5);

/// Minimum difference between wall clock and monotonic clock that counts as a clock change.
const MIN_JUMP: Duration = Duration::from_secs(30);

/// Comparison of the wall clock, which may be set, with the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockWatch {
    last_observed: Option<(time::Instant, DateTime<Utc>)>,
    // Set when the clock was set back: until this time, stored dates may come from before that.
    suspect_until: Option<DateTime<Utc>>,
}

impl ClockWatch {
    /// Returns the amount by which the clock was set since the last call, if it was.
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

    /// Returns true if a stored date comes from a clock that ran ahead.
    pub(super) fn is_wrong_date(&self, stored: Timestamp, now: DateTime<Utc>) -> bool {
        let is_suspect = self.suspect_until.is_some_and(|until| now < until);
        stored > Timestamp::from(now + MAX_AHEAD) || (is_suspect && stored > Timestamp::from(now))
    }

    /// Returns true if an update of this date replaces stock with a wrong date.
    ///
    /// The true date of that stock is unknown, but it is not later than now. The update may be a
    /// few minutes old, because it needs time to arrive.
    pub(super) fn replaces_wrong_date(date: Timestamp, now: DateTime<Utc>) -> bool {
        date >= Timestamp::from(now - MAX_TRANSIT)
    }
}

/// Returns the text of the alarm about a clock that was set.
pub(super) fn describe_jump(jump: TimeDelta, now: DateTime<Utc>) -> String {
    let seconds = jump.num_seconds();
    format!(
        "the clock of this service was set by {seconds:+} s, to {now}. Updates up to 5 minutes old now \
         replace stock with a date from the wrong clock. Check the time service of this machine; \
         replicas use the clock of the database server"
    )
}

/// Returns the text of the alarm about stock with a date in the future.
pub(super) fn describe_wrong_date(sku: &Sku, at: Timestamp, now: DateTime<Utc>) -> String {
    format!(
        "SKU '{sku}' is dated {at}, but the clock of this service shows {now}: the clock ran ahead when \
         the stock was stored, or it is behind now. Updates up to 5 minutes old replace such stock. \
         Check the time service of this machine; replicas use the clock of the database server"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn detects_a_set_clock() {
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
            let observed =
                watch.observe(start + second * passed, now() + TimeDelta::seconds(shown));
            assert_eq!(
                observed,
                jump.map(TimeDelta::seconds),
                "{passed} s, {shown} s"
            );
        }
    }

    #[test]
    fn dates_ahead_are_wrong_after_five_minutes() {
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
            "the clock has reached the time before it was set back"
        );
    }

    #[test]
    fn recent_update_replaces_a_wrong_date() {
        let dated = |seconds| Timestamp::from(now() + TimeDelta::seconds(seconds));
        assert!(ClockWatch::replaces_wrong_date(dated(-300), now()));
        assert!(!ClockWatch::replaces_wrong_date(dated(-301), now()));
    }
}

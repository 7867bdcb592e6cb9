//! Difference between our clock and the Market's. Pure.
//!
//! The `Date` of a response has whole seconds and lies between the sending of the request and the
//! arrival of the response head. So one response gives a range, not a number, and a slow response
//! gives a wide range that proves nothing. A difference is trusted when several consecutive
//! responses agree on a range without zero, or when the Market also rejects a date.

use chrono::{DateTime, TimeDelta, Utc};
use market_api::partner::client::MarketResponse;

/// Number of consecutive responses that must agree.
const AGREEING_RESPONSES: u32 = 3;

/// Largest difference that is corrected.
const MAX_DIFFERENCE: TimeDelta = TimeDelta::hours(1);

/// Time for which a trusted difference widens the tolerance of the read-back.
const TOLERANCE_PERIOD: TimeDelta = TimeDelta::hours(24);

/// Range of "our clock minus the Market's" that one response allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SkewRange {
    least: TimeDelta,
    most: TimeDelta,
}

impl SkewRange {
    /// Range of a response dated `date`, to a request sent at `sent_at`, whose head arrived at
    /// `head_at`.
    #[must_use]
    pub fn new(date: DateTime<Utc>, sent_at: DateTime<Utc>, head_at: DateTime<Utc>) -> Self {
        // The date is truncated to a second.
        let least = sent_at - date - TimeDelta::seconds(1);
        Self {
            least,
            most: (head_at - date).max(least),
        }
    }

    /// Range of a response; `None` without a `Date` header.
    #[must_use]
    pub fn of(response: &MarketResponse) -> Option<Self> {
        let MarketResponse { date, times, .. } = response;
        date.map(|date| Self::new(date, times.sent_at, times.head_at))
    }

    fn intersect(self, other: Self) -> Option<Self> {
        let both = Self {
            least: self.least.max(other.least),
            most: self.most.min(other.most),
        };
        (both.least <= both.most).then_some(both)
    }

    /// Returns the difference: zero if the range contains zero, otherwise the end of the range with
    /// which no sent date can be in the Market's future.
    fn difference(self) -> TimeDelta {
        let has_zero = self.least <= TimeDelta::zero() && self.most >= TimeDelta::zero();
        if has_zero {
            TimeDelta::zero()
        } else {
            self.most.clamp(-MAX_DIFFERENCE, MAX_DIFFERENCE)
        }
    }
}

/// Estimate of "our clock minus the Market's" from many responses.
#[derive(Debug, Default)]
pub struct ClockSkew {
    // Range on which the last responses agree, and their number.
    agreed: Option<(SkewRange, u32)>,
    trusted: TimeDelta,
    // Largest trusted difference of the last day, and the last time it was trusted.
    largest: Option<(TimeDelta, DateTime<Utc>)>,
    was_date_rejected: bool,
}

impl ClockSkew {
    /// Records the range of a response that arrived at `now`.
    pub fn record(&mut self, range: SkewRange, now: DateTime<Utc>) {
        let both = self
            .agreed
            .and_then(|(agreed, n)| Some((agreed.intersect(range)?, n + 1)));
        let (agreed, n) = both.unwrap_or((range, 1));
        self.agreed = Some((agreed, n));
        if n >= AGREEING_RESPONSES {
            self.trust(agreed.difference(), now);
        }
    }

    /// Trusts the range of the last response, because the Market has rejected a date. Returns true
    /// if the estimate changed by more than a second.
    pub fn confirm(&mut self, now: DateTime<Utc>) -> bool {
        self.was_date_rejected = true;
        let before = self.trusted;
        if let Some((agreed, _)) = self.agreed {
            self.trust(agreed.difference(), now);
        }
        (self.trusted - before).abs() > TimeDelta::seconds(1)
    }

    /// Returns true until the Market rejects a date. After that, the times of acknowledgements from
    /// before the start are not used, because they may come from a wrong clock.
    #[must_use]
    pub fn trusts_earlier_dates(&self) -> bool {
        !self.was_date_rejected
    }

    /// Returns by how much the Market's clock is behind ours.
    #[must_use]
    pub fn estimate(&self) -> TimeDelta {
        self.trusted
    }

    /// Returns by how much dates may differ because of the clocks: the largest trusted difference
    /// of the last day, or the range of the last responses if it is larger.
    #[must_use]
    pub fn tolerance(&self) -> TimeDelta {
        let largest = self.largest.map(|(largest, _)| largest);
        let agreed = self.agreed.map(|(range, _)| range.difference().abs());
        largest.max(agreed).unwrap_or(TimeDelta::zero())
    }

    fn trust(&mut self, difference: TimeDelta, now: DateTime<Utc>) {
        self.trusted = difference;
        let size = difference.abs();
        let is_expired = |at: DateTime<Utc>| (now - at).abs() > TOLERANCE_PERIOD;
        let largest = self.largest;
        if largest.is_none_or(|(largest, at)| size >= largest || is_expired(at)) {
            self.largest = Some((size, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    /// Response to a request sent at 10:00:00 by our clock, which is `ahead`. The Market dates it
    /// after `there`, and its head arrives `back` later. All in milliseconds.
    fn response(ahead: i64, there: i64, back: i64) -> SkewRange {
        let ms = TimeDelta::milliseconds;
        let date = now() - ms(ahead) + ms(there);
        let date = DateTime::from_timestamp(date.timestamp(), 0).unwrap();
        SkewRange::new(date, now(), now() + ms(there + back))
    }

    fn skew_after(responses: &[SkewRange]) -> ClockSkew {
        let mut skew = ClockSkew::default();
        responses
            .iter()
            .for_each(|range| skew.record(*range, now()));
        skew
    }

    #[test]
    fn trusts_a_difference_after_three_responses() {
        let quick = |ahead| response(ahead, 50, 50);
        let cases: [(&str, Vec<SkewRange>, i64); 8] = [
            ("equal clocks", vec![quick(0); 5], 0),
            ("slow responses", vec![response(0, 3_000, 30_000); 5], 0),
            (
                "one response of a wrong clock",
                vec![quick(0), quick(90_000), quick(0)],
                0,
            ),
            (
                "two of three",
                vec![quick(90_000), quick(90_000), quick(0)],
                0,
            ),
            ("ours is ahead", vec![quick(90_000); 3], 90),
            ("ours is behind", vec![quick(-90_000); 3], -89),
            ("far ahead", vec![quick(9_000_000); 3], 3_600),
            (
                "corrected again",
                [vec![quick(90_000); 3], vec![quick(0); 3]].concat(),
                0,
            ),
        ];
        for (case, responses, seconds) in cases {
            let estimate = skew_after(&responses).estimate();
            let difference = estimate - TimeDelta::seconds(seconds);
            assert!(
                difference.abs() <= TimeDelta::seconds(1),
                "{case}: {estimate}"
            );
        }
    }

    #[test]
    fn estimate_puts_no_date_in_the_future() {
        for ahead in [-90_000, -3_000, 3_000, 90_000] {
            for (there, back) in [(0, 0), (50, 50), (700, 0), (0, 700)] {
                let estimate = skew_after(&[response(ahead, there, back); 3]).estimate();
                assert!(
                    estimate >= TimeDelta::milliseconds(ahead),
                    "{ahead} {there} {back}"
                );
            }
        }
    }

    #[test]
    fn one_slow_response_does_not_widen_the_tolerance() {
        let mut skew = skew_after(&[response(0, 50, 50); 3]);
        skew.record(response(0, 3_000, 20_000), now());
        assert_eq!(skew.tolerance(), TimeDelta::zero());
        // A wrong date widens it until the next response contradicts it.
        skew.record(response(90_000, 50, 50), now());
        assert!(skew.tolerance() >= TimeDelta::seconds(90));
        skew.record(response(0, 50, 50), now());
        assert_eq!(skew.tolerance(), TimeDelta::zero());
    }

    #[test]
    fn trusted_difference_is_tolerated_for_a_day() {
        let mut skew = skew_after(&[response(90_000, 50, 50); 3]);
        let right = response(0, 50, 50);
        (0..3).for_each(|_| skew.record(right, now()));
        assert!(skew.estimate().is_zero() && skew.tolerance() >= TimeDelta::seconds(90));
        skew.record(right, now() + TimeDelta::hours(25));
        assert_eq!(skew.tolerance(), TimeDelta::zero());
    }

    #[test]
    fn a_rejected_date_confirms_a_single_response() {
        let mut skew = skew_after(&[response(90_000, 50, 50)]);
        assert!(skew.estimate().is_zero());
        assert!(skew.confirm(now()));
        assert!(skew.estimate() >= TimeDelta::seconds(90));
        assert!(!skew.confirm(now()), "trusted already");
        let mut skew = skew_after(&[response(0, 50, 50)]);
        assert!(!skew.confirm(now()), "the clocks agree");
    }
}

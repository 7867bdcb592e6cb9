//! Hours of the day during which notifications wait.

use std::fmt;

use chrono::{DateTime, FixedOffset, NaiveTime, TimeDelta, Utc};

/// Daily period without notifications. It may contain midnight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuietHours {
    start: NaiveTime,
    end: NaiveTime,
}

impl QuietHours {
    /// Parses a text such as `22:00-08:00`. Start and end differ.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, end) = text.split_once('-')?;
        let time = |text: &str| {
            let has_two_digits = text.len() == 5;
            let parsed = NaiveTime::parse_from_str(text, "%H:%M").ok();
            parsed.filter(|_| has_two_digits)
        };
        let (start, end) = (time(start.trim())?, time(end.trim())?);
        (start != end).then_some(Self { start, end })
    }

    /// Returns the end of the period that contains `now`; `None` outside of it.
    #[must_use]
    pub fn end_of_current(&self, now: DateTime<Utc>, zone: FixedOffset) -> Option<DateTime<Utc>> {
        let local = now.with_timezone(&zone);
        let time = local.time();
        let is_over_midnight = self.end < self.start;
        let is_inside = if is_over_midnight {
            time >= self.start || time < self.end
        } else {
            time >= self.start && time < self.end
        };
        // Both times are within one day. The end of a period over midnight may be tomorrow.
        let mut remaining = self.end - time;
        if remaining <= TimeDelta::zero() {
            remaining += TimeDelta::days(1);
        }
        is_inside.then(|| now + remaining)
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}-{}",
            self.start.format("%H:%M"),
            self.end.format("%H:%M")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_two_times_of_a_day() {
        for text in ["22:00-08:00", "00:00-23:59", "12:30-13:00"] {
            assert_eq!(QuietHours::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "22-8",
            "22:00",
            "24:00-08:00",
            "8:00-9:00",
            "08:00-08:00",
        ] {
            assert_eq!(QuietHours::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ends_at_the_next_end_in_the_zone() {
        let moscow = FixedOffset::east_opt(3 * 3600).unwrap();
        let night = "22:00-08:00";
        let noon = "12:00-13:00";
        // Moscow is three hours ahead of UTC.
        for (hours, now, expected) in [
            (night, "2026-11-29T18:59:59Z", None),
            (night, "2026-11-29T19:00:00Z", Some("2026-11-30T05:00:00Z")),
            (night, "2026-11-29T22:30:00Z", Some("2026-11-30T05:00:00Z")),
            (night, "2026-11-30T04:59:59Z", Some("2026-11-30T05:00:00Z")),
            (night, "2026-11-30T05:00:00Z", None),
            (noon, "2026-11-29T09:00:00Z", Some("2026-11-29T10:00:00Z")),
            (noon, "2026-11-29T10:00:00Z", None),
            (noon, "2026-11-29T08:59:00Z", None),
        ] {
            let quiet = QuietHours::parse(hours).unwrap();
            let end = quiet.end_of_current(now.parse().unwrap(), moscow);
            let expected = expected.map(|text: &str| text.parse().unwrap());
            assert_eq!(end, expected, "{hours} at {now}");
        }
    }
}

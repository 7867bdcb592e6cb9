//! Hour of the calendar, the unit in which activity is kept.

use super::Timestamp;

/// Hour of the calendar, from 2026 to September 2029; later times count as the last hour.
///
/// Activity is kept to the hour because the Market requests stock hourly.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Hour(pub(super) u16);

impl Hour {
    // The packed form has fifteen bits, and its 0 means "none".
    const LAST: u16 = 0x7ffe;
    const MICROS_PER_HOUR: i64 = 3_600_000_000;
    /// 2026-01-01T00:00:00Z.
    const FIRST_MICROS: i64 = 1_767_225_600_000_000;

    /// Returns the hour of a timestamp; times outside the range give the first or last hour.
    #[must_use]
    pub fn containing(at: Timestamp) -> Self {
        let hours = (at.as_micros() - Self::FIRST_MICROS).div_euclid(Self::MICROS_PER_HOUR);
        Self(u16::try_from(hours.clamp(0, Self::LAST.into())).unwrap_or(Self::LAST))
    }

    /// Returns the start of the hour.
    #[must_use]
    pub fn start(self) -> Timestamp {
        let micros = Self::FIRST_MICROS + i64::from(self.0) * Self::MICROS_PER_HOUR;
        Timestamp::from_micros(micros).expect("hours end in 2029, within the calendar")
    }

    /// Returns the number of hours since 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Returns the hour with that number, or `None` after the last hour.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let number = u16::try_from(number).ok()?;
        (number <= Self::LAST).then_some(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_count_from_2026_and_saturate() {
        let at = |text: &str| {
            Hour::containing(
                text.parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
                    .into(),
            )
        };
        assert_eq!(at("2026-01-01T00:59:59Z").number(), 0);
        assert_eq!(at("2026-01-02T01:00:00Z").number(), 25);
        assert_eq!(
            at("2026-01-02T01:30:00Z").start().to_string(),
            "2026-01-02T01:00:00Z"
        );
        assert_eq!(at("2020-01-01T00:00:00Z").number(), 0);
        assert_eq!(at("2040-01-01T00:00:00Z").number(), Hour::LAST);
        assert_eq!(Hour::from_number(u64::from(Hour::LAST) + 1), None);
    }
}

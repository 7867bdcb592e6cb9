//! Count, timestamp and level of one SKU, with their bounds.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::Sku;

/// Largest count the Market takes. Source: `UpdateStockItemDTO.count`, partner API OpenAPI.
pub const MAX_COUNT: u32 = 2_000_000_000;

/// Number of pieces that can be ordered, `0..=2_000_000_000`, without the reserved ones.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Count(pub(super) u32);

impl Count {
    /// Sold out.
    pub const ZERO: Self = Self(0);

    /// Returns the number of pieces.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Count {
    type Error = CountError;

    fn try_from(n: i64) -> Result<Self, CountError> {
        match u32::try_from(n) {
            Ok(n) if n <= MAX_COUNT => Ok(Self(n)),
            Ok(_) | Err(_) => Err(CountError(n)),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Error for a number outside the range of a [`Count`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("count is {0}, it must be between 0 and {MAX_COUNT}")]
pub struct CountError(pub i64);

/// Wall-clock time in UTC, to the microsecond.
///
/// Takes eight bytes, where a `DateTime` takes twelve; one is kept per SKU. Finer fractions are cut
/// off, never rounded up, so that no value moves into the future.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub(super) i64);

impl Timestamp {
    /// Returns the timestamp of `micros` microseconds since 1970-01-01T00:00:00Z.
    ///
    /// `None` outside the years that `chrono` supports (about ±262 000), so that every timestamp
    /// can be shown as a date.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        DateTime::from_timestamp_micros(micros).map(|_| Self(micros))
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Converts to a calendar date and time.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).expect("bounds were checked in from_micros")
    }

    /// Returns the timestamp one microsecond later, or `self` if it is the last.
    #[must_use]
    pub fn successor(self) -> Self {
        Self::from_micros(self.0.saturating_add(1)).unwrap_or(self)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }
}

/// Writes RFC 3339 in UTC, with 0, 3 or 6 fraction digits as needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// Stock of one SKU: a count and the time since which it is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// Pieces that can be ordered.
    pub count: Count,
    /// Time since which the count is valid, as the seller states it (`updatedAt` in both APIs).
    pub updated_at: Timestamp,
}

/// One statement of the seller about the stock of one SKU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Update {
    /// SKU that the statement is about.
    pub sku: Sku,
    /// Pieces that can be ordered.
    pub count: Count,
    /// Time since which the count is valid. `None` means "as of the arrival", which is newer than
    /// everything that was known then.
    pub updated_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_counts_outside_the_bounds() {
        assert_eq!(Count::try_from(2_000_000_000).unwrap().get(), MAX_COUNT);
        for n in [-1, 2_000_000_001, i64::from(u32::MAX) + 1, i64::MIN] {
            assert_eq!(Count::try_from(n), Err(CountError(n)));
        }
    }

    #[test]
    fn cuts_to_microseconds_and_shows_them() {
        let at: DateTime<Utc> = "2019-09-09T13:01:18.1234567+03:00".parse().unwrap();
        assert_eq!(
            Timestamp::from(at).to_string(),
            "2019-09-09T10:01:18.123456Z"
        );
        let whole: DateTime<Utc> = "2019-09-09T10:01:18Z".parse().unwrap();
        assert_eq!(Timestamp::from(whole).to_string(), "2019-09-09T10:01:18Z");
    }

    #[test]
    fn cuts_downwards_before_1970() {
        let at: DateTime<Utc> = "1969-12-31T23:59:59.9999999Z".parse().unwrap();
        assert_eq!(
            Timestamp::from(at).to_string(),
            "1969-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn rejects_micros_outside_the_calendar() {
        assert_eq!(Timestamp::from_micros(i64::MAX), None);
        assert_eq!(Timestamp::from_micros(i64::MIN), None);
    }
}

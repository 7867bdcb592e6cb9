use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::Sku;

/// Largest count the Market takes. Source: `UpdateStockItemDTO.count`, partner API OpenAPI.
pub const MAX_COUNT: u32 = 2_000_000_000;

/// How many pieces can be ordered, `0..=2_000_000_000`, reserve already taken off.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Count(u32);

impl Count {
    /// Sold out.
    pub const ZERO: Self = Self(0);

    /// The number itself.
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

/// A number that is no count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("count is {0}, it must be between 0 and {MAX_COUNT}")]
pub struct CountError(pub i64);

/// A moment, to the microsecond, UTC.
///
/// Eight bytes and a plain order, where a `DateTime` takes twelve: a million are kept. Finer
/// fractions are cut off, never rounded up, so that no value is moved into the future.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970-01-01T00:00:00Z.
    ///
    /// `None` outside the years a calendar can name (about ±262 000), so every `Instant` can
    /// be shown as a date.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        DateTime::from_timestamp_micros(micros).map(|_| Self(micros))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The calendar's name for this moment.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).expect("bounds were checked in from_micros")
    }

    /// The next moment that can be told from this one.
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

/// RFC 3339 in UTC, with as many fraction digits as there are.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// What is known of one SKU's stock: how many, and since when that is so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Level {
    /// Pieces that can be ordered.
    pub count: Count,
    /// When the seller says this count became true (`updatedAt` on every wire).
    pub updated_at: Timestamp,
}

/// One statement of a seller about one SKU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Update {
    /// Which SKU.
    pub sku: Sku,
    /// How many there are.
    pub count: Count,
    /// Since when. `None` means "as of now": such a statement is always the newest.
    pub updated_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stop_at_two_billion_and_never_wrap() {
        assert_eq!(Count::try_from(2_000_000_000).unwrap().get(), MAX_COUNT);
        for n in [-1, 2_000_000_001, i64::from(u32::MAX) + 1, i64::MIN] {
            assert_eq!(Count::try_from(n), Err(CountError(n)));
        }
    }

    #[test]
    fn a_moment_is_cut_to_microseconds_and_shown_as_it_is() {
        let at: DateTime<Utc> = "2019-09-09T13:01:18.1234567+03:00".parse().unwrap();
        assert_eq!(
            Timestamp::from(at).to_string(),
            "2019-09-09T10:01:18.123456Z"
        );
        let whole: DateTime<Utc> = "2019-09-09T10:01:18Z".parse().unwrap();
        assert_eq!(Timestamp::from(whole).to_string(), "2019-09-09T10:01:18Z");
    }

    #[test]
    fn moments_before_1970_are_cut_downwards_too() {
        let at: DateTime<Utc> = "1969-12-31T23:59:59.9999999Z".parse().unwrap();
        assert_eq!(
            Timestamp::from(at).to_string(),
            "1969-12-31T23:59:59.999999Z"
        );
    }

    #[test]
    fn moments_no_calendar_can_name_are_none() {
        assert_eq!(Timestamp::from_micros(i64::MAX), None);
        assert_eq!(Timestamp::from_micros(i64::MIN), None);
    }
}

//! Requests to the Market in the last minutes, for a rate limit that a restart must not reset.
//!
//! They are kept beside the log, because none is needed for longer than a few minutes.

use chrono::{DateTime, TimeDelta, Utc};

use super::record::MalformedRecord;

/// Time for which a send is kept: one minute for the Market's window, one for the duration of a
/// request, and one for a clock that was set.
pub(super) const RETENTION: TimeDelta = TimeDelta::minutes(3);

/// Size of one request to the Market.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecentSend {
    /// Start of the request.
    pub at: DateTime<Utc>,
    /// Number of SKUs in the request.
    pub skus: u32,
}

impl RecentSend {
    /// Reads a row of the table `spent`.
    pub(super) fn from_row(
        shop: i64,
        (at, skus): (i64, i64),
        expected_crc: i64,
    ) -> Result<Self, MalformedRecord> {
        let damaged = MalformedRecord("checksum mismatch in a recent send");
        if expected_crc != crc(shop, at, skus) {
            return Err(damaged);
        }
        match (DateTime::from_timestamp_micros(at), u32::try_from(skus)) {
            (Some(at), Ok(skus)) => Ok(Self { at, skus }),
            (None, _) | (_, Err(_)) => Err(damaged),
        }
    }
}

/// Returns the checksum of a row of the table `spent`.
pub(super) fn crc(shop: i64, at: i64, skus: i64) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    for number in [shop, at, skus] {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize().into()
}

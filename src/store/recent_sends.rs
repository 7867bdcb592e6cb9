//! Requests to the Market in the last minutes, for a rate limit that a restart must not reset.
//!
//! They are kept beside the log, because none is needed for longer than a few minutes.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::error::StoreInternalError;
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

pub(super) async fn write(
    conn: &mut SqliteConnection,
    shop: i64,
    send: RecentSend,
) -> Result<(), StoreInternalError> {
    let at = send.at.timestamp_micros();
    sqlx::query("DELETE FROM spent WHERE shop = ?1 AND at < ?2")
        .bind(shop)
        .bind((send.at - RETENTION).timestamp_micros())
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT INTO spent (shop, at, skus, crc) VALUES (?1, ?2, ?3, ?4)")
        .bind(shop)
        .bind(at)
        .bind(i64::from(send.skus))
        .bind(crc(shop, at, send.skus.into()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn read(
    conn: &mut SqliteConnection,
    shop: i64,
) -> Result<Vec<RecentSend>, StoreInternalError> {
    let rows = sqlx::query("SELECT at, skus, crc FROM spent WHERE shop = ?1 ORDER BY at")
        .bind(shop)
        .fetch_all(conn)
        .await?;
    let sends = rows.iter().map(|row| {
        let (at, skus): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let damaged = MalformedRecord("checksum mismatch in a recent send");
        if row.try_get::<i64, _>(2)? != crc(shop, at, skus) {
            return Err(damaged.into());
        }
        let at = DateTime::from_timestamp_micros(at);
        match (at, u32::try_from(skus)) {
            (Some(at), Ok(skus)) => Ok(RecentSend { at, skus }),
            (None, _) | (_, Err(_)) => Err(damaged.into()),
        }
    });
    sends.collect()
}

fn crc(shop: i64, at: i64, skus: i64) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    for number in [shop, at, skus] {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize().into()
}

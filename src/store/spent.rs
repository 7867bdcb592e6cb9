//! What was sent to the Market in the last minutes, for a limit that a restart must not reset.
//!
//! Beside the log, not in it: no record of it is worth keeping for longer than a few minutes.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::record::Malformed;
use super::session::Flaw;

/// How long what was sent is remembered: the Market's minute, the minute a request may take,
/// and one for a clock that was set.
pub(super) const REMEMBERED: TimeDelta = TimeDelta::minutes(3);

/// SKUs that went out in one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spent {
    /// When the request began.
    pub at: DateTime<Utc>,
    /// How many SKUs it had.
    pub skus: u32,
}

pub(super) async fn write(
    conn: &mut SqliteConnection,
    shop: i64,
    spent: Spent,
) -> Result<(), Flaw> {
    let at = spent.at.timestamp_micros();
    sqlx::query("DELETE FROM spent WHERE shop = ?1 AND at < ?2")
        .bind(shop)
        .bind((spent.at - REMEMBERED).timestamp_micros())
        .execute(&mut *conn)
        .await?;
    sqlx::query("INSERT INTO spent (shop, at, skus, crc) VALUES (?1, ?2, ?3, ?4)")
        .bind(shop)
        .bind(at)
        .bind(i64::from(spent.skus))
        .bind(crc(shop, at, spent.skus.into()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn read(conn: &mut SqliteConnection, shop: i64) -> Result<Vec<Spent>, Flaw> {
    let rows = sqlx::query("SELECT at, skus, crc FROM spent WHERE shop = ?1 ORDER BY at")
        .bind(shop)
        .fetch_all(conn)
        .await?;
    let spent = rows.iter().map(|row| {
        let (at, skus): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let torn = Malformed("a note of what was sent whose checksum does not match");
        if row.try_get::<i64, _>(2)? != crc(shop, at, skus) {
            return Err(torn.into());
        }
        let at = DateTime::from_timestamp_micros(at);
        match (at, u32::try_from(skus)) {
            (Some(at), Ok(skus)) => Ok(Spent { at, skus }),
            (None, _) | (_, Err(_)) => Err(torn.into()),
        }
    });
    spent.collect()
}

fn crc(shop: i64, at: i64, skus: i64) -> i64 {
    let mut crc = crc32fast::Hasher::new();
    for number in [shop, at, skus] {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize().into()
}

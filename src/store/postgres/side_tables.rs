//! Tables beside the log: notes and recent sends.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::connection::query;
use crate::store::error::StoreInternalError;
use crate::store::notes::{self, NoteRow};
use crate::store::recent_sends::{self, RETENTION, RecentSend};

/// Writes a note; `None` deletes it.
pub(super) async fn write_note(
    conn: &mut PgConnection,
    shop: i64,
    name: &str,
    text: Option<&str>,
) -> Result<(), StoreInternalError> {
    let query = match text {
        Some(text) => query(
            "INSERT INTO stockbridge.note (shop, name, text, crc) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (shop, name) DO UPDATE SET text = $3, crc = $4",
        )
        .bind(shop)
        .bind(name.to_owned())
        .bind(text.to_owned())
        .bind(notes::crc(shop, name, text)),
        None => query("DELETE FROM stockbridge.note WHERE shop = $1 AND name = $2")
            .bind(shop)
            .bind(name.to_owned()),
    };
    query.execute(conn).await?;
    Ok(())
}

/// Reads all notes.
pub(super) async fn read_notes(
    conn: &mut PgConnection,
) -> Result<Vec<NoteRow>, StoreInternalError> {
    let rows = query("SELECT shop, name, text, crc FROM stockbridge.note")
        .fetch_all(conn)
        .await?;
    let notes = rows.iter().map(|row| {
        let note = NoteRow {
            shop: row.try_get(0)?,
            name: row.try_get(1)?,
            text: row.try_get(2)?,
        };
        Ok(note.verified(row.try_get(3)?)?)
    });
    notes.collect()
}

/// Inserts a recent send of a shop, and deletes old ones.
pub(super) async fn write_send(
    conn: &mut PgConnection,
    shop: i64,
    send: RecentSend,
) -> Result<(), StoreInternalError> {
    query("DELETE FROM stockbridge.spent WHERE shop = $1 AND at < $2")
        .bind(shop)
        .bind((send.at - RETENTION).timestamp_micros())
        .execute(&mut *conn)
        .await?;
    insert_send(conn, shop, send).await
}

/// Inserts a recent send of a shop.
pub(super) async fn insert_send(
    conn: &mut PgConnection,
    shop: i64,
    send: RecentSend,
) -> Result<(), StoreInternalError> {
    let at = send.at.timestamp_micros();
    query("INSERT INTO stockbridge.spent (shop, at, skus, crc) VALUES ($1, $2, $3, $4)")
        .bind(shop)
        .bind(at)
        .bind(i64::from(send.skus))
        .bind(recent_sends::crc(shop, at, send.skus.into()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Reads the recent sends of these shops as if their times were those of a clock that shows `now`,
/// the oldest first.
pub(super) async fn read_sends_at(
    conn: &mut PgConnection,
    shops: &[i64],
    now: DateTime<Utc>,
) -> Result<Vec<RecentSend>, StoreInternalError> {
    let row = query("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        .fetch_one(&mut *conn)
        .await?;
    let database_micros: i64 = row.try_get(0)?;
    let ahead = TimeDelta::microseconds(now.timestamp_micros() - database_micros);
    let rows =
        query("SELECT shop, at, skus, crc FROM stockbridge.spent WHERE shop = ANY($1) ORDER BY at")
            .bind(shops.to_vec())
            .fetch_all(conn)
            .await?;
    let sends = rows.iter().map(|row| {
        let sent = (row.try_get(1)?, row.try_get(2)?);
        let mut send = RecentSend::from_row(row.try_get(0)?, sent, row.try_get(3)?)?;
        send.at += ahead;
        Ok(send)
    });
    sends.collect()
}

/// Returns true if the shop has a note of this name.
pub(super) async fn has_note(
    conn: &mut PgConnection,
    shop: i64,
    name: &str,
) -> Result<bool, StoreInternalError> {
    let row = query("SELECT EXISTS (SELECT 1 FROM stockbridge.note WHERE shop = $1 AND name = $2)")
        .bind(shop)
        .bind(name.to_owned())
        .fetch_one(conn)
        .await?;
    Ok(row.try_get(0)?)
}

/// Reads the recent sends of a shop, the oldest first.
pub(super) async fn read_sends(
    conn: &mut PgConnection,
    shop: i64,
) -> Result<Vec<RecentSend>, StoreInternalError> {
    let rows = query("SELECT at, skus, crc FROM stockbridge.spent WHERE shop = $1 ORDER BY at")
        .bind(shop)
        .fetch_all(conn)
        .await?;
    let sends = rows.iter().map(|row| {
        let sent = (row.try_get(0)?, row.try_get(1)?);
        Ok(RecentSend::from_row(shop, sent, row.try_get(2)?)?)
    });
    sends.collect()
}

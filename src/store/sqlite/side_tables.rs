//! Tables beside the log: notes and recent sends.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::store::error::StoreInternalError;
use crate::store::notes::{self, NoteRow};
use crate::store::recent_sends::{self, RETENTION, RecentSend};

/// Writes a note; `None` deletes it.
pub(super) async fn write_note(
    conn: &mut SqliteConnection,
    shop: i64,
    name: &str,
    text: Option<&str>,
) -> Result<(), StoreInternalError> {
    let query = match text {
        Some(text) => sqlx::query(
            "INSERT OR REPLACE INTO note (shop, name, text, crc) VALUES (?1, ?2, ?3, ?4)",
        )
        .bind(shop)
        .bind(name)
        .bind(text)
        .bind(notes::crc(shop, name, text)),
        None => sqlx::query("DELETE FROM note WHERE shop = ?1 AND name = ?2")
            .bind(shop)
            .bind(name),
    };
    query.execute(conn).await?;
    Ok(())
}

/// Reads all notes.
pub(super) async fn read_notes(
    conn: &mut SqliteConnection,
) -> Result<Vec<NoteRow>, StoreInternalError> {
    let rows = sqlx::query("SELECT shop, name, text, crc FROM note")
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
    conn: &mut SqliteConnection,
    shop: i64,
    send: RecentSend,
) -> Result<(), StoreInternalError> {
    sqlx::query("DELETE FROM spent WHERE shop = ?1 AND at < ?2")
        .bind(shop)
        .bind((send.at - RETENTION).timestamp_micros())
        .execute(&mut *conn)
        .await?;
    insert_send(conn, shop, send).await
}

/// Inserts a recent send of a shop.
pub(super) async fn insert_send(
    conn: &mut SqliteConnection,
    shop: i64,
    send: RecentSend,
) -> Result<(), StoreInternalError> {
    let at = send.at.timestamp_micros();
    sqlx::query("INSERT INTO spent (shop, at, skus, crc) VALUES (?1, ?2, ?3, ?4)")
        .bind(shop)
        .bind(at)
        .bind(i64::from(send.skus))
        .bind(recent_sends::crc(shop, at, send.skus.into()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Reads the recent sends of a shop, the oldest first.
pub(super) async fn read_sends(
    conn: &mut SqliteConnection,
    shop: i64,
) -> Result<Vec<RecentSend>, StoreInternalError> {
    let rows = sqlx::query("SELECT at, skus, crc FROM spent WHERE shop = ?1 ORDER BY at")
        .bind(shop)
        .fetch_all(conn)
        .await?;
    let sends = rows.iter().map(|row| {
        let sent = (row.try_get(0)?, row.try_get(1)?);
        Ok(RecentSend::from_row(shop, sent, row.try_get(2)?)?)
    });
    sends.collect()
}

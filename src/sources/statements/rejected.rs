//! Lists of the rows of a delivery that are not applied.

use rusqlite::{Connection, params};
use stock_import::RejectedRow;

use super::{SourceId, StorageError};

/// Adds a row to the list of a staging file.
pub(super) fn insert(conn: &Connection, row: &RejectedRow) -> Result<(), StorageError> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO rejected (line, text, reason, suspicious) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let line = i64::try_from(row.line).unwrap_or(i64::MAX);
    insert.execute(params![line, row.text, row.reason, row.is_suspicious])?;
    Ok(())
}

/// Returns the first rejected and suspicious rows of a staging file.
pub(super) fn first_rejected(conn: &Connection) -> Result<Vec<RejectedRow>, StorageError> {
    let sql = "SELECT line, text, reason, suspicious FROM rejected ORDER BY line LIMIT 20";
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map([], rejected_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Decodes a database row of line, text, reason and the mark "suspicious".
pub(super) fn rejected_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RejectedRow> {
    Ok(RejectedRow {
        line: u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default(),
        text: row.get(1)?,
        reason: row.get(2)?,
        sku: None,
        possible_sku: None,
        is_suspicious: row.get(3)?,
    })
}

/// Replaces the stored rejected rows of a source by those of the delivery that is attached as
/// `delivery`.
pub(super) fn save_rejected(
    conn: &mut Connection,
    source: SourceId,
    limit: u32,
) -> Result<(), StorageError> {
    let transaction = conn.transaction()?;
    transaction.execute("DELETE FROM rejected WHERE source = ?1", params![source.0])?;
    transaction.execute(
        "INSERT INTO rejected (source, line, text, reason, suspicious) \
         SELECT ?1, line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT ?2",
        params![source.0, limit],
    )?;
    Ok(transaction.commit()?)
}

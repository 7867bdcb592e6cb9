//! Reading of all valid records in order, with a check for missing, moved and altered ones.

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::store_header::StoreHeader;
use crate::store::error::StoreInternalError;
use crate::store::record::{
    MalformedRecord, RecordKey, RecordReader, SealedRecord, missing_changes, missing_chunks,
    rows_error,
};

/// Visits every valid record in the order of application: the chunks of the snapshot, then the
/// changes after it.
///
/// # Errors
/// A record is missing, out of place or altered; the error names it.
pub(super) async fn replay(
    conn: &mut SqliteConnection,
    header: StoreHeader,
    mut visit: impl FnMut(i64, RecordReader<'_>) -> Result<(), MalformedRecord>,
) -> Result<(), StoreInternalError> {
    let StoreHeader {
        generation,
        chunks,
        snapshot_seq,
        last_seq,
        shops,
        ..
    } = header;
    let mut expected = 0;
    let mut records = sqlx::query(
        "SELECT chunk, shop, rows, body FROM snapshot WHERE generation = ?1 ORDER BY chunk",
    )
    .bind(generation)
    .fetch(&mut *conn);
    while let Some(row) = records.try_next().await? {
        let chunk = row.try_get(0)?;
        let key = RecordKey::Chunk { generation, chunk };
        visit_row(&row, (key, expected), shops, &mut visit)?;
        expected += 1;
    }
    drop(records);
    if expected != chunks {
        return Err(missing_chunks(expected, chunks));
    }
    let mut expected = snapshot_seq + 1;
    let mut records =
        sqlx::query("SELECT seq, shop, rows, body FROM change WHERE seq > ?1 ORDER BY seq")
            .bind(snapshot_seq)
            .fetch(conn);
    while let Some(row) = records.try_next().await? {
        let seq = row.try_get(0)?;
        visit_row(
            &row,
            (RecordKey::Change { seq }, expected),
            shops,
            &mut visit,
        )?;
        expected += 1;
    }
    if expected != last_seq + 1 {
        return Err(missing_changes(expected, last_seq));
    }
    Ok(())
}

/// Returns the rows in the snapshot per shop number, after a check against the total.
pub(super) async fn snapshot_row_counts(
    conn: &mut SqliteConnection,
    header: StoreHeader,
) -> Result<Vec<(i64, usize)>, StoreInternalError> {
    let counts: Vec<(i64, i64)> =
        sqlx::query_as("SELECT shop, sum(rows) FROM snapshot WHERE generation = ?1 GROUP BY shop")
            .bind(header.generation)
            .fetch_all(conn)
            .await?;
    if counts
        .iter()
        .try_fold(0i64, |sum, (_, rows)| sum.checked_add(*rows))
        != Some(header.rows)
    {
        return Err(MalformedRecord("wrong number of rows in the snapshot").into());
    }
    let rows = |rows| usize::try_from(rows).map_err(|_| MalformedRecord("negative number of rows"));
    counts
        .into_iter()
        .map(|(shop, count)| Ok((shop, rows(count)?)))
        .collect()
}

fn visit_row(
    row: &SqliteRow,
    (key, expected): (RecordKey, i64),
    shops: i64,
    visit: &mut impl FnMut(i64, RecordReader<'_>) -> Result<(), MalformedRecord>,
) -> Result<(), StoreInternalError> {
    let what = match key {
        RecordKey::Chunk { .. } => "snapshot chunk",
        RecordKey::Change { .. } => "change",
    };
    let record = SealedRecord {
        key,
        shop: row.try_get(1)?,
        rows: row.try_get(2)?,
        body: row.try_get(3)?,
    };
    if !(1..=shops).contains(&record.shop) {
        return Err(rows_error(what, expected, MalformedRecord("unknown shop")));
    }
    visit(record.shop, record.open(expected)?)
        .map_err(|malformed| rows_error(what, expected, malformed))
}

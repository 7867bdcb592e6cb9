//! Reading of all valid records in order, with a check for missing, moved and altered ones.

use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::error::StoreInternalError;
use super::record::{MalformedRecord, RecordKey, RecordLocation, RecordReader, unseal};
use super::store_header::StoreHeader;

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
        let key = |chunk| RecordKey::Chunk { generation, chunk };
        visit_row(&row, expected, shops, key, &mut visit)
            .map_err(|error| add_location(error, "snapshot chunk", expected))?;
        expected += 1;
    }
    drop(records);
    if expected != chunks {
        return Err(StoreInternalError::Damaged(format!(
            "the snapshot has only {expected} of {chunks} chunks"
        )));
    }
    let mut expected = snapshot_seq + 1;
    let mut records =
        sqlx::query("SELECT seq, shop, rows, body FROM change WHERE seq > ?1 ORDER BY seq")
            .bind(snapshot_seq)
            .fetch(conn);
    while let Some(row) = records.try_next().await? {
        let key = |seq| RecordKey::Change { seq };
        visit_row(&row, expected, shops, key, &mut visit)
            .map_err(|error| add_location(error, "change", expected))?;
        expected += 1;
    }
    if expected != last_seq + 1 {
        return Err(StoreInternalError::Damaged(format!(
            "the changes from {expected} to {last_seq} are missing"
        )));
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
    expected: i64,
    shops: i64,
    key: impl FnOnce(i64) -> RecordKey,
    visit: &mut impl FnMut(i64, RecordReader<'_>) -> Result<(), MalformedRecord>,
) -> Result<(), StoreInternalError> {
    let found: i64 = row.try_get(0)?;
    if found != expected {
        return Err(StoreInternalError::Damaged(format!(
            "the next record has number {found}"
        )));
    }
    let location = RecordLocation {
        key: key(found),
        shop: row.try_get(1)?,
        rows: row.try_get(2)?,
    };
    if !(1..=shops).contains(&location.shop) {
        return Err(MalformedRecord("unknown shop").into());
    }
    let body = unseal(&location, row.try_get(3)?)?;
    Ok(visit(
        location.shop,
        RecordReader::new(body, location.rows)?,
    )?)
}

fn add_location(error: StoreInternalError, what: &str, number: i64) -> StoreInternalError {
    match error {
        StoreInternalError::Damaged(detail) => {
            StoreInternalError::Damaged(format!("{what} {number}: {detail}"))
        }
        StoreInternalError::Sqlite(_) | StoreInternalError::Closed => error,
    }
}

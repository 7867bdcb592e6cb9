//! Reading of the records of one shop in order, with a check for missing and altered ones.

use futures_util::{Stream, TryStreamExt};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::connection::{WRITE_TIMEOUT, query, with_limit};
use super::shop_log::{LogEnd, LogRow};
use crate::store::error::StoreInternalError;
use crate::store::packing::RECORD_OVERHEAD;
use crate::store::record::{
    MalformedRecord, RecordKey, RecordReader, SealedRecord, missing_chunks, rows_error,
};

/// Record as it is in the database, whose checksum is not verified yet.
#[derive(Debug)]
pub(super) struct RawRecord {
    pub(super) number: i64,
    pub(super) rows: i64,
    pub(super) body: Vec<u8>,
}

/// Visits the chunks of the valid snapshot of a shop. Returns their size in bytes.
pub(super) async fn read_snapshot(
    conn: &mut PgConnection,
    row: &LogRow,
    mut visit: impl FnMut(RecordReader<'_>) -> Result<(), MalformedRecord>,
) -> Result<u64, StoreInternalError> {
    let (shop, snapshot) = (row.shop.id, row.snapshot);
    let (mut expected, mut rows_read, mut bytes) = (0, 0i64, 0);
    let mut records = query(
        "SELECT chunk, rows, body FROM stockbridge.snapshot WHERE shop = $1 AND generation = $2 \
         ORDER BY chunk",
    )
    .bind(shop)
    .bind(snapshot.generation)
    .fetch(conn);
    while let Some(found) = next_row(&mut records).await? {
        let key = RecordKey::Chunk {
            generation: snapshot.generation,
            chunk: found.try_get(0)?,
        };
        let (rows, body): (i64, &[u8]) = (found.try_get(1)?, found.try_get(2)?);
        let record = SealedRecord {
            key,
            shop,
            rows,
            body,
        };
        visit(record.open(expected)?).map_err(|malformed| {
            let what = format!("shop '{}', snapshot chunk", row.shop.name);
            rows_error(&what, expected, malformed)
        })?;
        expected += 1;
        rows_read = rows_read.saturating_add(rows);
        bytes += body.len() as u64;
    }
    if expected != snapshot.chunks {
        return Err(missing_chunks(expected, snapshot.chunks));
    }
    if rows_read != snapshot.rows {
        return Err(MalformedRecord("wrong number of rows in the snapshot").into());
    }
    Ok(bytes)
}

/// Reads the changes of a shop after `from`, up to the change `to`.
///
/// Fewer are returned if the first ones are in a snapshot already.
pub(super) async fn read_changes(
    conn: &mut PgConnection,
    shop: i64,
    from: i64,
    to: i64,
) -> Result<Vec<RawRecord>, StoreInternalError> {
    let mut rows = query(
        "SELECT ver, rows, body FROM stockbridge.change WHERE shop = $1 AND ver > $2 AND ver <= $3 \
         ORDER BY ver",
    )
    .bind(shop)
    .bind(from)
    .bind(to)
    .fetch(conn);
    let mut changes = Vec::new();
    while let Some(row) = next_row(&mut rows).await? {
        changes.push(RawRecord {
            number: row.try_get(0)?,
            rows: row.try_get(1)?,
            body: row.try_get(2)?,
        });
    }
    Ok(changes)
}

/// Waits for the next row. All rows may take long, but one that does not arrive shows that the server
/// cannot be reached any more, even if the connection is open.
async fn next_row(
    rows: &mut (impl Stream<Item = Result<PgRow, sqlx::Error>> + Unpin),
) -> Result<Option<PgRow>, StoreInternalError> {
    with_limit(WRITE_TIMEOUT, async { Ok(rows.try_next().await?) }).await
}

/// Visits changes that follow `from`. Returns the position after them, and their size in bytes.
pub(super) fn visit_changes(
    (shop, name): (i64, &str),
    from: LogEnd,
    changes: &[RawRecord],
    mut visit: impl FnMut(RecordReader<'_>) -> Result<(), MalformedRecord>,
) -> Result<(LogEnd, u64), StoreInternalError> {
    let (mut end, mut bytes) = (from, 0);
    for change in changes {
        let expected = end.ver + 1;
        let record = SealedRecord {
            key: RecordKey::Change { seq: change.number },
            shop,
            rows: change.rows,
            body: &change.body,
        };
        visit(record.open(expected)?).map_err(|malformed| {
            rows_error(&format!("shop '{name}', change"), expected, malformed)
        })?;
        end = end.after(&change.body);
        bytes += change.body.len() as u64 + RECORD_OVERHEAD;
    }
    Ok((end, bytes))
}

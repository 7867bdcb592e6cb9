//! Compaction: writes a snapshot in small steps, and deletes records that are no longer valid.
//!
//! Each step is one short transaction, so that appends are never blocked for long.

use futures_util::TryStreamExt;
use sqlx::Row;
use stock::{Activity, ShopId, SkuId, StockBook};

use super::store_connection::StoreConnection;
use super::store_header::StoreHeader;
use super::store_write::StoreWrite;
use super::{SqliteStore, StoreGuard};
use crate::store::error::StoreInternalError;
use crate::store::packing::{pack_quarantine, pack_shop};
use crate::store::record::{PackedRecord, RECORD_BYTES, RecordKey, RecordLocation};
use crate::store::{Acked, StoreError};

/// Maximum chunks deleted in one transaction: 4 MiB, a few milliseconds.
const MAX_STALE_CHUNKS: i64 = 16;

/// Maximum changes deleted or copied in one transaction.
const MAX_BATCH_CHANGES: i64 = 4096;

/// Size of the deleted changes at which a transaction ends, in bytes.
const MAX_BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// Writer of a snapshot, which becomes valid with [`SnapshotWriter::finish`].
pub(super) struct SnapshotWriter<'a> {
    store: &'a SqliteStore,
    generation: i64,
    chunks: i64,
    rows: i64,
    snapshot_seq: i64,
}

impl<'a> SnapshotWriter<'a> {
    /// Notes the last change that the book surely has, and deletes the chunks of a failed attempt.
    pub(super) async fn begin(store: &'a SqliteStore) -> Result<Self, StoreError> {
        let (generation, seq) = {
            let mut guard = store.lock().await;
            guard.connection.ensure_ready().await?;
            (
                guard.connection.header().generation + 1,
                store.applied_seq(&guard),
            )
        };
        collect_garbage(store).await?;
        Ok(Self {
            store,
            generation,
            chunks: 0,
            rows: 0,
            snapshot_seq: seq,
        })
    }

    /// Writes the stock, acknowledgements, activity and quarantine of a shop.
    pub(super) async fn write_shop(
        &mut self,
        book: &StockBook,
        shop: ShopId,
        acked: impl Fn(SkuId) -> Acked,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let id = self.store.disk_id(shop);
        for packed in pack_shop(book, shop, acked, activity) {
            self.write_records(&mut self.store.lock().await, vec![(id, packed)])
                .await?;
        }
        let mut guard = self.store.lock().await;
        for packed in pack_quarantine(&guard.quarantine, id) {
            self.write_records(&mut guard, vec![(id, packed)]).await?;
        }
        Ok(())
    }

    /// Copies the records of a shop that is not in the configuration, unchanged.
    pub(super) async fn copy_absent_shop(&mut self, shop: i64) -> Result<(), StoreError> {
        let mut cursor = Some(AbsentShopCursor::Chunk(-1));
        while let Some(after) = cursor {
            let mut guard = self.store.lock().await;
            guard.connection.ensure_ready().await?;
            let outcome = read_batch(&mut guard.connection, shop, after, self.snapshot_seq).await;
            let (records, next) =
                outcome.map_err(|error| guard.connection.record_failure(error))?;
            if !records.is_empty() {
                let records = records.into_iter().map(|packed| (shop, packed)).collect();
                self.write_records(&mut guard, records).await?;
            }
            cursor = next;
        }
        Ok(())
    }

    /// Makes the snapshot valid and deletes the old one.
    ///
    /// A crash before the commit leaves the old snapshot, a crash after it the new one. In both
    /// cases the next start deletes the garbage.
    pub(super) async fn finish(self) -> Result<(), StoreError> {
        {
            let mut guard = self.store.lock().await;
            guard.connection.ensure_ready().await?;
            let header = StoreHeader {
                generation: self.generation,
                chunks: self.chunks,
                rows: self.rows,
                snapshot_seq: self.snapshot_seq,
                ..guard.connection.header()
            };
            guard.connection.commit(Vec::new(), header).await?;
            guard.connection.update_sizes().await?;
        }
        collect_garbage(self.store).await
    }

    async fn write_records(
        &mut self,
        guard: &mut StoreGuard<'_>,
        records: Vec<(i64, PackedRecord)>,
    ) -> Result<(), StoreError> {
        let (mut chunk, mut rows) = (self.chunks, self.rows);
        let generation = self.generation;
        let to_write = |(shop, packed): (i64, PackedRecord)| {
            rows += packed.rows;
            chunk += 1;
            StoreWrite::Chunk {
                generation,
                chunk: chunk - 1,
                shop,
                packed,
            }
        };
        let writes = records.into_iter().map(to_write).collect();
        guard.connection.ensure_ready().await?;
        let header = guard.connection.header();
        guard.connection.commit(writes, header).await?;
        (self.chunks, self.rows) = (chunk, rows);
        Ok(())
    }
}

/// Deletes chunks of other generations than the valid one, and changes that are in its snapshot.
///
/// Each transaction is small, and appends can run in between. After a crash the next start deletes
/// the rest.
pub(super) async fn collect_garbage(store: &SqliteStore) -> Result<(), StoreError> {
    loop {
        let mut guard = store.lock().await;
        guard.connection.ensure_ready().await?;
        if !collect_some(&mut guard.connection).await? {
            return Ok(());
        }
    }
}

async fn collect_some(connection: &mut StoreConnection) -> Result<bool, StoreError> {
    let outcome = find_garbage(connection).await;
    let Some(write) = outcome.map_err(|error| connection.record_failure(error))? else {
        return Ok(false);
    };
    let header = connection.header();
    connection.commit(vec![write], header).await?;
    Ok(true)
}

/// Returns the next deletion, or `None` without garbage.
async fn find_garbage(
    connection: &mut StoreConnection,
) -> Result<Option<StoreWrite>, StoreInternalError> {
    let StoreHeader {
        generation,
        snapshot_seq,
        ..
    } = connection.header();
    let conn = connection.conn()?;
    let has_stale = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM snapshot WHERE generation < ?1) \
         OR EXISTS (SELECT 1 FROM snapshot WHERE generation > ?1)",
    )
    .bind(generation)
    .fetch_one(&mut *conn)
    .await?;
    if has_stale {
        return Ok(Some(StoreWrite::DropStale {
            generation,
            limit: MAX_STALE_CHUNKS,
        }));
    }
    let mut compacted = sqlx::query_as(
        "SELECT seq, length(body) FROM change WHERE seq <= ?1 ORDER BY seq LIMIT ?2",
    )
    .bind(snapshot_seq)
    .bind(MAX_BATCH_CHANGES)
    .fetch(conn);
    let (mut last, mut bytes) = (None, 0);
    while let Some((seq, length)) = compacted.try_next().await? {
        let _: (i64, i64) = (seq, length);
        last = Some(StoreWrite::DropCompacted(seq));
        bytes += length;
        if bytes >= MAX_BATCH_BYTES {
            break;
        }
    }
    Ok(last)
}

/// Position in the copy of an absent shop's records.
#[derive(Clone, Copy)]
enum AbsentShopCursor {
    Chunk(i64),
    Change(i64),
}

/// Reads the next records of a shop, in their order, from the valid snapshot or from the log.
///
/// Also returns the position after them, or `None` at the end.
async fn read_batch(
    connection: &mut StoreConnection,
    shop: i64,
    after: AbsentShopCursor,
    up_to: i64,
) -> Result<(Vec<PackedRecord>, Option<AbsentShopCursor>), StoreInternalError> {
    let StoreHeader {
        generation,
        snapshot_seq,
        ..
    } = connection.header();
    let query = match after {
        AbsentShopCursor::Chunk(chunk) => sqlx::query(
            "SELECT chunk, rows, body FROM snapshot \
             WHERE generation = ?1 AND chunk > ?2 AND shop = ?3 ORDER BY chunk LIMIT ?4",
        )
        .bind(generation)
        .bind(chunk),
        AbsentShopCursor::Change(seq) => sqlx::query(
            "SELECT seq, rows, body FROM change \
             WHERE seq <= ?1 AND seq > ?2 AND shop = ?3 ORDER BY seq LIMIT ?4",
        )
        .bind(up_to)
        .bind(seq),
    };
    let mut found = query
        .bind(shop)
        .bind(MAX_BATCH_CHANGES)
        .fetch(connection.conn()?);
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut last = match after {
        AbsentShopCursor::Chunk(_) => Some(AbsentShopCursor::Change(snapshot_seq)),
        AbsentShopCursor::Change(_) => None,
    };
    while let Some(row) = found.try_next().await? {
        let number = row.try_get(0)?;
        let (key, cursor) = match after {
            AbsentShopCursor::Chunk(_) => (
                RecordKey::Chunk {
                    generation,
                    chunk: number,
                },
                AbsentShopCursor::Chunk(number),
            ),
            AbsentShopCursor::Change(_) => (
                RecordKey::Change { seq: number },
                AbsentShopCursor::Change(number),
            ),
        };
        let body: &[u8] = row.try_get(2)?;
        bytes += body.len();
        records.push(PackedRecord::unseal(
            &RecordLocation {
                key,
                shop,
                rows: row.try_get(1)?,
            },
            body,
        )?);
        last = Some(cursor);
        if bytes >= RECORD_BYTES {
            break;
        }
    }
    Ok((records, last))
}

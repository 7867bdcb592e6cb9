use futures_util::TryStreamExt;
use sqlx::Row;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::record::{
    PackedRecord, RECORD_BYTES, RecordKey, RecordKind, RecordLocation, RecordPacker,
};
use super::sqlite::StoreGuard;
use super::store_connection::{StoreConnection, StoreHeader, StoreInternalError, StoreWrite};
use super::{Acked, Store, StoreError};
use crate::stock::{Activity, ShopId, SkuId, StockBook};

/// Most chunks deleted in one transaction: 4 MiB, a few milliseconds.
const MAX_STALE_CHUNKS: i64 = 16;

/// Most changes deleted or carried over in one transaction.
const MAX_BATCH_CHANGES: i64 = 4096;

/// Bytes of changes after which a transaction deletes no more.
const MAX_BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// A snapshot being written: nobody looks at it before [`Snapshot::finish`].
pub(super) struct SnapshotWriter<'a> {
    store: &'a Store,
    generation: i64,
    chunks: i64,
    rows: i64,
    snapshot_seq: i64,
}

impl<'a> SnapshotWriter<'a> {
    /// Notes up to where the book has everything, and clears away an earlier attempt.
    pub(super) async fn begin(store: &'a Store) -> Result<Self, StoreError> {
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

    /// Writes what the book has of a shop.
    pub(super) async fn write_shop(
        &mut self,
        book: &StockBook,
        shop: ShopId,
        acked: impl Fn(SkuId) -> Acked,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let id = self.store.disk_id(shop);
        let pack = || {
            // First: those who have stock by now are introduced by it.
            let mut unknown = RecordPacker::new(RecordKind::Activity);
            activity.for_each_unknown(shop, book, |sku, sku_activity| {
                unknown.push_activity(sku, sku_activity)
            });
            let mut packer = RecordPacker::new(RecordKind::Full);
            book.for_each(shop, |sku, entry| {
                let id = entry.id();
                packer.push_full(sku, entry.level(), acked(id), &activity.get(shop, id));
            });
            let mut packed = packer.finish();
            packed.extend(unknown.finish());
            packed
        };
        for packed in run_blocking_in_place(pack) {
            self.write_records(&mut self.store.lock().await, vec![(id, packed)])
                .await?;
        }
        let mut guard = self.store.lock().await;
        let mut packer = RecordPacker::new(RecordKind::Quarantined);
        for row in guard.quarantine.entries(id) {
            packer.push_quarantined(row);
        }
        for packed in packer.finish() {
            self.write_records(&mut guard, vec![(id, packed)]).await?;
        }
        Ok(())
    }

    /// Carries over, as they are, the records of a shop that is not in the configuration.
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

    /// Makes the snapshot the valid one. A crash before this leaves the old one, and chunks
    /// that the next start sweeps away; a crash after it leaves the new one, and the same.
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

/// Deletes what is not valid any more, or never was: chunks of other generations than the
/// valid one and changes that are in its snapshot.
///
/// In small transactions, between which others get their turn. A crash leaves the rest to the
/// next start.
pub(super) async fn collect_garbage(store: &Store) -> Result<(), StoreError> {
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

/// What is worth deleting at once.
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

/// How far the records of an absent shop have been carried over.
#[derive(Clone, Copy)]
enum AbsentShopCursor {
    Chunk(i64),
    Change(i64),
}

/// Some more records of a shop, in their order, from the valid snapshot or from the log, and
/// where to go on.
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

/// Runs work that takes tens of milliseconds without keeping the runtime's other tasks waiting,
/// where the runtime has threads to spare.
fn run_blocking_in_place<T>(computation: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(computation),
        Ok(_) | Err(_) => computation(),
    }
}

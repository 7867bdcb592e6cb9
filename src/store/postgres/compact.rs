//! Compaction: writes the snapshot of one shop in one transaction, on a connection of its own.
//!
//! A crash rolls the transaction back. A second one then deletes what the snapshot replaces; what
//! it leaves behind is ignored by readers, and the next compaction deletes it.

use sqlx::Row;
use sqlx::postgres::PgConnection;
use stock::{Activity, ShopId, SkuId, StockBook};

use super::connection::{
    BULK_TIMEOUT, PostgresConnection, Purpose, is_conflict, query, with_limit,
};
use super::read_log::{read_changes, visit_changes};
use super::shop_log::{LogEnd, LogRow, SnapshotHead};
use super::{PostgresStore, ShopLog, check_open};
use crate::store::error::StoreInternalError;
use crate::store::packing::{pack_quarantine, pack_shop};
use crate::store::record::{PackedRecord, RECORD_BYTES, RecordKey};
use crate::store::{Acked, COMPACTION_BYTES, StoreError};

/// Chunks in one statement: about a megabyte, which arrives before the server takes this process for
/// a stopped one.
const CHUNKS_PER_STATEMENT: usize = 1024 * 1024 / RECORD_BYTES;

impl ShopLog {
    /// Returns true if the log of the shop is large enough for a compaction.
    pub(super) fn wants_compaction(&self) -> bool {
        self.log_bytes > self.snapshot_bytes.max(COMPACTION_BYTES)
    }
}

impl PostgresStore {
    /// Writes the snapshots of the shops whose log has grown enough; without one, of all shops.
    pub(in crate::store) async fn compact(
        &self,
        book: &StockBook,
        acked: impl Fn(ShopId, SkuId) -> Acked + Send + Sync,
        activity: &Activity,
    ) -> Result<(), StoreError> {
        let mut connection = self.compaction.lock().await;
        let wanted: Vec<bool> = {
            let state = self.state.lock().await;
            check_open(&state)?;
            state.logs.iter().map(ShopLog::wants_compaction).collect()
        };
        let is_any = wanted.contains(&true);
        for (shop, is_wanted) in book.shops().zip(wanted) {
            if is_any && !is_wanted {
                continue;
            }
            if is_any && !self.still_wants_compaction(&mut connection, shop).await? {
                continue;
            }
            let (id, upto, log_bytes, quarantine) = {
                let state = self.state.lock().await;
                let ShopLog {
                    id, end, log_bytes, ..
                } = state.logs[shop.index()];
                // Memory must have every change that the snapshot replaces.
                self.pending_appends.none_in(id).await;
                let quarantine = pack_quarantine(&state.quarantine, id);
                (id, end, log_bytes, quarantine)
            };
            let mut packed = pack_shop(book, shop, |id| acked(shop, id), activity);
            packed.extend(quarantine);
            let bytes = packed.iter().map(|packed| packed.body.len() as u64).sum();
            let writing = write_snapshot(&mut connection, id, upto, packed);
            let written = with_limit(BULK_TIMEOUT, writing).await;
            let generation = match written {
                Ok(generation) => generation,
                // Another process compacts the shop.
                Err(error) if is_conflict(&error) => continue,
                Err(error) => return Err(connection.to_store_error(error)),
            };
            let mut state = self.state.lock().await;
            let log = &mut state.logs[shop.index()];
            log.generation = generation;
            // Changes that were appended meanwhile are still in the log.
            log.log_bytes = log.log_bytes.saturating_sub(log_bytes);
            log.snapshot_bytes = bytes;
            self.publish(&state, None);
        }
        Ok(())
    }
}

impl PostgresStore {
    /// Reads the sizes of a shop again, because another process may have compacted it.
    async fn still_wants_compaction(
        &self,
        connection: &mut PostgresConnection,
        shop: ShopId,
    ) -> Result<bool, StoreError> {
        let id = self.state.lock().await.logs[shop.index()].id;
        let outcome = with_limit(BULK_TIMEOUT, read_sizes(connection, id)).await;
        let sizes = outcome.map_err(|error| connection.to_store_error(error))?;
        let mut state = self.state.lock().await;
        let log = &mut state.logs[shop.index()];
        if sizes.generation != log.generation {
            (log.generation, log.log_bytes) = (sizes.generation, sizes.log_bytes);
            log.snapshot_bytes = sizes.snapshot_bytes;
        }
        let is_wanted = log.wants_compaction();
        self.publish(&state, None);
        Ok(is_wanted)
    }
}

/// Sizes of a shop in the database, in bytes.
struct ShopSizes {
    generation: i64,
    log_bytes: u64,
    snapshot_bytes: u64,
}

async fn read_sizes(
    connection: &mut PostgresConnection,
    id: i64,
) -> Result<ShopSizes, StoreInternalError> {
    let mut work = connection.begin(Purpose::ReadAll).await?;
    let row = query(
        "SELECT s.generation, (SELECT coalesce(sum(length(body) + 20), 0)::bigint \
         FROM stockbridge.change c WHERE c.shop = s.id AND c.ver > s.upto), \
         (SELECT coalesce(sum(length(body)), 0)::bigint FROM stockbridge.snapshot n \
         WHERE n.shop = s.id AND n.generation = s.generation) \
         FROM stockbridge.shop s WHERE s.id = $1",
    )
    .bind(id)
    .fetch_one(work.conn())
    .await?;
    work.roll_back().await?;
    Ok(ShopSizes {
        generation: row.try_get(0)?,
        log_bytes: row.try_get::<i64, _>(1)?.unsigned_abs(),
        snapshot_bytes: row.try_get::<i64, _>(2)?.unsigned_abs(),
    })
}

/// Writes a snapshot and makes it valid, unless a later one is. Returns the valid generation.
async fn write_snapshot(
    connection: &mut PostgresConnection,
    id: i64,
    upto: LogEnd,
    packed: Vec<PackedRecord>,
) -> Result<i64, StoreInternalError> {
    let mut work = connection.begin(Purpose::WriteAll).await?;
    let conn = work.conn();
    let (generation, name): (i64, String) = {
        let row = query("SELECT generation + 1, name FROM stockbridge.shop WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *conn)
            .await?;
        (row.try_get(0)?, row.try_get(1)?)
    };
    let chunks = i64::try_from(packed.len()).unwrap_or(i64::MAX);
    let rows = packed.iter().map(|packed| packed.rows).sum();
    insert_snapshot(conn, (id, generation), packed).await?;
    // Before the row is locked: others wait for it, and for as long as this process is stopped while
    // the server sends changes.
    let reached = read_chain(conn, (id, &name), upto, i64::MAX).await?;
    let mut row = LogRow::lock(conn, id).await?;
    if row.snapshot.generation + 1 != generation || row.snapshot.upto.ver > upto.ver {
        // Another process was faster, with a snapshot that is as good.
        work.roll_back().await?;
        return Ok(row.snapshot.generation);
    }
    if read_chain(conn, (id, &name), reached, row.end.ver).await? != row.end {
        // The database has lost changes, or has others at their place: they are appended again first.
        work.roll_back().await?;
        return Ok(row.snapshot.generation);
    }
    row.snapshot = SnapshotHead {
        generation,
        chunks,
        rows,
        upto,
    };
    row.write(conn).await?;
    work.commit().await?;
    let mut work = connection.begin(Purpose::WriteAll).await?;
    let conn = work.conn();
    query("DELETE FROM stockbridge.snapshot WHERE shop = $1 AND generation < $2")
        .bind(id)
        .bind(generation)
        .execute(&mut *conn)
        .await?;
    query("DELETE FROM stockbridge.change WHERE shop = $1 AND ver <= $2")
        .bind(id)
        .bind(upto.ver)
        .execute(&mut *conn)
        .await?;
    work.commit().await?;
    Ok(generation)
}

/// Returns the position to which the changes after `from` lead, up to the change `to`.
async fn read_chain(
    conn: &mut PgConnection,
    named: (i64, &str),
    from: LogEnd,
    to: i64,
) -> Result<LogEnd, StoreInternalError> {
    let changes = read_changes(conn, named.0, from.ver, to).await?;
    // Another process may have compacted the shop meanwhile.
    let first = changes.first().map(|first| first.number);
    if first.is_none_or(|number| number != from.ver + 1) {
        return Ok(from);
    }
    let (end, _) = visit_changes(named, from, &changes, |_| Ok(()))?;
    Ok(end)
}

/// Inserts all chunks of a snapshot.
pub(super) async fn insert_snapshot(
    conn: &mut PgConnection,
    (id, generation): (i64, i64),
    packed: Vec<PackedRecord>,
) -> Result<(), StoreInternalError> {
    let mut first = 0;
    let mut packed = packed.into_iter().peekable();
    while packed.peek().is_some() {
        let some = packed.by_ref().take(CHUNKS_PER_STATEMENT).collect();
        first += insert_chunks(conn, (id, generation), first, some).await?;
    }
    Ok(())
}

/// Inserts chunks with the numbers from `first` on. Returns how many.
async fn insert_chunks(
    conn: &mut PgConnection,
    (id, generation): (i64, i64),
    first: i64,
    packed: Vec<PackedRecord>,
) -> Result<i64, StoreInternalError> {
    let (mut numbers, mut rows, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for (chunk, packed) in (first..).zip(packed) {
        numbers.push(chunk);
        rows.push(packed.rows);
        bodies.push(packed.seal(RecordKey::Chunk { generation, chunk }, id));
    }
    let count = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
    query(
        "INSERT INTO stockbridge.snapshot (shop, generation, chunk, rows, body) \
         SELECT $1, $2, * FROM unnest($3::bigint[], $4::bigint[], $5::bytea[])",
    )
    .bind(id)
    .bind(generation)
    .bind(numbers)
    .bind(rows)
    .bind(bodies)
    .execute(conn)
    .await?;
    Ok(count)
}

use futures_util::TryStreamExt;
use sqlx::Row;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::record::{Key, Kind, Packed, Packer, Place, RECORD_BYTES};
use super::session::{Flaw, Head, Session, Write};
use super::sqlite::Desk;
use super::{Acked, Store, StoreError};
use crate::stock::{Marks, ShopId, SkuId, StockBook};

/// Most chunks deleted in one transaction: 4 MiB, a few milliseconds.
const STALE_CHUNKS: i64 = 16;

/// Most changes deleted or carried over in one transaction.
const BATCH_CHANGES: i64 = 4096;

/// Bytes of changes after which a transaction deletes no more.
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// A snapshot being written: nobody looks at it before [`Snapshot::finish`].
pub(super) struct Snapshot<'a> {
    store: &'a Store,
    generation: i64,
    chunks: i64,
    rows: i64,
    seq: i64,
}

impl<'a> Snapshot<'a> {
    /// Notes up to where the book has everything, and clears away an earlier attempt.
    pub(super) async fn begin(store: &'a Store) -> Result<Self, StoreError> {
        let (generation, seq) = {
            let mut desk = store.desk().await;
            desk.session.ready().await?;
            (desk.session.head().generation + 1, store.settled_seq(&desk))
        };
        sweep(store).await?;
        Ok(Self {
            store,
            generation,
            chunks: 0,
            rows: 0,
            seq,
        })
    }

    /// Writes what the book has of a shop.
    pub(super) async fn shop(
        &mut self,
        book: &StockBook,
        shop: ShopId,
        acked: impl Fn(SkuId) -> Acked,
        marks: &Marks,
    ) -> Result<(), StoreError> {
        let id = self.store.disk_id(shop);
        let pack = || {
            // First: those who have stock by now are introduced by it.
            let mut strangers = Packer::new(Kind::Marked);
            marks.strangers(shop, book, |sku, mark| strangers.marked(sku, mark));
            let mut packer = Packer::new(Kind::Full);
            book.for_each(shop, |sku, entry| {
                let id = entry.id();
                packer.full(sku, entry.level(), acked(id), &marks.get(shop, id));
            });
            let mut packed = packer.finish();
            packed.extend(strangers.finish());
            packed
        };
        for packed in aside(pack) {
            self.put(&mut self.store.desk().await, vec![(id, packed)])
                .await?;
        }
        let mut desk = self.store.desk().await;
        let mut packer = Packer::new(Kind::Quarantined);
        for row in desk.quarantine.of(id) {
            packer.quarantined(row);
        }
        for packed in packer.finish() {
            self.put(&mut desk, vec![(id, packed)]).await?;
        }
        Ok(())
    }

    /// Carries over, as they are, the records of a shop that is not in the configuration.
    pub(super) async fn absent(&mut self, shop: i64) -> Result<(), StoreError> {
        let mut cursor = Some(Cursor::Chunk(-1));
        while let Some(after) = cursor {
            let mut desk = self.store.desk().await;
            desk.session.ready().await?;
            let outcome = read_some(&mut desk.session, shop, after, self.seq).await;
            let (records, next) = outcome.map_err(|flaw| desk.session.failure(flaw))?;
            if !records.is_empty() {
                let records = records.into_iter().map(|packed| (shop, packed)).collect();
                self.put(&mut desk, records).await?;
            }
            cursor = next;
        }
        Ok(())
    }

    /// Makes the snapshot the valid one. A crash before this leaves the old one, and chunks
    /// that the next start sweeps away; a crash after it leaves the new one, and the same.
    pub(super) async fn finish(self) -> Result<(), StoreError> {
        {
            let mut desk = self.store.desk().await;
            desk.session.ready().await?;
            let head = Head {
                generation: self.generation,
                chunks: self.chunks,
                rows: self.rows,
                snapshot_seq: self.seq,
                ..desk.session.head()
            };
            desk.session.commit(Vec::new(), head).await?;
            desk.session.measure().await?;
        }
        sweep(self.store).await
    }

    async fn put(
        &mut self,
        desk: &mut Desk<'_>,
        records: Vec<(i64, Packed)>,
    ) -> Result<(), StoreError> {
        let (mut chunk, mut rows) = (self.chunks, self.rows);
        let generation = self.generation;
        let write = |(shop, packed): (i64, Packed)| {
            rows += packed.rows;
            chunk += 1;
            Write::Chunk {
                generation,
                chunk: chunk - 1,
                shop,
                packed,
            }
        };
        let writes = records.into_iter().map(write).collect();
        desk.session.ready().await?;
        let head = desk.session.head();
        desk.session.commit(writes, head).await?;
        (self.chunks, self.rows) = (chunk, rows);
        Ok(())
    }
}

/// Deletes what is not valid any more, or never was: chunks of other generations than the
/// valid one and changes that are in its snapshot.
///
/// In small transactions, between which others get their turn. A crash leaves the rest to the
/// next start.
pub(super) async fn sweep(store: &Store) -> Result<(), StoreError> {
    loop {
        let mut desk = store.desk().await;
        desk.session.ready().await?;
        if !sweep_some(&mut desk.session).await? {
            return Ok(());
        }
    }
}

async fn sweep_some(session: &mut Session) -> Result<bool, StoreError> {
    let outcome = find_waste(session).await;
    let Some(write) = outcome.map_err(|flaw| session.failure(flaw))? else {
        return Ok(false);
    };
    let head = session.head();
    session.commit(vec![write], head).await?;
    Ok(true)
}

/// What is worth deleting at once.
async fn find_waste(session: &mut Session) -> Result<Option<Write>, Flaw> {
    let Head {
        generation,
        snapshot_seq,
        ..
    } = session.head();
    let conn = session.conn()?;
    let stale = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM snapshot WHERE generation < ?1) \
         OR EXISTS (SELECT 1 FROM snapshot WHERE generation > ?1)",
    )
    .bind(generation)
    .fetch_one(&mut *conn)
    .await?;
    if stale {
        return Ok(Some(Write::DropStale {
            generation,
            limit: STALE_CHUNKS,
        }));
    }
    let mut folded = sqlx::query_as(
        "SELECT seq, length(body) FROM change WHERE seq <= ?1 ORDER BY seq LIMIT ?2",
    )
    .bind(snapshot_seq)
    .bind(BATCH_CHANGES)
    .fetch(conn);
    let (mut last, mut bytes) = (None, 0);
    while let Some((seq, length)) = folded.try_next().await? {
        let _: (i64, i64) = (seq, length);
        last = Some(Write::DropFolded(seq));
        bytes += length;
        if bytes >= BATCH_BYTES {
            break;
        }
    }
    Ok(last)
}

/// How far the records of an absent shop have been carried over.
#[derive(Clone, Copy)]
enum Cursor {
    Chunk(i64),
    Change(i64),
}

/// Some more records of a shop, in their order, from the valid snapshot or from the log, and
/// where to go on.
async fn read_some(
    session: &mut Session,
    shop: i64,
    after: Cursor,
    upto: i64,
) -> Result<(Vec<Packed>, Option<Cursor>), Flaw> {
    let Head {
        generation,
        snapshot_seq,
        ..
    } = session.head();
    let query = match after {
        Cursor::Chunk(chunk) => sqlx::query(
            "SELECT chunk, rows, body FROM snapshot \
             WHERE generation = ?1 AND chunk > ?2 AND shop = ?3 ORDER BY chunk LIMIT ?4",
        )
        .bind(generation)
        .bind(chunk),
        Cursor::Change(seq) => sqlx::query(
            "SELECT seq, rows, body FROM change \
             WHERE seq <= ?1 AND seq > ?2 AND shop = ?3 ORDER BY seq LIMIT ?4",
        )
        .bind(upto)
        .bind(seq),
    };
    let mut found = query.bind(shop).bind(BATCH_CHANGES).fetch(session.conn()?);
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut last = match after {
        Cursor::Chunk(_) => Some(Cursor::Change(snapshot_seq)),
        Cursor::Change(_) => None,
    };
    while let Some(row) = found.try_next().await? {
        let number = row.try_get(0)?;
        let (key, cursor) = match after {
            Cursor::Chunk(_) => (
                Key::Chunk {
                    generation,
                    chunk: number,
                },
                Cursor::Chunk(number),
            ),
            Cursor::Change(_) => (Key::Change { seq: number }, Cursor::Change(number)),
        };
        let body: &[u8] = row.try_get(2)?;
        bytes += body.len();
        records.push(Packed::unseal(
            &Place {
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
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}

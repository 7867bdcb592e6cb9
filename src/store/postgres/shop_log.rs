//! Row of the table `shop`, and the position in the log of a shop.

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::connection::query;
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::DiskShop;
use crate::store::record::{MalformedRecord, without_checksum};

/// Position in the log of one shop.
///
/// The chain is a checksum over all records up to this one. Two logs that differ in any of them
/// differ in it, even if they have the same number of changes, as after a failover to a standby
/// that was behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct LogEnd {
    /// Number of the last change; they are numbered from 1.
    pub(super) ver: i64,
    /// Checksum over the records up to it.
    pub(super) chain: i64,
}

impl LogEnd {
    /// Returns the position after one more record.
    pub(super) fn after(self, sealed: &[u8]) -> Self {
        // Without the record's own checksum: the checksum over a text and its checksum is the same
        // for every text.
        self.after_body(without_checksum(sealed))
    }

    /// Returns the position after a record with this body.
    pub(super) fn after_body(self, body: &[u8]) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.chain.to_le_bytes());
        crc.update(body);
        Self {
            ver: self.ver + 1,
            chain: crc.finalize().into(),
        }
    }
}

/// Valid snapshot of a shop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct SnapshotHead {
    /// Number of the snapshot, counted from the creation of the shop.
    pub(super) generation: i64,
    /// Number of chunks; they are numbered from 0.
    pub(super) chunks: i64,
    /// Number of rows in all chunks.
    pub(super) rows: i64,
    /// Last change in the snapshot.
    pub(super) upto: LogEnd,
}

/// Row of the table `shop`.
#[derive(Clone, Debug)]
pub(super) struct LogRow {
    pub(super) shop: DiskShop,
    pub(super) end: LogEnd,
    pub(super) snapshot: SnapshotHead,
}

impl LogRow {
    /// Returns a shop without stock.
    pub(super) fn new(shop: DiskShop) -> Self {
        Self {
            shop,
            end: LogEnd::default(),
            snapshot: SnapshotHead::default(),
        }
    }

    /// Reads all shops, in the order of their numbers.
    pub(super) async fn read_all(conn: &mut PgConnection) -> Result<Vec<Self>, StoreInternalError> {
        let rows = query(
            "SELECT id, name, target, ver, chain, generation, chunks, rows, upto, upto_chain, crc \
             FROM stockbridge.shop ORDER BY id",
        )
        .fetch_all(conn)
        .await?;
        rows.iter().map(Self::from_row).collect()
    }

    /// Reads one shop and locks its row until the end of the transaction.
    pub(super) async fn lock(conn: &mut PgConnection, id: i64) -> Result<Self, StoreInternalError> {
        let row = Self::find_and_lock(conn, id).await?;
        Ok(row.ok_or(MalformedRecord("a shop is missing"))?)
    }

    /// Reads one shop like [`LogRow::lock`], if it exists.
    pub(super) async fn find_and_lock(
        conn: &mut PgConnection,
        id: i64,
    ) -> Result<Option<Self>, StoreInternalError> {
        let row = query(
            "SELECT id, name, target, ver, chain, generation, chunks, rows, upto, upto_chain, crc \
             FROM stockbridge.shop WHERE id = $1 FOR UPDATE",
        )
        .bind(id)
        .fetch_optional(conn)
        .await?;
        row.as_ref().map(Self::from_row).transpose()
    }

    /// Writes the row, which may be new.
    pub(super) async fn write(&self, conn: &mut PgConnection) -> Result<(), StoreInternalError> {
        let SnapshotHead {
            generation,
            chunks,
            rows,
            upto,
        } = self.snapshot;
        query(
            "INSERT INTO stockbridge.shop (id, name, target, ver, chain, generation, chunks, rows, \
             upto, upto_chain, crc) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (id) DO UPDATE SET name = $2, target = $3, ver = $4, chain = $5, \
             generation = $6, chunks = $7, rows = $8, upto = $9, upto_chain = $10, crc = $11",
        )
        .bind(self.shop.id)
        .bind(&self.shop.name)
        .bind(&self.shop.target)
        .bind(self.end.ver)
        .bind(self.end.chain)
        .bind(generation)
        .bind(chunks)
        .bind(rows)
        .bind(upto.ver)
        .bind(upto.chain)
        .bind(self.crc())
        .execute(conn)
        .await?;
        Ok(())
    }

    fn from_row(row: &PgRow) -> Result<Self, StoreInternalError> {
        let shop = Self {
            shop: DiskShop {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                target: row.try_get(2)?,
            },
            end: LogEnd {
                ver: row.try_get(3)?,
                chain: row.try_get(4)?,
            },
            snapshot: SnapshotHead {
                generation: row.try_get(5)?,
                chunks: row.try_get(6)?,
                rows: row.try_get(7)?,
                upto: LogEnd {
                    ver: row.try_get(8)?,
                    chain: row.try_get(9)?,
                },
            },
        };
        if shop.crc() == row.try_get::<i64, _>(10)? {
            Ok(shop)
        } else {
            Err(MalformedRecord("checksum mismatch in a shop").into())
        }
    }

    /// Checksum of what appends do not change. `ver` and `chain` need none: the chain of the
    /// records must lead to them.
    fn crc(&self) -> i64 {
        let SnapshotHead {
            generation,
            chunks,
            rows,
            upto,
        } = self.snapshot;
        let mut crc = crc32fast::Hasher::new();
        for number in [
            self.shop.crc(),
            generation,
            chunks,
            rows,
            upto.ver,
            upto.chain,
        ] {
            crc.update(&number.to_le_bytes());
        }
        crc.finalize().into()
    }
}

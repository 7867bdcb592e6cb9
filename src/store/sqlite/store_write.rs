//! SQL statements of the store, and the transaction that executes them.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::database_file::PAGE_BYTES;
use super::side_tables;
use super::store_header::StoreHeader;
use crate::store::RecentSend;
use crate::store::error::{SqliteCause, StoreInternalError};
use crate::store::loaded_store::DiskShop;
use crate::store::record::{MalformedRecord, PackedRecord, RecordKey};

/// SQL statement of a transaction.
#[derive(Debug)]
pub(super) enum StoreWrite {
    Change {
        seq: i64,
        shop: i64,
        packed: PackedRecord,
    },
    Chunk {
        generation: i64,
        chunk: i64,
        shop: i64,
        packed: PackedRecord,
    },
    Shop(DiskShop),
    /// Inserts a recent send of a shop, and deletes old ones.
    RecentSend {
        shop: i64,
        send: RecentSend,
    },
    /// Writes a note; `None` as text deletes it.
    Note {
        shop: i64,
        name: String,
        text: Option<String>,
    },
    /// Deletes the changes up to and including this one.
    DropCompacted(i64),
    /// Deletes the changes after this one.
    DropUncommitted(i64),
    /// Deletes up to `limit` chunks of other generations than this.
    DropStale {
        generation: i64,
        limit: i64,
    },
}

impl StoreWrite {
    /// Returns about how many bytes the statement adds to the write-ahead log.
    pub(super) fn estimated_bytes(&self) -> u64 {
        match self {
            Self::Change { packed, .. } | Self::Chunk { packed, .. } => packed.body.len() as u64,
            Self::Shop(_)
            | Self::RecentSend { .. }
            | Self::Note { .. }
            | Self::DropCompacted(_)
            | Self::DropUncommitted(_)
            | Self::DropStale { .. } => u64::from(PAGE_BYTES) * 4,
        }
    }

    async fn execute(self, conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
        let query = match self {
            Self::Change { seq, shop, packed } => {
                let rows = packed.rows;
                sqlx::query("INSERT INTO change (seq, shop, rows, body) VALUES (?1, ?2, ?3, ?4)")
                    .bind(seq)
                    .bind(shop)
                    .bind(rows)
                    .bind(packed.seal(RecordKey::Change { seq }, shop))
            }
            Self::Chunk {
                generation,
                chunk,
                shop,
                packed,
            } => {
                let rows = packed.rows;
                sqlx::query(
                    "INSERT INTO snapshot (generation, chunk, shop, rows, body) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )
                .bind(generation)
                .bind(chunk)
                .bind(shop)
                .bind(rows)
                .bind(packed.seal(RecordKey::Chunk { generation, chunk }, shop))
            }
            Self::Shop(shop) => {
                let crc = shop.crc();
                sqlx::query(
                    "INSERT OR REPLACE INTO shop (id, name, target, crc) VALUES (?1, ?2, ?3, ?4)",
                )
                .bind(shop.id)
                .bind(shop.name)
                .bind(shop.target)
                .bind(crc)
            }
            Self::RecentSend { shop, send } => {
                return side_tables::write_send(conn, shop, send).await;
            }
            Self::Note { shop, name, text } => {
                return side_tables::write_note(conn, shop, &name, text.as_deref()).await;
            }
            Self::DropCompacted(seq) => sqlx::query("DELETE FROM change WHERE seq <= ?1").bind(seq),
            Self::DropUncommitted(seq) => {
                sqlx::query("DELETE FROM change WHERE seq > ?1").bind(seq)
            }
            Self::DropStale { generation, limit } => sqlx::query(
                "DELETE FROM snapshot WHERE (generation, chunk) IN \
                 (SELECT generation, chunk FROM snapshot WHERE generation <> ?1 LIMIT ?2)",
            )
            .bind(generation)
            .bind(limit),
        };
        query.execute(conn).await?;
        Ok(())
    }
}

/// Reads the table `shop` and verifies it; `count` is the expected number of shops.
pub(super) async fn read_shops(
    conn: &mut SqliteConnection,
    count: i64,
) -> Result<Vec<DiskShop>, StoreInternalError> {
    let rows = sqlx::query("SELECT id, name, target, crc FROM shop ORDER BY id")
        .fetch_all(conn)
        .await?;
    let mut shops = Vec::new();
    for (row, expected) in rows.iter().zip(1..) {
        let shop = DiskShop {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            target: row.try_get(2)?,
        };
        if shop.id != expected || shop.crc() != row.try_get::<i64, _>(3)? {
            return Err(MalformedRecord("checksum mismatch in a shop").into());
        }
        shops.push(shop);
    }
    if shops.len() as u64 == count.cast_unsigned() {
        Ok(shops)
    } else {
        Err(MalformedRecord("wrong number of shops").into())
    }
}

/// Executes `writes` and stores `header` in one transaction.
pub(super) async fn run_transaction(
    conn: &mut SqliteConnection,
    writes: Vec<StoreWrite>,
    header: StoreHeader,
) -> Result<(), StoreInternalError> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    for write in writes {
        write.execute(conn).await?;
    }
    header.write(conn).await?;
    sqlx::raw_sql("COMMIT").execute(conn).await?;
    Ok(())
}

/// Rolls back the open transaction, if any.
pub(super) async fn rollback(conn: &mut SqliteConnection) -> Result<(), StoreInternalError> {
    match sqlx::raw_sql("ROLLBACK").execute(conn).await {
        Ok(_) => Ok(()),
        // No transaction was open.
        Err(error) if SqliteCause::lacks_transaction(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

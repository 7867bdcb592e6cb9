//! Header of the store: the row of the table `state`, which defines the valid records.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::database_file::FORMAT;
use crate::store::error::StoreInternalError;
use crate::store::record::MalformedRecord;

/// Row of the table `state`, which defines the valid records, so that a missing one is detected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct StoreHeader {
    /// Generation of the valid snapshot.
    pub(super) generation: i64,
    /// Number of chunks in the snapshot; they are numbered from 0.
    pub(super) chunks: i64,
    /// Number of rows in all chunks.
    pub(super) rows: i64,
    /// Last change in the snapshot.
    pub(super) snapshot_seq: i64,
    /// Last change of all.
    pub(super) last_seq: i64,
    /// Number of shops; they are numbered from 1.
    pub(super) shops: i64,
}

impl StoreHeader {
    pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Self, StoreInternalError> {
        let row = sqlx::query(
            "SELECT generation, chunks, rows, snapshot_seq, last_seq, shops, crc FROM state",
        )
        .fetch_one(conn)
        .await?;
        let header = Self {
            generation: row.try_get(0)?,
            chunks: row.try_get(1)?,
            rows: row.try_get(2)?,
            snapshot_seq: row.try_get(3)?,
            last_seq: row.try_get(4)?,
            shops: row.try_get(5)?,
        };
        if row.try_get::<i64, _>(6)? == header.crc() {
            Ok(header)
        } else {
            Err(MalformedRecord("checksum mismatch in the table state").into())
        }
    }

    pub(super) async fn write(
        &self,
        conn: &mut SqliteConnection,
    ) -> Result<(), StoreInternalError> {
        let result = sqlx::query(
            "UPDATE state SET generation = ?1, chunks = ?2, rows = ?3, snapshot_seq = ?4, \
             last_seq = ?5, shops = ?6, crc = ?7 WHERE id = 1",
        )
        .bind(self.generation)
        .bind(self.chunks)
        .bind(self.rows)
        .bind(self.snapshot_seq)
        .bind(self.last_seq)
        .bind(self.shops)
        .bind(self.crc())
        .execute(conn)
        .await?;
        if result.rows_affected() == 1 {
            Ok(())
        } else {
            Err(MalformedRecord("the table state is empty").into())
        }
    }

    pub(super) fn crc(&self) -> i64 {
        let mut crc = crc32fast::Hasher::new();
        let Self {
            generation,
            chunks,
            rows,
            snapshot_seq,
            last_seq,
            shops,
        } = *self;
        for number in [
            FORMAT.into(),
            generation,
            chunks,
            rows,
            snapshot_seq,
            last_seq,
            shops,
        ] {
            crc.update(&number.to_le_bytes());
        }
        crc.finalize().into()
    }
}

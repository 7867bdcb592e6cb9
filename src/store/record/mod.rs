//! Binary format of records.
//!
//! A record is one byte of [`RecordKind`], then its rows, then a CRC-32 of both and of the
//! [`RecordLocation`]. So a record that was moved, exchanged or altered in a single bit is
//! detected. Numbers are LEB128. Times are differences to the previous row, because the rows of
//! one request mostly share their time. A row of a usual SKU takes 15 to 25 bytes.

mod in_order;
mod packer;
mod reader;
#[cfg(test)]
mod tests;

pub(super) use self::in_order::{SealedRecord, missing_changes, missing_chunks, rows_error};
pub(super) use self::packer::RecordPacker;
pub(super) use self::reader::RecordReader;
use stock::{Level, Sku, SkuActivity};

use super::{Acked, QuarantineEntry};

/// Size in bytes at which a record is closed and the next one begins.
///
/// Large enough that the cost per record is small against its rows, and small enough that the
/// commit of one record does not delay appends.
pub(in crate::store) const RECORD_BYTES: usize = 256 * 1024;

const CRC_BYTES: usize = 4;

/// Kind of the rows of a record. The numbers are on disk and never change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum RecordKind {
    /// Stated levels.
    Stock = 1,
    /// Acknowledgements of the Market.
    Acked = 2,
    /// SKUs that entered quarantine.
    Quarantined = 4,
    /// SKUs that left quarantine.
    Released = 5,
    /// The shop's target has changed: its acknowledgements and its quarantine are void.
    TargetChanged = 6,
    /// Levels, acknowledgements and activity, in a snapshot.
    Full = 7,
    /// Activity.
    Activity = 8,
}

impl RecordKind {
    /// Returns the kind of a record with this body.
    pub(in crate::store) fn of(body: &[u8]) -> Result<Self, MalformedRecord> {
        body.first()
            .map_or(Err(MalformedRecord("empty record")), |kind| {
                Self::from_byte(*kind)
            })
    }

    fn from_byte(byte: u8) -> Result<Self, MalformedRecord> {
        Ok(match byte {
            1 => Self::Stock,
            2 => Self::Acked,
            4 => Self::Quarantined,
            5 => Self::Released,
            6 => Self::TargetChanged,
            7 => Self::Full,
            8 => Self::Activity,
            _ => return Err(MalformedRecord("unknown record kind")),
        })
    }
}

/// Row of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordRow {
    /// Stated level.
    Stock(Sku, Level),
    /// Acknowledgement of the Market.
    Acked(Sku, Acked),
    /// Level, acknowledgement and activity, in a snapshot.
    Full(Sku, Level, Acked, SkuActivity),
    /// Activity of a SKU, whether the book has it or not.
    Activity(Sku, SkuActivity),
    /// SKU that entered quarantine.
    Quarantined(QuarantineEntry),
    /// SKU that left quarantine.
    Released(Sku),
    /// Change of the shop's target: its acknowledgements and its quarantine are void.
    TargetChanged,
}

/// Location of a record; part of its checksum.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RecordLocation {
    /// Table and key in it.
    pub(in crate::store) key: RecordKey,
    /// Number of the shop on disk.
    pub(in crate::store) shop: i64,
    /// Number of rows in the record.
    pub(in crate::store) rows: i64,
}

/// Key of a record in its table.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum RecordKey {
    Change { seq: i64 },
    Chunk { generation: i64, chunk: i64 },
}

/// Packed rows without a checksum.
#[derive(Clone, Debug)]
pub(in crate::store) struct PackedRecord {
    pub(in crate::store) rows: i64,
    pub(in crate::store) body: Vec<u8>,
}

impl PackedRecord {
    /// Adds the checksum, which is valid for this location only.
    pub(in crate::store) fn seal(mut self, key: RecordKey, shop: i64) -> Vec<u8> {
        let crc = checksum(
            &RecordLocation {
                key,
                shop,
                rows: self.rows,
            },
            &self.body,
        );
        self.body.extend_from_slice(&crc.to_le_bytes());
        self.body
    }

    /// Verifies a sealed record and removes its checksum, to seal it for another location.
    pub(in crate::store) fn unseal(
        location: &RecordLocation,
        sealed: &[u8],
    ) -> Result<Self, MalformedRecord> {
        Ok(Self {
            rows: location.rows,
            body: unseal(location, sealed)?.to_vec(),
        })
    }
}

/// Returns the body of a sealed record, whose checksum is not verified.
pub(in crate::store) fn without_checksum(sealed: &[u8]) -> &[u8] {
    sealed
        .split_last_chunk::<CRC_BYTES>()
        .map_or(sealed, |(body, _)| body)
}

/// Verifies the checksum of a sealed record and returns its body.
pub(in crate::store) fn unseal<'a>(
    location: &RecordLocation,
    sealed: &'a [u8],
) -> Result<&'a [u8], MalformedRecord> {
    let (body, crc) = sealed
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(MalformedRecord("no checksum"))?;
    if checksum(location, body) == u32::from_le_bytes(*crc) {
        Ok(body)
    } else {
        Err(MalformedRecord("checksum mismatch"))
    }
}

fn checksum(location: &RecordLocation, body: &[u8]) -> u32 {
    let key = match location.key {
        RecordKey::Change { seq } => [1, seq, 0],
        RecordKey::Chunk { generation, chunk } => [2, generation, chunk],
    };
    let mut crc = crc32fast::Hasher::new();
    for number in key.into_iter().chain([location.shop, location.rows]) {
        crc.update(&number.to_le_bytes());
    }
    crc.update(body);
    crc.finalize()
}

/// Description of a malformed record, shop, note or header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(in crate::store) struct MalformedRecord(pub(in crate::store) &'static str);

/// Times of the previous row, to which the next row's times are written as differences.
#[derive(Debug, Default)]
struct PreviousTimes {
    updated_at: i64,
    acked_at: i64,
}

// Forms of an acknowledgement: none; the level of the same row; another level, which follows.
// Forms of a statement: none; hour and origin, which follow (FORM_SAME).
const FORM_NONE: u8 = 0;
const FORM_SAME: u8 = 1;
const FORM_OTHER: u8 = 2;

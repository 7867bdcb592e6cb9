//! Records in the order in which they must follow each other.

use super::{MalformedRecord, RecordKey, RecordLocation, RecordReader, unseal};
use crate::store::error::StoreInternalError;

/// Record as it is in its table.
#[derive(Debug)]
pub(in crate::store) struct SealedRecord<'a> {
    /// Key and number in the table.
    pub(in crate::store) key: RecordKey,
    pub(in crate::store) shop: i64,
    pub(in crate::store) rows: i64,
    pub(in crate::store) body: &'a [u8],
}

impl<'a> SealedRecord<'a> {
    /// Verifies the record and returns its rows; `expected` is its number if none is missing.
    pub(in crate::store) fn open(
        &self,
        expected: i64,
    ) -> Result<RecordReader<'a>, StoreInternalError> {
        let (kind, found) = match self.key {
            RecordKey::Change { seq } => ("change", seq),
            RecordKey::Chunk { chunk, .. } => ("snapshot chunk", chunk),
        };
        self.verify(found, expected).map_err(|error| match error {
            StoreInternalError::Damaged(detail) => {
                StoreInternalError::Damaged(format!("{kind} {expected}: {detail}"))
            }
            StoreInternalError::Database(_)
            | StoreInternalError::Closed
            | StoreInternalError::ChangedDuringStart
            | StoreInternalError::Unconfirmed(_) => error,
        })
    }

    fn verify(&self, found: i64, expected: i64) -> Result<RecordReader<'a>, StoreInternalError> {
        if found != expected {
            return Err(StoreInternalError::Damaged(format!(
                "the next record has number {found}"
            )));
        }
        let location = RecordLocation {
            key: self.key,
            shop: self.shop,
            rows: self.rows,
        };
        let body = unseal(&location, self.body)?;
        Ok(RecordReader::new(body, self.rows)?)
    }
}

/// Adds the location to an error of reading a record's rows.
pub(in crate::store) fn rows_error(
    what: &str,
    number: i64,
    malformed: MalformedRecord,
) -> StoreInternalError {
    StoreInternalError::Damaged(format!("{what} {number}: {malformed}"))
}

/// Returns the error of a snapshot that ends too early.
pub(in crate::store) fn missing_chunks(found: i64, expected: i64) -> StoreInternalError {
    StoreInternalError::Damaged(format!(
        "the snapshot has only {found} of {expected} chunks"
    ))
}

/// Returns the error of a log that ends too early; `next` is the first missing change.
pub(in crate::store) fn missing_changes(next: i64, last: i64) -> StoreInternalError {
    StoreInternalError::Damaged(format!("the changes from {next} to {last} are missing"))
}

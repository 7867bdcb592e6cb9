//! Deliveries that are held for approval: their files, and their list in the record of the source.

use rusqlite::params;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stock_import::delivery_guard::HoldReason;
use stock_import::shape_change::RecordedShape;

use super::{SourceId, StagedDelivery, StatementError, StatementStore};

/// A delivery that is held for approval. Stored as JSON.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeldDelivery {
    /// Name of its staging file.
    pub file: String,
    /// Time since which deliveries of the source are held, in microseconds since 1970.
    pub since: i64,
    /// Date of the delivery, in microseconds since 1970.
    pub at: i64,
    /// True for a snapshot.
    pub is_snapshot: bool,
    /// True if products that it lacks are absent.
    pub implies_absence: bool,
    /// Reason for the hold.
    pub reason: String,
    /// Digest of its rows, independent of their order.
    pub digest: u64,
    /// Number of identical deliveries in a row.
    pub times: u32,
    /// Shapes of its files.
    pub shapes: Vec<RecordedShape>,
    /// Reasons for the hold, for other languages.
    pub reasons: Vec<HoldReason>,
}

/// Returns the mark of held deliveries, by which an approval names what it approves.
///
/// It depends on the rules, the rows, the completeness and the reasons, but not on the time: a
/// repetition of the same delivery has the same mark.
pub(in crate::sources) fn delivery_mark(all_held: &[HeldDelivery], rules_digest: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(rules_digest);
    for held in all_held {
        digest.update(held.digest.to_le_bytes());
        digest.update([u8::from(held.is_snapshot), u8::from(held.implies_absence)]);
        digest.update(held.reason.as_bytes());
        digest.update([0xff]);
    }
    short_mark(digest)
}

/// Returns 16 hexadecimal digits of a digest.
pub(in crate::sources) fn short_mark(digest: Sha256) -> String {
    let bytes = digest.finalize();
    bytes[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl StatementStore {
    /// Holds a delivery for approval, whose rows were resolved. A snapshot replaces the deliveries
    /// held before; a delta is added to them. Returns all held deliveries.
    pub(in crate::sources) fn hold_delivery(
        &mut self,
        source: SourceId,
        staged: StagedDelivery,
        held: HeldDelivery,
    ) -> Result<Vec<HeldDelivery>, StatementError> {
        let path = self.directory.join(&held.file);
        let persisted = staged.persist(&path).and_then(|()| {
            // The directory entry must be on disk before the database refers to it.
            std::fs::File::open(&self.directory)?.sync_all()
        });
        persisted.map_err(|source| StatementError::Directory { path, source })?;
        self.steps.reach("held file kept");
        let mut all_held = self.source_record(source)?.held;
        let superseded = if held.is_snapshot {
            std::mem::take(&mut all_held)
        } else {
            Vec::new()
        };
        all_held.push(held);
        self.save_held(source, &all_held)?;
        self.steps.reach("held");
        self.remove_held_files(&superseded)?;
        Ok(all_held)
    }

    /// Opens a held delivery to apply it.
    pub(in crate::sources) fn open_held(
        &self,
        held: &HeldDelivery,
    ) -> Result<StagedDelivery, StatementError> {
        let path = self.directory.join(&held.file);
        StagedDelivery::open(&path).map_err(|source| StatementError::database(&path, source))
    }

    /// Removes held deliveries and their files. Returns the rest.
    pub(in crate::sources) fn release_held(
        &mut self,
        source: SourceId,
        released: &[HeldDelivery],
    ) -> Result<Vec<HeldDelivery>, StatementError> {
        let mut all_held = self.source_record(source)?.held;
        if released.is_empty() {
            return Ok(all_held);
        }
        all_held.retain(|held| !released.contains(held));
        self.save_held(source, &all_held)?;
        self.remove_held_files(released)?;
        Ok(all_held)
    }

    fn save_held(&self, source: SourceId, held: &[HeldDelivery]) -> Result<(), StatementError> {
        let text = serde_json::to_string(held).unwrap_or_default();
        let sql = "UPDATE source SET held = ?2 WHERE id = ?1";
        self.execute(sql, params![source.0, text])
    }

    fn remove_held_files(&self, held: &[HeldDelivery]) -> Result<(), StatementError> {
        for held in held {
            let path = self.directory.join(&held.file);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StatementError::Directory { path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

//! Stored state of a source.

use rusqlite::{Connection, params};
use stock::Timestamp;
use stock_import::shape_change::AcceptedShapes;

use super::{HeldDelivery, StorageError};

/// Id of a source in the statement store.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(in crate::sources) struct SourceId(pub(super) i64);

/// Stored state of a source.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct SourceRecord {
    /// Date of its latest delivery.
    pub(in crate::sources) stated_at: Option<Timestamp>,
    /// Rows of its last snapshot.
    pub(in crate::sources) snapshot_rows: u64,
    /// True if some of its statements are not in the book yet.
    pub(in crate::sources) has_unapplied: bool,
    /// State of its connector, in a format of the connector.
    pub(in crate::sources) reader_state: String,
    /// Held deliveries, the oldest first.
    pub(in crate::sources) held: Vec<HeldDelivery>,
    /// Shapes of its accepted deliveries.
    pub(in crate::sources) accepted_shapes: AcceptedShapes,
    /// Reason why the last snapshot's absences were not applied; empty if they were.
    pub(in crate::sources) absence_not_applied: String,
}

/// Reads the state of a source.
pub(super) fn read(conn: &Connection, source: SourceId) -> Result<SourceRecord, StorageError> {
    let sql =
        "SELECT stated_at, rows, owes, reader, held, shapes, absence FROM source WHERE id = ?1";
    let mut query = conn.prepare_cached(sql)?;
    let record = query.query_row(params![source.0], |row| {
        let stated_at: Option<i64> = row.get(0)?;
        let (held, shapes): (String, String) = (row.get(4)?, row.get(5)?);
        Ok(SourceRecord {
            stated_at: stated_at.and_then(Timestamp::from_micros),
            snapshot_rows: u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default(),
            has_unapplied: row.get(2)?,
            reader_state: row.get(3)?,
            held: serde_json::from_str(&held).unwrap_or_default(),
            accepted_shapes: serde_json::from_str(&shapes).unwrap_or_default(),
            absence_not_applied: row.get(6)?,
        })
    });
    Ok(record?)
}

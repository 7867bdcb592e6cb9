//! Commit of a compared delivery: one transaction with only the changes.

use rusqlite::{Connection, params};
use stock_import::DeliveryScope;
use stock_import::shape_change::AcceptedShapes;

use super::delivery_pass::{ComparedDelivery, DELETE_BLOCK, INSERT_BLOCK};
use super::encoding::text_of;
use super::replacement::CommitOptions;
use super::{
    SourceId, StagedDelivery, StatementError, StatementStore, StorageError, rejected, variants,
};

/// Limit for the stored rejected and suspicious rows of a source's last delivery.
const MAX_REJECTED: u32 = 100_000;

/// Facts about a delivery with which later ones are compared.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct DeliveryFacts {
    /// Accepted shapes of the source, if they have changed.
    pub(in crate::sources) shapes: Option<AcceptedShapes>,
    /// Reason why absences of the delivery are not applied; empty if they are. `None` if a delta
    /// leaves it as it was.
    pub(in crate::sources) absence_not_applied: Option<String>,
}

impl StatementStore {
    /// Writes the changed statements of a delivery and its facts in one transaction. From then on
    /// the source has unapplied statements.
    pub(in crate::sources) fn commit_delivery(
        &mut self,
        (source, options): (SourceId, CommitOptions),
        staged: &StagedDelivery,
        compared: &mut ComparedDelivery,
        facts: &DeliveryFacts,
    ) -> Result<(), StatementError> {
        let has_articles = staged.has_ids;
        let steps = self.steps.clone();
        let write = |conn: &mut Connection| {
            let transaction =
                conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if has_articles {
                variants::write_articles_and_variants(&transaction, source)?;
            }
            write_blocks(&transaction, source, compared)?;
            steps.reach("blocks written");
            write_source(&transaction, (source, options), compared.rows, facts)?;
            steps.reach("source written");
            Ok(transaction.commit()?)
        };
        self.with_attached(has_articles, staged, write)
    }

    /// Replaces the stored rejected rows of a source by those of a delivery.
    pub(in crate::sources) fn save_rejected(
        &mut self,
        source: SourceId,
        staged: &StagedDelivery,
        has_rejected: bool,
    ) -> Result<(), StatementError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM rejected WHERE source = ?1)";
        let had_rejected = self
            .conn
            .query_row(sql, params![source.0], |row| row.get(0));
        if !had_rejected.map_err(|error| self.database_error(error))? && !has_rejected {
            return Ok(());
        }
        let save = |conn: &mut Connection| rejected::save_rejected(conn, source, MAX_REJECTED);
        self.with_attached(true, staged, save)
    }

    /// Runs `operate` while the file of a delivery is attached as `delivery`.
    fn with_attached(
        &mut self,
        is_needed: bool,
        staged: &StagedDelivery,
        operate: impl FnOnce(&mut Connection) -> Result<(), StorageError>,
    ) -> Result<(), StatementError> {
        let path = staged.path().display().to_string();
        let operated = || {
            if !is_needed {
                return operate(&mut self.conn);
            }
            self.conn
                .execute("ATTACH DATABASE ?1 AS delivery", params![path])?;
            let prepared = self.conn.execute_batch("PRAGMA delivery.synchronous = OFF");
            let done = match prepared {
                Ok(()) => operate(&mut self.conn),
                Err(error) => Err(error.into()),
            };
            // Also after an error, because a name that is in use cannot be attached again.
            let detached = self.conn.execute_batch("DETACH DATABASE delivery");
            done.and_then(|()| Ok(detached?))
        };
        let operated = operated();
        operated.map_err(|error| self.database_error(error))
    }
}

fn write_blocks(
    conn: &Connection,
    source: SourceId,
    compared: &mut ComparedDelivery,
) -> Result<(), StorageError> {
    let mut delete = conn.prepare_cached("DELETE FROM block WHERE source = ?1 AND first = ?2")?;
    let mut insert =
        conn.prepare_cached("INSERT INTO block (source, first, rows) VALUES (?1, ?2, ?3)")?;
    let blocks = &mut compared.changed_blocks;
    while blocks.advance()? {
        let first_sku = text_of(blocks.key())?;
        match blocks.payload() {
            DELETE_BLOCK => delete.execute(params![source.0, first_sku])?,
            [INSERT_BLOCK, rows @ ..] => insert.execute(params![source.0, first_sku, rows])?,
            _ => return Err(StorageError::Damaged),
        };
    }
    Ok(())
}

fn write_source(
    conn: &Connection,
    (source, options): (SourceId, CommitOptions),
    rows: u64,
    facts: &DeliveryFacts,
) -> Result<(), StorageError> {
    let CommitOptions {
        scope,
        stated_at,
        is_out_of_order,
        ..
    } = options;
    conn.execute(
        "UPDATE source SET owes = 1, stated_at = max(COALESCE(stated_at, ?2), ?2), \
         snapshot_at = CASE WHEN ?3 AND NOT ?4 THEN ?2 ELSE snapshot_at END, \
         rows = CASE WHEN ?3 THEN ?5 ELSE rows END WHERE id = ?1",
        params![
            source.0,
            stated_at.as_micros(),
            scope == DeliveryScope::Snapshot,
            is_out_of_order,
            rows.cast_signed()
        ],
    )?;
    if let Some(shapes) = &facts.shapes {
        let text = serde_json::to_string(shapes).unwrap_or_default();
        let sql = "UPDATE source SET shapes = ?2 WHERE id = ?1";
        conn.execute(sql, params![source.0, text])?;
    }
    if let Some(reason) = &facts.absence_not_applied {
        let sql = "UPDATE source SET absence = ?2 WHERE id = ?1";
        conn.execute(sql, params![source.0, reason])?;
    }
    Ok(())
}

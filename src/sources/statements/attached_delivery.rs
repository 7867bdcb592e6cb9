//! Operations on the delivery that is attached to the statement store, within one transaction.

use sqlx::Row as _;
use stock_import::shape_change::AcceptedShapes;
use stock_import::{Quantity, RejectedRow};

use super::commit::{CommitOptions, write_statements};
use super::variants::ResolveOptions;
use super::{SourceId, StagedDelivery, StatementError, StatementStore, rejected, resolve};

/// Limit for the stored rejected and suspicious rows of a source's last delivery.
const MAX_REJECTED: i64 = 100_000;

/// Counts of a resolved delivery.
#[derive(Clone, Debug)]
pub(in crate::sources) struct DeliveryContents {
    /// Rows that can be applied.
    pub(in crate::sources) rows: u64,
    /// Rows that are not applied, of both kinds.
    pub(in crate::sources) rejected: u64,
    /// Rows among the rejected that can be read in two ways.
    pub(in crate::sources) suspicious: u64,
    /// Rows among the rejected whose SKU is shared by variants.
    pub(in crate::sources) shared_by_variants: u64,
    /// Products among the rejected for whose id no SKU is known.
    pub(in crate::sources) without_known_sku: u64,
    /// The first rejected rows.
    pub(in crate::sources) first_rejected: Vec<RejectedRow>,
}

/// A row of a delivery as it would be applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreviewRow {
    /// Position in the file, as in [`Row::line`](stock_import::Row::line).
    pub line: u64,
    /// SKU, as the source spells it.
    pub sku: String,
    /// Warehouse, if the source names one.
    pub warehouse: Option<String>,
    /// Quantity; `None` if the row has none.
    pub quantity: Option<Quantity>,
    /// Reserved part, if the source states it.
    pub reserve: Option<Quantity>,
}

impl StatementStore {
    /// Attaches a delivery, finds the SKUs of its rows and rejects unclear rows.
    pub(in crate::sources) async fn resolve_delivery(
        &mut self,
        source: SourceId,
        staged: &StagedDelivery,
        options: ResolveOptions,
    ) -> Result<DeliveryContents, StatementError> {
        let file = staged.path().display().to_string();
        self.is_delivery_attached = true;
        let resolved = async {
            sqlx::query("ATTACH DATABASE ?1 AS delivery")
                .bind(file)
                .execute(&mut self.conn)
                .await?;
            sqlx::raw_sql("PRAGMA delivery.synchronous = OFF")
                .execute(&mut self.conn)
                .await?;
            let without_known_sku = resolve::resolve(&mut self.conn, source, options).await?;
            let [rows, rejected, suspicious, shared_by_variants] =
                rejected::count_rows(&mut self.conn).await?;
            let first_rejected = rejected::first_rejected(&mut self.conn).await?;
            Ok(DeliveryContents {
                rows,
                rejected,
                suspicious,
                without_known_sku,
                shared_by_variants,
                first_rejected,
            })
        };
        match resolved.await {
            Ok(counts) => Ok(counts),
            Err(error) => {
                self.roll_back().await?;
                Err(self.database_error(error))
            }
        }
    }

    /// Counts the rows of the resolved delivery without a quantity.
    pub(in crate::sources) async fn rows_without_quantity(
        &mut self,
    ) -> Result<u64, StatementError> {
        let sql = "SELECT COUNT(*) FROM delivery.row WHERE quantity IS NULL";
        let count = sqlx::query_scalar::<_, i64>(sql)
            .fetch_one(&mut self.conn)
            .await;
        count
            .map(i64::cast_unsigned)
            .map_err(|error| self.database_error(error))
    }

    /// Returns the first rows of the resolved delivery that would be applied.
    pub(in crate::sources) async fn first_rows(
        &mut self,
        limit: u32,
    ) -> Result<Vec<PreviewRow>, StatementError> {
        let rows = sqlx::query(
            "SELECT line, said, place, quantity, reserve FROM delivery.row WHERE quantity IS NOT \
             NULL ORDER BY part, line LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(&mut self.conn)
        .await;
        let rows = rows.map_err(|error| self.database_error(error))?;
        let quantity = |number: Option<i64>| number.and_then(Quantity::from_thousandths);
        let preview = |row: &sqlx::sqlite::SqliteRow| PreviewRow {
            line: row.get::<i64, _>(0).cast_unsigned(),
            sku: row.get(1),
            warehouse: Some(row.get::<String, _>(2)).filter(|warehouse| !warehouse.is_empty()),
            quantity: quantity(row.get(3)),
            reserve: quantity(row.get(4)),
        };
        Ok(rows.iter().map(preview).collect())
    }

    /// Replaces the statements of a source by the resolved delivery, in a transaction that stays
    /// open. The caller inspects [`StatementStore::sku_groups`], and then calls
    /// [`StatementStore::commit`] or [`StatementStore::roll_back`].
    pub(in crate::sources) async fn write_delivery(
        &mut self,
        source: SourceId,
        options: CommitOptions,
    ) -> Result<(), StatementError> {
        match write_statements(&mut self.conn, source, options).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.roll_back().await?;
                Err(self.database_error(error))
            }
        }
    }

    /// Saves the accepted shapes of a source, in the open transaction.
    pub(in crate::sources) async fn save_shapes(
        &mut self,
        source: SourceId,
        shapes: &AcceptedShapes,
    ) -> Result<(), StatementError> {
        let text = serde_json::to_string(shapes).unwrap_or_default();
        let done = sqlx::query("UPDATE source SET shapes = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(text)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Saves the reason why absences of the delivery are not applied, in the open transaction.
    pub(in crate::sources) async fn save_absence_not_applied(
        &mut self,
        source: SourceId,
        reason: &str,
    ) -> Result<(), StatementError> {
        let done = sqlx::query("UPDATE source SET absence = ?2 WHERE id = ?1")
            .bind(source.0)
            .bind(reason)
            .execute(&mut self.conn)
            .await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Replaces the stored rejected rows of a source by those of the attached delivery.
    pub(in crate::sources) async fn save_rejected(
        &mut self,
        source: SourceId,
    ) -> Result<(), StatementError> {
        let noted = rejected::save_rejected(&mut self.conn, source, MAX_REJECTED).await;
        noted.map_err(|error| self.database_error(error))
    }

    /// Commits the open transaction.
    pub(in crate::sources) async fn commit(&mut self) -> Result<(), StatementError> {
        let done = sqlx::query("COMMIT").execute(&mut self.conn).await;
        done.map(drop).map_err(|error| self.database_error(error))
    }

    /// Detaches the delivery after it was applied.
    pub(in crate::sources) async fn close_delivery(&mut self) -> Result<(), StatementError> {
        self.detach().await
    }

    /// Rolls back the open transaction and detaches the delivery.
    pub(in crate::sources) async fn roll_back(&mut self) -> Result<(), StatementError> {
        // SQLite may have ended a failed transaction already.
        let _ended = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
        self.detach().await
    }

    async fn detach(&mut self) -> Result<(), StatementError> {
        let done = sqlx::query("DETACH DATABASE delivery")
            .execute(&mut self.conn)
            .await;
        done.map_err(|error| self.database_error(error))?;
        self.is_delivery_attached = false;
        Ok(())
    }

    /// Rolls back and detaches a delivery whose caller was cancelled.
    pub(in crate::sources) async fn clean_up(&mut self) {
        if self.is_delivery_attached {
            // Errors are ignored: there may be neither a transaction nor an attached delivery.
            let _ended = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
            let _gone = sqlx::query("DETACH DATABASE delivery")
                .execute(&mut self.conn)
                .await;
            self.is_delivery_attached = false;
        }
    }
}

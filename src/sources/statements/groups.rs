//! Query of statements grouped by SKU.
//!
//! Decides which groups a filter selects, and applies the mapping from a source's SKUs to ours.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use stock_import::DeliveryScope;

use super::SourceId;

/// Filter for the SKUs of a query.
#[derive(Clone, Debug)]
pub(in crate::sources) enum GroupFilter {
    /// All SKUs.
    All,
    /// SKUs with statements of this source.
    Source(SourceId),
    /// SKUs that the attached delivery of this source concerns.
    Delivery(SourceId, DeliveryScope),
    /// A single SKU.
    Sku(String),
}

/// Statement of a source about one SKU at one warehouse.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::sources) struct StatementRow {
    /// SKU after the mapping.
    pub(in crate::sources) sku: String,
    /// SKU as the source spells it.
    pub(in crate::sources) source_sku: String,
    /// Source of the statement.
    pub(in crate::sources) source: SourceId,
    /// Warehouse of the source; empty if it names none.
    pub(in crate::sources) warehouse: String,
    /// Id of the variant; empty if the row is not one of several variants.
    pub(in crate::sources) variant: String,
    /// Quantity in thousandths.
    pub(in crate::sources) quantity: i64,
    /// Reserved part in thousandths.
    pub(in crate::sources) reserve: Option<i64>,
    /// Date in microseconds since 1970; `None` for the date of the source's last snapshot.
    pub(in crate::sources) stated_at: Option<i64>,
    /// Date of the first snapshot that lacks it, in microseconds since 1970.
    pub(in crate::sources) absent_at: Option<i64>,
    /// Units of the source in one piece.
    pub(in crate::sources) pack_size: u32,
    /// True if the filter selects this row, and not only another row of the same SKU.
    is_selected: bool,
}

/// Cursor over statements, SKU by SKU. Only the rows of one SKU are in memory at a time.
pub(in crate::sources) struct StatementGroups<'a> {
    rows: BoxStream<'a, Result<SqliteRow, sqlx::Error>>,
    next: Option<StatementRow>,
}

impl<'a> StatementGroups<'a> {
    pub(super) fn query(
        conn: &'a mut SqliteConnection,
        filter: GroupFilter,
        has_mapping: bool,
    ) -> Self {
        let is_selected = match &filter {
            GroupFilter::All | GroupFilter::Sku(_) => "1",
            GroupFilter::Source(_) | GroupFilter::Delivery(_, DeliveryScope::Snapshot) => {
                "s.source = ?1"
            }
            GroupFilter::Delivery(_, DeliveryScope::Delta) => {
                "s.source = ?1 AND EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = s.said)"
            }
        };
        let condition = match &filter {
            GroupFilter::All
            | GroupFilter::Source(_)
            | GroupFilter::Delivery(_, DeliveryScope::Snapshot) => "1",
            // The mapping may give other spellings of the same SKU, so all rows are read.
            GroupFilter::Delivery(_, DeliveryScope::Delta) if has_mapping => "1",
            GroupFilter::Delivery(_, DeliveryScope::Delta) => {
                "s.said IN (SELECT said FROM delivery.row)"
            }
            GroupFilter::Sku(_) if has_mapping => "s.said = ?1 OR m.sku = ?1",
            GroupFilter::Sku(_) => "s.said = ?1",
        };
        // A mapped spelling means only the SKUs of the mapping, and not itself. Without a mapping,
        // the order is that of the primary key, and SQLite does not sort.
        let (sku, pack, join, order) = if has_mapping {
            let join = "LEFT JOIN mapping m ON m.source = s.source AND m.said = s.said";
            (
                "COALESCE(m.sku, s.said)",
                "COALESCE(m.pack, 1)",
                join,
                "1, 3, 2, 4, 11",
            )
        } else {
            ("s.said", "1", "", "s.said, s.source, s.place, s.variant")
        };
        let statement = format!(
            "SELECT {sku}, s.said, s.source, s.place, s.quantity, s.reserve, s.at, s.absent_at, \
             {pack}, {is_selected}, s.variant FROM stated s {join} WHERE {condition} ORDER BY {order}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(statement));
        let query = match filter {
            GroupFilter::All => query,
            GroupFilter::Source(source) | GroupFilter::Delivery(source, _) => query.bind(source.0),
            GroupFilter::Sku(sku) => query.bind(sku),
        };
        Self {
            rows: query.fetch(conn),
            next: None,
        }
    }

    /// Returns the statements about the next SKU; `None` at the end.
    pub(in crate::sources) async fn next(
        &mut self,
    ) -> Result<Option<Vec<StatementRow>>, sqlx::Error> {
        loop {
            let first = match self.next.take() {
                Some(row) => row,
                None => match self.rows.next().await.transpose()? {
                    Some(row) => statement_row(&row),
                    None => return Ok(None),
                },
            };
            let mut is_selected = first.is_selected;
            let mut group = vec![first];
            while let Some(row) = self.rows.next().await.transpose()? {
                let row = statement_row(&row);
                if row.sku != group[0].sku {
                    self.next = Some(row);
                    break;
                }
                is_selected |= row.is_selected;
                group.push(row);
            }
            if is_selected {
                return Ok(Some(group));
            }
        }
    }
}

fn statement_row(row: &SqliteRow) -> StatementRow {
    StatementRow {
        sku: row.get(0),
        source_sku: row.get(1),
        source: SourceId(row.get(2)),
        warehouse: row.get(3),
        quantity: row.get(4),
        reserve: row.get(5),
        stated_at: row.get(6),
        absent_at: row.get(7),
        pack_size: u32::try_from(row.get::<i64, _>(8)).unwrap_or(1),
        is_selected: row.get::<i64, _>(9) != 0,
        variant: row.get(10),
    }
}

//! SKUs of the rows of a staged delivery that name an id.

use rusqlite::params;

use super::sorted_runs::RunSorter;
use super::staged_record::{StagedRecord, encode_row};
use super::staging::{SortedWarehouses, StagedDelivery, StagedRows};
use super::variants::{self, ResolveOptions, article_sql};
use super::{SourceId, StatementReader, StorageError};

impl StagedDelivery {
    /// Finds the SKUs of rows that name an id, and sorts the rows. A second call does nothing.
    pub(super) fn prepare(
        &mut self,
        reader: &StatementReader,
        source: SourceId,
        options: ResolveOptions,
    ) -> Result<(), StorageError> {
        if matches!(self.rows, StagedRows::Unsorted(_)) && self.has_ids {
            let path = reader.path().display().to_string();
            self.conn
                .execute("ATTACH DATABASE ?1 AS stored", params![path])?;
            self.conn.execute_batch("BEGIN")?;
            variants::find_variants(&self.conn, source, options.listing)?;
            self.resolve_ids(source)?;
            self.conn.execute_batch("COMMIT; DETACH DATABASE stored")?;
        }
        self.sort();
        Ok(())
    }

    fn resolve_ids(&mut self, source: SourceId) -> Result<(), StorageError> {
        let article = article_sql("r.id");
        let with_sku = format!(
            "SELECT CASE WHEN v.id IS NULL THEN {article} ELSE v.said END, r.place, \
             CASE WHEN v.is_shared THEN v.id ELSE '' END, r.part, r.line, r.quantity, r.reserve, \
             r.at FROM main.by_id r LEFT JOIN main.variant v ON v.id = r.id"
        );
        if let StagedRows::Unsorted(sorter) = &mut self.rows {
            let mut query = self.conn.prepare(&with_sku)?;
            let rows = query.query(params![source.0])?;
            add_rows_of_ids(rows, sorter, &mut self.sorted_warehouses)?;
        }
        let without_sku = format!(
            "INSERT INTO main.rejected (line, text, reason) SELECT min(r.line), r.id, \
             'no SKU is known for this id: no catalogue with an article for it was delivered' \
             FROM main.by_id r WHERE {article} IS NULL AND NOT EXISTS (SELECT 1 FROM \
             main.variant v WHERE v.id = r.id AND v.said IS NOT NULL) GROUP BY r.id"
        );
        let without_sku = self.conn.execute(&without_sku, params![source.0])? as u64;
        self.without_known_sku = without_sku;
        self.counts.rejected += without_sku;
        Ok(())
    }
}

/// Adds rows whose SKU was found by their id.
fn add_rows_of_ids(
    mut rows: rusqlite::Rows<'_>,
    sorter: &mut RunSorter,
    sorted_warehouses: &mut SortedWarehouses,
) -> Result<(), StorageError> {
    let mut payload = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |column| {
            row.get_ref(column)?
                .as_str_or_null()
                .map_err(rusqlite::Error::from)
        };
        let Some(sku) = text(0)? else {
            continue;
        };
        let record = StagedRecord {
            warehouse: text(1)?.unwrap_or_default(),
            variant: text(2)?.unwrap_or_default(),
            part: row.get(3)?,
            line: row.get(4)?,
            quantity: row.get(5)?,
            reserve: row.get(6)?,
            stated_at: row.get(7)?,
        };
        payload.clear();
        encode_row(&mut payload, &record);
        sorted_warehouses.record(record.warehouse);
        sorter.push(sku.as_bytes(), &payload)?;
    }
    Ok(())
}

//! Resolution of a staged delivery: merges the rows of each SKU, and rejects rows that are unclear.

use rusqlite::{Connection, OptionalExtension as _, params};
use stock_import::{RejectedRow, VariantPolicy};

use super::blocks::StatementKey;
use super::duplicates::{INCOMPLETE, MergedRow, too_large};
use super::encoding::{ByteReader, text_of};
use super::sorted_runs::SortedRecords;
use super::staged_record::{SkuEntry, StagedRecord, decode_record, decode_sku, encode_sku};
use super::staging::{DeliveredSku, MAX_WAREHOUSES, SortedWarehouses, StagedDelivery, StagedRows};
use super::variants::{self, ResolveOptions};
use super::{SourceId, StatementReader, StorageError, rejected};

/// Bytes after which a row of the table `resolved` ends.
const RESOLVED_BYTES: usize = 32 * 1024;

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

/// Counts of the resolved SKUs so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResolveCounts {
    pub(super) rows: u64,
    rejected: u64,
    suspicious: u64,
    shared_by_variants: u64,
}

impl StagedDelivery {
    /// Writes the resolved rows to the file, so that it can be kept.
    pub(in crate::sources) fn write_resolved(
        &mut self,
        reader: &StatementReader,
        source: SourceId,
        options: ResolveOptions,
    ) -> Result<(), StorageError> {
        if matches!(self.rows, StagedRows::Resolved) {
            return Ok(());
        }
        let mut blocks = super::records::SpoolWriter::new(reader.directory());
        let mut warehouses = std::collections::BTreeSet::new();
        let mut resolver = SkuResolver::new(self, reader, source, options)?;
        let (mut block, mut delivered) = (Vec::new(), DeliveredSku::default());
        while resolver.next(&mut delivered)? {
            encode_sku(&mut block, &delivered);
            if block.len() >= RESOLVED_BYTES {
                blocks.push(&[], &block)?;
                block.clear();
            }
            for row in &delivered.rows {
                if warehouses.len() < MAX_WAREHOUSES && !warehouses.contains(&row.warehouse) {
                    warehouses.insert(row.warehouse.clone());
                }
            }
        }
        let shared_by_variants = resolver.finish()?.shared_by_variants;
        blocks.push(&[], &block)?;
        let mut blocks = blocks.finish()?;
        self.conn.execute_batch("BEGIN; DELETE FROM by_id")?;
        let mut insert = self
            .conn
            .prepare("INSERT INTO resolved (rows) VALUES (?1)")?;
        while blocks.advance()? {
            insert.execute(params![blocks.payload()])?;
        }
        drop(insert);
        let warehouses = serde_json::to_string(&warehouses).unwrap_or_default();
        self.conn.execute(
            "INSERT INTO facts (warehouses, shared_by_variants, without_known_sku) \
             VALUES (?1, ?2, ?3)",
            params![
                warehouses,
                shared_by_variants.cast_signed(),
                self.without_known_sku.cast_signed()
            ],
        )?;
        Ok(self.conn.execute_batch("COMMIT")?)
    }

    /// Returns the counts of the delivery after its SKUs were resolved.
    pub(super) fn contents(&self, counts: ResolveCounts) -> Result<DeliveryContents, StorageError> {
        let shared_by_variants = match &self.rows {
            StagedRows::Resolved => {
                let sql = "SELECT shared_by_variants FROM facts";
                let stored: i64 = self.conn.query_row(sql, [], |row| row.get(0))?;
                stored.cast_unsigned()
            }
            StagedRows::Unsorted(_) | StagedRows::Sorted(_) => counts.shared_by_variants,
        };
        Ok(DeliveryContents {
            rows: counts.rows,
            rejected: self.counts.rejected + counts.rejected,
            suspicious: self.counts.suspicious + counts.suspicious,
            shared_by_variants,
            without_known_sku: self.without_known_sku,
            first_rejected: rejected::first_rejected(&self.conn)?,
        })
    }
}

/// Rows from which SKUs are resolved.
enum RowSource<'a> {
    Sorted(&'a mut SortedRecords),
    /// Blocks of the table `resolved`: the current one, the position in it, and its id.
    Resolved(Vec<u8>, usize, i64),
}

/// Cursor over the SKUs of a delivery in order. Unclear rows are listed and left out.
pub(super) struct SkuResolver<'a> {
    conn: &'a Connection,
    are_rejected_listed: &'a mut bool,
    reader: &'a StatementReader,
    source: SourceId,
    options: ResolveOptions,
    rows: RowSource<'a>,
    has_shared: bool,
    // A row that is not applied makes the other rows of its SKU suspicious.
    has_joint_faults: bool,
    counts: ResolveCounts,
}

impl<'a> SkuResolver<'a> {
    /// Begins before the first SKU of a prepared delivery.
    pub(super) fn new(
        staged: &'a mut StagedDelivery,
        reader: &'a StatementReader,
        source: SourceId,
        options: ResolveOptions,
    ) -> Result<Self, StorageError> {
        let StagedDelivery {
            conn,
            rows,
            sorted_warehouses,
            are_rejected_listed,
            ..
        } = staged;
        let rows = match rows {
            StagedRows::Sorted(records) => {
                records.rewind();
                records.advance()?;
                RowSource::Sorted(records)
            }
            StagedRows::Unsorted(_) | StagedRows::Resolved => RowSource::Resolved(Vec::new(), 0, 0),
        };
        let sql = "SELECT EXISTS (SELECT 1 FROM shared)";
        let has_shared = conn.query_row(sql, [], |row| row.get(0))?;
        conn.execute_batch("BEGIN")?;
        let mut resolver = Self {
            conn,
            are_rejected_listed,
            reader,
            source,
            options,
            rows,
            has_shared,
            has_joint_faults: false,
            counts: ResolveCounts::default(),
        };
        // If the delivery names several warehouses, the rejected row may be of another one, and the
        // rows of each warehouse are stored separately. A sum needs all its rows.
        resolver.has_joint_faults = options.duplicates == crate::sources::DuplicatePolicy::Sum
            || !(sorted_warehouses.are_several && resolver.are_several_warehouses()?);
        Ok(resolver)
    }

    /// Returns true if the rows, without those of unclear variants, name several warehouses.
    fn are_several_warehouses(&mut self) -> Result<bool, StorageError> {
        let mut warehouses = SortedWarehouses::default();
        if !self.has_shared {
            return Ok(true);
        }
        let mut delivered = DeliveredSku::default();
        while !warehouses.are_several && self.read_sorted(&mut delivered)?.is_some() {
            self.settle_variants(&mut delivered)?;
            let rows = delivered.rows.iter();
            rows.for_each(|row| warehouses.record(&row.warehouse));
        }
        if let RowSource::Sorted(records) = &mut self.rows {
            records.rewind();
            records.advance()?;
        }
        Ok(warehouses.are_several)
    }

    /// Reads the next SKU. Returns false at the end.
    pub(super) fn next(&mut self, delivered: &mut DeliveredSku) -> Result<bool, StorageError> {
        loop {
            if matches!(self.rows, RowSource::Resolved(..)) {
                if !self.read_resolved(delivered)? {
                    return Ok(false);
                }
            } else {
                let Some(SkuFaults(last_fault)) = self.read_sorted(delivered)? else {
                    return Ok(false);
                };
                if let Some(reason) = self.settle_variants(delivered)? {
                    self.counts.shared_by_variants += 1;
                    self.list(&reason)?;
                }
                self.settle_duplicates(delivered, last_fault)?;
            }
            if delivered.is_present || !delivered.rows.is_empty() {
                self.counts.rows += delivered.rows.len() as u64;
                return Ok(true);
            }
        }
    }

    /// Ends the reading after the last SKU.
    pub(super) fn finish(self) -> Result<ResolveCounts, StorageError> {
        *self.are_rejected_listed = true;
        self.conn.execute_batch("COMMIT")?;
        Ok(self.counts)
    }

    fn read_resolved(&mut self, delivered: &mut DeliveredSku) -> Result<bool, StorageError> {
        let RowSource::Resolved(block, next, id) = &mut self.rows else {
            return Ok(false);
        };
        while *next == block.len() {
            let sql = "SELECT id, rows FROM resolved WHERE id > ?1 ORDER BY id LIMIT 1";
            let mut query = self.conn.prepare_cached(sql)?;
            let found = query.query_row(params![*id], |row| Ok((row.get(0)?, row.get(1)?)));
            let Some((found_id, bytes)) = found.optional()? else {
                return Ok(false);
            };
            (*id, *block, *next) = (found_id, bytes, 0);
        }
        let mut reader = ByteReader(&block[*next..]);
        decode_sku(&mut reader, delivered)?;
        *next = block.len() - reader.0.len();
        Ok(true)
    }

    /// Reads and merges the rows of the next SKU.
    fn read_sorted(
        &mut self,
        delivered: &mut DeliveredSku,
    ) -> Result<Option<SkuFaults>, StorageError> {
        let RowSource::Sorted(records) = &mut self.rows else {
            return Ok(None);
        };
        let Some(key) = records.key() else {
            return Ok(None);
        };
        text_of(key)?.clone_into(&mut delivered.sku);
        delivered.rows.clear();
        delivered.is_present = false;
        let mut last_fault = None;
        while records.key() == Some(delivered.sku.as_bytes()) {
            match decode_record(&mut ByteReader(records.payload()))? {
                SkuEntry::Row(row) => {
                    merge_row(&mut delivered.rows, row, self.options);
                }
                SkuEntry::Fault { part, is_present } => {
                    last_fault = last_fault.max(Some(part));
                    delivered.is_present |= is_present;
                }
            }
            records.advance()?;
        }
        Ok(Some(SkuFaults(last_fault)))
    }

    /// Applies the rules for variants that share the SKU. Returns the row to list if it is unclear.
    fn settle_variants(
        &self,
        delivered: &mut DeliveredSku,
    ) -> Result<Option<RejectedRow>, StorageError> {
        if !self.has_shared || delivered.rows.is_empty() {
            return Ok(None);
        }
        let DeliveredSku {
            sku,
            rows,
            is_present,
        } = delivered;
        let Some(shared) = variants::shared_sku(self.conn, sku)? else {
            return Ok(None);
        };
        let has_stored = || self.reader.has_variants(self.source, sku);
        let unclear = shared.settle(rows, self.options, has_stored)?;
        // A variant without a number is present, so its SKU is not absent.
        let is_unstated = |row: &MergedRow| !row.variant.is_empty() && row.quantity.is_none();
        *is_present |=
            self.options.variants == VariantPolicy::Reject && rows.iter().any(is_unstated);
        let Some(unclear) = unclear else {
            return Ok(None);
        };
        *is_present = true;
        let line = rows.iter().map(|row| row.line).min().unwrap_or_default();
        let reason = shared.reason(self.conn, sku, unclear)?;
        rows.clear();
        Ok(Some(suspicious_row(line, sku, reason)))
    }

    /// Rejects rows that contradict each other, that may be incomplete, or that are too large.
    fn settle_duplicates(
        &mut self,
        delivered: &mut DeliveredSku,
        last_fault: Option<u32>,
    ) -> Result<(), StorageError> {
        let duplicates = self.options.duplicates;
        let last_fault = last_fault.filter(|_| self.has_joint_faults);
        let mut problems = Vec::new();
        let DeliveredSku {
            sku,
            rows,
            is_present,
        } = delivered;
        rows.retain(|row| {
            let conflict = row.conflict(duplicates);
            let is_unstated = row.quantity.is_none() && row.variant.is_empty();
            *is_present |= conflict.is_some() || is_unstated || row.is_too_large();
            let is_incomplete = last_fault.is_some_and(|part| part >= row.part);
            let problem = match conflict {
                Some(reason) => suspicious_row(row.line, sku, reason),
                None if is_incomplete => suspicious_row(row.line, sku, INCOMPLETE.to_owned()),
                None if row.is_too_large() => RejectedRow {
                    is_suspicious: false,
                    ..suspicious_row(row.line, sku, too_large())
                },
                None => return true,
            };
            problems.push(problem);
            false
        });
        problems.iter().try_for_each(|problem| self.list(problem))
    }

    fn list(&mut self, row: &RejectedRow) -> Result<(), StorageError> {
        self.counts.rejected += 1;
        self.counts.suspicious += u64::from(row.is_suspicious);
        if *self.are_rejected_listed {
            return Ok(());
        }
        rejected::insert(self.conn, row)
    }
}

/// Last part in which a row of the SKU is not applied.
struct SkuFaults(Option<u32>);

fn merge_row(rows: &mut Vec<MergedRow>, row: StagedRecord<'_>, options: ResolveOptions) {
    let key = StatementKey(row.warehouse, row.variant);
    match rows.binary_search_by(|known| known.key().cmp(&key)) {
        Ok(index) => rows[index].merge(&row.to_merged(), options.duplicates),
        Err(index) => rows.insert(index, row.to_merged()),
    }
}

fn suspicious_row(line: i64, sku: &str, reason: String) -> RejectedRow {
    RejectedRow {
        line: line.cast_unsigned(),
        text: sku.to_owned(),
        reason,
        sku: None,
        possible_sku: None,
        is_suspicious: true,
    }
}

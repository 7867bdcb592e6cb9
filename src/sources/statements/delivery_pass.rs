//! One ordered pass over a resolved delivery beside the stored statements of its source.
//!
//! Nothing is written to the database. The changed blocks go to a spool, from which
//! [`super::StatementStore::commit_delivery`] writes them in one transaction; each SKU that the
//! delivery concerns is passed on with its statements of all sources, as they will be.

use rusqlite::params;

use super::blocks::{
    BlockEncoder, BlockReader, EncodedBlock, StoredStatement, block_after, block_of, next_key,
};
use super::groups::{GroupCollector, GroupSelection, SkuGroup};
use super::records::{SpoolReader, SpoolWriter};
use super::replacement::{CommitOptions, Replacement};
use super::resolve::{DeliveryContents, SkuResolver};
use super::staging::{DeliveredSku, StagedDelivery};
use super::variants::ResolveOptions;
use super::{SourceId, StatementReader, StorageError};

/// Record of the spool that deletes the block with this key.
pub(super) const DELETE_BLOCK: &[u8] = &[0];

/// First byte of a record that inserts a block.
pub(super) const INSERT_BLOCK: u8 = 1;

/// Delivery of a source that is compared with its statements.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct DeliveryPass {
    /// Source of the delivery.
    pub(in crate::sources) source: SourceId,
    /// Options for its resolution.
    pub(in crate::sources) resolve: ResolveOptions,
    /// Options for its commit.
    pub(in crate::sources) commit: CommitOptions,
    /// True if it concerns all SKUs of the source, also those that it does not name.
    pub(in crate::sources) concerns_all: bool,
    /// Bytes of a buffer for sorting.
    pub(in crate::sources) sort_buffer: usize,
}

/// Delivery that was compared and can be committed.
#[derive(Debug)]
pub(in crate::sources) struct ComparedDelivery {
    pub(in crate::sources) contents: DeliveryContents,
    /// Rows that are left after later statements were found.
    pub(super) rows: u64,
    pub(super) changed_blocks: SpoolReader,
}

impl DeliveryPass {
    /// Compares a delivery, and calls `on_group` for each SKU that it concerns, in order.
    pub(in crate::sources) fn run<E: From<StorageError>>(
        &self,
        reader: &StatementReader,
        staged: &mut StagedDelivery,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<ComparedDelivery, E> {
        staged.prepare(reader, self.source, self.resolve)?;
        let mut groups = GroupCollector::new(reader, Some(self.source), self.sort_buffer)?;
        let replacement = Replacement {
            options: self.commit,
            snapshot_at: snapshot_at(reader, self.source)?,
        };
        let mut walk = BlockWalk {
            pass: self,
            reader,
            replacement,
            delivered: SkuResolver::new(staged, reader, self.source, self.resolve)?,
            next: DeliveredSku::default(),
            has_next: false,
            changed: ChangedBlock::new(reader),
            rows: 0,
            new: Vec::new(),
        };
        walk.advance_delivered()?;
        // With a mapping, every statement may be about a SKU of the delivery.
        let walks_all = self.concerns_all || groups.has_mapping();
        walk.run(walks_all, &mut groups, on_group)?;
        let BlockWalk {
            delivered,
            changed,
            rows,
            ..
        } = walk;
        let counts = delivered.finish()?;
        groups.finish(on_group)?;
        Ok(ComparedDelivery {
            contents: staged.contents(counts)?,
            rows,
            changed_blocks: changed.spool.finish().map_err(StorageError::from)?,
        })
    }
}

fn snapshot_at(reader: &StatementReader, source: SourceId) -> Result<Option<i64>, StorageError> {
    let sql = "SELECT snapshot_at FROM source WHERE id = ?1";
    Ok(reader
        .conn()
        .query_row(sql, params![source.0], |row| row.get(0))?)
}

/// Walk over the blocks of the source that the delivery concerns.
struct BlockWalk<'a> {
    pass: &'a DeliveryPass,
    reader: &'a StatementReader,
    replacement: Replacement,
    delivered: SkuResolver<'a>,
    next: DeliveredSku,
    // False after the last SKU of the delivery.
    has_next: bool,
    changed: ChangedBlock,
    rows: u64,
    // Statements about the current SKU after the delivery.
    new: Vec<StoredStatement>,
}

impl BlockWalk<'_> {
    fn advance_delivered(&mut self) -> Result<(), StorageError> {
        self.has_next = self.delivered.next(&mut self.next)?;
        Ok(())
    }

    fn run<E: From<StorageError>>(
        &mut self,
        walks_all: bool,
        groups: &mut GroupCollector<'_>,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        let (conn, source) = (self.reader.conn(), self.pass.source);
        let mut last_key: Option<String> = None;
        let mut block = BlockReader::default();
        loop {
            let found = if walks_all {
                block_after(conn, source, last_key.as_deref())?
            } else if !self.has_next {
                return Ok(());
            } else {
                // A SKU before the first block belongs to it.
                match block_of(conn, source, &self.next.sku)? {
                    None => block_after(conn, source, None)?,
                    found @ Some(_) => found,
                }
            };
            // New SKUs between two blocks belong to the first of them. A source without a block
            // has an empty one.
            let end = match &found {
                Some(found) => next_key(conn, source, &found.first_sku)?,
                None if last_key.is_none() => None,
                None => return Ok(()),
            };
            self.changed
                .begin(found.as_ref().map(|found| &*found.first_sku));
            let EncodedBlock { first_sku, bytes } = found.unwrap_or_default();
            block.open(bytes);
            self.merge_block(&mut block, end.as_deref(), groups, on_group)?;
            self.changed.end()?;
            if end.is_none() {
                return Ok(());
            }
            last_key = Some(first_sku);
        }
    }

    /// Merges the SKUs of a block with those of the delivery that are before `end`.
    fn merge_block<E: From<StorageError>>(
        &mut self,
        block: &mut BlockReader,
        end: Option<&str>,
        groups: &mut GroupCollector<'_>,
        on_group: &mut dyn FnMut(&SkuGroup) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut has_stored = block.advance()?;
        loop {
            let is_delivered = self.has_next && end.is_none_or(|end| self.next.sku.as_str() < end);
            let order = match (has_stored, is_delivered) {
                (false, false) => return Ok(()),
                (true, false) => std::cmp::Ordering::Less,
                (false, true) => std::cmp::Ordering::Greater,
                (true, true) => block.sku().cmp(&self.next.sku),
            };
            let stored: &[StoredStatement] = if order.is_le() { block.rows() } else { &[] };
            let is_named = order.is_ge();
            if is_named {
                self.replacement
                    .replace(stored, &mut self.next, &mut self.new);
                self.rows += self.next.rows.len() as u64;
            } else {
                let mut lacking = DeliveredSku::default();
                self.replacement
                    .replace(stored, &mut lacking, &mut self.new);
            }
            let sku = if is_named {
                &*self.next.sku
            } else {
                block.sku()
            };
            let has_changed = stored != self.new;
            self.changed.add(sku, &self.new, has_changed)?;
            // A delta concerns the SKUs of its rows.
            let is_selected = self.pass.concerns_all || (is_named && !self.next.rows.is_empty());
            let selection = match (is_selected, has_changed) {
                (false, _) => GroupSelection::NotSelected,
                (true, false) => GroupSelection::Repeated,
                (true, true) => GroupSelection::Changed,
            };
            groups.add_driven(sku, &self.new, selection, on_group)?;
            if is_named {
                self.advance_delivered()?;
            }
            if order.is_le() {
                has_stored = block.advance()?;
            }
        }
    }
}

/// Block that is compared, and the spool of those that have changed.
struct ChangedBlock {
    spool: SpoolWriter,
    encoder: BlockEncoder,
    // Blocks of the current range that are complete.
    complete: Vec<EncodedBlock>,
    old_key: Option<String>,
    has_changed: bool,
    is_old_deleted: bool,
    payload: Vec<u8>,
}

impl ChangedBlock {
    fn new(reader: &StatementReader) -> Self {
        Self {
            spool: SpoolWriter::new(reader.directory()),
            encoder: BlockEncoder::default(),
            complete: Vec::new(),
            old_key: None,
            has_changed: false,
            is_old_deleted: false,
            payload: Vec::new(),
        }
    }

    fn begin(&mut self, old_key: Option<&str>) {
        self.old_key = old_key.map(str::to_owned);
        self.has_changed = false;
        self.is_old_deleted = false;
    }

    fn add(
        &mut self,
        sku: &str,
        rows: &[StoredStatement],
        has_changed: bool,
    ) -> Result<(), StorageError> {
        self.has_changed |= has_changed;
        if let Some(complete) = self.encoder.push(sku, rows) {
            self.complete.push(complete);
            // Before a change, a block is at most as long as the old one.
            if self.has_changed {
                self.write_complete()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StorageError> {
        self.complete.extend(self.encoder.finish());
        if self.has_changed {
            self.write_complete()?;
        }
        self.complete.clear();
        Ok(())
    }

    fn write_complete(&mut self) -> Result<(), StorageError> {
        if !self.is_old_deleted
            && let Some(old_key) = &self.old_key
        {
            self.spool.push(old_key.as_bytes(), DELETE_BLOCK)?;
        }
        self.is_old_deleted = true;
        for block in self.complete.drain(..) {
            self.payload.clear();
            self.payload.push(INSERT_BLOCK);
            self.payload.extend_from_slice(&block.bytes);
            self.spool.push(block.first_sku.as_bytes(), &self.payload)?;
        }
        Ok(())
    }
}

//! Statements of a source in blocks: some hundred of them, sorted by SKU, in one row of the
//! database.
//!
//! A row of the database costs about as much as the encoding of a hundred statements, and most
//! deliveries are complete lists of which little changes. All statements about a SKU are in one
//! block. The key of a block is its first SKU.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::encoding::{
    ByteReader, compare_texts, is_same_text, put_flags, put_number, put_present, put_signed,
    put_text,
};
use super::{SourceId, StorageError};

/// Bytes after which a block may end.
const BLOCK_BYTES: usize = 8 * 1024;

/// Bytes above which a block is divided.
const MAX_BLOCK_BYTES: usize = 2 * BLOCK_BYTES;

const HAS_OTHER_WAREHOUSE: u8 = 1;
const HAS_VARIANT: u8 = 2;
const HAS_RESERVE: u8 = 4;
const HAS_DATE: u8 = 8;
const IS_ABSENT: u8 = 16;

/// Stored statement about a SKU at one warehouse of a source.
#[derive(Clone, Debug, Default)]
pub(in crate::sources) struct StoredStatement {
    /// Warehouse of the source; empty if it names none.
    pub(in crate::sources) warehouse: String,
    /// Id of the variant; empty if the statement is not about one of several variants.
    pub(in crate::sources) variant: String,
    /// Quantity in thousandths.
    pub(in crate::sources) quantity: i64,
    /// Reserved part in thousandths.
    pub(in crate::sources) reserve: Option<i64>,
    /// Date in microseconds since 1970; `None` for the date of the source's last snapshot.
    pub(in crate::sources) stated_at: Option<i64>,
    /// Date of the first snapshot that lacks it, in microseconds since 1970.
    pub(in crate::sources) absent_at: Option<i64>,
}

impl StoredStatement {
    /// Returns the key among the statements about a SKU, which are in the order of this key.
    pub(super) fn key(&self) -> StatementKey<'_> {
        StatementKey(&self.warehouse, &self.variant)
    }

    fn numbers(&self) -> (i64, Option<i64>, Option<i64>, Option<i64>) {
        let Self {
            quantity,
            reserve,
            stated_at,
            absent_at,
            ..
        } = *self;
        (quantity, reserve, stated_at, absent_at)
    }
}

impl PartialEq for StoredStatement {
    fn eq(&self, other: &Self) -> bool {
        self.numbers() == other.numbers() && self.key() == other.key()
    }
}

impl Eq for StoredStatement {}

/// Warehouse and variant: the key among the statements of a source about a SKU.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatementKey<'k>(pub(super) &'k str, pub(super) &'k str);

impl PartialEq for StatementKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        is_same_text(self.0, other.0) && is_same_text(self.1, other.1)
    }
}

impl Eq for StatementKey<'_> {}

impl PartialOrd for StatementKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StatementKey<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_texts(self.0, other.0).then_with(|| compare_texts(self.1, other.1))
    }
}

/// Writer of blocks from statements in the order of their SKUs.
#[derive(Debug, Default)]
pub(super) struct BlockEncoder {
    bytes: Vec<u8>,
    first_sku: String,
    last_sku: String,
    last_warehouse: String,
    // Where the block is divided if it becomes too long: the position and the SKU there.
    division: Option<(usize, String)>,
}

impl BlockEncoder {
    /// Adds the statements about a SKU. Returns a block if one is complete.
    pub(super) fn push(&mut self, sku: &str, rows: &[StoredStatement]) -> Option<EncodedBlock> {
        if rows.is_empty() {
            return None;
        }
        if self.bytes.is_empty() {
            sku.clone_into(&mut self.first_sku);
            self.forget_last();
        } else if self.bytes.len() >= BLOCK_BYTES && self.division.is_none() {
            self.division = Some((self.bytes.len(), sku.to_owned()));
            self.forget_last();
        }
        self.encode(sku, rows);
        if self.bytes.len() <= MAX_BLOCK_BYTES {
            return None;
        }
        let (end, next_sku) = self.division.take()?;
        let rest = self.bytes.split_off(end);
        Some(EncodedBlock {
            first_sku: std::mem::replace(&mut self.first_sku, next_sku),
            bytes: std::mem::replace(&mut self.bytes, rest),
        })
    }

    /// Returns the last block, and begins a new one.
    pub(super) fn finish(&mut self) -> Option<EncodedBlock> {
        self.division = None;
        (!self.bytes.is_empty()).then(|| EncodedBlock {
            first_sku: std::mem::take(&mut self.first_sku),
            bytes: std::mem::take(&mut self.bytes),
        })
    }

    // A block and the part after a division must be readable alone.
    fn forget_last(&mut self) {
        self.last_sku.clear();
        self.last_warehouse.clear();
    }

    fn encode(&mut self, sku: &str, rows: &[StoredStatement]) {
        let shared = common_prefix(&self.last_sku, sku);
        let (_, suffix) = sku.split_at(shared);
        if shared == 0 {
            self.last_warehouse.clear();
        }
        let out = &mut self.bytes;
        put_number(out, shared as u64);
        put_text(out, suffix);
        put_number(out, rows.len() as u64);
        for row in rows {
            let has_other_warehouse = !is_same_text(&row.warehouse, &self.last_warehouse);
            put_flags(
                out,
                &[
                    (has_other_warehouse, HAS_OTHER_WAREHOUSE),
                    (!row.variant.is_empty(), HAS_VARIANT),
                    (row.reserve.is_some(), HAS_RESERVE),
                    (row.stated_at.is_some(), HAS_DATE),
                    (row.absent_at.is_some(), IS_ABSENT),
                ],
            );
            if has_other_warehouse {
                put_text(out, &row.warehouse);
                row.warehouse.clone_into(&mut self.last_warehouse);
            }
            if !row.variant.is_empty() {
                put_text(out, &row.variant);
            }
            put_signed(out, row.quantity);
            put_present(out, [row.reserve, row.stated_at, row.absent_at]);
        }
        sku.clone_into(&mut self.last_sku);
    }
}

/// Returns the bytes of the characters that both texts begin with.
fn common_prefix(one: &str, other: &str) -> usize {
    let pairs = one.as_bytes().iter().zip(other.as_bytes());
    let mut length = pairs.take_while(|(a, b)| a == b).count();
    while !other.is_char_boundary(length) {
        length -= 1;
    }
    length
}

/// Encoded block with its key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct EncodedBlock {
    pub(super) first_sku: String,
    pub(super) bytes: Vec<u8>,
}

/// Reader of the SKUs of one block.
#[derive(Debug, Default)]
pub(super) struct BlockReader {
    bytes: Vec<u8>,
    next: usize,
    sku: String,
    warehouse: String,
    rows: Vec<StoredStatement>,
}

impl BlockReader {
    pub(super) fn open(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
        self.next = 0;
        self.sku.clear();
        self.warehouse.clear();
        self.rows.clear();
    }

    /// Moves to the next SKU. Returns false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, StorageError> {
        let unread = self.bytes.get(self.next..).unwrap_or_default();
        let mut reader = ByteReader(unread);
        if reader.is_at_end() {
            return Ok(false);
        }
        let shared = reader.length()?;
        if !self.sku.is_char_boundary(shared) {
            return Err(StorageError::Damaged);
        }
        if shared == 0 {
            self.warehouse.clear();
        }
        self.sku.truncate(shared);
        self.sku.push_str(reader.text()?);
        let count = reader.length()?;
        self.rows.truncate(count);
        for number in 0..count {
            if number == self.rows.len() {
                self.rows.push(StoredStatement::default());
            }
            read_row(&mut reader, &mut self.warehouse, &mut self.rows[number])?;
        }
        self.next = self.bytes.len() - reader.0.len();
        Ok(true)
    }

    pub(super) fn sku(&self) -> &str {
        &self.sku
    }

    pub(super) fn rows(&self) -> &[StoredStatement] {
        &self.rows
    }
}

fn read_row(
    reader: &mut ByteReader<'_>,
    warehouse: &mut String,
    row: &mut StoredStatement,
) -> Result<(), StorageError> {
    let flags = reader.byte()?;
    if flags & HAS_OTHER_WAREHOUSE != 0 {
        reader.text()?.clone_into(warehouse);
    }
    row.warehouse.clone_from(warehouse);
    row.variant.clear();
    if flags & HAS_VARIANT != 0 {
        row.variant.push_str(reader.text()?);
    }
    row.quantity = reader.signed()?;
    row.reserve = reader.signed_if(flags & HAS_RESERVE != 0)?;
    row.stated_at = reader.signed_if(flags & HAS_DATE != 0)?;
    row.absent_at = reader.signed_if(flags & IS_ABSENT != 0)?;
    Ok(())
}

/// Returns the first block of a source after the one with this key; the first one for `None`.
pub(super) fn block_after(
    conn: &Connection,
    source: SourceId,
    first_sku: Option<&str>,
) -> Result<Option<EncodedBlock>, StorageError> {
    // No SKU is empty.
    let sql =
        "SELECT first, rows FROM block WHERE source = ?1 AND first > ?2 ORDER BY first LIMIT 1";
    one_block(conn, sql, source, first_sku.unwrap_or_default())
}

/// Returns the block that has the statements about a SKU, if there are any.
pub(super) fn block_of(
    conn: &Connection,
    source: SourceId,
    sku: &str,
) -> Result<Option<EncodedBlock>, StorageError> {
    let sql = "SELECT first, rows FROM block WHERE source = ?1 AND first <= ?2 \
               ORDER BY first DESC LIMIT 1";
    one_block(conn, sql, source, sku)
}

fn one_block(
    conn: &Connection,
    sql: &str,
    source: SourceId,
    sku: &str,
) -> Result<Option<EncodedBlock>, StorageError> {
    let mut query = conn.prepare_cached(sql)?;
    let block = query.query_row(params![source.0, sku], |row| {
        Ok(EncodedBlock {
            first_sku: row.get(0)?,
            bytes: row.get(1)?,
        })
    });
    Ok(block.optional()?)
}

/// Returns the key of the first block of a source after the one with this key.
pub(super) fn next_key(
    conn: &Connection,
    source: SourceId,
    first_sku: &str,
) -> Result<Option<String>, StorageError> {
    let sql = "SELECT first FROM block WHERE source = ?1 AND first > ?2 ORDER BY first LIMIT 1";
    let mut query = conn.prepare_cached(sql)?;
    let key = query.query_row(params![source.0, first_sku], |row| row.get(0));
    Ok(key.optional()?)
}

/// Statements of one source in the order of their SKUs.
#[derive(Debug)]
pub(super) struct StatementCursor<'c> {
    conn: &'c Connection,
    pub(super) source: SourceId,
    block: BlockReader,
    // Key of the block, and that of the next one: the block has all SKUs in between.
    block_key: Option<String>,
    next_key: Option<String>,
    // The last SKU that was sought in the block; `None` if no block was opened for a search.
    sought: Option<String>,
    has_current: bool,
}

impl<'c> StatementCursor<'c> {
    /// Creates a cursor before the first SKU.
    pub(super) fn new(conn: &'c Connection, source: SourceId) -> Self {
        Self {
            conn,
            source,
            block: BlockReader::default(),
            block_key: None,
            next_key: None,
            sought: None,
            has_current: false,
        }
    }

    /// Moves to the next SKU. Returns false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, StorageError> {
        while !self.block.advance()? {
            let next = block_after(self.conn, self.source, self.block_key.as_deref())?;
            let Some(EncodedBlock { first_sku, bytes }) = next else {
                self.has_current = false;
                return Ok(false);
            };
            self.block.open(bytes);
            self.block_key = Some(first_sku);
        }
        self.has_current = true;
        Ok(true)
    }

    /// Moves to a SKU. Returns false if there are no statements about it. SKUs that are sought in
    /// ascending order cost one query a block.
    pub(super) fn seek(&mut self, sku: &str) -> Result<bool, StorageError> {
        let is_covered = self.sought.as_deref().is_some_and(|sought| sought <= sku)
            && self.next_key.as_deref().is_none_or(|next| sku < next);
        if !is_covered {
            self.open_block_of(sku)?;
        }
        sku.clone_into(self.sought.get_or_insert_default());
        loop {
            if self.has_current && self.block.sku() >= sku {
                return Ok(self.block.sku() == sku);
            }
            self.has_current = self.block.advance()?;
            if !self.has_current {
                return Ok(false);
            }
        }
    }

    fn open_block_of(&mut self, sku: &str) -> Result<(), StorageError> {
        let block = block_of(self.conn, self.source, sku)?;
        self.has_current = false;
        let (key, bytes) = block.map_or_else(Default::default, |it| (it.first_sku, it.bytes));
        self.next_key = next_key(self.conn, self.source, &key)?;
        self.block_key = Some(key);
        self.block.open(bytes);
        Ok(())
    }

    /// Returns the current SKU; `None` at the end.
    pub(super) fn sku(&self) -> Option<&str> {
        self.has_current.then(|| self.block.sku())
    }

    /// Returns the statements about the current SKU.
    pub(super) fn rows(&self) -> &[StoredStatement] {
        self.block.rows()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_statement() -> impl Strategy<Value = StoredStatement> {
        let text = || "[a-cЮ]{0,2}";
        let optional = || proptest::option::of(any::<i64>());
        (
            text(),
            text(),
            any::<i64>(),
            optional(),
            optional(),
            optional(),
        )
            .prop_map(
                |(warehouse, variant, quantity, reserve, stated_at, absent_at)| StoredStatement {
                    warehouse,
                    variant,
                    quantity,
                    reserve,
                    stated_at,
                    absent_at,
                },
            )
    }

    fn decode(blocks: Vec<EncodedBlock>) -> Vec<(String, Vec<StoredStatement>)> {
        let mut found = Vec::new();
        for block in blocks {
            let mut reader = BlockReader::default();
            reader.open(block.bytes);
            let mut is_first = true;
            while reader.advance().unwrap() {
                assert!(!is_first || reader.sku() == block.first_sku);
                is_first = false;
                found.push((reader.sku().to_owned(), reader.rows().to_vec()));
            }
        }
        found
    }

    fn encode(statements: &[(String, Vec<StoredStatement>)]) -> Vec<EncodedBlock> {
        let mut encoder = BlockEncoder::default();
        let mut blocks = Vec::new();
        for (sku, rows) in statements {
            blocks.extend(encoder.push(sku, rows));
        }
        blocks.extend(encoder.finish());
        blocks
    }

    proptest! {
        #[test]
        fn decodes_what_was_encoded(
            statements in proptest::collection::btree_map(
                "[ab]{1,3}|[а-в]{1,2}",
                proptest::collection::vec(any_statement(), 1..4),
                0..40,
            ),
        ) {
            let statements: Vec<_> = statements.into_iter().collect();
            prop_assert_eq!(decode(encode(&statements)), statements);
        }

        #[test]
        fn damaged_blocks_are_an_error_or_statements(bytes: Vec<u8>) {
            let mut reader = BlockReader::default();
            reader.open(bytes);
            while let Ok(true) = reader.advance() {}
        }
    }

    #[test]
    fn long_lists_have_several_blocks() {
        let rows = vec![StoredStatement {
            warehouse: "Склад".to_owned(),
            ..StoredStatement::default()
        }];
        let statements: Vec<_> = (0..20_000)
            .map(|n| (format!("S-{n:06}"), rows.clone()))
            .collect();
        let blocks = encode(&statements);
        let lengths: Vec<usize> = blocks.iter().map(|block| block.bytes.len()).collect();
        assert!(lengths.len() > 5, "{lengths:?}");
        let (last, others) = lengths.split_last().unwrap();
        assert!(*last <= MAX_BLOCK_BYTES);
        for length in others {
            assert!(
                (BLOCK_BYTES..BLOCK_BYTES + 100).contains(length),
                "{lengths:?}"
            );
        }
        assert_eq!(decode(blocks), statements);
    }
}

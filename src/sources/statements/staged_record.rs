//! Encoding of the rows of a delivery while they are sorted, and of resolved rows in a held file.

use super::StorageError;
use super::duplicates::MergedRow;
use super::encoding::{ByteReader, put_flags, put_number, put_present, put_signed, put_text};
use super::staging::DeliveredSku;

const HAS_WAREHOUSE: u8 = 1;
const HAS_VARIANT: u8 = 2;
const HAS_QUANTITY: u8 = 4;
const HAS_RESERVE: u8 = 8;
const HAS_DATE: u8 = 16;
/// Marks a record without a row: one row of the SKU is not applied.
const IS_FAULT: u8 = 32;
/// The row that is not applied certainly belongs to the SKU.
const IS_PRESENT: u8 = 64;

/// Row of a delivery, apart from its SKU.
#[derive(Clone, Copy, Debug)]
pub(super) struct StagedRecord<'r> {
    pub(super) warehouse: &'r str,
    pub(super) variant: &'r str,
    pub(super) part: u32,
    pub(super) line: i64,
    pub(super) quantity: Option<i64>,
    pub(super) reserve: Option<i64>,
    pub(super) stated_at: Option<i64>,
}

/// Decoded record about a SKU.
#[derive(Debug)]
pub(super) enum SkuEntry<'r> {
    Row(StagedRecord<'r>),
    /// A row of this part is not applied.
    Fault {
        part: u32,
        is_present: bool,
    },
}

impl StagedRecord<'_> {
    pub(super) fn to_merged(self) -> MergedRow {
        MergedRow {
            warehouse: self.warehouse.to_owned(),
            variant: self.variant.to_owned(),
            part: self.part,
            line: self.line,
            quantity: self.quantity,
            reserve: self.reserve,
            stated_at: self.stated_at,
            ..MergedRow::default()
        }
    }
}

pub(super) fn encode_fault(out: &mut Vec<u8>, part: u32, is_present: bool) {
    out.push(IS_FAULT | if is_present { IS_PRESENT } else { 0 });
    put_number(out, part.into());
}

pub(super) fn encode_row(out: &mut Vec<u8>, row: &StagedRecord<'_>) {
    put_flags(
        out,
        &[
            (!row.warehouse.is_empty(), HAS_WAREHOUSE),
            (!row.variant.is_empty(), HAS_VARIANT),
            (row.quantity.is_some(), HAS_QUANTITY),
            (row.reserve.is_some(), HAS_RESERVE),
            (row.stated_at.is_some(), HAS_DATE),
        ],
    );
    put_number(out, row.part.into());
    put_signed(out, row.line);
    for text in [row.warehouse, row.variant] {
        if !text.is_empty() {
            put_text(out, text);
        }
    }
    put_present(out, [row.quantity, row.reserve, row.stated_at]);
}

pub(super) fn decode_record<'r>(reader: &mut ByteReader<'r>) -> Result<SkuEntry<'r>, StorageError> {
    let flags = reader.byte()?;
    let part = u32::try_from(reader.number()?).map_err(|_| StorageError::Damaged)?;
    if flags & IS_FAULT != 0 {
        let is_present = flags & IS_PRESENT != 0;
        return Ok(SkuEntry::Fault { part, is_present });
    }
    let line = reader.signed()?;
    let mut text = |flag: u8| match flags & flag {
        0 => Ok(""),
        _ => reader.text(),
    };
    let (warehouse, variant) = (text(HAS_WAREHOUSE)?, text(HAS_VARIANT)?);
    Ok(SkuEntry::Row(StagedRecord {
        warehouse,
        variant,
        part,
        line,
        quantity: reader.signed_if(flags & HAS_QUANTITY != 0)?,
        reserve: reader.signed_if(flags & HAS_RESERVE != 0)?,
        stated_at: reader.signed_if(flags & HAS_DATE != 0)?,
    }))
}

/// Appends the resolved rows of a SKU.
pub(super) fn encode_sku(out: &mut Vec<u8>, delivered: &DeliveredSku) {
    put_text(out, &delivered.sku);
    out.push(delivered.is_present.into());
    put_number(out, delivered.rows.len() as u64);
    for row in &delivered.rows {
        let record = StagedRecord {
            warehouse: &row.warehouse,
            variant: &row.variant,
            part: row.part,
            line: row.line,
            quantity: row.quantity,
            reserve: row.reserve,
            stated_at: row.stated_at,
        };
        encode_row(out, &record);
    }
}

/// Reads what [`encode_sku`] wrote.
pub(super) fn decode_sku(
    reader: &mut ByteReader<'_>,
    delivered: &mut DeliveredSku,
) -> Result<(), StorageError> {
    reader.text()?.clone_into(&mut delivered.sku);
    delivered.is_present = reader.byte()? != 0;
    delivered.rows.clear();
    for _ in 0..reader.length()? {
        match decode_record(reader)? {
            SkuEntry::Row(row) => delivered.rows.push(row.to_merged()),
            SkuEntry::Fault { .. } => return Err(StorageError::Damaged),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_was_encoded() {
        let row = |warehouse: &str, quantity| MergedRow {
            warehouse: warehouse.to_owned(),
            variant: warehouse.to_uppercase(),
            part: 3,
            line: 77,
            quantity,
            reserve: quantity,
            stated_at: quantity.map(|at| -at),
            ..MergedRow::default()
        };
        let written = DeliveredSku {
            sku: "Ю-1".to_owned(),
            rows: vec![row("", None), row("w", Some(-5)), row("x", Some(1_000_000))],
            is_present: true,
        };
        let mut bytes = Vec::new();
        encode_sku(&mut bytes, &written);
        encode_sku(&mut bytes, &DeliveredSku::default());
        let mut reader = ByteReader(&bytes);
        let mut read = DeliveredSku::default();
        decode_sku(&mut reader, &mut read).unwrap();
        assert_eq!((read.sku, read.rows), (written.sku, written.rows));
        assert!(read.is_present);
        let mut read = DeliveredSku::default();
        decode_sku(&mut reader, &mut read).unwrap();
        assert!(reader.is_at_end() && read.rows.is_empty() && !read.is_present);
    }
}

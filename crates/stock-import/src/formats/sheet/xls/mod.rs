//! XLS workbooks of Excel 5 and later. The whole file is in memory.
//!
//! The format has no checksums, so every number in the file is validated: damaged values cause
//! neither endless loops nor unbounded allocations.
//!
//! Sources: [MS-CFB] and [MS-XLS], Open Specifications, 2024.

mod cell_format;
mod compound_file;
mod records;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;

use encoding_rs::Encoding;

use self::cell_format::{XlsFormat, cell_format};
use self::compound_file::CompoundFile;
use self::records::{
    XlsRecordParts, decode_narrow, f64_at, parse_shared_strings, records, u16_at, u32_at, usize_at,
};
use super::merged_cells::MergedRange;
use super::{SheetRowCallback, Workbook, broken, cell_mut, password_error, read_workbook};
use crate::formats::table::{NumberFormat, TableCell};
use crate::formats::{FileSummary, FormatError, Input, Sink};
use crate::row::ReadSettings;

/// Largest XLS file in bytes. A full sheet of 65 536 rows with long names takes a fifth of it.
const MAX_XLS: u64 = 32 << 20;

/// Most columns of an XLS sheet.
const MAX_COLUMNS: usize = 256;

const BOF: u16 = 0x0809;
const EOF: u16 = 0x000a;
const CONTINUE: u16 = 0x003c;
const MERGED_CELLS: u16 = 0x00e5;

pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    input.rewind()?;
    let mut file = Vec::new();
    Read::take(&mut *input, MAX_XLS + 1).read_to_end(&mut file)?;
    if file.len() as u64 > MAX_XLS {
        return Err(FormatError::Unusable(format!(
            "the workbook is larger than {MAX_XLS} bytes, the limit for XLS: save it as XLSX"
        )));
    }
    let stream = read_workbook_stream(&file)?;
    let mut workbook = XlsWorkbook::parse(&stream, reading.encoding)?;
    read_workbook(&mut workbook, reading, sink)
}

/// Returns the stream with the records of the workbook.
fn read_workbook_stream(file: &[u8]) -> Result<Vec<u8>, FormatError> {
    let damaged_error = || broken("it is truncated, or its directory is damaged");
    let compound_file = CompoundFile::parse(file).ok_or_else(damaged_error)?;
    let find = |name: &str| {
        let mut entries = compound_file.entries.iter();
        entries.find(|entry| entry.has_name(name))
    };
    if find("EncryptedPackage").is_some() {
        return Err(password_error());
    }
    // Excel 5 and 95 name the stream Book.
    let entry = find("Workbook").or_else(|| find("Book"));
    let entry = entry.ok_or_else(|| broken("it does not contain a workbook"))?;
    compound_file.read_stream(entry).ok_or_else(damaged_error)
}

/// Parts that all sheets share, and the positions of the sheets.
struct XlsWorkbook<'a> {
    stream: &'a [u8],
    /// Name, hidden flag, and position in the stream.
    sheets: Vec<(String, bool, usize)>,
    shared_strings: Vec<String>,
    /// Number formats by the index in a cell.
    formats: Vec<XlsFormat>,
    /// Encoding of the single-byte texts of a workbook before Excel 97.
    narrow_encoding: Option<&'static Encoding>,
}

impl<'a> XlsWorkbook<'a> {
    fn parse(stream: &'a [u8], encoding: Option<&'static Encoding>) -> Result<Self, FormatError> {
        let narrow_encoding = narrow_encoding(stream, encoding)?;
        let mut sheets = Vec::new();
        let mut codes = BTreeMap::new();
        let mut format_ids = Vec::new();
        let mut string_records: Vec<&[u8]> = Vec::new();
        let mut last_kind = 0;
        let mut is_ended = false;
        for (kind, bytes) in records(stream) {
            let damaged_error = || broken(format!("record 0x{kind:04X} is damaged"));
            match kind {
                0x002f => return Err(password_error()),
                0x041e => {
                    let code = bytes.get(2..).and_then(|bytes| match narrow_encoding {
                        Some(encoding) => {
                            let (length, text) = bytes.split_first()?;
                            decode_narrow(text, usize::from(*length), encoding)
                        }
                        None => XlsRecordParts::new(vec![bytes]).read_text(),
                    });
                    codes.insert(
                        u16_at(bytes, 0).ok_or_else(damaged_error)?,
                        code.ok_or_else(damaged_error)?,
                    );
                }
                0x00e0 => format_ids.push(u16_at(bytes, 2).ok_or_else(damaged_error)?),
                0x0085 => {
                    sheets.extend(parse_sheet(bytes, narrow_encoding).ok_or_else(damaged_error)?);
                }
                0x00fc => string_records.push(bytes),
                CONTINUE if last_kind == 0x00fc => string_records.push(bytes),
                EOF => {
                    is_ended = true;
                    break;
                }
                _ => {}
            }
            if kind != CONTINUE {
                last_kind = kind;
            }
        }
        if !is_ended {
            return Err(broken("the end of the workbook is missing"));
        }
        let formats = format_ids.into_iter().map(|id| cell_format(id, &codes));
        Ok(Self {
            stream,
            sheets,
            shared_strings: parse_shared_strings(string_records),
            formats: formats.collect(),
            narrow_encoding,
        })
    }

    /// Reads a text with a length prefix.
    fn read_text(&self, bytes: &[u8]) -> Option<String> {
        match self.narrow_encoding {
            Some(encoding) => {
                decode_narrow(bytes.get(2..)?, usize::from(u16_at(bytes, 0)?), encoding)
            }
            None => XlsRecordParts::new(vec![bytes]).read_text(),
        }
    }

    /// Passes the records of a sheet to the callback, which returns `None` if one is damaged.
    fn for_each_record(
        &self,
        sheet: &str,
        mut callback: impl FnMut(u16, &[u8]) -> Option<()>,
    ) -> Result<(), FormatError> {
        let Some((_, _, start)) = self.sheets.iter().find(|(name, ..)| name == sheet) else {
            return Ok(());
        };
        // Charts inside a sheet have nested BOF and EOF records.
        let mut depth = 0_u32;
        for (kind, bytes) in records(self.stream.get(*start..).unwrap_or_default()) {
            match kind {
                BOF => depth += 1,
                _ if depth == 0 => break,
                EOF if depth == 1 => return Ok(()),
                EOF => depth -= 1,
                _ if depth > 1 => {}
                _ => callback(kind, bytes)
                    .ok_or_else(|| broken(format!("record 0x{kind:04X} of a sheet is damaged")))?,
            }
        }
        Err(broken("the end of a sheet is missing"))
    }

    /// Adds the cells of one record to their rows; `None` if the record is damaged.
    fn read_cells<'s>(
        &'s self,
        kind: u16,
        bytes: &[u8],
        rows: &mut BTreeMap<u16, Vec<TableCell<'s>>>,
    ) -> Option<()> {
        let cell = match kind {
            0x00fd => match self.shared_strings.get(usize_at(bytes, 6)?) {
                Some(text) => TableCell::Text(Cow::Borrowed(text)),
                None => TableCell::Other("a text that is not in the workbook".into()),
            },
            0x0204 | 0x00d6 => TableCell::Text(self.read_text(bytes.get(6..)?)?.into()),
            0x0203 => self.number_cell(u16_at(bytes, 4)?, f64_at(bytes, 6)?),
            0x027e => self.number_cell(u16_at(bytes, 4)?, decode_rk(u32_at(bytes, 6)?)),
            0x0205 => bool_or_error_cell(*bytes.get(6)?, *bytes.get(7)? != 0),
            0x0006 => match (u16_at(bytes, 12)?, bytes.get(6)?) {
                (0xffff, 1) => bool_or_error_cell(*bytes.get(8)?, false),
                (0xffff, 2) => bool_or_error_cell(*bytes.get(8)?, true),
                (0xffff, _) if requests_recalculation(bytes) => TableCell::FormulaWithoutValue,
                (0xffff, _) => TableCell::EmptyFormula,
                _ if requests_recalculation(bytes) && f64_at(bytes, 6)? == 0.0 => {
                    TableCell::UncalculatedFormula
                }
                _ => self.number_cell(u16_at(bytes, 4)?, f64_at(bytes, 6)?),
            },
            0x00bd => {
                let (row, first) = position(bytes)?;
                let numbers = bytes.get(4..bytes.len().checked_sub(2)?)?.chunks_exact(6);
                for (pack, column) in numbers.zip(first..=u16::MAX) {
                    let cell = self.number_cell(u16_at(pack, 0)?, decode_rk(u32_at(pack, 2)?));
                    put_cell(rows, row, column, cell)?;
                }
                return Some(());
            }
            _ => return Some(()),
        };
        let (row, column) = position(bytes)?;
        put_cell(rows, row, column, cell)
    }

    fn number_cell(&self, format: u16, value: f64) -> TableCell<'static> {
        match self.formats.get(usize::from(format)) {
            Some(XlsFormat::Date) => TableCell::Other("a date".into()),
            Some(XlsFormat::Number(format)) => TableCell::Number(value, *format),
            None => TableCell::Number(value, NumberFormat::General),
        }
    }
}

fn position(bytes: &[u8]) -> Option<(u16, u16)> {
    Some((u16_at(bytes, 0)?, u16_at(bytes, 2)?))
}

fn put_cell<'s>(
    rows: &mut BTreeMap<u16, Vec<TableCell<'s>>>,
    row: u16,
    column: u16,
    cell: TableCell<'s>,
) -> Option<()> {
    if usize::from(column) >= MAX_COLUMNS {
        return None;
    }
    let slot = cell_mut(rows.entry(row).or_default(), usize::from(column));
    // A cell with two values is ambiguous.
    if *slot != TableCell::Empty {
        return None;
    }
    *slot = cell;
    Some(())
}

/// Returns true if a formula requests calculation on opening. Then its value may be a placeholder.
fn requests_recalculation(bytes: &[u8]) -> bool {
    const ALWAYS_OR_ON_LOAD: u16 = 3;
    u16_at(bytes, 14).is_some_and(|flags| flags & ALWAYS_OR_ON_LOAD != 0)
}

/// Returns the encoding of the single-byte texts of a workbook; `None` since Excel 97.
///
/// # Errors
/// The workbook is older than Excel 5, or its code page is unknown and no setting names the
/// encoding.
fn narrow_encoding(
    stream: &[u8],
    setting: Option<&'static Encoding>,
) -> Result<Option<&'static Encoding>, FormatError> {
    let version = records(stream)
        .find(|(kind, _)| *kind == BOF)
        .and_then(|it| u16_at(it.1, 0));
    match version {
        Some(0x0600) => return Ok(None),
        Some(0x0500) => {}
        _ => {
            return Err(FormatError::Unusable(
                "the workbook is older than Excel 5: save it as XLSX".to_owned(),
            ));
        }
    }
    if let Some(setting) = setting {
        return Ok(Some(setting));
    }
    const CODE_PAGE: u16 = 0x0042;
    let code_page = records(stream).find(|(kind, _)| *kind == CODE_PAGE);
    let code_page = code_page.and_then(|(_, bytes)| u16_at(bytes, 0));
    match code_page {
        Some(1251) => Ok(Some(encoding_rs::WINDOWS_1251)),
        Some(1252 | 0x8001 | 367) => Ok(Some(encoding_rs::WINDOWS_1252)),
        Some(866) => Ok(Some(encoding_rs::IBM866)),
        Some(10_007) => Ok(Some(encoding_rs::X_MAC_CYRILLIC)),
        other => Err(FormatError::Unusable(format!(
            "the workbook is from Excel 95 and its code page ({}) is not supported: set encoding to \
             the encoding of its texts, such as windows-1251",
            other.map_or("not declared".to_owned(), |page| page.to_string())
        ))),
    }
}

impl Workbook for XlsWorkbook<'_> {
    fn sheets(&self) -> Vec<(String, bool)> {
        self.sheets
            .iter()
            .map(|(name, is_hidden, _)| (name.clone(), *is_hidden))
            .collect()
    }

    fn for_each_row(
        &mut self,
        sheet: &str,
        callback: SheetRowCallback<'_>,
    ) -> Result<(), FormatError> {
        let mut rows = BTreeMap::new();
        // The text of a formula follows in a record of its own.
        let mut pending_formula = None;
        self.for_each_record(sheet, |kind, bytes| match kind {
            0x0207 => {
                let text = self.read_text(bytes)?;
                pending_formula.take().map_or(Some(()), |(row, column)| {
                    put_cell(&mut rows, row, column, TableCell::Text(text.into()))
                })
            }
            0x0006 if is_text_formula(bytes) => {
                pending_formula = Some(position(bytes)?);
                Some(())
            }
            _ => self.read_cells(kind, bytes, &mut rows),
        })?;
        for (row, cells) in rows {
            if callback(u64::from(row) + 1, &cells)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn merged_ranges(&mut self, sheet: &str) -> Result<Vec<MergedRange>, FormatError> {
        let mut merges = Vec::new();
        self.for_each_record(sheet, |kind, bytes| {
            if kind == MERGED_CELLS {
                let ranges = bytes.get(2..).unwrap_or_default().chunks_exact(8);
                merges.extend(ranges.filter_map(parse_merged_range));
            }
            Some(())
        })?;
        Ok(merges)
    }
}

/// Parses a merged range: first row, last row, first column, last column.
fn parse_merged_range(bytes: &[u8]) -> Option<MergedRange> {
    let row = |at| u16_at(bytes, at).map(|row| u64::from(row) + 1);
    Some(MergedRange {
        column: usize::from(u16_at(bytes, 4)?),
        first_row: row(0)?,
        last_row: row(2)?,
    })
}

fn is_text_formula(bytes: &[u8]) -> bool {
    u16_at(bytes, 12) == Some(0xffff) && bytes.get(6) == Some(&0)
}

fn bool_or_error_cell(value: u8, is_error: bool) -> TableCell<'static> {
    TableCell::Other(Cow::Borrowed(match (is_error, value) {
        (false, 0) => "FALSE",
        (false, _) => "TRUE",
        (true, 0x00) => "#NULL!",
        (true, 0x07) => "#DIV/0!",
        (true, 0x0f) => "#VALUE!",
        (true, 0x17) => "#REF!",
        (true, 0x1d) => "#NAME?",
        (true, 0x24) => "#NUM!",
        (true, 0x2a) => "#N/A",
        (true, _) => "an error",
    }))
}

/// Decodes an RK number: an integer or the upper half of an `f64`, optionally multiplied by 100.
fn decode_rk(bits: u32) -> f64 {
    let value = if bits & 2 == 2 {
        f64::from(bits.cast_signed() >> 2)
    } else {
        f64::from_bits(u64::from(bits & !3) << 32)
    };
    if bits & 1 == 1 { value / 100.0 } else { value }
}

/// Parses a sheet with cells: name, hidden flag and position. `Some(None)` is another kind of
/// sheet.
fn parse_sheet(
    bytes: &[u8],
    encoding: Option<&'static Encoding>,
) -> Option<Option<(String, bool, usize)>> {
    let (state, kind) = (*bytes.get(4)?, *bytes.get(5)?);
    let length = usize::from(*bytes.get(6)?);
    let name = if let Some(encoding) = encoding {
        decode_narrow(bytes.get(7..)?, length, encoding)?
    } else {
        let mut parts = XlsRecordParts::new(vec![bytes.get(7..)?]);
        let is_wide = parts.read_byte()? & 1 == 1;
        parts.read_characters(length, is_wide)?
    };
    Some((kind == 0).then_some((name, state & 3 != 0, usize_at(bytes, 0)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_rk_numbers() {
        for (bits, value) in [
            (0b110, 1.0),
            (0xffff_fffa, -2.0),
            (12_345 << 2 | 0b11, 123.45),
            (0x3ff0_0000, 1.0),
            (0x4059_0001, 1.0),
        ] {
            assert_eq!(decode_rk(bits).to_bits(), f64::to_bits(value), "{bits:#x}");
        }
    }

    #[test]
    fn formula_has_its_stored_value() {
        let formula = |value: [u8; 8]| [&[0, 0, 0, 0, 0, 0][..], &value].concat();
        let workbook = XlsWorkbook {
            stream: &[],
            sheets: Vec::new(),
            shared_strings: Vec::new(),
            formats: Vec::new(),
            narrow_encoding: None,
        };
        for (value, cell) in [
            (
                5_f64.to_le_bytes(),
                TableCell::Number(5.0, NumberFormat::General),
            ),
            (
                [1, 0, 1, 0, 0, 0, 0xff, 0xff],
                TableCell::Other("TRUE".into()),
            ),
            (
                [2, 0, 0x2a, 0, 0, 0, 0xff, 0xff],
                TableCell::Other("#N/A".into()),
            ),
            ([3, 0, 0, 0, 0, 0, 0xff, 0xff], TableCell::EmptyFormula),
        ] {
            let mut rows = BTreeMap::new();
            workbook
                .read_cells(0x0006, &formula(value), &mut rows)
                .unwrap();
            assert_eq!(rows[&0], [cell]);
        }
        assert!(is_text_formula(&formula([0, 0, 0, 0, 0, 0, 0xff, 0xff])));
    }
}

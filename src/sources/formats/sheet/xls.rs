//! XLS of Excel 5 and later: records in a file system within the file. It is held in memory.
//!
//! Its tables of where things are have no check sums, so each number in it is doubted: whatever
//! stands there, it is refused or read, and neither loops nor asks for memory without bounds.
//!
//! Source: [MS-CFB] and [MS-XLS], Open Specifications, 2024.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, SeekFrom};

use encoding_rs::Encoding;

use super::super::table::{NumberFormat, TableCell};
use super::super::{FileSummary, FormatError, Input, Sink};
use super::merged_cells::MergedRange;
use super::{RowFlow, SheetRowCallback, Workbook, broken, password_error, read_workbook};
use crate::sources::row::ReadSettings;

/// Most bytes of such a file: 65 536 rows with long names take a fifth of it.
const MAX_XLS: u64 = 32 << 20;

/// Columns of the widest sheet of this kind.
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
    input.seek(SeekFrom::Start(0))?;
    let mut file = Vec::new();
    Read::take(&mut *input, MAX_XLS + 1).read_to_end(&mut file)?;
    if file.len() as u64 > MAX_XLS {
        return Err(FormatError::Unusable(format!(
            "the workbook is longer than {MAX_XLS} bytes, which is the limit of XLS: save it as XLSX"
        )));
    }
    let stream = read_workbook_stream(&file)?;
    let mut workbook = XlsWorkbook::parse(&stream, reading.encoding)?;
    read_workbook(&mut workbook, reading, sink)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

fn f64_at(bytes: &[u8], at: usize) -> Option<f64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|bytes| f64::from_le_bytes(*bytes))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// The records of the workbook, out of the file system that the file is.
fn read_workbook_stream(file: &[u8]) -> Result<Vec<u8>, FormatError> {
    let damaged_error = || broken("it is cut short, or its directory is damaged");
    let compound_file = CompoundFile::parse(file).ok_or_else(damaged_error)?;
    let exists = |name: &str| {
        compound_file
            .entries
            .iter()
            .any(|entry| entry.has_name(name))
    };
    if exists("EncryptedPackage") {
        return Err(password_error());
    }
    // Excel 5 and 95 call it Book.
    let find = |name: &str| {
        compound_file
            .entries
            .iter()
            .find(|entry| entry.has_name(name))
    };
    let entry = find("Workbook").or_else(|| find("Book"));
    let entry = entry.ok_or_else(|| broken("there is no workbook in it"))?;
    compound_file.read_stream(entry).ok_or_else(damaged_error)
}

/// What stands in the directory.
struct CompoundFileEntry {
    name: String,
    start: usize,
    length: usize,
}

impl CompoundFileEntry {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = usize::from(u16_at(bytes, 64)?).min(64);
        let units: Vec<_> = bytes
            .get(..length)?
            .chunks_exact(2)
            .map_while(|two| u16_at(two, 0))
            .collect();
        let name = String::from_utf16_lossy(&units)
            .trim_end_matches('\0')
            .to_owned();
        Some(Self {
            name,
            start: usize_at(bytes, 116)?,
            length: usize_at(bytes, 120)?,
        })
    }

    fn has_name(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The file system: sectors, and for each the one that follows it.
struct CompoundFile<'a> {
    file: &'a [u8],
    sector_size: usize,
    fat: Vec<u32>,
    /// Streams shorter than that are kept in small sectors.
    mini_stream_cutoff: usize,
    mini_fat: Vec<u32>,
    entries: Vec<CompoundFileEntry>,
}

const MINI_SECTOR_SIZE: usize = 64;

impl<'a> CompoundFile<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        const HEADER_FAT_ENTRIES: usize = 109;
        let sector_size = match u16_at(file, 30)? {
            9 => 512,
            12 => 4_096,
            _ => return None,
        };
        let mut compound_file = Self {
            file,
            sector_size,
            fat: Vec::new(),
            mini_stream_cutoff: usize_at(file, 56)?,
            mini_fat: Vec::new(),
            entries: Vec::new(),
        };
        let mut fat_sectors: Vec<usize> = (0..HEADER_FAT_ENTRIES)
            .filter_map(|at| usize_at(file, 76 + at * 4))
            .collect();
        // Where the header has no room for more, sectors go on with them, the last place of
        // each naming the next.
        let mut next_list = usize_at(file, 68)?;
        let entries_per_sector = sector_size / 4 - 1;
        for _ in 0..file.len() / sector_size {
            let Some(bytes) = compound_file.sector(next_list) else {
                break;
            };
            fat_sectors.extend((0..entries_per_sector).filter_map(|at| usize_at(bytes, at * 4)));
            next_list = usize_at(bytes, entries_per_sector * 4)?;
        }
        // No more of them than the file has sectors, however often one is named.
        let fat_sector_count = usize_at(file, 44)?.min(file.len() / sector_size);
        for list in fat_sectors.into_iter().take(fat_sector_count) {
            compound_file
                .fat
                .extend(u32_values(compound_file.sector(list)?));
        }
        let directory = compound_file.read_chain(usize_at(file, 48)?)?;
        compound_file.entries = directory
            .chunks_exact(128)
            .map(CompoundFileEntry::parse)
            .collect::<Option<Vec<_>>>()?;
        if usize_at(file, 64)? > 0 {
            compound_file.mini_fat = u32_values(&compound_file.read_chain(usize_at(file, 60)?)?);
        }
        Some(compound_file)
    }

    /// A sector; the last one of the file may be cut where nothing of it is used.
    fn sector(&self, at: usize) -> Option<&'a [u8]> {
        let start = at.checked_add(1)?.checked_mul(self.sector_size)?;
        let end = start.checked_add(self.sector_size)?.min(self.file.len());
        self.file.get(start..end).filter(|bytes| !bytes.is_empty())
    }

    fn read_chain(&self, start: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for at in sector_chain(start, &self.fat)? {
            bytes.extend_from_slice(self.sector(at)?);
        }
        Some(bytes)
    }

    fn read_stream(&self, entry: &CompoundFileEntry) -> Option<Vec<u8>> {
        let bytes = if entry.length >= self.mini_stream_cutoff {
            self.read_chain(entry.start)?
        } else {
            let mini_stream = self.read_chain(self.entries.first()?.start)?;
            let mut bytes = Vec::new();
            for at in sector_chain(entry.start, &self.mini_fat)? {
                let start = at.checked_mul(MINI_SECTOR_SIZE)?;
                let end = start.checked_add(MINI_SECTOR_SIZE)?.min(mini_stream.len());
                // The last one may be cut where nothing of it is used.
                bytes.extend_from_slice(mini_stream.get(start..end)?);
            }
            bytes
        };
        bytes.get(..entry.length).map(<[u8]>::to_vec)
    }
}

fn u32_values(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map_while(|four| u32_at(four, 0))
        .collect()
}

/// The sectors that follow each other; `None` if they go out of bounds, or in a circle.
fn sector_chain(start: usize, fat: &[u32]) -> Option<Vec<usize>> {
    const END: u32 = 0xffff_fffe;
    let mut at = start;
    let mut found = Vec::new();
    loop {
        let successor = *fat.get(at)?;
        if found.len() == fat.len() {
            return None;
        }
        found.push(at);
        if successor == END {
            return Some(found);
        }
        at = usize::try_from(successor).ok()?;
    }
}

/// The records of a stream, one behind the other: what it is, and its bytes.
fn records(stream: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let (kind, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let bytes = rest.get(4..4 + length)?;
        rest = rest.get(4 + length..)?;
        Some((kind, bytes))
    })
}

/// What the whole workbook shares.
struct XlsWorkbook<'a> {
    stream: &'a [u8],
    sheets: Vec<(String, bool, usize)>,
    shared_strings: Vec<String>,
    /// By the number that a cell has.
    formats: Vec<XlsFormat>,
    /// The encoding of its texts before Excel 97, when they had a byte a letter.
    narrow_encoding: Option<&'static Encoding>,
}

/// How a cell shows its number.
#[derive(Clone, Copy)]
enum XlsFormat {
    Number(NumberFormat),
    Date,
}

impl<'a> XlsWorkbook<'a> {
    fn parse(stream: &'a [u8], encoding: Option<&'static Encoding>) -> Result<Self, FormatError> {
        let mut workbook = Self {
            stream,
            sheets: Vec::new(),
            shared_strings: Vec::new(),
            formats: Vec::new(),
            narrow_encoding: narrow_encoding(stream, encoding)?,
        };
        let mut codes = BTreeMap::new();
        let mut format_ids = Vec::new();
        let mut string_records: Vec<&[u8]> = Vec::new();
        let mut last_kind = 0;
        let mut is_ended = false;
        for (kind, bytes) in records(stream) {
            let damaged_error = || broken(format!("a record 0x{kind:04X} of it is damaged"));
            match kind {
                0x002f => return Err(password_error()),
                0x041e => {
                    let code = bytes
                        .get(2..)
                        .and_then(|bytes| match workbook.narrow_encoding {
                            Some(encoding) => decode_narrow(
                                bytes.get(1..)?,
                                usize::from(*bytes.first()?),
                                encoding,
                            ),
                            None => XlsRecordParts::new(vec![bytes]).read_text(),
                        });
                    codes.insert(
                        u16_at(bytes, 0).ok_or_else(damaged_error)?,
                        code.ok_or_else(damaged_error)?,
                    );
                }
                0x00e0 => format_ids.push(u16_at(bytes, 2).ok_or_else(damaged_error)?),
                0x0085 => workbook.sheets.extend(
                    parse_sheet(bytes, workbook.narrow_encoding).ok_or_else(damaged_error)?,
                ),
                0x00fc => string_records.push(bytes),
                CONTINUE if last_kind == 0x00fc => string_records.push(bytes),
                EOF => is_ended = true,
                _ => {}
            }
            if kind != CONTINUE {
                last_kind = kind;
            }
            if is_ended {
                break;
            }
        }
        if !is_ended {
            return Err(broken("its end is missing"));
        }
        if !string_records.is_empty() {
            workbook.shared_strings = parse_shared_strings(string_records);
        }
        workbook.formats = format_ids
            .into_iter()
            .map(|id| cell_format(id, &codes))
            .collect();
        Ok(workbook)
    }

    /// A text whose length stands before it.
    fn read_text(&self, bytes: &[u8]) -> Option<String> {
        match self.narrow_encoding {
            Some(encoding) => {
                decode_narrow(bytes.get(2..)?, usize::from(u16_at(bytes, 0)?), encoding)
            }
            None => XlsRecordParts::new(vec![bytes]).read_text(),
        }
    }

    /// The rows of the sheet that begins there.
    fn read_rows(&self, start: usize) -> Result<BTreeMap<u16, Vec<TableCell<'_>>>, FormatError> {
        let mut rows = BTreeMap::new();
        // A chart within a sheet has a beginning and an end of its own.
        let mut depth = 0_u32;
        // The text of a formula stands behind it.
        let mut pending_formula = None;
        for (kind, bytes) in records(self.stream.get(start..).unwrap_or_default()) {
            let damaged_error = || broken(format!("a record 0x{kind:04X} of a sheet is damaged"));
            match kind {
                BOF => depth += 1,
                _ if depth == 0 => break,
                EOF if depth == 1 => return Ok(rows),
                EOF => depth -= 1,
                _ if depth > 1 => {}
                0x0207 => {
                    let text = self.read_text(bytes).ok_or_else(damaged_error)?;
                    if let Some((row, column)) = pending_formula.take() {
                        put_cell(&mut rows, row, column, TableCell::Text(text.into()))
                            .ok_or_else(damaged_error)?;
                    }
                }
                0x0006 if is_text_formula(bytes) => {
                    pending_formula = Some(position(bytes).ok_or_else(damaged_error)?);
                }
                _ => self
                    .read_cells(kind, bytes, &mut rows)
                    .ok_or_else(damaged_error)?,
            }
        }
        Err(broken("the end of a sheet is missing"))
    }

    /// Puts the cells of one record where they belong; `None` if it is damaged.
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
            Some(XlsFormat::Number(shown)) => TableCell::Number(value, *shown),
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
    let column = usize::from(column);
    if column >= MAX_COLUMNS {
        return None;
    }
    let cells = rows.entry(row).or_default();
    if cells.len() <= column {
        cells.resize(column + 1, TableCell::Empty);
    }
    let slot = cells.get_mut(column)?;
    // A second value of a cell leaves open which one counts.
    if *slot != TableCell::Empty {
        return None;
    }
    *slot = cell;
    Some(())
}

/// Whether a formula asks to be calculated when the workbook is opened: its value may be a
/// placeholder.
fn requests_recalculation(bytes: &[u8]) -> bool {
    const ALWAYS_OR_ON_LOAD: u16 = 3;
    u16_at(bytes, 14).is_some_and(|flags| flags & ALWAYS_OR_ON_LOAD != 0)
}

/// The encoding of a workbook whose texts have a byte a letter: one before Excel 97.
///
/// # Errors
/// Its code page is not known, and no setting names the encoding.
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
            "the workbook is of Excel 95 and its code page, {}, is not known: set encoding to the \
             one its texts are in, such as windows-1251",
            other.map_or("which it does not name".to_owned(), |page| page.to_string())
        ))),
    }
}

/// So many letters of one byte each.
fn decode_narrow(bytes: &[u8], length: usize, encoding: &'static Encoding) -> Option<String> {
    let text = encoding.decode_without_bom_handling(bytes.get(..length)?).0;
    Some(text.into_owned())
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
        let Some((_, _, at)) = self.sheets.iter().find(|(name, ..)| name == sheet) else {
            return Ok(());
        };
        for (row, cells) in self.read_rows(*at)? {
            if callback(u64::from(row) + 1, &cells)? == RowFlow::Stop {
                break;
            }
        }
        Ok(())
    }

    fn merged_ranges(&mut self, sheet: &str) -> Result<Vec<MergedRange>, FormatError> {
        let Some((_, _, at)) = self.sheets.iter().find(|(name, ..)| name == sheet) else {
            return Ok(Vec::new());
        };
        let mut merges = Vec::new();
        let mut depth = 0_u32;
        for (kind, bytes) in records(self.stream.get(*at..).unwrap_or_default()) {
            match kind {
                BOF => depth += 1,
                EOF if depth <= 1 => break,
                EOF => depth -= 1,
                MERGED_CELLS if depth == 1 => {
                    let ranges = bytes.get(2..).unwrap_or_default().chunks_exact(8);
                    merges.extend(ranges.filter_map(parse_merged_range));
                }
                _ => {}
            }
        }
        Ok(merges)
    }
}

/// A merged range: its first and last row, and its first and last column.
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

/// A number in four bytes: an integer, or the upper half of a fraction; or a hundred times it.
fn decode_rk(bits: u32) -> f64 {
    let value = if bits & 2 == 2 {
        f64::from(bits.cast_signed() >> 2)
    } else {
        f64::from_bits(u64::from(bits & !3) << 32)
    };
    if bits & 1 == 1 { value / 100.0 } else { value }
}

/// A sheet with cells in it, whether it is hidden, and where it begins.
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

fn cell_format(id: u16, codes: &BTreeMap<u16, String>) -> XlsFormat {
    match (codes.get(&id), id) {
        (Some(code), _) if is_date_format(code) => XlsFormat::Date,
        (Some(code), _) => XlsFormat::Number(NumberFormat::parse(code)),
        (None, 14..=22 | 45..=47) => XlsFormat::Date,
        (None, 1) => XlsFormat::Number(NumberFormat::parse("0")),
        (None, 2) => XlsFormat::Number(NumberFormat::parse("0.00")),
        (None, _) => XlsFormat::Number(NumberFormat::General),
    }
}

/// Whether a format shows days or hours; what stands in quotes or brackets does not count.
fn is_date_format(code: &str) -> bool {
    let mut letters = code.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => drop(letters.by_ref().find(|c| *c == '"')),
            '[' => drop(letters.by_ref().find(|c| *c == ']')),
            '\\' | '_' | '*' => drop(letters.next()),
            'd' | 'm' | 'y' | 'h' | 's' | 'D' | 'M' | 'Y' | 'H' | 'S' => return true,
            _ => {}
        }
    }
    false
}

/// The texts that the cells share, as many as there are: the count may promise more.
pub(super) fn parse_shared_strings(parts: Vec<&[u8]>) -> Vec<String> {
    let mut parts = XlsRecordParts::new(parts);
    let mut texts = Vec::new();
    let Some(count) = parts.skip(4).and_then(|()| parts.read_u32()) else {
        return texts;
    };
    while texts.len() < count {
        let Some(text) = parts.read_text() else { break };
        texts.push(text);
    }
    texts
}

/// The bytes of a record and of those that continue it.
struct XlsRecordParts<'a> {
    parts: std::vec::IntoIter<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> XlsRecordParts<'a> {
    fn new(parts: Vec<&'a [u8]>) -> Self {
        Self {
            parts: parts.into_iter(),
            rest: &[],
        }
    }

    fn read_byte(&mut self) -> Option<u8> {
        while self.rest.is_empty() {
            self.rest = self.parts.next()?;
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn read_u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.read_byte()?, self.read_byte()?]))
    }

    fn read_u32(&mut self) -> Option<usize> {
        let (low, high) = (u32::from(self.read_u16()?), u32::from(self.read_u16()?));
        usize::try_from(high << 16 | low).ok()
    }

    fn skip(&mut self, mut length: usize) -> Option<()> {
        while length > self.rest.len() {
            length -= self.rest.len();
            self.rest = self.parts.next()?;
        }
        self.rest = self.rest.get(length..)?;
        Some(())
    }

    /// A text with its length, its kind and what is said of its looks and its sound.
    fn read_text(&mut self) -> Option<String> {
        let length = usize::from(self.read_u16()?);
        let kind = self.read_byte()?;
        let formatting_length = if kind & 8 == 8 {
            usize::from(self.read_u16()?) * 4
        } else {
            0
        };
        let phonetic_length = if kind & 4 == 4 { self.read_u32()? } else { 0 };
        let text = self.read_characters(length, kind & 1 == 1)?;
        self.skip(formatting_length)?;
        self.skip(phonetic_length)?;
        Some(text)
    }

    /// So many letters, of one byte or of two; each part that goes on with them says anew which.
    fn read_characters(&mut self, length: usize, mut is_wide: bool) -> Option<String> {
        let mut units = Vec::with_capacity(length);
        while units.len() < length {
            if self.rest.is_empty() {
                self.rest = self.parts.next()?;
                is_wide = self.read_byte()? & 1 == 1;
            }
            let low = self.read_byte()?;
            let high = if is_wide { self.read_byte()? } else { 0 };
            units.push(u16::from_le_bytes([low, high]));
        }
        Some(String::from_utf16_lossy(&units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_four_bytes_is_what_it_stands_for() {
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
    fn sectors_that_go_in_a_circle_or_out_of_bounds_are_no_chain() {
        const END: u32 = 0xffff_fffe;
        assert_eq!(sector_chain(1, &[END, 2, 0]), Some(vec![1, 2, 0]));
        assert_eq!(sector_chain(0, &[1, 0, END]), None);
        assert_eq!(sector_chain(0, &[7, END]), None);
        assert_eq!(sector_chain(5, &[END]), None);
    }

    #[test]
    fn a_text_goes_on_in_the_next_part_with_letters_of_another_width() {
        let parts = vec![&b"\x04\x00\x00ab"[..], b"\x01\x16\x04\x17\x04"];
        assert_eq!(
            XlsRecordParts::new(parts).read_text().as_deref(),
            Some("abЖЗ")
        );
        assert_eq!(
            XlsRecordParts::new(vec![b"\x04\x00\x00ab"]).read_text(),
            None
        );
    }

    #[test]
    fn a_formula_says_what_it_was_when_the_workbook_was_saved() {
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

    #[test]
    fn formats_of_days_and_hours_are_told_from_those_of_numbers() {
        for (code, expected) in [
            ("DD.MM.YYYY", true),
            ("[h]:mm", true),
            ("General", false),
            ("0000000", false),
            ("0\\ \"дней d\"", false),
            ("[Red]0", false),
        ] {
            assert_eq!(is_date_format(code), expected, "{code}");
        }
    }
}

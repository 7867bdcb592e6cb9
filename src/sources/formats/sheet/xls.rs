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

use super::super::table::{Cell, Shown};
use super::super::{Ending, FormatError, Input, Sink};
use super::merges::Merge;
use super::{Go, TakeRow, Workbook, broken, protected, read_workbook};
use crate::sources::row::Reading;

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
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut file = Vec::new();
    Read::take(&mut *input, MAX_XLS + 1).read_to_end(&mut file)?;
    if file.len() as u64 > MAX_XLS {
        return Err(FormatError::Unfit(format!(
            "the workbook is longer than {MAX_XLS} bytes, which is the limit of XLS: save it as XLSX"
        )));
    }
    let stream = workbook(&file)?;
    let mut workbook = Book::parse(&stream, reading.encoding)?;
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

fn place_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// The records of the workbook, out of the file system that the file is.
fn workbook(file: &[u8]) -> Result<Vec<u8>, FormatError> {
    let damaged = || broken("it is cut short, or its directory is damaged");
    let system = System::parse(file).ok_or_else(damaged)?;
    let is_there = |name: &str| system.entries.iter().any(|entry| entry.is_called(name));
    if is_there("EncryptedPackage") {
        return Err(protected());
    }
    // Excel 5 and 95 call it Book.
    let find = |name: &str| system.entries.iter().find(|entry| entry.is_called(name));
    let entry = find("Workbook").or_else(|| find("Book"));
    let entry = entry.ok_or_else(|| broken("there is no workbook in it"))?;
    system.stream(entry).ok_or_else(damaged)
}

/// What stands in the directory.
struct Dirent {
    name: String,
    start: usize,
    length: usize,
}

impl Dirent {
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
            start: place_at(bytes, 116)?,
            length: place_at(bytes, 120)?,
        })
    }

    fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The file system: sectors, and for each the one that follows it.
struct System<'a> {
    file: &'a [u8],
    sector: usize,
    next: Vec<u32>,
    /// Streams shorter than that are kept in small sectors.
    small_below: usize,
    small_next: Vec<u32>,
    entries: Vec<Dirent>,
}

const SMALL_SECTOR: usize = 64;

impl<'a> System<'a> {
    fn parse(file: &'a [u8]) -> Option<Self> {
        const LISTED_IN_HEADER: usize = 109;
        let sector = match u16_at(file, 30)? {
            9 => 512,
            12 => 4_096,
            _ => return None,
        };
        let mut system = Self {
            file,
            sector,
            next: Vec::new(),
            small_below: place_at(file, 56)?,
            small_next: Vec::new(),
            entries: Vec::new(),
        };
        let mut lists: Vec<usize> = (0..LISTED_IN_HEADER)
            .filter_map(|at| place_at(file, 76 + at * 4))
            .collect();
        // Where the header has no room for more, sectors go on with them, the last place of
        // each naming the next.
        let mut more = place_at(file, 68)?;
        let in_sector = sector / 4 - 1;
        for _ in 0..file.len() / sector {
            let Some(bytes) = system.sector(more) else {
                break;
            };
            lists.extend((0..in_sector).filter_map(|at| place_at(bytes, at * 4)));
            more = place_at(bytes, in_sector * 4)?;
        }
        // No more of them than the file has sectors, however often one is named.
        let tables = place_at(file, 44)?.min(file.len() / sector);
        for list in lists.into_iter().take(tables) {
            system.next.extend(numbers(system.sector(list)?));
        }
        let directory = system.chain(place_at(file, 48)?)?;
        system.entries = directory
            .chunks_exact(128)
            .map(Dirent::parse)
            .collect::<Option<Vec<_>>>()?;
        if place_at(file, 64)? > 0 {
            system.small_next = numbers(&system.chain(place_at(file, 60)?)?);
        }
        Some(system)
    }

    /// A sector; the last one of the file may be cut where nothing of it is used.
    fn sector(&self, at: usize) -> Option<&'a [u8]> {
        let start = at.checked_add(1)?.checked_mul(self.sector)?;
        let end = start.checked_add(self.sector)?.min(self.file.len());
        self.file.get(start..end).filter(|bytes| !bytes.is_empty())
    }

    fn chain(&self, start: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for at in chain(start, &self.next)? {
            bytes.extend_from_slice(self.sector(at)?);
        }
        Some(bytes)
    }

    fn stream(&self, entry: &Dirent) -> Option<Vec<u8>> {
        let bytes = if entry.length >= self.small_below {
            self.chain(entry.start)?
        } else {
            let small = self.chain(self.entries.first()?.start)?;
            let mut bytes = Vec::new();
            for at in chain(entry.start, &self.small_next)? {
                let start = at.checked_mul(SMALL_SECTOR)?;
                let end = start.checked_add(SMALL_SECTOR)?.min(small.len());
                // The last one may be cut where nothing of it is used.
                bytes.extend_from_slice(small.get(start..end)?);
            }
            bytes
        };
        bytes.get(..entry.length).map(<[u8]>::to_vec)
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map_while(|four| u32_at(four, 0))
        .collect()
}

/// The sectors that follow each other; `None` if they go out of bounds, or in a circle.
fn chain(start: usize, next: &[u32]) -> Option<Vec<usize>> {
    const END: u32 = 0xffff_fffe;
    let mut at = start;
    let mut found = Vec::new();
    loop {
        let following = *next.get(at)?;
        if found.len() == next.len() {
            return None;
        }
        found.push(at);
        if following == END {
            return Some(found);
        }
        at = usize::try_from(following).ok()?;
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
struct Book<'a> {
    stream: &'a [u8],
    sheets: Vec<(String, bool, usize)>,
    texts: Vec<String>,
    /// By the number that a cell has.
    formats: Vec<Format>,
    /// The encoding of its texts before Excel 97, when they had a byte a letter.
    narrow: Option<&'static Encoding>,
}

/// How a cell shows its number.
#[derive(Clone, Copy)]
enum Format {
    Number(Shown),
    Date,
}

impl<'a> Book<'a> {
    fn parse(stream: &'a [u8], encoding: Option<&'static Encoding>) -> Result<Self, FormatError> {
        let mut found = Self {
            stream,
            sheets: Vec::new(),
            texts: Vec::new(),
            formats: Vec::new(),
            narrow: narrow_encoding(stream, encoding)?,
        };
        let mut codes = BTreeMap::new();
        let mut wanted = Vec::new();
        let mut shared: Vec<&[u8]> = Vec::new();
        let mut last = 0;
        let mut is_ended = false;
        for (kind, bytes) in records(stream) {
            let damaged = || broken(format!("a record 0x{kind:04X} of it is damaged"));
            match kind {
                0x002f => return Err(protected()),
                0x041e => {
                    let code = bytes.get(2..).and_then(|bytes| match found.narrow {
                        Some(encoding) => {
                            narrow(bytes.get(1..)?, usize::from(*bytes.first()?), encoding)
                        }
                        None => Parts::new(vec![bytes]).text(),
                    });
                    codes.insert(
                        u16_at(bytes, 0).ok_or_else(damaged)?,
                        code.ok_or_else(damaged)?,
                    );
                }
                0x00e0 => wanted.push(u16_at(bytes, 2).ok_or_else(damaged)?),
                0x0085 => found
                    .sheets
                    .extend(sheet(bytes, found.narrow).ok_or_else(damaged)?),
                0x00fc => shared.push(bytes),
                CONTINUE if last == 0x00fc => shared.push(bytes),
                EOF => is_ended = true,
                _ => {}
            }
            if kind != CONTINUE {
                last = kind;
            }
            if is_ended {
                break;
            }
        }
        if !is_ended {
            return Err(broken("its end is missing"));
        }
        if !shared.is_empty() {
            found.texts = texts(shared);
        }
        found.formats = wanted.into_iter().map(|id| format(id, &codes)).collect();
        Ok(found)
    }

    /// A text whose length stands before it.
    fn text(&self, bytes: &[u8]) -> Option<String> {
        match self.narrow {
            Some(encoding) => narrow(bytes.get(2..)?, usize::from(u16_at(bytes, 0)?), encoding),
            None => Parts::new(vec![bytes]).text(),
        }
    }

    /// The rows of the sheet that begins there.
    fn rows(&self, at: usize) -> Result<BTreeMap<u16, Vec<Cell<'_>>>, FormatError> {
        let mut rows = BTreeMap::new();
        // A chart within a sheet has a beginning and an end of its own.
        let mut depth = 0_u32;
        // The text of a formula stands behind it.
        let mut awaited = None;
        for (kind, bytes) in records(self.stream.get(at..).unwrap_or_default()) {
            let damaged = || broken(format!("a record 0x{kind:04X} of a sheet is damaged"));
            match kind {
                BOF => depth += 1,
                _ if depth == 0 => break,
                EOF if depth == 1 => return Ok(rows),
                EOF => depth -= 1,
                _ if depth > 1 => {}
                0x0207 => {
                    let text = self.text(bytes).ok_or_else(damaged)?;
                    if let Some((row, column)) = awaited.take() {
                        put(&mut rows, row, column, Cell::Text(text.into())).ok_or_else(damaged)?;
                    }
                }
                0x0006 if formula_is_text(bytes) => {
                    awaited = Some(position(bytes).ok_or_else(damaged)?);
                }
                _ => self.cells(kind, bytes, &mut rows).ok_or_else(damaged)?,
            }
        }
        Err(broken("the end of a sheet is missing"))
    }

    /// Puts the cells of one record where they belong; `None` if it is damaged.
    fn cells<'s>(
        &'s self,
        kind: u16,
        bytes: &[u8],
        rows: &mut BTreeMap<u16, Vec<Cell<'s>>>,
    ) -> Option<()> {
        let cell = match kind {
            0x00fd => match self.texts.get(place_at(bytes, 6)?) {
                Some(text) => Cell::Text(Cow::Borrowed(text)),
                None => Cell::Odd("a text that is not in the workbook".into()),
            },
            0x0204 | 0x00d6 => Cell::Text(self.text(bytes.get(6..)?)?.into()),
            0x0203 => self.number(u16_at(bytes, 4)?, f64_at(bytes, 6)?),
            0x027e => self.number(u16_at(bytes, 4)?, packed(u32_at(bytes, 6)?)),
            0x0205 => odd(*bytes.get(6)?, *bytes.get(7)? != 0),
            0x0006 => match (u16_at(bytes, 12)?, bytes.get(6)?) {
                (0xffff, 1) => odd(*bytes.get(8)?, false),
                (0xffff, 2) => odd(*bytes.get(8)?, true),
                (0xffff, _) if asks_to_calculate(bytes) => Cell::NoValue,
                (0xffff, _) => Cell::Blank,
                _ if asks_to_calculate(bytes) && f64_at(bytes, 6)? == 0.0 => Cell::Uncalculated,
                _ => self.number(u16_at(bytes, 4)?, f64_at(bytes, 6)?),
            },
            0x00bd => {
                let (row, first) = position(bytes)?;
                let packs = bytes.get(4..bytes.len().checked_sub(2)?)?.chunks_exact(6);
                for (pack, column) in packs.zip(first..=u16::MAX) {
                    let cell = self.number(u16_at(pack, 0)?, packed(u32_at(pack, 2)?));
                    put(rows, row, column, cell)?;
                }
                return Some(());
            }
            _ => return Some(()),
        };
        let (row, column) = position(bytes)?;
        put(rows, row, column, cell)
    }

    fn number(&self, format: u16, value: f64) -> Cell<'static> {
        match self.formats.get(usize::from(format)) {
            Some(Format::Date) => Cell::Odd("a date".into()),
            Some(Format::Number(shown)) => Cell::Number(value, *shown),
            None => Cell::Number(value, Shown::General),
        }
    }
}

fn position(bytes: &[u8]) -> Option<(u16, u16)> {
    Some((u16_at(bytes, 0)?, u16_at(bytes, 2)?))
}

fn put<'s>(
    rows: &mut BTreeMap<u16, Vec<Cell<'s>>>,
    row: u16,
    column: u16,
    cell: Cell<'s>,
) -> Option<()> {
    let column = usize::from(column);
    if column >= MAX_COLUMNS {
        return None;
    }
    let cells = rows.entry(row).or_default();
    if cells.len() <= column {
        cells.resize(column + 1, Cell::Empty);
    }
    let place = cells.get_mut(column)?;
    // A second value of a cell leaves open which one counts.
    if *place != Cell::Empty {
        return None;
    }
    *place = cell;
    Some(())
}

/// Whether a formula asks to be calculated when the workbook is opened: its value may be a
/// placeholder.
fn asks_to_calculate(bytes: &[u8]) -> bool {
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
            return Err(FormatError::Unfit(
                "the workbook is older than Excel 5: save it as XLSX".to_owned(),
            ));
        }
    }
    if let Some(setting) = setting {
        return Ok(Some(setting));
    }
    const CODE_PAGE: u16 = 0x0042;
    let page = records(stream).find(|(kind, _)| *kind == CODE_PAGE);
    let page = page.and_then(|(_, bytes)| u16_at(bytes, 0));
    match page {
        Some(1251) => Ok(Some(encoding_rs::WINDOWS_1251)),
        Some(1252 | 0x8001 | 367) => Ok(Some(encoding_rs::WINDOWS_1252)),
        Some(866) => Ok(Some(encoding_rs::IBM866)),
        Some(10_007) => Ok(Some(encoding_rs::X_MAC_CYRILLIC)),
        other => Err(FormatError::Unfit(format!(
            "the workbook is of Excel 95 and its code page, {}, is not known: set encoding to the \
             one its texts are in, such as windows-1251",
            other.map_or("which it does not name".to_owned(), |page| page.to_string())
        ))),
    }
}

/// So many letters of one byte each.
fn narrow(bytes: &[u8], length: usize, encoding: &'static Encoding) -> Option<String> {
    let text = encoding.decode_without_bom_handling(bytes.get(..length)?).0;
    Some(text.into_owned())
}

impl Workbook for Book<'_> {
    fn sheets(&self) -> Vec<(String, bool)> {
        self.sheets
            .iter()
            .map(|(name, is_hidden, _)| (name.clone(), *is_hidden))
            .collect()
    }

    fn walk(&mut self, sheet: &str, take: TakeRow<'_>) -> Result<(), FormatError> {
        let Some((_, _, at)) = self.sheets.iter().find(|(name, ..)| name == sheet) else {
            return Ok(());
        };
        for (row, cells) in self.rows(*at)? {
            if take(u64::from(row) + 1, &cells)? == Go::Stop {
                break;
            }
        }
        Ok(())
    }

    fn merges(&mut self, sheet: &str) -> Result<Vec<Merge>, FormatError> {
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
                    merges.extend(ranges.filter_map(merge));
                }
                _ => {}
            }
        }
        Ok(merges)
    }
}

/// A merged range: its first and last row, and its first and last column.
fn merge(bytes: &[u8]) -> Option<Merge> {
    let row = |at| u16_at(bytes, at).map(|row| u64::from(row) + 1);
    Some(Merge {
        column: usize::from(u16_at(bytes, 4)?),
        first: row(0)?,
        last: row(2)?,
    })
}

fn formula_is_text(bytes: &[u8]) -> bool {
    u16_at(bytes, 12) == Some(0xffff) && bytes.get(6) == Some(&0)
}

fn odd(value: u8, is_error: bool) -> Cell<'static> {
    Cell::Odd(Cow::Borrowed(match (is_error, value) {
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
fn packed(bits: u32) -> f64 {
    let value = if bits & 2 == 2 {
        f64::from(bits.cast_signed() >> 2)
    } else {
        f64::from_bits(u64::from(bits & !3) << 32)
    };
    if bits & 1 == 1 { value / 100.0 } else { value }
}

/// A sheet with cells in it, whether it is hidden, and where it begins.
fn sheet(
    bytes: &[u8],
    encoding: Option<&'static Encoding>,
) -> Option<Option<(String, bool, usize)>> {
    let (state, kind) = (*bytes.get(4)?, *bytes.get(5)?);
    let length = usize::from(*bytes.get(6)?);
    let name = if let Some(encoding) = encoding {
        narrow(bytes.get(7..)?, length, encoding)?
    } else {
        let mut parts = Parts::new(vec![bytes.get(7..)?]);
        let is_wide = parts.byte()? & 1 == 1;
        parts.letters(length, is_wide)?
    };
    Some((kind == 0).then_some((name, state & 3 != 0, place_at(bytes, 0)?)))
}

fn format(id: u16, codes: &BTreeMap<u16, String>) -> Format {
    match (codes.get(&id), id) {
        (Some(code), _) if is_date(code) => Format::Date,
        (Some(code), _) => Format::Number(Shown::parse(code)),
        (None, 14..=22 | 45..=47) => Format::Date,
        (None, 1) => Format::Number(Shown::parse("0")),
        (None, 2) => Format::Number(Shown::parse("0.00")),
        (None, _) => Format::Number(Shown::General),
    }
}

/// Whether a format shows days or hours; what stands in quotes or brackets does not count.
fn is_date(code: &str) -> bool {
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
pub(super) fn texts(parts: Vec<&[u8]>) -> Vec<String> {
    let mut parts = Parts::new(parts);
    let mut texts = Vec::new();
    let Some(count) = parts.skip(4).and_then(|()| parts.long()) else {
        return texts;
    };
    while texts.len() < count {
        let Some(text) = parts.text() else { break };
        texts.push(text);
    }
    texts
}

/// The bytes of a record and of those that continue it.
struct Parts<'a> {
    parts: std::vec::IntoIter<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn new(parts: Vec<&'a [u8]>) -> Self {
        Self {
            parts: parts.into_iter(),
            rest: &[],
        }
    }

    fn byte(&mut self) -> Option<u8> {
        while self.rest.is_empty() {
            self.rest = self.parts.next()?;
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    fn long(&mut self) -> Option<usize> {
        let (low, high) = (u32::from(self.short()?), u32::from(self.short()?));
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
    fn text(&mut self) -> Option<String> {
        let length = usize::from(self.short()?);
        let kind = self.byte()?;
        let looks = if kind & 8 == 8 {
            usize::from(self.short()?) * 4
        } else {
            0
        };
        let sound = if kind & 4 == 4 { self.long()? } else { 0 };
        let text = self.letters(length, kind & 1 == 1)?;
        self.skip(looks)?;
        self.skip(sound)?;
        Some(text)
    }

    /// So many letters, of one byte or of two; each part that goes on with them says anew which.
    fn letters(&mut self, length: usize, mut is_wide: bool) -> Option<String> {
        let mut units = Vec::with_capacity(length);
        while units.len() < length {
            if self.rest.is_empty() {
                self.rest = self.parts.next()?;
                is_wide = self.byte()? & 1 == 1;
            }
            let low = self.byte()?;
            let high = if is_wide { self.byte()? } else { 0 };
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
            assert_eq!(packed(bits).to_bits(), f64::to_bits(value), "{bits:#x}");
        }
    }

    #[test]
    fn sectors_that_go_in_a_circle_or_out_of_bounds_are_no_chain() {
        const END: u32 = 0xffff_fffe;
        assert_eq!(chain(1, &[END, 2, 0]), Some(vec![1, 2, 0]));
        assert_eq!(chain(0, &[1, 0, END]), None);
        assert_eq!(chain(0, &[7, END]), None);
        assert_eq!(chain(5, &[END]), None);
    }

    #[test]
    fn a_text_goes_on_in_the_next_part_with_letters_of_another_width() {
        let parts = vec![&b"\x04\x00\x00ab"[..], b"\x01\x16\x04\x17\x04"];
        assert_eq!(Parts::new(parts).text().as_deref(), Some("abЖЗ"));
        assert_eq!(Parts::new(vec![b"\x04\x00\x00ab"]).text(), None);
    }

    #[test]
    fn a_formula_says_what_it_was_when_the_workbook_was_saved() {
        let formula = |value: [u8; 8]| [&[0, 0, 0, 0, 0, 0][..], &value].concat();
        let workbook = Book {
            stream: &[],
            sheets: Vec::new(),
            texts: Vec::new(),
            formats: Vec::new(),
            narrow: None,
        };
        for (value, cell) in [
            (5_f64.to_le_bytes(), Cell::Number(5.0, Shown::General)),
            ([1, 0, 1, 0, 0, 0, 0xff, 0xff], Cell::Odd("TRUE".into())),
            ([2, 0, 0x2a, 0, 0, 0, 0xff, 0xff], Cell::Odd("#N/A".into())),
            ([3, 0, 0, 0, 0, 0, 0xff, 0xff], Cell::Blank),
        ] {
            let mut rows = BTreeMap::new();
            workbook.cells(0x0006, &formula(value), &mut rows).unwrap();
            assert_eq!(rows[&0], [cell]);
        }
        assert!(formula_is_text(&formula([0, 0, 0, 0, 0, 0, 0xff, 0xff])));
    }

    #[test]
    fn formats_of_days_and_hours_are_told_from_those_of_numbers() {
        for (code, is_so) in [
            ("DD.MM.YYYY", true),
            ("[h]:mm", true),
            ("General", false),
            ("0000000", false),
            ("0\\ \"дней d\"", false),
            ("[Red]0", false),
        ] {
            assert_eq!(is_date(code), is_so, "{code}");
        }
    }
}

//! XLSX: a zip archive of XML. The texts that its cells share and its styles are in memory, the
//! cells are not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use calamine::{
    DataRef, Dimensions, Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError,
};

use super::super::table::{Cell, Shown};
use super::super::{Ending, FormatError, Input, Sink};
use super::merges::Merge;
use super::{Go, MAX_COLUMNS, TakeRow, Workbook, broken, protected, read_workbook};
use crate::sources::archive::{Archive, Member};
use crate::sources::row::Reading;

/// Most bytes that the whole archive may unpack to: some five million rows.
const MAX_UNPACKED: u64 = 1 << 30;

/// Most bytes that the texts its cells share may unpack to: they are kept, all of them.
const MAX_SHARED: u64 = 128 << 20;

/// Most bytes that the styles may unpack to: they are kept, and grow in it.
const MAX_STYLES: u64 = 8 << 20;

/// Part that names the sheets.
const MAIN_PART: &str = "xl/workbook.xml";

/// Most bytes of that part: all of it is in memory.
const MAX_MAIN_PART: u64 = 64 << 20;

/// Most files in the archive.
const MAX_FILES: usize = 10_000;

pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let WorkbookTraits { stale, has_merges } = be_whole(input)?;
    input.seek(SeekFrom::Start(0))?;
    let workbook = Xlsx::new(BufReader::new(input)).map_err(|error| refused(&error))?;
    read_workbook(
        &mut File {
            workbook,
            stale,
            has_merges,
        },
        reading,
        sink,
    )
}

/// An XLSX workbook.
struct File<R: Read + Seek> {
    workbook: Xlsx<R>,
    stale: Stale,
    /// Whether some sheet has merged cells: to look for them takes as long as to read a sheet.
    has_merges: bool,
}

/// Properties of a workbook found while it is unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct WorkbookTraits {
    stale: Stale,
    has_merges: bool,
}

/// Which stored zeros may be placeholders, because formulas are to be calculated when the workbook is
/// opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Stale {
    /// Those of formulas.
    formulas: bool,
    /// Those of other cells too: an array or a data table fills them, and does not say so in each.
    neighbours: bool,
}

/// Columns of formulas, by row.
type Formulas = BTreeMap<u32, Vec<u32>>;

/// Merged ranges beyond which a workbook is refused: they are kept in memory.
const MAX_MERGES: usize = 1_000_000;

/// Formulas of a sheet beyond which it is refused: their places are kept in memory.
const MAX_FORMULAS: usize = 2_000_000;

impl<R: Read + Seek> Workbook for File<R> {
    fn sheets(&self) -> Vec<(String, bool)> {
        let sheets = self.workbook.sheets_metadata().iter();
        sheets
            .filter(|sheet| sheet.typ == SheetType::WorkSheet)
            .map(|sheet| (sheet.name.clone(), sheet.visible != SheetVisible::Visible))
            .collect()
    }

    fn walk(&mut self, sheet: &str, take: TakeRow<'_>) -> Result<(), FormatError> {
        let formulas = match self.workbook.worksheet_cells_reader(sheet) {
            Ok(mut cells) => formulas(&mut cells)?,
            Err(XlsxError::NotAWorksheet(_)) => return Ok(()),
            Err(error) => return Err(refused(&error)),
        };
        let stale = self.stale;
        let mut cells = self
            .workbook
            .worksheet_cells_reader(sheet)
            .map_err(|error| refused(&error))?;
        read_sheet(&mut cells, (&formulas, stale), take)
    }

    fn merges(&mut self, sheet: &str) -> Result<Vec<Merge>, FormatError> {
        if !self.has_merges {
            return Ok(Vec::new());
        }
        let ranges = match self.workbook.merge_cells_by_sheet_name(sheet) {
            Ok(ranges) => ranges,
            Err(XlsxError::NotAWorksheet(_)) => return Ok(Vec::new()),
            Err(error) => return Err(refused(&error)),
        };
        let merge = |range: Dimensions| Merge {
            column: usize::try_from(range.start.1).unwrap_or(usize::MAX),
            first: u64::from(range.start.0) + 1,
            last: u64::from(range.end.0) + 1,
        };
        Ok(ranges.into_iter().map(merge).collect())
    }
}

/// Where the formulas of a sheet are.
fn formulas<R: Read + Seek>(cells: &mut XlsxCellReader<'_, R>) -> Result<Formulas, FormatError> {
    let mut formulas = Formulas::new();
    let mut count = 0;
    while let Some(cell) = cells.next_formula().map_err(|error| refused(&error))? {
        if cell.get_value().is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_FORMULAS {
            return Err(FormatError::Unfit(format!(
                "the sheet has over {MAX_FORMULAS} formulas: export it with values, or as CSV"
            )));
        }
        let (row, column) = cell.get_position();
        formulas.entry(row).or_default().push(column);
    }
    Ok(formulas)
}

/// Whether a workbook asks for its formulas to be calculated when it is opened, by its main part.
fn asks_to_calculate(part: &[u8]) -> bool {
    let text = String::from_utf8_lossy(part);
    let tag = text
        .split("calcPr")
        .nth(1)
        .and_then(|after| after.split('>').next());
    let is = |name: &str, values: [&str; 2]| {
        let value = tag.and_then(|tag| tag.split(name).nth(1));
        let value = value.map(|value| value.trim_start_matches(['=', '"', '\'', ' ']));
        value.is_some_and(|value| values.iter().any(|known| value.starts_with(known)))
    };
    is("fullCalcOnLoad", ["1", "true"])
        || is("forceFullCalc", ["1", "true"])
        || is("calcCompleted", ["0", "false"])
}

fn refused(error: &XlsxError) -> FormatError {
    match error {
        XlsxError::Password => protected(),
        other => broken(other.to_string()),
    }
}

/// Unpacks all of it once: the checksums in the archive tell that no byte has changed, and what it
/// unpacks to stays within bounds. The reader of cells checks neither.
fn be_whole(input: &mut dyn Input) -> Result<WorkbookTraits, FormatError> {
    let mut archive = Archive::open("the workbook", BufReader::new(input), MAX_UNPACKED)?;
    let members = archive.members()?;
    if members.len() > MAX_FILES {
        return Err(broken(format!("there are {} files in it", members.len())));
    }
    let mut main_part = Vec::new();
    let (mut has_arrays, mut merges) = (false, 0_usize);
    for member in &members {
        if member.name == MAIN_PART {
            check_length(member, MAX_MAIN_PART)?;
            archive.unpack(member, &mut main_part)?;
        } else {
            let head = be_file(&mut archive, member)?;
            has_arrays |= head.has_arrays;
            merges += head.merges;
            if merges > MAX_MERGES {
                return Err(FormatError::Unfit(format!(
                    "the workbook has over {MAX_MERGES} merged ranges: export it without them, or as \
                     CSV"
                )));
            }
        }
    }
    be_named(archive.into_inner().into_inner(), &members)?;
    let formulas = asks_to_calculate(&main_part);
    let stale = Stale {
        formulas,
        neighbours: formulas && has_arrays,
    };
    Ok(WorkbookTraits {
        stale,
        has_merges: merges > 0,
    })
}

fn check_length(member: &Member, most: u64) -> Result<(), FormatError> {
    if member.length <= most {
        return Ok(());
    }
    Err(FormatError::Unfit(format!(
        "{} in the workbook is {} bytes long, the limit is {most}: export the sheet as CSV",
        member.name, member.length
    )))
}

/// The names have no sum, but each stands in the archive twice. Styles under another name would
/// not be missed: dates would be numbers, and zeros before an SKU lost.
fn be_named(input: &mut dyn Input, members: &[Member]) -> Result<(), FormatError> {
    const BEFORE_NAME: u64 = 30;
    for Member {
        header_start,
        raw_name: name,
        ..
    } in members
    {
        input.seek(SeekFrom::Start(header_start.saturating_add(BEFORE_NAME)))?;
        let mut other = Vec::with_capacity(name.len());
        Read::take(&mut *input, name.len() as u64).read_to_end(&mut other)?;
        if other != *name {
            let name = String::from_utf8_lossy(name);
            return Err(broken(format!("{name} has another name in the directory")));
        }
    }
    Ok(())
}

/// Verifies one file: its checksum, its length and the number of texts it declares.
fn be_file<R: Read + Seek>(archive: &mut Archive<R>, member: &Member) -> Result<Head, FormatError> {
    let Member { name, length, .. } = member;
    let most = match name.to_ascii_lowercase() {
        texts if texts.ends_with("sharedstrings.xml") => MAX_SHARED,
        styles if styles.ends_with("styles.xml") => MAX_STYLES,
        _ => MAX_UNPACKED,
    };
    check_length(member, most)?;
    let is_sheet = name.to_ascii_lowercase().starts_with("xl/worksheets/");
    let mut head = Head {
        is_sheet,
        ..Head::default()
    };
    archive.unpack(member, &mut head)?;
    // As many places are made ready as it promises texts, before the first is read.
    match promised(&head.kept) {
        Some(texts) if texts > *length => Err(broken(format!(
            "{name} promises {texts} texts in {length} bytes"
        ))),
        _ => Ok(head),
    }
}

/// Writer that keeps the first 4 KiB, and searches a sheet for array formulas and merged cells.
#[derive(Default)]
struct Head {
    kept: Vec<u8>,
    is_sheet: bool,
    /// Some formula fills several cells.
    has_arrays: bool,
    /// How often merged cells are named; at most twice as often as there are.
    merges: usize,
    /// The end of what was written last.
    tail: Vec<u8>,
}

impl Head {
    /// Searches for the attributes of both, across the borders of pieces.
    fn look(&mut self, bytes: &[u8]) {
        const TYPES: [&[u8]; 4] = [
            b"t=\"array\"",
            b"t='array'",
            b"t=\"dataTable\"",
            b"t='dataTable'",
        ];
        const MERGE: &[u8] = b"mergeCell";
        const LONGEST: usize = 14;
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(bytes);
        for (at, _) in joined
            .iter()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_whitespace())
        {
            let (before, behind) = joined.split_at(at);
            self.merges += usize::from(before.ends_with(MERGE));
            let attribute = behind.get(1..).unwrap_or_default();
            self.has_arrays |= TYPES.iter().any(|kind| attribute.starts_with(kind));
        }
        let keep = joined.len().saturating_sub(LONGEST);
        self.tail = joined.split_off(keep);
    }
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        const MOST: usize = 4 * 1024;
        let room = MOST.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept
            .extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.is_sheet {
            self.look(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many texts a file says that it shares.
fn promised(head: &[u8]) -> Option<u64> {
    let head = String::from_utf8_lossy(head);
    let (_, after) = head.split_once("uniqueCount")?;
    let digits: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Gives the rows of one sheet, as long as they are wanted.
fn read_sheet<R: Read + Seek>(
    reader: &mut XlsxCellReader<'_, R>,
    (formulas, stale): (&Formulas, Stale),
    take: TakeRow<'_>,
) -> Result<(), FormatError> {
    let shown: Vec<_> = reader
        .styles()
        .iter()
        .map(|style| style.number_format.as_ref())
        .map(|format| format.map_or(Shown::General, |format| Shown::parse(&format.format_code)))
        .collect();
    let mut row = Vec::new();
    let mut line = 0;
    let mut ended = |line: u64, row: &mut Vec<Cell<'_>>| {
        mark_formulas(line, row, formulas, stale);
        take(line, row)
    };
    while let Some((cell, style)) = reader
        .next_cell_with_style_id()
        .map_err(|error| refused(&error))?
    {
        let (at, column) = cell.get_position();
        let here = u64::from(at) + 1;
        if here != line {
            if line > 0 && ended(line, &mut row)? == Go::Stop {
                return Ok(());
            }
            row.clear();
            line = here;
        }
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            return Err(broken(format!("row {line} has a column {column}")));
        }
        if row.len() <= column {
            row.resize(column + 1, Cell::Empty);
        }
        if let Some(place) = row.get_mut(column) {
            if *place != Cell::Empty {
                return Err(broken(format!(
                    "cell {} of row {line} is stated twice: save the workbook again in Excel or \
                     LibreOffice",
                    column + 1
                )));
            }
            *place = read_cell(
                cell.get_value(),
                shown.get(style).copied().unwrap_or_default(),
            );
        }
    }
    if line > 0 {
        ended(line, &mut row)?;
    }
    Ok(())
}

/// Marks the formulas of a row whose stored value is missing or a placeholder.
fn mark_formulas(line: u64, row: &mut Vec<Cell<'_>>, formulas: &Formulas, stale: Stale) {
    for cell in row.iter_mut().filter(|_| stale.neighbours) {
        if matches!(cell, Cell::Number(value, _) if *value == 0.0) {
            *cell = Cell::Uncalculated;
        }
    }
    let columns = u32::try_from(line - 1)
        .ok()
        .and_then(|row| formulas.get(&row));
    for column in columns.into_iter().flatten() {
        let column = usize::try_from(*column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            continue;
        }
        if row.len() <= column {
            row.resize(column + 1, Cell::Empty);
        }
        let Some(cell) = row.get_mut(column) else {
            continue;
        };
        match cell {
            Cell::Empty => *cell = Cell::NoValue,
            Cell::Number(value, _) if stale.formulas && *value == 0.0 => *cell = Cell::Uncalculated,
            Cell::Text(text) if stale.formulas && text.is_empty() => *cell = Cell::Uncalculated,
            Cell::Number(..)
            | Cell::Text(_)
            | Cell::Odd(_)
            | Cell::Uncalculated
            | Cell::NoValue
            | Cell::Blank
            | Cell::Merged => {}
        }
    }
}

fn read_cell<'a>(value: &DataRef<'a>, shown: Shown) -> Cell<'a> {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::SharedString(text) => Cell::Text(Cow::Borrowed(text)),
        DataRef::String(text) => Cell::Text(Cow::Owned(text.clone())),
        DataRef::Float(number) => Cell::Number(*number, shown),
        DataRef::Int(number) => Cell::Text(number.to_string().into()),
        DataRef::Bool(is_so) => Cell::Odd(if *is_so { "TRUE" } else { "FALSE" }.into()),
        DataRef::DateTime(_) => Cell::Odd("a date".into()),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            Cell::Odd(Cow::Owned(text.clone()))
        }
        DataRef::Error(error) => Cell::Odd(error.to_string().into()),
    }
}

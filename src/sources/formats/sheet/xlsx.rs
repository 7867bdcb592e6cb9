//! XLSX: a zip archive of XML. The texts that its cells share and its styles are in memory, the
//! cells are not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use calamine::{
    DataRef, Dimensions, Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError,
};

use super::super::table::{NumberFormat, TableCell};
use super::super::{FileSummary, FormatError, Input, Sink};
use super::merged_cells::MergedRange;
use super::{
    MAX_COLUMNS, RowFlow, SheetRowCallback, Workbook, broken, password_error, read_workbook,
};
use crate::sources::archive::{Archive, Member};
use crate::sources::row::ReadSettings;

/// Most bytes that the whole archive may unpack to: some five million rows.
const MAX_UNPACKED: u64 = 1 << 30;

/// Most bytes that the texts its cells share may unpack to: they are kept, all of them.
const MAX_SHARED_STRINGS: u64 = 128 << 20;

/// Most bytes that the styles may unpack to: they are kept, and grow in it.
const MAX_STYLES: u64 = 8 << 20;

/// Part that names the sheets.
const WORKBOOK_PART: &str = "xl/workbook.xml";

/// Most bytes of that part: all of it is in memory.
const MAX_WORKBOOK_PART: u64 = 64 << 20;

/// Most files in the archive.
const MAX_FILES: usize = 10_000;

pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let WorkbookTraits { stale, has_merges } = verify_archive(input)?;
    input.seek(SeekFrom::Start(0))?;
    let workbook = Xlsx::new(BufReader::new(input)).map_err(|error| convert_xlsx_error(&error))?;
    read_workbook(
        &mut XlsxFile {
            workbook,
            stale,
            has_merges,
        },
        reading,
        sink,
    )
}

/// An XLSX workbook.
struct XlsxFile<R: Read + Seek> {
    workbook: Xlsx<R>,
    stale: StaleValues,
    /// Whether some sheet has merged cells: to look for them takes as long as to read a sheet.
    has_merges: bool,
}

/// Properties of a workbook found while it is unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct WorkbookTraits {
    stale: StaleValues,
    has_merges: bool,
}

/// Which stored zeros may be placeholders, because formulas are to be calculated when the workbook is
/// opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct StaleValues {
    /// Those of formulas.
    formulas: bool,
    /// Those of other cells too: an array or a data table fills them, and does not say so in each.
    array_cells: bool,
}

/// Columns of formulas, by row.
type FormulaColumns = BTreeMap<u32, Vec<u32>>;

/// Merged ranges beyond which a workbook is refused: they are kept in memory.
const MAX_MERGES: usize = 1_000_000;

/// Formulas of a sheet beyond which it is refused: their places are kept in memory.
const MAX_FORMULAS: usize = 2_000_000;

impl<R: Read + Seek> Workbook for XlsxFile<R> {
    fn sheets(&self) -> Vec<(String, bool)> {
        let sheets = self.workbook.sheets_metadata().iter();
        sheets
            .filter(|sheet| sheet.typ == SheetType::WorkSheet)
            .map(|sheet| (sheet.name.clone(), sheet.visible != SheetVisible::Visible))
            .collect()
    }

    fn for_each_row(
        &mut self,
        sheet: &str,
        callback: SheetRowCallback<'_>,
    ) -> Result<(), FormatError> {
        let formulas = match self.workbook.worksheet_cells_reader(sheet) {
            Ok(mut cells) => find_formulas(&mut cells)?,
            Err(XlsxError::NotAWorksheet(_)) => return Ok(()),
            Err(error) => return Err(convert_xlsx_error(&error)),
        };
        let stale = self.stale;
        let mut cells = self
            .workbook
            .worksheet_cells_reader(sheet)
            .map_err(|error| convert_xlsx_error(&error))?;
        read_sheet(&mut cells, (&formulas, stale), callback)
    }

    fn merged_ranges(&mut self, sheet: &str) -> Result<Vec<MergedRange>, FormatError> {
        if !self.has_merges {
            return Ok(Vec::new());
        }
        let ranges = match self.workbook.merge_cells_by_sheet_name(sheet) {
            Ok(ranges) => ranges,
            Err(XlsxError::NotAWorksheet(_)) => return Ok(Vec::new()),
            Err(error) => return Err(convert_xlsx_error(&error)),
        };
        let merge = |range: Dimensions| MergedRange {
            column: usize::try_from(range.start.1).unwrap_or(usize::MAX),
            first_row: u64::from(range.start.0) + 1,
            last_row: u64::from(range.end.0) + 1,
        };
        Ok(ranges.into_iter().map(merge).collect())
    }
}

/// Where the formulas of a sheet are.
fn find_formulas<R: Read + Seek>(
    cells: &mut XlsxCellReader<'_, R>,
) -> Result<FormulaColumns, FormatError> {
    let mut formulas = FormulaColumns::new();
    let mut count = 0;
    while let Some(cell) = cells
        .next_formula()
        .map_err(|error| convert_xlsx_error(&error))?
    {
        if cell.get_value().is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_FORMULAS {
            return Err(FormatError::Unusable(format!(
                "the sheet has over {MAX_FORMULAS} formulas: export it with values, or as CSV"
            )));
        }
        let (row, column) = cell.get_position();
        formulas.entry(row).or_default().push(column);
    }
    Ok(formulas)
}

/// Whether a workbook asks for its formulas to be calculated when it is opened, by its main part.
fn requests_recalculation(part: &[u8]) -> bool {
    let text = String::from_utf8_lossy(part);
    let tag = text
        .split("calcPr")
        .nth(1)
        .and_then(|after| after.split('>').next());
    let has_attribute = |name: &str, values: [&str; 2]| {
        let value = tag.and_then(|tag| tag.split(name).nth(1));
        let value = value.map(|value| value.trim_start_matches(['=', '"', '\'', ' ']));
        value.is_some_and(|value| values.iter().any(|known| value.starts_with(known)))
    };
    has_attribute("fullCalcOnLoad", ["1", "true"])
        || has_attribute("forceFullCalc", ["1", "true"])
        || has_attribute("calcCompleted", ["0", "false"])
}

fn convert_xlsx_error(error: &XlsxError) -> FormatError {
    match error {
        XlsxError::Password => password_error(),
        other => broken(other.to_string()),
    }
}

/// Unpacks all of it once: the checksums in the archive tell that no byte has changed, and what it
/// unpacks to stays within bounds. The reader of cells checks neither.
fn verify_archive(input: &mut dyn Input) -> Result<WorkbookTraits, FormatError> {
    let mut archive = Archive::open("the workbook", BufReader::new(input), MAX_UNPACKED)?;
    let members = archive.members()?;
    if members.len() > MAX_FILES {
        return Err(broken(format!("there are {} files in it", members.len())));
    }
    let mut main_part = Vec::new();
    let (mut has_arrays, mut merge_count) = (false, 0_usize);
    for member in &members {
        if member.name == WORKBOOK_PART {
            check_length(member, MAX_WORKBOOK_PART)?;
            archive.unpack(member, &mut main_part)?;
        } else {
            let scanner = verify_entry(&mut archive, member)?;
            has_arrays |= scanner.has_arrays;
            merge_count += scanner.merge_count;
            if merge_count > MAX_MERGES {
                return Err(FormatError::Unusable(format!(
                    "the workbook has over {MAX_MERGES} merged ranges: export it without them, or as \
                     CSV"
                )));
            }
        }
    }
    verify_names(archive.into_inner().into_inner(), &members)?;
    let formulas = requests_recalculation(&main_part);
    let stale = StaleValues {
        formulas,
        array_cells: formulas && has_arrays,
    };
    Ok(WorkbookTraits {
        stale,
        has_merges: merge_count > 0,
    })
}

fn check_length(member: &Member, limit: u64) -> Result<(), FormatError> {
    if member.length <= limit {
        return Ok(());
    }
    Err(FormatError::Unusable(format!(
        "{} in the workbook is {} bytes long, the limit is {limit}: export the sheet as CSV",
        member.name, member.length
    )))
}

/// The names have no sum, but each stands in the archive twice. Styles under another name would
/// not be missed: dates would be numbers, and zeros before an SKU lost.
fn verify_names(input: &mut dyn Input, members: &[Member]) -> Result<(), FormatError> {
    const NAME_OFFSET: u64 = 30;
    for Member {
        header_start,
        raw_name: name,
        ..
    } in members
    {
        input.seek(SeekFrom::Start(header_start.saturating_add(NAME_OFFSET)))?;
        let mut local_name = Vec::with_capacity(name.len());
        Read::take(&mut *input, name.len() as u64).read_to_end(&mut local_name)?;
        if local_name != *name {
            let name = String::from_utf8_lossy(name);
            return Err(broken(format!("{name} has another name in the directory")));
        }
    }
    Ok(())
}

/// Verifies one file: its checksum, its length and the number of texts it declares.
fn verify_entry<R: Read + Seek>(
    archive: &mut Archive<R>,
    member: &Member,
) -> Result<XlsxPartScanner, FormatError> {
    let Member { name, length, .. } = member;
    let limit = match name.to_ascii_lowercase() {
        texts if texts.ends_with("sharedstrings.xml") => MAX_SHARED_STRINGS,
        styles if styles.ends_with("styles.xml") => MAX_STYLES,
        _ => MAX_UNPACKED,
    };
    check_length(member, limit)?;
    let is_sheet = name.to_ascii_lowercase().starts_with("xl/worksheets/");
    let mut scanner = XlsxPartScanner {
        is_sheet,
        ..XlsxPartScanner::default()
    };
    archive.unpack(member, &mut scanner)?;
    // As many places are made ready as it promises texts, before the first is read.
    match declared_count(&scanner.head) {
        Some(texts) if texts > *length => Err(broken(format!(
            "{name} promises {texts} texts in {length} bytes"
        ))),
        _ => Ok(scanner),
    }
}

/// Writer that keeps the first 4 KiB, and searches a sheet for array formulas and merged cells.
#[derive(Default)]
struct XlsxPartScanner {
    head: Vec<u8>,
    is_sheet: bool,
    /// Some formula fills several cells.
    has_arrays: bool,
    /// How often merged cells are named; at most twice as often as there are.
    merge_count: usize,
    /// The end of what was written last.
    tail: Vec<u8>,
}

impl XlsxPartScanner {
    /// Searches for the attributes of both, across the borders of pieces.
    fn scan(&mut self, bytes: &[u8]) {
        const TYPES: [&[u8]; 4] = [
            b"t=\"array\"",
            b"t='array'",
            b"t=\"dataTable\"",
            b"t='dataTable'",
        ];
        const MERGE: &[u8] = b"mergeCell";
        const MAX_OVERLAP: usize = 14;
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(bytes);
        for (at, _) in joined
            .iter()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_whitespace())
        {
            let (before, after) = joined.split_at(at);
            self.merge_count += usize::from(before.ends_with(MERGE));
            let attribute = after.get(1..).unwrap_or_default();
            self.has_arrays |= TYPES.iter().any(|kind| attribute.starts_with(kind));
        }
        let keep = joined.len().saturating_sub(MAX_OVERLAP);
        self.tail = joined.split_off(keep);
    }
}

impl Write for XlsxPartScanner {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        const HEAD_LENGTH: usize = 4 * 1024;
        let length = HEAD_LENGTH.saturating_sub(self.head.len()).min(bytes.len());
        self.head
            .extend_from_slice(bytes.get(..length).unwrap_or_default());
        if self.is_sheet {
            self.scan(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How many texts a file says that it shares.
fn declared_count(head: &[u8]) -> Option<u64> {
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
    (formulas, stale): (&FormulaColumns, StaleValues),
    callback: SheetRowCallback<'_>,
) -> Result<(), FormatError> {
    let number_formats: Vec<_> = reader
        .styles()
        .iter()
        .map(|style| style.number_format.as_ref())
        .map(|format| {
            format.map_or(NumberFormat::General, |format| {
                NumberFormat::parse(&format.format_code)
            })
        })
        .collect();
    let mut row = Vec::new();
    let mut line = 0;
    let mut finish_row = |line: u64, row: &mut Vec<TableCell<'_>>| {
        mark_formulas(line, row, formulas, stale);
        callback(line, row)
    };
    while let Some((cell, style)) = reader
        .next_cell_with_style_id()
        .map_err(|error| convert_xlsx_error(&error))?
    {
        let (row_index, column) = cell.get_position();
        let cell_line = u64::from(row_index) + 1;
        if cell_line != line {
            if line > 0 && finish_row(line, &mut row)? == RowFlow::Stop {
                return Ok(());
            }
            row.clear();
            line = cell_line;
        }
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            return Err(broken(format!("row {line} has a column {column}")));
        }
        if row.len() <= column {
            row.resize(column + 1, TableCell::Empty);
        }
        if let Some(slot) = row.get_mut(column) {
            if *slot != TableCell::Empty {
                return Err(broken(format!(
                    "cell {} of row {line} is stated twice: save the workbook again in Excel or \
                     LibreOffice",
                    column + 1
                )));
            }
            *slot = table_cell(
                cell.get_value(),
                number_formats.get(style).copied().unwrap_or_default(),
            );
        }
    }
    if line > 0 {
        finish_row(line, &mut row)?;
    }
    Ok(())
}

/// Marks the formulas of a row whose stored value is missing or a placeholder.
fn mark_formulas(
    line: u64,
    row: &mut Vec<TableCell<'_>>,
    formulas: &FormulaColumns,
    stale: StaleValues,
) {
    for cell in row.iter_mut().filter(|_| stale.array_cells) {
        if matches!(cell, TableCell::Number(value, _) if *value == 0.0) {
            *cell = TableCell::UncalculatedFormula;
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
            row.resize(column + 1, TableCell::Empty);
        }
        let Some(cell) = row.get_mut(column) else {
            continue;
        };
        match cell {
            TableCell::Empty => *cell = TableCell::FormulaWithoutValue,
            TableCell::Number(value, _) if stale.formulas && *value == 0.0 => {
                *cell = TableCell::UncalculatedFormula
            }
            TableCell::Text(text) if stale.formulas && text.is_empty() => {
                *cell = TableCell::UncalculatedFormula
            }
            TableCell::Number(..)
            | TableCell::Text(_)
            | TableCell::Other(_)
            | TableCell::UncalculatedFormula
            | TableCell::FormulaWithoutValue
            | TableCell::EmptyFormula
            | TableCell::Merged => {}
        }
    }
}

fn table_cell<'a>(value: &DataRef<'a>, number_format: NumberFormat) -> TableCell<'a> {
    match value {
        DataRef::Empty => TableCell::Empty,
        DataRef::SharedString(text) => TableCell::Text(Cow::Borrowed(text)),
        DataRef::String(text) => TableCell::Text(Cow::Owned(text.clone())),
        DataRef::Float(number) => TableCell::Number(*number, number_format),
        DataRef::Int(number) => TableCell::Text(number.to_string().into()),
        DataRef::Bool(flag) => TableCell::Other(if *flag { "TRUE" } else { "FALSE" }.into()),
        DataRef::DateTime(_) => TableCell::Other("a date".into()),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            TableCell::Other(Cow::Owned(text.clone()))
        }
        DataRef::Error(error) => TableCell::Other(error.to_string().into()),
    }
}

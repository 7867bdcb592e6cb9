//! XLSX workbooks: zip archives of XML. Shared strings and styles are in memory, cells are not.

mod verify;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufReader, Read, Seek};
use std::ops::ControlFlow::Break;

use calamine::{
    DataRef, Dimensions, Reader as _, SheetType, SheetVisible, Xlsx, XlsxCellReader, XlsxError,
};

use self::verify::{WorkbookTraits, verify_archive};
use super::merged_cells::MergedRange;
use super::{
    MAX_COLUMNS, SheetRowCallback, Workbook, broken, cell_mut, password_error, read_workbook,
};
use crate::formats::table::{NumberFormat, TableCell};
use crate::formats::{FileSummary, FormatError, Input, Sink};
use crate::row::ReadSettings;

pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let traits = verify_archive(input)?;
    input.rewind()?;
    let workbook = Xlsx::new(BufReader::new(input))?;
    read_workbook(&mut XlsxFile { workbook, traits }, reading, sink)
}

/// An XLSX workbook.
struct XlsxFile<R: Read + Seek> {
    workbook: Xlsx<R>,
    traits: WorkbookTraits,
}

impl From<XlsxError> for FormatError {
    fn from(error: XlsxError) -> Self {
        match error {
            XlsxError::Password => password_error(),
            other => broken(other.to_string()),
        }
    }
}

/// Columns with formulas, by row; both from 0.
type FormulaColumns = BTreeMap<u32, Vec<u32>>;

/// Most formulas of a sheet. Their positions are kept in memory.
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
            Err(error) => return Err(error.into()),
        };
        let mut cells = self.workbook.worksheet_cells_reader(sheet)?;
        read_sheet(&mut cells, (&formulas, self.traits), callback)
    }

    fn merged_ranges(&mut self, sheet: &str) -> Result<Vec<MergedRange>, FormatError> {
        if !self.traits.has_merges {
            return Ok(Vec::new());
        }
        let ranges = match self.workbook.merge_cells_by_sheet_name(sheet) {
            Ok(ranges) => ranges,
            Err(XlsxError::NotAWorksheet(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let merge = |range: Dimensions| MergedRange {
            column: usize::try_from(range.start.1).unwrap_or(usize::MAX),
            first_row: u64::from(range.start.0) + 1,
            last_row: u64::from(range.end.0) + 1,
        };
        Ok(ranges.into_iter().map(merge).collect())
    }
}

/// Returns the positions of the formulas of a sheet.
fn find_formulas<R: Read + Seek>(
    cells: &mut XlsxCellReader<'_, R>,
) -> Result<FormulaColumns, FormatError> {
    let mut formulas = FormulaColumns::new();
    let mut count = 0;
    while let Some(cell) = cells.next_formula()? {
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

/// Passes the rows of a sheet to the callback until it stops.
fn read_sheet<R: Read + Seek>(
    reader: &mut XlsxCellReader<'_, R>,
    (formulas, traits): (&FormulaColumns, WorkbookTraits),
    callback: SheetRowCallback<'_>,
) -> Result<(), FormatError> {
    let styles = reader.styles().iter();
    let number_formats: Vec<_> = styles
        .map(|style| match &style.number_format {
            Some(format) => NumberFormat::parse(&format.format_code),
            None => NumberFormat::General,
        })
        .collect();
    let mut row = Vec::new();
    let mut line = 0;
    let mut finish_row = |line: u64, row: &mut Vec<TableCell<'_>>| {
        mark_formulas(line, row, formulas, traits);
        callback(line, row)
    };
    while let Some((cell, style)) = reader.next_cell_with_style_id()? {
        let (row_index, column) = cell.get_position();
        let cell_line = u64::from(row_index) + 1;
        if cell_line != line {
            if line > 0 && finish_row(line, &mut row)? == Break(()) {
                return Ok(());
            }
            row.clear();
            line = cell_line;
        }
        let column = usize::try_from(column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            return Err(broken(format!(
                "row {line} has column {}, the limit is {MAX_COLUMNS}",
                column.saturating_add(1)
            )));
        }
        let slot = cell_mut(&mut row, column);
        if *slot != TableCell::Empty {
            return Err(broken(format!(
                "cell {} of row {line} is stated twice: save the workbook again in Excel or \
                 LibreOffice",
                column + 1
            )));
        }
        let number_format = number_formats.get(style).copied().unwrap_or_default();
        *slot = table_cell(cell.get_value(), number_format);
    }
    if line == 0 {
        return Ok(());
    }
    finish_row(line, &mut row).map(|_| ())
}

/// Marks formulas whose stored value is missing or a placeholder.
fn mark_formulas(
    line: u64,
    row: &mut Vec<TableCell<'_>>,
    formulas: &FormulaColumns,
    traits: WorkbookTraits,
) {
    let is_zero =
        |cell: &TableCell<'_>| matches!(cell, TableCell::Number(value, _) if *value == 0.0);
    for cell in row.iter_mut().filter(|_| traits.has_stale_array_cells) {
        if is_zero(cell) {
            *cell = TableCell::UncalculatedFormula;
        }
    }
    let row_index = u32::try_from(line - 1).ok();
    let columns = row_index.and_then(|row| formulas.get(&row));
    for column in columns.into_iter().flatten() {
        let column = usize::try_from(*column).unwrap_or(usize::MAX);
        if column >= MAX_COLUMNS {
            continue;
        }
        let cell = cell_mut(row, column);
        let is_empty_text = matches!(cell, TableCell::Text(text) if text.is_empty());
        if *cell == TableCell::Empty {
            *cell = TableCell::FormulaWithoutValue;
        } else if traits.has_stale_formulas && (is_zero(cell) || is_empty_text) {
            *cell = TableCell::UncalculatedFormula;
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

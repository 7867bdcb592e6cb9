//! Reader of workbooks: XLSX row by row, XLS from memory. This module chooses the sheet.
//!
//! The chosen sheet has the columns and rows below them, because the Market's own workbook begins
//! with a sheet of instructions. If several visible sheets have them, the setting `sheet` must name
//! one, or `*` for all. Hidden sheets are read only if no visible sheet has the columns.
//!
//! Merged cells are resolved in [`merged_cells`].
//!
//! A formula has the value that was stored when the workbook was saved. A program that does not
//! calculate stores no value, or 0 and a request to calculate on opening: neither is a quantity.
//! Any other stored value with such a request was written on purpose and is used.

mod merged_cells;
mod xls;
mod xlsx;

use std::io::{Read, SeekFrom};

use self::merged_cells::{MergedCells, MergedRange};
use super::super::quantity::trim_blanks;
use super::super::row::ReadSettings;
use super::table::{HeaderSearch, MAX_HEADER_ROWS, StockTable, TableCell, used_width};
use super::{FileSummary, FormatError, Input, Sink};

/// Most columns of an XLSX sheet.
const MAX_COLUMNS: usize = 16_384;

/// Reads an XLSX or XLS workbook. Workbooks do not declare a scope.
///
/// A truncated or damaged workbook is detected before its first row is emitted.
///
/// # Errors
/// The file is not a workbook, is broken, or has no sheet with the columns; or the sink cancels.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let mut magic = Vec::with_capacity(4);
    input.seek(SeekFrom::Start(0))?;
    Read::take(&mut *input, 4).read_to_end(&mut magic)?;
    match magic.as_slice() {
        b"PK\x03\x04" => xlsx::read(input, reading, sink),
        b"\xd0\xcf\x11\xe0" => xls::read(input, reading, sink),
        _ => Err(broken("it is neither an XLSX nor an XLS workbook")),
    }
}

fn broken(reason: impl Into<String>) -> FormatError {
    FormatError::Broken {
        place: "the workbook".to_owned(),
        reason: reason.into(),
    }
}

fn password_error() -> FormatError {
    broken("it is protected by a password: save it without a password")
}

/// Value of the setting `sheet` for all visible sheets.
const ALL_SHEETS: &str = "*";

/// Callback that receives a row and its number, from 1.
type SheetRowCallback<'c> =
    &'c mut dyn FnMut(u64, &[TableCell<'_>]) -> Result<RowFlow, FormatError>;

/// A workbook whose sheets can be read several times.
trait Workbook {
    /// Returns the names of the sheets with cells; the flag is true for a hidden sheet.
    fn sheets(&self) -> Vec<(String, bool)>;

    /// Passes the rows of a sheet to the callback, in order, until it stops.
    fn for_each_row(
        &mut self,
        sheet: &str,
        callback: SheetRowCallback<'_>,
    ) -> Result<(), FormatError>;

    /// Returns the merged ranges of a sheet.
    fn merged_ranges(&mut self, sheet: &str) -> Result<Vec<MergedRange>, FormatError>;
}

/// Chooses the sheets and reads them.
fn read_workbook(
    workbook: &mut dyn Workbook,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let sheets = workbook.sheets();
    let list_names = |names: Vec<&String>| -> String {
        names
            .iter()
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let is_wanted = |name: &str| match reading.sheet.as_deref() {
        None | Some(ALL_SHEETS) => true,
        Some(wanted) => trim_blanks(name).to_lowercase() == trim_blanks(wanted).to_lowercase(),
    };
    let has_sheet_name = reading
        .sheet
        .as_deref()
        .is_some_and(|name| name != ALL_SHEETS);
    if let Some(wanted) = &reading.sheet
        && !sheets.iter().any(|(name, _)| is_wanted(name))
    {
        return Err(FormatError::Unusable(format!(
            "the workbook does not have the sheet '{wanted}' of the setting sheet; it has {}",
            list_names(sheets.iter().map(|(name, _)| name).collect())
        )));
    }
    let mut unmatched = Vec::new();
    let mut found = Vec::new();
    for (name, is_hidden) in sheets.iter().filter(|(name, _)| is_wanted(name)) {
        let mut scan = SheetScan::new(reading);
        workbook.for_each_row(name, &mut |line, cells| scan.learn(line, cells))?;
        match scan.into_sheet_table() {
            Ok(table) => found.push((name, *is_hidden && !has_sheet_name, table)),
            Err(error) => unmatched.push((name.clone(), error)),
        }
    }
    let has_rows = |sheet: &&MatchedSheet<'_, '_>| sheet.2.row_count > 0;
    let visible: Vec<_> = found
        .iter()
        .filter(|(_, is_hidden, _)| !is_hidden)
        .collect();
    let hidden: Vec<_> = found
        .iter()
        .filter(|(_, is_hidden, _)| *is_hidden)
        .collect();
    let candidates = if visible.is_empty() {
        &hidden
    } else {
        &visible
    };
    let non_empty: Vec<_> = candidates.iter().copied().filter(has_rows).collect();
    let chosen: Vec<_> = match (non_empty.as_slice(), candidates.as_slice()) {
        ([], []) => return Err(no_sheet_error(unmatched)),
        // All candidates have only a header, so the choice does not matter.
        ([], [first, ..]) => vec![*first],
        ([_], _) => non_empty,
        (_, _) if reading.sheet.as_deref() == Some(ALL_SHEETS) => non_empty,
        (several, _) => {
            return Err(FormatError::Unusable(format!(
                "several sheets have the columns, {}: set sheet to the name of the right one, or to \
                 \"*\" for all of them",
                list_names(several.iter().map(|(name, ..)| *name).collect())
            )));
        }
    };
    if reading
        .sheet
        .as_deref()
        .is_none_or(|name| name == ALL_SHEETS)
    {
        for (name, _) in sheets.iter().filter(|(name, is_hidden)| {
            !is_hidden && unmatched.iter().any(|(unmatched, _)| unmatched == name)
        }) {
            check_continuation(workbook, name, &chosen)?;
        }
    }
    let mut summary = read_sheets(workbook, &chosen, sink)?;
    let read: Vec<_> = chosen.iter().map(|(name, ..)| *name).collect();
    summary.shape.set(
        "sheet",
        read.iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    );
    summary.shape.set(
        "sheets",
        list_names(sheets.iter().map(|(name, _)| name).collect()),
    );
    let skipped: Vec<_> = hidden
        .iter()
        .map(|(name, ..)| *name)
        .filter(|it| !read.contains(it))
        .collect();
    if !skipped.is_empty() {
        summary.notices.push(format!(
            "hidden sheets with the columns are skipped: {}; set sheet to read one",
            list_names(skipped)
        ));
    }
    Ok(summary)
}

/// A sheet with the columns: its name, a flag that is true if it is hidden, and its table.
type MatchedSheet<'s, 'r> = (&'s String, bool, SheetTable<'r>);

/// Reads the rows of the chosen sheets.
fn read_sheets(
    workbook: &mut dyn Workbook,
    chosen: &[&MatchedSheet<'_, '_>],
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    if chosen
        .iter()
        .any(|(_, _, found)| found.table.has_padded_skus())
    {
        chosen
            .iter()
            .for_each(|(_, _, found)| found.table.expect_padded_skus());
    }
    let mut summary = FileSummary::default();
    for (
        name,
        _,
        SheetTable {
            table, header_row, ..
        },
    ) in chosen
    {
        let sheet_name = (chosen.len() > 1).then_some(name.as_str());
        let ranges_below = workbook
            .merged_ranges(name)?
            .into_iter()
            .filter(|merge| merge.first_row > *header_row);
        let mut merges = MergedCells::new(ranges_below, table.columns());
        if merges.requires_learning() {
            workbook.for_each_row(name, &mut |line, cells| {
                merges.learn(line, cells);
                Ok(RowFlow::Continue)
            })?;
        }
        workbook.for_each_row(name, &mut |line, cells| {
            if line > *header_row {
                let cells = merges.resolve(line, cells);
                let row_description = || describe_row(sheet_name, &cells);
                table.emit_row(line, &cells, &row_description, &mut *sink)?;
            }
            Ok(RowFlow::Continue)
        })?;
        table.describe(&mut summary.shape);
        summary.shape.set("header", format!("row {header_row}"));
        summary.notices.extend(table.notices());
    }
    Ok(summary)
}

/// Rejects a sheet without a header whose first rows have a SKU and a number in the columns of a
/// chosen sheet: some programs continue a full sheet on the next one.
fn check_continuation(
    workbook: &mut dyn Workbook,
    name: &str,
    chosen: &[&MatchedSheet<'_, '_>],
) -> Result<(), FormatError> {
    let mut rows = 0;
    let mut fitting_rows = vec![0; chosen.len()];
    workbook.for_each_row(name, &mut |_, cells| {
        if used_width(cells) == 0 {
            return Ok(RowFlow::Continue);
        }
        rows += 1;
        for (count, (_, _, found)) in fitting_rows.iter_mut().zip(chosen) {
            *count += u64::from(found.table.fits_row(cells));
        }
        Ok(if rows == MAX_HEADER_ROWS {
            RowFlow::Stop
        } else {
            RowFlow::Continue
        })
    })?;
    // A single row may be a note with a number.
    let continues = |count: u64| count > 1 && 2 * count >= rows;
    let continued = chosen
        .iter()
        .zip(fitting_rows)
        .find(|(_, count)| continues(*count));
    continued.map_or(Ok(()), |((other, ..), _)| {
        Err(FormatError::Unusable(format!(
            "sheet '{name}' has no header, and its first rows look like those of '{other}': add the \
             header, or set sheet to the name of the right sheet"
        )))
    })
}

/// Returns the error of the only sheet, or an error that lists those of all sheets.
fn no_sheet_error(mut unmatched: Vec<(String, FormatError)>) -> FormatError {
    match unmatched.pop() {
        None => FormatError::Unusable("the workbook has no sheet".to_owned()),
        Some((_, only)) if unmatched.is_empty() => only,
        Some(last) => {
            unmatched.push(last);
            let all: Vec<_> = unmatched
                .iter()
                .map(|(name, error)| format!("sheet '{name}': {error}"))
                .collect();
            FormatError::Unusable(all.join("; "))
        }
    }
}

/// Decision of a callback: read more rows, or stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RowFlow {
    Continue,
    Stop,
}

/// Table of a sheet with the columns.
struct SheetTable<'r> {
    table: StockTable<'r>,
    /// Row number of the header, from 1.
    header_row: u64,
    /// Number of rows below the header that are not blank.
    row_count: u64,
}

/// First pass over a sheet: finds its header and learns from its columns.
struct SheetScan<'r> {
    search: HeaderSearch<'r>,
    found: Option<SheetTable<'r>>,
    /// Number of rows searched for the header.
    rows_searched: u64,
}

impl<'r> SheetScan<'r> {
    fn new(reading: &'r ReadSettings) -> Self {
        Self {
            search: HeaderSearch::new(reading),
            found: None,
            rows_searched: 0,
        }
    }

    fn learn(&mut self, line: u64, cells: &[TableCell<'_>]) -> Result<RowFlow, FormatError> {
        if let Some(found) = &mut self.found {
            found.row_count += u64::from(used_width(cells) > 0);
            found.table.learn(line, cells);
            return Ok(RowFlow::Continue);
        }
        if self.rows_searched == MAX_HEADER_ROWS {
            return Ok(RowFlow::Stop);
        }
        self.rows_searched += 1;
        let table = self.search.try_header(cells)?;
        self.found = table.map(|table| SheetTable {
            table,
            header_row: line,
            row_count: 0,
        });
        Ok(RowFlow::Continue)
    }

    fn into_sheet_table(self) -> Result<SheetTable<'r>, FormatError> {
        let Self { search, found, .. } = self;
        let found = found.ok_or_else(|| search.no_header_error())?;
        found.table.check()?;
        Ok(found)
    }
}

/// Text of a row, with the name of its sheet if several sheets are read.
fn describe_row(sheet: Option<&str>, cells: &[TableCell<'_>]) -> String {
    let row = row_text(cells);
    match sheet {
        None => row,
        Some(sheet) => format!("{sheet}: {row}"),
    }
}

fn row_text(cells: &[TableCell<'_>]) -> String {
    let cells: Vec<_> = cells
        .iter()
        .take(used_width(cells))
        .map(TableCell::text)
        .collect();
    cells.join(" | ")
}

#[cfg(test)]
mod tests;

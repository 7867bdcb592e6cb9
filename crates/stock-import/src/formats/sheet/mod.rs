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

use std::io::Read;
use std::ops::ControlFlow::{self, Break, Continue};

use self::merged_cells::{MergedCells, MergedRange};
use super::super::quantity::trim_blanks;
use super::super::row::ReadSettings;
use super::table::{HeaderSearch, MAX_HEADER_ROWS, StockTable, TableCell, used_width};
use super::{FileSummary, FormatError, Input, Sink, quote_names};

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
    input.rewind()?;
    Read::take(&mut *input, 4).read_to_end(&mut magic)?;
    match magic.as_slice() {
        b"PK\x03\x04" => xlsx::read(input, reading, sink),
        b"\xd0\xcf\x11\xe0" => xls::read(input, reading, sink),
        _ => Err(broken("it is neither an XLSX nor an XLS workbook")),
    }
}

fn broken(reason: impl Into<String>) -> FormatError {
    FormatError::broken("the workbook", reason)
}

fn password_error() -> FormatError {
    broken("it is protected by a password: save it without a password")
}

/// Value of the setting `sheet` for all visible sheets.
const ALL_SHEETS: &str = "*";

/// Callback that receives a row and its number, from 1.
type SheetRowCallback<'c> =
    &'c mut dyn FnMut(u64, &[TableCell<'_>]) -> Result<ControlFlow<()>, FormatError>;

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
    let all_names = quote_names(sheets.iter().map(|(name, _)| name), ", ");
    let named = reading.sheet.as_deref().filter(|name| *name != ALL_SHEETS);
    let fold = |name: &str| trim_blanks(name).to_lowercase();
    let is_wanted = |name: &str| named.is_none_or(|wanted| fold(name) == fold(wanted));
    if let Some(wanted) = &reading.sheet
        && !sheets.iter().any(|(name, _)| is_wanted(name))
    {
        return Err(FormatError::Unusable(format!(
            "the workbook does not have the sheet '{wanted}' of the setting sheet; it has \
             {all_names}"
        )));
    }
    let (mut unmatched, mut found) = (Vec::new(), Vec::new());
    for (name, is_hidden) in sheets.iter().filter(|(name, _)| is_wanted(name)) {
        let mut scan = SheetScan::new(reading);
        workbook.for_each_row(name, &mut |line, cells| scan.learn(line, cells))?;
        match scan.into_sheet_table(name) {
            Ok(table) => found.push((*is_hidden && named.is_none(), table)),
            Err(error) => unmatched.push((name.as_str(), *is_hidden, error)),
        }
    }
    let of_kind = |wanted: bool| {
        let sheets = found
            .iter()
            .filter(move |(is_hidden, _)| *is_hidden == wanted);
        sheets.map(|(_, table)| table).collect::<Vec<_>>()
    };
    let (visible, hidden) = (of_kind(false), of_kind(true));
    let candidates = if visible.is_empty() {
        &hidden
    } else {
        &visible
    };
    let non_empty = candidates.iter().filter(|sheet| sheet.row_count > 0);
    let mut chosen: Vec<_> = non_empty.copied().collect();
    if chosen.is_empty() {
        // All candidates have only a header, so the choice does not matter.
        chosen.extend(candidates.first());
    }
    if chosen.is_empty() {
        return Err(no_sheet_error(unmatched));
    }
    if chosen.len() > 1 && reading.sheet.as_deref() != Some(ALL_SHEETS) {
        return Err(FormatError::Unusable(format!(
            "several sheets have the columns, {}: set sheet to the name of the right one, or to \
             \"*\" for all of them",
            quote_names(chosen.iter().map(|sheet| sheet.name), ", ")
        )));
    }
    if named.is_none() {
        for (name, ..) in unmatched.iter().filter(|(_, is_hidden, _)| !is_hidden) {
            check_continuation(workbook, name, &chosen)?;
        }
    }
    let mut summary = read_sheets(workbook, &chosen, sink)?;
    let read: Vec<_> = chosen.iter().map(|sheet| sheet.name).collect();
    summary.shape.set("sheet", read.join(", "));
    summary.shape.set("sheets", all_names);
    let skipped = hidden.iter().map(|sheet| sheet.name);
    let skipped = quote_names(skipped.filter(|name| !read.contains(name)), ", ");
    if !skipped.is_empty() {
        summary.notices.push(format!(
            "hidden sheets with the columns are skipped: {skipped}; set sheet to read one"
        ));
    }
    Ok(summary)
}

/// Reads the rows of the chosen sheets.
fn read_sheets(
    workbook: &mut dyn Workbook,
    chosen: &[&SheetTable<'_>],
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    if chosen.iter().any(|sheet| sheet.table.has_padded_skus()) {
        chosen
            .iter()
            .for_each(|sheet| sheet.table.expect_padded_skus());
    }
    let mut summary = FileSummary::default();
    for sheet in chosen {
        let (name, table, header_row) = (sheet.name, &sheet.table, sheet.header_row);
        let mut ranges_below = workbook.merged_ranges(name)?;
        ranges_below.retain(|merge| merge.first_row > header_row);
        let mut merges = MergedCells::new(ranges_below, table.columns());
        if merges.requires_learning() {
            workbook.for_each_row(name, &mut |line, cells| {
                merges.learn(line, cells);
                Ok(Continue(()))
            })?;
        }
        workbook.for_each_row(name, &mut |line, cells| {
            if line > header_row {
                let cells = merges.resolve(line, cells);
                let text = || match chosen {
                    [_] => row_text(&cells),
                    _ => format!("{name}: {}", row_text(&cells)),
                };
                table.emit_row(line, &cells, &text, &mut *sink)?;
            }
            Ok(Continue(()))
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
    chosen: &[&SheetTable<'_>],
) -> Result<(), FormatError> {
    let mut rows = 0;
    let mut fitting_rows = vec![0; chosen.len()];
    workbook.for_each_row(name, &mut |_, cells| {
        if used_width(cells) == 0 {
            return Ok(Continue(()));
        }
        rows += 1;
        for (count, sheet) in fitting_rows.iter_mut().zip(chosen) {
            *count += u64::from(sheet.table.fits_row(cells));
        }
        Ok(if rows == MAX_HEADER_ROWS {
            Break(())
        } else {
            Continue(())
        })
    })?;
    // A single row may be a note with a number.
    let continues = |count: u64| count > 1 && 2 * count >= rows;
    let mut counted = chosen.iter().zip(fitting_rows);
    match counted.find(|(_, count)| continues(*count)) {
        None => Ok(()),
        Some((other, _)) => Err(FormatError::Unusable(format!(
            "sheet '{name}' has no header, and its first rows look like those of '{}': add the \
             header, or set sheet to the name of the right sheet",
            other.name
        ))),
    }
}

/// Returns the error of the only sheet, or an error that lists those of all sheets.
fn no_sheet_error(mut unmatched: Vec<(&str, bool, FormatError)>) -> FormatError {
    if unmatched.len() < 2 {
        let no_sheet = FormatError::Unusable("the workbook has no sheet".to_owned());
        return unmatched.pop().map_or(no_sheet, |(.., error)| error);
    }
    let all = unmatched.iter();
    let all: Vec<_> = all
        .map(|(name, _, error)| format!("sheet '{name}': {error}"))
        .collect();
    FormatError::Unusable(all.join("; "))
}

/// Table of a sheet with the columns.
struct SheetTable<'r> {
    name: &'r str,
    table: StockTable<'r>,
    /// Row number of the header, from 1.
    header_row: u64,
    /// Number of rows below the header that are not blank.
    row_count: u64,
}

/// First pass over a sheet: finds its header and learns from its columns.
struct SheetScan<'r> {
    search: HeaderSearch<'r>,
    /// The table, the row number of its header, and the number of rows below that are not blank.
    found: Option<(StockTable<'r>, u64, u64)>,
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

    fn learn(
        &mut self,
        line: u64,
        cells: &[TableCell<'_>],
    ) -> Result<ControlFlow<()>, FormatError> {
        if let Some((table, _, row_count)) = &mut self.found {
            *row_count += u64::from(used_width(cells) > 0);
            table.learn(line, cells);
        } else if self.rows_searched == MAX_HEADER_ROWS {
            return Ok(Break(()));
        } else {
            self.rows_searched += 1;
            let table = self.search.try_header(cells)?;
            self.found = table.map(|table| (table, line, 0));
        }
        Ok(Continue(()))
    }

    fn into_sheet_table(self, name: &'r str) -> Result<SheetTable<'r>, FormatError> {
        let no_header_error = || self.search.no_header_error();
        let (table, header_row, row_count) = self.found.ok_or_else(no_header_error)?;
        table.check()?;
        Ok(SheetTable {
            name,
            table,
            header_row,
            row_count,
        })
    }
}

fn row_text(cells: &[TableCell<'_>]) -> String {
    let cells = cells.iter().take(used_width(cells));
    cells.map(TableCell::text).collect::<Vec<_>>().join(" | ")
}

/// Returns a cell of a row, which is extended if it is shorter.
fn cell_mut<'c, 'a>(row: &'c mut Vec<TableCell<'a>>, column: usize) -> &'c mut TableCell<'a> {
    if row.len() <= column {
        row.resize(column + 1, TableCell::Empty);
    }
    &mut row[column]
}

#[cfg(test)]
mod tests;

//! Workbooks: XLSX row by row, XLS from memory.
//!
//! Of several sheets the first is read that has the columns, those people see before the hidden
//! ones: the Market's own workbook begins with a sheet of instructions. Formulas are read by the
//! value they had when the workbook was saved.

mod xls;
mod xlsx;

use std::io::{Read, SeekFrom};

use super::super::quantity::trim;
use super::super::row::Reading;
use super::table::{Cell, HEADER_WITHIN, Search, Table, width};
use super::{Ending, FormatError, Input, Sink};

/// Columns of the widest sheet there is.
const MAX_COLUMNS: usize = 16_384;

/// Reads a workbook, whichever of the two kinds it is. It never says whether it is complete.
///
/// A workbook that is cut short or damaged is found out before its first row is put.
///
/// # Errors
/// It is no workbook, a broken one, one without the columns; or nobody wants the rest.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let mut magic = Vec::with_capacity(4);
    input.seek(SeekFrom::Start(0))?;
    Read::take(&mut *input, 4).read_to_end(&mut magic)?;
    match magic.as_slice() {
        b"PK\x03\x04" => xlsx::read(input, reading, sink)?,
        b"\xd0\xcf\x11\xe0" => xls::read(input, reading, sink)?,
        _ => return Err(broken("it is neither an XLSX nor an XLS workbook")),
    }
    Ok(Ending::default())
}

fn broken(reason: impl Into<String>) -> FormatError {
    FormatError::Broken { place: "the workbook".to_owned(), reason: reason.into() }
}

fn protected() -> FormatError {
    broken("it is protected by a password")
}

/// Which sheets to look at, and in which order.
///
/// # Errors
/// The settings name one that is not there.
fn chosen<T>(
    sheets: Vec<(String, bool, T)>,
    reading: &Reading,
) -> Result<Vec<(String, T)>, FormatError> {
    let (seen, hidden): (Vec<_>, Vec<_>) =
        sheets.into_iter().partition(|(_, is_hidden, _)| !is_hidden);
    let mut sheets: Vec<_> =
        seen.into_iter().chain(hidden).map(|(name, _, sheet)| (name, sheet)).collect();
    let Some(wanted) = &reading.sheet else { return Ok(sheets) };
    let is_wanted = |name: &str| trim(name).to_lowercase() == trim(wanted).to_lowercase();
    if let Some(at) = sheets.iter().position(|(name, _)| is_wanted(name)) {
        return Ok(vec![sheets.swap_remove(at)]);
    }
    let names: Vec<_> = sheets.iter().map(|(name, _)| format!("'{name}'")).collect();
    Err(FormatError::Unfit(format!(
        "there is no sheet '{wanted}', as the setting sheet has it; there are {}",
        names.join(", ")
    )))
}

/// Why no sheet will do: the words for the only one, or for all of them.
fn none_fits(mut refusals: Vec<(String, FormatError)>) -> FormatError {
    match refusals.pop() {
        None => FormatError::Unfit("there is no sheet in the workbook".to_owned()),
        Some((_, only)) if refusals.is_empty() => only,
        Some(last) => {
            refusals.push(last);
            let all: Vec<_> =
                refusals.iter().map(|(name, why)| format!("sheet '{name}': {why}")).collect();
            FormatError::Unfit(all.join("; "))
        }
    }
}

/// Whether more rows are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Go {
    On,
    Stop,
}

/// The rows of one sheet, as they come.
struct Rows<'r> {
    state: State<'r>,
    /// The first row that may no longer be the header.
    seen: u64,
}

enum State<'r> {
    Before(Search<'r>),
    Within(Table<'r>),
}

impl<'r> Rows<'r> {
    fn new(reading: &'r Reading) -> Self {
        Self { state: State::Before(Search::new(reading)), seen: 0 }
    }

    /// Takes the row at that line, from 1.
    fn take(&mut self, line: u64, cells: &[Cell<'_>], sink: Sink<'_>) -> Result<Go, FormatError> {
        match &mut self.state {
            State::Within(table) => {
                table.put(line, cells, &|| shown(cells), sink)?;
                Ok(Go::On)
            }
            State::Before(_) if self.seen == HEADER_WITHIN => Ok(Go::Stop),
            State::Before(search) => {
                self.seen += 1;
                if let Some(table) = search.offer(cells)? {
                    self.state = State::Within(table);
                }
                Ok(Go::On)
            }
        }
    }

    /// Why it was not the sheet; `None` if it was.
    fn refusal(&self) -> Option<FormatError> {
        match &self.state {
            State::Before(search) => Some(search.failed()),
            State::Within(_) => None,
        }
    }
}

fn shown(cells: &[Cell<'_>]) -> String {
    let cells: Vec<_> = cells.iter().take(width(cells)).map(Cell::text).collect();
    cells.join(" | ")
}

#[cfg(test)]
mod tests;

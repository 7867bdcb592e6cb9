//! Workbooks: XLSX row by row, XLS from memory.
//!
//! Of several sheets the one is read that has the columns and rows below them: the Market's own
//! workbook begins with a sheet of instructions. Where several visible sheets have them, the
//! setting `sheet` must name one, or `*` for all. Hidden sheets are read only if no visible one
//! has the columns, and are mentioned otherwise.
//!
//! Merged cells have the values that [`merges`] states.
//!
//! Formulas are read by the value they had when the workbook was saved. A program that writes
//! formulas without calculating them stores nothing, or 0 and a request to calculate when the
//! workbook is opened: neither is a quantity. Another stored value under such a request was put
//! there by the program that wrote it, and counts.

mod merges;
mod xls;
mod xlsx;

use std::io::{Read, SeekFrom};

use self::merges::{Merge, Merges};
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

fn protected() -> FormatError {
    broken("it is protected by a password: save it without one")
}

/// The name that stands for all visible sheets in the setting `sheet`.
const ALL_SHEETS: &str = "*";

/// Takes a row with its number from 1, and says whether more are wanted.
type TakeRow<'t> = &'t mut dyn FnMut(u64, &[Cell<'_>]) -> Result<Go, FormatError>;

/// A workbook whose sheets can be gone through, each more than once.
trait Workbook {
    /// Names of the sheets with cells, and whether each is hidden.
    fn sheets(&self) -> Vec<(String, bool)>;

    /// Gives the rows of a sheet in order, with their numbers from 1, until no more are wanted.
    fn walk(&mut self, sheet: &str, take: TakeRow<'_>) -> Result<(), FormatError>;

    /// The merged cells of a sheet, by the column in which they begin.
    fn merges(&mut self, sheet: &str) -> Result<Vec<Merge>, FormatError>;
}

/// Reads the sheet that is meant.
fn read_workbook(
    workbook: &mut dyn Workbook,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let sheets = workbook.sheets();
    let named = |names: Vec<&String>| -> String {
        names
            .iter()
            .map(|name| format!("'{name}'"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let is_wanted = |name: &str| match reading.sheet.as_deref() {
        None | Some(ALL_SHEETS) => true,
        Some(wanted) => trim(name).to_lowercase() == trim(wanted).to_lowercase(),
    };
    let names_one = reading
        .sheet
        .as_deref()
        .is_some_and(|name| name != ALL_SHEETS);
    if let Some(wanted) = &reading.sheet
        && !sheets.iter().any(|(name, _)| is_wanted(name))
    {
        return Err(FormatError::Unfit(format!(
            "there is no sheet '{wanted}', as the setting sheet has it; there are {}",
            named(sheets.iter().map(|(name, _)| name).collect())
        )));
    }
    let mut refusals = Vec::new();
    let mut found = Vec::new();
    for (name, is_hidden) in sheets.iter().filter(|(name, _)| is_wanted(name)) {
        let mut rows = Rows::new(reading);
        workbook.walk(name, &mut |line, cells| rows.learn(line, cells))?;
        match rows.into_table() {
            Ok(table) => found.push((name, *is_hidden && !names_one, table)),
            Err(why) => refusals.push((name.clone(), why)),
        }
    }
    let has_rows = |sheet: &&Sheet<'_, '_>| sheet.2.rows > 0;
    let visible: Vec<_> = found
        .iter()
        .filter(|(_, is_hidden, _)| !is_hidden)
        .collect();
    let hidden: Vec<_> = found
        .iter()
        .filter(|(_, is_hidden, _)| *is_hidden)
        .collect();
    let pool = if visible.is_empty() {
        &hidden
    } else {
        &visible
    };
    let filled: Vec<_> = pool.iter().copied().filter(has_rows).collect();
    let chosen: Vec<_> = match (filled.as_slice(), pool.as_slice()) {
        ([], []) => return Err(none_fits(refusals)),
        // Nothing but headers: the first is as good as the others.
        ([], [first, ..]) => vec![*first],
        ([_], _) => filled,
        (_, _) if reading.sheet.as_deref() == Some(ALL_SHEETS) => filled,
        (several, _) => {
            return Err(FormatError::Unfit(format!(
                "several sheets have the columns, {}: set sheet to the name of the one that is \
                 meant, or to \"*\" for all of them",
                named(several.iter().map(|(name, ..)| *name).collect())
            )));
        }
    };
    if reading
        .sheet
        .as_deref()
        .is_none_or(|name| name == ALL_SHEETS)
    {
        for (name, _) in sheets.iter().filter(|(name, is_hidden)| {
            !is_hidden && refusals.iter().any(|(refused, _)| refused == name)
        }) {
            check_continuation(workbook, name, &chosen)?;
        }
    }
    let mut ending = read_sheets(workbook, &chosen, sink)?;
    let read: Vec<_> = chosen.iter().map(|(name, ..)| *name).collect();
    ending.shape.set(
        "sheet",
        read.iter()
            .map(|name| name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    );
    ending.shape.set(
        "sheets",
        named(sheets.iter().map(|(name, _)| name).collect()),
    );
    let left: Vec<_> = hidden
        .iter()
        .map(|(name, ..)| *name)
        .filter(|it| !read.contains(it))
        .collect();
    if !left.is_empty() {
        ending.notices.push(format!(
            "hidden sheets that have the columns are left out: {}; set sheet to read one",
            named(left)
        ));
    }
    Ok(ending)
}

/// A sheet that has the columns: its name, whether it is hidden, and its table.
type Sheet<'s, 'r> = (&'s String, bool, Found<'r>);

/// Reads the rows of the sheets that are meant.
fn read_sheets(
    workbook: &mut dyn Workbook,
    chosen: &[&Sheet<'_, '_>],
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    if chosen
        .iter()
        .any(|(_, _, found)| found.table.has_padded_skus())
    {
        chosen
            .iter()
            .for_each(|(_, _, found)| found.table.expect_padded_skus());
    }
    let mut ending = Ending::default();
    for (name, _, Found { table, header, .. }) in chosen {
        let is_one = chosen.len() == 1;
        let below = workbook
            .merges(name)?
            .into_iter()
            .filter(|merge| merge.first > *header);
        let mut merges = Merges::new(below, table.columns());
        if merges.must_learn() {
            workbook.walk(name, &mut |line, cells| {
                merges.learn(line, cells);
                Ok(Go::On)
            })?;
        }
        workbook.walk(name, &mut |line, cells| {
            if line > *header {
                let cells = merges.resolve(line, cells);
                let shown = || {
                    if is_one {
                        shown(&cells)
                    } else {
                        format!("{name}: {}", shown(&cells))
                    }
                };
                table.put(line, &cells, &shown, &mut *sink)?;
            }
            Ok(Go::On)
        })?;
        table.describe(&mut ending.shape);
        ending.shape.set("header", format!("row {header}"));
        ending.notices.extend(table.notices());
    }
    Ok(ending)
}

/// Refuses a sheet without a header whose first rows have a SKU and a number in the columns of a sheet
/// that is read: a program continues there after the last row of a full sheet.
fn check_continuation(
    workbook: &mut dyn Workbook,
    name: &str,
    chosen: &[&Sheet<'_, '_>],
) -> Result<(), FormatError> {
    let mut rows = 0;
    let mut fitting = vec![0; chosen.len()];
    workbook.walk(name, &mut |_, cells| {
        if width(cells) == 0 {
            return Ok(Go::On);
        }
        rows += 1;
        for (count, (_, _, found)) in fitting.iter_mut().zip(chosen) {
            *count += u64::from(found.table.fits(cells));
        }
        Ok(if rows == HEADER_WITHIN {
            Go::Stop
        } else {
            Go::On
        })
    })?;
    // One row alone may be a note that happens to have a number.
    let continues = |count: u64| count > 1 && 2 * count >= rows;
    let continued = chosen
        .iter()
        .zip(fitting)
        .find(|(_, count)| continues(*count));
    continued.map_or(Ok(()), |((other, ..), _)| {
        Err(FormatError::Unfit(format!(
            "sheet '{name}' has no header, and its first rows look like those of '{other}': give it the \
             header, or set sheet to the name of the one that is meant"
        )))
    })
}

/// Why no sheet will do: the words for the only one, or for all of them.
fn none_fits(mut refusals: Vec<(String, FormatError)>) -> FormatError {
    match refusals.pop() {
        None => FormatError::Unfit("there is no sheet in the workbook".to_owned()),
        Some((_, only)) if refusals.is_empty() => only,
        Some(last) => {
            refusals.push(last);
            let all: Vec<_> = refusals
                .iter()
                .map(|(name, why)| format!("sheet '{name}': {why}"))
                .collect();
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

/// A sheet that has the columns.
struct Found<'r> {
    table: Table<'r>,
    /// The row of the header.
    header: u64,
    /// Rows below it that are not blank.
    rows: u64,
}

/// The rows of one sheet as they come, to find its header and learn from its columns.
struct Rows<'r> {
    search: Search<'r>,
    found: Option<Found<'r>>,
    /// Rows in which the header was looked for.
    seen: u64,
}

impl<'r> Rows<'r> {
    fn new(reading: &'r Reading) -> Self {
        Self {
            search: Search::new(reading),
            found: None,
            seen: 0,
        }
    }

    fn learn(&mut self, line: u64, cells: &[Cell<'_>]) -> Result<Go, FormatError> {
        if let Some(found) = &mut self.found {
            found.rows += u64::from(width(cells) > 0);
            found.table.learn(line, cells);
            return Ok(Go::On);
        }
        if self.seen == HEADER_WITHIN {
            return Ok(Go::Stop);
        }
        self.seen += 1;
        let table = self.search.offer(cells)?;
        self.found = table.map(|table| Found {
            table,
            header: line,
            rows: 0,
        });
        Ok(Go::On)
    }

    fn into_table(self) -> Result<Found<'r>, FormatError> {
        let Self { search, found, .. } = self;
        let found = found.ok_or_else(|| search.failed())?;
        found.table.check()?;
        Ok(found)
    }
}

fn shown(cells: &[Cell<'_>]) -> String {
    let cells: Vec<_> = cells.iter().take(width(cells)).map(Cell::text).collect();
    cells.join(" | ")
}

#[cfg(test)]
mod tests;

//! A table whose columns are found by their names, whatever order they stand in.
//!
//! Above the header there may be a title. Where several columns fit, the one that is evidently
//! meant is taken: of the SKU's `Ваш SKU`, `shop-sku`, `offer_id`, `SKU`, `Артикул`, `Код`, and
//! of the quantity's `Доступно для заказа`, `Доступно`, `Остаток`, `Количество`, `stock`,
//! `quantity`, `count`, the first that is there. Two columns of one name are nobody's to choose.
//! What the settings name comes before all of these.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::super::quantity::{Quantity, trim};
use super::super::row::{Entry, Fault, GivenUp, Key, Reading, Row};
use super::charset::UNDECODABLE;
use super::{FormatError, Sink};
use crate::stock::Instant;

/// In so many rows the header is looked for.
pub(super) const HEADER_WITHIN: u64 = 30;

/// From here on a binary fraction does not keep every digit of a number.
const MOST_DIGITS: f64 = 1e15;

const SKU: Known = Known {
    what: "the SKU",
    setting: "sku",
    names: &["ваш sku", "shop sku", "offer id", "sku", "артикул", "код"],
};
const QUANTITY: Known = Known {
    what: "the quantity",
    setting: "quantity",
    names: &[AVAILABLE, "доступно", "остаток", "количество", "stock", "quantity", COUNT],
};
const WAREHOUSE: Known = Known {
    what: "the warehouse",
    setting: "warehouse",
    names: &["склад", "warehouse", WAREHOUSE_AND_SHOP],
};
/// These two are read only where the settings name them.
const RESERVE: Known = Known { what: "the reserve", setting: "reserve", names: &[] };
const UPDATED_AT: Known = Known { what: "the time", setting: "updated_at", names: &[] };

/// The Market's own sheet, as a workbook.
const AVAILABLE: &str = "доступно для заказа";
/// And as CSV, where both of these stand.
const COUNT: &str = "count";
const WAREHOUSE_AND_SHOP: &str = "warehouse and shop";

/// What a column may be called.
struct Known {
    what: &'static str,
    setting: &'static str,
    /// As [`plain`] leaves them, the one that is preferred first.
    names: &'static [&'static str],
}

/// How a number is shown in its cell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Shown {
    /// As it is.
    #[default]
    General,
    /// With at least so many digits, and exactly so many decimals: `0000.00`.
    Padded {
        /// Before the point.
        digits: usize,
        /// Behind it.
        decimals: usize,
    },
}

impl Shown {
    /// Reads a format's code; what is neither zeros nor a plain number counts as general.
    pub(super) fn parse(code: &str) -> Self {
        let (digits, decimals) = code.split_once('.').unwrap_or((code, ""));
        let are_zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
        if digits.is_empty() || !are_zeros(digits) || !are_zeros(decimals) {
            return Self::General;
        }
        // No product has more, and the width of a text is given in sixteen bits.
        let bounded = |part: &str| part.len().min(100);
        Self::Padded { digits: bounded(digits), decimals: bounded(decimals) }
    }

    fn show(self, value: f64) -> String {
        let plain = format!("{value}");
        match self {
            Self::General => plain,
            Self::Padded { digits, decimals } => {
                let width = digits + usize::from(decimals > 0) + decimals;
                let shown = format!("{value:0width$.decimals$}");
                // A cell may show less than it holds; of a name nothing may be rounded away.
                if shown.parse() == Ok(value) { shown } else { plain }
            }
        }
    }
}

/// What stands in a row under one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// Nothing.
    Empty,
    /// Text, however it looks.
    Text(Cow<'a, str>),
    /// A number of a workbook.
    Number(f64, Shown),
    /// What is neither: `#N/A`, `TRUE`, a date.
    Odd(Cow<'a, str>),
}

impl Cell<'_> {
    /// As it is shown to people.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Cell::Empty => "".into(),
            Cell::Text(text) | Cell::Odd(text) => text.as_ref().into(),
            Cell::Number(value, shown) => shown.show(*value).into(),
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Cell::Empty => true,
            Cell::Text(text) => trim(text).is_empty(),
            Cell::Number(_, _) | Cell::Odd(_) => false,
        }
    }
}

/// How many cells there are up to the last that is not blank.
pub(super) fn width(cells: &[Cell<'_>]) -> usize {
    cells.iter().rposition(|cell| !cell.is_blank()).map_or(0, |last| last + 1)
}

/// A name without what stands around it, its case, and what kind of gap is in it.
fn plain(name: &str) -> String {
    let is_gap = |c: char| c.is_whitespace() || matches!(c, '_' | '-' | '\u{2010}'..='\u{2015}');
    let name = trim(name).trim_end_matches('*').to_lowercase().replace('ё', "е");
    name.split(is_gap).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Looks for the header, row by row.
pub(super) struct Search<'r> {
    reading: &'r Reading,
    /// The row that came nearest: what it lacks, and what it has.
    nearest: Option<(Vec<String>, Vec<String>)>,
}

impl<'r> Search<'r> {
    pub(super) fn new(reading: &'r Reading) -> Self {
        Self { reading, nearest: None }
    }

    /// The table, if this row is its header.
    ///
    /// # Errors
    /// It is, but two of its columns fit alike.
    pub(super) fn offer(&mut self, cells: &[Cell<'_>]) -> Result<Option<Table<'r>>, FormatError> {
        let width = width(cells);
        let names: Vec<_> = cells.iter().take(width).map(|cell| plain(&cell.text())).collect();
        let reading = self.reading;
        let sku = find(&names, &SKU, reading.sku.as_deref());
        let quantity = find(&names, &QUANTITY, reading.quantity.as_deref());
        let warehouse = find(&names, &WAREHOUSE, reading.warehouse.as_deref());
        let reserve = find(&names, &RESERVE, reading.reserve.as_deref());
        let updated_at = find(&names, &UPDATED_AT, reading.updated_at.as_deref());
        let missing: Vec<_> = [&sku, &quantity, &warehouse, &reserve, &updated_at]
            .into_iter()
            .filter_map(|found| match found {
                Found::Missing(what) => Some(what.clone()),
                Found::At(_) | Found::Unasked | Found::Twice(_) => None,
            })
            .collect();
        if !missing.is_empty() {
            self.remember(missing, cells);
            return Ok(None);
        }
        let (Some(sku), Some(quantity)) = (sku.column()?, quantity.column()?) else {
            return Ok(None);
        };
        let warehouse = warehouse.column()?;
        let is_named = |at: usize, name: &str| names.get(at).is_some_and(|found| found == name);
        // The Market's own sheet has its reserve besides, and what is available without it.
        let is_market = is_named(quantity, AVAILABLE)
            || (is_named(quantity, COUNT)
                && warehouse.is_some_and(|at| is_named(at, WAREHOUSE_AND_SHOP)));
        let reserve = reserve.column()?.filter(|_| !is_market);
        let updated_at = updated_at.column()?;
        Ok(Some(Table { reading, width, sku, quantity, warehouse, reserve, updated_at }))
    }

    fn remember(&mut self, missing: Vec<String>, cells: &[Cell<'_>]) {
        let found: Vec<String> = cells
            .iter()
            .filter(|cell| !cell.is_blank())
            .map(|cell| {
                trim(&cell.text()).replace(UNDECODABLE, "\u{fffd}").chars().take(40).collect()
            })
            .collect();
        let is_nearer = self
            .nearest
            .as_ref()
            .is_none_or(|(least, most)| (missing.len(), most.len()) < (least.len(), found.len()));
        if is_nearer {
            self.nearest = Some((missing, found));
        }
    }

    /// Whether some row looked more like a header here than in the other search.
    pub(super) fn is_nearer_than(&self, other: &Self) -> bool {
        let found = |search: &Self| search.nearest.as_ref().map_or(0, |(_, found)| found.len());
        found(self) > found(other)
    }

    /// Why there is no table, in words that tell what to do.
    pub(super) fn failed(&self) -> FormatError {
        let (missing, found) = match &self.nearest {
            Some((missing, found)) => (missing.clone(), found.as_slice()),
            None => (Vec::new(), [].as_slice()),
        };
        if found.is_empty() {
            return FormatError::Unfit("there is no row in it that could be a header".to_owned());
        }
        let shown: Vec<_> = found.iter().take(20).map(|name| format!("'{name}'")).collect();
        let more = if found.len() > 20 { ", …" } else { "" };
        FormatError::Unfit(format!(
            "none of the first {HEADER_WITHIN} rows is a header: there is no column for {}; \
             the nearest row has {}{more}",
            missing.join(", nor for "),
            shown.join(", "),
        ))
    }
}

/// Where a column is.
enum Found {
    At(usize),
    /// It is not there, and need not be.
    Unasked,
    /// It is not there, and must be: what it is, and how it may be called.
    Missing(String),
    /// It is there twice: which columns.
    Twice(String),
}

impl Found {
    fn column(self) -> Result<Option<usize>, FormatError> {
        match self {
            Self::At(column) => Ok(Some(column)),
            Self::Unasked | Self::Missing(_) => Ok(None),
            Self::Twice(both) => Err(FormatError::Unfit(both)),
        }
    }
}

fn find(names: &[String], known: &Known, named: Option<&str>) -> Found {
    let Known { what, setting, .. } = known;
    let at = |name: &str| -> Vec<usize> {
        names.iter().enumerate().filter(|(_, it)| *it == name).map(|(at, _)| at).collect()
    };
    let own = named.map(plain);
    let wanted: Vec<&str> = match &own {
        Some(own) => vec![own.as_str()],
        None => known.names.to_vec(),
    };
    let Some((name, columns)) =
        wanted.iter().map(|name| (name, at(name))).find(|(_, columns)| !columns.is_empty())
    else {
        return match named {
            Some(named) => Found::Missing(format!("{what} ('{named}', by the setting {setting})")),
            None if matches!(*setting, "sku" | "quantity") => {
                Found::Missing(format!("{what} ('{}', or set {setting})", known.names.join("', '")))
            }
            None => Found::Unasked,
        };
    };
    match columns.as_slice() {
        [] => Found::Unasked,
        [only] => Found::At(*only),
        [first, second, ..] => Found::Twice(format!(
            "columns {} and {} are both called '{name}', and either may be {what}: rename one, \
             or set {setting} to the name of another",
            first + 1,
            second + 1,
        )),
    }
}

/// A table whose columns are known.
#[derive(Debug)]
pub(super) struct Table<'r> {
    reading: &'r Reading,
    width: usize,
    sku: usize,
    quantity: usize,
    warehouse: Option<usize>,
    reserve: Option<usize>,
    updated_at: Option<usize>,
}

/// A row that is taken, and what is doubtful about it.
type Taken = (Row, Option<String>);

impl Table<'_> {
    /// How many columns the header names.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Puts what a row says, if it says something; `shown` is how it was read.
    ///
    /// # Errors
    /// Nobody wants the rest.
    pub(super) fn put(
        &self,
        line: u64,
        cells: &[Cell<'_>],
        shown: &dyn Fn() -> String,
        sink: Sink<'_>,
    ) -> Result<(), GivenUp> {
        match self.row(line, cells) {
            Ok(None) => Ok(()),
            Ok(Some((row, doubt))) => {
                sink(Entry::Row(row))?;
                doubt.map_or(Ok(()), |why| sink(Entry::Suspicious(Fault::new(line, &shown(), why))))
            }
            Err(reason) => {
                let mut fault = Fault::new(line, &shown(), reason);
                let named = cells.get(self.sku).map(sku);
                fault.sku = named.and_then(Result::ok).map(|(sku, _)| sku);
                sink(Entry::Rejected(fault))
            }
        }
    }

    /// What a row says; `None` if nothing, the reason if it cannot be taken.
    fn row(&self, line: u64, cells: &[Cell<'_>]) -> Result<Option<Taken>, String> {
        let at = |column: usize| cells.get(column).unwrap_or(&Cell::Empty);
        let maybe = |column: Option<usize>| column.map_or(&Cell::Empty, at);
        let amount = at(self.quantity);
        if at(self.sku).is_blank() {
            // Groups and totals of 1C: neither is of any product.
            if amount.is_blank() || cells.iter().any(is_total) {
                return Ok(None);
            }
            return Err(format!("sku is empty, and quantity is '{}'", amount.text()));
        }
        if is_word_of_total(at(self.sku)) {
            return Ok(None);
        }
        let (sku, doubt) = sku(at(self.sku))?;
        let row = Row {
            line,
            key: Key::Sku(sku),
            place: place(maybe(self.warehouse))?,
            quantity: self.quantity(amount)?,
            reserve: self.quantity(maybe(self.reserve)).map_err(|why| format!("reserve: {why}"))?,
            at: moment(maybe(self.updated_at))?,
        };
        Ok(Some((row, doubt)))
    }

    fn quantity(&self, cell: &Cell<'_>) -> Result<Option<Quantity>, String> {
        match cell {
            Cell::Empty => Ok(None),
            Cell::Text(text) => self.reading.quantity(text).map_err(|error| error.to_string()),
            // Its digits, whatever the cell shows of them: the noise in them is `Quantity`'s.
            Cell::Number(value, _) => {
                self.reading.quantity(&format!("{value}")).map_err(|error| error.to_string())
            }
            Cell::Odd(text) => Err(format!("quantity is '{text}', it must be a number")),
        }
    }
}

/// Whether a cell holds nothing but the word for a total.
fn is_word_of_total(cell: &Cell<'_>) -> bool {
    let Cell::Text(text) = cell else { return false };
    is_total(cell) && trim(text).trim_end_matches(':').chars().all(char::is_alphabetic)
}

fn is_total(cell: &Cell<'_>) -> bool {
    let Cell::Text(text) = cell else { return false };
    let text = trim(text).to_lowercase();
    text.split(|c: char| !c.is_alphabetic())
        .next()
        .is_some_and(|word| matches!(word, "итого" | "всего" | "total"))
}

/// The SKU as its cell shows it, and what may have happened to it on its way there.
fn sku(cell: &Cell<'_>) -> Result<(String, Option<String>), String> {
    match cell {
        Cell::Empty => Err("sku is empty".to_owned()),
        Cell::Odd(text) => Err(format!("sku is '{text}', its cell must be text")),
        Cell::Text(text) => {
            let sku = text.trim();
            let doubt = is_mangled(sku).then(|| {
                format!("sku is '{sku}', as a spreadsheet writes what it took for a number")
            });
            Ok((sku.to_owned(), doubt))
        }
        Cell::Number(value, _) if !value.is_finite() || value.abs() >= MOST_DIGITS => Err(format!(
            "sku is the number {value}, whose last digits are lost: its cell must be text"
        )),
        Cell::Number(value, shown) => {
            let sku = shown.show(*value);
            let doubt = match shown {
                Shown::General => {
                    format!("sku is the number {sku}, and zeros before it may have been lost")
                }
                Shown::Padded { .. } => format!("sku is a number that its cell shows as {sku}"),
            };
            Ok((sku, Some(doubt)))
        }
    }
}

/// `5.577E+05` and `557722.0`.
fn is_mangled(sku: &str) -> bool {
    let are_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (number, power) = match sku.split_once(['E', 'e']) {
        None => (sku, None),
        Some((number, power)) => (number, Some(power)),
    };
    let (whole, decimals) = match number.split_once([',', '.']) {
        None => (number, None),
        Some((whole, decimals)) => (whole, Some(decimals)),
    };
    match power {
        Some(power) => {
            power
                .strip_prefix(['+', '-'])
                .is_some_and(|power| power.len() >= 2 && are_digits(power))
                && whole.len() == 1
                && are_digits(whole)
                && decimals.is_none_or(are_digits)
        }
        None => {
            are_digits(whole)
                && decimals.is_some_and(|zeros| {
                    !zeros.is_empty() && zeros.bytes().all(|byte| byte == b'0')
                })
        }
    }
}

fn place(cell: &Cell<'_>) -> Result<Option<String>, String> {
    if let Cell::Odd(text) = cell {
        return Err(format!("warehouse is '{text}', its cell must be text"));
    }
    let text = cell.text();
    let place = text.trim();
    Ok((!place.is_empty()).then(|| place.to_owned()))
}

fn moment(cell: &Cell<'_>) -> Result<Option<Instant>, String> {
    if cell.is_blank() {
        return Ok(None);
    }
    let text = cell.text();
    let moment = DateTime::parse_from_rfc3339(text.trim()).map_err(|_| {
        format!("time is '{text}', it must be like 2026-11-22T10:00:00+03:00, with its offset")
    })?;
    Ok(Some(Instant::from(moment.with_timezone(&Utc))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_what_stands_around_them() {
        for name in [" Ваш SKU *", "ВАШ_sku*", "ваш\u{2011}sku", "Ваш\nSKU", "\u{feff}ваш  sku"]
        {
            assert_eq!(plain(name), "ваш sku", "{name:?}");
        }
        assert_eq!(plain("Учёт"), plain("учет"));
        assert_ne!(plain("sku2"), plain("sku"));
    }

    #[test]
    fn a_number_is_shown_as_its_format_has_it_but_never_rounded() {
        for (code, value, shown) in [
            ("0000000", 557_722.0, "0557722"),
            ("000", 557_722.0, "557722"),
            ("0", 4_607_012_345_678.0, "4607012345678"),
            ("0", 12.5, "12.5"),
            ("00.00", 12.5, "12.50"),
            ("0.00", 12.125, "12.125"),
            ("General", 557_722.0, "557722"),
            ("0.00E+00", 557_722.0, "557722"),
            ("#,##0", 557_722.0, "557722"),
            ("", 1e14, "100000000000000"),
            ("0000", -7.0, "-007"),
        ] {
            assert_eq!(Shown::parse(code).show(value), shown, "{code}: {value}");
        }
    }

    #[test]
    fn what_a_spreadsheet_wrote_is_told_from_what_a_seller_would() {
        for sku in ["5.577E+05", "5,577E+11", "5E+05", "5.577e-05", "557722.0", "557722,00"] {
            assert!(is_mangled(sku), "{sku}");
        }
        for sku in ["557722", "1E5", "E+05", "5E+5", "55.7E+05", "1.5", "v1.0", "1.0.0", ".0", "1."]
        {
            assert!(!is_mangled(sku), "{sku}");
        }
    }
}

//! Tables: columns found by their names, whatever their order, and rows read by them.
//!
//! Above the header there may be a title. Which name means what, and which of two names wins, is
//! in [`super::super::aliases`]; where that is not documented, the file is refused and the
//! settings must name a column.
//!
//! A table is read twice: [`Table::learn`] sees every row first, because `2,000` is two or two
//! thousand by what the rest of its column proves. Then [`Table::put`] reads the rows.

use std::borrow::Cow;
use std::cell::{Cell as StdCell, RefCell};

use chrono::{DateTime, Utc};

use super::super::aliases::{
    AVAILABLE_FOR_ORDER, COUNT, Choice, Field, WAREHOUSE_AND_SHOP, choose, normalize,
};
use super::super::quantity::{NumberStyle, Quantity, QuantityError, trim};
use super::super::row::{Entry, GivenUp, Key, Reading, Row, RowProblem};
use super::super::sku_text::is_padded;
use super::decode::UNDECODABLE;
use super::{FileShape, FormatError, Sink};
use crate::stock::Instant;

/// In so many rows the header is looked for.
pub(super) const HEADER_WITHIN: u64 = 30;

/// From here on a binary fraction does not keep every digit of a number.
const MOST_DIGITS: f64 = 1e15;

/// Names of a header that a message lists.
const MAX_NAMES: usize = 20;

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
    /// With something else: letters, dashes, a percentage.
    Other,
}

/// A format's code without its later sections, conditions in brackets, and room for a character.
fn without_layout(code: &str) -> String {
    let mut plain = String::new();
    let mut rest = code.chars();
    while let Some(c) = rest.next() {
        match c {
            ';' => break,
            '[' => drop(rest.by_ref().find(|c| *c == ']')),
            '_' | '*' => drop(rest.next()),
            c => plain.push(c),
        }
    }
    plain
}

impl Shown {
    /// Reads a format's code, of which the first section is for positive numbers.
    pub(super) fn parse(code: &str) -> Self {
        let code = without_layout(code);
        let (digits, decimals) = code.split_once('.').unwrap_or((&code, ""));
        let are_zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
        if !digits.is_empty() && are_zeros(digits) && are_zeros(decimals) {
            // No product has more, and the width of a text is given in sixteen bits.
            let bounded = |part: &str| part.len().min(100);
            return Self::Padded {
                digits: bounded(digits),
                decimals: bounded(decimals),
            };
        }
        let is_plain = matches!(code.to_lowercase().as_str(), "general" | "основной" | "@")
            || code.bytes().all(|byte| b"#,0.E+".contains(&byte));
        if is_plain { Self::General } else { Self::Other }
    }

    fn show(self, value: f64) -> String {
        let plain = format!("{value}");
        match self {
            Self::General | Self::Other => plain,
            Self::Padded { digits, decimals } => {
                let width = digits + usize::from(decimals > 0) + decimals;
                let shown = format!("{value:0width$.decimals$}");
                // A cell may show less than it holds; of a name nothing may be rounded away.
                if shown.parse() == Ok(value) {
                    shown
                } else {
                    plain
                }
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
    /// A formula that was never calculated: its stored value is a placeholder.
    Uncalculated,
    /// A formula without a stored value.
    NoValue,
    /// A formula whose stored value is an empty text, which some programs store for every formula.
    Blank,
    /// One of several cells that are merged, of which it is not certain what each stands for.
    Merged,
}

/// The cure of a formula that has no value to read.
const SAVE_VALUES: &str =
    "open the file in Excel or LibreOffice and save it, or export it with values";

impl Cell<'_> {
    /// As it is shown to people.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Cell::Empty | Cell::Blank => "".into(),
            Cell::Uncalculated | Cell::NoValue => "(formula)".into(),
            Cell::Merged => "(merged)".into(),
            Cell::Text(text) | Cell::Odd(text) => text.as_ref().into(),
            Cell::Number(value, shown) => shown.show(*value).into(),
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Cell::Empty | Cell::Blank => true,
            Cell::Text(text) => trim(text).is_empty(),
            Cell::Number(_, _)
            | Cell::Odd(_)
            | Cell::Uncalculated
            | Cell::NoValue
            | Cell::Merged => false,
        }
    }

    /// The same cell with a text of its own.
    pub(super) fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Cell::Odd(text) => Cell::Odd(Cow::Owned(text.into_owned())),
            Cell::Number(value, shown) => Cell::Number(value, shown),
            Cell::Empty => Cell::Empty,
            Cell::Uncalculated => Cell::Uncalculated,
            Cell::NoValue => Cell::NoValue,
            Cell::Blank => Cell::Blank,
            Cell::Merged => Cell::Merged,
        }
    }
}

/// How many cells there are up to the last that is not blank.
pub(super) fn width(cells: &[Cell<'_>]) -> usize {
    cells
        .iter()
        .rposition(|cell| !cell.is_blank())
        .map_or(0, |last| last + 1)
}

/// Looks for the header, row by row.
pub(super) struct Search<'r> {
    reading: &'r Reading,
    /// The row that came nearest: what it lacks, and what it has.
    nearest: Option<(Vec<String>, Vec<String>)>,
}

impl<'r> Search<'r> {
    pub(super) fn new(reading: &'r Reading) -> Self {
        Self {
            reading,
            nearest: None,
        }
    }

    /// Returns the table, if this row is its header.
    ///
    /// # Errors
    /// The row is the header, but two of its columns fit alike.
    pub(super) fn offer(&mut self, cells: &[Cell<'_>]) -> Result<Option<Table<'r>>, FormatError> {
        let width = width(cells);
        let names: Vec<String> = cells
            .iter()
            .take(width)
            .map(|cell| cell.text().into_owned())
            .collect();
        let reading = self.reading;
        let columns = [
            (Field::Sku, &reading.sku),
            (Field::Quantity, &reading.quantity),
            (Field::Warehouse, &reading.warehouse),
            (Field::Reserve, &reading.reserve),
            (Field::UpdatedAt, &reading.updated_at),
        ];
        let mut found = [None; 5];
        let mut missing = Vec::new();
        let mut ambiguous = None;
        for ((field, named), at) in columns.into_iter().zip(&mut found) {
            // The time is read only where a setting names it.
            if field == Field::UpdatedAt && named.is_none() {
                continue;
            }
            match choose(field, names.iter().map(String::as_str), named.as_deref()) {
                Choice::At(column) => *at = Some(column),
                Choice::None => missing.extend(lacking(field, named.as_deref())),
                Choice::Ambiguous(columns) => {
                    ambiguous = ambiguous.or(Some(ambiguity(field, &columns, &names)));
                }
            }
        }
        if !missing.is_empty() {
            self.remember(missing, cells);
            return Ok(None);
        }
        if let Some(reason) = ambiguous {
            return Err(FormatError::Unfit(reason));
        }
        let [Some(sku), Some(quantity), warehouse, reserve, updated_at] = found else {
            return Ok(None);
        };
        let is_named =
            |at: usize, name: &str| names.get(at).is_some_and(|it| normalize(it) == name);
        // The Market's own sheet has its reserve besides, and what is available without it.
        let is_market = is_named(quantity, AVAILABLE_FOR_ORDER)
            || (is_named(quantity, COUNT)
                && warehouse.is_some_and(|at| is_named(at, WAREHOUSE_AND_SHOP)));
        let reserve = reserve.filter(|_| !is_market);
        let is_quantity =
            |name: &String| choose(Field::Quantity, [name.as_str()], None) != Choice::None;
        let other_quantities = (0..names.len())
            .filter(|at| *at != quantity && reading.quantity.is_none() && !is_market)
            .filter(|at| names.get(*at).is_some_and(is_quantity))
            .collect();
        Ok(Some(Table {
            reading,
            names,
            sku,
            quantity,
            warehouse,
            reserve,
            updated_at,
            style: NumberStyle::default(),
            has_padded_skus: StdCell::default(),
            header_fields: cells.len(),
            fewest_fields: None,
            is_encoding_doubted: false,
            contradiction: None,
            has_rows: false,
            names_warehouses: false,
            other_quantities,
            greatest: (None, None),
            totals: StdCell::default(),
            above: RefCell::default(),
        }))
    }

    fn remember(&mut self, missing: Vec<String>, cells: &[Cell<'_>]) {
        let found: Vec<String> = cells
            .iter()
            .filter(|cell| !cell.is_blank())
            .map(|cell| {
                trim(&cell.text())
                    .replace(UNDECODABLE, "\u{fffd}")
                    .chars()
                    .take(40)
                    .collect()
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
        FormatError::Unfit(format!(
            "none of the first {HEADER_WITHIN} rows is a header: there is no column for {}; \
             the nearest row has {}",
            missing.join(", nor for "),
            listed(found),
        ))
    }
}

/// Describes a column that a table must have and this one has not.
fn lacking(field: Field, named: Option<&str>) -> Option<String> {
    let (what, setting) = (field.what(), field.setting());
    match named {
        Some(named) => Some(format!("{what} ('{named}', by the setting {setting})")),
        None if matches!(field, Field::Sku | Field::Quantity) => Some(format!(
            "{what} ('{}', or set {setting})",
            field.names().join("', '")
        )),
        None => None,
    }
}

/// Describes columns of which any may be the field.
fn ambiguity(field: Field, columns: &[usize], names: &[String]) -> String {
    let (what, setting) = (field.what(), field.setting());
    let shown: Vec<String> = columns
        .iter()
        .map(|at| {
            format!(
                "{} '{}'",
                at + 1,
                trim(names.get(*at).map_or("", String::as_str))
            )
        })
        .collect();
    let mut normal: Vec<_> = columns
        .iter()
        .filter_map(|at| names.get(*at))
        .map(|it| normalize(it))
        .collect();
    normal.dedup();
    let cure = if normal.len() > 1 {
        format!("set {setting} to the name of the one that is meant")
    } else {
        format!("rename one, or set {setting} to the name of another")
    };
    format!("columns {} may each be {what}: {cure}", shown.join(" and "))
}

/// Lists names in a message.
fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| format!("'{name}'"))
        .collect();
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// Whether a row has nothing in that column.
pub(super) fn is_blank_at(cells: &[Cell<'_>], column: usize) -> bool {
    cells.get(column).is_none_or(Cell::is_blank)
}

/// The columns in which merged cells matter, from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) sku: usize,
    pub(super) quantity: usize,
    pub(super) warehouse: Option<usize>,
    pub(super) reserve: Option<usize>,
}

/// The product of the row above, and the sums of the rows so far.
#[derive(Debug, Default)]
struct Above {
    /// Its SKU; empty if the row above is of no product.
    sku: String,
    /// Thousandths of all rows.
    sum: i64,
    /// Thousandths of the rows since the latest row without a SKU.
    group: i64,
}

impl Above {
    fn note(&mut self, sku: &str, quantity: Option<Quantity>) {
        self.sku.clear();
        self.sku.push_str(sku);
        let thousandths = quantity.map_or(0, Quantity::thousandths);
        self.sum = self.sum.saturating_add(thousandths);
        self.group = self.group.saturating_add(thousandths);
    }

    fn forget(&mut self) {
        self.sku.clear();
    }

    /// The SKU that a row without one may be of; none if its quantity is the sum of rows above, as
    /// reports write it.
    fn product_of(&mut self, quantity: Option<Quantity>) -> Option<String> {
        let is_sum = quantity.is_some_and(|it| [self.sum, self.group].contains(&it.thousandths()));
        self.group = 0;
        if is_sum {
            self.forget();
        }
        (!self.sku.is_empty()).then(|| self.sku.clone())
    }
}

/// A table whose columns are known.
#[derive(Debug)]
pub(super) struct Table<'r> {
    reading: &'r Reading,
    /// The header, as it is written.
    names: Vec<String>,
    sku: usize,
    quantity: usize,
    warehouse: Option<usize>,
    reserve: Option<usize>,
    updated_at: Option<usize>,
    style: NumberStyle,
    /// Some SKU of the column is digits with zeros before them.
    has_padded_skus: StdCell<bool>,
    /// Fields of the header, empty ones at its end included.
    header_fields: usize,
    /// The fewest fields of a row that has a SKU and a quantity.
    fewest_fields: Option<usize>,
    /// Nothing proves the encoding that was assumed.
    is_encoding_doubted: bool,
    /// Why the table cannot be read by its header, as later rows show.
    contradiction: Option<String>,
    /// Some row was learnt.
    has_rows: bool,
    /// Some row names its warehouse.
    names_warehouses: bool,
    /// Other columns that are known as quantities.
    other_quantities: Vec<usize>,
    /// The greatest of the quantity's column, and of those others, in pieces.
    greatest: (Option<i64>, Option<i64>),
    /// Rows left out because their SKU is the word for a total: how many, and the first one.
    totals: StdCell<(u64, u64)>,
    /// The row above, which a row without a SKU may belong to.
    above: RefCell<Above>,
}

impl Table<'_> {
    pub(super) fn columns(&self) -> Columns {
        let Self {
            sku,
            quantity,
            warehouse,
            reserve,
            ..
        } = *self;
        Columns {
            sku,
            quantity,
            warehouse,
            reserve,
        }
    }

    /// Whether some SKU of the column is digits with zeros before them.
    pub(super) fn has_padded_skus(&self) -> bool {
        self.has_padded_skus.get()
    }

    /// Notes that SKUs which belong to the same list have zeros before their digits.
    pub(super) fn expect_padded_skus(&self) {
        self.has_padded_skus.set(true);
    }

    /// Whether a row of another sheet has a SKU and a number where this table has its columns.
    pub(super) fn fits(&self, cells: &[Cell<'_>]) -> bool {
        let is_number = match cells.get(self.quantity) {
            Some(Cell::Number(..)) => true,
            Some(Cell::Text(text)) => matches!(
                self.reading.quantity(text),
                Ok(Some(_)) | Err(QuantityError::Ambiguous(_))
            ),
            Some(_) | None => false,
        };
        is_number && self.legible_sku(cells).is_some()
    }

    /// Notes how many fields a row has. Every row comes here before the first one is put.
    pub(super) fn note_fields(&mut self, cells: &[Cell<'_>]) {
        if !is_blank_at(cells, self.sku) && !is_blank_at(cells, self.quantity) {
            let fewest = self
                .fewest_fields
                .map_or(cells.len(), |fewest| fewest.min(cells.len()));
            self.fewest_fields = Some(fewest);
        }
    }

    /// The most fields that a row may have: those of the header, and empty ones that every row has
    /// behind them.
    pub(super) fn fields(&self) -> usize {
        self.header_fields
            .max(self.fewest_fields.unwrap_or_default())
    }

    /// Notes that the encoding was assumed, which a header in Cyrillic proves.
    pub(super) fn doubt_encoding(&mut self) {
        let is_known = |field| {
            let is_cyrillic = |name: &&String| !name.is_ascii();
            let names = self.names.iter().filter(is_cyrillic).map(String::as_str);
            choose(field, names, None) != Choice::None
        };
        self.is_encoding_doubted = ![Field::Sku, Field::Quantity, Field::Warehouse]
            .into_iter()
            .any(is_known);
    }

    /// Checks what was learnt of all rows.
    ///
    /// # Errors
    /// A later row is a header of other columns.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        if let Some(reason) = &self.contradiction {
            return Err(FormatError::Unfit(reason.clone()));
        }
        match self.greatest {
            // A flag in a column whose name stands for the stock without its reserve.
            (Some(0..=1), Some(2..)) => Err(FormatError::Unfit(format!(
                "column '{}' has nothing but 0 and 1, and another column of quantities has more: set \
                 quantity to the name of the one that is meant",
                trim(self.names.get(self.quantity).map_or("", String::as_str)),
            ))),
            _ => Ok(()),
        }
    }

    /// Learns which of a row's cells contradict the header.
    fn learn_contradiction(&mut self, line: u64, cells: &[Cell<'_>]) {
        if width(cells) == 0 || self.contradiction.is_some() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_rows, true);
        let shown = || {
            let names = cells
                .iter()
                .take(width(cells))
                .map(|cell| trim(&cell.text()).to_owned());
            listed(&names.collect::<Vec<_>>())
        };
        if self.header(cells) == Some(false) {
            self.contradiction = Some(format!(
                "row {line} is a header too, of other columns: it has {}, and the columns are read \
                 by the header with {}: leave one table in the file",
                shown(),
                listed(&self.names)
            ));
        } else if is_first && self.continues_header(cells) {
            self.contradiction = Some(format!(
                "row {line} goes on with the header: it has {} below {}: name each column in one row",
                shown(),
                listed(&self.names)
            ));
        }
    }

    /// Whether the first row names the columns into which the header's quantity is divided.
    fn continues_header(&self, cells: &[Cell<'_>]) -> bool {
        let is_name = |at: usize| match cells.get(at) {
            Some(Cell::Text(text)) => {
                trim(text).starts_with(char::is_alphabetic) && self.reading.quantity(text).is_err()
            }
            Some(_) | None => false,
        };
        let is_unnamed = |at: usize| self.names.get(at).is_none_or(|name| trim(name).is_empty());
        let has_no_sku = match cells.get(self.sku) {
            Some(Cell::Text(text)) => !text.contains(char::is_alphanumeric),
            Some(cell) => cell.is_blank(),
            None => true,
        };
        is_name(self.quantity)
            && (has_no_sku || (is_unnamed(self.quantity + 1) && is_name(self.quantity + 1)))
    }

    /// Learns how many pieces the quantity's column has at most, and the others that may be it.
    fn learn_greatest(&mut self, cells: &[Cell<'_>]) {
        let pieces = |at: usize| match cells.get(at) {
            Some(Cell::Number(value, _)) => Quantity::parse(&format!("{value}"), None).ok(),
            Some(Cell::Text(text)) => Quantity::parse(text, None).ok(),
            Some(_) | None => None,
        };
        let own = pieces(self.quantity).map(Quantity::pieces);
        let others = self.other_quantities.iter().filter_map(|at| pieces(*at));
        self.greatest.0 = self.greatest.0.max(own);
        self.greatest.1 = self.greatest.1.max(others.map(Quantity::pieces).max());
    }

    /// Facts for the operator: rows that were left out as totals, and a reserve that is not read.
    pub(super) fn notices(&self) -> impl Iterator<Item = String> {
        self.totals_notice()
            .into_iter()
            .chain(self.reserve_notice())
    }

    /// Names a column of reserves that no setting names, beside a quantity that may include it.
    fn reserve_notice(&self) -> Option<String> {
        const RESERVES: [&str; 6] = [
            "резерв",
            "в резерве",
            "зарезервировано",
            "reserve",
            "reserved",
            "in reserve",
        ];
        const WITHOUT_RESERVE: [&str; 4] = ["доступн", "свободн", "available", "free"];
        let quantity = self.names.get(self.quantity)?;
        let is_without = WITHOUT_RESERVE
            .iter()
            .any(|begin| normalize(quantity).starts_with(begin));
        if self.reading.reserve.is_some() || is_without {
            return None;
        }
        let is_reserve = |name: &&String| RESERVES.contains(&normalize(name).as_str());
        let name = trim(self.names.iter().find(is_reserve)?);
        Some(format!(
            "column '{name}' is not subtracted from '{}': set reserve = \"{name}\" if that includes it",
            trim(quantity)
        ))
    }

    /// Names the rows that were left out as totals.
    fn totals_notice(&self) -> Option<String> {
        let (count, first) = self.totals.get();
        (count > 0).then(|| {
            format!(
                "{count} rows are left out because their SKU or warehouse is the word for a total, the \
                 first of them is row {first}"
            )
        })
    }

    /// Whether a row is a header itself: of the same columns, or of others.
    fn header(&self, cells: &[Cell<'_>]) -> Option<bool> {
        let is_text = |at: usize| match cells.get(at) {
            Some(Cell::Text(text)) => trim(text).starts_with(char::is_alphabetic),
            Some(_) | None => false,
        };
        // Every row comes here: one with a number for its quantity, as nearly all have, is no header.
        let is_blank = cells.get(self.quantity).is_none_or(Cell::is_blank);
        let may_be_header = is_text(self.quantity) || (is_blank && is_text(self.sku));
        if !may_be_header {
            return None;
        }
        if let Some(other) = Search::new(self.reading).offer(cells).ok().flatten() {
            return Some((other.sku, other.quantity) == (self.sku, self.quantity));
        }
        // A table of something else, such as prices, has the SKU's name in its column.
        let name = |text: &str| normalize(text);
        let is_sku_name = cells.get(self.sku).is_some_and(|cell| {
            self.names
                .get(self.sku)
                .is_some_and(|own| name(own) == name(&cell.text()))
        });
        (is_sku_name && is_text(self.quantity)).then_some(false)
    }

    /// The number of columns that the header names.
    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// Learns from a row what its columns prove of the others. Every row comes here before the
    /// first one is put.
    pub(super) fn learn(&mut self, line: u64, cells: &[Cell<'_>]) {
        for column in [Some(self.quantity), self.reserve].into_iter().flatten() {
            if let Some(Cell::Text(text)) = cells.get(column) {
                self.style.learn(text);
            }
        }
        let has_padded = match cells.get(self.sku) {
            Some(Cell::Text(text)) => is_padded(text),
            Some(Cell::Number(value, shown)) => is_padded(&shown.show(*value)),
            Some(_) | None => false,
        };
        if has_padded {
            self.expect_padded_skus();
        }
        self.names_warehouses |= self.warehouse.is_some_and(|at| !is_blank_at(cells, at));
        self.learn_contradiction(line, cells);
        if !self.other_quantities.is_empty() {
            self.learn_greatest(cells);
        }
    }

    /// Describes how the table is read.
    pub(super) fn describe(&self, shape: &mut FileShape) {
        let name = |at: usize| trim(self.names.get(at).map_or("", String::as_str)).to_owned();
        let all: Vec<_> = (0..self.width())
            .map(name)
            .filter(|name| !name.is_empty())
            .collect();
        shape.set("columns", listed(&all));
        shape.set("sku", name(self.sku));
        shape.set("why", self.why_sku());
        shape.set("quantity", name(self.quantity));
        let others = [
            ("warehouse", self.warehouse),
            ("reserve", self.reserve),
            ("time", self.updated_at),
        ];
        for (property, at) in others {
            if let Some(at) = at {
                shape.set(property, name(at));
            }
        }
        shape.set("numbers", self.style.describe());
    }

    /// Explains why the SKU's column is that one.
    fn why_sku(&self) -> String {
        if self.reading.sku.is_some() {
            return "the setting sku names it".to_owned();
        }
        let is_known = |name: &&String| choose(Field::Sku, [name.as_str()], None) != Choice::None;
        let others: Vec<String> = self
            .names
            .iter()
            .enumerate()
            .filter(|(at, name)| *at != self.sku && is_known(name))
            .map(|(_, name)| format!("'{}'", trim(name)))
            .collect();
        if others.is_empty() {
            "no other column has a name of a SKU".to_owned()
        } else {
            format!(
                "beside {} it is the seller's own article",
                others.join(" and ")
            )
        }
    }

    /// Puts what a row says, if it says something; `shown` is how it was read.
    ///
    /// # Errors
    /// The sink wants no more.
    pub(super) fn put(
        &self,
        line: u64,
        cells: &[Cell<'_>],
        shown: &dyn Fn() -> String,
        sink: Sink<'_>,
    ) -> Result<(), GivenUp> {
        match self.row(line, cells) {
            Ok(None) => {
                self.above.borrow_mut().forget();
                Ok(())
            }
            Ok(Some(row)) => {
                let (Key::Sku(sku) | Key::Id(sku)) = &row.key;
                self.above.borrow_mut().note(sku, row.quantity);
                sink(Entry::Row(row))
            }
            Err(problem) => {
                let sku = self.legible_sku(cells);
                let mut entry = problem.into_entry(line, &shown(), sku);
                if let Entry::Rejected(fault) | Entry::Suspicious(fault) = &mut entry {
                    let mut above = self.above.borrow_mut();
                    match &fault.sku {
                        Some(sku) => above.note(sku, None),
                        None if is_blank_at(cells, self.sku) => {
                            let quantity = self
                                .quantity(cells.get(self.quantity).unwrap_or(&Cell::Empty), false);
                            fault.may_be = above.product_of(quantity.ok().flatten());
                        }
                        None => above.forget(),
                    }
                }
                sink(entry)
            }
        }
    }

    /// Notes a row that was not put: it is blank, or its fields are shifted or cut.
    pub(super) fn pass_over(&self) {
        self.above.borrow_mut().forget();
    }

    /// The SKU of a row that is not applied, if that much is certain.
    pub(super) fn legible_sku(&self, cells: &[Cell<'_>]) -> Option<String> {
        cells.get(self.sku).and_then(|cell| self.sku(cell).ok())
    }

    /// What a row says; `None` if nothing.
    fn row(&self, line: u64, cells: &[Cell<'_>]) -> Result<Option<Row>, RowProblem> {
        let at = |column: usize| cells.get(column).unwrap_or(&Cell::Empty);
        let maybe = |column: Option<usize>| column.map_or(&Cell::Empty, at);
        let amount = at(self.quantity);
        if at(self.sku).is_blank() {
            // Groups and totals of 1C: neither is of any product.
            if amount.is_blank() || cells.iter().any(is_total) {
                return Ok(None);
            }
            let text = amount.text();
            return Err(RowProblem::Rejected(format!(
                "sku is empty, and quantity is '{text}'"
            )));
        }
        if is_word_of_total(at(self.sku)) {
            self.count_total(line);
            return Ok(None);
        }
        if self.header(cells) == Some(true) {
            return Ok(None);
        }
        if numbers_columns(cells) {
            return Err(RowProblem::Suspicious(
                "the row has the numbers of the columns, 1, 2, 3: delete it".to_owned(),
            ));
        }
        let warehouse = maybe(self.warehouse);
        if is_total_of_warehouses(warehouse) {
            self.count_total(line);
            return Ok(None);
        }
        if warehouse.is_blank() && self.names_warehouses && !amount.is_blank() {
            return Err(RowProblem::Suspicious(
                "warehouse is empty, and other rows name one: fill the cell, or delete the column"
                    .to_owned(),
            ));
        }
        let row = Row {
            line,
            key: Key::Sku(self.sku(at(self.sku))?),
            place: place(warehouse)?,
            quantity: self.quantity(amount, false)?,
            reserve: self
                .quantity(maybe(self.reserve), true)
                .map_err(|problem| problem.of_field("reserve"))?,
            at: moment(maybe(self.updated_at))?,
        };
        Ok(Some(row))
    }

    fn count_total(&self, line: u64) {
        let (count, first) = self.totals.get();
        self.totals
            .set((count + 1, if count == 0 { line } else { first }));
    }

    fn quantity(&self, cell: &Cell<'_>, is_reserve: bool) -> Result<Option<Quantity>, RowProblem> {
        let (text, style) = match cell {
            Cell::Blank if self.reading.zeroes_empties && !is_reserve => {
                return Err(RowProblem::Suspicious(format!(
                    "quantity is a formula whose stored value is empty, which may be a placeholder: \
                     {SAVE_VALUES}"
                )));
            }
            Cell::Empty | Cell::Blank => ("".into(), self.style),
            Cell::Text(text) => (text.as_ref().into(), self.style),
            // Its digits, whatever the cell shows of them: the noise in them is `Quantity`'s.
            Cell::Number(value, _) => (Cow::from(format!("{value}")), NumberStyle::LITERAL),
            Cell::Odd(text) => {
                let reason = format!("quantity is '{text}', it must be a number");
                return Err(RowProblem::Rejected(reason));
            }
            Cell::Uncalculated | Cell::NoValue => return Err(uncalculated(cell, "quantity")),
            Cell::Merged => {
                let problem = RowProblem::Suspicious(
                    "the cell is merged over rows of several products or warehouses: give each row \
                     its own"
                        .to_owned(),
                );
                return Err(if is_reserve {
                    problem
                } else {
                    problem.of_field("quantity")
                });
            }
        };
        readable(&text, "quantity")?;
        if is_reserve {
            Ok(self.reading.reserve(&text, style)?)
        } else {
            Ok(self.reading.quantity_in(&text, style)?)
        }
    }

    /// The SKU as its cell shows it.
    ///
    /// A number without decimals is its digits, as the cell shows them: that is what the file
    /// says. Only where other SKUs of the column have zeros before their digits may this one have
    /// lost its own.
    fn sku(&self, cell: &Cell<'_>) -> Result<String, RowProblem> {
        match cell {
            Cell::Empty | Cell::Blank | Cell::Merged => {
                Err(RowProblem::Rejected("sku is empty".to_owned()))
            }
            Cell::Uncalculated | Cell::NoValue => Err(uncalculated(cell, "sku")),
            Cell::Odd(text) => Err(RowProblem::Suspicious(format!(
                "sku is '{text}', as a spreadsheet writes a date, a truth value or an error: make \
                 its cell text"
            ))),
            Cell::Text(text) => {
                readable(text, "sku")?;
                let sku = self.reading.sku(text)?;
                if self.is_encoding_doubted && !sku.is_ascii() {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is '{sku}' if the file is in windows-1251, which nothing in it proves: set \
                         encoding"
                    )));
                }
                Ok(sku)
            }
            Cell::Number(value, _) if !value.is_finite() || value.abs() >= MOST_DIGITS => {
                Err(RowProblem::Suspicious(format!(
                    "sku is the number {value}, whose last digits are lost: make its cell text"
                )))
            }
            Cell::Number(value, shown) => {
                let sku = shown.show(*value);
                if self.reading.takes_suspicious_skus {
                    return Ok(sku);
                }
                let is_general = *shown == Shown::General;
                if is_general && value.fract() != 0.0 {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is the number {sku}, and zeros behind it may have been lost: make its \
                         cell text, or set suspicious_sku = \"take\""
                    )));
                }
                let has_decimals = matches!(shown, Shown::Padded { decimals: 1.., .. });
                if *shown == Shown::Other || (has_decimals && value.fract() == 0.0) {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is the number {value}, and its cell shows it in a format of its own: make \
                         its cell text, or set suspicious_sku = \"take\""
                    )));
                }
                let keeps_zeros = matches!(shown, Shown::Padded { digits: 2.., .. });
                if !keeps_zeros && self.has_padded_skus() {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is the number {sku}, and other SKUs have zeros before their digits, \
                         which this one may have lost: make its cell text, or set suspicious_sku = \
                         \"take\""
                    )));
                }
                Ok(sku)
            }
        }
    }
}

/// Why a formula cannot be read.
fn uncalculated(cell: &Cell<'_>, field: &str) -> RowProblem {
    if *cell == Cell::NoValue {
        RowProblem::Rejected(format!(
            "{field} is a formula without a stored value: {SAVE_VALUES}"
        ))
    } else {
        RowProblem::Suspicious(format!(
            "{field} is a formula that was never calculated, its stored value is a placeholder: \
             {SAVE_VALUES}"
        ))
    }
}

/// Refuses a field with bytes that are not characters of the file's encoding.
fn readable(text: &str, field: &str) -> Result<(), RowProblem> {
    if !text.contains(UNDECODABLE) {
        return Ok(());
    }
    let shown = text.replace(UNDECODABLE, "\u{fffd}");
    Err(RowProblem::Rejected(format!(
        "{field} is '{shown}', with bytes that are not characters of the file's encoding"
    )))
}

/// Words for a total, and those that may stand beside them.
const TOTALS: &[&str] = &["итого", "итог", "всего", "подытог", "total", "subtotal"];
const BESIDE_TOTALS: &[&str] = &["общий", "промежуточный", "grand", "sub", "по", "за"];

/// Whether a cell holds nothing but the words for a total.
fn is_word_of_total(cell: &Cell<'_>) -> bool {
    let Cell::Text(text) = cell else { return false };
    is_total_in(&trim(text).to_lowercase())
}

/// Whether a text in lower case is nothing but the words for a total.
fn is_total_in(text: &str) -> bool {
    let mut words = text.trim_end_matches(':').split_whitespace();
    words.clone().any(|word| TOTALS.contains(&word))
        && words.all(|word| TOTALS.contains(&word) || BESIDE_TOTALS.contains(&word))
}

/// Whether a cell of the warehouse's column is the total of all warehouses. Every row comes here.
fn is_total_of_warehouses(cell: &Cell<'_>) -> bool {
    const ALL: [&str; 3] = ["все склады", "по всем складам", "all warehouses"];
    let Cell::Text(text) = cell else { return false };
    let text = trim(text).to_lowercase();
    ALL.contains(&text.as_str()) || is_total_in(&text)
}

/// Whether a row numbers the columns of a form: 1, 2, 3 from its first cell on. Every row comes here.
fn numbers_columns(cells: &[Cell<'_>]) -> bool {
    let is = |cell: &Cell<'_>, number: u32| match cell {
        Cell::Text(text) => trim(text).parse() == Ok(number),
        Cell::Number(value, _) => *value == f64::from(number),
        Cell::Empty
        | Cell::Odd(_)
        | Cell::Uncalculated
        | Cell::NoValue
        | Cell::Blank
        | Cell::Merged => false,
    };
    let width = width(cells);
    width >= 3
        && (1..)
            .zip(cells.iter().take(width))
            .all(|(number, cell)| is(cell, number))
}

/// Whether a cell begins with the words for a total.
fn is_total(cell: &Cell<'_>) -> bool {
    let Cell::Text(text) = cell else { return false };
    let text = trim(text).to_lowercase();
    let mut words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty());
    words
        .find(|word| !BESIDE_TOTALS.contains(word))
        .is_some_and(|word| TOTALS.contains(&word))
}

fn place(cell: &Cell<'_>) -> Result<Option<String>, RowProblem> {
    if let Cell::Odd(text) = cell {
        let reason = format!("warehouse is '{text}', its cell must be text");
        return Err(RowProblem::Rejected(reason));
    }
    let text = cell.text();
    readable(&text, "warehouse")?;
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
            ("0000000;-0000000", 557_722.0, "0557722"),
            ("[$-419]0000000_ ", 557_722.0, "0557722"),
        ] {
            assert_eq!(Shown::parse(code).show(value), shown, "{code}: {value}");
        }
        for code in ["\"TEA-\"0000", "000-000", "00000\\-0000", "0%", "0 \"шт\""] {
            assert_eq!(Shown::parse(code), Shown::Other, "{code}");
        }
    }

    #[test]
    fn reserve_that_is_not_read_is_noticed() {
        for (names, reserve, is_noticed) in [
            (["sku", "Остаток", "Резерв"], None, true),
            (["sku", "stock", "Reserved"], None, true),
            (["sku", "Остаток", "Резерв"], Some("Резерв"), false),
            (["sku", "Свободный остаток", "Резерв"], None, false),
            (["sku", "Остаток", "Цена"], None, false),
        ] {
            let reading = Reading {
                reserve: reserve.map(str::to_owned),
                ..Reading::default()
            };
            let cells = names.map(|name| Cell::Text(name.into()));
            let table = Search::new(&reading).offer(&cells).unwrap().unwrap();
            assert_eq!(table.notices().count() == 1, is_noticed, "{names:?}");
        }
    }

    #[test]
    fn quantity_divided_into_columns_is_refused() {
        let reading = Reading::default();
        let row = |texts: &[&'static str]| -> Vec<Cell<'static>> {
            let cell = |text: &&'static str| match *text {
                "" => Cell::Empty,
                text => Cell::Text(text.into()),
            };
            texts.iter().map(cell).collect()
        };
        let header = row(&["Артикул", "Название", "Остаток"]);
        for (first, is_refused) in [
            (&["", "", "Москва", "СПб", "Всего"][..], true),
            (&["-", "-", "Москва", "СПб"], true),
            (&["A-1", "x", "FBO", "FBS"], true),
            (&["A-1", "x", "нет", ""], false),
            (&["A-1", "x", "5", "шт"], false),
            (&["", "Чай", "", ""], false),
        ] {
            let mut table = Search::new(&reading).offer(&header).unwrap().unwrap();
            table.learn(2, &row(first));
            table.learn(3, &row(&["A-2", "x", "Москва", "СПб"]));
            assert_eq!(table.check().is_err(), is_refused, "{first:?}");
        }
    }

    #[test]
    fn formula_with_an_empty_text_is_no_zero() {
        for zeroes_empties in [false, true] {
            let reading = Reading {
                zeroes_empties,
                ..Reading::default()
            };
            let text = |text: &'static str| Cell::Text(text.into());
            let table = Search::new(&reading)
                .offer(&[text("sku"), text("stock")])
                .unwrap()
                .unwrap();
            let empty = table.row(2, &[text("A-1"), Cell::Empty]).unwrap().unwrap();
            assert_eq!(empty.quantity, zeroes_empties.then_some(Quantity::ZERO));
            let formula = table.row(3, &[text("A-2"), Cell::Blank]);
            match formula {
                Ok(Some(row)) => assert_eq!((row.quantity, zeroes_empties), (None, false)),
                Err(RowProblem::Suspicious(reason)) => {
                    assert!(
                        zeroes_empties && reason.contains("stored value is empty"),
                        "{reason}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_total_is_told_from_a_product() {
        let text = |text: &'static str| Cell::Text(text.into());
        for total in [
            "Итого",
            "Итого:",
            "Общий итог",
            "ВСЕГО",
            "Grand Total",
            "Subtotal",
            "Подытог",
        ] {
            assert!(is_word_of_total(&text(total)), "{total}");
        }
        for product in ["Итого: 1 позиция", "TOTAL-5", "Общий", "Тотал"] {
            assert!(!is_word_of_total(&text(product)), "{product}");
        }
    }
}

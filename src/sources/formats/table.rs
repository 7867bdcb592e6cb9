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
    AVAILABLE_FOR_ORDER, AliasMatch, COUNT, StockField, WAREHOUSE_AND_SHOP, choose, normalize,
};
use super::super::quantity::{NumberStyle, Quantity, QuantityError, trim_blanks};
use super::super::row::{
    DeliveryCancelled, DeliveryEntry, ProductKey, ReadSettings, Row, RowProblem,
};
use super::super::sku_text::has_leading_zeros;
use super::decode::UNDECODABLE;
use super::{FileShape, FormatError, Sink};
use crate::stock::Timestamp;

/// In so many rows the header is looked for.
pub(super) const MAX_HEADER_ROWS: u64 = 30;

/// From here on a binary fraction does not keep every digit of a number.
const MAX_EXACT_NUMBER: f64 = 1e15;

/// Names of a header that a message lists.
const MAX_LISTED_NAMES: usize = 20;

/// How a number is shown in its cell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum NumberFormat {
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
fn strip_layout(code: &str) -> String {
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

impl NumberFormat {
    /// Reads a format's code, of which the first section is for positive numbers.
    pub(super) fn parse(code: &str) -> Self {
        let code = strip_layout(code);
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

    fn format(self, value: f64) -> String {
        let plain = format!("{value}");
        match self {
            Self::General | Self::Other => plain,
            Self::Padded { digits, decimals } => {
                let width = digits + usize::from(decimals > 0) + decimals;
                let padded = format!("{value:0width$.decimals$}");
                // A cell may show less than it holds; of a name nothing may be rounded away.
                if padded.parse() == Ok(value) {
                    padded
                } else {
                    plain
                }
            }
        }
    }
}

/// What stands in a row under one name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TableCell<'a> {
    /// Nothing.
    Empty,
    /// Text, however it looks.
    Text(Cow<'a, str>),
    /// A number of a workbook.
    Number(f64, NumberFormat),
    /// What is neither: `#N/A`, `TRUE`, a date.
    Other(Cow<'a, str>),
    /// A formula that was never calculated: its stored value is a placeholder.
    UncalculatedFormula,
    /// A formula without a stored value.
    FormulaWithoutValue,
    /// A formula whose stored value is an empty text, which some programs store for every formula.
    EmptyFormula,
    /// One of several cells that are merged, of which it is not certain what each stands for.
    Merged,
}

/// The cure of a formula that has no value to read.
const SAVE_VALUES_ADVICE: &str =
    "open the file in Excel or LibreOffice and save it, or export it with values";

impl TableCell<'_> {
    /// As it is shown to people.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            TableCell::Empty | TableCell::EmptyFormula => "".into(),
            TableCell::UncalculatedFormula | TableCell::FormulaWithoutValue => "(formula)".into(),
            TableCell::Merged => "(merged)".into(),
            TableCell::Text(text) | TableCell::Other(text) => text.as_ref().into(),
            TableCell::Number(value, shown) => shown.format(*value).into(),
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            TableCell::Empty | TableCell::EmptyFormula => true,
            TableCell::Text(text) => trim_blanks(text).is_empty(),
            TableCell::Number(_, _)
            | TableCell::Other(_)
            | TableCell::UncalculatedFormula
            | TableCell::FormulaWithoutValue
            | TableCell::Merged => false,
        }
    }

    /// The same cell with a text of its own.
    pub(super) fn into_owned(self) -> TableCell<'static> {
        match self {
            TableCell::Text(text) => TableCell::Text(Cow::Owned(text.into_owned())),
            TableCell::Other(text) => TableCell::Other(Cow::Owned(text.into_owned())),
            TableCell::Number(value, shown) => TableCell::Number(value, shown),
            TableCell::Empty => TableCell::Empty,
            TableCell::UncalculatedFormula => TableCell::UncalculatedFormula,
            TableCell::FormulaWithoutValue => TableCell::FormulaWithoutValue,
            TableCell::EmptyFormula => TableCell::EmptyFormula,
            TableCell::Merged => TableCell::Merged,
        }
    }
}

/// How many cells there are up to the last that is not blank.
pub(super) fn used_width(cells: &[TableCell<'_>]) -> usize {
    cells
        .iter()
        .rposition(|cell| !cell.is_blank())
        .map_or(0, |last| last + 1)
}

/// Looks for the header, row by row.
pub(super) struct HeaderSearch<'r> {
    reading: &'r ReadSettings,
    /// The row that came nearest: what it lacks, and what it has.
    nearest: Option<(Vec<String>, Vec<String>)>,
}

impl<'r> HeaderSearch<'r> {
    pub(super) fn new(reading: &'r ReadSettings) -> Self {
        Self {
            reading,
            nearest: None,
        }
    }

    /// Returns the table, if this row is its header.
    ///
    /// # Errors
    /// The row is the header, but two of its columns fit alike.
    pub(super) fn try_header(
        &mut self,
        cells: &[TableCell<'_>],
    ) -> Result<Option<StockTable<'r>>, FormatError> {
        let width = used_width(cells);
        let names: Vec<String> = cells
            .iter()
            .take(width)
            .map(|cell| cell.text().into_owned())
            .collect();
        let reading = self.reading;
        let columns = [
            (StockField::Sku, &reading.sku),
            (StockField::Quantity, &reading.quantity),
            (StockField::Warehouse, &reading.warehouse),
            (StockField::Reserve, &reading.reserve),
            (StockField::UpdatedAt, &reading.updated_at),
        ];
        let mut found = [None; 5];
        let mut missing = Vec::new();
        let mut ambiguous = None;
        for ((field, named), at) in columns.into_iter().zip(&mut found) {
            // The time is read only where a setting names it.
            if field == StockField::UpdatedAt && named.is_none() {
                continue;
            }
            match choose(field, names.iter().map(String::as_str), named.as_deref()) {
                AliasMatch::Position(column) => *at = Some(column),
                AliasMatch::None => missing.extend(missing_column(field, named.as_deref())),
                AliasMatch::Ambiguous(columns) => {
                    ambiguous = ambiguous.or(Some(ambiguous_columns(field, &columns, &names)));
                }
            }
        }
        if !missing.is_empty() {
            self.record_nearest(missing, cells);
            return Ok(None);
        }
        if let Some(reason) = ambiguous {
            return Err(FormatError::Unusable(reason));
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
            |name: &String| choose(StockField::Quantity, [name.as_str()], None) != AliasMatch::None;
        let other_quantities = (0..names.len())
            .filter(|at| *at != quantity && reading.quantity.is_none() && !is_market)
            .filter(|at| names.get(*at).is_some_and(is_quantity))
            .collect();
        Ok(Some(StockTable {
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
            is_encoding_uncertain: false,
            contradiction: None,
            has_rows: false,
            names_warehouses: false,
            other_quantities,
            max_quantities: (None, None),
            skipped_totals: StdCell::default(),
            previous_row: RefCell::default(),
        }))
    }

    fn record_nearest(&mut self, missing: Vec<String>, cells: &[TableCell<'_>]) {
        let found: Vec<String> = cells
            .iter()
            .filter(|cell| !cell.is_blank())
            .map(|cell| {
                trim_blanks(&cell.text())
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
    pub(super) fn no_header_error(&self) -> FormatError {
        let (missing, found) = match &self.nearest {
            Some((missing, found)) => (missing.clone(), found.as_slice()),
            None => (Vec::new(), [].as_slice()),
        };
        if found.is_empty() {
            return FormatError::Unusable(
                "there is no row in it that could be a header".to_owned(),
            );
        }
        FormatError::Unusable(format!(
            "none of the first {MAX_HEADER_ROWS} rows is a header: there is no column for {}; \
             the nearest row has {}",
            missing.join(", nor for "),
            list_names(found),
        ))
    }
}

/// Describes a column that a table must have and this one has not.
fn missing_column(field: StockField, named: Option<&str>) -> Option<String> {
    let (what, setting) = (field.label(), field.setting());
    match named {
        Some(named) => Some(format!("{what} ('{named}', by the setting {setting})")),
        None if matches!(field, StockField::Sku | StockField::Quantity) => Some(format!(
            "{what} ('{}', or set {setting})",
            field.names().join("', '")
        )),
        None => None,
    }
}

/// Describes columns of which any may be the field.
fn ambiguous_columns(field: StockField, columns: &[usize], names: &[String]) -> String {
    let (what, setting) = (field.label(), field.setting());
    let shown: Vec<String> = columns
        .iter()
        .map(|at| {
            format!(
                "{} '{}'",
                at + 1,
                trim_blanks(names.get(*at).map_or("", String::as_str))
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
fn list_names(names: &[String]) -> String {
    let shown: Vec<_> = names
        .iter()
        .take(MAX_LISTED_NAMES)
        .map(|name| format!("'{name}'"))
        .collect();
    let more = if names.len() > MAX_LISTED_NAMES {
        ", …"
    } else {
        ""
    };
    format!("{}{more}", shown.join(", "))
}

/// Whether a row has nothing in that column.
pub(super) fn is_blank_at(cells: &[TableCell<'_>], column: usize) -> bool {
    cells.get(column).is_none_or(TableCell::is_blank)
}

/// The columns in which merged cells matter, from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableColumns {
    pub(super) sku: usize,
    pub(super) quantity: usize,
    pub(super) warehouse: Option<usize>,
    pub(super) reserve: Option<usize>,
}

/// The product of the row above, and the sums of the rows so far.
#[derive(Debug, Default)]
struct PreviousRow {
    /// Its SKU; empty if the row above is of no product.
    sku: String,
    /// Thousandths of all rows.
    sum: i64,
    /// Thousandths of the rows since the latest row without a SKU.
    group_sum: i64,
}

impl PreviousRow {
    fn record(&mut self, sku: &str, quantity: Option<Quantity>) {
        self.sku.clear();
        self.sku.push_str(sku);
        let thousandths = quantity.map_or(0, Quantity::thousandths);
        self.sum = self.sum.saturating_add(thousandths);
        self.group_sum = self.group_sum.saturating_add(thousandths);
    }

    fn clear(&mut self) {
        self.sku.clear();
    }

    /// The SKU that a row without one may be of; none if its quantity is the sum of rows above, as
    /// reports write it.
    fn sku_for_blank_row(&mut self, quantity: Option<Quantity>) -> Option<String> {
        let is_sum =
            quantity.is_some_and(|it| [self.sum, self.group_sum].contains(&it.thousandths()));
        self.group_sum = 0;
        if is_sum {
            self.clear();
        }
        (!self.sku.is_empty()).then(|| self.sku.clone())
    }
}

/// A table whose columns are known.
#[derive(Debug)]
pub(super) struct StockTable<'r> {
    reading: &'r ReadSettings,
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
    is_encoding_uncertain: bool,
    /// Why the table cannot be read by its header, as later rows show.
    contradiction: Option<String>,
    /// Some row was learnt.
    has_rows: bool,
    /// Some row names its warehouse.
    names_warehouses: bool,
    /// Other columns that are known as quantities.
    other_quantities: Vec<usize>,
    /// The greatest of the quantity's column, and of those others, in pieces.
    max_quantities: (Option<i64>, Option<i64>),
    /// Rows left out because their SKU is the word for a total: how many, and the first one.
    skipped_totals: StdCell<(u64, u64)>,
    /// The row above, which a row without a SKU may belong to.
    previous_row: RefCell<PreviousRow>,
}

impl StockTable<'_> {
    pub(super) fn columns(&self) -> TableColumns {
        let Self {
            sku,
            quantity,
            warehouse,
            reserve,
            ..
        } = *self;
        TableColumns {
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
    pub(super) fn fits_row(&self, cells: &[TableCell<'_>]) -> bool {
        let is_number = match cells.get(self.quantity) {
            Some(TableCell::Number(..)) => true,
            Some(TableCell::Text(text)) => matches!(
                self.reading.parse_quantity(text),
                Ok(Some(_)) | Err(QuantityError::Ambiguous(_))
            ),
            Some(_) | None => false,
        };
        is_number && self.readable_sku(cells).is_some()
    }

    /// Notes how many fields a row has. Every row comes here before the first one is put.
    pub(super) fn record_field_count(&mut self, cells: &[TableCell<'_>]) {
        if !is_blank_at(cells, self.sku) && !is_blank_at(cells, self.quantity) {
            let fewest = self
                .fewest_fields
                .map_or(cells.len(), |fewest| fewest.min(cells.len()));
            self.fewest_fields = Some(fewest);
        }
    }

    /// The most fields that a row may have: those of the header, and empty ones that every row has
    /// behind them.
    pub(super) fn max_fields(&self) -> usize {
        self.header_fields
            .max(self.fewest_fields.unwrap_or_default())
    }

    /// Notes that the encoding was assumed, which a header in Cyrillic proves.
    pub(super) fn note_assumed_encoding(&mut self) {
        let is_known = |field| {
            let is_cyrillic = |name: &&String| !name.is_ascii();
            let names = self.names.iter().filter(is_cyrillic).map(String::as_str);
            choose(field, names, None) != AliasMatch::None
        };
        self.is_encoding_uncertain =
            ![StockField::Sku, StockField::Quantity, StockField::Warehouse]
                .into_iter()
                .any(is_known);
    }

    /// Checks what was learnt of all rows.
    ///
    /// # Errors
    /// A later row is a header of other columns.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        if let Some(reason) = &self.contradiction {
            return Err(FormatError::Unusable(reason.clone()));
        }
        match self.max_quantities {
            // A flag in a column whose name stands for the stock without its reserve.
            (Some(0..=1), Some(2..)) => Err(FormatError::Unusable(format!(
                "column '{}' has nothing but 0 and 1, and another column of quantities has more: set \
                 quantity to the name of the one that is meant",
                trim_blanks(self.names.get(self.quantity).map_or("", String::as_str)),
            ))),
            _ => Ok(()),
        }
    }

    /// Learns which of a row's cells contradict the header.
    fn learn_contradiction(&mut self, line: u64, cells: &[TableCell<'_>]) {
        if used_width(cells) == 0 || self.contradiction.is_some() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_rows, true);
        let shown = || {
            let names = cells
                .iter()
                .take(used_width(cells))
                .map(|cell| trim_blanks(&cell.text()).to_owned());
            list_names(&names.collect::<Vec<_>>())
        };
        if self.compare_header(cells) == Some(false) {
            self.contradiction = Some(format!(
                "row {line} is a header too, of other columns: it has {}, and the columns are read \
                 by the header with {}: leave one table in the file",
                shown(),
                list_names(&self.names)
            ));
        } else if is_first && self.continues_header(cells) {
            self.contradiction = Some(format!(
                "row {line} goes on with the header: it has {} below {}: name each column in one row",
                shown(),
                list_names(&self.names)
            ));
        }
    }

    /// Whether the first row names the columns into which the header's quantity is divided.
    fn continues_header(&self, cells: &[TableCell<'_>]) -> bool {
        let is_name = |at: usize| match cells.get(at) {
            Some(TableCell::Text(text)) => {
                trim_blanks(text).starts_with(char::is_alphabetic)
                    && self.reading.parse_quantity(text).is_err()
            }
            Some(_) | None => false,
        };
        let is_unnamed = |at: usize| {
            self.names
                .get(at)
                .is_none_or(|name| trim_blanks(name).is_empty())
        };
        let has_no_sku = match cells.get(self.sku) {
            Some(TableCell::Text(text)) => !text.contains(char::is_alphanumeric),
            Some(cell) => cell.is_blank(),
            None => true,
        };
        is_name(self.quantity)
            && (has_no_sku || (is_unnamed(self.quantity + 1) && is_name(self.quantity + 1)))
    }

    /// Learns how many pieces the quantity's column has at most, and the others that may be it.
    fn learn_max_quantities(&mut self, cells: &[TableCell<'_>]) {
        let pieces = |at: usize| match cells.get(at) {
            Some(TableCell::Number(value, _)) => Quantity::parse(&format!("{value}"), None).ok(),
            Some(TableCell::Text(text)) => Quantity::parse(text, None).ok(),
            Some(_) | None => None,
        };
        let own = pieces(self.quantity).map(Quantity::pieces);
        let others = self.other_quantities.iter().filter_map(|at| pieces(*at));
        self.max_quantities.0 = self.max_quantities.0.max(own);
        self.max_quantities.1 = self
            .max_quantities
            .1
            .max(others.map(Quantity::pieces).max());
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
        let name = trim_blanks(self.names.iter().find(is_reserve)?);
        Some(format!(
            "column '{name}' is not subtracted from '{}': set reserve = \"{name}\" if that includes it",
            trim_blanks(quantity)
        ))
    }

    /// Names the rows that were left out as totals.
    fn totals_notice(&self) -> Option<String> {
        let (count, first) = self.skipped_totals.get();
        (count > 0).then(|| {
            format!(
                "{count} rows are left out because their SKU or warehouse is the word for a total, the \
                 first of them is row {first}"
            )
        })
    }

    /// Whether a row is a header itself: of the same columns, or of others.
    fn compare_header(&self, cells: &[TableCell<'_>]) -> Option<bool> {
        let is_text = |at: usize| match cells.get(at) {
            Some(TableCell::Text(text)) => trim_blanks(text).starts_with(char::is_alphabetic),
            Some(_) | None => false,
        };
        // Every row comes here: one with a number for its quantity, as nearly all have, is no header.
        let is_blank = cells.get(self.quantity).is_none_or(TableCell::is_blank);
        let may_be_header = is_text(self.quantity) || (is_blank && is_text(self.sku));
        if !may_be_header {
            return None;
        }
        if let Some(other) = HeaderSearch::new(self.reading)
            .try_header(cells)
            .ok()
            .flatten()
        {
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
    pub(super) fn learn(&mut self, line: u64, cells: &[TableCell<'_>]) {
        for column in [Some(self.quantity), self.reserve].into_iter().flatten() {
            if let Some(TableCell::Text(text)) = cells.get(column) {
                self.style.learn(text);
            }
        }
        let has_padded = match cells.get(self.sku) {
            Some(TableCell::Text(text)) => has_leading_zeros(text),
            Some(TableCell::Number(value, shown)) => has_leading_zeros(&shown.format(*value)),
            Some(_) | None => false,
        };
        if has_padded {
            self.expect_padded_skus();
        }
        self.names_warehouses |= self.warehouse.is_some_and(|at| !is_blank_at(cells, at));
        self.learn_contradiction(line, cells);
        if !self.other_quantities.is_empty() {
            self.learn_max_quantities(cells);
        }
    }

    /// Describes how the table is read.
    pub(super) fn describe(&self, shape: &mut FileShape) {
        let name =
            |at: usize| trim_blanks(self.names.get(at).map_or("", String::as_str)).to_owned();
        let all: Vec<_> = (0..self.width())
            .map(name)
            .filter(|name| !name.is_empty())
            .collect();
        shape.set("columns", list_names(&all));
        shape.set("sku", name(self.sku));
        shape.set("why", self.sku_column_reason());
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
    fn sku_column_reason(&self) -> String {
        if self.reading.sku.is_some() {
            return "the setting sku names it".to_owned();
        }
        let is_known =
            |name: &&String| choose(StockField::Sku, [name.as_str()], None) != AliasMatch::None;
        let others: Vec<String> = self
            .names
            .iter()
            .enumerate()
            .filter(|(at, name)| *at != self.sku && is_known(name))
            .map(|(_, name)| format!("'{}'", trim_blanks(name)))
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
    pub(super) fn emit_row(
        &self,
        line: u64,
        cells: &[TableCell<'_>],
        describe_row: &dyn Fn() -> String,
        sink: Sink<'_>,
    ) -> Result<(), DeliveryCancelled> {
        match self.parse_row(line, cells) {
            Ok(None) => {
                self.previous_row.borrow_mut().clear();
                Ok(())
            }
            Ok(Some(row)) => {
                let (ProductKey::Sku(sku) | ProductKey::Id(sku)) = &row.key;
                self.previous_row.borrow_mut().record(sku, row.quantity);
                sink(DeliveryEntry::Row(row))
            }
            Err(problem) => {
                let sku = self.readable_sku(cells);
                let mut entry = problem.into_entry(line, &describe_row(), sku);
                if let DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) =
                    &mut entry
                {
                    let mut previous = self.previous_row.borrow_mut();
                    match &fault.sku {
                        Some(sku) => previous.record(sku, None),
                        None if is_blank_at(cells, self.sku) => {
                            let quantity = self.parse_quantity(
                                cells.get(self.quantity).unwrap_or(&TableCell::Empty),
                                false,
                            );
                            fault.possible_sku =
                                previous.sku_for_blank_row(quantity.ok().flatten());
                        }
                        None => previous.clear(),
                    }
                }
                sink(entry)
            }
        }
    }

    /// Notes a row that was not put: it is blank, or its fields are shifted or cut.
    pub(super) fn skip_row(&self) {
        self.previous_row.borrow_mut().clear();
    }

    /// The SKU of a row that is not applied, if that much is certain.
    pub(super) fn readable_sku(&self, cells: &[TableCell<'_>]) -> Option<String> {
        cells
            .get(self.sku)
            .and_then(|cell| self.parse_sku(cell).ok())
    }

    /// What a row says; `None` if nothing.
    fn parse_row(&self, line: u64, cells: &[TableCell<'_>]) -> Result<Option<Row>, RowProblem> {
        let cell_at = |column: usize| cells.get(column).unwrap_or(&TableCell::Empty);
        let optional_cell = |column: Option<usize>| column.map_or(&TableCell::Empty, cell_at);
        let quantity_cell = cell_at(self.quantity);
        if cell_at(self.sku).is_blank() {
            // Groups and totals of 1C: neither is of any product.
            if quantity_cell.is_blank() || cells.iter().any(starts_with_total) {
                return Ok(None);
            }
            let text = quantity_cell.text();
            return Err(RowProblem::Rejected(format!(
                "sku is empty, and quantity is '{text}'"
            )));
        }
        if is_total_label(cell_at(self.sku)) {
            self.count_total(line);
            return Ok(None);
        }
        if self.compare_header(cells) == Some(true) {
            return Ok(None);
        }
        if is_column_numbering(cells) {
            return Err(RowProblem::Suspicious(
                "the row has the numbers of the columns, 1, 2, 3: delete it".to_owned(),
            ));
        }
        let warehouse = optional_cell(self.warehouse);
        if is_all_warehouses(warehouse) {
            self.count_total(line);
            return Ok(None);
        }
        if warehouse.is_blank() && self.names_warehouses && !quantity_cell.is_blank() {
            return Err(RowProblem::Suspicious(
                "warehouse is empty, and other rows name one: fill the cell, or delete the column"
                    .to_owned(),
            ));
        }
        let row = Row {
            line,
            key: ProductKey::Sku(self.parse_sku(cell_at(self.sku))?),
            warehouse: parse_warehouse(warehouse)?,
            quantity: self.parse_quantity(quantity_cell, false)?,
            reserve: self
                .parse_quantity(optional_cell(self.reserve), true)
                .map_err(|problem| problem.of_field("reserve"))?,
            stated_at: parse_updated_at(optional_cell(self.updated_at))?,
        };
        Ok(Some(row))
    }

    fn count_total(&self, line: u64) {
        let (count, first) = self.skipped_totals.get();
        self.skipped_totals
            .set((count + 1, if count == 0 { line } else { first }));
    }

    fn parse_quantity(
        &self,
        cell: &TableCell<'_>,
        is_reserve: bool,
    ) -> Result<Option<Quantity>, RowProblem> {
        let (text, style) = match cell {
            TableCell::EmptyFormula if self.reading.zeroes_empty_quantities && !is_reserve => {
                return Err(RowProblem::Suspicious(format!(
                    "quantity is a formula whose stored value is empty, which may be a placeholder: \
                     {SAVE_VALUES_ADVICE}"
                )));
            }
            TableCell::Empty | TableCell::EmptyFormula => ("".into(), self.style),
            TableCell::Text(text) => (text.as_ref().into(), self.style),
            // Its digits, whatever the cell shows of them: the noise in them is `Quantity`'s.
            TableCell::Number(value, _) => (Cow::from(format!("{value}")), NumberStyle::LITERAL),
            TableCell::Other(text) => {
                let reason = format!("quantity is '{text}', it must be a number");
                return Err(RowProblem::Rejected(reason));
            }
            TableCell::UncalculatedFormula | TableCell::FormulaWithoutValue => {
                return Err(formula_problem(cell, "quantity"));
            }
            TableCell::Merged => {
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
        check_decodable(&text, "quantity")?;
        if is_reserve {
            Ok(self.reading.parse_reserve(&text, style)?)
        } else {
            Ok(self.reading.parse_column_quantity(&text, style)?)
        }
    }

    /// The SKU as its cell shows it.
    ///
    /// A number without decimals is its digits, as the cell shows them: that is what the file
    /// says. Only where other SKUs of the column have zeros before their digits may this one have
    /// lost its own.
    fn parse_sku(&self, cell: &TableCell<'_>) -> Result<String, RowProblem> {
        match cell {
            TableCell::Empty | TableCell::EmptyFormula | TableCell::Merged => {
                Err(RowProblem::Rejected("sku is empty".to_owned()))
            }
            TableCell::UncalculatedFormula | TableCell::FormulaWithoutValue => {
                Err(formula_problem(cell, "sku"))
            }
            TableCell::Other(text) => Err(RowProblem::Suspicious(format!(
                "sku is '{text}', as a spreadsheet writes a date, a truth value or an error: make \
                 its cell text"
            ))),
            TableCell::Text(text) => {
                check_decodable(text, "sku")?;
                let sku = self.reading.parse_sku(text)?;
                if self.is_encoding_uncertain && !sku.is_ascii() {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is '{sku}' if the file is in windows-1251, which nothing in it proves: set \
                         encoding"
                    )));
                }
                Ok(sku)
            }
            TableCell::Number(value, _)
                if !value.is_finite() || value.abs() >= MAX_EXACT_NUMBER =>
            {
                Err(RowProblem::Suspicious(format!(
                    "sku is the number {value}, whose last digits are lost: make its cell text"
                )))
            }
            TableCell::Number(value, shown) => {
                let sku = shown.format(*value);
                if self.reading.accepts_suspicious_skus {
                    return Ok(sku);
                }
                let is_general = *shown == NumberFormat::General;
                if is_general && value.fract() != 0.0 {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is the number {sku}, and zeros behind it may have been lost: make its \
                         cell text, or set suspicious_sku = \"take\""
                    )));
                }
                let has_decimals = matches!(shown, NumberFormat::Padded { decimals: 1.., .. });
                if *shown == NumberFormat::Other || (has_decimals && value.fract() == 0.0) {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is the number {value}, and its cell shows it in a format of its own: make \
                         its cell text, or set suspicious_sku = \"take\""
                    )));
                }
                let keeps_zeros = matches!(shown, NumberFormat::Padded { digits: 2.., .. });
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
fn formula_problem(cell: &TableCell<'_>, field: &str) -> RowProblem {
    if *cell == TableCell::FormulaWithoutValue {
        RowProblem::Rejected(format!(
            "{field} is a formula without a stored value: {SAVE_VALUES_ADVICE}"
        ))
    } else {
        RowProblem::Suspicious(format!(
            "{field} is a formula that was never calculated, its stored value is a placeholder: \
             {SAVE_VALUES_ADVICE}"
        ))
    }
}

/// Refuses a field with bytes that are not characters of the file's encoding.
fn check_decodable(text: &str, field: &str) -> Result<(), RowProblem> {
    if !text.contains(UNDECODABLE) {
        return Ok(());
    }
    let readable_text = text.replace(UNDECODABLE, "\u{fffd}");
    Err(RowProblem::Rejected(format!(
        "{field} is '{readable_text}', with bytes that are not characters of the file's encoding"
    )))
}

/// Words for a total, and those that may stand beside them.
const TOTAL_WORDS: &[&str] = &["итого", "итог", "всего", "подытог", "total", "subtotal"];
const TOTAL_QUALIFIERS: &[&str] = &["общий", "промежуточный", "grand", "sub", "по", "за"];

/// Whether a cell holds nothing but the words for a total.
fn is_total_label(cell: &TableCell<'_>) -> bool {
    let TableCell::Text(text) = cell else {
        return false;
    };
    is_total_text(&trim_blanks(text).to_lowercase())
}

/// Whether a text in lower case is nothing but the words for a total.
fn is_total_text(text: &str) -> bool {
    let mut words = text.trim_end_matches(':').split_whitespace();
    words.clone().any(|word| TOTAL_WORDS.contains(&word))
        && words.all(|word| TOTAL_WORDS.contains(&word) || TOTAL_QUALIFIERS.contains(&word))
}

/// Whether a cell of the warehouse's column is the total of all warehouses. Every row comes here.
fn is_all_warehouses(cell: &TableCell<'_>) -> bool {
    const ALL_WAREHOUSES: [&str; 3] = ["все склады", "по всем складам", "all warehouses"];
    let TableCell::Text(text) = cell else {
        return false;
    };
    let text = trim_blanks(text).to_lowercase();
    ALL_WAREHOUSES.contains(&text.as_str()) || is_total_text(&text)
}

/// Whether a row numbers the columns of a form: 1, 2, 3 from its first cell on. Every row comes here.
fn is_column_numbering(cells: &[TableCell<'_>]) -> bool {
    let has_number = |cell: &TableCell<'_>, number: u32| match cell {
        TableCell::Text(text) => trim_blanks(text).parse() == Ok(number),
        TableCell::Number(value, _) => *value == f64::from(number),
        TableCell::Empty
        | TableCell::Other(_)
        | TableCell::UncalculatedFormula
        | TableCell::FormulaWithoutValue
        | TableCell::EmptyFormula
        | TableCell::Merged => false,
    };
    let width = used_width(cells);
    width >= 3
        && (1..)
            .zip(cells.iter().take(width))
            .all(|(number, cell)| has_number(cell, number))
}

/// Whether a cell begins with the words for a total.
fn starts_with_total(cell: &TableCell<'_>) -> bool {
    let TableCell::Text(text) = cell else {
        return false;
    };
    let text = trim_blanks(text).to_lowercase();
    let mut words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty());
    words
        .find(|word| !TOTAL_QUALIFIERS.contains(word))
        .is_some_and(|word| TOTAL_WORDS.contains(&word))
}

fn parse_warehouse(cell: &TableCell<'_>) -> Result<Option<String>, RowProblem> {
    if let TableCell::Other(text) = cell {
        let reason = format!("warehouse is '{text}', its cell must be text");
        return Err(RowProblem::Rejected(reason));
    }
    let text = cell.text();
    check_decodable(&text, "warehouse")?;
    let warehouse = text.trim();
    Ok((!warehouse.is_empty()).then(|| warehouse.to_owned()))
}

fn parse_updated_at(cell: &TableCell<'_>) -> Result<Option<Timestamp>, String> {
    if cell.is_blank() {
        return Ok(None);
    }
    let text = cell.text();
    let timestamp = DateTime::parse_from_rfc3339(text.trim()).map_err(|_| {
        format!("time is '{text}', it must be like 2026-11-22T10:00:00+03:00, with its offset")
    })?;
    Ok(Some(Timestamp::from(timestamp.with_timezone(&Utc))))
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
            assert_eq!(
                NumberFormat::parse(code).format(value),
                shown,
                "{code}: {value}"
            );
        }
        for code in ["\"TEA-\"0000", "000-000", "00000\\-0000", "0%", "0 \"шт\""] {
            assert_eq!(NumberFormat::parse(code), NumberFormat::Other, "{code}");
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
            let reading = ReadSettings {
                reserve: reserve.map(str::to_owned),
                ..ReadSettings::default()
            };
            let cells = names.map(|name| TableCell::Text(name.into()));
            let table = HeaderSearch::new(&reading)
                .try_header(&cells)
                .unwrap()
                .unwrap();
            assert_eq!(table.notices().count() == 1, is_noticed, "{names:?}");
        }
    }

    #[test]
    fn quantity_divided_into_columns_is_refused() {
        let reading = ReadSettings::default();
        let row = |texts: &[&'static str]| -> Vec<TableCell<'static>> {
            let cell = |text: &&'static str| match *text {
                "" => TableCell::Empty,
                text => TableCell::Text(text.into()),
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
            let mut table = HeaderSearch::new(&reading)
                .try_header(&header)
                .unwrap()
                .unwrap();
            table.learn(2, &row(first));
            table.learn(3, &row(&["A-2", "x", "Москва", "СПб"]));
            assert_eq!(table.check().is_err(), is_refused, "{first:?}");
        }
    }

    #[test]
    fn formula_with_an_empty_text_is_no_zero() {
        for zeroes_empties in [false, true] {
            let reading = ReadSettings {
                zeroes_empty_quantities: zeroes_empties,
                ..ReadSettings::default()
            };
            let text = |text: &'static str| TableCell::Text(text.into());
            let table = HeaderSearch::new(&reading)
                .try_header(&[text("sku"), text("stock")])
                .unwrap()
                .unwrap();
            let empty = table
                .parse_row(2, &[text("A-1"), TableCell::Empty])
                .unwrap()
                .unwrap();
            assert_eq!(empty.quantity, zeroes_empties.then_some(Quantity::ZERO));
            let formula = table.parse_row(3, &[text("A-2"), TableCell::EmptyFormula]);
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
        let text = |text: &'static str| TableCell::Text(text.into());
        for total in [
            "Итого",
            "Итого:",
            "Общий итог",
            "ВСЕГО",
            "Grand Total",
            "Subtotal",
            "Подытог",
        ] {
            assert!(is_total_label(&text(total)), "{total}");
        }
        for product in ["Итого: 1 позиция", "TOTAL-5", "Общий", "Тотал"] {
            assert!(!is_total_label(&text(product)), "{product}");
        }
    }
}

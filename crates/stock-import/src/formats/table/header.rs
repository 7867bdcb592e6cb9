//! Search for the header of a table: chooses the column of each field, and explains missing and
//! ambiguous columns.

use std::cell::{Cell as StdCell, RefCell};

use super::cell::{TableCell, used_width};
use super::{MAX_LISTED_NAMES, StockTable, TableColumns};
use crate::ReadSettings;
use crate::aliases::{
    AVAILABLE_FOR_ORDER, AliasMatch, COUNT, StockField, WAREHOUSE_AND_SHOP, choose, normalize,
};
use crate::formats::decode::UNDECODABLE;
use crate::formats::{FormatError, list_names};
use crate::quantity::{NumberStyle, trim_blanks};

/// Number of rows that are searched for the header.
pub(in crate::formats) const MAX_HEADER_ROWS: u64 = 30;

/// Search for the header, row by row.
pub(in crate::formats) struct HeaderSearch<'r> {
    reading: &'r ReadSettings,
    /// The most similar row: the descriptions of its missing columns, and its names.
    nearest: Option<(Vec<String>, Vec<String>)>,
}

impl<'r> HeaderSearch<'r> {
    pub(in crate::formats) fn new(reading: &'r ReadSettings) -> Self {
        Self {
            reading,
            nearest: None,
        }
    }

    /// Returns the table if this row is its header.
    ///
    /// # Errors
    /// The row is the header, but two of its columns match the same field equally well.
    pub(in crate::formats) fn try_header(
        &mut self,
        cells: &[TableCell<'_>],
    ) -> Result<Option<StockTable<'r>>, FormatError> {
        let width = used_width(cells);
        let names = cells
            .iter()
            .take(width)
            .map(|cell| cell.text().into_owned());
        let names: Vec<String> = names.collect();
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
            // The time is read only if a setting names its column.
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
        // In the Market's own sheet, the quantity already excludes the reserve.
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
            columns: TableColumns {
                sku,
                quantity,
                warehouse,
                reserve,
            },
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
            is_market,
            max_quantities: (None, None),
            skipped_totals: StdCell::default(),
            previous_row: RefCell::default(),
        }))
    }

    fn record_nearest(&mut self, missing: Vec<String>, cells: &[TableCell<'_>]) {
        let shorten = |cell: &TableCell<'_>| {
            let text = trim_blanks(&cell.text()).replace(UNDECODABLE, "\u{fffd}");
            text.chars().take(40).collect()
        };
        let found = cells.iter().filter(|cell| !cell.is_blank());
        let found: Vec<String> = found.map(shorten).collect();
        let is_nearer = self
            .nearest
            .as_ref()
            .is_none_or(|(least, most)| (missing.len(), most.len()) < (least.len(), found.len()));
        if is_nearer {
            self.nearest = Some((missing, found));
        }
    }

    /// Returns true if this search found a row with more names than the other search.
    pub(in crate::formats) fn is_nearer_than(&self, other: &Self) -> bool {
        let found = |search: &Self| search.nearest.as_ref().map_or(0, |(_, found)| found.len());
        found(self) > found(other)
    }

    /// Creates the error of a table without a header.
    pub(in crate::formats) fn no_header_error(&self) -> FormatError {
        FormatError::Unusable(match &self.nearest {
            Some((missing, found)) if !found.is_empty() => format!(
                "none of the first {MAX_HEADER_ROWS} rows is a header: no column for {}; the most \
                 similar row has {}",
                missing.join(", nor for "),
                list_names(found, MAX_LISTED_NAMES),
            ),
            Some(_) | None => {
                format!("the table has no header: its first {MAX_HEADER_ROWS} rows are empty")
            }
        })
    }
}

/// Describes a missing column; `None` if the table may do without it.
fn missing_column(field: StockField, named: Option<&str>) -> Option<String> {
    let (label, setting) = (field.label(), field.setting());
    match named {
        Some(named) => Some(format!("{label} ('{named}' in the setting {setting})")),
        None if matches!(field, StockField::Sku | StockField::Quantity) => Some(format!(
            "{label} ('{}', or set {setting})",
            field.names().join("', '")
        )),
        None => None,
    }
}

/// Describes columns that match the same field, with the cure.
fn ambiguous_columns(field: StockField, columns: &[usize], names: &[String]) -> String {
    let (label, setting) = (field.label(), field.setting());
    let named = columns
        .iter()
        .filter_map(|at| Some((at + 1, names.get(*at)?)));
    let listed: Vec<String> = named
        .clone()
        .map(|(number, name)| format!("{number} '{}'", trim_blanks(name)))
        .collect();
    let mut normalized: Vec<_> = named.map(|(_, name)| normalize(name)).collect();
    normalized.dedup();
    let cure = if normalized.len() > 1 {
        format!("set {setting} to the name of the right one")
    } else {
        format!("rename one, or set {setting} to another column")
    };
    format!(
        "columns {} may each be {label}: {cure}",
        listed.join(" and ")
    )
}

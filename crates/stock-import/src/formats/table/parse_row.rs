//! Second pass over a table: converts a row to an entry. Skips groups, totals and repeated headers,
//! and rejects cells whose value is uncertain.

use std::borrow::Cow;

use chrono::DateTime;
use stock::Timestamp;

use super::StockTable;
use super::cell::{NumberFormat, TableCell, is_blank_at, used_width};
use super::totals::{is_all_warehouses, is_total_label, starts_with_total};
use crate::formats::Sink;
use crate::formats::decode::UNDECODABLE;
use crate::quantity::{NumberStyle, Quantity, trim_blanks};
use crate::{DeliveryCancelled, DeliveryEntry, ProductKey, Row, RowProblem};

/// Numbers from here on lose digits as `f64`.
const MAX_EXACT_NUMBER: f64 = 1e15;

/// Advice for a formula without a usable value.
const SAVE_VALUES_ADVICE: &str =
    "open the file in Excel or LibreOffice and save it, or export it with values";

/// The SKU of the previous row, and the sums of the rows so far.
#[derive(Debug, Default)]
pub(super) struct PreviousRow {
    /// Empty if the previous row is not a product.
    sku: String,
    /// Sum of all rows, in thousandths of a piece.
    sum: i64,
    /// Sum of the rows since the latest row without a SKU, in thousandths of a piece.
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

    /// Returns the SKU to which a row without a SKU may belong; `None` if its quantity is the sum
    /// of previous rows, as in the total rows of reports.
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

impl StockTable<'_> {
    /// Passes the entry of a row to the sink, if it has one. `describe_row` returns its original
    /// text.
    ///
    /// # Errors
    /// The sink cancels the delivery.
    pub(in crate::formats) fn emit_row(
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
                let mut previous = self.previous_row.borrow_mut();
                previous.record(row.key.text(), row.quantity);
                drop(previous);
                sink(DeliveryEntry::Row(row))
            }
            Err(problem) => {
                let sku = self.readable_sku(cells);
                let mut entry = problem.into_entry(line, &describe_row(), sku);
                if let Some(rejected) = entry.rejected_mut() {
                    let mut previous = self.previous_row.borrow_mut();
                    match &rejected.sku {
                        Some(sku) => previous.record(sku, None),
                        None if is_blank_at(cells, self.columns.sku) => {
                            let quantity = cells
                                .get(self.columns.quantity)
                                .unwrap_or(&TableCell::Empty);
                            let quantity = self.parse_quantity(quantity, false).ok();
                            rejected.possible_sku = previous.sku_for_blank_row(quantity.flatten());
                        }
                        None => previous.clear(),
                    }
                }
                sink(entry)
            }
        }
    }

    /// Records a row that is not emitted because it is blank, shifted or truncated.
    pub(in crate::formats) fn skip_row(&self) {
        self.previous_row.borrow_mut().clear();
    }

    /// Returns the SKU of a row that is not applied, if it is certain.
    pub(in crate::formats) fn readable_sku(&self, cells: &[TableCell<'_>]) -> Option<String> {
        self.parse_sku(cells.get(self.columns.sku)?).ok()
    }

    /// Parses a row; `None` if it has no stock, such as a group or a total.
    fn parse_row(&self, line: u64, cells: &[TableCell<'_>]) -> Result<Option<Row>, RowProblem> {
        let cell_at = |column: usize| cells.get(column).unwrap_or(&TableCell::Empty);
        let optional_cell = |column: Option<usize>| column.map_or(&TableCell::Empty, cell_at);
        let (sku_cell, quantity_cell) = (cell_at(self.columns.sku), cell_at(self.columns.quantity));
        if sku_cell.is_blank() {
            // Group and total rows of 1C are not products.
            if quantity_cell.is_blank() || cells.iter().any(starts_with_total) {
                return Ok(None);
            }
            let text = quantity_cell.text();
            return Err(RowProblem::Rejected(format!(
                "sku is empty, and quantity is '{text}'"
            )));
        }
        if is_total_label(sku_cell) {
            self.count_total(line);
            return Ok(None);
        }
        if self.compare_header(cells) == Some(true) {
            return Ok(None);
        }
        if is_column_numbering(cells) {
            return Err(RowProblem::Suspicious(
                "the row numbers the columns (1, 2, 3): delete it".to_owned(),
            ));
        }
        let warehouse = optional_cell(self.columns.warehouse);
        if is_all_warehouses(warehouse) {
            self.count_total(line);
            return Ok(None);
        }
        if warehouse.is_blank() && self.names_warehouses && !quantity_cell.is_blank() {
            return Err(RowProblem::Suspicious(
                "warehouse is empty, but other rows name one: fill the cell, or delete the column"
                    .to_owned(),
            ));
        }
        let row = Row {
            line,
            key: ProductKey::Sku(self.parse_sku(sku_cell)?),
            warehouse: parse_warehouse(warehouse)?,
            quantity: self.parse_quantity(quantity_cell, false)?,
            reserve: self
                .parse_quantity(optional_cell(self.columns.reserve), true)
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
            // The stored digits, not the displayed ones; `Quantity` removes floating-point noise.
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
                     its own cell"
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

    /// Returns the SKU as its cell displays it.
    ///
    /// A number without decimals is a valid SKU. It may have lost leading zeros only if other SKUs
    /// of the column have them.
    fn parse_sku(&self, cell: &TableCell<'_>) -> Result<String, RowProblem> {
        match cell {
            TableCell::Empty | TableCell::EmptyFormula | TableCell::Merged => {
                Err(RowProblem::Rejected("sku is empty".to_owned()))
            }
            TableCell::UncalculatedFormula | TableCell::FormulaWithoutValue => {
                Err(formula_problem(cell, "sku"))
            }
            TableCell::Other(text) => Err(RowProblem::Suspicious(format!(
                "sku is '{text}', which is how a spreadsheet shows a date, a boolean or an error: \
                 format the cell as text"
            ))),
            TableCell::Text(text) => {
                check_decodable(text, "sku")?;
                let sku = self.reading.parse_sku(text)?;
                if self.is_encoding_uncertain && !sku.is_ascii() {
                    return Err(RowProblem::Suspicious(format!(
                        "sku is '{sku}' if the file is in windows-1251, but nothing in the file proves \
                         that: set encoding"
                    )));
                }
                Ok(sku)
            }
            TableCell::Number(value, _)
                if !value.is_finite() || value.abs() >= MAX_EXACT_NUMBER =>
            {
                Err(RowProblem::Suspicious(format!(
                    "sku is the number {value}, whose last digits are lost: format the cell as text"
                )))
            }
            TableCell::Number(value, format) => {
                let (sku, plain) = (format.format(*value), value.to_string());
                let has_decimals = matches!(format, NumberFormat::Padded { decimals: 1.., .. });
                let keeps_zeros = matches!(format, NumberFormat::Padded { digits: 2.., .. });
                let is_fraction = value.fract() != 0.0;
                let (number, doubt) = if self.reading.accepts_suspicious_skus {
                    return Ok(sku);
                } else if *format == NumberFormat::General && is_fraction {
                    (sku, "trailing zeros may be lost")
                } else if *format == NumberFormat::Other || (has_decimals && !is_fraction) {
                    (plain, "its cell has a custom number format")
                } else if !keeps_zeros && self.has_padded_skus() {
                    let doubt = "other SKUs have leading zeros, which this one may have lost";
                    (sku, doubt)
                } else {
                    return Ok(sku);
                };
                Err(RowProblem::Suspicious(format!(
                    "sku is the number {number}, and {doubt}: format the cell as text, or set \
                     suspicious_sku = \"take\""
                )))
            }
        }
    }
}

/// Returns the reason to reject a formula.
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

/// Rejects a field with bytes that are not characters of the file's encoding.
fn check_decodable(text: &str, field: &str) -> Result<(), RowProblem> {
    if !text.contains(UNDECODABLE) {
        return Ok(());
    }
    let readable_text = text.replace(UNDECODABLE, "\u{fffd}");
    Err(RowProblem::Rejected(format!(
        "{field} is '{readable_text}', with bytes that are not characters of the file's encoding"
    )))
}

/// Returns true if a row numbers the columns of a form: 1, 2, 3 from its first cell on.
fn is_column_numbering(cells: &[TableCell<'_>]) -> bool {
    let has_number = |cell: &TableCell<'_>, number: u32| {
        matches!(cell, TableCell::Text(text) if trim_blanks(text).parse() == Ok(number))
            || matches!(cell, TableCell::Number(value, _) if *value == f64::from(number))
    };
    let width = used_width(cells);
    width >= 3
        && (1..)
            .zip(cells.iter().take(width))
            .all(|(number, cell)| has_number(cell, number))
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
    let timestamp = DateTime::parse_from_rfc3339(text.trim());
    let timestamp = timestamp.map(|at| Some(at.to_utc().into()));
    timestamp.map_err(|_| {
        format!(
            "time is '{text}', it must be a date and time with an offset, as in \
             2026-11-22T10:00:00+03:00"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::HeaderSearch;
    use super::*;
    use crate::ReadSettings;

    #[test]
    fn formula_with_empty_text_is_not_zero() {
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
}

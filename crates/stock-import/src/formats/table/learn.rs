//! First pass over a table: learns number style, leading zeros and field counts, and finds rows
//! that contradict the header.

use super::cell::{TableCell, is_blank_at, used_width};
use super::header::HeaderSearch;
use super::{MAX_LISTED_NAMES, StockTable, TableColumns};
use crate::aliases::{AliasMatch, StockField, choose, normalize};
use crate::formats::{FormatError, list_names};
use crate::quantity::{Quantity, trim_blanks};
use crate::sku_text::has_leading_zeros;

impl StockTable<'_> {
    /// Learns number style, leading zeros and contradictions from a row. Must see all rows before
    /// the first one is emitted.
    pub(in crate::formats) fn learn(&mut self, line: u64, cells: &[TableCell<'_>]) {
        let columns = self.columns;
        for column in [Some(columns.quantity), columns.reserve]
            .into_iter()
            .flatten()
        {
            if let Some(TableCell::Text(text)) = cells.get(column) {
                self.style.learn(text);
            }
        }
        let sku = cells.get(columns.sku);
        if matches!(sku, Some(cell @ (TableCell::Text(_) | TableCell::Number(..)))
            if has_leading_zeros(&cell.text()))
        {
            self.expect_padded_skus();
        }
        self.names_warehouses |= (columns.warehouse).is_some_and(|at| !is_blank_at(cells, at));
        self.learn_contradiction(line, cells);
        if !self.other_quantities.is_empty() {
            self.learn_max_quantities(cells);
        }
    }

    /// Learns the number of fields of a row. Must see all rows before the first one is emitted.
    pub(in crate::formats) fn record_field_count(&mut self, cells: &[TableCell<'_>]) {
        let TableColumns { sku, quantity, .. } = self.columns;
        if !is_blank_at(cells, sku) && !is_blank_at(cells, quantity) {
            let fewest = self.fewest_fields.unwrap_or(usize::MAX);
            self.fewest_fields = Some(fewest.min(cells.len()));
        }
    }

    /// Records that the encoding was assumed. A known Cyrillic column name proves it.
    pub(in crate::formats) fn note_assumed_encoding(&mut self) {
        let is_known = |field| {
            let is_cyrillic = |name: &&String| !name.is_ascii();
            let names = self.names.iter().filter(is_cyrillic).map(String::as_str);
            choose(field, names, None) != AliasMatch::None
        };
        let mut fields = [StockField::Sku, StockField::Quantity, StockField::Warehouse].into_iter();
        self.is_encoding_uncertain = !fields.any(is_known);
    }

    /// Checks the properties learned from all rows.
    ///
    /// # Errors
    /// A later row is a header of other columns, or the quantity's column has only flags.
    pub(in crate::formats) fn check(&self) -> Result<(), FormatError> {
        if let Some(reason) = &self.contradiction {
            return Err(FormatError::Unusable(reason.clone()));
        }
        match self.max_quantities {
            // A column such as `Доступно` may hold a flag instead of a quantity.
            (Some(0..=1), Some(2..)) => Err(FormatError::Unusable(format!(
                "column '{}' has only 0 and 1, but another quantity column has larger numbers: set \
                 quantity to the name of the right one",
                self.name(self.columns.quantity),
            ))),
            _ => Ok(()),
        }
    }

    /// Learns whether a row contradicts the header.
    fn learn_contradiction(&mut self, line: u64, cells: &[TableCell<'_>]) {
        if used_width(cells) == 0 || self.contradiction.is_some() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_rows, true);
        let row_names = || {
            let cells = cells.iter().take(used_width(cells));
            let names = cells.map(|cell| trim_blanks(&cell.text()).to_owned());
            list_names(&names.collect::<Vec<_>>(), MAX_LISTED_NAMES)
        };
        let header_names = || list_names(&self.names, MAX_LISTED_NAMES);
        if self.compare_header(cells) == Some(false) {
            self.contradiction = Some(format!(
                "row {line} is a second header with other columns: it has {}, and the first header \
                 has {}: leave one table in the file",
                row_names(),
                header_names()
            ));
        } else if is_first && self.continues_header(cells) {
            self.contradiction = Some(format!(
                "row {line} continues the header: it has {} below {}: name each column in one row",
                row_names(),
                header_names()
            ));
        }
    }

    /// Returns true if the first row names the columns into which the header's quantity is divided.
    fn continues_header(&self, cells: &[TableCell<'_>]) -> bool {
        let is_name = |at: usize| match cells.get(at) {
            Some(TableCell::Text(text)) => {
                trim_blanks(text).starts_with(char::is_alphabetic)
                    && self.reading.parse_quantity(text).is_err()
            }
            Some(_) | None => false,
        };
        let TableColumns { sku, quantity, .. } = self.columns;
        let has_no_sku = match cells.get(sku) {
            Some(TableCell::Text(text)) => !text.contains(char::is_alphanumeric),
            Some(cell) => cell.is_blank(),
            None => true,
        };
        let is_next_unnamed = self.name(quantity + 1).is_empty();
        is_name(quantity) && (has_no_sku || (is_next_unnamed && is_name(quantity + 1)))
    }

    /// Learns the largest values of the quantity's column and of the other quantity columns.
    fn learn_max_quantities(&mut self, cells: &[TableCell<'_>]) {
        let quantity = |text: &str| Quantity::parse(text, None).ok().map(Quantity::pieces);
        let pieces = |at: usize| match cells.get(at) {
            Some(TableCell::Number(value, _)) => quantity(&value.to_string()),
            Some(TableCell::Text(text)) => quantity(text),
            Some(_) | None => None,
        };
        let (own, others) = &mut self.max_quantities;
        *own = (*own).max(pieces(self.columns.quantity));
        let other_pieces = self.other_quantities.iter().filter_map(|at| pieces(*at));
        *others = (*others).max(other_pieces.max());
    }

    /// Compares a row with the header: `Some(true)` if it is a header of the same columns,
    /// `Some(false)` if of others, `None` if it is not a header.
    pub(super) fn compare_header(&self, cells: &[TableCell<'_>]) -> Option<bool> {
        let is_text = |at: usize| match cells.get(at) {
            Some(TableCell::Text(text)) => trim_blanks(text).starts_with(char::is_alphabetic),
            Some(_) | None => false,
        };
        let TableColumns { sku, quantity, .. } = self.columns;
        // Fast exit for nearly all rows: a row with a number as its quantity is not a header.
        let may_be_header = is_text(quantity) || (is_blank_at(cells, quantity) && is_text(sku));
        if !may_be_header {
            return None;
        }
        if let Ok(Some(other)) = HeaderSearch::new(self.reading).try_header(cells) {
            return Some((other.columns.sku, other.columns.quantity) == (sku, quantity));
        }
        // A second table, such as one of prices, repeats the SKU's name in the SKU's column.
        let is_sku_name = cells
            .get(sku)
            .is_some_and(|cell| normalize(self.name(sku)) == normalize(&cell.text()));
        (is_sku_name && is_text(quantity)).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadSettings;

    #[test]
    fn rejects_quantity_divided_into_columns() {
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
}

//! First pass over a table: learns number style, leading zeros and field counts, and finds rows
//! that contradict the header.

use super::StockTable;
use super::cell::{TableCell, is_blank_at, used_width};
use super::header::{HeaderSearch, list_names};
use crate::aliases::{AliasMatch, StockField, choose, normalize};
use crate::formats::FormatError;
use crate::quantity::{Quantity, trim_blanks};
use crate::sku_text::has_leading_zeros;

impl StockTable<'_> {
    /// Learns number style, leading zeros and contradictions from a row. Must see all rows before
    /// the first one is emitted.
    pub(in crate::formats) fn learn(&mut self, line: u64, cells: &[TableCell<'_>]) {
        for column in [Some(self.quantity), self.reserve].into_iter().flatten() {
            if let Some(TableCell::Text(text)) = cells.get(column) {
                self.style.learn(text);
            }
        }
        let has_padded = match cells.get(self.sku) {
            Some(TableCell::Text(text)) => has_leading_zeros(text),
            Some(TableCell::Number(value, format)) => has_leading_zeros(&format.format(*value)),
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

    /// Learns the number of fields of a row. Must see all rows before the first one is emitted.
    pub(in crate::formats) fn record_field_count(&mut self, cells: &[TableCell<'_>]) {
        if !is_blank_at(cells, self.sku) && !is_blank_at(cells, self.quantity) {
            let fewest = self
                .fewest_fields
                .map_or(cells.len(), |fewest| fewest.min(cells.len()));
            self.fewest_fields = Some(fewest);
        }
    }

    /// Records that the encoding was assumed. A known Cyrillic column name proves it.
    pub(in crate::formats) fn note_assumed_encoding(&mut self) {
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
                trim_blanks(self.names.get(self.quantity).map_or("", String::as_str)),
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
            let names = cells
                .iter()
                .take(used_width(cells))
                .map(|cell| trim_blanks(&cell.text()).to_owned());
            list_names(&names.collect::<Vec<_>>())
        };
        if self.compare_header(cells) == Some(false) {
            self.contradiction = Some(format!(
                "row {line} is a second header with other columns: it has {}, and the first header \
                 has {}: leave one table in the file",
                row_names(),
                list_names(&self.names)
            ));
        } else if is_first && self.continues_header(cells) {
            self.contradiction = Some(format!(
                "row {line} continues the header: it has {} below {}: name each column in one row",
                row_names(),
                list_names(&self.names)
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

    /// Learns the largest values of the quantity's column and of the other quantity columns.
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

    /// Compares a row with the header: `Some(true)` if it is a header of the same columns,
    /// `Some(false)` if of others, `None` if it is not a header.
    pub(super) fn compare_header(&self, cells: &[TableCell<'_>]) -> Option<bool> {
        let is_text = |at: usize| match cells.get(at) {
            Some(TableCell::Text(text)) => trim_blanks(text).starts_with(char::is_alphabetic),
            Some(_) | None => false,
        };
        // Fast exit for nearly all rows: a row with a number as its quantity is not a header.
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
        // A second table, such as one of prices, repeats the SKU's name in the SKU's column.
        let name = |text: &str| normalize(text);
        let is_sku_name = cells.get(self.sku).is_some_and(|cell| {
            self.names
                .get(self.sku)
                .is_some_and(|own| name(own) == name(&cell.text()))
        });
        (is_sku_name && is_text(self.quantity)).then_some(false)
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

//! Merged cells: a sheet shows several cells as one, and only the first of them has a value.
//!
//! A SKU or a warehouse that is merged over rows is that of each row. A product whose quantity is
//! merged over no more rows than its SKU is one row, however many the sheet shows. A quantity merged
//! over more rows than one SKU has belongs to no row for certain.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::table::{Cell, Columns};

/// A merged range that begins in a column: its first and its last row, from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Merge {
    pub(super) column: usize,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Merged ranges of a sheet, asked for row by row.
pub(super) struct Merges {
    /// By column and first row: the last row.
    ranges: BTreeMap<(usize, u64), u64>,
    /// The first cell of the latest range, by column.
    tops: BTreeMap<usize, Cell<'static>>,
}

impl Merges {
    pub(super) fn new(merges: impl IntoIterator<Item = Merge>) -> Self {
        let several = merges.into_iter().filter(|merge| merge.first < merge.last);
        let ranges = several.map(|Merge { column, first, last }| ((column, first), last)).collect();
        Self { ranges, tops: BTreeMap::new() }
    }

    /// The rows of the range that a cell is in: its own only, if it is in none.
    fn range(&self, line: u64, column: usize) -> (u64, u64) {
        let before = self.ranges.range((column, 0)..=(column, line)).next_back();
        match before {
            Some(((_, first), last)) if line <= *last => (*first, *last),
            Some(_) | None => (line, line),
        }
    }

    /// Returns a row with the values that its merged cells stand for. Rows come in order.
    pub(super) fn resolve<'c, 'a: 'c>(
        &mut self,
        line: u64,
        cells: &'c [Cell<'a>],
        columns: &Columns,
    ) -> Cow<'c, [Cell<'a>]> {
        let amounts = [Some(columns.quantity), columns.reserve];
        let texts = [Some(columns.sku), columns.warehouse];
        let is_merged = |column: &usize| self.range(line, *column) != (line, line);
        if !amounts.iter().chain(&texts).flatten().any(is_merged) {
            return Cow::Borrowed(cells);
        }
        let mut row = cells.to_vec();
        let product = self.range(line, columns.sku);
        let is_within = |range: (u64, u64)| product.0 <= range.0 && range.1 <= product.1;
        let quantity = self.range(line, columns.quantity);
        if quantity.0 < line && is_within(quantity) {
            // The rest of a row that the sheet shows as several.
            set(&mut row, columns.sku, Cell::Empty);
            set(&mut row, columns.quantity, Cell::Empty);
            return Cow::Owned(row);
        }
        for column in texts.into_iter().flatten() {
            let (first, last) = self.range(line, column);
            if first == line && line < last {
                let top = cells.get(column).cloned().unwrap_or(Cell::Empty).into_owned();
                self.tops.insert(column, top);
            } else if first < line
                && let Some(top) = self.tops.get(&column)
            {
                set(&mut row, column, top.clone());
            }
        }
        for column in amounts.into_iter().flatten() {
            if !is_within(self.range(line, column)) {
                set(&mut row, column, Cell::Merged);
            }
        }
        Cow::Owned(row)
    }
}

fn set<'a>(row: &mut Vec<Cell<'a>>, column: usize, cell: Cell<'a>) {
    if row.len() <= column {
        row.resize(column + 1, Cell::Empty);
    }
    if let Some(place) = row.get_mut(column) {
        *place = cell;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of columns A, B and C after the merged cells of A (SKU), B (warehouse) and C (quantity)
    /// were resolved.
    fn resolved(merges: &[(usize, u64, u64)], rows: &[[&'static str; 3]]) -> Vec<String> {
        let columns = Columns { sku: 0, warehouse: Some(1), quantity: 2, reserve: None };
        let merges = merges.iter().map(|&(column, first, last)| Merge { column, first, last });
        let mut merges = Merges::new(merges);
        let row = |(at, cells): (usize, &[&'static str; 3])| {
            let cells: Vec<Cell<'_>> = cells
                .iter()
                .map(|text| if text.is_empty() { Cell::Empty } else { Cell::Text((*text).into()) })
                .collect();
            let row = merges.resolve(at as u64 + 1, &cells, &columns);
            let texts: Vec<_> = row.iter().map(|cell| cell.text().into_owned()).collect();
            texts.join("|")
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn merged_cells_stand_for_what_they_show() {
        let one_sku = [["A", "x", "5"], ["", "y", "7"], ["B", "x", "1"]];
        assert_eq!(resolved(&[], &one_sku), ["A|x|5", "|y|7", "B|x|1"]);
        assert_eq!(resolved(&[(0, 1, 2)], &one_sku), ["A|x|5", "A|y|7", "B|x|1"]);
        let one_warehouse = [["A", "x", "5"], ["B", "", "7"]];
        assert_eq!(resolved(&[(1, 1, 2)], &one_warehouse), ["A|x|5", "B|x|7"]);
        // A row of double height.
        let high = [["A", "x", "5"], ["", "", ""], ["B", "x", "1"]];
        let all = [(0, 1, 2), (1, 1, 2), (2, 1, 2)];
        assert_eq!(resolved(&all, &high), ["A|x|5", "||", "B|x|1"]);
        // One quantity of two products.
        let shared = [["A", "x", "5"], ["B", "x", ""]];
        assert_eq!(resolved(&[(2, 1, 2)], &shared), ["A|x|(merged)", "B|x|(merged)"]);
        let crossed = [["A", "x", "5"], ["", "y", ""], ["B", "z", ""]];
        let merges = [(0, 1, 2), (2, 1, 3)];
        assert_eq!(resolved(&merges, &crossed), ["A|x|(merged)", "A|y|(merged)", "B|z|(merged)"]);
    }
}

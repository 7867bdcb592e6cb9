//! Merged cells: a sheet displays several cells as one, and only the first has a value.
//!
//! A merged SKU or warehouse applies to each of its rows. A quantity merged over rows of one SKU
//! and one warehouse counts once. A quantity merged over rows of several SKUs or warehouses is
//! ambiguous, so its rows become [`TableCell::Merged`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::table::{TableCell, TableColumns, is_blank_at};
use super::cell_mut;

/// A merged range. Rows are counted from 1, columns from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct MergedRange {
    /// First column of the range.
    pub(super) column: usize,
    pub(super) first_row: u64,
    pub(super) last_row: u64,
}

/// Contents of the rows of a merged quantity or reserve.
#[derive(Clone, Copy, Debug, Default)]
struct MergedRows {
    /// True if the first cell has a value.
    has_value: bool,
    /// True if the first row has a SKU, directly or from a merged range.
    starts_with_sku: bool,
    skus: u64,
    warehouses: u64,
    reserves: u64,
}

impl MergedRows {
    /// Returns true if the rows belong to one SKU at one warehouse.
    fn is_single_product(self) -> bool {
        self.starts_with_sku && self.skus <= 1 && self.warehouses <= 1 && self.reserves <= 1
    }
}

/// Merged ranges of a sheet, applied row by row.
pub(super) struct MergedCells {
    columns: TableColumns,
    /// Last row by column and first row.
    ranges: BTreeMap<(usize, u64), u64>,
    /// Contents of merged quantities and reserves, by column and first row.
    merged_rows: BTreeMap<(usize, u64), MergedRows>,
    /// First row and first cell of the latest range of SKUs or warehouses, by column.
    first_cells: BTreeMap<usize, (u64, TableCell<'static>)>,
}

impl MergedCells {
    pub(super) fn new(
        merges: impl IntoIterator<Item = MergedRange>,
        columns: TableColumns,
    ) -> Self {
        let merges = merges.into_iter();
        let ranges = merges
            .filter(|merge| merge.first_row < merge.last_row)
            .map(|merge| ((merge.column, merge.first_row), merge.last_row))
            .collect();
        Self {
            columns,
            ranges,
            merged_rows: BTreeMap::new(),
            first_cells: BTreeMap::new(),
        }
    }

    /// Returns true if a quantity or a reserve is merged. Then all rows must be learned before the
    /// first one is resolved.
    pub(super) fn requires_learning(&self) -> bool {
        let mut columns = self.ranges.keys().map(|(column, _)| *column);
        columns.any(|column| self.amount_columns().any(|amount| amount == column))
    }

    fn amount_columns(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.columns.quantity), self.columns.reserve]
            .into_iter()
            .flatten()
    }

    /// Learns the contents of the rows of merged quantities.
    pub(super) fn learn(&mut self, line: u64, cells: &[TableCell<'_>]) {
        let has = |column: Option<usize>| column.is_some_and(|at| !is_blank_at(cells, at));
        let columns = self.columns;
        for amount in self.amount_columns() {
            let Some((first, _)) = self.range_at(line, amount) else {
                continue;
            };
            let continues_sku_range = self
                .range_at(line, columns.sku)
                .is_some_and(|(begin, _)| begin < line);
            let rows = self.merged_rows.entry((amount, first)).or_default();
            rows.skus += u64::from(has(Some(columns.sku)));
            rows.warehouses += u64::from(has(columns.warehouse));
            rows.reserves += u64::from(has(columns.reserve));
            if first == line {
                rows.has_value = has(Some(amount));
                rows.starts_with_sku = has(Some(columns.sku)) || continues_sku_range;
            }
        }
    }

    /// Returns the first and last row of the merged range that contains a cell.
    fn range_at(&self, line: u64, column: usize) -> Option<(u64, u64)> {
        let ((_, first), last) = self
            .ranges
            .range((column, 0)..=(column, line))
            .next_back()?;
        (line <= *last).then_some((*first, *last))
    }

    /// Returns a row with the displayed values of its merged cells. Rows must come in order.
    pub(super) fn resolve<'c, 'a: 'c>(
        &mut self,
        line: u64,
        cells: &'c [TableCell<'a>],
    ) -> Cow<'c, [TableCell<'a>]> {
        let TableColumns { sku, quantity, .. } = self.columns;
        let (warehouse, reserve) = (self.columns.warehouse, self.columns.reserve);
        let columns = [Some(sku), Some(quantity), warehouse, reserve];
        let mut columns = columns.into_iter().flatten();
        if columns.all(|column| self.range_at(line, column).is_none()) {
            return Cow::Borrowed(cells);
        }
        let mut row = cells.to_vec();
        for column in [Some(sku), warehouse].into_iter().flatten() {
            let Some((first, _)) = self.range_at(line, column) else {
                continue;
            };
            if first == line {
                let cell = cells.get(column).cloned().unwrap_or(TableCell::Empty);
                self.first_cells.insert(column, (first, cell.into_owned()));
            } else if let Some((of, cell)) = self.first_cells.get(&column)
                && *of == first
            {
                *cell_mut(&mut row, column) = cell.clone();
            }
        }
        for column in self.amount_columns() {
            let Some((first, _)) = self.range_at(line, column) else {
                continue;
            };
            let rows = self.merged_rows.get(&(column, first)).copied();
            let Some(rows) = rows.filter(|rows| rows.has_value) else {
                continue;
            };
            if !rows.is_single_product() {
                *cell_mut(&mut row, column) = TableCell::Merged;
            } else if first < line && column == quantity {
                // The first row of the range already has the quantity.
                *cell_mut(&mut row, sku) = TableCell::Empty;
                *cell_mut(&mut row, quantity) = TableCell::Empty;
            }
        }
        Cow::Owned(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns rows after their merged cells are resolved. Columns: SKU, warehouse, quantity.
    fn resolve_rows(merges: &[(usize, u64, u64)], rows: &[[&'static str; 3]]) -> Vec<String> {
        let columns = TableColumns {
            sku: 0,
            warehouse: Some(1),
            quantity: 2,
            reserve: None,
        };
        let merges = merges.iter().map(|&(column, first, last)| MergedRange {
            column,
            first_row: first,
            last_row: last,
        });
        let mut merges = MergedCells::new(merges, columns);
        let cells = |row: &[&'static str; 3]| -> Vec<TableCell<'static>> {
            let cell = |text: &&'static str| {
                if text.is_empty() {
                    TableCell::Empty
                } else {
                    TableCell::Text((*text).into())
                }
            };
            row.iter().map(cell).collect()
        };
        for (line, row) in (1..).zip(rows) {
            merges.learn(line, &cells(row));
        }
        let resolve = |(line, row): (u64, &[&'static str; 3])| {
            let cells = cells(row);
            let row = merges.resolve(line, &cells);
            let texts: Vec<_> = row.iter().map(|cell| cell.text().into_owned()).collect();
            texts.join("|")
        };
        (1..).zip(rows).map(resolve).collect()
    }

    #[test]
    fn merged_cells_have_the_displayed_value() {
        let one_sku = [["A", "x", "5"], ["", "y", "7"], ["B", "x", "1"]];
        assert_eq!(resolve_rows(&[], &one_sku), ["A|x|5", "|y|7", "B|x|1"]);
        assert_eq!(
            resolve_rows(&[(0, 1, 2)], &one_sku),
            ["A|x|5", "A|y|7", "B|x|1"]
        );
        let one_warehouse = [["A", "x", "5"], ["B", "", "7"]];
        assert_eq!(
            resolve_rows(&[(1, 1, 2)], &one_warehouse),
            ["A|x|5", "B|x|7"]
        );
    }

    #[test]
    fn quantity_of_one_sku_and_warehouse_counts_once() {
        let high = [["A", "x", "5"], ["", "", ""], ["B", "x", "1"]];
        for merges in [
            &[(0, 1, 2), (1, 1, 2), (2, 1, 2)][..],
            &[(2, 1, 2)],
            &[(0, 1, 2), (2, 1, 2)],
        ] {
            let rows = resolve_rows(merges, &high);
            assert!(
                rows[0] == "A|x|5" && rows[1].starts_with('|') && rows[2] == "B|x|1",
                "{rows:?}"
            );
        }
        // No quantity at all.
        let blank = [["A", "x", ""], ["B", "x", ""]];
        assert_eq!(resolve_rows(&[(2, 1, 2)], &blank), ["A|x|", "B|x|"]);
        // A product merged over four rows, with one quantity for each half.
        let halves = [["A", "x", "5"], ["", "", ""], ["", "y", "7"], ["", "", ""]];
        let rows = resolve_rows(&[(0, 1, 4), (2, 1, 2), (2, 3, 4)], &halves);
        assert_eq!(rows, ["A|x|5", "||", "A|y|7", "||"]);
    }

    #[test]
    fn quantity_of_several_skus_is_ambiguous() {
        let shared = [["A", "x", "5"], ["B", "x", ""]];
        assert_eq!(
            resolve_rows(&[(2, 1, 2)], &shared),
            ["A|x|(merged)", "B|x|(merged)"]
        );
        let warehouses = [["A", "x", "5"], ["", "y", ""]];
        let rows = resolve_rows(&[(0, 1, 2), (2, 1, 2)], &warehouses);
        assert_eq!(rows, ["A|x|(merged)", "A|y|(merged)"]);
        let crossed = [["A", "x", "5"], ["", "y", ""], ["B", "z", ""]];
        let rows = resolve_rows(&[(0, 1, 2), (2, 1, 3)], &crossed);
        assert_eq!(rows, ["A|x|(merged)", "A|y|(merged)", "B|z|(merged)"]);
        let without_first_sku = [["", "x", "5"], ["B", "x", ""]];
        assert_eq!(
            resolve_rows(&[(2, 1, 2)], &without_first_sku),
            ["|x|(merged)", "B|x|(merged)"]
        );
    }

    #[test]
    fn ignores_the_sku_of_an_earlier_range() {
        let columns = TableColumns {
            sku: 0,
            warehouse: None,
            quantity: 1,
            reserve: None,
        };
        let range = |first, last| MergedRange {
            column: 0,
            first_row: first,
            last_row: last,
        };
        let mut merges = MergedCells::new([range(1, 2), range(4, 5)], columns);
        let text = |text: &'static str| TableCell::Text(text.into());
        merges.resolve(1, &[text("A-1"), text("5")]);
        // Row 4 is absent from the file.
        let row = merges
            .resolve(5, &[TableCell::Empty, text("7")])
            .into_owned();
        assert_eq!(row, [TableCell::Empty, text("7")]);
    }
}

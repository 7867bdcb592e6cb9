//! Merged cells: a sheet shows several cells as one, and only the first of them has a value.
//!
//! A SKU or a warehouse that is merged over rows is that of each row. A quantity that is merged over
//! rows of one SKU and one warehouse is that of one row, however many the sheet shows. Over rows of
//! several it belongs to none of them for certain.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::table::{Cell, Columns, is_blank_at};

/// A merged range that begins in a column: its first and its last row, from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Merge {
    pub(super) column: usize,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What the rows of a merged quantity or reserve have.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    /// Whether its first cell has a value.
    has_value: bool,
    /// Whether its first row has a SKU, of its own or by a merged range.
    begins_with_sku: bool,
    skus: u64,
    warehouses: u64,
    reserves: u64,
}

impl Covered {
    /// Whether the rows are those of one SKU at one warehouse.
    fn is_one(self) -> bool {
        self.begins_with_sku && self.skus <= 1 && self.warehouses <= 1 && self.reserves <= 1
    }
}

/// Merged ranges of a sheet, asked for row by row.
pub(super) struct Merges {
    columns: Columns,
    /// By column and first row: the last row.
    ranges: BTreeMap<(usize, u64), u64>,
    /// By column and first row of merged quantities and reserves.
    covered: BTreeMap<(usize, u64), Covered>,
    /// By column: the first row of the latest range of SKUs or warehouses, and its first cell.
    tops: BTreeMap<usize, (u64, Cell<'static>)>,
}

impl Merges {
    pub(super) fn new(merges: impl IntoIterator<Item = Merge>, columns: Columns) -> Self {
        let several = merges.into_iter().filter(|merge| merge.first < merge.last);
        let ranges = several
            .map(
                |Merge {
                     column,
                     first,
                     last,
                 }| ((column, first), last),
            )
            .collect();
        Self {
            columns,
            ranges,
            covered: BTreeMap::new(),
            tops: BTreeMap::new(),
        }
    }

    /// Whether a quantity or a reserve is merged: all rows must then be learnt before the first one is
    /// resolved.
    pub(super) fn must_learn(&self) -> bool {
        let is_amount = |column: usize| self.amounts().any(|amount| amount == column);
        self.ranges.keys().any(|(column, _)| is_amount(*column))
    }

    fn amounts(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.columns.quantity), self.columns.reserve]
            .into_iter()
            .flatten()
    }

    /// Learns what the rows of merged quantities have.
    pub(super) fn learn(&mut self, line: u64, cells: &[Cell<'_>]) {
        let has = |column: Option<usize>| column.is_some_and(|at| !is_blank_at(cells, at));
        let Columns {
            sku,
            warehouse,
            reserve,
            ..
        } = self.columns;
        for amount in self.amounts() {
            let Some((first, _)) = self.range(line, amount) else {
                continue;
            };
            let is_in_sku = self.range(line, sku).is_some_and(|(begin, _)| begin < line);
            let covered = self.covered.entry((amount, first)).or_default();
            covered.skus += u64::from(has(Some(sku)));
            covered.warehouses += u64::from(has(warehouse));
            covered.reserves += u64::from(has(reserve));
            if first == line {
                covered.has_value = has(Some(amount));
                covered.begins_with_sku = has(Some(sku)) || is_in_sku;
            }
        }
    }

    /// The first and last row of the merged range of a cell, if it is in one.
    fn range(&self, line: u64, column: usize) -> Option<(u64, u64)> {
        let ((_, first), last) = self
            .ranges
            .range((column, 0)..=(column, line))
            .next_back()?;
        (line <= *last).then_some((*first, *last))
    }

    /// Returns a row with the values that its merged cells show. Rows come in order.
    pub(super) fn resolve<'c, 'a: 'c>(
        &mut self,
        line: u64,
        cells: &'c [Cell<'a>],
    ) -> Cow<'c, [Cell<'a>]> {
        let Columns {
            sku,
            quantity,
            warehouse,
            reserve,
        } = self.columns;
        let columns = [Some(sku), Some(quantity), warehouse, reserve];
        if !columns
            .into_iter()
            .flatten()
            .any(|column| self.range(line, column).is_some())
        {
            return Cow::Borrowed(cells);
        }
        let mut row = cells.to_vec();
        for column in [Some(sku), warehouse].into_iter().flatten() {
            let Some((first, _)) = self.range(line, column) else {
                continue;
            };
            if first == line {
                let top = cells
                    .get(column)
                    .cloned()
                    .unwrap_or(Cell::Empty)
                    .into_owned();
                self.tops.insert(column, (first, top));
            } else if let Some((_, top)) = self.tops.get(&column).filter(|(of, _)| *of == first) {
                set(&mut row, column, top.clone());
            }
        }
        for column in self.amounts() {
            let Some((first, _)) = self.range(line, column) else {
                continue;
            };
            let covered = self
                .covered
                .get(&(column, first))
                .copied()
                .unwrap_or_default();
            if !covered.has_value {
                continue;
            }
            if !covered.is_one() {
                set(&mut row, column, Cell::Merged);
            } else if first < line && column == quantity {
                // The rest of a row that the sheet shows as several.
                set(&mut row, sku, Cell::Empty);
                set(&mut row, quantity, Cell::Empty);
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

    /// Rows of columns A, B and C after the merged cells of A (SKU), B (warehouse) and C (quantity)
    /// were resolved.
    fn resolved(merges: &[(usize, u64, u64)], rows: &[[&'static str; 3]]) -> Vec<String> {
        let columns = Columns {
            sku: 0,
            warehouse: Some(1),
            quantity: 2,
            reserve: None,
        };
        let merges = merges.iter().map(|&(column, first, last)| Merge {
            column,
            first,
            last,
        });
        let mut merges = Merges::new(merges, columns);
        let cells = |row: &[&'static str; 3]| -> Vec<Cell<'static>> {
            let cell = |text: &&'static str| {
                if text.is_empty() {
                    Cell::Empty
                } else {
                    Cell::Text((*text).into())
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
    fn merged_cells_have_the_value_shown() {
        let one_sku = [["A", "x", "5"], ["", "y", "7"], ["B", "x", "1"]];
        assert_eq!(resolved(&[], &one_sku), ["A|x|5", "|y|7", "B|x|1"]);
        assert_eq!(
            resolved(&[(0, 1, 2)], &one_sku),
            ["A|x|5", "A|y|7", "B|x|1"]
        );
        let one_warehouse = [["A", "x", "5"], ["B", "", "7"]];
        assert_eq!(resolved(&[(1, 1, 2)], &one_warehouse), ["A|x|5", "B|x|7"]);
    }

    #[test]
    fn quantity_of_one_sku_and_warehouse_is_one_row() {
        let high = [["A", "x", "5"], ["", "", ""], ["B", "x", "1"]];
        for merges in [
            &[(0, 1, 2), (1, 1, 2), (2, 1, 2)][..],
            &[(2, 1, 2)],
            &[(0, 1, 2), (2, 1, 2)],
        ] {
            let rows = resolved(merges, &high);
            assert!(
                rows[0] == "A|x|5" && rows[1].starts_with('|') && rows[2] == "B|x|1",
                "{rows:?}"
            );
        }
        // Nothing is stated.
        let blank = [["A", "x", ""], ["B", "x", ""]];
        assert_eq!(resolved(&[(2, 1, 2)], &blank), ["A|x|", "B|x|"]);
        // Each half of a product that is merged over four rows.
        let halves = [["A", "x", "5"], ["", "", ""], ["", "y", "7"], ["", "", ""]];
        let rows = resolved(&[(0, 1, 4), (2, 1, 2), (2, 3, 4)], &halves);
        assert_eq!(rows, ["A|x|5", "||", "A|y|7", "||"]);
    }

    #[test]
    fn quantity_of_several_is_that_of_none() {
        let shared = [["A", "x", "5"], ["B", "x", ""]];
        assert_eq!(
            resolved(&[(2, 1, 2)], &shared),
            ["A|x|(merged)", "B|x|(merged)"]
        );
        let warehouses = [["A", "x", "5"], ["", "y", ""]];
        let rows = resolved(&[(0, 1, 2), (2, 1, 2)], &warehouses);
        assert_eq!(rows, ["A|x|(merged)", "A|y|(merged)"]);
        let crossed = [["A", "x", "5"], ["", "y", ""], ["B", "z", ""]];
        let rows = resolved(&[(0, 1, 2), (2, 1, 3)], &crossed);
        assert_eq!(rows, ["A|x|(merged)", "A|y|(merged)", "B|z|(merged)"]);
        let late = [["", "x", "5"], ["B", "x", ""]];
        assert_eq!(
            resolved(&[(2, 1, 2)], &late),
            ["|x|(merged)", "B|x|(merged)"]
        );
    }

    #[test]
    fn sku_of_an_earlier_range_is_not_used() {
        let columns = Columns {
            sku: 0,
            warehouse: None,
            quantity: 1,
            reserve: None,
        };
        let range = |first, last| Merge {
            column: 0,
            first,
            last,
        };
        let mut merges = Merges::new([range(1, 2), range(4, 5)], columns);
        let text = |text: &'static str| Cell::Text(text.into());
        merges.resolve(1, &[text("A-1"), text("5")]);
        // Row 4 is not in the file.
        let row = merges.resolve(5, &[Cell::Empty, text("7")]).into_owned();
        assert_eq!(row, [Cell::Empty, text("7")]);
    }
}

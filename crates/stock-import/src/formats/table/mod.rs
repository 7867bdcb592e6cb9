//! Tables of CSV files and workbooks: columns are found by the names in their header.
//!
//! Title rows may precede the header. The known names, and the preferred one of two, are in
//! [`aliases`](crate::aliases); if two columns match and no preference is documented, the
//! file is unusable until a setting names one.
//!
//! A table is read twice: first [`StockTable::learn`] sees every row, because only the rest of a
//! column shows whether `2,000` is 2 or 2000. Then [`StockTable::emit_row`] reads the rows.

mod cell;
mod header;
mod learn;
mod parse_row;
mod totals;

use std::cell::{Cell as StdCell, RefCell};

pub(super) use self::cell::{NumberFormat, TableCell, is_blank_at, used_width};
pub(super) use self::header::{HeaderSearch, MAX_HEADER_ROWS};
use self::parse_row::PreviousRow;
use super::{FileShape, list_names, quote_names};
use crate::ReadSettings;
use crate::aliases::{AliasMatch, StockField, choose, normalize};
use crate::quantity::{NumberStyle, QuantityError, trim_blanks};

/// Most column names that a message lists.
const MAX_LISTED_NAMES: usize = 20;

/// Indexes of the columns in which merged cells matter, from 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableColumns {
    pub(super) sku: usize,
    pub(super) quantity: usize,
    pub(super) warehouse: Option<usize>,
    pub(super) reserve: Option<usize>,
}

/// A table whose columns are known.
#[derive(Debug)]
pub(super) struct StockTable<'r> {
    reading: &'r ReadSettings,
    /// Names in the header, as written.
    names: Vec<String>,
    columns: TableColumns,
    updated_at: Option<usize>,
    style: NumberStyle,
    /// Some SKU has leading zeros.
    has_padded_skus: StdCell<bool>,
    /// Number of fields of the header, including empty ones at its end.
    header_fields: usize,
    /// Least number of fields of a row that has a SKU and a quantity.
    fewest_fields: Option<usize>,
    /// The encoding was assumed, and the header does not prove it.
    is_encoding_uncertain: bool,
    /// Description of a later row that contradicts the header.
    contradiction: Option<String>,
    /// Some row has been learned.
    has_rows: bool,
    /// Some row names its warehouse.
    names_warehouses: bool,
    /// Other columns with a known name of a quantity.
    other_quantities: Vec<usize>,
    /// The table is the Market's own sheet, whose quantity excludes the reserve.
    is_market: bool,
    /// Largest value of the quantity's column and of `other_quantities`, in pieces.
    max_quantities: (Option<i64>, Option<i64>),
    /// Skipped total rows: their number and the first one.
    skipped_totals: StdCell<(u64, u64)>,
    /// The previous row, to which a row without a SKU may belong.
    previous_row: RefCell<PreviousRow>,
}

impl StockTable<'_> {
    pub(super) fn columns(&self) -> TableColumns {
        self.columns
    }

    /// Returns the name of a column, without surrounding blanks.
    fn name(&self, column: usize) -> &str {
        trim_blanks(self.names.get(column).map_or("", String::as_str))
    }

    /// Returns true if some SKU has leading zeros.
    pub(super) fn has_padded_skus(&self) -> bool {
        self.has_padded_skus.get()
    }

    /// Records that SKUs of the same stock list have leading zeros.
    pub(super) fn expect_padded_skus(&self) {
        self.has_padded_skus.set(true);
    }

    /// Returns true if a row of another sheet has a SKU and a number in the columns of this table.
    pub(super) fn fits_row(&self, cells: &[TableCell<'_>]) -> bool {
        let is_number = match cells.get(self.columns.quantity) {
            Some(TableCell::Number(..)) => true,
            Some(TableCell::Text(text)) => matches!(
                self.reading.parse_quantity(text),
                Ok(Some(_)) | Err(QuantityError::Ambiguous(_))
            ),
            Some(_) | None => false,
        };
        is_number && self.readable_sku(cells).is_some()
    }

    /// Returns the most fields that a row may have: those of the header, and trailing empty fields
    /// that every row has.
    pub(super) fn max_fields(&self) -> usize {
        self.header_fields
            .max(self.fewest_fields.unwrap_or_default())
    }

    /// Returns messages for the operator: rows skipped as totals, and a reserve that is not
    /// subtracted.
    pub(super) fn notices(&self) -> impl Iterator<Item = String> {
        let (count, first) = self.skipped_totals.get();
        let totals = (count > 0).then(|| {
            format!(
                "{count} rows are skipped because their SKU or warehouse is a word for a total; the \
                 first is row {first}"
            )
        });
        totals.into_iter().chain(self.reserve_notice())
    }

    /// Returns a message about a reserve column that no setting names, if the quantity may include
    /// it.
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
        let quantity = self.name(self.columns.quantity);
        let normalized = normalize(quantity);
        let mut without = WITHOUT_RESERVE.iter();
        if self.reading.reserve.is_some() || without.any(|begin| normalized.starts_with(begin)) {
            return None;
        }
        let is_reserve = |name: &&String| RESERVES.contains(&normalize(name).as_str());
        let name = trim_blanks(self.names.iter().find(is_reserve)?);
        Some(if self.is_market {
            format!(
                "column '{name}' is not subtracted from '{quantity}', because '{quantity}' of the \
                 Market's own file already excludes the reserve"
            )
        } else {
            format!(
                "column '{name}' is not subtracted from '{quantity}': set reserve = \"{name}\" if \
                 '{quantity}' includes the reserve"
            )
        })
    }

    /// Returns the number of columns that the header names.
    pub(super) fn width(&self) -> usize {
        self.names.len()
    }

    /// Adds the columns and the number style to the properties of the file.
    pub(super) fn describe(&self, shape: &mut FileShape) {
        let columns = self.columns;
        let all = (0..self.width()).map(|at| self.name(at));
        let all: Vec<_> = all.filter(|name| !name.is_empty()).collect();
        shape.set("columns", list_names(&all, MAX_LISTED_NAMES));
        shape.set("why", self.sku_column_reason());
        for (property, at) in [
            ("sku", Some(columns.sku)),
            ("quantity", Some(columns.quantity)),
            ("warehouse", columns.warehouse),
            ("reserve", columns.reserve),
            ("time", self.updated_at),
        ] {
            if let Some(at) = at {
                shape.set(property, self.name(at));
            }
        }
        shape.set("numbers", self.style.describe());
    }

    /// Explains the choice of the SKU's column.
    fn sku_column_reason(&self) -> String {
        if self.reading.sku.is_some() {
            return "the setting sku names it".to_owned();
        }
        let others = (0..self.width())
            .filter(|at| *at != self.columns.sku)
            .map(|at| self.name(at))
            .filter(|name| choose(StockField::Sku, [*name], None) != AliasMatch::None);
        let others = quote_names(others, " and ");
        if others.is_empty() {
            "no other column has a known name of the SKU".to_owned()
        } else {
            format!("it is the seller's own article, unlike {others}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_reserve_that_is_not_subtracted() {
        for (names, reserve, is_reported) in [
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
            assert_eq!(table.notices().count() == 1, is_reported, "{names:?}");
        }
    }

    #[test]
    fn market_csv_notice_suggests_no_setting() {
        let reading = ReadSettings::default();
        let cells = ["SHOP_SKU", "WAREHOUSE_AND_SHOP", "COUNT", "RESERVE"]
            .map(|name| TableCell::Text(name.into()));
        let table = HeaderSearch::new(&reading)
            .try_header(&cells)
            .unwrap()
            .unwrap();
        let notices: Vec<_> = table.notices().collect();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(
            notices[0].contains("already excludes the reserve") && !notices[0].contains("set "),
            "{notices:?}"
        );
    }
}

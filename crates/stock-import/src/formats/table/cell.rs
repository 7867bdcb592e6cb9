//! Cells of a table, and the number formats by which they display numbers.

use std::borrow::Cow;

use crate::quantity::trim_blanks;

/// Number format of a cell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::formats) enum NumberFormat {
    /// Shows the number as it is.
    #[default]
    General,
    /// Pads the number with zeros, such as `0000.00`.
    Padded {
        /// Least number of digits before the point.
        digits: usize,
        /// Exact number of digits after the point.
        decimals: usize,
    },
    /// Any other format: letters, dashes, a percentage.
    Other,
}

/// Removes the later sections of a format code, its conditions in brackets, and its padding
/// characters.
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
    /// Parses a format code. Its first section is the one for positive numbers.
    pub(in crate::formats) fn parse(code: &str) -> Self {
        let code = strip_layout(code);
        let (digits, decimals) = code.split_once('.').unwrap_or((&code, ""));
        let are_zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
        if !digits.is_empty() && are_zeros(digits) && are_zeros(decimals) {
            // No SKU is longer, and the formatting width must fit 16 bits.
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

    pub(super) fn format(self, value: f64) -> String {
        let plain = format!("{value}");
        match self {
            Self::General | Self::Other => plain,
            Self::Padded { digits, decimals } => {
                let width = digits + usize::from(decimals > 0) + decimals;
                let padded = format!("{value:0width$.decimals$}");
                // A cell may show a rounded number, but a SKU must keep all digits.
                if padded.parse() == Ok(value) {
                    padded
                } else {
                    plain
                }
            }
        }
    }
}

/// One cell of a row.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::formats) enum TableCell<'a> {
    Empty,
    /// Text, even if it looks like a number.
    Text(Cow<'a, str>),
    /// A number of a workbook.
    Number(f64, NumberFormat),
    /// Neither text nor a number: `#N/A`, `TRUE`, a date.
    Other(Cow<'a, str>),
    /// A formula that was never calculated; its stored value is a placeholder.
    UncalculatedFormula,
    /// A formula without a stored value.
    FormulaWithoutValue,
    /// A formula whose stored value is an empty text, which some programs store for every formula.
    EmptyFormula,
    /// One of several merged cells that belong to different products or warehouses.
    Merged,
}

impl TableCell<'_> {
    /// Returns the text that a user sees.
    pub(in crate::formats) fn text(&self) -> Cow<'_, str> {
        match self {
            TableCell::Empty | TableCell::EmptyFormula => "".into(),
            TableCell::UncalculatedFormula | TableCell::FormulaWithoutValue => "(formula)".into(),
            TableCell::Merged => "(merged)".into(),
            TableCell::Text(text) | TableCell::Other(text) => text.as_ref().into(),
            TableCell::Number(value, format) => format.format(*value).into(),
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        matches!(self, TableCell::Empty | TableCell::EmptyFormula)
            || matches!(self, TableCell::Text(text) if trim_blanks(text).is_empty())
    }

    pub(in crate::formats) fn into_owned(self) -> TableCell<'static> {
        match self {
            TableCell::Text(text) => TableCell::Text(Cow::Owned(text.into_owned())),
            TableCell::Other(text) => TableCell::Other(Cow::Owned(text.into_owned())),
            TableCell::Number(value, format) => TableCell::Number(value, format),
            TableCell::Empty => TableCell::Empty,
            TableCell::UncalculatedFormula => TableCell::UncalculatedFormula,
            TableCell::FormulaWithoutValue => TableCell::FormulaWithoutValue,
            TableCell::EmptyFormula => TableCell::EmptyFormula,
            TableCell::Merged => TableCell::Merged,
        }
    }
}

/// Returns the number of cells up to the last one that is not blank.
pub(in crate::formats) fn used_width(cells: &[TableCell<'_>]) -> usize {
    let last = cells.iter().rposition(|cell| !cell.is_blank());
    last.map_or(0, |last| last + 1)
}

/// Returns true if a row is blank in the column.
pub(in crate::formats) fn is_blank_at(cells: &[TableCell<'_>], column: usize) -> bool {
    cells.get(column).is_none_or(TableCell::is_blank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_numbers_without_rounding() {
        for (code, value, formatted) in [
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
                formatted,
                "{code}: {value}"
            );
        }
        for code in ["\"TEA-\"0000", "000-000", "00000\\-0000", "0%", "0 \"шт\""] {
            assert_eq!(NumberFormat::parse(code), NumberFormat::Other, "{code}");
        }
    }
}

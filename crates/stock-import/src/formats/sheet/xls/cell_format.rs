//! Number formats of XLS cells, and recognition of dates by their format.

use std::collections::BTreeMap;

use crate::formats::table::NumberFormat;

/// Number format of a cell.
#[derive(Clone, Copy)]
pub(super) enum XlsFormat {
    Number(NumberFormat),
    Date,
}

pub(super) fn cell_format(id: u16, codes: &BTreeMap<u16, String>) -> XlsFormat {
    match (codes.get(&id), id) {
        (Some(code), _) if is_date_format(code) => XlsFormat::Date,
        (Some(code), _) => XlsFormat::Number(NumberFormat::parse(code)),
        (None, 14..=22 | 45..=47) => XlsFormat::Date,
        (None, 1) => XlsFormat::Number(NumberFormat::parse("0")),
        (None, 2) => XlsFormat::Number(NumberFormat::parse("0.00")),
        (None, _) => XlsFormat::Number(NumberFormat::General),
    }
}

/// Returns true if a format code has date or time letters outside quotes and brackets.
fn is_date_format(code: &str) -> bool {
    let mut letters = code.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => drop(letters.by_ref().find(|c| *c == '"')),
            '[' => drop(letters.by_ref().find(|c| *c == ']')),
            '\\' | '_' | '*' => drop(letters.next()),
            'd' | 'm' | 'y' | 'h' | 's' | 'D' | 'M' | 'Y' | 'H' | 'S' => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_date_formats() {
        for (code, expected) in [
            ("DD.MM.YYYY", true),
            ("[h]:mm", true),
            ("General", false),
            ("0000000", false),
            ("0\\ \"дней d\"", false),
            ("[Red]0", false),
        ] {
            assert_eq!(is_date_format(code), expected, "{code}");
        }
    }
}

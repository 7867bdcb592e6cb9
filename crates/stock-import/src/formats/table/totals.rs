//! Recognition of total rows by their words.

use super::cell::TableCell;
use crate::quantity::trim_blanks;

/// Words for a total.
const TOTAL_WORDS: &[&str] = &["итого", "итог", "всего", "подытог", "total", "subtotal"];

/// Words that may accompany a word for a total.
const TOTAL_QUALIFIERS: &[&str] = &["общий", "промежуточный", "grand", "sub", "по", "за"];

/// Returns the lower-case text of a cell; empty if it is not text.
fn lower_text(cell: &TableCell<'_>) -> String {
    if let TableCell::Text(text) = cell {
        return trim_blanks(text).to_lowercase();
    }
    String::new()
}

/// Returns true if a cell has only words for a total.
pub(super) fn is_total_label(cell: &TableCell<'_>) -> bool {
    is_total_text(&lower_text(cell))
}

/// Returns true if a lower-case text has only words for a total.
fn is_total_text(text: &str) -> bool {
    let mut words = text.trim_end_matches(':').split_whitespace();
    words.clone().any(|word| TOTAL_WORDS.contains(&word))
        && words.all(|word| TOTAL_WORDS.contains(&word) || TOTAL_QUALIFIERS.contains(&word))
}

/// Returns true if a cell of the warehouse's column marks the total of all warehouses.
pub(super) fn is_all_warehouses(cell: &TableCell<'_>) -> bool {
    const ALL_WAREHOUSES: [&str; 3] = ["все склады", "по всем складам", "all warehouses"];
    let text = lower_text(cell);
    ALL_WAREHOUSES.contains(&text.as_str()) || is_total_text(&text)
}

/// Returns true if a cell begins with words for a total.
pub(super) fn starts_with_total(cell: &TableCell<'_>) -> bool {
    let text = lower_text(cell);
    let mut words = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty());
    words
        .find(|word| !TOTAL_QUALIFIERS.contains(word))
        .is_some_and(|word| TOTAL_WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_totals_from_products() {
        let text = |text: &'static str| TableCell::Text(text.into());
        for total in [
            "Итого",
            "Итого:",
            "Общий итог",
            "ВСЕГО",
            "Grand Total",
            "Subtotal",
            "Подытог",
        ] {
            assert!(is_total_label(&text(total)), "{total}");
        }
        for product in ["Итого: 1 позиция", "TOTAL-5", "Общий", "Тотал"] {
            assert!(!is_total_label(&text(product)), "{product}");
        }
    }
}

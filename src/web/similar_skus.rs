//! SKUs that differ from a SKU only in case or leading zeros: a spreadsheet may have changed them.

use std::collections::BTreeSet;

use stock::Sku;

use super::page_context::PageContext;
use super::sku::SkuLink;
use crate::ops::OpsState;

/// Longest SKU of digits that gets leading zeros: the length of a long article number.
const MAX_PADDED_CHARS: usize = 18;

/// Finds the similar SKUs that exist, in all shops. Each candidate is one look-up, none is a scan.
pub(super) fn similar_skus(state: &OpsState, sku: &Sku, context: PageContext) -> Vec<SkuLink> {
    let candidates = candidates(sku);
    let mut found = Vec::new();
    for (id, shop) in state.shops_with_ids() {
        for candidate in &candidates {
            if let Some(entry) = state.data.book.get(id, candidate.as_str()) {
                let count = entry.level().count.get();
                found.push(SkuLink::new(&shop.name, candidate, count, context));
            }
        }
    }
    found
}

/// Returns the spellings to try, without the SKU itself.
fn candidates(sku: &Sku) -> Vec<Sku> {
    let text = sku.as_str();
    let mut spellings: BTreeSet<String> = [text.to_lowercase(), text.to_uppercase()].into();
    let without_zeros = text.trim_start_matches('0');
    let begins_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    if begins_with_digit && !without_zeros.is_empty() {
        let padded = (0..=MAX_PADDED_CHARS.saturating_sub(without_zeros.chars().count()))
            .map(|zeros| format!("{}{without_zeros}", "0".repeat(zeros)));
        spellings.extend(padded);
    }
    spellings.remove(text);
    let valid = spellings.iter().filter_map(|text| Sku::parse(text).ok());
    valid.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_leading_zeros_are_tried() {
        let tried = |text: &str| -> Vec<String> {
            let sku = Sku::parse(text).unwrap();
            candidates(&sku).iter().map(ToString::to_string).collect()
        };
        assert_eq!(tried("Abc"), ["ABC", "abc"]);
        assert_eq!(tried("Болт"), ["БОЛТ", "болт"]);
        assert_eq!(tried("-"), [""; 0]);
        let digits = tried("0557722");
        assert_eq!(digits.len(), 12, "{digits:?}");
        assert!(digits.contains(&"557722".to_owned()));
        assert!(digits.contains(&"00557722".to_owned()));
        assert!(!digits.contains(&"0557722".to_owned()));
        assert!(tried("000").is_empty());
        assert_eq!(tried("1234567890123456789"), [""; 0]);
        assert_eq!(tried("01234567890123456789"), ["1234567890123456789"]);
    }
}

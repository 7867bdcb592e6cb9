//! Addresses of pages whose names come from outside.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters of a path segment that need no encoding.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Address of the page about a SKU.
pub(super) fn sku_page(shop: &str, sku: &str) -> String {
    let segment = |text| utf8_percent_encode(text, SEGMENT);
    format!("/shops/{}/skus/{}", segment(shop), segment(sku))
}

/// Address of the page about a shop.
pub(super) fn shop_page(shop: &str) -> String {
    format!("/shops/{}", utf8_percent_encode(shop, SEGMENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment_of_the_path() {
        assert_eq!(
            sku_page("moscow", "A/9?x#y"),
            "/shops/moscow/skus/A%2F9%3Fx%23y"
        );
        assert_eq!(sku_page("m", "Б%"), "/shops/m/skus/%D0%91%25");
        assert_eq!(shop_page("a-b_c"), "/shops/a-b_c");
    }
}

//! Fuzz targets for values in rows of files, and settings for the file targets.

use stock_import::{DecimalMark, Quantity, ReadSettings, VariantPolicy};

/// Parses a quantity from a table cell.
pub(crate) fn quantity(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for decimal in [None, Some(DecimalMark::Comma), Some(DecimalMark::Point)] {
        let Ok(quantity) = Quantity::parse(text, decimal) else {
            continue;
        };
        // The displayed quantity has a point and must be read back unchanged.
        let again = Quantity::parse(&quantity.to_string(), Some(DecimalMark::Point));
        assert_eq!(again, Ok(quantity), "{text:?}");
        // Without `decimal`, only unambiguous text is accepted, so neither setting may read it
        // differently.
        if decimal.is_none() {
            for mark in [DecimalMark::Comma, DecimalMark::Point] {
                let other = Quantity::parse(text, Some(mark));
                assert!(
                    other.is_err() || other == Ok(quantity),
                    "{text:?} {mark:?}: {other:?}"
                );
            }
        }
    }
}

/// Parses the text of a SKU.
pub(crate) fn sku(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for accepts_suspicious_skus in [false, true] {
        let reading = ReadSettings {
            accepts_suspicious_skus,
            ..ReadSettings::default()
        };
        let Ok(sku) = reading.parse_sku(text) else {
            continue;
        };
        assert!(!sku.is_empty() && sku.trim() == sku, "{text:?}: {sku:?}");
        // After the first reading has removed spreadsheet markers, a second one must remove nothing.
        // SKUs that start with such a marker are exempt.
        if !sku.starts_with(['\'', '=']) {
            let again = reading.parse_sku(&sku);
            assert!(
                again.as_ref() == Ok(&sku),
                "{text:?}: {sku:?}, then {again:?}"
            );
        }
    }
}

/// Returns settings that are switched by the bits of `choice`.
pub(crate) fn settings(choice: usize) -> ReadSettings {
    let bit = |at: u32| choice >> at & 1 == 1;
    ReadSettings {
        floors_fractions: bit(0),
        zeroes_negatives: bit(0),
        zeroes_unavailable: bit(1),
        accepts_unterminated_row: bit(2),
        zeroes_empty_quantities: bit(3),
        decimal: match (bit(4), bit(5)) {
            (false, _) => None,
            (true, false) => Some(DecimalMark::Comma),
            (true, true) => Some(DecimalMark::Point),
        },
        accepts_suspicious_skus: bit(6),
        variants: if bit(7) {
            VariantPolicy::Sum
        } else {
            VariantPolicy::Reject
        },
        ..ReadSettings::default()
    }
}

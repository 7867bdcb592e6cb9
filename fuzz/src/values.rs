//! Values of a file's rows.

use stockbridge::sources::{DecimalMark, Quantity, ReadSettings, VariantPolicy};

/// The number of a table's cell.
pub(crate) fn quantity(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for decimal in [None, Some(DecimalMark::Comma), Some(DecimalMark::Point)] {
        let Ok(quantity) = Quantity::parse(text, decimal) else {
            continue;
        };
        // What is written with a point and read so is the same.
        let again = Quantity::parse(&quantity.to_string(), Some(DecimalMark::Point));
        assert_eq!(again, Ok(quantity), "{text:?}");
        // Without `decimal`, a text is accepted only if it has one reading, so neither setting may
        // read it differently.
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

/// The text of a SKU.
pub(crate) fn sku(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    for takes_suspicious_skus in [false, true] {
        let reading = ReadSettings {
            accepts_suspicious_skus: takes_suspicious_skus,
            ..ReadSettings::default()
        };
        let Ok(sku) = reading.parse_sku(text) else {
            continue;
        };
        assert!(!sku.is_empty() && sku.trim() == sku, "{text:?}: {sku:?}");
        // Once what a spreadsheet adds is removed, a second reading removes nothing; a SKU of its
        // own may begin as a formula or a text of a spreadsheet does.
        if !sku.starts_with(['\'', '=']) {
            let again = reading.parse_sku(&sku);
            assert!(
                again.as_ref() == Ok(&sku),
                "{text:?}: {sku:?}, then {again:?}"
            );
        }
    }
}

/// Settings, each switched by a bit of the number.
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

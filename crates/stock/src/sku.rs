//! SKU text: trimming and validation by the Market's rules.

use std::borrow::Borrow;
use std::fmt;

use compact_str::CompactString;

/// Maximum length of a SKU, both in characters and in UTF-16 units.
///
/// The Market documents 255 characters without naming the unit. A SKU within both limits is valid
/// in either reading. Source: `ShopSku.maxLength` and `pattern`, partner API OpenAPI, 2026-07-17.
pub const MAX_SKU_LENGTH: usize = 255;

/// Mark of a visible ASCII character.
const GRAPHIC: u8 = 1;

/// Mark of the first of the two bytes of a letter from U+0400 to U+047F, which are Cyrillic.
const CYRILLIC: u8 = 2;

/// Marks of the bytes that begin or end most SKUs. With comparisons instead of this table, a branch
/// would be predicted wrongly for every Cyrillic text among Latin ones.
static EDGES: [u8; 256] = {
    let mut marks = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        marks[byte] = GRAPHIC;
        byte += 1;
    }
    marks[0xd0] = CYRILLIC;
    marks[0xd1] = CYRILLIC;
    marks
};

/// Stock-keeping unit, spelled as in the shop's catalogue.
///
/// Outer Unicode white space is trimmed because the Market trims it. Nothing else is changed, so
/// `557722` and `0557722` stay two SKUs, and so do `abc` and `ABC`.
///
/// Texts of up to 24 bytes, that is nearly every real SKU, are stored inline.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Sku(pub(super) CompactString);

impl Sku {
    /// Trims and validates a SKU from a request or a file.
    ///
    /// # Errors
    /// The text violates the Market's pattern `^(?=.*\S.*)[^\x00-\x08\x0A-\x1f\x7f]{1,255}$`.
    pub fn parse(text: &str) -> Result<Self, SkuError> {
        let text = Self::trim(text);
        validate(text)?;
        Ok(Self(CompactString::new(text)))
    }

    /// Returns the text without outer white space.
    #[must_use]
    #[inline]
    pub fn trim(text: &str) -> &str {
        // Nearly every text is trimmed already: then its first byte and its last two decide.
        let edge = |byte: &u8| EDGES[usize::from(*byte)];
        match text.as_bytes() {
            [first, .., before_last, last]
                if edge(first) != 0
                    && (edge(last) & GRAPHIC) | (edge(before_last) & CYRILLIC) != 0 =>
            {
                text
            }
            _ => text.trim(),
        }
    }

    /// Returns the trimmed text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// Equal to the hash of the text, so that a map of SKUs can be looked up with a `&str`.
impl std::hash::Hash for Sku {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Sku {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Violation of the Market's rules for a SKU.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SkuError {
    /// Text of white space only.
    #[error("sku is empty, at least one visible character is needed")]
    Empty,
    /// Control character other than TAB.
    #[error("sku contains the control character U+{0:04X}, only TAB is allowed")]
    Control(u32),
    /// Length above [`MAX_SKU_LENGTH`].
    #[error("sku is {0} characters long, the limit is {MAX_SKU_LENGTH}")]
    TooLong(usize),
}

fn validate(trimmed: &str) -> Result<(), SkuError> {
    if trimmed.is_empty() {
        return Err(SkuError::Empty);
    }
    let is_forbidden = |c: &char| matches!(c, '\0'..='\x08' | '\x0A'..='\x1F' | '\x7F');
    if let Some(c) = trimmed.chars().find(is_forbidden) {
        return Err(SkuError::Control(u32::from(c)));
    }
    // A text never has more UTF-16 units than bytes, so shorter texts need no counting.
    if trimmed.len() > MAX_SKU_LENGTH {
        let units = trimmed.encode_utf16().count();
        if units > MAX_SKU_LENGTH {
            return Err(SkuError::TooLong(units));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn trims_outer_white_space_only() {
        let sku = Sku::parse("\u{a0}\t A \t B\u{3000}\n").unwrap();
        assert_eq!(sku.as_str(), "A \t B");
    }

    #[test]
    fn leading_zeros_and_case_are_significant() {
        assert_ne!(Sku::parse("557722"), Sku::parse("0557722"));
        assert_ne!(Sku::parse("abc"), Sku::parse("ABC"));
        assert_ne!(Sku::parse("é"), Sku::parse("e\u{301}"));
    }

    #[test]
    fn rejects_text_outside_the_pattern() {
        assert_eq!(Sku::parse(" \u{2003}\t"), Err(SkuError::Empty));
        assert_eq!(Sku::parse("a\u{7f}b"), Err(SkuError::Control(0x7f)));
        assert_eq!(Sku::parse("a\nb"), Err(SkuError::Control(0x0a)));
        assert_eq!(
            Sku::parse(&"я".repeat(256)).unwrap_err().to_string(),
            "sku is 256 characters long, the limit is 255"
        );
    }

    #[test]
    fn limits_characters_and_utf16_units() {
        assert!(Sku::parse(&"я".repeat(255)).is_ok());
        assert!(Sku::parse(&"😀".repeat(127)).is_ok());
        assert_eq!(Sku::parse(&"😀".repeat(128)), Err(SkuError::TooLong(256)));
    }

    proptest! {
        #[test]
        fn trim_equals_unicode_trim(text in "[ \tA~\u{a0}\u{85}\u{2003}яРѿЀ\u{3c0}]{0,5}") {
            prop_assert_eq!(Sku::trim(&text), text.trim());
        }

        #[test]
        fn parsing_is_idempotent(text in any::<String>()) {
            if let Ok(sku) = Sku::parse(&text) {
                prop_assert_eq!(Sku::parse(sku.as_str()), Ok(sku));
            }
        }

        #[test]
        fn accepts_exactly_the_pattern(text in "[ -~\t\r\u{7f}\u{1f}я😀\u{a0}]{0,300}") {
            let trimmed = text.trim();
            let units = trimmed.encode_utf16().count();
            let legal = trimmed.chars().all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}'));
            prop_assert_eq!(Sku::parse(&text).is_ok(), legal && (1..=255).contains(&units));
        }
    }
}

use std::fmt;

use crate::stock::MAX_COUNT;

/// How much of something there is, in thousandths of a piece, as a source states it.
///
/// Exact: 1C writes three decimals, and a third of a piece is nobody's stock. The bounds are
/// those of a count, either way.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantity(i64);

const PIECE: i64 = 1_000;
const MAX_PIECES: i64 = MAX_COUNT as i64;

impl Quantity {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// From thousandths; `None` if that is more than any count.
    #[must_use]
    pub fn from_thousandths(thousandths: i64) -> Option<Self> {
        (-MAX_PIECES * PIECE..=MAX_PIECES * PIECE)
            .contains(&thousandths)
            .then_some(Self(thousandths))
    }

    /// From whole pieces; `None` if that is more than any count.
    #[must_use]
    pub fn from_pieces(pieces: i64) -> Option<Self> {
        Self::from_thousandths(pieces.checked_mul(PIECE)?)
    }

    /// In thousandths of a piece.
    #[must_use]
    pub fn thousandths(self) -> i64 {
        self.0
    }

    /// Whole pieces, rounded down: −0.5 is −1.
    #[must_use]
    pub fn pieces(self) -> i64 {
        self.0.div_euclid(PIECE)
    }

    /// Whether a part of a piece is in it.
    #[must_use]
    pub fn is_fraction(self) -> bool {
        self.0 % PIECE != 0
    }

    /// Reads a number as people, 1C and spreadsheets write it: `3`, `3.000`, `46,5`, `-2`,
    /// `1 234,000` with any kind of blank, `1.234,00` or `1,234.00` where both signs tell
    /// which is which.
    ///
    /// A single comma or point is always the decimal one: `1,234` is a fraction, and so no
    /// count by default, rather than a thousand too many. Past the third decimal only noise of
    /// binary fractions is let go, that is from the seventh on.
    ///
    /// # Errors
    /// It is no such number, or more than any count.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let no_number = || QuantityError::NoNumber(text.to_owned());
        let trimmed = trim(text);
        let (is_negative, digits) = match trimmed.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, trim(rest)),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let (whole, fraction) = split(digits).ok_or_else(no_number)?;
        let whole = ungrouped(whole).ok_or_else(no_number)?;
        let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain(&whole) || !is_plain(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return Err(no_number());
        }
        let whole = whole.trim_start_matches('0');
        let too_much = || QuantityError::TooMuch(text.to_owned());
        let pieces: i64 = match whole {
            "" => 0,
            some => some.parse().map_err(|_| too_much())?,
        };
        let part = thousandths(fraction).ok_or_else(|| QuantityError::TooFine(text.to_owned()))?;
        let sum = pieces.checked_mul(PIECE).and_then(|n| n.checked_add(part));
        let signed = sum.map(|n| if is_negative { -n } else { n });
        signed.and_then(Self::from_thousandths).ok_or_else(too_much)
    }
}

/// Without the blanks around it, those included that no keyboard has.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}')
}

/// Whole part and decimals; `None` if the signs contradict each other.
fn split(digits: &str) -> Option<(&str, &str)> {
    let Some(last) = digits.rfind([',', '.']) else { return Some((digits, "")) };
    let (whole, rest) = digits.split_at(last);
    let (sign, fraction) = rest.split_at(1);
    // Twice the same sign groups thousands, and no decimals were meant: which of the two it is
    // cannot be told from `1.234.567` alone, so it is no number.
    (!whole.contains(sign)).then_some((whole, fraction))
}

/// The digits of a whole part whose thousands may be grouped by one kind of blank or sign.
fn ungrouped(whole: &str) -> Option<std::borrow::Cow<'_, str>> {
    let is_sign = |c: char| c == ',' || c == '.' || c == '\'' || c.is_whitespace();
    let Some(sign) = whole.chars().find(|c| is_sign(*c)) else { return Some(whole.into()) };
    let mut groups = whole.split(sign);
    let first = groups.next()?;
    let is_grouped = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3);
    is_grouped.then(|| whole.replace(sign, "").into())
}

/// Decimals as thousandths; `None` if they are finer.
fn thousandths(fraction: &str) -> Option<i64> {
    // Six decimals say what was meant; what follows is what a binary fraction adds.
    let mut millionths = 0_i64;
    for place in 0..6 {
        let digit = fraction.as_bytes().get(place).map_or(0, |byte| i64::from(byte - b'0'));
        millionths = millionths * 10 + digit;
    }
    if fraction.as_bytes().get(6).is_some_and(|byte| *byte >= b'5') {
        millionths += 1;
    }
    (millionths % 1_000 == 0).then_some(millionths / 1_000)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (pieces, part) = (self.0.abs() / PIECE, self.0.abs() % PIECE);
        if part == 0 {
            return write!(f, "{sign}{pieces}");
        }
        let part = format!("{part:03}");
        write!(f, "{sign}{pieces}.{}", part.trim_end_matches('0'))
    }
}

/// Why a text is no quantity, or none that this source may give.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuantityError {
    /// Letters, two signs, an exponent.
    #[error("quantity is '{0}', it must be a number, or a word the setting words knows")]
    NoNumber(String),
    /// More than three decimals.
    #[error("quantity is '{0}', it must have at most three decimals")]
    TooFine(String),
    /// Part of a piece.
    #[error("quantity is '{0}', it must be whole, or set fraction = \"floor\"")]
    Fraction(String),
    /// Less than nothing.
    #[error("quantity is '{0}', it must not be negative, or set negative = \"zero\"")]
    Negative(String),
    /// More than the Market takes.
    #[error("quantity is '{0}', it must be at most {MAX_COUNT}")]
    TooMuch(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_people_1c_and_spreadsheets_write_them() {
        for (text, thousandths) in [
            ("3", 3_000),
            ("3.000", 3_000),
            ("46,5", 46_500),
            ("-2", -2_000),
            ("\u{2212}2", -2_000),
            ("+7", 7_000),
            ("1 234,000", 1_234_000),
            ("1\u{a0}234,000", 1_234_000),
            ("1\u{202f}234\u{202f}567", 1_234_567_000),
            ("1.234,00", 1_234_000),
            ("1,234.00", 1_234_000),
            ("1,234", 1_234),
            ("007", 7_000),
            (".5", 500),
            ("5.", 5_000),
            (" 15\t", 15_000),
            ("2.9999999999999996", 3_000),
            ("3.0000000000000004", 3_000),
            ("2000000000", 2_000_000_000_000),
            ("00000000000000000000000000003", 3_000),
        ] {
            assert_eq!(Quantity::parse(text).map(Quantity::thousandths), Ok(thousandths), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_said_to_be_none() {
        for text in [
            "",
            "-",
            ">10",
            "много",
            "нет",
            "1e3",
            "5E+05",
            "NaN",
            "inf",
            "0x10",
            "1 23",
            "12 3456",
            "1.234.567",
            "1,2,3",
            "--2",
            "1-2",
            "½",
            "٣",
            ".",
            ",",
            "1 234 5",
        ] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::NoNumber(text.into())), "{text}");
        }
        let fine = "0.33333";
        assert_eq!(Quantity::parse(fine), Err(QuantityError::TooFine(fine.into())));
        for text in ["2000000001", "-2000000001", "2000000000.5", "99999999999999999999999"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::TooMuch(text.into())), "{text}");
        }
    }

    #[test]
    fn parts_of_pieces_are_rounded_down_on_both_sides_of_zero() {
        for (thousandths, pieces) in [(46_500, 46), (999, 0), (-1, -1), (-2_000, -2), (0, 0)] {
            assert_eq!(Quantity::from_thousandths(thousandths).unwrap().pieces(), pieces);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_what_it_was(
            thousandths in -2_000_000_000_000_i64..=2_000_000_000_000,
        ) {
            let quantity = Quantity::from_thousandths(thousandths).unwrap();
            prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,12}|[-+0-9., eE\u{a0}]{0,30}") {
            let _any = Quantity::parse(&text);
        }
    }
}

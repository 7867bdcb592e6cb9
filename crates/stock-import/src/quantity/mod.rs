//! Exact quantities of a source, and the numbers that people, 1C and spreadsheets write.
//!
//! Decides whether a comma or a point is a decimal mark or groups thousands. A number for which
//! neither the number, its column nor a setting decides is ambiguous, and is not applied.

mod number_style;

use std::fmt;

pub use self::number_style::NumberStyle;
use stock::MAX_COUNT;

/// A quantity as a source states it, in thousandths of a piece: 1C writes three decimals.
///
/// The absolute value is at most [`MAX_COUNT`] pieces.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantity(i64);

const THOUSANDTHS_PER_PIECE: i64 = 1_000;
const MAX_PIECES: i64 = MAX_COUNT as i64;

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// The largest quantity, [`MAX_COUNT`] pieces.
    pub const MAX: Self = Self(MAX_PIECES * THOUSANDTHS_PER_PIECE);

    /// Creates a quantity from thousandths; `None` if it is out of bounds.
    #[must_use]
    pub fn from_thousandths(thousandths: i64) -> Option<Self> {
        (-MAX_PIECES * THOUSANDTHS_PER_PIECE..=MAX_PIECES * THOUSANDTHS_PER_PIECE)
            .contains(&thousandths)
            .then_some(Self(thousandths))
    }

    /// Creates a quantity from whole pieces; `None` if it is out of bounds.
    #[must_use]
    pub fn from_pieces(pieces: i64) -> Option<Self> {
        Self::from_thousandths(pieces.checked_mul(THOUSANDTHS_PER_PIECE)?)
    }

    /// Returns the quantity in thousandths of a piece.
    #[must_use]
    pub fn thousandths(self) -> i64 {
        self.0
    }

    /// Returns whole pieces, rounded down: −0.5 is −1.
    #[must_use]
    pub fn pieces(self) -> i64 {
        self.0.div_euclid(THOUSANDTHS_PER_PIECE)
    }

    /// Returns true if the quantity is not a whole number of pieces.
    #[must_use]
    pub fn is_fraction(self) -> bool {
        self.0 % THOUSANDTHS_PER_PIECE != 0
    }

    /// Reads a number as people, 1C and spreadsheets write it: `3`, `46,5`, `-2`, `1 234,000`
    /// with any kind of blank, `1.234,00` or `1,234.00`.
    ///
    /// One comma or point before exactly three digits may be a decimal mark or group thousands:
    /// `2,000` is two pieces or two thousand. `decimal` decides if it is known. Otherwise the
    /// number itself must exclude one reading, as `0,500`, `1234,500` and `1.234.567` do. Past the
    /// sixth decimal, the noise of binary fractions is dropped; the rest beyond thousandths is
    /// rounded down.
    ///
    /// # Errors
    /// The text is not a number, can be read in two ways, or is out of bounds.
    pub fn parse(text: &str, decimal: Option<DecimalMark>) -> Result<Self, QuantityError> {
        Self::parse_exact(text, decimal).map(|(quantity, _)| quantity)
    }

    /// Reads a number like [`Quantity::parse`]. Also returns true if nothing was rounded off.
    pub(crate) fn parse_exact(
        text: &str,
        decimal: Option<DecimalMark>,
    ) -> Result<(Self, bool), QuantityError> {
        ParsedNumber::parse(text, decimal).and_then(|number| number.to_quantity(text))
    }
}

/// Sign between the whole part of a number and its decimals.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum DecimalMark {
    /// `46,5`, as in Russian.
    Comma,
    /// `46.5`, as in English and in XML.
    Point,
}

impl DecimalMark {
    /// Returns the name in the setting `decimal`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the mark with that name in the setting.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    fn other(self) -> Self {
        match self {
            Self::Comma => Self::Point,
            Self::Point => Self::Comma,
        }
    }

    fn symbol(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Point => '.',
        }
    }
}

/// Possible readings of the comma or point in a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MarkReading {
    /// The number has neither.
    NoMark,
    /// The mark can only be decimal.
    Decimal(DecimalMark),
    /// The mark can only group thousands.
    Grouping(DecimalMark),
    /// The mark can be decimal or group thousands.
    Ambiguous(DecimalMark),
}

/// A number split at its last mark.
struct ParsedNumber<'a> {
    is_negative: bool,
    /// Text before the last mark.
    before_mark: &'a str,
    /// Text after the last mark.
    after_mark: &'a str,
    reading: MarkReading,
    /// The other mark, if it groups the whole part.
    group_mark: Option<DecimalMark>,
}

impl<'a> ParsedNumber<'a> {
    fn parse(text: &'a str, decimal: Option<DecimalMark>) -> Result<Self, QuantityError> {
        let mut number = Self::split(text)?;
        let not_a_number = || QuantityError::NotANumber(text.to_owned());
        number.reading = match (number.reading, decimal) {
            (MarkReading::Ambiguous(_), None) => {
                return Err(QuantityError::Ambiguous(text.to_owned()));
            }
            (MarkReading::Ambiguous(mark), Some(decimal)) if mark == decimal => {
                MarkReading::Decimal(mark)
            }
            (MarkReading::Ambiguous(mark), Some(_)) => MarkReading::Grouping(mark),
            (MarkReading::Decimal(mark), Some(decimal)) if mark != decimal => {
                return Err(not_a_number());
            }
            (MarkReading::Grouping(mark), Some(decimal)) if mark == decimal => {
                return Err(not_a_number());
            }
            (reading, _) => reading,
        };
        Ok(number)
    }

    /// Splits a text. An ambiguous mark stays undecided: only a column or a setting can decide it.
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        let trimmed = trim_blanks(text);
        let (is_negative, digits) = match trimmed.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, trim_blanks(rest)),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let (before_mark, after_mark, reading, group_mark) = match digits.rsplit_once([',', '.']) {
            None => (digits, "", MarkReading::NoMark, None),
            Some((whole, rest)) => {
                let is_comma = digits
                    .get(whole.len()..)
                    .is_some_and(|mark| mark.starts_with(','));
                let mark = if is_comma {
                    DecimalMark::Comma
                } else {
                    DecimalMark::Point
                };
                let group_mark = Some(mark.other()).filter(|it| whole.contains(it.symbol()));
                let reading = classify_mark(whole, rest, mark, group_mark.is_some());
                (whole, rest, reading, group_mark)
            }
        };
        let is_all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = ungrouped(before_mark).is_some_and(|whole| is_all_digits(&whole))
            && is_all_digits(after_mark)
            && !(before_mark.is_empty() && after_mark.is_empty());
        let is_cut_group = matches!(reading, MarkReading::Grouping(_)) && after_mark.len() != 3;
        if !is_number || is_cut_group {
            return Err(QuantityError::NotANumber(text.to_owned()));
        }
        Ok(ParsedNumber {
            is_negative,
            before_mark,
            after_mark,
            reading,
            group_mark,
        })
    }

    /// Returns the value, rounded down to thousandths, and true if nothing was rounded off.
    fn to_quantity(&self, text: &str) -> Result<(Quantity, bool), QuantityError> {
        let too_large = || QuantityError::TooLarge(text.to_owned());
        let mut whole = ungrouped(self.before_mark).unwrap_or_default().into_owned();
        let mut fraction = self.after_mark;
        if let MarkReading::Grouping(_) = self.reading {
            whole.push_str(fraction);
            fraction = "";
        }
        let pieces: i64 = match whole.trim_start_matches('0') {
            "" => 0,
            some => some.parse().map_err(|_| too_large())?,
        };
        let (millionths, is_exact) = millionths(&whole, fraction);
        let unsigned = pieces.checked_mul(THOUSANDTHS_PER_PIECE * 1_000);
        let unsigned = unsigned.and_then(|n| n.checked_add(millionths));
        let unsigned = unsigned.ok_or_else(too_large)?;
        let signed = if self.is_negative {
            -unsigned
        } else {
            unsigned
        };
        let quantity = Quantity::from_thousandths(signed.div_euclid(1_000));
        let is_whole = signed.rem_euclid(1_000) == 0;
        Ok((quantity.ok_or_else(too_large)?, is_exact && is_whole))
    }
}

/// Classifies the last mark of a number as far as the number itself allows.
fn classify_mark(whole: &str, rest: &str, mark: DecimalMark, has_groups: bool) -> MarkReading {
    if whole.contains(mark.symbol()) {
        // A number has only one decimal mark.
        MarkReading::Grouping(mark)
    } else if rest.len() != 3
        || whole.is_empty()
        || whole.len() > 3
        || whole.starts_with('0')
        || has_groups
    {
        MarkReading::Decimal(mark)
    } else {
        MarkReading::Ambiguous(mark)
    }
}

/// Removes surrounding blanks, including a byte order mark and zero-width spaces, which exports
/// leave in cells.
#[must_use]
pub fn trim_blanks(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}')
}

/// Returns the digits of a whole part, without the separator of its groups; `None` if the groups
/// are not of three digits.
fn ungrouped(whole: &str) -> Option<std::borrow::Cow<'_, str>> {
    let is_separator = |c: char| c == ',' || c == '.' || c == '\'' || c.is_whitespace();
    let Some(separator) = whole.chars().find(|c| is_separator(*c)) else {
        return Some(whole.into());
    };
    let mut groups = whole.split(separator);
    let first = groups.next()?;
    let is_grouped = (1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3);
    is_grouped.then(|| whole.replace(separator, "").into())
}

/// Number of digits from which the last ones may be noise of a binary fraction.
const NOISY_DIGITS: usize = 15;

/// Returns the decimals as millionths, and true if nothing else was cut off. The noise of a
/// binary fraction beyond six digits is rounded and does not count.
fn millionths(whole: &str, fraction: &str) -> (i64, bool) {
    let digit = |index: usize| {
        fraction
            .as_bytes()
            .get(index)
            .map_or(0, |byte| i64::from(byte.saturating_sub(b'0')))
    };
    let first_six = (0..6).fold(0, |sum, place| sum * 10 + digit(place));
    let has_more = (6..fraction.len()).any(|index| digit(index) != 0);
    let is_noisy = whole.trim_start_matches('0').len() + fraction.len() >= NOISY_DIGITS;
    if is_noisy {
        (first_six + i64::from(digit(6) >= 5), true)
    } else {
        (first_six, !has_more)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (pieces, part) = (self.0.abs() / 1_000, self.0.abs() % 1_000);
        if part == 0 {
            return write!(f, "{sign}{pieces}");
        }
        let part = format!("{part:03}");
        write!(f, "{sign}{pieces}.{}", part.trim_end_matches('0'))
    }
}

/// Reason why a text is not a quantity, or not one that the settings allow.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QuantityError {
    /// The text is not a number: it has letters, two signs or an exponent.
    #[error("quantity is '{0}', it must be a number, or a word listed in the setting words")]
    NotANumber(String),
    /// The mark groups thousands, or three decimals follow it.
    #[error(
        "quantity is '{0}', which may be thousands or have three decimals: set decimal = \"comma\" \
         or decimal = \"point\""
    )]
    Ambiguous(String),
    /// The quantity is not a whole number of pieces.
    #[error("quantity is '{0}', it must be whole, or set fraction = \"floor\"")]
    Fraction(String),
    /// The quantity is negative.
    #[error("quantity is '{0}', it must not be negative, or set negative = \"zero\"")]
    Negative(String),
    /// The quantity is larger than the Market accepts.
    #[error("quantity is '{0}', it must be at most {MAX_COUNT}")]
    TooLarge(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_numbers_of_people_1c_and_spreadsheets() {
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
            let last = text.rfind([',', '.']).and_then(|at| text.get(at..=at));
            let mark = if last == Some(",") {
                DecimalMark::Comma
            } else {
                DecimalMark::Point
            };
            let parsed = Quantity::parse(text, Some(mark));
            assert_eq!(parsed.map(Quantity::thousandths), Ok(thousandths), "{text}");
        }
    }

    #[test]
    fn rejects_text_that_is_not_a_number() {
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
            "1,2,3",
            "1.234.56",
            "1.234,567,890",
            "--2",
            "1-2",
            "½",
            "٣",
            ".",
            ",",
            "1 234 5",
        ] {
            assert_eq!(
                Quantity::parse(text, None),
                Err(QuantityError::NotANumber(text.into())),
                "{text}"
            );
        }
        for text in [
            "2000000001",
            "-2000000001",
            "2000000000.5",
            "99999999999999999999999",
        ] {
            assert_eq!(
                Quantity::parse(text, None),
                Err(QuantityError::TooLarge(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn rounds_down_on_both_sides_of_zero() {
        for (thousandths, pieces) in [(46_500, 46), (999, 0), (-1, -1), (-2_000, -2), (0, 0)] {
            assert_eq!(
                Quantity::from_thousandths(thousandths).unwrap().pieces(),
                pieces
            );
        }
    }

    #[test]
    fn thousands_and_three_decimals_are_ambiguous() {
        use DecimalMark::{Comma, Point};
        for (text, by_comma, by_point) in [
            ("2,000", 2_000, 2_000_000),
            ("2.000", 2_000_000, 2_000),
            ("10,000", 10_000, 10_000_000),
            ("-1,500", -1_500, -1_500_000),
        ] {
            let parse = |decimal| Quantity::parse(text, decimal).map(Quantity::thousandths);
            assert_eq!(
                parse(None),
                Err(QuantityError::Ambiguous(text.into())),
                "{text}"
            );
            assert_eq!(parse(Some(Comma)), Ok(by_comma), "{text}");
            assert_eq!(parse(Some(Point)), Ok(by_point), "{text}");
        }
        for (text, thousandths) in [
            ("0,500", 500),
            ("0.000", 0),
            ("1234,500", 1_234_500),
            ("1 234,000", 1_234_000),
            ("1.234.567", 1_234_567_000),
            ("1,234,567", 1_234_567_000),
            ("2,00", 2_000),
            ("2,0000", 2_000),
        ] {
            assert_eq!(
                Quantity::parse(text, None).unwrap().thousandths(),
                thousandths,
                "{text}"
            );
        }
        assert!(Quantity::parse("46,5", Some(Point)).is_err());
        assert!(Quantity::parse("1.234.567", Some(Point)).is_err());
    }

    #[test]
    fn a_column_proves_its_decimal_mark() {
        use DecimalMark::{Comma, Point};
        for (column, text, decimal) in [
            (&["0,500"][..], "2,000", Some(Comma)),
            (&["46,5", "12"], "2,000", Some(Comma)),
            (&["1 234,000"], "2,000", Some(Comma)),
            (&["1,234,567"], "2,000", Some(Point)),
            (&["1,234.50"], "2,000", Some(Point)),
            (&["1,234.50"], "2.000", Some(Point)),
            (&["1.234,50"], "2.000", Some(Comma)),
            (&["15", "7"], "2,000", None),
            (&["46,5"], "2.000", None),
            (&["46,5", "1,234,567"], "2,000", None),
            (&["нет", ""], "2,000", None),
        ] {
            let mut style = NumberStyle::default();
            column.iter().for_each(|text| style.learn(text));
            assert_eq!(style.decimal_of(text), decimal, "{column:?}: {text}");
        }
    }

    #[test]
    fn decimals_beyond_thousandths_are_rounded_down() {
        for (text, thousandths, is_exact) in [
            ("12.3456", 12_345, false),
            ("0,33333", 333, false),
            ("-0.0005", -1, false),
            ("2.9999999999999996", 3_000, true),
            ("7.5", 7_500, true),
            ("5.9999999", 5_999, false),
        ] {
            let (quantity, exact) = Quantity::parse_exact(text, None).unwrap();
            assert_eq!(
                (quantity.thousandths(), exact),
                (thousandths, is_exact),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(
            thousandths in -2_000_000_000_000_i64..=2_000_000_000_000,
        ) {
            let quantity = Quantity::from_thousandths(thousandths).unwrap();
            prop_assert_eq!(Quantity::parse(&quantity.to_string(), Some(DecimalMark::Point)), Ok(quantity));
        }

        #[test]
        fn never_panics(text in "\\PC{0,12}|[-+0-9., eE\u{a0}]{0,30}") {
            let _any = Quantity::parse(&text, None);
        }
    }
}

use std::fmt;

use crate::stock::MAX_COUNT;

/// How much of something there is, in thousandths of a piece, as a source states it.
///
/// Exact: 1C writes three decimals, and a third of a piece is nobody's stock. The bounds are
/// those of a count, either way.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantity(i64);

const THOUSANDTHS_PER_PIECE: i64 = 1_000;
const MAX_PIECES: i64 = MAX_COUNT as i64;

impl Quantity {
    /// None at all.
    pub const ZERO: Self = Self(0);

    /// The most of anything.
    pub const MAX: Self = Self(MAX_PIECES * THOUSANDTHS_PER_PIECE);

    /// From thousandths; `None` if that is more than any count.
    #[must_use]
    pub fn from_thousandths(thousandths: i64) -> Option<Self> {
        (-MAX_PIECES * THOUSANDTHS_PER_PIECE..=MAX_PIECES * THOUSANDTHS_PER_PIECE)
            .contains(&thousandths)
            .then_some(Self(thousandths))
    }

    /// From whole pieces; `None` if that is more than any count.
    #[must_use]
    pub fn from_pieces(pieces: i64) -> Option<Self> {
        Self::from_thousandths(pieces.checked_mul(THOUSANDTHS_PER_PIECE)?)
    }

    /// In thousandths of a piece.
    #[must_use]
    pub fn thousandths(self) -> i64 {
        self.0
    }

    /// Whole pieces, rounded down: −0.5 is −1.
    #[must_use]
    pub fn pieces(self) -> i64 {
        self.0.div_euclid(THOUSANDTHS_PER_PIECE)
    }

    /// Whether a part of a piece is in it.
    #[must_use]
    pub fn is_fraction(self) -> bool {
        self.0 % THOUSANDTHS_PER_PIECE != 0
    }

    /// Reads a number as people, 1C and spreadsheets write it: `3`, `46,5`, `-2`, `1 234,000`
    /// with any kind of blank, `1.234,00` or `1,234.00`.
    ///
    /// One comma or point before exactly three digits may be a decimal mark or group thousands:
    /// `2,000` is two pieces or two thousand. `decimal` decides, if it is known; else the number
    /// must itself exclude one reading, as `0,500`, `1234,500` and `1.234.567` do. Past the sixth
    /// decimal only the noise of binary fractions is dropped; what is left beyond thousandths is
    /// rounded down.
    ///
    /// # Errors
    /// The text is not a number, has two readings, or is more than any count.
    pub fn parse(text: &str, decimal: Option<DecimalMark>) -> Result<Self, QuantityError> {
        ParsedNumber::parse(text, decimal)
            .and_then(|number| number.to_quantity(text))
            .map(|(it, _)| it)
    }

    /// Reads a number like [`Quantity::parse`]; also returns whether thousandths hold all of it.
    pub(super) fn parse_exact(
        text: &str,
        decimal: Option<DecimalMark>,
    ) -> Result<(Self, bool), QuantityError> {
        ParsedNumber::parse(text, decimal).and_then(|number| number.to_quantity(text))
    }
}

/// The sign between the whole part of a number and its decimals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecimalMark {
    /// `46,5`, as in Russian.
    Comma,
    /// `46.5`, as in English and in XML.
    Point,
}

impl DecimalMark {
    /// The name in the setting `decimal`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Comma => "comma",
            Self::Point => "point",
        }
    }

    /// The mark that a setting names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Comma, Self::Point]
            .into_iter()
            .find(|mark| mark.name() == name)
    }

    fn symbol(self) -> char {
        match self {
            Self::Comma => ',',
            Self::Point => '.',
        }
    }
}

/// What the numbers of one column prove about their comma and their point.
///
/// A mark is decimal if some number of the column can only be read so, and none can only be read
/// the other way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct NumberStyle {
    comma: MarkUsage,
    point: MarkUsage,
    /// The numbers are literals of a format, whose mark is the point whatever the settings say.
    is_literal: bool,
}

/// What a mark was seen to be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct MarkUsage {
    is_decimal: bool,
    is_grouping: bool,
}

impl NumberStyle {
    /// The style of XML Schema's decimals: the point is decimal. A
    /// comma stays unknown.
    pub(super) const POINT: Self = Self {
        comma: MarkUsage {
            is_decimal: false,
            is_grouping: false,
        },
        point: MarkUsage {
            is_decimal: true,
            is_grouping: false,
        },
        is_literal: false,
    };

    /// The style of number literals: of JSON and of a workbook's cells.
    pub(super) const LITERAL: Self = Self {
        is_literal: true,
        ..Self::POINT
    };

    /// Returns the decimal mark by which a text is read: that of literals, or else the one that
    /// `setting` names, or else the one that the column proves.
    pub(super) fn decimal(self, setting: Option<DecimalMark>, text: &str) -> Option<DecimalMark> {
        if self.is_literal {
            return Some(DecimalMark::Point);
        }
        setting.or_else(|| self.decimal_of(text))
    }

    /// Learns from one number of the column; what is not a number teaches nothing.
    pub(super) fn learn(&mut self, text: &str) {
        let Ok(parsed) = ParsedNumber::split(super::sku_text::strip_artifacts(text)) else {
            return;
        };
        let (mark, is_decimal) = match parsed.reading {
            MarkReading::Decimal(mark) => (mark, true),
            MarkReading::Grouping(mark) => (mark, false),
            MarkReading::NoMark | MarkReading::Ambiguous(_) => return,
        };
        let usage = self.usage_mut(mark);
        usage.is_decimal |= is_decimal;
        usage.is_grouping |= !is_decimal;
        // `1.234,50` proves both.
        if is_decimal && let Some(group) = parsed.group_mark {
            self.usage_mut(group).is_grouping = true;
        }
    }

    fn usage_mut(&mut self, mark: DecimalMark) -> &mut MarkUsage {
        match mark {
            DecimalMark::Comma => &mut self.comma,
            DecimalMark::Point => &mut self.point,
        }
    }

    /// Returns the column's decimal mark, if the column proves what `mark` is in it.
    fn decimal_for(self, mark: DecimalMark) -> Option<DecimalMark> {
        let (usage, other) = match mark {
            DecimalMark::Comma => (self.comma, DecimalMark::Point),
            DecimalMark::Point => (self.point, DecimalMark::Comma),
        };
        match (usage.is_decimal, usage.is_grouping) {
            (true, false) => Some(mark),
            (false, true) => Some(other),
            (true, true) | (false, false) => None,
        }
    }

    /// Returns the decimal mark by which an ambiguous number of the column is read, if the column
    /// proves it. A number that is not ambiguous needs none.
    pub(super) fn decimal_of(self, text: &str) -> Option<DecimalMark> {
        match ParsedNumber::split(text).ok()?.reading {
            MarkReading::Ambiguous(mark) => self.decimal_for(mark),
            MarkReading::NoMark | MarkReading::Decimal(_) | MarkReading::Grouping(_) => None,
        }
    }

    /// The style in a few words, for the shape of a delivery.
    pub(super) fn describe(self) -> &'static str {
        let is_decimal = |usage: MarkUsage| usage.is_decimal && !usage.is_grouping;
        let is_grouping = |usage: MarkUsage| usage.is_grouping && !usage.is_decimal;
        if is_decimal(self.comma) || (is_grouping(self.point) && !is_decimal(self.point)) {
            "decimal comma"
        } else if is_decimal(self.point) || is_grouping(self.comma) {
            "decimal point"
        } else {
            "whole numbers"
        }
    }
}

/// How the comma or point of a number can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum MarkReading {
    /// There is none.
    NoMark,
    /// Only as a decimal mark.
    Decimal(DecimalMark),
    /// Only as one that groups thousands.
    Grouping(DecimalMark),
    /// Either way.
    Ambiguous(DecimalMark),
}

/// A number taken apart.
struct ParsedNumber<'a> {
    is_negative: bool,
    /// Before the last mark.
    before_mark: &'a str,
    /// Behind it.
    after_mark: &'a str,
    reading: MarkReading,
    /// The other mark, where it groups the whole part.
    group_mark: Option<DecimalMark>,
}

impl<'a> ParsedNumber<'a> {
    fn parse(text: &'a str, decimal: Option<DecimalMark>) -> Result<Self, QuantityError> {
        let mut number = Self::split(text)?;
        let conflict = || QuantityError::NotANumber(text.to_owned());
        number.reading = match (number.reading, decimal) {
            (MarkReading::Ambiguous(_), None) => {
                return Err(QuantityError::Ambiguous(text.to_owned()));
            }
            (MarkReading::Ambiguous(mark), Some(decimal)) if mark == decimal => {
                MarkReading::Decimal(mark)
            }
            (MarkReading::Ambiguous(mark), Some(_)) => MarkReading::Grouping(mark),
            (MarkReading::Decimal(mark), Some(decimal)) if mark != decimal => {
                return Err(conflict());
            }
            (MarkReading::Grouping(mark), Some(decimal)) if mark == decimal => {
                return Err(conflict());
            }
            (reading, _) => reading,
        };
        Ok(number)
    }

    /// Takes a text apart, without deciding what only a column or a setting can.
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        let not_a_number = || QuantityError::NotANumber(text.to_owned());
        let trimmed = trim_blanks(text);
        let (is_negative, digits) = match trimmed.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, trim_blanks(rest)),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let number = match digits.rfind([',', '.']) {
            None => ParsedNumber {
                is_negative,
                before_mark: digits,
                after_mark: "",
                reading: MarkReading::NoMark,
                group_mark: None,
            },
            Some(last) => {
                let (whole, rest) = digits.split_at(last);
                let mark = if rest.starts_with(',') {
                    DecimalMark::Comma
                } else {
                    DecimalMark::Point
                };
                let rest = rest.get(1..).unwrap_or_default();
                ParsedNumber {
                    is_negative,
                    before_mark: whole,
                    after_mark: rest,
                    ..Self::classify_mark(whole, rest, mark)
                }
            }
        };
        let is_all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let is_number = ungrouped(number.before_mark).is_some_and(|whole| is_all_digits(&whole))
            && is_all_digits(number.after_mark)
            && !(number.before_mark.is_empty() && number.after_mark.is_empty());
        if !is_number {
            return Err(not_a_number());
        }
        if let MarkReading::Grouping(_) = number.reading
            && number.after_mark.len() != 3
        {
            return Err(not_a_number());
        }
        Ok(number)
    }

    /// Decides as far as the number itself does.
    fn classify_mark(whole: &'a str, rest: &'a str, mark: DecimalMark) -> Self {
        let other = match mark {
            DecimalMark::Comma => DecimalMark::Point,
            DecimalMark::Point => DecimalMark::Comma,
        };
        let group_mark = Some(other).filter(|other| whole.contains(other.symbol()));
        let reading = if whole.contains(mark.symbol()) {
            // A decimal mark stands once.
            MarkReading::Grouping(mark)
        } else if rest.len() != 3
            || whole.is_empty()
            || whole.len() > 3
            || whole.starts_with('0')
            || group_mark.is_some()
        {
            MarkReading::Decimal(mark)
        } else {
            MarkReading::Ambiguous(mark)
        };
        ParsedNumber {
            is_negative: false,
            before_mark: whole,
            after_mark: rest,
            reading,
            group_mark,
        }
    }

    /// The value, rounded down to thousandths, and whether that is all of it.
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
        let unsigned = pieces
            .checked_mul(THOUSANDTHS_PER_PIECE * 1_000)
            .and_then(|n| n.checked_add(millionths));
        let signed = unsigned
            .map(|n| if self.is_negative { -n } else { n })
            .ok_or_else(too_large)?;
        let quantity =
            Quantity::from_thousandths(signed.div_euclid(1_000)).ok_or_else(too_large)?;
        Ok((quantity, is_exact && signed.rem_euclid(1_000) == 0))
    }
}

/// Without the blanks around it, those included that no keyboard has.
pub(super) fn trim_blanks(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}')
}

/// The digits of a whole part whose thousands may be grouped by one kind of blank or sign.
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

/// Digits from which on a number may be a binary fraction, whose last ones are noise.
const NOISY_DIGITS: usize = 15;

/// Decimals as millionths, and whether that is all of them. Beyond six, the noise of a binary
/// fraction is rounded off; other decimals are cut off.
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
        let (pieces, part) = (
            self.0.abs() / THOUSANDTHS_PER_PIECE,
            self.0.abs() % THOUSANDTHS_PER_PIECE,
        );
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
    #[error("quantity is '{0}', it must be a number, or a word that the setting words knows")]
    NotANumber(String),
    /// Thousands, or three decimals.
    #[error(
        "quantity is '{0}', which may be thousands or have three decimals: set decimal = \"comma\" \
         or decimal = \"point\""
    )]
    Ambiguous(String),
    /// Part of a piece.
    #[error("quantity is '{0}', it must be whole, or set fraction = \"floor\"")]
    Fraction(String),
    /// Less than nothing.
    #[error("quantity is '{0}', it must not be negative, or set negative = \"zero\"")]
    Negative(String),
    /// More than the Market takes.
    #[error("quantity is '{0}', it must be at most {MAX_COUNT}")]
    TooLarge(String),
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
    fn parts_of_pieces_are_rounded_down_on_both_sides_of_zero() {
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
        fn what_is_shown_reads_as_what_it_was(
            thousandths in -2_000_000_000_000_i64..=2_000_000_000_000,
        ) {
            let quantity = Quantity::from_thousandths(thousandths).unwrap();
            prop_assert_eq!(Quantity::parse(&quantity.to_string(), Some(DecimalMark::Point)), Ok(quantity));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,12}|[-+0-9., eE\u{a0}]{0,30}") {
            let _any = Quantity::parse(&text, None);
        }
    }
}

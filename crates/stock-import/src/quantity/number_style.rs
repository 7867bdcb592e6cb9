//! Meaning of comma and point in a column of numbers.

use super::{DecimalMark, MarkReading, ParsedNumber};

/// Meaning of comma and point in one column, as its numbers prove it.
///
/// A mark is decimal if at least one number of the column can only be read so, and no number
/// excludes that reading.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NumberStyle {
    comma: MarkUsage,
    point: MarkUsage,
    /// True if the numbers are literals of a format: their decimal mark is always the point, and
    /// the setting does not apply.
    is_literal: bool,
}

/// Readings of a mark that some number of the column proves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct MarkUsage {
    is_decimal: bool,
    is_grouping: bool,
}

impl NumberStyle {
    /// Style of XML Schema's decimals: the point is decimal. A comma stays unknown.
    pub(crate) const POINT: Self = Self {
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

    /// Style of number literals in JSON and in the cells of a workbook.
    pub(crate) const LITERAL: Self = Self {
        is_literal: true,
        ..Self::POINT
    };

    /// Returns the decimal mark for reading a text: that of literals, or else `setting`, or else
    /// the one that the column proves.
    pub(crate) fn decimal(self, setting: Option<DecimalMark>, text: &str) -> Option<DecimalMark> {
        if self.is_literal {
            return Some(DecimalMark::Point);
        }
        setting.or_else(|| self.decimal_of(text))
    }

    /// Learns from one number of the column. A text that is not a number is ignored.
    pub fn learn(&mut self, text: &str) {
        let Ok(parsed) = ParsedNumber::split(crate::sku_text::strip_artifacts(text)) else {
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

    /// Returns the column's decimal mark, if the column proves the meaning of `mark`.
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

    /// Returns the decimal mark for an ambiguous number, if the column proves it; `None` also for a
    /// number that is not ambiguous.
    pub(crate) fn decimal_of(self, text: &str) -> Option<DecimalMark> {
        match ParsedNumber::split(text).ok()?.reading {
            MarkReading::Ambiguous(mark) => self.decimal_for(mark),
            MarkReading::NoMark | MarkReading::Decimal(_) | MarkReading::Grouping(_) => None,
        }
    }

    /// Returns the style in a few words, for the shape of a delivery.
    pub(crate) fn describe(self) -> &'static str {
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

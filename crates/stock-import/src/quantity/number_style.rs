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

impl MarkUsage {
    /// Returns true if the mark is decimal, false if it groups, and `None` if that is not proved.
    fn is_decimal(self) -> Option<bool> {
        (self.is_decimal != self.is_grouping).then_some(self.is_decimal)
    }
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

    /// Returns the decimal mark for an ambiguous number, if the column proves it; `None` also for a
    /// number that is not ambiguous.
    pub(crate) fn decimal_of(self, text: &str) -> Option<DecimalMark> {
        let MarkReading::Ambiguous(mark) = ParsedNumber::split(text).ok()?.reading else {
            return None;
        };
        let usage = match mark {
            DecimalMark::Comma => self.comma,
            DecimalMark::Point => self.point,
        };
        let is_decimal = usage.is_decimal()?;
        Some(if is_decimal { mark } else { mark.other() })
    }

    /// Returns the style in a few words, for the shape of a delivery.
    pub(crate) fn describe(self) -> &'static str {
        match (self.comma.is_decimal(), self.point.is_decimal()) {
            (Some(true), _) | (_, Some(false)) => "decimal comma",
            (Some(false), _) | (_, Some(true)) => "decimal point",
            (None, None) => "whole numbers",
        }
    }
}

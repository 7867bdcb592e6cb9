//! Rules that turn the quantities of the sources into the stock of a SKU.
//!
//! Pure. Without settings, the rules change nothing. They are evaluated from the stored statements
//! each time, so a changed rule needs no new export.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use stock::{Count, MAX_COUNT, Sku, Timestamp};

use super::Quantity;

/// Function that makes one number of several.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Combine {
    /// The latest number.
    #[default]
    Latest,
    /// The sum.
    Sum,
    /// The smallest number.
    Minimum,
    /// The number of the first source in configuration order.
    First,
}

impl Combine {
    /// Returns the name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Adjustments of a number of pieces, applied in the order of the fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Adjustments {
    /// Pieces that are subtracted as a safety reserve.
    pub buffer: u32,
    /// A smaller number becomes zero.
    pub zero_below: u32,
    /// A larger number is reduced to this one.
    pub cap: Option<u32>,
}

impl Adjustments {
    fn apply(self, pieces: i64, trace: &mut RuleTrace<'_>) -> i64 {
        let mut pieces = pieces;
        if self.buffer > 0 {
            pieces = (pieces - i64::from(self.buffer)).max(0);
            trace.record(|| RuleStep::Buffer {
                buffer: self.buffer,
                pieces,
            });
        }
        if pieces < i64::from(self.zero_below) && pieces != 0 {
            pieces = 0;
            trace.record(|| RuleStep::ZeroBelow(self.zero_below));
        }
        if let Some(cap) = self.cap.map(i64::from).filter(|cap| pieces > *cap) {
            pieces = cap;
            trace.record(|| RuleStep::Cap(cap));
        }
        pieces
    }
}

/// The rules of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceRules {
    /// True if the reserved part is subtracted.
    pub subtracts_reserve: bool,
    /// Function over its warehouses: [`Combine::Sum`] or [`Combine::Minimum`].
    pub combine_warehouses: Combine,
    /// Units of the source in one piece, at least 1.
    pub pack_size: u32,
    /// Adjustments of the result.
    pub adjustments: Adjustments,
}

impl Default for SourceRules {
    fn default() -> Self {
        Self {
            subtracts_reserve: true,
            combine_warehouses: Combine::Sum,
            pack_size: 1,
            adjustments: Adjustments::default(),
        }
    }
}

/// Rules for a single SKU, which replace those of the shop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SkuOverride {
    /// Fixed count, regardless of all statements.
    pub count: Option<Count>,
    /// Replaces [`Adjustments::buffer`].
    pub buffer: Option<u32>,
    /// Replaces [`Adjustments::zero_below`].
    pub zero_below: Option<u32>,
    /// Replaces [`Adjustments::cap`].
    pub cap: Option<u32>,
}

/// Rules of one shop, for all its sources.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShopRules {
    /// Function over the sources.
    pub combine: Combine,
    /// Adjustments of the result.
    pub adjustments: Adjustments,
    /// Rules for single SKUs.
    pub overrides: HashMap<Sku, SkuOverride>,
}

/// Statement of one source about one product at one warehouse that feeds the shop.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceQuantity {
    /// Index of the source in configuration order.
    pub source: usize,
    /// SKU as the source spells it, if it differs from ours.
    pub source_sku: Option<String>,
    /// Warehouse of the source; empty if it names none.
    pub warehouse: String,
    /// Quantity in units of the source.
    pub quantity: Quantity,
    /// Reserved part of the quantity.
    pub reserve: Option<Quantity>,
    /// Units of the source in one piece, by the mapping; at least 1.
    pub pack_size: u32,
    /// Date of the statement.
    pub stated_at: Timestamp,
}

/// Result of the rules for one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EvaluatedStock {
    /// Pieces available for order.
    pub count: Count,
    /// Date of the result: that of the latest statement.
    pub stated_at: Timestamp,
    /// Index of the source of the result; of several combined sources the latest.
    pub source: usize,
    /// Date of the latest statement of that source.
    pub source_stated_at: Timestamp,
}

/// Step of an evaluation, with the pieces that it leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleStep {
    /// Statement of a source, converted to pieces.
    Stated(StatedPieces),
    /// Combination of the statements of one source.
    Rows {
        /// Function over the statements.
        combine: Combine,
        /// Number of statements.
        rows: usize,
        /// Pieces of the source.
        pieces: i64,
    },
    /// Combination of the sources.
    Sources {
        /// Function over the sources.
        combine: Combine,
        /// Number of sources.
        sources: usize,
        /// Pieces of the shop.
        pieces: i64,
    },
    /// Subtraction of [`Adjustments::buffer`].
    Buffer {
        /// Pieces of the safety buffer.
        buffer: u32,
        /// Pieces that remain.
        pieces: i64,
    },
    /// Number below [`Adjustments::zero_below`], which became zero.
    ZeroBelow(u32),
    /// Number above [`Adjustments::cap`], which became the cap.
    Cap(i64),
    /// Count set by [`SkuOverride::count`].
    Override(Count),
}

impl fmt::Display for RuleStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stated(stated) => stated.fmt(f),
            Self::Rows {
                combine,
                rows,
                pieces,
            } => write!(f, "{} of {rows} rows: {pieces}", combine.name()),
            Self::Sources {
                combine,
                sources,
                pieces,
            } => write!(f, "{} of {sources} sources: {pieces}", combine.name()),
            Self::Buffer { buffer, pieces } => write!(f, "safety buffer {buffer}: {pieces}"),
            Self::ZeroBelow(limit) => write!(f, "zero below {limit}: 0"),
            Self::Cap(cap) => write!(f, "cap {cap}: {cap}"),
            Self::Override(count) => write!(f, "set for this SKU: {count}"),
        }
    }
}

/// Statement of a source, converted to pieces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StatedPieces {
    /// SKU as the source spells it, if it differs from ours.
    pub source_sku: Option<String>,
    /// Warehouse of the source; empty if it names none.
    pub warehouse: String,
    /// Quantity in units of the source.
    pub quantity: Quantity,
    /// Reserved part that was subtracted.
    pub reserve: Option<Quantity>,
    /// Units of the source in one piece, at least 1.
    pub pack_size: i64,
    /// Pieces of the statement, which may be negative.
    pub pieces: i64,
}

impl fmt::Display for StatedPieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stated")?;
        if let Some(source_sku) = &self.source_sku {
            write!(f, " of '{source_sku}'")?;
        }
        if !self.warehouse.is_empty() {
            write!(f, " at '{}'", self.warehouse)?;
        }
        write!(f, ": {}", self.quantity)?;
        if let Some(reserve) = self.reserve {
            write!(f, ", reserve {reserve}")?;
        }
        if self.pack_size > 1 {
            write!(f, ", packs of {}", self.pack_size)?;
        }
        write!(f, ": {}", self.pieces)
    }
}

/// Recorder of the steps of an evaluation.
#[derive(Debug)]
pub struct RuleTrace<'a>(Option<&'a mut Vec<RuleStep>>);

impl<'a> RuleTrace<'a> {
    /// Creates a trace that records nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Creates a trace that appends each step to `list`.
    #[must_use]
    pub fn recording_to(list: &'a mut Vec<RuleStep>) -> Self {
        Self(Some(list))
    }

    fn record(&mut self, step: impl FnOnce() -> RuleStep) {
        if let Some(list) = &mut self.0 {
            list.push(step());
        }
    }
}

/// Returns the stock of a SKU; `None` if there are no statements. `quantities` are in the order of
/// their sources, and `sources` are the rules of all sources of the shop.
#[must_use]
pub fn evaluate(
    sku: &Sku,
    quantities: &[SourceQuantity],
    sources: &[SourceRules],
    shop: &ShopRules,
    trace: &mut RuleTrace<'_>,
) -> Option<EvaluatedStock> {
    let by_source = quantities.chunk_by(|one, other| one.source == other.source);
    let per_source: Vec<SourcePieces> = by_source
        .filter_map(|quantities| evaluate_source(quantities, &sources[quantities[0].source], trace))
        .collect();
    let latest = *per_source.iter().max_by_key(|stated| stated.stated_at)?;
    let first = per_source[0];
    let pieces = per_source.iter().map(|stated| stated.pieces);
    // The result has the date of the latest statement. With an older date, ingest would ignore it
    // in favour of the previous result, which was computed from fewer sources.
    let (chosen, of_source) = match shop.combine {
        Combine::Latest => (latest.pieces, latest),
        Combine::First => (first.pieces, first),
        Combine::Sum => (pieces.sum(), latest),
        Combine::Minimum => (pieces.min()?, latest),
    };
    if per_source.len() > 1 {
        trace.record(|| RuleStep::Sources {
            combine: shop.combine,
            sources: per_source.len(),
            pieces: chosen,
        });
    }
    let sku_override = shop.overrides.get(sku).copied().unwrap_or_default();
    let adjustments = Adjustments {
        buffer: sku_override.buffer.unwrap_or(shop.adjustments.buffer),
        zero_below: (sku_override.zero_below).unwrap_or(shop.adjustments.zero_below),
        cap: sku_override.cap.or(shop.adjustments.cap),
    };
    let adjusted = adjustments.apply(chosen.max(0), trace);
    let pieces = match sku_override.count {
        Some(count) => {
            trace.record(|| RuleStep::Override(count));
            i64::from(count.get())
        }
        None => adjusted.min(i64::from(MAX_COUNT)),
    };
    let count = Count::try_from(pieces).expect("pieces were limited to the bounds of a count");
    Some(EvaluatedStock {
        count,
        stated_at: latest.stated_at,
        source: of_source.source,
        source_stated_at: of_source.stated_at,
    })
}

/// Stock of one source in pieces.
#[derive(Clone, Copy)]
struct SourcePieces {
    source: usize,
    pieces: i64,
    stated_at: Timestamp,
}

fn evaluate_source(
    quantities: &[SourceQuantity],
    rules: &SourceRules,
    trace: &mut RuleTrace<'_>,
) -> Option<SourcePieces> {
    let row_pieces = quantities
        .iter()
        .map(|quantity| pieces_of(quantity, rules, trace));
    let pieces = match rules.combine_warehouses {
        Combine::Minimum => row_pieces.min()?,
        Combine::Latest | Combine::Sum | Combine::First => row_pieces.sum(),
    };
    if quantities.len() > 1 {
        trace.record(|| RuleStep::Rows {
            combine: rules.combine_warehouses,
            rows: quantities.len(),
            pieces,
        });
    }
    let pieces = rules.adjustments.apply(pieces.max(0), trace);
    let at = quantities.iter().map(|quantity| quantity.stated_at).max()?;
    Some(SourcePieces {
        source: quantities[0].source,
        pieces,
        stated_at: at,
    })
}

/// Returns the pieces of one row: the reserve is subtracted, then packs are divided, rounded down.
fn pieces_of(row: &SourceQuantity, rules: &SourceRules, trace: &mut RuleTrace<'_>) -> i64 {
    let reserve = row.reserve.filter(|_| rules.subtracts_reserve);
    let free = row.quantity.thousandths() - reserve.map_or(0, Quantity::thousandths);
    let pack = i64::from(rules.pack_size.max(1)) * i64::from(row.pack_size.max(1));
    let pieces = free.div_euclid(1_000 * pack);
    trace.record(|| {
        RuleStep::Stated(StatedPieces {
            source_sku: row.source_sku.clone(),
            warehouse: row.warehouse.clone(),
            quantity: row.quantity,
            reserve,
            pack_size: pack,
            pieces,
        })
    });
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000).unwrap()
    }

    fn source_quantity(
        source: usize,
        warehouse: &str,
        thousandths: i64,
        seconds: i64,
    ) -> SourceQuantity {
        SourceQuantity {
            source,
            source_sku: None,
            warehouse: warehouse.to_owned(),
            quantity: Quantity::from_thousandths(thousandths).unwrap(),
            reserve: None,
            pack_size: 1,
            stated_at: timestamp(seconds),
        }
    }

    fn evaluated_count(
        quantities: &[SourceQuantity],
        sources: &[SourceRules],
        shop: &ShopRules,
    ) -> Option<u32> {
        let sku = Sku::parse("A-17").unwrap();
        evaluate(&sku, quantities, sources, shop, &mut RuleTrace::disabled())
            .map(|result| result.count.get())
    }

    const DEFAULT_RULES: SourceRules = SourceRules {
        subtracts_reserve: true,
        combine_warehouses: Combine::Sum,
        pack_size: 1,
        adjustments: Adjustments {
            buffer: 0,
            zero_below: 0,
            cap: None,
        },
    };

    #[test]
    fn changes_nothing_without_settings() {
        let no_rules = ShopRules::default();
        assert_eq!(
            evaluated_count(
                &[source_quantity(0, "", 15_000, 1)],
                &[DEFAULT_RULES],
                &no_rules
            ),
            Some(15)
        );
        assert_eq!(evaluated_count(&[], &[DEFAULT_RULES], &no_rules), None);
    }

    #[test]
    fn rounds_down_and_zeroes_negatives() {
        let no_rules = ShopRules::default();
        assert_eq!(
            evaluated_count(
                &[source_quantity(0, "", 46_500, 1)],
                &[DEFAULT_RULES],
                &no_rules
            ),
            Some(46)
        );
        assert_eq!(
            evaluated_count(
                &[source_quantity(0, "", -2_000, 1)],
                &[DEFAULT_RULES],
                &no_rules
            ),
            Some(0)
        );
        assert_eq!(
            evaluated_count(
                &[source_quantity(0, "", 999, 1)],
                &[DEFAULT_RULES],
                &no_rules
            ),
            Some(0)
        );
    }

    #[test]
    fn negative_row_reduces_sum_of_warehouses() {
        let quantities = [
            source_quantity(0, "", -5_000, 1),
            source_quantity(0, "a", 4_000, 1),
            source_quantity(0, "b", 3_000, 1),
        ];
        assert_eq!(
            evaluated_count(&quantities, &[DEFAULT_RULES], &ShopRules::default()),
            Some(2)
        );
    }

    #[test]
    fn subtracts_reserve_before_dividing_packs() {
        let mut with_reserve = source_quantity(0, "", 29_000, 1);
        with_reserve.reserve = Quantity::from_pieces(4);
        let packs = SourceRules {
            pack_size: 10,
            ..DEFAULT_RULES
        };
        assert_eq!(
            evaluated_count(&[with_reserve.clone()], &[packs], &ShopRules::default()),
            Some(2)
        );
        let ignoring_reserve = SourceRules {
            subtracts_reserve: false,
            ..DEFAULT_RULES
        };
        assert_eq!(
            evaluated_count(&[with_reserve], &[ignoring_reserve], &ShopRules::default()),
            Some(29)
        );
    }

    #[test]
    fn applies_buffer_then_zero_below_then_cap() {
        let adjustments = Adjustments {
            buffer: 2,
            zero_below: 3,
            cap: Some(50),
        };
        let shop = ShopRules {
            adjustments,
            ..ShopRules::default()
        };
        for (stated, expected) in [
            (1, 0),
            (2, 0),
            (4, 0),
            (5, 3),
            (51, 49),
            (52, 50),
            (1_000, 50),
        ] {
            assert_eq!(
                evaluated_count(
                    &[source_quantity(0, "", stated * 1_000, 1)],
                    &[DEFAULT_RULES],
                    &shop
                ),
                Some(expected)
            );
        }
    }

    #[test]
    fn combines_sources_by_the_shop_rule() {
        let quantities = [
            source_quantity(0, "", 5_000, 1),
            source_quantity(1, "", 9_000, 3),
            source_quantity(2, "", 2_000, 2),
        ];
        let sources = [DEFAULT_RULES; 3];
        for (combine, expected, source, seconds) in [
            (Combine::Latest, 9, 1, 3),
            (Combine::Sum, 16, 1, 3),
            (Combine::Minimum, 2, 1, 3),
            (Combine::First, 5, 0, 3),
        ] {
            let shop = ShopRules {
                combine,
                ..ShopRules::default()
            };
            let sku = Sku::parse("A").unwrap();
            let result = evaluate(
                &sku,
                &quantities,
                &sources,
                &shop,
                &mut RuleTrace::disabled(),
            )
            .unwrap();
            assert_eq!(
                (result.count.get(), result.source, result.stated_at),
                (expected, source, timestamp(seconds))
            );
        }
    }

    #[test]
    fn override_replaces_shop_rules() {
        let mut shop = ShopRules {
            adjustments: Adjustments {
                buffer: 2,
                ..Adjustments::default()
            },
            ..ShopRules::default()
        };
        let sku = Sku::parse("A-17").unwrap();
        shop.overrides.insert(
            sku.clone(),
            SkuOverride {
                buffer: Some(0),
                ..SkuOverride::default()
            },
        );
        assert_eq!(
            evaluated_count(&[source_quantity(0, "", 9_000, 1)], &[DEFAULT_RULES], &shop),
            Some(9)
        );
        let fixed = SkuOverride {
            count: Some(Count::ZERO),
            ..SkuOverride::default()
        };
        shop.overrides.insert(sku, fixed);
        assert_eq!(
            evaluated_count(&[source_quantity(0, "", 9_000, 1)], &[DEFAULT_RULES], &shop),
            Some(0)
        );
    }

    #[test]
    fn trace_lists_every_step() {
        let shop = ShopRules {
            combine: Combine::Sum,
            adjustments: Adjustments {
                buffer: 1,
                zero_below: 0,
                cap: Some(10),
            },
            ..ShopRules::default()
        };
        let mut with_reserve = source_quantity(0, "Msk", 29_000, 1);
        with_reserve.reserve = Quantity::from_pieces(4);
        let quantities = [
            with_reserve,
            source_quantity(0, "Spb", 6_500, 1),
            source_quantity(1, "", 3_000, 1),
        ];
        let mut trace = Vec::new();
        let sku = Sku::parse("A").unwrap();
        let rules = [
            DEFAULT_RULES,
            SourceRules {
                pack_size: 2,
                ..DEFAULT_RULES
            },
        ];
        let result = evaluate(
            &sku,
            &quantities,
            &rules,
            &shop,
            &mut RuleTrace::recording_to(&mut trace),
        )
        .unwrap();
        assert_eq!(result.count.get(), 10);
        let trace: Vec<String> = trace.iter().map(ToString::to_string).collect();
        assert_eq!(
            trace,
            [
                "stated at 'Msk': 29, reserve 4: 25",
                "stated at 'Spb': 6.5: 6",
                "sum of 2 rows: 31",
                "stated: 3, packs of 2: 1",
                "sum of 2 sources: 32",
                "safety buffer 1: 31",
                "cap 10: 10",
            ]
        );
    }
}

//! What is made of a source's own numbers before they are anybody's stock.
//!
//! Pure, and nothing unless something is set. Applied to what a source has stated each time it
//! is needed, so a changed rule needs no new export.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Quantity;
use crate::stock::{Count, MAX_COUNT, Sku, Timestamp};

/// How several numbers become one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Combine {
    /// The one stated last.
    #[default]
    Latest,
    /// All together.
    Sum,
    /// The smallest one.
    Minimum,
    /// That of the source that stands first in the configuration.
    First,
}

impl Combine {
    /// From its name in the settings.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "latest" => Some(Self::Latest),
            "sum" => Some(Self::Sum),
            "minimum" => Some(Self::Minimum),
            "first" => Some(Self::First),
            _ => None,
        }
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Sum => "sum",
            Self::Minimum => "minimum",
            Self::First => "first",
        }
    }
}

/// What is done to a number of pieces. In this order: buffer, below, cap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Adjustments {
    /// Pieces kept back.
    pub buffer: u32,
    /// Fewer than this are none.
    pub zero_below: u32,
    /// More than this are not told.
    pub cap: Option<u32>,
}

impl Adjustments {
    fn apply(self, pieces: i64, trace: &mut RuleTrace<'_>) -> i64 {
        let mut pieces = pieces;
        if self.buffer > 0 {
            pieces = (pieces - i64::from(self.buffer)).max(0);
            trace.record(|| format!("safety buffer {}: {pieces}", self.buffer));
        }
        if pieces < i64::from(self.zero_below) && pieces != 0 {
            pieces = 0;
            trace.record(|| format!("zero below {}: 0", self.zero_below));
        }
        if let Some(cap) = self.cap.map(i64::from).filter(|cap| pieces > *cap) {
            pieces = cap;
            trace.record(|| format!("cap {cap}: {cap}"));
        }
        pieces
    }
}

/// The rules of one source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SourceRules {
    /// What is reserved is taken off.
    pub subtracts_reserve: bool,
    /// How its warehouses become one number; [`Combine::Sum`] or [`Combine::Least`].
    pub combine_warehouses: Combine,
    /// How many of its units are one piece of ours, at least 1.
    pub pack_size: u32,
    /// What is done then.
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

/// What one SKU's owner wants otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SkuOverride {
    /// This many, whatever is stated.
    pub count: Option<Count>,
    /// Instead of the shop's.
    pub buffer: Option<u32>,
    /// Instead of the shop's.
    pub zero_below: Option<u32>,
    /// Instead of the shop's.
    pub cap: Option<u32>,
}

/// The rules of one shop, over all its sources.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShopRules {
    /// How several sources become one number.
    pub combine: Combine,
    /// What is done then.
    pub adjustments: Adjustments,
    /// For single SKUs.
    pub overrides: HashMap<Sku, SkuOverride>,
}

/// What one source has stated of one product at one of its warehouses that count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceQuantity {
    /// Which source, by its place in the configuration.
    pub source: usize,
    /// Its name for the product, if it is not ours.
    pub source_sku: Option<String>,
    /// Which warehouse of it; empty if it names none.
    pub warehouse: String,
    /// How much there is.
    pub quantity: Quantity,
    /// How much of it is reserved.
    pub reserve: Option<Quantity>,
    /// How many of its units are one piece of ours, by the mapping; at least 1.
    pub pack_size: u32,
    /// Since when.
    pub stated_at: Timestamp,
}

/// What the rules make of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EvaluatedStock {
    /// How many there are to order.
    pub count: Count,
    /// Since when.
    pub stated_at: Timestamp,
    /// Which source's word it is; of several the latest.
    pub source: usize,
}

/// Writes down each step, if anybody wants to know.
#[derive(Debug)]
pub struct RuleTrace<'a>(Option<&'a mut Vec<String>>);

impl<'a> RuleTrace<'a> {
    /// Nobody does.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// They are written there.
    #[must_use]
    pub fn recording_to(list: &'a mut Vec<String>) -> Self {
        Self(Some(list))
    }

    fn record(&mut self, step: impl FnOnce() -> String) {
        if let Some(list) = &mut self.0 {
            list.push(step());
        }
    }
}

/// What is to be said of a SKU, given what its sources have stated; `None` if they have stated
/// nothing. `parts` are in the order of their sources.
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
    let chosen = match shop.combine {
        Combine::Latest => latest.pieces,
        Combine::First => per_source[0].pieces,
        Combine::Sum => per_source.iter().map(|stated| stated.pieces).sum(),
        Combine::Minimum => per_source.iter().map(|stated| stated.pieces).min()?,
    };
    // The number stands since the last one of them spoke: an older date would be outdated by
    // what was made of fewer of them before.
    let source = if shop.combine == Combine::First {
        per_source[0].source
    } else {
        latest.source
    };
    if per_source.len() > 1 {
        trace.record(|| {
            format!(
                "{} of {} sources: {chosen}",
                shop.combine.name(),
                per_source.len()
            )
        });
    }
    let sku_override = shop.overrides.get(sku).copied().unwrap_or_default();
    let adjustments = Adjustments {
        buffer: sku_override.buffer.unwrap_or(shop.adjustments.buffer),
        zero_below: sku_override
            .zero_below
            .unwrap_or(shop.adjustments.zero_below),
        cap: sku_override.cap.or(shop.adjustments.cap),
    };
    let adjusted = adjustments.apply(chosen.max(0), trace);
    let pieces = match sku_override.count {
        Some(count) => {
            trace.record(|| format!("set for this SKU: {count}"));
            i64::from(count.get())
        }
        None => adjusted.min(i64::from(MAX_COUNT)),
    };
    let count = Count::try_from(pieces).expect("it was brought between its bounds above");
    Some(EvaluatedStock {
        count,
        stated_at: latest.stated_at,
        source,
    })
}

/// What one source says, in pieces.
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
        trace.record(|| {
            format!(
                "{} of {} rows: {pieces}",
                rules.combine_warehouses.name(),
                quantities.len()
            )
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

/// What one row says, in pieces: reserve off, then packs, rounded down.
fn pieces_of(row: &SourceQuantity, rules: &SourceRules, trace: &mut RuleTrace<'_>) -> i64 {
    let reserve = row.reserve.filter(|_| rules.subtracts_reserve);
    let free = row.quantity.thousandths() - reserve.map_or(0, Quantity::thousandths);
    let pack = i64::from(rules.pack_size.max(1)) * i64::from(row.pack_size.max(1));
    let pieces = free.div_euclid(1_000 * pack);
    trace.record(|| {
        let mut text = String::from("stated");
        if let Some(source_sku) = &row.source_sku {
            let _infallible = write!(text, " of '{source_sku}'");
        }
        if !row.warehouse.is_empty() {
            let _infallible = write!(text, " at '{}'", row.warehouse);
        }
        let _infallible = write!(text, ": {}", row.quantity);
        if let Some(reserve) = reserve {
            let _infallible = write!(text, ", reserve {reserve}");
        }
        if pack > 1 {
            let _infallible = write!(text, ", packs of {pack}");
        }
        let _infallible = write!(text, ": {pieces}");
        text
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
    fn nothing_is_done_to_a_number_unless_something_is_set() {
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
    fn a_part_of_a_piece_and_less_than_nothing_are_none() {
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
    fn what_is_reserved_without_a_warehouse_lessens_the_sum_of_the_others() {
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
    fn reserve_comes_off_before_packs_and_packs_are_rounded_down() {
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
    fn buffer_then_zero_below_then_cap() {
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
    fn several_sources_become_one_number_as_the_shop_wants_it() {
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
    fn a_single_sku_may_be_treated_otherwise() {
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
    fn every_step_can_be_told() {
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

//! What is made of a source's own numbers before they are anybody's stock.
//!
//! Pure, and nothing unless something is set. Applied to what a source has stated each time it
//! is needed, so a changed rule needs no new export.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::Quantity;
use crate::stock::{Count, Instant, MAX_COUNT, Sku};

/// How several numbers become one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Combine {
    /// The one stated last.
    #[default]
    Latest,
    /// All together.
    Sum,
    /// The smallest one.
    Least,
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
            "minimum" => Some(Self::Least),
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
            Self::Least => "minimum",
            Self::First => "first",
        }
    }
}

/// What is done to a number of pieces. In this order: buffer, below, cap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shape {
    /// Pieces kept back.
    pub buffer: u32,
    /// Fewer than this are none.
    pub below: u32,
    /// More than this are not told.
    pub cap: Option<u32>,
}

impl Shape {
    fn apply(self, pieces: i64, steps: &mut Steps<'_>) -> i64 {
        let mut pieces = pieces;
        if self.buffer > 0 {
            pieces = (pieces - i64::from(self.buffer)).max(0);
            steps.say(|| format!("safety buffer {}: {pieces}", self.buffer));
        }
        if pieces < i64::from(self.below) && pieces != 0 {
            pieces = 0;
            steps.say(|| format!("zero below {}: 0", self.below));
        }
        if let Some(cap) = self.cap.map(i64::from).filter(|cap| pieces > *cap) {
            pieces = cap;
            steps.say(|| format!("cap {cap}: {cap}"));
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
    pub places: Combine,
    /// How many of its units are one piece of ours, at least 1.
    pub pack: u32,
    /// What is done then.
    pub shape: Shape,
}

impl Default for SourceRules {
    fn default() -> Self {
        Self {
            subtracts_reserve: true,
            places: Combine::Sum,
            pack: 1,
            shape: Shape::default(),
        }
    }
}

/// What one SKU's owner wants otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Override {
    /// This many, whatever is stated.
    pub count: Option<Count>,
    /// Instead of the shop's.
    pub buffer: Option<u32>,
    /// Instead of the shop's.
    pub below: Option<u32>,
    /// Instead of the shop's.
    pub cap: Option<u32>,
}

/// The rules of one shop, over all its sources.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShopRules {
    /// How several sources become one number.
    pub combine: Combine,
    /// What is done then.
    pub shape: Shape,
    /// For single SKUs.
    pub overrides: HashMap<Sku, Override>,
}

/// What one source has stated of one product at one of its warehouses that count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// Which source, by its place in the configuration.
    pub source: usize,
    /// Its name for the product, if it is not ours.
    pub said: Option<String>,
    /// Which warehouse of it; empty if it names none.
    pub place: String,
    /// How much there is.
    pub quantity: Quantity,
    /// How much of it is reserved.
    pub reserve: Option<Quantity>,
    /// How many of its units are one piece of ours, by the mapping; at least 1.
    pub pack: u32,
    /// Since when.
    pub at: Instant,
}

/// What the rules make of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Result {
    /// How many there are to order.
    pub count: Count,
    /// Since when.
    pub at: Instant,
    /// Which source's word it is; of several the latest.
    pub source: usize,
}

/// Writes down each step, if anybody wants to know.
#[derive(Debug)]
pub struct Steps<'a>(Option<&'a mut Vec<String>>);

impl<'a> Steps<'a> {
    /// Nobody does.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// They are written there.
    #[must_use]
    pub fn to(list: &'a mut Vec<String>) -> Self {
        Self(Some(list))
    }

    fn say(&mut self, step: impl FnOnce() -> String) {
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
    parts: &[Part],
    sources: &[SourceRules],
    shop: &ShopRules,
    steps: &mut Steps<'_>,
) -> Option<Result> {
    let by_source = parts.chunk_by(|one, other| one.source == other.source);
    let stated: Vec<Result64> = by_source
        .filter_map(|parts| of_source(parts, &sources[parts[0].source], steps))
        .collect();
    let latest = *stated.iter().max_by_key(|stated| stated.at)?;
    let chosen = match shop.combine {
        Combine::Latest => latest.pieces,
        Combine::First => stated[0].pieces,
        Combine::Sum => stated.iter().map(|stated| stated.pieces).sum(),
        Combine::Least => stated.iter().map(|stated| stated.pieces).min()?,
    };
    // The number stands since the last one of them spoke: an older date would be outdated by
    // what was made of fewer of them before.
    let source = if shop.combine == Combine::First {
        stated[0].source
    } else {
        latest.source
    };
    if stated.len() > 1 {
        steps.say(|| {
            format!(
                "{} of {} sources: {chosen}",
                shop.combine.name(),
                stated.len()
            )
        });
    }
    let special = shop.overrides.get(sku).copied().unwrap_or_default();
    let shape = Shape {
        buffer: special.buffer.unwrap_or(shop.shape.buffer),
        below: special.below.unwrap_or(shop.shape.below),
        cap: special.cap.or(shop.shape.cap),
    };
    let shaped = shape.apply(chosen.max(0), steps);
    let pieces = match special.count {
        Some(count) => {
            steps.say(|| format!("set for this SKU: {count}"));
            i64::from(count.get())
        }
        None => shaped.min(i64::from(MAX_COUNT)),
    };
    let count = Count::try_from(pieces).expect("it was brought between its bounds above");
    Some(Result {
        count,
        at: latest.at,
        source,
    })
}

/// What one source says, in pieces.
#[derive(Clone, Copy)]
struct Result64 {
    source: usize,
    pieces: i64,
    at: Instant,
}

fn of_source(parts: &[Part], rules: &SourceRules, steps: &mut Steps<'_>) -> Option<Result64> {
    let units = parts.iter().map(|part| units(part, rules, steps));
    let pieces = match rules.places {
        Combine::Least => units.min()?,
        Combine::Latest | Combine::Sum | Combine::First => units.sum(),
    };
    if parts.len() > 1 {
        steps.say(|| format!("{} of {} rows: {pieces}", rules.places.name(), parts.len()));
    }
    let pieces = rules.shape.apply(pieces.max(0), steps);
    let at = parts.iter().map(|part| part.at).max()?;
    Some(Result64 {
        source: parts[0].source,
        pieces,
        at,
    })
}

/// What one row says, in pieces: reserve off, then packs, rounded down.
fn units(part: &Part, rules: &SourceRules, steps: &mut Steps<'_>) -> i64 {
    let reserve = part.reserve.filter(|_| rules.subtracts_reserve);
    let free = part.quantity.thousandths() - reserve.map_or(0, Quantity::thousandths);
    let pack = i64::from(rules.pack.max(1)) * i64::from(part.pack.max(1));
    let pieces = free.div_euclid(1_000 * pack);
    steps.say(|| {
        let mut text = String::from("stated");
        if let Some(said) = &part.said {
            let _infallible = write!(text, " of '{said}'");
        }
        if !part.place.is_empty() {
            let _infallible = write!(text, " at '{}'", part.place);
        }
        let _infallible = write!(text, ": {}", part.quantity);
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

    fn at(seconds: i64) -> Instant {
        Instant::from_micros(seconds * 1_000_000).unwrap()
    }

    fn part(source: usize, place: &str, thousandths: i64, seconds: i64) -> Part {
        Part {
            source,
            said: None,
            place: place.to_owned(),
            quantity: Quantity::from_thousandths(thousandths).unwrap(),
            reserve: None,
            pack: 1,
            at: at(seconds),
        }
    }

    fn count(parts: &[Part], sources: &[SourceRules], shop: &ShopRules) -> Option<u32> {
        let sku = Sku::parse("A-17").unwrap();
        evaluate(&sku, parts, sources, shop, &mut Steps::none()).map(|result| result.count.get())
    }

    const PLAIN: SourceRules = SourceRules {
        subtracts_reserve: true,
        places: Combine::Sum,
        pack: 1,
        shape: Shape {
            buffer: 0,
            below: 0,
            cap: None,
        },
    };

    #[test]
    fn nothing_is_done_to_a_number_unless_something_is_set() {
        let plain = ShopRules::default();
        assert_eq!(count(&[part(0, "", 15_000, 1)], &[PLAIN], &plain), Some(15));
        assert_eq!(count(&[], &[PLAIN], &plain), None);
    }

    #[test]
    fn a_part_of_a_piece_and_less_than_nothing_are_none() {
        let plain = ShopRules::default();
        assert_eq!(count(&[part(0, "", 46_500, 1)], &[PLAIN], &plain), Some(46));
        assert_eq!(count(&[part(0, "", -2_000, 1)], &[PLAIN], &plain), Some(0));
        assert_eq!(count(&[part(0, "", 999, 1)], &[PLAIN], &plain), Some(0));
    }

    #[test]
    fn what_is_reserved_without_a_warehouse_lessens_the_sum_of_the_others() {
        let parts = [
            part(0, "", -5_000, 1),
            part(0, "a", 4_000, 1),
            part(0, "b", 3_000, 1),
        ];
        assert_eq!(count(&parts, &[PLAIN], &ShopRules::default()), Some(2));
    }

    #[test]
    fn reserve_comes_off_before_packs_and_packs_are_rounded_down() {
        let mut one = part(0, "", 29_000, 1);
        one.reserve = Quantity::from_pieces(4);
        let packs = SourceRules { pack: 10, ..PLAIN };
        assert_eq!(
            count(&[one.clone()], &[packs], &ShopRules::default()),
            Some(2)
        );
        let whole = SourceRules {
            subtracts_reserve: false,
            ..PLAIN
        };
        assert_eq!(count(&[one], &[whole], &ShopRules::default()), Some(29));
    }

    #[test]
    fn buffer_then_zero_below_then_cap() {
        let shape = Shape {
            buffer: 2,
            below: 3,
            cap: Some(50),
        };
        let shop = ShopRules {
            shape,
            ..ShopRules::default()
        };
        for (stated, told) in [
            (1, 0),
            (2, 0),
            (4, 0),
            (5, 3),
            (51, 49),
            (52, 50),
            (1_000, 50),
        ] {
            assert_eq!(
                count(&[part(0, "", stated * 1_000, 1)], &[PLAIN], &shop),
                Some(told)
            );
        }
    }

    #[test]
    fn several_sources_become_one_number_as_the_shop_wants_it() {
        let parts = [
            part(0, "", 5_000, 1),
            part(1, "", 9_000, 3),
            part(2, "", 2_000, 2),
        ];
        let sources = [PLAIN; 3];
        for (combine, told, source, seconds) in [
            (Combine::Latest, 9, 1, 3),
            (Combine::Sum, 16, 1, 3),
            (Combine::Least, 2, 1, 3),
            (Combine::First, 5, 0, 3),
        ] {
            let shop = ShopRules {
                combine,
                ..ShopRules::default()
            };
            let sku = Sku::parse("A").unwrap();
            let result = evaluate(&sku, &parts, &sources, &shop, &mut Steps::none()).unwrap();
            assert_eq!(
                (result.count.get(), result.source, result.at),
                (told, source, at(seconds))
            );
        }
    }

    #[test]
    fn a_single_sku_may_be_treated_otherwise() {
        let mut shop = ShopRules {
            shape: Shape {
                buffer: 2,
                ..Shape::default()
            },
            ..ShopRules::default()
        };
        let sku = Sku::parse("A-17").unwrap();
        shop.overrides.insert(
            sku.clone(),
            Override {
                buffer: Some(0),
                ..Override::default()
            },
        );
        assert_eq!(count(&[part(0, "", 9_000, 1)], &[PLAIN], &shop), Some(9));
        let fixed = Override {
            count: Some(Count::ZERO),
            ..Override::default()
        };
        shop.overrides.insert(sku, fixed);
        assert_eq!(count(&[part(0, "", 9_000, 1)], &[PLAIN], &shop), Some(0));
    }

    #[test]
    fn every_step_can_be_told() {
        let shop = ShopRules {
            combine: Combine::Sum,
            shape: Shape {
                buffer: 1,
                below: 0,
                cap: Some(10),
            },
            ..ShopRules::default()
        };
        let mut one = part(0, "Msk", 29_000, 1);
        one.reserve = Quantity::from_pieces(4);
        let parts = [one, part(0, "Spb", 6_500, 1), part(1, "", 3_000, 1)];
        let mut steps = Vec::new();
        let sku = Sku::parse("A").unwrap();
        let rules = [PLAIN, SourceRules { pack: 2, ..PLAIN }];
        let result = evaluate(&sku, &parts, &rules, &shop, &mut Steps::to(&mut steps)).unwrap();
        assert_eq!(result.count.get(), 10);
        assert_eq!(
            steps,
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

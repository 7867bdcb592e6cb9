//! Whether a delivery may be believed.
//!
//! Pure. An export that broke on its way looks like a shop that has sold everything: empty,
//! much shorter than the last one, or full of zeros. Such a delivery is held until somebody
//! says that it is meant.

use std::fmt;

use super::DeliveryScope;

/// Where the guard's bounds are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardLimits {
    /// A snapshot may not be shorter than this part of the last one.
    pub min_rows_ratio: f64,
    /// Not more than this part of the SKUs in stock may turn to zero at once.
    pub max_zeroed_ratio: f64,
    /// Not more than this part of the rows may be bad.
    pub max_rejected_ratio: f64,
    /// After how many deliveries in a row that say exactly the same they are believed; `None`
    /// for never.
    pub accept_after_repeats: Option<u32>,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            min_rows_ratio: 0.5,
            max_zeroed_ratio: 0.3,
            max_rejected_ratio: 0.01,
            accept_after_repeats: None,
        }
    }
}

/// What a delivery would do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DeliveryImpact {
    /// Rows that can be taken.
    pub rows: u64,
    /// Rows of the last snapshot that was taken; 0 if there was none.
    pub rows_before: u64,
    /// Rows that are rejected or suspicious.
    pub rejected: u64,
    /// SKUs this source speaks of that are in stock now.
    pub in_stock: u64,
    /// Those of them that would turn to zero.
    pub zeroed: u64,
}

/// Why a delivery is held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HoldReason {
    /// A snapshot of nothing.
    Empty,
    /// A snapshot much shorter than the last one.
    TooFewRows(DeliveryImpact),
    /// Too much of what is in stock would turn to zero.
    TooManyZeroed(DeliveryImpact),
    /// Too many rows are bad.
    TooManyRejected(DeliveryImpact),
    /// Its files are read otherwise than those of the last one: how.
    ShapeChanged(String),
}

impl HoldReason {
    /// Its name on pages and in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooFewRows(_) => "short",
            Self::TooManyZeroed(_) => "zeros",
            Self::TooManyRejected(_) => "rejected",
            Self::ShapeChanged(_) => "shape",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooFewRows(DeliveryImpact {
                rows, rows_before, ..
            }) => {
                write!(f, "it has {rows} rows, the last one had {rows_before}")
            }
            Self::TooManyZeroed(DeliveryImpact {
                zeroed, in_stock, ..
            }) => {
                write!(
                    f,
                    "it would turn {zeroed} of {in_stock} SKUs in stock to zero"
                )
            }
            Self::TooManyRejected(DeliveryImpact { rejected, rows, .. }) => {
                write!(
                    f,
                    "{rejected} of {} rows are rejected or suspicious",
                    rejected + rows
                )
            }
            Self::ShapeChanged(difference) => {
                write!(
                    f,
                    "it looks otherwise than the last one that was taken: {difference}"
                )
            }
        }
    }
}

/// What speaks against taking a delivery; nothing, if it may be taken.
///
/// A single SKU's zero and a single bad row never hold anything, however small the shop is.
#[must_use]
pub fn check_delivery(
    scope: DeliveryScope,
    impact: DeliveryImpact,
    limits: &GuardLimits,
) -> Option<HoldReason> {
    let exceeds = |some: u64, total: u64, max_ratio: f64| {
        some > 1 && as_f64(some) > as_f64(total) * max_ratio
    };
    let DeliveryImpact {
        rows,
        rows_before,
        rejected,
        in_stock,
        zeroed,
    } = impact;
    if exceeds(rejected, rows + rejected, limits.max_rejected_ratio) || (rows == 0 && rejected > 0)
    {
        return Some(HoldReason::TooManyRejected(impact));
    }
    if scope == DeliveryScope::Snapshot && rows == 0 && limits.min_rows_ratio > 0.0 {
        return Some(HoldReason::Empty);
    }
    if scope == DeliveryScope::Snapshot
        && as_f64(rows) < as_f64(rows_before) * limits.min_rows_ratio
    {
        return Some(HoldReason::TooFewRows(impact));
    }
    exceeds(zeroed, in_stock, limits.max_zeroed_ratio).then_some(HoldReason::TooManyZeroed(impact))
}

/// Exact up to 2^53 rows, which no file has.
#[expect(clippy::cast_precision_loss, reason = "no file has 2^53 rows")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn impact_of_snapshot(rows: u64, zeroed: u64) -> DeliveryImpact {
        DeliveryImpact {
            rows,
            rows_before: 1_000,
            rejected: 0,
            in_stock: 1_000,
            zeroed,
        }
    }

    fn hold_reason(scope: DeliveryScope, impact: DeliveryImpact) -> Option<&'static str> {
        check_delivery(scope, impact, &GuardLimits::default()).map(|reason| reason.name())
    }

    #[test]
    fn an_empty_a_short_and_a_zeroing_snapshot_are_held_and_their_neighbours_are_not() {
        for (impact, expected) in [
            (impact_of_snapshot(0, 0), Some("empty")),
            (impact_of_snapshot(499, 0), Some("short")),
            (impact_of_snapshot(500, 0), None),
            (impact_of_snapshot(1_000, 301), Some("zeros")),
            (impact_of_snapshot(1_000, 300), None),
            (impact_of_snapshot(5_000, 0), None),
        ] {
            assert_eq!(
                hold_reason(DeliveryScope::Snapshot, impact),
                expected,
                "{impact:?}"
            );
        }
    }

    #[test]
    fn a_delta_may_be_short_or_empty_but_not_wipe_the_shop() {
        assert_eq!(
            hold_reason(DeliveryScope::Delta, impact_of_snapshot(3, 3)),
            None
        );
        assert_eq!(
            hold_reason(
                DeliveryScope::Delta,
                DeliveryImpact {
                    rows: 0,
                    ..impact_of_snapshot(0, 0)
                }
            ),
            None
        );
        assert_eq!(
            hold_reason(DeliveryScope::Delta, impact_of_snapshot(400, 400)),
            Some("zeros")
        );
    }

    #[test]
    fn one_zero_and_one_bad_row_never_hold_anything() {
        let single_sku = DeliveryImpact {
            rows: 1,
            rows_before: 1,
            rejected: 0,
            in_stock: 1,
            zeroed: 1,
        };
        assert_eq!(hold_reason(DeliveryScope::Snapshot, single_sku), None);
        assert_eq!(
            hold_reason(
                DeliveryScope::Snapshot,
                DeliveryImpact {
                    rejected: 1,
                    rows: 9,
                    ..single_sku
                }
            ),
            None
        );
        assert_eq!(
            hold_reason(
                DeliveryScope::Snapshot,
                DeliveryImpact {
                    rejected: 2,
                    rows: 8,
                    ..single_sku
                }
            ),
            Some("rejected")
        );
        assert_eq!(
            hold_reason(
                DeliveryScope::Delta,
                DeliveryImpact {
                    rejected: 1,
                    rows: 0,
                    ..single_sku
                }
            ),
            Some("rejected")
        );
    }

    #[test]
    fn bad_rows_hold_a_file_from_one_in_a_hundred_on() {
        let with_rejected = |rejected| DeliveryImpact {
            rejected,
            rows: 1_000 - rejected,
            ..impact_of_snapshot(0, 0)
        };
        assert_eq!(
            hold_reason(DeliveryScope::Snapshot, with_rejected(10)),
            None
        );
        assert_eq!(
            hold_reason(DeliveryScope::Snapshot, with_rejected(11)),
            Some("rejected")
        );
    }

    #[test]
    fn a_doubt_says_what_would_change() {
        let reason = check_delivery(
            DeliveryScope::Snapshot,
            impact_of_snapshot(1_000, 800),
            &GuardLimits::default(),
        )
        .unwrap();
        assert_eq!(
            reason.to_string(),
            "it would turn 800 of 1000 SKUs in stock to zero"
        );
        let reason = check_delivery(
            DeliveryScope::Snapshot,
            impact_of_snapshot(20, 0),
            &GuardLimits::default(),
        )
        .unwrap();
        assert_eq!(reason.to_string(), "it has 20 rows, the last one had 1000");
    }

    proptest! {
        #[test]
        fn above_the_bound_it_is_held_and_below_it_is_taken(
            in_stock in 10_u64..100_000,
            thousandths in 0_u64..1_000,
        ) {
            let zeroed = (in_stock * thousandths / 1_000).max(2);
            let effect = DeliveryImpact { rows: in_stock, rows_before: in_stock, rejected: 0, in_stock, zeroed };
            let is_held = hold_reason(DeliveryScope::Snapshot, effect).is_some();
            prop_assert_eq!(is_held, as_f64(zeroed) > as_f64(in_stock) * 0.3);
        }
    }
}

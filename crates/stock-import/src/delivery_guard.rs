//! Guard against broken deliveries.
//!
//! A broken export looks like a shop that has sold everything: empty, much shorter than the last
//! one, or full of zeros. The guard is pure. It returns the reason to hold such a delivery until
//! an operator approves it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DeliveryScope;

/// Limits of the guard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardLimits {
    /// Smallest ratio of a snapshot's rows to those of the last snapshot.
    pub min_rows_ratio: f64,
    /// Largest share of the SKUs in stock that may become zero at once.
    pub max_zeroed_ratio: f64,
    /// Largest share of rows that may be rejected or suspicious.
    pub max_rejected_ratio: f64,
    /// Number of identical repeats after which a held delivery is accepted; `None` for never.
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

/// Effect that a delivery would have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DeliveryImpact {
    /// Rows that would be applied.
    pub rows: u64,
    /// Rows of the last applied snapshot; 0 if there was none.
    pub rows_before: u64,
    /// Rows that are rejected or suspicious.
    pub rejected: u64,
    /// SKUs in stock now: of those that a snapshot concerns, or of the whole shop for a delta.
    pub in_stock: u64,
    /// SKUs in stock that would become zero.
    pub zeroed: u64,
}

/// Reason to hold a delivery. Stored as JSON with the delivery.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The snapshot has no rows.
    Empty,
    /// The snapshot is much shorter than the last one.
    TooFewRows(DeliveryImpact),
    /// Too many of the SKUs in stock would become zero.
    TooManyZeroed(DeliveryImpact),
    /// Too many rows are rejected or suspicious.
    TooManyRejected(DeliveryImpact),
    /// The files are read differently from those of the last delivery. Describes the difference.
    ShapeChanged(String),
}

impl HoldReason {
    /// Returns the name on pages and in metrics.
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
            Self::Empty => f.write_str("it is empty"),
            Self::TooFewRows(impact) => {
                let (rows, before) = (impact.rows, impact.rows_before);
                write!(f, "it has {rows} rows, the last one had {before}")
            }
            Self::TooManyZeroed(impact) => {
                let (zeroed, total) = (impact.zeroed, impact.in_stock);
                write!(f, "it would turn {zeroed} of {total} SKUs in stock to zero")
            }
            Self::TooManyRejected(impact) => {
                let (rejected, rows) = (impact.rejected, impact.rejected + impact.rows);
                write!(f, "{rejected} of {rows} rows are rejected or suspicious")
            }
            Self::ShapeChanged(difference) => write!(
                f,
                "it is read differently from the last one that was applied: {difference}"
            ),
        }
    }
}

/// Returns the reason to hold a delivery; `None` if it may be applied.
///
/// A single zero or a single bad row never holds a delivery, however small the shop is.
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

/// Converts a number of rows, exactly up to 2^53.
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
    fn holds_empty_short_and_zeroing_snapshots() {
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
    fn delta_may_be_short_but_not_empty_the_shop() {
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
    fn one_zero_or_one_bad_row_holds_nothing() {
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
    fn holds_more_than_one_bad_row_in_a_hundred() {
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
    fn hold_reason_names_the_numbers() {
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
        fn holds_exactly_above_the_zeroed_limit(
            in_stock in 10_u64..100_000,
            thousandths in 0_u64..1_000,
        ) {
            let zeroed = (in_stock * thousandths / 1_000).max(2);
            let impact = DeliveryImpact { rows: in_stock, rows_before: in_stock, rejected: 0, in_stock, zeroed };
            let is_held = hold_reason(DeliveryScope::Snapshot, impact).is_some();
            prop_assert_eq!(is_held, as_f64(zeroed) > as_f64(in_stock) * 0.3);
        }
    }
}

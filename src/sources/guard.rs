//! Whether a delivery may be believed.
//!
//! Pure. An export that broke on its way looks like a shop that has sold everything: empty,
//! much shorter than the last one, or full of zeros. Such a delivery is held until somebody
//! says that it is meant.

use std::fmt;

use super::Scope;

/// Where the guard's bounds are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A snapshot may not be shorter than this part of the last one.
    pub least_rows: f64,
    /// Not more than this part of the SKUs in stock may turn to zero at once.
    pub most_zeroed: f64,
    /// Not more than this part of the rows may be bad.
    pub most_rejected: f64,
    /// After how many deliveries in a row that say exactly the same they are believed; `None`
    /// for never.
    pub repeats: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            least_rows: 0.5,
            most_zeroed: 0.3,
            most_rejected: 0.01,
            repeats: None,
        }
    }
}

/// What a delivery would do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effect {
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
pub enum Doubt {
    /// A snapshot of nothing.
    Empty,
    /// A snapshot much shorter than the last one.
    Short(Effect),
    /// Too much of what is in stock would turn to zero.
    Zeros(Effect),
    /// Too many rows are bad.
    Rejected(Effect),
    /// Its files are read otherwise than those of the last one: how.
    Shape(String),
}

impl Doubt {
    /// Its name on pages and in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Short(_) => "short",
            Self::Zeros(_) => "zeros",
            Self::Rejected(_) => "rejected",
            Self::Shape(_) => "shape",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Short(Effect {
                rows, rows_before, ..
            }) => {
                write!(f, "it has {rows} rows, the last one had {rows_before}")
            }
            Self::Zeros(Effect {
                zeroed, in_stock, ..
            }) => {
                write!(
                    f,
                    "it would turn {zeroed} of {in_stock} SKUs in stock to zero"
                )
            }
            Self::Rejected(Effect { rejected, rows, .. }) => {
                write!(
                    f,
                    "{rejected} of {} rows are rejected or suspicious",
                    rejected + rows
                )
            }
            Self::Shape(difference) => {
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
pub fn judge(scope: Scope, effect: Effect, limits: &Limits) -> Option<Doubt> {
    let exceeds = |some: u64, of: u64, most: f64| some > 1 && ratio(some) > ratio(of) * most;
    let Effect {
        rows,
        rows_before,
        rejected,
        in_stock,
        zeroed,
    } = effect;
    if exceeds(rejected, rows + rejected, limits.most_rejected) || (rows == 0 && rejected > 0) {
        return Some(Doubt::Rejected(effect));
    }
    if scope == Scope::Snapshot && rows == 0 && limits.least_rows > 0.0 {
        return Some(Doubt::Empty);
    }
    if scope == Scope::Snapshot && ratio(rows) < ratio(rows_before) * limits.least_rows {
        return Some(Doubt::Short(effect));
    }
    exceeds(zeroed, in_stock, limits.most_zeroed).then_some(Doubt::Zeros(effect))
}

/// Exact up to 2^53 rows, which no file has.
#[expect(clippy::cast_precision_loss, reason = "no file has 2^53 rows")]
fn ratio(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(rows: u64, zeroed: u64) -> Effect {
        Effect {
            rows,
            rows_before: 1_000,
            rejected: 0,
            in_stock: 1_000,
            zeroed,
        }
    }

    fn held(scope: Scope, effect: Effect) -> Option<&'static str> {
        judge(scope, effect, &Limits::default()).map(|doubt| doubt.name())
    }

    #[test]
    fn an_empty_a_short_and_a_zeroing_snapshot_are_held_and_their_neighbours_are_not() {
        for (effect, doubt) in [
            (whole(0, 0), Some("empty")),
            (whole(499, 0), Some("short")),
            (whole(500, 0), None),
            (whole(1_000, 301), Some("zeros")),
            (whole(1_000, 300), None),
            (whole(5_000, 0), None),
        ] {
            assert_eq!(held(Scope::Snapshot, effect), doubt, "{effect:?}");
        }
    }

    #[test]
    fn a_delta_may_be_short_or_empty_but_not_wipe_the_shop() {
        assert_eq!(held(Scope::Delta, whole(3, 3)), None);
        assert_eq!(
            held(
                Scope::Delta,
                Effect {
                    rows: 0,
                    ..whole(0, 0)
                }
            ),
            None
        );
        assert_eq!(held(Scope::Delta, whole(400, 400)), Some("zeros"));
    }

    #[test]
    fn one_zero_and_one_bad_row_never_hold_anything() {
        let tiny = Effect {
            rows: 1,
            rows_before: 1,
            rejected: 0,
            in_stock: 1,
            zeroed: 1,
        };
        assert_eq!(held(Scope::Snapshot, tiny), None);
        assert_eq!(
            held(
                Scope::Snapshot,
                Effect {
                    rejected: 1,
                    rows: 9,
                    ..tiny
                }
            ),
            None
        );
        assert_eq!(
            held(
                Scope::Snapshot,
                Effect {
                    rejected: 2,
                    rows: 8,
                    ..tiny
                }
            ),
            Some("rejected")
        );
        assert_eq!(
            held(
                Scope::Delta,
                Effect {
                    rejected: 1,
                    rows: 0,
                    ..tiny
                }
            ),
            Some("rejected")
        );
    }

    #[test]
    fn bad_rows_hold_a_file_from_one_in_a_hundred_on() {
        let with = |rejected| Effect {
            rejected,
            rows: 1_000 - rejected,
            ..whole(0, 0)
        };
        assert_eq!(held(Scope::Snapshot, with(10)), None);
        assert_eq!(held(Scope::Snapshot, with(11)), Some("rejected"));
    }

    #[test]
    fn a_doubt_says_what_would_change() {
        let doubt = judge(Scope::Snapshot, whole(1_000, 800), &Limits::default()).unwrap();
        assert_eq!(
            doubt.to_string(),
            "it would turn 800 of 1000 SKUs in stock to zero"
        );
        let doubt = judge(Scope::Snapshot, whole(20, 0), &Limits::default()).unwrap();
        assert_eq!(doubt.to_string(), "it has 20 rows, the last one had 1000");
    }

    proptest! {
        #[test]
        fn above_the_bound_it_is_held_and_below_it_is_taken(
            in_stock in 10_u64..100_000,
            thousandths in 0_u64..1_000,
        ) {
            let zeroed = (in_stock * thousandths / 1_000).max(2);
            let effect = Effect { rows: in_stock, rows_before: in_stock, rejected: 0, in_stock, zeroed };
            let is_held = held(Scope::Snapshot, effect).is_some();
            prop_assert_eq!(is_held, ratio(zeroed) > ratio(in_stock) * 0.3);
        }
    }
}

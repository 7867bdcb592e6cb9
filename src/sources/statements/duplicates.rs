//! Repeated rows of a SKU at one warehouse in one delivery, by the setting `duplicates`.

use stock::MAX_COUNT;
use stock_import::Quantity;

use super::blocks::StatementKey;
use crate::sources::DuplicatePolicy;

/// Rows of a delivery about one SKU, warehouse and variant, merged into one.
///
/// A row in a later part replaces earlier ones. Within a part, the row with the latest date wins,
/// but only if every row has a date. The result does not depend on the order of the rows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct MergedRow {
    pub(super) warehouse: String,
    pub(super) variant: String,
    pub(super) part: u32,
    pub(super) line: i64,
    pub(super) quantity: Option<i64>,
    pub(super) reserve: Option<i64>,
    pub(super) stated_at: Option<i64>,
    /// Line of a row that could not be resolved; 0 if there is none.
    pub(super) conflict_line: i64,
    /// Number of rows after the first.
    pub(super) repeats: u64,
    /// True if some rows have a date and some have none.
    pub(super) is_mixed: bool,
    /// True if their numbers differ.
    pub(super) is_varied: bool,
}

impl MergedRow {
    pub(super) fn key(&self) -> StatementKey<'_> {
        StatementKey(&self.warehouse, &self.variant)
    }

    /// Merges a row that was read later.
    pub(super) fn merge(&mut self, row: &Self, duplicates: DuplicatePolicy) {
        if row.part > self.part {
            *self = row.clone();
            return;
        }
        if row.part < self.part {
            return;
        }
        let is_same = (row.quantity, row.reserve) == (self.quantity, self.reserve);
        let is_mixed = self.is_mixed || row.stated_at.is_none() != self.stated_at.is_none();
        let dates = row.stated_at.zip(self.stated_at);
        let is_later = dates.is_some_and(|(new, old)| new > old);
        let is_earlier = dates.is_some_and(|(new, old)| new < old);
        let (is_fine, is_fine_if_mixed) = match duplicates {
            DuplicatePolicy::Reject => (
                row.quantity.is_none() && self.quantity.is_none(),
                !self.is_varied && row.quantity.is_none() && is_same,
            ),
            DuplicatePolicy::Same => (is_same, !self.is_varied && is_same),
            // The sum is unknown if one row has a quantity and another one has none.
            DuplicatePolicy::Sum => (row.quantity.is_none() == self.quantity.is_none(), false),
        };
        let is_resolved = if is_mixed {
            is_fine_if_mixed
        } else {
            is_later || is_earlier || is_fine
        };
        if !is_resolved {
            self.conflict_line = row.line;
        } else if is_later {
            self.conflict_line = 0;
        }
        if is_later {
            (self.quantity, self.reserve, self.line) = (row.quantity, row.reserve, row.line);
        } else if duplicates == DuplicatePolicy::Sum && !is_earlier {
            self.quantity = sum(self.quantity, row.quantity);
            self.reserve = sum(self.reserve, row.reserve);
        }
        self.stated_at = match (is_mixed, is_later) {
            (true, _) => None,
            (false, true) => row.stated_at,
            (false, false) => self.stated_at,
        };
        self.is_mixed = is_mixed;
        self.is_varied |= !is_same;
        self.repeats += 1;
    }

    /// Returns true if the number is larger than any count. Only a sum can be.
    pub(super) fn is_too_large(&self) -> bool {
        let most = Quantity::MAX.thousandths().unsigned_abs();
        self.quantity
            .is_some_and(|quantity| quantity.unsigned_abs() > most)
    }

    /// Returns the reason why rows that contradict each other are suspicious.
    pub(super) fn conflict(&self, duplicates: DuplicatePolicy) -> Option<String> {
        if self.conflict_line <= 0 {
            return None;
        }
        let copies = if self.repeats > 1 {
            format!(" ({} rows in all)", self.repeats + 1)
        } else {
            String::new()
        };
        let mixed = if self.is_mixed {
            ", some with a date and some without: give all of them a date, or none"
        } else {
            ""
        };
        let why = match duplicates {
            DuplicatePolicy::Reject => {
                ": set duplicates = \"sum\" if its rows add up, or duplicates = \"same\" if equal \
                 rows repeat each other"
            }
            DuplicatePolicy::Same => {
                " with different numbers: set duplicates = \"sum\" if its rows add up"
            }
            DuplicatePolicy::Sum if self.is_mixed => "",
            DuplicatePolicy::Sum => ", and one of them has no number: their sum is not known",
        };
        let line = self.conflict_line;
        Some(format!("the SKU is also in row {line}{copies}{mixed}{why}"))
    }
}

/// Reason of a row whose SKU has another row that is not applied.
pub(super) const INCOMPLETE: &str =
    "another row of this SKU is not applied, so this row may be only a part of its stock";

/// Returns the reason of a sum that is larger than any count.
pub(super) fn too_large() -> String {
    format!("the sum of the rows of this SKU is more than {MAX_COUNT}, the largest count")
}

fn sum(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        // Rows of a file never reach the bounds of the type.
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: i64, quantity: Option<i64>, stated_at: Option<i64>) -> MergedRow {
        MergedRow {
            line,
            quantity,
            stated_at,
            ..MergedRow::default()
        }
    }

    fn merged(duplicates: DuplicatePolicy, rows: &[MergedRow]) -> MergedRow {
        let (first, others) = rows.split_first().unwrap();
        let mut merged = first.clone();
        others.iter().for_each(|row| merged.merge(row, duplicates));
        merged
    }

    #[test]
    fn conflict_names_rows_and_cure() {
        let [one, other] = [row(2, Some(1), None), row(3, Some(2), None)];
        let rows = [one.clone(), other.clone()];
        let reason = |duplicates| merged(duplicates, &rows).conflict(duplicates);
        assert_eq!(
            reason(DuplicatePolicy::Same).unwrap(),
            "the SKU is also in row 3 with different numbers: set duplicates = \"sum\" if its rows \
             add up"
        );
        assert!(
            reason(DuplicatePolicy::Reject)
                .unwrap()
                .contains("\"same\"")
        );
        assert_eq!(reason(DuplicatePolicy::Sum), None);
        let sum = merged(DuplicatePolicy::Sum, &rows);
        assert_eq!(sum.quantity, Some(3));
        let three = merged(
            DuplicatePolicy::Same,
            &[one, other, row(9, Some(3), Some(5))],
        );
        let reason = three.conflict(DuplicatePolicy::Same).unwrap();
        assert!(
            reason.starts_with("the SKU is also in row 9 (3 rows in all), some with a date"),
            "{reason}"
        );
    }

    #[test]
    fn later_date_ends_a_conflict_and_a_mixture_does_not() {
        let same = DuplicatePolicy::Same;
        let dated = |line, quantity, at| row(line, Some(quantity), Some(at));
        let rows = [dated(1, 1, 5), dated(2, 2, 5), dated(3, 3, 6)];
        let latest = merged(same, &rows);
        assert_eq!((latest.quantity, latest.conflict(same)), (Some(3), None));
        let mut mixed = rows.to_vec();
        mixed.push(row(4, Some(3), None));
        assert_eq!(merged(same, &mixed).conflict_line, 4);
        let sum = merged(DuplicatePolicy::Sum, &rows);
        assert_eq!(
            sum.quantity,
            Some(3),
            "a later row replaces the sum of earlier ones"
        );
    }

    #[test]
    fn later_part_replaces_everything() {
        let later = MergedRow {
            part: 1,
            ..row(7, Some(9), None)
        };
        for rows in [
            [row(1, Some(1), None), later.clone()],
            [later, row(1, Some(1), None)],
        ] {
            let merged = merged(DuplicatePolicy::Sum, &rows);
            assert_eq!((merged.quantity, merged.line), (Some(9), 7));
        }
    }

    #[test]
    fn sum_may_exceed_a_count() {
        let most = Quantity::MAX.thousandths();
        let rows = [row(1, Some(most), None), row(2, Some(1), None)];
        assert!(merged(DuplicatePolicy::Sum, &rows).is_too_large());
        assert!(!merged(DuplicatePolicy::Same, &rows[..1]).is_too_large());
    }
}

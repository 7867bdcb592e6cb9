//! Replacement of a source's statements about one SKU by a delivery. Pure.
//!
//! Decides which statements are replaced, which become absent, and which date each one has.

use stock::Timestamp;
use stock_import::DeliveryScope;

use super::blocks::StoredStatement;
use super::staging::DeliveredSku;

/// Options for the commit of a resolved delivery.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct CommitOptions {
    /// Completeness of the delivery.
    pub(in crate::sources) scope: DeliveryScope,
    /// Date of the delivery.
    pub(in crate::sources) stated_at: Timestamp,
    /// True if products that it lacks are absent.
    pub(in crate::sources) implies_absence: bool,
    /// True if it was held, and statements that came later are newer.
    pub(in crate::sources) is_out_of_order: bool,
}

/// Replacement of the statements about one SKU after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    pub(super) options: CommitOptions,
    /// Date of the last snapshot of the source, in microseconds since 1970.
    pub(super) snapshot_at: Option<i64>,
}

impl Replacement {
    /// Writes the statements about a SKU after the delivery to `new`, in the order of their keys.
    /// Rows of the delivery that are outdated are removed from it.
    pub(super) fn replace(
        &self,
        stored: &[StoredStatement],
        delivered: &mut DeliveredSku,
        new: &mut Vec<StoredStatement>,
    ) {
        new.clear();
        self.keep_own_kind(stored, delivered, new);
        if self.options.scope == DeliveryScope::Snapshot {
            new.iter_mut()
                .for_each(|row| self.note_absence(row, delivered));
        }
        for row in &delivered.rows {
            let Some(quantity) = row.quantity else {
                continue;
            };
            let statement = StoredStatement {
                warehouse: row.warehouse.clone(),
                variant: row.variant.clone(),
                quantity,
                reserve: row.reserve,
                stated_at: row.stated_at.or_else(|| self.default_date()),
                absent_at: None,
            };
            match new.binary_search_by(|known| known.key().cmp(&row.key())) {
                Ok(index) if self.may_replace(&new[index]) => new[index] = statement,
                Ok(_) => {}
                Err(index) => new.insert(index, statement),
            }
        }
    }

    /// Copies the statements that the rows do not replace by the other kind: those of variants are
    /// replaced if the product itself has a number now, and vice versa.
    fn keep_own_kind(
        &self,
        stored: &[StoredStatement],
        delivered: &mut DeliveredSku,
        new: &mut Vec<StoredStatement>,
    ) {
        let rows = &mut delivered.rows;
        let has_number = |is_variant: bool| {
            let numbered = rows.iter().filter(|row| row.quantity.is_some());
            numbered
                .filter(|row| row.variant.is_empty() != is_variant)
                .count()
                > 0
        };
        let (has_product, has_variant) = (has_number(false), has_number(true));
        let is_kept = |statement: &&StoredStatement| {
            let has_other_kind = if statement.variant.is_empty() {
                has_variant
            } else {
                has_product
            };
            !has_other_kind || !self.may_replace(statement)
        };
        new.extend(stored.iter().filter(is_kept).cloned());
        if self.options.is_out_of_order {
            // Statements of the other kind that came after the hold are newer.
            let is_of_variant = |statement: &StoredStatement| !statement.variant.is_empty();
            let has_variant = new.iter().any(is_of_variant);
            let has_product = !new.iter().all(is_of_variant);
            rows.retain(|row| {
                if row.variant.is_empty() {
                    !has_variant
                } else {
                    !has_product
                }
            });
        }
    }

    /// Marks a statement that a snapshot lacks, and gives one without an own date the date at which
    /// it was last stated.
    fn note_absence(&self, statement: &mut StoredStatement, delivered: &DeliveredSku) {
        let CommitOptions {
            stated_at,
            implies_absence,
            ..
        } = self.options;
        let since = self.since(statement);
        // Variants that are present without a number.
        let is_listed = delivered.rows.iter().any(|row| {
            let is_same = || statement.variant.is_empty() || statement.variant == row.variant;
            !row.variant.is_empty() && row.quantity.is_none() && is_same()
        });
        let is_present = delivered.is_present || is_listed;
        // Rows that are present without a number keep the date of their last statement.
        if is_present && statement.stated_at.is_none() {
            statement.stated_at = Some(since);
        }
        let is_delivered = delivered
            .rows
            .iter()
            .any(|row| row.key() == statement.key());
        if statement.absent_at.is_none()
            && (statement.stated_at.is_none() || implies_absence)
            && since <= stated_at.as_micros()
            && !is_present
            && !is_delivered
        {
            statement.stated_at = Some(since);
            statement.absent_at = implies_absence.then(|| stated_at.as_micros());
        }
    }

    /// Returns the date of a row without an own date.
    ///
    /// A row of a snapshot without a date has the date of the snapshot. That is stored once, with
    /// the source, so that an unchanged row is not written again. A row of a delta stores the date
    /// of the delta. So does a row of a snapshot that was held, because the source's date belongs
    /// to a later snapshot.
    fn default_date(&self) -> Option<i64> {
        let CommitOptions {
            scope,
            stated_at,
            is_out_of_order,
            ..
        } = self.options;
        let has_own_date = scope == DeliveryScope::Delta || is_out_of_order;
        has_own_date.then(|| stated_at.as_micros())
    }

    fn since(&self, statement: &StoredStatement) -> i64 {
        statement.stated_at.or(self.snapshot_at).unwrap_or(0)
    }

    fn may_replace(&self, statement: &StoredStatement) -> bool {
        let latest = self.since(statement).max(statement.absent_at.unwrap_or(0));
        !self.options.is_out_of_order || latest <= self.options.stated_at.as_micros()
    }
}

#[cfg(test)]
mod tests {
    use super::super::duplicates::MergedRow;
    use super::*;

    fn replacement(scope: DeliveryScope, at: i64) -> Replacement {
        Replacement {
            options: CommitOptions {
                scope,
                stated_at: Timestamp::from_micros(at).unwrap(),
                implies_absence: true,
                is_out_of_order: false,
            },
            snapshot_at: Some(10),
        }
    }

    fn statement(warehouse: &str, quantity: i64) -> StoredStatement {
        StoredStatement {
            warehouse: warehouse.to_owned(),
            quantity,
            ..StoredStatement::default()
        }
    }

    fn delivered(rows: &[(&str, Option<i64>)]) -> DeliveredSku {
        let row = |(warehouse, quantity): &(&str, Option<i64>)| MergedRow {
            warehouse: (*warehouse).to_owned(),
            quantity: *quantity,
            ..MergedRow::default()
        };
        DeliveredSku {
            sku: "A".to_owned(),
            rows: rows.iter().map(row).collect(),
            is_present: rows.iter().any(|(_, quantity)| quantity.is_none()),
        }
    }

    fn replaced(
        replacement: &Replacement,
        stored: &[StoredStatement],
        rows: &[(&str, Option<i64>)],
    ) -> Vec<StoredStatement> {
        let mut new = Vec::new();
        replacement.replace(stored, &mut delivered(rows), &mut new);
        new
    }

    #[test]
    fn unchanged_row_of_a_snapshot_stays_as_it_is() {
        let stored = [statement("", 5), statement("w", 6)];
        let snapshot = replacement(DeliveryScope::Snapshot, 20);
        let new = replaced(&snapshot, &stored, &[("", Some(5)), ("w", Some(6))]);
        assert_eq!(new, stored);
    }

    #[test]
    fn missing_row_is_absent_once() {
        let snapshot = replacement(DeliveryScope::Snapshot, 20);
        let stored = [statement("", 5), statement("w", 6)];
        let new = replaced(&snapshot, &stored, &[("w", Some(7))]);
        let absent = StoredStatement {
            stated_at: Some(10),
            absent_at: Some(20),
            ..statement("", 5)
        };
        assert_eq!(new, [absent, statement("w", 7)]);
        let later = replacement(DeliveryScope::Snapshot, 30);
        assert_eq!(replaced(&later, &new[..1], &[]), new[..1]);
    }

    #[test]
    fn row_without_a_number_is_present() {
        let snapshot = replacement(DeliveryScope::Snapshot, 20);
        let new = replaced(&snapshot, &[statement("", 5)], &[("", None)]);
        let dated = StoredStatement {
            stated_at: Some(10),
            ..statement("", 5)
        };
        assert_eq!(new, [dated]);
    }

    #[test]
    fn delta_dates_its_rows_and_keeps_others() {
        let delta = replacement(DeliveryScope::Delta, 20);
        let new = replaced(
            &delta,
            &[statement("", 5), statement("w", 6)],
            &[("w", Some(6))],
        );
        let dated = StoredStatement {
            stated_at: Some(20),
            ..statement("w", 6)
        };
        assert_eq!(new, [statement("", 5), dated]);
    }

    #[test]
    fn approved_delivery_does_not_replace_later_statements() {
        let mut held = replacement(DeliveryScope::Snapshot, 5);
        held.options.is_out_of_order = true;
        let stored = [statement("", 5)];
        assert_eq!(replaced(&held, &stored, &[("", Some(9))]), stored);
        held.options.stated_at = Timestamp::from_micros(11).unwrap();
        let new = replaced(&held, &stored, &[("", Some(9))]);
        assert_eq!((new[0].quantity, new[0].stated_at), (9, Some(11)));
    }

    #[test]
    fn number_of_the_product_replaces_those_of_variants() {
        let delta = replacement(DeliveryScope::Delta, 20);
        let of_variant = StoredStatement {
            variant: "p#1".to_owned(),
            ..statement("", 5)
        };
        let new = replaced(&delta, &[of_variant], &[("", Some(9))]);
        assert_eq!((new.len(), new[0].quantity), (1, 9));
        let mut rows = delivered(&[("", Some(9))]);
        rows.rows[0].variant = "p#1".to_owned();
        let mut new = Vec::new();
        delta.replace(&[statement("", 5)], &mut rows, &mut new);
        assert_eq!((new.len(), new[0].variant.as_str()), (1, "p#1"));
    }
}

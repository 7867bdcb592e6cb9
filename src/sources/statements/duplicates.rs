//! SQL for repeated rows of a SKU at one warehouse, by the setting `duplicates`.

use stock::MAX_COUNT;
use stock_import::Quantity;

use crate::sources::DuplicatePolicy;

/// SQL that orders two rows of one SKU and warehouse: by their part of the delivery, then by date.
const IS_LATER: &str = "(excluded.part > part OR (excluded.part = part AND excluded.at > at))";

const IS_EARLIER: &str = "(excluded.part < part OR excluded.at < at)";

/// Returns the SQL that resolves a row whose SKU and warehouse are already staged.
///
/// A row in a later part replaces earlier ones. Within a part, the row with the latest date wins,
/// but only if every row has a date. Column `mixed` records that some rows have a date and some
/// have not, `varied` that their numbers differ, `copies` the number of rows, `clash` the line of a
/// row that could not be resolved. The result does not depend on the order of the rows.
pub(super) fn conflict_clause(duplicates: DuplicatePolicy) -> String {
    let has_no_quantity = "(excluded.quantity IS NULL AND quantity IS NULL)";
    let is_same = "(excluded.quantity IS quantity AND excluded.reserve IS reserve)";
    let is_mixed = "(mixed OR (excluded.at IS NULL) <> (at IS NULL))";
    let (is_fine, sum, is_fine_mixed) = match duplicates {
        DuplicatePolicy::Reject => (
            has_no_quantity,
            false,
            "NOT varied AND excluded.quantity IS NULL",
        ),
        DuplicatePolicy::Same => (is_same, false, "NOT varied"),
        // The sum is unknown if one row has a quantity and another one has none.
        DuplicatePolicy::Sum => (
            "((excluded.quantity IS NULL) = (quantity IS NULL))",
            true,
            "0",
        ),
    };
    let is_fine_mixed = format!("({is_fine_mixed} AND {is_same})");
    let added_or_latest = |column: &str| {
        let both = format!("COALESCE({column}, 0) + COALESCE(excluded.{column}, 0)");
        let neither = format!("{column} IS NULL AND excluded.{column} IS NULL");
        let otherwise = if sum {
            format!("WHEN {IS_EARLIER} OR ({neither}) THEN {column} ELSE {both}")
        } else {
            format!("ELSE {column}")
        };
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} {otherwise} END")
    };
    let latest = |column: &str| {
        format!("{column} = CASE WHEN {IS_LATER} THEN excluded.{column} ELSE {column} END")
    };
    let within_part = |column: &str, first: &str, next: &str| {
        format!(
            "{column} = CASE WHEN excluded.part > part THEN {first} \
             WHEN excluded.part < part THEN {column} ELSE {next} END"
        )
    };
    let in_same_part = format!(
        "CASE WHEN {is_mixed} AND {is_fine_mixed} THEN clash WHEN {is_mixed} THEN excluded.line \
         WHEN excluded.at > at THEN 0 WHEN excluded.at < at OR {is_fine} THEN clash \
         ELSE excluded.line END"
    );
    let columns = [
        within_part("clash", "0", &in_same_part),
        within_part("mixed", "0", is_mixed),
        within_part("varied", "0", &format!("varied OR NOT {is_same}")),
        within_part("copies", "1", "copies + 1"),
        added_or_latest("quantity"),
        added_or_latest("reserve"),
        latest("line"),
        format!(
            "at = CASE WHEN excluded.part = part AND {is_mixed} THEN NULL \
             WHEN {IS_LATER} THEN excluded.at ELSE at END"
        ),
    ];
    format!(
        " ON CONFLICT (said, place, variant) DO UPDATE SET {}, part = max(part, excluded.part)",
        columns.join(", ")
    )
}

/// Returns the SQL that rejects rows whose SKU is repeated without an order, and sums that are too
/// large for a count.
pub(super) fn reject_duplicates_sql(duplicates: DuplicatePolicy) -> String {
    let why = match duplicates {
        DuplicatePolicy::Reject => {
            "': set duplicates = \"sum\" if its rows add up, or duplicates = \"same\" if equal rows \
             repeat each other'"
        }
        DuplicatePolicy::Same => {
            "' with different numbers: set duplicates = \"sum\" if its rows add up'"
        }
        DuplicatePolicy::Sum => {
            "CASE WHEN mixed THEN '' ELSE ', and one of them has no number: their sum is not known' END"
        }
    };
    let most = Quantity::MAX.thousandths();
    // If the delivery names several warehouses, the rejected row may be of another one, and the
    // rows of each warehouse are stored separately. A sum needs all its rows.
    let is_part = match duplicates {
        DuplicatePolicy::Sum => "1",
        DuplicatePolicy::Reject | DuplicatePolicy::Same => {
            "(SELECT count(DISTINCT place) FROM delivery.row) <= 1"
        }
    };
    let is_faulty = format!(
        "{is_part} AND EXISTS (SELECT 1 FROM delivery.faulty f WHERE f.said = row.said \
         AND f.part >= row.part)"
    );
    format!(
        "DELETE FROM delivery.by_id; \
         CREATE INDEX IF NOT EXISTS delivery.faulty_by_said ON faulty (said); \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'the SKU is also in row ' || clash || \
         CASE WHEN copies > 2 THEN ' (' || copies || ' rows in all)' ELSE '' END || \
         CASE WHEN mixed THEN ', some with a date and some without: give all of them a date, or \
         none' ELSE '' END || {why}, 1 \
         FROM delivery.row WHERE clash > 0; \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'another row of this SKU is not applied, so this row may be only a part of its stock', 1 \
         FROM delivery.row WHERE clash = 0 AND {is_faulty}; \
         INSERT INTO delivery.rejected (line, text, reason, suspicious) SELECT line, said, \
         'the sum of the rows of this SKU is more than {MAX_COUNT}, the largest count', 0 \
         FROM delivery.row WHERE clash = 0 AND abs(quantity) > {most} AND NOT ({is_faulty}); \
         INSERT OR IGNORE INTO delivery.present (said) SELECT said FROM delivery.row \
         WHERE clash > 0 OR (quantity IS NULL AND variant = '') OR abs(quantity) > {most}; \
         DELETE FROM delivery.row WHERE clash > 0 OR abs(quantity) > {most} OR ({is_faulty}); \
         PRAGMA delivery.user_version = 1;"
    )
}

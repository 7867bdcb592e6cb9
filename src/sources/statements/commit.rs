//! Replacement of a source's statements by a resolved delivery.
//!
//! Decides which statements are replaced, which become absent, and which date each one has.

use sqlx::sqlite::SqliteConnection;
use stock::Timestamp;
use stock_import::DeliveryScope;

use super::{SourceId, variants};

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

/// Begins a transaction and replaces the statements of a source by the resolved delivery. The
/// caller ends the transaction.
///
/// Unchanged statements are not written again.
pub(super) async fn write_statements(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: CommitOptions,
) -> Result<(), sqlx::Error> {
    let CommitOptions {
        scope,
        stated_at: at,
        implies_absence,
        is_out_of_order,
    } = options;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *conn).await?;
    sqlx::query(
        "INSERT INTO main.article (source, id, said) SELECT ?1, id, said FROM delivery.article \
         WHERE true ON CONFLICT (source, id) DO UPDATE SET said = excluded.said \
         WHERE said IS NOT excluded.said",
    )
    .bind(source.0)
    .execute(&mut *conn)
    .await?;
    if variants::has_variants(conn, source).await? {
        variants::write_variants(conn, source, at.as_micros(), is_out_of_order).await?;
    }
    // A row of a snapshot without a date has the date of the snapshot. That is stored once, with
    // the source, so that an unchanged row is not written again. A row of a delta stores the date
    // of the delta. So does a row of a snapshot that was held, because the source's date belongs
    // to a later snapshot.
    let has_own_date = scope == DeliveryScope::Delta || is_out_of_order;
    let default_date = has_own_date.then_some(at.as_micros());
    let since = "COALESCE(at, (SELECT snapshot_at FROM source WHERE id = ?1), 0)";
    if scope == DeliveryScope::Snapshot {
        // Variants that are present without a number.
        let listed = "EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = stated.said \
                      AND r.variant <> '' AND stated.variant IN ('', r.variant) \
                      AND r.quantity IS NULL)";
        // Rows that are present without a number keep the date of their last statement.
        let kept = format!(
            "UPDATE stated SET at = {since} WHERE source = ?1 AND at IS NULL AND \
             (said IN (SELECT said FROM delivery.present) OR {listed})"
        );
        sqlx::query(sqlx::AssertSqlSafe(kept))
            .bind(source.0)
            .execute(&mut *conn)
            .await?;
        let gone = format!(
            "UPDATE stated SET at = {since}, absent_at = CASE WHEN ?2 THEN ?3 ELSE absent_at END \
             WHERE source = ?1 AND absent_at IS NULL AND (at IS NULL OR ?2) AND {since} <= ?3 \
             AND said NOT IN (SELECT said FROM delivery.present) \
             AND NOT EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = stated.said AND \
             r.place = stated.place AND r.variant = stated.variant) AND NOT {listed}"
        );
        sqlx::query(sqlx::AssertSqlSafe(gone))
            .bind(source.0)
            .bind(implies_absence)
            .bind(at.as_micros())
            .execute(&mut *conn)
            .await?;
    }
    let rows = format!(
        "INSERT INTO stated (said, source, place, variant, quantity, reserve, at, absent_at) \
         SELECT said, ?1, place, variant, quantity, reserve, COALESCE(at, ?2), NULL \
         FROM delivery.row WHERE quantity IS NOT NULL ORDER BY said \
         ON CONFLICT (said, source, place, variant) DO UPDATE SET quantity = excluded.quantity, \
         reserve = excluded.reserve, at = excluded.at, absent_at = NULL \
         WHERE (quantity IS NOT excluded.quantity OR reserve IS NOT excluded.reserve \
         OR at IS NOT excluded.at OR absent_at IS NOT NULL) \
         AND (NOT ?3 OR max({since}, COALESCE(absent_at, 0)) <= ?4)"
    );
    sqlx::query(sqlx::AssertSqlSafe(rows))
        .bind(source.0)
        .bind(default_date)
        .bind(is_out_of_order)
        .bind(at.as_micros())
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE source SET owes = 1, stated_at = max(COALESCE(stated_at, ?2), ?2), \
         snapshot_at = CASE WHEN ?3 AND NOT ?4 THEN ?2 ELSE snapshot_at END, \
         rows = CASE WHEN ?3 THEN (SELECT count(*) FROM delivery.row) ELSE rows END WHERE id = ?1",
    )
    .bind(source.0)
    .bind(at.as_micros())
    .bind(scope == DeliveryScope::Snapshot)
    .bind(is_out_of_order)
    .execute(conn)
    .await?;
    Ok(())
}

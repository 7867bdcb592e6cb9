//! Counts and lists of the rows of a delivery that are not applied.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};
use stock_import::RejectedRow;

use super::SourceId;

/// Counts the rows of a resolved delivery: those to apply, those rejected, the suspicious among the
/// rejected, and those suspicious because variants share their SKU.
pub(super) async fn count_rows(conn: &mut SqliteConnection) -> Result<[u64; 4], sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM delivery.row), (SELECT count(*) FROM delivery.rejected), \
         (SELECT count(*) FROM delivery.rejected WHERE suspicious), \
         (SELECT count(*) FROM delivery.unclear)",
    )
    .fetch_one(conn)
    .await?;
    let number = |column: usize| row.get::<i64, _>(column).cast_unsigned();
    Ok([number(0), number(1), number(2), number(3)])
}

/// Returns the first rejected and suspicious rows of a delivery.
pub(super) async fn first_rejected(
    conn: &mut SqliteConnection,
) -> Result<Vec<RejectedRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT 20",
    );
    Ok(rows
        .fetch_all(conn)
        .await?
        .iter()
        .map(rejected_row)
        .collect())
}

/// Decodes a database row of line, text, reason and the mark "suspicious".
pub(super) fn rejected_row(row: &SqliteRow) -> RejectedRow {
    RejectedRow {
        line: u64::try_from(row.get::<i64, _>(0)).unwrap_or_default(),
        text: row.get(1),
        reason: row.get(2),
        sku: None,
        possible_sku: None,
        is_suspicious: row.get::<i64, _>(3) != 0,
    }
}

/// Replaces the stored rejected rows of a source by those of the attached delivery.
pub(super) async fn save_rejected(
    conn: &mut SqliteConnection,
    source: SourceId,
    limit: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = conn.begin().await?;
    sqlx::query("DELETE FROM rejected WHERE source = ?1")
        .bind(source.0)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO rejected (source, line, text, reason, suspicious) \
         SELECT ?1, line, text, reason, suspicious FROM delivery.rejected ORDER BY line LIMIT ?2",
    )
    .bind(source.0)
    .bind(limit)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

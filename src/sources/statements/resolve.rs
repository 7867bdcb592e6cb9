//! Resolution of a staged delivery: finds the SKUs of ids, and rejects rows that are unclear.

use sqlx::sqlite::SqliteConnection;

use super::SourceId;
use super::duplicates::{conflict_clause, reject_duplicates_sql};
use super::variants::{self, ResolveOptions};

/// Finds the SKUs of rows that name an id, and rejects rows that contradict each other.
///
/// Writes only to the staging file. A second call does nothing: the file is marked as resolved.
/// Returns the number of products without a SKU.
pub(super) async fn resolve(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: ResolveOptions,
) -> Result<u64, sqlx::Error> {
    let resolved: i64 = sqlx::query_scalar("PRAGMA delivery.user_version")
        .fetch_one(&mut *conn)
        .await?;
    if resolved > 0 {
        return Ok(0);
    }
    let has_variants = variants::has_variants(conn, source).await?;
    if has_variants {
        variants::resolve_variants(conn, source, options).await?;
    }
    let sku_of_id = "COALESCE((SELECT said FROM delivery.article WHERE id = r.id), \
                (SELECT said FROM main.article WHERE source = ?1 AND id = r.id))";
    let with_sku = format!(
        "INSERT INTO delivery.row (said, place, part, line, quantity, reserve, at, clash) \
         SELECT {sku_of_id}, r.place, r.part, r.line, r.quantity, r.reserve, r.at, 0 \
         FROM delivery.by_id r WHERE {sku_of_id} IS NOT NULL{}",
        conflict_clause(options.duplicates)
    );
    // Rows of variants were resolved with their variants.
    let has_no_sku = format!(
        "{sku_of_id} IS NULL AND NOT EXISTS \
         (SELECT 1 FROM delivery.variant v WHERE v.id = r.id AND v.said IS NOT NULL)"
    );
    let without_sku = format!(
        "INSERT INTO delivery.rejected (line, text, reason) SELECT min(r.line), r.id, \
         'no SKU is known for this id: no catalogue with an article for it was delivered' \
         FROM delivery.by_id r WHERE {has_no_sku} GROUP BY r.id"
    );
    let mut products_without_sku = 0;
    for (statement, is_needed) in [(with_sku, !has_variants), (without_sku, true)] {
        if is_needed {
            let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(source.0);
            // The second statement lists the products without a SKU.
            products_without_sku = query.execute(&mut *conn).await?.rows_affected();
        }
    }
    if has_variants {
        variants::reject_unclear(conn, source, options).await?;
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(reject_duplicates_sql(
        options.duplicates,
    )))
    .execute(conn)
    .await?;
    Ok(products_without_sku)
}

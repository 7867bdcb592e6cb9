//! Variants of a product that share one SKU.
//!
//! The id of a variant in CommerceML is `product#variant`. Often only the product has an article,
//! in the catalogue or repeated in each offer. Then several variants share one SKU.
//!
//! - A variant whose article is neither its product's nor that of another variant is a SKU of its
//!   own. If the product's article is unknown, another variant with an article of its own must
//!   prove that articles are not repeated.
//! - Other variants share their SKU. The setting `variants` decides: `"reject"` lists the SKU as
//!   suspicious and leaves its stock unchanged; `"sum"` adds the variants up. The number of each
//!   variant is stored separately, so a delta of one variant replaces only its own number.
//! - If a SKU has only ever had one variant, a complete delivery proves that it is the only one.
//!   From then on the SKU is that variant's, until another variant appears.
//! - Under `"sum"`, the first number of a SKU must not be a zero from a delta of some variants: the
//!   others may be in stock. The SKU is suspicious until a complete delivery or a number above zero
//!   arrives.
//! - A number of the product itself replaces that of its only variant, and vice versa. In one file,
//!   or with several variants, both are suspicious: it is unknown whether the product's number
//!   includes those of its variants.

use sqlx::sqlite::SqliteConnection;
use stock_import::{VariantListing, VariantPolicy};

use super::SourceId;
use super::duplicates::conflict_clause;
use crate::sources::DuplicatePolicy;

/// Tables for variants in the staging file.
pub(super) const STAGING_SCHEMA: &str = "\
CREATE TABLE variant (id TEXT NOT NULL PRIMARY KEY, product TEXT NOT NULL, \
is_offered INTEGER NOT NULL, is_alone INTEGER NOT NULL DEFAULT 0, own TEXT, base TEXT, \
said TEXT, is_shared INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX variant_of_product ON variant (product, own);
CREATE INDEX variant_by_sku ON variant (said);
CREATE TABLE shared (said TEXT NOT NULL PRIMARY KEY, product TEXT NOT NULL, \
products INTEGER NOT NULL, variants INTEGER NOT NULL, is_alone INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE unclear (said TEXT NOT NULL PRIMARY KEY, line INTEGER NOT NULL, \
why TEXT NOT NULL) WITHOUT ROWID;";

/// Settings for the resolution of a delivery.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct ResolveOptions {
    /// Setting `duplicates`.
    pub(in crate::sources) duplicates: DuplicatePolicy,
    /// Setting `variants`.
    pub(in crate::sources) variants: VariantPolicy,
    /// Set of variants that the delivery lists.
    pub(in crate::sources) listing: VariantListing,
}

/// Returns true if the delivery has variants, or may concern a product that had some.
pub(super) async fn has_variants(
    conn: &mut SqliteConnection,
    source: SourceId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM main.variant WHERE source = ?1) \
         OR EXISTS (SELECT 1 FROM delivery.variant) \
         OR EXISTS (SELECT 1 FROM delivery.by_id WHERE instr(id, '#') > 1) \
         OR EXISTS (SELECT 1 FROM delivery.article WHERE instr(id, '#') > 1)",
    )
    .bind(source.0)
    .fetch_one(conn)
    .await
}

/// Finds the SKU of each variant, and the SKUs that several variants share. A row of a variant that
/// shares its SKU keeps the id of the variant.
pub(super) async fn resolve_variants(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: ResolveOptions,
) -> Result<(), sqlx::Error> {
    let product = "substr(id, 1, instr(id, '#') - 1)";
    let article = |id: &str| {
        format!(
            "COALESCE((SELECT said FROM delivery.article a WHERE a.id = {id}), \
             (SELECT said FROM main.article a WHERE a.source = ?1 AND a.id = {id}))"
        )
    };
    let statements = [
        format!(
            "INSERT OR IGNORE INTO delivery.variant (id, product, is_offered) \
             SELECT id, {product}, 1 FROM delivery.by_id WHERE instr(id, '#') > 1"
        ),
        format!(
            "INSERT OR IGNORE INTO delivery.variant (id, product, is_offered) \
             SELECT id, {product}, 0 FROM delivery.article WHERE instr(id, '#') > 1"
        ),
        "INSERT INTO delivery.variant (id, product, is_offered, is_alone) \
         SELECT id, product, 0, is_alone FROM main.variant WHERE source = ?1 AND product IN \
         (SELECT product FROM delivery.variant UNION SELECT id FROM delivery.by_id \
         UNION SELECT id FROM delivery.article) \
         ON CONFLICT (id) DO UPDATE SET is_alone = excluded.is_alone"
            .to_owned(),
        format!(
            "UPDATE delivery.variant SET own = {}, base = {}",
            article("variant.id"),
            article("variant.product")
        ),
        "UPDATE delivery.variant AS v SET said = COALESCE(own, base), is_shared = CASE \
         WHEN own IS NULL THEN base IS NOT NULL \
         WHEN own IS base THEN 1 \
         WHEN EXISTS (SELECT 1 FROM delivery.variant o WHERE o.product = v.product \
         AND o.own = v.own AND o.id <> v.id) THEN 1 \
         WHEN base IS NULL THEN NOT EXISTS (SELECT 1 FROM delivery.variant o \
         WHERE o.product = v.product AND o.own IS NOT NULL AND o.id <> v.id) \
         ELSE 0 END"
            .to_owned(),
        "INSERT INTO delivery.shared (said, product, products, variants, is_alone) \
         SELECT said, min(product), count(DISTINCT product), count(*), max(is_alone) \
         FROM delivery.variant WHERE is_shared GROUP BY said"
            .to_owned(),
        format!(
            "INSERT INTO delivery.row (said, place, variant, part, line, quantity, reserve, at, \
             clash) SELECT said, place, variant, part, line, quantity, reserve, at, 0 FROM \
             (SELECT CASE WHEN v.id IS NULL THEN {} ELSE v.said END AS said, r.place, \
             CASE WHEN v.is_shared THEN v.id ELSE '' END AS variant, r.part, r.line, \
             r.quantity, r.reserve, r.at FROM delivery.by_id r \
             LEFT JOIN delivery.variant v ON v.id = r.id) WHERE said IS NOT NULL{}",
            article("r.id"),
            conflict_clause(options.duplicates)
        ),
    ];
    for statement in statements {
        let query = sqlx::query(sqlx::AssertSqlSafe(statement));
        query.bind(source.0).execute(&mut *conn).await?;
    }
    if options.listing == VariantListing::Complete {
        // A single variant in a complete list is the only one.
        sqlx::raw_sql(
            "UPDATE delivery.variant SET is_alone = 1 WHERE is_shared AND is_offered AND said IN \
             (SELECT said FROM delivery.shared WHERE variants = 1); \
             UPDATE delivery.shared SET is_alone = 1 WHERE variants = 1 AND said IN \
             (SELECT said FROM delivery.variant WHERE is_alone);",
        )
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Lists SKUs whose number is unclear as suspicious, and removes their rows.
pub(super) async fn reject_unclear(
    conn: &mut SqliteConnection,
    source: SourceId,
    options: ResolveOptions,
) -> Result<(), sqlx::Error> {
    let ResolveOptions {
        variants, listing, ..
    } = options;
    // Rows with a number: those of the SKU's variants, and those of the product itself.
    let of_variants = "r.said = s.said AND r.variant <> '' AND r.quantity IS NOT NULL";
    let of_product = "r.said = s.said AND r.variant = '' AND r.quantity IS NOT NULL";
    // A later part of the delivery replaces an earlier one. A zero of the product itself adds
    // nothing to the numbers of its variants.
    let delete_if_earlier = |one: &str, other: &str| {
        format!(
            "DELETE FROM delivery.row WHERE said IN (SELECT said FROM delivery.shared s WHERE \
             variants = 1 AND (SELECT max(part) FROM delivery.row r WHERE {one}) > \
             (SELECT max(part) FROM delivery.row r WHERE {other})) AND "
        )
    };
    let replaced = [
        delete_if_earlier(of_product, of_variants) + "variant <> ''",
        delete_if_earlier(of_variants, of_product) + "variant = ''",
        format!(
            "DELETE FROM delivery.row WHERE variant = '' AND quantity = 0 AND said IN \
             (SELECT said FROM delivery.shared s WHERE variants > 1 AND \
             EXISTS (SELECT 1 FROM delivery.row r WHERE {of_variants}))"
        ),
    ];
    for statement in replaced {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *conn)
            .await?;
    }
    let is_alone = "(variants = 1 AND is_alone)";
    let policy_case = match (variants, listing) {
        (VariantPolicy::Reject, _) => {
            format!("WHEN has_variants AND NOT {is_alone} THEN 'several' ")
        }
        (VariantPolicy::Sum, VariantListing::Changes) => format!(
            "WHEN has_variants AND NOT {is_alone} AND NOT EXISTS (SELECT 1 FROM delivery.row r \
             WHERE {of_variants} AND r.quantity > 0) AND NOT EXISTS (SELECT 1 FROM main.stated t \
             WHERE t.said = s.said AND t.source = ?1 AND t.variant <> '') THEN 'zero' "
        ),
        (VariantPolicy::Sum, VariantListing::Partial | VariantListing::Complete) => String::new(),
    };
    let unclear = format!(
        "INSERT INTO delivery.unclear (said, line, why) SELECT said, line, why FROM \
         (SELECT said, (SELECT min(line) FROM delivery.row r WHERE r.said = s.said) AS line, CASE \
         WHEN NOT has_variants AND NOT has_product THEN NULL \
         WHEN products > 1 THEN 'products' \
         WHEN has_product AND (has_variants OR variants > 1) THEN 'product' {policy_case}END AS \
         why FROM (SELECT *, EXISTS (SELECT 1 FROM delivery.row r WHERE {of_variants}) AS \
         has_variants, EXISTS (SELECT 1 FROM delivery.row r WHERE {of_product}) AS has_product \
         FROM delivery.shared s) s) WHERE why IS NOT NULL"
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(unclear))
        .bind(source.0)
        .execute(&mut *conn)
        .await?;
    // A variant without a number is present, so its SKU is not absent.
    if variants == VariantPolicy::Reject {
        sqlx::raw_sql(
            "INSERT OR IGNORE INTO delivery.present (said) \
             SELECT said FROM delivery.row WHERE variant <> '' AND quantity IS NULL",
        )
        .execute(&mut *conn)
        .await?;
    }
    if done.rows_affected() > 0 {
        list_unclear(conn).await?;
    }
    Ok(())
}

/// Writes the reason for each unclear SKU, and removes its rows.
async fn list_unclear(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let ids = "(SELECT group_concat(id, ', ') FROM (SELECT id FROM delivery.variant v WHERE \
               v.said = u.said AND v.is_shared ORDER BY id LIMIT 10)) || \
               CASE WHEN variants > 10 THEN ' and others' ELSE '' END";
    let cure = "set sku = \"Ид\" and name the SKU of each variant in mapping_file, or give each \
                variant an article of its own";
    let reasons = format!(
        "INSERT INTO delivery.rejected (suspicious, line, text, reason) SELECT 1, line, said, \
         said || ' is the article of ' || CASE WHEN products > 1 THEN variants || ' variants of ' \
         || products || ' products, ' || {ids} || ': it is not known which of them it means; \
         {cure}' \
         WHEN variants > 1 THEN variants || ' variants of the product ' || product || ', ' || {ids} \
         ELSE 'the product ' || product || ', whose variant ' || {ids} || ' is known' END \
         || CASE WHEN products > 1 THEN '' WHEN why = 'several' THEN \
         CASE WHEN variants > 1 THEN ': it is not known which of them it means; ' \
         ELSE ': it may have other variants; ' END || '{cure}, or set variants = \"sum\" if the \
         stock of the SKU is the sum over its variants' \
         WHEN why = 'zero' THEN ': the variants received so far have no stock, and others may have \
         some; export all variants once' \
         ELSE ', and the product itself has a number too: it is not known whether that includes \
         its variants; {cure}' END \
         FROM delivery.unclear u JOIN delivery.shared s USING (said)"
    );
    sqlx::query(sqlx::AssertSqlSafe(reasons))
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql(
        "INSERT OR IGNORE INTO delivery.present (said) SELECT said FROM delivery.unclear; \
         DELETE FROM delivery.row WHERE said IN (SELECT said FROM delivery.unclear);",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the variants of a delivery in its transaction, and deletes the statements that its rows
/// replace: those of variants if the product itself has a number now, and vice versa.
pub(super) async fn write_variants(
    conn: &mut SqliteConnection,
    source: SourceId,
    stated_at: i64,
    is_out_of_order: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO main.variant (source, product, id, is_alone) \
         SELECT ?1, product, id, is_alone FROM delivery.variant WHERE true \
         ON CONFLICT (source, product, id) DO UPDATE SET is_alone = excluded.is_alone \
         WHERE is_alone < excluded.is_alone",
    )
    .bind(source.0)
    .execute(&mut *conn)
    .await?;
    let other = "t.said = r.said AND t.source = ?1 AND (t.variant = '') <> (r.variant = '')";
    let replaced = format!(
        "DELETE FROM main.stated WHERE (said, source, place, variant) IN \
         (SELECT t.said, t.source, t.place, t.variant FROM delivery.row r CROSS JOIN main.stated t \
         ON {other} WHERE r.quantity IS NOT NULL AND (NOT ?2 OR max(COALESCE(t.at, (SELECT \
         snapshot_at FROM main.source WHERE id = ?1), 0), COALESCE(t.absent_at, 0)) <= ?3))"
    );
    sqlx::query(sqlx::AssertSqlSafe(replaced))
        .bind(source.0)
        .bind(is_out_of_order)
        .bind(stated_at)
        .execute(&mut *conn)
        .await?;
    if is_out_of_order {
        // Statements of the other kind that came after the hold are newer.
        let outdated = format!(
            "DELETE FROM delivery.row WHERE (said, place, variant) IN (SELECT r.said, r.place, \
             r.variant FROM delivery.row r CROSS JOIN main.stated t ON {other})"
        );
        sqlx::query(sqlx::AssertSqlSafe(outdated))
            .bind(source.0)
            .execute(conn)
            .await?;
    }
    Ok(())
}

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

use rusqlite::{Connection, OptionalExtension as _, params};
use stock_import::{VariantListing, VariantPolicy};

use super::duplicates::MergedRow;
use super::{SourceId, StorageError};
use crate::sources::DuplicatePolicy;

/// Tables for variants in the staging file.
pub(super) const STAGING_SCHEMA: &str = "\
CREATE TABLE variant (id TEXT NOT NULL PRIMARY KEY, product TEXT NOT NULL, \
is_offered INTEGER NOT NULL, is_alone INTEGER NOT NULL DEFAULT 0, own TEXT, base TEXT, \
said TEXT, is_shared INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX variant_of_product ON variant (product, own);
CREATE INDEX variant_by_sku ON variant (said);
CREATE TABLE shared (said TEXT NOT NULL PRIMARY KEY, product TEXT NOT NULL, \
products INTEGER NOT NULL, variants INTEGER NOT NULL, is_alone INTEGER NOT NULL) WITHOUT ROWID;";

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

/// Returns the SQL of the SKU of an id: as the delivery says it, or else an earlier one. `?1` is
/// the source, and the statements of the shop are attached as `stored`.
pub(super) fn article_sql(id: &str) -> String {
    format!(
        "COALESCE((SELECT said FROM main.article a WHERE a.id = {id}), \
         (SELECT said FROM stored.article a WHERE a.source = ?1 AND a.id = {id}))"
    )
}

/// Returns true if the delivery has variants, or may concern a product that had some.
fn has_variants(conn: &Connection, source: SourceId) -> Result<bool, StorageError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM stored.variant WHERE source = ?1) \
               OR EXISTS (SELECT 1 FROM main.by_id WHERE instr(id, '#') > 1) \
               OR EXISTS (SELECT 1 FROM main.article WHERE instr(id, '#') > 1)";
    Ok(conn.query_row(sql, params![source.0], |row| row.get(0))?)
}

/// Finds the SKU of each variant, and the SKUs that several variants share.
pub(super) fn find_variants(
    conn: &Connection,
    source: SourceId,
    listing: VariantListing,
) -> Result<(), StorageError> {
    if !has_variants(conn, source)? {
        return Ok(());
    }
    let product = "substr(id, 1, instr(id, '#') - 1)";
    for (table, is_offered) in [("by_id", 1), ("article", 0)] {
        let sql = format!(
            "INSERT OR IGNORE INTO main.variant (id, product, is_offered) \
             SELECT id, {product}, {is_offered} FROM main.{table} WHERE instr(id, '#') > 1"
        );
        conn.execute(&sql, [])?;
    }
    conn.execute(
        "INSERT INTO main.variant (id, product, is_offered, is_alone) \
         SELECT id, product, 0, is_alone FROM stored.variant WHERE source = ?1 AND product IN \
         (SELECT product FROM main.variant UNION SELECT id FROM main.by_id \
         UNION SELECT id FROM main.article) \
         ON CONFLICT (id) DO UPDATE SET is_alone = excluded.is_alone",
        params![source.0],
    )?;
    let articles = format!(
        "UPDATE main.variant SET own = {}, base = {}",
        article_sql("variant.id"),
        article_sql("variant.product")
    );
    conn.execute(&articles, params![source.0])?;
    conn.execute_batch(
        "UPDATE main.variant AS v SET said = COALESCE(own, base), is_shared = CASE \
         WHEN own IS NULL THEN base IS NOT NULL \
         WHEN own IS base THEN 1 \
         WHEN EXISTS (SELECT 1 FROM main.variant o WHERE o.product = v.product \
         AND o.own = v.own AND o.id <> v.id) THEN 1 \
         WHEN base IS NULL THEN NOT EXISTS (SELECT 1 FROM main.variant o \
         WHERE o.product = v.product AND o.own IS NOT NULL AND o.id <> v.id) \
         ELSE 0 END; \
         INSERT INTO main.shared (said, product, products, variants, is_alone) \
         SELECT said, min(product), count(DISTINCT product), count(*), max(is_alone) \
         FROM main.variant WHERE is_shared GROUP BY said;",
    )?;
    if listing == VariantListing::Complete {
        // A single variant in a complete list is the only one.
        conn.execute_batch(
            "UPDATE main.variant SET is_alone = 1 WHERE is_shared AND is_offered AND said IN \
             (SELECT said FROM main.shared WHERE variants = 1); \
             UPDATE main.shared SET is_alone = 1 WHERE variants = 1 AND said IN \
             (SELECT said FROM main.variant WHERE is_alone);",
        )?;
    }
    Ok(())
}

/// SKU that variants share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SharedSku {
    product: String,
    products: u64,
    variants: u64,
    is_alone: bool,
}

/// Reason why the number of a shared SKU is unclear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UnclearVariants {
    /// Variants of several products have the same article.
    SeveralProducts,
    /// The product itself has a number too.
    ProductItself,
    /// The setting does not add variants up.
    NotAdded,
    /// The known variants have no stock, and others may have some.
    OnlyZeros,
}

/// Returns the entry of a SKU that variants share; `None` for other SKUs.
pub(super) fn shared_sku(conn: &Connection, sku: &str) -> Result<Option<SharedSku>, StorageError> {
    let sql = "SELECT product, products, variants, is_alone FROM shared WHERE said = ?1";
    let mut query = conn.prepare_cached(sql)?;
    let shared = query.query_row(params![sku], |row| {
        Ok(SharedSku {
            product: row.get(0)?,
            products: row.get::<_, i64>(1)?.cast_unsigned(),
            variants: row.get::<_, i64>(2)?.cast_unsigned(),
            is_alone: row.get(3)?,
        })
    });
    Ok(shared.optional()?)
}

impl SharedSku {
    /// Removes rows of the SKU that others replace, and returns the reason if its number is unclear.
    /// `has_stored_variants` returns true if numbers of its variants are stored.
    pub(super) fn settle(
        &self,
        rows: &mut Vec<MergedRow>,
        options: ResolveOptions,
        has_stored_variants: impl FnOnce() -> Result<bool, StorageError>,
    ) -> Result<Option<UnclearVariants>, StorageError> {
        // A later part of the delivery replaces an earlier one. A zero of the product itself adds
        // nothing to the numbers of its variants.
        if self.variants == 1 {
            let of_product = latest_part(rows, false);
            let of_variants = latest_part(rows, true);
            if let (Some(product), Some(variants)) = (of_product, of_variants) {
                rows.retain(|row| {
                    product == variants || (product > variants) == row.variant.is_empty()
                });
            }
        } else if latest_part(rows, true).is_some() {
            rows.retain(|row| !(row.variant.is_empty() && row.quantity == Some(0)));
        }
        let has_product = latest_part(rows, false).is_some();
        let has_variants = latest_part(rows, true).is_some();
        let is_alone = self.variants == 1 && self.is_alone;
        if !has_variants && !has_product {
            return Ok(None);
        }
        if self.products > 1 {
            return Ok(Some(UnclearVariants::SeveralProducts));
        }
        if has_product && (has_variants || self.variants > 1) {
            return Ok(Some(UnclearVariants::ProductItself));
        }
        if !has_variants || is_alone {
            return Ok(None);
        }
        match (options.variants, options.listing) {
            (VariantPolicy::Reject, _) => Ok(Some(UnclearVariants::NotAdded)),
            (VariantPolicy::Sum, VariantListing::Changes) => {
                let is_in_stock = |row: &MergedRow| {
                    !row.variant.is_empty() && row.quantity.is_some_and(|quantity| quantity > 0)
                };
                let is_known = rows.iter().any(is_in_stock) || has_stored_variants()?;
                Ok((!is_known).then_some(UnclearVariants::OnlyZeros))
            }
            (VariantPolicy::Sum, VariantListing::Partial | VariantListing::Complete) => Ok(None),
        }
    }

    /// Returns the reason for the list of suspicious rows.
    pub(super) fn reason(
        &self,
        conn: &Connection,
        sku: &str,
        unclear: UnclearVariants,
    ) -> Result<String, StorageError> {
        let cure = "set sku = \"Ид\" and name the SKU of each variant in mapping_file, or give each \
                    variant an article of its own";
        let ids = variant_ids(conn, sku)?;
        let Self {
            product,
            products,
            variants,
            ..
        } = self;
        let others = if *variants > 10 { " and others" } else { "" };
        let of = if *products > 1 {
            format!("{variants} variants of {products} products, {ids}{others}")
        } else if *variants > 1 {
            format!("{variants} variants of the product {product}, {ids}{others}")
        } else {
            format!("the product {product}, whose variant {ids}{others} is known")
        };
        let why = match unclear {
            UnclearVariants::SeveralProducts => {
                format!(": it is not known which of them it means; {cure}")
            }
            UnclearVariants::NotAdded => {
                let which = if *variants > 1 {
                    "it is not known which of them it means"
                } else {
                    "it may have other variants"
                };
                format!(
                    ": {which}; {cure}, or set variants = \"sum\" if the stock of the SKU is the \
                     sum over its variants"
                )
            }
            UnclearVariants::OnlyZeros => {
                ": the variants received so far have no stock, and others may have some; export \
                 all variants once"
                    .to_owned()
            }
            UnclearVariants::ProductItself => format!(
                ", and the product itself has a number too: it is not known whether that includes \
                 its variants; {cure}"
            ),
        };
        Ok(format!("{sku} is the article of {of}{why}"))
    }
}

/// Returns the latest part that has a number of a variant, or of the product itself.
fn latest_part(rows: &[MergedRow], is_variant: bool) -> Option<u32> {
    let numbered = rows.iter().filter(|row| row.quantity.is_some());
    let of_kind = numbered.filter(|row| row.variant.is_empty() != is_variant);
    of_kind.map(|row| row.part).max()
}

fn variant_ids(conn: &Connection, sku: &str) -> Result<String, StorageError> {
    let sql = "SELECT group_concat(id, ', ') FROM (SELECT id FROM variant WHERE said = ?1 \
               AND is_shared ORDER BY id LIMIT 10)";
    let ids: Option<String> = conn.query_row(sql, params![sku], |row| row.get(0))?;
    Ok(ids.unwrap_or_default())
}

/// Stores the articles and the variants of a delivery that is attached as `delivery`.
pub(super) fn write_articles_and_variants(
    conn: &Connection,
    source: SourceId,
) -> Result<(), StorageError> {
    conn.execute(
        "INSERT INTO main.article (source, id, said) SELECT ?1, id, said FROM delivery.article \
         WHERE true ON CONFLICT (source, id) DO UPDATE SET said = excluded.said \
         WHERE said IS NOT excluded.said",
        params![source.0],
    )?;
    conn.execute(
        "INSERT INTO main.variant (source, product, id, is_alone) \
         SELECT ?1, product, id, is_alone FROM delivery.variant WHERE true \
         ON CONFLICT (source, product, id) DO UPDATE SET is_alone = excluded.is_alone \
         WHERE is_alone < excluded.is_alone",
        params![source.0],
    )?;
    Ok(())
}

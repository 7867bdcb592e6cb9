//! Reference model: computes the stock of the sources in memory, independently of the service.
//!
//! It shares the readers and the arithmetic of the rules with the service, but not the code that
//! stages, stores, merges and applies statements. The simulator's copy must equal its result.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use market_sim::catalogue::CatalogueProduct;
use stock::{Sku, Timestamp};
use stock_import::stock_rules::{RuleTrace, ShopRules, SourceQuantity, SourceRules, evaluate};
use stock_import::{DeliveryEntry, ProductKey, Quantity, Row, VariantPolicy};
use tokio::sync::mpsc;

use super::inputs::RehearsalInputs;
use crate::sources::{
    AbsentPolicy, Config, DuplicatePolicy, EntrySender, SourceKind, SourcePolicy, SourceWarehouses,
    read_once,
};

/// Maximum time by which a row may be ahead of the clock. Later rows are ignored.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// Statements of all sources, with the rules that turn them into stock.
pub(super) struct ReferenceModel {
    // By SKU, in the order of the sources.
    statements: BTreeMap<String, Vec<ModelStatement>>,
    policies: Vec<SourcePolicy>,
    rules: ShopRules,
    rows: usize,
}

/// Statement of one source about a SKU in one warehouse.
struct ModelStatement {
    source: usize,
    source_sku: String,
    warehouse: String,
    quantity: Quantity,
    reserve: Option<Quantity>,
    pack: u32,
    stated_at: Option<Timestamp>,
}

impl ReferenceModel {
    /// Reads every source completely. `spool` is a directory for temporary files.
    pub(super) async fn read(inputs: &RehearsalInputs, spool: &Path) -> anyhow::Result<Self> {
        let mut statements: BTreeMap<String, Vec<ModelStatement>> = BTreeMap::new();
        let mut rows = 0;
        for (source, config) in inputs.sources.iter().enumerate() {
            let source_rows = read_source(config, inputs, spool).await?;
            rows += source_rows.len();
            let mut mapping: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
            for (source_sku, sku, pack) in &config.policy.mapping {
                mapping.entry(source_sku).or_default().push((sku, *pack));
            }
            for ((source_sku, warehouse), row) in source_rows {
                let Some(quantity) = row.quantity.filter(|_| !row.is_conflicting) else {
                    continue;
                };
                let unmapped = [(source_sku.as_str(), 1)];
                let targets = mapping
                    .get(source_sku.as_str())
                    .map_or(&unmapped[..], Vec::as_slice);
                for (sku, pack) in targets {
                    statements
                        .entry((*sku).to_owned())
                        .or_default()
                        .push(ModelStatement {
                            source,
                            source_sku: source_sku.clone(),
                            warehouse: warehouse.clone(),
                            quantity,
                            reserve: row.reserve,
                            pack: *pack,
                            stated_at: row.stated_at,
                        });
                }
            }
        }
        let policies = inputs
            .sources
            .iter()
            .map(|source| source.policy.clone())
            .collect();
        Ok(Self {
            statements,
            policies,
            rules: inputs.rules.clone(),
            rows,
        })
    }

    /// Returns the approximate number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns every SKU with a known count, including 0.
    pub(super) fn skus(&self) -> impl Iterator<Item = String> {
        let epoch = vec![Timestamp::from(chrono::DateTime::UNIX_EPOCH); self.policies.len()];
        self.stock(&epoch).into_iter().map(|product| product.sku)
    }

    /// Computes the shop's stock. `dates` has the time of each source's statement, for rows without
    /// one.
    pub(super) fn stock(&self, dates: &[Timestamp]) -> Vec<CatalogueProduct> {
        let rules: Vec<SourceRules> = self.policies.iter().map(|taking| taking.rules).collect();
        let product = |(sku, statements): (&String, &Vec<ModelStatement>)| {
            let sku = Sku::parse(sku).ok()?;
            let parts = self.source_quantities(statements, dates);
            let result = evaluate(
                &sku,
                &parts,
                &rules,
                &self.rules,
                &mut RuleTrace::disabled(),
            )?;
            Some(CatalogueProduct {
                sku: sku.as_str().to_owned(),
                count: result.count.get(),
            })
        };
        self.statements.iter().filter_map(product).collect()
    }

    /// Returns the statements of a SKU from the warehouses that count for this shop.
    fn source_quantities(
        &self,
        statements: &[ModelStatement],
        dates: &[Timestamp],
    ) -> Vec<SourceQuantity> {
        let mut parts = Vec::new();
        for (source, policy) in self.policies.iter().enumerate() {
            let own_statements: Vec<&ModelStatement> =
                statements.iter().filter(|it| it.source == source).collect();
            let chosen = own_statements
                .iter()
                .filter(|it| is_chosen_warehouse(&policy.warehouses, &it.warehouse));
            let to_quantity = |it: &ModelStatement| SourceQuantity {
                source,
                source_sku: Some(it.source_sku.clone()),
                warehouse: it.warehouse.clone(),
                quantity: it.quantity,
                reserve: it.reserve,
                pack_size: it.pack,
                stated_at: it.stated_at.unwrap_or(dates[source]),
            };
            // A SKU that is only in other warehouses stays unknown here. It is not zero.
            parts.extend(chosen.map(|it| to_quantity(it)));
        }
        parts
    }
}

fn is_chosen_warehouse(warehouses: &SourceWarehouses, warehouse: &str) -> bool {
    match warehouses {
        SourceWarehouses::Unset | SourceWarehouses::All => true,
        SourceWarehouses::Named(names) => names
            .iter()
            .any(|name| name.to_lowercase() == warehouse.to_lowercase()),
    }
}

/// Merged rows of one product in one warehouse.
struct ModelRow {
    part: u32,
    quantity: Option<Quantity>,
    reserve: Option<Quantity>,
    stated_at: Option<Timestamp>,
    // Two rows of equal rank state different counts.
    is_conflicting: bool,
}

/// Rows of one source, by its own spelling of the SKU and the warehouse.
type ModelRows = HashMap<(String, String), ModelRow>;

async fn read_source(
    config: &Config,
    inputs: &RehearsalInputs,
    spool: &Path,
) -> anyhow::Result<ModelRows> {
    let name = &config.policy.name;
    let (mut rows, entries) = EntrySender::channel();
    let outbound = inputs.outbound();
    let reading = async {
        let read = read_once(config, &outbound, spool, Clock::wall().now(), &mut rows).await;
        drop(rows);
        read
    };
    let (read, (model_rows, parts)) = tokio::join!(reading, collect_rows(entries, config));
    read.map_err(|reason| anyhow!(reason))
        .with_context(|| format!("the source {name}"))?;
    // Each file is a delivery of its own, and SKUs that the last one lacks become zero. The order
    // of the files depends on more than their rows, so the model cannot compute it.
    if matches!(&config.kind, SourceKind::Files(files) if !files.is_one_delivery)
        && config.policy.absent == AbsentPolicy::Zero
        && parts > 1
    {
        bail!(
            "the source {name} has several separate files and absent = \"zero\", which a rehearsal \
             cannot compare: give only the last file with --from FILE"
        );
    }
    Ok(model_rows)
}

/// Collects the rows of one source, and returns them with the number of parts after the first.
async fn collect_rows(
    mut entries: mpsc::Receiver<Vec<DeliveryEntry>>,
    config: &Config,
) -> (ModelRows, u32) {
    let duplicates = config.policy.duplicates;
    let now = Clock::wall().now();
    let mut collector = RowCollector {
        duplicates,
        ..RowCollector::default()
    };
    while let Some(entries) = entries.recv().await {
        entries
            .into_iter()
            .for_each(|entry| collector.record(entry, now));
    }
    let RowCollector {
        rows: mut rows_by_sku,
        by_id,
        articles,
        part,
        rejected_skus: faulty,
        ..
    } = collector;
    let shared_variants = SharedSkuVariants::find(by_id.iter().map(|(id, ..)| id), &articles);
    // Variants that share a SKU are kept apart until `variants` decides about them.
    let mut variants: HashMap<String, ModelRows> = HashMap::new();
    for (id, warehouse, row) in by_id {
        let Some(source_sku) = sku_of_id(&id, &articles) else {
            continue;
        };
        let target_rows = if shared_variants.0.contains(&id) {
            variants.entry(source_sku.to_owned()).or_default()
        } else {
            &mut rows_by_sku
        };
        let name = if shared_variants.0.contains(&id) {
            id.clone()
        } else {
            source_sku.to_owned()
        };
        merge_row(target_rows, (name, warehouse), row, duplicates);
    }
    for (source_sku, of_variants) in variants {
        let own_rows = rows_by_sku
            .extract_if(|(known, _), _| *known == source_sku)
            .count();
        // Variants are added only with `variants = "sum"`, and not if the product has its own row.
        if config.read_settings.variants == VariantPolicy::Sum && own_rows == 0 {
            for ((_, warehouse), row) in of_variants {
                add_variant(&mut rows_by_sku, (source_sku.clone(), warehouse), row);
            }
        }
    }
    // If one row of a SKU was rejected, the other rows may be only a part of its stock.
    let warehouses: BTreeSet<&String> =
        rows_by_sku.keys().map(|(_, warehouse)| warehouse).collect();
    if duplicates == DuplicatePolicy::Sum || warehouses.len() <= 1 {
        for ((source_sku, _), row) in &mut rows_by_sku {
            row.is_conflicting |= faulty.get(source_sku).is_some_and(|part| *part >= row.part);
        }
    }
    (rows_by_sku, part)
}

/// Returns the SKU of an id: its own, or else its product's.
fn sku_of_id<'a>(id: &str, articles: &'a HashMap<String, String>) -> Option<&'a str> {
    let product = id.split_once('#').map_or(id, |(product, _)| product);
    articles
        .get(id)
        .or_else(|| articles.get(product))
        .map(String::as_str)
}

/// Variants that share their SKU with their product or with another variant.
struct SharedSkuVariants(HashSet<String>);

impl SharedSkuVariants {
    fn find<'a>(
        ids: impl Iterator<Item = &'a String>,
        articles: &'a HashMap<String, String>,
    ) -> Self {
        let variants: HashSet<&String> = ids
            .chain(articles.keys())
            .filter(|id| id.contains('#'))
            .collect();
        let mut owners: HashMap<&str, HashSet<&str>> = HashMap::new();
        for id in &variants {
            let product = id
                .split_once('#')
                .map_or(id.as_str(), |(product, _)| product);
            if let Some(sku) = sku_of_id(id, articles) {
                owners.entry(sku).or_default().insert(id);
            }
            if let Some(sku) = articles.get(product) {
                owners.entry(sku).or_default().insert(product);
            }
        }
        let shares = |id: &&String| {
            sku_of_id(id, articles).is_some_and(|sku| owners.get(sku).is_some_and(|o| o.len() > 1))
        };
        Self(variants.into_iter().filter(shares).cloned().collect())
    }
}

/// Adds the quantities of a variant to those of its SKU.
fn add_variant(rows: &mut ModelRows, key: (String, String), new: ModelRow) {
    let Some(old) = rows.get_mut(&key) else {
        rows.insert(key, new);
        return;
    };
    let sum = |one: Option<Quantity>, other: Option<Quantity>| match (one, other) {
        (Some(one), Some(other)) => {
            Quantity::from_thousandths(one.thousandths() + other.thousandths())
        }
        (one, other) => one.or(other),
    };
    old.quantity = sum(old.quantity, new.quantity);
    old.reserve = sum(old.reserve, new.reserve);
    old.stated_at = old.stated_at.max(new.stated_at);
    old.is_conflicting |= new.is_conflicting;
}

/// Rows read so far.
#[derive(Default)]
struct RowCollector {
    rows: ModelRows,
    // Id, warehouse and row. The SKUs of the ids are known only at the end.
    by_id: Vec<(String, String, ModelRow)>,
    articles: HashMap<String, String>,
    // SKUs with a rejected or suspicious row, and the last part that has one.
    rejected_skus: HashMap<String, u32>,
    duplicates: DuplicatePolicy,
    part: u32,
}

impl RowCollector {
    fn record(&mut self, entry: DeliveryEntry, now: DateTime<Utc>) {
        match entry {
            DeliveryEntry::PartBoundary => self.part += 1,
            DeliveryEntry::Article { id, sku } => {
                if let Ok(sku) = Sku::parse(&sku) {
                    self.articles.insert(id, sku.as_str().to_owned());
                }
            }
            DeliveryEntry::Row(row) => self.record_row(row, now),
            // Neither kind of row changes the stock.
            DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) => {
                if let Some(Ok(sku)) = fault.sku.as_deref().map(Sku::parse) {
                    self.rejected_skus
                        .insert(sku.as_str().to_owned(), self.part);
                }
            }
        }
    }

    fn record_row(&mut self, row: Row, now: DateTime<Utc>) {
        let Row {
            key,
            warehouse: place,
            quantity,
            reserve,
            stated_at: at,
            ..
        } = row;
        if at.is_some_and(|at| at > Timestamp::from(now + MAX_AHEAD)) {
            return;
        }
        let at = at.map(|at| at.min(Timestamp::from(now)));
        let warehouse = place
            .as_deref()
            .map(str::trim)
            .unwrap_or_default()
            .to_owned();
        let model_row = ModelRow {
            part: self.part,
            quantity,
            reserve,
            stated_at: at,
            is_conflicting: false,
        };
        match key {
            ProductKey::Id(id) => self.by_id.push((id, warehouse, model_row)),
            ProductKey::Sku(text) => {
                if let Ok(sku) = Sku::parse(&text) {
                    let key = (sku.as_str().to_owned(), warehouse);
                    merge_row(&mut self.rows, key, model_row, self.duplicates);
                }
            }
        }
    }
}

/// Merges a row. The later part wins, then the later date; otherwise `duplicates` decides.
fn merge_row(
    rows: &mut ModelRows,
    key: (String, String),
    new: ModelRow,
    duplicates: DuplicatePolicy,
) {
    let Some(old) = rows.get_mut(&key) else {
        rows.insert(key, new);
        return;
    };
    let dates = new.stated_at.zip(old.stated_at);
    let is_later = new.part > old.part || dates.is_some_and(|(new, old)| new > old);
    let is_earlier = new.part < old.part || dates.is_some_and(|(new, old)| new < old);
    if is_later {
        *old = new;
        return;
    }
    if is_earlier {
        return;
    }
    match (duplicates, old.quantity, new.quantity) {
        (DuplicatePolicy::Reject | DuplicatePolicy::Sum, None, None) => {}
        (DuplicatePolicy::Same, one, other) => {
            old.is_conflicting |= one != other || new.reserve != old.reserve;
        }
        (DuplicatePolicy::Sum, Some(one), Some(other)) => {
            let sum = Quantity::from_thousandths(one.thousandths() + other.thousandths());
            old.is_conflicting |= sum.is_none();
            old.quantity = sum.or(Some(one));
            old.reserve = match (old.reserve, new.reserve) {
                (Some(one), Some(other)) => {
                    Quantity::from_thousandths(one.thousandths() + other.thousandths())
                }
                (one, other) => one.or(other),
            };
        }
        (DuplicatePolicy::Reject | DuplicatePolicy::Sum, _, _) => old.is_conflicting = true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: u32, pieces: i64, seconds: Option<i64>) -> ModelRow {
        let at = seconds.and_then(|seconds| Timestamp::from_micros(seconds * 1_000_000));
        ModelRow {
            part,
            quantity: Quantity::from_pieces(pieces),
            reserve: None,
            stated_at: at,
            is_conflicting: false,
        }
    }

    /// Merges rows of one product, and returns the pieces; `None` for a conflict.
    fn resolved(rows: impl IntoIterator<Item = ModelRow>) -> Option<i64> {
        resolved_with(DuplicatePolicy::Same, rows)
    }

    fn resolved_with(
        duplicates: DuplicatePolicy,
        rows: impl IntoIterator<Item = ModelRow>,
    ) -> Option<i64> {
        let mut merged = ModelRows::new();
        let key = || ("A".to_owned(), String::new());
        rows.into_iter()
            .for_each(|row| merge_row(&mut merged, key(), row, duplicates));
        merged[&key()]
            .quantity
            .filter(|_| !merged[&key()].is_conflicting)
            .map(Quantity::pieces)
    }

    #[test]
    fn later_part_or_date_resolves_a_conflict() {
        assert_eq!(resolved([row(0, 1, None), row(0, 1, None)]), Some(1));
        assert_eq!(resolved([row(0, 1, None), row(0, 2, None)]), None);
        assert_eq!(
            resolved([row(0, 1, None), row(0, 2, None), row(0, 1, None)]),
            None
        );
        assert_eq!(
            resolved([row(0, 1, None), row(0, 2, None), row(1, 3, None)]),
            Some(3)
        );
        assert_eq!(
            resolved([row(0, 1, Some(20)), row(0, 2, Some(10))]),
            Some(1)
        );
        assert_eq!(
            resolved([row(0, 1, Some(10)), row(0, 2, Some(20))]),
            Some(2)
        );
        assert_eq!(resolved([row(0, 1, Some(10)), row(0, 2, Some(10))]), None);
    }

    #[test]
    fn duplicates_setting_decides() {
        let twice = || [row(0, 5, None), row(0, 5, None)];
        assert_eq!(resolved_with(DuplicatePolicy::Reject, twice()), None);
        assert_eq!(resolved_with(DuplicatePolicy::Same, twice()), Some(5));
        assert_eq!(resolved_with(DuplicatePolicy::Sum, twice()), Some(10));
        assert_eq!(
            resolved_with(
                DuplicatePolicy::Sum,
                [row(0, 5, Some(1)), row(0, 3, Some(2))]
            ),
            Some(3)
        );
    }
}

//! Property test of the pipeline against a reference model.
//!
//! The model computes the stock of several sources in memory. It shares the arithmetic of the rules
//! with the pipeline, but not the code that stages, stores, merges and applies statements. Variants of
//! a product are outside it: their rules depend on earlier deliveries.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use stock::Sku;
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::{Combine, RuleTrace, SourceQuantity, SourceRules, evaluate};
use stock_import::{DeliveryEntry, ProductKey, Quantity, RejectedRow, Row};

use super::tests::{PipelineHarness, row_at_warehouse, test_policy};
use super::*;

/// Statements of all sources, with the rules that turn them into stock.
struct ReferenceModel {
    // By SKU, in the order of the sources.
    statements: BTreeMap<String, Vec<ModelStatement>>,
    policies: Vec<SourcePolicy>,
    rules: ShopRules,
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
    fn new(deliveries: Vec<(SourcePolicy, Vec<DeliveryEntry>)>, rules: ShopRules) -> Self {
        let mut statements: BTreeMap<String, Vec<ModelStatement>> = BTreeMap::new();
        let mut policies = Vec::new();
        for (source, (policy, entries)) in deliveries.into_iter().enumerate() {
            let mut mapping: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
            for (source_sku, sku, pack) in &policy.mapping {
                mapping.entry(source_sku).or_default().push((sku, *pack));
            }
            for ((source_sku, warehouse), row) in merge_rows(entries, &policy) {
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
            policies.push(policy);
        }
        Self {
            statements,
            policies,
            rules,
        }
    }

    /// Computes the shop's stock. `dates` has the time of each source's statement, for rows without
    /// one.
    fn stock(&self, dates: &[Timestamp]) -> BTreeMap<String, u32> {
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
            Some((sku.to_string(), result.count.get()))
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

/// Merges the rows of one delivery.
fn merge_rows(entries: Vec<DeliveryEntry>, policy: &SourcePolicy) -> ModelRows {
    let duplicates = policy.duplicates;
    let mut collector = RowCollector {
        duplicates,
        ..RowCollector::default()
    };
    entries
        .into_iter()
        .for_each(|entry| collector.record(entry));
    let RowCollector {
        rows: mut rows_by_sku,
        by_id,
        articles,
        rejected_skus: faulty,
        ..
    } = collector;
    for (id, warehouse, row) in by_id {
        if let Some(source_sku) = articles.get(&id) {
            merge_row(
                &mut rows_by_sku,
                (source_sku.clone(), warehouse),
                row,
                duplicates,
            );
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
    rows_by_sku
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
    fn record(&mut self, entry: DeliveryEntry) {
        match entry {
            DeliveryEntry::PartBoundary => self.part += 1,
            DeliveryEntry::Article { id, sku } => {
                if let Ok(sku) = Sku::parse(&sku) {
                    self.articles.insert(id, sku.as_str().to_owned());
                }
            }
            DeliveryEntry::Row(row) => self.record_row(row),
            // Neither kind of row changes the stock.
            DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) => {
                if let Some(Ok(sku)) = fault.sku.as_deref().map(Sku::parse) {
                    self.rejected_skus
                        .insert(sku.as_str().to_owned(), self.part);
                }
            }
        }
    }

    fn record_row(&mut self, row: Row) {
        let Row {
            key,
            warehouse: place,
            quantity,
            reserve,
            stated_at: at,
            ..
        } = row;
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
    let rank = |row: &ModelRow| (row.part, row.stated_at);
    match rank(&new).cmp(&rank(old)) {
        Ordering::Greater => *old = new,
        Ordering::Less => {}
        Ordering::Equal => merge_equal_rank(old, &new, duplicates),
    }
}

/// Merges two rows of which neither replaces the other.
fn merge_equal_rank(old: &mut ModelRow, new: &ModelRow, duplicates: DuplicatePolicy) {
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

// === The property ===

/// Small ranges make duplicates, conflicts and shared SKUs likely. In one delivery all rows have a
/// date or none has one: a mixture has no order.
fn any_entry(is_dated: bool) -> impl Strategy<Value = DeliveryEntry> {
    let sku = || (0_u8..5).prop_map(|n| format!("S{n}"));
    let id = || "[pqr]";
    let key = prop_oneof![
        5 => sku().prop_map(ProductKey::Sku),
        2 => id().prop_map(ProductKey::Id),
    ];
    let warehouse = prop_oneof![Just(None), Just(Some("Msk")), Just(Some("Spb"))];
    let quantity = || (0_i64..9).prop_map(Quantity::from_pieces);
    let stated_at = (1_i64..4).prop_map(move |hour| {
        let date = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(hour);
        is_dated.then(|| Timestamp::from(date))
    });
    let row = (
        key,
        warehouse,
        quantity(),
        proptest::option::of(quantity()),
        stated_at,
    );
    let row = row.prop_map(|(key, warehouse, quantity, reserve, stated_at)| {
        DeliveryEntry::Row(Row {
            line: 1,
            key,
            warehouse: warehouse.map(str::to_owned),
            quantity,
            reserve: reserve.flatten(),
            stated_at,
        })
    });
    let article = (id(), sku()).prop_map(|(id, sku)| DeliveryEntry::Article { id, sku });
    let rejected = sku().prop_map(|sku| {
        let mut row = RejectedRow::new(1, "", "a reason");
        row.sku = Some(sku);
        DeliveryEntry::Rejected(row)
    });
    prop_oneof![12 => row, 3 => article, 1 => rejected, 1 => Just(DeliveryEntry::PartBoundary)]
}

fn any_source(name: &'static str) -> impl Strategy<Value = (SourcePolicy, Vec<DeliveryEntry>)> {
    let warehouses = prop_oneof![
        Just(SourceWarehouses::All),
        Just(SourceWarehouses::Named(vec![
            "msk".to_owned(),
            String::new()
        ])),
    ];
    let duplicates = prop_oneof![
        Just(DuplicatePolicy::Reject),
        Just(DuplicatePolicy::Same),
        Just(DuplicatePolicy::Sum),
    ];
    let mapping = prop_oneof![
        Just(Vec::new()),
        Just(vec![
            ("S0".to_owned(), "S1".to_owned(), 2),
            ("S0".to_owned(), "S9".to_owned(), 1)
        ]),
    ];
    // One row in a warehouse of ours, because a delivery without any is refused.
    let entries = any::<bool>().prop_flat_map(|is_dated| {
        let ours = Just(row_at_warehouse("S7", Some("Msk"), 1));
        (ours, proptest::collection::vec(any_entry(is_dated), 0..14))
    });
    let entries = entries.prop_map(|(ours, entries)| [vec![ours], entries].concat());
    let source = (warehouses, duplicates, mapping, entries);
    source.prop_map(move |(warehouses, duplicates, mapping, entries)| {
        let policy = SourcePolicy {
            warehouses,
            duplicates,
            mapping,
            limits: GuardLimits {
                min_rows_ratio: 0.0,
                max_zeroed_ratio: 1.0,
                max_rejected_ratio: 1.0,
                accept_after_repeats: None,
            },
            ..test_policy(name)
        };
        (policy, entries)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn stock_equals_a_reference_model(
        first in any_source("erp"),
        second in any_source("sheet"),
        combine in prop_oneof![Just(Combine::Sum), Just(Combine::Minimum), Just(Combine::First)],
        sort_buffer in prop_oneof![Just(1_usize), Just(150), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rules = ShopRules { combine, ..ShopRules::default() };
        let deliveries = vec![first, second];
        let (stock, dates) = runtime.block_on(deliver_all(&deliveries, &rules, sort_buffer));
        prop_assert_eq!(stock, ReferenceModel::new(deliveries, rules).stock(&dates));
    }
}

/// Delivers to the pipeline, and returns the stock and the time of each source's statement.
async fn deliver_all(
    deliveries: &[(SourcePolicy, Vec<DeliveryEntry>)],
    rules: &ShopRules,
    sort_buffer: usize,
) -> (BTreeMap<String, u32>, Vec<Timestamp>) {
    let policies = deliveries
        .iter()
        .map(|(policy, _)| policy.clone())
        .collect();
    let harness = PipelineHarness::new(policies, rules.clone()).await;
    harness.set_sort_buffer(sort_buffer);
    let mut dates = Vec::new();
    for (source, (_, entries)) in deliveries.iter().enumerate() {
        dates.push(harness.deliver(source, entries.clone()).await.stated_at);
    }
    (harness.stock(), dates)
}

//! Evaluation of the rules over stored statements.
//!
//! Decides which statements about a SKU count: by source, by warehouse and by absence. The
//! arithmetic is in [`stock_rules`].

use std::collections::HashMap;

use stock::{Level, Sku, Timestamp};
use stock_import::Quantity;
use stock_import::stock_rules::{
    self, Combine, EvaluatedStock, RuleTrace, ShopRules, SourceQuantity, SourceRules,
};

use super::source_policy::AbsentPolicy;
use super::stock_step::{StatementStep, StockStep};
use super::{PipelineSettings, PipelineSource};
use crate::ingest::Origin;
use crate::sources::statements::{SkuGroup, SourceId, StatementRow};

/// Inputs of the rules, apart from the statements.
pub(super) struct RuleContext<'a> {
    pub(super) sources: &'a [PipelineSource],
    /// Date of each source's last snapshot.
    pub(super) last_snapshots: HashMap<SourceId, Option<Timestamp>>,
    pub(super) rules: Vec<SourceRules>,
    pub(super) shop_rules: &'a ShopRules,
    /// True if all stock is evaluated again, because the rules may have changed.
    pub(super) is_full_recalculation: bool,
    /// Source of the delivery that is evaluated, if all statements before it are in the book.
    pub(super) delivered: Option<SourceId>,
    /// Date of that delivery, if the source had none with this date before.
    pub(super) new_date: Option<Timestamp>,
    /// Source and date of the snapshot whose absent SKUs are marked.
    pub(super) marked_absence: Option<(SourceId, Timestamp)>,
}

impl<'a> RuleContext<'a> {
    /// Creates the inputs. `last_snapshots` has the date of each source's last snapshot.
    pub(super) fn new(
        settings: &'a PipelineSettings,
        last_snapshots: impl IntoIterator<Item = (SourceId, Option<Timestamp>)>,
    ) -> Self {
        let policies = settings.sources.iter().map(|source| &source.policy);
        Self {
            sources: &settings.sources,
            last_snapshots: last_snapshots.into_iter().collect(),
            rules: policies.map(|policy| policy.rules).collect(),
            shop_rules: &settings.rules,
            is_full_recalculation: false,
            delivered: None,
            new_date: None,
            marked_absence: None,
        }
    }

    fn source_index(&self, source: SourceId) -> Option<usize> {
        self.sources
            .iter()
            .position(|candidate| candidate.id == source)
    }

    /// Returns the date of a row: its own, or that of its source's last snapshot.
    fn effective_at(&self, row: &StatementRow) -> Option<Timestamp> {
        let row_date = row.statement.stated_at.and_then(Timestamp::from_micros);
        row_date.or_else(|| self.last_snapshots.get(&row.source).copied().flatten())
    }

    /// Returns the quantities that count, in the order of the sources.
    ///
    /// A product known only from other warehouses is ignored: its absence from ours proves nothing.
    /// While a product is present in one of our warehouses, its rows that are absent in others do
    /// not count.
    pub(super) fn quantities(&self, rows: &[StatementRow]) -> Vec<SourceQuantity> {
        let mut quantities: Vec<SourceQuantity> = Vec::with_capacity(rows.len());
        for (source, configured) in self.sources.iter().enumerate() {
            // An import by hand replaces the current number. It is not one of the sources that
            // make up a combined number.
            let is_ignored_import = configured.policy.origin == Origin::Import
                && self.shop_rules.combine != Combine::Latest;
            let is_included = |row: &&StatementRow| {
                row.source == configured.id
                    && !is_ignored_import
                    && configured
                        .policy
                        .warehouses
                        .includes(&row.statement.warehouse)
            };
            let is_present = rows
                .iter()
                .filter(is_included)
                .any(|row| row.statement.absent_at.is_none());
            let counted = rows.iter().filter(is_included);
            let counted = counted.filter(|row| row.statement.absent_at.is_none() || !is_present);
            for row in counted {
                let Some(quantity) = self.quantity_of(source, row) else {
                    continue;
                };
                // The variants at one warehouse are adjacent rows, and are added up.
                match quantities.last_mut() {
                    Some(last)
                        if !row.statement.variant.is_empty()
                            && is_same_product_and_warehouse(last, &quantity) =>
                    {
                        add_variant(last, &quantity);
                    }
                    Some(_) | None => quantities.push(quantity),
                }
            }
        }
        quantities
    }

    fn quantity_of(&self, source: usize, row: &StatementRow) -> Option<SourceQuantity> {
        let absent = self.sources[source].policy.absent;
        let statement = &row.statement;
        let absent_at = statement.absent_at.filter(|_| absent == AbsentPolicy::Zero);
        let (quantity, reserve, at) = match absent_at {
            Some(at) => (0, None, Timestamp::from_micros(at)?),
            None => (
                statement.quantity,
                statement.reserve,
                self.effective_at(row)?,
            ),
        };
        Some(SourceQuantity {
            source,
            source_sku: row.source_sku.clone(),
            warehouse: statement.warehouse.clone(),
            quantity: Quantity::from_thousandths(quantity).unwrap_or_default(),
            reserve: reserve.and_then(Quantity::from_thousandths),
            pack_size: row.pack_size,
            stated_at: at,
        })
    }

    /// Returns the stock of a SKU; `None` if no statement about it counts.
    pub(super) fn evaluate_group(&self, group: &SkuGroup) -> Option<EvaluatedSku> {
        let sku = Sku::parse(&group.sku).ok()?;
        let quantities = self.quantities(&group.rows);
        let mut result = stock_rules::evaluate(
            &sku,
            &quantities,
            &self.rules,
            self.shop_rules,
            &mut RuleTrace::disabled(),
        )?;
        let is_applied = self.is_applied(group, &result);
        if is_applied {
            // A later statement of a source that does not count must not date the result.
            result.stated_at = result.source_stated_at;
        }
        let absent_at =
            |row: &StatementRow| row.statement.absent_at.and_then(Timestamp::from_micros);
        let rows = group.rows.iter().filter(|_| self.is_full_recalculation);
        let replaceable_dates = rows
            .flat_map(|row| [self.effective_at(row), absent_at(row)])
            .flatten()
            .collect();
        Some(EvaluatedSku {
            sku,
            result,
            is_applied,
            replaceable_dates,
            is_absent: self.is_absent(&group.rows),
        })
    }

    /// Returns true if the result was applied before the delivery, with its date: the delivery
    /// repeats its statements, or those of an earlier source count before them.
    fn is_applied(&self, group: &SkuGroup, result: &EvaluatedStock) -> bool {
        self.delivered.is_some_and(|delivered| {
            let is_outranked = self.shop_rules.combine == Combine::First
                && self.source_index(delivered) > Some(result.source);
            let has_new_date = self.new_date == Some(result.source_stated_at);
            (group.is_repeated || is_outranked) && !has_new_date
        })
    }

    /// Returns true if the marked snapshot lacks the SKU: all that its source has stated about it is
    /// absent, some of it since that snapshot.
    fn is_absent(&self, rows: &[StatementRow]) -> bool {
        let Some((source, at)) = self.marked_absence else {
            return false;
        };
        let policy = self
            .source_index(source)
            .map(|index| &self.sources[index].policy);
        let Some(policy) = policy.filter(|policy| policy.absent == AbsentPolicy::Zero) else {
            return false;
        };
        let own = rows.iter().filter(|row| {
            row.source == source && policy.warehouses.includes(&row.statement.warehouse)
        });
        let mut absent_since = own.map(|row| row.statement.absent_at);
        absent_since.clone().all(|since| since.is_some())
            && absent_since.any(|since| since == Some(at.as_micros()))
    }

    /// Returns a statement about a SKU as a step of an explanation.
    pub(super) fn describe(&self, sku: &Sku, row: &StatementRow) -> StockStep {
        let Some(source) = self.source_index(row.source) else {
            return StockStep::RemovedSource;
        };
        let policy = &self.sources[source].policy;
        let statement = &row.statement;
        let spelled = row.source_sku.as_deref().unwrap_or(sku.as_str());
        StockStep::Statement(StatementStep {
            source: policy.name.clone(),
            source_sku: spelled.to_owned(),
            variant: statement.variant.clone(),
            warehouse: statement.warehouse.clone(),
            quantity: Quantity::from_thousandths(statement.quantity).unwrap_or_default(),
            stated_at: self.effective_at(row),
            is_absent: statement.absent_at.is_some(),
            is_other_warehouse: !policy.warehouses.includes(&statement.warehouse),
        })
    }
}

/// Stock of one SKU by its statements.
pub(super) struct EvaluatedSku {
    pub(super) sku: Sku,
    result: EvaluatedStock,
    /// True if the statements of the result were applied before.
    pub(super) is_applied: bool,
    // Dates of all statements about the SKU, if other rules were in force before.
    replaceable_dates: Vec<Timestamp>,
    /// True if the marked snapshot lacks the SKU.
    pub(super) is_absent: bool,
}

impl EvaluatedSku {
    /// Returns the stock to write over that in the book.
    ///
    /// Under the rules before, other statements may have counted, such as those of a source that is
    /// no longer configured. Then the book has the date of one of them, and the result replaces it
    /// although it may be older. A later date that is not of a statement is that of a program, whose
    /// count stays.
    pub(super) fn over(&self, in_book: Option<Level>) -> EvaluatedStock {
        let mut result = self.result;
        if let Some(known) = in_book
            && self.replaceable_dates.contains(&known.updated_at)
        {
            result.stated_at = result.stated_at.max(known.updated_at);
        }
        result
    }
}

/// Returns true if both quantities are of one source, one spelling of the SKU and one warehouse.
fn is_same_product_and_warehouse(one: &SourceQuantity, other: &SourceQuantity) -> bool {
    (one.source, &one.source_sku, &one.warehouse)
        == (other.source, &other.source_sku, &other.warehouse)
}

/// Adds the quantity of a variant to the total of its SKU.
fn add_variant(total: &mut SourceQuantity, variant: &SourceQuantity) {
    let sum = |one: Quantity, other: Quantity| {
        // If the sum is out of bounds, the larger quantity is used: no real stock is that large.
        Quantity::from_thousandths(one.thousandths() + other.thousandths())
            .unwrap_or(one.max(other))
    };
    total.quantity = sum(total.quantity, variant.quantity);
    total.reserve = match (total.reserve, variant.reserve) {
        (Some(one), Some(other)) => Some(sum(one, other)),
        (one, other) => one.or(other),
    };
    total.stated_at = total.stated_at.max(variant.stated_at);
}

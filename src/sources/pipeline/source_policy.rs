//! Policy of one source: its settings for absence, warehouses, duplicates, guard and rules.
//!
//! Decides which warehouses feed the shop, and rejects deliveries whose warehouses do not fit the
//! settings.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::SourceRules;
use stock_import::{DeliveryScope, VariantPolicy};

use crate::ingest::Origin;

/// Treatment of products that are missing in a snapshot. Setting `absent`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AbsentPolicy {
    /// Their stock stays as it was last stated.
    #[default]
    Keep,
    /// Their stock becomes zero.
    Zero,
}

/// Warehouses of a source that feed the shop. Setting `warehouses`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SourceWarehouses {
    /// Not set: the source may name at most one.
    #[default]
    Unset,
    /// All warehouses.
    All,
    /// These warehouses, as the source names them, without regard to case.
    Named(Vec<String>),
}

impl SourceWarehouses {
    pub(super) fn includes(&self, warehouse: &str) -> bool {
        match self {
            Self::Unset | Self::All => true,
            Self::Named(names) => names
                .iter()
                .any(|name| name.to_lowercase() == warehouse.to_lowercase()),
        }
    }

    /// Returns the reason to refuse a delivery that names these warehouses; `None` if it is fine.
    pub(super) fn refusal_reason(
        &self,
        delivered: &BTreeSet<String>,
        scope: DeliveryScope,
    ) -> Option<String> {
        let named: Vec<&str> = delivered
            .iter()
            .map(String::as_str)
            .filter(|p| !p.is_empty())
            .collect();
        let listed = || {
            let first: Vec<String> = named
                .iter()
                .take(20)
                .map(|name| format!("'{name}'"))
                .collect();
            first.join(", ")
        };
        match self {
            Self::Unset if named.len() > 1 => Some(format!(
                "it names {} warehouses, {}: list those that feed this shop in the setting \
                 warehouses, or set it to [\"*\"] for all",
                named.len(),
                listed()
            )),
            Self::Named(names) if scope == DeliveryScope::Snapshot && !delivered.is_empty() => {
                let is_any_included = delivered.iter().any(|warehouse| self.includes(warehouse));
                (!is_any_included).then(|| {
                    format!(
                        "none of its warehouses, {}, is in the setting warehouses, {names:?}: correct the \
                        setting",
                        listed()
                    )
                })
            }
            Self::Unset | Self::All | Self::Named(_) => None,
        }
    }
}

/// Policy for the deliveries of one source.
#[derive(Clone, Debug)]
pub struct SourcePolicy {
    /// Name of the source, unique within the shop.
    pub name: String,
    /// Origin of the data.
    pub origin: Origin,
    /// Completeness of its deliveries; `None` if the format decides.
    pub scope: Option<DeliveryScope>,
    /// Treatment of products that are missing in a snapshot.
    pub absent: AbsentPolicy,
    /// Warehouses that feed the shop.
    pub warehouses: SourceWarehouses,
    /// Limits of the guard.
    pub limits: GuardLimits,
    /// Rules for its quantities.
    pub rules: SourceRules,
    /// Mapping of its SKUs: (its SKU, our SKU, its units in one piece).
    pub mapping: Vec<(String, String, u32)>,
    /// Treatment of repeated SKUs.
    pub duplicates: DuplicatePolicy,
    /// Settings for reading, as they are written in the configuration. If they change, the shape
    /// of its files is expected to change.
    pub read_settings_text: String,
    /// Treatment of variants that share the article of their product.
    pub variants: VariantPolicy,
}

impl SourcePolicy {
    /// Returns the policy after a reload. What belongs to the reading of the source keeps its old
    /// value.
    #[must_use]
    pub(in crate::sources) fn replaced_by(&self, new: Self) -> Self {
        Self {
            origin: self.origin,
            scope: self.scope,
            warehouses: self.warehouses.clone(),
            variants: self.variants,
            duplicates: self.duplicates,
            read_settings_text: self.read_settings_text.clone(),
            ..new
        }
    }
}

/// Treatment of a SKU with several rows at one warehouse in a delivery, if neither dates nor parts
/// order the rows. Setting `duplicates`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicatePolicy {
    /// The rows are suspicious, equal or not: a row may be a size, a batch or a storage cell.
    #[default]
    Reject,
    /// Equal rows count once; unequal ones are suspicious.
    Same,
    /// The rows are added up.
    Sum,
}

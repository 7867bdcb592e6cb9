use std::collections::BTreeSet;

use crate::ingest::Origin;
use crate::sources::delivery_guard::GuardLimits;
use crate::sources::stock_rules::SourceRules;
use crate::sources::{DeliveryScope, VariantPolicy};

/// What it means that a snapshot has a product no more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AbsentPolicy {
    /// Nothing: its stock is as it was last stated.
    #[default]
    Keep,
    /// There is none left.
    Zero,
}

/// Which of a source's warehouses feed the shop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SourceWarehouses {
    /// Nobody has said, so there may be one at most.
    #[default]
    Unset,
    /// All of them.
    All,
    /// These, by the names the source gives them.
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

    /// What is wrong with a delivery that names these.
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
                "it names {} warehouses, {}: say in warehouses which of them feed this shop, or \
                 [\"*\"] for all",
                named.len(),
                listed()
            )),
            Self::Named(names) if scope == DeliveryScope::Snapshot && !delivered.is_empty() => {
                let is_any_included = delivered.iter().any(|warehouse| self.includes(warehouse));
                (!is_any_included).then(|| {
                    format!(
                        "none of its warehouses, {}, is one of warehouses, {names:?}",
                        listed()
                    )
                })
            }
            Self::Unset | Self::All | Self::Named(_) => None,
        }
    }
}

/// How the deliveries of one source are taken.
#[derive(Clone, Debug)]
pub struct SourcePolicy {
    /// Its name, unlike that of any other source of the shop.
    pub name: String,
    /// Whose word it is.
    pub origin: Origin,
    /// Whether it is complete; `None` if its format tells.
    pub scope: Option<DeliveryScope>,
    /// What absence means in a snapshot.
    pub absent: AbsentPolicy,
    /// Which of its warehouses count.
    pub warehouses: SourceWarehouses,
    /// When it is not believed.
    pub limits: GuardLimits,
    /// What is made of its numbers.
    pub rules: SourceRules,
    /// What its words stand for: (its word, our SKU, its units a piece).
    pub mapping: Vec<(String, String, u32)>,
    /// How an SKU is read that stands several times at one warehouse.
    pub duplicates: DuplicatePolicy,
    /// The settings by which it is read, as the configuration has them: where they change, its
    /// files may look otherwise.
    pub read_settings_text: String,
    /// How variants are read that share the article of their product.
    pub variants: VariantPolicy,
}

/// How an SKU is read that stands several times in a delivery at one warehouse, without dates or
/// parts that order its rows. Setting `duplicates`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DuplicatePolicy {
    /// Its rows are suspicious, equal or not: a row may be a size, a batch or a cell of a shelf.
    #[default]
    Reject,
    /// Equal rows are one row; unequal ones are suspicious.
    Same,
    /// The SKU has what its rows have together.
    Sum,
}

impl DuplicatePolicy {
    /// The name in the setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Same => "same",
            Self::Sum => "sum",
        }
    }

    /// The value that a setting names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Reject, Self::Same, Self::Sum]
            .into_iter()
            .find(|it| it.name() == name)
    }
}

//! Choice of the members for the SKU, the quantity and the other fields, once for the whole
//! document.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::members::{JsonMembers, JsonScalar, parse_scalar};
use crate::ReadSettings;
use crate::aliases::{AliasMatch, StockField, choose};
use crate::formats::fields::same_name;
use crate::formats::{FileShape, FormatError};
use crate::quantity::NumberStyle;
use crate::sku_text::has_leading_zeros;

/// Most distinct member names that are kept of a document.
const MAX_MEMBER_NAMES: usize = 1_000;

/// Returns true if a member of this name may hold the SKU.
pub(super) fn is_sku_name(name: &str, reading: &ReadSettings) -> bool {
    is_field(StockField::Sku, name, reading.sku.as_deref())
}

/// Returns true if a member of this name may hold the quantity.
pub(super) fn is_quantity_name(name: &str, reading: &ReadSettings) -> bool {
    is_field(StockField::Quantity, name, reading.quantity.as_deref())
}

/// Returns true if a text is an object whose member names include both a SKU and a quantity. The
/// name `code` does not count, because any object may have a code.
pub(super) fn is_product(text: &str) -> bool {
    const CODE_NAMES: [&str; 2] = ["code", "код"];
    let Ok(members) = JsonMembers::parse(text) else {
        return false;
    };
    let has = |field| {
        members.0.iter().any(|(name, _)| {
            is_field(field, name, None) && !CODE_NAMES.iter().any(|code| same_name(name, code))
        })
    };
    has(StockField::Sku) && has(StockField::Quantity)
}

pub(super) fn is_field(field: StockField, name: &str, named: Option<&str>) -> bool {
    choose(field, [name], named) != AliasMatch::None
}

/// Member names of all products, collected in a first pass: the members for the SKU and the
/// quantity are chosen once for the file.
#[derive(Debug, Default)]
pub(super) struct JsonMemberStats {
    /// Members with a value other than null or a boolean, in the order of their first occurrence.
    names: Vec<String>,
    known_names: HashSet<String>,
    style: NumberStyle,
    /// Names of the SKU with a text that has leading zeros.
    padded_names: HashSet<String>,
}

impl JsonMemberStats {
    /// Learns from a product. Ignores a broken one, which the second pass rejects.
    pub(super) fn learn(&mut self, element: &RawValue, reading: &ReadSettings) {
        let Ok(members) = JsonMembers::parse(element.get()) else {
            return;
        };
        self.learn_members(&members, reading);
        if let Ok(Some(items)) = members.items()
            && let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(items.get())
        {
            for item in items {
                if let Ok(members) = JsonMembers::parse(item.get()) {
                    self.learn_members(&members, reading);
                }
            }
        }
    }

    fn learn_members(&mut self, members: &JsonMembers<'_>, reading: &ReadSettings) {
        for (name, value) in &members.0 {
            // A flag such as `"available": true` is not a quantity.
            if matches!(value.get(), "null" | "true" | "false") {
                continue;
            }
            if self.names.len() < MAX_MEMBER_NAMES && self.known_names.insert(name.clone()) {
                self.names.push(name.clone());
            }
            let Ok(Some(JsonScalar {
                text,
                is_number: false,
            })) = parse_scalar(value)
            else {
                continue;
            };
            if is_quantity_name(name, reading) {
                self.style.learn(&text);
            }
            if has_leading_zeros(&text)
                && is_sku_name(name, reading)
                && !self.padded_names.contains(name)
            {
                self.padded_names.insert(name.clone());
            }
        }
    }

    /// Learns from the quantity of a member of a map from SKU to stock.
    pub(super) fn learn_pair(&mut self, stock: &RawValue) {
        if let Ok(Some(JsonScalar {
            text,
            is_number: false,
        })) = parse_scalar(stock)
        {
            self.style.learn(&text);
        }
    }

    /// Returns true if these names differ only in case.
    fn differ_only_in_case(&self, indexes: &[usize]) -> bool {
        let mut names = indexes.iter().filter_map(|at| self.names.get(*at));
        names
            .next()
            .is_none_or(|first| names.all(|name| same_name(name, first)))
    }

    /// Chooses the member of each field.
    ///
    /// # Errors
    /// Two members may each hold the SKU, or each the warehouse.
    pub(super) fn into_member_map(
        self,
        reading: &ReadSettings,
    ) -> Result<JsonMemberMap<'_>, FormatError> {
        let choose_member = |field: StockField, named: Option<&str>| {
            choose(field, self.names.iter().map(String::as_str), named)
        };
        let name_at = |at: usize| self.names.get(at).cloned();
        let sku = match choose_member(StockField::Sku, reading.sku.as_deref()) {
            AliasMatch::None => None,
            AliasMatch::Position(at) => name_at(at),
            // Spellings of one name in different case: a product may not have two with different
            // values.
            AliasMatch::Ambiguous(all) if self.differ_only_in_case(&all) => {
                all.first().and_then(|at| name_at(*at))
            }
            AliasMatch::Ambiguous(all) => {
                let all: Vec<_> = all
                    .into_iter()
                    .filter_map(name_at)
                    .map(|name| format!("'{name}'"))
                    .collect();
                return Err(FormatError::Unusable(format!(
                    "members {} may each be the SKU: set sku to the name of the right one",
                    all.join(" and ")
                )));
            }
        };
        let quantities = match choose_member(StockField::Quantity, reading.quantity.as_deref()) {
            AliasMatch::None => Vec::new(),
            AliasMatch::Position(at) => name_at(at).into_iter().collect(),
            // Allowed: a product in which all of them agree is unambiguous.
            AliasMatch::Ambiguous(all) => all.into_iter().filter_map(name_at).collect(),
        };
        let first_member =
            |field: StockField, named: Option<&str>| match choose_member(field, named) {
                AliasMatch::None => None,
                AliasMatch::Position(at) => name_at(at),
                AliasMatch::Ambiguous(all) => all.first().and_then(|at| name_at(*at)),
            };
        let warehouse = match choose_member(StockField::Warehouse, reading.warehouse.as_deref()) {
            AliasMatch::None => None,
            AliasMatch::Position(at) => name_at(at),
            AliasMatch::Ambiguous(all) => {
                let all: Vec<_> = all
                    .into_iter()
                    .filter_map(name_at)
                    .map(|name| format!("'{name}'"))
                    .collect();
                return Err(FormatError::Unusable(format!(
                    "members {} may each be the warehouse: set warehouse to the name of the right one",
                    all.join(" and ")
                )));
            }
        };
        let reserve = reading
            .reserve
            .as_deref()
            .and_then(|it| first_member(StockField::Reserve, Some(it)));
        let updated_at = first_member(StockField::UpdatedAt, reading.updated_at.as_deref());
        let style = self.style;
        let is_sku = |name: &String| sku.as_ref().is_some_and(|sku| same_name(name, sku));
        let has_padded_skus = self.padded_names.iter().any(is_sku);
        let names = self.names;
        Ok(JsonMemberMap {
            reading,
            sku,
            quantities,
            warehouse,
            reserve,
            updated_at,
            style,
            has_padded_skus,
            names,
        })
    }
}

/// Members of the fields of a product.
#[derive(Debug)]
pub(super) struct JsonMemberMap<'r> {
    pub(super) reading: &'r ReadSettings,
    pub(super) sku: Option<String>,
    pub(super) quantities: Vec<String>,
    pub(super) warehouse: Option<String>,
    pub(super) reserve: Option<String>,
    pub(super) updated_at: Option<String>,
    pub(super) style: NumberStyle,
    /// Some SKU has leading zeros.
    pub(super) has_padded_skus: bool,
    names: Vec<String>,
}

impl JsonMemberMap<'_> {
    /// Adds the members and the number style to the properties of the file.
    pub(super) fn describe(&self, shape: &mut FileShape) {
        let listed: Vec<_> = self
            .names
            .iter()
            .take(20)
            .map(|name| format!("'{name}'"))
            .collect();
        shape.set("members", listed.join(", "));
        for (property, name) in [
            ("sku", self.sku.clone()),
            (
                "quantity",
                Some(self.quantities.join(", ")).filter(|names| !names.is_empty()),
            ),
            ("warehouse", self.warehouse.clone()),
            ("reserve", self.reserve.clone()),
            ("time", self.updated_at.clone()),
        ] {
            if let Some(name) = name {
                shape.set(property, name);
            }
        }
        shape.set("numbers", self.style.describe());
    }
}

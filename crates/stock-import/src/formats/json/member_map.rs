//! Choice of the members for the SKU, the quantity and the other fields, once for the whole
//! document.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::members::JsonMembers;
use crate::ReadSettings;
use crate::aliases::{AliasMatch, StockField, choose};
use crate::formats::fields::{is_one_of, same_name};
use crate::formats::{FileShape, FormatError, quote_names};
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
    const CODE_NAMES: &str = "code код";
    let Ok(members) = JsonMembers::parse(text) else {
        return false;
    };
    let has = |field| {
        let mut names = members.0.iter().map(|(name, _)| name);
        names.any(|name| is_field(field, name, None) && !is_one_of(name, CODE_NAMES))
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
            if self.names.len() < MAX_MEMBER_NAMES && !self.names.contains(name) {
                self.names.push(name.clone());
            }
            let Ok(text) = serde_json::from_str::<String>(value.get()) else {
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
        if let Ok(text) = serde_json::from_str::<String>(stock.get()) {
            self.style.learn(&text);
        }
    }

    /// Returns the members that may hold a field; one if the choice is certain.
    fn candidates(&self, field: StockField, named: Option<&String>) -> Vec<String> {
        let names = self.names.iter().map(String::as_str);
        let positions = match choose(field, names, named.map(String::as_str)) {
            AliasMatch::None => Vec::new(),
            AliasMatch::Position(at) => vec![at],
            AliasMatch::Ambiguous(all) => all,
        };
        let names = positions.into_iter().filter_map(|at| self.names.get(at));
        names.cloned().collect()
    }

    /// Chooses the member of each field.
    ///
    /// # Errors
    /// Two members may each hold the SKU, or each the warehouse.
    pub(super) fn into_member_map(
        self,
        reading: &ReadSettings,
    ) -> Result<JsonMemberMap<'_>, FormatError> {
        let ambiguous = |field: StockField, names: &[String]| {
            FormatError::Unusable(format!(
                "members {} may each be {}: set {} to the name of the right one",
                quote_names(names, " and "),
                field.label(),
                field.setting()
            ))
        };
        let skus = self.candidates(StockField::Sku, reading.sku.as_ref());
        // Spellings of one name in different case: a product may not have two with different
        // values.
        if let [first, others @ ..] = skus.as_slice()
            && !others.iter().all(|name| same_name(name, first))
        {
            return Err(ambiguous(StockField::Sku, &skus));
        }
        let warehouses = self.candidates(StockField::Warehouse, reading.warehouse.as_ref());
        if warehouses.len() > 1 {
            return Err(ambiguous(StockField::Warehouse, &warehouses));
        }
        let reserve = reading.reserve.as_ref();
        let reserve = reserve.map(|name| self.candidates(StockField::Reserve, Some(name)));
        let updated_at = self.candidates(StockField::UpdatedAt, reading.updated_at.as_ref());
        let first = |names: Vec<String>| names.into_iter().next();
        let sku = first(skus);
        let is_sku = |name: &String| sku.as_ref().is_some_and(|sku| same_name(name, sku));
        Ok(JsonMemberMap {
            reading,
            has_padded_skus: self.padded_names.iter().any(is_sku),
            // Several are allowed: a product in which all of them agree is unambiguous.
            quantities: self.candidates(StockField::Quantity, reading.quantity.as_ref()),
            warehouse: first(warehouses),
            reserve: reserve.and_then(first),
            updated_at: first(updated_at),
            style: self.style,
            sku,
            names: self.names,
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
        shape.set("members", quote_names(self.names.iter().take(20), ", "));
        let quantities = Some(self.quantities.join(", ")).filter(|names| !names.is_empty());
        for (property, name) in [
            ("sku", self.sku.clone()),
            ("quantity", quantities),
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

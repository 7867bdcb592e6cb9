//! Reader of one product of a JSON document.

use serde_json::value::RawValue;

use super::member_map::{JsonMemberMap, is_field, is_product};
use super::members::{ITEM_LIST_NAMES, JsonMembers, JsonScalar, parse_scalar};
use crate::aliases::StockField;
use crate::formats::decode::UNDECODABLE;
use crate::formats::fields::{SingleValue, StockFields, parse_timestamp, same_name};
use crate::quantity::NumberStyle;
use crate::{DeliveryEntry, ProductKey, RejectedRow, RowProblem};

/// Most decimal digits that an `f64` holds exactly.
const MAX_EXACT_DIGITS: usize = 15;

/// Members with the variants of a product.
const VARIANT_LIST_NAMES: &[&str] = &[
    "variants",
    "variations",
    "modifications",
    "offers",
    "skus",
    "sizes",
    "children",
    "модификации",
    "варианты",
];

impl JsonMemberMap<'_> {
    /// Reads an element of a list.
    pub(super) fn read(&self, element: &RawValue, line: u64) -> Vec<DeliveryEntry> {
        let mut product = JsonProduct {
            line,
            member_map: self,
            text: element.get(),
            entries: Vec::new(),
        };
        if let Err((problem, sku)) = product.read() {
            return vec![problem.into_entry(line, element.get(), sku)];
        }
        product.entries
    }

    /// Reads a member of a map from SKU to stock.
    pub(super) fn read_pair(&self, sku: &str, stock: &RawValue, line: u64) -> DeliveryEntry {
        let text = format!("{sku}: {}", stock.get());
        let sku = match self.reading.parse_sku(sku) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &text, None),
        };
        let mut stock_fields = StockFields::default();
        match parse_scalar(stock) {
            Err(reason) => {
                return RowProblem::Rejected(format!("stock: {reason}")).into_entry(
                    line,
                    &text,
                    Some(sku),
                );
            }
            Ok(None) => stock_fields.quantity = single_value(String::new()),
            Ok(Some(scalar)) => {
                stock_fields.style = self.style_of(&scalar);
                stock_fields.quantity = single_value(scalar.text);
            }
        }
        stock_fields.into_entry(line, &ProductKey::Sku(sku), self.reading)
    }

    fn style_of(&self, scalar: &JsonScalar) -> NumberStyle {
        if scalar.is_number {
            NumberStyle::LITERAL
        } else {
            self.style
        }
    }
}

/// Creates the entry of a rejected element.
pub(super) fn rejected_entry(line: u64, text: &str, reason: impl Into<String>) -> DeliveryEntry {
    DeliveryEntry::Rejected(RejectedRow::new(line, text, reason))
}

struct JsonProduct<'a> {
    line: u64,
    member_map: &'a JsonMemberMap<'a>,
    text: &'a str,
    entries: Vec<DeliveryEntry>,
}

/// Problem of a product that is not applied, and its SKU if it is certain.
type JsonProductError = (RowProblem, Option<String>);

impl JsonProduct<'_> {
    fn read(&mut self) -> Result<(), JsonProductError> {
        let rejected = |reason: String| (RowProblem::Rejected(reason), None);
        let members = JsonMembers::parse(self.text).map_err(rejected)?;
        let sku = self.sku(&members).map_err(|problem| (problem, None))?;
        let with_sku = |problem: RowProblem| (problem, Some(sku.clone()));
        let mut own_stock = StockFields::default();
        self.read_stock(&mut own_stock, &members)
            .map_err(with_sku)?;
        if let Some(problem) = self.unread_stock_problem(&members, own_stock.quantity.is_present())
        {
            return Err(with_sku(problem));
        }
        let items = members
            .items()
            .map_err(|reason| with_sku(RowProblem::Rejected(reason)))?;
        let stock_list = match items {
            Some(_) if own_stock.quantity.is_present() => {
                let reason = "both the product and its items have a quantity".to_owned();
                return Err(with_sku(RowProblem::Rejected(reason)));
            }
            Some(items) => self.read_items(items, &own_stock).map_err(with_sku)?,
            None => vec![own_stock],
        };
        let key = ProductKey::Sku(sku.clone());
        for stock in stock_list {
            let mut entry = stock.into_entry(self.line, &key, self.member_map.reading);
            if let DeliveryEntry::Rejected(rejected) | DeliveryEntry::Suspicious(rejected) =
                &mut entry
            {
                *rejected = RejectedRow {
                    sku: rejected.sku.take(),
                    ..RejectedRow::new(self.line, self.text, &*rejected.reason)
                };
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn sku(&self, members: &JsonMembers<'_>) -> Result<String, RowProblem> {
        let rejected = |reason: &str| RowProblem::Rejected(reason.to_owned());
        let Some(name) = &self.member_map.sku else {
            return Err(rejected("the product has no SKU"));
        };
        let scalar = members.scalar(name)?;
        let scalar =
            scalar.ok_or_else(|| RowProblem::Rejected(format!("the product has no {name}")))?;
        if scalar.text.contains(UNDECODABLE) {
            return Err(rejected(
                "sku has bytes that are not characters of the file's encoding",
            ));
        }
        // A literal of few digits is exact; the sender may have stored a longer one as a float.
        let is_plain = scalar.text.bytes().all(|byte| byte.is_ascii_digit())
            && scalar.text.len() <= MAX_EXACT_DIGITS;
        if scalar.is_number && !is_plain && !self.member_map.reading.accepts_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, which may have lost digits: write it as a string, or set \
                 suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        let may_lack_zeros = scalar.is_number && self.member_map.has_padded_skus;
        if may_lack_zeros && !self.member_map.reading.accepts_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, and other SKUs have leading zeros, which this one may have \
                 lost: write it as a string, or set suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        self.member_map.reading.parse_sku(&scalar.text)
    }

    /// Returns a problem if the product has stock that would not be read: that of variants, or
    /// under another name. A setting for the quantity turns this check off.
    fn unread_stock_problem(
        &self,
        members: &JsonMembers<'_>,
        has_quantity: bool,
    ) -> Option<RowProblem> {
        if self.member_map.reading.quantity.is_some() {
            return None;
        }
        let has_items = matches!(members.items(), Ok(Some(_)));
        for (name, value) in &members.0 {
            if self.lists_products(name, value) {
                return Some(RowProblem::Suspicious(format!(
                    "the list '{name}' inside the product has products that are not read: move them \
                     to the main list, or set quantity to the member with the total stock"
                )));
            }
            let is_other_quantity = is_field(StockField::Quantity, name, None)
                && matches!(parse_scalar(value), Ok(Some(_)))
                && !has_quantity
                && !has_items;
            if is_other_quantity && let Some(quantity) = self.member_map.quantities.first() {
                return Some(RowProblem::Suspicious(format!(
                    "the product has '{name}' but no '{quantity}', which other products have: set \
                     quantity to the name of the right one"
                )));
            }
        }
        None
    }

    /// Returns true if a member is a list of products with their own stock, rather than of parts or
    /// packs: it has a name for variants, or its elements have the members of a product.
    fn lists_products(&self, name: &str, value: &RawValue) -> bool {
        if !value.get().starts_with('[') || ITEM_LIST_NAMES.iter().any(|list| same_name(name, list))
        {
            return false;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        let is_variants = VARIANT_LIST_NAMES
            .iter()
            .any(|known| same_name(name, known));
        let has_members = |text: &str| {
            let Ok(members) = JsonMembers::parse(text) else {
                return false;
            };
            let has = |name: &String| matches!(members.find(name), Ok(Some(_)));
            self.member_map.sku.as_ref().is_some_and(has)
                && self.member_map.quantities.iter().any(has)
        };
        let mut elements = elements.iter().map(|element| element.get());
        elements.any(|element| has_members(element) || (is_variants && is_product(element)))
    }

    /// Copies the values of these members to the stock fields.
    fn read_stock(
        &self,
        stock: &mut StockFields,
        members: &JsonMembers<'_>,
    ) -> Result<(), RowProblem> {
        let member_map = self.member_map;
        if let Some(scalar) = members.quantity(&member_map.quantities)? {
            stock.style = member_map.style_of(&scalar);
            stock.quantity = single_value(scalar.text);
        }
        let member = |name: &Option<String>| match name {
            Some(name) => members.scalar(name),
            None => Ok(None),
        };
        if let Some(warehouse) = member(&member_map.warehouse)? {
            stock.warehouse = single_value(warehouse.text);
        }
        if let Some(reserve) = member(&member_map.reserve)? {
            stock.reserve = single_value(reserve.text);
        }
        if let Some(updated_at) = member(&member_map.updated_at)?
            && (member_map.reading.updated_at.is_some()
                || parse_timestamp(&updated_at.text).is_ok())
        {
            // Without a setting, a member that is not a valid time is ignored.
            stock.updated_at = single_value(updated_at.text);
        }
        Ok(())
    }

    /// Reads the stock of a product's items. They inherit fields from the product.
    fn read_items(
        &self,
        items: &RawValue,
        own_stock: &StockFields,
    ) -> Result<Vec<StockFields>, RowProblem> {
        let items: Vec<&RawValue> =
            serde_json::from_str(items.get()).map_err(|e| format!("items: {e}"))?;
        let mut stock_list: Vec<StockFields> = Vec::new();
        for item in &items {
            let members = JsonMembers::parse(item.get())?;
            if !members.is_for_sale()? {
                continue;
            }
            let mut stock = own_stock.clone();
            self.read_stock(&mut stock, &members)?;
            if stock_list
                .iter()
                .any(|other| other.warehouse == stock.warehouse)
            {
                let reason = "two items of the product have the same warehouse".to_owned();
                return Err(RowProblem::Rejected(reason));
            }
            stock_list.push(stock);
        }
        // An empty list states no stock: a shop may send it for an unknown product.
        Ok(if stock_list.is_empty() {
            vec![own_stock.clone()]
        } else {
            stock_list
        })
    }
}

fn single_value(text: String) -> SingleValue {
    let mut value = SingleValue::default();
    value.set("", Ok(text));
    value
}

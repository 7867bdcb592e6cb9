//! Reader of one product of a JSON document.

use serde_json::value::RawValue;

use super::member_map::{JsonMemberMap, is_field, is_product};
use super::members::{ITEM_LIST_NAMES, JsonMembers, JsonScalar, parse_scalar};
use crate::aliases::StockField;
use crate::formats::decode::UNDECODABLE;
use crate::formats::fields::{SingleValue, StockFields, is_one_of, parse_timestamp};
use crate::quantity::NumberStyle;
use crate::{DeliveryEntry, ProductKey, RejectedRow, RowProblem};

/// Most decimal digits that an `f64` holds exactly.
const MAX_EXACT_DIGITS: usize = 15;

/// Members with the variants of a product.
const VARIANT_LIST_NAMES: &str =
    "variants variations modifications offers skus sizes children модификации варианты";

/// Problem of a product that is not applied, and its SKU if it is certain.
type JsonProductError = (RowProblem, Option<String>);

impl JsonMemberMap<'_> {
    /// Reads an element of a list.
    pub(super) fn read(&self, element: &str, line: u64) -> Vec<DeliveryEntry> {
        self.read_product(element, line)
            .unwrap_or_else(|(problem, sku)| vec![problem.into_entry(line, element, sku)])
    }

    /// Reads a member of a map from SKU to stock.
    pub(super) fn read_pair(&self, sku: &str, stock: &RawValue, line: u64) -> DeliveryEntry {
        let text = format!("{sku}: {}", stock.get());
        let sku = match self.reading.parse_sku(sku) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &text, None),
        };
        let scalar = match parse_scalar(stock) {
            Ok(scalar) => scalar.unwrap_or_default(),
            Err(reason) => {
                let problem = RowProblem::Rejected(format!("stock: {reason}"));
                return problem.into_entry(line, &text, Some(sku));
            }
        };
        let stock_fields = StockFields {
            style: self.style_of(&scalar),
            quantity: SingleValue::new(scalar.text),
            ..StockFields::default()
        };
        stock_fields.into_entry(line, &ProductKey::Sku(sku), self.reading)
    }

    fn style_of(&self, scalar: &JsonScalar) -> NumberStyle {
        if scalar.is_number {
            NumberStyle::LITERAL
        } else {
            self.style
        }
    }

    fn read_product(&self, text: &str, line: u64) -> Result<Vec<DeliveryEntry>, JsonProductError> {
        let without_sku = |problem: RowProblem| (problem, None);
        let members = JsonMembers::parse(text).map_err(|reason| without_sku(reason.into()))?;
        let sku = self.sku(&members).map_err(without_sku)?;
        let stock_list = self.stock_list(&members);
        let stock_list = stock_list.map_err(|problem| (problem, Some(sku.clone())))?;
        let key = ProductKey::Sku(sku);
        let entry = |stock: StockFields| {
            let mut entry = stock.into_entry(line, &key, self.reading);
            if let Some(row) = entry.rejected_mut() {
                *row = RejectedRow {
                    sku: row.sku.take(),
                    ..RejectedRow::new(line, text, &*row.reason)
                };
            }
            entry
        };
        Ok(stock_list.into_iter().map(entry).collect())
    }

    fn sku(&self, members: &JsonMembers<'_>) -> Result<String, RowProblem> {
        let Some(name) = &self.sku else {
            return Err("the product has no SKU".to_owned().into());
        };
        let scalar = members.scalar(name)?;
        let scalar = scalar.ok_or_else(|| format!("the product has no {name}"))?;
        if scalar.text.contains(UNDECODABLE) {
            let reason = "sku has bytes that are not characters of the file's encoding";
            return Err(reason.to_owned().into());
        }
        // A literal of few digits is exact; the sender may have stored a longer one as a float.
        let is_plain = scalar.text.bytes().all(|byte| byte.is_ascii_digit())
            && scalar.text.len() <= MAX_EXACT_DIGITS;
        let doubt = if is_plain && self.has_padded_skus {
            "and other SKUs have leading zeros, which this one may have lost"
        } else {
            "which may have lost digits"
        };
        let is_certain = is_plain && !self.has_padded_skus;
        if scalar.is_number && !is_certain && !self.reading.accepts_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, {doubt}: write it as a string, or set suspicious_sku = \
                 \"take\"",
                scalar.text
            )));
        }
        self.reading.parse_sku(&scalar.text)
    }

    /// Returns the stock of a product by warehouse.
    fn stock_list(&self, members: &JsonMembers<'_>) -> Result<Vec<StockFields>, RowProblem> {
        let mut own_stock = StockFields::default();
        self.read_stock(&mut own_stock, members)?;
        let has_quantity = own_stock.quantity.is_present();
        // A setting for the quantity turns this check off.
        if self.reading.quantity.is_none() {
            self.check_unread_stock(members, has_quantity)?;
        }
        match members.items()? {
            Some(_) if has_quantity => Err("both the product and its items have a quantity"
                .to_owned()
                .into()),
            Some(items) => self.read_items(items, own_stock),
            None => Ok(vec![own_stock]),
        }
    }

    /// Rejects a product with stock that would not be read: that of variants, or under another
    /// name.
    fn check_unread_stock(
        &self,
        members: &JsonMembers<'_>,
        has_quantity: bool,
    ) -> Result<(), RowProblem> {
        let has_stock = has_quantity || matches!(members.items(), Ok(Some(_)));
        for (name, value) in &members.0 {
            if self.lists_products(name, value) {
                return Err(RowProblem::Suspicious(format!(
                    "the list '{name}' inside the product has products that are not read: move them \
                     to the main list, or set quantity to the member with the total stock"
                )));
            }
            if !has_stock
                && is_field(StockField::Quantity, name, None)
                && matches!(parse_scalar(value), Ok(Some(_)))
                && let Some(quantity) = self.quantities.first()
            {
                return Err(RowProblem::Suspicious(format!(
                    "the product has '{name}' but no '{quantity}', which other products have: set \
                     quantity to the name of the right one"
                )));
            }
        }
        Ok(())
    }

    /// Returns true if a member is a list of products with their own stock, rather than of parts or
    /// packs: it has a name for variants, or its elements have the members of a product.
    fn lists_products(&self, name: &str, value: &RawValue) -> bool {
        if !value.get().starts_with('[') || is_one_of(name, ITEM_LIST_NAMES) {
            return false;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        let is_variants = is_one_of(name, VARIANT_LIST_NAMES);
        let has_members = |text: &str| {
            let Ok(members) = JsonMembers::parse(text) else {
                return false;
            };
            let has = |name: &String| matches!(members.find(name), Ok(Some(_)));
            self.sku.as_ref().is_some_and(has) && self.quantities.iter().any(has)
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
        if let Some(scalar) = members.quantity(&self.quantities)? {
            stock.style = self.style_of(&scalar);
            stock.quantity = SingleValue::new(scalar.text);
        }
        // Without a setting, a member that is not a valid time is ignored.
        let ignores_invalid_time = self.reading.updated_at.is_none();
        for (name, field, is_optional) in [
            (&self.warehouse, &mut stock.warehouse, false),
            (&self.reserve, &mut stock.reserve, false),
            (
                &self.updated_at,
                &mut stock.updated_at,
                ignores_invalid_time,
            ),
        ] {
            if let Some(name) = name
                && let Some(scalar) = members.scalar(name)?
                && (!is_optional || parse_timestamp(&scalar.text).is_ok())
            {
                *field = SingleValue::new(scalar.text);
            }
        }
        Ok(())
    }

    /// Reads the stock of a product's items. They inherit fields from the product.
    fn read_items(
        &self,
        items: &RawValue,
        own_stock: StockFields,
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
            let mut others = stock_list.iter();
            if others.any(|other| other.warehouse == stock.warehouse) {
                return Err("two items of the product have the same warehouse"
                    .to_owned()
                    .into());
            }
            stock_list.push(stock);
        }
        // An empty list states no stock: a shop may send it for an unknown product.
        if stock_list.is_empty() {
            stock_list.push(own_stock);
        }
        Ok(stock_list)
    }
}

//! One product of a JSON document: which of its members hold what.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::sources::aliases::{AliasMatch, StockField, choose};
use crate::sources::formats::decode::UNDECODABLE;
use crate::sources::formats::fields::{SingleValue, StockFields, parse_timestamp, same_name};
use crate::sources::formats::{FileShape, FormatError};
use crate::sources::quantity::NumberStyle;
use crate::sources::sku_text::has_leading_zeros;
use crate::sources::{DeliveryEntry, ProductKey, ReadSettings, RejectedRow, RowProblem};

/// Names of members that are remembered of a document.
const MAX_MEMBER_NAMES: usize = 1_000;

/// Digits that a binary fraction holds exactly.
const MAX_EXACT_DIGITS: usize = 15;

/// What holds stock by warehouse, or by type. Source: `UpdateStock.items` of the Market, and its
/// read-back, `stocks`.
const ITEM_LIST_NAMES: &[&str] = &["items", "stocks"];

/// What lists of a product's variants are called.
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

/// The one type of stock that is for sale. Source: `POST /stocks` and `getStocks` of the Market.
const SELLABLE_TYPE: &str = "FIT";

/// Whether a member of that name may hold the SKU.
pub(super) fn is_sku_name(name: &str, reading: &ReadSettings) -> bool {
    is_field(StockField::Sku, name, reading.sku.as_deref())
}

/// Whether a member of that name may hold the quantity.
pub(super) fn is_quantity_name(name: &str, reading: &ReadSettings) -> bool {
    is_field(StockField::Quantity, name, reading.quantity.as_deref())
}

/// Whether a text is an object with both a SKU and a quantity, by the names of its members; a code
/// may be that of anything.
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

fn is_field(field: StockField, name: &str, named: Option<&str>) -> bool {
    choose(field, [name], named) != AliasMatch::None
}

/// The names of a document's members, gathered from all its products before the first is read:
/// which member holds the SKU is decided once for the file.
#[derive(Debug, Default)]
pub(super) struct JsonMemberStats {
    /// Members with a value other than null and a flag, in the order of their first appearance.
    names: Vec<String>,
    known_names: HashSet<String>,
    style: NumberStyle,
    /// Members whose texts are digits with zeros before them.
    padded_names: HashSet<String>,
}

impl JsonMemberStats {
    /// Learns from a product; one that is broken teaches nothing.
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
            // A flag beside a quantity is not one: `"available": true`.
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

    /// Learns the quantity of a member of a map from SKU to stock.
    pub(super) fn learn_pair(&mut self, stock: &RawValue) {
        if let Ok(Some(JsonScalar {
            text,
            is_number: false,
        })) = parse_scalar(stock)
        {
            self.style.learn(&text);
        }
    }

    /// Whether these names differ in nothing but their case.
    fn differ_only_in_case(&self, indexes: &[usize]) -> bool {
        let mut names = indexes.iter().filter_map(|at| self.names.get(*at));
        names
            .next()
            .is_none_or(|first| names.all(|name| same_name(name, first)))
    }

    /// Decides which member holds what.
    ///
    /// # Errors
    /// Two members may each hold the SKU.
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
            // One name in several cases: no product may have two that differ.
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
                    "members {} may each be the SKU: set sku to the name of the one that is meant",
                    all.join(" and ")
                )));
            }
        };
        let quantities = match choose_member(StockField::Quantity, reading.quantity.as_deref()) {
            AliasMatch::None => Vec::new(),
            AliasMatch::Position(at) => name_at(at).into_iter().collect(),
            // A product in which they agree has one reading.
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
                    "members {} may each be the warehouse: set warehouse to the one that is meant",
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

/// Which member of a product holds what.
#[derive(Debug)]
pub(super) struct JsonMemberMap<'r> {
    reading: &'r ReadSettings,
    sku: Option<String>,
    quantities: Vec<String>,
    warehouse: Option<String>,
    reserve: Option<String>,
    updated_at: Option<String>,
    style: NumberStyle,
    /// Some SKU is digits with zeros before them.
    has_padded_skus: bool,
    names: Vec<String>,
}

impl JsonMemberMap<'_> {
    /// Describes how the document is read.
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

/// An entry for an element that cannot be taken.
pub(super) fn rejected_entry(line: u64, text: &str, reason: impl Into<String>) -> DeliveryEntry {
    DeliveryEntry::Rejected(RejectedRow::new(line, text, reason))
}

struct JsonProduct<'a> {
    line: u64,
    member_map: &'a JsonMemberMap<'a>,
    text: &'a str,
    entries: Vec<DeliveryEntry>,
}

/// Why a product is not applied, and its SKU if that much is certain.
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
                let reason = "both the product and its items state stock".to_owned();
                return Err(with_sku(RowProblem::Rejected(reason)));
            }
            Some(items) => self.read_items(items, &own_stock).map_err(with_sku)?,
            None => vec![own_stock],
        };
        let key = ProductKey::Sku(sku.clone());
        for stock in stock_list {
            let mut entry = stock.into_entry(self.line, &key, self.member_map.reading);
            if let DeliveryEntry::Rejected(fault) | DeliveryEntry::Suspicious(fault) = &mut entry {
                *fault = RejectedRow {
                    sku: fault.sku.take(),
                    ..RejectedRow::new(self.line, self.text, &*fault.reason)
                };
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn sku(&self, members: &JsonMembers<'_>) -> Result<String, RowProblem> {
        let rejected = |reason: &str| RowProblem::Rejected(reason.to_owned());
        let Some(name) = &self.member_map.sku else {
            return Err(rejected("it has no sku"));
        };
        let scalar = members.scalar(name)?;
        let scalar = scalar.ok_or_else(|| RowProblem::Rejected(format!("it has no {name}")))?;
        if scalar.text.contains(UNDECODABLE) {
            return Err(rejected(
                "its SKU has bytes that are not characters of the encoding",
            ));
        }
        // A literal of digits is its digits; what a float cannot hold may have lost some.
        let is_plain = scalar.text.bytes().all(|byte| byte.is_ascii_digit())
            && scalar.text.len() <= MAX_EXACT_DIGITS;
        if scalar.is_number && !is_plain && !self.member_map.reading.accepts_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, whose digits may be lost: write it as a string, or set \
                 suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        let may_lack_zeros = scalar.is_number && self.member_map.has_padded_skus;
        if may_lack_zeros && !self.member_map.reading.accepts_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, and other SKUs have zeros before their digits, which this \
                 one may have lost: write it as a string, or set suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        self.member_map.reading.parse_sku(&scalar.text)
    }

    /// Stock of the product that its quantity may leave out: of its variants, or under another name.
    /// Where a setting names the quantity, that one is meant.
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
                    "its list '{name}' has products of its own, which are not read: list them \
                     beside it, or set quantity to the member that holds the stock of the whole"
                )));
            }
            let is_other_quantity = is_field(StockField::Quantity, name, None)
                && matches!(parse_scalar(value), Ok(Some(_)))
                && !has_quantity
                && !has_items;
            if is_other_quantity && let Some(quantity) = self.member_map.quantities.first() {
                return Some(RowProblem::Suspicious(format!(
                    "it has '{name}' and no '{quantity}', which other products have: set quantity \
                     to the one that is meant"
                )));
            }
        }
        None
    }

    /// Whether a member is a list of products with stock of their own, rather than of parts or packs:
    /// it is called a list of variants, or its elements have the members by which products are read.
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

    /// Takes into a statement what these members say.
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
            // A member that only seems to be the time, and is none, says nothing.
            stock.updated_at = single_value(updated_at.text);
        }
        Ok(())
    }

    /// The statements of a product's items, which may leave to the product what they share.
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
                let reason = "two of its items state stock at the same warehouse".to_owned();
                return Err(RowProblem::Rejected(reason));
            }
            stock_list.push(stock);
        }
        // That there are none says nothing: a shop may answer so for what it does not know.
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

/// A string, or a number as it is written.
struct JsonScalar {
    text: String,
    is_number: bool,
}

/// The beginning of a value, for a message.
fn excerpt(value: &RawValue) -> String {
    value.get().chars().take(40).collect()
}

/// Reads a string or a number; `None` for null.
fn parse_scalar(value: &RawValue) -> Result<Option<JsonScalar>, String> {
    let literal = value.get();
    match literal.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str(literal).map_err(|e| e.to_string())?;
            Ok(Some(JsonScalar {
                text,
                is_number: false,
            }))
        }
        Some(b'-' | b'0'..=b'9') => Ok(Some(JsonScalar {
            text: literal.to_owned(),
            is_number: true,
        })),
        Some(b'n') => Ok(None),
        Some(_) | None => Err(format!(
            "{} stands where a number or a text is wanted",
            excerpt(value)
        )),
    }
}

/// The members of an object, in their order.
struct JsonMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'a> JsonMembers<'a> {
    fn parse(object: &'a str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(object);
        json.deserialize_map(CollectMembers)
            .map(Self)
            .map_err(|e| e.to_string())
    }

    /// The value of the member of that name; `None` if it is not there, or null.
    fn scalar(&self, name: &str) -> Result<Option<JsonScalar>, String> {
        let Some(value) = self.find(name)? else {
            return Ok(None);
        };
        parse_scalar(value).map_err(|e| format!("{name}: {e}"))
    }

    /// The value of the member of that name, in whatever case it is written.
    fn find(&self, name: &str) -> Result<Option<&'a RawValue>, String> {
        let mut found = self.0.iter().filter(|(member, _)| same_name(member, name));
        let Some((first, value)) = found.next() else {
            return Ok(None);
        };
        match found.find(|(second, other)| second == first || other.get() != value.get()) {
            None => Ok(Some(value)),
            Some((second, _)) if second == first => Err(format!("'{first}' is stated twice")),
            Some((second, other)) => Err(format!(
                "'{first}' is {value} and '{second}' is {other}: leave one of them",
                value = excerpt(value),
                other = excerpt(other)
            )),
        }
    }

    /// The quantity. Where several members may hold it, all of them must, and must agree; null is an
    /// empty one.
    fn quantity(&self, names: &[String]) -> Result<Option<JsonScalar>, RowProblem> {
        let mut found: Option<(&str, JsonScalar)> = None;
        let mut empty = None;
        let mut missing = None;
        for name in names {
            let Some(value) = self.find(name)? else {
                missing = Some(name);
                continue;
            };
            // `"available": true` beside a count is a flag.
            if matches!(value.get(), "true" | "false") && names.len() > 1 {
                continue;
            }
            let Some(scalar) = parse_scalar(value).map_err(|e| format!("{name}: {e}"))? else {
                empty = Some(name);
                continue;
            };
            match &found {
                Some((first, other)) if other.text != scalar.text => {
                    return Err(RowProblem::Suspicious(format!(
                        "{first} is {} and {name} is {}: set quantity to the one that is meant",
                        other.text, scalar.text
                    )));
                }
                Some(_) => {}
                None => found = Some((name, scalar)),
            }
        }
        match (found, empty.or(missing)) {
            (Some((name, scalar)), Some(other)) => Err(RowProblem::Suspicious(format!(
                "{name} is {} and {other} is not stated: set quantity to the one that is meant",
                scalar.text
            ))),
            (Some((_, scalar)), None) => Ok(Some(scalar)),
            (None, _) => Ok(empty.map(|_| JsonScalar {
                text: String::new(),
                is_number: false,
            })),
        }
    }

    /// The list of stock by warehouse or type, if there is one.
    fn items(&self) -> Result<Option<&'a RawValue>, String> {
        let mut lists = self.0.iter().filter(|(member, value)| {
            value.get().starts_with('[')
                && ITEM_LIST_NAMES.iter().any(|name| same_name(member, name))
        });
        match (lists.next(), lists.next()) {
            (Some((first, _)), Some((second, _))) => Err(format!(
                "'{first}' and '{second}' are both lists of its stock: leave one of them"
            )),
            (first, _) => Ok(first.map(|(_, value)| *value)),
        }
    }

    fn is_for_sale(&self) -> Result<bool, String> {
        let kind = self.scalar("type")?;
        Ok(kind.is_none_or(|kind| kind.text.eq_ignore_ascii_case(SELLABLE_TYPE)))
    }
}

struct CollectMembers;

impl<'de> Visitor<'de> for CollectMembers {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut collected = Vec::new();
        while let Some(member) = members.next_entry::<String, &RawValue>()? {
            collected.push(member);
        }
        Ok(collected)
    }
}

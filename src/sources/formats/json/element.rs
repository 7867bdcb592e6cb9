//! One product of a JSON document: which of its members hold what.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::sources::aliases::{Choice, Field, choose};
use crate::sources::formats::decode::UNDECODABLE;
use crate::sources::formats::fields::{Once, Statement, is_named, moment};
use crate::sources::formats::{FileShape, FormatError};
use crate::sources::quantity::NumberStyle;
use crate::sources::sku_text::is_padded;
use crate::sources::{Entry, Fault, Key, Reading, RowProblem};

/// Names of members that are remembered of a document.
const MAX_NAMES: usize = 1_000;

/// Digits that a binary fraction holds exactly.
const MAX_EXACT_DIGITS: usize = 15;

/// What holds stock by warehouse, or by type. Source: `UpdateStock.items` of the Market, and its
/// read-back, `stocks`.
const ITEMS: &[&str] = &["items", "stocks"];

/// What lists of a product's variants are called.
const VARIANTS: &[&str] = &[
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
const FOR_SALE: &str = "FIT";

/// Whether a member of that name may hold the SKU.
pub(super) fn is_sku_name(name: &str, reading: &Reading) -> bool {
    is_field(Field::Sku, name, reading.sku.as_deref())
}

/// Whether a member of that name may hold the quantity.
pub(super) fn is_quantity_name(name: &str, reading: &Reading) -> bool {
    is_field(Field::Quantity, name, reading.quantity.as_deref())
}

/// Whether a text is an object with both a SKU and a quantity, by the names of its members; a code
/// may be that of anything.
pub(super) fn is_product(text: &str) -> bool {
    const CODES: [&str; 2] = ["code", "код"];
    let Ok(members) = Members::parse(text) else {
        return false;
    };
    let has = |field| {
        members.0.iter().any(|(name, _)| {
            is_field(field, name, None) && !CODES.iter().any(|code| is_named(name, code))
        })
    };
    has(Field::Sku) && has(Field::Quantity)
}

fn is_field(field: Field, name: &str, named: Option<&str>) -> bool {
    choose(field, [name], named) != Choice::None
}

/// The names of a document's members, gathered from all its products before the first is read:
/// which member holds the SKU is decided once for the file.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Members with a value other than null and a flag, in the order of their first appearance.
    names: Vec<String>,
    seen: HashSet<String>,
    style: NumberStyle,
    /// Members whose texts are digits with zeros before them.
    padded: HashSet<String>,
}

impl Survey {
    /// Learns from a product; one that is broken teaches nothing.
    pub(super) fn learn(&mut self, element: &RawValue, reading: &Reading) {
        let Ok(members) = Members::parse(element.get()) else {
            return;
        };
        self.learn_members(&members, reading);
        if let Ok(Some(items)) = members.items()
            && let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(items.get())
        {
            for item in items {
                if let Ok(members) = Members::parse(item.get()) {
                    self.learn_members(&members, reading);
                }
            }
        }
    }

    fn learn_members(&mut self, members: &Members<'_>, reading: &Reading) {
        for (name, value) in &members.0 {
            // A flag beside a quantity is not one: `"available": true`.
            if matches!(value.get(), "null" | "true" | "false") {
                continue;
            }
            if self.names.len() < MAX_NAMES && self.seen.insert(name.clone()) {
                self.names.push(name.clone());
            }
            let Ok(Some(Scalar {
                text,
                is_number: false,
            })) = scalar(value)
            else {
                continue;
            };
            if is_quantity_name(name, reading) {
                self.style.learn(&text);
            }
            if is_padded(&text) && is_sku_name(name, reading) && !self.padded.contains(name) {
                self.padded.insert(name.clone());
            }
        }
    }

    /// Learns the quantity of a member of a map from SKU to stock.
    pub(super) fn learn_pair(&mut self, stock: &RawValue) {
        if let Ok(Some(Scalar {
            text,
            is_number: false,
        })) = scalar(stock)
        {
            self.style.learn(&text);
        }
    }

    /// Whether these names differ in nothing but their case.
    fn are_alike(&self, all: &[usize]) -> bool {
        let mut names = all.iter().filter_map(|at| self.names.get(*at));
        names
            .next()
            .is_none_or(|first| names.all(|name| is_named(name, first)))
    }

    /// Decides which member holds what.
    ///
    /// # Errors
    /// Two members may each hold the SKU.
    pub(super) fn plan(self, reading: &Reading) -> Result<Plan<'_>, FormatError> {
        let chosen = |field: Field, named: Option<&str>| {
            choose(field, self.names.iter().map(String::as_str), named)
        };
        let name = |at: usize| self.names.get(at).cloned();
        let sku = match chosen(Field::Sku, reading.sku.as_deref()) {
            Choice::None => None,
            Choice::At(at) => name(at),
            // One name in several cases: no product may have two that differ.
            Choice::Ambiguous(all) if self.are_alike(&all) => all.first().and_then(|at| name(*at)),
            Choice::Ambiguous(all) => {
                let all: Vec<_> = all
                    .into_iter()
                    .filter_map(name)
                    .map(|name| format!("'{name}'"))
                    .collect();
                return Err(FormatError::Unfit(format!(
                    "members {} may each be the SKU: set sku to the name of the one that is meant",
                    all.join(" and ")
                )));
            }
        };
        let quantities = match chosen(Field::Quantity, reading.quantity.as_deref()) {
            Choice::None => Vec::new(),
            Choice::At(at) => name(at).into_iter().collect(),
            // A product in which they agree has one reading.
            Choice::Ambiguous(all) => all.into_iter().filter_map(name).collect(),
        };
        let first = |field: Field, named: Option<&str>| match chosen(field, named) {
            Choice::None => None,
            Choice::At(at) => name(at),
            Choice::Ambiguous(all) => all.first().and_then(|at| name(*at)),
        };
        let warehouse = match chosen(Field::Warehouse, reading.warehouse.as_deref()) {
            Choice::None => None,
            Choice::At(at) => name(at),
            Choice::Ambiguous(all) => {
                let all: Vec<_> = all
                    .into_iter()
                    .filter_map(name)
                    .map(|name| format!("'{name}'"))
                    .collect();
                return Err(FormatError::Unfit(format!(
                    "members {} may each be the warehouse: set warehouse to the one that is meant",
                    all.join(" and ")
                )));
            }
        };
        let reserve = reading
            .reserve
            .as_deref()
            .and_then(|it| first(Field::Reserve, Some(it)));
        let updated_at = first(Field::UpdatedAt, reading.updated_at.as_deref());
        let style = self.style;
        let is_sku = |name: &String| sku.as_ref().is_some_and(|sku| is_named(name, sku));
        let has_padded_skus = self.padded.iter().any(is_sku);
        let names = self.names;
        Ok(Plan {
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
pub(super) struct Plan<'r> {
    reading: &'r Reading,
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

impl Plan<'_> {
    /// Describes how the document is read.
    pub(super) fn describe(&self, shape: &mut FileShape) {
        let shown: Vec<_> = self
            .names
            .iter()
            .take(20)
            .map(|name| format!("'{name}'"))
            .collect();
        shape.set("members", shown.join(", "));
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
    pub(super) fn read(&self, element: &RawValue, line: u64) -> Vec<Entry> {
        let mut product = Product {
            line,
            plan: self,
            text: element.get(),
            entries: Vec::new(),
        };
        if let Err((problem, sku)) = product.read() {
            return vec![problem.into_entry(line, element.get(), sku)];
        }
        product.entries
    }

    /// Reads a member of a map from SKU to stock.
    pub(super) fn read_pair(&self, sku: &str, stock: &RawValue, line: u64) -> Entry {
        let text = format!("{sku}: {}", stock.get());
        let sku = match self.reading.sku(sku) {
            Ok(sku) => sku,
            Err(problem) => return problem.into_entry(line, &text, None),
        };
        let mut statement = Statement::default();
        match scalar(stock) {
            Err(reason) => {
                return RowProblem::Rejected(format!("stock: {reason}")).into_entry(
                    line,
                    &text,
                    Some(sku),
                );
            }
            Ok(None) => statement.quantity = stated(String::new()),
            Ok(Some(scalar)) => {
                statement.style = self.style_of(&scalar);
                statement.quantity = stated(scalar.text);
            }
        }
        statement.into_entry(line, &Key::Sku(sku), self.reading)
    }

    fn style_of(&self, scalar: &Scalar) -> NumberStyle {
        if scalar.is_number {
            NumberStyle::LITERAL
        } else {
            self.style
        }
    }
}

/// An entry for an element that cannot be taken.
pub(super) fn rejected(line: u64, text: &str, reason: impl Into<String>) -> Entry {
    Entry::Rejected(Fault::new(line, text, reason))
}

struct Product<'a> {
    line: u64,
    plan: &'a Plan<'a>,
    text: &'a str,
    entries: Vec<Entry>,
}

/// Why a product is not applied, and its SKU if that much is certain.
type Refusal = (RowProblem, Option<String>);

impl Product<'_> {
    fn read(&mut self) -> Result<(), Refusal> {
        let rejected = |reason: String| (RowProblem::Rejected(reason), None);
        let members = Members::parse(self.text).map_err(rejected)?;
        let sku = self.sku(&members).map_err(|problem| (problem, None))?;
        let of_sku = |problem: RowProblem| (problem, Some(sku.clone()));
        let mut own = Statement::default();
        self.state(&mut own, &members).map_err(of_sku)?;
        if let Some(problem) = self.unread_stock(&members, own.quantity.is_stated()) {
            return Err(of_sku(problem));
        }
        let items = members
            .items()
            .map_err(|reason| of_sku(RowProblem::Rejected(reason)))?;
        let statements = match items {
            Some(_) if own.quantity.is_stated() => {
                let reason = "both the product and its items state stock".to_owned();
                return Err(of_sku(RowProblem::Rejected(reason)));
            }
            Some(items) => self.items(items, &own).map_err(of_sku)?,
            None => vec![own],
        };
        let key = Key::Sku(sku.clone());
        for statement in statements {
            let mut entry = statement.into_entry(self.line, &key, self.plan.reading);
            if let Entry::Rejected(fault) | Entry::Suspicious(fault) = &mut entry {
                *fault = Fault {
                    sku: fault.sku.take(),
                    ..Fault::new(self.line, self.text, &*fault.reason)
                };
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn sku(&self, members: &Members<'_>) -> Result<String, RowProblem> {
        let rejected = |reason: &str| RowProblem::Rejected(reason.to_owned());
        let Some(name) = &self.plan.sku else {
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
        if scalar.is_number && !is_plain && !self.plan.reading.takes_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, whose digits may be lost: write it as a string, or set \
                 suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        let may_lack_zeros = scalar.is_number && self.plan.has_padded_skus;
        if may_lack_zeros && !self.plan.reading.takes_suspicious_skus {
            return Err(RowProblem::Suspicious(format!(
                "{name} is the number {}, and other SKUs have zeros before their digits, which this \
                 one may have lost: write it as a string, or set suspicious_sku = \"take\"",
                scalar.text
            )));
        }
        self.plan.reading.sku(&scalar.text)
    }

    /// Stock of the product that its quantity may leave out: of its variants, or under another name.
    /// Where a setting names the quantity, that one is meant.
    fn unread_stock(&self, members: &Members<'_>, has_quantity: bool) -> Option<RowProblem> {
        if self.plan.reading.quantity.is_some() {
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
            let is_other_quantity = is_field(Field::Quantity, name, None)
                && matches!(scalar(value), Ok(Some(_)))
                && !has_quantity
                && !has_items;
            if is_other_quantity && let Some(quantity) = self.plan.quantities.first() {
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
        if !value.get().starts_with('[') || ITEMS.iter().any(|list| is_named(name, list)) {
            return false;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
        let is_variants = VARIANTS.iter().any(|known| is_named(name, known));
        let has_members = |text: &str| {
            let Ok(members) = Members::parse(text) else {
                return false;
            };
            let has = |name: &String| matches!(members.find(name), Ok(Some(_)));
            self.plan.sku.as_ref().is_some_and(has) && self.plan.quantities.iter().any(has)
        };
        let mut elements = elements.iter().map(|element| element.get());
        elements.any(|element| has_members(element) || (is_variants && is_product(element)))
    }

    /// Takes into a statement what these members say.
    fn state(&self, statement: &mut Statement, members: &Members<'_>) -> Result<(), RowProblem> {
        let plan = self.plan;
        if let Some(scalar) = members.quantity(&plan.quantities)? {
            statement.style = plan.style_of(&scalar);
            statement.quantity = stated(scalar.text);
        }
        let member = |name: &Option<String>| match name {
            Some(name) => members.scalar(name),
            None => Ok(None),
        };
        if let Some(place) = member(&plan.warehouse)? {
            statement.place = stated(place.text);
        }
        if let Some(reserve) = member(&plan.reserve)? {
            statement.reserve = stated(reserve.text);
        }
        if let Some(at) = member(&plan.updated_at)?
            && (plan.reading.updated_at.is_some() || moment(&at.text).is_ok())
        {
            // A member that only seems to be the time, and is none, says nothing.
            statement.at = stated(at.text);
        }
        Ok(())
    }

    /// The statements of a product's items, which may leave to the product what they share.
    fn items(&self, items: &RawValue, own: &Statement) -> Result<Vec<Statement>, RowProblem> {
        let items: Vec<&RawValue> =
            serde_json::from_str(items.get()).map_err(|e| format!("items: {e}"))?;
        let mut statements: Vec<Statement> = Vec::new();
        for item in &items {
            let members = Members::parse(item.get())?;
            if !members.is_for_sale()? {
                continue;
            }
            let mut statement = own.clone();
            self.state(&mut statement, &members)?;
            if statements
                .iter()
                .any(|other| other.place == statement.place)
            {
                let reason = "two of its items state stock at the same warehouse".to_owned();
                return Err(RowProblem::Rejected(reason));
            }
            statements.push(statement);
        }
        // That there are none says nothing: a shop may answer so for what it does not know.
        Ok(if statements.is_empty() {
            vec![own.clone()]
        } else {
            statements
        })
    }
}

fn stated(text: String) -> Once {
    let mut once = Once::default();
    once.state("", Ok(text));
    once
}

/// A string, or a number as it is written.
struct Scalar {
    text: String,
    is_number: bool,
}

/// The beginning of a value, for a message.
fn shown(value: &RawValue) -> String {
    value.get().chars().take(40).collect()
}

/// Reads a string or a number; `None` for null.
fn scalar(value: &RawValue) -> Result<Option<Scalar>, String> {
    let literal = value.get();
    match literal.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str(literal).map_err(|e| e.to_string())?;
            Ok(Some(Scalar {
                text,
                is_number: false,
            }))
        }
        Some(b'-' | b'0'..=b'9') => Ok(Some(Scalar {
            text: literal.to_owned(),
            is_number: true,
        })),
        Some(b'n') => Ok(None),
        Some(_) | None => Err(format!(
            "{} stands where a number or a text is wanted",
            shown(value)
        )),
    }
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn parse(object: &'a str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(object);
        json.deserialize_map(Collect)
            .map(Self)
            .map_err(|e| e.to_string())
    }

    /// The value of the member of that name; `None` if it is not there, or null.
    fn scalar(&self, name: &str) -> Result<Option<Scalar>, String> {
        let Some(value) = self.find(name)? else {
            return Ok(None);
        };
        scalar(value).map_err(|e| format!("{name}: {e}"))
    }

    /// The value of the member of that name, in whatever case it is written.
    fn find(&self, name: &str) -> Result<Option<&'a RawValue>, String> {
        let mut found = self.0.iter().filter(|(member, _)| is_named(member, name));
        let Some((first, value)) = found.next() else {
            return Ok(None);
        };
        match found.find(|(second, other)| second == first || other.get() != value.get()) {
            None => Ok(Some(value)),
            Some((second, _)) if second == first => Err(format!("'{first}' is stated twice")),
            Some((second, other)) => Err(format!(
                "'{first}' is {value} and '{second}' is {other}: leave one of them",
                value = shown(value),
                other = shown(other)
            )),
        }
    }

    /// The quantity. Where several members may hold it, all of them must, and must agree; null is an
    /// empty one.
    fn quantity(&self, names: &[String]) -> Result<Option<Scalar>, RowProblem> {
        let mut found: Option<(&str, Scalar)> = None;
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
            let Some(scalar) = scalar(value).map_err(|e| format!("{name}: {e}"))? else {
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
            (None, _) => Ok(empty.map(|_| Scalar {
                text: String::new(),
                is_number: false,
            })),
        }
    }

    /// The list of stock by warehouse or type, if there is one.
    fn items(&self) -> Result<Option<&'a RawValue>, String> {
        let mut lists = self.0.iter().filter(|(member, value)| {
            value.get().starts_with('[') && ITEMS.iter().any(|name| is_named(member, name))
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
        Ok(kind.is_none_or(|kind| kind.text.eq_ignore_ascii_case(FOR_SALE)))
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
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

//! One product: which members of it say what.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::sources::formats::fields::{Once, Statement, is_named, moment};
use crate::sources::{Entry, Fault, Key, Reading};

/// What shops call the SKU, the surest name first.
const SKUS: &[&str] = &[
    "sku",
    "offer_id",
    "offerId",
    "shopSku",
    "shop-sku",
    "shop_sku",
    "Ваш SKU",
    "article",
    "артикул",
    "код",
    "code",
];

/// What shops call how much there is.
const QUANTITIES: &[&str] =
    &["stock", "count", "quantity", "available", "остаток", "количество", "доступно"];

/// What shops call the warehouse.
const WAREHOUSES: &[&str] = &["warehouse", "warehouseId", "warehouse_id", "склад"];

/// What shops call the moment since when it is so.
const MOMENTS: &[&str] = &["updatedAt", "updated_at"];

/// What holds stock by warehouse, or by type. Source: `UpdateStock.items` of the Market, and its
/// read-back, `stocks`.
const ITEMS: &[&str] = &["items", "stocks"];

/// The one type of stock that is for sale. Source: `POST /stocks` and `getStocks` of the Market.
const FOR_SALE: &str = "FIT";

/// Whether a member of that name holds the SKU.
pub(super) fn is_sku_name(name: &str, reading: &Reading) -> bool {
    is_one_of(name, reading.sku.as_ref(), SKUS)
}

/// Whether a member of that name holds how much there is.
pub(super) fn is_quantity_name(name: &str, reading: &Reading) -> bool {
    is_one_of(name, reading.quantity.as_ref(), QUANTITIES)
}

fn is_one_of(name: &str, setting: Option<&String>, known: &[&str]) -> bool {
    match setting {
        Some(meant) => is_named(name, meant),
        None => known.iter().any(|known| is_named(name, known)),
    }
}

/// A product that cannot be taken.
pub(super) fn rejected(line: u64, text: &str, reason: impl Into<String>) -> Entry {
    Entry::Rejected(Fault::new(line, text, reason))
}

/// Reads an element of a list.
pub(super) fn read(element: &RawValue, line: u64, reading: &Reading) -> Vec<Entry> {
    let mut product = Product { line, reading, text: element.get(), entries: Vec::new() };
    if let Err(reason) = product.read() {
        return vec![rejected(line, element.get(), reason)];
    }
    // A doubt is about what is taken.
    if !product.entries.iter().any(|entry| matches!(entry, Entry::Row(_))) {
        product.entries.retain(|entry| !matches!(entry, Entry::Suspicious(_)));
    }
    product.entries
}

/// Reads a member of a map from SKU to stock.
pub(super) fn read_pair(sku: &str, stock: &RawValue, line: u64, reading: &Reading) -> Entry {
    let sku = sku.trim();
    if sku.is_empty() {
        return rejected(line, stock.get(), "the sku is empty");
    }
    let mut statement = Statement::default();
    if let Some(text) = scalar(stock).transpose() {
        statement.quantity.state("stock", text.map(|scalar| scalar.text));
    }
    statement.into_entry(line, &Key::Sku(sku.to_owned()), reading)
}

struct Product<'a> {
    line: u64,
    reading: &'a Reading,
    text: &'a str,
    entries: Vec<Entry>,
}

impl Product<'_> {
    fn read(&mut self) -> Result<(), String> {
        let members = Members::parse(self.text)?;
        let key = self.key(&members)?;
        let mut own = Statement::default();
        self.state(&mut own, &members)?;
        let items = members.items();
        let statements = match items {
            Some(_) if own.quantity.is_stated() => {
                return Err("both the product and its items state stock".to_owned());
            }
            Some(items) => self.items(items, &own)?,
            None => vec![own],
        };
        for statement in statements {
            let entry = statement.into_entry(self.line, &key, self.reading);
            self.entries.push(match entry {
                Entry::Rejected(fault) => {
                    Entry::Rejected(Fault::new(self.line, self.text, fault.reason).of(&key))
                }
                Entry::Row(_) | Entry::Article { .. } | Entry::NextPart | Entry::Suspicious(_) => {
                    entry
                }
            });
        }
        Ok(())
    }

    fn key(&mut self, members: &Members<'_>) -> Result<Key, String> {
        let (name, sku) = members.first(self.reading.sku.as_ref(), SKUS)?.ok_or("it has no sku")?;
        if sku.is_number {
            self.doubt(format!("{name} is the number {}, not a text", sku.text));
        }
        match sku.text.trim() {
            "" => Err(format!("{name} is empty")),
            sku => Ok(Key::Sku(sku.to_owned())),
        }
    }

    /// Takes into a statement what these members say.
    fn state(&mut self, statement: &mut Statement, members: &Members<'_>) -> Result<(), String> {
        let reading = self.reading;
        if let Some(text) = members.quantity(reading)? {
            statement.quantity = stated(text);
        }
        if let Some((_, place)) = members.first(reading.warehouse.as_ref(), WAREHOUSES)? {
            statement.place = stated(place.text);
        }
        if reading.reserve.is_some()
            && let Some((_, reserve)) = members.first(reading.reserve.as_ref(), &[])?
        {
            statement.reserve = stated(reserve.text);
        }
        let Some((name, at)) = members.first(reading.updated_at.as_ref(), MOMENTS)? else {
            return Ok(());
        };
        match moment(&at.text) {
            // Nobody has promised that this member is such a moment.
            Err(reason) if reading.updated_at.is_none() => self.doubt(format!("{name}: {reason}")),
            Ok(_) | Err(_) => statement.at = stated(at.text),
        }
        Ok(())
    }

    /// The statements of a product's items, which may leave to the product what they share.
    fn items(&mut self, items: &RawValue, own: &Statement) -> Result<Vec<Statement>, String> {
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
            if statements.iter().any(|other| other.place == statement.place) {
                return Err("two of its items state stock at the same warehouse".to_owned());
            }
            statements.push(statement);
        }
        // That there are none says nothing: a shop may answer so for what it does not know.
        Ok(if statements.is_empty() { vec![own.clone()] } else { statements })
    }

    fn doubt(&mut self, reason: String) {
        self.entries.push(Entry::Suspicious(Fault::new(self.line, self.text, reason)));
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

/// Reads a string or a number; `None` for null.
fn scalar(value: &RawValue) -> Result<Option<Scalar>, String> {
    let literal = value.get();
    match literal.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str(literal).map_err(|e| e.to_string())?;
            Ok(Some(Scalar { text, is_number: false }))
        }
        Some(b'-' | b'0'..=b'9') => Ok(Some(Scalar { text: literal.to_owned(), is_number: true })),
        Some(b'n') => Ok(None),
        Some(_) | None => {
            let shown: String = literal.chars().take(40).collect();
            Err(format!("{shown} stands where a number or a text is wanted"))
        }
    }
}

/// The members of an object, each name once.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn parse(object: &'a str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(object);
        json.deserialize_map(Collect).map(Self).map_err(|e| e.to_string())
    }

    /// The first member that says something: the one that is set, or one of those names.
    fn first(
        &self,
        setting: Option<&String>,
        known: &[&str],
    ) -> Result<Option<(&str, Scalar)>, String> {
        let set = setting.map(String::as_str);
        let names = if set.is_some() { set.as_slice() } else { known };
        for name in names {
            let Some((name, value)) = self.0.iter().find(|(member, _)| is_named(member, name))
            else {
                continue;
            };
            if let Some(scalar) = scalar(value).map_err(|e| format!("{name}: {e}"))? {
                return Ok(Some((name, scalar)));
            }
        }
        Ok(None)
    }

    /// How much there is. Of several members that could say it none is more right than the
    /// others: they must agree, or the settings must name one.
    fn quantity(&self, reading: &Reading) -> Result<Option<String>, String> {
        let is_meant = |(name, _): &&(String, _)| is_quantity_name(name, reading);
        let meant: Vec<_> = self.0.iter().filter(is_meant).collect();
        // `"available": true` beside a count is a flag.
        let is_flag = |value: &RawValue| matches!(value.get(), "true" | "false");
        let is_alone = meant.len() == 1;
        let mut said: Option<(&str, String)> = None;
        for (name, value) in meant {
            if is_flag(value) && !is_alone {
                continue;
            }
            let Some(scalar) = scalar(value).map_err(|e| format!("{name}: {e}"))? else {
                continue;
            };
            match &said {
                Some((first, text)) if *text != scalar.text => {
                    return Err(format!(
                        "{first} is {text} and {name} is {}; set quantity to the one that is meant",
                        scalar.text
                    ));
                }
                Some(_) => {}
                None => said = Some((name, scalar.text)),
            }
        }
        Ok(said.map(|(_, text)| text))
    }

    fn items(&self) -> Option<&'a RawValue> {
        let is_list = |value: &RawValue| value.get().starts_with('[');
        let mut lists = ITEMS.iter().filter_map(|name| {
            self.0.iter().find(|(member, value)| is_named(member, name) && is_list(value))
        });
        lists.next().map(|(_, value)| *value)
    }

    fn is_for_sale(&self) -> Result<bool, String> {
        let kind = self.first(None, &["type"])?;
        Ok(kind.is_none_or(|(_, kind)| kind.text.eq_ignore_ascii_case(FOR_SALE)))
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut collected = Vec::new();
        while let Some((name, value)) = members.next_entry::<String, &RawValue>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("'{name}' is stated twice")));
            }
            collected.push((name, value));
        }
        Ok(collected)
    }
}

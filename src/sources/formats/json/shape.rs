//! Which of the shapes a document has, found out without taking a row from it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use serde_json::value::RawValue;

use super::element::{is_quantity_name, is_sku_name};
use super::{Allowance, MAX_ASIDE, next_line, open, parse};
use crate::sources::Reading;
use crate::sources::formats::fields::is_named;
use crate::sources::formats::{FormatError, Input};

/// How a document is built.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// A list of products.
    List,
    /// An object with such a list at that path of members.
    Member(Vec<String>),
    /// A map from SKU to stock.
    Map,
    /// A single product.
    One,
    /// A product in each line.
    Lines,
}

impl Shape {
    /// Describes the shape for people; a path is written as the setting `list` has it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::List => "the document".to_owned(),
            Self::Member(path) => path.join("."),
            Self::Map => "a map from SKU to stock".to_owned(),
            Self::One => "a single product".to_owned(),
            Self::Lines => "lines".to_owned(),
        }
    }
}

/// The members that may hold the list of products. Sources: `UpdateStocksRequest.skus` of the
/// Market's campaigns and `skuItems` of its businesses; the others are what shops call theirs.
const LISTS: &[&str] = &[
    "skus", "skuItems", "items", "stocks", "offers", "products", "data", "rows", "result",
];

/// Lists that a product has of its own: its stock by warehouse.
const OF_PRODUCT: &[&str] = &["items", "stocks"];

/// Members by which a document describes itself, or an error; `code` is a SKU's name too, but not
/// certainly one here.
const ENVELOPE: &[&str] = &[
    "code",
    "status",
    "statusCode",
    "error",
    "errors",
    "message",
    "success",
    "ok",
    "total",
    "count",
    "size",
    "page",
    "pages",
    "limit",
    "offset",
    "version",
    "updated",
    "updatedAt",
    "timestamp",
    "date",
    "meta",
    "path",
    "detail",
    "title",
    "type",
    "id",
    "name",
    "time",
    "generated",
    "generatedAt",
    "createdAt",
    "sum",
    "shop",
    "shopId",
    "shop_id",
    "warehouseId",
    "warehouse_id",
    "requestId",
    "request_id",
    "requested",
    "source",
    "currency",
];

fn is_of_envelope(name: &str) -> bool {
    ENVELOPE.iter().any(|known| is_named(name, known))
}

/// Whether a member of that name may be the list of products.
pub(super) fn is_list_name(name: &str) -> bool {
    LISTS.iter().any(|list| is_named(name, list))
}

/// Levels of objects in which a list of products is looked for.
const MAX_LEVELS: usize = 5;

/// Finds out the shape, and leaves the input where it stopped.
pub(super) fn find(input: &mut dyn Input, reading: &Reading) -> Result<Shape, FormatError> {
    if let Some(list) = &reading.list {
        return Ok(Shape::Member(list.split('.').map(str::to_owned).collect()));
    }
    match first_sign(input, reading)? {
        Some(b'[') => return Ok(Shape::List),
        Some(b'{') => {}
        Some(_) | None => {
            return Err(FormatError::Broken {
                place: "its beginning".to_owned(),
                reason: "JSON begins with { or [".to_owned(),
            });
        }
    }
    input.rewind()?;
    if has_lines(input, reading) {
        return Ok(Shape::Lines);
    }
    input.rewind()?;
    look_through(input, reading)
}

/// The first byte that is no blank.
fn first_sign(input: &mut dyn Input, reading: &Reading) -> Result<Option<u8>, FormatError> {
    let mut utf8 = open(input, reading)?;
    loop {
        let waiting = utf8.fill_buf().map_err(|e| super::failure_of(e, 1))?;
        if let Some(sign) = waiting.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(Some(*sign));
        }
        match waiting.len() {
            0 => return Ok(None),
            blanks => utf8.consume(blanks),
        }
    }
}

/// Whether each line is a document: the first one is, and is not the only one; or it is wrong in
/// itself rather than unended, and the second one is.
///
/// A fault on the way says no: whoever reads the document then tells it better.
fn has_lines(input: &mut dyn Input, reading: &Reading) -> bool {
    let Ok(mut utf8) = open(input, reading) else {
        return false;
    };
    let mut said = || loop {
        match next_line(&mut utf8, 1) {
            Ok(Some(line)) if line.trim().is_empty() => {}
            Ok(line) => return line,
            Err(_) => return None,
        }
    };
    let is_document = |line: &str| serde_json::from_str::<IgnoredAny>(line);
    let Some(first) = said() else { return false };
    match is_document(&first) {
        Ok(_) => said().is_some(),
        Err(e) if e.is_eof() => false,
        Err(_) => said().is_some_and(|second| {
            second.trim_start().starts_with('{') && is_document(&second).is_ok()
        }),
    }
}

fn look_through(input: &mut dyn Input, reading: &Reading) -> Result<Shape, FormatError> {
    let utf8 = open(input, reading)?;
    let allowance = utf8.allowance();
    let mut found = None;
    let (mut nested, mut odd) = (Vec::new(), None);
    let look = Look {
        reading,
        allowance: &allowance,
        found: &mut found,
        odd: &mut odd,
        nested: &mut nested,
    };
    let seen = parse(utf8, look);
    match found {
        // Looking stops where the list begins, as if that were an error.
        Some(shape) => Ok(shape),
        None if seen.as_ref().is_ok_and(|shape| *shape == Shape::Map) && !nested.is_empty() => {
            let paths: Vec<_> = nested.iter().map(|path| format!("'{path}'")).collect();
            Err(FormatError::Unfit(format!(
                "the document is neither a list of products nor a map from SKU to stock; lists of \
                 objects are at {}: set list to the path of the one that is meant",
                paths.join(", ")
            )))
        }
        None => match odd {
            Some(name) if seen.is_ok() => Err(FormatError::Unfit(format!(
                "the document has no list of products, and with the member '{name}' it is not a map \
                 from SKU to stock: set list to the path of the list, or sku and quantity to the names \
                 of the members if it is a single product"
            ))),
            Some(_) | None => seen,
        },
    }
}

struct Look<'a> {
    reading: &'a Reading,
    allowance: &'a Allowance,
    found: &'a mut Option<Shape>,
    /// A member that no map from SKU to stock has.
    odd: &'a mut Option<String>,
    /// Paths of lists that are not members of the document itself.
    nested: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Shape, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let (mut has_sku, mut has_quantity) = (false, false);
        let mut odd = None;
        self.allowance.set(MAX_ASIDE);
        while let Some(name) = members.next_key::<String>()? {
            if is_list_name(&name) {
                let list = members.next_value_seed(NoList {
                    path: &name,
                    nested: self.nested,
                });
                // `items` next to a SKU are those of this one product.
                let is_of_product = has_sku && OF_PRODUCT.iter().any(|list| is_named(&name, list));
                let shape = if is_of_product {
                    Shape::One
                } else {
                    Shape::Member(vec![name.clone()])
                };
                list.inspect_err(|_| *self.found = Some(shape))?;
                odd.get_or_insert(name);
            } else {
                let is_meant = self.reading.sku.is_some() || !is_of_envelope(&name);
                let is_sku = is_meant && is_sku_name(&name, self.reading);
                let is_quantity = is_quantity_name(&name, self.reading);
                has_sku |= is_sku;
                has_quantity |= is_quantity;
                let value = members.next_value::<Box<RawValue>>()?;
                note_lists(&value, &name, 1, self.nested);
                if is_sku || is_quantity || is_of_envelope(&name) {
                    odd.get_or_insert(name);
                }
            }
            self.allowance.set(MAX_ASIDE);
        }
        match odd {
            Some(_) if has_sku && has_quantity => Ok(Shape::One),
            // A document that describes itself, or an error, is not a map from SKU to stock.
            odd => {
                *self.odd = odd;
                Ok(Shape::Map)
            }
        }
    }
}

/// Passes over anything but a list, and notes the lists within.
pub(super) struct NoList<'a> {
    pub(super) path: &'a str,
    pub(super) nested: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for NoList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NoList<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no second list of products")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((name, value)) = members.next_entry::<String, Box<RawValue>>()? {
            note_lists(&value, &format!("{}.{name}", self.path), 2, self.nested);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(
            "there are two lists of products, and only one can be meant",
        ))
    }
}

/// Paths that a message lists.
const MAX_PATHS: usize = 5;

/// Notes the paths of the lists of objects within a value.
fn note_lists(value: &RawValue, path: &str, level: usize, nested: &mut Vec<String>) {
    let literal = value.get();
    if literal.starts_with('[') {
        let elements = serde_json::from_str::<Vec<&RawValue>>(literal).unwrap_or_default();
        if elements.iter().any(|it| it.get().starts_with('{')) && nested.len() < MAX_PATHS {
            nested.push(path.to_owned());
        }
    } else if literal.starts_with('{') && level < MAX_LEVELS {
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(literal);
        for (name, value) in members.unwrap_or_default() {
            note_lists(value, &format!("{path}.{name}"), level + 1, nested);
        }
    }
}

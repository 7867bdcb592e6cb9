//! Detection of the layout of a JSON document, before its products are read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::member_map::{is_quantity_name, is_sku_name};
use super::{MAX_SKIPPED_BYTES, ReadBudget, next_line, open, parse};
use crate::ReadSettings;
use crate::formats::fields::same_name;
use crate::formats::{FormatError, Input};

/// Layout of a JSON document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum JsonLayout {
    /// A list of products.
    List,
    /// An object with a list of products at this path of members.
    NestedList(Vec<String>),
    /// A map from SKU to stock.
    Map,
    /// A single product.
    SingleProduct,
    /// One product per line.
    Lines,
}

impl JsonLayout {
    /// Describes the layout for users; a path has the syntax of the setting `list`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::List => "the document".to_owned(),
            Self::NestedList(path) => path.join("."),
            Self::Map => "a map from SKU to stock".to_owned(),
            Self::SingleProduct => "a single product".to_owned(),
            Self::Lines => "lines".to_owned(),
        }
    }
}

/// Members that may hold the list of products. Sources: `UpdateStocksRequest.skus` of the Market's
/// campaigns and `skuItems` of its businesses; the others are common names in shops' own documents.
const LIST_NAMES: &[&str] = &[
    "skus", "skuItems", "items", "stocks", "offers", "products", "data", "rows", "result",
];

/// Lists inside a product: its stock by warehouse.
const PRODUCT_LIST_NAMES: &[&str] = &["items", "stocks"];

/// Members that describe the document, or an error. `code` is also a name of the SKU, but at this
/// level it may be an error code.
const ENVELOPE_NAMES: &[&str] = &[
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

fn is_envelope_name(name: &str) -> bool {
    ENVELOPE_NAMES.iter().any(|known| same_name(name, known))
}

/// Returns true if a member of this name may be the list of products.
pub(super) fn is_list_name(name: &str) -> bool {
    LIST_NAMES.iter().any(|list| same_name(name, list))
}

/// Most levels of objects that are searched for a list of products.
const MAX_LEVELS: usize = 5;

/// Detects the layout. Leaves the input at an unspecified position.
pub(super) fn detect_layout(
    input: &mut dyn Input,
    reading: &ReadSettings,
) -> Result<JsonLayout, FormatError> {
    if let Some(list) = &reading.list_path {
        return Ok(JsonLayout::NestedList(
            list.split('.').map(str::to_owned).collect(),
        ));
    }
    match first_non_blank(input, reading)? {
        Some(b'[') => return Ok(JsonLayout::List),
        Some(b'{') => {}
        Some(_) | None => {
            return Err(FormatError::Broken {
                place: "its beginning".to_owned(),
                reason: "JSON begins with { or [".to_owned(),
            });
        }
    }
    input.rewind()?;
    if is_ndjson(input, reading) {
        return Ok(JsonLayout::Lines);
    }
    input.rewind()?;
    inspect_document(input, reading)
}

/// Returns the first byte that is not whitespace.
fn first_non_blank(
    input: &mut dyn Input,
    reading: &ReadSettings,
) -> Result<Option<u8>, FormatError> {
    let mut utf8 = open(input, reading)?;
    loop {
        let buffer = utf8.fill_buf().map_err(|e| super::line_error(e, 1))?;
        if let Some(first) = buffer.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(Some(*first));
        }
        match buffer.len() {
            0 => return Ok(None),
            blanks => utf8.consume(blanks),
        }
    }
}

/// Returns true if each line is a document: either the first line is valid JSON and another line
/// follows, or the first line is invalid but not incomplete, and the second one is a valid object.
///
/// Read errors count as false, because reading the document reports them with more detail.
fn is_ndjson(input: &mut dyn Input, reading: &ReadSettings) -> bool {
    let Ok(mut utf8) = open(input, reading) else {
        return false;
    };
    let mut next_non_blank = || loop {
        match next_line(&mut utf8, 1) {
            Ok(Some(line)) if line.trim().is_empty() => {}
            Ok(line) => return line,
            Err(_) => return None,
        }
    };
    let parse_document = |line: &str| serde_json::from_str::<IgnoredAny>(line);
    let Some(first) = next_non_blank() else {
        return false;
    };
    match parse_document(&first) {
        Ok(_) => next_non_blank().is_some(),
        Err(e) if e.is_eof() => false,
        Err(_) => next_non_blank().is_some_and(|second| {
            second.trim_start().starts_with('{') && parse_document(&second).is_ok()
        }),
    }
}

fn inspect_document(
    input: &mut dyn Input,
    reading: &ReadSettings,
) -> Result<JsonLayout, FormatError> {
    let utf8 = open(input, reading)?;
    let budget = utf8.budget();
    let mut found = None;
    let (mut list_paths, mut non_map_member) = (Vec::new(), None);
    let inspection = LayoutInspection {
        reading,
        budget: &budget,
        found: &mut found,
        non_map_member: &mut non_map_member,
        list_paths: &mut list_paths,
    };
    let result = parse(utf8, inspection);
    match found {
        // The inspection stops at the list with an error that is not reported.
        Some(layout) => Ok(layout),
        None if result
            .as_ref()
            .is_ok_and(|layout| *layout == JsonLayout::Map)
            && !list_paths.is_empty() =>
        {
            let paths: Vec<_> = list_paths.iter().map(|path| format!("'{path}'")).collect();
            Err(FormatError::Unusable(format!(
                "the document is neither a list of products nor a map from SKU to stock; lists of \
                 objects are at {}: set list to the path of the right one",
                paths.join(", ")
            )))
        }
        None => match non_map_member {
            Some(name) if result.is_ok() => Err(FormatError::Unusable(format!(
                "the document has no list of products, and because of its member '{name}' it is not a \
                 map from SKU to stock: set list to the path of the list, or set sku and quantity to \
                 the names of the members if it is a single product"
            ))),
            Some(_) | None => result,
        },
    }
}

struct LayoutInspection<'a> {
    reading: &'a ReadSettings,
    budget: &'a ReadBudget,
    found: &'a mut Option<JsonLayout>,
    /// A member that does not occur in a map from SKU to stock.
    non_map_member: &'a mut Option<String>,
    /// Paths of nested lists of objects.
    list_paths: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for LayoutInspection<'_> {
    type Value = JsonLayout;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<JsonLayout, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LayoutInspection<'_> {
    type Value = JsonLayout;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<JsonLayout, A::Error> {
        let (mut has_sku, mut has_quantity) = (false, false);
        let mut non_map_member = None;
        self.budget.set(MAX_SKIPPED_BYTES);
        while let Some(name) = members.next_key::<String>()? {
            if is_list_name(&name) {
                let list = members.next_value_seed(RejectList {
                    path: &name,
                    list_paths: self.list_paths,
                });
                // `items` beside a SKU belong to this single product.
                let is_product_list =
                    has_sku && PRODUCT_LIST_NAMES.iter().any(|list| same_name(&name, list));
                let layout = if is_product_list {
                    JsonLayout::SingleProduct
                } else {
                    JsonLayout::NestedList(vec![name.clone()])
                };
                list.inspect_err(|_| *self.found = Some(layout))?;
                non_map_member.get_or_insert(name);
            } else {
                let may_be_sku = self.reading.sku.is_some() || !is_envelope_name(&name);
                let is_sku = may_be_sku && is_sku_name(&name, self.reading);
                let is_quantity = is_quantity_name(&name, self.reading);
                has_sku |= is_sku;
                has_quantity |= is_quantity;
                let value = members.next_value::<Box<RawValue>>()?;
                collect_list_paths(&value, &name, 1, self.list_paths);
                if is_sku || is_quantity || is_envelope_name(&name) {
                    non_map_member.get_or_insert(name);
                }
            }
            self.budget.set(MAX_SKIPPED_BYTES);
        }
        match non_map_member {
            Some(_) if has_sku && has_quantity => Ok(JsonLayout::SingleProduct),
            // A document with members such as `status` or `error` is not a map from SKU to stock.
            non_map_member => {
                *self.non_map_member = non_map_member;
                Ok(JsonLayout::Map)
            }
        }
    }
}

/// Skips any value except a list, which is an error, and collects the paths of nested lists.
pub(super) struct RejectList<'a> {
    pub(super) path: &'a str,
    pub(super) list_paths: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for RejectList<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RejectList<'_> {
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
            collect_list_paths(&value, &format!("{}.{name}", self.path), 2, self.list_paths);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("the document has two lists of products"))
    }
}

/// Most paths that a message lists.
const MAX_LISTED_PATHS: usize = 5;

/// Collects the paths of the lists of objects in a value.
fn collect_list_paths(value: &RawValue, path: &str, level: usize, list_paths: &mut Vec<String>) {
    let literal = value.get();
    if literal.starts_with('[') {
        let elements = serde_json::from_str::<Vec<&RawValue>>(literal).unwrap_or_default();
        if elements.iter().any(|it| it.get().starts_with('{'))
            && list_paths.len() < MAX_LISTED_PATHS
        {
            list_paths.push(path.to_owned());
        }
    } else if literal.starts_with('{') && level < MAX_LEVELS {
        let members = serde_json::from_str::<BTreeMap<String, &RawValue>>(literal);
        for (name, value) in members.unwrap_or_default() {
            collect_list_paths(value, &format!("{path}.{name}"), level + 1, list_paths);
        }
    }
}

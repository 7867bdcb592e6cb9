//! Detection of the layout of a JSON document, before its products are read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::member_map::{is_quantity_name, is_sku_name};
use super::members::ITEM_LIST_NAMES;
use super::{MAX_SKIPPED_BYTES, ReadBudget, next_line, open, parse, read_failure};
use crate::ReadSettings;
use crate::formats::fields::is_one_of;
use crate::formats::{FormatError, Input, quote_names};

/// Layout of a JSON document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum JsonLayout {
    /// A list of products at this path of members; the document itself if the path is empty.
    List(Vec<String>),
    /// A map from SKU to stock.
    Map,
    /// A single product.
    SingleProduct,
    /// One product per line.
    Lines,
}

impl JsonLayout {
    pub(super) fn list_path(&self) -> Option<&[String]> {
        match self {
            Self::List(path) => Some(path),
            Self::Map | Self::SingleProduct | Self::Lines => None,
        }
    }

    /// Describes the layout for users; a path has the syntax of the setting `list`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::List(path) if path.is_empty() => "the document".to_owned(),
            Self::List(path) => path.join("."),
            Self::Map => "a map from SKU to stock".to_owned(),
            Self::SingleProduct => "a single product".to_owned(),
            Self::Lines => "lines".to_owned(),
        }
    }
}

/// Members that may hold the list of products, separated by blanks. Sources:
/// `UpdateStocksRequest.skus` of the Market's campaigns and `skuItems` of its businesses; the others
/// are common names in shops' own documents.
const LIST_NAMES: &str = "skus skuItems items stocks offers products data rows result";

/// Members that describe the document, or an error. `code` is also a name of the SKU, but at this
/// level it may be an error code.
const ENVELOPE_NAMES: &str = "\
    code status statusCode error errors message success ok total count size page pages limit \
    offset version updated updatedAt timestamp date meta path detail title type id name time \
    generated generatedAt createdAt sum shop shopId shop_id warehouseId warehouse_id requestId \
    request_id requested source currency";

fn is_envelope_name(name: &str) -> bool {
    is_one_of(name, ENVELOPE_NAMES)
}

/// Returns true if a member of this name may be the list of products.
pub(super) fn is_list_name(name: &str) -> bool {
    is_one_of(name, LIST_NAMES)
}

/// Most levels of objects that are searched for a list of products.
const MAX_LEVELS: usize = 5;

/// Detects the layout. Leaves the input at an unspecified position.
pub(super) fn detect_layout(
    input: &mut dyn Input,
    reading: &ReadSettings,
) -> Result<JsonLayout, FormatError> {
    if let Some(list) = &reading.list_path {
        let path = list.split('.').map(str::to_owned).collect();
        return Ok(JsonLayout::List(path));
    }
    let mut bytes = open(input, reading)?.bytes();
    let first = bytes.find(|byte| !matches!(byte, Ok(blank) if blank.is_ascii_whitespace()));
    let first = first.transpose();
    match first.map_err(|e| read_failure(e, "line 1".to_owned()))? {
        Some(b'[') => Ok(JsonLayout::List(Vec::new())),
        Some(b'{') if is_ndjson(input, reading) => Ok(JsonLayout::Lines),
        Some(b'{') => inspect_document(input, reading),
        Some(_) | None => Err(FormatError::broken(
            "its beginning",
            "JSON begins with { or [",
        )),
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
    let mut inspection = LayoutInspection {
        reading,
        budget: utf8.budget(),
        found: None,
        has_sku: false,
        has_quantity: false,
        non_map_member: None,
        list_paths: Vec::new(),
    };
    let result = parse(utf8, &mut inspection);
    if let Some(layout) = inspection.found {
        // The inspection stops at the list with an error that is not reported.
        return Ok(layout);
    }
    result?;
    if inspection.has_sku && inspection.has_quantity {
        return Ok(JsonLayout::SingleProduct);
    }
    if !inspection.list_paths.is_empty() {
        return Err(FormatError::Unusable(format!(
            "the document is neither a list of products nor a map from SKU to stock; lists of \
             objects are at {}: set list to the path of the right one",
            quote_names(&inspection.list_paths, ", ")
        )));
    }
    match inspection.non_map_member {
        None => Ok(JsonLayout::Map),
        // A document with members such as `status` or `error` is not a map from SKU to stock.
        Some(name) => Err(FormatError::Unusable(format!(
            "the document has no list of products, and because of its member '{name}' it is not a \
             map from SKU to stock: set list to the path of the list, or set sku and quantity to \
             the names of the members if it is a single product"
        ))),
    }
}

/// Search for the list of products among the members of a document.
struct LayoutInspection<'a> {
    reading: &'a ReadSettings,
    budget: ReadBudget,
    found: Option<JsonLayout>,
    has_sku: bool,
    has_quantity: bool,
    /// The first member that does not occur in a map from SKU to stock.
    non_map_member: Option<String>,
    /// Paths of nested lists of objects.
    list_paths: Vec<String>,
}

impl<'de> DeserializeSeed<'de> for &mut LayoutInspection<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut LayoutInspection<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.budget.set(MAX_SKIPPED_BYTES);
        while let Some(name) = members.next_key::<String>()? {
            let is_envelope = is_envelope_name(&name);
            let is_list = is_list_name(&name);
            if is_list {
                let list = members.next_value_seed(RejectList {
                    path: &name,
                    list_paths: &mut self.list_paths,
                });
                // `items` beside a SKU belong to this single product.
                let layout = if self.has_sku && is_one_of(&name, ITEM_LIST_NAMES) {
                    JsonLayout::SingleProduct
                } else {
                    JsonLayout::List(vec![name.clone()])
                };
                list.inspect_err(|_| self.found = Some(layout))?;
            } else {
                let value = members.next_value::<Box<RawValue>>()?;
                collect_list_paths(&value, &name, 1, &mut self.list_paths);
            }
            let may_be_sku = !is_list && (self.reading.sku.is_some() || !is_envelope);
            let is_sku = may_be_sku && is_sku_name(&name, self.reading);
            let is_quantity = !is_list && is_quantity_name(&name, self.reading);
            self.has_sku |= is_sku;
            self.has_quantity |= is_quantity;
            if is_list || is_sku || is_quantity || is_envelope {
                self.non_map_member.get_or_insert(name);
            }
            self.budget.set(MAX_SKIPPED_BYTES);
        }
        Ok(())
    }
}

/// Skips any value except a list, which is an error, and collects the paths of nested lists.
struct RejectList<'a> {
    path: &'a str,
    list_paths: &'a mut Vec<String>,
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

//! Members of a JSON object, and their scalar values. Duplicate members must agree.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::RowProblem;
use crate::formats::fields::{is_one_of, same_name};

/// Members with the stock by warehouse or type. Sources: `UpdateStock.items` of the Market, and
/// `stocks` of its read-back.
pub(super) const ITEM_LIST_NAMES: &str = "items stocks";

/// The only type of stock that is for sale. Sources: `POST /stocks` and `getStocks` of the Market.
const SELLABLE_TYPE: &str = "FIT";

/// Members of an object, in their order.
pub(super) struct JsonMembers<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'a> JsonMembers<'a> {
    pub(super) fn parse(object: &'a str) -> Result<Self, String> {
        let mut json = serde_json::Deserializer::from_str(object);
        json.deserialize_map(CollectMembers)
            .map(Self)
            .map_err(|e| e.to_string())
    }

    /// Returns the value of a member; `None` if it is absent or null.
    pub(super) fn scalar(&self, name: &str) -> Result<Option<JsonScalar>, String> {
        let Some(value) = self.find(name)? else {
            return Ok(None);
        };
        parse_scalar(value).map_err(|e| format!("{name}: {e}"))
    }

    /// Returns the value of a member, ignoring the case of its name.
    pub(super) fn find(&self, name: &str) -> Result<Option<&'a RawValue>, String> {
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

    /// Returns the quantity. If several members may hold it, all of them must be present and agree.
    /// A null is an empty quantity.
    pub(super) fn quantity(&self, names: &[String]) -> Result<Option<JsonScalar>, RowProblem> {
        let mut found: Option<(&str, JsonScalar)> = None;
        let (mut empty, mut missing) = (None, None);
        for name in names {
            let Some(value) = self.find(name)? else {
                missing = Some(name);
                continue;
            };
            // A boolean beside another quantity is a flag, such as `"available": true`.
            if matches!(value.get(), "true" | "false") && names.len() > 1 {
                continue;
            }
            let scalar = parse_scalar(value).map_err(|e| format!("{name}: {e}"))?;
            match (&found, scalar) {
                (_, None) => empty = Some(name),
                (None, Some(scalar)) => found = Some((name, scalar)),
                (Some((first, other)), Some(scalar)) if other.text != scalar.text => {
                    return Err(RowProblem::Suspicious(format!(
                        "{first} is {} and {name} is {}: set quantity to the name of the right one",
                        other.text, scalar.text
                    )));
                }
                (Some(_), Some(_)) => {}
            }
        }
        match (found, empty.or(missing)) {
            (Some((name, scalar)), Some(other)) => Err(RowProblem::Suspicious(format!(
                "{name} is {} but {other} is missing: set quantity to the name of the right one",
                scalar.text
            ))),
            (Some((_, scalar)), None) => Ok(Some(scalar)),
            (None, _) => Ok(empty.map(|_| JsonScalar::default())),
        }
    }

    /// Returns the list of stock by warehouse or type, if the product has one.
    pub(super) fn items(&self) -> Result<Option<&'a RawValue>, String> {
        let mut lists = self.0.iter().filter(|(member, value)| {
            value.get().starts_with('[') && is_one_of(member, ITEM_LIST_NAMES)
        });
        match (lists.next(), lists.next()) {
            (Some((first, _)), Some((second, _))) => Err(format!(
                "'{first}' and '{second}' are both lists of stock: leave one of them"
            )),
            (first, _) => Ok(first.map(|(_, value)| *value)),
        }
    }

    pub(super) fn is_for_sale(&self) -> Result<bool, String> {
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

/// A string, or the literal of a number.
#[derive(Default)]
pub(super) struct JsonScalar {
    pub(super) text: String,
    pub(super) is_number: bool,
}

/// Reads a string or a number; `None` for null.
pub(super) fn parse_scalar(value: &RawValue) -> Result<Option<JsonScalar>, String> {
    let literal = value.get();
    let (text, is_number) = match literal.as_bytes().first() {
        Some(b'"') => {
            let text = serde_json::from_str(literal).map_err(|e| e.to_string())?;
            (text, false)
        }
        Some(b'-' | b'0'..=b'9') => (literal.to_owned(), true),
        Some(b'n') => return Ok(None),
        Some(_) | None => {
            return Err(format!("{} must be a number or a string", excerpt(value)));
        }
    };
    Ok(Some(JsonScalar { text, is_number }))
}

/// Returns the beginning of a value, for a message.
fn excerpt(value: &RawValue) -> String {
    value.get().chars().take(40).collect()
}

//! JSON values that borrow from the request body, for strict and cheap validation of large updates.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use strict_http::json::JsonText;

/// Any JSON value. Strings without escapes borrow from the body.
///
/// `serde_json::Value` needs ten allocations for each SKU of an update. In a rehearsal with a
/// million SKUs the simulator itself would then dominate the measurements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BorrowedJson<'a> {
    Null,
    Bool(bool),
    /// Whole number that fits into `u64`. Every other number is [`Self::OtherNumber`].
    Unsigned(u64),
    OtherNumber,
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(BorrowedObject<'a>),
}

/// Members of an object in their original order. Parsing rejects duplicate members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BorrowedObject<'a>(Vec<(Cow<'a, str>, BorrowedJson<'a>)>);

impl<'a> BorrowedObject<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&BorrowedJson<'a>> {
        let mut members = self.0.iter();
        let member = members.find(|(member, _)| member == name);
        member.map(|(_, value)| value)
    }
}

impl<'a> BorrowedJson<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|e| format!("Illegal input: {e}"))
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        let Self::Bool(flag) = self else { return None };
        Some(*flag)
    }

    /// Returns a positive whole number, such as an id.
    pub(crate) fn as_positive(&self) -> Option<u64> {
        let Self::Unsigned(it) = self else {
            return None;
        };
        Some(*it).filter(|it| *it > 0)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        let Self::Text(text) = self else { return None };
        Some(text)
    }

    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        let Self::Array(list) = self else { return None };
        Some(list)
    }

    pub(crate) fn as_object(&self) -> Option<&BorrowedObject<'a>> {
        let Self::Object(it) = self else { return None };
        Some(it)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedJson<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BorrowedJsonVisitor)
    }
}

struct BorrowedJsonVisitor;

impl<'de> Visitor<'de> for BorrowedJsonVisitor {
    type Value = BorrowedJson<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BorrowedJson::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(BorrowedJson::Bool(value))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(BorrowedJson::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(BorrowedJson::OtherNumber)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(BorrowedJson::OtherNumber)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(BorrowedJson::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(BorrowedJson::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(value) = seq.next_element()? {
            items.push(value);
        }
        Ok(BorrowedJson::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'_, str>, BorrowedJson<'_>)> = Vec::with_capacity(2);
        while let Some((JsonText(name), value)) = map.next_entry()? {
            if members.iter().any(|(member, _)| *member == name) {
                return Err(A::Error::custom(format_args!("duplicate member '{name}'")));
            }
            members.push((name, value));
        }
        Ok(BorrowedJson::Object(BorrowedObject(members)))
    }
}

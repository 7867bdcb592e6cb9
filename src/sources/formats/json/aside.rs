//! What stands beside the list of products: a second list, and what tells that the list is one page
//! of a longer one.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::element::is_product;
use super::shape::is_list_name;
use crate::sources::formats::fields::is_named;

/// Objects in which a document tells about its pages.
const ABOUT_PAGES: &[&str] = &["meta", "pagination", "paging", "page", "pageInfo", "links"];

/// Members that state how many products there are on all pages.
const TOTAL: &[&str] = &["total", "totalcount", "totalitems", "totalelements", "size", "count"];
/// Members that only a page has.
const OF_PAGE: &[&str] =
    &["limit", "perpage", "pagesize", "offset", "skip", "page", "currentpage", "pagenumber"];
/// Members that state how many pages there are.
const PAGES: &[&str] = &["pages", "totalpages", "pagecount", "lastpage"];
/// Members that say that there is a next page, or where.
const NEXT: &[&str] = &[
    "next",
    "nextpage",
    "nextpageurl",
    "nexthref",
    "nextcursor",
    "nextpagetoken",
    "hasmore",
    "hasnext",
    "hasnextpage",
];

/// A member beside the list.
#[derive(Debug, PartialEq)]
enum Value {
    /// Null, `false` or an empty text.
    Nothing,
    Number(u64),
    /// `true`, or a text.
    Something,
    /// An object's members, without objects and lists in it.
    Object(Vec<(String, Self)>),
    /// A list, and whether its first element is a product.
    List(bool),
}

/// What a document's members tell about its list.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The first member that may be a list of products too.
    second_list: Option<String>,
    total: Option<(String, u64)>,
    pages: Option<(String, u64)>,
    next: Option<String>,
    /// Some member is one that only a page has.
    is_page: bool,
}

impl Beside {
    /// Reads the value of a member, and learns from it.
    ///
    /// # Errors
    /// Its text is no JSON.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        members: &mut A,
    ) -> Result<(), A::Error> {
        let value = members.next_value_seed(Read { is_inner: false })?;
        match value {
            Value::List(is_of_products) if is_of_products || is_list_name(name) => {
                self.second_list.get_or_insert(name.to_owned());
            }
            Value::Object(inner) if ABOUT_PAGES.iter().any(|known| is_named(name, known)) => {
                for (name, value) in inner {
                    self.learn(&name, &value);
                }
            }
            value => self.learn(name, &value),
        }
        Ok(())
    }

    fn learn(&mut self, name: &str, value: &Value) {
        let plain: String =
            name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let is_one_of = |known: &[&str]| known.contains(&plain.as_str());
        match value {
            Value::Number(number) if is_one_of(TOTAL) => {
                self.total.get_or_insert((name.to_owned(), *number));
            }
            Value::Number(number) if is_one_of(PAGES) => {
                self.pages.get_or_insert((name.to_owned(), *number));
            }
            Value::Number(_) if is_one_of(OF_PAGE) => self.is_page = true,
            Value::Number(_) | Value::Something if is_one_of(NEXT) => {
                self.next.get_or_insert(name.to_owned());
            }
            Value::Number(_)
            | Value::Something
            | Value::Nothing
            | Value::Object(_)
            | Value::List(_) => {}
        }
    }

    /// Checks that the list, which has so many products, is the only one and is all of it.
    ///
    /// # Errors
    /// There is a second list although no setting names one, or the list is one page of several.
    pub(super) fn check(&self, products: u64, is_list_set: bool) -> Result<(), String> {
        if let Some(name) = self.second_list.as_ref().filter(|_| !is_list_set) {
            return Err(format!(
                "there are two lists of products, '{name}' is one: set list to the one that is meant"
            ));
        }
        let told = match (&self.total, &self.pages, &self.next) {
            (Some((name, total)), pages, next)
                if self.is_page || pages.is_some() || next.is_some() =>
            {
                (*total > products).then(|| format!("its '{name}' is {total}"))
            }
            (_, Some((name, pages)), _) if *pages > 1 => Some(format!("its '{name}' is {pages}")),
            (_, _, Some(name)) => Some(format!("its '{name}' says that there is a next one")),
            _ => None,
        };
        told.map_or(Ok(()), |told| {
            Err(format!(
                "the list has {products} products and is one page of several, {told}: put the \
                 products of all pages into one list"
            ))
        })
    }
}

/// Reads a value without keeping its lists.
struct Read {
    /// Whether it is in an object beside the list.
    is_inner: bool,
}

impl<'de> DeserializeSeed<'de> for Read {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, is_so: bool) -> Result<Value, E> {
        Ok(if is_so { Value::Something } else { Value::Nothing })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(if text.trim().is_empty() { Value::Nothing } else { Value::Something })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut inner = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if self.is_inner {
                members.next_value::<IgnoredAny>()?;
            } else {
                inner.push((name, members.next_value_seed(Self { is_inner: true })?));
            }
        }
        Ok(Value::Object(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let first = elements.next_element::<Box<RawValue>>()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List(first.is_some_and(|first| is_product(first.get()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_a_page_where_the_members_beside_it_say_so() {
        for (document, is_page) in [
            (r#"{"total":3}"#, false),
            (r#"{"total":250}"#, false),
            (r#"{"total":250,"limit":100,"offset":0}"#, true),
            (r#"{"total":3,"limit":100}"#, false),
            (r#"{"meta":{"size":250,"limit":100,"offset":0}}"#, true),
            (r#"{"page":1,"pages":3}"#, true),
            (r#"{"page":1,"pages":1}"#, false),
            (r#"{"total":3,"pages":3}"#, false),
            (r#"{"links":{"next":"https://example.org/?page=2"}}"#, true),
            (r#"{"links":{"next":null}}"#, false),
            (r#"{"next":""}"#, false),
            (r#"{"hasMore":true}"#, true),
            (r#"{"has_more":false}"#, false),
            (r#"{"pagination":{"total_pages":2}}"#, true),
            (r#"{"count":3,"next_page_token":"x"}"#, false),
            (r#"{"shop":{"pages":3},"tags":[1]}"#, false),
        ] {
            let mut beside = Beside::default();
            let mut json = serde_json::Deserializer::from_str(document);
            json.deserialize_map(Members(&mut beside)).unwrap();
            let found = beside.check(3, false);
            assert_eq!(found.is_err(), is_page, "{document}: {found:?}");
        }
    }

    struct Members<'a>(&'a mut Beside);

    impl<'de> Visitor<'de> for Members<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
            while let Some(name) = members.next_key::<String>()? {
                self.0.read(&name, &mut members)?;
            }
            Ok(())
        }
    }
}

//! Members beside the list of products. They show a second list of products, or that the list is
//! one page of several; both make the document unusable unless a setting allows it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::layout::is_list_name;
use super::member_map::is_product;
use crate::ReadSettings;

/// Objects that describe pagination. Like all names below, they are in lower case and without
/// marks.
const PAGINATION_OBJECTS: &[&str] = &[
    "meta",
    "pagination",
    "paging",
    "pager",
    "page",
    "pageinfo",
    "links",
    "next",
];
/// Members with the number of products on all pages.
const TOTAL_NAMES: &[&str] = &[
    "total",
    "totalcount",
    "totalitems",
    "totalelements",
    "totalrecords",
];
/// Members with the number of products on all pages if the document also has a limit. Without one,
/// they are the page size.
const TOTAL_NAMES_WITH_LIMIT: &[&str] = &["size"];
/// Members that count products, never pages. A count above the length of the list shows that more
/// pages exist.
const COUNT_NAMES: &[&str] = &[
    "count",
    "totalcount",
    "totalitems",
    "totalelements",
    "totalrecords",
];
/// Members that occur only in a page.
const PAGE_NAMES: &[&str] = &[
    "limit",
    "perpage",
    "pagesize",
    "offset",
    "skip",
    "page",
    "currentpage",
    "pagenumber",
];
/// Members with the position of the next page. They count only if the total is unknown.
const CURSOR_NAMES: &[&str] = &["cursor", "lastid"];
/// Members with the number of pages.
const PAGE_COUNT_NAMES: &[&str] = &["pages", "totalpages", "pagecount", "pagescount", "lastpage"];
/// Members that announce or link the next page.
const NEXT_PAGE_NAMES: &[&str] = &[
    "next",
    "nextpage",
    "nextpageurl",
    "nexthref",
    "nextlink",
    "odatanextlink",
    "nextcursor",
    "nextpagetoken",
    "hasmore",
    "hasnext",
    "hasnextpage",
];

/// Most levels of pagination objects: `meta.pagination`, `links.next`.
const MAX_LEVELS: usize = 2;

/// Returns a name in lower case, without the marks between its words.
fn normalize_name(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Value of a member beside the list.
#[derive(Debug, PartialEq)]
enum SiblingValue {
    /// Null, `false`, a number that is not positive, or a text that means one of them.
    Falsy,
    Number(u64),
    /// `true` or another text.
    Truthy,
    /// Members of a pagination object; empty for other objects.
    Object(Vec<(String, Self)>),
    /// A list; true if its first element is a product.
    List(bool),
}

/// Facts about the list of products, learned from the members beside it.
#[derive(Debug, Default)]
pub(super) struct SiblingMembers {
    /// The first other member that may be a list of products.
    second_list: Option<String>,
    total: Option<(String, u64)>,
    size: Option<(String, u64)>,
    pages: Option<(String, u64)>,
    next: Option<String>,
    count: Option<(String, u64)>,
    cursor: Option<String>,
    /// Some member occurs only in a page.
    is_page: bool,
    limit: Option<(String, u64)>,
    /// Positive offset: the list does not begin with the first product.
    offset: Option<(String, u64)>,
}

impl SiblingMembers {
    /// Reads the value of a member and learns from it.
    ///
    /// # Errors
    /// The value is not valid JSON.
    pub(super) fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        members: &mut A,
    ) -> Result<(), A::Error> {
        match members.next_value_seed(SiblingValueSeed::for_member(name, 1))? {
            SiblingValue::List(is_of_products) => {
                if is_of_products || is_list_name(name) {
                    self.second_list.get_or_insert(name.to_owned());
                }
            }
            value => self.learn(name, value),
        }
        Ok(())
    }

    fn learn(&mut self, name: &str, value: SiblingValue) {
        let normalized = normalize_name(name);
        let is_one_of = |known: &[&str]| known.contains(&normalized.as_str());
        let with_name = |number| (name.to_owned(), number);
        if let SiblingValue::Number(number) = value
            && is_one_of(COUNT_NAMES)
        {
            self.count.get_or_insert(with_name(number));
        }
        if let SiblingValue::Number(number) = value
            && normalized == "limit"
        {
            self.limit.get_or_insert(with_name(number));
        }
        if let SiblingValue::Number(number) = value
            && matches!(normalized.as_str(), "offset" | "skip")
        {
            self.offset.get_or_insert(with_name(number));
        }
        match value {
            SiblingValue::Number(_) | SiblingValue::Truthy if is_one_of(CURSOR_NAMES) => {
                self.is_page = true;
                self.cursor.get_or_insert(name.to_owned());
            }
            SiblingValue::Number(number) if is_one_of(TOTAL_NAMES) => {
                self.total.get_or_insert(with_name(number));
            }
            SiblingValue::Number(number) if is_one_of(TOTAL_NAMES_WITH_LIMIT) => {
                self.size.get_or_insert(with_name(number));
            }
            SiblingValue::Number(number) if is_one_of(PAGE_COUNT_NAMES) => {
                self.pages.get_or_insert(with_name(number));
            }
            SiblingValue::Number(_) | SiblingValue::Truthy if is_one_of(PAGE_NAMES) => {
                self.is_page = true;
            }
            SiblingValue::Number(_) | SiblingValue::Truthy if is_one_of(NEXT_PAGE_NAMES) => {
                self.next.get_or_insert(name.to_owned());
            }
            SiblingValue::Object(inner) if is_one_of(NEXT_PAGE_NAMES) => {
                if inner
                    .iter()
                    .any(|(_, value)| *value == SiblingValue::Truthy)
                {
                    self.next.get_or_insert(name.to_owned());
                }
            }
            SiblingValue::Object(inner) => {
                for (name, value) in inner {
                    self.learn(&name, value);
                }
            }
            SiblingValue::Number(_)
            | SiblingValue::Truthy
            | SiblingValue::Falsy
            | SiblingValue::List(_) => {}
        }
    }

    /// Checks that the list with `products` elements is the only one and has all products.
    ///
    /// # Errors
    /// The document has a second list and no setting names the right one, or the list is one page
    /// of several and the setting `single_page` does not allow that.
    pub(super) fn check(
        &self,
        list: &str,
        products: u64,
        reading: &ReadSettings,
    ) -> Result<(), String> {
        if let Some(name) = self
            .second_list
            .as_ref()
            .filter(|_| reading.list_path.is_none())
        {
            return Err(format!(
                "the document has two lists of products, '{list}' and '{name}': set list to the right \
                 one"
            ));
        }
        match self
            .partial_page_sign(products)
            .filter(|_| !reading.accepts_single_pages)
        {
            None => Ok(()),
            Some(sign) => Err(format!(
                "the list has {products} products and is one page of several, {sign}: put the products \
                 of all pages into one list, or set single_page = \"take\""
            )),
        }
    }

    /// Returns the evidence that a list of `products` elements is one page of several.
    fn partial_page_sign(&self, products: u64) -> Option<String> {
        let is_page = self.is_page || self.pages.is_some() || self.next.is_some();
        let has_limit = self.limit.is_some();
        let total = self
            .total
            .as_ref()
            .or(self.size.as_ref().filter(|_| has_limit));
        if let Some((name, count)) = self.count.as_ref().filter(|(_, count)| *count > products) {
            return Some(format!("its '{name}' is {count}"));
        }
        if let Some((name, offset)) = &self.offset {
            return Some(format!("its '{name}' is {offset}"));
        }
        let is_full = |limit: &&(String, u64)| limit.1 == products && total.is_none();
        if let Some((name, limit)) = self.limit.as_ref().filter(is_full) {
            return Some(format!(
                "its '{name}' is {limit} too, so more products may follow"
            ));
        }
        match (
            total,
            &self.pages,
            self.next.as_ref().or(self.cursor.as_ref()),
        ) {
            (Some((name, total)), ..) => {
                (is_page && *total > products).then(|| format!("its '{name}' is {total}"))
            }
            (None, Some((name, pages)), _) if *pages > 1 => {
                Some(format!("its '{name}' is {pages}"))
            }
            (None, _, Some(name)) => Some(format!("its '{name}' announces a next page")),
            (None, _, None) => None,
        }
    }
}

/// Reads a value without keeping lists or members that do not concern pagination.
struct SiblingValueSeed {
    /// True if the members of an object are kept.
    keeps_members: bool,
    level: usize,
}

impl SiblingValueSeed {
    fn for_member(name: &str, level: usize) -> Self {
        let is_pagination = PAGINATION_OBJECTS.contains(&normalize_name(name).as_str());
        Self {
            keeps_members: is_pagination && level <= MAX_LEVELS,
            level,
        }
    }
}

impl<'de> DeserializeSeed<'de> for SiblingValueSeed {
    type Value = SiblingValue;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<SiblingValue, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SiblingValueSeed {
    type Value = SiblingValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<SiblingValue, E> {
        Ok(if value {
            SiblingValue::Truthy
        } else {
            SiblingValue::Falsy
        })
    }

    fn visit_u64<E>(self, number: u64) -> Result<SiblingValue, E> {
        Ok(if number == 0 {
            SiblingValue::Falsy
        } else {
            SiblingValue::Number(number)
        })
    }

    fn visit_i64<E>(self, _: i64) -> Result<SiblingValue, E> {
        Ok(SiblingValue::Falsy)
    }

    fn visit_f64<E>(self, _: f64) -> Result<SiblingValue, E> {
        Ok(SiblingValue::Falsy)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SiblingValue, E> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return self.visit_u64(number);
        }
        let is_nothing = matches!(text.to_lowercase().as_str(), "" | "false" | "no" | "null");
        self.visit_bool(!is_nothing)
    }

    fn visit_unit<E>(self) -> Result<SiblingValue, E> {
        Ok(SiblingValue::Falsy)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<SiblingValue, A::Error> {
        let mut kept = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            if self.keeps_members {
                let value = members.next_value_seed(Self::for_member(&name, self.level + 1))?;
                kept.push((name, value));
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(SiblingValue::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SiblingValue, A::Error> {
        let first = elements.next_element::<Box<RawValue>>()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(SiblingValue::List(
            first.is_some_and(|first| is_product(first.get())),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_pages_by_their_sibling_members() {
        for (document, is_page) in [
            (r#"{"total":3}"#, false),
            (r#"{"total":250}"#, false),
            (r#"{"total":250,"limit":100,"offset":0}"#, true),
            (r#"{"total":"250","limit":"100"}"#, true),
            (r#"{"total":3,"limit":100}"#, false),
            (r#"{"count":3,"total":5,"limit":3}"#, true),
            (r#"{"meta":{"size":250,"limit":100,"offset":0}}"#, true),
            (
                r#"{"meta":{"pagination":{"total":250,"per_page":100}}}"#,
                true,
            ),
            (r#"{"page":1,"size":50,"total":3}"#, false),
            (r#"{"page":1,"size":50}"#, false),
            (r#"{"size":3,"totalPages":3,"totalElements":9}"#, true),
            (r#"{"page":1,"pages":3}"#, true),
            (r#"{"page":1,"pages":1}"#, false),
            (r#"{"total":3,"pages":3}"#, false),
            (r#"{"pager":{"total":250,"pagesCount":3}}"#, true),
            (r#"{"total":250,"last_id":"WzUx"}"#, true),
            (r#"{"total":250,"last_id":""}"#, false),
            (r#"{"links":{"next":"https://example.org/?page=2"}}"#, true),
            (r#"{"_links":{"next":{"href":"/stock?page=2"}}}"#, true),
            (r#"{"links":{"next":null}}"#, false),
            (r#"{"next":""}"#, false),
            (r#"{"nextPage":0}"#, false),
            (r#"{"hasMore":true}"#, true),
            (r#"{"hasMore":"false"}"#, false),
            (r#"{"has_more":false}"#, false),
            (r#"{"pagination":{"total_pages":2}}"#, true),
            (r#"{"count":3,"next_page_token":"x"}"#, true),
            (r#"{"count":200}"#, true),
            (r#"{"count":3}"#, false),
            (r#"{"count":2}"#, false),
            (r#"{"total_count":250}"#, true),
            (r#"{"offset":100,"limit":100}"#, true),
            (r#"{"offset":0,"limit":100}"#, false),
            (r#"{"limit":3}"#, true),
            (r#"{"total":3,"limit":3}"#, false),
            (r#"{"cursor":"abc"}"#, true),
            (r#"{"total":3,"last_id":"WzQ="}"#, false),
            (r#"{"@odata.nextLink":"https://example.org"}"#, true),
            (r#"{"shop":{"pages":3},"tags":[1]}"#, false),
        ] {
            let mut siblings = SiblingMembers::default();
            let mut json = serde_json::Deserializer::from_str(document);
            json.deserialize_map(SiblingMembersVisitor(&mut siblings))
                .unwrap();
            let result = siblings.check("items", 3, &ReadSettings::default());
            assert_eq!(result.is_err(), is_page, "{document}: {result:?}");
            let reading = ReadSettings {
                accepts_single_pages: true,
                ..ReadSettings::default()
            };
            assert_eq!(siblings.check("items", 3, &reading), Ok(()), "{document}");
        }
    }

    struct SiblingMembersVisitor<'a>(&'a mut SiblingMembers);

    impl<'de> Visitor<'de> for SiblingMembersVisitor<'_> {
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

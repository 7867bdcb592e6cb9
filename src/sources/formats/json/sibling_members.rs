//! Members beside the list of products: a second list, and signs that the list is one page of
//! several.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::layout::is_list_name;
use super::product::is_product;
use crate::sources::ReadSettings;

/// Objects in which a document tells about its pages, without marks and in lower case like all names
/// below.
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
/// Members that state how many products there are on all pages.
const TOTAL_NAMES: &[&str] = &[
    "total",
    "totalcount",
    "totalitems",
    "totalelements",
    "totalrecords",
];
/// The same, where there is a limit too; elsewhere it is the size of a page.
const TOTAL_NAMES_WITH_LIMIT: &[&str] = &["size"];
/// Members that count products, and nothing else: of all pages, if more than there are here.
const COUNT_NAMES: &[&str] = &[
    "count",
    "totalcount",
    "totalitems",
    "totalelements",
    "totalrecords",
];
/// Members that only a page has.
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
/// Members that begin the next page, if it is not known how many products there are.
const CURSOR_NAMES: &[&str] = &["cursor", "lastid"];
/// Members that state how many pages there are.
const PAGE_COUNT_NAMES: &[&str] = &["pages", "totalpages", "pagecount", "pagescount", "lastpage"];
/// Members that say that there is a next page, or where.
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

/// Levels of objects about pages: `meta.pagination`, `links.next`.
const MAX_LEVELS: usize = 2;

/// Name without marks between its words, in lower case.
fn normalize_name(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Value of a member beside the list.
#[derive(Debug, PartialEq)]
enum SiblingValue {
    /// Null, `false`, 0 or a text that says so.
    Falsy,
    Number(u64),
    /// `true`, or another text.
    Truthy,
    /// Members of an object about pages.
    Object(Vec<(String, Self)>),
    /// A list, and whether its first element is a product.
    List(bool),
}

/// What a document's members tell about its list.
#[derive(Debug, Default)]
pub(super) struct SiblingMembers {
    /// The first member that may be a list of products too.
    second_list: Option<String>,
    total: Option<(String, u64)>,
    size: Option<(String, u64)>,
    pages: Option<(String, u64)>,
    next: Option<String>,
    count: Option<(String, u64)>,
    cursor: Option<String>,
    /// Some member is one that only a page has.
    is_page: bool,
    limit: Option<(String, u64)>,
    /// The list begins behind the first product.
    offset: Option<(String, u64)>,
}

impl SiblingMembers {
    /// Reads the value of a member, and learns from it.
    ///
    /// # Errors
    /// Its text is no JSON.
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

    /// Checks that the list, which has so many products, is the only one and has all of them.
    ///
    /// # Errors
    /// There is a second list although no setting names one, or the list is one page of several.
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
                "there are two lists of products, '{list}' and '{name}': set list to the one that is \
                 meant"
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

    /// The sign that a list of so many products is one page of several.
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
                "its '{name}' is {limit} too, so that more may follow"
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
            (None, _, Some(name)) => Some(format!("its '{name}' says that there is a next one")),
            (None, _, None) => None,
        }
    }
}

/// Reads a value without keeping its lists, or members that are not about pages.
struct SiblingValueSeed {
    /// Whether the members of an object are kept.
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
    fn list_is_a_page_where_the_members_beside_it_say_so() {
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

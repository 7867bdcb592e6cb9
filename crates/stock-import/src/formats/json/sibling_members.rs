//! Members beside the list of products. They show a second list of products, or that the list is
//! one page of several; both make the document unusable unless a setting allows it.

use serde_json::value::RawValue;

use super::layout::is_list_name;
use super::member_map::is_product;
use super::members::JsonMembers;
use crate::ReadSettings;
use crate::aliases::is_word_of;

/// Objects that describe pagination. Like all names below, they are in lower case, without marks,
/// and separated by blanks.
const PAGINATION_OBJECTS: &str = "meta pagination paging pager page pageinfo links next";
/// Members with the number of products on all pages.
const TOTAL_NAMES: &str = "total totalcount totalitems totalelements totalrecords";
/// Members that count products, never pages. A count above the length of the list shows that more
/// pages exist.
const COUNT_NAMES: &str = "count totalcount totalitems totalelements totalrecords";
/// Members that occur only in a page.
const PAGE_NAMES: &str = "limit perpage pagesize offset skip page currentpage pagenumber";
/// Members with the position of the next page. They count only if the total is unknown.
const CURSOR_NAMES: &str = "cursor lastid";
/// Members with the number of pages.
const PAGE_COUNT_NAMES: &str = "pages totalpages pagecount pagescount lastpage";
/// Members that announce or link the next page.
const NEXT_PAGE_NAMES: &str = "\
    next nextpage nextpageurl nexthref nextlink odatanextlink nextcursor nextpagetoken hasmore \
    hasnext hasnextpage";

/// All names of members that tell whether more products exist. `size` is the total if the document
/// also has a limit, otherwise that of the page.
const PAGE_MEMBER_NAMES: [&str; 7] = [
    TOTAL_NAMES,
    "size",
    COUNT_NAMES,
    PAGE_NAMES,
    CURSOR_NAMES,
    PAGE_COUNT_NAMES,
    NEXT_PAGE_NAMES,
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

/// A member beside the list that tells whether more products exist.
#[derive(Debug)]
struct PageMember {
    name: String,
    normalized: String,
    /// The value if it is a positive number, also as a text; otherwise it is `true` or a text.
    number: Option<u64>,
}

/// Facts about the list of products, learned from the members beside it.
#[derive(Debug, Default)]
pub(super) struct SiblingMembers {
    /// The first other member that may be a list of products.
    second_list: Option<String>,
    /// Members with a known name, including those of pagination objects.
    members: Vec<PageMember>,
}

impl SiblingMembers {
    /// Learns from the JSON of a member.
    pub(super) fn learn(&mut self, name: &str, json: &str) {
        let Some(elements) = json.strip_prefix('[') else {
            return self.learn_page_member(name, json, 1);
        };
        let mut elements = serde_json::Deserializer::from_str(elements).into_iter::<&RawValue>();
        let has_products = matches!(elements.next(), Some(Ok(first)) if is_product(first.get()));
        if has_products || is_list_name(name) {
            self.second_list.get_or_insert(name.to_owned());
        }
    }

    fn learn_page_member(&mut self, name: &str, json: &str, level: usize) {
        let normalized = normalize_name(name);
        let is_one_of = |words: &str| is_word_of(words, &normalized);
        let is_next = is_one_of(NEXT_PAGE_NAMES);
        let mut value = page_value(json);
        if json.starts_with('{') && level <= MAX_LEVELS && is_one_of(PAGINATION_OBJECTS) {
            let inner = JsonMembers::parse(json).map_or(Vec::new(), |members| members.0);
            if is_next {
                let mut values = inner.iter().map(|(_, value)| page_value(value.get()));
                value = values.any(|value| value == Some(None)).then_some(None);
            } else {
                for (name, value) in inner {
                    self.learn_page_member(&name, value.get(), level + 1);
                }
            }
        }
        let is_new = |number: Option<u64>| {
            let mut members = self.members.iter();
            !members
                .any(|it| it.normalized == normalized && it.number.is_some() == number.is_some())
        };
        if let Some(number) = value
            && PAGE_MEMBER_NAMES.iter().any(|known| is_one_of(known))
            && is_new(number)
        {
            self.members.push(PageMember {
                name: name.to_owned(),
                normalized,
                number,
            });
        }
    }

    /// Returns the first of these members, of any value.
    fn find(&self, names: &str) -> Option<&str> {
        let mut members = self.members.iter();
        let member = members.find(|it| is_word_of(names, &it.normalized))?;
        Some(&member.name)
    }

    /// Returns the first of these members that is a number, and the number.
    fn number(&self, names: &str) -> Option<(&str, u64)> {
        let members = self.members.iter();
        members
            .filter(|it| is_word_of(names, &it.normalized))
            .find_map(|it| Some((it.name.as_str(), it.number?)))
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
        let limit = self.number("limit");
        let size = self.number("size").filter(|_| limit.is_some());
        let total = self.number(TOTAL_NAMES).or(size);
        let pages = self.number(PAGE_COUNT_NAMES);
        let next = self.find(NEXT_PAGE_NAMES).or(self.find(CURSOR_NAMES));
        let is_page = self.find(PAGE_NAMES).is_some() || pages.is_some() || next.is_some();
        if let Some((name, count)) = self.number(COUNT_NAMES).filter(|it| it.1 > products) {
            return Some(format!("its '{name}' is {count}"));
        }
        if let Some((name, offset)) = self.number("offset skip") {
            return Some(format!("its '{name}' is {offset}"));
        }
        if let Some((name, limit)) = limit.filter(|it| it.1 == products && total.is_none()) {
            return Some(format!(
                "its '{name}' is {limit} too, so more products may follow"
            ));
        }
        match (total, pages, next) {
            (Some((name, total)), ..) => {
                (is_page && total > products).then(|| format!("its '{name}' is {total}"))
            }
            (None, Some((name, pages)), _) if pages > 1 => Some(format!("its '{name}' is {pages}")),
            (None, _, Some(name)) => Some(format!("its '{name}' announces a next page")),
            (None, _, None) => None,
        }
    }
}

/// Returns the value of a page member as in [`PageMember::number`]; `None` for null, `false`, a
/// number that is not positive, a text that means one of them, an object or a list.
fn page_value(json: &str) -> Option<Option<u64>> {
    match json.as_bytes().first()? {
        b't' => Some(None),
        b'0'..=b'9' => json.parse().ok().filter(|number| *number > 0).map(Some),
        b'"' => {
            // A text with an invalid escape may announce a page.
            let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
            let text = text.trim();
            if let Ok(number) = text.parse() {
                return (number > 0).then_some(Some(number));
            }
            let is_falsy = matches!(text.to_lowercase().as_str(), "" | "false" | "no" | "null");
            (!is_falsy).then_some(None)
        }
        _ => None,
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
            for (name, value) in JsonMembers::parse(document).unwrap().0 {
                siblings.learn(&name, value.get());
            }
            let result = siblings.check("items", 3, &ReadSettings::default());
            assert_eq!(result.is_err(), is_page, "{document}: {result:?}");
            let reading = ReadSettings {
                accepts_single_pages: true,
                ..ReadSettings::default()
            };
            assert_eq!(siblings.check("items", 3, &reading), Ok(()), "{document}");
        }
    }
}

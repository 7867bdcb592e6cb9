//! Lenient parser for the responses of old handlers to `POST {base}/stocks`.
//!
//! It accepts many spellings, but never guesses a value: an invalid item is rejected alone, and an
//! item with two possible meanings is rejected too. Pure.
//!
//! Source: public code of sellers' handlers, to November 2026.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use stock::{Sku, Timestamp};
use strict_http::json::{JsonText, StrictObject, expand_exponent, read_json};

use super::wire::parse_whole_number;

/// Most characters of an item that an error repeats.
const MAX_EXCERPT_CHARS: usize = 200;

/// Count of a SKU as the handler wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StatedCount {
    /// The item has no count: the stock does not change.
    Missing,
    /// A JSON number without exponent, with a decimal point if any.
    Number(String),
    /// A trimmed string, which may have more than one reading as a number.
    Text(String),
}

impl StatedCount {
    /// Returns the count as written; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Missing => "",
            Self::Number(text) | Self::Text(text) => text,
        }
    }
}

/// Valid item of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldHandlerItem {
    /// SKU as the handler spells it.
    pub sku: String,
    /// Count as the handler wrote it.
    pub count: StatedCount,
    /// Date of the count. A date without a UTC offset is ignored because its zone is unknown.
    pub updated_at: Option<Timestamp>,
}

/// Invalid item of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidHandlerItem {
    /// Number of the item in the response, from 1.
    pub number: usize,
    /// SKU, if the item has one.
    pub sku: Option<String>,
    /// Beginning of the item.
    pub text: String,
    /// Value and broken rule.
    pub reason: String,
}

/// Error for a body that is not a valid response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldHandlerBodyError {
    /// The body is empty.
    #[error("the body is empty")]
    Empty,
    /// The body breaks a rule.
    #[error("the body is not a valid response: {0}")]
    Invalid(String),
}

/// Parses a response about one warehouse.
///
/// Accepts more than the documentation: a byte order mark; `[]` or `{"skus":null}` as an empty
/// response; counts, SKUs and warehouses as numbers or strings; one item without a list around it;
/// several items, of which the one of type `FIT` counts; text after the JSON, such as a PHP
/// warning or a comment, but not a second JSON value.
///
/// # Errors
/// The body is not a valid response. Invalid items are returned as [`InvalidHandlerItem`].
pub fn parse(
    body: &[u8],
    warehouse: u64,
) -> Result<Vec<Result<OldHandlerItem, InvalidHandlerItem>>, OldHandlerBodyError> {
    let byte_order_mark = "\u{feff}".as_bytes();
    let body = body.strip_prefix(byte_order_mark).unwrap_or(body);
    let body = strip_trailing_text(body.trim_ascii()).map_err(OldHandlerBodyError::Invalid)?;
    if body.is_empty() {
        return Err(OldHandlerBodyError::Empty);
    }
    let list = read_list(body).map_err(OldHandlerBodyError::Invalid)?;
    let numbered = list.into_iter().zip(1..);
    Ok(numbered
        .map(|(item, number)| read_item(item, number, warehouse))
        .collect())
}

/// Returns the body up to the end of its JSON value. Text after it is ignored.
///
/// # Errors
/// A second JSON value follows, so the meaning is unclear.
fn strip_trailing_text(body: &[u8]) -> Result<&[u8], String> {
    // Text in another encoding may follow JSON in UTF-8, such as a PHP warning in windows-1251.
    let text = body.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let Some(Ok(_first)) = values.next() else {
        return Ok(body);
    };
    let end = values.byte_offset();
    let (json, trailing) = body.split_at_checked(end).unwrap_or((body, b""));
    match trailing.trim_ascii_start().first() {
        Some(b'{' | b'[') => {
            Err("a second JSON value follows the first, and only one can be meant".to_owned())
        }
        Some(_) | None => Ok(json),
    }
}

/// Returns the items of a response.
fn read_list(body: &[u8]) -> Result<Vec<&RawValue>, String> {
    // PHP writes an empty list where it meant an empty object.
    if body.starts_with(b"[") {
        return match read_json::<Vec<&RawValue>>(body)? {
            empty if empty.is_empty() => Ok(empty),
            _some => Err("it is a list, but must be an object with skus".to_owned()),
        };
    }
    let StrictObject(WireStocksResponse { skus }) = read_json(body)?;
    let json = skus.get();
    if json == "null" || json.bytes().filter(|b| !b.is_ascii_whitespace()).eq(*b"{}") {
        return Ok(Vec::new());
    }
    serde_json::from_str(json).map_err(|_| "skus must be a list".to_owned())
}

#[derive(Deserialize)]
struct WireStocksResponse<'a> {
    #[serde(borrow)]
    skus: &'a RawValue,
}

#[derive(Deserialize)]
struct WireItem<'a> {
    #[serde(borrow, default)]
    sku: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "warehouseId")]
    warehouse_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    items: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireStock<'a> {
    #[serde(borrow, default)]
    count: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "updatedAt")]
    updated_at: Option<&'a RawValue>,
}

fn read_item(
    item: &RawValue,
    number: usize,
    warehouse: u64,
) -> Result<OldHandlerItem, InvalidHandlerItem> {
    let json = item.get();
    let invalid = |sku: Option<&str>, reason: String| InvalidHandlerItem {
        number,
        sku: sku.map(ToOwned::to_owned),
        text: json.chars().take(MAX_EXCERPT_CHARS).collect(),
        reason,
    };
    let StrictObject(wire) = serde_json::from_str::<StrictObject<WireItem<'_>>>(json)
        .map_err(|e| invalid(None, format!("the item cannot be parsed: {e}")))?;
    let sku = match wire.sku.map(RawScalar::from_raw) {
        Some(RawScalar::Text(text)) => text,
        // A SKU is a text, so the digits are kept as written: 557722.0 is another SKU.
        Some(RawScalar::Number(digits)) => Cow::Borrowed(digits),
        Some(RawScalar::Other) | None => {
            return Err(invalid(None, "the item has no sku".to_owned()));
        }
    };
    check_warehouse(wire.warehouse_id, warehouse).map_err(|rule| invalid(Some(&sku), rule))?;
    let (count, updated_at) = read_stocks(wire.items).map_err(|rule| invalid(Some(&sku), rule))?;
    Ok(OldHandlerItem {
        sku: sku.into_owned(),
        count,
        updated_at,
    })
}

/// Checks that the item names the requested warehouse or none.
fn check_warehouse(stated: Option<&RawValue>, requested: u64) -> Result<(), String> {
    let Some(stated) = stated else { return Ok(()) };
    let number = match RawScalar::from_raw(stated) {
        RawScalar::Text(text) if text.trim().is_empty() => return Ok(()),
        RawScalar::Text(text) => parse_whole_number(text.trim()),
        RawScalar::Number(digits) => parse_whole_number(digits),
        RawScalar::Other => None,
    };
    if number == Some(requested) {
        return Ok(());
    }
    let excerpt: String = stated.get().chars().take(MAX_EXCERPT_CHARS).collect();
    Err(format!(
        "warehouseId is {excerpt}, but {requested} was requested"
    ))
}

/// One stock of a SKU: type, count and date.
struct HandlerStock {
    /// `None` if the item has no type.
    is_fit: Option<bool>,
    count: StatedCount,
    updated_at: Option<Timestamp>,
}

fn read_stocks(items: Option<&RawValue>) -> Result<(StatedCount, Option<Timestamp>), String> {
    let Some(items) = items else {
        return Ok((StatedCount::Missing, None));
    };
    let list: Vec<&RawValue> = if items.get().starts_with('{') {
        vec![items]
    } else {
        serde_json::from_str(items.get()).map_err(|_| "items must be a list".to_owned())?
    };
    let stocks: Vec<HandlerStock> = list.into_iter().map(read_stock).collect::<Result<_, _>>()?;
    if let [single] = stocks.as_slice()
        && single.is_fit != Some(false)
    {
        return Ok((single.count.clone(), single.updated_at));
    }
    let fit = stocks.iter().filter(|stock| stock.is_fit == Some(true));
    let Some(first) = fit.clone().next() else {
        return if stocks.iter().any(|stock| stock.is_fit.is_none()) {
            Err("items contains several, and none has the type FIT".to_owned())
        } else {
            // Only types that cannot be sold, such as damaged: the sellable count is unknown.
            Ok((StatedCount::Missing, None))
        };
    };
    let has_first_count = |other: &HandlerStock| other.count.text() == first.count.text();
    if !fit.clone().all(has_first_count) {
        return Err("items contains several of type FIT with different counts".to_owned());
    }
    let updated_at = fit.map(|stock| stock.updated_at).max().flatten();
    Ok((first.count.clone(), updated_at))
}

fn read_stock(item: &RawValue) -> Result<HandlerStock, String> {
    let StrictObject(wire) = serde_json::from_str::<StrictObject<WireStock<'_>>>(item.get())
        .map_err(|e| format!("an element of items cannot be parsed: {e}"))?;
    let is_fit = match wire.kind.map(RawScalar::from_raw) {
        None => None,
        Some(RawScalar::Text(kind)) if kind.trim().is_empty() => None,
        Some(RawScalar::Text(kind)) => Some(kind.trim().eq_ignore_ascii_case("FIT")),
        Some(RawScalar::Number(_) | RawScalar::Other) => {
            return Err("type must be a string".to_owned());
        }
    };
    let count = match wire.count.map(RawScalar::from_raw) {
        None => StatedCount::Missing,
        Some(RawScalar::Text(text)) if text.trim().is_empty() => StatedCount::Missing,
        Some(RawScalar::Text(text)) => StatedCount::Text(text.trim().to_owned()),
        Some(RawScalar::Number(digits)) => {
            let expanded = expand_exponent(digits).unwrap_or(Cow::Borrowed(digits));
            StatedCount::Number(expanded.into_owned())
        }
        Some(RawScalar::Other) => return Err("count must be a number".to_owned()),
    };
    let updated_at = match wire.updated_at.map(RawScalar::from_raw) {
        Some(RawScalar::Text(text)) => parse_timestamp(text.trim()),
        Some(RawScalar::Number(_) | RawScalar::Other) | None => None,
    };
    Ok(HandlerStock {
        is_fit,
        count,
        updated_at,
    })
}

/// Parses a date with a UTC offset: RFC 3339, also with a space instead of `T`, and with an offset
/// such as `+0300` or `+03`.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let read = |format| DateTime::parse_from_str(text, format).ok();
    let at = DateTime::parse_from_rfc3339(text)
        .ok()
        .or_else(|| read("%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|| read("%Y-%m-%d %H:%M:%S%.f%#z"))?;
    Some(at.with_timezone(&Utc).into())
}

/// JSON value as a string or number; lists and objects are [`RawScalar::Other`].
enum RawScalar<'a> {
    Text(Cow<'a, str>),
    /// As written.
    Number(&'a str),
    /// Any other value.
    Other,
}

impl<'a> RawScalar<'a> {
    fn from_raw(value: &'a RawValue) -> Self {
        let json = value.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<JsonText<'a>>(json)
                .map_or(Self::Other, |JsonText(text)| Self::Text(text)),
            Some(b'-' | b'0'..=b'9') => Self::Number(json),
            Some(_) | None => Self::Other,
        }
    }
}

/// Parsed response, matched with the requested SKUs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OldHandlerResponse {
    /// Valid items with the index of their SKU in the request, in the order of the request.
    pub items: Vec<(usize, OldHandlerItem)>,
    /// Invalid items, with the index of their SKU in the request if they name one.
    pub invalid_items: Vec<(Option<usize>, InvalidHandlerItem)>,
    /// Number of requested SKUs that the response lacks.
    pub missing_count: usize,
    /// Valid items of SKUs that were not requested.
    pub unrequested_items: Vec<OldHandlerItem>,
    /// Number of items of SKUs that were not requested, valid or not.
    pub unrequested_count: usize,
}

impl OldHandlerResponse {
    /// Matches items with the requested SKUs.
    ///
    /// Duplicate items with the same count are merged. Duplicate items with different counts are
    /// invalid.
    #[must_use]
    pub fn for_request(
        requested: &[Sku],
        items: Vec<Result<OldHandlerItem, InvalidHandlerItem>>,
    ) -> Self {
        let positions: HashMap<&str, usize> = requested.iter().map(Sku::as_str).zip(0..).collect();
        let mut matched: Vec<Option<Result<OldHandlerItem, InvalidHandlerItem>>> =
            vec![None; requested.len()];
        let mut response = Self::default();
        for (item, number) in items.into_iter().zip(1..) {
            let sku = match &item {
                Ok(item) => Some(item.sku.as_str()),
                Err(invalid) => invalid.sku.as_deref(),
            };
            let position = sku.map(|sku| positions.get(Sku::trim(sku)));
            match (
                position.map(|it| it.and_then(|at| matched.get_mut(*at))),
                item,
            ) {
                (Some(Some(slot)), item) => {
                    *slot = Some(merge_duplicates(slot.take(), item, number));
                }
                (None, Err(invalid)) => response.invalid_items.push((None, invalid)),
                (Some(None) | None, Ok(item)) => {
                    response.unrequested_count += 1;
                    response.unrequested_items.push(item);
                }
                (Some(None), Err(_)) => response.unrequested_count += 1,
            }
        }
        for (position, result) in matched.into_iter().enumerate() {
            match result {
                Some(Ok(item)) => response.items.push((position, item)),
                Some(Err(invalid)) => response.invalid_items.push((Some(position), invalid)),
                None => response.missing_count += 1,
            }
        }
        response
    }
}

fn merge_duplicates(
    first: Option<Result<OldHandlerItem, InvalidHandlerItem>>,
    second: Result<OldHandlerItem, InvalidHandlerItem>,
    number: usize,
) -> Result<OldHandlerItem, InvalidHandlerItem> {
    let (first, second) = match (first, second) {
        (None, only) => return only,
        (Some(Err(invalid)), _) | (Some(Ok(_)), Err(invalid)) => return Err(invalid),
        (Some(Ok(first)), Ok(second)) => (first, second),
    };
    if first.count.text() == second.count.text() {
        let updated_at = first.updated_at.max(second.updated_at);
        return Ok(OldHandlerItem {
            updated_at,
            ..first
        });
    }
    let describe = |count: &StatedCount| match count.text() {
        "" => "no count".to_owned(),
        text => text.chars().take(MAX_EXCERPT_CHARS).collect(),
    };
    let (one, other) = (describe(&first.count), describe(&second.count));
    Err(InvalidHandlerItem {
        number,
        text: first.sku.chars().take(MAX_EXCERPT_CHARS).collect(),
        sku: Some(first.sku),
        reason: format!("the sku occurs twice with different counts: {one} and {other}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ODDITIES: &[u8] = include_bytes!("../../../../fixtures/legacy/own-handler-oddities.json");
    const WAREHOUSE: u64 = 569_667;

    fn skus(names: &[&str]) -> Vec<Sku> {
        names.iter().map(|name| Sku::parse(name).unwrap()).collect()
    }

    /// Returns what the fixture with all oddities contains for one SKU: a count, `-` for no count,
    /// `absent`, or the reason why the item is invalid.
    fn stated_count_of(sku: &str) -> String {
        let items = parse(ODDITIES, WAREHOUSE).unwrap();
        let response = OldHandlerResponse::for_request(&skus(&[sku]), items);
        let invalid = response
            .invalid_items
            .iter()
            .find(|(position, _)| *position == Some(0));
        match (response.items.first(), invalid) {
            (
                Some((
                    _,
                    OldHandlerItem {
                        count: StatedCount::Missing,
                        ..
                    },
                )),
                None,
            ) => "-".to_owned(),
            (Some((_, OldHandlerItem { count, .. })), None) => count.text().to_owned(),
            (None, Some((_, invalid))) => invalid.reason.clone(),
            (None, None) => "absent".to_owned(),
            (Some(_), Some(_)) => "both".to_owned(),
        }
    }

    #[test]
    fn reads_or_rejects_each_oddity_alone() {
        for (sku, expected) in [
            ("as-documented", "7"),
            ("numbers-as-texts", "7"),
            ("float-as-text", "7.0"),
            ("float", "7.000"),
            ("exponent", "7"),
            ("decimal-comma", "7,000"),
            ("negative", "-2"),
            ("word", "много"),
            ("empty-items", "-"),
            ("null-items", "-"),
            ("no-items", "-"),
            ("null-count", "-"),
            ("empty-count", "-"),
            ("several-types", "7"),
            ("no-fit", "-"),
            ("no-type", "7"),
            ("one-not-in-a-list", "7"),
            (
                "several-without-type",
                "items contains several, and none has the type FIT",
            ),
            ("twice-fit-alike", "7"),
            (
                "twice-fit-unlike",
                "items contains several of type FIT with different counts",
            ),
            ("date-without-offset", "7"),
            ("date-with-a-short-offset", "7"),
            (
                "other-warehouse",
                "warehouseId is 1, but 569667 was requested",
            ),
            ("boolean-count", "count must be a number"),
            ("557722", "7"),
            ("0557722", "absent"),
            ("blanks around", "7"),
            ("answered-twice-alike", "7"),
            (
                "answered-twice-unlike",
                "the sku occurs twice with different counts: 7 and 0",
            ),
            ("never-answered", "absent"),
        ] {
            assert_eq!(stated_count_of(sku), expected, "{sku}");
        }
    }

    #[test]
    fn counts_missing_and_unrequested_skus() {
        let items = parse(ODDITIES, WAREHOUSE).unwrap();
        let requested = skus(&["as-documented", "never-answered", "other-warehouse"]);
        let response = OldHandlerResponse::for_request(&requested, items);
        assert_eq!(response.items.len(), 1);
        assert_eq!(
            (response.missing_count, response.unrequested_count),
            (1, 29)
        );
        let invalid: Vec<_> = response
            .invalid_items
            .iter()
            .map(|(position, item)| (*position, item.number))
            .collect();
        // The item without a SKU and the one that is not an object have no position.
        assert_eq!(invalid, [(None, 32), (None, 33), (Some(2), 23)]);
    }

    #[test]
    fn ignores_dates_without_offset() {
        let at = |text: &str| parse_timestamp(text).map(|at| at.to_string());
        let ten = Some("2026-11-22T07:00:00Z".to_owned());
        for text in [
            "2026-11-22T10:00:00+03:00",
            "2026-11-22T07:00:00Z",
            "2026-11-22T10:00:00+0300",
            "2026-11-22 10:00:00+03",
            "2026-11-22 10:00:00 +03:00",
            "2026-11-22 07:00:00Z",
        ] {
            assert_eq!(at(text), ten, "{text}");
        }
        for text in [
            "2026-11-22T10:00:00",
            "2026-11-22 10:00",
            "22.11.2026",
            "1763794800",
            "",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn duplicates_keep_the_later_date() {
        let body = br#"{"skus":[
            {"sku":"A","items":[{"count":1,"updatedAt":"2026-11-22T07:00:00Z"}]},
            {"sku":"A","items":[{"count":1,"updatedAt":"2026-11-22T08:00:00Z"}]}]}"#;
        let response = OldHandlerResponse::for_request(&skus(&["A"]), parse(body, 1).unwrap());
        assert_eq!(
            response.items[0].1.updated_at.unwrap().to_string(),
            "2026-11-22T08:00:00Z"
        );
    }

    #[test]
    fn accepts_all_forms_of_an_empty_response() {
        for body in [
            "[]",
            " [ ] ",
            r#"{"skus":[]}"#,
            r#"{"skus":null}"#,
            r#"{"skus":{}}"#,
            "\u{feff}{\"skus\":[]}\r\n",
        ] {
            assert_eq!(parse(body.as_bytes(), 1), Ok(Vec::new()), "{body}");
        }
    }

    #[test]
    fn errors_name_the_broken_rule() {
        for (body, rule) in [
            ("", "the body is empty"),
            ("\u{feff} \n", "the body is empty"),
            (r#"{"stocks":[]}"#, "missing field `skus`"),
            (r#"{"error":"wrong token"}"#, "missing field `skus`"),
            (r#"{"skus":{"0":{}}}"#, "skus must be a list"),
            (r#"{"skus":7}"#, "skus must be a list"),
            (r#"{"skus":[],"skus":[]}"#, "duplicate field"),
            (r#"[{"sku":"A"}]"#, "it is a list"),
            (r#"{"skus":[{"sku":"A"}]"#, "EOF"),
            ("<html>", "expected value"),
            ("null", "expected an object"),
            ("<br />Notice: x {\"skus\":[]}", "expected value"),
        ] {
            let error = parse(body.as_bytes(), 1).unwrap_err().to_string();
            assert!(error.contains(rule), "{body}: {error}");
        }
        let latin = parse(b"{\"skus\":[{\"sku\":\"\xcc\"}]}", 1)
            .unwrap_err()
            .to_string();
        assert!(latin.contains("not UTF-8"), "{latin}");
    }

    #[test]
    fn keeps_huge_numbers_as_written() {
        let body = br#"{"skus":[{"sku":"A","items":[{"count":1e400}]}]}"#;
        let item = parse(body, 1).unwrap().remove(0).unwrap();
        assert_eq!(item.count, StatedCount::Number("1e400".to_owned()));
    }

    #[test]
    fn ignores_text_after_the_json() {
        let json = r#"{"skus":[{"sku":"A","items":[{"count":7}]}]}"#;
        for behind in [
            "<br />\n<b>Warning</b>: fsockopen(): timed out in /stocks.php",
            "<!-- 0.31 s -->",
            "\n\n",
            "OK 7",
            "null",
            "}",
        ] {
            let items = parse(format!("{json}{behind}").as_bytes(), 1).unwrap();
            assert_eq!(items[0].as_ref().unwrap().count.text(), "7", "{behind}");
        }
        // In windows-1251, as PHP on a Russian server writes it.
        let body = [json.as_bytes(), b"<br>\xce\xf8\xe8\xe1\xea\xe0"].concat();
        assert_eq!(parse(&body, 1).unwrap().len(), 1);
        for (behind, rule) in [
            (json, "a second JSON value"),
            ("\n[]", "a second JSON value"),
        ] {
            let error = parse(format!("{json}{behind}").as_bytes(), 1)
                .unwrap_err()
                .to_string();
            assert!(error.contains(rule), "{behind}: {error}");
        }
        // Text before the JSON is an error: the JSON may be any part of a web page.
        assert!(parse(format!("<br>{json}").as_bytes(), 1).is_err());
        assert!(parse(br#"{"skus":[]"#, 1).is_err());
    }

    #[test]
    fn number_and_string_of_one_count_agree() {
        let body = br#"{"skus":[{"sku":"A","items":[{"count":7},{"count":"7"}]},
            {"sku":"B","items":[{"count":7}]},{"sku":"B","items":[{"count":"7"}]}]}"#;
        let response = OldHandlerResponse::for_request(&skus(&["B"]), parse(body, 1).unwrap());
        assert_eq!((response.items.len(), response.invalid_items.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any = parse(&body, WAREHOUSE);
        }

        #[test]
        fn never_panics_on_mutations(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = ODDITIES.to_vec();
            for (position, byte) in changes {
                let position = position.index(body.len());
                body[position] = byte;
            }
            let requested = skus(&["as-documented", "float", "never-answered"]);
            for body in [&body[..], &body[..cut.index(body.len())]] {
                if let Ok(items) = parse(body, WAREHOUSE) {
                    let response = OldHandlerResponse::for_request(&requested, items);
                    let invalid = response.invalid_items.iter().filter(|(position, _)| position.is_some()).count();
                    prop_assert_eq!(response.items.len() + invalid + response.missing_count, requested.len());
                }
            }
        }
    }
}

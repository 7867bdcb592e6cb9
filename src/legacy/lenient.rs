//! What a shop's own handler answers to `POST {base}/stocks`, oddities and all.
//!
//! Pure, and forgiving of how a thing is written, never of what it says: a bad item is set
//! aside alone, and where two readings were possible neither is taken.
//!
//! Source: answers of shops' handlers as their public code writes them, to November 2026.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::whole_number;
use crate::http::json::{Object, Text, read_json, without_exponent};
use crate::stock::{Instant, Sku};

/// Most characters of an item that are kept to show what was wrong with it.
const SHOWN: usize = 200;

/// What is said of a SKU's count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// The SKU is there, and no count of it: nothing changes.
    Nothing,
    /// A number literal without exponent: its mark is the decimal point.
    Number(String),
    /// A text without outer blanks, which may be a number in more than one reading.
    Text(String),
}

impl Said {
    /// The count as it is written; empty if there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::Number(text) | Self::Text(text) => text,
        }
    }
}

/// What the handler says of one SKU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// The SKU as the handler spells it.
    pub sku: String,
    /// Its count.
    pub said: Said,
    /// Since when that is so; a date without an offset says nothing, nobody knows whose it is.
    pub at: Option<Instant>,
}

/// An item that cannot be taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spoiled {
    /// Its number in the answer, from 1.
    pub number: usize,
    /// The SKU, if it names one.
    pub sku: Option<String>,
    /// The beginning of the item as it came.
    pub text: String,
    /// The value and the rule it broke.
    pub reason: String,
}

/// Why a body is no answer at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoAnswer {
    /// There is nothing in it.
    #[error("the body is empty")]
    Empty,
    /// It is not what an answer is made of.
    #[error("the body is no answer: {0}")]
    Shape(String),
}

/// Reads an answer about a warehouse.
///
/// Taken besides what the documentation shows: a byte order mark; `[]` or `{"skus":null}` for an
/// answer about nothing; counts, SKUs and warehouses as numbers or texts; one item without a
/// list around it; several items, of which the one of type `FIT` counts; text behind the JSON, such
/// as a warning of PHP or a comment, but not a second JSON value.
///
/// # Errors
/// The body is no answer. Items that are none come back as [`Spoiled`].
pub fn parse(body: &[u8], warehouse: u64) -> Result<Vec<Result<Item, Spoiled>>, NoAnswer> {
    let mark = "\u{feff}".as_bytes();
    let body = body.strip_prefix(mark).unwrap_or(body).trim_ascii();
    let shape = |reason: String| NoAnswer::Shape(reason);
    let body = without_text_behind(body).map_err(shape)?;
    let list: Vec<&RawValue> = match body.first() {
        None => return Err(NoAnswer::Empty),
        // PHP writes an empty list where it meant an empty object.
        Some(b'[') => match read_json::<Vec<&RawValue>>(body).map_err(shape)? {
            empty if empty.is_empty() => empty,
            _some => {
                return Err(shape(
                    "it is a list, it must be an object with skus".to_owned(),
                ));
            }
        },
        Some(_) => {
            let Object(WireAnswer { skus }) = read_json(body).map_err(shape)?;
            list_of(skus).map_err(|reason| shape(format!("skus {reason}")))?
        }
    };
    let numbered = list.into_iter().zip(1..);
    Ok(numbered
        .map(|(item, number)| read_item(item, number, warehouse))
        .collect())
}

/// A body up to the end of its JSON value, if what follows is neither JSON nor the rest of it.
///
/// # Errors
/// A second value follows: which of the two is meant is not known.
fn without_text_behind(body: &[u8]) -> Result<&[u8], String> {
    // Text in another encoding may follow JSON in UTF-8.
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(body.get(..error.valid_up_to()).unwrap_or_default())
            .unwrap_or_default(),
    };
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let Some(Ok(_first)) = values.next() else {
        return Ok(body);
    };
    let end = values.byte_offset();
    let (json, behind) = body.split_at_checked(end).unwrap_or((body, b""));
    match behind.trim_ascii_start().first() {
        Some(b'{' | b'[') => {
            Err("a second JSON value follows the first, and only one can be meant".to_owned())
        }
        Some(_) | None => Ok(json),
    }
}

fn list_of(skus: &RawValue) -> Result<Vec<&RawValue>, String> {
    let json = skus.get();
    let is_nothing = json == "null" || json.bytes().filter(|b| !b.is_ascii_whitespace()).eq(*b"{}");
    if is_nothing {
        return Ok(Vec::new());
    }
    serde_json::from_str(json).map_err(|_| "must be a list".to_owned())
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
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

fn read_item(item: &RawValue, number: usize, warehouse: u64) -> Result<Item, Spoiled> {
    let json = item.get();
    let spoiled = |sku: Option<&str>, reason: String| Spoiled {
        number,
        sku: sku.map(ToOwned::to_owned),
        text: json.chars().take(SHOWN).collect(),
        reason,
    };
    let Object(wire) = serde_json::from_str::<Object<WireItem<'_>>>(json)
        .map_err(|e| spoiled(None, format!("the item is unreadable: {e}")))?;
    let sku = match wire.sku.map(Scalar::of) {
        Some(Scalar::Text(text)) => text,
        // By its digits as they stand, for an SKU is a text: 557722.0 is another one.
        Some(Scalar::Number(digits)) => Cow::Borrowed(digits),
        Some(Scalar::Other) | None => {
            return Err(spoiled(None, "the item names no sku".to_owned()));
        }
    };
    check_warehouse(wire.warehouse_id, warehouse).map_err(|rule| spoiled(Some(&sku), rule))?;
    let (said, at) = read_stocks(wire.items).map_err(|rule| spoiled(Some(&sku), rule))?;
    Ok(Item {
        sku: sku.into_owned(),
        said,
        at,
    })
}

/// Whether the item is about the warehouse that was asked about, or does not say.
fn check_warehouse(said: Option<&RawValue>, asked: u64) -> Result<(), String> {
    let Some(said) = said else { return Ok(()) };
    let number = match Scalar::of(said) {
        Scalar::Text(text) if text.trim().is_empty() => return Ok(()),
        Scalar::Text(text) => whole_number(text.trim()),
        Scalar::Number(digits) => whole_number(digits),
        Scalar::Other => None,
    };
    if number == Some(asked) {
        return Ok(());
    }
    let said: String = said.get().chars().take(SHOWN).collect();
    Err(format!(
        "warehouseId is {said}, the question was about {asked}"
    ))
}

/// One stock of a SKU: its type as far as it is told, its count, since when.
struct Stock {
    /// `None` if the type is not told.
    is_fit: Option<bool>,
    said: Said,
    at: Option<Instant>,
}

fn read_stocks(items: Option<&RawValue>) -> Result<(Said, Option<Instant>), String> {
    let Some(items) = items else {
        return Ok((Said::Nothing, None));
    };
    let list: Vec<&RawValue> = if items.get().starts_with('{') {
        vec![items]
    } else {
        serde_json::from_str(items.get()).map_err(|_| "items must be a list".to_owned())?
    };
    let stocks: Vec<Stock> = list.into_iter().map(read_stock).collect::<Result<_, _>>()?;
    if let [only] = stocks.as_slice()
        && only.is_fit != Some(false)
    {
        return Ok((only.said.clone(), only.at));
    }
    let mut fit = stocks.iter().filter(|stock| stock.is_fit == Some(true));
    match fit.next() {
        Some(first) => {
            if fit
                .clone()
                .any(|other| other.said.text() != first.said.text())
            {
                return Err("items has several of type FIT, and they differ".to_owned());
            }
            Ok((
                first.said.clone(),
                fit.map(|other| other.at).fold(first.at, Option::max),
            ))
        }
        None if stocks.iter().any(|stock| stock.is_fit.is_none()) => {
            Err("items has several, and none says that it is of type FIT".to_owned())
        }
        // Only what is damaged or on its way: of what can be sold, nothing is said.
        None => Ok((Said::Nothing, None)),
    }
}

fn read_stock(item: &RawValue) -> Result<Stock, String> {
    let Object(wire) = serde_json::from_str::<Object<WireStock<'_>>>(item.get())
        .map_err(|e| format!("items has one that is unreadable: {e}"))?;
    let is_fit = match wire.kind.map(Scalar::of) {
        None => None,
        Some(Scalar::Text(kind)) if kind.trim().is_empty() => None,
        Some(Scalar::Text(kind)) => Some(kind.trim().eq_ignore_ascii_case("FIT")),
        Some(Scalar::Number(_) | Scalar::Other) => return Err("type must be a text".to_owned()),
    };
    let said = match wire.count.map(Scalar::of) {
        None => Said::Nothing,
        Some(Scalar::Text(text)) => match text.trim() {
            "" => Said::Nothing,
            text => Said::Text(text.to_owned()),
        },
        Some(Scalar::Number(digits)) => Said::Number(
            without_exponent(digits)
                .unwrap_or(Cow::Borrowed(digits))
                .into_owned(),
        ),
        Some(Scalar::Other) => return Err("count must be a number".to_owned()),
    };
    let at = match wire.updated_at.map(Scalar::of) {
        Some(Scalar::Text(text)) => moment(text.trim()),
        Some(Scalar::Number(_) | Scalar::Other) | None => None,
    };
    Ok(Stock { is_fit, said, at })
}

/// A moment, if the text says in which zone: RFC 3339, also with a blank for the `T`, and with
/// the offset as `+0300` or `+03`.
fn moment(text: &str) -> Option<Instant> {
    let read = |format| DateTime::parse_from_str(text, format).ok();
    let at = DateTime::parse_from_rfc3339(text)
        .ok()
        .or_else(|| read("%Y-%m-%dT%H:%M:%S%.f%#z"))
        .or_else(|| read("%Y-%m-%d %H:%M:%S%.f%#z"))?;
    Some(at.with_timezone(&Utc).into())
}

/// A JSON value that is no list and no object.
enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// As it is written.
    Number(&'a str),
    /// Anything else.
    Other,
}

impl<'a> Scalar<'a> {
    fn of(value: &'a RawValue) -> Self {
        let json = value.get();
        match json.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Text<'a>>(json)
                .map_or(Self::Other, |Text(text)| Self::Text(text)),
            Some(b'-' | b'0'..=b'9') => Self::Number(json),
            Some(_) | None => Self::Other,
        }
    }
}

/// An answer held against its question.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// What is said, with the place of the SKU in the question, in the question's order.
    pub items: Vec<(usize, Item)>,
    /// What cannot be taken, with the place of the SKU in the question if it names one.
    pub spoiled: Vec<(Option<usize>, Spoiled)>,
    /// SKUs asked for and not answered.
    pub left_out: usize,
    /// Items about SKUs that were not asked for, as they are spelt.
    pub strange: Vec<Item>,
    /// How many answered SKUs were not asked for.
    pub strangers: usize,
}

impl Reply {
    /// Finds for each SKU that was asked for what is said of it.
    ///
    /// Said twice and alike is said once; said twice and not alike is spoiled.
    #[must_use]
    pub fn to(asked: &[Sku], answer: Vec<Result<Item, Spoiled>>) -> Self {
        let places: HashMap<&str, usize> = asked.iter().map(Sku::as_str).zip(0..).collect();
        let mut found: Vec<Option<Result<Item, Spoiled>>> = asked.iter().map(|_| None).collect();
        let mut reply = Self::default();
        for (item, number) in answer.into_iter().zip(1..) {
            let sku = match &item {
                Ok(item) => Some(item.sku.as_str()),
                Err(spoiled) => spoiled.sku.as_deref(),
            };
            match (sku.map(|sku| places.get(Sku::trim(sku))), item) {
                (Some(Some(place)), item) => {
                    if let Some(slot) = found.get_mut(*place) {
                        *slot = Some(both(slot.take(), item, number));
                    }
                }
                (None, Err(spoiled)) => reply.spoiled.push((None, spoiled)),
                (Some(None) | None, Ok(item)) => {
                    reply.strangers += 1;
                    reply.strange.push(item);
                }
                (Some(None), Err(_)) => reply.strangers += 1,
            }
        }
        for (place, found) in found.into_iter().enumerate() {
            match found {
                Some(Ok(item)) => reply.items.push((place, item)),
                Some(Err(spoiled)) => reply.spoiled.push((Some(place), spoiled)),
                None => reply.left_out += 1,
            }
        }
        reply
    }
}

fn both(
    first: Option<Result<Item, Spoiled>>,
    second: Result<Item, Spoiled>,
    number: usize,
) -> Result<Item, Spoiled> {
    let (first, second) = match (first, second) {
        (None, only) => return only,
        (Some(Err(spoiled)), _) | (Some(Ok(_)), Err(spoiled)) => return Err(spoiled),
        (Some(Ok(first)), Ok(second)) => (first, second),
    };
    if first.said.text() == second.said.text() {
        let at = first.at.max(second.at);
        return Ok(Item { at, ..first });
    }
    let words = |said: &Said| match said {
        Said::Nothing => "nothing".to_owned(),
        Said::Number(text) | Said::Text(text) => text.chars().take(SHOWN).collect(),
    };
    let (one, other) = (words(&first.said), words(&second.said));
    Err(Spoiled {
        number,
        text: first.sku.chars().take(SHOWN).collect(),
        sku: Some(first.sku),
        reason: format!("the sku is answered twice, {one} and {other}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ODDITIES: &[u8] = include_bytes!("../../fixtures/legacy/own-handler-oddities.json");
    const WAREHOUSE: u64 = 569_667;

    fn skus(names: &[&str]) -> Vec<Sku> {
        names.iter().map(|name| Sku::parse(name).unwrap()).collect()
    }

    /// What is said of one SKU by the answer with all the oddities: a count, `-` for nothing,
    /// `absent`, or the reason for which it was set aside.
    fn said_of(sku: &str) -> String {
        let answer = parse(ODDITIES, WAREHOUSE).unwrap();
        let reply = Reply::to(&skus(&[sku]), answer);
        let spoiled = reply.spoiled.iter().find(|(place, _)| *place == Some(0));
        match (reply.items.first(), spoiled) {
            (
                Some((
                    _,
                    Item {
                        said: Said::Nothing,
                        ..
                    },
                )),
                None,
            ) => "-".to_owned(),
            (Some((_, Item { said, .. })), None) => said.text().to_owned(),
            (None, Some((_, spoiled))) => spoiled.reason.clone(),
            (None, None) => "absent".to_owned(),
            (Some(_), Some(_)) => "both".to_owned(),
        }
    }

    #[test]
    fn every_oddity_of_the_field_is_read_or_set_aside_alone() {
        for (sku, said) in [
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
                "items has several, and none says that it is of type FIT",
            ),
            ("twice-fit-alike", "7"),
            (
                "twice-fit-unlike",
                "items has several of type FIT, and they differ",
            ),
            ("date-without-offset", "7"),
            ("date-with-a-short-offset", "7"),
            (
                "other-warehouse",
                "warehouseId is 1, the question was about 569667",
            ),
            ("boolean-count", "count must be a number"),
            ("557722", "7"),
            ("0557722", "absent"),
            ("blanks around", "7"),
            ("answered-twice-alike", "7"),
            (
                "answered-twice-unlike",
                "the sku is answered twice, 7 and 0",
            ),
            ("never-answered", "absent"),
        ] {
            assert_eq!(said_of(sku), said, "{sku}");
        }
    }

    #[test]
    fn what_was_left_out_and_what_was_never_asked_for_is_counted() {
        let answer = parse(ODDITIES, WAREHOUSE).unwrap();
        let asked = skus(&["as-documented", "never-answered", "other-warehouse"]);
        let reply = Reply::to(&asked, answer);
        assert_eq!(reply.items.len(), 1);
        assert_eq!((reply.left_out, reply.strangers), (1, 29));
        let spoiled: Vec<_> = reply
            .spoiled
            .iter()
            .map(|(place, item)| (*place, item.number))
            .collect();
        // The item without a SKU and the one that is no object could be anybody's.
        assert_eq!(spoiled, [(None, 32), (None, 33), (Some(2), 23)]);
    }

    #[test]
    fn a_date_counts_only_with_its_offset() {
        let at = |text: &str| moment(text).map(|at| at.to_string());
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
    fn the_later_date_of_two_that_agree_is_kept() {
        let body = br#"{"skus":[
            {"sku":"A","items":[{"count":1,"updatedAt":"2026-11-22T07:00:00Z"}]},
            {"sku":"A","items":[{"count":1,"updatedAt":"2026-11-22T08:00:00Z"}]}]}"#;
        let reply = Reply::to(&skus(&["A"]), parse(body, 1).unwrap());
        assert_eq!(
            reply.items[0].1.at.unwrap().to_string(),
            "2026-11-22T08:00:00Z"
        );
    }

    #[test]
    fn an_answer_about_nothing_has_many_forms() {
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
    fn what_is_no_answer_is_told_with_the_rule() {
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
    fn a_number_that_is_no_count_is_still_told_as_it_stands() {
        let body = br#"{"skus":[{"sku":"A","items":[{"count":1e400}]}]}"#;
        let item = parse(body, 1).unwrap().remove(0).unwrap();
        assert_eq!(item.said, Said::Number("1e400".to_owned()));
    }

    #[test]
    fn text_behind_the_json_is_passed_over() {
        let json = r#"{"skus":[{"sku":"A","items":[{"count":7}]}]}"#;
        for behind in [
            "<br />\n<b>Warning</b>: fsockopen(): timed out in /stocks.php",
            "<!-- 0.31 s -->",
            "\n\n",
            "OK 7",
            "null",
            "}",
        ] {
            let answer = parse(format!("{json}{behind}").as_bytes(), 1).unwrap();
            assert_eq!(answer[0].as_ref().unwrap().said.text(), "7", "{behind}");
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
        // Text before it is none of this: what follows may be any part of a page.
        assert!(parse(format!("<br>{json}").as_bytes(), 1).is_err());
        assert!(parse(br#"{"skus":[]"#, 1).is_err());
    }

    #[test]
    fn a_number_and_a_text_of_one_count_agree() {
        let body = br#"{"skus":[{"sku":"A","items":[{"count":7},{"count":"7"}]},
            {"sku":"B","items":[{"count":7}]},{"sku":"B","items":[{"count":"7"}]}]}"#;
        let reply = Reply::to(&skus(&["B"]), parse(body, 1).unwrap());
        assert_eq!((reply.items.len(), reply.spoiled.len()), (1, 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any = parse(&body, WAREHOUSE);
        }

        #[test]
        fn no_mutation_makes_it_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = ODDITIES.to_vec();
            for (place, byte) in changes {
                let place = place.index(body.len());
                body[place] = byte;
            }
            let asked = skus(&["as-documented", "float", "never-answered"]);
            for body in [&body[..], &body[..cut.index(body.len())]] {
                if let Ok(answer) = parse(body, WAREHOUSE) {
                    let reply = Reply::to(&asked, answer);
                    let placed = reply.spoiled.iter().filter(|(place, _)| place.is_some()).count();
                    prop_assert_eq!(reply.items.len() + placed + reply.left_out, asked.len());
                }
            }
        }
    }
}

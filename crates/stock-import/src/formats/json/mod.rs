//! Reader of JSON: a list of products, a map from SKU to stock, or one product per line (NDJSON).
//!
//! A list may be the document itself or one of its members. Its elements are read one by one, so
//! the whole list is never in memory. The Market's own bodies, those of `updateStocks` and of the
//! push API, are lists whose elements have `items`. The layout is detected in a pass of its own.
//!
//! The encoding is UTF-8, or UTF-16 with a byte order mark; others need the setting `encoding`.
//!
//! A truncated document is an error. In truncated NDJSON the complete lines are valid, and the last
//! line is rejected because it is not valid JSON.

mod layout;
mod member_map;
mod members;
mod product;
mod sibling_members;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{BufRead, Read};
use std::marker::PhantomData;

use encoding_rs::Encoding;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::layout::JsonLayout;
use self::member_map::JsonMemberStats;
use self::sibling_members::SiblingMembers;
use super::decode::{self, DecodedText, EncodingFallback, MalformedText, ReadBudget};
use super::{FileSummary, FormatError, Input, Sink};
use crate::{DeliveryCancelled, DeliveryEntry, ReadSettings, RejectedRow};

/// Largest element and longest line, in bytes.
const MAX_ELEMENT_BYTES: usize = 1024 * 1024;

/// Largest skipped member, in bytes.
const MAX_SKIPPED_BYTES: usize = 64 * 1024 * 1024;

/// Reads a document or its lines. Reads the file twice, because the members for the SKU and the
/// quantity are chosen once for the whole file.
///
/// # Errors
/// The file is broken, its layout is unknown, two members may each be the SKU, or the sink cancels.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &ReadSettings,
    sink: Sink<'_>,
) -> Result<FileSummary, FormatError> {
    let layout = layout::detect_layout(input, reading)?;
    let mut stats = JsonMemberStats::default();
    for_each_part(input, &layout, reading, &mut |part, _| {
        match part {
            JsonPart::Element(element) => stats.learn(element, reading),
            JsonPart::Pair(_, stock) => stats.learn_pair(stock),
            JsonPart::Broken(..) => {}
        }
        Ok(())
    })?;
    let member_map = stats.into_member_map(reading)?;
    let encoding = for_each_part(input, &layout, reading, &mut |part, line| {
        let entries = match part {
            JsonPart::Element(element) => member_map.read(element.get(), line),
            JsonPart::Pair(sku, stock) => vec![member_map.read_pair(sku, stock, line)],
            JsonPart::Broken(text, reason) => {
                vec![DeliveryEntry::Rejected(RejectedRow::new(
                    line, text, reason,
                ))]
            }
        };
        entries.into_iter().try_for_each(&mut *sink)
    })?;
    let mut summary = FileSummary::default();
    summary.shape.set("encoding", encoding.name());
    summary.shape.set("list", layout.describe());
    member_map.describe(&mut summary.shape);
    Ok(summary)
}

/// Part of a document with the stock of one product.
enum JsonPart<'p> {
    Element(&'p RawValue),
    /// A SKU and its stock.
    Pair(&'p str, &'p RawValue),
    /// A line that is not JSON, and the reason.
    Broken(&'p str, String),
}

/// Callback that receives the parts of a document and their number, from 1.
type JsonPartCallback<'c> = &'c mut dyn FnMut(JsonPart<'_>, u64) -> Result<(), DeliveryCancelled>;

/// Reads a document once and passes its parts to the callback.
fn for_each_part(
    input: &mut dyn Input,
    layout: &JsonLayout,
    reading: &ReadSettings,
    callback: JsonPartCallback<'_>,
) -> Result<&'static Encoding, FormatError> {
    let text = open(input, reading)?;
    let (encoding, stats, budget) = (text.encoding(), text.stats(), text.budget());
    match layout {
        JsonLayout::Lines => read_lines(text, callback)?,
        JsonLayout::SingleProduct => {
            budget.set(MAX_ELEMENT_BYTES);
            let element = parse(text, PhantomData::<Box<RawValue>>)?;
            callback(JsonPart::Element(&element), 1)?;
        }
        JsonLayout::Map | JsonLayout::List(_) => {
            budget.set(MAX_ELEMENT_BYTES);
            let mut output = JsonPartOutput {
                reading,
                budget,
                callback,
                count: 0,
                error: None,
            };
            let document = JsonDocument {
                list_path: layout.list_path(),
                output: &mut output,
            };
            parse(text, document).map_err(|e| output.error.unwrap_or(e))?;
        }
    }
    stats.get().check(encoding)?;
    Ok(encoding)
}

fn open<'a>(
    input: &'a mut dyn Input,
    reading: &ReadSettings,
) -> Result<DecodedText<'a>, FormatError> {
    decode::open(
        input,
        reading.encoding,
        &EncodingFallback::Declared(&|_| Ok(encoding_rs::UTF_8)),
    )
}

fn read_lines(
    mut utf8: DecodedText<'_>,
    callback: JsonPartCallback<'_>,
) -> Result<(), FormatError> {
    let mut number = 1;
    while let Some(line) = next_line(&mut utf8, number)? {
        if !line.trim().is_empty() {
            let part = match serde_json::from_str::<&RawValue>(&line) {
                Ok(element) => JsonPart::Element(element),
                Err(e) => JsonPart::Broken(&line, format!("the line is not JSON: {e}")),
            };
            callback(part, number)?;
        }
        number += 1;
    }
    Ok(())
}

/// Returns the next line with its line end; `None` after the last one.
fn next_line(utf8: &mut DecodedText<'_>, number: u64) -> Result<Option<String>, FormatError> {
    let mut line = Vec::new();
    let limit = MAX_ELEMENT_BYTES as u64 + 1;
    let read = utf8.take(limit).read_until(b'\n', &mut line);
    if read.map_err(|e| read_failure(e, format!("line {number}")))? as u64 == limit {
        let reason = "the line is longer than 1 MiB";
        return Err(FormatError::broken(format!("line {number}"), reason));
    }
    let line = (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
    Ok(line)
}

/// Tells malformed text at `place` from a failing device.
fn read_failure(error: std::io::Error, place: String) -> FormatError {
    match MalformedText::of(&error) {
        Some(reason) => FormatError::broken(place, reason),
        None => FormatError::Io(error),
    }
}

/// Parses a whole document. Other text after it is an error.
fn parse<S: DeserializeSeed<'static>>(
    utf8: DecodedText<'_>,
    seed: S,
) -> Result<S::Value, FormatError> {
    let mut json = serde_json::Deserializer::from_reader(utf8);
    let value = seed
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    value.map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        if e.is_io() {
            read_failure(e.into(), place)
        } else {
            FormatError::broken(place, e.to_string())
        }
    })
}

/// Output of the parts of a document. Keeps its own errors, because serde cannot carry them.
struct JsonPartOutput<'t> {
    reading: &'t ReadSettings,
    budget: ReadBudget,
    callback: JsonPartCallback<'t>,
    /// Number of parts so far.
    count: u64,
    /// Error that stopped the output.
    error: Option<FormatError>,
}

impl JsonPartOutput<'_> {
    fn emit<E: Error>(&mut self, part: JsonPart<'_>) -> Result<(), E> {
        self.count += 1;
        let result = (self.callback)(part, self.count);
        result.map_err(|cancelled| self.stop(cancelled.into()))
    }

    fn stop<E: Error>(&mut self, error: FormatError) -> E {
        self.error = Some(error);
        E::custom("reading was stopped")
    }
}

/// A document, or an object on the path to its list.
struct JsonDocument<'a, 't> {
    /// Path from here to the list of products; `None` for a map from SKU to stock.
    list_path: Option<&'a [String]>,
    output: &'a mut JsonPartOutput<'t>,
}

impl<'de> DeserializeSeed<'de> for JsonDocument<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.list_path {
            Some([]) => json.deserialize_seq(self),
            Some(_) | None => json.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for JsonDocument<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of products, or a map from SKU to stock")
    }

    /// Reads a list, element by element.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.output.budget.set(MAX_ELEMENT_BYTES);
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            self.output.emit(JsonPart::Element(&element))?;
            self.output.budget.set(MAX_ELEMENT_BYTES);
        }
        self.output.budget.set(MAX_SKIPPED_BYTES);
        Ok(())
    }

    /// Reads a map from SKU to stock, or an object with a list among its members.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { list_path, output } = self;
        let mut has_list = false;
        let mut siblings = SiblingMembers::default();
        while let Some(name) = members.next_key::<String>()? {
            match list_path {
                Some([list, inner_path @ ..]) if *list == name && !has_list => {
                    has_list = true;
                    members.next_value_seed(JsonDocument {
                        list_path: Some(inner_path),
                        output: &mut *output,
                    })?;
                }
                Some(_) => {
                    output.budget.set(MAX_SKIPPED_BYTES);
                    siblings.learn(&name, members.next_value::<Box<RawValue>>()?.get());
                }
                None => {
                    output.budget.set(MAX_ELEMENT_BYTES);
                    let stock = members.next_value::<Box<RawValue>>()?;
                    output.emit(JsonPart::Pair(&name, &stock))?;
                }
            }
            output.budget.set(MAX_ELEMENT_BYTES);
        }
        let Some([list, ..]) = list_path else {
            return Ok(());
        };
        if !has_list {
            return Err(A::Error::custom(format_args!(
                "the document has no list at '{}': correct the setting list",
                list_path.unwrap_or_default().join(".")
            )));
        }
        let result = siblings.check(list, output.count, output.reading);
        result.map_err(|reason| output.stop(FormatError::Unusable(reason)))
    }
}

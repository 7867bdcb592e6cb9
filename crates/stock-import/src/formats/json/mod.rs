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

use encoding_rs::Encoding;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::layout::JsonLayout;
use self::member_map::JsonMemberStats;
use self::sibling_members::SiblingMembers;
use super::decode::{self, DecodedText, EncodingFallback, MalformedText, ReadBudget};
use super::{FileSummary, FormatError, Input, Sink};
use crate::{DeliveryCancelled, ReadSettings};

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
            JsonPart::Element(element) => member_map.read(element, line),
            JsonPart::Pair(sku, stock) => vec![member_map.read_pair(sku, stock, line)],
            JsonPart::Broken(text, reason) => vec![product::rejected_entry(line, text, reason)],
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
    let (encoding, stats) = (text.encoding(), text.stats());
    let mut output = JsonPartOutput {
        callback,
        line: 0,
        error: None,
    };
    match layout {
        JsonLayout::Lines => read_lines(text, &mut output)?,
        JsonLayout::List
        | JsonLayout::Map
        | JsonLayout::SingleProduct
        | JsonLayout::NestedList(_) => {
            read_document(text, layout, reading, &mut output)?;
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

/// Output of the parts. Keeps errors of the callback, because serde cannot carry them.
struct JsonPartOutput<'t> {
    callback: JsonPartCallback<'t>,
    /// Number of the current element or line.
    line: u64,
    /// Error that stopped the output.
    error: Option<FormatError>,
}

impl JsonPartOutput<'_> {
    fn emit(&mut self, part: JsonPart<'_>) -> Result<(), JsonReadStopped> {
        (self.callback)(part, self.line).map_err(|e| {
            self.error = Some(e.into());
            JsonReadStopped
        })
    }
}

/// Marker that reading has stopped; [`JsonPartOutput::error`] has the reason.
struct JsonReadStopped;

impl fmt::Display for JsonReadStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading was stopped")
    }
}

// === Lines ===

fn read_lines(
    mut utf8: DecodedText<'_>,
    output: &mut JsonPartOutput<'_>,
) -> Result<(), FormatError> {
    while let Some(line) = next_line(&mut utf8, output.line + 1)? {
        output.line += 1;
        if line.trim().is_empty() {
            continue;
        }
        let part = match serde_json::from_str::<&RawValue>(&line) {
            Ok(element) => JsonPart::Element(element),
            Err(e) => JsonPart::Broken(&line, format!("the line is not JSON: {e}")),
        };
        if let Err(JsonReadStopped) = output.emit(part) {
            return Err(output
                .error
                .take()
                .expect("emit sets the error when it stops"));
        }
    }
    Ok(())
}

/// Returns the next line with its line end; `None` after the last one.
fn next_line(utf8: &mut DecodedText<'_>, number: u64) -> Result<Option<String>, FormatError> {
    let mut line = Vec::new();
    let limit = MAX_ELEMENT_BYTES as u64 + 1;
    let read = utf8
        .take(limit)
        .read_until(b'\n', &mut line)
        .map_err(|e| line_error(e, number))?;
    let broken_line = |reason: &str| {
        Err(FormatError::Broken {
            place: format!("line {number}"),
            reason: reason.to_owned(),
        })
    };
    if read as u64 == limit {
        return broken_line("the line is longer than 1 MiB");
    }
    match String::from_utf8(line) {
        Ok(line) => Ok((read > 0).then_some(line)),
        Err(_) => broken_line("the line is not UTF-8"),
    }
}

fn line_error(error: std::io::Error, line: u64) -> FormatError {
    match MalformedText::of(&error) {
        Some(reason) => FormatError::Broken {
            place: format!("line {line}"),
            reason,
        },
        None => FormatError::Io(error),
    }
}

// === Documents ===

fn read_document(
    utf8: DecodedText<'_>,
    layout: &JsonLayout,
    reading: &ReadSettings,
    output: &mut JsonPartOutput<'_>,
) -> Result<(), FormatError> {
    let budget = utf8.budget();
    budget.set(MAX_ELEMENT_BYTES);
    let seed = JsonDocument {
        layout,
        reading,
        budget: &budget,
        output: &mut *output,
    };
    let read = parse(utf8, seed);
    read.map_err(|e| output.error.take().unwrap_or(e))
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
        if !e.is_io() {
            return FormatError::Broken {
                place,
                reason: e.to_string(),
            };
        }
        let cause = std::io::Error::from(e);
        match MalformedText::of(&cause) {
            Some(reason) => FormatError::Broken { place, reason },
            None => FormatError::Io(cause),
        }
    })
}

struct JsonDocument<'a, 'o> {
    layout: &'a JsonLayout,
    reading: &'a ReadSettings,
    budget: &'a ReadBudget,
    output: &'a mut JsonPartOutput<'o>,
}

impl<'de> DeserializeSeed<'de> for JsonDocument<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.layout {
            JsonLayout::List | JsonLayout::Lines => json.deserialize_seq(self),
            JsonLayout::NestedList(path) if path.is_empty() => json.deserialize_seq(self),
            JsonLayout::Map | JsonLayout::NestedList(_) => json.deserialize_map(self),
            JsonLayout::SingleProduct => {
                let element = Box::<RawValue>::deserialize(json)?;
                self.output.line = 1;
                self.output
                    .emit(JsonPart::Element(&element))
                    .map_err(D::Error::custom)
            }
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
        self.budget.set(MAX_ELEMENT_BYTES);
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            self.output.line += 1;
            self.output
                .emit(JsonPart::Element(&element))
                .map_err(A::Error::custom)?;
            self.budget.set(MAX_ELEMENT_BYTES);
        }
        self.budget.set(MAX_SKIPPED_BYTES);
        Ok(())
    }

    /// Reads a map from SKU to stock, or an object with a list among its members.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self {
            layout,
            reading,
            budget,
            output,
        } = self;
        let mut has_list = false;
        let mut siblings = SiblingMembers::default();
        while let Some(name) = members.next_key::<String>()? {
            match layout {
                JsonLayout::NestedList(path) if path.first() == Some(&name) && !has_list => {
                    has_list = true;
                    let inner_layout =
                        JsonLayout::NestedList(path.get(1..).unwrap_or_default().to_vec());
                    let list = JsonDocument {
                        layout: &inner_layout,
                        reading,
                        budget,
                        output: &mut *output,
                    };
                    members.next_value_seed(list)?;
                }
                JsonLayout::NestedList(_) => {
                    budget.set(MAX_SKIPPED_BYTES);
                    siblings.read(&name, &mut members)?;
                }
                JsonLayout::Map
                | JsonLayout::List
                | JsonLayout::Lines
                | JsonLayout::SingleProduct => {
                    budget.set(MAX_ELEMENT_BYTES);
                    output.line += 1;
                    let stock = members.next_value::<Box<RawValue>>()?;
                    output
                        .emit(JsonPart::Pair(&name, &stock))
                        .map_err(A::Error::custom)?;
                }
            }
            budget.set(MAX_ELEMENT_BYTES);
        }
        match layout {
            JsonLayout::NestedList(path) if !has_list => {
                let path = path.join(".");
                Err(A::Error::custom(format_args!(
                    "the document has no list at '{path}': correct the setting list"
                )))
            }
            JsonLayout::NestedList(path) => {
                let list = path.first().map_or("", String::as_str);
                let result = siblings.check(list, output.line, reading);
                result.map_err(|reason| {
                    output.error = Some(FormatError::Unusable(reason));
                    A::Error::custom(JsonReadStopped)
                })
            }
            JsonLayout::Map | JsonLayout::List | JsonLayout::Lines | JsonLayout::SingleProduct => {
                Ok(())
            }
        }
    }
}

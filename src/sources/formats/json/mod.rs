//! JSON: a list of products, a map from SKU to stock, or one product a line (NDJSON).
//!
//! A list may be the document itself or a member of it; its elements are read one by one, so
//! that a million of them are never in memory. The Market's own bodies, `updateStocks` and the
//! answer of the old push API, are lists with `items` in their elements. A map or a list member
//! is only known for one once the document was looked through, and so it is read twice.
//!
//! JSON is UTF-8, or UTF-16 with its mark; a file in windows-1251 is no JSON, unless the
//! settings say that it is one.
//!
//! A truncated document never reads as a shorter one. Of a truncated NDJSON the whole lines are
//! taken: a line that was cut lacks its closing brace, and is set aside.

mod element;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{BufRead, Read};

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use self::shape::Shape;
use super::text::{Allowance, Malformed, Utf8};
use super::{Ending, FormatError, Input, Sink};
use crate::sources::{Entry, Reading};

/// Largest element, and longest line, in bytes.
const MAX_ELEMENT: usize = 1024 * 1024;

/// Largest member that is passed over, in bytes.
const MAX_ASIDE: usize = 64 * 1024 * 1024;

/// Reads a document, or its lines, to its end.
///
/// # Errors
/// It is broken, of no known shape, or nobody wants the rest.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let shape = shape::find(input, reading)?;
    input.rewind()?;
    let mut out = Out { reading, sink, line: 0, failure: None };
    let utf8 = open(input, reading)?;
    match shape {
        Shape::Lines => lines(utf8, &mut out)?,
        Shape::List | Shape::Map | Shape::One | Shape::Member(_) => {
            document(utf8, &shape, &mut out)?;
        }
    }
    Ok(Ending::default())
}

fn open<'a>(input: &'a mut dyn Input, reading: &Reading) -> Result<Utf8<'a>, FormatError> {
    Utf8::new(input, |_| Ok(reading.encoding.unwrap_or(encoding_rs::UTF_8)))
}

/// Where what is read goes, from inside serde, which has no error for ours.
struct Out<'a> {
    reading: &'a Reading,
    sink: Sink<'a>,
    /// The number of the element, or the line.
    line: u64,
    /// Why the sink took no more.
    failure: Option<FormatError>,
}

impl Out<'_> {
    fn put(&mut self, entries: Vec<Entry>) -> Result<(), Stopped> {
        for entry in entries {
            (self.sink)(entry).map_err(|e| {
                self.failure = Some(e.into());
                Stopped
            })?;
        }
        Ok(())
    }
}

/// The sink takes no more; why, [`Out::failure`] tells.
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody wants the rest")
    }
}

// === One in each line ===

fn lines(mut utf8: Utf8<'_>, out: &mut Out<'_>) -> Result<(), FormatError> {
    while let Some(line) = next_line(&mut utf8, out.line + 1)? {
        out.line += 1;
        if line.trim().is_empty() {
            continue;
        }
        let entries = match serde_json::from_str::<&RawValue>(&line) {
            Ok(element) => element::read(element, out.line, out.reading),
            Err(e) => vec![element::rejected(out.line, &line, format!("it is no JSON: {e}"))],
        };
        if let Err(Stopped) = out.put(entries) {
            return Err(out.failure.take().expect("put says why it has stopped"));
        }
    }
    Ok(())
}

/// A line without its end; `None` after the last one.
fn next_line(utf8: &mut Utf8<'_>, number: u64) -> Result<Option<String>, FormatError> {
    let mut line = Vec::new();
    let most = MAX_ELEMENT as u64 + 1;
    let read = utf8.take(most).read_until(b'\n', &mut line).map_err(|e| failure_of(e, number))?;
    let broken = |reason: &str| {
        Err(FormatError::Broken { place: format!("line {number}"), reason: reason.to_owned() })
    };
    if read as u64 == most {
        return broken("the line is longer than any product");
    }
    match String::from_utf8(line) {
        Ok(line) => Ok((read > 0).then_some(line)),
        Err(_) => broken("it is not UTF-8"),
    }
}

fn failure_of(error: std::io::Error, line: u64) -> FormatError {
    match Malformed::of(&error) {
        Some(reason) => FormatError::Broken { place: format!("line {line}"), reason },
        None => FormatError::Io(error),
    }
}

// === A document ===

fn document(utf8: Utf8<'_>, shape: &Shape, out: &mut Out<'_>) -> Result<(), FormatError> {
    let allowance = utf8.allowance();
    allowance.set(MAX_ELEMENT);
    let read = parse(utf8, Document { shape, allowance: &allowance, out: &mut *out });
    read.map_err(|e| out.failure.take().unwrap_or(e))
}

/// Parses a whole document, with nothing after it.
fn parse<S: DeserializeSeed<'static>>(utf8: Utf8<'_>, seed: S) -> Result<S::Value, FormatError> {
    let mut json = serde_json::Deserializer::from_reader(utf8);
    let value = seed.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    value.map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        if !e.is_io() {
            return FormatError::Broken { place, reason: e.to_string() };
        }
        let cause = std::io::Error::from(e);
        match Malformed::of(&cause) {
            Some(reason) => FormatError::Broken { place, reason },
            None => FormatError::Io(cause),
        }
    })
}

struct Document<'a, 'o> {
    shape: &'a Shape,
    allowance: &'a Allowance,
    out: &'a mut Out<'o>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::List | Shape::Lines => json.deserialize_seq(self),
            Shape::Map | Shape::Member(_) => json.deserialize_map(self),
            Shape::One => {
                let element = Box::<RawValue>::deserialize(json)?;
                self.out.line = 1;
                let entries = element::read(&element, 1, self.out.reading);
                self.out.put(entries).map_err(D::Error::custom)
            }
        }
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of products, or a map from SKU to stock")
    }

    /// A list, element by element.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.allowance.set(MAX_ELEMENT);
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            self.out.line += 1;
            let entries = element::read(&element, self.out.line, self.out.reading);
            self.out.put(entries).map_err(A::Error::custom)?;
            self.allowance.set(MAX_ELEMENT);
        }
        self.allowance.set(MAX_ASIDE);
        Ok(())
    }

    /// A map from SKU to stock, or a document with a list among its members.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { shape, allowance, out } = self;
        let mut has_list = false;
        while let Some(name) = members.next_key::<String>()? {
            match shape {
                Shape::Member(list) if *list == name && !has_list => {
                    has_list = true;
                    let list = Document { shape: &Shape::List, allowance, out: &mut *out };
                    members.next_value_seed(list)?;
                }
                Shape::Member(_) if shape::is_list_name(&name) => {
                    allowance.set(MAX_ASIDE);
                    members.next_value_seed(shape::NoList)?;
                }
                Shape::Member(_) => {
                    allowance.set(MAX_ASIDE);
                    members.next_value::<IgnoredAny>()?;
                }
                Shape::Map | Shape::List | Shape::Lines | Shape::One => {
                    allowance.set(MAX_ELEMENT);
                    out.line += 1;
                    let stock = members.next_value::<Box<RawValue>>()?;
                    let entry = element::read_pair(&name, &stock, out.line, out.reading);
                    out.put(vec![entry]).map_err(A::Error::custom)?;
                }
            }
            allowance.set(MAX_ELEMENT);
        }
        Ok(())
    }
}

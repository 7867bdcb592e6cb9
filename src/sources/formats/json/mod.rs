//! JSON: a list of products, a map from SKU to stock, or one product a line (NDJSON).
//!
//! A list may be the document itself or a member of it; its elements are read one by one, so
//! that a million of them are never in memory. The Market's own bodies, `updateStocks` and the
//! answer of the old push API, are lists with `items` in their elements. A map or a list member
//! is only known for one once the document was looked through.
//!
//! JSON is UTF-8, or UTF-16 with its mark; a file in windows-1251 is no JSON, unless the
//! settings say that it is one.
//!
//! A truncated document never reads as a shorter one. Of a truncated NDJSON the whole lines are
//! taken: a line that was cut lacks its closing brace, and is set aside.

mod aside;
mod element;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{BufRead, Read};

use encoding_rs::Encoding;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use self::aside::Beside;
use self::element::Survey;
use self::shape::Shape;
use super::decode::{self, Allowance, Guess, Malformed, Text};
use super::{Ending, FormatError, Input, Sink};
use crate::sources::{GivenUp, Reading};

/// Largest element, and longest line, in bytes.
const MAX_ELEMENT: usize = 1024 * 1024;

/// Largest member that is passed over, in bytes.
const MAX_ASIDE: usize = 64 * 1024 * 1024;

/// Reads a document, or its lines, to its end: twice, because which member holds the SKU is
/// decided for the whole file.
///
/// # Errors
/// It is broken, of no known shape, two members may each be the SKU, or the sink wants no more.
pub(super) fn read(
    input: &mut dyn Input,
    reading: &Reading,
    sink: Sink<'_>,
) -> Result<Ending, FormatError> {
    let shape = shape::find(input, reading)?;
    let mut survey = Survey::default();
    walk(input, &shape, reading, &mut |part, _| {
        match part {
            Part::Element(element) => survey.learn(element, reading),
            Part::Pair(_, stock) => survey.learn_pair(stock),
            Part::Broken(..) => {}
        }
        Ok(())
    })?;
    let plan = survey.plan(reading)?;
    let encoding = walk(input, &shape, reading, &mut |part, line| {
        let entries = match part {
            Part::Element(element) => plan.read(element, line),
            Part::Pair(sku, stock) => vec![plan.read_pair(sku, stock, line)],
            Part::Broken(text, reason) => vec![element::rejected(line, text, reason)],
        };
        entries.into_iter().try_for_each(&mut *sink)
    })?;
    let mut ending = Ending::default();
    ending.shape.set("encoding", encoding.name());
    ending.shape.set("list", shape.describe());
    plan.describe(&mut ending.shape);
    Ok(ending)
}

/// A part of a document that states the stock of one product.
enum Part<'p> {
    Element(&'p RawValue),
    /// A SKU and its stock.
    Pair(&'p str, &'p RawValue),
    /// A line that is not JSON, and why.
    Broken(&'p str, String),
}

/// Takes the parts of a document, with their number from 1.
type Take<'t> = &'t mut dyn FnMut(Part<'_>, u64) -> Result<(), GivenUp>;

/// Goes through a document once.
fn walk(
    input: &mut dyn Input,
    shape: &Shape,
    reading: &Reading,
    take: Take<'_>,
) -> Result<&'static Encoding, FormatError> {
    let text = open(input, reading)?;
    let (encoding, decoded) = (text.encoding(), text.decoded());
    let mut out = Out {
        take,
        line: 0,
        failure: None,
    };
    match shape {
        Shape::Lines => lines(text, &mut out)?,
        Shape::List | Shape::Map | Shape::One | Shape::Member(_) => {
            document(text, shape, reading, &mut out)?;
        }
    }
    decoded.get().check(encoding)?;
    Ok(encoding)
}

fn open<'a>(input: &'a mut dyn Input, reading: &Reading) -> Result<Text<'a>, FormatError> {
    decode::open(
        input,
        reading.encoding,
        &Guess::Declared(&|_| Ok(encoding_rs::UTF_8)),
    )
}

/// Where the parts go, from inside serde, which has no error for ours.
struct Out<'t> {
    take: Take<'t>,
    /// The number of the element, or the line.
    line: u64,
    /// Why no more parts are taken.
    failure: Option<FormatError>,
}

impl Out<'_> {
    fn put(&mut self, part: Part<'_>) -> Result<(), Stopped> {
        (self.take)(part, self.line).map_err(|e| {
            self.failure = Some(e.into());
            Stopped
        })
    }
}

/// Nothing more is read; why, [`Out::failure`] tells.
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody wants the rest")
    }
}

// === One in each line ===

fn lines(mut utf8: Text<'_>, out: &mut Out<'_>) -> Result<(), FormatError> {
    while let Some(line) = next_line(&mut utf8, out.line + 1)? {
        out.line += 1;
        if line.trim().is_empty() {
            continue;
        }
        let part = match serde_json::from_str::<&RawValue>(&line) {
            Ok(element) => Part::Element(element),
            Err(e) => Part::Broken(&line, format!("it is no JSON: {e}")),
        };
        if let Err(Stopped) = out.put(part) {
            return Err(out.failure.take().expect("put says why it has stopped"));
        }
    }
    Ok(())
}

/// A line without its end; `None` after the last one.
fn next_line(utf8: &mut Text<'_>, number: u64) -> Result<Option<String>, FormatError> {
    let mut line = Vec::new();
    let most = MAX_ELEMENT as u64 + 1;
    let read = utf8
        .take(most)
        .read_until(b'\n', &mut line)
        .map_err(|e| failure_of(e, number))?;
    let broken = |reason: &str| {
        Err(FormatError::Broken {
            place: format!("line {number}"),
            reason: reason.to_owned(),
        })
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
        Some(reason) => FormatError::Broken {
            place: format!("line {line}"),
            reason,
        },
        None => FormatError::Io(error),
    }
}

// === A document ===

fn document(
    utf8: Text<'_>,
    shape: &Shape,
    reading: &Reading,
    out: &mut Out<'_>,
) -> Result<(), FormatError> {
    let allowance = utf8.allowance();
    allowance.set(MAX_ELEMENT);
    let document = Document {
        shape,
        reading,
        allowance: &allowance,
        out: &mut *out,
    };
    let read = parse(utf8, document);
    read.map_err(|e| out.failure.take().unwrap_or(e))
}

/// Parses a whole document, with nothing after it.
fn parse<S: DeserializeSeed<'static>>(utf8: Text<'_>, seed: S) -> Result<S::Value, FormatError> {
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
        match Malformed::of(&cause) {
            Some(reason) => FormatError::Broken { place, reason },
            None => FormatError::Io(cause),
        }
    })
}

struct Document<'a, 'o> {
    shape: &'a Shape,
    reading: &'a Reading,
    allowance: &'a Allowance,
    out: &'a mut Out<'o>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::List | Shape::Lines => json.deserialize_seq(self),
            Shape::Member(path) if path.is_empty() => json.deserialize_seq(self),
            Shape::Map | Shape::Member(_) => json.deserialize_map(self),
            Shape::One => {
                let element = Box::<RawValue>::deserialize(json)?;
                self.out.line = 1;
                self.out
                    .put(Part::Element(&element))
                    .map_err(D::Error::custom)
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
            self.out
                .put(Part::Element(&element))
                .map_err(A::Error::custom)?;
            self.allowance.set(MAX_ELEMENT);
        }
        self.allowance.set(MAX_ASIDE);
        Ok(())
    }

    /// A map from SKU to stock, or a document with a list among its members.
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self {
            shape,
            reading,
            allowance,
            out,
        } = self;
        let mut has_list = false;
        let mut beside = Beside::default();
        while let Some(name) = members.next_key::<String>()? {
            match shape {
                Shape::Member(path) if path.first() == Some(&name) && !has_list => {
                    has_list = true;
                    let inner = Shape::Member(path.get(1..).unwrap_or_default().to_vec());
                    let list = Document {
                        shape: &inner,
                        reading,
                        allowance,
                        out: &mut *out,
                    };
                    members.next_value_seed(list)?;
                }
                Shape::Member(_) => {
                    allowance.set(MAX_ASIDE);
                    beside.read(&name, &mut members)?;
                }
                Shape::Map | Shape::List | Shape::Lines | Shape::One => {
                    allowance.set(MAX_ELEMENT);
                    out.line += 1;
                    let stock = members.next_value::<Box<RawValue>>()?;
                    out.put(Part::Pair(&name, &stock))
                        .map_err(A::Error::custom)?;
                }
            }
            allowance.set(MAX_ELEMENT);
        }
        match shape {
            Shape::Member(path) if !has_list => {
                let path = path.join(".");
                Err(A::Error::custom(format_args!(
                    "there is no list at '{path}', see the setting list"
                )))
            }
            Shape::Member(path) => {
                let list = path.first().map_or("", String::as_str);
                let checked = beside.check(list, out.line, reading);
                checked.map_err(|reason| {
                    out.failure = Some(FormatError::Unfit(reason));
                    A::Error::custom(Stopped)
                })
            }
            Shape::Map | Shape::List | Shape::Lines | Shape::One => Ok(()),
        }
    }
}

//! XML as YML and CommerceML need it: element by element, in little memory, and no more trusted
//! than the rest of a file.
//!
//! Nothing outside the document is ever fetched, and no entity is expanded but the five of XML
//! and the numeric ones.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use encoding_rs::{Encoding, IBM866, KOI8_R, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attributes;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::decode::{self, Allowance, Decoded, Guess, Malformed, peek};
use super::fields::Text;
use super::{FormatError, Input};

/// Deepest nesting; what sellers send is ten deep.
const MAX_DEPTH: usize = 100;

/// Largest tag, comment or run of text, in bytes: descriptions and their HTML are in there.
const MAX_PIECE: usize = 4 * 1024 * 1024;

/// Longest text of a field that we read, in bytes. A SKU of 255 characters has at most 1020.
const MAX_FIELD: usize = 4 * 1024;

/// Where in its first bytes a file may say in which encoding it is.
const MAX_DECLARATION: usize = 1_024;

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Node {
    /// An element begins; [`Xml::name`] and [`Xml::attribute`] tell of it.
    Open,
    /// An element ends.
    Close,
    /// Text between them.
    Text,
    /// A reference to something that is not in the file.
    Unknown,
    /// The document ends, well.
    End,
}

/// A document that is gone through once, from its beginning to its end.
pub(super) struct Xml<'a> {
    reader: Reader<decode::Text<'a>>,
    allowance: Allowance,
    encoding: &'static Encoding,
    decoded: Rc<Cell<Decoded>>,
    piece: Vec<u8>,
    depth: usize,
    has_root: bool,
    name: String,
    attributes: String,
    text: String,
}

impl<'a> Xml<'a> {
    /// Begins with a document.
    ///
    /// # Errors
    /// It cannot be read, or says that it is in an encoding that is unknown, or is not the one its
    /// bytes are in.
    pub(super) fn new(
        input: &'a mut dyn Input,
        encoding: Option<&'static Encoding>,
    ) -> Result<Self, FormatError> {
        let utf8 = decode::open(input, encoding, &Guess::Declared(&declared))?;
        let allowance = utf8.allowance();
        let (encoding, decoded) = (utf8.encoding(), utf8.decoded());
        let mut reader = Reader::from_reader(utf8);
        reader.config_mut().expand_empty_elements = true;
        Ok(Self {
            reader,
            allowance,
            encoding,
            decoded,
            piece: Vec::new(),
            depth: 0,
            has_root: false,
            name: String::new(),
            attributes: String::new(),
            text: String::new(),
        })
    }

    /// The name of the element that has just begun, without a prefix: the namespaces of 1C
    /// change with its version, the names do not.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// An attribute of the element that has just begun.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<Text>, FormatError> {
        self.attribute_where(|found| found == name)
    }

    /// The first attribute of the element that has just begun whose name is such.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub(super) fn attribute_where(
        &self,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Option<Text>, FormatError> {
        let mut meant = None;
        // To the last one, because a name that comes twice is only found at its second place.
        for attribute in Attributes::new(&self.attributes, 0) {
            let attribute = attribute.map_err(|e| self.broken(e.to_string()))?;
            if meant.is_none() && is_meant(attribute.key.local_name().as_ref()) {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                meant = Some(value.map(String::from).map_err(|e| e.to_string()));
            }
        }
        Ok(meant)
    }

    /// Goes on to what comes next.
    ///
    /// # Errors
    /// The document is not well-formed, too deep, or ends before its end.
    pub(super) fn next(&mut self) -> Result<Node, FormatError> {
        loop {
            let node = self.step()?;
            if let Some(node) = node {
                return Ok(node);
            }
        }
    }

    fn step(&mut self) -> Result<Option<Node>, FormatError> {
        self.allowance.set(MAX_PIECE);
        self.piece.clear();
        let position = self.reader.buffer_position();
        let event = match self.reader.read_event_into(&mut self.piece) {
            Ok(event) => event,
            Err(e) => return Err(failure(position, &e)),
        };
        let broken = |reason: &str| decode::broken(position, reason);
        let node = match event {
            Event::Start(_) if self.depth == 0 && self.has_root => {
                return Err(broken(
                    "a second document begins after the end of the first",
                ));
            }
            Event::Start(_) if self.depth == MAX_DEPTH => {
                return Err(broken("its elements are nested deeper than any feed's"));
            }
            Event::Start(tag) => {
                remember(&tag, &mut self.name, &mut self.attributes);
                self.depth += 1;
                self.has_root = true;
                Node::Open
            }
            Event::End(_) => {
                self.depth -= 1;
                Node::Close
            }
            Event::Text(text) => keep(&mut self.text, &text.xml10_content(), Node::Text),
            Event::CData(text) => keep(&mut self.text, &text.xml10_content(), Node::Text),
            Event::GeneralRef(reference) => resolve(&mut self.text, &reference),
            Event::Eof if self.depth > 0 || !self.has_root => {
                return Err(broken("it ends before its last element does"));
            }
            Event::Eof => {
                self.decoded.get().check(self.encoding)?;
                Node::End
            }
            // Empty elements are told as two events.
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => return Ok(None),
        };
        let is_text = matches!(node, Node::Text | Node::Unknown);
        if is_text && self.depth == 0 {
            // Line ends around the root say nothing; anything else says that it is no XML.
            let is_blank = node == Node::Text && self.text.trim().is_empty();
            return if is_blank {
                Ok(None)
            } else {
                Err(broken("text stands outside the root"))
            };
        }
        Ok(Some(node))
    }

    /// Reads the text of the element that has just begun, to its end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn field(&mut self) -> Result<Text, FormatError> {
        let mut text = Ok(String::new());
        loop {
            let fault = match self.next()? {
                Node::Close | Node::End => return Ok(text),
                Node::Text => match &mut text {
                    Ok(said) if said.len() + self.text.len() <= MAX_FIELD => {
                        said.push_str(&self.text);
                        continue;
                    }
                    Ok(_) => format!("a field is longer than {MAX_FIELD} bytes"),
                    Err(_) => continue,
                },
                Node::Unknown => format!("&{}; stands for nothing", self.text),
                Node::Open => {
                    let fault = format!("<{}> stands where a text is wanted", self.name);
                    self.skip()?;
                    fault
                }
            };
            // The first fault is the one to tell.
            text = text.and(Err(fault));
        }
    }

    /// Passes over the element that has just begun, to its end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn skip(&mut self) -> Result<(), FormatError> {
        let outside = self.depth.saturating_sub(1);
        while self.depth > outside {
            self.next()?;
        }
        Ok(())
    }

    /// Goes on to the next child of an element, past any text; `false` at the element's end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn child(&mut self) -> Result<bool, FormatError> {
        loop {
            match self.next()? {
                Node::Open => return Ok(true),
                Node::Close | Node::End => return Ok(false),
                Node::Text | Node::Unknown => {}
            }
        }
    }

    fn broken(&self, reason: impl Into<String>) -> FormatError {
        decode::broken(self.reader.buffer_position(), reason)
    }
}

fn remember(tag: &BytesStart<'_>, name: &mut String, attributes: &mut String) {
    name.clear();
    name.push_str(tag.local_name().as_ref());
    attributes.clear();
    attributes.push_str(tag.attributes_raw());
}

fn keep(into: &mut String, text: &str, node: Node) -> Node {
    into.clear();
    into.push_str(text);
    node
}

fn resolve(into: &mut String, reference: &BytesRef<'_>) -> Node {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return keep(into, character.encode_utf8(&mut [0; 4]), Node::Text);
    }
    match resolve_predefined_entity(reference) {
        Some(text) => keep(into, text, Node::Text),
        None => keep(into, reference, Node::Unknown),
    }
}

fn failure(position: u64, error: &quick_xml::Error) -> FormatError {
    let quick_xml::Error::Io(cause) = error else {
        return decode::broken(position, error.to_string());
    };
    match Malformed::of(cause) {
        Some(reason) => decode::broken(position, reason),
        None => FormatError::Io(io::Error::new(cause.kind(), cause.clone())),
    }
}

/// The encoding an XML declaration names; UTF-8 if there is none.
fn declared(head: &[u8]) -> Result<&'static Encoding, String> {
    match head {
        [b'<', 0, ..] => return Ok(UTF_16LE),
        [0, b'<', ..] => return Ok(UTF_16BE),
        _ => {}
    }
    let head = head.get(..MAX_DECLARATION).unwrap_or(head);
    let Some(label) = label_of(&peek(head, UTF_8)) else {
        return Ok(UTF_8);
    };
    let encoding = named(&label).ok_or_else(|| {
        format!(
            "it says that its encoding is '{label}', which is no name of an encoding: set encoding \
             to the one it is in, such as windows-1251"
        )
    })?;
    // .NET writes "utf-16" into what it saves as UTF-8. In UTF-16, this could not have been read.
    Ok(if encoding == UTF_16LE || encoding == UTF_16BE {
        UTF_8
    } else {
        encoding
    })
}

/// The encoding of that name; also by names that are no labels and have one meaning.
fn named(label: &str) -> Option<&'static Encoding> {
    let plain: String = label
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    Encoding::for_label_no_replacement(label.as_bytes()).or(match plain.as_str() {
        "win1251" | "windows1251" | "cp1251" | "ansi1251" | "1251" => Some(WINDOWS_1251),
        "utf8" => Some(UTF_8),
        "cp866" | "dos866" | "ibm866" => Some(IBM866),
        "koi8r" => Some(KOI8_R),
        _ => None,
    })
}

fn label_of(head: &str) -> Option<String> {
    let declaration = head.trim_start().strip_prefix("<?xml")?.split_once("?>")?.0;
    let (_, rest) = declaration.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    rest.split(quote).nth(1).map(str::to_owned)
}

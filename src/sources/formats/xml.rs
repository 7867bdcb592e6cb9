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

use super::decode::{self, DecodeStats, EncodingFallback, MalformedText, ReadBudget, decode_head};
use super::fields::FieldText;
use super::{FormatError, Input};

/// Deepest nesting; what sellers send is ten deep.
const MAX_DEPTH: usize = 100;

/// Largest tag, comment or run of text, in bytes: descriptions and their HTML are in there.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Longest text of a field that we read, in bytes. A SKU of 255 characters has at most 1020.
const MAX_FIELD_BYTES: usize = 4 * 1024;

/// Where in its first bytes a file may say in which encoding it is.
const MAX_DECLARATION_BYTES: usize = 1_024;

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum XmlNode {
    /// An element begins; [`Xml::name`] and [`Xml::attribute`] tell of it.
    ElementStart,
    /// An element ends.
    ElementEnd,
    /// Text between them.
    Text,
    /// A reference to something that is not in the file.
    UnresolvedReference,
    /// The document ends, well.
    DocumentEnd,
}

/// A document that is gone through once, from its beginning to its end.
pub(super) struct XmlReader<'a> {
    reader: Reader<decode::DecodedText<'a>>,
    budget: ReadBudget,
    encoding: &'static Encoding,
    stats: Rc<Cell<DecodeStats>>,
    buffer: Vec<u8>,
    depth: usize,
    has_root: bool,
    name: String,
    attributes: String,
    text: String,
}

impl<'a> XmlReader<'a> {
    /// Begins with a document.
    ///
    /// # Errors
    /// It cannot be read, or says that it is in an encoding that is unknown, or is not the one its
    /// bytes are in.
    pub(super) fn new(
        input: &'a mut dyn Input,
        encoding: Option<&'static Encoding>,
    ) -> Result<Self, FormatError> {
        let utf8 = decode::open(
            input,
            encoding,
            &EncodingFallback::Declared(&declared_encoding),
        )?;
        let budget = utf8.budget();
        let (encoding, stats) = (utf8.encoding(), utf8.stats());
        let mut reader = Reader::from_reader(utf8);
        reader.config_mut().expand_empty_elements = true;
        Ok(Self {
            reader,
            budget,
            encoding,
            stats,
            buffer: Vec::new(),
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
    pub(super) fn attribute(&self, name: &str) -> Result<Option<FieldText>, FormatError> {
        self.attribute_where(|found| found == name)
    }

    /// The first attribute of the element that has just begun whose name is such.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub(super) fn attribute_where(
        &self,
        is_match: impl Fn(&str) -> bool,
    ) -> Result<Option<FieldText>, FormatError> {
        let mut found = None;
        // To the last one, because a name that comes twice is only found at its second place.
        for attribute in Attributes::new(&self.attributes, 0) {
            let attribute = attribute.map_err(|e| self.broken(e.to_string()))?;
            if found.is_none() && is_match(attribute.key.local_name().as_ref()) {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                found = Some(value.map(String::from).map_err(|e| e.to_string()));
            }
        }
        Ok(found)
    }

    /// Goes on to what comes next.
    ///
    /// # Errors
    /// The document is not well-formed, too deep, or ends before its end.
    pub(super) fn next(&mut self) -> Result<XmlNode, FormatError> {
        loop {
            let node = self.next_event()?;
            if let Some(node) = node {
                return Ok(node);
            }
        }
    }

    fn next_event(&mut self) -> Result<Option<XmlNode>, FormatError> {
        self.budget.set(MAX_EVENT_BYTES);
        self.buffer.clear();
        let position = self.reader.buffer_position();
        let event = match self.reader.read_event_into(&mut self.buffer) {
            Ok(event) => event,
            Err(e) => return Err(convert_error(position, &e)),
        };
        let broken_here = |reason: &str| decode::broken(position, reason);
        let node = match event {
            Event::Start(_) if self.depth == 0 && self.has_root => {
                return Err(broken_here(
                    "a second document begins after the end of the first",
                ));
            }
            Event::Start(_) if self.depth == MAX_DEPTH => {
                return Err(broken_here(
                    "its elements are nested deeper than any feed's",
                ));
            }
            Event::Start(tag) => {
                store_tag(&tag, &mut self.name, &mut self.attributes);
                self.depth += 1;
                self.has_root = true;
                XmlNode::ElementStart
            }
            Event::End(_) => {
                self.depth -= 1;
                XmlNode::ElementEnd
            }
            Event::Text(text) => store_text(&mut self.text, &text.xml10_content(), XmlNode::Text),
            Event::CData(text) => store_text(&mut self.text, &text.xml10_content(), XmlNode::Text),
            Event::GeneralRef(reference) => resolve_reference(&mut self.text, &reference),
            Event::Eof if self.depth > 0 || !self.has_root => {
                return Err(broken_here("it ends before its last element does"));
            }
            Event::Eof => {
                self.stats.get().check(self.encoding)?;
                XmlNode::DocumentEnd
            }
            // Empty elements are told as two events.
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => return Ok(None),
        };
        let is_text = matches!(node, XmlNode::Text | XmlNode::UnresolvedReference);
        if is_text && self.depth == 0 {
            // Line ends around the root say nothing; anything else says that it is no XML.
            let is_blank = node == XmlNode::Text && self.text.trim().is_empty();
            return if is_blank {
                Ok(None)
            } else {
                Err(broken_here("text stands outside the root"))
            };
        }
        Ok(Some(node))
    }

    /// Reads the text of the element that has just begun, to its end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn read_text(&mut self) -> Result<FieldText, FormatError> {
        let mut text = Ok(String::new());
        loop {
            let reason = match self.next()? {
                XmlNode::ElementEnd | XmlNode::DocumentEnd => return Ok(text),
                XmlNode::Text => match &mut text {
                    Ok(content) if content.len() + self.text.len() <= MAX_FIELD_BYTES => {
                        content.push_str(&self.text);
                        continue;
                    }
                    Ok(_) => format!("a field is longer than {MAX_FIELD_BYTES} bytes"),
                    Err(_) => continue,
                },
                XmlNode::UnresolvedReference => format!("&{}; stands for nothing", self.text),
                XmlNode::ElementStart => {
                    let reason = format!("<{}> stands where a text is wanted", self.name);
                    self.skip()?;
                    reason
                }
            };
            // The first fault is the one to tell.
            text = text.and(Err(reason));
        }
    }

    /// Passes over the element that has just begun, to its end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn skip(&mut self) -> Result<(), FormatError> {
        let parent_depth = self.depth.saturating_sub(1);
        while self.depth > parent_depth {
            self.next()?;
        }
        Ok(())
    }

    /// Goes on to the next child of an element, past any text; `false` at the element's end.
    ///
    /// # Errors
    /// The document is broken.
    pub(super) fn next_child(&mut self) -> Result<bool, FormatError> {
        loop {
            match self.next()? {
                XmlNode::ElementStart => return Ok(true),
                XmlNode::ElementEnd | XmlNode::DocumentEnd => return Ok(false),
                XmlNode::Text | XmlNode::UnresolvedReference => {}
            }
        }
    }

    fn broken(&self, reason: impl Into<String>) -> FormatError {
        decode::broken(self.reader.buffer_position(), reason)
    }
}

fn store_tag(tag: &BytesStart<'_>, name: &mut String, attributes: &mut String) {
    name.clear();
    name.push_str(tag.local_name().as_ref());
    attributes.clear();
    attributes.push_str(tag.attributes_raw());
}

fn store_text(target: &mut String, text: &str, node: XmlNode) -> XmlNode {
    target.clear();
    target.push_str(text);
    node
}

fn resolve_reference(target: &mut String, reference: &BytesRef<'_>) -> XmlNode {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return store_text(target, character.encode_utf8(&mut [0; 4]), XmlNode::Text);
    }
    match resolve_predefined_entity(reference) {
        Some(text) => store_text(target, text, XmlNode::Text),
        None => store_text(target, reference, XmlNode::UnresolvedReference),
    }
}

fn convert_error(position: u64, error: &quick_xml::Error) -> FormatError {
    let quick_xml::Error::Io(cause) = error else {
        return decode::broken(position, error.to_string());
    };
    match MalformedText::of(cause) {
        Some(reason) => decode::broken(position, reason),
        None => FormatError::Io(io::Error::new(cause.kind(), cause.clone())),
    }
}

/// The encoding an XML declaration names; UTF-8 if there is none.
fn declared_encoding(head: &[u8]) -> Result<&'static Encoding, String> {
    match head {
        [b'<', 0, ..] => return Ok(UTF_16LE),
        [0, b'<', ..] => return Ok(UTF_16BE),
        _ => {}
    }
    let head = head.get(..MAX_DECLARATION_BYTES).unwrap_or(head);
    let Some(label) = declared_label(&decode_head(head, UTF_8)) else {
        return Ok(UTF_8);
    };
    let encoding = encoding_by_name(&label).ok_or_else(|| {
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
fn encoding_by_name(label: &str) -> Option<&'static Encoding> {
    let normalized: String = label
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    Encoding::for_label_no_replacement(label.as_bytes()).or(match normalized.as_str() {
        "win1251" | "windows1251" | "cp1251" | "ansi1251" | "1251" => Some(WINDOWS_1251),
        "utf8" => Some(UTF_8),
        "cp866" | "dos866" | "ibm866" => Some(IBM866),
        "koi8r" => Some(KOI8_R),
        _ => None,
    })
}

fn declared_label(head: &str) -> Option<String> {
    let declaration = head.trim_start().strip_prefix("<?xml")?.split_once("?>")?.0;
    let (_, rest) = declaration.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    rest.split(quote).nth(1).map(str::to_owned)
}

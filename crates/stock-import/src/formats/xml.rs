//! XML reader for YML and CommerceML. It reads one element at a time and limits depth and sizes.
//!
//! It never fetches external resources, and resolves only the five predefined entities and numeric
//! references.

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

/// Deepest nesting of elements. Sellers' files have about ten levels.
const MAX_DEPTH: usize = 100;

/// Largest tag, comment or text in bytes. Descriptions may contain long HTML.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Longest text of a field in bytes. A SKU of 255 characters has at most 1020.
const MAX_FIELD_BYTES: usize = 4 * 1024;

/// Bytes at the beginning of a file that are searched for an encoding declaration.
const MAX_DECLARATION_BYTES: usize = 1_024;

/// Next node of a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum XmlNode {
    /// Start of an element; see [`XmlReader::name`] and [`XmlReader::attribute`].
    ElementStart,
    ElementEnd,
    Text,
    /// Reference to an entity that is not predefined.
    UnresolvedReference,
    /// End of a well-formed document.
    DocumentEnd,
}

/// Pull parser that reads a document once.
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
    /// Opens a document.
    ///
    /// # Errors
    /// The file cannot be read, or it declares an encoding that is unknown or contradicts its
    /// bytes.
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

    /// Returns the name of the current element without its prefix. The namespaces of 1C change with
    /// its version, the local names do not.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns an attribute of the current element.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<FieldText>, FormatError> {
        self.attribute_where(|found| found == name)
    }

    /// Returns the first attribute of the current element whose name matches.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub(super) fn attribute_where(
        &self,
        is_match: impl Fn(&str) -> bool,
    ) -> Result<Option<FieldText>, FormatError> {
        let mut found = None;
        // Continues after a match, because a duplicate attribute is detected at its second
        // occurrence.
        for attribute in Attributes::new(&self.attributes, 0) {
            let attribute = attribute.map_err(|e| self.broken(e.to_string()))?;
            if found.is_none() && is_match(attribute.key.local_name().as_ref()) {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                found = Some(value.map(String::from).map_err(|e| e.to_string()));
            }
        }
        Ok(found)
    }

    /// Moves to the next node.
    ///
    /// # Errors
    /// The document is not well-formed, too deep, or truncated.
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
                return Err(broken_here(&format!(
                    "its elements are nested deeper than {MAX_DEPTH} levels"
                )));
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
                return Err(broken_here("it ends before its last element is closed"));
            }
            Event::Eof => {
                self.stats.get().check(self.encoding)?;
                XmlNode::DocumentEnd
            }
            // `expand_empty_elements` turns empty elements into two events.
            Event::Empty(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_) => return Ok(None),
        };
        let is_text = matches!(node, XmlNode::Text | XmlNode::UnresolvedReference);
        if is_text && self.depth == 0 {
            // Only blanks may surround the root element.
            let is_blank = node == XmlNode::Text && self.text.trim().is_empty();
            return if is_blank {
                Ok(None)
            } else {
                Err(broken_here("text is outside the root element"))
            };
        }
        Ok(Some(node))
    }

    /// Reads the text of the current element up to its end.
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
                XmlNode::UnresolvedReference => format!("&{}; is an unknown entity", self.text),
                XmlNode::ElementStart => {
                    let reason = format!("<{}> is not allowed in a text field", self.name);
                    self.skip()?;
                    reason
                }
            };
            // Keeps the first error.
            text = text.and(Err(reason));
        }
    }

    /// Skips the current element up to its end.
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

    /// Moves to the next child of an element, skipping text. Returns false at the end of the
    /// element.
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

/// Returns the encoding of the XML declaration; UTF-8 without one.
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
            "its XML declaration names the unknown encoding '{label}': set encoding to the file's \
             encoding, such as windows-1251"
        )
    })?;
    // .NET declares "utf-16" in files that it saves as UTF-8. In real UTF-16, the declaration could
    // not have been read as UTF-8.
    Ok(if encoding == UTF_16LE || encoding == UTF_16BE {
        UTF_8
    } else {
        encoding
    })
}

/// Returns the encoding with this name. Also accepts common names that are not standard labels.
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

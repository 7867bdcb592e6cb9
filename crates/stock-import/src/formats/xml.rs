//! XML reader for YML and CommerceML. It reads one element at a time and limits depth and sizes.
//!
//! It never fetches external resources, and resolves only the five predefined entities and numeric
//! references.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use encoding_rs::{Encoding, IBM866, KOI8_R, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251};
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use quick_xml::events::attributes::Attributes;
use quick_xml::{Reader, XmlVersion};

use super::decode::{
    self, DecodeStats, EncodingFallback, MalformedText, ReadBudget, decode_head, is_utf_16,
};
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
enum XmlNode {
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
            let attribute = attribute
                .map_err(|e| decode::broken(self.reader.buffer_position(), e.to_string()))?;
            if found.is_none() && is_match(attribute.key.local_name().as_ref()) {
                let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                found = Some(value.map(String::from).map_err(|e| e.to_string()));
            }
        }
        Ok(found)
    }

    /// Moves to the next element at any depth. Returns false at the end of the document.
    ///
    /// # Errors
    /// The document is not well-formed, too deep, or truncated.
    pub(super) fn next_element(&mut self) -> Result<bool, FormatError> {
        loop {
            match self.next()? {
                XmlNode::ElementStart => return Ok(true),
                XmlNode::DocumentEnd => return Ok(false),
                XmlNode::ElementEnd | XmlNode::Text | XmlNode::UnresolvedReference => {}
            }
        }
    }

    fn next(&mut self) -> Result<XmlNode, FormatError> {
        loop {
            self.budget.set(MAX_EVENT_BYTES);
            self.buffer.clear();
            self.text.clear();
            let position = self.reader.buffer_position();
            let event = self.reader.read_event_into(&mut self.buffer);
            let broken_here = |reason: &str| Err(decode::broken(position, reason));
            let is_resolved = match event.map_err(|e| convert_error(position, &e))? {
                Event::Start(_) if self.depth == 0 && self.has_root => {
                    return broken_here("a second document begins after the end of the first");
                }
                Event::Start(_) if self.depth == MAX_DEPTH => {
                    return broken_here(&format!(
                        "its elements are nested deeper than {MAX_DEPTH} levels"
                    ));
                }
                Event::Start(tag) => {
                    tag.local_name().as_ref().clone_into(&mut self.name);
                    tag.attributes_raw().clone_into(&mut self.attributes);
                    self.depth += 1;
                    self.has_root = true;
                    return Ok(XmlNode::ElementStart);
                }
                Event::End(_) => {
                    self.depth -= 1;
                    return Ok(XmlNode::ElementEnd);
                }
                Event::Text(text) => {
                    self.text.push_str(&text.xml10_content());
                    true
                }
                Event::CData(text) => {
                    self.text.push_str(&text.xml10_content());
                    true
                }
                Event::GeneralRef(name) => {
                    let predefined = resolve_predefined_entity(&name);
                    if let Ok(Some(character)) = name.resolve_char_ref() {
                        self.text.push(character);
                        true
                    } else {
                        self.text.push_str(predefined.unwrap_or(&name));
                        predefined.is_some()
                    }
                }
                Event::Eof if self.depth > 0 || !self.has_root => {
                    return broken_here("it ends before its last element is closed");
                }
                Event::Eof => {
                    self.stats.get().check(self.encoding)?;
                    return Ok(XmlNode::DocumentEnd);
                }
                // `expand_empty_elements` turns empty elements into two events.
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => continue,
            };
            if self.depth > 0 {
                return Ok(if is_resolved {
                    XmlNode::Text
                } else {
                    XmlNode::UnresolvedReference
                });
            }
            // Only blanks may surround the root element.
            if !is_resolved || !self.text.trim().is_empty() {
                return broken_here("text is outside the root element");
            }
        }
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
    if let [b'<', 0, ..] = head {
        return Ok(UTF_16LE);
    }
    if let [0, b'<', ..] = head {
        return Ok(UTF_16BE);
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
    Ok(if is_utf_16(encoding) { UTF_8 } else { encoding })
}

/// Returns the encoding with this name. Also accepts common names that are not standard labels.
fn encoding_by_name(label: &str) -> Option<&'static Encoding> {
    let is_mark = |c: char| !c.is_ascii_alphanumeric();
    let normalized = label.to_lowercase().replace(is_mark, "");
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

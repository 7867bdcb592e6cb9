//! Decoder of all text formats: bytes of any encoding in, UTF-8 out, one chunk at a time.
//!
//! The encoding is decided in this order, and each step is final:
//! 1. The setting `encoding`.
//! 2. A byte order mark.
//! 3. The format: the declaration of an XML document; UTF-8 for JSON.
//! 4. For tables, the bytes (see [`detect`]).
//!
//! A setting or a declaration that contradicts the bytes is an error too: text that is valid UTF-8
//! with multi-byte letters is not windows-1251.
//!
//! Bytes that are not characters of the encoding become [`UNDECODABLE`]. So a truncated letter
//! matters only in a column that is read.

mod detect;

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read, SeekFrom};
use std::rc::Rc;

use encoding_rs::{CoderResult, Decoder, DecoderResult, Encoding};

use self::detect::{count_multibyte, detect_encoding, reject_binary, reject_utf_8_text};
pub(super) use self::detect::{detect_utf_16, is_utf_16};
use super::{FormatError, Input};

/// Replacement for bytes that are not characters of the encoding. Unicode guarantees that U+FFFF
/// is never a character, while U+FFFD may occur in a file.
pub(super) const UNDECODABLE: char = '\u{ffff}';

/// Bytes read at once. This also bounds the bytes read before the first row is emitted.
const CHUNK_SIZE: usize = 16 * 1024;

/// Upper bound for the UTF-8 bytes of a decoded chunk, including bytes that the decoder held back
/// and an [`UNDECODABLE`].
const TEXT_CAPACITY: usize = 4 * CHUNK_SIZE;

/// Bytes at the beginning of a file that are inspected to recognise it.
const HEAD_LENGTH: usize = 4 * 1024;

/// Error in the bytes of a text, as opposed to a failure of the device.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct MalformedText(String);

impl MalformedText {
    /// Returns the description if malformed bytes caused the error.
    pub(super) fn of(error: &io::Error) -> Option<String> {
        let cause = error.get_ref()?;
        cause
            .downcast_ref::<Self>()
            .map(|malformed| malformed.0.clone())
    }
}

/// Budget of bytes that a parser may read before it must complete an element.
///
/// A parser buffers an incomplete element. Without this limit, an element that never ends would
/// fill the memory.
#[derive(Clone, Debug)]
pub(super) struct ReadBudget(Rc<Cell<usize>>);

impl ReadBudget {
    /// Allows `bytes` more bytes from here on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.set(bytes);
    }
}

/// Source of the encoding where neither the setting nor a byte order mark decides.
pub(super) enum EncodingFallback<'f> {
    /// Detection from the bytes of the whole file, for tables.
    Detect,
    /// A function of the first bytes, for formats that declare their encoding.
    Declared(&'f dyn Fn(&[u8]) -> Result<&'static Encoding, String>),
}

/// Reader of a file as UTF-8 text.
pub(super) struct DecodedText<'a> {
    input: BufReader<&'a mut dyn Input>,
    decoder: Decoder,
    /// Decoded text, which is read up to `text_start`. Never exceeds its capacity.
    text: String,
    text_start: usize,
    is_at_end: bool,
    budget: ReadBudget,
    stats: Rc<Cell<DecodeStats>>,
}

/// Counts of decoded characters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct DecodeStats {
    /// Places where the bytes are not characters.
    undecodable: u64,
    /// Letters that are not ASCII.
    non_ascii: u64,
}

impl DecodeStats {
    /// Rejects a text that is mostly not in its encoding.
    ///
    /// # Errors
    /// The text has more undecodable sequences than non-ASCII letters.
    pub(super) fn check(self, encoding: &'static Encoding) -> Result<(), FormatError> {
        if self.undecodable <= self.non_ascii {
            return Ok(());
        }
        Err(FormatError::Unusable(format!(
            "{} byte sequences of the file are not {}: set encoding to the file's encoding, such as \
             windows-1251",
            self.undecodable,
            encoding.name()
        )))
    }
}

/// Opens a file as text at its beginning, after a byte order mark. `setting` is the encoding that
/// the operator has set.
///
/// # Errors
/// The file cannot be read, is not text, or its encoding is not certain.
pub(super) fn open<'a>(
    input: &'a mut dyn Input,
    setting: Option<&'static Encoding>,
    fallback: &EncodingFallback<'_>,
) -> Result<DecodedText<'a>, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(HEAD_LENGTH);
    Read::take(&mut *input, HEAD_LENGTH as u64).read_to_end(&mut head)?;
    let (encoding, bom_length) = match (setting, Encoding::for_bom(&head)) {
        (None, Some(found)) => found,
        (Some(setting), Some((found, bom_length))) if is_compatible(setting, found) => {
            (found, bom_length)
        }
        (Some(setting), Some((found, _))) => {
            return Err(FormatError::Unusable(format!(
                "encoding is set to {}, but the file begins with the byte order mark of {}: remove \
                 the setting, or correct it",
                setting.name(),
                found.name()
            )));
        }
        (Some(setting), None) => (setting, 0),
        (None, None) => {
            let encoding = match fallback {
                EncodingFallback::Declared(declared) => {
                    declared(&head).map_err(|reason| broken(0, reason))?
                }
                EncodingFallback::Detect => detect_encoding(input, &head)?,
            };
            (encoding, 0)
        }
    };
    if !is_utf_16(encoding) {
        reject_binary(&head)?;
    }
    let may_be_wrong = matches!(fallback, EncodingFallback::Declared(_)) || setting.is_some();
    if may_be_wrong && encoding.is_single_byte() {
        reject_utf_8_text(input, encoding)?;
    }
    input.seek(SeekFrom::Start(bom_length as u64))?;
    Ok(DecodedText {
        input: BufReader::with_capacity(CHUNK_SIZE, input),
        decoder: encoding.new_decoder_without_bom_handling(),
        text: String::with_capacity(TEXT_CAPACITY),
        text_start: 0,
        is_at_end: false,
        budget: ReadBudget(Rc::new(Cell::new(usize::MAX))),
        stats: Rc::default(),
    })
}

/// Returns true if a file with this setting may have the byte order mark of `marked`.
fn is_compatible(setting: &'static Encoding, marked: &'static Encoding) -> bool {
    setting == marked || (is_utf_16(setting) && is_utf_16(marked))
}

// === Reading ===

impl DecodedText<'_> {
    /// Returns the encoding of the file.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.decoder.encoding()
    }

    /// Returns a handle on the read budget.
    pub(super) fn budget(&self) -> ReadBudget {
        self.budget.clone()
    }

    /// Returns a handle on the counts, which outlives a parser that owns the text.
    pub(super) fn stats(&self) -> Rc<Cell<DecodeStats>> {
        Rc::clone(&self.stats)
    }

    fn decode(&mut self) -> io::Result<()> {
        self.text.clear();
        self.text_start = 0;
        while self.text.is_empty() && !self.is_at_end {
            let source = self.input.fill_buf()?;
            let is_last = source.is_empty();
            let (result, read) =
                self.decoder
                    .decode_to_string_without_replacement(source, &mut self.text, is_last);
            self.input.consume(read);
            let mut stats = self.stats.get();
            stats.non_ascii += count_multibyte(self.text.as_bytes());
            match result {
                DecoderResult::InputEmpty => self.is_at_end = is_last,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => {
                    stats.undecodable += 1;
                    self.text.push(UNDECODABLE);
                }
            }
            self.stats.set(stats);
        }
        Ok(())
    }
}

impl BufRead for DecodedText<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.text_start == self.text.len() {
            self.decode()?;
        }
        let pending = self.text.as_bytes().get(self.text_start..);
        let pending = pending.unwrap_or_default();
        if self.budget.0.get() == 0 && !pending.is_empty() {
            let reason = "one element of the file is larger than the limit for a row".to_owned();
            let kind = io::ErrorKind::InvalidData;
            return Err(io::Error::new(kind, MalformedText(reason)));
        }
        Ok(pending)
    }

    fn consume(&mut self, amount: usize) {
        self.text_start = (self.text_start + amount).min(self.text.len());
        let budget = self.budget.0.get();
        self.budget.set(budget.saturating_sub(amount));
    }
}

impl Read for DecodedText<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Decodes the beginning of a file to recognise its format.
pub(super) fn decode_head(head: &[u8], encoding: &'static Encoding) -> String {
    let mut decoder = encoding.new_decoder();
    let mut text = String::with_capacity(4 * head.len() + 16);
    // Truncated or undecodable characters are replaced; they do not matter for recognition.
    let (result, ..) = decoder.decode_to_string(head, &mut text, false);
    assert_eq!(
        result,
        CoderResult::InputEmpty,
        "the buffer has capacity for any encoding"
    );
    text
}

/// Creates the error of a file that is broken near a byte offset.
pub(super) fn broken(offset: u64, reason: impl Into<String>) -> FormatError {
    FormatError::broken(format!("byte {offset}"), reason)
}

//! Bytes of a declared encoding as the UTF-8 that XML and JSON are parsed from.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use encoding_rs::{CoderResult, Decoder, DecoderResult, Encoding};

use super::{FormatError, Input};

/// Read from the input at once, and so the most that is read before the first row is out.
const CHUNK: usize = 8 * 1024;

/// Most bytes of UTF-8 that a chunk and what a decoder holds back may become.
const ROOM: usize = 4 * CHUNK;

/// What the bytes themselves break, as opposed to a device that cannot read them.
#[derive(Debug)]
pub(super) struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    /// What is wrong with the bytes, if that is why reading failed.
    pub(super) fn of(error: &io::Error) -> Option<String> {
        let cause = error.get_ref()?;
        cause.downcast_ref::<Self>().map(|malformed| malformed.0.clone())
    }

    fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// How many bytes may still be read before the reader says again that it is well.
///
/// A parser keeps what it has not understood yet: without a bound, one text without an end
/// would fill the memory.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    /// Allows that many bytes from here on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.set(bytes);
    }
}

/// A text as UTF-8, every byte of it checked, a chunk at a time.
pub(super) struct Utf8<'a> {
    input: &'a mut dyn Input,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_from: usize,
    /// Bytes of the input that were decoded.
    raw_taken: u64,
    text: Vec<u8>,
    from: usize,
    is_at_end: bool,
    allowance: Allowance,
}

impl<'a> Utf8<'a> {
    /// Begins with an input; a byte order mark tells its encoding, or else `encoding` does, from
    /// the first bytes.
    ///
    /// # Errors
    /// The input cannot be read, or `encoding` refuses it.
    pub(super) fn new(
        input: &'a mut dyn Input,
        encoding: impl FnOnce(&[u8]) -> Result<&'static Encoding, String>,
    ) -> Result<Self, FormatError> {
        let raw = read_chunk(input)?;
        let (encoding, mark) = match Encoding::for_bom(&raw) {
            Some(found) => found,
            None => (encoding(&raw).map_err(|reason| broken(0, reason))?, 0),
        };
        Ok(Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            raw,
            raw_from: mark,
            raw_taken: mark as u64,
            text: Vec::with_capacity(ROOM),
            from: 0,
            is_at_end: false,
            allowance: Allowance(Rc::new(Cell::new(usize::MAX))),
        })
    }

    /// A handle on how much may be read.
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn decode(&mut self) -> io::Result<()> {
        self.text.clear();
        self.from = 0;
        while self.text.is_empty() && !self.is_at_end {
            if self.raw_from == self.raw.len() {
                self.raw = read_chunk(self.input)?;
                self.raw_from = 0;
            }
            self.decode_chunk()?;
        }
        Ok(())
    }

    fn decode_chunk(&mut self) -> io::Result<()> {
        let is_last = self.raw.is_empty();
        self.text.resize(ROOM, 0);
        let source = self.raw.get(self.raw_from..).unwrap_or_default();
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(source, &mut self.text, is_last);
        self.text.truncate(written);
        self.raw_from += read;
        self.raw_taken += read as u64;
        match result {
            DecoderResult::InputEmpty => self.is_at_end = is_last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                let (encoding, place) = (self.decoder.encoding().name(), self.raw_taken);
                let reason = format!("byte {place} of the file is not {encoding}");
                return Err(Malformed(reason).into_io());
            }
        }
        Ok(())
    }
}

/// The next bytes, as many as a chunk holds; fewer only at the end.
fn read_chunk(input: &mut dyn Input) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    input.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl BufRead for Utf8<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.text.len() {
            self.decode()?;
        }
        let waiting = self.text.get(self.from..).unwrap_or_default();
        if self.allowance.0.get() == 0 && !waiting.is_empty() {
            return Err(Malformed("one piece of it is larger than any row".to_owned()).into_io());
        }
        Ok(waiting)
    }

    fn consume(&mut self, amount: usize) {
        self.from += amount;
        self.allowance.0.set(self.allowance.0.get().saturating_sub(amount));
    }
}

impl Read for Utf8<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let waiting = self.fill_buf()?;
        let read = waiting.len().min(into.len());
        for (to, from) in into.iter_mut().zip(waiting) {
            *to = *from;
        }
        self.consume(read);
        Ok(read)
    }
}

/// The beginning of a file as text, as far as it can be told, to see what the file is.
pub(super) fn peek(head: &[u8], encoding: &'static Encoding) -> String {
    let mut decoder = encoding.new_decoder();
    let mut text = String::with_capacity(4 * head.len() + 16);
    // Only the beginning is wanted: what is cut off, or not this encoding, is replaced.
    let (result, ..) = decoder.decode_to_string(head, &mut text, false);
    debug_assert_eq!(result, CoderResult::InputEmpty, "there is room for any encoding");
    text
}

/// The file is broken near that byte.
pub(super) fn broken(byte: u64, reason: impl Into<String>) -> FormatError {
    FormatError::Broken { place: format!("byte {byte}"), reason: reason.into() }
}

//! Text in whatever encoding it comes, as UTF-8: one piece of it in memory at a time.
//!
//! What a file says of itself comes first: a byte order mark. Without one, zeros between the
//! letters tell UTF-16; else it is UTF-8 if it reads as that from beginning to end, and
//! windows-1251, in which anything can be read, only if not.

use std::io::{self, BufRead, Read, SeekFrom};

use encoding_rs::{
    Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251 as CYRILLIC,
};

use super::{FormatError, Input};

/// What stands for bytes that mean nothing in the encoding. No text has it: Unicode keeps it
/// from ever being a character, while U+FFFD may have been in the file all along.
pub(super) const UNDECODABLE: char = '\u{ffff}';

/// How much is read, and decoded, at a time.
const PIECE: usize = 64 * 1024;

/// How much of the beginning shows what a file is.
const HEAD: usize = 4 * 1024;

/// So many well-formed letters to one that is not make a text UTF-8 with a fault in it: in
/// windows-1251 hardly any two letters happen to be one of UTF-8.
const FAULTS_PER_LETTERS: u64 = 20;

/// So many ill-formed letters settle it, however long the file goes on.
const FAULTS_ENOUGH: u64 = 10_000;

/// The text of a file, from its beginning, without a byte order mark.
///
/// `declared` is what the owner says; a mark of another encoding does not overrule it, except
/// that it tells the two orders of UTF-16 apart. Bytes that mean nothing become
/// [`UNDECODABLE`]. To find the encoding out, the file is read through once before.
///
/// # Errors
/// The file cannot be read, or is no text.
pub(super) fn text<'a>(
    input: &'a mut dyn Input,
    declared: Option<&'static Encoding>,
) -> Result<Text<'a>, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(HEAD);
    Read::take(&mut *input, HEAD as u64).read_to_end(&mut head)?;
    let (encoding, mark) = match (declared, Encoding::for_bom(&head)) {
        (None, Some((told, mark))) => (told, mark),
        (Some(declared), Some((told, mark))) if is_same(declared, told) => (told, mark),
        (Some(declared), _) => (declared, 0),
        (None, None) => (found_out(input, &head)?, 0),
    };
    if !is_utf_16(encoding) {
        be_text(&head)?;
    }
    input.seek(SeekFrom::Start(mark as u64))?;
    Ok(Text {
        input,
        decoder: encoding.new_decoder_without_bom_handling(),
        raw: vec![0; PIECE],
        taken: 0,
        held: 0,
        is_at_end: false,
        decoded: vec![0; PIECE + UNDECODABLE.len_utf8()],
        given: 0,
        ready: 0,
        is_done: false,
    })
}

/// Whether a mark of the one is to be expected where the other was declared.
fn is_same(declared: &'static Encoding, told: &'static Encoding) -> bool {
    declared == told || (is_utf_16(declared) && is_utf_16(told))
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

fn found_out(input: &mut dyn Input, head: &[u8]) -> io::Result<&'static Encoding> {
    if let Some(encoding) = utf_16(head) {
        return Ok(encoding);
    }
    input.seek(SeekFrom::Start(0))?;
    Ok(if is_utf_8(input)? { UTF_8 } else { CYRILLIC })
}

/// UTF-16 shows itself by one half of nearly every letter: zero, or four where it is Cyrillic.
fn utf_16(head: &[u8]) -> Option<&'static Encoding> {
    let pairs = head.len() / 2;
    let usual = |half: usize| {
        let halves = head.chunks_exact(2).filter_map(move |pair| pair.get(half));
        halves.clone().any(|byte| *byte == 0)
            && halves.filter(|byte| matches!(byte, 0 | 4 | 0x20 | 0x21)).count() * 10 >= pairs * 9
    };
    let has_zero = |half: usize| {
        head.chunks_exact(2).any(|pair| pair.get(half).is_some_and(|byte| *byte == 0))
    };
    match (usual(0) && !has_zero(1), usual(1) && !has_zero(0)) {
        (true, _) => Some(UTF_16BE),
        (_, true) => Some(UTF_16LE),
        (false, false) => None,
    }
}

/// Reads to the end, keeping nothing.
fn is_utf_8(input: &mut dyn Input) -> io::Result<bool> {
    let mut tally = Tally::default();
    let mut piece = vec![0; PIECE];
    loop {
        let read = match input.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // A letter that the end cuts is no sign against UTF-8: what follows it is not known.
        if read == 0 || tally.faults > FAULTS_ENOUGH {
            return Ok(tally.faults * FAULTS_PER_LETTERS <= tally.letters);
        }
        tally.add(piece.get(..read).unwrap_or_default());
    }
}

/// How well bytes read as UTF-8 so far.
#[derive(Default)]
struct Tally {
    /// Well-formed letters of more than one byte.
    letters: u64,
    /// Places where the bytes are none.
    faults: u64,
    /// The beginning of a letter whose rest is in the next piece.
    begun: Vec<u8>,
}

impl Tally {
    fn add(&mut self, piece: &[u8]) {
        let mut joined = std::mem::take(&mut self.begun);
        joined.extend_from_slice(piece);
        let mut rest = joined.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (good, bad) = rest.split_at(error.valid_up_to());
            self.letters += letters(good);
            let Some(length) = error.error_len() else {
                self.begun = bad.to_vec();
                return;
            };
            self.faults += 1;
            rest = bad.get(length..).unwrap_or_default();
        }
        self.letters += letters(rest);
    }
}

/// First bytes of letters that have several.
fn letters(good: &[u8]) -> u64 {
    good.iter().filter(|byte| **byte >= 0xc0).count() as u64
}

/// Refuses what is evidently something else, in words that help.
fn be_text(head: &[u8]) -> Result<(), FormatError> {
    const KNOWN: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "it is a workbook or a zip archive"),
        (b"\xd0\xcf\x11\xe0", "it is an old workbook (XLS)"),
        (b"\x1f\x8b", "it is compressed with gzip"),
        (b"%PDF", "it is a PDF"),
        (b"SQLite format 3\0", "it is a database"),
    ];
    let broken = |byte: usize, reason: String| FormatError::Broken {
        place: format!("byte {}", byte + 1),
        reason,
    };
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(broken(0, format!("{what}, not text")));
    }
    // 0x1A ends a file of DOS, 0x1B begins a letter in some encodings of Asia.
    let is_text = |byte: u8| byte >= 0x20 || matches!(byte, 0x09..=0x0d | 0x1a | 0x1b);
    match head.iter().enumerate().find(|(_, byte)| !is_text(**byte)) {
        None => Ok(()),
        Some((at, byte)) => {
            Err(broken(at, format!("there is a byte 0x{byte:02X}, which no text has")))
        }
    }
}

/// A text, read as UTF-8.
pub(super) struct Text<'a> {
    input: &'a mut dyn Input,
    decoder: Decoder,
    raw: Vec<u8>,
    taken: usize,
    held: usize,
    is_at_end: bool,
    decoded: Vec<u8>,
    given: usize,
    ready: usize,
    is_done: bool,
}

impl Text<'_> {
    /// Reads the next piece of the file, if the last one is used up.
    fn draw(&mut self) -> io::Result<()> {
        while self.taken == self.held && !self.is_at_end {
            match self.input.read(&mut self.raw) {
                Ok(read) => {
                    (self.taken, self.held) = (0, read);
                    self.is_at_end = read == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decodes once; what comes of it may be nothing.
    fn decode(&mut self) {
        let source = self.raw.get(self.taken..self.held).unwrap_or_default();
        let room = self.decoded.get_mut(..PIECE).unwrap_or_default();
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(source, room, self.is_at_end);
        self.taken += read;
        (self.given, self.ready) = (0, written);
        match result {
            DecoderResult::InputEmpty => self.is_done = self.is_at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(_, _) => {
                let end = written + UNDECODABLE.len_utf8();
                let room = self.decoded.get_mut(written..end).unwrap_or_default();
                UNDECODABLE.encode_utf8(room);
                self.ready = end;
            }
        }
    }
}

impl BufRead for Text<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.given == self.ready && !self.is_done {
            self.draw()?;
            self.decode();
        }
        Ok(self.decoded.get(self.given..self.ready).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.given = (self.given + amount).min(self.ready);
    }
}

impl Read for Text<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(room)?;
        self.consume(read);
        Ok(read)
    }
}

//! Decoder of every text format: bytes in whatever encoding, out as UTF-8, a piece at a time.
//!
//! The encoding is decided in this order, and each step is final:
//! 1. The setting `encoding`.
//! 2. A byte order mark.
//! 3. What the format says: the declaration of an XML document; UTF-8 for JSON.
//! 4. For tables, the bytes themselves: zeros between letters are UTF-16; multi-byte letters of
//!    UTF-8 are UTF-8, single ones that were cut notwithstanding; else it is a Cyrillic code page.
//!    A text that could be two of these is refused, and the setting decides.
//!
//! A setting or a declaration that the bytes contradict is refused too: text that reads as UTF-8
//! to its last letter is not windows-1251.
//!
//! Bytes that are not characters of the encoding become [`UNDECODABLE`], so that a letter which
//! was cut in a column that is not read costs nothing.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read, SeekFrom};
use std::rc::Rc;

use encoding_rs::{
    CoderResult, Decoder, DecoderResult, Encoding, IBM866, KOI8_R, UTF_8, UTF_16BE, UTF_16LE,
    WINDOWS_1251,
};

use super::{FormatError, Input};

/// Stands for bytes that are not characters of the encoding. Unicode reserves U+FFFF from ever
/// being a character, while U+FFFD may have been in the file.
pub(super) const UNDECODABLE: char = '\u{ffff}';

/// Bytes read at once, and so the most that is read before the first row is out.
const CHUNK_SIZE: usize = 16 * 1024;

/// Bytes of UTF-8 that a chunk and what the decoder holds back may become, with a mark for bytes
/// that are not characters.
const TEXT_CAPACITY: usize = 4 * CHUNK_SIZE;

/// Bytes of the beginning that show what a file is.
const HEAD_LENGTH: usize = 4 * 1024;

/// Letters that do not read as UTF-8 after which no file is taken for UTF-8 with cut letters.
const MAX_UTF_8_ERRORS: u64 = 10_000;

/// What the bytes themselves break, as opposed to a device that cannot read them.
#[derive(Debug)]
pub(super) struct MalformedText(String);

impl fmt::Display for MalformedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MalformedText {}

impl MalformedText {
    /// Returns what is wrong with the bytes, if that is why reading failed.
    pub(super) fn of(error: &io::Error) -> Option<String> {
        let cause = error.get_ref()?;
        cause
            .downcast_ref::<Self>()
            .map(|malformed| malformed.0.clone())
    }
}

/// Budget of bytes that may be read before the parser must have understood something.
///
/// A parser keeps what it has not understood yet: without a bound, one text without an end would
/// fill the memory.
#[derive(Clone, Debug)]
pub(super) struct ReadBudget(Rc<Cell<usize>>);

impl ReadBudget {
    /// Allows that many bytes from here on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.set(bytes);
    }
}

/// Source of the encoding where neither the setting nor a byte order mark decides.
pub(super) enum EncodingFallback<'f> {
    /// The bytes of the whole file: for tables.
    Detect,
    /// The first bytes: for formats that declare their encoding.
    Declared(&'f dyn Fn(&[u8]) -> Result<&'static Encoding, String>),
}

/// A text as UTF-8.
pub(super) struct DecodedText<'a> {
    input: &'a mut dyn Input,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_start: usize,
    /// Buffer of decoded text; `from..to` is not read yet.
    text: Vec<u8>,
    text_start: usize,
    text_end: usize,
    is_at_end: bool,
    budget: ReadBudget,
    stats: Rc<Cell<DecodeStats>>,
}

/// What was decoded so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct DecodeStats {
    /// Places where the bytes are not characters.
    undecodable: u64,
    /// Letters that are not ASCII.
    non_ascii: u64,
}

impl DecodeStats {
    /// Refuses a text of which most is not in its encoding.
    ///
    /// # Errors
    /// More places are undecodable than there are letters.
    pub(super) fn check(self, encoding: &'static Encoding) -> Result<(), FormatError> {
        if self.undecodable <= self.non_ascii {
            return Ok(());
        }
        Err(FormatError::Unusable(format!(
            "{} places of the file are not {}: set encoding to the one it is in, such as \
             windows-1251",
            self.undecodable,
            encoding.name()
        )))
    }
}

/// Opens a file as text, from its beginning and without a byte order mark. `setting` is what the
/// operator declares.
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
                "encoding is set to {}, and the file begins with the byte order mark of {}: remove \
                 the setting, or correct it",
                setting.name(),
                found.name()
            )));
        }
        (Some(setting), None) => (setting, 0),
        (None, None) => match fallback {
            EncodingFallback::Declared(declared_encoding) => (
                declared_encoding(&head).map_err(|reason| broken(0, reason))?,
                0,
            ),
            EncodingFallback::Detect => (detect_encoding(input, &head)?, 0),
        },
    };
    if !is_utf_16(encoding) {
        reject_binary(&head)?;
    }
    let may_be_wrong = matches!(fallback, EncodingFallback::Declared(_)) || setting.is_some();
    if may_be_wrong && encoding.is_single_byte() {
        reject_utf_8_text(input, encoding)?;
    }
    DecodedText::start_at(input, encoding, bom_length as u64)
}

/// Opens a file once more whose encoding is known from [`open`].
///
/// # Errors
/// The file cannot be read.
pub(super) fn reopen<'a>(
    input: &'a mut dyn Input,
    encoding: &'static Encoding,
) -> Result<DecodedText<'a>, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(4);
    Read::take(&mut *input, 4).read_to_end(&mut head)?;
    let bom = Encoding::for_bom(&head).filter(|(found, _)| *found == encoding);
    DecodedText::start_at(input, encoding, bom.map_or(0, |(_, mark)| mark as u64))
}

impl<'a> DecodedText<'a> {
    fn start_at(
        input: &'a mut dyn Input,
        encoding: &'static Encoding,
        bom_length: u64,
    ) -> Result<Self, FormatError> {
        input.seek(SeekFrom::Start(bom_length))?;
        Ok(Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            raw: Vec::new(),
            raw_start: 0,
            text: vec![0; TEXT_CAPACITY],
            text_end: 0,
            text_start: 0,
            is_at_end: false,
            budget: ReadBudget(Rc::new(Cell::new(usize::MAX))),
            stats: Rc::new(Cell::new(DecodeStats::default())),
        })
    }
}

/// Refuses a single-byte encoding for a text that is UTF-8 to its last letter.
fn reject_utf_8_text(
    input: &mut dyn Input,
    declared: &'static Encoding,
) -> Result<(), FormatError> {
    let mut stats = Utf8Stats::default();
    for_each_chunk(input, |piece| {
        stats.add(piece);
        stats.error_count() == 0
    })?;
    if stats.error_count() > 0 || stats.multibyte == 0 {
        return Ok(());
    }
    Err(FormatError::Unusable(format!(
        "the encoding is said to be {}, and its bytes are UTF-8: set encoding = \"utf-8\", or save \
         the file in the encoding it says",
        declared.name(),
    )))
}

/// Whether a mark of the one encoding is to be expected where the other was set.
fn is_compatible(setting: &'static Encoding, marked: &'static Encoding) -> bool {
    setting == marked || (is_utf_16(setting) && is_utf_16(marked))
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

// === Detection ===

fn detect_encoding(input: &mut dyn Input, head: &[u8]) -> Result<&'static Encoding, FormatError> {
    if let Some(encoding) = detect_utf_16(head) {
        return Ok(encoding);
    }
    // What is not text gets a better message than one about its letters.
    reject_binary(head)?;
    let mut stats = Utf8Stats::default();
    let mut code_page = CodePageStats::default();
    for_each_chunk(input, |piece| {
        stats.add(piece);
        code_page.add(piece);
        stats.error_count() <= MAX_UTF_8_ERRORS
    })?;
    stats.finish();
    match stats.classify() {
        EncodingVerdict::Utf8 => Ok(UTF_8),
        EncodingVerdict::Uncertain => Err(FormatError::Unusable(format!(
            "the encoding is not certain: {} letters of the file read as UTF-8 and {} do not: set \
             encoding, such as utf-8, windows-1251 or cp866",
            stats.multibyte,
            stats.error_count()
        ))),
        EncodingVerdict::CodePage => match code_page.better_code_page() {
            None => Ok(WINDOWS_1251),
            Some(other) => Err(FormatError::Unusable(format!(
                "the encoding is not certain: the file looks like {} and not like windows-1251: \
                 set encoding to the one it is in",
                other.name()
            ))),
        },
    }
}

/// Counts of bytes by which the Cyrillic code pages differ. Libraries that guess an encoding need
/// a page of prose; a stock list may have three letters.
#[derive(Clone, Copy, Debug, Default)]
struct CodePageStats {
    /// Letters of IBM866 that windows-1251 has for signs that hardly occur in Russian.
    ibm866: u64,
    /// Letters of windows-1251 that are lines of boxes, or rare, in IBM866.
    windows_1251: u64,
    /// A byte of the range that windows-1251 has for capitals, before one for small letters; in
    /// KOI8-R the ranges are the other way round.
    upper_before_lower: u64,
    lower_before_upper: u64,
    previous: u8,
}

impl CodePageStats {
    fn add(&mut self, piece: &[u8]) {
        for byte in piece {
            // Quotes, dashes, the ellipsis, the no-break blank and Ё are common in windows-1251.
            let is_sign = matches!(byte, 0x84 | 0x85 | 0x91..=0x97 | 0x99 | 0xa0 | 0xa8 | 0xab);
            self.ibm866 += u64::from(matches!(byte, 0x80..=0xaf) && !is_sign);
            self.windows_1251 += u64::from(matches!(byte, 0xc0..=0xdf | 0xf2..=0xff));
            let (upper, small) = (0xc0..=0xdf, 0xe0..=0xff);
            self.upper_before_lower +=
                u64::from(upper.contains(&self.previous) && small.contains(byte));
            self.lower_before_upper +=
                u64::from(small.contains(&self.previous) && upper.contains(byte));
            self.previous = *byte;
        }
    }

    /// The code page that the bytes fit better than windows-1251.
    fn better_code_page(self) -> Option<&'static Encoding> {
        if self.ibm866 > self.windows_1251 {
            Some(IBM866)
        } else if self.lower_before_upper > self.upper_before_lower {
            Some(KOI8_R)
        } else {
            None
        }
    }
}

/// UTF-16 shows itself by one half of nearly every letter: zero, or four where it is Cyrillic.
pub(super) fn detect_utf_16(head: &[u8]) -> Option<&'static Encoding> {
    let pairs = head.len() / 2;
    let is_mostly_high_byte = |half: usize| {
        let halves = head.chunks_exact(2).filter_map(move |pair| pair.get(half));
        halves.clone().any(|byte| *byte == 0)
            && halves
                .filter(|byte| matches!(byte, 0 | 4 | 0x20 | 0x21))
                .count()
                * 10
                >= pairs * 9
    };
    let has_zero = |half: usize| {
        head.chunks_exact(2)
            .any(|pair| pair.get(half).is_some_and(|byte| *byte == 0))
    };
    match (
        is_mostly_high_byte(0) && !has_zero(1),
        is_mostly_high_byte(1) && !has_zero(0),
    ) {
        (true, _) => Some(UTF_16BE),
        (_, true) => Some(UTF_16LE),
        (false, false) => None,
    }
}

/// Reads a file from its beginning, piece by piece, until its end or until `take` wants no more.
fn for_each_chunk(input: &mut dyn Input, mut visit: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    input.seek(SeekFrom::Start(0))?;
    let mut chunk = vec![0; CHUNK_SIZE];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) if visit(chunk.get(..read).unwrap_or_default()) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What bytes are, as far as their letters show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EncodingVerdict {
    Utf8,
    CodePage,
    Uncertain,
}

/// How well bytes read as UTF-8 so far.
#[derive(Clone, Debug, Default)]
struct Utf8Stats {
    /// Well-formed letters of more than one byte.
    multibyte: u64,
    /// Beginnings of a letter before an ASCII character: a text that was cut to so many bytes.
    truncated: u64,
    /// Other bytes that are not UTF-8.
    invalid: u64,
    /// The beginning of a letter whose rest is in the next piece.
    incomplete: Vec<u8>,
}

impl Utf8Stats {
    fn error_count(&self) -> u64 {
        self.truncated + self.invalid
    }

    /// Decides: in a code page hardly any two letters are one of UTF-8, and in UTF-8 hardly any
    /// are not, unless a program has cut texts to so many bytes.
    fn classify(&self) -> EncodingVerdict {
        let Self {
            multibyte,
            truncated,
            invalid,
            ..
        } = *self;
        if truncated + invalid == 0 || (multibyte > 0 && multibyte >= 3 * invalid + truncated) {
            EncodingVerdict::Utf8
        } else if multibyte * 10 <= truncated + invalid {
            EncodingVerdict::CodePage
        } else {
            EncodingVerdict::Uncertain
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let mut joined = std::mem::take(&mut self.incomplete);
        joined.extend_from_slice(piece);
        let mut rest = joined.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, invalid_part) = rest.split_at(error.valid_up_to());
            self.multibyte += count_multibyte(valid);
            let Some(length) = error.error_len() else {
                self.incomplete = invalid_part.to_vec();
                return;
            };
            let (sequence, after) = invalid_part.split_at(length.min(invalid_part.len()));
            let is_lead_byte = sequence
                .first()
                .is_some_and(|byte| matches!(byte, 0xc2..=0xf4));
            if is_lead_byte && after.first().is_none_or(u8::is_ascii) {
                self.truncated += 1;
            } else {
                self.invalid += 1;
            }
            rest = after;
        }
        self.multibyte += count_multibyte(rest);
    }

    /// A letter that the end of the file cuts.
    fn finish(&mut self) {
        self.truncated += u64::from(!std::mem::take(&mut self.incomplete).is_empty());
    }
}

/// Counts the first bytes of letters that have several.
fn count_multibyte(valid: &[u8]) -> u64 {
    valid.iter().filter(|byte| **byte >= 0xc0).count() as u64
}

/// Refuses what is evidently something else, by its name.
fn reject_binary(head: &[u8]) -> Result<(), FormatError> {
    const BINARY_FORMATS: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "it is a workbook or a zip archive"),
        (b"\xd0\xcf\x11\xe0", "it is an old workbook (XLS)"),
        (b"\x1f\x8b", "it is compressed with gzip"),
        (b"%PDF", "it is a PDF"),
        (b"SQLite format 3\0", "it is a database"),
    ];
    let broken_at = |byte: usize, reason: String| FormatError::Broken {
        place: format!("byte {}", byte + 1),
        reason,
    };
    if let Some((_, description)) = BINARY_FORMATS
        .iter()
        .find(|(magic, _)| head.starts_with(magic))
    {
        return Err(broken_at(0, format!("{description}, not text")));
    }
    // 0x1A ends a file of DOS, 0x1B begins a letter in some encodings of Asia.
    let is_text = |byte: u8| byte >= 0x20 || matches!(byte, 0x09..=0x0d | 0x1a | 0x1b);
    match head.iter().enumerate().find(|(_, byte)| !is_text(**byte)) {
        None => Ok(()),
        Some((position, byte)) => Err(broken_at(
            position,
            format!("there is a byte 0x{byte:02X}, which no text has"),
        )),
    }
}

// === Reading ===

impl DecodedText<'_> {
    /// The encoding that is decoded.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.decoder.encoding()
    }

    /// A handle on how much may be read.
    pub(super) fn budget(&self) -> ReadBudget {
        self.budget.clone()
    }

    /// A handle on what was decoded, which outlives a parser that owns the text.
    pub(super) fn stats(&self) -> Rc<Cell<DecodeStats>> {
        Rc::clone(&self.stats)
    }

    fn decode(&mut self) -> io::Result<()> {
        (self.text_start, self.text_end) = (0, 0);
        while self.text_end == 0 && !self.is_at_end {
            if self.raw_start == self.raw.len() {
                self.raw = read_chunk(self.input)?;
                self.raw_start = 0;
            }
            self.decode_chunk();
        }
        Ok(())
    }

    fn decode_chunk(&mut self) {
        let is_last = self.raw.is_empty();
        let source = self.raw.get(self.raw_start..).unwrap_or_default();
        let target = self
            .text
            .get_mut(..TEXT_CAPACITY - UNDECODABLE.len_utf8())
            .unwrap_or_default();
        let (result, read, written) = self
            .decoder
            .decode_to_utf8_without_replacement(source, target, is_last);
        self.text_end = written;
        self.raw_start += read;
        let mut stats = self.stats.get();
        stats.non_ascii += count_multibyte(target.get(..written).unwrap_or_default());
        match result {
            DecoderResult::InputEmpty => self.is_at_end = is_last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                stats.undecodable += 1;
                let rest = self.text.get_mut(written..).unwrap_or_default();
                self.text_end += UNDECODABLE.encode_utf8(rest).len();
            }
        }
        self.stats.set(stats);
    }
}

/// Reads the next bytes, as many as a chunk holds; fewer only at the end.
fn read_chunk(input: &mut dyn Input) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_SIZE);
    input.take(CHUNK_SIZE as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl BufRead for DecodedText<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.text_start == self.text_end {
            self.decode()?;
        }
        let pending = self
            .text
            .get(self.text_start..self.text_end)
            .unwrap_or_default();
        if self.budget.0.get() == 0 && !pending.is_empty() {
            let reason = "one piece of it is larger than any row".to_owned();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                MalformedText(reason),
            ));
        }
        Ok(pending)
    }

    fn consume(&mut self, amount: usize) {
        self.text_start = (self.text_start + amount).min(self.text_end);
        self.budget
            .0
            .set(self.budget.0.get().saturating_sub(amount));
    }
}

impl Read for DecodedText<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Decodes the beginning of a file as far as it can be, to see what the file is.
pub(super) fn decode_head(head: &[u8], encoding: &'static Encoding) -> String {
    let mut decoder = encoding.new_decoder();
    let mut text = String::with_capacity(4 * head.len() + 16);
    // Only the beginning is wanted: what is cut off, or not this encoding, is replaced.
    let (result, ..) = decoder.decode_to_string(head, &mut text, false);
    assert_eq!(
        result,
        CoderResult::InputEmpty,
        "there is room for any encoding"
    );
    text
}

/// The error of a file that is broken near that byte.
pub(super) fn broken(offset: u64, reason: impl Into<String>) -> FormatError {
    FormatError::Broken {
        place: format!("byte {offset}"),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn detect_encoding_of(bytes: &[u8]) -> Result<&'static Encoding, String> {
        open(&mut Cursor::new(bytes), None, &EncodingFallback::Detect)
            .map(|text| text.encoding())
            .map_err(|error| error.to_string())
    }

    fn cut_last_letters(text: &str) -> Vec<u8> {
        // Each name loses the last byte of its last letter.
        let rows = text.lines().flat_map(|line| {
            let (rest, name) = line.rsplit_once(';').unwrap_or((line, ""));
            let mut row = format!("{rest};{name}").into_bytes();
            row.pop();
            row.push(b'\n');
            row
        });
        rows.collect()
    }

    #[test]
    fn letters_cut_in_the_middle_do_not_decide() {
        for text in [
            "Б-1;1;Смеситель я\nБ-2;2;Смеситель ы\n",
            "A-1;1;жж\nA-2;2;жжж\n",
            "1;1;ЩЩ\n2;2;ЩЩЩ\n",
        ] {
            assert_eq!(
                detect_encoding_of(&cut_last_letters(text)),
                Ok(UTF_8),
                "{text}"
            );
        }
        let tail = "sku;stock\nБ-1;5\nБ-2;6\nБ-3".as_bytes();
        assert_eq!(detect_encoding_of(&tail[..tail.len() - 2]), Ok(UTF_8));
    }

    #[test]
    fn russian_text_in_windows_1251_is_recognised() {
        for text in [
            "sku;stock\nБ-1;5\n",
            "Артикул;Остаток\nБОЛТ-5;3\n",
            "sku;name;stock\nA-1;болт с гайкой и шайбой;5\n",
            "sku;name;stock\nA-1;№5;5\n",
            "sku;name;stock\nA-1;Ёлка «Снег» 20°;5\n",
        ] {
            let bytes = WINDOWS_1251.encode(text).0;
            assert_eq!(detect_encoding_of(&bytes), Ok(WINDOWS_1251), "{text}");
        }
    }

    #[test]
    fn other_code_pages_are_asked_about() {
        let text = "Артикул;Остаток\nБолт-5;3\nГайка шестигранная;1\n";
        for encoding in [IBM866, KOI8_R] {
            let message = detect_encoding_of(&encoding.encode(text).0).unwrap_err();
            assert!(message.contains("set encoding"), "{message}");
        }
    }

    #[test]
    fn a_setting_comes_first_unless_the_bytes_contradict_it() {
        let open = |bytes: &[u8], setting| {
            open(
                &mut Cursor::new(bytes),
                Some(setting),
                &EncodingFallback::Detect,
            )
            .map(|text| text.encoding())
            .map_err(|error| error.to_string())
        };
        let utf_8 = "sku;stock\nБолт;5\n".as_bytes();
        assert!(
            open(utf_8, WINDOWS_1251)
                .unwrap_err()
                .contains("its bytes are UTF-8")
        );
        assert_eq!(open(utf_8, UTF_8), Ok(UTF_8));
        assert_eq!(open(&IBM866.encode("Болт;5\n").0, IBM866), Ok(IBM866));
        assert_eq!(open(b"sku;stock\n", WINDOWS_1251), Ok(WINDOWS_1251));
        let with_bom = [b"\xef\xbb\xbf", utf_8].concat();
        assert!(
            open(&with_bom, WINDOWS_1251)
                .unwrap_err()
                .contains("byte order mark")
        );
    }

    #[test]
    fn a_text_between_two_encodings_is_refused() {
        let mut bytes = "Болт;5\n".repeat(3).into_bytes();
        bytes.extend_from_slice(&WINDOWS_1251.encode("Гайка;6\nВинт;7\n").0);
        assert!(
            detect_encoding_of(&bytes)
                .unwrap_err()
                .contains("not certain")
        );
    }
}

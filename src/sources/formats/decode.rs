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
const CHUNK: usize = 16 * 1024;

/// Bytes of UTF-8 that a chunk and what the decoder holds back may become, with a mark for bytes
/// that are not characters.
const ROOM: usize = 4 * CHUNK;

/// Bytes of the beginning that show what a file is.
const HEAD: usize = 4 * 1024;

/// Letters that do not read as UTF-8 after which no file is taken for UTF-8 with cut letters.
const FAULTS_ENOUGH: u64 = 10_000;

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
pub(super) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    /// Allows that many bytes from here on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.set(bytes);
    }
}

/// Source of the encoding where neither the setting nor a byte order mark decides.
pub(super) enum Guess<'g> {
    /// The bytes of the whole file: for tables.
    Detect,
    /// The first bytes: for formats that declare their encoding.
    Declared(&'g dyn Fn(&[u8]) -> Result<&'static Encoding, String>),
}

/// A text as UTF-8.
pub(super) struct Text<'a> {
    input: &'a mut dyn Input,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_from: usize,
    /// Buffer of decoded text; `from..to` is not read yet.
    text: Vec<u8>,
    from: usize,
    to: usize,
    is_at_end: bool,
    allowance: Allowance,
    tally: Rc<Cell<Decoded>>,
}

/// What was decoded so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Decoded {
    /// Places where the bytes are not characters.
    undecodable: u64,
    /// Letters that are not ASCII.
    letters: u64,
}

impl Decoded {
    /// Refuses a text of which most is not in its encoding.
    ///
    /// # Errors
    /// More places are undecodable than there are letters.
    pub(super) fn check(self, encoding: &'static Encoding) -> Result<(), FormatError> {
        if self.undecodable <= self.letters {
            return Ok(());
        }
        Err(FormatError::Unfit(format!(
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
    guess: &Guess<'_>,
) -> Result<Text<'a>, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(HEAD);
    Read::take(&mut *input, HEAD as u64).read_to_end(&mut head)?;
    let (encoding, mark) = match (setting, Encoding::for_bom(&head)) {
        (None, Some(found)) => found,
        (Some(setting), Some((found, mark))) if is_same(setting, found) => (found, mark),
        (Some(setting), Some((found, _))) => {
            return Err(FormatError::Unfit(format!(
                "encoding is set to {}, and the file begins with the byte order mark of {}: remove \
                 the setting, or correct it",
                setting.name(),
                found.name()
            )));
        }
        (Some(setting), None) => (setting, 0),
        (None, None) => match guess {
            Guess::Declared(declared) => (declared(&head).map_err(|reason| broken(0, reason))?, 0),
            Guess::Detect => (detect(input, &head)?, 0),
        },
    };
    if !is_utf_16(encoding) {
        check_text(&head)?;
    }
    let may_be_wrong = matches!(guess, Guess::Declared(_)) || setting.is_some();
    if may_be_wrong && encoding.is_single_byte() {
        contradict(input, encoding)?;
    }
    Text::begin(input, encoding, mark as u64)
}

/// Opens a file once more whose encoding is known from [`open`].
///
/// # Errors
/// The file cannot be read.
pub(super) fn reopen<'a>(
    input: &'a mut dyn Input,
    encoding: &'static Encoding,
) -> Result<Text<'a>, FormatError> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(4);
    Read::take(&mut *input, 4).read_to_end(&mut head)?;
    let mark = Encoding::for_bom(&head).filter(|(found, _)| *found == encoding);
    Text::begin(input, encoding, mark.map_or(0, |(_, mark)| mark as u64))
}

impl<'a> Text<'a> {
    fn begin(
        input: &'a mut dyn Input,
        encoding: &'static Encoding,
        mark: u64,
    ) -> Result<Self, FormatError> {
        input.seek(SeekFrom::Start(mark))?;
        Ok(Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            raw: Vec::new(),
            raw_from: 0,
            text: vec![0; ROOM],
            to: 0,
            from: 0,
            is_at_end: false,
            allowance: Allowance(Rc::new(Cell::new(usize::MAX))),
            tally: Rc::new(Cell::new(Decoded::default())),
        })
    }
}

/// Refuses a single-byte encoding for a text that is UTF-8 to its last letter.
fn contradict(input: &mut dyn Input, encoding: &'static Encoding) -> Result<(), FormatError> {
    let mut tally = Tally::default();
    each_piece(input, |piece| {
        tally.add(piece);
        tally.faults() == 0
    })?;
    if tally.faults() > 0 || tally.letters == 0 {
        return Ok(());
    }
    Err(FormatError::Unfit(format!(
        "the encoding is said to be {}, and its bytes are UTF-8: set encoding = \"utf-8\", or save \
         the file in the encoding it says",
        encoding.name(),
    )))
}

/// Whether a mark of the one encoding is to be expected where the other was set.
fn is_same(setting: &'static Encoding, found: &'static Encoding) -> bool {
    setting == found || (is_utf_16(setting) && is_utf_16(found))
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

// === Detection ===

fn detect(input: &mut dyn Input, head: &[u8]) -> Result<&'static Encoding, FormatError> {
    if let Some(encoding) = utf_16(head) {
        return Ok(encoding);
    }
    // What is not text gets a better message than one about its letters.
    check_text(head)?;
    let mut tally = Tally::default();
    let mut cyrillic = Cyrillic::default();
    each_piece(input, |piece| {
        tally.add(piece);
        cyrillic.add(piece);
        tally.faults() <= FAULTS_ENOUGH
    })?;
    tally.end();
    match tally.verdict() {
        Verdict::Utf8 => Ok(UTF_8),
        Verdict::Either => Err(FormatError::Unfit(format!(
            "the encoding is not certain: {} letters of the file read as UTF-8 and {} do not: set \
             encoding, such as utf-8, windows-1251 or cp866",
            tally.letters,
            tally.faults()
        ))),
        Verdict::CodePage => match cyrillic.other() {
            None => Ok(WINDOWS_1251),
            Some(other) => Err(FormatError::Unfit(format!(
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
struct Cyrillic {
    /// Letters of IBM866 that windows-1251 has for signs that hardly occur in Russian.
    dos: u64,
    /// Letters of windows-1251 that are lines of boxes, or rare, in IBM866.
    windows: u64,
    /// A byte of the range that windows-1251 has for capitals, before one for small letters; in
    /// KOI8-R the ranges are the other way round.
    capital_first: u64,
    small_first: u64,
    last: u8,
}

impl Cyrillic {
    fn add(&mut self, piece: &[u8]) {
        for byte in piece {
            // Quotes, dashes, the ellipsis, the no-break blank and Ё are common in windows-1251.
            let is_sign = matches!(byte, 0x84 | 0x85 | 0x91..=0x97 | 0x99 | 0xa0 | 0xa8 | 0xab);
            self.dos += u64::from(matches!(byte, 0x80..=0xaf) && !is_sign);
            self.windows += u64::from(matches!(byte, 0xc0..=0xdf | 0xf2..=0xff));
            let (capital, small) = (0xc0..=0xdf, 0xe0..=0xff);
            self.capital_first += u64::from(capital.contains(&self.last) && small.contains(byte));
            self.small_first += u64::from(small.contains(&self.last) && capital.contains(byte));
            self.last = *byte;
        }
    }

    /// The code page that the bytes fit better than windows-1251.
    fn other(self) -> Option<&'static Encoding> {
        if self.dos > self.windows {
            Some(IBM866)
        } else if self.small_first > self.capital_first {
            Some(KOI8_R)
        } else {
            None
        }
    }
}

/// UTF-16 shows itself by one half of nearly every letter: zero, or four where it is Cyrillic.
pub(super) fn utf_16(head: &[u8]) -> Option<&'static Encoding> {
    let pairs = head.len() / 2;
    let usual = |half: usize| {
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
    match (usual(0) && !has_zero(1), usual(1) && !has_zero(0)) {
        (true, _) => Some(UTF_16BE),
        (_, true) => Some(UTF_16LE),
        (false, false) => None,
    }
}

/// Reads a file from its beginning, piece by piece, until its end or until `take` wants no more.
fn each_piece(input: &mut dyn Input, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    input.seek(SeekFrom::Start(0))?;
    let mut piece = vec![0; CHUNK];
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) if take(piece.get(..read).unwrap_or_default()) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What bytes are, as far as their letters show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Utf8,
    CodePage,
    Either,
}

/// How well bytes read as UTF-8 so far.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// Well-formed letters of more than one byte.
    letters: u64,
    /// Beginnings of a letter before an ASCII character: a text that was cut to so many bytes.
    cuts: u64,
    /// Other bytes that are not UTF-8.
    alien: u64,
    /// The beginning of a letter whose rest is in the next piece.
    begun: Vec<u8>,
}

impl Tally {
    fn faults(&self) -> u64 {
        self.cuts + self.alien
    }

    /// Decides: in a code page hardly any two letters are one of UTF-8, and in UTF-8 hardly any
    /// are not, unless a program has cut texts to so many bytes.
    fn verdict(&self) -> Verdict {
        let Self {
            letters,
            cuts,
            alien,
            ..
        } = *self;
        if cuts + alien == 0 || (letters > 0 && letters >= 3 * alien + cuts) {
            Verdict::Utf8
        } else if letters * 10 <= cuts + alien {
            Verdict::CodePage
        } else {
            Verdict::Either
        }
    }

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
            let (fault, after) = bad.split_at(length.min(bad.len()));
            let is_begun = fault
                .first()
                .is_some_and(|byte| matches!(byte, 0xc2..=0xf4));
            if is_begun && after.first().is_none_or(u8::is_ascii) {
                self.cuts += 1;
            } else {
                self.alien += 1;
            }
            rest = after;
        }
        self.letters += letters(rest);
    }

    /// A letter that the end of the file cuts.
    fn end(&mut self) {
        self.cuts += u64::from(!std::mem::take(&mut self.begun).is_empty());
    }
}

/// Counts the first bytes of letters that have several.
fn letters(good: &[u8]) -> u64 {
    good.iter().filter(|byte| **byte >= 0xc0).count() as u64
}

/// Refuses what is evidently something else, by its name.
fn check_text(head: &[u8]) -> Result<(), FormatError> {
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
        Some((at, byte)) => Err(broken(
            at,
            format!("there is a byte 0x{byte:02X}, which no text has"),
        )),
    }
}

// === Reading ===

impl Text<'_> {
    /// The encoding that is decoded.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.decoder.encoding()
    }

    /// A handle on how much may be read.
    pub(super) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// A handle on what was decoded, which outlives a parser that owns the text.
    pub(super) fn decoded(&self) -> Rc<Cell<Decoded>> {
        Rc::clone(&self.tally)
    }

    fn decode(&mut self) -> io::Result<()> {
        (self.from, self.to) = (0, 0);
        while self.to == 0 && !self.is_at_end {
            if self.raw_from == self.raw.len() {
                self.raw = read_chunk(self.input)?;
                self.raw_from = 0;
            }
            self.decode_chunk();
        }
        Ok(())
    }

    fn decode_chunk(&mut self) {
        let is_last = self.raw.is_empty();
        let source = self.raw.get(self.raw_from..).unwrap_or_default();
        let room = self
            .text
            .get_mut(..ROOM - UNDECODABLE.len_utf8())
            .unwrap_or_default();
        let (result, read, written) = self
            .decoder
            .decode_to_utf8_without_replacement(source, room, is_last);
        self.to = written;
        self.raw_from += read;
        let mut tally = self.tally.get();
        tally.letters += letters(room.get(..written).unwrap_or_default());
        match result {
            DecoderResult::InputEmpty => self.is_at_end = is_last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => {
                tally.undecodable += 1;
                let rest = self.text.get_mut(written..).unwrap_or_default();
                self.to += UNDECODABLE.encode_utf8(rest).len();
            }
        }
        self.tally.set(tally);
    }
}

/// Reads the next bytes, as many as a chunk holds; fewer only at the end.
fn read_chunk(input: &mut dyn Input) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK);
    input.take(CHUNK as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

impl BufRead for Text<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to {
            self.decode()?;
        }
        let waiting = self.text.get(self.from..self.to).unwrap_or_default();
        if self.allowance.0.get() == 0 && !waiting.is_empty() {
            let reason = "one piece of it is larger than any row".to_owned();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                Malformed(reason),
            ));
        }
        Ok(waiting)
    }

    fn consume(&mut self, amount: usize) {
        self.from = (self.from + amount).min(self.to);
        self.allowance
            .0
            .set(self.allowance.0.get().saturating_sub(amount));
    }
}

impl Read for Text<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// Decodes the beginning of a file as far as it can be, to see what the file is.
pub(super) fn peek(head: &[u8], encoding: &'static Encoding) -> String {
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
pub(super) fn broken(byte: u64, reason: impl Into<String>) -> FormatError {
    FormatError::Broken {
        place: format!("byte {byte}"),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn detected(bytes: &[u8]) -> Result<&'static Encoding, String> {
        open(&mut Cursor::new(bytes), None, &Guess::Detect)
            .map(|text| text.encoding())
            .map_err(|error| error.to_string())
    }

    fn cut(text: &str) -> Vec<u8> {
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
            assert_eq!(detected(&cut(text)), Ok(UTF_8), "{text}");
        }
        let tail = "sku;stock\nБ-1;5\nБ-2;6\nБ-3".as_bytes();
        assert_eq!(detected(&tail[..tail.len() - 2]), Ok(UTF_8));
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
            assert_eq!(detected(&bytes), Ok(WINDOWS_1251), "{text}");
        }
    }

    #[test]
    fn other_code_pages_are_asked_about() {
        let text = "Артикул;Остаток\nБолт-5;3\nГайка шестигранная;1\n";
        for encoding in [IBM866, KOI8_R] {
            let refusal = detected(&encoding.encode(text).0).unwrap_err();
            assert!(refusal.contains("set encoding"), "{refusal}");
        }
    }

    #[test]
    fn a_setting_comes_first_unless_the_bytes_contradict_it() {
        let open = |bytes: &[u8], setting| {
            open(&mut Cursor::new(bytes), Some(setting), &Guess::Detect)
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
        let marked = [b"\xef\xbb\xbf", utf_8].concat();
        assert!(
            open(&marked, WINDOWS_1251)
                .unwrap_err()
                .contains("byte order mark")
        );
    }

    #[test]
    fn a_text_between_two_encodings_is_refused() {
        let mut bytes = "Болт;5\n".repeat(3).into_bytes();
        bytes.extend_from_slice(&WINDOWS_1251.encode("Гайка;6\nВинт;7\n").0);
        assert!(detected(&bytes).unwrap_err().contains("not certain"));
    }
}

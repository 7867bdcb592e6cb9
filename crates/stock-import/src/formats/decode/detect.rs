//! Detection of the encoding of a text from its bytes.
//!
//! Zero bytes between letters are UTF-16. Multi-byte letters of UTF-8 are UTF-8, even if some are
//! truncated. Other non-ASCII text is in a Cyrillic code page. Uncertain text is an error that asks
//! for the setting `encoding`.

use std::io::{self, BufRead, BufReader};

use encoding_rs::{Encoding, IBM866, KOI8_R, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1251};

use super::{CHUNK_SIZE, broken};
use crate::formats::{FormatError, Input};

/// Invalid UTF-8 sequences after which detection stops: such a file is not UTF-8 with truncated
/// letters.
const MAX_UTF_8_ERRORS: u64 = 10_000;

pub(super) fn detect_encoding(
    input: &mut dyn Input,
    head: &[u8],
) -> Result<&'static Encoding, FormatError> {
    if let Some(encoding) = detect_utf_16(head) {
        return Ok(encoding);
    }
    // For a binary file, a message about its format is more useful than one about its encoding.
    reject_binary(head)?;
    let mut stats = Utf8Stats::default();
    let mut code_page = CodePageStats::default();
    for_each_chunk(input, |piece| {
        stats.add(piece);
        code_page.add(piece);
        stats.error_count() <= MAX_UTF_8_ERRORS
    })?;
    stats.finish();
    let (letters, errors) = (stats.multibyte, stats.error_count());
    // Text of a code page rarely contains valid UTF-8 sequences. UTF-8 text rarely contains invalid
    // ones, except for letters that a program has truncated.
    if errors == 0 || (letters > 0 && letters >= 3 * stats.invalid + stats.truncated) {
        return Ok(UTF_8);
    }
    if letters * 10 > errors {
        return Err(FormatError::Unusable(format!(
            "the encoding is not certain: {letters} letters of the file are UTF-8 and {errors} are \
             not: set encoding, such as utf-8, windows-1251 or cp866"
        )));
    }
    match code_page.better_code_page() {
        None => Ok(WINDOWS_1251),
        Some(other) => Err(FormatError::Unusable(format!(
            "the encoding is not certain: the file looks like {} rather than windows-1251: set \
             encoding to the file's encoding",
            other.name()
        ))),
    }
}

/// Rejects a single-byte encoding for a text that is valid UTF-8 with multi-byte letters.
pub(super) fn reject_utf_8_text(
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
        "the declared encoding is {}, but its bytes are UTF-8: set encoding = \"utf-8\", or save the \
         file in the declared encoding",
        declared.name(),
    )))
}

/// Counts of bytes by which the Cyrillic code pages differ.
///
/// Libraries for encoding detection need a page of prose, but a stock list may have three letters.
#[derive(Clone, Copy, Debug, Default)]
struct CodePageStats {
    /// Bytes that are letters in IBM866 and rare signs in windows-1251.
    ibm866: u64,
    /// Bytes that are letters in windows-1251 and box-drawing or rare characters in IBM866.
    windows_1251: u64,
    /// Bytes from the capitals' range of windows-1251 directly before one from its lower-case
    /// range. KOI8-R has these two ranges the other way round.
    upper_before_lower: u64,
    lower_before_upper: u64,
    previous: u8,
}

impl CodePageStats {
    fn add(&mut self, piece: &[u8]) {
        for byte in piece {
            // Quotes, dashes, the ellipsis, the no-break space and Ё are common in windows-1251.
            let is_sign = matches!(byte, 0x84 | 0x85 | 0x91..=0x97 | 0x99 | 0xa0 | 0xa8 | 0xab);
            self.ibm866 += u64::from(matches!(byte, 0x80..=0xaf) && !is_sign);
            self.windows_1251 += u64::from(matches!(byte, 0xc0..=0xdf | 0xf2..=0xff));
            let (upper, lower) = (0xc0..=0xdf, 0xe0..=0xff);
            self.upper_before_lower +=
                u64::from(upper.contains(&self.previous) && lower.contains(byte));
            self.lower_before_upper +=
                u64::from(lower.contains(&self.previous) && upper.contains(byte));
            self.previous = *byte;
        }
    }

    /// Returns a code page that fits the bytes better than windows-1251.
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

/// Detects UTF-16 without a byte order mark: one byte of nearly every pair is 0 (Latin), 4
/// (Cyrillic) or 0x20 or 0x21 (punctuation).
pub(in crate::formats) fn detect_utf_16(head: &[u8]) -> Option<&'static Encoding> {
    let pairs = head.len() / 2;
    let halves = |half: usize| head.chunks_exact(2).map(move |pair| pair[half]);
    let has_zero = |half: usize| halves(half).any(|byte| byte == 0);
    let is_high_byte = |byte: &u8| matches!(byte, 0 | 4 | 0x20 | 0x21);
    let is_mostly_high_byte =
        |half: usize| has_zero(half) && halves(half).filter(is_high_byte).count() * 10 >= pairs * 9;
    if is_mostly_high_byte(0) && !has_zero(1) {
        Some(UTF_16BE)
    } else if is_mostly_high_byte(1) && !has_zero(0) {
        Some(UTF_16LE)
    } else {
        None
    }
}

pub(in crate::formats) fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

/// Reads a file from its beginning in chunks, until its end or until `visit` returns false.
fn for_each_chunk(input: &mut dyn Input, mut visit: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    input.rewind()?;
    let mut input = BufReader::with_capacity(CHUNK_SIZE, input);
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() || !visit(chunk) {
            return Ok(());
        }
        let length = chunk.len();
        input.consume(length);
    }
}

/// Counts of valid and invalid UTF-8 sequences.
#[derive(Clone, Debug, Default)]
struct Utf8Stats {
    /// Valid letters of more than one byte.
    multibyte: u64,
    /// Incomplete letters before an ASCII character: a program has truncated the text by bytes.
    truncated: u64,
    /// Other invalid sequences.
    invalid: u64,
    /// Incomplete letter at the end of the chunk; the next chunk continues it.
    incomplete: Vec<u8>,
}

impl Utf8Stats {
    fn error_count(&self) -> u64 {
        self.truncated + self.invalid
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
            let is_lead_byte = matches!(sequence.first(), Some(0xc2..=0xf4));
            if is_lead_byte && after.first().is_none_or(u8::is_ascii) {
                self.truncated += 1;
            } else {
                self.invalid += 1;
            }
            rest = after;
        }
        self.multibyte += count_multibyte(rest);
    }

    /// Counts a letter that the end of the file truncates.
    fn finish(&mut self) {
        self.truncated += u64::from(!std::mem::take(&mut self.incomplete).is_empty());
    }
}

/// Counts the lead bytes of multi-byte letters in valid UTF-8.
pub(super) fn count_multibyte(valid: &[u8]) -> u64 {
    valid.iter().filter(|byte| **byte >= 0xc0).count() as u64
}

/// Rejects known binary formats by name, and other files with control characters.
pub(super) fn reject_binary(head: &[u8]) -> Result<(), FormatError> {
    const BINARY_FORMATS: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "it is a workbook or a zip archive"),
        (b"\xd0\xcf\x11\xe0", "it is an old workbook (XLS)"),
        (b"\x1f\x8b", "it is compressed with gzip"),
        (b"%PDF", "it is a PDF"),
        (b"SQLite format 3\0", "it is a database"),
    ];
    let mut formats = BINARY_FORMATS.iter();
    if let Some((_, description)) = formats.find(|(magic, _)| head.starts_with(magic)) {
        return Err(broken(1, format!("{description}, not text")));
    }
    // 0x1A ends a DOS file; 0x1B is an escape in some Asian encodings.
    let is_text = |byte: u8| byte >= 0x20 || matches!(byte, 0x09..=0x0d | 0x1a | 0x1b);
    match (1..).zip(head).find(|(_, byte)| !is_text(**byte)) {
        None => Ok(()),
        Some((position, byte)) => Err(broken(
            position,
            format!("the byte 0x{byte:02X} is not allowed in text"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::{EncodingFallback, open};
    use super::*;

    fn detect_encoding_of(bytes: &[u8]) -> Result<&'static Encoding, String> {
        open(&mut Cursor::new(bytes), None, &EncodingFallback::Detect)
            .map(|text| text.encoding())
            .map_err(|error| error.to_string())
    }

    fn truncate_last_letters(text: &str) -> Vec<u8> {
        // Removes the last byte of each name.
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
    fn detects_utf_8_despite_truncated_letters() {
        for text in [
            "Б-1;1;Смеситель я\nБ-2;2;Смеситель ы\n",
            "A-1;1;жж\nA-2;2;жжж\n",
            "1;1;ЩЩ\n2;2;ЩЩЩ\n",
        ] {
            assert_eq!(
                detect_encoding_of(&truncate_last_letters(text)),
                Ok(UTF_8),
                "{text}"
            );
        }
        let tail = "sku;stock\nБ-1;5\nБ-2;6\nБ-3".as_bytes();
        assert_eq!(detect_encoding_of(&tail[..tail.len() - 2]), Ok(UTF_8));
    }

    #[test]
    fn recognises_russian_windows_1251() {
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
    fn other_code_pages_need_the_setting() {
        let text = "Артикул;Остаток\nБолт-5;3\nГайка шестигранная;1\n";
        for encoding in [IBM866, KOI8_R] {
            let message = detect_encoding_of(&encoding.encode(text).0).unwrap_err();
            assert!(message.contains("set encoding"), "{message}");
        }
    }

    #[test]
    fn setting_wins_unless_the_bytes_contradict_it() {
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
    fn rejects_text_in_two_encodings() {
        let mut bytes = "Болт;5\n".repeat(3).into_bytes();
        bytes.extend_from_slice(&WINDOWS_1251.encode("Гайка;6\nВинт;7\n").0);
        assert!(
            detect_encoding_of(&bytes)
                .unwrap_err()
                .contains("not certain")
        );
    }
}

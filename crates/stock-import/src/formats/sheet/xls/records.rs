//! Records of an XLS stream, the texts in them, and little-endian numbers.
//!
//! Source: [MS-XLS], Open Specifications, 2024.

use encoding_rs::Encoding;

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn f64_at(bytes: &[u8], at: usize) -> Option<f64> {
    bytes_at(bytes, at).map(f64::from_le_bytes)
}

pub(super) fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// Returns the records of a stream: type and content.
pub(super) fn records(stream: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let (kind, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let bytes = rest.get(4..4 + length)?;
        rest = rest.get(4 + length..)?;
        Some((kind, bytes))
    })
}

/// Reader of a record and its CONTINUE records.
pub(super) struct XlsRecordParts<'a> {
    parts: std::vec::IntoIter<&'a [u8]>,
    rest: &'a [u8],
}

impl<'a> XlsRecordParts<'a> {
    pub(super) fn new(parts: Vec<&'a [u8]>) -> Self {
        Self {
            parts: parts.into_iter(),
            rest: &[],
        }
    }

    pub(super) fn read_byte(&mut self) -> Option<u8> {
        while self.rest.is_empty() {
            self.rest = self.parts.next()?;
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn read_u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.read_byte()?, self.read_byte()?]))
    }

    fn read_u32(&mut self) -> Option<usize> {
        let (low, high) = (u32::from(self.read_u16()?), u32::from(self.read_u16()?));
        usize::try_from(high << 16 | low).ok()
    }

    fn skip(&mut self, mut length: usize) -> Option<()> {
        while length > self.rest.len() {
            length -= self.rest.len();
            self.rest = self.parts.next()?;
        }
        self.rest = self.rest.get(length..)?;
        Some(())
    }

    /// Reads a text with its length and flags, and skips its formatting and phonetic data.
    pub(super) fn read_text(&mut self) -> Option<String> {
        let length = usize::from(self.read_u16()?);
        let kind = self.read_byte()?;
        let formatting_length = if kind & 8 == 8 {
            usize::from(self.read_u16()?) * 4
        } else {
            0
        };
        let phonetic_length = if kind & 4 == 4 { self.read_u32()? } else { 0 };
        let text = self.read_characters(length, kind & 1 == 1)?;
        self.skip(formatting_length)?;
        self.skip(phonetic_length)?;
        Some(text)
    }

    /// Reads `length` characters of one or two bytes. Each CONTINUE record has its own width flag.
    pub(super) fn read_characters(&mut self, length: usize, mut is_wide: bool) -> Option<String> {
        let mut units = Vec::with_capacity(length);
        while units.len() < length {
            if self.rest.is_empty() {
                self.rest = self.parts.next()?;
                is_wide = self.read_byte()? & 1 == 1;
            }
            let low = self.read_byte()?;
            let high = if is_wide { self.read_byte()? } else { 0 };
            units.push(u16::from_le_bytes([low, high]));
        }
        Some(String::from_utf16_lossy(&units))
    }
}

/// Reads the shared strings. There may be fewer than the declared count.
pub(super) fn parse_shared_strings(parts: Vec<&[u8]>) -> Vec<String> {
    let mut parts = XlsRecordParts::new(parts);
    let count = parts.skip(4).and_then(|()| parts.read_u32());
    let texts = (0..count.unwrap_or_default()).map_while(|_| parts.read_text());
    texts.collect()
}

/// Decodes `length` single-byte characters.
pub(super) fn decode_narrow(
    bytes: &[u8],
    length: usize,
    encoding: &'static Encoding,
) -> Option<String> {
    let text = encoding.decode_without_bom_handling(bytes.get(..length)?).0;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fewer_shared_strings_than_declared() {
        let parts = vec![&b"\0\0\0\0\xff\0\0\0\x01\0\0A"[..]];
        assert_eq!(parse_shared_strings(parts), ["A"]);
    }

    #[test]
    fn continued_text_may_change_its_width() {
        let parts = vec![&b"\x04\x00\x00ab"[..], b"\x01\x16\x04\x17\x04"];
        assert_eq!(
            XlsRecordParts::new(parts).read_text().as_deref(),
            Some("abЖЗ")
        );
        assert_eq!(
            XlsRecordParts::new(vec![b"\x04\x00\x00ab"]).read_text(),
            None
        );
    }
}

//! Texts that are parts of a larger buffer, and are looked up without a copy.

use super::sku_words::{MEDIUM_WORDS, SkuWords};

/// Bytes of the longest text whose words are read by loads of a fixed length.
const LOAD_BYTES: usize = 8 * MEDIUM_WORDS;

/// Trimmed text of a SKU, and the buffer that it is a part of.
///
/// A text of unknown length is read by a loop or by a choice between loads, whose branches are
/// often predicted wrongly. If enough bytes follow the text, one load of a fixed length reads it,
/// and the surplus is removed.
#[derive(Clone, Copy, Debug)]
pub struct TextInBuffer<'a> {
    pub(super) text: &'a str,
    buffer: &'a [u8],
}

impl<'a> TextInBuffer<'a> {
    /// Creates a text that is a part of `buffer`. Any other text is accepted too, and read more
    /// slowly.
    #[must_use]
    #[inline]
    pub fn new(text: &'a str, buffer: &'a [u8]) -> Self {
        Self { text, buffer }
    }

    /// Returns the words of a text of 1 to 32 bytes, padded with zeros. `None` for another length,
    /// and for a text that ends with U+0000, which looks like padding.
    #[inline]
    pub(super) fn medium_words(self) -> Option<[u64; MEDIUM_WORDS]> {
        let length = self.text.len();
        if length > LOAD_BYTES || *self.text.as_bytes().last()? == 0 {
            return None;
        }
        let Some(loaded) = self.loaded() else {
            return self.words_of_text();
        };
        let kept: &[u8; LOAD_BYTES] = KEPT_THEN_ZEROS[LOAD_BYTES - length..].first_chunk()?;
        let words = loaded
            .as_chunks::<8>()
            .0
            .iter()
            .zip(kept.as_chunks::<8>().0);
        let mut result = [0; MEDIUM_WORDS];
        for (word, (bytes, kept)) in result.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes) & u64::from_le_bytes(*kept);
        }
        Some(result)
    }

    /// Returns the bytes from the beginning of the text on, if the buffer has enough of them.
    #[inline]
    fn loaded(self) -> Option<&'a [u8; LOAD_BYTES]> {
        // A text outside the buffer gives a place outside.
        let place = (self.text.as_ptr() as usize).wrapping_sub(self.buffer.as_ptr() as usize);
        self.buffer.get(place..)?.first_chunk()
    }

    /// Returns the words of a text at the end of its buffer.
    #[cold]
    fn words_of_text(self) -> Option<[u64; MEDIUM_WORDS]> {
        match SkuWords::of(self.text)? {
            SkuWords::Short([first, second]) => Some([first, second, 0, 0]),
            SkuWords::Medium(words) => Some(words),
            SkuWords::Long(_) | SkuWords::VeryLong(_) => None,
        }
    }
}

impl<'a> From<&'a str> for TextInBuffer<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text, text.as_bytes())
    }
}

/// Mask that keeps bytes, and one that removes them. The part that begins `n` bytes before the
/// middle keeps the first `n` bytes.
static KEPT_THEN_ZEROS: [u8; 2 * LOAD_BYTES] = {
    let mut mask = [0; 2 * LOAD_BYTES];
    let mut index = 0;
    while index < LOAD_BYTES {
        mask[index] = 0xff;
        index += 1;
    }
    mask
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_texts_are_read_too() {
        let buffer = [b'x'; 100];
        for text in ["", "A", "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"] {
            let alone = TextInBuffer::from(text).medium_words();
            assert_eq!(TextInBuffer::new(text, &buffer).medium_words(), alone);
            assert_eq!(TextInBuffer::new(text, &[]).medium_words(), alone);
        }
    }

    proptest! {
        #[test]
        fn words_in_a_buffer_are_those_of_the_text(
            before in "[a-zа-я]{0,8}",
            text in "[\\x00-~а-я]{0,40}",
            after in "[a-zа-я]{0,40}",
        ) {
            let buffer = format!("{before}{text}{after}");
            let in_buffer = buffer.get(before.len()..before.len() + text.len()).unwrap();
            let words = TextInBuffer::new(in_buffer, buffer.as_bytes()).medium_words();
            prop_assert_eq!(words, TextInBuffer::from(text.as_str()).medium_words());
            let expected = match SkuWords::of(&text) {
                Some(SkuWords::Short([first, second])) => Some([first, second, 0, 0]),
                Some(SkuWords::Medium(words)) => Some(words),
                Some(SkuWords::Long(_) | SkuWords::VeryLong(_)) | None => None,
            };
            prop_assert_eq!(words, expected);
        }
    }
}

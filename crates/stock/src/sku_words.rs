//! SKU texts as words of eight bytes, padded with zeros.
//!
//! Words are compared and hashed without a loop over bytes. The padding is unambiguous, because no
//! SKU contains U+0000.

use std::hash::{BuildHasher as _, Hasher as _};

use compact_str::CompactString;
use foldhash::fast::RandomState;

use super::Sku;

/// Words of a short SKU: up to 16 bytes.
pub(super) const SHORT_WORDS: usize = 2;

/// Words of a medium SKU: up to 32 bytes.
pub(super) const MEDIUM_WORDS: usize = 4;

/// Words of a long SKU: up to 48 bytes.
pub(super) const LONG_WORDS: usize = 6;

/// SKU text in the form in which the book keeps it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SkuWords<'a> {
    Short([u64; SHORT_WORDS]),
    Medium([u64; MEDIUM_WORDS]),
    Long([u64; LONG_WORDS]),
    /// More than 48 bytes, which is rare.
    VeryLong(&'a str),
}

impl<'a> SkuWords<'a> {
    /// Returns the words of a trimmed text. `None` if it cannot be a SKU because it is empty, or
    /// ends with U+0000, which looks like padding, or has 33 to 48 bytes and begins with it, which
    /// looks like the mark of a text of more than 48 bytes.
    #[inline]
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        if *bytes.last()? == 0 {
            return None;
        }
        match bytes.len() {
            ..=16 => Some(Self::Short(short_words(bytes))),
            17..=32 => Some(Self::Medium(padded_words(bytes))),
            33..=48 => (bytes[0] != 0).then(|| Self::Long(padded_words(bytes))),
            _ => Some(Self::VeryLong(text)),
        }
    }

    pub(super) fn of_sku(sku: &'a Sku) -> Self {
        Self::of(sku.as_str()).expect("a SKU is not empty and has no U+0000")
    }

    pub(super) fn hash(&self, state: &RandomState) -> u64 {
        match self {
            Self::Short(words) => hash_words(state, words),
            Self::Medium(words) => hash_words(state, words),
            Self::Long(words) => hash_words(state, words),
            Self::VeryLong(text) => {
                let mut hasher = state.build_hasher();
                hasher.write(text.as_bytes());
                hasher.finish()
            }
        }
    }

    pub(super) fn to_sku(self) -> Sku {
        let mut bytes = [0; 8 * LONG_WORDS];
        let words: &[u64] = match &self {
            Self::Short(words) => words,
            Self::Medium(words) => words,
            Self::Long(words) => words,
            Self::VeryLong(text) => return Sku(CompactString::new(text)),
        };
        let mut length = 0;
        for (number, word) in words.iter().enumerate() {
            bytes[8 * number..][..8].copy_from_slice(&word.to_le_bytes());
            if *word != 0 {
                length = 8 * (number + 1) - word.leading_zeros() as usize / 8;
            }
        }
        let text = str::from_utf8(&bytes[..length]).expect("the words are those of a text");
        Sku(CompactString::new(text))
    }
}

/// Returns the hash of a text. A short text is hashed with the padding of a medium one, so that a
/// look-up need not tell them apart.
#[inline]
pub(super) fn hash_words<const N: usize>(state: &RandomState, words: &[u64; N]) -> u64 {
    let mut hasher = state.build_hasher();
    for word in words {
        hasher.write_u64(*word);
    }
    for _padding in N..MEDIUM_WORDS {
        hasher.write_u64(0);
    }
    hasher.finish()
}

/// Returns the words of 1 to 16 bytes. The last word overlaps the first in memory, and is shifted
/// to its place.
#[inline]
fn short_words(bytes: &[u8]) -> [u64; SHORT_WORDS] {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return [
            u64::from_le_bytes(*first),
            drop_bytes(*last, 16 - bytes.len()),
        ];
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return [
            u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4)),
            0,
        ];
    }
    let word = bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    [word, 0]
}

/// Returns the words of 8 to `8 * N` bytes.
#[inline]
fn padded_words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    let (whole, rest) = bytes.as_chunks::<8>();
    for (word, chunk) in words.iter_mut().zip(whole) {
        *word = u64::from_le_bytes(*chunk);
    }
    if let (Some(word), Some(last)) = (words.get_mut(whole.len()), bytes.last_chunk::<8>()) {
        *word = drop_bytes(*last, 8 - rest.len());
    }
    words
}

/// Returns the word of these bytes without the first `surplus` ones, at most eight.
#[inline]
fn drop_bytes(bytes: [u8; 8], surplus: usize) -> u64 {
    // Two shifts, because one by all 64 bits would overflow.
    u64::from_le_bytes(bytes) >> (4 * surplus) >> (4 * surplus)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_padding_would_change_are_refused() {
        let with_mark = format!("{}A", "\0".repeat(32));
        for text in ["", "\0", "A\0", &with_mark] {
            assert_eq!(SkuWords::of(text), None, "{text:?}");
        }
    }

    #[test]
    fn kinds_have_limits_of_16_32_and_48_bytes() {
        let kind = |length: usize| match SkuWords::of(&"A".repeat(length)) {
            Some(SkuWords::Short(_)) => 16,
            Some(SkuWords::Medium(_)) => 32,
            Some(SkuWords::Long(_)) => 48,
            Some(SkuWords::VeryLong(_)) | None => 0,
        };
        assert_eq!([1, 16, 17, 32].map(kind), [16, 16, 32, 32]);
        assert_eq!([33, 48, 49].map(kind), [48, 48, 0]);
    }

    proptest! {
        #[test]
        fn words_keep_the_text(text in "[!-~а-я]{1,60}") {
            let sku = Sku::parse(&text).unwrap();
            let words = SkuWords::of_sku(&sku);
            prop_assert_eq!(&words.to_sku(), &sku);
            let mut padded = text.into_bytes();
            padded.resize(64, 0);
            let chunks = || padded.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
            match words {
                SkuWords::Short(words) => prop_assert!(chunks().take(2).eq(words)),
                SkuWords::Medium(words) => prop_assert!(chunks().take(4).eq(words)),
                SkuWords::Long(words) => prop_assert!(chunks().take(6).eq(words)),
                SkuWords::VeryLong(_) => prop_assert!(padded[48] != 0),
            }
        }
    }
}

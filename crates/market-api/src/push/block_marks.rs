//! Marks of bytes in blocks of 64, with which the scanner of requests finds the quotes.
//!
//! A loop that looks at a SKU byte by byte, or word by word, ends at an unpredictable place. The
//! marks of a block always take the same instructions.

/// Bytes of a block: as many as a mask of 64 bits has marks.
pub(super) const BLOCK_BYTES: usize = 64;

/// Marks of one block.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct BlockMarks {
    /// One bit per byte that is a quote, the lowest for the first byte.
    pub(super) quotes: u64,
    /// The block has a backslash or a control character.
    pub(super) has_special: bool,
}

#[cfg(target_arch = "x86_64")]
pub(super) use mark_by_sse2 as mark;
#[cfg(not(target_arch = "x86_64"))]
pub(super) use mark_by_words as mark;

/// Marks 16 bytes at a time by SSE2, which every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn mark_by_sse2(block: &[u8; BLOCK_BYTES]) -> BlockMarks {
    use safe_arch::{
        cmp_eq_mask_i8_m128i as equals, load_unaligned_m128i, m128i, min_u8_m128i,
        move_mask_i8_m128i, set_splat_i8_m128i as all, zeroed_m128i,
    };
    let mask_of = |bytes: m128i| u64::from(move_mask_i8_m128i(bytes).cast_unsigned());
    let mut quotes = 0;
    let mut special = zeroed_m128i();
    for (number, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = load_unaligned_m128i(bytes);
        quotes |= mask_of(equals(bytes, all(0x22))) << (16 * number);
        // SSE2 cannot compare unsigned bytes. A byte is at most 0x1f if it is the smaller of the two.
        let is_control = equals(min_u8_m128i(bytes, all(0x1f)), bytes);
        special = special | equals(bytes, all(0x5c)) | is_control;
    }
    BlockMarks {
        quotes,
        has_special: mask_of(special) != 0,
    }
}

/// Marks 8 bytes at a time, on any processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(super) fn mark_by_words(block: &[u8; BLOCK_BYTES]) -> BlockMarks {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    // Sets the high bit of each byte that is zero. No carry leaves a byte, so the bits are exact.
    let zeros = |word: u64| !(((word & !HIGH_BITS) + !HIGH_BITS) | word) & HIGH_BITS;
    let (words, _) = block.as_chunks::<8>();
    let mut quotes = 0;
    let mut special = 0;
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The product moves the lowest bits of all bytes into its highest byte, in their order.
        let ones = zeros(word ^ (ONES * 0x22)) >> 7;
        quotes |= (ones.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * number);
        special |= zeros(word ^ (ONES * 0x5c));
        // Control characters are those with three zeros at the top.
        special |= zeros(word & (ONES * 0xe0));
    }
    BlockMarks {
        quotes,
        has_special: special != 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_special(byte: u8) -> bool {
        byte == b'\\' || byte < 0x20
    }

    #[test]
    fn every_byte_has_its_marks() {
        for byte in 0..=u8::MAX {
            for place in 0..BLOCK_BYTES {
                let mut block = [b'A'; BLOCK_BYTES];
                block[place] = byte;
                let expected = BlockMarks {
                    quotes: u64::from(byte == b'"') << place,
                    has_special: is_special(byte),
                };
                assert_eq!(mark(&block), expected, "{byte} at {place}");
                assert_eq!(mark_by_words(&block), expected, "{byte} at {place}");
            }
        }
    }

    proptest! {
        #[test]
        fn marks_are_those_of_a_search(
            block in prop::collection::vec(prop_oneof![Just(b'"'), 0x1e_u8..0x23, any::<u8>()], 64),
        ) {
            let quotes = (0..BLOCK_BYTES).filter(|place| block[*place] == b'"');
            let expected = BlockMarks {
                quotes: quotes.fold(0, |marks, place| marks | 1 << place),
                has_special: block.iter().any(|byte| is_special(*byte)),
            };
            let block: [u8; BLOCK_BYTES] = block.try_into().unwrap();
            prop_assert_eq!(&mark(&block), &expected);
            prop_assert_eq!(&mark_by_words(&block), &expected);
        }
    }
}

//! Deterministic random numbers, so that a seed reproduces a run on every machine.

/// Returns a well-mixed number for a seed and an index.
///
/// The function does not use `rand`, which may change the numbers of a seed between releases. A
/// rehearsal with a given seed must give the same result years later. Source: the finaliser of
/// `SplitMix64`.
pub(crate) fn number(seed: u64, index: u64) -> u64 {
    let step = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = seed ^ step.wrapping_add(0x632b_e59b_d9b4_e019);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Converts a random number into a fraction in `0.0..1.0`.
pub(crate) fn fraction(number: u64) -> f64 {
    // 32 bits are precise enough for a probability and exact in an `f64`.
    f64::from(u32::try_from(number >> 32).unwrap_or_default()) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_and_index() {
        assert_eq!(number(1, 2), number(1, 2));
        assert_ne!(number(1, 2), number(2, 2));
        assert_ne!(number(1, 2), number(1, 3));
    }

    #[test]
    fn fractions_are_uniform() {
        let below_quarter = (0..10_000)
            .filter(|&i| fraction(number(7, i)) < 0.25)
            .count();
        assert!((2_300..2_700).contains(&below_quarter), "{below_quarter}");
    }
}

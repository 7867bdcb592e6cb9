/// A well-mixed number for each pair: the same on every machine and with every library.
///
/// Not `rand`: a rehearsal that is told its seed must play out alike years later, and `rand`
/// may change what a seed means. Source: the finaliser of `SplitMix64`.
pub(super) fn number(seed: u64, index: u64) -> u64 {
    let mut z = seed
        ^ index
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(0x632b_e59b_d9b4_e019);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A throw as a share, `0.0..1.0`.
pub(super) fn fraction(number: u64) -> f64 {
    // 32 bits are plenty for odds, and an exact `f64`.
    f64::from(u32::try_from(number >> 32).unwrap_or_default()) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_and_another_does_not() {
        assert_eq!(number(1, 2), number(1, 2));
        assert_ne!(number(1, 2), number(2, 2));
        assert_ne!(number(1, 2), number(1, 3));
    }

    #[test]
    fn shares_are_spread_evenly() {
        let below_quarter = (0..10_000)
            .filter(|&i| fraction(number(7, i)) < 0.25)
            .count();
        assert!((2_300..2_700).contains(&below_quarter), "{below_quarter}");
    }
}

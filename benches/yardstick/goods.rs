//! SKUs and levels of the benchmarked shops, the same on every machine.

use chrono::DateTime;
use stock::{Count, Level, Sku, Timestamp};

const LATIN: [char; 32] = [
    'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P', 'Q', 'R', 'S',
    'T', 'U', 'V', 'W', 'X', 'Y', 'Z', '-', '_', '2', '3', '4', '5',
];

const CYRILLIC: [char; 32] = [
    'а', 'б', 'в', 'г', 'д', 'е', 'ж', 'з', 'и', 'й', 'к', 'л', 'м', 'н', 'о', 'п', 'р', 'с', 'т',
    'у', 'ф', 'х', 'ц', 'ч', 'ш', 'щ', 'ъ', 'ы', 'ь', 'э', 'ю', 'я',
];

/// Returns the SKU of a number below 33 million: 8 to 20 characters, one in ten with Cyrillic
/// letters. Different numbers give different SKUs.
pub(crate) fn sku(number: u64) -> Sku {
    let mut random = mix(number);
    let length = 3 + random % 13;
    let letters = if (random / 13).is_multiple_of(10) {
        CYRILLIC
    } else {
        LATIN
    };
    random = mix(random);
    let mut text: String = (0..length)
        .map(|place| letter(&letters, random >> (4 * place)))
        .collect();
    // Five digits of base 32 make the SKU unique.
    text.extend((0..5).map(|place| letter(&LATIN, number >> (5 * place))));
    Sku::parse(&text).expect("letters make a SKU")
}

/// Returns a level as most sellers have it: a count of up to three digits, and a timestamp in whole
/// seconds within one month.
pub(crate) fn level(random: u64) -> Level {
    let count = i64::try_from(random % 1000).unwrap_or_default();
    let second = i64::try_from(1_790_000_000 + random / 1000 % 2_592_000).unwrap_or_default();
    let timestamp = DateTime::from_timestamp(second, 0).expect("2026 is in the calendar");
    let count = Count::try_from(count).expect("three digits make a count");
    Level {
        count,
        updated_at: Timestamp::from(timestamp),
    }
}

/// Returns a well-mixed number. Source: the finaliser of `SplitMix64`.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn letter(letters: &[char; 32], random: u64) -> char {
    letters[usize::try_from(random % 32).unwrap_or_default()]
}

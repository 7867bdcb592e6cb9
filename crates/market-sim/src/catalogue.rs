//! Catalogue of an invented seller with realistic SKUs and counts, the same on every machine.

use super::seeded_random;

/// Product of an invented seller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CatalogueProduct {
    /// SKU that the Market accepts, without outer whitespace.
    pub sku: String,
    /// Pieces that can be ordered.
    pub count: u32,
}

/// Largest count that the Market accepts. Source: `UpdateStockItemDTO.count.maximum`.
const MAX_COUNT: u32 = 2_000_000_000;

/// Generates a catalogue of `products` products: edge cases first, then synthetic SKUs in the shapes
/// that sellers use.
///
/// All SKUs are different. The result is deterministic, and a longer catalogue starts with the
/// shorter one.
#[must_use]
pub fn generate(products: usize) -> Vec<CatalogueProduct> {
    let edge_cases = edge_case_skus();
    let synthetic = (0..).map(|n: u64| synthetic_sku(n));
    let skus = edge_cases.into_iter().chain(synthetic).take(products);
    let product = |(n, sku)| CatalogueProduct {
        sku,
        count: random_count(n),
    };
    (0..).zip(skus).map(product).collect()
}

/// Stock count of product `n`: about one in eight is sold out, and small counts are common.
fn random_count(n: u64) -> u32 {
    // The seed differs from that of the SKUs, so that no kind of SKU is always sold out.
    let random = seeded_random::number(2, n);
    let max = match random % 1_000 {
        0..120 => return 0,
        120..122 => return MAX_COUNT,
        122..600 => 10,
        600..900 => 100,
        _ => 5_000,
    };
    1 + u32::try_from(random / 1_000 % max).unwrap_or_default()
}

const BRANDS: [&str; 12] = [
    "NIKE", "BOSCH", "HP", "SAM", "LG", "XIAOMI", "TEFAL", "VOLT", "STELS", "KRKA", "IEK", "AQ",
];
const SIZES: [&str; 10] = ["XS", "S", "M", "L", "XL", "XXL", "42", "44", "128", "256"];
const GOODS: [&str; 10] = [
    "ФУТ",
    "НАСОС",
    "чайник",
    "Лампа",
    "КОВЁР",
    "стол",
    "Обои",
    "КРЕМ",
    "Шины",
    "ЙОГУРТ",
];
const COLOURS: [&str; 6] = ["чёрн", "бел", "СИН", "зел", "крас", "сер"];

/// Synthetic SKU number `n`; one in ten is Cyrillic.
///
/// All SKUs are different: each kind has its own shape and contains the permuted number.
fn synthetic_sku(n: u64) -> String {
    let random = seeded_random::number(1, n);
    let (number, kind, rest) = (permute(n), random % 10, random / 10);
    let (brand, size) = (pick(&BRANDS, rest), pick(&SIZES, rest / 12));
    match kind {
        // A bar code, which many sellers use as the SKU.
        0 | 1 => format!("46{number:011}"),
        // A number from an accounting system, with leading zeros.
        2 => format!("{number:09}"),
        3 => format!("{brand}-{number:08}-{size}"),
        4 => format!("{brand}{number:08}/{size}"),
        // SKUs are case-sensitive.
        5 => format!("{}_{number:08x}", brand.to_lowercase()),
        6 => format!("{brand} {number:08} {size}"),
        7 => format!("00-{number:08}"),
        8 => format!("art.{number:010}"),
        _ => {
            let (goods, colour) = (pick(&GOODS, rest), pick(&COLOURS, rest / 10));
            format!("{goods}-{number:08}-{colour}")
        }
    }
}

fn pick<'a>(choices: &[&'a str], random: u64) -> &'a str {
    let len = u64::try_from(choices.len()).unwrap_or(1);
    let index = usize::try_from(random % len).unwrap_or_default();
    choices.get(index).copied().unwrap_or_default()
}

/// Permutes the numbers below a hundred million. Larger numbers stay unchanged.
fn permute(n: u64) -> u64 {
    const RANGE: u64 = 100_000_000;
    // Odd and not a multiple of 5, so it shares no factor with the range.
    const MULTIPLIER: u64 = 38_196_601;
    if n < RANGE {
        (n * MULTIPLIER + 4_719) % RANGE
    } else {
        n
    }
}

/// Valid SKUs that tend to break programs.
fn edge_case_skus() -> Vec<String> {
    let mut skus: Vec<String> = EDGE_CASE_SKUS.iter().map(|&sku| sku.to_owned()).collect();
    skus.extend([
        "L".repeat(255),
        "я".repeat(255),
        "\u{5546}".repeat(255),
        // 254 UTF-16 units, 127 characters, 508 bytes.
        "😀".repeat(127),
        "\"".repeat(255),
        "\\".repeat(255),
        format!("a{}b", " ".repeat(253)),
        format!("a{}b", "\t".repeat(253)),
        // Around 24 bytes, the most that `CompactString` keeps inline.
        "x".repeat(23),
        "x".repeat(24),
        "x".repeat(25),
        "ж".repeat(12),
        "ж".repeat(13),
    ]);
    skus
}

const EDGE_CASE_SKUS: &[&str] = &[
    // Texts that look like numbers.
    "557722",
    "0557722",
    "00557722",
    "0",
    "00",
    "-0",
    "-1",
    "1",
    "01",
    "1.0",
    "1,0",
    "+1",
    "1e3",
    "5.577E+05",
    "5,577E+05",
    "0x1F",
    "1_000",
    "1 000",
    "1\u{a0}000",
    "NaN",
    "Infinity",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "٣٤٥",
    "Ⅷ",
    "½",
    // Words that programs treat as null, errors, formulas, dates or paths.
    "null",
    "NULL",
    "true",
    "false",
    "undefined",
    "None",
    "nil",
    "#N/A",
    "#REF!",
    "=1+1",
    "=HYPERLINK(\"http://example.com\")",
    "@SUM(A1)",
    "01.02.2026",
    "2026-11-21",
    "12:30",
    "con",
    "..",
    "../../etc/passwd",
    ".",
    "-",
    "_",
    "--",
    "-rf",
    "~",
    "*",
    "?",
    "%",
    "%00",
    "%20",
    "%2F",
    "a%b",
    "a+b",
    "a b",
    "a  b",
    "a\tb",
    "a\t\tb",
    "a\u{a0}b",
    "a\u{2003}b",
    "a\u{200b}b",
    // Case, and letters that look alike.
    "abc",
    "ABC",
    "Abc",
    "е-2026",
    "e-2026",
    "АВС",
    "ABС",
    "straße",
    "STRASSE",
    "ı",
    "İ",
    "ǅ",
    // Composed and decomposed forms of the same letters.
    "й-1",
    "и\u{306}-1",
    "ё-1",
    "е\u{308}-1",
    "café",
    "cafe\u{301}",
    "ﬁ",
    "fi",
    "Å",
    "\u{212b}",
    // Quotes, escapes and syntax characters.
    "\"",
    "'",
    "`",
    "\"a\"",
    "'a'",
    "«Ёлка»",
    "a\"b\\c",
    "\\",
    "\\\\",
    "\\n",
    "\\u0041",
    "a/b",
    "/",
    "//",
    "a\\/b",
    "#",
    "a#b",
    "a&b=c",
    "a;b",
    "a,b",
    "a|b",
    "{}",
    "[]",
    "{\"sku\":\"A\",\"count\":0}",
    "<script>alert(1)</script>",
    "<!--",
    "&lt;",
    "]]>",
    "'; DROP TABLE stock; --",
    "${jndi:x}",
    "{{7*7}}",
    "%s%n",
    // Emoji, other scripts and invisible characters.
    "😀",
    "👨‍👩‍👧",
    "🇷🇺",
    "e\u{fe0f}",
    "\u{202e}abc",
    "商品-1",
    "מוצר",
    "منتج",
    "สินค้า",
    "\u{feff}A",
    "a\u{2028}b",
    "\u{fffd}",
    "\u{e000}",
    "\u{10ffff}",
    "a\u{85}b",
    "Z\u{351}\u{36b}\u{343}",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use stock::Sku;

    use super::*;

    /// A rehearsal must give the same result on every machine and years later.
    #[test]
    fn catalogue_never_changes() {
        let mut crc = crc32fast::Hasher::new();
        for CatalogueProduct { sku, count } in generate(10_000) {
            crc.update(format!("{sku}\0{count}\n").as_bytes());
        }
        assert_eq!(crc.finalize(), 0xd1e2_e142);
    }

    #[test]
    fn skus_are_valid_trimmed_and_unique() {
        let products = generate(200_000);
        let mut seen = HashSet::new();
        for CatalogueProduct { sku, .. } in &products {
            assert_eq!(Sku::parse(sku).unwrap().as_str(), sku);
            assert!(seen.insert(sku), "duplicate SKU {sku}");
        }
        assert_eq!(seen.len(), 200_000);
    }

    #[test]
    fn longer_catalogue_starts_with_shorter_one() {
        assert_eq!(generate(1_000)[..100], generate(100));
    }

    #[test]
    fn an_eighth_is_sold_out_and_few_have_max_count() {
        let products = generate(10_000);
        let number_with_count = |count| products.iter().filter(|p| p.count == count).count();
        assert!(
            (1_100..1_300).contains(&number_with_count(0)),
            "{}",
            number_with_count(0)
        );
        assert!(
            (5..50).contains(&number_with_count(MAX_COUNT)),
            "{}",
            number_with_count(MAX_COUNT)
        );
    }

    #[test]
    fn synthetic_skus_have_realistic_lengths_and_letters() {
        let skus: Vec<String> = (0..10_000).map(synthetic_sku).collect();
        for sku in &skus {
            assert!((8..=22).contains(&sku.chars().count()), "{sku}");
        }
        let cyrillic = skus.iter().filter(|sku| !sku.is_ascii()).count();
        assert!((900..1_100).contains(&cyrillic), "{cyrillic}");
    }

    #[test]
    fn permute_maps_to_distinct_numbers() {
        let permuted: HashSet<u64> = (0..100_000).map(permute).collect();
        assert_eq!(permuted.len(), 100_000);
    }
}

//! Shop names for the configuration, derived from the names in the cabinet.

use std::collections::BTreeSet;

/// Maximum length of a shop name in the configuration.
const MAX_CHARS: usize = 40;

/// Names that cannot also be a `base_path`, because the partner API has paths with these names.
const RESERVED_PATHS: [&str; 2] = ["campaigns", "businesses"];

/// Names used so far.
#[derive(Debug, Default)]
pub(super) struct ShopNames(BTreeSet<String>);

impl ShopNames {
    /// Returns an unused name, derived from the stock list's name, or the shop's name, or the
    /// campaign id.
    pub(super) fn derive(&mut self, stock: &str, shop: &str, campaign: u64) -> String {
        let by_number = format!("campaign-{campaign}");
        let slug_name = [stock, shop]
            .into_iter()
            .map(slug)
            .find(|name| !name.is_empty());
        let name = slug_name.unwrap_or_else(|| by_number.clone());
        // A campaign is in one table only, so the name with its id is free, unless a shop in the
        // cabinet has exactly this name.
        let numbered = format!("{}-{campaign}", truncate(&name, MAX_CHARS - 21));
        let is_free =
            |name: &String| !RESERVED_PATHS.contains(&name.as_str()) && !self.0.contains(name);
        let chosen = [name, numbered, by_number].into_iter().find(is_free);
        let chosen = chosen.unwrap_or_else(|| format!("shop-{}", self.0.len()));
        self.0.insert(chosen.clone());
        chosen
    }
}

/// Spells a text in `a-z`, `0-9` and single hyphens. Returns an empty text if no letter or digit
/// can be spelled.
fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match transliterate(c) {
            Some(letters) => name.push_str(letters),
            None if c.is_ascii_lowercase() || c.is_ascii_digit() => name.push(c),
            None if !name.ends_with('-') => name.push('-'),
            None => {}
        }
    }
    truncate(name.trim_matches('-'), MAX_CHARS).to_owned()
}

/// Returns the first `chars` characters of an ASCII text, without a hyphen at the end.
fn truncate(name: &str, chars: usize) -> &str {
    name.get(..chars).unwrap_or(name).trim_end_matches('-')
}

/// Transliterates a Cyrillic letter, close to the rules for passports.
fn transliterate(c: char) -> Option<&'static str> {
    const ALPHABET: [&str; 32] = [
        "a", "b", "v", "g", "d", "e", "zh", "z", "i", "y", "k", "l", "m", "n", "o", "p", "r", "s",
        "t", "u", "f", "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya",
    ];
    match c {
        'ё' => Some("e"),
        'а'..='я' => ALPHABET.get((c as usize) - ('а' as usize)).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transliterates_cyrillic() {
        for (text, name) in [
            ("Склад Москва FBS", "sklad-moskva-fbs"),
            ("Щёлково, подъезд № 2", "shchelkovo-podezd-2"),
            ("  --Tea & Co.-- ", "tea-co"),
            ("店", ""),
        ] {
            assert_eq!(slug(text), name);
        }
    }

    #[test]
    fn names_are_short_and_unique() {
        let mut names = ShopNames::default();
        let long = "я".repeat(100);
        let derived: BTreeSet<String> = (1..=20)
            .map(|n| names.derive(&long, "", u64::MAX - n))
            .collect();
        assert_eq!(derived.len(), 20);
        assert!(
            derived.iter().all(|name| name.len() <= MAX_CHARS),
            "{derived:?}"
        );
        assert_eq!(names.derive("店", "Лавка", 7), "lavka");
        assert_eq!(names.derive("店", "Лавка", 8), "lavka-8");
        assert_eq!(names.derive("", "", 7), "campaign-7");
        assert_eq!(names.derive("Campaigns", "", 9), "campaigns-9");
    }
}

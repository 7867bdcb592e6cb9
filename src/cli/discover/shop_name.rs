//! Names for shops, made of what the cabinet calls them.

use std::collections::BTreeSet;

/// Longest name the configuration takes.
const MAX_CHARS: usize = 40;

/// Names that could not be a `base_path` too: the drop-ins' own paths have them.
const RESERVED_PATHS: [&str; 2] = ["campaigns", "businesses"];

/// The names given so far.
#[derive(Debug, Default)]
pub(super) struct ShopNames(BTreeSet<String>);

impl ShopNames {
    /// A name like the stock list's or else the shop's own, or of the campaign's number; never
    /// one that was given before.
    pub(super) fn derive(&mut self, stock: &str, shop: &str, campaign: u64) -> String {
        let by_number = format!("campaign-{campaign}");
        let slug_name = [stock, shop]
            .into_iter()
            .map(slug)
            .find(|name| !name.is_empty());
        let name = slug_name.unwrap_or_else(|| by_number.clone());
        // A campaign stands in one table only, so the last one is free but for a joker's name.
        let numbered = format!("{}-{campaign}", truncate(&name, MAX_CHARS - 21));
        let is_free =
            |name: &String| !RESERVED_PATHS.contains(&name.as_str()) && !self.0.contains(name);
        let chosen = [name, numbered, by_number].into_iter().find(is_free);
        let chosen = chosen.unwrap_or_else(|| format!("shop-{}", self.0.len()));
        self.0.insert(chosen.clone());
        chosen
    }
}

/// In `a-z`, `0-9` and single hyphens between them; empty if nothing of it can be spelled so.
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

/// The beginning of a text of ASCII characters, without a hyphen at its end.
fn truncate(name: &str, chars: usize) -> &str {
    name.get(..chars).unwrap_or(name).trim_end_matches('-')
}

/// A Cyrillic letter in Latin ones, as passports are near enough to.
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
    fn cyrillic_is_spelled_in_latin_letters() {
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
    fn names_are_short_and_never_given_twice() {
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

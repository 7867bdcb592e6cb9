//! Languages of the texts for operators: choice of a language, plural forms, numbers and dates.
//!
//! The languages are those in which the Market writes for sellers. Pages and notifications share
//! them. A text has all languages, so the compiler reports a missing translation.

mod alarm_text;
mod notification_text;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};

pub use self::alarm_text::{AlarmText, alarm_text};
pub use self::notification_text::{NotificationText, notification_text};

/// Language of pages and notifications.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Russian.
    Russian,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// All languages, in the order of the language switch.
    pub const ALL: [Self; 3] = [Self::Russian, Self::English, Self::Chinese];

    /// Chooses from `[English, Russian, Chinese]`.
    #[must_use]
    pub fn choose<T>(self, [english, russian, chinese]: [T; 3]) -> T {
        match self {
            Self::English => english,
            Self::Russian => russian,
            Self::Chinese => chinese,
        }
    }

    /// Returns the code of ISO 639-1, as in settings and in the address of a page.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.choose(["en", "ru", "zh"])
    }

    /// Returns the tag of BCP 47 for the attribute `lang`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        self.choose(["en", "ru", "zh-Hans"])
    }

    /// Returns the name of the language in that language.
    #[must_use]
    pub fn own_name(self) -> &'static str {
        self.choose(["English", "Русский", "简体中文"])
    }

    /// Returns the language with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|language| language.code() == code)
    }

    /// Returns the supported language that an `Accept-Language` header prefers; English if it
    /// names none.
    #[must_use]
    pub fn from_accept_language(header: &str) -> Self {
        let mut best = (0.0, Self::default());
        for entry in header.split(',') {
            let (tag, weight) = match entry.split_once(';') {
                Some((tag, parameter)) => {
                    let value = parameter.trim().strip_prefix("q=");
                    (tag, value.and_then(|q| q.parse().ok()).unwrap_or(0.0))
                }
                None => (entry, 1.0),
            };
            let primary = tag.trim().split('-').next().unwrap_or_default();
            // The first of several languages with the same weight wins.
            if let Some(language) = Self::from_code(&primary.to_ascii_lowercase())
                && weight > best.0
            {
                best = (weight, language);
            }
        }
        best.1
    }

    /// Chooses the plural form for a number: `[one, few, many]`.
    ///
    /// English uses the first and the last form, Chinese only the last.
    #[must_use]
    pub fn plural(self, n: u64, [one, few, many]: [&str; 3]) -> &str {
        match self {
            Self::English if n == 1 => one,
            Self::English | Self::Chinese => many,
            Self::Russian => match (n % 10, n % 100) {
                (_, 11..=14) => many,
                (1, _) => one,
                (2..=4, _) => few,
                _ => many,
            },
        }
    }

    /// Formats a number with separators of thousands.
    #[must_use]
    pub fn number(self, n: u64) -> String {
        let separator = match self {
            Self::English | Self::Chinese => ',',
            // A no-break space, so that a line does not end inside a number.
            Self::Russian => '\u{a0}',
        };
        let digits = n.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(separator);
            }
            text.push(digit);
        }
        text
    }

    /// Formats a date.
    #[must_use]
    pub fn date(self, date: NaiveDate) -> String {
        let format = self.choose(["%-d %b %Y", "%d.%m.%Y", "%Y-%m-%d"]);
        date.format(format).to_string()
    }

    /// Formats a time with its date, to the second, without the zone.
    #[must_use]
    pub fn date_time(self, at: DateTime<Utc>, zone: FixedOffset) -> String {
        let local = at.with_timezone(&zone);
        format!(
            "{} {}",
            self.date(local.date_naive()),
            local.format("%H:%M:%S")
        )
    }
}

/// Name of a time zone: `UTC`, `UTC+3` or `UTC+5:30`.
#[must_use]
pub fn zone_name(zone: FixedOffset) -> String {
    let minutes = zone.local_minus_utc() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    match (minutes.abs() / 60, minutes.abs() % 60) {
        (0, 0) => "UTC".to_owned(),
        (hours, 0) => format!("UTC{sign}{hours}"),
        (hours, minutes) => format!("UTC{sign}{hours}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_preferred_supported_language() {
        for (header, expected) in [
            ("", Language::English),
            ("de", Language::English),
            ("ru", Language::Russian),
            ("RU-ru", Language::Russian),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("de-DE,de;q=0.9,ru;q=0.5,en;q=0.7", Language::English),
            ("en;q=0.5, ru;q=0.5", Language::English),
            ("ru;q=0", Language::English),
            ("ru;q=x,zh;q=0.1", Language::Chinese),
        ] {
            assert_eq!(Language::from_accept_language(header), expected, "{header}");
        }
    }

    #[test]
    fn chooses_plural_forms() {
        let forms = ["магазин", "магазина", "магазинов"];
        for (n, expected) in [
            (0, "магазинов"),
            (1, "магазин"),
            (2, "магазина"),
            (5, "магазинов"),
            (11, "магазинов"),
            (14, "магазинов"),
            (21, "магазин"),
            (102, "магазина"),
            (111, "магазинов"),
        ] {
            assert_eq!(Language::Russian.plural(n, forms), expected, "{n}");
        }
        let forms = ["shop", "shops", "shops"];
        assert_eq!(Language::English.plural(1, forms), "shop");
        assert_eq!(Language::English.plural(0, forms), "shops");
        assert_eq!(Language::Chinese.plural(1, ["a", "b", "c"]), "c");
    }

    #[test]
    fn separates_thousands() {
        for (n, english, russian) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_240, "1,240", "1\u{a0}240"),
            (2_000_000, "2,000,000", "2\u{a0}000\u{a0}000"),
        ] {
            assert_eq!(Language::English.number(n), english);
            assert_eq!(Language::Russian.number(n), russian);
        }
    }

    #[test]
    fn writes_times_in_a_zone() {
        let at = "2026-11-29T22:03:20Z".parse().unwrap();
        let moscow = FixedOffset::east_opt(3 * 3600).unwrap();
        assert_eq!(
            Language::Russian.date_time(at, moscow),
            "30.11.2026 01:03:20"
        );
        assert_eq!(
            Language::English.date_time(at, moscow),
            "30 Nov 2026 01:03:20"
        );
        assert_eq!(
            Language::Chinese.date_time(at, moscow),
            "2026-11-30 01:03:20"
        );
        for (seconds, name) in [(0, "UTC"), (10_800, "UTC+3"), (-19_800, "UTC-5:30")] {
            assert_eq!(zone_name(FixedOffset::east_opt(seconds).unwrap()), name);
        }
    }
}

//! Titles, consequences and remedies of the alarms, in every language.

mod chinese;
mod english;
mod russian;

use super::Language;
use crate::telemetry::AlarmKind;

/// Text of one kind of alarm for a person who runs a shop.
///
/// The texts refer to "the reason in the alarm": [`crate::telemetry::ActiveAlarm::text`], which
/// pages and notifications show as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AlarmText {
    /// Name of the fault in a few words.
    pub title: &'static str,
    /// Consequence for the seller, in one sentence.
    pub consequence: &'static str,
    /// Action that ends the alarm, in one or two sentences.
    pub remedy: &'static str,
}

/// Returns the text of an alarm.
#[must_use]
pub const fn alarm_text(kind: AlarmKind, language: Language) -> AlarmText {
    match language {
        Language::English => english::alarm_text(kind),
        Language::Russian => russian::alarm_text(kind),
        Language::Chinese => chinese::alarm_text(kind),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the three texts of every kind, with the name of the kind.
    fn texts(language: Language) -> Vec<(&'static str, [&'static str; 3])> {
        let parts = |kind: AlarmKind| {
            let text = alarm_text(kind, language);
            (kind.name(), [text.title, text.consequence, text.remedy])
        };
        AlarmKind::ALL.iter().copied().map(parts).collect()
    }

    fn is_cyrillic(c: char) -> bool {
        matches!(c, '\u{400}'..='\u{4ff}')
    }

    fn is_chinese(c: char) -> bool {
        matches!(c, '\u{4e00}'..='\u{9fff}')
    }

    #[test]
    fn titles_are_short_and_unique() {
        for language in Language::ALL {
            let mut titles = BTreeSet::new();
            for (kind, [title, ..]) in texts(language) {
                let length = title.chars().count();
                assert!(
                    (1..=40).contains(&length),
                    "{language:?} {kind}: {length} characters"
                );
                assert!(!title.ends_with(['.', '。']), "{language:?} {kind}");
                assert!(
                    titles.insert(title),
                    "{language:?} {kind}: {title} is used twice"
                );
            }
        }
    }

    #[test]
    fn texts_are_whole_sentences() {
        for language in Language::ALL {
            let end = if language == Language::Chinese {
                '。'
            } else {
                '.'
            };
            for (kind, [_, consequence, remedy]) in texts(language) {
                for text in [consequence, remedy] {
                    assert!(text.ends_with(end), "{language:?} {kind}: {text}");
                    assert!(!text.contains("  "), "{language:?} {kind}: {text}");
                }
                // A point inside a name has no space after it.
                let sentences =
                    consequence.matches(['。']).count() + consequence.matches(". ").count();
                assert_eq!(sentences, usize::from(end == '。'), "{language:?} {kind}");
            }
        }
    }

    fn is_in(language: Language, text: &str) -> bool {
        match language {
            Language::English => text.is_ascii(),
            Language::Russian => text.contains(is_cyrillic) && !text.contains(is_chinese),
            Language::Chinese => text.contains(is_chinese) && !text.contains(is_cyrillic),
        }
    }

    #[test]
    fn texts_are_in_their_language() {
        for language in Language::ALL {
            for (kind, parts) in texts(language) {
                for text in parts {
                    assert!(is_in(language, text), "{language:?} {kind}: {text}");
                }
            }
        }
    }

    #[test]
    fn no_text_is_shared_by_languages() {
        let mut all = BTreeSet::new();
        for language in Language::ALL {
            for (kind, parts) in texts(language) {
                for text in parts {
                    assert!(
                        all.insert(text),
                        "{language:?} {kind}: {text} is used twice"
                    );
                }
            }
        }
    }
}

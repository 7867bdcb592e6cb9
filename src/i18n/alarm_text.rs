//! Titles, consequences and remedies of the alarms, in every language.

use super::Language;
use crate::telemetry::AlarmKind;

/// Text of one kind of alarm for a person who runs a shop.
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
        Language::English => english(kind),
        Language::Russian => english(kind),
        Language::Chinese => english(kind),
    }
}

const fn english(_kind: AlarmKind) -> AlarmText {
    AlarmText {
        title: "",
        consequence: "",
        remedy: "",
    }
}

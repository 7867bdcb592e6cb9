//! Texts of the pages. The languages of a text stand side by side, so none can be forgotten.

mod events;
mod labels;
mod match_class;
mod phrases;
mod readiness;
mod replicas;
mod sentences;
mod shop_sentences;
mod sku_story;
mod sources;
mod stock_steps;

pub(super) use self::events::{EventGroup, event_group, event_reason, event_sentence};
pub(super) use self::match_class::{class_meaning, class_name};
pub(super) use self::readiness::{
    as_of, readiness_check, readiness_reason, readiness_verdict, shop_verdict,
};
pub(super) use self::replicas::{
    names, no_sender, old_list, other_settings, seconds_ago, sender_state, sent_by_other,
    sent_elsewhere_verdict, served_by, sources_not_read, sources_on_other, taking_over,
};
pub(super) use self::sentences::{
    alarm_count, condition, days_left, join, other_alarms, sync_verdict,
};
pub(super) use self::shop_sentences::{
    action_result, delivery_counts, effect_elsewhere, effect_of_pausing, effect_of_resuming,
    more_rows, next_try, paused_since, readback_ended, sending_now, unknown_shop,
};
pub(super) use self::sku_story::{
    acknowledged, events_since, in_hour, origin_name, repeated, requested, search_heading,
    search_result, sent, shown, sku_error, sku_severity, sku_summary, stated,
};
pub(super) use self::sources::{
    absence, compared, comparing, held_failure, hold_reasons, page_of, source_kind, source_state,
    stock_changes,
};
pub(super) use self::stock_steps::stock_steps;
use crate::i18n::Language;

/// Text without parameters, in English, Russian and Chinese.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Text(pub(super) [&'static str; 3]);

impl Text {
    /// Returns the text in a language.
    pub(super) fn in_language(self, language: Language) -> &'static str {
        language.choose(self.0)
    }
}
/// Number of SKUs.
fn skus(n: u64, language: Language) -> String {
    let number = language.number(n);
    match language {
        Language::English => format!("{number} {}", language.plural(n, ["SKU", "", "SKUs"])),
        Language::Russian => format!("{number} SKU"),
        Language::Chinese => format!("{number} 个 SKU"),
    }
}

/// Joins a label and a value.
fn labelled(label: [&str; 3], value: &str, language: Language) -> String {
    format!("{}{value}", language.choose(label))
}

//! Time line of one SKU: events, requests of the Market, and facts from before the first event.

use chrono::{DateTime, Utc};

use super::cell::TitledText;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::shop_readback::class_severity;
use super::texts::{self, Text, class_name};
use super::visible::visible;
use crate::migrator::classify_response::ResponseVerdict;
use crate::ops::{HistoryEventDto, SkuEventKind, SkuExplanation};

/// Entry of the time line.
pub(super) struct TimelineEntry {
    at: DateTime<Utc>,
    pub(super) moment: TitledText,
    /// Sentence about the event.
    pub(super) text: String,
    pub(super) severity: HealthLevel,
    /// Words of the Market, in English or Russian.
    pub(super) detail: String,
}

/// Builds the time line, the latest entry first.
pub(super) fn timeline(explanation: &SkuExplanation, context: PageContext) -> Vec<TimelineEntry> {
    let language = context.language;
    let events = explanation.events.iter();
    let mut entries: Vec<_> = events.map(|event| of_event(event, context)).collect();
    let entry = |at, text, severity| TimelineEntry::new(at, text, severity, context);
    let has = |kinds: &[SkuEventKind]| {
        let mut events = explanation.events.iter();
        events.any(|event| kinds.contains(&event.what))
    };
    // Events are in memory only. After a restart, the last fact of each kind is known from the disk.
    if let Some(book) = &explanation.book
        && !has(&[SkuEventKind::Stated, SkuEventKind::Repeated])
    {
        let text = texts::stated(book.count, book.origin, language);
        entries.push(entry(book.updated_at, text, HealthLevel::Good));
    }
    if let Some(ledger) = &explanation.ledger
        && let Some(at) = ledger.sent_at
        && !has(&[SkuEventKind::Sent])
    {
        let text = texts::acknowledged(ledger.count, language);
        entries.push(entry(at, text, HealthLevel::Good));
    }
    if let Some(market) = &explanation.market
        && let Some(at) = market.looked_at
        && !has(&[SkuEventKind::Seen])
    {
        let class = class_name(market.class, language);
        let text = texts::shown(market.available, class, language);
        entries.push(entry(at, text, class_severity(market.class)));
    }
    for asked in &explanation.asked {
        let text = texts::requested(asked.warehouse, language);
        let mut hour = entry(asked.hour, text, HealthLevel::Good);
        hour.moment.text = texts::in_hour(&hour.moment.text, language);
        entries.push(hour);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    entries
}

fn of_event(event: &HistoryEventDto, context: PageContext) -> TimelineEntry {
    let language = context.language;
    let request = event.request.as_ref();
    let is_accepted =
        request.is_none_or(|request| request.verdict == ResponseVerdict::Accepted.name());
    let (text, severity) = match event.what {
        SkuEventKind::Stated => {
            let text = texts::stated(event.count, event.origin, language);
            (text, HealthLevel::Good)
        }
        SkuEventKind::Repeated => {
            let text = texts::repeated(event.count, event.origin, language);
            (text, HealthLevel::Good)
        }
        SkuEventKind::Sent => {
            let facts = request.map(|request| (request.skus as u64, request.took_ms));
            let text = texts::sent(event.count, facts, is_accepted, language);
            (text, HealthLevel::attention_unless(is_accepted))
        }
        SkuEventKind::Quarantined => {
            let text = context.text(Text::EVENT_QUARANTINED).to_owned();
            (text, HealthLevel::Attention)
        }
        SkuEventKind::Released => {
            let text = context.text(Text::EVENT_RELEASED).to_owned();
            (text, HealthLevel::Good)
        }
        SkuEventKind::Seen => {
            let class = event.class.map_or("", |class| class_name(class, language));
            let severity = event.class.map_or(HealthLevel::Good, class_severity);
            (texts::shown(Some(event.count), class, language), severity)
        }
    };
    let detail = request.map_or_else(String::new, |request| {
        let trace = request.trace.as_deref();
        // "Accepted" is in the sentence already.
        let answer = Some(request.answer.clone()).filter(|_| !is_accepted);
        let parts = [answer, trace.map(|trace| format!("trace {trace}"))];
        let parts = parts.into_iter().flatten();
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        visible(&parts.join(" · "))
    });
    TimelineEntry {
        detail,
        ..TimelineEntry::new(event.at, text, severity, context)
    }
}

impl TimelineEntry {
    fn new(at: DateTime<Utc>, text: String, severity: HealthLevel, context: PageContext) -> Self {
        Self {
            at,
            // The age and the zone are the title.
            moment: TitledText {
                text: context.language.date_time(at, context.zone),
                title: format!("{} ({})", context.past(Some(at)).text, context.zone_name()),
            },
            text,
            severity,
            detail: String::new(),
        }
    }
}

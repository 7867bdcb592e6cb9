//! Time line of one SKU: events, requests of the Market, and facts from before the first event.

use chrono::{DateTime, Utc};

use super::page_context::{Moment, PageContext};
use super::shop_health::HealthLevel;
use super::shop_readback::class_severity;
use super::texts::{self, Text, class_name, origin_name};
use super::visible::visible;
use crate::migrator::classify_response::ResponseVerdict;
use crate::ops::{HistoryEventDto, SkuEventKind, SkuExplanation};

/// Entry of the time line.
pub(super) struct TimelineEntry {
    at: DateTime<Utc>,
    pub(super) moment: Moment,
    /// Sentence about the event.
    pub(super) text: String,
    pub(super) severity: &'static str,
    /// Words of the Market, in English or Russian.
    pub(super) detail: String,
}

/// Builds the time line, the latest entry first.
pub(super) fn timeline(explanation: &SkuExplanation, context: PageContext) -> Vec<TimelineEntry> {
    let events = explanation.events.iter();
    let mut entries: Vec<TimelineEntry> = events.map(|event| of_event(event, context)).collect();
    let entry = |at: DateTime<Utc>, text: String, severity: HealthLevel| TimelineEntry {
        at,
        moment: exact_moment(at, context),
        text,
        severity: severity.name(),
        detail: String::new(),
    };
    let has = |kinds: &[SkuEventKind]| {
        let mut events = explanation.events.iter();
        events.any(|event| kinds.contains(&event.what))
    };
    // Events are in memory only. After a restart, the last fact of each kind is known from the disk.
    if let Some(book) = &explanation.book
        && !has(&[SkuEventKind::Stated, SkuEventKind::Repeated])
    {
        let origin = book
            .origin
            .map(|origin| origin_name(origin, context.language));
        let text = texts::stated(book.count, origin, context.language);
        entries.push(entry(book.updated_at, text, HealthLevel::Good));
    }
    if let Some((count, at)) = explanation
        .ledger
        .as_ref()
        .and_then(|ledger| Some((ledger.count, ledger.sent_at?)))
        && !has(&[SkuEventKind::Sent])
    {
        let text = texts::acknowledged(count, context.language);
        entries.push(entry(at, text, HealthLevel::Good));
    }
    if let Some((market, at)) = explanation
        .market
        .as_ref()
        .and_then(|market| Some((market, market.looked_at?)))
        && !has(&[SkuEventKind::Seen])
    {
        let class = class_name(market.class, context.language);
        let text = texts::shown(market.available, class, context.language);
        entries.push(entry(at, text, class_severity(market.class)));
    }
    for asked in &explanation.asked {
        let text = texts::requested(asked.warehouse, context.language);
        let hour = entry(asked.hour, text, HealthLevel::Good);
        entries.push(TimelineEntry {
            moment: Moment {
                text: texts::in_hour(&hour.moment.text, context.language),
                ..hour.moment
            },
            ..hour
        });
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
    entries
}

fn of_event(event: &HistoryEventDto, context: PageContext) -> TimelineEntry {
    let language = context.language;
    let origin = event.origin.map(|origin| origin_name(origin, language));
    let request = event.request.as_ref();
    let (text, severity) = match event.what {
        SkuEventKind::Stated => (
            texts::stated(event.count, origin, language),
            HealthLevel::Good,
        ),
        SkuEventKind::Repeated => (
            texts::repeated(event.count, origin, language),
            HealthLevel::Good,
        ),
        SkuEventKind::Sent => {
            let is_accepted =
                request.is_none_or(|request| request.verdict == ResponseVerdict::Accepted.name());
            let severity = if is_accepted {
                HealthLevel::Good
            } else {
                HealthLevel::Attention
            };
            let facts = request.map(|request| (request.skus as u64, request.took_ms));
            (
                texts::sent(event.count, facts, is_accepted, language),
                severity,
            )
        }
        SkuEventKind::Quarantined => (
            context.text(Text::EventQuarantined).to_owned(),
            HealthLevel::Attention,
        ),
        SkuEventKind::Released => (
            context.text(Text::EventReleased).to_owned(),
            HealthLevel::Good,
        ),
        SkuEventKind::Seen => {
            let class = event.class.map_or("", |class| class_name(class, language));
            let severity = event.class.map_or(HealthLevel::Good, class_severity);
            (texts::shown(Some(event.count), class, language), severity)
        }
    };
    let detail = request.map_or(String::new(), |request| {
        let trace = request
            .trace
            .as_deref()
            .map(|trace| format!("trace {trace}"));
        // "Accepted" is in the sentence already.
        let is_accepted = request.verdict == ResponseVerdict::Accepted.name();
        let answer = Some(request.answer.clone()).filter(|_| !is_accepted);
        let parts = [answer, trace].into_iter().flatten();
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        visible(&parts.join(" · "))
    });
    TimelineEntry {
        at: event.at,
        moment: exact_moment(event.at, context),
        text,
        severity: severity.name(),
        detail,
    }
}

/// Returns the time with its date; the age and the zone are the title.
fn exact_moment(at: DateTime<Utc>, context: PageContext) -> Moment {
    Moment {
        text: context.language.date_time(at, context.zone),
        title: format!("{} ({})", context.past(Some(at)).text, context.zone_name()),
    }
}

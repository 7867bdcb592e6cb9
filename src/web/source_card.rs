//! One source on a page: state, schedule, last delivery, and the rows that are not applied.

use std::time::Duration;

use stock_import::{DeliveryScope, RejectedRow};
use tokio::time::timeout;

use super::cell::{Cell, NamedCell, TitledText};
use super::format;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts::{self, Text};
use super::visible::visible;
use crate::i18n::Language;
use crate::sources::{
    DeliveryOutcome, DeliveryPipeline, DeliveryReport, SourceKind, SourceState, SourceStatus,
};

/// Most rows that are not applied on the page; the CSV has all.
const MAX_ROWS: u32 = 20;

/// Longest wait for rows on disk. While a delivery is applied, the page is shown without them.
const ROWS_TIMEOUT: Duration = Duration::from_millis(300);

/// Row that is not applied.
pub(super) struct RejectedLine {
    pub(super) line: String,
    pub(super) kind: &'static str,
    pub(super) severity: HealthLevel,
    pub(super) text: String,
    pub(super) reason: String,
}

/// Delivery or rules that wait for approval.
pub(super) struct HeldNote {
    pub(super) reasons: Vec<String>,
    pub(super) link: String,
}

/// One source.
pub(super) struct SourceCard {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: Cell,
    pub(super) facts: Vec<NamedCell>,
    /// Counts of the last delivery.
    pub(super) counts: Vec<NamedCell>,
    pub(super) failure: Option<String>,
    pub(super) absence: Option<String>,
    pub(super) held: Option<HeldNote>,
    pub(super) notices: Vec<String>,
    pub(super) rows: Vec<RejectedLine>,
    pub(super) csv_link: String,
    /// Address of the form that starts a poll, for a source that is polled.
    pub(super) read_action: Option<String>,
    /// Text that differs for another delivery, so that the page is loaded again.
    pub(super) version: String,
}

/// Returns true for the source of imports before its first import. It is not shown.
pub(super) fn is_unused(source: &SourceKind, status: &SourceStatus) -> bool {
    matches!(source, SourceKind::Import) && status.state() == SourceState::Waiting
}

/// Meaning of a state.
pub(super) fn source_severity(state: SourceState) -> HealthLevel {
    match state {
        SourceState::Ok => HealthLevel::Good,
        SourceState::Reading | SourceState::Waiting => HealthLevel::Waiting,
        SourceState::Held | SourceState::Incomplete => HealthLevel::Attention,
        SourceState::Failed => HealthLevel::Trouble,
    }
}

/// State of a source in words, with its severity.
pub(super) fn state_cell(id: String, status: &SourceStatus, context: PageContext) -> Cell {
    let state = status.state();
    let rows_so_far = status.reading_since.map(|_| status.rows_read);
    Cell::new(
        id,
        texts::source_state(state, rows_so_far, context.language),
    )
    .with_severity(source_severity(state))
}

impl SourceCard {
    pub(super) fn collect(
        pipeline: &DeliveryPipeline,
        index: usize,
        kind: &SourceKind,
        status: &SourceStatus,
        context: PageContext,
    ) -> Self {
        let language = context.language;
        let name = pipeline.source_name(index).to_owned();
        let shop = pipeline.shop_name();
        let id = format!("{shop}-{name}");
        let report = status.last_report.as_ref();
        let failure = status.last_failure.as_ref().map(|(at, reason)| {
            let at = context.full(*at);
            format!("{at}: {}", visible(reason))
        });
        let held = status.held.last().map(|held| HeldNote {
            reasons: texts::hold_reasons(&held.reasons, language),
            link: format!("/sources/{shop}/{name}/held"),
        });
        let version = format!(
            "{:?} {failure:?} {} {:?}",
            status.last_report_at,
            status.held.len(),
            held.as_ref().map(|held| &held.reasons),
        );
        let notices = report.map_or(&[] as &[String], |report| &report.notices);
        let first_rows = report.map_or(&[] as &[RejectedRow], |report| &report.first_rejected);
        Self {
            state: state_cell(format!("{id}-state"), status, context),
            facts: facts(&id, kind, status, context),
            counts: report.map_or_else(Vec::new, |report| counts(report, context)),
            failure,
            // Of a held delivery nothing is applied.
            absence: report
                .filter(|report| report.outcome == DeliveryOutcome::Applied)
                .and_then(|report| report.absence_not_applied.as_deref())
                .map(visible),
            held,
            notices: notices.iter().map(|notice| visible(notice)).collect(),
            rows: rejected_lines(first_rows, language),
            csv_link: format!("/sources/rejected.csv?shop={shop}&source={name}"),
            read_action: (!kind.is_passive()).then(|| format!("/sources/{shop}/{name}/read")),
            version,
            id,
            name,
        }
    }
}

/// Facts about the schedule and the last delivery.
fn facts(
    id: &str,
    kind: &SourceKind,
    status: &SourceStatus,
    context: PageContext,
) -> Vec<NamedCell> {
    let fact = |label: Text, part: &str, text: TitledText| NamedCell {
        name: context.text(label),
        cell: Cell::titled(format!("{id}-{part}"), text),
    };
    let fixed = |text: Text| TitledText::from(context.text(text).to_owned());
    let kind_text = texts::source_kind(kind.name(), context.language).to_owned();
    let mut facts = vec![fact(Text::SOURCE_KIND, "kind", kind_text.into())];
    if kind.is_passive() {
        facts.push(fact(Text::NEXT_POLL, "next-poll", fixed(Text::NOT_POLLED)));
    } else {
        let next = status.next_poll_at.map_or_else(
            || fixed(Text::POLL_RUNS),
            |at| context.future(at).text.into(),
        );
        facts.push(fact(
            Text::LAST_POLL,
            "last-poll",
            context.past(status.last_poll_at),
        ));
        facts.push(fact(Text::NEXT_POLL, "next-poll", next));
    }
    let (Some(report), Some(at)) = (&status.last_report, status.last_report_at) else {
        facts.push(fact(
            Text::LAST_DELIVERY,
            "delivery",
            fixed(Text::NO_DELIVERY),
        ));
        return facts;
    };
    let outcome = match report.outcome {
        DeliveryOutcome::Held(_) => Text::OUTCOME_HELD,
        DeliveryOutcome::Applied | DeliveryOutcome::Previewed => Text::OUTCOME_APPLIED,
    };
    let mut delivery = context.past(Some(at));
    delivery.text = format!("{}, {}", delivery.text, context.text(outcome));
    facts.push(fact(Text::LAST_DELIVERY, "delivery", delivery));
    let others = report_facts(report, context);
    facts.extend(others.map(|(label, part, value)| fact(label, part, value.into())));
    facts
}

/// Facts about a delivery that a report has.
pub(super) fn report_facts(
    report: &DeliveryReport,
    context: PageContext,
) -> [(Text, &'static str, String); 3] {
    let scope = scope_text(report.scope == DeliveryScope::Snapshot);
    let stated_at = context.full(report.stated_at.to_utc());
    let duration = format::duration(report.duration_ms, context.language);
    [
        (Text::SCOPE, "scope", context.text(scope).to_owned()),
        (Text::STOCK_DATE, "date", stated_at),
        (Text::DURATION, "duration", duration),
    ]
}

pub(super) const fn scope_text(is_snapshot: bool) -> Text {
    if is_snapshot {
        Text::SCOPE_SNAPSHOT
    } else {
        Text::SCOPE_DELTA
    }
}

/// Counts of a delivery.
pub(super) fn counts(report: &DeliveryReport, context: PageContext) -> Vec<NamedCell> {
    use HealthLevel::{Attention, Good};
    let changes = report.changes;
    let counts = [
        (Text::ROWS_COLUMN, report.rows, Good),
        (Text::NEW_COLUMN, changes.new, Good),
        (Text::CHANGED_COLUMN, changes.changed, Good),
        (Text::ZEROED_COLUMN, changes.zeroed, Attention),
        (Text::UNCHANGED_COLUMN, changes.unchanged, Good),
        (Text::OUTDATED_COLUMN, changes.outdated, Good),
        (Text::REJECTED_COLUMN, report.rejected, Attention),
        (Text::SUSPICIOUS_COLUMN, report.suspicious, Attention),
    ];
    let cell = |(heading, number, severity): (Text, u64, _)| NamedCell {
        name: context.text(heading),
        cell: Cell::count("", number, severity, context.language),
    };
    counts.map(cell).into()
}

/// Rows of the last delivery before a restart, which only the disk has.
pub(super) async fn stored_rows(
    pipeline: &DeliveryPipeline,
    source: &str,
    language: Language,
) -> Vec<RejectedLine> {
    let Some(index) = pipeline.source_index(source) else {
        return Vec::new();
    };
    if pipeline.status(index).last_report.is_some() {
        return Vec::new();
    }
    let stored = timeout(ROWS_TIMEOUT, pipeline.rejected_rows(index, MAX_ROWS)).await;
    let rows = stored.ok().and_then(Result::ok).unwrap_or_default();
    rejected_lines(&rows, language)
}

fn rejected_lines(rows: &[RejectedRow], language: Language) -> Vec<RejectedLine> {
    let line = |row: &RejectedRow| {
        let (kind, severity) = if row.is_suspicious {
            (Text::ROW_SUSPICIOUS, HealthLevel::Attention)
        } else {
            (Text::ROW_REJECTED, HealthLevel::Trouble)
        };
        RejectedLine {
            line: language.number(row.line),
            kind: kind.in_language(language),
            severity,
            text: visible(&row.text),
            reason: visible(&row.reason),
        }
    };
    rows.iter().map(line).collect()
}

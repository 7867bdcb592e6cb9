//! One source on a page: state, schedule, last delivery, and the rows that are not applied.

use std::time::Duration;

use chrono::{DateTime, Utc};
use stock_import::{DeliveryScope, RejectedRow};
use tokio::time::timeout;

use super::format;
use super::overview::Cell;
use super::page_context::PageContext;
use super::shop_health::HealthLevel;
use super::texts::{self, Text, text};
use super::visible::visible;
use crate::i18n::Language;
use crate::sources::{
    DeliveryOutcome, DeliveryPipeline, DeliveryReport, SourceKind, SourceKindName, SourceState,
    SourceStatus,
};

/// Most rows that are not applied on the page; the CSV has all.
const MAX_ROWS: u32 = 20;

/// Longest wait for rows on disk. While a delivery is applied, the page is shown without them.
const ROWS_TIMEOUT: Duration = Duration::from_millis(300);

/// Value with its name.
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) cell: Cell,
}

/// Number with its heading.
pub(super) struct CountCell {
    pub(super) heading: &'static str,
    pub(super) text: String,
    pub(super) severity_name: &'static str,
}

/// Row that is not applied.
pub(super) struct RejectedLine {
    pub(super) line: String,
    pub(super) kind: &'static str,
    pub(super) severity_name: &'static str,
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
    pub(super) facts: Vec<Fact>,
    /// Counts of the last delivery.
    pub(super) counts: Vec<CountCell>,
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

/// Age of a time, with the exact time as title.
fn time_cell(id: String, at: DateTime<Utc>, context: PageContext) -> Cell {
    let moment = context.past(Some(at));
    Cell {
        title: moment.title,
        ..Cell::new(id, moment.text)
    }
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

impl SourceCard {
    pub(super) fn collect(
        pipeline: &DeliveryPipeline,
        (index, source): (usize, &SourceKind),
        status: &SourceStatus,
        context: PageContext,
    ) -> Self {
        let language = context.language;
        let name = pipeline.policy(index).name.clone();
        let shop = pipeline.shop_name();
        let id = format!("{shop}-{name}");
        let state = status.state();
        let rows_so_far = status.reading_since.map(|_| status.rows_read);
        let state_text = texts::source_state(state, rows_so_far, language);
        let (kind, is_polled) = (source.kind_name(), !source.is_passive());
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
        let notices = report.map(|report| report.notices.as_slice());
        let first_rows = report.map(|report| report.first_rejected.as_slice());
        Self {
            state: Cell {
                severity: Some(source_severity(state)),
                ..Cell::new(format!("{id}-state"), state_text)
            },
            facts: facts(&id, (kind, is_polled), status, context),
            counts: report.map_or_else(Vec::new, |report| counts(report, language)),
            failure,
            // Of a held delivery nothing is applied.
            absence: report
                .filter(|report| report.outcome == DeliveryOutcome::Applied)
                .and_then(|report| report.absence_not_applied.as_deref())
                .map(visible),
            held,
            notices: notices
                .unwrap_or_default()
                .iter()
                .map(|notice| visible(notice))
                .collect(),
            rows: rejected_lines(first_rows.unwrap_or_default(), language),
            csv_link: format!("/sources/rejected.csv?shop={shop}&source={name}"),
            read_action: is_polled.then(|| format!("/sources/{shop}/{name}/read")),
            version,
            id,
            name,
        }
    }
}

/// Facts about the schedule and the last delivery.
fn facts(
    id: &str,
    (kind, is_polled): (SourceKindName, bool),
    status: &SourceStatus,
    context: PageContext,
) -> Vec<Fact> {
    let language = context.language;
    let cell = |part: &str, text: String| Cell::new(format!("{id}-{part}"), text);
    let fact = |label: Text, cell: Cell| Fact {
        label: text(label, language),
        cell,
    };
    let kind_text = texts::source_kind(kind, language).to_owned();
    let mut facts = vec![fact(Text::SourceKind, cell("kind", kind_text))];
    if is_polled {
        let last = match status.last_poll_at {
            Some(at) => time_cell(format!("{id}-last-poll"), at, context),
            None => cell("last-poll", text(Text::Never, language).to_owned()),
        };
        let next = status
            .next_poll_at
            .map(|at| format::ahead(at, context.now, language))
            .filter(|next| !next.is_empty())
            .unwrap_or_else(|| text(Text::PollRuns, language).to_owned());
        facts.push(fact(Text::LastPoll, last));
        facts.push(fact(Text::NextPoll, cell("next-poll", next)));
    } else {
        let not_polled = text(Text::NotPolled, language).to_owned();
        facts.push(fact(Text::NextPoll, cell("next-poll", not_polled)));
    }
    let (Some(report), Some(at)) = (&status.last_report, status.last_report_at) else {
        let none = text(Text::NoDelivery, language).to_owned();
        facts.push(fact(Text::LastDelivery, cell("delivery", none)));
        return facts;
    };
    let outcome = match report.outcome {
        DeliveryOutcome::Held(_) => Text::OutcomeHeld,
        DeliveryOutcome::Applied | DeliveryOutcome::Previewed => Text::OutcomeApplied,
    };
    let age = time_cell(format!("{id}-delivery"), at, context);
    let delivery = Cell {
        text: format!("{}, {}", age.text, text(outcome, language)),
        ..age
    };
    facts.push(fact(Text::LastDelivery, delivery));
    for (label, part, value) in report_facts(report, context) {
        facts.push(fact(label, cell(part, value)));
    }
    facts
}

/// Facts about a delivery that a report has.
pub(super) fn report_facts(
    report: &DeliveryReport,
    context: PageContext,
) -> [(Text, &'static str, String); 3] {
    let language = context.language;
    let scope = match report.scope {
        DeliveryScope::Snapshot => Text::ScopeSnapshot,
        DeliveryScope::Delta => Text::ScopeDelta,
    };
    let stated_at = context.full(report.stated_at.to_utc());
    let duration = format::duration(report.duration_ms, language);
    [
        (Text::Scope, "scope", text(scope, language).to_owned()),
        (Text::StockDate, "date", stated_at),
        (Text::Duration, "duration", duration),
    ]
}

/// Counts of a delivery.
pub(super) fn counts(report: &DeliveryReport, language: Language) -> Vec<CountCell> {
    let changes = report.changes;
    [
        (Text::RowsColumn, report.rows, HealthLevel::Good),
        (Text::NewColumn, changes.new, HealthLevel::Good),
        (Text::ChangedColumn, changes.changed, HealthLevel::Good),
        (Text::ZeroedColumn, changes.zeroed, HealthLevel::Attention),
        (Text::UnchangedColumn, changes.unchanged, HealthLevel::Good),
        (Text::OutdatedColumn, changes.outdated, HealthLevel::Good),
        (
            Text::RejectedColumn,
            report.rejected,
            HealthLevel::Attention,
        ),
        (
            Text::SuspiciousColumn,
            report.suspicious,
            HealthLevel::Attention,
        ),
    ]
    .map(|(heading, number, severity)| CountCell {
        heading: text(heading, language),
        text: language.number(number),
        severity_name: if number > 0 { severity.name() } else { "" },
    })
    .into()
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
            (Text::RowSuspicious, HealthLevel::Attention)
        } else {
            (Text::RowRejected, HealthLevel::Trouble)
        };
        RejectedLine {
            line: language.number(row.line),
            kind: text(kind, language),
            severity_name: severity.name(),
            text: visible(&row.text),
            reason: visible(&row.reason),
        }
    };
    rows.iter().map(line).collect()
}

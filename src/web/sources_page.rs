//! Sources: state, schedule and last delivery of each source, and the rows that are not applied.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, LOCATION, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use chrono::{DateTime, FixedOffset, Utc};
use serde::Deserialize;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::Config;
use super::format;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::live::{LiveValues, stream_values};
use super::overview::Cell;
use super::screen_marks::screen_marks;
use super::shop_health::Severity;
use super::texts::{self, Text, text};
use super::visible::visible;
use crate::i18n::Language;
use crate::ops::{self, Ops, OpsState};
use crate::sources::{
    DeliveryOutcome, DeliveryPipeline, DeliveryReport, DeliveryScope, RULES_NAME, RejectedRow,
    SourceState, SourceStatus,
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
struct RejectedLine {
    line: String,
    kind: &'static str,
    severity_name: &'static str,
    text: String,
    reason: String,
}

/// Delivery or rules that wait for approval.
struct HeldNote {
    reasons: Vec<String>,
    link: String,
}

/// One source.
struct SourceCard {
    id: String,
    name: String,
    state: Cell,
    facts: Vec<Fact>,
    /// Counts of the last delivery.
    counts: Vec<CountCell>,
    failure: Option<String>,
    absence: Option<String>,
    held: Option<HeldNote>,
    notices: Vec<String>,
    rows: Vec<RejectedLine>,
    csv_link: String,
    /// Address of the form that starts a poll, for a source that is polled.
    read_action: Option<String>,
    /// Text that differs for another delivery, so that the page is loaded again.
    version: String,
}

/// One shop with its sources.
struct ShopSection {
    name: String,
    heading_id: String,
    held_rules: Option<HeldNote>,
    sources: Vec<SourceCard>,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    layout: Layout,
    shops: Vec<ShopSection>,
    has_shop_without_sources: bool,
    is_read_requested: bool,
    structure: String,
}

/// Result of a form, as the redirect after it names it.
#[derive(Deserialize)]
pub(super) struct PageParams {
    done: Option<String>,
}

/// Language and time of a page.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    pub(super) language: Language,
    pub(super) zone: FixedOffset,
    pub(super) now: DateTime<Utc>,
}

impl Reader {
    /// Returns the age of a time, with the exact time as title.
    pub(super) fn time_cell(self, id: String, at: DateTime<Utc>) -> Cell {
        Cell {
            title: format::full(at, self.zone, self.language),
            ..Cell::new(id, format::ago(at, self.now, self.language))
        }
    }
}

/// Returns true if the client is a browser, which lists `text/html`.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").and_then(|q| q.parse().ok());
            weight.is_some_and(|weight: f32| weight <= 0.0)
        });
        is_html && !is_refused
    })
}

/// Serves the page to a browser, and JSON to every other client.
pub(super) async fn negotiate(ops: Ops, page: Router<Ops>, request: Request) -> Response {
    let mut response = if wants_html(request.headers()) {
        match page.with_state(ops).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    } else {
        ops::list_sources(&ops).await
    };
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().append(VARY, vary);
    response
}

/// Serves the page.
pub(super) async fn page(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    Query(params): Query<PageParams>,
) -> Response {
    let Some(state) = ops.state() else {
        return super::layout::starting(choice.language);
    };
    let language = choice.language;
    let reader = Reader {
        language,
        zone: config.time_zone,
        now: state.clock.now(),
    };
    let mut shops = collect(state, reader);
    for (shop, (_, pipeline)) in shops.iter_mut().zip(state.source_manager.pipelines()) {
        for card in &mut shop.sources {
            if card.rows.is_empty() {
                card.rows = stored_rows(pipeline, &card.name, language).await;
            }
        }
    }
    let structure = live_values(&shops).structure_mark();
    let title = text(Text::Sources, language).to_owned();
    let marks = screen_marks(&ops);
    let layout = Layout::new(
        (config, &choice),
        reader.now,
        (Screen::Sources, title),
        "/live/sources",
        &marks,
    );
    render(&SourcesPage {
        layout,
        has_shop_without_sources: shops.iter().any(|shop| shop.sources.is_empty()),
        shops,
        is_read_requested: params.done.as_deref() == Some("read"),
        structure,
    })
}

/// Serves the stream of changed values.
pub(super) async fn live(
    State(ops): State<Ops>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let source = ops.clone();
    stream_values(&ops, move || {
        let Some(state) = source.state() else {
            return LiveValues::default();
        };
        let reader = Reader {
            language: choice.language,
            zone: config.time_zone,
            now: state.clock.now(),
        };
        let mut values = live_values(&collect(state, reader));
        let clock = format::clock(reader.now, reader.zone);
        values.set("clock", &clock, None);
        values
    })
}

/// Starts a poll of a source, and returns to the page.
pub(super) async fn read(
    State(ops): State<Ops>,
    Path((shop, source)): Path<(String, String)>,
) -> Response {
    let found = ops.state().and_then(|state| {
        let mut pipelines = state.source_manager.pipelines();
        let (id, pipeline) = pipelines.find(|(_, pipeline)| pipeline.shop_name() == shop)?;
        Some((state, id, pipeline.source_index(&source)?))
    });
    let Some((state, id, index)) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    state.source_manager.request_poll(id, index);
    // Names of shops and sources need no encoding.
    let address = format!("/sources?done=read#{shop}-{source}");
    (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response()
}

/// Meaning of a state.
pub(super) fn source_severity(state: SourceState) -> Severity {
    match state {
        SourceState::Ok => Severity::Good,
        SourceState::Reading | SourceState::Waiting => Severity::Waiting,
        SourceState::Held | SourceState::Incomplete => Severity::Attention,
        SourceState::Failed => Severity::Trouble,
    }
}

fn collect(state: &OpsState, reader: Reader) -> Vec<ShopSection> {
    let pipelines = state.source_manager.pipelines();
    let section = |(shop, pipeline): (_, &DeliveryPipeline)| {
        let configs = state.source_manager.configs(shop).enumerate();
        let sources = configs.filter_map(|(index, config)| {
            let status = pipeline.status(index);
            let kind = config.kind.name();
            // The source of imports is hidden until the first import.
            let is_unused = kind == "import" && status.state() == SourceState::Waiting;
            (!is_unused).then(|| SourceCard::collect(pipeline, (index, kind), &status, reader))
        });
        let name = pipeline.shop_name().to_owned();
        ShopSection {
            heading_id: format!("{name}-sources"),
            held_rules: pipeline.held_rules().map(|held| HeldNote {
                reasons: texts::hold_reasons(&[held.reason], "", reader.language),
                link: format!("/sources/{name}/{RULES_NAME}/held"),
            }),
            sources: sources.collect(),
            name,
        }
    };
    pipelines.map(section).collect()
}

fn live_values(shops: &[ShopSection]) -> LiveValues {
    let mut values = LiveValues::default();
    for shop in shops {
        let rules = shop.held_rules.as_ref().map(|held| held.reasons.join(";"));
        values.add_structure(&format!("{} {rules:?}", shop.name));
        for card in &shop.sources {
            let cells = card.facts.iter().map(|fact| &fact.cell);
            for cell in std::iter::once(&card.state).chain(cells) {
                values.set(&cell.id, &cell.text, cell.severity);
            }
            values.add_structure(&format!("{} {}", card.id, card.version));
        }
    }
    values
}

impl SourceCard {
    fn collect(
        pipeline: &DeliveryPipeline,
        (index, kind): (usize, &'static str),
        status: &SourceStatus,
        reader: Reader,
    ) -> Self {
        let language = reader.language;
        let name = pipeline.policy(index).name.clone();
        let shop = pipeline.shop_name();
        let id = format!("{shop}-{name}");
        let state = status.state();
        let rows_so_far = status.reading_since.map(|_| status.rows_read);
        let state_text = texts::source_state(state, rows_so_far, language);
        let is_polled = !matches!(kind, "1c" | "import");
        let report = status.last_report.as_ref();
        let failure = status.last_failure.as_ref().map(|(at, reason)| {
            let at = format::full(*at, reader.zone, language);
            format!("{at}: {}", visible(reason))
        });
        let held = status.held.last().map(|held| HeldNote {
            reasons: texts::hold_reasons(&held.reasons, &held.reason, language),
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
            facts: facts(&id, (kind, is_polled), status, reader),
            counts: report.map_or_else(Vec::new, |report| counts(report, language)),
            failure,
            absence: report
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
    (kind, is_polled): (&'static str, bool),
    status: &SourceStatus,
    reader: Reader,
) -> Vec<Fact> {
    let language = reader.language;
    let cell = |part: &str, text: String| Cell::new(format!("{id}-{part}"), text);
    let fact = |label: Text, cell: Cell| Fact {
        label: text(label, language),
        cell,
    };
    let kind_text = texts::source_kind(kind, language).to_owned();
    let mut facts = vec![fact(Text::SourceKind, cell("kind", kind_text))];
    if is_polled {
        let last = match status.last_poll_at {
            Some(at) => reader.time_cell(format!("{id}-last-poll"), at),
            None => cell("last-poll", text(Text::Never, language).to_owned()),
        };
        let next = status
            .next_poll_at
            .map(|at| format::ahead(at, reader.now, language))
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
    let age = reader.time_cell(format!("{id}-delivery"), at);
    let delivery = Cell {
        text: format!("{}, {}", age.text, text(outcome, language)),
        ..age
    };
    facts.push(fact(Text::LastDelivery, delivery));
    for (label, part, value) in report_facts(report, reader) {
        facts.push(fact(label, cell(part, value)));
    }
    facts
}

/// Facts about a delivery that a report has.
pub(super) fn report_facts(
    report: &DeliveryReport,
    reader: Reader,
) -> [(Text, &'static str, String); 3] {
    let language = reader.language;
    let scope = match report.scope {
        DeliveryScope::Snapshot => Text::ScopeSnapshot,
        DeliveryScope::Delta => Text::ScopeDelta,
    };
    let stated_at = format::full(report.stated_at.to_utc(), reader.zone, language);
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
        (Text::RowsColumn, report.rows, Severity::Good),
        (Text::NewColumn, changes.new, Severity::Good),
        (Text::ChangedColumn, changes.changed, Severity::Good),
        (Text::ZeroedColumn, changes.zeroed, Severity::Attention),
        (Text::UnchangedColumn, changes.unchanged, Severity::Good),
        (Text::OutdatedColumn, changes.outdated, Severity::Good),
        (Text::RejectedColumn, report.rejected, Severity::Attention),
        (
            Text::SuspiciousColumn,
            report.suspicious,
            Severity::Attention,
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
async fn stored_rows(
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
            (Text::RowSuspicious, Severity::Attention)
        } else {
            (Text::RowRejected, Severity::Trouble)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_browsers_get_a_page() {
        for (accept, is_html) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, TEXT/HTML;q=0.5", true),
            ("*/*", false),
            ("text/*", false),
            ("text/html;q=0", false),
            ("application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_html(&headers), is_html, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }
}

//! What is held for approval: the stock that an approval would change, and the approval itself.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::header::{LOCATION, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::json;

use super::Config;
use super::format;
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::sku_path;
use super::overview::Cell;
use super::screen_marks::screen_marks;
use super::shop_health::Severity;
use super::sources_page::{CountCell, Fact, Reader, counts, report_facts, wants_html};
use super::texts::{self, Text, text};
use super::visible::visible;
use crate::i18n::Language;
use crate::ops::{Ops, OpsState};
use crate::sources::{
    DeliveryOutcome, DeliveryPipeline, DeliveryScope, HeldDelivery, HeldPreview, PipelineError,
    RULES_NAME, StockChange, StockChangeKind,
};

/// Changes on one page.
const PAGE_SIZE: u32 = 100;

/// Link to the list of one kind of changes.
struct KindTab {
    label: &'static str,
    count: String,
    link: String,
    is_current: bool,
    severity_name: &'static str,
}

/// Change of one SKU.
struct ChangeRow {
    sku: String,
    link: String,
    old: String,
    new: String,
    is_zero: bool,
}

/// What is held, and what it would change.
struct HeldView {
    accept_action: String,
    reasons: Vec<String>,
    facts: Vec<Fact>,
    compared: String,
    changes: String,
    tabs: Vec<KindTab>,
    rows: Vec<ChangeRow>,
    page_text: String,
    previous: Option<String>,
    next: Option<String>,
}

/// Result of an approval.
struct AcceptedView {
    facts: Vec<Fact>,
    counts: Vec<CountCell>,
}

#[derive(Template)]
#[template(path = "held.html")]
struct HeldPage {
    layout: Layout,
    shop: String,
    source: String,
    is_rules: bool,
    /// True if other rules than those of the stock are held, and a delivery too.
    are_rules_held_first: bool,
    rules_link: String,
    is_changed: bool,
    failure: Option<String>,
    held: Option<HeldView>,
    accepted: Option<AcceptedView>,
    are_rules_accepted: bool,
}

/// Part of the list, and the result of a form as the redirect after it names it.
#[derive(Default, Deserialize)]
pub(super) struct HeldParams {
    kind: Option<String>,
    page: Option<u64>,
    done: Option<String>,
}

impl HeldParams {
    fn kind(&self) -> Option<StockChangeKind> {
        StockChangeKind::from_name(self.kind.as_deref()?)
    }

    /// Returns the number of the page, from 1.
    fn page(&self) -> u64 {
        self.page.unwrap_or(1).max(1)
    }
}

/// Delivery that a form approves.
#[derive(Deserialize)]
pub(super) struct AcceptedMark {
    delivery: String,
}

/// Shop, source and language of a page.
struct HeldPlace<'a> {
    ops: &'a Ops,
    pipeline: &'a DeliveryPipeline,
    source: String,
    config: Config,
    choice: LanguageChoice,
    reader: Reader,
}

/// Serves the page, or JSON to a client that is not a browser.
pub(super) async fn page(
    State(ops): State<Ops>,
    Path((shop, source)): Path<(String, String)>,
    Query(params): Query<HeldParams>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    headers: HeaderMap,
) -> Response {
    let Some((state, pipeline)) = find(&ops, &shop, &source) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let response = if wants_html(&headers) {
        let place = HeldPlace::new(&ops, (state, pipeline), source, (config, choice));
        let (preview, failure) = place.preview().await;
        let status = if failure.is_some() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        place
            .respond(status, preview, &params, (false, failure))
            .await
    } else {
        json_preview(pipeline, &source, &params).await
    };
    ([(VARY, "Accept")], response).into_response()
}

/// Approves what the page showed, and shows the result. If another delivery is held by now, it is
/// shown instead.
pub(super) async fn accept(
    State(ops): State<Ops>,
    Path((shop, source)): Path<(String, String)>,
    Query(mark): Query<AcceptedMark>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
) -> Response {
    let Some((state, pipeline)) = find(&ops, &shop, &source) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let expected = Some(mark.delivery.as_str());
    let accepted = if source == RULES_NAME {
        pipeline.accept_rules(expected).await
    } else {
        pipeline.accept(&source, expected).await.map(drop)
    };
    let address = format!("/sources/{shop}/{source}/held");
    let error = match accepted {
        Ok(()) => {
            let address = format!("{address}?done=accepted");
            return (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
        }
        Err(PipelineError::NothingToAccept(_)) => {
            return (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
        }
        Err(error) => error,
    };
    let place = HeldPlace::new(&ops, (state, pipeline), source, (config, choice));
    let (preview, failure) = place.preview().await;
    let params = HeldParams::default();
    if matches!(error, PipelineError::DeliveryChanged(_)) {
        let status = StatusCode::CONFLICT;
        return place
            .respond(status, preview, &params, (true, failure))
            .await;
    }
    let failure = Some(error_text(&error, place.reader.language));
    let status = StatusCode::SERVICE_UNAVAILABLE;
    place
        .respond(status, preview, &params, (false, failure))
        .await
}

/// Returns the pipeline of a shop that has this source, or any for the rules.
fn find<'a>(
    ops: &'a Ops,
    shop: &str,
    source: &str,
) -> Option<(&'a OpsState, &'a DeliveryPipeline)> {
    let state = ops.state()?;
    let mut pipelines = state.source_manager.pipelines();
    let (_, pipeline) = pipelines.find(|(_, pipeline)| pipeline.shop_name() == shop)?;
    let is_known = source == RULES_NAME || pipeline.source_index(source).is_some();
    is_known.then_some((state, pipeline))
}

fn error_text(error: &PipelineError, language: Language) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    texts::held_failure(&text, language)
}

/// Responds with one page of the changes as JSON. `delivery` is the mark for `/accept`.
async fn json_preview(pipeline: &DeliveryPipeline, source: &str, params: &HeldParams) -> Response {
    let refuse = |status: StatusCode, code: &str, message: String| {
        let body = json!({ "error": { "code": code, "message": message } });
        (status, Json(body)).into_response()
    };
    let preview = match pipeline.preview_held(source).await {
        Ok(preview) => preview,
        Err(error @ PipelineError::NothingToAccept(_)) => {
            return refuse(StatusCode::NOT_FOUND, "NOTHING_HELD", error.to_string());
        }
        Err(error) => {
            let message = error_text(&error, Language::English);
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP", message);
        }
    };
    let offset = (params.page() - 1).saturating_mul(u64::from(PAGE_SIZE));
    let changes = match preview.changes(params.kind(), offset, PAGE_SIZE).await {
        Ok(changes) => changes,
        Err(error) => {
            let message = error_text(&error, Language::English);
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP", message);
        }
    };
    let totals = StockChangeKind::ALL.map(|kind| (kind.name(), preview.totals.of(kind)));
    let totals: std::collections::BTreeMap<_, _> = totals.into();
    let change = |change: &StockChange| {
        json!({
            "sku": change.sku,
            "old": change.old,
            "new": change.new,
            "kind": change.kind.name(),
        })
    };
    let reasons: Vec<String> = match pipeline.held_rules() {
        Some(rules) if source == RULES_NAME => vec![rules.reason.to_string()],
        _ => preview
            .held
            .iter()
            .map(|held| held.reason.clone())
            .collect(),
    };
    Json(json!({
        "delivery": preview.mark,
        "held": reasons,
        "compared_at": preview.compared_at,
        "took_ms": preview.duration_ms,
        "totals": totals,
        "unchanged": preview.unchanged,
        "outdated": preview.outdated,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    }))
    .into_response()
}

impl<'a> HeldPlace<'a> {
    fn new(
        ops: &'a Ops,
        (state, pipeline): (&OpsState, &'a DeliveryPipeline),
        source: String,
        (config, choice): (Config, LanguageChoice),
    ) -> Self {
        let reader = Reader {
            language: choice.language,
            zone: config.time_zone,
            now: state.clock.now(),
        };
        Self {
            ops,
            pipeline,
            source,
            config,
            choice,
            reader,
        }
    }

    fn is_rules(&self) -> bool {
        self.source == RULES_NAME
    }

    /// Returns the preview, if anything is held, or the reason why there is none.
    async fn preview(&self) -> (Option<Arc<HeldPreview>>, Option<String>) {
        match self.pipeline.preview_held(&self.source).await {
            Ok(preview) => (Some(preview), None),
            Err(PipelineError::NothingToAccept(_)) => (None, None),
            Err(error) => (None, Some(error_text(&error, self.reader.language))),
        }
    }

    async fn respond(
        &self,
        status: StatusCode,
        preview: Option<Arc<HeldPreview>>,
        params: &HeldParams,
        (is_changed, mut failure): (bool, Option<String>),
    ) -> Response {
        let language = self.reader.language;
        let held = match &preview {
            Some(preview) => match self.view(preview, params).await {
                Ok(view) => Some(view),
                Err(error) => {
                    failure = Some(error_text(&error, language));
                    None
                }
            },
            None => None,
        };
        let is_done = params.done.as_deref() == Some("accepted") && held.is_none();
        let title = format!(
            "{}: {}",
            self.pipeline.shop_name(),
            text(Text::HeldTitle, language)
        );
        let layout = Layout::new(
            (self.config, &self.choice),
            self.reader.now,
            (Screen::Sources, title),
            "",
            &screen_marks(self.ops),
        );
        let shop = self.pipeline.shop_name().to_owned();
        let source = if self.is_rules() {
            text(Text::RulesHeld, language).to_owned()
        } else {
            self.source.clone()
        };
        let page = render(&HeldPage {
            layout,
            rules_link: format!("/sources/{shop}/{RULES_NAME}/held"),
            shop,
            source,
            is_rules: self.is_rules(),
            are_rules_held_first: !self.is_rules() && self.pipeline.held_rules().is_some(),
            is_changed,
            failure,
            held,
            accepted: is_done.then(|| self.accepted()).flatten(),
            are_rules_accepted: is_done && self.is_rules(),
        });
        (status, page).into_response()
    }

    /// Returns the last delivery, if it was applied.
    fn accepted(&self) -> Option<AcceptedView> {
        let language = self.reader.language;
        let status = self
            .pipeline
            .status(self.pipeline.source_index(&self.source)?);
        let report = status
            .last_report
            .filter(|report| report.outcome == DeliveryOutcome::Applied)?;
        let at = format::full(status.last_report_at?, self.reader.zone, language);
        let fact = |label: Text, value: String| Fact {
            label: text(label, language),
            cell: Cell::new(String::new(), value),
        };
        let mut facts = vec![fact(Text::LastDelivery, at)];
        let others = report_facts(&report, self.reader);
        facts.extend(others.map(|(label, _, value)| fact(label, value)));
        Some(AcceptedView {
            facts,
            counts: counts(&report, language),
        })
    }

    async fn view(
        &self,
        preview: &HeldPreview,
        params: &HeldParams,
    ) -> Result<HeldView, PipelineError> {
        let language = self.reader.language;
        let shop = self.pipeline.shop_name();
        let address = format!("/sources/{shop}/{}/held", self.source);
        let kind = params.kind();
        let total = kind.map_or(preview.totals.all(), |kind| preview.totals.of(kind));
        let pages = total.div_ceil(u64::from(PAGE_SIZE)).max(1);
        let page = params.page().min(pages);
        let offset = (page - 1) * u64::from(PAGE_SIZE);
        let changes = preview.changes(kind, offset, PAGE_SIZE).await?;
        let of_kind = kind.map_or_else(String::new, |kind| format!("kind={}&", kind.name()));
        let link = |page: u64| format!("{address}?{of_kind}page={page}");
        let at = format::full(preview.compared_at, self.reader.zone, language);
        let took = format::duration(preview.duration_ms, language);
        Ok(HeldView {
            accept_action: format!("{address}?delivery={}", preview.mark),
            reasons: self.reasons(&preview.held),
            facts: self.facts(preview),
            compared: texts::compared(&at, &took, language),
            changes: texts::stock_changes(preview.totals.all(), language),
            tabs: tabs(&address, preview, kind, language),
            rows: changes
                .iter()
                .map(|change| ChangeRow {
                    sku: visible(&change.sku),
                    link: sku_path(shop, &change.sku),
                    old: change
                        .old
                        .map_or_else(|| "–".to_owned(), |old| language.number(u64::from(old))),
                    new: language.number(u64::from(change.new)),
                    is_zero: change.kind == StockChangeKind::BecomesZero,
                })
                .collect(),
            page_text: texts::page_of(page, pages, language),
            previous: (page > 1).then(|| link(page - 1)),
            next: (page < pages).then(|| link(page + 1)),
        })
    }

    fn reasons(&self, held: &[HeldDelivery]) -> Vec<String> {
        let language = self.reader.language;
        if self.is_rules() {
            let rules = self.pipeline.held_rules();
            let reason = rules.map(|rules| rules.reason);
            return texts::hold_reasons(reason.as_slice(), "", language);
        }
        let mut reasons = Vec::new();
        for held in held {
            for reason in texts::hold_reasons(&held.reasons, &held.reason, language) {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        reasons
    }

    fn facts(&self, preview: &HeldPreview) -> Vec<Fact> {
        let language = self.reader.language;
        let fact = |label: Text, value: String| Fact {
            label: text(label, language),
            cell: Cell::new(String::new(), value),
        };
        let time = |micros: i64| {
            let at = DateTime::from_timestamp_micros(micros);
            at.map_or_else(String::new, |at| {
                format::full(at, self.reader.zone, language)
            })
        };
        let mut facts = Vec::new();
        if let Some(rules) = self.pipeline.held_rules().filter(|_| self.is_rules()) {
            let since = format::full(rules.since, self.reader.zone, language);
            facts.push(fact(Text::HeldSince, since));
        }
        if let Some(first) = preview.held.first() {
            facts.push(fact(Text::HeldSince, time(first.since)));
        }
        for held in &preview.held {
            let scope = if held.is_snapshot {
                DeliveryScope::Snapshot
            } else {
                DeliveryScope::Delta
            };
            let scope = match scope {
                DeliveryScope::Snapshot => Text::ScopeSnapshot,
                DeliveryScope::Delta => Text::ScopeDelta,
            };
            facts.push(fact(Text::StockDate, time(held.at)));
            facts.push(fact(Text::Scope, text(scope, language).to_owned()));
            let times = language.number(u64::from(held.times.saturating_sub(1)));
            facts.push(fact(Text::HeldTimes, times));
            facts.push(fact(Text::HeldFile, held.file.clone()));
        }
        let unchanged = language.number(preview.unchanged);
        facts.push(fact(Text::UnchangedColumn, unchanged));
        let outdated = language.number(preview.outdated);
        facts.push(fact(Text::OutdatedColumn, outdated));
        facts
    }
}

/// Links to all changes and to those of each kind.
fn tabs(
    address: &str,
    preview: &HeldPreview,
    current: Option<StockChangeKind>,
    language: Language,
) -> Vec<KindTab> {
    let all = KindTab {
        label: texts::all_kinds(language),
        count: language.number(preview.totals.all()),
        link: address.to_owned(),
        is_current: current.is_none(),
        severity_name: "",
    };
    let of_kind = StockChangeKind::ALL.map(|kind| {
        let count = preview.totals.of(kind);
        let label = match kind {
            StockChangeKind::BecomesZero => Text::ZeroKind,
            StockChangeKind::Lower => Text::LowerKind,
            StockChangeKind::Higher => Text::HigherKind,
            StockChangeKind::New => Text::NewKind,
        };
        let is_dangerous = kind == StockChangeKind::BecomesZero && count > 0;
        KindTab {
            label: text(label, language),
            count: language.number(count),
            link: format!("{address}?kind={}", kind.name()),
            is_current: current == Some(kind),
            severity_name: if is_dangerous {
                Severity::Attention.name()
            } else {
                ""
            },
        }
    });
    std::iter::once(all).chain(of_kind).collect()
}

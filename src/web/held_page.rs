//! What is held for approval: the stock that an approval would change, and the approval itself.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{LOCATION, REFRESH, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;
use strict_http::ErrorResponse;

use super::Config;
use super::held_view::{AcceptedView, HeldParams, HeldSubject, HeldView, PAGE_SIZE};
use super::language_choice::LanguageChoice;
use super::layout::{Layout, Screen, render};
use super::links::find_source;
use super::not_found;
use super::page_context::PageContext;
use super::texts::{self, Text, text};
use crate::i18n::Language;
use crate::ops::{Ops, OpsState, wants_html};
use crate::sources::{
    DeliveryPipeline, HeldPreview, PipelineError, PreviewProgress, RULES_NAME, StockChange,
    StockChangeKind,
};

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
    /// Progress of a comparison that takes long. The page loads itself again.
    comparing: Option<String>,
    held: Option<HeldView>,
    accepted: Option<AcceptedView>,
    are_rules_accepted: bool,
}

/// Delivery that a form approves.
#[derive(Deserialize)]
pub(super) struct AcceptedMark {
    delivery: String,
}

/// Time that a page waits for a comparison before it shows the progress: a proxy may close a longer
/// request.
const COMPARISON_TIMEOUT: Duration = Duration::from_secs(2);

/// Seconds after which a page that shows the progress loads itself again.
const RELOAD_SECONDS: u32 = 2;

/// Comparison as a page shows it: the result, the progress or the error.
enum PreviewResult {
    /// Nothing is held.
    Nothing,
    Compared(Arc<HeldPreview>),
    /// SKUs that were compared so far.
    Comparing(u64),
    /// Sentence with the reason.
    Failed(String),
}

/// Shop, source and language of a page.
struct HeldPlace<'a> {
    ops: &'a Ops,
    subject: HeldSubject<'a>,
    config: Config,
    choice: LanguageChoice,
}

/// Serves the page, or JSON to a client that is not a browser.
pub(super) async fn page(
    State(ops): State<Ops>,
    Path((shop, source)): Path<(String, String)>,
    params: Result<Query<HeldParams>, QueryRejection>,
    Extension(config): Extension<Config>,
    Extension(choice): Extension<LanguageChoice>,
    headers: HeaderMap,
) -> Response {
    let Some((state, pipeline)) = find(&ops, &shop, &source) else {
        if wants_html(&headers) {
            return not_found::unknown_path(State(ops), Extension(config), Extension(choice)).await;
        }
        let message = format!("no shop '{shop}' has a source '{source}': GET /sources lists them");
        return ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response();
    };
    let Query(params) = params.unwrap_or_default();
    let response = if wants_html(&headers) {
        let place = HeldPlace::new(&ops, (state, pipeline), source, (config, choice));
        let preview = place.preview().await;
        let status = match &preview {
            PreviewResult::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            PreviewResult::Nothing | PreviewResult::Compared(_) | PreviewResult::Comparing(_) => {
                StatusCode::OK
            }
        };
        let is_changed = params.done.as_deref() == Some("changed");
        place
            .respond(status, preview, &params, is_changed, None)
            .await
    } else {
        json_preview(&ops, pipeline, &source, &params).await
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
        return not_found::unknown_path(State(ops), Extension(config), Extension(choice)).await;
    };
    let expected = Some(mark.delivery.as_str());
    let accepted = state.accept(pipeline, &source, expected).await;
    let address = format!("/sources/{shop}/{source}/held");
    let error = match accepted {
        Ok(_) => {
            let address = format!("{address}?done=accepted");
            return (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
        }
        Err(PipelineError::NothingToAccept(_)) => {
            return (StatusCode::SEE_OTHER, [(LOCATION, address)]).into_response();
        }
        Err(error) => error,
    };
    let place = HeldPlace::new(&ops, (state, pipeline), source, (config, choice));
    let params = HeldParams::default();
    if matches!(error, PipelineError::DeliveryChanged(_)) {
        let (status, preview) = (StatusCode::CONFLICT, place.preview().await);
        return place.respond(status, preview, &params, true, None).await;
    }
    let (status, preview) = (StatusCode::SERVICE_UNAVAILABLE, place.preview().await);
    let failure = Some(error_text(error, place.subject.context.language));
    place
        .respond(status, preview, &params, false, failure)
        .await
}

/// Returns the state and the pipeline of a source, or of the rules.
fn find<'a>(
    ops: &'a Ops,
    shop: &str,
    source: &str,
) -> Option<(&'a OpsState, &'a DeliveryPipeline)> {
    let state = ops.state()?;
    let (_, pipeline) = find_source(state, shop, source)?;
    Some((state, pipeline))
}

fn error_text(error: PipelineError, language: Language) -> String {
    texts::held_failure(&ErrorResponse::from(error).message, language)
}

/// Responds with one page of the changes as JSON. `delivery` is the mark for `/accept`.
async fn json_preview(
    ops: &Ops,
    pipeline: &DeliveryPipeline,
    source: &str,
    params: &HeldParams,
) -> Response {
    let preview = match pipeline.preview_held(source, ops.public_tasks()).await {
        Ok(preview) => preview,
        Err(error) => return ErrorResponse::from(error).into_response(),
    };
    let offset = (params.page() - 1).saturating_mul(u64::from(PAGE_SIZE));
    let changes = match preview.changes(params.kind(), offset, PAGE_SIZE).await {
        Ok(changes) => changes,
        Err(error) => return ErrorResponse::from(error).into_response(),
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
        let context = PageContext::new(state, choice.language, config.time_zone);
        Self {
            ops,
            subject: HeldSubject {
                pipeline,
                source,
                context,
            },
            config,
            choice,
        }
    }

    async fn preview(&self) -> PreviewResult {
        let HeldSubject {
            pipeline, source, ..
        } = &self.subject;
        let tasks = self.ops.public_tasks();
        match pipeline
            .preview_within(source, COMPARISON_TIMEOUT, tasks)
            .await
        {
            Ok(PreviewProgress::Compared(preview)) => PreviewResult::Compared(preview),
            Ok(PreviewProgress::Comparing { skus }) => PreviewResult::Comparing(skus),
            Err(PipelineError::NothingToAccept(_)) => PreviewResult::Nothing,
            Err(error) => PreviewResult::Failed(error_text(error, self.subject.context.language)),
        }
    }

    async fn respond(
        &self,
        status: StatusCode,
        preview: PreviewResult,
        params: &HeldParams,
        is_changed: bool,
        mut failure: Option<String>,
    ) -> Response {
        let language = self.subject.context.language;
        let (mut held, mut comparing) = (None, None);
        match preview {
            PreviewResult::Nothing => {}
            PreviewResult::Compared(preview) => match self.subject.view(&preview, params).await {
                Ok(view) => held = Some(view),
                Err(error) => failure = Some(error_text(error, language)),
            },
            PreviewResult::Comparing(skus) => comparing = Some(texts::comparing(skus, language)),
            PreviewResult::Failed(text) => failure = Some(text),
        }
        let reload = comparing.is_some().then(|| {
            // The address keeps the notice that another delivery is held now.
            let done = if is_changed { "?done=changed" } else { "" };
            let (shop, source) = (self.subject.pipeline.shop_name(), &self.subject.source);
            let address = format!("/sources/{shop}/{source}/held{done}");
            [(REFRESH, format!("{RELOAD_SECONDS}; url={address}"))]
        });
        let is_done =
            params.done.as_deref() == Some("accepted") && held.is_none() && comparing.is_none();
        let title = format!(
            "{}: {}",
            self.subject.pipeline.shop_name(),
            text(Text::HeldTitle, language)
        );
        let layout = Layout::new(
            self.ops,
            (self.config, &self.choice),
            self.subject.context.now,
            (Screen::Sources, title),
            "",
        );
        let shop = self.subject.pipeline.shop_name().to_owned();
        let source = if self.subject.is_rules() {
            text(Text::RulesHeld, language).to_owned()
        } else {
            self.subject.source.clone()
        };
        let page = render(&HeldPage {
            layout,
            rules_link: format!("/sources/{shop}/{RULES_NAME}/held"),
            shop,
            source,
            is_rules: self.subject.is_rules(),
            are_rules_held_first: !self.subject.is_rules()
                && self.subject.pipeline.held_rules().is_some(),
            // The address may still have the notice when nothing is held any more.
            is_changed: is_changed && (held.is_some() || comparing.is_some()),
            failure,
            comparing,
            held,
            accepted: is_done.then(|| self.subject.accepted()).flatten(),
            are_rules_accepted: is_done && self.subject.is_rules(),
        });
        (status, reload, page).into_response()
    }
}

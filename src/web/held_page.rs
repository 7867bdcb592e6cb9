//! What is held for approval: the stock that an approval would change, and the approval itself.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::header::{REFRESH, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;
use strict_http::ErrorResponse;

use super::held_view::{AcceptedView, HeldParams, HeldSubject, HeldView, PAGE_SIZE};
use super::layout::{Layout, Screen, render};
use super::links::find_source;
use super::not_found;
use super::page_request::PageRequest;
use super::sources_page;
use super::texts::{self, Text};
use crate::i18n::Language;
use crate::ops::wants_html;
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
    /// Running comparison.
    Comparing {
        /// SKUs that were compared so far.
        skus: u64,
        /// Approximate number of all SKUs to compare, if it is known.
        of: Option<u64>,
    },
    /// Sentence with the reason.
    Failed(String),
}

/// Serves the page, or JSON to a client that is not a browser.
pub(super) async fn page(
    page: PageRequest,
    Path((shop, source)): Path<(String, String)>,
    params: Result<Query<HeldParams>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    if let Err(elsewhere) = page.state().require_sources(Some(&shop)) {
        if wants_html(&headers) {
            // That page names the replica.
            return Redirect::to("/sources").into_response();
        }
        return elsewhere.into_response();
    }
    let Some((_, pipeline)) = find_source(page.state(), &shop, &source) else {
        if wants_html(&headers) {
            return not_found::unknown_path(page).await;
        }
        let message = format!("no shop '{shop}' has a source '{source}': GET /sources lists them");
        return ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response();
    };
    let Query(params) = params.unwrap_or_default();
    let response = if wants_html(&headers) {
        let subject = HeldSubject::new(&page, &pipeline, source);
        let preview = subject.preview().await;
        let status = match &preview {
            PreviewResult::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            PreviewResult::Nothing
            | PreviewResult::Compared(_)
            | PreviewResult::Comparing { .. } => StatusCode::OK,
        };
        let is_changed = params.done.as_deref() == Some("changed");
        subject
            .respond(status, preview, &params, is_changed, None)
            .await
    } else {
        json_preview(&page, &pipeline, &source, &params).await
    };
    ([(VARY, "Accept")], response).into_response()
}

/// Approves what the page showed, and shows the result. If another delivery is held by now, it is
/// shown instead.
pub(super) async fn accept(
    page: PageRequest,
    Path((shop, source)): Path<(String, String)>,
    Query(mark): Query<AcceptedMark>,
) -> Response {
    if page.state().require_sources(Some(&shop)).is_err() {
        return sources_page::respond_read_elsewhere(&page).await;
    }
    let state = page.state();
    let Some((_, pipeline)) = find_source(state, &shop, &source) else {
        return not_found::unknown_path(page).await;
    };
    let expected = Some(mark.delivery.as_str());
    let accepted = state.accept(&pipeline, &source, expected).await;
    let address = format!("/sources/{shop}/{source}/held");
    let error = match accepted {
        Ok(_) => return Redirect::to(&format!("{address}?done=accepted")).into_response(),
        Err(PipelineError::NothingToAccept(_)) => return Redirect::to(&address).into_response(),
        Err(error) => error,
    };
    let subject = HeldSubject::new(&page, &pipeline, source);
    let preview = subject.preview().await;
    let is_changed = matches!(error, PipelineError::DeliveryChanged(_));
    let (status, failure) = if is_changed {
        (StatusCode::CONFLICT, None)
    } else {
        let failure = Some(error_text(error, page.language));
        (StatusCode::SERVICE_UNAVAILABLE, failure)
    };
    let params = HeldParams::default();
    subject
        .respond(status, preview, &params, is_changed, failure)
        .await
}

fn error_text(error: PipelineError, language: Language) -> String {
    texts::held_failure(&ErrorResponse::from(error).message, language)
}

/// Responds with one page of the changes as JSON. `delivery` is the mark for `/accept`.
async fn json_preview(
    page: &PageRequest,
    pipeline: &DeliveryPipeline,
    source: &str,
    params: &HeldParams,
) -> Response {
    let preview = match pipeline.preview_held(source, page.ops.public_tasks()).await {
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
            "absent": change.is_absent,
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
        "absent_zeros": preview.totals.absent_zeros(),
        "unchanged": preview.unchanged,
        "outdated": preview.outdated,
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
    }))
    .into_response()
}

impl<'a> HeldSubject<'a> {
    fn new(page: &'a PageRequest, pipeline: &'a DeliveryPipeline, source: String) -> Self {
        Self {
            page,
            pipeline,
            source,
            context: page.context(),
        }
    }

    async fn preview(&self) -> PreviewResult {
        let (source, tasks) = (&self.source, self.page.ops.public_tasks());
        let preview = self
            .pipeline
            .preview_within(source, COMPARISON_TIMEOUT, tasks);
        match preview.await {
            Ok(PreviewProgress::Compared(preview)) => PreviewResult::Compared(preview),
            Ok(PreviewProgress::Comparing { skus }) => PreviewResult::Comparing {
                skus,
                of: self.skus_to_compare().filter(|of| *of >= skus),
            },
            Err(PipelineError::NothingToAccept(_)) => PreviewResult::Nothing,
            Err(error) => PreviewResult::Failed(error_text(error, self.page.language)),
        }
    }

    /// Returns about how many SKUs a comparison visits. A snapshot and rules concern all known SKUs;
    /// how many a delta names is not counted.
    fn skus_to_compare(&self) -> Option<u64> {
        let is_snapshot = |index| {
            let status = self.pipeline.status(index);
            status.held.iter().any(|held| held.is_snapshot)
        };
        let source = self.pipeline.source_index(&self.source);
        let concerns_all = self.is_rules() || source.is_some_and(is_snapshot);
        let (shop, _) = find_source(self.page.state(), self.pipeline.shop_name(), &self.source)?;
        concerns_all.then(|| self.page.state().data.book.len(shop) as u64)
    }

    async fn respond(
        &self,
        status: StatusCode,
        preview: PreviewResult,
        params: &HeldParams,
        is_changed: bool,
        mut failure: Option<String>,
    ) -> Response {
        let page = self.page;
        let (mut held, mut comparing) = (None, None);
        match preview {
            PreviewResult::Nothing => {}
            PreviewResult::Compared(preview) => match self.view(&preview, params).await {
                Ok(view) => held = Some(view),
                Err(error) => failure = Some(error_text(error, page.language)),
            },
            PreviewResult::Comparing { skus, of } => {
                comparing = Some(texts::comparing(skus, of, page.language));
            }
            PreviewResult::Failed(text) => failure = Some(text),
        }
        let (shop, source) = (self.pipeline.shop_name(), &self.source);
        let is_rules = self.is_rules();
        let reload = comparing.is_some().then(|| {
            // The address keeps the notice that another delivery is held now.
            let done = if is_changed { "?done=changed" } else { "" };
            let address = format!("/sources/{shop}/{source}/held{done}");
            [(REFRESH, format!("{RELOAD_SECONDS}; url={address}"))]
        });
        let is_shown = held.is_some() || comparing.is_some();
        let is_done = params.done.as_deref() == Some("accepted") && !is_shown;
        let title = format!("{shop}: {}", page.text(Text::HELD_TITLE));
        let response = render(&HeldPage {
            layout: Layout::new(page, Screen::Sources, title, ""),
            rules_link: format!("/sources/{shop}/{RULES_NAME}/held"),
            shop: shop.to_owned(),
            source: if is_rules {
                page.text(Text::RULES_HELD).to_owned()
            } else {
                source.clone()
            },
            is_rules,
            are_rules_held_first: !is_rules && self.pipeline.held_rules().is_some(),
            // The address may still have the notice when nothing is held any more.
            is_changed: is_changed && is_shown,
            failure,
            comparing,
            held,
            accepted: is_done.then(|| self.accepted()).flatten(),
            are_rules_accepted: is_done && is_rules,
        });
        (status, reload, response).into_response()
    }
}

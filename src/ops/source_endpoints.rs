//! Endpoints about sources: status, rejected rows, immediate poll, approval and import.

use std::borrow::Cow;

use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use stock::ShopId;
use strict_http::{ErrorResponse, causes};

use super::import_endpoint::import;
use super::source_dto::{DeliveryDto, RowDto, SourceStatusDto, row_kind};
use super::{Ops, OpsState, Started, starting_error};
use crate::event_log::OperatorAction;
use crate::sources::{DeliveryPipeline, PipelineError, RULES_NAME};

/// Most rejected and suspicious rows in the status of a source.
const MAX_STATUS_ROWS: u32 = 20;

/// Most rejected and suspicious rows in the CSV.
const MAX_CSV_ROWS: u32 = 100_000;

/// Builds the routes about sources, apart from `/sources`: the pages serve that path, and call
/// [`list_sources`] for JSON.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/sources/rejected.csv", get(rejected))
        .route("/sources/read", post(read))
        .route("/accept", post(accept))
        .route("/import", post(import))
}

/// Responds with the status of all sources as JSON.
pub async fn list_sources(ops: &Ops) -> Response {
    let Some(state) = ops.state() else {
        return starting_error().into_response();
    };
    // An empty list would look as if there were no sources.
    if state.source_manager.pipelines().next().is_none()
        && let Err(elsewhere) = state.require_sources(None)
    {
        return elsewhere.into_response();
    }
    let mut statuses = Vec::new();
    for (shop, pipeline) in state.source_manager.pipelines() {
        for (index, config) in state.source_manager.configs(shop).enumerate() {
            statuses.push(source_status(&pipeline, index, config.kind.name()).await);
        }
    }
    // The source of imports is hidden until the first import.
    statuses.retain(|source| source.kind != "import" || source.state != "waiting");
    Json(statuses).into_response()
}

async fn source_status(
    pipeline: &DeliveryPipeline,
    index: usize,
    kind: &'static str,
) -> SourceStatusDto {
    let status = pipeline.status(index);
    let state = status.state().name();
    // An error is ignored: the failure and the log report it.
    let rejected = pipeline
        .rejected_rows(index, MAX_STATUS_ROWS)
        .await
        .unwrap_or_default();
    SourceStatusDto {
        shop: pipeline.shop_name().to_owned(),
        source: pipeline.source_name(index).to_owned(),
        kind: kind.into(),
        state: state.into(),
        rows_so_far: status.reading_since.map(|_| status.rows_read),
        last: status.last_report.as_ref().map(DeliveryDto::from),
        last_at: status.last_report_at,
        held: status.held.last().map(|held| held.reason.clone()),
        failure: status
            .last_failure
            .as_ref()
            .map(|(at, text)| format!("{at}: {text}")),
        rejected: rejected.iter().map(RowDto::from).collect(),
    }
}

/// Selection of a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceFilter {
    pub(super) shop: Option<String>,
    pub(super) source: Option<String>,
}

impl OpsState {
    /// Accepts the held deliveries of a source, or the held rules of the shop. With `expected`, only
    /// what has this mark.
    pub(crate) async fn accept(
        &self,
        pipeline: &DeliveryPipeline,
        source: &str,
        expected: Option<&str>,
    ) -> Result<AcceptedDto, PipelineError> {
        let shop = pipeline.shop_name();
        let accepted = if source == RULES_NAME {
            pipeline.accept_rules(expected).await?;
            AcceptedDto::Rules(vec![shop.to_owned()])
        } else {
            let report = pipeline.accept(source, expected).await?;
            AcceptedDto::Delivery(Box::new(DeliveryDto::from(&report)))
        };
        self.record_action(shop, source, OperatorAction::Approve, "");
        Ok(accepted)
    }

    /// Returns the pipelines of the selected shop, or of all shops.
    fn select_pipelines(
        &self,
        filter: &SourceFilter,
    ) -> impl Iterator<Item = (ShopId, DeliveryPipeline)> {
        let shop = filter.shop.as_deref();
        let pipelines = self.source_manager.pipelines();
        pipelines.filter(move |(_, it)| shop.is_none_or(|shop| shop == it.shop_name()))
    }

    /// Returns the selected source. The shop may be omitted if only one has a source of this name.
    pub(super) fn find_source(
        &self,
        filter: &SourceFilter,
    ) -> Result<(ShopId, DeliveryPipeline, usize), ErrorResponse> {
        let not_found =
            |message: String| ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message);
        if self.select_pipelines(filter).next().is_none() {
            let shop = filter.shop.as_deref().unwrap_or_default();
            return Err(not_found(self.unknown_shop_text(shop)));
        }
        let name = filter.source.as_deref().unwrap_or_default();
        let mut matches = self
            .select_pipelines(filter)
            .filter_map(|(shop, pipeline)| {
                let index = pipeline.source_index(name)?;
                Some((shop, pipeline, index))
            });
        match (matches.next(), matches.next()) {
            (Some(source), None) => Ok(source),
            (Some(_), Some(_)) => Err(not_found(format!(
                "several shops have a source '{name}': select one with the parameter shop"
            ))),
            (None, _) => {
                let all = self.source_manager.pipelines().flat_map(|(_, pipeline)| {
                    let shop = pipeline.shop_name();
                    let names = pipeline.source_names();
                    let texts = names.map(|source| format!("{shop}/{source}"));
                    texts.collect::<Vec<_>>()
                });
                let known = all.collect::<Vec<_>>().join(", ");
                Err(not_found(format!(
                    "source '{name}' is unknown, the sources are {known}"
                )))
            }
        }
    }
}

/// Returns the rows of a source's last delivery that are not applied, as CSV.
async fn rejected(
    Query(filter): Query<SourceFilter>,
    Started(state): Started,
) -> Result<Response, ErrorResponse> {
    state.require_sources(filter.shop.as_deref())?;
    let (_, pipeline, index) = state.find_source(&filter)?;
    let rows = pipeline.rejected_rows(index, MAX_CSV_ROWS).await?;
    let mut csv = csv::WriterBuilder::new()
        .delimiter(b';')
        .from_writer(Vec::new());
    // Writing texts to memory cannot fail.
    let _infallible = csv.write_record(["line", "kind", "row", "reason"]);
    for row in rows {
        let line = row.line.to_string();
        let text = without_formula(&row.text);
        let _infallible = csv.write_record([&line, row_kind(&row), &text, &row.reason]);
    }
    let body = csv.into_inner().unwrap_or_default();
    let name = format!(
        "attachment; filename=\"{}.rejected.csv\"",
        pipeline.source_name(index)
    );
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    Ok((headers, body).into_response())
}

/// Returns a text that a spreadsheet does not execute: an apostrophe makes a formula a text.
fn without_formula(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Triggers an immediate poll of a source.
async fn read(
    Query(filter): Query<SourceFilter>,
    Started(state): Started,
) -> Result<StatusCode, ErrorResponse> {
    state.require_sources(filter.shop.as_deref())?;
    let (shop, pipeline, index) = state.find_source(&filter)?;
    let source = pipeline.source_name(index);
    state.request_poll(shop, pipeline.shop_name(), (index, source));
    Ok(StatusCode::ACCEPTED)
}

/// Selection of what is accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptParams {
    shop: Option<String>,
    source: Option<String>,
    /// Mark of the held delivery that was looked at. If another one is held, nothing is applied.
    delivery: Option<String>,
}

/// Response of `/accept`.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum AcceptedDto {
    /// Shops whose held rules apply now.
    Rules(Vec<String>),
    /// Result of the held delivery.
    Delivery(Box<DeliveryDto>),
}

/// Accepts the held delivery of a source, or the held rules.
async fn accept(
    Query(params): Query<AcceptParams>,
    Started(state): Started,
) -> Result<Json<AcceptedDto>, ErrorResponse> {
    state.require_sources(params.shop.as_deref())?;
    let expected = params.delivery.as_deref();
    let filter = SourceFilter {
        shop: params.shop,
        source: params.source,
    };
    if filter.source.as_deref() == Some(RULES_NAME) {
        let shops = accept_rules(&state, &filter, expected).await?;
        return Ok(Json(AcceptedDto::Rules(shops)));
    }
    let (_, pipeline, index) = state.find_source(&filter)?;
    let source = pipeline.source_name(index);
    Ok(Json(state.accept(&pipeline, source, expected).await?))
}

/// Returns the names of the shops whose held rules were accepted.
async fn accept_rules(
    state: &OpsState,
    filter: &SourceFilter,
    expected: Option<&str>,
) -> Result<Vec<String>, PipelineError> {
    let mut accepted = Vec::new();
    let mut changed = None;
    for (_, pipeline) in state.select_pipelines(filter) {
        match state.accept(&pipeline, RULES_NAME, expected).await {
            Ok(_) => accepted.push(pipeline.shop_name().to_owned()),
            Err(PipelineError::NothingToAccept(_)) => {}
            // Each shop has rules of its own, so a mark fits only one of them.
            Err(error @ PipelineError::DeliveryChanged(_)) => changed = Some(error),
            Err(error) => return Err(error),
        }
    }
    if accepted.is_empty() {
        let nothing = || PipelineError::NothingToAccept(RULES_NAME.to_owned());
        return Err(changed.unwrap_or_else(nothing));
    }
    Ok(accepted)
}

impl From<PipelineError> for ErrorResponse {
    fn from(error: PipelineError) -> Self {
        let (status, code) = match error {
            PipelineError::Read(_) | PipelineError::Settings(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "CANNOT_TAKE")
            }
            PipelineError::NothingToAccept(_) => (StatusCode::NOT_FOUND, "NOTHING_HELD"),
            PipelineError::DeliveryChanged(_) => (StatusCode::CONFLICT, "DELIVERY_CHANGED"),
            PipelineError::Persist(_)
            | PipelineError::Stage(_)
            | PipelineError::Ingest(_)
            | PipelineError::Mirror(_) => (StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP"),
            PipelineError::NotLeading => (StatusCode::SERVICE_UNAVAILABLE, "SOURCES_ELSEWHERE"),
            PipelineError::ComparisonInterrupted => {
                (StatusCode::SERVICE_UNAVAILABLE, "INTERRUPTED")
            }
        };
        Self::new(status, code, causes(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_executes_no_row() {
        for (text, expected) in [
            ("=HYPERLINK(1);x", "'=HYPERLINK(1);x"),
            ("@x", "'@x"),
            ("-1", "'-1"),
            ("TEA-1;5", "TEA-1;5"),
            ("", ""),
        ] {
            assert_eq!(without_formula(text), expected);
        }
    }
}

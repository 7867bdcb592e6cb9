use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use super::{Ops, OpsState, starting_error};
use crate::http::{ErrorResponse, causes};
use crate::sources::formats::Format;
use crate::sources::{
    ChangeCounts, DeliveryOutcome, DeliveryPipeline, DeliveryReport, DeliveryScope, ImportRequest,
    PipelineError, RULES_NAME, RejectedRow,
};
use crate::stock::ShopId;

/// Rows that are not applied, as far as they are shown; all of them are in the CSV.
const MAX_STATUS_ROWS: u32 = 20;

/// Rows that are not applied, as far as they are in the CSV.
const MAX_CSV_ROWS: u32 = 100_000;

/// The most that may be handed over by hand, in bytes.
const MAX_IMPORT_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// What is asked and told about sources.
pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/sources", get(list))
        .route("/sources/rejected.csv", get(rejected))
        .route("/sources/read", post(read))
        .route("/accept", post(accept))
        .route("/import", post(import))
}

/// One source, as the operator sees it.
#[derive(Serialize)]
struct SourceStatusDto {
    shop: String,
    source: String,
    kind: &'static str,
    /// `waiting` for its first delivery, `reading`, `ok`, `held`, `failed`, or `incomplete`: it was
    /// taken, and SKUs that it lacks keep their stock although `absent` is `zero`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_so_far: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<DeliveryDto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The first rows that are not applied, rejected and suspicious.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<RowDto>,
}

/// A row somebody should look at.
#[derive(Debug, Deserialize, Serialize)]
pub struct RowDto {
    /// Where it stands.
    pub line: u64,
    /// Its beginning.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
    /// `rejected`, or `suspicious` where it can be read in two ways.
    #[serde(default)]
    pub kind: String,
}

impl From<&RejectedRow> for RowDto {
    fn from(row: &RejectedRow) -> Self {
        Self {
            line: row.line,
            text: row.text.clone(),
            reason: row.reason.clone(),
            kind: row_kind(row).to_owned(),
        }
    }
}

fn row_kind(row: &RejectedRow) -> &'static str {
    if row.is_suspicious {
        "suspicious"
    } else {
        "rejected"
    }
}

/// What became of a delivery, on the wire.
#[derive(Debug, Deserialize, Serialize)]
pub struct DeliveryDto {
    /// `taken`, `looked` or `held`.
    pub outcome: String,
    /// Why it is held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doubt: Option<String>,
    /// `snapshot` or `delta`.
    pub scope: String,
    /// As of when it was stated.
    pub stated_at: DateTime<Utc>,
    /// Rows that could be taken.
    pub rows: u64,
    /// Rows that break a rule. They are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways. They are not applied either.
    pub suspicious: u64,
    /// SKUs heard of for the first time.
    pub new: u64,
    /// SKUs whose stock changes, or would.
    pub changed: u64,
    /// SKUs whose stock is as it was.
    pub unchanged: u64,
    /// SKUs of which something newer is known.
    pub outdated: u64,
    /// Those of the changed that turn from some to none.
    pub zeroed: u64,
    /// Why SKUs that the snapshot lacks keep their stock although `absent` is `zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_untold: Option<String>,
    /// What the operator should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
    /// The first of the rows that are not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_rejected: Vec<RowDto>,
}

impl From<&DeliveryReport> for DeliveryDto {
    fn from(report: &DeliveryReport) -> Self {
        let ChangeCounts {
            new,
            changed,
            unchanged,
            outdated,
            zeroed,
            in_stock: _,
        } = report.changes;
        let (outcome, doubt) = match &report.outcome {
            DeliveryOutcome::Applied => ("taken", None),
            DeliveryOutcome::Previewed => ("looked", None),
            DeliveryOutcome::Held(doubt) => ("held", Some(doubt.clone())),
        };
        Self {
            outcome: outcome.to_owned(),
            doubt,
            scope: report.scope.name().to_owned(),
            stated_at: report.stated_at.to_utc(),
            rows: report.rows,
            rejected: report.rejected,
            suspicious: report.suspicious,
            new,
            changed,
            unchanged,
            outdated,
            zeroed,
            absence_untold: report.absence_not_applied.clone(),
            notices: report.notices.clone(),
            took_ms: report.duration_ms,
            first_rejected: report.first_rejected.iter().map(RowDto::from).collect(),
        }
    }
}

async fn list(State(ops): State<Ops>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let mut statuses = Vec::new();
    for (shop, pipeline) in ops_state.source_manager.pipelines() {
        for (index, config) in ops_state.source_manager.configs(shop).enumerate() {
            statuses.push(source_status(pipeline, index, config.kind.name()).await);
        }
    }
    // Nobody asks about a door that nobody has used.
    statuses.retain(|source| source.kind != "import" || source.state != "waiting");
    Json(statuses).into_response()
}

async fn source_status(
    pipeline: &DeliveryPipeline,
    index: usize,
    kind: &'static str,
) -> SourceStatusDto {
    let status = pipeline.status(index);
    let state = match &status {
        it if it.reading_since.is_some() => "reading",
        it if it.last_failure.is_some() => "failed",
        it if !it.held.is_empty() => "held",
        it if it
            .last_report
            .as_ref()
            .is_some_and(|last| last.absence_not_applied.is_some()) =>
        {
            "incomplete"
        }
        it if it.last_report.is_some() => "ok",
        _ => "waiting",
    };
    // What cannot be read is told by the failure, and by the log.
    let rejected = pipeline
        .rejected_rows(index, MAX_STATUS_ROWS)
        .await
        .unwrap_or_default();
    SourceStatusDto {
        shop: pipeline.shop_name().to_owned(),
        source: pipeline.policy(index).name.clone(),
        kind,
        state,
        rows_so_far: status.reading_since.map(|_| status.rows_read),
        last: status.last_report.as_ref().map(DeliveryDto::from),
        last_at: status.last_report_at,
        held: status.held.last().map(|held| held.doubt.clone()),
        failure: status
            .last_failure
            .as_ref()
            .map(|(at, text)| format!("{at}: {text}")),
        rejected: rejected.iter().map(RowDto::from).collect(),
    }
}

/// Which source an operator means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceFilter {
    shop: Option<String>,
    source: Option<String>,
}

impl OpsState {
    /// The source that is meant: the shop may be left out where only one has such a source.
    fn find_source(
        &self,
        filter: &SourceFilter,
    ) -> Result<(ShopId, &DeliveryPipeline, usize), ErrorResponse> {
        let not_found =
            |message: String| ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message);
        if let Some(shop) = &filter.shop
            && !self
                .source_manager
                .pipelines()
                .any(|(_, pipeline)| pipeline.shop_name() == shop)
        {
            let known: Vec<&str> = self
                .source_manager
                .pipelines()
                .map(|(_, pipeline)| pipeline.shop_name())
                .collect();
            return Err(not_found(format!(
                "there is no shop '{shop}': there are {}",
                known.join(", ")
            )));
        }
        let name = filter.source.as_deref().unwrap_or_default();
        let matches_shop = |pipeline: &DeliveryPipeline| {
            filter
                .shop
                .as_deref()
                .is_none_or(|shop| shop == pipeline.shop_name())
        };
        let mut matches = self
            .source_manager
            .pipelines()
            .filter(|(_, pipeline)| matches_shop(pipeline))
            .filter_map(|(shop, pipeline)| Some((shop, pipeline, pipeline.source_index(name)?)));
        match (matches.next(), matches.next()) {
            (Some(source), None) => Ok(source),
            (Some(_), Some(_)) => Err(not_found(format!(
                "several shops have a source '{name}': say which with shop"
            ))),
            (None, _) => {
                let known: Vec<String> = self
                    .source_manager
                    .pipelines()
                    .flat_map(|(_, pipeline)| {
                        pipeline
                            .source_names()
                            .map(|source| format!("{}/{source}", pipeline.shop_name()))
                    })
                    .collect();
                Err(not_found(format!(
                    "there is no source '{name}': there are {}",
                    known.join(", ")
                )))
            }
        }
    }
}

/// The rows of a source's last delivery that are not applied.
async fn rejected(State(ops): State<Ops>, Query(filter): Query<SourceFilter>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    let (_, pipeline, index) = match ops_state.find_source(&filter) {
        Ok(source) => source,
        Err(error) => return error.into_response(),
    };
    let rows = match pipeline.rejected_rows(index, MAX_CSV_ROWS).await {
        Ok(rows) => rows,
        Err(error) => return pipeline_error_response(&error),
    };
    let mut csv = csv::WriterBuilder::new()
        .delimiter(b';')
        .from_writer(Vec::new());
    // In memory, and of texts: it cannot fail.
    let _infallible = csv.write_record(["line", "kind", "row", "reason"]);
    for row in rows {
        let line = row.line.to_string();
        let _infallible = csv.write_record([&line, row_kind(&row), &row.text, &row.reason]);
    }
    let body = csv.into_inner().unwrap_or_default();
    let name = format!(
        "attachment; filename=\"{}.rejected.csv\"",
        pipeline.policy(index).name
    );
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    (headers, body).into_response()
}

/// Has a source looked at now.
async fn read(State(ops): State<Ops>, Query(filter): Query<SourceFilter>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    match ops_state.find_source(&filter) {
        Ok((shop, _, index)) => {
            ops_state.source_manager.nudge(shop, index);
            StatusCode::ACCEPTED.into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// Lets through what is held of a source, or of the rules.
async fn accept(State(ops): State<Ops>, Query(filter): Query<SourceFilter>) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    if filter.source.as_deref() == Some(RULES_NAME) {
        return accept_rules(ops_state, &filter).await;
    }
    let (_, pipeline, index) = match ops_state.find_source(&filter) {
        Ok(source) => source,
        Err(error) => return error.into_response(),
    };
    let name = pipeline.policy(index).name.clone();
    match pipeline.accept(&name).await {
        Ok(report) => Json(DeliveryDto::from(&report)).into_response(),
        Err(error) => pipeline_error_response(&error),
    }
}

async fn accept_rules(state: &OpsState, filter: &SourceFilter) -> Response {
    let pipelines = state.source_manager.pipelines().filter(|(_, pipeline)| {
        filter
            .shop
            .as_deref()
            .is_none_or(|shop| shop == pipeline.shop_name())
    });
    let mut accepted = Vec::new();
    for (_, pipeline) in pipelines {
        match pipeline.accept_rules().await {
            Ok(()) => accepted.push(pipeline.shop_name().to_owned()),
            Err(PipelineError::NothingToAccept(_)) => {}
            Err(error) => return pipeline_error_response(&error),
        }
    }
    if accepted.is_empty() {
        return pipeline_error_response(&PipelineError::NothingToAccept(RULES_NAME.to_owned()));
    }
    Json(accepted).into_response()
}

/// How a file is handed over by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportParams {
    shop: String,
    source: Option<String>,
    name: Option<String>,
    format: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// Takes a file that is handed over by hand.
async fn import(
    State(ops): State<Ops>,
    Query(params): Query<ImportParams>,
    body: Body,
) -> Response {
    let Some(ops_state) = ops.state.get() else {
        return starting_error().into_response();
    };
    match run_import(ops_state, params, body).await {
        Ok(report) => Json(DeliveryDto::from(&report)).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn run_import(
    state: &OpsState,
    params: ImportParams,
    body: Body,
) -> Result<DeliveryReport, ErrorResponse> {
    let bad_request =
        |message: String| ErrorResponse::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message);
    let source = params.source.unwrap_or_else(|| "import".to_owned());
    let filter = SourceFilter {
        shop: Some(params.shop),
        source: Some(source),
    };
    let (shop, pipeline, index) = state.find_source(&filter)?;
    let format = params.format.map(|name| {
        let rule = "it must be csv, sheet, yml, commerceml or json";
        Format::from_name(&name).ok_or_else(|| bad_request(format!("format is '{name}', {rule}")))
    });
    let scope = params.scope.map(|name| match name.as_str() {
        "snapshot" => Ok(DeliveryScope::Snapshot),
        "delta" => Ok(DeliveryScope::Delta),
        _ => Err(bad_request(format!(
            "scope is '{name}', it must be snapshot or delta"
        ))),
    });
    let (format, scope) = (format.transpose()?, scope.transpose()?);
    let file = save_body(body, pipeline.directory())
        .await
        .map_err(bad_request)?;
    let name = params.name.unwrap_or_else(|| "import".to_owned());
    let import = ImportRequest {
        shop,
        source: index,
        file,
        name,
        format,
        scope,
        should_apply: !params.dry_run,
    };
    state
        .source_manager
        .import(import)
        .await
        .map_err(|error| pipeline_error(&error))
}

/// Puts a request's body on disk.
async fn save_body(mut body: Body, directory: &Path) -> Result<File, String> {
    let unwritable = |error: std::io::Error| format!("the file cannot be kept: {error}");
    let mut file = tempfile::tempfile_in(directory).map_err(unwritable)?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the file did not arrive: {error}"))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        length += piece.len() as u64;
        if length > MAX_IMPORT_BYTES {
            return Err(format!("the file is longer than {MAX_IMPORT_BYTES} bytes"));
        }
        // Some kilobytes, which the system takes into its memory.
        file.write_all(piece).map_err(unwritable)?;
    }
    file.rewind().map_err(unwritable)?;
    Ok(file)
}

fn pipeline_error_response(error: &PipelineError) -> Response {
    pipeline_error(error).into_response()
}

fn pipeline_error(error: &PipelineError) -> ErrorResponse {
    let (status, code) = match error {
        PipelineError::Read(_) | PipelineError::Settings(_) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "CANNOT_TAKE")
        }
        PipelineError::NothingToAccept(_) => (StatusCode::NOT_FOUND, "NOTHING_HELD"),
        PipelineError::Persist(_) | PipelineError::Stage(_) | PipelineError::Ingest(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "CANNOT_KEEP")
        }
    };
    ErrorResponse::new(status, code, causes(error))
}

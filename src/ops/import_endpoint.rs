//! Endpoint `/import`: applies a file that the operator uploads, or previews it.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use stock_import::DeliveryScope;
use stock_import::formats::Format;
use strict_http::ErrorResponse;

use super::source_dto::DeliveryDto;
use super::source_endpoints::SourceFilter;
use super::{Started, bad_request};
use crate::event_log::OperatorAction;
use crate::sources::ImportRequest;

/// Largest imported file, in bytes.
const MAX_IMPORT_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Parameters of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportParams {
    shop: String,
    source: Option<String>,
    name: Option<String>,
    format: Option<String>,
    scope: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// Imports the file in the request body.
pub(super) async fn import(
    Query(params): Query<ImportParams>,
    Started(state): Started,
    body: Body,
) -> Result<Json<DeliveryDto>, ErrorResponse> {
    state.require_sources(Some(&params.shop))?;
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
    let action = if params.dry_run {
        OperatorAction::ImportPreview
    } else {
        OperatorAction::Import
    };
    let source_name = pipeline.source_name(index);
    state.record_action(pipeline.shop_name(), source_name, action, &name);
    let import = ImportRequest {
        shop,
        source: index,
        file,
        name,
        format,
        scope,
        should_apply: !params.dry_run,
    };
    let report = state.source_manager.import(import).await?;
    Ok(Json(DeliveryDto::from(&report)))
}

/// Writes a request body to a temporary file.
async fn save_body(mut body: Body, directory: &Path) -> Result<File, String> {
    let unwritable = |error: std::io::Error| {
        format!("the file cannot be written to the disk of the service: {error}")
    };
    let mut file = tempfile::tempfile_in(directory).map_err(unwritable)?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| format!("the file was not received completely: {error}"))?;
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        length += piece.len() as u64;
        if length > MAX_IMPORT_BYTES {
            return Err(format!("the file is longer than {MAX_IMPORT_BYTES} bytes"));
        }
        // A few kilobytes go to the page cache, so this does not block for long.
        file.write_all(piece).map_err(unwritable)?;
    }
    file.rewind().map_err(unwritable)?;
    Ok(file)
}

//! Import of a file by hand.

use std::time::Duration;

use connectors::files::{self, combined_scope};
use connectors::{Completeness, EntrySender, ReadReport};
use stock::{ShopId, Timestamp};
use stock_import::formats::Format;
use stock_import::{DeliveryScope, ReadSettings};

use super::SourceManager;
use crate::sources::{Config, DeliveryReport, PipelineError, SourceKind, SourcePolicy};

/// Request to import a file by hand.
#[derive(Debug)]
pub struct ImportRequest {
    /// Shop.
    pub shop: ShopId,
    /// Index of the source whose settings are used.
    pub source: usize,
    /// Opened file.
    pub file: std::fs::File,
    /// Name of the file for messages.
    pub name: String,
    /// Format; detected by default.
    pub format: Option<Format>,
    /// Completeness; by default the file or the settings decide.
    pub scope: Option<DeliveryScope>,
    /// True to apply the file; false for a dry run.
    pub should_apply: bool,
}

/// Returns the configuration of the source for files that are imported by hand.
#[must_use]
pub fn import_source(policy: SourcePolicy) -> Config {
    Config {
        policy,
        read_settings: ReadSettings::default(),
        read_digest: String::new(),
        poll_interval: Duration::from_secs(3_600),
        kind: SourceKind::Import,
    }
}

impl SourceManager {
    /// Delivers a file that an operator imports by hand, with the settings of one source.
    ///
    /// # Errors
    /// The file cannot be read or applied.
    pub async fn import(&self, import: ImportRequest) -> Result<DeliveryReport, PipelineError> {
        let ImportRequest {
            shop,
            source,
            file,
            name,
            format,
            scope,
            should_apply,
        } = import;
        let managed = self
            .shop(shop)
            .ok_or_else(|| PipelineError::NothingToAccept(name.clone()))?;
        let pipeline = managed.pipeline.read().clone();
        let pipeline = pipeline.ok_or(PipelineError::NotLeading)?;
        let config = &managed.sources[source].config;
        if matches!(config.kind, SourceKind::Import) && !pipeline.combines_by_latest() {
            let text = "this shop combines its sources: name the source that the file belongs to";
            return Err(PipelineError::Settings(text.to_owned()));
        }
        let now = Timestamp::from(self.0.context.clock.now());
        let settings_and_directory = (&config.read_settings, pipeline.directory());
        let read = async |rows: &mut EntrySender| {
            let summaries =
                files::read_on_blocking_thread(name, file, format, settings_and_directory, rows)
                    .await?;
            let completeness =
                scope.map_or_else(|| combined_scope(&summaries).into(), Completeness::Certain);
            Ok(ReadReport::from_files(completeness, summaries))
        };
        pipeline
            .ingest_delivery(source, now, should_apply, read)
            .await
    }
}

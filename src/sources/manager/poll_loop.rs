//! Schedule and poll loop of one source: connects, reads, delivers and waits.
//!
//! Decides between snapshots and deltas of MoySklad, and when the state of a connector is saved:
//! only after its delivery was applied.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::{Tasks, run_blocking};
use market_api::push::client::OldHandlerClient;
use stock::{Sku, Timestamp};
use stock_import::shape_change::RecordedShape;
use stock_import::{DeliveryScope, ReadSettings};
use strict_http::{ClientConfig, causes};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{ManagedShop, ManagedSource, SourceManager, SourceStartError};
use crate::sources::files::FileWatcher;
use crate::sources::http_file::HttpFile;
use crate::sources::moysklad::MoySklad;
use crate::sources::{
    Completeness, DeliveryOutcome, DeliveryPipeline, EntrySender, PipelineError, ReadReport,
    SourceKind, old_handler, sql,
};

/// Interval between two snapshots of MoySklad; deltas are read in between.
const FULL_READ_INTERVAL: TimeDelta = TimeDelta::hours(24);

/// Connector of a source, with its state between polls.
pub(super) enum SourceReader {
    Files(FileWatcher),
    Remote(Box<HttpFile>),
    OldHandler(OldHandlerClient, Vec<Sku>),
    MoySklad(Box<MoySklad>),
    Sql(sql::Config),
    /// A source that pushes its data.
    Passive,
}

pub(super) fn source_reader(
    source: &ManagedSource,
    outbound: &ClientConfig,
    about: &str,
) -> Result<SourceReader, SourceStartError> {
    let config = &source.config;
    let build_client = |wanted: ClientConfig| {
        let client_config = ClientConfig {
            extra_ca_file: outbound.extra_ca_file.clone(),
            ..wanted
        };
        let about = about.to_owned();
        strict_http::client(&client_config)
            .map_err(|source| SourceStartError::Client { about, source })
    };
    Ok(match &config.kind {
        SourceKind::Files(files) => SourceReader::Files(FileWatcher::new(
            files.clone(),
            config.read_settings.clone(),
        )),
        SourceKind::RemoteFile(remote) => {
            let clients = remote.clients(build_client)?;
            let remote = HttpFile::new(remote.clone(), config.read_settings.clone(), clients);
            SourceReader::Remote(Box::new(remote))
        }
        SourceKind::OldHandler { skus, .. } => match &source.old_handler {
            Some(client) => SourceReader::OldHandler(client.clone(), skus.clone()),
            None => SourceReader::Passive,
        },
        SourceKind::MoySklad(moysklad) => {
            let client = build_client(moysklad.client_config())?;
            SourceReader::MoySklad(Box::new(MoySklad::new(client, moysklad.clone())))
        }
        SourceKind::Sql(sql) => SourceReader::Sql(sql.clone()),
        SourceKind::Exchange(_) | SourceKind::Import => SourceReader::Passive,
    })
}

/// Poll loop of one source.
pub(super) struct PollLoop {
    pub(super) manager: SourceManager,
    pub(super) shop_index: usize,
    pub(super) source_index: usize,
    pub(super) reader: SourceReader,
}

impl PollLoop {
    pub(super) async fn run(mut self, tasks: Tasks) {
        loop {
            let (poll_interval, poll_now) = {
                let source = self.source();
                (source.config.poll_interval, Arc::clone(&source.poll_now))
            };
            let pipeline = self.shop().pipeline.clone();
            let is_polled = !matches!(self.reader, SourceReader::Passive);
            if is_polled {
                pipeline.record_poll_started(self.source_index);
            }
            tokio::select! {
                // A delivery that is not complete is cancelled. The next start reads it again.
                () = tasks.stopping() => return,
                () = self.poll_once() => {}
            }
            if is_polled {
                pipeline.record_poll_ended(self.source_index, poll_interval);
            }
            tokio::select! {
                () = tasks.stopping() => return,
                () = sleep(poll_interval) => {}
                () = poll_now.notified() => {}
            }
        }
    }

    fn shop(&self) -> &ManagedShop {
        &self.manager.0.shops[self.shop_index]
    }

    fn source(&self) -> &ManagedSource {
        &self.shop().sources[self.source_index]
    }

    async fn poll_once(&mut self) {
        let pipeline = self.shop().pipeline.clone();
        if pipeline.needs_reapply(self.source_index)
            && let Err(error) = pipeline.reapply_rules().await
        {
            pipeline.record_failure(self.source_index, &causes(&error));
            return;
        }
        // The pipeline has recorded the outcome of each delivery in the status and the log.
        match self.read(&pipeline).await {
            Ok(()) | Err(PollError::Reported) => {}
            Err(PollError::Unreported(text)) => pipeline.record_failure(self.source_index, &text),
        }
    }

    async fn read(&mut self, pipeline: &DeliveryPipeline) -> Result<(), PollError> {
        let index = self.source_index;
        let read_settings = self.source().config.read_settings.clone();
        let shop = self.shop().id;
        let known_skus = Arc::clone(&self.manager.0.known);
        let now = self.manager.0.clock.now();
        match &mut self.reader {
            SourceReader::Passive => Ok(()),
            SourceReader::Files(files) => {
                files
                    .poll(pipeline, index)
                    .await
                    .map(drop)
                    .map_err(PollError::unreported)?;
                pipeline.record_reachable(index);
                Ok(())
            }
            SourceReader::Remote(remote) => remote
                .poll(pipeline, index)
                .await
                .map(drop)
                .map_err(PollError::unreported),
            SourceReader::OldHandler(client, extra_skus) => {
                let extra_skus = extra_skus.clone();
                // A million SKUs take a moment to gather.
                let skus = run_blocking(move || {
                    let mut skus = known_skus(shop);
                    skus.extend(extra_skus);
                    skus.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
                    skus.dedup();
                    skus
                })
                .await;
                if skus.is_empty() {
                    info!(
                        shop = pipeline.shop_name(),
                        "old handler not polled: no SKU is known"
                    );
                    return Ok(());
                }
                let delivered = pipeline.ingest_delivery(
                    index,
                    Timestamp::from(now),
                    true,
                    async |rows: &mut EntrySender| {
                        let pulled =
                            old_handler::pull(client, &skus, &read_settings, now, rows).await;
                        let pulled = pulled.map_err(|e| causes(&e))?;
                        if pulled.future_dated > 0 {
                            warn!(
                                shop = pipeline.shop_name(),
                                skus = pulled.future_dated,
                                 "the old handler dates {} SKUs in the future: they are applied as of \
                                 now, check its clock and time zone",
                                pulled.future_dated
                            );
                        }
                        Ok(Completeness::Certain(DeliveryScope::Snapshot))
                    },
                );
                delivered.await.map(drop).map_err(PollError::reported)
            }
            SourceReader::MoySklad(moysklad) => {
                read_moysklad(moysklad, pipeline, index, &read_settings, now).await
            }
            SourceReader::Sql(sql) => read_sql(sql, pipeline, index, &read_settings, now).await,
        }
    }
}

/// Failure of a poll, with the mark whether the pipeline has recorded it.
enum PollError {
    Reported,
    Unreported(String),
}

impl PollError {
    fn reported(_: PipelineError) -> Self {
        Self::Reported
    }

    /// Converts an error that may have happened before a delivery began.
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn unreported(error: PipelineError) -> Self {
        Self::Unreported(causes(&error))
    }
}

/// Reads MoySklad: a snapshot, or a delta since the last read. The connector's state has the times
/// of the last snapshot and of the last read.
async fn read_moysklad(
    moysklad: &mut MoySklad,
    pipeline: &DeliveryPipeline,
    index: usize,
    read_settings: &ReadSettings,
    now: DateTime<Utc>,
) -> Result<(), PollError> {
    let saved = pipeline
        .reader_state(index)
        .await
        .map_err(PollError::unreported)?;
    let mut times = saved.split_whitespace().map(|text| text.parse().ok());
    let (last_full_read, last_read): (Option<DateTime<Utc>>, Option<_>) =
        (times.next().flatten(), times.next().flatten());
    let since =
        last_read.filter(|_| last_full_read.is_some_and(|at| now - at < FULL_READ_INTERVAL));
    let delivered = pipeline.ingest_delivery(
        index,
        Timestamp::from(now),
        true,
        async |rows: &mut EntrySender| {
            let read = match since {
                Some(since) => moysklad.read_changes(since, now, read_settings, rows).await,
                None => moysklad.read_snapshot(read_settings, rows).await,
            };
            let summary = read.map_err(|error| causes(&error))?;
            let scope = if since.is_some() {
                DeliveryScope::Delta
            } else {
                DeliveryScope::Snapshot
            };
            let report = ReadReport::from(Completeness::Certain(scope));
            Ok(ReadReport {
                notices: summary.notices,
                ..report
            })
        },
    );
    let delivery_report = delivered.await.map_err(PollError::reported)?;
    // A held delivery was not applied, so it is read again until the operator has decided.
    if delivery_report.outcome != DeliveryOutcome::Applied {
        return Ok(());
    }
    moysklad.mark_accepted();
    let last_full_read = if since.is_some() {
        last_full_read.unwrap_or(now)
    } else {
        now
    };
    let saved = format!("{} {}", last_full_read.to_rfc3339(), now.to_rfc3339());
    pipeline
        .save_reader_state(index, &saved)
        .await
        .map_err(PollError::unreported)
}

/// Reads a database. The connector's state is the watermark of the last applied delivery.
async fn read_sql(
    sql: &sql::Config,
    pipeline: &DeliveryPipeline,
    index: usize,
    read_settings: &ReadSettings,
    now: DateTime<Utc>,
) -> Result<(), PollError> {
    let saved = pipeline
        .reader_state(index)
        .await
        .map_err(PollError::unreported)?;
    let since = Some(saved.as_str()).filter(|saved| !saved.is_empty());
    let mut watermark = None;
    let delivered = pipeline.ingest_delivery(
        index,
        Timestamp::from(now),
        true,
        async |rows: &mut EntrySender| {
            let read = sql::read(sql, read_settings, since, rows).await;
            let outcome = read.map_err(|error| causes(&error))?;
            watermark = outcome.watermark;
            let report = ReadReport::from(Completeness::Certain(outcome.scope));
            let shapes = outcome.shape.iter().map(RecordedShape::from).collect();
            Ok(ReadReport { shapes, ..report })
        },
    );
    let delivery_report = delivered.await.map_err(PollError::reported)?;
    // A held delivery was not applied, so it is read again until the operator has decided.
    if let (Some(watermark), DeliveryOutcome::Applied) = (watermark, delivery_report.outcome) {
        pipeline
            .save_reader_state(index, &watermark)
            .await
            .map_err(PollError::unreported)?;
    }
    Ok(())
}

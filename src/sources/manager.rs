use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::files::{self, FileWatcher, combined_scope};
use super::formats::Format;
use super::http_file::HttpFile;
use super::moysklad::MoySklad;
use super::onec_exchange::{self, ImportedFile, Upload};
use super::shape_change::RecordedShape;
use super::stock_rules::ShopRules;
use super::{
    Completeness, Config, Context, DeliveryOutcome, DeliveryPipeline, DeliveryReport,
    DeliveryScope, EntrySender, PipelineError, ReadReport, ReadSettings, SourceKind, SourcePolicy,
    old_handler, sql,
};
use crate::auth_failures::AuthFailures;
use crate::clock::Clock;
use crate::http::{self, ClientConfig, ClientError, causes};
use crate::lifecycle::{Tasks, run_blocking};
use crate::push_api::client::{OldHandlerClient, OldHandlerConfigError};
use crate::stock::{ShopId, Sku, Timestamp};

/// How long the old handler may take over a question of the Market.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(8);

/// How long the question may wait in all, until what the handler said is in the book: what we
/// know already must not be late for what we do not.
pub const READ_THROUGH_TIMEOUT: Duration = Duration::from_secs(12);

/// How often MoySklad is read whole; in between it tells what has changed.
const FULL_READ_INTERVAL: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The SKUs that are known of a shop, from whatever side.
pub type KnownSkus = Arc<dyn Fn(ShopId) -> Vec<Sku> + Send + Sync>;

/// Why sources cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SourceStartError {
    /// A server cannot be called.
    #[error("{about}: it cannot be called")]
    Client {
        /// Which source.
        about: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A handler cannot be asked.
    #[error("{about}: it cannot be asked")]
    Handler {
        /// Which source.
        about: String,
        /// Why.
        #[source]
        source: OldHandlerConfigError,
    },
    /// What was stated cannot be kept.
    #[error("{about}: what its sources state cannot be kept")]
    Pipeline {
        /// Which shop.
        about: String,
        /// Why.
        #[source]
        source: Box<PipelineError>,
    },
}

/// A shop with what feeds it.
#[derive(Clone, Debug)]
pub struct ShopSources {
    /// Which shop.
    pub shop: ShopId,
    /// Its name.
    pub name: String,
    /// Its sources, in the configuration's order.
    pub sources: Vec<Config>,
    /// What is made of what they say.
    pub rules: ShopRules,
}

/// All sources of all shops. Cheap to clone.
#[derive(Clone)]
pub struct SourceManager(Arc<ManagerState>);

struct ManagerState {
    shops: Vec<ManagedShop>,
    known: KnownSkus,
    clock: Clock,
}

struct ManagedShop {
    id: ShopId,
    pipeline: DeliveryPipeline,
    sources: Vec<ManagedSource>,
}

struct ManagedSource {
    config: Config,
    // Old handlers only.
    old_handler: Option<OldHandlerClient>,
    nudge: Arc<Notify>,
}

impl std::fmt::Debug for SourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.shops.iter().map(|shop| shop.pipeline.shop_name()))
            .finish()
    }
}

impl SourceManager {
    /// Opens what the sources have stated, and brings the book in line with it.
    ///
    /// Each shop has a directory of its name below `directory`. `outbound` is how servers are
    /// called; whose certificates are believed is found out source by source.
    ///
    /// # Errors
    /// A directory cannot be used, or somebody cannot be called at all.
    pub async fn open(
        directory: &Path,
        shop_sources: Vec<ShopSources>,
        outbound: &ClientConfig,
        known: KnownSkus,
        context: &Context,
    ) -> Result<Self, SourceStartError> {
        let mut shops = Vec::new();
        for ShopSources {
            shop,
            name,
            sources,
            rules,
        } in shop_sources
        {
            let policies = sources.iter().map(|source| source.policy.clone()).collect();
            let pipeline_error = |source| SourceStartError::Pipeline {
                about: name.clone(),
                source: Box::new(source),
            };
            let shop_directory = directory.join(&name);
            let opened = DeliveryPipeline::open(
                &shop_directory,
                (shop, &name),
                policies,
                rules,
                context.clone(),
            )
            .await;
            let pipeline = opened.map_err(pipeline_error)?;
            // A front door that is shut is knocked at again; what cannot be read is not.
            match pipeline.reapply_rules().await {
                Ok(()) => {}
                Err(PipelineError::Ingest(error)) => {
                    warn!(
                        shop = name,
                        "what the sources of {name} have stated waits: {error}"
                    );
                }
                Err(error) => return Err(pipeline_error(error)),
            }
            let mut managed_sources = Vec::new();
            for config in sources {
                let about = format!("{name}/{}", config.policy.name);
                let old_handler = old_handler_client(&config, outbound, &about)?;
                managed_sources.push(ManagedSource {
                    config,
                    old_handler,
                    nudge: Arc::default(),
                });
            }
            shops.push(ManagedShop {
                id: shop,
                pipeline,
                sources: managed_sources,
            });
        }
        Ok(Self(Arc::new(ManagerState {
            shops,
            known,
            clock: context.clock,
        })))
    }

    /// The sources of each shop that has any, or had something handed over by hand.
    pub fn pipelines(&self) -> impl Iterator<Item = (ShopId, &DeliveryPipeline)> {
        self.0.shops.iter().map(|shop| (shop.id, &shop.pipeline))
    }

    /// The sources of that shop.
    #[must_use]
    pub fn pipeline(&self, shop: ShopId) -> Option<&DeliveryPipeline> {
        self.shop(shop).map(|shop| &shop.pipeline)
    }

    fn shop(&self, shop: ShopId) -> Option<&ManagedShop> {
        self.0.shops.iter().find(|known| known.id == shop)
    }

    /// The sources of a shop as they are configured.
    pub fn configs(&self, shop: ShopId) -> impl Iterator<Item = &Config> {
        self.shop(shop)
            .into_iter()
            .flat_map(|shop| shop.sources.iter().map(|it| &it.config))
    }

    /// Has a source looked at now.
    pub fn nudge(&self, shop: ShopId, source: usize) {
        if let Some(source) = self.shop(shop).and_then(|shop| shop.sources.get(source)) {
            source.nudge.notify_one();
        }
    }

    /// Starts looking at every source.
    ///
    /// # Errors
    /// A server cannot be called at all.
    pub fn start(&self, outbound: &ClientConfig, tasks: &Tasks) -> Result<(), SourceStartError> {
        for (shop_index, shop) in self.0.shops.iter().enumerate() {
            for (source_index, source) in shop.sources.iter().enumerate() {
                let about = format!(
                    "{}/{}",
                    shop.pipeline.shop_name(),
                    source.config.policy.name
                );
                let reader = source_reader(source, outbound, &about)?;
                let poll_loop = PollLoop {
                    manager: self.clone(),
                    shop_index,
                    source_index,
                    reader,
                };
                tasks.spawn("source", poll_loop.run(tasks.clone()));
            }
        }
        Ok(())
    }

    /// The doors by which 1C comes.
    pub fn router(&self, tasks: &Tasks, auth_failures: &AuthFailures) -> Router {
        let mut router = Router::new();
        for shop in &self.0.shops {
            let manager = self.clone();
            let id = shop.id;
            let context = onec_exchange::Context {
                deliver: Arc::new(move |upload: Upload| {
                    let manager = manager.clone();
                    Box::pin(async move { manager.receive_upload(id, upload).await })
                }),
                tasks: tasks.clone(),
                clock: self.0.clock,
                auth_failures: auth_failures.clone(),
            };
            let endpoints = shop
                .sources
                .iter()
                .enumerate()
                .filter_map(|(index, source)| {
                    let SourceKind::Exchange(exchange) = &source.config.kind else {
                        return None;
                    };
                    let name = &source.config.policy.name;
                    let spool = shop.pipeline.directory().join(format!("exchange-{name}"));
                    Some(exchange.endpoint(index, name, spool))
                });
            router = router.merge(onec_exchange::router(&context, endpoints.collect()));
        }
        router
    }

    /// Takes a file that 1C has sent.
    async fn receive_upload(&self, shop: ShopId, upload: Upload) -> Result<ImportedFile, String> {
        let Some(shop) = self.shop(shop) else {
            return Err("there is no such shop".to_owned());
        };
        let read_settings = &shop.sources[upload.source_index].config.read_settings;
        let now = Timestamp::from(self.0.clock.now());
        let (pipeline, name) = (&shop.pipeline, upload.name.clone());
        let is_numbered = name.contains(|c: char| c.is_ascii_digit());
        let delivered = pipeline.ingest_delivery(
            upload.source_index,
            now,
            true,
            async |rows: &mut EntrySender| {
                let file = std::fs::File::open(&upload.path).map_err(|e| e.to_string())?;
                let settings_and_directory = (read_settings, pipeline.directory());
                let format = Some(Format::CommerceMl);
                let summaries = files::read_on_blocking_thread(
                    name,
                    file,
                    format,
                    settings_and_directory,
                    rows,
                )
                .await?;
                // Of several files of one exchange none is all there is.
                let declared = combined_scope(&summaries);
                Ok(ReadReport::from_files(
                    Completeness::ExchangeFile {
                        declared,
                        is_numbered,
                    },
                    summaries,
                ))
            },
        );
        match delivered.await {
            Ok(DeliveryReport {
                outcome: DeliveryOutcome::Held(reason),
                ..
            }) => Err(format!(
                "{} is held, the stock stays as it was: {reason}",
                upload.name
            )),
            Ok(DeliveryReport {
                rows,
                rejected,
                suspicious,
                changes: tally,
                ..
            }) => Ok(ImportedFile {
                message: format!(
                    "{rows} rows taken, {} changed, {rejected} rejected, {suspicious} suspicious",
                    tally.new + tally.changed
                ),
            }),
            Err(error) => Err(causes(&error)),
        }
    }

    /// Asks a shop's old handler what the Market asks us, as long as nothing whole has come from
    /// it yet. `None` if nobody is to be asked.
    #[must_use]
    pub fn read_through(
        &self,
        shop: ShopId,
        skus: Vec<Sku>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let managed = self.shop(shop)?;
        let index = managed
            .sources
            .iter()
            .position(|source| source.old_handler.is_some())?;
        if managed.pipeline.had_snapshot(index) {
            return None;
        }
        let manager = self.clone();
        Some(async move { manager.request_now(shop, index, &skus).await })
    }

    async fn request_now(&self, shop: ShopId, index: usize, skus: &[Sku]) {
        let Some(shop) = self.shop(shop) else { return };
        let source = &shop.sources[index];
        let Some(client) = &source.old_handler else {
            return;
        };
        let now = self.0.clock.now();
        let read_settings = &source.config.read_settings;
        let response =
            old_handler::pull_once(client, skus, read_settings, now, HANDLER_TIMEOUT).await;
        if let Some(error) = &response.first_error {
            shop.pipeline.record_failure(index, &causes(error));
        }
        if response.entries.is_empty() {
            return;
        }
        let now = Timestamp::from(self.0.clock.now());
        let delivered =
            shop.pipeline
                .ingest_delivery(index, now, true, async |rows: &mut EntrySender| {
                    for entry in response.entries {
                        rows.send(entry).await.map_err(|error| error.to_string())?;
                    }
                    Ok(Completeness::Certain(DeliveryScope::Delta))
                });
        // What came of it is noted with the source.
        let _report = delivered.await;
    }

    /// Takes a file that somebody hands over by hand, as that source of the shop would.
    ///
    /// # Errors
    /// It cannot be read or taken; nothing has changed.
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
        let config = &managed.sources[source].config;
        if matches!(config.kind, SourceKind::Import) && !managed.pipeline.combines_by_latest() {
            let text = "this shop combines its sources: say as which of them it is to be taken";
            return Err(PipelineError::Settings(text.to_owned()));
        }
        let now = Timestamp::from(self.0.clock.now());
        let settings_and_directory = (&config.read_settings, managed.pipeline.directory());
        let read = async |rows: &mut EntrySender| {
            let summaries =
                files::read_on_blocking_thread(name, file, format, settings_and_directory, rows)
                    .await?;
            let completeness =
                scope.map_or_else(|| combined_scope(&summaries).into(), Completeness::Certain);
            Ok(ReadReport::from_files(completeness, summaries))
        };
        managed
            .pipeline
            .ingest_delivery(source, now, should_apply, read)
            .await
    }
}

/// A file that is handed over by hand.
#[derive(Debug)]
pub struct ImportRequest {
    /// For which shop.
    pub shop: ShopId,
    /// As which of its sources.
    pub source: usize,
    /// The file itself.
    pub file: std::fs::File,
    /// Its name, for people.
    pub name: String,
    /// What it is; found out if not said.
    pub format: Option<Format>,
    /// Whether it is complete, if that is said.
    pub scope: Option<DeliveryScope>,
    /// It is to be taken, and not only looked at.
    pub should_apply: bool,
}

pub(super) fn old_handler_client(
    config: &Config,
    outbound: &ClientConfig,
    about: &str,
) -> Result<Option<OldHandlerClient>, SourceStartError> {
    let SourceKind::OldHandler { handler, .. } = &config.kind else {
        return Ok(None);
    };
    let about = || about.to_owned();
    let client_config = ClientConfig {
        extra_ca_file: outbound.extra_ca_file.clone(),
        ..handler.client_config()
    };
    let client = http::client(&client_config).map_err(|source| SourceStartError::Client {
        about: about(),
        source,
    })?;
    let client = OldHandlerClient::new(client, handler.clone());
    let client = client.map_err(|source| SourceStartError::Handler {
        about: about(),
        source,
    })?;
    Ok(Some(client))
}

/// Who reads a source, turn by turn.
enum SourceReader {
    Files(FileWatcher),
    Remote(Box<HttpFile>),
    OldHandler(OldHandlerClient, Vec<Sku>),
    MoySklad(Box<MoySklad>),
    Sql(sql::Config),
    /// It comes by itself.
    Passive,
}

fn source_reader(
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
        http::client(&client_config).map_err(|source| SourceStartError::Client { about, source })
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

/// One source, looked at again and again.
struct PollLoop {
    manager: SourceManager,
    shop_index: usize,
    source_index: usize,
    reader: SourceReader,
}

impl PollLoop {
    async fn run(mut self, tasks: Tasks) {
        loop {
            let (every, nudge) = {
                let source = self.source();
                (source.config.poll_interval, Arc::clone(&source.nudge))
            };
            tokio::select! {
                // What is under way is not whole yet: it is begun anew at the next start.
                () = tasks.stopping() => return,
                () = self.poll_once() => {}
            }
            tokio::select! {
                () = tasks.stopping() => return,
                () = sleep(every) => {}
                () = nudge.notified() => {}
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
        // What became of it stands with the source, and in the log.
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
                        "no SKU is known to ask the old handler for"
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
                                "the old handler dates {} skus ahead of our clock: they are taken \
                                 as of now, check its clock and time zone",
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

/// Whether a failure is known where it should be.
enum PollError {
    Reported,
    Unreported(String),
}

impl PollError {
    fn reported(_: PipelineError) -> Self {
        Self::Reported
    }

    /// Of a look that may have failed before anything was delivered.
    #[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
    fn unreported(error: PipelineError) -> Self {
        Self::Unreported(causes(&error))
    }
}

/// What is remembered of MoySklad, over a restart: when it was last read whole, and when at all.
async fn read_moysklad(
    moysklad: &mut MoySklad,
    pipeline: &DeliveryPipeline,
    index: usize,
    read_settings: &ReadSettings,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), PollError> {
    let saved = pipeline
        .reader_state(index)
        .await
        .map_err(PollError::unreported)?;
    let mut times = saved.split_whitespace().map(|text| text.parse().ok());
    let (last_full_read, last_read): (Option<chrono::DateTime<chrono::Utc>>, Option<_>) =
        (times.next().flatten(), times.next().flatten());
    let since =
        last_read.filter(|_| last_full_read.is_some_and(|whole| now - whole < FULL_READ_INTERVAL));
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
    // What is held was not taken: it is read anew until somebody has decided.
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

/// What is remembered of a database is the watermark.
async fn read_sql(
    sql: &sql::Config,
    pipeline: &DeliveryPipeline,
    index: usize,
    read_settings: &ReadSettings,
    now: chrono::DateTime<chrono::Utc>,
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
    // What is held was not taken: it is asked for again, until somebody has decided.
    if let (Some(watermark), DeliveryOutcome::Applied) = (watermark, delivery_report.outcome) {
        pipeline
            .save_reader_state(index, &watermark)
            .await
            .map_err(PollError::unreported)?;
    }
    Ok(())
}

/// The source by which files are taken that are handed over by hand.
#[must_use]
pub fn import_source(policy: SourcePolicy) -> Config {
    Config {
        policy,
        read_settings: ReadSettings::default(),
        poll_interval: Duration::from_secs(3_600),
        kind: SourceKind::Import,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_before_the_listener_gives_up() {
        assert!(HANDLER_TIMEOUT < READ_THROUGH_TIMEOUT);
        assert!(READ_THROUGH_TIMEOUT < http::ServerLimits::default().handler_timeout);
    }
}

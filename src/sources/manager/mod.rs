//! Manager of all sources of all shops: opens their pipelines and starts one poll loop per source.
//!
//! Also passes pushed data on to the pipelines: uploads by 1C, files imported by hand, and
//! responses of an old handler that is read through.

mod create_source;
mod import;
mod onec_uploads;
mod poll_loop;
#[cfg(test)]
mod poll_tests;
mod read_through;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::warn;

pub(super) use self::create_source::{ReadySource, create_source, old_handler_client};
pub use self::import::{ImportRequest, import_source};
use self::poll_loop::{PollLoop, SourcePoller, run_passive};
pub use self::read_through::READ_THROUGH_TIMEOUT;
use connectors::Source;
use lifecycle::Clock;
use lifecycle::Tasks;
use market_api::push::client::{OldHandlerClient, OldHandlerConfigError};
use stock::{ShopId, Sku};
use stock_import::stock_rules::ShopRules;
use strict_http::{ClientConfig, ClientError};

use super::{Config, Context, DeliveryPipeline, PipelineError};

/// Function that returns all known SKUs of a shop, from any origin.
pub type KnownSkus = Arc<dyn Fn(ShopId) -> Vec<Sku> + Send + Sync>;

/// Reason why the sources cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SourceStartError {
    /// The HTTP client cannot be built.
    #[error("{about}: cannot build the HTTP client of this source")]
    Client {
        /// Shop and source.
        about: String,
        /// Cause.
        #[source]
        source: ClientError,
    },
    /// The settings of an old handler are invalid.
    #[error("{about}: invalid settings of the old handler")]
    Handler {
        /// Shop and source.
        about: String,
        /// Cause.
        #[source]
        source: OldHandlerConfigError,
    },
    /// The statements of a shop cannot be opened or applied.
    #[error("{about}: cannot open the statements of its sources")]
    Pipeline {
        /// Shop.
        about: String,
        /// Cause.
        #[source]
        source: Box<PipelineError>,
    },
}

/// Sources of one shop, as they are configured.
#[derive(Clone, Debug)]
pub struct ShopSources {
    /// Shop.
    pub shop: ShopId,
    /// Name of the shop; also of its directory for statements.
    pub name: String,
    /// Sources in configuration order.
    pub sources: Vec<Config>,
    /// Rules of the shop.
    pub rules: ShopRules,
}

/// Manager of all sources of all shops. Cheap to clone.
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
    // Only for a source of the kind old handler.
    old_handler: Option<OldHandlerClient>,
    poll_now: Arc<Notify>,
}

impl std::fmt::Debug for SourceManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.shops.iter().map(|shop| shop.pipeline.shop_name()))
            .finish()
    }
}

impl SourceManager {
    /// Opens the statements of all sources and applies those that are not in the book yet.
    ///
    /// Each shop has a directory of its name below `directory`. `outbound` gives the file with
    /// extra CA certificates; its other settings are replaced by those of each source.
    ///
    /// # Errors
    /// A directory cannot be used, or an HTTP client cannot be built.
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
            // Ingest errors are retried by the poll loops; read errors are fatal.
            match pipeline.reapply_rules().await {
                Ok(()) => pipeline.reconsider_held().await,
                Err(PipelineError::Ingest(error)) => {
                    warn!(
                        shop = name,
                        "could not apply source data of {name}, will retry: {error}"
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
                    poll_now: Arc::default(),
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

    /// Returns the pipelines of all shops.
    pub fn pipelines(&self) -> impl Iterator<Item = (ShopId, &DeliveryPipeline)> {
        self.0.shops.iter().map(|shop| (shop.id, &shop.pipeline))
    }

    /// Returns the pipeline of a shop.
    #[must_use]
    pub fn pipeline(&self, shop: ShopId) -> Option<&DeliveryPipeline> {
        self.shop(shop).map(|shop| &shop.pipeline)
    }

    fn shop(&self, shop: ShopId) -> Option<&ManagedShop> {
        self.0.shops.iter().find(|known| known.id == shop)
    }

    /// Returns the configurations of a shop's sources.
    pub fn configs(&self, shop: ShopId) -> impl Iterator<Item = &Config> {
        self.shop(shop)
            .into_iter()
            .flat_map(|shop| shop.sources.iter().map(|it| &it.config))
    }

    /// Replaces the rules of a shop and the policies of these sources, by name. Other sources keep
    /// theirs.
    ///
    /// # Errors
    /// The statements cannot be read or applied.
    pub async fn replace_settings(
        &self,
        shop: ShopId,
        sources: &[&Config],
        rules: ShopRules,
    ) -> Result<(), PipelineError> {
        let Some(pipeline) = self.pipeline(shop) else {
            return Ok(());
        };
        let policies = pipeline.source_names().enumerate().map(|(index, name)| {
            let new = sources.iter().map(|source| &source.policy);
            let new = new.into_iter().find(|policy| policy.name == name);
            new.cloned().unwrap_or_else(|| pipeline.policy(index))
        });
        pipeline.replace_settings(policies.collect(), rules).await
    }

    /// Triggers an immediate poll of a source.
    pub fn request_poll(&self, shop: ShopId, source: usize) {
        if let Some(source) = self.shop(shop).and_then(|shop| shop.sources.get(source)) {
            source.poll_now.notify_one();
        }
    }

    /// Starts the poll loops of all sources.
    ///
    /// # Errors
    /// An HTTP client cannot be built.
    pub fn start(&self, outbound: &ClientConfig, tasks: &Tasks) -> Result<(), SourceStartError> {
        for (shop_index, shop) in self.0.shops.iter().enumerate() {
            for (source_index, source) in shop.sources.iter().enumerate() {
                let about = format!(
                    "{}/{}",
                    shop.pipeline.shop_name(),
                    source.config.policy.name
                );
                let old_handler = source.old_handler.clone();
                match create_source(&source.config, old_handler, outbound, &about)? {
                    ReadySource::Files(source) => {
                        self.spawn_poll_loop(shop_index, source_index, source, tasks);
                    }
                    ReadySource::RemoteFile(source) => {
                        self.spawn_poll_loop(shop_index, source_index, source, tasks);
                    }
                    ReadySource::OldHandler(source) => {
                        self.spawn_poll_loop(shop_index, source_index, source, tasks);
                    }
                    ReadySource::MoySklad(source) => {
                        self.spawn_poll_loop(shop_index, source_index, source, tasks);
                    }
                    ReadySource::Sql(source) => {
                        self.spawn_poll_loop(shop_index, source_index, source, tasks);
                    }
                    ReadySource::Passive => {
                        let running =
                            run_passive(self.clone(), shop_index, source_index, tasks.clone());
                        tasks.spawn("source", running);
                    }
                }
            }
        }
        Ok(())
    }

    fn spawn_poll_loop<S: Source>(
        &self,
        shop_index: usize,
        source_index: usize,
        source: S,
        tasks: &Tasks,
    ) {
        let read_digest = &self.0.shops[shop_index].sources[source_index]
            .config
            .read_digest;
        let poll_loop = PollLoop {
            manager: self.clone(),
            shop_index,
            source_index,
            source: SourcePoller::new(source, read_digest),
        };
        tasks.spawn("source", poll_loop.run(tasks.clone()));
    }
}

//! Manager of all sources of all shops: opens their pipelines and starts one poll loop per source.
//!
//! Also passes pushed data on to the pipelines: uploads by 1C, files imported by hand, and
//! responses of an old handler that is read through.

mod create_source;
mod import;
mod leading;
mod onec_uploads;
mod poll_loop;
#[cfg(test)]
mod poll_tests;
mod read_through;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;
use tracing::warn;

pub(super) use self::create_source::{ReadySource, create_source, old_handler_client};
pub use self::import::{ImportRequest, import_source};
pub use self::leading::{SourceLeader, SourceLeases};
use self::poll_loop::{PollLoop, SourcePoller, run_passive};
pub use self::read_through::READ_THROUGH_TIMEOUT;
use connectors::Source;
use lifecycle::Tasks;
use market_api::push::client::{OldHandlerClient, OldHandlerConfigError};
use stock::{ShopId, Sku};
use stock_import::stock_rules::ShopRules;
use strict_http::{ClientConfig, ClientError};

use super::mirror::{MirrorError, StatementMirror};
use super::{Config, Context, DeliveryPipeline, PipelineError, SourcePolicy};
use crate::store::StatementImages;

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
    /// What replicas have left in the database cannot be taken over.
    #[error("cannot take the statements of sources over from the replicas")]
    TakeOver(#[from] MirrorError),
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
    context: Context,
    outbound: ClientConfig,
    // Only with other replicas.
    leases: Option<SourceLeases>,
}

struct ManagedShop {
    id: ShopId,
    name: String,
    directory: PathBuf,
    // Those of the last reload.
    settings: RwLock<(Vec<SourcePolicy>, ShopRules)>,
    // `None` while another replica reads the sources.
    pipeline: RwLock<Option<DeliveryPipeline>>,
    leader: RwLock<SourceLeader>,
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
            .entries(self.0.shops.iter().map(|shop| &shop.name))
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
        Self::open_alone(directory, shop_sources, (outbound, None), known, context).await
    }

    /// Does the same for a process that has a database alone. What replicas have left in `images` is
    /// taken over.
    ///
    /// # Errors
    /// The database or a directory cannot be used, or an HTTP client cannot be built.
    pub async fn open_alone(
        directory: &Path,
        shop_sources: Vec<ShopSources>,
        (outbound, images): (&ClientConfig, Option<&StatementImages>),
        known: KnownSkus,
        context: &Context,
    ) -> Result<Self, SourceStartError> {
        let manager = Self::new(directory, shop_sources, (outbound, None), known, context)?;
        if let Some(images) = images {
            leading::leave_images(&manager, images).await?;
        }
        for shop in &manager.0.shops {
            manager.open_shop(shop, None).await?;
        }
        Ok(manager)
    }

    /// Prepares the sources for several replicas. Those of a shop are opened when this replica gets
    /// the lease, see [`SourceManager::start`].
    ///
    /// # Errors
    /// An HTTP client cannot be built.
    pub fn of_replica(
        directory: &Path,
        shop_sources: Vec<ShopSources>,
        (outbound, leases): (&ClientConfig, SourceLeases),
        known: KnownSkus,
        context: &Context,
    ) -> Result<Self, SourceStartError> {
        Self::new(
            directory,
            shop_sources,
            (outbound, Some(leases)),
            known,
            context,
        )
    }

    fn new(
        directory: &Path,
        shop_sources: Vec<ShopSources>,
        (outbound, leases): (&ClientConfig, Option<SourceLeases>),
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
                directory: directory.join(&name),
                name,
                settings: RwLock::new((policies, rules)),
                pipeline: RwLock::new(None),
                leader: RwLock::new(match leases {
                    Some(_) => SourceLeader::Vacant,
                    None => SourceLeader::This,
                }),
                sources: managed_sources,
            });
        }
        Ok(Self(Arc::new(ManagerState {
            shops,
            known,
            context: context.clone(),
            outbound: outbound.clone(),
            leases,
        })))
    }

    /// Opens the statements of a shop and applies those that are not in the book yet.
    async fn open_shop(
        &self,
        shop: &ManagedShop,
        mirror: Option<Arc<StatementMirror>>,
    ) -> Result<DeliveryPipeline, SourceStartError> {
        let name = &shop.name;
        let pipeline_error = |source| SourceStartError::Pipeline {
            about: name.clone(),
            source: Box::new(source),
        };
        let settings = shop.settings.read().clone();
        let context = self.0.context.clone();
        let opening = DeliveryPipeline::open_mirrored(
            &shop.directory,
            (shop.id, name),
            settings,
            context,
            mirror,
        );
        let pipeline = opening.await.map_err(pipeline_error)?;
        let is_alone = pipeline.is_alone();
        // Ingest errors are retried by the poll loops; read errors are fatal. After a takeover, an old
        // delivery must be in the book before a new one: updates of the last leader may still be on
        // their way, and have the date of the old one.
        match pipeline.reapply_rules().await {
            Ok(()) => pipeline.reconsider_held().await,
            Err(PipelineError::Ingest(error)) if is_alone => {
                warn!(
                    shop = name,
                    "could not apply source data of {name}, will retry: {error}"
                );
            }
            Err(error) => {
                pipeline.close().await;
                return Err(pipeline_error(error));
            }
        }
        *shop.pipeline.write() = Some(pipeline.clone());
        Ok(pipeline)
    }

    /// Returns the pipelines of all shops whose sources this process reads.
    pub fn pipelines(&self) -> impl Iterator<Item = (ShopId, DeliveryPipeline)> {
        let shops = self.0.shops.iter();
        shops.filter_map(|shop| Some((shop.id, shop.pipeline.read().clone()?)))
    }

    /// Returns the pipeline of a shop, if this process reads its sources.
    #[must_use]
    pub fn pipeline(&self, shop: ShopId) -> Option<DeliveryPipeline> {
        self.shop(shop)?.pipeline.read().clone()
    }

    /// Returns the process that reads the sources of a shop.
    #[must_use]
    pub fn leader(&self, shop: ShopId) -> Option<SourceLeader> {
        Some(self.shop(shop)?.leader.read().clone())
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
    /// theirs. A process that does not read the sources uses them when it begins to.
    ///
    /// # Errors
    /// The statements cannot be read or applied.
    pub async fn replace_settings(
        &self,
        shop: ShopId,
        sources: &[&Config],
        rules: ShopRules,
    ) -> Result<(), PipelineError> {
        let Some(shop) = self.shop(shop) else {
            return Ok(());
        };
        let policies: Vec<SourcePolicy> = {
            let mut settings = shop.settings.write();
            for policy in &mut settings.0 {
                let new = sources.iter().map(|source| &source.policy);
                if let Some(new) = new.into_iter().find(|new| new.name == policy.name) {
                    *policy = policy.replaced_by(new.clone());
                }
            }
            settings.1 = rules.clone();
            settings.0.clone()
        };
        let pipeline = shop.pipeline.read().clone();
        match pipeline {
            Some(pipeline) => pipeline.replace_settings(policies, rules).await,
            None => Ok(()),
        }
    }

    /// Triggers an immediate poll of a source.
    pub fn request_poll(&self, shop: ShopId, source: usize) {
        if let Some(source) = self.shop(shop).and_then(|shop| shop.sources.get(source)) {
            source.poll_now.notify_one();
        }
    }

    /// Starts the poll loops of all sources. With other replicas, those of a shop run while this one
    /// has the lease.
    ///
    /// # Errors
    /// An HTTP client cannot be built.
    pub fn start(&self, tasks: &Tasks) -> Result<(), SourceStartError> {
        for index in 0..self.0.shops.len() {
            if self.0.leases.is_some() {
                let leading = leading::lead(self.clone(), index, tasks.clone());
                tasks.spawn("source_lead", leading);
            } else if let Some(pipeline) = self.0.shops[index].pipeline.read().clone() {
                self.start_shop(index, &pipeline, tasks)?;
            }
        }
        Ok(())
    }

    fn start_shop(
        &self,
        shop_index: usize,
        pipeline: &DeliveryPipeline,
        tasks: &Tasks,
    ) -> Result<(), SourceStartError> {
        let shop = &self.0.shops[shop_index];
        for (source_index, source) in shop.sources.iter().enumerate() {
            let about = format!("{}/{}", shop.name, source.config.policy.name);
            let old_handler = source.old_handler.clone();
            let position = (shop_index, source_index);
            let outbound = &self.0.outbound;
            match create_source(&source.config, old_handler, outbound, &about)? {
                ReadySource::Files(source) => self.spawn_poll(position, pipeline, source, tasks),
                ReadySource::RemoteFile(source) => {
                    self.spawn_poll(position, pipeline, source, tasks);
                }
                ReadySource::OldHandler(source) => {
                    self.spawn_poll(position, pipeline, source, tasks);
                }
                ReadySource::MoySklad(source) => self.spawn_poll(position, pipeline, source, tasks),
                ReadySource::Sql(source) => self.spawn_poll(position, pipeline, source, tasks),
                ReadySource::Passive => {
                    let pipeline = pipeline.clone();
                    let running = run_passive(self.clone(), position, pipeline, tasks.clone());
                    tasks.spawn("source", running);
                }
            }
        }
        Ok(())
    }

    fn spawn_poll<S: Source>(
        &self,
        (shop_index, source_index): (usize, usize),
        pipeline: &DeliveryPipeline,
        source: S,
        tasks: &Tasks,
    ) {
        let config = &self.0.shops[shop_index].sources[source_index].config;
        let poll_loop = PollLoop {
            manager: self.clone(),
            pipeline: pipeline.clone(),
            shop_index,
            source_index,
            source: SourcePoller::new(source, &config.read_digest),
        };
        tasks.spawn("source", poll_loop.run(tasks.clone()));
    }
}

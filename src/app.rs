//! The hallway: the only file that knows every room.
//!
//! [`App::build`] opens the house and [`App::run`] lives in it until it is told to stop. The
//! order of both is the order of the text.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, Request, StatusCode, Uri};
use axum::response::IntoResponse;
use prometheus_client::registry::Registry;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tracing::{Span, debug_span, info, warn};

use crate::clock::Clock;
use crate::config::{Config, ShopConfig};
use crate::http::{self, Limits, Refusal, Server};
use crate::ingest::{self, Ingest};
use crate::legacy::server::{self as legacy, Pushes};
use crate::lifecycle::{Fuse, Tasks};
use crate::migrator::{self, Ledger, Memory, Migrator, Mode, Target};
use crate::ops::{House, Ops};
use crate::partner::client::MarketClient;
use crate::partner::server as partner;
use crate::partner::wire::Address;
use crate::stock::{ShopId, StockBook};
use crate::store::{self, Opened, ShopKey, Store};
use crate::telemetry::Alarms;

/// For the whole of a stop: under the 30 s after which Docker and Kubernetes kill.
const STOP_DEADLINE: Duration = Duration::from_secs(25);

/// How often it is looked whether the store's log should be folded.
const COMPACTION_CHECK: Duration = Duration::from_secs(5);

/// A house with its doors closed: everything is open but nothing is served yet.
pub struct App {
    public: Server,
    public_addr: SocketAddr,
    ops_addr: SocketAddr,
    router: Router,
    store: Arc<Store>,
    crew: Crew,
}

/// The tasks, in the order in which they are stopped.
struct Crew {
    fuse: Fuse,
    // Connections of the Market and the seller.
    public: Tasks,
    // The one behind the front door of stock: stops when nobody can come any more.
    ingest: Tasks,
    migrator: Tasks,
    background: Tasks,
    ops: Tasks,
}

impl App {
    /// Takes the addresses, opens the store, fills the book and starts the rooms.
    ///
    /// # Errors
    /// An address is taken, or the store cannot be opened.
    pub async fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let crew = Crew::new();
        let limits = Limits { max_connections: config.max_connections, ..Limits::default() };
        let public = bind(config.listen, limits, "listen")?;
        let ops_server = bind(config.ops_listen, Limits::default(), "ops_listen")?;
        let (public_addr, ops_addr) = (public.local_addr()?, ops_server.local_addr()?);

        // Up before the store is read, so that "starting" can be told from "dead".
        let ops = Ops::new(crew.public.clone());
        crew.ops.spawn("ops", ops_server.run(ops.clone().router(), crew.ops.clone()));

        let mut registry = Registry::with_prefix("stockbridge");
        public.metrics().register(&mut registry);
        let core = Core::open(&config, clock).await?;
        let migrator = core.start_migrator(&config, &crew, &mut registry)?;
        let ingest = core.start_ingest(migrator.clone(), &crew, &mut registry);
        crew.background.spawn("compaction", compact(core.clone(), crew.background.clone()));
        let pushes = Pushes::new(config.shops.len());
        let router = core.routes(&config, ingest, Arc::clone(&pushes), &mut registry);

        let store = Arc::clone(&core.store);
        ops.open(core.show(&config, migrator, pushes), registry);
        Ok(Self { public, public_addr, ops_addr, router, store, crew })
    }

    /// Where the Market and the seller call, with the real port if 0 was asked for.
    #[must_use]
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Where the operator looks.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Serves until `shutdown` resolves or a task dies, then stops in order.
    ///
    /// # Errors
    /// A task died, or the stop was cut short.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { public, public_addr, ops_addr, router, store, crew } = self;
        crew.public.spawn("listener", public.run(router, crew.public.clone()));
        info!(listen = %public_addr, ops = %ops_addr, "serving on {public_addr}, ops on {ops_addr}");
        let crashed = tokio::select! {
            () = shutdown => None,
            task = crew.fuse.blown() => Some(task),
        };
        info!("stopping");
        let stopped = timeout(STOP_DEADLINE, crew.stop()).await;
        // Whatever else was cut off, what was acknowledged is on disk already.
        let closed = timeout(Duration::from_secs(4), store.close()).await;
        if let Some(task) = crashed {
            bail!("the task {task} ended unasked");
        }
        stopped.map_err(|_| anyhow!("cut off after {STOP_DEADLINE:?}: {}", crew.remaining()))?;
        closed.context("close the store: it takes too long")?.context("close the store")?;
        info!("stopped");
        Ok(())
    }
}

impl Crew {
    fn new() -> Self {
        let fuse = Fuse::default();
        let tasks = || Tasks::new(fuse.clone());
        Self {
            public: tasks(),
            ingest: tasks(),
            migrator: tasks(),
            background: tasks(),
            ops: tasks(),
            fuse,
        }
    }

    /// No new connections, requests in hand finish; then those who need no more requests; the
    /// operator's listener last, so that he can watch.
    async fn stop(&self) {
        for tasks in self.all() {
            tasks.stop();
            tasks.ended().await;
        }
    }

    fn all(&self) -> [&Tasks; 5] {
        [&self.public, &self.ingest, &self.migrator, &self.background, &self.ops]
    }

    fn remaining(&self) -> String {
        format!(
            "{} requests, {} batches under way to the Market",
            self.public.len(),
            self.migrator.len()
        )
    }
}

// A start that failed, or a second signal: the tasks that go down with the runtime have not
// crashed.
impl Drop for Crew {
    fn drop(&mut self) {
        self.all().into_iter().for_each(Tasks::stop);
    }
}

fn bind(addr: SocketAddr, limits: Limits, key: &str) -> anyhow::Result<Server> {
    Server::bind(addr, limits).with_context(|| format!("{key}: cannot listen on {addr}"))
}

/// What several rooms share.
#[derive(Clone)]
struct Core {
    store: Arc<Store>,
    book: Arc<StockBook>,
    ledger: Arc<Ledger>,
    // What the store remembers for each shop's lane.
    memories: Vec<Memory>,
    alarms: Alarms,
    clock: Clock,
}

impl Core {
    async fn open(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let keys: Vec<ShopKey> =
            config.shops.iter().map(|shop| shop_key(shop, &config.market_url)).collect();
        let place = store::Config { path: config.store.clone() };
        let opened = Store::open(&place, &keys).await.context("open the store")?;
        let Opened { store, book, acked, quarantine, spent } = opened;
        let skus: usize = book.shops().map(|shop| book.len(shop)).sum();
        info!(skus, shops = keys.len(), "the store is read: {skus} SKUs are known");
        let memories = quarantine
            .into_iter()
            .zip(spent)
            .map(|(quarantined, spent)| Memory { quarantined, spent })
            .collect();
        Ok(Self {
            store: Arc::new(store),
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new(acked)),
            memories,
            alarms: Alarms::new(clock),
            clock,
        })
    }

    fn start_migrator(
        &self,
        config: &Config,
        crew: &Crew,
        registry: &mut Registry,
    ) -> anyhow::Result<Migrator> {
        let client = http::client(&config.outbound()).context("prepare to call the Market")?;
        let metrics = migrator::Metrics::default();
        metrics.register(registry);
        let context = migrator::Context {
            book: Arc::clone(&self.book),
            ledger: Arc::clone(&self.ledger),
            store: Arc::clone(&self.store),
            market: MarketClient::new(client, &config.market_url),
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics,
        };
        let targets = targets(config, &self.memories);
        Ok(Migrator::start(&context, targets, rand::random(), &crew.migrator))
    }

    fn start_ingest(&self, migrator: Migrator, crew: &Crew, registry: &mut Registry) -> Ingest {
        let metrics = ingest::Metrics::default();
        metrics.register(registry);
        let (ingest, worker) = ingest::open(
            Arc::clone(&self.book),
            Arc::clone(&self.store),
            self.clock,
            self.alarms.clone(),
            metrics,
            Box::new(move |shop, skus| migrator.nudge(shop, skus)),
        );
        crew.ingest.spawn("ingest", worker.run(crew.ingest.clone()));
        ingest
    }

    /// Everything that is served to the Market and to the seller.
    fn routes(
        &self,
        config: &Config,
        ingest: Ingest,
        pushes: Arc<Pushes>,
        registry: &mut Registry,
    ) -> Router {
        let asked = legacy::Context {
            book: Arc::clone(&self.book),
            pushes,
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics: legacy::Metrics::default(),
        };
        asked.metrics.register(registry);
        let fed = partner::Context {
            ingest,
            book: Arc::clone(&self.book),
            clock: self.clock,
            metrics: partner::Metrics::default(),
        };
        fed.metrics.register(registry);
        let nothing = async |uri: Uri| {
            if partner::is_partner_path(uri.path()) {
                return partner::nothing_here();
            }
            let message = "there is nothing at this path";
            Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
        };
        let layers = ServiceBuilder::new()
            // Neither a span nor a log line ever shows these.
            .layer(SetSensitiveRequestHeadersLayer::new([
                AUTHORIZATION,
                HeaderName::from_static("api-key"),
            ]))
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            // Failures are logged where they are handled, with their cause.
            .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
            .layer(PropagateRequestIdLayer::x_request_id());
        legacy::router(&asked, legacy_shops(config))
            .merge(partner::router(fed, partner_shops(config)))
            .fallback(nothing)
            .layer(layers)
    }

    fn show(self, config: &Config, migrator: Migrator, pushes: Arc<Pushes>) -> House {
        let shops = config.shops.iter().map(|shop| (shop.name.clone(), shop.campaign)).collect();
        House {
            shops,
            book: self.book,
            ledger: self.ledger,
            migrator,
            pushes,
            store: self.store,
            alarms: self.alarms,
            cutoff: config.cutoff,
            started: self.clock.now(),
            clock: self.clock,
        }
    }
}

/// The path only: the query may hold a token.
fn span(request: &Request<Body>) -> Span {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let (method, path) = (request.method(), request.uri().path());
    debug_span!("request", %method, path, request.id = id)
}

/// Folds the store's log whenever it has grown enough.
async fn compact(core: Core, tasks: Tasks) {
    let mut checks = interval(COMPACTION_CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = checks.tick() => {}
        }
        if !core.store.wants_compaction() {
            continue;
        }
        let acked = |shop, id| core.ledger.get(shop, id);
        if let Err(error) = core.store.compact(&core.book, acked).await {
            warn!(error = %error, "could not fold the store's log, trying again");
        }
    }
}

// === From the configuration to what each room needs ===

/// Where a shop's stock goes, in words that change exactly if the Market's copy is another.
fn shop_key(shop: &ShopConfig, market_url: &str) -> ShopKey {
    let target = match &shop.address {
        Address::Campaign { id } => format!("{market_url} campaign {id}"),
        Address::Business { id, warehouses } => {
            format!("{market_url} business {id} warehouses {warehouses:?}")
        }
    };
    ShopKey { name: shop.name.clone(), target }
}

fn ids(config: &Config) -> impl Iterator<Item = (ShopId, &ShopConfig)> {
    (0..).map(ShopId).zip(&config.shops)
}

fn targets(config: &Config, memories: &[Memory]) -> Vec<(Target, Memory)> {
    ids(config)
        .zip(memories)
        .filter(|((_, shop), _)| shop.migrate == Mode::On)
        .map(|((id, shop), memory)| {
            let target = Target {
                shop: id,
                name: shop.name.clone(),
                campaign: shop.campaign,
                keys: shop.api_keys.clone(),
                parallel: shop.parallel,
                limit_share: shop.limit_share,
            };
            (target, memory.clone())
        })
        .collect()
}

fn legacy_shops(config: &Config) -> Vec<legacy::Shop> {
    ids(config)
        .map(|(id, shop)| legacy::Shop {
            id,
            name: shop.name.clone(),
            base_path: shop.base_path.clone(),
            tokens: shop.push_tokens.clone(),
            warehouses: shop.warehouses.clone(),
            unknown_sku: shop.unknown_sku,
            unavailable_status: shop.unavailable_status,
        })
        .collect()
}

fn partner_shops(config: &Config) -> Vec<partner::Shop> {
    ids(config)
        .map(|(id, shop)| partner::Shop {
            id,
            campaigns: std::iter::once(shop.campaign).chain(shop.feed_campaigns.clone()).collect(),
            feed_keys: shop.feed_keys.clone(),
            warehouses: shop.warehouses.clone(),
        })
        .collect()
}

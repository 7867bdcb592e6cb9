//! Composition root: the only module that depends on all others.
//!
//! [`App::build`] initialises the service, and [`App::run`] serves until the stop. The shared state
//! is in `services`, the public router in `router`, periodic tasks are in `background`, and
//! `wiring` converts the configuration for each module.

mod background;
mod chart_sampler;
mod followed_changes;
mod instance_guard;
mod leadership;
mod name_lease;
mod reload;
mod router;
mod services;
mod settings_publisher;
mod wiring;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::info;

use self::chart_sampler::ChartSampler;
pub use self::instance_guard::Ownership;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use strict_http::{HttpServer, ServerLimits};

use self::reload::{Reloader, ShopCredentials};
use self::services::Services;
use self::settings_publisher::SettingsPublisher;
use crate::auth_failures::AuthFailures;
use crate::config::Config;
use crate::event_log::{EventLog, ServiceEvent};
use crate::ops::access::AllowedHosts;
use crate::ops::{Login, Ops, ReloadHandle, ReloadRequest};
use crate::push_api::stocks_handler::LastRequests;
use crate::store::Store;
use crate::telemetry::{Alarms, LogFilter};
use crate::web;

/// Timeout of a stop. It is shorter than the 30 s after which Docker and Kubernetes kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// Timeout for closing the store and the event log after that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeout for an operator's request, both for receiving its body and for handling it.
const OPS_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Fully initialised service that does not accept requests yet.
pub struct App {
    public_server: HttpServer,
    public_addr: SocketAddr,
    ops_addr: SocketAddr,
    router: Router,
    store: Arc<Store>,
    events: EventLog,
    reload: ReloadHandle,
    reloader: Reloader,
    tasks: TaskGroups,
}

/// Groups of tasks, in the order in which they are stopped.
struct TaskGroups {
    crash_signal: CrashSignal,
    // Connections of the Market and the seller.
    public: Tasks,
    // Readers of sources. An incomplete delivery is read again at the next start.
    sources: Tasks,
    // The single writer of stock. It stops after everything that can send it updates.
    ingest: Tasks,
    migrator: Tasks,
    background: Tasks,
    ops: Tasks,
    // Writer of the event log. It stops after everything that records events.
    event_log: Tasks,
}

impl App {
    /// Binds the addresses, opens the store, fills the book and starts the modules.
    ///
    /// `ownership` decides what happens with a store that another installation has written.
    ///
    /// # Errors
    /// An address is in use, or the store cannot be opened.
    pub async fn build(config: Config, clock: Clock, ownership: Ownership) -> anyhow::Result<Self> {
        let tasks = TaskGroups::new();
        let limits = ServerLimits {
            max_connections: config.max_connections,
            max_connections_per_address: config.max_connections_per_address,
            ..ServerLimits::default()
        };
        let public_server = bind(config.listen, limits, "listen")?;
        let ops_server = bind(config.ops_listen, ops_limits(), "ops_listen")?;
        let (public_addr, ops_addr) = (public_server.local_addr()?, ops_server.local_addr()?);

        // The operator's listener starts before the store is read, so that "starting" differs from
        // "dead".
        let alarms = Alarms::new(clock);
        let (ops, auth_failures, (reload, reload_requests)) =
            start_ops(&config, clock, &alarms, (ops_server, ops_addr), &tasks);
        let login = ops.login().clone();

        let mut registry = Registry::with_prefix("stockbridge");
        public_server.metrics().register(&mut registry);
        let (services, previous) =
            Services::open(&config, (clock, alarms), ownership, &tasks).await?;
        let (leases, source_leases) =
            leadership::start(&services, &config, previous.restore, &tasks.background).await;
        let (migrator, migrator_metrics) =
            services.start_migrator(&config, (previous.workers, leases), &tasks, &mut registry)?;
        let replica = config.replica.as_deref();
        let settings = SettingsPublisher::publish_at_start(&services, &config);
        let permit =
            followed_changes::start(&services, migrator.clone(), replica, &tasks.background)
                .await?;
        let ingest = services.start_ingest(migrator.clone(), &tasks, &mut registry);
        background::start(&services, &config, &tasks.background);
        services
            .start_notifications(&config, &previous.notes, &tasks.background, &mut registry)
            .await;
        let last_requests = LastRequests::restore(&services.data.book, &services.data.activity);
        let source_manager = services
            .open_sources(&config, source_leases, ingest.clone())
            .await?;
        source_manager
            .start(&tasks.sources)
            .context("start the sources")?;
        auth_failures.register(&mut registry);
        let credentials: Vec<_> = config.shops.iter().map(ShopCredentials::new).collect();
        let (router, push_metrics) = services.routes(
            (&config, &credentials),
            ingest,
            (&source_manager, &tasks.sources),
            (auth_failures, Arc::clone(&last_requests), permit.clone()),
            &mut registry,
        );

        let sampler = ChartSampler {
            services: services.clone(),
            migrator: migrator.clone(),
            migrator_metrics,
            push_metrics,
            last_counts: HashMap::new(),
        };
        sampler.start(previous.chart_file, &tasks.background);
        let (store, events) = (Arc::clone(&services.store), services.events.clone());
        let reloader = Reloader {
            at_start: config.clone(),
            current: config.clone(),
            requests: reload_requests,
            credentials,
            login,
            source_manager: source_manager.clone(),
            migrator: migrator.clone(),
            alarms: services.alarms.clone(),
            events: services.events.clone(),
            log_filter: None,
            settings,
        };
        ops.set_ready(
            services.into_ops_state(
                (&config, [public_addr, ops_addr]),
                migrator,
                (last_requests, source_manager, permit),
            ),
            registry,
        );
        Ok(Self {
            public_server,
            public_addr,
            ops_addr,
            router,
            store,
            events,
            reload,
            reloader,
            tasks,
        })
    }

    /// Lets a reload of the configuration replace this filter of log lines.
    #[must_use]
    pub fn with_log_filter(mut self, log_filter: LogFilter) -> Self {
        self.reloader.log_filter = Some(log_filter);
        self
    }

    /// Returns the handle that requests reloads of the configuration.
    #[must_use]
    pub fn reload_handle(&self) -> ReloadHandle {
        self.reload.clone()
    }

    /// Returns the address for the Market and the seller, with the real port if port 0 was configured.
    #[must_use]
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Returns the address of the operator API.
    #[must_use]
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Serves until `shutdown` resolves or a task dies, then stops all groups in order.
    ///
    /// # Errors
    /// A task died, or the stop did not end within its timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (public_addr, ops_addr, tasks) = (self.public_addr, self.ops_addr, self.tasks);
        let reloader = self.reloader.run(tasks.background.clone());
        tasks.background.spawn("reload", reloader);
        let listener = self.public_server.run(self.router, tasks.public.clone());
        tasks.public.spawn("listener", listener);
        info!(listen = %public_addr, ops = %ops_addr, "serving on {public_addr}, ops on {ops_addr}");
        let crashed = tokio::select! {
            () = shutdown => None,
            cause = tasks.crash_signal.tripped() => Some(cause),
        };
        info!("stopping");
        let stopped = timeout(STOP_TIMEOUT, tasks.stop()).await;
        let failure = match (&crashed, &stopped) {
            (Some(cause), _) => Some(cause.clone()),
            (None, Err(_)) => Some("it did not end in time".to_owned()),
            (None, Ok(())) => None,
        };
        self.events.record(ServiceEvent::ServiceStopped {
            failure: failure.map(Into::into),
        });
        // Even after a timeout, everything acknowledged is on disk already.
        let (closed, _flushed) = tokio::join!(
            timeout(CLOSE_TIMEOUT, self.store.close()),
            timeout(CLOSE_TIMEOUT, tasks.stop_event_log())
        );
        if let Some(cause) = crashed {
            bail!("{cause}");
        }
        stopped.map_err(|_| {
            anyhow!(
                "the stop did not end within {STOP_TIMEOUT:?}: {} remain",
                tasks.remaining()
            )
        })?;
        closed
            .context("close the store: timeout")?
            .context("close the store")?;
        info!("stopped");
        Ok(())
    }
}

impl TaskGroups {
    fn new() -> Self {
        let crash_signal = CrashSignal::default();
        let tasks = || Tasks::new(crash_signal.clone());
        Self {
            public: tasks(),
            sources: tasks(),
            ingest: tasks(),
            migrator: tasks(),
            background: tasks(),
            ops: tasks(),
            event_log: tasks(),
            crash_signal,
        }
    }

    /// Stops the groups in order: first the public listener, which finishes its requests, then the
    /// writers, and last the operator's listener, so that the operator can watch the stop.
    async fn stop(&self) {
        for tasks in self.all() {
            tasks.stop();
            tasks.ended().await;
        }
    }

    async fn stop_event_log(&self) {
        self.event_log.stop();
        self.event_log.ended().await;
    }

    fn all(&self) -> [&Tasks; 6] {
        [
            &self.public,
            &self.sources,
            &self.ingest,
            &self.migrator,
            &self.background,
            &self.ops,
        ]
    }

    fn remaining(&self) -> String {
        format!(
            "{} connections and {} migrator tasks",
            self.public.len(),
            self.migrator.len()
        )
    }
}

// After a failed start or a second signal the runtime drops the tasks. They have not crashed, so
// they must not trip the crash signal.
impl Drop for TaskGroups {
    fn drop(&mut self) {
        self.all().into_iter().for_each(Tasks::stop);
        self.event_log.stop();
    }
}

/// Starts the operator's listener, which reports "starting" until the start is complete.
fn start_ops(
    config: &Config,
    clock: Clock,
    alarms: &Alarms,
    (ops_server, ops_addr): (HttpServer, SocketAddr),
    tasks: &TaskGroups,
) -> (
    Ops,
    AuthFailures,
    (ReloadHandle, mpsc::Receiver<ReloadRequest>),
) {
    let auth_failures = AuthFailures::new(
        clock,
        alarms.clone(),
        config.trusted_proxies.clone(),
        config.max_connections,
    );
    let login = Login::new(
        config.ops_password.as_ref(),
        config.ops_protect_metrics,
        clock,
        auth_failures.clone(),
    );
    let (reload, reload_requests) = ReloadHandle::new();
    let ops = Ops::new(tasks.public.clone(), login, reload.clone());
    let time_zone = config.time_zone;
    let ops_router = ops.clone().router(
        AllowedHosts::new(ops_addr, &config.ops_hosts),
        web::routes(web::Config { time_zone }),
        web::unknown_page(web::Config { time_zone }),
    );
    tasks
        .ops
        .spawn("ops", ops_server.run(ops_router, tasks.ops.clone()));
    (ops, auth_failures, (reload, reload_requests))
}

fn ops_limits() -> ServerLimits {
    ServerLimits {
        // An operator may import a large file and wait until it is applied.
        body_timeout: OPS_TIMEOUT,
        handler_timeout: OPS_TIMEOUT,
        // The stream that keeps a page current is one long response.
        write_total_timeout: OPS_TIMEOUT,
        ..ServerLimits::default()
    }
}

fn bind(addr: SocketAddr, limits: ServerLimits, key: &str) -> anyhow::Result<HttpServer> {
    HttpServer::bind(addr, limits).with_context(|| format!("{key}: cannot listen on {addr}"))
}

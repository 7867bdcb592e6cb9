//! State shared by several modules, and the start of the modules that use it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lifecycle::{Clock, Tasks};
use market_api::partner::client::MarketClient;
use prometheus_client::registry::Registry;
use strict_http::reachable_address;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::instance_guard::{self, Ownership};
use super::name_lease::{self, CRASH_WAIT, NameLease, RETRY_INTERVAL};
use super::{TaskGroups, leadership, wiring};
use crate::chart_history::{ChartFile, ChartHistory};
use crate::config::Config;
use crate::event_log::EventLog;
use crate::ingest::{self, Ingest, OriginTimes};
use crate::migrator::{self, Migrator, RestoreFn, RestoredState, ShopData, ShopLeases, selftest};
use crate::notify;
use crate::ops::OpsState;
use crate::push_api::stocks_handler::LastRequests;
use crate::replicas::{ReplicaBoard, ServingPermit};
use crate::sources::{self, KnownSkus, SourceLeases, SourceManager};
use crate::store::{self, Notes, OpenedStore, ShopIdentity, Store, StoreError};
use crate::telemetry::{AlarmKind, Alarms};

/// State shared by several modules.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) store: Arc<Store>,
    pub(super) data: ShopData,
    pub(super) events: EventLog,
    pub(super) charts: ChartHistory,
    pub(super) origin_times: Arc<OriginTimes>,
    // Reason why nothing may be sent, if any.
    not_sending_reason: Option<String>,
    /// Name of this run of the process in leases; `None` for a store in a directory.
    pub(super) lease_owner: Option<String>,
    pub(super) replicas: ReplicaBoard,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    // Names of the shops, in the order of the book.
    pub(super) names: Arc<[String]>,
    pub(super) started: DateTime<Utc>,
}

/// Opens the store, and waits if a process that may have crashed has it with another target. With
/// [`Ownership::TakeOver`] also one that was copied to another place, because
/// that copy is not used.
async fn open_store(
    config: &store::Config,
    shops: &[ShopIdentity],
    ownership: Ownership,
) -> anyhow::Result<OpenedStore> {
    let mut opened = Store::open(config, shops).await;
    if ownership == Ownership::TakeOver
        && let Err(StoreError::CopiedAway { copy, .. }) = &opened
    {
        warn!("uses the store again that was copied to {copy}");
        store::reclaim_copied_store(config)
            .await
            .context("use a store again that was copied")?;
        opened = Store::open(config, shops).await;
    }
    let give_up_at = Instant::now() + CRASH_WAIT;
    let mut has_waited = false;
    // A process that has crashed counts as live for some seconds.
    while let Err(error @ StoreError::TargetInUse { .. }) = &opened
        && Instant::now() < give_up_at
    {
        if !has_waited {
            info!("waiting up to {} s: {error}", CRASH_WAIT.as_secs());
        }
        has_waited = true;
        sleep(RETRY_INTERVAL).await;
        opened = Store::open(config, shops).await;
    }
    opened.context("open the store")
}

/// State of the previous run, for the modules.
pub(super) struct PreviousState {
    pub(super) notes: Notes,
    /// State of the migrator's worker of each shop.
    pub(super) workers: Vec<RestoredState>,
    /// Reads the same state from the notes of another process.
    pub(super) restore: RestoreFn,
    pub(super) chart_file: ChartFile,
}

impl Services {
    pub(super) async fn open(
        config: &Config,
        (clock, alarms): (Clock, Alarms),
        ownership: Ownership,
        tasks: &TaskGroups,
    ) -> anyhow::Result<(Self, PreviousState)> {
        let keys: Vec<ShopIdentity> = config
            .shops
            .iter()
            .map(|shop| wiring::shop_key(shop, &config.market_url))
            .collect();
        let store_config = store::Config {
            path: config.store.clone(),
            url: config.store_url.clone(),
        };
        let opened = open_store(&store_config, &keys, ownership).await?;
        let (store, notes) = (opened.store, opened.notes);
        let clock = match &config.replica {
            Some(_) => leadership::clock_of_replicas(&store, clock).await?,
            None => clock,
        };
        let name_lease = NameLease::take(&store, config.replica.as_deref()).await?;
        store.check_copy_marks().await.context("open the store")?;
        store.check_targets().await.context("open the store")?;
        let lease_owner = name_lease.as_ref().map(|lease| lease.owner().to_owned());
        if let Some(lease) = name_lease {
            let keeping = lease.keep(tasks.background.clone());
            tasks.background.spawn(name_lease::TASK, keeping);
        }
        let data = ShopData::new(opened.book, opened.acked, opened.activity);
        let skus: usize = data.book.shops().map(|shop| data.book.len(shop)).sum();
        info!(
            skus,
            shops = keys.len(),
            "the store is open: {skus} SKUs are known"
        );
        let names: Vec<String> = config.shops.iter().map(|shop| shop.name.clone()).collect();
        let events = EventLog::start(
            &config.store,
            clock,
            (&alarms, &names),
            // Ends after the modules that raise alarms, and before the writer.
            (&tasks.event_log, &tasks.background),
        )
        .await;
        let (charts, chart_file) = ChartHistory::open(&config.store, names.clone(), clock).await;
        for shop in &opened.absent_shops {
            selftest::report_absent_shop(shop, &alarms);
        }
        let not_sending_reason =
            instance_guard::check(&store, &notes, &config.instance, ownership, &alarms).await?;
        let restore = wiring::restore_worker(
            (config, keys),
            not_sending_reason.is_none(),
            (clock, alarms.clone()),
        );
        let workers = opened.quarantine.into_iter().zip(opened.recent_sends);
        let workers = workers
            .zip(data.book.shops())
            .map(|((quarantined, recent_sends), shop)| RestoredState {
                quarantined,
                recent_sends,
                ..restore(shop, &notes)
            });
        let workers = workers.collect();
        let services = Self {
            origin_times: Arc::new(OriginTimes::restore(&notes, data.book.shops())),
            store: Arc::new(store),
            data,
            events,
            charts,
            not_sending_reason,
            lease_owner,
            replicas: ReplicaBoard::default(),
            alarms,
            clock,
            names: names.into(),
            started: clock.now(),
        };
        let previous = PreviousState {
            notes,
            workers,
            restore,
            chart_file,
        };
        Ok((services, previous))
    }

    pub(super) fn start_migrator(
        &self,
        config: &Config,
        (restored_states, leases): (Vec<RestoredState>, ShopLeases),
        tasks: &TaskGroups,
        registry: &mut Registry,
    ) -> anyhow::Result<(Migrator, migrator::Metrics)> {
        let outbound = config.outbound();
        let client = strict_http::client(&outbound).context("prepare to call the Market")?;
        let metrics = migrator::Metrics::default();
        metrics.register(registry);
        let context = migrator::Context {
            data: self.data.clone(),
            readback_every: config.verify_every,
            grace: config.grace,
            store: Arc::clone(&self.store),
            leases,
            market: MarketClient::new(client, &config.market_url),
            request_timeout: outbound.total_timeout,
            clock: self.clock,
            alarms: self.alarms.clone(),
            events: self.events.clone(),
            metrics: metrics.clone(),
        };
        // With a foreign store the Market is not called at all, not even for a read-back.
        let targets = match self.not_sending_reason {
            Some(_) => Vec::new(),
            None => wiring::targets(config, restored_states),
        };
        let migrator = Migrator::start(&context, targets, rand::random(), &tasks.migrator);
        Ok((migrator, metrics))
    }

    /// Starts the channels that send alarms to people.
    pub(super) async fn start_notifications(
        &self,
        config: &Config,
        notes: &Notes,
        tasks: &Tasks,
        registry: &mut Registry,
    ) {
        let metrics = notify::Metrics::new(&config.notify);
        metrics.register(registry);
        let context = notify::Context {
            alarms: self.alarms.clone(),
            clock: self.clock,
            outbound: config.outbound(),
            page_url: config.page_url.clone(),
            shops: self.names.to_vec(),
            metrics,
        };
        notify::start(&config.notify, &context, notes, &self.store, tasks).await;
    }

    pub(super) fn start_ingest(
        &self,
        migrator: Migrator,
        tasks: &TaskGroups,
        registry: &mut Registry,
    ) -> Ingest {
        let metrics = ingest::Metrics::default();
        metrics.register(registry);
        let services = self.clone();
        let (ingest, worker) = ingest::create(
            Arc::clone(&self.data.book),
            Arc::clone(&self.store),
            self.clock,
            self.alarms.clone(),
            metrics,
            Box::new(move |stated| {
                let (shop, changed) = (stated.shop, stated.changed);
                if changed.is_empty() && stated.repeated.is_empty() {
                    return;
                }
                services.origin_times.record(shop, stated.origin, stated.at);
                let name = &services.names[shop.index()];
                services.alarms.clear(AlarmKind::SourceSilent, name);
                let origin = stated.origin.number();
                let statement = (shop, origin, stated.at);
                services
                    .data
                    .record_statement(statement, changed, stated.repeated);
                // At once, so that the SKUs of a call are sent together.
                if !stated.all_changed.is_empty() {
                    migrator.notify_changed(shop, stated.all_changed);
                }
            }),
        );
        tasks
            .ingest
            .spawn("ingest", worker.run(tasks.ingest.clone()));
        ingest
    }

    /// Opens the sources and applies their stored statements to the book. With other replicas, the
    /// sources of a shop are opened when this one gets their lease.
    pub(super) async fn open_sources(
        &self,
        config: &Config,
        leases: Option<SourceLeases>,
        ingest: Ingest,
    ) -> anyhow::Result<SourceManager> {
        let context = sources::Context {
            book: Arc::clone(&self.data.book),
            ingest,
            clock: self.clock,
            alarms: self.alarms.clone(),
            events: self.events.clone(),
        };
        let data = self.data.clone();
        let known: KnownSkus = Arc::new(move |shop| data.known_skus(shop));
        let (directory, plans) = (config.store.join("sources"), wiring::source_plans(config));
        let outbound = config.outbound();
        let manager = if let Some(leases) = leases {
            SourceManager::of_replica(&directory, plans, (&outbound, leases), known, &context)
        } else {
            let images = self.store.statement_images().await;
            let images = (&outbound, images.as_ref());
            SourceManager::open_alone(&directory, plans, images, known, &context).await
        };
        manager.context("open the sources")
    }

    pub(super) fn into_ops_state(
        self,
        (config, listeners): (&Config, [SocketAddr; 2]),
        migrator: Migrator,
        (last_requests, source_manager, permit): (Arc<LastRequests>, SourceManager, ServingPermit),
    ) -> OpsState {
        let [public_address, ops_address] = listeners.map(reachable_address);
        OpsState {
            shops: config.shops.iter().map(wiring::ops_shop).collect(),
            data: self.data,
            events: self.events,
            charts: self.charts,
            origin_times: self.origin_times,
            source_manager,
            migrator,
            last_requests,
            permit,
            replicas: self.replicas,
            store: self.store,
            alarms: self.alarms,
            replica: config
                .replica
                .clone()
                .filter(|_| config.store_url.is_some()),
            not_sending_reason: self.not_sending_reason,
            stale_after: config.stale_after,
            cutoff: config.cutoff,
            started: self.started,
            clock: self.clock,
            public_address,
            ops_address,
        }
    }
}

//! State shared by several modules, and the start of the modules that use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lifecycle::Clock;
use lifecycle::Tasks;
use market_api::partner::client::MarketClient;
use prometheus_client::registry::Registry;
use stock::{Activity, Hour, LastStated, ShopId, Sku, StockBook};
use tracing::{info, warn};

use super::instance_guard::{self, Ownership};
use super::{TaskGroups, wiring};
use crate::chart_history::{ChartFile, ChartHistory};
use crate::config::Config;
use crate::event_log::{self, EventLog};
use crate::history::{EventKind, History};
use crate::ingest::{self, Ingest, Origin, OriginTimes, StatedSkus};
use crate::migrator::readback::Observations;
use crate::migrator::{self, Ledger, Migrator, Mode, RestoredState, selftest};
use crate::notify;
use crate::ops::{ListenerAddresses, OpsState};
use crate::push_api::stocks_handler::LastRequests;
use crate::sources::{self, SourceManager};
use crate::store::{self, AbsentShop, Notes, OpenedStore, ShopIdentity, Store};
use crate::telemetry::{AlarmKind, Alarms};

/// State shared by several modules.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) store: Arc<Store>,
    pub(super) book: Arc<StockBook>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) activity: Arc<Activity>,
    pub(super) observations: Arc<Observations>,
    pub(super) history: Arc<History>,
    pub(super) events: EventLog,
    pub(super) charts: ChartHistory,
    pub(super) sources: Arc<OriginTimes>,
    // State of each shop's migrator worker, restored from the store.
    restored_states: Vec<RestoredState>,
    // Reason why nothing may be sent, if any.
    not_sending_reason: Option<String>,
    // Alarms that each channel sent before the start, by its name.
    sent_alarms: BTreeMap<String, String>,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    // Names of the shops, in the order of the book.
    pub(super) names: Arc<[String]>,
    pub(super) started: DateTime<Utc>,
}

impl Services {
    pub(super) async fn open(
        config: &Config,
        (clock, alarms): (Clock, Alarms),
        ownership: Ownership,
        tasks: &TaskGroups,
    ) -> anyhow::Result<(Self, ChartFile)> {
        let keys: Vec<ShopIdentity> = config
            .shops
            .iter()
            .map(|shop| wiring::shop_key(shop, &config.market_url))
            .collect();
        let store_config = store::Config {
            path: config.store.clone(),
        };
        let opened = Store::open(&store_config, &keys)
            .await
            .context("open the store")?;
        let OpenedStore {
            store,
            book,
            acked,
            quarantine,
            recent_sends,
            activity,
            notes,
            absent_shops,
        } = opened;
        let skus: usize = book.shops().map(|shop| book.len(shop)).sum();
        info!(
            skus,
            shops = keys.len(),
            "the store is open: {skus} SKUs are known"
        );
        let names: Vec<String> = config.shops.iter().map(|shop| shop.name.clone()).collect();
        let events = start_event_log(config, clock, (&alarms, &names), tasks).await;
        let (charts, chart_file) = ChartHistory::open(&config.store, names, clock).await;
        absent_shops
            .iter()
            .for_each(|shop| report_absent_shop(shop, &alarms));
        let not_sending_reason =
            instance_guard::check(&store, &notes, &config.instance, ownership, &alarms).await?;
        let restored_states = quarantine
            .into_iter()
            .zip(recent_sends)
            .zip(book.shops().zip(&keys).zip(&config.shops))
            .map(|((quarantined, recent_sends), ((id, key), shop))| {
                let note_time = |name| {
                    let (at, target) = notes.get(Some(id), name)?.split_once(' ')?;
                    at.parse().ok().filter(|_| target == key.target)
                };
                let last_equal = note_time(migrator::LAST_EQUAL_NOTE);
                let limited_until = note_time(migrator::LIMITED_UNTIL_NOTE);
                let may_call_market = not_sending_reason.is_none() && shop.migrate != Mode::Off;
                let location = selftest::campaign_location(&config.market_url, shop.campaign);
                let location = Some(location).filter(|_| may_call_market);
                let hidden_skus =
                    hidden_products(&notes, (id, &shop.name), location.as_deref(), &alarms);
                let paused_since = operator_pause(&notes, id, clock.now());
                RestoredState {
                    quarantined,
                    recent_sends,
                    last_equal,
                    limited_until,
                    hidden_skus,
                    paused_since,
                }
            })
            .collect();
        let sent_alarms = notes.with_prefix(None, notify::NOTE_PREFIX);
        let sent_alarms = sent_alarms.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let sent_alarms = sent_alarms.collect();
        let services = Self {
            sources: Arc::new(restore_origin_times(&notes, &book)),
            store: Arc::new(store),
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new(acked)),
            activity: Arc::new(activity),
            observations: Arc::new(Observations::new(keys.len())),
            history: Arc::default(),
            events,
            charts,
            restored_states,
            not_sending_reason,
            sent_alarms,
            alarms,
            clock,
            names: config.shops.iter().map(|shop| shop.name.clone()).collect(),
            started: clock.now(),
        };
        Ok((services, chart_file))
    }

    /// Restores the time of the Market's last request from the saved activity.
    pub(super) fn restore_last_requests(&self, last_requests: &LastRequests) {
        for shop in self.book.shops() {
            let mut latest = None;
            self.book.for_each(shop, |_, entry| {
                latest = latest.max(self.activity.last_requested(shop, entry.id()));
            });
            if let Some(hour) = latest {
                last_requests.restore(shop, hour.start().to_utc());
            }
        }
    }

    pub(super) fn start_migrator(
        &self,
        config: &Config,
        tasks: &TaskGroups,
        registry: &mut Registry,
    ) -> anyhow::Result<(Migrator, migrator::Metrics)> {
        let client =
            strict_http::client(&config.outbound()).context("prepare to call the Market")?;
        let metrics = migrator::Metrics::default();
        metrics.register(registry);
        let context = migrator::Context {
            book: Arc::clone(&self.book),
            ledger: Arc::clone(&self.ledger),
            activity: Arc::clone(&self.activity),
            observations: Arc::clone(&self.observations),
            history: Arc::clone(&self.history),
            readback_every: config.verify_every,
            grace: config.grace,
            store: Arc::clone(&self.store),
            market: MarketClient::new(client, &config.market_url),
            clock: self.clock,
            alarms: self.alarms.clone(),
            events: self.events.clone(),
            metrics: metrics.clone(),
        };
        // With a foreign store the Market is not called at all, not even for a read-back.
        let targets = match self.not_sending_reason {
            Some(_) => Vec::new(),
            None => wiring::targets(config, &self.restored_states),
        };
        for (target, _) in targets
            .iter()
            .filter(|(target, _)| target.mode == Mode::DryRun)
        {
            let name = &target.name;
            warn!(
                shop = name,
                "DRY RUN: stock of {name} is compared with the Market, but not sent"
            );
        }
        let migrator = Migrator::start(&context, targets, rand::random(), &tasks.migrator);
        Ok((migrator, metrics))
    }

    /// Starts the channels that send alarms to people.
    pub(super) async fn start_notifications(&self, config: &Config, tasks: &Tasks) {
        let context = notify::Context {
            alarms: self.alarms.clone(),
            clock: self.clock,
            outbound: config.outbound(),
            page_url: config.page_url.clone(),
            shops: self.names.to_vec(),
        };
        let (saved, store) = (&self.sent_alarms, &self.store);
        notify::start(&config.notify, &context, saved, store, tasks).await;
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
            Arc::clone(&self.book),
            Arc::clone(&self.store),
            self.clock,
            self.alarms.clone(),
            metrics,
            Box::new(move |asserted| {
                services.record_statements(asserted);
                if !asserted.changed.is_empty() {
                    migrator.notify_changed(asserted.shop, asserted.changed);
                }
            }),
        );
        tasks
            .ingest
            .spawn("ingest", worker.run(tasks.ingest.clone()));
        ingest
    }

    /// Records a statement of stock, changed or not.
    fn record_statements(&self, asserted: &StatedSkus<'_>) {
        let StatedSkus {
            shop,
            origin,
            at,
            changed,
            repeated,
        } = *asserted;
        if changed.is_empty() && repeated.is_empty() {
            return;
        }
        self.sources.record(shop, origin, at);
        self.alarms
            .clear(AlarmKind::SourceSilent, &self.names[shop.index()]);
        let assertion = LastStated {
            hour: Hour::containing(at.into()),
            origin: origin.number(),
        };
        for (skus, event) in [
            (changed, EventKind::Stated(origin.number())),
            (repeated, EventKind::Repeated(origin.number())),
        ] {
            let entries = self.book.get_many(shop, skus.iter().map(Sku::as_str));
            let known = || entries.iter().flatten();
            let named = skus.iter().zip(&entries);
            self.activity.promote_known(
                shop,
                named.filter_map(|(sku, e)| Some((sku, e.as_ref()?.id()))),
            );
            self.activity
                .record_stated(shop, known().map(|entry| entry.id()), assertion);
            let counts = known().map(|entry| (entry.id(), entry.level().count));
            self.history.record(shop, at, event, counts);
        }
    }

    /// Opens the sources and applies their stored statements to the book.
    pub(super) async fn open_sources(
        &self,
        config: &Config,
        ingest: Ingest,
    ) -> anyhow::Result<SourceManager> {
        let context = sources::Context {
            book: Arc::clone(&self.book),
            ingest,
            clock: self.clock,
            alarms: self.alarms.clone(),
            events: self.events.clone(),
        };
        let services = self.clone();
        let list_known_skus = Arc::new(move |shop| services.known_skus(shop));
        let directory = config.store.join("sources");
        let source_plans = wiring::source_plans(config);
        let manager = SourceManager::open(
            &directory,
            source_plans,
            &config.outbound(),
            list_known_skus,
            &context,
        )
        .await;
        manager.context("open the sources")
    }

    /// Returns all known SKUs: those in the book, those that the Market requested, and those that
    /// read-backs showed.
    fn known_skus(&self, shop: ShopId) -> Vec<Sku> {
        let mut skus = Vec::with_capacity(self.book.len(shop));
        self.book.for_each(shop, |sku, _| skus.push(sku.clone()));
        self.activity
            .for_each_unknown(shop, &self.book, |sku, _| skus.push(sku.clone()));
        skus.extend(self.observations.unknown_skus(shop));
        skus
    }

    pub(super) fn into_ops_state(
        self,
        (config, listeners): (&Config, ListenerAddresses),
        migrator: Migrator,
        (last_requests, source_manager): (Arc<LastRequests>, SourceManager),
    ) -> OpsState {
        OpsState {
            shops: config.shops.iter().map(wiring::ops_shop).collect(),
            book: self.book,
            ledger: self.ledger,
            activity: self.activity,
            observations: self.observations,
            history: self.history,
            events: self.events,
            charts: self.charts,
            sources: self.sources,
            source_manager,
            migrator,
            last_requests,
            store: self.store,
            alarms: self.alarms,
            not_sending_reason: self.not_sending_reason,
            stale_after: config.stale_after,
            cutoff: config.cutoff,
            started: self.started,
            clock: self.clock,
            listeners,
        }
    }
}

/// Opens the event log and starts its writer and the recorder of alarms.
async fn start_event_log(
    config: &Config,
    clock: Clock,
    (alarms, shops): (&Alarms, &[String]),
    tasks: &TaskGroups,
) -> EventLog {
    let (events, writer) = EventLog::open(&config.store, clock).await;
    let writer_tasks = &tasks.event_log;
    writer_tasks.spawn("event_log", writer.run(writer_tasks.clone()));
    // Ends after the modules that raise alarms, and before the writer.
    let background = &tasks.background;
    let (log, alarms, shops) = (events.clone(), alarms.clone(), shops.to_vec());
    let recorder = event_log::record_alarms(log, alarms, shops, background.clone());
    background.spawn("alarm_events", recorder);
    events
}

/// Reports a shop that was renamed, or removed from the configuration.
fn report_absent_shop(shop: &AbsentShop, alarms: &Alarms) {
    let name = &shop.name;
    warn!(
        shop = name,
        "the store has stock of shop {name}, which is not in the configuration"
    );
    let hidden = shop.notes.iter().filter_map(|(note, place)| {
        note.strip_prefix(migrator::HIDDEN_NOTE_PREFIX)
            .map(|sku| format!("'{sku}' at {place}"))
    });
    let hidden: Vec<String> = hidden.collect();
    if !hidden.is_empty() {
        let text = format!(
            "a self-test was interrupted and left products of {name} hidden: {}. {name} is not \
             in the configuration any more, so they stay hidden. Add the shop again, or show the \
             products in the Market's cabinet",
            hidden.join(", ")
        );
        alarms.raise(AlarmKind::SelftestHidden, name, text);
    }
}

/// Returns the products that an interrupted self-test left hidden at the current forwarding target.
/// Raises an alarm about products hidden at another target, because the service cannot show them.
fn hidden_products(
    notes: &Notes,
    (id, shop): (ShopId, &str),
    here: Option<&str>,
    alarms: &Alarms,
) -> Vec<Sku> {
    let noted = notes.with_prefix(id, migrator::HIDDEN_NOTE_PREFIX);
    let noted = noted.filter_map(|(sku, place)| Some((Sku::parse(sku).ok()?, place)));
    let (ours, others): (Vec<_>, Vec<_>) = noted.partition(|(_, place)| here == Some(*place));
    if let Some((_, place)) = others.first() {
        let skus: Vec<Sku> = others.iter().map(|(sku, _)| sku.clone()).collect();
        let text = format!(
            "a self-test was interrupted and left products of {shop} hidden at {place}: {}. Stock \
             is not forwarded there any more, so they stay hidden. Show them in the Market's cabinet, \
             or restore the old forwarding target and restart",
            selftest::quoted_list(&skus)
        );
        // A successful self-test clears the alarm of the shop itself, so this one needs another subject.
        let about = here.map_or(shop.to_owned(), |_| format!("{shop} at {place}"));
        alarms.raise(AlarmKind::SelftestHidden, &about, text);
    }
    ours.into_iter().map(|(sku, _)| sku).collect()
}

/// Restores the operator's pause of a shop. A note that is not a time still pauses: sending against
/// the operator's will is worse than a wrong time.
fn operator_pause(notes: &Notes, id: ShopId, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = notes.get(Some(id), migrator::OPERATOR_PAUSE_NOTE)?;
    Some(text.parse().unwrap_or(now))
}

/// Restores the time of the last statement by each origin from the notes.
fn restore_origin_times(notes: &Notes, book: &StockBook) -> OriginTimes {
    let sources = OriginTimes::default();
    for shop in book.shops() {
        for (name, text) in notes.with_prefix(shop, ingest::STATED_NOTE_PREFIX) {
            if let (Some(origin), Ok(at)) = (Origin::from_name(name), text.parse()) {
                sources.record(shop, origin, at);
            }
        }
    }
    sources
}

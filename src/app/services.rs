use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, Request, StatusCode, Uri};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use tracing::{Span, debug_span, info, warn};

use super::instance_guard::{self, Ownership};
use super::{TaskGroups, wiring};
use crate::auth_failures::AuthFailures;
use crate::clock::Clock;
use crate::config::Config;
use crate::history::{EventKind, History};
use crate::http::{self, ErrorResponse};
use crate::ingest::{self, Ingest, Origin, OriginTimes, StatedSkus};
use crate::lifecycle::Tasks;
use crate::migrator::readback::Observations;
use crate::migrator::{self, Ledger, Migrator, Mode, RestoredState, selftest};
use crate::ops::OpsState;
use crate::partner_api::client::MarketClient;
use crate::partner_api::server as partner_api;
use crate::push_api::server::{self as push_api, LastRequests, ReadThrough};
use crate::sources::{self, SourceManager};
use crate::stock::{Activity, Hour, LastStated, ShopId, Sku, StockBook};
use crate::store::{self, AbsentShop, Notes, OpenedStore, ShopIdentity, Store};
use crate::telemetry::{AlarmKind, Alarms};

/// What several rooms share.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) store: Arc<Store>,
    pub(super) book: Arc<StockBook>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) activity: Arc<Activity>,
    pub(super) observations: Arc<Observations>,
    pub(super) history: Arc<History>,
    pub(super) sources: Arc<OriginTimes>,
    // What the store remembers for each shop's lane.
    lane_memories: Vec<RestoredState>,
    // Why nothing may be sent, if so.
    not_sending_reason: Option<String>,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    // The shops', in the book's order.
    pub(super) names: Arc<[String]>,
    pub(super) started: DateTime<Utc>,
}

impl Services {
    pub(super) async fn open(
        config: &Config,
        clock: Clock,
        ownership: Ownership,
    ) -> anyhow::Result<Self> {
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
            recent_sends: spent,
            activity: marks,
            notes,
            absent_shops: absent,
        } = opened;
        let skus: usize = book.shops().map(|shop| book.len(shop)).sum();
        info!(
            skus,
            shops = keys.len(),
            "the store is read: {skus} SKUs are known"
        );
        let alarms = Alarms::new(clock);
        absent
            .iter()
            .for_each(|shop| report_absent_shop(shop, &alarms));
        let not_sending_reason =
            instance_guard::check(&store, &notes, &config.instance, ownership, &alarms).await?;
        let lane_memories = quarantine
            .into_iter()
            .zip(spent)
            .zip(book.shops().zip(&keys).zip(&config.shops))
            .map(|((quarantined, spent), ((id, key), shop))| {
                let note_time = |name| {
                    let (at, target) = notes.get(Some(id), name)?.split_once(' ')?;
                    at.parse().ok().filter(|_| target == key.target)
                };
                let last_equal = note_time(migrator::LAST_EQUAL_NOTE);
                let limited_until = note_time(migrator::LIMITED_UNTIL_NOTE);
                let may_call_market = not_sending_reason.is_none() && shop.migrate != Mode::Off;
                let market_place = selftest::campaign_location(&config.market_url, shop.campaign);
                let market_place = Some(market_place).filter(|_| may_call_market);
                let hidden =
                    hidden_products(&notes, (id, &shop.name), market_place.as_deref(), &alarms);
                RestoredState {
                    quarantined,
                    recent_sends: spent,
                    last_equal,
                    limited_until,
                    hidden_skus: hidden,
                }
            })
            .collect();
        Ok(Self {
            sources: Arc::new(remember(&notes, &book)),
            store: Arc::new(store),
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new(acked)),
            activity: Arc::new(marks),
            observations: Arc::new(Observations::new(keys.len())),
            history: Arc::default(),
            lane_memories,
            not_sending_reason,
            alarms,
            clock,
            names: config.shops.iter().map(|shop| shop.name.clone()).collect(),
            started: clock.now(),
        })
    }

    /// When the Market last asked, as the marks have it.
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
    ) -> anyhow::Result<Migrator> {
        let client = http::client(&config.outbound()).context("prepare to call the Market")?;
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
            metrics,
        };
        // Held, nobody is called: not even to look.
        let targets = match self.not_sending_reason {
            Some(_) => Vec::new(),
            None => wiring::targets(config, &self.lane_memories),
        };
        for (target, _) in targets
            .iter()
            .filter(|(target, _)| target.mode == Mode::DryRun)
        {
            let name = &target.name;
            warn!(
                shop = name,
                "DRY RUN: nothing of {name} is sent to the Market, only compared"
            );
        }
        Ok(Migrator::start(
            &context,
            targets,
            rand::random(),
            &tasks.migrator,
        ))
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
                services.record_assertion(asserted);
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

    /// Notes that the seller has said something, new or not.
    fn record_assertion(&self, asserted: &StatedSkus<'_>) {
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

    /// Opens what the sources have stated, and brings the book in line with it.
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

    /// Every SKU there is any sign of: what we have, what the Market asked for, and what its
    /// catalogue has.
    fn known_skus(&self, shop: ShopId) -> Vec<Sku> {
        let mut skus = Vec::with_capacity(self.book.len(shop));
        self.book.for_each(shop, |sku, _| skus.push(sku.clone()));
        self.activity
            .for_each_unknown(shop, &self.book, |sku, _| skus.push(sku.clone()));
        skus.extend(self.observations.unknown_skus(shop));
        skus
    }

    /// Everything that is served to the Market and to the seller.
    pub(super) fn routes(
        &self,
        config: &Config,
        ingest: Ingest,
        (read_through, exchange, auth_failures): (ReadThrough, Router, AuthFailures),
        last_requests: Arc<LastRequests>,
        registry: &mut Registry,
    ) -> Router {
        let push_context = push_api::Context {
            book: Arc::clone(&self.book),
            activity: Arc::clone(&self.activity),
            last_requests,
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics: push_api::Metrics::default(),
            auth_failures: auth_failures.clone(),
            read_through: Some(read_through),
        };
        push_context.metrics.register(registry);
        let partner_context = partner_api::Context {
            ingest,
            book: Arc::clone(&self.book),
            clock: self.clock,
            metrics: partner_api::Metrics::default(),
            auth_failures,
        };
        partner_context.metrics.register(registry);
        let stocks_paths: Arc<[String]> = config
            .shops
            .iter()
            .map(|shop| format!("{}/stocks", shop.base_path))
            .collect();
        let not_found = async move |uri: Uri| {
            if partner_api::is_partner_path(uri.path()) {
                return partner_api::not_found();
            }
            let message = match push_api::intended_path(uri.path(), &stocks_paths) {
                Some(path) => format!(
                    "there is nothing at this path, the stock is at '{path}': remove the slashes \
                     that are too many"
                ),
                None => "there is nothing at this path".to_owned(),
            };
            ErrorResponse::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
        };
        let layers = ServiceBuilder::new()
            // Neither a span nor a log line ever shows these.
            .layer(SetSensitiveRequestHeadersLayer::new([
                AUTHORIZATION,
                HeaderName::from_static("api-key"),
            ]))
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            // Failures are logged where they are handled, with their cause.
            .layer(
                TraceLayer::new_for_http()
                    .make_span_with(span)
                    .on_failure(()),
            )
            .layer(PropagateRequestIdLayer::x_request_id());
        push_api::router(&push_context, wiring::push_shops(config))
            .merge(partner_api::router(
                partner_context,
                wiring::partner_shops(config),
            ))
            .merge(exchange)
            .fallback(not_found)
            .layer(layers)
    }

    pub(super) fn into_ops_state(
        self,
        config: &Config,
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
        }
    }
}

/// Has a shop's old handler asked for what we do not know yet. What is learned is kept, also if
/// it comes too late for the question.
pub(super) fn read_through(feeds: SourceManager, tasks: Tasks) -> ReadThrough {
    ReadThrough(Arc::new(move |shop, skus| {
        let fetch = feeds.read_through(shop, skus)?;
        let (done, ended) = oneshot::channel();
        let tasks = tasks.clone();
        let waiting: BoxFuture<'static, ()> = Box::pin(async move {
            tasks.spawn_short_lived(async move {
                fetch.await;
                // The question may have been answered without.
                let _gone = done.send(());
            });
            let _late = timeout(sources::READ_THROUGH_TIMEOUT, ended).await;
        });
        Some(waiting)
    }))
}

/// A shop that was renamed, or taken out of the configuration.
fn report_absent_shop(shop: &AbsentShop, alarms: &Alarms) {
    let name = &shop.name;
    warn!(
        shop = name,
        "the store holds stock of {name}, which is not in the configuration"
    );
    let hidden = shop.notes.iter().filter_map(|(note, place)| {
        note.strip_prefix(migrator::HIDDEN_NOTE_PREFIX)
            .map(|sku| format!("'{sku}' at {place}"))
    });
    let hidden: Vec<String> = hidden.collect();
    if !hidden.is_empty() {
        let text = format!(
            "a check of the integration was cut off and has left products of {name} hidden: {}. \
             {name} is not in the configuration any more, so they stay hidden: name it again, or \
             show them in the cabinet",
            hidden.join(", ")
        );
        alarms.raise(AlarmKind::SelftestHidden, name, text);
    }
}

/// The products a check has left hidden where the Market is called from now on, if it is; of
/// the others an alarm tells, as nobody here shows them again.
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
            "a check of the integration was cut off and has left products of {shop} hidden at \
             {place}: {}. Nothing is called there now, so they stay hidden: show them in the \
             cabinet, or let this shop be forwarded there as before, and they are shown at the \
             next start",
            selftest::quoted_list(&skus)
        );
        // Where the Market is called, a check that ends well clears the shop's own.
        let about = here.map_or(shop.to_owned(), |_| format!("{shop} at {place}"));
        alarms.raise(AlarmKind::SelftestHidden, &about, text);
    }
    ours.into_iter().map(|(sku, _)| sku).collect()
}

/// When each source last asserted anything, as it was noted.
fn remember(notes: &Notes, book: &StockBook) -> OriginTimes {
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

/// The path only: the query may hold a token.
fn span(request: &Request<Body>) -> Span {
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok());
    let (method, path) = (request.method(), request.uri().path());
    debug_span!("request", %method, path, request.id = id)
}

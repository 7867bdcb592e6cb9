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

use super::guard::{self, Claim};
use super::{Crew, plans};
use crate::auth_failures::AuthFailures;
use crate::clock::Clock;
use crate::config::Config;
use crate::history::{History, What};
use crate::http::{self, Refusal};
use crate::ingest::{self, Asserted, Ingest, Origin, Sources};
use crate::legacy::server::{self as legacy, Pushes, ReadThrough};
use crate::lifecycle::Tasks;
use crate::migrator::reconcile::Sightings;
use crate::migrator::{self, Ledger, Memory, Migrator, Mode, selftest};
use crate::ops::House;
use crate::partner::client::MarketClient;
use crate::partner::server as partner;
use crate::sources::{self, Feeds};
use crate::stock::{Assertion, Hour, Marks, ShopId, Sku, StockBook};
use crate::store::{self, AbsentShop, Notes, Opened, ShopKey, Store};
use crate::telemetry::{AlarmKind, Alarms};

/// What several rooms share.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) store: Arc<Store>,
    pub(super) book: Arc<StockBook>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) marks: Arc<Marks>,
    pub(super) sightings: Arc<Sightings>,
    pub(super) history: Arc<History>,
    pub(super) sources: Arc<Sources>,
    // What the store remembers for each shop's lane.
    memories: Vec<Memory>,
    // Why nothing may be sent, if so.
    held: Option<String>,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    // The shops', in the book's order.
    pub(super) names: Arc<[String]>,
    pub(super) started: DateTime<Utc>,
}

impl Core {
    pub(super) async fn open(config: &Config, clock: Clock, claim: Claim) -> anyhow::Result<Self> {
        let keys: Vec<ShopKey> = config
            .shops
            .iter()
            .map(|shop| plans::shop_key(shop, &config.market_url))
            .collect();
        let place = store::Config {
            path: config.store.clone(),
        };
        let opened = Store::open(&place, &keys).await.context("open the store")?;
        let Opened {
            store,
            book,
            acked,
            quarantine,
            spent,
            marks,
            notes,
            absent,
        } = opened;
        let skus: usize = book.shops().map(|shop| book.len(shop)).sum();
        info!(
            skus,
            shops = keys.len(),
            "the store is read: {skus} SKUs are known"
        );
        let alarms = Alarms::new(clock);
        absent.iter().for_each(|shop| tell_of_absent(shop, &alarms));
        let held = guard::check(&store, &notes, &config.instance, claim, &alarms).await?;
        let memories = quarantine
            .into_iter()
            .zip(spent)
            .zip(book.shops().zip(&keys).zip(&config.shops))
            .map(|((quarantined, spent), ((id, key), shop))| {
                let moment = |name| {
                    let (at, target) = notes.get(Some(id), name)?.split_once(' ')?;
                    at.parse().ok().filter(|_| target == key.target)
                };
                let last_equal = moment(migrator::LAST_EQUAL);
                let limited_until = moment(migrator::LIMITED_UNTIL);
                let calls = held.is_none() && shop.migrate != Mode::Off;
                let here = selftest::place(&config.market_url, shop.campaign);
                let here = Some(here).filter(|_| calls);
                let hidden = hidden_products(&notes, (id, &shop.name), here.as_deref(), &alarms);
                Memory {
                    quarantined,
                    spent,
                    last_equal,
                    limited_until,
                    hidden,
                }
            })
            .collect();
        Ok(Self {
            sources: Arc::new(remember(&notes, &book)),
            store: Arc::new(store),
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new(acked)),
            marks: Arc::new(marks),
            sightings: Arc::new(Sightings::new(keys.len())),
            history: Arc::default(),
            memories,
            held,
            alarms,
            clock,
            names: config.shops.iter().map(|shop| shop.name.clone()).collect(),
            started: clock.now(),
        })
    }

    /// When the Market last asked, as the marks have it.
    pub(super) fn remember_pushes(&self, pushes: &Pushes) {
        for shop in self.book.shops() {
            let mut latest = None;
            self.book.for_each(shop, |_, entry| {
                latest = latest.max(self.marks.last_asked(shop, entry.id()));
            });
            if let Some(hour) = latest {
                pushes.remember(shop, hour.start().to_utc());
            }
        }
    }

    pub(super) fn start_migrator(
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
            marks: Arc::clone(&self.marks),
            sightings: Arc::clone(&self.sightings),
            history: Arc::clone(&self.history),
            verify_every: config.verify_every,
            grace: config.grace,
            store: Arc::clone(&self.store),
            market: MarketClient::new(client, &config.market_url),
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics,
        };
        // Held, nobody is called: not even to look.
        let targets = match self.held {
            Some(_) => Vec::new(),
            None => plans::targets(config, &self.memories),
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
            &crew.migrator,
        ))
    }

    pub(super) fn start_ingest(
        &self,
        migrator: Migrator,
        crew: &Crew,
        registry: &mut Registry,
    ) -> Ingest {
        let metrics = ingest::Metrics::default();
        metrics.register(registry);
        let core = self.clone();
        let (ingest, worker) = ingest::open(
            Arc::clone(&self.book),
            Arc::clone(&self.store),
            self.clock,
            self.alarms.clone(),
            metrics,
            Box::new(move |asserted| {
                core.witness(asserted);
                if !asserted.changed.is_empty() {
                    migrator.nudge(asserted.shop, asserted.changed);
                }
            }),
        );
        crew.ingest.spawn("ingest", worker.run(crew.ingest.clone()));
        ingest
    }

    /// Notes that the seller has said something, new or not.
    fn witness(&self, asserted: &Asserted<'_>) {
        let Asserted {
            shop,
            origin,
            at,
            changed,
            repeated,
        } = *asserted;
        if changed.is_empty() && repeated.is_empty() {
            return;
        }
        self.sources.note(shop, origin, at);
        self.alarms
            .clear(AlarmKind::SourceSilent, &self.names[shop.index()]);
        let assertion = Assertion {
            hour: Hour::of(at.into()),
            origin: origin.number(),
        };
        for (skus, what) in [
            (changed, What::Stated(origin.number())),
            (repeated, What::Repeated(origin.number())),
        ] {
            let entries = self.book.get_all(shop, skus.iter().map(Sku::as_str));
            let known = || entries.iter().flatten();
            let named = skus.iter().zip(&entries);
            self.marks.introduce(
                shop,
                named.filter_map(|(sku, e)| Some((sku, e.as_ref()?.id()))),
            );
            self.marks
                .note_asserted(shop, known().map(|entry| entry.id()), assertion);
            let counts = known().map(|entry| (entry.id(), entry.level().count));
            self.history.note(shop, at, what, counts);
        }
    }

    /// Opens what the sources have stated, and brings the book in line with it.
    pub(super) async fn open_feeds(
        &self,
        config: &Config,
        ingest: Ingest,
    ) -> anyhow::Result<Feeds> {
        let context = sources::Context {
            book: Arc::clone(&self.book),
            ingest,
            clock: self.clock,
            alarms: self.alarms.clone(),
        };
        let core = self.clone();
        let known = Arc::new(move |shop| core.known_skus(shop));
        let directory = config.store.join("sources");
        let plans = plans::feeds(config);
        let feeds = Feeds::open(&directory, plans, &config.outbound(), known, &context).await;
        feeds.context("open the sources")
    }

    /// Every SKU there is any sign of: what we have, what the Market asked for, and what its
    /// catalogue has.
    fn known_skus(&self, shop: ShopId) -> Vec<Sku> {
        let mut skus = Vec::with_capacity(self.book.len(shop));
        self.book.for_each(shop, |sku, _| skus.push(sku.clone()));
        self.marks
            .strangers(shop, &self.book, |sku, _| skus.push(sku.clone()));
        skus.extend(self.sightings.strangers(shop));
        skus
    }

    /// Everything that is served to the Market and to the seller.
    pub(super) fn routes(
        &self,
        config: &Config,
        ingest: Ingest,
        (read_through, exchange, auth_failures): (ReadThrough, Router, AuthFailures),
        pushes: Arc<Pushes>,
        registry: &mut Registry,
    ) -> Router {
        let asked = legacy::Context {
            book: Arc::clone(&self.book),
            marks: Arc::clone(&self.marks),
            pushes,
            clock: self.clock,
            alarms: self.alarms.clone(),
            metrics: legacy::Metrics::default(),
            auth_failures: auth_failures.clone(),
            read_through: Some(read_through),
        };
        asked.metrics.register(registry);
        let fed = partner::Context {
            ingest,
            book: Arc::clone(&self.book),
            clock: self.clock,
            metrics: partner::Metrics::default(),
            auth_failures,
        };
        fed.metrics.register(registry);
        let stocks_paths: Arc<[String]> = config
            .shops
            .iter()
            .map(|shop| format!("{}/stocks", shop.base_path))
            .collect();
        let nothing = async move |uri: Uri| {
            if partner::is_partner_path(uri.path()) {
                return partner::nothing_here();
            }
            let message = match legacy::meant_path(uri.path(), &stocks_paths) {
                Some(path) => format!(
                    "there is nothing at this path, the stock is at '{path}': remove the slashes \
                     that are too many"
                ),
                None => "there is nothing at this path".to_owned(),
            };
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
            .layer(
                TraceLayer::new_for_http()
                    .make_span_with(span)
                    .on_failure(()),
            )
            .layer(PropagateRequestIdLayer::x_request_id());
        legacy::router(&asked, plans::legacy_shops(config))
            .merge(partner::router(fed, plans::partner_shops(config)))
            .merge(exchange)
            .fallback(nothing)
            .layer(layers)
    }

    pub(super) fn show(
        self,
        config: &Config,
        migrator: Migrator,
        (pushes, feeds): (Arc<Pushes>, Feeds),
    ) -> House {
        House {
            shops: config.shops.iter().map(plans::shown_shop).collect(),
            book: self.book,
            ledger: self.ledger,
            marks: self.marks,
            sightings: self.sightings,
            history: self.history,
            sources: self.sources,
            feeds,
            migrator,
            pushes,
            store: self.store,
            alarms: self.alarms,
            held: self.held,
            stale_after: config.stale_after,
            cutoff: config.cutoff,
            started: self.started,
            clock: self.clock,
        }
    }
}

/// Has a shop's old handler asked for what we do not know yet. What is learned is kept, also if
/// it comes too late for the question.
pub(super) fn read_through(feeds: Feeds, tasks: Tasks) -> ReadThrough {
    ReadThrough(Arc::new(move |shop, skus| {
        let asking = feeds.read_through(shop, skus)?;
        let (done, ended) = oneshot::channel();
        let tasks = tasks.clone();
        let waiting: BoxFuture<'static, ()> = Box::pin(async move {
            tasks.spawn_brief(async move {
                asking.await;
                // The question may have been answered without.
                let _gone = done.send(());
            });
            let _late = timeout(sources::READ_THROUGH, ended).await;
        });
        Some(waiting)
    }))
}

/// A shop that was renamed, or taken out of the configuration.
fn tell_of_absent(shop: &AbsentShop, alarms: &Alarms) {
    let name = &shop.name;
    warn!(
        shop = name,
        "the store holds stock of {name}, which is not in the configuration"
    );
    let hidden = shop.notes.iter().filter_map(|(note, place)| {
        note.strip_prefix(migrator::HIDDEN)
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
    let noted = notes.beginning(id, migrator::HIDDEN);
    let noted = noted.filter_map(|(sku, place)| Some((Sku::parse(sku).ok()?, place)));
    let (ours, others): (Vec<_>, Vec<_>) = noted.partition(|(_, place)| here == Some(*place));
    if let Some((_, place)) = others.first() {
        let skus: Vec<Sku> = others.iter().map(|(sku, _)| sku.clone()).collect();
        let text = format!(
            "a check of the integration was cut off and has left products of {shop} hidden at \
             {place}: {}. Nothing is called there now, so they stay hidden: show them in the \
             cabinet, or let this shop be forwarded there as before, and they are shown at the \
             next start",
            selftest::listed(&skus)
        );
        // Where the Market is called, a check that ends well clears the shop's own.
        let about = here.map_or(shop.to_owned(), |_| format!("{shop} at {place}"));
        alarms.raise(AlarmKind::SelftestHidden, &about, text);
    }
    ours.into_iter().map(|(sku, _)| sku).collect()
}

/// When each source last asserted anything, as it was noted.
fn remember(notes: &Notes, book: &StockBook) -> Sources {
    let sources = Sources::default();
    for shop in book.shops() {
        for (name, text) in notes.beginning(shop, ingest::ASSERTED) {
            if let (Some(origin), Ok(at)) = (Origin::from_name(name), text.parse()) {
                sources.note(shop, origin, at);
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

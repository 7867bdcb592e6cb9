//! The lanes of one seller with everything around them, driven as `migrator::run` drives them,
//! and the Market they speak to through no socket.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method as Verb, Request};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stockbridge::clock::Clock;
use stockbridge::history::History;
use stockbridge::http::secret::Secret;
use stockbridge::migrator::keys::Keys;
use stockbridge::migrator::pace::Purse;
use stockbridge::migrator::plan::{Batch, Keep, Landed, Now, Plan, Surroundings};
use stockbridge::migrator::reconcile::{self, Class, Field, Sightings, Step, Survey, Surveyor};
use stockbridge::migrator::verdict::{Verdict, judge};
use stockbridge::migrator::{Ledger, Memory, Metrics, Mode, Target};
use stockbridge::partner::client::{Answer, Reply, Way};
use stockbridge::partner::page::Look;
use stockbridge::partner::wire::Address;
use stockbridge::rehearsal::{CampaignConfig, HOME_BUSINESS, Held, Market, MarketConfig, compare};
use stockbridge::stock::{
    Assertion, Column, Count, Hour, Level, Marks, ShopId, Sku, SkuId, StockBook,
};
use stockbridge::store::{Acked, Quarantined, Spent};
use stockbridge::telemetry::{AlarmKind, Alarms};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceExt;

/// The shop of the first lane.
pub(super) const SHOP: ShopId = ShopId(0);
/// The campaign that sells from the first warehouse.
pub(super) const CAMPAIGN: u64 = 12_345;
/// The first warehouse; the others follow.
pub(super) const WAREHOUSE: u64 = 7;
pub(super) const KEYS: [&str; 2] = ["first", "second"];

/// The client's own time-out.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How soon a lane tries again when there is no place for a read-back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// By which method the Market is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Campaign,
    Business,
}

pub(super) const METHODS: [Method; 2] = [Method::Campaign, Method::Business];

/// What a stage is built from.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) method: Method,
    /// The warehouses of each lane.
    pub(super) lanes: Vec<Vec<u64>>,
    pub(super) mode: Mode,
    pub(super) parallel: usize,
    pub(super) limit_share: f64,
    pub(super) verify_every: Option<Duration>,
    pub(super) market: MarketConfig,
    pub(super) clock: Clock,
}

impl Setup {
    /// One lane and one warehouse, by this method, with the Market's real limits, read back
    /// only when somebody asks.
    pub(super) fn new(method: Method) -> Self {
        let clock = Clock::starting_at("2026-11-20T10:00:00Z".parse().unwrap());
        Self {
            method,
            lanes: vec![vec![WAREHOUSE]],
            mode: Mode::On,
            parallel: 2,
            limit_share: 1.0,
            verify_every: None,
            market: MarketConfig::new(clock),
            clock,
        }
    }

    /// The same, each lane with these warehouses.
    pub(super) fn lanes(mut self, lanes: &[&[u64]]) -> Self {
        self.lanes = lanes.iter().map(|warehouses| warehouses.to_vec()).collect();
        self
    }

    /// The same, read back so often.
    pub(super) fn verified_every(mut self, every: Duration) -> Self {
        self.verify_every = Some(every);
        self
    }

    pub(super) fn stage(self) -> Stage {
        Stage::new(self)
    }

    fn target(&self, lane: usize) -> Target {
        let warehouses = self.lanes[lane].clone();
        let campaign = campaign_of(warehouses[0]);
        let address = match self.method {
            Method::Campaign => Address::Campaign { id: campaign },
            Method::Business => Address::Business {
                id: HOME_BUSINESS,
                warehouses: warehouses.clone(),
            },
        };
        Target {
            shop: shop(lane),
            name: format!("shop-{lane}"),
            address,
            campaign,
            warehouses,
            mode: self.mode,
            keys: KEYS.map(Secret::new).to_vec(),
            parallel: self.parallel,
            limit_share: self.limit_share,
        }
    }

    /// A purse each, or one for all of a cabinet.
    fn purses(&self) -> Vec<Purse> {
        let purse = |lane| Purse::new(&self.target(lane).address, self.limit_share);
        match self.method {
            Method::Campaign => (0..self.lanes.len()).map(purse).collect(),
            Method::Business => vec![purse(0); self.lanes.len()],
        }
    }
}

pub(super) fn campaign_of(warehouse: u64) -> u64 {
    CAMPAIGN + warehouse - WAREHOUSE
}

pub(super) fn shop(lane: usize) -> ShopId {
    ShopId(u16::try_from(lane).unwrap())
}

/// What the store would hold of one shop: written when the store would have written it.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) acked: HashMap<Sku, Acked>,
    pub(super) quarantined: BTreeMap<Sku, Quarantined>,
    spent: Vec<Spent>,
    limited_until: Option<DateTime<Utc>>,
}

/// One shop's lane.
pub(super) struct Lane {
    target: Target,
    pub(super) plan: Plan,
    pub(super) surveyor: Surveyor,
    pub(super) disk: Disk,
    /// How it ended, pass by pass.
    pub(super) passes: Vec<BTreeMap<&'static str, u64>>,
    said_zero: HashSet<String>,
}

pub(super) struct Stage {
    setup: Setup,
    pub(super) book: Arc<StockBook>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) marks: Arc<Marks>,
    pub(super) sightings: Arc<Sightings>,
    pub(super) history: Arc<History>,
    pub(super) alarms: Alarms,
    pub(super) lanes: Vec<Lane>,
    pub(super) market: Market,
    pub(super) clock: Clock,
    envoy: Envoy,
    flights: FuturesUnordered<LocalBoxFuture<'static, Landing>>,
    lives: u64,
}

/// A request that ended, and the lane whose it was.
enum Landing {
    Batch(usize, DateTime<Utc>, Landed),
    Look(usize, reconcile::Landed),
}

impl Stage {
    pub(super) fn new(mut setup: Setup) -> Self {
        let keys = KEYS.map(ToOwned::to_owned).to_vec();
        let warehouses = setup.lanes.iter().flatten();
        setup.market.campaigns = warehouses
            .map(|id| CampaignConfig::new(campaign_of(*id), *id, keys.clone()))
            .collect();
        let market = Market::new(setup.market.clone());
        let clock = setup.clock;
        let count = setup.lanes.len();
        let book = Arc::new(StockBook::new(vec![0; count]));
        let ledger = Ledger::new((0..count).map(|_| Column::default()).collect());
        let mut stage = Self {
            book,
            ledger: Arc::new(ledger),
            marks: Arc::new(Marks::new(setup.lanes.clone())),
            sightings: Arc::new(Sightings::new(count)),
            history: Arc::default(),
            alarms: Alarms::new(clock),
            lanes: Vec::new(),
            envoy: Envoy {
                market: market.clone(),
                clock,
                way_back: Duration::ZERO,
                slow_body: Duration::ZERO,
            },
            market,
            clock,
            flights: FuturesUnordered::new(),
            lives: 0,
            setup,
        };
        stage.start(
            (0..count)
                .map(|_| (Disk::default(), HashSet::new()))
                .collect(),
        );
        stage
    }

    /// A Market with a tenth of the real limit, so that a tenth of the SKUs meets it.
    pub(super) fn with_a_tenth_of_the_limit() -> Self {
        let mut setup = Setup::new(Method::Campaign);
        setup.market.skus_per_minute = 10_000;
        setup.limit_share = 0.1;
        setup.stage()
    }

    pub(super) fn with_the_real_limit() -> Self {
        Setup::new(Method::Campaign).stage()
    }

    fn start(&mut self, remembered: Vec<(Disk, HashSet<String>)>) {
        self.lives += 1;
        let (purses, keys, now) = (self.setup.purses(), Keys::default(), self.now());
        let lanes = remembered.into_iter().zip(purses).enumerate();
        self.lanes = lanes
            .map(|(lane, ((disk, said_zero), purse))| {
                let target = self.setup.target(lane);
                let memory = Memory {
                    quarantined: disk.quarantined.values().cloned().collect(),
                    spent: disk.spent.clone(),
                    limited_until: disk.limited_until,
                    ..Memory::default()
                };
                let dice = StdRng::seed_from_u64(self.lives);
                let plan = Plan::new(
                    target.clone(),
                    self.around(purse, keys.clone()),
                    memory,
                    now,
                    dice,
                );
                let surveyor = Surveyor::new(self.field(&target), None, now);
                Lane {
                    target,
                    plan,
                    surveyor,
                    disk,
                    passes: Vec::new(),
                    said_zero,
                }
            })
            .collect();
    }

    fn around(&self, purse: Purse, keys: Keys) -> Surroundings {
        Surroundings {
            book: Arc::clone(&self.book),
            ledger: Arc::clone(&self.ledger),
            alarms: self.alarms.clone(),
            metrics: Metrics::default(),
            purse,
            keys,
            marks: Arc::clone(&self.marks),
            history: Arc::clone(&self.history),
        }
    }

    fn field(&self, target: &Target) -> Field {
        Field {
            shop: target.shop,
            address: target.address.clone(),
            warehouses: target.warehouses.clone(),
            mode: target.mode,
            every: self.setup.verify_every,
            grace: TimeDelta::minutes(15),
            book: Arc::clone(&self.book),
            ledger: Arc::clone(&self.ledger),
            marks: Arc::clone(&self.marks),
            sightings: Arc::clone(&self.sightings),
            history: Arc::clone(&self.history),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: Instant::now(),
            wall: self.clock.now(),
        }
    }

    // === The seller ===

    /// The seller says something as of now.
    pub(super) fn say(&mut self, sku: &str, count: i64) {
        self.say_as_of(sku, count, TimeDelta::zero());
    }

    /// The seller says something, with a date so far from now.
    pub(super) fn say_as_of(&mut self, sku: &str, count: i64, ahead: TimeDelta) {
        self.say_in(0, sku, count, ahead);
    }

    /// One shop says something. Store first, then book and mark, then nudge, as ingest does.
    pub(super) fn say_in(&mut self, lane: usize, sku: &str, count: i64, ahead: TimeDelta) {
        let sku = Sku::parse(sku).unwrap();
        let now = self.now();
        let level = Level {
            count: Count::try_from(count).unwrap(),
            updated_at: (now.wall + ahead).into(),
        };
        self.book.apply(shop(lane), &sku, level);
        self.assert(lane, sku.as_str());
        let lane = &mut self.lanes[lane];
        if count == 0 {
            lane.said_zero.insert(sku.to_string());
        }
        lane.plan.hint(&[sku], now);
    }

    /// The seller says what is known already, with the date that is known already.
    pub(super) fn assert(&self, lane: usize, sku: &str) {
        let assertion = Assertion {
            hour: Hour::of(self.clock.now().into()),
            origin: 0,
        };
        let id = std::iter::once(self.id(lane, sku));
        self.marks.note_asserted(shop(lane), id, assertion);
    }

    pub(super) fn id(&self, lane: usize, sku: &str) -> SkuId {
        self.book.get(shop(lane), sku).unwrap().id()
    }

    /// Answers are on their way for so long, after the Market has dated them.
    pub(super) fn set_way_back(&mut self, time: Duration) {
        self.envoy.way_back = time;
    }

    /// Bodies of answers take so long after their heads.
    pub(super) fn set_slow_body(&mut self, time: Duration) {
        self.envoy.slow_body = time;
    }

    /// Our clock is set, so far from where it is.
    pub(super) fn set_clock(&mut self, by: TimeDelta) {
        self.clock = Clock::starting_at(self.clock.now() + by);
        self.envoy.clock = self.clock;
    }

    // === Lives ===

    /// `kill -9`, and a start from what is on disk. What was under way is cut: the Market may
    /// have taken it or not, and its answer reaches nobody.
    pub(super) fn restart(&mut self) {
        self.flights.clear();
        let lanes = std::mem::take(&mut self.lanes);
        let columns = lanes.iter().map(|lane| {
            let mut column = Column::default();
            for (sku, acked) in &lane.disk.acked {
                if let Some(entry) = self.book.get(lane.target.shop, sku.as_str()) {
                    column.set(entry.id(), *acked);
                }
            }
            column
        });
        self.ledger = Arc::new(Ledger::new(columns.collect()));
        self.sightings = Arc::new(Sightings::new(lanes.len()));
        self.start(
            lanes
                .into_iter()
                .map(|lane| (lane.disk, lane.said_zero))
                .collect(),
        );
    }

    /// Lives for so long.
    pub(super) async fn live(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let now = self.now();
            let mut wake = end;
            for lane in 0..self.lanes.len() {
                self.find_work(lane, now);
                self.take_off(lane, now);
                wake = wake.min(self.wake_at(lane, now));
            }
            tokio::select! {
                Some(landing) = self.flights.next() => match landing {
                    Landing::Batch(lane, sent_at, landed) => self.land(lane, sent_at, landed),
                    Landing::Look(lane, landed) => self.land_look(lane, landed),
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn find_work(&mut self, lane: usize, now: Now) {
        let Lane { plan, target, .. } = &mut self.lanes[lane];
        if target.mode == Mode::On {
            plan.hint(&[], now);
            if plan.wants_scan(now) {
                let found = plan.begin_scan(now).run();
                plan.end_scan(found, now);
            }
        }
    }

    fn take_off(&mut self, lane: usize, now: Now) {
        let Self {
            lanes,
            flights,
            envoy,
            ..
        } = self;
        let Lane {
            plan,
            surveyor,
            target,
            disk,
            ..
        } = &mut lanes[lane];
        if surveyor.is_due(now) && plan.begin_look(surveyor.gap(), now) {
            let look = surveyor.look(now);
            let first = plan.key();
            let replies = KEYS.map(|key| envoy.call(look_request(&target.address, key, &look)));
            flights.push(Box::pin(async move {
                let reply = first_welcome(replies, first).await;
                Landing::Look(lane, reconcile::Landed::new(&look, &reply))
            }));
        }
        while target.mode == Mode::On
            && let Some((batch, body)) = plan.next(now)
        {
            let skus = u32::try_from(batch.skus()).unwrap();
            disk.spent.push(Spent { at: now.wall, skus });
            let reply = envoy.call(update_request(&target.address, &batch, body));
            let clock = envoy.clock;
            flights.push(Box::pin(async move {
                let reply = reply.await;
                let at = Now {
                    mono: Instant::now(),
                    wall: clock.now(),
                };
                Landing::Batch(lane, now.wall, Landed::new(batch, reply, at))
            }));
        }
        let keep = plan.take_keep();
        disk.keep(keep);
    }

    fn wake_at(&self, lane: usize, now: Now) -> Instant {
        let Lane { plan, surveyor, .. } = &self.lanes[lane];
        let soon = now.mono + LOOK_AGAIN;
        // Due, and yet not under way: the plan has no place for it now.
        let look = if surveyor.is_due(now) {
            Some(soon)
        } else {
            surveyor.wake_at()
        };
        look.unwrap_or(now.mono + Duration::from_mins(1))
            .min(plan.wake_at(now))
    }

    fn land(&mut self, lane: usize, sent_at: DateTime<Utc>, landed: Landed) {
        let now = self.now();
        let Lane {
            plan,
            surveyor,
            disk,
            target,
            ..
        } = &mut self.lanes[lane];
        if let Some(batch) = landed.accepted() {
            let (ids, rows) = batch.acknowledged(sent_at);
            let column = ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked));
            self.ledger.record(target.shop, column);
            disk.acked.extend(rows);
        }
        let keep = plan.land(landed, now);
        if plan.take_unanswered() {
            surveyor.hasten(now);
        }
        disk.keep(keep);
    }

    fn land_look(&mut self, lane: usize, landed: reconcile::Landed) {
        let now = self.now();
        let Lane {
            plan,
            surveyor,
            passes,
            ..
        } = &mut self.lanes[lane];
        let apart = plan.end_look(&landed, now);
        let mut step = surveyor.land(landed, plan.set_aside(), apart, now);
        plan.hint(&surveyor.take_lost(), now);
        while let Some(next) = step {
            step = match next {
                Step::Gather(gathering) => surveyor.ask_for(&gathering.run(), plan.set_aside()),
                Step::Round(roundup) => {
                    let outcome = roundup.run(now.wall);
                    plan.hint(outcome.lost(), now);
                    surveyor.end(outcome, now);
                    passes.push(surveyor.survey().classes.clone());
                    None
                }
            };
        }
        plan.note_survey(surveyor.survey());
    }

    // === The operator ===

    /// Somebody wants to know how the Market's copy stands, and waits for it: SKUs by class.
    pub(super) async fn verify(&mut self) -> BTreeMap<&'static str, u64> {
        let now = self.now();
        let passes = self.lanes[0].passes.len();
        self.lanes[0].surveyor.hurry(now);
        while self.lanes[0].passes.len() == passes {
            let begun = now.mono.elapsed();
            assert!(begun < Duration::from_hours(12), "{:?}", self.survey());
            self.live(Duration::from_secs(1)).await;
        }
        self.lanes[0].passes[passes].clone()
    }

    pub(super) fn survey(&self) -> &Survey {
        self.lanes[0].surveyor.survey()
    }

    /// How a SKU of the first lane stood when it was last looked at.
    pub(super) fn class(&self, sku: &str) -> Option<Class> {
        self.sightings.get(SHOP, self.id(0, sku)).class()
    }

    /// What the Market's first campaign was told of a SKU.
    pub(super) fn held(&self, sku: &str) -> Option<Held> {
        self.market.get(CAMPAIGN, sku)
    }

    /// How often the Market's first campaign was told of a SKU.
    pub(super) fn received(&self, sku: &str) -> u32 {
        self.held(sku).map_or(0, |held| held.received)
    }

    pub(super) fn has_drift_alarm(&self) -> bool {
        self.alarms.is_on(AlarmKind::Drift)
    }

    /// The Market has what the seller has, without what the Market refuses, at each warehouse;
    /// no limit was broken, and there was no zero that nobody said.
    pub(super) fn check(&self) -> Result<(), TestCaseError> {
        self.check_rules()?;
        for lane in &self.lanes {
            let mut shelf = Vec::new();
            self.book.for_each(lane.target.shop, |sku, entry| {
                if !lane.disk.quarantined.contains_key(sku) {
                    shelf.push((sku.to_string(), entry.level().count.get()));
                }
            });
            for campaign in lane.target.warehouses.iter().copied().map(campaign_of) {
                let expected = shelf.iter().map(|(sku, count)| (sku.as_str(), *count));
                let comparison = compare(expected, &self.market.snapshot(campaign));
                prop_assert!(
                    comparison.differing.is_empty(),
                    "{:?}",
                    comparison.differing
                );
                prop_assert!(comparison.missing.is_empty(), "{:?}", comparison.missing);
                for sku in self.market.ever_zero(campaign) {
                    prop_assert!(lane.said_zero.contains(&sku), "a zero nobody said: {}", sku);
                }
            }
        }
        Ok(())
    }

    /// No limit was broken.
    pub(super) fn check_rules(&self) -> Result<(), TestCaseError> {
        let report = self.market.report();
        prop_assert_eq!(
            report.broken_in_all(),
            0,
            "limits broken: {:?}",
            report.examples
        );
        Ok(())
    }
}

impl Disk {
    fn keep(&mut self, keep: Vec<Keep>) {
        for keep in keep {
            match keep {
                Keep::Quarantined(row) => drop(self.quarantined.insert(row.sku.clone(), row)),
                Keep::Released(sku) => drop(self.quarantined.remove(&sku)),
                Keep::LimitedUntil(at) => self.limited_until = Some(at),
            }
        }
    }
}

/// Goes to the Market's own router and comes back, through no socket.
#[derive(Clone)]
struct Envoy {
    market: Market,
    clock: Clock,
    /// How long an answer is on its way, after the Market has dated it.
    way_back: Duration,
    /// How long its body takes after its head.
    slow_body: Duration,
}

impl Envoy {
    fn call(&self, request: Request<Body>) -> impl Future<Output = Reply> + use<> {
        let Self {
            market,
            clock,
            way_back,
            slow_body,
        } = self.clone();
        let call = async move {
            let asked = clock.now();
            let response = market.router().oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            sleep(way_back).await;
            let way = Way {
                asked,
                head: clock.now(),
            };
            sleep(slow_body).await;
            let body = body.collect().await.map_err(|error| error.to_string())?;
            let bytes = body.to_bytes();
            Ok(Answer::read(
                head.status.as_u16(),
                &head.headers,
                bytes,
                way,
            ))
        };
        async move {
            match timeout(CLIENT_TIMEOUT, call).await {
                Ok(Ok(answer)) => Reply::Answer(answer),
                Ok(Err(reason)) => Reply::Failure(reason),
                Err(_) => Reply::Failure("no answer in time".to_owned()),
            }
        }
    }
}

/// The reply to the first key that is not refused; each call begins when it is waited for.
async fn first_welcome(replies: [impl Future<Output = Reply>; KEYS.len()], first: usize) -> Reply {
    let mut replies = Vec::from(replies);
    replies.rotate_left(first);
    let mut refused = None;
    for reply in replies {
        let reply = reply.await;
        if !matches!(judge(&reply), Verdict::Deny { .. }) {
            return reply;
        }
        refused = Some(reply);
    }
    refused.expect("there is a key")
}

fn update_request(address: &Address, batch: &Batch, body: Vec<u8>) -> Request<Body> {
    let (verb, path) = match address {
        Address::Campaign { id } => (Verb::PUT, format!("/v2/campaigns/{id}/offers/stocks")),
        Address::Business { id, .. } => (
            Verb::POST,
            format!("/v3/businesses/{id}/offers/stocks/update"),
        ),
    };
    request(verb, path, KEYS[batch.key()], body)
}

fn look_request(address: &Address, key: &str, look: &Look) -> Request<Body> {
    let place = match address {
        Address::Campaign { id } => format!("v2/campaigns/{id}"),
        Address::Business { id, .. } => format!("v3/businesses/{id}"),
    };
    let (query, body) = look.request(address);
    request(
        Verb::POST,
        format!("/{place}/offers/stocks{query}"),
        key,
        body.into_bytes(),
    )
}

fn request(verb: Verb, path: String, key: &str, body: Vec<u8>) -> Request<Body> {
    Request::builder()
        .method(verb)
        .uri(path)
        .header("Api-Key", key)
        .header("Content-Type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

pub(super) fn stock(n: usize) -> Vec<(String, i64)> {
    (0..n)
        .map(|n| (format!("sku-{n}"), 1 + i64::try_from(n % 7).unwrap()))
        .collect()
}

pub(super) fn on_a_jumping_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test)
}

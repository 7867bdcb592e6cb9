//! The lanes of one seller with everything around them, driven as `migrator::run` drives them,
//! and the Market they speak to through no socket.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method as HttpMethod, Request};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt;
use lifecycle::Clock;
use market_api::partner::client::{CallOutcome, MarketResponse, RequestTimes};
use market_api::partner::readback_page::ReadbackQuery;
use market_api::partner::wire::MarketAddress;
use market_sim::{
    CampaignConfig, DEFAULT_BUSINESS_ID, MarketSimulator, SimulatorConfig, StockRecord, compare,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stock::{Activity, Count, Hour, LastStated, Level, PerSku, ShopId, Sku, SkuId, StockBook};
use stockbridge::migrator::classify_response::{ResponseVerdict, classify_response};
use stockbridge::migrator::planner::{
    CompletedBatch, DurableChange, Now, Planner, PlannerDeps, UpdateBatch,
};
use stockbridge::migrator::rate_limit::SharedRateLimiter;
use stockbridge::migrator::readback::{
    self, MatchClass, Observations, ReadbackContext, ReadbackDriver, ReadbackReport, ReadbackStep,
};
use stockbridge::migrator::rejected_keys::RejectedKeys;
use stockbridge::migrator::{Ledger, MarketTarget, Metrics, Mode, RestoredState, ShopData};
use stockbridge::store::{Acked, QuarantineEntry, RecentSend};
use stockbridge::telemetry::{AlarmKind, Alarms};
use strict_http::secret::Secret;
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

/// Time after which a worker retries if a read-back has no free slot.
const READBACK_RETRY: Duration = Duration::from_millis(250);

/// API method with which stock is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ApiMethod {
    Campaign,
    Business,
}

pub(super) const API_METHODS: [ApiMethod; 2] = [ApiMethod::Campaign, ApiMethod::Business];

/// Setup of a simulation.
#[derive(Clone)]
pub(super) struct SimulationSetup {
    pub(super) method: ApiMethod,
    /// The warehouses of each lane.
    pub(super) lanes: Vec<Vec<u64>>,
    pub(super) mode: Mode,
    pub(super) parallel: usize,
    pub(super) limit_share: f64,
    pub(super) verify_every: Option<Duration>,
    pub(super) market: SimulatorConfig,
    pub(super) clock: Clock,
}

impl SimulationSetup {
    /// One worker and one warehouse, by this method, with the Market's real limits. Read-backs run
    /// only on request.
    pub(super) fn new(method: ApiMethod) -> Self {
        let clock = Clock::starting_at("2026-11-20T10:00:00Z".parse().unwrap());
        Self {
            method,
            lanes: vec![vec![WAREHOUSE]],
            mode: Mode::On,
            parallel: 2,
            limit_share: 1.0,
            verify_every: None,
            market: SimulatorConfig::new(clock),
            clock,
        }
    }

    /// The same, each lane with these warehouses.
    pub(super) fn lanes(mut self, lanes: &[&[u64]]) -> Self {
        self.lanes = lanes.iter().map(|warehouses| warehouses.to_vec()).collect();
        self
    }

    /// The same, read back so often.
    pub(super) fn with_readback_every(mut self, every: Duration) -> Self {
        self.verify_every = Some(every);
        self
    }

    pub(super) fn build(self) -> MigratorSimulation {
        MigratorSimulation::new(self)
    }

    fn target(&self, lane: usize) -> MarketTarget {
        let warehouses = self.lanes[lane].clone();
        let campaign = campaign_of(warehouses[0]);
        let address = match self.method {
            ApiMethod::Campaign => MarketAddress::Campaign { id: campaign },
            ApiMethod::Business => MarketAddress::Business {
                id: DEFAULT_BUSINESS_ID,
                warehouses: warehouses.clone(),
            },
        };
        MarketTarget {
            shop: shop_id(lane),
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

    /// A rate limiter for each worker, or one for all of a cabinet.
    fn rate_limiters(&self) -> Vec<SharedRateLimiter> {
        let limiter = |lane| SharedRateLimiter::new(&self.target(lane).address, self.limit_share);
        match self.method {
            ApiMethod::Campaign => (0..self.lanes.len()).map(limiter).collect(),
            ApiMethod::Business => vec![limiter(0); self.lanes.len()],
        }
    }
}

pub(super) fn campaign_of(warehouse: u64) -> u64 {
    CAMPAIGN + warehouse - WAREHOUSE
}

pub(super) fn shop_id(lane: usize) -> ShopId {
    ShopId(u16::try_from(lane).unwrap())
}

/// Contents of the store for one shop, changed at the same moments as in the service.
#[derive(Default)]
pub(super) struct SimulatedStore {
    pub(super) acked: HashMap<Sku, Acked>,
    pub(super) quarantined: BTreeMap<Sku, QuarantineEntry>,
    recent_sends: Vec<RecentSend>,
    limited_until: Option<DateTime<Utc>>,
}

/// One shop's lane.
pub(super) struct SimulatedLane {
    target: MarketTarget,
    pub(super) planner: Planner,
    pub(super) readback: ReadbackDriver,
    pub(super) store: SimulatedStore,
    /// Results of the passes.
    pub(super) passes: Vec<BTreeMap<Cow<'static, str>, u64>>,
    stated_zero: HashSet<String>,
}

pub(super) struct MigratorSimulation {
    setup: SimulationSetup,
    pub(super) data: ShopData,
    pub(super) alarms: Alarms,
    pub(super) lanes: Vec<SimulatedLane>,
    pub(super) market: MarketSimulator,
    pub(super) clock: Clock,
    transport: MarketTransport,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, CompletedRequest>>,
    start_count: u64,
}

/// A request that ended, and the lane whose it was.
enum CompletedRequest {
    Batch(usize, DateTime<Utc>, CompletedBatch),
    Readback(usize, readback::CompletedReadback),
}

impl MigratorSimulation {
    pub(super) fn new(mut setup: SimulationSetup) -> Self {
        let keys = KEYS.map(ToOwned::to_owned).to_vec();
        let warehouses = setup.lanes.iter().flatten();
        setup.market.campaigns = warehouses
            .map(|id| CampaignConfig::new(campaign_of(*id), *id, keys.clone()))
            .collect();
        let market = MarketSimulator::new(setup.market.clone());
        let clock = setup.clock;
        let count = setup.lanes.len();
        let book = StockBook::new(vec![0; count]);
        let activity = Activity::new(&book, setup.lanes.clone());
        let acked = (0..count).map(|_| PerSku::default()).collect();
        let data = ShopData::new(book, acked, activity);
        let mut simulation = Self {
            data,
            alarms: Alarms::new(clock),
            lanes: Vec::new(),
            transport: MarketTransport {
                market: market.clone(),
                clock,
                response_delay: Duration::ZERO,
                body_delay: Duration::ZERO,
            },
            market,
            clock,
            in_flight: FuturesUnordered::new(),
            start_count: 0,
            setup,
        };
        simulation.start(
            (0..count)
                .map(|_| (SimulatedStore::default(), HashSet::new()))
                .collect(),
        );
        simulation
    }

    /// A Market with a tenth of the real limit, so that a tenth of the SKUs meets it.
    pub(super) fn with_tenth_of_limit() -> Self {
        let mut setup = SimulationSetup::new(ApiMethod::Campaign);
        setup.market.skus_per_minute = 10_000;
        setup.limit_share = 0.1;
        setup.build()
    }

    pub(super) fn with_real_limit() -> Self {
        SimulationSetup::new(ApiMethod::Campaign).build()
    }

    fn start(&mut self, stores: Vec<(SimulatedStore, HashSet<String>)>) {
        self.start_count += 1;
        let (limiters, keys, now) = (
            self.setup.rate_limiters(),
            RejectedKeys::default(),
            self.now(),
        );
        let lanes = stores.into_iter().zip(limiters).enumerate();
        self.lanes = lanes
            .map(|(lane, ((store, stated_zero), limiter))| {
                let target = self.setup.target(lane);
                let restored = RestoredState {
                    quarantined: store.quarantined.values().cloned().collect(),
                    recent_sends: store.recent_sends.clone(),
                    limited_until: store.limited_until,
                    ..RestoredState::default()
                };
                let rng = StdRng::seed_from_u64(self.start_count);
                let planner = Planner::new(
                    target.clone(),
                    self.planner_deps(limiter, keys.clone()),
                    restored,
                    now,
                    rng,
                );
                let readback = ReadbackDriver::new(self.readback_context(&target), None, now);
                SimulatedLane {
                    target,
                    planner,
                    readback,
                    store,
                    passes: Vec::new(),
                    stated_zero,
                }
            })
            .collect();
    }

    fn planner_deps(&self, limiter: SharedRateLimiter, keys: RejectedKeys) -> PlannerDeps {
        PlannerDeps {
            data: self.data.clone(),
            alarms: self.alarms.clone(),
            metrics: Metrics::default(),
            limiter,
            rejected_keys: keys,
            request_timeout: CLIENT_TIMEOUT,
        }
    }

    fn readback_context(&self, target: &MarketTarget) -> ReadbackContext {
        ReadbackContext {
            target: target.clone(),
            pass_interval: self.setup.verify_every,
            grace: TimeDelta::minutes(15),
            data: self.data.clone(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            monotonic: Instant::now(),
            wall: self.clock.now(),
        }
    }

    // === The seller ===

    /// The seller says something as of now.
    pub(super) fn set_stock(&mut self, sku: &str, count: i64) {
        self.set_stock_dated(sku, count, TimeDelta::zero());
    }

    /// The seller says something, with a date so far from now.
    pub(super) fn set_stock_dated(&mut self, sku: &str, count: i64, ahead: TimeDelta) {
        self.set_stock_in(0, sku, count, ahead);
    }

    /// One shop says something. Store first, then book and mark, then wake the migrator, as ingest does.
    pub(super) fn set_stock_in(&mut self, lane: usize, sku: &str, count: i64, ahead: TimeDelta) {
        let sku = Sku::parse(sku).unwrap();
        let now = self.now();
        let level = Level {
            count: Count::try_from(count).unwrap(),
            updated_at: (now.wall + ahead).into(),
        };
        self.data.book.apply(shop_id(lane), &sku, level);
        self.restate(lane, sku.as_str());
        let lane = &mut self.lanes[lane];
        if count == 0 {
            lane.stated_zero.insert(sku.to_string());
        }
        lane.planner.on_changed(&[sku], now);
    }

    /// The seller says what is known already, with the date that is known already.
    pub(super) fn restate(&self, lane: usize, sku: &str) {
        let assertion = LastStated {
            hour: Hour::containing(self.clock.now().into()),
            origin: 0,
        };
        let id = std::iter::once(self.id(lane, sku));
        self.data
            .activity
            .record_stated(shop_id(lane), id, assertion);
    }

    pub(super) fn id(&self, lane: usize, sku: &str) -> SkuId {
        self.data.book.get(shop_id(lane), sku).unwrap().id()
    }

    /// Answers are on their way for so long, after the Market has dated them.
    pub(super) fn set_response_delay(&mut self, time: Duration) {
        self.transport.response_delay = time;
    }

    /// Bodies of answers take so long after their heads.
    pub(super) fn set_body_delay(&mut self, time: Duration) {
        self.transport.body_delay = time;
    }

    /// Our clock is set, so far from where it is.
    pub(super) fn set_clock(&mut self, by: TimeDelta) {
        self.clock = Clock::starting_at(self.clock.now() + by);
        self.transport.clock = self.clock;
    }

    // === Lives ===

    /// `kill -9`, and a start from what is on disk. Requests in flight are cut: the Market may or may
    /// not have accepted them, and their responses are lost.
    pub(super) fn restart(&mut self) {
        self.in_flight.clear();
        let lanes = std::mem::take(&mut self.lanes);
        let acked_per_lane = lanes.iter().map(|lane| {
            let mut acked_by_sku = PerSku::default();
            for (sku, acked) in &lane.store.acked {
                if let Some(entry) = self.data.book.get(lane.target.shop, sku.as_str()) {
                    acked_by_sku.set(entry.id(), *acked);
                }
            }
            acked_by_sku
        });
        self.data.ledger = Arc::new(Ledger::new(acked_per_lane.collect()));
        self.data.observations = Arc::new(Observations::new(lanes.len()));
        self.start(
            lanes
                .into_iter()
                .map(|lane| (lane.store, lane.stated_zero))
                .collect(),
        );
    }

    /// Lives for so long.
    pub(super) async fn advance(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            let now = self.now();
            let mut wake = deadline;
            for lane in 0..self.lanes.len() {
                self.rescan(lane, now);
                self.start_requests(lane, now);
                wake = wake.min(self.wake_at(lane, now));
            }
            tokio::select! {
                Some(completed) = self.in_flight.next() => match completed {
                    CompletedRequest::Batch(lane, sent_at, outcome) => self.on_batch_response(lane, sent_at, outcome),
                    CompletedRequest::Readback(lane, outcome) => self.on_readback_response(lane, outcome),
                },
                () = sleep_until(wake) => {}
            }
        }
    }

    fn rescan(&mut self, lane: usize, now: Now) {
        let SimulatedLane {
            planner: plan,
            target,
            ..
        } = &mut self.lanes[lane];
        if target.mode == Mode::On {
            plan.on_changed(&[], now);
            if plan.wants_rescan(now) {
                let result = plan.begin_rescan(now).run();
                plan.end_rescan(result, now);
            }
        }
    }

    fn start_requests(&mut self, lane: usize, now: Now) {
        let Self {
            lanes,
            in_flight: flights,
            transport: envoy,
            ..
        } = self;
        let SimulatedLane {
            planner: plan,
            readback: surveyor,
            target,
            store: disk,
            ..
        } = &mut lanes[lane];
        if surveyor.is_due(now) && plan.begin_readback(surveyor.gap(), now) {
            let query = surveyor.next_query(now);
            let first = plan.key_index();
            let replies =
                KEYS.map(|key| envoy.call(readback_request(&target.address, key, &query)));
            flights.push(Box::pin(async move {
                let reply = first_accepted(replies, first).await;
                CompletedRequest::Readback(lane, readback::CompletedReadback::new(&query, &reply))
            }));
        }
        while target.mode == Mode::On
            && let Some((batch, body)) = plan.next_batch(now)
        {
            let skus = u32::try_from(batch.sku_count()).unwrap();
            disk.recent_sends.push(RecentSend { at: now.wall, skus });
            let reply = envoy.call(update_request(&target.address, &batch, body));
            let clock = envoy.clock;
            flights.push(Box::pin(async move {
                let reply = reply.await;
                let at = Now {
                    monotonic: Instant::now(),
                    wall: clock.now(),
                };
                CompletedRequest::Batch(lane, now.wall, CompletedBatch::new(batch, reply, at))
            }));
        }
        let changes = plan.take_changes();
        disk.apply_changes(changes);
    }

    fn wake_at(&self, lane: usize, now: Now) -> Instant {
        let SimulatedLane {
            planner: plan,
            readback: surveyor,
            ..
        } = &self.lanes[lane];
        let retry_at = now.monotonic + READBACK_RETRY;
        // Due, and yet not under way: the plan has no place for it now.
        let readback_at = if surveyor.is_due(now) {
            Some(retry_at)
        } else {
            surveyor.wake_at()
        };
        readback_at
            .unwrap_or(now.monotonic + Duration::from_mins(1))
            .min(plan.wake_at(now))
    }

    fn on_batch_response(&mut self, lane: usize, sent_at: DateTime<Utc>, outcome: CompletedBatch) {
        let now = self.now();
        let SimulatedLane {
            planner: plan,
            readback: surveyor,
            store: disk,
            target,
            ..
        } = &mut self.lanes[lane];
        if let Some(batch) = outcome.accepted() {
            let (ids, rows) = batch.to_acked(sent_at);
            let acks = ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked));
            self.data.ledger.record(target.shop, acks);
            disk.acked.extend(rows);
        }
        let changes = plan.on_response(outcome, now);
        if plan.take_unanswered() {
            surveyor.bring_forward(now);
        }
        disk.apply_changes(changes);
    }

    fn on_readback_response(&mut self, lane: usize, completed: readback::CompletedReadback) {
        let now = self.now();
        let SimulatedLane {
            planner: plan,
            readback: surveyor,
            passes,
            ..
        } = &mut self.lanes[lane];
        let clock_skew = plan.end_readback(&completed, now);
        let mut step = surveyor.on_response(completed, clock_skew, now);
        plan.on_changed(&surveyor.take_lost(), now);
        while let Some(next) = step {
            step = match next {
                ReadbackStep::FindMissing(gathering) => surveyor.query_missing(&gathering.run()),
                ReadbackStep::FinishPass(roundup) => {
                    let outcome = roundup.run(&plan.quarantined_skus(), now.wall);
                    plan.on_changed(outcome.lost(), now);
                    surveyor.end_pass(outcome, now);
                    passes.push(surveyor.report().classes.clone());
                    None
                }
            };
        }
        plan.update_readback_alarms(surveyor.report());
    }

    // === The operator ===

    /// Requests a read-back, waits for it and returns the number of SKUs by class.
    pub(super) async fn readback(&mut self) -> BTreeMap<Cow<'static, str>, u64> {
        let now = self.now();
        let passes = self.lanes[0].passes.len();
        self.lanes[0].readback.request_pass(now);
        while self.lanes[0].passes.len() == passes {
            let waited = now.monotonic.elapsed();
            assert!(
                waited < Duration::from_hours(12),
                "{:?}",
                self.readback_report()
            );
            self.advance(Duration::from_secs(1)).await;
        }
        self.lanes[0].passes[passes].clone()
    }

    pub(super) fn readback_report(&self) -> &ReadbackReport {
        self.lanes[0].readback.report()
    }

    /// Class of a SKU of the first worker in its last read-back.
    pub(super) fn class(&self, sku: &str) -> Option<MatchClass> {
        self.data.observations.get(SHOP, self.id(0, sku)).class()
    }

    /// Last count that was sent of a SKU to the first campaign.
    pub(super) fn market_record(&self, sku: &str) -> Option<StockRecord> {
        self.market.get(CAMPAIGN, sku)
    }

    /// Number of updates of a SKU that were sent to the first campaign.
    pub(super) fn received(&self, sku: &str) -> u32 {
        self.market_record(sku)
            .map_or(0, |held| held.updates_received)
    }

    pub(super) fn has_drift_alarm(&self) -> bool {
        self.alarms.is_active(AlarmKind::Drift)
    }

    /// Asserts that the Market's stock equals the seller's at each warehouse, without the SKUs that the
    /// Market rejects, that no limit was exceeded, and that no zero was invented.
    pub(super) fn check_converged(&self) -> Result<(), TestCaseError> {
        self.check_limits()?;
        for lane in &self.lanes {
            let mut book_stock = Vec::new();
            self.data.book.for_each(lane.target.shop, |sku, entry| {
                if !lane.store.quarantined.contains_key(sku) {
                    book_stock.push((sku.to_string(), entry.level().count.get()));
                }
            });
            for campaign in lane.target.warehouses.iter().copied().map(campaign_of) {
                let expected = book_stock.iter().map(|(sku, count)| (sku.as_str(), *count));
                let comparison = compare(expected, &self.market.snapshot(campaign));
                prop_assert!(
                    comparison.differing.is_empty(),
                    "{:?}",
                    comparison.differing
                );
                prop_assert!(comparison.missing.is_empty(), "{:?}", comparison.missing);
                for sku in self.market.skus_ever_zero(campaign) {
                    prop_assert!(lane.stated_zero.contains(&sku), "an invented zero: {}", sku);
                }
            }
        }
        Ok(())
    }

    /// No limit was broken.
    pub(super) fn check_limits(&self) -> Result<(), TestCaseError> {
        let report = self.market.report();
        prop_assert_eq!(
            report.total_violations(),
            0,
            "limits broken: {:?}",
            report.violation_examples
        );
        Ok(())
    }
}

impl SimulatedStore {
    fn apply_changes(&mut self, keep: Vec<DurableChange>) {
        for change in keep {
            match change {
                DurableChange::Quarantined(row) => {
                    drop(self.quarantined.insert(row.sku.clone(), row));
                }
                DurableChange::Released(sku) => drop(self.quarantined.remove(&sku)),
                DurableChange::LimitedUntil(at) => self.limited_until = Some(at),
            }
        }
    }
}

/// Goes to the Market's own router and comes back, through no socket.
#[derive(Clone)]
struct MarketTransport {
    market: MarketSimulator,
    clock: Clock,
    /// Delay of a response after the Market has dated it.
    response_delay: Duration,
    /// Delay of a body after its head.
    body_delay: Duration,
}

impl MarketTransport {
    fn call(&self, request: Request<Body>) -> impl Future<Output = CallOutcome> + use<> {
        let Self {
            market,
            clock,
            response_delay: way_back,
            body_delay: slow_body,
        } = self.clone();
        let call = async move {
            let sent_at = clock.now();
            let response = market.router().oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            sleep(way_back).await;
            let timing = RequestTimes {
                sent_at,
                head_at: clock.now(),
            };
            sleep(slow_body).await;
            let body = body.collect().await.map_err(|error| error.to_string())?;
            let bytes = body.to_bytes();
            Ok(MarketResponse::read(
                head.status.as_u16(),
                &head.headers,
                bytes,
                timing,
            ))
        };
        async move {
            match timeout(CLIENT_TIMEOUT, call).await {
                Ok(Ok(answer)) => CallOutcome::Response(answer),
                Ok(Err(reason)) => CallOutcome::NoResponse(reason),
                Err(_) => CallOutcome::NoResponse("no answer in time".to_owned()),
            }
        }
    }
}

/// The reply to the first key that is not refused; each call begins when it is waited for.
async fn first_accepted(
    replies: [impl Future<Output = CallOutcome>; KEYS.len()],
    first: usize,
) -> CallOutcome {
    let mut replies = Vec::from(replies);
    replies.rotate_left(first);
    let mut last_refusal = None;
    for reply in replies {
        let reply = reply.await;
        if !matches!(
            classify_response(&reply),
            ResponseVerdict::AuthRejected { .. }
        ) {
            return reply;
        }
        last_refusal = Some(reply);
    }
    last_refusal.expect("there is a key")
}

fn update_request(address: &MarketAddress, batch: &UpdateBatch, body: Vec<u8>) -> Request<Body> {
    let (method, path) = match address {
        MarketAddress::Campaign { id } => {
            (HttpMethod::PUT, format!("/v2/campaigns/{id}/offers/stocks"))
        }
        MarketAddress::Business { id, .. } => (
            HttpMethod::POST,
            format!("/v3/businesses/{id}/offers/stocks/update"),
        ),
    };
    request(method, path, KEYS[batch.key_index()], body)
}

fn readback_request(
    address: &MarketAddress,
    key: &str,
    readback_query: &ReadbackQuery,
) -> Request<Body> {
    let path_prefix = match address {
        MarketAddress::Campaign { id } => format!("v2/campaigns/{id}"),
        MarketAddress::Business { id, .. } => format!("v3/businesses/{id}"),
    };
    let (query, body) = readback_query.query_and_body(address);
    request(
        HttpMethod::POST,
        format!("/{path_prefix}/offers/stocks{query}"),
        key,
        body.into_bytes(),
    )
}

fn request(method: HttpMethod, path: String, key: &str, body: Vec<u8>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("Api-Key", key)
        .header("Content-Type", "application/json")
        .body(Body::from(body))
        .unwrap()
}

pub(super) fn sample_stock(n: usize) -> Vec<(String, i64)> {
    (0..n)
        .map(|n| (format!("sku-{n}"), 1 + i64::try_from(n % 7).unwrap()))
        .collect()
}

pub(super) fn with_paused_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test)
}

//! The sentence that is the product: for any order of updates, faults and restarts, once the
//! faults stop the Market's stock equals the book, no limit was ever broken, and no zero
//! appeared that nobody said.
//!
//! The real plan against the real rehearsal Market, without sockets and on a clock that jumps:
//! hours pass in milliseconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stockbridge::clock::Clock;
use stockbridge::http::secret::Secret;
use stockbridge::migrator::pace::Purse;
use stockbridge::migrator::plan::{Batch, Keep, Landed, Now, Plan, Surroundings};
use stockbridge::migrator::{Ledger, Memory, Metrics, Mode, Target};
use stockbridge::partner::client::{Answer, Reply};
use stockbridge::partner::wire::Address;
use stockbridge::rehearsal::{CampaignConfig, Fault, FaultPlan, Market, MarketConfig, compare};
use stockbridge::stock::{Column, Count, Level, Marks, ShopId, Sku, StockBook};
use stockbridge::store::{Acked, Quarantined, Spent};
use stockbridge::telemetry::Alarms;
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt;

const SHOP: ShopId = ShopId(0);
const CAMPAIGN: u64 = 12_345;
const KEYS: [&str; 2] = ["first", "second"];

/// The client's own time-out.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// What the store would hold: written when the store would have written it.
#[derive(Default)]
struct Disk {
    acked: HashMap<Sku, Acked>,
    quarantined: BTreeMap<Sku, Quarantined>,
    spent: Vec<Spent>,
}

/// One campaign's lane with everything around it.
struct Stage {
    book: Arc<StockBook>,
    ledger: Arc<Ledger>,
    disk: Disk,
    plan: Plan,
    market: Market,
    clock: Clock,
    flights: FuturesUnordered<LocalBoxFuture<'static, Landed>>,
    said_zero: HashSet<String>,
    lives: u64,
    limit_share: f64,
}

fn target(limit_share: f64) -> Target {
    Target {
        shop: SHOP,
        name: "shop".to_owned(),
        address: Address::Campaign { id: CAMPAIGN },
        campaign: CAMPAIGN,
        warehouses: vec![7],
        mode: Mode::On,
        keys: KEYS.map(Secret::new).to_vec(),
        parallel: 2,
        limit_share,
    }
}

impl Stage {
    /// A Market with a tenth of the real limit, so that a tenth of the SKUs meets it.
    fn with_a_tenth_of_the_limit() -> Self {
        Self::new(10_000, 0.1)
    }

    fn with_the_real_limit() -> Self {
        Self::new(100_000, 1.0)
    }

    fn new(skus_per_minute: usize, limit_share: f64) -> Self {
        let clock = Clock::starting_at("2026-11-20T10:00:00Z".parse().unwrap());
        let keys = KEYS.map(ToOwned::to_owned).to_vec();
        let market = Market::new(MarketConfig {
            campaigns: vec![CampaignConfig::new(CAMPAIGN, 7, keys)],
            skus_per_minute,
            ..MarketConfig::new(clock)
        });
        let book = Arc::new(StockBook::new([0]));
        let ledger = Arc::new(Ledger::new(vec![Column::default()]));
        let plan = open(&book, &ledger, &Disk::default(), clock, (0, limit_share));
        Self {
            book,
            ledger,
            disk: Disk::default(),
            plan,
            market,
            clock,
            flights: FuturesUnordered::new(),
            said_zero: HashSet::new(),
            lives: 1,
            limit_share,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Instant::now(), wall: self.clock.now() }
    }

    /// The seller says something as of now.
    fn say(&mut self, sku: &str, count: i64) {
        self.say_as_of(sku, count, TimeDelta::zero());
    }

    /// The seller says something, with a date so far from now. Store first, then book, then
    /// nudge, as ingest does.
    fn say_as_of(&mut self, sku: &str, count: i64, ahead: TimeDelta) {
        let sku = Sku::parse(sku).unwrap();
        if count == 0 {
            self.said_zero.insert(sku.to_string());
        }
        let level = Level {
            count: Count::try_from(count).unwrap(),
            updated_at: (self.clock.now() + ahead).into(),
        };
        self.book.apply(SHOP, &sku, level);
        let now = self.now();
        self.plan.hint(&[sku], now);
    }

    /// `kill -9`, and a start from what is on disk. What was under way is cut: the Market may
    /// have taken it or not, and its answer reaches nobody.
    fn restart(&mut self) {
        self.lives += 1;
        self.flights.clear();
        let mut column = Column::default();
        for (sku, acked) in &self.disk.acked {
            if let Some(entry) = self.book.get(SHOP, sku.as_str()) {
                column.set(entry.id(), *acked);
            }
        }
        self.ledger = Arc::new(Ledger::new(vec![column]));
        let fate = (self.lives, self.limit_share);
        self.plan = open(&self.book, &self.ledger, &self.disk, self.clock, fate);
    }

    /// Lives for so long, or until nothing is left to do.
    async fn live(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let now = self.now();
            if self.plan.wants_scan(now) {
                let found = self.plan.begin_scan(now).run();
                self.plan.end_scan(found, now);
            }
            self.plan.hint(&[], now);
            while let Some((batch, body)) = self.plan.next(now) {
                let skus = u32::try_from(batch.skus()).unwrap();
                self.disk.spent.push(Spent { at: now.wall, skus });
                self.flights.push(fly(self.market.clone(), self.clock, batch, body));
            }
            let keep = self.plan.take_keep();
            self.keep(keep);
            let wake = self.plan.wake_at(now).min(end);
            tokio::select! {
                Some(landed) = self.flights.next() => self.land(landed),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn land(&mut self, landed: Landed) {
        if let Some(batch) = landed.accepted() {
            let (ids, rows) = batch.acknowledged(self.clock.now());
            self.ledger.record(SHOP, ids.into_iter().zip(rows.iter().map(|(_, acked)| *acked)));
            self.disk.acked.extend(rows);
        }
        let now = self.now();
        let keep = self.plan.land(landed, now);
        self.keep(keep);
    }

    fn keep(&mut self, keep: Vec<Keep>) {
        for keep in keep {
            match keep {
                Keep::Quarantined(row) => self.disk.quarantined.insert(row.sku.clone(), row),
                Keep::Released(sku) => self.disk.quarantined.remove(&sku),
            };
        }
    }

    /// What the seller has, without what the Market refuses.
    fn check(&self) -> Result<(), TestCaseError> {
        let report = self.market.report();
        prop_assert_eq!(report.broken_in_all(), 0, "limits broken: {:?}", report.examples);
        let mut shelf = Vec::new();
        self.book.for_each(SHOP, |sku, entry| {
            if !self.disk.quarantined.contains_key(sku) {
                shelf.push((sku.to_string(), entry.level().count.get()));
            }
        });
        let expected = shelf.iter().map(|(sku, count)| (sku.as_str(), *count));
        let comparison = compare(expected, &self.market.snapshot(CAMPAIGN));
        prop_assert!(comparison.differing.is_empty(), "{:?}", comparison.differing);
        prop_assert!(comparison.missing.is_empty(), "{:?}", comparison.missing);
        for sku in self.market.ever_zero(CAMPAIGN) {
            prop_assert!(self.said_zero.contains(&sku), "a zero nobody said: {}", sku);
        }
        Ok(())
    }
}

fn open(
    book: &Arc<StockBook>,
    ledger: &Arc<Ledger>,
    disk: &Disk,
    clock: Clock,
    (seed, limit_share): (u64, f64),
) -> Plan {
    let around = Surroundings {
        book: Arc::clone(book),
        ledger: Arc::clone(ledger),
        alarms: Alarms::new(clock),
        metrics: Metrics::default(),
        purse: Purse::new(&target(limit_share).address, limit_share),
        marks: Arc::new(Marks::new(vec![vec![7]])),
        history: Arc::default(),
    };
    let memory = Memory {
        quarantined: disk.quarantined.values().cloned().collect(),
        spent: disk.spent.clone(),
        last_equal: None,
        hidden: Vec::new(),
    };
    let now = Now { mono: Instant::now(), wall: clock.now() };
    Plan::new(target(limit_share), around, memory, now, StdRng::seed_from_u64(seed))
}

/// The way to the Market and back: to its own router, through no socket.
fn fly(
    market: Market,
    clock: Clock,
    batch: Batch,
    body: Vec<u8>,
) -> LocalBoxFuture<'static, Landed> {
    let request = axum::http::Request::put(format!("/v2/campaigns/{CAMPAIGN}/offers/stocks"))
        .header("Api-Key", KEYS[batch.key()])
        .header("Content-Type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let call = async move {
        let response = market.router().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        match body.collect().await {
            Ok(body) => Reply::Answer(Answer::read(
                head.status.as_u16(),
                &head.headers,
                body.to_bytes(),
                clock.now(),
            )),
            Err(error) => Reply::Failure(error.to_string()),
        }
    };
    Box::pin(async move {
        let reply = timeout(CLIENT_TIMEOUT, call).await;
        let reply = reply.unwrap_or_else(|_| Reply::Failure("no answer in time".to_owned()));
        Landed::new(batch, reply, Now { mono: Instant::now(), wall: clock.now() })
    })
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// SKUs with counts, and by how many minutes their dates are ahead of the clock.
    Say(Vec<(usize, i64, i64)>),
    Pass(u64),
    Restart,
    Storm(u64),
    Heal,
    Revoke,
}

/// Mostly now; at times from the day before yesterday, or from a clock that runs ahead.
fn minutes_ahead() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0i64), 1 => Just(-2 * 24 * 60), 1 => Just(4)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec((0usize..60, 0i64..5, minutes_ahead()), 1..40).prop_map(Event::Say),
        4 => (0u64..40).prop_map(Event::Pass),
        1 => Just(Event::Restart),
        2 => any::<u64>().prop_map(Event::Storm),
        1 => Just(Event::Heal),
        1 => Just(Event::Revoke),
    ]
}

fn on_a_jumping_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn once_the_faults_stop_the_market_equals_the_book(
        events in prop::collection::vec(event(), 1..30),
        named in any::<bool>(),
        poison in prop::collection::hash_set(0usize..60, 0..4),
    ) {
        on_a_jumping_clock(async {
            let poison: Vec<String> = poison.into_iter().map(|n| format!("sku-{n}")).collect();
            let poisoned = |plan: FaultPlan| plan.poisoned(poison.clone(), named);
            let mut stage = Stage::with_the_real_limit();
            stage.market.set_faults(poisoned(FaultPlan::none()));
            for event in events {
                match event {
                    Event::Say(rows) => {
                        for (n, count, ahead) in rows {
                            let ahead = TimeDelta::minutes(ahead);
                            stage.say_as_of(&format!("sku-{n}"), count, ahead);
                        }
                        stage.live(Duration::from_millis(1)).await;
                    }
                    Event::Pass(seconds) => stage.live(Duration::from_secs(seconds)).await,
                    Event::Restart => stage.restart(),
                    Event::Storm(seed) => {
                        stage.market.set_faults(poisoned(FaultPlan::storm(seed, 0.5)));
                    }
                    Event::Heal => stage.market.set_faults(poisoned(FaultPlan::none())),
                    Event::Revoke => stage.market.revoke_key(KEYS[0]),
                }
            }
            stage.market.set_faults(poisoned(FaultPlan::none()));
            stage.live(Duration::from_secs(3600)).await;
            stage.check()?;
            for sku in stage.disk.quarantined.keys() {
                prop_assert!(poison.iter().any(|poison| poison == sku.as_str()), "{} is good", sku);
            }
            Ok(())
        })?;
    }
}

fn stock(n: usize) -> Vec<(String, i64)> {
    (0..n).map(|n| (format!("sku-{n}"), 1 + i64::try_from(n % 7).unwrap())).collect()
}

#[test]
fn a_limit_that_is_met_is_used_up_and_never_broken_across_restarts() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        for (sku, count) in stock(25_000) {
            stage.say(&sku, count);
        }
        let begun = Instant::now();
        for _ in 0..5 {
            stage.live(Duration::from_secs(7)).await;
            stage.restart();
        }
        while stage.market.len(CAMPAIGN) < 25_000 {
            stage.live(Duration::from_secs(1)).await;
            assert!(begun.elapsed() < Duration::from_mins(6), "{}", stage.market.len(CAMPAIGN));
        }
        stage.live(Duration::from_secs(1)).await;
        stage.check().unwrap();
        assert!(stage.market.report().requests <= 13 + 10, "{:?}", stage.market.report());
    });
}

#[test]
fn a_backlog_goes_in_the_time_the_limit_allows() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        for (sku, count) in stock(30_000) {
            stage.say(&sku, count);
        }
        let begun = Instant::now();
        while stage.market.len(CAMPAIGN) < 30_000 {
            stage.live(Duration::from_secs(1)).await;
        }
        // Three minutes' worth: the first at once, the last two minutes later.
        assert!(begun.elapsed() <= Duration::from_secs(122), "{:?}", begun.elapsed());
        let report = stage.market.report();
        assert_eq!((report.requests, report.refused.len()), (15, 0));
        stage.check().unwrap();
    });
}

#[test]
fn a_poison_sku_costs_a_few_requests_and_the_others_go_in_the_same_cycle() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let poison = "sku-1234".to_owned();
        stage.market.set_faults(FaultPlan::none().poisoned([poison.clone()], false));
        for (sku, count) in stock(2_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_secs(5)).await;
        assert_eq!(stage.disk.quarantined.keys().map(Sku::as_str).collect::<Vec<_>>(), [poison]);
        let requests = stage.market.report().requests;
        assert!(requests <= 24, "{requests} requests for one poison SKU in 2000");
        stage.check().unwrap();
    });
}

#[test]
fn when_every_batch_is_refused_nothing_is_set_aside() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let all = stock(500).into_iter().map(|(sku, _)| sku);
        stage.market.set_faults(FaultPlan::none().poisoned(all, false));
        for (sku, count) in stock(500) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_mins(5)).await;
        assert!(stage.disk.quarantined.is_empty());
        let now = stage.now();
        assert_eq!(stage.plan.report(now).state, "paused");
        stage.market.heal();
        stage.live(Duration::from_hours(2)).await;
        stage.check().unwrap();
    });
}

#[test]
fn zeros_and_decreases_overtake_a_long_backlog() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        stage.say("falls-to-zero", 5);
        stage.say("decreases", 5);
        stage.live(Duration::from_secs(1)).await;
        for (sku, count) in stock(22_000) {
            stage.say(&sku, count);
        }
        // The first minute's volume goes at once; then the seller sells.
        stage.live(Duration::from_secs(30)).await;
        stage.say("decreases", 4);
        stage.say("falls-to-zero", 0);
        stage.live(Duration::from_secs(32)).await;
        let count = |sku| stage.market.get(CAMPAIGN, sku).map(|held| held.count);
        assert_eq!((count("falls-to-zero"), count("decreases")), (Some(0), Some(4)));
        assert!(stage.market.len(CAMPAIGN) < 22_000, "the backlog is still waiting");
    });
}

#[test]
fn a_closed_campaign_is_looked_at_hourly_and_then_goes_on() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_a_tenth_of_the_limit();
        let until: DateTime<Utc> = stage.clock.now() + TimeDelta::minutes(90);
        stage.market.set_faults(FaultPlan::none().locked_until(until));
        stage.say("sku-1", 5);
        stage.live(Duration::from_mins(89)).await;
        assert_eq!(stage.market.report().requests, 2);
        stage.live(Duration::from_mins(32)).await;
        assert_eq!(stage.market.report().requests, 3);
        stage.check().unwrap();
    });
}

#[test]
fn what_does_not_fit_the_backlog_is_found_again() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_the_real_limit();
        for (sku, count) in stock(60_000) {
            stage.say(&sku, count);
        }
        stage.live(Duration::from_secs(5)).await;
        stage.check().unwrap();
    });
}

#[test]
fn a_change_during_the_request_goes_right_after_it() {
    on_a_jumping_clock(async {
        let mut stage = Stage::with_the_real_limit();
        let slow = FaultPlan::none().with(Fault::Slow, 1.0).slow_by(Duration::from_secs(2));
        stage.market.set_faults(slow);
        stage.say("sku-1", 5);
        stage.live(Duration::from_secs(1)).await;
        stage.say("sku-1", 4);
        stage.live(Duration::from_secs(5)).await;
        assert_eq!(stage.market.get(CAMPAIGN, "sku-1").map(|held| held.count), Some(4));
        assert_eq!(stage.market.report().requests, 2);
    });
}

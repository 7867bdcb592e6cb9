//! Tests of the planner against a Market that rejects some SKUs, or everything for a while. No
//! sockets, no clock.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle::Clock;
use market_api::partner::client::{CallOutcome, MarketResponse, RateHeaders, RequestTimes};
use rand::SeedableRng;
use stock::{Activity, Count, Level, PerSku, ShopId, StockBook};
use strict_http::secret::Secret;

use super::isolation::REJECTIONS_UNTIL_SYSTEMIC;
use super::*;
use crate::migrator::{Mode, WorkerState};

const SHOP: ShopId = ShopId(0);
const REJECTED_BODY: &str =
    r#"{"status":"ERROR","errors":[{"code":"BAD_REQUEST","message":"Request is invalid"}]}"#;

/// Planner with its book, its ledger and its persisted quarantine.
struct PlannerHarness {
    planner: Planner,
    data: ShopData,
    quarantined: BTreeMap<String, QuarantineEntry>,
    now: Now,
    requests: usize,
    /// Time step while nothing can be sent.
    idle: Duration,
}

/// Returns true if the Market accepts a request, given its number and its SKUs with their counts.
type AcceptRule<'a> = &'a dyn Fn(usize, &[(String, u32)]) -> bool;

fn campaign() -> MarketAddress {
    MarketAddress::Campaign { id: 1 }
}

fn business() -> MarketAddress {
    MarketAddress::Business {
        id: 9,
        warehouses: vec![7],
    }
}

impl PlannerHarness {
    fn new(address: &MarketAddress) -> Self {
        Self::with_restored(address, RestoredState::default())
    }

    fn with_restored(address: &MarketAddress, restored: RestoredState) -> Self {
        let wall: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let now = Now {
            monotonic: Instant::now(),
            wall,
        };
        let book = StockBook::new([0]);
        let activity = Activity::new(&book, vec![vec![7]]);
        let acked = vec![PerSku::default()];
        let data = ShopData::new(book, acked, activity);
        let target = MarketTarget {
            shop: SHOP,
            name: "moscow".to_owned(),
            address: address.clone(),
            campaign: 1,
            warehouses: vec![7],
            mode: Mode::On,
            keys: vec![Secret::new("key")],
            parallel: 1,
            limit_share: 1.0,
        };
        let deps = PlannerDeps {
            data: data.clone(),
            alarms: Alarms::new(Clock::starting_at(wall)),
            metrics: Metrics::default(),
            limiter: SharedRateLimiter::new(address, 1.0),
            rejected_keys: RejectedKeys::default(),
            request_timeout: Duration::from_secs(60),
        };
        let rng = StdRng::seed_from_u64(7);
        let planner = Planner::new(target, deps, restored, now, rng);
        let idle = Duration::from_secs(1);
        Self {
            planner,
            data,
            quarantined: BTreeMap::new(),
            now,
            requests: 0,
            idle,
        }
    }

    fn set_stock(&mut self, sku: &str, count: u32) {
        let sku = Sku::parse(sku).unwrap();
        let count = Count::try_from(i64::from(count)).unwrap();
        let level = Level {
            count,
            updated_at: self.now.wall.into(),
        };
        StockBook::apply(&self.data.book, SHOP, &sku, level);
        self.planner.on_changed(&[sku], self.now);
    }

    fn advance(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
    }

    fn apply_changes(&mut self, changes: Vec<DurableChange>) {
        for change in changes {
            match change {
                DurableChange::Quarantined(entry) => {
                    drop(self.quarantined.insert(entry.sku.to_string(), entry));
                }
                DurableChange::Released(sku) => drop(self.quarantined.remove(sku.as_str())),
                DurableChange::LimitedUntil(_) => {}
            }
        }
    }

    /// Sends one request, if one may be sent now.
    fn send_one(&mut self, accepts: AcceptRule<'_>) -> bool {
        let Some((batch, _)) = self.planner.next_batch(self.now) else {
            return false;
        };
        let skus: Vec<_> = batch
            .items
            .iter()
            .map(|item| (item.sku.sku.to_string(), item.level.count.get()))
            .collect();
        let is_accepted = accepts(self.requests, &skus);
        self.requests += 1;
        let (status, body) = if is_accepted {
            (200, r#"{"status":"OK"}"#)
        } else {
            (400, REJECTED_BODY)
        };
        self.advance(Duration::from_millis(100));
        let response = MarketResponse {
            status,
            body: body.into(),
            rate: RateHeaders::default(),
            date: None,
            times: RequestTimes {
                sent_at: self.now.wall,
                head_at: self.now.wall,
            },
            trace_id: None,
        };
        let completed = CompletedBatch::new(batch, CallOutcome::Response(response), self.now);
        if let Some(batch) = completed.accepted() {
            let (ids, rows) = batch.to_acked(self.now.wall);
            let acked = ids
                .into_iter()
                .zip(rows.into_iter().map(|(_, acked)| acked));
            self.data.ledger.record(SHOP, acked);
        }
        let changes = self.planner.on_response(completed, self.now);
        self.apply_changes(changes);
        true
    }

    /// Runs the planner for this time.
    fn run_for(&mut self, time: Duration, accepts: AcceptRule<'_>) {
        let end = self.now.monotonic + time;
        while self.now.monotonic < end {
            self.planner.on_changed(&[], self.now);
            if !self.send_one(accepts) {
                self.advance(self.idle);
            }
            let changes = self.planner.take_changes();
            self.apply_changes(changes);
        }
    }

    fn unsent(&self) -> BTreeSet<String> {
        let mut unsent = BTreeSet::new();
        self.data.book.for_each(SHOP, |sku, entry| {
            if self.data.ledger.get(SHOP, entry.id()).level() != Some(entry.level()) {
                unsent.insert(sku.to_string());
            }
        });
        unsent
    }
}

/// Some SKUs are always rejected, and from any request on a fault rejects everything for a while.
#[test]
fn fault_during_isolation_quarantines_no_valid_sku() {
    for address in [campaign(), business()] {
        for bad in [vec![], vec![13], vec![0, 1, 40]] {
            for start in 0..40 {
                let bad = bad.iter().map(|n| format!("sku-{n}")).collect();
                isolate_through_faults(&address, &bad, start);
            }
        }
    }
}

fn isolate_through_faults(address: &MarketAddress, bad: &BTreeSet<String>, start: usize) {
    for duration in [1, 2, 3, 9, 13, usize::MAX] {
        let case = format!("{address}, {bad:?} bad, {duration} from {start}");
        let accepts = |request: usize, skus: &[(String, u32)]| {
            let is_fault_active = request >= start && request - start < duration;
            !is_fault_active && !skus.iter().any(|(sku, _)| bad.contains(sku))
        };
        let mut harness = PlannerHarness::new(address);
        harness.idle = Duration::from_secs(10);
        (0..64).for_each(|n| harness.set_stock(&format!("sku-{n}"), n % 5));
        let hour = TimeDelta::hours(1);
        // A fault of thirteen requests lasts over an hour if one is sent every ten minutes.
        for _ in 0..150 {
            harness.run_for(Duration::from_mins(1), &accepts);
            for (sku, entry) in &harness.quarantined {
                // An unconfirmed SKU is retried within minutes.
                let is_short = entry.retry_at - harness.now.wall < hour / 2;
                assert!(bad.contains(sku) || is_short, "{case}: {entry:?}");
            }
        }
        if duration < usize::MAX {
            assert_eq!(&harness.unsent(), bad, "{case}");
            assert!(
                harness.quarantined.keys().eq(bad),
                "{case}: {:?}",
                harness.quarantined.keys()
            );
        } else if harness.unsent().len() > REJECTIONS_UNTIL_SYSTEMIC + 3 {
            assert!(
                harness.quarantined.keys().all(|sku| bad.contains(sku)),
                "{case}"
            );
        }
    }
}

/// A request that was accepted before the fault confirms no rejection.
#[test]
fn earlier_acceptance_confirms_no_rejection() {
    let mut harness = PlannerHarness::new(&campaign());
    (0..16).for_each(|n| harness.set_stock(&format!("sku-{n}"), 1));
    // The whole batch is rejected, its first half is accepted, and then everything is rejected.
    harness.run_for(Duration::from_secs(40), &|request, _| request == 1);
    assert!(harness.quarantined.is_empty(), "{:?}", harness.quarantined);
    assert_eq!(
        harness.planner.update_status(harness.now).state,
        WorkerState::Paused
    );
}

#[test]
fn quarantines_a_block_after_another_acceptance() {
    for address in [campaign(), business()] {
        let accepts =
            |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| sku.starts_with("bad"));
        let mut harness = PlannerHarness::new(&address);
        (0..40).for_each(|n| harness.set_stock(&format!("bad-{n}"), 1));
        for n in 0..40 {
            harness.run_for(Duration::from_mins(6), &accepts);
            harness.set_stock(&format!("good-{n}"), 1);
        }
        harness.run_for(Duration::from_mins(6), &accepts);
        assert_eq!(
            harness.quarantined.len(),
            40,
            "{:?}",
            harness.quarantined.keys()
        );
        assert_eq!(harness.unsent().len(), 40);
    }
}

#[test]
fn probes_a_systemic_rejection_once_per_pause() {
    for address in [campaign(), business()] {
        let mut harness = PlannerHarness::new(&address);
        (0..4_000).for_each(|n| harness.set_stock(&format!("sku-{n}"), 1));
        harness.run_for(Duration::from_mins(1), &|_, _| false);
        let until_noticed = harness.requests;
        assert!(
            until_noticed <= 24,
            "{until_noticed} requests until it was noticed"
        );
        harness.run_for(Duration::from_mins(30), &|_, _| false);
        assert!(
            harness.requests - until_noticed <= 17,
            "{} requests in pauses",
            harness.requests - until_noticed
        );
        assert!(harness.quarantined.is_empty());
        harness.run_for(Duration::from_mins(6), &|_, _| true);
        assert!(harness.unsent().is_empty());
    }
}

#[test]
fn business_isolation_accepts_most_skus_early() {
    let mut harness = PlannerHarness::new(&business());
    (0..20_000).for_each(|n| harness.set_stock(&format!("sku-{n}"), 1 + n % 7));
    let mut rng = StdRng::seed_from_u64(42);
    let bad = rand::seq::index::sample(&mut rng, 20_000, 42);
    let bad: BTreeSet<String> = bad.iter().map(|n| format!("sku-{n}")).collect();
    let accepts = |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| bad.contains(sku));
    let mut minutes = BTreeMap::new();
    for minute in 1..=20 {
        harness.run_for(Duration::from_mins(1), &accepts);
        let unsent = harness.unsent().len() - bad.len();
        for share in [2_000, 1_000, 200, 0] {
            if unsent <= share {
                minutes.entry(share).or_insert(minute);
            }
        }
    }
    assert!(
        harness.quarantined.keys().eq(&bad),
        "{:?}",
        harness.quarantined.keys()
    );
    let bounds = [(2_000, 6), (1_000, 7), (200, 10), (0, 14)];
    for (share, bound) in bounds {
        assert!(
            minutes[&share] <= bound,
            "all but {share} after {minutes:?} minutes"
        );
    }
}

#[test]
fn business_zero_does_not_wait_for_rejected_skus() {
    let mut harness = PlannerHarness::new(&business());
    harness.set_stock("falls", 3);
    harness.run_for(Duration::from_secs(1), &|_, _| true);
    (0..6_000).for_each(|n| harness.set_stock(&format!("sku-{n}"), 1));
    let accepts = |_, skus: &[(String, u32)]| skus.iter().all(|(_, count)| *count != 1);
    harness.run_for(Duration::from_secs(1), &accepts);
    harness.set_stock("falls", 0);
    let sent = harness.requests;
    while harness.unsent().contains("falls") {
        harness.run_for(Duration::from_millis(50), &accepts);
        assert!(
            harness.requests - sent <= 2,
            "{} requests",
            harness.requests - sent
        );
    }
}

#[test]
fn changed_count_restarts_the_quarantine_pause() {
    let mut harness = PlannerHarness::new(&campaign());
    let accepts = |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| sku == "bad");
    for round in 0..6 {
        harness.set_stock("bad", 1);
        harness.set_stock(&format!("good-{round}"), 1);
        harness.run_for(Duration::from_mins(90), &accepts);
    }
    let entry = harness.quarantined["bad"].clone();
    assert!(
        entry.attempts >= 3 && entry.retry_at - harness.now.wall > TimeDelta::hours(1),
        "{entry:?}"
    );
    harness.set_stock("bad", 2);
    harness.set_stock("good", 2);
    harness.run_for(Duration::from_mins(1), &accepts);
    let entry = &harness.quarantined["bad"];
    assert_eq!((entry.attempts, entry.level.count.get()), (1, 2));
    assert!(entry.retry_at - harness.now.wall <= TimeDelta::hours(1));
}

#[test]
fn rate_limit_pause_survives_a_restart() {
    let mut harness = PlannerHarness::new(&campaign());
    harness.set_stock("A", 1);
    let (batch, _) = harness.planner.next_batch(harness.now).unwrap();
    let body = r#"{"status":"ERROR","errors":[{"code":"X","message":"Hit rate limit of 100000 requests per '60 SECONDS'"}]}"#;
    let response = MarketResponse {
        status: 420,
        body: body.into(),
        rate: RateHeaders {
            resets_in: Some(Duration::from_secs(90)),
            ..RateHeaders::default()
        },
        date: None,
        times: RequestTimes {
            sent_at: harness.now.wall,
            head_at: harness.now.wall,
        },
        trace_id: None,
    };
    let completed = CompletedBatch::new(batch, CallOutcome::Response(response), harness.now);
    let changes = harness.planner.on_response(completed, harness.now);
    let [DurableChange::LimitedUntil(until)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert!((89..=91).contains(&(*until - harness.now.wall).num_seconds()));
    let restored = RestoredState {
        limited_until: Some(*until),
        ..RestoredState::default()
    };
    let mut harness = PlannerHarness::with_restored(&campaign(), restored);
    harness.set_stock("A", 1);
    harness.run_for(Duration::from_secs(89), &|_, _| true);
    assert_eq!(harness.requests, 0);
    harness.run_for(Duration::from_secs(3), &|_, _| true);
    assert_eq!(harness.requests, 1);
}

fn pause_since(since: DateTime<Utc>) -> OperatorPause {
    OperatorPause {
        since,
        through: None,
    }
}

#[test]
fn operator_pause_keeps_batches_back() {
    let mut harness = PlannerHarness::new(&campaign());
    let since = harness.now.wall;
    harness.planner.set_operator_pause(Some(pause_since(since)));
    harness.set_stock("A", 1);
    harness.run_for(Duration::from_hours(1), &|_, _| true);
    assert_eq!(harness.requests, 0);
    let now = harness.now;
    let status = harness.planner.update_status(now);
    assert_eq!(
        (status.state, status.waiting_skus),
        (WorkerState::Paused, 1)
    );
    assert_eq!(status.reason.as_deref(), Some("paused by the operator"));
    assert_eq!(status.paused_since, Some(since));
    assert!(harness.planner.deps.alarms.active().is_empty());
    // A worker that is paused sleeps, and read-backs do not take turns with waiting batches.
    harness.planner.next_rescan_at = now.monotonic + Duration::from_mins(5);
    assert!(harness.planner.wake_at(now) > now.monotonic);
    harness.planner.in_flight.begin_readback();
    harness.planner.in_flight.end_readback();
    assert!(harness.planner.begin_readback(Duration::ZERO, now));
    harness.planner.in_flight.end_readback();
    harness.planner.deps.limiter.lock().end_readback();
    harness.planner.set_operator_pause(None);
    harness.run_for(Duration::from_secs(2), &|_, _| true);
    assert_eq!(harness.requests, 1);
    let status = harness.planner.update_status(harness.now);
    assert_eq!(
        (status.state, status.paused_since),
        (WorkerState::Idle, None)
    );
}

#[test]
fn a_restored_pause_holds_from_the_start() {
    let restored = RestoredState {
        operator_pause: Some(pause_since(DateTime::UNIX_EPOCH)),
        ..RestoredState::default()
    };
    let mut harness = PlannerHarness::with_restored(&campaign(), restored);
    harness.set_stock("A", 1);
    harness.run_for(Duration::from_mins(5), &|_, _| true);
    assert_eq!(harness.requests, 0);
}

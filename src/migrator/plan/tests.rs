//! The plan against a Market that rejects some SKUs, or everything for a while. No sockets, no
//! clock.

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;

use super::isolate::SUSPECTS_UNTIL_SYSTEMIC;
use super::*;
use crate::clock::Clock;
use crate::http::secret::Secret;
use crate::migrator::Mode;
use crate::partner::client::{Answer, Way};
use crate::stock::{Column, ShopId};

const SHOP: ShopId = ShopId(0);
const REJECTED: &str =
    r#"{"status":"ERROR","errors":[{"code":"BAD_REQUEST","message":"Request is invalid"}]}"#;

/// A plan, its book and ledger, and what it made durable.
struct Bench {
    plan: Plan,
    book: Arc<StockBook>,
    ledger: Arc<Ledger>,
    rows: BTreeMap<String, Quarantined>,
    now: Now,
    requests: usize,
    /// Time that passes while nothing can be sent.
    idle: Duration,
}

/// What the Market makes of a request: its number and its SKUs with their counts.
type Judge<'a> = &'a dyn Fn(usize, &[(String, u32)]) -> bool;

fn campaign() -> Address {
    Address::Campaign { id: 1 }
}

fn business() -> Address {
    Address::Business {
        id: 9,
        warehouses: vec![7],
    }
}

impl Bench {
    fn new(address: &Address) -> Self {
        Self::remembering(address, Memory::default())
    }

    fn remembering(address: &Address, memory: Memory) -> Self {
        let wall: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let now = Now {
            mono: Instant::now(),
            wall,
        };
        let book = Arc::new(StockBook::new([0]));
        let ledger = Arc::new(Ledger::new(vec![Column::default()]));
        let target = Target {
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
        let around = Surroundings {
            book: Arc::clone(&book),
            ledger: Arc::clone(&ledger),
            alarms: Alarms::new(Clock::starting_at(wall)),
            metrics: Metrics::default(),
            purse: Purse::new(address, 1.0),
            keys: Keys::default(),
            marks: Arc::new(Marks::new(vec![vec![7]])),
            history: Arc::default(),
        };
        let dice = StdRng::seed_from_u64(7);
        let plan = Plan::new(target, around, memory, now, dice);
        let idle = Duration::from_secs(1);
        Self {
            plan,
            book,
            ledger,
            rows: BTreeMap::new(),
            now,
            requests: 0,
            idle,
        }
    }

    fn say(&mut self, sku: &str, count: u32) {
        let sku = Sku::parse(sku).unwrap();
        let count = Count::try_from(i64::from(count)).unwrap();
        let level = Level {
            count,
            updated_at: self.now.wall.into(),
        };
        StockBook::apply(&self.book, SHOP, &sku, level);
        self.plan.hint(&[sku], self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.wall += time;
    }

    fn keep(&mut self, keep: Vec<Keep>) {
        for keep in keep {
            match keep {
                Keep::Quarantined(row) => drop(self.rows.insert(row.sku.to_string(), row)),
                Keep::Released(sku) => drop(self.rows.remove(sku.as_str())),
                Keep::LimitedUntil(_) => {}
            }
        }
    }

    /// Sends one request, if one may go out.
    fn step(&mut self, accepts: Judge<'_>) -> bool {
        let Some((batch, _)) = self.plan.next(self.now) else {
            return false;
        };
        let skus: Vec<_> = batch
            .items
            .iter()
            .map(|item| (item.sku.to_string(), item.level.count.get()))
            .collect();
        let is_accepted = accepts(self.requests, &skus);
        self.requests += 1;
        let (status, body) = if is_accepted {
            (200, r#"{"status":"OK"}"#)
        } else {
            (400, REJECTED)
        };
        self.pass(Duration::from_millis(100));
        let answer = Answer {
            status,
            body: body.into(),
            rate: RateHeaders::default(),
            date: None,
            way: Way {
                asked: self.now.wall,
                head: self.now.wall,
            },
            trace: None,
        };
        let landed = Landed::new(batch, Reply::Answer(answer), self.now);
        if let Some(batch) = landed.accepted() {
            let (ids, rows) = batch.acknowledged(self.now.wall);
            let acked = ids
                .into_iter()
                .zip(rows.into_iter().map(|(_, acked)| acked));
            self.ledger.record(SHOP, acked);
        }
        let keep = self.plan.land(landed, self.now);
        self.keep(keep);
        true
    }

    /// Lives for so long.
    fn live(&mut self, time: Duration, accepts: Judge<'_>) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            self.plan.hint(&[], self.now);
            if !self.step(accepts) {
                self.pass(self.idle);
            }
            let keep = self.plan.take_keep();
            self.keep(keep);
        }
    }

    fn unsent(&self) -> BTreeSet<String> {
        let mut unsent = BTreeSet::new();
        self.book.for_each(SHOP, |sku, entry| {
            if self.ledger.get(SHOP, entry.id()).level() != Some(entry.level()) {
                unsent.insert(sku.to_string());
            }
        });
        unsent
    }
}

/// Some SKUs are always rejected, and a fault that begins at any request rejects everything.
#[test]
fn a_fault_that_begins_at_any_step_of_the_isolation_puts_no_innocent_sku_aside() {
    for address in [campaign(), business()] {
        for bad in [vec![], vec![13], vec![0, 1, 40]] {
            for begins in 0..40 {
                let bad = bad.iter().map(|n| format!("sku-{n}")).collect();
                isolate_through_faults(&address, &bad, begins);
            }
        }
    }
}

fn isolate_through_faults(address: &Address, bad: &BTreeSet<String>, begins: usize) {
    for lasts in [1, 2, 3, 9, 13, usize::MAX] {
        let case = format!("{address}, {bad:?} bad, {lasts} from {begins}");
        let accepts = |request: usize, skus: &[(String, u32)]| {
            let is_fault = request >= begins && request - begins < lasts;
            !is_fault && !skus.iter().any(|(sku, _)| bad.contains(sku))
        };
        let mut bench = Bench::new(address);
        bench.idle = Duration::from_secs(10);
        (0..64).for_each(|n| bench.say(&format!("sku-{n}"), n % 5));
        let hour = TimeDelta::hours(1);
        // A fault of thirteen requests outlasts an hour where one goes every ten minutes.
        for _ in 0..150 {
            bench.live(Duration::from_mins(1), &accepts);
            for (sku, row) in &bench.rows {
                // Without a proof it is tried again within minutes.
                let is_short = row.retry_at - bench.now.wall < hour / 2;
                assert!(bad.contains(sku) || is_short, "{case}: {row:?}");
            }
        }
        if lasts < usize::MAX {
            assert_eq!(&bench.unsent(), bad, "{case}");
            assert!(bench.rows.keys().eq(bad), "{case}: {:?}", bench.rows.keys());
        } else if bench.unsent().len() > SUSPECTS_UNTIL_SYSTEMIC + 3 {
            assert!(bench.rows.keys().all(|sku| bad.contains(sku)), "{case}");
        }
    }
}

/// A part of the SKUs that were sent in a batch before the fault is not proof against others.
#[test]
fn an_acceptance_older_than_the_rejection_is_no_proof() {
    let mut bench = Bench::new(&campaign());
    (0..16).for_each(|n| bench.say(&format!("sku-{n}"), 1));
    // The whole is rejected, the first half accepted, and from then on nothing.
    bench.live(Duration::from_secs(40), &|request, _| request == 1);
    assert!(bench.rows.is_empty(), "{:?}", bench.rows);
    assert_eq!(bench.plan.report(bench.now).state, "paused");
}

#[test]
fn a_block_of_rejected_skus_is_set_aside_once_something_else_is_accepted() {
    for address in [campaign(), business()] {
        let accepts =
            |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| sku.starts_with("bad"));
        let mut bench = Bench::new(&address);
        (0..40).for_each(|n| bench.say(&format!("bad-{n}"), 1));
        for n in 0..40 {
            bench.live(Duration::from_mins(6), &accepts);
            bench.say(&format!("good-{n}"), 1);
        }
        bench.live(Duration::from_mins(6), &accepts);
        assert_eq!(bench.rows.len(), 40, "{:?}", bench.rows.keys());
        assert_eq!(bench.unsent().len(), 40);
    }
}

#[test]
fn a_systemic_rejection_is_probed_with_one_request_a_pause() {
    for address in [campaign(), business()] {
        let mut bench = Bench::new(&address);
        (0..4_000).for_each(|n| bench.say(&format!("sku-{n}"), 1));
        bench.live(Duration::from_mins(1), &|_, _| false);
        let found = bench.requests;
        assert!(found <= 24, "{found} requests until it was noticed");
        bench.live(Duration::from_mins(30), &|_, _| false);
        assert!(
            bench.requests - found <= 17,
            "{} requests in pauses",
            bench.requests - found
        );
        assert!(bench.rows.is_empty());
        bench.live(Duration::from_mins(6), &|_, _| true);
        assert!(bench.unsent().is_empty());
    }
}

#[test]
fn by_business_most_skus_are_accepted_before_the_last_rejected_one_is_found() {
    let mut bench = Bench::new(&business());
    (0..20_000).for_each(|n| bench.say(&format!("sku-{n}"), 1 + n % 7));
    let mut dice = StdRng::seed_from_u64(42);
    let bad = rand::seq::index::sample(&mut dice, 20_000, 42);
    let bad: BTreeSet<String> = bad.iter().map(|n| format!("sku-{n}")).collect();
    let accepts = |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| bad.contains(sku));
    let mut minutes = BTreeMap::new();
    for minute in 1..=20 {
        bench.live(Duration::from_mins(1), &accepts);
        let unsent = bench.unsent().len() - bad.len();
        for share in [2_000, 1_000, 200, 0] {
            if unsent <= share {
                minutes.entry(share).or_insert(minute);
            }
        }
    }
    assert!(bench.rows.keys().eq(&bad), "{:?}", bench.rows.keys());
    let bounds = [(2_000, 6), (1_000, 7), (200, 10), (0, 14)];
    for (share, bound) in bounds {
        assert!(
            minutes[&share] <= bound,
            "all but {share} after {minutes:?} minutes"
        );
    }
}

#[test]
fn by_business_a_zero_does_not_wait_for_rejected_skus() {
    let mut bench = Bench::new(&business());
    bench.say("falls", 3);
    bench.live(Duration::from_secs(1), &|_, _| true);
    (0..6_000).for_each(|n| bench.say(&format!("sku-{n}"), 1));
    let accepts = |_, skus: &[(String, u32)]| skus.iter().all(|(_, count)| *count != 1);
    bench.live(Duration::from_secs(1), &accepts);
    bench.say("falls", 0);
    let sent = bench.requests;
    while bench.unsent().contains("falls") {
        bench.live(Duration::from_millis(50), &accepts);
        assert!(
            bench.requests - sent <= 2,
            "{} requests",
            bench.requests - sent
        );
    }
}

#[test]
fn a_changed_count_begins_the_pause_of_a_rejected_sku_anew() {
    let mut bench = Bench::new(&campaign());
    let accepts = |_, skus: &[(String, u32)]| !skus.iter().any(|(sku, _)| sku == "bad");
    for round in 0..6 {
        bench.say("bad", 1);
        bench.say(&format!("good-{round}"), 1);
        bench.live(Duration::from_mins(90), &accepts);
    }
    let row = bench.rows["bad"].clone();
    assert!(
        row.attempts >= 3 && row.retry_at - bench.now.wall > TimeDelta::hours(1),
        "{row:?}"
    );
    bench.say("bad", 2);
    bench.say("good", 2);
    bench.live(Duration::from_mins(1), &accepts);
    let row = &bench.rows["bad"];
    assert_eq!((row.attempts, row.level.count.get()), (1, 2));
    assert!(row.retry_at - bench.now.wall <= TimeDelta::hours(1));
}

#[test]
fn a_pause_told_with_a_refusal_for_volume_outlives_a_restart() {
    let mut bench = Bench::new(&campaign());
    bench.say("A", 1);
    let (batch, _) = bench.plan.next(bench.now).unwrap();
    let body = r#"{"status":"ERROR","errors":[{"code":"X","message":"Hit rate limit of 100000 requests per '60 SECONDS'"}]}"#;
    let answer = Answer {
        status: 420,
        body: body.into(),
        rate: RateHeaders {
            wait: Some(Duration::from_secs(90)),
            ..RateHeaders::default()
        },
        date: None,
        way: Way {
            asked: bench.now.wall,
            head: bench.now.wall,
        },
        trace: None,
    };
    let landed = Landed::new(batch, Reply::Answer(answer), bench.now);
    let keep = bench.plan.land(landed, bench.now);
    let [Keep::LimitedUntil(until)] = keep.as_slice() else {
        panic!("{keep:?}")
    };
    assert!((89..=91).contains(&(*until - bench.now.wall).num_seconds()));
    let memory = Memory {
        limited_until: Some(*until),
        ..Memory::default()
    };
    let mut bench = Bench::remembering(&campaign(), memory);
    bench.say("A", 1);
    bench.live(Duration::from_secs(89), &|_, _| true);
    assert_eq!(bench.requests, 0);
    bench.live(Duration::from_secs(3), &|_, _| true);
    assert_eq!(bench.requests, 1);
}

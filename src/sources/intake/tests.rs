use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ingest::{self, Asserted};
use crate::lifecycle::{Fuse, Tasks};
use crate::sources::guard::Limits;
use crate::sources::rules::{Combine, Override, Shape, SourceRules};
use crate::sources::{Key, Quantity, Row, Variants};
use crate::stock::Count;
use crate::store::{self, ShopKey, Store};

pub(in crate::sources) const SHOP: ShopId = ShopId(0);

/// A shop with its store and its sources, and a way to start it anew.
pub(in crate::sources) struct House {
    pub(in crate::sources) directory: TempDir,
    pub(in crate::sources) book: Arc<StockBook>,
    store: Arc<Store>,
    ingest: Ingest,
    pub(in crate::sources) intake: Intake,
    tasks: Tasks,
    asserted: Arc<Lock<u64>>,
}

pub(in crate::sources) fn taking(name: &str) -> Taking {
    Taking {
        name: name.to_owned(),
        origin: Origin::File,
        scope: Some(Scope::Snapshot),
        absent: Absent::Keep,
        warehouses: Warehouses::Unsaid,
        limits: Limits::default(),
        rules: SourceRules::default(),
        mapping: Vec::new(),
        duplicates: Duplicates::Same,
        reading: String::new(),
        variants: Variants::Reject,
    }
}

impl House {
    pub(in crate::sources) async fn new(takings: Vec<Taking>, rules: ShopRules) -> Self {
        Self::at(tempfile::tempdir().unwrap(), takings, rules).await
    }

    async fn at(directory: TempDir, takings: Vec<Taking>, rules: ShopRules) -> Self {
        let key = ShopKey {
            name: "moscow".into(),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let place = store::Config {
            path: directory.path().join("store"),
        };
        let opened = Store::open(&place, &[key]).await.unwrap();
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let asserted = Arc::new(Lock::new(0));
        let ear = Arc::clone(&asserted);
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = ingest::open(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            alarms.clone(),
            ingest::Metrics::default(),
            Box::new(move |told: &Asserted<'_>| {
                *ear.lock().unwrap() += (told.changed.len() + told.repeated.len()) as u64;
            }),
        );
        let tasks = Tasks::new(Fuse::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        let context = Context {
            book: Arc::clone(&book),
            ingest: ingest.clone(),
            clock: Clock::wall(),
            alarms,
        };
        let sources = directory.path().join("sources");
        let intake = Intake::open(&sources, (SHOP, "moscow"), takings, rules, context)
            .await
            .unwrap();
        intake.reckon().await.unwrap();
        Self {
            directory,
            book,
            store,
            ingest,
            intake,
            tasks,
            asserted,
        }
    }

    /// Ends it and starts it anew under these settings.
    pub(in crate::sources) async fn again(self, takings: Vec<Taking>, rules: ShopRules) -> Self {
        drop((self.intake, self.ingest));
        self.tasks.stop();
        self.tasks.ended().await;
        // One test has closed it before.
        let _closed = self.store.close().await;
        Self::at(self.directory, takings, rules).await
    }

    pub(in crate::sources) async fn deliver(&self, source: usize, entries: Vec<Entry>) -> Receipt {
        self.deliver_at(source, now(), entries).await
    }

    async fn deliver_at(&self, source: usize, at: Instant, entries: Vec<Entry>) -> Receipt {
        let read = async |rows: &mut Rows| {
            for entry in entries {
                rows.put(entry).await.unwrap();
            }
            Ok(None::<Scope>)
        };
        self.intake.deliver(source, at, true, read).await.unwrap()
    }

    pub(in crate::sources) fn stock(&self) -> BTreeMap<String, u32> {
        let mut stock = BTreeMap::new();
        self.book.for_each(SHOP, |sku, entry| {
            stock.insert(sku.to_string(), entry.level().count.get());
        });
        stock
    }

    pub(in crate::sources) fn alarms(&self) -> Vec<&'static str> {
        let active = self.intake.0.context.alarms.active();
        active.into_iter().map(|alarm| alarm.alarm).collect()
    }

    /// The drop-in says something, now.
    pub(in crate::sources) async fn put(&self, sku: &str, count: i64) {
        let update = Update {
            sku: Sku::parse(sku).unwrap(),
            count: Count::try_from(count).unwrap(),
            updated_at: Some(now()),
        };
        self.ingest
            .accept(Origin::CampaignPut, SHOP, vec![update])
            .await
            .unwrap();
    }
}

pub(in crate::sources) fn now() -> Instant {
    Clock::wall().now().into()
}

pub(in crate::sources) fn row(sku: &str, count: i64) -> Entry {
    row_at(sku, None, count)
}

fn row_at(sku: &str, place: Option<&str>, count: i64) -> Entry {
    Entry::Row(Row {
        line: 1,
        key: Key::Sku(sku.to_owned()),
        place: place.map(str::to_owned),
        quantity: Quantity::from_pieces(count),
        reserve: None,
        at: None,
    })
}

fn by_id(id: &str, count: i64) -> Entry {
    let Entry::Row(row) = row("", count) else {
        unreachable!()
    };
    Entry::Row(Row {
        key: Key::Id(id.to_owned()),
        ..row
    })
}

fn article(id: &str, sku: &str) -> Entry {
    Entry::Article {
        id: id.to_owned(),
        sku: sku.to_owned(),
    }
}

pub(in crate::sources) fn stock<const N: usize>(rows: [(&str, u32); N]) -> BTreeMap<String, u32> {
    rows.into_iter()
        .map(|(sku, count)| (sku.to_owned(), count))
        .collect()
}

pub(in crate::sources) fn zeroing() -> Taking {
    Taking {
        absent: Absent::Zero,
        ..taking("erp")
    }
}

pub(in crate::sources) fn many(range: std::ops::Range<i64>, count: i64) -> Vec<Entry> {
    range.map(|n| row(&format!("S-{n}"), count)).collect()
}

#[tokio::test]
async fn a_snapshot_is_taken_whole_and_what_is_absent_stays_unless_it_is_said_to_be_gone() {
    for (settings, gone) in [(taking("erp"), 7), (zeroing(), 0)] {
        let house = House::new(vec![settings], ShopRules::default()).await;
        house
            .deliver(0, vec![row("A", 5), row("B", 7), row("C", 1), row("D", 1)])
            .await;
        let receipt = house
            .deliver(0, vec![row("A", 4), row("C", 1), row("D", 1)])
            .await;
        assert_eq!(receipt.outcome, Outcome::Taken);
        assert_eq!(
            house.stock(),
            stock([("A", 4), ("B", gone), ("C", 1), ("D", 1)])
        );
        // Gone is gone until it is there again.
        house
            .deliver(0, vec![row("A", 4), row("B", 2), row("C", 1), row("D", 1)])
            .await;
        assert_eq!(
            house.stock(),
            stock([("A", 4), ("B", 2), ("C", 1), ("D", 1)])
        );
    }
}

#[tokio::test]
async fn absence_concerns_only_what_the_same_source_has_stated() {
    let house = House::new(vec![zeroing(), taking("other")], ShopRules::default()).await;
    house.put("P", 9).await;
    house.deliver(1, vec![row("X", 3)]).await;
    house
        .deliver(0, vec![row("A", 5), row("B", 5), row("C", 5), row("D", 5)])
        .await;
    house
        .deliver(0, vec![row("A", 5), row("B", 5), row("C", 5)])
        .await;
    let expected = [("A", 5), ("B", 5), ("C", 5), ("D", 0), ("P", 9), ("X", 3)];
    assert_eq!(house.stock(), stock(expected));
}

#[tokio::test]
async fn an_unchanged_row_is_an_assertion_and_nothing_else() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, many(0..3_000, 5)).await;
    let dates = |house: &House| {
        let mut dates = Vec::new();
        house
            .book
            .for_each(SHOP, |_, entry| dates.push(entry.level().updated_at));
        dates.sort();
        dates
    };
    let (before, written) = (dates(&house), house.store.status().last_seq);
    *house.asserted.lock().unwrap() = 0;
    let receipt = house.deliver(0, many(0..3_000, 5)).await;
    assert_eq!(receipt.tally.unchanged, 3_000);
    assert_eq!(*house.asserted.lock().unwrap(), 3_000);
    assert_eq!(dates(&house), before);
    assert_eq!(house.store.status().last_seq, written);
}

#[tokio::test]
async fn a_delivery_that_breaks_off_at_any_row_changes_nothing() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..20, 5)).await;
    let before = house.stock();
    for cut in 0..20 {
        let read = async |rows: &mut Rows| {
            for entry in many(0..cut, 1) {
                rows.put(entry).await.unwrap();
            }
            Err::<Completeness, _>("it was cut off".to_owned())
        };
        let error = house
            .intake
            .deliver(0, now(), true, read)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "it was cut off");
        assert_eq!(house.stock(), before);
    }
    assert_eq!(house.alarms(), ["source_failed"]);
    house.deliver(0, many(0..20, 1)).await;
    assert_eq!(house.alarms(), [""; 0]);
}

#[tokio::test]
async fn a_wipe_is_held_over_a_restart_until_somebody_accepts_it() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..100, 5)).await;
    let before = house.stock();
    for wipe in [Vec::new(), many(0..49, 5), many(0..100, 0), many(0..60, 5)] {
        let receipt = house.deliver(0, wipe).await;
        assert!(matches!(receipt.outcome, Outcome::Held(_)), "{receipt:?}");
        assert_eq!(house.stock(), before);
        assert_eq!(house.alarms(), ["source_held"]);
    }
    let house = house.again(vec![zeroing()], ShopRules::default()).await;
    assert_eq!(
        (house.stock(), house.alarms()),
        (before, vec!["source_held"])
    );
    let receipt = house.intake.accept("erp").await.unwrap();
    assert_eq!(
        (receipt.outcome, receipt.tally.zeroed),
        (Outcome::Taken, 40)
    );
    let left = house.stock().values().filter(|count| **count == 5).count();
    assert_eq!((left, house.alarms()), (60, Vec::new()));
    house.intake.accept("erp").await.unwrap_err();
}

#[tokio::test]
async fn what_is_held_gives_way_to_a_good_delivery() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..10, 5)).await;
    house.deliver(0, Vec::new()).await;
    assert_eq!(house.alarms(), ["source_held"]);
    house.deliver(0, many(0..10, 6)).await;
    assert_eq!(house.alarms(), [""; 0]);
    assert!(house.intake.standing(0).held.is_empty());
    house.intake.accept("erp").await.unwrap_err();
}

#[tokio::test]
async fn a_wipe_said_often_enough_in_the_same_words_is_believed_if_that_is_set() {
    let limits = Limits {
        repeats: Some(2),
        ..Limits::default()
    };
    let house = House::new(
        vec![Taking {
            limits,
            ..zeroing()
        }],
        ShopRules::default(),
    )
    .await;
    house.deliver(0, many(0..10, 5)).await;
    let held = |receipt: Receipt| receipt.outcome != Outcome::Taken;
    assert!(held(house.deliver(0, many(0..10, 0)).await));
    // Other words begin the count anew.
    assert!(held(house.deliver(0, many(0..4, 0)).await));
    assert!(held(house.deliver(0, many(0..10, 0)).await));
    assert!(held(house.deliver(0, many(0..10, 0)).await));
    let mut reversed = many(0..10, 0);
    reversed.reverse();
    assert!(!held(house.deliver(0, reversed).await));
    assert!(house.stock().values().all(|count| *count == 0));
}

#[tokio::test]
async fn changes_that_are_held_lose_nothing_to_those_that_come_after() {
    let delta = Taking {
        scope: Some(Scope::Delta),
        ..zeroing()
    };
    let house = House::new(vec![delta.clone()], ShopRules::default()).await;
    house.deliver(0, many(0..10, 5)).await;
    // Two of ten that sell out are no wipe; four are.
    assert_eq!(
        house
            .deliver(0, vec![row("S-0", 0), row("S-1", 0)])
            .await
            .outcome,
        Outcome::Taken
    );
    let wipe = many(2..6, 0);
    assert!(matches!(
        house.deliver(0, wipe).await.outcome,
        Outcome::Held(_)
    ));
    house.deliver(0, vec![row("S-2", 7)]).await;
    assert!(matches!(
        house.deliver(0, many(6..10, 0)).await.outcome,
        Outcome::Held(_)
    ));
    assert_eq!(house.alarms(), ["source_held"]);
    let house = house.again(vec![delta], ShopRules::default()).await;
    assert_eq!(house.intake.standing(0).held.len(), 2);
    house.intake.accept("erp").await.unwrap();
    // What was stated since it was held is newer.
    let left: Vec<_> = house
        .stock()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(left, [("S-2".to_owned(), 7)]);
    assert_eq!(house.alarms(), [""; 0]);
}

#[tokio::test]
async fn a_debt_is_paid_by_whatever_comes_next() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, many(0..100, 5)).await;
    let entries = many(0..100, 6);
    let read = async |rows: &mut Rows| {
        for entry in entries {
            rows.put(entry).await.unwrap();
        }
        Ok(None::<Scope>)
    };
    // Cut off at every point it waits at, one later each time, until it comes to its end.
    let mut delivering = Box::pin(house.intake.deliver(0, now(), true, read));
    for _ in 0..40 {
        if futures_util::poll!(delivering.as_mut()).is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(delivering);
    let read = async |rows: &mut Rows| {
        rows.put(row("N", 1)).await.unwrap();
        Ok(Completeness::Sure(Scope::Delta))
    };
    house.intake.deliver(0, now(), true, read).await.unwrap();
    let counts: Vec<u32> = (0..100).map(|n| house.stock()[&format!("S-{n}")]).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[tokio::test]
async fn changes_do_not_make_what_they_do_not_mention_any_newer() {
    let settings = Taking {
        scope: None,
        ..taking("erp")
    };
    let house = House::new(vec![settings.clone()], ShopRules::default()).await;
    let deliver = async |entries: Vec<Entry>, scope| {
        let read = async |rows: &mut Rows| {
            for entry in entries {
                rows.put(entry).await.unwrap();
            }
            Ok(Completeness::Sure(scope))
        };
        house.intake.deliver(0, now(), true, read).await.unwrap();
    };
    deliver(vec![row("A", 5), row("B", 5)], Scope::Snapshot).await;
    house.put("A", 0).await;
    deliver(vec![row("B", 6)], Scope::Delta).await;
    // Other rules, and everything is reckoned anew.
    let limits = Limits {
        most_zeroed: 1.0,
        ..Limits::default()
    };
    let shape = Shape {
        cap: Some(100),
        ..Shape::default()
    };
    let rules = ShopRules {
        shape,
        ..ShopRules::default()
    };
    let house = house
        .again(vec![Taking { limits, ..settings }], rules)
        .await;
    assert_eq!(house.stock(), stock([("A", 0), ("B", 6)]));
}

#[tokio::test]
async fn a_warehouse_that_is_gone_from_a_product_that_is_there_counts_no_more() {
    for settings in [taking("erp"), zeroing()] {
        let settings = Taking {
            warehouses: Warehouses::All,
            ..settings
        };
        let house = House::new(vec![settings], ShopRules::default()).await;
        house
            .deliver(
                0,
                vec![row_at("A", Some("Msk"), 5), row_at("B", Some("Msk"), 1)],
            )
            .await;
        house
            .deliver(
                0,
                vec![row_at("A", Some("Spb"), 5), row_at("B", Some("Msk"), 1)],
            )
            .await;
        assert_eq!(house.stock(), stock([("A", 5), ("B", 1)]));
    }
}

#[tokio::test]
async fn what_was_gone_and_was_said_to_be_there_since_stays() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..10, 5)).await;
    house.deliver(0, many(0..9, 5)).await;
    assert_eq!(house.stock()["S-9"], 0);
    house.put("S-9", 4).await;
    house.deliver(0, many(0..9, 5)).await;
    assert_eq!(house.stock()["S-9"], 4);
}

#[tokio::test]
async fn only_looking_teaches_no_articles() {
    let house = House::new(vec![taking("1c")], ShopRules::default()).await;
    house
        .deliver(0, vec![article("p1", "A-1"), by_id("p1", 3)])
        .await;
    let read = async |rows: &mut Rows| {
        rows.put(article("p1", "WRONG")).await.unwrap();
        Ok(Completeness::Sure(Scope::Delta))
    };
    house.intake.deliver(0, now(), false, read).await.unwrap();
    house.deliver(0, vec![by_id("p1", 4)]).await;
    assert_eq!(house.stock(), stock([("A-1", 4)]));
}

#[tokio::test]
async fn a_single_genuine_zero_is_never_delayed() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, vec![row("A", 5)]).await;
    assert_eq!(
        house.deliver(0, vec![row("A", 0)]).await.outcome,
        Outcome::Taken
    );
    assert_eq!(house.stock(), stock([("A", 0)]));
}

#[tokio::test]
async fn a_sku_twice_with_two_numbers_is_set_aside_and_with_one_it_is_one() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    let mut rows = many(0..300, 5);
    rows.extend([row("A", 1), row("B", 2), row(" A ", 1)]);
    house.deliver(0, rows).await;
    let mut rows = many(0..300, 5);
    rows.extend([row("A", 4), row("B", 2), row("A", 5), row("B", 2)]);
    let receipt = house.deliver(0, rows).await;
    assert_eq!(
        (receipt.outcome, receipt.rejected, receipt.suspicious),
        (Outcome::Taken, 0, 1)
    );
    assert_eq!((house.stock()["A"], house.stock()["B"]), (1, 2));
    let rejected = house.intake.rejected(0, 10).await.unwrap();
    let reason = &rejected[0].reason;
    assert!(reason.starts_with("the SKU stands here and in row 1 with different numbers"));
    assert!(
        reason.contains("duplicates = \"sum\"") && rejected[0].is_suspicious,
        "{reason}"
    );
}

#[tokio::test]
async fn duplicates_are_read_as_the_setting_says() {
    use Duplicates::{Reject, Same, Sum};
    let bad = || {
        Entry::Rejected(Fault {
            sku: Some("A".into()),
            ..Fault::new(1, "A;-3", "less")
        })
    };
    let perhaps = || {
        let may_be = Some("A".into());
        Entry::Rejected(Fault {
            may_be,
            ..Fault::new(2, ";M;7", "sku is empty")
        })
    };
    let article = || article("p1", "A");
    for (duplicates, rows, expected) in [
        (Reject, vec![row("A", 5), perhaps()], None),
        (Sum, vec![perhaps(), row("A", 5)], None),
        (Sum, vec![perhaps(), Entry::NextPart, row("A", 5)], Some(5)),
        (Reject, vec![row("A", 5), row("A", 5)], None),
        (Reject, vec![row("A", 5), row("A", 7)], None),
        (Same, vec![row("A", 5), row("A", 5)], Some(5)),
        (Same, vec![row("A", 5), row("A", 7)], None),
        (Sum, vec![row("A", 5), row("A", 5)], Some(10)),
        (Sum, vec![row("A", 5), row("A", 7), row("A", 1)], Some(13)),
        (Sum, vec![row("A", 5), bad()], None),
        (Reject, vec![bad(), row("A", 5)], None),
        (
            Sum,
            vec![row_at("A", Some("x"), 5), row_at("A", Some("y"), 7)],
            Some(12),
        ),
        (
            Reject,
            vec![row_at("A", Some("x"), 5), row_at("A", Some("y"), 7)],
            Some(12),
        ),
        (
            Reject,
            vec![article(), by_id("p1", 5), by_id("p1", 5)],
            None,
        ),
        (
            Sum,
            vec![article(), by_id("p1", 5), by_id("p1", 5)],
            Some(10),
        ),
        (Sum, vec![article(), by_id("p1", 5), row("A", 1)], Some(6)),
        (
            Reject,
            vec![row("A", 5), Entry::NextPart, row("A", 7)],
            Some(7),
        ),
        (Sum, vec![bad(), Entry::NextPart, row("A", 7)], Some(7)),
        (
            Sum,
            vec![row("A", 1_500_000_000), row("A", 1_500_000_000)],
            None,
        ),
    ] {
        let taking = Taking {
            duplicates,
            warehouses: Warehouses::All,
            ..taking("erp")
        };
        let house = House::new(vec![taking], ShopRules::default()).await;
        let shown = format!("{duplicates:?}: {rows:?}");
        house.deliver(0, [many(0..300, 5), rows].concat()).await;
        assert_eq!(house.stock().get("A").copied(), expected, "{shown}");
    }
}

#[tokio::test]
async fn duplicates_in_any_order_come_to_the_same() {
    use Duplicates::{Reject, Same, Sum};
    for (duplicates, rows, expected) in [
        (Reject, [(Some(1), 5), (Some(2), 9), (Some(3), 7)], Some(7)),
        (Reject, [(Some(1), 5), (None, 7), (Some(2), 9)], None),
        (Same, [(Some(1), 5), (None, 9), (Some(2), 9)], None),
        (Same, [(Some(1), 9), (None, 9), (Some(2), 9)], Some(9)),
        (Sum, [(Some(1), 5), (Some(2), 9), (Some(2), 1)], Some(10)),
        (Sum, [(Some(1), 5), (None, 7), (Some(2), 9)], None),
    ] {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let house = House::new(
                vec![Taking {
                    duplicates,
                    ..taking("erp")
                }],
                ShopRules::default(),
            )
            .await;
            house
                .deliver(0, order.map(|at| row_of_minute(rows[at])).to_vec())
                .await;
            assert_eq!(
                house.stock().get("A").copied(),
                expected,
                "{duplicates:?}: {rows:?}"
            );
            let rejected = house.intake.rejected(0, 10).await.unwrap();
            let counts = rejected
                .iter()
                .all(|fault| fault.reason.contains("(3 rows in all)"));
            assert!(
                counts && rejected.len() == usize::from(expected.is_none()),
                "{rejected:?}"
            );
        }
    }
}

fn row_of_minute((minute, pieces): (Option<i64>, i64)) -> Entry {
    let dated = |minute| Instant::from(DateTime::UNIX_EPOCH + TimeDelta::minutes(minute));
    match row("A", pieces) {
        Entry::Row(row) => Entry::Row(Row {
            at: minute.map(dated),
            ..row
        }),
        other => other,
    }
}

fn shaped(sku: &str) -> Vec<crate::sources::formats::Ending> {
    let mut ending = crate::sources::formats::Ending::default();
    ending.shape.set("format", "csv");
    ending.shape.set("sku", sku);
    vec![ending]
}

async fn deliver_shaped(house: &House, sku: &str, count: i64) -> Outcome {
    let read = async |rows: &mut Rows| {
        rows.put(row("A", count)).await.unwrap();
        Ok(ReadReport::of_files(
            Completeness::Sure(Scope::Delta),
            shaped(sku),
        ))
    };
    house
        .intake
        .deliver(0, now(), true, read)
        .await
        .unwrap()
        .outcome
}

#[tokio::test]
async fn a_changed_shape_is_held_until_it_is_accepted() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    assert_eq!(deliver_shaped(&house, "Артикул", 5).await, Outcome::Taken);
    assert_eq!(deliver_shaped(&house, "Артикул", 6).await, Outcome::Taken);
    let Outcome::Held(why) = deliver_shaped(&house, "Код", 7).await else {
        panic!("not held")
    };
    assert!(
        why.contains("the SKU column was \"Артикул\" and is \"Код\""),
        "{why}"
    );
    assert_eq!(house.stock()["A"], 6);
    house.intake.accept("erp").await.unwrap();
    assert_eq!(house.stock()["A"], 7);
    assert_eq!(deliver_shaped(&house, "Код", 8).await, Outcome::Taken);
    assert!(matches!(
        deliver_shaped(&house, "Артикул", 9).await,
        Outcome::Held(_)
    ));
}

#[tokio::test]
async fn a_shape_changed_by_the_settings_is_not_held() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    assert_eq!(deliver_shaped(&house, "Артикул", 5).await, Outcome::Taken);
    let set = Taking {
        reading: "sku = \"Код\"".to_owned(),
        ..taking("erp")
    };
    let house = house.again(vec![set], ShopRules::default()).await;
    assert_eq!(deliver_shaped(&house, "Код", 7).await, Outcome::Taken);
}

#[tokio::test]
async fn absence_that_cannot_be_applied_is_an_alarm() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..300, 5)).await;
    let unnamed = Entry::Suspicious(Fault::new(7, "5E+05;3", "sku is '5E+05'"));
    let receipt = house
        .deliver(0, [many(0..299, 5), vec![unnamed]].concat())
        .await;
    let why = receipt.absence_untold.unwrap();
    assert!(why.contains("line 7") && why.contains("5E+05;3"), "{why}");
    assert_eq!(house.stock()["S-299"], 5);
    assert!(house.alarms().contains(&"absence_not_applied"));
    let house = house.again(vec![zeroing()], ShopRules::default()).await;
    assert!(
        house.alarms().contains(&"absence_not_applied"),
        "it outlives a restart"
    );
    house.deliver(0, many(0..299, 5)).await;
    assert_eq!(house.stock()["S-299"], 0);
    assert!(!house.alarms().contains(&"absence_not_applied"));
}

#[tokio::test]
async fn statements_of_the_second_format_are_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let mut statements = Statements::open(directory.path()).await.unwrap();
    statements.source("erp").await.unwrap();
    drop(statements);
    use sqlx::ConnectOptions as _;
    use sqlx::Connection as _;
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(directory.path().join("stated.db"));
    let mut conn = options.connect().await.unwrap();
    let back = "ALTER TABLE source DROP COLUMN absence; PRAGMA user_version = 2;";
    sqlx::raw_sql(back).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let mut statements = Statements::open(directory.path()).await.unwrap();
    let source = statements.source("erp").await.unwrap();
    assert_eq!(statements.memory(source).await.unwrap().absence, "");
}

#[tokio::test]
async fn statements_of_the_first_format_are_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let old = "CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, \
               stated_at INTEGER, snapshot_at INTEGER, rows INTEGER NOT NULL DEFAULT 0, \
               owes INTEGER NOT NULL DEFAULT 0, reader TEXT NOT NULL DEFAULT '', \
               held TEXT NOT NULL DEFAULT '[]') STRICT; \
               CREATE TABLE stated (said TEXT NOT NULL, source INTEGER NOT NULL, place TEXT NOT NULL, \
               quantity INTEGER NOT NULL, reserve INTEGER, at INTEGER, absent_at INTEGER, \
               PRIMARY KEY (said, source, place)) STRICT, WITHOUT ROWID; \
               CREATE TABLE article (source INTEGER NOT NULL, id TEXT NOT NULL, said TEXT NOT NULL, \
               PRIMARY KEY (source, id)) STRICT, WITHOUT ROWID; \
               CREATE TABLE mapping (source INTEGER NOT NULL, said TEXT NOT NULL, sku TEXT NOT NULL, \
               pack INTEGER NOT NULL, PRIMARY KEY (source, said, sku)) STRICT, WITHOUT ROWID; \
               CREATE TABLE rejected (source INTEGER NOT NULL, line INTEGER NOT NULL, text TEXT NOT NULL, \
               reason TEXT NOT NULL) STRICT; \
               CREATE INDEX rejected_by_source ON rejected (source); \
               CREATE TABLE rules (id INTEGER PRIMARY KEY CHECK (id = 1), digest TEXT NOT NULL) STRICT; \
               INSERT INTO source (id, name, rows) VALUES (1, 'erp', 1); \
               INSERT INTO stated VALUES ('A', 1, '', 5000, NULL, 1000000, NULL); \
               INSERT INTO rejected VALUES (1, 3, 'B', 'bad'); PRAGMA user_version = 1;";
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(directory.path().join("stated.db"))
        .create_if_missing(true);
    use sqlx::ConnectOptions as _;
    use sqlx::Connection as _;
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql(old).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let mut statements = Statements::open(directory.path()).await.unwrap();
    let source = statements.source("erp").await.unwrap();
    assert_eq!(statements.memory(source).await.unwrap().rows, 1);
    let rejected = statements.rejected(source, 10).await.unwrap();
    assert_eq!((rejected.len(), rejected[0].is_suspicious), (1, false));
    assert_eq!(
        statements.groups(Which::All).next().await.unwrap().unwrap()[0].quantity,
        5000
    );
}

#[tokio::test]
async fn of_two_dated_rows_the_later_one_holds_whichever_comes_first() {
    let dated = |count, minutes: i64| {
        let Entry::Row(row) = row("A", count) else {
            unreachable!()
        };
        let at = now().to_utc() - chrono::TimeDelta::minutes(minutes);
        Entry::Row(Row {
            at: Some(at.into()),
            ..row
        })
    };
    for rows in [
        vec![dated(4, 10), dated(9, 1)],
        vec![dated(9, 1), dated(4, 10)],
    ] {
        let house = House::new(vec![taking("erp")], ShopRules::default()).await;
        assert_eq!(house.deliver(0, rows).await.rejected, 0);
        assert_eq!(house.stock(), stock([("A", 9)]));
    }
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, vec![dated(4, -60), row("B", 1)]).await;
    assert_eq!(house.stock(), stock([("B", 1)]));
}

#[tokio::test]
async fn a_bad_row_does_not_make_its_product_absent_and_a_nameless_one_tells_no_absence() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..200, 5)).await;
    let mut rows = many(0..199, 5);
    let fault = Fault::new(200, "S-199;много", "no number");
    rows.push(Entry::Rejected(fault.clone().of(&Key::Sku("S-199".into()))));
    assert_eq!(house.deliver(0, rows.clone()).await.outcome, Outcome::Taken);
    assert_eq!(house.stock()["S-199"], 5);
    rows.pop();
    rows.push(Entry::Rejected(fault));
    let receipt = house.deliver(0, rows.clone()).await;
    assert!(receipt.absence_untold.is_some());
    assert_eq!(house.stock()["S-199"], 5);
    rows.pop();
    house.deliver(0, rows).await;
    assert_eq!(house.stock()["S-199"], 0);
}

#[tokio::test]
async fn ids_find_their_skus_in_this_delivery_or_an_earlier_one_and_variants_by_their_product() {
    let house = House::new(vec![taking("1c")], ShopRules::default()).await;
    let catalogue = vec![
        article("p1", "A-1"),
        article("p2", "A-2"),
        article("p2#v", "A-2V"),
    ];
    house
        .deliver(0, [catalogue, vec![by_id("p1", 3)]].concat())
        .await;
    assert_eq!(house.stock(), stock([("A-1", 3)]));
    let rows = vec![
        by_id("p1", 4),
        by_id("p2#v", 5),
        by_id("p2#other", 6),
        by_id("p9", 7),
    ];
    let receipt = house.deliver(0, rows).await;
    assert_eq!(house.stock(), stock([("A-1", 4), ("A-2", 6), ("A-2V", 5)]));
    assert_eq!((receipt.rejected, receipt.absence_untold), (1, None));
    // Two variants of one product without articles of their own cannot be told apart.
    house
        .deliver(0, vec![by_id("p2#x", 8), by_id("p2#y", 9), by_id("p1", 4)])
        .await;
    assert_eq!(house.stock()["A-2"], 6);
}

#[tokio::test]
async fn products_without_a_sku_do_not_hold_the_others_but_a_missing_catalogue_does() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    let nameless = || {
        (0..50)
            .map(|n| by_id(&format!("x{n}"), 1))
            .collect::<Vec<_>>()
    };
    let catalogue = vec![
        article("p1", "A-1"),
        article("p2", "A-2"),
        article("p3", "A-3"),
    ];
    let named = [
        catalogue,
        vec![by_id("p1", 3), by_id("p2", 3), by_id("p3", 3)],
    ]
    .concat();
    let receipt = house.deliver(0, nameless()).await;
    assert!(matches!(receipt.outcome, Outcome::Held(_)), "{receipt:?}");
    let receipt = house.deliver(0, [named, nameless()].concat()).await;
    assert_eq!((receipt.outcome, receipt.rejected), (Outcome::Taken, 50));
    // What is not known by any name was never stated, so it cannot be what is absent.
    let fewer = vec![by_id("p1", 3), by_id("p2", 3)];
    house.deliver(0, [fewer, nameless()].concat()).await;
    assert_eq!(house.stock(), stock([("A-1", 3), ("A-2", 3), ("A-3", 0)]));
}

#[tokio::test]
async fn a_later_part_replaces_what_an_earlier_one_said() {
    let house = House::new(vec![taking("1c")], ShopRules::default()).await;
    let receipt = house
        .deliver(
            0,
            vec![row("A", 1), row("B", 1), Entry::NextPart, row("A", 7)],
        )
        .await;
    assert_eq!(
        (receipt.rejected, house.stock()),
        (0, stock([("A", 7), ("B", 1)]))
    );
}

#[tokio::test]
async fn several_warehouses_have_to_be_chosen_from() {
    let rows = || {
        vec![
            row_at("A", Some("Msk"), 5),
            row_at("A", Some("Spb"), 3),
            row_at("B", Some("Spb"), 1),
        ]
    };
    let unsaid = House::new(vec![taking("erp")], ShopRules::default()).await;
    let read = async |out: &mut Rows| {
        for row in rows() {
            out.put(row).await.unwrap();
        }
        Ok(None::<Scope>)
    };
    let error = unsaid
        .intake
        .deliver(0, now(), true, read)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("it names 2 warehouses, 'Msk', 'Spb': say"),
        "{error}"
    );
    assert!(unsaid.stock().is_empty());
    let named =
        |names: &[&str]| Warehouses::Named(names.iter().map(|name| (*name).to_owned()).collect());
    for (warehouses, expected) in [
        (Warehouses::All, stock([("A", 8), ("B", 1)])),
        (named(&["MSK"]), stock([("A", 5)])),
        (named(&["Spb", "Omsk"]), stock([("A", 3), ("B", 1)])),
    ] {
        let settings = Taking {
            warehouses,
            ..taking("erp")
        };
        let house = House::new(vec![settings], ShopRules::default()).await;
        house.deliver(0, rows()).await;
        assert_eq!(house.stock(), expected);
    }
    let settings = Taking {
        warehouses: named(&["Omsk"]),
        ..taking("erp")
    };
    let wrong = House::new(vec![settings], ShopRules::default()).await;
    wrong
        .intake
        .deliver(0, now(), true, read)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn whoever_spoke_last_is_right_whether_source_or_program() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    let before = now();
    house.put("A", 9).await;
    let receipt = house
        .deliver_at(0, before, vec![row("A", 5), row("B", 5)])
        .await;
    assert_eq!((receipt.tally.outdated, receipt.tally.new), (1, 1));
    assert_eq!(house.stock(), stock([("A", 9), ("B", 5)]));
    // The same file, restored from a backup with its old date, is a new delivery all the same.
    house
        .deliver_at(0, before, vec![row("A", 5), row("B", 5)])
        .await;
    assert_eq!(house.stock(), stock([("A", 5), ("B", 5)]));
}

#[tokio::test]
async fn other_rules_make_other_stock_of_the_same_statements() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house
        .deliver(0, vec![row("A", 5), row("B", 9), row("C", 30)])
        .await;
    let shape = Shape {
        buffer: 2,
        below: 4,
        cap: Some(20),
    };
    let rules = ShopRules {
        shape,
        ..ShopRules::default()
    };
    let limits = Limits {
        most_zeroed: 0.5,
        ..Limits::default()
    };
    let settings = Taking {
        limits,
        ..taking("erp")
    };
    let house = house.again(vec![settings.clone()], rules.clone()).await;
    assert_eq!(house.stock(), stock([("A", 0), ("B", 7), ("C", 20)]));
    house.put("B", 100).await;
    let mut special = rules.clone();
    let fixed = Override {
        buffer: Some(0),
        ..Override::default()
    };
    special.overrides.insert(Sku::parse("A").unwrap(), fixed);
    special.overrides.insert(Sku::parse("B").unwrap(), fixed);
    let house = house.again(vec![settings], special).await;
    // What the program said since is newer than what the file had stated.
    assert_eq!(house.stock(), stock([("A", 5), ("B", 100), ("C", 20)]));
    let steps = house
        .intake
        .explain(&Sku::parse("C").unwrap())
        .await
        .unwrap();
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert_eq!(
        steps[1..4],
        ["stated: 30: 30", "safety buffer 2: 28", "cap 20: 20"]
    );
}

#[tokio::test]
async fn a_source_that_is_not_configured_any_more_has_no_say() {
    let both = || vec![taking("erp"), taking("sheet")];
    let sum = || ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let house = House::new(both(), sum()).await;
    house.deliver(0, vec![row("A", 5), row("B", 1)]).await;
    house.deliver(1, vec![row("A", 3)]).await;
    assert_eq!(house.stock(), stock([("A", 8), ("B", 1)]));
    let house = house.again(vec![taking("erp")], sum()).await;
    assert_eq!(house.stock(), stock([("A", 5), ("B", 1)]));
}

#[tokio::test]
async fn stock_of_other_warehouses_says_nothing_of_ours() {
    let warehouses = Warehouses::Named(vec!["Msk".to_owned()]);
    let settings = Taking {
        warehouses,
        ..zeroing()
    };
    let house = House::new(vec![settings], ShopRules::default()).await;
    let msk = |sku, count| row_at(sku, Some("Msk"), count);
    let rows = vec![
        msk("A", 5),
        msk("B", 5),
        msk("C", 5),
        row_at("N", Some("Spb"), 9),
    ];
    house.deliver(0, rows).await;
    assert_eq!(house.stock(), stock([("A", 5), ("B", 5), ("C", 5)]));
    // What was there and is only elsewhere now is gone from here.
    house
        .deliver(
            0,
            vec![msk("A", 5), msk("B", 5), row_at("C", Some("Spb"), 5)],
        )
        .await;
    assert_eq!(house.stock(), stock([("A", 5), ("B", 5), ("C", 0)]));
}

#[tokio::test]
async fn rules_that_would_empty_the_shop_wait_for_a_word_too() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, many(0..10, 5)).await;
    let rules = ShopRules {
        shape: Shape {
            buffer: 50,
            ..Shape::default()
        },
        ..ShopRules::default()
    };
    let house = house.again(vec![taking("erp")], rules).await;
    assert!(house.stock().values().all(|count| *count == 5));
    assert_eq!(house.alarms(), ["source_held"]);
    house.intake.accept_rules().await.unwrap();
    assert!(house.stock().values().all(|count| *count == 0));
    assert_eq!(house.alarms(), [""; 0]);
}

#[tokio::test]
async fn what_was_stated_and_did_not_reach_the_book_reaches_it_at_the_next_start() {
    let house = House::new(vec![taking("erp")], ShopRules::default()).await;
    house.deliver(0, many(0..5_000, 5)).await;
    house.store.close().await.unwrap();
    let read = async |rows: &mut Rows| {
        for entry in many(0..5_000, 6) {
            rows.put(entry).await.unwrap();
        }
        Ok(None::<Scope>)
    };
    let error = house
        .intake
        .deliver(0, now(), true, read)
        .await
        .unwrap_err();
    assert!(matches!(error, IntakeError::Ingest(_)), "{error}");
    assert!(house.stock().values().all(|count| *count == 5));
    let house = house.again(vec![taking("erp")], ShopRules::default()).await;
    assert!(house.stock().values().all(|count| *count == 6));
}

#[tokio::test]
async fn several_sources_and_words_for_one_sku_come_together() {
    let mapping = |rows: &[(&str, &str, u32)]| {
        rows.iter()
            .map(|(said, sku, pack)| ((*said).into(), (*sku).into(), *pack))
            .collect()
    };
    let first = Taking {
        mapping: mapping(&[("bolt", "BOLT-1", 1), ("bolt", "BOLT-10", 10)]),
        ..taking("erp")
    };
    let second = Taking {
        mapping: mapping(&[("болт", "BOLT-1", 1)]),
        ..taking("sheet")
    };
    let rules = ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let house = House::new(vec![first, second], rules).await;
    house.deliver(0, vec![row("bolt", 57), row("NUT", 3)]).await;
    house.deliver(1, vec![row("болт", 4), row("NUT", 1)]).await;
    assert_eq!(
        house.stock(),
        stock([("BOLT-1", 61), ("BOLT-10", 5), ("NUT", 4)])
    );
    let scope = Some(Scope::Delta);
    let delta = vec![
        Taking {
            mapping: mapping(&[("bolt", "BOLT-10", 10)]),
            scope,
            ..taking("erp")
        },
        taking("sheet"),
    ];
    let rules = ShopRules {
        combine: Combine::Sum,
        ..ShopRules::default()
    };
    let house = house.again(delta, rules).await;
    house.deliver(0, vec![row("bolt", 99)]).await;
    assert_eq!(house.stock()["BOLT-10"], 9);
}

#[tokio::test]
async fn only_looking_changes_nothing_and_tells_everything() {
    let house = House::new(vec![zeroing()], ShopRules::default()).await;
    house.deliver(0, many(0..4, 5)).await;
    let before = house.stock();
    let look = async |entries: Vec<Entry>| {
        let read = async |rows: &mut Rows| {
            for entry in entries {
                rows.put(entry).await.unwrap();
            }
            Ok(None::<Scope>)
        };
        house.intake.deliver(0, now(), false, read).await.unwrap()
    };
    let receipt = look(vec![
        row("S-0", 0),
        row("S-1", 7),
        row("S-2", 5),
        row("N", 1),
    ])
    .await;
    let Tally {
        new,
        changed,
        unchanged,
        zeroed,
        ..
    } = receipt.tally;
    assert_eq!((new, changed, unchanged, zeroed), (1, 3, 1, 2));
    assert!(
        matches!(receipt.outcome, Outcome::Held(_)),
        "two of four would be a wipe"
    );
    assert_eq!(look(many(0..4, 4)).await.outcome, Outcome::Looked);
    assert_eq!((house.stock(), house.alarms()), (before, Vec::new()));
}

/// What may happen to a source, for the property below.
#[derive(Clone, Debug)]
enum Act {
    Snapshot(Vec<(u8, u8)>),
    Put(u8, u8),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let rows = proptest::collection::vec((0_u8..12, 0_u8..5), 0..12);
    let act = prop_oneof![
        4 => rows.prop_map(Act::Snapshot),
        2 => (0_u8..12, 0_u8..5).prop_map(|(sku, count)| Act::Put(sku, count)),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_book_is_what_was_said_last_about_each_sku(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(acts));
    }
}

async fn follow(acts: Vec<Act>) {
    // Nothing is ever held: what is asked here is whether everything arrives.
    let limits = Limits {
        least_rows: 0.0,
        most_zeroed: 1.0,
        most_rejected: 1.0,
        repeats: None,
    };
    let settings = Taking {
        limits,
        ..zeroing()
    };
    let mut house = House::new(vec![settings.clone()], ShopRules::default()).await;
    let mut model: BTreeMap<String, u32> = BTreeMap::new();
    let mut stated: Vec<String> = Vec::new();
    for act in acts {
        match act {
            Act::Snapshot(rows) => {
                let rows: BTreeMap<String, u32> = rows
                    .into_iter()
                    .map(|(sku, count)| (format!("S{sku}"), count.into()))
                    .collect();
                let entries = rows
                    .iter()
                    .map(|(sku, count)| row(sku, i64::from(*count)))
                    .collect();
                house.deliver(0, entries).await;
                // Gone is said once, of what was there the last time.
                for sku in stated {
                    model.insert(sku, 0);
                }
                stated = rows.keys().cloned().collect();
                model.extend(rows);
            }
            Act::Put(sku, count) => {
                let sku = format!("S{sku}");
                house.put(&sku, count.into()).await;
                model.insert(sku, count.into());
            }
            Act::Restart => {
                house = house
                    .again(vec![settings.clone()], ShopRules::default())
                    .await;
            }
        }
        assert_eq!(house.stock(), model);
    }
}

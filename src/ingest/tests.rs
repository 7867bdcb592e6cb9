//! Tests of the worker with a real store.

use std::sync::Arc;

use chrono::TimeDelta;
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use parking_lot::Mutex;
use stock::{Count, StockBook};

use super::*;
use crate::ingest::resolved_updates::ComparedRequests;
use crate::replicas::ServingPermit;
use crate::store::{self, CompareUpdates as _, ShopIdentity, Store};
use crate::telemetry::{AlarmKind, Alarms};

/// Calls of the callback: shop, origin, changed and repeated SKUs.
type RecordedStated = Arc<Mutex<Vec<(ShopId, Origin, Vec<String>, Vec<String>)>>>;

struct TestIngest {
    ingest: Ingest,
    book: Arc<StockBook>,
    store: Arc<Store>,
    alarms: Alarms,
    recorded: RecordedStated,
    directory: tempfile::TempDir,
}

const MOSCOW: ShopId = ShopId(0);
const OMSK: ShopId = ShopId(1);

fn permit() -> RequestPermit {
    ServingPermit::unlimited().for_request().unwrap()
}

fn identities() -> Vec<ShopIdentity> {
    let identity = |name: &str| ShopIdentity {
        name: name.to_owned(),
        target: String::new(),
        warehouses: Vec::new(),
    };
    vec![identity("moscow"), identity("omsk")]
}

async fn test_ingest() -> TestIngest {
    let directory = tempfile::tempdir().unwrap();
    let config = store::Config {
        path: directory.path().join("store"),
        url: None,
    };
    let opened = Store::open(&config, &identities()).await.unwrap();
    let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
    let recorded = RecordedStated::default();
    let recorder = Arc::clone(&recorded);
    let names = |skus: &[Sku]| skus.iter().map(ToString::to_string).collect();
    let alarms = Alarms::new(Clock::wall());
    let (ingest, worker) = create(
        Arc::clone(&book),
        Arc::clone(&store),
        Clock::wall(),
        alarms.clone(),
        Metrics::default(),
        Box::new(move |stated| {
            let StatedSkus {
                shop,
                origin,
                changed,
                repeated,
                all_changed: _,
                at: _,
            } = *stated;
            let mut recorded = recorder.lock();
            recorded.push((shop, origin, names(changed), names(repeated)));
        }),
    );
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("ingest", worker.run(tasks.clone()));
    TestIngest {
        ingest,
        book,
        store,
        alarms,
        recorded,
        directory,
    }
}

fn stated_update(sku: &str, count: i64, at: &str) -> Update {
    let at: DateTime<Utc> = format!("2026-11-20T{at}Z").parse().unwrap();
    Update {
        sku: Sku::parse(sku).unwrap(),
        count: Count::try_from(count).unwrap(),
        updated_at: Some(at.into()),
    }
}

#[tokio::test]
async fn reports_changed_and_repeated_but_not_outdated() {
    let test_ingest = test_ingest().await;
    let accept = |updates| {
        test_ingest
            .ingest
            .accept(Origin::CampaignPut, MOSCOW, updates)
    };
    let ten = "10:00:00";
    accept(vec![
        stated_update("A", 1, ten),
        stated_update("B", 2, ten),
        stated_update("C", 3, ten),
    ])
    .await
    .unwrap();
    let accepted = accept(vec![
        stated_update("A", 1, ten),
        stated_update("B", 5, "10:00:01"),
        stated_update("C", 9, "09:00:00"),
        stated_update("D", 4, ten),
    ]);
    let expected = Accepted {
        added: 1,
        replaced: 1,
        repeated: 1,
        outdated: 1,
    };
    assert_eq!(accepted.await.unwrap(), expected);
    assert_eq!(
        accept(vec![stated_update("C", 9, "09:00:00")])
            .await
            .unwrap()
            .outdated,
        1
    );
    let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let put = Origin::CampaignPut;
    assert_eq!(
        *test_ingest.recorded.lock(),
        [
            (MOSCOW, put, names("ABC"), names("")),
            (MOSCOW, put, names("BD"), names("A")),
            (MOSCOW, put, names(""), names("")),
        ]
    );
}

#[tokio::test]
async fn a_large_call_is_reported_in_parts_in_order() {
    let test_ingest = test_ingest().await;
    let update = |n: i64| stated_update(&format!("sku-{n}"), n, "10:00:00");
    let mut updates: Vec<Update> = (0..1_200).map(update).collect();
    // The same SKU again, in other slices: the order of arrival decides between equal dates.
    updates.extend([
        stated_update("sku-7", 70, "10:00:00"),
        stated_update("sku-8", 80, "09:00:00"),
        stated_update("sku-9", 9, "10:00:00"),
    ]);
    let accepted = test_ingest.ingest.accept(Origin::File, MOSCOW, updates);
    let expected = Accepted {
        added: 1_200,
        replaced: 1,
        repeated: 1,
        outdated: 1,
    };
    assert_eq!(accepted.await.unwrap(), expected);
    let count = |sku: &str| {
        let level = test_ingest.book.get(MOSCOW, sku).unwrap().level();
        level.count.get()
    };
    assert_eq!((count("sku-7"), count("sku-8"), count("sku-9")), (70, 8, 9));
    assert_eq!(
        (test_ingest.book.len(MOSCOW), count("sku-1199")),
        (1_200, 1_199)
    );
    let recorded = test_ingest.recorded.lock();
    let changed = recorded.iter().flat_map(|(_, _, changed, _)| changed);
    let expected = (0..1_200)
        .map(|n| format!("sku-{n}"))
        .chain(["sku-7".to_owned()]);
    assert!(changed.eq(&expected.collect::<Vec<_>>()));
    assert_eq!(recorded.len(), 3);
    assert_eq!(recorded[0].3, ["sku-9"]);
}

fn of_file(updates: Vec<Update>) -> SourceUpdates {
    SourceUpdates {
        origin: Origin::File,
        repeat_policy: RepeatPolicy::KeepTimestamp,
        updates,
    }
}

#[tokio::test]
async fn repeated_count_keeps_its_date_and_is_reported() {
    let test_ingest = test_ingest().await;
    let ten = "10:00:00";
    let first = vec![
        stated_update("A", 1, ten),
        stated_update("B", 2, ten),
        stated_update("C", 3, "12:00:00"),
    ];
    test_ingest
        .ingest
        .accept_of_source(MOSCOW, of_file(first))
        .await
        .unwrap();
    let again = vec![
        stated_update("A", 1, "11:00:00"),
        stated_update("B", 5, "11:00:00"),
        stated_update("C", 3, "11:00:00"),
    ];
    let accepted = test_ingest
        .ingest
        .accept_of_source(MOSCOW, of_file(again))
        .await
        .unwrap();
    let expected = Accepted {
        replaced: 1,
        repeated: 1,
        outdated: 1,
        ..Accepted::default()
    };
    assert_eq!(accepted, expected);
    let known = test_ingest.book.get(MOSCOW, "A").unwrap().level();
    assert_eq!(
        Some(known.updated_at),
        stated_update("A", 1, ten).updated_at
    );
    let recorded = test_ingest.recorded.lock().last().cloned();
    let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    assert_eq!(
        recorded,
        Some((MOSCOW, Origin::File, names("B"), names("A")))
    );
}

#[tokio::test]
async fn repeated_statement_loses_to_its_own_date() {
    let test_ingest = test_ingest().await;
    let ten = "10:00:00";
    let program = vec![stated_update("A", 3, ten)];
    let accepted = test_ingest
        .ingest
        .accept(Origin::CampaignPut, MOSCOW, program);
    accepted.await.unwrap();
    for (policy, is_replaced) in [
        (RepeatPolicy::KeepLevel, false),
        (RepeatPolicy::KeepTimestamp, true),
    ] {
        let group = SourceUpdates {
            repeat_policy: policy,
            ..of_file(vec![stated_update("A", 5, ten)])
        };
        let accepted = test_ingest.ingest.accept_of_source(MOSCOW, group);
        let accepted = accepted.await.unwrap();
        assert_eq!(accepted.replaced, usize::from(is_replaced), "{policy:?}");
        assert_eq!(accepted.outdated, usize::from(!is_replaced), "{policy:?}");
        let count = if is_replaced { 5 } else { 3 };
        let known = test_ingest.book.get(MOSCOW, "A").unwrap().level();
        assert_eq!(known.count.get(), count, "{policy:?}");
    }
}

#[tokio::test]
async fn date_from_a_fast_clock_does_not_win() {
    let test_ingest = test_ingest().await;
    let now = Clock::wall().now();
    let dated = |count: i64, seconds: i64| Update {
        sku: Sku::parse("A").unwrap(),
        count: Count::try_from(count).unwrap(),
        updated_at: Some((now + TimeDelta::seconds(seconds)).into()),
    };
    let count = || {
        test_ingest
            .book
            .get(MOSCOW, "A")
            .unwrap()
            .level()
            .count
            .get()
    };
    let accept = |update| {
        test_ingest
            .ingest
            .accept(Origin::CampaignPut, MOSCOW, vec![update])
    };
    accept(dated(1, 7_200)).await.unwrap();
    for (update, replaces) in [
        // Older than the five minutes that an update may take to arrive.
        (dated(2, -3_600), false),
        (dated(3, -10), true),
        // From here on the true dates decide.
        (dated(4, -20), false),
        (dated(5, -5), true),
    ] {
        let (before, stated_count) = (count(), update.count.get());
        let accepted = accept(update).await.unwrap();
        assert_eq!(
            (accepted.replaced, accepted.outdated),
            (replaces.into(), (!replaces).into())
        );
        assert_eq!(count(), if replaces { stated_count } else { before });
    }
    assert!(test_ingest.alarms.is_active(AlarmKind::ClockJumped));
    // A complete export with the same count changes nothing.
    let again = test_ingest
        .ingest
        .accept_of_source(MOSCOW, of_file(vec![dated(5, -1)]))
        .await
        .unwrap();
    assert_eq!(again.repeated, 1);
    test_ingest.store.close().await.unwrap();
    let config = store::Config {
        path: test_ingest.directory.path().join("store"),
        url: None,
    };
    let disk = Store::open(&config, &identities()).await.unwrap();
    assert_eq!(disk.book.get(MOSCOW, "A").unwrap().level().count.get(), 5);
    disk.store.close().await.unwrap();
}

#[tokio::test]
async fn date_a_few_minutes_ahead_wins() {
    let test_ingest = test_ingest().await;
    let now = Clock::wall().now();
    let dated = |count: i64, seconds: i64| Update {
        sku: Sku::parse("A").unwrap(),
        count: Count::try_from(count).unwrap(),
        updated_at: Some((now + TimeDelta::seconds(seconds)).into()),
    };
    let accept = |update| {
        test_ingest
            .ingest
            .accept(Origin::CampaignPut, MOSCOW, vec![update])
    };
    accept(dated(1, 240)).await.unwrap();
    assert_eq!(accept(dated(2, 0)).await.unwrap().outdated, 1);
    assert!(!test_ingest.alarms.is_active(AlarmKind::ClockJumped));
}

#[tokio::test]
async fn accepts_several_shops_and_reports_each() {
    let test_ingest = test_ingest().await;
    let ten = "10:00:00";
    let both = vec![
        (MOSCOW, vec![stated_update("A", 1, ten)]),
        (
            OMSK,
            vec![stated_update("A", 2, ten), stated_update("B", 3, ten)],
        ),
    ];
    let accepted = test_ingest
        .ingest
        .accept_all(Origin::BusinessPost, both, permit())
        .await
        .unwrap();
    assert_eq!(
        accepted,
        Accepted {
            added: 3,
            ..Accepted::default()
        }
    );
    let recorded = test_ingest.recorded.lock().clone();
    assert_eq!(
        recorded.iter().map(|(shop, ..)| *shop).collect::<Vec<_>>(),
        [MOSCOW, OMSK]
    );
    assert!(
        recorded
            .iter()
            .all(|(_, origin, ..)| *origin == Origin::BusinessPost)
    );
    test_ingest.store.close().await.unwrap();
    let config = store::Config {
        path: test_ingest.directory.path().join("store"),
        url: None,
    };
    let disk = Store::open(&config, &identities()).await.unwrap();
    for (shop, sku, count) in [(MOSCOW, "A", 1), (OMSK, "A", 2), (OMSK, "B", 3)] {
        let level = test_ingest.book.get(shop, sku).unwrap().level();
        assert_eq!(level.count.get(), count, "{sku}");
        assert_eq!(disk.book.get(shop, sku).unwrap().level(), level, "{sku}");
    }
    disk.store.close().await.unwrap();
}

#[tokio::test]
async fn failed_write_changes_no_shop_and_reports_nothing() {
    let test_ingest = test_ingest().await;
    test_ingest.store.close().await.unwrap();
    let ten = "10:00:00";
    let both = vec![
        (MOSCOW, vec![stated_update("A", 1, ten)]),
        (OMSK, vec![stated_update("B", 2, ten)]),
    ];
    test_ingest
        .ingest
        .accept_all(Origin::BusinessPost, both, permit())
        .await
        .unwrap_err();
    assert!(
        test_ingest.book.get(MOSCOW, "A").is_none() && test_ingest.book.get(OMSK, "B").is_none()
    );
    assert!(test_ingest.recorded.lock().is_empty());
}

#[tokio::test]
async fn interrupted_updates_are_refused() {
    let test_ingest = test_ingest().await;
    let statements = vec![(MOSCOW, vec![stated_update("A", 1, "10:00:00")])];
    let refused = test_ingest
        .ingest
        .accept_all(Origin::CampaignPut, statements, RequestPermit::lapsed())
        .await;
    assert_eq!(refused, Err(IngestError::Interrupted));
    assert!(test_ingest.book.get(MOSCOW, "A").is_none());
}

/// The permit may lapse while a call waits for the locks under which it is compared.
#[tokio::test]
async fn interruption_before_the_comparison_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let config = store::Config { path, url: None };
    let opened = Store::open(&config, &identities()).await.unwrap();
    let (_ingest, mut worker) = create(
        Arc::new(opened.book),
        Arc::new(opened.store),
        Clock::wall(),
        Alarms::new(Clock::wall()),
        Metrics::default(),
        Box::new(|_| {}),
    );
    let (response, mut refused) = oneshot::channel();
    let now = Clock::wall().now();
    let mut requests = vec![IngestRequest {
        origin: Origin::CampaignPut,
        repeat_policy: RepeatPolicy::UpdateTimestamp,
        statements: vec![(MOSCOW, vec![stated_update("A", 1, "10:00:00")])],
        arrived: now,
        permit: Some(RequestPermit::lapsed()),
        response,
    }];
    let mut compared = ComparedRequests {
        worker: &mut worker,
        requests: &mut requests,
        now,
        resolved: Vec::new(),
    };
    compared.compare().await;
    assert!(compared.changes().is_empty());
    assert_eq!(refused.try_recv().unwrap(), Err(IngestError::Interrupted));
}

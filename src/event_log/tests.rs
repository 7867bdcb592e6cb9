//! Tests of the event log with files on disk.

use chrono::TimeDelta;
use lifecycle::CrashSignal;
use lifecycle::Tasks;

use super::*;
use crate::telemetry::{AlarmKind, Alarms};

fn clock() -> Clock {
    Clock::starting_at("2026-11-20T10:00:00Z".parse().unwrap())
}

fn filter() -> EventFilter {
    EventFilter {
        limit: MAX_QUERIED_EVENTS,
        ..EventFilter::default()
    }
}

fn selftest(sku: &str) -> ServiceEvent {
    ServiceEvent::SelftestStarted { sku: sku.into() }
}

async fn texts(log: &EventLog, filter: &EventFilter) -> Vec<String> {
    let events = log.query(filter).await.unwrap();
    events.into_iter().map(|event| event.text).collect()
}

async fn kinds(log: &EventLog) -> Vec<&'static str> {
    let events = log.query(&filter()).await.unwrap();
    events.iter().map(|event| event.event.kind()).collect()
}

#[tokio::test]
async fn start_states_how_the_previous_run_ended() {
    let directory = tempfile::tempdir().unwrap();
    let mut starts = Vec::new();
    for end in ["stop", "kill", "failure", "stop", "look"] {
        let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
        writer.write_queued().await;
        let latest = log.query(&filter()).await.unwrap().remove(0);
        let ServiceEvent::ServiceStarted { previous, .. } = latest.event else {
            panic!("{latest:?}");
        };
        starts.push(previous);
        let failure = match end {
            "stop" => None,
            "failure" => Some("task x exited unexpectedly".into()),
            // Dropped without a stop, like a process that is killed.
            _ => continue,
        };
        log.record(ServiceEvent::ServiceStopped { failure });
        writer.finish().await;
    }
    let (none, stopped, crashed) = (
        PreviousRun::None,
        PreviousRun::Stopped,
        PreviousRun::Crashed,
    );
    assert_eq!(starts, [none, stopped, crashed, crashed, stopped]);
}

#[tokio::test(start_paused = true)]
async fn task_writes_in_batches_and_flushes_at_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let (log, writer) = EventLog::open(directory.path(), clock()).await;
    let tasks = Tasks::new(CrashSignal::default());
    tasks.spawn("event_writer", writer.run(tasks.clone()));
    let mut latest = log.subscribe();
    log.record(selftest("A"));
    log.record(selftest("B"));
    latest.changed().await.unwrap();
    assert_eq!(*latest.borrow_and_update(), 3, "with the start, one batch");
    log.record(selftest("C"));
    tasks.stop();
    tasks.ended().await;
    assert_eq!(
        *latest.borrow(),
        4,
        "the stop does not wait for a full batch"
    );
    let shown = texts(&log, &filter()).await;
    assert_eq!(
        shown[..2],
        ["self-test of 'C' started", "self-test of 'B' started"]
    );
}

#[tokio::test]
async fn full_queue_drops_and_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    // The start is queued too.
    for _ in 0..QUEUE_CAPACITY + 4 {
        log.record(selftest("A"));
    }
    writer.write_queued().await;
    let lost = |events: Vec<StoredEvent>| -> Vec<ServiceEvent> {
        let lost = |event: &ServiceEvent| event.kind() == "events_lost";
        let events = events.into_iter().map(|it| it.event);
        events.filter(lost).collect()
    };
    let only_lost = EventFilter {
        kinds: vec!["events_lost".to_owned()],
        ..filter()
    };
    let stored = lost(log.query(&only_lost).await.unwrap());
    assert_eq!(stored, [ServiceEvent::EventsLost { events: 5 }]);
    log.record(selftest("B"));
    writer.write_queued().await;
    assert_eq!(lost(log.query(&only_lost).await.unwrap()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn full_disk_drops_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    writer.write_queued().await;
    // SQLite reports the same error for its own limit as for a full disk.
    let limit = "PRAGMA max_page_count = 1";
    let connection = writer.table().unwrap().connection();
    sqlx::raw_sql(limit).execute(connection).await.unwrap();
    for n in 0..100 {
        log.record(selftest(&format!("{n} {}", "x".repeat(500))));
    }
    writer.write_queued().await;
    assert_eq!(kinds(&log).await, ["service_started"]);
    log.record(selftest("too early to try again"));
    writer.write_queued().await;
    // A new connection has no such limit.
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    log.record(selftest("A"));
    writer.write_queued().await;
    let shown = texts(&log, &filter()).await;
    assert_eq!(shown[0], "self-test of 'A' started");
    assert!(
        shown[1].starts_with("101 events were not written"),
        "{shown:?}"
    );
    assert_eq!(shown.len(), 3);
}

#[tokio::test]
async fn oldest_events_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    for round in 0..21 {
        for n in 0..1_000 {
            log.record(selftest(&format!("{round}/{n}")));
        }
        writer.write_queued().await;
    }
    let table = writer.table().unwrap();
    let count = sqlx::query_as("SELECT count(*), min(id), max(id) FROM event");
    let counted: (i64, i64, i64) = count.fetch_one(table.connection()).await.unwrap();
    assert_eq!(counted, (20_000, 1_002, 21_001));
    drop(writer);
    let (_, mut writer) = EventLog::open(directory.path(), clock()).await;
    writer.write_queued().await;
    assert_eq!(writer.table().unwrap().last_id(), 21_002);
}

#[tokio::test]
async fn damaged_file_is_replaced_and_noted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.db");
    std::fs::write(&path, [7; 10_000]).unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    writer.write_queued().await;
    assert_eq!(kinds(&log).await, ["service_started", "file_replaced"]);
    let damaged = directory.path().join("events.db.damaged");
    assert_eq!(std::fs::read(damaged).unwrap(), [7; 10_000]);
}

#[tokio::test(start_paused = true)]
async fn unusable_file_does_not_keep_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.db");
    std::fs::create_dir(&path).unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    log.record(selftest("A"));
    writer.write_queued().await;
    log.query(&filter()).await.unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    log.record(selftest("B"));
    writer.write_queued().await;
    assert_eq!(kinds(&log).await, ["selftest_started", "events_lost"]);
}

#[tokio::test(start_paused = true)]
async fn repetitions_become_one_event() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    let equal = |listed| ServiceEvent::ReadbackEqual { listed };
    for listed in 1..=3 {
        log.record_for_shop("moscow", "", equal(listed));
        log.record_for_shop("kazan", "", equal(9));
        tokio::time::advance(std::time::Duration::from_hours(6)).await;
        writer.write_queued().await;
    }
    let stored = log.query(&filter()).await.unwrap();
    assert_eq!(stored.len(), 3, "{stored:?}");
    let moscow = &stored[1];
    assert_eq!(
        (moscow.shop.as_deref(), moscow.times),
        (Some("moscow"), 3),
        "{moscow:?}"
    );
    assert_eq!(moscow.event, equal(3));
    assert_eq!(moscow.at - moscow.first_at, TimeDelta::hours(12));
    let reason = || EventText::from("timeout");
    log.record_for_shop(
        "moscow",
        "",
        ServiceEvent::ReadbackFailed { reason: reason() },
    );
    log.record_for_shop("moscow", "", equal(4));
    writer.write_queued().await;
    let stored = log.query(&filter()).await.unwrap();
    assert_eq!(stored.len(), 5);
    assert_eq!((stored[0].times, &stored[0].event), (1, &equal(4)));
}

#[tokio::test]
async fn pages_and_filters() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    for n in 0..5 {
        log.record_for_shop("moscow", "erp", selftest(&format!("m{n}")));
        log.record_for_shop("kazan", "", ServiceEvent::RulesApproved);
    }
    writer.write_queued().await;
    let mut page = EventFilter {
        shop: Some("moscow".to_owned()),
        limit: 2,
        ..EventFilter::default()
    };
    let mut seen = Vec::new();
    loop {
        let events = log.query(&page).await.unwrap();
        assert!(events.len() <= 2);
        let Some(last) = events.last() else { break };
        page.before = Some(last.id);
        assert!(events.iter().all(|it| it.subject == "erp"));
        seen.extend(events.into_iter().map(|event| event.text));
    }
    let expected = [4, 3, 2, 1, 0].map(|n| format!("self-test of 'm{n}' started"));
    assert_eq!(seen, expected);
    let two_kinds = EventFilter {
        kinds: vec!["rules_approved".to_owned(), "service_started".to_owned()],
        ..filter()
    };
    assert_eq!(log.query(&two_kinds).await.unwrap().len(), 6);
    let hostile = EventFilter {
        kinds: vec!["x') OR 1 --".to_owned()],
        shop: Some("' OR 1 --".to_owned()),
        ..filter()
    };
    assert!(log.query(&hostile).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_event_is_small() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    let long = "Ж".repeat(100_000);
    let event = ServiceEvent::OperatorAction {
        action: OperatorAction::Import,
        object: long.as_str().into(),
    };
    log.record_for_shop(&long, &long, event);
    writer.write_queued().await;
    let stored = log.query(&filter()).await.unwrap().remove(0);
    let json = serde_json::to_string(&stored).unwrap();
    assert!(json.len() < 3_000, "{}", json.len());
    assert!(stored.text.len() <= MAX_TEXT_BYTES);
}

#[tokio::test]
async fn default_log_keeps_nothing() {
    let log = EventLog::default();
    log.record(ServiceEvent::RulesApproved);
    assert!(log.query(&filter()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn alarms_are_recorded_from_begin_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let (log, mut writer) = EventLog::open(directory.path(), clock()).await;
    let alarms = Alarms::new(clock());
    alarms.raise(AlarmKind::SourceHeld, "moscow/erp", "held");
    let tasks = Tasks::new(CrashSignal::default());
    let shops = vec!["moscow".to_owned()];
    let recorder = record_alarms(log.clone(), alarms.clone(), shops, tasks.clone());
    tasks.spawn("alarm_events", recorder);
    let minute = TimeDelta::minutes(1);
    alarms.raise_for(AlarmKind::AuthFailures, "/moscow/stocks", "wrong", minute);
    // The expiry has no notification.
    tokio::time::sleep(std::time::Duration::from_secs(70)).await;
    alarms.clear(AlarmKind::SourceHeld, "moscow/erp");
    // Noticed at the stop.
    tasks.stop();
    tasks.ended().await;
    writer.write_queued().await;
    let stored = log.query(&filter()).await.unwrap();
    let mut described: Vec<String> = stored
        .iter()
        .map(|it| format!("{} {:?} {}", it.event.kind(), it.shop, it.subject))
        .collect();
    described.reverse();
    assert_eq!(
        described,
        [
            "service_started None ",
            "alarm_raised None /moscow/stocks",
            "alarm_raised Some(\"moscow\") erp",
            "alarm_cleared None /moscow/stocks",
            "alarm_cleared Some(\"moscow\") erp",
        ]
    );
}

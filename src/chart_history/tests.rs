//! Tests of the chart history with files on disk.

use super::*;

const SHOP: ShopId = ShopId(0);

fn clock() -> Clock {
    Clock::starting_at("2026-11-20T10:30:00Z".parse().unwrap())
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn names() -> Vec<String> {
    vec!["moscow".to_owned(), "kazan".to_owned()]
}

fn sample(dirty: f64, acknowledged: f64) -> ChartSample {
    let mut sample = ChartSample::default();
    sample.set(Series::DirtySkus, dirty);
    sample.set(Series::AcknowledgedSkus, acknowledged);
    sample
}

/// Values of a series without its gaps, with their times.
fn values(history: &ChartHistory, series: Series, resolution: Resolution) -> Vec<(String, f64)> {
    let points = history.series(SHOP, series, resolution);
    assert_eq!(points.len(), resolution.periods());
    let points = points.into_iter();
    points
        .filter_map(|(at, value)| Some((at.format("%d %H:%M").to_string(), value?)))
        .collect()
}

fn point(at: &str, value: f64) -> (String, f64) {
    (at.to_owned(), value)
}

#[tokio::test(start_paused = true)]
async fn minutes_and_hours_have_gaps() {
    let history = ChartHistory::empty(names(), clock());
    for (at, dirty) in [
        ("2026-11-20T09:58:59Z", 1.0),
        ("2026-11-20T09:59:00Z", 5.0),
        ("2026-11-20T10:02:00Z", 3.0),
    ] {
        history.record(time(at), vec![sample(dirty, 10.0), sample(7.0, 0.0)]);
    }
    assert_eq!(
        values(&history, Series::DirtySkus, Resolution::Minute),
        [
            point("20 09:58", 1.0),
            point("20 09:59", 5.0),
            point("20 10:02", 3.0)
        ]
    );
    assert_eq!(
        values(&history, Series::DirtySkus, Resolution::Hour),
        [point("20 09:00", 5.0), point("20 10:00", 3.0)]
    );
    assert_eq!(
        values(&history, Series::AcknowledgedSkus, Resolution::Hour),
        [point("20 09:00", 20.0), point("20 10:00", 10.0)]
    );
    let all = history.series(SHOP, Series::DirtySkus, Resolution::Minute);
    assert_eq!(all[all.len() - 1].0, time("2026-11-20T10:29:00Z"));
    assert_eq!(
        values(&history, Series::UnknownSkus, Resolution::Minute),
        []
    );
    let unknown = history.series(ShopId(9), Series::DirtySkus, Resolution::Minute);
    assert!(unknown.is_empty());
}

#[tokio::test(start_paused = true)]
async fn old_samples_leave_the_charts() {
    let clock = clock();
    let history = ChartHistory::empty(names(), clock);
    history.record(clock.now(), vec![sample(1.0, 1.0)]);
    let len = |resolution| values(&history, Series::DirtySkus, resolution).len();
    let advance = |hours| tokio::time::advance(std::time::Duration::from_hours(hours));
    assert_eq!((len(Resolution::Minute), len(Resolution::Hour)), (1, 1));
    advance(25).await;
    assert_eq!((len(Resolution::Minute), len(Resolution::Hour)), (0, 1));
    advance(90 * 24).await;
    assert_eq!((len(Resolution::Minute), len(Resolution::Hour)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn same_minute_is_merged_and_an_earlier_replaced() {
    let history = ChartHistory::empty(names(), clock());
    let record = |at, dirty, acknowledged| {
        history.record(time(at), vec![sample(dirty, acknowledged)]);
    };
    record("2026-11-20T10:00:10Z", 4.0, 2.0);
    record("2026-11-20T10:00:50Z", 1.0, 3.0);
    record("2026-11-20T10:01:00Z", 0.0, 100.0);
    let minutes = |series| values(&history, series, Resolution::Minute);
    let hours = |series| values(&history, series, Resolution::Hour);
    assert_eq!(minutes(Series::DirtySkus)[0], point("20 10:00", 4.0));
    assert_eq!(minutes(Series::AcknowledgedSkus)[0], point("20 10:00", 5.0));
    assert_eq!(hours(Series::AcknowledgedSkus), [point("20 10:00", 105.0)]);
    // The clock is set back by a minute.
    record("2026-11-20T10:00:30Z", 9.0, 1.0);
    assert_eq!(minutes(Series::AcknowledgedSkus)[0], point("20 10:00", 1.0));
    assert_eq!(hours(Series::AcknowledgedSkus), [point("20 10:00", 101.0)]);
}

#[tokio::test(start_paused = true)]
async fn clock_that_is_set_back_by_days_keeps_full_hours() {
    let history = ChartHistory::empty(names(), clock());
    for (day, minute) in (18..20).flat_map(|day| (0..60).map(move |minute| (day, minute))) {
        let at = format!("2026-11-{day}T10:{minute:02}:00Z");
        history.record(time(&at), vec![sample(1.0, 1.0)]);
    }
    for at in ["2026-11-18T10:30:00Z", "1969-12-31T23:59:59Z"] {
        history.record(time(at), vec![sample(8.0, 1.0)]);
    }
    assert_eq!(
        values(&history, Series::AcknowledgedSkus, Resolution::Hour),
        [point("18 10:00", 60.0), point("19 10:00", 60.0)]
    );
    history.record(DateTime::<Utc>::MIN_UTC, vec![sample(8.0, 1.0)]);
    history.record(DateTime::<Utc>::MAX_UTC, vec![sample(8.0, 1.0)]);
}

#[tokio::test(start_paused = true)]
async fn file_restores_the_history() {
    let directory = tempfile::tempdir().unwrap();
    let (history, mut file) = ChartHistory::open(directory.path(), names(), clock()).await;
    let now = clock().now();
    for minutes in (0..180).rev() {
        history.record(
            now - chrono::TimeDelta::minutes(minutes),
            vec![sample(1.0, 2.0), sample(3.0, 4.0)],
        );
    }
    file.save(&history).await;
    // Not saved: a killed process loses the last minute.
    history.record(now, vec![sample(50.0, 0.0)]);
    drop(file);
    // The shops may have another order.
    let names = vec!["new".to_owned(), "moscow".to_owned()];
    let (restored, file) = ChartHistory::open(directory.path(), names, clock()).await;
    let moscow = |series, resolution| restored.series(ShopId(1), series, resolution);
    for &series in Series::ALL {
        let minutes = moscow(series, Resolution::Minute);
        let mut expected = history.series(SHOP, series, Resolution::Minute);
        if series == Series::DirtySkus {
            expected.last_mut().unwrap().1 = Some(1.0);
        }
        assert_eq!(minutes, expected, "{}", series.name());
    }
    let hours = moscow(Series::AcknowledgedSkus, Resolution::Hour);
    let hours: Vec<_> = hours.iter().filter_map(|(_, value)| *value).collect();
    assert_eq!(hours, [58.0, 120.0, 120.0, 62.0]);
    // A restart within a minute continues it.
    restored.record(now, vec![ChartSample::default(), sample(0.0, 5.0)]);
    let minutes = moscow(Series::AcknowledgedSkus, Resolution::Minute);
    assert_eq!(minutes.last().unwrap().1, Some(7.0));
    file.close().await;
}

#[tokio::test(start_paused = true)]
async fn number_of_rows_on_disk_is_limited() {
    let directory = tempfile::tempdir().unwrap();
    let one = vec!["moscow".to_owned()];
    let (history, mut file) = ChartHistory::open(directory.path(), one, clock()).await;
    let first = time("2026-07-01T00:00:00Z");
    for hour in 0..3_000 {
        let at = first + chrono::TimeDelta::hours(hour);
        for minute in [0, 1] {
            let at = at + chrono::TimeDelta::minutes(minute);
            history.record(at, vec![sample(1.0, 1.0)]);
        }
        if hour % 500 == 0 {
            file.save(&history).await;
        }
    }
    file.save(&history).await;
    let query = "SELECT count(*) FROM sample WHERE seconds = 3600";
    let connection = file.connection().unwrap();
    let hours: i64 = sqlx::query_scalar(query)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(hours, 2_160);
    let minutes = "SELECT count(*) FROM sample WHERE seconds = 60";
    let minutes: i64 = sqlx::query_scalar(minutes)
        .fetch_one(connection)
        .await
        .unwrap();
    assert!(minutes <= 1_440, "{minutes}");
}

#[tokio::test(start_paused = true)]
async fn removed_shop_stays_on_disk_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let (history, mut file) = ChartHistory::open(directory.path(), names(), clock()).await;
    history.record(clock().now(), vec![sample(1.0, 1.0), sample(2.0, 2.0)]);
    file.save(&history).await;
    file.close().await;
    let rows = async |after: i64| -> i64 {
        let clock = Clock::starting_at(clock().now() + chrono::TimeDelta::days(after));
        let one = vec!["moscow".to_owned()];
        let (_, mut file) = ChartHistory::open(directory.path(), one, clock).await;
        let connection = file.connection().unwrap();
        let count = sqlx::query_scalar("SELECT count(*) FROM sample");
        let count = count.fetch_one(connection).await.unwrap();
        file.close().await;
        count
    };
    assert_eq!(rows(30).await, 4);
    assert_eq!(rows(91).await, 2, "the rows of kazan are gone");
}

#[tokio::test(start_paused = true)]
async fn unusable_file_is_filled_when_it_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("charts.db");
    std::fs::create_dir(&path).unwrap();
    let (history, mut file) = ChartHistory::open(directory.path(), names(), clock()).await;
    let now = clock().now();
    history.record(now - chrono::TimeDelta::minutes(5), vec![sample(1.0, 1.0)]);
    file.save(&history).await;
    std::fs::remove_dir(&path).unwrap();
    tokio::time::advance(std::time::Duration::from_mins(1)).await;
    history.record(now, vec![sample(2.0, 1.0)]);
    file.save(&history).await;
    file.close().await;
    let (restored, _) = ChartHistory::open(directory.path(), names(), clock()).await;
    assert_eq!(
        values(&restored, Series::DirtySkus, Resolution::Minute),
        [point("20 10:25", 1.0), point("20 10:30", 2.0)]
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_file_is_replaced_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("charts.db"), [7; 10_000]).unwrap();
    let (history, mut file) = ChartHistory::open(directory.path(), names(), clock()).await;
    let (name, reason) = file.take_damage().unwrap();
    assert_eq!(name, "charts.db");
    assert!(!reason.is_empty());
    assert_eq!(file.take_damage(), None);
    history.record(clock().now(), vec![sample(1.0, 1.0)]);
    file.save(&history).await;
    file.close().await;
    let (restored, _) = ChartHistory::open(directory.path(), names(), clock()).await;
    assert_eq!(
        values(&restored, Series::DirtySkus, Resolution::Minute).len(),
        1
    );
}

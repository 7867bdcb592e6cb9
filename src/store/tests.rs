//! Tests of the store in a directory: the checks that every kind of store must pass, its files,
//! failures of the disk, and kills.
//!
//! A kill of the process is simulated by a copy of the database and its log while the store is
//! open: opening the copy shows what a restart would find.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use self::store_suite::checks::poll_times;
use self::store_suite::random_steps::run_random_steps;
use self::store_suite::samples::{level, quarantined, rows, shops, sku};
use self::store_suite::test_store::{SHOP_A, SHOP_B, StoredState, Subject, SuiteStore};
use super::*;

#[path = "../../tests/store_suite/mod.rs"]
mod store_suite;

macro_rules! suite_tests {
    ($($check:ident),+) => {
        mod suite {
            use super::{new_subject, store_suite};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $check() {
                    store_suite::checks::$check(&new_subject()).await;
                }
            )+
        }
    };
}

store_suite::for_each_store_check!(suite_tests);

fn new_subject() -> Subject {
    Subject {
        directory: TempDir::new().unwrap(),
        database: None,
    }
}

async fn fail_after_commits(test_store: &SuiteStore, commits: usize) {
    let mut guard = test_store.store.sqlite().lock().await;
    guard.connection.fail_after = Some(commits);
}

async fn open(path: &Path) -> Result<OpenedStore, StoreError> {
    let path = path.to_owned();
    Store::open(&Config { path, url: None }, &shops(["a", "b"])).await
}

/// Copies the files that a killed process would leave.
fn copy_as_killed(subject: &Subject) -> Subject {
    let (path, copy) = (subject.directory.path(), new_subject());
    for file in ["stock.db", "stock.db-wal"] {
        if path.join(file).exists() {
            fs::copy(path.join(file), copy.directory.path().join(file)).unwrap();
        }
    }
    copy
}

/// Returns the content that a restart after a kill would find.
async fn contents_after_kill(subject: &Subject) -> StoredState {
    copy_as_killed(subject).contents().await
}

#[tokio::test]
async fn acknowledged_changes_survive_a_kill() {
    let subject = new_subject();
    let test_store = subject.open().await;
    for n in 0..10 {
        test_store.append_stock(SHOP_A, &rows(n..n + 50, n)).await;
        assert_eq!(contents_after_kill(&subject).await, test_store.contents());
    }
}

#[tokio::test]
async fn kill_during_compaction_loses_nothing() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    test_store.compact().await.unwrap();
    test_store.fill().await;
    test_store
        .append(StoreChange::Quarantined {
            shop: SHOP_B,
            row: &quarantined(9, 3),
        })
        .await
        .unwrap();
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    drop(test_store);
    let mut steps = 0;
    loop {
        let start = copy_as_killed(&subject);
        let test_store = start.open().await;
        fail_after_commits(&test_store, steps).await;
        let outcome = test_store.compact().await;
        let copy = copy_as_killed(&start);
        assert_eq!(copy.contents().await, known, "killed after step {steps}");
        assert_no_garbage(&copy).await;
        if outcome.is_ok() {
            break;
        }
        // The process that was not killed recovers, and can repeat the compaction.
        assert!(test_store.store.is_failed());
        assert!(test_store.store.reopen_and_verify().await.unwrap());
        test_store.compact().await.unwrap();
        test_store.store.close().await.unwrap();
        assert_eq!(
            start.contents().await,
            known,
            "recovered after step {steps}"
        );
        steps += 1;
    }
    assert!(steps >= 6, "only {steps} steps were tried");
}

/// Asserts that every record on disk is valid.
async fn assert_no_garbage(subject: &Subject) {
    let file = subject.directory.path().join("stock.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut conn = options.connect().await.unwrap();
    let garbage: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM change, state WHERE seq <= snapshot_seq) + \
         (SELECT count(*) FROM snapshot JOIN state WHERE snapshot.generation <> state.generation)",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
    assert_eq!(garbage, 0);
}

#[tokio::test]
async fn guarded_change_stays_in_the_log() {
    let subject = new_subject();
    let test_store = subject.open().await;
    let rows = rows(0..5, 1);
    let guard = test_store
        .store
        .append(&[StoreChange::Stock {
            shop: SHOP_A,
            rows: &rows,
        }])
        .await
        .unwrap();
    // The book does not have the change yet, so the snapshot does not contain it.
    test_store.compact().await.unwrap();
    assert_eq!(contents_after_kill(&subject).await.stock.len(), 5);
    drop(guard);
}

#[tokio::test]
async fn second_process_is_rejected_with_the_first_pid() {
    let subject = new_subject();
    let test_store = subject.open().await;
    let error = open(subject.directory.path()).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id()))
    );
    test_store.store.close().await.unwrap();
    subject.open().await;
}

#[tokio::test]
async fn files_are_readable_by_the_owner_only() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/store");
    let test_store = SuiteStore::new(open(&path).await.unwrap());
    test_store.fill().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["lock", "stock.db", "stock.db-wal", "stock.db-shm"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    test_store.store.close().await.unwrap();
    fs::set_permissions(path.join("stock.db"), fs::Permissions::from_mode(0o644)).unwrap();
    open(&path).await.unwrap();
    assert_eq!(mode(&path.join("stock.db")), 0o600);
}

#[tokio::test]
async fn unwritable_path_is_in_the_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("store")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains("file/store"), "{error}");
}

/// Returns the only file of a closed store with many records, and its content.
async fn sample_store() -> (Vec<u8>, StoredState) {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    test_store.compact().await.unwrap();
    test_store.append_stock(SHOP_A, &rows(0..250, 5)).await;
    test_store
        .append(StoreChange::Quarantined {
            shop: SHOP_A,
            row: &quarantined(5, 1),
        })
        .await
        .unwrap();
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    let path = subject.directory.path();
    assert!(!path.join("stock.db-wal").exists());
    (fs::read(path.join("stock.db")).unwrap(), known)
}

/// Opens the store, closes it, and returns its content.
async fn try_contents(subject: &Subject) -> Result<StoredState, StoreError> {
    let test_store = SuiteStore::new(open(subject.directory.path()).await?);
    let contents = test_store.contents();
    test_store.store.close().await?;
    Ok(contents)
}

async fn contents_of_file(bytes: &[u8]) -> Result<StoredState, StoreError> {
    let subject = new_subject();
    let file = subject.directory.path().join("stock.db");
    fs::write(&file, bytes).unwrap();
    let outcome = try_contents(&subject).await;
    if outcome.is_err() {
        assert!(file.exists(), "an unreadable file must stay");
    }
    outcome
}

#[tokio::test]
async fn rejects_foreign_broken_and_other_formats() {
    let (whole, _) = sample_store().await;

    let text = contents_of_file(b"Dear diary, today I was mistaken for a database.").await;
    assert!(
        matches!(text, Err(StoreError::ForeignFile { .. })),
        "{text:?}"
    );

    let foreign = new_subject();
    fs::write(foreign.directory.path().join("stock.db"), "").unwrap();
    foreign.execute("CREATE TABLE foreign_table (name)").await;
    let rejected = try_contents(&foreign).await;
    assert!(
        matches!(rejected, Err(StoreError::ForeignFile { .. })),
        "{rejected:?}"
    );

    for format in [0, 1, 3] {
        let mut other = whole.clone();
        other[60..64].copy_from_slice(&u32::to_be_bytes(format));
        let error = contents_of_file(&other).await.unwrap_err().to_string();
        let expected = format!("has format {format}, but this release only reads format 2: run");
        assert!(error.contains(&expected), "{error}");
    }

    for length in [0, 20, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        let rejected = contents_of_file(&whole[..length]).await;
        assert!(
            matches!(rejected, Err(StoreError::Damaged { .. })),
            "{length}: {rejected:?}"
        );
    }
}

#[tokio::test]
async fn rejects_a_log_without_its_database() {
    let subject = new_subject();
    fs::write(subject.directory.path().join("stock.db-wal"), "something").unwrap();
    assert!(matches!(
        try_contents(&subject).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[tokio::test]
async fn interrupted_creation_starts_again() {
    let subject = new_subject();
    let path = subject.directory.path();
    for file in ["stock.db.new", "stock.db.new-wal"] {
        fs::write(path.join(file), "half").unwrap();
    }
    assert!(subject.contents().await.stock.is_empty());
    assert!(!path.join("stock.db.new").exists());
}

#[tokio::test]
async fn zeroed_page_is_detected_or_harmless() {
    let (whole, known) = sample_store().await;
    let mut detected = 0;
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        match contents_of_file(&bytes).await {
            Ok(same) => assert_eq!(same, known, "page {page}"),
            Err(_) => detected += 1,
        }
    }
    assert!(detected >= 5, "only {detected} pages mattered");
}

#[tokio::test]
async fn flipped_bit_is_detected_or_harmless() {
    let (whole, known) = sample_store().await;
    let mut random = 0x5eed_u64;
    let mut detected = 0;
    for n in 0..400 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let high = usize::try_from(random >> 33).unwrap();
        // Half of the flips hit structure: the first page, and the beginnings of pages.
        let at = match n % 4 {
            0 => high % 4096,
            1 => high % (whole.len() / 4096) * 4096 + high % 64,
            _ => high % whole.len(),
        };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (random >> 29 & 7);
        match contents_of_file(&bytes).await {
            Ok(same) => assert_eq!(same, known, "byte {at}"),
            Err(_) => detected += 1,
        }
    }
    assert!(detected > 50, "only {detected} flips were noticed");
}

#[tokio::test]
async fn missing_rows_are_detected() {
    let (whole, _) = sample_store().await;
    let damages = [
        "DELETE FROM change WHERE seq = (SELECT max(seq) FROM change)",
        "DELETE FROM change",
        "DELETE FROM snapshot WHERE chunk = 0",
        "DELETE FROM snapshot WHERE chunk = (SELECT max(chunk) FROM snapshot)",
        "DELETE FROM shop WHERE id = 2",
        "DELETE FROM state",
        "UPDATE state SET last_seq = last_seq - 1",
        "UPDATE snapshot SET shop = 3 - shop",
        "UPDATE snapshot SET rows = 4611686018427387904",
        "UPDATE shop SET target = 'campaign 2'",
        "UPDATE change SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM change)",
        "CREATE TRIGGER foreign_trigger AFTER INSERT ON change BEGIN DELETE FROM change; END",
    ];
    for damage in damages {
        let subject = new_subject();
        fs::write(subject.directory.path().join("stock.db"), &whole).unwrap();
        subject.execute(damage).await;
        let rejected = try_contents(&subject).await;
        assert!(
            matches!(rejected, Err(StoreError::Damaged { .. })),
            "{damage}: {rejected:?}"
        );
    }
}

async fn limit_page_count(test_store: &SuiteStore, pages: u32) {
    let mut guard = test_store.store.sqlite().lock().await;
    let Ok(conn) = guard.connection.conn() else {
        panic!("closed")
    };
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(pragma).execute(conn).await.unwrap();
}

#[tokio::test]
async fn full_disk_rejects_changes_until_space_is_free() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    limit_page_count(&test_store, 1).await;
    let known = test_store.contents();
    let many = rows(0..3000, 9);
    for _ in 0..3 {
        let rejected = test_store
            .append(StoreChange::Stock {
                shop: SHOP_A,
                rows: &many,
            })
            .await;
        assert!(
            matches!(rejected, Err(StoreError::DiskFull)),
            "{rejected:?}"
        );
        let rejected = test_store.compact().await;
        assert!(
            matches!(rejected, Err(StoreError::DiskFull)),
            "{rejected:?}"
        );
        assert!(!test_store.store.is_failed());
        assert_eq!(contents_after_kill(&subject).await, known);
    }
    limit_page_count(&test_store, 1_000_000).await;
    test_store.append_stock(SHOP_A, &many).await;
    test_store.compact().await.unwrap();
    assert_eq!(contents_after_kill(&subject).await, test_store.contents());
}

#[tokio::test]
async fn failed_store_rejects_changes_until_reopened() {
    let subject = new_subject();
    let test_store = subject.open().await;
    assert!(!test_store.store.reopen_and_verify().await.unwrap());
    test_store.fill().await;
    let known = test_store.contents();
    fail_after_commits(&test_store, 0).await;
    let row = quarantined(8, 8);
    for _ in 0..2 {
        let rejected = test_store
            .append(StoreChange::Quarantined {
                shop: SHOP_A,
                row: &row,
            })
            .await;
        assert!(
            matches!(rejected, Err(StoreError::Failed { .. })),
            "{rejected:?}"
        );
    }
    assert!(test_store.store.is_failed());
    assert!(test_store.store.status().failed.is_some());
    // The change is on disk but was not acknowledged: a restart may or may not find it.
    assert_ne!(contents_after_kill(&subject).await, known);
    assert!(test_store.store.reopen_and_verify().await.unwrap());
    assert!(!test_store.store.is_failed());
    assert_eq!(contents_after_kill(&subject).await, known);
    test_store.append_stock(SHOP_B, &rows(0..9, 9)).await;
    assert_eq!(contents_after_kill(&subject).await, test_store.contents());
}

#[tokio::test]
async fn reopening_detects_new_damage() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    fail_after_commits(&test_store, 0).await;
    test_store
        .append(StoreChange::Released {
            shop: SHOP_A,
            sku: &sku(4),
        })
        .await
        .unwrap_err();
    subject.execute("DELETE FROM change WHERE seq = 2").await;
    for _ in 0..2 {
        let outcome = test_store.store.reopen_and_verify().await;
        assert!(
            matches!(outcome, Err(StoreError::Damaged { .. })),
            "{outcome:?}"
        );
        assert!(test_store.store.is_failed());
    }
}

#[tokio::test]
async fn dropped_append_is_undone() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    let many = rows(0..300, 9);
    for polls in 1..40 {
        let known = test_store.contents();
        let changes = [StoreChange::Stock {
            shop: SHOP_A,
            rows: &many,
        }];
        if poll_times(test_store.store.append(&changes), polls).await {
            test_store.append_stock(SHOP_A, &many).await;
        }
        // The next append first deletes what the dropped one may have left.
        test_store
            .append(StoreChange::Released {
                shop: SHOP_A,
                sku: &sku(0),
            })
            .await
            .unwrap();
        let now = contents_after_kill(&subject).await;
        assert_eq!(now, test_store.contents());
        if now != known {
            return;
        }
    }
    panic!("the append was never polled to its end");
}

#[tokio::test]
async fn dropped_compaction_can_be_repeated() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    let known = test_store.contents();
    let mut polls = 1;
    while !poll_times(test_store.compact(), polls).await {
        assert_eq!(contents_after_kill(&subject).await, known);
        polls += 3;
    }
    test_store.compact().await.unwrap();
    assert_eq!(contents_after_kill(&subject).await, known);
    assert_no_garbage(&subject).await;
}

#[tokio::test]
async fn futures_of_the_store_are_send() {
    fn assert_send<F: Future + Send>(_: F) {}
    let subject = new_subject();
    assert_send(Store::open(&subject.config(), &[]));
    let SuiteStore { store, memory } = subject.open().await;
    assert_send(async {
        let guard = store.append(&[]).await;
        store
            .compact(&memory.book, |_, _| Acked::default(), &memory.activity)
            .await
            .unwrap();
        drop(guard);
    });
    assert_send(store.reopen_and_verify());
    assert_send(store.close());
}

#[tokio::test]
async fn file_stays_bounded_under_constant_changes() {
    let subject = new_subject();
    let test_store = subject.open().await;
    let mut sizes = Vec::new();
    for round in 0..12 {
        for n in 0..4 {
            test_store
                .append_stock(SHOP_A, &rows(0..5000, round * 10 + n))
                .await;
        }
        test_store.compact().await.unwrap();
        sizes.push(test_store.store.status().disk_bytes);
    }
    let live = test_store.store.status().snapshot_bytes;
    let bound = 3 * live + 64 * 1024 * 1024;
    assert!(sizes.iter().all(|size| *size < bound));
    // Later rounds reuse the space of the first ones.
    assert!(sizes[11] < sizes[5] + sizes[5] / 10, "{sizes:?}");
}

#[tokio::test]
async fn large_log_wants_compaction() {
    let subject = new_subject();
    let test_store = subject.open().await;
    test_store.fill().await;
    assert!(!test_store.store.wants_compaction());
    test_store
        .store
        .sqlite()
        .lock()
        .await
        .connection
        .add_log_bytes(COMPACTION_BYTES);
    assert!(test_store.store.wants_compaction());
    test_store.compact().await.unwrap();
    assert!(!test_store.store.wants_compaction());
}

#[test]
fn ack_takes_16_bytes_and_keeps_seconds() {
    assert_eq!(size_of::<Acked>(), 16);
    assert_eq!(
        (Acked::default().level(), Acked::default().acked_at()),
        (None, None)
    );
    let at: DateTime<Utc> = "2026-11-21T20:00:00.999Z".parse().unwrap();
    let acked = Acked::new(level(5, 1), at);
    assert_eq!(acked.level(), Some(level(5, 1)));
    assert_eq!(acked.acked_at(), "2026-11-21T20:00:00Z".parse().ok());
}

#[tokio::test]
async fn random_failures_and_kills_equal_the_model() {
    let rng = StdRng::seed_from_u64(20_261_130);
    let mut subject = new_subject();
    let first = subject.open().await;
    let last = run_random_steps(first, rng, async |test_store, rng| {
        match rng.random_range(0..3) {
            0 => {
                fail_randomly(&test_store, rng).await;
                return test_store;
            }
            1 => {
                let copy = copy_as_killed(&subject);
                drop(test_store);
                subject = copy;
            }
            _ => test_store.store.close().await.unwrap(),
        }
        subject.open().await
    })
    .await;
    let known = last.contents();
    last.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
}

/// Lets an append or a compaction fail, and recovers.
async fn fail_randomly(test_store: &SuiteStore, rng: &mut StdRng) {
    if rng.random_bool(0.5) {
        fail_after_commits(test_store, rng.random_range(0..6)).await;
        let _outcome = test_store.compact().await;
    } else {
        fail_after_commits(test_store, 0).await;
        let row = &quarantined(7, 7);
        let change = StoreChange::Quarantined { shop: SHOP_A, row };
        test_store.append(change).await.unwrap_err();
    }
    fail_after_commits(test_store, usize::MAX).await;
    test_store.store.reopen_and_verify().await.unwrap();
}

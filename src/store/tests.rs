//! Tests of the store in a directory: its files, failures of the disk, and kills. The checks that
//! every kind of store must pass are in `tests/store_suite`.
//!
//! A kill of the process is simulated by a copy of the database and its log while the store is
//! open: opening the copy shows what a restart would find.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use sqlx::{ConnectOptions, Connection};
use stock::{Hour, LastStated, SkuId};
use tempfile::TempDir;

use super::*;

const SHOP_A: ShopId = ShopId(0);
const SHOP_B: ShopId = ShopId(1);

/// Content of a store in comparable form.
#[derive(Clone, Debug, Default, PartialEq)]
struct StoreContents {
    stock: BTreeMap<(usize, String), (Level, Acked, SkuActivity)>,
    unknown: BTreeMap<(usize, String), SkuActivity>,
    quarantine: Vec<Vec<QuarantineEntry>>,
}

/// Store with its state in memory.
struct TestStore {
    store: Store,
    book: StockBook,
    acked: Vec<PerSku<Acked>>,
    quarantine: Vec<BTreeMap<Sku, QuarantineEntry>>,
    activity: Activity,
}

impl TestStore {
    fn new(opened: OpenedStore) -> Self {
        let OpenedStore {
            store,
            book,
            acked,
            quarantine,
            activity,
            ..
        } = opened;
        let by_sku =
            |rows: Vec<QuarantineEntry>| rows.into_iter().map(|row| (row.sku.clone(), row));
        let quarantine = quarantine
            .into_iter()
            .map(|rows| by_sku(rows).collect())
            .collect();
        Self {
            store,
            book,
            acked,
            quarantine,
            activity,
        }
    }

    async fn open(path: &Path) -> Self {
        Self::new(open(path, &shops(["a", "b"])).await.unwrap())
    }

    /// Persists a change, then applies it to memory.
    async fn append(&mut self, change: StoreChange<'_>) -> Result<(), StoreError> {
        let _guard = self.store.append(&[change]).await?;
        match change {
            StoreChange::Stock { shop, rows } => {
                for (sku, level) in rows {
                    self.book.apply(shop, sku, *level);
                }
            }
            StoreChange::Acked { shop, rows } => {
                for (sku, acked) in rows {
                    if let Some(entry) = self.book.get(shop, sku.as_str()) {
                        self.acked[shop.index()].set(entry.id(), *acked);
                    }
                }
            }
            StoreChange::Activity { shop, rows } => {
                for (sku, activity) in rows {
                    let id = self.book.get(shop, sku.as_str()).map(|entry| entry.id());
                    self.activity.restore(shop, sku, id, activity);
                }
            }
            StoreChange::Quarantined { shop, row } => {
                self.quarantine[shop.index()].insert(row.sku.clone(), row.clone());
            }
            StoreChange::Released { shop, sku } => {
                self.quarantine[shop.index()].remove(sku);
            }
        }
        Ok(())
    }

    async fn append_stock(&mut self, shop: ShopId, rows: &[(Sku, Level)]) {
        self.append(StoreChange::Stock { shop, rows })
            .await
            .unwrap();
    }

    async fn compact(&self) -> Result<(), StoreError> {
        let acked = |shop: ShopId, id: SkuId| self.acked[shop.index()].get(id);
        self.store.compact(&self.book, acked, &self.activity).await
    }

    fn contents(&self) -> StoreContents {
        let mut contents = StoreContents::default();
        for shop in self.book.shops() {
            // First, because the call moves the history of SKUs that have stock by now.
            self.activity.for_each_unknown(shop, |sku, activity| {
                contents
                    .unknown
                    .insert((shop.index(), sku.to_string()), activity.clone());
            });
            self.book.for_each(shop, |sku, entry| {
                let acked = self.acked[shop.index()].get(entry.id());
                let activity = self.activity.get(shop, entry.id());
                contents.stock.insert(
                    (shop.index(), sku.to_string()),
                    (entry.level(), acked, activity),
                );
            });
            contents
                .quarantine
                .push(self.quarantine[shop.index()].values().cloned().collect());
        }
        contents
    }

    /// Appends some changes of every kind to both shops.
    async fn fill(&mut self) {
        for shop in [SHOP_A, SHOP_B] {
            self.append_stock(shop, &rows(0..300, 1)).await;
            let acked: Vec<_> = rows(100..200, 1)
                .into_iter()
                .map(|(sku, level)| (sku, Acked::new(level, level.updated_at.to_utc())))
                .collect();
            self.append(StoreChange::Acked { shop, rows: &acked })
                .await
                .unwrap();
            self.append_stock(shop, &rows(150..350, 2)).await;
            for n in [3, 4] {
                let row = quarantined(n, 1);
                self.append(StoreChange::Quarantined { shop, row: &row })
                    .await
                    .unwrap();
            }
            self.append(StoreChange::Released { shop, sku: &sku(3) })
                .await
                .unwrap();
            // The last ten SKUs have no stock.
            self.append(StoreChange::Activity {
                shop,
                rows: &activity_rows(340..360, 5),
            })
            .await
            .unwrap();
        }
    }

    async fn fail_after_commits(&self, commits: usize) {
        self.store.sqlite().lock().await.connection.fail_after = Some(commits);
    }
}

async fn open(path: &Path, shops: &[ShopIdentity]) -> Result<OpenedStore, StoreError> {
    Store::open(
        &Config {
            path: path.to_owned(),
            url: None,
        },
        shops,
    )
    .await
}

/// Opens the directory and returns its content.
async fn contents_on_disk(path: &Path) -> Result<StoreContents, StoreError> {
    let test_store = TestStore::new(open(path, &shops(["a", "b"])).await?);
    let contents = test_store.contents();
    test_store.store.close().await?;
    Ok(contents)
}

/// Copies the files that a killed process would leave.
fn copy_as_killed(path: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in ["stock.db", "stock.db-wal"] {
        if path.join(file).exists() {
            fs::copy(path.join(file), copy.path().join(file)).unwrap();
        }
    }
    copy
}

fn shops<const N: usize>(names: [&str; N]) -> Vec<ShopIdentity> {
    let identity = |name: &str| ShopIdentity {
        name: name.to_owned(),
        target: "campaign 1".to_owned(),
        warehouses: vec![70, 80],
    };
    names.map(identity).into()
}

fn sku(n: i64) -> Sku {
    Sku::parse(&format!("артикул-{n}")).unwrap()
}

fn level(count: i64, micros: i64) -> Level {
    let updated_at = Timestamp::from_micros(1_780_000_000_000_000 + micros).unwrap();
    Level {
        count: Count::try_from(count).unwrap(),
        updated_at,
    }
}

fn rows(skus: std::ops::Range<i64>, micros: i64) -> Vec<(Sku, Level)> {
    skus.map(|n| (sku(n), level(n * 7 + micros, micros)))
        .collect()
}

fn activity_rows(skus: std::ops::Range<i64>, hour: u64) -> Vec<(Sku, SkuActivity)> {
    let hour = |more: i64| Hour::from_number(hour + more.cast_unsigned()).unwrap();
    let activity = |n: i64| SkuActivity {
        // A SKU without stock was never stated.
        stated: (n < 350).then(|| LastStated {
            hour: hour(n),
            origin: 3,
        }),
        requested: vec![(70, hour(n)), (80, hour(n + 1))],
    };
    skus.map(|n| (sku(n), activity(n))).collect()
}

fn quarantined(n: i64, attempts: u32) -> QuarantineEntry {
    let at = level(0, n).updated_at.to_utc();
    let reason = format!("unknown sku, {attempts}");
    QuarantineEntry {
        sku: sku(n),
        level: level(n, n),
        reason,
        since: at,
        attempts,
        retry_at: at,
    }
}

#[tokio::test]
async fn restart_restores_book_acks_and_quarantine() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    test_store.fill().await;
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    assert!(
        !dir.path().join("stock.db-wal").exists(),
        "a closed store is a single file"
    );
    assert_eq!(contents_on_disk(dir.path()).await.unwrap(), known);

    let test_store = TestStore::open(dir.path()).await;
    test_store.compact().await.unwrap();
    assert_eq!(test_store.store.status().log_bytes, 0);
    test_store.store.close().await.unwrap();
    assert_eq!(contents_on_disk(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn acknowledged_changes_survive_a_kill() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    for n in 0..10 {
        test_store.append_stock(SHOP_A, &rows(n..n + 50, n)).await;
        let copy = copy_as_killed(dir.path());
        assert_eq!(
            contents_on_disk(copy.path()).await.unwrap(),
            test_store.contents()
        );
    }
}

#[tokio::test]
async fn kill_during_compaction_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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
        let start = copy_as_killed(dir.path());
        let test_store = TestStore::open(start.path()).await;
        test_store.fail_after_commits(steps).await;
        let outcome = test_store.compact().await;
        let copy = copy_as_killed(start.path());
        assert_eq!(
            contents_on_disk(copy.path()).await.unwrap(),
            known,
            "killed after step {steps}"
        );
        assert_no_garbage(copy.path()).await;
        if outcome.is_ok() {
            break;
        }
        // The process that was not killed recovers, and can repeat the compaction.
        assert!(test_store.store.is_failed());
        assert!(test_store.store.reopen_and_verify().await.unwrap());
        test_store.compact().await.unwrap();
        test_store.store.close().await.unwrap();
        assert_eq!(
            contents_on_disk(start.path()).await.unwrap(),
            known,
            "recovered after step {steps}"
        );
        steps += 1;
    }
    assert!(steps >= 6, "only {steps} steps were tried");
}

/// Asserts that every record on disk is valid.
async fn assert_no_garbage(path: &Path) {
    let mut conn = connect_directly(path).await;
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

async fn connect_directly(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path.join("stock.db"));
    options.create_if_missing(true).connect().await.unwrap()
}

#[tokio::test]
async fn guarded_change_stays_in_the_log() {
    let dir = TempDir::new().unwrap();
    let test_store = TestStore::open(dir.path()).await;
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
    let copy = copy_as_killed(dir.path());
    assert_eq!(contents_on_disk(copy.path()).await.unwrap().stock.len(), 5);
    drop(guard);
}

#[tokio::test]
async fn changed_target_drops_acks_but_keeps_stock() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    test_store.fill().await;
    let mut known = test_store.contents();
    test_store.store.close().await.unwrap();
    known.quarantine[0].clear();
    for ((shop, _), (_, acked, _)) in &mut known.stock {
        if *shop == 0 {
            *acked = Acked::default();
        }
    }
    let mut keys = shops(["a", "b"]);
    keys[0].target = "campaign 2".to_owned();
    for compacts in [true, false] {
        let test_store = TestStore::new(open(dir.path(), &keys).await.unwrap());
        assert_eq!(test_store.contents(), known);
        let copy = copy_as_killed(dir.path());
        assert_eq!(
            TestStore::new(open(copy.path(), &keys).await.unwrap()).contents(),
            known
        );
        if compacts {
            test_store.compact().await.unwrap();
        }
        test_store.store.close().await.unwrap();
    }
    // The old target does not bring them back, because its stock may have changed meanwhile.
    assert_eq!(contents_on_disk(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn second_process_is_rejected_with_the_first_pid() {
    let dir = TempDir::new().unwrap();
    let test_store = TestStore::open(dir.path()).await;
    let error = open(dir.path(), &[]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id()))
    );
    test_store.store.close().await.unwrap();
    TestStore::open(dir.path()).await;
}

#[tokio::test]
async fn closed_store_rejects_calls() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    test_store.store.close().await.unwrap();
    let rejected = test_store
        .append(StoreChange::Stock {
            shop: SHOP_A,
            rows: &rows(0..1, 1),
        })
        .await;
    assert!(matches!(rejected, Err(StoreError::Closed)));
    assert!(matches!(
        test_store.compact().await,
        Err(StoreError::Closed)
    ));
}

#[tokio::test]
async fn files_are_readable_by_the_owner_only() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/store");
    let mut test_store = TestStore::open(&path).await;
    test_store.fill().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["lock", "stock.db", "stock.db-wal", "stock.db-shm"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    test_store.store.close().await.unwrap();
    fs::set_permissions(path.join("stock.db"), fs::Permissions::from_mode(0o644)).unwrap();
    TestStore::open(&path).await;
    assert_eq!(mode(&path.join("stock.db")), 0o600);
}

#[tokio::test]
async fn unwritable_path_is_in_the_error() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("store"), &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains("file/store"), "{error}");
}

/// Creates and closes a store with many records: one file.
async fn sample_store() -> (TempDir, StoreContents) {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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
    (dir, known)
}

async fn contents_of_file(bytes: &[u8]) -> Result<StoreContents, StoreError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("stock.db"), bytes).unwrap();
    let outcome = contents_on_disk(dir.path()).await;
    if outcome.is_err() {
        assert!(
            dir.path().join("stock.db").exists(),
            "an unreadable file must stay"
        );
    }
    outcome
}

#[tokio::test]
async fn rejects_foreign_broken_and_other_formats() {
    let (dir, _) = sample_store().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();

    let text = contents_of_file(b"Dear diary, today I was mistaken for a database.").await;
    assert!(
        matches!(text, Err(StoreError::ForeignFile { .. })),
        "{text:?}"
    );

    let foreign = TempDir::new().unwrap();
    let mut conn = connect_directly(foreign.path()).await;
    sqlx::raw_sql("CREATE TABLE foreign_table (name)")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let rejected = contents_on_disk(foreign.path()).await;
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
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("stock.db-wal"), "something").unwrap();
    assert!(matches!(
        contents_on_disk(dir.path()).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[tokio::test]
async fn interrupted_creation_starts_again() {
    let dir = TempDir::new().unwrap();
    for file in ["stock.db.new", "stock.db.new-wal"] {
        fs::write(dir.path().join(file), "half").unwrap();
    }
    assert!(contents_on_disk(dir.path()).await.unwrap().stock.is_empty());
    assert!(!dir.path().join("stock.db.new").exists());
}

#[tokio::test]
async fn zeroed_page_is_detected_or_harmless() {
    let (dir, known) = sample_store().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
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
    let (dir, known) = sample_store().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
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
    let (dir, _) = sample_store().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
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
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("stock.db"), &whole).unwrap();
        let mut conn = connect_directly(dir.path()).await;
        sqlx::raw_sql(damage).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let rejected = contents_on_disk(dir.path()).await;
        assert!(
            matches!(rejected, Err(StoreError::Damaged { .. })),
            "{damage}: {rejected:?}"
        );
    }
}

async fn limit_page_count(test_store: &TestStore, pages: u32) {
    let mut guard = test_store.store.sqlite().lock().await;
    let Ok(conn) = guard.connection.conn() else {
        panic!("closed")
    };
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(pragma).execute(conn).await.unwrap();
}

#[tokio::test]
async fn full_disk_rejects_changes_until_space_is_free() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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
        assert_eq!(
            contents_on_disk(copy_as_killed(dir.path()).path())
                .await
                .unwrap(),
            known
        );
    }
    limit_page_count(&test_store, 1_000_000).await;
    test_store.append_stock(SHOP_A, &many).await;
    test_store.compact().await.unwrap();
    assert_eq!(
        contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap(),
        test_store.contents()
    );
}

#[tokio::test]
async fn failed_store_rejects_changes_until_reopened() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    assert!(!test_store.store.reopen_and_verify().await.unwrap());
    test_store.fill().await;
    let known = test_store.contents();
    test_store.fail_after_commits(0).await;
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
    assert_ne!(
        contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap(),
        known
    );
    assert!(test_store.store.reopen_and_verify().await.unwrap());
    assert!(!test_store.store.is_failed());
    assert_eq!(
        contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap(),
        known
    );
    test_store.append_stock(SHOP_B, &rows(0..9, 9)).await;
    assert_eq!(
        contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap(),
        test_store.contents()
    );
}

#[tokio::test]
async fn reopening_detects_new_damage() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    test_store.fill().await;
    test_store.fail_after_commits(0).await;
    test_store
        .append(StoreChange::Released {
            shop: SHOP_A,
            sku: &sku(4),
        })
        .await
        .unwrap_err();
    let mut conn = connect_directly(dir.path()).await;
    sqlx::raw_sql("DELETE FROM change WHERE seq = 2")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
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
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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
        let now = contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap();
        assert_eq!(now, test_store.contents());
        if now != known {
            return;
        }
    }
    panic!("the append was never polled to its end");
}

#[tokio::test]
async fn dropped_compaction_can_be_repeated() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    test_store.fill().await;
    let known = test_store.contents();
    let mut polls = 1;
    while !poll_times(test_store.compact(), polls).await {
        assert_eq!(
            contents_on_disk(copy_as_killed(dir.path()).path())
                .await
                .unwrap(),
            known
        );
        polls += 3;
    }
    test_store.compact().await.unwrap();
    assert_eq!(
        contents_on_disk(copy_as_killed(dir.path()).path())
            .await
            .unwrap(),
        known
    );
    assert_no_garbage(dir.path()).await;
}

#[tokio::test]
async fn futures_of_the_store_are_send() {
    fn assert_send<F: Future + Send>(_: F) {}
    let dir = TempDir::new().unwrap();
    let config = Config {
        path: dir.path().to_owned(),
        url: None,
    };
    assert_send(Store::open(&config, &[]));
    let TestStore {
        store,
        book,
        activity,
        ..
    } = TestStore::open(dir.path()).await;
    assert_send(async {
        let guard = store.append(&[]).await;
        store
            .compact(&book, |_, _| Acked::default(), &activity)
            .await
            .unwrap();
        drop(guard);
    });
    assert_send(store.reopen_and_verify());
    assert_send(store.close());
}

/// Polls a future `polls` times and drops it. Returns true if it completed.
async fn poll_times<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        // The last poll has no waker, so its work continues without the future.
        let mut silent = Context::from_waker(Waker::noop());
        left -= 1;
        match future
            .as_mut()
            .poll(if left == 0 { &mut silent } else { cx })
        {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn file_stays_bounded_under_constant_changes() {
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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
    let dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
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

/// Step of a random sequence.
#[derive(Clone, Debug)]
enum StoreStep {
    AppendStock {
        shop: u16,
        skus: std::ops::Range<i64>,
        micros: i64,
    },
    Acknowledge {
        shop: u16,
        skus: std::ops::Range<i64>,
        void: bool,
    },
    Quarantine {
        shop: u16,
        sku: i64,
        attempts: u32,
    },
    Release {
        shop: u16,
        sku: i64,
    },
    RecordActivity {
        shop: u16,
        skus: std::ops::Range<i64>,
        hour: u64,
    },
    Compact,
    Fail {
        compacting: bool,
        after: usize,
    },
    Reopen {
        kill: bool,
    },
}

fn steps() -> impl Strategy<Value = StoreStep> {
    let skus = || (0i64..30, 1i64..12).prop_map(|(first, n)| first..first + n);
    prop_oneof![
        4 => (0u16..2, skus(), 0i64..9).prop_map(|(shop, skus, micros)| StoreStep::AppendStock { shop, skus, micros }),
        3 => (0u16..2, skus(), any::<bool>()).prop_map(|(shop, skus, void)| StoreStep::Acknowledge { shop, skus, void }),
        2 => (0u16..2, 0i64..6, 0u32..9).prop_map(|(shop, sku, attempts)| StoreStep::Quarantine { shop, sku, attempts }),
        1 => (0u16..2, 0i64..6).prop_map(|(shop, sku)| StoreStep::Release { shop, sku }),
        1 => (0u16..2, skus(), 0u64..99).prop_map(|(shop, skus, hour)| StoreStep::RecordActivity { shop, skus, hour }),
        2 => Just(StoreStep::Compact),
        1 => (any::<bool>(), 0usize..6).prop_map(|(compacting, after)| StoreStep::Fail { compacting, after }),
        2 => any::<bool>().prop_map(|kill| StoreStep::Reopen { kill }),
    ]
}

/// Runs the steps, with the state in memory as the model of the content on disk.
async fn run_steps(steps: Vec<StoreStep>) {
    let mut dir = TempDir::new().unwrap();
    let mut test_store = TestStore::open(dir.path()).await;
    for step in steps {
        match step {
            StoreStep::AppendStock { shop, skus, micros } => {
                test_store
                    .append_stock(ShopId(shop), &rows(skus, micros))
                    .await;
            }
            StoreStep::Acknowledge { shop, skus, void } => {
                let acked = |level: Level| Acked::new(level, level.updated_at.to_utc());
                let rows: Vec<_> = rows(skus, 3)
                    .into_iter()
                    .map(|(sku, level)| (sku, if void { Acked::default() } else { acked(level) }))
                    .collect();
                test_store
                    .append(StoreChange::Acked {
                        shop: ShopId(shop),
                        rows: &rows,
                    })
                    .await
                    .unwrap();
            }
            StoreStep::Quarantine {
                shop,
                sku,
                attempts,
            } => {
                let row = &quarantined(sku, attempts);
                test_store
                    .append(StoreChange::Quarantined {
                        shop: ShopId(shop),
                        row,
                    })
                    .await
                    .unwrap();
            }
            StoreStep::Release { shop, sku: n } => {
                let change = StoreChange::Released {
                    shop: ShopId(shop),
                    sku: &sku(n),
                };
                test_store.append(change).await.unwrap();
            }
            StoreStep::RecordActivity { shop, skus, hour } => {
                // Only for SKUs with stock: an unknown SKU has no statement.
                let known =
                    |(sku, _): &(Sku, SkuActivity)| test_store.book.get(ShopId(shop), sku.as_str());
                let rows: Vec<_> = activity_rows(skus, hour)
                    .into_iter()
                    .filter(|row| known(row).is_some())
                    .collect();
                test_store
                    .append(StoreChange::Activity {
                        shop: ShopId(shop),
                        rows: &rows,
                    })
                    .await
                    .unwrap();
            }
            StoreStep::Compact => test_store.compact().await.unwrap(),
            StoreStep::Fail { compacting, after } => {
                test_store
                    .fail_after_commits(if compacting { after } else { 0 })
                    .await;
                if compacting {
                    let _outcome = test_store.compact().await;
                } else {
                    let row = &quarantined(7, 7);
                    let change = StoreChange::Quarantined { shop: SHOP_A, row };
                    test_store.append(change).await.unwrap_err();
                }
                test_store.fail_after_commits(usize::MAX).await;
                test_store.store.reopen_and_verify().await.unwrap();
            }
            StoreStep::Reopen { kill } => {
                let known = test_store.contents();
                if kill {
                    let copy = copy_as_killed(dir.path());
                    drop(test_store);
                    dir = copy;
                } else {
                    test_store.store.close().await.unwrap();
                    drop(test_store);
                }
                test_store = TestStore::open(dir.path()).await;
                assert_eq!(test_store.contents(), known);
            }
        }
    }
    let copy = copy_as_killed(dir.path());
    assert_eq!(
        contents_on_disk(copy.path()).await.unwrap(),
        test_store.contents()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn random_steps_equal_the_model(steps in prop::collection::vec(steps(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run_steps(steps));
    }
}

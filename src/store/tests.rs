//! A kill is played by copying database and log of an open store, as they are at that moment,
//! to another directory, and opening the copy.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::*;
use crate::stock::{Assertion, Hour, SkuId};

const A: ShopId = ShopId(0);
const B: ShopId = ShopId(1);

/// What is known, in a form that can be compared.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    stock: BTreeMap<(usize, String), (Level, Acked, Mark)>,
    strangers: BTreeMap<(usize, String), Mark>,
    quarantine: Vec<Vec<Quarantined>>,
}

/// A store with the memory that belongs to it.
struct House {
    store: Store,
    book: StockBook,
    acked: Vec<Column<Acked>>,
    quarantine: Vec<BTreeMap<Sku, Quarantined>>,
    marks: Marks,
}

impl House {
    fn new(opened: Opened) -> Self {
        let Opened {
            store,
            book,
            acked,
            quarantine,
            marks,
            ..
        } = opened;
        let by_sku = |rows: Vec<Quarantined>| rows.into_iter().map(|row| (row.sku.clone(), row));
        let quarantine = quarantine
            .into_iter()
            .map(|rows| by_sku(rows).collect())
            .collect();
        Self {
            store,
            book,
            acked,
            quarantine,
            marks,
        }
    }

    async fn open(path: &Path) -> Self {
        Self::new(open(path, &shops(["a", "b"])).await.unwrap())
    }

    /// Store first, then memory.
    async fn append(&mut self, change: Change<'_>) -> Result<(), StoreError> {
        let _receipt = self.store.append(&[change]).await?;
        match change {
            Change::Stock { shop, rows } => {
                for (sku, level) in rows {
                    self.book.apply(shop, sku, *level);
                }
            }
            Change::Acked { shop, rows } => {
                for (sku, acked) in rows {
                    if let Some(entry) = self.book.get(shop, sku.as_str()) {
                        self.acked[shop.index()].set(entry.id(), *acked);
                    }
                }
            }
            Change::Marked { shop, rows } => {
                for (sku, mark) in rows {
                    let id = self.book.get(shop, sku.as_str()).map(|entry| entry.id());
                    self.marks.restore(shop, sku, id, mark);
                }
            }
            Change::Quarantined { shop, row } => {
                self.quarantine[shop.index()].insert(row.sku.clone(), row.clone());
            }
            Change::Released { shop, sku } => {
                self.quarantine[shop.index()].remove(sku);
            }
        }
        Ok(())
    }

    async fn state(&mut self, shop: ShopId, rows: &[(Sku, Level)]) {
        self.append(Change::Stock { shop, rows }).await.unwrap();
    }

    async fn compact(&self) -> Result<(), StoreError> {
        let acked = |shop: ShopId, id: SkuId| self.acked[shop.index()].get(id);
        self.store.compact(&self.book, acked, &self.marks).await
    }

    fn known(&self) -> Known {
        let mut known = Known::default();
        for shop in self.book.shops() {
            // First: those who have stock by now are introduced by it.
            self.marks.strangers(shop, &self.book, |sku, mark| {
                known
                    .strangers
                    .insert((shop.index(), sku.to_string()), mark.clone());
            });
            self.book.for_each(shop, |sku, entry| {
                let acked = self.acked[shop.index()].get(entry.id());
                let mark = self.marks.get(shop, entry.id());
                known.stock.insert(
                    (shop.index(), sku.to_string()),
                    (entry.level(), acked, mark),
                );
            });
            known
                .quarantine
                .push(self.quarantine[shop.index()].values().cloned().collect());
        }
        known
    }

    /// Fills both shops with a bit of everything.
    async fn furnish(&mut self) {
        for shop in [A, B] {
            self.state(shop, &rows(0..300, 1)).await;
            let acked: Vec<_> = rows(100..200, 1)
                .into_iter()
                .map(|(sku, level)| (sku, Acked::new(level, level.updated_at.to_utc())))
                .collect();
            self.append(Change::Acked { shop, rows: &acked })
                .await
                .unwrap();
            self.state(shop, &rows(150..350, 2)).await;
            for n in [3, 4] {
                let row = refused(n, 1);
                self.append(Change::Quarantined { shop, row: &row })
                    .await
                    .unwrap();
            }
            self.append(Change::Released { shop, sku: &sku(3) })
                .await
                .unwrap();
            // Of the last ones there is no stock.
            self.append(Change::Marked {
                shop,
                rows: &marks(340..360, 5),
            })
            .await
            .unwrap();
        }
    }

    async fn trip_after(&self, commits: usize) {
        self.store.desk().await.session.fail_after = Some(commits);
    }
}

async fn open(path: &Path, shops: &[ShopKey]) -> Result<Opened, StoreError> {
    Store::open(
        &Config {
            path: path.to_owned(),
        },
        shops,
    )
    .await
}

/// What somebody finds who opens this directory now.
async fn found(path: &Path) -> Result<Known, StoreError> {
    let house = House::new(open(path, &shops(["a", "b"])).await?);
    let known = house.known();
    house.store.close().await?;
    Ok(known)
}

/// A copy of what a killed process would leave.
fn killed(path: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in ["stock.db", "stock.db-wal"] {
        if path.join(file).exists() {
            fs::copy(path.join(file), copy.path().join(file)).unwrap();
        }
    }
    copy
}

fn shops<const N: usize>(names: [&str; N]) -> Vec<ShopKey> {
    let key = |name: &str| ShopKey {
        name: name.to_owned(),
        target: "campaign 1".to_owned(),
        warehouses: vec![70, 80],
    };
    names.map(key).into()
}

fn sku(n: i64) -> Sku {
    Sku::parse(&format!("артикул-{n}")).unwrap()
}

fn level(count: i64, micros: i64) -> Level {
    let updated_at = Instant::from_micros(1_780_000_000_000_000 + micros).unwrap();
    Level {
        count: Count::try_from(count).unwrap(),
        updated_at,
    }
}

fn rows(skus: std::ops::Range<i64>, micros: i64) -> Vec<(Sku, Level)> {
    skus.map(|n| (sku(n), level(n * 7 + micros, micros)))
        .collect()
}

fn marks(skus: std::ops::Range<i64>, hour: u64) -> Vec<(Sku, Mark)> {
    let hour = |more: i64| Hour::from_number(hour + more.cast_unsigned()).unwrap();
    let mark = |n: i64| Mark {
        // A SKU without stock was never asserted.
        asserted: (n < 350).then(|| Assertion {
            hour: hour(n),
            origin: 3,
        }),
        asked: vec![(70, hour(n)), (80, hour(n + 1))],
    };
    skus.map(|n| (sku(n), mark(n))).collect()
}

fn refused(n: i64, attempts: u32) -> Quarantined {
    let at = level(0, n).updated_at.to_utc();
    let reason = format!("unknown sku, {attempts}");
    Quarantined {
        sku: sku(n),
        level: level(n, n),
        reason,
        since: at,
        attempts,
        retry_at: at,
    }
}

#[tokio::test]
async fn what_was_sent_is_remembered_for_some_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |minute: i64| DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
    let house = House::open(dir.path()).await;
    for (minute, skus) in [(0, 1), (2, 2), (4, 3)] {
        house
            .store
            .note_spent(
                ShopId(1),
                Spent {
                    at: at(minute),
                    skus,
                },
            )
            .await
            .unwrap();
    }
    house.store.close().await.unwrap();
    let opened = open(dir.path(), &shops(["a", "b"])).await.unwrap();
    let kept = [(2, 2), (4, 3)].map(|(minute, skus)| Spent {
        at: at(minute),
        skus,
    });
    assert_eq!(opened.spent, [Vec::new(), kept.to_vec()]);
}

#[tokio::test]
async fn notes_are_kept_by_shop_until_they_are_taken_away() {
    let dir = TempDir::new().unwrap();
    let house = House::open(dir.path()).await;
    for (shop, name, text) in [
        (None, "instance", Some("moscow-1")),
        (Some(A), "hidden:557722", Some("since ten")),
        (Some(A), "hidden:557723", Some("since noon")),
        (Some(B), "hidden:557722", Some("since never")),
        (Some(A), "hidden:557723", None),
    ] {
        house.store.note(shop, name, text).await.unwrap();
    }
    house.store.close().await.unwrap();
    let notes = open(dir.path(), &shops(["a", "b"])).await.unwrap().notes;
    assert_eq!(notes.get(None, "instance"), Some("moscow-1"));
    assert_eq!(notes.get(Some(A), "instance"), None);
    let hidden: Vec<_> = notes.beginning(A, "hidden:").collect();
    assert_eq!(hidden, [("557722", "since ten")]);
}

#[tokio::test]
async fn a_shop_that_is_not_configured_is_named_with_what_was_noted_of_it() {
    let dir = TempDir::new().unwrap();
    let house = House::open(dir.path()).await;
    house
        .store
        .note(Some(B), "hidden:557722", Some("there"))
        .await
        .unwrap();
    house.store.close().await.unwrap();
    let opened = open(dir.path(), &shops(["a", "c"])).await.unwrap();
    let [absent] = opened.absent.as_slice() else {
        panic!("{:?}", opened.absent)
    };
    let note = ("hidden:557722".to_owned(), "there".to_owned());
    assert_eq!((absent.name.as_str(), &absent.notes), ("b", &vec![note]));
}

#[tokio::test]
async fn a_store_of_the_first_format_is_taken_over_whole() {
    let dir = TempDir::new().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store/format-1.db");
    fs::copy(fixture, dir.path().join("stock.db")).unwrap();
    let moscow = [ShopKey {
        name: "moscow".to_owned(),
        target: "http://127.0.0.1:18090 campaign 12345".to_owned(),
        warehouses: vec![569_667],
    }];
    for _ in 0..2 {
        let opened = open(dir.path(), &moscow).await.unwrap();
        for (sku, count, at) in [
            ("557722", 15, "2026-11-20T07:00:00Z"),
            ("0557722", 0, "2026-11-20T07:00:01Z"),
            ("кв-адрат", 7, "2026-11-21T07:00:00Z"),
        ] {
            let entry = opened.book.get(A, sku).unwrap();
            let level = entry.level();
            assert_eq!(
                (level.count.get(), level.updated_at.to_string().as_str()),
                (count, at)
            );
            assert_eq!(opened.acked[0].get(entry.id()).level(), Some(level));
        }
        opened
            .store
            .note(None, "instance", Some("x"))
            .await
            .unwrap();
        opened
            .store
            .compact(&opened.book, |_, id| opened.acked[0].get(id), &opened.marks)
            .await
            .unwrap();
        opened.store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_gives_back_book_acks_and_quarantine() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    let known = house.known();
    house.store.close().await.unwrap();
    assert!(
        !dir.path().join("stock.db-wal").exists(),
        "a closed store is a single file"
    );
    assert_eq!(found(dir.path()).await.unwrap(), known);

    let house = House::open(dir.path()).await;
    house.compact().await.unwrap();
    assert_eq!(house.store.status().log_bytes, 0);
    house.store.close().await.unwrap();
    assert_eq!(found(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    for n in 0..10 {
        house.state(A, &rows(n..n + 50, n)).await;
        let copy = killed(dir.path());
        assert_eq!(found(copy.path()).await.unwrap(), house.known());
    }
}

#[tokio::test]
async fn a_kill_after_any_step_of_a_compaction_loses_nothing_and_leaves_no_waste() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    house.compact().await.unwrap();
    house.furnish().await;
    house
        .append(Change::Quarantined {
            shop: B,
            row: &refused(9, 3),
        })
        .await
        .unwrap();
    let known = house.known();
    house.store.close().await.unwrap();
    drop(house);
    let mut steps = 0;
    loop {
        let start = killed(dir.path());
        let house = House::open(start.path()).await;
        house.trip_after(steps).await;
        let outcome = house.compact().await;
        let copy = killed(start.path());
        assert_eq!(
            found(copy.path()).await.unwrap(),
            known,
            "killed after step {steps}"
        );
        assert_clean(copy.path()).await;
        if outcome.is_ok() {
            break;
        }
        // The one that was not killed heals, and can do it again.
        assert!(house.store.is_failed());
        assert!(house.store.heal().await.unwrap());
        house.compact().await.unwrap();
        house.store.close().await.unwrap();
        assert_eq!(
            found(start.path()).await.unwrap(),
            known,
            "healed after step {steps}"
        );
        steps += 1;
    }
    assert!(steps >= 6, "only {steps} steps were tried");
}

/// Nothing is on disk that is not valid.
async fn assert_clean(path: &Path) {
    let mut conn = connect(path).await;
    let waste: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM change, state WHERE seq <= snapshot_seq) + \
         (SELECT count(*) FROM snapshot JOIN state WHERE snapshot.generation <> state.generation)",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
    assert_eq!(waste, 0);
}

async fn connect(path: &Path) -> sqlx::SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path.join("stock.db"));
    options.create_if_missing(true).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_loses_nothing_while_appends_go_on() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    let House {
        store,
        book,
        acked,
        marks,
        ..
    } = &house;
    let compaction = async {
        for _ in 0..5 {
            let acked = |shop: ShopId, id: SkuId| acked[shop.index()].get(id);
            store.compact(book, acked, marks).await.unwrap();
        }
    };
    let appends = async {
        for n in 0..40 {
            let rows = rows(n * 10..n * 10 + 40, 10 + n);
            let _receipt = store
                .append(&[Change::Stock {
                    shop: A,
                    rows: &rows,
                }])
                .await
                .unwrap();
            for (sku, level) in &rows {
                book.apply(A, sku, *level);
            }
        }
    };
    tokio::join!(compaction, appends);
    let copy = killed(dir.path());
    assert_eq!(found(copy.path()).await.unwrap(), house.known());
}

#[tokio::test]
async fn a_change_whose_receipt_is_held_stays_in_the_log() {
    let dir = TempDir::new().unwrap();
    let house = House::open(dir.path()).await;
    let rows = rows(0..5, 1);
    let receipt = house
        .store
        .append(&[Change::Stock {
            shop: A,
            rows: &rows,
        }])
        .await
        .unwrap();
    // The book does not have it yet: a snapshot of the book does not hold it.
    house.compact().await.unwrap();
    let copy = killed(dir.path());
    assert_eq!(found(copy.path()).await.unwrap().stock.len(), 5);
    drop(receipt);
}

#[tokio::test]
async fn a_compaction_folds_shops_of_many_records() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.state(A, &rows(0..20_000, 1)).await;
    house.state(B, &rows(0..3, 1)).await;
    house.compact().await.unwrap();
    house.state(A, &rows(0..3, 2)).await;
    let known = house.known();
    house.store.close().await.unwrap();
    let mut conn = connect(dir.path()).await;
    let count = "SELECT count(*) FROM snapshot";
    assert!(
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(&mut conn)
            .await
            .unwrap()
            > 2
    );
    conn.close().await.unwrap();
    assert_eq!(found(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn an_absent_shop_comes_back_with_all_it_had() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    house.compact().await.unwrap();
    house.furnish().await;
    let known = house.known();
    house.store.close().await.unwrap();
    for expected in [0, 10] {
        // B is gone, C is new, and A has moved to another place in the list.
        let opened = open(dir.path(), &shops(["c", "a"])).await.unwrap();
        let mut other = House::new(opened);
        assert_eq!((other.book.len(A), other.book.len(B)), (expected, 350));
        other.state(A, &rows(0..10, 1)).await;
        other.compact().await.unwrap();
        other.store.close().await.unwrap();
    }
    assert_eq!(found(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn a_changed_target_forgets_what_was_acknowledged_and_no_stock() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    let mut known = house.known();
    house.store.close().await.unwrap();
    known.quarantine[0].clear();
    for ((shop, _), (_, acked, _)) in &mut known.stock {
        if *shop == 0 {
            *acked = Acked::default();
        }
    }
    let mut keys = shops(["a", "b"]);
    keys[0].target = "campaign 2".to_owned();
    for compacts in [true, false] {
        let house = House::new(open(dir.path(), &keys).await.unwrap());
        assert_eq!(house.known(), known);
        let copy = killed(dir.path());
        assert_eq!(
            House::new(open(copy.path(), &keys).await.unwrap()).known(),
            known
        );
        if compacts {
            house.compact().await.unwrap();
        }
        house.store.close().await.unwrap();
    }
    // Going back does not bring them back: meanwhile the first target may have changed too.
    assert_eq!(found(dir.path()).await.unwrap(), known);
}

#[tokio::test]
async fn a_second_opener_is_refused_and_told_who_was_first() {
    let dir = TempDir::new().unwrap();
    let house = House::open(dir.path()).await;
    let error = open(dir.path(), &[]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == std::process::id())
    );
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id()))
    );
    house.store.close().await.unwrap();
    House::open(dir.path()).await;
}

#[tokio::test]
async fn after_closing_nothing_is_taken() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.store.close().await.unwrap();
    let refused = house
        .append(Change::Stock {
            shop: A,
            rows: &rows(0..1, 1),
        })
        .await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    assert!(matches!(house.compact().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("deep/store");
    let mut house = House::open(&path).await;
    house.furnish().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for file in ["lock", "stock.db", "stock.db-wal", "stock.db-shm"] {
        assert_eq!(mode(&path.join(file)), 0o600, "{file}");
    }
    house.store.close().await.unwrap();
    fs::set_permissions(path.join("stock.db"), fs::Permissions::from_mode(0o644)).unwrap();
    House::open(&path).await;
    assert_eq!(mode(&path.join("stock.db")), 0o600);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&file.join("store"), &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error:?}");
    assert!(error.to_string().contains("file/store"), "{error}");
}

/// A store of some size, closed: one file.
async fn sample() -> (TempDir, Known) {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    house.compact().await.unwrap();
    house.state(A, &rows(0..250, 5)).await;
    house
        .append(Change::Quarantined {
            shop: A,
            row: &refused(5, 1),
        })
        .await
        .unwrap();
    let known = house.known();
    house.store.close().await.unwrap();
    (dir, known)
}

async fn found_instead(bytes: &[u8]) -> Result<Known, StoreError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("stock.db"), bytes).unwrap();
    let outcome = found(dir.path()).await;
    if outcome.is_err() {
        assert!(
            dir.path().join("stock.db").exists(),
            "what cannot be read must stay"
        );
    }
    outcome
}

#[tokio::test]
async fn foreign_newer_and_broken_files_are_refused_by_name() {
    let (dir, _) = sample().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();

    let text = found_instead(b"Dear diary, today I was mistaken for a database.").await;
    assert!(matches!(text, Err(StoreError::NotOurs { .. })), "{text:?}");

    let foreign = TempDir::new().unwrap();
    let mut conn = connect(foreign.path()).await;
    sqlx::raw_sql("CREATE TABLE guest (name)")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let refused = found(foreign.path()).await;
    assert!(
        matches!(refused, Err(StoreError::NotOurs { .. })),
        "{refused:?}"
    );

    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&3u32.to_be_bytes());
    let refused = found_instead(&newer).await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Newer {
                found: 3,
                known: 2,
                ..
            })
        ),
        "{refused:?}"
    );

    for length in [0, 20, 100, 4096, whole.len() / 2, whole.len() - 4096] {
        let refused = found_instead(&whole[..length]).await;
        assert!(
            matches!(refused, Err(StoreError::Damaged { .. })),
            "{length}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_log_without_its_database_is_not_taken_for_a_fresh_start() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("stock.db-wal"), "something").unwrap();
    assert!(matches!(
        found(dir.path()).await,
        Err(StoreError::Damaged { .. })
    ));
}

#[tokio::test]
async fn a_creation_that_was_cut_off_starts_over() {
    let dir = TempDir::new().unwrap();
    for file in ["stock.db.new", "stock.db.new-wal"] {
        fs::write(dir.path().join(file), "half").unwrap();
    }
    assert!(found(dir.path()).await.unwrap().stock.is_empty());
    assert!(!dir.path().join("stock.db.new").exists());
}

#[tokio::test]
async fn a_zeroed_page_is_found_out_or_was_waste() {
    let (dir, known) = sample().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
    let mut detected = 0;
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        match found_instead(&bytes).await {
            Ok(same) => assert_eq!(same, known, "page {page}"),
            Err(_) => detected += 1,
        }
    }
    assert!(detected >= 5, "only {detected} pages mattered");
}

#[tokio::test]
async fn a_flipped_bit_is_found_out_or_harmless() {
    let (dir, known) = sample().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
    let mut random = 0x5eed_u64;
    let mut detected = 0;
    for n in 0..400 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let high = usize::try_from(random >> 33).unwrap();
        // Half of them where structure is: in the first page, and at the pages' beginnings.
        let at = match n % 4 {
            0 => high % 4096,
            1 => high % (whole.len() / 4096) * 4096 + high % 64,
            _ => high % whole.len(),
        };
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (random >> 29 & 7);
        match found_instead(&bytes).await {
            Ok(same) => assert_eq!(same, known, "byte {at}"),
            Err(_) => detected += 1,
        }
    }
    assert!(detected > 50, "only {detected} flips were noticed");
}

#[tokio::test]
async fn missing_rows_are_found_out() {
    let (dir, _) = sample().await;
    let whole = fs::read(dir.path().join("stock.db")).unwrap();
    let thefts = [
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
        "CREATE TRIGGER guest AFTER INSERT ON change BEGIN DELETE FROM change; END",
    ];
    for theft in thefts {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("stock.db"), &whole).unwrap();
        let mut conn = connect(dir.path()).await;
        sqlx::raw_sql(theft).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        let refused = found(dir.path()).await;
        assert!(
            matches!(refused, Err(StoreError::Damaged { .. })),
            "{theft}: {refused:?}"
        );
    }
}

async fn limit_pages(house: &House, pages: u32) {
    let mut desk = house.store.desk().await;
    let Ok(conn) = desk.session.conn() else {
        panic!("closed")
    };
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::raw_sql(pragma).execute(conn).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_changes_whole_and_passes_by_itself() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    limit_pages(&house, 1).await;
    let known = house.known();
    let many = rows(0..3000, 9);
    for _ in 0..3 {
        let refused = house
            .append(Change::Stock {
                shop: A,
                rows: &many,
            })
            .await;
        assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
        let refused = house.compact().await;
        assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
        assert!(!house.store.is_failed());
        assert_eq!(found(killed(dir.path()).path()).await.unwrap(), known);
    }
    limit_pages(&house, 1_000_000).await;
    house.state(A, &many).await;
    house.compact().await.unwrap();
    assert_eq!(
        found(killed(dir.path()).path()).await.unwrap(),
        house.known()
    );
}

#[tokio::test]
async fn a_failed_store_refuses_until_healed_and_takes_back_what_it_did_not_acknowledge() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    assert!(!house.store.heal().await.unwrap());
    house.furnish().await;
    let known = house.known();
    house.trip_after(0).await;
    let row = refused(8, 8);
    for _ in 0..2 {
        let refused = house
            .append(Change::Quarantined { shop: A, row: &row })
            .await;
        assert!(
            matches!(refused, Err(StoreError::Failed { .. })),
            "{refused:?}"
        );
    }
    assert!(house.store.is_failed());
    assert!(house.store.status().failed.is_some());
    // The disk has it, nobody was told: whoever starts now finds either.
    assert_ne!(found(killed(dir.path()).path()).await.unwrap(), known);
    assert!(house.store.heal().await.unwrap());
    assert!(!house.store.is_failed());
    assert_eq!(found(killed(dir.path()).path()).await.unwrap(), known);
    house.state(B, &rows(0..9, 9)).await;
    assert_eq!(
        found(killed(dir.path()).path()).await.unwrap(),
        house.known()
    );
}

#[tokio::test]
async fn healing_does_not_believe_a_file_that_was_damaged_meanwhile() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    house.trip_after(0).await;
    house
        .append(Change::Released {
            shop: A,
            sku: &sku(4),
        })
        .await
        .unwrap_err();
    let mut conn = connect(dir.path()).await;
    sqlx::raw_sql("DELETE FROM change WHERE seq = 2")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    for _ in 0..2 {
        let outcome = house.store.heal().await;
        assert!(
            matches!(outcome, Err(StoreError::Damaged { .. })),
            "{outcome:?}"
        );
        assert!(house.store.is_failed());
    }
}

#[tokio::test]
async fn a_dropped_append_happens_not_at_all_and_the_store_stays_usable() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    let many = rows(0..300, 9);
    for polls in 1..40 {
        let known = house.known();
        let changes = [Change::Stock {
            shop: A,
            rows: &many,
        }];
        if poll_some(house.store.append(&changes), polls).await {
            house.state(A, &many).await;
        }
        // The next one first clears away what the dropped one may have left.
        house
            .append(Change::Released {
                shop: A,
                sku: &sku(0),
            })
            .await
            .unwrap();
        let now = found(killed(dir.path()).path()).await.unwrap();
        assert_eq!(now, house.known());
        if now != known {
            return;
        }
    }
    panic!("the append was never let finish");
}

#[tokio::test]
async fn a_dropped_compaction_loses_nothing_and_can_be_done_again() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    let known = house.known();
    let mut polls = 1;
    while !poll_some(house.compact(), polls).await {
        assert_eq!(found(killed(dir.path()).path()).await.unwrap(), known);
        polls += 3;
    }
    house.compact().await.unwrap();
    assert_eq!(found(killed(dir.path()).path()).await.unwrap(), known);
    assert_clean(dir.path()).await;
}

#[tokio::test]
async fn what_the_store_promises_may_move_between_threads() {
    fn movable<F: Future + Send>(_: F) {}
    let dir = TempDir::new().unwrap();
    let config = Config {
        path: dir.path().to_owned(),
    };
    movable(Store::open(&config, &[]));
    let House {
        store, book, marks, ..
    } = House::open(dir.path()).await;
    movable(async {
        let receipt = store.append(&[]).await;
        store
            .compact(&book, |_, _| Acked::default(), &marks)
            .await
            .unwrap();
        drop(receipt);
    });
    movable(store.heal());
    movable(store.close());
}

/// Polls a future so often, and drops it. Returns whether it was done by then.
async fn poll_some<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        // The last poll wakes nobody: what it started goes on alone.
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
async fn the_file_stays_bounded_while_the_same_stock_changes_for_ever() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    let mut sizes = Vec::new();
    for round in 0..12 {
        for n in 0..4 {
            house.state(A, &rows(0..5000, round * 10 + n)).await;
        }
        house.compact().await.unwrap();
        sizes.push(house.store.status().disk_bytes);
    }
    let live = house.store.status().snapshot_bytes;
    let bound = 3 * live + 64 * 1024 * 1024;
    assert!(sizes.iter().all(|size| *size < bound));
    // The space of the first rounds is used again by the later ones.
    assert!(sizes[11] < sizes[5] + sizes[5] / 10, "{sizes:?}");
}

#[tokio::test]
async fn a_log_larger_than_the_snapshot_and_the_threshold_wants_compaction() {
    let dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    house.furnish().await;
    assert!(!house.store.wants_compaction());
    house.store.desk().await.session.logged(COMPACTION_BYTES);
    assert!(house.store.wants_compaction());
    house.compact().await.unwrap();
    assert!(!house.store.wants_compaction());
}

#[test]
fn an_acknowledgement_takes_sixteen_bytes_and_cuts_its_time_to_seconds() {
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

/// A step of a random life.
#[derive(Clone, Debug)]
enum Step {
    State {
        shop: u16,
        skus: std::ops::Range<i64>,
        micros: i64,
    },
    Acknowledge {
        shop: u16,
        skus: std::ops::Range<i64>,
        void: bool,
    },
    Refuse {
        shop: u16,
        sku: i64,
        attempts: u32,
    },
    Release {
        shop: u16,
        sku: i64,
    },
    Mark {
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

fn steps() -> impl Strategy<Value = Step> {
    let skus = || (0i64..30, 1i64..12).prop_map(|(first, n)| first..first + n);
    prop_oneof![
        4 => (0u16..2, skus(), 0i64..9).prop_map(|(shop, skus, micros)| Step::State { shop, skus, micros }),
        3 => (0u16..2, skus(), any::<bool>()).prop_map(|(shop, skus, void)| Step::Acknowledge { shop, skus, void }),
        2 => (0u16..2, 0i64..6, 0u32..9).prop_map(|(shop, sku, attempts)| Step::Refuse { shop, sku, attempts }),
        1 => (0u16..2, 0i64..6).prop_map(|(shop, sku)| Step::Release { shop, sku }),
        1 => (0u16..2, skus(), 0u64..99).prop_map(|(shop, skus, hour)| Step::Mark { shop, skus, hour }),
        2 => Just(Step::Compact),
        1 => (any::<bool>(), 0usize..6).prop_map(|(compacting, after)| Step::Fail { compacting, after }),
        2 => any::<bool>().prop_map(|kill| Step::Reopen { kill }),
    ]
}

/// Lives through the steps, with the memory as the model of what the disk has to hold.
async fn live(steps: Vec<Step>) {
    let mut dir = TempDir::new().unwrap();
    let mut house = House::open(dir.path()).await;
    for step in steps {
        match step {
            Step::State { shop, skus, micros } => {
                house.state(ShopId(shop), &rows(skus, micros)).await;
            }
            Step::Acknowledge { shop, skus, void } => {
                let acked = |level: Level| Acked::new(level, level.updated_at.to_utc());
                let rows: Vec<_> = rows(skus, 3)
                    .into_iter()
                    .map(|(sku, level)| (sku, if void { Acked::default() } else { acked(level) }))
                    .collect();
                house
                    .append(Change::Acked {
                        shop: ShopId(shop),
                        rows: &rows,
                    })
                    .await
                    .unwrap();
            }
            Step::Refuse {
                shop,
                sku,
                attempts,
            } => {
                let row = &refused(sku, attempts);
                house
                    .append(Change::Quarantined {
                        shop: ShopId(shop),
                        row,
                    })
                    .await
                    .unwrap();
            }
            Step::Release { shop, sku: n } => {
                let change = Change::Released {
                    shop: ShopId(shop),
                    sku: &sku(n),
                };
                house.append(change).await.unwrap();
            }
            Step::Mark { shop, skus, hour } => {
                // Only of SKUs with stock: who is without is a stranger, and has no assertion.
                let known = |(sku, _): &(Sku, Mark)| house.book.get(ShopId(shop), sku.as_str());
                let rows: Vec<_> = marks(skus, hour)
                    .into_iter()
                    .filter(|row| known(row).is_some())
                    .collect();
                house
                    .append(Change::Marked {
                        shop: ShopId(shop),
                        rows: &rows,
                    })
                    .await
                    .unwrap();
            }
            Step::Compact => house.compact().await.unwrap(),
            Step::Fail { compacting, after } => {
                house.trip_after(if compacting { after } else { 0 }).await;
                if compacting {
                    let _outcome = house.compact().await;
                } else {
                    let row = &refused(7, 7);
                    let change = Change::Quarantined { shop: A, row };
                    house.append(change).await.unwrap_err();
                }
                house.trip_after(usize::MAX).await;
                house.store.heal().await.unwrap();
            }
            Step::Reopen { kill } => {
                let known = house.known();
                if kill {
                    let copy = killed(dir.path());
                    drop(house);
                    dir = copy;
                } else {
                    house.store.close().await.unwrap();
                    drop(house);
                }
                house = House::open(dir.path()).await;
                assert_eq!(house.known(), known);
            }
        }
    }
    let copy = killed(dir.path());
    assert_eq!(found(copy.path()).await.unwrap(), house.known());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_life_equals_the_model(steps in prop::collection::vec(steps(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(steps));
    }
}

//! The checks, each on an empty store.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use chrono::DateTime;
use stockbridge::store::{Acked, RecentSend, StoreChange, StoreError};

pub(crate) use super::random_steps::random_steps_equal_the_model;
use super::samples::{rows, shops, sku};
use super::test_store::{SHOP_A, SHOP_B, Subject};

pub(crate) async fn restart_restores_everything(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.fill().await;
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
    let test_store = subject.open().await;
    assert!(test_store.store.status().log_bytes > 0);
    test_store.compact().await.unwrap();
    assert_eq!(test_store.store.status().log_bytes, 0);
    assert!(test_store.store.status().snapshot_bytes > 0);
    test_store.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
}

pub(crate) async fn dropped_append_is_all_or_nothing(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.fill().await;
    let (many, few) = (rows(0..300, 9), rows(0..3, 8));
    let is_in = |known: &super::test_store::StoredState| {
        let level = |sku: &stock::Sku| known.stock[&(0, sku.to_string())].0;
        let applied = many.iter().filter(|(sku, new)| level(sku) == *new);
        applied.count()
    };
    for polls in 1..200 {
        let changes = [
            StoreChange::Stock {
                shop: SHOP_A,
                rows: &many,
            },
            StoreChange::Stock {
                shop: SHOP_B,
                rows: &few,
            },
        ];
        let is_complete = poll_times(test_store.store.append(&changes), polls).await;
        if is_complete {
            for change in changes {
                test_store.append(change).await.unwrap();
            }
        }
        // The next append first finds out what the dropped one has left.
        let change = StoreChange::Released {
            shop: SHOP_A,
            sku: &sku(0),
        };
        test_store.append(change).await.unwrap();
        let change = StoreChange::Released {
            shop: SHOP_B,
            sku: &sku(0),
        };
        test_store.append(change).await.unwrap();
        let applied = is_in(&test_store.contents());
        assert!(
            applied == 0 || applied == 300,
            "{applied} after {polls} polls"
        );
        if applied == 300 {
            let known = test_store.contents();
            test_store.store.close().await.unwrap();
            assert_eq!(subject.contents().await, known);
            return;
        }
    }
    panic!("the append was never polled to its end");
}

pub(crate) async fn compaction_with_appends_loses_nothing(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.fill().await;
    let compaction = async {
        for _ in 0..5 {
            test_store.compact().await.unwrap();
        }
    };
    let appends = async {
        for n in 0..40 {
            test_store
                .append_stock(SHOP_A, &rows(n * 10..n * 10 + 40, 10 + n))
                .await;
        }
    };
    tokio::join!(compaction, appends);
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
}

pub(crate) async fn compacts_shops_with_many_records(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.append_stock(SHOP_A, &rows(0..60_000, 1)).await;
    test_store.append_stock(SHOP_B, &rows(0..3, 1)).await;
    test_store.compact().await.unwrap();
    test_store.append_stock(SHOP_A, &rows(0..3, 2)).await;
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
}

pub(crate) async fn absent_shop_returns_with_its_content(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.fill().await;
    test_store.compact().await.unwrap();
    test_store.fill().await;
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    for expected in [0, 10] {
        // B is missing, C is new, and A has another index.
        let other = subject.open_with(&shops(["c", "a"])).await;
        let book = &other.memory.book;
        assert_eq!((book.len(SHOP_A), book.len(SHOP_B)), (expected, 350));
        other.append_stock(SHOP_A, &rows(0..10, 1)).await;
        other.compact().await.unwrap();
        other.store.close().await.unwrap();
    }
    assert_eq!(subject.contents().await, known);
}

pub(crate) async fn changed_target_drops_acks_but_keeps_stock(subject: &Subject) {
    let test_store = subject.open().await;
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
        let test_store = subject.open_with(&keys).await;
        assert_eq!(test_store.contents(), known);
        if compacts {
            test_store.compact().await.unwrap();
        }
        test_store.store.close().await.unwrap();
    }
    // The old target does not bring them back, because its stock may have changed meanwhile.
    assert_eq!(subject.contents().await, known);
}

pub(crate) async fn keeps_notes_per_shop_until_deleted(subject: &Subject) {
    let test_store = subject.open().await;
    for (shop, name, text) in [
        (None, "instance", Some("moscow-1")),
        (Some(SHOP_A), "hidden:557722", Some("since ten")),
        (Some(SHOP_A), "hidden:557722", Some("since eleven")),
        (Some(SHOP_A), "hidden:557723", Some("since noon")),
        (Some(SHOP_B), "hidden:557722", Some("since never")),
        (Some(SHOP_A), "hidden:557723", None),
    ] {
        test_store.store.put_note(shop, name, text).await.unwrap();
    }
    test_store.store.close().await.unwrap();
    let notes = subject.try_open(&shops(["a", "b"])).await.unwrap().notes;
    assert_eq!(notes.get(None, "instance"), Some("moscow-1"));
    assert_eq!(notes.get(Some(SHOP_A), "instance"), None);
    let hidden: Vec<_> = notes.with_prefix(SHOP_A, "hidden:").collect();
    assert_eq!(hidden, [("557722", "since eleven")]);
}

pub(crate) async fn reports_absent_shops_with_their_notes(subject: &Subject) {
    let test_store = subject.open().await;
    let note = ("hidden:557722".to_owned(), "there".to_owned());
    test_store
        .store
        .put_note(Some(SHOP_B), &note.0, Some(&note.1))
        .await
        .unwrap();
    test_store.store.close().await.unwrap();
    let opened = subject.try_open(&shops(["a", "c"])).await.unwrap();
    let [absent] = opened.absent_shops.as_slice() else {
        panic!("{:?}", opened.absent_shops)
    };
    assert_eq!((absent.name.as_str(), &absent.notes), ("b", &vec![note]));
}

pub(crate) async fn keeps_recent_sends_for_minutes(subject: &Subject) {
    let at = |minute: i64| DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
    let send = |(minute, skus)| RecentSend {
        at: at(minute),
        skus,
    };
    let test_store = subject.open().await;
    for sent in [(0, 1), (2, 2), (4, 3)] {
        test_store
            .store
            .record_send(SHOP_B, send(sent))
            .await
            .unwrap();
    }
    test_store.store.close().await.unwrap();
    let opened = subject.try_open(&shops(["a", "b"])).await.unwrap();
    let kept = [(2, 2), (4, 3)].map(send);
    assert_eq!(opened.recent_sends, [Vec::new(), kept.to_vec()]);
}

pub(crate) async fn altered_and_missing_records_are_detected(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.fill().await;
    test_store.compact().await.unwrap();
    test_store.fill().await;
    test_store
        .store
        .put_note(Some(SHOP_A), "hidden:1", Some("since ten"))
        .await
        .unwrap();
    let send = RecentSend {
        at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        skus: 7,
    };
    test_store.store.record_send(SHOP_B, send).await.unwrap();
    let known = test_store.contents();
    test_store.store.close().await.unwrap();
    for (table, damage, repair) in [
        ("change", "rows = rows + 1", "rows = rows - 1"),
        ("change", "shop = shop + 100", "shop = shop - 100"),
        ("snapshot", "rows = rows + 1", "rows = rows - 1"),
        ("snapshot", "shop = shop + 100", "shop = shop - 100"),
        ("note", "text = text || 'x'", "text = 'since ten'"),
        ("spent", "skus = skus + 1", "skus = skus - 1"),
        ("shop", "target = target || 'x'", "target = 'campaign 1'"),
    ] {
        assert_damaged(subject, &format!("UPDATE {table} SET {damage}")).await;
        let repair = format!("UPDATE {table} SET {repair}");
        subject.execute(&repair).await;
    }
    assert_eq!(subject.contents().await, known);
    let altered = subject.altered_body();
    assert_damaged(subject, &format!("UPDATE change SET body = {altered}")).await;
    assert_damaged(subject, "DELETE FROM change").await;
}

async fn assert_damaged(subject: &Subject, sql: &str) {
    subject.execute(sql).await;
    let outcome = subject.try_open(&shops(["a", "b"])).await;
    assert!(
        matches!(
            outcome,
            Err(StoreError::Damaged { .. } | StoreError::DamagedDatabase { .. })
        ),
        "{sql}: {:?}",
        outcome.map(|opened| opened.store)
    );
}

pub(crate) async fn closed_store_rejects_calls(subject: &Subject) {
    let test_store = subject.open().await;
    test_store.store.close().await.unwrap();
    let (some, label) = (rows(0..1, 1), "closed");
    let change = StoreChange::Stock {
        shop: SHOP_A,
        rows: &some,
    };
    let append = test_store.store.append(&[change]).await.map(drop);
    let note = test_store.store.put_note(None, label, Some(label)).await;
    let test = test_store.store.test_write().await;
    let compaction = test_store.compact().await;
    for outcome in [append, note, test, compaction] {
        assert!(matches!(outcome, Err(StoreError::Closed)), "{outcome:?}");
    }
}

/// Polls a future `polls` times and drops it. Returns true if it completed.
pub(crate) async fn poll_times<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx: &mut Context<'_>| {
        // The last poll has no waker, so its work continues without the future.
        let mut silent = Context::from_waker(Waker::noop());
        left -= 1;
        let waker = if left == 0 { &mut silent } else { cx };
        match future.as_mut().poll(waker) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

//! Random steps, with the state in memory as the model of the store's content.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stock::{Level, ShopId};
use stockbridge::store::{Acked, StoreChange};

use super::samples::{activity_rows, quarantined, rows, sku};
use super::test_store::{Subject, SuiteStore};

/// Steps of the run, which opens the store some forty times.
const STEPS: usize = 300;

pub(crate) async fn random_steps_equal_the_model(subject: &Subject) {
    let rng = StdRng::seed_from_u64(20_261_120);
    let last = run_random_steps(subject.open().await, rng, async |test_store, _| {
        test_store.store.close().await.unwrap();
        subject.open().await
    })
    .await;
    let known = last.contents();
    last.store.close().await.unwrap();
    assert_eq!(subject.contents().await, known);
}

/// Runs random steps. After each call of `reopen`, the store must have the content as before.
pub(crate) async fn run_random_steps(
    mut test_store: SuiteStore,
    mut rng: StdRng,
    mut reopen: impl AsyncFnMut(SuiteStore, &mut StdRng) -> SuiteStore,
) -> SuiteStore {
    for step in 0..STEPS {
        let shop = ShopId(rng.random_range(0..2));
        let first = rng.random_range(0..30);
        let skus = first..first + rng.random_range(1..12);
        match rng.random_range(0..14) {
            0..4 => {
                let rows = rows(skus, rng.random_range(0..9));
                test_store.append_stock(shop, &rows).await;
            }
            4..7 => {
                let is_void = rng.random_bool(0.5);
                acknowledge(&test_store, shop, skus, is_void).await;
            }
            7..9 => {
                let row = &quarantined(first % 6, rng.random_range(0..9));
                let change = StoreChange::Quarantined { shop, row };
                test_store.append(change).await.unwrap();
            }
            9 => {
                let sku = &sku(first % 6);
                let change = StoreChange::Released { shop, sku };
                test_store.append(change).await.unwrap();
            }
            10 => {
                // Only for SKUs with stock: an unknown SKU has no statement.
                let hour = rng.random_range(0..99);
                let mut rows = activity_rows(skus, hour);
                let book = &test_store.memory.book;
                rows.retain(|(sku, _)| book.get(shop, sku.as_str()).is_some());
                let change = StoreChange::Activity { shop, rows: &rows };
                test_store.append(change).await.unwrap();
            }
            11 | 12 => test_store.compact().await.unwrap(),
            _ => {
                let known = test_store.contents();
                test_store = reopen(test_store, &mut rng).await;
                assert_eq!(test_store.contents(), known, "reopened after step {step}");
            }
        }
    }
    test_store
}

async fn acknowledge(
    test_store: &SuiteStore,
    shop: ShopId,
    skus: std::ops::Range<i64>,
    is_void: bool,
) {
    let acked = |level: Level| {
        if is_void {
            Acked::default()
        } else {
            Acked::new(level, level.updated_at.to_utc())
        }
    };
    let rows: Vec<_> = rows(skus, 3)
        .into_iter()
        .map(|(sku, level)| (sku, acked(level)))
        .collect();
    let change = StoreChange::Acked { shop, rows: &rows };
    test_store.append(change).await.unwrap();
}

//! A process that is far from the database writes to a shop that another one changes without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifecycle::{Clock, CrashSignal, Tasks};
use stock::{Count, StockBook, Update};
use stockbridge::ingest::{self, Ingest, Metrics, Origin};
use stockbridge::store::{Acked, Store, StoreChange, apply_followed};
use stockbridge::telemetry::Alarms;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::network_link::NetworkLink;
use super::postgres_store::{database_subject, new_database};
use super::server::DatabaseServer;
use super::service_process::wait_until;
use super::store_suite::samples::{rows, shops};
use super::store_suite::test_store::{SHOP_A, SuiteStore};

/// Delay of every response to the far process, in which the near one makes several appends.
const LATENCY: Duration = Duration::from_millis(20);

/// Limit of one call of the far process, which takes about 30 responses.
const LIMIT: Duration = Duration::from_secs(20);

/// Process that appends to a shop without a pause.
struct NearWriter {
    appends: Arc<AtomicU64>,
    is_stopped: Arc<AtomicBool>,
    task: JoinHandle<SuiteStore>,
}

impl NearWriter {
    fn start(process: SuiteStore) -> Self {
        let (appends, is_stopped) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, stop) = (Arc::clone(&appends), Arc::clone(&is_stopped));
        let task = tokio::spawn(async move {
            for micros in 1_000.. {
                process.append_stock(SHOP_A, &rows(0..3, micros)).await;
                counter.fetch_add(1, Ordering::AcqRel);
                if stop.load(Ordering::Acquire) {
                    break;
                }
            }
            process
        });
        Self {
            appends,
            is_stopped,
            task,
        }
    }

    fn appends(&self) -> u64 {
        self.appends.load(Ordering::Acquire)
    }

    async fn stop(self) -> SuiteStore {
        self.is_stopped.store(true, Ordering::Release);
        self.task.await.unwrap()
    }
}

/// Returns the store of a process far away, its book and its worker.
async fn open_far(url: &str, tasks: &Tasks) -> (Arc<Store>, Arc<StockBook>, Ingest) {
    let subject = database_subject(url.to_owned());
    let opened = subject.try_open(&shops(["a", "b"])).await.unwrap();
    let (store, book) = (Arc::new(opened.store), Arc::new(opened.book));
    let (followed, read, activity) = (Arc::clone(&book), Arc::clone(&book), opened.activity);
    store.follow_with(
        Box::new(move |shop, rows| {
            let _effect = apply_followed(&followed, &activity, shop, rows);
        }),
        Box::new(move |shop| read.levels(shop)),
    );
    let (ingest, worker) = ingest::create(
        Arc::clone(&book),
        Arc::clone(&store),
        Clock::wall(),
        Alarms::new(Clock::wall()),
        Metrics::default(),
        Box::new(|_| {}),
    );
    tasks.spawn("ingest", worker.run(tasks.clone()));
    (store, book, ingest)
}

#[tokio::test(flavor = "multi_thread")]
async fn far_process_writes_beside_a_busy_one() {
    let server = DatabaseServer::postgresql();
    let target = server.address();
    let url = new_database(&server, "busy").await;
    let near = database_subject(url.clone()).open().await;
    near.append_stock(SHOP_A, &rows(0..20, 1)).await;
    let link = NetworkLink::start(target, LATENCY).await;
    let tasks = Tasks::new(CrashSignal::default());
    let (store, book, ingest) = open_far(&link.url(target, &url), &tasks).await;
    let near = NearWriter::start(near);
    wait_until("the near process writes", async || near.appends() > 10).await;
    let skus: Vec<_> = rows(10..20, 0).into_iter().map(|(sku, _)| sku).collect();
    let before = near.appends();
    for (count, sku) in (100..).zip(&skus) {
        let update = Update {
            sku: sku.clone(),
            count: Count::try_from(count).unwrap(),
            updated_at: None,
        };
        let accepting = ingest.accept(Origin::CampaignPut, SHOP_A, vec![update]);
        let accepted = timeout(LIMIT, accepting).await.expect("it gets its turn");
        assert_eq!(accepted.unwrap().replaced, 1);
    }
    assert!(near.appends() > before, "the near process writes meanwhile");
    // What does not depend on the book gets its turn too.
    for sku in &skus {
        let level = book.get(SHOP_A, sku.as_str()).unwrap().level();
        let acked = [(sku.clone(), Acked::new(level, level.updated_at.to_utc()))];
        let change = StoreChange::Acked {
            shop: SHOP_A,
            rows: &acked,
        };
        let changes = [change];
        let appended = timeout(LIMIT, store.append(&changes)).await;
        drop(appended.expect("it gets its turn").unwrap());
    }
    let near = near.stop().await;
    near.store.catch_up().await.unwrap();
    store.catch_up().await.unwrap();
    for (count, sku) in (100..).zip(&skus) {
        let entry = near.memory.book.get(SHOP_A, sku.as_str()).unwrap();
        assert_eq!(entry.level().count.get(), count);
    }
    let fresh = database_subject(url).open().await;
    assert_eq!(fresh.contents(), near.contents());
    for book in [&near.memory.book, &*book] {
        let mut levels = [fresh.memory.book.levels(SHOP_A), book.levels(SHOP_A)];
        for levels in &mut levels {
            levels.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        }
        assert_eq!(levels[0], levels[1]);
    }
    tasks.stop();
}

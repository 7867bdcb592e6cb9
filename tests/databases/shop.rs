//! A shop whose one source is a query.

use std::collections::BTreeMap;
use std::sync::Arc;

use stockbridge::clock::Clock;
use stockbridge::ingest::{self, Asserted, Origin};
use stockbridge::lifecycle::{Fuse, Tasks};
use stockbridge::sources::guard::Limits;
use stockbridge::sources::rules::{ShopRules, SourceRules};
use stockbridge::sources::{
    Absent, Completeness, Context, Duplicates, Intake, Outcome, Reading, Receipt, Rows, Scope,
    Taking, Variants, Warehouses, sql,
};
use stockbridge::stock::{ShopId, StockBook};
use stockbridge::store::{self, ShopKey, Store};
use stockbridge::telemetry::Alarms;
use tempfile::TempDir;

const SHOP: ShopId = ShopId(0);

pub(crate) struct Shop {
    book: Arc<StockBook>,
    intake: Intake,
    _tasks: Tasks,
    _directory: TempDir,
}

impl Shop {
    /// A shop in which what a snapshot lacks is sold out.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
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
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = ingest::open(
            Arc::clone(&book),
            store,
            Clock::wall(),
            alarms.clone(),
            ingest::Metrics::default(),
            Box::new(|_: &Asserted<'_>| {}),
        );
        let tasks = Tasks::new(Fuse::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        let context = Context {
            book: Arc::clone(&book),
            ingest,
            clock: Clock::wall(),
            alarms,
        };
        let taking = Taking {
            name: "database".to_owned(),
            origin: Origin::Sql,
            scope: Some(Scope::Snapshot),
            absent: Absent::Zero,
            warehouses: Warehouses::Unsaid,
            // The tables are small: one row is much of them.
            limits: Limits {
                least_rows: 0.0,
                most_rejected: 1.0,
                most_zeroed: 1.0,
                repeats: None,
            },
            rules: SourceRules::default(),
            mapping: Vec::new(),
            duplicates: Duplicates::Reject,
            reading: String::new(),
            variants: Variants::default(),
        };
        let place = directory.path().join("sources");
        let rules = ShopRules::default();
        let intake = Intake::open(&place, (SHOP, "moscow"), vec![taking], rules, context).await;
        let intake = intake.unwrap();
        intake.reckon().await.unwrap();
        Self {
            book,
            intake,
            _tasks: tasks,
            _directory: directory,
        }
    }

    /// Takes what a query says.
    pub(crate) async fn take(&self, config: &sql::Config, reading: &Reading) -> Receipt {
        let read = async |rows: &mut Rows| {
            let outcome = sql::read(config, reading, None, rows).await;
            outcome
                .map(|it| Completeness::Sure(it.scope))
                .map_err(|error| error.to_string())
        };
        let receipt = self.intake.deliver(0, None, true, read).await.unwrap();
        assert_eq!(receipt.outcome, Outcome::Taken);
        receipt
    }

    /// What is in the book.
    pub(crate) fn stock(&self) -> BTreeMap<String, u32> {
        let mut stock = BTreeMap::new();
        self.book.for_each(SHOP, |sku, entry| {
            stock.insert(sku.to_string(), entry.level().count.get());
        });
        stock
    }
}

//! A shop with one source, which is a query.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectors::{Completeness, EntrySender, sql};
use lifecycle::Clock;
use lifecycle::{CrashSignal, Tasks};
use stock::{ShopId, StockBook};
use stock_import::delivery_guard::GuardLimits;
use stock_import::stock_rules::{ShopRules, SourceRules};
use stock_import::{DeliveryScope, ReadSettings, VariantPolicy};
use stockbridge::ingest::{self, Origin, StatedSkus};
use stockbridge::sources::{
    AbsentPolicy, Context, DeliveryOutcome, DeliveryPipeline, DeliveryReport, DuplicatePolicy,
    SourcePolicy, SourceWarehouses,
};
use stockbridge::store::{self, ShopIdentity, Store};
use stockbridge::telemetry::Alarms;
use tempfile::TempDir;

const SHOP: ShopId = ShopId(0);

pub(crate) struct SqlShop {
    book: Arc<StockBook>,
    pipeline: DeliveryPipeline,
    _tasks: Tasks,
    _directory: TempDir,
}

impl SqlShop {
    /// Creates a shop in which SKUs missing from a snapshot get stock 0.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = ShopIdentity {
            name: "moscow".into(),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let store_config = store::Config {
            path: directory.path().join("store"),
            url: None,
        };
        let opened = Store::open(&store_config, &[key]).await.unwrap();
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = ingest::create(
            Arc::clone(&book),
            store,
            Clock::wall(),
            alarms.clone(),
            ingest::Metrics::default(),
            Box::new(|_: &StatedSkus<'_>| {}),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        let context = Context {
            book: Arc::clone(&book),
            ingest,
            clock: Clock::wall(),
            alarms,
            events: stockbridge::event_log::EventLog::default(),
        };
        let policy = SourcePolicy {
            name: "database".to_owned(),
            origin: Origin::Sql,
            scope: Some(DeliveryScope::Snapshot),
            absent: AbsentPolicy::Zero,
            warehouses: SourceWarehouses::Unset,
            // The tables are small, so one row is a large share of them.
            limits: GuardLimits {
                min_rows_ratio: 0.0,
                max_rejected_ratio: 1.0,
                max_zeroed_ratio: 1.0,
                accept_after_repeats: None,
            },
            rules: SourceRules::default(),
            mapping: Vec::new(),
            duplicates: DuplicatePolicy::Reject,
            read_settings_text: String::new(),
            variants: VariantPolicy::default(),
        };
        let directory_path = directory.path().join("sources");
        let rules = ShopRules::default();
        let pipeline = DeliveryPipeline::open(
            &directory_path,
            (SHOP, "moscow"),
            vec![policy],
            rules,
            context,
        )
        .await;
        let pipeline = pipeline.unwrap();
        pipeline.reapply_rules().await.unwrap();
        Self {
            book,
            pipeline,
            _tasks: tasks,
            _directory: directory,
        }
    }

    /// Imports the rows of a query.
    pub(crate) async fn import(
        &self,
        config: &sql::Config,
        settings: &ReadSettings,
    ) -> DeliveryReport {
        let read_query = async |rows: &mut EntrySender| {
            let outcome = sql::read(config, settings, None, rows).await;
            outcome
                .map(|it| Completeness::Certain(it.scope))
                .map_err(|error| error.to_string())
        };
        let report = self
            .pipeline
            .ingest_delivery(0, None, true, read_query)
            .await
            .unwrap();
        assert_eq!(report.outcome, DeliveryOutcome::Applied);
        report
    }

    /// Returns the stock in the book.
    pub(crate) fn stock(&self) -> BTreeMap<String, u32> {
        let mut stock = BTreeMap::new();
        self.book.for_each(SHOP, |sku, entry| {
            stock.insert(sku.to_string(), entry.level().count.get());
        });
        stock
    }
}

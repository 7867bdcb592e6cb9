//! The modules that take a file: sources, ingest, book and store, with one shop.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use lifecycle::{Clock, CrashSignal, Tasks};
use stock::ShopId;
use stock_import::formats::Format;
use stock_import::stock_rules::{ShopRules, SourceRules};
use stock_import::{DeliveryScope, ReadSettings, delivery_guard};
use stockbridge::event_log::EventLog;
use stockbridge::ingest::{self, Origin};
use stockbridge::sources::{
    self, AbsentPolicy, Config, DeliveryReport, ImportRequest, ShopSources, SourceKind,
    SourceManager, SourcePolicy, SourceWarehouses,
};
use stockbridge::store::{self, ShopIdentity, Store};
use stockbridge::telemetry::Alarms;

const SHOP: ShopId = ShopId(0);

/// A shop with one source, to which files are delivered.
pub(crate) struct ImportService {
    pub(crate) store: Arc<Store>,
    manager: SourceManager,
    tasks: Tasks,
}

impl ImportService {
    pub(crate) async fn open(scratch: &Path) -> anyhow::Result<Self> {
        let key = ShopIdentity {
            name: "shop".into(),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let opened = Store::open(
            &store::Config {
                path: scratch.join("store"),
                url: None,
            },
            &[key],
        )
        .await?;
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let alarms = Alarms::new(Clock::wall());
        let (ingest, worker) = ingest::create(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            alarms.clone(),
            ingest::Metrics::default(),
            Box::new(|_| {}),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        let context = sources::Context {
            book,
            ingest,
            clock: Clock::wall(),
            alarms,
            events: EventLog::default(),
        };
        Ok(Self {
            store,
            manager: open_sources(&scratch.join("sources"), &context).await?,
            tasks,
        })
    }

    /// Imports a CSV file as a complete list through the whole pipeline.
    pub(crate) async fn deliver(&self, path: &Path) -> anyhow::Result<DeliveryReport> {
        let import = ImportRequest {
            shop: SHOP,
            source: 0,
            file: File::open(path)?,
            name: "stock.csv".into(),
            format: Some(Format::Csv),
            scope: None,
            should_apply: true,
        };
        Ok(self.manager.import(import).await?)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.tasks.stop();
        self.tasks.ended().await;
        Ok(self.store.close().await?)
    }
}

async fn open_sources(
    directory: &Path,
    context: &sources::Context,
) -> anyhow::Result<SourceManager> {
    let source = Config {
        policy: SourcePolicy {
            name: "file".into(),
            origin: Origin::File,
            scope: Some(DeliveryScope::Snapshot),
            absent: AbsentPolicy::Zero,
            warehouses: SourceWarehouses::Unset,
            limits: delivery_guard::GuardLimits::default(),
            rules: SourceRules::default(),
            mapping: Vec::new(),
            duplicates: Default::default(),
            read_settings_text: String::new(),
            variants: Default::default(),
        },
        read_settings: ReadSettings::default(),
        read_digest: String::new(),
        poll_interval: std::time::Duration::from_secs(3_600),
        kind: SourceKind::Import,
    };
    let plan = ShopSources {
        shop: SHOP,
        name: "shop".into(),
        sources: vec![source],
        rules: ShopRules::default(),
    };
    let no_skus = Arc::new(|_| Vec::new());
    let outbound = strict_http::ClientConfig::default();
    Ok(SourceManager::open(directory, vec![plan], &outbound, no_skus, context).await?)
}

//! The modules between the listener and the disk, with the stock of ten shops, and the seller's
//! requests.

use std::path::Path;
use std::sync::Arc;

use axum::http::Request;
use lifecycle::{Clock, CrashSignal, Tasks};
use stock::{Activity, ShopId, StockBook, Update};
use stockbridge::auth_failures::AuthFailures;
use stockbridge::ingest::{self, Ingest, Origin};
use stockbridge::partner_api;
use stockbridge::replicas::ServingPermit;
use stockbridge::store::{self, Acked, ShopIdentity, Store};
use stockbridge::telemetry::Alarms;
use strict_http::secret::{Secret, TokenSet};

use crate::goods;
use crate::market::{self, SHOPS};

pub(crate) const UPDATES_PER_REQUEST: u64 = 2000;

const FEED_KEY: &str = "ACMA:bench";

/// Modules between the listener and the disk.
pub(crate) struct StockService {
    pub(crate) book: Arc<StockBook>,
    store: Arc<Store>,
    activity: Activity,
    ingest: Ingest,
}

impl StockService {
    pub(crate) async fn open(path: &Path, skus_per_shop: u64) -> anyhow::Result<Self> {
        let key = |shop| ShopIdentity {
            name: format!("shop-{shop}"),
            target: String::new(),
            warehouses: Vec::new(),
        };
        let keys: Vec<ShopIdentity> = (0..SHOPS).map(key).collect();
        let opened = Store::open(
            &store::Config {
                path: path.join("store"),
                url: None,
            },
            &keys,
        )
        .await?;
        let (book, store) = (Arc::new(opened.book), Arc::new(opened.store));
        let (ingest, worker) = ingest::create(
            Arc::clone(&book),
            Arc::clone(&store),
            Clock::wall(),
            Alarms::new(Clock::wall()),
            ingest::Metrics::default(),
            Box::new(|_| {}),
        );
        let tasks = Tasks::new(CrashSignal::default());
        tasks.spawn("ingest", worker.run(tasks.clone()));
        for shop in 0..SHOPS {
            let first = u64::from(shop) * skus_per_shop;
            for from in (first..first + skus_per_shop).step_by(10_000) {
                let until = (from + 10_000).min(first + skus_per_shop);
                let updates = (from..until).map(update).collect();
                ingest
                    .accept(Origin::CampaignPut, ShopId(shop), updates)
                    .await?;
            }
        }
        let service = Self {
            book,
            store,
            activity: opened.activity,
            ingest,
        };
        service.compact().await?;
        Ok(service)
    }

    pub(crate) fn router(&self) -> axum::Router {
        let context = partner_api::Context {
            ingest: self.ingest.clone(),
            book: Arc::clone(&self.book),
            permit: ServingPermit::unlimited(),
            clock: Clock::wall(),
            metrics: partner_api::Metrics::default(),
            auth_failures: AuthFailures::new(
                Clock::wall(),
                Alarms::new(Clock::wall()),
                Vec::new(),
                10_000,
            ),
        };
        let shop = |index| partner_api::PartnerShop {
            id: ShopId(index),
            name: format!("shop-{index}"),
            campaigns: vec![index.into()],
            feed_keys: TokenSet::new([&Secret::new(FEED_KEY)]),
            warehouses: vec![market::warehouse(index)],
            business: None,
            partner_warehouses: Vec::new(),
        };
        market::push_router(Arc::clone(&self.book))
            .merge(partner_api::router(context, (0..SHOPS).map(shop).collect()))
    }

    pub(crate) async fn compact(&self) -> anyhow::Result<()> {
        Ok(self
            .store
            .compact(&self.book, |_, _| Acked::default(), &self.activity)
            .await?)
    }
}

fn update(number: u64) -> Update {
    let level = goods::level(goods::mix(number));
    Update {
        sku: goods::sku(number),
        count: level.count,
        updated_at: Some(level.updated_at),
    }
}

/// Returns a shop and the body of a request with 2000 of its SKUs. The updates have no date, so each
/// sending counts as a new update.
pub(crate) fn update_body(seed: u64, skus: u64) -> (u64, String) {
    let shop = seed % u64::from(SHOPS);
    // A stride through the shop, so that no SKU occurs twice.
    let stride = skus / UPDATES_PER_REQUEST;
    let number = |n| shop * skus + n * stride + goods::mix(seed) % stride;
    let items: Vec<String> = (0..UPDATES_PER_REQUEST)
        .map(|n| {
            format!(
                r#"{{"sku":"{}","items":[{{"count":{}}}]}}"#,
                goods::sku(number(n)),
                n
            )
        })
        .collect();
    (shop, format!(r#"{{"skus":[{}]}}"#, items.join(",")))
}

pub(crate) fn update_request(shop: u64, body: &str) -> axum::http::request::Builder {
    Request::put(format!("/v2/campaigns/{shop}/offers/stocks"))
        .header("host", "127.0.0.1")
        .header("api-key", FEED_KEY)
        .header("content-type", "application/json")
        .header("content-length", body.len())
}

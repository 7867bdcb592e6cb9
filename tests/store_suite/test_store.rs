//! Store with its state in memory, as the service has it, and the place where it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection as _};
use stock::{Activity, PerSku, ShopId, Sku, SkuActivity, SkuId, StockBook};
use stockbridge::store::{
    Acked, Config, OpenedStore, QuarantineEntry, RecordRow, ShopIdentity, Store, StoreChange,
    StoreError, StoreUrl, apply_followed,
};
use tempfile::TempDir;

use super::samples::{activity_rows, quarantined, rows, shops, sku};

pub(crate) const SHOP_A: ShopId = ShopId(0);
pub(crate) const SHOP_B: ShopId = ShopId(1);

/// Place of one store: a directory, or a database and a directory of its own for each process.
pub(crate) struct Subject {
    pub(crate) directory: TempDir,
    pub(crate) database: Option<String>,
}

impl Subject {
    pub(crate) fn config(&self) -> Config {
        let url = self.database.as_ref();
        Config {
            path: self.directory.path().to_owned(),
            url: url.map(|url| StoreUrl::parse(url).unwrap()),
        }
    }

    pub(crate) async fn try_open(&self, shops: &[ShopIdentity]) -> Result<OpenedStore, StoreError> {
        Store::open(&self.config(), shops).await
    }

    pub(crate) async fn open_with(&self, shops: &[ShopIdentity]) -> SuiteStore {
        SuiteStore::new(self.try_open(shops).await.unwrap())
    }

    /// Opens the store with the shops `a` and `b`.
    pub(crate) async fn open(&self) -> SuiteStore {
        self.open_with(&shops(["a", "b"])).await
    }

    /// Opens the store, closes it, and returns its content.
    pub(crate) async fn contents(&self) -> StoredState {
        let test_store = self.open().await;
        let contents = test_store.contents();
        test_store.store.close().await.unwrap();
        contents
    }

    /// Runs a statement on the tables of a closed store.
    pub(crate) async fn execute(&self, sql: &str) {
        if let Some(url) = &self.database {
            let sql = format!("SET search_path TO stockbridge; {sql}");
            let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut conn)
                .await
                .unwrap();
            return conn.close().await.unwrap();
        }
        let file = self.directory.path().join("stock.db");
        let url = format!("sqlite://{}", file.display());
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut conn)
            .await
            .unwrap();
        conn.close().await.unwrap();
    }

    /// Returns SQL that inverts the first byte of the column `body`.
    pub(crate) fn altered_body(&self) -> &'static str {
        match self.database {
            Some(_) => "set_byte(body, 1, 255 - get_byte(body, 1))",
            None => "CAST(substr(body, 1, 1) || x'ff' || substr(body, 3) AS BLOB)",
        }
    }
}

/// Content of a store in comparable form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredState {
    pub(crate) stock: BTreeMap<(usize, String), (stock::Level, Acked, SkuActivity)>,
    pub(crate) unknown: BTreeMap<(usize, String), SkuActivity>,
    pub(crate) quarantine: Vec<BTreeMap<Sku, QuarantineEntry>>,
}

/// Open store, and what a service has in memory.
pub(crate) struct SuiteStore {
    pub(crate) store: Store,
    pub(crate) memory: Arc<Memory>,
}

pub(crate) struct Memory {
    pub(crate) book: StockBook,
    pub(crate) activity: Activity,
    acked: Vec<Mutex<PerSku<Acked>>>,
    quarantine: Mutex<Vec<BTreeMap<Sku, QuarantineEntry>>>,
}

impl SuiteStore {
    pub(crate) fn new(opened: OpenedStore) -> Self {
        let by_sku = |rows: Vec<QuarantineEntry>| -> BTreeMap<_, _> {
            rows.into_iter().map(|row| (row.sku.clone(), row)).collect()
        };
        let quarantine = opened.quarantine.into_iter().map(by_sku).collect();
        let memory = Arc::new(Memory {
            book: opened.book,
            activity: opened.activity,
            acked: opened.acked.into_iter().map(Mutex::new).collect(),
            quarantine: Mutex::new(quarantine),
        });
        let (followed, read) = (Arc::clone(&memory), Arc::clone(&memory));
        opened.store.follow_with(
            Box::new(move |shop, rows| followed.follow(shop, rows)),
            Box::new(move |shop| read.book.levels(shop)),
        );
        Self {
            store: opened.store,
            memory,
        }
    }

    /// Persists a change, then applies it to memory.
    pub(crate) async fn append(&self, change: StoreChange<'_>) -> Result<(), StoreError> {
        let guard = loop {
            match self.store.append(&[change]).await {
                Err(StoreError::Behind) => {}
                other => break other?,
            }
        };
        self.memory.apply(change);
        drop(guard);
        Ok(())
    }

    pub(crate) async fn append_stock(&self, shop: ShopId, rows: &[(Sku, stock::Level)]) {
        let change = StoreChange::Stock { shop, rows };
        self.append(change).await.unwrap();
    }

    pub(crate) async fn compact(&self) -> Result<(), StoreError> {
        let Memory {
            book,
            activity,
            acked,
            ..
        } = &*self.memory;
        let acked = |shop: ShopId, id: SkuId| acked[shop.index()].lock().get(id);
        self.store.compact(book, acked, activity).await
    }

    /// Appends some changes of every kind to both shops.
    pub(crate) async fn fill(&self) {
        for shop in [SHOP_A, SHOP_B] {
            self.append_stock(shop, &rows(0..300, 1)).await;
            let acked: Vec<_> = rows(100..200, 1)
                .into_iter()
                .map(|(sku, level)| (sku, Acked::new(level, level.updated_at.to_utc())))
                .collect();
            let quarantined = [quarantined(3, 1), quarantined(4, 1)];
            let activity = activity_rows(340..360, 5);
            for change in [
                StoreChange::Acked { shop, rows: &acked },
                StoreChange::Stock {
                    shop,
                    rows: &rows(150..350, 2),
                },
                StoreChange::Quarantined {
                    shop,
                    row: &quarantined[0],
                },
                StoreChange::Quarantined {
                    shop,
                    row: &quarantined[1],
                },
                StoreChange::Released { shop, sku: &sku(3) },
                StoreChange::Activity {
                    shop,
                    rows: &activity,
                },
            ] {
                self.append(change).await.unwrap();
            }
        }
    }

    pub(crate) fn contents(&self) -> StoredState {
        self.memory.contents()
    }
}

impl Memory {
    fn apply(&self, change: StoreChange<'_>) {
        match change {
            StoreChange::Stock { shop, rows } => {
                for (sku, level) in rows {
                    self.book.apply(shop, sku, *level);
                }
            }
            StoreChange::Acked { shop, rows } => {
                for (sku, acked) in rows {
                    if let Some(entry) = self.book.get(shop, sku.as_str()) {
                        self.acked[shop.index()].lock().set(entry.id(), *acked);
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
                self.quarantine.lock()[shop.index()].insert(row.sku.clone(), row.clone());
            }
            StoreChange::Released { shop, sku } => {
                self.quarantine.lock()[shop.index()].remove(sku);
            }
        }
    }

    /// Applies a record of another process.
    fn follow(&self, shop: ShopId, rows: &[RecordRow]) {
        let effect = apply_followed(&self.book, &self.activity, shop, rows);
        let mut acked = self.acked[shop.index()].lock();
        let mut quarantine = self.quarantine.lock();
        let quarantine = &mut quarantine[shop.index()];
        if effect.is_target_changed {
            acked.clear();
            quarantine.clear();
        }
        for (id, new) in effect.acked {
            acked.set(id, new);
        }
        for row in rows {
            match row {
                RecordRow::Quarantined(entry) => {
                    quarantine.insert(entry.sku.clone(), entry.clone());
                }
                RecordRow::Released(sku) => {
                    quarantine.remove(sku);
                }
                _ => {}
            }
        }
    }

    fn contents(&self) -> StoredState {
        let mut contents = StoredState::default();
        for shop in self.book.shops() {
            let index = shop.index();
            // First, because the call moves the history of SKUs that have stock by now.
            self.activity.for_each_unknown(shop, |sku, activity| {
                let key = (index, sku.to_string());
                contents.unknown.insert(key, activity.clone());
            });
            self.book.for_each(shop, |sku, entry| {
                let acked = self.acked[index].lock().get(entry.id());
                let activity = self.activity.get(shop, entry.id());
                let key = (index, sku.to_string());
                contents.stock.insert(key, (entry.level(), acked, activity));
            });
        }
        contents.quarantine.clone_from(&self.quarantine.lock());
        contents
    }
}

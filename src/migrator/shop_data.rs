//! What is known about the SKUs of all shops, which several modules share.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use stock::{Activity, Hour, LastStated, PerSku, ShopId, Sku, StockBook};

use super::Ledger;
use super::readback::Observations;
use crate::history::{EventKind, History};
use crate::store::Acked;

/// Stock of all shops, and what is known about each SKU. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShopData {
    /// The seller's stock.
    pub book: Arc<StockBook>,
    /// Stock that the Market has acknowledged.
    pub ledger: Arc<Ledger>,
    /// Times at which SKUs were stated and requested.
    pub activity: Arc<Activity>,
    /// Result of the last read-back of each SKU.
    pub observations: Arc<Observations>,
    /// Recent events of each SKU.
    pub history: Arc<History>,
}

impl ShopData {
    /// Creates the data from those in the store.
    #[must_use]
    pub fn new(book: StockBook, acked_by_shop: Vec<PerSku<Acked>>, activity: Activity) -> Self {
        Self {
            observations: Arc::new(Observations::new(acked_by_shop.len())),
            book: Arc::new(book),
            ledger: Arc::new(Ledger::new(acked_by_shop)),
            activity: Arc::new(activity),
            history: Arc::default(),
        }
    }

    /// Returns all known SKUs: those in the book, those that the Market requested, and those that
    /// read-backs showed.
    #[must_use]
    pub fn known_skus(&self, shop: ShopId) -> Vec<Sku> {
        let mut skus = Vec::with_capacity(self.book.len(shop));
        self.book.for_each(shop, |sku, _| skus.push(sku.clone()));
        self.activity
            .for_each_unknown(shop, |sku, _| skus.push(sku.clone()));
        skus.extend(self.observations.unknown_skus(shop));
        skus
    }

    /// Records a statement about SKUs in activity and history. `origin` is the number of its
    /// origin; `changed` and `repeated` are the SKUs whose level it changed or repeated.
    pub fn record_statement(
        &self,
        (shop, origin, at): (ShopId, u8, DateTime<Utc>),
        changed: &[Sku],
        repeated: &[Sku],
    ) {
        let hour = Hour::containing(at.into());
        for (skus, event) in [
            (changed, EventKind::Stated(origin)),
            (repeated, EventKind::Repeated(origin)),
        ] {
            let entries = self.book.get_many(shop, skus.iter().map(Sku::as_str));
            let known = || entries.iter().flatten();
            let named = skus.iter().zip(&entries);
            self.activity.promote_known(
                shop,
                named.filter_map(|(sku, e)| Some((sku, e.as_ref()?.id()))),
            );
            let ids = known().map(|entry| entry.id());
            let stated = LastStated { hour, origin };
            self.activity.record_stated(shop, ids, stated);
            let counts = known().map(|entry| (entry.id(), entry.level().count));
            self.history.record(shop, at, event, counts);
        }
    }
}

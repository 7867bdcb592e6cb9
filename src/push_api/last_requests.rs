//! Time of the Market's last stock request for each shop.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use stock::{Activity, ShopId, StockBook};

/// Time of the Market's last request for each shop.
#[derive(Debug)]
pub struct LastRequests(Vec<AtomicI64>);

impl LastRequests {
    /// Creates a record of `shops` shops without requests.
    #[must_use]
    pub fn new(shops: usize) -> Arc<Self> {
        Arc::new(Self((0..shops).map(|_| AtomicI64::new(i64::MIN)).collect()))
    }

    /// Creates a record of all shops with the times from before a restart, to the hour.
    #[must_use]
    pub fn restore(book: &StockBook, activity: &Activity) -> Arc<Self> {
        let record = Self::new(book.shops().count());
        for shop in book.shops() {
            let mut latest = None;
            book.for_each(shop, |_, entry| {
                latest = latest.max(activity.last_requested(shop, entry.id()));
            });
            if let Some(hour) = latest {
                record.record(shop, hour.start().to_utc());
            }
        }
        record
    }

    /// Returns the time of the last request that was answered with stock.
    #[must_use]
    pub fn last(&self, shop: ShopId) -> Option<DateTime<Utc>> {
        let micros = self.0.get(shop.index())?.load(Ordering::Relaxed);
        DateTime::from_timestamp_micros(micros)
    }

    pub(super) fn record(&self, shop: ShopId, now: DateTime<Utc>) {
        if let Some(last) = self.0.get(shop.index()) {
            last.store(now.timestamp_micros(), Ordering::Relaxed);
        }
    }
}

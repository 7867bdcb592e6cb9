//! What the Market has acknowledged, SKU by SKU.

use std::num::NonZeroI64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;

use super::queue::clamp_to_window;
use crate::stock::{Level, PerSku, ShopId, SkuId, StockBook, Timestamp};
use crate::store::Acked;

/// The other half of the comparison that tells what is to be sent.
///
/// Written by the lane that sends, read by it, by the store's compaction and by the status.
#[derive(Debug)]
pub struct Ledger {
    // A mutex a shop: its one writer records a batch at a time, and readers come rarely.
    shops: Vec<Mutex<PerSku<Acked>>>,
    sent_dates: Vec<Mutex<PerSku<SentDate>>>,
}

/// The date a SKU was sent with last, in this life of the program.
#[derive(Clone, Copy, Debug, Default)]
struct SentDate(Option<NonZeroI64>);

impl Ledger {
    /// The ledger as the store remembers it, a column a shop.
    #[must_use]
    pub fn new(acked_by_shop: Vec<PerSku<Acked>>) -> Self {
        let sent_dates = acked_by_shop.iter().map(|_| Mutex::default()).collect();
        Self {
            shops: acked_by_shop.into_iter().map(Mutex::new).collect(),
            sent_dates,
        }
    }

    /// What the Market has of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Acked {
        self.read(shop, |per_sku| per_sku.get(id))
    }

    /// Looks at many SKUs of a shop under one lock.
    pub fn read<T>(&self, shop: ShopId, visit: impl FnOnce(&PerSku<Acked>) -> T) -> T {
        visit(
            &self.shops[shop.index()]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The Market has acknowledged these.
    pub fn record(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Acked)>) {
        let mut per_sku = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rows.for_each(|(id, acked)| per_sku.set(id, acked));
    }

    /// The Market has these with these dates, or may have them.
    pub fn record_dates(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Timestamp)>) {
        let mut dates = self.lock_dates(shop);
        rows.for_each(|(id, at)| dates.set(id, SentDate(NonZeroI64::new(at.as_micros()))));
    }

    /// The Market does not take these dates: they say nothing any more.
    pub fn clear_dates(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut dates = self.lock_dates(shop);
        ids.for_each(|id| dates.set(id, SentDate::default()));
    }

    /// The date a SKU was sent with last, if this life of the program sent it.
    #[must_use]
    pub fn sent_date(&self, shop: ShopId, id: SkuId) -> Option<Timestamp> {
        self.lock_dates(shop)
            .get(id)
            .0
            .and_then(|micros| Timestamp::from_micros(micros.get()))
    }

    /// The latest date with which the Market can have taken a SKU from an earlier life of the
    /// program, if the clocks agreed then.
    #[must_use]
    pub fn sent_date_before_restart(&self, shop: ShopId, id: SkuId) -> Option<Timestamp> {
        let acked = self.get(shop, id);
        // Its time is cut to the second.
        let at = acked.acked_at()? + TimeDelta::seconds(1);
        Some(clamp_to_window(acked.level()?.updated_at, at))
    }

    fn lock_dates(&self, shop: ShopId) -> MutexGuard<'_, PerSku<SentDate>> {
        self.sent_dates[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the Market said it took of these is to be said again, unless it is dirty anyway.
    pub fn mark_for_resend(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut per_sku = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let acked = per_sku.get(id);
            if acked.level().is_some() {
                per_sku.set(id, acked.marked_for_resend());
            }
        }
    }

    /// The Market does not have what it said it took of this SKU, unless it has taken it again
    /// since that was judged; whether it was forgotten.
    pub fn clear_if_unchanged(&self, shop: ShopId, id: SkuId, expected: Acked) -> bool {
        let mut per_sku = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_unchanged = per_sku.get(id) == expected;
        if is_unchanged {
            per_sku.set(id, Acked::default());
        }
        is_unchanged
    }

    /// How many SKUs of the shop the Market does not have as the book has them.
    ///
    /// Looks at every SKU: some 10 ms a million.
    #[must_use]
    pub fn count_dirty(&self, shop: ShopId, book: &StockBook) -> usize {
        self.read(shop, |per_sku| {
            let mut dirty = 0;
            book.for_each(shop, |_, entry| {
                dirty += usize::from(is_dirty(entry.level(), per_sku.get(entry.id())));
            });
            dirty
        })
    }
}

/// Whether this level should be sent: the Market lacks it, or should hear it again.
#[must_use]
pub(super) fn is_due(ours: Level, acked: Acked) -> bool {
    is_dirty(ours, acked) || acked.needs_resend()
}

/// Whether the Market lacks this level.
///
/// A later date alone makes a difference: "five as of now" must reach a Market that has sold
/// one of the earlier five.
#[must_use]
pub(super) fn is_dirty(ours: Level, acked: Acked) -> bool {
    acked.level() != Some(ours)
}

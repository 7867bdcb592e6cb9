//! Ledger: the stock that the Market has acknowledged, per SKU.
//!
//! The difference between book and ledger is the stock to send. `is_dirty` and `is_due` decide it.

use std::num::NonZeroI64;

use chrono::TimeDelta;
use parking_lot::Mutex;
use stock::{Level, PerSku, ShopId, SkuId, StockBook, Timestamp};

use super::queue::clamp_to_window;
use crate::store::Acked;

/// Acknowledged levels and sent dates of all shops.
///
/// The shop's worker writes it. The worker, the store's compaction and the status read it.
#[derive(Debug)]
pub struct Ledger {
    // One mutex per shop: its single writer records a whole batch at once, and reads are rare.
    shops: Vec<Mutex<PerSku<Acked>>>,
    // `updatedAt` with which a SKU was last sent since this process started, in microseconds.
    sent_dates: Vec<Mutex<PerSku<Option<NonZeroI64>>>>,
}

impl Ledger {
    /// Creates the ledger from the acknowledgements in the store, one element per shop.
    #[must_use]
    pub fn new(acked_by_shop: Vec<PerSku<Acked>>) -> Self {
        let sent_dates = acked_by_shop.iter().map(|_| Mutex::default()).collect();
        Self {
            shops: acked_by_shop.into_iter().map(Mutex::new).collect(),
            sent_dates,
        }
    }

    /// Returns the acknowledgement of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Acked {
        self.read(shop, |per_sku| per_sku.get(id))
    }

    /// Calls `visit` with the acknowledgements of a shop, under one lock.
    pub fn read<T>(&self, shop: ShopId, visit: impl FnOnce(&PerSku<Acked>) -> T) -> T {
        visit(&self.shops[shop.index()].lock())
    }

    /// Records acknowledgements.
    pub fn record(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Acked)>) {
        let mut per_sku = self.shops[shop.index()].lock();
        rows.for_each(|(id, acked)| per_sku.set(id, acked));
    }

    /// Records the dates of SKUs that the Market has or may have accepted.
    pub fn record_dates(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Timestamp)>) {
        let mut dates = self.sent_dates[shop.index()].lock();
        rows.for_each(|(id, at)| dates.set(id, NonZeroI64::new(at.as_micros())));
    }

    /// Forgets the sent dates of these SKUs, because the Market rejects them.
    pub fn clear_dates(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut dates = self.sent_dates[shop.index()].lock();
        ids.for_each(|id| dates.set(id, None));
    }

    /// Returns the date with which a SKU was last sent; `None` if not since this process started.
    #[must_use]
    pub fn sent_date(&self, shop: ShopId, id: SkuId) -> Option<Timestamp> {
        let micros = self.sent_dates[shop.index()].lock().get(id)?;
        Timestamp::from_micros(micros.get())
    }

    /// Returns an upper bound of the date with which a SKU was sent before this process started;
    /// `None` without an acknowledgement. Assumes that the clocks agreed then.
    #[must_use]
    pub fn sent_date_before_restart(&self, shop: ShopId, id: SkuId) -> Option<Timestamp> {
        let acked = self.get(shop, id);
        // The stored time is truncated to a second.
        let at = acked.acked_at()? + TimeDelta::seconds(1);
        Some(clamp_to_window(acked.level()?.updated_at, at))
    }

    /// Marks acknowledged SKUs to be sent again.
    pub fn mark_for_resend(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut per_sku = self.shops[shop.index()].lock();
        for id in ids {
            let acked = per_sku.get(id);
            if acked.level().is_some() {
                per_sku.set(id, acked.marked_for_resend());
            }
        }
    }

    /// Forgets the acknowledgement of a SKU that the Market has lost, unless a newer one than
    /// `expected` was recorded meanwhile. Returns true if it was forgotten.
    #[must_use]
    pub fn clear_if_unchanged(&self, shop: ShopId, id: SkuId, expected: Acked) -> bool {
        let mut per_sku = self.shops[shop.index()].lock();
        let is_unchanged = per_sku.get(id) == expected;
        if is_unchanged {
            per_sku.set(id, Acked::default());
        }
        is_unchanged
    }

    /// Counts the SKUs of the shop whose acknowledged level differs from the book.
    ///
    /// Reads every SKU, all over the memory: about 0.2 s per million.
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

/// Returns true if the level must be sent: it is dirty, or marked to be sent again.
#[must_use]
pub(super) fn is_due(ours: Level, acked: Acked) -> bool {
    is_dirty(ours, acked) || acked.needs_resend()
}

/// Returns true if the acknowledged level differs from ours.
///
/// A later date alone makes a difference: "five pieces as of now" must reach the Market even if it
/// has "five pieces" of an earlier time, because it may have sold one of them since.
#[must_use]
pub(super) fn is_dirty(ours: Level, acked: Acked) -> bool {
    acked.level() != Some(ours)
}

//! What the Market has acknowledged, SKU by SKU.

use std::num::NonZeroI64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::TimeDelta;

use super::batch::held_in_window;
use crate::stock::{Column, Instant, Level, ShopId, SkuId, StockBook};
use crate::store::Acked;

/// The other half of the comparison that tells what is to be sent.
///
/// Written by the lane that sends, read by it, by the store's compaction and by the status.
#[derive(Debug)]
pub struct Ledger {
    // A mutex a shop: its one writer records a batch at a time, and readers come rarely.
    shops: Vec<Mutex<Column<Acked>>>,
    dated: Vec<Mutex<Column<Dated>>>,
}

/// The date a SKU was sent with last, in this life of the program.
#[derive(Clone, Copy, Debug, Default)]
struct Dated(Option<NonZeroI64>);

impl Ledger {
    /// The ledger as the store remembers it, a column a shop.
    #[must_use]
    pub fn new(columns: Vec<Column<Acked>>) -> Self {
        let dated = columns.iter().map(|_| Mutex::default()).collect();
        Self {
            shops: columns.into_iter().map(Mutex::new).collect(),
            dated,
        }
    }

    /// What the Market has of one SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Acked {
        self.read(shop, |column| column.get(id))
    }

    /// Looks at many SKUs of a shop under one lock.
    pub fn read<T>(&self, shop: ShopId, look: impl FnOnce(&Column<Acked>) -> T) -> T {
        look(
            &self.shops[shop.index()]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The Market has acknowledged these.
    pub fn record(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Acked)>) {
        let mut column = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rows.for_each(|(id, acked)| column.set(id, acked));
    }

    /// The Market has these with these dates, or may have them.
    pub fn note_dates(&self, shop: ShopId, rows: impl Iterator<Item = (SkuId, Instant)>) {
        let mut column = self.dates(shop);
        rows.for_each(|(id, at)| column.set(id, Dated(NonZeroI64::new(at.as_micros()))));
    }

    /// The Market does not take these dates: they say nothing any more.
    pub fn forget_dates(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut column = self.dates(shop);
        ids.for_each(|id| column.set(id, Dated::default()));
    }

    /// The date a SKU was sent with last, if this life of the program sent it.
    #[must_use]
    pub fn dated(&self, shop: ShopId, id: SkuId) -> Option<Instant> {
        self.dates(shop)
            .get(id)
            .0
            .and_then(|micros| Instant::from_micros(micros.get()))
    }

    /// The latest date with which the Market can have taken a SKU from an earlier life of the
    /// program, if the clocks agreed then.
    #[must_use]
    pub fn dated_before(&self, shop: ShopId, id: SkuId) -> Option<Instant> {
        let acked = self.get(shop, id);
        // Its time is cut to the second.
        let at = acked.acked_at()? + TimeDelta::seconds(1);
        Some(held_in_window(acked.level()?.updated_at, at))
    }

    fn dates(&self, shop: ShopId) -> MutexGuard<'_, Column<Dated>> {
        self.dated[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the Market said it took of these is to be said again, unless it is dirty anyway.
    pub fn doubt(&self, shop: ShopId, ids: impl Iterator<Item = SkuId>) {
        let mut column = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let acked = column.get(id);
            if acked.level().is_some() {
                column.set(id, acked.doubted());
            }
        }
    }

    /// The Market does not have what it said it took of this SKU, unless it has taken it again
    /// since that was judged; whether it was forgotten.
    pub fn forget_judged(&self, shop: ShopId, id: SkuId, judged: Acked) -> bool {
        let mut column = self.shops[shop.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_judged = column.get(id) == judged;
        if is_judged {
            column.set(id, Acked::default());
        }
        is_judged
    }

    /// How many SKUs of the shop the Market does not have as the book has them.
    ///
    /// Looks at every SKU: some 10 ms a million.
    #[must_use]
    pub fn count_dirty(&self, shop: ShopId, book: &StockBook) -> usize {
        self.read(shop, |column| {
            let mut dirty = 0;
            book.for_each(shop, |_, entry| {
                dirty += usize::from(is_dirty(entry.level(), column.get(entry.id())));
            });
            dirty
        })
    }
}

/// Whether this level should be sent: the Market lacks it, or should hear it again.
#[must_use]
pub(super) fn is_due(ours: Level, acked: Acked) -> bool {
    is_dirty(ours, acked) || acked.is_doubted()
}

/// Whether the Market lacks this level.
///
/// A later date alone makes a difference: "five as of now" must reach a Market that has sold
/// one of the earlier five.
#[must_use]
pub(super) fn is_dirty(ours: Level, acked: Acked) -> bool {
    acked.level() != Some(ours)
}

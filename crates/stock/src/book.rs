//! Stock of all shops in memory. The newest `updated_at` wins; between equal times the level that
//! arrived last wins.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::shop_stock::ShopStock;
use super::sku_words::SkuWords;
use super::{Count, Level, Sku, TextInBuffer, Timestamp};

/// Number of a shop: its index in the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShopId(pub u16);

impl ShopId {
    /// Returns the index in a list of all shops.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Number of a SKU within its shop, assigned when the SKU is first stated.
///
/// Numbers count from 0. Of every 1024 numbers all are used before the next ones, except in the two
/// newest groups, which are filled at the same time. Valid as long as the process runs; on disk a
/// SKU is identified by its text. Index of a [`super::PerSku`].
// One more than the number, so that an optional entry needs no more memory than an entry.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SkuId(NonZeroU32);

impl SkuId {
    /// Returns the index in a list of all SKUs of the shop.
    #[must_use]
    pub fn index(self) -> usize {
        self.number() as usize
    }

    pub(super) fn number(self) -> u32 {
        self.0.get() - 1
    }

    pub(super) fn from_number(number: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(number))
    }
}

/// Entry of one SKU in the book, in 16 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BookEntry {
    updated_at: Timestamp,
    count: Count,
    id: SkuId,
}

impl BookEntry {
    #[inline]
    pub(super) fn new(number: u32, level: Level) -> Self {
        Self {
            updated_at: level.updated_at,
            count: level.count,
            id: SkuId::from_number(number),
        }
    }

    /// Returns count and time.
    #[must_use]
    pub fn level(self) -> Level {
        Level {
            count: self.count,
            updated_at: self.updated_at,
        }
    }

    /// Returns the number of the SKU within its shop.
    #[must_use]
    pub fn id(self) -> SkuId {
        self.id
    }
}

/// Effect of a level on the book.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApplyOutcome {
    /// The SKU was unknown until now.
    Added,
    /// The level replaced an older one.
    Replaced,
    /// The level equals the known one, to the microsecond.
    Repeated,
    /// The level is older than the known one and was ignored.
    Outdated,
}

impl ApplyOutcome {
    /// Returns the effect of applying `new` over `old`.
    ///
    /// The newest `updated_at` wins; between equal times, `new` wins.
    #[must_use]
    pub fn classify(old: Option<Level>, new: Level) -> Self {
        match old {
            None => Self::Added,
            Some(old) if old == new => Self::Repeated,
            Some(old) if old.updated_at > new.updated_at => Self::Outdated,
            Some(_) => Self::Replaced,
        }
    }

    /// Returns true if the book changes.
    #[must_use]
    pub fn is_change(self) -> bool {
        match self {
            Self::Added | Self::Replaced => true,
            Self::Repeated | Self::Outdated => false,
        }
    }
}

/// Stock of all shops in memory, in 38 to 75 bytes per SKU.
///
/// Every shop has its own index, so that a look-up hashes the SKU alone, and a scan of one shop
/// does not visit the others.
///
/// No method returns a guard, and no callback runs under a lock: the result is copied out. A shop has
/// 32 locks, each for a part of its SKUs. A writer holds that lock only while it replaces a few
/// entries, so readers hardly wait, and no lock can be held across an `.await`.
pub struct StockBook {
    // Shared with the activity, whose hours are in the same records.
    shops: Vec<Arc<ShopStock>>,
}

impl StockBook {
    /// Creates an empty book with one shop per item, each with capacity for that many SKUs.
    #[must_use]
    pub fn new(capacities: impl IntoIterator<Item = usize>) -> Self {
        let shop_stock = |capacity| Arc::new(ShopStock::with_capacity(capacity));
        Self {
            shops: capacities.into_iter().map(shop_stock).collect(),
        }
    }

    /// Returns every shop, in configuration order.
    pub fn shops(&self) -> impl Iterator<Item = ShopId> {
        (0..u16::try_from(self.shops.len()).unwrap_or(u16::MAX)).map(ShopId)
    }

    /// Returns the number of known SKUs of a shop.
    #[must_use]
    pub fn len(&self, shop: ShopId) -> usize {
        self.shop_stock(shop).len()
    }

    /// Returns true if no SKU of the shop is known, so that its stock cannot be served.
    #[must_use]
    pub fn is_empty(&self, shop: ShopId) -> bool {
        self.len(shop) == 0
    }

    /// Returns the entry of a SKU; `sku` must be trimmed.
    #[must_use]
    pub fn get(&self, shop: ShopId, sku: &str) -> Option<BookEntry> {
        self.shop_stock(shop).get(&SkuWords::of(sku)?, |_| ())
    }

    /// Returns the entries of many SKUs, in their order; each SKU must be trimmed.
    ///
    /// Takes a third of the time of single look-ups, because their memory accesses overlap.
    #[must_use]
    pub fn get_many<'a>(
        &self,
        shop: ShopId,
        skus: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator>,
    ) -> Vec<Option<BookEntry>> {
        let texts = skus.into_iter().map(TextInBuffer::from);
        self.shop_stock(shop).get_many(texts, |_| ())
    }

    /// Writes a level unless a newer one is known.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers that only write do not need the outcome"
    )]
    pub fn apply(&self, shop: ShopId, sku: &Sku, level: Level) -> ApplyOutcome {
        self.shop_stock(shop).apply(sku, level).0
    }

    /// Writes levels in their order, each like [`StockBook::apply`], and returns their effects in
    /// the same order.
    ///
    /// Takes half of the time of single calls. The levels become visible one by one.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers that only write do not need the outcomes"
    )]
    pub fn apply_all(&self, shop: ShopId, rows: &[(Sku, Level)]) -> Vec<ApplyOutcome> {
        let outcomes = self.shop_stock(shop).apply_all(rows).into_iter();
        outcomes.map(|(outcome, _)| outcome).collect()
    }

    /// Writes a level like [`StockBook::apply`] and returns the number of the SKU.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers that only write do not need the number"
    )]
    pub fn restore(&self, shop: ShopId, sku: &Sku, level: Level) -> SkuId {
        self.shop_stock(shop).apply(sku, level).1
    }

    /// Writes levels like [`StockBook::apply_all`] and returns the numbers of the SKUs, in the same
    /// order.
    #[must_use]
    pub fn restore_all(&self, shop: ShopId, rows: &[(Sku, Level)]) -> Vec<SkuId> {
        let outcomes = self.shop_stock(shop).apply_all(rows).into_iter();
        outcomes.map(|(_, id)| id).collect()
    }

    /// Visits every SKU of a shop, in the order of the numbers.
    ///
    /// A SKU that is added meanwhile may or may not be visited. No SKU is visited twice.
    pub fn for_each(&self, shop: ShopId, mut visit: impl FnMut(&Sku, BookEntry)) {
        let _completed = self.try_for_each(shop, |sku, entry| {
            visit(sku, entry);
            ControlFlow::<()>::Continue(())
        });
    }

    /// Returns the levels of all SKUs of a shop.
    #[must_use]
    pub fn levels(&self, shop: ShopId) -> Vec<(Sku, Level)> {
        let mut levels = Vec::with_capacity(self.len(shop));
        self.for_each(shop, |sku, entry| levels.push((sku.clone(), entry.level())));
        levels
    }

    /// Visits SKUs like [`StockBook::for_each`] until `visit` breaks.
    pub fn try_for_each<B>(
        &self,
        shop: ShopId,
        visit: impl FnMut(&Sku, BookEntry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.shop_stock(shop).try_for_each(visit)
    }

    /// Returns the stock of every shop, to share it.
    pub(super) fn shop_stocks(&self) -> impl Iterator<Item = Arc<ShopStock>> {
        self.shops.iter().map(Arc::clone)
    }

    fn shop_stock(&self, shop: ShopId) -> &ShopStock {
        &self.shops[shop.index()]
    }
}

impl fmt::Debug for StockBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.shops().map(|shop| self.len(shop));
        f.debug_list().entries(lengths).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHOP: ShopId = ShopId(0);

    fn level(count: i64, micros: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(micros).unwrap(),
        }
    }

    #[test]
    fn an_optional_entry_takes_16_bytes() {
        assert_eq!(size_of::<Option<BookEntry>>(), 16);
    }

    #[test]
    fn newest_level_wins_then_last_arrival() {
        let book = StockBook::new([0]);
        let sku = Sku::parse("A").unwrap();
        assert_eq!(book.apply(SHOP, &sku, level(5, 100)), ApplyOutcome::Added);
        assert_eq!(book.apply(SHOP, &sku, level(6, 99)), ApplyOutcome::Outdated);
        assert_eq!(
            book.apply(SHOP, &sku, level(5, 100)),
            ApplyOutcome::Repeated
        );
        assert_eq!(
            book.apply(SHOP, &sku, level(7, 100)),
            ApplyOutcome::Replaced
        );
        assert_eq!(book.get(SHOP, "A").unwrap().level(), level(7, 100));
        assert_eq!(book.len(SHOP), 1);
    }

    #[test]
    fn shops_are_separate() {
        let book = StockBook::new([0, 0]);
        book.apply(ShopId(1), &Sku::parse("A").unwrap(), level(5, 100));
        assert!(book.is_empty(SHOP));
        assert_eq!(book.get(SHOP, "A"), None);
        assert!(!book.is_empty(ShopId(1)));
    }

    proptest! {
        #[test]
        fn any_order_ends_at_the_newest_level(
            updates in prop::collection::vec((0i64..100, 0i64..8), 1..40).prop_shuffle(),
        ) {
            let book = StockBook::new([0]);
            let sku = Sku::parse("A").unwrap();
            let mut expected: Option<Level> = None;
            for (count, micros) in updates {
                let new = level(count, micros);
                book.apply(SHOP, &sku, new);
                if expected.is_none_or(|old| old.updated_at <= new.updated_at) {
                    expected = Some(new);
                }
            }
            prop_assert_eq!(book.get(SHOP, "A").map(BookEntry::level), expected);
        }

        #[test]
        fn get_many_equals_single_look_ups(
            known in prop::collection::vec("[a-d]{1,3}", 1..60),
            requested in prop::collection::vec("[a-d]{0,3}", 0..200),
        ) {
            let book = StockBook::new([0]);
            for (n, text) in (0..).zip(&known) {
                book.restore(SHOP, &Sku::parse(text).unwrap(), level(n, n));
            }
            let one_by_one: Vec<_> = requested.iter().map(|sku| book.get(SHOP, sku)).collect();
            let together = book.get_many(SHOP, requested.iter().map(String::as_str));
            prop_assert_eq!(together, one_by_one);
        }

        #[test]
        fn sku_numbers_are_unique_and_stable(texts in prop::collection::vec("[a-z]{1,2}|[a-z]{20}", 1..60)) {
            let book = StockBook::new([0]);
            for text in &texts {
                let sku = Sku::parse(text).unwrap();
                book.apply(SHOP, &sku, level(1, 1));
                let id = book.get(SHOP, text).unwrap().id();
                book.apply(SHOP, &sku, level(2, 2));
                prop_assert_eq!(book.get(SHOP, text).unwrap().id(), id);
            }
            let mut ids = Vec::new();
            book.for_each(SHOP, |_, entry| ids.push(entry.id().index()));
            prop_assert!(ids.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(ids.len(), book.len(SHOP));
            prop_assert!(ids.iter().all(|id| *id < 2048));
        }
    }
}

//! Stock of all shops in memory. The newest `updated_at` wins; between equal times the level that
//! arrived last wins.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;

use super::{Count, Level, Sku, Timestamp};

/// Locks per shop. Independent of the number of cores, so that a shop needs the same memory on
/// every machine.
const SHARDS_PER_SHOP: usize = 32;

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

/// Number of a SKU within its shop, dense from 0, assigned when the SKU is first stated.
///
/// Valid as long as the process runs; on disk a SKU is identified by its text. Index of a
/// [`super::PerSku`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SkuId(u32);

impl SkuId {
    /// Returns the index in a list of all SKUs of the shop.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub(super) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap())
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

/// Stock of all shops in memory: one `DashMap` per shop.
///
/// With one map per shop, a look-up hashes the SKU alone, and a scan of one shop does not visit the
/// others. An entry takes 40 bytes of a map slot: 24 for the inline SKU and 16 for the
/// [`BookEntry`].
///
/// No method returns a guard: the result is copied out under the shard's lock. A writer holds that
/// lock only while it replaces one entry, so readers hardly wait, and no lock can be held across
/// an `.await`.
pub struct StockBook {
    shops: Vec<ShopStock>,
}

struct ShopStock {
    levels: DashMap<Sku, BookEntry, foldhash::fast::RandomState>,
    // Number of the next SKU. `levels.len()` would lock every shard.
    next_id: AtomicU32,
}

impl StockBook {
    /// Creates an empty book with one shop per item, each with capacity for that many SKUs.
    #[must_use]
    pub fn new(capacities: impl IntoIterator<Item = usize>) -> Self {
        let shop_stock = |capacity| ShopStock {
            levels: DashMap::with_capacity_and_hasher_and_shard_amount(
                capacity,
                foldhash::fast::RandomState::default(),
                SHARDS_PER_SHOP,
            ),
            next_id: AtomicU32::new(0),
        };
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
        self.shop_stock(shop).next_id.load(Ordering::Relaxed) as usize
    }

    /// Returns true if no SKU of the shop is known, so that its stock cannot be served.
    #[must_use]
    pub fn is_empty(&self, shop: ShopId) -> bool {
        self.len(shop) == 0
    }

    /// Returns the entry of a SKU; `sku` must be trimmed.
    #[must_use]
    pub fn get(&self, shop: ShopId, sku: &str) -> Option<BookEntry> {
        self.shop_stock(shop).levels.get(sku).map(|entry| *entry)
    }

    /// Returns the entries of many SKUs, in their order; each SKU must be trimmed.
    ///
    /// Each shard is locked once for all of its SKUs. A lock per SKU would make the processor finish
    /// one look-up before it begins the next. Without it the memory accesses overlap, which
    /// halves the time for a thousand SKUs.
    #[must_use]
    pub fn get_many<'a>(
        &self,
        shop: ShopId,
        skus: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Option<BookEntry>> {
        let levels = &self.shop_stock(shop).levels;
        let mut list_heads = [END_OF_LIST; SHARDS_PER_SHOP];
        let to_lookup = |(position, sku): (u32, &'a str)| {
            let hash = levels.hash_usize(&sku);
            let list_head = &mut list_heads[levels.determine_shard(hash)];
            ShardLookup {
                sku,
                hash: hash as u64,
                next: std::mem::replace(list_head, position),
            }
        };
        let lookups: Vec<ShardLookup<'a>> = (0..).zip(skus).map(to_lookup).collect();
        let mut found = vec![None; lookups.len()];
        for (shard, mut position) in levels.shards().iter().zip(list_heads) {
            if position == END_OF_LIST {
                continue;
            }
            let shard = shard.read();
            while let Some(ShardLookup { sku, hash, next }) = lookups.get(position as usize) {
                let bucket = shard.get(*hash, |(known, _)| known.as_str() == *sku);
                found[position as usize] = bucket.map(|(_, entry)| *entry.get());
                position = *next;
            }
        }
        found
    }

    /// Writes a level unless a newer one is known.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers that only write do not need the outcome"
    )]
    pub fn apply(&self, shop: ShopId, sku: &Sku, level: Level) -> ApplyOutcome {
        let shop_stock = self.shop_stock(shop);
        // The usual case: a known SKU is replaced without copying its text.
        if let Some(mut entry) = shop_stock.levels.get_mut(sku.as_str()) {
            return replace(&mut entry, level);
        }
        shop_stock.insert(sku.clone(), level).0
    }

    /// Writes a level like [`StockBook::apply`] and returns the number of the SKU.
    ///
    /// For mostly new SKUs, as when the store is loaded: one look-up instead of the three of
    /// `apply` and `get`.
    #[expect(
        clippy::must_use_candidate,
        reason = "callers that only write do not need the number"
    )]
    pub fn restore(&self, shop: ShopId, sku: Sku, level: Level) -> SkuId {
        self.shop_stock(shop).insert(sku, level).1
    }

    /// Visits every SKU of a shop, in no particular order, with one shard locked at a time.
    ///
    /// A SKU that is added meanwhile may or may not be visited. No SKU is visited twice.
    pub fn for_each(&self, shop: ShopId, mut visit: impl FnMut(&Sku, BookEntry)) {
        for slot in &self.shop_stock(shop).levels {
            visit(slot.key(), *slot.value());
        }
    }

    /// Visits SKUs like [`StockBook::for_each`] until `visit` breaks.
    pub fn try_for_each<B>(
        &self,
        shop: ShopId,
        mut visit: impl FnMut(&Sku, BookEntry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for slot in &self.shop_stock(shop).levels {
            visit(slot.key(), *slot.value())?;
        }
        ControlFlow::Continue(())
    }

    fn shop_stock(&self, shop: ShopId) -> &ShopStock {
        &self.shops[shop.index()]
    }
}

impl ShopStock {
    fn insert(&self, sku: Sku, level: Level) -> (ApplyOutcome, SkuId) {
        match self.levels.entry(sku) {
            MapEntry::Occupied(mut slot) => (replace(slot.get_mut(), level), slot.get().id),
            MapEntry::Vacant(slot) => {
                let id = SkuId(self.next_id.fetch_add(1, Ordering::Relaxed));
                slot.insert(BookEntry {
                    updated_at: level.updated_at,
                    count: level.count,
                    id,
                });
                (ApplyOutcome::Added, id)
            }
        }
    }
}

/// One SKU of [`StockBook::get_many`], linked to the next one in the same shard.
struct ShardLookup<'a> {
    sku: &'a str,
    hash: u64,
    next: u32,
}

/// End of a list of [`ShardLookup`]s.
const END_OF_LIST: u32 = u32::MAX;

impl fmt::Debug for StockBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.shops().map(|shop| self.len(shop));
        f.debug_list().entries(lengths).finish()
    }
}

fn replace(entry: &mut BookEntry, level: Level) -> ApplyOutcome {
    let applied = ApplyOutcome::classify(Some(entry.level()), level);
    if applied.is_change() {
        entry.count = level.count;
        entry.updated_at = level.updated_at;
    }
    applied
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
    fn entry_and_key_take_forty_bytes() {
        assert_eq!(size_of::<(Sku, BookEntry)>(), 40);
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
                book.restore(SHOP, Sku::parse(text).unwrap(), level(n, n));
            }
            let one_by_one: Vec<_> = requested.iter().map(|sku| book.get(SHOP, sku)).collect();
            let together = book.get_many(SHOP, requested.iter().map(String::as_str));
            prop_assert_eq!(together, one_by_one);
        }

        #[test]
        fn sku_numbers_are_dense_and_stable(texts in prop::collection::vec("[a-z]{1,2}", 1..60)) {
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
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..book.len(SHOP)).collect::<Vec<_>>());
        }
    }
}

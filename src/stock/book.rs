use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;

use super::{Count, Level, Sku, Timestamp};

/// Locks per shop. Fixed, not taken from the number of cores, so that the memory a shop
/// needs is the same on every machine.
const SHARDS_PER_SHOP: usize = 32;

/// Which shop, by its place in the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShopId(pub u16);

impl ShopId {
    /// Its place in a list of all shops.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A SKU's number within its shop, dense from 0, given when the SKU is first heard of.
///
/// Lives as long as the process: on disk a SKU is known by its text. Used to keep
/// [`super::Column`]s.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SkuId(u32);

impl SkuId {
    /// Its place in a list of all SKUs of the shop.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub(super) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap())
    }
}

/// What the book holds of one SKU, in 16 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BookEntry {
    updated_at: Timestamp,
    count: Count,
    id: SkuId,
}

impl BookEntry {
    /// How many, since when.
    #[must_use]
    pub fn level(self) -> Level {
        Level {
            count: self.count,
            updated_at: self.updated_at,
        }
    }

    /// The SKU's number in its shop.
    #[must_use]
    pub fn id(self) -> SkuId {
        self.id
    }
}

/// What became of an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApplyOutcome {
    /// The SKU was unknown until now.
    Added,
    /// It replaced an older statement.
    Replaced,
    /// It said what was known already, to the microsecond.
    Repeated,
    /// It was older than what is known, and ignored.
    Outdated,
}

impl ApplyOutcome {
    /// What putting `new` over `old` amounts to: the newest `updated_at` wins, and between
    /// equals the one that arrived last.
    #[must_use]
    pub fn classify(old: Option<Level>, new: Level) -> Self {
        match old {
            None => Self::Added,
            Some(old) if old == new => Self::Repeated,
            Some(old) if old.updated_at > new.updated_at => Self::Outdated,
            Some(_) => Self::Replaced,
        }
    }

    /// Whether the book is different afterwards.
    #[must_use]
    pub fn is_change(self) -> bool {
        match self {
            Self::Added | Self::Replaced => true,
            Self::Repeated | Self::Outdated => false,
        }
    }
}

/// All shops' stock in memory: one `DashMap` a shop.
///
/// A map for each shop, not one for all, so that a look-up hashes the SKU alone and a shop's
/// scan does not walk its neighbours. An entry takes 40 bytes of a slot: 24 for the SKU,
/// inline, 16 for the [`Entry`].
///
/// No method returns a guard: what is asked for is copied out under the shard's lock, which a
/// writer holds only while it replaces one entry in place. That is why readers never wait
/// noticeably, and why no lock can be held across an `.await`.
pub struct StockBook {
    shops: Vec<ShopStock>,
}

struct ShopStock {
    levels: DashMap<Sku, BookEntry, foldhash::fast::RandomState>,
    // The next SkuId. Not `levels.len()`, which would lock every shard.
    next_id: AtomicU32,
}

impl StockBook {
    /// An empty book with a shelf for each shop, each with room for so many SKUs.
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

    /// Every shop, in the configuration's order.
    pub fn shops(&self) -> impl Iterator<Item = ShopId> {
        (0..u16::try_from(self.shops.len()).unwrap_or(u16::MAX)).map(ShopId)
    }

    /// How many SKUs of this shop are known.
    #[must_use]
    pub fn len(&self, shop: ShopId) -> usize {
        self.shop_stock(shop).next_id.load(Ordering::Relaxed) as usize
    }

    /// Nothing is known of this shop: no answer can be given for it.
    #[must_use]
    pub fn is_empty(&self, shop: ShopId) -> bool {
        self.len(shop) == 0
    }

    /// What is known of a SKU, which must be trimmed already.
    #[must_use]
    pub fn get(&self, shop: ShopId, sku: &str) -> Option<BookEntry> {
        self.shop_stock(shop).levels.get(sku).map(|entry| *entry)
    }

    /// What is known of many SKUs, which must be trimmed already, in their order.
    ///
    /// A shard is locked once for all of its SKUs. Were it locked for each, the processor would
    /// have to finish one look-up before it may begin the next; so it fetches them from memory
    /// side by side. That halves the time of a thousand.
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
        reason = "the writing is the point, the answer is news"
    )]
    pub fn apply(&self, shop: ShopId, sku: &Sku, level: Level) -> ApplyOutcome {
        let shop_stock = self.shop_stock(shop);
        // A known SKU, by far the usual case, is replaced without copying its text.
        if let Some(mut entry) = shop_stock.levels.get_mut(sku.as_str()) {
            return replace(&mut entry, level);
        }
        shop_stock.insert(sku.clone(), level).0
    }

    /// As [`StockBook::apply`], where SKUs are mostly new, as when a store is read; tells the
    /// SKU's number. Looks up once where `apply` and `get` would three times.
    #[expect(
        clippy::must_use_candidate,
        reason = "the writing is the point, the number is news"
    )]
    pub fn restore(&self, shop: ShopId, sku: Sku, level: Level) -> SkuId {
        self.shop_stock(shop).insert(sku, level).1
    }

    /// Shows every SKU of a shop, in no order, one shard's lock at a time.
    ///
    /// What is written meanwhile may or may not be shown; nothing is shown twice.
    pub fn for_each(&self, shop: ShopId, mut visit: impl FnMut(&Sku, BookEntry)) {
        for slot in &self.shop_stock(shop).levels {
            visit(slot.key(), *slot.value());
        }
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

/// One of many SKUs that are looked up, and the next in the same shard.
struct ShardLookup<'a> {
    sku: &'a str,
    hash: u64,
    next: u32,
}

/// The end of a list of [`Asked`].
const END_OF_LIST: u32 = u32::MAX;

impl fmt::Debug for StockBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.shops().map(|shop| self.len(shop)))
            .finish()
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
    fn an_entry_and_its_key_take_forty_bytes() {
        assert_eq!(size_of::<(Sku, BookEntry)>(), 40);
    }

    #[test]
    fn the_newest_statement_wins_and_between_equals_the_last_to_arrive() {
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
    fn shops_do_not_see_each_other() {
        let book = StockBook::new([0, 0]);
        book.apply(ShopId(1), &Sku::parse("A").unwrap(), level(5, 100));
        assert!(book.is_empty(SHOP));
        assert_eq!(book.get(SHOP, "A"), None);
        assert!(!book.is_empty(ShopId(1)));
    }

    proptest! {
        #[test]
        fn any_order_of_arrival_ends_at_the_newest_statement(
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
        fn many_are_found_as_each_would_be(
            known in prop::collection::vec("[a-d]{1,3}", 1..60),
            asked in prop::collection::vec("[a-d]{0,3}", 0..200),
        ) {
            let book = StockBook::new([0]);
            for (n, text) in (0..).zip(&known) {
                book.restore(SHOP, Sku::parse(text).unwrap(), level(n, n));
            }
            let one_by_one: Vec<_> = asked.iter().map(|sku| book.get(SHOP, sku)).collect();
            let together = book.get_many(SHOP, asked.iter().map(String::as_str));
            prop_assert_eq!(together, one_by_one);
        }

        #[test]
        fn numbers_are_dense_and_never_change(texts in prop::collection::vec("[a-z]{1,2}", 1..60)) {
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

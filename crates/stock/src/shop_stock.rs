//! Stock of one shop: records in pages, and an index over their numbers.
//!
//! The index is a `DashMap` of numbers of four bytes. It hashes the text of a record, and compares
//! a text with that of a record. So a SKU takes a record of 32, 48 or 64 bytes and 6 to 11 bytes of
//! the index.
//!
//! # Locks
//!
//! Every record belongs to one shard of the index, which the hash of its text selects.
//!
//! 1. Count and date of a record are written under the write lock of its shard, and read under its
//!    read lock. So no reader sees the count of one update with the date of another. The atomics only
//!    satisfy the compiler: they are relaxed, and the lock orders them.
//! 2. Text and level of a new record are written before its number is added to the index. So a
//!    thread that finds a number under the lock sees the text. Text and place of a record never
//!    change.
//! 3. Numbers are taken under the mutex of [`super::sku_records`], which is held until the record
//!    is complete. So a walk over the pages sees complete records only.
//! 4. The hours of the activity need no lock. Each is one atomic number, and the flag "not on disk"
//!    is cleared by an atomic operation. The origin of a statement is written before its hour.
//! 5. A writer holds the write lock of one shard. A reader holds the read locks of at most
//!    [`SHARDS_AT_A_TIME`] shards, and takes them in ascending order. A reader that lost its
//!    processor while it holds all locks would stop every writer, and the readers behind them.
//!    The mutex of the numbers is taken last, and nothing is locked under it. So threads
//!    never wait for each other in a circle.
//! 6. No callback runs under a lock, except the one that notes an hour (rule 4).

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, SharedValue};
use foldhash::fast::RandomState;

use super::book::{ApplyOutcome, BookEntry, SkuId};
use super::sku_records::{SkuFacts, SkuRecords};
use super::sku_words::SkuWords;
use super::{Level, Sku};

/// Locks per shop. Independent of the number of cores, so that a shop needs the same memory on
/// every machine.
pub(super) const SHARDS_PER_SHOP: usize = 32;

/// Read locks that a reader holds at once.
pub(super) const SHARDS_AT_A_TIME: usize = 8;

/// Slot of the index: the number of a record.
pub(super) type IndexSlot = (u32, SharedValue<()>);

/// Stock of one shop.
#[derive(Debug)]
pub(super) struct ShopStock {
    // Its keys are numbers, but its hashes are those of texts. So only `shards` and
    // `determine_shard` may be called, and only `get` and `insert` of a shard.
    pub(super) index: DashMap<u32, (), RandomState>,
    pub(super) records: SkuRecords,
    // `index.len()` would lock every shard.
    len: AtomicUsize,
}

impl ShopStock {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            index: DashMap::with_capacity_and_hasher_and_shard_amount(
                capacity,
                RandomState::default(),
                SHARDS_PER_SHOP,
            ),
            records: SkuRecords::new(),
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Returns the shard of a hash.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "any bits of the hash tell the shard, as long as they are always the same"
    )]
    pub(super) fn shard_of(&self, hash: u64) -> usize {
        self.index.determine_shard(hash as usize)
    }

    /// Returns the entry of a SKU, and calls `visit` with its facts, if it is known.
    pub(super) fn get(
        &self,
        words: &SkuWords<'_>,
        visit: impl FnOnce(&SkuFacts),
    ) -> Option<BookEntry> {
        let hash = words.hash(self.index.hasher());
        let table = self.index.shards()[self.shard_of(hash)].read();
        let is_same = |slot: &IndexSlot| self.records.facts_of(slot.0, words).is_some();
        let (number, _) = table.get(hash, is_same)?;
        let facts = self.records.facts(*number)?;
        visit(facts);
        Some(BookEntry::new(*number, facts.level()))
    }

    /// Writes a level unless a newer one is known.
    pub(super) fn apply(&self, sku: &Sku, level: Level) -> (ApplyOutcome, SkuId) {
        let words = SkuWords::of_sku(sku);
        let hash = words.hash(self.index.hasher());
        let mut table = self.index.shards()[self.shard_of(hash)].write();
        let is_same = |slot: &IndexSlot| self.records.facts_of(slot.0, &words).is_some();
        if let Some((number, _)) = table.get(hash, is_same) {
            let outcome = self.replace(*number, level);
            return (outcome, SkuId::from_number(*number));
        }
        let number = self.records.add(&words, hash, level);
        table.insert(hash, (number, SharedValue::new(())), |slot| {
            self.hash_of(slot)
        });
        self.count_added(1);
        (ApplyOutcome::Added, SkuId::from_number(number))
    }

    /// Replaces the level of a record unless it is newer. The caller holds the write lock.
    pub(super) fn replace(&self, number: u32, level: Level) -> ApplyOutcome {
        let Some(facts) = self.records.facts(number) else {
            unreachable!("a number in the index has a record");
        };
        let outcome = ApplyOutcome::classify(Some(facts.level()), level);
        if outcome.is_change() {
            facts.set_level(level);
        }
        outcome
    }

    /// Returns the hash of the text to which a slot belongs.
    pub(super) fn hash_of(&self, slot: &IndexSlot) -> u64 {
        self.records.hash(slot.0, self.index.hasher())
    }

    pub(super) fn count_added(&self, added: usize) {
        self.len.fetch_add(added, Ordering::Relaxed);
    }

    /// Calls `visit` with each SKU and its entry, in the order of the numbers. `visit` runs without
    /// a lock.
    pub(super) fn try_for_each<B>(
        &self,
        mut visit: impl FnMut(&Sku, BookEntry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.records.try_for_each(|number, words, facts| {
            let hash = words.hash(self.index.hasher());
            let lock = self.index.shards()[self.shard_of(hash)].read();
            let level = facts.level();
            drop(lock);
            visit(&words.to_sku(), BookEntry::new(number, level))
        })
    }
}

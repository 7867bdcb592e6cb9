//! Update of many SKUs at once.
//!
//! The updates are grouped by shard, and each shard is locked once for a block of them. As in a
//! look-up of many SKUs, the cache misses of a block overlap. The effect of each update is the same
//! as one by one: updates of one SKU are in one shard, and keep their order there.

use std::hint::black_box;

use dashmap::SharedValue;

use super::book::{ApplyOutcome, SkuId};
use super::shop_stock::{IndexSlot, SHARDS_PER_SHOP, ShopStock};
use super::sku_words::SkuWords;
use super::{Level, Sku};

/// Updates that are grouped at once, so that the groups stay in the cache.
const PIECE_LENGTH: usize = 1024;

/// Updates under one lock: about 10 µs, for which readers of the shard may wait.
const BLOCK_LENGTH: usize = 64;

/// Update of one SKU.
struct RowUpdate<'a> {
    words: SkuWords<'a>,
    hash: u64,
    level: Level,
    /// Position in the result.
    position: usize,
}

impl ShopStock {
    /// Writes each level unless a newer one is known, and returns the effects and the numbers in
    /// the same order.
    pub(super) fn apply_all(&self, rows: &[(Sku, Level)]) -> Vec<(ApplyOutcome, SkuId)> {
        let mut outcomes = vec![(ApplyOutcome::Outdated, SkuId::from_number(0)); rows.len()];
        for (rows, outcomes) in rows
            .chunks(PIECE_LENGTH)
            .zip(outcomes.chunks_mut(PIECE_LENGTH))
        {
            let mut by_shard: [Vec<RowUpdate<'_>>; SHARDS_PER_SHOP] = Default::default();
            for (position, (sku, level)) in rows.iter().enumerate() {
                let words = SkuWords::of_sku(sku);
                let hash = words.hash(self.index.hasher());
                by_shard[self.shard_of(hash)].push(RowUpdate {
                    words,
                    hash,
                    level: *level,
                    position,
                });
            }
            for (shard, updates) in by_shard.iter().enumerate() {
                for block in updates.chunks(BLOCK_LENGTH) {
                    self.apply_block(shard, block, outcomes);
                }
            }
        }
        outcomes
    }

    fn apply_block(
        &self,
        shard: usize,
        block: &[RowUpdate<'_>],
        outcomes: &mut [(ApplyOutcome, SkuId)],
    ) {
        let mut table = self.index.shards()[shard].write();
        let mut slots = [None; BLOCK_LENGTH];
        for (update, slot) in block.iter().zip(&mut slots) {
            *slot = table.get(update.hash, |_| true);
        }
        let candidates = slots.map(|slot| slot.map(|(number, _)| *number));
        let touched = candidates
            .iter()
            .flatten()
            .map(|number| self.records.touch(*number))
            .fold(0, |all, word| all ^ word);
        black_box(touched);
        let mut added = 0;
        for (update, candidate) in block.iter().zip(candidates) {
            let is_same = |number: u32| self.records.facts_of(number, &update.words).is_some();
            let known = candidate.filter(|number| is_same(*number)).or_else(|| {
                // Another SKU with the same tag, or one that this block has added.
                let slot = table.get(update.hash, |slot: &IndexSlot| is_same(slot.0));
                slot.map(|(number, _)| *number)
            });
            let (outcome, number) = if let Some(number) = known {
                (self.replace(number, update.level), number)
            } else {
                let number = self.records.add(&update.words, update.hash, update.level);
                let slot = (number, SharedValue::new(()));
                table.insert(update.hash, slot, |slot| self.hash_of(slot));
                added += 1;
                (ApplyOutcome::Added, number)
            };
            outcomes[update.position] = (outcome, SkuId::from_number(number));
        }
        self.count_added(added);
    }
}

//! Look-up of many SKUs at once.
//!
//! A look-up misses the cache three times: for the control bytes of the index, for the number, and
//! for the record. One after the other they would take most of the time of a request. So a block of
//! look-ups goes through three loops, one for each miss, in which the misses overlap. Short,
//! medium and long SKUs are in separate blocks, because a branch on the length would be predicted
//! wrongly in each loop.

use std::hint::black_box;

use super::book::BookEntry;
use super::shop_stock::{IndexSlot, SHARDS_AT_A_TIME, SHARDS_PER_SHOP, ShopStock};
use super::sku_records::{RecordPages, SkuFacts, SkuRecord};
use super::sku_words::{LONG_WORDS, MEDIUM_WORDS, SHORT_WORDS, SkuWords, hash_words};

/// Groups of shards whose read locks are held together.
const GROUPS: usize = SHARDS_PER_SHOP / SHARDS_AT_A_TIME;

/// Look-ups in a block: enough to have several misses at once, few enough for the nearest cache.
const BLOCK_LENGTH: usize = 128;

/// Look-up of one SKU.
struct SkuLookup<const N: usize> {
    words: [u64; N],
    hash: u64,
    /// Position in the result.
    position: usize,
}

/// Look-ups of SKUs of one length in one group of shards.
type LookupBlock<const N: usize> = Vec<SkuLookup<N>>;

/// Look-ups in one group of shards.
struct LookupGroup {
    short: LookupBlock<SHORT_WORDS>,
    medium: LookupBlock<MEDIUM_WORDS>,
    long: LookupBlock<LONG_WORDS>,
}

impl ShopStock {
    /// Returns the entries of trimmed texts, in their order, and calls `visit` with the facts of
    /// each that is known.
    pub(super) fn get_many<'a>(
        &self,
        texts: impl ExactSizeIterator<Item = &'a str>,
        visit: impl Fn(&SkuFacts),
    ) -> Vec<Option<BookEntry>> {
        let mut found = vec![None; texts.len()];
        let capacity = texts.len().div_ceil(GROUPS).min(BLOCK_LENGTH);
        let mut groups: [LookupGroup; GROUPS] = std::array::from_fn(|_| LookupGroup {
            short: Vec::with_capacity(capacity),
            medium: Vec::with_capacity(capacity),
            long: Vec::new(),
        });
        for (position, text) in texts.enumerate() {
            let full = match SkuWords::of(text) {
                Some(SkuWords::Short(words)) => {
                    self.add_to_block(words, position, &mut groups, |group| &mut group.short)
                }
                Some(SkuWords::Medium(words)) => {
                    self.add_to_block(words, position, &mut groups, |group| &mut group.medium)
                }
                Some(SkuWords::Long(words)) => {
                    self.add_to_block(words, position, &mut groups, |group| &mut group.long)
                }
                Some(words @ SkuWords::VeryLong(_)) => {
                    found[position] = self.get(&words, &visit);
                    None
                }
                None => None,
            };
            if let Some(number) = full {
                self.look_up_group(number, &mut groups[number], &mut found, &visit);
            }
        }
        for (number, group) in groups.iter_mut().enumerate() {
            self.look_up_group(number, group, &mut found, &visit);
        }
        found
    }

    /// Adds a look-up to its block. Returns the number of the group if the block is full.
    #[inline]
    fn add_to_block<const N: usize>(
        &self,
        words: [u64; N],
        position: usize,
        groups: &mut [LookupGroup; GROUPS],
        block_of: impl Fn(&mut LookupGroup) -> &mut LookupBlock<N>,
    ) -> Option<usize> {
        let hash = hash_words(self.index.hasher(), &words);
        let number = self.group_of(hash);
        let block = block_of(&mut groups[number]);
        block.push(SkuLookup {
            words,
            hash,
            position,
        });
        (block.len() == BLOCK_LENGTH).then_some(number)
    }

    #[inline]
    fn group_of(&self, hash: u64) -> usize {
        // The remainder changes nothing. It shows the compiler that the number is an index.
        self.shard_of(hash) / SHARDS_AT_A_TIME % GROUPS
    }

    fn look_up_group(
        &self,
        number: usize,
        group: &mut LookupGroup,
        found: &mut [Option<BookEntry>],
        visit: &impl Fn(&SkuFacts),
    ) {
        if group.short.is_empty() && group.medium.is_empty() && group.long.is_empty() {
            return;
        }
        let start = number * SHARDS_AT_A_TIME;
        let shards = self.index.shards();
        let tables: [_; SHARDS_AT_A_TIME] = std::array::from_fn(|n| shards[start + n].read());
        let table_of = |hash| &tables[self.shard_of(hash) % SHARDS_AT_A_TIME];
        let first = |hash| table_of(hash).get(hash, |_| true);
        let exact = |hash, is_same: IsSameSlot<'_>| table_of(hash).get(hash, is_same);
        let records = &self.records;
        look_up_block(&group.short, &records.short, first, exact, found, visit);
        look_up_block(&group.medium, &records.medium, first, exact, found, visit);
        look_up_block(&group.long, &records.long, first, exact, found, visit);
        drop(tables);
        group.short.clear();
        group.medium.clear();
        group.long.clear();
    }
}

/// Comparison of a slot's record with a text.
type IsSameSlot<'a> = &'a dyn Fn(&IndexSlot) -> bool;

/// Looks a block up. `first_candidate` returns the first slot whose tag equals that of the hash,
/// which is the right one nearly always; `exact` compares the text too.
fn look_up_block<'a, const N: usize>(
    block: &[SkuLookup<N>],
    pages: &'a RecordPages<SkuRecord<N>>,
    first_candidate: impl Fn(u64) -> Option<&'a IndexSlot>,
    exact: impl Fn(u64, IsSameSlot<'_>) -> Option<&'a IndexSlot>,
    found: &mut [Option<BookEntry>],
    visit: &impl Fn(&SkuFacts),
) {
    if block.is_empty() {
        return;
    }
    let mut slots = [None; BLOCK_LENGTH];
    for (lookup, slot) in block.iter().zip(&mut slots) {
        *slot = first_candidate(lookup.hash);
    }
    let slots = &slots[..block.len()];
    let mut records = [None; BLOCK_LENGTH];
    for (slot, record) in slots.iter().zip(&mut records) {
        *record = slot.and_then(|slot| pages.get(slot.0));
    }
    let records = &records[..block.len()];
    let touched = records
        .iter()
        .map(|record| record.map_or(0, SkuRecord::touch))
        .fold(0, |all, word| all ^ word);
    black_box(touched);
    for ((lookup, slot), record) in block.iter().zip(slots).zip(records) {
        let candidate = slot.zip(*record);
        let known = candidate.filter(|(_, record)| record.has_words(&lookup.words));
        let known = known.or_else(|| {
            // Another SKU with the same tag: about one look-up in twenty.
            let _another = (*slot)?;
            let is_same = |slot: &IndexSlot| pages.facts_with(slot.0, &lookup.words).is_some();
            let slot = exact(lookup.hash, &is_same)?;
            Some((slot, pages.get(slot.0)?))
        });
        if let Some((slot, record)) = known {
            visit(&record.facts);
            found[lookup.position] = Some(BookEntry::new(slot.0, record.facts.level()));
        }
    }
}

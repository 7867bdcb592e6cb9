//! Look-up of many SKUs at once.
//!
//! A look-up misses the cache three times: for the control bytes of the index, for the number, and
//! for the record. One after the other they would take most of the time of a request. So a block of
//! look-ups goes through three loops, one for each miss, in which the misses overlap. Short,
//! medium and long SKUs are in separate blocks, because a branch on the length would be predicted
//! wrongly in each loop. For the same reason the choice between short and medium, which are most
//! SKUs, is an index and not a branch.

use std::hint::black_box;

use super::TextInBuffer;
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
    /// Padded with zeros.
    words: [u64; N],
    hash: u64,
    /// Position in the result.
    position: usize,
}

/// Look-ups of SKUs of one length in one group of shards.
type LookupBlock<const N: usize> = Vec<SkuLookup<N>>;

/// Look-ups in one group of shards.
struct LookupGroup {
    /// Look-ups of short SKUs, and of medium ones.
    usual: [LookupBlock<MEDIUM_WORDS>; 2],
    long: LookupBlock<LONG_WORDS>,
}

impl LookupGroup {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            usual: std::array::from_fn(|_| Vec::with_capacity(capacity)),
            long: Vec::new(),
        }
    }
}

/// Look-ups of one call that are not done yet.
type LookupGroups = [LookupGroup; GROUPS];

impl ShopStock {
    /// Returns the entries of trimmed texts, in their order, and calls `visit` with the facts of
    /// each that is known.
    pub(super) fn get_many<'a>(
        &self,
        texts: impl ExactSizeIterator<Item = TextInBuffer<'a>>,
        visit: impl Fn(&SkuFacts),
    ) -> Vec<Option<BookEntry>> {
        let mut found = vec![None; texts.len()];
        let capacity = texts.len().div_ceil(GROUPS).min(BLOCK_LENGTH);
        let mut groups = std::array::from_fn(|_| LookupGroup::with_capacity(capacity));
        for (position, text) in texts.enumerate() {
            let full = if let Some(words) = text.medium_words() {
                // 0 for a short SKU, 1 for a medium one.
                let length = (text.text.len() - 1) / (8 * SHORT_WORDS) % 2;
                self.add_to_block(words, position, &mut groups, |group| {
                    &mut group.usual[length]
                })
            } else {
                self.add_unusual(text.text, position, &mut groups, &mut found, &visit)
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
        groups: &mut LookupGroups,
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

    /// Adds a look-up of a text that is neither short nor medium. If it is not long either, its entry
    /// is found at once.
    // Inlined, it would take registers from the loop.
    #[inline(never)]
    fn add_unusual(
        &self,
        text: &str,
        position: usize,
        groups: &mut LookupGroups,
        found: &mut [Option<BookEntry>],
        visit: &impl Fn(&SkuFacts),
    ) -> Option<usize> {
        let words = SkuWords::of(text)?;
        if let SkuWords::Long(words) = words {
            return self.add_to_block(words, position, groups, |group| &mut group.long);
        }
        found[position] = self.get(&words, visit);
        None
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
        let LookupGroup {
            usual: [short, medium],
            long,
        } = group;
        if short.is_empty() && medium.is_empty() && long.is_empty() {
            return;
        }
        let start = number * SHARDS_AT_A_TIME;
        let shards = self.index.shards();
        let tables: [_; SHARDS_AT_A_TIME] = std::array::from_fn(|n| shards[start + n].read());
        let table_of = |hash| &tables[self.shard_of(hash) % SHARDS_AT_A_TIME];
        let first = |hash| table_of(hash).get(hash, |_| true);
        let exact = |hash, is_same: IsSameSlot<'_>| table_of(hash).get(hash, is_same);
        let records = &self.records;
        look_up_block(short, &records.short, first, exact, found, visit);
        look_up_block(medium, &records.medium, first, exact, found, visit);
        look_up_block(long, &records.long, first, exact, found, visit);
        drop(tables);
        short.clear();
        medium.clear();
        long.clear();
    }
}

/// Comparison of a slot's record with a text.
type IsSameSlot<'a> = &'a dyn Fn(&IndexSlot) -> bool;

/// Looks a block up. `first_candidate` returns the first slot whose tag equals that of the hash,
/// which is the right one nearly always; `exact` compares the text too. `W` is at least `N`.
fn look_up_block<'a, const N: usize, const W: usize>(
    block: &[SkuLookup<W>],
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
        // Those behind them are padding.
        let words = lookup.words.first_chunk().expect("W is at least N");
        let candidate = slot.zip(*record);
        let known = candidate.filter(|(_, record)| record.has_words(words));
        // The first slot is that of another SKU with the same tag: about one look-up in twenty.
        let known =
            known.or_else(|| slot.and_then(|_| look_up_exactly(lookup.hash, words, pages, &exact)));
        if let Some((slot, record)) = known {
            visit(&record.facts);
            found[lookup.position] = Some(BookEntry::new(slot.0, record.facts.level()));
        }
    }
}

/// Looks a SKU up by its text.
// Inlined, it would take registers from the loop.
#[inline(never)]
fn look_up_exactly<'a, const N: usize>(
    hash: u64,
    words: &[u64; N],
    pages: &'a RecordPages<SkuRecord<N>>,
    exact: impl Fn(u64, IsSameSlot<'_>) -> Option<&'a IndexSlot>,
) -> Option<(&'a IndexSlot, &'a SkuRecord<N>)> {
    let is_same = |slot: &IndexSlot| pages.facts_with(slot.0, words).is_some();
    let slot = exact(hash, &is_same)?;
    Some((slot, pages.get(slot.0)?))
}

//! Records of SKUs, in pages that never move.
//!
//! A record is 32 bytes for a text of up to 16 bytes, 48 for one of up to 32 bytes, else 64. Half of
//! those of 48 bytes lie in two cache lines; the others never do. The number of a record tells its
//! page and its place in it. A page has records of one length.
//! [`super::shop_stock`] states which locks protect what.

use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::sku_words::{LONG_WORDS, MEDIUM_WORDS, SHORT_WORDS, SkuWords, hash_words};
use super::{Count, Level, Timestamp};

/// Records per page.
const PAGE_LENGTH: usize = 1024;

/// Pages in the first segment of a page table. Each further segment has twice as many.
const FIRST_SEGMENT: usize = 16;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Segments of a page table: enough for the pages of all numbers of 32 bits.
const SEGMENTS: usize = 19;

/// Level and activity of a SKU: the part of its record that changes.
#[derive(Debug, Default)]
pub(super) struct SkuFacts {
    updated_at: AtomicI64,
    count: AtomicU32,
    /// [`super::packed_activity::PackedHour`] of the last request for the first warehouse.
    pub(super) requested: AtomicU16,
    /// [`super::packed_activity::PackedHour`] of the last statement.
    pub(super) stated: AtomicU16,
}

impl SkuFacts {
    /// Returns the level. The caller holds a lock of the shard.
    #[inline]
    pub(super) fn level(&self) -> Level {
        Level {
            count: Count(self.count.load(Ordering::Relaxed)),
            updated_at: Timestamp(self.updated_at.load(Ordering::Relaxed)),
        }
    }

    /// Sets the level. The caller holds the write lock of the shard.
    pub(super) fn set_level(&self, level: Level) {
        self.count.store(level.count.get(), Ordering::Relaxed);
        self.updated_at
            .store(level.updated_at.as_micros(), Ordering::Relaxed);
    }
}

/// Record with a text of up to `N` words.
///
/// A text of more than 48 bytes has a long record. Its first word is 0, which no text begins with.
/// The second word is the hash, and the third one the number of the text in [`SkuRecords::texts`].
#[derive(Debug)]
// In this order, because `touch` loads the beginning of the text and the end of the facts.
#[repr(C)]
pub(super) struct SkuRecord<const N: usize> {
    text: [AtomicU64; N],
    pub(super) facts: SkuFacts,
}

impl<const N: usize> SkuRecord<N> {
    /// Returns true if the record has this text.
    #[inline]
    pub(super) fn has_words(&self, words: &[u64; N]) -> bool {
        let differs = |(known, word): (&AtomicU64, &u64)| known.load(Ordering::Relaxed) ^ word;
        self.text
            .iter()
            .zip(words)
            .map(differs)
            .fold(0, |all, bits| all | bits)
            == 0
    }

    /// Loads the record into the cache. The result only keeps the compiler from removing the load.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        let first = self.text[0].load(Ordering::Relaxed);
        if LINE_BYTES.is_multiple_of(size_of::<Self>()) {
            return first;
        }
        // The end may lie in the next cache line.
        first ^ u64::from(self.facts.count.load(Ordering::Relaxed))
    }

    fn words(&self) -> [u64; N] {
        std::array::from_fn(|number| self.text[number].load(Ordering::Relaxed))
    }

    fn set_words(&self, words: &[u64; N]) {
        for (place, word) in self.text.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
    }
}

impl<const N: usize> Default for SkuRecord<N> {
    fn default() -> Self {
        Self {
            text: std::array::from_fn(|_| AtomicU64::new(0)),
            facts: SkuFacts::default(),
        }
    }
}

// The alignment, that of a cache line, keeps every record of 32 or 64 bytes in one line.
#[derive(Debug)]
#[repr(align(64))]
struct RecordPage<T>([T; PAGE_LENGTH]);

type PageSegment<T> = Box<[OnceLock<Box<RecordPage<T>>>]>;

/// Table of pages, read without a lock.
#[derive(Debug)]
pub(super) struct RecordPages<T> {
    segments: [OnceLock<PageSegment<T>>; SEGMENTS],
}

impl<T: Default> RecordPages<T> {
    fn new() -> Self {
        Self {
            segments: [const { OnceLock::new() }; SEGMENTS],
        }
    }

    /// Returns the record of a number, if its page is in this table.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        let page = self.page(number / PAGE_LENGTH)?;
        Some(&page.0[number % PAGE_LENGTH])
    }

    #[inline]
    fn page(&self, page: usize) -> Option<&RecordPage<T>> {
        let (segment, place) = segment_of(page);
        let pages = self.segments.get(segment)?.get()?;
        pages.get(place)?.get().map(|page| &**page)
    }

    fn create(&self, page: usize) {
        let (segment, place) = segment_of(page);
        let empty = || {
            (0..FIRST_SEGMENT << segment)
                .map(|_| OnceLock::new())
                .collect()
        };
        let pages = self.segments[segment].get_or_init(empty);
        pages[place].get_or_init(|| Box::new(RecordPage(std::array::from_fn(|_| T::default()))));
    }
}

impl<const N: usize> RecordPages<SkuRecord<N>> {
    /// Returns the facts of a record if it has this text.
    pub(super) fn facts_with(&self, number: u32, words: &[u64; N]) -> Option<&SkuFacts> {
        let record = self.get(number)?;
        record.has_words(words).then_some(&record.facts)
    }

    /// Takes the next number and writes the text of its record.
    fn add(
        &self,
        open_page: &mut OpenPage,
        next_page: &mut usize,
        words: &[u64; N],
    ) -> (u32, &SkuFacts) {
        let number = open_page.take(next_page, self);
        let record = self.get(number).expect(PAGE_EXISTS);
        record.set_words(words);
        (number, &record.facts)
    }
}

#[inline]
fn segment_of(page: usize) -> (usize, usize) {
    let shifted = page + FIRST_SEGMENT;
    let segment = (shifted.ilog2() - FIRST_SEGMENT.ilog2()) as usize;
    (segment, shifted - (FIRST_SEGMENT << segment))
}

fn number_of(page: usize, place: usize) -> u32 {
    u32::try_from(page * PAGE_LENGTH + place).expect("a shop has fewer than 4 billion SKUs")
}

const PAGE_EXISTS: &str = "the page of a number is created before the number is used";

/// Page that is being filled.
#[derive(Clone, Copy, Debug)]
struct OpenPage {
    page: usize,
    used: usize,
}

impl OpenPage {
    /// No page: the first record takes a new one.
    const NONE: Self = Self {
        page: usize::MAX,
        used: PAGE_LENGTH,
    };

    /// Takes the next number, of a new page if this one is full.
    fn take<T: Default>(&mut self, next_page: &mut usize, pages: &RecordPages<T>) -> u32 {
        if self.used == PAGE_LENGTH {
            pages.create(*next_page);
            *self = Self {
                page: *next_page,
                used: 0,
            };
            *next_page += 1;
        }
        let number = number_of(self.page, self.used);
        self.used += 1;
        number
    }

    /// Returns the number of records in `page` that are complete.
    fn used_of(self, page: usize) -> usize {
        if page == self.page {
            self.used
        } else {
            PAGE_LENGTH
        }
    }
}

/// Numbers that are not in use yet.
#[derive(Clone, Copy, Debug)]
struct NextNumbers {
    page: usize,
    short: OpenPage,
    medium: OpenPage,
    long: OpenPage,
    text: u32,
}

/// All records of a shop.
#[derive(Debug)]
pub(super) struct SkuRecords {
    pub(super) short: RecordPages<SkuRecord<SHORT_WORDS>>,
    pub(super) medium: RecordPages<SkuRecord<MEDIUM_WORDS>>,
    pub(super) long: RecordPages<SkuRecord<LONG_WORDS>>,
    // Texts of more than 48 bytes.
    texts: RecordPages<OnceLock<Box<str>>>,
    next: Mutex<NextNumbers>,
}

impl SkuRecords {
    pub(super) fn new() -> Self {
        Self {
            short: RecordPages::new(),
            medium: RecordPages::new(),
            long: RecordPages::new(),
            texts: RecordPages::new(),
            next: Mutex::new(NextNumbers {
                page: 0,
                short: OpenPage::NONE,
                medium: OpenPage::NONE,
                long: OpenPage::NONE,
                text: 0,
            }),
        }
    }

    /// Returns the facts of a record.
    pub(super) fn facts(&self, number: u32) -> Option<&SkuFacts> {
        let short = || self.short.get(number).map(|record| &record.facts);
        let medium = || self.medium.get(number).map(|record| &record.facts);
        let long = || self.long.get(number).map(|record| &record.facts);
        short().or_else(medium).or_else(long)
    }

    /// Loads a record into the cache. The result only keeps the compiler from removing the load.
    pub(super) fn touch(&self, number: u32) -> u64 {
        let short = || self.short.get(number).map(SkuRecord::touch);
        let medium = || self.medium.get(number).map(SkuRecord::touch);
        let long = || self.long.get(number).map(SkuRecord::touch);
        short().or_else(medium).or_else(long).unwrap_or(0)
    }

    /// Returns the facts of a record if it has this text.
    pub(super) fn facts_of(&self, number: u32, words: &SkuWords<'_>) -> Option<&SkuFacts> {
        match words {
            SkuWords::Short(words) => self.short.facts_with(number, words),
            SkuWords::Medium(words) => self.medium.facts_with(number, words),
            SkuWords::Long(words) => self.long.facts_with(number, words),
            SkuWords::VeryLong(text) => {
                let record = self.long.get(number)?;
                let is_same = self.very_long(&record.words()) == Some(*text);
                is_same.then_some(&record.facts)
            }
        }
    }

    /// Returns the hash of a record's text.
    pub(super) fn hash(&self, number: u32, state: &RandomState) -> u64 {
        if let Some(record) = self.short.get(number) {
            return hash_words(state, &record.words());
        }
        if let Some(record) = self.medium.get(number) {
            return hash_words(state, &record.words());
        }
        match self.long.get(number).map(SkuRecord::words) {
            Some([0, hash, ..]) => hash,
            Some(words) => hash_words(state, &words),
            None => 0,
        }
    }

    /// Takes a new number and writes its record. The caller holds the write lock of the shard.
    pub(super) fn add(&self, words: &SkuWords<'_>, hash: u64, level: Level) -> u32 {
        let mut next = self.next.lock();
        let NextNumbers {
            page,
            short,
            medium,
            long,
            text: next_text,
        } = &mut *next;
        let (number, facts) = match words {
            SkuWords::Short(words) => self.short.add(short, page, words),
            SkuWords::Medium(words) => self.medium.add(medium, page, words),
            SkuWords::Long(words) => self.long.add(long, page, words),
            SkuWords::VeryLong(text) => {
                let text = self.add_text(next_text, text).into();
                self.long.add(long, page, &[0, hash, text, 0, 0, 0])
            }
        };
        facts.set_level(level);
        number
    }

    fn add_text(&self, next: &mut u32, text: &str) -> u32 {
        let number = *next;
        self.texts.create(number as usize / PAGE_LENGTH);
        let place = self.texts.get(number).expect(PAGE_EXISTS);
        place.get_or_init(|| text.into());
        *next += 1;
        number
    }

    /// Returns the text of a record of more than 48 bytes.
    fn very_long(&self, words: &[u64; LONG_WORDS]) -> Option<&str> {
        let [0, _hash, number, ..] = words else {
            return None;
        };
        let text = self.texts.get(u32::try_from(*number).ok()?)?.get()?;
        Some(text)
    }

    /// Calls `visit` with each number, the text and the facts of its record, in the order of the
    /// numbers. Records that are added meanwhile are not visited.
    pub(super) fn try_for_each<B>(
        &self,
        mut visit: impl FnMut(u32, SkuWords<'_>, &SkuFacts) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        // A number that was taken before this lock has a complete record.
        let next = *self.next.lock();
        for page in 0..next.page {
            if let Some(records) = self.short.page(page) {
                let used = next.short.used_of(page);
                visit_page(page, &records.0[..used], SkuWords::Short, &mut visit)?;
            } else if let Some(records) = self.medium.page(page) {
                let used = next.medium.used_of(page);
                visit_page(page, &records.0[..used], SkuWords::Medium, &mut visit)?;
            } else if let Some(records) = self.long.page(page) {
                let used = next.long.used_of(page);
                let words_of = |words| {
                    let very_long = self.very_long(&words);
                    very_long.map_or(SkuWords::Long(words), SkuWords::VeryLong)
                };
                visit_page(page, &records.0[..used], words_of, &mut visit)?;
            }
        }
        ControlFlow::Continue(())
    }
}

fn visit_page<'a, const N: usize, B>(
    page: usize,
    records: &[SkuRecord<N>],
    words_of: impl Fn([u64; N]) -> SkuWords<'a>,
    visit: &mut impl FnMut(u32, SkuWords<'_>, &SkuFacts) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut numbered = (0..).zip(records);
    numbered.try_for_each(|(place, record)| {
        let number = number_of(page, place);
        visit(number, words_of(record.words()), &record.facts)
    })
}

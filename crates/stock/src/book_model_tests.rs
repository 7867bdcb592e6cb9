//! The book against a plain map, and under several threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::{
    Activity, ApplyOutcome, BookEntry, Count, Hour, LastStated, Level, ShopId, Sku, StockBook,
    Timestamp,
};

const SHOP: ShopId = ShopId(0);

fn level(count: u32, micros: i64) -> Level {
    Level {
        count: Count::try_from(i64::from(count)).unwrap(),
        updated_at: Timestamp::from_micros(micros).unwrap(),
    }
}

fn sku(text: &str) -> Sku {
    Sku::parse(text).unwrap()
}

/// Texts around the limits of words and records, a few of each length, and any others.
fn text() -> impl Strategy<Value = String> {
    let bytes = prop::sample::select(vec![
        1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 25, 32, 33, 47, 48, 49, 255,
    ]);
    let limit = (bytes, prop::sample::select(vec!['A', 'Б']), 0_u32..3);
    prop_oneof![
        8 => limit.prop_map(|(bytes, letter, number): (usize, char, u32)| {
            let mut text = number.to_string();
            while text.len() + letter.len_utf8() <= bytes {
                text.insert(0, letter);
            }
            text
        }),
        1 => "[!-~а-я]{1,255}",
        1 => "[а-я]{255}",
    ]
}

#[derive(Clone, Debug)]
enum BookOperation {
    Apply(String, Level),
    ApplyAll(Vec<(String, Level)>),
    Restore(String, Level),
    GetMany(Vec<String>),
    Request(Vec<String>, usize, u16),
    State(String, u16, u8),
    TakeUnsaved,
    ForEach,
    StopEarly(usize),
}

fn operation() -> impl Strategy<Value = BookOperation> {
    let row = || {
        (
            text(),
            (0_u32..3, 0_i64..4).prop_map(|(count, at)| level(count, at)),
        )
    };
    prop_oneof![
        row().prop_map(|(text, level)| BookOperation::Apply(text, level)),
        prop::collection::vec(row(), 0..60).prop_map(BookOperation::ApplyAll),
        row().prop_map(|(text, level)| BookOperation::Restore(text, level)),
        prop::collection::vec(text(), 0..80).prop_map(BookOperation::GetMany),
        (prop::collection::vec(text(), 0..30), 0_usize..3, 0_u16..40)
            .prop_map(|(texts, warehouse, hour)| BookOperation::Request(texts, warehouse, hour)),
        (text(), 0_u16..40, any::<u8>())
            .prop_map(|(text, hour, origin)| BookOperation::State(text, hour, origin)),
        Just(BookOperation::TakeUnsaved),
        Just(BookOperation::ForEach),
        (0_usize..20).prop_map(BookOperation::StopEarly),
    ]
}

/// Book, activity, and the maps that say what they must have.
struct ModelledBook {
    book: StockBook,
    activity: Activity,
    levels: BTreeMap<String, Level>,
    ids: BTreeMap<String, usize>,
    requested: BTreeMap<(String, usize), u16>,
    stated: BTreeMap<String, (u16, u8)>,
    unsaved: BTreeSet<String>,
}

impl ModelledBook {
    fn new() -> Self {
        // The other shop must stay empty.
        let book = StockBook::new([0, 0]);
        Self {
            activity: Activity::new(&book, vec![vec![70, 80], vec![70]]),
            book,
            levels: BTreeMap::new(),
            ids: BTreeMap::new(),
            requested: BTreeMap::new(),
            stated: BTreeMap::new(),
            unsaved: BTreeSet::new(),
        }
    }

    fn apply_to_model(&mut self, text: &str, level: Level) -> ApplyOutcome {
        match self.levels.get(text).copied() {
            None => {
                self.levels.insert(text.to_owned(), level);
                ApplyOutcome::Added
            }
            Some(known) if known == level => ApplyOutcome::Repeated,
            Some(known) if known.updated_at > level.updated_at => ApplyOutcome::Outdated,
            Some(_) => {
                self.levels.insert(text.to_owned(), level);
                ApplyOutcome::Replaced
            }
        }
    }

    fn run(&mut self, operation: BookOperation) {
        match operation {
            BookOperation::Apply(text, level) => {
                let expected = self.apply_to_model(&text, level);
                assert_eq!(self.book.apply(SHOP, &sku(&text), level), expected);
            }
            BookOperation::ApplyAll(rows) => {
                let applied = rows
                    .iter()
                    .map(|(text, level)| self.apply_to_model(text, *level));
                let expected: Vec<_> = applied.collect();
                let rows: Vec<_> = rows
                    .iter()
                    .map(|(text, level)| (sku(text), *level))
                    .collect();
                assert_eq!(self.book.apply_all(SHOP, &rows), expected);
                let ids = self.book.restore_all(SHOP, &rows);
                for ((sku, _), id) in rows.iter().zip(ids) {
                    assert_eq!(
                        self.book.get(SHOP, sku.as_str()).map(BookEntry::id),
                        Some(id)
                    );
                }
                rows.iter().for_each(|(sku, level)| {
                    self.apply_to_model(sku.as_str(), *level);
                });
            }
            BookOperation::Restore(text, level) => {
                self.apply_to_model(&text, level);
                let id = self.book.restore(SHOP, &sku(&text), level);
                assert_eq!(self.book.get(SHOP, &text).map(BookEntry::id), Some(id));
            }
            BookOperation::GetMany(texts) => {
                let entries = self.book.get_many(SHOP, texts.iter().map(String::as_str));
                self.check_entries(&texts, &entries);
            }
            BookOperation::Request(texts, warehouse, hour) => self.request(&texts, warehouse, hour),
            BookOperation::State(text, hour, origin) => self.state(&text, hour, origin),
            BookOperation::TakeUnsaved => {
                let taken = self.activity.take_unsaved(SHOP);
                let taken: BTreeSet<_> = taken.iter().map(|(sku, _)| sku.to_string()).collect();
                assert_eq!(taken, std::mem::take(&mut self.unsaved));
            }
            BookOperation::ForEach => self.check_walk(),
            BookOperation::StopEarly(limit) => {
                let mut visited = 0;
                let stopped = self.book.try_for_each(SHOP, |_, _| {
                    visited += 1;
                    if visited > limit {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                assert_eq!(stopped.is_break(), self.levels.len() > limit);
                assert_eq!(visited, self.levels.len().min(limit + 1));
            }
        }
    }

    fn request(&mut self, texts: &[String], warehouse: usize, hour: u16) {
        let skus = texts.iter().map(String::as_str);
        let entries = self
            .activity
            .get_requested(SHOP, warehouse, skus, Hour(hour));
        self.check_entries(texts, &entries);
        for text in texts {
            if warehouse >= 2 || !self.levels.contains_key(text) {
                continue;
            }
            let key = (text.clone(), warehouse);
            let known = self.requested.get(&key).copied();
            if advances(known, hour) {
                self.requested.insert(key, hour);
                self.note_unsaved(text, known, hour);
            }
        }
    }

    /// Activity is written to disk twice a day.
    fn note_unsaved(&mut self, text: &str, known: Option<u16>, hour: u16) {
        if known.is_none_or(|known| known / 12 != hour / 12) {
            self.unsaved.insert(text.to_owned());
        }
    }

    fn state(&mut self, text: &str, hour: u16, origin: u8) {
        let Some(entry) = self.book.get(SHOP, text) else {
            return;
        };
        let stated = LastStated {
            hour: Hour(hour),
            origin,
        };
        self.activity
            .record_stated(SHOP, std::iter::once(entry.id()), stated);
        let known = self.stated.get(text).map(|(known, _)| *known);
        if advances(known, hour) || known == Some(hour) {
            self.stated.insert(text.to_owned(), (hour, origin));
            self.note_unsaved(text, known, hour);
        }
    }

    fn check_entries(&mut self, texts: &[String], entries: &[Option<BookEntry>]) {
        assert_eq!(texts.len(), entries.len());
        for (text, entry) in texts.iter().zip(entries) {
            assert_eq!(
                entry.map(BookEntry::level),
                self.levels.get(text).copied(),
                "{text}"
            );
            assert_eq!(self.book.get(SHOP, text), *entry, "{text}");
            if let Some(entry) = entry {
                let id = self.ids.entry(text.clone()).or_insert(entry.id().index());
                assert_eq!(*id, entry.id().index(), "{text}");
            }
        }
    }

    fn check_walk(&mut self) {
        let mut walked = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut last_id = None;
        self.book.for_each(SHOP, |sku, entry| {
            assert!(ids.insert(entry.id().index()), "every number once");
            assert!(
                last_id < Some(entry.id().index()),
                "in the order of the numbers"
            );
            last_id = Some(entry.id().index());
            walked.insert(sku.to_string(), entry.level());
        });
        assert_eq!(walked, self.levels);
        assert_eq!(self.book.len(SHOP), self.levels.len());
        assert!(self.book.is_empty(ShopId(1)));
        for text in self.levels.keys() {
            let id = self.book.get(SHOP, text).unwrap().id();
            let activity = self.activity.get(SHOP, id);
            let requested = [(0, 70), (1, 80)]
                .into_iter()
                .filter_map(|(warehouse, name)| {
                    let hour = self.requested.get(&(text.clone(), warehouse))?;
                    Some((name, Hour(*hour)))
                });
            assert_eq!(activity.requested, requested.collect::<Vec<_>>(), "{text}");
            let stated = activity.stated.map(|stated| (stated.hour.0, stated.origin));
            assert_eq!(stated, self.stated.get(text).copied(), "{text}");
        }
    }
}

/// An hour that is more than two hours ahead comes from a wrong clock, and is replaced.
fn advances(known: Option<u16>, hour: u16) -> bool {
    known.is_none_or(|known| known < hour || known > hour + 2)
}

proptest! {
    #[test]
    fn every_operation_equals_that_of_a_map(
        operations in prop::collection::vec(operation(), 1..25),
    ) {
        let mut modelled = ModelledBook::new();
        for operation in operations {
            modelled.run(operation);
        }
        modelled.check_walk();
    }
}

/// Text of a number: 11, 22 or 66 bytes, so that all kinds of records occur.
fn numbered_text(number: u32) -> String {
    format!("sku-{number:07}").repeat([1, 2, 6][number as usize % 3])
}

#[test]
fn many_skus_of_all_lengths_are_found() {
    const SKUS: u32 = 60_000;
    let book = StockBook::new([0]);
    let rows: Vec<_> = (0..SKUS)
        .map(|n| (sku(&numbered_text(n)), level(n, n.into())))
        .collect();
    let outcomes = book.apply_all(SHOP, &rows);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == ApplyOutcome::Added)
    );
    let texts: Vec<String> = (0..2 * SKUS).map(numbered_text).collect();
    let entries = book.get_many(SHOP, texts.iter().map(String::as_str));
    for (number, entry) in (0..).zip(&entries) {
        let expected = (number < SKUS).then(|| level(number, number.into()));
        assert_eq!(entry.map(BookEntry::level), expected, "{number}");
    }
    let ids: BTreeSet<_> = entries
        .iter()
        .flatten()
        .map(|entry| entry.id().index())
        .collect();
    assert_eq!((ids.len(), book.len(SHOP)), (rows.len(), rows.len()));
}

#[test]
fn text_with_a_nul_is_unknown() {
    let book = StockBook::new([0]);
    for text in ["A", &"B".repeat(20), &"C".repeat(60)] {
        book.apply(SHOP, &sku(text), level(5, 1));
        for near in [format!("{text}\0"), format!("\0{text}"), String::new()] {
            assert_eq!(book.get(SHOP, &near), None, "{near:?}");
            assert_eq!(
                book.get_many(SHOP, [near.as_str(), text])[0],
                None,
                "{near:?}"
            );
        }
    }
}

#[test]
fn dates_and_counts_keep_every_bit() {
    let book = StockBook::new([0]);
    let last = Timestamp::from(chrono::DateTime::<chrono::Utc>::MAX_UTC).as_micros();
    let first = Timestamp::from(chrono::DateTime::<chrono::Utc>::MIN_UTC).as_micros();
    for (micros, count) in [(first, 2_000_000_000), (-1, 0), (last, 1_999_999_999)] {
        book.apply(SHOP, &sku("A"), level(count, micros));
        assert_eq!(book.get(SHOP, "A").unwrap().level(), level(count, micros));
    }
}

/// Count that belongs to a date, so that a mixture of two levels is noticed.
fn count_of(micros: i64) -> u32 {
    u32::try_from(micros * 7919 % 1_000_003).unwrap()
}

fn assert_whole(entry: BookEntry) {
    let level = entry.level();
    let micros = level.updated_at.as_micros();
    assert_eq!(level.count.get(), count_of(micros), "count of another date");
}

/// Threads that write the same SKUs with dates of their own, and threads that read meanwhile.
#[test]
fn levels_are_whole_and_none_is_lost() {
    const WRITERS: i64 = 3;
    const ROUNDS: i64 = 300;
    const SKUS: u32 = 90;
    // Each writer also adds a SKU of its own in each round.
    let own_sku = |writer: i64, round: i64| {
        numbered_text(u32::try_from(1000 + writer * ROUNDS + round).unwrap())
    };
    let book = StockBook::new([0]);
    let activity = Activity::new(&book, vec![vec![70]]);
    let texts: Vec<String> = (0..SKUS).map(numbered_text).collect();
    let skus: Vec<Sku> = texts.iter().map(|text| sku(text)).collect();
    let writers_left = AtomicUsize::new(usize::try_from(WRITERS).unwrap());
    let write = |writer: i64| {
        for round in 0..ROUNDS {
            let micros = round * WRITERS + writer;
            let new = level(count_of(micros), micros);
            let own = sku(&own_sku(writer, round));
            if round % 2 == 0 {
                let all = skus.iter().chain([&own]);
                let rows: Vec<_> = all.map(|sku| (sku.clone(), new)).collect();
                book.apply_all(SHOP, &rows);
            } else {
                skus.iter().chain([&own]).for_each(|sku| {
                    book.apply(SHOP, sku, new);
                });
            }
        }
        writers_left.fetch_sub(1, Ordering::Release);
    };
    let read = || {
        while writers_left.load(Ordering::Acquire) > 0 {
            let skus = texts.iter().map(String::as_str);
            let entries = activity.get_requested(SHOP, 0, skus, Hour(7));
            entries.into_iter().flatten().for_each(assert_whole);
            texts
                .iter()
                .filter_map(|text| book.get(SHOP, text))
                .for_each(assert_whole);
            book.for_each(SHOP, |sku, entry| {
                assert_whole(entry);
                assert_eq!(
                    book.get(SHOP, sku.as_str()).map(BookEntry::id),
                    Some(entry.id())
                );
            });
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(read);
        }
        for writer in 0..WRITERS {
            let write = &write;
            scope.spawn(move || write(writer));
        }
    });
    let newest = ROUNDS * WRITERS - 1;
    for text in &texts {
        let known = book.get(SHOP, text).unwrap().level();
        assert_eq!(known, level(count_of(newest), newest), "{text}");
    }
    for (writer, round) in (0..WRITERS).flat_map(|w| (0..ROUNDS).map(move |r| (w, r))) {
        let micros = round * WRITERS + writer;
        let known = book.get(SHOP, &own_sku(writer, round)).unwrap().level();
        assert_eq!(known, level(count_of(micros), micros));
    }
    let expected = texts.len() + usize::try_from(WRITERS * ROUNDS).unwrap();
    assert_eq!(book.len(SHOP), expected);
}

/// Few SKUs, so that threads often meet at the same record.
#[test]
fn no_reader_sees_half_of_an_update() {
    const UPDATES: i64 = 80_000;
    let book = StockBook::new([0]);
    let texts: Vec<String> = (0..3).map(numbered_text).collect();
    let skus: Vec<Sku> = texts.iter().map(|text| sku(text)).collect();
    let is_done = AtomicUsize::new(0);
    let write = || {
        for micros in 0..UPDATES {
            let new = level(count_of(micros), micros);
            if micros % 2 == 0 {
                let rows: Vec<_> = skus.iter().map(|sku| (sku.clone(), new)).collect();
                book.apply_all(SHOP, &rows);
            } else {
                skus.iter().for_each(|sku| {
                    book.apply(SHOP, sku, new);
                });
            }
        }
        is_done.store(1, Ordering::Release);
    };
    let read_each = |read: &dyn Fn()| {
        while is_done.load(Ordering::Acquire) == 0 {
            read();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(|| read_each(&|| book.for_each(SHOP, |_, entry| assert_whole(entry))));
        scope.spawn(|| {
            read_each(&|| {
                let entries = book.get_many(SHOP, texts.iter().map(String::as_str));
                entries.into_iter().flatten().for_each(assert_whole);
                texts
                    .iter()
                    .filter_map(|text| book.get(SHOP, text))
                    .for_each(assert_whole);
            });
        });
    });
    assert_eq!(book.len(SHOP), texts.len());
}

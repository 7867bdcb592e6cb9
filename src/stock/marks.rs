//! When each SKU was last asserted by the seller and last asked for by the Market.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Instant, ShopId, Sku, SkuId, StockBook};

/// Cells allocated at once, as in [`super::Column`].
const CHUNK: usize = 4096;

/// Most SKUs remembered of a shop that the Market asks for and nobody knows.
const MAX_STRANGERS: usize = 100_000;

/// A mark is written to disk again once it is in another such stretch than the one written:
/// twice a day for a SKU that is asked for hourly.
const SAVED_EVERY: u16 = 12;

/// How many hours a mark may lie ahead: beyond, the clock was wrong that made it.
const MAX_AHEAD: u16 = 2;

/// An hour of the calendar, from 2026 to September 2029, after which it stands still.
///
/// Marks are kept to the hour, because that is how often the Market asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Hour(u16);

impl Hour {
    /// The last hour there is: fifteen bits, less one.
    const LAST: u16 = 0x7ffe;
    const MICROS: i64 = 3_600_000_000;
    /// 2026-01-01T00:00:00Z.
    const FIRST_MICROS: i64 = 1_767_225_600_000_000;

    /// The hour of a moment; what was before the first is the first.
    #[must_use]
    pub fn of(at: Instant) -> Self {
        let hours = (at.as_micros() - Self::FIRST_MICROS).div_euclid(Self::MICROS);
        Self(u16::try_from(hours.clamp(0, Self::LAST.into())).unwrap_or(Self::LAST))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Instant {
        let micros = Self::FIRST_MICROS + i64::from(self.0) * Self::MICROS;
        Instant::from_micros(micros).expect("this century is in the calendar")
    }

    /// How many hours since the first.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The hour of that number, if there is one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        u16::try_from(number)
            .ok()
            .filter(|n| *n <= Self::LAST)
            .map(Self)
    }
}

/// That the seller said something of a SKU, whether it was new or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Assertion {
    /// When.
    pub hour: Hour,
    /// By which way, as the front door numbers them.
    pub origin: u8,
}

/// What is remembered of one SKU besides its stock.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    /// The seller's last word on it.
    pub asserted: Option<Assertion>,
    /// When the Market last asked for it, by warehouse.
    pub asked: Vec<(u64, Hour)>,
}

impl Mark {
    /// When the Market last asked for it, for whichever warehouse.
    #[must_use]
    pub fn last_asked(&self) -> Option<Hour> {
        self.asked.iter().map(|(_, hour)| *hour).max()
    }
}

/// All shops' marks: six bytes a SKU that was asserted and asked for.
///
/// Written while answers are given: a mark is one atomic store, and the only lock is taken for
/// writing once in 4096 new SKUs, for as long as it takes to push a pointer.
#[derive(Debug)]
pub struct Marks {
    shops: Vec<ShopMarks>,
}

#[derive(Debug)]
struct ShopMarks {
    warehouses: Vec<u64>,
    asserted: Cells<AtomicU32>,
    asked: Vec<Cells<AtomicU16>>,
    strangers: Mutex<Strangers>,
    // Something was marked since it was looked for news last.
    has_news: AtomicBool,
}

#[derive(Debug, Default)]
struct Strangers {
    // The place of the warehouse in the list, and whether it is on disk.
    seen: HashMap<Sku, Vec<Asked>>,
    more: bool,
}

/// An hour in the lower fifteen bits, from 1, and whether it is not on disk yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Asked(u16);

impl Asked {
    const UNSAVED: u16 = 0x8000;

    fn hour(self) -> Option<Hour> {
        (self.0 & !Self::UNSAVED).checked_sub(1).map(Hour)
    }

    fn is_unsaved(self) -> bool {
        self.0 & Self::UNSAVED != 0
    }

    fn saved(self) -> Self {
        Self(self.0 & !Self::UNSAVED)
    }

    fn saved_at(hour: Hour) -> Self {
        Self(hour.0 + 1)
    }

    fn renewed(self, hour: Hour) -> Self {
        match self.hour() {
            // One far ahead was marked by a clock that was wrong.
            Some(known) if known >= hour && known.0 - hour.0 <= MAX_AHEAD => self,
            known => {
                let is_new = is_another_stretch(known, hour) || self.is_unsaved();
                Self((hour.0 + 1) | if is_new { Self::UNSAVED } else { 0 })
            }
        }
    }
}

/// An [`Assertion`]: an [`Asked`] in the upper half, the origin in the lower.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Asserted(u32);

impl Asserted {
    fn new(asked: Asked, origin: u8) -> Self {
        Self(u32::from(asked.0) << 16 | u32::from(origin))
    }

    fn asked(self) -> Asked {
        Asked((self.0 >> 16) as u16)
    }

    fn get(self) -> Option<Assertion> {
        let origin = self.0.to_le_bytes()[0];
        self.asked().hour().map(|hour| Assertion { hour, origin })
    }

    fn renewed(self, Assertion { hour, origin }: Assertion) -> Self {
        let renewed = self.asked().renewed(hour);
        let is_older = renewed.hour() != Some(hour);
        if is_older {
            self
        } else {
            Self::new(renewed, origin)
        }
    }
}

fn is_another_stretch(known: Option<Hour>, hour: Hour) -> bool {
    known.is_none_or(|known| known.0 / SAVED_EVERY != hour.0 / SAVED_EVERY)
}

impl Marks {
    /// Nothing is marked yet; of each shop, the warehouses for which it is asked.
    #[must_use]
    pub fn new(warehouses: Vec<Vec<u64>>) -> Self {
        let shop = |warehouses: Vec<u64>| ShopMarks {
            asserted: Cells::default(),
            asked: warehouses.iter().map(|_| Cells::default()).collect(),
            warehouses,
            strangers: Mutex::default(),
            has_news: AtomicBool::new(false),
        };
        Self {
            shops: warehouses.into_iter().map(shop).collect(),
        }
    }

    /// The Market has asked for these of the shop's warehouse at this place in its list.
    pub fn note_asked(
        &self,
        shop: ShopId,
        warehouse: usize,
        ids: impl Iterator<Item = SkuId>,
        hour: Hour,
    ) {
        let marks = &self.shops[shop.index()];
        let Some(cells) = marks.asked.get(warehouse) else {
            return;
        };
        marks.has_news.store(true, Ordering::Relaxed);
        // This is done for every SKU of every question, and mostly there is nothing to do.
        let same = Asked::saved_at(hour);
        cells.update(ids, |cell| {
            let known = Asked(cell.load(Ordering::Relaxed));
            if known.saved() != same {
                let renewed = known.renewed(hour);
                cell.store(renewed.0, Ordering::Relaxed);
            }
        });
    }

    /// The Market has asked for a SKU of which nothing is known.
    ///
    /// Left out if somebody else is writing one down: it will be asked for again.
    pub fn note_stranger(&self, shop: ShopId, warehouse: usize, sku: &str, hour: Hour) {
        let shop = &self.shops[shop.index()];
        let (Ok(mut strangers), Ok(sku)) = (shop.strangers.try_lock(), Sku::parse(sku)) else {
            return;
        };
        strangers.note(sku, warehouse, shop.warehouses.len(), |asked| {
            asked.renewed(hour)
        });
        shop.has_news.store(true, Ordering::Relaxed);
    }

    /// The book has these now: what was asked of them while they were strangers is theirs.
    pub fn introduce<'a>(&self, shop: ShopId, known: impl Iterator<Item = (&'a Sku, SkuId)>) {
        let marks = &self.shops[shop.index()];
        let mut strangers = marks.strangers();
        if strangers.seen.is_empty() {
            return;
        }
        for (sku, id) in known {
            if let Some(asked) = strangers.seen.remove(sku) {
                marks.take_over(id, &asked);
            }
        }
    }

    /// The seller has said something of these, new or not.
    pub fn note_asserted(
        &self,
        shop: ShopId,
        ids: impl Iterator<Item = SkuId>,
        assertion: Assertion,
    ) {
        self.shops[shop.index()]
            .has_news
            .store(true, Ordering::Relaxed);
        self.shops[shop.index()].asserted.update(ids, |cell| {
            let known = Asserted(cell.load(Ordering::Relaxed));
            let renewed = known.renewed(assertion);
            if renewed != known {
                cell.store(renewed.0, Ordering::Relaxed);
            }
        });
    }

    /// The seller's last word on a SKU.
    #[must_use]
    pub fn asserted(&self, shop: ShopId, id: SkuId) -> Option<Assertion> {
        Asserted(self.shops[shop.index()].asserted.load(id)).get()
    }

    /// When the Market last asked for a SKU, for whichever warehouse.
    #[must_use]
    pub fn last_asked(&self, shop: ShopId, id: SkuId) -> Option<Hour> {
        let cells = &self.shops[shop.index()].asked;
        cells
            .iter()
            .filter_map(|cells| Asked(cells.load(id)).hour())
            .max()
    }

    /// All that is remembered of a SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> Mark {
        let shop = &self.shops[shop.index()];
        let asked = shop.warehouses.iter().zip(&shop.asked);
        let asked =
            asked.filter_map(|(id_of, cells)| Some((*id_of, Asked(cells.load(id)).hour()?)));
        Mark {
            asserted: Asserted(shop.asserted.load(id)).get(),
            asked: asked.collect(),
        }
    }

    /// Shows the SKUs that the Market has asked for and that the book does not have, and says
    /// whether there were more than could be remembered.
    pub fn strangers(
        &self,
        shop: ShopId,
        book: &StockBook,
        mut see: impl FnMut(&Sku, &Mark),
    ) -> bool {
        let marks = &self.shops[shop.index()];
        let mut strangers = marks.strangers();
        // Those who were asked for and introduced at the same moment.
        strangers.seen.retain(|sku, asked| {
            let known = book.get(shop, sku.as_str());
            known
                .inspect(|entry| marks.take_over(entry.id(), asked))
                .is_none()
        });
        strangers
            .seen
            .iter()
            .for_each(|(sku, asked)| see(sku, &marks.mark_of(asked)));
        strangers.more
    }

    /// Takes out what is not on disk yet.
    ///
    /// From then on it counts as saved: if the disk does not take it, what is lost is half a
    /// day of marks.
    #[must_use]
    pub fn take_unsaved(&self, shop: ShopId, book: &StockBook) -> Vec<(Sku, Mark)> {
        let mut unsaved = Vec::new();
        let marks = &self.shops[shop.index()];
        if !marks.has_news.swap(false, Ordering::Relaxed) {
            return unsaved;
        }
        book.for_each(shop, |sku, entry| {
            if marks.take_unsaved(entry.id()) {
                unsaved.push((sku.clone(), self.get(shop, entry.id())));
            }
        });
        let mut strangers = marks.strangers();
        for (sku, asked) in &mut strangers.seen {
            if asked.iter().any(|asked| asked.is_unsaved()) {
                asked.iter_mut().for_each(|asked| *asked = asked.saved());
                unsaved.push((sku.clone(), marks.mark_of(asked)));
            }
        }
        unsaved
    }

    /// Takes in what the disk remembers; `id` is `None` for a SKU that the book does not have.
    ///
    /// Warehouses that are not the shop's any more are passed over.
    pub fn restore(&self, shop: ShopId, sku: &Sku, id: Option<SkuId>, mark: &Mark) {
        let marks = &self.shops[shop.index()];
        if let (Some(id), Some(Assertion { hour, origin })) = (id, mark.asserted) {
            let saved = Asserted::new(Asked::saved_at(hour), origin);
            let id = std::iter::once(id);
            marks
                .asserted
                .update(id, |cell| cell.store(saved.0, Ordering::Relaxed));
        }
        for (warehouse, hour) in &mark.asked {
            let Some(place) = marks.warehouses.iter().position(|id| id == warehouse) else {
                continue;
            };
            let saved = Asked::saved_at(*hour);
            match id {
                Some(id) => marks.asked[place].update(std::iter::once(id), |cell| {
                    cell.store(saved.0, Ordering::Relaxed)
                }),
                None => {
                    marks
                        .strangers()
                        .note(sku.clone(), place, marks.warehouses.len(), |_| saved);
                }
            }
        }
    }
}

impl ShopMarks {
    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a SKU the marks it has from another place, where they are later.
    fn take_over(&self, id: SkuId, asked: &[Asked]) {
        for (cells, asked) in self.asked.iter().zip(asked) {
            cells.update(std::iter::once(id), |cell| {
                if asked.hour() > Asked(cell.load(Ordering::Relaxed)).hour() {
                    cell.store(asked.0, Ordering::Relaxed);
                }
            });
        }
    }

    fn take_unsaved(&self, id: SkuId) -> bool {
        let mut found = false;
        // Only the bit is taken, so that a mark made at the same moment is not lost.
        if Asserted(self.asserted.load(id)).asked().is_unsaved() {
            let bit = u32::from(Asked::UNSAVED) << 16;
            self.asserted.update(std::iter::once(id), |cell| {
                found |= cell.fetch_and(!bit, Ordering::Relaxed) & bit != 0;
            });
        }
        for cells in self
            .asked
            .iter()
            .filter(|cells| Asked(cells.load(id)).is_unsaved())
        {
            cells.update(std::iter::once(id), |cell| {
                found |= cell.fetch_and(!Asked::UNSAVED, Ordering::Relaxed) & Asked::UNSAVED != 0;
            });
        }
        found
    }

    fn mark_of(&self, asked: &[Asked]) -> Mark {
        let asked = self.warehouses.iter().zip(asked);
        let asked = asked.filter_map(|(id, asked)| Some((*id, asked.hour()?)));
        Mark {
            asserted: None,
            asked: asked.collect(),
        }
    }
}

impl Strangers {
    fn note(
        &mut self,
        sku: Sku,
        warehouse: usize,
        warehouses: usize,
        renew: impl FnOnce(Asked) -> Asked,
    ) {
        if self.seen.len() >= MAX_STRANGERS && !self.seen.contains_key(&sku) {
            self.more = true;
            return;
        }
        let asked = self
            .seen
            .entry(sku)
            .or_insert_with(|| vec![Asked::default(); warehouses]);
        if let Some(asked) = asked.get_mut(warehouse) {
            *asked = renew(*asked);
        }
    }
}

/// A column that is written through a shared reference.
#[derive(Debug)]
struct Cells<T> {
    // Arrays, not slices: of these the processor need not look up the length.
    chunks: RwLock<Vec<Arc<[T; CHUNK]>>>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            chunks: RwLock::default(),
        }
    }
}

impl<T: Atom> Cells<T> {
    fn load(&self, id: SkuId) -> T::Value {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks
            .get(id.index() / CHUNK)
            .map_or_else(T::Value::default, |c| c[id.index() % CHUNK].get())
    }

    fn update(&self, ids: impl Iterator<Item = SkuId>, mut change: impl FnMut(&T)) {
        let mut chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let (chunk, cell) = (id.index() / CHUNK, id.index() % CHUNK);
            if let Some(cells) = chunks.get(chunk) {
                change(&cells[cell]);
            } else {
                drop(chunks);
                self.grow(chunk + 1);
                chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
                change(&chunks[chunk][cell]);
            }
        }
    }

    fn grow(&self, length: usize) {
        let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
        while chunks.len() < length {
            chunks.push(Arc::new(std::array::from_fn(|_| T::default())));
        }
    }
}

/// An atomic number, of either width.
trait Atom: Default {
    type Value: Default;
    fn get(&self) -> Self::Value;
}

impl Atom for AtomicU16 {
    type Value = u16;

    fn get(&self) -> u16 {
        self.load(Ordering::Relaxed)
    }
}

impl Atom for AtomicU32 {
    type Value = u32;

    fn get(&self) -> u32 {
        self.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::{Count, Level};

    const SHOP: ShopId = ShopId(0);

    fn hour(n: u16) -> Hour {
        Hour(n)
    }

    fn shelf(skus: &[&str]) -> StockBook {
        let book = StockBook::new([0]);
        for text in skus {
            let updated_at = Instant::from_micros(0).unwrap();
            let level = Level {
                count: Count::ZERO,
                updated_at,
            };
            book.apply(SHOP, &Sku::parse(text).unwrap(), level);
        }
        book
    }

    fn id(book: &StockBook, sku: &str) -> SkuId {
        book.get(SHOP, sku).unwrap().id()
    }

    #[test]
    fn hours_are_counted_from_2026_and_do_not_run_over() {
        let at = |text: &str| {
            Hour::of(
                text.parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
                    .into(),
            )
        };
        assert_eq!(at("2026-01-01T00:59:59Z").number(), 0);
        assert_eq!(at("2026-01-02T01:00:00Z").number(), 25);
        assert_eq!(
            at("2026-01-02T01:30:00Z").start().to_string(),
            "2026-01-02T01:00:00Z"
        );
        assert_eq!(at("2020-01-01T00:00:00Z").number(), 0);
        assert_eq!(at("2040-01-01T00:00:00Z").number(), Hour::LAST);
        assert_eq!(Hour::from_number(u64::from(Hour::LAST) + 1), None);
    }

    #[test]
    fn what_was_asked_for_is_kept_by_warehouse_and_the_latest_hour_counts() {
        let book = shelf(&["A", "B"]);
        let marks = Marks::new(vec![vec![70, 80]]);
        let a = id(&book, "A");
        marks.note_asked(SHOP, 0, [a].into_iter(), hour(5));
        marks.note_asked(SHOP, 1, [a].into_iter(), hour(9));
        marks.note_asked(SHOP, 1, [a].into_iter(), hour(8));
        assert_eq!(marks.get(SHOP, a).asked, [(70, hour(5)), (80, hour(9))]);
        assert_eq!(marks.last_asked(SHOP, a), Some(hour(9)));
        assert_eq!(marks.last_asked(SHOP, id(&book, "B")), None);
    }

    #[test]
    fn the_last_assertion_counts_with_its_origin() {
        let book = shelf(&["A"]);
        let marks = Marks::new(vec![vec![70]]);
        let a = id(&book, "A");
        for (n, origin) in [(5, 1), (6, 2), (5, 3)] {
            let assertion = Assertion {
                hour: hour(n),
                origin,
            };
            marks.note_asserted(SHOP, [a].into_iter(), assertion);
        }
        assert_eq!(
            marks.asserted(SHOP, a),
            Some(Assertion {
                hour: hour(6),
                origin: 2
            })
        );
    }

    #[test]
    fn a_clock_that_was_wrong_for_an_hour_does_not_mark_for_years() {
        let book = shelf(&["A"]);
        let marks = Marks::new(vec![vec![70]]);
        let a = id(&book, "A");
        for (n, expected) in [(9_000, 9_000), (5, 5), (7, 7), (6, 7)] {
            let assertion = Assertion {
                hour: hour(n),
                origin: 1,
            };
            marks.note_asserted(SHOP, [a].into_iter(), assertion);
            marks.note_asked(SHOP, 0, [a].into_iter(), hour(n));
            assert_eq!(marks.asserted(SHOP, a).unwrap().hour, hour(expected));
            assert_eq!(marks.last_asked(SHOP, a), Some(hour(expected)));
        }
    }

    #[test]
    fn a_mark_is_written_twice_a_day_however_often_it_is_renewed() {
        let book = shelf(&["A"]);
        let marks = Marks::new(vec![vec![70]]);
        let mut written = 0;
        for n in 0..48 {
            marks.note_asked(SHOP, 0, [id(&book, "A")].into_iter(), hour(n));
            written += marks.take_unsaved(SHOP, &book).len();
        }
        assert_eq!(written, 4);
    }

    #[test]
    fn what_was_taken_out_can_be_taken_in_again() {
        let book = shelf(&["A"]);
        let marks = Marks::new(vec![vec![70, 80]]);
        let a = id(&book, "A");
        marks.note_asked(SHOP, 1, [a].into_iter(), hour(7));
        marks.note_asserted(
            SHOP,
            [a].into_iter(),
            Assertion {
                hour: hour(8),
                origin: 4,
            },
        );
        marks.note_stranger(SHOP, 0, "X", hour(9));
        let unsaved = marks.take_unsaved(SHOP, &book);
        assert_eq!(unsaved.len(), 2);
        assert!(marks.take_unsaved(SHOP, &book).is_empty());
        // The warehouses are listed otherwise now, and one is gone.
        let other = Marks::new(vec![vec![80]]);
        for (sku, mark) in &unsaved {
            other.restore(
                SHOP,
                sku,
                book.get(SHOP, sku.as_str()).map(|e| e.id()),
                mark,
            );
        }
        assert_eq!(other.get(SHOP, a).asked, [(80, hour(7))]);
        assert_eq!(other.asserted(SHOP, a), marks.asserted(SHOP, a));
        assert!(other.take_unsaved(SHOP, &book).is_empty());
    }

    #[test]
    fn a_stranger_that_is_introduced_keeps_what_it_was_asked_for() {
        let marks = Marks::new(vec![vec![70, 80]]);
        for sku in ["A", "B"] {
            marks.note_stranger(SHOP, 1, sku, hour(3));
        }
        let book = shelf(&["A", "B"]);
        let (a, b) = (id(&book, "A"), id(&book, "B"));
        marks.introduce(SHOP, std::iter::once((&Sku::parse("A").unwrap(), a)));
        assert_eq!(marks.get(SHOP, a).asked, [(80, hour(3))]);
        // The other was introduced behind our back, and asked for since.
        marks.note_asked(SHOP, 1, std::iter::once(b), hour(9));
        marks.strangers(SHOP, &book, |sku, _| panic!("{sku} is no stranger"));
        assert_eq!(marks.get(SHOP, b).asked, [(80, hour(9))]);
        assert_eq!(
            marks.take_unsaved(SHOP, &book).len(),
            2,
            "it is not on disk yet"
        );
    }

    #[test]
    fn strangers_are_few_at_most_and_leave_when_they_are_known() {
        let marks = Marks::new(vec![vec![70]]);
        let nobody = StockBook::new([0]);
        for n in 0..=MAX_STRANGERS {
            marks.note_stranger(SHOP, 0, &n.to_string(), hour(1));
        }
        let mut seen = 0;
        assert!(
            marks.strangers(SHOP, &nobody, |_, _| seen += 1),
            "one did not fit"
        );
        assert_eq!(seen, MAX_STRANGERS);
        let book = shelf(&["7"]);
        let mut is_there = false;
        marks.strangers(SHOP, &book, |sku, _| is_there |= sku.as_str() == "7");
        assert!(!is_there);
    }
}

//! When each SKU was last asserted by the seller and last asked for by the Market.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{ShopId, Sku, SkuId, StockBook, Timestamp};

/// Cells allocated at once, as in [`super::Column`].
const CHUNK_LENGTH: usize = 4096;

/// Most SKUs remembered of a shop that the Market asks for and nobody knows.
const MAX_UNKNOWN_SKUS: usize = 100_000;

/// A mark is written to disk again once it is in another such stretch than the one written:
/// twice a day for a SKU that is asked for hourly.
const SAVE_PERIOD_HOURS: u16 = 12;

/// How many hours a mark may lie ahead: beyond, the clock was wrong that made it.
const MAX_HOURS_AHEAD: u16 = 2;

/// An hour of the calendar, from 2026 to September 2029, after which it stands still.
///
/// Marks are kept to the hour, because that is how often the Market asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Hour(u16);

impl Hour {
    /// The last hour there is: fifteen bits, less one.
    const LAST: u16 = 0x7ffe;
    const MICROS_PER_HOUR: i64 = 3_600_000_000;
    /// 2026-01-01T00:00:00Z.
    const FIRST_MICROS: i64 = 1_767_225_600_000_000;

    /// The hour of a moment; what was before the first is the first.
    #[must_use]
    pub fn containing(at: Timestamp) -> Self {
        let hours = (at.as_micros() - Self::FIRST_MICROS).div_euclid(Self::MICROS_PER_HOUR);
        Self(u16::try_from(hours.clamp(0, Self::LAST.into())).unwrap_or(Self::LAST))
    }

    /// When it begins.
    #[must_use]
    pub fn start(self) -> Timestamp {
        let micros = Self::FIRST_MICROS + i64::from(self.0) * Self::MICROS_PER_HOUR;
        Timestamp::from_micros(micros).expect("this century is in the calendar")
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
pub struct LastStated {
    /// When.
    pub hour: Hour,
    /// By which way, as the front door numbers them.
    pub origin: u8,
}

/// What is remembered of one SKU besides its stock.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SkuActivity {
    /// The seller's last word on it.
    pub stated: Option<LastStated>,
    /// When the Market last asked for it, by warehouse.
    pub requested: Vec<(u64, Hour)>,
}

impl SkuActivity {
    /// When the Market last asked for it, for whichever warehouse.
    #[must_use]
    pub fn last_requested(&self) -> Option<Hour> {
        self.requested.iter().map(|(_, hour)| *hour).max()
    }
}

/// All shops' marks: six bytes a SKU that was asserted and asked for.
///
/// Written while answers are given: a mark is one atomic store, and the only lock is taken for
/// writing once in 4096 new SKUs, for as long as it takes to push a pointer.
#[derive(Debug)]
pub struct Activity {
    shops: Vec<ShopActivity>,
}

#[derive(Debug)]
struct ShopActivity {
    warehouses: Vec<u64>,
    stated: AtomicPerSku<AtomicU32>,
    requested: Vec<AtomicPerSku<AtomicU16>>,
    unknown: Mutex<UnknownSkus>,
    // Something was marked since it was looked for news last.
    has_changes: AtomicBool,
}

#[derive(Debug, Default)]
struct UnknownSkus {
    // The place of the warehouse in the list, and whether it is on disk.
    skus: HashMap<Sku, Vec<PackedHour>>,
    has_overflowed: bool,
}

/// An hour in the lower fifteen bits, from 1, and whether it is not on disk yet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct PackedHour(u16);

impl PackedHour {
    const UNSAVED: u16 = 0x8000;

    fn hour(self) -> Option<Hour> {
        (self.0 & !Self::UNSAVED).checked_sub(1).map(Hour)
    }

    fn is_unsaved(self) -> bool {
        self.0 & Self::UNSAVED != 0
    }

    fn as_saved(self) -> Self {
        Self(self.0 & !Self::UNSAVED)
    }

    fn from_saved(hour: Hour) -> Self {
        Self(hour.0 + 1)
    }

    fn advanced_to(self, hour: Hour) -> Self {
        match self.hour() {
            // One far ahead was marked by a clock that was wrong.
            Some(known) if known >= hour && known.0 - hour.0 <= MAX_HOURS_AHEAD => self,
            known => {
                let must_save = is_other_save_period(known, hour) || self.is_unsaved();
                Self((hour.0 + 1) | if must_save { Self::UNSAVED } else { 0 })
            }
        }
    }
}

/// An [`Assertion`]: an [`Asked`] in the upper half, the origin in the lower.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct PackedStated(u32);

impl PackedStated {
    fn new(hour: PackedHour, origin: u8) -> Self {
        Self(u32::from(hour.0) << 16 | u32::from(origin))
    }

    fn packed_hour(self) -> PackedHour {
        PackedHour((self.0 >> 16) as u16)
    }

    fn get(self) -> Option<LastStated> {
        let origin = self.0.to_le_bytes()[0];
        self.packed_hour()
            .hour()
            .map(|hour| LastStated { hour, origin })
    }

    fn advanced_to(self, LastStated { hour, origin }: LastStated) -> Self {
        let advanced = self.packed_hour().advanced_to(hour);
        let is_older = advanced.hour() != Some(hour);
        if is_older {
            self
        } else {
            Self::new(advanced, origin)
        }
    }
}

fn is_other_save_period(known: Option<Hour>, hour: Hour) -> bool {
    known.is_none_or(|known| known.0 / SAVE_PERIOD_HOURS != hour.0 / SAVE_PERIOD_HOURS)
}

impl Activity {
    /// Nothing is marked yet; of each shop, the warehouses for which it is asked.
    #[must_use]
    pub fn new(warehouses: Vec<Vec<u64>>) -> Self {
        let shop = |warehouses: Vec<u64>| ShopActivity {
            stated: AtomicPerSku::default(),
            requested: warehouses.iter().map(|_| AtomicPerSku::default()).collect(),
            warehouses,
            unknown: Mutex::default(),
            has_changes: AtomicBool::new(false),
        };
        Self {
            shops: warehouses.into_iter().map(shop).collect(),
        }
    }

    /// The Market has asked for these of the shop's warehouse at this place in its list.
    pub fn record_requested(
        &self,
        shop: ShopId,
        warehouse: usize,
        ids: impl Iterator<Item = SkuId>,
        hour: Hour,
    ) {
        let shop_activity = &self.shops[shop.index()];
        let Some(cells) = shop_activity.requested.get(warehouse) else {
            return;
        };
        shop_activity.has_changes.store(true, Ordering::Relaxed);
        // This is done for every SKU of every question, and mostly there is nothing to do.
        let same = PackedHour::from_saved(hour);
        cells.update(ids, |cell| {
            let known = PackedHour(cell.load(Ordering::Relaxed));
            if known.as_saved() != same {
                let advanced = known.advanced_to(hour);
                cell.store(advanced.0, Ordering::Relaxed);
            }
        });
    }

    /// The Market has asked for a SKU of which nothing is known.
    ///
    /// Left out if somebody else is writing one down: it will be asked for again.
    pub fn record_unknown(&self, shop: ShopId, warehouse: usize, sku: &str, hour: Hour) {
        let shop = &self.shops[shop.index()];
        let (Ok(mut unknown), Ok(sku)) = (shop.unknown.try_lock(), Sku::parse(sku)) else {
            return;
        };
        unknown.record(sku, warehouse, shop.warehouses.len(), |known| {
            known.advanced_to(hour)
        });
        shop.has_changes.store(true, Ordering::Relaxed);
    }

    /// The book has these now: what was asked of them while they were strangers is theirs.
    pub fn promote_known<'a>(&self, shop: ShopId, known: impl Iterator<Item = (&'a Sku, SkuId)>) {
        let shop_activity = &self.shops[shop.index()];
        let mut unknown = shop_activity.lock_unknown();
        if unknown.skus.is_empty() {
            return;
        }
        for (sku, id) in known {
            if let Some(hours) = unknown.skus.remove(sku) {
                shop_activity.adopt_history(id, &hours);
            }
        }
    }

    /// The seller has said something of these, new or not.
    pub fn record_stated(
        &self,
        shop: ShopId,
        ids: impl Iterator<Item = SkuId>,
        stated: LastStated,
    ) {
        self.shops[shop.index()]
            .has_changes
            .store(true, Ordering::Relaxed);
        self.shops[shop.index()].stated.update(ids, |cell| {
            let known = PackedStated(cell.load(Ordering::Relaxed));
            let advanced = known.advanced_to(stated);
            if advanced != known {
                cell.store(advanced.0, Ordering::Relaxed);
            }
        });
    }

    /// The seller's last word on a SKU.
    #[must_use]
    pub fn last_stated(&self, shop: ShopId, id: SkuId) -> Option<LastStated> {
        PackedStated(self.shops[shop.index()].stated.load(id)).get()
    }

    /// When the Market last asked for a SKU, for whichever warehouse.
    #[must_use]
    pub fn last_requested(&self, shop: ShopId, id: SkuId) -> Option<Hour> {
        let cells = &self.shops[shop.index()].requested;
        cells
            .iter()
            .filter_map(|cells| PackedHour(cells.load(id)).hour())
            .max()
    }

    /// All that is remembered of a SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> SkuActivity {
        let shop = &self.shops[shop.index()];
        let requested = shop.warehouses.iter().zip(&shop.requested);
        let requested = requested.filter_map(|(warehouse, cells)| {
            Some((*warehouse, PackedHour(cells.load(id)).hour()?))
        });
        SkuActivity {
            stated: PackedStated(shop.stated.load(id)).get(),
            requested: requested.collect(),
        }
    }

    /// Shows the SKUs that the Market has asked for and that the book does not have, and says
    /// whether there were more than could be remembered.
    pub fn for_each_unknown(
        &self,
        shop: ShopId,
        book: &StockBook,
        mut visit: impl FnMut(&Sku, &SkuActivity),
    ) -> bool {
        let shop_activity = &self.shops[shop.index()];
        let mut unknown = shop_activity.lock_unknown();
        // Those who were asked for and introduced at the same moment.
        unknown.skus.retain(|sku, hours| {
            let known = book.get(shop, sku.as_str());
            known
                .inspect(|entry| shop_activity.adopt_history(entry.id(), hours))
                .is_none()
        });
        unknown
            .skus
            .iter()
            .for_each(|(sku, hours)| visit(sku, &shop_activity.activity_of_unknown(hours)));
        unknown.has_overflowed
    }

    /// Takes out what is not on disk yet.
    ///
    /// From then on it counts as saved: if the disk does not take it, what is lost is half a
    /// day of marks.
    #[must_use]
    pub fn take_unsaved(&self, shop: ShopId, book: &StockBook) -> Vec<(Sku, SkuActivity)> {
        let mut unsaved = Vec::new();
        let shop_activity = &self.shops[shop.index()];
        if !shop_activity.has_changes.swap(false, Ordering::Relaxed) {
            return unsaved;
        }
        book.for_each(shop, |sku, entry| {
            if shop_activity.clear_unsaved(entry.id()) {
                unsaved.push((sku.clone(), self.get(shop, entry.id())));
            }
        });
        let mut unknown = shop_activity.lock_unknown();
        for (sku, hours) in &mut unknown.skus {
            if hours.iter().any(|hour| hour.is_unsaved()) {
                hours.iter_mut().for_each(|hour| *hour = hour.as_saved());
                unsaved.push((sku.clone(), shop_activity.activity_of_unknown(hours)));
            }
        }
        unsaved
    }

    /// Takes in what the disk remembers; `id` is `None` for a SKU that the book does not have.
    ///
    /// Warehouses that are not the shop's any more are passed over.
    pub fn restore(&self, shop: ShopId, sku: &Sku, id: Option<SkuId>, activity: &SkuActivity) {
        let shop_activity = &self.shops[shop.index()];
        if let (Some(id), Some(LastStated { hour, origin })) = (id, activity.stated) {
            let saved = PackedStated::new(PackedHour::from_saved(hour), origin);
            let id = std::iter::once(id);
            shop_activity
                .stated
                .update(id, |cell| cell.store(saved.0, Ordering::Relaxed));
        }
        for (warehouse, hour) in &activity.requested {
            let Some(position) = shop_activity
                .warehouses
                .iter()
                .position(|id| id == warehouse)
            else {
                continue;
            };
            let saved = PackedHour::from_saved(*hour);
            match id {
                Some(id) => shop_activity.requested[position].update(std::iter::once(id), |cell| {
                    cell.store(saved.0, Ordering::Relaxed)
                }),
                None => {
                    shop_activity.lock_unknown().record(
                        sku.clone(),
                        position,
                        shop_activity.warehouses.len(),
                        |_| saved,
                    );
                }
            }
        }
    }
}

impl ShopActivity {
    fn lock_unknown(&self) -> MutexGuard<'_, UnknownSkus> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a SKU the marks it has from another place, where they are later.
    fn adopt_history(&self, id: SkuId, hours: &[PackedHour]) {
        for (cells, hour) in self.requested.iter().zip(hours) {
            cells.update(std::iter::once(id), |cell| {
                if hour.hour() > PackedHour(cell.load(Ordering::Relaxed)).hour() {
                    cell.store(hour.0, Ordering::Relaxed);
                }
            });
        }
    }

    fn clear_unsaved(&self, id: SkuId) -> bool {
        let mut was_unsaved = false;
        // Only the bit is taken, so that a mark made at the same moment is not lost.
        if PackedStated(self.stated.load(id))
            .packed_hour()
            .is_unsaved()
        {
            let bit = u32::from(PackedHour::UNSAVED) << 16;
            self.stated.update(std::iter::once(id), |cell| {
                was_unsaved |= cell.fetch_and(!bit, Ordering::Relaxed) & bit != 0;
            });
        }
        for cells in self
            .requested
            .iter()
            .filter(|cells| PackedHour(cells.load(id)).is_unsaved())
        {
            cells.update(std::iter::once(id), |cell| {
                was_unsaved |= cell.fetch_and(!PackedHour::UNSAVED, Ordering::Relaxed)
                    & PackedHour::UNSAVED
                    != 0;
            });
        }
        was_unsaved
    }

    fn activity_of_unknown(&self, hours: &[PackedHour]) -> SkuActivity {
        let requested = self.warehouses.iter().zip(hours);
        let requested = requested.filter_map(|(id, hour)| Some((*id, hour.hour()?)));
        SkuActivity {
            stated: None,
            requested: requested.collect(),
        }
    }
}

impl UnknownSkus {
    fn record(
        &mut self,
        sku: Sku,
        warehouse: usize,
        warehouse_count: usize,
        advance: impl FnOnce(PackedHour) -> PackedHour,
    ) {
        if self.skus.len() >= MAX_UNKNOWN_SKUS && !self.skus.contains_key(&sku) {
            self.has_overflowed = true;
            return;
        }
        let hours = self
            .skus
            .entry(sku)
            .or_insert_with(|| vec![PackedHour::default(); warehouse_count]);
        if let Some(hour) = hours.get_mut(warehouse) {
            *hour = advance(*hour);
        }
    }
}

/// A column that is written through a shared reference.
#[derive(Debug)]
struct AtomicPerSku<T> {
    // Arrays, not slices: of these the processor need not look up the length.
    chunks: RwLock<Vec<Arc<[T; CHUNK_LENGTH]>>>,
}

impl<T> Default for AtomicPerSku<T> {
    fn default() -> Self {
        Self {
            chunks: RwLock::default(),
        }
    }
}

impl<T: AtomicNumber> AtomicPerSku<T> {
    fn load(&self, id: SkuId) -> T::Primitive {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks
            .get(id.index() / CHUNK_LENGTH)
            .map_or_else(T::Primitive::default, |cells| {
                cells[id.index() % CHUNK_LENGTH].get()
            })
    }

    fn update(&self, ids: impl Iterator<Item = SkuId>, mut change: impl FnMut(&T)) {
        let mut chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            let (chunk, cell) = (id.index() / CHUNK_LENGTH, id.index() % CHUNK_LENGTH);
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
trait AtomicNumber: Default {
    type Primitive: Default;
    fn get(&self) -> Self::Primitive;
}

impl AtomicNumber for AtomicU16 {
    type Primitive = u16;

    fn get(&self) -> u16 {
        self.load(Ordering::Relaxed)
    }
}

impl AtomicNumber for AtomicU32 {
    type Primitive = u32;

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

    fn book_of(skus: &[&str]) -> StockBook {
        let book = StockBook::new([0]);
        for text in skus {
            let updated_at = Timestamp::from_micros(0).unwrap();
            let level = Level {
                count: Count::ZERO,
                updated_at,
            };
            book.apply(SHOP, &Sku::parse(text).unwrap(), level);
        }
        book
    }

    fn sku_id(book: &StockBook, sku: &str) -> SkuId {
        book.get(SHOP, sku).unwrap().id()
    }

    #[test]
    fn hours_are_counted_from_2026_and_do_not_run_over() {
        let at = |text: &str| {
            Hour::containing(
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
        let book = book_of(&["A", "B"]);
        let activity = Activity::new(vec![vec![70, 80]]);
        let a = sku_id(&book, "A");
        activity.record_requested(SHOP, 0, [a].into_iter(), hour(5));
        activity.record_requested(SHOP, 1, [a].into_iter(), hour(9));
        activity.record_requested(SHOP, 1, [a].into_iter(), hour(8));
        assert_eq!(
            activity.get(SHOP, a).requested,
            [(70, hour(5)), (80, hour(9))]
        );
        assert_eq!(activity.last_requested(SHOP, a), Some(hour(9)));
        assert_eq!(activity.last_requested(SHOP, sku_id(&book, "B")), None);
    }

    #[test]
    fn the_last_assertion_counts_with_its_origin() {
        let book = book_of(&["A"]);
        let activity = Activity::new(vec![vec![70]]);
        let a = sku_id(&book, "A");
        for (n, origin) in [(5, 1), (6, 2), (5, 3)] {
            let stated = LastStated {
                hour: hour(n),
                origin,
            };
            activity.record_stated(SHOP, [a].into_iter(), stated);
        }
        assert_eq!(
            activity.last_stated(SHOP, a),
            Some(LastStated {
                hour: hour(6),
                origin: 2
            })
        );
    }

    #[test]
    fn a_clock_that_was_wrong_for_an_hour_does_not_mark_for_years() {
        let book = book_of(&["A"]);
        let activity = Activity::new(vec![vec![70]]);
        let a = sku_id(&book, "A");
        for (n, expected) in [(9_000, 9_000), (5, 5), (7, 7), (6, 7)] {
            let stated = LastStated {
                hour: hour(n),
                origin: 1,
            };
            activity.record_stated(SHOP, [a].into_iter(), stated);
            activity.record_requested(SHOP, 0, [a].into_iter(), hour(n));
            assert_eq!(activity.last_stated(SHOP, a).unwrap().hour, hour(expected));
            assert_eq!(activity.last_requested(SHOP, a), Some(hour(expected)));
        }
    }

    #[test]
    fn a_mark_is_written_twice_a_day_however_often_it_is_renewed() {
        let book = book_of(&["A"]);
        let activity = Activity::new(vec![vec![70]]);
        let mut written = 0;
        for n in 0..48 {
            activity.record_requested(SHOP, 0, [sku_id(&book, "A")].into_iter(), hour(n));
            written += activity.take_unsaved(SHOP, &book).len();
        }
        assert_eq!(written, 4);
    }

    #[test]
    fn what_was_taken_out_can_be_taken_in_again() {
        let book = book_of(&["A"]);
        let activity = Activity::new(vec![vec![70, 80]]);
        let a = sku_id(&book, "A");
        activity.record_requested(SHOP, 1, [a].into_iter(), hour(7));
        activity.record_stated(
            SHOP,
            [a].into_iter(),
            LastStated {
                hour: hour(8),
                origin: 4,
            },
        );
        activity.record_unknown(SHOP, 0, "X", hour(9));
        let unsaved = activity.take_unsaved(SHOP, &book);
        assert_eq!(unsaved.len(), 2);
        assert!(activity.take_unsaved(SHOP, &book).is_empty());
        // The warehouses are listed otherwise now, and one is gone.
        let restored = Activity::new(vec![vec![80]]);
        for (sku, sku_activity) in &unsaved {
            restored.restore(
                SHOP,
                sku,
                book.get(SHOP, sku.as_str()).map(|e| e.id()),
                sku_activity,
            );
        }
        assert_eq!(restored.get(SHOP, a).requested, [(80, hour(7))]);
        assert_eq!(restored.last_stated(SHOP, a), activity.last_stated(SHOP, a));
        assert!(restored.take_unsaved(SHOP, &book).is_empty());
    }

    #[test]
    fn a_stranger_that_is_introduced_keeps_what_it_was_asked_for() {
        let activity = Activity::new(vec![vec![70, 80]]);
        for sku in ["A", "B"] {
            activity.record_unknown(SHOP, 1, sku, hour(3));
        }
        let book = book_of(&["A", "B"]);
        let (a, b) = (sku_id(&book, "A"), sku_id(&book, "B"));
        activity.promote_known(SHOP, std::iter::once((&Sku::parse("A").unwrap(), a)));
        assert_eq!(activity.get(SHOP, a).requested, [(80, hour(3))]);
        // The other was introduced behind our back, and asked for since.
        activity.record_requested(SHOP, 1, std::iter::once(b), hour(9));
        activity.for_each_unknown(SHOP, &book, |sku, _| panic!("{sku} is no stranger"));
        assert_eq!(activity.get(SHOP, b).requested, [(80, hour(9))]);
        assert_eq!(
            activity.take_unsaved(SHOP, &book).len(),
            2,
            "it is not on disk yet"
        );
    }

    #[test]
    fn strangers_are_few_at_most_and_leave_when_they_are_known() {
        let activity = Activity::new(vec![vec![70]]);
        let empty_book = StockBook::new([0]);
        for n in 0..=MAX_UNKNOWN_SKUS {
            activity.record_unknown(SHOP, 0, &n.to_string(), hour(1));
        }
        let mut visited = 0;
        assert!(
            activity.for_each_unknown(SHOP, &empty_book, |_, _| visited += 1),
            "one did not fit"
        );
        assert_eq!(visited, MAX_UNKNOWN_SKUS);
        let book = book_of(&["7"]);
        let mut is_still_unknown = false;
        activity.for_each_unknown(SHOP, &book, |sku, _| {
            is_still_unknown |= sku.as_str() == "7"
        });
        assert!(!is_still_unknown);
    }
}

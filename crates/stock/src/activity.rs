//! Activity per SKU: when the seller last stated its stock and when the Market last requested it.
//!
//! Kept to the hour. The hours of the last statement and of the last request for the first
//! warehouse are in the record that has the level, so that a look-up has them in the cache. The
//! origin takes one byte more per SKU, and each further warehouse two.
//! SKUs that the Market requests but the book does not have are kept by text, up to a limit.

use std::collections::HashMap;
use std::iter::once;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use parking_lot::Mutex;

use super::atomic_per_sku::AtomicPerSku;
use super::packed_activity::{PackedHour, PackedStated};
use super::shop_stock::ShopStock;
use super::sku_records::SkuFacts;
use super::sku_words::SkuWords;
use super::{BookEntry, Hour, ShopId, Sku, SkuId, StockBook, TextInBuffer};

/// Maximum unknown SKUs kept per shop: SKUs that the Market requested and the book does not have.
const MAX_UNKNOWN_SKUS: usize = 100_000;

/// The seller's last statement about a SKU, whether it changed the stock or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastStated {
    /// Hour of the statement.
    pub hour: Hour,
    /// Number of the origin, assigned by `ingest`.
    pub origin: u8,
}

/// Activity of one SKU.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SkuActivity {
    /// Last statement of the seller.
    pub stated: Option<LastStated>,
    /// Hour of the Market's last request, by warehouse id.
    pub requested: Vec<(u64, Hour)>,
}

impl SkuActivity {
    /// Returns the hour of the Market's last request for any warehouse.
    #[must_use]
    pub fn last_requested(&self) -> Option<Hour> {
        self.requested.iter().map(|(_, hour)| *hour).max()
    }
}

/// Activity of all shops.
///
/// Updated while requests are answered, so an update is one atomic store. For further warehouses and
/// for origins, a lock is taken for writing once per 1024 new SKUs, as long as it takes to push a
/// pointer.
#[derive(Debug)]
pub struct Activity {
    shops: Vec<ShopActivity>,
}

#[derive(Debug)]
struct ShopActivity {
    stock: Arc<ShopStock>,
    warehouses: Vec<u64>,
    // Origin of the last statement.
    origins: AtomicPerSku<AtomicU8>,
    // Last requests for all warehouses but the first.
    requested_elsewhere: Vec<AtomicPerSku<AtomicU16>>,
    unknown: Mutex<UnknownSkus>,
    // Set by every update, cleared by `take_unsaved`.
    has_changes: AtomicBool,
}

#[derive(Debug, Default)]
struct UnknownSkus {
    // One hour per warehouse of the shop, in the shop's order.
    skus: HashMap<Sku, Vec<PackedHour>>,
    // More SKUs were requested than MAX_UNKNOWN_SKUS.
    has_overflowed: bool,
}

impl Activity {
    /// Creates an empty activity for the shops of a book with these warehouse ids.
    #[must_use]
    pub fn new(book: &StockBook, warehouses: Vec<Vec<u64>>) -> Self {
        let shop = |(stock, warehouses): (_, Vec<u64>)| ShopActivity {
            stock,
            origins: AtomicPerSku::default(),
            requested_elsewhere: (1..warehouses.len())
                .map(|_| AtomicPerSku::default())
                .collect(),
            warehouses,
            unknown: Mutex::default(),
            has_changes: AtomicBool::new(false),
        };
        Self {
            shops: book.shop_stocks().zip(warehouses).map(shop).collect(),
        }
    }

    /// Returns the entries of the SKUs in a request of the Market, in their order, and records that
    /// they were requested. Each SKU must be trimmed.
    ///
    /// `warehouse` is the index in the shop's list of warehouses. A larger one records nothing.
    #[must_use]
    pub fn get_requested<'a>(
        &self,
        shop: ShopId,
        warehouse: usize,
        skus: impl IntoIterator<Item = impl Into<TextInBuffer<'a>>, IntoIter: ExactSizeIterator>,
        hour: Hour,
    ) -> Vec<Option<BookEntry>> {
        let shop = &self.shops[shop.index()];
        let skus = skus.into_iter().map(Into::into);
        if warehouse >= shop.warehouses.len() {
            return shop.stock.get_many(skus, |_| ());
        }
        shop.has_changes.store(true, Ordering::Relaxed);
        let Some(cells) = warehouse
            .checked_sub(1)
            .map(|n| &shop.requested_elsewhere[n])
        else {
            return shop
                .stock
                .get_many(skus, |facts| advance_hour(&facts.requested, hour));
        };
        let entries = shop.stock.get_many(skus, |_| ());
        let known = entries.iter().flatten().map(|entry| entry.id());
        cells.update(known, |_, cell| advance_hour(cell, hour));
        entries
    }

    /// Records a request of the Market for a SKU that the book does not have.
    ///
    /// Skipped if the list is locked, so that the response never waits. The Market requests the
    /// SKU again.
    pub fn record_unknown(&self, shop: ShopId, warehouse: usize, sku: &str, hour: Hour) {
        let shop = &self.shops[shop.index()];
        let (Some(mut unknown), Ok(sku)) = (shop.unknown.try_lock(), Sku::parse(sku)) else {
            return;
        };
        unknown.record(sku, warehouse, shop.warehouses.len(), |known| {
            known.advanced_to(hour)
        });
        shop.has_changes.store(true, Ordering::Relaxed);
    }

    /// Moves the request history of newly known SKUs out of the list of unknown SKUs.
    pub fn promote_known<'a>(&self, shop: ShopId, known: impl Iterator<Item = (&'a Sku, SkuId)>) {
        let shop_activity = &self.shops[shop.index()];
        let mut unknown = shop_activity.unknown.lock();
        if unknown.skus.is_empty() {
            return;
        }
        for (sku, id) in known {
            if let Some(hours) = unknown.skus.remove(sku) {
                shop_activity.adopt_history(id, &hours);
            }
        }
    }

    /// Records a statement of the seller about SKUs, whether it changed their stock or not.
    pub fn record_stated(
        &self,
        shop: ShopId,
        ids: impl Iterator<Item = SkuId>,
        stated: LastStated,
    ) {
        let shop = &self.shops[shop.index()];
        shop.has_changes.store(true, Ordering::Relaxed);
        shop.origins.update(ids, |id, origin| {
            let Some(facts) = shop.stock.records.facts(id.number()) else {
                return;
            };
            let known = load_stated(facts, origin.load(Ordering::Relaxed));
            let advanced = known.advanced_to(stated);
            if advanced != known {
                store_stated(facts, origin, advanced);
            }
        });
    }

    /// Returns the seller's last statement about a SKU.
    #[must_use]
    pub fn last_stated(&self, shop: ShopId, id: SkuId) -> Option<LastStated> {
        self.shops[shop.index()].stated(id).get()
    }

    /// Returns the hour of the Market's last request for a SKU, for any warehouse.
    #[must_use]
    pub fn last_requested(&self, shop: ShopId, id: SkuId) -> Option<Hour> {
        let shop = &self.shops[shop.index()];
        shop.requested(id).filter_map(PackedHour::hour).max()
    }

    /// Returns the activity of a SKU.
    #[must_use]
    pub fn get(&self, shop: ShopId, id: SkuId) -> SkuActivity {
        let shop = &self.shops[shop.index()];
        let requested = shop.warehouses.iter().zip(shop.requested(id));
        let requested = requested.filter_map(|(warehouse, hour)| Some((*warehouse, hour.hour()?)));
        SkuActivity {
            stated: shop.stated(id).get(),
            requested: requested.collect(),
        }
    }

    /// Visits the SKUs that the Market requested and the book does not have.
    ///
    /// Returns true if there were more than the limit of 100 000 per shop.
    pub fn for_each_unknown(
        &self,
        shop: ShopId,
        mut visit: impl FnMut(&Sku, &SkuActivity),
    ) -> bool {
        let shop_activity = &self.shops[shop.index()];
        let mut unknown = shop_activity.unknown.lock();
        // A SKU may have been requested as unknown while it was being added to the book.
        unknown.skus.retain(|sku, hours| {
            let known = shop_activity.stock.get(&SkuWords::of_sku(sku), |_| ());
            if let Some(entry) = known {
                shop_activity.adopt_history(entry.id(), hours);
            }
            known.is_none()
        });
        for (sku, hours) in &unknown.skus {
            visit(sku, &shop_activity.activity_of_unknown(hours));
        }
        unknown.has_overflowed
    }

    /// Returns the activity that is not on disk yet, and counts it as saved.
    ///
    /// If the caller then fails to write it, up to half a day of activity is lost on a restart.
    #[must_use]
    pub fn take_unsaved(&self, shop: ShopId) -> Vec<(Sku, SkuActivity)> {
        let mut unsaved = Vec::new();
        let shop_activity = &self.shops[shop.index()];
        if !shop_activity.has_changes.swap(false, Ordering::Relaxed) {
            return unsaved;
        }
        let records = &shop_activity.stock.records;
        let _completed = records.try_for_each(|number, words, facts| {
            let id = SkuId::from_number(number);
            if shop_activity.clear_unsaved(id, facts) {
                unsaved.push((words.to_sku(), self.get(shop, id)));
            }
            ControlFlow::<()>::Continue(())
        });
        let mut unknown = shop_activity.unknown.lock();
        for (sku, hours) in &mut unknown.skus {
            if hours.iter().any(|hour| hour.is_unsaved()) {
                hours.iter_mut().for_each(|hour| *hour = hour.as_saved());
                unsaved.push((sku.clone(), shop_activity.activity_of_unknown(hours)));
            }
        }
        unsaved
    }

    /// Restores the activity of a SKU from disk; `id` is `None` if the book does not have the SKU.
    ///
    /// Warehouses that no longer belong to the shop are skipped.
    pub fn restore(&self, shop: ShopId, sku: &Sku, id: Option<SkuId>, activity: &SkuActivity) {
        let shop_activity = &self.shops[shop.index()];
        if let (Some(id), Some(LastStated { hour, origin })) = (id, activity.stated) {
            let saved = PackedStated::new(PackedHour::from_saved(hour), origin);
            shop_activity.origins.update(once(id), |id, origin| {
                if let Some(facts) = shop_activity.stock.records.facts(id.number()) {
                    store_stated(facts, origin, saved);
                }
            });
        }
        for (warehouse, hour) in &activity.requested {
            let warehouses = &shop_activity.warehouses;
            let Some(position) = warehouses.iter().position(|id| id == warehouse) else {
                continue;
            };
            let saved = PackedHour::from_saved(*hour);
            if let Some(id) = id {
                let store = |cell: &AtomicU16| cell.store(saved.0, Ordering::Relaxed);
                shop_activity.change_requested(position, id, store);
            } else {
                let mut unknown = shop_activity.unknown.lock();
                unknown.record(sku.clone(), position, warehouses.len(), |_| saved);
            }
        }
    }
}

impl ShopActivity {
    fn stated(&self, id: SkuId) -> PackedStated {
        let facts = self.stock.records.facts(id.number());
        facts.map_or(PackedStated::default(), |facts| {
            // The hour first: it is written after the origin.
            let hour = PackedHour(facts.stated.load(Ordering::Acquire));
            PackedStated::new(hour, self.origins.load(id))
        })
    }

    /// Returns the hour of the last request for each warehouse, in their order.
    fn requested(&self, id: SkuId) -> impl Iterator<Item = PackedHour> {
        let facts = self.stock.records.facts(id.number());
        let first = facts.map(|facts| facts.requested.load(Ordering::Relaxed));
        let elsewhere = self
            .requested_elsewhere
            .iter()
            .map(move |cells| cells.load(id));
        let hours = first.into_iter().chain(elsewhere);
        hours.take(self.warehouses.len()).map(PackedHour)
    }

    /// Applies `change` to the hour of the last request for a warehouse of the shop.
    fn change_requested(&self, warehouse: usize, id: SkuId, change: impl Fn(&AtomicU16)) {
        if let Some(elsewhere) = warehouse.checked_sub(1) {
            self.requested_elsewhere[elsewhere].update(once(id), |_, cell| change(cell));
        } else if let Some(facts) = self.stock.records.facts(id.number()) {
            change(&facts.requested);
        }
    }

    /// Raises the request hours of a SKU to `hours`, where those are later.
    fn adopt_history(&self, id: SkuId, hours: &[PackedHour]) {
        for (warehouse, hour) in hours.iter().enumerate() {
            self.change_requested(warehouse, id, |cell| {
                if hour.hour() > PackedHour(cell.load(Ordering::Relaxed)).hour() {
                    cell.store(hour.0, Ordering::Relaxed);
                }
            });
        }
    }

    fn clear_unsaved(&self, id: SkuId, facts: &SkuFacts) -> bool {
        let mut was_unsaved = clear_flag(&facts.stated) | clear_flag(&facts.requested);
        for cells in &self.requested_elsewhere {
            if PackedHour(cells.load(id)).is_unsaved() {
                cells.update(once(id), |_, cell| was_unsaved |= clear_flag(cell));
            }
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

/// Advances a recorded hour. Called for every SKU of every request; mostly the hour is recorded
/// already, and nothing is written.
#[inline]
fn advance_hour(cell: &AtomicU16, hour: Hour) {
    let known = PackedHour(cell.load(Ordering::Relaxed));
    if known.as_saved() != PackedHour::from_saved(hour) {
        cell.store(known.advanced_to(hour).0, Ordering::Relaxed);
    }
}

/// Clears the flag for "not on disk yet", and returns true if it was set.
fn clear_flag(cell: &AtomicU16) -> bool {
    // Only the bit is cleared, so that a concurrent update is not lost.
    PackedHour(cell.load(Ordering::Relaxed)).is_unsaved()
        && PackedHour(cell.fetch_and(!PackedHour::UNSAVED, Ordering::Relaxed)).is_unsaved()
}

fn load_stated(facts: &SkuFacts, origin: u8) -> PackedStated {
    PackedStated::new(PackedHour(facts.stated.load(Ordering::Relaxed)), origin)
}

/// Writes the origin before the hour. So a reader that sees the hour sees its origin too.
fn store_stated(facts: &SkuFacts, origin: &AtomicU8, stated: PackedStated) {
    origin.store(stated.origin(), Ordering::Relaxed);
    facts
        .stated
        .store(stated.packed_hour().0, Ordering::Release);
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
        let no_hours = || vec![PackedHour::default(); warehouse_count];
        let hours = self.skus.entry(sku).or_insert_with(no_hours);
        if let Some(hour) = hours.get_mut(warehouse) {
            *hour = advance(*hour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Count, Level, Timestamp};

    const SHOP: ShopId = ShopId(0);

    fn hour(n: u16) -> Hour {
        Hour(n)
    }

    fn book_of(skus: &[&str]) -> StockBook {
        let book = StockBook::new([0]);
        add(&book, skus);
        book
    }

    fn add(book: &StockBook, skus: &[&str]) {
        for text in skus {
            let updated_at = Timestamp::from_micros(0).unwrap();
            let level = Level {
                count: Count::ZERO,
                updated_at,
            };
            book.apply(SHOP, &Sku::parse(text).unwrap(), level);
        }
    }

    fn request(activity: &Activity, warehouse: usize, sku: &str, n: u16) {
        let entries = activity.get_requested(SHOP, warehouse, [sku], hour(n));
        assert!(entries[0].is_some(), "{sku} is in the book");
    }

    fn sku_id(book: &StockBook, sku: &str) -> SkuId {
        book.get(SHOP, sku).unwrap().id()
    }

    #[test]
    fn keeps_the_latest_request_per_warehouse() {
        let book = book_of(&["A", "B"]);
        let activity = Activity::new(&book, vec![vec![70, 80]]);
        let a = sku_id(&book, "A");
        request(&activity, 0, "A", 5);
        request(&activity, 1, "A", 9);
        request(&activity, 1, "A", 8);
        let requested = [(70, hour(5)), (80, hour(9))];
        assert_eq!(activity.get(SHOP, a).requested, requested);
        assert_eq!(activity.last_requested(SHOP, a), Some(hour(9)));
        assert_eq!(activity.last_requested(SHOP, sku_id(&book, "B")), None);
    }

    #[test]
    fn keeps_the_latest_statement_with_its_origin() {
        let book = book_of(&["A"]);
        let activity = Activity::new(&book, vec![vec![70]]);
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
    fn hour_of_a_wrong_clock_is_replaced() {
        let book = book_of(&["A"]);
        let activity = Activity::new(&book, vec![vec![70]]);
        let a = sku_id(&book, "A");
        for (n, expected) in [(9_000, 9_000), (5, 5), (7, 7), (6, 7)] {
            let stated = LastStated {
                hour: hour(n),
                origin: 1,
            };
            activity.record_stated(SHOP, [a].into_iter(), stated);
            request(&activity, 0, "A", n);
            assert_eq!(activity.last_stated(SHOP, a).unwrap().hour, hour(expected));
            assert_eq!(activity.last_requested(SHOP, a), Some(hour(expected)));
        }
    }

    #[test]
    fn hourly_requests_are_saved_twice_a_day() {
        let book = book_of(&["A"]);
        let activity = Activity::new(&book, vec![vec![70]]);
        let mut written = 0;
        for n in 0..48 {
            request(&activity, 0, "A", n);
            written += activity.take_unsaved(SHOP).len();
        }
        assert_eq!(written, 4);
    }

    #[test]
    fn unsaved_activity_can_be_restored() {
        let book = book_of(&["A"]);
        let activity = Activity::new(&book, vec![vec![70, 80]]);
        let a = sku_id(&book, "A");
        request(&activity, 1, "A", 7);
        activity.record_stated(
            SHOP,
            [a].into_iter(),
            LastStated {
                hour: hour(8),
                origin: 4,
            },
        );
        activity.record_unknown(SHOP, 0, "X", hour(9));
        let unsaved = activity.take_unsaved(SHOP);
        assert_eq!(unsaved.len(), 2);
        assert!(activity.take_unsaved(SHOP).is_empty());
        // After the restart the shop has another list of warehouses.
        let restored_book = book_of(&["A"]);
        let restored = Activity::new(&restored_book, vec![vec![80]]);
        for (sku, sku_activity) in &unsaved {
            restored.restore(
                SHOP,
                sku,
                restored_book.get(SHOP, sku.as_str()).map(|e| e.id()),
                sku_activity,
            );
        }
        assert_eq!(restored.get(SHOP, a).requested, [(80, hour(7))]);
        assert_eq!(restored.last_stated(SHOP, a), activity.last_stated(SHOP, a));
        assert!(restored.take_unsaved(SHOP).is_empty());
    }

    #[test]
    fn promoted_sku_keeps_its_request_history() {
        let book = StockBook::new([0]);
        let activity = Activity::new(&book, vec![vec![70, 80]]);
        for sku in ["A", "B"] {
            activity.record_unknown(SHOP, 1, sku, hour(3));
        }
        add(&book, &["A", "B"]);
        let (a, b) = (sku_id(&book, "A"), sku_id(&book, "B"));
        activity.promote_known(SHOP, std::iter::once((&Sku::parse("A").unwrap(), a)));
        assert_eq!(activity.get(SHOP, a).requested, [(80, hour(3))]);
        // B was added to the book without `promote_known`, and requested since.
        request(&activity, 1, "B", 9);
        activity.for_each_unknown(SHOP, |sku, _| panic!("{sku} is in the book"));
        assert_eq!(activity.get(SHOP, b).requested, [(80, hour(9))]);
        assert_eq!(
            activity.take_unsaved(SHOP).len(),
            2,
            "both SKUs are not on disk yet"
        );
    }

    #[test]
    fn unknown_skus_are_bounded_and_removed_when_known() {
        let book = StockBook::new([0]);
        let activity = Activity::new(&book, vec![vec![70]]);
        for n in 0..=MAX_UNKNOWN_SKUS {
            activity.record_unknown(SHOP, 0, &n.to_string(), hour(1));
        }
        let mut visited = 0;
        assert!(
            activity.for_each_unknown(SHOP, |_, _| visited += 1),
            "one did not fit"
        );
        assert_eq!(visited, MAX_UNKNOWN_SKUS);
        add(&book, &["7"]);
        let mut is_still_unknown = false;
        activity.for_each_unknown(SHOP, |sku, _| {
            is_still_unknown |= sku.as_str() == "7";
        });
        assert!(!is_still_unknown);
    }
}

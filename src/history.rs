//! What happened to each SKU lately, for the one who asks why a number is what it is.
//!
//! Bounded: the last quarter of a million events of all shops, and the last four thousand
//! requests to the Market, 8 MB in all. What fell out is told by its absence: how the stock
//! stands now is known to the book and the ledger, not here. Nothing is ever decided by it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::stock::{Count, Level, ShopId, SkuId};

/// Events remembered of all shops together.
const MAX_EVENTS: usize = 262_144;

/// Requests remembered of all shops together.
const MAX_BATCHES: usize = 4096;

/// One thing that happened to one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// The seller said something new of it, by the way of this number.
    Stated(u8),
    /// The seller said of it what was known already.
    Repeated(u8),
    /// It was in a request that ended; which, and how, says the [`Batch`] of this number.
    Sent(u32),
    /// It was refused by itself and set aside.
    SetAside,
    /// It is no longer set aside.
    Released,
    /// A read-back showed the Market's own count of it, in the class of this number.
    Seen(u8),
}

/// When what happened, and how many there were of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Event {
    second: u32,
    shop: ShopId,
    id: SkuId,
    /// How many the seller stated, we sent, or the Market showed.
    pub count: u32,
    /// What happened.
    pub what: What,
}

impl Event {
    /// When it happened, to the second.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.second.into(), 0).unwrap_or_default()
    }
}

/// A request to the Market that ended.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Told to [`History::answered`], found again by [`What::Sent`].
    pub number: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
    /// How many SKUs were in it.
    pub skus: usize,
    /// What the answer meant, by its stable name.
    pub verdict: &'static str,
    /// The same in words, the Market's own if it said any.
    pub words: String,
    /// The Market's name for the request, for its support.
    pub trace: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    rings: Mutex<Rings>,
}

#[derive(Debug, Default)]
struct Rings {
    events: VecDeque<Event>,
    batches: VecDeque<Batch>,
    next: u32,
}

impl History {
    /// The same happened to many SKUs of a shop at once.
    pub fn note(
        &self,
        shop: ShopId,
        at: DateTime<Utc>,
        what: What,
        skus: impl Iterator<Item = (SkuId, Count)>,
    ) {
        let mut rings = self.lock();
        skus.for_each(|(id, count)| rings.add(shop, at, id, count.get(), what));
    }

    /// A request ended in which these were; its number is given here.
    pub fn answered(&self, shop: ShopId, batch: Batch, skus: impl Iterator<Item = (SkuId, Level)>) {
        let mut rings = self.lock();
        let (number, at) = (rings.next, batch.at);
        rings.next = rings.next.wrapping_add(1);
        if rings.batches.len() == MAX_BATCHES {
            rings.batches.pop_front();
        }
        rings.batches.push_back(Batch { number, ..batch });
        let what = What::Sent(number);
        skus.for_each(|(id, level)| rings.add(shop, at, id, level.count.get(), what));
    }

    /// The last events of one SKU, the latest first, each with its request if it had one that
    /// is still remembered.
    #[must_use]
    pub fn of(&self, shop: ShopId, id: SkuId, most: usize) -> Vec<(Event, Option<Batch>)> {
        let rings = self.lock();
        let mine = rings
            .events
            .iter()
            .rev()
            .filter(|event| (event.shop, event.id) == (shop, id));
        mine.take(most)
            .map(|event| (*event, rings.batch_of(event)))
            .collect()
    }

    /// Since when nothing has fallen out; `None` while nothing has.
    #[must_use]
    pub fn since(&self) -> Option<DateTime<Utc>> {
        let rings = self.lock();
        rings
            .events
            .front()
            .filter(|_| rings.events.len() == MAX_EVENTS)
            .map(Event::at)
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    fn add(&mut self, shop: ShopId, at: DateTime<Utc>, id: SkuId, count: u32, what: What) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        let second = u32::try_from(at.timestamp()).unwrap_or_default();
        self.events.push_back(Event {
            second,
            shop,
            id,
            count,
            what,
        });
    }

    fn batch_of(&self, event: &Event) -> Option<Batch> {
        let What::Sent(number) = event.what else {
            return None;
        };
        let oldest = self.batches.front()?.number;
        self.batches
            .get(number.wrapping_sub(oldest) as usize)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::{Instant, Sku, StockBook};

    const SHOP: ShopId = ShopId(0);

    fn ids() -> Vec<SkuId> {
        let shelf = StockBook::new([0]);
        let level = Level {
            count: Count::ZERO,
            updated_at: Instant::from_micros(0).unwrap(),
        };
        let enter = |n: usize| shelf.restore(SHOP, Sku::parse(&n.to_string()).unwrap(), level);
        (0..2).map(enter).collect()
    }

    fn batch(words: &str) -> Batch {
        Batch {
            number: 0,
            at: DateTime::UNIX_EPOCH,
            took: Duration::ZERO,
            skus: 1,
            verdict: "accept",
            words: words.to_owned(),
            trace: None,
        }
    }

    #[test]
    fn a_sku_finds_its_own_events_and_the_requests_it_was_in() {
        let (history, ids) = (History::default(), ids());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let five = Count::try_from(5).unwrap();
        history.note(SHOP, at, What::Stated(1), ids.iter().map(|id| (*id, five)));
        let level = Level {
            count: five,
            updated_at: at.into(),
        };
        history.answered(SHOP, batch("first"), [(ids[1], level)].into_iter());
        history.answered(SHOP, batch("second"), [(ids[0], level)].into_iter());
        let found = history.of(SHOP, ids[0], 9);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.as_ref().unwrap().words, "second");
        assert_eq!((found[1].0.what, found[1].0.at()), (What::Stated(1), at));
        assert!(history.of(ShopId(1), ids[0], 9).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_says_since_when() {
        let (history, ids) = (History::default(), ids());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        history.note(
            SHOP,
            at,
            What::SetAside,
            [(ids[0], Count::ZERO)].into_iter(),
        );
        assert_eq!(history.since(), None);
        let many = std::iter::repeat_n((ids[1], Count::ZERO), MAX_EVENTS);
        history.note(SHOP, at, What::Released, many);
        assert!(history.of(SHOP, ids[0], 9).is_empty());
        assert_eq!(history.since(), Some(at));
        let level = Level {
            count: Count::ZERO,
            updated_at: at.into(),
        };
        for n in 0..=MAX_BATCHES {
            history.answered(SHOP, batch(&n.to_string()), [(ids[0], level)].into_iter());
        }
        let found = history.of(SHOP, ids[0], usize::MAX);
        assert_eq!(found.len(), MAX_BATCHES + 1);
        assert_eq!(found[0].1.as_ref().unwrap().words, MAX_BATCHES.to_string());
        assert!(found[MAX_BATCHES].1.is_none(), "the first fell out");
    }

    #[test]
    fn an_event_takes_twenty_four_bytes() {
        assert_eq!(size_of::<Event>(), 24);
    }
}

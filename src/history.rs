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
const MAX_REQUESTS: usize = 4096;

/// One thing that happened to one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The seller said something new of it, by the way of this number.
    Stated(u8),
    /// The seller said of it what was known already.
    Repeated(u8),
    /// It was in a request that ended; which, and how, says the [`Batch`] of this number.
    Sent(u32),
    /// It was refused by itself and set aside.
    Quarantined,
    /// It is no longer set aside.
    Released,
    /// A read-back showed the Market's own count of it, in the class of this number.
    ReadBack(u8),
}

/// When what happened, and how many there were of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SkuEvent {
    second: u32,
    shop: ShopId,
    id: SkuId,
    /// How many the seller stated, we sent, or the Market showed.
    pub count: u32,
    /// What happened.
    pub kind: EventKind,
}

impl SkuEvent {
    /// When it happened, to the second.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.second.into(), 0).unwrap_or_default()
    }
}

/// A request to the Market that ended.
#[derive(Clone, Debug)]
pub struct SentBatch {
    /// Told to [`History::answered`], found again by [`What::Sent`].
    pub number: u32,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub duration: Duration,
    /// How many SKUs were in it.
    pub sku_count: usize,
    /// What the answer meant, by its stable name.
    pub outcome: &'static str,
    /// The same in words, the Market's own if it said any.
    pub text: String,
    /// The Market's name for the request, for its support.
    pub market_request_id: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    buffers: Mutex<HistoryBuffers>,
}

#[derive(Debug, Default)]
struct HistoryBuffers {
    events: VecDeque<SkuEvent>,
    batches: VecDeque<SentBatch>,
    next_number: u32,
}

impl History {
    /// The same happened to many SKUs of a shop at once.
    pub fn record(
        &self,
        shop: ShopId,
        at: DateTime<Utc>,
        kind: EventKind,
        skus: impl Iterator<Item = (SkuId, Count)>,
    ) {
        let mut buffers = self.lock();
        skus.for_each(|(id, count)| buffers.push(shop, at, id, count.get(), kind));
    }

    /// A request ended in which these were; its number is given here.
    pub fn record_request(
        &self,
        shop: ShopId,
        batch: SentBatch,
        skus: impl Iterator<Item = (SkuId, Level)>,
    ) {
        let mut buffers = self.lock();
        let (number, at) = (buffers.next_number, batch.at);
        buffers.next_number = buffers.next_number.wrapping_add(1);
        if buffers.batches.len() == MAX_REQUESTS {
            buffers.batches.pop_front();
        }
        buffers.batches.push_back(SentBatch { number, ..batch });
        let kind = EventKind::Sent(number);
        skus.for_each(|(id, level)| buffers.push(shop, at, id, level.count.get(), kind));
    }

    /// The last events of one SKU, the latest first, each with its request if it had one that
    /// is still remembered.
    #[must_use]
    pub fn events(
        &self,
        shop: ShopId,
        id: SkuId,
        limit: usize,
    ) -> Vec<(SkuEvent, Option<SentBatch>)> {
        let buffers = self.lock();
        let matching = buffers
            .events
            .iter()
            .rev()
            .filter(|event| (event.shop, event.id) == (shop, id));
        matching
            .take(limit)
            .map(|event| (*event, buffers.batch_of(event)))
            .collect()
    }

    /// Since when nothing has fallen out; `None` while nothing has.
    #[must_use]
    pub fn complete_since(&self) -> Option<DateTime<Utc>> {
        let buffers = self.lock();
        buffers
            .events
            .front()
            .filter(|_| buffers.events.len() == MAX_EVENTS)
            .map(SkuEvent::at)
    }

    fn lock(&self) -> MutexGuard<'_, HistoryBuffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistoryBuffers {
    fn push(&mut self, shop: ShopId, at: DateTime<Utc>, id: SkuId, count: u32, kind: EventKind) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        let second = u32::try_from(at.timestamp()).unwrap_or_default();
        self.events.push_back(SkuEvent {
            second,
            shop,
            id,
            count,
            kind,
        });
    }

    fn batch_of(&self, event: &SkuEvent) -> Option<SentBatch> {
        let EventKind::Sent(number) = event.kind else {
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
    use crate::stock::{Sku, StockBook, Timestamp};

    const SHOP: ShopId = ShopId(0);

    fn ids() -> Vec<SkuId> {
        let book = StockBook::new([0]);
        let level = Level {
            count: Count::ZERO,
            updated_at: Timestamp::from_micros(0).unwrap(),
        };
        let restore = |n: usize| book.restore(SHOP, Sku::parse(&n.to_string()).unwrap(), level);
        (0..2).map(restore).collect()
    }

    fn batch(text: &str) -> SentBatch {
        SentBatch {
            number: 0,
            at: DateTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            sku_count: 1,
            outcome: "accept",
            text: text.to_owned(),
            market_request_id: None,
        }
    }

    #[test]
    fn a_sku_finds_its_own_events_and_the_requests_it_was_in() {
        let (history, ids) = (History::default(), ids());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let five = Count::try_from(5).unwrap();
        history.record(
            SHOP,
            at,
            EventKind::Stated(1),
            ids.iter().map(|id| (*id, five)),
        );
        let level = Level {
            count: five,
            updated_at: at.into(),
        };
        history.record_request(SHOP, batch("first"), [(ids[1], level)].into_iter());
        history.record_request(SHOP, batch("second"), [(ids[0], level)].into_iter());
        let found = history.events(SHOP, ids[0], 9);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].1.as_ref().unwrap().text, "second");
        assert_eq!(
            (found[1].0.kind, found[1].0.at()),
            (EventKind::Stated(1), at)
        );
        assert!(history.events(ShopId(1), ids[0], 9).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_says_since_when() {
        let (history, ids) = (History::default(), ids());
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        history.record(
            SHOP,
            at,
            EventKind::Quarantined,
            [(ids[0], Count::ZERO)].into_iter(),
        );
        assert_eq!(history.complete_since(), None);
        let many = std::iter::repeat_n((ids[1], Count::ZERO), MAX_EVENTS);
        history.record(SHOP, at, EventKind::Released, many);
        assert!(history.events(SHOP, ids[0], 9).is_empty());
        assert_eq!(history.complete_since(), Some(at));
        let level = Level {
            count: Count::ZERO,
            updated_at: at.into(),
        };
        for n in 0..=MAX_REQUESTS {
            history.record_request(SHOP, batch(&n.to_string()), [(ids[0], level)].into_iter());
        }
        let found = history.events(SHOP, ids[0], usize::MAX);
        assert_eq!(found.len(), MAX_REQUESTS + 1);
        assert_eq!(found[0].1.as_ref().unwrap().text, MAX_REQUESTS.to_string());
        assert!(found[MAX_REQUESTS].1.is_none(), "the first fell out");
    }

    #[test]
    fn an_event_takes_twenty_four_bytes() {
        assert_eq!(size_of::<SkuEvent>(), 24);
    }
}

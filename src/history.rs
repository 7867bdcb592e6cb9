//! Recent events of each SKU, so that an operator can see why a count is what it is.
//!
//! Bounded, in memory only: the last 262 144 events of all shops and the last 4096 requests to the
//! Market, 8 MB in all. The current stock is in the book and in the ledger, not here, and no
//! decision depends on the history.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use stock::{Count, Level, ShopId, SkuId};

/// Maximum events kept of all shops together.
const MAX_EVENTS: usize = 262_144;

/// Maximum requests to the Market kept of all shops together.
const MAX_REQUESTS: usize = 4096;

/// Kind of an event of one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The seller stated a new level; the number is that of the origin.
    Stated(u8),
    /// The seller repeated the known level; the number is that of the origin.
    Repeated(u8),
    /// A request with the SKU ended; the number is that of its [`SentBatch`].
    Sent(u32),
    /// The Market rejected the SKU alone, and it was quarantined.
    Quarantined,
    /// The SKU left quarantine.
    Released,
    /// A read-back showed the Market's count; the number is that of the match state.
    Readback(u8),
}

/// One event of one SKU, in 24 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SkuEvent {
    second: u32,
    shop: ShopId,
    id: SkuId,
    /// Count that the seller stated, that was sent, or that the Market showed.
    pub count: u32,
    /// Kind of the event.
    pub kind: EventKind,
}

impl SkuEvent {
    /// Returns the time of the event, cut to seconds.
    #[must_use]
    pub fn at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.second.into(), 0).unwrap_or_default()
    }
}

/// Completed request to the Market.
#[derive(Clone, Debug)]
pub struct SentBatch {
    /// Number that [`EventKind::Sent`] refers to; [`History::record_request`] assigns it.
    pub number: u32,
    /// End of the request.
    pub at: DateTime<Utc>,
    /// Time from the start to the end of the request.
    pub duration: Duration,
    /// Number of SKUs in the batch.
    pub sku_count: usize,
    /// Stable name of the outcome.
    pub outcome: &'static str,
    /// Description of the outcome, in the Market's words if the response has any.
    pub text: String,
    /// The Market's id of the request, for its support.
    pub market_request_id: Option<String>,
}

/// Ring buffers of recent events and requests; see the [module](self).
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
    /// Records the same event for many SKUs of a shop.
    pub fn record(
        &self,
        shop: ShopId,
        at: DateTime<Utc>,
        kind: EventKind,
        skus: impl Iterator<Item = (SkuId, Count)>,
    ) {
        let mut buffers = self.buffers.lock();
        skus.for_each(|(id, count)| buffers.push(shop, at, id, count.get(), kind));
    }

    /// Records a completed request and its SKUs, and assigns the number of the request.
    pub fn record_request(
        &self,
        shop: ShopId,
        batch: SentBatch,
        skus: impl Iterator<Item = (SkuId, Level)>,
    ) {
        let mut buffers = self.buffers.lock();
        let (number, at) = (buffers.next_number, batch.at);
        buffers.next_number = buffers.next_number.wrapping_add(1);
        if buffers.batches.len() == MAX_REQUESTS {
            buffers.batches.pop_front();
        }
        buffers.batches.push_back(SentBatch { number, ..batch });
        let kind = EventKind::Sent(number);
        skus.for_each(|(id, level)| buffers.push(shop, at, id, level.count.get(), kind));
    }

    /// Returns up to `limit` events of one SKU, the latest first.
    ///
    /// An event of a request comes with the request, unless that was evicted.
    #[must_use]
    pub fn events(
        &self,
        shop: ShopId,
        id: SkuId,
        limit: usize,
    ) -> Vec<(SkuEvent, Option<SentBatch>)> {
        let buffers = self.buffers.lock();
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

    /// Returns the time from which the events are complete; `None` if no event was evicted.
    #[must_use]
    pub fn complete_since(&self) -> Option<DateTime<Utc>> {
        let buffers = self.buffers.lock();
        buffers
            .events
            .front()
            .filter(|_| buffers.events.len() == MAX_EVENTS)
            .map(SkuEvent::at)
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
    use stock::{Sku, StockBook, Timestamp};

    use super::*;

    const SHOP: ShopId = ShopId(0);

    fn ids() -> Vec<SkuId> {
        let book = StockBook::new([0]);
        let level = Level {
            count: Count::ZERO,
            updated_at: Timestamp::from_micros(0).unwrap(),
        };
        let restore = |n: usize| book.restore(SHOP, &Sku::parse(&n.to_string()).unwrap(), level);
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
    fn returns_the_events_and_requests_of_one_sku() {
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
    fn evicts_oldest_and_reports_complete_since() {
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
        assert!(
            found[MAX_REQUESTS].1.is_none(),
            "the first request was evicted"
        );
    }

    #[test]
    fn event_takes_twenty_four_bytes() {
        assert_eq!(size_of::<SkuEvent>(), 24);
    }
}

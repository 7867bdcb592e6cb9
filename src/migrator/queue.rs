//! Send queue of one shop: the order in which differing SKUs are sent. Pure.
//!
//! Decides the urgency of a SKU, its place in the queue, the mix of urgencies in a batch, and the
//! date that is sent with a count.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Count, Level, Sku, SkuId, Timestamp};

/// Send priority, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// Sold out: the shop must cancel every further order.
    Zero,
    /// Fewer pieces than the Market shows: the shop may have to cancel orders.
    Decrease,
    /// More pieces, the same count with a later date, or never sent: at worst, sales are missed.
    Rest,
}

impl Urgency {
    /// All kinds, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Zero, Self::Decrease, Self::Rest];

    /// Urgency of our level, compared with the level that the Market acknowledged last.
    #[must_use]
    pub fn of(ours: Level, acked: Option<Level>) -> Self {
        let has_same_count = acked.is_some_and(|acked| acked.count == ours.count);
        if ours.count == Count::ZERO && !has_same_count {
            Self::Zero
        } else if acked.is_some_and(|acked| ours.count < acked.count) {
            Self::Decrease
        } else {
            Self::Rest
        }
    }
}

/// Returns the date to send: `updated_at`, clamped to the range that the Market accepts.
///
/// The Market rejects dates in the future and dates older than 24 hours. The range here is
/// narrower: from 23 h 59 min ago to 2 s ago. `now` is the time by the Market's clock.
#[must_use]
pub fn clamp_to_window(updated_at: Timestamp, now: DateTime<Utc>) -> Timestamp {
    let earliest = now - TimeDelta::hours(24) + TimeDelta::seconds(60);
    let latest = now - TimeDelta::seconds(2);
    updated_at.clamp(earliest.into(), latest.into())
}

/// Position of a SKU within its urgency, in microseconds since the epoch; the lowest goes first.
///
/// The time of the change notification or, for a SKU found by a rescan, of the last
/// acknowledgement. Further changes do not move a SKU back, so every SKU is sent in the end.
pub type WaitingSince = i64;

/// SKU that waits in the queue, is in a batch or is isolated.
///
/// It is moved from one to the next, so its text is copied only when the SKU is queued. Everything
/// else refers to the SKU by its number.
#[derive(Clone, Debug)]
pub struct QueuedSku {
    /// Number of the SKU in the book.
    pub id: SkuId,
    /// Text for the request.
    pub sku: Sku,
    /// Age.
    pub since: WaitingSince,
}

impl QueuedSku {
    /// Returns the SKU with another age.
    pub(super) fn waiting_since(self, at: DateTime<Utc>) -> Self {
        let since = at.timestamp_micros();
        Self { since, ..self }
    }
}

/// SKUs whose book and ledger differ, in sending order, and the SKUs that were taken to be sent.
///
/// Holds at most [`MAX_QUEUED_SKUS`]. A full queue drops the youngest of the least urgent SKUs, and
/// [`SendQueue::has_overflowed`] then asks for a rescan, which finds the dropped SKUs again.
#[derive(Debug, Default)]
pub struct SendQueue {
    queues: [BTreeMap<QueueKey, QueuedSku>; 3],
    positions: HashMap<SkuId, (Urgency, QueueKey)>,
    // SKUs in flight or isolated. They are not queued, so a SKU is never in two requests at once.
    taken: HashSet<SkuId>,
    has_overflowed: bool,
}

/// Age of a SKU, and its number, which orders SKUs of the same age.
type QueueKey = (WaitingSince, usize);

/// Largest number of queued SKUs: half a minute of the Market's rate limit, about 6 MB.
pub const MAX_QUEUED_SKUS: usize = 50_000;

/// Part of a batch that is reserved for each less urgent kind that waits, as a divisor. So a flood
/// of zeros leaves at least a tenth of the rate limit to increases.
const RESERVE_DIVISOR: usize = 10;

impl SendQueue {
    /// Inserts a SKU that is not taken. A queued SKU keeps its age and gets the new urgency.
    pub fn insert(&mut self, id: SkuId, sku: &Sku, urgency: Urgency, since: WaitingSince) {
        let known = self.discard(id);
        let since = known.as_ref().map_or(since, |known| known.since.min(since));
        let sku = known.map_or_else(|| sku.clone(), |known| known.sku);
        let queued = QueuedSku { id, sku, since };
        let key = (since, id.index());
        self.queues[urgency as usize].insert(key, queued);
        self.positions.insert(id, (urgency, key));
        if self.positions.len() > MAX_QUEUED_SKUS
            && let Some((urgency, key)) = self.last()
            && let Some(last) = self.queues[urgency as usize].remove(&key)
        {
            self.positions.remove(&last.id);
            self.has_overflowed = true;
        }
    }

    /// Removes and returns a SKU, if it is queued.
    pub fn discard(&mut self, id: SkuId) -> Option<QueuedSku> {
        let (urgency, key) = self.positions.remove(&id)?;
        self.queues[urgency as usize].remove(&key)
    }

    /// Takes up to `max` SKUs of these kinds for the next batch, the oldest of each kind first.
    ///
    /// A tenth of the batch is reserved for each later kind that waits.
    pub fn take(&mut self, kinds: &[Urgency], max: usize) -> Vec<QueuedSku> {
        let mut taken = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let later = kinds[index + 1..].iter();
            let reserved: usize = later
                .map(|kind| self.count(*kind).min(max / RESERVE_DIVISOR))
                .sum();
            while taken.len() + reserved < max
                && let Some((_, queued)) = self.queues[*kind as usize].pop_first()
            {
                taken.push(queued);
            }
        }
        self.mark_taken(&taken);
        taken
    }

    /// Takes up to `max` SKUs, the youngest first, because they are least likely to have been
    /// rejected before.
    pub fn take_newest(&mut self, max: usize) -> Vec<QueuedSku> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let newest = self
                .queues
                .iter_mut()
                .max_by_key(|q| q.last_key_value().map(|(key, _)| *key));
            let Some((_, queued)) = newest.and_then(BTreeMap::pop_last) else {
                break;
            };
            taken.push(queued);
        }
        self.mark_taken(&taken);
        taken
    }

    fn mark_taken(&mut self, skus: &[QueuedSku]) {
        for QueuedSku { id, .. } in skus {
            self.positions.remove(id);
            self.taken.insert(*id);
        }
    }

    /// Marks a SKU that is not queued as taken.
    pub fn reserve(&mut self, id: SkuId) {
        self.taken.insert(id);
    }

    /// Ends the mark of a taken SKU, which may be queued again.
    pub fn give_back(&mut self, id: SkuId) {
        self.taken.remove(&id);
    }

    /// Returns true if the SKU is in flight or isolated.
    #[must_use]
    pub fn is_taken(&self, id: SkuId) -> bool {
        self.taken.contains(&id)
    }

    /// Returns the number of queued SKUs of this kind.
    #[must_use]
    pub fn count(&self, urgency: Urgency) -> usize {
        self.queues[urgency as usize].len()
    }

    /// Returns the number of queued SKUs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Returns true if no SKU is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Returns true if SKUs were dropped since the last rescan began: a rescan will find more.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// Inserts a SKU found by a rescan, unless a full queue would drop it at once.
    pub fn insert_if_fits(&mut self, id: SkuId, sku: &Sku, urgency: Urgency, since: WaitingSince) {
        let is_last = |(last, (last_since, _))| (urgency, since) >= (last, last_since);
        if self.positions.len() >= MAX_QUEUED_SKUS && self.last().is_some_and(is_last) {
            self.has_overflowed = true;
        } else {
            self.insert(id, sku, urgency, since);
        }
    }

    /// Clears the overflow mark, because the rescan that begins now finds all dropped SKUs.
    pub fn begin_rescan(&mut self) {
        self.has_overflowed = false;
    }

    fn last(&self) -> Option<(Urgency, QueueKey)> {
        Urgency::ALL.into_iter().rev().find_map(|urgency| {
            let (key, _) = self.queues[urgency as usize].last_key_value()?;
            Some((urgency, *key))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stock::{ShopId, StockBook};

    use super::*;

    /// Book with the SKUs `sku-0`, `sku-1` …, and a queue of them.
    struct QueueOfBook {
        skus: Vec<(SkuId, Sku)>,
        queue: SendQueue,
    }

    impl QueueOfBook {
        fn new(skus: usize) -> Self {
            let book = StockBook::new([skus]);
            let skus = (0..skus).map(|n| {
                let sku = Sku::parse(&format!("sku-{n}")).unwrap();
                (book.restore(ShopId(0), &sku, level(1)), sku)
            });
            Self {
                skus: skus.collect(),
                queue: SendQueue::default(),
            }
        }

        fn insert(&mut self, n: usize, urgency: Urgency, since: WaitingSince) {
            let (id, sku) = &self.skus[n];
            self.queue.insert(*id, sku, urgency, since);
        }

        fn insert_if_fits(&mut self, n: usize, urgency: Urgency, since: WaitingSince) {
            let (id, sku) = &self.skus[n];
            self.queue.insert_if_fits(*id, sku, urgency, since);
        }

        fn take(&mut self, max: usize) -> Vec<String> {
            let taken = self.queue.take(&Urgency::ALL, max);
            assert!(taken.iter().all(|queued| self.queue.is_taken(queued.id)));
            taken.iter().map(|queued| queued.sku.to_string()).collect()
        }
    }

    fn level(count: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(0).unwrap(),
        }
    }

    #[test]
    fn fall_to_zero_is_most_urgent() {
        assert_eq!(Urgency::of(level(0), Some(level(5))), Urgency::Zero);
        assert_eq!(Urgency::of(level(0), None), Urgency::Zero);
        assert_eq!(Urgency::of(level(0), Some(level(0))), Urgency::Rest);
        assert_eq!(Urgency::of(level(4), Some(level(5))), Urgency::Decrease);
        assert_eq!(Urgency::of(level(6), Some(level(5))), Urgency::Rest);
        assert_eq!(Urgency::of(level(6), None), Urgency::Rest);
    }

    #[test]
    fn dates_are_clamped_to_the_accepted_window() {
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let clamped = |at: &str| {
            let at: DateTime<Utc> = at.parse().unwrap();
            clamp_to_window(at.into(), now).to_string()
        };
        assert_eq!(
            clamped("2026-11-20T09:00:00.5Z"),
            "2026-11-20T09:00:00.500Z"
        );
        assert_eq!(clamped("2026-11-20T10:04:00Z"), "2026-11-20T09:59:58Z");
        assert_eq!(clamped("2019-09-09T10:01:18Z"), "2026-11-19T10:01:00Z");
    }

    #[test]
    fn takes_zeros_then_decreases_oldest_first() {
        let mut queue = QueueOfBook::new(5);
        queue.insert(1, Urgency::Rest, 1);
        queue.insert(2, Urgency::Decrease, 9);
        queue.insert(3, Urgency::Decrease, 8);
        queue.insert(4, Urgency::Zero, 99);
        assert_eq!(queue.take(3), ["sku-4", "sku-3", "sku-2"]);
        assert_eq!(queue.take(3), ["sku-1"]);
        assert!(queue.queue.is_empty());
    }

    #[test]
    fn flood_of_zeros_leaves_a_tenth_to_each_kind() {
        let mut queue = QueueOfBook::new(300);
        (0..100).for_each(|n| queue.insert(n, Urgency::Zero, 0));
        (100..200).for_each(|n| queue.insert(n, Urgency::Decrease, 0));
        (200..300).for_each(|n| queue.insert(n, Urgency::Rest, 0));
        let taken = queue.take(50);
        assert_eq!(taken.len(), 50);
        assert_eq!(taken[39], "sku-39");
        assert_eq!(
            taken[40..45],
            ["sku-100", "sku-101", "sku-102", "sku-103", "sku-104"]
        );
        assert_eq!(taken[45], "sku-200");
    }

    #[test]
    fn changing_sku_keeps_its_place() {
        let mut queue = QueueOfBook::new(3);
        queue.insert(1, Urgency::Rest, 1);
        queue.insert(2, Urgency::Rest, 2);
        queue.insert(1, Urgency::Rest, 3);
        assert_eq!(queue.take(9), ["sku-1", "sku-2"]);
    }

    #[test]
    fn full_queue_drops_the_least_urgent() {
        let mut queue = QueueOfBook::new(MAX_QUEUED_SKUS + 2);
        (0..MAX_QUEUED_SKUS).for_each(|n| queue.insert(n, Urgency::Rest, 5));
        assert!(!queue.queue.has_overflowed());
        queue.insert_if_fits(MAX_QUEUED_SKUS + 1, Urgency::Rest, 5);
        assert!(queue.queue.has_overflowed());
        queue.queue.begin_rescan();
        queue.insert_if_fits(MAX_QUEUED_SKUS, Urgency::Zero, 9);
        assert_eq!(queue.queue.len(), MAX_QUEUED_SKUS);
        assert!(queue.queue.has_overflowed());
        assert_eq!(queue.take(1), [format!("sku-{MAX_QUEUED_SKUS}")]);
    }

    proptest! {
        #[test]
        fn takes_every_sku_exactly_once(
            inserts in prop::collection::vec((0usize..40, 0usize..3, 0i64..9), 0..120),
            size in 1usize..20,
        ) {
            let mut queue = QueueOfBook::new(40);
            let mut expected = std::collections::BTreeSet::new();
            for (n, urgency, age) in inserts {
                let urgency = [Urgency::Zero, Urgency::Decrease, Urgency::Rest][urgency];
                queue.insert(n, urgency, age);
                expected.insert(format!("sku-{n}"));
            }
            prop_assert_eq!(queue.queue.len(), expected.len());
            let mut seen = std::collections::BTreeSet::new();
            while !queue.queue.is_empty() {
                let taken = queue.take(size);
                prop_assert!(!taken.is_empty() && taken.len() <= size);
                for text in taken {
                    prop_assert!(seen.insert(text), "taken twice");
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}

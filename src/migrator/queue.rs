//! Send queue of one shop: the order in which differing SKUs are sent. Pure.
//!
//! Decides the urgency of a SKU, its place in the queue, the mix of urgencies in a batch, and the
//! date that is sent with a count.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Count, Level, Sku, Timestamp};

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
    /// Urgency of our level, compared with the level that the Market acknowledged last.
    #[must_use]
    pub fn of(ours: Level, acked: Option<Level>) -> Self {
        match acked {
            Some(acked) if ours.count == Count::ZERO && acked.count == Count::ZERO => Self::Rest,
            Some(_) | None if ours.count == Count::ZERO => Self::Zero,
            Some(acked) if ours.count < acked.count => Self::Decrease,
            Some(_) | None => Self::Rest,
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

/// SKUs whose book and ledger differ, in sending order.
///
/// Holds at most [`MAX_QUEUED_SKUS`]. A full queue drops the youngest of the least urgent SKUs, and
/// [`SendQueue::has_overflowed`] then asks for a rescan, which finds the dropped SKUs again.
#[derive(Debug, Default)]
pub struct SendQueue {
    queues: [BTreeMap<(WaitingSince, u64), Sku>; 3],
    positions: HashMap<Sku, (Urgency, WaitingSince, u64)>,
    // Orders SKUs of the same age; never repeated.
    last_tie: u64,
    has_overflowed: bool,
}

/// Largest number of queued SKUs: half a minute of the Market's rate limit, about 6 MB.
pub const MAX_QUEUED_SKUS: usize = 50_000;

/// Part of a batch that is reserved for each less urgent kind that waits, as a divisor. So a flood
/// of zeros leaves at least a tenth of the rate limit to increases.
const RESERVE_DIVISOR: usize = 10;

impl SendQueue {
    /// Inserts a SKU. A queued SKU keeps its age and gets the new urgency.
    pub fn insert(&mut self, sku: &Sku, urgency: Urgency, since: WaitingSince) {
        let (since, tie) = if let Some((_, known_since, tie)) = self.remove(sku) {
            (known_since.min(since), tie)
        } else {
            self.last_tie += 1;
            (since, self.last_tie)
        };
        self.queues[urgency as usize].insert((since, tie), sku.clone());
        self.positions.insert(sku.clone(), (urgency, since, tie));
        if self.positions.len() > MAX_QUEUED_SKUS {
            self.evict_last();
        }
    }

    /// Removes a SKU, if it is queued.
    pub fn discard(&mut self, sku: &Sku) {
        self.remove(sku);
    }

    /// Removes up to `max` SKUs for the next batch and returns them with their ages.
    ///
    /// Zeros come first, then decreases, then the rest, the oldest of each first. A tenth of the
    /// batch is reserved for each less urgent kind that waits.
    pub fn take(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let reserved = max / RESERVE_DIVISOR;
        let rest = self.queue_len(Urgency::Rest).min(reserved);
        let decreases = self.queue_len(Urgency::Decrease).min(reserved);
        let mut taken = Vec::new();
        self.take_from(Urgency::Zero, max - decreases - rest, &mut taken);
        let left = max - rest - taken.len();
        self.take_from(Urgency::Decrease, left, &mut taken);
        let left = max - taken.len();
        self.take_from(Urgency::Rest, left, &mut taken);
        taken
    }

    /// Removes and returns up to `max` SKUs that fell to zero, the oldest first.
    pub fn take_zeros(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let mut taken = Vec::new();
        self.take_from(Urgency::Zero, max, &mut taken);
        taken
    }

    /// Removes and returns up to `max` other SKUs, in the order of [`SendQueue::take`].
    pub fn take_others(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let rest = self.queue_len(Urgency::Rest).min(max / RESERVE_DIVISOR);
        let mut taken = Vec::new();
        self.take_from(Urgency::Decrease, max - rest, &mut taken);
        let left = max - taken.len();
        self.take_from(Urgency::Rest, left, &mut taken);
        taken
    }

    /// Removes and returns up to `max` SKUs, the youngest first, because they are least likely to
    /// have been rejected before.
    pub fn take_newest(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let newest = self
                .queues
                .iter_mut()
                .max_by_key(|q| q.last_key_value().map(|(key, _)| *key));
            let Some(((since, _), sku)) = newest.and_then(BTreeMap::pop_last) else {
                break;
            };
            self.positions.remove(&sku);
            taken.push((sku, since));
        }
        taken
    }

    /// Returns the number of SKUs that fell to zero.
    #[must_use]
    pub fn zero_count(&self) -> usize {
        self.queue_len(Urgency::Zero)
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
    pub fn insert_if_fits(&mut self, sku: &Sku, urgency: Urgency, since: WaitingSince) {
        let is_last = |(last, (last_since, _))| (urgency, since) >= (last, last_since);
        if self.positions.len() >= MAX_QUEUED_SKUS && self.last().is_some_and(is_last) {
            self.has_overflowed = true;
        } else {
            self.insert(sku, urgency, since);
        }
    }

    /// Clears the overflow mark, because the rescan that begins now finds all dropped SKUs.
    pub fn begin_rescan(&mut self) {
        self.has_overflowed = false;
    }

    fn queue_len(&self, urgency: Urgency) -> usize {
        self.queues[urgency as usize].len()
    }

    fn take_from(&mut self, urgency: Urgency, max: usize, taken: &mut Vec<(Sku, WaitingSince)>) {
        for _ in 0..max {
            let Some(((since, _), sku)) = self.queues[urgency as usize].pop_first() else {
                return;
            };
            self.positions.remove(&sku);
            taken.push((sku, since));
        }
    }

    fn remove(&mut self, sku: &Sku) -> Option<(Urgency, WaitingSince, u64)> {
        let position = self.positions.remove(sku)?;
        self.queues[position.0 as usize].remove(&(position.1, position.2));
        Some(position)
    }

    fn last(&self) -> Option<(Urgency, (WaitingSince, u64))> {
        [Urgency::Rest, Urgency::Decrease, Urgency::Zero]
            .into_iter()
            .find_map(|urgency| {
                self.queues[urgency as usize]
                    .last_key_value()
                    .map(|(key, _)| (urgency, *key))
            })
    }

    fn evict_last(&mut self) {
        if let Some((urgency, key)) = self.last()
            && let Some(sku) = self.queues[urgency as usize].remove(&key)
        {
            self.positions.remove(&sku);
            self.has_overflowed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sku(n: usize) -> Sku {
        Sku::parse(&format!("sku-{n}")).unwrap()
    }

    fn level(count: i64) -> Level {
        Level {
            count: Count::try_from(count).unwrap(),
            updated_at: Timestamp::from_micros(0).unwrap(),
        }
    }

    fn sku_texts(taken: Vec<(Sku, WaitingSince)>) -> Vec<String> {
        taken.into_iter().map(|(sku, _)| sku.to_string()).collect()
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
        let mut queue = SendQueue::default();
        queue.insert(&sku(1), Urgency::Rest, 1);
        queue.insert(&sku(2), Urgency::Decrease, 9);
        queue.insert(&sku(3), Urgency::Decrease, 8);
        queue.insert(&sku(4), Urgency::Zero, 99);
        assert_eq!(sku_texts(queue.take(3)), ["sku-4", "sku-3", "sku-2"]);
        assert_eq!(sku_texts(queue.take(3)), ["sku-1"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn flood_of_zeros_leaves_a_tenth_to_each_kind() {
        let mut queue = SendQueue::default();
        (0..100).for_each(|n| queue.insert(&sku(n), Urgency::Zero, 0));
        (100..200).for_each(|n| queue.insert(&sku(n), Urgency::Decrease, 0));
        (200..300).for_each(|n| queue.insert(&sku(n), Urgency::Rest, 0));
        let taken = sku_texts(queue.take(50));
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
        let mut queue = SendQueue::default();
        queue.insert(&sku(1), Urgency::Rest, 1);
        queue.insert(&sku(2), Urgency::Rest, 2);
        queue.insert(&sku(1), Urgency::Rest, 3);
        assert_eq!(sku_texts(queue.take(9)), ["sku-1", "sku-2"]);
    }

    #[test]
    fn full_queue_drops_the_least_urgent() {
        let mut queue = SendQueue::default();
        (0..MAX_QUEUED_SKUS).for_each(|n| queue.insert(&sku(n), Urgency::Rest, 5));
        assert!(!queue.has_overflowed());
        queue.insert_if_fits(&sku(MAX_QUEUED_SKUS + 1), Urgency::Rest, 5);
        assert!(queue.has_overflowed());
        queue.begin_rescan();
        queue.insert_if_fits(&sku(MAX_QUEUED_SKUS), Urgency::Zero, 9);
        assert_eq!(queue.len(), MAX_QUEUED_SKUS);
        assert!(queue.has_overflowed());
        assert_eq!(sku_texts(queue.take(1)), [format!("sku-{MAX_QUEUED_SKUS}")]);
    }

    proptest! {
        #[test]
        fn takes_every_sku_exactly_once(
            inserts in prop::collection::vec((0usize..40, 0usize..3, 0i64..9), 0..120),
            size in 1usize..20,
        ) {
            let mut queue = SendQueue::default();
            let mut expected = std::collections::BTreeSet::new();
            for (n, urgency, age) in inserts {
                let urgency = [Urgency::Zero, Urgency::Decrease, Urgency::Rest][urgency];
                queue.insert(&sku(n), urgency, age);
                expected.insert(sku(n).to_string());
            }
            prop_assert_eq!(queue.len(), expected.len());
            let mut seen = std::collections::BTreeSet::new();
            while !queue.is_empty() {
                let taken = sku_texts(queue.take(size));
                prop_assert!(!taken.is_empty() && taken.len() <= size);
                for text in taken {
                    prop_assert!(seen.insert(text), "taken twice");
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}

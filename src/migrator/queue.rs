//! What goes into the next batch: the backlog and its order. Pure.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::stock::{Count, Level, Sku, Timestamp};

/// How much it hurts to leave a SKU unsent. The most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// Sold out: every order from now on is one the shop must cancel.
    Zero,
    /// Fewer than the Market believes: some orders may have to be cancelled.
    Decrease,
    /// More, or as many since a later date, or never sent: sales are missed, none is broken.
    Rest,
}

impl Urgency {
    /// Compares what the shop has with what the Market acknowledged last.
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

/// The date sent with a count: the stock's own, held inside what the Market takes.
///
/// It refuses dates in the future and those older than a day; `now` is the Market's.
#[must_use]
pub fn clamp_to_window(updated_at: Timestamp, now: DateTime<Utc>) -> Timestamp {
    let earliest = now - TimeDelta::hours(24) + TimeDelta::seconds(60);
    let latest = now - TimeDelta::seconds(2);
    updated_at.clamp(earliest.into(), latest.into())
}

/// Where a SKU stands within its urgency; the lowest goes first.
///
/// Microseconds: when the change was noticed, or, for one found by a scan, when the Market last
/// acknowledged the SKU. Either way a SKU that keeps changing does not fall back behind the
/// others each time, so none waits for ever.
pub type WaitingSince = i64;

/// The SKUs known to differ, in the order they should go.
///
/// Bounded: it is a window onto the difference between book and ledger, which a scan can
/// always find again, not the only memory of it. When full, the youngest of the least urgent
/// make room and [`Backlog::has_more`] says that a scan is due.
#[derive(Debug, Default)]
pub struct SendQueue {
    queues: [BTreeMap<(WaitingSince, u64), Sku>; 3],
    positions: HashMap<Sku, (Urgency, WaitingSince, u64)>,
    // Tells apart SKUs of one age; never repeated.
    last_tie: u64,
    has_overflowed: bool,
}

/// Most SKUs in a backlog: half a minute of the Market's limit, about 6 MB.
pub const MAX_QUEUED_SKUS: usize = 50_000;

/// Of each batch, this part is kept for each less urgent kind that is waiting: however many
/// zeros keep coming, increases go out at a tenth of the limit at least.
const RESERVE_DIVISOR: usize = 10;

impl SendQueue {
    /// Puts a SKU in its place. One that is in already keeps its age and takes the urgency.
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

    /// Takes a SKU out, wherever it is.
    pub fn discard(&mut self, sku: &Sku) {
        self.remove(sku);
    }

    /// Takes out up to `max` SKUs for the next batch, with their ages.
    ///
    /// Zeros first, then decreases, then the rest, the oldest of each first, but a tenth of the
    /// batch stays open to each less urgent kind.
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

    /// Takes out up to `max` SKUs that fell to zero, the oldest first.
    pub fn take_zeros(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let mut taken = Vec::new();
        self.take_from(Urgency::Zero, max, &mut taken);
        taken
    }

    /// Takes out up to `max` SKUs that did not fall to zero, as [`Backlog::take`] does.
    pub fn take_others(&mut self, max: usize) -> Vec<(Sku, WaitingSince)> {
        let rest = self.queue_len(Urgency::Rest).min(max / RESERVE_DIVISOR);
        let mut taken = Vec::new();
        self.take_from(Urgency::Decrease, max - rest, &mut taken);
        let left = max - taken.len();
        self.take_from(Urgency::Rest, left, &mut taken);
        taken
    }

    /// Takes out up to `max` SKUs, those that changed last first.
    ///
    /// What changed last is least likely to have been rejected before.
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

    /// How many SKUs fell to zero.
    #[must_use]
    pub fn zero_count(&self) -> usize {
        self.queue_len(Urgency::Zero)
    }

    /// How many SKUs are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Some SKUs did not fit: when these are sent, a scan finds more.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// Inserts what a scan found, unless it would be dropped at once: a full backlog is spared
    /// the work.
    pub fn insert_if_fits(&mut self, sku: &Sku, urgency: Urgency, since: WaitingSince) {
        let is_last = |(last, (last_since, _))| (urgency, since) >= (last, last_since);
        if self.positions.len() >= MAX_QUEUED_SKUS && self.last().is_some_and(is_last) {
            self.has_overflowed = true;
        } else {
            self.insert(sku, urgency, since);
        }
    }

    /// A scan begins: it will find what does not fit.
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
    fn a_fall_to_zero_is_most_urgent_and_a_repeated_zero_is_not() {
        assert_eq!(Urgency::of(level(0), Some(level(5))), Urgency::Zero);
        assert_eq!(Urgency::of(level(0), None), Urgency::Zero);
        assert_eq!(Urgency::of(level(0), Some(level(0))), Urgency::Rest);
        assert_eq!(Urgency::of(level(4), Some(level(5))), Urgency::Decrease);
        assert_eq!(Urgency::of(level(6), Some(level(5))), Urgency::Rest);
        assert_eq!(Urgency::of(level(6), None), Urgency::Rest);
    }

    #[test]
    fn dates_are_held_between_a_day_ago_and_two_seconds_ago() {
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
    fn zeros_go_first_then_decreases_and_the_oldest_of_each_first() {
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
    fn a_flood_of_zeros_leaves_a_tenth_to_each_of_the_others() {
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
    fn a_sku_that_keeps_changing_keeps_its_place() {
        let mut queue = SendQueue::default();
        queue.insert(&sku(1), Urgency::Rest, 1);
        queue.insert(&sku(2), Urgency::Rest, 2);
        queue.insert(&sku(1), Urgency::Rest, 3);
        assert_eq!(sku_texts(queue.take(9)), ["sku-1", "sku-2"]);
    }

    #[test]
    fn a_full_backlog_drops_the_least_urgent_and_remembers_that() {
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
        fn nothing_is_lost_or_doubled(
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
                    prop_assert!(seen.insert(text), "doubled");
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}

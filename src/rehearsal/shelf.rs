use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use foldhash::fast::RandomState;

use super::faults::Luck;
use super::rules::Line;
use crate::stock::Instant as Moment;

/// How many there are of each SKU, and since when: `stocks["A"]`.
pub type Stocks = HashMap<CompactString, (u32, DateTime<Utc>), RandomState>;

/// What the Market was told of one SKU, in 40 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// How many there are, by what the seller told last; orders since do not count.
    pub count: u32,
    /// How often it was told.
    pub received: u32,
    /// How often it was told zero.
    pub zeros: u32,
    /// Since when, by what it was told last.
    pub updated_at: Moment,
    /// When it was told last.
    pub received_at: Moment,
    // The newest `updated_at` it has acknowledged, in microseconds.
    acknowledged: i64,
}

/// The stock of one warehouse, or of a group of them, which share it.
#[derive(Debug)]
pub(super) struct Shelf {
    is_of_a_group: bool,
    visible_after: Duration,
    hasher: RandomState,
    // Held while a batch is written, two milliseconds at most, and never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    // In order, so that a page token is the last SKU and pages never shift.
    told: BTreeMap<CompactString, Held>,
    // By hash: who is in flight matters for milliseconds only, a copy would outweigh it.
    skus_in_flight: HashMap<u64, u8, RandomState>,
    // The rest is empty in a Market without groups, buyers, delays or an archive: a million
    // SKUs must not pay for what few rehearsals use.
    told_through: HashMap<CompactString, u64, RandomState>,
    moved: HashMap<CompactString, Moved, RandomState>,
    late: HashMap<CompactString, Late, RandomState>,
    archived: HashSet<CompactString, RandomState>,
}

/// What buyers have done to a SKU.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    /// Pieces ordered since the seller told last.
    sold: u32,
    /// Pieces ordered and not shipped yet.
    frozen: u32,
    /// When they moved last, if since the seller told last.
    at: Option<Moment>,
}

/// What a read-back shows of one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shown {
    pub(super) available: u32,
    pub(super) frozen: u32,
    pub(super) updated_at: Moment,
}

/// A SKU whose last updates are not visible yet, or were not when they came.
#[derive(Clone, Debug, Default)]
struct Late {
    before: Option<Shown>,
    // Each with when it becomes visible; the last is how it is.
    coming: VecDeque<(DateTime<Utc>, Shown)>,
}

/// What became of the lines of an update.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) applied: u64,
    pub(super) dropped: u64,
    pub(super) sold: u64,
    pub(super) backwards: u64,
    pub(super) first_backwards: Option<CompactString>,
}

/// What a shelf notices of the SKUs of a request: how many, and the first.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    pub(super) times: u64,
    pub(super) first: Option<CompactString>,
}

impl Noticed {
    fn add(&mut self, sku: &CompactString) {
        self.times += 1;
        self.first.get_or_insert_with(|| sku.clone());
    }
}

impl Shelf {
    /// An empty one; updates show in read-backs only so much later.
    pub(super) fn new(is_of_a_group: bool, visible_after: Duration) -> Self {
        let hasher = RandomState::default();
        Self {
            is_of_a_group,
            visible_after,
            hasher,
            state: Mutex::default(),
        }
    }

    /// Notes which SKUs a request carries; which of them are in flight already.
    pub(super) fn carry(self: &Arc<Self>, lines: &[Line]) -> (Load, Noticed) {
        let mut state = self.lock();
        let mut twice = Noticed::default();
        let mut skus = Vec::with_capacity(lines.len());
        for line in lines {
            let hash = self.hasher.hash_one(line.sku.as_str());
            skus.push(hash);
            let carried = state.skus_in_flight.entry(hash).or_default();
            if *carried > 0 {
                twice.add(&line.sku);
            }
            *carried = carried.saturating_add(1);
        }
        (
            Load {
                shelf: Arc::clone(self),
                skus,
            },
            twice,
        )
    }

    /// Notes through which campaign of a group these come; which came through another first.
    pub(super) fn comes_through(&self, campaign: u64, lines: &[Line]) -> Noticed {
        let mut second = Noticed::default();
        if !self.is_of_a_group {
            return second;
        }
        let mut state = self.lock();
        for line in lines {
            if *state
                .told_through
                .entry(line.sku.clone())
                .or_insert(campaign)
                != campaign
            {
                second.add(&line.sku);
            }
        }
        second
    }

    /// Writes an update down, as far as each line's luck lets it.
    pub(super) fn write(
        &self,
        lines: &[Line],
        now: DateTime<Utc>,
        acknowledged: bool,
        luck: impl Fn(usize, &str) -> Luck,
    ) -> Written {
        let mut state = self.lock();
        let mut written = Written::default();
        for (index, line) in lines.iter().enumerate() {
            let luck = luck(index, &line.sku);
            if luck == Luck::Lost {
                written.dropped += 1;
                continue;
            }
            written.applied += 1;
            if state.tell(line, now, acknowledged, self.visible_after) {
                written.backwards += 1;
                written
                    .first_backwards
                    .get_or_insert_with(|| line.sku.clone());
            }
            if luck == Luck::Sold {
                written.sold += u64::from(state.order(&line.sku, 1, now));
            }
        }
        written
    }

    /// Puts a line on the shelf as told, acknowledged and visible at once.
    pub(super) fn plant(&self, line: &Line, now: DateTime<Utc>) {
        let mut state = self.lock();
        state.tell(line, now, true, Duration::ZERO);
        state.late.remove(&line.sku);
    }

    /// Notes that the client was told of an update written earlier.
    pub(super) fn acknowledge(&self, lines: &[Line]) {
        let mut state = self.lock();
        for line in lines {
            if let Some(held) = state.told.get_mut(line.sku.as_str()) {
                held.acknowledged = held.acknowledged.max(line.updated_at.as_micros());
            }
        }
    }

    /// Buyers order so many pieces; how many they got.
    pub(super) fn order(&self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        self.lock().order(sku, pieces, now)
    }

    /// So many ordered pieces leave; how many did.
    pub(super) fn ship(&self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        self.lock().ship(sku, pieces, now)
    }

    /// Puts a SKU in the archive.
    pub(super) fn archive(&self, sku: &str) {
        self.lock().archived.insert(sku.into());
    }

    /// What can be ordered of a SKU, visible or not.
    pub(super) fn available(&self, sku: &str) -> Option<u32> {
        let state = self.lock();
        state
            .told
            .get(sku)
            .map(|held| state.current(sku, held).available)
    }

    pub(super) fn get(&self, sku: &str) -> Option<Held> {
        self.lock().told.get(sku).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().told.len()
    }

    pub(super) fn snapshot(&self) -> Stocks {
        let state = self.lock();
        let told = state.told.iter();
        told.map(|(sku, held)| (sku.clone(), (held.count, held.updated_at.to_utc())))
            .collect()
    }

    /// SKUs that were ever told to be sold out.
    pub(super) fn ever_zero(&self) -> Vec<String> {
        let state = self.lock();
        let zeros = state.told.iter().filter(|(_, held)| held.zeros > 0);
        zeros.map(|(sku, _)| sku.as_str().to_owned()).collect()
    }

    /// What a read-back shows of a SKU it names, in the archive or not.
    pub(super) fn shown(&self, sku: &str, now: DateTime<Utc>) -> Option<Shown> {
        let state = self.lock();
        state.shown(sku, state.told.get(sku)?, now)
    }

    /// The next SKUs after this one that pass, and whether there are more behind them.
    pub(super) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        is_archived: bool,
        now: DateTime<Utc>,
        passes: impl Fn(&str, &Shown) -> bool,
    ) -> (Vec<(CompactString, Shown)>, bool) {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = state.told.range::<str, _>((from, Bound::Unbounded));
        let mut rest = rest
            .filter(|(sku, _)| state.is_archived(sku) == is_archived)
            .filter_map(|(sku, held)| Some((sku, state.shown(sku, held, now)?)))
            .filter(|(sku, shown)| passes(sku, shown));
        let page = rest
            .by_ref()
            .take(limit)
            .map(|(sku, shown)| (sku.clone(), shown))
            .collect();
        (page, rest.next().is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes one line, and says whether it is older than what was acknowledged.
    fn tell(
        &mut self,
        line: &Line,
        now: DateTime<Utc>,
        acknowledged: bool,
        visible_after: Duration,
    ) -> bool {
        let before = if visible_after.is_zero() {
            None
        } else {
            let held = self.told.get(line.sku.as_str());
            Some(held.map(|held| self.current(&line.sku, held)))
        };
        let is_backwards = put(&mut self.told, line, now.into(), acknowledged);
        if let Some(moved) = self.moved.get_mut(&line.sku) {
            *moved = Moved {
                frozen: moved.frozen,
                ..Moved::default()
            };
        }
        if let Some(before) = before {
            let frozen = self.moved.get(&line.sku).map_or(0, |moved| moved.frozen);
            let shown = Shown {
                available: line.count,
                frozen,
                updated_at: line.updated_at,
            };
            let late = Late {
                before,
                coming: VecDeque::new(),
            };
            let late = self.late.entry(line.sku.clone()).or_insert(late);
            late.forget(now);
            late.coming.push_back((now + visible_after, shown));
        }
        is_backwards
    }

    fn order(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        let Some(held) = self.told.get(sku) else {
            return 0;
        };
        let sold = pieces.min(self.current(sku, held).available);
        if sold == 0 {
            return 0;
        }
        let moved = self.moved.entry(sku.into()).or_default();
        moved.sold += sold;
        moved.frozen = moved.frozen.saturating_add(sold);
        moved.at = Some(now.into());
        self.reshow(sku, |shown| {
            shown.available = shown.available.saturating_sub(sold);
            shown.frozen = shown.frozen.saturating_add(sold);
            shown.updated_at = now.into();
        });
        sold
    }

    fn ship(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        let Some(moved) = self.moved.get_mut(sku) else {
            return 0;
        };
        let shipped = pieces.min(moved.frozen);
        if shipped == 0 {
            return 0;
        }
        moved.frozen -= shipped;
        moved.at = Some(now.into());
        self.reshow(sku, |shown| {
            shown.frozen = shown.frozen.saturating_sub(shipped);
            shown.updated_at = now.into();
        });
        shipped
    }

    /// What buyers do shows at once, whatever the seller's updates still wait for.
    fn reshow(&mut self, sku: &str, change: impl Fn(&mut Shown)) {
        if let Some(late) = self.late.get_mut(sku) {
            late.before.iter_mut().for_each(&change);
            late.coming.iter_mut().for_each(|(_, shown)| change(shown));
        }
    }

    /// How it is, visible or not.
    fn current(&self, sku: &str, held: &Held) -> Shown {
        let moved = self.moved.get(sku).copied().unwrap_or_default();
        Shown {
            available: held.count - moved.sold,
            frozen: moved.frozen,
            updated_at: moved.at.unwrap_or(held.updated_at),
        }
    }

    fn shown(&self, sku: &str, held: &Held, now: DateTime<Utc>) -> Option<Shown> {
        match self.late.get(sku) {
            None => Some(self.current(sku, held)),
            Some(late) => late.at(now),
        }
    }

    fn is_archived(&self, sku: &str) -> bool {
        !self.archived.is_empty() && self.archived.contains(sku)
    }
}

impl Late {
    fn at(&self, now: DateTime<Utc>) -> Option<Shown> {
        let visible = self.coming.iter().rev().find(|(at, _)| *at <= now);
        visible.map(|(_, shown)| *shown).or(self.before)
    }

    /// Keeps what is visible, and what is to come.
    fn forget(&mut self, now: DateTime<Utc>) {
        while let Some((_, shown)) = self.coming.pop_front_if(|(at, _)| *at <= now) {
            self.before = Some(shown);
        }
    }
}

/// Writes one line, and says whether it is older than what was acknowledged.
fn put(
    told: &mut BTreeMap<CompactString, Held>,
    line: &Line,
    now: Moment,
    acknowledged: bool,
) -> bool {
    let stamp = line.updated_at.as_micros();
    let fresh = Held {
        count: line.count,
        received: 1,
        zeros: u32::from(line.count == 0),
        updated_at: line.updated_at,
        received_at: now,
        acknowledged: if acknowledged { stamp } else { i64::MIN },
    };
    let Some(held) = told.get_mut(line.sku.as_str()) else {
        told.insert(line.sku.clone(), fresh);
        return false;
    };
    let is_backwards = stamp < held.acknowledged;
    // What an older stamp does is not documented. The last to arrive wins, which is the worse
    // for a client that gets the order wrong.
    *held = Held {
        received: held.received.saturating_add(1),
        zeros: held.zeros.saturating_add(fresh.zeros),
        acknowledged: held.acknowledged.max(fresh.acknowledged),
        ..fresh
    };
    is_backwards
}

/// The SKUs of a request in flight; they have landed when it is dropped.
#[derive(Debug)]
pub(super) struct Load {
    shelf: Arc<Shelf>,
    skus: Vec<u64>,
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut state = self.shelf.lock();
        for hash in &self.skus {
            match state.skus_in_flight.get_mut(hash) {
                Some(carried) if *carried > 1 => *carried -= 1,
                _ => drop(state.skus_in_flight.remove(hash)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_a_sku_takes_forty_bytes() {
        assert_eq!(size_of::<Held>(), 40);
    }

    #[test]
    fn a_warehouse_of_its_own_pays_nothing_for_groups_buyers_and_delays() {
        let shelf = Shelf::new(false, Duration::ZERO);
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let line = Line {
            sku: "A".into(),
            count: 5,
            updated_at: now.into(),
        };
        shelf.comes_through(7, std::slice::from_ref(&line));
        shelf.write(&[line], now, true, |_, _| Luck::Kept);
        let state = shelf.lock();
        assert_eq!(state.told.len(), 1);
        assert_eq!(state.told_through.capacity(), 0);
        assert_eq!(state.moved.capacity() + state.late.capacity(), 0);
    }
}

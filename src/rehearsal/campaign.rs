use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::rules::Line;
use crate::stock::Instant as Moment;

/// How many there are of each SKU, and since when: `stocks["A"]`.
pub type Stocks = HashMap<CompactString, (u32, DateTime<Utc>), RandomState>;

/// What the Market holds of one SKU, in 40 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// How many can be ordered.
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

/// The window of every limit "a minute".
const MINUTE: Duration = Duration::from_secs(60);

/// So long after being told to wait a client may still be unaware of it.
const GRACE: Duration = Duration::from_secs(1);

/// One campaign: its stock, and what it has used of its limits.
#[derive(Debug)]
pub(super) struct Campaign {
    pub(super) id: u64,
    pub(super) warehouse: u64,
    pub(super) keys: Vec<String>,
    parallel: usize,
    hasher: RandomState,
    // Held while a batch is written, two milliseconds at most, and never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    // In order, so that a page token is the last SKU and pages never shift.
    stock: BTreeMap<CompactString, Held>,
    updates: Window,
    read_backs: Window,
    in_flight: usize,
    peak_in_flight: usize,
    // By hash: who is in flight matters for milliseconds only, a copy would outweigh it.
    skus_in_flight: HashMap<u64, u8, RandomState>,
    wait: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    told: Instant,
    until: Instant,
}

/// What became of the lines of an update.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) applied: u64,
    pub(super) dropped: u64,
    pub(super) backwards: u64,
    pub(super) first_backwards: Option<CompactString>,
}

impl Campaign {
    pub(super) fn new(
        id: u64,
        warehouse: u64,
        keys: Vec<String>,
        parallel: usize,
        skus_per_minute: usize,
    ) -> Self {
        let state = State {
            stock: BTreeMap::new(),
            updates: Window::new(skus_per_minute),
            read_backs: Window::new(skus_per_minute),
            in_flight: 0,
            peak_in_flight: 0,
            skus_in_flight: HashMap::default(),
            wait: None,
        };
        Self { id, warehouse, keys, parallel, hasher: RandomState::default(), state: state.into() }
    }

    /// Lets a request in, if there are not too many.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.lock();
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight + 1);
        if state.in_flight >= self.parallel {
            return None;
        }
        state.in_flight += 1;
        Some(Seat { campaign: Arc::clone(self), skus: Vec::new() })
    }

    /// Charges so many SKUs to the updates' minute, or says how long to wait.
    pub(super) fn charge_update(&self, at: Instant, skus: usize) -> Result<(), Duration> {
        self.lock().updates.charge(at, skus)
    }

    /// Takes back a charge: the request turned out to cost nothing.
    pub(super) fn refund_update(&self, at: Instant, skus: usize) {
        self.lock().updates.refund(at, skus);
    }

    /// Charges so many SKUs to the read-backs' minute, or says how long to wait.
    pub(super) fn charge_read_back(&self, at: Instant, skus: usize) -> Result<(), Duration> {
        self.lock().read_backs.charge(at, skus)
    }

    /// Remembers that the client was told to wait.
    pub(super) fn tell_to_wait(&self, told: Instant, wait: Duration) {
        self.lock().wait = Some(Wait { told, until: told + wait });
    }

    /// Whether a client that was told to wait comes before its time.
    pub(super) fn is_too_soon(&self, at: Instant) -> bool {
        self.lock().wait.is_some_and(|wait| at > wait.told + GRACE && at < wait.until)
    }

    /// Writes an update down; the lines that `drops` are acknowledged only.
    pub(super) fn write(
        &self,
        lines: &[Line],
        now: Moment,
        acknowledged: bool,
        drops: impl Fn(usize) -> bool,
    ) -> Written {
        let mut state = self.lock();
        let mut written = Written::default();
        for (index, line) in lines.iter().enumerate() {
            if drops(index) {
                written.dropped += 1;
                continue;
            }
            written.applied += 1;
            if put(&mut state.stock, line, now, acknowledged) {
                written.backwards += 1;
                written.first_backwards.get_or_insert_with(|| line.sku.clone());
            }
        }
        written
    }

    /// Notes that the client was told of an update written earlier.
    pub(super) fn acknowledge(&self, lines: &[Line]) {
        let mut state = self.lock();
        for line in lines {
            if let Some(held) = state.stock.get_mut(line.sku.as_str()) {
                held.acknowledged = held.acknowledged.max(line.updated_at.as_micros());
            }
        }
    }

    pub(super) fn get(&self, sku: &str) -> Option<Held> {
        self.lock().stock.get(sku).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().stock.len()
    }

    pub(super) fn snapshot(&self) -> Stocks {
        let state = self.lock();
        let stock = state.stock.iter();
        stock.map(|(sku, held)| (sku.clone(), (held.count, held.updated_at.to_utc()))).collect()
    }

    /// SKUs that were ever told to be sold out.
    pub(super) fn ever_zero(&self) -> Vec<String> {
        let state = self.lock();
        let zeros = state.stock.iter().filter(|(_, held)| held.zeros > 0);
        zeros.map(|(sku, _)| sku.as_str().to_owned()).collect()
    }

    /// The next SKUs after this one that pass, and whether there are more behind them.
    pub(super) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        passes: impl Fn(&Held) -> bool,
    ) -> (Vec<(CompactString, Held)>, bool) {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = state.stock.range::<str, _>((from, Bound::Unbounded));
        let mut rest = rest.by_ref().filter(|(_, held)| passes(held));
        let page = rest.by_ref().take(limit).map(|(sku, held)| (sku.clone(), *held)).collect();
        (page, rest.next().is_some())
    }

    /// Most SKUs in any minute and most requests at a time.
    pub(super) fn peaks(&self) -> (usize, usize) {
        let state = self.lock();
        (state.updates.peak, state.peak_in_flight)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one line, and says whether it is older than what was acknowledged.
fn put(
    stock: &mut BTreeMap<CompactString, Held>,
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
    let Some(held) = stock.get_mut(line.sku.as_str()) else {
        stock.insert(line.sku.clone(), fresh);
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

/// A request's place among those in flight; given up when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    campaign: Arc<Campaign>,
    skus: Vec<u64>,
}

impl Seat {
    /// Notes which SKUs the request carries; how many are in flight already, and the first.
    pub(super) fn carry(&mut self, lines: &[Line]) -> (u64, Option<CompactString>) {
        let mut state = self.campaign.lock();
        let (mut twice, mut first) = (0, None);
        self.skus.reserve_exact(lines.len());
        for line in lines {
            let hash = self.campaign.hasher.hash_one(line.sku.as_str());
            self.skus.push(hash);
            let carried = state.skus_in_flight.entry(hash).or_default();
            if *carried > 0 {
                twice += 1;
                first.get_or_insert_with(|| line.sku.clone());
            }
            *carried = carried.saturating_add(1);
        }
        (twice, first)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.campaign.lock();
        state.in_flight -= 1;
        for hash in &self.skus {
            match state.skus_in_flight.get_mut(hash) {
                Some(carried) if *carried > 1 => *carried -= 1,
                _ => drop(state.skus_in_flight.remove(hash)),
            }
        }
    }
}

/// So many in any 60 seconds, by arrival.
#[derive(Debug)]
struct Window {
    limit: usize,
    arrivals: VecDeque<(Instant, usize)>,
    sum: usize,
    peak: usize,
}

impl Window {
    fn new(limit: usize) -> Self {
        Self { limit, arrivals: VecDeque::new(), sum: 0, peak: 0 }
    }

    fn charge(&mut self, at: Instant, amount: usize) -> Result<(), Duration> {
        while let Some((arrived, past)) = self.arrivals.front().copied()
            && arrived + MINUTE <= at
        {
            self.arrivals.pop_front();
            self.sum -= past;
        }
        self.peak = self.peak.max(self.sum + amount);
        if self.sum + amount > self.limit {
            return Err(self.wait_for(at, amount));
        }
        self.arrivals.push_back((at, amount));
        self.sum += amount;
        Ok(())
    }

    fn refund(&mut self, at: Instant, amount: usize) {
        if let Some(index) = self.arrivals.iter().rposition(|arrival| *arrival == (at, amount)) {
            self.arrivals.remove(index);
            self.sum -= amount;
        }
    }

    fn wait_for(&self, at: Instant, amount: usize) -> Duration {
        let mut sum = self.sum;
        for (arrived, past) in &self.arrivals {
            sum -= past;
            if sum + amount <= self.limit {
                return (*arrived + MINUTE).saturating_duration_since(at);
            }
        }
        MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn any_sixty_seconds_count_not_the_clock_s_minute() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut window = Window::new(100);
        assert_eq!(window.charge(after(50), 60), Ok(()));
        assert_eq!(window.charge(after(59), 40), Ok(()));
        // A new minute by the clock, the same sixty seconds.
        assert_eq!(window.charge(after(61), 1), Err(Duration::from_secs(49)));
        assert_eq!(window.charge(after(61), 61), Err(Duration::from_secs(58)));
        assert_eq!(window.charge(after(109), 1), Err(Duration::from_secs(1)));
        assert_eq!(window.charge(after(110), 60), Ok(()));
        assert_eq!(window.charge(after(110), 1), Err(Duration::from_secs(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refunded_can_be_spent_again() {
        let at = Instant::now();
        let mut window = Window::new(100);
        assert_eq!(window.charge(at, 100), Ok(()));
        window.refund(at, 100);
        assert_eq!(window.charge(at, 100), Ok(()));
        assert!(window.charge(at, 1).is_err());
    }

    #[test]
    fn what_is_held_of_a_sku_takes_forty_bytes() {
        assert_eq!(size_of::<Held>(), 40);
    }
}

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use foldhash::fast::RandomState;

use super::faults::LineOutcome;
use super::request_validation::SimUpdateLine;
use crate::stock::Timestamp;

/// How many there are of each SKU, and since when: `stocks["A"]`.
pub type SkuStocks = HashMap<CompactString, (u32, DateTime<Utc>), RandomState>;

/// What the Market was told of one SKU, in 40 bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StockRecord {
    /// How many there are, by what the seller told last; orders since do not count.
    pub count: u32,
    /// How often it was told.
    pub updates_received: u32,
    /// How often it was told zero.
    pub zeros_received: u32,
    /// Since when, by what it was told last.
    pub updated_at: Timestamp,
    /// When it was told last.
    pub received_at: Timestamp,
    // The newest `updated_at` it has acknowledged, in microseconds.
    acknowledged_micros: i64,
}

/// The stock of one warehouse, or of a group of them, which share it.
#[derive(Debug)]
pub(super) struct SimWarehouseStock {
    is_grouped: bool,
    visibility_delay: Duration,
    hasher: RandomState,
    // Held while a batch is written, two milliseconds at most, and never across an await.
    state: Mutex<WarehouseStockState>,
}

#[derive(Debug, Default)]
struct WarehouseStockState {
    // In order, so that a page token is the last SKU and pages never shift.
    records: BTreeMap<CompactString, StockRecord>,
    // By hash: who is in flight matters for milliseconds only, a copy would outweigh it.
    skus_in_flight: HashMap<u64, u8, RandomState>,
    // The rest is empty in a Market without groups, buyers, delays or an archive: a million
    // SKUs must not pay for what few rehearsals use.
    first_routes: HashMap<CompactString, u64, RandomState>,
    orders: HashMap<CompactString, OrderState, RandomState>,
    pending_visibility: HashMap<CompactString, PendingVisibility, RandomState>,
    archived: HashSet<CompactString, RandomState>,
}

/// What buyers have done to a SKU.
#[derive(Clone, Copy, Debug, Default)]
struct OrderState {
    /// Pieces ordered since the seller told last.
    sold: u32,
    /// Pieces ordered and not shipped yet.
    frozen: u32,
    /// When they moved last, if since the seller told last.
    changed_at: Option<Timestamp>,
}

/// What a read-back shows of one SKU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct VisibleStock {
    pub(super) available: u32,
    pub(super) frozen: u32,
    pub(super) updated_at: Timestamp,
}

/// A SKU whose last updates are not visible yet, or were not when they came.
#[derive(Clone, Debug, Default)]
struct PendingVisibility {
    visible: Option<VisibleStock>,
    // Each with when it becomes visible; the last is how it is.
    upcoming: VecDeque<(DateTime<Utc>, VisibleStock)>,
}

/// What became of the lines of an update.
#[derive(Debug, Default)]
pub(super) struct StockWriteCounts {
    pub(super) applied: u64,
    pub(super) dropped: u64,
    pub(super) sold: u64,
    pub(super) outdated: u64,
    pub(super) first_outdated: Option<CompactString>,
}

/// What a shelf notices of the SKUs of a request: how many, and the first.
#[derive(Debug, Default)]
pub(super) struct SkuViolations {
    pub(super) count: u64,
    pub(super) first_sku: Option<CompactString>,
}

impl SkuViolations {
    fn record(&mut self, sku: &CompactString) {
        self.count += 1;
        self.first_sku.get_or_insert_with(|| sku.clone());
    }
}

impl SimWarehouseStock {
    /// An empty one; updates show in read-backs only so much later.
    pub(super) fn new(is_grouped: bool, visibility_delay: Duration) -> Self {
        let hasher = RandomState::default();
        Self {
            is_grouped,
            visibility_delay,
            hasher,
            state: Mutex::default(),
        }
    }

    /// Notes which SKUs a request carries; which of them are in flight already.
    pub(super) fn mark_in_flight(
        self: &Arc<Self>,
        lines: &[SimUpdateLine],
    ) -> (InFlightGuard, SkuViolations) {
        let mut state = self.lock();
        let mut duplicates = SkuViolations::default();
        let mut skus = Vec::with_capacity(lines.len());
        for line in lines {
            let hash = self.hasher.hash_one(line.sku.as_str());
            skus.push(hash);
            let in_flight = state.skus_in_flight.entry(hash).or_default();
            if *in_flight > 0 {
                duplicates.record(&line.sku);
            }
            *in_flight = in_flight.saturating_add(1);
        }
        (
            InFlightGuard {
                stock: Arc::clone(self),
                sku_hashes: skus,
            },
            duplicates,
        )
    }

    /// Notes through which campaign of a group these come; which came through another first.
    pub(super) fn record_route(&self, campaign: u64, lines: &[SimUpdateLine]) -> SkuViolations {
        let mut violations = SkuViolations::default();
        if !self.is_grouped {
            return violations;
        }
        let mut state = self.lock();
        for line in lines {
            if *state
                .first_routes
                .entry(line.sku.clone())
                .or_insert(campaign)
                != campaign
            {
                violations.record(&line.sku);
            }
        }
        violations
    }

    /// Writes an update down, as far as each line's luck lets it.
    pub(super) fn write(
        &self,
        lines: &[SimUpdateLine],
        now: DateTime<Utc>,
        acknowledged: bool,
        outcome_of: impl Fn(usize, &str) -> LineOutcome,
    ) -> StockWriteCounts {
        let mut state = self.lock();
        let mut counts = StockWriteCounts::default();
        for (index, line) in lines.iter().enumerate() {
            let outcome = outcome_of(index, &line.sku);
            if outcome == LineOutcome::Dropped {
                counts.dropped += 1;
                continue;
            }
            counts.applied += 1;
            if state.apply_line(line, now, acknowledged, self.visibility_delay) {
                counts.outdated += 1;
                counts
                    .first_outdated
                    .get_or_insert_with(|| line.sku.clone());
            }
            if outcome == LineOutcome::Sold {
                counts.sold += u64::from(state.order(&line.sku, 1, now));
            }
        }
        counts
    }

    /// Puts a line on the shelf as told, acknowledged and visible at once.
    pub(super) fn seed(&self, line: &SimUpdateLine, now: DateTime<Utc>) {
        let mut state = self.lock();
        state.apply_line(line, now, true, Duration::ZERO);
        state.pending_visibility.remove(&line.sku);
    }

    /// Notes that the client was told of an update written earlier.
    pub(super) fn acknowledge(&self, lines: &[SimUpdateLine]) {
        let mut state = self.lock();
        for line in lines {
            if let Some(record) = state.records.get_mut(line.sku.as_str()) {
                record.acknowledged_micros =
                    record.acknowledged_micros.max(line.updated_at.as_micros());
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
            .records
            .get(sku)
            .map(|record| state.current(sku, record).available)
    }

    pub(super) fn get(&self, sku: &str) -> Option<StockRecord> {
        self.lock().records.get(sku).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().records.len()
    }

    pub(super) fn snapshot(&self) -> SkuStocks {
        let state = self.lock();
        let records = state.records.iter();
        records
            .map(|(sku, record)| (sku.clone(), (record.count, record.updated_at.to_utc())))
            .collect()
    }

    /// SKUs that were ever told to be sold out.
    pub(super) fn skus_ever_zero(&self) -> Vec<String> {
        let state = self.lock();
        let sold_out = state
            .records
            .iter()
            .filter(|(_, record)| record.zeros_received > 0);
        sold_out.map(|(sku, _)| sku.as_str().to_owned()).collect()
    }

    /// What a read-back shows of a SKU it names, in the archive or not.
    pub(super) fn visible_stock(&self, sku: &str, now: DateTime<Utc>) -> Option<VisibleStock> {
        let state = self.lock();
        state.visible_stock(sku, state.records.get(sku)?, now)
    }

    /// The next SKUs after this one that pass, and whether there are more behind them.
    pub(super) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        is_archived: bool,
        now: DateTime<Utc>,
        matches_filter: impl Fn(&str, &VisibleStock) -> bool,
    ) -> (Vec<(CompactString, VisibleStock)>, bool) {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = state.records.range::<str, _>((from, Bound::Unbounded));
        let mut rest = rest
            .filter(|(sku, _)| state.is_archived(sku) == is_archived)
            .filter_map(|(sku, record)| Some((sku, state.visible_stock(sku, record, now)?)))
            .filter(|(sku, visible)| matches_filter(sku, visible));
        let page = rest
            .by_ref()
            .take(limit)
            .map(|(sku, visible)| (sku.clone(), visible))
            .collect();
        (page, rest.next().is_some())
    }

    fn lock(&self) -> MutexGuard<'_, WarehouseStockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WarehouseStockState {
    /// Writes one line, and says whether it is older than what was acknowledged.
    fn apply_line(
        &mut self,
        line: &SimUpdateLine,
        now: DateTime<Utc>,
        acknowledged: bool,
        visibility_delay: Duration,
    ) -> bool {
        let previous = if visibility_delay.is_zero() {
            None
        } else {
            let record = self.records.get(line.sku.as_str());
            Some(record.map(|record| self.current(&line.sku, record)))
        };
        let is_outdated = upsert_record(&mut self.records, line, now.into(), acknowledged);
        if let Some(orders) = self.orders.get_mut(&line.sku) {
            *orders = OrderState {
                frozen: orders.frozen,
                ..OrderState::default()
            };
        }
        if let Some(previous) = previous {
            let frozen = self.orders.get(&line.sku).map_or(0, |orders| orders.frozen);
            let visible = VisibleStock {
                available: line.count,
                frozen,
                updated_at: line.updated_at,
            };
            let pending = PendingVisibility {
                visible: previous,
                upcoming: VecDeque::new(),
            };
            let pending = self
                .pending_visibility
                .entry(line.sku.clone())
                .or_insert(pending);
            pending.advance(now);
            pending
                .upcoming
                .push_back((now + visibility_delay, visible));
        }
        is_outdated
    }

    fn order(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        let Some(record) = self.records.get(sku) else {
            return 0;
        };
        let sold = pieces.min(self.current(sku, record).available);
        if sold == 0 {
            return 0;
        }
        let orders = self.orders.entry(sku.into()).or_default();
        orders.sold += sold;
        orders.frozen = orders.frozen.saturating_add(sold);
        orders.changed_at = Some(now.into());
        self.update_visible(sku, |visible| {
            visible.available = visible.available.saturating_sub(sold);
            visible.frozen = visible.frozen.saturating_add(sold);
            visible.updated_at = now.into();
        });
        sold
    }

    fn ship(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        let Some(orders) = self.orders.get_mut(sku) else {
            return 0;
        };
        let shipped = pieces.min(orders.frozen);
        if shipped == 0 {
            return 0;
        }
        orders.frozen -= shipped;
        orders.changed_at = Some(now.into());
        self.update_visible(sku, |visible| {
            visible.frozen = visible.frozen.saturating_sub(shipped);
            visible.updated_at = now.into();
        });
        shipped
    }

    /// What buyers do shows at once, whatever the seller's updates still wait for.
    fn update_visible(&mut self, sku: &str, change: impl Fn(&mut VisibleStock)) {
        if let Some(pending) = self.pending_visibility.get_mut(sku) {
            pending.visible.iter_mut().for_each(&change);
            pending
                .upcoming
                .iter_mut()
                .for_each(|(_, visible)| change(visible));
        }
    }

    /// How it is, visible or not.
    fn current(&self, sku: &str, record: &StockRecord) -> VisibleStock {
        let orders = self.orders.get(sku).copied().unwrap_or_default();
        VisibleStock {
            available: record.count - orders.sold,
            frozen: orders.frozen,
            updated_at: orders.changed_at.unwrap_or(record.updated_at),
        }
    }

    fn visible_stock(
        &self,
        sku: &str,
        record: &StockRecord,
        now: DateTime<Utc>,
    ) -> Option<VisibleStock> {
        match self.pending_visibility.get(sku) {
            None => Some(self.current(sku, record)),
            Some(pending) => pending.visible_at(now),
        }
    }

    fn is_archived(&self, sku: &str) -> bool {
        !self.archived.is_empty() && self.archived.contains(sku)
    }
}

impl PendingVisibility {
    fn visible_at(&self, now: DateTime<Utc>) -> Option<VisibleStock> {
        let latest = self.upcoming.iter().rev().find(|(at, _)| *at <= now);
        latest.map(|(_, visible)| *visible).or(self.visible)
    }

    /// Keeps what is visible, and what is to come.
    fn advance(&mut self, now: DateTime<Utc>) {
        while let Some((_, visible)) = self.upcoming.pop_front_if(|(at, _)| *at <= now) {
            self.visible = Some(visible);
        }
    }
}

/// Writes one line, and says whether it is older than what was acknowledged.
fn upsert_record(
    records: &mut BTreeMap<CompactString, StockRecord>,
    line: &SimUpdateLine,
    now: Timestamp,
    acknowledged: bool,
) -> bool {
    let updated_micros = line.updated_at.as_micros();
    let new_record = StockRecord {
        count: line.count,
        updates_received: 1,
        zeros_received: u32::from(line.count == 0),
        updated_at: line.updated_at,
        received_at: now,
        acknowledged_micros: if acknowledged {
            updated_micros
        } else {
            i64::MIN
        },
    };
    let Some(record) = records.get_mut(line.sku.as_str()) else {
        records.insert(line.sku.clone(), new_record);
        return false;
    };
    let is_outdated = updated_micros < record.acknowledged_micros;
    // What an older stamp does is not documented. The last to arrive wins, which is the worse
    // for a client that gets the order wrong.
    *record = StockRecord {
        updates_received: record.updates_received.saturating_add(1),
        zeros_received: record
            .zeros_received
            .saturating_add(new_record.zeros_received),
        acknowledged_micros: record
            .acknowledged_micros
            .max(new_record.acknowledged_micros),
        ..new_record
    };
    is_outdated
}

/// The SKUs of a request in flight; they have landed when it is dropped.
#[derive(Debug)]
pub(super) struct InFlightGuard {
    stock: Arc<SimWarehouseStock>,
    sku_hashes: Vec<u64>,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut state = self.stock.lock();
        for hash in &self.sku_hashes {
            match state.skus_in_flight.get_mut(hash) {
                Some(in_flight) if *in_flight > 1 => *in_flight -= 1,
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
        assert_eq!(size_of::<StockRecord>(), 40);
    }

    #[test]
    fn a_warehouse_of_its_own_pays_nothing_for_groups_buyers_and_delays() {
        let stock = SimWarehouseStock::new(false, Duration::ZERO);
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let line = SimUpdateLine {
            sku: "A".into(),
            count: 5,
            updated_at: now.into(),
        };
        stock.record_route(7, std::slice::from_ref(&line));
        stock.write(&[line], now, true, |_, _| LineOutcome::Kept);
        let state = stock.lock();
        assert_eq!(state.records.len(), 1);
        assert_eq!(state.first_routes.capacity(), 0);
        assert_eq!(
            state.orders.capacity() + state.pending_visibility.capacity(),
            0
        );
    }
}

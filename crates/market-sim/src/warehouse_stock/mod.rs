//! Stock of a warehouse as the simulator holds it, shared by the campaigns that sell from it.
//!
//! All methods take one lock for a short time. SKUs in flight and routes of groups are tracked to
//! report violations; they do not change the stock.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

mod state;

use super::faults::LineOutcome;
use super::request_validation::SimUpdateLine;
pub use state::StockRecord;
pub(super) use state::VisibleStock;
use state::WarehouseStockState;

/// Count and timestamp of each SKU, as in `stocks["A"]`.
pub type SkuStocks = HashMap<CompactString, (u32, DateTime<Utc>), RandomState>;

/// Stock of one warehouse, or of a warehouse group, which shares it.
#[derive(Debug)]
pub(super) struct SimWarehouseStock {
    is_grouped: bool,
    visibility_delay: Duration,
    hasher: RandomState,
    // Held while a batch is stored, for at most two milliseconds and never across an await.
    state: Mutex<WarehouseStockState>,
}

/// Number of lines of an update by outcome.
#[derive(Debug, Default)]
pub(super) struct StockWriteCounts {
    pub(super) applied: u64,
    pub(super) dropped: u64,
    pub(super) sold: u64,
    pub(super) outdated: u64,
    pub(super) first_outdated: Option<CompactString>,
}

/// Number of SKUs in a request that break a rule, and the first of them.
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
    /// Creates an empty stock. Read-backs show updates after `visibility_delay`.
    pub(super) fn new(is_grouped: bool, visibility_delay: Duration) -> Self {
        Self {
            is_grouped,
            visibility_delay,
            hasher: RandomState::default(),
            state: Mutex::default(),
        }
    }

    /// Marks the SKUs of a request as in flight, and returns those that already were.
    pub(super) fn mark_in_flight(
        self: &Arc<Self>,
        lines: &[SimUpdateLine],
    ) -> (InFlightGuard, SkuViolations) {
        let mut state = self.state.lock();
        let mut duplicates = SkuViolations::default();
        let mut sku_hashes = Vec::with_capacity(lines.len());
        for line in lines {
            let hash = self.hasher.hash_one(line.sku.as_str());
            sku_hashes.push(hash);
            let in_flight = state.skus_in_flight.entry(hash).or_default();
            if *in_flight > 0 {
                duplicates.record(&line.sku);
            }
            *in_flight = in_flight.saturating_add(1);
        }
        let stock = Arc::clone(self);
        (InFlightGuard { stock, sku_hashes }, duplicates)
    }

    /// Records the campaign of a group that sends these SKUs first, and returns the SKUs that another
    /// campaign sent first.
    pub(super) fn record_route(&self, campaign: u64, lines: &[SimUpdateLine]) -> SkuViolations {
        let mut violations = SkuViolations::default();
        if !self.is_grouped {
            return violations;
        }
        let mut state = self.state.lock();
        for line in lines {
            let first = state.first_routes.entry(line.sku.clone());
            if *first.or_insert(campaign) != campaign {
                violations.record(&line.sku);
            }
        }
        violations
    }

    /// Stores the lines of an update according to their outcomes.
    pub(super) fn write(
        &self,
        lines: &[SimUpdateLine],
        now: DateTime<Utc>,
        acknowledged: bool,
        outcome_of: impl Fn(usize, &str) -> LineOutcome,
    ) -> StockWriteCounts {
        let mut state = self.state.lock();
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
                let first = &mut counts.first_outdated;
                first.get_or_insert_with(|| line.sku.clone());
            }
            if outcome == LineOutcome::Sold {
                counts.sold += u64::from(state.order(&line.sku, 1, now));
            }
        }
        counts
    }

    /// Stores a line as acknowledged and visible at once.
    pub(super) fn seed(&self, line: &SimUpdateLine, now: DateTime<Utc>) {
        let mut state = self.state.lock();
        state.apply_line(line, now, true, Duration::ZERO);
        state.pending_visibility.remove(&line.sku);
    }

    /// Records that lines stored earlier have been acknowledged to the client.
    pub(super) fn acknowledge(&self, lines: &[SimUpdateLine]) {
        let mut state = self.state.lock();
        for line in lines {
            if let Some(record) = state.records.get_mut(line.sku.as_str()) {
                record.acknowledged_micros =
                    record.acknowledged_micros.max(line.updated_at.as_micros());
            }
        }
    }

    /// Orders up to `pieces` available pieces, and returns the ordered number.
    pub(super) fn order(&self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        self.state.lock().order(sku, pieces, now)
    }

    /// Ships up to `pieces` ordered pieces, and returns the shipped number.
    pub(super) fn ship(&self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
        self.state.lock().ship(sku, pieces, now)
    }

    /// Archives a SKU.
    pub(super) fn archive(&self, sku: &str) {
        self.state.lock().archived.insert(sku.into());
    }

    /// Returns the pieces that can be ordered, visible or not.
    pub(super) fn available(&self, sku: &str) -> Option<u32> {
        let state = self.state.lock();
        let record = state.records.get(sku)?;
        Some(state.current(sku, record).available)
    }

    pub(super) fn get(&self, sku: &str) -> Option<StockRecord> {
        self.state.lock().records.get(sku).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().records.len()
    }

    pub(super) fn snapshot(&self) -> SkuStocks {
        let level = |(sku, record): (&CompactString, &StockRecord)| {
            (sku.clone(), (record.count, record.updated_at.to_utc()))
        };
        self.state.lock().records.iter().map(level).collect()
    }

    /// Returns the SKUs for which a zero was ever received.
    pub(super) fn skus_ever_zero(&self) -> Vec<String> {
        let state = self.state.lock();
        let records = state.records.iter();
        let sold_out = records.filter(|(_, record)| record.zeros_received > 0);
        sold_out.map(|(sku, _)| sku.as_str().to_owned()).collect()
    }

    /// Returns the visible stock of a SKU, archived or not.
    pub(super) fn visible_stock(&self, sku: &str, now: DateTime<Utc>) -> Option<VisibleStock> {
        let state = self.state.lock();
        state.visible_stock(sku, state.records.get(sku)?, now)
    }

    /// Returns up to `limit` SKUs after `after` that match the filter, and true if more follow.
    pub(super) fn page(
        &self,
        after: Option<&str>,
        limit: usize,
        is_archived: bool,
        now: DateTime<Utc>,
        matches_filter: impl Fn(&str, &VisibleStock) -> bool,
    ) -> (Vec<(CompactString, VisibleStock)>, bool) {
        let state = self.state.lock();
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
}

/// SKUs of a request in flight. Dropping it ends their flight.
#[derive(Debug)]
pub(super) struct InFlightGuard {
    stock: Arc<SimWarehouseStock>,
    sku_hashes: Vec<u64>,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut state = self.stock.state.lock();
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
    fn stock_record_has_40_bytes() {
        assert_eq!(size_of::<StockRecord>(), 40);
    }

    #[test]
    fn unused_features_allocate_nothing() {
        let stock = SimWarehouseStock::new(false, Duration::ZERO);
        let now: DateTime<Utc> = "2026-11-20T10:00:00Z".parse().unwrap();
        let line = SimUpdateLine {
            sku: "A".into(),
            count: 5,
            updated_at: now.into(),
        };
        stock.record_route(7, std::slice::from_ref(&line));
        stock.write(&[line], now, true, |_, _| LineOutcome::Kept);
        let state = stock.state.lock();
        assert_eq!(state.records.len(), 1);
        assert_eq!(state.first_routes.capacity(), 0);
        assert_eq!(
            state.orders.capacity() + state.pending_visibility.capacity(),
            0
        );
    }
}

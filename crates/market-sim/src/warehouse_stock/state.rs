//! State of a warehouse stock and the rules by which updates and orders change it.
//!
//! An update replaces the seller's count. Orders reduce the available pieces until the next update.
//! With a visibility delay, read-backs show the stock as it was before the pending updates.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};
use compact_str::CompactString;
use foldhash::fast::RandomState;
use stock::Timestamp;

use crate::request_validation::SimUpdateLine;

/// Record of the seller's updates of one SKU. It takes 40 bytes, because a rehearsal may keep a
/// million of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StockRecord {
    /// Count in the last update. Later orders do not change it.
    pub count: u32,
    /// Number of updates received.
    pub updates_received: u32,
    /// Number of updates received with a zero.
    pub zeros_received: u32,
    /// `updatedAt` of the last update.
    pub updated_at: Timestamp,
    /// Time at which the last update arrived.
    pub received_at: Timestamp,
    // Newest acknowledged `updated_at` in microseconds; `i64::MIN` without one.
    pub(super) acknowledged_micros: i64,
}

/// Records, orders, pending changes and archive of a warehouse stock.
#[derive(Debug, Default)]
pub(super) struct WarehouseStockState {
    // Sorted, so that a page token can be the last SKU and pages never shift.
    pub(super) records: BTreeMap<CompactString, StockRecord>,
    // Keyed by hash, because a copy of each SKU would cost more than this short-lived check is
    // worth.
    pub(super) skus_in_flight: HashMap<u64, u8, RandomState>,
    // The other maps stay empty without groups, buyers, delays or an archive, so a million SKUs
    // do not pay for features that few rehearsals use.
    pub(super) first_routes: HashMap<CompactString, u64, RandomState>,
    pub(super) orders: HashMap<CompactString, OrderState, RandomState>,
    pub(super) pending_visibility: HashMap<CompactString, PendingVisibility, RandomState>,
    pub(super) archived: HashSet<CompactString, RandomState>,
}

/// Orders of one SKU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OrderState {
    /// Pieces ordered since the seller's last update.
    sold: u32,
    /// Pieces ordered but not shipped yet.
    frozen: u32,
    /// Time of the last order or shipment since the seller's last update.
    changed_at: Option<Timestamp>,
}

/// Stock of one SKU as a read-back shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct VisibleStock {
    pub(crate) available: u32,
    pub(crate) frozen: u32,
    pub(crate) updated_at: Timestamp,
}

/// Visible stock and upcoming changes of a SKU whose updates become visible with a delay.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingVisibility {
    visible: Option<VisibleStock>,
    // Each with the time at which it becomes visible. The last one is the current stock.
    upcoming: VecDeque<(DateTime<Utc>, VisibleStock)>,
}

impl WarehouseStockState {
    /// Stores one line. Returns true if it is older than the acknowledged one.
    pub(super) fn apply_line(
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

    pub(super) fn order(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
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

    pub(super) fn ship(&mut self, sku: &str, pieces: u32, now: DateTime<Utc>) -> u32 {
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

    /// Applies an order or shipment to the visible stock and to all upcoming changes. Unlike updates,
    /// orders are visible without a delay.
    fn update_visible(&mut self, sku: &str, change: impl Fn(&mut VisibleStock)) {
        if let Some(pending) = self.pending_visibility.get_mut(sku) {
            pending.visible.iter_mut().for_each(&change);
            let upcoming = pending.upcoming.iter_mut();
            upcoming.for_each(|(_, visible)| change(visible));
        }
    }

    /// Returns the current stock of a SKU, visible or not.
    pub(super) fn current(&self, sku: &str, record: &StockRecord) -> VisibleStock {
        let orders = self.orders.get(sku).copied().unwrap_or_default();
        VisibleStock {
            available: record.count - orders.sold,
            frozen: orders.frozen,
            updated_at: orders.changed_at.unwrap_or(record.updated_at),
        }
    }

    pub(super) fn visible_stock(
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

    pub(super) fn is_archived(&self, sku: &str) -> bool {
        !self.archived.is_empty() && self.archived.contains(sku)
    }
}

impl PendingVisibility {
    fn visible_at(&self, now: DateTime<Utc>) -> Option<VisibleStock> {
        let latest = self.upcoming.iter().rev().find(|(at, _)| *at <= now);
        latest.map(|(_, visible)| *visible).or(self.visible)
    }

    /// Drops changes that a later visible one has replaced.
    fn advance(&mut self, now: DateTime<Utc>) {
        while let Some((_, visible)) = self.upcoming.pop_front_if(|(at, _)| *at <= now) {
            self.visible = Some(visible);
        }
    }
}

/// Stores one line in the records. Returns true if it is older than the acknowledged one.
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
    // The Market does not document the effect of an older timestamp. Here the last update to arrive
    // wins, which is the worse case for a client that sends updates in the wrong order.
    *record = StockRecord {
        updates_received: record.updates_received.saturating_add(1),
        zeros_received: (record.zeros_received).saturating_add(new_record.zeros_received),
        acknowledged_micros: (record.acknowledged_micros).max(new_record.acknowledged_micros),
        ..new_record
    };
    is_outdated
}

//! Rescan: compares the book and the ledger of a whole shop. Pure, but slow: run it on a blocking
//! thread.
//!
//! Finds SKUs that differ, and decides which unchanged SKUs are sent again to refresh their date.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use stock::{Activity, ShopId, Sku, SkuId};

use super::ShopData;
use super::ledger::is_due;
use super::queue::{SendQueue, Urgency};

/// Largest number of SKUs that one rescan finds due for a refresh. With a rescan every five minutes
/// this allows fourteen million a day.
const MAX_DUE_FOR_REFRESH: usize = 50_000;

/// Comparison of a whole shop, with its inputs.
pub struct Rescan {
    pub(super) queue: SendQueue,
    pub(super) quarantined: HashSet<SkuId>,
    pub(super) shop: ShopId,
    pub(super) data: ShopData,
    pub(super) now: DateTime<Utc>,
}

/// Result of a rescan.
pub struct RescanResult {
    pub(super) queue: SendQueue,
    /// Unchanged SKUs that were sent long ago and stated again since.
    pub(super) due_for_refresh: Vec<(SkuId, Sku)>,
}

impl Rescan {
    /// Compares every SKU. A million take about 50 ms.
    #[must_use]
    pub fn run(self) -> RescanResult {
        let Self {
            mut queue,
            quarantined,
            shop,
            data,
            now,
        } = self;
        let mut due_for_refresh = Vec::new();
        data.ledger.read(shop, |per_sku| {
            data.book.for_each(shop, |sku, entry| {
                let id = entry.id();
                let acked = per_sku.get(id);
                let is_refresh_due = |at| {
                    is_due_for_refresh(sku, at, now)
                        && is_stated_since(&data.activity, shop, id, at, now)
                };
                let is_due = is_due(entry.level(), acked);
                if is_due && !queue.is_taken(id) && !quarantined.contains(&id) {
                    let urgency = Urgency::of(entry.level(), acked.level());
                    let since = acked.acked_at().map_or(0, |at| at.timestamp_micros());
                    queue.insert_if_fits(id, sku, urgency, since);
                } else if !is_due
                    && due_for_refresh.len() < MAX_DUE_FOR_REFRESH
                    && acked.acked_at().is_some_and(is_refresh_due)
                {
                    due_for_refresh.push((id, sku.clone()));
                }
            });
        });
        RescanResult {
            queue,
            due_for_refresh,
        }
    }
}

/// Returns true if an unchanged SKU should be sent again: the Market wants each SKU daily.
///
/// The interval is between 12 and 23 hours, derived from the SKU. So the refreshes of a shop are
/// spread over hours, even if all its SKUs were first sent together.
#[must_use]
pub fn is_due_for_refresh(sku: &Sku, acked_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    // CRC32 is stable across restarts and Rust versions, unlike the standard hasher.
    let hash = crc32fast::hash(sku.as_str().as_bytes());
    let interval = TimeDelta::hours(12) + TimeDelta::seconds(i64::from(hash % (11 * 3600)));
    now - acked_at >= interval
}

/// Largest age of a statement whose unchanged count is sent again. An older count would undo the
/// orders that the Market has subtracted since.
const RECENT: TimeDelta = TimeDelta::hours(24);

/// Returns true if the seller has stated the SKU since `acked_at` and within [`RECENT`]. Statements
/// are recorded by the hour, and an hour that began before `acked_at` proves nothing.
pub(super) fn is_stated_since(
    activity: &Activity,
    shop: ShopId,
    id: SkuId,
    acked_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> bool {
    activity.last_stated(shop, id).is_some_and(|asserted| {
        let hour = asserted.hour.start().to_utc();
        hour > acked_at && hour > now - RECENT && hour <= now
    })
}

//! Looks through a whole shop for what is to be sent: what the Market lacks, and what it should
//! hear again. Pure, and slow enough to be done where it disturbs nobody.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::ledger::is_due;
use super::planner::PlannerDeps;
use super::queue::{SendQueue, Urgency};
use crate::stock::{Activity, BookEntry, ShopId, Sku, SkuId};
use crate::store::Acked;

/// Most SKUs that one scan finds to be due again: at one each five minutes, fourteen million a
/// day.
const MAX_DUE_FOR_REFRESH: usize = 50_000;

/// A comparison of the whole shop, to be made where it disturbs nobody.
pub struct Rescan {
    pub(super) queue: SendQueue,
    pub(super) skip: HashSet<Sku>,
    pub(super) shop: ShopId,
    pub(super) deps: PlannerDeps,
    pub(super) now: DateTime<Utc>,
}

/// What a comparison found.
pub struct RescanResult {
    pub(super) queue: SendQueue,
    /// Sent long ago and asserted since.
    pub(super) due_for_refresh: Vec<(Sku, SkuId)>,
}

impl Rescan {
    /// Looks at every SKU: a million take some 50 ms.
    #[must_use]
    pub fn run(self) -> RescanResult {
        let Self {
            mut queue,
            skip,
            shop,
            deps,
            now,
        } = self;
        let mut due_for_refresh = Vec::new();
        deps.ledger.read(shop, |per_sku| {
            deps.book.for_each(shop, |sku, entry| {
                let acked = per_sku.get(entry.id());
                let is_due = is_due(entry.level(), acked);
                if is_due && !skip.contains(sku) {
                    let urgency = Urgency::of(entry.level(), acked.level());
                    let since = acked.acked_at().map_or(0, |at| at.timestamp_micros());
                    queue.insert_if_fits(sku, urgency, since);
                } else if !is_due
                    && due_for_refresh.len() < MAX_DUE_FOR_REFRESH
                    && is_refresh_due(&deps.activity, shop, (sku, entry), acked, now)
                {
                    due_for_refresh.push((sku.clone(), entry.id()));
                }
            });
        });
        RescanResult {
            queue,
            due_for_refresh,
        }
    }
}

/// Whether the Market took it long ago, and the seller has said the same since.
fn is_refresh_due(
    activity: &Activity,
    shop: ShopId,
    (sku, entry): (&Sku, BookEntry),
    acked: Acked,
    now: DateTime<Utc>,
) -> bool {
    acked.acked_at().is_some_and(|at| {
        is_due_for_refresh(sku, at, now) && is_stated_since(activity, shop, entry.id(), at, now)
    })
}

/// Whether it is time to say the same again: the Market wants to hear of each SKU daily.
///
/// Between 12 and 23 hours after the last time, each SKU at an hour of its own: so a shop that
/// was sent in one go does not go in one go every day.
#[must_use]
pub fn is_due_for_refresh(sku: &Sku, acked_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    // The same in every life of the program, whatever the standard hasher becomes.
    let hash = crc32fast::hash(sku.as_str().as_bytes());
    let interval = TimeDelta::hours(12) + TimeDelta::seconds(i64::from(hash % (11 * 3600)));
    now - acked_at >= interval
}

/// How lately the seller must have said a number that is sent although it is no news: orders
/// that the Market has booked since would be undone.
const RECENT: TimeDelta = TimeDelta::hours(24);

/// Whether the seller has said it since, and of late: an hour that began before proves nothing.
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

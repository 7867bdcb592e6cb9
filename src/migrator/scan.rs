//! Looks through a whole shop for what is to be sent: what the Market lacks, and what it should
//! hear again. Pure, and slow enough to be done where it disturbs nobody.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::batch::{Backlog, Urgency};
use super::ledger::is_due;
use super::plan::Surroundings;
use crate::stock::{Entry, Marks, ShopId, Sku, SkuId};
use crate::store::Acked;

/// Most SKUs that one scan finds to be due again: at one each five minutes, fourteen million a
/// day.
const MAX_REFRESHED: usize = 50_000;

/// A comparison of the whole shop, to be made where it disturbs nobody.
pub struct Scan {
    pub(super) backlog: Backlog,
    pub(super) skip: HashSet<Sku>,
    pub(super) shop: ShopId,
    pub(super) around: Surroundings,
    pub(super) now: DateTime<Utc>,
}

/// What a comparison found.
pub struct Found {
    pub(super) backlog: Backlog,
    /// Sent long ago and asserted since.
    pub(super) refresh: Vec<(Sku, SkuId)>,
}

impl Scan {
    /// Looks at every SKU: a million take some 50 ms.
    #[must_use]
    pub fn run(self) -> Found {
        let Self {
            mut backlog,
            skip,
            shop,
            around,
            now,
        } = self;
        let mut refresh = Vec::new();
        around.ledger.read(shop, |column| {
            around.book.for_each(shop, |sku, entry| {
                let acked = column.get(entry.id());
                let is_due = is_due(entry.level(), acked);
                if is_due && !skip.contains(sku) {
                    let urgency = Urgency::of(entry.level(), acked.level());
                    let age = acked.acked_at().map_or(0, |at| at.timestamp_micros());
                    backlog.offer(sku, urgency, age);
                } else if !is_due
                    && refresh.len() < MAX_REFRESHED
                    && is_worth_repeating(&around.marks, shop, (sku, entry), acked, now)
                {
                    refresh.push((sku.clone(), entry.id()));
                }
            });
        });
        Found { backlog, refresh }
    }
}

/// Whether the Market took it long ago, and the seller has said the same since.
fn is_worth_repeating(
    marks: &Marks,
    shop: ShopId,
    (sku, entry): (&Sku, Entry),
    acked: Acked,
    now: DateTime<Utc>,
) -> bool {
    acked.acked_at().is_some_and(|at| {
        is_stale(sku, at, now) && is_asserted_since(marks, shop, entry.id(), at, now)
    })
}

/// Whether it is time to say the same again: the Market wants to hear of each SKU daily.
///
/// Between 12 and 23 hours after the last time, each SKU at an hour of its own: so a shop that
/// was sent in one go does not go in one go every day.
#[must_use]
pub fn is_stale(sku: &Sku, acked_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    // The same in every life of the program, whatever the standard hasher becomes.
    let spread = crc32fast::hash(sku.as_str().as_bytes());
    let rest = TimeDelta::hours(12) + TimeDelta::seconds(i64::from(spread % (11 * 3600)));
    now - acked_at >= rest
}

/// How lately the seller must have said a number that is sent although it is no news: orders
/// that the Market has booked since would be undone.
const LATELY: TimeDelta = TimeDelta::hours(24);

/// Whether the seller has said it since, and of late: an hour that began before proves nothing.
pub(super) fn is_asserted_since(
    marks: &Marks,
    shop: ShopId,
    id: SkuId,
    acked_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> bool {
    marks.asserted(shop, id).is_some_and(|asserted| {
        let hour = asserted.hour.start().to_utc();
        hour > acked_at && hour > now - LATELY && hour <= now
    })
}

//! Updates that were compared with the known levels: what to write, and what changes nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use stock::{Level, ShopId, Sku, Timestamp, Update};

use super::{Accepted, IngestError, IngestRequest, IngestWorker};
use crate::store::{CompareUpdates, StoreChange};

/// Levels that earlier statements of the same commit will write.
pub(super) type PendingLevels<'a> = HashMap<(ShopId, &'a Sku), Level, foldhash::fast::RandomState>;

/// Statements of one call about one shop, compared with the known levels.
pub(super) struct ResolvedUpdates {
    pub(super) shop: ShopId,
    pub(super) rows: Vec<(Sku, Level)>,
    pub(super) repeated: Vec<Sku>,
    pub(super) accepted: Accepted,
}

/// Longest difference between the clocks of two replicas, with a wide margin. Each follows that of the
/// database.
const MAX_CLOCK_DIFFERENCE_MICROS: i64 = 1_000_000;

/// Returns the level of an update that arrived at one time and is compared at another.
///
/// An update without a date counts from its arrival, and is later than what was known then: if that has a
/// date from a clock that runs ahead, the update must still win. But stock that was stated while the
/// update waited for the store is newer.
pub(super) fn level_of(
    update: &Update,
    known: Option<Level>,
    (arrived, now): (Timestamp, Timestamp),
) -> Level {
    let undated = || {
        let Some(known) = known.map(|known| known.updated_at) else {
            return arrived;
        };
        let is_later =
            |than: Timestamp| known.as_micros() - than.as_micros() > MAX_CLOCK_DIFFERENCE_MICROS;
        if is_later(arrived) && !is_later(now) {
            arrived
        } else {
            arrived.max(known.successor())
        }
    };
    Level {
        count: update.count,
        updated_at: update.updated_at.unwrap_or_else(undated),
    }
}

/// Removes the calls that may be older than what other replicas have acknowledged since they arrived.
pub(super) fn refuse_interrupted(requests: &mut Vec<IngestRequest>) {
    for interrupted in requests.extract_if(.., |request| !request.may_be_stored()) {
        let _caller_gone = interrupted.response.send(Err(IngestError::Interrupted));
    }
}

/// Returns the shops of the calls.
pub(super) fn shops_of(requests: &[IngestRequest]) -> Vec<ShopId> {
    let statements = requests.iter().flat_map(|request| &request.statements);
    statements.map(|(shop, _)| *shop).collect()
}

/// Returns what the calls change.
pub(super) fn changes_of(resolved: &[Vec<ResolvedUpdates>]) -> Vec<StoreChange<'_>> {
    resolved
        .iter()
        .flatten()
        .filter(|resolved| !resolved.rows.is_empty())
        .map(|resolved| StoreChange::Stock {
            shop: resolved.shop,
            rows: &resolved.rows,
        })
        .collect()
}

/// Calls that are compared while no other process can change the stock.
pub(super) struct ComparedRequests<'a> {
    pub(super) worker: &'a mut IngestWorker,
    pub(super) requests: &'a mut Vec<IngestRequest>,
    pub(super) now: DateTime<Utc>,
    pub(super) resolved: Vec<Vec<ResolvedUpdates>>,
}

impl CompareUpdates for ComparedRequests<'_> {
    async fn compare(&mut self) {
        // Here, because memory has got the updates of the others now, and the database has locked them.
        refuse_interrupted(self.requests);
        self.resolved = self.worker.resolve(self.requests, self.now).await;
    }

    fn changes(&self) -> Vec<StoreChange<'_>> {
        changes_of(&self.resolved)
    }
}

#[cfg(test)]
mod tests {
    use stock::Count;

    use super::*;

    #[test]
    fn undated_update_counts_from_its_arrival() {
        let at =
            |millis: i64| Timestamp::from_micros(1_790_000_000_000_000 + millis * 1000).unwrap();
        let undated = Update {
            sku: Sku::parse("A").unwrap(),
            count: Count::ZERO,
            updated_at: None,
        };
        let (arrived, now) = (at(0), at(5_000));
        for (case, known, expected) in [
            ("unknown", None, arrived),
            ("older", Some(at(-10)), arrived),
            ("of the same time", Some(arrived), arrived.successor()),
            (
                "of a clock that is a little ahead",
                Some(at(900)),
                at(900).successor(),
            ),
            ("stated while it waited", Some(at(3_000)), arrived),
            ("stated just now", Some(at(5_010)), arrived),
            (
                "of a clock that runs ahead",
                Some(at(60_000)),
                at(60_000).successor(),
            ),
        ] {
            let known = known.map(|updated_at| Level {
                count: Count::ZERO,
                updated_at,
            });
            let level = level_of(&undated, known, (arrived, now));
            assert_eq!(level.updated_at, expected, "{case}");
        }
    }
}

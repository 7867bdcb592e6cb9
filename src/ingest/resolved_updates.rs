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

/// Returns the level of an update.
///
/// An update without a date is dated now, and later than the known level: if that has a date from
/// a clock that runs ahead, the update must still win.
pub(super) fn level_of(update: &Update, known: Option<Level>, now: Timestamp) -> Level {
    let as_of_now = || known.map_or(now, |known| now.max(known.updated_at.successor()));
    Level {
        count: update.count,
        updated_at: update.updated_at.unwrap_or_else(as_of_now),
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

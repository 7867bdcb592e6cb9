use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::core::Core;
use crate::config::Config;
use crate::ingest;
use crate::lifecycle::{Tasks, run_blocking};
use crate::stock::ShopId;
use crate::store::{Change, StoreError};
use crate::telemetry::AlarmKind;

/// How often marks that are new are written down.
const MARKS_SAVED_EVERY: Duration = Duration::from_mins(1);

/// Marks written in one commit.
const MARKS_AT_ONCE: usize = 2000;

/// How often it is looked whether the store's log should be folded.
const COMPACTION_CHECK: Duration = Duration::from_secs(5);

/// How often it is looked whether a source has fallen silent.
const SOURCES_CHECK: Duration = Duration::from_mins(1);

/// Starts what goes its rounds through the house.
pub(super) fn start(core: &Core, config: &Config, tasks: &Tasks) {
    tasks.spawn("compaction", compact(core.clone(), tasks.clone()));
    tasks.spawn("marks", save_marks(core.clone(), tasks.clone()));
    tasks.spawn(
        "sources",
        watch_sources(core.clone(), config.stale_after, tasks.clone()),
    );
}

/// Folds the store's log whenever it has grown enough.
async fn compact(core: Core, tasks: Tasks) {
    let mut checks = interval(COMPACTION_CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = checks.tick() => {}
        }
        if !core.store.wants_compaction() {
            continue;
        }
        let acked = |shop, id| core.ledger.get(shop, id);
        if let Err(error) = core.store.compact(&core.book, acked, &core.marks).await {
            warn!(error = %error, "could not fold the store's log, trying again");
        }
    }
}

/// Writes new marks down now and then, and when told to stop.
async fn save_marks(core: Core, tasks: Tasks) {
    let mut rounds = interval(MARKS_SAVED_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = tasks.stopping() => true,
            _ = rounds.tick() => false,
        };
        for shop in core.book.shops() {
            if let Err(error) = save(&core, shop).await {
                warn!(error = %error, "which SKUs were asked for and asserted is not on disk");
            }
        }
        if is_last {
            return;
        }
    }
}

async fn save(core: &Core, shop: ShopId) -> Result<(), StoreError> {
    let (marks, book) = (Arc::clone(&core.marks), Arc::clone(&core.book));
    // Looks at every SKU: off the threads that answer the Market.
    let rows = run_blocking(move || marks.take_unsaved(shop, &book)).await;
    // Piece by piece: acknowledgements and the seller's updates wait for the disk too.
    for rows in rows.chunks(MARKS_AT_ONCE) {
        let _receipt = core.store.append(&[Change::Marked { shop, rows }]).await?;
    }
    for (origin, at) in core.sources.take_news(shop) {
        let name = format!("{}{}", ingest::ASSERTED, origin.name());
        core.store
            .note(Some(shop), &name, Some(&at.to_rfc3339()))
            .await?;
    }
    Ok(())
}

/// Raises an alarm for each shop of which nobody has said anything for too long; whoever says
/// something clears it.
async fn watch_sources(core: Core, stale_after: TimeDelta, tasks: Tasks) {
    let mut rounds = interval(SOURCES_CHECK);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = rounds.tick() => {}
        }
        for (shop, name) in core.book.shops().zip(&*core.names) {
            if core.book.is_cold(shop) {
                continue;
            }
            let latest = core.sources.latest(shop);
            // Of a store older than such notes it is only known that nobody came since the start.
            let since = latest.map_or(core.started, |(_, at)| at);
            let age = core.clock.now() - since;
            if age < stale_after {
                core.alarms.clear(AlarmKind::SourceSilent, name);
                continue;
            }
            let last = latest.map_or("nobody since the start", |(origin, _)| origin.name());
            let text = format!(
                "nobody has said anything of the stock of {name} for {} h; the last was {last} at \
                 {since}. What is known is still answered, but not sent again daily",
                age.num_hours(),
            );
            core.alarms.raise(AlarmKind::SourceSilent, name, text);
        }
    }
}

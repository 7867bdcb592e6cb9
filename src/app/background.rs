use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::services::Services;
use crate::config::Config;
use crate::ingest;
use crate::lifecycle::{Tasks, run_blocking};
use crate::stock::ShopId;
use crate::store::{StoreChange, StoreError};
use crate::telemetry::AlarmKind;

/// How often marks that are new are written down.
const ACTIVITY_SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Marks written in one commit.
const ACTIVITY_ROWS_PER_COMMIT: usize = 2000;

/// How often it is looked whether the store's log should be folded.
const COMPACTION_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether a source has fallen silent.
const SOURCES_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Starts what goes its rounds through the house.
pub(super) fn start(services: &Services, config: &Config, tasks: &Tasks) {
    tasks.spawn("compaction", compact(services.clone(), tasks.clone()));
    tasks.spawn("marks", save_activity(services.clone(), tasks.clone()));
    tasks.spawn(
        "sources",
        watch_sources(services.clone(), config.stale_after, tasks.clone()),
    );
}

/// Folds the store's log whenever it has grown enough.
async fn compact(services: Services, tasks: Tasks) {
    let mut ticks = interval(COMPACTION_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        if !services.store.wants_compaction() {
            continue;
        }
        let acked = |shop, id| services.ledger.get(shop, id);
        if let Err(error) = services
            .store
            .compact(&services.book, acked, &services.activity)
            .await
        {
            warn!(error = %error, "could not fold the store's log, trying again");
        }
    }
}

/// Writes new marks down now and then, and when told to stop.
async fn save_activity(services: Services, tasks: Tasks) {
    let mut ticks = interval(ACTIVITY_SAVE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = tasks.stopping() => true,
            _ = ticks.tick() => false,
        };
        for shop in services.book.shops() {
            if let Err(error) = save_shop_activity(&services, shop).await {
                warn!(error = %error, "which SKUs were asked for and asserted is not on disk");
            }
        }
        if is_last {
            return;
        }
    }
}

async fn save_shop_activity(services: &Services, shop: ShopId) -> Result<(), StoreError> {
    let (activity, book) = (Arc::clone(&services.activity), Arc::clone(&services.book));
    // Looks at every SKU: off the threads that answer the Market.
    let rows = run_blocking(move || activity.take_unsaved(shop, &book)).await;
    // Piece by piece: acknowledgements and the seller's updates wait for the disk too.
    for rows in rows.chunks(ACTIVITY_ROWS_PER_COMMIT) {
        let _guard = services
            .store
            .append(&[StoreChange::Activity { shop, rows }])
            .await?;
    }
    for (origin, at) in services.sources.take_unsaved(shop) {
        let name = format!("{}{}", ingest::STATED_NOTE_PREFIX, origin.name());
        services
            .store
            .put_note(Some(shop), &name, Some(&at.to_rfc3339()))
            .await?;
    }
    Ok(())
}

/// Raises an alarm for each shop of which nobody has said anything for too long; whoever says
/// something clears it.
async fn watch_sources(services: Services, stale_after: TimeDelta, tasks: Tasks) {
    let mut ticks = interval(SOURCES_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        for (shop, name) in services.book.shops().zip(&*services.names) {
            if services.book.is_empty(shop) {
                continue;
            }
            let latest = services.sources.latest(shop);
            // Of a store older than such notes it is only known that nobody came since the start.
            let since = latest.map_or(services.started, |(_, at)| at);
            let age = services.clock.now() - since;
            if age < stale_after {
                services.alarms.clear(AlarmKind::SourceSilent, name);
                continue;
            }
            let last = latest.map_or("nobody since the start", |(origin, _)| origin.name());
            let text = format!(
                "nobody has said anything of the stock of {name} for {} h; the last was {last} at \
                 {since}. What is known is still answered, but not sent again daily",
                age.num_hours(),
            );
            services.alarms.raise(AlarmKind::SourceSilent, name, text);
        }
    }
}

//! Periodic background tasks: compaction of the store, saving of SKU activity, and the alarm about
//! shops without new statements.

use std::time::Duration;

use chrono::TimeDelta;
use lifecycle::{Tasks, run_blocking};
use stock::ShopId;
use tokio::time::{MissedTickBehavior, interval};

use super::services::Services;
use crate::config::Config;
use crate::store::{StoreChange, StoreError};
use crate::telemetry::AlarmKind;

/// Time between two saves of new SKU activity.
const ACTIVITY_SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Rows of SKU activity in one commit.
const ACTIVITY_ROWS_PER_COMMIT: usize = 2000;

/// Time between two checks if the store needs a compaction.
const COMPACTION_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two checks for shops without new statements.
const SOURCES_CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// Starts the periodic background tasks.
pub(super) fn start(services: &Services, config: &Config, tasks: &Tasks) {
    tasks.spawn("compaction", compact(services.clone(), tasks.clone()));
    tasks.spawn(
        "activity_saver",
        save_activity(services.clone(), tasks.clone()),
    );
    tasks.spawn(
        "silent_source_check",
        watch_sources(services.clone(), config.stale_after, tasks.clone()),
    );
}

/// Compacts the store when its log has grown enough.
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
        let data = &services.data;
        let acked = |shop, id| data.ledger.get(shop, id);
        let compacting = services.store.compact(&data.book, acked, &data.activity);
        let outcome = compacting.await;
        services
            .store
            .failures()
            .note("compact the store", &outcome);
    }
}

/// Saves new SKU activity periodically, and once more at the stop.
async fn save_activity(services: Services, tasks: Tasks) {
    let mut ticks = interval(ACTIVITY_SAVE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            () = tasks.stopping() => true,
            _ = ticks.tick() => false,
        };
        for (shop, name) in services.data.book.shops().zip(&*services.names) {
            let outcome = save_shop_activity(&services, shop).await;
            // With the name, because the success of one shop does not end the failure of another.
            let action = format!("save SKU activity of {name}");
            services.store.failures().note(&action, &outcome);
        }
        if is_last {
            return;
        }
    }
}

async fn save_shop_activity(services: &Services, shop: ShopId) -> Result<(), StoreError> {
    let data = services.data.clone();
    // This visits every SKU, so it runs outside the threads that serve the Market.
    let rows = run_blocking(move || data.activity.take_unsaved(shop)).await;
    // In small commits, because acknowledgements and updates of the seller wait for the disk too.
    for rows in rows.chunks(ACTIVITY_ROWS_PER_COMMIT) {
        let _guard = services
            .store
            .append(&[StoreChange::Activity { shop, rows }])
            .await?;
    }
    services.origin_times.save(shop, &services.store).await
}

/// Raises an alarm for each shop without a statement for `stale_after`. The next statement clears
/// it.
async fn watch_sources(services: Services, stale_after: TimeDelta, tasks: Tasks) {
    let mut ticks = interval(SOURCES_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        for (shop, name) in services.data.book.shops().zip(&*services.names) {
            if services.data.book.is_empty(shop) {
                continue;
            }
            let latest = services.origin_times.latest(shop);
            // After a crash before the first of these notes, only the time since the start counts.
            let since = latest.map_or(services.started, |(_, at)| at);
            let age = services.clock.now() - since;
            if age < stale_after {
                services.alarms.clear(AlarmKind::SourceSilent, name);
                continue;
            }
            let last = match latest {
                Some((origin, at)) => {
                    format!("the last statement came by {} at {at}", origin.name())
                }
                None => format!("there was none since the start at {since}"),
            };
            let text = format!(
                "no program or source has stated any stock of {name} for {} h: {last}. The known \
                stock is still served to the Market, but no longer repeated to it daily. Check the \
                program or source that feeds the shop",
                age.num_hours(),
            );
            services.alarms.raise(AlarmKind::SourceSilent, name, text);
        }
    }
}

//! Changes of other processes that use the same database: they reach memory and the migrator.

use std::time::Duration;

use lifecycle::Tasks;
use stock::ShopId;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::services::Services;
use crate::migrator::{Migrator, ShopData};
use crate::store::{Acked, RecordRow, apply_followed};
use crate::telemetry::AlarmKind;

/// Time between two looks at the database for changes of other processes.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Applies the changes of other processes from now on, and looks for them periodically.
pub(super) fn start(services: &Services, migrator: Migrator, tasks: &Tasks) {
    if services.store.leases().is_none() {
        return;
    }
    let (data, alarms, names) = (
        services.data.clone(),
        services.alarms.clone(),
        services.names.clone(),
    );
    services.store.follow_with(Box::new(move |shop, rows| {
        if apply(&data, &migrator, shop, rows) {
            alarms.clear(AlarmKind::SourceSilent, &names[shop.index()]);
        }
    }));
    tasks.spawn(
        "follow_store",
        follow(services.clone(), FOLLOW_INTERVAL, tasks.clone()),
    );
}

/// Applies rows of one record. Returns true if they changed stock.
fn apply(data: &ShopData, migrator: &Migrator, shop: ShopId, rows: &[RecordRow]) -> bool {
    let effect = apply_followed(&data.book, &data.activity, shop, rows);
    if effect.is_target_changed {
        let mut ids = Vec::with_capacity(data.book.len(shop));
        data.book.for_each(shop, |_, entry| ids.push(entry.id()));
        let void = ids.into_iter().map(|id| (id, Acked::default()));
        data.ledger.record(shop, void);
    }
    data.ledger.record(shop, effect.acked.into_iter());
    if !effect.changed.is_empty() {
        migrator.notify_changed(shop, &effect.changed);
    }
    !effect.changed.is_empty()
}

async fn follow(services: Services, every: Duration, tasks: Tasks) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_failure = None;
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        let failure = services.store.catch_up().await.err();
        let failure = failure.map(|error| error.to_string());
        if failure != last_failure
            && let Some(error) = &failure
        {
            warn!(error, "failed to read changes of other processes: {error}");
        }
        last_failure = failure;
    }
}

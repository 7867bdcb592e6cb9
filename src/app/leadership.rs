//! Leadership for the Market: which replica sends for which shop.

use std::collections::HashMap;
use std::time::Duration;

use lifecycle::Tasks;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::services::Services;
use super::wiring;
use crate::config::Config;
use crate::migrator::{Migrator, RestoreFn, ShopLeases};
use crate::replicas::{LeaseKeeper, SendingLease};

/// Time between two looks at notes that other replicas may have changed.
const NOTES_INTERVAL: Duration = Duration::from_secs(5);

/// Time by which a request may end later than its timeout says.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);

/// Starts to take and renew the leases for the Market. Alone, this process always leads.
pub(super) fn start(
    services: &Services,
    config: &Config,
    restore: RestoreFn,
    tasks: &Tasks,
) -> ShopLeases {
    let (Some(table), Some(owner)) = (services.store.leases(), &services.lease_owner) else {
        return ShopLeases::unlimited();
    };
    let mut budgets: HashMap<String, SendingLease> = HashMap::new();
    let mut by_shop = HashMap::new();
    for (shop, budget) in wiring::budgets(config) {
        let lease = budgets
            .entry(budget)
            .or_insert_with_key(|budget| SendingLease::of_budget(budget.clone()));
        by_shop.insert(shop, lease.clone());
    }
    let takeover_wait = config.outbound().total_timeout + TIMEOUT_MARGIN;
    let leases = budgets.into_values().collect();
    let keeper = LeaseKeeper::new(table, owner.clone(), leases, takeover_wait);
    tasks.spawn("sending_leases", keeper.run(tasks.clone()));
    ShopLeases::new(by_shop, restore)
}

/// Takes over what operators and programs have done on other replicas: pauses, and the times of the
/// last statements. Also reads the list of replicas.
pub(super) async fn read_notes(services: Services, migrator: Migrator, tasks: Tasks) {
    let mut ticks = interval(NOTES_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ticks.tick() => {}
        }
        match services.store.list_replicas().await {
            Ok(replicas) => services.replicas.set(replicas),
            Err(error) => warn!("failed to read the list of replicas: {error}"),
        }
        match services.store.read_notes().await {
            Ok(Some(notes)) => {
                migrator.take_over_pauses(&notes);
                let shops = services.data.book.shops();
                services.origin_times.merge(&notes, shops);
            }
            Ok(None) => {}
            Err(error) => warn!("failed to read the notes of other replicas: {error}"),
        }
    }
}

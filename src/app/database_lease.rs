//! Lease on the whole database: one process at a time uses it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lifecycle::Tasks;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{error, info, warn};

use crate::store::{LeaseOutcome, LeaseTable, Store};

/// Name of the lease.
const NAME: &str = "service";

/// Time after which another process may use the database.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Time between two renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(3);

/// Time between two attempts to take the lease while another process has it.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Lease that this process has taken.
pub(super) struct DatabaseLease {
    table: LeaseTable,
    owner: String,
}

impl DatabaseLease {
    /// Takes the lease on the store's database. Returns `None` for a store in a directory.
    ///
    /// After a crash the lease of the last run is still valid for a few seconds, so this waits for
    /// its end.
    pub(super) async fn take(store: &Store, instance: &str) -> anyhow::Result<Option<Self>> {
        let Some(table) = store.leases() else {
            return Ok(None);
        };
        let owner = format!("{instance}/{:08x}", rand::random::<u32>());
        let give_up_at = Instant::now() + LEASE_DURATION + 2 * RETRY_INTERVAL;
        let mut has_waited = false;
        loop {
            let outcome = table.acquire(NAME, &owner, LEASE_DURATION).await;
            match outcome.context("take the lease on the database")? {
                LeaseOutcome::Held(_) => return Ok(Some(Self { table, owner })),
                LeaseOutcome::Taken { owner, .. } if Instant::now() >= give_up_at => bail!(
                    "the database is in use by {owner}; stop that process, because one process at a \
                     time uses it"
                ),
                LeaseOutcome::Taken { owner, left } => {
                    if !has_waited {
                        let seconds = left.as_secs() + 1;
                        info!("the database was in use by {owner}, waiting up to {seconds} s");
                    }
                    has_waited = true;
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Renews the lease until the tasks are stopping, and then gives it back. Ends, and so stops
    /// the process, if another process has taken it.
    pub(super) async fn keep(self, tasks: Tasks) {
        let mut ticks = interval(RENEW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = ticks.tick() => {}
            }
            match self.table.acquire(NAME, &self.owner, LEASE_DURATION).await {
                Ok(LeaseOutcome::Held(_)) => {}
                Ok(LeaseOutcome::Taken { owner, .. }) => {
                    error!("{owner} has taken over the database, so this process stops");
                    return;
                }
                // No other process can take it either while the database cannot be used.
                Err(error) => warn!("failed to renew the lease on the database: {error}"),
            }
        }
        if let Err(error) = self.table.release(NAME, &self.owner).await {
            warn!("failed to give back the lease on the database: {error}");
        }
    }
}

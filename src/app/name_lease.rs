//! Lease on the name of a replica: two processes with one name do not run at the same time. A
//! process without a name has the whole database.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lifecycle::Tasks;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::store::{LeaseOutcome, LeaseTable, Store, WHOLE_DATABASE};

/// Name of the task that renews the lease.
pub(super) const TASK: &str = "name_lease";

/// Begin of the name of a replica's lease.
const REPLICA: &str = "replica ";

/// Time after which another process may use the name.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// Longest wait for the end of the lease of a process that has crashed.
pub(super) const CRASH_WAIT: Duration =
    LEASE_DURATION.saturating_add(RETRY_INTERVAL.saturating_mul(2));

/// Time between two renewals.
const RENEW_INTERVAL: Duration = Duration::from_secs(3);

/// Time between two attempts to take the lease while another process has it.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Lease on the name of this process.
pub(super) struct NameLease {
    table: LeaseTable,
    name: String,
    owner: String,
}

impl NameLease {
    /// Takes the lease on a name in the store's database; without a name, on the whole database.
    /// Returns `None` for a store in a directory.
    ///
    /// After a crash the lease of the last run is still valid for a few seconds, so this waits for
    /// its end.
    ///
    /// # Errors
    /// The database cannot be used, or another process has the lease.
    pub(super) async fn take(store: &Store, replica: Option<&str>) -> anyhow::Result<Option<Self>> {
        let Some(table) = store.leases() else {
            return Ok(None);
        };
        let name = replica.map_or_else(
            || WHOLE_DATABASE.to_owned(),
            |name| format!("{REPLICA}{name}"),
        );
        let owner = format!(
            "{}/{:08x}",
            replica.unwrap_or(WHOLE_DATABASE),
            rand::random::<u32>()
        );
        let lease = Self { table, name, owner };
        let give_up_at = Instant::now() + CRASH_WAIT;
        let mut has_waited = false;
        while let Some(obstacle) = lease.try_take().await? {
            if Instant::now() >= give_up_at {
                lease.give_back().await;
                bail!("{obstacle}");
            }
            if !has_waited {
                info!("waiting up to {} s: {obstacle}", LEASE_DURATION.as_secs());
            }
            has_waited = true;
            sleep(RETRY_INTERVAL).await;
        }
        // Messages of other processes name this one so.
        info!("this process is {} in the database", lease.owner);
        Ok(Some(lease))
    }

    /// Tries to take the lease. Returns what prevents it, if anything does.
    async fn try_take(&self) -> anyhow::Result<Option<String>> {
        let acquiring = self.table.acquire(&self.name, &self.owner, LEASE_DURATION);
        let outcome = acquiring.await.context("take the lease on the database")?;
        if let LeaseOutcome::Taken { owner, .. } = outcome {
            return Ok(Some(format!(
                "the database is in use by {owner}; stop that process, or set another name as \
                 replica on each process"
            )));
        }
        // After the own lease was written, so that of two processes at least one sees the other.
        let (alone, replicas) = (self.name == WHOLE_DATABASE, format!("{REPLICA}%"));
        let other_kind = if alone { &*replicas } else { WHOLE_DATABASE };
        let others = self.table.holders(other_kind).await;
        let others = others.context("read the leases of other processes")?;
        Ok(others.first().map(|owner| {
            format!(
                "the database is in use by {owner}; set replica on each process that uses it, or on \
                 none"
            )
        }))
    }

    async fn give_back(&self) {
        if let Err(error) = self.table.release(&self.name, &self.owner).await {
            warn!("failed to give back the lease on the database: {error}");
        }
    }

    /// Returns the name of this run of the process, for other leases.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Describes that the process `taker` has the lease now.
    fn describe_loss(&self, taker: &str) -> String {
        let owner = &self.owner;
        let seconds = LEASE_DURATION.as_secs();
        match self.name.strip_prefix(REPLICA) {
            Some(name) => format!(
                "another process ({taker}) has taken the replica name {name}, because this one \
                 ({owner}) has not reached the database for {seconds} s: set another name as replica on \
                 one of the two, or stop that process before you start this one again"
            ),
            None => format!(
                "another process ({taker}) has taken the database, because this one ({owner}) has not \
                 reached it for {seconds} s: stop that process before you start this one again, or set \
                 replica to a name of its own on each of the two"
            ),
        }
    }

    /// Renews the lease until the tasks are stopping, and then gives it back. Stops the process if
    /// another one has taken it.
    pub(super) async fn keep(self, tasks: Tasks) {
        let mut ticks = interval(RENEW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = ticks.tick() => {}
            }
            let acquiring = self.table.acquire(&self.name, &self.owner, LEASE_DURATION);
            let outcome = acquiring.await;
            // No other process can take it either while the database cannot be used.
            let action = "renew the lease on the name of this process";
            self.table.failures().note(action, &outcome);
            if let Ok(LeaseOutcome::Taken { owner, .. }) = outcome {
                let reason = self.describe_loss(&owner);
                return tasks.stop_process(TASK, reason).await;
            }
        }
        self.give_back().await;
    }
}

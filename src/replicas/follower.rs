//! Task that follows the other replicas: reads their changes and renews the row of this one.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lifecycle::Tasks;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::ServingPermit;
use crate::store::{
    ChangeNotice, RecoveredChanges, RenewalNeed, Store, StoreError, may_answer_until,
};
use crate::telemetry::{AlarmKind, Alarms};

/// Time between two looks at the database for changes of other replicas, and so between two
/// renewals. Notifications make it shorter.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which the alarm about lost changes clears.
const LOSS_ALARM_DURATION: TimeDelta = TimeDelta::hours(24);

/// Follower of the other replicas.
pub struct Follower {
    store: Arc<Store>,
    // Empty for the only process that uses the database.
    name: String,
    permit: ServingPermit,
    alarms: Alarms,
    wake: Arc<Notify>,
    renewed_at: Option<Instant>,
}

impl Follower {
    /// Creates the follower of a store in a database. The store must have its callback.
    ///
    /// Without a name this is the only process that uses the database: it follows only itself, to
    /// find commits whose response was lost, and may always answer.
    #[must_use]
    pub fn new(store: Arc<Store>, name: Option<&str>, alarms: Alarms) -> Self {
        Self {
            store,
            name: name.unwrap_or_default().to_owned(),
            permit: name.map_or_else(ServingPermit::unlimited, |_| ServingPermit::ended()),
            alarms,
            wake: Arc::default(),
            renewed_at: None,
        }
    }

    /// Returns the permit to answer the Market, which this task extends.
    #[must_use]
    pub fn permit(&self) -> ServingPermit {
        self.permit.clone()
    }

    /// Reads the changes of the other replicas and joins them.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn join(&mut self) -> Result<(), StoreError> {
        self.round().await
    }

    /// Starts to follow. `tasks` end after everything that answers the Market.
    pub fn start(self, tasks: &Tasks) {
        let listening = listen(
            Arc::clone(&self.store),
            Arc::clone(&self.wake),
            tasks.clone(),
        );
        tasks.spawn("store_listener", listening);
        tasks.spawn("follow_store", self.run(tasks.clone()));
    }

    async fn run(mut self, tasks: Tasks) {
        let mut ticks = interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
            }
            let outcome = self.round().await;
            self.report_recovered();
            let failures = self.store.failures();
            failures.note("read changes from the database", &outcome);
            let failure = outcome.err().map(|error| error.to_string());
            self.update_alarm(failure.as_deref());
        }
        self.permit.end();
        if !self.name.is_empty()
            && let Err(error) = self.store.leave_replicas().await
        {
            warn!("failed to leave the replicas: {error}");
        }
    }

    /// Reads all changes, and extends the permit if this replica counts for the others.
    async fn round(&mut self) -> Result<(), StoreError> {
        if self.name.is_empty() {
            return self.store.catch_up().await.map(drop);
        }
        let started = Instant::now();
        let is_due = self
            .renewed_at
            .is_none_or(|at| at.elapsed() >= POLL_INTERVAL / 2);
        // An append may have read the changes of the others before this call. They wait for the row.
        let need = if is_due {
            RenewalNeed::Always
        } else {
            RenewalNeed::IfChanged
        };
        let mut renewal = self.store.renew_replica(&self.name, need).await?;
        if renewal.is_some_and(|renewal| !renewal.was_alive) {
            // Until now the others did not wait for this replica, so their latest acknowledged changes
            // may have been missing.
            let need = RenewalNeed::Always;
            renewal = self.store.renew_replica(&self.name, need).await?;
        }
        if let Some(renewal) = renewal.filter(|renewal| renewal.was_alive) {
            self.renewed_at = Some(started);
            self.permit.extend(may_answer_until(renewal.counts_from));
        }
        Ok(())
    }

    /// Reports changes that the database had lost and that were appended again.
    fn report_recovered(&self) {
        for recovered in self.store.take_recovered() {
            let RecoveredChanges {
                shop,
                skus,
                acknowledgements,
            } = recovered;
            let text = format!(
                "the database had lost acknowledged changes of {shop}, as after a failover to a standby \
                 that was behind. This process has appended them again: {skus} stated counts, and \
                 {acknowledgements} acknowledgements of the Market, whose SKUs are sent once more. Set \
                 synchronous_standby_names, so that the next failover loses nothing"
            );
            let kind = AlarmKind::DatabaseLostChanges;
            self.alarms
                .raise_for(kind, &shop, text, LOSS_ALARM_DURATION);
        }
    }

    fn update_alarm(&self, failure: Option<&str>) {
        match failure {
            Some(error) if !self.permit.is_valid() => self.alarms.raise(
                AlarmKind::ReplicaBehind,
                "",
                format!(
                    "this replica cannot read the changes of the others, so the Market gets 503 from \
                     it: {error}"
                ),
            ),
            Some(_) => {}
            None => self.alarms.clear(AlarmKind::ReplicaBehind, ""),
        }
    }
}

/// Wakes the follower and the waiting acknowledgements when other replicas have changed something.
async fn listen(store: Arc<Store>, wake: Arc<Notify>, tasks: Tasks) {
    let Some(mut listener) = store.change_listener() else {
        return tasks.stopping().await;
    };
    loop {
        let notice = tokio::select! {
            () = tasks.stopping() => return,
            notice = listener.next() => notice,
        };
        match notice {
            Some(ChangeNotice::Applied) => store.wake_acknowledgements(),
            Some(ChangeNotice::Appended | ChangeNotice::Unknown) => {
                wake.notify_one();
                store.wake_acknowledgements();
            }
            None => {
                tokio::select! {
                    () = tasks.stopping() => return,
                    () = sleep(POLL_INTERVAL) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DatabaseProblem;

    #[test]
    fn text_has_the_cure_of_the_error() {
        let target = "postgres://db/stock".to_owned();
        let unusable = StoreError::DatabaseUnusable {
            target: target.clone(),
            what: "no response within 10 s".to_owned(),
            problem: DatabaseProblem::NoResponse,
        };
        let unusable = unusable.to_string();
        assert!(
            unusable.contains("10 s; check the load of the server, the network, and host and port"),
            "{unusable}"
        );
        let lost = StoreError::LostChanges {
            target,
            shop: "moscow".to_owned(),
            found: 3,
            known: 5,
        };
        let lost = lost.to_string();
        assert!(
            lost.contains("its last change has number 3, that in memory 5"),
            "{lost}"
        );
        assert!(
            lost.ends_with("feed the complete stock, or restore a newer database"),
            "{lost}"
        );
    }
}

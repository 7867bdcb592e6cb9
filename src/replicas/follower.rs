//! Task that follows the other replicas: reads their changes and renews the row of this one.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use lifecycle::Tasks;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::ServingPermit;
use crate::store::{ChangeNotice, RecoveredChanges, Store, StoreError, may_answer_until};
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
        let mut last_failure = None;
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = ticks.tick() => {}
                () = self.wake.notified() => {}
                () = self.store.kept_back_renewal() => {}
            }
            let failure = self.round().await.err().map(|error| error.to_string());
            self.report_recovered();
            if failure != last_failure {
                if let Some(error) = &failure {
                    warn!(error, "failed to follow the other replicas: {error}");
                } else {
                    info!("follows the other replicas again");
                }
            }
            self.update_alarm(failure.as_deref());
            last_failure = failure;
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
        let mut read_at = Instant::now();
        let is_new = self.store.catch_up().await?;
        if self.name.is_empty() {
            return Ok(());
        }
        let is_fresh = self
            .renewed_at
            .is_some_and(|at| at.elapsed() < POLL_INTERVAL / 2);
        // An append may have read the changes of the others before this call. They wait for the row.
        if !is_new && is_fresh && !self.store.needs_renewal().await? {
            return Ok(());
        }
        let renewed_at = Instant::now();
        if !self.store.renew_replica(&self.name).await? {
            // Until now the others did not wait for this replica, so their latest acknowledged
            // changes may have been missing above.
            read_at = Instant::now();
            if self.store.catch_up().await? {
                self.store.renew_replica(&self.name).await?;
            }
        }
        self.renewed_at = Some(renewed_at);
        self.permit.extend(may_answer_until(read_at));
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
                     it: {error}. Check the database and the network"
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

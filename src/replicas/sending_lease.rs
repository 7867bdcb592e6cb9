//! Leases for calling the Market: one replica at a time sends for each budget.
//!
//! A budget is what the Market limits: a campaign, or a business with all its shops. The leader
//! sends only while its lease lasts by its own monotonic clock. A request cannot be taken back, so a
//! new leader first waits as long as a request of the old one may take, unless that one has given
//! its lease back. Each acknowledgement is stored under the epoch of the lease. So a leader that was
//! stopped and wakes up late cannot mark anything as sent.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Tasks;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::store::{Fence, Lease, LeaseOutcome, LeaseTable};

/// Time after which another replica may lead.
const LEASE_DURATION: Duration = Duration::from_secs(30);

/// Time between two renewals, and between two attempts to take the lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// Time before the end of the lease from which nothing is sent, because this process's monotonic
/// clock may be slower than that of the database.
const SEND_MARGIN: Duration = Duration::from_secs(3);

/// Lease of one budget. Clones share its state.
#[derive(Clone, Debug)]
pub struct SendingLease {
    shared: Option<Arc<SharedLease>>,
}

#[derive(Debug)]
struct SharedLease {
    name: String,
    view: Mutex<LeaseView>,
    changed: Notify,
}

/// Last known state of a lease.
#[derive(Clone, Debug, Default)]
struct LeaseView {
    held: Option<HeldLease>,
    /// Name of the replica that has the lease, if it is another one.
    holder: Option<String>,
}

#[derive(Clone, Debug)]
struct HeldLease {
    fence: Fence,
    valid_until: Instant,
    may_send_from: Instant,
}

impl SendingLease {
    /// Returns the lease of the only process that uses a store. It never ends.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { shared: None }
    }

    /// Returns a lease that is not held yet.
    #[must_use]
    pub fn of_budget(name: String) -> Self {
        let shared = SharedLease {
            name,
            view: Mutex::default(),
            changed: Notify::new(),
        };
        Self {
            shared: Some(Arc::new(shared)),
        }
    }

    /// Returns the epoch in which this process leads; `None` if it does not.
    #[must_use]
    pub fn epoch(&self) -> Option<i64> {
        let Some(shared) = &self.shared else {
            return Some(0);
        };
        let view = shared.view.lock();
        let held = view.held.as_ref()?;
        (Instant::now() < held.valid_until).then_some(held.fence.epoch)
    }

    /// Returns the time from which this process may send; `None` if it may not.
    #[must_use]
    pub fn may_send_from(&self, now: Instant) -> Option<Instant> {
        let Some(shared) = &self.shared else {
            return Some(now);
        };
        let view = shared.view.lock();
        let held = view.held.as_ref()?;
        (now + SEND_MARGIN < held.valid_until).then_some(held.may_send_from)
    }

    /// Returns the fence for changes of this process; `None` if the lease is unlimited.
    ///
    /// # Errors
    /// This process does not lead.
    pub fn fence(&self) -> Result<Option<Fence>, NotLeading> {
        let Some(shared) = &self.shared else {
            return Ok(None);
        };
        let view = shared.view.lock();
        let held = view.held.as_ref().map(|held| held.fence.clone());
        held.map(Some).ok_or(NotLeading)
    }

    /// Returns the replica that sends; `None` if this process alone uses its store.
    #[must_use]
    pub fn sender(&self) -> Option<SendingReplica> {
        let view = self.shared.as_ref()?.view.lock();
        let now = Instant::now();
        Some(match (&view.held, &view.holder) {
            (Some(held), _) if now < held.valid_until => SendingReplica::This {
                wait: held.may_send_from.saturating_duration_since(now),
            },
            (_, Some(holder)) => SendingReplica::Other(holder.clone()),
            (_, None) => SendingReplica::Unknown,
        })
    }

    /// Returns why this process does not lead, for the operator.
    #[must_use]
    pub fn obstacle(&self) -> String {
        match self.sender() {
            Some(SendingReplica::Other(holder)) => format!("replica {holder} sends"),
            Some(SendingReplica::This { .. } | SendingReplica::Unknown) | None => {
                "no replica has been chosen to send yet".to_owned()
            }
        }
    }

    /// Waits for a change of the state.
    pub async fn changed(&self) {
        match &self.shared {
            Some(shared) => shared.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    fn set(&self, outcome: &LeaseOutcome, owner: &str, takeover_wait: Duration) {
        let Some(shared) = &self.shared else {
            return;
        };
        let mut view = shared.view.lock();
        let before = view.held.as_ref().map(|held| held.fence.epoch);
        match outcome {
            LeaseOutcome::Held(lease) => {
                let held = held_lease(&shared.name, owner, *lease, &view, takeover_wait);
                view.held = Some(held);
                view.holder = None;
            }
            LeaseOutcome::Taken { owner, .. } => {
                view.held = None;
                view.holder = Some(replica_name(owner).to_owned());
            }
        }
        let now = view.held.as_ref().map(|held| held.fence.epoch);
        drop(view);
        if before != now {
            if let Some(epoch) = now {
                info!("leads {} in epoch {epoch}", shared.name);
            } else {
                info!("no longer leads {}", shared.name);
            }
            shared.changed.notify_waiters();
        }
    }
}

/// Replica that calls the Market for a shop, as this process knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SendingReplica {
    /// This process. Until the end of `wait`, requests of the one before may be on their way.
    This {
        /// Time until it sends.
        wait: Duration,
    },
    /// The replica with this name.
    Other(String),
    /// Not known: none has the lease, or the database cannot be reached.
    Unknown,
}

impl SendingReplica {
    /// Returns true for this process.
    #[must_use]
    pub fn is_this(&self) -> bool {
        matches!(self, Self::This { .. })
    }
}

/// Error of a change by a process that does not lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotLeading;

fn held_lease(
    name: &str,
    owner: &str,
    lease: Lease,
    view: &LeaseView,
    takeover_wait: Duration,
) -> HeldLease {
    let known = view.held.as_ref();
    let known = known.filter(|held| held.fence.epoch == lease.epoch);
    let wait = if lease.is_handed_over {
        Duration::ZERO
    } else {
        takeover_wait
    };
    HeldLease {
        fence: Fence {
            lease: name.to_owned(),
            owner: owner.to_owned(),
            epoch: lease.epoch,
        },
        valid_until: lease.valid_until,
        may_send_from: known.map_or_else(|| Instant::now() + wait, |held| held.may_send_from),
    }
}

/// Returns the name of the replica in the text of an owner.
fn replica_name(owner: &str) -> &str {
    owner.split_once('/').map_or(owner, |(name, _)| name)
}

/// Task that takes and renews the leases of all budgets.
pub struct LeaseKeeper {
    table: LeaseTable,
    owner: String,
    leases: Vec<SendingLease>,
    takeover_wait: Duration,
}

impl LeaseKeeper {
    /// Creates the keeper. `takeover_wait` is the longest time that a request of another leader may
    /// still be on its way after its lease has ended.
    #[must_use]
    pub fn new(
        table: LeaseTable,
        owner: String,
        leases: Vec<SendingLease>,
        takeover_wait: Duration,
    ) -> Self {
        Self {
            table,
            owner,
            leases,
            takeover_wait,
        }
    }

    /// Takes and renews until the tasks are stopping, and then gives the leases back. `tasks` end
    /// after those that send.
    pub async fn run(self, tasks: Tasks) {
        let mut ticks = interval(RENEW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                _ = ticks.tick() => {}
            }
            for lease in &self.leases {
                self.renew(lease).await;
            }
        }
        for lease in &self.leases {
            let Some(shared) = &lease.shared else {
                continue;
            };
            if let Err(error) = self.table.release(&shared.name, &self.owner).await {
                warn!("failed to give back the lease of {}: {error}", shared.name);
            }
        }
    }

    async fn renew(&self, lease: &SendingLease) {
        let Some(shared) = &lease.shared else {
            return;
        };
        let acquiring = self
            .table
            .acquire(&shared.name, &self.owner, LEASE_DURATION);
        match acquiring.await {
            Ok(outcome) => lease.set(&outcome, &self.owner, self.takeover_wait),
            // The lease ends by itself.
            Err(error) => warn!("failed to renew the lease of {}: {error}", shared.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    fn held(epoch: i64, is_handed_over: bool) -> LeaseOutcome {
        LeaseOutcome::Held(Lease {
            epoch,
            valid_until: Instant::now() + LEASE_DURATION,
            is_handed_over,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn new_leader_waits_for_requests_of_the_old_one() {
        let lease = SendingLease::of_budget("campaign 1".to_owned());
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.fence(), Err(NotLeading));
        lease.set(&held(2, false), "a/1", WAIT);
        let start = Instant::now();
        assert_eq!(lease.epoch(), Some(2));
        assert_eq!(lease.may_send_from(start), Some(start + WAIT));
        assert_eq!(lease.sender(), Some(SendingReplica::This { wait: WAIT }));
        advance(Duration::from_secs(20)).await;
        lease.set(&held(2, false), "a/1", WAIT);
        assert_eq!(lease.may_send_from(Instant::now()), Some(start + WAIT));
        // A lease that was given back needs no wait.
        lease.set(&held(4, true), "a/1", WAIT);
        let now = Instant::now();
        assert_eq!(lease.may_send_from(now), Some(now));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_near_the_end_of_a_lease() {
        let lease = SendingLease::of_budget("campaign 1".to_owned());
        lease.set(&held(1, true), "a/1", WAIT);
        advance(LEASE_DURATION - SEND_MARGIN).await;
        assert_eq!(lease.may_send_from(Instant::now()), None);
        assert_eq!(lease.epoch(), Some(1), "responses may still be stored");
        advance(SEND_MARGIN).await;
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.sender(), Some(SendingReplica::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_lease_names_the_leader() {
        let lease = SendingLease::of_budget("campaign 1".to_owned());
        lease.set(&held(1, true), "a/1", WAIT);
        let taken = LeaseOutcome::Taken {
            owner: "b/2".to_owned(),
            left: LEASE_DURATION,
        };
        lease.set(&taken, "a/1", WAIT);
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.obstacle(), "replica b sends");
        assert_eq!(lease.sender(), Some(SendingReplica::Other("b".to_owned())));
        assert_eq!(SendingLease::unlimited().sender(), None);
        let unlimited = SendingLease::unlimited();
        assert_eq!((unlimited.epoch(), unlimited.fence()), (Some(0), Ok(None)));
    }
}

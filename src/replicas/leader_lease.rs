//! Leases for what one replica at a time does: calling the Market, and reading sources.
//!
//! There is one for each budget, which is what the Market limits: a campaign, or a business with all
//! its shops; and one for the sources of each shop. The leader acts only while its lease lasts by its
//! own monotonic clock.
//!
//! A request to the Market cannot be taken back, so a new leader first waits as long as a request of
//! the old one may take, unless that one has given its lease back. The old one looks at its lease
//! again just before each request, so that none begins later, however long the permission took. What
//! a leader writes is stored under the epoch of its lease. So a leader that was stopped and wakes up
//! late cannot mark anything as sent, nor store a delivery of a source.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Tasks;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::store::{Fence, Lease, LeaseOutcome, LeaseTable, StoreError};

/// Time after which another replica may lead.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(30);

/// Time between two renewals, and between two attempts to take the lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// Time before the end of the lease from which the leader no longer acts, because this process's
/// monotonic clock may be slower than that of the database: by up to a tenth of [`LEASE_DURATION`].
///
/// An act that needs an answer of the database looks at the lease again after the answer. So the time
/// of the answer is not part of the margin.
const ACT_MARGIN: Duration = Duration::from_secs(3);

/// Time for which a leader that cannot do its work leaves the lease to others.
const PAUSE: Duration = Duration::from_secs(10);

/// One lease. Clones share its state.
#[derive(Clone, Debug)]
pub struct LeaderLease {
    shared: Option<Arc<SharedLease>>,
}

#[derive(Debug)]
struct SharedLease {
    name: String,
    /// False if this process never takes the lease, and only looks who has it.
    may_lead: bool,
    /// Longest time for which an act of another leader may go on after its lease has ended.
    takeover_wait: Duration,
    view: Mutex<LeaseView>,
    changed: Notify,
}

/// Last known state of a lease.
#[derive(Clone, Debug, Default)]
struct LeaseView {
    held: Option<HeldLease>,
    /// Name of the replica that has the lease, if it is another one.
    holder: Option<String>,
    paused_until: Option<Instant>,
}

#[derive(Clone, Debug)]
struct HeldLease {
    fence: Fence,
    valid_until: Instant,
    may_send_from: Instant,
}

impl LeaderLease {
    /// Returns the lease of the only process that uses a store. It never ends.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { shared: None }
    }

    /// Returns a lease that is not held yet. `takeover_wait` is the longest time for which an act of
    /// another leader may go on after its lease has ended.
    #[must_use]
    pub fn named(name: String, takeover_wait: Duration) -> Self {
        Self::shared(name, true, takeover_wait)
    }

    /// Returns a lease that this process never takes. It only shows who has it.
    #[must_use]
    pub fn observed(name: String) -> Self {
        Self::shared(name, false, Duration::ZERO)
    }

    fn shared(name: String, may_lead: bool, takeover_wait: Duration) -> Self {
        let shared = SharedLease {
            name,
            may_lead,
            takeover_wait,
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

    /// Returns true if both are the same lease of this process.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let shared = self.shared.as_ref().zip(other.shared.as_ref());
        shared.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Returns the time from which this process may send; `None` if it may not.
    #[must_use]
    pub fn may_send_from(&self, now: Instant) -> Option<Instant> {
        let Some(shared) = &self.shared else {
            return Some(now);
        };
        let view = shared.view.lock();
        let held = view.held.as_ref()?;
        (now + ACT_MARGIN < held.valid_until).then_some(held.may_send_from)
    }

    /// Returns the time at which a leader that may not send now looks again; `None` if it may send,
    /// or does not lead.
    #[must_use]
    pub fn send_check_at(&self, now: Instant) -> Option<Instant> {
        self.epoch()?;
        match self.may_send_from(now) {
            Some(from) => (from > now).then_some(from),
            // The lease is about to end, or to be renewed.
            None => Some(now + Duration::from_secs(1)),
        }
    }

    /// Returns true if this process leads in this epoch, and does so for the next moments.
    #[must_use]
    pub fn may_act_in(&self, epoch: i64) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let view = shared.view.lock();
        let held = view.held.as_ref();
        held.is_some_and(|held| {
            held.fence.epoch == epoch && Instant::now() + ACT_MARGIN < held.valid_until
        })
    }

    /// Returns the name of the replica that leads, if it is another one.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.shared.as_ref()?.view.lock().holder.clone()
    }

    /// Leaves the lease to other replicas for a while, because this process cannot do its work.
    pub fn pause(&self) {
        if let Some(shared) = &self.shared {
            let mut view = shared.view.lock();
            view.paused_until = Some(Instant::now() + PAUSE);
            view.held = None;
        }
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
            Some(SendingReplica::Unknown) => {
                let name = self.name();
                format!(
                    "no replica has the lease {name}, so none sends; if it stays so for two minutes, \
                     check the database"
                )
            }
            Some(SendingReplica::This { .. }) | None => "this replica begins to send".to_owned(),
        }
    }

    /// Returns the name of the lease; empty if it is unlimited.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.as_ref().map_or("", |shared| &shared.name)
    }

    /// Waits for a change of the state.
    pub async fn changed(&self) {
        match &self.shared {
            Some(shared) => shared.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    fn set_holder(&self, owner: Option<&str>) {
        if let Some(shared) = &self.shared {
            shared.view.lock().holder = owner.map(|owner| replica_name(owner).to_owned());
        }
    }

    /// Records the outcome of an attempt to take or renew the lease.
    pub(crate) fn set(&self, outcome: &LeaseOutcome, owner: &str) {
        let Some(shared) = &self.shared else {
            return;
        };
        let mut view = shared.view.lock();
        let before = view.held.as_ref().map(|held| held.fence.epoch);
        match outcome {
            LeaseOutcome::Held(lease) => {
                let held = held_lease(shared, owner, *lease, &view);
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
                info!("this replica has the lease {}, epoch {epoch}", shared.name);
            } else {
                info!("this replica no longer has the lease {}", shared.name);
            }
            shared.changed.notify_waiters();
        }
    }
}

impl SharedLease {
    /// Returns true if the next owner may act at once.
    ///
    /// Not while an act of an earlier owner may go on. That is also the case if this process does not
    /// know whether it has the lease.
    fn may_hand_over(&self, now: Instant) -> bool {
        let view = self.view.lock();
        let is_over = |held: &HeldLease| held.may_send_from <= now && now < held.valid_until;
        self.takeover_wait.is_zero() || view.held.as_ref().is_some_and(is_over)
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

fn held_lease(shared: &SharedLease, owner: &str, lease: Lease, view: &LeaseView) -> HeldLease {
    let known = view.held.as_ref();
    let known = known.filter(|held| held.fence.epoch == lease.epoch);
    let wait = if lease.is_handed_over {
        Duration::ZERO
    } else {
        shared.takeover_wait
    };
    HeldLease {
        fence: Fence {
            lease: shared.name.clone(),
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

/// Task that takes and renews leases.
pub struct LeaseKeeper {
    table: LeaseTable,
    owner: String,
    leases: Vec<LeaderLease>,
}

impl LeaseKeeper {
    /// Creates the keeper.
    #[must_use]
    pub fn new(table: LeaseTable, owner: String, leases: Vec<LeaderLease>) -> Self {
        Self {
            table,
            owner,
            leases,
        }
    }

    /// Takes and renews until the tasks are stopping, and then gives the leases back. `tasks` end
    /// after those that send or read sources.
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
            if let Some(shared) = &lease.shared {
                self.release(shared).await;
            }
        }
    }

    async fn release(&self, shared: &SharedLease) {
        if !shared.may_hand_over(Instant::now()) {
            // It ends by itself, and the next owner waits.
            return;
        }
        if let Err(error) = self.table.release(&shared.name, &self.owner).await {
            warn!("failed to give back the lease {}: {error}", shared.name);
        }
    }

    async fn renew(&self, lease: &LeaderLease) {
        let Some(shared) = &lease.shared else {
            return;
        };
        let paused_until = shared.view.lock().paused_until;
        let is_paused = paused_until.is_some_and(|until| Instant::now() < until);
        if is_paused || !shared.may_lead {
            if is_paused {
                self.release(shared).await;
            }
            let holder = self.table.holder(&shared.name).await;
            self.note(shared, &holder);
            if let Ok(owner) = holder {
                lease.set_holder(owner.as_deref());
            }
            return;
        }
        let acquiring = self
            .table
            .acquire(&shared.name, &self.owner, LEASE_DURATION);
        let outcome = acquiring.await;
        self.note(shared, &outcome);
        // Without a renewal the lease ends by itself.
        if let Ok(outcome) = outcome {
            lease.set(&outcome, &self.owner);
        }
    }

    fn note<T>(&self, shared: &SharedLease, outcome: &Result<T, StoreError>) {
        let action = format!("renew or read the lease {}", shared.name);
        self.table.failures().note(&action, outcome);
    }
}

/// Returns the outcome of an attempt that has taken or renewed a lease.
#[cfg(test)]
pub(super) fn held(epoch: i64, is_handed_over: bool) -> LeaseOutcome {
    LeaseOutcome::Held(Lease {
        epoch,
        valid_until: Instant::now() + LEASE_DURATION,
        is_handed_over,
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WAIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn new_leader_waits_for_requests_of_the_old_one() {
        let lease = LeaderLease::named("campaign 1".to_owned(), WAIT);
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.fence(), Err(NotLeading));
        lease.set(&held(2, false), "a/1");
        let start = Instant::now();
        assert_eq!(lease.epoch(), Some(2));
        assert_eq!(lease.may_send_from(start), Some(start + WAIT));
        assert_eq!(lease.send_check_at(start), Some(start + WAIT));
        assert_eq!(lease.sender(), Some(SendingReplica::This { wait: WAIT }));
        advance(Duration::from_secs(20)).await;
        lease.set(&held(2, false), "a/1");
        assert_eq!(lease.may_send_from(Instant::now()), Some(start + WAIT));
        // A lease that was given back needs no wait.
        lease.set(&held(4, true), "a/1");
        let now = Instant::now();
        assert_eq!(lease.may_send_from(now), Some(now));
        assert_eq!(lease.send_check_at(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_leader_does_not_hand_over() {
        let lease = LeaderLease::named("campaign 1".to_owned(), WAIT);
        let may_hand_over = || {
            let shared = lease.shared.as_ref().unwrap();
            shared.may_hand_over(Instant::now())
        };
        // Perhaps the response of the attempt to take it was lost.
        assert!(!may_hand_over());
        lease.set(&held(2, false), "a/1");
        // Requests of the one before may be on their way.
        for _ in 0..11 {
            assert!(!may_hand_over());
            advance(RENEW_INTERVAL).await;
            lease.set(&held(2, false), "a/1");
        }
        assert!(!may_hand_over());
        advance(RENEW_INTERVAL).await;
        lease.set(&held(2, false), "a/1");
        assert!(may_hand_over());
        // Another process may have taken it after its end.
        advance(LEASE_DURATION).await;
        assert!(!may_hand_over());
        // What the last leader of sources still writes is rejected, so the next one need not wait.
        let of_sources = LeaderLease::named("sources moscow".to_owned(), Duration::ZERO);
        assert!(of_sources.shared.unwrap().may_hand_over(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_near_the_end_of_a_lease() {
        let lease = LeaderLease::named("campaign 1".to_owned(), WAIT);
        lease.set(&held(1, true), "a/1");
        advance(LEASE_DURATION - ACT_MARGIN).await;
        assert_eq!(lease.may_send_from(Instant::now()), None);
        assert!(lease.send_check_at(Instant::now()).is_some());
        assert_eq!(lease.epoch(), Some(1), "responses may still be stored");
        advance(ACT_MARGIN).await;
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.sender(), Some(SendingReplica::Unknown));
        assert_eq!(
            lease.obstacle(),
            "no replica has the lease campaign 1, so none sends; if it stays so for two minutes, check \
             the database"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn lost_lease_names_the_leader() {
        let lease = LeaderLease::named("campaign 1".to_owned(), WAIT);
        lease.set(&held(1, true), "a/1");
        let taken = LeaseOutcome::Taken {
            owner: "b/2".to_owned(),
            left: LEASE_DURATION,
        };
        lease.set(&taken, "a/1");
        assert_eq!(lease.epoch(), None);
        assert_eq!(lease.obstacle(), "replica b sends");
        assert_eq!(lease.sender(), Some(SendingReplica::Other("b".to_owned())));
        assert_eq!(LeaderLease::unlimited().sender(), None);
        let unlimited = LeaderLease::unlimited();
        assert_eq!((unlimited.epoch(), unlimited.fence()), (Some(0), Ok(None)));
    }
}

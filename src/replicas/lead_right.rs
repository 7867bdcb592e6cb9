//! Right to act in one epoch of a lease.
//!
//! Who begins to lead reads what the last leader has left. That state is right for one epoch: another
//! process may have led before the next one. So an act goes by the right with which its state was read,
//! not by the lease as it is at the moment.

use tokio::time::Instant;

use super::LeaderLease;
use crate::store::Fence;

/// Right of this process to act in one epoch of a lease.
#[derive(Clone, Debug)]
pub struct LeadRight {
    lease: LeaderLease,
    epoch: i64,
    fence: Option<Fence>,
}

impl LeaderLease {
    /// Returns the right to act in the present epoch; `None` if this process does not lead.
    #[must_use]
    pub fn right(&self) -> Option<LeadRight> {
        let epoch = self.epoch()?;
        let fence = self.fence().ok()?;
        // Another process may have led between the two looks.
        let is_one_epoch = fence.as_ref().is_none_or(|fence| fence.epoch == epoch);
        is_one_epoch.then(|| LeadRight {
            lease: self.clone(),
            epoch,
            fence,
        })
    }
}

impl LeadRight {
    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns the fence for changes of this process; `None` if the lease is unlimited.
    #[must_use]
    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    /// Returns the name of the lease; empty if it is unlimited.
    #[must_use]
    pub fn lease_name(&self) -> &str {
        self.lease.name()
    }

    /// Returns true if this process still leads in this epoch, and does so for the next moments.
    #[must_use]
    pub fn may_act(&self) -> bool {
        self.lease.may_act_in(self.epoch)
    }

    /// Returns true if this process may act, and no request of an earlier leader is on its way.
    #[must_use]
    pub fn may_send(&self, now: Instant) -> bool {
        let from = self.lease.may_send_from(now);
        self.may_act() && from.is_some_and(|from| from <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::replicas::leader_lease::{LEASE_DURATION, held};
    use crate::store::LeaseOutcome;

    const TAKEOVER_WAIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn right_ends_with_its_epoch() {
        let lease = LeaderLease::named("campaign 1".to_owned(), TAKEOVER_WAIT);
        assert!(lease.right().is_none());
        lease.set(&held(1, true), "a/1");
        let right = lease.right().unwrap();
        assert_eq!((right.epoch(), right.lease_name()), (1, "campaign 1"));
        assert_eq!(right.fence().map(|fence| fence.epoch), Some(1));
        assert!(right.may_act() && right.may_send(Instant::now()));
        // Lost, and handed over again: the state of the first epoch is old.
        let taken = LeaseOutcome::Taken {
            owner: "b/2".to_owned(),
            left: LEASE_DURATION,
        };
        lease.set(&taken, "a/1");
        assert!(!right.may_act() && !right.may_send(Instant::now()));
        lease.set(&held(3, true), "a/1");
        assert!(!right.may_act() && !right.may_send(Instant::now()));
        assert_eq!(right.fence().map(|fence| fence.epoch), Some(1));
        let right = lease.right().unwrap();
        assert!(right.may_act() && right.may_send(Instant::now()));
        // Neither does it last longer than the lease.
        advance(LEASE_DURATION - Duration::from_secs(2)).await;
        assert!(!right.may_act() && !right.may_send(Instant::now()));
        // A new leader acts, but does not send yet.
        lease.set(&held(5, false), "a/1");
        let right = lease.right().unwrap();
        assert!(right.may_act() && !right.may_send(Instant::now()));
    }
}

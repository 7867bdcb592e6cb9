use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The window of every limit "a minute".
const MINUTE: Duration = Duration::from_secs(60);

/// So long after being told to wait a client may still be unaware of it.
const WAIT_GRACE: Duration = Duration::from_secs(1);

/// Whose limits they are, as the Market's messages name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum QuotaOwner {
    Campaign(u64),
    Business(u64),
}

impl fmt::Display for QuotaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Campaign(id) => write!(f, "campaignId {id}"),
            Self::Business(id) => write!(f, "businessId {id}"),
        }
    }
}

/// What a campaign or a business has used of its limits.
///
/// What is counted is for the caller to say: a campaign's updates are charged by the SKU, a
/// business's by the request.
#[derive(Debug)]
pub(super) struct QuotaTracker {
    pub(super) owner: QuotaOwner,
    max_parallel: usize,
    usage: Mutex<QuotaUsage>,
}

#[derive(Debug, Default)]
struct QuotaUsage {
    updates: MinuteWindow,
    read_backs: MinuteWindow,
    in_flight: usize,
    peak_in_flight: usize,
    requested_wait: Option<RequestedWait>,
}

#[derive(Clone, Copy, Debug)]
struct RequestedWait {
    requested_at: Instant,
    until: Instant,
}

/// What is left of a limit, and how long until some of what was used comes back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RemainingQuota {
    pub(super) remaining: usize,
    pub(super) refills_in: Duration,
}

impl QuotaTracker {
    pub(super) fn new(owner: QuotaOwner, max_parallel: usize) -> Self {
        Self {
            owner,
            max_parallel,
            usage: Mutex::default(),
        }
    }

    /// Lets a request in, if there are not too many.
    pub(super) fn acquire_slot(self: &Arc<Self>) -> Option<ParallelSlot> {
        let mut usage = self.lock();
        usage.peak_in_flight = usage.peak_in_flight.max(usage.in_flight + 1);
        if usage.in_flight >= self.max_parallel {
            return None;
        }
        usage.in_flight += 1;
        Some(ParallelSlot {
            quota: Arc::clone(self),
        })
    }

    /// Charges so much to the updates' minute, or says how long to wait.
    pub(super) fn charge_update(
        &self,
        at: Instant,
        amount: usize,
        limit: usize,
    ) -> Result<(), Duration> {
        self.lock().updates.charge(at, amount, limit)
    }

    /// Takes back a charge: the request turned out to cost nothing.
    pub(super) fn refund_update(&self, at: Instant, amount: usize) {
        self.lock().updates.refund(at, amount);
    }

    /// Charges so much to the read-backs' minute, or says how long to wait.
    pub(super) fn charge_read_back(
        &self,
        at: Instant,
        amount: usize,
        limit: usize,
    ) -> Result<(), Duration> {
        self.lock().read_backs.charge(at, amount, limit)
    }

    /// What is left of the updates' minute.
    pub(super) fn remaining_update_quota(&self, at: Instant, limit: usize) -> RemainingQuota {
        self.lock().updates.remaining_quota(at, limit)
    }

    /// Remembers that the client was told to wait.
    pub(super) fn request_wait(&self, requested_at: Instant, wait: Duration) {
        self.lock().requested_wait = Some(RequestedWait {
            requested_at,
            until: requested_at + wait,
        });
    }

    /// Whether a client that was told to wait comes before its time.
    pub(super) fn is_too_soon(&self, at: Instant) -> bool {
        self.lock()
            .requested_wait
            .is_some_and(|wait| at > wait.requested_at + WAIT_GRACE && at < wait.until)
    }

    /// The most that was charged to updates in any minute, and most requests at a time.
    pub(super) fn peaks(&self) -> (usize, usize) {
        let usage = self.lock();
        (usage.updates.peak, usage.peak_in_flight)
    }

    fn lock(&self) -> MutexGuard<'_, QuotaUsage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place among those in flight; given up when dropped.
#[derive(Debug)]
pub(super) struct ParallelSlot {
    quota: Arc<QuotaTracker>,
}

impl Drop for ParallelSlot {
    fn drop(&mut self) {
        self.quota.lock().in_flight -= 1;
    }
}

/// So many in any 60 seconds, by arrival.
#[derive(Debug, Default)]
struct MinuteWindow {
    arrivals: VecDeque<(Instant, usize)>,
    sum: usize,
    peak: usize,
}

impl MinuteWindow {
    fn charge(&mut self, at: Instant, amount: usize, limit: usize) -> Result<(), Duration> {
        self.drop_expired(at);
        self.peak = self.peak.max(self.sum + amount);
        if self.sum + amount > limit {
            return Err(self.time_until_available(at, amount, limit));
        }
        self.arrivals.push_back((at, amount));
        self.sum += amount;
        Ok(())
    }

    fn refund(&mut self, at: Instant, amount: usize) {
        if let Some(index) = self
            .arrivals
            .iter()
            .rposition(|arrival| *arrival == (at, amount))
        {
            self.arrivals.remove(index);
            self.sum -= amount;
        }
    }

    fn remaining_quota(&mut self, at: Instant, limit: usize) -> RemainingQuota {
        self.drop_expired(at);
        let oldest = self.arrivals.front().map_or(at, |(arrived, _)| *arrived);
        RemainingQuota {
            remaining: limit.saturating_sub(self.sum),
            refills_in: (oldest + MINUTE).saturating_duration_since(at),
        }
    }

    fn drop_expired(&mut self, at: Instant) {
        while let Some((arrived, charged)) = self.arrivals.front().copied()
            && arrived + MINUTE <= at
        {
            self.arrivals.pop_front();
            self.sum -= charged;
        }
    }

    fn time_until_available(&self, at: Instant, amount: usize, limit: usize) -> Duration {
        let mut sum = self.sum;
        for (arrived, charged) in &self.arrivals {
            sum -= charged;
            if sum + amount <= limit {
                return (*arrived + MINUTE).saturating_duration_since(at);
            }
        }
        MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn any_sixty_seconds_count_not_the_clock_s_minute() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut window = MinuteWindow::default();
        assert_eq!(window.charge(after(50), 60, 100), Ok(()));
        assert_eq!(window.charge(after(59), 40, 100), Ok(()));
        // A new minute by the clock, the same sixty seconds.
        assert_eq!(
            window.charge(after(61), 1, 100),
            Err(Duration::from_secs(49))
        );
        assert_eq!(
            window.charge(after(61), 61, 100),
            Err(Duration::from_secs(58))
        );
        assert_eq!(
            window.charge(after(109), 1, 100),
            Err(Duration::from_secs(1))
        );
        assert_eq!(window.charge(after(110), 60, 100), Ok(()));
        assert_eq!(
            window.charge(after(110), 1, 100),
            Err(Duration::from_secs(9))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refunded_can_be_spent_again() {
        let at = Instant::now();
        let mut window = MinuteWindow::default();
        assert_eq!(window.charge(at, 100, 100), Ok(()));
        window.refund(at, 100);
        assert_eq!(window.charge(at, 100, 100), Ok(()));
        assert!(window.charge(at, 1, 100).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lower_limit_counts_what_was_spent_under_the_higher() {
        let at = Instant::now();
        let mut window = MinuteWindow::default();
        assert_eq!(window.charge(at, 60, 100), Ok(()));
        let quota = RemainingQuota {
            remaining: 0,
            refills_in: MINUTE,
        };
        assert_eq!(window.remaining_quota(at, 50), quota);
        assert_eq!(window.charge(at, 1, 50), Err(MINUTE));
        assert_eq!(window.remaining_quota(at + MINUTE, 50).remaining, 50);
    }
}

//! Quotas of campaigns and businesses: sliding windows of 60 seconds and parallel requests.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Sliding window of every limit per minute.
const MINUTE: Duration = Duration::from_secs(60);

/// Time after a response with a wait during which early requests are tolerated: they were
/// probably sent before the response arrived.
const WAIT_GRACE: Duration = Duration::from_secs(1);

/// Owner of a quota. `Display` names it as the Market's messages do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum QuotaOwner {
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

/// Used quota of a campaign or a business.
///
/// The caller chooses the unit: a campaign's updates cost one per SKU, a business's updates one
/// per request.
#[derive(Debug)]
pub(crate) struct QuotaTracker {
    pub(crate) owner: QuotaOwner,
    max_parallel: usize,
    usage: Mutex<QuotaUsage>,
}

#[derive(Debug, Default)]
struct QuotaUsage {
    updates: MinuteWindow,
    readbacks: MinuteWindow,
    in_flight: usize,
    peak_in_flight: usize,
    /// Time during which requests are too early, both ends excluded.
    requested_wait: Option<(Instant, Instant)>,
}

/// Remaining quota, and the time until the oldest charge expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RemainingQuota {
    pub(crate) remaining: usize,
    pub(crate) refills_in: Duration,
}

impl QuotaTracker {
    pub(crate) fn new(owner: QuotaOwner, max_parallel: usize) -> Self {
        Self {
            owner,
            max_parallel,
            usage: Mutex::default(),
        }
    }

    /// Takes a slot for a request, or returns `None` at the parallel limit.
    pub(crate) fn acquire_slot(self: &Arc<Self>) -> Option<ParallelSlot> {
        let mut usage = self.usage.lock();
        usage.peak_in_flight = usage.peak_in_flight.max(usage.in_flight + 1);
        if usage.in_flight >= self.max_parallel {
            return None;
        }
        usage.in_flight += 1;
        Some(ParallelSlot {
            quota: Arc::clone(self),
        })
    }

    /// Charges `amount` to the updates' quota.
    ///
    /// # Errors
    /// Returns the time to wait if the charge would exceed `limit`.
    pub(crate) fn charge_update(
        &self,
        at: Instant,
        amount: usize,
        limit: usize,
    ) -> Result<(), Duration> {
        self.usage.lock().updates.charge(at, amount, limit)
    }

    /// Refunds a charge for a request that costs nothing.
    pub(crate) fn refund_update(&self, at: Instant, amount: usize) {
        self.usage.lock().updates.refund(at, amount);
    }

    /// Charges `amount` to the read-backs' quota.
    ///
    /// # Errors
    /// Returns the time to wait if the charge would exceed `limit`.
    pub(crate) fn charge_readback(
        &self,
        at: Instant,
        amount: usize,
        limit: usize,
    ) -> Result<(), Duration> {
        self.usage.lock().readbacks.charge(at, amount, limit)
    }

    /// Returns the remaining quota for updates.
    pub(crate) fn remaining_update_quota(&self, at: Instant, limit: usize) -> RemainingQuota {
        self.usage.lock().updates.remaining_quota(at, limit)
    }

    /// Records that a response asked the client to wait.
    pub(crate) fn request_wait(&self, requested_at: Instant, wait: Duration) {
        let wait = (requested_at + WAIT_GRACE, requested_at + wait);
        self.usage.lock().requested_wait = Some(wait);
    }

    /// Returns true if a request arrives before the requested wait is over.
    pub(crate) fn is_too_soon(&self, at: Instant) -> bool {
        let wait = self.usage.lock().requested_wait;
        wait.is_some_and(|(start, until)| at > start && at < until)
    }

    /// Returns the highest demand of updates within a minute and of parallel requests. Rejected
    /// requests count too.
    pub(crate) fn peaks(&self) -> (usize, usize) {
        let usage = self.usage.lock();
        (usage.updates.peak, usage.peak_in_flight)
    }
}

/// Slot of a request in flight. Dropping it releases the slot.
#[derive(Debug)]
pub(crate) struct ParallelSlot {
    quota: Arc<QuotaTracker>,
}

impl Drop for ParallelSlot {
    fn drop(&mut self) {
        self.quota.usage.lock().in_flight -= 1;
    }
}

/// Charges of the last 60 seconds, by arrival time.
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
        let mut arrivals = self.arrivals.iter();
        if let Some(index) = arrivals.rposition(|arrival| *arrival == (at, amount)) {
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
    async fn window_slides_with_arrival_times() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut window = MinuteWindow::default();
        assert_eq!(window.charge(after(50), 60, 100), Ok(()));
        assert_eq!(window.charge(after(59), 40, 100), Ok(()));
        // A new minute of the clock, but still within the same 60 seconds.
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
    async fn refunded_quota_can_be_charged_again() {
        let at = Instant::now();
        let mut window = MinuteWindow::default();
        assert_eq!(window.charge(at, 100, 100), Ok(()));
        window.refund(at, 100);
        assert_eq!(window.charge(at, 100, 100), Ok(()));
        assert!(window.charge(at, 1, 100).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn lower_limit_counts_earlier_charges() {
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

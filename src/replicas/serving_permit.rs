//! Permit to answer with the stock in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Time after a lapse in which the permit is not valid, although it was extended again.
///
/// In this time the requests that arrived while the process was stopped are refused, because an old update
/// among them would replace newer stock. And other replicas append again what the database has lost.
const SETTLING_TIME: Duration = Duration::from_secs(1);

/// Permit to answer the Market: memory has every update that any replica has acknowledged.
///
/// It is checked after the stock was read: then the answer was right at a moment between request
/// and response, however long the process is stopped before the check.
#[derive(Clone, Debug)]
pub struct ServingPermit {
    limited: Option<Arc<LimitedPermit>>,
}

#[derive(Debug)]
struct LimitedPermit {
    start: Instant,
    /// Beginning and end of the permit, in milliseconds since `start`.
    begin_ms: AtomicU64,
    valid_ms: AtomicU64,
    /// Number of times that it has lapsed.
    lapses: AtomicU64,
}

/// Permit that was valid when a request arrived.
#[derive(Clone, Debug)]
pub struct RequestPermit {
    permit: ServingPermit,
    lapses: u64,
}

impl RequestPermit {
    /// Returns a permit that has lapsed.
    #[cfg(test)]
    pub(crate) fn lapsed() -> Self {
        Self {
            permit: ServingPermit::ended(),
            lapses: 0,
        }
    }

    /// Returns true if the permit has been valid without a gap since the request arrived. Otherwise
    /// other replicas may have acknowledged newer updates, which the one of the request must not replace.
    ///
    /// Ask after the stock was read with which the update is compared.
    #[must_use]
    pub fn has_lasted(&self) -> bool {
        // In this order, so that a permit that begins again in between is seen as another one.
        self.permit.is_valid() && self.permit.lapses() == self.lapses
    }
}

impl ServingPermit {
    /// Returns the permit of the only process that uses a store. It never ends.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { limited: None }
    }

    /// Returns a permit that has ended, until it is extended.
    #[must_use]
    pub fn ended() -> Self {
        let limited = LimitedPermit {
            start: Instant::now(),
            begin_ms: AtomicU64::new(0),
            valid_ms: AtomicU64::new(0),
            lapses: AtomicU64::new(0),
        };
        Self {
            limited: Some(Arc::new(limited)),
        }
    }

    /// Returns true if the stock that was just read may be answered.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let Some(limited) = &self.limited else {
            return true;
        };
        let now = limited.millis_at(Instant::now());
        // The end first: it is extended after the beginning was set.
        now < limited.valid_ms.load(Ordering::Acquire)
            && now >= limited.begin_ms.load(Ordering::Acquire)
    }

    /// Returns the permit for a request that has just arrived; `None` if it is not valid.
    #[must_use]
    pub fn for_request(&self) -> Option<RequestPermit> {
        let lapses = self.lapses();
        self.is_valid().then(|| RequestPermit {
            permit: self.clone(),
            lapses,
        })
    }

    fn lapses(&self) -> u64 {
        let limited = self.limited.as_ref();
        limited.map_or(0, |limited| limited.lapses.load(Ordering::Acquire))
    }

    /// Extends the permit; an earlier end than the present one is ignored. One that has lapsed begins
    /// again after [`SETTLING_TIME`]. Only one task calls this.
    pub(super) fn extend(&self, until: Instant) {
        let Some(limited) = &self.limited else {
            return;
        };
        let now = Instant::now();
        let valid = limited.valid_ms.load(Ordering::Acquire);
        // 0 is a permit that has not begun.
        if valid > 0 && limited.millis_at(now) >= valid {
            limited.lapses.fetch_add(1, Ordering::Release);
            let begin = limited.millis_at(now + SETTLING_TIME);
            limited.begin_ms.store(begin, Ordering::Release);
        }
        let valid = limited.millis_at(until);
        limited.valid_ms.fetch_max(valid, Ordering::Release);
    }

    /// Ends the permit.
    pub(super) fn end(&self) {
        if let Some(limited) = &self.limited {
            limited.valid_ms.store(0, Ordering::Release);
        }
    }
}

impl LimitedPermit {
    fn millis_at(&self, at: Instant) -> u64 {
        let passed = at.saturating_duration_since(self.start).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permit_ends_unless_it_is_extended() {
        let permit = ServingPermit::ended();
        assert!(!permit.is_valid());
        permit.extend(Instant::now() + Duration::from_secs(5));
        permit.extend(Instant::now() + Duration::from_secs(3));
        advance(Duration::from_millis(4_900)).await;
        assert!(permit.is_valid());
        advance(Duration::from_millis(200)).await;
        assert!(!permit.is_valid());
        permit.extend(Instant::now() + Duration::from_secs(5));
        assert!(!permit.is_valid(), "it has lapsed");
        advance(SETTLING_TIME).await;
        assert!(permit.is_valid());
        permit.end();
        assert!(!permit.is_valid());
        assert!(ServingPermit::unlimited().is_valid());
    }

    #[tokio::test(start_paused = true)]
    async fn lapse_breaks_the_permit_of_a_request() {
        let (permit, second) = (ServingPermit::ended(), Duration::from_secs(1));
        assert!(permit.for_request().is_none());
        permit.extend(Instant::now() + 4 * second);
        let request = permit.for_request().unwrap();
        advance(3 * second).await;
        permit.extend(Instant::now() + 4 * second);
        advance(3 * second).await;
        assert!(request.has_lasted(), "it was extended in time");
        advance(second).await;
        assert!(!request.has_lasted());
        permit.extend(Instant::now() + 4 * second);
        assert!(permit.for_request().is_none());
        advance(SETTLING_TIME).await;
        assert!(!request.has_lasted() && permit.for_request().unwrap().has_lasted());
        assert!(
            ServingPermit::unlimited()
                .for_request()
                .unwrap()
                .has_lasted()
        );
    }
}

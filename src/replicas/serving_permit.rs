//! Permit to answer with the stock in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

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
    /// End of the permit, in milliseconds since `start`.
    valid_ms: AtomicU64,
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
            valid_ms: AtomicU64::new(0),
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
        let now = limited.start.elapsed().as_millis();
        now < u128::from(limited.valid_ms.load(Ordering::Acquire))
    }

    /// Extends the permit; an earlier end than the present one is ignored.
    pub(super) fn extend(&self, until: Instant) {
        if let Some(limited) = &self.limited {
            let valid = until.saturating_duration_since(limited.start).as_millis();
            let valid = u64::try_from(valid).unwrap_or(u64::MAX);
            limited.valid_ms.fetch_max(valid, Ordering::Release);
        }
    }

    /// Ends the permit.
    pub(super) fn end(&self) {
        if let Some(limited) = &self.limited {
            limited.valid_ms.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(permit.is_valid());
        permit.end();
        assert!(!permit.is_valid());
        assert!(ServingPermit::unlimited().is_valid());
    }
}

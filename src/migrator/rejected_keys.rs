//! Api-Keys that the Market has rejected, shared by all workers. Pure: time is an argument.
//!
//! Decides which worker probes a rejected key. The others wait for the outcome, so that a wrong key
//! causes one failing request per pause, not one per shop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strict_http::secret::Secret;
use tokio::time::Instant;

use super::backoff::exponential_backoff;

/// First pause before a rejected key is tried again; doubles up to [`MAX_PAUSE`]. A changed key
/// takes effect within ten minutes. Source: the Market's page on keys.
const FIRST_PAUSE: Duration = Duration::from_mins(1);

/// Longest pause before a rejected key is tried again.
const MAX_PAUSE: Duration = Duration::from_mins(10);

/// Time that other workers wait for the outcome of a probe: the timeout of the client.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval at which a worker checks whether the probe of another worker succeeded.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Set of rejected keys. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RejectedKeys {
    rejected: Arc<Mutex<HashMap<Secret, RejectedKey>>>,
}

/// Retry state of a rejected key.
#[derive(Clone, Copy, Debug)]
struct RejectedKey {
    // No worker uses the key before.
    until: Instant,
    pause_count: u32,
    // A request with it was sent since the last rejection.
    is_probed: bool,
}

impl RejectedKeys {
    /// Returns the time at which a worker may ask again for this key; `None` if it may use it now.
    #[must_use]
    pub fn blocked_until(&self, key: &Secret, now: Instant) -> Option<Instant> {
        let until = self.rejected.lock().get(key)?.until;
        (now < until).then(|| until.min(now + RECHECK_INTERVAL))
    }

    /// Records a request with this key. For a rejected key, it is the probe for all workers.
    pub fn on_request(&self, key: &Secret, now: Instant) {
        if let Some(rejected) = self.rejected.lock().get_mut(key) {
            rejected.until = rejected.until.max(now + PROBE_TIMEOUT);
            rejected.is_probed = true;
        }
    }

    /// Records that the Market has rejected this key.
    pub fn on_rejected(&self, key: &Secret, now: Instant) {
        let mut all_rejected = self.rejected.lock();
        let previous = all_rejected.get(key).copied();
        if previous.is_some_and(|rejected| !rejected.is_probed) {
            return; // Was in flight with the first request that was rejected.
        }
        let pause_count = previous.map_or(0, |rejected| rejected.pause_count);
        let rejected = RejectedKey {
            until: now + exponential_backoff(FIRST_PAUSE, pause_count, MAX_PAUSE),
            pause_count: pause_count + 1,
            is_probed: false,
        };
        all_rejected.insert(key.clone(), rejected);
    }

    /// Records that the Market accepts this key.
    pub fn on_accepted(&self, key: &Secret) {
        self.rejected.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_probes_while_the_others_wait() {
        let now = Instant::now();
        let (keys, key) = (RejectedKeys::default(), Secret::new("key"));
        let other = keys.clone();
        assert_eq!(keys.blocked_until(&key, now), None);
        keys.on_rejected(&key, now);
        other.on_rejected(&key, now);
        assert_eq!(other.blocked_until(&key, now), Some(now + RECHECK_INTERVAL));
        let probe = now + FIRST_PAUSE;
        assert_eq!(keys.blocked_until(&key, probe), None);
        keys.on_request(&key, probe);
        assert_eq!(
            other.blocked_until(&key, probe),
            Some(probe + RECHECK_INTERVAL)
        );
        keys.on_rejected(&key, probe);
        assert!(
            other.blocked_until(&key, probe + FIRST_PAUSE).is_some(),
            "the pause doubles"
        );
        assert_eq!(other.blocked_until(&key, probe + FIRST_PAUSE * 2), None);
        keys.on_accepted(&key);
        assert_eq!(other.blocked_until(&key, probe), None);
    }

    #[test]
    fn unanswered_probe_is_followed_by_another() {
        let now = Instant::now();
        let (keys, key) = (RejectedKeys::default(), Secret::new("key"));
        keys.on_rejected(&key, now);
        keys.on_request(&key, now + FIRST_PAUSE);
        assert_eq!(
            keys.blocked_until(&key, now + FIRST_PAUSE + PROBE_TIMEOUT),
            None
        );
    }
}

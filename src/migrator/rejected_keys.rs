//! What all lanes know of Api-Keys the Market has refused: one of them probes, the others wait.
//! Pure: the time is an argument.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::secret::Secret;

/// First pause before a refused key is tried again; doubles up to [`LAST_PAUSE`]. An edit of a key
/// acts within ten minutes. Source: the Market's page on keys.
const FIRST_PAUSE: Duration = Duration::from_mins(1);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_mins(10);

/// How long other lanes wait for the outcome of a probe; the client's own time-out.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// How soon a lane looks whether another one's probe succeeded.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The keys that are refused. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct RejectedKeys {
    rejected: Arc<Mutex<HashMap<Secret, RejectedKey>>>,
}

/// A key the Market does not know, or knows no longer.
#[derive(Clone, Copy, Debug)]
struct RejectedKey {
    // Nobody tries it before.
    until: Instant,
    pause_count: u32,
    // A request with it was sent since.
    is_probed: bool,
}

impl RejectedKeys {
    /// When a lane may look again whether it may use this key; `None` if it may use it now.
    #[must_use]
    pub fn blocked_until(&self, key: &Secret, now: Instant) -> Option<Instant> {
        let rejected = self.lock().get(key).copied();
        let until = rejected
            .map(|rejected| rejected.until)
            .filter(|until| now < *until)?;
        Some(until.min(now + RECHECK_INTERVAL))
    }

    /// A request goes out with this key. If the key is refused, this is the probe for all lanes.
    pub fn on_request(&self, key: &Secret, now: Instant) {
        if let Some(rejected) = self.lock().get_mut(key) {
            rejected.until = rejected.until.max(now + PROBE_TIMEOUT);
            rejected.is_probed = true;
        }
    }

    /// The Market has refused this key, for all that use it.
    pub fn on_rejected(&self, key: &Secret, now: Instant) {
        let mut all_rejected = self.lock();
        let previous = all_rejected.get(key).copied();
        if previous.is_some_and(|rejected| !rejected.is_probed) {
            return; // It was under way beside the one that was refused first.
        }
        let pause_count = previous.map_or(0, |rejected| rejected.pause_count);
        let pause = FIRST_PAUSE
            .saturating_mul(2u32.saturating_pow(pause_count.min(20)))
            .min(MAX_PAUSE);
        let rejected = RejectedKey {
            until: now + pause,
            pause_count: pause_count + 1,
            is_probed: false,
        };
        all_rejected.insert(key.clone(), rejected);
    }

    /// The Market knows this key.
    pub fn on_accepted(&self, key: &Secret) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Secret, RejectedKey>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_probes_a_refused_key_and_the_others_wait_for_the_outcome() {
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
    fn a_probe_that_is_never_answered_is_followed_by_another() {
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

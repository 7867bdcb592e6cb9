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
const LAST_PAUSE: Duration = Duration::from_mins(10);

/// How long other lanes wait for the outcome of a probe; the client's own time-out.
const PROBE: Duration = Duration::from_secs(60);

/// How soon a lane looks whether another one's probe succeeded.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The keys that are refused. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    refused: Arc<Mutex<HashMap<Secret, Refused>>>,
}

/// A key the Market does not know, or knows no longer.
#[derive(Clone, Copy, Debug)]
struct Refused {
    // Nobody tries it before.
    until: Instant,
    pauses: u32,
    // A request with it was sent since.
    is_probed: bool,
}

impl Keys {
    /// When a lane may look again whether it may use this key; `None` if it may use it now.
    #[must_use]
    pub fn wait(&self, key: &Secret, now: Instant) -> Option<Instant> {
        let refused = self.refused().get(key).copied();
        let until = refused
            .map(|refused| refused.until)
            .filter(|until| now < *until)?;
        Some(until.min(now + LOOK_AGAIN))
    }

    /// A request goes out with this key. If the key is refused, this is the probe for all lanes.
    pub fn begin(&self, key: &Secret, now: Instant) {
        if let Some(refused) = self.refused().get_mut(key) {
            refused.until = refused.until.max(now + PROBE);
            refused.is_probed = true;
        }
    }

    /// The Market has refused this key, for all that use it.
    pub fn refuse(&self, key: &Secret, now: Instant) {
        let mut keys = self.refused();
        let known = keys.get(key).copied();
        if known.is_some_and(|refused| !refused.is_probed) {
            return; // It was under way beside the one that was refused first.
        }
        let pauses = known.map_or(0, |refused| refused.pauses);
        let pause = FIRST_PAUSE
            .saturating_mul(2u32.saturating_pow(pauses.min(20)))
            .min(LAST_PAUSE);
        let refused = Refused {
            until: now + pause,
            pauses: pauses + 1,
            is_probed: false,
        };
        keys.insert(key.clone(), refused);
    }

    /// The Market knows this key.
    pub fn accept(&self, key: &Secret) {
        self.refused().remove(key);
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<Secret, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lane_probes_a_refused_key_and_the_others_wait_for_the_outcome() {
        let now = Instant::now();
        let (keys, key) = (Keys::default(), Secret::new("key"));
        let other = keys.clone();
        assert_eq!(keys.wait(&key, now), None);
        keys.refuse(&key, now);
        other.refuse(&key, now);
        assert_eq!(other.wait(&key, now), Some(now + LOOK_AGAIN));
        let probe = now + FIRST_PAUSE;
        assert_eq!(keys.wait(&key, probe), None);
        keys.begin(&key, probe);
        assert_eq!(other.wait(&key, probe), Some(probe + LOOK_AGAIN));
        keys.refuse(&key, probe);
        assert!(
            other.wait(&key, probe + FIRST_PAUSE).is_some(),
            "the pause doubles"
        );
        assert_eq!(other.wait(&key, probe + FIRST_PAUSE * 2), None);
        keys.accept(&key);
        assert_eq!(other.wait(&key, probe), None);
    }

    #[test]
    fn a_probe_that_is_never_answered_is_followed_by_another() {
        let now = Instant::now();
        let (keys, key) = (Keys::default(), Secret::new("key"));
        keys.refuse(&key, now);
        keys.begin(&key, now + FIRST_PAUSE);
        assert_eq!(keys.wait(&key, now + FIRST_PAUSE + PROBE), None);
    }
}

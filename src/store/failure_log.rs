//! Log of failures of the store: one line when they begin, one a minute while they last, one at the end.
//!
//! Several tasks use the store periodically, and each attempt of each of them fails while a database is
//! down. They share this log, so that the line that tells the cause is not lost among its repetitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::StoreError;

/// Time between two lines while failures last.
const REPEAT_INTERVAL: Duration = Duration::from_mins(1);

/// Time without a failure after which failures of actions that were not tried again have ended. Each
/// periodic action is tried within a minute.
const FORGET_AFTER: Duration = Duration::from_mins(2);

/// Log of the failed attempts of all tasks to use one store. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FailureLog(Arc<Mutex<FailureState>>);

/// Failures since the store last worked.
#[derive(Debug, Default)]
struct FailureState {
    /// Actions whose last attempt has failed.
    failing: BTreeSet<String>,
    times: Option<FailureTimes>,
    attempts: u64,
}

#[derive(Clone, Copy, Debug)]
struct FailureTimes {
    first_at: Instant,
    last_at: Instant,
    logged_at: Instant,
}

/// Line that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FailureLine {
    Began,
    Lasts { seconds: u64, attempts: u64 },
    Ended { seconds: u64, attempts: u64 },
}

impl FailureLog {
    /// Notes the outcome of an attempt, and logs what is due. `action` is what was tried, as in `renew or
    /// read the lease campaign 1`. The action of a shop names it, so that
    /// the success of another one does not end its failure.
    pub fn note<T>(&self, action: &str, outcome: &Result<T, StoreError>) {
        let now = Instant::now();
        let Err(error) = outcome else {
            let line = self.0.lock().note_success(action, now);
            if let Some(FailureLine::Ended { seconds, attempts }) = line {
                info!("the store works again, after {seconds} s and {attempts} failed attempts");
            }
            return;
        };
        let line = self.0.lock().note_failure(action, now);
        match line {
            Some(FailureLine::Lasts { seconds, attempts }) => warn!(
                error = %error,
                "failed to {action}: {error}; attempts to use the store have failed for {seconds} s \
                 ({attempts})"
            ),
            Some(_) => warn!(
                error = %error,
                "failed to {action}: {error}; further failures are logged once a minute"
            ),
            None => {}
        }
    }
}

impl FailureState {
    fn note_failure(&mut self, action: &str, now: Instant) -> Option<FailureLine> {
        self.forget_old(now);
        if !self.failing.contains(action) {
            self.failing.insert(action.to_owned());
        }
        self.attempts += 1;
        let Some(times) = &mut self.times else {
            self.times = Some(FailureTimes {
                first_at: now,
                last_at: now,
                logged_at: now,
            });
            return Some(FailureLine::Began);
        };
        times.last_at = now;
        if now.duration_since(times.logged_at) < REPEAT_INTERVAL {
            return None;
        }
        times.logged_at = now;
        Some(FailureLine::Lasts {
            seconds: now.duration_since(times.first_at).as_secs(),
            attempts: self.attempts,
        })
    }

    fn note_success(&mut self, action: &str, now: Instant) -> Option<FailureLine> {
        let times = self.times?;
        self.failing.remove(action);
        let (seconds, attempts) = (now.duration_since(times.first_at).as_secs(), self.attempts);
        self.forget_old(now);
        if !self.failing.is_empty() {
            return None;
        }
        *self = Self::default();
        Some(FailureLine::Ended { seconds, attempts })
    }

    fn forget_old(&mut self, now: Instant) {
        let last_at = self.times.map(|times| times.last_at);
        if last_at.is_some_and(|last_at| now.duration_since(last_at) >= FORGET_AFTER) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_all_actions_share_their_lines() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = FailureState::default();
        assert_eq!(state.note_success("read", start), None);
        assert_eq!(state.note_failure("read", at(0)), Some(FailureLine::Began));
        for second in 1..60 {
            assert_eq!(state.note_failure("renew", at(second)), None);
            assert_eq!(state.note_failure("read", at(second)), None);
        }
        let (seconds, attempts) = (60, 120);
        let lasts = FailureLine::Lasts { seconds, attempts };
        assert_eq!(state.note_failure("renew", at(60)), Some(lasts));
        assert_eq!(state.note_failure("read", at(61)), None);
        // One of them works again, as reads do without a standby.
        assert_eq!(state.note_success("read", at(62)), None);
        assert_eq!(state.note_failure("renew", at(63)), None);
        let (seconds, attempts) = (64, 122);
        let ended = FailureLine::Ended { seconds, attempts };
        assert_eq!(state.note_success("renew", at(64)), Some(ended));
        assert_eq!(state.note_success("renew", at(65)), None);
        assert_eq!(
            state.note_failure("renew", at(66)),
            Some(FailureLine::Began)
        );
    }

    #[test]
    fn action_that_is_not_repeated_is_forgotten() {
        let start = Instant::now();
        let mut state = FailureState::default();
        assert_eq!(
            state.note_failure("compact", start),
            Some(FailureLine::Began)
        );
        let later = start + FORGET_AFTER - Duration::from_secs(1);
        assert_eq!(state.note_success("read", later), None);
        let (seconds, attempts) = (120, 1);
        let ended = FailureLine::Ended { seconds, attempts };
        assert_eq!(
            state.note_success("read", start + FORGET_AFTER),
            Some(ended)
        );
        assert_eq!(
            state.note_failure("compact", start),
            Some(FailureLine::Began)
        );
        // Or a failure of another action begins.
        let next = state.note_failure("read", start + FORGET_AFTER);
        assert_eq!(next, Some(FailureLine::Began));
    }
}

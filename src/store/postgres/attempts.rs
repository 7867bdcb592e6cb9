//! Attempts of one append, which locks of other processes may refuse.

use std::time::Duration;

use tokio::time::Instant;

use super::PostgresStore;
use super::append::Attempt;
use super::commit_watch::ProbeNeed;
use super::connection::is_conflict;
use super::database_problem::DatabaseProblem;
use crate::store::StoreError;

/// Maximum attempts of an append that collides with those of other processes.
const MAX_ATTEMPTS: usize = 20;

/// Longest time in which another process may keep a shop locked. It is longer than the server allows a
/// stopped process, so that an append outlasts it.
const LOCKED_LIMIT: Duration = Duration::from_secs(10);

/// Number of attempts refused by a lock after which a probe shows if the server confirms commits.
const CONFLICTS_BEFORE_PROBE: usize = 2;

/// Attempts of one append.
///
/// The lock of the store is not kept from one to the next: this process follows the others with the same
/// connection, and may only answer the Market while it does.
pub(super) struct Attempts {
    started: Instant,
    left: usize,
    conflicts: usize,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            left: MAX_ATTEMPTS,
            conflicts: 0,
        }
    }

    /// Counts an attempt that a lock of another process has refused.
    pub(super) fn note<T>(&mut self, outcome: &Attempt<T>) {
        let is_refused = outcome.as_ref().is_err_and(is_conflict);
        self.conflicts += usize::from(is_refused);
    }

    /// Returns true once, after several conflicts.
    pub(super) fn wants_probe(&mut self) -> bool {
        let wants_probe = self.conflicts == CONFLICTS_BEFORE_PROBE;
        // So that later conflicts do not probe again.
        self.conflicts += usize::from(wants_probe);
        wants_probe
    }

    /// Returns true if one more may begin.
    pub(super) fn begin(&mut self) -> bool {
        let may_begin = self.left > 0 && self.started.elapsed() < LOCKED_LIMIT;
        self.left = self.left.saturating_sub(1);
        may_begin
    }
}

impl PostgresStore {
    /// Returns true if one more attempt to append may begin. Probes if locks of other processes have
    /// refused several of them: a process that has given up a commit leaves its rows locked.
    pub(super) async fn begin_attempt(&self, attempts: &mut Attempts) -> Result<bool, StoreError> {
        if attempts.wants_probe()
            && let Err(error) = self.probe_commits(ProbeNeed::Always).await
            && self.commits.is_stalled()
        {
            self.publish(&*self.state.lock().await, Some(&error));
            return Err(error);
        }
        Ok(attempts.begin())
    }

    /// Returns the error after too many attempts.
    pub(super) async fn give_up(&self) -> StoreError {
        let error = StoreError::DatabaseUnusable {
            target: self.url.to_string(),
            what: format!(
                "other processes wrote in between {MAX_ATTEMPTS} times, or had locked the shop for \
                 {} s; if one of them was stopped, continue or kill it, and if the server waits for a \
                 standby (synchronous_standby_names), start the standby or remove it from there",
                LOCKED_LIMIT.as_secs()
            ),
            problem: DatabaseProblem::Described,
        };
        self.publish(&*self.state.lock().await, Some(&error));
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn several_conflicts_are_probed_once() {
        let mut attempts = Attempts::new();
        let mut probed = Vec::new();
        for _ in 0..4 {
            probed.push(attempts.wants_probe());
            attempts.conflicts += 1;
        }
        assert_eq!(probed, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_by_number_or_time() {
        let mut attempts = Attempts::new();
        assert!((0..MAX_ATTEMPTS).all(|_| attempts.begin()) && !attempts.begin());
        let mut attempts = Attempts::new();
        tokio::time::advance(LOCKED_LIMIT).await;
        assert!(!attempts.begin());
    }
}

//! Failed delivery of a message, and the pause before the next attempt.

use std::time::Duration;

use strict_http::secret::Secret;

/// Pause after the first failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// Longest pause between two attempts, without a longer wait that the server asks for.
const MAX_PAUSE: Duration = Duration::from_mins(15);

/// Longest wait of a server that is obeyed.
const MAX_SERVER_WAIT: Duration = Duration::from_hours(1);

/// Consecutive failures after which the channel counts as failed. One or two may be chance.
const FAILURES_UNTIL_ALARM: u32 = 3;

/// Characters of a server's response in an error.
const MAX_RESPONSE_CHARS: usize = 200;

/// Reason why a message was not delivered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SendFailure {
    /// Cause and remedy. It contains neither a secret nor an address with one.
    pub(crate) text: String,
    /// Wait that the server asks for.
    pub(crate) wait: Option<Duration>,
    /// True if another attempt needs a change of the settings first.
    pub(crate) is_permanent: bool,
}

impl SendFailure {
    /// Failure that may be over at the next attempt.
    pub(super) fn temporary(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            wait: None,
            is_permanent: false,
        }
    }

    /// Failure that needs a change of the settings.
    pub(super) fn permanent(text: impl Into<String>) -> Self {
        Self {
            is_permanent: true,
            ..Self::temporary(text)
        }
    }

    /// Replaces a secret that a server has returned in its response.
    pub(super) fn without(mut self, secret: &Secret) -> Self {
        self.text = self.text.replace(secret.expose(), "***");
        self
    }
}

/// Start of a server's response, for an error.
pub(super) fn response_excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.trim().chars().take(MAX_RESPONSE_CHARS).collect()
}

/// Consecutive failures of a channel.
#[derive(Debug, Default)]
pub(super) struct FailureStreak(u32);

impl FailureStreak {
    /// Counts a failure. Returns the pause before the next attempt. `jitter` is between 0 and 1.
    pub(super) fn on_failure(&mut self, failure: &SendFailure, jitter: f64) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.0.min(20)));
        self.0 = self.0.saturating_add(1);
        // Between half and all of the pause, so that several services do not retry together.
        let pause = doubled.min(MAX_PAUSE).mul_f64(0.5 + jitter / 2.0);
        let wait = failure.wait.unwrap_or_default().min(MAX_SERVER_WAIT);
        pause.max(wait)
    }

    /// Returns true if the channel counts as failed after this failure.
    pub(super) fn is_alarm(&self, failure: &SendFailure) -> bool {
        failure.is_permanent || self.0 >= FAILURES_UNTIL_ALARM
    }

    /// Ends the streak.
    pub(super) fn on_success(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter() {
        let failure = SendFailure::temporary("timeout");
        for (jitter, expected) in [
            (1.0, [5.0, 10.0, 20.0, 40.0, 80.0]),
            (0.0, [2.5, 5.0, 10.0, 20.0, 40.0]),
        ] {
            let mut streak = FailureStreak::default();
            let pauses = expected.map(|_| streak.on_failure(&failure, jitter).as_secs_f64());
            assert_eq!(pauses, expected);
            for _ in 0..40 {
                assert!(streak.on_failure(&failure, 1.0) <= MAX_PAUSE);
            }
            streak.on_success();
            assert_eq!(streak.on_failure(&failure, 1.0), FIRST_PAUSE);
        }
    }

    #[test]
    fn waits_of_the_server_are_obeyed() {
        for (wait, expected) in [(1, 5), (300, 300), (1_000_000, 3_600)] {
            let failure = SendFailure {
                wait: Some(Duration::from_secs(wait)),
                ..SendFailure::temporary("slow down")
            };
            let pause = FailureStreak::default().on_failure(&failure, 1.0);
            assert_eq!(pause, Duration::from_secs(expected));
        }
    }

    #[test]
    fn alarms_after_three_or_one_permanent_failure() {
        let temporary = SendFailure::temporary("timeout");
        let mut streak = FailureStreak::default();
        for expected in [false, false, true, true] {
            streak.on_failure(&temporary, 0.5);
            assert_eq!(streak.is_alarm(&temporary), expected);
        }
        let mut streak = FailureStreak::default();
        let permanent = SendFailure::permanent("wrong token");
        streak.on_failure(&permanent, 0.5);
        assert!(streak.is_alarm(&permanent));
    }
}

//! Number of SKUs in a request: the Market's limit, lower after a request that was too large, and
//! lower for queued SKUs while such requests are rejected without naming a SKU.

use std::time::Duration;

use tokio::time::Instant;

/// Time for which requests stay small after one was too large.
const REDUCED_SIZE_PERIOD: Duration = Duration::from_hours(24);

/// Lower bound of [`BatchSize::max_queued`], which shrinks with each rejection.
const MIN_QUEUED_SKUS: usize = 50;

/// Limits for the number of SKUs in a request.
#[derive(Debug)]
pub(super) struct BatchSize {
    /// Limit of the Market.
    limit: usize,
    /// Lower limit, until that time.
    reduced: Option<(usize, Instant)>,
    max_queued: usize,
}

impl BatchSize {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            reduced: None,
            max_queued: limit,
        }
    }

    /// Returns the largest number of SKUs in a request.
    pub(super) fn max(&self, now: Instant) -> usize {
        let reduced = self.reduced.filter(|(_, until)| *until > now);
        reduced.map_or(self.limit, |(skus, _)| skus)
    }

    /// Returns the largest number of SKUs from the queue in a request, as far as rejections decide.
    pub(super) fn max_queued(&self) -> usize {
        self.max_queued
    }

    /// Records that a request was too large for the Market.
    pub(super) fn on_too_large(&mut self, skus: usize, ended_at: Instant) {
        self.reduced = Some(((skus / 2).max(1), ended_at + REDUCED_SIZE_PERIOD));
    }

    /// Records that queued SKUs were rejected, and none was named.
    pub(super) fn on_queue_rejected(&mut self, skus: usize) {
        self.max_queued = (skus / 4).max(MIN_QUEUED_SKUS);
    }

    /// Records that queued SKUs were accepted.
    pub(super) fn on_queue_accepted(&mut self, skus: usize) {
        if skus * 2 >= self.max_queued {
            self.max_queued = (self.max_queued * 2).min(self.limit);
        }
    }

    /// Records that all requests are rejected, so their size is not the cause.
    pub(super) fn on_systemic_rejection(&mut self) {
        self.max_queued = self.limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Rejected(usize),
        Accepted(usize),
        Systemic,
    }

    #[test]
    fn queued_requests_shrink_with_rejections_and_grow_with_acceptance() {
        use Event::{Accepted, Rejected, Systemic};
        for (events, expected) in [
            (vec![], 2_000),
            (vec![Rejected(2_000)], 500),
            (vec![Rejected(2_000), Rejected(500)], 125),
            (vec![Rejected(80)], MIN_QUEUED_SKUS),
            (vec![Rejected(2_000), Accepted(500)], 1_000),
            (vec![Rejected(2_000), Accepted(250)], 1_000),
            // Too few SKUs to show that larger requests are accepted.
            (vec![Rejected(2_000), Accepted(249)], 500),
            (vec![Accepted(2_000)], 2_000),
            (vec![Rejected(2_000), Systemic], 2_000),
        ] {
            let mut size = BatchSize::new(2_000);
            for event in &events {
                match event {
                    Rejected(skus) => size.on_queue_rejected(*skus),
                    Accepted(skus) => size.on_queue_accepted(*skus),
                    Systemic => size.on_systemic_rejection(),
                }
            }
            assert_eq!(size.max_queued(), expected);
        }
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_halves_the_limit_for_a_day() {
        let now = Instant::now();
        let mut size = BatchSize::new(2_000);
        for (skus, expected) in [(2_000, 1_000), (1_000, 500), (1, 1)] {
            size.on_too_large(skus, now);
            let before_end = now + REDUCED_SIZE_PERIOD - Duration::from_secs(1);
            assert_eq!(size.max(before_end), expected);
        }
        assert_eq!(size.max(now + REDUCED_SIZE_PERIOD), 2_000);
    }
}

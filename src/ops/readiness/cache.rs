//! Last readiness report for the pages.
//!
//! The report visits every SKU. So the pages share one, which is computed again at most once a
//! minute, and only while a page is looked at.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::run_blocking;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::ReadinessReport;
use crate::ops::Ops;

/// Age at which a report is computed again.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Age at which a report is computed again if a person asks for it.
const MIN_AGE: Duration = Duration::from_secs(5);

/// Age from which only the check list shows a report, because it states the age.
const OUTDATED_AGE: Duration = Duration::from_secs(150);

/// Longest time that a page waits for the first report.
const MAX_PAGE_WAIT: Duration = Duration::from_millis(20);

/// Report with the time at which it was computed.
#[derive(Clone, Debug)]
pub struct CachedReadiness {
    /// Report.
    pub report: Arc<ReadinessReport>,
    computed_at: Instant,
}

/// Last report, and the computation that runs.
#[derive(Debug, Default)]
pub(in crate::ops) struct ReadinessCache {
    latest: watch::Sender<Option<CachedReadiness>>,
    /// Held while a report is computed.
    computing: tokio::sync::Mutex<()>,
}

impl ReadinessCache {
    fn latest(&self) -> Option<CachedReadiness> {
        self.latest.borrow().clone()
    }
}

impl CachedReadiness {
    fn age(&self) -> Duration {
        self.computed_at.elapsed()
    }

    fn is_recent(&self) -> bool {
        self.age() < OUTDATED_AGE
    }
}

/// Returns true if a report of this age must be computed again.
fn is_due(age: Option<Duration>, is_requested: bool) -> bool {
    let max_age = if is_requested { MIN_AGE } else { MAX_AGE };
    age.is_none_or(|age| age >= max_age)
}

impl Ops {
    /// Returns the last report if it is recent, and computes it in the background if it is due.
    #[must_use]
    pub fn recent_readiness(&self) -> Option<CachedReadiness> {
        let latest = self.readiness.latest();
        // Several pages look each second, and one computation is enough for all.
        let is_idle = self.readiness.computing.try_lock().is_ok();
        if is_idle && is_due(latest.as_ref().map(CachedReadiness::age), false) {
            let ops = self.clone();
            self.public_tasks.spawn_short_lived(async move {
                tokio::select! {
                    () = ops.stopping() => {}
                    _report = ops.readiness(false) => {}
                }
            });
        }
        latest.filter(CachedReadiness::is_recent)
    }

    /// Waits for the first report, up to 20 ms, so that a page need not change as soon as it is shown.
    pub async fn wait_for_readiness(&self) {
        let mut latest = self.readiness.latest.subscribe();
        if self.recent_readiness().is_none() {
            let is_recent = |latest: &Option<CachedReadiness>| {
                latest.as_ref().is_some_and(CachedReadiness::is_recent)
            };
            // A larger shop takes longer; its page then says that the report is being made.
            let _recent = timeout(MAX_PAGE_WAIT, latest.wait_for(is_recent)).await;
        }
    }

    /// Returns a report that is at most a minute old, or, if a person asks for it, a few seconds.
    /// `None` while the service is starting.
    pub async fn readiness(&self, is_requested: bool) -> Option<CachedReadiness> {
        // Only one computation runs; the others wait for its result.
        let _computing = self.readiness.computing.lock().await;
        let latest = self.readiness.latest();
        if !is_due(latest.as_ref().map(CachedReadiness::age), is_requested) {
            return latest;
        }
        let ops = self.clone();
        let report = run_blocking(move || ops.state().map(super::OpsState::readiness)).await?;
        let computed = CachedReadiness {
            report: Arc::new(report),
            computed_at: Instant::now(),
        };
        self.readiness.latest.send_replace(Some(computed.clone()));
        Some(computed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_due_once_a_minute_or_on_request() {
        for (age, on_look, on_request) in [
            (None, true, true),
            (Some(0), false, false),
            (Some(4), false, false),
            (Some(5), false, true),
            (Some(59), false, true),
            (Some(60), true, true),
        ] {
            let age = age.map(Duration::from_secs);
            assert_eq!(
                (is_due(age, false), is_due(age, true)),
                (on_look, on_request),
                "{age:?}"
            );
        }
    }
}

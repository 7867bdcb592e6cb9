//! Planner status: next wake-up, report, alarms.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stock::Sku;
use tokio::time::Instant;
use tracing::warn;

use super::{Now, Planner, PlannerDeps, UpdateBatch};
use crate::migrator::backoff::SendState;
use crate::migrator::classify_response::ResponseVerdict;
use crate::migrator::readback::{MatchClass, ReadbackProgress, ReadbackReport};
use crate::migrator::status::{QuarantinedSku, WorkerState, WorkerStatus};
use crate::migrator::{Mode, OPERATOR_PAUSE_REASON};
use crate::telemetry::AlarmKind;

/// Time without an acknowledgement, while SKUs wait, after which an alarm is raised.
const MAX_SILENCE: TimeDelta = TimeDelta::minutes(15);

/// Delay before the next check when other workers have used up a shared rate limit.
const SHARED_LIMIT_RECHECK: Duration = Duration::from_millis(250);

impl Planner {
    /// Returns the SKUs in quarantine.
    #[must_use]
    pub fn quarantined_skus(&self) -> Vec<Sku> {
        self.quarantine.skus().cloned().collect()
    }

    /// Raises or clears alarms after a read-back.
    pub fn update_readback_alarms(&self, report: &ReadbackReport) {
        let PlannerDeps { alarms, .. } = &self.deps;
        let name = &self.target.name;
        if report.state == ReadbackProgress::Failed {
            let reason = report.trouble.as_deref().unwrap_or("the reason is unknown");
            let text = format!("cannot read the Market's stock of {name} back: {reason}");
            return alarms.raise(AlarmKind::ReadbackFailed, name, text);
        }
        if report.state != ReadbackProgress::Done {
            return;
        }
        alarms.clear(AlarmKind::ReadbackFailed, name);
        let drifted = report.count(MatchClass::Drifted);
        let unknown = report.count(MatchClass::Unknown);
        if self.target.mode != Mode::On || drifted == 0 {
            return alarms.clear(AlarmKind::Drift, name);
        }
        let text = format!(
            "the Market shows another count than {name} has sent for {drifted} SKUs, and no order \
             or delay explains it ({} SKUs are sent again; the Market does not know {unknown} \
             more): run `stockbridge verify` to list them",
            report.resent
        );
        alarms.raise(AlarmKind::Drift, name, text);
    }

    /// Returns the time of the next wake-up if nothing happens before.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Instant {
        let now = now.monotonic;
        let mut tick = now + Duration::from_mins(1);
        if self.target.mode == Mode::On {
            tick = tick.min(self.next_rescan_at.max(now));
        }
        let (_, wanted) = self.next_source();
        if wanted == 0 || self.paused_since.is_some() {
            return tick;
        }
        match (
            self.policy.paused_until(),
            self.deps.limiter.next_available_at(wanted, now),
        ) {
            (Some(paused_until), Some(available_at)) => paused_until.max(available_at).min(tick),
            (Some(paused_until), None) => paused_until.min(tick),
            // Capacity is free but no batch was sent: a request in flight must end first, which
            // wakes the worker.
            (None, Some(available_at)) if available_at > now => available_at.min(tick),
            // Another worker uses up the limit, and the end of its request wakes only itself.
            (None, None) if self.in_flight.batches() == 0 => tick.min(now + SHARED_LIMIT_RECHECK),
            (None, Some(_) | None) => tick,
        }
    }

    /// Updates and returns the status and the limit in the metrics, and raises or clears the alarm
    /// for missing acknowledgements.
    pub fn update_status(&mut self, now: Now) -> &WorkerStatus {
        let waiting = self.queue.len() + self.rejection_search.waiting_skus();
        // During the operator's pause, missing acknowledgements are intended.
        let overdue = if self.paused_since.is_some() {
            0
        } else {
            waiting + self.in_flight.skus()
        };
        self.check_progress(overdue, now.wall);
        let limit = self.deps.limiter.status();
        self.deps.metrics.record_limit(&self.target.name, limit);
        let (state, reason) = self.policy.state();
        self.status.state = match (state, waiting, self.in_flight.batches()) {
            _ if self.target.mode == Mode::DryRun => WorkerState::DryRun,
            _ if self.paused_since.is_some() => WorkerState::Paused,
            (SendState::Paused, _, _) => WorkerState::Paused,
            (SendState::Waiting, _, _) => WorkerState::Waiting,
            (SendState::Open, 0, 0) => WorkerState::Idle,
            (SendState::Open, _, _) => WorkerState::Sending,
        };
        self.status.paused_since = self.paused_since;
        self.status.reason = match self.paused_since {
            Some(_) => Some(OPERATOR_PAUSE_REASON.to_owned()),
            None => (!reason.is_empty()).then(|| reason.to_owned()),
        };
        let paused_until = self
            .policy
            .paused_until()
            .filter(|until| *until > now.monotonic && self.paused_since.is_none());
        self.status.next_try = paused_until.map(|until| now.wall + (until - now.monotonic));
        if !std::mem::replace(&mut self.is_quarantine_published, true) {
            self.status.quarantined = self
                .quarantine
                .list()
                .iter()
                .map(QuarantinedSku::from)
                .collect();
        }
        self.status.in_flight_requests = self.in_flight.batches();
        self.status.in_flight_skus = self.in_flight.skus();
        self.status.waiting_skus = waiting;
        self.status.rate_limit = limit;
        &self.status
    }

    fn check_progress(&mut self, waiting: usize, now: DateTime<Utc>) {
        if waiting == 0 {
            self.waiting_since = None;
            self.deps
                .alarms
                .clear(AlarmKind::NothingAcknowledged, &self.target.name);
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let since = self
            .status
            .last_acknowledged
            .map_or(since, |at| at.max(since));
        if now - since >= MAX_SILENCE {
            let text = format!(
                "{waiting} SKUs of {} wait, and the Market has acknowledged none since {since}",
                self.target.name
            );
            self.deps
                .alarms
                .raise(AlarmKind::NothingAcknowledged, &self.target.name, text);
        }
    }

    pub(super) fn update_quarantine_alarm(&mut self) {
        self.is_quarantine_published = false;
        let name = &self.target.name;
        let Some(oldest) = self.quarantine.oldest() else {
            self.deps.alarms.clear(AlarmKind::Quarantine, name);
            return;
        };
        let text = format!(
            "the Market rejects {} SKUs of {name}, which are in quarantine; the oldest is '{}': {}",
            self.quarantine.len(),
            oldest.sku,
            oldest.reason
        );
        self.deps.alarms.raise(AlarmKind::Quarantine, name, text);
    }

    pub(super) fn raise_paused_alarm(&self, reason: &str) {
        let text = format!(
            "nothing is sent to {} of {} until this is fixed: {reason}",
            self.target.address, self.target.name
        );
        self.deps
            .alarms
            .raise(AlarmKind::CampaignPaused, &self.target.name, text);
    }

    pub(super) fn log_failure(
        &self,
        batch: &UpdateBatch,
        verdict: &ResponseVerdict,
        trace: Option<&str>,
    ) {
        warn!(
            shop = self.target.name,
            address = %self.target.address,
            batch.skus = batch.items.len(),
            trace,
            "the Market did not accept a batch: {verdict}"
        );
    }
}

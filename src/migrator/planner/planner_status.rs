//! Planner status: next wake-up, report, alarms.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stock::SkuId;
use tokio::time::Instant;

use super::{Now, Planner};
use crate::migrator::backoff::SendState;
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
    pub fn quarantined_skus(&self) -> HashSet<SkuId> {
        self.isolation.quarantine.ids().collect()
    }

    /// Raises or clears alarms after a read-back.
    pub fn update_readback_alarms(&self, report: &ReadbackReport) {
        let name = &self.target.name;
        match report.state {
            ReadbackProgress::Never | ReadbackProgress::Running => return,
            ReadbackProgress::Failed => {
                let reason = report.trouble.as_deref().unwrap_or("the reason is unknown");
                let text = format!("cannot read the Market's stock of {name} back: {reason}");
                return self.raise_alarm(AlarmKind::ReadbackFailed, text);
            }
            ReadbackProgress::Done => self.clear_alarm(AlarmKind::ReadbackFailed),
        }
        let drifted = report.count(MatchClass::Drifted);
        if self.target.mode != Mode::On || drifted == 0 {
            return self.clear_alarm(AlarmKind::Drift);
        }
        let text = format!(
            "the Market shows another count than {name} has sent for {drifted} SKUs, and no order \
             or delay explains it ({} SKUs are sent again; the Market does not know {} more): run \
             `stockbridge verify` to list them",
            report.resent,
            report.count(MatchClass::Unknown)
        );
        self.raise_alarm(AlarmKind::Drift, text);
    }

    /// Returns the time of the next wake-up if nothing happens before.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Instant {
        let (_, wanted) = self.next_source(now);
        let now = now.monotonic;
        let mut tick = now + Duration::from_mins(1);
        if self.target.mode == Mode::On {
            tick = tick.min(self.next_rescan_at.max(now));
        }
        if wanted == 0 || self.status.paused_since.is_some() {
            return tick;
        }
        let available_at = self.deps.limiter.lock().next_available_at(wanted, now);
        match (self.policy.paused_until(), available_at) {
            (Some(paused_until), Some(available_at)) => paused_until.max(available_at).min(tick),
            (Some(paused_until), None) => paused_until.min(tick),
            // Capacity is free but no batch was sent: a request in flight must end first, which
            // wakes the worker.
            (None, Some(available_at)) if available_at > now => available_at.min(tick),
            // Another worker uses up the limit, and the end of its request wakes only itself.
            (None, None) if self.in_flight.batches == 0 => tick.min(now + SHARED_LIMIT_RECHECK),
            (None, Some(_) | None) => tick,
        }
    }

    /// Updates and returns the status and the limit in the metrics, and raises or clears the alarm
    /// for missing acknowledgements.
    pub fn update_status(&mut self, now: Now) -> &WorkerStatus {
        self.status.in_flight_requests = self.in_flight.batches;
        self.status.in_flight_skus = self.in_flight.skus;
        self.status.waiting_skus = self.queue.len() + self.isolation.waiting_skus();
        self.check_progress(now.wall);
        let limit = self.deps.limiter.lock().status();
        self.deps.metrics.record_limit(&self.target.name, limit);
        self.status.rate_limit = limit;
        let is_paused = self.status.paused_since.is_some();
        let (state, reason) = self.policy.state();
        let is_idle = self.status.waiting_skus == 0 && self.status.in_flight_requests == 0;
        self.status.state = match state {
            _ if self.target.mode == Mode::DryRun => WorkerState::DryRun,
            _ if is_paused => WorkerState::Paused,
            SendState::Paused => WorkerState::Paused,
            SendState::Waiting => WorkerState::Waiting,
            SendState::Open if is_idle => WorkerState::Idle,
            SendState::Open => WorkerState::Sending,
        };
        let reason = if is_paused {
            OPERATOR_PAUSE_REASON
        } else {
            reason
        };
        self.status.reason = Some(reason.to_owned()).filter(|reason| !reason.is_empty());
        let paused_until = self.policy.paused_until();
        let paused_until = paused_until.filter(|until| *until > now.monotonic && !is_paused);
        self.status.next_try = paused_until.map(|until| now.wall + (until - now.monotonic));
        &self.status
    }

    /// Raises or clears the alarm for missing acknowledgements. During the operator's pause they are
    /// intended.
    fn check_progress(&mut self, now: DateTime<Utc>) {
        let waiting = self.status.unacknowledged_skus();
        if waiting == 0 || self.status.paused_since.is_some() {
            self.waiting_since = None;
            return self.clear_alarm(AlarmKind::NothingAcknowledged);
        }
        let since = *self.waiting_since.get_or_insert(now);
        let last_acknowledged = self.status.last_acknowledged;
        let since = last_acknowledged.map_or(since, |at| at.max(since));
        if now - since >= MAX_SILENCE {
            let text = format!(
                "{waiting} SKUs of {} wait, and the Market has acknowledged none since {since}",
                self.target.name
            );
            self.raise_alarm(AlarmKind::NothingAcknowledged, text);
        }
    }

    /// Updates the list and the alarm of the quarantine, if it has changed.
    pub(super) fn publish_quarantine(&mut self) {
        if !self.isolation.quarantine.take_changed() {
            return;
        }
        let mut entries: Vec<_> = self.isolation.quarantine.entries().collect();
        entries.sort_by(|a, b| (a.since, &a.sku).cmp(&(b.since, &b.sku)));
        self.status.quarantined = entries.iter().copied().map(QuarantinedSku::from).collect();
        let Some(oldest) = entries.first() else {
            return self.clear_alarm(AlarmKind::Quarantine);
        };
        let text = format!(
            "the Market rejects {} SKUs of {}, which are in quarantine; the oldest is '{}': {}",
            entries.len(),
            self.target.name,
            oldest.sku,
            oldest.reason
        );
        self.raise_alarm(AlarmKind::Quarantine, text);
    }

    pub(super) fn raise_paused_alarm(&self, reason: &str) {
        let text = format!(
            "nothing is sent to {} of {} until this is fixed: {reason}",
            self.target.address, self.target.name
        );
        self.raise_alarm(AlarmKind::CampaignPaused, text);
    }

    pub(super) fn raise_alarm(&self, kind: AlarmKind, text: String) {
        self.deps.alarms.raise(kind, &self.target.name, text);
    }

    pub(super) fn clear_alarm(&self, kind: AlarmKind) {
        self.deps.alarms.clear(kind, &self.target.name);
    }
}

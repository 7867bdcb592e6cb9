//! What others get to see of a plan: when it wakes, its report, its alarms.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tracing::warn;

use super::{MAX_SILENCE, Now, Planner, PlannerDeps, SHARED_LIMIT_RECHECK, UpdateBatch};
use crate::migrator::Mode;
use crate::migrator::backoff::SendState;
use crate::migrator::classify_response::ResponseVerdict;
use crate::migrator::readback::{MatchClass, ReadbackProgress, ReadbackReport};
use crate::migrator::status::{QuarantinedSku, WorkerStatus};
use crate::stock::Sku;
use crate::telemetry::AlarmKind;

impl Planner {
    /// The SKUs that are set aside.
    #[must_use]
    pub fn quarantined_skus(&self) -> Vec<Sku> {
        self.quarantine.skus().cloned().collect()
    }

    /// Says aloud what a read-back left open, or that there is none.
    pub fn update_readback_alarms(&self, report: &ReadbackReport) {
        let PlannerDeps { alarms, .. } = &self.deps;
        let name = &self.target.name;
        if report.state == ReadbackProgress::Failed {
            let reason = report.trouble.as_deref().unwrap_or("no reason is known");
            let text = format!("the Market's copy of {name} cannot be read back: {reason}");
            return alarms.raise(AlarmKind::ReadBackFailed, name, text);
        }
        if report.state != ReadbackProgress::Done {
            return;
        }
        alarms.clear(AlarmKind::ReadBackFailed, name);
        let count = |class: MatchClass| {
            report
                .classes
                .get(class.name())
                .copied()
                .unwrap_or_default()
        };
        let (drifted, unknown) = (count(MatchClass::Drifted), count(MatchClass::Unknown));
        if self.target.mode != Mode::On || drifted == 0 {
            return alarms.clear(AlarmKind::Drift, name);
        }
        let text = format!(
            "the Market shows another number than {name} sent of {drifted} SKUs, and nothing \
             explains it ({} are sent again; {unknown} more it does not know); `stockbridge \
             verify` lists them",
            report.resent
        );
        alarms.raise(AlarmKind::Drift, name, text);
    }

    /// When to look again if nothing happens before.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Instant {
        let now = now.monotonic;
        let mut tick = now + Duration::from_mins(1);
        if self.target.mode == Mode::On {
            tick = tick.min(self.next_rescan_at.max(now));
        }
        let (_, wanted) = self.next_source();
        if wanted == 0 {
            return tick;
        }
        match (
            self.policy.paused_until(),
            self.deps.limiter.next_available_at(wanted, now),
        ) {
            (Some(paused_until), Some(available_at)) => paused_until.max(available_at).min(tick),
            (Some(paused_until), None) => paused_until.min(tick),
            // Room now, and yet nothing goes out: something in flight has to end first.
            (None, Some(available_at)) if available_at > now => available_at.min(tick),
            // It is another lane's, whose end nobody tells us.
            (None, None) if self.in_flight == 0 => tick.min(now + SHARED_LIMIT_RECHECK),
            (None, Some(_) | None) => tick,
        }
    }

    /// What the operator may know.
    pub fn update_status(&mut self, now: Now) -> &WorkerStatus {
        let waiting = self.queue.len() + self.isolation.waiting_skus();
        self.check_progress(waiting + self.in_flight_skus, now.wall);
        let (state, reason) = self.policy.state();
        self.status.state = match (state, waiting, self.in_flight) {
            _ if self.target.mode == Mode::DryRun => "dry-run",
            (SendState::Paused, _, _) => "paused",
            (SendState::Waiting, _, _) => "waiting",
            (SendState::Open, 0, 0) => "idle",
            (SendState::Open, _, _) => "sending",
        };
        self.status.reason = (!reason.is_empty()).then(|| reason.to_owned());
        let paused_until = self
            .policy
            .paused_until()
            .filter(|until| *until > now.monotonic);
        self.status.next_try = paused_until.map(|until| now.wall + (until - now.monotonic));
        if !std::mem::replace(&mut self.is_quarantine_published, true) {
            self.status.quarantined = self
                .quarantine
                .list()
                .iter()
                .map(QuarantinedSku::from)
                .collect();
        }
        self.status.in_flight_requests = self.in_flight;
        self.status.in_flight_skus = self.in_flight_skus;
        self.status.waiting_skus = waiting;
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
                "{waiting} SKUs of {} wait, and the Market has acknowledged nothing since {since}",
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
            "{} SKUs of {name} are refused by the Market and set aside, the first is '{}': {}",
            self.quarantine.len(),
            oldest.sku,
            oldest.reason
        );
        self.deps.alarms.raise(AlarmKind::Quarantine, name, text);
    }

    pub(super) fn raise_paused_alarm(&self, reason: &str) {
        let text = format!(
            "nothing is sent to {} of {} until this is mended: {reason}",
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
            "the Market did not take a batch: {verdict}"
        );
    }
}

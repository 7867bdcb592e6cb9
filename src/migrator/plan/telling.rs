//! What others get to see of a plan: when it wakes, its report, its alarms.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tracing::warn;

use super::{Batch, Now, Plan, SILENCE, Surroundings, WHEN_OTHERS_SEND};
use crate::migrator::Mode;
use crate::migrator::desk::{Aside, Report};
use crate::migrator::reconcile::{Class, Progress, Survey};
use crate::migrator::standing::State;
use crate::migrator::verdict::Verdict;
use crate::stock::Sku;
use crate::telemetry::AlarmKind;

impl Plan {
    /// The SKUs that are set aside.
    #[must_use]
    pub fn set_aside(&self) -> Vec<Sku> {
        self.quarantine.skus().cloned().collect()
    }

    /// Says aloud what a read-back left open, or that there is none.
    pub fn note_survey(&self, survey: &Survey) {
        let Surroundings { alarms, .. } = &self.around;
        let name = &self.target.name;
        if survey.state == Progress::Failed {
            let why = survey.trouble.as_deref().unwrap_or("no reason is known");
            let text = format!("the Market's copy of {name} cannot be read back: {why}");
            return alarms.raise(AlarmKind::ReadBackFailed, name, text);
        }
        if survey.state != Progress::Done {
            return;
        }
        alarms.clear(AlarmKind::ReadBackFailed, name);
        let count = |class: Class| {
            survey
                .classes
                .get(class.name())
                .copied()
                .unwrap_or_default()
        };
        let (drifted, unknown) = (count(Class::Drifted), count(Class::Unknown));
        if self.target.mode != Mode::On || drifted == 0 {
            return alarms.clear(AlarmKind::Drift, name);
        }
        let text = format!(
            "the Market shows another number than {name} sent of {drifted} SKUs, and nothing \
             explains it ({} are sent again; {unknown} more it does not know); `stockbridge \
             verify` lists them",
            survey.resent
        );
        alarms.raise(AlarmKind::Drift, name, text);
    }

    /// When to look again if nothing happens before.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Instant {
        let now = now.mono;
        let mut tick = now + Duration::from_mins(1);
        if self.target.mode == Mode::On {
            tick = tick.min(self.scan_at.max(now));
        }
        let (_, wanted) = self.queued();
        if wanted == 0 {
            return tick;
        }
        match (
            self.standing.held_until(),
            self.around.purse.next_room(wanted, now),
        ) {
            (Some(held), Some(room)) => held.max(room).min(tick),
            (Some(held), None) => held.min(tick),
            // Room now, and yet nothing goes out: something in flight has to end first.
            (None, Some(room)) if room > now => room.min(tick),
            // It is another lane's, whose end nobody tells us.
            (None, None) if self.in_flight == 0 => tick.min(now + WHEN_OTHERS_SEND),
            (None, Some(_) | None) => tick,
        }
    }

    /// What the operator may know.
    pub fn report(&mut self, now: Now) -> &Report {
        let waiting = self.backlog.len() + self.isolation.waiting();
        self.watch_silence(waiting + self.in_flight_skus, now.wall);
        let (state, reason) = self.standing.state();
        self.report.state = match (state, waiting, self.in_flight) {
            _ if self.target.mode == Mode::DryRun => "dry-run",
            (State::Paused, _, _) => "paused",
            (State::Waiting, _, _) => "waiting",
            (State::Open, 0, 0) => "idle",
            (State::Open, _, _) => "sending",
        };
        self.report.reason = (!reason.is_empty()).then(|| reason.to_owned());
        let held = self.standing.held_until().filter(|until| *until > now.mono);
        self.report.next_try = held.map(|until| now.wall + (until - now.mono));
        if !std::mem::replace(&mut self.is_listed, true) {
            self.report.quarantined = self.quarantine.list().iter().map(Aside::from).collect();
        }
        self.report.in_flight_requests = self.in_flight;
        self.report.in_flight_skus = self.in_flight_skus;
        self.report.waiting_skus = waiting;
        &self.report
    }

    fn watch_silence(&mut self, waiting: usize, now: DateTime<Utc>) {
        if waiting == 0 {
            self.waiting_since = None;
            self.around
                .alarms
                .clear(AlarmKind::NothingAcknowledged, &self.target.name);
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let since = self
            .report
            .last_acknowledged
            .map_or(since, |at| at.max(since));
        if now - since >= SILENCE {
            let text = format!(
                "{waiting} SKUs of {} wait, and the Market has acknowledged nothing since {since}",
                self.target.name
            );
            self.around
                .alarms
                .raise(AlarmKind::NothingAcknowledged, &self.target.name, text);
        }
    }

    pub(super) fn note_quarantine(&mut self) {
        self.is_listed = false;
        let name = &self.target.name;
        let Some(first) = self.quarantine.first() else {
            self.around.alarms.clear(AlarmKind::Quarantine, name);
            return;
        };
        let text = format!(
            "{} SKUs of {name} are refused by the Market and set aside, the first is '{}': {}",
            self.quarantine.len(),
            first.sku,
            first.reason
        );
        self.around.alarms.raise(AlarmKind::Quarantine, name, text);
    }

    pub(super) fn alarm_pause(&self, reason: &str) {
        let text = format!(
            "nothing is sent to {} of {} until this is mended: {reason}",
            self.target.address, self.target.name
        );
        self.around
            .alarms
            .raise(AlarmKind::CampaignPaused, &self.target.name, text);
    }

    pub(super) fn log_trouble(&self, batch: &Batch, verdict: &Verdict, trace: Option<&str>) {
        warn!(
            shop = self.target.name,
            address = %self.target.address,
            batch.skus = batch.items.len(),
            trace,
            "the Market did not take a batch: {verdict}"
        );
    }
}

//! Task of one channel: waits for due notices, sends them, and retries.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lifecycle::Clock;
use lifecycle::Tasks;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::channel_sender::ChannelSender;
use super::message::MessageStyle;
use super::metrics::ChannelCounter;
use super::planner::{AlarmPlanner, ObservedAlarm};
use super::send_failure::{FailureStreak, SendFailure};
use super::sent_alarms;
use crate::telemetry::{ActiveAlarm, AlarmKind, Alarms};

/// Longest time without a look at the alarms, because one that expires wakes no task, and the
/// clock of the machine may be set.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// Minimum time between two looks at the alarms, so that an alarm that begins and ends with every
/// request does not keep a processor busy.
const MIN_SLEEP: Duration = Duration::from_millis(200);

/// State of one channel's task.
pub(super) struct ChannelWorker {
    pub(super) sender: ChannelSender,
    pub(super) style: MessageStyle,
    pub(super) planner: AlarmPlanner,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    pub(super) counter: ChannelCounter,
    /// Latest state, for the task that saves it.
    pub(super) state: watch::Sender<String>,
}

impl ChannelWorker {
    /// Sends until the stop. A message that is being sent is dropped then: it is still due after
    /// the next start.
    pub(super) async fn run(self, tasks: Tasks) {
        tokio::select! {
            () = tasks.stopping() => {}
            () = self.send_forever() => {}
        }
    }

    async fn send_forever(mut self) {
        let mut changes = self.alarms.subscribe();
        let mut failures = FailureStreak::default();
        let mut retry_at: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let now = self.clock.now();
            let active: Vec<ObservedAlarm> =
                self.alarms.active().iter().map(observed_alarm).collect();
            let plan = self.planner.plan(now, &active);
            self.publish_state();
            let may_send = retry_at.is_none_or(|at| at <= Instant::now());
            if !plan.due.is_empty() && may_send {
                let message = self.style.message(&plan.due);
                match self.sender.send(&message, now).await {
                    Ok(()) => {
                        self.planner.confirm(self.clock.now(), &plan.due);
                        self.publish_state();
                        failures.on_success();
                        retry_at = None;
                        self.on_delivered(plan.due.len());
                    }
                    Err(failure) => {
                        let pause = failures.on_failure(&failure, rand::random());
                        retry_at = Some(Instant::now() + pause);
                        self.on_failure(&failure, pause, failures.is_alarm(&failure));
                    }
                }
                continue;
            }
            let until_wake = plan.wake_at.map(|at| duration_until(now, at));
            let mut wake_at = Instant::now() + until_wake.unwrap_or(MAX_SLEEP).min(MAX_SLEEP);
            if let Some(retry_at) = retry_at.filter(|_| !plan.due.is_empty()) {
                wake_at = wake_at.min(retry_at);
            }
            sleep(MIN_SLEEP).await;
            tokio::select! {
                () = sleep_until(wake_at) => {}
                // The sender of the changes lives as long as the alarms of this worker.
                _ = changes.changed() => {}
            }
        }
    }

    fn on_delivered(&self, notices: usize) {
        self.counter.on_delivered();
        let name = &self.style.channel;
        self.alarms.clear(AlarmKind::NotifyFailed, name);
        info!(
            channel = name,
            notices, "notification delivered over {name}: {notices} changes of alarms"
        );
    }

    fn on_failure(&self, failure: &SendFailure, pause: Duration, is_alarm: bool) {
        self.counter.on_failed();
        let name = &self.style.channel;
        let text = &failure.text;
        let seconds = pause.as_secs();
        warn!(
            channel = name,
            "failed to deliver a notification over {name}, retrying in {seconds} s: {text}"
        );
        if is_alarm {
            self.alarms.raise(
                AlarmKind::NotifyFailed,
                name,
                format!("notifications over {name} are not delivered: {text}"),
            );
        }
    }

    fn publish_state(&self) {
        let text = sent_alarms::to_text(self.planner.tracked());
        self.state.send_if_modified(|state| {
            let is_changed = *state != text;
            if is_changed {
                *state = text;
            }
            is_changed
        });
    }
}

fn observed_alarm(alarm: &ActiveAlarm) -> ObservedAlarm {
    ObservedAlarm {
        key: (alarm.kind, alarm.about.clone()),
        since: alarm.since,
        text: alarm.text.clone(),
    }
}

/// Time from `now` to `at`; zero if it is past.
fn duration_until(now: DateTime<Utc>, at: DateTime<Utc>) -> Duration {
    (at - now)
        .max(TimeDelta::zero())
        .to_std()
        .unwrap_or(MAX_SLEEP)
}

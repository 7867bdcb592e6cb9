//! Events of a worker: compares each status with the one before it. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use super::readback::{ReadbackProgress, ReadbackReport};
use super::status::{QuarantinedSku, WorkerState, WorkerStatus};
use crate::event_log::ServiceEvent;

/// Last seen status of a worker.
#[derive(Debug, Default)]
pub(super) struct SendingEvents {
    // `Waiting` or `Paused`.
    delay: Option<WorkerState>,
    is_paused_by_operator: bool,
    quarantined: Option<Arc<[QuarantinedSku]>>,
    was_readback_running: bool,
}

impl SendingEvents {
    /// Returns the events that lead from the last status to this one.
    ///
    /// The quarantine of the first status is from before the start.
    pub(super) fn on_status(&mut self, status: &WorkerStatus) -> Vec<ServiceEvent> {
        let delay = match status.state {
            WorkerState::Idle | WorkerState::Sending | WorkerState::DryRun => None,
            delay @ (WorkerState::Waiting | WorkerState::Paused) => Some(delay),
        };
        let is_by_operator = delay.is_some() && status.paused_since.is_some();
        let last_delay = std::mem::replace(&mut self.delay, delay);
        let was_by_operator = std::mem::replace(&mut self.is_paused_by_operator, is_by_operator);
        let mut events = Vec::new();
        // The action of the operator is an event already.
        if (last_delay, was_by_operator) != (delay, is_by_operator) && !is_by_operator {
            let reason = status.reason.as_deref().unwrap_or_default().into();
            events.extend(match delay {
                None if was_by_operator => None,
                None => Some(ServiceEvent::SendingResumed),
                Some(WorkerState::Paused) => Some(ServiceEvent::SendingPaused { reason }),
                Some(_) => Some(ServiceEvent::SendingDelayed { reason }),
            });
        }
        // The list is replaced only when the quarantine changes.
        let list = Arc::clone(&status.quarantined);
        match self.quarantined.replace(Arc::clone(&list)) {
            Some(last) if !Arc::ptr_eq(&last, &list) => {
                events.extend(quarantine_events(&last, &list));
            }
            Some(_) | None => {}
        }
        events
    }

    /// Returns the event of a read-back pass that was aborted since the last report.
    pub(super) fn on_readback(&mut self, report: &ReadbackReport) -> Option<ServiceEvent> {
        let is_running = report.state == ReadbackProgress::Running;
        let was_running = std::mem::replace(&mut self.was_readback_running, is_running);
        let reason = report.trouble.as_deref().unwrap_or_default();
        (was_running && report.state == ReadbackProgress::Failed).then(|| {
            ServiceEvent::ReadbackFailed {
                reason: reason.into(),
            }
        })
    }
}

fn quarantine_events(last: &[QuarantinedSku], new: &[QuarantinedSku]) -> Vec<ServiceEvent> {
    let last: HashSet<&str> = last.iter().map(|entry| &*entry.sku).collect();
    let remaining: HashSet<&str> = new.iter().map(|entry| &*entry.sku).collect();
    let mut entered = new.iter().filter(|entry| !last.contains(&*entry.sku));
    let mut events = Vec::new();
    if let Some(example) = entered.next() {
        events.push(ServiceEvent::QuarantineEntered {
            skus: 1 + entered.count() as u64,
            example: example.sku.as_str().into(),
            reason: example.reason.as_str().into(),
        });
    }
    let left = last.difference(&remaining).count() as u64;
    if left > 0 {
        events.push(ServiceEvent::QuarantineLeft { skus: left });
    }
    events
}

/// Returns the event of a read-back pass that was completed. `is_equal` is false for a dry run,
/// which proves nothing: it states the SKUs that would be sent.
pub(super) fn readback_finished(report: &ReadbackReport, is_equal: bool) -> ServiceEvent {
    if is_equal {
        return ServiceEvent::ReadbackEqual {
            listed: report.listed,
        };
    }
    let unsent = report.would_send.map(|it| it.skus.saturating_sub(it.same));
    ServiceEvent::ReadbackDifferent {
        listed: report.listed,
        different: unsent.unwrap_or_else(|| report.unexplained_skus()),
        resent: report.resent,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::super::readback::DryRunEstimate;
    use super::*;

    fn status(state: WorkerState, reason: &str, quarantined: &[&str]) -> WorkerStatus {
        let quarantined = quarantined.iter().map(|sku| QuarantinedSku {
            sku: (*sku).to_owned(),
            count: 1,
            reason: format!("no {sku}"),
            since: DateTime::UNIX_EPOCH,
            attempts: 1,
            retry_at: DateTime::UNIX_EPOCH,
        });
        WorkerStatus {
            state,
            reason: Some(reason.to_owned()).filter(|it| !it.is_empty()),
            quarantined: quarantined.collect(),
            ..WorkerStatus::default()
        }
    }

    #[test]
    fn only_changes_of_the_status_are_events() {
        let mut events = SendingEvents::default();
        let paused = |reason: &str| ServiceEvent::SendingPaused {
            reason: reason.into(),
        };
        let delayed = ServiceEvent::SendingDelayed {
            reason: "limit".into(),
        };
        let entered = |skus, example: &str| ServiceEvent::QuarantineEntered {
            skus,
            example: example.into(),
            reason: format!("no {example}").into(),
        };
        let left = |skus| ServiceEvent::QuarantineLeft { skus };
        let by_operator = WorkerStatus {
            paused_since: Some(DateTime::UNIX_EPOCH),
            ..status(WorkerState::Paused, "paused by the operator", &["D"])
        };
        for (status, expected) in [
            (status(WorkerState::Idle, "", &["A"]), vec![]),
            (status(WorkerState::Sending, "", &["A"]), vec![]),
            (status(WorkerState::Waiting, "limit", &["A"]), vec![delayed]),
            (status(WorkerState::Waiting, "timeout", &["A"]), vec![]),
            (
                status(WorkerState::Paused, "key", &["A"]),
                vec![paused("key")],
            ),
            (
                status(WorkerState::Sending, "", &["A", "C", "B"]),
                vec![ServiceEvent::SendingResumed, entered(2, "C")],
            ),
            (status(WorkerState::Idle, "", &["B"]), vec![left(2)]),
            (
                status(WorkerState::Idle, "", &["D"]),
                vec![entered(1, "D"), left(1)],
            ),
            (by_operator, vec![]),
            (status(WorkerState::Idle, "", &["D"]), vec![]),
            (status(WorkerState::DryRun, "", &["D"]), vec![]),
        ] {
            assert_eq!(events.on_status(&status), expected, "{status:?}");
        }
        let paused_at_start =
            SendingEvents::default().on_status(&status(WorkerState::Paused, "key", &["A"]));
        assert_eq!(paused_at_start, [paused("key")]);
    }

    #[test]
    fn aborted_pass_is_one_event() {
        let mut events = SendingEvents::default();
        let report = |state, trouble: &str| ReadbackReport {
            state,
            trouble: Some(trouble.to_owned()),
            ..ReadbackReport::default()
        };
        let failed = ServiceEvent::ReadbackFailed { reason: "b".into() };
        for (report, expected) in [
            (report(ReadbackProgress::Running, "a"), None),
            (report(ReadbackProgress::Failed, "b"), Some(failed)),
            (report(ReadbackProgress::Failed, "b"), None),
            (report(ReadbackProgress::Running, ""), None),
            (report(ReadbackProgress::Done, ""), None),
        ] {
            assert_eq!(events.on_readback(&report), expected, "{report:?}");
        }
    }

    #[test]
    fn completed_pass_states_its_differences() {
        let report = ReadbackReport {
            listed: 9,
            resent: 1,
            classes: [("drifted".into(), 2), ("equal".into(), 7)].into(),
            ..ReadbackReport::default()
        };
        let equal = ServiceEvent::ReadbackEqual { listed: 9 };
        assert_eq!(readback_finished(&report, true), equal);
        let different = |different, resent| ServiceEvent::ReadbackDifferent {
            listed: 9,
            different,
            resent,
        };
        assert_eq!(readback_finished(&report, false), different(2, 1));
        let dry_run = ReadbackReport {
            would_send: Some(DryRunEstimate {
                skus: 10,
                same: 4,
                ..DryRunEstimate::default()
            }),
            ..report
        };
        assert_eq!(readback_finished(&dry_run, false), different(6, 1));
    }
}

//! Coalescing of repeated events, so that the usual course of things does not displace the rest.
//!
//! Pure: decides which event replaces a stored one and a new one.

use chrono::TimeDelta;

use super::service_event::{EventCounts, EventText, ServiceEvent};

/// Longest time from the first to the last event of a burst.
pub(super) const BURST: TimeDelta = TimeDelta::minutes(10);

/// Returns the name of the course of events in which an event repeats or ends an earlier one of
/// the same shop and subject; `None` for an event that is always stored alone.
pub(super) fn course(event: &ServiceEvent) -> Option<&'static str> {
    match event {
        ServiceEvent::DeliveryApplied(_)
        | ServiceEvent::DeliveryHeld { .. }
        | ServiceEvent::DeliveryFailed { .. }
        | ServiceEvent::DeliveryApproved(_)
        | ServiceEvent::DeliveryReplaced { .. } => Some("delivery"),
        ServiceEvent::ReadbackEqual { .. }
        | ServiceEvent::ReadbackDifferent { .. }
        | ServiceEvent::ReadbackFailed { .. } => Some("read-back"),
        // Each kind is a course of its own, because a delay and its end alternate.
        ServiceEvent::SendingDelayed { .. } => Some("delay"),
        ServiceEvent::SendingResumed => Some("resumption"),
        ServiceEvent::QuarantineEntered { .. } => Some("quarantine"),
        ServiceEvent::QuarantineLeft { .. } => Some("release"),
        ServiceEvent::ServiceStarted { .. }
        | ServiceEvent::ServiceStopped { .. }
        | ServiceEvent::AlarmRaised { .. }
        | ServiceEvent::AlarmCleared { .. }
        | ServiceEvent::RulesApproved
        | ServiceEvent::SendingPaused { .. }
        | ServiceEvent::SelftestStarted { .. }
        | ServiceEvent::SelftestEnded { .. }
        | ServiceEvent::OperatorAction { .. }
        | ServiceEvent::ConfigReloaded { .. }
        | ServiceEvent::EventsLost { .. }
        | ServiceEvent::FileReplaced { .. }
        | ServiceEvent::Unknown => None,
    }
}

/// Returns the event to store in place of the last one of a course and its successor; `None` if
/// both are stored. `age` is the time from the first event of the course to `new`.
pub(super) fn coalesce(
    last: &ServiceEvent,
    new: &ServiceEvent,
    age: TimeDelta,
) -> Option<ServiceEvent> {
    // A clock that was set back makes the age negative.
    let is_burst = (TimeDelta::zero()..BURST).contains(&age);
    match (last, new) {
        (ServiceEvent::DeliveryApplied(last), ServiceEvent::DeliveryApplied(new)) => {
            let are_repetitions = last.is_without_change()
                && new.is_without_change()
                && (last.rejected, last.suspicious) == (new.rejected, new.suspicious);
            if are_repetitions {
                return Some(ServiceEvent::DeliveryApplied(*new));
            }
            let have_changes = !last.is_without_change() && !new.is_without_change();
            (have_changes && is_burst).then(|| ServiceEvent::DeliveryApplied(sum(last, new)))
        }
        (
            ServiceEvent::DeliveryHeld { reason: last, .. },
            ServiceEvent::DeliveryHeld { reason, .. },
        )
        | (
            ServiceEvent::DeliveryFailed { reason: last },
            ServiceEvent::DeliveryFailed { reason },
        )
        | (
            ServiceEvent::ReadbackFailed { reason: last },
            ServiceEvent::ReadbackFailed { reason },
        ) => (last == reason).then(|| new.clone()),
        (ServiceEvent::ReadbackEqual { .. }, ServiceEvent::ReadbackEqual { .. }) => {
            Some(new.clone())
        }
        (ServiceEvent::SendingDelayed { .. }, ServiceEvent::SendingDelayed { .. })
        | (ServiceEvent::SendingResumed, ServiceEvent::SendingResumed) => {
            is_burst.then(|| new.clone())
        }
        (
            ServiceEvent::QuarantineEntered {
                skus,
                example,
                reason,
            },
            ServiceEvent::QuarantineEntered { skus: more, .. },
        ) => is_burst.then(|| entered(skus.saturating_add(*more), example, reason)),
        (ServiceEvent::QuarantineLeft { skus }, ServiceEvent::QuarantineLeft { skus: more }) => {
            is_burst.then(|| ServiceEvent::QuarantineLeft {
                skus: skus.saturating_add(*more),
            })
        }
        _ => None,
    }
}

/// Sums the changes; the rows that were not applied are those of the latest delivery.
fn sum(last: &EventCounts, new: &EventCounts) -> EventCounts {
    EventCounts {
        new: last.new.saturating_add(new.new),
        changed: last.changed.saturating_add(new.changed),
        zeroed: last.zeroed.saturating_add(new.zeroed),
        ..*new
    }
}

fn entered(skus: u64, example: &EventText, reason: &EventText) -> ServiceEvent {
    ServiceEvent::QuarantineEntered {
        skus,
        example: example.clone(),
        reason: reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example_events::examples;
    use super::*;

    fn applied(changed: u64, rejected: u64) -> ServiceEvent {
        ServiceEvent::DeliveryApplied(EventCounts {
            rows: 9,
            changed,
            rejected,
            ..EventCounts::default()
        })
    }

    fn failed(reason: &str) -> ServiceEvent {
        let reason = reason.into();
        ServiceEvent::DeliveryFailed { reason }
    }

    fn quarantined(skus: u64, example: &str) -> ServiceEvent {
        entered(skus, &example.into(), &"refused".into())
    }

    #[test]
    fn repetitions_and_bursts_are_coalesced() {
        let equal = |listed| ServiceEvent::ReadbackEqual { listed };
        let different = ServiceEvent::ReadbackDifferent {
            listed: 1,
            different: 1,
            resent: 0,
        };
        let left = |skus| ServiceEvent::QuarantineLeft { skus };
        let hour = 3_600;
        for (last, new, seconds, expected) in [
            // The usual course of things, at any distance.
            (equal(5), equal(6), 9 * hour, Some(equal(6))),
            (applied(0, 1), applied(0, 1), 9 * hour, Some(applied(0, 1))),
            (failed("a"), failed("a"), 9 * hour, Some(failed("a"))),
            // News.
            (equal(5), different.clone(), 1, None),
            (different.clone(), different.clone(), 1, None),
            (different, equal(5), 1, None),
            (failed("a"), failed("b"), 1, None),
            (failed("a"), applied(0, 0), 1, None),
            (applied(0, 0), applied(0, 1), 1, None),
            (applied(0, 0), applied(1, 0), 1, None),
            (applied(1, 0), applied(0, 0), 1, None),
            // Bursts are counted together.
            (applied(1, 0), applied(2, 4), 599, Some(applied(3, 4))),
            (applied(1, 0), applied(2, 0), 600, None),
            (
                quarantined(1, "A"),
                quarantined(2, "B"),
                1,
                Some(quarantined(3, "A")),
            ),
            (quarantined(1, "A"), quarantined(2, "B"), hour, None),
            (left(u64::MAX), left(2), 1, Some(left(u64::MAX))),
            // The clock was set back.
            (left(1), left(2), -1, None),
        ] {
            let coalesced = coalesce(&last, &new, TimeDelta::seconds(seconds));
            assert_eq!(coalesced, expected, "{last:?}, {new:?} after {seconds} s");
        }
    }

    #[test]
    fn only_events_of_one_course_are_coalesced() {
        for last in examples() {
            for new in examples() {
                if coalesce(&last, &new, TimeDelta::zero()).is_some() {
                    assert!(course(&last).is_some(), "{last:?}");
                    assert_eq!(course(&last), course(&new));
                }
            }
        }
    }
}

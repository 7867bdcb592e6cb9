//! Examples of events for tests.

use chrono::DateTime;

use super::service_event::{EventCounts, EventText, OperatorAction, PreviousRun, ServiceEvent};

/// One event of each kind.
pub(super) fn examples() -> Vec<ServiceEvent> {
    let (text, counts) = (|| EventText::from("x"), EventCounts::default());
    vec![
        ServiceEvent::ServiceStarted {
            version: "1".to_owned(),
            previous: PreviousRun::Crashed,
        },
        ServiceEvent::ServiceStopped {
            failure: Some(text()),
        },
        ServiceEvent::AlarmRaised {
            alarm: "drift".to_owned(),
            reason: text(),
        },
        ServiceEvent::AlarmCleared {
            alarm: "drift".to_owned(),
            since: DateTime::UNIX_EPOCH,
        },
        ServiceEvent::DeliveryApplied(EventCounts { rows: 7, ..counts }),
        ServiceEvent::DeliveryHeld {
            counts,
            reason: text(),
        },
        ServiceEvent::DeliveryFailed { reason: text() },
        ServiceEvent::DeliveryApproved(counts),
        ServiceEvent::DeliveryReplaced { deliveries: 2 },
        ServiceEvent::RulesApproved,
        ServiceEvent::SendingPaused { reason: text() },
        ServiceEvent::SendingDelayed { reason: text() },
        ServiceEvent::SendingResumed,
        ServiceEvent::ReadbackEqual { listed: 1 },
        ServiceEvent::ReadbackDifferent {
            listed: 3,
            different: 2,
            resent: 1,
        },
        ServiceEvent::ReadbackFailed { reason: text() },
        ServiceEvent::QuarantineEntered {
            skus: 1,
            example: text(),
            reason: text(),
        },
        ServiceEvent::QuarantineLeft { skus: 1 },
        ServiceEvent::SelftestStarted { sku: text() },
        ServiceEvent::SelftestEnded {
            sku: text(),
            passed: true,
        },
        ServiceEvent::OperatorAction {
            action: OperatorAction::Import,
            object: text(),
        },
        ServiceEvent::ConfigReloaded {
            applied: text(),
            needs_restart: text(),
        },
        ServiceEvent::EventsLost { events: 5 },
        ServiceEvent::FileReplaced {
            file: "events.db".to_owned(),
            reason: text(),
        },
    ]
}

//! Events of deliveries: applied, held, failed, approved, replaced.

use strict_http::causes;

use super::{DeliveryOutcome, DeliveryPipeline, DeliveryReport, PipelineError, RULES_NAME};
use crate::event_log::{EventCounts, ServiceEvent};

impl DeliveryPipeline {
    /// Records the outcome of a delivery. `was_held` is true for one that an operator approved.
    pub(super) fn record_delivery(
        &self,
        source: usize,
        was_held: bool,
        delivered: &Result<DeliveryReport, PipelineError>,
    ) {
        let event = match delivered {
            Err(error) => ServiceEvent::DeliveryFailed {
                reason: causes(error).into(),
            },
            Ok(report) => match &report.outcome {
                DeliveryOutcome::Applied if was_held => {
                    ServiceEvent::DeliveryApproved(counts(report))
                }
                DeliveryOutcome::Applied => ServiceEvent::DeliveryApplied(counts(report)),
                DeliveryOutcome::Held(reason) => ServiceEvent::DeliveryHeld {
                    counts: counts(report),
                    reason: reason.as_str().into(),
                },
                // A dry run changes nothing.
                DeliveryOutcome::Previewed => return,
            },
        };
        self.record_source_event(source, event);
    }

    /// Records that a source could not be polled.
    pub(super) fn record_poll_failure(&self, source: usize, text: &str) {
        let reason = text.into();
        self.record_source_event(source, ServiceEvent::DeliveryFailed { reason });
    }

    /// Records that a later delivery replaced held ones.
    pub(super) fn record_replaced(&self, source: usize, held: usize) {
        if held > 0 {
            let deliveries = held as u64;
            self.record_source_event(source, ServiceEvent::DeliveryReplaced { deliveries });
        }
    }

    /// Records that changed rules of the shop are held.
    pub(super) fn record_held_rules(&self, reason: &str) {
        let held = ServiceEvent::DeliveryHeld {
            counts: EventCounts::default(),
            reason: reason.into(),
        };
        let events = &self.0.context.events;
        events.record_for_shop(&self.0.name, RULES_NAME, held);
    }

    /// Records that held rules of the shop were approved.
    pub(super) fn record_approved_rules(&self) {
        let events = &self.0.context.events;
        events.record_for_shop(&self.0.name, RULES_NAME, ServiceEvent::RulesApproved);
    }

    fn record_source_event(&self, source: usize, event: ServiceEvent) {
        let name = self.source_name(source);
        let events = &self.0.context.events;
        events.record_for_shop(&self.0.name, name, event);
    }
}

fn counts(report: &DeliveryReport) -> EventCounts {
    let changes = report.changes;
    EventCounts {
        rows: report.rows,
        new: changes.new,
        changed: changes.changed,
        zeroed: changes.zeroed,
        rejected: report.rejected,
        suspicious: report.suspicious,
    }
}

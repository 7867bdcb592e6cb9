//! Events of the service: kinds, values of each kind, and their English sentences.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Longest text of an event in bytes. A longer one is cut at a character boundary.
pub const MAX_TEXT_BYTES: usize = 1_000;

/// Names of all kinds, for filters. The last variant has none.
pub const EVENT_KINDS: &[&str] = match <ServiceEvent as strum::VariantNames>::VARIANTS {
    [kinds @ .., _unknown] => kinds,
    [] => &[],
};

/// Text of limited length, because it may come from outside.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EventText(String);

impl EventText {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> From<T> for EventText {
    fn from(text: T) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        Self(text)
    }
}

impl fmt::Display for EventText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// End of the run of the service before this one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviousRun {
    /// No earlier run is known.
    None,
    /// The service was stopped.
    Stopped,
    /// The service did not stop cleanly: it crashed, it was killed, or its start failed.
    Crashed,
}

/// Counts of a delivery.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct EventCounts {
    /// Valid rows.
    pub rows: u64,
    /// SKUs that were unknown.
    pub new: u64,
    /// SKUs whose stock changed or, for a held delivery, would change.
    pub changed: u64,
    /// Changed SKUs that became zero or would.
    pub zeroed: u64,
    /// Rows that break a rule.
    pub rejected: u64,
    /// Rows with two possible meanings.
    pub suspicious: u64,
}

impl EventCounts {
    /// Returns true if the delivery left all stock as it was.
    #[must_use]
    pub fn is_without_change(&self) -> bool {
        (self.new, self.changed) == (0, 0)
    }
}

impl fmt::Display for EventCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rows,
            new,
            changed,
            zeroed,
            rejected,
            suspicious,
        } = self;
        write!(
            f,
            "{rows} rows: {new} new, {changed} changed ({zeroed} to zero), {rejected} rejected, \
             {suspicious} suspicious"
        )
    }
}

/// Action of an operator.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorAction {
    /// A read-back was requested.
    Verify,
    /// A poll of a source was requested.
    Poll,
    /// A file was imported.
    Import,
    /// A file was read without applying it.
    ImportPreview,
    /// A held delivery or held rules were approved.
    Approve,
    /// A self-test was requested.
    Selftest,
    /// Sending was paused.
    Pause,
    /// Sending was resumed.
    Resume,
}

impl OperatorAction {
    const fn text(self) -> &'static str {
        match self {
            Self::Verify => "requested a read-back",
            Self::Poll => "requested a poll of the source",
            Self::Import => "imported a file",
            Self::ImportPreview => "checked a file without applying it",
            Self::Approve => "approved what is held",
            Self::Selftest => "requested a self-test",
            Self::Pause => "paused sending",
            Self::Resume => "resumed sending",
        }
    }
}

/// Event of the service, with the values that a sentence about it needs. Stored as JSON.
#[derive(
    Clone, Debug, Deserialize, Eq, PartialEq, Serialize, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ServiceEvent {
    /// The service started.
    ServiceStarted {
        /// Release of the service.
        version: String,
        /// End of the previous run.
        previous: PreviousRun,
    },
    /// The service stopped.
    ServiceStopped {
        /// Reason if the stop was not requested, or was not complete.
        failure: Option<EventText>,
    },
    /// An alarm began.
    AlarmRaised {
        /// Name of its kind.
        alarm: String,
        /// Text of the alarm.
        reason: EventText,
    },
    /// An alarm ended.
    AlarmCleared {
        /// Name of its kind.
        alarm: String,
        /// Time at which it began.
        since: DateTime<Utc>,
    },
    /// A delivery of a source was applied.
    DeliveryApplied(EventCounts),
    /// A delivery is held for approval.
    DeliveryHeld {
        /// Counts of the delivery.
        counts: EventCounts,
        /// Reason of the hold.
        reason: EventText,
    },
    /// A source could not be read, or its delivery could not be applied.
    DeliveryFailed {
        /// Reason of the failure.
        reason: EventText,
    },
    /// A held delivery was approved and applied.
    DeliveryApproved(EventCounts),
    /// A later delivery replaced held ones.
    DeliveryReplaced {
        /// Number of held deliveries that were replaced.
        deliveries: u64,
    },
    /// Held rules of a shop were approved and applied.
    RulesApproved,
    /// Sending is paused until its cause is fixed.
    SendingPaused {
        /// Cause.
        reason: EventText,
    },
    /// Sending waits, which needs no action.
    SendingDelayed {
        /// Cause.
        reason: EventText,
    },
    /// Sending continues after a pause or a delay.
    SendingResumed,
    /// A read-back pass ended without a difference that needs attention.
    ReadbackEqual {
        /// Offers of our warehouses that the Market listed.
        listed: u64,
    },
    /// A read-back pass ended with differences.
    ReadbackDifferent {
        /// Offers of our warehouses that the Market listed.
        listed: u64,
        /// SKUs that differ without an explanation; in a dry run, SKUs that would be sent.
        different: u64,
        /// SKUs that are sent again.
        resent: u64,
    },
    /// A read-back pass was aborted.
    ReadbackFailed {
        /// Cause.
        reason: EventText,
    },
    /// SKUs entered the quarantine.
    QuarantineEntered {
        /// Number of SKUs.
        skus: u64,
        /// One of them.
        example: EventText,
        /// The Market's error about it.
        reason: EventText,
    },
    /// SKUs left the quarantine.
    QuarantineLeft {
        /// Number of SKUs.
        skus: u64,
    },
    /// A self-test started.
    SelftestStarted {
        /// SKU of the product.
        sku: EventText,
    },
    /// A self-test ended.
    SelftestEnded {
        /// SKU of the product.
        sku: EventText,
        /// True if every step succeeded.
        passed: bool,
    },
    /// An operator did something through the operator's listener.
    OperatorAction {
        /// Action.
        action: OperatorAction,
        /// Object of the action, such as the name of a file; empty if the shop and the subject say
        /// it.
        object: EventText,
    },
    /// The configuration was read again while the service runs.
    ConfigReloaded {
        /// Changed settings that are in use now, separated by commas; empty if there are none.
        applied: EventText,
        /// Changed settings that keep their old value until a restart; empty if there are none.
        needs_restart: EventText,
    },
    /// Events were not written, because the disk was full or too slow.
    EventsLost {
        /// Number of these events.
        events: u64,
    },
    /// A damaged file of the operator's data was renamed, and a new one was begun.
    FileReplaced {
        /// Name of the file.
        file: String,
        /// Damage.
        reason: EventText,
    },
    /// An event that a later release has written.
    #[serde(other)]
    Unknown,
}

impl ServiceEvent {
    /// Returns the name of the kind, one of [`EVENT_KINDS`] or `unknown`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.into()
    }
}

/// English sentence without the shop and the subject, which are shown beside it.
impl fmt::Display for ServiceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceStarted { version, previous } => match previous {
                PreviousRun::None => write!(f, "started, release {version}"),
                PreviousRun::Stopped => write!(f, "started again, release {version}"),
                PreviousRun::Crashed => write!(
                    f,
                    "started again, release {version}; the previous run did not stop cleanly"
                ),
            },
            Self::ServiceStopped { failure: None } => f.write_str("the service stopped"),
            Self::ServiceStopped { failure: Some(it) } => write!(f, "the service stopped: {it}"),
            Self::AlarmRaised { reason, .. } => write!(f, "{reason}"),
            Self::AlarmCleared { alarm, since } => {
                write!(f, "alarm cleared: {alarm}, raised at {since}")
            }
            Self::DeliveryApplied(counts) => write!(f, "delivered {counts}"),
            Self::DeliveryHeld { counts, reason } => {
                write!(f, "held for approval, because {reason}; {counts}")
            }
            Self::DeliveryFailed { reason } => {
                write!(f, "the delivery failed; the stock is unchanged: {reason}")
            }
            Self::DeliveryApproved(counts) => {
                write!(f, "the held delivery was approved, {counts}")
            }
            Self::DeliveryReplaced { deliveries } => {
                write!(f, "a later delivery replaced {deliveries} held ones")
            }
            Self::RulesApproved => f.write_str("the held rules were approved"),
            Self::SendingPaused { reason } => {
                write!(f, "sending is paused until this is fixed: {reason}")
            }
            Self::SendingDelayed { reason } => write!(f, "sending is delayed: {reason}"),
            Self::SendingResumed => f.write_str("sending continues"),
            Self::ReadbackEqual { listed } => {
                write!(
                    f,
                    "read-back finished: all explained, {listed} offers listed"
                )
            }
            Self::ReadbackDifferent {
                listed,
                different,
                resent,
            } => write!(
                f,
                "read-back finished: {different} SKUs differ, {resent} are sent again, {listed} \
                 offers listed"
            ),
            Self::ReadbackFailed { reason } => write!(f, "read-back failed: {reason}"),
            Self::QuarantineEntered {
                skus,
                example,
                reason,
            } => write!(
                f,
                "{skus} SKUs entered the quarantine, such as '{example}': {reason}"
            ),
            Self::QuarantineLeft { skus } => write!(f, "{skus} SKUs left the quarantine"),
            Self::SelftestStarted { sku } => write!(f, "self-test of '{sku}' started"),
            Self::SelftestEnded { sku, passed } => {
                let outcome = if *passed { "passed" } else { "failed" };
                write!(f, "self-test of '{sku}' {outcome}")
            }
            Self::OperatorAction { action, object } if object.is_empty() => {
                write!(f, "an operator {}", action.text())
            }
            Self::OperatorAction { action, object } => {
                write!(f, "an operator {}: {object}", action.text())
            }
            Self::ConfigReloaded {
                applied,
                needs_restart,
            } => {
                f.write_str("the configuration was read again")?;
                if applied.is_empty() && needs_restart.is_empty() {
                    return f.write_str(": no setting has changed");
                }
                if !applied.is_empty() {
                    write!(f, "; changed: {applied}")?;
                }
                if !needs_restart.is_empty() {
                    write!(f, "; wait for a restart: {needs_restart}")?;
                }
                Ok(())
            }
            Self::EventsLost { events } => write!(
                f,
                "{events} events were not written here, because the disk was full or too slow"
            ),
            Self::FileReplaced { file, reason } => write!(
                f,
                "{file} was damaged ({reason}): it was renamed to {file}.damaged, and a new file \
                 was begun"
            ),
            Self::Unknown => f.write_str("event of a later release"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::example_events::examples;
    use super::*;

    #[test]
    fn json_has_the_kind_and_restores_the_event() {
        let kinds: Vec<&str> = examples().iter().map(ServiceEvent::kind).collect();
        assert_eq!(kinds, EVENT_KINDS);
        for event in examples() {
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["kind"], event.kind());
            let restored: ServiceEvent = serde_json::from_value(json).unwrap();
            assert_eq!(restored, event);
        }
    }

    #[test]
    fn unknown_kind_is_read_as_unknown() {
        let json = r#"{"kind": "moon_landed", "where": {"crater": 1}}"#;
        let event: ServiceEvent = serde_json::from_str(json).unwrap();
        assert_eq!(event, ServiceEvent::Unknown);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = EventText::from("Ж".repeat(MAX_TEXT_BYTES));
        assert_eq!(text.as_str(), "Ж".repeat(MAX_TEXT_BYTES / 2));
        assert_eq!(EventText::from("short").as_str(), "short");
    }
}

//! Reports about deliveries and sources.

use chrono::{DateTime, Utc};
use stock::Timestamp;
use stock_import::{DeliveryScope, RejectedRow};

use crate::sources::statements::HeldDelivery;

/// Counts of SKUs by the effect of a delivery.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct ChangeCounts {
    /// SKUs that were unknown.
    pub new: u64,
    /// SKUs whose stock changes.
    pub changed: u64,
    /// SKUs whose stock stays the same.
    pub unchanged: u64,
    /// SKUs whose known stock is newer than the delivery.
    pub outdated: u64,
    /// Changed SKUs that were in stock and become zero.
    pub zeroed: u64,
    /// SKUs in stock before: of those concerned by a snapshot, or of the whole shop for a delta.
    #[serde(skip)]
    pub in_stock: u64,
}

/// Outcome of a delivery that was read to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryOutcome {
    /// The delivery was applied.
    Applied,
    /// The delivery would be applied; it was a dry run.
    Previewed,
    /// The delivery is held for approval, or a dry run would be. The text is the reason.
    Held(String),
}

/// Report about one delivery.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// Outcome.
    pub outcome: DeliveryOutcome,
    /// Date of the delivery.
    pub stated_at: Timestamp,
    /// Completeness of the delivery.
    pub scope: DeliveryScope,
    /// Rows that can be applied.
    pub rows: u64,
    /// Rows that break a rule, and are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways, and are not applied.
    pub suspicious: u64,
    /// The first rows that are not applied, of both kinds.
    pub first_rejected: Vec<RejectedRow>,
    /// Effect on the stock.
    pub changes: ChangeCounts,
    /// Reason why absent SKUs keep their stock although the setting is `absent = "zero"`.
    pub absence_not_applied: Option<String>,
    /// Notices of the connector for the operator.
    pub notices: Vec<String>,
    /// Time for reading and applying it, in milliseconds.
    pub duration_ms: i64,
}

/// State of a source, from the first fact that applies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum SourceState {
    /// A delivery is being read.
    Reading,
    /// The source could not be read, or its delivery not applied.
    Failed,
    /// A delivery is held for approval.
    Held,
    /// The last snapshot was applied, but SKUs that it lacks keep their stock.
    Incomplete,
    /// The last delivery was applied.
    Ok,
    /// No delivery has ended since the start of the process.
    Waiting,
}

impl SourceState {
    /// Returns the name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Status of a source.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// Time at which the last poll began.
    pub last_poll_at: Option<DateTime<Utc>>,
    /// Time of the next poll; `None` during a poll, and for a source that is not polled.
    pub next_poll_at: Option<DateTime<Utc>>,
    /// Report about the last delivery that was applied or held.
    pub last_report: Option<DeliveryReport>,
    /// Time of that report.
    pub last_report_at: Option<DateTime<Utc>>,
    /// Held deliveries, the oldest first.
    pub held: Vec<HeldDelivery>,
    /// True if the last failure happened before a delivery began: the source could not be reached.
    pub is_unreachable: bool,
    /// Time and reason of the last failure, if no delivery has ended since.
    pub last_failure: Option<(DateTime<Utc>, String)>,
    /// Start of the delivery that is being read.
    pub reading_since: Option<DateTime<Utc>>,
    /// Rows of that delivery so far.
    pub rows_read: u64,
    /// True if a snapshot was ever applied, also before the last restart.
    pub had_snapshot: bool,
    /// True if some of its statements are not in the book yet.
    pub has_unapplied: bool,
    /// Deliveries applied since the start.
    pub applied_total: u64,
    /// Deliveries held since the start.
    pub held_total: u64,
    /// Attempts that failed since the start.
    pub failed_total: u64,
    /// Rows applied since the start.
    pub rows_total: u64,
    /// Rows rejected since the start.
    pub rejected_total: u64,
    /// Suspicious rows since the start.
    pub suspicious_total: u64,
}

impl SourceStatus {
    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> SourceState {
        let is_incomplete = |report: &DeliveryReport| report.absence_not_applied.is_some();
        match &self.last_report {
            _ if self.reading_since.is_some() => SourceState::Reading,
            _ if self.last_failure.is_some() => SourceState::Failed,
            _ if !self.held.is_empty() => SourceState::Held,
            Some(report) if is_incomplete(report) => SourceState::Incomplete,
            Some(_) => SourceState::Ok,
            None => SourceState::Waiting,
        }
    }
}

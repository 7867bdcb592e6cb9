//! Reports about deliveries and sources, and the completeness of a delivery.
//!
//! [`Completeness`] decides between the format, the settings and the kind of source whether a
//! delivery is a snapshot.

use chrono::{DateTime, Utc};
use stock::Timestamp;
use stock_import::formats::FileSummary;
use stock_import::shape_change::RecordedShape;
use stock_import::{DeliveryScope, RejectedRow, VariantListing};

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

/// Completeness of a delivery, as far as the connector knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completeness {
    /// Unknown: the settings decide.
    Unknown,
    /// Declared by the format. The settings may override it.
    Declared(DeliveryScope),
    /// Certain. The settings cannot override it.
    Certain(DeliveryScope),
    /// One file of an exchange with 1C. It is always a delta, because an export may have several
    /// files.
    ExchangeFile {
        /// Completeness that the file declares.
        declared: Option<DeliveryScope>,
        /// True if its name has a number: it may be one of several files of an export.
        is_numbered: bool,
    },
}

impl Completeness {
    /// Returns the scope; `configured` is the setting.
    pub(super) fn scope(self, configured: Option<DeliveryScope>) -> DeliveryScope {
        match self {
            Self::Certain(scope) => scope,
            Self::Declared(scope) => configured.unwrap_or(scope),
            Self::Unknown => configured.unwrap_or(DeliveryScope::Delta),
            Self::ExchangeFile { .. } => DeliveryScope::Delta,
        }
    }

    /// Returns the variants that the delivery lists; `configured` is the setting of the scope.
    pub(in crate::sources) fn listing(self, configured: Option<DeliveryScope>) -> VariantListing {
        let (declared, is_numbered) = match self {
            Self::Certain(_) | Self::Declared(_) | Self::Unknown => {
                (Some(self.scope(configured)), false)
            }
            Self::ExchangeFile {
                declared,
                is_numbered,
            } => (declared, is_numbered),
        };
        match declared {
            Some(DeliveryScope::Snapshot) if is_numbered => VariantListing::Partial,
            Some(DeliveryScope::Snapshot) => VariantListing::Complete,
            Some(DeliveryScope::Delta) | None => VariantListing::Changes,
        }
    }
}

impl From<Option<DeliveryScope>> for Completeness {
    fn from(declared: Option<DeliveryScope>) -> Self {
        declared.map_or(Self::Unknown, Self::Declared)
    }
}

/// Report of a connector after it has sent all rows.
#[derive(Clone, Debug)]
pub struct ReadReport {
    /// Completeness of the delivery.
    pub completeness: Completeness,
    /// Shapes of its files.
    pub shapes: Vec<RecordedShape>,
    /// Notices for the operator.
    pub notices: Vec<String>,
}

impl ReadReport {
    /// Creates a report about files, in the order in which they were read.
    #[must_use]
    pub fn from_files(completeness: Completeness, summaries: Vec<FileSummary>) -> Self {
        let shapes = summaries
            .iter()
            .map(|summary| RecordedShape::from(&summary.shape))
            .collect();
        let notices = summaries
            .into_iter()
            .flat_map(|summary| summary.notices)
            .collect();
        Self {
            completeness,
            shapes,
            notices,
        }
    }
}

impl<C: Into<Completeness>> From<C> for ReadReport {
    fn from(completeness: C) -> Self {
        Self {
            completeness: completeness.into(),
            shapes: Vec::new(),
            notices: Vec::new(),
        }
    }
}

use chrono::{DateTime, Utc};

use crate::sources::formats::FileSummary;
use crate::sources::shape_change::RecordedShape;
use crate::sources::statements::HeldDelivery;
use crate::sources::{DeliveryScope, RejectedRow, VariantListing};
use crate::stock::Timestamp;

/// What a delivery comes to, SKU by SKU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct ChangeCounts {
    /// SKUs heard of for the first time.
    pub new: u64,
    /// SKUs whose stock changes.
    pub changed: u64,
    /// SKUs whose stock is as it was.
    pub unchanged: u64,
    /// SKUs of which something newer is known.
    pub outdated: u64,
    /// SKUs in stock that turn to zero; of those that change.
    pub zeroed: u64,
    /// SKUs in stock before.
    pub in_stock: u64,
}

/// What became of a delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeliveryOutcome {
    /// It is in the book.
    Applied,
    /// It would have been taken, if it had been meant.
    Previewed,
    /// It waits for somebody's word.
    Held(String),
}

/// What is told of a delivery.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// As of when it was stated.
    pub stated_at: Timestamp,
    /// Whether it was complete.
    pub scope: DeliveryScope,
    /// Rows that could be taken.
    pub rows: u64,
    /// Rows that break a rule. They are not applied.
    pub rejected: u64,
    /// Rows that can be read in two ways. They are not applied either.
    pub suspicious: u64,
    /// The first rows that are not applied, of both kinds.
    pub first_rejected: Vec<RejectedRow>,
    /// What it comes to.
    pub changes: ChangeCounts,
    /// Why absent SKUs keep their stock although the settings say `absent = "zero"`.
    pub absence_not_applied: Option<String>,
    /// What the reader wants the operator to know.
    pub notices: Vec<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: i64,
}

/// How a source is doing.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// The last delivery that came to its end.
    pub last_report: Option<DeliveryReport>,
    /// When that was.
    pub last_report_at: Option<DateTime<Utc>>,
    /// What is held, the oldest first.
    pub held: Vec<HeldDelivery>,
    /// The failure was that nobody answered.
    pub is_unreachable: bool,
    /// Why the last attempt failed, if it did.
    pub last_failure: Option<(DateTime<Utc>, String)>,
    /// Since when a delivery is on its way.
    pub reading_since: Option<DateTime<Utc>>,
    /// Rows that have come of it so far.
    pub rows_read: u64,
    /// A snapshot of it was taken once, in this life or an earlier one.
    pub had_snapshot: bool,
    /// What it has stated is not all in the book yet.
    pub has_unapplied: bool,
    /// Deliveries taken since the start.
    pub applied_total: u64,
    /// Deliveries held since the start.
    pub held_total: u64,
    /// Attempts that failed since the start.
    pub failed_total: u64,
    /// Rows taken since the start.
    pub rows_total: u64,
    /// Rows rejected since the start.
    pub rejected_total: u64,
    /// Suspicious rows since the start.
    pub suspicious_total: u64,
}

/// What a reader knows of the completeness of what it read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completeness {
    /// Nothing: the settings decide.
    Unknown,
    /// The format says so; the settings may know better.
    Declared(DeliveryScope),
    /// It is so, whatever the settings say.
    Certain(DeliveryScope),
    /// One file of an exchange: a delta, whatever it says of itself.
    ExchangeFile {
        /// What it says.
        declared: Option<DeliveryScope>,
        /// Its name has a number: it may be one of several that are one export.
        is_numbered: bool,
    },
}

impl Completeness {
    /// What holds, given what the settings say.
    pub(super) fn scope(self, configured: Option<DeliveryScope>) -> DeliveryScope {
        match self {
            Self::Certain(scope) => scope,
            Self::Declared(scope) => configured.unwrap_or(scope),
            Self::Unknown => configured.unwrap_or(DeliveryScope::Delta),
            Self::ExchangeFile { .. } => DeliveryScope::Delta,
        }
    }

    /// Which variants are listed, given what the settings say.
    pub(in crate::sources) fn listing(self, configured: Option<DeliveryScope>) -> VariantListing {
        let (declared, is_numbered) = match self {
            Self::Certain(_) | Self::Declared(_) | Self::Unknown => {
                (Some(self.scope(configured)), false)
            }
            Self::ExchangeFile {
                declared: says,
                is_numbered,
            } => (says, is_numbered),
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

/// What a reader knows of what it read, besides its rows.
#[derive(Clone, Debug)]
pub struct ReadReport {
    /// Whether it is complete.
    pub completeness: Completeness,
    /// How its files were read.
    pub shapes: Vec<RecordedShape>,
    /// What the operator should know of it.
    pub notices: Vec<String>,
}

impl ReadReport {
    /// A report of files, in the order in which they were read.
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

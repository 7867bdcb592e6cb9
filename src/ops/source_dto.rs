//! JSON shapes of sources, deliveries and rows, shared with the command line.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stock_import::RejectedRow;

use crate::sources::{ChangeCounts, DeliveryOutcome, DeliveryReport};

/// Status of one source.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SourceStatusDto {
    pub(crate) shop: String,
    pub(crate) source: String,
    pub(crate) kind: Cow<'static, str>,
    /// `waiting` for its first delivery, `reading`, `ok`, `held`, `failed`, or `incomplete`: the
    /// snapshot was applied, but SKUs that it lacks keep their stock although `absent` is `zero`.
    pub(crate) state: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rows_so_far: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<DeliveryDto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// First rows that are not applied, rejected and suspicious.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rejected: Vec<RowDto>,
}

/// Row that was not applied.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RowDto {
    /// Line number in the file.
    pub line: u64,
    /// Beginning of the row.
    pub text: String,
    /// Value and broken rule.
    pub reason: String,
    /// `rejected`, or `suspicious` if the row has two possible meanings.
    pub kind: String,
}

impl From<&RejectedRow> for RowDto {
    fn from(row: &RejectedRow) -> Self {
        Self {
            line: row.line,
            text: row.text.clone(),
            reason: row.reason.clone(),
            kind: row_kind(row).to_owned(),
        }
    }
}

pub(super) fn row_kind(row: &RejectedRow) -> &'static str {
    if row.is_suspicious {
        "suspicious"
    } else {
        "rejected"
    }
}

/// Result of a delivery, as JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeliveryDto {
    /// `taken`, `looked` (a dry run) or `held` (for approval).
    pub outcome: String,
    /// Reason why the delivery is held for approval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doubt: Option<String>,
    /// `snapshot` or `delta`.
    pub scope: String,
    /// Date of the stock.
    pub stated_at: DateTime<Utc>,
    /// Number of valid rows.
    pub rows: u64,
    /// Number of rows that break a rule. They are not applied.
    pub rejected: u64,
    /// Number of rows with two possible meanings. They are not applied.
    pub suspicious: u64,
    /// Number of SKUs by the effect of the delivery, or of a dry run.
    #[serde(flatten)]
    pub changes: ChangeCounts,
    /// Reason why SKUs that the snapshot lacks keep their stock although `absent` is `zero`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_untold: Option<String>,
    /// Notices for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// Duration in milliseconds.
    pub took_ms: i64,
    /// First rows that are not applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_rejected: Vec<RowDto>,
}

impl From<&DeliveryReport> for DeliveryDto {
    fn from(report: &DeliveryReport) -> Self {
        let (outcome, doubt) = match &report.outcome {
            DeliveryOutcome::Applied => ("taken", None),
            DeliveryOutcome::Previewed => ("looked", None),
            DeliveryOutcome::Held(doubt) => ("held", Some(doubt.clone())),
        };
        Self {
            outcome: outcome.to_owned(),
            doubt,
            scope: report.scope.name().to_owned(),
            stated_at: report.stated_at.to_utc(),
            rows: report.rows,
            rejected: report.rejected,
            suspicious: report.suspicious,
            changes: report.changes,
            absence_untold: report.absence_not_applied.clone(),
            notices: report.notices.clone(),
            took_ms: report.duration_ms,
            first_rejected: report.first_rejected.iter().map(RowDto::from).collect(),
        }
    }
}

//! Report of the read-back, for the operator. It is part of the JSON status.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::MatchClass;

/// State of the latest read-back pass.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadbackProgress {
    /// No pass has begun yet.
    #[default]
    Never,
    /// A pass is running.
    Running,
    /// The latest pass was completed.
    Done,
    /// The latest pass was aborted.
    Failed,
}

/// Result of the latest read-back passes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReadbackReport {
    /// State of the latest pass.
    pub state: ReadbackProgress,
    /// Start of the latest pass.
    pub began: Option<DateTime<Utc>>,
    /// End of the latest complete pass.
    pub ended: Option<DateTime<Utc>>,
    /// End of the latest pass without unexplained SKUs.
    pub last_equal: Option<DateTime<Utc>>,
    /// Pages read in the latest pass.
    pub pages: u64,
    /// Offers of our warehouses on these pages.
    pub listed: u64,
    /// SKUs by class. This and the following fields are of the latest complete pass.
    pub classes: BTreeMap<&'static str, u64>,
    /// SKUs that the pass marked to be sent again.
    pub resent: u64,
    /// Estimate of the volume to send; only in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_send: Option<DryRunEstimate>,
    /// Examples of SKUs that are not equal.
    pub examples: Arc<[ReadbackExample]>,
    /// Reason of the last failed request; `None` after a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl ReadbackReport {
    /// Returns the number of SKUs in classes that need attention.
    #[must_use]
    pub fn unexplained_skus(&self) -> u64 {
        let unexplained = MatchClass::ALL.iter().filter(|class| !class.is_explained());
        unexplained.map(|class| self.count(*class)).sum()
    }

    /// Returns the number of SKUs in a class.
    #[must_use]
    pub fn count(&self, class: MatchClass) -> u64 {
        self.classes.get(class.name()).copied().unwrap_or_default()
    }
}

/// Volume that a dry run would send, compared with the Market's stock.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DryRunEstimate {
    /// Total number of SKUs.
    pub skus: u64,
    /// SKUs for which the Market shows the same count.
    pub same: u64,
    /// SKUs that would be set to zero.
    pub to_zero: u64,
    /// SKUs that would be lowered, but not to zero.
    pub lower: u64,
    /// SKUs that would be raised.
    pub higher: u64,
    /// SKUs that the Market does not show.
    pub unknown: u64,
    /// Number of requests needed.
    pub requests: u64,
    /// Minutes needed at the Market's full rate limit.
    pub minutes: u64,
}

/// Example of a SKU that is not equal.
#[derive(Clone, Debug, Serialize)]
pub struct ReadbackExample {
    /// SKU as the Market or the book spells it.
    pub sku: String,
    /// Result of the comparison.
    pub class: MatchClass,
    /// Count in the book.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<u32>,
    /// Sending time of the update that the Market acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<DateTime<Utc>>,
    /// Count that the Market shows; `None` if it does not show the SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets: Option<u64>,
    /// Reserved pieces; `None` if zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// Date of the count, as the Market shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets_updated_at: Option<DateTime<Utc>>,
}

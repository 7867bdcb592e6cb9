use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::MatchClass;

/// How far reading back has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadbackProgress {
    /// No pass has begun yet.
    #[default]
    Never,
    /// A pass is under way.
    Running,
    /// The latest pass was gone through whole.
    Done,
    /// It was given up for now.
    Failed,
}

/// What reading the Market's copy back has come to, for the operator.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReadbackReport {
    /// How far the latest pass is.
    pub state: ReadbackProgress,
    /// When the latest pass began.
    pub began: Option<DateTime<Utc>>,
    /// When the latest whole pass ended.
    pub ended: Option<DateTime<Utc>>,
    /// When the Market's copy was last explained to the last SKU.
    pub last_equal: Option<DateTime<Utc>>,
    /// Pages read in the latest pass.
    pub pages: u64,
    /// Offers on them that are of our warehouses.
    pub listed: u64,
    /// SKUs by class, of the latest whole pass, as all that follows.
    pub classes: BTreeMap<&'static str, u64>,
    /// SKUs the pass found to be sent again.
    pub resent: u64,
    /// What would be sent, if this were no dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would_send: Option<DryRunEstimate>,
    /// Some of those that are worth a look.
    pub examples: Arc<[ReadbackExample]>,
    /// Why there was no page, the last time there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl ReadbackReport {
    /// How many SKUs of classes that leave a question.
    #[must_use]
    pub fn unexplained_skus(&self) -> u64 {
        let unexplained = MatchClass::ALL.iter().filter(|class| !class.is_explained());
        unexplained
            .filter_map(|class| self.classes.get(class.name()))
            .sum()
    }
}

/// What a dry run would send, against what the Market shows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DryRunEstimate {
    /// SKUs to be sent in all.
    pub skus: u64,
    /// Of which the Market shows the same number already.
    pub same: u64,
    /// Which would be sold out.
    pub to_zero: u64,
    /// Of which there would be fewer.
    pub lower: u64,
    /// Of which there would be more.
    pub higher: u64,
    /// Which the Market does not show.
    pub unknown: u64,
    /// Requests it would take.
    pub requests: u64,
    /// And minutes, by the Market's limit.
    pub minutes: u64,
}

/// One SKU worth a look.
#[derive(Clone, Debug, Serialize)]
pub struct ReadbackExample {
    /// Which SKU.
    pub sku: String,
    /// Its class.
    pub class: &'static str,
    /// What the book says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<u32>,
    /// When it was sent that the Market took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<DateTime<Utc>>,
    /// What the Market shows, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets: Option<u64>,
    /// How many of it are reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// Since when, by the Market's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markets_updated_at: Option<DateTime<Utc>>,
}

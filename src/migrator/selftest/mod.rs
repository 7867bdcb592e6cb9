//! Self-test: the Market's own check of an integration. Hides a product, sends its stock, reads it
//! back and shows the product again.
//!
//! The product must never stay hidden. A note in the store is written before the product is
//! hidden, and deleted after the Market confirms that it is shown. A stopping process skips to
//! showing the product, and the next start finishes an interrupted self-test. Until then an alarm
//! is raised, even if the next start may not call the Market.

mod hidden_notes;
mod market_call;
mod runner;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::hidden_notes::HIDDEN_NOTE_PREFIX;
pub(super) use self::hidden_notes::hidden_products;
pub use self::hidden_notes::report_absent_shop;
pub(super) use self::runner::SelftestRunner;
use stock::Sku;

/// Progress of a self-test.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Selftest {
    /// SKU of the product.
    pub sku: String,
    /// Running, passed or failed.
    pub state: SelftestStatus,
    /// Start time.
    pub began: DateTime<Utc>,
    /// Completed steps, in order.
    pub steps: Vec<SelftestStep>,
    /// True if the product is shown as before.
    pub is_shown: bool,
}

/// Result of a self-test.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum SelftestStatus {
    /// The self-test has not ended.
    #[strum(serialize = "is running")]
    Running,
    /// Every step succeeded, and the product is shown.
    Passed,
    /// A step failed.
    Failed,
}

/// One step of a self-test.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SelftestStep {
    /// Time at which the step ended.
    pub at: DateTime<Utc>,
    /// Description of the step or of its failure.
    pub what: String,
    /// True if the step succeeded.
    pub is_good: bool,
}

/// Running or latest self-test of one shop.
#[derive(Debug, Default)]
pub(super) struct LatestSelftest {
    latest: Mutex<Option<Selftest>>,
}

impl LatestSelftest {
    pub(super) fn get(&self) -> Option<Selftest> {
        self.latest.lock().clone()
    }

    /// Starts a new record. Returns false if a self-test is running.
    fn try_begin(&self, sku: &Sku, now: DateTime<Utc>) -> bool {
        let mut latest = self.latest.lock();
        let is_running = |test: &Selftest| test.state == SelftestStatus::Running;
        if latest.as_ref().is_some_and(is_running) {
            return false;
        }
        *latest = Some(Selftest {
            sku: sku.to_string(),
            state: SelftestStatus::Running,
            began: now,
            steps: Vec::new(),
            is_shown: true,
        });
        true
    }

    fn update(&self, change: impl FnOnce(&mut Selftest)) {
        if let Some(test) = self.latest.lock().as_mut() {
            change(test);
        }
    }
}

/// Reason why a self-test did not start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelftestStartError {
    /// The Market is not called for this shop.
    #[error(
        "the Market is not called for this shop: migrate is off, or the store belongs to \
         another installation"
    )]
    NotForwarded,
    /// The book has no stock of the SKU.
    #[error("the stock of '{0}' is unknown: check the SKU, or send its stock first")]
    UnknownSku(Sku),
    /// A self-test of the shop is running.
    #[error(
        "a self-test of this shop is running, or the product of an interrupted one is being shown \
         again: wait until it ends"
    )]
    Running,
    /// The worker would not send the SKU, so hiding the product would be useless.
    #[error("the stock of this SKU cannot be sent now: {0}")]
    NotSendable(String),
    /// The process is stopping and could not show the product again.
    #[error("stockbridge is stopping")]
    Stopping,
}

/// Returns a text that identifies the Market and the campaign in which a product is hidden.
#[must_use]
pub fn campaign_location(market_url: &str, campaign: u64) -> String {
    format!("{market_url} campaign {campaign}")
}

/// Joins SKUs in single quotes with commas.
fn quoted_list(skus: &[Sku]) -> String {
    let quoted: Vec<_> = skus.iter().map(|sku| format!("'{sku}'")).collect();
    quoted.join(", ")
}

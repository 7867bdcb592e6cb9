//! Where a lane and the rest of the house meet: nudges go in, the status comes out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::Notify;

use super::reconcile::Survey;
use crate::stock::Sku;
use crate::store::Quarantined;

/// Most changed SKUs remembered between two looks of the lane; beyond, it scans the shop.
const MAX_HINTS: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desk {
    hints: Mutex<Hints>,
    nudge: Notify,
    report: Mutex<Report>,
    survey: Mutex<Survey>,
    is_hurried: AtomicBool,
}

/// SKUs that changed since the lane looked last.
#[derive(Debug, Default)]
pub(super) struct Hints {
    pub(super) skus: Vec<Sku>,
    /// There were more than fit.
    pub(super) is_incomplete: bool,
}

/// What a lane says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// `idle`, `sending`, `waiting` (a pause that ends by itself), `paused` or `dry-run`.
    pub state: &'static str,
    /// What the pause is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the pause ends, and the next try is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<DateTime<Utc>>,
    /// Requests made since the start.
    pub requests: u64,
    /// SKUs acknowledged since the start, each as often as it was.
    pub acknowledged: u64,
    /// When the Market last took a batch.
    pub last_acknowledged: Option<DateTime<Utc>>,
    /// SKUs known to differ and not under way.
    pub waiting_skus: usize,
    /// Requests under way.
    pub in_flight_requests: usize,
    /// SKUs in them.
    pub in_flight_skus: usize,
    /// SKUs set aside, with reasons.
    pub quarantined: Arc<[Aside]>,
}

/// A SKU set aside, as the operator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Aside {
    /// Which SKU.
    pub sku: String,
    /// The count that was refused.
    pub count: u32,
    /// The Market's words.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How often it was refused.
    pub attempts: u32,
    /// When it is tried again, at the latest.
    pub retry_at: DateTime<Utc>,
}

impl From<&Quarantined> for Aside {
    fn from(row: &Quarantined) -> Self {
        Self {
            sku: row.sku.to_string(),
            count: row.level.count.get(),
            reason: row.reason.clone(),
            since: row.since,
            attempts: row.attempts,
            retry_at: row.retry_at,
        }
    }
}

impl Desk {
    /// These SKUs changed.
    pub(super) fn hint(&self, skus: &[Sku]) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        if hints.skus.len() + skus.len() > MAX_HINTS {
            hints.is_incomplete = true;
        } else {
            hints.skus.extend_from_slice(skus);
        }
        drop(hints);
        self.nudge.notify_one();
    }

    /// Somebody wants the Market's copy read back now.
    pub(super) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Relaxed);
        self.nudge.notify_one();
    }

    pub(super) fn take_hurry(&self) -> bool {
        self.is_hurried.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_hints(&self) -> Hints {
        std::mem::take(&mut self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    pub(super) fn publish(&self, report: &Report) {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(report);
    }

    pub(super) fn publish_survey(&self, survey: &Survey) {
        self.survey
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(survey);
    }

    pub(super) fn survey(&self) -> Survey {
        self.survey
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn report(&self) -> Report {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

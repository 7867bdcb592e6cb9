//! Where a lane and the rest of the house meet: nudges go in, the status comes out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::Notify;

use super::readback::ReadbackReport;
use crate::stock::Sku;
use crate::store::QuarantineEntry;

/// Most changed SKUs remembered between two looks of the lane; beyond, it scans the shop.
const MAX_CHANGED_SKUS: usize = 20_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WorkerHandle {
    changed: Mutex<ChangedSkus>,
    wake: Notify,
    status: Mutex<WorkerStatus>,
    readback: Mutex<ReadbackReport>,
    readback_requested: AtomicBool,
}

/// SKUs that changed since the lane looked last.
#[derive(Debug, Default)]
pub(super) struct ChangedSkus {
    pub(super) skus: Vec<Sku>,
    /// There were more than fit.
    pub(super) is_incomplete: bool,
}

/// What a lane says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WorkerStatus {
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
    pub quarantined: Arc<[QuarantinedSku]>,
}

/// A SKU set aside, as the operator sees it.
#[derive(Clone, Debug, Serialize)]
pub struct QuarantinedSku {
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

impl From<&QuarantineEntry> for QuarantinedSku {
    fn from(entry: &QuarantineEntry) -> Self {
        Self {
            sku: entry.sku.to_string(),
            count: entry.level.count.get(),
            reason: entry.reason.clone(),
            since: entry.since,
            attempts: entry.attempts,
            retry_at: entry.retry_at,
        }
    }
}

impl WorkerHandle {
    /// These SKUs changed.
    pub(super) fn notify_changed(&self, skus: &[Sku]) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.skus.len() + skus.len() > MAX_CHANGED_SKUS {
            changed.is_incomplete = true;
        } else {
            changed.skus.extend_from_slice(skus);
        }
        drop(changed);
        self.wake.notify_one();
    }

    /// Somebody wants the Market's copy read back now.
    pub(super) fn request_readback(&self) {
        self.readback_requested.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn take_readback_request(&self) -> bool {
        self.readback_requested.swap(false, Ordering::Relaxed)
    }

    pub(super) fn take_changed(&self) -> ChangedSkus {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn publish_status(&self, status: &WorkerStatus) {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(status);
    }

    pub(super) fn publish_readback(&self, report: &ReadbackReport) {
        self.readback
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(report);
    }

    pub(super) fn readback_report(&self) -> ReadbackReport {
        self.readback
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn status(&self) -> WorkerStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

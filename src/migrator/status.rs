//! Handle to one worker: change notifications and requests go in, status and report come out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stock::Sku;
use strict_http::secret::Secret;
use tokio::sync::Notify;

use super::operator_pause::OperatorPause;
use super::rate_limit::LimitUnit;
use super::readback::ReadbackReport;
use crate::store::QuarantineEntry;

/// Largest number of changed SKUs kept until the worker takes them. With more, it rescans the shop.
const MAX_CHANGED_SKUS: usize = 20_000;

/// Shared state of a worker and its callers.
#[derive(Debug, Default)]
pub(super) struct WorkerHandle {
    pub(super) changed: Mutex<ChangedSkus>,
    pub(super) wake: Notify,
    pub(super) status: Mutex<WorkerStatus>,
    pub(super) readback: Mutex<ReadbackReport>,
    readback_requested: AtomicBool,
    operator_pause: Mutex<Option<OperatorPause>>,
    keys: Mutex<Vec<Secret>>,
    // The worker does not use these keys yet.
    has_new_keys: AtomicBool,
}

/// SKUs that changed since the worker last took them.
#[derive(Debug, Default)]
pub(super) struct ChangedSkus {
    pub(super) skus: Vec<Sku>,
    /// True if more SKUs changed than were kept, or any may have.
    pub(super) is_incomplete: bool,
}

/// Activity of a worker.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Nothing is to be sent.
    #[default]
    Idle,
    /// Batches are sent.
    Sending,
    /// A pause that needs no action.
    Waiting,
    /// A pause until the cause is fixed, or until the operator resumes sending.
    Paused,
    /// Nothing is sent, only read back.
    DryRun,
}

/// Status of a worker, for the operator.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// Activity.
    pub state: WorkerState,
    /// Reason of the pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time at which the operator paused sending. The state is then `paused`, or `dry-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<DateTime<Utc>>,
    /// Replica through which the operator paused sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_through: Option<String>,
    /// End of the pause, when the next request is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<DateTime<Utc>>,
    /// Update requests since the start of the process.
    pub requests: u64,
    /// Acknowledged SKUs since the start of the process, counted once per acknowledgement.
    pub acknowledged: u64,
    /// Time at which the Market last accepted a batch.
    pub last_acknowledged: Option<DateTime<Utc>>,
    /// SKUs that differ and are not in flight.
    pub waiting_skus: usize,
    /// Update requests in flight.
    pub in_flight_requests: usize,
    /// SKUs in flight.
    pub in_flight_skus: usize,
    /// SKUs in quarantine, with reasons.
    pub quarantined: Arc<[QuarantinedSku]>,
    /// Current rate limit for updates.
    pub rate_limit: RateLimitStatus,
}

/// Rate limit of a campaign or business, for the operator.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RateLimitStatus {
    /// Units that may be sent in a minute.
    pub per_minute: u32,
    /// Unit in which the Market counts.
    pub unit: LimitUnit,
}

impl WorkerStatus {
    /// Shows the operator's pause.
    pub(super) fn show_pause(&mut self, pause: Option<OperatorPause>) {
        self.paused_since = pause.as_ref().map(|pause| pause.since);
        self.paused_through = pause.and_then(|pause| pause.through);
    }

    /// Returns the SKUs that differ, without those in quarantine.
    #[must_use]
    pub fn unacknowledged_skus(&self) -> usize {
        self.waiting_skus + self.in_flight_skus
    }

    /// Returns the SKUs whose stock the Market has not acknowledged, as far as the worker knows: its
    /// queue has a limit. An exact count visits every SKU.
    #[must_use]
    pub fn dirty_skus(&self) -> usize {
        self.unacknowledged_skus() + self.quarantined.len()
    }
}

/// Quarantined SKU, for the operator.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct QuarantinedSku {
    /// SKU as the book spells it.
    pub sku: String,
    /// Rejected count.
    pub count: u32,
    /// The Market's error messages.
    pub reason: String,
    /// Time of the first rejection of this count.
    pub since: DateTime<Utc>,
    /// Number of rejections since the pause was last reset.
    pub attempts: u32,
    /// Time of the next retry. A changed count or an accepted request may bring it forward.
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
    /// Wakes the worker to look at changed SKUs.
    pub(super) fn notify_changed(&self, skus: &[Sku]) {
        let mut changed = self.changed.lock();
        if changed.skus.len() + skus.len() > MAX_CHANGED_SKUS {
            changed.is_incomplete = true;
        } else {
            changed.skus.extend_from_slice(skus);
        }
        drop(changed);
        self.wake.notify_one();
    }

    /// Wakes the worker to look at all SKUs.
    pub(super) fn request_rescan(&self) {
        self.changed.lock().is_incomplete = true;
        self.wake.notify_one();
    }

    /// Wakes the worker to begin a read-back pass.
    pub(super) fn request_readback(&self) {
        self.readback_requested.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn take_readback_request(&self) -> bool {
        self.readback_requested.swap(false, Ordering::Relaxed)
    }

    pub(super) fn new(keys: Vec<Secret>) -> Self {
        Self {
            keys: Mutex::new(keys),
            ..Self::default()
        }
    }

    /// Replaces the Api-Keys and wakes the worker, unless they are the same.
    pub(super) fn replace_keys(&self, new: &[Secret]) {
        let mut keys = self.keys.lock();
        if *keys != new {
            *keys = new.to_vec();
            self.has_new_keys.store(true, Ordering::Relaxed);
            self.wake.notify_one();
        }
    }

    /// Returns the latest keys.
    pub(super) fn keys(&self) -> Vec<Secret> {
        self.keys.lock().clone()
    }

    /// Returns true if the worker does not use the latest keys yet.
    pub(super) fn has_new_keys(&self) -> bool {
        self.has_new_keys.load(Ordering::Relaxed)
    }

    /// Returns the latest keys if they are new. The worker uses them from now on.
    pub(super) fn take_new_keys(&self) -> Option<Vec<Secret>> {
        let keys = self.keys.lock();
        let is_new = self.has_new_keys.swap(false, Ordering::Relaxed);
        is_new.then(|| keys.clone())
    }

    /// Returns the operator's pause.
    pub(super) fn operator_pause(&self) -> Option<OperatorPause> {
        self.operator_pause.lock().clone()
    }

    /// Pauses because the database has a note of a pause. The next read of the notes brings its time and
    /// replica.
    pub(super) fn pause_provisionally(&self, now: DateTime<Utc>) {
        let begun = OperatorPause {
            since: now,
            through: None,
        };
        self.operator_pause.lock().get_or_insert(begun);
        self.wake.notify_one();
    }

    /// Sets or ends the operator's pause and wakes the worker.
    pub(super) fn set_operator_pause(&self, pause: Option<OperatorPause>) {
        *self.operator_pause.lock() = pause;
        self.wake.notify_one();
    }
}

//! The only writer of stock: compare with the book, persist, update the book, notify.
//!
//! The partner API and the sources call [`Ingest::accept`] or, for several shops at once,
//! [`Ingest::accept_all`]. `Ok` means that the updates are on disk and in the book.
//!
//! Updates with a date are idempotent: the same update again changes nothing, see
//! [`ApplyOutcome::Repeated`] in `stock/book.rs`. For the same count with a later date, and for
//! another count with the same date, see [`RepeatPolicy`].
//!
//! One worker applies all updates, one batch of calls at a time. So the order on disk equals the
//! order in memory, and calls that arrive during a commit share the next one. A disk that needs
//! 5 ms per commit still takes thousands of small updates per second.

mod clock_watch;
mod metrics;
mod origin;
mod origin_times;
mod resolved_updates;
#[cfg(test)]
mod tests;
mod worker;

use chrono::{DateTime, Utc};
use lifecycle::Clock;
use tokio::sync::{mpsc, oneshot};

pub use metrics::Metrics;
pub use origin::Origin;
pub use origin_times::{OriginTime, OriginTimes};
pub use worker::{IngestWorker, create};

use stock::{ApplyOutcome, ShopId, Sku, Update};

use crate::replicas::RequestPermit;
use crate::store::StoreError;

/// Treatment of an update whose date is the known one, or whose count is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RepeatPolicy {
    /// A known count with a later date is stored, as the Market does for the same request. Between
    /// equal dates, the update wins.
    UpdateTimestamp,
    /// A known count keeps its date, so the update costs neither a write nor a request to the
    /// Market. Most rows of a complete export are such repetitions. Between equal dates, the update
    /// wins.
    KeepTimestamp,
    /// As [`RepeatPolicy::KeepTimestamp`], but between equal dates the known count stays: the
    /// statement was applied before, so what has its date came later.
    KeepLevel,
}

/// Updates of a source about one shop.
#[derive(Clone, Debug)]
pub struct SourceUpdates {
    /// Kind of the source.
    pub origin: Origin,
    /// Treatment of repetitions.
    pub repeat_policy: RepeatPolicy,
    /// The updates.
    pub updates: Vec<Update>,
}

/// Number of updates of one call, by outcome.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    /// SKUs that were unknown until now.
    pub added: usize,
    /// SKUs with a new level.
    pub replaced: usize,
    /// Updates that repeated the known level.
    pub repeated: usize,
    /// Updates older than the known level, ignored.
    pub outdated: usize,
}

impl Accepted {
    fn count(&mut self, applied: ApplyOutcome) {
        match applied {
            ApplyOutcome::Added => self.added += 1,
            ApplyOutcome::Replaced => self.replaced += 1,
            ApplyOutcome::Repeated => self.repeated += 1,
            ApplyOutcome::Outdated => self.outdated += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.added += other.added;
        self.replaced += other.replaced;
        self.repeated += other.repeated;
        self.outdated += other.outdated;
    }
}

/// Error of a call. Except for [`IngestError::Unconfirmed`], no update of it was applied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// The disk is full. The same call succeeds once there is free space.
    #[error("the store's disk is full")]
    DiskFull,
    /// The store cannot write.
    #[error("the store cannot write: {0}")]
    Failed(String),
    /// This replica had no permit to serve for a while after the call, so others may have acknowledged
    /// newer updates.
    #[error(
        "this replica was stopped, or cut off from the database, after it had received the update"
    )]
    Interrupted,
    /// The update may be stored, or be stored later, but the database and all replicas are not known to
    /// have it.
    #[error(
        "the update may be stored, but the database and all replicas are not known to have it: {0}"
    )]
    Unconfirmed(String),
    /// The process is stopping.
    #[error("stockbridge is stopping")]
    Stopping,
}

impl From<&StoreError> for IngestError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::DiskFull => Self::DiskFull,
            StoreError::DatabaseUnusable { .. } if error.may_be_stored() => {
                Self::Unconfirmed(error.to_string())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Handle to the worker that writes stock. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest {
    queue: mpsc::Sender<IngestRequest>,
    clock: Clock,
}

#[derive(Debug)]
struct IngestRequest {
    origin: Origin,
    repeat_policy: RepeatPolicy,
    statements: Vec<(ShopId, Vec<Update>)>,
    /// Time of the arrival, from which updates without a date count.
    arrived: DateTime<Utc>,
    /// Permit at the arrival of the updates; `None` if they do not depend on it.
    permit: Option<RequestPermit>,
    response: oneshot::Sender<Result<Accepted, IngestError>>,
}

impl IngestRequest {
    /// Returns false if other replicas may have acknowledged newer updates since the arrival.
    fn may_be_stored(&self) -> bool {
        self.permit.as_ref().is_none_or(RequestPermit::has_lasted)
    }
}

impl Ingest {
    /// Persists and applies updates of one shop, all or none.
    ///
    /// A repeated count with a later date updates the date. If the caller stops waiting, the
    /// updates may still be applied, all of them.
    ///
    /// # Errors
    /// The store cannot write or the process is stopping; nothing was applied.
    pub async fn accept(
        &self,
        origin: Origin,
        shop: ShopId,
        updates: Vec<Update>,
    ) -> Result<Accepted, IngestError> {
        let statements = vec![(shop, updates)];
        self.submit(origin, RepeatPolicy::UpdateTimestamp, statements, None)
            .await
    }

    /// Persists and applies updates of a source, all or none.
    ///
    /// # Errors
    /// The store cannot write or the process is stopping; nothing was applied.
    pub async fn accept_of_source(
        &self,
        shop: ShopId,
        group: SourceUpdates,
    ) -> Result<Accepted, IngestError> {
        let SourceUpdates {
            origin,
            repeat_policy,
            updates,
        } = group;
        self.submit(origin, repeat_policy, vec![(shop, updates)], None)
            .await
    }

    /// Persists and applies updates of several shops in one commit, all or none. `permit` was valid
    /// when they arrived.
    ///
    /// If the caller stops waiting, the updates may still be applied, all of them.
    ///
    /// # Errors
    /// The store cannot write, the permit has lapsed, or the process is stopping; nothing was applied,
    /// to no shop. Or the updates are stored, and it is not known that all replicas have them.
    pub async fn accept_all(
        &self,
        origin: Origin,
        statements: Vec<(ShopId, Vec<Update>)>,
        permit: RequestPermit,
    ) -> Result<Accepted, IngestError> {
        let policy = RepeatPolicy::UpdateTimestamp;
        self.submit(origin, policy, statements, Some(permit)).await
    }

    async fn submit(
        &self,
        origin: Origin,
        repeat_policy: RepeatPolicy,
        statements: Vec<(ShopId, Vec<Update>)>,
        permit: Option<RequestPermit>,
    ) -> Result<Accepted, IngestError> {
        let (response, receiver) = oneshot::channel();
        let request = IngestRequest {
            origin,
            repeat_policy,
            statements,
            arrived: self.clock.now(),
            permit,
            response,
        };
        self.queue
            .send(request)
            .await
            .map_err(|_| IngestError::Stopping)?;
        receiver.await.unwrap_or(Err(IngestError::Stopping))
    }
}

/// SKUs of one shop that one call stated, after the book was updated.
///
/// Outdated updates are in neither list, so both lists are empty if all updates were outdated. A
/// call with many SKUs is reported in several parts.
#[derive(Clone, Copy, Debug)]
pub struct StatedSkus<'a> {
    /// Shop of the SKUs.
    pub shop: ShopId,
    /// Origin of the call.
    pub origin: Origin,
    /// Time of the commit, by this service's clock.
    pub at: DateTime<Utc>,
    /// SKUs that were added or replaced.
    pub changed: &'a [Sku],
    /// SKUs that repeated the known level.
    pub repeated: &'a [Sku],
    /// Changed SKUs of all parts of the call, in its last part; empty in the others.
    pub all_changed: &'a [Sku],
}

/// Callback for every statement of the seller. It runs in the worker, so it must be quick.
pub type OnStated = Box<dyn Fn(&StatedSkus<'_>) + Send + Sync>;

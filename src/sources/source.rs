//! Source of stock that the service polls.
//!
//! A poll has three steps. [`Source::due`] finds out what has to be read, [`Source::read`] sends the
//! entries of one delivery, and [`Source::ended`] learns what became of it. Between these steps the
//! pipeline stages, checks and applies the delivery. So a source knows nothing of the pipeline, and
//! its state is saved only after the delivery it belongs to.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use stock::{Sku, Timestamp};

use super::{EntrySender, ReadReport};

/// Facts that a source may need for one poll.
pub struct PollContext<'a> {
    /// Name of the shop, for the log.
    pub shop: &'a str,
    /// State that the source returned last; empty if it never did.
    pub state: &'a str,
    /// Time of the poll.
    pub now: DateTime<Utc>,
    /// Directory for temporary files.
    pub spool: &'a Path,
    /// Function that returns all SKUs of the shop that are known from any origin.
    pub known_skus: Arc<dyn Fn() -> Vec<Sku> + Send + Sync>,
}

/// Delivery that has to be read.
#[derive(Debug)]
pub struct DueDelivery<T> {
    /// Date of the delivery, if the source states one.
    pub stated_at: Option<Timestamp>,
    /// Part of the source that has to be read.
    pub target: T,
}

/// Failure to read a delivery.
#[derive(Debug)]
pub struct ReadFailure {
    /// Reason for the operator.
    pub message: String,
    /// True if the same data may be readable at the next poll.
    pub is_temporary: bool,
}

impl ReadFailure {
    /// Creates a failure that may be gone at the next poll.
    #[must_use]
    pub fn temporary(message: String) -> Self {
        Self {
            message,
            is_temporary: true,
        }
    }
}

/// End of a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryEnd {
    /// It was applied.
    Applied,
    /// It is held for approval, and not applied.
    Held,
    /// It was rejected: the same data would be rejected again.
    Rejected,
    /// It was interrupted, and the next poll repeats it.
    Interrupted,
}

/// Source of stock that the service polls.
pub trait Source: Send + 'static {
    /// Part of the source that is read as one delivery.
    type Target: Send;

    /// Returns the deliveries that are due, in the order in which they must be applied.
    ///
    /// # Errors
    /// The source cannot be reached.
    fn due(
        &mut self,
        poll: &PollContext<'_>,
    ) -> impl Future<Output = Result<Vec<DueDelivery<Self::Target>>, String>> + Send;

    /// Sends all entries of a delivery.
    ///
    /// # Errors
    /// The delivery cannot be read to its verified end.
    fn read(
        &mut self,
        target: &mut Self::Target,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> impl Future<Output = Result<ReadReport, ReadFailure>> + Send;

    /// Records the end of a delivery. Returns the state to save, if it has changed.
    fn ended(&mut self, target: Self::Target, end: DeliveryEnd) -> Option<String>;

    /// Sends everything that the source has, regardless of earlier polls, for the setup commands.
    ///
    /// # Errors
    /// The source cannot be read to its end.
    fn read_all(
        &mut self,
        poll: &PollContext<'_>,
        rows: &mut EntrySender,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

//! Source of stock that the service polls.
//!
//! A poll has three steps. [`Source::due`] lists the deliveries to read, [`Source::read`] sends the
//! entries of one of them, and [`Source::ended`] records its result. Between these steps the
//! pipeline stages, checks and applies the delivery. So a source does not depend on the pipeline,
//! and its state is saved after the delivery.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use stock::{Sku, Timestamp};

use super::{EntrySender, ReadReport};

/// Inputs of one poll.
pub struct PollContext<'a> {
    /// Name of the shop, for the log.
    pub shop: &'a str,
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
    /// True if it has the data of the last delivery, which [`Source::read_again`] makes due again.
    pub repeats_last: bool,
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
    /// Creates a temporary failure: the next poll reads the delivery again.
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
    /// The delivery was applied.
    Applied,
    /// The delivery is held for approval, and not applied.
    Held,
    /// The delivery was rejected: the same data would be rejected again.
    Rejected,
    /// The delivery was interrupted, and the next poll repeats it.
    Interrupted,
}

/// Source of stock that the service polls.
pub trait Source: Send + 'static {
    /// Part of the source that is read as one delivery.
    type Target: Send;

    /// True if [`Source::due`] contacts the source, so that its success ends a failure to reach it.
    const DUE_CONTACTS_SOURCE: bool;

    /// Restores the state that [`Source::ended`] returned before a restart; empty if it never did.
    fn restore(&mut self, state: &str);

    /// Forgets how far the source was read, because the settings by which it is read have changed
    /// since. The next polls read again what decides the stock of the source now.
    fn read_again(&mut self);

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

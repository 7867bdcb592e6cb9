//! Bounded channel that carries the entries of a delivery from a reader to the staging file.

use stock_import::{DeliveryCancelled, DeliveryEntry};
use tokio::sync::mpsc;

/// Entries in one message of the channel.
const BATCH_ENTRIES: usize = 1_000;

/// Batches that may wait in the channel. When it is full, the reader waits.
const MAX_QUEUED_BATCHES: usize = 4;

/// Sending half of the channel from a reader to the staging task.
///
/// Entries are sent in batches; [`EntrySender::flush`] sends the last one. A full channel makes the
/// reader wait, so memory is bounded for a source of any length.
#[derive(Debug)]
pub struct EntrySender {
    sender: mpsc::Sender<Vec<DeliveryEntry>>,
    batch: Vec<DeliveryEntry>,
}

impl EntrySender {
    /// Creates the channel.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Vec<DeliveryEntry>>) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_BATCHES);
        (
            Self {
                sender,
                batch: Vec::with_capacity(BATCH_ENTRIES),
            },
            receiver,
        )
    }

    /// Creates another sender for the same channel. Order is kept only within one sender.
    #[must_use]
    pub fn new_sender(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            batch: Vec::with_capacity(BATCH_ENTRIES),
        }
    }

    /// Sends one entry from an async task.
    ///
    /// # Errors
    /// The delivery was cancelled.
    pub async fn send(&mut self, entry: DeliveryEntry) -> Result<(), DeliveryCancelled> {
        self.batch.push(entry);
        if self.batch.len() < BATCH_ENTRIES {
            Ok(())
        } else {
            self.flush().await
        }
    }

    /// Sends the current batch.
    ///
    /// # Errors
    /// The delivery was cancelled.
    pub async fn flush(&mut self) -> Result<(), DeliveryCancelled> {
        let batch = self.take_batch();
        if batch.is_empty() {
            return Ok(());
        }
        self.sender.send(batch).await.map_err(|_| DeliveryCancelled)
    }

    /// Sends one entry from a thread that may block.
    ///
    /// # Errors
    /// The delivery was cancelled.
    pub fn send_blocking(&mut self, entry: DeliveryEntry) -> Result<(), DeliveryCancelled> {
        self.batch.push(entry);
        if self.batch.len() < BATCH_ENTRIES {
            Ok(())
        } else {
            self.flush_blocking()
        }
    }

    /// Sends the current batch from a thread that may block.
    ///
    /// # Errors
    /// The delivery was cancelled.
    pub fn flush_blocking(&mut self) -> Result<(), DeliveryCancelled> {
        let batch = self.take_batch();
        if batch.is_empty() {
            return Ok(());
        }
        self.sender
            .blocking_send(batch)
            .map_err(|_| DeliveryCancelled)
    }

    fn take_batch(&mut self) -> Vec<DeliveryEntry> {
        std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_ENTRIES))
    }
}

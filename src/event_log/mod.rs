//! Durable log of what happened in the service, for the operator.
//!
//! The latest [`MAX_EVENTS`] events are in `events.db` in the store's directory. [`EventLog::record`]
//! never waits: it queues the event for one background task, the [`EventWriter`], which commits in
//! batches. If the queue is full, or the disk is, events are dropped and counted, and the next
//! event on disk states the number. A process that is killed loses the events of its last second;
//! a stop writes all. No decision of the service depends on the log, so a damaged file is renamed
//! and a new one is begun.
//!
//! Recent events of single SKUs are in [`crate::history`].

mod alarm_events;
mod coalescing;
mod event_query;
mod event_table;
mod event_writer;
#[cfg(test)]
mod example_events;
mod service_event;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, watch};

pub use event_query::{EventFilter, MAX_QUERIED_EVENTS, StoredEvent};
pub use service_event::{
    EVENT_KINDS, EventCounts, EventText, MAX_TEXT_BYTES, OperatorAction, PreviousRun, ServiceEvent,
};

use lifecycle::{Clock, Tasks};

use self::alarm_events::record_alarms;
use self::event_query::EventReader;
use self::event_writer::EventWriter;
use crate::telemetry::Alarms;

/// Most events on disk. The oldest are deleted.
pub const MAX_EVENTS: u64 = 20_000;

/// Most events that wait for the writer.
const QUEUE_CAPACITY: usize = 1_024;

/// Longest name of a shop or subject in bytes. A longer one is cut at a character boundary.
const MAX_NAME_BYTES: usize = 200;

/// Handle to the event log. Cheap to clone. The default one keeps nothing.
#[derive(Clone, Debug)]
pub struct EventLog(Arc<EventLogState>);

#[derive(Debug)]
struct EventLogState {
    queue: mpsc::Sender<QueuedEvent>,
    // Events that were dropped since the last one that was written.
    lost: AtomicU64,
    latest_id: watch::Sender<i64>,
    clock: Clock,
    reader: EventReader,
}

/// Event on its way to the disk.
#[derive(Clone, Debug)]
struct QueuedEvent {
    at: DateTime<Utc>,
    shop: Option<String>,
    subject: String,
    event: ServiceEvent,
}

impl Default for EventLog {
    fn default() -> Self {
        // Without its receiver the queue takes nothing.
        Self::new(mpsc::channel(1).0, Clock::wall(), EventReader::new(None))
    }
}

impl EventLog {
    /// Opens the log in the store's directory, and starts its writer and the recorder of alarms.
    /// `shops` are the names of the shops.
    pub async fn start(
        directory: &Path,
        clock: Clock,
        (alarms, shops): (&Alarms, &[String]),
        (writer_tasks, recorder_tasks): (&Tasks, &Tasks),
    ) -> Self {
        let (log, writer) = Self::open(directory, clock).await;
        writer_tasks.spawn("event_log", writer.run(writer_tasks.clone()));
        let (alarms, shops) = (alarms.clone(), shops.to_vec());
        let recorder = record_alarms(log.clone(), alarms, shops, recorder_tasks.clone());
        recorder_tasks.spawn("alarm_events", recorder);
        log
    }

    /// Opens the log in the store's directory, and records the start of the service.
    ///
    /// Never fails: while the file cannot be used, events are dropped and counted. The caller runs
    /// the writer.
    async fn open(directory: &Path, clock: Clock) -> (Self, EventWriter) {
        let (queue, events) = mpsc::channel(QUEUE_CAPACITY);
        let log = Self::new(queue, clock, EventReader::new(Some(directory.to_owned())));
        let writer = EventWriter::open(log.clone(), events, directory).await;
        (log, writer)
    }

    fn new(queue: mpsc::Sender<QueuedEvent>, clock: Clock, reader: EventReader) -> Self {
        Self(Arc::new(EventLogState {
            queue,
            lost: AtomicU64::new(0),
            latest_id: watch::Sender::new(0),
            clock,
            reader,
        }))
    }

    /// Records an event of the whole service.
    pub fn record(&self, event: ServiceEvent) {
        self.push(None, "", event);
    }

    /// Records an event of a shop. `subject` is the source or another part of it, or empty.
    pub fn record_for_shop(&self, shop: &str, subject: &str, event: ServiceEvent) {
        self.push(Some(shop), subject, event);
    }

    /// Returns the latest events that match the filter, the latest first.
    ///
    /// # Errors
    /// The file cannot be read now.
    pub async fn query(&self, filter: &EventFilter) -> Result<Vec<StoredEvent>, sqlx::Error> {
        self.0.reader.query(filter).await
    }

    /// Returns the id of the latest event on disk, which changes with each batch of new events.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.0.latest_id.subscribe()
    }

    fn push(&self, shop: Option<&str>, subject: &str, event: ServiceEvent) {
        let queued = QueuedEvent {
            at: self.0.clock.now(),
            shop: shop.map(|shop| cut_to(shop, MAX_NAME_BYTES).to_owned()),
            subject: cut_to(subject, MAX_NAME_BYTES).to_owned(),
            event,
        };
        if self.0.queue.try_send(queued).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Cuts a sentence to the longest text of an event.
fn cut(text: &str) -> &str {
    cut_to(text, MAX_TEXT_BYTES)
}

fn cut_to(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}
